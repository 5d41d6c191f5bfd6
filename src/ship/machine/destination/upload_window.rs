//! When uploads may run, and how fast.
//!
//! ```text
//!   local time ──▶ which window is it?
//!     ──▶ as fast as it goes, no faster than so much, or not at all until then ──▶ Pace
//! ```
//!
//! The time is the wall's, asked for at each boundary and once a minute: so a day of 23 hours, a
//! clock that is set and a machine that slept are no cases of their own. Outside every window
//! nothing new is sent, and what is under way stands still, its connection open. Where the other
//! end does not wait that long, that counts as no failure: it goes on where it was in the next
//! window.

use std::{fmt, num::NonZeroU64, time::Duration};

use crate::ship::machine::{
    Effect, Notice,
    context::{Context, NEVER},
    limits::{LEAST_BYTES, LOOK_EVERY},
};

/// Fixed by the clock on the wall.
const DAY_S: u32 = 86_400;

/// A time of day by the wall clock, in seconds since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(u32);

/// When uploads may run, and how fast, as the operator set it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uploads {
    /// Bytes a second for all uploads together; `None`: as fast as it goes.
    pub limit: Option<NonZeroU64>,
    /// The windows; where there are none, any time is right.
    pub windows: Vec<Window>,
}

/// A part of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// It begins then.
    pub from: LocalTime,
    /// And ends then; where that is earlier, on the next day.
    pub to: LocalTime,
    /// Within it, in place of the limit that is set for all times.
    pub limit: Option<RateLimit>,
}

/// How fast, in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// As fast as it goes.
    None,
    /// So many bytes a second.
    BytesPerS(NonZeroU64),
}

/// How fast uploads go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it goes.
    Free,
    /// All together no faster than so many bytes a second.
    AtMost(NonZeroU64),
    /// Not at all, until this time of day.
    Closed(LocalTime),
}

/// What is known of the time, and what follows from it.
#[derive(Debug)]
pub(crate) struct UploadGate {
    pace: Option<Pace>,
    asked: bool,
    look_at: Duration,
}

impl LocalTime {
    /// So many seconds after midnight; the end of the day is its beginning.
    #[must_use]
    pub fn from_seconds(seconds: u32) -> Self {
        Self(seconds % DAY_S)
    }

    /// Seconds from here until it is `other` o'clock; a whole day where it is.
    fn until(self, other: Self) -> u32 {
        match (other.0 + DAY_S - self.0) % DAY_S {
            0 => DAY_S,
            seconds => seconds,
        }
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 3600, self.0 / 60 % 60)
    }
}

impl Window {
    /// From its beginning on, up to its end; the whole day where the two are one.
    fn holds(&self, now: LocalTime) -> bool {
        if self.from < self.to {
            self.from <= now && now < self.to
        } else {
            self.from <= now || now < self.to
        }
    }
}

impl Uploads {
    /// How fast uploads go at this time of day. Where two windows overlap, the first that is
    /// written counts.
    #[must_use]
    pub fn pace(&self, now: LocalTime) -> Pace {
        let at_most = |limit: Option<NonZeroU64>| limit.map_or(Pace::Free, Pace::AtMost);
        if self.windows.is_empty() {
            return at_most(self.limit);
        }
        match self.windows.iter().find(|window| window.holds(now)) {
            Some(Window { limit: None, .. }) => at_most(self.limit),
            Some(Window {
                limit: Some(RateLimit::None),
                ..
            }) => Pace::Free,
            Some(Window {
                limit: Some(RateLimit::BytesPerS(limit)),
                ..
            }) => Pace::AtMost(*limit),
            None => {
                let next = self
                    .windows
                    .iter()
                    .map(|window| window.from)
                    .min_by_key(|from| now.until(*from));
                Pace::Closed(next.unwrap_or(now))
            }
        }
    }

    /// When it is to be asked next what time it is.
    fn look_after(&self, now: LocalTime) -> Duration {
        let boundaries = self
            .windows
            .iter()
            .flat_map(|window| [window.from, window.to]);
        let next = boundaries.map(|boundary| Duration::from_secs(now.until(boundary).into()));
        // The clock may be set meanwhile.
        next.fold(LOOK_EVERY, Duration::min)
    }
}

impl UploadGate {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            pace: None,
            asked: false,
            look_at: now,
        }
    }

    /// Nothing may be sent now; or the clock is being read to find out whether it may.
    pub(crate) fn is_closed(&self) -> bool {
        self.asked || self.pace.is_none() || self.closed_until().is_some()
    }

    /// How fast, as of the last reading of the clock; `None` before the first.
    pub(crate) fn pace(&self) -> Option<Pace> {
        self.pace
    }

    /// Until when, where nothing may be sent.
    pub(crate) fn closed_until(&self) -> Option<LocalTime> {
        match self.pace {
            Some(Pace::Closed(until)) => Some(until),
            Some(Pace::Free | Pace::AtMost(_)) | None => None,
        }
    }

    /// Whether the clock is being read.
    pub(crate) fn asked(&self) -> bool {
        self.asked
    }

    /// When the clock is to be read next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        Some(self.look_at).filter(|at| !self.asked && *at < NEVER)
    }

    /// What is set has changed: it counts at once.
    pub(crate) fn configured(&mut self, now: Duration) {
        self.look_at = now;
    }

    /// Looks at the clock where that is due. Returns whether a window has just closed.
    pub(crate) fn look_at_the_clock(&mut self, cx: &mut Context) -> bool {
        if self.asked || self.look_at > cx.now() {
            return false;
        }
        if cx.settings().uploads.windows.is_empty() {
            self.look_at = NEVER;
            self.go_at(cx.settings().uploads.pace(LocalTime(0)), cx)
        } else {
            self.asked = true;
            cx.perform(Effect::ReadClock);
            false
        }
    }

    /// It is this late. Returns whether a window has just closed.
    pub(crate) fn clock_read(&mut self, time: LocalTime, cx: &mut Context) -> bool {
        self.asked = false;
        // A reload may have come in between.
        let uploads = &cx.settings().uploads;
        if self.look_at > cx.now() || uploads.windows.is_empty() {
            return false;
        }
        self.look_at = cx.now() + uploads.look_after(time);
        self.go_at(uploads.pace(time), cx)
    }

    fn go_at(&mut self, pace: Pace, cx: &mut Context) -> bool {
        let before = self.pace.replace(pace);
        if before == Some(pace) {
            return false;
        }
        // That nothing limits it is no news at the start.
        if !(before.is_none() && pace == Pace::Free) {
            cx.log(Notice::Pace(pace));
            cx.perform(Effect::Pace(pace));
        }
        matches!(pace, Pace::Closed(_))
    }

    /// Uploads have no more than so much together.
    pub(crate) fn is_limited(&self) -> bool {
        matches!(self.pace, Some(Pace::AtMost(_)))
    }

    /// How many uploads of so many at once: each needs its share of a line that is limited.
    pub(crate) fn at_most(&self, slots: usize) -> usize {
        match self.pace {
            Some(Pace::AtMost(limit)) => {
                let most = usize::try_from(limit.get() / LEAST_BYTES).unwrap_or(usize::MAX);
                slots.min(most.max(1))
            }
            Some(Pace::Free | Pace::Closed(_)) | None => slots,
        }
    }
}
