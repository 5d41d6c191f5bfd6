//! Every decision of the shipper. Pure: no I/O, no clock, no randomness of its own.
//!
//! [`Machine`] is a value. Events and the time go in through `handle`, effects come out of
//! `next_effect`, and `next_deadline` says when to call again though nothing happened. Time is a
//! `Duration` since any fixed moment on the monotonic clock.
//!
//! ```text
//!            Looked: no marker        Looked: marker
//!   (new) ─────────▶ Open ───────────────▶ Sealed ──Check──▶ Checking ──fits──┐
//!                     ▲                      │  ▲  └─Pack──▶ Packing ───────▼
//!                     │ marker taken away    │  └───────────── changed ──── Ready ──Send─▶ Sending
//!                     └──────────────────────┘                              ▲                  │
//!                                              until a time, or a change    │          verdict │
//!                                          Resting ◀───── weather, refused ─┼──────────────────┤
//!                                          Parked  ◀───── conflict ─────────┘                  │
//!                                          Retiring ◀──── delivered (a proof) ─────────────────┤
//!                                          Quarantining ◀─ fatal, or its own bytes are at fault┘
//! ```

mod context;
pub mod destination;
mod effect;
mod episode;
mod episodes;
mod event;
pub mod limits;
pub mod liveness;
pub mod look_back;
mod notice;
pub mod overview;
mod reconcile;
mod schedule;
mod settings;
#[cfg(test)]
mod simulation;
pub mod step_result;
pub mod storage;
mod sweeps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::{
    context::Context,
    destination::{Destination, circuit_breaker::Probe, verdict::receivers_clock},
    episodes::Episodes,
    look_back::LookBack,
    overview::{Census, Overview, Sources},
    reconcile::Reconcile,
    schedule::{AfterGrowing, Circumstances, Lane, Schedule},
    step_result::{Moved, OrphanEnd, PackFailure, Packed},
    storage::Storage,
    sweeps::Sweeps,
};
pub use self::{
    effect::{Effect, Shipped},
    episodes::Order,
    event::{Event, LookedBack, Scanned},
    limits::SMALL_BYTES,
    notice::Notice,
    overview::Tally,
    settings::Settings,
};
use crate::{
    model::episode::EpisodeId,
    ship::outcome::{Attempt, Fault, Outcome},
};

/// The shipper's decisions, as a value.
#[derive(Debug)]
pub struct Machine {
    context: Context,
    episodes: Episodes,
    destination: Destination,
    schedule: Schedule,
    storage: Storage,
    reconcile: Reconcile,
    sweeps: Sweeps,
    look_back: LookBack,
}

impl Machine {
    /// A machine that knows nothing and looks everywhere first.
    #[must_use]
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self {
            destination: Destination::new(settings.once, now),
            context: Context::new(settings, now),
            episodes: Episodes::new(now),
            schedule: Schedule::default(),
            storage: Storage::default(),
            reconcile: Reconcile::new(now),
            sweeps: Sweeps::new(now),
            look_back: LookBack::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event, now: Duration) {
        self.context.advance(now);
        self.hear(event);
        self.wake_due();
        self.note_what_hangs();
        if !self.context.is_stopping() {
            self.take_turns();
        }
    }

