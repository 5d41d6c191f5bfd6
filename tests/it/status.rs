//! `sealift status`: what a person, and a program, is told of a daemon and of the folders.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use serde_json::{Value, json};

use crate::{
    control::asked,
    service::slow_receiver,
    support::{Mounted, Reply, Sandbox, Scripted, eventually},
    watching::limited,
};

fn status(sandbox: &Sandbox, options: &[&str]) -> Output {
    let mut command = crate::support::sealift();
    command
        .arg("status")
        .arg("--data")
        .arg(sandbox.data())
        .args(options)
        .output()
        .unwrap()
}

/// What a person is told, and the exit code.
fn told(sandbox: &Sandbox) -> (String, i32) {
    let output = status(sandbox, &[]);
    (
        String::from_utf8(output.stdout).unwrap(),
        output.status.code().unwrap(),
    )
}

/// What a program is told. Every one is held against the schema.
fn document(sandbox: &Sandbox) -> Value {
    let output = status(sandbox, &["--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    validate(sandbox, &text);
    serde_json::from_str(&text).unwrap()
}

fn validate(sandbox: &Sandbox, text: &str) {
    let path = sandbox.path("status.json");
    fs::write(&path, text).unwrap();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/status.schema.json");
    let output = match Command::new("jsonschema")
        .arg("-i")
        .arg(&path)
        .arg(schema)
        .output()
    {
        Ok(output) => output,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "jsonschema is not here, and this is CI: {error}"
            );
            println!(
                "skipped: jsonschema is not here; on Debian, apt-get install python3-jsonschema"
            );
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
}

#[track_caller]
fn wait_told(sandbox: &Sandbox, text: &str) -> String {
    let mut last = String::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(&format!("status says {text:?}"), || {
            last = told(sandbox).0;
            last.contains(text)
        });
    }));
    if let Err(panic) = found {
        eprintln!("it said\n{last}");
        std::panic::resume_unwind(panic);
    }
    last
}

#[test]
fn where_all_is_well_that_is_seen_at_a_glance() {
    let sandbox = Sandbox::with_receiver();
    let daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.record("open", &[]);
    sandbox.seal("a", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("a");
    wait_told(&sandbox, "shipped     1 today (UTC)");
    let text = wait_told(&sandbox, "episodes    1 open\n");
    for piece in [
        &format!("process {}", daemon.pid()),
        "shipped     1 today (UTC)",
        "quarantine  0 episodes\n",
        "woken by the kernel",
        "heart       beats, last ",
        "no watchdog: should it hang, nothing restarts it",
        "free for episodes, outbox, shipped, quarantine",
        &format!("receiver    {}  last took an episode ", sandbox.url()),
    ] {
        assert!(text.contains(piece), "{piece} is not in\n{text}");
    }
    assert_eq!(told(&sandbox).1, 0);
    let document = document(&sandbox);
    assert_eq!(document["daemon"], "running");
    assert_eq!(document["snapshot"]["totals"]["shipped"], 1);
    assert_eq!(document["problems"], json!([]));
    assert_eq!(document["folders"]["found"], Value::Null);
}

#[test]
fn where_a_daemon_answers_status_lists_no_folder_and_a_new_daemon_knows_what_the_old_one_shipped() {
    if !crate::crash_sweep::strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("a", &[]);
    assert_eq!(sandbox.ship_once().0, 0);
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.seal("b", &[]);
    wait_told(&sandbox, "shipped     2 today (UTC)");
    let log = sandbox.path("strace.log");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=getdents64", "-o"])
        .arg(&log)
        .arg(crate::support::sealift().get_program())
        .args(["status", "--data"])
        .arg(sandbox.data())
        .output()
        .unwrap();
    let said = String::from_utf8(traced.stdout).unwrap();
    assert!(said.contains("shipped     2 today (UTC)"), "{said}");
    let log = fs::read_to_string(log).unwrap();
    assert!(!log.contains(sandbox.data().to_str().unwrap()), "{log}");
}

#[test]
fn a_folder_that_the_daemon_cannot_look_into_is_told_and_its_count_is_not_known() {
    let sandbox = Sandbox::with_receiver();
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    wait_told(&sandbox, "quarantine  0 episodes\n");
    fs::remove_dir(sandbox.layout.quarantine.clone()).unwrap();
    let text = wait_told(&sandbox, "quarantine  not known\n");
    assert!(
        text.contains("cannot be looked at: ") && text.contains("/quarantine: "),
        "{text}"
    );
    assert_eq!(told(&sandbox).1, 1);
    assert_eq!(document(&sandbox)["folders"]["quarantined"], Value::Null);
}

#[test]
fn without_a_daemon_the_folders_tell_and_that_none_answers_comes_first() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("shipped", &[]);
    assert_eq!(sandbox.ship_once().0, 0);
    sandbox.record("open", &[]);
    sandbox.seal("sealed", &[]);
    sandbox.seal("-no-id", &[]);
    fs::create_dir(sandbox.quarantined("bad")).unwrap();
    let (text, code) = told(&sandbox);
    assert_eq!(code, 1);
    assert!(text.starts_with("no daemon answers at /"), "{text}");
    for piece in [
        // `sealift ship` with the folders alone would be refused.
        &format!(
            "to mend it: sealift setup --config sealift.toml --data {} --receiver https://receiver.example:8490\n",
            sandbox.data().display()
        ),
        "episodes    1 open, 1 sealed\n",
        "shipped     1 today (UTC)",
        "quarantine  1 episode\n",
        "1 entry in episodes/ can be no episode. -no-id: ",
        "It was sealed, and is not shipped.",
        "free for episodes, outbox, shipped, quarantine",
    ] {
        assert!(text.contains(piece), "{piece} is not in\n{text}");
    }
    let document = document(&sandbox);
    assert_eq!(
        (&document["daemon"], &document["snapshot"]),
        (&json!("not-running"), &Value::Null)
    );
    assert_eq!(document["folders"]["found"]["sealed"], 1);

    // A killed one leaves its socket, and is none.
    asked(&sandbox, sandbox.command("ship")).kill();
    assert_eq!(self::document(&sandbox)["daemon"], "not-running");
}

