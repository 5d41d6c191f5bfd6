//! The words that people and programs depend on: commands, configuration, exit codes, names on
//! disk.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Output},
};

use serde_json::json;

use crate::support::{
    Reply, Sandbox, Scripted, each, eventually, json_file, json_of, names, sealift,
};

/// Exit code, stdout, stderr.
fn said(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn run(command: &mut Command) -> (i32, String, String) {
    said(command.output().unwrap())
}

#[test]
fn names_that_are_no_ids_are_left_alone_and_told_once() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let strangers = ["-dash", "tab\there", "back\\slash", &"x".repeat(201)];
    for name in strangers {
        sandbox.seal(name, &[]);
    }
    let invalid = sandbox
        .layout
        .episodes
        .join(std::ffi::OsStr::from_bytes(b"latin-\xfc"));
    fs::create_dir(&invalid).unwrap();
    fs::write(invalid.join("done.marker"), b"").unwrap();
    fs::write(sandbox.layout.episodes.join("a file"), b"").unwrap();
    let daemon =
        sandbox.start(sandbox.command_with_config("ship", "[shipper]\nreconcile_interval_s = 1"));
    // Odd, and ids all the same.
    for id in ["Lauf grün", "100%", "a~1", "a:b?c#d", "~", "x y"] {
        sandbox.seal(id, &[]);
        sandbox.wait_shipped(id);
    }
    eventually("it has looked more than once", || {
        daemon.log().matches("is left alone").count() >= 5
    });
    // Two more passes find them again and say nothing.
    for id in ["later", "still later"] {
        sandbox.record(id, &[]);
        let episode = sandbox.layout.episodes.join(id);
        fs::write(episode.join("done.marker"), b"").unwrap();
        sandbox.wait_shipped(id);
    }
    let log = daemon.log();
    assert_eq!(log.matches("is left alone").count(), 5, "{log}");
    assert!(
        log.contains("tab\\there in episodes/") && !log.contains('\t'),
        "{log}"
    );
    assert_eq!(names(&sandbox.layout.episodes).len(), 6);
}

#[test]
fn a_second_daemon_on_the_same_folder_is_told_who_holds_it() {
    let sandbox = Sandbox::with_receiver();
    let daemon = sandbox.daemon();
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    for once in [&[][..], &["--once"]] {
        let (code, stdout, stderr) = run(sandbox.command("ship").args(once));
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(
            stderr.contains(&format!("process {}", daemon.pid())),
            "{stderr}"
        );
    }
    // The lock is the kernel's: it goes with the process, however that ends.
    daemon.kill();
    assert_eq!(sandbox.ship_once().0, 0);
}