    fn hear(&mut self, event: Event) {
        let Self {
            context: cx,
            episodes,
            ..
        } = self;
        let now = cx.now();
        match event {
            Event::Hinted(id) => episodes.hint(&id, cx),
            // What was lost may have been the end of a watched folder, and its name in use again.
            Event::HintsLost | Event::WatchesLost => {
                episodes.distrust_watches();
                self.reconcile.look_everywhere(cx);
            }
            Event::Looked(id, look) => {
                cx.look_ended();
                let again = episodes.step(&id, cx, |episode, cx| episode.looked(&id, look, cx));
                if again == Some(true) {
                    episodes.hint(&id, cx);
                }
            }
            Event::Scanned(found) => {
                self.reconcile.ended(cx);
                episodes.scanned(found, self.reconcile.is_blind(), cx);
            }
            Event::Checked(id, check) => {
                self.schedule.packing_ended(&id);
                episodes.step(&id, cx, |episode, cx| episode.checked(&id, check, cx));
            }
            Event::Packed(id, result) => self.packed(&id, result),
            Event::Persisted(id, result) => {
                cx.disk_step_ended();
                episodes.step(&id, cx, |episode, cx| episode.persisted(&id, result, cx));
            }
            // Nothing waits for it here.
            Event::Discarded(_) | Event::Deadline => {}
            Event::Growing(id) => self.schedule.grows(&id),
            Event::GrowingSent(id, goes_on) => {
                self.schedule.growing_ended(&id);
                // Else it keeps its slot until it is packed, which is now.
                if !goes_on {
                    self.schedule.leaves_its_slot(&id);
                }
            }
            Event::WholeSent(id) => self.schedule.whole_sent(&id, now),
            Event::Attempted(id, attempt) => self.attempted(&id, &attempt),
            Event::Retired(id, moved) => self.retired(&id, moved),
            Event::Quarantined(id, moved) => {
                cx.disk_step_ended();
                episodes.step(&id, cx, |episode, cx| episode.quarantined(&id, moved, cx));
            }
            Event::Finished(id, moved) => {
                cx.disk_step_ended();
                episodes.step(&id, cx, |episode, cx| episode.finished(&id, moved, cx));
            }
            Event::OrphanSettled(id, end) => self.orphan_settled(&id, end),
            Event::PutAside(_) => cx.count_last_copy(),
            Event::Swept(done) => self.sweeps.ended(done, cx),
            Event::SpaceFreed(enough) => {
                for id in self.storage.relieved(enough, cx) {
                    episodes.step(&id, cx, |episode, cx| episode.room_made(&id, cx));
                }
            }
            Event::LookedBack(looked) => self.look_back.ended(looked, cx),
            Event::Watching(can) => {
                if self.reconcile.watching(can, cx) {
                    episodes.distrust_watches();
                }
            }
            Event::Configured {
                settings,
                elsewhere,
            } => self.configured(settings, elsewhere),
            Event::ClockRead(time) => {
                let has_closed = self.destination.gate_mut().clock_read(time, cx);
                self.stand_still_where(has_closed);
            }
            Event::Stop => {
                cx.stop();
                // What it comes to is sent by the next process.
                for id in self.schedule.give_up_growing() {
                    self.context.perform(Effect::Cancel(id));
                }
                self.cancel_what_stands_still();
            }
        }
    }

    fn packed(&mut self, id: &EpisodeId, result: Result<Packed, PackFailure>) {
        let cx = &mut self.context;
        self.schedule.packing_ended(id);
        if let (Err(failure), Some(_)) = (&result, self.episodes.get(id)) {
            self.storage.pack_failed(id, failure, cx);
        }
        let step =
            |episode: &mut episode::Episode, cx: &mut Context| episode.packed(id, result, cx);
        if self.episodes.step(id, cx, step) == Some(true) {
            self.storage.archive_written();
        }
    }

    /// The receiver answered, or something in between, or nothing did.
    fn attempted(&mut self, id: &EpisodeId, attempt: &Attempt) {
        let Self {
            context: cx,
            episodes,
            destination,
            ..
        } = self;
        self.schedule.upload_ended(id);
        if matches!(&attempt.outcome, Outcome::Answered(answer) if receivers_clock(answer).is_some())
        {
            self.sweeps.hear_date(cx.now());
        }
        let is_delivered = episodes.step(id, cx, |episode, cx| {
            let Some(packed) = episode.sending_ended() else {
                return false;
            };
            if let Outcome::Failed(Fault::Stale(stale)) = &attempt.outcome {
                episode.not_as_packed(id, packed, stale.clone(), cx);
                return false;
            }
            let is_untrusted = episode.is_untrusted();
            let history = episode.history_mut();
            let course =
                destination.attempted(id, &packed.facts, attempt, history, is_untrusted, cx);
            episode.had_its_turn(cx);
            let is_delivered = matches!(course, episode::Course::Delivered(_));
            episode.follow(id, packed, course, cx);
            is_delivered
        });
        if is_delivered == Some(true) {
            self.schedule.taken(cx.now());
            for id in destination.take_released() {
                episodes.step(&id, cx, |episode, _| episode.send_again());
            }
        }
    }

    fn retired(&mut self, id: &EpisodeId, moved: Moved) {
        let cx = &mut self.context;
        cx.disk_step_ended();
        let is_retiring =
            |episode: &episode::Episode| matches!(episode.stage(), episode::Stage::Retiring(..));
        if !self.episodes.get(id).is_some_and(is_retiring) {
            return;
        }
        let mut need = None;
        match &moved {
            Moved::To(path) | Moved::Leaving(path) => {
                self.storage.shipped(cx);
                self.look_back.later(id, path.clone(), cx.now());
            }
            Moved::NoRoom { need_bytes, .. } => need = Some(*need_bytes),
            Moved::Changed
            | Moved::Open { .. }
            | Moved::Gone
            | Moved::Failed(_)
            | Moved::CannotHold(_) => {}
        }
        let is_first = self.episodes.step(id, cx, |episode, cx| {
            episode.retired(id, moved, cx);
            episode.local_failures() == 1
        });
        if let Some(need_bytes) = need {
            let is_first = is_first == Some(true);
            self.storage.needs(id, need_bytes, is_first, cx);
        }
    }

