//! What became of a move, and what is left where the episode stood.
//!
//! An episode that can have no other name is copied, and its source removed where it stands. Where
//! a file of that is open when its turn comes, the rest stays until it is closed: it is no episode
//! any more, and is shown and gone on with like one that waits for its move.
//!
//! ```text
//!  Retiring, Quarantining ── Moved::Leaving ──┐
//!  (new) ── Look::BeingRemoved ───────────────┴─▶ Finishing ── open, fails ─▶ Resting ─▶ Finishing
//!                                                     ├─ gone ─────────────────────▶ forgotten
//!                                                     └─ it stays as an open folder ▶ forgotten
//! ```

use std::{path::PathBuf, time::Duration};

use super::{
    Effect, Notice,
    backoff::OPEN_FILE,
    queue::Machine,
    state::{AfterRest, Rest, State},
    writers::QUIET_LOOKS,
};
use crate::model::episode::EpisodeId;

/// What became of a move.
#[derive(Debug, Clone, PartialEq)]
pub enum Moved {
    /// It stands there now.
    To(PathBuf),
    /// As [`Moved::To`], and what is left of it where it stood is being removed.
    Leaving(PathBuf),
    /// It is not what was packed; it was put back.
    Changed,
    /// It would have to be copied, and a file of it is open for writing: it stays where it is until
    /// that is closed.
    Open {
        /// The file, seen from the episode.
        file: PathBuf,
        /// The same in words, with the process where that is known.
        what: String,
    },
    /// It is not there.
    Gone,
    /// It could not be moved; why, and what to type.
    Failed(String),
    /// As [`Moved::Failed`], since the file system there cannot hold what is in it.
    CannotHold(String),
    /// There was no room for it where it was to go.
    NoRoom {
        /// Why, in words.
        why: String,
        /// What that would take on the disk of `shipped/`, bytes.
        need_bytes: u64,
    },
}

impl Machine {
    /// What is left of it in `episodes/` goes next.
    pub(super) fn finish(&mut self, id: &EpisodeId) {
        self.unwatch(id);
        self.on_disk(Effect::Finish(id.clone()));
        self.enter(id, State::Finishing);
    }

    /// What was left by a process before this one; of what this one has left, it knows.
    pub(super) fn found_being_removed(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        match &episode.state {
            State::Open if !self.stopping => self.finish(id),
            State::Sealed | State::Ready(_) | State::Parked(_) => self.found_gone(id),
            State::Open
            | State::Checking
            | State::Packing
            | State::Sending(_)
            | State::Resting(..)
            | State::Retiring(..)
            | State::Quarantining(_)
            | State::Finishing => {}
        }
    }

    pub(super) fn finished(&mut self, id: &EpisodeId, moved: Moved, now: Duration) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        if !matches!(episode.state, State::Finishing) {
            return;
        }
        match moved {
            // Where it stays, it is an open folder from here on.
            Moved::Gone | Moved::To(_) | Moved::Leaving(_) | Moved::Changed => {
                self.forget_unless_back(id);
            }
            Moved::Open { what, .. } => {
                let pause = self.failed(id, |episode| &mut episode.failures.open_file, OPEN_FILE);
                let looks = self
                    .episodes
                    .get(id)
                    .map_or(0, |episode| episode.failures.open_file);
                if self.settings.once || (looks > QUIET_LOOKS && looks.is_power_of_two()) {
                    self.tell(Notice::LeftBehind {
                        id: id.clone(),
                        what,
                        pause,
                    });
                }
                self.rest(id, AfterRest::Finish, Rest::Local, now + pause);
            }
            Moved::Failed(why) | Moved::CannotHold(why) | Moved::NoRoom { why, .. } => {
                self.stuck(id, AfterRest::Finish, why, now);
            }
        }
    }
}
