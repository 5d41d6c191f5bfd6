//! What is in the folders, and should not be there, or not any more.

use std::{fs, os::unix::ffi::OsStringExt as _, time::Duration};

use sealift::{clock::wall_now, model::records::WallTime};
use serde_json::json;

use super::Host;
use crate::{
    disks::foreign::Overlay,
    support::{Reply, Sandbox, Scripted, eventually},
};

#[test]
fn a_name_that_is_no_id_is_given_one_by_the_fix_and_ships_then() {
    let host = Host::sound();
    for name in [&b"-odd"[..], b"it's\x1b[2J", b"not \xff utf-8"] {
        let path = host
            .sandbox
            .layout
            .episodes
            .join(std::ffi::OsString::from_vec(name.to_vec()));
        let row = host.breaks_and_is_mended("names", |_| {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("done.marker"), "").unwrap();
        });
        assert_eq!(row["status"], "red", "{row}");
        assert!(!path.exists());
    }
    eventually("all three are shipped", || {
        fs::read_dir(&host.sandbox.layout.shipped).unwrap().count() == 3
    });
}

#[test]
fn the_fix_of_each_name_can_be_pasted_into_sh_whatever_its_bytes() {
    let host = Host::sound();
    let names: [&[u8]; 6] = [
        b"-rf",
        b"it's\n$(touch pwned)",
        b"\xff'\"`id`",
        b"a%41\x07",
        b"back\\slash",
        b"-",
    ];
    for name in names {
        let name = std::ffi::OsString::from_vec(name.to_vec());
        let folder = host.sandbox.layout.episodes.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("done.marker"), "").unwrap();
    }
    let row = host.doctor().row("names");
    let fixes = row["details"]["fixes"].as_array().unwrap();
    assert_eq!(fixes.len(), names.len(), "{row}");
    for fix in fixes {
        let fix = fix.as_str().unwrap();
        assert!(!fix.contains(['\n', '\u{7}']), "{fix}");
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(fix);
        host.at_home(&mut shell);
        let typed = shell.output().unwrap();
        assert!(
            typed.status.success(),
            "{fix}: {}",
            String::from_utf8_lossy(&typed.stderr)
        );
    }
    eventually("nothing is wrong", || host.wrong().is_empty());
}

#[test]
fn a_link_is_left_to_the_operator_and_what_it_leads_to_is_not_touched() {
    let host = Host::sound();
    let elsewhere = host.sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("done.marker"), "").unwrap();
    let link = host.sandbox.layout.episodes.join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let row = host.turned("names", &[]);
    let summary = row["summary"].as_str().unwrap();
    assert!(summary.contains("docs/doctor.md#symlinks"), "{row}");
    let shown = host.type_fix(&row).1;
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout).trim(),
        elsewhere.canonicalize().unwrap().to_str().unwrap()
    );
    assert!(fs::read_link(&link).is_ok() && elsewhere.join("done.marker").exists());
    // As the document says.
    let (elsewhere, link) = (elsewhere.display(), link.display());
    let typed = format!("rm '{link}' && mv -nT '{elsewhere}' '{link}'");
    assert!(host.type_in(&typed).status.success());
    host.sandbox.wait_shipped("link");
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn a_marker_beside_the_episodes_is_put_out_of_sight_by_the_fix_each_time() {
    let host = Host::sound();
    for _ in 0..2 {
        host.breaks_and_is_mended("names", |host| {
            fs::write(host.sandbox.layout.episodes.join("done.marker"), "").unwrap();
        });
    }
}

