//! Moves by copying that are told to stop.

use std::thread;

use super::*;

#[test]
fn a_copy_that_is_told_to_stop_leaves_no_half() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    let progress = Progress::default();
    // The copy is made, and not compared yet.
    let unchanged = |_: &Path| {
        progress.cancel();
        Ok(true)
    };
    let moved = move_unchanged(
        &episode,
        there.path(),
        "a",
        &unchanged,
        &any,
        OpenFileProbe::never(),
        &progress,
    );
    assert!(
        moved
            .unwrap_err()
            .to_string()
            .contains("stopped on request")
    );
    assert!(
        names(there.path()).is_empty(),
        "only the next start would remove it"
    );
    assert_eq!(names(&root.path().join("episodes")), ["a"]);
}

#[test]
fn where_the_copy_has_its_name_the_source_goes_though_it_is_told_to_stop() {
    let Some(there) = elsewhere() else { return };
    let (root, episode, _) = sandbox();
    for n in 0..3000 {
        fs::write(episode.join(format!("data/{n}")), b"x").unwrap();
    }
    let (progress, to) = (Progress::default(), there.path().join("a"));
    let moved = thread::scope(|threads| {
        let moving = threads.spawn(|| move_directory(&episode, there.path(), "a", &progress));
        while !to.exists() && !moving.is_finished() {
            thread::yield_now();
        }
        progress.cancel();
        moving.join().unwrap()
    });
    assert_eq!(moved.unwrap(), to);
    assert!(
        names(&root.path().join("episodes")).is_empty(),
        "both would be there"
    );
    assert_eq!(names(&to.join("data")).len(), 3001);
}

#[test]
fn a_copy_that_is_stopped_leaves_the_source_and_no_copy() {
    let Some(there) = elsewhere() else { return };
    let (_root, episode, _) = sandbox();
    let progress = quiet();
    progress.cancel();
    move_unchanged(
        &episode,
        there.path(),
        "a",
        &any,
        &any,
        OpenFileProbe::never(),
        &progress,
    )
    .unwrap_err();
    assert_eq!(names(&episode.join("data")), ["x"]);
    assert!(!there.path().join("a").exists());
    // What a killed copy leaves is begun again beside it, and goes with the next start.
    fs::create_dir_all(there.path().join(".sealift-copy-1-a/data")).unwrap();
    fs::write(there.path().join(".sealift-copy-1-a/data/half"), "").unwrap();
    let to = move_directory(&episode, there.path(), "a", &quiet()).unwrap();
    finish_leftovers(there.path(), &quiet()).unwrap();
    assert_eq!(names(&to.join("data")), ["x"]);
    assert_eq!(names(there.path()), ["a"]);
}
