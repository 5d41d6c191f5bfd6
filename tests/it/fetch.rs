//! `sealift fetch`: an episode comes back, whole or not at all. The other end is a script
//! (fetch/holder.rs).

#![expect(
    clippy::disallowed_methods,
    reason = "the tests play whoever else removes and renames there"
)]

mod holder;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sealift::model::episode::Digest;
use serde_json::{Value, json};

use self::holder::{Holder, Served, header, offset, ranged, whole};
use crate::support::{Reply, Sandbox, Scripted, eventually, json_file, json_of, names, sealift};

const ID: &str = "Lauf 7 (grün)";

/// What must come back: kind, permission bits, whole-second mtimes of files, content, targets of
/// symlinks.
fn described(episode: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![episode.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(episode).unwrap().to_owned();
            if name == Path::new("shipping_receipt.json") {
                continue;
            }
            let stat = path.symlink_metadata().unwrap();
            let mtime = if name == Path::new("done.marker") {
                0
            } else {
                stat.mtime()
            };
            let text = if stat.is_dir() {
                folders.push(path);
                format!("{:o}", stat.mode())
            } else if stat.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else {
                format!(
                    "{:o} {mtime} {}",
                    stat.mode(),
                    Digest::of(&fs::read(&path).unwrap())
                )
            };
            found.insert(name, text);
        }
    }
    found
}

/// An episode that was shipped to our receiver, and its archive as that stored it.
struct Shipped {
    sandbox: Sandbox,
    archive: Vec<u8>,
}

impl Shipped {
    fn new() -> Self {
        Self::with(&[
            ("data.bin", &noise(300_000)),
            ("deep/er/notes.txt", b"once"),
        ])
    }

    fn with(files: &[(&str, &[u8])]) -> Self {
        let sandbox = Sandbox::with_receiver();
        let episode = sandbox.record(ID, files);
        symlink("../../nowhere", episode.join("link")).unwrap();
        fs::create_dir(episode.join("empty")).unwrap();
        fs::set_permissions(episode.join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
        let long = episode.join("n".repeat(150));
        fs::write(&long, "long").unwrap();
        fs::set_permissions(&long, fs::Permissions::from_mode(0o400)).unwrap();
        let old = fs::File::options().append(true).open(&long).unwrap();
        old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_007))
            .unwrap();
        drop(old);
        assert!(
            sealift()
                .arg("seal")
                .arg(&episode)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(sandbox.ship_once().0, 0);
        let stored = sandbox.store().join("episodes");
        let archive = fs::read(stored.join(&names(&stored)[0])).unwrap();
        Self { sandbox, archive }
    }
}

/// Bytes that do not compress, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// A folder to fetch into, and the command.
struct Target(tempfile::TempDir);

impl Target {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn episode(&self) -> PathBuf {
        self.path().join(ID)
    }

    fn command(&self, url: &str) -> Command {
        let mut command = sealift();
        command
            .args(["fetch", ID, "--json", "--receiver", url, "--to"])
            .arg(self.path());
        command
    }

    fn fetch(&self, url: &str) -> Output {
        self.command(url).output().unwrap()
    }

    fn partial(&self) -> PathBuf {
        self.path()
            .join(format!(".sealift-fetch-{ID}.tar.zst.partial"))
    }
}

/// The exit code was 1, and this was said.
#[track_caller]
fn failed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(1), &b""[..]),
        "{said}"
    );
    said
}

#[test]
fn what_was_shipped_comes_back_as_it_was_and_packs_to_the_same_content() {
    let shipped = Shipped::new();
    let holder = Holder::of(shipped.archive.clone());
    let target = Target::new();
    let output = target.fetch(&holder.url());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (code, fetched) = json_of(output);
    assert_eq!(code, 0, "{said}");
    let original = shipped.sandbox.shipped(ID);
    let receipt = json_file(&original.join("shipping_receipt.json"));
    let expected = json!({
        "episode_id": ID,
        "path": target.episode().canonicalize().unwrap(),
        "size_bytes": shipped.archive.len(),
        "sha256": receipt["sha256"],
        "content_sha256": receipt["content_sha256"],
        "verified": true,
    });
    assert_eq!(fetched, expected);
    assert_eq!(
        said,
        format!("fetching {ID}: {} bytes\n", shipped.archive.len())
    );
    assert_eq!(described(&target.episode()), described(&original));
    assert_eq!(names(target.path()), [ID]);

    // Once more the same way: the same content.
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let again = Sandbox::new(server.url());
    fs::rename(target.episode(), again.layout.episodes.join(ID)).unwrap();
    assert_eq!(again.ship_once().0, 0);
    let content = server.seen()[0]
        .header("sealift-content-digest")
        .unwrap()
        .to_owned();
    assert_eq!(
        Digest::from_header(&content).unwrap().to_string(),
        receipt["content_sha256"].as_str().unwrap()
    );
}

