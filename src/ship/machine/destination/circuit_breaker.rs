//! Whether the destination is believed to work.
//!
//! ```text
//!           a fault of the destination, or two attempts in a row met by the weather
//!   clear ────────────────────────────────────────────────────────────────────────▶ held
//!     ▲               one probe at a time, another episode each time, backing off    │
//!     └───────────────── a receiver answered for an episode ◀────────────────────────┘
//! ```
//!
//! An episode that is refused while others are delivered is no fault of the destination: it waits
//! alone. That shows in the count of deliveries, which is why the count is kept here.
//!
//! Nor does one episode speak for the destination. As long as every failure was of the same one,
//! only that one is paced by the hold: any other is tried at once, one at a time, whether the
//! suspect is on its way just now or not.

mod rejections;

use std::time::Duration;

use self::rejections::Rejections;
use super::{
    backoff::{Backoff, FAULT_PROBE, Jitter, WEATHER_PROBE},
    probe_pace::Untried,
    signs::Signs,
    verdict::Refusal,
};
use crate::{
    model::episode::EpisodeId,
    ship::{
        machine::limits::{LOOK_EVERY, TWICE},
        outcome::{Fault, Outcome, Phase},
    },
};

/// However long a silence something in between asks for, one that was not tried is tried each time
/// that this has gone by: it may ask only those for it that it refuses. Promised in
/// docs/architecture.md: "one episode that was not tried goes each minute all the same".
const UNTRIED_EVERY_IN_SILENCE: Duration = LOOK_EVERY;
/// Beyond these, what was sealed since the hold began is tried at once: two, and one more each time
/// that this has gone by.
const NEW_EVERY: Duration = LOOK_EVERY;

/// Whom a silence binds that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binds {
    /// A receiver spoke.
    All,
    /// It is not known who spoke. One that was not tried goes each time that
    /// [`UNTRIED_EVERY_IN_SILENCE`] has gone by, and what is sealed meanwhile in its places.
    AllForAMinute,
    /// Others were delivered here, and what is answered so is those episodes' own affair, for all
    /// that is known.
    WhatWasTried,
}

/// A silence that `Retry-After` asked for (RFC 9110, section 10.2.3).
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// For how long.
    pub lasts: Duration,
    /// By a receiver of ours, in its own words.
    pub by_ours: bool,
}

/// What a hold knows of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It was tried in vain.
    Tried,
    /// It was not tried yet.
    Untried,
    /// It was not, and was sealed since the hold began.
    SealedSince,
}

/// The destination, as the attempts of this process have found it.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    deliveries: u64,
    transient_streak: u32,
    /// Whom the weather met last.
    last_met: Option<EpisodeId>,
    /// The last one whose bytes did not arrive as they were sent, since the last delivery.
    last_altered: Option<EpisodeId>,
    /// The last one that something which is no receiver refused, and with what status, since the
    /// last delivery.
    last_refused: Option<(EpisodeId, Option<u16>)>,
    /// A HEAD that was to vouch for a 200 has come to nothing since the last delivery.
    head_failed: bool,
    rejections: Rejections,
    hold: Option<Hold>,
    one_pass: bool,
    /// A server was reached by the last attempt. Where none is, no other episode fares better.
    reached: bool,
    signs: Signs,
}

/// A destination that is not sent to, but for probes.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Since when.
    pub since: Duration,
    /// Why, as last heard.
    pub why: Refusal,
    /// Not before then is the next probe sent.
    pub next_probe: Duration,
    /// Which episode went last; the next probe is another one, where there is another.
    pub last_probe: EpisodeId,
    /// The one episode that all of this is known from; `None` where two agree.
    pub suspect: Option<EpisodeId>,
    /// What was last heard is bad weather, which passes by itself.
    pub weather: bool,
    schedule: Backoff,
    failures: u32,
    /// What was tried is silent until then, as was asked.
    silent_until: Duration,
    /// What was not tried is: as long where a receiver asked for it.
    untried_silent_until: Duration,
    /// What was sealed since it began is, where a receiver asked for it.
    new_silent_until: Duration,
    untried: Untried,
    /// The last one waited for its time: its failure makes the next one wait longer.
    last_was_due: bool,
    /// The place of the next new one; up to two may be taken before their time.
    new_from: Duration,
    /// Another one might fare better, and there is time for it.
    reached: bool,
    /// What the last failure would be probed by.
    latest: Backoff,
}

impl CircuitBreaker {
    /// One of which nothing is known.
    #[must_use]
    pub fn unknown(one_pass: bool) -> Self {
        Self {
            one_pass,
            ..Self::default()
        }
    }