#[test]
fn a_wrong_configuration_touches_nothing_and_shows_where() {
    let cases = [
        (
            "[shipper]\nhost_id = \"lab\"\nreconcile_intervall_s = 5",
            vec!["3", "reconcile_interval_s"],
        ),
        (
            "[receivr]\nurl = \"http://h\"",
            vec!["1", "did you mean `receiver`"],
        ),
        (
            "[receiver]\nconcurrency = \"four\"",
            vec!["2", "receiver.concurrency must be a whole number"],
        ),
        (
            "[shipper]\noutbox_dir = \"outbox\"",
            vec!["shipper.outbox_dir: ", "give an absolute path"],
        ),
        (
            "[shipper]\ndata_dir = \"~/data\"",
            vec!["shipper.data_dir: ", "~ means nothing here"],
        ),
        (
            "[receiver]\ntoken_file = \"token\"",
            vec!["receiver.token_file: ", "give an absolute path"],
        ),
        ("[receiver]\nconcurrency = 0", vec!["receiver.concurrency"]),
        ("[pack]\nlevel = 20", vec!["pack.level", "19"]),
        (
            "[shipper]\nwatch = \"sometimes\"",
            vec!["shipper.watch", "reconcile-only"],
        ),
        ("[shipper]\nhost_id = \"lab 07\"", vec!["shipper.host_id"]),
        (
            "[shipper]\nreconcile_interval_s = 0",
            vec!["shipper.reconcile_interval_s"],
        ),
        (
            "[receiver]\nclient_cert_file = \"/c.pem\"",
            vec!["client_key_file"],
        ),
        (
            "[receiver]\nca_file = \"/nowhere/ca.pem\"",
            vec!["receiver.ca_file /nowhere/ca.pem"],
        ),
        (
            "[receiver]\ntoken_file = \"/nowhere/token\"",
            vec!["receiver.token_file /nowhere/token"],
        ),
        (
            "[receiver.headers]\nX = \"{is}\"",
            vec!["receiver.headers", "{id}"],
        ),
        ("[shipper", vec!["1"]),
    ];
    each(&cases, |(toml, words)| {
        let sandbox = Sandbox::new("http://127.0.0.1:1");
        fs::remove_dir(&sandbox.layout.private).unwrap();
        for command in ["ship", "config"] {
            let path = sandbox.path("sealift.toml");
            fs::write(&path, toml).unwrap();
            let mut sealift = sealift();
            sealift.args(if command == "ship" {
                &["ship", "--once"][..]
            } else {
                &["config", "check"]
            });
            sealift
                .arg("--config")
                .arg(path)
                .arg("--data")
                .arg(sandbox.data());
            let (code, stdout, stderr) = run(sealift.args(["--receiver", "http://127.0.0.1:1"]));
            assert_eq!((code, stdout.as_str()), (2, ""), "{toml}: {stderr}");
            for word in words {
                assert!(stderr.contains(word), "{toml}: no {word:?} in {stderr}");
            }
            assert!(stderr.matches("os error").count() <= 1, "{stderr}");
        }
        assert!(!sandbox.layout.private.exists());
    });
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let (code, _, stderr) = run(sandbox
        .command("ship")
        .args(["--config", "/nowhere/sealift.toml"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("/nowhere/sealift.toml"), "{stderr}");
    assert_eq!(stderr.matches("os error").count(), 1, "{stderr}");
}

#[test]
fn wrong_arguments_touch_nothing() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let data = sandbox.path("untouched");
    let data = data.to_str().unwrap();
    for args in [
        &[][..],
        &["shipp"],
        &["ship", "--onec"],
        &["ship", "--data", data, "--receiver", "ftp://h"],
        &["ship", "--data", data, "--receiver", "http://user:secret@h"],
        &["ship", "--data", data, "--receiver", ""],
        &["seal"],
        &["config"],
        &["receive", "--listen", "here", "--store", data],
    ] {
        let (code, stdout, stderr) = run(sealift().args(args));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(
            !stderr.is_empty() && !stderr.contains("secret"),
            "{args:?}: {stderr}"
        );
    }
    assert!(!sandbox.path("untouched").exists());
    for args in [&["--help"][..], &["--version"], &["ship", "--help"]] {
        let (code, stdout, _) = run(sealift().args(args));
        assert!(code == 0 && !stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn data_and_receiver_alone_are_enough_and_the_folders_are_made() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let data = sandbox.path("new/data");
    let (code, stdout, _) = run(sealift()
        .args([
            "ship",
            "--once",
            "--json",
            "--receiver",
            &server.url(),
            "--data",
        ])
        .arg(&data));
    assert_eq!(code, 0);
    assert_eq!(
        stdout,
        "{\"scanned\":0,\"shipped\":0,\"transient_failures\":0,\"conflicts\":0,\"fatal\":0,\"held\":0}\n"
    );
    assert_eq!(
        names(&data),
        [".sealift", "episodes", "outbox", "quarantine", "shipped"]
    );
}

#[test]
fn the_environment_names_the_configuration_and_arguments_lie_over_it() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    let config = sandbox.path("from-environment.toml");
    let text = format!(
        "[shipper]\ndata_dir = {:?}\nhost_id = \"by-file\"\nshipped_dir = {:?}\n[receiver]\nurl = \"http://127.0.0.1:1\"",
        sandbox.data(),
        sandbox.path("elsewhere")
    );
    fs::write(&config, text).unwrap();
    let mut ship = sealift();
    ship.env("SEALIFT_CONFIG", &config)
        .args(["ship", "--once", "--receiver", &server.url()]);
    assert_eq!(run(&mut ship).0, 0);
    assert_eq!(server.seen()[0].header("sealift-host"), Some("by-file"));
    assert_eq!(names(&sandbox.path("elsewhere")), ["run-1"]);

    // A file that is named by hand goes before the one that the environment names.
    let other = sandbox.path("by-hand.toml");
    fs::write(&other, "[shipper]\nhost_id = \"by-hand\"").unwrap();
    let mut show = sealift();
    show.env("SEALIFT_CONFIG", &config)
        .args(["config", "show", "--config"])
        .arg(&other);
    let (code, stdout, _) = run(&mut show);
    assert!(
        code == 0 && stdout.contains("by-hand") && !stdout.contains("by-file"),
        "{stdout}"
    );
}

#[test]
fn the_configuration_can_be_checked_shown_and_begun_from() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let (code, sample, _) = run(sealift().args(["config", "default"]));
    assert_eq!(code, 0);
    let path = sandbox.path("sample.toml");
    fs::write(&path, &sample).unwrap();
    let (code, stdout, stderr) = run(sealift().args(["config", "check", "--config"]).arg(&path));
    assert_eq!(
        (code, stdout.as_str()),
        (0, "the configuration is right\n"),
        "{stderr}"
    );
    // Every key that is commented out is a key all the same.
    let commented = |line: &str| {
        let text = line.strip_prefix("# ")?;
        text.split_once(" = ")
            .filter(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))?;
        Some(text.to_owned())
    };
    let live: Vec<_> = sample
        .lines()
        .map(|line| commented(line).unwrap_or_else(|| line.to_owned()))
        .collect();
    fs::write(&path, live.join("\n")).unwrap();
    let (code, stdout, stderr) = run(sealift().args(["config", "show", "--config"]).arg(&path));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("quarantine_keep_days = 30"), "{stdout}");
    let first = format!("# read from {};", path.display());
    assert!(stdout.starts_with(&first), "{stdout}");
    let shown = sandbox.path("shown.toml");
    fs::write(&shown, &stdout).unwrap();
    let again = run(sealift().args(["config", "show", "--config"]).arg(&shown)).1;
    assert_eq!(
        again.split_once('\n').unwrap().1,
        stdout.split_once('\n').unwrap().1
    );
}

