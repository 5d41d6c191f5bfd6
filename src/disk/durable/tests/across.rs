//! Moves to another file system: what is written meanwhile, and what a killed process leaves.

use std::{cell::RefCell, fs::OpenOptions, io::Write as _};

use super::*;
use crate::{
    disk::tree,
    model::layout::{ASIDE_PREFIX, COPY_PREFIX, RECEIPT},
};

fn fingerprint(directory: &Path) -> io::Result<crate::model::episode::Fingerprint> {
    tree::fingerprint(directory, &quiet()).map_err(io::Error::other)
}

/// Moves `episode` away, and writes to a file of it through a descriptor that was open before, when
/// it is looked at for the `nth` time. Returns what became of the move, and the names under which
/// it was looked at.
fn move_while_written(episode: &Path, there: &Path, nth: usize) -> (MoveChecked, Vec<String>) {
    let packed = fingerprint(episode).unwrap();
    let mut open = OpenOptions::new()
        .append(true)
        .open(episode.join("data/x"))
        .unwrap();
    let looks = RefCell::new(Vec::new());
    let unchanged = |path: &Path| {
        looks
            .borrow_mut()
            .push(path.file_name().unwrap().to_str().unwrap().to_owned());
        if looks.borrow().len() == nth {
            open.try_clone()?.write_all(b" late")?;
        }
        Ok(fingerprint(path)? == packed)
    };
    let moved = move_unchanged(
        episode,
        there,
        "a",
        &unchanged,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    open.flush().unwrap();
    (moved, looks.into_inner())
}

#[test]
fn what_is_written_at_any_look_at_the_source_is_not_lost() {
    let names_at_each_look = ["a", ".sealift-aside-0-a", ".sealift-trash-0-a"];
    for nth in 1..=names_at_each_look.len() {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        let (moved, looks) = move_while_written(&episode, there.path(), nth);
        assert_eq!(looks, names_at_each_look[..nth]);
        assert_eq!(moved, MoveChecked::Changed(episode.clone()));
        assert_eq!(fs::read(episode.join("data/x")).unwrap(), b"x late");
        assert_eq!(names(&root.path().join("episodes")), ["a"]);
        assert!(
            names(there.path()).is_empty(),
            "a copy of what it was stays"
        );
    }
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    let (moved, looks) = move_while_written(&episode, there.path(), 0);
    assert_eq!(
        (moved, looks.len()),
        (MoveChecked::To(there.path().join("a")), 3)
    );
    assert!(names(&root.path().join("episodes")).is_empty());
}

#[test]
fn what_cannot_be_compared_any_more_is_put_back_and_its_copy_goes() {
    for nth in 1..=3 {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        let looks = RefCell::new(0);
        let unchanged = |_: &Path| {
            *looks.borrow_mut() += 1;
            if *looks.borrow() == nth {
                Err(io::Error::other("cannot be read"))
            } else {
                Ok(true)
            }
        };
        let error = move_unchanged(
            &episode,
            there.path(),
            "a",
            &unchanged,
            &any,
            OpenFileProbe::never(),
            &quiet(),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "cannot be read");
        assert_eq!(names(&root.path().join("episodes")), ["a"]);
        assert_eq!(names(&episode.join("data")), ["x"]);
        assert!(names(there.path()).is_empty());
    }
}

#[test]
fn a_source_that_changed_goes_beside_a_name_that_was_used_again() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    let unchanged = |path: &Path| {
        if path != episode {
            fs::create_dir(&episode)?;
        }
        Ok(path == episode)
    };
    let moved = move_unchanged(
        &episode,
        there.path(),
        "a",
        &unchanged,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(moved, MoveChecked::Changed(episode.with_file_name("a~1")));
    assert_eq!(names(&root.path().join("episodes/a~1/data")), ["x"]);
    assert!(names(&episode).is_empty() && names(there.path()).is_empty());
}

/// As a process leaves it that is killed when the copy has its name: both are whole. A receipt was
/// written anew since.
fn killed_with_both(there: &Path, episode: &Path, copy: &str) -> PathBuf {
    fs::create_dir(episode.join("empty")).unwrap();
    symlink("nowhere", episode.join("link")).unwrap();
    // Left out of a copy, which is none the less one for that.
    drop(std::os::unix::net::UnixListener::bind(episode.join("socket")).unwrap());
    fs::write(episode.join(RECEIPT), receipt("2026-01-01T00:00:00Z")).unwrap();
    let to = there.join(copy);
    fs::create_dir(&to).unwrap();
    copy_tree::copy_into(episode, &to, &copy_space::RoomClaim::none(), &quiet()).unwrap();
    fs::write(episode.join(RECEIPT), receipt("2026-01-01T00:00:07Z")).unwrap();
    to
}

fn receipt(at: &str) -> String {
    let zeros = "0".repeat(64);
    format!(
        r#"{{"episode_id":"a","sha256":"{zeros}","content_sha256":"{zeros}","size_bytes":1,"status_code":201,"receiver":"","delivered_at_wall":"{at}","manifest":"none","receipt":null}}"#
    )
}

#[test]
fn a_copy_that_a_killed_process_made_is_found_and_only_the_source_is_removed() {
    for (taken, copy) in [(&[][..], "a"), (&["a", "a~1"], "a~2")] {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        for name in taken {
            fs::create_dir(there.path().join(name)).unwrap();
        }
        let to = killed_with_both(there.path(), &episode, copy);
        let inode = fs::metadata(&to).unwrap().ino();
        assert_eq!(
            move_directory(&episode, there.path(), "a", &quiet()).unwrap(),
            to
        );
        assert_eq!(fs::metadata(&to).unwrap().ino(), inode);
        assert_eq!(names(there.path()).len(), taken.len() + 1);
        assert!(names(&root.path().join("episodes")).is_empty());
        assert_eq!(
            fs::read_to_string(to.join(RECEIPT)).unwrap(),
            receipt("2026-01-01T00:00:00Z")
        );
    }
}

#[test]
fn what_differs_in_a_byte_a_mode_a_name_or_a_record_is_another_and_both_are_kept() {
    let differences: [fn(&Path); 6] = [
        |copy| {
            let file = File::options()
                .write(true)
                .open(copy.join("data/x"))
                .unwrap();
            let mtime = file.metadata().unwrap().modified().unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"y", 0).unwrap();
            file.set_modified(mtime).unwrap();
        },
        |copy| fs::set_permissions(copy.join("data/x"), fs::Permissions::from_mode(0o600)).unwrap(),
        |copy| fs::write(copy.join("more"), "").unwrap(),
        |copy| fs::write(copy.join("data/x"), "longer").unwrap(),
        |copy| {
            fs::remove_file(copy.join("link"))
                .and_then(|()| symlink("other", copy.join("link")))
                .unwrap();
        },
        |copy| fs::remove_file(copy.join(RECEIPT)).unwrap(),
    ];
    for difference in differences {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        let to = killed_with_both(there.path(), &episode, "a");
        difference(&to);
        let moved = move_directory(&episode, there.path(), "a", &quiet()).unwrap();
        assert_eq!(moved, there.path().join("a~1"));
        assert_eq!(names(there.path()), ["a", "a~1"]);
        assert_eq!(fs::read(moved.join("data/x")).unwrap(), b"x");
        assert!(names(&root.path().join("episodes")).is_empty());
    }
}

