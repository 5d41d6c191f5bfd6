//! `sealift setup`: what is wrong is mended, what is right is left, and no recorder is locked out.

#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the user that takes folders away"
)]

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

fn told(mut command: Command) -> (i32, String) {
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

fn setup(args: &[&str], paths: &[(&str, &Path)]) -> (i32, String) {
    let mut command = sealift();
    command.arg("setup").args(args);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    told(command)
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
fn where_no_systemd_runs_it_is_said_what_is_left_out_and_which_mode_each_folder_gets() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new");
    // No systemctl is found there.
    let mut command = sealift();
    command.arg("setup").arg("--data").arg(&data);
    command.env("PATH", folder.path());
    let (code, said) = told(command);
    assert_eq!(code, 0, "{said}");
    let made = format!("mode 2770), and above it {} (mode 2750)", data.display());
    assert_eq!(said.matches(&made).count(), 1, "{said}");
    let note = said.lines().last().unwrap();
    assert!(
        note.starts_with("note   systemd does not run here")
            && note.contains("gets no drop-in")
            && note.contains("the shipper is woken by the kernel"),
        "{said}"
    );
    // Where nothing was done, there is nothing to say of it.
    let mut again = sealift();
    again.arg("setup").arg("--data").arg(&data);
    again.env("PATH", folder.path());
    assert_eq!(told(again), (0, "nothing to do\n".to_owned()));
}

#[test]
fn where_no_systemd_runs_root_makes_the_folders_for_the_user_that_the_units_file_names() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, units) = (folder.path().join("data"), folder.path().join("units"));
    fs::create_dir_all(units.join("sealift.service.d")).unwrap();
    fs::write(units.join("sealift.service"), "[Service]\nUser=daemon\n").unwrap();
    fs::write(
        units.join("sealift.service.d/own.conf"),
        "[Service]\nUser=nobody\n",
    )
    .unwrap();
    // Programs are looked for there too, and systemctl(1) is not one of them.
    let programs = folder.path().join("bin");
    fs::create_dir(&programs).unwrap();
    for program in ["id", "getent"] {
        let real = Path::new("/usr/bin").join(program);
        std::os::unix::fs::symlink(real, programs.join(program)).unwrap();
    }
    let mut command = sealift();
    command.arg("setup").arg("--data").arg(&data);
    command
        .env("SYSTEMD_UNIT_PATH", &units)
        .env("PATH", &programs);
    let (code, said) = told(command);
    assert_eq!(code, 0, "{said}");
    let made = fs::metadata(data.join("episodes")).unwrap();
    let nobody = Command::new("id").args(["-g", "nobody"]).output().unwrap();
    let group = String::from_utf8(nobody.stdout).unwrap();
    assert_eq!(
        (made.uid(), made.gid().to_string()),
        (65534, group.trim().to_owned()),
        "{said}"
    );
    // What an earlier run made for root is given with its group.
    for name in names(&data) {
        std::os::unix::fs::chown(data.join(name), Some(0), Some(0)).unwrap();
    }
    let (code, said) = setup(&["--user", "nobody"], &[("--data", &data)]);
    assert_eq!(code, 0, "{said}");
    let given = fs::metadata(data.join("episodes")).unwrap();
    assert_eq!(
        (given.uid(), given.gid()),
        (made.uid(), made.gid()),
        "{said}"
    );
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
    assert_eq!(code, 1, "{said}");
    let told = "is not written: it is there and says receiver.url = http://receiver.example:8490\n";
    assert!(said.starts_with("left ") && said.ends_with(told), "{said}");
    let (code, said) = setup(
        &["--receiver", url],
        &[("--config", &file), ("--data", &data)],
    );
    assert_eq!((code, said.as_str()), (0, "nothing to do\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn a_configuration_that_is_there_and_wrong_is_refused_before_anything_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("there.toml"), folder.path().join("data"));
    let url = ["--receiver", "http://receiver.example:8490"];
    let refused = |what: &str| {
        for dry in [&url[..], &[url[0], url[1], "--dry-run"]] {
            let (code, said) = setup(dry, &[("--config", &file), ("--data", &data)]);
            assert_eq!(code, 2, "{what}: {said}");
            assert!(said.contains("there.toml"), "{what}: {said}");
        }
        assert!(!data.exists(), "{what}");
    };
    for text in [
        "garbage",
        "",
        "[shipper]\nnonsense = 1\n",
        "[receiver]\nurl = \"nothing\"\n",
    ] {
        fs::write(&file, text).unwrap();
        refused(text);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(folder.path().join("gone"), &file).unwrap();
    refused("a dangling link");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused("a folder");
    // What cannot be made is named.
    let (plain, below) = (
        folder.path().join("plain"),
        folder.path().join("plain/new.toml"),
    );
    fs::write(&plain, "").unwrap();
    let (code, said) = setup(&url, &[("--config", &below), ("--data", &data)]);
    let told = format!("Failed to make the folder {}", plain.display());
    assert!(code == 1 && said.contains(&told), "{said}");
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
    told(command)
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
    // Root would take itself for who ships: whom it does it for is named, also where that user has
    // no name.
    let typed = format!(
        "Type: sudo sealift setup --user 1235 --group 1236 --data {}",
        theirs.display()
    );
    assert!(
        said.starts_with("left ") && said.trim_end().ends_with(&typed),
        "{said}"
    );
    assert!(!theirs.exists());
    let numbers = ["--user", "1235", "--group", "1236"];
    let (code, said) = setup(&numbers, &[("--data", &theirs)]);
    assert_eq!(code, 0, "{said}");
    let made = fs::metadata(theirs.join("shipped")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1235, 1236));
    let (code, said) = setup(&numbers[..2], &[("--data", &theirs)]);
    assert!(
        code == 1 && said.contains("name the group with --group"),
        "{said}"
    );
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
    let (data, us) = (sandbox.data(), fs::metadata(&sealed).unwrap().uid());
    let us = us.to_string();
    let typed =
        |args: &[&str], episode: &Path| setup(args, &[("--give", episode), ("--data", &data)]);
    let give = |user: &str, episode: &Path| typed(&["--user", user], episode);
    let (code, said) = give(&us, &open);
    assert!(
        code == 1 && said.contains("is not sealed: it is its recorder's"),
        "{said}"
    );
    let (code, said) = typed(&["--user", &us, "--dry-run"], &sealed);
    assert!(code == 0 && said.starts_with("would  give "), "{said}");
    let (code, said) = give(&us, &sealed);
    assert!(code == 0 && said.starts_with("done   give "), "{said}");
    if is_root() {
        let (code, said) = give("1235", &sealed);
        assert_eq!(code, 0, "{said}");
        assert_eq!(fs::metadata(sealed.join("data")).unwrap().uid(), 1235);
        assert!(!said.contains("nothing to do"), "{said}");
        let (code, said) = give("1235", &sealed);
        assert!(code == 0 && said.contains("nothing to do"), "{said}");
    }
    // A dry run looks as well as the other does.
    let (code, said) = typed(&["--user", &us, "--dry-run"], &open);
    assert!(code == 1 && said.contains("is not sealed"), "{said}");
    for number in ["4294967295", "4294967296", "-1"] {
        let (code, said) = typed(&[&format!("--user={number}")], &sealed);
        assert!(code == 1 && said.contains("there is no user"), "{said}");
    }
}

#[test]
fn only_what_lies_right_in_the_folders_of_episodes_is_given_away() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let open = sandbox.record("open", &[("data", b"x")]);
    let sealed = sandbox.seal("sealed", &[("deep/data", b"x")]);
    let data = sandbox.data();
    let elsewhere = sandbox.path("elsewhere");
    fs::create_dir_all(elsewhere.join("a")).unwrap();
    for name in ["a", "b"] {
        fs::write(elsewhere.join(name).with_extension("x"), "").unwrap();
    }
    fs::write(elsewhere.join("a/done.marker"), "").unwrap();
    let link = sandbox.layout.quarantine.join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let (us, user) = (
        fs::metadata(&open).unwrap().uid(),
        if is_root() { "1235" } else { "0" },
    );
    for episode in [
        data.join("quarantine/.."),
        data.join("quarantine/."),
        data.join("shipped/.."),
        data.join("shipped/../episodes"),
        data.join("quarantine"),
        data.join("outbox"),
        data.clone(),
        sealed.join("deep"),
        sealed.join(".."),
        link.clone(),
        link.join("a"),
        elsewhere.join("a"),
    ] {
        for dry in [&["--user", user, "--dry-run"][..], &["--user", user]] {
            let (code, said) = setup(dry, &[("--give", &episode), ("--data", &data)]);
            assert_eq!(code, 1, "{}: {said}", episode.display());
            assert!(said.starts_with("left "), "{}: {said}", episode.display());
        }
    }
    for path in [
        &data,
        &open,
        &sealed.join("deep"),
        &elsewhere.join("a"),
        &sandbox.layout.shipped,
    ] {
        assert_eq!(fs::metadata(path).unwrap().uid(), us, "{}", path.display());
    }
}