#[test]
fn what_is_shown_is_what_is_in_force_without_the_secrets() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let path = sandbox.path("sealift.toml");
    fs::write(
        &path,
        "[receiver]\nconcurrency = 9\n[receiver.headers]\nX-Key = \"hush\"",
    )
    .unwrap();
    let mut show = sealift();
    show.args([
        "config",
        "show",
        "--data",
        "data",
        "--receiver",
        "http://h",
        "--config",
    ])
    .arg(&path);
    let (code, stdout, stderr) = run(show.current_dir(sandbox.path("")));
    assert_eq!(code, 0, "{stderr}");
    for line in [
        format!("data_dir = \"{}\"", sandbox.data().display()),
        format!("outbox_dir = \"{}\"", sandbox.layout.outbox.display()),
        "watch = \"auto\"".to_owned(),
        "quarantine_keep_days = 30".to_owned(),
        "url = \"http://h\"".to_owned(),
        "concurrency = 9".to_owned(),
        "idle_timeout_s = 60".to_owned(),
        "X-Key = \"…\"".to_owned(),
        "listen = \"127.0.0.1:8490\"".to_owned(),
    ] {
        assert!(
            stdout.lines().any(|shown| shown == line),
            "no {line} in {stdout}"
        );
    }
    assert!(!stdout.contains("hush"), "{stdout}");
    let (_, stdout, _) =
        run(sealift().args(["config", "show", "--data", "/d", "--receiver", "http://h"]));
    assert!(stdout.starts_with("# no file was read;"), "{stdout}");
}

#[test]
fn a_relative_path_is_taken_from_the_command_line_and_an_empty_variable_names_no_file() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[]);
    let mut ship = sealift();
    ship.args([
        "ship",
        "--once",
        "--data",
        "data",
        "--receiver",
        &server.url(),
    ]);
    let (code, _, stderr) = run(ship.env("SEALIFT_CONFIG", "").current_dir(sandbox.path("")));
    assert_eq!(code, 0, "{stderr}");
    assert!(sandbox.shipped("run-1").exists());
}