/// The first of what is wrong, of a status or a row of the doctor.
fn first_fix(told: Output) -> (String, String) {
    let document: Value = serde_json::from_slice(&told.stdout).unwrap();
    let (fix, what) = match document["checks"].as_array() {
        Some(rows) => {
            let hold = rows.iter().find(|row| row["id"] == "hold").unwrap();
            (hold["fix"].clone(), hold["summary"].clone())
        }
        None => {
            let problem = &document["problems"][0];
            (problem["fix"].clone(), problem["what"].clone())
        }
    };
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    (text(fix), text(what))
}

#[test]
fn the_file_to_be_changed_is_the_one_in_force_and_the_doctors() {
    let server = Scripted::new(|_, _| Reply::json(401, &json!({"detail": "not known here"})));
    let sandbox = Sandbox::new(server.url());
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.seal("a", &[]);
    wait_told(&sandbox, "HELD for ");
    let file = sandbox.path("it's.toml");
    let text = format!(
        "[shipper]\ndata_dir = \"{}\"\n[receiver]\nurl = \"{}\"\n",
        sandbox.data().display(),
        sandbox.url()
    );
    fs::write(&file, text).unwrap();
    let by_variable = |command: &str| {
        let mut sealift = crate::support::sealift();
        sealift.env("SEALIFT_CONFIG", &file).arg(command);
        sealift
    };
    let by_option = |command: &str| {
        let mut sealift = crate::support::sealift();
        sealift.arg(command).arg("--config").arg(&file);
        sealift
    };
    let by_data = |command: &str| {
        let mut sealift = crate::support::sealift();
        sealift.arg(command).arg("--data").arg(sandbox.data());
        sealift
    };
    let told = |mut command: Command| first_fix(command.arg("--json").output().unwrap());
    for name_it in [&by_variable as &dyn Fn(&str) -> Command, &by_option] {
        let (fix, what) = told(name_it("status"));
        assert!(fix.ends_with(r"it'\''s.toml'"), "{fix}");
        assert!(
            what.contains("receiver.token_file") && !what.contains("receiver.url"),
            "{what}"
        );
        assert_eq!(told(name_it("doctor")).0, fix);
    }
    // No file is in force: one is made of what the daemon says, and of nothing else.
    let (fix, _) = told(by_data("status"));
    assert_eq!(told(by_data("doctor")).0, fix);
    assert!(
        fix.ends_with(&format!(" --receiver {}", sandbox.url())),
        "{fix}"
    );
    let folder = sandbox.path("typed here");
    fs::create_dir(&folder).unwrap();
    assert_ne!(pasted(&fix, &folder).status.code(), Some(2), "{fix}");
    let made = fs::read_to_string(folder.join("sealift.toml")).unwrap();
    assert!(made.contains(sandbox.url()), "{made}");
}

