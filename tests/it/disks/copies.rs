//! Copies to another disk that cannot fit there, or that it cannot hold.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use notify::Watcher as _;
use serde_json::{Value, json};

use crate::{
    crash_sweep::strace_is_there,
    resume::{MIB, noise},
    service::{traced, untrace},
    support::{
        Mounted, Process, Reply, Sandbox, Scripted, eventually_within, json_of, names, sealift,
    },
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Stores everything but what begins with `bad`, which it rejects: for its commit, since of other
/// reasons no three in a row are believed, and how many come in a row is a matter of chance.
fn receiver() -> Scripted {
    Scripted::new(|seen, _| match seen.id.starts_with("bad") {
        true => Reply::json(
            412,
            &json!({"type": "urn:sealift:commit-out-of-window", "detail": "no"}),
        ),
        false => Reply::stored(seen),
    })
}

/// Every name that appears in a folder, from now on.
fn appearing(folder: &Path) -> (Arc<Mutex<BTreeSet<String>>>, notify::RecommendedWatcher) {
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let into = Arc::clone(&seen);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let paths = event.into_iter().flat_map(|event| event.paths);
        let found = paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        into.lock().unwrap().extend(found);
    })
    .unwrap();
    watcher
        .watch(folder, notify::RecursiveMode::NonRecursive)
        .unwrap();
    (seen, watcher)
}

fn copies(seen: &Mutex<BTreeSet<String>>, id: &str) -> Vec<String> {
    let seen = seen.lock().unwrap();
    seen.iter()
        .filter(|name| name.starts_with(".sealift-copy-") && name.ends_with(id))
        .cloned()
        .collect()
}

fn visible(folder: &Path) -> Vec<String> {
    names(folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect()
}

fn ask(sandbox: &Sandbox, command: &str) -> Value {
    let mut ask = sealift();
    ask.args([command, "--json", "--data"]).arg(sandbox.data());
    json_of(ask.output().unwrap()).1
}

fn moves(sandbox: &Sandbox) -> Value {
    let doctor = ask(sandbox, "doctor");
    doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == "moves")
        .unwrap()
        .clone()
}

/// Told so often that it cannot go on.
fn wait_told(daemon: &Process, id: &str, times: usize) {
    eventually_within(PATIENCE, "it was tried again", || {
        daemon.log().matches(&format!("{id} cannot go on")).count() >= times
    });
}

