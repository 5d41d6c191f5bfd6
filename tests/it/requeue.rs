//! `sealift requeue`: back into the queue, with the daemon and without it, and nothing is
//! overwritten.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the recorder and the operator"
)]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Command, Output},
};

use sealift::{
    disk::tree,
    model::{episode::Fingerprint, layout::REASON, progress::Progress},
};
use serde_json::{Value, json};

use crate::support::{
    Reply, Sandbox, Scripted, Seen, copy_program, each, eventually, json_file, json_of, names,
    sealift,
};

mod races;
mod shipped;
mod window;

/// Rejects what comes first, and takes everything after that.
fn rejecting(first: usize) -> Scripted {
    Scripted::new(move |seen, count| {
        if count < first {
            rejected(422)
        } else {
            Reply::stored(seen)
        }
    })
}

fn rejected(status: u16) -> Reply {
    let kind = match status {
        409 => "conflict",
        412 => "commit-out-of-window",
        _ => "too-large",
    };
    Reply::json(
        status,
        &json!({"type": format!("urn:sealift:{kind}"), "title": "not ours"}),
    )
}

// Of the shared group's test.
const SHIPPER: u32 = 2001;
const RECORDER: u32 = 2002;
const PERSON: u32 = 2003;
const GROUP: u32 = 2000;

/// `sealift requeue` without a receiver, which most of it does not need.
fn requeue(sandbox: &Sandbox, args: &[&str]) -> (i32, String) {
    let mut command = sealift();
    command
        .args(["requeue", "--data"])
        .arg(sandbox.data())
        .args(args);
    told(&mut command)
}

fn told(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let told = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap(), told)
}

fn fingerprint(episode: &Path) -> Fingerprint {
    tree::fingerprint(episode, &Progress::default()).unwrap()
}

/// An episode in quarantine with a reason, as the daemon leaves it.
fn quarantined(sandbox: &Sandbox, folder: &str, reason: &Value) {
    let episode = sandbox.seal("it", &[("data.bin", folder.as_bytes())]);
    fs::write(episode.join(REASON), reason.to_string()).unwrap();
    fs::rename(episode, sandbox.quarantined(folder)).unwrap();
}

fn reason(id: &str, status: u16) -> Value {
    json!({
        "episode_id": id, "status_code": status, "error": "the receiver rejects it", "body": {},
        "verdict": "fatal", "quarantined_at_wall": "2026-11-02T10:00:00Z",
    })
}

fn sealed_in_conflict(sandbox: &Sandbox) {
    eventually("the verdict is in the sidecar", || {
        let sidecar = fs::read(sandbox.layout.outbox.join("a.json")).unwrap_or_default();
        String::from_utf8_lossy(&sidecar).contains("conflict")
    });
}

#[test]
fn what_was_rejected_comes_back_and_is_sent_as_the_same_bytes() {
    let server = rejecting(1);
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.seal("a", &[("data.bin", b"recorded"), ("deep/x", b"y")]);
    let (before, inode) = (fingerprint(&episode), fs::metadata(&episode).unwrap().ino());
    assert_eq!(sandbox.ship_once().1["fatal"], 1);
    assert_eq!(names(&sandbox.quarantined("a")).len(), 4);

    let (code, told) = requeue(&sandbox, &["a"]);
    let expected = format!(
        "requeued  a  from quarantine (422), now in {}\n",
        episode.display()
    );
    assert_eq!((code, told), (0, expected));
    assert_eq!(names(&episode), ["data.bin", "deep", "done.marker"]);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    assert_eq!(
        (fingerprint(&episode), fs::metadata(&episode).unwrap().ino()),
        (before, inode)
    );

    assert_eq!(sandbox.ship_once().1["shipped"], 1);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, seen[1].body);
}

#[test]
fn a_running_daemon_ships_what_came_back_and_finds_nothing_odd_about_it() {
    let server = rejecting(2);
    let sandbox = Sandbox::new(server.url());
    let config = "[shipper]\nreconcile_interval_s = 3600\n";
    let daemon = sandbox.start(sandbox.command_with_config("ship", config));
    for id in ["a", "b"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
        sandbox.wait_quarantined(id);
    }
    let (code, told) = requeue(&sandbox, &["--all"]);
    assert_eq!((code, told.lines().count()), (0, 2), "{told}");
    for id in ["a", "b"] {
        sandbox.wait_shipped(id);
        assert_eq!(
            names(&sandbox.shipped(id)),
            ["data.bin", "done.marker", "shipping_receipt.json"]
        );
    }
    // What it was told of them is what anybody's episodes would have had it say.
    let log = daemon.log();
    assert!(
        !log.contains("not at rest") && !log.contains("taken out"),
        "{log}"
    );
}

