//! Every system call that changes something is a moment to be killed at, or to fail: strace finds
//! them in a plain run, and then breaks one after another. What is covered, what no kill can show,
//! and how to run it: tests/rigs/crash/README.md.
//!
//! A shipper's moment is (call, path, how manieth): strace counts by thread and, with `-P`, only
//! calls on that path, so it does not matter which of the runtime's threads makes it. A receiver's
//! temporary names are of one life only, so there the calls are counted by thread alone, from the
//! start of the process.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the recorder, the operator and the crash"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sealift::model::{
    episode::Digest,
    layout::{REASON, RECEIPT},
};
use serde_json::json;

use crate::{
    crash::{self, ID},
    support::{Process, Reply, Sandbox, Scripted, eventually, json_file, json_of, names, sealift},
};

mod moves;
mod requeue;

/// The calls that change a disk, or what the other side knows.
const CALLS: &str = "openat,mkdir,mkdirat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,\
                     unlink,unlinkat,symlinkat,rmdir,writev,sendto,sendmsg";
/// Of many calls alike on one path (the writes of one archive) so many are broken: first, last, and
/// evenly in between.
const SAMPLES: usize = 4;
/// Of one thread's calls of a kind in a receiver, likewise.
const RECEIVER_SAMPLES: usize = 16;
/// Some writes on either side, and still a fraction of a second under strace.
const BYTES: usize = 600_000;
/// A call may fall to another thread than in the plain run, and the count with it: so often is it
/// tried.
const TRIES: usize = 4;
/// And so often a receiver's calls are gone through.
const ROUNDS: usize = 8;

