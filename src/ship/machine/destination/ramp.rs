//! How fast a destination is sent to that works again.
//!
//! ```text
//!   held ──ends──▶ one at a time, with pauses that halve ──▶ two at once, ──▶ full speed
//!                         │ at each delivery                 three ...          │
//!                         │                                                     │
//!                         └──refused meanwhile──▶ careful: half as fast, ◀──────┘ refused again,
//!                                                 and slower from one to more     then or later
//! ```
//!
//! A fleet whose receiver was away comes back to it within a minute, each host with all that has
//! gathered. One host alone is back at full speed after ten deliveries. Where there is not enough
//! for all, each finds out what is left for it: half as fast where it was refused, and faster where
//! it was served, from then on by one more at once for as many deliveries as full speed has slots.
//! A refusal costs more than it seems, since the second in a row holds the destination: of six
//! attempts less than one is refused (`simulation/fleet.rs`).
//!
//! A hold that is known from one episode alone is no outage, nor is one whose failures are known to
//! be those episodes' own; and none is slowed down after it, nor by what fails and does not speak
//! for a destination that has too much to do (`signs.rs`).

use std::time::Duration;

use super::{
    backoff::{Jitter, WEATHER_PROBE},
    circuit_breaker::Hold,
    signs::Signs,
};
use crate::ship::machine::limits::{BRIEF, SHORTEST_WAIT};

/// Where on its way up to full speed the sending is.
#[derive(Debug, Default)]
pub(crate) struct Ramp {
    /// `None` at full speed.
    climb: Option<Climb>,
    /// Refused on the way up, by this receiver.
    careful: bool,
}

#[derive(Debug, Clone, Copy)]
struct Climb {
    /// No pause is longer; zero once there are none any more.
    ceiling: Duration,
    /// What was delivered on the way up, or counts as if it were: as many as full speed has slots
    /// make one slot.
    delivered: usize,
    /// Not before then is the next one sent.
    next: Duration,
}

impl Ramp {
    /// A hold has ended.
    pub(crate) fn held_until(
        &mut self,
        now: Duration,
        hold: &Hold,
        signs: &Signs,
        slots: usize,
        jitter: &mut Jitter,
    ) {
        if hold.suspect.is_some() || signs.of_the_episodes() {
            return;
        }
        let before = self.climb.map_or(Duration::ZERO, |climb| climb.ceiling);
        let ceiling = if self.careful {
            before.max(SHORTEST_WAIT)
        } else {
            BRIEF
        };
        self.climb = Some(Climb {
            ceiling,
            delivered: slots,
            next: now + pause(ceiling, jitter),
        });
    }

    /// One more was delivered; `slots` is full speed.
    pub(crate) fn delivered(&mut self, slots: usize) {
        let Some(climb) = &mut self.climb else {
            return;
        };
        if climb.ceiling > Duration::ZERO {
            climb.ceiling /= 2;
            if climb.ceiling < SHORTEST_WAIT {
                climb.ceiling = Duration::ZERO;
            }
        } else {
            climb.delivered += if self.careful { 1 } else { slots };
        }
        if climb.delivered >= slots * slots && climb.ceiling.is_zero() {
            self.climb = None;
        }
    }

    /// The weather met one while the destination was not held; `slots` is full speed.
    pub(crate) fn refused(&mut self, signs: &Signs, slots: usize) {
        // One at full speed is that episode's own affair; a second in a row holds the destination.
        if !signs.of_too_much() || (self.climb.is_none() && !self.careful) {
            return;
        }
        self.careful = true;
        let at_full = Climb {
            ceiling: Duration::ZERO,
            delivered: slots * slots,
            next: Duration::ZERO,
        };
        let climb = self.climb.get_or_insert(at_full);
        if climb.delivered > slots {
            climb.delivered = (climb.delivered / 2).max(slots);
        } else {
            climb.ceiling = (climb.ceiling * 2).clamp(SHORTEST_WAIT, WEATHER_PROBE.cap);
        }
    }

    /// One was sent.
    pub(crate) fn sent(&mut self, now: Duration, jitter: &mut Jitter) {
        if let Some(climb) = &mut self.climb {
            climb.next = now + pause(climb.ceiling, jitter);
        }
    }

    /// How many at once; never more than `slots`, and never none.
    pub(crate) fn slots(&self, slots: usize) -> usize {
        self.climb
            .map_or(slots, |climb| (climb.delivered / slots).clamp(1, slots))
    }

    /// What it keeps waiting for now: how many go at once, and when the next one may; `None` at
    /// full speed.
    pub(crate) fn shown(&self, slots: usize, now: Duration) -> Option<(usize, Duration)> {
        let climb = self.climb?;
        Some((self.slots(slots), climb.next.saturating_sub(now)))
    }

    /// Not before then is the next one sent; `None` at any time.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.climb.map(|climb| climb.next)
    }
}

fn pause(ceiling: Duration, jitter: &mut Jitter) -> Duration {
    let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        Duration::ZERO
    } else {
        Duration::from_millis(jitter.draw() % millis)
    }
}
