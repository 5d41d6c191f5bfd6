//! An archive in the outbox whose episode is gone may be the last copy: no later episode of its
//! name takes its place.

#![expect(
    clippy::disallowed_methods,
    reason = "operators move and remove as they like"
)]

mod acknowledged;
mod emptied;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use crate::{
    disks::direct::NO_ROOM,
    support::{
        Process, Reply, Sandbox, Scripted, Seen, eventually, eventually_within, names, sealift,
    },
};

const OLD: &[u8] = b"recorded before, and nowhere else";
const NEW: &[u8] = b"another recording, of the same name";

/// How the second episode of each name fares: each way writes or clears what lies under it.
const NAMES: [&str; 3] = ["stored", "rejected", "weather"];

fn answer(seen: &Seen) -> Reply {
    match seen.id.as_str() {
        _ if seen.head.starts_with("HEAD") => Reply::empty(404),
        // Of the commit: believed at once, whether or not anything was delivered there before.
        "rejected" => Reply::json(
            412,
            &json!({"type": "urn:sealift:commit-out-of-window", "detail": "too old"}),
        ),
        "weather" => Reply::empty(503),
        _ => Reply::stored(seen),
    }
}

/// Leaves the archives of three episodes in the outbox, with their sidecars.
fn leave_archives(sandbox: &Sandbox) {
    for id in NAMES {
        sandbox.seal(id, &[("data.bin", OLD)]);
    }
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let output = ship_to(sandbox, &busy.url())
        .args(["--once", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        sandbox.outbox().len(),
        2 * NAMES.len(),
        "{:?}",
        sandbox.outbox()
    );
}

fn ship_to(sandbox: &Sandbox, url: &str) -> Command {
    let mut command = sealift();
    command
        .args(["ship", "--receiver", url, "--data"])
        .arg(sandbox.data());
    command
}

/// Where an archive holds these bytes: in the outbox, or put aside.
fn archives_of(sandbox: &Sandbox, id: &str, bytes: &[u8]) -> Vec<PathBuf> {
    let name = format!("{id}.tar.zst");
    let aside = names(&sandbox.layout.quarantine);
    let aside = aside
        .iter()
        .map(|folder| sandbox.layout.quarantine.join(folder).join(&name));
    let holds = |path: &PathBuf| {
        let tar = fs::File::open(path)
            .ok()
            .and_then(|archive| zstd::decode_all(archive).ok());
        tar.is_some_and(|tar| tar.windows(bytes.len()).any(|window| window == bytes))
    };
    aside
        .chain([sandbox.layout.outbox.join(&name)])
        .filter(holds)
        .collect()
}

/// What is said of an archive whose name another episode has.
const CHANGED: &str = "in outbox/ is what";

/// What is said of one whose name no episode had when the daemon looked.
const TAKEN: &str =
    "was found in outbox/ without its episode as it was packed (that was taken away)";

/// The first of each name is in quarantine, and the log says so in one of these words; the second
/// went its way.
#[track_caller]
fn both_are_there(sandbox: &Sandbox, daemon: &Process, words: &[&str]) {
    sandbox.wait_shipped("stored");
    for id in NAMES {
        eventually(&format!("the first {id} is put aside"), || {
            let found = archives_of(sandbox, id, OLD);
            found
                .iter()
                .any(|path| path.starts_with(&sandbox.layout.quarantine))
        });
        eventually(
            &format!("the log says that the first {id} is put aside"),
            || {
                let log = daemon.log();
                words
                    .iter()
                    .any(|words| log.contains(&format!("The archive {id}.tar.zst {words}")))
            },
        );
    }
    let data = |folder: &Path| fs::read(folder.join("data.bin")).unwrap();
    assert_eq!(data(&sandbox.shipped("stored")), NEW);
    assert_eq!(data(&sandbox.layout.episodes.join("weather")), NEW);
    eventually("the second that was rejected is in quarantine", || {
        let folders =
            ["rejected", "rejected~1"].map(|name| sandbox.quarantined(name).join("data.bin"));
        folders
            .iter()
            .any(|path| fs::read(path).is_ok_and(|bytes| bytes == NEW))
    });
}

#[test]
fn where_episodes_was_missing_at_the_start_no_archive_is_overwritten_or_cleared_by_a_later_episode_of_its_name()
 {
    let sandbox = Sandbox::new("");
    leave_archives(&sandbox);
    fs::remove_dir_all(&sandbox.layout.episodes).unwrap();
    let server = Scripted::new(|seen, _| answer(seen));
    let daemon = sandbox.start(ship_to(&sandbox, &server.url()));
    eventually("episodes/ is made", || sandbox.layout.episodes.is_dir());
    for id in NAMES {
        sandbox.seal(id, &[("data.bin", NEW)]);
    }
    both_are_there(&sandbox, &daemon, &[CHANGED]);
}

#[test]
fn where_the_outbox_has_no_room_an_archive_of_another_episode_of_the_name_is_put_aside_all_the_same()
 {
    let sandbox = Sandbox::new("");
    leave_archives(&sandbox);
    fs::remove_dir_all(&sandbox.layout.episodes).unwrap();
    let server = Scripted::new(|seen, _| answer(seen));
    let config = sandbox.path("sealift.toml");
    fs::write(&config, NO_ROOM).unwrap();
    let mut command = ship_to(&sandbox, &server.url());
    command.arg("--config").arg(config);
    let daemon = sandbox.start(command);
    eventually("episodes/ is made", || sandbox.layout.episodes.is_dir());
    for id in NAMES {
        sandbox.seal(id, &[("data.bin", NEW)]);
    }
    both_are_there(&sandbox, &daemon, &[CHANGED]);
}

#[test]
fn where_episodes_is_removed_and_made_anew_under_a_running_daemon_no_archive_is_overwritten_or_cleared()
 {
    let sandbox = Sandbox::new("");
    let works = Arc::new(AtomicBool::new(false));
    let server = {
        let works = Arc::clone(&works);
        Scripted::new(move |seen, _| match works.load(Ordering::SeqCst) {
            true => answer(seen),
            false => Reply::empty(503),
        })
    };
    // Nothing is watched until the next look around: the folder is another.
    let config = sandbox.path("sealift.toml");
    fs::write(&config, "[shipper]\nreconcile_interval_s = 1\n").unwrap();
    let mut command = ship_to(&sandbox, &server.url());
    command.arg("--config").arg(config);
    let daemon = sandbox.start(command);
    for id in NAMES {
        sandbox.seal(id, &[("data.bin", OLD)]);
    }
    eventually("all three are kept", || {
        NAMES
            .iter()
            .all(|id| sandbox.layout.outbox.join(format!("{id}.json")).exists())
    });
    fs::remove_dir_all(&sandbox.layout.episodes).unwrap();
    fs::create_dir(&sandbox.layout.episodes).unwrap();
    works.store(true, Ordering::SeqCst);
    for id in NAMES {
        sandbox.seal(id, &[("data.bin", NEW)]);
    }
    // It may have looked while there was nothing.
    both_are_there(&sandbox, &daemon, &[CHANGED, TAKEN]);
}

#[test]
fn a_new_episode_that_comes_between_the_scan_and_the_settling_of_an_archive_of_its_name_does_not_take_its_place()
 {
    const BYTES: u64 = 1 << 30;
    let sandbox = Sandbox::new("");
    let archive = sandbox.layout.outbox.join("stored.tar.zst");
    // Begins like an archive, and takes a while to be read.
    fs::write(&archive, b"\x28\xb5\x2f\xfdthe last copy").unwrap();
    fs::File::options()
        .write(true)
        .open(&archive)
        .unwrap()
        .set_len(BYTES)
        .unwrap();
    let server = Scripted::new(|seen, _| answer(seen));
    let daemon = sandbox.start(ship_to(&sandbox, &server.url()));
    eventually("the archive is being read", || {
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        open.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == archive))
    });
    sandbox.seal("stored", &[("data.bin", NEW)]);
    let minutes = std::time::Duration::from_secs(240);
    eventually_within(minutes, "it is read, and the new one is shipped", || {
        sandbox.shipped("stored").exists()
    });
    sandbox.wait_shipped("stored");
    let aside = sandbox.quarantined("stored").join("stored.tar.zst");
    eventually("the last copy is put aside", || aside.exists());
    assert_eq!(fs::metadata(aside).unwrap().len(), BYTES);
    eventually("nothing is left in the outbox", || {
        sandbox.outbox().is_empty()
    });
}

