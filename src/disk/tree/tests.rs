#![expect(
    clippy::disallowed_methods,
    reason = "the tests play the recorder, who renames as he likes"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use rustix::fs::{CWD, Mode, mknodat};

use super::*;

/// What a walk reports, a line an entry.
fn walked(episode: &Path) -> Result<Vec<String>, TreeError> {
    let mut lines = Vec::new();
    walk(episode, &Progress::default(), |entry| {
        let path = String::from_utf8_lossy(entry.path).into_owned();
        lines.push(match entry.kind {
            Kind::Directory => format!("{path}/"),
            Kind::File(_) => path,
            Kind::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Kind::Special(what) => format!("{path} {what}"),
            Kind::Left(_) => return Ok(()),
        });
        Ok::<(), TreeError>(())
    })?;
    Ok(lines)
}

fn seen(episode: &Path) -> Fingerprint {
    fingerprint(episode, &Progress::default()).unwrap()
}

struct Episode {
    root: tempfile::TempDir,
    path: PathBuf,
}

fn episode(files: &[&str]) -> Episode {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    fs::create_dir(&path).unwrap();
    for name in files {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, name).unwrap();
    }
    Episode { root, path }
}

#[test]
fn entries_come_in_the_order_of_their_path_bytes_with_the_slash() {
    let ep = episode(&[
        "a/x",
        "a-b",
        "a.b",
        "a0",
        "a/y/z",
        "a/y-",
        "B",
        "é",
        "done.marker",
    ]);
    fs::create_dir(ep.path.join("empty")).unwrap();
    let lines = walked(&ep.path).unwrap();
    let mut sorted = lines.clone();
    sorted[0].clear();
    sorted.sort_unstable();
    assert_eq!(lines[1..], sorted[1..]);
    assert_eq!(lines[..5], ["/", "B", "a-b", "a.b", "a/"]);
    assert_eq!(lines.len(), 13);
}

#[test]
fn folders_are_left_after_what_is_in_them() {
    let ep = episode(&["a/b/c", "a/d"]);
    let mut order = Vec::new();
    walk(&ep.path, &Progress::default(), |entry| {
        if let Kind::Left(folder) = entry.kind {
            assert!(folder.metadata().unwrap().is_dir());
            order.push(String::from_utf8(entry.path.to_vec()).unwrap());
        }
        Ok::<(), TreeError>(())
    })
    .unwrap();
    assert_eq!(order, ["a/b", "a", ""]);
}

