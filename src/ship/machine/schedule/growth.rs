//! Archives that are sent while they are packed: they have a slot for sending meanwhile, and keep
//! it for the rest.
//!
//! ```text
//!  packing begins ──▶ waits ──a slot is free, none that is packed wants it──▶ has a slot
//!                       │                                                       │
//!                       └── packed: is sent in turn          packed: goes on in that slot
//! ```

use std::{collections::BTreeSet, time::Duration};

use super::{Circumstances, Lane, Schedule};
use crate::{
    model::episode::EpisodeId,
    ship::machine::episode::{Episode, Stage},
};

/// Which archives grow, and which of them have a slot for sending.
#[derive(Debug, Default)]
pub(super) struct GrowingArchives {
    waiting: BTreeSet<EpisodeId>,
    sending: BTreeSet<EpisodeId>,
    /// Begun, and not come back yet, with a slot or without.
    begun: BTreeSet<EpisodeId>,
}

impl GrowingArchives {
    pub(super) fn packed(&mut self, id: &EpisodeId) {
        self.waiting.remove(id);
    }
}

/// What is to be done with a slot that a growing archive has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AfterGrowing {
    /// It is packed: the rest is sent.
    Send(EpisodeId),
    /// It will not be sent now, and the slot is free for others.
    GiveUp(EpisodeId),
}

impl Schedule {
    /// The archive of this one grows, and may be sent meanwhile.
    pub(crate) fn grows(&mut self, id: &EpisodeId) {
        // On the slot for small ones it is given up where it is not small.
        let is_over = !self.growing.begun.contains(id);
        if is_over && self.packing.lane_of(id) == Some(Lane::Any) {
            self.growing.waiting.insert(id.clone());
        }
    }

    /// Whose growing archive is sent next.
    pub(crate) fn next_growing(&self, by: Circumstances<'_>) -> Option<EpisodeId> {
        let is_calm = by.hold.is_none()
            && !by.is_closed
            && !by.moves_are_behind
            && by.next_upload.is_none_or(|next| next <= by.now);
        let first = self.growing.waiting.first()?;
        (is_calm && self.free_to_send(by).main).then(|| first.clone())
    }

    pub(crate) fn growing_begins(&mut self, id: &EpisodeId, now: Duration) {
        self.growing.waiting.remove(id);
        self.growing.sending.insert(id.clone());
        self.growing.begun.insert(id.clone());
        self.sending.begin(id, Lane::Any, true, now);
    }

    /// It came back.
    pub(crate) fn growing_ended(&mut self, id: &EpisodeId) {
        self.growing.begun.remove(id);
    }

    /// Which gives up its slot: one that is packed already waits, and this one's packing may take
    /// long. What was sent of it is gone on with.
    pub(crate) fn yields(&self, by: Circumstances<'_>) -> Option<EpisodeId> {
        let grows = |id: &&EpisodeId| {
            let stage = by.episodes.get(id).map(Episode::stage);
            matches!(stage, Some(Stage::Packing))
        };
        let growing = self.growing.sending.iter().find(grows)?;
        let is_calm = by.hold.is_none()
            && !by.is_closed
            && !by.moves_are_behind
            && by.next_upload.is_none_or(|next| next <= by.now);
        let waits =
            is_calm && !self.free_to_send(by).main && !by.episodes.queues().to_send.is_empty();
        waits.then(|| growing.clone())
    }

    /// Nothing more is sent of it while it is packed.
    pub(crate) fn leaves_its_slot(&mut self, id: &EpisodeId) {
        if self.growing.sending.remove(id) {
            self.sending.end(id);
        }
    }

    /// Nothing of any is sent any more while it is packed; which were.
    pub(crate) fn give_up_growing(&mut self) -> BTreeSet<EpisodeId> {
        let given_up = std::mem::take(&mut self.growing.sending);
        for id in &given_up {
            self.sending.end(id);
        }
        given_up
    }

    /// What comes after the packing of one that has a slot.
    pub(crate) fn after_growing(&self, by: Circumstances<'_>) -> Option<AfterGrowing> {
        self.growing
            .sending
            .iter()
            .find_map(|id| match by.episodes.get(id).map(Episode::stage) {
                Some(Stage::Packing) => None,
                Some(Stage::Ready(_)) if by.hold.is_none() && !by.is_closed => {
                    Some(AfterGrowing::Send(id.clone()))
                }
                _ => Some(AfterGrowing::GiveUp(id.clone())),
            })
    }
}
