//! The golden files, copied to where a test may use them, with what a checkout loses put back.
//!
//! ```text
//! stat.tsv            kind, mode, mtime, path: every folder (git keeps no empty ones),
//!                     every mode and time
//! fingerprint         in sidecars, notes and receipts: of the copy, by the old build's rule,
//!                     where it was the episode's
//! folder              in sidecars and notes: inode and birth of the copy
//! /golden             in configurations: where the copy is
//! ```

use std::{
    fs::{self, File, FileTimes, Permissions},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use sealift::model::{episode::Digest, records::WallTime};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Sandbox, json_file, names};

/// The build that wrote them.
const BUILD: &str = "94d9e91";

/// Where they are in the checkout.
pub(super) fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(BUILD)
        .join(name)
}

/// What the old build said when it was asked.
pub(super) fn told(name: &str) -> Value {
    json_file(&kept("told").join(name))
}

/// A receiver's store: `none`, `host` or `window`.
pub(super) fn store(name: &str, to: &Path) {
    copy(&format!("store-{name}"), to);
}

/// A configuration, or how the old build showed it; `/golden` becomes a folder.
pub(super) fn configuration(name: &str, place: &Path) -> String {
    let text = fs::read_to_string(kept("config").join(name)).unwrap();
    text.replace("/golden", place.to_str().unwrap())
}

/// The old daemon's whole answer to `GET /snapshot`, with a process that is there.
pub(super) fn snapshot_of_a_living_process() -> Vec<u8> {
    let answer = fs::read_to_string(kept("told/snapshot.http")).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut snapshot: Value = serde_json::from_str(body).unwrap();
    let lines = head
        .split("\r\n")
        .filter(|line| !line.starts_with("content-length:"));
    let head = lines.collect::<Vec<_>>().join("\r\n");
    snapshot["pid"] = json!(std::process::id());
    let body = snapshot.to_string();
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The shipper's folders, as the data folder of a sandbox.
pub(super) struct Golden {
    data: PathBuf,
}

impl Golden {
    pub(super) fn shipper(sandbox: &Sandbox) -> Self {
        copy("shipper", &sandbox.data());
        let golden = Self {
            data: sandbox.data(),
        };
        golden.fit_fingerprints();
        golden
    }

    /// Episodes and what the outbox has of them, but for these, go.
    #[expect(
        clippy::disallowed_methods,
        reason = "what a test does not want of them is not there"
    )]
    pub(super) fn keep_only(&self, ids: &[&str]) {
        for name in names(&self.data.join("episodes")) {
            if !ids.contains(&name.as_str()) {
                fs::remove_dir_all(self.data.join("episodes").join(name)).unwrap();
            }
        }
        for name in names(&self.data.join("outbox")) {
            if !ids.contains(&name.split('.').next().unwrap()) {
                fs::remove_file(self.data.join("outbox").join(name)).unwrap();
            }
        }
    }

    /// The archive in the outbox holds the same, in other bytes than packing gives.
    pub(super) fn compressed_otherwise(&self, id: &str) {
        let archive = self.data.join(format!("outbox/{id}.tar.zst"));
        let tar = zstd::decode_all(fs::read(&archive).unwrap().as_slice()).unwrap();
        let mut encoder = zstd::Encoder::new(Vec::new(), 19).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder
            .set_pledged_src_size(Some(tar.len() as u64))
            .unwrap();
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        let bytes = encoder.finish().unwrap();
        assert_ne!(bytes, fs::read(&archive).unwrap());
        fs::write(&archive, &bytes).unwrap();
        change(&self.data.join(format!("outbox/{id}.json")), |sidecar| {
            sidecar["sha256"] = json!(Digest::of(&bytes));
            sidecar["size_bytes"] = json!(bytes.len());
        });
    }

    /// Everything in `shipped/` was delivered so many days ago.
    pub(super) fn shipped_days_ago(&self, days: u64) {
        // The copy was made a moment ago.
        let fresh = self.data.metadata().unwrap().modified().unwrap();
        let then = fresh.duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(days * 86_400);
        let stamp = WallTime::from_unix_seconds(i64::try_from(then.as_secs()).unwrap());
        for name in names(&self.data.join("shipped")) {
            change(
                &self
                    .data
                    .join("shipped")
                    .join(name)
                    .join("shipping_receipt.json"),
                |receipt| {
                    receipt["delivered_at_wall"] = json!(stamp);
                    // The receiver's clock said the same.
                    if receipt["receipt"].is_object() {
                        receipt["receipt"]["stored_at"] = json!(stamp);
                    }
                },
            );
        }
    }

    /// Inodes and ctimes are the copy's: records that fitted their episode do so again.
    fn fit_fingerprints(&self) {
        for name in names(&self.data.join("outbox")) {
            let Some(id) = name.strip_suffix(".json") else {
                continue;
            };
            // The note that a full disk left without a byte.
            if id == "emptied" {
                continue;
            }
            // Its archive was written after it was recorded.
            let archive = self.data.join(format!("outbox/{id}.tar.zst"));
            if let Ok(bytes) = fs::read(&archive) {
                fs::write(&archive, bytes).unwrap();
            }
            let places = ["episodes", "shipped"].map(|folder| self.data.join(folder).join(id));
            let episode = places.into_iter().find(|place| place.exists()).unwrap();
            let stat = episode.metadata().unwrap();
            let made = stat
                .created()
                .ok()
                .and_then(|made| made.duration_since(UNIX_EPOCH).ok());
            change(&self.data.join("outbox").join(&name), |sidecar| {
                // This one was edited after it was packed.
                if id != "edited" {
                    sidecar["fingerprint"] = json!(fingerprint_2(&episode));
                }
                sidecar["folder"] = json!({
                    "inode": stat.ino(),
                    "made_ns": made.map_or(0, |made| u64::try_from(made.as_nanos()).unwrap()),
                });
            });
        }
        for name in names(&self.data.join("shipped")) {
            let episode = self.data.join("shipped").join(name);
            change(&episode.join("shipping_receipt.json"), |receipt| {
                receipt["fingerprint"] = json!(fingerprint_2(&episode));
            });
        }
    }
}

