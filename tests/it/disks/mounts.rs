//! Disks that are unmounted from under a folder, or mounted over it, while the daemon runs.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    Mounted, Process, Reply, Sandbox, Scripted, eventually_within, names, sealift,
};

/// Its waits double, from a second on.
const PATIENCE: Duration = Duration::from_secs(90);

/// Stores everything but `bad`, which it rejects.
fn receiver() -> Scripted {
    Scripted::new(|seen, _| match seen.id.as_str() {
        "bad" => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "detail": "no"}),
        ),
        _ => Reply::stored(seen),
    })
}

fn mount(arguments: &[&str], folder: &Path) {
    assert!(
        Command::new("mount")
            .args(arguments)
            .arg(folder)
            .status()
            .unwrap()
            .success()
    );
}

fn unmount(folder: &Path) {
    assert!(
        Command::new("umount")
            .arg("-l")
            .arg(folder)
            .status()
            .unwrap()
            .success()
    );
}

fn daemon(sandbox: &Sandbox, config: &str) -> Process {
    let config = format!("[shipper]\nreconcile_interval_s = 1\n{config}");
    let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
    // By then it has looked at its folders.
    sandbox.seal("run-0", &[]);
    daemon.wait_log("shipped run-0");
    daemon
}

/// What stands there under a name that can be seen.
fn visible(folder: &Path) -> Vec<String> {
    names(folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[track_caller]
fn eventually_in(folder: &Path, expected: &[&str]) {
    eventually_within(
        PATIENCE,
        &format!("{expected:?} in {}", folder.display()),
        || visible(folder) == expected,
    );
}

/// How it stands.
fn status(sandbox: &Sandbox) -> Value {
    let output = sealift()
        .args(["status", "--json", "--data"])
        .arg(sandbox.data())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_disk_that_goes_from_under_shipped_is_waited_for_and_nothing_is_put_in_its_place() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let (shipped, disk) = (sandbox.layout.shipped.clone(), sandbox.path("disk"));
    fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Mounted::over(&disk, "8m") else {
        return;
    };
    let source = disk.to_str().unwrap();
    mount(&["--bind", source], &shipped);
    let daemon = daemon(&sandbox, "shipped_keep_days = 1\n");

    unmount(&shipped);
    sandbox.seal("run-2", &[]);
    let what = format!(
        "{} is not the folder that it was at the start: what was mounted there is gone",
        shipped.display()
    );
    daemon.wait_log(&format!(
        "run-2 cannot go on: delivered, but it cannot be moved: {what}"
    ));
    eventually_within(PATIENCE, "the status says so", || {
        status(&sandbox)["snapshot"]["trial"][0]["kind"] == "elsewhere"
    });
    assert_eq!(visible(&shipped), [""; 0]);
    assert_eq!(visible(&sandbox.layout.episodes), ["run-2"]);

    mount(&["--bind", source], &shipped);
    eventually_in(&shipped, &["run-0", "run-2"]);
    eventually_within(PATIENCE, "the status takes it back", || {
        status(&sandbox)["snapshot"]["trial"][0]["kind"] == "copies"
    });
    unmount(&shipped);
    assert_eq!(server.count("run-2"), 1);
}

#[test]
fn a_folder_on_a_disk_that_goes_is_not_made_anew_where_the_disk_was() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let disk = sandbox.path("disk");
    fs::create_dir(&disk).unwrap();
    let Some(mounted) = Mounted::over(&disk, "8m") else {
        return;
    };
    let daemon = daemon(
        &sandbox,
        &format!("shipped_dir = {:?}\n", disk.join("shipped")),
    );
    drop(mounted);
    sandbox.seal("run-2", &[]);
    daemon.wait_log(
        "is not the folder that it was at the start: the disk that it was on is not mounted",
    );
    daemon.wait_log("run-2 cannot go on: delivered, but it cannot be moved");
    assert_eq!(names(&disk), [""; 0]);
    assert_eq!(visible(&sandbox.layout.episodes), ["run-2"]);
}

#[test]
fn what_is_mounted_over_quarantine_takes_no_episode() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let quarantine = sandbox.layout.quarantine.clone();
    let daemon = daemon(&sandbox, "");
    let Some(mounted) = Mounted::over(&quarantine, "8m") else {
        return;
    };
    sandbox.seal("bad", &[]);
    let what = format!(
        "{} is not the folder that it was at the start: another file system is mounted there",
        quarantine.display()
    );
    daemon.wait_log("bad cannot go on: rejected");
    daemon.wait_log(&what);
    assert_eq!(visible(&quarantine), [""; 0]);
    assert_eq!(visible(&sandbox.layout.episodes), ["bad"]);
    drop(mounted);
    eventually_in(&quarantine, &["bad"]);
}

#[test]
fn while_another_outbox_is_mounted_nothing_is_packed_into_it_and_no_archive_in_it_is_an_orphan() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let outbox = sandbox.layout.outbox.clone();
    let daemon = daemon(&sandbox, "");
    let Some(mounted) = Mounted::over(&outbox, "8m") else {
        return;
    };
    fs::write(outbox.join("run-9.tar.zst"), b"an archive of nobody").unwrap();
    for id in ["run-1", "run-2"] {
        sandbox.seal(id, &[]);
    }
    daemon.wait_log("Packing pauses, and is tried again");
    daemon.wait_log(
        "is not the folder that it was at the start: another file system is mounted there",
    );
    assert_eq!(visible(&sandbox.layout.episodes), ["run-1", "run-2"]);
    assert_eq!(names(&outbox), ["run-9.tar.zst"]);
    assert_eq!(visible(&sandbox.layout.quarantine), [""; 0]);
    drop(mounted);
    eventually_in(&sandbox.layout.shipped, &["run-0", "run-1", "run-2"]);
}