#[test]
fn many_names_are_mended_one_after_another_and_one_that_is_written_to_is_left_alone() {
    let host = Host::sound();
    let row = host.breaks_and_is_mended("names", |host| {
        for name in ["-a", "-b", "--b", "-c"] {
            host.sandbox.seal(name, &[]);
        }
    });
    assert_eq!(
        (
            &row["details"]["count"],
            row["details"]["fixes"].as_array().unwrap().len()
        ),
        (&4.into(), 4)
    );
    for name in ["a-1", "b-1", "b-2", "c-1"] {
        host.sandbox.wait_shipped(name);
    }
    let recording = host.sandbox.record("-now", &[("data", b"x")]);
    let row = host.turned("names", &[]);
    assert_eq!(row["status"], "yellow");
    host.type_fix(&row);
    assert!(recording.exists());
    aged(&recording, 3600);
    host.type_fix(&row);
    assert!(!recording.exists());
    assert_eq!(host.wrong(), Vec::<String>::new());
}

/// As if nobody had written to it for so long.
fn aged(episode: &std::path::Path, seconds: u64) {
    let past = std::time::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(wall_now().unix_seconds()).unwrap() - seconds);
    for path in [episode.join("data"), episode.to_owned()]
        .iter()
        .filter(|path| path.exists())
    {
        fs::File::open(path).unwrap().set_modified(past).unwrap();
    }
}

#[test]
fn a_marker_that_is_none_is_put_out_of_the_episode_and_it_is_sealed_again_by_the_fix() {
    let host = Host::sound();
    let row = host.breaks_and_is_mended("markers", |host| {
        let episode = host.sandbox.record("a folder", &[("data", b"x")]);
        fs::create_dir(episode.join("done.marker")).unwrap();
        // Left by the last time.
        fs::write(host.sandbox.layout.episodes.join(".a folder.marker"), "").unwrap();
    });
    assert!(
        row["summary"].as_str().unwrap().contains("a directory"),
        "{row}"
    );
    host.sandbox.wait_shipped("a folder");
    let shipped = crate::support::names(&host.sandbox.shipped("a folder"));
    assert_eq!(shipped, ["data", "done.marker", "shipping_receipt.json"]);
}

#[test]
fn half_a_manifest_is_no_fault_for_a_minute_and_then_sealed_again_by_the_fix() {
    let mut host = Host::sound();
    // The daemon would put it aside after a while.
    host.stop_daemon();
    let episode = host.sandbox.record("half", &[("data", b"x")]);
    fs::write(
        episode.join("done.marker"),
        "{\"sealift_manifest\":1,\"files\":[",
    )
    .unwrap();
    let before = host.wrong();
    assert_eq!(before, ["daemon"]);
    let Some(told) = host.doctor_later("+2min") else {
        return;
    };
    assert_eq!(told.wrong(), ["daemon", "markers"], "{:#}", told.document);
    let row = told.row("markers");
    assert_eq!(row["status"], "red");
    assert!(host.type_fix(&row).1.status.success());
    assert_eq!(host.doctor_later("+2min").unwrap().wrong(), before);
    host.start_daemon();
    host.sandbox.wait_shipped("half");
}

#[test]
fn a_recording_that_was_forgotten_is_sealed_by_the_fix_and_ships() {
    let host = Host::sound();
    let row = host.breaks_and_is_mended("open-long", |host| {
        let episode = host.sandbox.record("long ago", &[("data", b"x")]);
        aged(&episode, 3 * 86_400);
    });
    assert_eq!(
        (&row["status"], &row["details"]["count"]),
        (&"yellow".into(), &1.into())
    );
    host.sandbox.wait_shipped("long ago");
    // Below its top somebody is writing.
    let episode = host
        .sandbox
        .record("goes on", &[("data", b"x"), ("camera/1", b"x")]);
    for folder in [episode.join("camera"), episode.clone()] {
        aged(&folder, 3 * 86_400);
    }
    let row = host.turned("open-long", &[]);
    host.type_fix(&row);
    assert!(!episode.join("done.marker").exists());
}

