//! The recorder: what it does to `episodes/`, by a script drawn beforehand.

use std::time::Duration;

use super::{
    disk::{Dir, Marker},
    plan::Profile,
    world::{Act, World},
};
use crate::model::episode::EpisodeId;

/// One deed. It does nothing where it cannot be done any more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Deed {
    /// mkdir.
    Make,
    /// Renamed in, sealed already.
    RenameIn,
    /// More content; after the seal too.
    Write,
    Seal,
    /// The marker is taken away.
    Unseal,
    /// The same content is put there under another inode, as after a round trip through quarantine.
    PutBack,
    Remove,
}

impl World {
    /// Every name has a life, some have two, and some of it happens after the seal.
    pub(super) fn draw_scripts(&mut self) {
        for id in self.plan.names.clone() {
            let mut at = Duration::ZERO;
            let end = self.plan.calm_at.mul_f64(0.95);
            let calm = self.plan.profile == Profile::Calm;
            let mut script = Vec::new();
            if self.dice.chance(25) {
                script.push(Deed::RenameIn);
            } else {
                script.extend([Deed::Make, Deed::Write, Deed::Seal]);
            }
            if !calm && self.dice.chance(40) {
                for _ in 0..=self.dice.below(3) {
                    let meddling = [
                        &[Deed::Write][..],
                        &[Deed::Unseal, Deed::Seal],
                        &[Deed::Unseal, Deed::Write, Deed::Seal],
                        &[Deed::Write, Deed::Seal],
                        &[Deed::Remove],
                        &[Deed::Remove, Deed::Make, Deed::Seal],
                        &[Deed::Remove, Deed::RenameIn],
                        &[Deed::Make, Deed::Write, Deed::Seal],
                        &[Deed::PutBack],
                        &[Deed::RenameIn],
                        &[Deed::Unseal],
                    ];
                    script.extend(self.dice.pick(&meddling));
                }
            }
            for deed in script {
                // Mostly in bursts, sometimes with a long pause.
                let pause = match self.dice.below(4) {
                    0 => self.dice.millis(0, 3),
                    1 => self.dice.millis(0, 300),
                    2 => self.dice.millis(0, 10_000),
                    _ => self
                        .dice
                        .millis(0, 1 + u64::try_from(end.as_millis()).unwrap() / 3),
                };
                at = (at + pause).min(end);
                self.after(at, Act::Record(id.clone(), deed));
            }
        }
    }

    pub(super) fn record(&mut self, id: &EpisodeId, deed: Deed) {
        let inode = self.fresh();
        let content = self.fresh();
        let marker = Marker {
            inode: self.fresh(),
            ns: i64::try_from(self.now.as_nanos()).unwrap(),
        };
        let dir = self.disk.episodes.get(id).copied();
        match (deed, dir) {
            (Deed::Make, None) => {
                self.disk.episodes.insert(
                    id.clone(),
                    Dir {
                        inode,
                        content,
                        marker: None,
                    },
                );
                self.stirred(id, None);
            }
            (Deed::RenameIn, None) => {
                self.disk.episodes.insert(
                    id.clone(),
                    Dir {
                        inode,
                        content,
                        marker: Some(marker),
                    },
                );
                self.sealed(id);
                self.stirred(id, None);
            }
            (Deed::PutBack, None) => {
                let Some(content) = self.receiver.held(id) else {
                    return;
                };
                self.disk.episodes.insert(
                    id.clone(),
                    Dir {
                        inode,
                        content,
                        marker: Some(marker),
                    },
                );
                self.sealed(id);
                self.stirred(id, None);
            }
            // No event comes of this.
            (Deed::Write, Some(dir)) => {
                self.disk
                    .episodes
                    .insert(id.clone(), Dir { content, ..dir });
            }
            (Deed::Seal, Some(dir)) => {
                self.disk.episodes.insert(
                    id.clone(),
                    Dir {
                        marker: Some(marker),
                        ..dir
                    },
                );
                self.sealed(id);
                self.stirred(id, Some(dir.inode));
            }
            (Deed::Unseal, Some(dir)) => {
                self.disk.episodes.insert(
                    id.clone(),
                    Dir {
                        marker: None,
                        ..dir
                    },
                );
                self.stirred(id, Some(dir.inode));
            }
            (Deed::Remove, Some(_)) => {
                self.disk.episodes.remove(id);
                self.stirred(id, None);
            }
            (Deed::Make | Deed::RenameIn | Deed::PutBack, Some(_))
            | (Deed::Write | Deed::Seal | Deed::Unseal | Deed::Remove, None) => {}
        }
    }

    fn sealed(&mut self, id: &EpisodeId) {
        self.sealed_at.insert(id.clone(), self.now);
    }

    /// What inotify makes of a deed: an event of the root's watch, or of the watch on this one
    /// directory.
    pub(super) fn stirred(&mut self, id: &EpisodeId, inside: Option<u64>) {
        let watched = match inside {
            None => self.root_watched,
            Some(inode) => self.watched.get(id) == Some(&inode),
        };
        if inside.is_none() {
            self.watched.remove(id);
        }
        if !watched || self.machine.is_none() {
            return;
        }
        if self.now < self.plan.calm_at && self.dice.chance(self.plan.lost_hints) {
            // An overflow is told, a little later. On some file systems nothing is.
            if self.dice.chance(50) {
                let wait = self.dice.millis(0, 50);
                self.after(self.now + wait, Act::Overflow(self.process));
            }
            return;
        }
        for _ in 0..self.dice.pick(&[1, 1, 1, 2, 3]) {
            // Delays that differ put them out of order.
            let wait = self.dice.millis(0, 4);
            self.after(self.now + wait, Act::Hint(self.process, id.clone()));
        }
    }
}