#[test]
fn a_copy_of_another_delivery_is_not_taken_for_this_one() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let to = killed_with_both(there.path(), &episode, "a");
    let of_this = |copy: &Path| {
        assert_eq!(copy, to);
        Ok(false)
    };
    let moved = move_unchanged(
        &episode,
        there.path(),
        "a",
        &any,
        &of_this,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(moved, MoveChecked::To(there.path().join("a~1")));
}

#[test]
fn what_was_put_aside_by_a_killed_process_has_its_name_back_with_what_was_written_since() {
    let (root, episode, _) = sandbox();
    let episodes = root.path().join("episodes");
    let mut open = OpenOptions::new()
        .append(true)
        .open(episode.join("data/x"))
        .unwrap();
    remove_tree::hide(&episode, ASIDE_PREFIX, OsStr::new("a")).unwrap();
    open.write_all(b" late").unwrap();
    fs::create_dir(episodes.join(format!("{COPY_PREFIX}b"))).unwrap();
    finish_leftovers(&episodes, &quiet()).unwrap();
    assert_eq!(names(&episodes), ["a"]);
    assert_eq!(fs::read(episode.join("data/x")).unwrap(), b"x late");

    remove_tree::hide(&episode, ASIDE_PREFIX, OsStr::new("a")).unwrap();
    fs::create_dir(&episode).unwrap();
    finish_leftovers(&episodes, &quiet()).unwrap();
    assert_eq!(names(&episodes), ["a", "a~1"]);
    assert_eq!(names(&episodes.join("a~1")), ["data"]);
}

