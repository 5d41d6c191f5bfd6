//! A minute after a delivery its folder in `shipped/` is looked at once more: a recorder that has
//! kept a file open may have written to it since, and nothing of that was delivered.
//!
//! A process that ends within that minute leaves the look to the next one, which looks first at
//! what was shipped last. So one pass after another (`--once` from cron) misses none: what a pass
//! has shipped and not looked at is among the last when it ends.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use super::{Effect, LookedBack, Shipped, context::Context};
use crate::model::{episode::EpisodeId, records::WallTime};

/// How long after its move. Promised in docs/recorders.md: "A minute after the delivery".
pub const AFTER: Duration = Duration::from_secs(60);

/// Those that wait for it, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct LookBack {
    waiting: VecDeque<(Duration, EpisodeId, PathBuf)>,
    under_way: bool,
    /// What was shipped before this process began was asked for.
    has_begun: bool,
}

impl LookBack {
    pub(super) fn deadline(&self) -> Option<Duration> {
        let first = if self.has_begun {
            self.waiting.front().map(|(due, ..)| *due)
        } else {
            Some(Duration::ZERO)
        };
        first.filter(|_| !self.under_way)
    }

    pub(super) fn under_way(&self) -> bool {
        self.under_way
    }

    /// One has arrived in `shipped/`.
    pub(super) fn later(&mut self, id: &EpisodeId, path: PathBuf, now: Duration) {
        self.push(now + AFTER, id.clone(), path);
    }

    /// [`Effect::LookBack`] came back.
    pub(super) fn ended(&mut self, looked: LookedBack, cx: &mut Context) {
        self.under_way = false;
        // What was written and is not sent is something left undone.
        if cx.is_once() {
            cx.count_unseen(looked.changed);
        }
        for (id, path, rest) in looked.young {
            self.push(cx.now() + rest, id, path);
        }
    }

    pub(super) fn begin_if_due(&mut self, cx: &mut Context) {
        let now = cx.now();
        if self.deadline().is_none_or(|due| due > now) {
            return;
        }
        self.under_way = true;
        if !std::mem::replace(&mut self.has_begun, true) {
            return cx.perform(Effect::LookBack(Shipped::BeforeTheStart));
        }
        let count = self.waiting.partition_point(|(due, ..)| *due <= now);
        let due = self.waiting.drain(..count);
        let due = due.map(|(_, id, path)| (id, path)).collect();
        cx.perform(Effect::LookBack(Shipped::These(due)));
    }

    fn push(&mut self, due: Duration, id: EpisodeId, path: PathBuf) {
        let place = self.waiting.partition_point(|(before, ..)| *before <= due);
        self.waiting.insert(place, (due, id, path));
    }
}

/// Of what was shipped last at `newest`: since when that is to be looked at that a process which
/// has ended since may not have looked at. Twice the time after which it would have, for a disk
/// that is slow.
#[must_use]
pub fn since(newest: WallTime) -> WallTime {
    let seconds = i64::try_from(2 * AFTER.as_secs()).unwrap_or(i64::MAX);
    WallTime::from_unix_seconds(newest.unix_seconds().saturating_sub(seconds))
}
