use std::{fs, os::unix::fs::MetadataExt as _, process::Command};

use serde_json::{Value, json};

use super::*;
use crate::{
    disk::tree,
    model::{
        episode::{Digest, Fingerprint},
        layout::{REASON, REMOVING},
        progress::Progress,
    },
    testing,
};

const NOW: WallTime = WallTime::from_unix_seconds(1_800_000_000);

fn sandbox() -> (tempfile::TempDir, Layout, EpisodeId) {
    let (root, layout) = testing::sandbox();
    let id = EpisodeId::parse("a").unwrap();
    fs::create_dir(layout.episode(&id)).unwrap();
    fs::write(layout.episode(&id).join("data"), "data").unwrap();
    for path in [
        layout.archive(&id),
        layout.sidecar(&id),
        layout.partial(&id),
    ] {
        fs::write(path, "").unwrap();
    }
    (root, layout, id)
}

fn too_old(fingerprint: Fingerprint) -> Reason {
    let error = "too old".to_owned();
    Reason {
        status: Some(412),
        error,
        body: json!({"head": "x"}),
        verdict: "fatal",
        fingerprint,
        content_sha256: None,
    }
}

fn fingerprint(layout: &Layout, id: &EpisodeId) -> Fingerprint {
    tree::fingerprint(&layout.episode(id), &Progress::default())
        .unwrap_or(Fingerprint(Digest([0; 32])))
}

/// Judged as it stands there, and quarantined.
fn act(layout: &Layout, id: &EpisodeId) -> Moved {
    act_on(layout, id, fingerprint(layout, id))
}

fn act_on(layout: &Layout, id: &EpisodeId, judged: Fingerprint) -> Moved {
    let no_content = |_: &EpisodeId, _: &Path| Ok(None);
    let progress = Progress::default();
    let step = StepContext::new(layout, id, &no_content, &progress);
    quarantine(&step, &too_old(judged), NOW, true)
}

/// How many episodes are in a folder.
fn visible(folder: &Path) -> usize {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .count()
}

#[test]
fn what_is_not_what_was_judged_is_not_moved() {
    let (_root, layout, id) = sandbox();
    let judged = fingerprint(&layout, &id);
    fs::write(layout.episode(&id).join("more"), "still recording").unwrap();
    assert_eq!(act_on(&layout, &id, judged), Moved::Changed);
    assert!(!layout.episode(&id).join(REASON).exists());
    durable::remove_tree(&layout.episode(&id), &Progress::default()).unwrap();
    fs::create_dir(layout.episode(&id)).unwrap();
    assert_eq!(
        act_on(&layout, &id, judged),
        Moved::Changed,
        "another episode of that name"
    );
    assert!(layout.episode(&id).exists() && layout.archive(&id).exists());
    assert!(fs::read_dir(&layout.quarantine).unwrap().next().is_none());
}

#[test]
fn a_rejected_episode_stands_aside_with_the_reason_and_its_archive_is_gone() {
    let (_root, layout, id) = sandbox();
    let to = layout.quarantine.join("a");
    assert_eq!(act(&layout, &id), Moved::To(to.clone()));
    let text = fs::read_to_string(to.join(REASON)).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({"episode_id": "a", "status_code": 412, "error": "too old", "body": {"head": "x"},
               "verdict": "fatal", "quarantined_at_wall": "2027-01-15T08:00:00Z",
               "aging": {"clock_believed": true}})
    );
    assert!(fs::read_dir(&layout.outbox).unwrap().next().is_none());
    assert!(!layout.episode(&id).exists());
}

#[test]
fn after_a_round_trip_the_episode_is_what_it_was() {
    let (_root, layout, id) = sandbox();
    let before = tree::fingerprint(&layout.episode(&id), &Progress::default()).unwrap();
    for _ in 0..2 {
        let Moved::To(to) = act(&layout, &id) else {
            panic!("not moved")
        };
        durable::move_directory(&to, &layout.episodes, "a", &Progress::default()).unwrap();
    }
    assert_eq!(
        tree::fingerprint(&layout.episode(&id), &Progress::default()).unwrap(),
        before
    );
    assert!(
        !layout
            .episode(&id)
            .join("quarantine_reason.json~1")
            .exists()
    );
}

