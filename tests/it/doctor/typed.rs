//! What cannot be mended by one file alone: something is broken, its fix is typed as it is shown,
//! and the row is green again.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use sealift::clock::wall_now;
use serde_json::{Value, json};

use super::Host;
use crate::support::{Reply, Sandbox, Scripted, eventually};

fn fix(row: &Value) -> &str {
    row["fix"].as_str().unwrap()
}

/// An installed host that ships, and an editor that puts the right receiver into its file.
fn installed() -> Host {
    let mut host = Host::by_file(Sandbox::with_receiver());
    host.start_daemon();
    host.editor_writes(&host.naming(host.sandbox.url()));
    assert_eq!(host.wrong(), Vec::<String>::new());
    host
}

#[test]
fn a_name_that_nobody_knows_is_looked_up_and_then_mended_in_the_file() {
    let host = installed();
    let row = host.breaks_and_is_mended("receiver-name", |host| {
        host.configure(&host.naming("http://receiver.invalid:8490"));
    });
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("getent hosts receiver.invalid"),
        "{row}"
    );
    host.sandbox.seal("run-1", &[]);
    host.sandbox.wait_shipped("run-1");
}

#[test]
fn a_path_too_much_in_the_address_is_mended_in_the_file() {
    let host = installed();
    let url = format!("{}/store", host.sandbox.url());
    let row =
        host.breaks_and_is_mended("receiver-answer", |host| host.configure(&host.naming(&url)));
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("receiver.url must end before /v1"),
        "{row}"
    );
}

#[test]
fn a_receiver_on_this_machine_is_started_by_its_unit() {
    let mut host = installed();
    let address = host.sandbox.kill_receiver();
    let row = host.turned("receiver-reachable", &[]);
    // Until it is asked for.
    let waits = host.sandbox.path("unit.sealift-receiver.service");
    fs::write(&waits, "").unwrap();
    host.type_fix(&row);
    assert!(!waits.exists(), "{row}");
    host.sandbox.start_receiver(&address);
    assert_eq!(host.wrong(), Vec::<String>::new());
}

#[test]
fn a_receiver_on_this_machine_that_systemd_does_not_know_is_tried_and_a_person_starts_it() {
    let mut host = Host::sound();
    host.unit("LoadState=not-found\nActiveState=inactive");
    let address = host.sandbox.kill_receiver();
    let row = host.turned("receiver-reachable", &[]);
    // It starts none: an empty store would take everything a second time.
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("start it here as it was started before"),
        "{row}"
    );
    let typed = host.type_fix(&row).1;
    assert!(
        String::from_utf8_lossy(&typed.stderr).contains("Failed to connect to"),
        "{typed:?}"
    );
    host.sandbox.start_receiver(&address);
    eventually("it is reached", || host.wrong().is_empty());
    host.sandbox.seal("run-1", &[]);
    host.sandbox.wait_shipped("run-1");
}

#[test]
fn who_does_not_answer_as_a_receiver_is_asked_by_hand_as_the_doctor_asks() {
    let says = Arc::new(AtomicU16::new(503));
    let script = Arc::clone(&says);
    let server = Scripted::new(move |_, _| Reply::empty(script.load(Ordering::SeqCst)));
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    let row = host.turned("receiver-answer", &["daemon".to_owned()]);
    let typed = host.type_fix(&row).1;
    assert!(
        String::from_utf8_lossy(&typed.stderr).contains("< HTTP/1.1 503"),
        "{typed:?}"
    );
    let asked = server.seen().pop().unwrap();
    assert!(
        asked.head.starts_with("GET /v1/admission "),
        "{}",
        asked.head
    );
    says.store(404, Ordering::SeqCst);
    assert_eq!(host.wrong(), ["daemon"]);
}

#[test]
fn a_web_server_in_the_receivers_place_is_held_and_the_fix_gives_the_right_address() {
    let host = installed();
    // As python3 -m http.server answers.
    let server = Scripted::new(|seen, _| match seen.head.starts_with("PUT") {
        true => Reply::text(
            501,
            "text/html",
            "<!DOCTYPE HTML>\n<html lang=\"en\">Unsupported method</html>",
        ),
        false => Reply::html(404),
    });
    host.configure(&host.naming(&server.url()));
    host.daemon().signal("HUP");
    // Until then it goes where the daemon was told at its start.
    host.daemon().wait_log("reloaded");
    host.sandbox.seal("run-1", &[]);
    eventually("it is held", || {
        host.doctor().row("hold")["status"] == "red"
    });
    let row = host.turned("hold", &[]);
    let summary = row["summary"].as_str().unwrap();
    assert!(
        summary.contains("answered 501") && !summary.contains('<'),
        "{summary}"
    );
    assert_eq!(host.doctor().first_red().unwrap()["id"], "hold");
    assert!(host.type_fix(&row).1.status.success());
    host.sandbox.wait_shipped("run-1");
    eventually("nothing is wrong", || host.wrong().is_empty());
}

