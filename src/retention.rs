//! When an episode that left `episodes/` may be removed. Pure; [`due`] is what the sweep obeys and what `doctor` announces.
//!
//! | folder | removed |
//! |---|---|
//! | `quarantine/` | after `quarantine_keep_days` |
//! | `shipped/` | after `shipped_keep_days`, with the receiver's own receipt for this very archive; else never |
//! | `shipped/` | while less than `shipped_free_bytes` is free, with the same receipt, the oldest first; else never |
//!
//! And from `shipped/` only what is still what was delivered: whoever removes looks (`ship/sweep/edited.rs`).
//!
//! An age is counted from the stamp in the record beside the episode, else from the folder's mtime. A moment in the
//! future, or before this program was released, was told by a clock that had lost the time, and is passed over. Where
//! both are such, the age begins anew: the sweep sets the folder's mtime to now. That is the only memory there is, and
//! it outlives a restart; counting from now without writing it down would begin anew with every process, and
//! counting by what cannot be true could remove on the day of the installation what an older shipper left.

use crate::{
    layout::is_numbered,
    records::{RELEASED, ShippingReceipt, WallTime},
    wire::Receipt,
};

const DAY_S: i64 = 24 * 3600;

/// What is known of one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The moment in its record.
    pub stamp: Option<WallTime>,
    /// The directory's own mtime.
    pub folder_mtime: WallTime,
    /// Whether it may be removed at all: of quarantined ones all, of shipped ones those that [`vouched_for`] says.
    pub removable: bool,
}

/// When it may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Kept for ever: that is the setting.
    Never,
    /// Kept, whatever the setting: nobody vouches for another copy.
    Unvouched,
    /// Its age cannot be told, and begins now.
    Anew,
    /// At this moment.
    At {
        /// From when its age is counted.
        since: WallTime,
        /// When it has aged out.
        due: WallTime,
    },
}

/// When a directory may be removed. `now` is a clock that can be believed.
#[must_use]
pub fn due(entry: &Entry, keep_days: Option<u32>, now: WallTime) -> Due {
    // 0 is how the configuration says "for ever"; it must not come to mean "at once" on any way here.
    let Some(keep_days @ 1..) = keep_days else { return Due::Never };
    if !entry.removable {
        return Due::Unvouched;
    }
    let credible = |moment: &WallTime| (RELEASED..=now).contains(moment);
    match entry.stamp.filter(credible).or(Some(entry.folder_mtime).filter(credible)) {
        Some(since) => {
            let due = since.unix_seconds().saturating_add(i64::from(keep_days) * DAY_S);
            Due::At { since, due: WallTime::from_unix_seconds(due) }
        }
        None => Due::Anew,
    }
}

/// Whether the disk of `shipped/` has less room than the operator wants.
#[must_use]
pub fn pressing(free_bytes: u64, wanted_bytes: Option<u64>) -> bool {
    // 0 and no setting are how "never" is said.
    wanted_bytes.is_some_and(|wanted| free_bytes < wanted)
}

/// What disk pressure may take, and in which order: the smallest first; `None`: never. An order is all that is asked of the clock
/// here, so one that was wrong can have the wrong one go first, and none too many.
#[must_use]
pub fn taken_since(entry: &Entry) -> Option<WallTime> {
    let stamp = entry.stamp.filter(|stamp| *stamp >= RELEASED);
    entry.removable.then(|| stamp.unwrap_or(entry.folder_mtime))
}

/// Whole days between two moments.
#[must_use]
pub fn days_between(since: WallTime, now: WallTime) -> i64 {
    now.unix_seconds().saturating_sub(since.unix_seconds()) / DAY_S
}

