//! Archives of what was in conflict.

use super::*;

/// An episode `a` that the receiver answered 409, with its archive.
fn in_conflict() -> Sandbox {
    let a = sandbox();
    let episode = a.layout.episode(&a.id);
    fs::create_dir(&episode).unwrap();
    fs::write(episode.join("data"), "data").unwrap();
    let verdict = RecordedVerdict {
        verdict: "conflict".to_owned(),
        status_code: 409,
        detail: "it holds another".to_owned(),
        at_wall: NOW,
        receiver: None,
        destination: None,
    };
    a.sidecar_with(ARCHIVE, content_in(&episode), &episode, Some(verdict));
    a
}

#[test]
fn an_episode_in_conflict_that_was_renamed_needs_its_archive_no_more() {
    for folder in ["episodes", "shipped"] {
        let a = in_conflict();
        let to = a.folder.path().join(folder);
        let renamed =
            durable::move_directory(&a.layout.episode(&a.id), &to, "b", &Progress::default())
                .unwrap();
        assert_eq!(a.settle(), Settled::Unlinked(renamed));
        assert!(a.outbox_is_empty());
    }
}

#[test]
fn an_episode_in_conflict_that_was_removed_leaves_its_archive_without_an_alarm() {
    let a = in_conflict();
    // Another of the same moment and length is not the one that was taken away.
    let other = a.layout.episodes.join("b");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("data"), "DATA").unwrap();
    durable::remove_tree(&a.layout.episode(&a.id), &Progress::default()).unwrap();
    let place = a.layout.quarantine.join("a");
    assert_eq!(
        a.settle(),
        Settled::PutAside(
            place.clone(),
            Why::RemovedByHand("it holds another".to_owned())
        )
    );
    let error = record_files::reason(&place)
        .unwrap()
        .unwrap()
        .error
        .unwrap();
    assert!(
        error.contains("was in conflict (it holds another), and its folder was removed by hand"),
        "{error}"
    );
    assert!(
        !error.contains("last copy") && error.contains("sealift requeue --unpack a "),
        "{error}"
    );
    // The receiver holds another under its own name.
    assert!(error.contains("under the name a-1"), "{error}");
    assert!(place.join("a.tar.zst").exists() && place.join("a.json").exists());
}

#[test]
fn what_was_in_conflict_and_was_changed_or_replaced_is_not_called_removed_by_hand() {
    let a = in_conflict();
    let episode = a.layout.episode(&a.id);
    fs::write(episode.join("data"), "corrected").unwrap();
    fs::write(episode.join("done.marker"), "").unwrap();
    let progress = Progress::default();
    let step = StepContext::new(&a.layout, &a.id, &content_of, &progress);
    let settled = settle(&step, a.root, true, NOW).unwrap();
    let place = a.layout.quarantine.join("a");
    assert_eq!(settled, Settled::PutAside(place.clone(), Why::Changed));
    let error = record_files::reason(&place)
        .unwrap()
        .unwrap()
        .error
        .unwrap();
    assert!(
        error.contains("nothing else has these bytes") && !error.contains("by hand"),
        "{error}"
    );
}