#[test]
fn what_was_put_aside_goes_where_its_copy_has_all_of_it_and_stays_where_not_or_where_it_is_open() {
    for how in [
        "as it was copied",
        "written to since",
        "the copy is another's",
        "open for writing",
    ] {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        let copy = killed_with_both(there.path(), &episode, "a");
        remove_tree::hide(&episode, ASIDE_PREFIX, OsStr::new("a")).unwrap();
        fs::create_dir(&episode).unwrap();
        let aside = episode.with_file_name(".sealift-aside-0-a");
        match how {
            "written to since" => fs::write(aside.join("data/x"), "x late").unwrap(),
            "the copy is another's" => fs::write(copy.join("data/x"), "y").unwrap(),
            _ => {}
        }
        let open = OpenOptions::new()
            .append(true)
            .open(aside.join("data/x"))
            .unwrap();
        let open = (how == "open for writing").then_some(open);
        let gone = finish_aside(&aside, &copy, &quiet()).unwrap();
        assert_eq!(gone, how == "as it was copied", "{how}");
        let left = if gone {
            vec!["a"]
        } else {
            vec![".sealift-aside-0-a", "a"]
        };
        assert_eq!(names(&root.path().join("episodes")), left, "{how}");
        assert_eq!(names(there.path()), ["a"], "{how}");
        drop(open);
    }
}

#[test]
fn user_attributes_go_along_and_those_that_cannot_hold_nothing_up() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let long = vec![b'v'; 3000];
    for (at, name, value) in [
        ("data/x", "user.rig", &b"7"[..]),
        ("data/x", "user.calibration", &long),
        ("data", "user.empty", b""),
    ] {
        if setxattr(episode.join(at), name, value, XattrFlags::CREATE).is_err() {
            return cannot("the temporary folder keeps no user attributes");
        }
    }
    if setxattr(there.path(), "user.try", b"", XattrFlags::CREATE).is_err() {
        move_directory(&episode, there.path(), "a", &quiet()).unwrap();
        return cannot("/dev/shm keeps no user attributes");
    }
    // What is read-only can be given none any more: they come before the permission bits.
    fs::set_permissions(episode.join("data/x"), fs::Permissions::from_mode(0o444)).unwrap();
    let to = move_directory(&episode, there.path(), "a", &quiet()).unwrap();
    let value = |at: &str, name: &str| {
        let mut value = vec![0; 4000];
        let len = getxattr(to.join(at), name, &mut value[..]).unwrap();
        value.truncate(len);
        value
    };
    assert_eq!(value("data/x", "user.rig"), b"7");
    assert_eq!(value("data/x", "user.calibration"), long);
    assert_eq!(value("data", "user.empty"), b"");
}

#[test]
fn a_move_to_one_name_takes_no_other_and_moves_nothing_where_that_is_taken() {
    let folders = [Some(tempfile::tempdir().unwrap()), elsewhere()];
    for there in folders.into_iter().flatten() {
        let (root, episode, _) = sandbox();
        let to = there.path().join("a");
        fs::create_dir(&to).unwrap();
        let error = move_to_name(&episode, there.path(), "a", &quiet()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (names(there.path()), names(&to)),
            (vec!["a".to_owned()], Vec::new())
        );
        assert_eq!(names(&episode.join("data")), ["x"]);

        fs::remove_dir(&to).unwrap();
        assert_eq!(
            move_to_name(&episode, there.path(), "a", &quiet()).unwrap(),
            to
        );
        assert_eq!(fs::read(to.join("data/x")).unwrap(), b"x");
        assert_eq!(names(there.path()), ["a"]);
        assert!(names(&root.path().join("episodes")).is_empty());
    }
}

