//! How long to wait before trying again.
//!
//! Full jitter: a uniform draw between nothing and a ceiling that doubles with each failure up to a
//! cap, so that a fleet that failed together does not come back together ("Exponential Backoff And
//! Jitter", M. Brooker, AWS, 2015).

use std::time::Duration;

use crate::ship::machine::limits::{BRIEF, LOOK_EVERY, PAUSE, PERSIST_AFTER, SHORTEST_WAIT, SOON};

/// A ceiling that doubles from `base` to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling after the first failure.
    pub base: Duration,
    /// The highest ceiling.
    pub cap: Duration,
}

/// The longest pause where something has to be mended, or the weather keeps one from being
/// delivered. Promised in docs/architecture.md: "pauses up to 5 minutes".
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// One that is refused alone may wait longer. Promised in docs/architecture.md: "refused: stays,
/// its own pauses, up to an hour".
const HOUR: Duration = Duration::from_secs(3600);

/// One episode that the weather keeps from being delivered.
pub const TRANSIENT: Backoff = Backoff {
    base: BRIEF,
    cap: LONGEST_PAUSE,
};
/// One episode that goes on where it broke off, as long as each attempt gets further than the one
/// before.
pub const MOVING: Backoff = Backoff {
    base: SOON,
    cap: SOON,
};
/// One episode that is refused while others are delivered, or by something that is no receiver.
pub const REFUSED: Backoff = Backoff {
    base: PAUSE,
    cap: HOUR,
};
/// One episode that is still being written to after its marker appeared.
pub const SETTLING: Backoff = Backoff {
    base: PERSIST_AFTER,
    cap: LOOK_EVERY,
};
/// One episode of which a file is open for writing: most are closed within a moment.
pub const OPEN_FILE: Backoff = Backoff {
    base: SHORTEST_WAIT,
    cap: PAUSE,
};
/// One episode that our own disk or permissions keep from moving on.
pub const LOCAL: Backoff = Backoff {
    base: PAUSE,
    cap: LONGEST_PAUSE,
};
/// One episode that holds what the file system of its next folder cannot.
pub const UNHELD: Backoff = Backoff {
    base: LONGEST_PAUSE,
    cap: LONGEST_PAUSE,
};
/// The probes of a destination that is at fault: a person has to mend something there.
pub const FAULT_PROBE: Backoff = TRANSIENT;
/// The probes of a destination behind bad weather.
pub const WEATHER_PROBE: Backoff = Backoff {
    base: BRIEF,
    cap: LOOK_EVERY,
};

/// The machine's own stream of numbers: seeded from outside, so that a run can be replayed
/// (splitmix64; S. Vigna, 2015).
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// A stream that its seed determines.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The wait after `failures` failures in a row (1 after the first).
    pub fn wait(&mut self, schedule: Backoff, failures: u32) -> Duration {
        let ceiling = schedule.ceiling(failures);
        let millis = u64::try_from(ceiling.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        Duration::from_millis(self.draw() % millis).max(SHORTEST_WAIT)
    }
}

impl Backoff {
    /// The longest wait after `failures` failures in a row (1 after the first).
    #[must_use]
    pub fn ceiling(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_cap_and_stays_there() {
        let seconds = |n| TRANSIENT.ceiling(n).as_secs();
        assert_eq!(
            [seconds(0), seconds(1), seconds(2), seconds(3), seconds(9)],
            [1, 1, 2, 4, 256]
        );
        assert_eq!(
            [seconds(10), seconds(1000), seconds(u32::MAX)],
            [300, 300, 300]
        );
    }

    #[test]
    fn waits_fill_the_whole_range_below_the_ceiling() {
        let mut jitter = Jitter::new(7);
        let waits: Vec<_> = (0..10_000)
            .map(|_| jitter.wait(TRANSIENT, 4).as_millis())
            .collect();
        assert!(waits.iter().all(|wait| (20..8000).contains(wait)));
        let mean = waits.iter().sum::<u128>() / 10_000;
        assert!((3_800..4_200).contains(&mean), "{mean}");
    }
}
