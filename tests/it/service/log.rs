//! A log that nobody takes: it holds up nothing, and what is missing of it is told.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::Command,
};

use super::{environment_of, manager::Manager};
use crate::{
    control::snapshot,
    support::{Sandbox, eventually},
};

/// A pipe for a program's stderr. It is full already.
struct Pipe {
    path: PathBuf,
    ours: File,
    filler_bytes: usize,
    read: Vec<u8>,
}

impl Pipe {
    fn full(sandbox: &Sandbox) -> Self {
        let path = sandbox.path("stderr");
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        // For both, so that nobody waits for the other end; that it does not block is of this
        // descriptor alone.
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nonblocking)
            .open(&path);
        let mut pipe = Self {
            path,
            ours: open.unwrap(),
            filler_bytes: 0,
            read: Vec::new(),
        };
        for piece in [&[b'.'; 4096][..], b"."] {
            while let Ok(written) = pipe.ours.write(piece) {
                pipe.filler_bytes += written;
            }
        }
        pipe
    }

    /// A command whose stderr is this.
    fn under(&self, command: &Command) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "exec 2>\"$0\"; exec \"$@\""])
            .arg(&self.path);
        shell.arg(command.get_program()).args(command.get_args());
        environment_of(command, &mut shell);
        shell
    }

    /// What was written to it so far; from now on there is room.
    fn text(&mut self) -> String {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.ours.read(&mut buffer) {
                Ok(read) => self.read.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        String::from_utf8_lossy(self.read.get(self.filler_bytes..).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str) -> String {
        let mut text = String::new();
        eventually(&format!("stderr says {what:?}"), || {
            text = self.text();
            text.contains(what)
        });
        text
    }
}

fn seal_and_wait(sandbox: &Sandbox, ids: &[String]) {
    for id in ids {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    for id in ids {
        sandbox.wait_shipped(id);
    }
}

/// How often each of them is told to be shipped, by their order.
fn told(text: &str, ids: &[String]) -> Vec<usize> {
    ids.iter()
        .map(|id| text.matches(&format!(" shipped {id}, now in ")).count())
        .collect()
}

#[test]
fn a_stderr_that_nobody_reads_holds_up_no_episode_and_what_is_missing_is_told_when_it_is_read_again()
 {
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    let mut pipe = Pipe::full(&sandbox);
    let mut ship = manager.over(sandbox.command("ship"));
    ship.env("WATCHDOG_USEC", "300000")
        .env("RUST_LOG", "sealift=debug");
    ship.env("SEALIFT_DEBUG_LOG_BYTES", "40000");
    let mut daemon = sandbox.start(pipe.under(&ship));
    manager.wait_for("READY=1");
    let ids: Vec<_> = (0..120).map(|n| format!("run-{n:03}")).collect();
    seal_and_wait(&sandbox, &ids);
    let beats = manager.count("WATCHDOG=1");
    eventually("the heart beats on", || {
        manager.count("WATCHDOG=1") >= beats + 3
    });
    let dropped = snapshot(&sandbox).log.lines_dropped;
    assert!(dropped > 120, "{dropped}");

    let text = pipe.wait_for(" lines of this log are missing, said from ");
    let missing = text
        .lines()
        .find(|line| line.contains(" lines of this log are missing"))
        .unwrap();
    let before = &text[..text.find(missing).unwrap()];
    let missing: u64 = missing.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(
        missing >= dropped,
        "{missing} are said to be missing, and {dropped} are"
    );
    // What came first is there, in its order and whole; then only what became of episodes, as long
    // as there was room.
    assert!(
        before.lines().next().unwrap().contains(" ships "),
        "{before}"
    );
    assert!(before.contains(" DEBUG "), "{before}");
    assert!(
        before
            .lines()
            .rev()
            .take(10)
            .all(|line| line.contains("VERDICT=\"delivered\"")),
        "{before}"
    );
    let told_before = told(before, &ids);
    assert!(
        told_before.iter().all(|times| *times <= 1),
        "{told_before:?}"
    );
    assert!(told_before.iter().sum::<usize>() > 20, "{told_before:?}");

    seal_and_wait(&sandbox, &["after".to_owned()]);
    let text = pipe.wait_for(" shipped after, now in ");
    assert_eq!(text.matches("of this log are missing").count(), 1, "{text}");
    assert!(daemon.terminate().success());
}

#[test]
fn a_stop_writes_what_waits_and_is_kept_by_no_stderr_that_nobody_reads() {
    let sandbox = Sandbox::with_receiver();
    let mut pipe = Pipe::full(&sandbox);
    let ids: Vec<_> = (0..20).map(|n| format!("run-{n:03}")).collect();
    let mut daemon = sandbox.start(pipe.under(&sandbox.command("ship")));
    seal_and_wait(&sandbox, &ids);
    // Where nobody reads, neither the log nor the last words keep it.
    let mut second = sandbox.start(pipe.under(&sandbox.command("ship")));
    assert_eq!(second.wait().code(), Some(1));
    assert!(daemon.terminate().success());
    assert_eq!(told(&pipe.text(), &ids), [0; 20]);

    // Where somebody begins to read, everything is there.
    let mut pipe = Pipe {
        path: sandbox.path("stderr"),
        filler_bytes: 0,
        read: Vec::new(),
        ..pipe
    };
    while pipe.ours.write(b".").is_ok() {
        pipe.filler_bytes += 1;
    }
    let mut daemon = sandbox.start(pipe.under(&sandbox.command("ship")));
    let ids: Vec<_> = (20..40).map(|n| format!("run-{n:03}")).collect();
    seal_and_wait(&sandbox, &ids);
    daemon.signal("TERM");
    let mut text = String::new();
    eventually("all of them are told", || {
        text = pipe.text();
        told(&text, &ids).iter().all(|times| *times > 0)
    });
    assert_eq!(told(&text, &ids), [1; 20], "{text}");
    assert!(daemon.wait().success());
}