#[test]
fn a_secret_that_others_can_read_and_a_token_in_clear_text_are_warned_of() {
    let sandbox = Sandbox::new("http://192.0.2.1:1");
    let (path, token) = (sandbox.path("sealift.toml"), sandbox.path("token"));
    fs::write(&path, format!("[receiver]\ntoken_file = {token:?}")).unwrap();
    fs::write(&token, "s3cret").unwrap();
    let said = |mode: u32, args: &[&str], url: &str| {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = sealift();
        command
            .args(args)
            .arg("--config")
            .arg(&path)
            .args(["--receiver", url, "--data"])
            .arg(sandbox.data());
        let (code, _, stderr) = run(&mut command);
        assert!(code == 0 && !stderr.contains("s3cret"), "{stderr}");
        stderr
    };
    let (check, once) = (&["config", "check"][..], &["ship", "--once"][..]);
    for args in [check, once] {
        let stderr = said(0o644, args, "https://192.0.2.1:1");
        assert!(
            stderr.contains("chmod 0640") && !stderr.contains("clear text"),
            "{args:?}: {stderr}"
        );
        let stderr = said(0o640, args, "http://192.0.2.1:1");
        assert!(
            !stderr.contains("chmod") && stderr.contains("clear text"),
            "{args:?}: {stderr}"
        );
        let stderr = said(0o640, args, "http://127.0.0.1:1");
        assert!(
            !stderr.contains("chmod") && !stderr.contains("clear text"),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn one_pass_says_whether_anything_was_left_undone() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "fatal" => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "detail": "no"}),
        ),
        "conflict" => Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "detail": "other"}),
        ),
        "weather" => Reply::empty(503),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    for id in ["a", "b", "fatal", "conflict", "weather"] {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    sandbox.record("open", &[]);
    let (code, tally) = sandbox.ship_once();
    assert_eq!(code, 1);
    let expected = json!({"scanned": 5, "shipped": 2, "transient_failures": 1, "conflicts": 1, "fatal": 1, "held": 0});
    assert_eq!(tally, expected);
    assert_eq!(
        names(&sandbox.layout.episodes),
        ["conflict", "open", "weather"]
    );
}

#[test]
fn what_somebody_believes_to_have_sealed_is_told_and_counted() {
    type Mistake = fn(&Sandbox);
    let mistakes: [(Mistake, &str); 6] = [
        (
            |it| fs::create_dir(it.record("a", &[]).join("done.marker")).unwrap(),
            "a directory",
        ),
        (
            |it| std::os::unix::fs::symlink("x", it.record("a", &[]).join("done.marker")).unwrap(),
            "a symlink",
        ),
        (
            |it| fifo(&it.record("a", &[]).join("done.marker")),
            "a FIFO",
        ),
        (
            |it| drop(it.seal("-a", &[])),
            "-a in episodes/ is left alone",
        ),
        (
            |it| fs::write(it.layout.episodes.join("done.marker"), b"").unwrap(),
            "seals nothing here",
        ),
        (
            |it| {
                fs::create_dir(it.path("real")).unwrap();
                fs::write(it.path("real/done.marker"), b"").unwrap();
                std::os::unix::fs::symlink(it.path("real"), it.layout.episodes.join("a")).unwrap();
            },
            "a in episodes/ is left alone: it is a symlink",
        ),
    ];
    each(&mistakes, |(mistake, told)| {
        let sandbox = Sandbox::new("http://127.0.0.1:9");
        mistake(&sandbox);
        let (code, stdout, stderr) = run(sandbox.command("ship").args(["--once", "--json"]));
        assert_eq!(code, 1, "{told}: {stderr}");
        assert!(
            stdout.contains("\"scanned\":0") && stdout.contains("\"transient_failures\":1"),
            "{stdout}"
        );
        assert_eq!(stderr.matches(told).count(), 1, "{told}: {stderr}");
        if told.starts_with("a ") && !told.contains("in episodes/") {
            assert!(
                stderr.contains("done.marker must be a regular file"),
                "{stderr}"
            );
            let (code, _, stderr) =
                run(sealift().arg("seal").arg(sandbox.layout.episodes.join("a")));
            assert_eq!(code, 1);
            assert!(
                stderr.contains(told) && stderr.contains("must be a regular file"),
                "{stderr}"
            );
        }
    });
}

