//! What was written to after its delivery and is sent again, and names that are used again.

use std::{fs, io::Write as _};

use serde_json::{Value, json};

use super::{append, status};
use crate::support::{Reply, Sandbox, Scripted, eventually, eventually_within};

/// A minute, and the load of a machine that tests.
const A_MINUTE_LATER: std::time::Duration = std::time::Duration::from_secs(150);

fn row(sandbox: &Sandbox, id: &str) -> Value {
    let out = sandbox.command("doctor").arg("--json").output().unwrap();
    let rows: Value = serde_json::from_slice(&out.stdout).unwrap();
    rows["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == id)
        .unwrap()
        .clone()
}

#[test]
fn what_was_changed_in_shipped_and_is_sent_again_is_told_no_more_wherever_it_ends() {
    // As nginx does: it takes another content under the same name.
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        _ if !seen.head.starts_with("PUT") => Reply::empty(404),
        "run-2"
            if seen
                .header("content-length")
                .is_some_and(|length| length.len() > 5) =>
        {
            Reply::json(
                409,
                &json!({"type": "urn:sealift:conflict", "title": "held"}),
            )
        }
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let ids = ["run-1", "run-2"];
    let daemon = sandbox.daemon();
    for id in ids {
        sandbox.seal(id, &[("data.mcap", b"head")]);
        // And looked at behind its move: what is written before that puts it back.
        daemon.wait_log(&format!("shipped {id}, now in"));
        let mut recorder = append(&sandbox.shipped(id).join("data.mcap"));
        recorder.write_all(&crate::uploads::noise(400_000)).unwrap();
    }
    let changed = || status(&sandbox)["snapshot"]["shipped_changed"].clone();
    eventually_within(A_MINUTE_LATER, "both are told", || {
        changed()
            .as_array()
            .is_some_and(|all| all.len() == ids.len())
    });
    assert_eq!(row(&sandbox, "shipped-changed")["status"], "yellow");
    let requeued = sandbox
        .command("requeue")
        .args(ids)
        .args(["--from", "shipped"])
        .output()
        .unwrap();
    assert!(
        requeued.status.success(),
        "{}",
        String::from_utf8_lossy(&requeued.stderr)
    );
    // The one is taken and stands in shipped/ under its name again, the other is in conflict and
    // stays.
    daemon.wait_log("run-2: the receiver holds other content under this name");
    eventually("it is shipped again", || {
        sandbox
            .shipped("run-1")
            .join("shipping_receipt.json")
            .exists()
    });
    eventually("nothing is told of either", || changed() == json!([]));
    assert_eq!(row(&sandbox, "shipped-changed")["status"], "green");
    assert!(
        fs::metadata(sandbox.shipped("run-1").join("data.mcap"))
            .unwrap()
            .len()
            > 300_000
    );
}

#[test]
fn a_sealed_folder_of_a_name_that_was_shipped_within_the_day_is_yellow_while_it_waits_and_in_conflict()
 {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(row(&sandbox, "reused-names")["status"], "green");
    sandbox.seal("run-1", &[("data.bin", b"another")]);
    let is_told = || {
        let row = row(&sandbox, "reused-names");
        assert_eq!(
            (&row["status"], &row["details"]["episodes"]),
            (&"yellow".into(), &json!(["run-1"]))
        );
        assert_eq!(
            status(&sandbox)["folders"]["reused_names"],
            json!(["run-1"])
        );
    };
    is_told();
    assert_eq!(sandbox.ship_once().1["conflicts"], 1);
    is_told();
}
