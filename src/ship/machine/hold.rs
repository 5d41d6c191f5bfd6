//! Whether the destination is believed to work.
//!
//! ```text
//!           a fault of the destination, or two episodes in a row met by the weather
//!   clear ────────────────────────────────────────────────────────────────────────▶ held
//!     ▲                                                                              │ one probe at a time, another
//!     └───────────────── a receiver answered for an episode ◀──────────────────────┘ episode each time, backing off
//! ```
//!
//! One episode's word is not enough to hold up the rest. While nobody else has been refused since the hold began, another
//! episode is tried as soon as there is one: a second opinion. And an episode that is refused while others are
//! delivered is no fault of the destination: it waits alone. That shows in the count of deliveries, which is why it
//! is kept here.

use std::time::Duration;

use super::{
    backoff::{FAULT_PROBE, Jitter, Schedule, WEATHER_PROBE},
    verdict::Refusal,
};
use crate::episode::EpisodeId;

/// The destination, as the attempts of this process have found it.
#[derive(Debug, Default)]
pub struct Destination {
    deliveries: u64,
    /// The last one that the weather met, since a receiver last answered.
    last_met: Option<EpisodeId>,
    /// The last one that something which is no receiver refused, and with what status, since the last delivery.
    last_refused: Option<(EpisodeId, Option<u16>)>,
    hold: Option<Hold>,
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
    /// Whose failure began it.
    first: EpisodeId,
    /// Another one failed too.
    corroborated: bool,
    schedule: Schedule,
    failures: u32,
}

impl Destination {
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

    /// A receiver took an episode, or said what is wrong with it. Returns the hold that this ended.
    pub fn answered(&mut self, delivered: bool) -> Option<Hold> {
        self.last_met = None;
        if delivered {
            self.deliveries += 1;
            self.last_refused = None;
        }
        self.hold.take()
    }

    /// The destination is at fault.
    pub fn at_fault(&mut self, id: &EpisodeId, why: &Refusal, now: Duration, jitter: &mut Jitter) {
        self.hold_for(id, why, FAULT_PROBE, now).failed(id, why, None, now, jitter);
    }

    /// Something that is no receiver refused. True where this is the second, different episode in a row that is refused
    /// alike: then it is the destination, and it is held.
    pub fn refused(&mut self, id: &EpisodeId, why: &Refusal, now: Duration, jitter: &mut Jitter) -> bool {
        let before = self.last_refused.replace((id.clone(), why.status));
        if let Some((other, status)) = before
            && other != *id
            && status == why.status
        {
            self.hold_for(&other, why, FAULT_PROBE, now);
        }
        if let Some(hold) = &mut self.hold {
            hold.failed(id, why, None, now, jitter);
        }
        self.hold.is_some()
    }

    /// The weather. True where the destination is held for it: two different episodes were met by it with no answer between.
    pub fn weather(
        &mut self,
        id: &EpisodeId,
        why: &Refusal,
        retry_after: Option<Duration>,
        now: Duration,
        jitter: &mut Jitter,
    ) -> bool {
        let before = self.last_met.replace(id.clone());
        if let Some(other) = before.filter(|other| other != id) {
            self.hold_for(&other, why, WEATHER_PROBE, now);
        }
        if let Some(hold) = &mut self.hold {
            hold.failed(id, why, retry_after, now, jitter);
        }
        self.hold.is_some()
    }

    /// A probe is on its way: the next one is another episode.
    pub fn probing(&mut self, id: &EpisodeId) {
        if let Some(hold) = &mut self.hold {
            hold.last_probe = id.clone();
        }
    }

    fn hold_for(&mut self, id: &EpisodeId, why: &Refusal, schedule: Schedule, now: Duration) -> &mut Hold {
        self.hold.get_or_insert_with(|| Hold {
            since: now,
            why: why.clone(),
            next_probe: now,
            last_probe: id.clone(),
            first: id.clone(),
            corroborated: false,
            schedule,
            failures: 0,
        })
    }
}

impl Hold {
    /// Whether this episode may be tried though no probe is due: nobody but another one has been refused yet.
    #[must_use]
    pub fn wants_second_opinion_of(&self, id: &EpisodeId) -> bool {
        !self.corroborated && self.first != *id
    }

    fn failed(
        &mut self,
        id: &EpisodeId,
        why: &Refusal,
        retry_after: Option<Duration>,
        now: Duration,
        jitter: &mut Jitter,
    ) {
        self.corroborated |= self.first != *id;
        // What was under way when the hold began says nothing new.
        if self.failures == 0 || self.last_probe == *id {
            self.failures += 1;
            self.why = why.clone();
            let wait = jitter.wait(self.schedule, self.failures);
            self.next_probe = now + wait.max(retry_after.unwrap_or_default());
        }
    }
}
