//! Uploads without a copy in the outbox.

use std::{fs, sync::atomic::Ordering, time::UNIX_EPOCH};

use sealift::model::episode::Digest;

use super::content_of;
use crate::{
    crash_sweep::strace_is_there,
    resume::{Line, MIB, archive_bytes, noise},
    service::{HELD, is_held_in, traced, untrace},
    support::{
        Process, Reply, Sandbox, Scripted, Seen, eventually, eventually_within, json_file, names,
        sealift,
    },
};

/// More than any disk has: the outbox never has room.
pub(crate) const NO_ROOM: &str = "[shipper]\nmin_free_bytes = 9223372036854775807\n";

fn daemon_to(sandbox: &Sandbox, url: &str) -> Process {
    let path = sandbox.path("sealift.toml");
    fs::write(&path, NO_ROOM).unwrap();
    let mut command = sealift();
    command
        .arg("ship")
        .arg("--data")
        .arg(sandbox.data())
        .args(["--receiver", url])
        .arg("--config")
        .arg(path);
    sandbox.start(command)
}

/// Nothing is kept of what broke off, and what comes is stored.
pub(super) fn answer(seen: &Seen) -> Reply {
    if seen.head.starts_with("HEAD") {
        Reply::empty(404)
    } else {
        Reply::stored(seen)
    }
}

#[test]
fn where_even_that_is_short_it_is_uploaded_without_an_outbox_copy() {
    let content = noise(3 * MIB);
    let seal = |sandbox: &Sandbox| {
        let data = sandbox
            .record("run-1", &[("data.bin", &content)])
            .join("data.bin");
        // A file's time is a part of its content.
        fs::File::options()
            .write(true)
            .open(data)
            .unwrap()
            .set_modified(UNIX_EPOCH)
            .unwrap();
        sandbox.seal("run-1", &[]);
    };
    let of_a_copy = {
        let sandbox = Sandbox::with_receiver();
        seal(&sandbox);
        let _daemon = sandbox.daemon();
        sandbox.wait_shipped("run-1");
        fs::read(sandbox.stored("run-1")).unwrap()
    };
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let outbox = sandbox.layout.outbox.clone();
    let server = Scripted::new(move |seen, _| {
        assert_eq!(names(&outbox), [""; 0]);
        // Length and digests come first, and nothing is sent in chunks.
        assert_eq!(seen.header("transfer-encoding"), None);
        answer(seen)
    });
    seal(&sandbox);
    let daemon = daemon_to(&sandbox, &server.url());
    sandbox.wait_shipped("run-1");
    daemon.wait_log(
        "run-1 is sent without a copy in the outbox, and read once more for every try: it may need",
    );
    let seen = server
        .seen()
        .into_iter()
        .find(|seen| seen.head.starts_with("PUT"))
        .unwrap();
    assert!(
        seen.body == of_a_copy,
        "the same bytes, with a copy and without"
    );
    let digest = Digest::from_header(seen.header("repr-digest").unwrap()).unwrap();
    assert_eq!(digest, Digest::of(&seen.body));
    eventually("nothing is left there", || sandbox.outbox().is_empty());
}

#[test]
fn when_the_connection_breaks_it_is_packed_again_and_resumed_by_offset() {
    let sandbox = Sandbox::with_receiver();
    let line = Line::to(sandbox.url().trim_start_matches("http://"));
    line.cut_after.store(2 * MIB, Ordering::SeqCst);
    let content = noise(16 * MIB);
    sandbox.seal("run-1", &[("data.bin", &content)]);
    let daemon = daemon_to(&sandbox, &line.url());
    sandbox.wait_shipped("run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(
        line.sent() * 10 <= archive * 11,
        "{} bytes for an archive of {archive}",
        line.sent()
    );
    assert!(content_of(&fs::read(sandbox.stored("run-1")).unwrap(), "data.bin") == content);
    assert!(!daemon.log().contains("cannot be used"), "{}", daemon.log());
}

#[test]
fn a_crash_in_the_middle_costs_a_repacking_and_nothing_else() {
    let sandbox = Sandbox::with_receiver();
    let line = Line::to(sandbox.url().trim_start_matches("http://"));
    line.stop_at.store(10 * MIB, Ordering::SeqCst);
    sandbox.seal("run-1", &[("data.bin", &noise(16 * MIB))]);
    let first = daemon_to(&sandbox, &line.url());
    eventually("most of it is through", || line.sent() >= 10 * MIB);
    first.kill();
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    line.stop_at.store(u64::MAX, Ordering::SeqCst);
    let _second = daemon_to(&sandbox, &line.url());
    sandbox.wait_shipped("run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(
        line.sent() < archive + 2 * MIB,
        "{} bytes for an archive of {archive}",
        line.sent()
    );
}

#[test]
fn if_the_second_packings_bytes_differ_the_upload_is_aborted_and_it_is_packed_anew() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let (before, mut after) = (noise(3 * MIB), noise(3 * MIB));
    let last = after.len() - 1;
    after[last] ^= 1;
    let data = sandbox.layout.episodes.join("run-1/data.bin");
    let other = after.clone();
    let server = Scripted::new(move |seen, _| {
        // Once it is measured, and before its body is read.
        if seen.head.starts_with("PUT") && fs::read(&data).is_ok_and(|found| found != other) {
            fs::write(&data, &other).unwrap();
        }
        answer(seen)
    });
    sandbox.seal("run-1", &[("data.bin", &before)]);
    let daemon = daemon_to(&sandbox, &server.url());
    sandbox.wait_shipped("run-1");
    // The first never came to its end, so nobody could acknowledge it.
    let uploads: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.head.starts_with("PUT"))
        .collect();
    assert_eq!(uploads.len(), 1);
    assert!(content_of(&uploads[0].body, "data.bin") == after);
    daemon.wait_log("run-1 cannot go on: the archive could not be read: ");
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn its_move_is_noted_so_that_the_next_start_knows_what_was_delivered() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = sandbox.command_with_config("ship", NO_ROOM);
    let how = format!("inject=renameat2:delay_enter={HELD}");
    let daemon = sandbox.start(traced(&sandbox, &ship, &episode, "renameat2", &how));
    // While it is moved its note stands there, and nothing else.
    is_held_in(&sandbox, "renameat2");
    assert_eq!(sandbox.outbox(), ["run-1.json"]);
    untrace(&daemon);
    daemon.wait_log("shipped run-1");
    let noted = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert_eq!(noted["episode_id"], "run-1");
    eventually("nothing is left there", || sandbox.outbox().is_empty());
}

#[test]
fn memory_is_bounded_without_a_copy_as_well() {
    let server = Scripted::new(|seen, _| answer(seen));
    let peak = |id: &str, noise_mib: u64, mib: u64| {
        let sandbox = Sandbox::new(server.url());
        let config = format!("{NO_ROOM}[pack]\nlevel = 1\nworkers = 1");
        let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
        let episode = sandbox.record(id, &[("data.bin", &noise(noise_mib * MIB))]);
        let data = fs::File::options()
            .write(true)
            .open(episode.join("data.bin"))
            .unwrap();
        data.set_len(mib * MIB).unwrap();
        drop(data);
        fs::write(episode.join("done.marker"), b"").unwrap();
        let minutes = std::time::Duration::from_secs(240);
        eventually_within(minutes, "it is shipped", || sandbox.shipped(id).exists());
        daemon.peak_kib()
    };
    let (small, large) = (peak("small", 16, 32), peak("large", 48, 256));
    assert!(
        large < small + 8 * 1024,
        "{small} KiB for 32 MiB, {large} KiB for 256 MiB"
    );
}