    /// How many episodes a receiver has answered for so far.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// The hold, where there is one.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    pub(crate) fn signs(&self) -> &Signs {
        &self.signs
    }

    pub(crate) fn signs_mut(&mut self) -> &mut Signs {
        &mut self.signs
    }

    /// How an attempt ended, whatever it means.
    pub fn heard(&mut self, outcome: &Outcome, delivered: bool) {
        if delivered {
            self.signs.delivered();
        } else {
            self.signs.heard(outcome, self.rejections.ours);
        }
        self.reached = match outcome {
            Outcome::Answered(_) => true,
            Outcome::Failed(fault) => match fault {
                Fault::Lost(_)
                | Fault::Stale(_)
                | Fault::TimedOut(Phase::Idle | Phase::Answer)
                | Fault::Archive(_)
                | Fault::Cancelled => true,
                Fault::UnknownName(_)
                | Fault::Unreachable(_)
                | Fault::Tls(_)
                | Fault::TimedOut(Phase::Connect)
                | Fault::Request(_) => false,
            },
        };
    }

    /// Whether a HEAD that was to vouch for a 200 came to nothing before, of any episode and with
    /// none delivered since; from now on, where one just has.
    pub(crate) fn head_failed_before(&mut self, just_now: bool) -> bool {
        let before = self.head_failed;
        self.head_failed |= just_now;
        before
    }

    /// A receiver took an episode, or said what is wrong with it. Returns the hold that this ended.
    pub fn answered(&mut self, delivered: bool) -> Option<Hold> {
        self.transient_streak = 0;
        if delivered {
            self.deliveries += 1;
            self.last_refused = None;
            self.last_altered = None;
            self.head_failed = false;
            self.rejections.delivered = true;
            (self.rejections.alike, self.rejections.by) = Default::default();
        }
        self.hold.take()
    }

    /// The destination is at fault, as far as this one episode can tell.
    pub fn at_fault(&mut self, id: &EpisodeId, why: &Refusal, now: Duration, jitter: &mut Jitter) {
        self.hold_for(id, why, FAULT_PROBE, Some(id), now)
            .failed(id, why, now, jitter);
    }

    /// Something that is no receiver refused. True where this is the second, different episode in a
    /// row that is refused alike: then it is the destination, and it is held.
    pub fn refused(
        &mut self,
        id: &EpisodeId,
        why: &Refusal,
        now: Duration,
        jitter: &mut Jitter,
    ) -> bool {
        let alike = self
            .last_refused
            .as_ref()
            .is_some_and(|(other, status)| other != id && *status == why.status);
        self.last_refused = Some((id.clone(), why.status));
        if alike || self.hold.is_some() {
            self.hold_for(id, why, FAULT_PROBE, None, now)
                .failed(id, why, now, jitter);
        }
        self.hold.is_some()
    }

    /// What arrived was not what was sent. True where this is the second, different episode in a
    /// row: then the way alters everything, and it is held.
    pub fn altered(
        &mut self,
        id: &EpisodeId,
        why: &Refusal,
        now: Duration,
        jitter: &mut Jitter,
    ) -> bool {
        self.transient_streak = 0;
        let another = self
            .last_altered
            .replace(id.clone())
            .is_some_and(|other| other != *id);
        if another || self.hold.is_some() {
            self.hold_for(id, why, WEATHER_PROBE, None, now)
                .failed(id, why, now, jitter);
        }
        self.hold.is_some()
    }

    /// The weather. True where the destination is held for it.
    pub fn transient(
        &mut self,
        id: &EpisodeId,
        why: &Refusal,
        asked: Option<Silence>,
        now: Duration,
        jitter: &mut Jitter,
    ) -> bool {
        self.transient_streak += 1;
        let alone = self.last_met.replace(id.clone()).filter(|last| last == id);
        if self.hold.is_some() || self.transient_streak >= TWICE {
            // Where the receiver is ours, what speaks otherwise is before it. Elsewhere a page is,
            // and what is not known to speak for a destination with too much to do.
            let too_much = self.signs.of_too_much();
            let is_receivers = |asked: Silence| {
                asked.by_ours || (why.body.is_object() && !self.rejections.ours && too_much)
            };
            let binds = match asked {
                Some(asked) if is_receivers(asked) => Binds::All,
                _ if self.deliveries > 0 && !too_much => Binds::WhatWasTried,
                _ => Binds::AllForAMinute,
            };
            let hold = self.hold_for(id, why, WEATHER_PROBE, alone.as_ref(), now);
            hold.failed(id, why, now, jitter);
            if let Some(asked) = asked {
                hold.silence(asked.lasts, binds, now);
            }
        }
        self.hold.is_some()
    }

    /// A probe is on its way: the next one is another episode.
    pub fn probing(&mut self, id: &EpisodeId, probe: Probe, now: Duration) {
        if let Some(hold) = &mut self.hold {
            hold.last_probe = id.clone();
            hold.last_was_due = now >= hold.next_probe;
            match probe {
                Probe::Tried => {}
                Probe::SealedSince if hold.has_place_for_new(now) => {
                    hold.new_from = hold.new_from.max(now) + NEW_EVERY;
                }
                Probe::Untried | Probe::SealedSince => {
                    hold.untried.went(now);
                }
            }
        }
    }

    /// A person has changed something here: what is known of it may be true no longer, and is found
    /// out at once.
    pub fn mended(&mut self, now: Duration) {
        self.transient_streak = 0;
        self.last_refused = None;
        (self.rejections.alike, self.rejections.by) = Default::default();
        if let Some(hold) = &mut self.hold {
            hold.next_probe = now;
            hold.failures = 0;
            hold.untried.begin_again();
        }
    }

    fn hold_for(
        &mut self,
        id: &EpisodeId,
        why: &Refusal,
        schedule: Backoff,
        suspect: Option<&EpisodeId>,
        now: Duration,
    ) -> &mut Hold {
        let one_pass = self.one_pass;
        let hold = self.hold.get_or_insert_with(|| Hold {
            since: now,
            why: why.clone(),
            next_probe: now,
            last_probe: id.clone(),
            suspect: suspect.cloned(),
            weather: false,
            schedule,
            failures: 0,
            silent_until: now,
            untried_silent_until: now,
            new_silent_until: now,
            untried: Untried::new(one_pass, schedule, now),
            last_was_due: true,
            new_from: now,
            reached: false,
            latest: schedule,
        });
        hold.reached = self.reached && !one_pass;
        hold.untried.too_much = self.signs.of_too_much();
        hold.latest = schedule;
        hold
    }
}