/// What is shown, typed in a folder as it stands.
fn pasted(line: &str, folder: &Path) -> Output {
    let program = crate::support::program();
    let programs = Path::new(&program).parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).current_dir(folder);
    shell
        .env_remove("SEALIFT_CONFIG")
        .env("PATH", format!("{programs}:{path}"))
        .output()
        .unwrap()
}

#[test]
fn where_no_daemon_runs_what_is_shown_works_as_it_is_pasted() {
    let sandbox = Sandbox::with_receiver();
    fs::create_dir_all(&sandbox.layout.episodes).unwrap();
    let fix = |options: &[&str]| {
        let told = status(&sandbox, &[&["--json"], options].concat());
        let document: Value = serde_json::from_slice(&told.stdout).unwrap();
        document["problems"][0]["fix"].as_str().unwrap().to_owned()
    };
    let folder = sandbox.path("typed here");
    fs::create_dir(&folder).unwrap();
    let without = fix(&[]);
    let typed = pasted(&without, &folder);
    assert_ne!(typed.status.code(), Some(2), "{without}: {typed:?}");
    assert!(folder.join("sealift.toml").exists(), "{typed:?}");
    let with = fix(&["--receiver", sandbox.url()]);
    assert!(with.starts_with("sealift ship --data "), "{with}");
    let typed = pasted(&format!("{with} --once"), &folder);
    assert_eq!(typed.status.code(), Some(0), "{with}: {typed:?}");
}

#[test]
fn a_receiver_that_is_down_is_not_mended_here_and_that_it_goes_on_by_itself_is_said() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.seal("a", &[]);
    wait_told(&sandbox, "HELD for ");
    let problem = document(&sandbox)["problems"][0].clone();
    assert!(
        problem["what"]
            .as_str()
            .unwrap()
            .contains("passes by itself"),
        "{problem}"
    );
    assert_eq!(problem["fix"], Value::Null);
}

#[test]
fn what_waits_is_told_with_why_and_until_when() {
    let conflict = || {
        Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "title": "held"}),
        )
    };
    let fatal = || {
        Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "no"}),
        )
    };
    let server = Scripted::new(move |seen, _| match seen.id.as_str() {
        "conflict" => conflict(),
        "fatal" => fatal(),
        "refused" => Reply::html(418),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    for id in ["conflict", "fatal", "refused", "well"] {
        sandbox.seal(id, &[]);
    }
    sandbox.wait_shipped("well");
    sandbox.wait_quarantined("fatal");
    let text = wait_told(&sandbox, "1 refused, 1 in conflict");
    let line = |word: &str| {
        text.lines()
            .find(|line| line.starts_with(word))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("refused ").contains("418") && line("refused ").contains("tried again in "),
        "{text}"
    );
    assert!(
        line("in conflict ").ends_with("waits for a person"),
        "{text}"
    );
    assert!(text.contains("quarantine  1 episode\n"), "{text}");
    assert!(
        text.contains(
            "1 episode is in conflict, such as conflict: the receiver holds other content"
        ),
        "{text}"
    );
    assert_eq!(told(&sandbox).1, 1);
    document(&sandbox);
}

#[test]
fn a_marker_that_seals_nothing_is_told_in_the_same_words_with_a_daemon_and_without() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.record("run-1", &[("data", b"recorded")]);
    fs::create_dir(episode.join("done.marker")).unwrap();
    let says = "1 episode with a marker that cannot be read. run-1: its done.marker is a directory and seals nothing.";
    let (text, code) = told(&sandbox);
    assert!(text.contains(says) && code == 1, "{text}");
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    wait_told(&sandbox, says);
    assert_eq!(told(&sandbox).1, 1);
    document(&sandbox);
}

#[test]
fn what_is_in_quarantine_is_for_somebody_to_look_at_and_no_all_is_well() {
    let sandbox = Sandbox::with_receiver();
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    assert_eq!(told(&sandbox).1, 0);
    fs::create_dir(sandbox.quarantined("bad")).unwrap();
    let text = wait_told(&sandbox, "1 episode in quarantine, ");
    assert!(
        told(&sandbox).1 == 1 && text.starts_with("1 episode in quarantine, "),
        "{text}"
    );
    assert!(
        text.contains("to mend it: sealift doctor --data "),
        "{text}"
    );
}