#[test]
fn a_move_to_one_name_that_was_killed_finds_its_copy_there() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    killed_with_both(there.path(), &episode, "a");
    assert_eq!(
        move_to_name(&episode, there.path(), "a", &quiet()).unwrap(),
        there.path().join("a")
    );
    assert_eq!(names(there.path()), ["a"]);
    assert!(names(&root.path().join("episodes")).is_empty());
}

#[test]
fn what_may_be_given_no_other_name_is_not_copied_for_nothing() {
    let Some(there) = elsewhere() else { return };
    if !rustix::process::geteuid().is_root() {
        return cannot("only root makes a folder of another user's");
    }
    let (root, episode, _) = sandbox();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (owner, visitor) = (65_534, rustix::fs::Uid::from_raw(65_533));
    mode(root.path(), 0o755);
    for path in [there.path(), &root.path().join("episodes"), &episode] {
        mode(path, 0o1777);
    }
    std::os::unix::fs::chown(&episode, Some(owner), None).unwrap();
    let progress = quiet();
    // Another thread of root's takes another user, and with that loses its capabilities.
    let error = std::thread::scope(|threads| {
        let other = threads.spawn(|| {
            rustix::thread::set_thread_uid(visitor).unwrap();
            move_directory(&episode, there.path(), "a", &progress).unwrap_err()
        });
        other.join().unwrap()
    });
    assert_eq!(
        (error.kind(), progress.bytes()),
        (io::ErrorKind::PermissionDenied, 0),
        "{error}"
    );
    assert_eq!(
        (
            names(&root.path().join("episodes")),
            names(there.path()).len()
        ),
        (vec!["a".to_owned()], 0)
    );
    // The owner of the sticky folder may.
    assert_eq!(
        move_directory(&episode, there.path(), "a", &quiet()).unwrap(),
        there.path().join("a")
    );
}

#[test]
fn a_file_that_is_longer_than_one_can_be_there_is_found_before_anything_is_copied() {
    let Some(there) = elsewhere() else { return };
    let (_root, _, shipped) = sandbox();
    let episode = there.path().join("a");
    fs::create_dir(&episode).unwrap();
    let long: u64 = 1 << 46;
    let made = File::create(episode.join("long.bin")).and_then(|file| file.set_len(long));
    let probe = File::create(shipped.join("probe")).unwrap();
    if made.is_err() || rustix::fs::seek(&probe, rustix::fs::SeekFrom::Start(long)).is_ok() {
        return cannot("the temporary folder holds what /dev/shm does");
    }
    fs::remove_file(shipped.join("probe")).unwrap();
    let progress = quiet();
    let error = move_directory(&episode, &shipped, "a", &progress).unwrap_err();
    assert!(cannot_hold(&error), "{error}");
    let said = format!(
        "{}: its length ({long} bytes) cannot be held by",
        episode.join("long.bin").display()
    );
    assert!(error.to_string().starts_with(&said), "{error}");
    assert_eq!(
        (progress.bytes(), names(&shipped), names(there.path())),
        (0, Vec::new(), vec!["a".to_owned()])
    );
}

#[test]
fn what_lies_in_a_folder_is_left_alone_by_a_start_while_a_move_is_at_work_there() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    let episodes = root.path().join("episodes");
    let looks = RefCell::new(0);
    // Before the copy has its name, while the source is aside, and when that has its last name.
    let unchanged = |_: &Path| {
        let is_first = looks.replace_with(|looks| *looks + 1) == 0;
        for (folder, lies_there) in [(there.path(), is_first), (&episodes, !is_first)] {
            let expected = if lies_there {
                Leftovers::InUse
            } else {
                Leftovers::Finished
            };
            assert_eq!(finish_leftovers(folder, &quiet()).unwrap(), expected);
        }
        Ok(true)
    };
    let moved = move_unchanged(
        &episode,
        there.path(),
        "a",
        &unchanged,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(
        (moved, looks.into_inner()),
        (MoveChecked::To(there.path().join("a")), 3)
    );
    assert_eq!(fs::read(there.path().join("a/data/x")).unwrap(), b"x");
    for folder in [there.path(), &episodes] {
        assert_eq!(
            finish_leftovers(folder, &quiet()).unwrap(),
            Leftovers::Finished
        );
    }
}

