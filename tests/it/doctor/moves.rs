//! Moves between the folders: what is in the way is gone after the fix, and no recorder is the
//! worse for it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use serde_json::Value;

use super::{Host, Told, is_root, listing, told};
use crate::support::{Sandbox, copy_program, eventually};

fn host() -> Host {
    Host::without_a_daemon(Sandbox::with_receiver())
}

/// Folders that `nobody` ships from, and who asks.
struct Theirs {
    host: Host,
    data: tempfile::TempDir,
    sealift: PathBuf,
}

impl Theirs {
    fn new() -> Self {
        let host = host();
        host.can_be_found_by_everybody();
        host.unit_is("User", "nobody");
        let data = tempfile::Builder::new()
            .prefix("sealift-moves-")
            .tempdir_in("/dev/shm")
            .unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let theirs = Self {
            sealift: data.path().join("sealift"),
            host,
            data,
        };
        copy_program(env!("CARGO_BIN_EXE_sealift"), &theirs.sealift);
        theirs.run("mkdir episodes outbox shipped quarantine .sealift && chown nobody: .sealift *");
        theirs
    }

    /// The daemon, as `nobody`.
    fn starts(&self) -> crate::support::Process {
        let mut ship = Command::new("setpriv");
        ship.args(["--reuid=nobody", "--regid=65534", "--clear-groups"])
            .arg(&self.sealift)
            .args(["ship", "--receiver", self.host.sandbox.url(), "--data"])
            .arg(self.data.path());
        let daemon = self.host.sandbox.start(ship);
        eventually("the daemon can be asked", || {
            self.data.path().join(".sealift/control.sock").exists()
        });
        daemon
    }

    /// In the data folder, as root.
    #[track_caller]
    fn run(&self, command: &str) -> String {
        let ran = self
            .host
            .type_in(&format!("cd '{}' && {command}", self.data.path().display()));
        assert!(
            ran.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    fn doctor(&self) -> Told {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=nobody", "--regid=65534", "--clear-groups"])
            .arg(&self.sealift);
        command
            .args([
                "doctor",
                "--json",
                "--receiver",
                self.host.sandbox.url(),
                "--data",
            ])
            .arg(self.data.path());
        self.host.at_home(&mut command);
        told(
            &command
                .env_remove("SEALIFT_CONFIG")
                .current_dir("/")
                .output()
                .unwrap(),
        )
    }

    /// The row is so, and green once its fix is typed.
    #[track_caller]
    fn is_mended(&self, status: &str) -> Value {
        let row = self.doctor().row("moves");
        assert_eq!(row["status"], status, "{row}");
        let typed = self.host.type_fix(&row).1;
        assert!(
            typed.status.success(),
            "{row}: {}",
            String::from_utf8_lossy(&typed.stderr)
        );
        let after = self.doctor();
        assert_eq!(
            after.row("moves")["status"],
            "green",
            "{row}\n{:#}",
            after.document
        );
        row
    }
}

#[test]
fn a_mount_between_the_folders_makes_moves_copies_and_the_trial_leaves_nothing() {
    if !is_root() {
        return;
    }
    let host = host();
    let siblings = [&host.sandbox.layout.episodes, &host.sandbox.layout.shipped];
    let siblings = siblings.map(|path| path.display().to_string()).join(" ");
    let unit = fs::read_to_string(host.sandbox.path("unit")).unwrap();
    host.unit(&format!("{unit}\nReadWritePaths={siblings}"));
    let (before, files) = (host.wrong(), listing(&host.sandbox));
    let shipped = &host.sandbox.layout.shipped;
    let mount = |args: &[&str]| {
        Command::new(args[0])
            .args(&args[1..])
            .arg(shipped)
            .status()
            .unwrap()
            .success()
    };
    assert!(mount(&["mount", "--bind", shipped.to_str().unwrap()]));
    let turned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        host.turned("moves", &before)
    }));
    assert!(mount(&["umount", "-l"]));
    let row = turned.unwrap();
    assert_eq!(row["status"], "yellow");
    let fix = row["fix"].as_str().unwrap();
    let parent = format!("ReadWritePaths={}", host.sandbox.data().display());
    let said = host.type_in(&format!("{fix} --dry-run"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains(&parent) && said.contains("would  systemctl restart"),
        "{fix}: {said}"
    );
    assert_eq!(host.wrong(), before);
    assert_eq!(listing(&host.sandbox), files);
}

