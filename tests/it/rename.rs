//! `sealift rename`: one folder gets another name, and nothing is overwritten.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStringExt as _, fs::symlink},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::json;

use crate::support::{Reply, Sandbox, Scripted, json_file, names, sealift};

fn rename(sandbox: &Sandbox, args: &[&OsStr]) -> (i32, String) {
    let mut command = sealift();
    command.args(["rename", "--data"]).arg(sandbox.data());
    let output = command.args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

fn renamed(sandbox: &Sandbox, old: &str, new: &str) -> (i32, String) {
    rename(sandbox, &[old.as_ref(), new.as_ref()])
}

#[test]
fn a_folder_of_any_bytes_gets_the_name_of_an_episode_and_is_shipped() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    for (bytes, old, new) in [
        (b"not \xff text".to_vec(), "not %FF text", "text"),
        (b"-x".to_vec(), "%2Dx", "x"),
        (b"new\nline".to_vec(), "new%0Aline", "line"),
    ] {
        let folder = sandbox.layout.episodes.join(OsString::from_vec(bytes));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("done.marker"), "").unwrap();
        let (code, said) = renamed(&sandbox, old, new);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("shipped as a new episode"), "{said}");
        assert!(!folder.exists());
    }
    assert_eq!(sandbox.ship_once().1["shipped"], 3);
    assert_eq!(names(&sandbox.layout.shipped), ["line", "text", "x"]);
}

#[test]
fn of_two_readings_the_decoded_one_is_meant_and_the_other_can_be_typed() {
    let sandbox = Sandbox::new("");
    sandbox.seal("a%41", &[]);
    sandbox.seal("aA", &[]);
    assert_eq!(renamed(&sandbox, "a%41", "decoded").0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["a%41", "decoded"]);
    assert_eq!(renamed(&sandbox, "a%2541", "literal").0, 0);
    assert_eq!(names(&sandbox.layout.episodes), ["decoded", "literal"]);
    sandbox.seal("b%41", &[]);
    assert_eq!(renamed(&sandbox, "b%41", "alone").0, 0);
}

#[test]
fn nothing_is_overwritten_and_no_name_that_left_is_used_again() {
    let sandbox = Sandbox::new("");
    let old = sandbox.seal("old", &[("data", b"ours")]);
    sandbox.record("open", &[("data", b"another")]);
    fs::create_dir(sandbox.shipped("gone")).unwrap();
    fs::create_dir(sandbox.quarantined("aside")).unwrap();
    fs::write(sandbox.layout.outbox.join("packed.tar.zst"), "").unwrap();
    for new in ["open", "gone", "aside", "packed", "old"] {
        let (code, said) = renamed(&sandbox, "old", new);
        assert_eq!(code, 1, "{new}: {said}");
        assert!(said.contains("is there already"), "{said}");
    }
    assert_eq!(fs::read(old.join("data")).unwrap(), b"ours");
    for new in ["", "-x", ".x", "a/b", "x".repeat(300).as_str()] {
        let mut args: Vec<&OsStr> = vec!["old".as_ref(), new.as_ref()];
        args.insert(0, "--".as_ref());
        let (code, said) = rename(&sandbox, &args);
        assert_eq!(code, 2, "{new}: {said}");
        assert!(said.contains("is no episode's id"), "{said}");
    }
    assert_eq!(names(&sandbox.layout.episodes), ["old", "open"]);
}

#[test]
fn a_name_leads_out_of_no_folder_and_no_link_is_taken_for_an_episode() {
    let sandbox = Sandbox::new("");
    let elsewhere = sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, sandbox.layout.episodes.join("link")).unwrap();
    fs::write(sandbox.layout.episodes.join("file"), "").unwrap();
    fs::create_dir(sandbox.layout.episodes.join(".sealift-copy-1-a")).unwrap();
    for (old, expected) in [
        ("../../elsewhere", "neither in episodes/ nor"),
        ("..%2F..%2Felsewhere", "neither in episodes/ nor"),
        ("..", "neither in episodes/ nor"),
        ("", "neither in episodes/ nor"),
        ("a%00", "neither in episodes/ nor"),
        (".sealift-copy-1-a", "neither in episodes/ nor"),
        ("missing", "neither in episodes/ nor"),
        ("link", "is a symlink"),
        ("file", "is a file"),
    ] {
        let (code, said) = renamed(&sandbox, old, "new");
        assert_eq!(code, 1, "{old}: {said}");
        assert!(said.contains(expected), "{old}: {said}");
    }
    assert!(elsewhere.exists() && !sandbox.layout.episodes.join("new").exists());
}

