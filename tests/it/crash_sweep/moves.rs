//! Moves to another file system, killed at every call; and what is written while an episode is on
//! its way, to either.
//!
//! ```text
//!  temporary folder       data/episodes, data/outbox, store
//!  /dev/shm, or a tmpfs   shipped, quarantine
//! ```

use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

/// The calls of a copy and of a removal, beside those of any pass.
const MOVING: &[&str] = &[
    "openat",
    "mkdir",
    "mkdirat",
    "pwrite64",
    "ftruncate",
    "fsync",
    "symlinkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
];

/// Seconds for which a call is kept from returning, so that somebody can write meanwhile.
const HELD_S: u32 = 3;

/// A rig whose `shipped/` and `quarantine/` are on another file system than its `episodes/`.
pub(super) struct Across {
    /// Goes first: it may be mounted inside the rig's folder.
    _there: There,
    /// Where they are.
    there: PathBuf,
    pub(super) rig: Rig,
}

/// Removed, or unmounted, with the rig.
enum There {
    Folder { _folder: tempfile::TempDir },
    Mount(PathBuf),
}

impl Drop for There {
    fn drop(&mut self) {
        if let Self::Mount(path) = self {
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

impl There {
    /// `None` on a laptop with one file system.
    fn beside(here: &Path) -> Option<(PathBuf, Self)> {
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        if let Ok(folder) = tempfile::tempdir_in("/dev/shm")
            && device(folder.path()) != device(here)
        {
            return Some((folder.path().to_owned(), Self::Folder { _folder: folder }));
        }
        let mount = here.join("tmpfs");
        fs::create_dir(&mount).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&mount)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some((mount.clone(), Self::Mount(mount)));
        }
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "this is CI, and there is no second file system");
        println!(
            "skipped: /dev/shm and the temporary folder are one file system, and mounting is not permitted"
        );
        None
    }
}

impl Across {
    pub(super) fn new() -> Option<Self> {
        let mut rig = Rig::new()?;
        let (there, kept) = There::beside(&rig.sandbox.path(""))?;
        symlink("data.bin", rig.fixture.join("deep/link")).unwrap();
        fs::create_dir(rig.fixture.join("deep/empty")).unwrap();
        rig.reference = crash::reference_of(&rig.sandbox, &rig.fixture);
        let (shipped, quarantine) = (there.join("shipped"), there.join("quarantine"));
        let config = format!(
            "[shipper]\nquarantine_keep_days = 0\nshipped_dir = {shipped:?}\nquarantine_dir = {quarantine:?}\n\
             [pack]\nworkers = 1\n[receiver]\nconcurrency = 1\n"
        );
        fs::write(rig.sandbox.path("one-of-each.toml"), config).unwrap();
        rig.sandbox.layout.shipped = shipped;
        rig.sandbox.layout.quarantine = quarantine;
        rig.roots.push(there.to_str().unwrap().to_owned());
        Some(Self {
            _there: kept,
            there,
            rig,
        })
    }

