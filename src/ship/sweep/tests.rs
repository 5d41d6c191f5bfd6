use std::{
    fs::File,
    os::unix::fs::{PermissionsExt as _, chown},
    time::{Duration, UNIX_EPOCH},
};

use serde_json::json;

use super::*;
use crate::{
    model::{
        episode::Digest,
        layout::{MARKER, REASON, RECEIPT, REMOVING},
        records::RELEASED,
    },
    testing::sandbox,
};

const DAY_S: i64 = 86_400;

fn day(n: i64) -> WallTime {
    WallTime::from_unix_seconds(RELEASED.unix_seconds() + n * DAY_S)
}

/// A directory with a record in it, its mtime on day `mtime`.
fn directory(folder: &Path, name: &str, record: Option<(&str, String)>, mtime: i64) {
    let path = folder.join(name);
    fs::create_dir(&path).unwrap();
    if let Some((name, text)) = record {
        fs::write(path.join(name), text).unwrap();
    }
    let mtime = UNIX_EPOCH + Duration::from_secs(day(mtime).unix_seconds().unsigned_abs());
    File::open(path).unwrap().set_modified(mtime).unwrap();
}

/// What a clock that could be believed wrote, and announced on that day.
fn aging(announced: Option<i64>) -> String {
    json!({"clock_believed": true, "announced_at_wall": announced.map(day)}).to_string()
}

