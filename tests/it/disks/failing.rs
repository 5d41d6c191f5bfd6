//! Disks that fail: one file of one episode, a whole folder, a flush.

use std::{fs, process::Command};

use crate::{
    crash_sweep::strace_is_there,
    service::traced,
    support::{Mounted, Reply, Sandbox, Scripted, each, eventually, names},
};

#[test]
fn eio_erofs_and_eacces_on_one_episode_make_that_one_wait_and_no_other() {
    if !strace_is_there() {
        return;
    }
    let cases = [
        ("data.bin", "read", "EIO"),
        ("", "openat", "EACCES"),
        ("", "getdents64", "EIO"),
        // Where it cannot be written to it is delivered, and cannot be moved.
        (".sealift-copy-shipping_receipt.json", "openat", "EROFS"),
    ];
    each(&cases, |(file, call, error)| {
        let sandbox = Sandbox::with_receiver();
        let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        sandbox.seal("run-2", &[("data.bin", b"recorded")]);
        let ship = sandbox.command_with_config("ship", "[shipper]\nwatch = \"reconcile-only\"");
        let path = if file.is_empty() { episode.clone() } else { episode.join(file) };
        let how = format!("inject={call}:error={error}");
        let daemon = sandbox.start(traced(&sandbox, &ship, &path, call, &how));
        sandbox.wait_shipped("run-2");
        daemon.wait_log("run-1 cannot go on: ");
        assert!(episode.exists());
        assert_eq!(names(&sandbox.layout.shipped), ["run-2"], "{error}");
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0], "{error}");
        assert!(!daemon.log().contains("Packing pauses"), "{}", daemon.log());
    });
}

#[test]
fn a_folder_that_cannot_be_written_holds_what_needs_it_until_it_can() {
    let sandbox = Sandbox::with_receiver();
    let Some(_mounted) = Mounted::over(&sandbox.layout.outbox, "8m") else { return };
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &options]).arg(&sandbox.layout.outbox).status().unwrap();
        assert!(done.success());
    };
    remount("ro");
    for id in ["run-1", "run-2", "run-3"] {
        sandbox.seal(id, &[]);
    }
    let daemon = sandbox.daemon();
    daemon.wait_log("Packing pauses, and is tried again");
    daemon.wait_log("Read-only file system");
    // The trial of the moves may be there with its scratch, as long as it finds something wrong.
    let mut there = names(&sandbox.layout.episodes);
    there.retain(|name| !name.starts_with('.'));
    assert_eq!(there, ["run-1", "run-2", "run-3"]);
    remount("rw");
    for id in ["run-1", "run-2", "run-3"] {
        sandbox.wait_shipped(id);
    }
}

#[test]
fn fsync_errors_are_never_retried_on_the_same_file() {
    if !strace_is_there() {
        return;
    }
    // Not acknowledged at first, so that the archive has to be kept.
    let server =
        Scripted::new(|seen, before| if before < 2 { Reply::empty(503) } else { Reply::stored(seen) });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = sandbox.command("ship");
    let partial = sandbox.layout.outbox.join("run-1.tar.zst.partial");
    let calls = "fsync,fdatasync,openat,unlink,unlinkat,rename,renameat2";
    let how = "inject=fsync:error=EIO:when=1";
    let daemon = sandbox.start(traced(&sandbox, &ship, &partial, calls, how));
    sandbox.wait_shipped("run-1");
    drop(daemon);
    let trace = || fs::read_to_string(sandbox.path("strace.log")).unwrap();
    eventually("the trace is written", || trace().contains("(INJECTED)"));
    let mut failed = false;
    for line in trace().lines() {
        let is = |call: &str| line.split_whitespace().nth(1).is_some_and(|found| found.starts_with(call));
        if line.contains("(INJECTED)") {
            failed = true;
        } else if failed && is("openat(") && line.contains("O_EXCL") {
            failed = false;
        } else {
            let uses = ["fsync(", "fdatasync(", "rename(", "renameat2("].into_iter().any(is);
            assert!(!(failed && uses), "after a failed flush: {line}\n{}", trace());
        }
    }
    assert!(!failed, "it was not created anew: {}", trace());
}
