//! How much was shipped since midnight: `shipped/` is listed, and what was seen there once is not
//! looked at again.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::Path,
};

use super::folders::is_episode;
use crate::{
    disk::{record_files, tree},
    model::records::WallTime,
};

const DAY_S: i64 = 24 * 3600;

/// What a caller that looks again and again does not ask a second time.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was seen in `shipped/`: of each name eight bytes, and what is in its receipt.
    shipped: HashMap<u64, Option<DeliveredToday>>,
    /// Whether systemd knows the unit.
    pub(super) has_unit: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
struct DeliveredToday {
    at_s: i64,
    bytes: u64,
}

impl Memory {
    /// How many were delivered since midnight, UTC, and their archives' length. Blocks.
    ///
    /// # Errors
    /// Those of listing the folder, in words.
    pub(super) fn today(&mut self, shipped: &Path, now: WallTime) -> Result<(u64, u64), String> {
        let failed = |error: io::Error| format!("{}: {error}", tree::shown(shipped));
        let midnight = now.unix_seconds() - now.unix_seconds().rem_euclid(DAY_S);
        let (mut count, mut bytes) = (0, 0);
        let before = std::mem::take(&mut self.shipped);
        for entry in fs::read_dir(shipped).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !is_episode(&entry) {
                continue;
            }
            let key = key(&entry.file_name(), entry.ino());
            let delivered = match before.get(&key) {
                Some(seen) => *seen,
                None => match delivered(&entry.path(), midnight) {
                    // Its receipt may be on its way.
                    SeenToday::NotYet => continue,
                    SeenToday::Long => None,
                    SeenToday::Delivered(delivered) => Some(delivered),
                },
            };
            self.shipped.insert(key, delivered);
            if let Some(delivered) = delivered.filter(|delivered| delivered.at_s >= midnight) {
                count += 1;
                bytes += delivered.bytes;
            }
        }
        Ok((count, bytes))
    }
}

fn key(name: &OsStr, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, inode).hash(&mut hasher);
    hasher.finish()
}

enum SeenToday {
    NotYet,
    Long,
    Delivered(DeliveredToday),
}

/// The receipt is written into the folder, which changes that: what is older holds none of today's,
/// and none is read.
fn delivered(path: &Path, midnight: i64) -> SeenToday {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return SeenToday::NotYet;
    };
    if metadata.mtime() < midnight {
        return SeenToday::Long;
    }
    match record_files::receipt(path) {
        Ok(Some(receipt)) => SeenToday::Delivered(DeliveredToday {
            at_s: receipt.delivered_at_wall.unix_seconds(),
            bytes: receipt.size_bytes,
        }),
        Ok(None) | Err(_) => SeenToday::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        episode::{Digest, EpisodeId},
        records::{ManifestCheck, ShippingReceipt},
    };

    fn ship(shipped: &Path, id: &str, at: i64) {
        let path = shipped.join(id);
        fs::create_dir(&path).unwrap();
        let receipt = ShippingReceipt {
            episode_id: EpisodeId::parse(id).unwrap(),
            sha256: Digest([1; 32]),
            content_sha256: Digest([2; 32]),
            size_bytes: 10,
            status_code: 201,
            receiver: "http://r".to_owned(),
            delivered_at_wall: WallTime::from_unix_seconds(at),
            manifest: ManifestCheck::None,
            receipt: serde_json::Value::Null,
            fingerprint: None,
            open_files: Vec::new(),
            modes: None,
            aging: None,
            written_to_since: None,
        };
        record_files::write_receipt(&path, &receipt, &[]).unwrap();
    }

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(seconds)
    }

    #[test]
    fn today_begins_at_midnight() {
        let shipped = tempfile::tempdir().unwrap();
        let now = crate::clock::wall_now().unix_seconds();
        let midnight = now - now.rem_euclid(DAY_S);
        ship(shipped.path(), "just-now", now);
        ship(shipped.path(), "at-midnight", midnight);
        ship(shipped.path(), "before", midnight - 1);
        fs::create_dir(shipped.path().join("without-a-receipt")).unwrap();
        let mut memory = Memory::default();
        assert_eq!(memory.today(shipped.path(), at(now)), Ok((2, 20)));
        assert_eq!(
            memory.today(shipped.path(), at(midnight + DAY_S)),
            Ok((0, 0))
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test removes what it made")]
    fn what_was_seen_is_not_read_again_and_what_went_is_not_counted() {
        let shipped = tempfile::tempdir().unwrap();
        let now = crate::clock::wall_now().unix_seconds();
        ship(shipped.path(), "a", now);
        ship(shipped.path(), "b", now);
        let late = shipped.path().join("late");
        fs::create_dir(&late).unwrap();
        let mut memory = Memory::default();
        assert_eq!(memory.today(shipped.path(), at(now)), Ok((2, 20)));
        fs::remove_file(shipped.path().join("a/shipping_receipt.json")).unwrap();
        assert_eq!(
            memory.today(shipped.path(), at(now)),
            Ok((2, 20)),
            "it was read again"
        );
        fs::remove_dir_all(shipped.path().join("b")).unwrap();
        assert_eq!(memory.today(shipped.path(), at(now)), Ok((1, 10)));
        fs::remove_dir(late).unwrap();
        ship(shipped.path(), "late", now);
        assert_eq!(memory.today(shipped.path(), at(now)), Ok((2, 20)));
        fs::remove_dir_all(shipped.path()).unwrap();
        assert!(memory.today(shipped.path(), at(now)).is_err());
    }
}
