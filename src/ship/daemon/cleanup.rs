//! The clean-up of `quarantine/` and `shipped/`, and whether the clock can be believed that it goes
//! by.

use std::{path::Path, sync::atomic::Ordering};

use super::{KeepDays, workers::Workers};
use crate::{
    clock,
    model::{progress::Progress, records::WallTime},
    ship::sweep,
};

impl Workers {
    /// Whether what the clock says now may be counted from later.
    pub(super) fn clock_is_believed(&self) -> bool {
        clock::believed_lately(clock::wall_now(), self.servers_time())
    }

    /// What time it is where the receiver is, by its last answer. A receiver on this host does not
    /// count: its clock is the one that is asked about.
    fn servers_time(&self) -> Option<WallTime> {
        let clock = self.known.server_clock().filter(|clock| !clock.is_ours)?;
        Some(clock.date.after(clock.heard.elapsed()))
    }

    pub(super) fn sweep(&self, progress: &Progress) -> bool {
        let KeepDays {
            quarantine,
            shipped,
        } = self.keep_days;
        let now = clock::wall_now();
        let kept = [
            (&self.layout.quarantine, quarantine),
            (&self.layout.shipped, shipped),
        ];
        for ((folder, days), taken_back) in kept.into_iter().zip(&self.known.taken_back) {
            // Once: nothing is announced there after that.
            let once = !taken_back.swap(days.is_none(), Ordering::Relaxed);
            if days.is_none() && once && self.have(folder).is_ok() {
                sweep::take_back(folder, &self.layout, now, progress);
            }
        }
        if quarantine.is_none() && shipped.is_none() {
            self.known.stats.lock().deletions_ahead = Some(0);
            return true;
        }
        if !clock::believed(now, self.servers_time()) {
            tracing::debug!("nothing is cleaned up while the clock cannot be believed");
            return false;
        }
        // In the place of a folder that is gone for a while, nothing is ours to remove.
        let here = |folder: &Path, days: Option<u32>| days.filter(|_| self.have(folder).is_ok());
        let quarantine = here(&self.layout.quarantine, quarantine);
        let shipped = here(&self.layout.shipped, shipped);
        let swept = sweep::sweep(
            &self.layout,
            quarantine,
            shipped,
            now,
            &self.as_delivered(progress),
            progress,
        );
        self.known.stats.lock().deletions_ahead = Some(swept.quarantine_ahead);
        true
    }
}
