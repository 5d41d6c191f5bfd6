//! The main job, from marker to shipped/.

use crate::support::{Sandbox, json_file};

#[test]
fn a_sealed_episode_is_shipped_and_an_open_one_is_not() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("run-1", &[("data.bin", b"recorded"), ("deep/er/notes.txt", b"once")]);
    sandbox.record("run-2", &[("data.bin", b"still recording")]);
    let mut daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    assert!(sandbox.layout.episodes.join("run-2").exists());
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt["status_code"], 201);
    assert_eq!(receipt["receipt"]["sha256"], receipt["sha256"]);
    assert!(sandbox.stored("run-1").exists());
    assert!(daemon.terminate().success());
    assert_eq!(sandbox.outbox(), [""; 0]);
}

#[test]
fn one_pass_ships_everything_sealed_and_counts_it() {
    let sandbox = Sandbox::with_receiver();
    for id in ["a", "b", "c"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    let (code, tally) = sandbox.ship_once();
    assert_eq!(code, 0);
    assert_eq!(tally["scanned"], 3);
    assert_eq!(tally["shipped"], 3);
}
