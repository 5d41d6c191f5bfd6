//! How fast a destination is sent to that works again.
//!
//! ```text
//!   held ──ends──▶ one at a time, with pauses that halve ──▶ two at once, ──▶ full speed
//!                         │ at each delivery                 three ...          │
//!                         │                                                     │
//!                         └──refused meanwhile──▶ careful: half as fast, ◀──────┘ refused
//!                                                 and faster by half              soon after
//! ```
//!
//! A fleet whose receiver was away comes back to it within a minute, each host with all that has
//! gathered. One host alone is back at full speed after ten deliveries. Where there is not enough
//! for all, each finds out what is left for it: half as fast where it was refused, faster by half
//! where it was served. A refusal costs more than it seems, since the second in a row holds the
//! destination: of ten attempts about one is refused (`simulation/fleet.rs`).
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

/// So many deliveries at full speed, and none refused among them, and it is forgotten that there
/// was not enough for all.
const FORGOTTEN_AFTER: u32 = 100;
/// Of those that are refused between two deliveries so many slow the others down, and of those that
/// may fail by themselves half as many: what comes back from an outage together, and is refused by
/// something in between, however many, must not.
const MOST_COUNTED: u8 = 2;
/// Slots are counted in such parts, so that they can grow slowly.
const PARTS: usize = 8;

/// Where on its way up to full speed the sending is.
#[derive(Debug, Default)]
pub(crate) struct Ramp {
    /// `None` at full speed.
    climb: Option<Climb>,
    /// Refused on the way up, and not forgotten yet.
    careful: bool,
    delivered_at_full: u32,
    /// So many were refused since the last delivery; a few say all that more of them would.
    counted: u8,
}

#[derive(Debug, Clone, Copy)]
struct Climb {
    /// No pause is longer; zero once there are none any more.
    ceiling: Duration,
    /// How many at once, in parts.
    parts: usize,
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
            parts: PARTS,
            next: now + pause(ceiling, jitter),
        });
    }

    /// One more was delivered; `slots` is full speed.
    pub(crate) fn delivered(&mut self, slots: usize) {
        self.counted = 0;
        let Some(climb) = &mut self.climb else {
            self.delivered_at_full += 1;
            self.careful &= self.delivered_at_full < FORGOTTEN_AFTER;
            return;
        };
        if climb.ceiling > Duration::ZERO {
            climb.ceiling = if self.careful {
                climb.ceiling * 7 / 10
            } else {
                climb.ceiling / 2
            };
            if climb.ceiling < SHORTEST_WAIT {
                climb.ceiling = Duration::ZERO;
            }
        } else {
            climb.parts += if self.careful { 2 } else { PARTS };
        }
        if climb.parts >= slots * PARTS && climb.ceiling.is_zero() {
            self.climb = None;
            self.delivered_at_full = 0;
        }
    }

    /// The weather met one while the destination was not held; `slots` is full speed. `again`: it
    /// failed before, and others were delivered since.
    pub(crate) fn refused(&mut self, again: bool, signs: &Signs, slots: usize) {
        if !signs.of_too_much() {
            return;
        }
        self.delivered_at_full = 0;
        if self.counted
            >= if again {
                MOST_COUNTED / 2
            } else {
                MOST_COUNTED
            }
        {
            return;
        }
        self.counted += 1;
        if self.climb.is_none() && !self.careful {
            // One at full speed is that episode's own affair; a second in a row holds the
            // destination.
            return;
        }
        self.careful = true;
        let at_full = Climb {
            ceiling: Duration::ZERO,
            parts: slots * PARTS,
            next: Duration::ZERO,
        };
        let climb = self.climb.get_or_insert(at_full);
        if climb.parts > PARTS {
            climb.parts = (climb.parts / 2).max(PARTS);
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
            .map_or(slots, |climb| (climb.parts / PARTS).clamp(1, slots))
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
