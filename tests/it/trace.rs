//! `sealift trace`: one episode's way, out of the journal and the files, in any state.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the recorder and the operator"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output};

use serde_json::{Value, json};

use crate::support::{Reply, Sandbox, Scripted, copy_program, eventually, sealift, write_script};

/// A journalctl that says this, and before everything else in PATH; `None`: there is none.
fn trace(sandbox: &Sandbox, journal: Option<&str>, args: &[&str]) -> (i32, String) {
    let bin = sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    if let Some(script) = journal {
        let path = bin.join("journalctl");
        let asked = sandbox.path("asked");
        write_script(
            &path,
            &format!("#!/bin/sh\necho \"$*\" >{asked:?}\n{script}"),
        );
    }
    let mut command = sealift();
    command
        .args(["trace", "--data"])
        .arg(sandbox.data())
        .args(args);
    let path = if journal.is_some() {
        format!("{}:/usr/bin:/bin", bin.display())
    } else {
        bin.display().to_string()
    };
    let Output {
        status,
        stdout,
        stderr,
    } = command.env("PATH", path).output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap(),
    )
}

/// The kinds of the steps, in order.
fn steps(sandbox: &Sandbox, journal: Option<&str>, id: &str) -> Vec<String> {
    let (code, told) = trace(sandbox, journal, &[id, "--json"]);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(code, 0, "{told}");
    let steps = document["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|step| step["step"].as_str().unwrap().to_owned())
        .collect()
}

fn printing(lines: &[Value]) -> String {
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    format!("cat <<'END'\n{}\nEND\n", lines.join("\n"))
}

#[test]
fn without_a_journal_the_files_tell_what_they_know_and_the_rest_is_said_to_be_missing() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[("data.bin", &[7; 100_000])]);
    assert_eq!(sandbox.ship_once().0, 0);
    let (code, told) = trace(&sandbox, None, &["a"]);
    assert_eq!(code, 0, "{told}");
    let first = told.lines().next().unwrap();
    assert!(
        first.starts_with(&format!(
            "a  shipped, in {}; ",
            sandbox.shipped("a").display()
        )),
        "{told}"
    );
    assert!(first.contains(" bytes out of 100000 ("), "{told}");
    assert!(
        told.contains("not read: the journal: there is no journalctl here"),
        "{told}"
    );
    assert_eq!(steps(&sandbox, None, "a"), ["sealed", "delivered"]);
}

#[test]
fn the_journals_one_line_is_the_whole_way_with_the_milliseconds_between() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[]);
    assert_eq!(sandbox.ship_once().0, 0);
    let receipt = crate::support::json_file(&sandbox.shipped("a").join("shipping_receipt.json"));
    let delivered = receipt["delivered_at_wall"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    let at = |ms: i64| (delivered.as_microsecond() + ms * 1000).to_string();
    // As journalctl --reverse gives them.
    let journal = printing(&[
        json!({
            "__REALTIME_TIMESTAMP": at(400), "MESSAGE": "shipped a, now in there", "EPISODE": "a", "VERDICT": "delivered",
            "STATUS_CODE": "201", "BYTES": "150", "ELAPSED_MS": "900", "SEEN_MS": "1", "PACKED_MS": "12", "DELIVERED_MS": "880",
            "ATTEMPT": "2", "OFFSET_BYTES": "64",
        }),
        json!({
            "__REALTIME_TIMESTAMP": at(-300), "MESSAGE": "a was not delivered: answered 503", "EPISODE": "a",
            "VERDICT": "transient", "STATUS_CODE": "503", "ATTEMPT": "1",
        }),
    ]);
    let (code, told) = trace(&sandbox, Some(&journal), &["a"]);
    assert_eq!(code, 0);
    let lines: Vec<_> = told
        .lines()
        .skip(1)
        .map(|line| line.get(26..).unwrap().trim_start())
        .collect();
    let way = &lines[lines.len() - 6..];
    assert_eq!(way[0], "sealed", "{told}");
    assert_eq!(way[1], "+1 ms  seen");
    assert_eq!(way[2], "+11 ms  packed       150 bytes");
    assert_eq!(
        way[3],
        "+188 ms  attempt      attempt 1  a was not delivered: answered 503"
    );
    assert_eq!(way[4], "+680 ms  delivered    201  attempt 2, from byte 64");
    assert_eq!(way[5], "+20 ms  shipped      shipped a, now in there");
    let asked = fs::read_to_string(sandbox.path("asked")).unwrap();
    assert!(
        asked.contains("--unit=sealift.service") && asked.contains("EPISODE=a"),
        "{asked}"
    );
}

#[test]
fn an_episode_is_found_in_any_state() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "conflict" => Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "detail": "other content"}),
        ),
        "fatal" => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not ours"}),
        ),
        "weather" => Reply::empty(503),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    for id in ["conflict", "fatal", "shipped", "weather"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    sandbox.ship_once();
    sandbox.record("open", &[]);
    sandbox.seal("sealed", &[]);
    for (id, state, steps_of) in [
        ("open", "open: it has no done.marker yet", &[][..]),
        ("sealed", "sealed, in ", &["sealed"]),
        ("weather", "packed: ", &["sealed", "packed"]),
        (
            "conflict",
            "in conflict: ",
            &["sealed", "packed", "attempt"],
        ),
        (
            "fatal",
            "quarantined (422), in ",
            &["sealed", "quarantined"],
        ),
        ("shipped", "shipped, in ", &["sealed", "delivered"]),
    ] {
        let (code, told) = trace(&sandbox, None, &[id]);
        assert!(code == 0 && told.contains(state), "{id}: {told}");
        assert_eq!(steps(&sandbox, None, id), steps_of, "{id}");
    }
    let (_, told) = trace(&sandbox, None, &["fatal"]);
    assert!(told.contains("422  the receiver rejects it: "), "{told}");
}

