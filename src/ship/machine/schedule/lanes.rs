//! Who goes beside whom: a slot that is kept for the small and fresh, in packing and in sending.
//!
//! ```text
//!   slots   ┌──────────┐ main: in the order that is set, whatever its size
//!   (n)     │ n-1 main │
//!           ├──────────┤ kept: small ones alone. Behind a backlog
//!           │  1 kept  │   the freshest and the oldest of them in turn
//!           └──────────┘
//!   of one slot: main and kept take turns, and beside one that takes long a second slot opens
//!   of more, for sending: where each has been taken for half a minute, one more opens
//!       for a small one, up to twice as many
//!   what was sent to its last byte and is not answered for ten seconds, while no other is taken,
//!       keeps no slot from what did not hang yet, up to twice as many; of these the last is
//!       for the freshest of the small ones that were not tried
//! ```
//!
//! So a giant holds up no small one, a backlog no fresh one, and what is fresh never all that is
//! old. Whatever an episode does to its slot, it has only one. Where as many uploads hang as there
//! are slots, that would be all of them: hence the further ones, and the kept slot is not for those
//! that hung before.
//!
//! An archive's size is known before it is sent. An episode's is not before it is packed: one that
//! turns out not to be small on the kept slot is put back, is known from then on, and waits for a
//! main slot. No more than [`SMALL_BYTES`] of it were read by then.

use std::{collections::BTreeMap, time::Duration};

#[cfg(doc)]
use super::SMALL_BYTES;
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        episodes::Order,
        limits::{BACKLOG, BRIEF, ENOUGH, SILENT},
    },
};

/// While the destination is held, everybody waits for the end of a probe: of a small one for so
/// long. It may hash and flush for a silence, and so may what is taken before it.
const SLOW_PROBE: Duration = SILENT.saturating_mul(ENOUGH as u32);
/// With the newest first. Promised in docs/operations.md: "every fourth turn is the oldest one's".
const OLDEST_EVERY: u32 = 4;

/// Which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Any,
    SmallOnly,
}

/// Who has a slot.
#[derive(Debug, Clone, Copy)]
struct Turn {
    lane: Lane,
    /// It takes long from then on, and another may begin beside it on one slot.
    long_from: Duration,
    /// It takes long for a probe, and holds up no others.
    slow_from: Duration,
    /// All of it was sent; unless it is answered before, it hangs from then on.
    hangs_from: Option<Duration>,
}

/// The slots of one kind of work, and who has them.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    under_way: BTreeMap<EpisodeId, Turn>,
    last: Option<Lane>,
    main_turns: u32,
    kept_turns: u32,
}

/// Which slots are free, in the order in which they are to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) main: bool,
    pub(crate) kept: bool,
    pub(crate) kept_first: bool,
    /// What is free beside those that hang, for what did not.
    pub(crate) beside: Beside,
}

/// Slots that those which hang leave to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) main: bool,
    pub(crate) kept: bool,
    /// There is one more, and no other.
    pub(crate) is_last: bool,
}

impl Free {
    /// Whether any is.
    pub(crate) fn any(&self) -> bool {
        self.main || self.kept || self.beside.main || self.beside.kept
    }
}

impl Turn {
    fn hangs(&self, now: Duration) -> bool {
        self.hangs_from.is_some_and(|at| at <= now)
    }
}

impl Lanes {
    /// What is free of so many slots, for so many that wait; beside those that hang, up to `most`.
    pub(crate) fn free(&self, slots: usize, most: usize, waiting: usize, now: Duration) -> Free {
        let count = self.under_way.len();
        let kept = self
            .under_way
            .values()
            .filter(|turn| turn.lane == Lane::SmallOnly)
            .count();
        let beside_a_long_one =
            slots == 1 && count == 1 && self.under_way.values().all(|turn| turn.long_from <= now);
        let room = count < slots || beside_a_long_one;
        Free {
            main: room && count - kept < (slots - 1).max(1),
            kept: room && kept == 0,
            // Where only one slot is ever free at a time, the two take turns.
            kept_first: waiting > BACKLOG && kept == 0 && self.last == Some(Lane::Any),
            beside: self.beside(slots, most, now),
        }
    }

    fn beside(&self, slots: usize, most: usize, now: Duration) -> Beside {
        let count = self.under_way.len();
        let busy = self.under_way.values().filter(|turn| !turn.hangs(now));
        let (busy, kept) = busy.fold((0, 0), |(busy, kept), turn| {
            (busy + 1, kept + usize::from(turn.lane == Lane::SmallOnly))
        });
        if busy == count || busy >= slots || count >= most {
            return Beside::default();
        }
        let is_last = count + 1 == most;
        let main = !is_last && busy - kept < (slots - 1).max(1);
        Beside {
            main,
            kept: kept == 0,
            is_last,
        }
    }

    /// When one more slot opens though nothing has come back; `None` where that will not be.
    pub(crate) fn opens_at(&self, slots: usize, now: Duration) -> Option<Duration> {
        let alone = slots == 1 && self.under_way.len() == 1;
        let long_from = self.under_way.values().next().map(|turn| turn.long_from);
        long_from.filter(|at| alone && *at > now)
    }

    /// Whether each slot has been taken for so long that what has it hangs, or nearly so, and fewer
    /// than `most` are under way.
    pub(crate) fn all_hang(&self, slots: usize, most: usize, now: Duration) -> bool {
        let busy = self
            .under_way
            .values()
            .filter(|turn| !turn.hangs(now))
            .count();
        busy >= slots && self.hang_from(slots, most).is_some_and(|at| at <= now)
    }

