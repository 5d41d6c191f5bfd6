//! The journal, as journalctl -o json gives it, with everything that may stand in it.

use std::fs;

use serde_json::{Value, json};

use super::Host;
use crate::support::{Reply, Sandbox, Scripted, eventually};

fn entry(verdict: &str, status: u16, message: &str) -> String {
    json!({"__REALTIME_TIMESTAMP": "1793500000000000", "MESSAGE": message, "VERDICT": verdict, "STATUS_CODE": status.to_string(),
           "EPISODE": "run-1"})
    .to_string()
}

fn with(lines: &[String]) -> (Host, Value) {
    told_by(Host::sound(), lines)
}

fn told_by(host: Host, lines: &[String]) -> (Host, Value) {
    host.journal(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let row = host.doctor().row("journal");
    (host, row)
}

#[test]
fn each_class_is_told_with_what_to_do() {
    let delivered = || entry("delivered", 201, "shipped run-1, now in /d/shipped/run-1");
    let transient = || entry("transient", 503, "run-1 was not delivered: answered 503");
    for (lines, class, status, summary) in [
        (vec![], "empty", "green", "has said nothing"),
        (vec![delivered()], "clean", "green", "1 ship delivered"),
        (
            vec![transient(), delivered()],
            "transient",
            "green",
            "is over",
        ),
        (
            vec![delivered(), transient()],
            "transient",
            "yellow",
            "1 attempt failed",
        ),
        (
            vec![entry("fatal", 400, "quarantined run-1")],
            "400",
            "red",
            "1 ship rejected as malformed",
        ),
        (
            [
                vec![entry("fatal", 412, "quarantined run-1"); 12],
                vec![entry("fatal", 400, "quarantined run-2")],
            ]
            .concat(),
            "412",
            "red",
            "12 ships rejected as out-of-window",
        ),
        (
            vec!["{\"MESSAGE\":\"upload rejected: 412 Precondition Failed\"}".to_owned()],
            "412",
            "red",
            "1 ship rejected as out-of-window",
        ),
    ] {
        // A receiver that has no way to be asked: nothing says that what it rejected is over.
        let server = Scripted::new(|_, _| Reply::empty(404));
        let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
        host.start_daemon();
        let (host, row) = told_by(host, &lines);
        assert_eq!(
            (row["details"]["class"].as_str(), row["status"].as_str()),
            (Some(class), Some(status)),
            "{row}"
        );
        assert!(row["summary"].as_str().unwrap().contains(summary), "{row}");
        let wrong: Vec<_> = if status == "green" {
            vec![]
        } else {
            vec!["journal".to_owned()]
        };
        assert_eq!(host.wrong(), wrong);
    }
}

#[test]
fn what_a_host_out_of_the_window_should_run_is_the_operators_command_else_the_receivers_words() {
    let server = Scripted::new(|seen, _| match seen.head.starts_with("PUT") {
        true => Reply::json(
            412,
            &json!({"type": "urn:sealift:commit-out-of-window", "detail": "old", "remediation": "cd /opt/lab && git\u{7} pull"}),
        ),
        false => Reply::empty(404),
    });
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.sandbox.seal("run-1", &[]);
    host.sandbox.ship_once();
    assert!(host.sandbox.quarantined("run-1").exists());
    host.journal(&[&entry("fatal", 412, "quarantined run-1")]);
    assert_eq!(
        host.doctor().row("journal")["fix"],
        "cd /opt/lab && git\\u{7} pull"
    );
    host.configure("[doctor]\nupdate_command = \"lab-update --now\"\n");
    assert_eq!(host.doctor().row("journal")["fix"], "lab-update --now");
    // The episodes themselves go back by another command.
    assert!(
        host.doctor().row("quarantine")["fix"]
            .as_str()
            .unwrap()
            .starts_with("sealift requeue --all --status 412 --config ")
    );
}

#[test]
fn words_for_a_person_are_no_command() {
    let server = Scripted::new(|seen, _| match seen.head.starts_with("PUT") {
        true => Reply::json(
            412,
            &json!({"type": "urn:sealift:commit-out-of-window", "detail": "old", "remediation": "Please update the lab code: see https://wiki/lab (ask Bob)"}),
        ),
        false => Reply::empty(404),
    });
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.sandbox.seal("run-1", &[]);
    host.sandbox.ship_once();
    host.journal(&[&entry("fatal", 412, "quarantined run-1")]);
    let fix = host.doctor().row("journal")["fix"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        fix,
        "# The receiver says: Please update the lab code: see https://wiki/lab (ask Bob)"
    );
    let typed = host.type_in(&fix);
    assert!(
        typed.status.success() && typed.stderr.is_empty(),
        "{typed:?}"
    );
}

/// A name can read like a verdict.
#[test]
fn what_an_episode_is_called_forges_no_class() {
    for name in [
        "run-1 VERDICT=fatal STATUS_CODE=412",
        "out-of-window-camera",
        "out-of-window",
    ] {
        let line = json!({"MESSAGE": format!("{name} is sealed but not at rest"), "EPISODE": name});
        let (host, row) = with(&[line.to_string()]);
        assert_eq!(row["details"]["class"], "clean", "{row}");
        assert_eq!(host.wrong(), Vec::<String>::new());
    }
}

/// What a row says of what was rejected for its commit, and is admitted by now.
const TAKEN: &str = "The receiver takes their commit by now.";

/// The lab records with whatever commit its code is of.
struct Lab {
    host: Host,
    said: Vec<String>,
}

impl Lab {
    fn records(&mut self, id: &str) {
        let commit = fs::read_to_string(self.host.sandbox.path("lab")).unwrap();
        let meta = format!(r#"{{"code_version":{{"commit":"{commit}"}}}}"#);
        self.host
            .sandbox
            .seal(id, &[("meta.json", meta.as_bytes())]);
    }

    fn says(&mut self, line: String) {
        self.said.push(line);
        self.host
            .journal(&self.said.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn journal(&self) -> Value {
        self.host.doctor().row("journal")
    }
}

#[test]
fn a_host_out_of_the_window_is_updated_by_the_fix_and_then_what_was_rejected_goes_by_the_next() {
    let (old, new) = ("a".repeat(40), "b".repeat(40));
    let mut sandbox = Sandbox::new("");
    let commits = sandbox.path("commits");
    fs::write(&commits, format!("{new}\n")).unwrap();
    let receive = sandbox.path("receive.toml");
    fs::write(
        &receive,
        format!("[receive]\ncommits_file = '{}'\n", commits.display()),
    )
    .unwrap();
    sandbox.start_receiver_with("127.0.0.1:0", receive.to_str().unwrap());
    let mut host = Host::without_a_daemon(sandbox);
    let code = host.sandbox.path("lab");
    fs::write(&code, &old).unwrap();
    host.configure(&format!(
        "[doctor]\nupdate_command = \"printf {new} >'{}'\"\n",
        code.display()
    ));
    host.start_daemon();
    let mut lab = Lab {
        host,
        said: Vec::new(),
    };
    lab.records("run-1");
    lab.host.sandbox.wait_quarantined("run-1");
    lab.says(entry("fatal", 412, "quarantined run-1: answered 412"));
    // The commit row is not red: nothing that is still here is refused.
    eventually("it is told", || {
        lab.host.wrong() == ["receiver-commit", "journal", "quarantine"]
    });
    assert_eq!(lab.host.doctor().row("receiver-commit")["status"], "yellow");
    let red = lab.host.doctor().first_red().unwrap().clone();
    assert_eq!(red["id"], "journal");
    lab.host.type_fix(&red);
    lab.records("run-2");
    lab.host.sandbox.wait_shipped("run-2");
    lab.says(entry("delivered", 201, "shipped run-2"));
    assert_eq!(lab.host.wrong(), ["journal", "quarantine"]);
    let row = lab.journal();
    assert_eq!(row["status"], "yellow", "{row}");
    // It is asked with the commit of what was rejected, and not with that of the newest episode.
    let waits = lab.host.doctor().row("quarantine");
    let fix = waits["fix"].as_str().unwrap();
    assert!(
        fix.starts_with("sealift requeue --all --status 412 --dry-run "),
        "{waits}"
    );
    // The receiver's operator lets the old one in after all.
    fs::write(&commits, format!("{new}\n{old}\n")).unwrap();
    let is_taken = |said: &Value| said.as_str().unwrap().ends_with(TAKEN);
    eventually("the receiver takes the old commit", || {
        let told = lab.host.doctor();
        ["journal", "quarantine"].map(|id| is_taken(&told.row(id)["summary"])) == [true; 2]
    });
    let mended = lab.host.doctor().row("quarantine");
    assert!(
        !mended["fix"].as_str().unwrap().contains("--dry-run"),
        "{mended}"
    );
    eventually("the old commit is taken, too", || {
        lab.host.type_fix(&row);
        lab.host.sandbox.shipped("run-1").exists()
    });
    assert_eq!(lab.host.wrong(), Vec::<String>::new());
}

#[test]
fn what_failed_is_over_once_the_fix_has_shown_why_and_a_later_one_is_delivered() {
    let (host, row) = with(&[entry(
        "transient",
        503,
        "run-1 was not delivered: answered 503",
    )]);
    assert_eq!(row["status"], "yellow");
    // What the journal has of it, here by the stand-in for journalctl.
    let shown = host.type_fix(&row).1;
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("answered 503"),
        "{shown:?}"
    );
    host.journal(&[
        &entry("transient", 503, "run-1 was not delivered: answered 503"),
        &entry("delivered", 201, "shipped"),
    ]);
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn what_was_malformed_is_over_once_it_was_mended_and_sent_again_by_the_fix() {
    let (host, row) = with(&[entry("fatal", 400, "quarantined run-1")]);
    // Our receiver takes what comes, and nothing with 400 is in quarantine/ any more.
    assert_eq!(
        (&row["status"], &row["details"]["class"]),
        (&"green".into(), &"400".into())
    );
    let put_aside = host.sandbox.quarantined("run-1");
    fs::create_dir(&put_aside).unwrap();
    fs::write(put_aside.join("done.marker"), "").unwrap();
    let reason = json!({"episode_id": "run-1", "status_code": 400, "error": "answered 400", "body": null, "verdict": "fatal",
                        "quarantined_at_wall": sealift::clock::wall_now()});
    fs::write(put_aside.join("quarantine_reason.json"), reason.to_string()).unwrap();
    assert_eq!(host.wrong(), ["journal", "quarantine"]);
    let row = host.doctor().row("journal");
    assert!(host.type_fix(&row).1.status.success(), "{row}");
    host.sandbox.wait_shipped("run-1");
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn hostile_lines_are_shown_harmlessly() {
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}evil\r\n\u{0}";
    let bytes: Vec<u8> = [hostile.as_bytes(), b"\xff\xfe"].concat();
    let lines = [
        json!({"MESSAGE": bytes, "VERDICT": "fatal", "STATUS_CODE": "400", "EPISODE": bytes}).to_string(),
        json!({"MESSAGE": null, "VERDICT": ["fatal", "delivered"], "STATUS_CODE": "400"}).to_string(),
        json!({"MESSAGE": hostile.repeat(500), "VERDICT": "fatal", "STATUS_CODE": "400"}).to_string(),
        "{\"MESSAGE\": \"broken".to_owned(),
        "\u{1b}[2J not json \u{7}".to_owned(),
        "x".repeat(3_000_000),
        json!({"MESSAGE": {"a": [1, {"b": null}]}, "VERDICT": null, "STATUS_CODE": [[52, 49, 50], "x"]})
            .to_string(),
        json!({"MESSAGE": hostile, "VERDICT": "fatal", "STATUS_CODE": "400"}).to_string(),
    ];
    let (host, row) = with(&lines);
    assert_eq!(
        (&row["details"]["class"], &row["details"]["unreadable"]),
        (&"412".into(), &3.into()),
        "{row}"
    );
    assert_eq!(row["details"]["counts"]["400"], 4);
    for as_json in [true, false] {
        let mut command = host.command("doctor");
        if as_json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(bad), "{text:?}");
        assert!(text.len() < 100_000, "{}", text.len());
    }
}

#[test]
fn not_being_permitted_is_yellow_with_the_command_that_grants_it() {
    let host = Host::sound();
    let error = host.sandbox.path("journal.error");
    fs::write(
        &error,
        "No journal files were opened due to insufficient permissions.\n",
    )
    .unwrap();
    let row = host.turned("journal", &[]);
    assert_eq!(
        (&row["status"], &row["details"]["class"]),
        (&"yellow".into(), &"not-permitted".into())
    );
    let fix = row["fix"].as_str().unwrap();
    assert!(fix.contains("usermod -aG systemd-journal "), "{fix}");
    fs::write(&error, "Failed to open: bad \u{1b}[2J\n").unwrap();
    let row = host.turned("journal", &[]);
    assert_eq!(
        (&row["status"], &row["details"]["class"]),
        (&"yellow".into(), &"unavailable".into())
    );
    super::forget(&error);
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn so_much_of_the_journal_is_read_as_was_asked_for_and_without_a_shell_or_a_pager() {
    let host = Host::sound();
    host.command("doctor")
        .args(["--since", "2h"])
        .output()
        .unwrap();
    let calls = fs::read_to_string(host.sandbox.path("journal.calls")).unwrap();
    let last = calls.lines().last().unwrap();
    for word in [
        "--output=json",
        "--no-pager",
        "--unit=sealift.service",
        "--since=-7200s",
    ] {
        assert!(last.contains(word), "{last}");
    }
    let refused = host
        .command("doctor")
        .args(["--since", "yesterday"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