#[test]
fn a_held_receiver_is_told_with_since_when_why_and_the_next_try() {
    let server = Scripted::new(|_, _| Reply::empty(401));
    let sandbox = Sandbox::new(server.url());
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.seal("a", &[]);
    let text = wait_told(&sandbox, "HELD for ");
    assert!(
        text.contains("next try in ") && text.contains("packed      a  "),
        "{text}"
    );
    assert!(
        text.contains("Nothing is sent since ") && text.contains("answered 401"),
        "{text}"
    );
    let held = document(&sandbox)["snapshot"]["destination"]["held"].clone();
    assert_eq!(held["status_code"], 401);
}

#[test]
fn an_upload_is_told_in_per_cent_with_its_rate_and_the_time_left() {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let sandbox = Sandbox::new(slow_receiver(&hurry, &taken));
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.seal("a", &[("data.bin", &crate::uploads::noise(64 << 20))]);
    let text = wait_told(&sandbox, " left\n");
    let line = text
        .lines()
        .find(|line| line.starts_with("uploading   a  "))
        .unwrap();
    assert!(
        line.contains(" % of 67 MB, ") && line.contains("B/s, "),
        "{line}"
    );
    let upload = document(&sandbox)["snapshot"]["episodes"][0].clone();
    let number = |name: &str| upload[name].as_u64().unwrap();
    assert!(
        number("sent_bytes") > 0 && number("sent_bytes") < number("size_bytes"),
        "{upload}"
    );
    hurry.store(true, std::sync::atomic::Ordering::SeqCst);
    sandbox.wait_shipped("a");
}

#[test]
fn a_lost_watch_is_told_with_the_command_that_gives_it_back() {
    for (limit, fix) in [
        (
            "0 > /proc/sys/user/max_inotify_watches",
            "sysctl user.max_inotify_watches=",
        ),
        (
            "0 > /proc/sys/user/max_inotify_instances",
            "sysctl user.max_inotify_instances=",
        ),
    ] {
        let server = Scripted::new(|seen, _| Reply::stored(seen));
        let sandbox = Sandbox::new(server.url());
        let Some(_daemon) = limited(&sandbox, "", limit) else {
            return;
        };
        let text = wait_told(&sandbox, "no watches can be had");
        let sudo = if rustix::process::geteuid().is_root() {
            ""
        } else {
            "sudo "
        };
        assert!(text.contains(&format!("to mend it: {sudo}{fix}")), "{text}");
        let watch = document(&sandbox)["snapshot"]["watch"].clone();
        assert_eq!(watch["mode"], "blind");
        assert!(
            watch["fix"].as_str().unwrap().starts_with(fix) && watch["why"].is_string(),
            "{watch}"
        );
        assert!(
            watch["reconcile_interval_s"].as_u64().unwrap() <= 5,
            "{watch}"
        );
    }
}

#[test]
fn a_mode_that_looks_only_is_told_as_what_was_set() {
    let sandbox = Sandbox::with_receiver();
    let config = "[shipper]\nwatch = 'reconcile-only'";
    let _daemon = asked(&sandbox, sandbox.command_with_config("ship", config));
    let text = wait_told(
        &sandbox,
        "a reconcile pass every 5 s: set so (shipper.watch)",
    );
    assert!(text.starts_with("daemon "), "{text}");
}

#[test]
fn what_the_start_found_out_about_moves_is_told() {
    let sandbox = Sandbox::with_receiver();
    let Some(_mounted) = Mounted::over(&sandbox.layout.shipped, "256m") else {
        return;
    };
    {
        let _daemon = asked(&sandbox, sandbox.command("ship"));
        let text = wait_told(&sandbox, "are copies");
        assert!(
            text.contains("moves       moves to ") && text.starts_with("daemon "),
            "{text}"
        );
        assert_eq!(document(&sandbox)["snapshot"]["trial"][0]["kind"], "copies");
    }
    let read_only = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&sandbox.layout.shipped)
        .status()
        .unwrap();
    assert!(read_only.success());
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    let text = wait_told(&sandbox, "Nothing can be moved from ");
    assert!(
        text.contains("Read-only file system") && text.contains("Give both folders to"),
        "{text}"
    );
    assert_eq!(told(&sandbox).1, 1);
    assert_eq!(
        document(&sandbox)["snapshot"]["trial"][0]["kind"],
        "not-permitted"
    );
}

