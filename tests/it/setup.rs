//! `sealift setup`: what is wrong is mended, what is right is left, and no recorder is locked out.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use crate::{
    doctor::{Host, is_root},
    support::{Sandbox, copy_program, names, sealift},
};

fn setup(args: &[&str], paths: &[(&str, &Path)]) -> (i32, String) {
    let mut command = sealift();
    command.arg("setup").args(args);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    let output = command
        .stdin(std::process::Stdio::null())
        .env_remove("SEALIFT_CONFIG")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

#[test]
fn folders_are_made_once_and_then_there_is_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a/new one");
    let (code, said) = setup(&["--dry-run"], &[("--data", &data)]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("would  make ").count(), 4, "{said}");
    assert!(!data.exists());
    let (code, said) = setup(&[], &[("--data", &data)]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("done   make ").count(), 4, "{said}");
    assert_eq!(
        names(&data),
        ["episodes", "outbox", "quarantine", "shipped"]
    );
    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("episodes"), 0o2770);
    let (code, said) = setup(&[], &[("--data", &data)]);
    assert_eq!((code, said.as_str()), (0, "nothing to do\n"));
}

#[test]
fn a_first_configuration_is_written_from_flags_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("etc/sealift.toml");
    let data = folder.path().join("it's \"here\"");
    let (code, said) = setup(&[], &[("--config", &file)]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("give --data DIR and --receiver URL"),
        "{said}"
    );
    let url = "http://receiver.example:8490";
    let wrong = setup(
        &["--receiver", "not an address"],
        &[("--config", &file), ("--data", &data)],
    );
    assert_eq!(wrong.0, 2, "{wrong:?}");
    assert!(!file.exists() && !data.exists());
    let (code, said) = setup(
        &["--receiver", url],
        &[("--config", &file), ("--data", &data)],
    );
    assert_eq!(code, 0, "{said}");
    let mut check = sealift();
    check.args(["config", "check", "--config"]).arg(&file);
    assert!(check.status().unwrap().success());
    assert_eq!(names(&data).len(), 4);
    let written = fs::read_to_string(&file).unwrap();
    let (code, said) = setup(
        &["--receiver", "http://another.example"],
        &[("--config", &file)],
    );
    assert_eq!((code, said.as_str()), (0, "nothing to do\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn what_would_lock_a_recorder_out_is_left_as_it_is_with_why() {
    if !is_root() {
        return;
    }
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    host.can_be_found_by_everybody();
    host.unit_is("User", "nobody");
    let layout = &host.sandbox.layout;
    let run = |command: &str| {
        let data = host.sandbox.data();
        let ran = host.type_in(&format!("cd '{}' && {command}", data.display()));
        String::from_utf8(ran.stdout).unwrap()
    };
    run(
        "chown nobody: .sealift * && chown 1235:nogroup episodes shipped && chmod 2770 episodes && chmod 755 shipped",
    );
    let said = run("sealift setup --data .");
    assert!(
        said.contains("left ") && said.contains("who records in episodes/"),
        "{said}"
    );
    let shipped = fs::metadata(&layout.shipped).unwrap();
    assert_eq!((shipped.uid(), shipped.mode() & 0o777), (1235, 0o755));
    // Nothing of it is done by half: what is no recorder's is.
    run("chown root: outbox");
    run("sealift setup --data .");
    assert_eq!(fs::metadata(&layout.outbox).unwrap().uid(), 65534);
}

#[test]
fn a_folder_that_is_a_symlink_is_opened_where_it_leads_and_no_link_in_an_episode_is_followed() {
    if !is_root() {
        return;
    }
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    host.can_be_found_by_everybody();
    host.unit_is("User", "nobody");
    let elsewhere = host.sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let secret = host.sandbox.path("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let typed = format!(
        "cd '{}' && rmdir shipped && ln -s '{}' shipped && mkdir -m 700 episodes/a && touch episodes/a/done.marker && \
         ln -s '{}' episodes/a/link && ln -s '{}' episodes/b && sealift setup --data .",
        host.sandbox.data().display(),
        elsewhere.display(),
        secret.display(),
        secret.parent().unwrap().display(),
    );
    let ran = host.type_in(&typed);
    assert!(ran.status.success(), "{ran:?}");
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&elsewhere), 65534);
    assert_eq!(
        owner(&host.sandbox.layout.episodes.join("a/done.marker")),
        65534
    );
    assert_eq!((owner(&secret), owner(secret.parent().unwrap())), (0, 0));
}

#[test]
fn folders_are_made_for_the_user_and_the_group_that_are_named_and_an_unknown_one_is_told() {
    if !is_root() {
        println!("skipped: only root makes folders for others");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (code, said) = setup(&["--user", "no-such-user-here"], &[("--data", &data)]);
    assert!(
        code == 1 && said.contains("there is no user no-such-user-here"),
        "{said}"
    );
    assert!(!data.exists());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, said) = setup(
        &["--user", "daemon", "--group", "games"],
        &[("--data", &data)],
    );
    assert_eq!(code, 0, "{said}");
    let id = |what: &str, of: &str| -> u32 {
        let told = std::process::Command::new(what)
            .args(of.split(' '))
            .output();
        let told = String::from_utf8(told.unwrap().stdout).unwrap();
        told.trim()
            .split(':')
            .nth(2)
            .unwrap_or(told.trim())
            .parse()
            .unwrap()
    };
    let episodes = fs::metadata(data.join("episodes")).unwrap();
    let expected = (id("id", "-u daemon"), id("getent", "group games"));
    assert_eq!((episodes.uid(), episodes.gid()), expected, "{said}");
}

