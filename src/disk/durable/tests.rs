use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    process::Command,
    time::{Duration, SystemTime},
};

use rustix::fs::{FileType, Mode, mknodat};

use super::*;
use crate::{
    disk::open_files::OpenFileProbe,
    model::layout::{AT_WORK, TRASH_PREFIX},
};

fn quiet() -> Progress {
    Progress::default()
}

fn any(_: &Path) -> io::Result<bool> {
    Ok(true)
}

/// A folder with `episodes/`, an episode `a` in it, and `shipped/`.
fn sandbox() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (episode, shipped) = (root.path().join("episodes/a"), root.path().join("shipped"));
    fs::create_dir_all(episode.join("data")).unwrap();
    fs::create_dir(&shipped).unwrap();
    fs::write(episode.join("data/x"), "x").unwrap();
    (root, episode, shipped)
}

/// But for what is locked, which stays.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != AT_WORK)
        .collect();
    names.sort();
    names
}

/// A folder on another file system than the usual temporary one. A laptop may have none; then the
/// test is skipped.
fn elsewhere() -> Option<tempfile::TempDir> {
    let there = tempfile::tempdir_in("/dev/shm").ok()?;
    let here = tempfile::tempdir().unwrap();
    if fs::metadata(there.path()).unwrap().dev() != fs::metadata(here.path()).unwrap().dev() {
        return Some(there);
    }
    cannot("/dev/shm and the temporary folder are one file system");
    None
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn cannot(why: &str) {
    assert!(std::env::var("CI").is_err(), "{why}");
    eprintln!("skipped: {why}");
}

#[test]
fn publishing_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt.json");
    assert_eq!(
        write_new_record(&path, b"first", &[]).unwrap(),
        Published::Done
    );
    assert_eq!(
        write_new_record(&path, b"second", &[]).unwrap(),
        Published::NameTaken
    );
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(names(folder.path()), ["receipt.json"]);
}