/// `episodes/` and the others of a shipper that owns the data folder, made by setup.
fn owned_by_1235(folder: &Path) -> (std::path::PathBuf, [&'static str; 4]) {
    const USER: [&str; 4] = ["--user", "1235", "--group", "1236"];
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.join("data");
    let (code, said) = setup(&USER, &[("--data", &data)]);
    assert_eq!(code, 0, "{said}");
    (data, USER)
}

#[test]
fn a_link_that_the_shipper_put_in_the_place_of_a_folder_gives_it_nothing_of_roots() {
    if !is_root() {
        println!("skipped: only root gives folders away");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, user) = owned_by_1235(folder.path());
    let root = folder.path().join("roots");
    fs::create_dir_all(root.join("closed/deep")).unwrap();
    fs::create_dir_all(root.join("closed/deep.tar.zst")).unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let state = || {
        ["", "closed", "closed/deep", "closed/deep.tar.zst"].map(|path| {
            let found = fs::metadata(root.join(path)).unwrap();
            (found.uid(), found.gid(), found.mode())
        })
    };
    let before = state();
    let refused = |links: &[&str]| {
        for dry in [&[&user[..], &["--dry-run"]].concat()[..], &user] {
            let (code, said) = setup(dry, &[("--data", &data)]);
            assert_eq!(code, 1, "{said}");
            for link in links {
                let link = data.join(link);
                assert!(
                    said.contains(&format!("left   {} is a symlink that", link.display())),
                    "{said}"
                );
            }
            assert!(said.contains("in the configuration instead"), "{said}");
            assert_eq!(state(), before, "{said}");
        }
    };
    let put = |name: &str, to: &Path, owner: u32| {
        let link = data.join(name);
        let _ = fs::remove_dir(&link);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(owner), None).unwrap();
    };
    put("shipped", &root.join("closed/deep"), 1235);
    put("outbox", &root.join("closed"), 1235);
    refused(&["shipped", "outbox"]);
    // Nothing is made behind one either.
    put("shipped", &root.join("closed/new"), 1235);
    refused(&["outbox"]);
    assert!(!root.join("closed/new").exists());
    // Root's own link is no better in a folder that another may write to.
    put("outbox", &root.join("closed"), 0);
    refused(&["outbox"]);
    // A link on the way to a folder that the configuration names.
    fs::remove_file(data.join("outbox")).unwrap();
    put("way", &root, 1235);
    let config = folder.path().join("sealift.toml");
    let text = format!(
        "[shipper]\ndata_dir = {data:?}\nshipped_dir = {:?}\n[receiver]\nurl = \"http://r.example\"\n",
        data.join("way/closed/deep")
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = setup(&user, &[("--config", &config)]);
    assert!(
        code == 1 && said.contains("data/way is a symlink that"),
        "{said}"
    );
    assert_eq!(state(), before, "{said}");
}

#[test]
fn a_link_that_leads_nowhere_is_named_and_nothing_is_made_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, gone) = (folder.path().join("data"), folder.path().join("mnt/nas"));
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(&gone, data.join("episodes")).unwrap();
    for _ in 0..2 {
        let (code, said) = setup(&[], &[("--data", &data)]);
        assert_eq!(code, 1, "{said}");
        let told = format!(
            "left   {} leads to {}, which is not there: is a disk not mounted?",
            data.join("episodes").display(),
            gone.display()
        );
        assert!(
            said.contains(&told) && !said.contains("/episodes ("),
            "{said}"
        );
    }
    assert!(!gone.exists());
}

