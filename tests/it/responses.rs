//! What a response means for the episode: every line of the design's table, with the real program
//! and a scripted server. What it means for the destination is in `destination.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::support::{Reply, Sandbox, Scripted, Seen, each, eventually, json_file, json_of, names};

/// One episode, one pass, one answer.
struct Attempt {
    sandbox: Sandbox,
    server: Scripted,
    code: i32,
    tally: Value,
}

fn attempt(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Attempt {
    attempt_with("", script)
}

fn attempt_with(
    config: &str,
    script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
) -> Attempt {
    let server = Scripted::new(script);
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let mut command = sandbox.command_with_config("ship", config);
    let (code, tally) = json_of(command.args(["--once", "--json"]).output().unwrap());
    Attempt {
        sandbox,
        server,
        code,
        tally,
    }
}

impl Attempt {
    #[track_caller]
    fn was_delivered(&self, why: &str) {
        assert_eq!(
            (self.code, &self.tally["shipped"]),
            (0, &json!(1)),
            "{why}: {}",
            self.tally
        );
        assert_eq!(names(&self.sandbox.layout.shipped), ["run-1"], "{why}");
        assert_eq!(names(&self.sandbox.layout.episodes), [""; 0], "{why}");
        assert_eq!(self.sandbox.outbox(), [""; 0], "{why}");
    }

    /// It stays, with its archive kept for the next time, and one pass counts it as this.
    #[track_caller]
    fn stayed(&self, counted: &str, why: &str) {
        let left: u64 = [
            "shipped",
            "transient_failures",
            "conflicts",
            "fatal",
            "held",
        ]
        .iter()
        .map(|member| self.tally[member].as_u64().unwrap())
        .sum();
        assert_eq!(
            (&self.tally[counted], left),
            (&json!(1), 1),
            "{why}: {}",
            self.tally
        );
        assert_eq!((self.code, &self.tally["scanned"]), (1, &json!(1)), "{why}");
        assert_eq!(names(&self.sandbox.layout.episodes), ["run-1"], "{why}");
        assert_eq!(
            names(&self.sandbox.layout.episodes.join("run-1")),
            ["data.bin", "done.marker"],
            "{why}"
        );
        assert_eq!(names(&self.sandbox.layout.quarantine), [""; 0], "{why}");
        assert_eq!(names(&self.sandbox.layout.shipped), [""; 0], "{why}");
        assert_eq!(
            self.sandbox.outbox(),
            ["run-1.json", "run-1.tar.zst"],
            "{why}"
        );
    }

    fn receipt(&self) -> Value {
        json_file(&self.sandbox.shipped("run-1").join("shipping_receipt.json"))
    }
}

#[test]
fn an_acknowledgement_with_a_matching_receipt_or_none_delivers() {
    each(&[201, 204], |&status| {
        let bare = attempt(move |_, _| Reply::empty(status));
        bare.was_delivered(&format!("{status} without a receipt"));
        assert_eq!(bare.receipt()["status_code"], status);
        assert_eq!(bare.receipt()["receipt"], Value::Null);
    });
    each(&[200, 201], |&status| {
        let held = attempt(move |seen, _| Reply::json(status, &seen.receipt()));
        held.was_delivered(&format!("{status} with a receipt"));
        assert_eq!(held.receipt()["receipt"], held.server.seen()[0].receipt());
    });
    attempt(|_, _| Reply::text(201, "text/plain", "stored")).was_delivered("words");
    attempt(|_, _| Reply::json(201, &json!({"ok": true}))).was_delivered("JSON that is no receipt");
    attempt(|seen, _| {
        let mut receipt = seen.receipt();
        receipt["sha256"] = json!("00".repeat(32));
        Reply::json(200, &receipt)
    })
    .was_delivered("a receipt for the same content in another archive");
}

#[test]
fn our_receipt_says_what_was_delivered_and_where() {
    let delivered = attempt(|seen, _| Reply::stored(seen));
    let (ours, theirs) = (delivered.receipt(), delivered.server.seen()[0].receipt());
    for member in ["episode_id", "sha256", "content_sha256", "size_bytes"] {
        assert_eq!(ours[member], theirs[member], "{member}");
    }
    assert_eq!(
        ours["receiver"],
        format!("{}/v1/episodes/run-1", delivered.server.url())
    );
    assert_eq!(ours["manifest"], "none");
    let wall = ours["delivered_at_wall"].as_str().unwrap();
    assert!(
        wall.len() == 20 && wall.ends_with('Z') && wall.contains('T'),
        "{wall}"
    );
}

#[test]
fn an_acknowledgement_that_cannot_be_believed_holds_the_destination() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 5] = [
        ("another episode", |receipt| {
            receipt["episode_id"] = json!("run-2");
        }),
        ("other bytes", |receipt| {
            receipt["sha256"] = json!("00".repeat(32));
            receipt["content_sha256"] = json!("11".repeat(32));
        }),
        ("other bytes and no content digest", |receipt| {
            receipt["sha256"] = json!("00".repeat(32));
            receipt.as_object_mut().unwrap().remove("content_sha256");
        }),
        ("no digest at all", |receipt| receipt["sha256"] = json!("")),
        ("no size", |receipt| receipt["size_bytes"] = json!("many")),
    ];
    each(&changes, |&(why, change)| {
        for status in [200, 201] {
            attempt(move |seen, _| {
                let mut receipt = seen.receipt();
                change(&mut receipt);
                Reply::json(status, &receipt)
            })
            .stayed("held", why);
        }
    });
    attempt(|_, _| Reply::html(200)).stayed("held", "a captive portal");
    attempt(|_, _| Reply::text(200, "", "<!DOCTYPE html><p>"))
        .stayed("held", "a page without a type");
    each(&[202, 203, 205, 206, 207, 226, 299], |&status| {
        attempt(move |seen, _| Reply::json(status, &seen.receipt()))
            .stayed("held", &status.to_string());
    });
}

