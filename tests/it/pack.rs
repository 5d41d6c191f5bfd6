//! What an archive restores to, by programs that are not ours, and that equal episodes give equal
//! bytes.
//!
//! `SEALIFT_TEST_HEAVY=1` adds a (sparse) file of more than 8 GiB, which takes a minute.
//! `SEALIFT_TEST_FILES=100000` sets how many files "many" are. `SEALIFT_BSDTAR` names a bsdtar that
//! is not on the path.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests play the recorder, who renames and removes as he likes"
)]

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    num::NonZeroU32,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use sealift::{
    disk::tree,
    model::{
        episode::{Digest, EpisodeId},
        progress::Progress,
    },
    ship::{
        archive::{Archive, ArchiveEnd},
        pack::{PackError, PackOptions, PackOutcome, pack},
    },
};

const ID: &str = "Lauf 7 (grün)";

struct Sandbox {
    root: tempfile::TempDir,
    episode: PathBuf,
}

impl Sandbox {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let episode = root.path().join("episodes").join(ID);
        fs::create_dir_all(&episode).unwrap();
        fs::write(episode.join("done.marker"), "").unwrap();
        Self { root, episode }
    }

    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.episode.join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn partial(&self) -> PathBuf {
        self.root.path().join("a.partial")
    }

    fn pack_as(&self, level: i32, workers: u32) -> Result<PackOutcome, PackError> {
        let (writer, _) = Archive::create(&self.partial()).unwrap();
        let options = PackOptions {
            level,
            workers: NonZeroU32::new(workers).unwrap(),
            open_files: sealift::ship::pack::OpenFilePolicy::default(),
        };
        pack(
            &EpisodeId::parse(ID).unwrap(),
            &self.episode,
            writer,
            &options,
            &Progress::default(),
        )
    }

    fn pack(&self) -> PackOutcome {
        let packed = self.pack_as(1, 2).unwrap();
        let archive = fs::read(self.partial()).unwrap();
        assert_eq!(Digest::of(&archive), packed.facts.sha256);
        assert_eq!(archive.len() as u64, packed.facts.size_bytes);
        // RFC 8878, section 3.1.1.1.1: with a content checksum, without a pledged size.
        assert_eq!(archive[4] & 0b1110_0100, 0b0000_0100);
        let tar = self.tar();
        assert_eq!(Digest::of(&tar), packed.facts.content_sha256);
        assert_eq!(tar.len() as u64, packed.uncompressed_bytes);
        packed
    }

    fn tar(&self) -> Vec<u8> {
        zstd::decode_all(File::open(self.partial()).unwrap()).unwrap()
    }

    /// Restores with a program, which must have nothing to say about it, and gives the restored
    /// episode.
    fn restore_with(&self, program: &str, arguments: &[&str]) -> PathBuf {
        let target = tempfile::tempdir_in(self.root.path()).unwrap().keep();
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&target)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        zstd::stream::copy_decode(File::open(self.partial()).unwrap(), &mut stdin).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.is_empty(),
            "{program}: {said}"
        );
        target.join(ID)
    }

    fn restore(&self) -> PathBuf {
        self.restore_with(
            "tar",
            &[
                "--warning=no-timestamp",
                "--warning=no-unknown-keyword",
                "-xpf",
                "-",
            ],
        )
    }

    /// Packs, restores with GNU tar, and with bsdtar where there is one, and compares.
    fn assert_restores(&self) {
        self.pack();
        let original = described(&self.episode);
        assert_eq!(described(&self.restore()), original);
        if let Some(bsdtar) = bsdtar() {
            assert_eq!(
                described(&self.restore_with(&bsdtar, &["-xpf", "-"])),
                original,
                "bsdtar"
            );
        }
    }
}

/// `SEALIFT_BSDTAR`, or the one on the path.
fn bsdtar() -> Option<String> {
    let program = std::env::var("SEALIFT_BSDTAR").unwrap_or_else(|_| "bsdtar".to_owned());
    Command::new(&program)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
        .then_some(program)
}