#[test]
fn in_a_data_folder_that_root_made_the_daemon_gets_the_folder_that_it_cannot_make() {
    if !is_root() {
        println!("skipped: only root has what is closed to others");
        return;
    }
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    host.can_be_found_by_everybody();
    host.unit_is("User", "nobody");
    let data = host.sandbox.data();
    host.type_in(&format!(
        "rm -rf '{0}/.sealift' && chown -R nobody: '{0}' && chown root: '{0}'",
        data.display()
    ));
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let row = host.doctor().row("folder-access");
    assert_eq!(row["status"], "red", "{row}");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("cannot make its own folder .sealift"),
        "{row}"
    );
    let ran = host.type_in(row["fix"].as_str().unwrap());
    assert!(ran.status.success(), "{ran:?}");
    let made = fs::metadata(data.join(".sealift")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (65534, 0o2750));
    assert_eq!(host.doctor().row("folder-access")["status"], "green");
}

#[test]
fn where_the_unit_runs_as_a_user_that_is_not_there_nothing_is_made_for_root_instead() {
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    host.unit_is("User", "no-such-user-here");
    let shipped = &host.sandbox.layout.shipped;
    fs::remove_dir(shipped).unwrap();
    let row = host.doctor().row("unit");
    assert_eq!(row["status"], "red", "{row}");
    let ran = host.type_in(&format!(
        "sealift setup --data '{}'",
        host.sandbox.data().display()
    ));
    let said = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("left ") && said.contains("as user no-such-user-here"),
        "{said}"
    );
    assert!(!shipped.exists());
}

