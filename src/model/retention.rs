//! When an episode that left `episodes/` may be removed. Pure; [`due`] is what the sweep obeys and
//! what `doctor` announces.
//!
//! | folder | removed |
//! |---|---|
//! | `quarantine/` | after `quarantine_keep_days` |
//! | `shipped/` | after `shipped_keep_days` |
//! | `shipped/` | while less than `shipped_free_bytes` is free, the oldest first |
//!
//! From `shipped/` only with the receiver's own receipt for this very archive, else never. And only
//! what is still what was delivered: the sweep looks first (`ship/sweep/edit_check.rs`).
//!
//! An age is counted from the stamp in the record beside the episode, where the record says that
//! the clock that wrote it could be believed. Else it begins at the first moment at which a clock
//! can be, and the sweep writes that into the record. A moment in the future, or before this
//! program was released, is passed over in both. Nothing else tells an age: a folder's mtime is of
//! the same clock as its stamp, and a host without a battery-backed clock may have written both 20
//! days before the time.
//!
//! What is kept for more than a week is announced for a week before it goes, and that is written
//! into the record as well: neither a restart nor a clock that jumps skips it. Whatever made it a
//! matter of the past (a longer time, or for ever) takes it back.

use crate::model::{
    layout::is_numbered_in_any_case,
    records::{Aging, RELEASED, ShippingReceipt, WallTime},
    wire::Receipt,
};

const DAY_S: i64 = 24 * 3600;

/// What is deleted within so many days is announced; and what is kept for longer is not deleted
/// before that was so for as long.
pub(crate) const AHEAD_DAYS: i64 = 7;

/// What is known of one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetentionEntry {
    /// The moment in its record.
    pub stamp: Option<WallTime>,
    /// What the record says of it.
    pub aging: Aging,
    /// The directory's own mtime.
    pub folder_mtime: WallTime,
    /// Whether it may be removed at all: of quarantined ones all, of shipped ones those that
    /// [`vouched_for`] says.
    pub removable: bool,
}

/// When it may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Kept for ever: that is the setting.
    Never,
    /// Kept, whatever the setting: no receipt vouches for another copy.
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
    /// At this moment, once it is announced, and that has not been done.
    Unannounced {
        /// From when its age is counted.
        since: WallTime,
        /// When it may be removed if it is announced now.
        due: WallTime,
    },
}

impl Due {
    /// When it may be removed; `None` where that is not known, or never.
    pub(crate) fn at(self) -> Option<WallTime> {
        match self {
            Self::At { due, .. } | Self::Unannounced { due, .. } => Some(due),
            Self::Never | Self::Unvouched | Self::Anew => None,
        }
    }

    /// Whether that is within a week.
    pub(crate) fn is_near(self, now: WallTime) -> bool {
        self.at().is_some_and(|due| due <= later(now, AHEAD_DAYS))
    }
}

/// When a directory may be removed. `now` is a clock that can be believed.
pub(crate) fn due(entry: &RetentionEntry, keep_days: Option<u32>, now: WallTime) -> Due {
    // 0 is how the configuration says "for ever"; it must not come to mean "at once" on any way
    // here.
    let Some(keep_days @ 1..) = keep_days else {
        return Due::Never;
    };
    if !entry.removable {
        return Due::Unvouched;
    }
    let credible = |moment: &WallTime| (RELEASED..=now).contains(moment);
    let stamp = entry.stamp.filter(|_| entry.aging.clock_believed);
    let counted_from = entry.aging.counted_from_wall;
    let Some(since) = stamp.filter(credible).or(counted_from.filter(credible)) else {
        return Due::Anew;
    };
    let due = later(since, keep_days.into());
    let announcing = later(due, -AHEAD_DAYS);
    if i64::from(keep_days) <= AHEAD_DAYS || now < announcing {
        return Due::At { since, due };
    }
    match entry
        .aging
        .announced_at_wall
        .filter(|at| (announcing..=now).contains(at))
    {
        Some(announced) => Due::At {
            since,
            due: due.max(later(announced, AHEAD_DAYS)),
        },
        None => Due::Unannounced {
            since,
            due: due.max(later(now, AHEAD_DAYS)),
        },
    }
}