#[test]
fn what_cannot_fit_where_it_is_to_go_is_not_copied_and_small_ones_go_on() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let (shipped, quarantine) = (&sandbox.layout.shipped, &sandbox.layout.quarantine);
    for folder in [shipped, quarantine] {
        fs::create_dir_all(folder).unwrap();
    }
    let Some(_shipped) = Mounted::over(shipped, "8m") else {
        return;
    };
    let Some(quarantine_disk) = Mounted::over(quarantine, "8m") else {
        return;
    };
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1"));
    let (in_shipped, _watcher) = appearing(shipped);
    let (in_quarantine, _other) = appearing(quarantine);
    for (id, how, folder) in [
        ("big", "delivered", shipped),
        ("bad-big", "rejected", quarantine),
    ] {
        sandbox.seal(id, &[("data.bin", &noise(12 * MIB))]);
        daemon.wait_log(&format!("{id} cannot go on: {how}"));
        let said = format!(
            "but it cannot be moved to {}: a copy of it takes 126",
            folder.display()
        );
        daemon.wait_log(&said);
        daemon.wait_log(&format!(
            " bytes on the disk of {}, where 8388608 are free, so none is begun. That is more than the whole disk holds: give it a larger \
             one, or set another folder. It moves by itself when there is room. Type: df -H ",
            folder.display()
        ));
    }
    let small: Vec<_> = (0..8)
        .flat_map(|n| [format!("small-{n}"), format!("bad-{n}")])
        .collect();
    for id in &small {
        sandbox.seal(id, &[("data.bin", &noise(100_000))]);
    }
    eventually_within(PATIENCE, "the small ones have left", || {
        visible(&sandbox.layout.episodes) == ["bad-big", "big"]
    });
    for id in ["big", "bad-big"] {
        wait_told(&daemon, id, 2);
    }
    let log = daemon.log();
    assert!(
        !small
            .iter()
            .any(|id| log.contains(&format!("{id} cannot go on"))),
        "{log}"
    );
    assert_eq!(
        (copies(&in_shipped, "big"), copies(&in_quarantine, "big")),
        (Vec::new(), Vec::new())
    );
    assert_eq!((visible(shipped).len(), visible(quarantine).len()), (8, 8));
    assert_eq!(server.count("big"), 1);

    let row = moves(&sandbox);
    let summary = row["summary"].as_str().unwrap();
    assert_eq!(row["status"], "red", "{row}");
    assert!(
        summary.starts_with("1 episode is delivered and cannot be moved. big: delivered, but"),
        "{row}"
    );
    assert!(
        summary.contains("It moves by itself when there is room. Type: df -H "),
        "{row}"
    );
    assert!(
        summary.ends_with("Besides: 1 episode is rejected and cannot be moved (bad-big)."),
        "{row}"
    );
    assert!(row["fix"].as_str().unwrap().starts_with("df -H "), "{row}");
    let problems = ask(&sandbox, "status")["problems"].to_string();
    assert!(
        problems.contains("1 episode is rejected and cannot be moved. bad-big: rejected ("),
        "{problems}"
    );
    assert_eq!(
        problems
            .matches("It moves by itself when there is room")
            .count(),
        2,
        "{problems}"
    );

    // With room it goes, as was said.
    let remount = std::process::Command::new("mount")
        .args(["-o", "remount,size=32m"])
        .arg(quarantine)
        .status();
    assert!(remount.unwrap().success());
    eventually_within(PATIENCE, "it moves by itself", || {
        sandbox.quarantined("bad-big").exists()
    });
    drop(quarantine_disk);
}

#[test]
fn where_its_inodes_do_not_suffice_nothing_is_copied_either_and_it_is_said() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let shipped = &sandbox.layout.shipped;
    fs::create_dir_all(shipped).unwrap();
    let Some(_disk) = Mounted::over(shipped, "8m,nr_inodes=40") else {
        return;
    };
    let daemon = sandbox.daemon();
    let (seen, _watcher) = appearing(shipped);
    let files: Vec<_> = (0..60).map(|n| format!("{n}.txt")).collect();
    let files: Vec<_> = files
        .iter()
        .map(|name| (name.as_str(), &b"x"[..]))
        .collect();
    sandbox.seal("many", &files);
    daemon.wait_log("many cannot go on: delivered, but it cannot be moved");
    daemon.wait_log("a copy of it takes 63 inodes on the disk of ");
    daemon.wait_log(". Type: df -i ");
    sandbox.seal("few", &[("x.txt", b"x")]);
    sandbox.wait_shipped("few");
    wait_told(&daemon, "many", 2);
    assert_eq!(copies(&seen, "many"), [""; 0]);
}

#[test]
fn a_file_that_is_longer_than_the_disk_can_hold_is_named_with_its_length_and_not_copied_again_at_once()
 {
    if !strace_is_there() {
        return;
    }
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let shipped = &sandbox.layout.shipped;
    fs::create_dir_all(shipped).unwrap();
    let Some(_disk) = Mounted::over(shipped, "32m") else {
        return;
    };
    // As a server says it that has such a disk: when it is written.
    let ship = sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1");
    let long = shipped.join(".sealift-copy-0-long/long.bin");
    let daemon = sandbox.start(traced(
        &sandbox,
        &ship,
        &long,
        "pwrite64",
        "inject=pwrite64:error=EFBIG",
    ));
    let said = format!(
        "{}: its length (3145728 bytes) cannot be held by the file system of {} (File too large (os error 27)). No permission mends that: \
         set another folder",
        sandbox.layout.episodes.join("long/long.bin").display(),
        shipped.display()
    );
    sandbox.seal("long", &[("long.bin", &noise(3 * MIB))]);
    daemon.wait_log("long cannot go on: delivered, but it cannot be moved");
    assert!(daemon.log().contains(&said), "{}", daemon.log());
    sandbox.seal("short", &[("x.txt", b"x")]);
    sandbox.wait_shipped("short");
    let row = moves(&sandbox);
    assert_eq!(row["status"], "red", "{row}");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("its length (3145728 bytes) cannot be held"),
        "{row}"
    );
    assert!(File::open(sandbox.layout.episodes.join("long/done.marker")).is_ok());
}