fn fifo(path: &std::path::Path) {
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        kind,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
}

#[test]
fn what_seal_sealed_ships_with_its_manifest_verified() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.record(
        "run-1",
        &[("data.bin", b"recorded"), ("deep/er/notes.txt", b"once")],
    );
    let (code, stdout, stderr) = run(sealift().arg("seal").arg(&episode));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("2 files, 12 bytes"), "{stdout}");
    let manifest = json_file(&episode.join("done.marker"));
    assert_eq!(manifest["sealift_manifest"], 1);
    assert_eq!(manifest["files"][1]["path"], "deep/er/notes.txt");
    assert_eq!(sandbox.ship_once().0, 0);
    assert_eq!(
        json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"))["manifest"],
        "verified"
    );
}

#[test]
fn seal_takes_an_empty_folder_and_refuses_what_it_cannot_seal() {
    let sandbox = Sandbox::with_receiver();
    let empty = sandbox.record("empty", &[]);
    fifo(&empty.join("pipe"));
    let (code, stdout, _) = run(sealift().arg("seal").arg(&empty));
    assert!(
        code == 0 && stdout.contains("0 files, 0 bytes") && stdout.contains("pipe, a FIFO"),
        "{stdout}"
    );
    let one = sandbox.record("one", &[("data.bin", b"recorded")]);
    assert!(
        run(sealift().arg("seal").arg(&one))
            .1
            .contains("1 file, 8 bytes")
    );
    let marker = fs::read(empty.join("done.marker")).unwrap();
    let (code, _, stderr) = run(sealift().arg("seal").arg(&empty));
    assert!(code == 1 && stderr.contains("seal"), "{stderr}");
    assert_eq!(fs::read(empty.join("done.marker")).unwrap(), marker);
    fs::write(sandbox.path("a-file"), b"").unwrap();
    for path in [sandbox.path("a-file"), sandbox.path("nowhere")] {
        let (code, _, stderr) = run(sealift().arg("seal").arg(&path));
        assert!(
            code == 1 && stderr.contains(path.to_str().unwrap()),
            "{stderr}"
        );
    }
    assert_eq!(sandbox.ship_once().0, 0);
}

#[test]
fn what_is_not_as_its_manifest_says_is_quarantined_naming_the_file_and_never_sent() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    for (id, damage) in [("altered", "data.bin"), ("added", "more.bin")] {
        let episode = sandbox.record(id, &[("data.bin", b"recorded")]);
        assert_eq!(run(sealift().arg("seal").arg(&episode)).0, 0);
        fs::write(episode.join(damage), b"damaged!").unwrap();
        let (code, tally) = sandbox.ship_once();
        assert_eq!((code, &tally["fatal"]), (1, &json!(1)), "{tally}");
        let reason = json_file(&sandbox.quarantined(id).join("quarantine_reason.json"));
        assert_eq!(
            (&reason["status_code"], &reason["verdict"]),
            (&json!(null), &json!("fatal"))
        );
        assert!(
            reason["error"].as_str().unwrap().contains(damage),
            "{reason}"
        );
    }
    assert_eq!(server.connections(), 0);
    assert_eq!(sandbox.outbox(), [""; 0]);
}

