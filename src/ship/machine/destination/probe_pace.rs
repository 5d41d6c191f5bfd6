//! How fast those that were not tried yet follow one another while the destination is held.
//!
//! ```text
//!   a few at once ──▶ one after another with a short pause
//!     ──where it looks like the destination──▶ seconds apart, and more after each so many
//! ```

use std::time::Duration;

use super::backoff::{Backoff, FAULT_PROBE, LONGEST_PAUSE};
use crate::ship::machine::limits::{FEW, MANY, PAUSE, SOME, SOON};

/// Where nothing was delivered for so long, it looks like the destination, whatever the answers
/// are.
const NOTHING_FOR_LONG: Duration = LONGEST_PAUSE;

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
        // Where they are refused it has not too much to do, and one pass has no other time.
        let refused = one_pass || schedule == FAULT_PROBE;
        Self {
            held_since: now,
            most_at_once: if refused { SOME } else { FEW },
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

    /// One is on its way. What something in between refuses, however many, must not keep the others
    /// from being found, and costs them hardly more than its own turn.
    pub(crate) fn went(&mut self, now: Duration) {
        self.probes += 1;
        let long = now.saturating_sub(self.held_since) > NOTHING_FOR_LONG;
        let mut pause = SOON;
        if self.too_much || long {
            self.went_slowly += 1;
            pause = PAUSE * (1 + self.went_slowly / MANY);
        }
        self.from = now + pause;
    }

    /// A person has mended something.
    pub(crate) fn begin_again(&mut self) {
        self.probes = 0;
    }
}
