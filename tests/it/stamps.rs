//! Stamps and inodes that move though nothing was written: what was acknowledged is not sent again
//! for that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crate::support::{Reply, Sandbox, Scripted, eventually, json_of, names, sealift};

/// Moves the ctime of a file, and nothing else that counts.
fn touch_somehow(how: &str, episode: &Path) {
    let (data, link) = (
        episode.join("data.bin"),
        episode.parent().unwrap().join(".link"),
    );
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).arg(&data).status();
        assert!(done.is_ok_and(|status| status.success()), "{how}");
    };
    match how {
        "link" => link_and_unlink(&data, &link),
        "chmod" => {
            run("chmod", &["g+x"]);
            run("chmod", &["g-x"]);
        }
        "chown" => run("chown", &["--reference", &data.display().to_string()]),
        "atime" => run("touch", &["-a", "-d", "2001-01-01"]),
        _ => unreachable!("{how}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "a backup links as it likes")]
fn link_and_unlink(file: &Path, link: &Path) {
    let _ = fs::hard_link(file, link);
    let _ = fs::remove_file(link);
}

#[test]
fn where_only_ctime_moves_during_an_upload_what_was_acknowledged_is_retired_and_not_sent_again() {
    for how in ["link", "chmod", "chown", "atime"] {
        let episode = Arc::new(OnceLock::<PathBuf>::new());
        let of_script = Arc::clone(&episode);
        // A plain server, which would store whatever comes, again and again.
        let server = Scripted::new(move |_, _| {
            touch_somehow(how, of_script.get().unwrap());
            Reply::empty(201)
        });
        let sandbox = Sandbox::new(server.url());
        episode.set(sandbox.layout.episodes.join("run-1")).unwrap();
        let daemon = sandbox.daemon();
        sandbox.seal("run-1", &[("data.bin", b"recorded")]);
        sandbox.wait_shipped("run-1");
        assert_eq!(server.count("run-1"), 1, "{how}: {}", daemon.log());
        assert!(
            !daemon.log().contains("not at rest"),
            "{how}: {}",
            daemon.log()
        );
    }
}

#[test]
fn where_ctime_moves_all_the_time_it_is_said_once_in_red_and_nothing_is_sent_again() {
    let episode = Arc::new(OnceLock::<PathBuf>::new());
    let stop = Arc::new(AtomicBool::new(false));
    let of_script = (Arc::clone(&episode), Arc::clone(&stop));
    let uploads = AtomicUsize::new(0);
    let server = Scripted::new(move |seen, _| {
        // It is no receiver of ours, and is asked.
        if seen.head.starts_with("GET") {
            return Reply::empty(404);
        }
        let (episode, stop) = (of_script.0.get().unwrap().clone(), Arc::clone(&of_script.1));
        assert_eq!(uploads.fetch_add(1, Ordering::SeqCst), 0, "it is sent once");
        // From before the answer, until it is told to stop, and wherever the episode stands.
        let (begun, begins) = mpsc::channel();
        thread::spawn(move || {
            let (data, link) = (
                episode.join("data.bin"),
                episode.parent().unwrap().join(".link"),
            );
            while !stop.load(Ordering::SeqCst) {
                link_and_unlink(&data, &link);
                let _ = begun.send(());
            }
        });
        begins.recv().unwrap();
        Reply::empty(201)
    });
    let sandbox = Sandbox::new(server.url());
    episode.set(sandbox.layout.episodes.join("run-1")).unwrap();
    let daemon = sandbox.daemon();
    // So large that it cannot be read between two of them, also where the thread that makes them
    // waits its turn behind twenty others.
    sandbox.seal("run-1", &[("data.bin", &vec![7; 128 << 20])]);
    eventually("it is held by the receiver", || server.count("run-1") == 1);
    eventually("it was found changed", || {
        daemon.log().contains("not at rest")
    });
    stop.store(true, Ordering::SeqCst);
    sandbox.wait_shipped("run-1");
    assert_eq!(server.count("run-1"), 1, "{}", daemon.log());
    let receipt =
        crate::support::json_file(&sandbox.shipped("run-1").join("shipping_receipt.json"));
    assert!(
        receipt["receiver"]
            .as_str()
            .unwrap()
            .starts_with(&server.url()),
        "{receipt}"
    );
}

/// A mergerfs over two folders, mounted until this is dropped.
struct Merged(PathBuf);

impl Merged {
    /// `None` where there is none to be had.
    fn over(sandbox: &Sandbox, options: &str) -> Option<Self> {
        let (one, two, at) = (
            sandbox.path("disk-1"),
            sandbox.path("disk-2"),
            sandbox.data(),
        );
        for folder in [&one, &two] {
            fs::create_dir_all(folder).unwrap();
        }
        let branches = format!("{}:{}", one.display(), two.display());
        let made = Command::new("mergerfs")
            .args([
                "-o",
                &format!("{options},nonempty,category.create=mfs"),
                &branches,
            ])
            .arg(&at)
            .output();
        if made.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "CI has mergerfs and may mount it: {made:?}"
        );
        println!("skipped: needs mergerfs, /dev/fuse and root");
        None
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_mergerfs_where_each_rename_gives_a_folder_another_inode_each_episode_is_sent_once_and_leaves()
{
    for options in ["use_ino", "use_ino,inodecalc=path-hash", "defaults"] {
        let server = Scripted::new(|_, _| Reply::empty(201));
        let sandbox = Sandbox::new(server.url());
        let Some(_merged) = Merged::over(&sandbox, options) else {
            return;
        };
        for folder in ["episodes", "outbox", "shipped", "quarantine"] {
            fs::create_dir_all(sandbox.data().join(folder)).unwrap();
        }
        let mut daemon = sandbox.daemon();
        let ids = ["run-1", "run-2", "run-3"];
        for id in ids {
            sandbox.seal(
                id,
                &[("data.bin", id.as_bytes()), ("deep/er/notes", b"once")],
            );
        }
        for id in ids {
            sandbox.wait_shipped(id);
            assert_eq!(server.count(id), 1, "{options}: {}", daemon.log());
        }
        eventually("the outbox is empty", || sandbox.outbox().is_empty());
        assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
        assert!(daemon.terminate().success());
    }
}

#[test]
fn on_mergerfs_a_folder_made_anew_under_the_old_name_has_the_old_inode_and_is_another_episode_all_the_same()
 {
    let server = Scripted::new(|_, _| Reply::empty(201));
    let sandbox = Sandbox::new("");
    let Some(_merged) = Merged::over(&sandbox, "use_ino") else {
        return;
    };
    for folder in ["episodes", "outbox", "shipped", "quarantine"] {
        fs::create_dir_all(sandbox.data().join(folder)).unwrap();
    }
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded first")]);
    let busy = Scripted::new(|_, _| Reply::empty(503));
    let once = |url: &str| {
        let mut command = sealift();
        command
            .args(["ship", "--once", "--json", "--receiver", url, "--data"])
            .arg(sandbox.data());
        json_of(command.output().unwrap())
    };
    assert_eq!(once(&busy.url()).0, 1);
    remove(&episode);
    sandbox.seal("run-1", &[("data.bin", b"recorded second")]);
    let (code, tally) = once(&server.url());
    assert_eq!(code, 1, "what may be a last copy was put aside: {tally}");
    let aside = sandbox.quarantined("run-1").join("run-1.tar.zst");
    let tar = zstd::decode_all(fs::File::open(aside).unwrap()).unwrap();
    assert!(tar.windows(14).any(|window| window == b"recorded first"));
    // What was packed of the second goes its way, now or with the next pass.
    once(&server.url());
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded second"
    );
}

#[test]
fn on_mergerfs_where_a_recorder_may_write_to_a_branch_seal_and_the_doctor_say_that_it_cannot_be_told()
 {
    let server = Scripted::new(|_, _| Reply::empty(201));
    let sandbox = Sandbox::new(server.url());
    let Some(_merged) = Merged::over(&sandbox, "defaults") else {
        return;
    };
    for folder in ["episodes", "outbox", "shipped", "quarantine"] {
        fs::create_dir_all(sandbox.data().join(folder)).unwrap();
    }
    let mut daemon = sandbox.daemon();
    let episode = sandbox.record("run-1", &[("data.bin", b"head")]);
    let cannot_tell = "is on FUSE, where a file that is open for writing through another mount or on another host \
                       cannot be told";
    let sealed = sealift().arg("seal").arg(&episode).output().unwrap();
    let said = String::from_utf8(sealed.stdout).unwrap();
    assert!(
        sealed.status.success() && said.contains(&format!("  it {cannot_tell}")),
        "{said}"
    );
    sandbox.wait_shipped("run-1");
    let (_, doctor) = json_of(sandbox.command("doctor").arg("--json").output().unwrap());
    let row = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == "open-files")
        .unwrap();
    assert_eq!(
        (&row["status"], &row["details"]["file_system"]),
        (&"green".into(), &"FUSE".into())
    );
    assert!(
        row["summary"].as_str().unwrap().contains(cannot_tell),
        "{row}"
    );
    assert!(daemon.terminate().success());
}

#[expect(clippy::disallowed_methods, reason = "operators remove as they like")]
fn remove(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
}