impl Hold {
    /// Whether this one need not wait for the next probe's time: two that are bad look like a
    /// destination that is, and another one finds out. Beyond a few it is the destination.
    #[must_use]
    pub fn lets_through(&self, id: &EpisodeId, probe: Probe, now: Duration) -> bool {
        let another = self.suspect.as_ref().is_some_and(|suspect| suspect != id);
        let untried = || now >= self.untried_silent_until && self.has_place_for_untried(now);
        another
            || match probe {
                Probe::Tried => false,
                Probe::Untried => untried(),
                Probe::SealedSince => untried() || self.has_place_for_new(now),
            }
    }

    /// Whether any episode need not wait for that; `new`: something was sealed since this began.
    #[must_use]
    pub fn lets_any_through(&self, new: bool, now: Duration) -> bool {
        self.suspect.is_some()
            || self.has_place_for_untried(now)
            || (new && self.has_place_for_new(now))
    }

    fn has_place_for_untried(&self, now: Duration) -> bool {
        self.untried.goes_at_once() || self.place_for_untried().is_some_and(|at| at <= now)
    }

    /// When the next one that was not tried may go, beyond those that go at once; `None` where no
    /// other would fare better.
    #[must_use]
    pub fn place_for_untried(&self) -> Option<Duration> {
        self.reached
            .then(|| self.untried.from().max(self.untried_silent_until))
    }

    fn has_place_for_new(&self, now: Duration) -> bool {
        self.place_for_new() <= now
    }

    /// When the next one that was sealed since may go.
    #[must_use]
    pub fn place_for_new(&self) -> Duration {
        self.new_from
            .saturating_sub(NEW_EVERY)
            .max(self.new_silent_until)
    }

    fn failed(&mut self, id: &EpisodeId, why: &Refusal, now: Duration, jitter: &mut Jitter) {
        if self.suspect.as_ref().is_some_and(|suspect| suspect != id) {
            self.suspect = None;
        }
        // What was under way when the hold began says nothing new.
        if self.failures == 0 || self.last_probe == *id {
            self.why = why.clone();
            self.weather = self.latest == WEATHER_PROBE;
            // Those that go before their time are a few, and their time comes none the later.
            if self.last_was_due {
                self.failures += 1;
                let wait = jitter.wait(self.schedule, self.failures);
                self.next_probe = now + wait;
            }
        }
        self.next_probe = self.next_probe.max(self.silent_until);
    }

    /// The longest silence that was asked for counts, whichever episode was told it.
    fn silence(&mut self, lasts: Duration, binds: Binds, now: Duration) {
        self.silent_until = self.silent_until.max(now + lasts);
        self.next_probe = self.next_probe.max(self.silent_until);
        let (untried, new) = match binds {
            Binds::All => (lasts, lasts),
            Binds::AllForAMinute => (lasts.min(UNTRIED_EVERY_IN_SILENCE), Duration::ZERO),
            Binds::WhatWasTried => (Duration::ZERO, Duration::ZERO),
        };
        self.new_silent_until = self.new_silent_until.max(now + new);
        self.untried_silent_until = self.untried_silent_until.max(now + untried);
    }
}
