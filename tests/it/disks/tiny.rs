//! A disk of 64 MB, which episodes, outbox and shipped share, and a recorder that waits for room.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::content_of;
use crate::{
    resume::{MIB, noise},
    support::{Mounted, Process, Sandbox, eventually, eventually_within, json_file, names},
};

/// Two hundred megabytes through a debug build, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(240);

/// The whole data folder on a disk of its own.
fn tiny() -> Option<(Sandbox, Mounted)> {
    let sandbox = Sandbox::with_receiver();
    let mounted = Mounted::over(&sandbox.data(), "64m")?;
    for folder in ["episodes", "outbox", "shipped", "quarantine", ".sealift"] {
        fs::create_dir(sandbox.data().join(folder)).unwrap();
    }
    Some((sandbox, mounted))
}

/// No two alike, and nothing in them that compresses.
fn content(n: u8, size: u64) -> Vec<u8> {
    noise(size).into_iter().map(|byte| byte ^ n).collect()
}

/// Writes as a recorder does that must not lose anything: where there is no room, it waits.
fn write_waiting(file: &mut File, mut bytes: &[u8], waited: &AtomicUsize) {
    while !bytes.is_empty() {
        match file.write(&bytes[..bytes.len().min(1 << 20)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                waited.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn record(episodes: &Path, id: &str, bytes: &[u8], waited: &AtomicUsize) {
    let folder = episodes.join(id);
    fs::create_dir(&folder).unwrap();
    write_waiting(
        &mut File::create(folder.join("data.bin")).unwrap(),
        bytes,
        waited,
    );
    File::create(folder.join("done.marker")).unwrap();
}

fn ship(sandbox: &Sandbox, config: &str) -> Process {
    sandbox.start(sandbox.command_with_config("ship", config))
}

/// The receiver has it, byte for byte.
#[track_caller]
fn is_delivered(sandbox: &Sandbox, id: &str, content: &[u8]) {
    let archive = fs::read(sandbox.stored(id)).unwrap();
    assert!(
        content_of(&archive, "data.bin") == content,
        "{id} is not what was recorded"
    );
}

#[test]
fn a_disk_of_64_mb_with_200_mb_of_episodes_drains_without_an_operator() {
    let Some((sandbox, _mounted)) = tiny() else {
        return;
    };
    let daemon = ship(
        &sandbox,
        "[shipper]\nshipped_free_bytes = 30000000\n[pack]\nlevel = 1",
    );
    let waited = Arc::new(AtomicUsize::new(0));
    let recorded: Arc<Vec<_>> = Arc::new((0..10).map(|n| content(n, 20 * MIB)).collect());
    let recorder = {
        let (episodes, waited) = (sandbox.layout.episodes.clone(), Arc::clone(&waited));
        let recorded = Arc::clone(&recorded);
        thread::spawn(move || {
            for (n, content) in recorded.iter().enumerate() {
                record(&episodes, &format!("run-{n}"), content, &waited);
            }
        })
    };
    eventually_within(
        LONG,
        "everything is recorded and has left episodes/",
        || recorder.is_finished() && names(&sandbox.layout.episodes).is_empty(),
    );
    recorder.join().unwrap();
    for (n, content) in recorded.iter().enumerate() {
        is_delivered(&sandbox, &format!("run-{n}"), content);
    }
    assert!(
        waited.load(Ordering::Relaxed) > 0,
        "the disk was never full"
    );
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    // What was removed went one by one, each named; and each was held.
    let log = daemon.log();
    let removed: Vec<_> = log
        .lines()
        .filter(|line| line.contains("shipped_free_bytes wants"))
        .collect();
    assert!(
        removed.len() >= 7
            && removed
                .iter()
                .all(|line| line.contains(" holds it (sha256 ")),
        "{log}"
    );
}

#[test]
fn one_episode_of_40_mb_on_that_disk_has_no_outbox_copy_and_is_delivered_byte_for_byte() {
    let Some((sandbox, _mounted)) = tiny() else {
        return;
    };
    let daemon = ship(&sandbox, "[pack]\nlevel = 1");
    record(
        &sandbox.layout.episodes,
        "run-1",
        &content(1, 40 * MIB),
        &AtomicUsize::new(0),
    );
    eventually_within(LONG, "it is shipped", || {
        sandbox.shipped("run-1").join("done.marker").exists()
    });
    is_delivered(&sandbox, "run-1", &content(1, 40 * MIB));
    daemon.wait_log("run-1 is sent without a copy in the outbox");
    daemon.wait_log("shipped run-1");
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    // Nobody wanted anything removed.
    assert!(fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap() == content(1, 40 * MIB));
}

#[test]
fn on_a_disk_that_is_full_to_the_last_byte_an_episode_is_delivered_and_moved() {
    let Some((sandbox, _mounted)) = tiny() else {
        return;
    };
    let mut first = ship(&sandbox, "");
    eventually("there are spares", || {
        sandbox.layout.private.join("spare-7").exists()
    });
    assert!(first.terminate().success());
    sandbox.seal("run-1", &[("data.bin", &content(1, 2 * MIB))]);
    let mut filler = File::create(sandbox.data().join("filler")).unwrap();
    while filler.write(&[1; 4096]).is_ok() {}
    let daemon = ship(&sandbox, "");
    sandbox.wait_shipped("run-1");
    daemon.wait_log("shipped run-1");
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(receipt["receipt"]["sha256"], receipt["sha256"]);
    is_delivered(&sandbox, "run-1", &content(1, 2 * MIB));
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn for_an_episode_that_has_no_room_on_the_disk_of_shipped_as_much_is_made_as_it_needs() {
    let sandbox = Sandbox::with_receiver();
    let Some(_mounted) = Mounted::over(&sandbox.layout.shipped, "64m") else {
        return;
    };
    let _daemon = ship(
        &sandbox,
        "[shipper]\nshipped_free_bytes = 8000000\n[pack]\nlevel = 1",
    );
    let record = |n: u8, size: u64| {
        record(
            &sandbox.layout.episodes,
            &format!("run-{n}"),
            &content(n, size),
            &AtomicUsize::new(0),
        );
        eventually_within(LONG, "it is shipped", || {
            sandbox
                .shipped(&format!("run-{n}"))
                .join("done.marker")
                .exists()
        });
    };
    for n in 1..=4 {
        record(n, 11 * MIB);
    }
    // Twenty are free, which is more than was asked for.
    record(5, 25 * MIB);
    is_delivered(&sandbox, "run-5", &content(5, 25 * MIB));
    // One for its need, and one for what is wanted to stay free beside it.
    eventually("the two oldest had to go, and no more", || {
        names(&sandbox.layout.shipped) == ["run-3", "run-4", "run-5"]
    });
}
