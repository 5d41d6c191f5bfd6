//! All episodes that are known, in which queue each waits for its turn, and when each is woken.
//!
//! Queues and wake-ups are an index over the episodes: where an episode stands follows from its own
//! fields, and is brought up to date after each step that changes them ([`Episodes::step`]).

mod queue;
mod scan;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

pub use self::queue::Order;
pub(super) use self::queue::Queue;
use self::queue::QueuePosition;
use super::{
    context::Context,
    episode::{Episode, Looking, Stage},
};
use crate::model::episode::EpisodeId;

/// All episodes that are known.
#[derive(Debug)]
pub(super) struct Episodes {
    /// Boxed: a table that grows holds its places twice over, and half of them empty.
    known: HashMap<EpisodeId, Box<Episode>>,
    queues: Queues,
    wakes: BTreeSet<(Duration, EpisodeId)>,
    /// Left `episodes/` since the scan began that is under way: what that says of them is older
    /// than what is known.
    left_since_scan: Option<HashSet<EpisodeId>>,
    /// When one was last seen to be sealed.
    last_seal: Duration,
}

/// Those that wait for a packer or an upload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Queues {
    /// Their archives lie in the outbox: no room is needed to go on with these.
    pub(super) to_check: Queue,
    pub(super) to_pack: Queue,
    /// These are known not to be small.
    pub(super) to_pack_large: Queue,
    pub(super) to_send: Queue,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueName {
    Check,
    Pack,
    PackLarge,
    Send,
}

/// Where an episode stands in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    queue: Option<QueueName>,
    waits_again_since: Duration,
    key: i64,
    wake: Option<Duration>,
}

impl Place {
    fn of(id: &EpisodeId, episode: &Episode, cx: &Context) -> Self {
        let queue = match episode.stage() {
            // The archive's name is free for a new packing only when no worker makes the old one
            // durable, or looks what the last one of that name has left.
            Stage::Sealed if !episode.is_persisting() && !cx.is_orphan(id) => {
                Some(if episode.preparation().is_check() {
                    QueueName::Check
                } else if episode.is_large_to_pack() {
                    QueueName::PackLarge
                } else {
                    QueueName::Pack
                })
            }
            Stage::Ready(_) => Some(QueueName::Send),
            Stage::Open
            | Stage::Sealed
            | Stage::Checking
            | Stage::Packing
            | Stage::Sending(_)
            | Stage::Resting(..)
            | Stage::Parked(_)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left => None,
        };
        Self {
            queue,
            waits_again_since: episode.waits_again_since(),
            key: cx.settings().order.key(episode.sealed_ns()),
            wake: episode.wake(),
        }
    }

    fn position(self, id: &EpisodeId) -> QueuePosition {
        (self.waits_again_since, (self.key, id.clone()))
    }
}

impl Queues {
    fn all(&mut self) -> [&mut Queue; 4] {
        [
            &mut self.to_check,
            &mut self.to_pack,
            &mut self.to_pack_large,
            &mut self.to_send,
        ]
    }

    fn named(&mut self, name: QueueName) -> &mut Queue {
        match name {
            QueueName::Check => &mut self.to_check,
            QueueName::Pack => &mut self.to_pack,
            QueueName::PackLarge => &mut self.to_pack_large,
            QueueName::Send => &mut self.to_send,
        }
    }
}