#[test]
fn a_daemon_that_hangs_is_told_from_one_that_is_not_there() {
    let sandbox = Sandbox::with_receiver();
    let daemon = asked(&sandbox, sandbox.command("ship"));
    daemon.signal("STOP");
    let (text, code) = told(&sandbox);
    assert!(
        text.starts_with("a daemon is there at ") && text.contains("it hangs"),
        "{text}"
    );
    let kill = format!("to mend it: kill -TERM {}\n", daemon.pid());
    assert!(text.contains(&kill), "{text}");
    assert_eq!(code, 1);
    assert_eq!(document(&sandbox)["daemon"], "hangs");
    daemon.signal("CONT");
    wait_told(&sandbox, "heart       beats");
}

#[test]
fn hostile_names_and_answers_command_no_terminal() {
    let server = Scripted::new(|_, _| {
        Reply::text(
            503,
            "application/json",
            "{\"detail\":\"\\u001b[2Jcleared\\r\\nfake: all is well\"}",
        )
    });
    let sandbox = Sandbox::new(server.url());
    fs::create_dir(sandbox.layout.episodes.join("\u{1b}]0;owned\u{7}\n")).unwrap();
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    sandbox.seal("a\u{202e}b", &[]);
    sandbox.seal("plain", &[]);
    wait_told(&sandbox, "HELD for ");
    let text = wait_told(&sandbox, "left alone:\n");
    let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(text.chars().all(is_plain), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("fake")), "{text}");
    document(&sandbox);
}

#[test]
fn a_watch_that_is_piped_says_it_again_and_ends_well() {
    let sandbox = Sandbox::with_receiver();
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    let mut command = crate::support::sealift();
    command
        .args(["status", "--watch", "--data"])
        .arg(sandbox.data());
    let mut watching = sandbox.start(command);
    eventually("it has said it twice", || {
        watching.log().matches("daemon      sealift ").count() >= 2
    });
    watching.signal("INT");
    assert_eq!(watching.wait().code(), Some(0));
    assert!(!watching.log().contains('\u{1b}'), "{}", watching.log());
    let both = status(&sandbox, &["--json", "--watch"]);
    assert_eq!(both.status.code(), Some(2));
}

/// Runs a command on a terminal of its own until it has written something, presses Ctrl-C, and
/// returns all that it wrote.
fn on_a_terminal(sandbox: &Sandbox, command: &str, until: &str, no_color: bool) -> String {
    let typescript = sandbox.path("typescript");
    let (program, data) = (env!("CARGO_BIN_EXE_sealift"), sandbox.data());
    let line = format!("exec {program} {command} --data {}", data.display());
    let mut command = Command::new("script");
    command
        .args(["-qefc", &line])
        .arg(&typescript)
        .stdin(Stdio::piped())
        .env("TERM", "xterm");
    if no_color {
        command.env("NO_COLOR", "1");
    } else {
        command.env_remove("NO_COLOR");
    }
    command.stdout(File::create(sandbox.path("script.out")).unwrap());
    let mut script = command.spawn().unwrap();
    let written =
        || String::from_utf8_lossy(&fs::read(&typescript).unwrap_or_default()).into_owned();
    eventually("it has drawn", || written().contains(until));
    // It may have ended by itself.
    let _ = script.stdin.as_mut().unwrap().write_all(b"\x03");
    script.wait().unwrap();
    written()
}

#[test]
fn on_a_terminal_it_is_redrawn_in_place_and_leaves_the_screen_as_it_was() {
    let sandbox = Sandbox::with_receiver();
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    let written = on_a_terminal(&sandbox, "status --watch", "\u{1b}[Hdaemon", false);
    let (drawn, after) = written
        .split_once("\u{1b}[?1049l")
        .expect("the other screen is left");
    assert!(drawn.contains("\u{1b}[?1049h"), "{drawn:?}");
    assert!(drawn.ends_with("\u{1b}[?7h\u{1b}[?25h"), "{drawn:?}");
    assert!(
        after.contains("heart       beats") && !after.contains("\u{1b}["),
        "{after:?}"
    );
}

