//! Two at once, one that is killed, and a file system that knows no rename without replacing.

use super::*;
use crate::{crash_sweep::strace_is_there, service::traced, support::Mounted};

/// In one place, whole: `episodes/` or `quarantine/`.
#[track_caller]
fn in_one_place(sandbox: &Sandbox, id: &str, content: &[u8]) {
    let places = [sandbox.layout.episodes.join(id), sandbox.quarantined(id)];
    let here: Vec<_> = places.iter().filter(|place| place.exists()).collect();
    assert_eq!(here.len(), 1, "{here:?}");
    assert_eq!(fs::read(here[0].join("data.bin")).unwrap(), content);
    assert!(here[0].join("done.marker").exists());
}

#[test]
fn two_at_once_put_each_back_once() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let ids: Vec<_> = (0..40).map(|n| format!("run-{n}")).collect();
    for id in &ids {
        quarantined(&sandbox, id, &reason(id, 422));
    }
    let begun: Vec<_> = (0..3)
        .map(|_| {
            let mut command = sealift();
            command
                .args(["requeue", "--all", "--json", "--data"])
                .arg(sandbox.data());
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let told: Vec<_> = begun
        .into_iter()
        .map(|one| one.wait_with_output().unwrap())
        .collect();
    let of = |one: &Output, list: &str| {
        let document: Value = serde_json::from_slice(&one.stdout).unwrap();
        document[list].as_array().unwrap().clone()
    };
    let back: usize = told.iter().map(|one| of(one, "requeued").len()).sum();
    assert_eq!(back, ids.len());
    for left in told.iter().flat_map(|one| of(one, "left")) {
        assert_eq!(
            left["why"],
            "it went away meanwhile: another process moved it"
        );
    }
    assert_eq!(names(&sandbox.layout.episodes).len(), ids.len());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    for id in &ids {
        in_one_place(&sandbox, id, id.as_bytes());
        assert!(!sandbox.layout.episodes.join(id).join(REASON).exists());
    }
}

#[test]
fn one_that_is_killed_in_the_middle_leaves_it_in_one_place_and_the_next_finishes() {
    if !strace_is_there() {
        return;
    }
    for (call, in_folder) in [
        ("renameat2", "quarantine"),
        ("fsync", "episodes"),
        ("unlink", "episodes"),
    ] {
        let server = Scripted::new(|seen, _| Reply::stored(seen));
        let sandbox = Sandbox::new(server.url());
        quarantined(&sandbox, "run-1", &reason("run-1", 422));
        let path = match (call, in_folder) {
            ("renameat2", _) => sandbox.quarantined("run-1"),
            ("unlink", _) => sandbox.layout.episodes.join("run-1").join(REASON),
            (_, _) => sandbox.layout.episodes.clone(),
        };
        let mut command = sealift();
        command
            .args(["requeue", "run-1", "--data"])
            .arg(sandbox.data());
        let how = format!("inject={call}:signal=KILL:when=1");
        let killed = traced(&sandbox, &command, &path, call, &how)
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{call} was not met");
        in_one_place(&sandbox, "run-1", b"run-1");
        // Whether it was moved or not: from here on it ships.
        requeue(&sandbox, &["run-1"]);
        in_one_place(&sandbox, "run-1", b"run-1");
        assert_eq!(sandbox.ship_once().0, 0, "{call}");
        assert_eq!(names(&sandbox.layout.shipped), ["run-1"]);
        assert_eq!(
            names(&sandbox.shipped("run-1")),
            ["data.bin", "done.marker", "shipping_receipt.json"]
        );
    }
}

#[test]
fn where_noreplace_is_not_known_it_comes_back_and_an_empty_folder_of_a_recorder_is_not_replaced() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    quarantined(&sandbox, "run-1", &reason("run-1", 422));
    quarantined(&sandbox, "run-2", &reason("run-2", 422));
    let put_back = |id: &str| {
        let mut command = sealift();
        command.args(["requeue", id, "--data"]).arg(sandbox.data());
        let path = sandbox.quarantined(id);
        let how = "inject=renameat2:error=EINVAL";
        let told = traced(&sandbox, &command, &path, "renameat2", how)
            .output()
            .unwrap();
        let log = fs::read_to_string(sandbox.path("strace.log")).unwrap();
        (told.status.code(), log.contains("(INJECTED)"))
    };
    assert_eq!(put_back("run-1"), (Some(0), true));
    in_one_place(&sandbox, "run-1", b"run-1");
    // A recorder makes its folder between the look and the move: here, while the rename is held
    // back.
    let mut command = sealift();
    command
        .args(["requeue", "run-2", "--data"])
        .arg(sandbox.data());
    let path = sandbox.quarantined("run-2");
    let how = "inject=renameat2:error=EINVAL:delay_enter=700000";
    let mut strace = traced(&sandbox, &command, &path, "renameat2", how);
    let mut running = strace.stdout(std::process::Stdio::null()).spawn().unwrap();
    let log = sandbox.path("strace.log");
    eventually("it is about to be moved", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("renameat2("))
            || running.try_wait().unwrap().is_some()
    });
    let recorders = sandbox.layout.episodes.join("run-2");
    let made = fs::create_dir(&recorders);
    running.wait().unwrap();
    if made.is_ok() {
        assert_eq!(names(&recorders), [""; 0]);
        assert!(path.exists());
    } else {
        in_one_place(&sandbox, "run-2", b"run-2");
    }
}

#[test]
fn a_daemon_that_starts_while_one_is_copied_back_takes_neither_of_the_two_for_a_killed_ones() {
    if !strace_is_there() {
        return;
    }
    // Held back: the copy gets its name; the source is put aside; the source gets its last name.
    for nth in 1..=3 {
        let sandbox = Sandbox::with_receiver();
        quarantined(&sandbox, "run-1", &reason("run-1", 422));
        let Some(_disk) = Mounted::over(&sandbox.layout.episodes, "64m") else {
            return;
        };
        let mut command = sealift();
        command
            .args(["requeue", "run-1", "--json", "--data"])
            .arg(sandbox.data());
        let log = sandbox.path("strace.log");
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o"])
            .arg(&log)
            .args(["-e", "trace=renameat2"]);
        // The rename that shows that it has to be copied is the first.
        strace.args([
            "-e",
            &format!("inject=renameat2:delay_enter=3s:when={}", nth + 1),
        ]);
        strace
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(std::process::Stdio::piped());
        let running = strace.spawn().unwrap();
        eventually("it is at that rename", || {
            fs::read_to_string(&log).is_ok_and(|log| log.matches("renameat2(").count() > nth)
        });
        let daemon = sandbox.daemon();
        let requeued = running.wait_with_output().unwrap();
        assert!(
            requeued.status.success(),
            "{nth}: {}",
            String::from_utf8_lossy(&requeued.stdout)
        );
        sandbox.wait_shipped("run-1");
        assert_eq!(
            fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
            b"run-1",
            "{nth}"
        );
        assert_eq!(names(&sandbox.layout.quarantine), [""; 0], "{nth}");
        drop(daemon);
    }
}
