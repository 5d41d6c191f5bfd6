//! All episodes: whose turn it is, how many at once, and when to look again.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::{
    Effect, Event, Notice, Settings, Tally,
    backoff::Jitter,
    circuit_breaker::Destination,
    fairness::Lanes,
    look_back::LookBack,
    order::{Queue, QueuePosition},
    overview::OverviewCounts,
    ramp::Ramp,
    relief::Relief,
    room::Fullness,
    state::{AfterRest, Episode, Rest, State},
    sweeps::Sweeps,
    window::UploadGate,
};
use crate::model::episode::{EpisodeId, Stamp};

/// Moves, checks, looks at orphans and flushes at once: enough to keep a disk busy beside packing.
pub(super) const DISK_STEPS: usize = 4;

/// So many moves may wait for a disk before no further upload is begun: what is acknowledged and
/// not moved yet is sent again after a kill, and with a disk that is slower than the receiver that
/// would be most of a backlog. Of large ones fewer, from [`MOST_BYTES_BEHIND`] on.
const MOST_MOVES_BEHIND: usize = 64;
const MOST_LARGE_MOVES_BEHIND: usize = 16;
const MOST_BYTES_BEHIND: u64 = 1 << 30;
/// A time that does not come.
pub(super) const NEVER: Duration = Duration::MAX;

/// The shipper's decisions, as a value.
#[derive(Debug)]
pub struct Machine {
    pub(super) settings: Settings,
    /// When it last heard of anything.
    pub(super) now: Duration,
    pub(super) jitter: Jitter,
    /// Boxed: a table that grows holds its places twice over, and half of them empty.
    pub(super) episodes: HashMap<EpisodeId, Box<Episode>>,
    pub(super) destination: Destination,
    pub(super) ramp: Ramp,
    pub(super) gate: UploadGate,
    pub(super) tally: Tally,
    /// Their archives lie in the outbox: no room is needed to go on with these.
    pub(super) to_check: Queue,
    pub(super) to_pack: Queue,
    /// These are known not to be small.
    pub(super) to_pack_large: Queue,
    pub(super) to_send: Queue,
    pub(super) wakes: BTreeSet<(Duration, EpisodeId)>,
    /// Effects that nothing holds back.
    out: VecDeque<Effect>,
    /// Steps that wait for a place on the disk.
    disk: VecDeque<Effect>,
    pub(super) orphans: BTreeSet<EpisodeId>,
    /// Packed or checked just now.
    pub(super) packing: Lanes,
    pub(super) sending: Lanes,
    pub(super) on_disk: usize,
    pub(super) packing_paused_until: Option<Duration>,
    /// The last one whose archive could not be written, since one could.
    pub(super) outbox_failed: Option<EpisodeId>,
    pub(super) outbox_failures: u32,
    pub(super) full: Fullness,
    pub(super) next_scan: Duration,
    pub(super) scanning: bool,
    pub(super) scan_again: bool,
    /// Left episodes/ since the scan began: what the scan says of them is older than what we know.
    pub(super) moved_while_scanning: HashSet<EpisodeId>,
    pub(super) looks: usize,
    pub(super) sweeps: Sweeps,
    pub(super) relief: Relief,
    pub(super) look_back: LookBack,
    pub(super) blind: bool,
    pub(super) stopping: bool,
    pub(super) ledger: OverviewCounts,
    /// The first whose stamps moved again and again though what it packs to did not.
    pub(super) stamps_move: Option<EpisodeId>,
    /// When one was last seen to be sealed.
    pub(super) last_seal: Duration,
}