#[test]
fn a_conflict_is_red_and_ships_under_another_name_by_the_fix() {
    let server = Scripted::new(
        |seen, _| match (seen.head.starts_with("PUT"), seen.id.as_str()) {
            (true, "run-1") => Reply::json(
                409,
                &json!({"type": "urn:sealift:conflict", "detail": "held since May \u{1b}"}),
            ),
            (true, _) => Reply::stored(seen),
            (false, _) => Reply::empty(404),
        },
    );
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    let row = host.breaks_and_is_mended("conflicts", |host| {
        host.sandbox.seal("run-1", &[]);
        eventually("it is in conflict", || {
            host.doctor().row("conflicts")["status"] == "red"
        });
    });
    assert!(
        row["summary"].as_str().unwrap().contains("held since May"),
        "{row}"
    );
    host.sandbox.wait_shipped("run-1-1");
    // The name was used again: what it was given the last time is shipped, and held.
    let sent = server.count("run-1");
    host.breaks_and_is_mended("conflicts", |host| {
        host.sandbox.seal("run-1", &[("data", b"other")]);
        eventually("it is sent", || server.count("run-1") > sent);
        eventually("it is in conflict", || {
            host.doctor().row("conflicts")["status"] == "red"
        });
    });
    host.sandbox.wait_shipped("run-1-2");
}

#[test]
fn in_an_overlay_a_conflict_gets_its_other_name_when_it_is_whole_there() {
    const FILES: usize = 3_000;
    let server = Scripted::new(
        |seen, _| match (seen.head.starts_with("PUT"), seen.id.as_str()) {
            (true, "run-1") => Reply::json(
                409,
                &json!({"type": "urn:sealift:conflict", "detail": "held"}),
            ),
            (true, _) => Reply::stored(seen),
            (false, _) => Reply::empty(404),
        },
    );
    let sandbox = Sandbox::new(server.url());
    // The marker is the oldest: what copies a folder by mv(1) begins with it.
    let episode = sandbox.seal("run-1", &[]);
    for n in 0..FILES {
        fs::write(episode.join(format!("{n:04}.bin")), format!("recorded {n}")).unwrap();
    }
    let Some((_overlay, _disk)) = Overlay::over(&sandbox) else {
        return;
    };
    let mut host = Host::without_a_daemon(sandbox);
    host.start_daemon();
    eventually("it is in conflict", || {
        host.doctor().row("conflicts")["status"] == "red"
    });
    let typed = host.type_in(host.doctor().row("conflicts")["fix"].as_str().unwrap());
    assert!(
        typed.status.success(),
        "{}",
        String::from_utf8_lossy(&typed.stderr)
    );
    host.sandbox.wait_shipped("run-1-1");
    assert!(!episode.exists());
    let stored: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.id == "run-1-1")
        .collect();
    assert_eq!(stored.len(), 1);
    let tar = zstd::decode_all(stored[0].body.as_slice()).unwrap();
    let last = format!("recorded {}", FILES - 1);
    for text in ["recorded 0", "recorded 1500", &last] {
        assert!(
            tar.windows(text.len())
                .any(|bytes| bytes == text.as_bytes()),
            "{text}"
        );
    }
    // To the daemon the copy is another folder: the archive of the first is kept for a person.
    eventually("its archive is aside", || {
        host.doctor().row("quarantine")["status"] == "yellow"
    });
    assert_eq!(host.doctor().row("conflicts")["status"], "green");
    assert!(
        host.sandbox
            .quarantined("run-1")
            .join("run-1.tar.zst")
            .exists()
    );
}

#[test]
fn what_a_typed_command_has_left_when_it_was_broken_off_is_shown_after_an_hour() {
    let host = Host::sound();
    let left = host.sandbox.layout.episodes.join(".unpacked-aB3dE6");
    fs::create_dir(&left).unwrap();
    assert_eq!(host.doctor().row("names")["status"], "green");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::open(&left)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let row = host.doctor().row("names");
    assert_eq!(row["status"], "yellow", "{row}");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("for a while (.unpacked-aB3dE6)"),
        "{row}"
    );
    assert_eq!(row["fix"], format!("lsof +D {}", left.display()));
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("Remove it (rm -r)")
    );
}

fn quarantined(host: &Host, name: &str, days_ago: i64) {
    quarantined_as(host, name, name, days_ago);
}

