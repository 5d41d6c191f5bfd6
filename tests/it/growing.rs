//! What is large is sent while it is packed, and is stored as if it had been sent afterwards.

use std::{
    fs,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use crate::{
    resume::{Line, MIB, archive_bytes, noise},
    support::{
        Process, Reply, Sandbox, Scripted, Seen, eventually, eventually_within, json_file, names,
        sealift,
    },
};

/// So much through a debug build, on a machine that does other things too.
const MINUTES: Duration = Duration::from_secs(240);

fn over_a_line() -> (Sandbox, Line) {
    let sandbox = Sandbox::with_receiver();
    let line = Line::to(sandbox.url().trim_start_matches("http://"));
    (sandbox, line)
}

/// One that takes long to pack.
fn slow_daemon(sandbox: &Sandbox, url: &str, more: &str) -> Process {
    let config = format!(
        "[shipper]\ndata_dir = \"{}\"\n[pack]\nlevel = 19\nworkers = 1\n[receiver]\nurl = \"{url}\"\n{more}",
        sandbox.data().display()
    );
    let path = sandbox.path("slow.toml");
    fs::write(&path, config).unwrap();
    let mut command = sealift();
    command.arg("ship").arg("--config").arg(path);
    command.env("RUST_LOG", "sealift=debug");
    sandbox.start(command)
}

fn is_packed(daemon: &Process) -> bool {
    daemon.log().contains("packed EPISODE")
}

fn wait_shipped(sandbox: &Sandbox, id: &str) {
    eventually_within(MINUTES, "it is shipped", || sandbox.shipped(id).exists());
    sandbox.wait_shipped(id);
}

#[test]
fn what_is_packed_is_sent_as_it_grows_and_nothing_of_it_is_left_anywhere_else() {
    let (sandbox, line) = over_a_line();
    let content = noise(24 * MIB);
    sandbox.seal("run-1", &[("data.bin", &content)]);
    let daemon = slow_daemon(&sandbox, &line.url(), "");
    eventually_within(MINUTES, "some of it has left", || line.sent() > 4 * MIB);
    assert!(!is_packed(&daemon), "it left before it was packed");
    assert!(!sandbox.stored("run-1").exists());
    assert_eq!(
        sandbox.outbox(),
        ["run-1.tar.zst.partial", "run-1.tar.zst.plan"]
    );
    wait_shipped(&sandbox, "run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(line.sent() < archive + MIB, "{} of {archive}", line.sent());
    assert_eq!(
        fs::metadata(sandbox.stored("run-1")).unwrap().len(),
        archive
    );
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    assert!(names(&sandbox.store().join("incoming")).is_empty());
    // It is one attempt, that broke off nowhere.
    let receiver = sandbox.receiver().log();
    assert!(
        receiver.contains("PUT /v1/uploads/run-1/plan-"),
        "{receiver}"
    );
    assert!(!receiver.contains("PUT /v1/episodes/"), "{receiver}");
    daemon.wait_log("shipped run-1");
    let log = daemon.log();
    assert!(
        log.contains("ATTEMPT=1") && !log.contains("OFFSET_BYTES"),
        "{log}"
    );
}

#[test]
fn what_is_small_goes_by_one_put_once_it_is_packed() {
    let (sandbox, line) = over_a_line();
    sandbox.seal("run-1", &[("data.bin", &noise(15 * MIB))]);
    let _daemon = slow_daemon(&sandbox, &line.url(), "");
    wait_shipped(&sandbox, "run-1");
    let receiver = sandbox.receiver().log();
    assert!(receiver.contains("PUT /v1/episodes/run-1"), "{receiver}");
    assert!(!receiver.contains("/v1/uploads/"), "{receiver}");
}

#[test]
fn a_line_that_breaks_meanwhile_costs_no_second_sending() {
    let (sandbox, line) = over_a_line();
    line.cut_after.store(9 * MIB, Ordering::SeqCst);
    sandbox.seal("run-1", &[("data.bin", &noise(24 * MIB))]);
    let _daemon = slow_daemon(&sandbox, &line.url(), "");
    wait_shipped(&sandbox, "run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(
        line.sent() < archive + 3 * MIB,
        "{} bytes for an archive of {archive}",
        line.sent()
    );
}

#[test]
fn a_shipper_that_was_killed_while_it_packed_goes_on_with_what_the_receiver_has() {
    let (sandbox, line) = over_a_line();
    sandbox.seal("run-1", &[("data.bin", &noise(24 * MIB))]);
    let first = slow_daemon(&sandbox, &line.url(), "");
    eventually_within(MINUTES, "some of it has left", || line.sent() > 8 * MIB);
    assert!(!is_packed(&first));
    first.kill();
    let _second = slow_daemon(&sandbox, &line.url(), "");
    wait_shipped(&sandbox, "run-1");
    let archive = archive_bytes(&sandbox, "run-1");
    assert!(
        line.sent() < archive + 3 * MIB,
        "{} bytes for an archive of {archive}",
        line.sent()
    );
    assert_eq!(
        fs::metadata(sandbox.stored("run-1")).unwrap().len(),
        archive
    );
}

#[test]
fn what_changes_while_it_is_packed_and_sent_is_never_acknowledged_torn() {
    let (sandbox, line) = over_a_line();
    sandbox.seal(
        "run-1",
        &[("a.bin", &noise(24 * MIB)), ("z.txt", b"before")],
    );
    let daemon = slow_daemon(&sandbox, &line.url(), "");
    eventually_within(MINUTES, "some of it has left", || line.sent() > 4 * MIB);
    // It was read already: what was sent is of no state that the episode ever had.
    let path = sandbox.layout.episodes.join("run-1/a.bin");
    let mut other = fs::read(&path).unwrap();
    other[0] ^= 1;
    fs::write(&path, &other).unwrap();
    assert!(!is_packed(&daemon));
    wait_shipped(&sandbox, "run-1");
    let tar = zstd::decode_all(fs::File::open(sandbox.stored("run-1")).unwrap()).unwrap();
    let at = tar.windows(64).position(|at| at == &other[..64]);
    assert!(at.is_some(), "the archive holds what it was changed to");
    // What had been sent was taken back, and lies there no more.
    eventually("nothing is kept of the torn one", || {
        names(&sandbox.store().join("incoming")).is_empty()
    });
}

#[test]
fn what_is_not_what_its_manifest_says_is_quarantined_and_the_receiver_keeps_none_of_it() {
    let (sandbox, line) = over_a_line();
    let episode = sandbox.record("run-1", &[("data.bin", &noise(24 * MIB))]);
    let mut seal = sealift();
    seal.arg("seal").arg(&episode);
    assert!(seal.status().unwrap().success());
    let mut other = noise(24 * MIB);
    other[9] ^= 1;
    fs::write(episode.join("data.bin"), &other).unwrap();
    let _daemon = slow_daemon(&sandbox, &line.url(), "");
    eventually_within(MINUTES, "it is quarantined", || {
        sandbox.quarantined("run-1").exists()
    });
    sandbox.wait_quarantined("run-1");
    assert!(line.sent() > 4 * MIB, "it was sent meanwhile");
    assert!(!sandbox.stored("run-1").exists());
    eventually("nothing is kept", || {
        names(&sandbox.store().join("incoming")).is_empty()
    });
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn a_receiver_that_does_not_know_it_gets_the_whole_and_judges_nothing_before() {
    for status in [400, 404, 405, 411, 501] {
        // It says that it can, and cannot.
        let server = Scripted::new(move |seen, _| match () {
            () if seen.head.contains("/v1/admission") => {
                Reply::empty(204).header("Sealift-Accepts: late-digest")
            }
            () if seen.head.contains("/v1/uploads/") => Reply::empty(status).early(),
            () => Reply::stored(seen),
        });
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", &noise(20 * MIB))]);
        let (code, report) = sandbox.ship_once();
        assert_eq!(
            (code, report["shipped"].as_u64()),
            (0, Some(1)),
            "{status}: {report}"
        );
        assert_eq!(server.count("run-1"), 1, "{status}");
    }
}

/// Says that it takes digests late, and answers so where an archive is sent while it is packed.
fn liar(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |seen, _| match () {
        () if seen.head.contains("/v1/admission") => {
            Reply::empty(204).header("Sealift-Accepts: late-digest")
        }
        () if seen.head.contains("/v1/uploads/") => answer(seen),
        () if seen.head.starts_with("HEAD") => Reply::empty(404),
        () => Reply::stored(seen),
    })
}

#[test]
fn whatever_is_answered_before_the_last_bytes_the_whole_is_sent_in_the_same_attempt() {
    let answers: [fn(&Seen) -> Reply; 6] = [
        |_| Reply::empty(503),
        |_| Reply::empty(201).header("Upload-Offset: 20000000000"),
        |_| Reply::empty(200),
        |_| Reply::html(200),
        |_| Reply::empty(409).header("Upload-Offset: 5"),
        |_| Reply::hang_up(),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let server = liar(answer);
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", &noise(20 * MIB))]);
        let (code, report) = sandbox.ship_once();
        assert_eq!(
            (code, report["shipped"].as_u64()),
            (0, Some(1)),
            "{n}: {report}"
        );
        let seen = server.seen();
        let whole = seen
            .iter()
            .filter(|seen| seen.head.starts_with("PUT /v1/episodes/"));
        assert_eq!(whole.count(), 1, "{n}");
        assert!(seen.len() < 20, "{n}: {} requests", seen.len());
    }
}

#[test]
fn what_was_sent_by_a_plan_that_another_has_taken_the_place_of_is_taken_back() {
    let (sandbox, line) = over_a_line();
    let content = noise(24 * MIB);
    sandbox.seal("run-1", &[("data.bin", &content)]);
    let first = slow_daemon(&sandbox, &line.url(), "");
    eventually_within(MINUTES, "some of it has left", || line.sent() > 8 * MIB);
    first.kill();
    let incoming = sandbox.store().join("incoming");
    eventually("it is kept", || {
        names(&incoming).iter().any(|name| name.ends_with(".json"))
    });
    // Another level, another plan.
    let url = line.url();
    let config = format!("[pack]\nlevel = 1\n[receiver]\nurl = \"{url}\"\n");
    let _second = sandbox.start(sandbox.command_with_config("ship", &config));
    wait_shipped(&sandbox, "run-1");
    eventually("nothing is kept by the old one", || {
        names(&incoming).is_empty()
    });
}

#[test]
fn an_answer_to_chunks_that_reports_an_error_or_may_be_about_an_older_one_is_not_believed() {
    // 200 with an error in JSON, and the length of what was sent.
    let server = foreign(true);
    let url = server.get().unwrap().url();
    let sandbox = Sandbox::new(url.clone());
    let config = format!("[receiver]\nurl = \"{url}\"\nsend_while_packing = \"always\"\n");
    let once = || {
        let mut once = sandbox.command_with_config("ship", &config);
        assert!(once.arg("--once").status().unwrap().success());
    };
    sandbox.seal("run-1", &[("data.bin", &noise(20 * MIB))]);
    once();
    assert_eq!(puts(&server).len(), 1);
    // Another recording of that name: its length may be the first one's.
    let mut other = noise(20 * MIB);
    other[7] ^= 1;
    sandbox.seal("run-1", &[("data.bin", &other)]);
    once();
    let second = puts(&server).pop().unwrap();
    assert!(
        second.header("content-length").is_some(),
        "it is sent whole"
    );
    assert!(second.header("repr-digest").is_some());

    let server = Scripted::new(|seen, _| match seen.head.split(' ').next() {
        Some("GET" | "HEAD") => Reply::empty(404),
        _ if seen.header("transfer-encoding").is_some() => Reply::json(
            200,
            &serde_json::json!({"success": false, "error": "checksum"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let url = server.url();
    let config = format!("[receiver]\nurl = \"{url}\"\nsend_while_packing = \"always\"\n");
    sandbox.seal("run-1", &[("data.bin", &noise(20 * MIB))]);
    let mut once = sandbox.command_with_config("ship", &config);
    assert!(once.arg("--once").status().unwrap().success());
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert!(receipt["receipt"].is_object(), "by the whole alone");
}

/// A server that stores what is PUT, and knows chunks, or ignores them as some do.
fn foreign(knows_chunks: bool) -> Arc<OnceLock<Scripted>> {
    let server = Arc::new(OnceLock::<Scripted>::new());
    let itself = Arc::clone(&server);
    let scripted = Scripted::new(move |seen, _| match seen.head.split(' ').next() {
        Some("GET") => Reply::empty(404),
        Some("HEAD") => {
            let stored = puts(&itself)
                .into_iter()
                .rfind(|put| knows_chunks || put.header("content-length").is_some());
            stored.map_or_else(
                || Reply::empty(404),
                |put| {
                    let like_it = "x".repeat(put.body.len());
                    Reply::text(200, "application/zstd", &like_it).without_body()
                },
            )
        }
        _ => Reply::empty(201),
    });
    assert!(server.set(scripted).is_ok());
    server
}

fn puts(server: &OnceLock<Scripted>) -> Vec<Seen> {
    let mut seen = server.get().unwrap().seen();
    seen.retain(|seen| seen.head.starts_with("PUT"));
    seen
}

#[test]
fn always_sends_in_chunks_to_any_and_the_whole_where_a_server_stores_nothing_of_them() {
    for (knows_chunks, uploads) in [(true, 1), (false, 2)] {
        let server = foreign(knows_chunks);
        let url = server.get().unwrap().url();
        let sandbox = Sandbox::new(url.clone());
        sandbox.seal("run-1", &[("data.bin", &noise(20 * MIB))]);
        let config = format!("[receiver]\nurl = \"{url}\"\nsend_while_packing = \"always\"\n");
        let mut once = sandbox.command_with_config("ship", &config);
        assert!(once.arg("--once").status().unwrap().success());
        let puts = puts(&server);
        assert_eq!(puts.len(), uploads, "{knows_chunks}");
        assert_eq!(puts[0].header("transfer-encoding"), Some("chunked"));
        assert_eq!(puts[0].header("repr-digest"), None);
        let archive = archive_bytes_without_receipt(&sandbox);
        assert!(puts.iter().all(|put| put.body.len() as u64 == archive));
    }
}

#[test]
fn never_sends_nothing_before_it_is_packed() {
    let (sandbox, line) = over_a_line();
    sandbox.seal("run-1", &[("data.bin", &noise(20 * MIB))]);
    let _daemon = slow_daemon(&sandbox, &line.url(), "send_while_packing = \"never\"\n");
    wait_shipped(&sandbox, "run-1");
    let receiver = sandbox.receiver().log();
    assert!(!receiver.contains("/v1/uploads/"), "{receiver}");
}

fn archive_bytes_without_receipt(sandbox: &Sandbox) -> u64 {
    let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert!(receipt["receipt"].is_null());
    receipt["size_bytes"].as_u64().unwrap()
}

#[test]
fn what_is_large_takes_no_more_memory_than_the_compressors_pieces() {
    let server = Scripted::new(|seen, _| match seen.head.split(' ').next() {
        Some("GET") => Reply::empty(404),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let config = "[pack]\nlevel = 3\nworkers = 2\n";
    let daemon = sandbox.start(sandbox.command_with_config("ship", config));
    sandbox.seal("small", &[("data.bin", b"1")]);
    sandbox.wait_shipped("small");
    let before_kib = daemon.peak_kib();
    sandbox.seal("run-1", &[("data.bin", &noise(96 * MIB))]);
    wait_shipped(&sandbox, "run-1");
    let more_kib = daemon.peak_kib() - before_kib;
    // With the pieces that zstd takes by itself it is 60 MiB.
    assert!(
        more_kib < 36 * 1024,
        "{more_kib} KiB more than for a small one"
    );
}

#[test]
fn how_far_it_is_is_told_while_the_attempt_waits_for_what_goes_beside_its_packing() {
    let server = foreign(true);
    let url = server.get().unwrap().url();
    let sandbox = Sandbox::new(url.clone());
    let config = format!(
        "[pack]\nlevel = 1\n[receiver]\nurl = \"{url}\"\nsend_while_packing = \"always\"\nbandwidth_limit = \"4 MB/s\"\n"
    );
    let _daemon = sandbox.start(sandbox.command_with_config("ship", &config));
    sandbox.seal("run-1", &[("data.bin", &noise(24 * MIB))]);
    eventually("its share is told", || {
        let output = sandbox.command("status").arg("--json").output().unwrap();
        let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
            return false;
        };
        let upload = &status["snapshot"]["episodes"][0];
        upload["sent_bytes"].as_u64().is_some_and(|sent| sent > 0)
            && upload["size_bytes"].as_u64().is_some()
    });
    wait_shipped(&sandbox, "run-1");
}