/// Rewrites a JSON file in place.
fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = json_file(path);
    change(&mut value);
    fs::write(path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}

/// Copies what stat.tsv lists below a folder, with modes and times.
fn copy(name: &str, to: &Path) {
    let listed = fs::read_to_string(kept("stat.tsv")).unwrap();
    let below = |line: &str| {
        let [kind, mode, mtime, path]: [&str; 4] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let path = if path == name {
            ""
        } else {
            path.strip_prefix(&format!("{name}/"))?
        };
        let mode = u32::from_str_radix(mode, 8).unwrap();
        Some((
            kind.to_owned(),
            mode,
            mtime.parse::<u64>().unwrap(),
            path.to_owned(),
        ))
    };
    let entries: Vec<_> = listed.lines().filter_map(below).collect();
    assert!(!entries.is_empty(), "{name} is not listed");
    for (kind, _, _, path) in &entries {
        let (from, to) = (kept(name).join(path), to.join(path));
        match kind.as_str() {
            "folder" => fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(to)
                .unwrap(),
            "link" => std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap(),
            _ => fs::write(to, fs::read(from).unwrap()).unwrap(),
        }
    }
    // What is inside first, since it moves the times of what it is in.
    for (kind, mode, mtime_ns, path) in entries.iter().rev() {
        let to = to.join(path);
        if kind == "link" || path.is_empty() {
            continue;
        }
        fs::set_permissions(&to, Permissions::from_mode(*mode)).unwrap();
        let mtime = UNIX_EPOCH + Duration::from_nanos(*mtime_ns);
        File::open(&to)
            .unwrap()
            .set_times(FileTimes::new().set_modified(mtime))
            .unwrap();
    }
}

/// Digest of the tar stream in an archive.
pub(super) fn content_digest(archive: &[u8]) -> Digest {
    Digest::of(&zstd::decode_all(archive).unwrap())
}

/// An episode's fingerprint as 94d9e91 took it ("sealift fingerprint 2"), written down here so that
/// it stays what it was.
fn fingerprint_2(episode: &Path) -> Digest {
    let mut hasher = Sha256::new_with_prefix(b"sealift fingerprint 2\n");
    add(&mut hasher, episode, episode);
    hasher.into()
}

fn add(hasher: &mut Sha256, episode: &Path, path: &Path) {
    let stat = path.symlink_metadata().unwrap();
    let relative = path.strip_prefix(episode).unwrap().as_os_str().as_bytes();
    hasher.update((relative.len() as u64).to_le_bytes());
    hasher.update(relative);
    hasher.update(stat.mode().to_le_bytes());
    hasher.update(stat.ino().to_le_bytes());
    if stat.is_dir() {
        for name in names(path) {
            let ours = ["shipping_receipt.json", "quarantine_reason.json"].contains(&name.as_str());
            if !(ours && path == episode) {
                add(hasher, episode, &path.join(name));
            }
        }
        return;
    }
    let is_marker = relative == b"done.marker";
    hasher.update(stat.size().to_le_bytes());
    for (seconds, nanoseconds) in [
        (stat.mtime(), stat.mtime_nsec()),
        (stat.ctime(), stat.ctime_nsec()),
    ] {
        let (seconds, nanoseconds) = if is_marker {
            (0, 0)
        } else {
            (seconds, nanoseconds)
        };
        hasher.update(seconds.to_le_bytes());
        hasher.update(u32::try_from(nanoseconds).unwrap().to_le_bytes());
    }
    let said = match () {
        () if is_marker => Sha256::digest(fs::read(path).unwrap()).to_vec(),
        () if stat.is_symlink() => fs::read_link(path)
            .unwrap()
            .into_os_string()
            .as_bytes()
            .to_vec(),
        () => Vec::new(),
    };
    hasher.update((said.len() as u64).to_le_bytes());
    hasher.update(said);
}
