//! The hands, where an episode leaves `episodes/`: what a look before that finds, and what is left.

use std::path::PathBuf;

use super::{disk::Dir, plan::Poison, world::World};
use crate::{
    model::episode::{EpisodeId, FolderLook},
    ship::{
        machine::step_result::{Moved, OrphanEnd, Packed},
        outcome::Stale,
    },
};

impl World {
    pub(super) fn stale(&self, id: &EpisodeId, packed: &Packed) -> Option<Stale> {
        match self.disk.episodes.get(id) {
            None => Some(Stale::Unsealed(FolderLook::Gone)),
            Some(dir) if dir.marker.is_none() => Some(Stale::Unsealed(FolderLook::Open)),
            Some(dir) => (dir.fingerprint() != packed.fingerprint).then_some(Stale::Changed),
        }
    }

    pub(super) fn retire(&mut self, id: &EpisodeId, packed: &Packed) -> Moved {
        self.scratch.remove(id);
        let moved = self.move_away(id, |_, dir| dir.fingerprint() == packed.fingerprint);
        if let Moved::To(_) = moved
            && let Some(dir) = self.disk.episodes.remove(id)
        {
            self.retirement_has_proof(id, &dir, packed);
            self.disk.shipped.push((id.clone(), dir.content));
            self.left(id);
        }
        moved
    }

    pub(super) fn move_away(
        &mut self,
        id: &EpisodeId,
        same: impl Fn(&Self, &Dir) -> bool,
    ) -> Moved {
        let fails = self.disk_fails() || self.plan.poison.get(id) == Some(&Poison::Immovable);
        match self.disk.episodes.get(id) {
            None => Moved::Gone,
            Some(_) if fails => Moved::Failed("EACCES".into()),
            Some(dir) if !same(self, dir) => Moved::Changed,
            Some(_) => Moved::To(PathBuf::from(id.as_str())),
        }
    }

    /// It is out of `episodes/`; its archive goes too, unless we are killed just now.
    pub(super) fn left(&mut self, id: &EpisodeId) {
        self.scratch.remove(id);
        if !self.disk_fails() {
            self.disk.outbox.remove(id);
        }
        self.stirred(id, None);
    }

    pub(super) fn settle_orphan(&mut self, id: &EpisodeId, displaced: bool) -> OrphanEnd {
        let here = self.disk.episodes.get(id).map(|dir| dir.content);
        let there = self.disk.outbox.get(id).map(|archive| archive.content);
        if here.is_some() && (!displaced || here == there) {
            return OrphanEnd::Settled;
        }
        if self.disk_fails() {
            return OrphanEnd::Unsettled("EIO".to_owned());
        }
        let Some(archive) = self.disk.outbox.remove(id) else {
            return OrphanEnd::Settled;
        };
        let shipped = self.disk.shipped.contains(&(id.clone(), archive.content));
        let quarantined = self.disk.quarantine.iter().any(|(name, ..)| name == id);
        if !shipped && !quarantined {
            self.disk.saved.push((id.clone(), archive.content));
            return OrphanEnd::LastCopy;
        }
        OrphanEnd::Settled
    }
}
