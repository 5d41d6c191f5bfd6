//! What is written to an episode after it was delivered.

use std::{fs, io::Write as _};

use super::{append, once, status};
use crate::support::{Reply, Sandbox, Scripted, eventually, eventually_within, json_file};

/// A minute, and the load of a machine that tests.
const A_MINUTE_LATER: std::time::Duration = std::time::Duration::from_secs(150);

#[test]
fn what_is_written_to_after_its_delivery_is_told_a_minute_later_with_the_command_that_sends_it_again()
 {
    let sandbox = Sandbox::with_receiver();
    let ids = ["run-1", "run-2"];
    let files = ids.map(|id| {
        sandbox
            .seal(id, &[("data.mcap", b"head")])
            .join("data.mcap")
    });
    let mut recorder = append(&files[0]);
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[pack]\nopen_files_wait_s = 0"));
    for id in ids {
        // And looked at behind its move: what is written before that puts it back.
        daemon.wait_log(&format!("shipped {id}, now in"));
    }
    recorder.write_all(b"tail").unwrap();
    drop(recorder);
    // Another stamp, and the same bytes.
    let second = sandbox.shipped("run-2").join("data.mcap");
    fs::hard_link(&second, sandbox.path("link")).unwrap();
    let changed = || status(&sandbox)["snapshot"]["shipped_changed"].clone();
    eventually_within(A_MINUTE_LATER, "it is looked at once more", || {
        changed().as_array().is_some_and(|all| !all.is_empty())
    });
    assert_eq!(
        changed(),
        serde_json::json!([{"episode_id": "run-1", "folder": "run-1"}])
    );
    daemon.wait_log("run-1 was written to after it was delivered");
    daemon.wait_log("sealift requeue 'run-1' --from shipped");
    assert!(!daemon.log().contains("run-2 was written"));
    let problems = status(&sandbox)["problems"].to_string();
    assert!(
        problems.contains("run-1") && problems.contains("requeue"),
        "{problems}"
    );
    let requeued = sandbox
        .command("requeue")
        .args(["run-1", "run-2", "--from", "shipped"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&requeued.stdout);
    assert!(
        said.contains("requeued  run-1"),
        "{said}{}",
        String::from_utf8_lossy(&requeued.stderr)
    );
    // The receiver keeps what it has; nothing of either is lost.
    daemon.wait_log("run-1: the receiver holds other content under this name");
    assert_eq!(
        fs::read(sandbox.layout.episodes.join("run-1/data.mcap")).unwrap(),
        b"headtail"
    );
}

#[test]
fn what_is_written_to_after_its_delivery_is_told_by_the_next_start_where_the_minute_was_not_over_at_the_end()
 {
    let sandbox = Sandbox::with_receiver();
    let mut daemon = sandbox.daemon();
    for id in ["run-1", "run-2"] {
        sandbox.seal(id, &[("data.mcap", b"head")]);
        daemon.wait_log(&format!("shipped {id}, now in"));
    }
    assert!(daemon.terminate().success());
    append(&sandbox.shipped("run-1").join("data.mcap"))
        .write_all(b"tail")
        .unwrap();
    // Another stamp, and the same bytes.
    fs::hard_link(
        sandbox.shipped("run-2").join("data.mcap"),
        sandbox.path("link"),
    )
    .unwrap();
    let changed = || status(&sandbox)["snapshot"]["shipped_changed"].clone();
    let run_1 = serde_json::json!([{"episode_id": "run-1", "folder": "run-1"}]);
    for start in 0..2 {
        let mut daemon = sandbox.daemon();
        eventually("it is shown", || changed() == run_1);
        assert!(daemon.terminate().success());
        // And read and told once. By its end all that it had to say is in the log.
        assert_eq!(
            daemon
                .log()
                .contains("run-1 was written to after it was delivered"),
            start == 0
        );
    }
}

#[test]
fn one_pass_tells_what_was_written_to_after_the_pass_before_it_had_delivered_it_and_is_no_success()
{
    let sandbox = Sandbox::with_receiver();
    let config = "[pack]\nopen_files_wait_s = 0";
    let mut recorder = append(
        &sandbox
            .seal("run-1", &[("data.mcap", b"head")])
            .join("data.mcap"),
    );
    assert_eq!(once(&sandbox, config).0, 0);
    recorder.write_all(b"tail").unwrap();
    drop(recorder);
    let (code, tally) = once(&sandbox, config);
    assert_eq!(
        (code, &tally["transient_failures"]),
        (1, &serde_json::json!(1)),
        "{tally}"
    );
    assert_eq!(once(&sandbox, config).0, 0, "it is told once");
    let _daemon = sandbox.daemon();
    eventually("a daemon shows it from then on", || {
        status(&sandbox)["snapshot"]["shipped_changed"][0]["episode_id"] == "run-1"
    });
}

#[test]
fn a_folder_of_the_name_of_one_that_was_shipped_within_the_day_is_shown_at_once() {
    let sandbox = Sandbox::with_receiver();
    let _daemon = sandbox.daemon();
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("run-1");
    let reused = || status(&sandbox)["folders"]["reused_names"].clone();
    assert_eq!(reused(), serde_json::json!([]));
    // A recorder that writes by path, into what is a new folder by now.
    sandbox.record("run-1", &[("c/1", b"chunk")]);
    eventually("status tells the name", || {
        reused() == serde_json::json!(["run-1"])
    });
    let out = sandbox.command("doctor").arg("--json").output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let row = rows["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == "reused-names")
        .unwrap();
    assert_eq!(
        (&row["status"], &row["details"]["episodes"]),
        (&"yellow".into(), &serde_json::json!(["run-1"]))
    );
}

#[test]
fn a_name_that_was_used_before_is_shown_too_where_the_second_of_it_was_shipped_within_the_day() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    assert_eq!(sandbox.ship_once().0, 0);
    let receipt = sandbox.shipped("run-1").join("shipping_receipt.json");
    let mut long_ago = json_file(&receipt);
    long_ago["delivered_at_wall"] = "2026-11-02T00:00:00Z".into();
    fs::write(&receipt, long_ago.to_string()).unwrap();
    let reused = || status(&sandbox)["folders"]["reused_names"].clone();
    sandbox.seal("run-1", &[("data.bin", b"second")]);
    assert_eq!(reused(), serde_json::json!([]));
    assert_eq!(sandbox.ship_once().0, 0);
    assert!(sandbox.shipped("run-1~1").exists());
    // Neither is one of the numbered name, nor one that only begins alike.
    for id in ["run-1~1", "run-11", "run"] {
        sandbox.record(id, &[("c/1", b"chunk")]);
    }
    assert_eq!(reused(), serde_json::json!([]));
    sandbox.record("run-1", &[("c/1", b"chunk")]);
    assert_eq!(reused(), serde_json::json!(["run-1"]));
}
