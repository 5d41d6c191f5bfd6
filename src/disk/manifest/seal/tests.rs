use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
};

use super::*;
use crate::disk::manifest::parse;

fn episode() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    fs::create_dir_all(path.join("data")).unwrap();
    fs::write(path.join("data/x"), "1234").unwrap();
    fs::write(path.join(OsStr::from_bytes(b"\xff")), "").unwrap();
    symlink("data/x", path.join("link")).unwrap();
    (root, path)
}

#[test]
fn sealing_writes_a_manifest_of_every_file() {
    let (_root, path) = episode();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let sealed = seal(&path, &Progress::default()).unwrap();
    assert_eq!(
        sealed,
        Sealed {
            put_aside: None,
            files: 2,
            bytes: 4,
            untold: 0,
            links_out: LinksOut::default(),
            left_out: vec![("socket", "socket".into())]
        }
    );
    let manifest = parse(&fs::read(path.join(MARKER)).unwrap())
        .unwrap()
        .unwrap();
    let paths: Vec<_> = manifest.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, [&b"data/x"[..], b"\xff"]);
    assert_eq!(manifest.files[0].sha256, Digest::of(b"1234"));
    assert!(matches!(
        seal(&path, &Progress::default()),
        Err(SealError::AlreadySealed)
    ));
}

#[test]
fn what_is_no_directory_of_its_own_is_refused() {
    let (root, path) = episode();
    let link = root.path().join("link");
    symlink(&path, &link).unwrap();
    let refused = |path: &Path| seal(path, &Progress::default()).unwrap_err();
    assert!(matches!(refused(&link), SealError::Symlink));
    assert!(matches!(
        refused(&root.path().join("link/")),
        SealError::Symlink
    ));
    assert!(matches!(
        refused(&path.join("data/x")),
        SealError::NotADirectory
    ));
    assert!(matches!(
        refused(&root.path().join("none")),
        SealError::Missing
    ));
    symlink("nowhere", path.join(MARKER)).unwrap();
    assert!(matches!(refused(&path), SealError::OddMarker("a symlink")));
}

#[test]
fn what_is_left_of_an_episode_that_was_moved_is_not_sealed() {
    let (_root, path) = episode();
    fs::write(
        path.join(crate::model::layout::REMOVING),
        r#"{"sealift_removing":1,"copied_to":"/shipped/a"}"#,
    )
    .unwrap();
    assert!(matches!(
        seal(&path, &Progress::default()),
        Err(SealError::BeingRemoved)
    ));
    assert!(!path.join(MARKER).exists());
}

#[test]
fn a_file_that_grows_while_it_is_hashed_is_still_being_written() {
    let (_root, path) = episode();
    let file = File::open(path.join("data/x")).unwrap();
    let seen = Stat::of(&file).unwrap();
    fs::write(path.join("data/x"), "12345").unwrap();
    let error = hash(&file, b"data/x", &seen, &Progress::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the recorder is still writing: data/x changed"
    );
    assert!(!path.join(MARKER).exists());
}

#[test]
fn a_write_behind_the_hashing_is_still_writing() {
    let (_root, path) = episode();
    let result = seal_observed(
        &path,
        SealOptions::default(),
        &Progress::default(),
        |entry| {
            if entry.path == b"link" {
                fs::write(path.join("data/x"), "12345").unwrap();
            }
        },
    );
    assert!(matches!(result, Err(SealError::StillWriting { .. })));
    assert!(!path.join(MARKER).exists());
    assert!(seal(&path, &Progress::default()).is_ok());
}

#[test]
fn an_episode_with_a_file_that_is_open_for_writing_is_not_sealed_and_the_file_is_named() {
    let (_root, path) = episode();
    let writer = fs::OpenOptions::new()
        .append(true)
        .open(path.join("data/x"))
        .unwrap();
    let error = seal(&path, &Progress::default()).unwrap_err().to_string();
    let who = format!(
        "data/x is still open for writing by process {}",
        std::process::id()
    );
    assert!(error.starts_with(&who), "{error}");
    assert!(!path.join(MARKER).exists());
    drop(writer);
    seal(&path, &Progress::default()).unwrap();
}

