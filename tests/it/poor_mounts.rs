//! File systems that know less, or that fail as NFS does: strace plays them, one call at a time, on
//! a disk that knows everything.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the file system, too"
)]

use std::{fs, path::Path};

use crate::{
    crash_sweep::strace_is_there,
    service::{traced, untrace},
    support::{Sandbox, eventually, json_of, names},
};

/// One pass under strace, which fails these calls on one path. The episode is shipped all the same.
#[track_caller]
fn ships_all_the_same(sandbox: &Sandbox, on: &Path, calls: &str, how: &str) {
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let mut ship = sandbox.command("ship");
    ship.args(["--once", "--json"]);
    let (code, tally) = json_of(traced(sandbox, &ship, on, calls, how).output().unwrap());
    let log = fs::read_to_string(sandbox.path("strace.log")).unwrap();
    assert!(
        log.contains("(INJECTED)"),
        "{calls} on {} was never called: {log}",
        on.display()
    );
    assert_eq!(
        (code, tally["shipped"].as_u64()),
        (0, Some(1)),
        "{how} on {}: {tally}",
        on.display()
    );
    assert_eq!(names(&sandbox.layout.shipped), ["run-1"]);
    let files = ["data.bin", "done.marker", "shipping_receipt.json"];
    assert_eq!(names(&sandbox.shipped("run-1")), files);
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    assert_eq!(sandbox.outbox(), [""; 0]);
}

#[test]
fn without_rename_noreplace_episodes_ship() {
    if !strace_is_there() {
        return;
    }
    for error in ["EINVAL", "ENOSYS"] {
        let sandbox = Sandbox::with_receiver();
        let how = format!("inject=renameat2:error={error}");
        ships_all_the_same(
            &sandbox,
            &sandbox.layout.episodes.join("run-1"),
            "renameat2",
            &how,
        );
    }
}

#[test]
fn without_rename_noreplace_and_without_links_episodes_ship() {
    if !strace_is_there() {
        return;
    }
    for error in ["EOPNOTSUPP", "ENOSYS"] {
        let sandbox = Sandbox::with_receiver();
        let how = format!("inject=renameat2,link,linkat:error={error}");
        let receipt = sandbox.layout.episodes.join("run-1/shipping_receipt.json");
        ships_all_the_same(&sandbox, &receipt, "renameat2,link,linkat", &how);
    }
}

#[test]
fn where_a_folder_cannot_be_flushed_episodes_ship() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let folder = sandbox.layout.shipped.clone();
    ships_all_the_same(&sandbox, &folder, "fsync", "inject=fsync:error=EINVAL");
}

/// A daemon that only looks, as it does on NFS. One call on one path fails in each thread that
/// makes it, until one was seen to fail.
fn ships_in_the_end(on: &str, calls: &str, error: &str) {
    let sandbox = Sandbox::with_receiver();
    let config = "[shipper]\nwatch = \"reconcile-only\"\nreconcile_interval_s = 1";
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let path = sandbox.data().join(on);
    let how = format!("inject={calls}:error={error}:when=1");
    let ship = sandbox.command_with_config("ship", config);
    let daemon = sandbox.start(traced(&sandbox, &ship, &path, calls, &how));
    eventually(&format!("{calls} on {on} fails"), || {
        fs::read_to_string(sandbox.path("strace.log")).is_ok_and(|log| log.contains("(INJECTED)"))
    });
    // Each further attempt may be another thread's first: it would fail for as long as that is so.
    untrace(&daemon);
    sandbox.wait_shipped("run-1");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert_eq!(names(&sandbox.layout.shipped), ["run-1"]);
}

#[test]
fn handles_that_went_stale_and_servers_that_fail_are_survived() {
    if !strace_is_there() {
        return;
    }
    let cases = [
        ("episodes", "getdents64", "ESTALE"),
        ("episodes", "openat", "ESTALE"),
        ("episodes", "openat", "EIO"),
        ("episodes/run-1", "getdents64", "ESTALE"),
        ("episodes/run-1/data.bin", "read", "ESTALE"),
        ("episodes/run-1/data.bin", "read", "EIO"),
    ];
    crate::support::each(&cases, |(on, calls, error)| {
        ships_in_the_end(on, calls, error);
    });
}

#[test]
fn a_removed_file_that_is_still_open_holds_up_nothing_and_is_called_what_it_is() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let trash = sandbox.layout.shipped.join(".sealift-trash-0-old");
    fs::create_dir(&trash).unwrap();
    for name in [".nfs000000000001", "data.bin"] {
        fs::write(trash.join(name), b"").unwrap();
    }
    sandbox.seal("run-1", &[]);
    let ship = sandbox.command("ship");
    // The NFS client answers so for the one that is open; here for the first that is asked for,
    // whichever it is.
    fs::rename(trash.join("data.bin"), trash.join(".nfs000000000002")).unwrap();
    let busy = "inject=unlinkat:error=EBUSY";
    let mut daemon = sandbox.start(traced(&sandbox, &ship, &trash, "unlinkat", busy));
    sandbox.wait_shipped("run-1");
    daemon.wait_log("a removed file that a process on this host still has open");
    assert!(daemon.terminate().success());
    assert!(trash.exists());
    // Closed at last: the next start removes it.
    let _daemon = sandbox.daemon();
    eventually("it is gone", || !trash.exists());
}
