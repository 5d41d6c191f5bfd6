//! A process that has a file mapped writable, and no descriptor of it any more: a store moves no
//! time stamp.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

use sealift::model::layout::Layout;

use super::waits_for;
use crate::support::{Sandbox, eventually};

/// Maps a file and closes it. Told "store", it changes one byte; told nothing more, it ends.
const RECORDER: &str = "import mmap, sys\n\
    f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()\n\
    m[0:1] = b'1'\n\
    print('mapped', flush=True)\n\
    for n, line in enumerate(sys.stdin):\n    m[1:2] = b'2'\n    print('stored', flush=True)\n";

struct Recorder {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

impl Recorder {
    fn of(file: &Path) -> Option<Self> {
        let mut python = Command::new("python3");
        let child = python
            .args(["-c", RECORDER])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut child) = child.spawn() else {
            assert!(std::env::var_os("CI").is_none(), "python3 is not there");
            eprintln!("python3 is not there: not tried");
            return None;
        };
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut recorder = Self {
            orders: child.stdin.take(),
            child,
            answers,
        };
        recorder.hears("mapped\n");
        Some(recorder)
    }

    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, word);
    }

    fn store(&mut self) {
        self.orders.as_mut().unwrap().write_all(b"store\n").unwrap();
        self.hears("stored\n");
    }

    fn end(mut self) {
        drop(self.orders.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn stamps(file: &Path) -> [i64; 4] {
    let found = fs::metadata(file).unwrap();
    [
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ]
}

/// Sandboxes on the disk of the tests, and in memory.
fn sandboxes() -> Vec<(Sandbox, Option<tempfile::TempDir>)> {
    let mut all = vec![(Sandbox::with_receiver(), None)];
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        let mut sandbox = Sandbox::with_receiver();
        sandbox.layout = Layout {
            episodes: memory.path().join("episodes"),
            ..sandbox.layout
        };
        fs::create_dir(&sandbox.layout.episodes).unwrap();
        all.push((sandbox, Some(memory)));
    }
    all
}

#[test]
fn a_store_through_a_mapping_that_moves_no_stamp_is_delivered_and_never_lost() {
    for (sandbox, memory) in sandboxes() {
        let episode: PathBuf = sandbox.record("run-1", &[("memmap.dat", &[b'0'; 8192])]);
        let file = episode.join("memmap.dat");
        let Some(mut recorder) = Recorder::of(&file) else {
            return;
        };
        fs::write(episode.join("done.marker"), b"").unwrap();
        let toml = memory.as_ref().map_or_else(String::new, |memory| {
            format!(
                "[shipper]\nepisodes_dir = {:?}",
                memory.path().join("episodes")
            )
        });
        let _daemon = sandbox.start(sandbox.command_with_config("ship", &toml));
        eventually("it waits for its file", || {
            waits_for(&sandbox, "run-1") || sandbox.shipped("run-1").exists()
        });
        let before = stamps(&file);
        recorder.store();
        assert_eq!(
            stamps(&file),
            before,
            "this file system tells of stores by a stamp"
        );
        recorder.end();
        sandbox.wait_shipped("run-1");
        let held =
            crate::disks::content_of(&fs::read(sandbox.stored("run-1")).unwrap(), "memmap.dat");
        assert_eq!(&held[..2], b"12");
    }
}

#[test]
fn what_was_changed_in_shipped_without_a_stamp_is_kept() {
    let sandbox = Sandbox::with_receiver();
    let changed = sandbox.record("run-1", &[("memmap.dat", &[b'0'; 8192])]);
    let Some(mut recorder) = Recorder::of(&changed.join("memmap.dat")) else {
        return;
    };
    fs::write(changed.join("done.marker"), b"").unwrap();
    sandbox.seal("run-2", &[("memmap.dat", &[b'0'; 8192])]);
    let config =
        "[pack]\nopen_files_wait_s = 0\n[shipper]\nshipped_free_bytes = 9000000000000000000\n";
    // Both are delivered; then as much room is wanted as no disk has.
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[pack]\nopen_files_wait_s = 0"));
    sandbox.wait_shipped("run-1");
    sandbox.wait_shipped("run-2");
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    drop(daemon);
    let file = sandbox.shipped("run-1").join("memmap.dat");
    // Dirty pages are written back every half minute: the store is tried until it has moved no
    // stamp.
    let before = stamps(&file);
    recorder.store();
    // What is open is kept as well, and not read.
    recorder.end();
    if stamps(&file) != before {
        eprintln!("the pages were written back just now: not tried");
    }
    let _daemon = sandbox.start(sandbox.command_with_config("ship", config));
    eventually("what the receiver holds is removed", || {
        !sandbox.shipped("run-2").exists()
    });
    assert_eq!(&fs::read(&file).unwrap()[..2], b"12");
}
