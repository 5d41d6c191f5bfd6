//! Every system call that changes something is a moment to be killed at, or to fail: strace finds them in a plain run, and
//! then breaks one after another. How to run it, what it covers and what it cannot see: tests/rigs/crash/README.md.
//!
//! A moment is (system call, path, how manieth on that path). strace counts calls by thread and, with `-P`, only those on that
//! path, so which of the runtime's threads makes a call does not matter. Where strace is missing these tests say so and
//! pass; under `CI=true` they fail.

#![expect(clippy::disallowed_methods, reason = "a test plays the recorder, the operator and the crash")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sealift::{
    episode::Digest,
    layout::{REASON, RECEIPT},
};
use serde_json::json;

use crate::{
    crash::{self, ID},
    support::{Reply, Sandbox, Scripted, json_file, names, sealift},
};

/// The calls that change a disk, or what the other side knows.
const CALLS: &str = "openat,mkdir,mkdirat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,\
                     unlink,unlinkat,symlinkat,rmdir,writev,sendto,sendmsg";
/// Of many calls alike on one path (the writes of one archive) so many are broken, evenly chosen, first and last included.
const SAMPLES: usize = 4;
/// Some 900 kB in pieces: several writes on both sides, in a second of strace.
const BYTES: usize = 900_000;

#[test]
fn a_shipper_killed_at_any_call_finishes_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    let swept = rig.sweep(&rig.sandbox.url().to_owned(), "signal=KILL", &CALLS.split(',').collect::<Vec<_>>(), |rig, _, _| {
        rig.nothing_half();
        rig.finishes();
    });
    for call in ["openat", "write", "fsync", "rename", "renameat2", "unlink", "writev"] {
        assert!(swept.contains_key(call), "{call} is not among {swept:?}");
    }
}

#[test]
fn a_shipper_killed_while_it_keeps_an_archive_finishes_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let swept = rig.sweep(&busy.url(), "signal=KILL", &["openat", "write", "fsync", "rename", "unlink"], |rig, _, _| {
        rig.sidecar_is_of_its_archive();
        rig.finishes();
    });
    assert!(swept["fsync"] >= 4 && swept["rename"] >= 2, "{swept:?}");
}

#[test]
fn a_shipper_killed_at_any_call_of_an_archive_that_was_kept_finishes_at_the_next_start() {
    let Some(mut rig) = Rig::new() else { return };
    rig.kept = true;
    let url = rig.sandbox.url().to_owned();
    let calls = ["openat", "write", "fsync", "rename", "renameat2", "unlink", "writev"];
    let swept = rig.sweep(&url, "signal=KILL", &calls, |rig, _, _| rig.finishes());
    assert!(swept["unlink"] >= 2, "{swept:?}");
}

#[test]
fn a_shipper_killed_at_any_call_while_it_quarantines_finishes_at_the_next_start() {
    let Some(rig) = Rig::new() else { return };
    let rejecting = Scripted::new(|_, _| Reply::json(422, &json!({"title": "not ours"})));
    let url = rejecting.url();
    let calls = ["openat", "write", "fsync", "rename", "renameat2", "unlink", "writev"];
    rig.sweep(&url, "signal=KILL", &calls, |rig, _, _| {
        rig.nothing_half();
        // Moved already, or moved now.
        rig.ship(&url).output().unwrap();
        let sandbox = &rig.sandbox;
        assert_eq!(names(&sandbox.quarantined(ID)), ["data.bin", "deep", "done.marker", REASON]);
        assert_eq!(names(&sandbox.layout.quarantine), [ID]);
        for empty in [&sandbox.layout.episodes, &sandbox.layout.outbox, &sandbox.layout.shipped] {
            assert_eq!(names(empty), [""; 0]);
        }
        assert_eq!(crash::reference_of(sandbox, &sandbox.quarantined(ID)), rig.reference);
    });
}

#[test]
fn a_shipper_whose_disk_fails_at_any_call_loses_nothing_and_finishes_when_it_is_mended() {
    let Some(rig) = Rig::new() else { return };
    let url = rig.sandbox.url().to_owned();
    for (fault, calls) in [
        ("error=EIO", &["fsync", "rename", "renameat2", "unlink"][..]),
        ("error=ENOSPC", &["openat", "write"][..]),
    ] {
        rig.sweep(&url, fault, calls, |rig, _, _| {
            rig.nothing_half();
            rig.finishes();
        });
    }
}