#[test]
fn an_archive_of_this_very_episode_is_replaced_without_a_word_whatever_became_of_its_sidecar_or_folder()
 {
    let server = Scripted::new(|seen, _| answer(seen));
    for case in [
        "as it was",
        "no sidecar",
        "copied to another disk",
        "written on in its place",
    ] {
        let sandbox = Sandbox::new("");
        sandbox.seal("stored", &[("data.bin", OLD), ("more/data.bin", OLD)]);
        let busy = Scripted::new(|_, _| Reply::empty(503));
        ship_to(&sandbox, &busy.url())
            .arg("--once")
            .output()
            .unwrap();
        let episode = sandbox.layout.episodes.join("stored");
        match case {
            "no sidecar" => fs::remove_file(sandbox.layout.outbox.join("stored.json")).unwrap(),
            "copied to another disk" => {
                let copied = Command::new("cp")
                    .arg("-a")
                    .arg(&episode)
                    .arg(sandbox.path("b"))
                    .status();
                assert!(copied.unwrap().success());
                fs::remove_dir_all(&episode).unwrap();
                fs::rename(sandbox.path("b"), &episode).unwrap();
            }
            "written on in its place" => {
                fs::write(episode.join("data.bin"), [OLD, NEW].concat()).unwrap();
            }
            _ => {}
        }
        let output = ship_to(&sandbox, &server.url())
            .args(["--once", "--json"])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{case}: {log}");
        assert!(sandbox.shipped("stored").exists(), "{case}: {log}");
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0], "{case}: {log}");
        assert_eq!(sandbox.outbox(), [""; 0], "{case}: {log}");
    }
}