/// Whether a receiver of ours holds what was shipped from this directory: its own receipt is in ours, both name this
/// episode, and one of its digests is what we packed. An acknowledgement without a receipt moved the episode, but is
/// not enough to remove the last copy on this side.
#[must_use]
pub fn vouched_for(directory: &std::ffi::OsStr, ours: &ShippingReceipt) -> bool {
    let Ok(theirs) = serde_json::from_value::<Receipt>(ours.receipt.clone()) else { return false };
    is_numbered(directory, ours.episode_id.as_str())
        && theirs.episode_id == ours.episode_id
        && (theirs.sha256 == ours.sha256 || theirs.content_sha256 == Some(ours.content_sha256))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        episode::{Digest, EpisodeId},
        records::ManifestCheck,
    };

    fn day(n: i64) -> WallTime {
        WallTime::from_unix_seconds(RELEASED.unix_seconds() + n * DAY_S)
    }

    fn entry(stamp: Option<i64>, folder_mtime: i64) -> Entry {
        Entry { stamp: stamp.map(day), folder_mtime: day(folder_mtime), removable: true }
    }

    #[test]
    fn an_age_is_counted_from_the_stamp_then_from_the_folder_and_else_begins_anew() {
        let now = day(100);
        let at = |since: i64| Due::At { since: day(since), due: day(since + 30) };
        for (stamp, folder, expected) in [
            (Some(60), 5, at(60)),
            (Some(95), 5, at(95)),
            (Some(0), 99, at(0)),
            (Some(100), 0, at(100)),
            (None, 60, at(60)),
            // In the future, or from before the release.
            (Some(101), 60, at(60)),
            (Some(-1), 60, at(60)),
            (None, 101, Due::Anew),
            (None, -1, Due::Anew),
            (Some(101), 101, Due::Anew),
            (Some(-20_000), -300, Due::Anew),
        ] {
            assert_eq!(due(&entry(stamp, folder), Some(30), now), expected, "{stamp:?} {folder}");
        }
    }

    #[test]
    fn zero_days_and_no_setting_keep_for_ever() {
        assert_eq!(due(&entry(Some(0), 0), None, day(9999)), Due::Never);
        assert_eq!(due(&entry(Some(0), 0), Some(0), day(9999)), Due::Never);
        assert!(
            matches!(due(&entry(Some(0), 0), Some(u32::MAX), day(9999)), Due::At { due, .. } if due > day(9999))
        );
    }

    #[test]
    fn what_nobody_vouches_for_is_kept_whatever_its_age() {
        let entry = Entry { removable: false, ..entry(Some(0), 0) };
        assert_eq!(due(&entry, Some(1), day(9999)), Due::Unvouched);
    }

    #[test]
    fn only_the_receivers_own_receipt_for_this_archive_vouches() {
        let (ours, content, other) = (Digest([1; 32]), Digest([2; 32]), Digest([3; 32]));
        let vouches = |directory: &str, receipt: Value| {
            let shipping = ShippingReceipt {
                episode_id: EpisodeId::parse("a").unwrap(),
                sha256: ours,
                content_sha256: content,
                size_bytes: 1,
                status_code: 201,
                receiver: "http://r".to_owned(),
                delivered_at_wall: day(0),
                manifest: ManifestCheck::None,
                receipt,
                fingerprint: None,
                open_files: Vec::new(),
                modes: None,
            };
            vouched_for(OsStr::new(directory), &shipping)
        };
        let receipt = |id: &str, sha256: Digest, content: Digest| {
            json!({"episode_id": id, "sha256": sha256, "content_sha256": content, "size_bytes": 1,
                   "stored_at": "2026-11-02T00:00:00Z"})
        };
        assert!(vouches("a", receipt("a", ours, content)));
        assert!(vouches("a~2", receipt("a", ours, other)));
        assert!(vouches("a", receipt("a", other, content)));
        assert!(!vouches("a", receipt("a", other, other)));
        assert!(!vouches("a", receipt("b", ours, content)));
        assert!(!vouches("b", receipt("a", ours, content)));
        for no_receipt in [Value::Null, json!({}), json!({"sha256": ours}), json!("stored")] {
            assert!(!vouches("a", no_receipt));
        }
    }

    #[test]
    fn disk_pressure_takes_what_is_vouched_for_the_oldest_first_and_nothing_else_ever() {
        let unvouched = Entry { removable: false, ..entry(Some(0), 0) };
        assert_eq!(taken_since(&unvouched), None);
        assert_eq!(taken_since(&entry(Some(5), 90)), Some(day(5)));
        // Told by a clock that had lost the time, or not told.
        assert_eq!(taken_since(&entry(Some(-1), 90)), Some(day(90)));
        assert_eq!(taken_since(&entry(None, 90)), Some(day(90)));
    }

    #[test]
    fn pressure_is_what_the_operator_says_it_is() {
        for (free, wanted, is_pressing) in [
            (0, None, false),
            (0, Some(0), false),
            (9, Some(10), true),
            (10, Some(10), false),
            (u64::MAX, Some(u64::MAX), false),
        ] {
            assert_eq!(pressing(free, wanted), is_pressing, "{free} {wanted:?}");
        }
    }

    #[test]
    fn days_are_whole() {
        assert_eq!(days_between(day(1), day(31)), 30);
        assert_eq!(days_between(day(0), WallTime::from_unix_seconds(day(1).unix_seconds() - 1)), 0);
    }
}
