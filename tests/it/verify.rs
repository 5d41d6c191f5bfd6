//! `sealift verify`: what was shipped is asked for, and nothing is said to be held that the
//! receiver does not say it holds.

use std::{
    fs,
    process::{Command, Output},
};

use sealift::model::episode::Digest;
use serde_json::{Value, json};

use crate::support::{Reply, Sandbox, Scripted, Seen, json_file, json_of, names, sealift};

/// A receiver that takes everything, and answers HEAD by script.
fn holding(head: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |seen, _| {
        if seen.head.starts_with("HEAD") {
            head(seen)
        } else {
            Reply::stored(seen)
        }
    })
}

/// Ships these episodes, each with its own content.
fn shipped(server: &Scripted, ids: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new(server.url());
    for id in ids {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    assert_eq!(sandbox.ship_once().0, 0);
    sandbox
}

fn receipt(sandbox: &Sandbox, id: &str) -> Value {
    json_file(&sandbox.shipped(id).join("shipping_receipt.json"))
}

fn digest(text: &Value) -> Digest {
    text.as_str().unwrap().parse().unwrap()
}

fn described(sha256: Digest) -> Reply {
    Reply::empty(200).header(&format!("Repr-Digest: {}", sha256.to_header()))
}

/// Exit code and stdout of `verify` without `--json`.
fn told(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap())
}

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row["episode_id"].as_str().unwrap())
        .collect()
}

#[test]
fn everything_that_is_not_held_is_named_and_the_rest_is_counted() {
    // The digests are known once it has been shipped; the receiver is asked later.
    let known: std::sync::Arc<std::sync::Mutex<Vec<(String, Value)>>> = std::sync::Arc::default();
    let digests = std::sync::Arc::clone(&known);
    let server = holding(move |seen| {
        let known = digests.lock().unwrap();
        let receipt = known
            .iter()
            .find(|(id, _)| *id == seen.id)
            .map(|(_, receipt)| receipt)
            .unwrap();
        match seen.id.as_str() {
            "gone" => Reply::empty(404),
            "other" => described(Digest::of(b"other")),
            "repacked" => described(Digest::of(b"other")).header(&format!(
                "Sealift-Content-Digest: {}",
                digest(&receipt["content_sha256"]).to_header()
            )),
            "forbidden" => Reply::empty(403),
            "mute" => Reply::empty(200),
            _ => described(digest(&receipt["sha256"])),
        }
    });
    let all = ["a", "b", "forbidden", "gone", "mute", "other", "repacked"];
    let sandbox = shipped(&server, &all);
    known.lock().unwrap().extend(
        all.iter()
            .map(|id| ((*id).to_owned(), receipt(&sandbox, id))),
    );

    let (code, found) = json_of(sandbox.command("verify").arg("--json").output().unwrap());
    assert_eq!(code, 1);
    let counts = ["checked", "held", "held_repacked", "not_checked"]
        .map(|name| found[name].as_u64().unwrap());
    assert_eq!(counts, [7, 3, 1, 0], "{found}");
    assert_eq!(
        (ids(&found["missing"]), ids(&found["differs"])),
        (vec!["gone"], vec!["other"])
    );
    assert_eq!(ids(&found["cannot_tell"]), ["forbidden", "mute"]);
    let why = |n: usize| found["cannot_tell"][n]["why"].as_str().unwrap();
    assert!(
        why(0).starts_with("credential") && why(1).contains("no digest"),
        "{found}"
    );
    assert_eq!(found["missing"][0]["path"], json!(sandbox.shipped("gone")));

    let (code, text) = told(sandbox.command("verify").arg("--all"));
    assert_eq!(code, 1);
    assert!(
        text.ends_with("7 checked: 3 stored, 1 missing, 1 differ, 2 cannot be told\n"),
        "{text}"
    );
    let again = text
        .lines()
        .find_map(|line| line.split_once("to ship it again: "))
        .unwrap()
        .1;
    assert!(!text.contains("repacked"), "{text}");

    // What is to be typed works.
    let typed = again.replace("sealift ", &format!("{} ", env!("CARGO_BIN_EXE_sealift")));
    assert!(
        Command::new("/bin/sh")
            .args(["-c", &typed])
            .status()
            .unwrap()
            .success(),
        "{typed}"
    );
    assert_eq!(names(&sandbox.layout.episodes), ["gone"]);
    assert_eq!(sandbox.ship_once().1["shipped"], 1);

    let (code, text) = told(sandbox.command("verify").args(["a", "repacked"]));
    assert_eq!(
        (code, text.as_str()),
        (
            0,
            "2 checked: 2 stored, 0 missing, 0 differ, 0 cannot be told\n"
        )
    );
    let (code, text) = told(sandbox.command("verify").args(["a", "never-shipped"]));
    assert!(
        code == 1 && text.contains("never-shipped  it is not in shipped/"),
        "{text}"
    );
}