    fn orphan_settled(&mut self, id: &EpisodeId, end: OrphanEnd) {
        let cx = &mut self.context;
        cx.disk_step_ended();
        let unsettled = match end {
            OrphanEnd::Settled => None,
            OrphanEnd::LastCopy => {
                cx.count_last_copy();
                None
            }
            OrphanEnd::Unsettled(why) => Some(why),
        };
        let is_unsettled = unsettled.is_some();
        let waited = self.episodes.step(id, cx, |episode, cx| {
            cx.orphan_settled(id);
            let waited = matches!(episode.stage(), episode::Stage::Sealed);
            episode.orphan_settled(id, unsettled, cx);
            waited
        });
        cx.orphan_settled(id);
        if is_unsettled && waited != Some(true) {
            cx.count_unseen(1);
        }
    }

    /// The operator has changed something: what waited for that waits no longer. `elsewhere`: the
    /// receiver is another one.
    fn configured(&mut self, settings: Settings, elsewhere: bool) {
        let cx = &mut self.context;
        let trusted = cx.settings().trust();
        if cx.settings().order != settings.order {
            self.episodes.turn_round();
        }
        cx.configure(settings);
        let now = cx.now();
        self.reconcile.configured(cx);
        self.sweeps.within(cx.settings().sweep_interval, now);
        self.destination.configured(elsewhere, now);
        self.episodes.step_all(cx, |episode, _| {
            episode.configured(elsewhere, trusted, now);
        });
    }

    fn stand_still_where(&mut self, has_closed: bool) {
        if has_closed {
            let cx = &mut self.context;
            self.episodes
                .step_all(cx, |episode, _| episode.stand_still());
        }
    }

    /// What stands still cannot end within a grace.
    fn cancel_what_stands_still(&mut self) {
        if self.destination.gate().closed_until().is_some() {
            for id in self.episodes.ids_where(episode::Episode::is_sending) {
                self.context.perform(Effect::Cancel(id));
            }
        }
    }

    fn wake_due(&mut self) {
        let cx = &mut self.context;
        while let Some(id) = self.episodes.next_to_wake(cx.now()) {
            self.episodes
                .step(&id, cx, |episode, cx| episode.woken(&id, cx));
        }
    }

    fn note_what_hangs(&mut self) {
        let cx = &mut self.context;
        let hanging: Vec<_> = self.schedule.hanging(cx.now()).cloned().collect();
        for id in hanging {
            self.episodes
                .step(&id, cx, |episode, cx| episode.note_that_it_hangs(&id, cx));
        }
    }

    /// Begins what is due, and gives the free slots away.
    fn take_turns(&mut self) {
        let cx = &mut self.context;
        if self.reconcile.begin_if_due(cx) {
            self.episodes.scan_begins();
            self.storage.look(cx);
        }
        let has_closed = self.destination.gate_mut().look_at_the_clock(cx);
        self.stand_still_where(has_closed);
        let cx = &mut self.context;
        if self.sweeps.begin_if_due(cx) {
            self.storage.clean_up_begins();
        }
        self.look_back.begin_if_due(cx);
        self.go_on_with_what_grew();
        loop {
            while let Some((lane, id)) = self.schedule.next_to_send(self.circumstances()) {
                self.send(&id, lane);
            }
            let Some(id) = self.schedule.yields(self.circumstances()) else {
                break;
            };
            self.schedule.leaves_its_slot(&id);
            self.context.perform(Effect::Cancel(id));
        }
        while let Some(id) = self.schedule.next_growing(self.circumstances()) {
            self.schedule.growing_begins(&id, self.context.now());
            self.context.perform(Effect::SendGrowing(id));
        }
        while let Some((lane, id)) = self.schedule.next_to_pack(self.circumstances()) {
            self.prepare(&id, lane);
        }
    }