#[test]
fn what_is_in_both_folders_is_asked_about_and_its_reason_goes_along_in_quarantine() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("a", &[("data", b"new")]);
    let aside = sandbox.quarantined("a");
    fs::create_dir(&aside).unwrap();
    fs::write(aside.join("data"), "old").unwrap();
    fs::write(aside.join("done.marker"), "").unwrap();
    let reason = json!({"episode_id": "a", "status_code": 422, "error": "answered 422", "body": null,
                        "verdict": "fatal", "quarantined_at_wall": "2026-01-01T00:00:00Z"});
    fs::write(aside.join("quarantine_reason.json"), reason.to_string()).unwrap();
    let (code, said) = renamed(&sandbox, "a", "b");
    assert_eq!(code, 1);
    assert!(said.contains("say which with --from"), "{said}");
    let from = |from: &str, new: &str| {
        let args = ["--from", from, "a", new];
        rename(&sandbox, &args.map(OsStr::new))
    };
    let (code, said) = from("quarantine", "b");
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("new episode"), "{said}");
    assert_eq!(from("episodes", "c").0, 0);
    let kept = json_file(&sandbox.quarantined("b").join("quarantine_reason.json"));
    assert_eq!(kept["error"], "answered 422");
    // It is ours still: it is no part of what is shipped.
    let mut requeue = sealift();
    requeue.args(["requeue", "b", "--data"]).arg(sandbox.data());
    assert!(requeue.status().unwrap().success());
    assert_eq!(
        names(&sandbox.layout.episodes.join("b")),
        ["data", "done.marker"]
    );
    assert_eq!(sandbox.ship_once().1["shipped"], 2);
}

#[test]
fn what_may_still_be_recorded_keeps_its_name_until_it_was_left_alone() {
    let sandbox = Sandbox::new("");
    let open = sandbox.record("open", &[("below/data", b"x")]);
    let age = |path: &Path| {
        let long_ago = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        fs::File::open(path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    };
    age(&open);
    age(&open.join("below"));
    let (code, said) = renamed(&sandbox, "open", "new");
    assert_eq!(code, 1);
    assert!(said.contains("is not sealed, and was written to"), "{said}");
    age(&open.join("below/data"));
    let (code, said) = renamed(&sandbox, "open", "new");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("waits for its marker"), "{said}");
}

#[test]
fn of_two_who_rename_to_one_name_one_succeeds() {
    let sandbox = Sandbox::new("");
    let olds: Vec<_> = (0..6).map(|n| format!("old-{n}")).collect();
    for old in &olds {
        sandbox.seal(old, &[]);
    }
    let done = std::thread::scope(|scope| {
        let all: Vec<_> = olds
            .iter()
            .map(|old| scope.spawn(|| renamed(&sandbox, old, "new").0 == 0))
            .collect();
        all.into_iter()
            .map(|one| usize::from(one.join().unwrap()))
            .sum::<usize>()
    });
    assert_eq!((done, names(&sandbox.layout.episodes).len()), (1, 6));
}

#[test]
fn what_a_process_has_open_keeps_its_name_however_long_nothing_was_written() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.record("run-1", &[("data", b"recorded")]);
    let writer = fs::OpenOptions::new()
        .append(true)
        .open(folder.join("data"))
        .unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in [folder.join("data"), folder.clone()] {
        let file = fs::File::open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let (code, said) = renamed(&sandbox, "run-1", "run-2");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data in it is open for writing"), "{said}");
    drop(writer);
    let (code, said) = renamed(&sandbox, "run-1", "run-2");
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_name_of_an_episode_that_left_under_a_number_is_not_used_again() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    assert_eq!(sandbox.ship_once().1["shipped"], 1);
    let moved = std::process::Command::new("mv")
        .args([sandbox.shipped("run-1"), sandbox.shipped("run-1~1")])
        .status();
    assert!(moved.unwrap().success());
    sandbox.seal("again", &[]);
    let (code, said) = renamed(&sandbox, "again", "run-1");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no name of one that left"), "{said}");
}

#[test]
fn an_archive_without_its_episode_keeps_the_name_that_it_is_found_by() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.quarantined("run-1");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("run-1.tar.zst"), "an archive").unwrap();
    let reason = json!({"episode_id": "run-1", "error": "it may be the last copy", "body": null,
                        "verdict": "orphan", "quarantined_at_wall": "2026-01-01T00:00:00Z"});
    fs::write(folder.join("quarantine_reason.json"), reason.to_string()).unwrap();
    let (code, said) = renamed(&sandbox, "run-1", "run-2");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("sealift requeue --unpack run-1 --as NEW"),
        "{said}"
    );
    assert_eq!(json_file(&folder.join("quarantine_reason.json")), reason);
}

#[test]
fn what_is_sealed_under_a_name_that_no_episode_can_have_is_warned_of_with_the_command() {
    let sandbox = Sandbox::new("");
    for (name, typed) in [
        ("-x y", Some("'%2Dx y'")),
        ("run 7\\x", Some("'run 7\\x'")),
        ("run-7", None),
        // It gets its name when it is whole.
        (".run-8", None),
    ] {
        let folder = sandbox.layout.episodes.join(name);
        fs::create_dir(&folder).unwrap();
        let output = sealift().arg("seal").arg(&folder).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        assert_eq!(said.contains("WARNING"), typed.is_some(), "{name}: {said}");
        if let Some(typed) = typed {
            assert!(
                said.contains(&format!(
                    "sealift rename --data {} {typed} NEW",
                    sandbox.data().display()
                )),
                "{said}"
            );
        }
    }
}