#[test]
fn a_file_that_is_closed_within_a_moment_is_waited_for_and_sealed_with_what_was_written_last() {
    let (_root, path) = episode();
    let mut writer = fs::OpenOptions::new()
        .append(true)
        .open(path.join("data/x"))
        .unwrap();
    std::thread::scope(|threads| {
        let sealing = threads.spawn(|| seal(&path, &Progress::default()));
        std::io::Write::write_all(&mut writer, b"56").unwrap();
        drop(writer);
        sealing.join().unwrap().unwrap();
    });
    let manifest = parse(&fs::read(path.join(MARKER)).unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(manifest.files[0].sha256, Digest::of(b"123456"));
}

#[test]
fn a_file_that_is_opened_while_it_is_hashed_is_not_sealed() {
    let (_root, path) = episode();
    let mut writer = None;
    let result = seal_observed(
        &path,
        SealOptions::default(),
        &Progress::default(),
        |entry| {
            if entry.path == b"data/x" {
                writer = Some(
                    fs::OpenOptions::new()
                        .append(true)
                        .open(path.join("data/x"))
                        .unwrap(),
                );
            }
        },
    );
    assert!(
        matches!(result, Err(SealError::OpenForWriting { .. })),
        "{result:?}"
    );
    assert!(!path.join(MARKER).exists());
}

#[test]
fn of_two_that_seal_at_once_one_is_told_to_wait() {
    let (_folder, path) = episode();
    let result = seal_observed(&path, SealOptions::default(), &Progress::default(), |_| {
        assert!(matches!(
            seal(&path, &Progress::default()),
            Err(SealError::AlreadySealing)
        ));
    });
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn a_cancelled_seal_leaves_no_marker() {
    let (_root, path) = episode();
    let progress = Progress::default();
    progress.cancel();
    assert!(matches!(
        seal(&path, &progress),
        Err(SealError::Tree(TreeError::Cancelled(_)))
    ));
    assert_eq!(fs::read_dir(path).unwrap().count(), 3);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test plays the daemon and the operator"
)]
fn what_is_sealed_and_moved_away_meanwhile_is_said_to_be_sealed_wherever_seal_has_come_to() {
    let of_link = SealError::AlreadySealed.to_string();
    // The first entry of the walk that hashes, one in the middle of it, and the last.
    for (at, name) in [(0, &b""[..]), (2, b"data/x"), (5, b"\xff")] {
        for renamed in [true, false] {
            let (root, path) = episode();
            let shipped = root.path().join("shipped");
            let result = seal_observed(
                &path,
                SealOptions::default(),
                &Progress::default(),
                |entry| {
                    if entry.path == name && !path.join(MARKER).exists() && path.exists() {
                        fs::write(path.join(MARKER), "").unwrap();
                        if renamed {
                            fs::rename(&path, &shipped).unwrap();
                        }
                    }
                },
            );
            assert_eq!(result.unwrap_err().to_string(), of_link, "{at} {renamed}");
        }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test plays the daemon and the operator"
)]
fn what_loses_its_name_unsealed_while_it_is_sealed_is_not_said_to_be_missing_or_written_to() {
    for removed in [true, false] {
        for another in [true, false] {
            let (root, path) = episode();
            let result = seal_observed(
                &path,
                SealOptions::default(),
                &Progress::default(),
                |entry| {
                    if entry.path == b"link" {
                        match removed {
                            true => fs::remove_dir_all(&path).unwrap(),
                            false => fs::rename(&path, root.path().join("b")).unwrap(),
                        }
                        if another {
                            fs::create_dir(&path).unwrap();
                        }
                    }
                },
            );
            assert!(
                matches!(result, Err(SealError::MovedAway)),
                "{removed} {another}: {result:?}"
            );
            assert!(!path.join(MARKER).exists() && !root.path().join("b").join(MARKER).exists());
        }
    }
}

#[test]
fn what_is_not_there_may_have_been_shipped_and_the_error_says_how_to_find_out() {
    let (root, _) = episode();
    let said = seal(&root.path().join("none"), &Progress::default())
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("no such directory") && said.contains("sealift trace"),
        "{said}"
    );
}