#[test]
fn colours_are_for_terminals_whose_user_wants_them() {
    let sandbox = Sandbox::new("http://127.0.0.1:1");
    let until = "quarantine";
    assert!(
        on_a_terminal(&sandbox, "status", until, false).contains("\u{1b}[1;31mno daemon answers")
    );
    assert!(!on_a_terminal(&sandbox, "status", until, true).contains("\u{1b}["));
    assert!(!told(&sandbox).0.contains('\u{1b}'));
}

#[test]
fn one_pass_shows_on_a_terminal_what_it_does_and_clears_it_away() {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let sandbox = Sandbox::new(slow_receiver(&hurry, &taken));
    sandbox.seal("a", &[("data.bin", &crate::uploads::noise(64 << 20))]);
    let command = format!("ship --once --receiver {}", sandbox.url());
    // Ctrl-C ends it in the middle, with its result.
    let written = on_a_terminal(&sandbox, &command, "] 0 of 1 episodes, uploading a ", false);
    assert!(
        written.contains("stopping: nothing new is taken"),
        "{written:?}"
    );
    assert!(
        written.contains("\r\u{1b}[2K1 sealed, 0 shipped"),
        "{written:?}"
    );
}

#[test]
fn a_wrong_configuration_is_exit_code_2_and_a_folder_that_is_not_there_is_1() {
    let output = crate::support::sealift()
        .args(["status", "--config", "/nowhere.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = crate::support::sealift()
        .args(["status", "--data", "/nowhere/at/all"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("cannot be looked at: /nowhere/at/all/episodes: is missing"),
        "{text}"
    );
    assert!(text.contains("quarantine  not known\n"), "{text}");
}

#[test]
fn a_disk_that_has_filled_since_the_last_pass_is_told_at_once() {
    let sandbox = Sandbox::with_receiver();
    fs::create_dir_all(sandbox.data()).unwrap();
    let Some(_mounted) = Mounted::over(&sandbox.data(), "100m") else {
        return;
    };
    let _daemon = asked(&sandbox, sandbox.command("ship"));
    wait_told(&sandbox, "105 MB of 105 MB free for ");
    assert_eq!(told(&sandbox).1, 0);
    let filled = Command::new("fallocate")
        .args(["-l", "60M"])
        .arg(sandbox.data().join("filler"))
        .status();
    assert!(filled.unwrap().success());
    wait_told(&sandbox, " are free. What was shipped may go");
    assert_eq!(told(&sandbox).1, 1);
}

#[test]
fn what_a_foreign_server_says_is_shown_without_its_markup() {
    let page = "<html><head><title>409 Conflict</title></head><body><h1>no</h1></body></html>";
    for (reply, says) in [
        (
            Reply::text(409, "text/html", page),
            "answered 409 with 409 Conflict (not a receiver's words): is the folder there that the address names",
        ),
        (
            Reply::text(
                403,
                "application/xml",
                "<?xml version='1.0'?><Error><Code>Denied</Code></Error>",
            ),
            "answered 403 with Denied (not a receiver's words)",
        ),
        (
            Reply::empty(403).header("x-ms-error-code: AuthenticationFailed"),
            "answered 403 with no body (Scripted, x-ms-error-code: AuthenticationFailed)",
        ),
    ] {
        let reply = std::sync::Mutex::new(reply);
        let server = Scripted::new(move |_, _| reply.lock().unwrap().clone());
        let sandbox = Sandbox::new(server.url());
        let _daemon = asked(&sandbox, sandbox.command("ship"));
        sandbox.seal("a", &[]);
        wait_told(&sandbox, says);
    }
}

#[test]
fn an_address_of_one_link_is_reached_by_its_zone_which_the_other_end_does_not_see() {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    // fe80000000000000... 02 40 20 80 eth0: the fourth is the scope, a link's.
    let found = table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let address = u128::from_str_radix(fields.first()?, 16).ok()?;
        let address = std::net::Ipv6Addr::from(address);
        (fields[3] == "20").then(|| (address, fields[5].to_owned()))
    });
    let Some((address, link)) = found else {
        println!("skipped: no address of a link here");
        return;
    };
    let server = Scripted::listen("[::]:0", |seen, _| Reply::stored(seen));
    let port = server.url().rsplit(':').next().unwrap().to_owned();
    let sandbox = Sandbox::new(format!("http://[{address}%25{link}]:{port}"));
    sandbox.seal("a", &[]);
    assert_eq!(sandbox.ship_once().0, 0);
    let host = server.seen()[0].header("host").unwrap().to_owned();
    assert_eq!(host, format!("[{address}]:{port}"));
}