    /// What was sent while it was packed goes on in its slot, or leaves it.
    fn go_on_with_what_grew(&mut self) {
        while let Some(after) = self.schedule.after_growing(self.circumstances()) {
            match after {
                AfterGrowing::Send(id) => {
                    self.schedule.leaves_its_slot(&id);
                    self.send(&id, Lane::Any);
                }
                AfterGrowing::GiveUp(id) => self.schedule.leaves_its_slot(&id),
            }
        }
    }

    fn send(&mut self, id: &EpisodeId, lane: Lane) {
        let by = self.circumstances();
        let is_large = by.is_large(id);
        let probe = by
            .hold
            .map_or(Probe::Tried, |hold| self.schedule.probe(id, hold.since, by));
        let cx = &mut self.context;
        self.destination.sent(id, probe, cx);
        self.schedule.upload_begins(id, lane, is_large, cx.now());
        let deliveries = self.destination.deliveries();
        self.episodes
            .step(id, cx, |episode, cx| episode.send(id, deliveries, cx));
    }

    /// Packs it, or looks whether its archive still fits.
    fn prepare(&mut self, id: &EpisodeId, lane: Lane) {
        let has_gathered_enough = schedule::has_gathered_enough(self.circumstances());
        let cx = &mut self.context;
        let now = cx.now();
        let is_small_only = lane == Lane::SmallOnly;
        let has_room = self.storage.has_room(now) && !(is_small_only && has_gathered_enough);
        let most_bytes = is_small_only.then_some(SMALL_BYTES);
        let is_large = self.episodes.step(id, cx, |episode, cx| {
            if episode.preparation().is_check() {
                episode.check(id, cx);
            } else {
                episode.pack(id, most_bytes, has_room, cx);
            }
            episode.is_large_to_pack()
        });
        self.schedule
            .packing_begins(id, lane, is_large == Some(true), now);
    }

    fn circumstances(&self) -> Circumstances<'_> {
        let settings = self.context.settings();
        let now = self.context.now();
        Circumstances {
            episodes: &self.episodes,
            settings,
            now,
            hold: self.destination.hold(),
            is_closed: self.destination.gate().is_closed(),
            is_limited: self.destination.gate().is_limited(),
            uploads_at_once: self.destination.uploads_at_once(settings.concurrency),
            next_upload: self.destination.next_upload(),
            packing_paused_until: self.storage.paused_until(now),
            moves_are_behind: self.context.moves_are_behind(),
        }
    }

    /// The next thing to do; ask until there is none.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.context.next_effect()
    }

    /// When to call `handle` with [`Event::Deadline`] though nothing happened; `None` where nothing
    /// is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.context.is_stopping() {
            return None;
        }
        let by = self.circumstances();
        let wake = self.episodes.next_wake();
        let clock = self.destination.gate().deadline();
        let [wake, clock, turns, sweep, look_back] = if self.context.is_once() {
            // Only what keeps an archive safe beside its upload; rests are left for another time.
            let is_sending = self.schedule.uploads() > 0;
            let [wake, clock] = [wake, clock].map(|at| at.filter(|_| is_sending));
            [wake, clock, self.schedule.lanes_deadline(by), None, None]
        } else {
            let (sweep, look_back) = (self.sweeps.deadline(), self.look_back.deadline());
            [
                wake,
                clock,
                self.schedule.next_deadline(by),
                sweep,
                look_back,
            ]
        };
        [
            wake,
            clock,
            turns,
            sweep,
            look_back,
            self.reconcile.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Nothing is under way (and, in one pass, nothing more would begin).
    #[must_use]
    pub fn idle(&self) -> bool {
        self.reconcile.is_idle(&self.context)
            && !self.sweeps.under_way()
            && self.storage.is_idle()
            && !self.look_back.under_way()
            && !self.destination.gate().asked()
            && self.schedule.is_idle()
            && self.context.is_idle()
    }

    /// What `ship --once` reports: what was done, and what each episode that is left waits for.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let is_held = self.destination.hold().is_some();
        let tally = self.context.tally();
        tally.with_what_is_left(&self.episodes, is_held)
    }

    /// The destination, for the daemon's report.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// How it stands, with up to `most` episodes. Costs a walk over all of them.
    #[must_use]
    pub fn overview(&self, most: usize, now: Duration) -> Overview {
        self.sources().overview(most, now)
    }

    /// Counts the episodes.
    #[must_use]
    pub fn census(&self) -> Census {
        self.sources().census()
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            cx: &self.context,
            episodes: &self.episodes,
            destination: &self.destination,
            schedule: &self.schedule,
            storage: &self.storage,
            reconcile: &self.reconcile,
        }
    }
}