#[test]
fn names_from_outside_neither_begin_a_line_of_the_log_nor_turn_it_around() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.record("x\u{202e}gnp", &[]);
    fifo(&episode.join("a\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{202e}"));
    fs::write(episode.join("done.marker"), b"").unwrap();
    let (code, _, stderr) = run(sandbox.command("ship").args(["--once", "--json"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("FIFO") && stderr.contains("shipped x\\u{202e}gnp"),
        "{stderr}"
    );
    assert!(!stderr.contains(['\u{202e}', '\u{1b}']), "{stderr}");
    assert!(
        !stderr
            .lines()
            .any(|line| line.contains("forged") && line.starts_with("2026-01-01")),
        "{stderr}"
    );
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "an operator renames as they like"
)]
fn folders_that_are_one_behind_a_symlink_are_refused() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    sandbox.seal("a", &[]);
    fs::rename(&sandbox.layout.shipped, sandbox.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(&sandbox.layout.episodes, &sandbox.layout.shipped).unwrap();
    let (code, _, stderr) = run(sandbox.command("ship").args(["--once"]));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("are the same folder"), "{stderr}");
    assert_eq!(names(&sandbox.layout.episodes), ["a"]);
}

#[test]
fn a_pass_that_could_not_look_is_no_success() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    for id in ["a", "b"] {
        let episode = sandbox.seal(id, &[]);
        fs::set_permissions(episode, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let pass = || {
        let mut command = sandbox.command("ship");
        command.args(["--once", "--json"]);
        // Root may look at everything.
        if rustix::process::geteuid().is_root() {
            command.uid(65_534);
        }
        json_of(command.output().unwrap())
    };
    if rustix::process::geteuid().is_root() {
        let owned = Command::new("chown")
            .args(["-R", "65534"])
            .arg(sandbox.data())
            .status()
            .unwrap();
        assert!(owned.success());
        fs::set_permissions(sandbox.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (code, tally) = pass();
    assert_eq!(
        (code, &tally["transient_failures"]),
        (1, &json!(2)),
        "{tally}"
    );
    fs::set_permissions(&sandbox.layout.episodes, fs::Permissions::from_mode(0o300)).unwrap();
    let (code, tally) = pass();
    assert_eq!(
        (code, &tally["transient_failures"]),
        (1, &json!(1)),
        "{tally}"
    );
    fs::set_permissions(&sandbox.layout.episodes, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_daemon_tells_at_its_end_what_became_of_the_episodes() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[]);
    let mut command = sandbox.command("ship");
    command.arg("--json");
    let mut daemon = sandbox.start(command);
    sandbox.wait_shipped("a");
    assert!(daemon.terminate().success());
    // Its log, on stderr, is in the same file: nothing says which of the two is last there.
    let log = daemon.log();
    let tally = log.lines().find(|line| line.contains(r#""scanned":"#));
    assert!(
        tally.is_some_and(|tally| tally.contains(r#""shipped":1"#)),
        "{log}"
    );
}

#[test]
fn a_reader_that_has_gone_changes_no_exit_code_and_a_full_disk_is_told() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[]);
    assert_eq!(sandbox.ship_once().0, 0);
    let (data, url) = (sandbox.data(), sandbox.url());
    let options = ["--data", data.to_str().unwrap()];
    let receiver = ["--receiver", url];
    let commands: [(&[&str], bool, bool); 10] = [
        (&["config", "default"], false, false),
        (&["config", "show"], true, true),
        (&["config", "check"], true, true),
        (&["status"], true, false),
        (&["status", "--json"], true, false),
        (&["doctor"], true, true),
        (&["doctor", "--json"], true, true),
        (&["trace", "a"], true, false),
        (&["verify", "--all"], true, true),
        (&["verify", "--all", "--json"], true, true),
    ];
    for (words, has_data, has_receiver) in commands {
        let command = || {
            let mut command = sealift();
            command.args(words);
            command.args(options.iter().filter(|_| has_data));
            command.args(receiver.iter().filter(|_| has_receiver));
            command
        };
        let (code, printed, _) = run(&mut command());
        assert!(!printed.is_empty(), "{words:?}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone = command().stdout(writer).output().unwrap();
        assert_eq!(gone.status.code(), Some(code), "{words:?}");
        let stderr = String::from_utf8_lossy(&gone.stderr);
        assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");

        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let (code, _, stderr) = run(command().stdout(full));
        assert_eq!(code, 1, "{words:?}: {stderr}");
        let says = stderr.contains("The result cannot be written to stdout: No space left");
        assert!(says, "{words:?}: {stderr}");
    }
}
