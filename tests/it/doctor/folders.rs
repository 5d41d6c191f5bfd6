//! Folders: there, open to who ships, with room, and such that episodes can be moved.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use super::{Host, listing, told};
use crate::support::{Mounted, Sandbox};

fn host() -> Host {
    Host::without_a_daemon(Sandbox::with_receiver())
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "CI is root");
        println!("skipped: this takes root");
    }
    root
}

#[test]
fn a_folder_that_is_missing_is_made_by_the_fix() {
    let host = host();
    #[expect(clippy::disallowed_methods, reason = "somebody removes it")]
    let row = host
        .breaks_and_is_mended("folders", |host| fs::remove_dir_all(&host.sandbox.layout.quarantine).unwrap());
    assert_eq!((&row["status"], &row["details"]["missing"][0]), (&"red".into(), &"quarantine".into()));
    let mode = fs::metadata(&host.sandbox.layout.quarantine).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o2770);
}

#[test]
fn what_is_no_folder_is_put_aside_by_the_fix() {
    let host = host();
    let shipped = host.sandbox.layout.shipped.clone();
    #[expect(clippy::disallowed_methods, reason = "somebody removes it")]
    let row = host.breaks_and_is_mended("folders", |_| {
        fs::remove_dir_all(&shipped).unwrap();
        fs::write(&shipped, "a file").unwrap();
    });
    assert!(row["summary"].as_str().unwrap().ends_with("is no folder."), "{row}");
    assert_eq!(fs::read_to_string(shipped.with_extension("aside")).unwrap(), "a file");
}

#[test]
fn folders_that_are_one_by_a_symlink_are_red() {
    let host = host();
    let (shipped, quarantine) = (&host.sandbox.layout.shipped, &host.sandbox.layout.quarantine);
    let before = host.wrong();
    #[expect(clippy::disallowed_methods, reason = "somebody removes it")]
    fs::remove_dir_all(shipped).unwrap();
    std::os::unix::fs::symlink(quarantine, shipped).unwrap();
    assert_eq!(host.turned("folders", &before)["status"], "red");
}

#[test]
fn folders_that_who_ships_may_not_write_are_given_to_them_by_the_fix() {
    if !is_root() {
        return;
    }
    let host = host();
    let row = host.breaks_and_is_mended("folder-access", |host| host.unit_is("User", "nobody"));
    assert!(
        row["summary"].as_str().unwrap().starts_with("nobody, who ships, may not read and write"),
        "{row}"
    );
    assert_eq!(row["details"]["folders"].as_array().unwrap().len(), 5);
}

#[test]
fn a_folder_that_everybody_may_write_to_is_yellow() {
    let host = host();
    let episodes = host.sandbox.layout.episodes.clone();
    let row = host.breaks_and_is_mended("folder-access", |_| {
        fs::set_permissions(&episodes, fs::Permissions::from_mode(0o777)).unwrap();
    });
    assert_eq!(row["status"], "yellow");
}

#[test]
fn a_file_system_without_room_is_red() {
    let host = host();
    let before = host.wrong();
    let Some(mounted) = Mounted::over(&host.sandbox.layout.shipped, "1m") else { return };
    let row = host.turned("space", &before);
    assert_eq!(row["status"], "red");
    drop(mounted);
    assert_eq!(host.wrong(), before);
}

#[test]
fn a_mount_between_the_folders_makes_moves_copies_and_the_trial_leaves_nothing() {
    if !is_root() {
        return;
    }
    let host = host();
    let (before, files) = (host.wrong(), listing(&host.sandbox));
    let shipped = &host.sandbox.layout.shipped;
    let mount =
        |args: &[&str]| Command::new(args[0]).args(&args[1..]).arg(shipped).status().unwrap().success();
    assert!(mount(&["mount", "--bind", shipped.to_str().unwrap()]));
    let turned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| host.turned("moves", &before)));
    assert!(mount(&["umount", "-l"]));
    let row = turned.unwrap();
    assert_eq!(row["status"], "yellow");
    let fix = row["fix"].as_str().unwrap();
    let parent = format!("ReadWritePaths={}", host.sandbox.data().display());
    assert!(
        fix.contains(&parent)
            && fix.ends_with("systemctl daemon-reload && systemctl restart sealift.service"),
        "{fix}"
    );
    assert_eq!(host.wrong(), before);
    assert_eq!(listing(&host.sandbox), files);
}

#[test]
fn recorders_folders_that_cannot_be_moved_are_red() {
    if !is_root() {
        return;
    }
    // As somebody who is not root, and who ships, too.
    let host = host();
    let sealift = std::env::temp_dir().join(format!("sealift-moves-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_sealift"), &sealift).unwrap();
    let data = tempfile::Builder::new().prefix("sealift-moves-").tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let give = format!(
        "cd '{0}' && mkdir episodes outbox shipped quarantine .sealift && chown -R nobody . && mkdir episodes/theirs && chmod 755 '{1}'",
        data.path().display(),
        sealift.display()
    );
    assert!(host.type_in(&give).status.success());
    let ask = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=65534", "--clear-groups"]).arg(&sealift);
        command.args(["doctor", "--json", "--receiver", host.sandbox.url(), "--data"]).arg(data.path());
        told(&command.env_remove("SEALIFT_CONFIG").current_dir("/").output().unwrap())
    };
    let row = ask().row("moves");
    assert!(
        row["summary"].as_str().unwrap().contains("1 episode folders cannot be moved, such as theirs"),
        "{row}"
    );
    assert!(host.type_in(row["fix"].as_str().unwrap()).status.success());
    let after = ask();
    super::forget(&sealift);
    assert_eq!(after.row("moves")["status"], "green", "{:#}", after.document);
}

#[test]
fn too_few_watches_are_told_with_the_sysctl_that_gives_more() {
    let host = host();
    host.sandbox.record("open", &[]);
    let doctor = host.command("doctor");
    let limit = |n: u32| format!("echo {n} > /proc/sys/user/max_inotify_watches");
    let possible = Command::new("unshare").args(["-Ur", "/bin/sh", "-c", &limit(1)]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "no user namespaces here, and CI must have them");
        println!("skipped: no user namespaces here");
        return;
    }
    // The first says what is wrong; what it says is typed, and the second finds it mended.
    let script = format!(
        "{}; \"$@\" >\"$OUT.1\"; bash -c \"$(python3 -c 'import json,sys; print(next(c[\"fix\"] for c in json.load(open(sys.argv[1]))[\"checks\"] \
         if c[\"id\"] == \"inotify\"))' \"$OUT.1\")\" >&2; \"$@\" >\"$OUT.2\"",
        limit(1)
    );
    let mut command = Command::new("unshare");
    command
        .args(["-Ur", "/bin/sh", "-c", &script, "sh"])
        .arg(doctor.get_program())
        .args(doctor.get_args())
        .arg("--json");
    command.env("OUT", host.sandbox.path("out"));
    host.at_home(&mut command);
    let output = command.output().unwrap();
    let read = |n: u32| -> serde_json::Value {
        serde_json::from_slice(&fs::read(host.sandbox.path(&format!("out.{n}"))).unwrap())
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    let row = |n: u32| {
        let document = read(n);
        document["checks"].as_array().unwrap().iter().find(|row| row["id"] == "inotify").unwrap().clone()
    };
    assert_eq!(
        (&row(1)["status"], &row(1)["details"]["max_watches"]),
        (&"yellow".into(), &1.into()),
        "{}",
        row(1)
    );
    assert_eq!(row(2)["status"], "green", "{} {}", row(2), String::from_utf8_lossy(&output.stderr));
}
