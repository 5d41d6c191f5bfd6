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

pub use super::order::Order;
use super::{
    circuit_breaker::Trial,
    order::Queue,
    queue::Machine,
    state::{Episode, TriedNote},
};
use crate::model::episode::EpisodeId;

/// What is no longer than this is small, bytes: a fraction of a second to pack, and some seconds on
/// a slow line.
pub const SMALL_BYTES: u64 = 16 * 1024 * 1024;
/// What has its slot for longer than this takes long, whatever its size.
const LONG: Duration = Duration::from_secs(1);
/// What was sent to its last byte, and is not answered for so long, hangs, for all that is known: a
/// receiver has nothing left to do but to hash and to flush. Where it takes others meanwhile, it
/// may take one after the other, and the time begins anew.
const SILENT: Duration = Duration::from_secs(10);
/// While the destination is held, everybody waits for the end of a probe: of a small one for so
/// long.
const SLOW_PROBE: Duration = Duration::from_secs(30);
/// While it is held, so many small ones may be packed beyond what keeps the uploads busy.
const MOST_FRESH_AHEAD: usize = 256;
/// A queue that is no longer than this is no backlog: it is served in its order.
const BACKLOG: usize = 8;
/// With the newest first, every so many turns are the oldest one's.
const OLDEST_EVERY: u32 = 4;

impl Episode {
    /// Whether what is to be sent of it is not small.
    fn is_large(&self) -> bool {
        self.archive_bytes() > SMALL_BYTES
    }
}

/// Which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Main,
    Kept,
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
pub(super) struct Lanes {
    under_way: BTreeMap<EpisodeId, Turn>,
    last: Option<Lane>,
    main_turns: u32,
    kept_turns: u32,
}

/// Which slots are free, in the order in which they are to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) main: bool,
    pub(super) kept: bool,
    pub(super) kept_first: bool,
    /// What is free beside those that hang, for what did not.
    pub(super) beside: Beside,
}

/// Slots that those which hang leave to others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside {
    pub(super) main: bool,
    pub(super) kept: bool,
    /// There is one more, and no other.
    is_last: bool,
}

