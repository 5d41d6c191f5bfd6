//! A minute after a delivery its folder in `shipped/` is looked at once more: a recorder that has
//! kept a file open may have written to it since, and nothing of that was delivered.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use super::{Effect, queue::Machine};
use crate::episode::EpisodeId;

/// How long after its move.
const AFTER: Duration = Duration::from_secs(60);
/// So many wait for their look; of more than that, in one minute, the oldest go without one.
const MOST: usize = 4096;

/// Those that wait for it, in the order of their moves.
#[derive(Debug, Default)]
pub(super) struct LookBack {
    waiting: VecDeque<(Duration, EpisodeId, PathBuf)>,
    under_way: bool,
}

impl LookBack {
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.waiting.front().filter(|_| !self.under_way).map(|(due, ..)| *due)
    }

    pub(super) fn under_way(&self) -> bool {
        self.under_way
    }

    pub(super) fn ended(&mut self) {
        self.under_way = false;
    }
}

impl Machine {
    /// One has arrived in `shipped/`.
    pub(super) fn look_back_later(&mut self, id: &EpisodeId, path: PathBuf, now: Duration) {
        // One pass is over by then.
        if self.settings.once {
            return;
        }
        let waiting = &mut self.look_back.waiting;
        if waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back((now + AFTER, id.clone(), path));
    }

    pub(super) fn look_back_if_due(&mut self, now: Duration) {
        if self.look_back.deadline().is_none_or(|due| due > now) {
            return;
        }
        let waiting = &mut self.look_back.waiting;
        let count = waiting.iter().take_while(|(due, ..)| *due <= now).count();
        let due = waiting.drain(..count).map(|(_, id, path)| (id, path)).collect();
        self.look_back.under_way = true;
        self.now_do(Effect::LookBack(due));
    }
}
