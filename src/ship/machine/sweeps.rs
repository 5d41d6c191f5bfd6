//! When `quarantine/` and `shipped/` are looked through, and for how long a clock that cannot be
//! believed is put up with.
//!
//! ```text
//!  start ──▶ sweep ──done──▶ again after the interval
//!              └──the clock is not believed──▶ again after a minute, and at once
//!                                                 │  when the first answer brings a Date
//!                                                 └──for an hour──▶ told, once
//! ```

use std::time::Duration;

use super::{
    Effect, Notice,
    context::{Context, NEVER},
    limits::LOOK_EVERY,
};

/// When to try again a sweep that could not believe the clock.
const CLOCK_RETRY: Duration = LOOK_EVERY;
/// A machine that has just started may need some minutes to find its time server. Promised in
/// docs/configuration.md: "after an hour a warning says what to do".
const DOUBT_IS_TOLD_AFTER: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Sweeps {
    next: Duration,
    under_way: bool,
    /// An answer has said what time it is where the receiver is.
    date_heard: bool,
    /// And had when the last sweep began.
    date_known: bool,
    doubted_since: Option<Duration>,
    doubt_told: bool,
}

impl Sweeps {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            next: now,
            under_way: false,
            date_heard: false,
            date_known: false,
            doubted_since: None,
            doubt_told: false,
        }
    }

    pub(super) fn under_way(&self) -> bool {
        self.under_way
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        (!self.under_way).then_some(self.next)
    }

    /// Begins one that is due. Returns whether it did.
    pub(super) fn begin_if_due(&mut self, cx: &mut Context) -> bool {
        let due = !self.under_way && self.next <= cx.now();
        if due {
            self.under_way = true;
            self.date_known = self.date_heard;
            self.next = NEVER;
            cx.perform(Effect::Sweep);
        }
        due
    }

    /// The interval was set anew: nothing waits longer than that.
    pub(super) fn within(&mut self, interval: Duration, now: Duration) {
        if !self.under_way {
            self.next = self.next.min(now + interval);
        }
    }

    /// An answer came with the receiver's own time.
    pub(super) fn hear_date(&mut self, now: Duration) {
        let first = !std::mem::replace(&mut self.date_heard, true);
        if first && !self.under_way && self.doubted_since.is_some() {
            self.next = now;
        }
    }

    /// One is through; `done` is false where the clock was not believed.
    pub(super) fn ended(&mut self, done: bool, cx: &mut Context) {
        let now = cx.now();
        self.under_way = false;
        if done {
            self.next = now + cx.settings().sweep_interval;
            self.doubted_since = None;
            self.doubt_told = false;
            return;
        }
        // What was heard meanwhile may be all that it lacked.
        let worth_another = self.date_heard && !self.date_known;
        self.next = if worth_another {
            now
        } else {
            now + CLOCK_RETRY
        };
        let doubted_for = now.saturating_sub(*self.doubted_since.get_or_insert(now));
        if doubted_for >= DOUBT_IS_TOLD_AFTER && !std::mem::replace(&mut self.doubt_told, true) {
            cx.log(Notice::ClockDoubted(doubted_for));
        }
    }
}
