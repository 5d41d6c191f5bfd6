//! Folders: there, open to who ships, with room, and such that episodes can be moved.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use super::{Host, is_root};
use crate::support::{Mounted, Sandbox};

fn host() -> Host {
    Host::without_a_daemon(Sandbox::with_receiver())
}

#[test]
fn a_folder_that_is_missing_is_made_by_the_fix() {
    let host = host();
    #[expect(clippy::disallowed_methods, reason = "somebody removes it")]
    let row = host.breaks_and_is_mended("folders", |host| {
        fs::remove_dir_all(&host.sandbox.layout.quarantine).unwrap();
    });
    assert_eq!(
        (&row["status"], &row["details"]["missing"][0]),
        (&"red".into(), &"quarantine".into())
    );
    let mode = fs::metadata(&host.sandbox.layout.quarantine)
        .unwrap()
        .permissions()
        .mode();
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
    assert!(
        row["summary"].as_str().unwrap().ends_with("is no folder."),
        "{row}"
    );
    assert_eq!(
        fs::read_to_string(shipped.with_extension("aside")).unwrap(),
        "a file"
    );
}

#[test]
fn folders_that_are_one_by_a_symlink_are_red_until_the_configuration_names_another() {
    let host = host();
    let (shipped, quarantine) = (
        &host.sandbox.layout.shipped,
        &host.sandbox.layout.quarantine,
    );
    let elsewhere = host.sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    host.editor_writes(&format!(
        "[shipper]\nshipped_dir = '{}'\n",
        elsewhere.display()
    ));
    #[expect(clippy::disallowed_methods, reason = "somebody removes it")]
    let row = host.breaks_and_is_mended("folders", |_| {
        fs::remove_dir_all(shipped).unwrap();
        std::os::unix::fs::symlink(quarantine, shipped).unwrap();
    });
    assert_eq!(row["status"], "red");
}

fn run(host: &Host, command: &str) {
    let ran = host.type_in(command);
    assert!(
        ran.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// May this user make a folder in `episodes/`?
fn records(host: &Host, user: &str) -> bool {
    let name = user.replace([' ', '-'], "");
    let make = format!(
        "setpriv {user} mkdir '{}/{name}'",
        host.sandbox.layout.episodes.display()
    );
    let made = host.type_in(&make).status.success();
    host.type_in(&format!(
        "rmdir '{}/{name}'",
        host.sandbox.layout.episodes.display()
    ));
    made
}

#[test]
fn folders_that_who_ships_may_not_write_are_given_to_them_by_the_fix_and_recorders_go_on() {
    if !is_root() {
        return;
    }
    // A recorder that comes as the owner, as one of the group, as anybody.
    for (uid, gid, mode, recorder) in [
        (0, 0, 0o755, "--reuid=0 --regid=0 --clear-groups"),
        (0, 1234, 0o2770, "--reuid=1235 --regid=1234 --clear-groups"),
        (
            1235,
            1234,
            0o755,
            "--reuid=1235 --regid=1234 --clear-groups",
        ),
        (
            1235,
            1234,
            0o700,
            "--reuid=1235 --regid=1234 --clear-groups",
        ),
    ] {
        let host = host();
        host.can_be_found_by_everybody();
        let episodes = host.sandbox.layout.episodes.display().to_string();
        run(
            &host,
            &format!("chown {uid}:{gid} '{episodes}' && chmod {mode:o} '{episodes}'"),
        );
        assert!(records(&host, recorder));
        let row = host.breaks_and_is_mended("folder-access", |host| host.unit_is("User", "nobody"));
        assert!(
            row["summary"]
                .as_str()
                .unwrap()
                .starts_with("nobody, who ships, may not read and write"),
            "{row}"
        );
        assert_eq!(row["details"]["folders"].as_array().unwrap().len(), 5);
        assert!(records(&host, recorder), "{row}");
        assert!(
            records(&host, "--reuid=nobody --regid=65534 --clear-groups"),
            "{row}"
        );
    }
}

#[test]
fn a_folder_above_that_who_ships_may_not_pass_is_red_and_opened_by_the_fix() {
    if !is_root() {
        return;
    }
    let host = host();
    host.can_be_found_by_everybody();
    let data = host.sandbox.data();
    run(
        &host,
        &format!("chown nobody '{0}'/* '{0}'/.sealift", data.display()),
    );
    host.unit_is("User", "nobody");
    let row = host.breaks_and_is_mended("folder-access", |_| {
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    });
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .starts_with("nobody, who ships, may not pass "),
        "{row}"
    );
    run(
        &host,
        &format!(
            "setpriv --reuid=nobody --regid=65534 --clear-groups ls '{}/shipped'",
            data.display()
        ),
    );
}

#[test]
fn a_folder_that_everybody_may_write_to_is_yellow_and_closed_with_nobody_locked_out() {
    if !is_root() {
        return;
    }
    let host = host();
    host.can_be_found_by_everybody();
    let data = host.sandbox.data();
    run(
        &host,
        &format!("chown nobody '{0}'/* '{0}'/.sealift", data.display()),
    );
    host.unit_is("User", "nobody");
    for folder in ["shipped", "episodes"] {
        for owner in ["nobody", "root"] {
            let row = host.breaks_and_is_mended("folder-access", |host| {
                run(
                    host,
                    &format!(
                        "cd '{}' && chown {owner}:root {folder} && chmod 777 {folder}",
                        data.display()
                    ),
                );
            });
            assert_eq!(row["status"], "yellow");
        }
    }
    assert!(records(&host, "--reuid=1235 --regid=1234 --clear-groups"));
}

#[test]
fn a_folder_that_is_mounted_read_only_is_red_and_mounted_again_by_the_fix() {
    let host = host();
    let shipped = host.sandbox.layout.shipped.clone();
    let Some(_mounted) = Mounted::over(&shipped, "200m") else {
        return;
    };
    let row = host.breaks_and_is_mended("folder-access", |host| {
        run(
            host,
            &format!("mount -o remount,ro '{}'", shipped.display()),
        );
    });
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("mounted read-only"),
        "{row}"
    );
    fs::write(shipped.join("a file"), "").unwrap();
}