impl Machine {
    /// A machine that knows nothing and looks everywhere first.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self {
            jitter: Jitter::new(settings.seed),
            destination: Destination::unknown(settings.once),
            settings,
            now,
            episodes: HashMap::new(),
            ramp: Ramp::default(),
            gate: UploadGate::new(now),
            tally: Tally::default(),
            to_check: Queue::default(),
            to_pack: Queue::default(),
            to_pack_large: Queue::default(),
            to_send: Queue::default(),
            wakes: BTreeSet::new(),
            out: VecDeque::new(),
            disk: VecDeque::new(),
            orphans: BTreeSet::new(),
            packing: Lanes::default(),
            sending: Lanes::default(),
            on_disk: 0,
            packing_paused_until: None,
            outbox_failed: None,
            outbox_failures: 0,
            full: Fullness::default(),
            next_scan: now,
            scanning: false,
            scan_again: false,
            moved_while_scanning: HashSet::new(),
            looks: 0,
            sweeps: Sweeps::new(now),
            relief: Relief::default(),
            look_back: LookBack::default(),
            blind: false,
            stopping: false,
            ledger: OverviewCounts::default(),
            stamps_move: None,
            last_seal: now,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Duration) {
        self.now = now;
        match event {
            Event::Hinted(id) => self.hinted(id),
            Event::Unsure => {
                // What was lost may have been the end of a watched folder, and its name in use
                // again.
                self.distrust_watches();
                self.look_everywhere(now);
            }
            Event::Looked(id, look) => self.looked(&id, look),
            Event::Scanned(found) => self.scanned(found, now),
            Event::Checked(id, check) => {
                self.packing.end(&id);
                self.checked(&id, check, now);
            }
            Event::Packed(id, result) => {
                self.packing.end(&id);
                self.packed(&id, result, now);
            }
            Event::Kept(id, result) => {
                self.on_disk -= 1;
                self.kept(&id, result, now);
            }
            // Nothing waits for it here.
            Event::Discarded(_) => {}
            Event::WholeSent(id) => self.sending.whole_sent(&id, now),
            Event::Attempted(id, attempt) => {
                self.sending.end(&id);
                self.attempted(&id, &attempt, now);
            }
            Event::Retired(id, moved) => {
                self.on_disk -= 1;
                self.retired(&id, moved, now);
            }
            Event::Quarantined(id, moved) => {
                self.on_disk -= 1;
                self.quarantined(&id, moved, now);
            }
            Event::Finished(id, moved) => {
                self.on_disk -= 1;
                self.finished(&id, moved, now);
            }
            Event::OrphanSettled(id, end) => {
                self.on_disk -= 1;
                self.orphan_settled(&id, end, now);
            }
            Event::PutAside(_) => {
                self.tally.fatal += 1;
                self.tally.last_copies += 1;
            }
            Event::Swept(done) => {
                if let Some(doubted_for) =
                    self.sweeps.ended(done, now, self.settings.sweep_interval)
                {
                    self.tell(Notice::ClockDoubted(doubted_for));
                }
            }
            Event::Relieved(enough) => self.relieved(enough),
            Event::LookedBack(looked) => self.looked_back(looked, now),
            Event::Watching(can) => {
                if can && self.blind {
                    self.distrust_watches();
                }
                self.blind = !can;
                if !self.settings.once {
                    self.next_scan = self.next_scan.min(now + self.reconcile_interval());
                }
            }
            Event::WatchesLost => {
                self.distrust_watches();
                self.look_everywhere(now);
            }
            Event::Configured {
                settings,
                elsewhere,
            } => self.configured(settings, elsewhere, now),
            Event::ClockRead(time) => self.clock_read(time, now),
            Event::Deadline => {}
            Event::Stop => {
                self.stopping = true;
                self.stop_what_is_paused();
            }
        }
        self.wake_due(now);
        self.note_what_hangs(now);
        self.take_turns(now);
    }

    /// The next thing to do; ask until there is none.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.out.pop_front() {
            return Some(effect);
        }
        if self.on_disk < DISK_STEPS
            && let Some(step) = self.disk.pop_front()
        {
            self.on_disk += 1;
            return Some(step);
        }
        None
    }

    /// When to call `handle` with [`Event::Deadline`] though nothing happened; `None` where nothing
    /// is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.stopping {
            return None;
        }
        let wake = self.wakes.first().map(|(at, _)| *at);
        let scan = (!self.scanning && self.next_scan < NEVER).then_some(self.next_scan);
        if self.settings.once {
            // Only what keeps an archive safe beside its upload; rests are left for another time.
            let under_way = self.sending.len() > 0;
            let clock = self.gate.deadline().filter(|_| under_way);
            return [
                wake.filter(|_| under_way),
                scan,
                clock,
                self.lanes_deadline(),
            ]
            .into_iter()
            .flatten()
            .min();
        }
        let sweep = [self.sweeps.deadline(), self.look_back.deadline()]
            .into_iter()
            .flatten()
            .min();
        let probe = self
            .destination
            .hold()
            .filter(|_| !self.to_send.is_empty() && !self.gate.is_closed())
            .and_then(|hold| self.probe_deadline(hold));
        let paused = self.packing_paused_until;
        let packing =
            paused.filter(|_| !(self.to_pack.is_empty() && self.to_pack_large.is_empty()));
        let turns = [
            self.ramp_deadline(),
            self.lanes_deadline(),
            self.gate.deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
        [wake, scan, sweep, probe, packing, turns]
            .into_iter()
            .flatten()
            .min()
    }

    /// Nothing is under way (and, in one pass, nothing more would begin).
    #[must_use]
    pub fn idle(&self) -> bool {
        let to_begin = self.settings.once && !self.stopping && self.next_scan < NEVER;
        let looks_around = self.scanning
            || self.sweeps.under_way()
            || self.relief.under_way()
            || self.look_back.under_way()
            || self.gate.asked();
        !(to_begin || looks_around)
            && self.looks + self.packing.len() + self.sending.len() + self.on_disk == 0
            && self.out.is_empty()
            && self.disk.is_empty()
    }

    /// What `ship --once` reports: what was done, and what each episode that is left waits for.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally;
        for episode in self.episodes.values() {
            match &episode.state {
                // One that could not be looked at may be sealed; one with an odd marker is meant to
                // be.
                State::Open => {
                    tally.unseen +=
                        u64::from(episode.failures.local > 0 || episode.odd_marker.is_some());
                }
                State::Parked(_) => tally.conflicts += 1,
                State::Resting(_, Rest::Refused) => tally.held += 1,
                // What is not packed yet waits for what is.
                State::Sealed | State::Ready(_) if self.destination.hold().is_some() => {
                    tally.held += 1;
                }
                State::Sealed
                | State::Checking
                | State::Packing
                | State::Ready(_)
                | State::Sending(_)
                | State::Resting(_, Rest::Weather | Rest::Local)
                | State::Retiring(..)
                | State::Quarantining(_)
                | State::Finishing => tally.transient_failures += 1,
            }
        }
        tally.transient_failures += tally.unseen;
        tally
    }

    /// The destination, for the daemon's report.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Puts an episode where its new state belongs; the one place that changes a state.
    pub(super) fn enter(&mut self, id: &EpisodeId, state: State) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        let (keeping, archived, large) = (episode.keeping, episode.archived, episode.large);
        let place = self.place(id, episode);
        self.take_out(&place);
        match &state {
            // The archive's name is free for a new packing only when no worker makes the old one
            // durable, or looks what the last one of that name has left.
            State::Sealed if !keeping && !self.orphans.contains(id) => {
                let queue = match (archived, large) {
                    (true, _) => &mut self.to_check,
                    (false, true) => &mut self.to_pack_large,
                    (false, false) => &mut self.to_pack,
                };
                queue.insert(place);
            }
            State::Ready(_) => self.to_send.insert(place),
            State::Open
            | State::Sealed
            | State::Checking
            | State::Packing
            | State::Sending(_)
            | State::Resting(..)
            | State::Parked(_)
            | State::Retiring(..)
            | State::Quarantining(_)
            | State::Finishing => {}
        }
        if let Some(episode) = self.episodes.get_mut(id) {
            episode.state = state;
        }
    }

    fn take_out(&mut self, place: &QueuePosition) {
        for queue in self.queues() {
            queue.remove(place);
        }
    }

    /// Takes note of a new stamp. The queues are ordered by it, so the old rank leaves them first.
    pub(super) fn stamp(&mut self, id: &EpisodeId, stamp: Stamp) {
        let Some(old) = self.episodes.get(id).map(|episode| self.place(id, episode)) else {
            return;
        };
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        episode.stamp = Some(stamp);
        episode.sealed_at = self.now;
        self.last_seal = self.now;
        let Some(new) = self.episodes.get(id).map(|episode| self.place(id, episode)) else {
            return;
        };
        for queue in self.queues() {
            if queue.remove(&old) {
                queue.insert(new.clone());
            }
        }
    }

    pub(super) fn forget(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        let place = self.place(id, episode);
        self.take_out(&place);
        self.sleep_until(id, None);
        self.unwatch(id);
        self.episodes.remove(id);
        if self.scanning {
            self.moved_while_scanning.insert(id.clone());
        }
    }

    pub(super) fn unwatch(&mut self, id: &EpisodeId) {
        if let Some(episode) = self.episodes.get_mut(id)
            && std::mem::take(&mut episode.watched)
        {
            self.out.push_back(Effect::Unwatch(id.clone()));
        }
    }

    pub(super) fn sleep_until(&mut self, id: &EpisodeId, wake: Option<Duration>) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut episode.wake, wake) {
            self.wakes.remove(&(old, id.clone()));
        }
        if let Some(at) = wake {
            self.wakes.insert((at, id.clone()));
        }
    }

    pub(super) fn rest(&mut self, id: &EpisodeId, next: AfterRest, why: Rest, until: Duration) {
        self.enter(id, State::Resting(next, why));
        self.gives_up_its_turn(id);
        self.sleep_until(id, Some(until));
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        self.remember_why(&notice);
        self.out.push_back(Effect::Tell(notice));
    }

    pub(super) fn now_do(&mut self, effect: Effect) {
        self.out.push_back(effect);
    }

    /// Among the steps that were queued last, so that many orphans to look at hold up nothing.
    pub(super) fn moves_are_behind(&self) -> bool {
        if self.disk.len() < MOST_LARGE_MOVES_BEHIND {
            return false;
        }
        let (mut moves, mut bytes) = (0, 0);
        for step in self.disk.iter().rev().take(2 * MOST_MOVES_BEHIND) {
            if let Effect::Retire { packed, .. } = step {
                moves += 1;
                bytes += packed.facts.size_bytes;
            }
        }
        moves >= MOST_MOVES_BEHIND
            || (moves >= MOST_LARGE_MOVES_BEHIND && bytes >= MOST_BYTES_BEHIND)
    }

    pub(super) fn on_disk(&mut self, step: Effect) {
        self.disk.push_back(step);
    }
}
