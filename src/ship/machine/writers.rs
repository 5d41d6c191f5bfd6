//! An episode of which a file is open for writing: it waits outside every slot, and is looked at
//! again. When its wait is over it is shipped as it is.
//!
//! A daemon counts the wait from its own first look, by the monotonic clock: after a start, or a
//! jump of the wall clock, nothing is shipped early. One pass has no earlier look, so there the
//! marker's age counts.

use std::time::Duration;

use super::{
    Notice,
    backoff::OPEN_FILE,
    queue::Machine,
    state::{Next, OpenFiles, Rest, State},
};
use crate::episode::EpisodeId;

/// Looks that find a file open within the first moments say nothing: it is being closed.
const QUIET_LOOKS: u32 = 3;

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
        let Some(episode) = self.episodes.get_mut(id) else { return };
        let since = *episode.open_since.get_or_insert(now);
        let waited = if once { sealed_for } else { now.saturating_sub(since) };
        if waited >= wait {
            episode.open_files = OpenFiles::Accepted;
            self.tell(Notice::OpenFileAccepted(id.clone(), what, waited));
            return self.enter(id, State::Sealed);
        }
        let pause = self.failed(id, |episode| &mut episode.failures.open_file, OPEN_FILE);
        let pause = if once { pause } else { pause.min(wait - waited) };
        let looks = self.episodes.get(id).map_or(0, |episode| episode.failures.open_file);
        if once || (looks > QUIET_LOOKS && looks.is_power_of_two()) {
            self.tell(Notice::OpenFile(id.clone(), what, pause));
        }
        self.rest(id, Next::Pack, Rest::Local, now + pause);
        // The marker may have been taken away, and a sealed episode is not watched.
        self.hinted(id.clone());
    }
}
