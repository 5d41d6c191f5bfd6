//! A wall clock that jumps. libfaketime plays it, for the wall clock alone: waits go by the other
//! one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{Process, Reply, Sandbox, Scripted, eventually, json_file, names};

/// How long the receiver asks for patience.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where Debian's package has it.
pub(crate) fn libfaketime() -> Option<PathBuf> {
    let below = |folder: &Path| {
        let found = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        found
            .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
            .find(|path| path.exists())
    };
    let found = below(Path::new("/usr/lib"));
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI has libfaketime");
        println!("skipped: libfaketime is not there");
    }
    found
}

#[test]
fn clock_jumps_forward_and_back_delete_nothing_and_retry_nothing_early() {
    let Some(library) = libfaketime() else { return };
    for (jump, back) in [("+400d", "+0d"), ("-20d", "+0d")] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let times = Arc::clone(&asked);
        let server = Scripted::new(move |seen, before| {
            times
                .lock()
                .unwrap()
                .push((seen.id.clone(), Instant::now()));
            let patience = format!("Retry-After: {}", PATIENCE.as_secs());
            if before == 0 {
                Reply::empty(503).header(&patience)
            } else {
                Reply::stored(seen)
            }
        });
        let sandbox = Sandbox::new(server.url());
        for folder in [&sandbox.layout.quarantine, &sandbox.layout.shipped] {
            fs::create_dir(folder.join("old")).unwrap();
        }
        let rc = sandbox.path("faketime");
        fs::write(&rc, "+0d").unwrap();
        let config = "[shipper]\nquarantine_keep_days = 1\nshipped_keep_days = 1\nquarantine_cleanup_interval_s = 1";
        let mut ship = sandbox.command_with_config("ship", config);
        ship.env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &rc);
        ship.env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        ship.env("PATH", sandbox.clock_is_kept(false));
        let daemon = sandbox.start(ship);
        sandbox.seal("run-1", &[]);
        daemon.wait_log("run-1 was not delivered");
        fs::write(&rc, jump).unwrap();
        // It sees the jump: what it logs is stamped by it.
        sandbox.seal("run-2", &[]);
        sandbox.wait_shipped("run-1");
        sandbox.wait_shipped("run-2");
        daemon.wait_log("shipped run-2");
        let stamps: Vec<_> = daemon
            .log()
            .lines()
            .filter_map(|line| line.get(..4).map(str::to_owned))
            .collect();
        if jump.starts_with('+') {
            assert!(
                stamps.iter().min() != stamps.iter().max(),
                "it did not see the jump: {}",
                daemon.log()
            );
        }
        fs::write(&rc, back).unwrap();
        sandbox.seal("run-3", &[]);
        sandbox.wait_shipped("run-3");
        eventually("the receiver has all three", || server.seen().len() >= 4);
        let asked = asked.lock().unwrap().clone();
        let of_it: Vec<_> = asked
            .iter()
            .filter(|(id, _)| id == "run-1")
            .map(|(_, at)| *at)
            .collect();
        assert_eq!(of_it.len(), 2, "{jump}: {asked:?}");
        assert!(of_it[1] - of_it[0] >= PATIENCE, "{jump}: {asked:?}");
        assert_eq!(names(&sandbox.layout.quarantine), ["old"], "{jump}");
        assert_eq!(
            names(&sandbox.layout.shipped),
            ["old", "run-1", "run-2", "run-3"],
            "{jump}"
        );
    }
}

/// A daemon by this clock, which a time server keeps, or does not; both folders are kept for so
/// long.
fn at_a_clock(
    sandbox: &Sandbox,
    library: &Path,
    keep_days: u32,
    clock: &str,
    is_kept: bool,
) -> Process {
    let config = format!(
        "[shipper]\nquarantine_keep_days = {keep_days}\nshipped_keep_days = {keep_days}\nquarantine_cleanup_interval_s = 1"
    );
    let mut ship = sandbox.command_with_config("ship", &config);
    ship.env("LD_PRELOAD", library)
        .env("FAKETIME", format!("@{clock}"));
    ship.env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("TZ", "UTC");
    ship.env("PATH", sandbox.clock_is_kept(is_kept));
    sandbox.start(ship)
}