/// Whether an announcement stands in the record of what does not go so soon, or ever: it has to be
/// made anew when its time comes.
pub(crate) fn is_announced_in_vain(entry: &RetentionEntry, due: Due, now: WallTime) -> bool {
    entry.aging.announced_at_wall.is_some() && !due.is_near(now)
}

fn later(moment: WallTime, days: i64) -> WallTime {
    WallTime::from_unix_seconds(
        moment
            .unix_seconds()
            .saturating_add(days.saturating_mul(DAY_S)),
    )
}

/// Whether the disk of `shipped/` has less room than the operator wants.
pub(crate) fn pressing(free_bytes: u64, wanted_bytes: Option<u64>) -> bool {
    // 0 and no setting are how "never" is said.
    wanted_bytes.is_some_and(|wanted| free_bytes < wanted)
}

/// What disk pressure may take, and in which order: the smallest first; `None`: never. An order is
/// all that is asked of the clock here, so one that was wrong can have the wrong one go first, and
/// none too many.
pub(crate) fn taken_since(entry: &RetentionEntry) -> Option<WallTime> {
    let stamp = entry.stamp.filter(|stamp| *stamp >= RELEASED);
    entry.removable.then(|| stamp.unwrap_or(entry.folder_mtime))
}

/// Whole days between two moments.
pub(crate) fn days_between(since: WallTime, now: WallTime) -> i64 {
    now.unix_seconds().saturating_sub(since.unix_seconds()) / DAY_S
}