#[test]
fn sealed_folders_that_cannot_be_moved_are_given_to_who_ships_by_the_fix() {
    if !is_root() {
        return;
    }
    let theirs = Theirs::new();
    // By its mode, by its group, and one in a name that a shell would read.
    theirs.run("for e in mode group \"it's -x\"; do mkdir -p \"episodes/$e/sub\"; touch \"episodes/$e/done.marker\"; done");
    theirs.run(
        "chown -R 12345:nogroup episodes/mode \"episodes/it's -x\" && chmod 755 episodes/mode",
    );
    theirs.run("chown -R 12345:12345 episodes/group && chmod 775 episodes/group");
    theirs.run("ln -s /etc episodes/mode/link");
    let row = theirs.is_mended("red");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("3 episode folders cannot be moved"),
        "{row}"
    );
    // Their modes are content, and what is in them can be removed after a copy.
    assert_eq!(
        theirs.run("stat -c '%a %u' episodes/mode episodes/group episodes/group/sub"),
        "755 65534\n775 65534\n755 65534\n"
    );
    assert_eq!(theirs.run("stat -c %u /etc").trim(), "0");
}

#[test]
fn an_open_recording_that_the_daemon_may_not_look_into_is_its_recorders_and_yellow_at_most() {
    if !is_root() {
        return;
    }
    let theirs = Theirs::new();
    let _daemon = theirs.starts();
    theirs.run("mkdir -m 0700 episodes/open && chgrp nogroup episodes/open");
    let mut row = Value::Null;
    eventually("root is told of the open one", || {
        let mut doctor = crate::support::sealift();
        let receiver = theirs.host.sandbox.url();
        doctor.args(["doctor", "--json", "--receiver", receiver, "--data"]);
        doctor.arg(theirs.data.path());
        theirs.host.at_home(&mut doctor);
        let told = told(&doctor.env_remove("SEALIFT_CONFIG").output().unwrap());
        row = told.row("moves");
        let markers = told.row("markers")["status"].clone();
        markers == "green" && row["status"] != "green"
    });
    assert_eq!(row["status"], "yellow", "{row}");
    let (fix, said) = (row["fix"].as_str().unwrap(), &row["summary"]);
    assert!(fix.starts_with("chmod g+rx "), "{row}");
    assert!(
        said.as_str().unwrap().contains("Its recorder may still"),
        "{row}"
    );
    theirs.run(fix);
    assert_eq!(theirs.run("stat -c %a episodes/open"), "750\n");
}

#[test]
fn what_the_daemons_user_cannot_read_is_told_at_once_though_root_asks() {
    if !is_root() {
        return;
    }
    for (id, folder_mode, why) in [
        ("file", "2775", "failed to read data: Permission denied"),
        (
            "folder",
            "0700",
            "Failed to look at done.marker: Permission denied",
        ),
    ] {
        let theirs = Theirs::new();
        let _daemon = theirs.starts();
        theirs.run(&format!(
            "mkdir -m {folder_mode} episodes/.{id} && echo x >episodes/.{id}/data && chmod 600 episodes/.{id}/data \
             && touch episodes/.{id}/done.marker && mv episodes/.{id} episodes/{id}"
        ));
        let (mut text, says) = (
            String::new(),
            format!("1 episode is kept back by a fault of this host. {id}: {why}"),
        );
        eventually(&says, || {
            let mut status = crate::support::sealift();
            let told = status.arg("status").arg("--data").arg(theirs.data.path());
            let told = told.output().unwrap();
            text = String::from_utf8(told.stdout).unwrap();
            text.contains(&says) && told.status.code() == Some(1)
        });
        assert!(text.contains("tried again within a minute"), "{text}");
        let fix = text.split("    to mend it: ").nth(1).unwrap();
        theirs.run(fix.lines().next().unwrap());
        assert_eq!(
            theirs.run(&format!(
                "stat -c %U episodes/{id}/data 2>/dev/null || stat -c %U shipped/{id}/data"
            )),
            "nobody\n",
            "{text}"
        );
    }
}

#[test]
fn what_the_user_that_ships_cannot_move_is_red_where_root_asks_and_no_daemon_runs() {
    if !is_root() {
        return;
    }
    let theirs = Theirs::new();
    theirs.run(
        "mkdir episodes/sealed && touch episodes/sealed/done.marker && chmod 755 episodes/sealed",
    );
    let by_root = || {
        let mut doctor = crate::support::sealift();
        doctor
            .args(["doctor", "--json", "--receiver", theirs.host.sandbox.url()])
            .arg("--data")
            .arg(theirs.data.path());
        theirs.host.at_home(&mut doctor);
        told(&doctor.output().unwrap()).row("moves")
    };
    let row = by_root();
    assert_eq!(row["status"], "red", "{row}");
    theirs.run(row["fix"].as_str().unwrap());
    assert_eq!(by_root()["status"], "green");
}

