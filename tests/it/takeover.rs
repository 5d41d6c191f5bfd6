//! What the old Python shipper left behind is taken over without loss.

use std::fs;

use serde_json::json;

use crate::support::{Reply, Sandbox, Scripted, eventually, json_file, names};

#[test]
fn an_archive_without_a_sidecar_is_not_trusted_and_its_episode_is_delivered_once() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let left = sandbox.layout.outbox.join("run-1.tar.zst");
    fs::write(&left, b"packed another way").unwrap();
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    daemon
        .wait_log("run-1 is packed again: an archive without a sidecar of its own is not trusted");
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_ne!(seen[0].body, b"packed another way");
    assert!(zstd::decode_all(seen[0].body.as_slice()).is_ok());
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded"
    );
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn a_sidecar_that_is_not_ours_is_not_trusted_either() {
    let contents = [
        "",
        "{",
        "[]",
        r#"{"episode_id":"run-2"}"#,
        r#"{"sha256":"00","attempts":3}"#,
    ];
    for content in contents {
        let server = Scripted::new(|seen, _| Reply::stored(seen));
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        fs::write(
            sandbox.layout.outbox.join("run-1.tar.zst"),
            b"packed another way",
        )
        .unwrap();
        fs::write(sandbox.layout.outbox.join("run-1.json"), content).unwrap();
        let (code, tally) = sandbox.ship_once();
        assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{content}");
        assert_ne!(server.seen()[0].body, b"packed another way", "{content}");
    }
}

#[test]
fn what_was_delivered_before_is_acknowledged_again_and_retired() {
    // The old shipper was killed between the answer and the move: the receiver holds the same
    // content in an archive that was packed another way.
    let server = Scripted::new(|seen, _| {
        let mut receipt = seen.receipt();
        receipt["sha256"] = json!("ab".repeat(32));
        Reply::json(200, &receipt)
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    fs::write(
        sandbox.layout.outbox.join("run-1.tar.zst"),
        b"packed another way",
    )
    .unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt["status_code"], 200);
    assert_eq!(receipt["receipt"]["sha256"], "ab".repeat(32));
    assert_ne!(receipt["sha256"], receipt["receipt"]["sha256"]);
}

#[test]
fn scratch_is_cleared_and_names_that_are_not_ours_are_left_alone() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    for name in [
        "run-1.tar.zst.partial",
        "gone.tar.zst.partial",
        "notes.txt",
        "run-9.tar.gz",
    ] {
        fs::write(sandbox.layout.outbox.join(name), b"half").unwrap();
    }
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), ["notes.txt", "run-9.tar.gz"]);
}

#[test]
fn what_was_shipped_and_quarantined_before_stays_as_it_is() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "bad" => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "detail": "no"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    // Without a receipt, and with a reason of fewer members.
    let shipped = sandbox.shipped("run-1");
    fs::create_dir(&shipped).unwrap();
    fs::write(shipped.join("data.bin"), b"long ago").unwrap();
    let quarantined = sandbox.quarantined("bad");
    fs::create_dir(&quarantined).unwrap();
    let reason = br#"{"status_code":412,"body":"<html>no</html>"}"#;
    fs::write(quarantined.join("quarantine_reason.json"), reason).unwrap();
    sandbox.seal("run-1", &[("data.bin", b"new")]);
    sandbox.seal("bad", &[("data.bin", b"new")]);

    let daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1~1");
    sandbox.wait_quarantined("bad~1");
    assert_eq!(names(&shipped), ["data.bin"]);
    assert_eq!(fs::read(shipped.join("data.bin")).unwrap(), b"long ago");
    assert_eq!(
        fs::read(quarantined.join("quarantine_reason.json")).unwrap(),
        reason
    );
    assert_eq!(
        json_file(&sandbox.quarantined("bad~1").join("quarantine_reason.json"))["episode_id"],
        "bad"
    );
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn an_archive_stays_as_long_as_its_episode_cannot_be_packed() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    // Nested deeper than Sealift packs: what the old shipper packed of it may be all that will ever
    // be.
    let deep = vec!["d"; 140].join("/");
    sandbox.seal("deep", &[(&format!("{deep}/x"), b"recorded")]);
    fs::write(
        sandbox.layout.outbox.join("deep.tar.zst"),
        b"packed another way",
    )
    .unwrap();
    for _ in 0..2 {
        let (code, tally) = sandbox.ship_once();
        assert_eq!((code, &tally["transient_failures"]), (1, &json!(1)));
        assert_eq!(sandbox.outbox(), ["deep.tar.zst"]);
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn files_of_other_programs_in_the_outbox_stay_whatever_their_names() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    fs::write(
        sandbox.layout.outbox.join("state.json"),
        r#"{"queue":[1,2]}"#,
    )
    .unwrap();
    fs::create_dir(sandbox.layout.outbox.join("cfg.json")).unwrap();
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(sandbox.outbox(), ["cfg.json", "state.json"]);
}
