//! Removing a directory where it stands, since it can be renamed to no name: an overlay has such
//! ones.

use std::{fs::OpenOptions, io::Write as _};

use super::*;
use crate::{
    disk::{durable::removal_note::note_removal, scan},
    model::{
        episode::{EpisodeId, FolderLook, MARKED_REST},
        layout::{MARKER, REMOVING},
    },
};

/// An overlay whose lower layer has `episodes/a`.
pub(super) struct Overlay {
    _disk: Mount,
    merged: Mount,
    root: tempfile::TempDir,
}

struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(arguments)
            .arg("none")
            .arg(at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        cannot("mounting is not permitted");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

pub(super) fn overlay() -> Option<Overlay> {
    let (root, episode, _) = sandbox();
    fs::write(episode.join(MARKER), "").unwrap();
    let path = |name: &str| root.path().join(name);
    for name in ["disk", "merged"] {
        fs::create_dir(path(name)).unwrap();
    }
    let disk = Mount::new(&["-t", "tmpfs"], &path("disk"))?;
    for name in ["disk/upper", "disk/work"] {
        fs::create_dir(path(name)).unwrap();
    }
    let merged = merged(&root)?;
    Some(Overlay {
        _disk: disk,
        merged,
        root,
    })
}

fn merged(root: &tempfile::TempDir) -> Option<Mount> {
    let [lower, upper, work] = ["episodes", "disk/upper", "disk/work"]
        .map(|name| root.path().join(name).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off");
    Mount::new(
        &["-t", "overlay", "-o", &options],
        &root.path().join("merged"),
    )
}

/// The episode in it.
pub(super) fn in_the_lower_layer(overlay: &Overlay) -> PathBuf {
    overlay.merged.0.join("a")
}

#[test]
fn what_can_have_no_other_name_is_copied_once_and_removed_where_it_stands() {
    let (Some(overlay), Some(there)) = (overlay(), elsewhere()) else {
        return;
    };
    let episode = overlay.merged.0.join("a");
    let looks = std::cell::Cell::new(0);
    let unchanged = |path: &Path| {
        assert_eq!(path, episode);
        looks.set(looks.get() + 1);
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
        (moved, looks.get()),
        (MoveChecked::To(there.path().join("a")), 2)
    );
    assert_eq!(fs::read(there.path().join("a/data/x")).unwrap(), b"x");
    assert!(names(&overlay.merged.0).is_empty() && names(there.path()) == ["a"]);
}

#[test]
fn what_was_written_to_before_it_is_removed_where_it_stands_stays_whole_and_its_copy_goes() {
    let (Some(overlay), Some(there)) = (overlay(), elsewhere()) else {
        return;
    };
    let episode = overlay.merged.0.join("a");
    let unchanged = |path: &Path| Ok(!path.join(REMOVING).exists());
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
    assert_eq!(names(&episode), ["data", MARKER]);
    assert!(names(there.path()).is_empty());
}

#[test]
fn what_can_have_no_other_name_is_removed_all_the_same_when_its_time_has_come() {
    let Some(overlay) = overlay() else { return };
    remove_tree(&overlay.merged.0.join("a"), &quiet()).unwrap();
    assert!(names(&overlay.merged.0).is_empty());
}

/// As a process leaves it that was killed when it had removed so much.
pub(super) fn killed(copied_to: Option<&Path>, removed: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let (root, episode, _) = sandbox();
    fs::write(episode.join(MARKER), "").unwrap();
    fs::write(episode.join("more"), "more").unwrap();
    if let Some(copy) = copied_to {
        fs::create_dir(copy).unwrap();
        copy_tree::copy_into(&episode, copy, &copy_space::RoomClaim::none(), &quiet()).unwrap();
    }
    note_removal(&episode, copied_to).unwrap();
    for name in removed {
        let path = episode.join(name);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    (root, episode)
}

fn seen(episode: &Path) -> FolderLook {
    scan::look(episode.parent().unwrap(), &EpisodeId::parse("a").unwrap())
}

#[test]
fn a_removal_that_was_killed_anywhere_is_finished_and_no_half_of_it_looks_like_an_episode() {
    for removed in [
        &[][..],
        &[MARKER],
        &[MARKER, "more"],
        &[MARKER, "more", "data"],
    ] {
        let there = tempfile::tempdir().unwrap();
        let copy = there.path().join("a");
        let (root, episode) = killed(Some(&copy), removed);
        assert_eq!(
            matches!(seen(&episode), FolderLook::Sealed(_)),
            removed.is_empty(),
            "{removed:?}"
        );
        assert_ne!(seen(&episode), FolderLook::Open, "{removed:?}");
        finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
        assert!(
            names(&root.path().join("episodes")).is_empty(),
            "{removed:?}"
        );
        assert!(copy.join(MARKER).exists() && copy.join("data/x").exists());
    }
}

#[test]
fn what_is_left_of_a_removal_and_is_not_in_its_copy_stays_as_an_open_recording() {
    for change in [
        |episode: &Path| fs::write(episode.join("data/x"), "other").unwrap(),
        |episode: &Path| fs::write(episode.join("late"), "late").unwrap(),
    ] {
        let there = tempfile::tempdir().unwrap();
        let copy = there.path().join("a");
        let (root, episode) = killed(Some(&copy), &[MARKER, "more"]);
        change(&episode);
        finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
        assert_eq!(seen(&episode), FolderLook::Open);
        assert!(episode.join("data/x").exists() && !is_being_removed(&episode));
        assert_eq!(stays_beside(&episode), Some(copy.clone()));
        finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
        assert!(episode.join("data/x").exists(), "it is removed no further");
    }
}

#[test]
fn what_is_left_of_a_removal_waits_where_its_copy_is_not_there_whether_or_not_the_place_of_its_disk_is()
 {
    let there = tempfile::tempdir().unwrap();
    let copy = there.path().join("a");
    let (root, episode) = killed(Some(&copy), &[MARKER, "more"]);
    let away = there.path().join("unmounted");
    fs::rename(&copy, &away).unwrap();
    let error = finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("its copy is not there") && said.ends_with("Type: sudo mount -a"),
        "{said}"
    );
    assert_eq!(seen(&episode), FolderLook::BeingRemoved);
    fs::rename(&away, &copy).unwrap();
    finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
    assert!(!episode.exists() && copy.join("data/x").exists());
}

#[test]
fn on_an_overlay_that_is_mounted_anew_a_note_still_counts_for_its_folder() {
    let (Some(overlay), Some(there)) = (overlay(), elsewhere()) else {
        return;
    };
    let (episode, copy) = (in_the_lower_layer(&overlay), there.path().join("a"));
    fs::create_dir(&copy).unwrap();
    copy_tree::copy_into(&episode, &copy, &copy_space::RoomClaim::none(), &quiet()).unwrap();
    note_removal(&episode, Some(&copy)).unwrap();
    assert!(is_being_removed(&episode));
    let Overlay {
        _disk,
        merged: before,
        root,
    } = overlay;
    drop(before);
    let Some(_again) = merged(&root) else { return };
    // It gives its folders other inodes in another order.
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let _ = (inode(&root.path().join("merged/a/data")), inode(&episode));
    assert!(is_being_removed(&episode));
    assert_eq!(
        finish_removal(&episode, &quiet()).unwrap(),
        Finished::Removed
    );
    assert!(copy.join("data/x").exists());
}

type Change = fn(&Path);

/// What is done to a source when it was found to be what was copied, and before the first of it
/// goes.
const AFTER_THE_COMPARISON: [(&str, Change); 5] = [
    ("more", |episode| {
        OpenOptions::new()
            .append(true)
            .open(episode.join("more"))
            .unwrap()
            .write_all(b"tail")
            .unwrap();
    }),
    ("late", |episode| {
        fs::write(episode.join("late"), "late").unwrap();
    }),
    ("data/late", |episode| {
        fs::write(episode.join("data/late"), "late").unwrap();
    }),
    ("data/x", |episode| {
        fs::write(episode.join("other"), "y").unwrap();
        fs::rename(episode.join("other"), episode.join("data/x")).unwrap();
    }),
    ("more", |episode| {
        fs::remove_file(episode.join("more")).unwrap();
        symlink("data/x", episode.join("more")).unwrap();
    }),
];

#[test]
fn what_is_written_or_put_there_while_the_source_is_removed_where_it_stands_stays_and_is_told() {
    for (path, change) in AFTER_THE_COMPARISON {
        let there = tempfile::tempdir().unwrap();
        let copy = there.path().join("a");
        let (_root, episode) = killed(Some(&copy), &[]);
        let written = std::cell::RefCell::new(String::new());
        let against = || {
            change(&episode);
            *written.borrow_mut() = fs::read_to_string(episode.join(path)).unwrap();
            None::<()>
        };
        let finished = remove_in_place::remove_copied(
            &episode,
            &copy,
            OpenFileProbe::never(),
            against,
            || (),
            &quiet(),
        )
        .unwrap();
        assert_eq!(finished, Ok(Finished::Stays(path.into())));
        assert_eq!(
            fs::read_to_string(episode.join(path)).unwrap(),
            *written.borrow(),
            "{path}"
        );
        assert_eq!(stays_beside(&episode), Some(copy.clone()), "{path}");
        assert_eq!(
            seen(&episode),
            FolderLook::Open,
            "no half of it looks whole: {path}"
        );
        assert!(
            copy.join(MARKER).exists()
                && copy.join("more").exists()
                && copy.join("data/x").exists()
        );
    }
}

#[test]
fn on_an_overlay_what_is_written_to_a_source_when_it_was_compared_is_not_removed() {
    for (path, change) in AFTER_THE_COMPARISON {
        if path == "more" {
            continue;
        }
        let (Some(overlay), Some(there)) = (overlay(), elsewhere()) else {
            return;
        };
        let episode = in_the_lower_layer(&overlay);
        let unchanged = |path: &Path| {
            if path.join(REMOVING).exists() {
                change(path);
            }
            Ok(true)
        };
        let moved = move_unchanged(
            &episode,
            there.path(),
            "a",
            &unchanged,
            &any,
            OpenFileProbe::below(&episode),
            &quiet(),
        );
        assert_eq!(moved.unwrap(), MoveChecked::To(there.path().join("a")));
        assert!(episode.join(path).exists(), "{path}");
        assert_eq!(seen(&episode), FolderLook::Open, "{path}");
    }
}

#[test]
fn the_names_of_one_file_go_together_though_each_removal_moves_its_ctime() {
    let (root, episode, shipped) = sandbox();
    fs::write(episode.join(MARKER), "").unwrap();
    for name in ["b", "c", "data/d"] {
        fs::hard_link(episode.join("data/x"), episode.join(name)).unwrap();
    }
    let copy = shipped.join("a");
    fs::create_dir(&copy).unwrap();
    copy_tree::copy_into(&episode, &copy, &copy_space::RoomClaim::none(), &quiet()).unwrap();
    note_removal(&episode, Some(&copy)).unwrap();
    assert_eq!(
        finish_removal(&episode, &quiet()).unwrap(),
        Finished::Removed
    );
    assert!(names(&root.path().join("episodes")).is_empty() && copy.join("data/d").exists());
}

#[test]
fn what_is_left_and_has_a_file_open_is_gone_on_with_when_that_is_closed() {
    let there = tempfile::tempdir().unwrap();
    let copy = there.path().join("a");
    for is_written in [false, true] {
        let (root, episode) = killed(Some(&copy), &[MARKER]);
        let mut writer = OpenOptions::new()
            .append(true)
            .open(episode.join("more"))
            .unwrap();
        assert_eq!(
            finish_removal(&episode, &quiet()).unwrap(),
            Finished::Open("more".into())
        );
        assert_eq!(seen(&episode), FolderLook::BeingRemoved);
        finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
        assert_eq!(
            names(&episode),
            [REMOVING, "data", "more"],
            "nothing goes before"
        );
        if is_written {
            writer.write_all(b"tail").unwrap();
        }
        drop(writer);
        while finish_removal(&episode, &quiet()).unwrap() == Finished::Open("more".into()) {}
        assert_eq!(episode.exists(), is_written);
        assert_eq!(stays_beside(&episode).is_some(), is_written);
        if is_written {
            // Its recorder seals it, as it always does: under its name it is no episode, and under
            // another it is.
            fs::write(episode.join(MARKER), "").unwrap();
            assert_eq!(seen(&episode), FolderLook::OddMarker(MARKED_REST));
            let another = episode.with_file_name("b");
            fs::rename(&episode, &another).unwrap();
            let look = scan::look(another.parent().unwrap(), &EpisodeId::parse("b").unwrap());
            assert!(matches!(look, FolderLook::Sealed(_)), "{look:?}");
        }
        fs::remove_dir_all(&copy).unwrap();
    }
}

#[test]
fn where_the_disk_of_the_copy_is_not_there_what_is_left_waits() {
    let there = tempfile::tempdir().unwrap();
    let copy = there.path().join("shipped/a");
    fs::create_dir(there.path().join("shipped")).unwrap();
    let (_root, episode) = killed(Some(&copy), &[MARKER]);
    fs::rename(there.path().join("shipped"), there.path().join("away")).unwrap();
    finish_removal(&episode, &quiet()).unwrap_err();
    assert!(is_being_removed(&episode));
    fs::rename(there.path().join("away"), there.path().join("shipped")).unwrap();
    assert_eq!(
        finish_removal(&episode, &quiet()).unwrap(),
        Finished::Removed
    );
}

#[test]
fn a_note_that_no_shipper_wrote_removes_nothing() {
    for text in [
        "",
        "{",
        "{}",
        r#"{"sealift_removing":2}"#,
        "sealift_removing",
    ] {
        let (root, episode, _) = sandbox();
        fs::write(episode.join(REMOVING), text).unwrap();
        finish_leftovers(&root.path().join("episodes"), &quiet()).unwrap();
        assert_eq!(names(&episode.join("data")), ["x"], "{text}");
    }
}

#[test]
fn what_a_killed_process_had_built_goes_and_nothing_of_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let gone = [
        ".sealift-copy-run",
        ".sealift-copy-0-run",
        ".sealift-copy-12-run",
    ];
    let stay = [
        ".sealift-copy-0-Run",
        ".sealift-copy-0-run-1",
        ".sealift-copy-run-1",
        "run",
    ];
    for name in gone.iter().chain(&stay) {
        fs::create_dir_all(folder.path().join(name).join("half")).unwrap();
    }
    clear_unbuilt(folder.path(), "run", &quiet()).unwrap();
    assert_eq!(names(folder.path()), stay);
}

#[test]
fn scratch_whose_name_another_has_taken_is_given_no_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let (scratch, to) = (
        folder.path().join("run0.partial"),
        folder.path().join("run0"),
    );
    let mut ours = create_scratch(&scratch).unwrap();
    ours.write_all(b"ours").unwrap();
    // As one does whose name is the same where letter case is ignored.
    let mut theirs = create_scratch(&scratch).unwrap();
    theirs.write_all(b"half of theirs").unwrap();
    for error in [
        replace(&ours, &scratch, &to).unwrap_err(),
        publish(&ours, &scratch, &to).unwrap_err(),
    ] {
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }
    assert!(!to.exists());
    replace(&theirs, &scratch, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"half of theirs");
}