#[test]
fn a_clock_is_set_by_the_fix() {
    let sandbox = Sandbox::new("");
    let off = sandbox.path("off");
    let theirs = off.clone();
    let server = Scripted::new(move |_, _| {
        let ahead: i64 = fs::read_to_string(&theirs).map_or(0, |text| text.parse().unwrap());
        let seconds = u64::try_from(wall_now().unix_seconds() - ahead).unwrap();
        let date = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        Reply::empty(404).header(&format!("Date: {}", httpdate::fmt_http_date(date)))
    });
    let host = Host::without_a_daemon(Sandbox::new(server.url()));
    // It says what it was told, and the clocks agree.
    host.script(
        "timedatectl",
        &format!(
            "#!/bin/bash\n[ \"$*\" = 'set-ntp true' ] && rm '{}'\n",
            off.display()
        ),
    );
    for ahead in ["600", "200000"] {
        host.breaks_and_is_mended("clock", |_| fs::write(&off, ahead).unwrap());
    }
}

/// A daemon whose receiver answers a PUT as the test says, and whatever else as a web server.
fn answering(status: Reply) -> (Host, Scripted, Arc<AtomicU16>) {
    let mended = Arc::new(AtomicU16::new(0));
    let script = Arc::clone(&mended);
    let server = Scripted::new(move |seen, _| {
        match (seen.head.starts_with("PUT"), script.load(Ordering::SeqCst)) {
            (true, 0) => status.clone(),
            (true, _) => Reply::stored(seen),
            (false, _) => Reply::empty(404),
        }
    });
    let mut host = Host::without_a_daemon(Sandbox::new(server.url()));
    host.start_daemon();
    (host, server, mended)
}

#[test]
fn what_was_refused_is_sent_again_by_the_fix_once_what_stood_between_is_gone() {
    let (host, _server, mended) = answering(Reply::html(413));
    host.sandbox.seal("large", &[]);
    eventually("it is refused", || {
        host.doctor().row("refused")["status"] == "red"
    });
    let row = host.turned("refused", &[]);
    mended.store(1, Ordering::SeqCst);
    assert!(host.type_fix(&row).1.status.success());
    host.sandbox.wait_shipped("large");
    eventually("nothing is wrong", || host.wrong().is_empty());
}

#[test]
fn what_waits_for_long_is_sent_by_the_fix_once_the_receiver_takes_it() {
    let (host, _server, mended) = answering(Reply::json(503, &json!({"title": "later"})));
    host.sandbox.seal("run-1", &[]);
    // Weather, which is a person's affair only once it has lasted.
    eventually("it is held", || {
        host.doctor().row("hold")["status"] == "yellow"
    });
    let Some(told) = host.doctor_later("+2h") else {
        return;
    };
    assert_eq!(told.wrong(), ["hold", "waiting"], "{:#}", told.document);
    mended.store(1, Ordering::SeqCst);
    assert!(host.type_fix(&told.row("waiting")).1.status.success());
    host.sandbox.wait_shipped("run-1");
    eventually("nothing waits", || {
        host.doctor_later("+2h").unwrap().wrong().is_empty()
    });
}

#[test]
fn every_fix_that_calls_systemctl_names_the_unit_that_is_configured() {
    let mut host = Host::sound();
    host.stop_daemon();
    host.configure("[doctor]\nunit = \"lab-shipper\"\n[receiver]\ntoken_file = '/no/such/token'\n");
    host.unit_is("ActiveState", "failed");
    host.unit_is("NRestarts", "9");
    host.unit_is("WatchdogUSec", "0");
    host.sandbox.seal("-odd", &[]);
    host.sandbox.kill_receiver();
    host.journal(&[&json!({"MESSAGE": "x", "VERDICT": "fatal", "STATUS_CODE": "412"}).to_string()]);
    let told = host.doctor();
    let fixes: Vec<_> = told
        .rows()
        .iter()
        .filter_map(|row| row["fix"].as_str())
        .collect();
    assert!(fixes.len() > 5, "{fixes:?}");
    assert!(
        fixes
            .iter()
            .filter(|fix| fix.contains("lab-shipper.service"))
            .count()
            >= 4,
        "{fixes:?}"
    );
    for fix in fixes {
        assert!(!fix.contains("sealift.service"), "{fix}");
    }
}