#[test]
fn a_file_system_without_room_is_red() {
    let host = host();
    let before = host.wrong();
    let Some(mounted) = Mounted::over(&host.sandbox.layout.shipped, "1m") else {
        return;
    };
    let row = host.turned("space", &before);
    assert_eq!(row["status"], "red");
    drop(mounted);
    assert_eq!(host.wrong(), before);
}

#[test]
fn too_few_watches_or_instances_are_told_with_the_sysctl_that_gives_more() {
    for limit in ["max_inotify_watches", "max_inotify_instances"] {
        too_few(limit);
    }
}

fn too_few(limit: &str) {
    let host = host();
    host.sandbox.record("open", &[]);
    let doctor = host.command("doctor");
    let set = format!("echo 1 > /proc/sys/user/{limit}");
    let possible = Command::new("unshare")
        .args(["-Ur", "/bin/sh", "-c", &set])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "no user namespaces here, and CI must have them"
        );
        println!("skipped: no user namespaces here");
        return;
    }
    // The first says what is wrong; what it says is typed, and the second finds it mended.
    let script = format!(
        "{set}; \"$@\" >\"$OUT.1\"; bash -c \"$(python3 -c 'import json,sys; print(next(c[\"fix\"] for c in json.load(open(sys.argv[1]))[\"checks\"] \
         if c[\"id\"] == \"inotify\"))' \"$OUT.1\")\" >&2; \"$@\" >\"$OUT.2\""
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
        document["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["id"] == "inotify")
            .unwrap()
            .clone()
    };
    assert_eq!(row(1)["status"], "yellow", "{}", row(1));
    assert!(
        row(1)["fix"]
            .as_str()
            .unwrap()
            .starts_with(&format!("sysctl user.{limit}=")),
        "{}",
        row(1)
    );
    assert_eq!(
        row(2)["status"],
        "green",
        "{} {}",
        row(2),
        String::from_utf8_lossy(&output.stderr)
    );
}