#[test]
fn archives_without_an_episode_are_no_success_of_one_pass_and_status_does_not_say_that_there_is_nothing()
 {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    leave_archives(&sandbox);
    fs::remove_dir_all(&sandbox.layout.episodes).unwrap();
    let (code, tally) = sandbox.ship_once();
    assert_eq!(
        (code, &tally["transient_failures"]),
        (1, &json!(3)),
        "{tally}"
    );
    let status = || {
        let output = sealift()
            .arg("status")
            .arg("--data")
            .arg(sandbox.data())
            .output()
            .unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let shown = status();
    assert!(
        shown.contains("3 archives in outbox/ have no episode beside them"),
        "{shown}"
    );

    // With a daemon that made episodes/ itself, and believes nothing of what is not in there.
    fs::remove_dir(&sandbox.layout.episodes).unwrap();
    let daemon = sandbox.daemon();
    daemon.wait_log("3 archives in outbox/ have no episode beside them");
    eventually("status says so", || {
        let shown = status();
        shown.contains("3 archives in outbox/ have no episode beside them")
            && !shown.contains("nothing to ship")
    });
    assert_eq!(sandbox.outbox().len(), 6);
}

#[test]
fn an_episode_that_is_removed_while_its_upload_waits_for_the_answer_is_delivered_and_its_archive_goes()
 {
    let paths = Arc::new(OnceLock::<(PathBuf, PathBuf)>::new());
    let of_script = Arc::clone(&paths);
    let server = Scripted::new(move |seen, _| {
        let (episode, sidecar) = of_script.get().unwrap();
        eventually("its archive is durable", || sidecar.exists());
        fs::remove_dir_all(episode).unwrap();
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    let sidecar = sandbox.layout.outbox.join("run-1.json");
    paths
        .set((sandbox.layout.episodes.join("run-1"), sidecar))
        .unwrap();
    let config = "[shipper]\nreconcile_interval_s = 1\n";
    let daemon = sandbox.start(sandbox.command_with_config("ship", config));
    sandbox.seal("run-1", &[("data.bin", OLD)]);
    daemon.wait_log("run-1 is stored by the receiver, but");
    eventually("its archive went", || sandbox.outbox().is_empty());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    assert!(!daemon.log().contains("last copy"), "{}", daemon.log());
}