#[test]
fn a_line_that_drops_again_and_again_brings_each_byte_once() {
    let shipped = Shipped::new();
    let archive = shipped.archive.clone();
    let holder = Holder::new(move |head, _| ranged(head, &archive).cut_after_or_whole(70_000));
    let target = Target::new();
    let output = target.fetch(&holder.url());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(json_of(output).0, 0, "{said}");
    assert_eq!(
        described(&target.episode()),
        described(&shipped.sandbox.shipped(ID))
    );
    let expected: Vec<_> = (0..shipped.archive.len())
        .step_by(70_000)
        .map(|at| (at > 0).then_some(at))
        .collect();
    assert_eq!(holder.offsets(), expected);
    assert!(said.contains("it broke off and goes on"), "{said}");
}

impl Served {
    /// Broken after so many bytes, where there are more.
    fn cut_after_or_whole(self, bytes: usize) -> Self {
        if self.body.len() > bytes {
            self.cut_after(bytes)
        } else {
            self
        }
    }
}

#[test]
fn killed_or_interrupted_the_next_run_goes_on_where_it_was() {
    let shipped = Shipped::new();
    let archive = shipped.archive.clone();
    let holder = Holder::new(move |head, count| match count {
        0 => ranged(head, &archive).silent_after(100_000),
        1 => ranged(head, &archive).silent_after(50_000),
        _ => ranged(head, &archive),
    });
    let target = Target::new();
    let here = |bytes: u64| {
        eventually("it has arrived", || {
            fs::metadata(target.partial()).is_ok_and(|partial| partial.len() == bytes)
        });
    };
    let killed = shipped.sandbox.start(target.command(&holder.url()));
    here(100_000);
    killed.kill();
    let mut interrupted = shipped.sandbox.start(target.command(&holder.url()));
    here(150_000);
    interrupted.signal("INT");
    assert_eq!(interrupted.wait().code(), Some(1));
    let said = interrupted.log();
    assert!(
        said.contains("stopped. The same command goes on behind the 150000 bytes"),
        "{said}"
    );
    assert!(!target.episode().exists());

    let output = target.fetch(&holder.url());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(json_of(output).0, 0, "{said}");
    assert!(said.contains("are here already"), "{said}");
    assert_eq!(holder.offsets(), [None, Some(100_000), Some(150_000)]);
    assert_eq!(
        described(&target.episode()),
        described(&shipped.sandbox.shipped(ID))
    );
    assert_eq!(names(target.path()), [ID]);
}

#[test]
fn an_archive_that_was_exchanged_meanwhile_is_begun_again_and_never_mixed() {
    let (first, second) = (
        Shipped::new(),
        Shipped::with(&[("data.bin", &noise(400_000)[100_000..])]),
    );
    type Exchange = fn(&str, &[u8]) -> Served;
    let exchanges: [(Exchange, &[Option<usize>]); 3] = [
        // The other archive's digest in the answer to the range.
        (ranged, &[None, Some(100_000), None]),
        // A server that knows no ranges.
        (|_, archive| whole(archive), &[None, Some(100_000)]),
        // A shorter one.
        (
            |head, archive| {
                if offset(head).is_some() {
                    Served::status(416)
                } else {
                    whole(archive)
                }
            },
            &[None, Some(100_000), None],
        ),
    ];
    for (exchange, expected) in exchanges {
        let (a, b) = (first.archive.clone(), second.archive.clone());
        let holder = Holder::new(move |head, count| match count {
            0 => ranged(head, &a).cut_after(100_000),
            _ => exchange(head, &b),
        });
        let target = Target::new();
        let output = target.fetch(&holder.url());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(json_of(output).0, 0, "{said}");
        assert!(said.contains("begins again"), "{said}");
        assert_eq!(holder.offsets(), expected);
        assert_eq!(
            described(&target.episode()),
            described(&second.sandbox.shipped(ID))
        );
    }
}