/// What must survive: kind, permission bits, whole-second mtimes of files, content, targets of
/// symlinks.
fn described(episode: &Path) -> BTreeMap<OsString, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![episode.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let mode = stat.mode();
            let text = if stat.is_dir() {
                folders.push(path.clone());
                format!("{mode:o}")
            } else if stat.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else if stat.is_file() {
                let mtime = if path == episode.join("done.marker") {
                    0
                } else {
                    stat.mtime()
                };
                format!("{mode:o} {mtime} {} {}", stat.len(), digest_of(&path))
            } else {
                continue;
            };
            found.insert(
                path.strip_prefix(episode).unwrap().as_os_str().to_owned(),
                text,
            );
        }
    }
    found
}

fn digest_of(path: &Path) -> Digest {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            return Digest::from(hasher);
        }
        hasher.update(&buffer[..read]);
    }
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 123_456_789,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The file system of the temporary folder may not hold such a time at all.
fn holds_mtime(path: &Path, seconds: i64) -> bool {
    set_mtime(path, seconds);
    path.symlink_metadata().unwrap().mtime() == seconds
}

#[test]
fn names_modes_times_links_and_empty_folders_are_restored() {
    let ep = Sandbox::new();
    set_mode(&ep.write("data/plain", "content"), 0o640);
    set_mode(&ep.write("data/setuid", "x"), 0o4755);
    set_mode(&ep.write("secret", "nobody reads this"), 0o000);
    ep.write("empty file", "");
    ep.write("leerzeichen und ümläute\n\"", "x");
    fs::create_dir_all(ep.path("empty/folder")).unwrap();
    set_mode(&ep.path("empty"), 0o2750);
    symlink("data/plain", ep.path("link")).unwrap();
    symlink("/nowhere/at/all", ep.path("dangling")).unwrap();
    symlink("../../..", ep.path("data/up")).unwrap();
    fs::hard_link(ep.path("data/plain"), ep.path("hard")).unwrap();
    if rustix::process::geteuid().is_root() {
        ep.assert_restores();
        assert_eq!(fs::metadata(ep.restore().join("hard")).unwrap().nlink(), 1);
    } else {
        assert!(
            matches!(ep.pack_as(1, 1), Err(PackError::Episode { path, .. }) if path == Path::new("secret"))
        );
        set_mode(&ep.path("secret"), 0o400);
        ep.assert_restores();
    }
}

#[test]
fn long_names_and_names_that_are_not_utf8_are_restored() {
    let ep = Sandbox::new();
    // The top folder's name is 15 bytes with its slash: around ustar's 100, and every length of a
    // PAX number.
    for len in [83, 84, 85, 86, 87, 98, 99, 100, 101, 155, 156, 255] {
        ep.write("n".repeat(len), format!("{len}"));
        fs::create_dir(ep.path(format!("d{}", "f".repeat(len - 1)))).unwrap();
    }
    let deep = vec!["d".repeat(200); 6].join("/");
    ep.write(format!("{deep}/x"), "deep");
    ep.write(
        format!("{}/é", vec!["ü".repeat(100); 3].join("/")),
        "long and not ascii",
    );
    ep.write(OsStr::from_bytes(b"latin1-\xfcml\xe4ut"), "short");
    ep.write(
        OsString::from_vec([&[b'l'; 120][..], b"\xff\xfe"].concat()),
        "long",
    );
    symlink("t".repeat(100), ep.path("target100")).unwrap();
    symlink("t".repeat(101), ep.path("target101")).unwrap();
    symlink("t/".repeat(1500), ep.path("target3000")).unwrap();
    symlink(
        OsStr::from_bytes(&[b'\xff'; 150]),
        ep.path("target not utf8"),
    )
    .unwrap();
    ep.assert_restores();
}