    /// Nothing of ours is left beside what is meant to be there.
    #[track_caller]
    pub(super) fn no_scratch(&self) {
        for folder in [
            &self.rig.sandbox.layout.episodes,
            &self.there.join("shipped"),
            &self.there.join("quarantine"),
        ] {
            assert!(
                names(folder).iter().all(|name| !name.starts_with('.')),
                "{:?}",
                names(folder)
            );
        }
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_killed_at_any_call_of_a_move_across_file_systems_leaves_one_copy() {
    let Some(across) = Across::new() else { return };
    let rig = &across.rig;
    let swept = rig.sweep(rig.sandbox.url(), KILL, MOVING, |_| {
        rig.finishes();
        across.no_scratch();
    });
    // The copy is made, published, the source put aside, thrown away, removed.
    for (call, at_least) in [
        ("pwrite64", 3),
        ("mkdirat", 4),
        ("symlinkat", 1),
        ("renameat2", 4),
        ("unlinkat", 7),
    ] {
        assert!(
            swept.get(call).is_some_and(|count| *count >= at_least),
            "{call}: {swept:?}"
        );
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_killed_at_any_call_of_a_quarantine_across_file_systems_leaves_one_copy() {
    let Some(across) = Across::new() else { return };
    let rig = &across.rig;
    let rejecting = Scripted::new(|_, _| {
        Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not ours"}),
        )
    });
    let url = rejecting.url();
    let swept = rig.sweep(&url, KILL, MOVING, |_| {
        rig.ship(&url).output().unwrap();
        rig.is_quarantined();
        across.no_scratch();
    });
    assert!(
        swept["renameat2"] >= 4 && swept["unlinkat"] >= 7,
        "{swept:?}"
    );
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_shipper_whose_disks_fail_while_it_moves_across_them_loses_nothing() {
    let Some(across) = Across::new() else { return };
    let rig = &across.rig;
    for (fault, calls) in [
        ("error=EIO", &["fsync", "renameat2", "unlinkat"][..]),
        (
            "error=ENOSPC",
            &["openat", "mkdirat", "pwrite64", "symlinkat"][..],
        ),
    ] {
        rig.sweep(rig.sandbox.url(), fault, calls, |_| {
            rig.finishes();
            across.no_scratch();
        });
    }
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn the_source_of_a_copy_goes_last_and_only_after_a_look() {
    let Some(across) = Across::new() else { return };
    across.rig.reset();
    in_order(
        &across.rig.traced(across.rig.sandbox.url(), &[]),
        &[
            ("fsync(", ".sealift-copy-0-run-1/data.bin>"),
            ("fsync(", ".sealift-copy-0-run-1>"),
            ("renameat2(", "shipped/run-1\""),
            ("fsync(", "/shipped>"),
            ("renameat2(", "episodes/.sealift-aside-0-run-1\""),
            ("renameat2(", "episodes/.sealift-trash-0-run-1\""),
            ("fsync(", "/episodes>"),
            ("unlinkat(", ".sealift-trash-0-run-1>, \"data.bin\""),
            ("unlink(", "outbox/run-1.tar.zst\""),
        ],
    );
}

/// The bytes that a late recorder wrote, wherever they are.
fn holders_of(folders: &[&Path], late: &[u8]) -> usize {
    let holds = |folder: &&Path| {
        fs::read_dir(folder).unwrap().any(|entry| {
            fs::read(entry.unwrap().path().join("data.bin"))
                .is_ok_and(|bytes| bytes.ends_with(late))
        })
    };
    folders.iter().filter(|folder| holds(folder)).count()
}

/// Has renameat2(2) on a path return late, and writes to a file of the episode once `seen` is
/// there: by a descriptor that was open before, or by one that is opened then in the folder that is
/// given. (What is open for writing when the copying begins is not copied.) `then` gets the running
/// pass.
fn write_while_renamed(
    rig: &Rig,
    on: &Path,
    seen: &Path,
    opened_then: Option<&Path>,
    then: impl FnOnce(Process),
) {
    rig.reset();
    // Of a descriptor that is open before, the wait is over, or leases cannot tell.
    let config = rig.sandbox.path("one-of-each.toml");
    let waits = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        waits.replace("[pack]\n", "[pack]\nopen_files_wait_s = 0\n"),
    )
    .unwrap();
    let open = |folder: &Path| {
        fs::File::options()
            .append(true)
            .open(folder.join("data.bin"))
            .unwrap()
    };
    let before = opened_then
        .is_none()
        .then(|| open(&rig.sandbox.layout.episodes.join(ID)));
    let inject = format!("inject=renameat2:delay_exit={HELD_S}000000");
    let mut strace = rig.strace(&["-D", "-e", &inject, "-P", on.to_str().unwrap()]);
    rig.with_arguments(&mut strace, rig.sandbox.url());
    let pass = rig.sandbox.start(strace);
    eventually("it is renamed", || seen.exists());
    let mut file = before.unwrap_or_else(|| open(opened_then.unwrap()));
    file.write_all(b"late").unwrap();
    drop(file);
    then(pass);
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn what_is_written_when_the_copy_has_its_name_is_not_lost() {
    let Some(across) = Across::new() else { return };
    let layout = &across.rig.sandbox.layout;
    let (copy, source) = (layout.shipped.join(ID), layout.episodes.join(ID));
    write_while_renamed(&across.rig, &copy, &copy, Some(&source), |mut pass| {
        pass.wait();
    });
    assert_eq!(
        holders_of(&[&layout.episodes], b"late"),
        1,
        "{:?}",
        names(&layout.episodes)
    );
    assert_eq!(names(&layout.shipped), [""; 0]);
    across.no_scratch();
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn what_is_written_while_the_source_is_aside_is_not_lost_though_it_is_killed_there() {
    let Some(across) = Across::new() else { return };
    let layout = &across.rig.sandbox.layout;
    let aside = layout.episodes.join(format!(".sealift-aside-0-{ID}"));
    write_while_renamed(&across.rig, &aside, &aside, Some(&aside), Process::kill);
    across.rig.ship(across.rig.sandbox.url()).output().unwrap();
    // What was copied and delivered stands in shipped/; what it became since is a conflict, and
    // stays.
    assert_eq!(names(&layout.shipped), [ID]);
    assert_eq!(
        crash::reference_of(&across.rig.sandbox, &layout.shipped.join(ID)),
        across.rig.reference
    );
    assert_eq!(holders_of(&[&layout.episodes], b"late"), 1);
    across.no_scratch();
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn what_is_written_while_it_is_moved_is_put_back_though_it_is_killed_there() {
    let Some(rig) = Rig::new() else { return };
    let layout = &rig.sandbox.layout;
    let place = layout.shipped.join(ID);
    write_while_renamed(&rig, &place, &place, None, Process::kill);
    rig.ship(rig.sandbox.url()).output().unwrap();
    assert_eq!(names(&layout.shipped), [""; 0]);
    assert_eq!(holders_of(&[&layout.episodes], b"late"), 1);
    assert_eq!(crash::content_of(&rig.sandbox.stored(ID)), rig.reference);
}

#[test]
#[ignore = "run by tests/rigs/crash/run.sh"]
fn a_folder_that_is_created_is_flushed_into_the_one_above_it() {
    let Some(rig) = Rig::new() else { return };
    fs::remove_dir_all(rig.sandbox.data()).unwrap();
    let trace = rig.traced(rig.sandbox.url(), &[]);
    let data = format!("{}>", rig.sandbox.data().display());
    for folder in [
        "data",
        "data/episodes",
        "data/outbox",
        "data/shipped",
        "data/quarantine",
    ] {
        let above = if folder == "data" {
            data.trim_end_matches("/data>")
        } else {
            &data
        };
        in_order(
            &trace,
            &[("mkdir(", &format!("/{folder}\"")), ("fsync(", above)],
        );
    }
}