#[test]
fn an_archive_that_could_not_be_flushed_is_never_believed_again() {
    let Some(rig) = Rig::new() else { return };
    let busy = Scripted::new(|_, _| Reply::empty(503));
    for (fault, calls) in
        [("error=EIO", &["fsync", "rename"][..]), ("error=ENOSPC", &["openat", "write"][..])]
    {
        rig.sweep(&busy.url(), fault, calls, |rig, moment, _| {
            let of_the_archive = moment.path.ends_with(".partial") || moment.path.ends_with("outbox");
            if of_the_archive && moment.call == "fsync" && moment.nth == 1 {
                let sidecar = rig.sandbox.layout.outbox.join(format!("{ID}.json"));
                assert!(!sidecar.exists(), "a sidecar vouches for bytes that were not flushed");
            }
            rig.sidecar_is_of_its_archive();
            rig.finishes();
        });
    }
}

#[test]
fn a_receiver_killed_at_any_call_holds_all_or_nothing() {
    let Some(mut rig) = Rig::new() else { return };
    rig.sandbox.kill_receiver();
    for call in ["openat", "write", "fsync", "renameat2", "rename", "unlink", "writev"] {
        // Names in incoming/ are of one life only: calls are counted by thread here, from the first one after the start.
        rig.sweep_receiver(call, "signal=KILL", |rig, told, shipped| {
            let held = names(&rig.sandbox.store().join("episodes"));
            if let [archive] = held.as_slice() {
                assert_eq!(*archive, format!("{ID}.tar.zst"));
                assert_eq!(crash::content_of(&rig.sandbox.stored(ID)), rig.reference, "half an archive: {told}");
            }
            assert!(!shipped || held.len() == 1, "acknowledged and not held: {told}");
        });
    }
}

#[test]
fn a_receiver_whose_disk_fails_acknowledges_nothing_that_was_not_flushed() {
    let Some(mut rig) = Rig::new() else { return };
    rig.sandbox.kill_receiver();
    for (call, fault) in [
        ("fsync", "error=EIO"),
        ("renameat2", "error=EIO"),
        ("write", "error=ENOSPC"),
        ("openat", "error=ENOSPC"),
    ] {
        rig.sweep_receiver(call, fault, |_, told, shipped| {
            // What stands in receipts/ can be rebuilt, and everything else is the promise.
            let rebuildable = told.contains("/receipts/") || told.contains("eventfd") || told.contains("log");
            let probe = told.contains("probe");
            // The record's scratch lies in incoming/ too, and is JSON.
            let record = told.contains("episode_id") || told.contains("O_RDONLY");
            if call == "fsync" || call == "renameat2" {
                assert!(!shipped, "acknowledged after {told}");
            } else if !(rebuildable || probe || record) && call == "write" {
                assert!(!shipped, "acknowledged after {told}");
            }
        });
    }
}

#[test]
fn the_shipper_flushes_before_it_names_and_names_before_it_vouches() {
    let Some(rig) = Rig::new() else { return };
    let busy = Scripted::new(|_, _| Reply::empty(503));
    rig.reset();
    let (_, trace) = rig.traced(&busy.url(), &[]);
    in_order(&trace, &[
        ("fsync(", "run-1.tar.zst.partial"),
        ("rename(", "run-1.tar.zst.partial"),
        ("fsync(", "/outbox>"),
        ("fsync(", ".sealift-copy-run-1.json"),
        ("rename(", "outbox/run-1.json"),
        ("fsync(", "/outbox>"),
    ]);
    let (_, trace) = rig.traced(&rig.sandbox.url().to_owned(), &[]);
    in_order(&trace, &[
        ("fsync(", ".sealift-copy-shipping_receipt.json"),
        ("renameat2(", "episodes/run-1/shipping_receipt.json"),
        ("fsync(", "/episodes/run-1>"),
        ("renameat2(", "shipped/run-1\""),
        ("fsync(", "/shipped>"),
        ("fsync(", "/episodes>"),
        ("unlink(", "outbox/run-1.json"),
        ("unlink(", "outbox/run-1.tar.zst\""),
    ]);
}

#[test]
fn the_receiver_flushes_the_bytes_then_names_them_then_flushes_the_name_then_answers() {
    let Some(mut rig) = Rig::new() else { return };
    let address = rig.sandbox.kill_receiver();
    let trace = rig.sandbox.path("receiver.trace");
    rig.reset();
    rig.start_receiver(&address, &["-o", trace.to_str().unwrap(), "-e", &format!("trace={CALLS}")]);
    assert!(rig.ship(&format!("http://{address}")).output().unwrap().status.success());
    rig.sandbox.kill_receiver();
    let trace = fs::read_to_string(trace).unwrap();
    let upload = &trace[trace.find("receiving").unwrap()..];
    in_order(upload, &[
        ("write(", ".part>"),
        ("fsync(", ".part>"),
        ("renameat2(", "episodes/run-1.tar.zst"),
        ("fsync(", "/episodes>"),
        ("rename(", "receipts/run-1.json"),
        ("writev(", "201 Created"),
    ]);
}