#[test]
fn a_source_does_not_go_where_its_copy_is_not_what_was_made_any_more() {
    for nth in 1..=3 {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        let looks = RefCell::new(0);
        // As a start on another host would: it removes what looks like a killed one's.
        let unchanged = |_: &Path| {
            *looks.borrow_mut() += 1;
            if *looks.borrow() == nth {
                let copy = fs::read_dir(there.path())
                    .unwrap()
                    .next()
                    .unwrap()
                    .unwrap()
                    .path();
                fs::remove_file(copy.join("data/x")).unwrap();
            }
            Ok(true)
        };
        move_unchanged(
            &episode,
            there.path(),
            "a",
            &unchanged,
            &any,
            OpenFileProbe::never(),
            &quiet(),
        )
        .unwrap_err();
        assert_eq!(fs::read(episode.join("data/x")).unwrap(), b"x", "{nth}");
        assert_eq!(names(&root.path().join("episodes")), ["a"]);
        assert!(names(there.path()).is_empty());
    }
}

#[test]
fn a_copy_does_not_go_where_its_source_is_not_whole_any_more() {
    for nth in 2..=3 {
        let Some(there) = elsewhere() else { return };
        let (_root, episode, _) = sandbox();
        let looks = RefCell::new(0);
        let unchanged = |path: &Path| {
            *looks.borrow_mut() += 1;
            if *looks.borrow() == nth {
                fs::remove_file(path.join("data/x")).unwrap();
                return Ok(false);
            }
            Ok(true)
        };
        let moved = move_unchanged(
            &episode,
            there.path(),
            "a",
            &unchanged,
            &any,
            OpenFileProbe::never(),
            &quiet(),
        )
        .unwrap();
        assert_eq!(moved, MoveChecked::Changed(episode.clone()));
        assert_eq!(
            fs::read(there.path().join("a/data/x")).unwrap(),
            b"x",
            "{nth}"
        );
    }
}

#[test]
fn a_copy_that_stood_there_before_stays_where_its_source_stays() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    // Of an earlier try; or the operator has made the source out of it, and is at work on that.
    let before = killed_with_both(there.path(), &episode, "a");
    let unchanged = |_: &Path| Ok(false);
    let moved = move_unchanged(
        &episode,
        there.path(),
        "a",
        &unchanged,
        &any,
        OpenFileProbe::never(),
        &quiet(),
    )
    .unwrap();
    assert_eq!(moved, MoveChecked::Changed(episode));
    assert_eq!(fs::read(before.join("data/x")).unwrap(), b"x");
}

#[test]
fn a_file_of_many_small_holes_takes_no_more_room_as_a_copy_than_it_takes_where_it_stands() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let sparse = episode.join("sparse");
    let file = File::create(&sparse).unwrap();
    let block = [7; 4096];
    for n in 0..500 {
        std::os::unix::fs::FileExt::write_all_at(&file, &block, n * 2 * 4096).unwrap();
    }
    file.set_len(1000 * 4096).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let taken = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
    let (before, content) = (taken(&sparse), fs::read(&sparse).unwrap());
    assert!(
        before < 600 * 4096,
        "this file system keeps no such holes: {before}"
    );
    // Without holes it is written in its order, zeros and all.
    fs::write(episode.join("dense"), [block, [0; 4096], block].concat()).unwrap();
    File::open(episode.join("dense"))
        .unwrap()
        .sync_all()
        .unwrap();
    let copy = move_directory(&episode, there.path(), "a", &quiet())
        .unwrap()
        .join("sparse");
    assert_eq!(taken(&copy.with_file_name("dense")), 3 * 4096);
    assert!(taken(&copy) <= before, "{} of {before}", taken(&copy));
    assert_eq!(fs::read(&copy).unwrap(), content);
}
