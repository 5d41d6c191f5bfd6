//! What the daemon says of itself is over once the fix is typed: what the fix starts is the real
//! program.

use std::{fs, process::Command, time::Duration};

use sealift::{clock::wall_now, model::records::WallTime};
use serde_json::{Value, json};

use super::{Host, service::instead_of_the_daemon};
use crate::support::{Mounted, Sandbox, eventually, eventually_within, json_file};

/// This row has turned, alone; its fix is typed, and nothing is wrong any more.
#[track_caller]
fn is_mended(host: &Host, row: &str, status: &str) {
    let row = host.turned(row, &[]);
    assert_eq!(row["status"], status, "{row}");
    host.type_fix(&row);
    eventually("nothing is wrong any more", || host.wrong().is_empty());
}

#[test]
fn a_daemon_that_is_old_stalled_or_cannot_look_is_started_again_by_the_fix() {
    type Change = fn(&mut Value);
    let changes: [(&str, &str, Change); 4] = [
        ("daemon-version", "yellow", |it| {
            it["version"] = "0.0.9".into();
        }),
        ("daemon-stalled", "red", |it| {
            it["heart"]["stalled"] = json!([{"part": "the packing of run-1", "for_s": 130}]);
        }),
        ("daemon-watching", "red", |it| {
            it["watch"]["last_look_failed"] = "episodes: EIO".into();
        }),
        ("daemon-watching", "yellow", |it| {
            it["watch"] = json!({"mode": "blind", "why": "they were lost"});
        }),
    ];
    for (row, status, change) in changes {
        let mut host = Host::sound();
        let _restarted = host.restarts_for_real();
        instead_of_the_daemon(&mut host, change);
        is_mended(&host, row, status);
        host.sandbox.seal("run-1", &[]);
        host.sandbox.wait_shipped("run-1");
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_started_again_by_the_fix() {
    let host = Host::sound();
    let _restarted = host.restarts_for_real();
    host.daemon().signal("STOP");
    is_mended(&host, "daemon", "red");
}

#[test]
fn what_only_a_restart_applies_is_applied_by_the_fix() {
    let host = Host::sound();
    let _restarted = host.restarts_for_real();
    host.configure("[shipper]\nwatch = \"reconcile-only\"\n");
    host.daemon().signal("HUP");
    eventually("the reload is told", || {
        host.doctor().row("reload")["status"] == "yellow"
    });
    is_mended(&host, "reload", "yellow");
    let watching = host.doctor().row("daemon-watching");
    assert!(
        watching["summary"]
            .as_str()
            .unwrap()
            .starts_with("It looks every"),
        "{watching}"
    );
}

#[test]
fn watches_that_cannot_be_had_are_had_after_the_fix() {
    for limit in ["max_inotify_watches", "max_inotify_instances"] {
        let mut host = Host::without_a_daemon(Sandbox::with_receiver());
        let ship = host.command("ship");
        let mut limited = Command::new("unshare");
        limited.args([
            "-Ur",
            "/bin/sh",
            "-c",
            &format!("echo 0 >/proc/sys/user/{limit} && exec \"$@\""),
            "sh",
        ]);
        limited.arg(ship.get_program()).args(ship.get_args());
        if !Command::new("unshare")
            .args(["-Ur", "true"])
            .status()
            .is_ok_and(|status| status.success())
        {
            assert!(
                std::env::var_os("CI").is_none(),
                "no user namespaces here, and CI must have them"
            );
            println!("skipped: no user namespaces here");
            return;
        }
        host.start_daemon_as(limited);
        eventually("it is told", || {
            host.doctor().row("daemon-watching")["status"] == "yellow"
        });
        let row = host.turned("daemon-watching", &[]);
        let fix = row["fix"].as_str().unwrap();
        assert!(fix.starts_with(&format!("sysctl user.{limit}=")), "{fix}");
        // Where the daemon is: in a container, typed there.
        let mut there = Command::new("nsenter");
        there.args([
            "-U",
            "--preserve-credentials",
            "-t",
            &host.daemon().pid().to_string(),
            "bash",
            "-c",
            fix,
        ]);
        assert!(there.output().unwrap().status.success(), "{fix}");
        eventually_within(Duration::from_secs(60), "it has its watches", || {
            host.wrong().is_empty()
        });
    }
}

fn days_ago(days: i64) -> WallTime {
    WallTime::from_unix_seconds(wall_now().unix_seconds() - days * 86_400)
}

fn put_in_quarantine(host: &Host, name: &str, days: i64) -> std::path::PathBuf {
    let path = host.sandbox.layout.quarantine.join(name);
    let reason = json!({"episode_id": name, "status_code": 422, "error": "answered 422", "body": null, "verdict": "fatal",
                        "quarantined_at_wall": days_ago(days),
                        "aging": {"clock_believed": true, "announced_at_wall": days_ago(7)}});
    let scratch = host.sandbox.path(name);
    fs::create_dir(&scratch).unwrap();
    fs::write(scratch.join("quarantine_reason.json"), reason.to_string()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test puts it there whole")]
    fs::rename(scratch, &path).unwrap();
    path
}

/// Ships one, and makes it older than it is.
fn shipped_long_ago(host: &Host, name: &str, days: i64) -> std::path::PathBuf {
    host.sandbox.seal(name, &[]);
    host.sandbox.wait_shipped(name);
    let receipt = host.sandbox.shipped(name).join("shipping_receipt.json");
    let mut told: Value = json_file(&receipt);
    told["delivered_at_wall"] = json!(days_ago(days));
    fs::write(receipt, told.to_string()).unwrap();
    host.sandbox.shipped(name)
}

#[test]
fn what_the_doctor_says_will_be_deleted_a_running_daemon_deletes_and_after_the_fix_it_does_not() {
    let settings = |days: u32| {
        format!(
            "[shipper]\nquarantine_keep_days = {days}\nquarantine_cleanup_interval_s = 1\nshipped_keep_days = 5\n"
        )
    };
    let mut host = Host::without_a_daemon(Sandbox::with_receiver());
    host.configure(&settings(8));
    host.editor_writes(&settings(0));
    host.script("timedatectl", "#!/bin/sh\necho yes\n");
    host.start_daemon();
    host.sandbox.seal("run-1", &[]);
    host.sandbox.wait_shipped("run-1");
    let goes = put_in_quarantine(&host, "goes", 9);
    eventually("it is deleted", || !goes.exists());
    let later = put_in_quarantine(&host, "later", 2);
    let row = host.doctor().row("clean-up");
    assert_eq!(
        (&row["status"], &row["details"]["some"]),
        (&"red".into(), &json!(["later"])),
        "{row}"
    );
    assert!(host.type_fix(&row).1.status.success());
    eventually("no row is red", || host.doctor().first_red().is_none());
    let stays = put_in_quarantine(&host, "stays", 9);
    // Two clean-ups later: each takes what it finds in shipped/.
    for name in ["first", "second"] {
        let shipped = shipped_long_ago(&host, name, 9);
        eventually("there was a clean-up", || !shipped.exists());
    }
    assert!(stays.exists() && later.exists());
}

#[test]
fn a_disk_without_room_has_room_once_the_fix_lets_go_what_the_receiver_holds() {
    let settings = |more: &str| format!("[shipper]\nquarantine_cleanup_interval_s = 1\n{more}");
    let mut host = Host::without_a_daemon(Sandbox::with_receiver());
    let Some(_mounted) = Mounted::over(&host.sandbox.layout.shipped, "120m") else {
        return;
    };
    host.configure(&settings(""));
    host.editor_writes(&settings("shipped_free_bytes = 134217728\n"));
    host.script("timedatectl", "#!/bin/sh\necho yes\n");
    host.start_daemon();
    let before = host.wrong();
    assert_eq!(before, [""; 0]);
    host.sandbox.seal("run-1", &[("data", &vec![7; 70 << 20])]);
    host.sandbox.wait_shipped("run-1");
    eventually("the outbox is cleared", || host.sandbox.outbox().is_empty());
    let row = host.turned("space", &before);
    assert_eq!(row["status"], "red", "{row}");
    let said = row["summary"].as_str().unwrap();
    assert!(said.contains("shipped_free_bytes = 134217728"), "{said}");
    let typed = host.type_fix(&row).1;
    assert!(
        typed.status.success(),
        "{row}: {}",
        String::from_utf8_lossy(&typed.stderr)
    );
    eventually("there is room", || host.wrong().is_empty());
    assert!(host.sandbox.stored("run-1").exists());
}
