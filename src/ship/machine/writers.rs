//! An episode of which a file is open for writing: it waits outside every slot, and is looked at
//! again. When its wait is over it is shipped as it is.
//!
//! A daemon counts the wait from its own first look, by the monotonic clock: after a start, or a
//! jump of the wall clock, nothing is shipped early. One pass has no earlier look, so there the
//! marker's age counts.
//!
//! One that is delivered, or rejected, and would have to be copied away waits in the same way
//! before its move, and for as long as the file is open: what is written to the source of a copy is
//! nowhere when that is removed. What was shipped as it is waits there, too.

use std::{path::PathBuf, time::Duration};

use super::{
    Notice,
    backoff::OPEN_FILE,
    queue::Machine,
    state::{AfterRest, Episode, Moved, OpenFilePolicy, Rest, State},
};
use crate::model::{episode::EpisodeId, text::printable};

/// Looks that find a file open within the first moments say nothing: it is being closed.
pub(super) const QUIET_LOOKS: u32 = 3;

impl Machine {
    /// `sealed_for`: how long the marker has stood, by the wall clock.
    pub(super) fn found_open_file(
        &mut self,
        id: &EpisodeId,
        what: String,
        sealed_for: Duration,
        now: Duration,
    ) {
        let (wait, once) = (self.settings.open_files_wait, self.settings.once);
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        let since = *episode.open_since.get_or_insert(now);
        let waited = if once {
            sealed_for
        } else {
            now.saturating_sub(since)
        };
        if waited >= wait {
            episode.open_files = OpenFilePolicy::Accepted;
            self.tell(Notice::OpenFileAccepted(id.clone(), what, waited));
            return self.enter(id, State::Sealed);
        }
        let pause = self.failed(id, |episode| &mut episode.failures.open_file, OPEN_FILE);
        let pause = if once {
            pause
        } else {
            pause.min(wait - waited)
        };
        let looks = self
            .episodes
            .get(id)
            .map_or(0, |episode| episode.failures.open_file);
        if once || (looks > QUIET_LOOKS && looks.is_power_of_two()) {
            self.tell(Notice::OpenFile(id.clone(), what, pause));
        }
        self.rest(id, AfterRest::Pack, Rest::Local, now + pause);
        // The marker may have been taken away, and a sealed episode is not watched.
        self.hinted(id.clone());
    }

    /// It is to be moved by a copy, and is not before that file is closed.
    pub(super) fn found_open_file_before_move(
        &mut self,
        id: &EpisodeId,
        next: AfterRest,
        what: String,
        now: Duration,
    ) {
        let is_delivered = matches!(next, AfterRest::Retire(..));
        let pause = self.failed(id, |episode| &mut episode.failures.open_file, OPEN_FILE);
        let looks = self
            .episodes
            .get(id)
            .map_or(0, |episode| episode.failures.open_file);
        if self.settings.once || (looks > QUIET_LOOKS && looks.is_power_of_two()) {
            self.tell(Notice::OpenFileBeforeMove {
                id: id.clone(),
                is_delivered,
                what,
                pause,
            });
        }
        self.rest(id, next, Rest::Local, now + pause);
        self.hinted(id.clone());
    }
}

impl Moved {
    /// As [`Moved::Open`], by a process that is not known.
    #[must_use]
    pub fn open(file: PathBuf) -> Self {
        Self::Open {
            what: format!("{} is open for writing", printable(&file.to_string_lossy())),
            file,
        }
    }
}

impl Episode {
    /// It was written to while its move waited for that: its files are waited for anew.
    pub(super) fn waits_anew_for_open_files(&mut self) {
        if self.failures.open_file > 0 {
            self.open_files = OpenFilePolicy::WaitedFor;
            self.open_since = None;
            self.failures.open_file = 0;
        }
    }
}