    /// From when on that is so, unless something comes back before.
    pub(crate) fn hang_from(&self, slots: usize, most: usize) -> Option<Duration> {
        let may = slots > 1 && (slots..most).contains(&self.under_way.len());
        self.under_way
            .values()
            .map(|turn| turn.slow_from)
            .max()
            .filter(|_| may)
    }

    /// When the next one hangs, unless it comes back before.
    pub(crate) fn next_hangs_at(&self, now: Duration) -> Option<Duration> {
        self.under_way
            .values()
            .filter_map(|turn| turn.hangs_from)
            .filter(|at| *at > now)
            .min()
    }

    /// Those that hang.
    pub(crate) fn hanging(&self, now: Duration) -> impl Iterator<Item = &EpisodeId> {
        self.under_way
            .iter()
            .filter(move |(_, turn)| turn.hangs(now))
            .map(|(id, _)| id)
    }

    /// Whether one is under way that does not take long yet.
    pub(crate) fn has_a_brief_one(&self, now: Duration) -> bool {
        self.under_way.values().any(|turn| now < turn.long_from)
    }

    /// Which slot this one has.
    pub(crate) fn lane_of(&self, id: &EpisodeId) -> Option<Lane> {
        self.under_way.get(id).map(|turn| turn.lane)
    }

    /// One has begun. `large`: it is known to take long.
    pub(crate) fn begin(&mut self, id: &EpisodeId, lane: Lane, large: bool, now: Duration) {
        let (long_from, slow_from) = if large {
            (now, now + BRIEF)
        } else {
            (now + BRIEF, now + SLOW_PROBE)
        };
        self.under_way.insert(
            id.clone(),
            Turn {
                lane,
                long_from,
                slow_from,
                hangs_from: None,
            },
        );
        self.last = Some(lane);
        match lane {
            Lane::Any => self.main_turns = self.main_turns.wrapping_add(1),
            Lane::SmallOnly => self.kept_turns = self.kept_turns.wrapping_add(1),
        }
    }

    /// The last byte of one has left.
    pub(crate) fn whole_sent(&mut self, id: &EpisodeId, now: Duration) {
        if let Some(turn) = self.under_way.get_mut(id) {
            let hangs_from = now + SILENT;
            turn.hangs_from = Some(hangs_from);
            turn.slow_from = turn.slow_from.min(hangs_from);
        }
    }

    /// One of them was taken: the receiver works, and what is not answered yet may be behind that.
    pub(crate) fn taken(&mut self, now: Duration) {
        for turn in self.under_way.values_mut() {
            if let Some(at) = &mut turn.hangs_from
                && *at > now
            {
                if turn.slow_from == *at {
                    turn.slow_from = now + SILENT;
                }
                *at = now + SILENT;
            }
        }
    }

    /// One has come back.
    pub(crate) fn end(&mut self, id: &EpisodeId) {
        self.under_way.remove(id);
    }

    /// Those that are under way, and whether the end of each is worth waiting for, for a probe.
    pub(crate) fn probes(&self, now: Duration) -> impl Iterator<Item = (&EpisodeId, bool)> {
        self.under_way
            .iter()
            .map(move |(id, turn)| (id, now < turn.slow_from))
    }

    /// When the next of these has taken too long for that.
    pub(crate) fn slow_at(&self, now: Duration) -> Option<Duration> {
        self.under_way
            .values()
            .map(|turn| turn.slow_from)
            .filter(|at| *at > now)
            .min()
    }

    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether the far end of a queue of this length is served, and not the near one.
    pub(crate) fn takes_the_far_end(&self, lane: Lane, order: Order, waiting: usize) -> bool {
        waiting > BACKLOG
            && match (lane, order) {
                (Lane::Any, Order::OldestFirst) => false,
                (Lane::Any, Order::NewestFirst) => {
                    self.main_turns % OLDEST_EVERY == OLDEST_EVERY - 1
                }
                (Lane::SmallOnly, _) => self.kept_turns.is_multiple_of(2),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::machine::tests::of;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn the_last_slot_is_for_small_ones_alone() {
        let mut lanes = Lanes::default();
        for id in ["a", "b"] {
            assert!(lanes.free(3, 0, 0, NOW).main);
            lanes.begin(&of(id), Lane::Any, false, NOW);
        }
        let free = lanes.free(3, 0, 0, NOW);
        assert!(free.kept && !free.main);
        lanes.begin(&of("c"), Lane::SmallOnly, false, NOW);
        assert!(!lanes.free(3, 0, 0, NOW).any());
        lanes.end(&of("a"));
        assert!(lanes.free(3, 0, 0, NOW).main);
    }

    #[test]
    fn beside_one_that_takes_long_on_the_only_slot_another_opens() {
        let mut lanes = Lanes::default();
        lanes.begin(&of("a"), Lane::Any, false, NOW);
        assert!(!lanes.free(1, 0, 0, NOW).any());
        assert_eq!(lanes.opens_at(1, NOW), Some(NOW + BRIEF));
        assert!(lanes.free(1, 0, 0, NOW + BRIEF).any());
    }

    #[test]
    fn what_is_wholly_sent_and_not_answered_hangs_unless_another_is_taken_meanwhile() {
        let mut lanes = Lanes::default();
        lanes.begin(&of("a"), Lane::Any, false, NOW);
        lanes.whole_sent(&of("a"), NOW);
        assert_eq!(lanes.hanging(NOW).count(), 0);
        lanes.taken(NOW + SILENT / 2);
        assert_eq!(lanes.hanging(NOW + SILENT).count(), 0);
        assert_eq!(lanes.hanging(NOW + SILENT / 2 + SILENT).count(), 1);
    }
}
