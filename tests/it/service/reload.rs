//! SIGHUP: what is set is read again, and nothing is dropped for it.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{manager::Manager, slow_receiver};
use crate::support::{Process, Reply, Sandbox, Scripted, eventually, json_file, sealift};

/// A daemon with a file of its own, and nothing on the command line.
fn by_file(sandbox: &Sandbox, manager: &Manager, toml: &str) -> Process {
    let mut command = sealift();
    command.args(["ship", "--config"]).arg(write(sandbox, toml));
    sandbox.start(manager.over(command))
}

fn write(sandbox: &Sandbox, toml: &str) -> std::path::PathBuf {
    let path = sandbox.path("sealift.toml");
    let toml = toml.replace("DATA", sandbox.data().to_str().unwrap());
    fs::write(&path, toml).unwrap();
    path
}

fn file(url: &str, more: &str) -> String {
    format!("[shipper]\ndata_dir = 'DATA'\n{more}\n[receiver]\nurl = '{url}'\n")
}

#[test]
fn another_receiver_is_used_by_new_attempts_and_what_is_in_flight_ends_as_it_began() {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let old = slow_receiver(&hurry, &taken);
    let new = Scripted::new(|seen, _| Reply::stored(seen));
    let (manager, sandbox) = (Manager::new(), Sandbox::new(""));
    let daemon = by_file(&sandbox, &manager, &file(&old, ""));
    sandbox.seal("long", &[("data.bin", &crate::uploads::noise(16 << 20))]);
    eventually("the upload has begun", || taken.load(Ordering::SeqCst) > 0);
    write(&sandbox, &file(&new.url(), ""));
    daemon.signal("HUP");
    daemon.wait_log("reloaded");
    sandbox.seal("short", &[]);
    sandbox.wait_shipped("short");
    assert_eq!(new.order(), ["short"]);
    hurry.store(true, Ordering::SeqCst);
    sandbox.wait_shipped("long");
    assert_eq!(new.count("long"), 0, "it was sent once, where it had begun");
    let receiver =
        |id| json_file(&sandbox.shipped(id).join("shipping_receipt.json"))["receiver"].clone();
    assert_eq!(receiver("long"), format!("{old}/v1/episodes/long"));
    assert_eq!(
        receiver("short"),
        format!("{}/v1/episodes/short", new.url())
    );
    let heard = manager.heard();
    let reloading = heard
        .iter()
        .position(|message| message.starts_with("RELOADING=1\nMONOTONIC_USEC="))
        .unwrap();
    let ready = heard
        .iter()
        .rposition(|message| message.starts_with("READY=1"))
        .unwrap();
    assert!(reloading < ready, "{heard:?}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "an operator changes where it goes"
)]
fn a_reload_tries_the_moves_again_and_takes_back_what_was_said_of_them() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "there is no /dev/shm, and CI must have it"
        );
        println!("skipped: there is no /dev/shm");
        return;
    };
    let (manager, sandbox) = (Manager::new(), Sandbox::new(""));
    let shipped = &sandbox.layout.shipped;
    fs::remove_dir(shipped).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), shipped).unwrap();
    let daemon = by_file(&sandbox, &manager, &file("http://127.0.0.1:9", ""));
    manager.wait_for("STATUS=nothing to ship; moves to ");
    fs::remove_file(shipped).unwrap();
    fs::create_dir(shipped).unwrap();
    daemon.signal("HUP");
    daemon.wait_log("mended: moves to ");
    eventually("the status takes it back", || {
        let heard = manager.heard();
        heard
            .iter()
            .rfind(|message| message.starts_with("STATUS="))
            .is_some_and(|last| !last.contains("moves to"))
    });
}

#[test]
fn a_wrong_file_is_logged_and_the_old_one_kept_and_the_status_says_so_until_a_right_one_comes() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let (manager, sandbox) = (Manager::new(), Sandbox::new(""));
    let daemon = by_file(&sandbox, &manager, &file(&server.url(), ""));
    manager.wait_for("READY=1");
    write(&sandbox, &file(&server.url(), "reconcile_intervals = 5"));
    daemon.signal("HUP");
    daemon.wait_log("reload failed, what was read before stays in use");
    daemon.wait_log("did you mean `reconcile_interval_s`?");
    manager.wait_for(
        "nothing to ship; reload failed, the old configuration is kept: The configuration",
    );
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    assert_eq!(manager.count("READY=1"), 2, "{:?}", manager.heard());
    write(&sandbox, &file(&server.url(), "reconcile_interval_s = 5"));
    daemon.signal("HUP");
    daemon.wait_log("reloaded");
    eventually("the status is a calm one", || {
        let statuses: Vec<_> = manager
            .heard()
            .into_iter()
            .filter(|message| message.starts_with("STATUS="))
            .collect();
        statuses
            .last()
            .is_some_and(|last| last == "STATUS=nothing to ship\n")
    });
}

