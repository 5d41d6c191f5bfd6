//! Fifty thousand quick episodes at once, more than the kernel's inotify queue holds: all are
//! shipped, and how fast.
//!
//! ```text
//! cargo bench --bench burst                      the figures
//! cargo bench --bench burst -- --check           exit code 1: one is missing, or no overflow
//! cargo bench --bench burst -- --episodes 5000   fewer; the queue may not overflow then
//! ```
//!
//! Daemon and receiver are the real program in processes of their own, over loopback, on the disk
//! that `TMPDIR` names: most of the time goes into that disk's flushes. The daemon is stopped
//! (SIGSTOP) while the episodes are recorded, so that nobody empties the queue; then it goes on,
//! and finds by looking what it was never told of.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark: its result is printed, a failure is a panic"
)]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sealift::model::layout::{Layout, MARKER};

const EPISODES: usize = 50_000;
/// Shipped first: after these, all that packs and sends has the memory that it needs.
const WARM_UP: usize = 500;
/// Promised is well under a kilobyte for an episode that waits.
const BYTES_PER_EPISODE: u64 = 1024;
/// So long nothing may happen.
const NO_PROGRESS: Duration = Duration::from_secs(60);
const A_WHILE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let check = arguments.iter().any(|argument| argument == "--check");
    let fewer = arguments
        .iter()
        .position(|argument| argument == "--episodes")
        .map(|at| &arguments[at + 1]);
    let episodes = fewer.map_or(EPISODES, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::below(&folder.path().join("data"));
    let store = folder.path().join("store");

    let mut receive = Command::new(env!("CARGO_BIN_EXE_sealift"));
    receive
        .args(["receive", "--listen", "127.0.0.1:0", "--store"])
        .arg(&store);
    let (receiver, said) = Running::start(receive, "local_addr=");
    let address = said
        .split_once("local_addr=")
        .unwrap()
        .1
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    let mut ship = Command::new(env!("CARGO_BIN_EXE_sealift"));
    ship.arg("ship")
        .arg("--data")
        .arg(folder.path().join("data"));
    ship.args(["--receiver", &format!("http://{address}")]);
    let first = layout.episodes.join("first");
    fs::create_dir_all(&first).unwrap();
    File::create(first.join(MARKER)).unwrap();
    let (daemon, _) = Running::start(ship, "shipped first");

    record(&layout.episodes, "warm-up", WARM_UP);
    drain(&layout.episodes, WARM_UP);
    let before_kib = daemon.peak_kib();

    daemon.signal(Signal::STOP);
    let began = now();
    record(&layout.episodes, "run", episodes);
    let recorded_in = began.elapsed();
    daemon.signal(Signal::CONT);
    let began = now();
    drain(&layout.episodes, episodes);
    let shipped_in = began.elapsed();

    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: usize = queue.trim().parse().unwrap();
    let overflowed = if episodes > queue {
        "overflowed"
    } else {
        "did not overflow"
    };
    let (shipped, held) = (count(&layout.shipped), count(&store.join("episodes")));
    let peak_kib = daemon.peak_kib();
    let each_bytes = (peak_kib - before_kib) * 1024 / episodes as u64;
    let rate = |took: Duration| f64::from(u32::try_from(episodes).unwrap()) / took.as_secs_f64();
    println!(
        "recorded   {episodes} episodes in {:.1} s; the queue of {queue} events {overflowed}",
        recorded_in.as_secs_f64()
    );
    println!(
        "shipped    in {:.1} s: {:.0} a second",
        shipped_in.as_secs_f64(),
        rate(shipped_in)
    );
    let goal = if each_bytes < BYTES_PER_EPISODE {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "memory     {before_kib} KiB before, {peak_kib} KiB at its peak: {each_bytes} bytes an episode (goal: {BYTES_PER_EPISODE}, {goal})"
    );
    daemon.end();
    receiver.end();
    let all = episodes + WARM_UP + 1;
    let good = (shipped, held) == (all, all) && episodes > queue;
    if check && !good {
        println!(
            "wrong: {shipped} are in shipped/ and the receiver holds {held} of {all}; promised are all of them, and a queue that \
             overflows"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn record(folder: &Path, name: &str, count: usize) {
    for n in 0..count {
        let episode = folder.join(format!("{name}-{n:05}"));
        fs::create_dir(&episode).unwrap();
        fs::write(episode.join("meta.json"), format!("{{\"run\":{n}}}")).unwrap();
        File::create(episode.join(MARKER)).unwrap();
    }
}

/// Waits until nothing is left in `episodes/`.
fn drain(episodes: &Path, of: usize) {
    let (mut left, mut moved_at) = (of, now());
    while left > 0 {
        thread::park_timeout(A_WHILE);
        let still = count(episodes);
        if still < left {
            (left, moved_at) = (still, now());
        }
        assert!(
            moved_at.elapsed() < NO_PROGRESS,
            "{left} of {of} are left, and nothing moves any more"
        );
    }
}

fn count(folder: &Path) -> usize {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| !name.to_string_lossy().starts_with('.'))
        .count()
}

/// One process of the program; killed where the benchmark fails.
struct Running(Child);

impl Running {
    /// Starts it and waits until it says something; its log is read for as long as it runs.
    fn start(mut command: Command, says: &str) -> (Self, String) {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut running = Self(command.spawn().unwrap());
        let mut log = BufReader::new(running.0.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let said = log
            .find(|line| line.contains(says))
            .expect("it ended before it was ready");
        thread::spawn(move || log.for_each(drop));
        (running, said)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// `VmHWM` of proc(5): the most that was ever resident.
    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
