//! A recorder that will not stop, and an episode that is not what it says. What an archive restores
//! to is in tests/it/pack.rs.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests play the recorder, who renames and removes as he likes"
)]

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
};

use super::*;
use crate::{
    disk::manifest::seal,
    ship::archive::{Archive, ArchiveEnd},
};

struct Sandbox {
    root: tempfile::TempDir,
    episode: PathBuf,
}

impl Sandbox {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let sandbox = Self {
            episode: root.path().join("a"),
            root,
        };
        fs::create_dir(&sandbox.episode).unwrap();
        files
            .iter()
            .for_each(|(name, content)| sandbox.write(name, content));
        sandbox
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.episode.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn seal(self) -> Self {
        seal(&self.episode, &Progress::default()).unwrap();
        self
    }

    fn pack(&self) -> Result<PackOutcome, PackError> {
        self.pack_while(|_, _| ())
    }

    /// `interfere` is called with the episode's path and each entry's before it is packed.
    fn pack_while(&self, interfere: impl Fn(&Path, &[u8])) -> Result<PackOutcome, PackError> {
        let (writer, archive) = Archive::create(&self.root.path().join("a.partial")).unwrap();
        let id = EpisodeId::parse("a").unwrap();
        let result = pack_observed(
            &id,
            &self.episode,
            writer,
            &OPTIONS,
            &Progress::default(),
            |entry| {
                interfere(&self.episode, entry.path);
            },
        );
        match &result {
            Ok(packed) => assert_eq!(
                archive.growth().end,
                Some(ArchiveEnd::Finished(packed.facts))
            ),
            // Nothing else is ever true of a writer that went, with or without having been created.
            Err(_) => assert_eq!(archive.growth().end, Some(ArchiveEnd::Abandoned)),
        }
        result
    }
}

const OPTIONS: PackOptions = PackOptions {
    level: 1,
    workers: NonZeroU32::MIN,
    open_files: OpenFilePolicy::WaitedFor,
};

/// What this thread has read so far, bytes (proc(5), /proc/pid/io).
fn read_bytes() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
        .unwrap()
}

#[test]
fn a_hole_is_packed_as_zeros_and_not_read() {
    // A file system that is asked for its holes.
    let mut sandbox = Sandbox::new(&[]);
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    sandbox.episode = in_memory.path().join("a");
    let write = |kept: &dyn Fn(&File)| {
        fs::create_dir_all(&sandbox.episode).unwrap();
        let file = File::create(sandbox.episode.join("data.bin")).unwrap();
        kept(&file);
        for at in [0, 5_000_000, 32 << 20] {
            file.write_all_at(b"recorded", at).unwrap();
        }
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        drop(file);
        fs::write(sandbox.episode.join("done.marker"), "").unwrap();
        let before = read_bytes();
        let packed = sandbox.pack().unwrap();
        (packed.facts, read_bytes() - before)
    };
    let (sparse, read) = write(&|file| file.set_len(64 << 20).unwrap());
    let (full, _) = write(&|file| file.write_all_at(&vec![0; 64 << 20], 0).unwrap());
    assert_eq!(sparse, full);
    // A huge page may be data as a whole.
    assert!(read < 8 << 20, "{read} bytes were read");
}

fn changed(result: Result<PackOutcome, PackError>) -> PathBuf {
    match result {
        Err(PackError::Changed { path }) => path,
        other => panic!("expected a change, got {other:?}"),
    }
}

fn fault(result: Result<PackOutcome, PackError>) -> String {
    match result {
        Err(PackError::Fault { error, .. }) => error,
        other => panic!("expected a fault, got {other:?}"),
    }
}

fn append(path: &Path) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(b"+")
        .unwrap();
}

#[test]
fn a_recorder_that_still_writes_is_seen_wherever_it_writes() {
    type Interference = fn(&Path);
    let while_packing_b: [Interference; 8] = [
        |ep| append(&ep.join("a")),
        |ep| append(&ep.join("b")),
        |ep| fs::write(ep.join("a"), "other").unwrap(),
        |ep| fs::write(ep.join("aa"), "").unwrap(),
        |ep| fs::remove_file(ep.join("c")).unwrap(),
        |ep| fs::rename(ep.join("a"), ep.join("a2")).unwrap(),
        |ep| fs::set_permissions(ep.join("a"), fs::Permissions::from_mode(0o600)).unwrap(),
        |ep| {
            fs::remove_file(ep.join("b")).unwrap();
            symlink("/etc/passwd", ep.join("b")).unwrap();
        },
    ];
    for (n, interference) in while_packing_b.into_iter().enumerate() {
        let sandbox = Sandbox::new(&[("a", "1"), ("b", "2"), ("c", "3"), ("done.marker", "")]);
        let result = sandbox.pack_while(|episode, path| {
            if path == b"b" {
                interference(episode);
            }
        });
        assert!(
            matches!(result, Err(PackError::Changed { .. })),
            "{n}: {result:?}"
        );
        assert!(
            n == 4 || n == 7 || sandbox.pack().is_ok(),
            "{n}: it is packed once it is left alone"
        );
    }
}