fn reason(stamp: &str, announced: Option<i64>) -> Option<(&'static str, String)> {
    let aging = aging(announced);
    Some((
        REASON,
        format!(r#"{{"status_code":412,"quarantined_at_wall":{stamp},"aging":{aging}}}"#),
    ))
}

/// As older shippers wrote it: nothing is known of their clock.
fn older_reason(stamp: &str) -> Option<(&'static str, String)> {
    Some((
        REASON,
        format!(r#"{{"status_code":412,"quarantined_at_wall":{stamp}}}"#),
    ))
}

fn receipt(
    id: &str,
    delivered: WallTime,
    theirs: bool,
    announced: Option<i64>,
) -> Option<(&'static str, String)> {
    let digest = Digest([7; 32]);
    let theirs = theirs.then(
        || json!({"episode_id": id, "sha256": digest, "size_bytes": 1, "stored_at": delivered}),
    );
    let aging: serde_json::Value = serde_json::from_str(&aging(announced)).unwrap();
    let ours = json!({"episode_id": id, "sha256": digest, "content_sha256": digest, "size_bytes": 1,
        "status_code": 201, "receiver": "http://r", "delivered_at_wall": delivered, "manifest": "none",
        "receipt": theirs, "aging": aging});
    Some((RECEIPT, ours.to_string()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn quarantined_ones_are_removed_by_a_stamp_that_can_be_believed_and_by_nothing_else() {
    let (_root, layout) = sandbox();
    let folder = &layout.quarantine;
    let stamp = |n: i64| format!("\"{}\"", day(n));
    directory(folder, "old", reason(&stamp(1), Some(24)), 35);
    directory(folder, "old-unannounced", reason(&stamp(1), None), 35);
    directory(folder, "young", reason(&stamp(20), None), 1);
    directory(folder, "older-shippers", older_reason(&stamp(1)), 1);
    directory(folder, "without-reason", None, 2);
    directory(folder, "garbled", Some((REASON, "{half".to_owned())), 2);
    directory(
        folder,
        "epoch",
        reason(&format!("{}.5", day(1).unix_seconds()), Some(25)),
        35,
    );
    fs::write(folder.join("a-file"), "").unwrap();
    fs::create_dir(folder.join(".sealift-copy-x")).unwrap();
    let swept = |n| {
        sweep(
            &layout,
            Some(30),
            Some(30),
            day(n),
            &|_| Ok(true),
            &Progress::default(),
        )
    };
    assert_eq!(
        swept(36),
        Swept {
            removed: 2,
            renewed: 3,
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    let left = [
        "garbled",
        "old-unannounced",
        "older-shippers",
        "without-reason",
        "young",
    ];
    assert_eq!(names(folder)[2..], left);
    assert_eq!(
        fs::read(folder.join("garbled").join(REASON)).unwrap(),
        b"{half",
        "it is not ours"
    );
    // In another process, which knows what is written there and nothing else.
    assert_eq!(
        swept(42),
        Swept {
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(43),
        Swept {
            removed: 1,
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(59),
        Swept {
            removed: 1,
            quarantine_ahead: 3,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(66),
        Swept {
            removed: 3,
            ..Swept::default()
        }
    );
}

#[test]
fn shipped_ones_are_removed_only_with_the_receivers_own_receipt() {
    let (_root, layout) = sandbox();
    let folder = &layout.shipped;
    directory(folder, "old", receipt("old", day(1), true, Some(24)), 35);
    directory(folder, "old~1", receipt("old", day(1), true, Some(24)), 35);
    directory(folder, "young", receipt("young", day(20), true, None), 1);
    directory(folder, "bare", receipt("bare", day(1), false, Some(24)), 1);
    directory(
        folder,
        "renamed",
        receipt("another", day(1), true, Some(24)),
        1,
    );
    directory(folder, "none", None, 1);
    let swept = sweep(
        &layout,
        Some(30),
        Some(30),
        day(36),
        &|_| Ok(true),
        &Progress::default(),
    );
    assert_eq!(
        swept,
        Swept {
            removed: 2,
            unvouched: 3,
            ..Swept::default()
        }
    );
    assert_eq!(names(folder), ["bare", "none", "renamed", "young"]);
}

#[test]
fn shipped_ones_that_are_not_what_was_delivered_are_kept() {
    let (_root, layout) = sandbox();
    for name in ["held", "edited", "unreadable"] {
        directory(
            &layout.shipped,
            name,
            receipt(name, day(1), true, Some(24)),
            35,
        );
    }
    let as_delivered = |path: &Path| match path.file_name().unwrap().to_str().unwrap() {
        "unreadable" => Err(io::Error::other("EIO")),
        name => Ok(name != "edited"),
    };
    let swept = sweep(
        &layout,
        Some(30),
        Some(30),
        day(36),
        &as_delivered,
        &Progress::default(),
    );
    assert_eq!(
        swept,
        Swept {
            removed: 1,
            edited: 1,
            failed: 1,
            ..Swept::default()
        }
    );
    assert_eq!(names(&layout.shipped), ["edited", "unreadable"]);
}

#[test]
fn a_clean_up_that_was_broken_off_goes_by_what_keep_days_says_now() {
    let (_root, layout) = sandbox();
    // As its first step leaves it, and a later one.
    let broken_off = |name: &str, sealed: bool| {
        directory(
            &layout.quarantine,
            name,
            reason(&format!("\"{}\"", day(1)), Some(24)),
            35,
        );
        let path = layout.quarantine.join(name);
        fs::write(
            path.join(REMOVING),
            r#"{"sealift_removing":1,"copied_to":null}"#,
        )
        .unwrap();
        if sealed {
            fs::write(path.join(MARKER), "").unwrap();
        }
    };
    broken_off("half", false);
    broken_off("whole", true);
    let swept = |days| {
        durable::finish_leftovers(&layout.quarantine, &Progress::default()).unwrap();
        sweep(
            &layout,
            days,
            None,
            day(36),
            &|_| Ok(true),
            &Progress::default(),
        )
    };
    assert_eq!(swept(None), Swept::default());
    assert_eq!(swept(Some(60)), Swept::default());
    assert_eq!(names(&layout.quarantine), ["half", "whole"]);
    for name in ["half", "whole"] {
        record_files::note_aging_in_reason(&layout.quarantine.join(name), &|aging| {
            aging.announced_at_wall = Some(day(24));
        })
        .unwrap();
    }
    assert_eq!(
        swept(Some(30)),
        Swept {
            removed: 2,
            ..Swept::default()
        }
    );
}

#[test]
fn what_is_filed_anew_while_the_clean_up_looks_at_it_is_not_removed() {
    let (_root, layout) = sandbox();
    directory(
        &layout.shipped,
        "a",
        receipt("a", day(1), true, Some(24)),
        35,
    );
    let delivered_again = |path: &Path| {
        let (name, text) = receipt("a", day(36), true, None).unwrap();
        fs::write(path.join(name), text).unwrap();
        Ok(true)
    };
    let swept = sweep(
        &layout,
        None,
        Some(30),
        day(36),
        &delivered_again,
        &Progress::default(),
    );
    assert_eq!((swept.removed, names(&layout.shipped).len()), (0, 1));
}

#[test]
fn without_a_setting_nothing_is_even_looked_at() {
    let (_root, layout) = sandbox();
    directory(&layout.quarantine, "old", reason("0", None), 1);
    directory(
        &layout.shipped,
        "old",
        receipt("old", day(1), true, None),
        1,
    );
    for keep_days in [None, Some(0)] {
        let swept = sweep(
            &layout,
            keep_days,
            keep_days,
            day(9999),
            &|_| Ok(true),
            &Progress::default(),
        );
        assert_eq!(swept, Swept::default());
    }
    assert_eq!(
        (
            names(&layout.quarantine).len(),
            names(&layout.shipped).len()
        ),
        (1, 1)
    );
}

#[test]
fn what_a_clock_that_was_behind_stamped_is_kept_for_its_whole_time_from_when_the_clock_was_right() {
    let (_root, layout) = sandbox();
    let behind = json!({"status_code": 412, "quarantined_at_wall": day(10), "aging": {"clock_believed": false}});
    directory(
        &layout.quarantine,
        "a",
        Some((REASON, behind.to_string())),
        10,
    );
    let digest = Digest([7; 32]);
    let theirs =
        json!({"episode_id": "b", "sha256": digest, "size_bytes": 1, "stored_at": day(30)});
    let ours = json!({"episode_id": "b", "sha256": digest, "content_sha256": digest, "size_bytes": 1,
        "status_code": 201, "receiver": "http://r", "delivered_at_wall": day(10), "manifest": "none",
        "receipt": theirs, "aging": {"clock_believed": false}});
    directory(&layout.shipped, "b", Some((RECEIPT, ours.to_string())), 10);
    let swept = |n| {
        sweep(
            &layout,
            Some(10),
            Some(10),
            day(n),
            &|_| Ok(true),
            &Progress::default(),
        )
    };
    assert_eq!(
        swept(30),
        Swept {
            renewed: 2,
            ..Swept::default()
        }
    );
    assert_eq!(swept(32), Swept::default());
    assert_eq!(
        swept(33),
        Swept {
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(39),
        Swept {
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(40),
        Swept {
            removed: 2,
            ..Swept::default()
        }
    );
}

#[test]
fn a_clock_that_jumped_or_a_daemon_that_was_off_skips_no_announcement() {
    let (_root, layout) = sandbox();
    directory(
        &layout.quarantine,
        "a",
        reason(&format!("\"{}\"", day(1)), None),
        1,
    );
    directory(&layout.shipped, "b", receipt("b", day(1), true, None), 1);
    let swept = |n| {
        sweep(
            &layout,
            Some(30),
            Some(30),
            day(n),
            &|_| Ok(true),
            &Progress::default(),
        )
    };
    assert_eq!(
        swept(400),
        Swept {
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(406),
        Swept {
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    // For ever, for a while: what was announced before that says nothing after it.
    for folder in [&layout.quarantine, &layout.shipped] {
        take_back(folder, &layout, day(406), &Progress::default());
    }
    assert_eq!(
        swept(410),
        Swept {
            quarantine_ahead: 1,
            ..Swept::default()
        }
    );
    assert_eq!(
        swept(417),
        Swept {
            removed: 2,
            ..Swept::default()
        }
    );
}

#[test]
fn one_that_cannot_be_looked_at_or_removed_does_not_keep_the_others() {
    let (root, layout) = sandbox();
    let root_user = rustix::process::geteuid().is_root();
    for name in ["a", "b", "c"] {
        directory(
            &layout.quarantine,
            name,
            reason(&format!("\"{}\"", day(1)), Some(24)),
            1,
        );
    }
    fs::set_permissions(
        layout.quarantine.join("b"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    if root_user {
        for path in [
            root.path(),
            &layout.quarantine,
            &layout.quarantine.join("a"),
            &layout.quarantine.join("c"),
        ] {
            chown(path, Some(65_534), None).unwrap();
        }
    }
    let progress = Progress::default();
    let swept = std::thread::scope(|threads| {
        threads
            .spawn(|| {
                // Root may do anything; this one thread becomes a user who may not.
                if root_user {
                    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
                }
                sweep(&layout, Some(30), None, day(60), &|_| Ok(true), &progress)
            })
            .join()
            .unwrap()
    });
    assert_eq!(
        swept,
        Swept {
            removed: 2,
            failed: 1,
            ..Swept::default()
        }
    );
    assert_eq!(names(&layout.quarantine), ["b"]);
    assert!(progress.steps() >= 3);
}
