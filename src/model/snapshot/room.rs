//! The room on a disk.

use serde::{Deserialize, Serialize};

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomStatus {
    /// Which folders are on it: `episodes`, `outbox`, `shipped`, `quarantine`.
    pub folders: Vec<String>,
    /// The first one's path.
    pub path: String,
    /// What a user like ours may still write.
    pub free_bytes: u64,
    /// How large it is.
    pub total_bytes: u64,
    /// How many files may still be made; `None` where that is not counted, or an older daemon does
    /// not say.
    pub free_files: Option<u64>,
    /// How fast it fills, as seen over the last hours; negative where it empties. `None` where it
    /// was not watched for long enough.
    pub filling_bytes_per_s: Option<i64>,
    /// How long it lasts at that rate; `None` where that is not known, or it does not fill.
    pub lasts_s: Option<u64>,
}