#[test]
fn on_a_healthy_host_without_a_file_it_is_asked_again_with_the_receiver_that_the_daemon_knows() {
    let host = Host::sound();
    let mut command = crate::support::sealift();
    command
        .args(["doctor", "--json", "--data"])
        .arg(host.sandbox.data());
    host.at_home(&mut command);
    let told = super::told(&command.output().unwrap());
    let row = told.row("configuration");
    assert_eq!(
        (told.wrong(), &row["status"]),
        (vec!["configuration".to_owned()], &"yellow".into())
    );
    let again = host.type_in(&format!("{} --json", fix(&row)));
    assert_eq!(super::told(&again).wrong(), Vec::<String>::new());
}

/// Types a command into `sh`, which finds the program under test.
fn paste(line: &str, folder: &Path) -> std::process::Output {
    let program = Path::new(env!("CARGO_BIN_EXE_sealift"));
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-c", line])
        .current_dir(folder)
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env_remove("SEALIFT_CONFIG")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn written_long_ago(path: &Path) {
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    fs::File::open(path)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
}

/// An archive alone in `quarantine/`, of an episode of this name.
fn orphan(quarantine: &Path, id: &str) {
    let place = quarantine.join(id);
    fs::create_dir(&place).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["", "done.marker"] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(0);
        let kind = if name.is_empty() {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        };
        header.set_entry_type(kind);
        let path = format!("{id}/{name}");
        tar.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let archive = zstd::encode_all(&*tar.into_inner().unwrap(), 1).unwrap();
    fs::write(place.join(format!("{id}.tar.zst")), archive).unwrap();
    let reason = serde_json::json!({"episode_id": id, "error": "it may be the last copy of its episode", "body": null,
        "verdict": "orphan", "quarantined_at_wall": "2026-01-01T00:00:00Z"});
    fs::write(place.join("quarantine_reason.json"), reason.to_string()).unwrap();
}

#[test]
fn the_fixes_for_a_data_folder_and_episodes_of_any_bytes_do_what_they_say_when_they_are_pasted() {
    let ids = [
        "L\u{e4}ufe \u{202e}x",
        "it's $(touch pwned) `id`",
        "a; b & c | d # e",
        "100%41*?",
    ];
    let folders: [&[u8]; 4] = [
        b"it's $(touch pwned) \"x\" ; # y",
        b"new\nline\x07 and\ttab",
        b"not \xff text",
        b"-rf ~ %41",
    ];
    for (folder, id) in folders.into_iter().zip(ids) {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join(OsStr::from_bytes(folder));
        let doctor = || {
            let mut command = crate::support::sealift();
            command.args([
                "doctor",
                "--json",
                "--receiver",
                "http://127.0.0.1:9",
                "--data",
            ]);
            let told = command.arg(&data).output().unwrap().stdout;
            serde_json::from_slice::<Value>(&told).unwrap()
        };
        // Types the first fix of these rows, again and again, until none of them is wrong.
        let mend = |ids: &[&str]| {
            for _ in 0..12 {
                let told = doctor();
                let rows = told["checks"].as_array().unwrap();
                let wrong = |row: &&Value| {
                    row["fix"].is_string() && ids.contains(&row["id"].as_str().unwrap())
                };
                let Some(row) = rows.iter().find(wrong) else {
                    return;
                };
                let fix = fix(row);
                assert!(!fix.contains(['\n', '\u{7}', '\u{202e}']), "{fix}");
                let typed = paste(fix, home.path());
                assert!(typed.status.success(), "{fix}: {typed:?}");
            }
            panic!("not mended: {:#}", doctor());
        };
        mend(&["folders", "folder-access"]);
        let [episodes, quarantine] = ["episodes", "quarantine"].map(|name| data.join(name));
        // A marker that is none, a recording that was forgotten, a name that is no id.
        fs::create_dir_all(episodes.join(id).join("done.marker")).unwrap();
        let open = episodes.join(format!("open {id}"));
        fs::create_dir(&open).unwrap();
        written_long_ago(&open);
        let stranger = episodes.join(OsStr::from_bytes(b"-it's\n\xff"));
        fs::create_dir(&stranger).unwrap();
        fs::write(stranger.join("done.marker"), "").unwrap();
        mend(&["markers", "open-long", "names"]);
        for path in [episodes.join(id), open] {
            assert!(path.join("done.marker").is_file(), "{}", path.display());
        }
        assert!(!stranger.exists());
        orphan(&quarantine, &format!("back {id}"));
        mend(&["quarantine"]);
        let back = episodes.join(format!("back {id}"));
        assert!(back.join("done.marker").is_file());
        assert_eq!(fs::read_dir(&quarantine).unwrap().count(), 0);
        // Nothing else was run.
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
