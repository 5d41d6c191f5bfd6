//! What may go wrong at the start, and whose folder it is.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the other host that takes the folder"
)]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    process::Command,
};

use rustix::fs::OFlags;

use super::{manager::Manager, traced};
use crate::{
    crash_sweep::strace_is_there,
    support::{Mounted, Sandbox, eventually, json_file, names},
};

#[test]
fn on_a_full_disk_the_daemon_starts_and_its_lock_holds() {
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    let Some(_mounted) = Mounted::over(&sandbox.data(), "64k") else {
        return;
    };
    let layout = &sandbox.layout;
    for folder in [
        &layout.private,
        &layout.episodes,
        &layout.outbox,
        &layout.shipped,
        &layout.quarantine,
    ] {
        fs::create_dir_all(folder).unwrap();
    }
    let (lock, fill) = (layout.private.join("lock"), sandbox.data().join("fill"));
    fs::write(&lock, b"").unwrap();
    let mut filling = File::create(&fill).unwrap();
    while filling.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    let mut ship = manager.over(sandbox.command("ship"));
    ship.env("WATCHDOG_USEC", "300000")
        .env("SEALIFT_DEBUG_LOCK_REFRESH_MS", "1");
    let daemon = sandbox.start(ship);
    manager.wait_for("READY=1");
    daemon.wait_log("It is held all the same");
    let mut second = sandbox.start(sandbox.command("ship"));
    assert_eq!(second.wait().code(), Some(1));
    assert!(
        second
            .log()
            .contains("Another sealift ships this folder already"),
        "{}",
        second.log()
    );
    drop(filling);
    fs::remove_file(fill).unwrap();
    eventually("its holder is named once there is room", || {
        fs::metadata(&lock).unwrap().len() > 0
    });
    assert_eq!(
        json_file(&lock)["pid"].as_u64(),
        Some(u64::from(daemon.pid()))
    );
}

#[test]
fn a_daemon_whose_lock_another_has_taken_ends_and_says_who_has_it() {
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    let mut ship = manager.over(sandbox.command("ship"));
    ship.env("WATCHDOG_USEC", "300000")
        .env("SEALIFT_DEBUG_LOCK_REFRESH_MS", "1");
    let mut daemon = sandbox.start(ship);
    manager.wait_for("READY=1");
    let lock = sandbox.layout.private.join("lock");
    let mut holder = json_file(&lock);
    for (name, value) in [("host", "lab-08"), ("boot_id", "another")] {
        holder[name] = value.into();
    }
    holder["pid"] = 42.into();
    let theirs = lock.with_file_name("theirs");
    fs::write(&theirs, holder.to_string()).unwrap();
    fs::rename(theirs, &lock).unwrap();
    assert_eq!(daemon.wait().code(), Some(1));
    let log = daemon.log();
    assert!(
        log.contains("another daemon has taken it: this one stops"),
        "{log}"
    );
    assert!(log.contains("process 42 on lab-08, since 20"), "{log}");
    assert_eq!(json_file(&lock), holder);
}

#[test]
fn a_start_that_hangs_says_where_and_goes_on_by_itself() {
    if !strace_is_there() {
        return;
    }
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    let (ship, shipped) = (
        manager.over(sandbox.command("ship")),
        &sandbox.layout.shipped,
    );
    let delay = "inject=statx:delay_enter=8s:when=1";
    let daemon = sandbox.start(traced(&sandbox, &ship, shipped, "statx", delay));
    let at = format!("looking at {}", shipped.display());
    daemon.wait_log(&format!("The start has not moved for 5 s: {at}."));
    manager.wait_for(&format!(
        "STATUS=starting: {at}; HUNG: nothing has moved for 5 s"
    ));
    manager.wait_for("READY=1");
}

#[test]
fn one_pass_that_is_stopped_before_it_has_looked_has_not_succeeded() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[]);
    let mut ship = sandbox.command("ship");
    ship.arg("--once");
    let delay = "inject=statx:delay_enter=8s:when=1";
    let mut pass = sandbox.start(traced(
        &sandbox,
        &ship,
        &sandbox.layout.shipped,
        "statx",
        delay,
    ));
    pass.wait_log(" ships ");
    pass.signal("TERM");
    assert_eq!(pass.wait().code(), Some(1), "{}", pass.log());
    assert!(
        pass.log().contains("Stopped before it had looked"),
        "{}",
        pass.log()
    );
    assert!(!pass.log().contains("0 sealed"), "{}", pass.log());
    assert_eq!(names(&sandbox.layout.episodes), ["a"]);
}

#[test]
fn a_reload_that_is_asked_for_while_the_configuration_is_read_ends_nothing_and_is_made() {
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    // A file that takes its time: it is read for as long as somebody holds its other end.
    let config = sandbox.path("slow.toml");
    assert!(
        Command::new("mkfifo")
            .arg(&config)
            .status()
            .unwrap()
            .success()
    );
    let read = || {
        let mut other_end = None;
        eventually("the configuration is read", || {
            let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
            other_end = OpenOptions::new()
                .write(true)
                .custom_flags(nonblocking)
                .open(&config)
                .ok();
            other_end.is_some()
        });
        other_end.unwrap()
    };
    let mut ship = manager.over(sandbox.command("ship"));
    ship.arg("--config").arg(&config);
    let mut daemon = sandbox.start(ship);
    let reading = read();
    daemon.signal("HUP");
    drop(reading);
    manager.wait_for("RELOADING=1");
    drop(read());
    eventually("it is ready again", || manager.count("READY=1") == 2);
    assert!(daemon.terminate().success());
}
