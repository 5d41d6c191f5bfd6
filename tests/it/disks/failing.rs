//! Disks that fail: one file of one episode, a whole folder, a flush.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    crash_sweep::strace_is_there,
    service::traced,
    support::{
        Mounted, Process, Reply, Sandbox, Scripted, each, eventually, eventually_within, json_file,
        names,
    },
};

/// Its waits double, from some seconds on; under strace, beside others.
const PATIENCE: Duration = Duration::from_secs(120);

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
        let path = if file.is_empty() {
            episode.clone()
        } else {
            episode.join(file)
        };
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
    let Some(_mounted) = Mounted::over(&sandbox.layout.outbox, "8m") else {
        return;
    };
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let done = Command::new("mount")
            .args(["-o", &options])
            .arg(&sandbox.layout.outbox)
            .status()
            .unwrap();
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
    let server = Scripted::new(|seen, before| {
        if before < 2 {
            Reply::empty(503)
        } else {
            Reply::stored(seen)
        }
    });
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
        let is = |call: &str| {
            line.split_whitespace()
                .nth(1)
                .is_some_and(|found| found.starts_with(call))
        };
        if line.contains("(INJECTED)") {
            failed = true;
        } else if failed && is("openat(") && line.contains("O_EXCL") {
            failed = false;
        } else {
            let uses = ["fsync(", "fdatasync(", "rename(", "renameat2("]
                .into_iter()
                .any(is);
            assert!(
                !(failed && uses),
                "after a failed flush: {line}\n{}",
                trace()
            );
        }
    }
    assert!(!failed, "it was not created anew: {}", trace());
}

/// Everything is delivered, moved and cleared away.
#[track_caller]
fn all_is_well(sandbox: &Sandbox, daemon: &Process, shipped: &[&str]) {
    let receipt = sandbox.shipped("run-1").join("shipping_receipt.json");
    eventually_within(PATIENCE, "run-1 is shipped", || receipt.exists());
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded"
    );
    let receipt = json_file(&receipt);
    assert_eq!(receipt["receipt"]["sha256"], receipt["sha256"]);
    eventually_within(PATIENCE, "the outbox is empty", || {
        sandbox.outbox().is_empty()
    });
    assert_eq!(names(&sandbox.layout.shipped), shipped, "{}", daemon.log());
    assert_eq!(
        names(&sandbox.layout.quarantine),
        [""; 0],
        "{}",
        daemon.log()
    );
}

#[test]
fn a_flush_of_a_folder_a_sidecar_or_a_receipt_that_fails_is_told_and_loses_nothing() {
    if !strace_is_there() {
        return;
    }
    // As a path in the data folder; and what is told of it.
    let cases = [
        (
            "outbox/.sealift-copy-run-1.json",
            "Failed to make its archive durable in the outbox",
        ),
        ("outbox", "Failed to make its archive durable in the outbox"),
        (
            "episodes/run-1/.sealift-copy-shipping_receipt.json",
            "run-1 cannot go on: delivered, but it cannot be moved",
        ),
        (
            "episodes/run-1",
            "run-1 cannot go on: delivered, but it cannot be moved",
        ),
        (
            "shipped",
            "run-1 cannot go on: delivered, but it cannot be moved",
        ),
        (
            "episodes",
            "run-1 cannot go on: delivered, but it cannot be moved",
        ),
    ];
    each(&cases, |(path, told)| {
        // Not acknowledged at first, so that the archive has to be kept.
        let server = Scripted::new(|seen, before| {
            if before < 2 {
                Reply::empty(503)
            } else {
                Reply::stored(seen)
            }
        });
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        let ship = sandbox.command_with_config("ship", "[shipper]\nwatch = \"reconcile-only\"");
        let path = sandbox.data().join(path);
        let daemon = sandbox.start(traced(
            &sandbox,
            &ship,
            &path,
            "fsync",
            "inject=fsync:error=EIO:when=1",
        ));
        daemon.wait_log(told);
        all_is_well(&sandbox, &daemon, &["run-1"]);
    });
}

/// A disk that fails in one place for as long as this is there: strace, at a process that runs.
pub(crate) struct Fault(Child);

impl Fault {
    /// Of this path, and of none else; of all without one. `None` where one process may not look
    /// into another.
    pub(crate) fn of<'a>(
        daemon: &Process,
        path: impl Into<Option<&'a Path>>,
        call: &str,
        error: &str,
    ) -> Option<Self> {
        let pid = daemon.pid();
        let (trace, how) = (
            format!("trace={call}"),
            format!("inject={call}:error={error}"),
        );
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()])
            .args(
                path.into()
                    .into_iter()
                    .flat_map(|path| [Path::new("-P"), path]),
            )
            .args(["-e", &trace, "-e", &how])
            .stderr(Stdio::null())
            .spawn();
        let mut strace = Self(strace.unwrap());
        let traced = |task: fs::DirEntry| {
            fs::read_to_string(task.path().join("status"))
                .is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        };
        let mut refused = false;
        eventually("it is traced", || {
            refused = strace.0.try_wait().unwrap().is_some();
            let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            refused || tasks.all(|task| task.is_ok_and(traced))
        });
        assert!(
            !(refused && std::env::var_os("CI").is_some()),
            "CI may trace what runs"
        );
        (!refused).then_some(strace)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // It lets go of the process before it ends.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn eio_erofs_and_eacces_on_a_folder_hold_what_needs_it_and_lose_nothing() {
    if !strace_is_there() {
        return;
    }
    // Where, and what is told of it, once two episodes wait.
    let cases = [
        ("episodes", "openat", "Nothing is moved; it is tried again."),
        ("outbox", "openat", "Nothing is moved; it is tried again."),
        (
            "outbox/run-1.tar.zst.partial",
            "openat",
            "run-1 cannot go on: ",
        ),
        (
            "shipped/run-1",
            "renameat2",
            "run-1 cannot go on: delivered, but it cannot be moved",
        ),
    ];
    let cases: Vec<_> = cases
        .iter()
        .flat_map(|case| ["EIO", "EROFS", "EACCES"].map(|error| (*case, error)))
        .collect();
    each(&cases, |((path, call, told), error)| {
        let sandbox = Sandbox::with_receiver();
        let ship = sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1");
        let daemon = sandbox.start(ship);
        sandbox.seal("run-0", &[]);
        daemon.wait_log("shipped run-0");
        let path = sandbox.data().join(path);
        let Some(fault) = Fault::of(&daemon, path.as_path(), call, error) else {
            return;
        };
        sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        daemon.wait_log(told);
        drop(fault);
        all_is_well(&sandbox, &daemon, &["run-0", "run-1"]);
    });
}