#[test]
fn odd_kinds_are_reported_and_never_opened() {
    let ep = episode(&["file"]);
    symlink("/etc", ep.path.join("outside")).unwrap();
    symlink("nowhere", ep.path.join("dangling")).unwrap();
    mknodat(CWD, ep.path.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(ep.path.join("socket")).unwrap();
    assert_eq!(
        walked(&ep.path).unwrap(),
        [
            "/",
            "dangling -> nowhere",
            "file",
            "outside -> /etc",
            "pipe FIFO",
            "socket socket"
        ]
    );
}

#[test]
fn a_missing_episode_is_gone_and_a_symlink_is_no_episode() {
    let ep = episode(&["x"]);
    let link = ep.root.path().join("link");
    symlink(&ep.path, &link).unwrap();
    assert!(matches!(
        walked(&ep.root.path().join("none")),
        Err(TreeError::Gone)
    ));
    assert!(matches!(walked(&link), Err(TreeError::Io { .. })));
}

#[test]
fn nesting_has_a_limit_with_a_name() {
    let ep = episode(&[]);
    let deep = |levels| ep.path.join(vec!["d"; levels].join("/"));
    fs::create_dir_all(deep(MAX_DEPTH)).unwrap();
    assert_eq!(walked(&ep.path).unwrap().len(), MAX_DEPTH + 1);
    fs::create_dir_all(deep(MAX_DEPTH + 1)).unwrap();
    let error = walked(&ep.path).unwrap_err();
    assert!(
        matches!(&error, TreeError::TooDeep { path } if *path == Path::new(&vec!["d"; 129].join("/")))
    );
    assert!(error.to_string().contains("deeper than 128"));
}

#[test]
fn a_file_that_is_swapped_before_it_is_opened_has_changed() {
    type Swap = fn(&Path);
    let swaps: [Swap; 5] = [
        |file| {
            fs::rename(file, file.with_extension("old")).unwrap();
            symlink("/etc/passwd", file).unwrap();
        },
        |file| {
            fs::rename(file, file.with_extension("old")).unwrap();
            mknodat(CWD, file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        },
        |file| fs::rename(file, file.with_extension("old")).unwrap(),
        |file| fs::write(file, "longer than it was").unwrap(),
        |file| {
            fs::rename(file, file.with_extension("old")).unwrap();
            fs::write(file, "f").unwrap();
        },
    ];
    for swap in swaps {
        let ep = episode(&["f"]);
        let result = walk(&ep.path, &Progress::default(), |entry| {
            if let Kind::File(file) = entry.kind {
                swap(&ep.path.join("f"));
                file.open()?;
            }
            Ok::<(), TreeError>(())
        });
        assert!(
            matches!(&result, Err(TreeError::Changed { path }) if path == Path::new("f")),
            "{result:?}"
        );
    }
}

#[test]
fn a_folder_that_is_swapped_for_a_symlink_is_not_entered() {
    let ep = episode(&["d/x"]);
    let outside = ep.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    let result = walk(&ep.path, &Progress::default(), |entry| {
        assert!(!entry.path.ends_with(b"secret"));
        if entry.path == b"d" {
            fs::rename(ep.path.join("d"), ep.path.join("e")).unwrap();
            symlink(&outside, ep.path.join("d")).unwrap();
        }
        Ok::<(), TreeError>(())
    });
    assert!(
        matches!(result, Err(TreeError::Changed { .. })),
        "{result:?}"
    );
}

#[test]
fn a_folder_that_is_swapped_before_it_is_looked_at_has_changed() {
    let ep = episode(&["c", "d/x"]);
    let result = walk(&ep.path, &Progress::default(), |entry| {
        if entry.path == b"c" {
            fs::rename(ep.path.join("d"), ep.path.join("e")).unwrap();
            symlink("e", ep.path.join("d")).unwrap();
        }
        Ok::<(), TreeError>(())
    });
    assert!(
        matches!(&result, Err(TreeError::Changed { path }) if path == Path::new("d")),
        "{result:?}"
    );
}

#[test]
fn the_fingerprint_survives_a_move_and_our_receipt_and_nothing_else() {
    let ep = episode(&["data/x", "done.marker", "meta.json"]);
    let before = seen(&ep.path);
    assert_eq!(seen(&ep.path), before);
    fs::write(
        ep.path.join("quarantine_reason.json"),
        r#"{"status_code":412,"quarantined_at_wall":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    fs::write(ep.path.join(".sealift-copy-shipping_receipt.json"), "{").unwrap();
    fs::create_dir(ep.root.path().join("shipped")).unwrap();
    let moved = ep.root.path().join("shipped/a~1");
    fs::rename(&ep.path, &moved).unwrap();
    assert_eq!(seen(&moved), before);

    type Change = fn(&Path);
    let changes: [Change; 8] = [
        |ep| fs::write(ep.join("data/x"), "DATA/X").unwrap(),
        |ep| fs::write(ep.join("data/new"), "").unwrap(),
        |ep| fs::create_dir(ep.join("data/empty")).unwrap(),
        |ep| fs::rename(ep.join("meta.json"), ep.join("meta2.json")).unwrap(),
        |ep| fs::set_permissions(ep.join("data"), fs::Permissions::from_mode(0o700)).unwrap(),
        |ep| fs::set_permissions(ep.join("data/x"), fs::Permissions::from_mode(0o600)).unwrap(),
        |ep| symlink("x", ep.join("data/link")).unwrap(),
        |ep| fs::write(ep.join("shipping_receipt.json"), "the recorder's own").unwrap(),
    ];
    let mut last = before;
    for change in changes {
        change(&moved);
        let now = seen(&moved);
        assert_ne!(now, last);
        last = now;
    }
}

#[test]
fn a_recorders_own_file_of_our_name_is_kept() {
    let ep = episode(&[
        "shipping_receipt.json",
        "quarantine_reason.json",
        "in/quarantine_reason.json",
    ]);
    fs::write(
        ep.path.join("in/quarantine_reason.json"),
        r#"{"status_code":412,"quarantined_at_wall":"2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    fs::create_dir(ep.path.join("quarantine_reason.json~1")).unwrap();
    assert_eq!(walked(&ep.path).unwrap().len(), 6);
}

#[test]
fn a_reason_that_is_removed_under_the_walk_is_as_good_as_left_out_and_anything_else_has_changed() {
    for (going, is_left_out) in [("quarantine_reason.json", true), ("z", false)] {
        let ep = episode(&["a", "quarantine_reason.json", "z"]);
        let result = walk(&ep.path, &Progress::default(), |entry| {
            if entry.path == b"a" {
                fs::remove_file(ep.path.join(going)).unwrap();
            }
            Ok::<(), TreeError>(())
        });
        assert_eq!(result.is_ok(), is_left_out, "{going}: {result:?}");
    }
}

#[test]
fn a_cancelled_walk_stops() {
    let ep = episode(&["a", "b", "c"]);
    let progress = Progress::default();
    let result = walk(&ep.path, &progress, |_| {
        progress.cancel();
        Ok::<(), TreeError>(())
    });
    assert!(matches!(result, Err(TreeError::Cancelled(_))));
}

#[test]
fn a_top_file_is_read_up_to_its_bound_and_no_other_kind() {
    let ep = episode(&["meta.json"]);
    symlink("meta.json", ep.path.join("link")).unwrap();
    assert_eq!(
        read_top(&ep.path, c"meta.json", 100).unwrap().unwrap(),
        b"meta.json"
    );
    assert_eq!(
        read_top(&ep.path, c"meta.json", 3).unwrap().unwrap(),
        b"meta"
    );
    assert_eq!(read_top(&ep.path, c"link", 100).unwrap(), None);
    assert_eq!(read_top(&ep.path, c"none", 100).unwrap(), None);
}

#[test]
fn a_listing_shows_progress_at_each_name_and_not_only_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..100 {
        fs::write(folder.path().join(n.to_string()), b"").unwrap();
    }
    let progress = Progress::default();
    let mut first = None;
    walk(folder.path(), &progress, |entry| -> Result<(), TreeError> {
        if matches!(entry.kind, Kind::File(_)) {
            first.get_or_insert(progress.steps());
        }
        Ok(())
    })
    .unwrap();
    assert!(
        first.unwrap() >= 100,
        "{first:?} steps when the listing was over"
    );
}