#[test]
fn deep_asks_for_the_bytes_and_believes_only_an_answer_that_says_they_were_read() {
    let server = holding(|seen| {
        let held = described(Digest::of(b"other"));
        match (seen.id.as_str(), seen.header("sealift-reread")) {
            ("rotten", Some("?1")) => held.header("Sealift-Reread: ?1"),
            ("rotten", _) => Reply::empty(500),
            _ => held,
        }
    });
    let sandbox = shipped(&server, &["old-receiver", "rotten"]);
    for id in ["old-receiver", "rotten"] {
        let path = sandbox.shipped(id).join("shipping_receipt.json");
        let mut receipt = json_file(&path);
        if id == "old-receiver" {
            receipt["sha256"] = json!(Digest::of(b"other"));
        }
        fs::write(&path, receipt.to_string()).unwrap();
    }
    let (code, found) = json_of(
        sandbox
            .command("verify")
            .args(["--deep", "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!((code, &found["held"]), (1, &json!(0)));
    assert_eq!(
        (ids(&found["differs"]), ids(&found["cannot_tell"])),
        (vec!["rotten"], vec!["old-receiver"])
    );
    assert!(
        found["cannot_tell"][0]["why"]
            .as_str()
            .unwrap()
            .starts_with("not re-read"),
        "{found}"
    );
    let (code, found) = json_of(
        sandbox
            .command("verify")
            .args(["old-receiver", "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!((code, &found["held"]), (0, &json!(1)));
}

#[test]
fn a_receiver_that_does_not_answer_ends_the_run_with_one_message() {
    let server = holding(|_| Reply::hang_up());
    let many: Vec<_> = (0..40).map(|n| format!("run-{n}")).collect();
    let sandbox = shipped(
        &server,
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let asked = |server: &Scripted| {
        server
            .seen()
            .iter()
            .filter(|seen| seen.head.starts_with("HEAD"))
            .count()
    };
    let (code, text) = told(&mut sandbox.command("verify"));
    assert_eq!(code, 1);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.starts_with("no answer from http://") && text.contains("; 40 not checked\n"),
        "{text}"
    );
    // Each of the four at once asked twice at most.
    assert!(asked(&server) <= 8, "{}", asked(&server));
    let mut nobody = sealift();
    nobody
        .args(["verify", "--receiver", "http://127.0.0.1:1", "--data"])
        .arg(sandbox.data());
    let (code, text) = told(&mut nobody);
    assert!(
        code == 1 && text.contains("cannot be reached"),
        "{code} {text}"
    );
}

#[test]
fn one_lost_connection_says_nothing_of_the_receiver() {
    let lost = std::sync::atomic::AtomicBool::new(false);
    let server = holding(move |_| {
        if lost.swap(true, std::sync::atomic::Ordering::SeqCst) {
            Reply::empty(404)
        } else {
            Reply::hang_up()
        }
    });
    let sandbox = shipped(&server, &["a"]);
    let (_, found) = json_of(sandbox.command("verify").arg("--json").output().unwrap());
    assert_eq!(ids(&found["missing"]), ["a"], "{found}");
}

#[test]
fn what_was_delivered_elsewhere_is_said_to_have_been() {
    let old = holding(|_| Reply::empty(404));
    let sandbox = shipped(&old, &["a"]);
    let new = holding(|_| Reply::empty(404));
    let command = || {
        let mut command = sealift();
        command
            .args(["verify", "--receiver", &new.url(), "--data"])
            .arg(sandbox.data());
        command
    };
    let (_, found) = json_of(command().arg("--json").output().unwrap());
    assert_eq!(
        found["missing"][0]["delivered_to"],
        receipt(&sandbox, "a")["receiver"],
        "{found}"
    );
    let (_, text) = told(&mut command());
    assert!(
        text.contains(&format!("was delivered to {}", old.url())),
        "{text}"
    );
}

#[test]
fn what_was_delivered_to_another_path_of_the_same_server_is_said_to_have_been() {
    let server = holding(|_| Reply::empty(404));
    let sandbox = shipped(&server, &["a"]);
    let mut command = sealift();
    let other = format!("{}/other/{{id}}", server.url());
    command.args(["verify", "--receiver", &other, "--data"]);
    command.arg(sandbox.data());
    let (code, text) = told(&mut command);
    let delivered = receipt(&sandbox, "a")["receiver"].clone();
    let said = format!(
        "was delivered to {}, and not to {other}",
        delivered.as_str().unwrap()
    );
    assert!(code == 1 && text.contains(&said), "{text}");
    assert!(
        text.contains("requeue --from shipped --unasked"),
        "nothing shows that it was lost: {text}"
    );
}

#[test]
fn an_episode_is_asked_for_wherever_it_is_filed_and_no_other_one_is() {
    let server = holding(|_| Reply::empty(404));
    // The second `a` is filed as `a~1`; `b~1` is an episode of that name.
    let sandbox = shipped(&server, &["a", "b", "b~1"]);
    sandbox.seal("a", &[("data.bin", b"again")]);
    assert_eq!(sandbox.ship_once().0, 0);
    let (_, found) = json_of(
        sandbox
            .command("verify")
            .args(["a", "b", "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!(ids(&found["missing"]), ["a", "a", "b"], "{found}");
    assert_eq!(found["missing"][1]["path"], json!(sandbox.shipped("a~1")));
    let (_, found) = json_of(sandbox.command("verify").arg("--json").output().unwrap());
    assert_eq!(ids(&found["missing"]), ["a", "a", "b", "b~1"], "{found}");
}

#[test]
fn a_folder_without_our_receipt_cannot_be_told_and_an_empty_one_is_in_order() {
    let server = holding(|_| Reply::empty(404));
    let sandbox = Sandbox::new(server.url());
    let (code, text) = told(&mut sandbox.command("verify"));
    assert_eq!(
        (code, text.as_str()),
        (
            0,
            "0 checked: 0 stored, 0 missing, 0 differ, 0 cannot be told\n"
        )
    );
    fs::create_dir(sandbox.shipped("by-hand")).unwrap();
    fs::write(sandbox.layout.shipped.join("a file"), "").unwrap();
    let (code, found) = json_of(sandbox.command("verify").arg("--json").output().unwrap());
    assert_eq!((code, ids(&found["cannot_tell"])), (1, vec!["by-hand"]));
    assert_eq!(server.connections(), 0);
    for args in [&["../evil"][..], &["a", "--all"], &["--deep=1"]] {
        assert_eq!(told(sandbox.command("verify").args(args)).0, 2, "{args:?}");
    }
}
