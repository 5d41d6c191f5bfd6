//! How fast those that were not tried yet follow one another while the destination is held.
//!
//! ```text
//!   a few at once ──▶ one after another with a short pause
//!     ──where it looks like the destination──▶ seconds apart, and ever more
//! ```

use std::time::Duration;

use super::backoff::{Backoff, FAULT_PROBE, LONGEST_PAUSE};
use crate::ship::machine::limits::{PAUSE, SOON};

/// So many are tried at once, one after another, while it is held for bad weather.
const AT_ONCE: u32 = 4;
/// And so many where they are refused: that is no sign of a destination that has too much to do.
/// The same in one pass, which has no other time.
const AT_ONCE_WHERE_REFUSED: u32 = 16;
/// Beyond these, one is tried each time that this has gone by: what something in between refuses,
/// however many, must not keep the others from being found, and costs them hardly more than its own
/// turn.
const EVERY: Duration = SOON;
/// The same where it looks like the destination, which refuses, or has too much to do.
const EVERY_WHERE_REFUSED: Duration = Duration::from_secs(2);
const EVERY_IN_BAD_WEATHER: Duration = PAUSE;
/// Where nothing was delivered for so long, it does, whatever the answers are.
const NOTHING_FOR_LONG: Duration = LONGEST_PAUSE;
/// After each so many of those the pause grows by as much again: it looks more and more like the
/// destination.
const PER_PACE: u32 = 64;

/// Those that were tried in one hold, though they had not been.
#[derive(Debug, Clone)]
pub(crate) struct Untried {
    held_since: Duration,
    /// So many go before their time.
    most_at_once: u32,
    probes: u32,
    /// Beyond those, the place of the next one.
    from: Duration,
    /// The last failure speaks for a destination that has too much to do.
    pub(crate) too_much: bool,
    went_slowly: u32,
}

impl Untried {
    pub(crate) fn new(one_pass: bool, schedule: Backoff, now: Duration) -> Self {
        let refused = one_pass || schedule == FAULT_PROBE;
        let most_at_once = if refused {
            AT_ONCE_WHERE_REFUSED
        } else {
            AT_ONCE
        };
        Self {
            held_since: now,
            most_at_once,
            probes: 0,
            from: now,
            too_much: false,
            went_slowly: 0,
        }
    }

    /// Whether the next one goes before its time.
    pub(crate) fn goes_at_once(&self) -> bool {
        self.probes < self.most_at_once
    }

    /// Else its place.
    pub(crate) fn from(&self) -> Duration {
        self.from
    }

    /// One is on its way.
    pub(crate) fn went(&mut self, schedule: Backoff, now: Duration) {
        self.probes += 1;
        let long = now.saturating_sub(self.held_since) > NOTHING_FOR_LONG;
        let mut pause = EVERY;
        if self.too_much || long {
            self.went_slowly += 1;
            let every = if schedule == FAULT_PROBE {
                EVERY_WHERE_REFUSED
            } else {
                EVERY_IN_BAD_WEATHER
            };
            pause = every * (1 + self.went_slowly / PER_PACE);
        }
        self.from = now + pause;
    }

    /// A person has mended something.
    pub(crate) fn begin_again(&mut self) {
        self.probes = 0;
    }
}