/// Each of these lines comes behind the one before it.
#[track_caller]
fn in_order(trace: &str, wanted: &[(&str, &str)]) {
    let mut lines = trace.lines();
    for (call, on) in wanted {
        assert!(
            lines.any(|line| line.contains(call) && line.contains(on)),
            "{call}... {on} is not in its place in\n{}",
            trace.lines().filter(|line| !line.contains("eventfd")).collect::<Vec<_>>().join("\n")
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
    kept_files: Vec<(PathBuf, Vec<u8>)>,
}

/// One call that can be broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    call: String,
    path: String,
    nth: usize,
}

impl Rig {
    fn new() -> Option<Self> {
        if Command::new("strace").arg("-V").output().is_err() {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!in_ci, "strace is not here, and this is CI: apt-get install strace");
            eprintln!("skipped: strace is not here (apt-get install strace)");
            return None;
        }
        let sandbox = Sandbox::with_receiver();
        let reference = crash::seal(&sandbox, BYTES);
        let fixture = sandbox.path("fixture");
        fs::rename(sandbox.layout.episodes.join(ID), &fixture).unwrap();
        Some(Self { sandbox, reference, fixture, kept: false, kept_files: Vec::new() })
    }

    /// As before the first pass: the episode sealed, everything else empty, the store too.
    fn reset(&self) {
        let layout = &self.sandbox.layout;
        let store = self.sandbox.store();
        for folder in [&layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
            empty(folder);
        }
        for folder in ["episodes", "receipts", "incoming"] {
            empty(&store.join(folder));
        }
        let copied = Command::new("cp").arg("-a").args([&self.fixture, &layout.episodes.join(ID)]).status();
        assert!(copied.unwrap().success());
        for (path, content) in &self.kept_files {
            fs::write(path, content).unwrap();
        }
    }

    fn config(&self) -> PathBuf {
        let config = self.sandbox.path("one-of-each.toml");
        fs::write(&config, "[pack]\nworkers = 1\n[receiver]\nconcurrency = 1\n").unwrap();
        config
    }

    fn arguments(&self, url: &str) -> Vec<String> {
        let (data, config) = (self.sandbox.data(), self.config());
        ["ship", "--once", "--json", "--receiver", url, "--data", data.to_str().unwrap(), "--config", config.to_str().unwrap()]
            .map(str::to_owned)
            .to_vec()
    }

    fn ship(&self, url: &str) -> Command {
        let mut ship = sealift();
        ship.args(self.arguments(url));
        ship
    }

    /// One pass under strace.
    fn traced(&self, url: &str, options: &[&str]) -> (Output, String) {
        let trace = self.sandbox.path("trace");
        let traces = format!("trace={CALLS}");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-qq", "-s", "100", "-e", &traces, "-o"]).arg(&trace).args(options);
        strace.arg(env!("CARGO_BIN_EXE_sealift")).args(self.arguments(url));
        let output = strace.env("TOKIO_WORKER_THREADS", "1").env("NO_COLOR", "1").output().unwrap();
        (output, fs::read_to_string(trace).unwrap())
    }

    /// Breaks each moment of a pass to `url`, one a pass. Returns how many moments of each call there were.
    fn sweep(
        &self,
        url: &str,
        fault: &str,
        calls: &[&str],
        check: impl Fn(&Self, &Moment, &Output),
    ) -> BTreeMap<String, usize> {
        let mut this = Self { kept_files: Vec::new(), ..self.again() };
        if self.kept {
            this.reset();
            let busy = Scripted::new(|_, _| Reply::empty(503));
            this.ship(&busy.url()).output().unwrap();
            this.kept_files = crash::take_outbox(&this.sandbox);
            // The archive fits this very directory: it is moved back and forth, not copied.
        }
        this.reset();
        let (_, trace) = this.traced(url, &[]);
        let moments = this.moments(&trace, calls);
        let mut swept = BTreeMap::new();
        for moment in &moments {
            this.reset();
            let inject = format!("inject={}:{fault}:when={}", moment.call, moment.nth);
            let mut options = vec!["-e", &inject];
            if !moment.path.is_empty() {
                options.extend(["-P", &moment.path]);
            }
            let (output, trace) = this.traced(url, &options);
            assert!(
                trace.contains("INJECTED") || trace.contains("killed by SIGKILL"),
                "{moment:?} did not come again: {trace}"
            );
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&this, moment, &output)));
            if let Err(panic) = told {
                eprintln!("at {moment:?}, {fault}:\n{}\n{trace}", String::from_utf8_lossy(&output.stderr));
                std::panic::resume_unwind(panic);
            }
            *swept.entry(moment.call.clone()).or_insert(0) += 1;
        }
        eprintln!("{} moments, {fault}: {swept:?}", moments.len());
        swept
    }
}

fn empty(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
}