#[test]
fn a_second_of_the_same_name_is_numbered_and_both_are_kept() {
    let (_root, layout, id) = sandbox();
    assert_eq!(act(&layout, &id), Moved::To(layout.quarantine.join("a")));
    fs::create_dir(layout.episode(&id)).unwrap();
    assert_eq!(act(&layout, &id), Moved::To(layout.quarantine.join("a~1")));
    assert_eq!(fs::read(layout.quarantine.join("a/data")).unwrap(), b"data");
    assert_eq!(
        record_files::reason(&layout.quarantine.join("a~1"))
            .unwrap()
            .unwrap()
            .episode_id
            .unwrap(),
        "a"
    );
}

/// What was quarantined long ago, for another reason, and announced.
fn of_old(id: &EpisodeId) -> QuarantineReason {
    let long_ago = WallTime::from_unix_seconds(NOW.unix_seconds() - 40 * 86_400);
    QuarantineReason {
        episode_id: Some(id.as_str().to_owned()),
        status_code: Some(400),
        error: Some("no commit".to_owned()),
        body: Value::Null,
        verdict: Some("fatal".to_owned()),
        quarantined_at_wall: Some(long_ago),
        aging: Some(Aging {
            clock_believed: true,
            announced_at_wall: Some(long_ago),
            ..Aging::default()
        }),
    }
}

#[test]
fn where_a_copy_of_it_is_in_quarantine_already_that_has_the_new_reason_before_the_source_goes() {
    let (_root, mut layout, id) = sandbox();
    let Ok(there) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    if fs::metadata(there.path()).unwrap().dev() == fs::metadata(&layout.episodes).unwrap().dev() {
        assert!(
            std::env::var("CI").is_err(),
            "/dev/shm and the temporary folder are one file system"
        );
        return;
    }
    layout.quarantine = there.path().to_owned();
    // As `requeue` leaves it that is killed before it has taken the source of its copy away.
    record_files::write_reason(&layout.episode(&id), &of_old(&id), &[]).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(layout.episode(&id))
        .arg(there.path())
        .status();
    assert!(copied.unwrap().success());
    assert_eq!(act(&layout, &id), Moved::To(there.path().join("a")));
    let reason = record_files::reason(&there.path().join("a"))
        .unwrap()
        .unwrap();
    assert_eq!(
        (reason.status_code, reason.quarantined_at_wall),
        (Some(412), Some(NOW))
    );
    assert_eq!(reason.aging.unwrap().announced_at_wall, None);
    assert!(!layout.episode(&id).exists() && visible(there.path()) == 1);
}

#[test]
fn a_copy_in_quarantine_that_is_being_removed_does_not_stand_for_its_source() {
    let (_root, mut layout, id) = sandbox();
    let Ok(there) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    layout.quarantine = there.path().to_owned();
    record_files::write_reason(&layout.episode(&id), &of_old(&id), &[]).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(layout.episode(&id))
        .arg(there.path())
        .status();
    assert!(copied.unwrap().success());
    fs::write(
        there.path().join("a").join(REMOVING),
        r#"{"sealift_removing":1,"copied_to":null}"#,
    )
    .unwrap();
    assert_eq!(act(&layout, &id), Moved::To(there.path().join("a~1")));
    assert_eq!(fs::read(there.path().join("a~1/data")).unwrap(), b"data");
}

#[test]
fn a_recorders_own_file_of_that_name_is_kept() {
    let (_root, layout, id) = sandbox();
    fs::write(layout.episode(&id).join(REASON), "the dog was sick").unwrap();
    act(&layout, &id);
    assert_eq!(
        fs::read_to_string(layout.quarantine.join("a").join(REASON)).unwrap(),
        "the dog was sick"
    );
    assert_eq!(
        record_files::reason(&layout.quarantine.join("a"))
            .unwrap()
            .unwrap()
            .status_code,
        Some(412)
    );
}

#[test]
fn an_episode_that_is_not_there_is_gone_and_one_that_cannot_be_moved_is_told() {
    let (_root, layout, id) = sandbox();
    fs::remove_dir(&layout.quarantine).unwrap();
    let moved = act(&layout, &id);
    assert!(
        matches!(&moved, Moved::Failed(why) if why.starts_with("rejected (too old), but ")),
        "{moved:?}"
    );
    assert!(layout.archive(&id).exists());
    durable::remove_tree(&layout.episode(&id), &Progress::default()).unwrap();
    assert_eq!(act(&layout, &id), Moved::Gone);
}