#[test]
fn times_outside_of_what_octal_holds_are_restored() {
    let ep = Sandbox::new();
    let mut held = 0;
    for seconds in [0, 1, -1, -86_400 * 365 * 10, 8_589_934_591, 8_589_934_592] {
        let path = ep.write(format!("at {seconds}"), "x");
        held += usize::from(holds_mtime(&path, seconds));
    }
    assert!(held >= 2, "the file system holds no times worth testing");
    ep.assert_restores();
}

#[test]
fn sparse_files_are_read_as_what_they_contain() {
    let (sparse, full) = (Sandbox::new(), Sandbox::new());
    let mut content = vec![0; 3 * 1024 * 1024];
    content[2_000_000..2_000_003].copy_from_slice(b"abc");
    set_mtime(&full.write("file", &content), 1);
    let path = sparse.path("file");
    let file = File::create(&path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    file.write_all_at(b"abc", 2_000_000).unwrap();
    drop(file);
    set_mtime(&path, 1);
    assert_eq!(sparse.pack().facts, full.pack().facts);
    sparse.assert_restores();
}

#[test]
fn a_file_of_more_than_eight_gibibytes_is_restored() {
    if std::env::var_os("SEALIFT_TEST_HEAVY").is_none() {
        eprintln!("skipped: SEALIFT_TEST_HEAVY=1 runs it");
        return;
    }
    const SIZE_BYTES: u64 = (8 << 30) + 12_345;
    let ep = Sandbox::new();
    let file = File::create(ep.path("big")).unwrap();
    file.set_len(SIZE_BYTES).unwrap();
    file.write_all_at(b"end", SIZE_BYTES - 3).unwrap();
    drop(file);
    ep.write("behind", "still in step");
    ep.pack_as(1, 2).unwrap();
    // What GNU tar and bsdtar read of it, without writing 8 GiB.
    let mut programs = vec!["tar".to_owned()];
    programs.extend(bsdtar());
    for program in programs {
        let mut child = Command::new(&program)
            .args(["-tvf", "-"])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        zstd::stream::copy_decode(File::open(ep.partial()).unwrap(), &mut stdin).unwrap();
        drop(stdin);
        let listed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(
            listed.contains(&format!(" {SIZE_BYTES} ")),
            "{program}: {listed}"
        );
        assert!(
            listed.contains("behind") && listed.contains("done.marker"),
            "{program}: {listed}"
        );
    }
}

#[test]
fn members_stand_in_the_order_of_their_path_bytes() {
    let ep = Sandbox::new();
    for name in ["a/x", "a-b", "a.b", "a0", "a/y/z", "a/y-", "B", "é", "zz"] {
        ep.write(name, name);
    }
    ep.pack();
    let tar = ep.tar();
    let mut names = Vec::new();
    for member in tar::Archive::new(&tar[..]).entries().unwrap() {
        let member = member.unwrap();
        let header = member.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(
            (header.username(), header.groupname()),
            (Ok(Some("")), Ok(Some("")))
        );
        let name = member.path_bytes().into_owned();
        if name.ends_with(b"/") || name.ends_with(b"done.marker") {
            assert_eq!(header.mtime().unwrap(), 0);
        }
        names.push(name);
    }
    assert_eq!(names[0], format!("{ID}/").as_bytes());
    assert!(names.is_sorted());
    assert_eq!(names.len(), 13);
}

#[test]
fn equal_content_gives_equal_bytes() {
    let episode = |order: &[usize]| {
        let ep = Sandbox::new();
        for n in order {
            let content: Vec<u8> = (0..400_000_u32)
                .map(|i| (i.wrapping_mul(i) >> (8 + n)) as u8)
                .collect();
            let path = ep.write(format!("d{}/f{n}", n % 2), content);
            set_mode(&path, 0o644);
            set_mtime(&path, 1_700_000_000 + *n as i64);
            set_mode(path.parent().unwrap(), 0o755);
        }
        set_mode(&ep.path("done.marker"), 0o644);
        set_mode(&ep.episode, 0o755);
        ep
    };
    let (a, b) = (
        episode(&[0, 1, 2, 3, 4, 5, 6, 7]),
        episode(&[5, 3, 7, 1, 0, 2, 6, 4]),
    );
    let facts = a.pack().facts;
    assert_eq!(b.pack().facts, facts);
    for workers in [1, 3, 1000] {
        assert_eq!(b.pack_as(1, workers).unwrap().facts, facts);
    }
    for level in [3, 7] {
        let other = b.pack_as(level, 1).unwrap().facts;
        assert_eq!(other.content_sha256, facts.content_sha256);
        assert_ne!(other.sha256, facts.sha256);
    }
    // What no copy can be trusted to keep does not matter ...
    set_mtime(&b.path("d0"), 1);
    set_mtime(&b.path("done.marker"), 1);
    b.write(
        "quarantine_reason.json",
        r#"{"status_code":412,"quarantined_at_wall":"2026-01-01T00:00:00Z"}"#,
    );
    assert_eq!(b.pack().facts, facts);
    // ... and all that counts does.
    type Change = fn(&Path);
    let changes: [Change; 4] = [
        |file| set_mtime(file, 7),
        |file| set_mode(file, 0o600),
        |file| fs::rename(file, file.with_extension("x")).unwrap(),
        |file| fs::write(file.with_extension("y"), "").unwrap(),
    ];
    let mut last = facts.content_sha256;
    for change in changes {
        change(&b.path("d0/f2"));
        let now = b.pack().facts.content_sha256;
        assert_ne!(now, last);
        last = now;
    }
}

/// The bytes are a promise across versions of this program: a receiver that holds the old ones
/// would see a conflict.
#[test]
fn the_tar_stream_of_a_known_episode_never_changes() {
    let ep = Sandbox::new();
    for (name, mode, mtime) in [
        ("data/x.bin", 0o640, 1_700_000_000),
        ("meta.json", 0o644, -5),
    ] {
        let path = ep.write(name, name);
        set_mode(&path, mode);
        set_mtime(&path, mtime);
    }
    symlink("t".repeat(120), ep.path("link")).unwrap();
    for (name, mode) in [("data", 0o755), ("done.marker", 0o644), (".", 0o775)] {
        set_mode(&ep.path(name), mode);
    }
    assert_eq!(
        ep.pack().facts.content_sha256.to_string(),
        KNOWN_CONTENT_SHA256
    );
}

const KNOWN_CONTENT_SHA256: &str =
    "08e3afe7acbf79f78446ca1c2540dd2f445c35786a08d3813193530253ef236d";

#[test]
fn odd_kinds_are_left_out_and_named() {
    let ep = Sandbox::new();
    ep.write("file", "x");
    mknodat(
        CWD,
        ep.path("d/pipe"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(ep.path("d/socket")).unwrap();
    let packed = ep.pack();
    assert_eq!(
        packed.left_out,
        [Path::new("d/pipe"), Path::new("d/socket")]
    );
    assert_eq!(packed.left_out_count, 2);
    ep.assert_restores();
}

#[test]
fn nothing_outside_is_read_however_often_a_name_is_swapped() {
    let ep = Sandbox::new();
    let outside = ep.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "the secret").unwrap();
    ep.write("swapped/file", "harmless!!");
    symlink(&outside, ep.path("link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(relaxed) {
                rustix::fs::renameat_with(
                    CWD,
                    ep.path("swapped"),
                    CWD,
                    ep.path("link"),
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        for _ in 0..300 {
            if ep.pack_as(1, 1).is_ok() {
                assert!(!ep.tar().windows(10).any(|bytes| bytes == b"the secret"));
            }
        }
        stop.store(true, relaxed);
    });
    ep.assert_restores();
}

#[test]
fn a_file_that_grows_while_it_is_read_is_a_change() {
    let ep = Sandbox::new();
    let path = ep.path("grows");
    File::create(&path)
        .unwrap()
        .set_len(512 * 1024 * 1024)
        .unwrap();
    let (writer, archive) = Archive::create(&ep.partial()).unwrap();
    let progress = Progress::default();
    let options = PackOptions {
        level: 1,
        workers: NonZeroU32::MIN,
        open_files: sealift::ship::pack::OpenFilePolicy::default(),
    };
    let result = std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            pack(
                &EpisodeId::parse(ID).unwrap(),
                &ep.episode,
                writer,
                &options,
                &progress,
            )
        });
        while progress.bytes() == 0 && !packing.is_finished() {
            std::thread::yield_now();
        }
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"+")
            .unwrap();
        packing.join().unwrap()
    });
    assert!(matches!(result, Err(PackError::Changed { path }) if path == Path::new("grows")));
    assert_eq!(archive.growth().end, Some(ArchiveEnd::Abandoned));
}

