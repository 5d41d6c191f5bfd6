//! What a note in a directory counts for: one that is removed where it stands.

use super::{in_place::killed, *};
use crate::{
    disk::durable::{copy_tree, finish_removal},
    model::layout::{MARKER, REMOVING},
};

fn episodes(root: &tempfile::TempDir) -> PathBuf {
    root.path().join("episodes")
}

/// As `cp -a` copies it, note and all.
fn copied_by_hand(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

#[test]
fn what_was_to_go_without_a_copy_is_never_removed_by_a_start() {
    for removed in [&[][..], &[MARKER], &[MARKER, "more"]] {
        for older in [true, false] {
            let (root, episode) = killed(None, removed);
            if older {
                fs::write(
                    episode.join(REMOVING),
                    r#"{"sealift_removing":1,"copied_to":null}"#,
                )
                .unwrap();
            }
            let before = names(&episode);
            finish_leftovers(&episodes(&root), &quiet()).unwrap();
            assert_eq!(
                finish_removal(&episode, &quiet()).unwrap(),
                Finished::NoSuch
            );
            assert_eq!(names(&episode), before, "{removed:?}");
        }
    }
}

#[test]
fn a_note_counts_for_no_folder_that_was_moved_copied_or_made_under_its_name_since() {
    let by_mv = |episode: &Path| {
        fs::rename(episode, episode.with_file_name("b")).unwrap();
        episode.with_file_name("b")
    };
    let by_cp = |episode: &Path| {
        copied_by_hand(episode, &episode.with_file_name("b"));
        fs::remove_dir_all(episode).unwrap();
        episode.with_file_name("b")
    };
    let under_its_name = |episode: &Path| {
        // The clock that stamps births ticks every few milliseconds.
        let born = |folder: &Path| fs::metadata(folder).unwrap().created().ok();
        let another = || tempfile::tempdir().unwrap();
        while born(episode).is_some() && born(another().path()) == born(episode) {}
        copied_by_hand(episode, &episode.with_file_name(".b"));
        // Both stand for a moment, so that it is another inode.
        fs::rename(episode, episode.with_file_name(".old")).unwrap();
        fs::rename(episode.with_file_name(".b"), episode).unwrap();
        fs::remove_dir_all(episode.with_file_name(".old")).unwrap();
        episode.to_owned()
    };
    for change in [&by_mv as &dyn Fn(&Path) -> PathBuf, &by_cp, &under_its_name] {
        let there = tempfile::tempdir().unwrap();
        let (root, episode) = killed(Some(&there.path().join("a")), &[]);
        let at = change(&episode);
        finish_leftovers(&episodes(&root), &quiet()).unwrap();
        assert_eq!(
            names(&at),
            [REMOVING, "data", MARKER, "more"],
            "it is a folder like any other"
        );
    }
}

#[test]
fn what_stands_where_its_copy_was_is_not_taken_for_its_own_copy() {
    for older in [true, false] {
        let there = tempfile::tempdir().unwrap();
        let copy = there.path().join("a");
        let (_root, source) = killed(Some(&copy), &[]);
        if older {
            let note = serde_json::json!({"sealift_removing": 1, "copied_to": copy});
            fs::write(source.join(REMOVING), note.to_string()).unwrap();
        }
        fs::remove_dir_all(&copy).unwrap();
        copied_by_hand(&source, &copy);
        finish_leftovers(there.path(), &quiet()).unwrap();
        assert_eq!(names(&copy), [REMOVING, "data", MARKER, "more"]);
    }
}

#[test]
fn a_note_is_left_out_of_copies_and_what_a_recorder_named_so_is_not() {
    let there = tempfile::tempdir().unwrap();
    let (_root, source) = killed(Some(&there.path().join("a")), &[]);
    for (name, text) in [("b", None), ("c", Some("a recorder's"))] {
        if let Some(text) = text {
            fs::write(source.join(REMOVING), text).unwrap();
        }
        let copy = there.path().join(name);
        fs::create_dir(&copy).unwrap();
        copy_tree::copy_into(&source, &copy, &copy_space::RoomClaim::none(), &quiet()).unwrap();
        assert_eq!(copy.join(REMOVING).exists(), text.is_some());
    }
}

#[test]
fn a_half_goes_as_its_copy_has_it_though_nothing_shows_any_more_that_its_note_was_written_for_it() {
    let there = tempfile::tempdir().unwrap();
    let copy = there.path().join("a");
    let (root, episode) = killed(Some(&copy), &[MARKER, "more"]);
    // As an overlay is mounted under another path.
    let moved = episode.with_file_name("b");
    fs::rename(&episode, &moved).unwrap();
    assert!(is_being_removed(&moved));
    finish_leftovers(&episodes(&root), &quiet()).unwrap();
    assert!(!moved.exists() && copy.join("data").exists());
}