#[test]
fn an_open_folder_that_could_not_be_moved_is_its_recorders_and_the_fix_leaves_it_alone() {
    if !is_root() {
        return;
    }
    let theirs = Theirs::new();
    theirs.run("mkdir episodes/rec1 && chown 12345:12345 episodes/rec1");
    let record = "setpriv --reuid=12345 --regid=12345 --clear-groups sh -c 'date >>episodes/rec1/data && mkdir -p episodes/rec1/more'";
    theirs.run(record);
    let row = theirs.doctor().row("moves");
    assert_eq!(row["status"], "yellow", "{row}");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("1 open recordings could not be moved"),
        "{row}"
    );
    let shown = theirs.run(row["fix"].as_str().unwrap());
    assert!(
        shown.contains("12345") && shown.trim_end().ends_with("/episodes/rec1"),
        "{shown}"
    );

    // Beside one that is sealed as well: that one is given over, and the recorder of the other goes
    // on.
    theirs
        .run("mkdir episodes/rec2 && touch episodes/rec2/done.marker && chown -R 12345:12345 episodes/rec2");
    let row = theirs.doctor().row("moves");
    assert_eq!(row["status"], "red", "{row}");
    theirs.run(row["fix"].as_str().unwrap());
    theirs.run(record);
    assert_eq!(
        theirs.run("stat -c %u episodes/rec1 episodes/rec1/more episodes/rec2"),
        "12345\n12345\n65534\n"
    );
    assert_eq!(theirs.doctor().row("moves")["status"], "yellow");
}

#[test]
fn a_folder_to_which_nothing_can_be_moved_is_given_to_who_ships() {
    if !is_root() {
        return;
    }
    for folder in ["shipped", "quarantine", "episodes"] {
        let theirs = Theirs::new();
        theirs.run(&format!("chown root:root {folder}"));
        let row = theirs.is_mended("red");
        assert!(
            row["summary"]
                .as_str()
                .unwrap()
                .contains("Nothing can be moved"),
            "{row}"
        );
    }
}

#[test]
fn the_sticky_bit_of_episodes_is_in_nobodys_way_after_the_fix_and_recorders_go_on() {
    if !is_root() {
        return;
    }
    for (owner, mode) in [("root:root", "1777"), ("12345:nogroup", "1770")] {
        let theirs = Theirs::new();
        theirs.run("mkdir -m 2770 episodes/rec1 && touch episodes/rec1/done.marker && chown -R 12345:nogroup episodes/rec1");
        theirs.run(&format!("chown {owner} episodes && chmod {mode} episodes"));
        let row = theirs.is_mended("red");
        assert!(row["summary"].as_str().unwrap().contains("sticky"), "{row}");
        theirs.run("setpriv --reuid=12345 --regid=12345 --clear-groups mkdir episodes/rec2");
    }
}

#[test]
fn a_trial_that_is_interrupted_leaves_nothing_that_stays() {
    let mut host = host();
    let files = listing(&host.sandbox);
    let layout = host.sandbox.layout.clone();
    // As one leaves them that is killed between two calls, in the name of a process that cannot be.
    let leave = || {
        for (folder, end) in [
            (&layout.episodes, "from"),
            (&layout.shipped, "to"),
            (&layout.outbox, "from"),
        ] {
            fs::create_dir(folder.join(format!(".sealift-trash-trial-doctor-4194305-{end}")))
                .unwrap();
        }
    };
    leave();
    assert_eq!(host.doctor().row("moves")["status"], "green");
    assert_eq!(listing(&host.sandbox), files);
    // Ctrl-C, at whatever it is.
    for after in 0..40 {
        let mut command = host.command("doctor");
        command.stdout(std::process::Stdio::null());
        let mut doctor = command.spawn().unwrap();
        let until = super::clock() + std::time::Duration::from_millis(after * 3);
        while super::clock() < until && doctor.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = Command::new("kill")
            .args(["-INT", &doctor.id().to_string()])
            .output();
        doctor.wait().unwrap();
    }
    assert_eq!(host.doctor().row("moves")["status"], "green");
    assert_eq!(listing(&host.sandbox), files);

    // While a daemon runs that nobody starts again.
    host.start_daemon();
    leave();
    host.doctor();
    // It makes some files of its own meanwhile.
    let left = listing(&host.sandbox)
        .into_keys()
        .filter(|path| path.to_string_lossy().contains("-trial-"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn folders_that_a_flag_keeps_in_place_are_let_go_by_the_fix_and_no_ownership_is_advised() {
    if !is_root() {
        return;
    }
    let host = host();
    let folders = ["imm", "other's"].map(|id| host.sandbox.seal(id, &[("x.bin", b"1")]));
    let chattr = |flag: &str| {
        let set = Command::new("chattr").arg(flag).args(&folders).output();
        set.is_ok_and(|output| output.status.success())
    };
    if !chattr("+i") {
        println!("skipped: this file system has no such flag");
        return;
    }
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let row = host.doctor().row("moves");
        let typed = host.type_fix(&row).1;
        (row, typed, host.doctor().row("moves"))
    }));
    chattr("-i");
    let (row, typed, after) = seen.unwrap();
    let summary = row["summary"].as_str().unwrap();
    assert_eq!(row["status"], "red", "{row}");
    assert!(
        summary.contains("2 episode folders cannot be moved") && summary.contains("immutable"),
        "{row}"
    );
    assert!(!row.to_string().contains("chown"), "{row}");
    assert!(typed.status.success(), "{row}");
    assert_eq!(after["status"], "green", "{after}");
}