#[test]
fn without_a_digest_a_strong_validator_names_the_beginning_and_a_weak_one_does_not() {
    let shipped = Shipped::new();
    for (etag, goes_on) in [("\"strong\"", true), ("W/\"weak\"", false)] {
        let archive = shipped.archive.clone();
        let holder = Holder::new(move |head, count| {
            let served = ranged(head, &archive)
                .without("Repr-Digest")
                .without("Sealift-Content-Digest")
                .header("ETag", etag);
            if count == 0 {
                served.cut_after(100_000)
            } else {
                served
            }
        });
        let target = Target::new();
        let output = target
            .command(&holder.url())
            .arg("--unverified")
            .output()
            .unwrap();
        assert_eq!(json_of(output).0, 0);
        assert_eq!(
            holder.offsets(),
            [None, goes_on.then_some(100_000)],
            "{etag}"
        );
        let if_range = header(&holder.heads()[1], "if-range").map(str::to_owned);
        assert_eq!(if_range.as_deref(), goes_on.then_some(etag));
        assert_eq!(
            described(&target.episode()),
            described(&shipped.sandbox.shipped(ID))
        );
    }
}

#[test]
fn an_archive_of_unknown_length_is_taken_too_and_its_rest_asked_for() {
    let shipped = Shipped::new();
    let archive = shipped.archive.clone();
    let holder = Holder::new(move |head, count| {
        if count > 0 {
            return ranged(head, &archive);
        }
        let chunk = [
            format!("{:x}\r\n", archive.len()).as_bytes(),
            &archive,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        Served {
            body: chunk,
            ..whole(&archive)
        }
        .header("Transfer-Encoding", "chunked")
        .cut_after(100_000)
    });
    let target = Target::new();
    let output = target.fetch(&holder.url());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(json_of(output).0, 0, "{said}");
    assert_eq!(holder.heads().len(), 2);
    assert!(offset(&holder.heads()[1]).unwrap() > 90_000);
    assert_eq!(
        described(&target.episode()),
        described(&shipped.sandbox.shipped(ID))
    );
}

#[test]
fn what_was_damaged_on_the_way_is_thrown_away() {
    let shipped = Shipped::new();
    let (good, mut damaged) = (shipped.archive.clone(), shipped.archive.clone());
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let content = header_of(&whole(&good), "Sealift-Content-Digest");
    for (served, words) in [
        // The digest is the good one's.
        (
            Served {
                body: damaged.clone(),
                ..whole(&good)
            },
            "damaged on the way",
        ),
        // The archive is what the receiver says, and what is in it is not.
        (
            Served {
                body: good.clone(),
                ..whole(&good)
            }
            .without("Sealift-Content-Digest")
            .header("Sealift-Content-Digest", Digest::of(b"other").to_header()),
            "what is inside hashes to",
        ),
        // No digest of the archive: zstd's own checksum.
        (
            Served {
                body: damaged,
                ..whole(&good)
            }
            .without("Repr-Digest"),
            "the archive cannot be read",
        ),
    ] {
        assert!(!content.is_empty());
        let holder = Holder::new(move |_, _| served.clone());
        let target = Target::new();
        let said = failed(&target.fetch(&holder.url()));
        assert!(
            said.contains(words) && said.to_lowercase().contains("thrown away"),
            "{said}"
        );
        assert_eq!(names(target.path()), [""; 0]);
    }
}

fn header_of(served: &Served, name: &str) -> String {
    served
        .headers
        .iter()
        .find(|(has, _)| has == name)
        .map(|(_, value)| value.clone())
        .unwrap()
}

#[test]
fn what_cannot_be_verified_is_refused_unless_that_is_asked_for() {
    let shipped = Shipped::new();
    let archive = shipped.archive.clone();
    let holder = Holder::new(move |head, _| {
        ranged(head, &archive)
            .without("Repr-Digest")
            .without("Sealift-Content-Digest")
    });
    let target = Target::new();
    let said = failed(&target.fetch(&holder.url()));
    assert!(said.contains("--unverified"), "{said}");
    assert_eq!(names(target.path()), [""; 0]);
    let (code, fetched) = json_of(
        target
            .command(&holder.url())
            .arg("--unverified")
            .output()
            .unwrap(),
    );
    assert_eq!((code, &fetched["verified"]), (0, &json!(false)));

    // Our own receipt is something to compare with.
    let target = Target::new();
    let with_data = |target: &Target| {
        target
            .command(&holder.url())
            .arg("--data")
            .arg(shipped.sandbox.data())
            .output()
            .unwrap()
    };
    let (code, fetched) = json_of(with_data(&target));
    assert_eq!((code, &fetched["verified"]), (0, &json!(true)));

    // And what the receipt contradicts is not taken, whoever vouches for it.
    let receipt = shipped.sandbox.shipped(ID).join("shipping_receipt.json");
    let mut other: Value = json_file(&receipt);
    other["content_sha256"] = json!(Digest::of(b"other"));
    fs::write(&receipt, other.to_string()).unwrap();
    let target = Target::new();
    let said = failed(&with_data(&target));
    assert!(
        said.contains("other content under this id than was shipped from here"),
        "{said}"
    );
    assert_eq!(names(target.path()), [""; 0]);
    let vouching = Holder::of(shipped.archive.clone());
    let mut command = target.command(&vouching.url());
    let said = failed(
        &command
            .arg("--unverified")
            .arg("--data")
            .arg(shipped.sandbox.data())
            .output()
            .unwrap(),
    );
    assert!(said.contains("other content under this id"), "{said}");
    assert!(!target.episode().exists());
}

#[test]
fn a_name_that_is_taken_is_an_error_before_anything_is_asked() {
    let holder = Holder::new(|_, _| Served::status(500));
    let target = Target::new();
    fs::create_dir(target.episode()).unwrap();
    let said = failed(&target.fetch(&holder.url()));
    assert!(
        said.contains("is there already") && said.contains("--to DIR"),
        "{said}"
    );
    fs::remove_dir_all(target.episode()).unwrap();
    symlink("/nowhere", target.episode()).unwrap();
    assert!(failed(&target.fetch(&holder.url())).contains("is there already"));
    assert_eq!(
        (holder.heads().len(), names(target.path())),
        (0, vec![ID.to_owned()])
    );
}

#[test]
fn each_refusal_says_what_it_is_about() {
    for (served, words) in [
        (Served::status(401), "receiver.token_file"),
        (Served::status(403), "receiver.token_file"),
        (Served::status(404), "holds no such episode"),
        (
            Served::status(302).header("Location", "http://elsewhere/"),
            "http://elsewhere/",
        ),
        (
            Served::status(200).header("Content-Type", "text/html"),
            "is this the receiver's address?",
        ),
        (Served::status(206), "206"),
        (Served::status(501), "501"),
    ] {
        let holder = Holder::new(move |_, _| served.clone());
        let target = Target::new();
        let said = failed(&target.fetch(&holder.url()));
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(
            (holder.heads().len(), names(target.path()).len()),
            (1, 0),
            "{words}"
        );
    }
    let said = failed(&Target::new().fetch("http://127.0.0.1:1"));
    assert!(said.contains("cannot be reached"), "{said}");
}

#[test]
fn a_receiver_that_is_busy_is_asked_again() {
    let shipped = Shipped::new();
    let archive = shipped.archive.clone();
    let holder = Holder::new(move |head, count| match count {
        0 => Served::status(503).header("Retry-After", "0"),
        _ => ranged(head, &archive),
    });
    let output = Target::new().fetch(&holder.url());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(json_of(output).0, 0);
    assert!(
        said.contains("503") && said.contains("tried again in 1 s"),
        "{said}"
    );
}

/// A tar stream with one file at this path.
fn tar_with(path: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, content) in [
        (tar::EntryType::Directory, format!("{ID}/"), &b""[..]),
        (tar::EntryType::Regular, path.to_owned(), content),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn an_archive_that_would_climb_out_is_refused_with_nothing_left_of_it() {
    let target = Target::new();
    for path in [
        "../evil",
        "/tmp/sealift-evil",
        &format!("{ID}/../evil"),
        "other/x",
    ] {
        let holder = Holder::of(zstd::encode_all(&tar_with(path, b"evil")[..], 1).unwrap());
        let said = failed(&target.fetch(&holder.url()));
        assert!(said.contains("refused"), "{path}: {said}");
        let kept = [
            format!(".sealift-fetch-{ID}.json"),
            format!(".sealift-fetch-{ID}.tar.zst.partial"),
        ];
        assert_eq!(names(target.path()), kept);
        assert!(!Path::new("/tmp/sealift-evil").exists());
    }
}

#[test]
fn what_would_become_too_much_is_stopped_and_goes_on_from_what_is_here_when_more_is_allowed() {
    let tar = tar_with(&format!("{ID}/zeros"), &vec![0; 10 << 20]);
    let holder = Holder::of(zstd::encode_all(&tar[..], 1).unwrap());
    let target = Target::new();
    let mut command = target.command(&holder.url());
    let said = failed(&command.args(["--max-bytes", "1000000"]).output().unwrap());
    assert!(
        said.contains("allow more with --max-bytes") && said.contains("The archive stays"),
        "{said}"
    );
    assert!(!target.episode().exists());
    assert_eq!(names(target.path()).len(), 2);
    assert_eq!(json_of(target.fetch(&holder.url())).0, 0);
    assert_eq!(
        holder.heads().len(),
        1,
        "what is here is not asked for again"
    );
    assert_eq!(
        fs::metadata(target.episode().join("zeros")).unwrap().len(),
        10 << 20
    );
}

#[test]
fn killed_while_it_unpacks_the_next_run_unpacks_again() {
    let shipped = Shipped::new();
    let holder = Holder::of(shipped.archive.clone());
    let target = Target::new();
    // What a killed run leaves: a part of the episode under the scratch name, a file in it that
    // nobody may write.
    let scratch = target.path().join(format!(".sealift-copy-{ID}"));
    fs::create_dir(&scratch).unwrap();
    fs::write(scratch.join("half"), "half").unwrap();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(json_of(target.fetch(&holder.url())).0, 0);
    assert_eq!(
        described(&target.episode()),
        described(&shipped.sandbox.shipped(ID))
    );
    assert_eq!(names(target.path()), [ID]);
}

#[test]
fn two_fetches_of_one_episode_into_one_folder_do_not_meet() {
    let shipped = Shipped::new();
    let archive = shipped.archive.clone();
    let holder = Holder::new(move |head, _| ranged(head, &archive).silent_after(100_000));
    let target = Target::new();
    let first = shipped.sandbox.start(target.command(&holder.url()));
    eventually("the first is under way", || {
        fs::metadata(target.partial()).is_ok_and(|partial| partial.len() == 100_000)
    });
    assert!(failed(&target.fetch(&holder.url())).contains("another fetch of this episode"));
    first.kill();
}

#[test]
fn the_configured_headers_go_along_but_for_those_about_an_archive() {
    let shipped = Shipped::new();
    let holder = Holder::of(shipped.archive.clone());
    let target = Target::new();
    let config = shipped.sandbox.path("headers.toml");
    let text = "[shipper]\nhost_id = \"desk\"\n[receiver]\nheaders = { Authorization = \"Basic abc\", \
                \"X-Run\" = \"{host}/{id}\", \"X-Sum\" = \"{sha256}\", Content-Type = \"x/y\" }\n";
    fs::write(&config, text).unwrap();
    let url = format!("{}/runs/{{id}}.tar.zst", holder.url());
    assert_eq!(
        json_of(
            target
                .command(&url)
                .arg("--config")
                .arg(&config)
                .output()
                .unwrap()
        )
        .0,
        0
    );
    let head = &holder.heads()[0];
    assert!(
        head.starts_with("GET /runs/Lauf%207%20%28gr%C3%BCn%29.tar.zst HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(header(head, "authorization"), Some("Basic abc"));
    assert_eq!(
        header(head, "x-run"),
        Some("desk/Lauf%207%20%28gr%C3%BCn%29")
    );
    assert_eq!(
        (header(head, "x-sum"), header(head, "content-type")),
        (None, None)
    );
    assert_eq!(
        (
            header(head, "sealift-host"),
            header(head, "accept-encoding")
        ),
        (Some("desk"), Some("identity"))
    );
}

#[test]
fn wrong_arguments_fetch_nothing() {
    let holder = Holder::new(|_, _| Served::status(500));
    let folder = tempfile::tempdir().unwrap();
    let (to, url) = (folder.path().to_str().unwrap(), holder.url());
    let nowhere = format!("{to}/nowhere");
    for args in [
        &["fetch", "../evil", "--receiver", &url, "--to", to][..],
        &["fetch", ".hidden", "--receiver", &url, "--to", to],
        &["fetch", "--receiver", &url, "--to", to],
        &["fetch", "a", "--receiver", &url, "--to", &nowhere],
        &["fetch", "a", "--receiver", &url, "--to", "/dev/null"],
        &["fetch", "a", "--receiver", "ftp://h", "--to", to],
        &[
            "fetch",
            "a",
            "--receiver",
            &url,
            "--to",
            to,
            "--max-bytes",
            "many",
        ],
    ] {
        let output = sealift().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(2), &b""[..]),
            "{args:?}: {said}"
        );
        assert!(!said.is_empty());
    }
    assert!(holder.heads().is_empty() && names(folder.path()).is_empty());
}