#[test]
fn a_link_in_the_place_of_a_token_puts_the_shipper_into_no_group() {
    if !is_root() {
        println!("skipped: only root changes groups");
        return;
    }
    let host = Host::without_a_daemon(Sandbox::with_receiver());
    host.can_be_found_by_everybody();
    host.unit_is("User", "nobody");
    let calls = host.sandbox.path("usermod.calls");
    host.script(
        "usermod",
        &format!("#!/bin/bash\necho \"$*\" >>'{}'\n", calls.display()),
    );
    let (drop, secret) = (host.sandbox.path("drop"), host.sandbox.path("secret"));
    fs::create_dir(&drop).unwrap();
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&secret, Some(0), Some(1236)).unwrap();
    std::os::unix::fs::chown(&drop, Some(65534), None).unwrap();
    let token = drop.join("token");
    host.configure(&format!(
        "[shipper]\ndata_dir = {:?}\n[receiver]\nurl = \"https://r.example\"\ntoken_file = {token:?}\n",
        host.sandbox.data()
    ));
    let setup = || {
        let config = host.config_file();
        let ran = host.type_in(&format!("sealift setup --config '{}'", config.display()));
        String::from_utf8(ran.stdout).unwrap()
    };
    std::os::unix::fs::symlink(&secret, &token).unwrap();
    std::os::unix::fs::lchown(&token, Some(65534), None).unwrap();
    let said = setup();
    assert!(said.contains("drop/token is a symlink that"), "{said}");
    fs::remove_file(&token).unwrap();
    fs::hard_link(&secret, &token).unwrap();
    let said = setup();
    assert!(
        said.contains("drop/token has other names as well"),
        "{said}"
    );
    assert!(!calls.exists(), "{said}");
    let found = fs::metadata(&secret).unwrap();
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o777),
        (0, 1236, 0o640)
    );
}

/// In a mount namespace of the test's own.
fn with_a_mount(script: &str) -> Option<std::process::Output> {
    let can = Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can.is_ok_and(|can| can.success()) {
        println!("skipped: no mounts here");
        return None;
    }
    let ran = Command::new("unshare")
        .args(["-m", "bash", "-ec", script])
        .env_remove("SEALIFT_CONFIG")
        .output();
    Some(ran.unwrap())
}

#[test]
fn what_is_mounted_in_an_episode_is_not_given_away_with_it() {
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    let sealed = sandbox.seal("a", &[("data", b"x"), ("deep/data", b"x")]);
    let script = format!(
        "cd '{0}'; mount -t tmpfs -o uid=77 none deep; touch deep/theirs; chown 77 deep/theirs; \
         '{1}' setup --user 1235 --group 1236 --data '{2}' || true; \
         '{1}' setup --user 1235 --give \"$PWD\" --data '{2}' || true; \
         stat -c 'owners %u' . data deep deep/theirs | sort -u",
        sealed.display(),
        env!("CARGO_BIN_EXE_sealift"),
        sandbox.data().display(),
    );
    let Some(ran) = with_a_mount(&script) else {
        return;
    };
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert_eq!(
        said.matches("another file system is mounted").count(),
        2,
        "{said}"
    );
    assert!(said.ends_with("owners 0\nowners 77\n"), "{said}");
}