#[test]
fn sealed_again_it_has_a_new_marker_and_the_old_one_is_hidden_beside_it_and_never_in_it() {
    let (root, path) = episode();
    let again = SealOptions {
        again: true,
        idle: None,
    };
    let seal_again = || seal_with(&path, again, &Progress::default()).unwrap();
    // What is not sealed is sealed as ever.
    assert_eq!(seal_again().put_aside, None);
    fs::write(path.join("data/x"), "another").unwrap();
    let aside = root.path().canonicalize().unwrap().join(".a.marker");
    assert_eq!(seal_again().put_aside.as_ref(), Some(&aside));
    let of = |marker: &Path| parse(&fs::read(marker).unwrap()).unwrap().unwrap();
    assert_eq!(of(&aside).files[0].sha256, Digest::of(b"1234"));
    let marker = path.join(MARKER);
    assert_eq!(of(&marker).files[0].sha256, Digest::of(b"another"));
    // Whatever has its name; and what was put aside before stays.
    durable::remove_file(&marker).unwrap();
    fs::create_dir_all(marker.join("theirs")).unwrap();
    let second = aside.with_file_name(".a.marker.1");
    assert_eq!(seal_again().put_aside.as_ref(), Some(&second));
    assert!(second.join("theirs").is_dir() && aside.is_file() && marker.is_file());
}

#[test]
fn where_it_is_not_sealed_again_its_marker_of_before_has_its_name_still() {
    let (root, path) = episode();
    fs::write(path.join(MARKER), "before").unwrap();
    let again = SealOptions {
        again: true,
        idle: None,
    };
    let writer = fs::OpenOptions::new()
        .append(true)
        .open(path.join("data/x"))
        .unwrap();
    let result = seal_with(&path, again, &Progress::default());
    assert!(
        matches!(result, Err(SealError::OpenForWriting { .. })),
        "{result:?}"
    );
    assert_eq!(fs::read(path.join(MARKER)).unwrap(), b"before");
    assert!(!root.path().join(".a.marker").exists());
    drop(writer);
    seal_with(&path, again, &Progress::default()).unwrap();
}

#[test]
fn what_was_written_to_of_late_anywhere_in_it_is_not_sealed_where_it_had_to_be_left_alone() {
    let (_root, path) = episode();
    let idle = Duration::from_secs(3600);
    let options = SealOptions {
        again: false,
        idle: Some(idle),
    };
    let seal_idle = || seal_with(&path, options, &Progress::default());
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let written = |name: &str, at| {
        let file = File::open(path.join(name)).unwrap();
        file.set_modified(at).unwrap();
    };
    for name in [".", "data", "data/x"] {
        written(name, long_ago);
    }
    File::open(path.join(OsStr::from_bytes(b"\xff")))
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    std::os::unix::fs::symlink("gone", path.join("link2")).unwrap();
    written(".", long_ago);
    // A link that was made just now counts, and so does what is in no time yet.
    assert!(matches!(seal_idle(), Err(SealError::NotIdle { .. })));
    durable::remove_file(&path.join("link2")).unwrap();
    durable::remove_file(&path.join("link")).unwrap();
    written(".", long_ago);
    for name in ["data/x", "data", "."] {
        let soon = long_ago + Duration::from_secs(1 << 40);
        written(name, soon);
        let refused = seal_idle().unwrap_err().to_string();
        assert!(refused.contains("less than 60 min ago"), "{refused}");
        written(name, long_ago);
    }
    assert!(!path.join(MARKER).exists());
    seal_idle().unwrap();
}
