//! Whether the machine's books agree with its episodes, and what the worlds ask of it.

use std::time::Duration;

use crate::{
    model::episode::EpisodeId,
    ship::machine::{Machine, destination::circuit_breaker::Probe},
};

impl Machine {
    /// How many episodes the machine remembers, and how many effects it waits for.
    pub(crate) fn load(&self) -> (usize, usize) {
        (
            self.episodes.len(),
            self.schedule.under_way() + self.context.disk_steps_under_way(),
        )
    }

    /// How many are packed and wait for their turn to be sent.
    pub(crate) fn ready(&self) -> usize {
        self.schedule.ready(self.circumstances())
    }

    /// How many small ones of these were not tried since the destination is held, when this one was
    /// not being packed yet: while one waits that was never tried, those that were wait for it.
    pub(crate) fn fresh_ready_before(&self, packed: Option<&EpisodeId>) -> usize {
        let by = self.circumstances();
        let since = by.hold.map_or(by.now, |hold| hold.since);
        let had_its_turn = |id: &EpisodeId| {
            let episode = by.episodes.get(id);
            episode.is_some_and(|episode| !episode.waits_again_since().is_zero())
        };
        let one_waited = packed.is_some_and(|id| !had_its_turn(id));
        let fresh = |id: &EpisodeId| {
            !by.is_large(id)
                && self.schedule.probe(id, since, by) != Probe::Tried
                && !(one_waited && had_its_turn(id))
        };
        let to_send = self.episodes.queues().to_send.iter();
        to_send.filter(|id| fresh(id)).count()
    }

    /// Whether it was sealed since then, and not tried.
    pub(crate) fn is_new(&self, id: Option<&EpisodeId>, since: Duration) -> bool {
        let by = self.circumstances();
        id.is_some_and(|id| self.schedule.probe(id, since, by) == Probe::SealedSince)
    }

    /// Whether the queues say what the episodes say.
    pub(crate) fn assert_books(&self) {
        self.episodes.assert_index(&self.context);
    }
}
