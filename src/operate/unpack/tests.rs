//! Archives that no honest packer makes, and what becomes of them: an error, and nothing outside
//! the folder.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use tar::{EntryType, Header};

use super::*;

/// A tar stream, by hand: whatever is asked for is written.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// With the top folder `a/`.
    fn new() -> Self {
        Self::default().folder("a/")
    }

    fn header(
        mut self,
        kind: EntryType,
        path: &[u8],
        target: &[u8],
        mode: u32,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn folder(self, path: &str) -> Self {
        self.header(EntryType::Directory, path.as_bytes(), b"", 0o755, b"")
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.header(
            EntryType::Regular,
            path.as_bytes(),
            b"",
            0o644,
            content.as_bytes(),
        )
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.header(
            EntryType::Symlink,
            path.as_bytes(),
            target.as_bytes(),
            0o777,
            b"",
        )
    }

    fn pax(self, key: &str, value: &str) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut len = rest;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        let record = format!("{len} {key}={value}\n");
        self.header(EntryType::XHeader, b"pax", b"", 0o644, record.as_bytes())
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A folder to unpack into, beside things that must stay as they are.
struct Sandbox {
    root: tempfile::TempDir,
    into: PathBuf,
}

const LIMITS: Limits = Limits {
    max_bytes: 1 << 20,
    is_room: false,
};

impl Sandbox {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let into = root.path().join("scratch/into");
        fs::create_dir_all(&into).unwrap();
        fs::create_dir(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/precious"), "kept").unwrap();
        Self { root, into }
    }

    fn unpack(&self, tar: Tar) -> Result<Unpacked, UnpackError> {
        self.unpack_archive(&zstd::encode_all(&tar.bytes()[..], 1).unwrap(), LIMITS)
    }

    fn unpack_archive(&self, archive: &[u8], limits: Limits) -> Result<Unpacked, UnpackError> {
        let path = self.root.path().join("archive");
        fs::write(&path, archive).unwrap();
        let id = EpisodeId::parse("a").unwrap();
        unpack(
            File::open(path).unwrap(),
            &id,
            &self.into,
            limits,
            &Progress::default(),
            &|_| (),
        )
    }

    /// Nothing beside the folder was made, changed or removed.
    fn assert_alone(&self, what: &str) {
        let names = |folder: &Path| {
            let mut names: Vec<_> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            names(self.root.path()),
            ["archive", "outside", "scratch"],
            "{what}"
        );
        assert_eq!(names(&self.root.path().join("scratch")), ["into"], "{what}");
        assert_eq!(
            names(&self.root.path().join("outside")),
            ["precious"],
            "{what}"
        );
        assert_eq!(
            fs::read(self.root.path().join("outside/precious")).unwrap(),
            b"kept",
            "{what}"
        );
    }
}

fn why(result: Result<Unpacked, UnpackError>) -> String {
    match result {
        Ok(unpacked) => panic!("unpacked: {unpacked:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn no_path_of_an_archive_leads_out_of_the_folder() {
    for path in [
        "../evil",
        "a/../../evil",
        "a/..",
        "a/../a/x",
        "/a/x",
        "//a/x",
        "/etc/evil",
        "a//x",
        "a/./x",
        "./a/x",
        "b/x",
        "ab/x",
        "",
        "/",
        ".",
        "a",
        "a/x/",
    ] {
        let sandbox = Sandbox::new();
        let said = why(sandbox.unpack(Tar::new().file(path, "evil")));
        assert!(said.contains("refused"), "{path}: {said}");
        // By its own check, and not only because such a name is there already.
        assert!(
            !path.starts_with("a/") || said.contains("no name"),
            "{path}: {said}"
        );
        sandbox.assert_alone(path);
        // The same by a PAX record, which has no bound of 100 bytes.
        let said = why(sandbox.unpack(Tar::new().pax("path", path).file("a/x", "evil")));
        assert!(said.contains("refused"), "{path}: {said}");
        sandbox.assert_alone(path);
    }
    let sandbox = Sandbox::new();
    let said = why(sandbox.unpack(Tar::new().pax("path", "a/x\0y").file("a/x", "evil")));
    assert!(said.contains("no name"), "{said}");
}

#[test]
fn no_symlink_of_an_archive_is_followed() {
    let sandbox = Sandbox::new();
    let outside = sandbox
        .root
        .path()
        .join("outside")
        .to_str()
        .unwrap()
        .to_owned();
    let short = |target: &str| target.to_owned();
    for target in [short("../../outside"), short(".."), short("/etc"), outside] {
        for through in [
            Tar::new()
                .pax("linkpath", &target)
                .symlink("a/l", "x")
                .file("a/l/evil", "evil"),
            Tar::new()
                .pax("linkpath", &target)
                .symlink("a/l", "x")
                .folder("a/l/evil/"),
            Tar::new()
                .pax("linkpath", &target)
                .symlink("a/l", "x")
                .folder("a/l/"),
            Tar::new()
                .pax("linkpath", &format!("{target}/precious"))
                .symlink("a/l", "x")
                .file("a/l", "evil"),
            Tar::new()
                .pax("linkpath", &target)
                .symlink("a/l", "x")
                .symlink("a/l/evil", "y"),
        ] {
            let sandbox = Sandbox::new();
            let said = why(sandbox.unpack(through));
            assert!(said.contains("refused"), "{said}");
            sandbox.assert_alone(&target);
        }
    }
    // As they are, wherever they lead, a symlink restores as a symlink.
    let sandbox = Sandbox::new();
    sandbox
        .unpack(
            Tar::new()
                .symlink("a/l", "../../outside/precious")
                .symlink("a/d", "nowhere"),
        )
        .unwrap();
    assert_eq!(
        fs::read_link(sandbox.into.join("l")).unwrap(),
        Path::new("../../outside/precious")
    );
    let said = why(Sandbox::new().unpack(Tar::new().symlink("a/l", "")));
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn only_folders_files_and_symlinks_are_made() {
    let types = [
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "FIFO"),
        (EntryType::GNUSparse, "sparse"),
        (EntryType::Continuous, "not known"),
        (EntryType::XGlobalHeader, "not known"),
        (EntryType::new(b'V'), "not known"),
    ];
    for (kind, words) in types {
        let sandbox = Sandbox::new();
        let tar = Tar::new().header(kind, b"a/x", b"a/y", 0o666, b"");
        let said = why(sandbox.unpack(tar));
        assert!(said.contains(words), "{kind:?}: {said}");
        assert!(!sandbox.into.join("x").exists());
    }
    let said = why(Sandbox::new().unpack(Tar::new().pax("GNU.sparse.major", "1").file("a/x", "")));
    assert!(said.contains("sparse"), "{said}");
    let with_content = Tar::new().header(EntryType::Directory, b"a/d/", b"", 0o755, b"content");
    assert!(why(Sandbox::new().unpack(with_content)).contains("with content"));
}

#[test]
fn what_comes_twice_or_out_of_its_place_is_refused() {
    for (tar, words) in [
        (Tar::new().file("a/x", "1").file("a/x", "2"), "twice"),
        (Tar::new().folder("a/d/").folder("a/d/"), "twice"),
        (Tar::new().file("a/x", "1").symlink("a/x", "y"), "twice"),
        (Tar::new().file("a/x", "1").folder("a/x/"), "twice"),
        (Tar::new().folder("a/"), "second time"),
        (Tar::new().file("a/d/x", "1"), "behind its folder"),
        (
            Tar::new().file("a/x", "1").file("a/x/y", "1"),
            "behind its folder",
        ),
        (
            Tar::new().folder("a/d/").file("a/x", "").file("a/d/y", ""),
            "behind its folder",
        ),
        (Tar::default().file("a/x", ""), "behind the top folder"),
        (Tar::default().file("a", ""), "the top folder"),
        (Tar::default().symlink("a", "/etc"), "the top folder"),
    ] {
        let said = why(Sandbox::new().unpack(tar));
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(why(Sandbox::new().unpack(Tar::default())).contains("empty"));
}

#[test]
fn permissions_and_times_are_restored_and_set_id_bits_are_not() {
    let sandbox = Sandbox::new();
    let tar = Tar::new()
        .header(EntryType::Directory, b"a/locked/", b"", 0o2555, b"")
        .header(EntryType::Regular, b"a/locked/suid", b"", 0o6755, b"x")
        .header(EntryType::Directory, b"a/locked/sticky/", b"", 0o1777, b"")
        .header(EntryType::Regular, b"a/none", b"", 0, b"")
        .pax("mtime", "-5.5")
        .file("a/old", "");
    let unpacked = sandbox.unpack(tar).unwrap();
    assert_eq!(unpacked.files, 3);
    let mode = |name: &str| {
        fs::symlink_metadata(sandbox.into.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode("locked"), mode("locked/suid"), mode("locked/sticky")),
        (0o555, 0o755, 0o777)
    );
    assert_eq!((mode("none"), mode("")), (0, 0o755));
    let stat = |name: &str| fs::metadata(sandbox.into.join(name)).unwrap();
    assert_eq!(stat("locked/suid").mtime(), 1_700_000_000);
    assert_eq!(
        (stat("old").mtime(), stat("old").mtime_nsec()),
        (-6, 500_000_000)
    );
}

#[test]
fn an_archive_that_would_become_too_much_is_stopped() {
    let zeros = |bytes: usize| {
        let content = "\0".repeat(bytes);
        zstd::encode_all(&Tar::new().file("a/x", &content).bytes()[..], 1).unwrap()
    };
    let sandbox = Sandbox::new();
    let said = why(sandbox.unpack_archive(&zeros(2 << 20), LIMITS));
    assert!(said.contains("--max-bytes"), "{said}");
    assert!(!sandbox.into.join("x").exists(), "not even begun");
    let room = Limits {
        is_room: true,
        ..LIMITS
    };
    assert!(why(Sandbox::new().unpack_archive(&zeros(2 << 20), room)).contains("room"));
    assert!(
        Sandbox::new()
            .unpack_archive(&zeros(1000 * 1000), LIMITS)
            .is_ok()
    );
    // Zeros behind the end mark, without end.
    let endless = [Tar::new().bytes(), vec![0; 4 << 20]].concat();
    let said =
        why(Sandbox::new().unpack_archive(&zstd::encode_all(&endless[..], 1).unwrap(), LIMITS));
    assert!(said.contains("--max-bytes"), "{said}");
    // An extension header that claims more than it may.
    let claims = Tar::new().pax("comment", &"x".repeat(1 << 20));
    let limits = Limits {
        max_bytes: 8 << 20,
        is_room: false,
    };
    let said =
        why(Sandbox::new()
            .unpack_archive(&zstd::encode_all(&claims.bytes()[..], 1).unwrap(), limits));
    assert!(said.contains("extension header"), "{said}");
    let mut deep = (0..).scan("a/".to_owned(), |path, _| {
        path.push_str("d/");
        Some(path.clone())
    });
    let nested = |tar: Tar, path: &String| tar.pax("path", path).folder("a/long/");
    let fits = deep
        .by_ref()
        .take(MAX_DEPTH)
        .fold(Tar::new(), |tar, path| nested(tar, &path));
    let too_deep = nested(Tar(fits.0.clone()), &deep.next().unwrap());
    assert!(Sandbox::new().unpack(fits).is_ok());
    assert!(why(Sandbox::new().unpack(too_deep)).contains("nested deeper"));
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &Tar::new().bytes()).unwrap();
    let archive = encoder.finish().unwrap();
    assert!(matches!(
        Sandbox::new().unpack_archive(&archive, LIMITS),
        Err(UnpackError::Archive(_))
    ));
}

#[test]
fn an_archive_is_whole_and_nothing_follows_it() {
    let tar = Tar::new().file("a/x", &"content".repeat(1000)).bytes();
    let archive = zstd::encode_all(&tar[..], 1).unwrap();
    assert!(Sandbox::new().unpack_archive(&archive, LIMITS).is_ok());
    for cut in [0, 1, 10, archive.len() / 2, archive.len() - 1] {
        assert!(
            Sandbox::new()
                .unpack_archive(&archive[..cut], LIMITS)
                .is_err(),
            "cut at {cut}"
        );
    }
    for (behind, what) in [
        (&archive[..], "a frame"),
        (b"x", "a byte"),
        (b"\x50\x2a\x4d\x18\0\0\0\0", "skippable"),
    ] {
        let said = why(Sandbox::new().unpack_archive(&[&archive[..], behind].concat(), LIMITS));
        assert!(said.contains("follows"), "{what}: {said}");
    }
    let tars =
        |tar: &[u8]| Sandbox::new().unpack_archive(&zstd::encode_all(tar, 1).unwrap(), LIMITS);
    assert!(
        tars(&[&tar[..], &[0; 10240]].concat()).is_ok(),
        "the padding of other tars"
    );
    assert!(why(tars(&[&tar[..], b"x"].concat())).contains("follows"));
    assert!(why(tars(&tar[..tar.len() - 1024])).contains("ends"));
    assert!(why(tars(&tar[..tar.len() - 512])).contains("ends"));
    let mut flipped = tar.clone();
    flipped[512] ^= 1;
    assert!(why(tars(&flipped)).contains("checksum"));
    let one_block = [&tar[..tar.len() - 512], &tar[..512], &[0; 1024]].concat();
    assert!(why(tars(&one_block)).contains("end mark"));
}

#[test]
fn long_names_in_either_form_are_restored() {
    let sandbox = Sandbox::new();
    let long = format!("a/{}", "n".repeat(200));
    let newline = format!("a/{}\nb", "m".repeat(150));
    let tar = Tar::new()
        .pax("path", &long)
        .file("a/cut", "pax")
        .pax("path", &newline)
        .file("a/cut", "newline")
        .header(
            EntryType::GNULongName,
            b"././@LongLink",
            b"",
            0o644,
            format!("{long}2\0").as_bytes(),
        )
        .file("a/cut", "gnu");
    sandbox.unpack(tar).unwrap();
    let read = |path: &str| fs::read_to_string(sandbox.into.join(&path[2..])).unwrap();
    assert_eq!(
        (read(&long), read(&newline), read(&format!("{long}2"))),
        ("pax".into(), "newline".into(), "gnu".into())
    );
}

#[test]
fn told_to_stop_it_stops() {
    let sandbox = Sandbox::new();
    let path = sandbox.root.path().join("archive");
    fs::write(&path, zstd::encode_all(&Tar::new().bytes()[..], 1).unwrap()).unwrap();
    let progress = Progress::default();
    progress.cancel();
    let id = EpisodeId::parse("a").unwrap();
    let result = unpack(
        File::open(path).unwrap(),
        &id,
        &sandbox.into,
        LIMITS,
        &progress,
        &|_| (),
    );
    assert!(matches!(result, Err(UnpackError::Cancelled(_))));
}