const KILL: &str = "signal=KILL";
const EVERY: &[&str] = &[
    "openat",
    "write",
    "ftruncate",
    "fsync",
    "rename",
    "renameat2",
    "unlink",
    "writev",
];

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_killed_at_any_call_finishes_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    let swept = rig.sweep(rig.sandbox.url(), KILL, EVERY, |_| rig.finishes());
    for call in ["openat", "write", "fsync", "renameat2", "unlink", "writev"] {
        assert!(swept.contains_key(call), "{call} is not among {swept:?}");
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_killed_while_it_keeps_an_archive_finishes_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let swept = rig.sweep(&busy.url(), KILL, EVERY, |_| {
        rig.sidecar_is_of_its_archive();
        rig.finishes();
    });
    assert!(swept["fsync"] >= 3 && swept["rename"] >= 2, "{swept:?}");
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_killed_with_a_kept_archive_finishes_at_the_next_start() {
    let Some(rig) = Rig::with_kept_archive() else {
        return;
    };
    let swept = rig.sweep(rig.sandbox.url(), KILL, EVERY, |_| rig.finishes());
    assert!(swept["unlink"] >= 2, "{swept:?}");
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_killed_while_it_quarantines_finishes_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    let rejecting = Scripted::new(|_, _| {
        Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not ours"}),
        )
    });
    let url = rejecting.url();
    rig.sweep(&url, KILL, EVERY, |_| {
        rig.ship(&url).output().unwrap();
        rig.is_quarantined();
    });
    let sent = rejecting.seen();
    assert!(
        sent.iter().all(|seen| seen.body == sent[0].body),
        "it was packed to other bytes"
    );
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_whose_disk_fails_at_any_call_loses_nothing() {
    let Some(rig) = Rig::new() else { return };
    for (fault, calls) in [
        ("error=EIO", &["fsync", "rename", "renameat2", "unlink"][..]),
        ("error=ENOSPC", &["openat", "write", "rename"][..]),
    ] {
        rig.sweep(rig.sandbox.url(), fault, calls, |_| rig.finishes());
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn an_archive_that_could_not_be_kept_is_not_believed() {
    let Some(rig) = Rig::new() else { return };
    let busy = Scripted::new(|_, _| Reply::empty(503));
    for (fault, calls) in [
        ("error=EIO", &["fsync", "rename"][..]),
        ("error=ENOSPC", &["openat", "write", "rename"][..]),
    ] {
        rig.sweep(&busy.url(), fault, calls, |moment| {
            let flushes_the_archive = moment.call == "fsync" && !moment.path.contains(".json");
            if flushes_the_archive && moment.nth == 1 {
                let sidecar = rig.sandbox.layout.outbox.join(format!("{ID}.json"));
                assert!(
                    !sidecar.exists(),
                    "a sidecar vouches for bytes that were not flushed"
                );
            }
            rig.sidecar_is_of_its_archive();
            rig.finishes();
        });
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_receiver_killed_at_any_call_holds_all_or_nothing() {
    let Some(mut rig) = Rig::new() else { return };
    for (call, needed) in [
        ("openat", &[][..]),
        ("write", &["write *.part"]),
        ("fsync", &["fsync *.part", "fsync episodes"]),
        ("renameat2", &["renameat2 *.part"]),
        ("rename", &["rename *.part"]),
        ("unlink", &["unlink *.part"]),
        ("writev", &["writev "]),
    ] {
        rig.sweep_receiver(call, KILL, needed, |_, _| ());
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_receiver_whose_disk_fails_acknowledges_nothing() {
    let Some(mut rig) = Rig::new() else { return };
    for (call, needed) in [
        ("fsync", &["fsync *.part", "fsync episodes"][..]),
        ("renameat2", &["renameat2 *.part"]),
    ] {
        rig.sweep_receiver(call, "error=EIO", needed, |site, shipped| {
            assert!(!shipped, "acknowledged though this failed: {site}");
        });
    }
    // What stands in receipts/ can be rebuilt: that it cannot be written is no reason to refuse.
    rig.sweep_receiver(
        "rename",
        "error=EIO",
        &["rename *.part"],
        |site, shipped| {
            assert!(shipped, "refused for {site}");
        },
    );
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn the_shipper_flushes_before_it_names_and_names_before_it_vouches() {
    let Some(rig) = Rig::new() else { return };
    let busy = Scripted::new(|_, _| Reply::empty(503));
    rig.reset();
    in_order(
        &rig.traced(&busy.url(), &[]),
        &[
            ("fsync(", "run-1.tar.zst.partial"),
            ("rename(", "run-1.tar.zst.partial"),
            ("fsync(", "/outbox>"),
            ("fsync(", ".sealift-copy-run-1.json"),
            ("rename(", "outbox/run-1.json"),
            ("fsync(", "/outbox>"),
        ],
    );
    in_order(
        &rig.traced(rig.sandbox.url(), &[]),
        &[
            ("fsync(", ".sealift-copy-shipping_receipt.json"),
            ("rename", "episodes/run-1/shipping_receipt.json"),
            ("fsync(", "/episodes/run-1>"),
            ("renameat2(", "shipped/run-1\""),
            ("fsync(", "/shipped>"),
            ("fsync(", "/episodes>"),
            ("unlink(", "outbox/run-1.tar.zst\""),
        ],
    );
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn the_receiver_flushes_the_bytes_names_them_flushes_the_name_and_answers() {
    let Some(mut rig) = Rig::new() else { return };
    let address = rig.sandbox.kill_receiver();
    rig.reset();
    let receiver = rig.traced_receiver(&address, &[]);
    assert!(
        rig.ship(&format!("http://{address}"))
            .output()
            .unwrap()
            .status
            .success()
    );
    let trace = rig.end_of(receiver);
    let upload = trace.find("receiving").unwrap();
    in_order(
        &trace[upload..],
        &[
            ("write(", ".part>"),
            ("fsync(", ".part>"),
            ("renameat2(", "episodes/run-1.tar.zst"),
            ("fsync(", "/episodes>"),
            ("rename(", "receipts/run-1.json"),
            ("writev(", "201 Created"),
        ],
    );
}

/// Each of these lines comes behind the one before it.
#[track_caller]
fn in_order(trace: &str, wanted: &[(&str, &str)]) {
    let mut lines = trace.lines();
    for (call, on) in wanted {
        assert!(
            lines.any(|line| line.contains(call) && line.contains(on)),
            "{call}... {on} is not in its place in\n{}",
            trace
                .lines()
                .filter(|line| !line.contains("eventfd"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
}

/// One sandbox that is made anew for each moment, under the same paths.
struct Rig {
    sandbox: Sandbox,
    reference: Digest,
    fixture: PathBuf,
    /// Whether the archive lies in the outbox already when the pass begins.
    kept: bool,
    /// What is below these is ours to break.
    roots: Vec<String>,
}

/// Says so where it is not.
pub(crate) fn strace_is_there() -> bool {
    let is_there = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !is_there {
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "strace is not here, and this is CI: .ci/install");
        println!("skipped: strace is not here; on Debian, apt-get install strace");
    }
    is_there
}

/// One call of the shipper that can be broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    call: String,
    /// Empty for a socket.
    path: String,
    nth: usize,
}

impl Rig {
    /// `None` on a laptop without strace.
    fn new() -> Option<Self> {
        if !strace_is_there() {
            return None;
        }
        let sandbox = Sandbox::with_receiver();
        let reference = crash::seal(&sandbox, BYTES);
        let fixture = sandbox.path("fixture");
        fs::rename(sandbox.layout.episodes.join(ID), &fixture).unwrap();
        // Without the clean-up, which asks other programs about the clock.
        let config = "[shipper]\nquarantine_keep_days = 0\n[pack]\nworkers = 1\n[receiver]\nconcurrency = 1\n";
        fs::write(sandbox.path("one-of-each.toml"), config).unwrap();
        let roots = vec![sandbox.data().to_str().unwrap().to_owned()];
        let rig = Self {
            sandbox,
            reference,
            fixture,
            kept: false,
            roots,
        };
        // Each pass finds the spare files of the first one in .sealift/, so that all make the same
        // calls.
        assert!(
            rig.ship("http://127.0.0.1:9")
                .output()
                .unwrap()
                .status
                .success()
        );
        Some(rig)
    }

    fn with_kept_archive() -> Option<Self> {
        Some(Self {
            kept: true,
            ..Self::new()?
        })
    }

    /// As before the first pass: the episode sealed, everything else empty, the store too.
    fn reset(&self) {
        let (layout, store) = (&self.sandbox.layout, self.sandbox.store());
        let stored = ["episodes", "receipts", "incoming"].map(|folder| store.join(folder));
        let ours = [
            &layout.episodes,
            &layout.outbox,
            &layout.shipped,
            &layout.quarantine,
        ];
        for folder in ours.into_iter().chain(&stored) {
            empty(folder);
        }
        let copied = Command::new("cp")
            .arg("-a")
            .args([&self.fixture, &layout.episodes.join(ID)])
            .status();
        assert!(copied.unwrap().success());
        if self.kept {
            crash::keep(&self.sandbox);
        }
    }

    fn ship(&self, url: &str) -> Command {
        let mut ship = sealift();
        self.with_arguments(&mut ship, url);
        ship
    }

    fn with_arguments(&self, command: &mut Command, url: &str) {
        command
            .args(["ship", "--once", "--json", "--receiver", url, "--data"])
            .arg(self.sandbox.data());
        command
            .arg("--config")
            .arg(self.sandbox.path("one-of-each.toml"));
    }

    fn strace(&self, options: &[&str]) -> Command {
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-y",
            "-q",
            "-s",
            "100",
            "-e",
            &format!("trace={CALLS}"),
            "-o",
        ]);
        strace
            .arg(self.sandbox.path("trace"))
            .args(options)
            .arg(crate::support::program());
        strace
            .env_remove("SEALIFT_CONFIG")
            .env_remove("RUST_LOG")
            .env("TOKIO_WORKER_THREADS", "1");
        strace.env_remove("LD_LIBRARY_PATH").stdin(Stdio::null());
        strace
    }

    fn trace(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.sandbox.path("trace")).unwrap_or_default())
            .into_owned()
    }

    /// One pass under strace.
    fn traced(&self, url: &str, options: &[&str]) -> String {
        let mut strace = self.strace(options);
        self.with_arguments(&mut strace, url);
        strace.output().unwrap();
        self.trace()
    }

    /// Breaks each moment of a pass to `url`, one a pass. Returns how many moments of each call
    /// there were.
    fn sweep(
        &self,
        url: &str,
        fault: &str,
        calls: &[&str],
        check: impl Fn(&Moment),
    ) -> BTreeMap<String, usize> {
        self.reset();
        let moments = moments(&self.traced(url, &[]), &self.roots, calls);
        let (mut swept, mut missed) = (BTreeMap::new(), Vec::new());
        for moment in moments {
            let inject = format!("inject={}:{fault}:when={}", moment.call, moment.nth);
            let mut options = vec!["-e", &inject];
            if !moment.path.is_empty() {
                options.extend(["-P", &moment.path]);
            }
            let broken = (0..TRIES).find_map(|_| {
                self.reset();
                let trace = self.traced(url, &options);
                is_broken(&trace).then_some(trace)
            });
            let Some(trace) = broken else {
                missed.push(moment);
                continue;
            };
            at(&format!("{moment:?}, {fault}"), &trace, || check(&moment));
            *swept.entry(moment.call).or_insert(0) += 1;
        }
        println!("{fault}: {swept:?}; not met again: {missed:?}");
        assert!(missed.iter().all(|moment| moment.nth > 1), "{missed:?}");
        swept
    }

    /// A receiver under strace, which detaches itself (-D): the process is the receiver's own, so
    /// that a kill hits it. Returns when it listens, or is dead.
    fn traced_receiver(&self, address: &str, options: &[&str]) -> Process {
        let _ = fs::remove_file(self.sandbox.path("trace"));
        let mut strace = self.strace(&[&["-D"], options].concat());
        strace
            .args(["receive", "--listen", address, "--store"])
            .arg(self.sandbox.store());
        let receiver = self.sandbox.start(strace);
        eventually("the receiver listens, or is dead", || {
            let log = receiver.log();
            log.contains("local_addr=") || log.contains("Failed") || is_dead(&self.trace())
        });
        receiver
    }

    /// Breaks the K-th such call of each thread of a receiver while an episode is shipped to it,
    /// for each K. `check` gets what was broken and whether the shipper was told that it is held.
    /// Which thread a call falls to varies, and one thread's K-th hides another's: this goes round
    /// until everything `needed` was broken.
    fn sweep_receiver(
        &mut self,
        call: &str,
        fault: &str,
        needed: &[&str],
        check: impl Fn(&str, bool),
    ) {
        let address = self.sandbox.kill_receiver();
        self.reset();
        let plain = self.traced_receiver(&address, &[]);
        assert!(
            self.ship(&format!("http://{address}"))
                .output()
                .unwrap()
                .status
                .success()
        );
        let trace = self.end_of(plain);
        let counted = trace
            .lines()
            .filter_map(parse)
            .filter(|(_, line)| line.call == call);
        let mut by_thread = BTreeMap::<&str, usize>::new();
        counted.for_each(|(thread, _)| *by_thread.entry(thread).or_default() += 1);
        // As if all fell to one thread: in another life they may.
        let most: usize = by_thread.values().sum();

        let mut sites = BTreeMap::<String, usize>::new();
        for round in 0..ROUNDS {
            for nth in sampled(most, RECEIVER_SAMPLES) {
                for site in self.break_receiver(&address, (call, fault, nth), round, &check) {
                    *sites.entry(site).or_default() += 1;
                }
            }
            if needed.iter().all(|site| sites.contains_key(*site)) {
                break;
            }
        }
        self.sandbox.start_receiver(&address);
        println!("receiver, {call}, {fault}, 1 to {most}: {sites:?}");
        assert!(
            needed.iter().all(|site| sites.contains_key(*site)),
            "{needed:?}: only {sites:?}"
        );
    }

    /// One of them. Returns what was broken.
    fn break_receiver(
        &mut self,
        address: &str,
        (call, fault, nth): (&str, &str, usize),
        round: usize,
        check: impl Fn(&str, bool),
    ) -> Vec<String> {
        self.reset();
        let inject = format!("inject={call}:{fault}:when={nth}");
        let receiver = self.traced_receiver(address, &["-e", &inject]);
        if round % 2 == 1 {
            ask(address);
        }
        let (_, tally) = json_of(self.ship(&format!("http://{address}")).output().unwrap());
        let shipped = tally["shipped"] == 1;
        let trace = self.end_of(receiver);
        let held = names(&self.sandbox.store().join("episodes"));
        let sites = broken_sites(&trace, call);
        at(&format!("{call} {nth}, {fault}: {sites:?}"), &trace, || {
            sites.iter().for_each(|site| check(site, shipped));
            assert!(!shipped || held.len() == 1, "acknowledged and not held");
            if !held.is_empty() {
                assert_eq!(held, [format!("{ID}.tar.zst")]);
                assert_eq!(crash::content_of(&self.sandbox.stored(ID)), self.reference);
            }
            self.sandbox.start_receiver(address);
            self.finishes();
        });
        self.sandbox.kill_receiver();
        sites
    }

    /// Kills a traced receiver, where it still lives. Returns its trace, once strace has written
    /// the end of it.
    fn end_of(&self, receiver: Process) -> String {
        let pid = receiver.pid().to_string();
        receiver.kill();
        // strace pads a short number with blanks.
        let is_end = |line: &str| line.split_whitespace().take(2).eq([pid.as_str(), "+++"]);
        eventually("the trace has its end", || self.trace().lines().any(is_end));
        self.trace()
    }

    /// A sidecar vouches for the archive beside it, whatever happened.
    #[track_caller]
    fn sidecar_is_of_its_archive(&self) {
        let outbox = &self.sandbox.layout.outbox;
        let sidecar = outbox.join(format!("{ID}.json"));
        if sidecar.exists() {
            let archive = fs::read(outbox.join(format!("{ID}.tar.zst"))).unwrap();
            assert_eq!(
                json_file(&sidecar)["sha256"],
                Digest::of(&archive).to_string()
            );
        }
    }

    /// It is in quarantine/ with its reason, whole, once, and nothing else is anywhere.
    #[track_caller]
    fn is_quarantined(&self) {
        let layout = &self.sandbox.layout;
        assert_eq!(names(&layout.quarantine), [ID]);
        assert_eq!(
            names(&self.sandbox.quarantined(ID)),
            ["data.bin", "deep", "done.marker", REASON]
        );
        for empty in [&layout.episodes, &layout.outbox, &layout.shipped] {
            assert_eq!(names(empty), [""; 0]);
        }
        assert_eq!(
            crash::reference_of(&self.sandbox, &self.sandbox.quarantined(ID)),
            self.reference
        );
    }

    /// One more pass, undisturbed, and everything is where it belongs, once, and nothing else is
    /// anywhere.
    #[track_caller]
    fn finishes(&self) {
        let sandbox = &self.sandbox;
        let output = self.ship(sandbox.url()).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let status = json_file(&sandbox.shipped(ID).join(RECEIPT))["status_code"]
            .as_u64()
            .unwrap();
        assert!(status == 200 || status == 201, "{status}");
        crash::assert_stored_once(sandbox, self.reference, u16::try_from(status).unwrap());
        let layout = &sandbox.layout;
        assert_eq!(names(&layout.shipped), [ID]);
        assert_eq!(
            names(&sandbox.shipped(ID)),
            ["data.bin", "deep", "done.marker", RECEIPT]
        );
        assert_eq!(
            crash::reference_of(sandbox, &sandbox.shipped(ID)),
            self.reference
        );
        for empty in [&layout.episodes, &layout.outbox, &layout.quarantine] {
            assert_eq!(names(empty), [""; 0]);
        }
    }
}

/// One request that looks at the disk once. Two disk threads take turns, and with the same requests
/// the same one always publishes: this changes which. Nobody may be there to answer.
fn ask(address: &str) {
    if let Ok(mut stream) = TcpStream::connect(address) {
        let request = format!(
            "HEAD /v1/episodes/other HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Says where it was before it fails.
fn at(moment: &str, trace: &str, check: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
        let lines: Vec<_> = trace
            .lines()
            .filter(|line| !line.contains("eventfd"))
            .collect();
        println!(
            "at {moment}\n{}",
            lines[lines.len().saturating_sub(60)..].join("\n")
        );
        resume_unwind(panic);
    }
}

fn is_dead(trace: &str) -> bool {
    trace.contains("+++ killed by SIGKILL")
}

fn is_broken(trace: &str) -> bool {
    trace.contains("(INJECTED)") || is_dead(trace)
}

/// A line of a trace: the call, and its arguments as strace shows them.
struct Line<'a> {
    call: &'a str,
    arguments: &'a str,
    result: &'a str,
}

/// With the thread's number before it.
fn parse(line: &str) -> Option<(&str, Line<'_>)> {
    let (thread, rest) = line.split_once(' ')?;
    let (call, rest) = rest.trim_start().split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or((rest, "?"));
    Some((
        thread,
        Line {
            call,
            arguments,
            result,
        },
    ))
}

impl Line<'_> {
    /// The first path below `root` among the arguments: of a descriptor, or by name.
    fn path(&self, root: &str) -> Option<String> {
        let named = self
            .arguments
            .split('"')
            .skip(1)
            .step_by(2)
            .find(|text| text.starts_with(root));
        let opened = self
            .arguments
            .split('<')
            .nth(1)
            .and_then(|rest| rest.split('>').next());
        let opened =
            opened.filter(|path| path.starts_with(root) && !self.arguments.starts_with("AT_FDCWD"));
        opened.or(named).map(str::to_owned)
    }

    fn site(&self) -> String {
        let path = self.path("/").unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        format!(
            "{} {}",
            self.call,
            if name.ends_with(".part") {
                "*.part"
            } else {
                name
            }
        )
    }

    fn is_socket(&self) -> bool {
        self.arguments.contains("<socket:") || self.arguments.contains("<TCP")
    }
}

/// What can be broken in a pass that was traced: calls that changed something below `roots`, or
/// went out by a socket.
fn moments(trace: &str, roots: &[String], calls: &[&str]) -> BTreeSet<Moment> {
    let (mut changing, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for line in trace.lines() {
        let Some((thread, line)) = parse(line) else {
            continue;
        };
        if !calls.contains(&line.call) {
            continue;
        }
        let path = match roots.iter().find_map(|root| line.path(root)) {
            Some(path) => path,
            None if line.is_socket() => String::new(),
            None => continue,
        };
        let key = (line.call.to_owned(), path);
        *counts.entry((key.clone(), thread.to_owned())).or_insert(0) += 1;
        let only_reads = line.call == "openat" && !line.arguments.contains("O_CREAT");
        if !only_reads && !line.result.starts_with("-1") {
            changing.insert(key);
        }
    }
    let mut moments = BTreeSet::new();
    for ((key, _), count) in counts {
        if changing.contains(&key) {
            for nth in sampled(count, SAMPLES) {
                moments.insert(Moment {
                    call: key.0.clone(),
                    path: key.1.clone(),
                    nth,
                });
            }
        }
    }
    moments
}

/// Of 1 to `count` at most so many: the first, the last, and evenly in between.
fn sampled(count: usize, samples: usize) -> BTreeSet<usize> {
    if count <= samples {
        return (1..=count).collect();
    }
    (0..samples)
        .map(|n| 1 + n * (count - 1) / (samples - 1))
        .collect()
}

/// Which of these calls strace broke, in two words: the call, and the last part of the path,
/// without what is of one life only.
///
/// A call that another thread's came in between of is on two lines, `fsync(9</a> <unfinished ...>`
/// and `<... fsync resumed>) = ?`; of one that was killed the second line may be missing.
fn broken_sites(trace: &str, call: &str) -> Vec<String> {
    let (mut broken, mut begun) = (Vec::new(), BTreeMap::new());
    for text in trace.lines() {
        let Some((thread, rest)) = text.split_once(' ') else {
            continue;
        };
        let ended = text.contains("(INJECTED)") || text.trim_end().ends_with("= ?");
        if rest
            .trim_start()
            .starts_with(&format!("<... {call} resumed>"))
        {
            broken.extend(begun.remove(thread).filter(|_| ended));
        } else if let Some((_, line)) = parse(text).filter(|(_, line)| line.call == call) {
            if ended {
                broken.push(line.site());
            } else if text.contains("<unfinished ...>") {
                begun.insert(thread, line.site());
            }
        }
    }
    broken.extend(begun.into_values().filter(|_| is_dead(trace)));
    broken
}

fn empty(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
}
