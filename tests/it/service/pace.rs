//! `bandwidth_limit` and `upload_window`, with the real program, and changed by a reload while
//! uploads run.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{manager::Manager, slow_receiver};
use crate::support::{Process, Reply, Sandbox, Scripted, eventually, sealift};

/// The clock on its wall shows UTC.
fn by_file(sandbox: &Sandbox, manager: &Manager, receiver: &str) -> Process {
    let mut command = sealift();
    command
        .args(["ship", "--config"])
        .arg(write(sandbox, receiver));
    command.env("TZ", "UTC0").env("WATCHDOG_USEC", "300000");
    sandbox.start(manager.over(command))
}

fn write(sandbox: &Sandbox, receiver: &str) -> std::path::PathBuf {
    let path = sandbox.path("sealift.toml");
    let (data, url) = (sandbox.data(), sandbox.url());
    let times = "idle_timeout_s = 3\nanswer_timeout_s = 3\nconnect_timeout_s = 3";
    let toml = format!(
        "[shipper]\ndata_dir = {data:?}\ndisk_timeout_s = 3\n[receiver]\nurl = '{url}'\n{times}\n{receiver}\n"
    );
    fs::write(&path, toml).unwrap();
    path
}

fn reload(daemon: &Process, sandbox: &Sandbox, receiver: &str) {
    let before = daemon.log().matches("reloaded").count();
    write(sandbox, receiver);
    daemon.signal("HUP");
    eventually("it is reloaded", || {
        daemon.log().matches("reloaded").count() > before
    });
}

/// A window of an hour that begins in two, and when that is.
fn later() -> (String, String) {
    let now = sealift::clock::wall_now().unix_seconds();
    let hour = |ahead: i64| format!("{:02}:{:02}", (now / 3600 + ahead) % 24, now / 60 % 60);
    (
        format!(
            "upload_window = [{{ from = '{}', to = '{}' }}]",
            hour(2),
            hour(3)
        ),
        hour(2),
    )
}

#[test]
fn a_limit_that_a_reload_takes_away_is_gone_for_the_upload_under_way() {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (manager, sandbox) = (Manager::new(), Sandbox::new(slow_receiver(&hurry, &taken)));
    let daemon = by_file(&sandbox, &manager, "bandwidth_limit = '20 kB/s'");
    daemon.wait_log("Uploads go at 20 kB/s at most");
    sandbox.seal("a", &[("data.bin", &crate::uploads::noise(4 << 20))]);
    eventually("the upload has begun", || {
        taken.load(Ordering::SeqCst) > 20_000
    });
    manager.wait_for("STATUS=1 uploading ");
    assert!(taken.load(Ordering::SeqCst) < 4 << 20);
    reload(&daemon, &sandbox, "bandwidth_limit = '0'");
    sandbox.wait_shipped("a");
    daemon.wait_log("Uploads go as fast as they can");
}

#[test]
fn outside_the_window_nothing_is_sent_and_the_status_says_until_when() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let (manager, sandbox) = (Manager::new(), Sandbox::new(server.url()));
    sandbox.seal("a", &[]);
    let (window, opens) = later();
    let mut daemon = by_file(&sandbox, &manager, &window);
    daemon.wait_log(&format!(
        "Outside the upload window until {opens}: nothing new is sent"
    ));
    manager.wait_for(&format!("1 waiting; outside upload window until {opens}"));
    assert_eq!(server.order(), [""; 0]);
    reload(
        &daemon,
        &sandbox,
        "upload_window = [{ from = '00:00', to = '24:00' }]",
    );
    sandbox.wait_shipped("a");
    assert!(daemon.terminate().success());
}

#[test]
fn an_upload_over_which_the_window_closes_stands_still_and_neither_time_out_nor_heart_nor_stop_wait_for_it()
 {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (manager, sandbox) = (Manager::new(), Sandbox::new(slow_receiver(&hurry, &taken)));
    sandbox.seal("a", &[("data.bin", &crate::uploads::noise(4 << 20))]);
    let mut daemon = by_file(&sandbox, &manager, "bandwidth_limit = '200 kB/s'");
    eventually("the upload has begun", || {
        taken.load(Ordering::SeqCst) > 20_000
    });
    reload(&daemon, &sandbox, &later().0);
    daemon.wait_log("what is under way stands still");
    let beats = || manager.count("WATCHDOG=1");
    // What was on its way when the window closed has come.
    let some_beats = beats() + 10;
    eventually("a second", || beats() >= some_beats);
    let (before, many_beats) = (taken.load(Ordering::SeqCst), beats() + 80);
    eventually("eight seconds, twice what anything may take", || {
        beats() >= many_beats
    });
    assert_eq!(taken.load(Ordering::SeqCst), before);
    let log = daemon.log();
    assert!(
        !log.contains("has not moved") && !log.contains("time-out"),
        "{log}"
    );
    let before_the_stop = beats();
    assert!(daemon.terminate().success());
    assert!(
        beats() < before_the_stop + 30,
        "the grace of five seconds is for what moves"
    );
    assert_eq!(
        sandbox.outbox(),
        ["a.json", "a.tar.zst"],
        "kept for the next window"
    );
}
