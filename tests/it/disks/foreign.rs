//! File systems that do less than ext4 does: exFAT through FUSE (no symlinks, no `:`, no
//! set-group-ID, one name for `a` and `A`), NTFS that ignores letter case, and an overlay, in which
//! what the lower layer has can be given no other name.

use std::{
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, symlink},
    },
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::support::{
    Mounted, Reply, Sandbox, Scripted, eventually_within, json_of, names, sealift,
};

const PATIENCE: Duration = Duration::from_secs(120);
const IMAGE_BYTES: u64 = 48 << 20;

/// An image of a file system of its own, mounted through FUSE.
struct Foreign {
    folder: PathBuf,
    device: Option<String>,
}

fn tool(program: &str) -> Option<PathBuf> {
    let found =
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|folder| Path::new(folder).join(program));
    let found = found.into_iter().find(|path| path.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI has {program} (.ci/install)"
        );
        println!("skipped: {program} is not there");
    }
    found
}

fn run(command: &mut Command) -> Option<String> {
    let output = command.output().unwrap();
    if output.status.success() {
        return Some(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
    None
}

fn image(sandbox: &Sandbox, folder: &Path) -> PathBuf {
    let image = sandbox.path(&format!("{}.img", folder.file_name().unwrap().display()));
    fs::File::create(&image)
        .unwrap()
        .set_len(IMAGE_BYTES)
        .unwrap();
    image
}

impl Foreign {
    /// NTFS, with its own letters' case kept and looked past.
    fn ntfs(sandbox: &Sandbox, folder: &Path) -> Option<Self> {
        let (mount, image) = (tool("lowntfs-3g")?, image(sandbox, folder));
        run(Command::new(tool("mkfs.ntfs")?)
            .args(["-F", "-Q"])
            .arg(&image))?;
        run(Command::new(mount)
            .args(["-o", "ignore_case"])
            .arg(&image)
            .arg(folder))?;
        Some(Self {
            folder: folder.to_owned(),
            device: None,
        })
    }

    fn exfat(sandbox: &Sandbox, folder: &Path) -> Option<Self> {
        let (mount, image) = (tool("mount.exfat-fuse")?, image(sandbox, folder));
        run(Command::new(tool("mkfs.exfat")?).arg(&image))?;
        let device = run(Command::new("losetup").args(["-f", "--show"]).arg(&image))?;
        let foreign = Self {
            folder: folder.to_owned(),
            device: Some(device.clone()),
        };
        run(Command::new(mount).arg(device).arg(folder))?;
        Some(foreign)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).output();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).output();
        }
    }
}

/// The data folder as an overlay: what is below it was recorded before.
pub(crate) struct Overlay(PathBuf);

impl Overlay {
    pub(crate) fn over(sandbox: &Sandbox) -> Option<(Self, Mounted)> {
        let (data, lower, upper) = (sandbox.data(), sandbox.path("lower"), sandbox.path("upper"));
        fs::create_dir(&upper).unwrap();
        let disk = Mounted::over(&upper, "64m")?;
        move_aside(&data, &lower);
        fs::create_dir(&data).unwrap();
        fs::create_dir(upper.join("up")).unwrap();
        fs::create_dir(upper.join("work")).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off",
            lower.display(),
            upper.join("up").display(),
            upper.join("work").display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "-o", &options, "none"])
            .arg(&data))?;
        Some((Self(data), disk))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