#[test]
fn a_new_file_behind_the_walk_is_a_change_and_a_write_ahead_of_it_is_none() {
    let sandbox = Sandbox::new(&[("b", "2"), ("done.marker", "")]);
    let behind = sandbox.pack_while(|episode, path| {
        if path == b"done.marker" {
            fs::write(episode.join("a"), "").unwrap();
        }
    });
    let behind = behind.unwrap_err();
    assert_eq!(
        behind.to_string(),
        "the episode's folder changed while it was packed"
    );
    let ahead = sandbox.pack_while(|episode, path| {
        if path == b"a" {
            append(&episode.join("b"));
        }
    });
    let now = tree::fingerprint(&sandbox.episode, &Progress::default()).unwrap();
    assert_eq!(ahead.unwrap().fingerprint, now);
}

#[test]
fn an_episode_that_is_not_sealed_any_more_is_not_packed() {
    let sandbox = Sandbox::new(&[("x", "1")]);
    assert_eq!(changed(sandbox.pack()), Path::new(MARKER));
    fs::remove_dir_all(&sandbox.episode).unwrap();
    assert!(matches!(sandbox.pack(), Err(PackError::Gone)));
}

#[test]
fn a_file_that_shrinks_between_header_and_bytes_is_a_change() {
    let sandbox = Sandbox::new(&[("x", "12345"), ("done.marker", "")]);
    let file = File::open(sandbox.episode.join("x")).unwrap();
    let stat = Stat::of(&file).unwrap();
    for (content, case) in [
        ("123", "short"),
        ("1234567", "long"),
        ("54321", "rewritten"),
    ] {
        fs::write(sandbox.episode.join("x"), content).unwrap();
        let (writer, _archive) = Archive::create(&sandbox.root.path().join("p")).unwrap();
        let progress = Progress::default();
        let stream = TarStream::new(writer, 1, NonZeroU32::MIN, &progress).unwrap();
        let marker = PackedMarker {
            sha256: None,
            check: None,
        };
        let asked = OpenFileCheck::new(OpenFileProbe::never(), OpenFilePolicy::WaitedFor);
        let mut packing = Packing::new(
            &EpisodeId::parse("a").unwrap(),
            stream,
            marker,
            asked,
            &progress,
        );
        let file = File::open(sandbox.episode.join("x")).unwrap();
        let result = packing.content(b"x", &stat, |now| *now == stat, &file, |_| ());
        assert!(
            matches!(result, Err(PackError::Changed { .. })),
            "{case}: {result:?}"
        );
    }
}

#[test]
fn the_content_of_a_directory_is_that_of_the_archive_it_would_become_wherever_it_stands() {
    let sandbox = Sandbox::new(&[("a", "1"), ("d/x", "22"), ("z", "")]).seal();
    symlink("a", sandbox.episode.join("link")).unwrap();
    let packed = sandbox.pack().unwrap();
    let (id, elsewhere) = (
        EpisodeId::parse("a").unwrap(),
        sandbox.root.path().join("a~1"),
    );
    fs::rename(&sandbox.episode, &elsewhere).unwrap();
    let content = || content_of(&id, &elsewhere, &Progress::default()).unwrap();
    assert_eq!(content(), packed.facts.content_sha256);
    append(&elsewhere.join("d/x"));
    assert_ne!(content(), packed.facts.content_sha256);
}

#[test]
fn an_episode_that_agrees_with_its_manifest_is_verified() {
    let sandbox = Sandbox::new(&[("a", "1"), ("a-b", ""), ("a.d/x", "22"), ("z", "")]).seal();
    assert_eq!(sandbox.pack().unwrap().manifest, ManifestCheck::Verified);
    let without = Sandbox::new(&[("a", "1"), ("done.marker", "sealed at noon")]);
    assert_eq!(without.pack().unwrap().manifest, ManifestCheck::None);
}

#[test]
fn an_episode_that_disagrees_with_its_manifest_is_at_fault_and_the_file_is_named() {
    type Damage = fn(&Path);
    let damages: [(Damage, &str); 5] = [
        (
            |ep| fs::write(ep.join("new"), "").unwrap(),
            "new is not in the manifest",
        ),
        (
            |ep| fs::remove_file(ep.join("a")).unwrap(),
            "a is in the manifest and not in the episode",
        ),
        (
            |ep| fs::remove_file(ep.join("z")).unwrap(),
            "z is in the manifest and not in the episode",
        ),
        (
            |ep| fs::write(ep.join("d/x"), "").unwrap(),
            "d/x has 0 bytes, the manifest says 2",
        ),
        (
            |ep| fs::write(ep.join("d/x"), "2x").unwrap(),
            "d/x has another digest than the manifest says",
        ),
    ];
    for (damage, says) in damages {
        let sandbox = Sandbox::new(&[("a", "1"), ("d/x", "22"), ("z", "")]).seal();
        damage(&sandbox.episode);
        assert_eq!(fault(sandbox.pack()), says);
    }
}

