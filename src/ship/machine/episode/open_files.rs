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

use std::time::Duration;

use super::{AfterRest, Episode, Rest, Stage};
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        Notice, context::Context, destination::backoff::OPEN_FILE, limits::ENOUGH,
        step_result::OpenFilePolicy,
    },
};

impl Episode {
    /// `sealed_for`: how long the marker has stood, by the wall clock.
    pub(super) fn found_open_file(
        &mut self,
        id: &EpisodeId,
        what: String,
        sealed_for: Duration,
        cx: &mut Context,
    ) {
        let wait = cx.settings().open_files_wait;
        let since = *self.open_since.get_or_insert(cx.now());
        let waited = if cx.is_once() {
            sealed_for
        } else {
            cx.now().saturating_sub(since)
        };
        if waited >= wait {
            self.open_files = OpenFilePolicy::Accepted;
            self.log(Notice::OpenFileAccepted(id.clone(), what, waited), cx);
            self.stage = Stage::Sealed;
            return;
        }
        let (pause, is_told) = self.found_open_again(cx);
        let pause = if cx.is_once() {
            pause
        } else {
            pause.min(wait - waited)
        };
        if is_told {
            self.log(Notice::OpenFile(id.clone(), what, pause), cx);
        }
        self.rest(AfterRest::Pack, Rest::Local, cx.now() + pause, cx);
        // The marker may have been taken away, and a sealed episode is not watched.
        self.hint(id, cx);
    }

    /// It is to be moved by a copy, and is not before that file is closed.
    pub(super) fn found_open_file_before_move(
        &mut self,
        id: &EpisodeId,
        next: AfterRest,
        what: String,
        cx: &mut Context,
    ) {
        let (pause, is_told) = self.found_open_again(cx);
        if is_told {
            let notice = Notice::OpenFileBeforeMove {
                id: id.clone(),
                is_delivered: matches!(next, AfterRest::Retire(..)),
                what,
                pause,
            };
            self.log(notice, cx);
        }
        self.rest(next, Rest::Local, cx.now() + pause, cx);
        self.hint(id, cx);
    }

    /// How long to wait for it, and whether the operator is told: now and then.
    pub(super) fn found_open_again(&mut self, cx: &mut Context) -> (Duration, bool) {
        let pause = self.failed(|failures| &mut failures.open_file, OPEN_FILE, cx);
        let looks = self.failures.open_file;
        // A file that is open for a moment is being closed.
        let is_told = cx.is_once() || (looks > ENOUGH.into() && looks.is_power_of_two());
        (pause, is_told)
    }

    /// It was written to while its move waited for that: its files are waited for anew.
    pub(super) fn waits_anew_for_open_files(&mut self) {
        if self.failures.open_file > 0 {
            self.open_files = OpenFilePolicy::WaitedFor;
            self.open_since = None;
            self.failures.open_file = 0;
        }
    }
}