/// Whether a receiver of ours holds what was shipped from this directory: its own receipt is in
/// ours, both name this episode, and one of its digests is what we packed. An acknowledgement
/// without a receipt moved the episode, but is not enough to remove the last copy on this side.
pub(crate) fn vouched_for(directory: &std::ffi::OsStr, ours: &ShippingReceipt) -> bool {
    let Ok(theirs) = serde_json::from_value::<Receipt>(ours.receipt.clone()) else {
        return false;
    };
    is_numbered_in_any_case(directory, ours.episode_id.as_str())
        && theirs.episode_id == ours.episode_id
        && (theirs.sha256 == ours.sha256 || theirs.content_sha256 == Some(ours.content_sha256))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::episode::Digest;

    fn day(n: i64) -> WallTime {
        WallTime::from_unix_seconds(RELEASED.unix_seconds() + n * DAY_S)
    }

    /// With a stamp of a clock that could be believed.
    fn entry(stamp: Option<i64>, folder_mtime: i64) -> RetentionEntry {
        let aging = Aging {
            clock_believed: true,
            ..Aging::default()
        };
        RetentionEntry {
            stamp: stamp.map(day),
            aging,
            folder_mtime: day(folder_mtime),
            removable: true,
        }
    }

    fn at(since: i64, due: i64) -> Due {
        Due::At {
            since: day(since),
            due: day(due),
        }
    }

    #[test]
    fn a_stamp_counts_where_its_clock_could_be_believed_and_else_the_first_moment_at_which_one_could()
     {
        let now = day(100);
        for (stamp, believed, counted_from, expected) in [
            (Some(90), true, None, at(90, 120)),
            (Some(100), true, None, at(100, 130)),
            (Some(90), true, Some(95), at(90, 120)),
            // Whatever a clock said that was not believed, and whatever older records do not say.
            (Some(0), false, None, Due::Anew),
            (Some(90), false, None, Due::Anew),
            (Some(0), false, Some(95), at(95, 125)),
            (None, false, Some(95), at(95, 125)),
            (None, true, None, Due::Anew),
            // In the future, or from before the release.
            (Some(101), true, None, Due::Anew),
            (Some(-1), true, Some(95), at(95, 125)),
            (Some(-1), false, Some(101), Due::Anew),
            (None, false, Some(-1), Due::Anew),
        ] {
            let mut entry = entry(stamp, 5);
            entry.aging.clock_believed = believed;
            entry.aging.counted_from_wall = counted_from.map(day);
            assert_eq!(
                due(&entry, Some(30), now),
                expected,
                "{stamp:?} {believed} {counted_from:?}"
            );
        }
    }

    #[test]
    fn what_is_kept_for_over_a_week_goes_only_when_it_was_announced_for_a_week() {
        for (keep_days, now, announced, expected) in [
            (30, 22, None, at(0, 30)),
            (
                30,
                23,
                None,
                Due::Unannounced {
                    since: day(0),
                    due: day(30),
                },
            ),
            (30, 25, Some(23), at(0, 30)),
            // The daemon was off, or the clock jumped.
            (
                30,
                400,
                None,
                Due::Unannounced {
                    since: day(0),
                    due: day(407),
                },
            ),
            (30, 401, Some(400), at(0, 407)),
            (30, 29, Some(28), at(0, 35)),
            // From the future, or of a time that was set before.
            (
                30,
                40,
                Some(41),
                Due::Unannounced {
                    since: day(0),
                    due: day(47),
                },
            ),
            (
                60,
                60,
                Some(25),
                Due::Unannounced {
                    since: day(0),
                    due: day(67),
                },
            ),
            (
                8,
                1,
                None,
                Due::Unannounced {
                    since: day(0),
                    due: day(8),
                },
            ),
            // Seven days are their own announcement.
            (7, 7, None, at(0, 7)),
            (1, 400, None, at(0, 1)),
        ] {
            let mut entry = entry(Some(0), 0);
            entry.aging.announced_at_wall = announced.map(day);
            let found = due(&entry, Some(keep_days), day(now));
            assert_eq!(
                found, expected,
                "kept for {keep_days}, on day {now}, announced {announced:?}"
            );
        }
    }

    #[test]
    fn an_announcement_of_what_does_not_go_so_soon_is_taken_back() {
        let mut entry = entry(Some(0), 0);
        entry.aging.announced_at_wall = Some(day(25));
        for (keep_days, now, in_vain) in [
            (Some(30), 26, false),
            (Some(60), 26, true),
            (None, 26, true),
            (Some(0), 400, true),
        ] {
            let found = due(&entry, keep_days, day(now));
            assert_eq!(
                is_announced_in_vain(&entry, found, day(now)),
                in_vain,
                "{keep_days:?} {now}"
            );
        }
    }

    #[test]
    fn zero_days_and_no_setting_keep_for_ever() {
        assert_eq!(due(&entry(Some(0), 0), None, day(9999)), Due::Never);
        assert_eq!(due(&entry(Some(0), 0), Some(0), day(9999)), Due::Never);
        assert!(
            matches!(due(&entry(Some(0), 0), Some(u32::MAX), day(99)), Due::At { due, .. } if due > day(9999))
        );
    }

    #[test]
    fn what_nobody_vouches_for_is_kept_whatever_its_age() {
        let entry = RetentionEntry {
            removable: false,
            ..entry(Some(0), 0)
        };
        assert_eq!(due(&entry, Some(1), day(9999)), Due::Unvouched);
    }

    #[test]
    fn only_the_receivers_own_receipt_for_this_archive_vouches() {
        let (ours, content, other) = (Digest([1; 32]), Digest([2; 32]), Digest([3; 32]));
        let vouches = |directory: &str, receipt: Value| {
            let shipping = ShippingReceipt {
                sha256: ours,
                content_sha256: content,
                delivered_at_wall: day(0),
                receipt,
                ..ShippingReceipt::example("a")
            };
            vouched_for(OsStr::new(directory), &shipping)
        };
        let receipt = |id: &str, sha256: Digest, content: Digest| {
            json!({"episode_id": id, "sha256": sha256, "content_sha256": content, "size_bytes": 1,
                   "stored_at": "2026-11-02T00:00:00Z"})
        };
        assert!(vouches("a", receipt("a", ours, content)));
        assert!(vouches("a~2", receipt("a", ours, other)));
        assert!(
            vouches("A", receipt("a", ours, content)),
            "as a file system lists it"
        );
        assert!(vouches("a", receipt("a", other, content)));
        assert!(!vouches("a", receipt("a", other, other)));
        assert!(!vouches("a", receipt("b", ours, content)));
        assert!(!vouches("b", receipt("a", ours, content)));
        for no_receipt in [
            Value::Null,
            json!({}),
            json!({"sha256": ours}),
            json!("stored"),
        ] {
            assert!(!vouches("a", no_receipt));
        }
    }

    #[test]
    fn disk_pressure_takes_what_is_vouched_for_the_oldest_first_and_nothing_else_ever() {
        let unvouched = RetentionEntry {
            removable: false,
            ..entry(Some(0), 0)
        };
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
        assert_eq!(
            days_between(
                day(0),
                WallTime::from_unix_seconds(day(1).unix_seconds() - 1)
            ),
            0
        );
    }
}
