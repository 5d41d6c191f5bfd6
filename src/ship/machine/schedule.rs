//! Whose turn it is: what is packed and what is sent next, and when another slot opens.
//!
//! It knows the episodes and their queues, and who has a slot. What else a choice depends on it is
//! told ([`Circumstances`]).

mod deadlines;
mod growth;
mod lanes;
mod next_to_pack;
mod next_to_send;

use std::time::Duration;

pub(super) use self::{growth::AfterGrowing, lanes::Lane, next_to_pack::has_gathered_enough};
use self::{growth::GrowingArchives, lanes::Lanes};
use super::{
    Settings,
    destination::circuit_breaker::{Hold, Probe},
    episodes::{Episodes, Queue},
    limits::SMALL_BYTES,
};
use crate::model::episode::EpisodeId;

/// Who has a slot.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Packed or checked just now.
    packing: Lanes,
    sending: Lanes,
    growing: GrowingArchives,
}

/// What a choice depends on beside the episodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) episodes: &'a Episodes,
    pub(super) settings: &'a Settings,
    pub(super) now: Duration,
    pub(super) hold: Option<&'a Hold>,
    /// Nothing may be sent now.
    pub(super) is_closed: bool,
    /// Uploads have no more than so much together.
    pub(super) is_limited: bool,
    pub(super) uploads_at_once: usize,
    /// Not before then is the next one sent.
    pub(super) next_upload: Option<Duration>,
    pub(super) packing_paused_until: Option<Duration>,
    pub(super) moves_are_behind: bool,
}

impl Schedule {
    pub(super) fn packing_begins(
        &mut self,
        id: &EpisodeId,
        lane: Lane,
        is_large: bool,
        now: Duration,
    ) {
        self.packing.begin(id, lane, is_large, now);
    }

    pub(super) fn packing_ended(&mut self, id: &EpisodeId) {
        self.packing.end(id);
        self.growing.packed(id);
    }

    pub(super) fn upload_begins(
        &mut self,
        id: &EpisodeId,
        lane: Lane,
        is_large: bool,
        now: Duration,
    ) {
        self.sending.begin(id, lane, is_large, now);
    }

    pub(super) fn upload_ended(&mut self, id: &EpisodeId) {
        self.sending.end(id);
    }

    /// The last byte of one has left.
    pub(super) fn whole_sent(&mut self, id: &EpisodeId, now: Duration) {
        self.sending.whole_sent(id, now);
    }

    /// One was taken: the receiver works, and what is not answered yet may be behind that.
    pub(super) fn taken(&mut self, now: Duration) {
        self.sending.taken(now);
    }

    /// Uploads that hang.
    pub(super) fn hanging(&self, now: Duration) -> impl Iterator<Item = &EpisodeId> {
        self.sending.hanging(now)
    }

    pub(super) fn uploads(&self) -> usize {
        self.sending.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.packing.len() + self.sending.len() == 0
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.packing.len() + self.sending.len()
    }

    /// What is known of this one since then.
    pub(super) fn probe(&self, id: &EpisodeId, since: Duration, by: Circumstances<'_>) -> Probe {
        let Some(episode) = by.episodes.get(id) else {
            return Probe::Untried;
        };
        if episode.history().failed_at().is_some_and(|at| at >= since) {
            Probe::Tried
        } else if episode.sealed_at() > since {
            Probe::SealedSince
        // It waits for those that were not tried at all.
        } else if !episode.waits_again_since().is_zero() && self.an_untried_one_waits(by) {
            Probe::Tried
        } else {
            Probe::Untried
        }
    }

    /// Whether one is left that was never tried. One that is packed for long keeps none waiting.
    fn an_untried_one_waits(&self, by: Circumstances<'_>) -> bool {
        let queues = by.episodes.queues();
        let waits = |queue: &Queue| queue.untried() > 0;
        waits(&queues.to_check)
            || waits(&queues.to_pack)
            || waits(&queues.to_pack_large)
            || waits(&queues.to_send)
            || self.packing.has_a_brief_one(by.now)
    }
}

impl Circumstances<'_> {
    /// Whether what is to be sent of it is not small.
    pub(super) fn is_large(&self, id: &EpisodeId) -> bool {
        let episode = self.episodes.get(id);
        episode.is_some_and(|episode| episode.archive_bytes() > SMALL_BYTES)
    }

    /// How many wait to be packed or sent. Few are packed ahead, and among them one that is fresh
    /// would be behind each older one that is packed after it: so the queue for sending alone does
    /// not say what is a backlog.
    fn waiting(&self) -> usize {
        let queues = self.episodes.queues();
        queues.to_pack.len() + queues.to_pack_large.len() + queues.to_send.len()
    }

    /// How many may be under way where as many as there are slots hang. On a line that is limited
    /// what takes long may just be slow, and each needs its share.
    fn most_beside_hanging(&self) -> usize {
        if self.is_limited {
            0
        } else {
            2 * self.settings.concurrency
        }
    }
}
