//! The room on a disk.

use serde::{Deserialize, Serialize};

/// Less than this is no time over which a rate shows, seconds.
pub(crate) const LEAST_WATCHED_S: u64 = 600;
/// Beyond ten years it lasts for ever.
const FOR_EVER_S: u64 = 10 * 366 * 86_400;

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

impl RoomStatus {
    /// Notes how fast it fills, and how long it lasts at that rate.
    pub(crate) fn fills_by(&mut self, bytes_per_s: Option<i64>) {
        self.filling_bytes_per_s = bytes_per_s;
        let filling = bytes_per_s.and_then(|rate| u64::try_from(rate).ok());
        self.lasts_s = filling
            .and_then(|filling| self.free_bytes.checked_div(filling))
            .filter(|seconds| *seconds < FOR_EVER_S);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_empties_lasts_and_so_does_what_fills_in_ten_years() {
        let lasts = |free_bytes, rate| {
            let mut room = RoomStatus {
                folders: Vec::new(),
                path: String::new(),
                free_bytes,
                total_bytes: free_bytes,
                free_files: None,
                filling_bytes_per_s: None,
                lasts_s: None,
            };
            room.fills_by(rate);
            room.lasts_s
        };
        assert_eq!(lasts(1 << 30, None), None);
        assert_eq!(lasts(1 << 30, Some(-5)), None);
        assert_eq!(lasts(1 << 30, Some(0)), None);
        assert_eq!(lasts(u64::MAX, Some(1)), None);
        assert_eq!(lasts(1000, Some(10)), Some(100));
    }
}