#[test]
fn nothing_is_overwritten_and_a_name_that_is_taken_is_said() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "a", &reason("a", 422));
    quarantined(&sandbox, "b", &reason("b", 422));
    sandbox.record("a", &[("new", b"recording")]);
    let (code, told) = requeue(&sandbox, &["a", "b"]);
    assert_eq!(code, 1);
    assert!(
        told.contains("left      a  ") && told.contains("episodes/a is there already"),
        "{told}"
    );
    assert!(told.contains("requeued  b  "), "{told}");
    assert_eq!(names(&sandbox.layout.episodes.join("a")), ["new"]);
    assert_eq!(
        names(&sandbox.quarantined("a")),
        ["data.bin", "done.marker", REASON]
    );
}

#[test]
fn a_numbered_folder_goes_back_under_its_episodes_name() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "a~1", &reason("a", 422));
    assert_eq!(requeue(&sandbox, &["a"]).0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["a"]);
    // An episode may be called so; and a reason of an older shipper names none.
    quarantined(&sandbox, "b~1", &reason("b~1", 422));
    quarantined(
        &sandbox,
        "c",
        &json!({"status_code": 400, "quarantined_at_wall": "2025-01-01T00:00:00Z"}),
    );
    assert_eq!(requeue(&sandbox, &["b"]).0, 1);
    assert_eq!(requeue(&sandbox, &["b~1", "c"]).0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["a", "b~1", "c"]);
    assert_eq!(
        names(&sandbox.layout.episodes.join("c")),
        ["data.bin", "done.marker"]
    );
}

#[test]
fn of_several_folders_of_one_episode_none_is_taken_and_what_is_typed_takes_that_one() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "a", &reason("a", 422));
    quarantined(&sandbox, "a~1", &reason("a", 413));
    quarantined(&sandbox, "b", &reason("b", 422));
    let data = format!(" --data {}", sandbox.data().display());
    for args in [&["a"][..], &["--all"]] {
        let (code, told) = requeue(&sandbox, args);
        assert_eq!(code, 1);
        let told = told.replace(&data, "");
        for typed in [
            "sealift requeue --folder --from quarantine 'a'   (422)",
            "sealift requeue --folder --from quarantine 'a~1'   (413)",
        ] {
            assert!(told.contains(typed), "{told}");
        }
    }
    assert_eq!(names(&sandbox.layout.episodes), ["b"]);
    assert_eq!(
        requeue(&sandbox, &["--folder", "--from", "quarantine", "a~1"]).0,
        0
    );
    assert_eq!(
        fs::read(sandbox.layout.episodes.join("a/data.bin")).unwrap(),
        b"a~1"
    );
    assert_eq!(names(&sandbox.layout.quarantine), ["a"]);
}

#[test]
fn a_conflict_is_tried_again_by_a_running_daemon_at_once_and_by_one_that_only_looks_at_its_next_look()
 {
    for config in [
        "[shipper]\nwatch = \"inotify\"\nreconcile_interval_s = 3600\n",
        "[shipper]\nwatch = \"reconcile-only\"\nreconcile_interval_s = 1\n",
    ] {
        let server = conflicting();
        let sandbox = Sandbox::new(server.url());
        let _daemon = sandbox.start(sandbox.command_with_config("ship", config));
        let episode = sandbox.seal("a", &[("data.bin", b"recorded")]);
        sealed_in_conflict(&sandbox);
        let (code, told) = requeue(&sandbox, &["a"]);
        let expected = format!(
            "requeued  a  from conflict (409): it is packed and sent again, in {}\n",
            episode.display()
        );
        assert_eq!((code, told), (0, expected), "{config}");
        sandbox.wait_shipped("a");
        let seen = server.seen();
        assert_eq!((seen.len(), &seen[0].body), (2, &seen[1].body), "{config}");
        assert_eq!(
            names(&sandbox.layout.episodes),
            [""; 0],
            "no hint is left behind"
        );
    }
}

/// The first is in conflict, whatever it is; what comes then is taken.
fn conflicting() -> Scripted {
    Scripted::new(|seen, count| {
        if count == 0 {
            rejected(409)
        } else {
            Reply::stored(seen)
        }
    })
}

#[test]
fn a_conflict_is_tried_again_at_the_next_start_and_one_that_is_gone_is_no_conflict() {
    let server = conflicting();
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.seal("a", &[]);
    assert_eq!(sandbox.ship_once().1["conflicts"], 1);
    assert_eq!(sandbox.ship_once().1["conflicts"], 1);
    let away = sandbox.path("away");
    fs::rename(&episode, &away).unwrap();
    let (code, told) = requeue(&sandbox, &["--all"]);
    assert_eq!(code, 1);
    assert!(told.contains("not sealed in episodes/ any more"), "{told}");
    fs::rename(&away, &episode).unwrap();
    assert_eq!(
        requeue(&sandbox, &["--all", "--status", "412"]),
        (0, "there is nothing to put back\n".into())
    );
    assert_eq!(requeue(&sandbox, &["--all", "--status", "409"]).0, 0);
    assert_eq!(sandbox.ship_once().1["shipped"], 1);
}