/// A rejection in our receiver's own words.
const OUT_OF_WINDOW: &str = r#"{"type":"urn:sealift:commit-out-of-window","status":412,"title":"no","detail":"no",
    "your_commit":"0","head_commit":"1"}"#;

#[test]
fn what_was_quarantined_while_the_clock_was_behind_is_kept_and_its_age_begins_when_the_clock_is_right()
 {
    let Some(library) = libfaketime() else { return };
    // The receiver has a clock that is right, and says so in each answer.
    let right = "2026-12-20 10:00:00";
    let server = Scripted::new(move |seen, _| {
        let reply = match seen.id.as_str() {
            "bad" => Reply::text(412, "application/problem+json", OUT_OF_WINDOW),
            _ => {
                let mut receipt = seen.receipt();
                receipt["stored_at"] = "2026-12-20T10:00:00Z".into();
                Reply::json(201, &receipt)
            }
        };
        reply.header("Date: Sun, 20 Dec 2026 10:00:00 GMT")
    });
    let sandbox = Sandbox::new(server.url());
    let run = |clock: &str, is_kept| at_a_clock(&sandbox, &library, 10, clock, is_kept);
    let mut behind = run("2026-11-30 10:00:00", false);
    // So that it has delivered something, whatever it makes of a first answer.
    sandbox.seal("good", &[]);
    sandbox.wait_shipped("good");
    sandbox.seal("bad", &[]);
    sandbox.wait_quarantined("bad");
    assert!(behind.terminate().success());
    let reason = || json_file(&sandbox.quarantined("bad").join("quarantine_reason.json"));
    let receipt = || json_file(&sandbox.shipped("good").join("shipping_receipt.json"));
    for record in [reason(), receipt()] {
        assert_eq!(record["aging"]["clock_believed"], false, "{record}");
    }
    assert!(
        reason()["quarantined_at_wall"]
            .as_str()
            .unwrap()
            .starts_with("2026-11-30")
    );

    // Its time server has been reached since.
    let daemon = run(right, true);
    daemon.wait_log("the age of ");
    eventually("both ages begin, and that is written down", || {
        [reason(), receipt()].iter().all(|record| {
            record["aging"]["counted_from_wall"]
                .as_str()
                .is_some_and(|at| at.starts_with("2026-12-20"))
        })
    });
    assert!(sandbox.quarantined("bad").join("done.marker").exists());
    assert!(!daemon.log().contains("removed "), "{}", daemon.log());
}

/// Both on one host: its clock is the receiver's as well, and no time server keeps it.
#[test]
fn a_receiver_on_this_host_vouches_for_no_clock_and_nothing_is_deleted_by_its_word() {
    let Some(library) = libfaketime() else { return };
    let clock = Arc::new(Mutex::new("Mon, 30 Nov 2026 10:00:00 GMT"));
    let of_receiver = Arc::clone(&clock);
    let server = Scripted::new(move |seen, _| {
        let reply = match seen.id.as_str() {
            "bad" => Reply::text(412, "application/problem+json", OUT_OF_WINDOW),
            _ => Reply::empty(201),
        };
        reply.header(&format!("Date: {}", of_receiver.lock().unwrap()))
    });
    let sandbox = Sandbox::new(server.url());
    let run = |clock: &str| at_a_clock(&sandbox, &library, 5, clock, false);
    let deliver = |id: &str| {
        sandbox.seal(id, &[]);
        sandbox.wait_shipped(id);
    };
    let mut behind = run("2026-11-30 10:00:00");
    deliver("good");
    sandbox.seal("bad", &[]);
    sandbox.wait_quarantined("bad");
    let aging =
        || json_file(&sandbox.quarantined("bad").join("quarantine_reason.json"))["aging"].clone();
    assert_eq!(aging()["clock_believed"], false, "{}", aging());
    assert!(behind.terminate().success());

    *clock.lock().unwrap() = "Sun, 20 Dec 2026 10:00:00 GMT";
    let daemon = run("2026-12-20 10:00:00");
    // Each delivery has the clock looked at anew.
    deliver("later");
    deliver("last");
    assert!(
        sandbox.quarantined("bad").join("done.marker").exists(),
        "{}",
        daemon.log()
    );
    assert!(!daemon.log().contains("removed "), "{}", daemon.log());
}