#[test]
fn a_mount_inside_is_an_error_that_names_it() {
    let ep = Sandbox::new();
    ep.write("in/mounted/file", "x");
    let mounted = ep.path("in/mounted");
    let made = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&mounted)
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI can mount");
        eprintln!("skipped: mounting needs root");
        return;
    }
    let result = ep.pack_as(1, 1);
    let fingerprint = tree::fingerprint(&ep.episode, &Progress::default());
    assert!(
        Command::new("umount")
            .arg(&mounted)
            .status()
            .unwrap()
            .success()
    );
    assert!(matches!(result, Err(PackError::Mount { path }) if path == Path::new("in/mounted")));
    assert!(matches!(fingerprint, Err(tree::TreeError::Mount { .. })));
    assert!(ep.pack_as(1, 1).is_ok());
}

#[test]
fn a_full_outbox_is_no_fault_of_the_episode() {
    let ep = Sandbox::new();
    let noise: Vec<u8> = (0..4_000_000_u64)
        .map(|n| (n.wrapping_mul(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    ep.write("noise", noise);
    let outbox = ep.root.path().join("outbox");
    fs::create_dir(&outbox).unwrap();
    let made = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(&outbox)
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI can mount");
        eprintln!("skipped: mounting needs root");
        return;
    }
    let (writer, archive) = Archive::create(&outbox.join("a.partial")).unwrap();
    let options = PackOptions {
        level: 1,
        workers: NonZeroU32::MIN,
        open_files: sealift::ship::pack::OpenFilePolicy::default(),
    };
    let result = pack(
        &EpisodeId::parse(ID).unwrap(),
        &ep.episode,
        writer,
        &options,
        &Progress::default(),
    );
    let end = archive.growth().end;
    drop(archive);
    assert!(
        Command::new("umount")
            .arg(&outbox)
            .status()
            .unwrap()
            .success()
    );
    assert!(
        matches!(&result, Err(PackError::Outbox(error)) if error.kind() == io::ErrorKind::StorageFull),
        "{result:?}"
    );
    assert_eq!(end, Some(ArchiveEnd::Abandoned));
}

#[test]
fn many_files_and_their_manifest_are_packed_and_verified() {
    let files = std::env::var("SEALIFT_TEST_FILES").map_or(500, |files| files.parse().unwrap());
    let ep = Sandbox::new();
    fs::remove_file(ep.path("done.marker")).unwrap();
    for n in 0..files {
        ep.write(format!("d{:03}/file-{n:06}.bin", n % 100), format!("{n}"));
    }
    let sealed = sealift::disk::manifest::seal(&ep.episode, &Progress::default()).unwrap();
    assert_eq!(sealed.files, files);
    let packed = ep.pack_as(3, 2).unwrap();
    assert_eq!(
        packed.manifest,
        sealift::model::records::ManifestCheck::Verified
    );
    let tar = ep.tar();
    let mut archive = tar::Archive::new(&tar[..]);
    assert_eq!(archive.entries().unwrap().count() as u64, files + 102);
}