#[test]
fn what_was_delivered_and_was_being_taken_away_is_not_sent_again_where_its_name_was_used_again() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    assert_eq!(sandbox.ship_once().0, 0);
    // As a process leaves it that is killed while the source is aside.
    let aside = sandbox.layout.episodes.join(".sealift-aside-0-run-1");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(sandbox.shipped("run-1"))
        .arg(&aside)
        .status();
    assert!(copied.unwrap().success());
    sandbox.seal("run-1", &[("data.bin", b"second")]);
    let (code, tally) = sandbox.ship_once();
    assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{tally}");
    let seen = server.seen();
    let puts: Vec<_> = seen
        .iter()
        .filter(|seen| seen.head.starts_with("PUT"))
        .map(|seen| &seen.id)
        .collect();
    assert_eq!(puts, ["run-1", "run-1"]);
    assert_eq!(visible(&sandbox.layout.shipped), ["run-1", "run-1~1"]);
    for (name, content) in [("run-1", b"first" as &[u8]), ("run-1~1", b"second")] {
        assert_eq!(
            fs::read(sandbox.shipped(name).join("data.bin")).unwrap(),
            content
        );
    }
    assert!(!aside.exists() && visible(&sandbox.layout.episodes).is_empty());
}

#[test]
fn what_was_rejected_and_was_being_taken_away_is_not_sent_again_where_its_name_was_used_again() {
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let takes_all = Arc::clone(&mended);
    let server =
        Scripted::new(
            move |seen, _| match takes_all.load(std::sync::atomic::Ordering::Relaxed) {
                true => Reply::stored(seen),
                false => Reply::json(
                    422,
                    &json!({"type": "urn:sealift:too-large", "detail": "no"}),
                ),
            },
        );
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    sandbox.ship_once();
    assert!(sandbox.quarantined("run-1").join("data.bin").exists());
    // As a process leaves it that is killed while the source is aside.
    let aside = sandbox.layout.episodes.join(".sealift-aside-0-run-1");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(sandbox.quarantined("run-1"))
        .arg(&aside)
        .status();
    assert!(copied.unwrap().success());
    sandbox.seal("run-1", &[("data.bin", b"second")]);
    mended.store(true, std::sync::atomic::Ordering::Relaxed);
    let (code, tally) = sandbox.ship_once();
    assert_eq!((code, &tally["shipped"]), (0, &json!(1)), "{tally}");
    assert_eq!(visible(&sandbox.layout.shipped), ["run-1"]);
    assert_eq!(visible(&sandbox.layout.quarantine), ["run-1"]);
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"second"
    );
    assert_eq!(
        fs::read(sandbox.quarantined("run-1").join("data.bin")).unwrap(),
        b"first"
    );
    assert!(!aside.exists() && visible(&sandbox.layout.episodes).is_empty());
}

/// As `sealift requeue` is while it copies, or another shipper.
fn at_work(folder: &Path) -> File {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(folder.join(".sealift-at-work"));
    let file = file.unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockShared).unwrap();
    file
}

