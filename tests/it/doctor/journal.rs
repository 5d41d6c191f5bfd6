//! The journal, as journalctl -o json gives it, with everything that may stand in it.

use std::fs;

use serde_json::{Value, json};

use super::Host;
use crate::support::{Reply, Sandbox, Scripted};

fn entry(verdict: &str, status: u16, message: &str) -> String {
    json!({"__REALTIME_TIMESTAMP": "1793500000000000", "MESSAGE": message, "VERDICT": verdict, "STATUS_CODE": status.to_string(),
           "EPISODE": "run-1"})
    .to_string()
}

fn with(lines: &[String]) -> (Host, Value) {
    let host = Host::sound();
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
        (vec![transient(), delivered()], "transient", "green", "is over"),
        (vec![delivered(), transient()], "transient", "yellow", "1 attempt failed"),
        (vec![entry("fatal", 400, "quarantined run-1")], "400", "red", "1 ship rejected as malformed"),
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
        let (host, row) = with(&lines);
        assert_eq!(
            (row["details"]["class"].as_str(), row["status"].as_str()),
            (Some(class), Some(status)),
            "{row}"
        );
        assert!(row["summary"].as_str().unwrap().contains(summary), "{row}");
        let wrong: Vec<_> = if status == "green" { vec![] } else { vec!["journal".to_owned()] };
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
    assert_eq!(host.doctor().row("journal")["fix"], "cd /opt/lab && git\\u{7} pull");
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
    fs::write(&error, "No journal files were opened due to insufficient permissions.\n").unwrap();
    let row = host.turned("journal", &[]);
    assert_eq!((&row["status"], &row["details"]["class"]), (&"yellow".into(), &"not-permitted".into()));
    let fix = row["fix"].as_str().unwrap();
    assert!(fix.contains("usermod -aG systemd-journal "), "{fix}");
    fs::write(&error, "Failed to open: bad \u{1b}[2J\n").unwrap();
    let row = host.turned("journal", &[]);
    assert_eq!((&row["status"], &row["details"]["class"]), (&"yellow".into(), &"unavailable".into()));
    super::forget(&error);
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn so_much_of_the_journal_is_read_as_was_asked_for_and_without_a_shell_or_a_pager() {
    let host = Host::sound();
    host.command("doctor").args(["--since", "2h"]).output().unwrap();
    let calls = fs::read_to_string(host.sandbox.path("journal.calls")).unwrap();
    let last = calls.lines().last().unwrap();
    for word in ["--output=json", "--no-pager", "--unit=sealift.service", "--since=-7200s"] {
        assert!(last.contains(word), "{last}");
    }
    let refused = host.command("doctor").args(["--since", "yesterday"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