fn quarantined_as(host: &Host, name: &str, folder: &str, days_ago: i64) {
    let folder = host.sandbox.quarantined(folder);
    fs::create_dir(&folder).unwrap();
    let days_before_now =
        |days: i64| WallTime::from_unix_seconds(wall_now().unix_seconds() - days * 86_400);
    let (at, announced) = (
        days_before_now(days_ago),
        (days_ago > 0).then(|| days_before_now(1)),
    );
    let reason = json!({"episode_id": name, "status_code": 422, "error": "answered 422 with \u{1b}[2J", "body": null, "verdict": "fatal",
                        "quarantined_at_wall": at,
                        "aging": {"clock_believed": true, "announced_at_wall": announced}});
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
    assert!(
        row["fix"]
            .as_str()
            .unwrap()
            .starts_with(r"sealift requeue 'it'\''s' --config "),
        "{row}"
    );
}

#[test]
fn an_archive_without_its_episode_goes_back_by_the_fix() {
    let mut host = Host::sound();
    host.stop_daemon();
    host.sandbox.kill_receiver();
    let episode = host
        .sandbox
        .seal("orphan", &[("data", b"all that there is")]);
    host.sandbox.ship_once();
    assert!(host.sandbox.layout.outbox.join("orphan.tar.zst").exists());
    removed(&episode);
    host.sandbox.start_receiver("127.0.0.1:0");
    host.configure("");
    host.start_daemon();
    host.sandbox.wait_quarantined("orphan");
    let row = host.doctor().row("quarantine");
    let typed = host.type_fix(&row).1;
    assert!(
        typed.status.success(),
        "{row}: {}",
        String::from_utf8_lossy(&typed.stderr)
    );
    host.sandbox.wait_shipped("orphan");
    assert_eq!(
        fs::read(host.sandbox.shipped("orphan").join("data")).unwrap(),
        b"all that there is"
    );
    eventually("nothing is wrong", || host.wrong().is_empty());
}

#[expect(
    clippy::disallowed_methods,
    reason = "somebody removes an episode by hand"
)]
fn removed(episode: &std::path::Path) {
    fs::remove_dir_all(episode).unwrap();
}

#[test]
fn of_an_episode_that_is_there_twice_one_is_sent_by_the_fix() {
    let mut host = Host::sound();
    host.stop_daemon();
    for (name, folder, days_ago) in [("a4", "a4", 1), ("a4", "a4~1", 0)] {
        quarantined_as(&host, name, folder, days_ago);
        fs::write(host.sandbox.quarantined(folder).join("done.marker"), "").unwrap();
    }
    let row = host.doctor().row("quarantine");
    let typed = host.type_fix(&row).1;
    assert!(
        typed.status.success(),
        "{row}: {}",
        String::from_utf8_lossy(&typed.stdout)
    );
    assert!(host.sandbox.layout.episodes.join("a4").exists());
    assert!(!host.sandbox.quarantined("a4~1").exists() && host.sandbox.quarantined("a4").exists());
    let folders: Vec<_> = row["details"]["some"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["folder"].clone())
        .collect();
    assert_eq!(folders.len(), 2);
    assert_ne!(folders[0], folders[1]);
    // The other has to wait until that name is free, and this is said by what is to be typed then.
    let fix = host.doctor().row("quarantine")["fix"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(fix.starts_with("sealift trace a4 "), "{fix}");
}

#[test]
fn what_lost_its_marker_in_quarantine_is_sealed_and_sent_by_the_fix() {
    let host = Host::sound();
    host.breaks_and_is_mended("quarantine", |host| quarantined(host, "open", 0));
    host.sandbox.wait_shipped("open");
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
        let Some(told) = host.doctor_later(later) else {
            return;
        };
        assert_eq!(told.wrong(), ["daemon", "waiting"], "{:#}", told.document);
        assert_eq!(told.row("waiting")["status"], status);
        assert_eq!(told.row("waiting")["details"]["oldest"], "run-1");
    }
}