#[test]
fn a_disagreement_while_somebody_writes_is_a_change_and_no_fault() {
    let sandbox = Sandbox::new(&[("a", "1"), ("b", "2")]).seal();
    sandbox.write("a", "other");
    let result = sandbox.pack_while(|episode, path| {
        if path == b"b" {
            append(&episode.join("a"));
        }
    });
    changed(result);
}

#[test]
fn half_a_manifest_is_waited_for() {
    let sandbox = Sandbox::new(&[("a", "1")]).seal();
    let whole = fs::read_to_string(sandbox.episode.join(MARKER)).unwrap();
    sandbox.write(MARKER, &whole[..whole.len() / 2]);
    assert!(matches!(
        sandbox.pack(),
        Err(PackError::UnfinishedManifest { .. })
    ));
    sandbox.write(MARKER, &whole);
    assert!(sandbox.pack().is_ok());
}

#[test]
fn a_manifest_of_another_version_is_a_fault_at_once() {
    let sandbox = Sandbox::new(&[("a", "1"), (MARKER, r#"{"sealift_manifest":2,"files":[]}"#)]);
    match sandbox.pack() {
        Err(PackError::Fault { error, fingerprint }) => {
            assert!(error.contains("version 2; this sealift knows 1"), "{error}");
            assert_eq!(
                fingerprint,
                tree::fingerprint(&sandbox.episode, &Progress::default()).unwrap()
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_marker_that_is_rewritten_after_it_was_read_is_a_change() {
    let sandbox = Sandbox::new(&[("a", "1")]).seal();
    let result = sandbox.pack_while(|episode, path| {
        if path.is_empty() {
            fs::write(episode.join(MARKER), "").unwrap();
        }
    });
    assert_eq!(changed(result), Path::new(MARKER));
}

#[test]
fn a_marker_whose_times_are_set_while_it_is_packed_is_no_change() {
    for marker in ["", "sealed at noon"] {
        let sandbox = Sandbox::new(&[("a", "1"), ("z", "2"), (MARKER, marker)]);
        let packed = sandbox.pack_while(|episode, path| {
            if [&b""[..], MARKER.as_bytes(), b"z"].contains(&path) {
                let file = File::options()
                    .write(true)
                    .open(episode.join(MARKER))
                    .unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
                file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(9))
                    .unwrap();
            }
        });
        let now = tree::fingerprint(&sandbox.episode, &Progress::default()).unwrap();
        assert_eq!(packed.unwrap().fingerprint, now);
    }
}

#[test]
fn a_manifest_that_is_rewritten_in_place_at_the_same_length_is_a_change() {
    let sandbox = Sandbox::new(&[("a", "1"), ("z", "2")]).seal();
    let result = sandbox.pack_while(|episode, path| {
        if path == b"z" {
            let manifest = fs::read_to_string(episode.join(MARKER)).unwrap();
            fs::write(
                episode.join(MARKER),
                manifest.replace("\"size_bytes\":1", "\"size_bytes\":2"),
            )
            .unwrap();
        }
    });
    assert_eq!(changed(result), Path::new("."));
}

#[test]
fn the_commit_is_read_from_meta_json_at_the_top() {
    let digits = "ABCDEF0123456789abcdef0123456789abcdef01";
    let commit_of = |name: &str, meta: &str| {
        Sandbox::new(&[(name, meta), ("done.marker", "")])
            .pack()
            .unwrap()
            .commit
    };
    let meta = format!(r#"{{"code_version":{{"commit":"{digits}","dirty":false}},"rig":7}}"#);
    assert_eq!(
        commit_of("meta.json", &meta).unwrap().as_str(),
        digits.to_lowercase()
    );
    assert_eq!(commit_of("in/meta.json", &meta), None);
    for other in [
        "",
        "{}",
        "[1]",
        r#"{"code_version":"x"}"#,
        r#"{"code_version":{"commit":"main"}}"#,
    ] {
        assert_eq!(commit_of("meta.json", other), None);
    }
    let long = format!("{meta}{}", " ".repeat(1024 * 1024));
    assert_eq!(commit_of("meta.json", &long), None);
}

#[test]
fn the_fingerprint_taken_while_packing_is_that_of_the_untouched_directory() {
    let sandbox = Sandbox::new(&[("a", "1"), ("d/x", "22"), ("done.marker", "")]);
    symlink("/etc", sandbox.episode.join("d/link")).unwrap();
    let before = tree::fingerprint(&sandbox.episode, &Progress::default()).unwrap();
    assert_eq!(sandbox.pack().unwrap().fingerprint, before);
}

#[test]
fn a_cancelled_pack_stops_and_abandons() {
    let sandbox = Sandbox::new(&[("a", "1"), ("done.marker", "")]);
    let (writer, archive) = Archive::create(&sandbox.root.path().join("p")).unwrap();
    let progress = Progress::default();
    let id = EpisodeId::parse("a").unwrap();
    let result = pack_observed(&id, &sandbox.episode, writer, &OPTIONS, &progress, |_| {
        progress.cancel();
    });
    assert!(matches!(result, Err(PackError::Cancelled(_))));
    assert_eq!(archive.growth().end, Some(ArchiveEnd::Abandoned));
}
