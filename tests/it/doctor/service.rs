//! The unit, and the daemon that it runs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use serde_json::{Value, json};

use super::{Host, told_within_five_seconds};
use crate::support::{Reply, Sandbox, Scripted, eventually};

#[test]
fn a_unit_that_is_not_started_turns_red_with_the_daemon_and_comes_before_it() {
    let mut host = Host::sound();
    host.stop_daemon();
    host.unit_is("ActiveState", "inactive");
    let told = host.doctor();
    assert_eq!(told.wrong(), ["unit", "daemon"]);
    let fix = told.first_red().unwrap()["fix"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        fix.ends_with("systemctl enable --now sealift.service"),
        "{fix}"
    );
    host.type_in(&fix);
    host.start_daemon();
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn each_state_of_the_unit_turns_its_row_and_its_fix_turns_it_back() {
    let host = Host::sound();
    for (row, property, value, status) in [
        ("unit", "UnitFileState", "disabled", "yellow"),
        ("unit", "ActiveState", "failed", "red"),
        ("unit", "LoadState", "masked", "red"),
        ("restarts", "NRestarts", "2", "yellow"),
        ("restarts", "NRestarts", "40", "red"),
    ] {
        let broken = host.breaks_and_is_mended(row, |host| host.unit_is(property, value));
        assert_eq!(broken["status"], status, "{broken}");
    }
}

#[test]
fn a_watchdog_that_is_not_armed_is_yellow_with_the_drop_in_that_arms_it() {
    let host = Host::sound();
    host.unit_is("WatchdogUSec", "0");
    let row = host.turned("watchdog", &[]);
    let fix = row["fix"].as_str().unwrap();
    assert!(fix.starts_with("sealift setup"), "{fix}");
    let said = host.type_in(&format!("{fix} --dry-run"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for expected in [
        "drop-in zz-sealift-watchdog.conf: [Service] WatchdogSec=180",
        "would  systemctl daemon-reload",
        "would  systemctl restart",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn without_systemd_there_is_nothing_to_say_of_a_unit() {
    let host = Host::sound();
    host.unit("");
    let told = host.doctor();
    assert_eq!(told.wrong(), Vec::<String>::new());
    for row in ["unit", "watchdog", "restarts", "journal"] {
        assert!(told.rows().iter().all(|told| told["id"] != row), "{row}");
    }
}

#[test]
fn the_unit_that_is_configured_is_the_one_that_is_asked_about() {
    let host = Host::sound();
    host.configure("[doctor]\nunit = \"shipper\"\n");
    host.doctor();
    for calls in ["unit.calls", "journal.calls"] {
        let calls = fs::read_to_string(host.sandbox.path(calls)).unwrap();
        assert!(calls.contains("shipper.service"), "{calls}");
    }
}

#[test]
fn one_that_was_killed_is_red_and_starting_it_by_hand_is_the_fix_where_there_is_no_unit() {
    let mut host = Host::sound();
    host.daemon.take().unwrap().kill();
    host.unit("LoadState=not-found\nActiveState=inactive");
    let told = host.doctor();
    assert_eq!(told.wrong(), ["unit", "daemon"]);
    let fix = told.row("daemon")["fix"].as_str().unwrap().to_owned();
    assert!(fix.starts_with("sealift ship --config "), "{fix}");
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(format!("exec {fix}"));
    host.at_home(&mut shell);
    let _daemon = host.sandbox.start(shell);
    eventually("the daemon answers", || {
        host.doctor().row("daemon")["status"] == "green"
    });
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn after_a_pass_by_hand_what_is_wrong_is_what_is_wrong_with_the_shipping() {
    let mut host = Host::without_a_daemon(Sandbox::with_receiver());
    host.unit("LoadState=not-found\nActiveState=inactive");
    host.sandbox.seal("run-1", &[]);
    let waits = host.turned("waiting", &[]);
    let once = waits["fix"].as_str().unwrap();
    assert!(once.starts_with("sealift ship --once "), "{waits}");
    host.type_fix(&waits);
    assert_eq!(host.wrong(), Vec::<String>::new());
    host.sandbox.kill_receiver();
    assert_eq!(host.wrong(), ["receiver-reachable"]);
}

#[test]
fn with_the_data_folder_alone_each_row_is_there_that_needs_no_receiver() {
    let host = Host::without_a_daemon(Sandbox::new(""));
    let mut doctor = crate::support::sealift();
    doctor.args(["doctor", "--json", "--data"]);
    doctor.arg(host.sandbox.data());
    host.at_home(&mut doctor);
    let (_, told) = crate::support::json_of(doctor.output().unwrap());
    let checks = told["checks"].as_array().unwrap();
    for id in [
        "configuration",
        "folders",
        "folder-access",
        "space",
        "moves",
        "watch-mode",
        "inotify",
        "unit",
        "daemon",
        "clock",
        "journal",
        "conflicts",
        "quarantine",
        "clean-up",
        "markers",
        "open-long",
        "names",
        "waiting",
    ] {
        assert!(checks.iter().any(|row| row["id"] == id), "{id}: {told:#}");
    }
}

fn status(host: &Host) -> (i32, Value) {
    let mut command = crate::support::sealift();
    command
        .arg("status")
        .arg("--json")
        .arg("--config")
        .arg(host.config_file());
    command.arg("--data").arg(host.sandbox.data());
    host.at_home(&mut command);
    crate::support::json_of(command.output().unwrap())
}

#[test]
fn what_status_says_to_type_is_about_the_unit_that_is_configured() {
    let mut host = Host::sound();
    host.configure("[doctor]\nunit = \"lab\"\n");
    assert_eq!(status(&host).0, 0);
    host.stop_daemon();
    let (code, told) = status(&host);
    let fix = told["problems"][0]["fix"].as_str().unwrap().to_owned();
    assert!(
        code == 1 && fix.ends_with("systemctl start lab.service"),
        "{told}"
    );
    host.type_in(&fix);
    let calls = fs::read_to_string(host.sandbox.path("unit.calls")).unwrap();
    assert!(calls.ends_with("start lab.service\n"), "{calls}");
}

#[test]
fn a_daemon_whose_socket_is_gone_is_ended_by_no_fix() {
    for asks_status in [true, false] {
        let host = Host::sound();
        host.unit("LoadState=not-found\nActiveState=inactive");
        crate::doctor::forget(&host.sandbox.layout.private.join("control.sock"));
        let fix = if asks_status {
            let told = status(&host).1;
            assert!(
                told["problems"][0]["what"]
                    .as_str()
                    .unwrap()
                    .contains("holds the folder"),
                "{told}"
            );
            told["problems"][0]["fix"].as_str().unwrap().to_owned()
        } else {
            let told = host.doctor();
            assert_eq!(
                told.row("daemon")["status"],
                "yellow",
                "{:#}",
                told.document
            );
            told.row("daemon")["fix"].as_str().unwrap().to_owned()
        };
        for word in ["restart", "kill", "stop", "sealift ship"] {
            assert!(!fix.contains(word), "{fix}");
        }
        host.type_in(&fix);
        host.sandbox.seal("run-9", &[]);
        host.sandbox.wait_shipped("run-9");
    }
}

#[test]
fn a_daemon_that_was_killed_has_left_a_socket_and_does_not_run() {
    let mut host = Host::sound();
    host.daemon.take().unwrap().kill();
    host.turned("daemon", &[]);
}

#[test]
fn a_daemon_that_does_not_answer_is_red_within_five_seconds() {
    let host = Host::sound();
    host.daemon().signal("STOP");
    let told = told_within_five_seconds(&host);
    host.daemon().signal("CONT");
    assert_eq!(told.wrong(), ["daemon"], "{:#}", told.document);
    assert!(
        told.row("daemon")["summary"]
            .as_str()
            .unwrap()
            .contains("does not say how it stands")
    );
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn a_reload_that_failed_is_red_until_a_good_one() {
    let host = Host::sound();
    host.editor_writes("[receiver]\nconcurrency = 3\n");
    host.breaks_and_is_mended("reload", |host| {
        host.configure("[receiver]\nconcurency = 3\n");
        host.daemon().signal("HUP");
        // A snapshot serves whoever asks for a moment.
        eventually("the reload has failed", || {
            host.doctor().row("reload")["status"] == "red"
        });
        // Somebody has mended the file, and has not said so.
        host.configure("");
    });
}

#[test]
fn what_only_a_restart_applies_is_yellow() {
    let host = Host::sound();
    host.configure("[shipper]\nwatch = \"reconcile-only\"\n");
    host.daemon().signal("HUP");
    eventually("the reload is told", || {
        host.doctor().row("reload")["status"] == "yellow"
    });
    let row = host.turned("reload", &[]);
    assert!(
        row["summary"].as_str().unwrap().contains("shipper.watch"),
        "{row}"
    );
}

#[test]
fn a_port_for_metrics_that_is_taken_is_yellow_and_another_mends_it() {
    let mut host = Host::sound();
    host.stop_daemon();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    host.configure(&format!("[shipper]\nmetrics_listen = '{address}'\n"));
    host.start_daemon();
    let row = host.turned("metrics", &[]);
    assert_eq!(row["status"], "yellow");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains(&address.to_string()),
        "{row}"
    );
    let told = status(&host).1;
    assert!(
        told["problems"][0]["what"]
            .as_str()
            .unwrap()
            .contains("No metrics are given out at"),
        "{told}"
    );
    host.editor_writes("[shipper]\nmetrics_listen = '127.0.0.1:0'\n");
    host.type_fix(&row);
    let calls = fs::read_to_string(host.sandbox.path("unit.calls")).unwrap();
    assert!(calls.contains("restart sealift.service"), "{calls}");
    // As the service manager does it then.
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn what_one_episode_alone_has_met_where_others_were_taken_is_no_red_row() {
    let server =
        Scripted::new(
            move |seen, _| match (seen.head.starts_with("PUT"), seen.id.as_str()) {
                (true, "bad") => Reply::html(403),
                (true, _) => Reply::stored(seen),
                (false, _) => Reply::empty(404),
            },
        );
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    host.sandbox.seal("good-1", &[]);
    host.sandbox.wait_shipped("good-1");
    host.sandbox.seal("bad", &[]);
    eventually("it is told", || {
        host.doctor().row("hold")["status"] != "green"
    });
    let row = host.turned("hold", &[]);
    assert_eq!(row["status"], "yellow", "{row}");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .starts_with("bad was answered "),
        "{row}"
    );
    // Others go at once, and are taken.
    host.sandbox.seal("good-2", &[]);
    host.sandbox.wait_shipped("good-2");
    eventually("nothing is held", || {
        host.doctor().row("hold")["status"] == "green"
    });
}

#[test]
fn a_held_receiver_is_red_with_since_when_and_a_reload_tries_it_at_once() {
    let says = Arc::new(AtomicU16::new(403));
    let script = Arc::clone(&says);
    let server = Scripted::new(move |seen, _| {
        match (seen.head.starts_with("PUT"), script.load(Ordering::SeqCst)) {
            (true, 201) => Reply::stored(seen),
            (true, status) => Reply::json(status, &json!({"title": "not you"})),
            (false, _) => Reply::empty(404),
        }
    });
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    assert_eq!(host.wrong(), Vec::<String>::new());
    host.sandbox.seal("run-1", &[]);
    eventually("it is held", || {
        host.doctor().row("hold")["status"] == "red"
    });
    let row = host.turned("hold", &[]);
    assert!(
        row["summary"].as_str().unwrap().contains("403") && row["details"]["held_s"].is_u64(),
        "{row}"
    );
    says.store(201, Ordering::SeqCst);
    host.type_fix(&row);
    host.sandbox.wait_shipped("run-1");
    eventually("the hold is lifted", || host.wrong().is_empty());
}

#[test]
fn what_something_else_refuses_is_red() {
    let server = Scripted::new(
        |seen, _| match (seen.head.starts_with("PUT"), seen.id.as_str()) {
            (true, "large") => Reply::html(413),
            (true, _) => Reply::stored(seen),
            (false, _) => Reply::empty(404),
        },
    );
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    host.sandbox.seal("large", &[]);
    eventually("it is refused", || {
        host.doctor().row("refused")["status"] == "red"
    });
    let row = host.turned("refused", &[]);
    assert!(
        row["summary"].as_str().unwrap().contains("large: ")
            && row["summary"].as_str().unwrap().contains("413"),
        "{row}"
    );
}

/// In the daemon's place: its own snapshot, changed.
pub(super) fn instead_of_the_daemon(host: &mut Host, change: impl FnOnce(&mut Value)) {
    let socket = host.sandbox.layout.private.join("control.sock");
    let asked = host.type_in(&format!(
        "curl -s --unix-socket '{}' http://sealift/snapshot",
        socket.display()
    ));
    let mut snapshot: Value = serde_json::from_slice(&asked.stdout).unwrap();
    change(&mut snapshot);
    host.stop_daemon();
    crate::doctor::forget(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let body = snapshot.to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
}

#[test]
fn what_the_daemon_says_of_itself_turns_exactly_its_row() {
    type Change = fn(&mut Value);
    let changes: [(&str, &str, Change); 4] = [
        ("daemon-version", "yellow", |it| {
            it["version"] = "0.0.9".into();
        }),
        ("daemon-stalled", "red", |it| {
            it["heart"]["stalled"] = json!([{"part": "the packing of run-1", "for_s": 130}]);
        }),
        ("daemon-watching", "yellow", |it| {
            it["watch"] = json!({"mode": "blind", "why": "the limit is reached", "fix": "sysctl fs.inotify.max_user_watches=524288"});
        }),
        ("moves", "red", |it| {
            it["trial"] = json!([{"kind": "unmovable", "in_short": "1 episode", "what_to_do": "1 episode folder cannot be moved."}]);
        }),
    ];
    for (row, status, change) in changes {
        let mut host = Host::sound();
        instead_of_the_daemon(&mut host, change);
        assert_eq!(host.turned(row, &[])["status"], status);
    }
}

#[test]
fn a_daemon_of_another_version_is_understood_and_nonsense_is_no_answer() {
    let mut host = Host::sound();
    instead_of_the_daemon(&mut host, |it| {
        it["watch"]["mode"] = "telepathy".into();
        it["new"] = json!({"a": 1});
    });
    assert_eq!(host.wrong(), Vec::<String>::new());
    let mut host = Host::sound();
    instead_of_the_daemon(&mut host, |it| *it = json!([1]));
    host.turned("daemon", &[]);
}