#[test]
fn where_a_receipt_is_required_nothing_less_will_do() {
    let required = "[receiver]\nrequire_receipt = true";
    let bare = [
        Reply::empty(200),
        Reply::empty(201),
        Reply::empty(204),
        Reply::json(201, &json!({"ok": true})),
    ];
    each(&bare, |reply| {
        let reply = reply.clone();
        attempt_with(required, move |_, _| reply.clone()).stayed("held", "no receipt");
    });
    attempt_with(required, |seen, _| Reply::stored(seen)).was_delivered("a receipt");
}

/// The statuses by which an episode is rejected, and by which it only seems to be.
const REJECTIONS: [u16; 12] = [400, 402, 406, 410, 412, 413, 414, 415, 416, 418, 422, 451];

#[test]
fn a_rejection_in_a_receivers_words_quarantines_with_the_reason() {
    let words = [
        (400, "commit-missing"),
        (412, "commit-out-of-window"),
        (413, "too-large"),
        (422, "too-large"),
    ];
    each(&words, |&(status, kind)| {
        let kind = format!("urn:sealift:{kind}");
        let body = json!({"type": kind, "title": "No", "detail": "not this one", "more": [1]});
        let said = body.clone();
        let rejected = attempt(move |_, _| Reply::json(status, &said));
        assert_eq!(
            (rejected.code, &rejected.tally["fatal"]),
            (1, &json!(1)),
            "{status}"
        );
        let sandbox = &rejected.sandbox;
        assert_eq!(names(&sandbox.layout.episodes), [""; 0], "{status}");
        assert_eq!(
            names(&sandbox.quarantined("run-1")),
            ["data.bin", "done.marker", "quarantine_reason.json"]
        );
        let reason = json_file(&sandbox.quarantined("run-1").join("quarantine_reason.json"));
        let mut members: Vec<_> = reason
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        members.sort_unstable();
        assert_eq!(
            members,
            [
                "aging",
                "body",
                "episode_id",
                "error",
                "quarantined_at_wall",
                "status_code",
                "verdict"
            ]
        );
        assert_eq!(reason["episode_id"], "run-1");
        assert_eq!(reason["status_code"], status);
        assert_eq!(reason["body"], body);
        assert_eq!(reason["verdict"], "fatal");
        assert!(reason["error"].as_str().unwrap().contains("not this one"));
        assert_eq!(reason["quarantined_at_wall"].as_str().unwrap().len(), 20);
        assert_eq!(sandbox.outbox(), [""; 0], "{status}");
    });
}

