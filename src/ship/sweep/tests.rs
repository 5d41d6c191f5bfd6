use std::{
    fs::File,
    os::unix::fs::{PermissionsExt as _, chown},
    time::{Duration, UNIX_EPOCH},
};

use serde_json::json;

use super::*;
use crate::{
    clock,
    episode::Digest,
    layout::{REASON, RECEIPT},
    records::RELEASED,
};

const DAY_S: i64 = 86_400;

fn day(n: i64) -> WallTime {
    WallTime::from_unix_seconds(RELEASED.unix_seconds() + n * DAY_S)
}

fn sandbox() -> (tempfile::TempDir, Layout) {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::below(root.path());
    for folder in [&layout.shipped, &layout.quarantine] {
        fs::create_dir_all(folder).unwrap();
    }
    (root, layout)
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

fn reason(stamp: &str) -> Option<(&'static str, String)> {
    Some((REASON, format!(r#"{{"status_code":412,"quarantined_at_wall":{stamp}}}"#)))
}

fn receipt(id: &str, delivered: WallTime, theirs: bool) -> Option<(&'static str, String)> {
    let digest = Digest([7; 32]);
    let theirs =
        theirs.then(|| json!({"episode_id": id, "sha256": digest, "size_bytes": 1, "stored_at": delivered}));
    let ours = json!({"episode_id": id, "sha256": digest, "content_sha256": digest, "size_bytes": 1,
        "status_code": 201, "receiver": "http://r", "delivered_at_wall": delivered, "manifest": "none",
        "receipt": theirs});
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
fn quarantined_ones_are_removed_by_their_stamp_then_by_their_mtime() {
    let (_root, layout) = sandbox();
    let folder = &layout.quarantine;
    directory(folder, "old", reason(&format!("\"{}\"", day(1))), 35);
    directory(folder, "young", reason(&format!("\"{}\"", day(20))), 1);
    directory(folder, "old-without-reason", None, 2);
    directory(folder, "young-without-reason", None, 20);
    directory(folder, "old-garbled", Some((REASON, "{half".to_owned())), 2);
    directory(folder, "epoch", reason(&format!("{}.5", day(1).unix_seconds())), 35);
    fs::write(folder.join("a-file"), "").unwrap();
    fs::create_dir(folder.join(".sealift-copy-x")).unwrap();
    let swept = sweep(&layout, Some(30), Some(30), day(36), &|_| Ok(true), &Progress::default());
    assert_eq!(swept, Swept { removed: 4, ..Swept::default() });
    assert_eq!(names(folder), [".sealift-copy-x", "a-file", "young", "young-without-reason"]);
}

#[test]
fn shipped_ones_are_removed_only_with_the_receivers_own_receipt() {
    let (_root, layout) = sandbox();
    let folder = &layout.shipped;
    directory(folder, "old", receipt("old", day(1), true), 35);
    directory(folder, "old~1", receipt("old", day(1), true), 35);
    directory(folder, "young", receipt("young", day(20), true), 1);
    directory(folder, "bare", receipt("bare", day(1), false), 1);
    directory(folder, "renamed", receipt("another", day(1), true), 1);
    directory(folder, "none", None, 1);
    let swept = sweep(&layout, Some(30), Some(30), day(36), &|_| Ok(true), &Progress::default());
    assert_eq!(swept, Swept { removed: 2, unvouched: 3, ..Swept::default() });
    assert_eq!(names(folder), ["bare", "none", "renamed", "young"]);
}

#[test]
fn shipped_ones_that_are_not_what_was_delivered_are_kept() {
    let (_root, layout) = sandbox();
    for name in ["held", "edited", "unreadable"] {
        directory(&layout.shipped, name, receipt(name, day(1), true), 35);
    }
    let as_delivered = |path: &Path| match path.file_name().unwrap().to_str().unwrap() {
        "unreadable" => Err(io::Error::other("EIO")),
        name => Ok(name != "edited"),
    };
    let swept = sweep(&layout, Some(30), Some(30), day(36), &as_delivered, &Progress::default());
    assert_eq!(swept, Swept { removed: 1, edited: 1, failed: 1, ..Swept::default() });
    assert_eq!(names(&layout.shipped), ["edited", "unreadable"]);
}

#[test]
fn without_a_setting_nothing_is_even_looked_at() {
    let (_root, layout) = sandbox();
    directory(&layout.quarantine, "old", reason("0"), 1);
    directory(&layout.shipped, "old", receipt("old", day(1), true), 1);
    for keep_days in [None, Some(0)] {
        let swept = sweep(&layout, keep_days, keep_days, day(9999), &|_| Ok(true), &Progress::default());
        assert_eq!(swept, Swept::default());
    }
    assert_eq!((names(&layout.quarantine).len(), names(&layout.shipped).len()), (1, 1));
}

#[test]
fn an_age_that_cannot_be_told_begins_anew_and_is_remembered() {
    let (_root, layout) = sandbox();
    directory(&layout.quarantine, "from-an-older-shipper", reason("\"2025-03-01T09:00:00\""), -600);
    // The folder's mtime is set by the real clock.
    let now = clock::wall_now();
    let after = |days: i64| WallTime::from_unix_seconds(now.unix_seconds() + 60 + days * DAY_S);
    let swept = |days| sweep(&layout, Some(30), None, after(days), &|_| Ok(true), &Progress::default());
    assert_eq!(swept(0), Swept { renewed: 1, ..Swept::default() });
    // Announced a week ahead.
    assert_eq!(swept(22), Swept::default());
    assert_eq!(swept(23), Swept { quarantine_ahead: 1, ..Swept::default() });
    assert_eq!(swept(29), Swept { quarantine_ahead: 1, ..Swept::default() });
    assert_eq!(swept(30), Swept { removed: 1, ..Swept::default() });
}

#[test]
fn one_that_cannot_be_looked_at_or_removed_does_not_keep_the_others() {
    let (root, layout) = sandbox();
    let root_user = rustix::process::geteuid().is_root();
    for name in ["a", "b", "c"] {
        directory(&layout.quarantine, name, None, 1);
    }
    fs::set_permissions(layout.quarantine.join("b"), fs::Permissions::from_mode(0o000)).unwrap();
    if root_user {
        for path in
            [root.path(), &layout.quarantine, &layout.quarantine.join("a"), &layout.quarantine.join("c")]
        {
            chown(path, Some(65_534), None).unwrap();
        }
    }
    let progress = Progress::default();
    let swept = std::thread::scope(|threads| {
        threads
            .spawn(|| {
                // Root may do anything; for this one thread, be somebody who may not.
                if root_user {
                    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
                }
                sweep(&layout, Some(30), None, day(60), &|_| Ok(true), &progress)
            })
            .join()
            .unwrap()
    });
    assert_eq!(swept, Swept { removed: 2, failed: 1, ..Swept::default() });
    assert_eq!(names(&layout.quarantine), ["b"]);
    assert!(progress.steps() >= 3);
}
