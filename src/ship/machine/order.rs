//! The order in which episodes wait for a slot.
//!
//! ```text
//!   untried   in the order that is set, by the time of the seal
//!   tried     a failure gives up its turn: by the time at which it came back,
//!             behind all that were not tried
//! ```
//!
//! So an episode that fails takes one turn, and another only behind everything that was there
//! meanwhile, however often it comes back and however long its turn takes. What was tried is not
//! passed by for ever either: where it has waited for [`PATIENCE`] already when the oldest of the
//! untried was seen, it goes before that one.

use std::{
    collections::{BTreeSet, btree_set},
    time::Duration,
};

use super::{
    queue::Machine,
    state::{Episode, State, TriedNote},
};
use crate::model::episode::EpisodeId;

/// What was tried lets everything by that was sealed within so long after it came back.
const PATIENCE: Duration = Duration::from_secs(300);

/// None waits since zero: that means that it was not tried.
const AT_ONCE: Duration = Duration::from_nanos(1);
/// Later than any clock says, seconds after 1970.
const BEHIND_EVERY_STAMP: Duration = Duration::from_secs(1 << 60);

/// Which end of the queue is served first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Sealed first, served first.
    #[default]
    OldestFirst,
    /// Sealed last, served first.
    NewestFirst,
}

/// The order of those that were not tried: by the time of the seal, the smallest first. The newest
/// first, it is counted down.
pub(super) type Rank = (i64, EpisodeId);

/// Where an episode stands: since when it waits for another turn, zero where it had none; and its
/// rank.
pub(super) type QueuePosition = (Duration, Rank);

/// Those that wait for one kind of work.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    untried: BTreeSet<Rank>,
    tried: BTreeSet<QueuePosition>,
}

impl Queue {
    pub(super) fn insert(&mut self, place: QueuePosition) {
        match place.0.is_zero() {
            true => self.untried.insert(place.1),
            false => self.tried.insert(place),
        };
    }

    /// False where it does not stand here.
    pub(super) fn remove(&mut self, place: &QueuePosition) -> bool {
        if place.0.is_zero() {
            self.untried.remove(&place.1)
        } else {
            self.tried.remove(place)
        }
    }

    pub(super) fn len(&self) -> usize {
        self.untried.len() + self.tried.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were not tried.
    pub(super) fn untried(&self) -> usize {
        self.untried.len()
    }

    /// In their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &EpisodeId> {
        let tried = self.tried.iter().map(|(_, (_, id))| id);
        self.untried.iter().map(|(_, id)| id).chain(tried)
    }

    /// Every key counted the other way.
    pub(super) fn turn_round(&mut self) {
        let round = |(key, id): Rank| (!key, id);
        self.untried = std::mem::take(&mut self.untried)
            .into_iter()
            .map(round)
            .collect();
        let tried = std::mem::take(&mut self.tried).into_iter();
        self.tried = tried.map(|(since, rank)| (since, round(rank))).collect();
    }

    fn untried_from(&self, far: bool) -> QueueEnd<btree_set::Iter<'_, Rank>> {
        if far {
            QueueEnd::Far(self.untried.iter().rev())
        } else {
            QueueEnd::Near(self.untried.iter())
        }
    }
}

/// A queue from one of its ends.
enum QueueEnd<I> {
    Near(I),
    Far(std::iter::Rev<I>),
}

impl<I: DoubleEndedIterator> Iterator for QueueEnd<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        match self {
            Self::Near(near) => near.next(),
            Self::Far(far) => far.next(),
        }
    }
}

impl Machine {
    /// Where an episode stands in a queue.
    pub(super) fn place(&self, id: &EpisodeId, episode: &Episode) -> QueuePosition {
        let key = match self.settings.order {
            Order::OldestFirst => episode.sealed_ns(),
            Order::NewestFirst => !episode.sealed_ns(),
        };
        (episode.waits_again_since, (key, id.clone()))
    }

    /// What a process before this one has tried in vain goes behind what it has not. In one pass
    /// after another that is all there is to go by: the longer ago, the sooner.
    pub(super) fn were_tried(&mut self, tried: Vec<(EpisodeId, u64)>) {
        let now = self.now;
        for (id, at_s) in tried {
            let since = if self.settings.once {
                Duration::from_secs(at_s)
            } else {
                now
            };
            if let Some(episode) = self.episodes.get_mut(&id)
                && matches!(episode.state, State::Open)
            {
                episode.waits_again_since = since.max(AT_ONCE);
                episode.noted = TriedNote::Yes;
            }
        }
    }

    /// It has had its turn.
    pub(super) fn gives_up_its_turn(&mut self, id: &EpisodeId) {
        // In one pass those of the passes before come first.
        let base = if self.settings.once {
            BEHIND_EVERY_STAMP
        } else {
            AT_ONCE
        };
        let now = base + self.now;
        if let Some(episode) = self.episodes.get_mut(id) {
            episode.waits_again_since = now;
        }
    }

    /// Another order from now on.
    pub(super) fn order_by(&mut self, order: Order) {
        if std::mem::replace(&mut self.settings.order, order) == order {
            return;
        }
        for queue in self.queues() {
            queue.turn_round();
        }
    }

    pub(super) fn queues(&mut self) -> [&mut Queue; 4] {
        [
            &mut self.to_check,
            &mut self.to_pack,
            &mut self.to_pack_large,
            &mut self.to_send,
        ]
    }

    /// Whose turn it is in these queues, of those that `may`. `far`: of the untried the last one's.
    pub(super) fn next_of<'a>(
        &'a self,
        queues: &[&'a Queue],
        far: bool,
        may: impl Fn(&EpisodeId) -> bool,
    ) -> Option<&'a EpisodeId> {
        let ends = queues
            .iter()
            .filter_map(|queue| queue.untried_from(far).find(|(_, id)| may(id)));
        let untried = if far { ends.max() } else { ends.min() }.map(|(_, id)| id);
        let tried = queues
            .iter()
            .filter_map(|queue| queue.tried.iter().find(|(_, (_, id))| may(id)))
            .min();
        let Some((since, (_, tried))) = tried else {
            return untried;
        };
        let has_been_patient = || {
            let oldest = queues.iter().filter_map(|queue| self.oldest(queue, &may));
            oldest
                .map(|id| self.seen_at(id))
                .min()
                .is_some_and(|seen| *since + PATIENCE < seen)
        };
        untried.filter(|_| !has_been_patient()).or(Some(tried))
    }

    /// The one of the untried that was sealed last.
    pub(super) fn newest<'a>(&self, queue: &'a Queue) -> Option<&'a EpisodeId> {
        let far = self.settings.order == Order::OldestFirst;
        queue.untried_from(far).next().map(|(_, id)| id)
    }

    /// The same of the small ones.
    pub(super) fn newest_small<'a>(&self, queue: &'a Queue) -> Option<&'a EpisodeId> {
        let far = self.settings.order == Order::OldestFirst;
        queue
            .untried_from(far)
            .map(|(_, id)| id)
            .find(|id| !self.is_large(id))
    }

    fn oldest<'a>(
        &self,
        queue: &'a Queue,
        may: impl Fn(&EpisodeId) -> bool,
    ) -> Option<&'a EpisodeId> {
        let far = self.settings.order == Order::NewestFirst;
        queue.untried_from(far).map(|(_, id)| id).find(|id| may(id))
    }

    fn seen_at(&self, id: &EpisodeId) -> Duration {
        self.episodes
            .get(id)
            .map_or(Duration::ZERO, |episode| episode.sealed_at)
    }
}
