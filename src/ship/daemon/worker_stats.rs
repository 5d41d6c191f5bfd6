//! What the workers find out beside their work, for the daemon's report.

use std::io;

use tokio::time::Instant;

use super::disk_usage::Runway;
use crate::{
    disk::scan::Scan,
    model::{
        snapshot::{LeftAside, Strangers},
        text::printable,
    },
};

/// Shared by the workers and the loop; never locked across a disk operation.
#[derive(Debug, Default)]
pub(super) struct WorkerStats {
    pub(super) last_scan: LastScan,
    pub(super) strangers: Strangers,
    /// Episodes that cannot be looked at, or whose marker seals nothing.
    pub(super) unclear: Vec<String>,
    /// How many archives have no episode beside them, and are left alone.
    pub(super) stranded: u64,
    /// What is sealed and out of sight.
    pub(super) left_aside: Option<LeftAside>,
    pub(super) runway: Runway,
    pub(super) packed_content_bytes: u64,
    /// How many the last clean-up found that will be deleted within a week; `None` before it.
    pub(super) deletions_ahead: Option<u64>,
}

/// The last look everywhere.
#[derive(Debug, Clone, Default)]
pub(super) struct LastScan {
    /// When one last ended well.
    pub(super) at: Option<Instant>,
    /// Why the last one did not.
    pub(super) failed: Option<String>,
}

impl WorkerStats {
    pub(super) fn note_look(&mut self, found: Result<&Scan, &io::Error>) {
        match found {
            Ok(scan) => {
                self.last_scan = LastScan {
                    at: Some(Instant::now()),
                    failed: None,
                };
                self.strangers = scan.strangers_shown();
                self.unclear = scan.unclear();
            }
            Err(error) => self.last_scan.failed = Some(printable(&error.to_string())),
        }
    }
}