#[test]
fn the_same_not_in_a_receivers_words_moves_nothing() {
    let replies = |status| {
        [
            Reply::empty(status),
            Reply::html(status),
            Reply::text(status, "text/plain", "{\"detail\":\"no\"}"),
            Reply::text(status, "application/json", "[\"no\"]"),
            Reply::text(status, "application/problem+json", "{\"detail\":"),
        ]
    };
    let cases: Vec<_> = REJECTIONS
        .iter()
        .chain(&[409])
        .flat_map(|&status| replies(status))
        .collect();
    for some in cases.chunks(16) {
        each(some, |reply| {
            let reply = reply.clone();
            attempt(move |_, _| reply.clone()).stayed("held", "refused, not by a receiver");
        });
    }
}

#[test]
fn the_remediation_is_logged_and_cannot_command_the_terminal() {
    let server = Scripted::new(|_, _| {
        Reply::json(
            412,
            &json!({"title": "Too old", "head_commit": "b", "remediation": "run \u{1b}[31mupdate\u{7}\r\n--now\u{202e}"}),
        )
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    let daemon = sandbox.daemon();
    sandbox.wait_quarantined("run-1");
    daemon.wait_log("quarantined run-1");
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("quarantined run-1"))
        .unwrap();
    assert!(
        line.contains("Too old") && line.contains("update") && line.contains("--now"),
        "{line}"
    );
    assert!(
        !log.chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{log:?}"
    );
}

#[test]
fn a_conflict_stays_in_place_with_the_verdict_beside_its_archive() {
    let conflict =
        json!({"type": "urn:sealift:conflict", "title": "Held", "detail": "other content"});
    let refused = attempt(move |_, _| Reply::json(409, &conflict));
    refused.stayed("conflicts", "409");
    let sidecar = json_file(&refused.sandbox.layout.outbox.join("run-1.json"));
    assert_eq!(sidecar["verdict"]["verdict"], "conflict");
    assert_eq!(sidecar["verdict"]["status_code"], 409);
    assert!(
        sidecar["verdict"]["detail"]
            .as_str()
            .unwrap()
            .contains("other content")
    );
}

#[test]
fn a_conflict_is_not_sent_again_before_it_changes_and_then_it_is() {
    let server = Scripted::new(|seen, count| match count {
        0 => Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "detail": "other content"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let mut daemon = sandbox.daemon();
    eventually("the verdict is in the sidecar", || {
        let sidecar = fs::read(sandbox.layout.outbox.join("run-1.json")).unwrap_or_default();
        String::from_utf8_lossy(&sidecar).contains("conflict")
    });
    assert!(daemon.terminate().success());

    let (code, tally) = sandbox.ship_once();
    assert_eq!((code, &tally["conflicts"]), (1, &json!(1)), "{tally}");
    // What is sealed is not watched any more: the reconcile pass sees that it was sealed anew.
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1"));
    daemon.wait_log("the receiver holds other content under this name");
    // Another one passes it by.
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
    assert_eq!(server.count("run-1"), 1);

    fs::write(episode.join("data.bin"), b"mended").unwrap();
    // Sealed again: the marker is taken away and made anew.
    sandbox.reseal("run-1");
    sandbox.wait_shipped("run-1");
    assert_eq!(server.count("run-1"), 2);
    let bodies: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.id == "run-1")
        .collect();
    assert_ne!(bodies[0].body, bodies[1].body);
}

#[test]
fn a_digest_mismatch_with_an_intact_archive_sends_the_same_bytes_again() {
    let server = Scripted::new(|seen, count| match count {
        0 => Reply::json(
            400,
            &json!({"type": "urn:sealift:digest-mismatch", "title": "Damaged on the way"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, seen[1].body);
    assert!(!daemon.log().contains("packed again"), "{}", daemon.log());
}

#[test]
fn an_archive_that_was_damaged_in_the_outbox_is_packed_again_and_not_delivered() {
    let mut sandbox = Sandbox::with_receiver();
    let address = sandbox.kill_receiver();
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let (code, tally) = sandbox.ship_once();
    assert_eq!(
        (code, &tally["transient_failures"]),
        (1, &json!(1)),
        "{tally}"
    );

    let archive = sandbox.layout.outbox.join("run-1.tar.zst");
    let whole = fs::read(&archive).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&archive, bytes).unwrap();
    sandbox.start_receiver(&address);
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    daemon.wait_log("its bytes in the outbox are not those that were packed");
    assert_eq!(fs::read(sandbox.stored("run-1")).unwrap(), whole);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn one_pass_reads_a_kept_archive_before_it_sends_it() {
    let server = Scripted::new(|seen, count| match count {
        0 => Reply::json(503, &json!({})),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    assert_eq!(sandbox.ship_once().0, 1);
    let archive = sandbox.layout.outbox.join("run-1.tar.zst");
    let mut bytes = fs::read(&archive).unwrap();
    bytes[20] ^= 1;
    fs::write(&archive, bytes).unwrap();
    assert_eq!(sandbox.ship_once().0, 0);
    let seen = server.seen();
    assert_eq!(seen[0].body, seen[1].body);
}

#[test]
fn the_weather_moves_nothing() {
    each(
        &[
            408, 425, 429, 500, 502, 503, 504, 506, 507, 508, 511, 520, 599,
        ],
        |&status| {
            attempt(move |_, _| Reply::empty(status))
                .stayed("transient_failures", &status.to_string());
            attempt(move |_, _| Reply::json(status, &json!({"detail": "later"})))
                .stayed("transient_failures", &status.to_string());
        },
    );
    attempt(|_, _| Reply::hang_up()).stayed("transient_failures", "a hang-up");
}

#[test]
fn a_fault_of_the_destination_moves_nothing() {
    let statuses = [
        401, 403, 404, 405, 407, 411, 421, 426, 300, 301, 302, 303, 304, 305, 307, 308, 501, 505,
    ];
    each(&statuses, |&status| {
        attempt(move |_, _| Reply::empty(status)).stayed("held", &status.to_string());
        // Also where a receiver says so: a wrong token is no fault of the episode.
        if status != 304 {
            attempt(move |_, _| Reply::json(status, &json!({"detail": "no"})))
                .stayed("held", &status.to_string());
        }
    });
}

#[test]
fn no_redirect_is_followed() {
    let elsewhere = Scripted::new(|seen, _| Reply::stored(seen));
    let location = format!("Location: {}/v1/episodes/run-1", elsewhere.url());
    each(&[301, 302, 303, 307, 308], |&status| {
        let location = location.clone();
        attempt(move |_, _| Reply::empty(status).header(&location))
            .stayed("held", &status.to_string());
    });
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a recorder renames as it likes")]
fn what_its_recorder_opened_again_while_it_was_judged_is_not_quarantined() {
    for newcomer in [false, true] {
        let place = Arc::new(Mutex::new(PathBuf::new()));
        let there = Arc::clone(&place);
        let server = Scripted::new(move |seen, _| {
            let episode = there.lock().unwrap().clone();
            if seen.id == "last" {
                return Reply::stored(seen);
            }
            if newcomer {
                // Taken away, and another begun under the name.
                fs::rename(&episode, episode.with_file_name(".put-away")).unwrap();
                fs::create_dir(&episode).unwrap();
            } else {
                fs::rename(episode.join("done.marker"), episode.join("not.yet")).unwrap();
            }
            fs::write(episode.join("more.bin"), b"recording").unwrap();
            Reply::json(
                422,
                &json!({"type": "urn:sealift:too-large", "detail": "no"}),
            )
        });
        let sandbox = Sandbox::new(server.url());
        let episode = sandbox.record("run-1", &[("data.bin", b"recorded")]);
        place.lock().unwrap().clone_from(&episode);
        fs::write(episode.join("done.marker"), b"").unwrap();
        let daemon = sandbox.daemon();
        daemon.wait_log("is not what was judged any more");
        // It is watched again: sealed, it is judged anew.
        sandbox.seal("last", &[]);
        sandbox.wait_shipped("last");
        assert_eq!(server.count("run-1"), 1);
        assert_eq!(fs::read(episode.join("more.bin")).unwrap(), b"recording");
        assert!(!sandbox.quarantined("run-1").exists());
        assert!(!episode.join("quarantine_reason.json").exists());
    }
}

#[test]
fn a_receipt_that_cannot_be_read_moves_nothing_and_holds_the_destination() {
    let long = format!(r#"{{"padding":"{}","sha256":"00"}}"#, "x".repeat(70_000));
    let cases = [
        (
            "application/json",
            r#"{"episode_id":"run-1","sha256":"0000"#.to_owned(),
        ),
        ("application/json", long),
        (
            "text/plain",
            r#"{"episode_id":"run-1","sha256":"0000","size_bytes":1}"#.to_owned(),
        ),
    ];
    each(&cases, |(media_type, body)| {
        let (media_type, body) = (*media_type, body.clone());
        let server = Scripted::new(move |_, _| Reply::text(201, media_type, &body));
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        let (code, tally) = sandbox.ship_once();
        assert_eq!(
            (code, &tally["held"], &tally["shipped"]),
            (1, &json!(1), &json!(0)),
            "{media_type}"
        );
        assert!(sandbox.layout.episodes.join("run-1").exists());
    });
}

#[test]
fn a_firewalls_json_is_no_receivers_word() {
    let server = Scripted::new(|_, _| {
        Reply::text(422, "application/vnd.waf.error+json", r#"{"blocked":true}"#)
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let (code, tally) = sandbox.ship_once();
    assert_eq!(
        (code, &tally["held"], &tally["fatal"]),
        (1, &json!(1), &json!(0))
    );
    assert!(sandbox.layout.episodes.join("run-1").exists());
}

#[test]
fn a_conflict_is_mended_by_renaming_or_removing_the_folder_and_nothing_is_alarming_then() {
    for rename in [true, false] {
        let server = Scripted::new(|seen, _| match seen.id.as_str() {
            "run-1" => Reply::json(
                409,
                &json!({"type": "urn:sealift:conflict", "title": "Conflict", "detail": "it holds another run-1"}),
            ),
            _ => Reply::stored(seen),
        });
        let sandbox = Sandbox::new(server.url());
        let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        let (code, tally) = sandbox.ship_once();
        assert_eq!((code, &tally["conflicts"]), (1, &json!(1)));
        let (by_hand, to) = (
            if rename { "mv" } else { "rm" },
            sandbox.layout.episodes.join("run-1-again"),
        );
        let arguments = if rename {
            vec![episode.as_path(), &to]
        } else {
            vec![Path::new("-r"), &episode]
        };
        assert!(
            Command::new(by_hand)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
        let pass = sandbox
            .command("ship")
            .args(["--once", "--json"])
            .output()
            .unwrap();
        let log = String::from_utf8(pass.stderr.clone()).unwrap();
        assert!(pass.status.success(), "{log}");
        assert!(
            !log.contains("last copy") && !log.contains("WARN") && !log.contains("ERROR"),
            "{log}"
        );
        assert_eq!(sandbox.outbox(), [""; 0]);
        if rename {
            sandbox.wait_shipped("run-1-again");
            assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
        } else {
            assert!(sandbox.quarantined("run-1").join("run-1.tar.zst").exists());
        }
    }
}
