//! What is in the folders, and should not be there, or not any more.

use std::{fs, os::unix::ffi::OsStringExt as _, time::Duration};

use sealift::{clock::wall_now, records::WallTime};
use serde_json::json;

use super::Host;
use crate::support::{Reply, Sandbox, Scripted, eventually};

#[test]
fn a_name_that_is_no_id_is_given_one_by_the_fix_and_ships_then() {
    let host = Host::sound();
    for name in [&b"-odd"[..], b"it's\x1b[2J", b"not \xff utf-8"] {
        let path = host.sandbox.layout.episodes.join(std::ffi::OsString::from_vec(name.to_vec()));
        let row = host.breaks_and_is_mended("names", |_| {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("done.marker"), "").unwrap();
        });
        assert_eq!(row["status"], "red", "{row}");
        assert!(!path.exists());
    }
    eventually("all three are shipped", || fs::read_dir(&host.sandbox.layout.shipped).unwrap().count() == 3);
}

#[test]
fn a_link_to_an_episode_and_a_marker_beside_them_are_told_with_what_to_do() {
    let host = Host::sound();
    let elsewhere = host.sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("done.marker"), "").unwrap();
    host.breaks_and_is_mended("names", |host| {
        std::os::unix::fs::symlink(&elsewhere, host.sandbox.layout.episodes.join("link")).unwrap();
    });
    host.breaks_and_is_mended("names", |host| {
        fs::write(host.sandbox.layout.episodes.join("done.marker"), "").unwrap();
    });
    eventually("what the link led to is shipped", || {
        fs::read_dir(&host.sandbox.layout.shipped).unwrap().count() == 1
    });
}

#[test]
fn a_marker_that_is_none_or_half_a_manifest_is_sealed_again_by_the_fix() {
    let host = Host::sound();
    let row = host.breaks_and_is_mended("markers", |host| {
        let episode = host.sandbox.record("a folder", &[("data", b"x")]);
        fs::create_dir(episode.join("done.marker")).unwrap();
    });
    assert!(row["summary"].as_str().unwrap().contains("a directory"), "{row}");
    host.sandbox.wait_shipped("a folder");
    // The daemon would put it aside after a while.
    let mut host = host;
    host.stop_daemon();
    let row = host.breaks_and_is_mended("markers", |host| {
        let episode = host.sandbox.record("half", &[("data", b"x")]);
        fs::write(episode.join("done.marker"), "{\"sealift_manifest\":1,\"files\":[").unwrap();
    });
    assert_eq!(row["status"], "red");
    host.start_daemon();
    host.sandbox.wait_shipped("half");
}

#[test]
fn a_recording_that_was_forgotten_is_sealed_by_the_fix_and_ships() {
    let host = Host::sound();
    let row = host.breaks_and_is_mended("open-long", |host| {
        let episode = host.sandbox.record("long ago", &[("data", b"x")]);
        let past = std::time::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(wall_now().unix_seconds()).unwrap() - 3 * 86_400);
        for path in [episode.join("data"), episode] {
            fs::File::open(path).unwrap().set_modified(past).unwrap();
        }
    });
    assert_eq!((&row["status"], &row["details"]["count"]), (&"yellow".into(), &1.into()));
    host.sandbox.wait_shipped("long ago");
}

#[test]
fn a_conflict_is_red_and_ships_under_another_name_by_the_fix() {
    let server = Scripted::new(|seen, _| match (seen.head.starts_with("PUT"), seen.id.as_str()) {
        (true, "run-1") => {
            Reply::json(409, &json!({"type": "urn:sealift:conflict", "detail": "held since May \u{1b}"}))
        }
        (true, _) => Reply::stored(seen),
        (false, _) => Reply::empty(404),
    });
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    let row = host.breaks_and_is_mended("conflicts", |host| {
        host.sandbox.seal("run-1", &[]);
        eventually("it is in conflict", || host.doctor().row("conflicts")["status"] == "red");
    });
    assert!(row["summary"].as_str().unwrap().contains("held since May"), "{row}");
    host.sandbox.wait_shipped("run-1-1");
}

fn quarantined(host: &Host, name: &str, days_ago: i64) {
    let folder = host.sandbox.quarantined(name);
    fs::create_dir(&folder).unwrap();
    let at = WallTime::from_unix_seconds(wall_now().unix_seconds() - days_ago * 86_400);
    let reason = json!({"episode_id": name, "status_code": 422, "error": "answered 422 with \u{1b}[2J", "body": null, "verdict": "fatal",
                        "quarantined_at_wall": at});
    fs::write(folder.join("quarantine_reason.json"), reason.to_string()).unwrap();
}

#[test]
fn what_is_quarantined_is_yellow_by_reason_and_goes_back_by_the_fix() {
    let host = Host::sound();
    let row = host.breaks_and_is_mended("quarantine", |host| {
        quarantined(host, "it's", 0);
        fs::write(host.sandbox.quarantined("it's").join("done.marker"), "").unwrap();
    });
    host.sandbox.wait_shipped("it's");
    assert_eq!(
        (&row["status"], &row["details"]["by_reason"]),
        (&"yellow".into(), &json!({"answered 422": 1}))
    );
    assert!(row["fix"].as_str().unwrap().starts_with(r"sealift requeue 'it'\''s' --config "), "{row}");
}

#[test]
fn what_the_clean_up_is_about_to_delete_is_red_a_week_before() {
    let host = Host::sound();
    host.configure("[shipper]\nquarantine_keep_days = 8\n");
    host.editor_writes("[shipper]\nquarantine_keep_days = 0\n");
    quarantined(&host, "kept", 0);
    assert_eq!(host.wrong(), ["quarantine"]);
    let row = host.breaks_and_is_mended("clean-up", |host| quarantined(host, "goes", 2));
    assert!(
        row["summary"].as_str().unwrap().contains("goes, in 5 days")
            || row["summary"].as_str().unwrap().contains("goes, in 6 days"),
        "{row}"
    );
    assert_eq!(row["details"]["some"], json!(["goes"]));
}

#[test]
fn what_waits_for_long_is_yellow_and_for_a_day_red() {
    let server = Scripted::new(|_, _| Reply::empty(404));
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.sandbox.seal("run-1", &[]);
    let before = host.wrong();
    assert_eq!(before, ["daemon"]);
    for (later, status) in [("+2h", "yellow"), ("+2d", "red")] {
        let mut command = std::process::Command::new("faketime");
        let doctor = host.command("doctor");
        command.args(["-f", later]).arg(doctor.get_program()).args(doctor.get_args()).arg("--json");
        command.env_remove("SEALIFT_CONFIG");
        host.at_home(&mut command);
        let Ok(output) = command.output() else {
            assert!(std::env::var_os("CI").is_none(), "faketime is not here, and this is CI: .ci/install");
            println!("skipped: faketime is not here");
            return;
        };
        let told = super::told(&output);
        assert_eq!(told.wrong(), ["daemon", "waiting"], "{:#}", told.document);
        assert_eq!(told.row("waiting")["status"], status);
        assert_eq!(told.row("waiting")["details"]["oldest"], "run-1");
    }
}