#[test]
fn one_that_is_in_conflict_and_in_quarantine_takes_a_word_more() {
    let sandbox = Sandbox::new(conflicting().url());
    sandbox.seal("a", &[]);
    assert_eq!(sandbox.ship_once().1["conflicts"], 1);
    quarantined(&sandbox, "a", &reason("a", 422));
    let (code, told) = requeue(&sandbox, &["a"]);
    assert_eq!(code, 1);
    assert!(
        told.contains("--from quarantine 'a'") && told.contains("--from conflict 'a'"),
        "{told}"
    );
    assert_eq!(
        requeue(&sandbox, &["--from", "quarantine", "a"]).0,
        1,
        "its name is taken"
    );
    assert_eq!(requeue(&sandbox, &["--from", "conflict", "a"]).0, 0);
}

#[test]
fn an_archive_without_an_episode_is_told_about_with_what_to_type() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[("data.bin", b"recorded")]);
    // Kept, and then the folder goes.
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let mut ship = sealift();
    ship.args([
        "ship",
        "--once",
        "--json",
        "--receiver",
        &busy.url(),
        "--data",
    ])
    .arg(sandbox.data());
    assert_eq!(json_of(ship.output().unwrap()).1["transient_failures"], 1);
    fs::remove_dir_all(sandbox.layout.episodes.join("a")).unwrap();
    sandbox.ship_once();
    let (code, told) = requeue(&sandbox, &["a"]);
    assert_eq!(code, 1);
    assert!(told.contains("an archive without its episode"), "{told}");
    let typed = told.split_once("Type: ").unwrap().1.lines().next().unwrap();
    let data = sandbox.data();
    assert_eq!(
        typed,
        format!("sealift requeue --unpack a --data {}", data.display())
    );
    let (code, told) = requeue(&sandbox, &["--unpack", "a"]);
    assert_eq!(code, 0, "{told}");
    sandbox.ship_once();
    sandbox.wait_shipped("a");
}

#[test]
fn what_is_not_sealed_or_cannot_be_read_is_left_with_what_to_type() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "open", &reason("open", 422));
    fs::remove_file(sandbox.quarantined("open").join("done.marker")).unwrap();
    symlink(sandbox.path("elsewhere"), sandbox.quarantined("link")).unwrap();
    let (code, told) = requeue(&sandbox, &["--all"]);
    assert_eq!((code, told.lines().count()), (1, 1), "{told}");
    assert!(
        told.contains(&format!(
            "Type: sealift seal --again {}",
            sandbox.quarantined("open").display()
        )),
        "{told}"
    );
    let (code, told) = requeue(&sandbox, &["link"]);
    assert_eq!(code, 1);
    assert!(told.contains("sealift trace 'link'"), "{told}");
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
}

#[test]
fn names_that_could_climb_are_no_arguments_and_nothing_is_touched() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "a", &reason("a", 422));
    for args in [
        &["../quarantine/a"][..],
        &["a/b"],
        &[".hidden"],
        &["--folder", "../a"],
        &["a", "--all"],
        &[],
        &["--all", "--folder"],
        &["a", "--unasked"],
        &["--from", "shipped", "a", "--status", "412"],
        &["a", "--status", "99"],
        &["a", "--from", "elsewhere"],
    ] {
        let (code, told) = requeue(&sandbox, args);
        assert_eq!(code, 2, "{args:?}: {told}");
    }
    // A reason is from outside, too: this one names no episode that could be.
    quarantined(&sandbox, "b", &reason("../../evil", 422));
    assert_eq!(requeue(&sandbox, &["--all"]).0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["a", "b"]);
    assert_eq!(names(&sandbox.path("")), ["data"]);
}

#[test]
fn what_would_be_done_is_said_and_not_done_and_all_of_it_is_one_document() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "a", &reason("a", 422));
    quarantined(&sandbox, "b", &reason("b", 413));
    let (code, told) = requeue(&sandbox, &["--all", "--dry-run"]);
    assert_eq!(
        (
            code,
            told.lines()
                .filter(|line| line.starts_with("would "))
                .count()
        ),
        (0, 2),
        "{told}"
    );
    assert_eq!(names(&sandbox.layout.quarantine), ["a", "b"]);
    let (code, told) = requeue(&sandbox, &["a", "b", "none", "--status", "413", "--json"]);
    let document: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(code, 1);
    assert_eq!(document["requeued"][0]["episode_id"], "b");
    assert_eq!(document["requeued"][0]["from"], "quarantine");
    let left: Vec<_> = document["left"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["episode_id"])
        .collect();
    assert_eq!(left, ["a", "none"]);
    assert_eq!(document["stopped"], false);
}

