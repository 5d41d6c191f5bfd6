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

use super::Episodes;
use crate::{model::episode::EpisodeId, ship::machine::destination::backoff::LONGEST_PAUSE};

/// What was tried lets everything by that was sealed within so long after it came back.
const PATIENCE: Duration = LONGEST_PAUSE;

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
pub(crate) type Rank = (i64, EpisodeId);

/// Where an episode stands: since when it waits for another turn, zero where it had none; and its
/// rank.
pub(crate) type QueuePosition = (Duration, Rank);

/// Those that wait for one kind of work.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    untried: BTreeSet<Rank>,
    tried: BTreeSet<QueuePosition>,
}

impl Queue {
    pub(crate) fn insert(&mut self, place: QueuePosition) {
        match place.0.is_zero() {
            true => self.untried.insert(place.1),
            false => self.tried.insert(place),
        };
    }

    /// False where it does not stand here.
    pub(crate) fn remove(&mut self, place: &QueuePosition) -> bool {
        if place.0.is_zero() {
            self.untried.remove(&place.1)
        } else {
            self.tried.remove(place)
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.untried.len() + self.tried.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were not tried.
    pub(crate) fn untried(&self) -> usize {
        self.untried.len()
    }

    /// In their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &EpisodeId> {
        let tried = self.tried.iter().map(|(_, (_, id))| id);
        self.untried.iter().map(|(_, id)| id).chain(tried)
    }

    /// Every key counted the other way.
    pub(crate) fn turn_round(&mut self) {
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

impl Order {
    /// What the untried are ordered by.
    pub(super) fn key(self, sealed_ns: i64) -> i64 {
        match self {
            Self::OldestFirst => sealed_ns,
            Self::NewestFirst => !sealed_ns,
        }
    }
}

impl Episodes {
    /// Whose turn it is in these queues, of those that `may`. `far`: of the untried the last one's.
    pub(crate) fn next_of<'a>(
        &'a self,
        queues: &[&'a Queue],
        order: Order,
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
            let oldest = queues.iter().filter_map(|queue| queue.oldest(order, &may));
            oldest
                .map(|id| self.seen_at(id))
                .min()
                .is_some_and(|seen| *since + PATIENCE < seen)
        };
        untried.filter(|_| !has_been_patient()).or(Some(tried))
    }

    fn seen_at(&self, id: &EpisodeId) -> Duration {
        self.get(id)
            .map_or(Duration::ZERO, super::Episode::sealed_at)
    }
}

impl Queue {
    /// Of the untried that `may` the one that was sealed last.
    pub(crate) fn newest(
        &self,
        order: Order,
        may: impl Fn(&EpisodeId) -> bool,
    ) -> Option<&EpisodeId> {
        let far = order == Order::OldestFirst;
        self.untried_from(far).map(|(_, id)| id).find(|id| may(id))
    }

    fn oldest(&self, order: Order, may: impl Fn(&EpisodeId) -> bool) -> Option<&EpisodeId> {
        let far = order == Order::NewestFirst;
        self.untried_from(far).map(|(_, id)| id).find(|id| may(id))
    }
}
