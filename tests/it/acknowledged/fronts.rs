//! What is held behind a front that hides what the receiver says of it.

use std::{collections::HashMap, sync::Mutex, thread};

use serde_json::Value;

use crate::support::{Reply, Sandbox, Scripted, Seen, each, eventually, json_file, names};

/// What a front makes of a PATCH.
#[derive(Clone, Copy)]
enum Patch {
    /// Something in between answers it.
    Answered(u16),
    /// The connection is closed over it.
    Cut,
    /// Nothing ever answers it.
    Hangs,
}

/// Our receiver behind a front that lets no PATCH through and puts an error in the place of early
/// answers.
fn behind_a_front(patch: Patch) -> Scripted {
    let held = Mutex::new(HashMap::<String, Seen>::new());
    Scripted::new(move |seen, _| {
        let path = seen.head.split_whitespace().nth(1).unwrap();
        let id = path.split('/').nth(3).unwrap_or_default().to_owned();
        let method = seen.head.split(' ').next().unwrap();
        if method == "PATCH" {
            return match patch {
                Patch::Answered(status) => Reply::html(status),
                Patch::Cut => Reply::hang_up(),
                Patch::Hangs => loop {
                    thread::park();
                },
            };
        }
        let mut held = held.lock().unwrap();
        match (method, held.get(&id)) {
            ("HEAD", Some(stored)) if path.contains("/uploads/") => kept(stored, 1),
            ("HEAD", Some(stored)) => shown(stored),
            ("HEAD", None) => Reply::empty(404).without_body(),
            ("PUT", _) if id == "small" => Reply::stored(seen),
            ("PUT", Some(_)) => Reply::html(503).early(),
            ("PUT", None) => {
                held.insert(id, seen.clone());
                Reply::html(503)
            }
            _ => Reply::empty(404),
        }
    })
}

/// The upload, of which so much has arrived: the whole by 1, half by 2.
fn kept(put: &Seen, divisor: u64) -> Reply {
    let length: u64 = put.header("content-length").unwrap().parse().unwrap();
    let reply = Reply::empty(204).header(&format!("Upload-Offset: {}", length / divisor));
    let complete = u8::from(divisor == 1);
    reply
        .header(&format!("Upload-Length: {length}"))
        .header(&format!("Upload-Complete: ?{complete}"))
}

/// The episode, held.
fn shown(put: &Seen) -> Reply {
    let digest = put.header("repr-digest").unwrap();
    Reply::empty(200)
        .header(&format!("Repr-Digest: {digest}"))
        .without_body()
}

/// What hangs is given up soon.
const SOON: &str = "[receiver]\nanswer_timeout_s = 1\nidle_timeout_s = 1\n";

#[test]
fn what_is_held_is_delivered_behind_a_front_that_hides_early_answers_and_lets_no_patch_through() {
    let answered = [301_u16, 401, 403, 405, 407, 408, 421, 425, 429, 503].map(Patch::Answered);
    let cases: Vec<_> = answered
        .into_iter()
        .chain([Patch::Cut, Patch::Hangs])
        .collect();
    each(&cases, |&patch| {
        let server = behind_a_front(patch);
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", &crate::uploads::noise(3 << 20))]);
        let _daemon = sandbox.start(sandbox.command_with_config("ship", SOON));
        sandbox.wait_shipped("run-1");
        assert!(
            server.seen().len() < 20,
            "at the second attempt, or soon after it"
        );
    });
}

#[test]
fn where_a_receipt_is_required_and_none_comes_through_it_is_said_what_lets_it_through() {
    each(
        &[Patch::Answered(405), Patch::Answered(401), Patch::Hangs],
        |&patch| {
            let server = behind_a_front(patch);
            let sandbox = Sandbox::new(server.url());
            sandbox.seal("run-1", &[("data.bin", &crate::uploads::noise(3 << 20))]);
            let config = format!("{SOON}require_receipt = true");
            let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
            daemon.wait_log("Let PATCH through there, or set receiver.require_receipt = false");
            // Others are delivered meanwhile.
            sandbox.seal("small", &[("data.bin", b"recorded")]);
            sandbox.wait_shipped("small");
            eventually("the doctor says it, too", || {
                let asked = sandbox
                    .command_with_config("doctor", &config)
                    .output()
                    .unwrap();
                String::from_utf8(asked.stdout)
                    .unwrap()
                    .contains("The daemon says of it: the receiver holds it")
            });
            assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
        },
    );
}

/// Our receiver on a line that drops: in the middle of the PUT, and then over the answer to a
/// PATCH.
fn on_a_line_that_drops() -> Scripted {
    #[derive(Default)]
    struct Stored {
        put: Option<Seen>,
        patches: u32,
    }
    let stored = Mutex::new(Stored::default());
    Scripted::new(move |seen, _| {
        let mut stored = stored.lock().unwrap();
        let path = seen.head.split_whitespace().nth(1).unwrap();
        let method = seen.head.split(' ').next().unwrap();
        let Some(put) = stored.put.clone().filter(|_| method != "PUT") else {
            stored.put = Some(seen.clone());
            return Reply::hang_up();
        };
        match method {
            "HEAD" if path.contains("/uploads/") => {
                kept(&put, if stored.patches == 0 { 2 } else { 1 })
            }
            "HEAD" if stored.patches > 0 => shown(&put),
            "PATCH" => {
                stored.patches += 1;
                if stored.patches == 1 {
                    Reply::hang_up()
                } else {
                    Reply::stored(&put)
                }
            }
            _ => Reply::empty(404).without_body(),
        }
    })
}

#[test]
fn a_receipt_whose_answer_was_lost_is_heard_by_the_next_attempt() {
    each(&["false", "true"], |required| {
        let server = on_a_line_that_drops();
        let sandbox = Sandbox::new(server.url());
        sandbox.seal("run-1", &[("data.bin", &crate::uploads::noise(3 << 20))]);
        let config = format!("[receiver]\nrequire_receipt = {required}");
        let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
        sandbox.wait_shipped("run-1");
        let receipt = json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
        assert_ne!(receipt["receipt"], Value::Null, "{required}: {receipt}");
        assert!(
            !daemon.log().contains("Let PATCH through"),
            "{}",
            daemon.log()
        );
    });
}
