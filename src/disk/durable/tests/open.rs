//! Moves to another file system of what a process has open for writing.

use std::{cell::RefCell, fs::OpenOptions, io::Write as _};

use super::{
    in_place::{in_the_lower_layer, overlay},
    *,
};
use crate::{
    disk::open_files::find_open,
    model::layout::{MARKER, REMOVING},
};

fn append(episode: &Path) -> File {
    OpenOptions::new()
        .append(true)
        .open(episode.join("data/x"))
        .unwrap()
}

/// Waits until no file is open for writing: a child that another test has just forked has our
/// descriptors until its exec(3).
pub(super) fn at_rest(episode: &Path) {
    let is_open = || {
        find_open(episode, OpenFileProbe::below(episode), &quiet())
            .unwrap()
            .is_some()
    };
    let mut looks = 0;
    while is_open() {
        looks += 1;
        assert!(looks < 1_000_000, "{} stays open", episode.display());
        std::thread::yield_now();
    }
}

/// Moves `episode` away, and opens a file of it when it is looked at for the `nth` time; its stamps
/// say nothing.
fn move_while_opened(episode: &Path, there: &Path, nth: usize) -> (MoveChecked, Option<File>) {
    let (opened, looks) = (
        RefCell::new((nth == 0).then(|| append(episode))),
        RefCell::new(0),
    );
    let unchanged = |path: &Path| {
        *looks.borrow_mut() += 1;
        if *looks.borrow() == nth {
            *opened.borrow_mut() = Some(append(path));
        }
        Ok(true)
    };
    let probe = OpenFileProbe::below(episode);
    let moved = move_unchanged(episode, there, "a", &unchanged, &any, probe, &quiet()).unwrap();
    (moved, opened.into_inner())
}

#[test]
fn what_is_open_for_writing_is_no_source_of_a_copy_and_stands_where_it_was_until_it_is_closed() {
    // Before it is copied, while it is, under its hidden name; behind the last look it can only be
    // opened by who works inside of it.
    for nth in 0..=2 {
        let Some(there) = elsewhere() else { return };
        let (root, episode, _) = sandbox();
        let (moved, opened) = move_while_opened(&episode, there.path(), nth);
        let (at, file) = (episode.clone(), PathBuf::from("data/x"));
        assert_eq!(
            moved,
            MoveChecked::Open { at, file },
            "opened at look {nth}"
        );
        assert!(
            names(there.path()).is_empty(),
            "a copy of what it was stays"
        );
        opened.unwrap().write_all(b" late").unwrap();
        assert_eq!(fs::read(episode.join("data/x")).unwrap(), b"x late");
        at_rest(&episode);
        let (moved, _) = move_while_opened(&episode, there.path(), usize::MAX);
        assert_eq!(moved, MoveChecked::To(there.path().join("a")));
        assert_eq!(fs::read(there.path().join("a/data/x")).unwrap(), b"x late");
        assert!(names(&root.path().join("episodes")).is_empty());
    }
}

#[test]
fn what_is_open_for_writing_costs_no_copy_at_all() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let _open = append(&episode);
    let (progress, probe) = (quiet(), OpenFileProbe::below(&episode));
    let moved = move_unchanged(&episode, there.path(), "a", &any, &any, probe, &progress).unwrap();
    assert!(matches!(moved, MoveChecked::Open { .. }), "{moved:?}");
    assert_eq!(progress.bytes(), 0);
}

#[test]
fn on_one_file_system_what_is_open_is_renamed_and_what_is_written_goes_along() {
    let (_root, episode, shipped) = sandbox();
    let (moved, opened) = move_while_opened(&episode, &shipped, 0);
    assert_eq!(moved, MoveChecked::To(shipped.join("a")));
    opened.unwrap().write_all(b" late").unwrap();
    assert_eq!(fs::read(shipped.join("a/data/x")).unwrap(), b"x late");
}

#[test]
fn a_marker_that_its_recorder_keeps_open_holds_up_no_copy() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let _marker = File::create(episode.join(MARKER)).unwrap();
    let (moved, _) = move_while_opened(&episode, there.path(), usize::MAX);
    assert_eq!(moved, MoveChecked::To(there.path().join("a")));
}

#[test]
fn a_move_of_what_was_at_rest_names_the_file_and_the_process_that_has_it_open() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let open = append(&episode);
    let error = move_to_name(&episode, there.path(), "a", &quiet())
        .unwrap_err()
        .to_string();
    let by = format!(
        "data/x is open for writing by process {}",
        std::process::id()
    );
    assert!(
        error.contains(&by) && error.contains("close it first"),
        "{error}"
    );
    assert!(names(there.path()).is_empty());
    drop(open);
    at_rest(&episode);
    assert_eq!(
        move_to_name(&episode, there.path(), "a", &quiet()).unwrap(),
        there.path().join("a")
    );
}

#[test]
fn what_is_open_for_writing_is_not_removed_where_it_stands() {
    for nth in 0..=2 {
        let (Some(overlay), Some(there)) = (overlay(), elsewhere()) else {
            return;
        };
        let episode = in_the_lower_layer(&overlay);
        let (moved, opened) = move_while_opened(&episode, there.path(), nth);
        opened.unwrap().write_all(b" late").unwrap();
        assert_eq!(
            fs::read(episode.join("data/x")).unwrap(),
            b"x late",
            "opened at look {nth}"
        );
        if nth < 2 {
            assert!(matches!(moved, MoveChecked::Open { .. }), "{moved:?}");
            assert_eq!(names(&episode), ["data", MARKER]);
            assert!(names(there.path()).is_empty());
        } else {
            // Behind the last look: what is left of it, with what was written since, stays without
            // a marker.
            assert_eq!(moved, MoveChecked::To(there.path().join("a")));
            finish_leftovers(episode.parent().unwrap(), &quiet()).unwrap();
            assert_eq!(names(&episode), [REMOVING, "data"]);
            assert_eq!(
                stays_beside(&episode),
                Some(there.path().join("a")),
                "it is not all in the copy"
            );
        }
    }
}