/// `sealift setup` as a user who is not root, by way of setpriv(1) where root is at work.
fn as_another_user(folder: &Path, args: &[&str], data: &Path) -> (i32, String) {
    let mut command = if is_root() {
        // The build's own folder may be closed to others.
        let program = folder.join("sealift");
        copy_program(env!("CARGO_BIN_EXE_sealift"), &program);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1235", "--regid=1236", "--clear-groups"]);
        command.arg(program);
        command
    } else {
        sealift()
    };
    command.arg("setup").args(args).arg("--data").arg(data);
    let output = command
        .stdin(std::process::Stdio::null())
        .env_remove("SEALIFT_CONFIG")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

#[test]
fn without_root_what_is_ones_own_is_made_and_what_takes_root_is_left_with_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&mine, Some(1235), Some(1236)).unwrap();
    }
    let data = mine.join("data");
    let (code, said) = as_another_user(folder.path(), &[], &data);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        names(&data),
        ["episodes", "outbox", "quarantine", "shipped"]
    );
    let made = fs::metadata(data.join("episodes")).unwrap();
    assert_eq!(made.mode() & 0o7777, 0o2770);
    assert_eq!(made.uid(), fs::metadata(&mine).unwrap().uid());
    let (code, said) = as_another_user(folder.path(), &[], &data);
    assert_eq!((code, said.as_str()), (0, "nothing to do\n"));
    if !is_root() {
        println!("the rest is skipped: only root has what is closed to others");
        return;
    }
    let theirs = folder.path().join("theirs");
    let (code, said) = as_another_user(folder.path(), &[], &theirs);
    assert_eq!(code, 1, "{said}");
    let typed = format!("Type: sudo sealift setup --data {}", theirs.display());
    assert!(
        said.starts_with("left ") && said.trim_end().ends_with(&typed),
        "{said}"
    );
    assert!(!theirs.exists());
}

#[test]
fn on_a_terminal_what_is_missing_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("new.toml"), folder.path().join("data"));
    let program = env!("CARGO_BIN_EXE_sealift");
    let line = format!("exec {program} setup --config '{}'", file.display());
    let mut script = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env_remove("SEALIFT_CONFIG")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("script(1), of bsdutils, is there");
    let answers = format!("{}\nhttp://receiver.example:8490\n", data.display());
    let mut stdin = script.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, answers.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    drop(stdin);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("The folder of the episodes [/var/lib/sealift]: ")
            && said.contains("The receiver's address, such as "),
        "{said}"
    );
    let written = fs::read_to_string(&file).unwrap();
    assert!(
        written.contains(&format!("data_dir = \"{}\"", data.display()))
            && written.contains("url = \"http://receiver.example:8490\""),
        "{written}"
    );
    assert_eq!(names(&data).len(), 4);
}

#[test]
fn a_configuration_that_root_writes_is_read_by_who_ships_and_by_no_other_user() {
    if !is_root() {
        println!("skipped: only root writes for others");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (file, data) = (folder.path().join("new.toml"), folder.path().join("data"));
    let url = ["--receiver", "http://receiver.example", "--user", "daemon"];
    let (code, said) = setup(&url, &[("--config", &file), ("--data", &data)]);
    assert_eq!(code, 0, "{said}");
    let (written, episodes) = (
        fs::metadata(&file).unwrap(),
        fs::metadata(data.join("episodes")).unwrap(),
    );
    assert_eq!(
        (written.uid(), written.gid(), written.mode() & 0o7777),
        (0, episodes.gid(), 0o640),
        "{said}"
    );
    // The daemon keeps its own things beside the folders.
    let above = fs::metadata(&data).unwrap();
    assert_eq!(
        (above.uid(), above.mode() & 0o7777),
        (episodes.uid(), 0o2750)
    );
    let (code, said) = setup(&url[2..], &[("--config", &file)]);
    assert_eq!((code, said.as_str()), (0, "nothing to do\n"));
}

#[test]
fn one_sealed_episode_is_given_to_who_ships_and_an_open_one_is_refused() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let (sealed, open) = (
        sandbox.seal("it's", &[("data", b"x")]),
        sandbox.record("open", &[]),
    );
    let us = fs::metadata(&sealed).unwrap().uid().to_string();
    let give = |user: &str, episode: &Path| setup(&["--user", user], &[("--give", episode)]);
    let (code, said) = give(&us, &open);
    assert!(
        code == 1 && said.contains("is not sealed: it is its recorder's"),
        "{said}"
    );
    let (code, said) = give(&us, &sealed);
    assert!(code == 0 && said.starts_with("done   give "), "{said}");
    if is_root() {
        let (code, said) = give("1235", &sealed);
        assert_eq!(code, 0, "{said}");
        assert_eq!(fs::metadata(sealed.join("data")).unwrap().uid(), 1235);
    }
    let (code, said) = setup(&["--user", &us, "--dry-run"], &[("--give", &open)]);
    assert!(code == 0 && said.starts_with("would  give "), "{said}");
}
