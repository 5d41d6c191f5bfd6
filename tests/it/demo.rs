//! `sealift demo`, as a newcomer runs it.

use std::{fs, process::Output};

use crate::support::{Sandbox, names, sealift};

#[track_caller]
fn shown(output: Output) -> String {
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert_eq!(err, "", "nothing is amiss, so nothing is said on stderr");
    out
}

#[test]
fn the_demo_ships_what_it_says_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let out = shown(
        sealift()
            .args(["demo", "--episodes", "6"])
            .env("TMPDIR", temporary.path())
            .output()
            .unwrap(),
    );
    for step in ["sealed", "packed", "delivered  201 Created", "retired"] {
        assert_eq!(
            out.lines()
                .filter(|line| line.contains("run-") && line.contains(&format!(" {step:<11}")))
                .count(),
            6,
            "{step}: {out}"
        );
    }
    assert!(
        out.contains("6 episodes recorded, delivered and retired."),
        "{out}"
    );
    assert!(out.contains("read back             6 of 6"), "{out}");
    assert!(out.contains("median") && out.contains("worst"), "{out}");
    assert!(out.contains("run-06-late-marker"), "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no colour where there is no terminal: {out}"
    );
    assert!(
        out.lines()
            .all(|line| line.len() <= 100 || line.contains("/sealift")),
        "{out}"
    );
    assert_eq!(names(temporary.path()), [""; 0]);
}

#[test]
fn a_demo_in_a_folder_of_its_own_keeps_everything_and_can_be_run_again() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    for (first, last) in [(1, 2), (3, 4)] {
        let out = shown(
            sealift()
                .args(["demo", "--episodes", "2", "--data"])
                .arg(&data)
                .output()
                .unwrap(),
        );
        for folder in ["shipped", "store/episodes"] {
            assert!(out.contains(data.join(folder).to_str().unwrap()), "{out}");
            assert_eq!(names(&data.join(folder)).len(), last);
        }
        assert!(
            data.join(format!("shipped/run-{first:02}-tiny/shipping_receipt.json"))
                .exists()
        );
        assert!(
            data.join(format!("store/episodes/run-{last:02}-late-marker.tar.zst"))
                .exists()
        );
    }
}

#[test]
fn a_demo_stays_away_from_real_episodes() {
    let sandbox = Sandbox::new("");
    sandbox.seal("real", &[("data.bin", b"not for a demo")]);
    let output = sealift()
        .arg("demo")
        .arg("--data")
        .arg(sandbox.data())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not from an earlier demo"));
    assert!(sandbox.layout.episodes.join("real").exists());
    assert!(!sandbox.data().join("store").exists());
}

#[test]
fn a_demo_that_is_interrupted_ends_cleanly() {
    let sandbox = Sandbox::new("");
    let temporary = sandbox.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = sealift();
    command
        .args(["demo", "--episodes", "100000"])
        .env("TMPDIR", &temporary);
    let mut demo = sandbox.start(command);
    demo.wait_log("retired");
    demo.signal("INT");
    assert!(demo.wait().success());
    assert!(demo.log().contains("Stopped: "), "{}", demo.log());
    assert_eq!(names(&temporary), [""; 0]);
}
