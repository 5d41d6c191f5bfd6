//! Episodes of which some process has a file open for writing, or mapped writable, when their
//! marker is made.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the recorder and the operator"
)]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use serde_json::Value;

use crate::{
    crash_sweep::strace_is_there,
    service::{HELD, traced, untrace},
    support::{Process, Sandbox, eventually, json_file, json_of, names, sealift},
};

mod across;
mod again;
mod later;
mod mapped;

fn once(sandbox: &Sandbox, toml: &str) -> (i32, Value) {
    let mut ship = sandbox.command_with_config("ship", toml);
    json_of(ship.args(["--once", "--json"]).output().unwrap())
}

fn append(file: &Path) -> fs::File {
    OpenOptions::new().append(true).open(file).unwrap()
}

/// What `sealift status` says of a running daemon.
fn status(sandbox: &Sandbox) -> Value {
    let out = sealift()
        .args(["status", "--json", "--data"])
        .arg(sandbox.data())
        .output()
        .unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
}

fn waits_for(sandbox: &Sandbox, id: &str) -> bool {
    status(sandbox)["snapshot"]["open_files"]["some"]
        .as_array()
        .is_some_and(|some| some.iter().any(|open| open["episode_id"] == id))
}

#[test]
fn a_recorder_that_writes_its_tail_after_the_marker_is_waited_for_and_all_of_it_is_delivered() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.record("run-1", &[("data.mcap", b"head, ")]);
    // The marker first, and what the recorder's buffer holds when it closes the file.
    let mut recorder = append(&episode.join("data.mcap"));
    fs::write(episode.join("done.marker"), b"").unwrap();
    let _daemon: Process = sandbox.daemon();
    eventually("it waits for its file", || waits_for(&sandbox, "run-1"));
    let open = &status(&sandbox)["snapshot"]["open_files"]["some"][0];
    assert_eq!(open["file"], "data.mcap");
    // Nothing waits behind it.
    sandbox.seal("run-2", &[("data.mcap", b"other")]);
    sandbox.wait_shipped("run-2");
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    eventually("the process is named", || {
        status(&sandbox)["snapshot"]["open_files"]["some"][0]["pid"] == std::process::id()
    });
    recorder.write_all(b"tail").unwrap();
    drop(recorder);
    sandbox.wait_shipped("run-1");
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.mcap")).unwrap(),
        b"head, tail"
    );
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt.get("open_files"), None);
    let held = crate::disks::content_of(&fs::read(sandbox.stored("run-1")).unwrap(), "data.mcap");
    assert_eq!(held, b"head, tail");
}

#[test]
fn one_pass_leaves_what_is_open_undone_and_says_which_file() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data.mcap", b"head")]);
    sandbox.seal("run-2", &[]);
    let recorder = append(&episode.join("data.mcap"));
    let (code, report) = once(&sandbox, "");
    assert_eq!(
        (code, &report["shipped"], &report["transient_failures"]),
        (1, &1.into(), &1.into())
    );
    drop(recorder);
    let (code, report) = once(&sandbox, "");
    assert_eq!((code, &report["shipped"]), (0, &1.into()));
}

#[test]
fn when_the_wait_is_over_it_is_shipped_as_it_is_and_its_receipt_names_the_file() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data.mcap", b"head")]);
    let _recorder = append(&episode.join("data.mcap"));
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[pack]\nopen_files_wait_s = 1"));
    sandbox.wait_shipped("run-1");
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt["open_files"], serde_json::json!(["data.mcap"]));
    daemon.wait_log("run-1 is shipped as it is: data.mcap is open for writing");

    // What was accepted is noted by what is kept in the outbox, too, and one pass goes by the
    // marker's age.
    let episode = sandbox.seal("run-2", &[("data.mcap", b"head")]);
    let _second = append(&episode.join("data.mcap"));
    drop(daemon);
    let (code, _) = once(&sandbox, "[pack]\nopen_files_wait_s = 0");
    assert_eq!(code, 0);
    let receipt = json_file(&sandbox.shipped("run-2").join("shipping_receipt.json"));
    assert_eq!(receipt["open_files"], serde_json::json!(["data.mcap"]));
}

#[test]
fn an_episode_whose_marker_is_taken_away_while_it_waits_for_a_file_is_open_again() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data.mcap", b"head")]);
    let recorder = append(&episode.join("data.mcap"));
    let _daemon = sandbox.daemon();
    eventually("it waits for its file", || waits_for(&sandbox, "run-1"));
    fs::remove_file(episode.join("done.marker")).unwrap();
    eventually("nothing waits", || {
        status(&sandbox)["snapshot"]["open_files"]["count"] == 0
    });
    drop(recorder);
    fs::write(episode.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("run-1");
}

#[test]
fn seal_ends_well_where_the_daemon_has_moved_the_episode_before_seal_has_flushed_its_folder() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let _daemon = sandbox.daemon();
    let episode = sandbox.record("run-1", &[("data.bin", b"recorded")]);
    // Its one renameat2 gives the marker its name; until it goes on from there, the daemon has all
    // the time that it needs.
    let mut seal = sealift();
    seal.arg("seal").arg(&episode);
    let how = format!("inject=renameat2:delay_exit={HELD}");
    let mut seal = sandbox.start(traced(&sandbox, &seal, &episode, "renameat2", &how));
    sandbox.wait_shipped("run-1");
    untrace(&seal);
    assert!(seal.wait().success(), "{}", seal.log());
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt["manifest"], "verified");
}

#[test]
fn seal_refuses_while_a_file_is_open_and_names_it_and_the_process() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.record("run-1", &[("data.mcap", b"head")]);
    let recorder = append(&episode.join("data.mcap"));
    let seal = || sandbox_seal(&episode);
    let (ok, said) = seal();
    let who = format!(
        "data.mcap is still open for writing by process {}",
        std::process::id()
    );
    assert!(!ok && said.contains(&who), "{said}");
    assert!(!episode.join("done.marker").exists());
    drop(recorder);
    assert!(seal().0);
}

fn sandbox_seal(episode: &Path) -> (bool, String) {
    let out = sealift().arg("seal").arg(episode).output().unwrap();
    (
        out.status.success(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}