#[test]
fn what_cannot_change_while_running_is_named_and_the_rest_is_applied() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let (manager, sandbox) = (Manager::new(), Sandbox::new(""));
    let daemon = by_file(&sandbox, &manager, &file("http://127.0.0.1:9", ""));
    sandbox.seal("a", &[]);
    daemon.wait_log("was not delivered");
    let elsewhere = sandbox.path("elsewhere");
    let toml = file(&server.url(), "watch = 'reconcile-only'")
        .replace("DATA", elsewhere.to_str().unwrap());
    write(&sandbox, &toml);
    daemon.signal("HUP");
    sandbox.wait_shipped("a");
    daemon.wait_log("Restart to apply: shipper.data_dir, shipper.watch");
    manager.wait_for("; restart to apply: shipper.data_dir, shipper.watch\n");
    assert!(!elsewhere.exists());
}

#[test]
fn what_the_command_line_says_stays_on_top_after_a_reload() {
    let told = Scripted::new(|seen, _| Reply::stored(seen));
    let written = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(told.url());
    let config = format!(
        "[receiver]\nurl = '{}'\nheaders = {{ \"X-Run\" = \"one\" }}",
        written.url()
    );
    let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    fs::write(sandbox.path("sealift.toml"), config.replace("one", "two")).unwrap();
    daemon.signal("HUP");
    daemon.wait_log("reloaded");
    sandbox.seal("b", &[]);
    sandbox.wait_shipped("b");
    let runs: Vec<_> = told
        .seen()
        .iter()
        .map(|seen| seen.header("x-run").unwrap().to_owned())
        .collect();
    assert_eq!(runs, ["one", "two"]);
    assert!(written.seen().is_empty());
}

#[test]
fn a_new_token_and_required_receipts_count_from_the_reload_on() {
    let receipts = Arc::new(Mutex::new(Vec::new()));
    let seen_by = Arc::clone(&receipts);
    let server = Scripted::new(move |seen, _| {
        seen_by
            .lock()
            .unwrap()
            .push(seen.header("authorization").map(str::to_owned));
        // A bare acknowledgement.
        Reply::empty(204)
    });
    let (manager, sandbox) = (Manager::new(), Sandbox::new(""));
    let token = sandbox.path("token");
    fs::write(&token, "first").unwrap();
    let with = |more: &str| {
        format!(
            "{}token_file = {token:?}\n{more}\n",
            file(&server.url(), "")
        )
    };
    let daemon = by_file(&sandbox, &manager, &with(""));
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    fs::write(&token, "second").unwrap();
    write(&sandbox, &with("require_receipt = true"));
    daemon.signal("HUP");
    daemon.wait_log("reloaded");
    sandbox.seal("b", &[]);
    daemon.wait_log("The receiver cannot be used");
    assert!(sandbox.layout.episodes.join("b").exists());
    let receipts = receipts.lock().unwrap();
    assert_eq!(
        receipts[..2],
        [
            Some("Bearer first".to_owned()),
            Some("Bearer second".to_owned())
        ]
    );
}

/// A daemon that sends between two times of the day, by this file as its time zone.
fn in_zone(sandbox: &Sandbox, manager: &Manager, hours: [u32; 2]) -> Process {
    let [from, to] = hours.map(|hour| format!("{hour:02}:00"));
    let more = format!("upload_window = [{{ from = '{from}', to = '{to}' }}]");
    let mut command = sealift();
    command
        .env("TZ", sandbox.path("zone"))
        .args(["ship", "--config"])
        .arg(write(sandbox, &(file("http://127.0.0.1:9", "") + &more)));
    sandbox.start(manager.over(command))
}

#[test]
fn a_reload_takes_a_new_time_zone() {
    let (manager, sandbox) = (Manager::new(), Sandbox::new(""));
    let set = |zone: &str| {
        let there = format!("/usr/share/zoneinfo/Etc/{zone}");
        fs::copy(there, sandbox.path("zone")).is_ok()
    };
    if !set("GMT") {
        println!("skipped: no time zones here");
        return;
    }
    let hour = u32::try_from(sealift::clock::wall_now().unix_seconds() / 3600 % 24).unwrap();
    // Open twelve hours from now, or where the clock is ahead by as many.
    let window = [10, 14].map(|ahead| (hour + ahead) % 24);
    let daemon = in_zone(&sandbox, &manager, window);
    eventually("it can be asked", || {
        sandbox.layout.control_socket().exists()
    });
    let is_closed = || {
        let snapshot = crate::control::snapshot(&sandbox);
        snapshot.destination.closed_until.is_some()
    };
    eventually("it is outside its window", is_closed);
    assert!(set("GMT-12"));
    daemon.signal("HUP");
    eventually("it is within its window", || !is_closed());
}

#[test]
fn a_time_zone_that_cannot_be_had_is_warned_of_where_a_window_goes_by_it() {
    let sandbox = Sandbox::new("");
    let says = "receiver.upload_window goes by UTC, since the local time zone cannot be had";
    let window = "upload_window = [{ from = '22:00', to = '06:00' }]";
    for (zone, window, is_told) in [
        ("Nowhere/Nothing", window, true),
        ("Nowhere/Nothing", "", false),
        ("UTC0", window, false),
    ] {
        let toml = file("http://127.0.0.1:9", "") + window;
        let checked = sealift()
            .env("TZ", zone)
            .args(["config", "check", "--config"])
            .arg(write(&sandbox, &toml))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}");
        assert_eq!(said.contains(says), is_told, "{zone} {window}: {said}");
    }
}
