//! What a move has left where the episode stood: as a process leaves it that removes a source which
//! can have no other name.

#![expect(
    clippy::disallowed_methods,
    reason = "a test makes what a removal has left"
)]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{Process, Reply, Sandbox, Scripted, eventually, json_of, names, sealift};

/// Delivered and copied to `shipped/`, and removed from `episodes/` up to a file and the receipt;
/// with what is left there.
fn half_removed(sandbox: &Sandbox) -> PathBuf {
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded"), ("more.bin", b"more")]);
    assert_eq!(sandbox.ship_once().0, 0);
    let shipped = sandbox.shipped("run-1");
    fs::create_dir(&episode).unwrap();
    for name in ["data.bin", "shipping_receipt.json"] {
        fs::copy(shipped.join(name), episode.join(name)).unwrap();
    }
    let note = json!({ "sealift_removing": 1, "copied_to": shipped });
    fs::write(episode.join(".sealift-removing"), note.to_string()).unwrap();
    episode
}

fn ask(sandbox: &Sandbox, command: &str) -> Value {
    json_of(
        sealift()
            .args([command, "--json", "--data"])
            .arg(sandbox.data())
            .output()
            .unwrap(),
    )
    .1
}

fn row(sandbox: &Sandbox, id: &str) -> Value {
    let doctor = ask(sandbox, "doctor");
    doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == id)
        .unwrap()
        .clone()
}

fn writer(file: &Path) -> fs::File {
    OpenOptions::new().append(true).open(file).unwrap()
}

#[test]
fn what_is_left_of_a_source_with_a_file_open_is_shown_and_goes_by_itself_when_that_is_closed() {
    let sandbox = Sandbox::with_receiver();
    let episode = half_removed(&sandbox);
    let open = writer(&episode.join("data.bin"));
    let daemon = sandbox.daemon();
    eventually("it is shown", || {
        let status = ask(&sandbox, "status");
        let files = status["snapshot"]["open_files"]["some"].to_string();
        files.contains("run-1")
            && files.contains("data.bin")
            && status["snapshot"]["counts"]["waiting"] == 1
    });
    daemon.wait_log(
        "what is left of it in episodes/ is not removed yet: data.bin is open for writing",
    );
    assert!(
        episode.join("data.bin").exists() && !daemon.log().contains("ERROR"),
        "{}",
        daemon.log()
    );
    drop(open);
    eventually("it goes", || names(&sandbox.layout.episodes).is_empty());
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded"
    );
    let (code, counts) = sandbox_once_after(sandbox, daemon);
    assert_eq!((code, &counts["scanned"]), (0, &0.into()), "{counts}");
}

fn sandbox_once_after(sandbox: Sandbox, mut daemon: Process) -> (i32, Value) {
    assert!(daemon.terminate().success());
    sandbox.ship_once()
}

#[test]
fn what_was_written_to_a_source_that_was_being_removed_stays_and_the_doctor_is_red_with_both_paths()
{
    let sandbox = Sandbox::with_receiver();
    let episode = half_removed(&sandbox);
    let mut open = writer(&episode.join("data.bin"));
    let mut daemon = sandbox.daemon();
    eventually("it is shown", || {
        ask(&sandbox, "status")["snapshot"]["open_files"]
            .to_string()
            .contains("data.bin")
    });
    open.write_all(b" to the end").unwrap();
    drop(open);
    daemon.wait_log("What is left of it stays, as a recording that is open");
    let paths = [&episode, &sandbox.shipped("run-1")].map(|path| path.display().to_string());
    let is_red = |row: &Value| {
        let fix = row["fix"].as_str().unwrap_or_default();
        row["status"] == "red"
            && fix.contains("diff -r")
            && paths.iter().all(|path| fix.contains(path))
    };
    eventually("the doctor is red", || {
        is_red(&row(&sandbox, "reused-names"))
    });
    // By then it is a plain open folder: nothing of ours in it says that it is on its way.
    eventually("our receipt is gone", || {
        names(&episode) == [".sealift-removing", "data.bin"]
    });
    assert_eq!(
        fs::read(episode.join("data.bin")).unwrap(),
        b"recorded to the end"
    );
    // So it is after a restart, and nothing of it goes.
    assert!(daemon.terminate().success());
    let daemon = sandbox.daemon();
    eventually("it is an open folder", || {
        ask(&sandbox, "status")["snapshot"]["counts"]["open"] == 1
    });
    assert!(is_red(&row(&sandbox, "reused-names")), "{}", daemon.log());
    assert_eq!(names(&episode), [".sealift-removing", "data.bin"]);
    // Under a name of its own it is an episode like any other, and the note is no part of it.
    fs::rename(&episode, sandbox.layout.episodes.join("run-1-rest")).unwrap();
    fs::write(sandbox.layout.episodes.join("run-1-rest/done.marker"), "").unwrap();
    sandbox.wait_shipped("run-1-rest");
    assert_eq!(row(&sandbox, "reused-names")["status"], "green");
}