#[test]
fn what_a_reason_says_cannot_command_a_terminal() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let mut hostile = reason("a", 422);
    hostile["verdict"] = json!("orphan");
    hostile["error"] = json!(format!("\u{1b}[2J\u{202e}{}", "x".repeat(100_000)));
    quarantined(&sandbox, "a", &hostile);
    let (code, told) = requeue(&sandbox, &["a"]);
    assert_eq!((code, told.lines().count()), (1, 1));
    assert!(
        !told
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{told:?}"
    );
    assert!(told.len() < 4000, "{}", told.len());
}

#[test]
fn a_user_of_the_shared_group_puts_back_what_is_somebody_elses_and_whose_it_is_stays() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "not root, and CI must be");
        println!("skipped: not root");
        return;
    }
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    quarantined(&sandbox, "a", &reason("a", 422));
    quarantined(&sandbox, "closed", &reason("closed", 422));
    let layout = &sandbox.layout;
    for folder in [
        &layout.episodes,
        &layout.outbox,
        &layout.shipped,
        &layout.quarantine,
        &layout.private,
    ] {
        chown(folder, Some(SHIPPER), Some(GROUP)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o2770)).unwrap();
    }
    for (id, mode) in [("a", 0o2770), ("closed", 0o2750)] {
        let episode = sandbox.quarantined(id);
        fs::set_permissions(&episode, fs::Permissions::from_mode(mode)).unwrap();
        for path in [
            &episode,
            &episode.join("data.bin"),
            &episode.join("done.marker"),
        ] {
            chown(path, Some(RECORDER), Some(GROUP)).unwrap();
        }
    }
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    // The build's own folder may be closed to others.
    let program = sandbox.path("sealift");
    copy_program(env!("CARGO_BIN_EXE_sealift"), &program);
    let before = fingerprint(&sandbox.quarantined("a"));
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={PERSON}"),
        format!("--regid={GROUP}"),
        "--clear-groups".to_owned(),
    ]);
    command
        .arg(&program)
        .args(["requeue", "--all", "--data"])
        .arg(sandbox.data());
    let (code, told) = told(command.env_remove("SEALIFT_CONFIG"));
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("requeued  a  "), "{told}");
    assert!(
        told.contains("left      closed  ")
            && told.contains(&format!("sudo sealift setup --user {SHIPPER} --give ")),
        "{told}"
    );
    let episode = layout.episodes.join("a");
    assert_eq!(names(&episode), ["data.bin", "done.marker"]);
    let of = |path: &Path| {
        fs::metadata(path)
            .map(|found| (found.uid(), found.gid(), found.mode()))
            .unwrap()
    };
    assert_eq!(of(&episode), (RECORDER, GROUP, 0o42_770));
    assert_eq!(of(&episode.join("data.bin")).0, RECORDER);
    assert_eq!(fingerprint(&episode), before);
    assert_eq!(
        names(&sandbox.quarantined("closed")),
        ["data.bin", "done.marker", REASON]
    );
}

#[test]
fn across_file_systems_it_comes_back_whole_and_packs_to_the_same_bytes() {
    let Ok(there) = tempfile::tempdir_in("/dev/shm") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI has a second file system"
        );
        println!("skipped: there is no /dev/shm");
        return;
    };
    let server = rejecting(1);
    let sandbox = Sandbox::new(server.url());
    let quarantine = there.path().join("quarantine");
    let config = format!("[shipper]\nquarantine_dir = {quarantine:?}\n");
    let episode = sandbox.seal("a", &[("data.bin", &[7; 300_000]), ("deep/x", b"y")]);
    let ship = || {
        let mut command = sandbox.command_with_config("ship", &config);
        json_of(command.args(["--once", "--json"]).output().unwrap()).1
    };
    assert_eq!(ship()["fatal"], 1);
    assert_eq!(names(&quarantine), ["a"]);
    let mut command = sandbox.command_with_config("requeue", &config);
    assert_eq!(told(command.arg("a")).0, 0);
    assert_eq!(names(&episode), ["data.bin", "deep", "done.marker"]);
    assert_eq!(
        (names(&quarantine), names(&sandbox.layout.episodes)),
        (vec![], vec!["a".to_owned()])
    );
    assert_eq!(ship()["shipped"], 1);
    let seen = server.seen();
    assert_eq!(seen[0].body, seen[1].body);
}
