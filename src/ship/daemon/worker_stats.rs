//! What the workers find out beside their work, for the daemon's report.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::disk_usage::Runway;
use crate::{
    disk::{filesystem, scan::Scan},
    model::{
        layout::Layout,
        snapshot::{LeftAside, MAX_STRANGERS, RoomStatus, StrangerStatus, Strangers},
        text::printable,
    },
};

/// Shared by the workers and the loop; never held across a disk operation.
#[derive(Debug, Default)]
pub(super) struct Lore {
    looked: Mutex<LastScan>,
    strangers: Mutex<Strangers>,
    /// How many archives have no episode beside them, and are left alone.
    stranded: AtomicU64,
    /// What is sealed and out of sight.
    left_aside: Mutex<Option<LeftAside>>,
    runway: Mutex<Runway>,
    packed_content_bytes: AtomicU64,
    /// How many the last clean-up found that will be deleted within a week; `None` before it.
    deletions_ahead: Mutex<Option<u64>>,
}

/// The last look everywhere.
#[derive(Debug, Clone, Default)]
pub(super) struct LastScan {
    /// When one last ended well.
    pub(super) at: Option<Instant>,
    /// Why the last one did not.
    pub(super) failed: Option<String>,
}

impl Lore {
    pub(super) fn note_look(&self, found: Result<&Scan, &io::Error>) {
        let mut looked = self.looked.lock();
        match found {
            Ok(scan) => {
                *looked = LastScan {
                    at: Some(Instant::now()),
                    failed: None,
                };
                *self.strangers.lock() = strangers(scan);
            }
            Err(error) => looked.failed = Some(printable(&error.to_string())),
        }
    }

    /// Blocks.
    pub(super) fn note_room(&self, layout: &Layout) {
        let rooms = filesystem::rooms(&layout.named());
        self.runway.lock().note(rooms, Instant::now());
    }

    pub(super) fn packed(&self, content_bytes: u64) {
        self.packed_content_bytes
            .fetch_add(content_bytes, Ordering::Relaxed);
    }

    pub(super) fn note_deletions_ahead(&self, ahead: u64) {
        *self.deletions_ahead.lock() = Some(ahead);
    }

    /// Returns how many there were before.
    pub(super) fn note_stranded(&self, stranded: u64) -> u64 {
        self.stranded.swap(stranded, Ordering::Relaxed)
    }

    pub(super) fn stranded(&self) -> u64 {
        self.stranded.load(Ordering::Relaxed)
    }

    pub(super) fn note_left_aside(&self, left: Option<LeftAside>) {
        *self.left_aside.lock() = left;
    }

    pub(super) fn left_aside(&self) -> Option<LeftAside> {
        self.left_aside.lock().clone()
    }

    pub(super) fn looked(&self) -> LastScan {
        self.looked.lock().clone()
    }

    pub(super) fn strangers(&self) -> Strangers {
        self.strangers.lock().clone()
    }

    pub(super) fn rooms(&self) -> Vec<RoomStatus> {
        self.runway.lock().rooms()
    }

    pub(super) fn packed_content_bytes(&self) -> u64 {
        self.packed_content_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn deletions_ahead(&self) -> Option<u64> {
        *self.deletions_ahead.lock()
    }
}

fn strangers(scan: &Scan) -> Strangers {
    let mut some: Vec<_> = scan.strangers.iter().collect();
    some.sort_by(|a, b| (!a.sealed, &a.name).cmp(&(!b.sealed, &b.name)));
    let shown = |stranger: &&crate::disk::scan::Stranger| StrangerStatus {
        name: printable(&stranger.name.to_string_lossy()),
        why: stranger.why.to_string(),
        sealed: stranger.sealed,
    };
    let count = some.len() as u64;
    Strangers {
        count,
        some: some.iter().take(MAX_STRANGERS).map(shown).collect(),
    }
}
