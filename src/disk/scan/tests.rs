use std::{fs, os::unix::fs::symlink};

use super::*;
use crate::testing::sandbox;

fn id(name: &str) -> EpisodeId {
    EpisodeId::parse(name).unwrap()
}

#[test]
fn a_scan_and_a_look_agree_on_what_is_sealed() {
    let (_folder, layout) = sandbox();
    for name in ["open", "sealed", ".building", "odd-marker", "bad\u{1}name"] {
        fs::create_dir(layout.episodes.join(name)).unwrap();
    }
    fs::write(layout.episodes.join("sealed").join(MARKER), "").unwrap();
    fs::create_dir(layout.episodes.join("odd-marker").join(MARKER)).unwrap();
    fs::write(layout.episodes.join("a-file"), "").unwrap();
    fs::write(layout.archive(&id("left")), "").unwrap();
    fs::write(layout.archive(&id("kept")), "").unwrap();
    fs::write(layout.sidecar(&id("kept")), "").unwrap();
    fs::write(layout.outbox.join("notes.txt"), "").unwrap();

    let mut scan = scan(&layout, &Progress::default()).unwrap();
    scan.episodes.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<_> = scan.episodes.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["odd-marker", "open", "sealed"]);
    assert_eq!(scan.episodes[0].1, FolderLook::OddMarker("a directory"));
    assert_eq!(scan.episodes[1].1, FolderLook::Open);
    assert!(matches!(scan.episodes[2].1, FolderLook::Sealed(_)));
    for (id, seen) in &scan.episodes {
        assert_eq!(look(&layout.episodes, id), *seen);
    }
    assert_eq!(scan.strangers.len(), 1);
    scan.archives.sort();
    assert_eq!(scan.archives, [id("kept"), id("left")]);
    assert_eq!(scan.unlabelled, [id("left")]);
    assert_eq!(scan.root, root_id(&layout.episodes).unwrap());
}

#[test]
fn symbolic_links_are_neither_episodes_nor_markers() {
    let (folder, layout) = sandbox();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    fs::write(folder.path().join("elsewhere").join(MARKER), "").unwrap();
    symlink(
        folder.path().join("elsewhere"),
        layout.episodes.join("link"),
    )
    .unwrap();
    fs::create_dir(layout.episodes.join("real")).unwrap();
    symlink(
        folder.path().join("elsewhere").join(MARKER),
        layout.episodes.join("real").join(MARKER),
    )
    .unwrap();
    assert_eq!(look(&layout.episodes, &id("link")), FolderLook::Gone);
    assert_eq!(
        look(&layout.episodes, &id("real")),
        FolderLook::OddMarker("a symlink")
    );
}

#[test]
fn what_somebody_takes_for_a_sealed_episode_and_is_none_is_found_with_its_reason() {
    let (folder, layout) = sandbox();
    let elsewhere = folder.path().join("elsewhere");
    for sealed in [&elsewhere, &layout.episodes.join("-sealed")] {
        fs::create_dir(sealed).unwrap();
        fs::write(sealed.join(MARKER), "").unwrap();
    }
    fs::create_dir(layout.episodes.join("-open")).unwrap();
    symlink(&elsewhere, layout.episodes.join("link")).unwrap();
    symlink(folder.path(), layout.episodes.join("elsewhere")).unwrap();
    symlink("nowhere", layout.episodes.join("dangling")).unwrap();
    fs::write(layout.episodes.join(MARKER), "").unwrap();
    fs::write(layout.episodes.join("notes"), "").unwrap();

    let mut found = scan(&layout, &Progress::default()).unwrap();
    assert!(found.episodes.is_empty());
    found.strangers.sort_by(|a, b| a.name.cmp(&b.name));
    let found: Vec<_> = found
        .strangers
        .iter()
        .map(|it| (it.name.to_str().unwrap(), it.sealed, it.why))
        .collect();
    let unnamed = NoEpisode::Name(EpisodeId::parse("-open").unwrap_err());
    assert_eq!(
        found,
        [
            ("-open", false, unnamed),
            ("-sealed", true, unnamed),
            (MARKER, true, NoEpisode::LooseMarker),
            ("link", true, NoEpisode::Symlink),
        ]
    );
}

#[test]
fn a_touch_is_no_other_seal_and_a_manifest_that_is_written_anew_is() {
    let (_folder, layout) = sandbox();
    let marker = layout.episode(&id("a")).join(MARKER);
    fs::create_dir(layout.episode(&id("a"))).unwrap();
    let file = File::create(&marker).unwrap();
    let seal = || match look(&layout.episodes, &id("a")) {
        FolderLook::Sealed(stamp) => stamp,
        other => panic!("{other:?}"),
    };
    let first = seal();
    let has_birth_times =
        first.made_ns != first.sealed_ns || file.metadata().unwrap().created().is_ok();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_ne!(seal(), first);
    assert_eq!(seal().is_still(first), has_birth_times);
    fs::write(&marker, "{}").unwrap();
    let written = seal();
    assert!(!written.is_still(first));
    fs::write(&marker, "[]").unwrap();
    assert!(!seal().is_still(written));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a recorder renames as it likes")]
fn a_marker_made_anew_is_another_stamp() {
    let (_folder, layout) = sandbox();
    let marker = layout.episode(&id("a")).join(MARKER);
    fs::create_dir(layout.episode(&id("a"))).unwrap();
    fs::write(&marker, "").unwrap();
    let first = look(&layout.episodes, &id("a"));
    assert_eq!(look(&layout.episodes, &id("a")), first);
    fs::rename(&marker, marker.with_extension("old")).unwrap();
    fs::write(&marker, "").unwrap();
    assert_ne!(look(&layout.episodes, &id("a")), first);
}

#[test]
fn only_roots_own_at_the_top_of_a_file_system_is_lost_and_found() {
    let top = File::open("/proc").unwrap();
    let (_folder, layout) = sandbox();
    fs::create_dir(layout.episodes.join(LOST_AND_FOUND)).unwrap();
    let below = File::open(&layout.episodes).unwrap();
    assert!(
        !is_lost_and_found(&below, OsStr::new(LOST_AND_FOUND)),
        "an episode of that name"
    );
    assert!(!is_lost_and_found(&top, OsStr::new("sys")), "another name");
    assert!(
        !is_lost_and_found(&top, OsStr::new(LOST_AND_FOUND)),
        "there is none"
    );
    assert!(is_roots_at_the_top(&top, OsStr::new("sys")));
    assert!(!is_roots_at_the_top(&below, OsStr::new(LOST_AND_FOUND)));
}

#[test]
fn a_missing_root_is_an_error_and_not_an_empty_folder() {
    let (_folder, layout) = sandbox();
    fs::remove_dir(&layout.episodes).unwrap();
    assert!(scan(&layout, &Progress::default()).is_err());
    assert!(matches!(
        look(&layout.episodes, &id("a")),
        FolderLook::Unreadable(_)
    ));
}