#[test]
fn a_running_daemon_says_where_it_is_now() {
    let server = Scripted::new(|_, _| {
        Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "detail": "other content"}),
        )
    });
    let sandbox = Sandbox::new(server.url());
    let _daemon = sandbox.daemon();
    sandbox.seal("a", &[]);
    eventually("the daemon tells of the conflict", || {
        let (code, told) = trace(&sandbox, None, &["a"]);
        code == 0 && told.contains("a  now conflict")
    });
}

#[test]
fn what_nobody_knows_is_an_error_with_what_to_type() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    sandbox.record("run-2026-11-24", &[]);
    let (code, told) = trace(&sandbox, None, &["run-2026-11-42"]);
    assert_eq!(code, 1);
    assert!(
        told.contains("nothing is known of run-2026-11-42")
            && told.contains("sealift trace 'run-2026-11-24'"),
        "{told}"
    );
    assert!(told.contains("not read: the journal"), "{told}");
    let (code, told) = trace(&sandbox, None, &["something else"]);
    assert!(code == 1 && told.contains("ls /"), "{told}");
    assert_eq!(trace(&sandbox, None, &["../a"]).0, 2);
    let (code, told) = trace(&sandbox, None, &["unknown", "--json"]);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &document["found"]), (1, &json!([])));
}

#[test]
fn what_may_not_be_read_is_said_with_what_to_type() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    sandbox.seal("a", &[]);
    let refused =
        "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1";
    let (code, told) = trace(&sandbox, Some(refused), &["a"]);
    assert_eq!(code, 0);
    assert!(
        told.contains("not read: the journal: this user may not read it")
            && told.contains("Type: sudo usermod -aG systemd-journal"),
        "{told}"
    );
}

#[test]
fn who_may_not_look_into_the_folders_is_not_told_that_it_is_there() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI is root");
        println!("skipped: only root becomes somebody else");
        return;
    }
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[]);
    let private = |mode| {
        let folders = [
            &sandbox.layout.episodes,
            &sandbox.layout.shipped,
            &sandbox.layout.outbox,
        ];
        for folder in folders {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    private(0o700);
    // The program may stand in a folder of its owner's alone.
    let program = sandbox.path("sealift");
    copy_program(env!("CARGO_BIN_EXE_sealift"), &program);
    let traced = |id: &str| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program);
        command
            .args(["trace", id, "--data"])
            .arg(sandbox.data())
            .env_remove("SEALIFT_CONFIG")
            .current_dir("/");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout),
        )
    };
    for id in ["no-such", "a"] {
        let (code, told) = traced(id);
        assert_eq!(code, Some(1), "{told}");
        assert!(
            told.contains("not all of the four folders could be looked at"),
            "{told}"
        );
        assert!(
            told.contains("not read: ") && told.contains("Permission denied"),
            "{told}"
        );
    }
    // Its folder can be seen, and not what is in it.
    private(0o755);
    let episode = sandbox.layout.episodes.join("a");
    fs::set_permissions(&episode, fs::Permissions::from_mode(0o700)).unwrap();
    let (code, told) = traced("a");
    assert!(
        code == Some(0) && told.contains("cannot be looked at"),
        "{told}"
    );
}

#[test]
fn hostile_entries_and_records_are_shown_harmlessly() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let episode = sandbox.seal("a", &[]);
    let reason = json!({
        "episode_id": "a", "status_code": 422, "error": format!("\u{1b}]0;evil\u{7}\u{202e}{}", "y".repeat(50_000)),
        "quarantined_at_wall": "2026-11-02T10:00:00Z",
    });
    fs::write(episode.join("quarantine_reason.json"), reason.to_string()).unwrap();
    fs::rename(&episode, sandbox.quarantined("a")).unwrap();
    let hostile = json!({
        "__REALTIME_TIMESTAMP": "1793500000000000", "EPISODE": "a", "VERDICT": "transient",
        "MESSAGE": "\u{1b}[2J\n2026-11-02T10:00:00Z  shipped  a lie",
    });
    let journal = format!(
        "{}printf '{{\"MESSAGE\": broken\\n\\377\\376\\n'\n",
        printing(&[hostile])
    );
    let (code, told) = trace(&sandbox, Some(&journal), &["a"]);
    assert_eq!(code, 0);
    assert!(
        !told
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{told:?}"
    );
    assert!(
        told.len() < 3000 && told.contains("not all of its entries"),
        "{told}"
    );
    assert_eq!(
        told.lines().filter(|line| line.contains("a lie")).count(),
        1
    );
    assert!(
        told.lines()
            .any(|line| line.contains("attempt") && line.contains("a lie")),
        "{told}"
    );
    let (_, document) = trace(&sandbox, Some(&journal), &["a", "--json"]);
    assert!(serde_json::from_str::<Value>(&document).is_ok());
}
