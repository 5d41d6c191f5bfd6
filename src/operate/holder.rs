//! Who holds a data folder, by what stands in its lock file.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use serde::Deserialize;

use crate::{clock, disk::lookup};

/// What a holder writes is far shorter.
const MAX_LOCK_BYTES: u64 = 4096;

/// What stands in the lock file of a daemon that runs, or was killed.
#[derive(Debug, Deserialize)]
struct LockFileState {
    pid: u32,
    #[serde(default)]
    boot_id: String,
}

/// A holder refreshes its lock once a minute from its own loop: one that did so within so much time
/// works.
const HEARD_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Whether the holder of the lock has shown itself there lately. Blocks.
pub(super) fn is_heard(lock: &Path) -> bool {
    let refreshed = fs::metadata(lock).map(|lock| lock.mtime_nsec() + lock.mtime() * 1_000_000_000);
    refreshed
        .ok()
        .and_then(clock::age_of)
        .is_some_and(|age| age < HEARD_WITHIN)
}

/// Whether what held the lock was killed: one that ends in an orderly way empties the file. Blocks.
pub(super) fn was_killed(lock: &Path) -> bool {
    let text = lookup::read(lock, MAX_LOCK_BYTES).unwrap_or_default();
    serde_json::from_slice::<LockFileState>(&text).is_ok()
}

/// The process of this host that holds the lock. Blocks. The lock itself is not tried: a daemon
/// that starts in that moment would find it taken.
pub(super) fn of(lock: &Path) -> Option<u32> {
    let text = lookup::read(lock, MAX_LOCK_BYTES).ok()?;
    let holder: LockFileState = serde_json::from_slice(&text).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{}/comm", holder.pid)).unwrap_or_default();
    (holder.boot_id == boot.trim() && name.trim() == "sealift").then_some(holder.pid)
}