#[test]
fn what_is_sealed_and_aside_is_shown_while_a_move_is_at_work_and_is_shipped_when_that_has_ended() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let aside = sandbox.layout.episodes.join(".sealift-aside-0-run-1");
    fs::create_dir_all(&aside).unwrap();
    fs::write(aside.join("data.bin"), "sealed").unwrap();
    fs::write(aside.join("done.marker"), "").unwrap();
    let moving = at_work(&sandbox.layout.episodes);
    let (code, tally) = sandbox.ship_once();
    assert_eq!(
        (code, &tally["transient_failures"], &tally["shipped"]),
        (1, &json!(1), &json!(0)),
        "{tally}"
    );
    assert!(aside.exists());

    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1"));
    let said = "run-1 is sealed, and out of sight in episodes/ as .sealift-aside-*";
    daemon.wait_log(said);
    let waiting = || {
        let doctor = ask(&sandbox, "doctor");
        doctor["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["id"] == "waiting")
            .unwrap()
            .clone()
    };
    let row = waiting();
    assert_eq!(
        (&row["status"], &row["details"]["left_aside"]),
        (&json!("yellow"), &json!(1)),
        "{row}"
    );
    assert!(row["summary"].as_str().unwrap().starts_with(said), "{row}");
    let fix = row["fix"].as_str().unwrap();
    assert!(
        fix.starts_with("ps -o pid,stat,etime,args -p ") || fix.starts_with("lsof "),
        "{row}"
    );
    assert!(
        ask(&sandbox, "status")["problems"]
            .to_string()
            .contains(said)
    );

    drop(moving);
    sandbox.wait_shipped("run-1");
    assert!(!aside.exists());
    eventually_within(PATIENCE, "the row is green", || {
        waiting()["status"] == "green"
    });
}

#[test]
fn what_was_delivered_and_is_aside_goes_at_a_later_look_where_a_move_was_at_work_at_the_start() {
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    assert_eq!(sandbox.ship_once().0, 0);
    let aside = sandbox.layout.episodes.join(".sealift-aside-0-run-1");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(sandbox.shipped("run-1"))
        .arg(&aside)
        .status();
    assert!(copied.unwrap().success());
    sandbox.seal("run-1", &[("data.bin", b"second")]);
    let moving = at_work(&sandbox.layout.episodes);
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1"));
    sandbox.wait_shipped("run-1~1");
    assert!(aside.exists());
    // Its name is free by now: given back, it would be sent once more.
    drop(moving);
    daemon.wait_log("run-1 was delivered and copied to ");
    eventually_within(PATIENCE, "it is gone", || !aside.exists());
    let seen = server.seen();
    assert_eq!(
        seen.iter()
            .filter(|seen| seen.head.starts_with("PUT"))
            .count(),
        2
    );
    assert_eq!(visible(&sandbox.layout.shipped), ["run-1", "run-1~1"]);
    assert!(visible(&sandbox.layout.episodes).is_empty());
}

/// As on a mount of rclone: what has just been renamed cannot be read for a while.
#[test]
fn a_copy_that_cannot_be_read_for_a_while_is_not_made_again_beside_it() {
    if !strace_is_there() {
        return;
    }
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let Some(_mounted) = Mounted::over(&sandbox.layout.shipped, "8m") else {
        return;
    };
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = sandbox.command_with_config("ship", "[shipper]\nwatch = \"reconcile-only\"");
    let receipt = sandbox.shipped("run-1").join("shipping_receipt.json");
    let daemon = sandbox.start(traced(
        &sandbox,
        &ship,
        &receipt,
        "read",
        "inject=read:error=EIO",
    ));
    daemon.wait_log("run-1 may have been copied to ");
    untrace(&daemon);
    eventually_within(PATIENCE, "it is moved", || {
        visible(&sandbox.layout.episodes).is_empty()
    });
    assert_eq!(visible(&sandbox.layout.shipped), ["run-1"]);
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded"
    );
}

#[test]
fn an_older_recording_of_its_name_that_cannot_be_read_keeps_none_from_moving() {
    if !strace_is_there() {
        return;
    }
    let server = receiver();
    let sandbox = Sandbox::new(server.url());
    let Some(_mounted) = Mounted::over(&sandbox.layout.shipped, "8m") else {
        return;
    };
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    assert_eq!(sandbox.ship_once().0, 0);
    sandbox.seal("run-1", &[("data.bin", b"second")]);
    let ship = sandbox.command_with_config("ship", "[shipper]\nwatch = \"reconcile-only\"");
    let older = sandbox.shipped("run-1").join("data.bin");
    let _daemon = sandbox.start(traced(
        &sandbox,
        &ship,
        &older,
        "openat",
        "inject=openat:error=EIO",
    ));
    sandbox.wait_shipped("run-1~1");
    assert_eq!(
        fs::read(sandbox.shipped("run-1~1").join("data.bin")).unwrap(),
        b"second"
    );
}
