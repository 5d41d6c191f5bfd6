//! A disk without a byte to spare: where the receipt is written that has to be there before
//! anything can be moved.

#![expect(
    clippy::disallowed_methods,
    reason = "an operator removes as they like"
)]

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;

use super::content_of;
use crate::{
    resume::{MIB, noise},
    support::{Mounted, Process, Reply, Sandbox, Scripted, eventually, json_file, names},
};

const EACH_SECOND: &str = "[shipper]\nreconcile_interval_s = 1\n";

/// A recorder that waits for room, and has it at once wherever some comes free. It goes on until it
/// is dropped.
struct Greedy {
    enough: Arc<AtomicBool>,
    recorder: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Greedy {
    /// Returns when the disk is full.
    fn in_folder(folder: &Path) -> Self {
        let path = folder.join(".filler");
        let mut file = File::create(&path).unwrap();
        while file.write(&[1; 4096]).is_ok() {}
        let enough = Arc::new(AtomicBool::new(false));
        let is_enough = Arc::clone(&enough);
        let recorder = thread::spawn(move || {
            while !is_enough.load(Ordering::Relaxed) {
                while file.write(&[1; 4096]).is_ok() {}
                thread::park_timeout(Duration::from_micros(200));
            }
        });
        Self {
            enough,
            recorder: Some(recorder),
            path,
        }
    }

    /// It wants no more, and keeps what it has.
    fn stop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        if let Some(recorder) = self.recorder.take() {
            recorder.join().unwrap();
        }
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The whole data folder on a disk of its own.
fn tiny() -> Option<(Sandbox, Mounted)> {
    on_a_disk("16m")
}

fn on_a_disk(size: &str) -> Option<(Sandbox, Mounted)> {
    let sandbox = Sandbox::with_receiver();
    let mounted = mounted(&sandbox, size)?;
    Some((sandbox, mounted))
}

fn mounted(sandbox: &Sandbox, size: &str) -> Option<Mounted> {
    let mounted = Mounted::over(&sandbox.data(), size)?;
    for folder in ["episodes", "outbox", "shipped", "quarantine", ".sealift"] {
        fs::create_dir(sandbox.data().join(folder)).unwrap();
    }
    Some(mounted)
}

fn ship(sandbox: &Sandbox, config: &str) -> Process {
    sandbox.start(sandbox.command_with_config("ship", &format!("{EACH_SECOND}{config}")))
}

fn remove_spares(sandbox: &Sandbox) {
    for name in names(&sandbox.layout.private)
        .iter()
        .filter(|name| name.starts_with("spare-"))
    {
        fs::remove_file(sandbox.layout.private.join(name)).unwrap();
    }
}

#[track_caller]
fn is_shipped_with_its_receipt(sandbox: &Sandbox, shipped: &Path) {
    let receipt = shipped.join("shipping_receipt.json");
    eventually("it is shipped", || {
        receipt.exists() && shipped.join("done.marker").exists()
    });
    let receipt = json_file(&receipt);
    assert_eq!(receipt["receipt"]["sha256"], receipt["sha256"]);
    let id = shipped.file_name().unwrap().to_str().unwrap();
    let stored = content_of(&fs::read(sandbox.stored(id)).unwrap(), "data.bin");
    assert!(stored == fs::read(shipped.join("data.bin")).unwrap());
}

#[test]
fn where_recordings_are_on_another_disk_than_the_data_folder_it_has_spares_of_its_own() {
    let sandbox = Sandbox::with_receiver();
    let disk = sandbox.path("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Mounted::over(&disk, "16m") else {
        return;
    };
    let (episodes, shipped) = (disk.join("episodes"), disk.join("shipped"));
    fs::create_dir(&episodes).unwrap();
    let _daemon = ship(
        &sandbox,
        &format!("episodes_dir = {episodes:?}\nshipped_dir = {shipped:?}\n"),
    );
    eventually("there are spares", || {
        episodes.join(".sealift-spare-7").exists()
    });
    let _greedy = {
        fs::create_dir(episodes.join("run-1")).unwrap();
        fs::write(episodes.join("run-1/data.bin"), noise(MIB)).unwrap();
        let greedy = Greedy::in_folder(&disk);
        File::create(episodes.join("run-1/done.marker")).unwrap();
        greedy
    };
    is_shipped_with_its_receipt(&sandbox, &shipped.join("run-1"));
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn at_the_first_start_on_a_full_disk_what_is_removed_for_room_becomes_spares_before_a_recorder_has_it()
 {
    let Some((sandbox, _mounted)) = tiny() else {
        return;
    };
    let mut first = ship(&sandbox, "");
    sandbox.seal("old", &[("data.bin", &noise(MIB))]);
    first.wait_log("shipped old");
    assert!(first.terminate().success());
    remove_spares(&sandbox);
    sandbox.seal("run-1", &[("data.bin", &noise(2 * MIB))]);
    let _greedy = Greedy::in_folder(&sandbox.data());

    let daemon = ship(&sandbox, "shipped_free_bytes = 1000000\n");
    daemon.wait_log("run-1 is sent without a copy in the outbox");
    daemon.wait_log("shipped run-1");
    // The recorder wants more still, and this one is held as well, by the receipt that it took
    // along.
    daemon.wait_log("removed ");
    eventually("it goes in its turn", || {
        daemon.log().contains("/shipped/run-1 (2097152 bytes")
    });
    assert!(content_of(&fs::read(sandbox.stored("run-1")).unwrap(), "data.bin") == noise(2 * MIB));
    assert!(!sandbox.shipped("old").exists());
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn at_the_first_start_on_a_full_disk_a_delivered_archive_gives_its_room_to_the_receipt() {
    let Some((mut sandbox, _mounted)) = tiny() else {
        return;
    };
    let address = sandbox.kill_receiver();
    let mut first = ship(&sandbox, "");
    sandbox.seal("run-1", &[("data.bin", &noise(MIB))]);
    eventually("the archive is kept", || {
        sandbox.outbox() == ["run-1.json", "run-1.tar.zst"]
    });
    assert!(first.terminate().success());
    remove_spares(&sandbox);
    let _greedy = Greedy::in_folder(&sandbox.data());
    sandbox.start_receiver(&address);

    let daemon = ship(&sandbox, "");
    is_shipped_with_its_receipt(&sandbox, &sandbox.shipped("run-1"));
    daemon.wait_log("shipped run-1");
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn where_there_is_nothing_at_all_to_write_a_receipt_over_it_stays_until_there_is_a_little_room() {
    let Some((sandbox, _mounted)) = tiny() else {
        return;
    };
    sandbox.seal("run-1", &[("data.bin", &noise(MIB))]);
    let mut greedy = Greedy::in_folder(&sandbox.data());
    let daemon = ship(&sandbox, "");
    daemon.wait_log("run-1 cannot go on: delivered, but it cannot be moved");
    daemon.wait_log("a few KiB");
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    greedy.stop();
    File::options()
        .write(true)
        .open(&greedy.path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    is_shipped_with_its_receipt(&sandbox, &sandbox.shipped("run-1"));
    // It is cleared behind the move.
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn episodes_that_cannot_be_moved_use_up_no_spares_however_often_that_is_tried() {
    let Some((sandbox, _mounted)) = tiny() else {
        return;
    };
    let mut first = ship(&sandbox, "");
    eventually("there are spares", || {
        sandbox.layout.private.join("spare-7").exists()
    });
    assert!(first.terminate().success());
    let stuck: Vec<_> = (0..10).map(|n| format!("stuck-{n}")).collect();
    for id in &stuck {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
        let made = Command::new("chattr")
            .arg("+i")
            .arg(sandbox.layout.episodes.join(id))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI has chattr, and a kernel that knows it on tmpfs (Linux 6.6)"
            );
            println!("skipped: no chattr +i on tmpfs");
            return;
        }
    }
    let _greedy = Greedy::in_folder(&sandbox.data());
    let daemon = ship(&sandbox, "");
    for id in &stuck {
        daemon.wait_log(&format!(
            "{id} cannot go on: delivered, but it cannot be moved"
        ));
    }
    // Twice each, at least.
    eventually("they are tried again", || {
        daemon.log().matches("cannot go on: delivered").count() >= 2 * stuck.len()
    });
    assert!(sandbox.layout.private.join("spare-7").exists());
    // Found at the next look: what has no room for its name is what this disk is about.
    let good = sandbox.layout.episodes.join("good");
    fs::create_dir(&good).unwrap();
    File::create(good.join("data.bin")).unwrap();
    File::create(good.join("done.marker")).unwrap();
    is_shipped_with_its_receipt(&sandbox, &sandbox.shipped("good"));
    for id in &stuck {
        let _ = Command::new("chattr")
            .arg("-i")
            .arg(sandbox.layout.episodes.join(id))
            .status();
    }
}

#[test]
fn where_the_inodes_are_used_up_a_delivered_episode_is_moved_by_the_spares_that_lie_there() {
    let Some((sandbox, _mounted)) = on_a_disk("16m,nr_inodes=200") else {
        return;
    };
    let _daemon = ship(&sandbox, "");
    let last_spare = sandbox.layout.private.join("spare-7");
    eventually("there are spares", || last_spare.exists());
    let filler = sandbox.data().join("filler");
    fs::create_dir(&filler).unwrap();
    let episode = sandbox.record("run-1", &[("data.bin", b"recorded")]);
    // The marker is made under another name while there is an inode, and is no other's then.
    fs::write(episode.join("marker"), b"").unwrap();
    assert!(
        (0..)
            .map(|n| fs::write(filler.join(n.to_string()), ""))
            .any(|made| made.is_err())
    );
    fs::rename(episode.join("marker"), episode.join("done.marker")).unwrap();
    is_shipped_with_its_receipt(&sandbox, &sandbox.shipped("run-1"));
}

#[test]
fn one_that_came_back_and_is_rejected_again_on_a_full_disk_has_a_reason_of_its_own() {
    for spares_are_left in [true, false] {
        let server = Scripted::new(|_, _| {
            Reply::json(
                422,
                &json!({"type": "urn:sealift:too-large", "title": "no"}),
            )
        });
        let sandbox = Sandbox::new(server.url());
        let Some(_mounted) = mounted(&sandbox, "16m") else {
            return;
        };
        let mut first = ship(&sandbox, "");
        sandbox.seal("bad", &[("data.bin", b"the last copy")]);
        sandbox.wait_quarantined("bad");
        eventually("there are spares", || {
            sandbox.layout.private.join("spare-7").exists()
        });
        assert!(first.terminate().success());
        let path = sandbox.quarantined("bad").join("quarantine_reason.json");
        let mut old = json_file(&path);
        old["quarantined_at_wall"] = "2026-11-05T00:00:00Z".into();
        old["aging"] = json!({"clock_believed": true, "announced_at_wall": "2026-11-15T00:00:00Z"});
        fs::write(&path, old.to_string()).unwrap();
        fs::rename(
            sandbox.quarantined("bad"),
            sandbox.layout.episodes.join("bad"),
        )
        .unwrap();
        if !spares_are_left {
            remove_spares(&sandbox);
        }
        let _greedy = Greedy::in_folder(&sandbox.data());
        let _daemon = ship(&sandbox, "");
        sandbox.wait_quarantined("bad");
        let new = json_file(&path);
        assert_eq!(new["error"], old["error"], "it says the same");
        assert_ne!(new["quarantined_at_wall"], old["quarantined_at_wall"]);
        assert!(new["aging"]["announced_at_wall"].is_null(), "{new}");
    }
}