impl Episodes {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            known: HashMap::new(),
            queues: Queues::default(),
            wakes: BTreeSet::new(),
            left_since_scan: None,
            last_seal: now,
        }
    }

    pub(super) fn get(&self, id: &EpisodeId) -> Option<&Episode> {
        self.known.get(id).map(|episode| &**episode)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&EpisodeId, &Episode)> {
        self.known.iter().map(|(id, episode)| (id, &**episode))
    }

    pub(super) fn queues(&self) -> &Queues {
        &self.queues
    }

    pub(super) fn last_seal(&self) -> Duration {
        self.last_seal
    }

    /// One episode's part of an event. Where it is not known, nothing happens. One that has left is
    /// forgotten.
    pub(super) fn step<T>(
        &mut self,
        id: &EpisodeId,
        cx: &mut Context,
        step: impl FnOnce(&mut Episode, &mut Context) -> T,
    ) -> Option<T> {
        let episode = self.known.get_mut(id)?;
        let before = Place::of(id, episode, cx);
        let outcome = step(episode, cx);
        let after = Place::of(id, episode, cx);
        self.last_seal = self.last_seal.max(episode.sealed_at());
        let has_left = episode.has_left();
        self.put(id, before, after);
        if has_left {
            self.forget(id, cx);
        }
        Some(outcome)
    }

    fn put(&mut self, id: &EpisodeId, before: Place, after: Place) {
        if before.wake != after.wake {
            if let Some(at) = before.wake {
                self.wakes.remove(&(at, id.clone()));
            }
            if let Some(at) = after.wake {
                self.wakes.insert((at, id.clone()));
            }
        }
        if before == after {
            return;
        }
        if let Some(queue) = before.queue {
            self.queues.named(queue).remove(&before.position(id));
        }
        if let Some(queue) = after.queue {
            self.queues.named(queue).insert(after.position(id));
        }
    }

    /// A recorder may use the name again at once. A look that is under way may have seen either of
    /// the two, and one that came back before the move was known was not heard: it is asked again.
    fn forget(&mut self, id: &EpisodeId, cx: &mut Context) {
        let Some(mut episode) = self.known.remove(id) else {
            return;
        };
        if let Some(at) = episode.wake() {
            self.wakes.remove(&(at, id.clone()));
        }
        episode.unwatch(id, cx);
        if let Some(left) = &mut self.left_since_scan {
            left.insert(id.clone());
        }
        if episode.looking() != Looking::No {
            self.known
                .insert(id.clone(), Episode::after_one_that_left());
        } else if episode.has_stirred() {
            self.hint(id, cx);
        }
    }

    /// The episode of this name; a new one where none is known.
    fn known_or_new(&mut self, id: &EpisodeId) {
        if !self.known.contains_key(id) {
            self.known.insert(id.clone(), Episode::new());
        }
    }

    /// Something stirred at this one.
    pub(super) fn hint(&mut self, id: &EpisodeId, cx: &mut Context) {
        if !(cx.is_stopping() || cx.is_once()) {
            self.known_or_new(id);
            self.step(id, cx, |episode, cx| episode.hint(id, cx));
        }
    }

    /// The next one whose time has come.
    pub(super) fn next_to_wake(&self, now: Duration) -> Option<EpisodeId> {
        let (at, id) = self.wakes.first()?;
        (*at <= now).then(|| id.clone())
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Those of which this is true, in the order of their names.
    pub(super) fn ids_where(&self, is_so: impl Fn(&Episode) -> bool) -> Vec<EpisodeId> {
        let found = self.iter().filter(|(_, episode)| is_so(episode));
        let mut found: Vec<_> = found.map(|(id, _)| id.clone()).collect();
        found.sort_unstable();
        found
    }

    /// A step of all of them.
    pub(super) fn step_all(&mut self, cx: &mut Context, step: impl Fn(&mut Episode, &mut Context)) {
        for id in self.ids_where(|_| true) {
            self.step(&id, cx, &step);
        }
    }

    /// No watch stands any more, nor one that was asked for and not heard of yet.
    pub(super) fn distrust_watches(&mut self) {
        for episode in self.known.values_mut() {
            episode.distrust_watch();
        }
    }

    /// Another order from now on, which the settings say already or will in a moment.
    pub(super) fn turn_round(&mut self) {
        for queue in self.queues.all() {
            queue.turn_round();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether the queues and the alarm clock say what the episodes say.
    #[cfg(test)]
    pub(super) fn assert_index(&self, cx: &Context) {
        let mut queues = Queues::default();
        let mut wakes = BTreeSet::new();
        for (id, episode) in self.iter() {
            let place = Place::of(id, episode, cx);
            if let Some(queue) = place.queue {
                queues.named(queue).insert(place.position(id));
            }
            wakes.extend(place.wake.map(|at| (at, id.clone())));
        }
        assert_eq!(self.queues, queues, "the queues");
        assert_eq!(self.wakes, wakes, "the alarm clock");
        let looks = self
            .iter()
            .filter(|(_, episode)| episode.looking() != Looking::No);
        assert_eq!(cx.looks_under_way(), looks.count(), "the looks under way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::episode::FolderLook,
        ship::machine::tests::{context, effects, of, packed, stamp},
    };

    fn sealed(episodes: &mut Episodes, cx: &mut Context, id: &str) {
        let look = FolderLook::Sealed(stamp(5));
        episodes.hint(&of(id), cx);
        episodes.step(&of(id), cx, |episode, cx| episode.looked(&of(id), look, cx));
        effects(cx);
        cx.look_ended();
    }

    #[test]
    fn an_episode_stands_in_the_queue_of_its_stage_after_each_step() {
        let (mut episodes, mut cx) = (Episodes::new(Duration::ZERO), context(|_| {}));
        let id = of("a");
        sealed(&mut episodes, &mut cx, "a");
        episodes.assert_index(&cx);
        assert_eq!(episodes.queues().to_pack.len(), 1);
        episodes.step(&id, &mut cx, |episode, cx| {
            episode.pack(&id, None, true, cx);
        });
        assert!(episodes.queues().to_pack.is_empty());
        let result = Ok(packed("a"));
        episodes.step(&id, &mut cx, |episode, cx| episode.packed(&id, result, cx));
        assert_eq!(episodes.queues().to_send.len(), 1);
        episodes.assert_index(&cx);
    }

    #[test]
    fn what_has_left_is_forgotten_and_a_look_that_was_under_way_is_asked_again() {
        let (mut episodes, mut cx) = (Episodes::new(Duration::ZERO), context(|_| {}));
        let id = of("a");
        sealed(&mut episodes, &mut cx, "a");
        episodes.step(&id, &mut cx, |episode, cx| {
            episode.pack(&id, None, true, cx);
        });
        effects(&mut cx);
        // The recorder stirs at the name while it is packed, and the episode is gone.
        episodes.hint(&id, &mut cx);
        let gone = Err(crate::ship::machine::PackFailure::Gone);
        episodes.step(&id, &mut cx, |episode, cx| episode.packed(&id, gone, cx));
        let looking = episodes.get(&id).map(Episode::looking);
        assert_eq!(looking, Some(Looking::Stale));
        let look = FolderLook::Sealed(stamp(9));
        let again = episodes.step(&id, &mut cx, |episode, cx| episode.looked(&id, look, cx));
        assert_eq!(again, Some(true), "what it says may be of the one before");
        assert!(matches!(
            episodes.get(&id).map(Episode::stage),
            Some(Stage::Open)
        ));
    }

    #[test]
    fn a_step_of_one_that_is_not_known_does_nothing() {
        let (mut episodes, mut cx) = (Episodes::new(Duration::ZERO), context(|_| {}));
        assert_eq!(episodes.step(&of("a"), &mut cx, |_, _| ()), None);
        assert_eq!(episodes.len(), 0);
    }
}
