//! A conflict of what was sent without a copy in the outbox is remembered all the same.

#![expect(
    clippy::disallowed_methods,
    reason = "a test puts something in the way and takes it away"
)]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use super::direct::NO_ROOM;
use crate::support::{Reply, Sandbox, Scripted, eventually, json_of, sealift};

/// Holds other content under `run-1`, until it is told that it was mended.
fn holds_other_content(mended: &Arc<AtomicBool>) -> Scripted {
    let mended = Arc::clone(mended);
    Scripted::new(move |seen, _| {
        match (seen.head.starts_with("HEAD"), mended.load(Ordering::SeqCst)) {
            (true, _) => Reply::empty(404),
            (false, true) => Reply::stored(seen),
            (false, false) => Reply::json(
                409,
                &json!({"type": "urn:sealift:conflict", "title": "held with other content"}),
            ),
        }
    })
}

fn status(sandbox: &Sandbox) -> Value {
    json_of(
        sealift()
            .args(["status", "--json", "--data"])
            .arg(sandbox.data())
            .output()
            .unwrap(),
    )
    .1
}

fn uploads(server: &Scripted) -> usize {
    server
        .seen()
        .iter()
        .filter(|seen| seen.head.starts_with("PUT"))
        .count()
}

#[test]
fn a_conflict_of_what_was_sent_without_a_copy_outlives_the_daemon_and_is_not_sent_again_by_each_start()
 {
    let mended = Arc::new(AtomicBool::new(false));
    let server = holds_other_content(&mended);
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = || sandbox.start(sandbox.command_with_config("ship", NO_ROOM));
    let mut daemon = ship();
    eventually("the conflict is noted, and alone", || {
        sandbox.outbox() == ["run-1.json"]
    });
    daemon.wait_log("the receiver holds other content under this name");
    assert!(daemon.terminate().success());

    // Without a daemon the folders say so.
    let told = status(&sandbox);
    assert_eq!(told["folders"]["found"]["conflict"], 1, "{told}");
    let doctor = sandbox.command("doctor").arg("--json").output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("held with other content"));

    // Nor is it sent again.
    let mut daemon = ship();
    eventually("it is known to be in conflict", || {
        status(&sandbox)["snapshot"]["counts"]["conflict"] == 1
    });
    assert_eq!(uploads(&server), 1);
    assert!(daemon.terminate().success());

    // It is what one pass reports as well.
    let once = sandbox
        .command_with_config("ship", NO_ROOM)
        .args(["--once", "--json"])
        .output()
        .unwrap();
    let (code, tally) = json_of(once);
    assert_eq!((code, &tally["conflicts"]), (1, &json!(1)), "{tally}");
    assert_eq!(uploads(&server), 1);

    // An operator says so.
    let _daemon = ship();
    eventually("it is known to be in conflict", || {
        status(&sandbox)["snapshot"]["counts"]["conflict"] == 1
    });
    mended.store(true, Ordering::SeqCst);
    assert!(
        sandbox
            .command("requeue")
            .arg("run-1")
            .status()
            .unwrap()
            .success()
    );
    sandbox.wait_shipped("run-1");
    assert_eq!(uploads(&server), 2);
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn a_noted_conflict_is_not_true_of_an_episode_that_was_changed() {
    let mended = Arc::new(AtomicBool::new(false));
    let server = holds_other_content(&mended);
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let mut daemon = sandbox.start(sandbox.command_with_config("ship", NO_ROOM));
    eventually("the conflict is noted", || {
        sandbox.outbox() == ["run-1.json"]
    });
    assert!(daemon.terminate().success());
    fs::write(episode.join("data.bin"), b"corrected since").unwrap();
    mended.store(true, Ordering::SeqCst);
    let _daemon = sandbox.start(sandbox.command_with_config("ship", NO_ROOM));
    sandbox.wait_shipped("run-1");
    eventually("the note is gone", || sandbox.outbox().is_empty());
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"corrected since"
    );
}

#[test]
fn a_conflict_of_what_was_sent_without_a_copy_that_could_not_be_noted_is_noted_when_it_can_be_and_shown_until_then()
 {
    let server = holds_other_content(&Arc::default());
    let sandbox = Sandbox::new(server.url());
    let in_the_way = sandbox.layout.outbox.join("run-1.json");
    fs::create_dir_all(in_the_way.join("something")).unwrap();
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let mut daemon = sandbox.start(sandbox.command_with_config("ship", NO_ROOM));
    daemon.wait_log("Failed to note its conflict in the outbox");
    let doctor = json_of(sandbox.command("doctor").arg("--json").output().unwrap()).1;
    let row = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == "conflicts")
        .unwrap();
    assert_eq!(row["status"], "red", "{row}");
    fs::remove_dir_all(&in_the_way).unwrap();
    eventually("the conflict is noted", || in_the_way.is_file());
    assert_eq!(uploads(&server), 1);
    assert!(daemon.terminate().success());
    assert_eq!(status(&sandbox)["folders"]["found"]["conflict"], 1);
}