impl Free {
    /// Whether any is.
    pub(super) fn any(&self) -> bool {
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
    pub(super) fn free(&self, slots: usize, most: usize, waiting: usize, now: Duration) -> Free {
        let count = self.under_way.len();
        let kept = self
            .under_way
            .values()
            .filter(|turn| turn.lane == Lane::Kept)
            .count();
        let beside_a_long_one =
            slots == 1 && count == 1 && self.under_way.values().all(|turn| turn.long_from <= now);
        let room = count < slots || beside_a_long_one;
        Free {
            main: room && count - kept < (slots - 1).max(1),
            kept: room && kept == 0,
            // Where only one slot is ever free at a time, the two take turns.
            kept_first: waiting > BACKLOG && kept == 0 && self.last == Some(Lane::Main),
            beside: self.beside(slots, most, now),
        }
    }

    fn beside(&self, slots: usize, most: usize, now: Duration) -> Beside {
        let count = self.under_way.len();
        let busy = self.under_way.values().filter(|turn| !turn.hangs(now));
        let (busy, kept) = busy.fold((0, 0), |(busy, kept), turn| {
            (busy + 1, kept + usize::from(turn.lane == Lane::Kept))
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
    pub(super) fn opens_at(&self, slots: usize, now: Duration) -> Option<Duration> {
        let alone = slots == 1 && self.under_way.len() == 1;
        let long_from = self.under_way.values().next().map(|turn| turn.long_from);
        long_from.filter(|at| alone && *at > now)
    }

    /// Whether each slot has been taken for so long that what has it hangs, or nearly so, and fewer
    /// than `most` are under way.
    pub(super) fn all_hang(&self, slots: usize, most: usize, now: Duration) -> bool {
        let busy = self
            .under_way
            .values()
            .filter(|turn| !turn.hangs(now))
            .count();
        busy >= slots && self.hang_from(slots, most).is_some_and(|at| at <= now)
    }

    /// From when on that is so, unless something comes back before.
    pub(super) fn hang_from(&self, slots: usize, most: usize) -> Option<Duration> {
        let may = slots > 1 && (slots..most).contains(&self.under_way.len());
        self.under_way
            .values()
            .map(|turn| turn.slow_from)
            .max()
            .filter(|_| may)
    }

    /// When the next one hangs, unless it comes back before.
    pub(super) fn next_hangs_at(&self, now: Duration) -> Option<Duration> {
        self.under_way
            .values()
            .filter_map(|turn| turn.hangs_from)
            .filter(|at| *at > now)
            .min()
    }

    /// Those that hang.
    pub(super) fn hanging(&self, now: Duration) -> impl Iterator<Item = &EpisodeId> {
        self.under_way
            .iter()
            .filter(move |(_, turn)| turn.hangs(now))
            .map(|(id, _)| id)
    }

    /// Whether one is under way that does not take long yet.
    pub(super) fn has_a_brief_one(&self, now: Duration) -> bool {
        self.under_way.values().any(|turn| now < turn.long_from)
    }

    /// One has begun. `large`: it is known to take long.
    pub(super) fn begin(&mut self, id: &EpisodeId, lane: Lane, large: bool, now: Duration) {
        let (long_from, slow_from) = if large {
            (now, now + LONG)
        } else {
            (now + LONG, now + SLOW_PROBE)
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
            Lane::Main => self.main_turns = self.main_turns.wrapping_add(1),
            Lane::Kept => self.kept_turns = self.kept_turns.wrapping_add(1),
        }
    }

    /// The last byte of one has left.
    pub(super) fn whole_sent(&mut self, id: &EpisodeId, now: Duration) {
        if let Some(turn) = self.under_way.get_mut(id) {
            let hangs_from = now + SILENT;
            turn.hangs_from = Some(hangs_from);
            turn.slow_from = turn.slow_from.min(hangs_from);
        }
    }

    /// One of them was taken: the receiver works, and what is not answered yet may be behind that.
    pub(super) fn taken(&mut self, now: Duration) {
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
    pub(super) fn end(&mut self, id: &EpisodeId) {
        self.under_way.remove(id);
    }

    /// Those that are under way, and whether the end of each is worth waiting for, for a probe.
    pub(super) fn probes(&self, now: Duration) -> impl Iterator<Item = (&EpisodeId, bool)> {
        self.under_way
            .iter()
            .map(move |(id, turn)| (id, now < turn.slow_from))
    }

    /// When the next of these has taken too long for that.
    pub(super) fn slow_at(&self, now: Duration) -> Option<Duration> {
        self.under_way
            .values()
            .map(|turn| turn.slow_from)
            .filter(|at| *at > now)
            .min()
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether the far end of a queue of this length is served, and not the near one.
    fn takes_the_far_end(&self, lane: Lane, order: Order, waiting: usize) -> bool {
        waiting > BACKLOG
            && match (lane, order) {
                (Lane::Main, Order::OldestFirst) => false,
                (Lane::Main, Order::NewestFirst) => {
                    self.main_turns % OLDEST_EVERY == OLDEST_EVERY - 1
                }
                (Lane::Kept, _) => self.kept_turns.is_multiple_of(2),
            }
    }
}

impl Machine {
    /// How many more may be packed ahead of the uploads, for one of them that is small: where what
    /// waits is large, it waits for long, and a small one would pass it by.
    pub(super) fn room_ahead(&self, lane: Lane) -> bool {
        let (ahead, most) = (self.ahead(), self.most_ahead());
        let beside_a_large_one =
            || ahead == most && self.to_send.iter().any(|id| self.is_large(id));
        ahead < most
            || match lane {
                Lane::Kept => beside_a_large_one() || self.needs_a_fresh_one(),
                Lane::Main => self.needs_a_fresh_giant(),
            }
    }

    /// What is packed and not sent yet fills the outbox: no more of it than keeps the uploads busy.
    pub(super) fn most_ahead(&self) -> usize {
        2 * self.settings.concurrency
    }

    /// How many are. What was tried and goes behind the others keeps no upload busy that is theirs,
    /// and none of them from being packed.
    pub(super) fn ahead(&self) -> usize {
        let held = self.destination.hold().is_some();
        self.packing.len()
            + if held {
                self.to_send.len()
            } else {
                self.to_send.untried()
            }
    }

    /// Where all that is packed was tried in vain since the destination is held, a small one that
    /// was not may end that; and so may one that was sealed since, and need not wait for the next
    /// probe. So episodes that something in between refuses, however many, block no other.
    fn needs_a_fresh_one(&self) -> bool {
        let Some(hold) = self.destination.hold().filter(|_| !self.to_pack.is_empty()) else {
            return false;
        };
        let is_fresh =
            |id: &EpisodeId| !self.is_large(id) && self.trial(id, hold.since) != Trial::Over;
        self.packing.len() == 0 && (self.a_new_one_waits() || !self.to_send.iter().any(is_fresh))
    }

    /// The same where no small one is left that was not tried.
    fn needs_a_fresh_giant(&self) -> bool {
        let Some(hold) = self.destination.hold() else {
            return false;
        };
        let waits = |queue: &Queue| {
            queue
                .iter()
                .any(|id| self.trial(id, hold.since) != Trial::Over)
        };
        self.packing.len() == 0
            && !waits(&self.to_send)
            && !waits(&self.to_pack)
            && (waits(&self.to_pack_large) || waits(&self.to_check))
    }

    /// Whether no more archives are to gather in the outbox: what is packed for a probe has none
    /// there, and is packed again when it is sent.
    pub(super) fn has_gathered_enough(&self) -> bool {
        self.destination.hold().is_some()
            && self.to_send.len() >= self.most_ahead() + MOST_FRESH_AHEAD
    }

    /// Whether one that was sealed since the destination is held is not packed, and none is that
    /// could be tried at once.
    fn a_new_one_waits(&self) -> bool {
        let Some(hold) = self.destination.hold() else {
            return false;
        };
        let is_new = |id: &EpisodeId| self.trial(id, hold.since) == Trial::New;
        self.last_seal > hold.since
            && self.newest(&self.to_pack).is_some_and(is_new)
            && !self.to_send.iter().any(is_new)
    }

    /// Who is packed, or checked, next on this slot. A full outbox keeps nothing waiting that is
    /// packed already: what is sent is what makes room in it.
    pub(super) fn next_to_pack(&mut self, lane: Lane) -> Option<EpisodeId> {
        let large = if lane == Lane::Main {
            self.to_pack_large.len()
        } else {
            0
        };
        let waiting = self.to_pack.len() + large;
        let far = self
            .packing
            .takes_the_far_end(lane, self.settings.order, waiting);
        let any = |_: &EpisodeId| true;
        let paused = self.packing_paused_until.is_some();
        let none = Queue::default();
        let (to_pack, large) = if paused {
            (&none, &none)
        } else {
            (&self.to_pack, &self.to_pack_large)
        };
        let next = match lane {
            Lane::Kept if self.a_new_one_waits() && !paused => self.newest(to_pack),
            // The archive that is checked may be large, and be read.
            Lane::Kept => self
                .next_of(&[to_pack], far, any)
                .or_else(|| self.next_of(&[&self.to_check], false, any)),
            Lane::Main => self.next_of(&[to_pack, &self.to_check, large], far, any),
        };
        next.cloned()
    }

    /// Who is sent next to a destination that works, and on which slot.
    pub(super) fn next_in_turn(&self, free: Free) -> Option<(Lane, EpisodeId)> {
        let waiting = self.waiting();
        let hung = |id: &EpisodeId| self.episodes.get(id).is_some_and(|episode| episode.hung);
        let next = |lane: Lane, is_free: bool, beside: bool| {
            let far = self
                .sending
                .takes_the_far_end(lane, self.settings.order, waiting);
            let may = |id: &EpisodeId| match lane {
                Lane::Main => !(beside && hung(id)),
                Lane::Kept => !(self.is_large(id) || hung(id)),
            };
            let next = self.next_of(&[&self.to_send], far, may).filter(|_| is_free);
            next.map(|id| (lane, id.clone()))
        };
        let (main, kept) = (
            || next(Lane::Main, free.main, false),
            || next(Lane::Kept, free.kept, false),
        );
        let next_one = if free.kept_first {
            kept().or_else(main)
        } else {
            main().or_else(kept)
        };
        let beside = free.beside;
        next_one.or_else(|| match beside.is_last {
            true => {
                let fresh = self.newest_small(&self.to_send).filter(|_| beside.kept)?;
                Some((Lane::Kept, fresh.clone()))
            }
            false => {
                next(Lane::Main, beside.main, true).or_else(|| next(Lane::Kept, beside.kept, true))
            }
        })
    }

    /// How many wait to be packed or sent. Few are packed ahead, and among them one that is fresh
    /// would be behind each older one that is packed after it: so the queue for sending alone does
    /// not say what is a backlog.
    pub(super) fn waiting(&self) -> usize {
        self.to_pack.len() + self.to_pack_large.len() + self.to_send.len()
    }

    /// Whether what is to be sent of it is not small.
    pub(super) fn is_large(&self, id: &EpisodeId) -> bool {
        self.episodes
            .get(id)
            .is_some_and(|episode| episode.is_large())
    }

    /// How many may be under way where as many as there are slots hang. On a line that is limited
    /// what takes long may just be slow, and each needs its share.
    pub(super) fn most_beside_hanging(&self) -> usize {
        if self.is_limited() {
            0
        } else {
            2 * self.settings.concurrency
        }
    }

    /// What hangs has had its turn, and its sidecar says so from now on: where this process is
    /// killed meanwhile, again and again, each next one begins with others.
    pub(super) fn note_what_hangs(&mut self, now: Duration) {
        let is_to_be_noted = |id: &&EpisodeId| {
            self.episodes
                .get(*id)
                .is_some_and(|episode| episode.noted == TriedNote::No)
        };
        let hanging: Vec<_> = self
            .sending
            .hanging(now)
            .filter(is_to_be_noted)
            .cloned()
            .collect();
        for id in hanging {
            if let Some(episode) = self.episodes.get_mut(&id) {
                episode.noted = TriedNote::Due;
            }
            self.keep(&id);
        }
    }

    /// When a second slot opens beside one that takes long, and an episode waits for it.
    pub(super) fn lanes_deadline(&self) -> Option<Duration> {
        let now = self.now;
        let waits = |queue: &Queue| !queue.is_empty();
        let pack = waits(&self.to_pack) || waits(&self.to_check);
        let packing = self
            .packing
            .opens_at(self.settings.pack_workers, now)
            .filter(|_| pack);
        let slots = self.uploads_at_once();
        let hang_from = self
            .sending
            .hang_from(slots, self.most_beside_hanging())
            .filter(|at| *at > now);
        let opens_at = self.sending.opens_at(slots, now);
        let sending = [opens_at, hang_from, self.sending.next_hangs_at(now)]
            .into_iter()
            .flatten()
            .min();
        [packing, sending.filter(|_| waits(&self.to_send))]
            .into_iter()
            .flatten()
            .min()
    }
}
