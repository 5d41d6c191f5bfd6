//! What goes over the wire, and what is left out; stopping in the middle; many at once.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sealift::model::episode::Digest;
use serde_json::json;

use crate::support::{Reply, Sandbox, Scripted, eventually, json_file, names, sealift};

/// The names in an archive, as GNU tar lists them.
fn listed(archive: &[u8]) -> Vec<String> {
    let tar = zstd::decode_all(archive).unwrap();
    let mut names: Vec<_> = tar::Archive::new(tar.as_slice())
        .entries()
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Bytes that do not compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(len + 8);
    while noise.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(len);
    noise
}

#[test]
fn a_request_says_what_the_contract_says() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let meta =
        json!({"code_version": {"commit": "ABCDEF0123456789abcdef0123456789ABCDEF01"}}).to_string();
    sandbox.seal("run-1", &[("meta.json", meta.as_bytes())]);
    sandbox.seal(
        "Lauf grün 100%",
        &[("meta.json", br#"{"code_version": {"commit": "v1.2"}}"#)],
    );
    let mut command = sandbox.command_with_config(
        "ship",
        "[shipper]\nhost_id = \"lab-07\"\n[receiver]\nconcurrency = 1",
    );
    assert!(command.arg("--once").status().unwrap().success());
    let seen = server.seen();
    let run = seen.iter().find(|seen| seen.id == "run-1").unwrap();
    assert!(
        run.head.starts_with("PUT /v1/episodes/run-1 HTTP/1.1\r\n"),
        "{}",
        run.head
    );
    for (name, value) in [
        ("content-type", "application/zstd"),
        (
            "x-cis490-code-commit",
            "abcdef0123456789abcdef0123456789abcdef01",
        ),
        ("sealift-host", "lab-07"),
        ("content-length", &run.body.len().to_string()),
        (
            "repr-digest",
            &sealift::model::episode::Digest::of(&run.body).to_header(),
        ),
        (
            "sealift-content-digest",
            &sealift::model::episode::Digest::of(&zstd::decode_all(run.body.as_slice()).unwrap())
                .to_header(),
        ),
    ] {
        assert_eq!(run.header(name), Some(value), "{name}");
    }
    assert_eq!(run.header("expect"), None);
    assert_eq!(run.header("authorization"), None);
    let odd = seen
        .iter()
        .find(|seen| seen.id == "Lauf%20gr%C3%BCn%20100%25")
        .expect("an encoded id");
    assert_eq!(odd.header("x-cis490-code-commit"), None);
    assert_eq!(server.connections(), 1);
}

#[test]
fn other_receivers_get_the_address_and_the_headers_they_want() {
    let server = Scripted::new(|_, _| Reply::empty(204));
    let sandbox = Sandbox::new(format!(
        "{}/bucket/{{id}}.tar.zst?from={{id}}",
        server.url()
    ));
    sandbox.seal("run 1", &[("data.bin", b"recorded")]);
    let token = sandbox.path("token");
    fs::write(&token, "s3cret\n").unwrap();
    let config = format!(
        "[receiver]\ntoken_file = {token:?}\n[receiver.headers]\nX-Name = \"{{host}}/{{id}}\"\nX-Sum = \"{{sha256}}\"\n\
         X-Commit = \"{{commit}}\"\n[shipper]\nhost_id = \"lab\""
    );
    let mut command = sandbox.command_with_config("ship", &config);
    assert!(command.arg("--once").status().unwrap().success());
    let seen = &server.seen()[0];
    assert!(
        seen.head
            .starts_with("PUT /bucket/run%201.tar.zst?from=run%201 HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("x-name"), Some("lab/run%201"));
    assert_eq!(
        seen.header("x-sum"),
        Some(
            sealift::model::episode::Digest::of(&seen.body)
                .to_string()
                .as_str()
        )
    );
    assert_eq!(seen.header("x-commit"), None);
    assert_eq!(seen.header("authorization"), Some("Bearer s3cret"));
    let receipt = json_file(&sandbox.shipped("run 1").join("shipping_receipt.json"));
    assert_eq!(
        receipt["receiver"],
        format!("{}/bucket/run%201.tar.zst", server.url()),
        "a query may hold a secret"
    );
}

#[test]
fn only_over_a_mebibyte_is_the_verdict_asked_for_first() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let noise = noise((1 << 20) + (64 << 10));
    sandbox.seal("large", &[("data.bin", &noise)]);
    sandbox.seal("small", &[("data.bin", &noise[..1 << 19])]);
    assert_eq!(sandbox.ship_once().0, 0);
    for seen in server.seen() {
        let large = seen.body.len() > 1 << 20;
        assert_eq!(
            seen.header("expect"),
            large.then_some("100-continue"),
            "{}",
            seen.id
        );
    }
}

#[test]
fn a_refusal_before_the_body_is_heard_and_the_body_is_not_sent() {
    let server = Scripted::new(|_, _| {
        Reply::json(
            413,
            &json!({"type": "urn:sealift:too-large", "detail": "too large"}),
        )
        .early()
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", &noise(8 << 20))]);
    let (code, tally) = sandbox.ship_once();
    assert_eq!((code, &tally["fatal"]), (1, &json!(1)), "{tally}");
    assert_eq!(server.seen()[0].body.len(), 0);
    let reason = json_file(&sandbox.quarantined("run-1").join("quarantine_reason.json"));
    assert_eq!(
        (&reason["status_code"], &reason["body"]["detail"]),
        (&json!(413), &json!("too large"))
    );
}

#[test]
fn what_has_no_content_is_left_out_and_told_and_links_stay_links() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.record("run-1", &[("data.bin", b"recorded")]);
    assert!(
        Command::new("mkfifo")
            .arg(episode.join("pipe"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = UnixListener::bind(episode.join("socket")).unwrap();
    symlink("/etc/passwd", episode.join("link")).unwrap();
    fs::write(episode.join("done.marker"), b"").unwrap();
    let once = sandbox.command("ship").arg("--once").output().unwrap();
    let log = String::from_utf8_lossy(&once.stderr);
    assert!(
        log.contains("run-1: 2 FIFOs, sockets or devices are left out"),
        "{log}"
    );
    let archive = &server.seen()[0].body;
    let names: Vec<_> = listed(archive)
        .into_iter()
        .map(|name| name.trim_end_matches('/').to_owned())
        .collect();
    assert_eq!(
        names,
        ["run-1", "run-1/data.bin", "run-1/done.marker", "run-1/link"]
    );
    let tar = zstd::decode_all(archive.as_slice()).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let link = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().ends_with("link"));
    let target = link.unwrap().link_name().unwrap().unwrap().into_owned();
    assert_eq!(target.to_str(), Some("/etc/passwd"));
}

#[test]
fn symlinks_that_lead_out_of_an_episode_are_named_by_seal_and_by_ship() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.record("run-1", &[("meta.json", b"{}")]);
    fs::create_dir(episode.join("data")).unwrap();
    for n in 0..5 {
        let object = format!("../../.git/annex/objects/{n}");
        symlink(object, episode.join(format!("data/{n}.bin"))).unwrap();
    }
    symlink("data/0.bin", episode.join("first")).unwrap();
    let says = "5 symlinks lead out of the episode (data/0.bin, data/1.bin, data/2.bin and 2 more): only the links are \
                shipped, not what they lead to.";
    let sealed = crate::support::sealift()
        .arg("seal")
        .arg(&episode)
        .output()
        .unwrap();
    assert!(sealed.status.success());
    let said = String::from_utf8_lossy(&sealed.stdout);
    assert!(said.contains(&format!("WARNING: {says}")), "{said}");
    let once = sandbox.command("ship").arg("--once").output().unwrap();
    let log = String::from_utf8_lossy(&once.stderr);
    assert!(log.contains(&format!("run-1: {says}")), "{log}");
}

#[test]
fn one_broken_episode_does_not_hold_up_the_rest() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    // Deeper than an archive takes: it cannot be packed, and is sealed first.
    let deep = vec!["d"; 140].join("/");
    sandbox.seal("broken", &[(&format!("{deep}/data.bin"), b"recorded")]);
    for n in 0..20 {
        sandbox.seal(&format!("run-{n}"), &[]);
    }
    let daemon = sandbox.daemon();
    eventually("the rest is shipped", || {
        names(&sandbox.layout.episodes) == ["broken"]
    });
    daemon.wait_log("broken cannot go on");
    sandbox.seal("later", &[]);
    sandbox.wait_shipped("later");
    assert_eq!(server.count("broken"), 0);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn a_thousand_small_episodes_all_arrive_once() {
    // As a receiver of ours says: to a stranger no connection lives for long.
    let server = Scripted::new(|seen, _| Reply::stored(seen).header("Cache-Control: no-store"));
    let sandbox = Sandbox::new(server.url());
    let _daemon = sandbox.daemon();
    let ids: BTreeSet<_> = (0..1_000).map(|n| format!("run-{n:04}")).collect();
    for id in &ids {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    for so_many in (100..=1_000).step_by(100) {
        eventually(&format!("{so_many} are shipped"), || {
            names(&sandbox.layout.shipped).len() >= so_many
        });
    }
    eventually("nothing is left", || {
        names(&sandbox.layout.episodes).is_empty() && sandbox.outbox().is_empty()
    });
    let order = server.order();
    assert_eq!(order.len(), 1_000);
    assert_eq!(order.into_iter().collect::<BTreeSet<_>>(), ids);
    // Four uploads at once share four connections; a fifth may bridge a race at the end of one.
    assert!(
        server.connections() <= 8,
        "{} connections",
        server.connections()
    );
}

#[test]
fn stopped_in_the_middle_of_an_upload_it_ends_in_time_and_the_next_start_sends_the_same_bytes() {
    let released = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&released);
    let server = Scripted::new(move |seen, count| {
        if count == 0 {
            eventually("the first daemon is gone", || gate.load(Ordering::SeqCst));
        }
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", &noise(100_000))]);
    let mut daemon = sandbox.daemon();
    eventually("its archive is kept beside the upload", || {
        sandbox.outbox() == ["run-1.json", "run-1.tar.zst"]
    });
    let kept = fs::read(sandbox.layout.outbox.join("run-1.tar.zst")).unwrap();
    assert!(daemon.terminate().success(), "{}", daemon.log());
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    released.store(true, Ordering::SeqCst);
    let _next = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    assert!(server.seen().iter().all(|seen| seen.body == kept));
}

#[test]
fn stopped_while_an_answer_is_on_its_way_it_waits_for_it() {
    let released = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&released);
    let server = Scripted::new(move |seen, _| {
        eventually("the stop was asked for", || gate.load(Ordering::SeqCst));
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    let mut daemon = sandbox.daemon();
    eventually("the upload has begun", || server.connections() == 1);
    daemon.signal("TERM");
    daemon.wait_log("stopping");
    released.store(true, Ordering::SeqCst);
    assert!(daemon.wait().success());
    sandbox.wait_shipped("run-1");
    assert_eq!(server.count("run-1"), 1);
}

#[test]
fn a_hangup_does_not_end_it() {
    let sandbox = Sandbox::with_receiver();
    let mut daemon = sandbox.daemon();
    daemon.wait_log("ships");
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    daemon.signal("HUP");
    daemon.wait_log("reloaded");
    sandbox.seal("b", &[]);
    sandbox.wait_shipped("b");
    daemon.signal("INT");
    assert!(daemon.wait().success());
}

#[test]
fn an_archive_that_rotted_in_the_outbox_is_not_sent_to_the_end() {
    let server = Scripted::new(|_, count| {
        if count == 0 {
            Reply::empty(503)
        } else {
            Reply::empty(201)
        }
    });
    for size in [10, 700_000] {
        let sandbox = Sandbox::new(server.url());
        let data: Vec<u8> = (0..size)
            .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        sandbox.seal("run-1", &[("data.bin", &data)]);
        let refusing = Scripted::new(|_, _| Reply::empty(503));
        let mut once = sealift();
        once.args(["ship", "--once", "--data"])
            .arg(sandbox.data())
            .args(["--receiver", &refusing.url()]);
        assert_eq!(once.status().unwrap().code(), Some(1));
        let archive = sandbox.layout.outbox.join("run-1.tar.zst");
        let mut bytes = fs::read(&archive).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&archive, &bytes).unwrap();
        let daemon = sandbox.daemon();
        sandbox.wait_shipped("run-1");
        daemon.wait_log("not those that were packed");
    }
    for seen in server.seen() {
        let sent = Digest::from_header(seen.header("repr-digest").unwrap()).unwrap();
        assert!(
            Digest::of(&seen.body) == sent,
            "{} bytes that were not packed",
            seen.body.len()
        );
    }
}

#[test]
fn a_large_archive_whose_acknowledgement_was_lost_is_acknowledged_at_the_next_attempt() {
    let mut sandbox = Sandbox::new("http://127.0.0.1:9");
    sandbox.seal("large", &[("noise.bin", &noise(3 << 20))]);
    assert_eq!(sandbox.ship_once().0, 1, "nobody answers there");
    // It got through after all: the receiver holds what lies in the outbox.
    let (archive, stored) = (
        sandbox.layout.outbox.join("large.tar.zst"),
        sandbox.stored("large"),
    );
    fs::create_dir_all(stored.parent().unwrap()).unwrap();
    fs::copy(archive, stored).unwrap();
    sandbox.start_receiver("127.0.0.1:0");
    assert_eq!(sandbox.ship_once().0, 0, "{}", sandbox.receiver().log());
    assert!(sandbox.shipped("large").exists());
    // It logs a request behind its answer.
    sandbox.receiver().wait_log("method=PATCH");
    let log = sandbox.receiver().log();
    assert!(
        !log.contains("method=PUT"),
        "it was asked, and not sent again: {log}"
    );
}
