//! Whether the machine's books agree with its episodes.

use std::time::Duration;

use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        circuit_breaker::Trial,
        order::Queue,
        queue::Machine,
        state::{Episode, Looking, State},
    },
};

impl Machine {
    /// How many episodes the machine remembers, and how many effects it waits for.
    pub(in crate::ship::machine) fn load(&self) -> (usize, usize) {
        (
            self.episodes.len(),
            self.packing.len() + self.sending.len() + self.on_disk,
        )
    }

    /// How many are packed and wait for their turn to be sent.
    pub(in crate::ship::machine) fn ready(&self) -> usize {
        self.ahead() - self.packing.len()
    }

    /// How many small ones of these were not tried since the destination is held.
    pub(in crate::ship::machine) fn fresh_ready(&self) -> usize {
        let since = self
            .destination()
            .hold()
            .map_or(self.now, |hold| hold.since);
        let fresh = |id: &EpisodeId| !self.is_large(id) && self.trial(id, since) != Trial::Over;
        self.to_send.iter().filter(|id| fresh(id)).count()
    }

    /// Whether it was sealed since then, and not tried.
    pub(in crate::ship::machine) fn is_new(&self, id: Option<&EpisodeId>, since: Duration) -> bool {
        id.is_some_and(|id| self.trial(id, since) == Trial::New)
    }

    /// Whether the queues say what the states say.
    pub(in crate::ship::machine) fn assert_books(&self) {
        let ranks = |belongs: &dyn Fn(&Self, &EpisodeId, &Episode) -> bool| -> Queue {
            let mut queue = Queue::default();
            let here = self
                .episodes
                .iter()
                .filter(|(id, episode)| belongs(self, id, episode));
            here.for_each(|(id, episode)| queue.insert(self.place(id, episode)));
            queue
        };
        let sealed = |machine: &Self, id: &EpisodeId, episode: &Episode| {
            matches!(episode.state, State::Sealed)
                && !episode.keeping
                && !machine.orphans.contains(id)
        };
        let to_pack = |large: bool| {
            ranks(&|machine, id, episode| {
                sealed(machine, id, episode) && !episode.archived && episode.large == large
            })
        };
        assert_eq!(self.to_pack, to_pack(false), "the queue for packing");
        assert_eq!(
            self.to_pack_large,
            to_pack(true),
            "the queue for packing what is large"
        );
        let to_check =
            ranks(&|machine, id, episode| sealed(machine, id, episode) && episode.archived);
        assert_eq!(self.to_check, to_check, "the queue for checks");
        assert_eq!(
            self.to_send,
            ranks(&|_, _, episode| matches!(episode.state, State::Ready(_))),
            "the queue for sending"
        );
        let wakes = self
            .episodes
            .iter()
            .filter_map(|(id, episode)| Some((episode.wake?, id.clone())));
        assert_eq!(self.wakes, wakes.collect(), "the alarm clock");
        let looks = self
            .episodes
            .values()
            .filter(|episode| episode.looking != Looking::No)
            .count();
        assert_eq!(self.looks, looks, "the looks under way");
    }
}