/// Rejected, and in `quarantine/` when its clean-up was killed at its first step.
fn broken_off(sandbox: &Sandbox) -> PathBuf {
    sandbox.seal("run-1", &[("data.bin", b"the last copy")]);
    sandbox.ship_once();
    let quarantined = sandbox.quarantined("run-1");
    fs::write(
        quarantined.join(".sealift-removing"),
        r#"{"sealift_removing":1,"copied_to":null}"#,
    )
    .unwrap();
    quarantined
}

#[test]
fn what_a_clean_up_had_begun_to_remove_is_whole_and_stays_wherever_it_is_put_and_however() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "run-1" => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not ours"}),
        ),
        _ => Reply::hang_up(),
    });
    for how in [
        "kept for ever",
        "requeue",
        "mv",
        "cp",
        "cp to a hidden name",
    ] {
        let sandbox = Sandbox::new(server.url());
        let quarantined = broken_off(&sandbox);
        let episodes = &sandbox.layout.episodes;
        let by_hand = |command: &[&str], to: PathBuf| {
            let (program, args) = command.split_first().unwrap();
            assert!(
                Command::new(program)
                    .args(args)
                    .arg(&quarantined)
                    .arg(&to)
                    .status()
                    .unwrap()
                    .success()
            );
            to
        };
        let at = match how {
            "kept for ever" => quarantined.clone(),
            "requeue" => {
                let output = sandbox.command("requeue").arg("run-1").output().unwrap();
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                assert!(
                    !episodes.join("run-1/.sealift-removing").exists(),
                    "it is withdrawn"
                );
                // Not rejected once more.
                fs::rename(episodes.join("run-1"), episodes.join("run-2")).unwrap();
                episodes.join("run-2")
            }
            "mv" => by_hand(&["mv"], episodes.join("run-2")),
            "cp" => by_hand(&["cp", "-a"], episodes.join("run-2")),
            _ => by_hand(&["cp", "-a"], episodes.join(".run-2")),
        };
        let config = "[shipper]\nquarantine_keep_days = 0\nreconcile_interval_s = 1\n";
        let daemon = sandbox.start(sandbox.command_with_config("ship", config));
        // By then the start has cleared away what the last run left.
        sandbox.seal("run-0", &[]);
        let is_sent = ["requeue", "mv", "cp"].contains(&how);
        let seen = |id: &str| server.seen().iter().filter(|seen| seen.id == id).count();
        let (before_0, before_2) = (seen("run-0"), seen("run-2"));
        eventually("they are sent", || {
            seen("run-0") > before_0 && (!is_sent || seen("run-2") > before_2)
        });
        assert_eq!(
            fs::read(at.join("data.bin")).unwrap(),
            b"the last copy",
            "{how}: {}",
            daemon.log()
        );
        assert!(at.join("done.marker").exists(), "{how}");
    }
}