#[test]
fn what_is_written_by_way_of_scratch_is_replaced_whole_and_leaves_no_scratch() {
    let folder = tempfile::tempdir().unwrap();
    let (path, scratch) = (
        folder.path().join("note.json"),
        folder.path().join("scratch"),
    );
    for text in ["first", "second"] {
        write_file_by_way_of(&scratch, &path, text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::create_dir(folder.path().join("taken")).unwrap();
    write_file_by_way_of(&scratch, &folder.path().join("taken"), b"third").unwrap_err();
    assert_eq!(names(folder.path()), ["note.json", "taken"]);
}

#[test]
fn a_leftover_is_not_truncated_under_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.partial");
    fs::write(&path, b"being read").unwrap();
    let reader = File::open(&path).unwrap();
    create_scratch(&path).unwrap();
    assert_eq!(io::read_to_string(reader).unwrap(), "being read");
}

#[test]
fn a_directory_whose_name_is_taken_is_numbered_and_nothing_is_replaced() {
    let (_root, episode, shipped) = sandbox();
    // An empty directory is what a plain rename would replace without a word.
    fs::create_dir(shipped.join("a")).unwrap();
    fs::write(shipped.join("a~1"), "a file").unwrap();
    let to = move_directory(&episode, &shipped, "a", &quiet()).unwrap();
    assert_eq!(to, shipped.join("a~2"));
    assert_eq!(fs::read(to.join("data/x")).unwrap(), b"x");
    assert!(names(&shipped.join("a")).is_empty());
    assert_eq!(names(&shipped), ["a", "a~1", "a~2"]);
    assert!(!episode.exists());
}

#[test]
fn where_noreplace_is_not_known_a_taken_name_is_looked_for() {
    let (_root, episode, shipped) = sandbox();
    fs::create_dir(shipped.join("a")).unwrap();
    symlink("nowhere", shipped.join("b")).unwrap();
    let rename = |to: &str| rename::rename_after_a_look(&episode, &shipped.join(to)).unwrap();
    assert_eq!(rename("a"), Published::NameTaken);
    assert_eq!(rename("b"), Published::NameTaken);
    assert_eq!(rename("c"), Published::Done);
    assert_eq!(names(&shipped.join("c")), ["data"]);
}

#[test]
fn without_a_lock_and_without_noreplace_a_name_is_claimed_and_an_empty_directory_keeps_it() {
    let (_root, episode, shipped) = sandbox();
    fs::create_dir(shipped.join("a")).unwrap();
    let claim = |to: &str| rename::claim(&episode, &shipped.join(to));
    assert_eq!(claim("a").unwrap(), Published::NameTaken);
    assert!(names(&shipped.join("a")).is_empty());
    assert_eq!(claim("b").unwrap(), Published::Done);
    assert_eq!(names(&shipped.join("b")), ["data"]);
    // It went away meanwhile: the claim goes with it.
    assert_eq!(claim("c").unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(names(&shipped), ["a", "b"]);
}

#[test]
fn of_many_who_claim_one_name_one_gets_it_and_nothing_is_replaced() {
    let (root, _, shipped) = sandbox();
    for round in 0..50 {
        let to = shipped.join(format!("a{round}"));
        let froms: Vec<_> = (0..4)
            .map(|n| root.path().join(format!("from-{round}-{n}")))
            .collect();
        for from in &froms {
            fs::create_dir(from).unwrap();
        }
        let claimed = std::thread::scope(|scope| {
            let claims: Vec<_> = froms
                .iter()
                .map(|from| scope.spawn(|| rename::claim(from, &to).unwrap()))
                .collect();
            claims
                .into_iter()
                .map(|claim| claim.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(
            claimed
                .iter()
                .filter(|one| **one == Published::Done)
                .count(),
            1,
            "{claimed:?}"
        );
        assert_eq!(froms.iter().filter(|from| from.exists()).count(), 3);
    }
}

#[test]
fn a_directory_that_changed_on_its_way_is_put_back() {
    let (_root, episode, shipped) = sandbox();
    let changed = |moved: &Path| {
        assert_eq!(moved, shipped.join("a"));
        Ok(false)
    };
    let moved = move_unchanged(
        &episode,
        &shipped,
        "a",
        &changed,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(moved, MoveChecked::Changed(episode.clone()));
    assert_eq!(names(&episode), ["data"]);
    assert!(names(&shipped).is_empty());

    let failed = |_: &Path| Err(io::Error::other("cannot be read"));
    move_unchanged(
        &episode,
        &shipped,
        "a",
        &failed,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap_err();
    assert_eq!(names(&episode), ["data"]);

    let unchanged = |moved: &Path| Ok(moved.join("data/x").exists());
    let moved = move_unchanged(
        &episode,
        &shipped,
        "a",
        &unchanged,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(moved, MoveChecked::To(shipped.join("a")));
}

#[test]
fn put_back_where_the_name_was_used_again_it_stands_beside_it() {
    let (_root, episode, shipped) = sandbox();
    let used_again = |_: &Path| {
        fs::create_dir(&episode)?;
        Ok(false)
    };
    let moved = move_unchanged(
        &episode,
        &shipped,
        "a",
        &used_again,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    let beside = episode.with_file_name("a~1");
    assert_eq!(moved, MoveChecked::Changed(beside.clone()));
    assert!(names(&episode).is_empty());
    assert_eq!(names(&beside), ["data"]);
    assert!(names(&shipped).is_empty());
}

#[test]
fn across_file_systems_everything_a_recorder_left_arrives() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    symlink("/etc/passwd", episode.join("link")).unwrap();
    fs::hard_link(episode.join("data/x"), episode.join("data/y")).unwrap();
    mknodat(
        CWD,
        episode.join("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(episode.join("socket")).unwrap();
    fs::create_dir(episode.join("empty")).unwrap();
    fs::write(episode.join(OsString::from("not utf-8 \u{fffd}")), "").unwrap();
    let holes = File::create(episode.join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", 3 << 20).unwrap();
    holes.set_len(5 << 20).unwrap();
    drop(holes);
    fs::set_permissions(episode.join("data/x"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(episode.join("data"), fs::Permissions::from_mode(0o2550)).unwrap();
    let mtime = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    for name in ["data/x", "data", "holes"] {
        File::open(episode.join(name))
            .unwrap()
            .set_modified(mtime)
            .unwrap();
    }
    fs::create_dir(there.path().join("a")).unwrap();
    open::at_rest(&episode);

    let to = move_directory(&episode, there.path(), "a", &quiet()).unwrap();

    assert_eq!(to, there.path().join("a~1"));
    assert_eq!(names(there.path()), ["a", "a~1"]);
    assert!(names(&root.path().join("episodes")).is_empty());
    assert_eq!(
        names(&to),
        [
            "data",
            "empty",
            "holes",
            "link",
            "not utf-8 \u{fffd}",
            "pipe"
        ]
    );
    assert_eq!(
        fs::read_link(to.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );
    let about = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
    assert_eq!(
        (about("data/x").mode(), about("data").mode()),
        (0o10_4711, 0o4_2550)
    );
    assert_eq!(about("pipe").mode(), 0o1_0640);
    for name in ["data/x", "data", "holes"] {
        assert_eq!(about(name).modified().unwrap(), mtime, "{name}");
    }
    assert_eq!(fs::read(to.join("data/y")).unwrap(), b"x");
    let holes = fs::read(to.join("holes")).unwrap();
    assert_eq!(
        (holes.len(), &holes[3 << 20..(3 << 20) + 3]),
        (5 << 20, &b"end"[..])
    );
    assert!(about("holes").blocks() * 512 < 2 << 20, "holes were filled");
}

#[test]
fn across_file_systems_a_directory_that_changed_stays_where_it_was() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    let changed = |seen: &Path| {
        // Asked of the source: the copy is complete by then and has no name yet.
        assert_eq!(seen, episode);
        assert_eq!(names(there.path()), [".sealift-copy-0-a"]);
        Ok(false)
    };
    let moved = move_unchanged(
        &episode,
        there.path(),
        "a",
        &changed,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(moved, MoveChecked::Changed(episode.clone()));
    assert_eq!(names(&episode.join("data")), ["x"]);
    assert_eq!(names(&root.path().join("episodes")), ["a"]);
    assert!(names(there.path()).is_empty());
}

#[test]
fn a_removal_does_not_follow_symlinks() {
    let (root, episode, _) = sandbox();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("keep"), "").unwrap();
    symlink(&outside, episode.join("link")).unwrap();
    symlink(&outside, root.path().join("episodes/b")).unwrap();
    remove_tree(&episode, &quiet()).unwrap();
    remove_tree(&root.path().join("episodes/b"), &quiet()).unwrap();
    remove_tree(&root.path().join("episodes/none"), &quiet()).unwrap();
    assert_eq!(names(&outside), ["keep"]);
    assert!(names(&root.path().join("episodes")).is_empty());
}

#[test]
fn a_removal_shows_its_progress_and_can_be_stopped_and_finished() {
    let (root, episode, _) = sandbox();
    for n in 0..3000 {
        fs::write(episode.join(format!("data/{n}")), "").unwrap();
    }
    let progress = quiet();
    progress.cancel();
    remove_tree(&episode, &progress).unwrap_err();
    let episodes = root.path().join("episodes");
    // Half of it never stands under its name.
    assert_eq!(names(&episodes), [".sealift-trash-0-a"]);

    fs::create_dir(episodes.join(".sealift-copy-b")).unwrap();
    fs::write(episodes.join(".sealift-copy-c.json"), "").unwrap();
    fs::create_dir(&episode).unwrap();
    let progress = quiet();
    finish_leftovers(&episodes, &progress).unwrap();
    assert_eq!(names(&episodes), ["a"]);
    assert!(progress.steps() >= 3004);
}

#[test]
fn a_second_removal_of_a_name_does_not_meet_the_first() {
    let (root, episode, _) = sandbox();
    let episodes = root.path().join("episodes");
    fs::create_dir(episodes.join(".sealift-trash-0-a")).unwrap();
    let hidden = remove_tree::hide(&episode, TRASH_PREFIX, OsStr::new("a")).unwrap();
    assert_eq!(hidden, Some(episodes.join(".sealift-trash-1-a")));
}

#[test]
fn a_folder_without_permissions_is_removed_where_it_is_ours() {
    let (root, episode, _) = sandbox();
    for (name, mode) in [("closed", 0o000), ("read-only", 0o555), ("blind", 0o300)] {
        fs::create_dir_all(episode.join(name).join("in")).unwrap();
        fs::write(episode.join(name).join("in/x"), "").unwrap();
        fs::set_permissions(episode.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(
        root.path().join("episodes"),
        fs::Permissions::from_mode(0o777),
    )
    .unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let foreign = root.path().join("episodes/foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("x"), "").unwrap();
    let as_nobody = |path: PathBuf| {
        std::thread::spawn(move || {
            // Root may do anything; this one thread becomes a user who may not.
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
            }
            remove_tree(&path, &Progress::default())
        })
        .join()
        .unwrap()
    };
    if rustix::process::geteuid().is_root() {
        for entry in [
            "",
            "data",
            "data/x",
            "closed",
            "closed/in",
            "read-only",
            "read-only/in",
            "blind",
            "blind/in",
        ] {
            std::os::unix::fs::chown(episode.join(entry), Some(65_534), None).unwrap();
        }
        let error = as_nobody(foreign).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            error
                .to_string()
                .contains(".sealift-trash-0-foreign/x: Permission denied"),
            "{error}"
        );
    }
    as_nobody(episode.clone()).unwrap();
    assert!(!root.path().join("episodes/.sealift-trash-0-a").exists());
}

/// A bind mount of the same file system: its device number tells nothing.
struct Bind(PathBuf);

impl Bind {
    fn of(source: &Path, target: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .arg("--bind")
            .args([source, target])
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(target.to_owned()));
        }
        cannot("mounting is not permitted");
        None
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn what_is_mounted_inside_is_neither_removed_nor_copied() {
    let (root, episode, _) = sandbox();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("keep"), "").unwrap();
    fs::create_dir(episode.join("mounted")).unwrap();
    let Some(mut bind) = Bind::of(&outside, &episode.join("mounted")) else {
        return;
    };
    if let Some(there) = elsewhere() {
        let error = move_unchanged(
            &episode,
            there.path(),
            "a",
            &any,
            &any,
            OpenFileProbe::never(),
            &quiet(),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("a/mounted: a mount point"),
            "{error}"
        );
        assert!(names(there.path()).is_empty());
    }
    let error = remove_tree(&episode, &quiet()).unwrap_err();
    bind.0 = root.path().join("episodes/.sealift-trash-0-a/mounted");
    assert!(error.to_string().contains("umount"), "{error}");
    assert_eq!(names(&outside), ["keep"]);
    drop(bind);
    finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
    assert!(names(&root.path().join("episodes")).is_empty());
    assert_eq!(names(&outside), ["keep"]);
}

#[test]
fn a_directory_is_built_out_of_sight_and_takes_no_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let fill = |scratch: &Path| fs::write(scratch.join("x"), "x");
    let built = build_directory(folder.path(), "a", fill, &quiet()).unwrap();
    assert_eq!(
        (built.as_path(), names(&built)),
        (folder.path().join("a~1").as_path(), vec!["x".to_owned()])
    );
    let fail = |scratch: &Path| fs::write(scratch.join("none/x"), "x");
    build_directory(folder.path(), "a", fail, &quiet()).unwrap_err();
    assert_eq!(names(folder.path()), ["a", "a~1"]);
    assert!(
        !folder.path().join(AT_WORK).exists(),
        "it may be a user's folder"
    );
}

#[test]
fn a_file_is_placed_by_a_link_or_a_copy_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    fs::write(&from, "bytes").unwrap();
    let to = folder.path().join("to");
    place_file(&from, &to, &quiet()).unwrap();
    assert_eq!(
        fs::metadata(&from).unwrap().ino(),
        fs::metadata(&to).unwrap().ino()
    );
    assert_eq!(
        place_file(&from, &to, &quiet()).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    if let Some(there) = elsewhere() {
        let to = there.path().join("to");
        place_file(&from, &to, &quiet()).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"bytes");
        place_file(&from, &to, &quiet()).unwrap_err();
    }
    symlink(&from, folder.path().join("link")).unwrap();
    place_file(
        &folder.path().join("link"),
        &folder.path().join("new"),
        &quiet(),
    )
    .unwrap_err();
    assert_eq!(names(folder.path()), ["from", "link", "to"]);
}

#[test]
fn where_a_folder_should_be_nothing_else_is_taken_for_one() {
    let root = tempfile::tempdir().unwrap();
    create_folder(&root.path().join("a/b")).unwrap();
    create_folder(&root.path().join("a/b")).unwrap();
    fs::write(root.path().join("a/file"), "").unwrap();
    symlink("nowhere", root.path().join("a/link")).unwrap();
    for name in ["file", "link"] {
        create_folder(&root.path().join("a").join(name)).unwrap_err();
    }
    assert_eq!(names(&root.path().join("a")), ["b", "file", "link"]);
}

mod across;
mod in_place;
mod notes;
mod open;
mod spare;
mod stopped;