fn move_aside(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

fn visible(folder: &Path) -> Vec<String> {
    names(folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[test]
fn ids_that_differ_in_letter_case_only_are_retired_together_to_a_disk_that_ignores_it_and_nothing_is_lost()
 {
    const PAIRS: usize = 20;
    let sandbox = Sandbox::with_receiver();
    let Some(_disk) = Foreign::ntfs(&sandbox, &sandbox.layout.shipped) else {
        return;
    };
    let content = |id: &str, n: usize| format!("{id} {n} ").repeat(2000).into_bytes();
    let ids: Vec<_> = (0..PAIRS)
        .flat_map(|n| [format!("Run{n}"), format!("run{n}")])
        .collect();
    for id in &ids {
        let files: Vec<_> = (0..12)
            .map(|n| (format!("part-{n}.bin"), content(id, n)))
            .collect();
        let files: Vec<_> = files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        sandbox.seal(id, &files);
    }
    let _daemon =
        sandbox.start(sandbox.command_with_config("ship", "[receiver]\nconcurrency = 8\n"));
    eventually_within(PATIENCE, "all have left episodes/", || {
        visible(&sandbox.layout.episodes).is_empty()
    });
    let mut whole = Vec::new();
    for name in visible(&sandbox.layout.shipped) {
        let folder = sandbox.layout.shipped.join(&name);
        let receipt = crate::support::json_file(&folder.join("shipping_receipt.json"));
        let id = receipt["episode_id"].as_str().unwrap().to_owned();
        for n in 0..12 {
            let held = fs::read(folder.join(format!("part-{n}.bin")));
            assert_eq!(held.ok(), Some(content(&id, n)), "{name} ({id}), part {n}");
        }
        whole.push(id);
    }
    whole.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(whole, ids);
}

#[test]
fn on_a_disk_that_lists_names_in_lower_case_an_episode_is_known_by_the_id_in_its_record() {
    let rejected_once = AtomicBool::new(false);
    let server = Scripted::new(move |seen, _| match seen.id.as_str() {
        _ if seen.head.starts_with("HEAD") => Reply::html(404),
        "Run-B" if !rejected_once.swap(true, Ordering::SeqCst) => Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "no"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let Some(_shipped) = Foreign::ntfs(&sandbox, &sandbox.layout.shipped) else {
        return;
    };
    let Some(_quarantine) = Foreign::ntfs(&sandbox, &sandbox.layout.quarantine) else {
        return;
    };
    let told = |command: &str, arguments: &[&str]| {
        let output = sandbox.command(command).args(arguments).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for id in ["Run-A", "Run-B"] {
        sandbox.seal(id, &[("x.bin", id.as_bytes())]);
    }
    let (_, tally) = sandbox.ship_once();
    assert_eq!(
        (&tally["shipped"], &tally["fatal"]),
        (&json!(1), &json!(1)),
        "{tally}"
    );
    assert_eq!(visible(&sandbox.layout.shipped), ["run-a"]);
    assert_eq!(visible(&sandbox.layout.quarantine), ["run-b"]);

    let traced = sealift()
        .args(["trace", "Run-A", "--data"])
        .arg(sandbox.data())
        .output()
        .unwrap();
    let traced = String::from_utf8(traced.stdout).unwrap();
    assert!(
        traced.contains("delivered") && traced.contains("201"),
        "{traced}"
    );
    let verified = told("verify", &["--all"]);
    assert!(
        verified.contains("Run-A") && !verified.contains("no receipt of ours"),
        "{verified}"
    );
    let back = told("requeue", &["Run-A", "--from", "shipped"]);
    assert!(back.contains("requeued  Run-A  from shipped"), "{back}");
    let back = told("requeue", &["--all", "--from", "quarantine"]);
    assert!(back.contains("requeued  Run-B  from quarantine"), "{back}");
    assert_eq!(visible(&sandbox.layout.episodes), ["Run-A", "Run-B"]);
    let (code, tally) = sandbox.ship_once();
    assert_eq!((code, &tally["shipped"]), (0, &json!(2)), "{tally}");
    let delivered = server.seen();
    let delivered: Vec<_> = delivered
        .iter()
        .filter(|seen| seen.head.starts_with("PUT"))
        .collect();
    assert_eq!(delivered.len(), 4);
    for seen in delivered {
        assert!(
            ["Run-A", "Run-B"].contains(&seen.id.as_str()),
            "{}",
            seen.id
        );
        let tar = zstd::decode_all(seen.body.as_slice()).unwrap();
        for record in ["quarantine_reason.json", "shipping_receipt.json"] {
            assert!(
                !tar.windows(record.len())
                    .any(|bytes| bytes == record.as_bytes()),
                "{record}"
            );
        }
    }

    // Disk pressure knows it for one that a receiver vouches for.
    let config = "[shipper]\nshipped_free_bytes = 100000000000000\nreconcile_interval_s = 1\n";
    let _daemon = sandbox.start(sandbox.command_with_config("ship", config));
    eventually_within(PATIENCE, "shipped/ is emptied", || {
        visible(&sandbox.layout.shipped).is_empty()
    });
}

#[test]
fn an_episode_in_the_lower_layer_of_an_overlay_is_copied_once_and_leaves() {
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data/x.bin", &[7; 100_000])]);
    symlink("data/x.bin", episode.join("latest")).unwrap();
    sandbox.seal("run-2", &[("data/x.bin", &[8; 100_000])]);
    let Some((_overlay, _disk)) = Overlay::over(&sandbox) else {
        return;
    };
    let (code, counts) = sandbox.ship_once();
    assert_eq!((code, counts["shipped"].as_u64()), (0, Some(2)), "{counts}");
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    assert_eq!(visible(&sandbox.layout.shipped), ["run-1", "run-2"]);
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data/x.bin")).unwrap(),
        [7; 100_000]
    );
    assert_eq!(
        fs::read_link(sandbox.shipped("run-1").join("latest")).unwrap(),
        Path::new("data/x.bin")
    );
    // From the lower layer of shipped/, too, what has aged out goes.
    let (code, _) = sandbox.ship_once();
    assert_eq!(code, 0);
}

#[test]
fn a_disk_that_holds_no_symlink_says_so_at_once_and_what_it_can_hold_is_moved_there() {
    let sandbox = Sandbox::with_receiver();
    let Some(_disk) = Foreign::exfat(&sandbox, &sandbox.layout.shipped) else {
        return;
    };
    let daemon = sandbox.daemon();
    // Folders of two recorders, as docs/recorders.md asks: mode 2770. That cannot be kept, and the
    // move goes on.
    let plain = sandbox.record("plain", &[("a/b.bin", b"1")]);
    Command::new("chmod")
        .args(["-R", "g+s,o-rwx"])
        .arg(&plain)
        .status()
        .unwrap();
    fs::write(plain.join("done.marker"), b"").unwrap();
    eventually_within(PATIENCE, "it is moved", || {
        sandbox.shipped("plain").join("done.marker").exists()
    });
    assert_eq!(
        fs::read(sandbox.shipped("plain").join("a/b.bin")).unwrap(),
        b"1"
    );

    let linked = sandbox.record("linked", &[("x.bin", b"1")]);
    symlink("x.bin", linked.join("latest")).unwrap();
    fs::write(linked.join("done.marker"), b"").unwrap();
    daemon.wait_log("linked cannot go on: delivered, but it cannot be moved");
    for (id, name) in [("colon", "12:30.bin"), ("cases", "X.bin")] {
        sandbox.seal(id, &[("x.bin", b"1"), (name, b"2")]);
        daemon.wait_log(&format!(
            "{id} cannot go on: delivered, but it cannot be moved"
        ));
    }
    let log = daemon.log();
    for what in [
        "linked/latest: a symlink cannot be held by the file system of ",
        "colon/12:30.bin: its name cannot be held by the file system of ",
        "which differs from another's beside it in letter case only, cannot be held by the file system of ",
    ] {
        assert!(log.contains(what), "{what}: {log}");
    }
    assert!(!log.contains("chown"), "{log}");
    assert_eq!(
        visible(&sandbox.layout.episodes),
        ["cases", "colon", "linked"]
    );
    assert_eq!(visible(&sandbox.layout.shipped), ["plain"]);

    let (code, status) = ask(&sandbox, "status");
    let problems = status["problems"].to_string();
    assert_eq!(code, 1, "{problems}");
    assert!(
        problems.contains("3 episodes are delivered and cannot be moved"),
        "{problems}"
    );
    let (code, doctor) = ask(&sandbox, "doctor");
    let row = row(&doctor, "moves");
    assert_eq!((code, row["status"].as_str()), (2, Some("red")), "{row}");
    assert!(
        row["summary"]
            .as_str()
            .unwrap()
            .contains("cannot be held by the file system of"),
        "{row}"
    );
    assert!(!row.to_string().contains("chown"), "{row}");
}

fn ask(sandbox: &Sandbox, command: &str) -> (i32, Value) {
    let mut ask = sealift();
    ask.args([command, "--json", "--data"]).arg(sandbox.data());
    json_of(ask.output().unwrap())
}

fn row<'a>(doctor: &'a Value, id: &str) -> &'a Value {
    doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == id)
        .unwrap()
}

#[test]
fn where_a_data_folder_can_hold_no_socket_it_is_elsewhere_and_the_lock_file_says_where() {
    let sandbox = Sandbox::with_receiver();
    let Some(_disk) = Foreign::exfat(&sandbox, &sandbox.layout.private) else {
        return;
    };
    let runtime = sandbox.path("runtime");
    fs::create_dir(&runtime).unwrap();
    let mut ship = sandbox.command("ship");
    ship.env("XDG_RUNTIME_DIR", &runtime)
        .env_remove("RUNTIME_DIRECTORY");
    let mut daemon = sandbox.start(ship);
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    let lock = crate::support::json_file(&sandbox.layout.private.join("lock"));
    let socket = PathBuf::from(lock["socket"].as_str().unwrap());
    assert!(socket.starts_with(&runtime), "{lock}");
    let folder = fs::symlink_metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(
        folder.mode() & 0o777,
        0o750,
        "other users may not look into it"
    );
    let (code, status) = ask(&sandbox, "status");
    assert_eq!(
        (code, status["daemon"].as_str()),
        (0, Some("running")),
        "{}",
        status["problems"]
    );
    let (_, doctor) = ask(&sandbox, "doctor");
    assert_eq!(
        row(&doctor, "daemon")["status"],
        "green",
        "{}",
        row(&doctor, "daemon")
    );
    assert!(daemon.terminate().success());
    assert!(!socket.exists());
}

#[test]
fn an_immutable_episode_is_red_at_once_and_its_fix_is_chattr() {
    let episode = Arc::new(OnceLock::<PathBuf>::new());
    let flag = {
        let episode = Arc::clone(&episode);
        move |flag: &str| {
            let set = Command::new("chattr")
                .arg(flag)
                .arg(episode.get().unwrap())
                .output();
            set.is_ok_and(|output| output.status.success())
        }
    };
    let (set, was_set) = (flag.clone(), Arc::new(OnceLock::new()));
    let is_set = Arc::clone(&was_set);
    // Before it is answered, so before it can be moved.
    let server = Scripted::new(move |seen, _| {
        is_set.get_or_init(|| set("+i"));
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    let daemon = sandbox.daemon();
    episode.set(sandbox.layout.episodes.join("run-1")).unwrap();
    sandbox.seal("run-1", &[("x.bin", b"1")]);
    eventually_within(PATIENCE, "it is sent", || was_set.get().is_some());
    if was_set.get() != Some(&true) {
        println!("skipped: only root sets that flag, and some file systems have none");
        return;
    }
    let seen = std::panic::catch_unwind(AssertUnwindSafe(|| {
        daemon.wait_log("run-1 cannot go on: delivered, but it cannot be moved");
        let (code, doctor) = ask(&sandbox, "doctor");
        (code, row(&doctor, "moves").clone(), ask(&sandbox, "status"))
    }));
    flag("-i");
    let (code, row, (status_code, status)) = seen.unwrap();
    let fix = format!("chattr -i {}", episode.get().unwrap().display());
    assert_eq!(
        (code, row["status"].as_str(), status_code),
        (2, Some("red"), 1),
        "{row}"
    );
    assert!(row["fix"].as_str().unwrap().ends_with(&fix), "{row}");
    assert!(status["problems"].to_string().contains(&fix), "{status}");
    eventually_within(PATIENCE, "it is moved", || {
        sandbox.shipped("run-1").exists()
    });
    assert_eq!(server.count("run-1"), 1);
}

#[test]
fn inodes_that_are_used_up_are_named_as_such_and_counted() {
    let sandbox = Sandbox::with_receiver();
    let outbox = &sandbox.layout.outbox;
    let few = ["-t", "tmpfs", "-o", "size=8m,nr_inodes=64", "none"];
    if run(Command::new("mount").args(few).arg(outbox)).is_none() {
        return;
    }
    let _disk = Foreign {
        folder: outbox.clone(),
        device: None,
    };
    let mut files = (0..).map(|n| fs::write(outbox.join(format!("{n}.note")), ""));
    assert!(files.any(|made| made.is_err()));
    let daemon = sandbox.daemon();
    sandbox.seal("run-1", &[("x.bin", b"1")]);
    daemon
        .wait_log("its inodes are used up: no file can be made there, however many bytes are free");
    assert!(!daemon.log().contains("chown"), "{}", daemon.log());
    let (_, doctor) = ask(&sandbox, "doctor");
    assert_eq!(
        row(&doctor, "space")["status"],
        "red",
        "{}",
        row(&doctor, "space")
    );
    let (_, status) = ask(&sandbox, "status");
    let rooms = status["snapshot"]["room"].as_array().unwrap();
    let room = rooms
        .iter()
        .find(|room| room["folders"][0] == "outbox")
        .unwrap();
    assert_eq!(room["free_files"], 0, "{room}");
}

/// As `cp -a`, `rsync -a` and `tar x` do it: size and mtimes are those of what was there before.
fn replace_keeping_times(episode: &Path, content: &[u8]) {
    let fresh = episode.with_file_name(".fresh");
    fs::create_dir(&fresh).unwrap();
    for (name, content) in [("data.bin", content), ("done.marker", b"")] {
        fs::write(fresh.join(name), content).unwrap();
        let touch = Command::new("touch")
            .arg("-r")
            .arg(episode.join(name))
            .arg(fresh.join(name))
            .status();
        assert!(touch.unwrap().success());
    }
    move_aside(episode, &episode.with_file_name(".before"));
    move_aside(&fresh, episode);
}

#[test]
fn where_ctime_says_nothing_one_that_replaced_an_episode_with_its_sizes_and_times_is_not_taken_for_it()
 {
    const FIRST: &[u8] = b"recorded first";
    const AGAIN: &[u8] = b"recorded again";
    for status in [503, 201] {
        let episode = Arc::new(OnceLock::<PathBuf>::new());
        let (of_script, replaced) = (Arc::clone(&episode), AtomicBool::new(false));
        let server = Scripted::new(move |seen, _| {
            if seen.head.starts_with("HEAD") {
                return Reply::empty(404);
            }
            let first = !replaced.swap(true, Ordering::SeqCst);
            if first {
                replace_keeping_times(of_script.get().unwrap(), AGAIN);
            }
            if first && status == 503 {
                Reply::empty(503)
            } else {
                Reply::stored(seen)
            }
        });
        let sandbox = Sandbox::new(server.url());
        fs::create_dir_all(&sandbox.layout.episodes).unwrap();
        let Some(_disk) = Foreign::exfat(&sandbox, &sandbox.layout.episodes) else {
            return;
        };
        episode.set(sandbox.layout.episodes.join("run-1")).unwrap();
        let daemon = sandbox.daemon();
        sandbox.seal("run-1", &[("data.bin", FIRST)]);
        eventually_within(PATIENCE, "it is shipped", || {
            sandbox.shipped("run-1").join("done.marker").exists()
        });
        let puts = server
            .seen()
            .into_iter()
            .filter(|seen| seen.head.starts_with("PUT"));
        let sent: Vec<_> = puts
            .map(|seen| super::content_of(&seen.body, "data.bin"))
            .collect();
        assert_eq!(sent, [FIRST, AGAIN], "after {status}: {}", daemon.log());
        assert_eq!(
            fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
            AGAIN
        );
    }
}

/// A folder of this machine as an sshfs shows it, served without a connection that would have to be
/// let in.
struct Sshfs(PathBuf);

impl Sshfs {
    fn over(server: &Path, at: &Path) -> Option<Self> {
        let (sshfs, sftp) = (tool("sshfs")?, tool("/usr/lib/openssh/sftp-server")?);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            // One connection, for as long as it is mounted.
            let stream: OwnedFd = listener.accept().unwrap().0.into();
            let (input, output) = (stream.try_clone().unwrap(), stream);
            let _ = Command::new(sftp).stdin(input).stdout(output).status();
        });
        let options = format!("directport={port}");
        run(Command::new(sshfs)
            .args(["-o", &options])
            .arg(format!("localhost:{}", server.display()))
            .arg(at))?;
        Some(Self(at.to_owned()))
    }
}

impl Drop for Sshfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn on_sshfs_one_that_was_swapped_at_the_server_is_not_retired_as_the_one_that_was_delivered() {
    const FIRST: &[u8] = b"recorded first";
    const AGAIN: &[u8] = b"recorded again";
    let at_the_server = Arc::new(OnceLock::<PathBuf>::new());
    let (of_script, swapped) = (Arc::clone(&at_the_server), AtomicBool::new(false));
    let server = Scripted::new(move |seen, _| {
        if seen.head.starts_with("HEAD") {
            return Reply::empty(404);
        }
        if !swapped.swap(true, Ordering::SeqCst) {
            replace_keeping_times(of_script.get().unwrap(), AGAIN);
        }
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    let there = sandbox.path("there");
    for folder in [&there, &sandbox.layout.episodes] {
        fs::create_dir_all(folder).unwrap();
    }
    let Some(_mounted) = Sshfs::over(&there, &sandbox.layout.episodes) else {
        return;
    };
    at_the_server.set(there.join("run-1")).unwrap();
    let daemon = sandbox.daemon();
    let fresh = there.join(".run-1");
    fs::create_dir(&fresh).unwrap();
    for (name, content) in [("data.bin", FIRST), ("done.marker", b"")] {
        fs::write(fresh.join(name), content).unwrap();
        // As old as a file that was copied there: with the ctime of its mtime, as sshfs says.
        assert!(
            Command::new("touch")
                .args(["-d", "2026-01-01"])
                .arg(fresh.join(name))
                .status()
                .unwrap()
                .success()
        );
    }
    move_aside(&fresh, &there.join("run-1"));
    // What is copied there before the last look is taken back.
    eventually_within(PATIENCE, "the second is shipped", || {
        server.count("run-1") == 2 && !there.join("run-1").exists()
    });
    let puts = server
        .seen()
        .into_iter()
        .filter(|seen| seen.head.starts_with("PUT"));
    let sent: Vec<_> = puts
        .map(|seen| super::content_of(&seen.body, "data.bin"))
        .collect();
    assert_eq!(sent, [FIRST, AGAIN], "{}", daemon.log());
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        AGAIN
    );
}

#[test]
fn an_episode_with_symlinks_is_moved_to_sshfs_and_no_file_gets_the_time_of_a_link() {
    let sandbox = Sandbox::with_receiver();
    let there = sandbox.path("there");
    for folder in [&there, &sandbox.layout.shipped] {
        fs::create_dir_all(folder).unwrap();
    }
    let Some(_mounted) = Sshfs::over(&there, &sandbox.layout.shipped) else {
        return;
    };
    // In whole seconds, as sshfs keeps it.
    let then = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let episode = sandbox.record("run-1", &[("data.bin", b"recorded")]);
    let data = fs::File::options()
        .append(true)
        .open(episode.join("data.bin"));
    data.unwrap().set_modified(then).unwrap();
    for (link, target) in [("latest", "data.bin"), ("gone", "nowhere")] {
        symlink(target, episode.join(link)).unwrap();
    }
    fs::write(episode.join("done.marker"), "").unwrap();
    let (code, told) = sandbox.ship_once();
    assert_eq!(code, 0, "{told}");
    let moved = there.join("run-1");
    for (link, target) in [("latest", "data.bin"), ("gone", "nowhere")] {
        assert_eq!(fs::read_link(moved.join(link)).unwrap(), Path::new(target));
    }
    let data = moved.join("data.bin").metadata().unwrap();
    assert_eq!(data.modified().unwrap(), then);
}

#[test]
fn a_file_that_cannot_be_removed_is_found_before_its_episode_is_copied_away_and_the_fix_is_chattr()
{
    let file = Arc::new(OnceLock::<PathBuf>::new());
    let flag = {
        let file = Arc::clone(&file);
        move |flag: &str| {
            let set = Command::new("chattr")
                .arg(flag)
                .arg(file.get().unwrap())
                .output();
            set.is_ok_and(|output| output.status.success())
        }
    };
    let (set, was_set) = (flag.clone(), Arc::new(OnceLock::new()));
    let is_set = Arc::clone(&was_set);
    let server = Scripted::new(move |seen, _| {
        is_set.get_or_init(|| set("+i"));
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    fs::create_dir_all(&sandbox.layout.shipped).unwrap();
    let Some(_disk) = Mounted::over(&sandbox.layout.shipped, "16m") else {
        return;
    };
    let daemon = sandbox.daemon();
    file.set(sandbox.layout.episodes.join("run-1/data/x.bin"))
        .unwrap();
    sandbox.seal("run-1", &[("data/x.bin", b"1")]);
    eventually_within(PATIENCE, "it is sent", || was_set.get().is_some());
    if was_set.get() != Some(&true) {
        println!("skipped: only root sets that flag, and some file systems have none");
        return;
    }
    let seen = std::panic::catch_unwind(AssertUnwindSafe(|| {
        daemon.wait_log("run-1 cannot go on: delivered, but it cannot be moved");
        (
            ask(&sandbox, "doctor"),
            names(&sandbox.layout.episodes),
            visible(&sandbox.layout.shipped),
        )
    }));
    flag("-i");
    let ((_, doctor), episodes, shipped) = seen.unwrap();
    let fix = format!("chattr -i {}", file.get().unwrap().display());
    let moves = row(&doctor, "moves");
    assert_eq!(moves["status"], "red", "{moves}");
    assert!(moves["fix"].as_str().unwrap().ends_with(&fix), "{moves}");
    assert_eq!(
        (episodes, shipped),
        (vec!["run-1".to_owned()], Vec::new()),
        "nothing is hidden, and nothing there twice"
    );
    eventually_within(PATIENCE, "it is moved", || {
        names(&sandbox.layout.episodes).is_empty()
    });
    assert_eq!(visible(&sandbox.layout.shipped), ["run-1"]);
}

#[test]
fn a_fifo_that_a_disk_cannot_hold_is_left_out_of_the_copy_and_holds_nothing_up() {
    let sandbox = Sandbox::with_receiver();
    let Some(_disk) = Foreign::exfat(&sandbox, &sandbox.layout.shipped) else {
        return;
    };
    let episode = sandbox.record("run-1", &[("x.bin", b"1")]);
    assert!(
        Command::new("mkfifo")
            .arg(episode.join("pipe"))
            .status()
            .unwrap()
            .success()
    );
    fs::write(episode.join("done.marker"), b"").unwrap();
    let (code, counts) = sandbox.ship_once();
    assert_eq!((code, counts["shipped"].as_u64()), (0, Some(1)), "{counts}");
    assert_eq!(
        names(&sandbox.shipped("run-1")),
        ["done.marker", "shipping_receipt.json", "x.bin"]
    );
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
}
