//! The fingerprint, taken entry by entry.
//!
//! ```text
//!  0..4    "fp3", so that one of an older shipper is told from it
//!  4..16   of what the archive's headers would say:
//!          path, kind, permission bits, size, mtime in seconds, target
//!  16..32  of that, and of the stamps in nanoseconds: mtime, ctime
//! ```
//!
//! Where the first part differs, so does the archive. Where only the last does, it may be the same:
//! a chown, a link made and removed, a time put back move ctime and nothing else, and only packing
//! it again can tell.

use sha2::{Digest as _, Sha256};

use rustix::fs::FileType;

use super::{Stat, marker};
use crate::model::episode::{Digest, Fingerprint};

/// Both parts, and the fingerprint of older shippers.
pub(super) struct TreeMarks {
    headers: Sha256,
    stamps: Sha256,
    version_2: Sha256,
    /// A file has another ctime than mtime.
    ctime_tells: bool,
}

impl TreeMarks {
    pub(super) fn new() -> Self {
        Self {
            headers: Sha256::new_with_prefix(b"sealift fingerprint 3, headers\n"),
            stamps: Sha256::new_with_prefix(b"sealift fingerprint 3, stamps\n"),
            version_2: Sha256::new_with_prefix(b"sealift fingerprint 2\n"),
            ctime_tells: false,
        }
    }

    /// Every field has a fixed width or its length before it, so that no two trees can spell the
    /// same bytes. `said` is a symlink's target, or the digest of the marker's content.
    pub(super) fn entry(&mut self, path: &[u8], stat: &Stat, said: &[u8]) {
        let kind = stat.file_type();
        let is_archived = matches!(
            kind,
            FileType::Directory | FileType::RegularFile | FileType::Symlink
        );
        let named = |hasher: &mut Sha256| {
            hasher.update((path.len() as u64).to_le_bytes());
            hasher.update(path);
            hasher.update(stat.mode.to_le_bytes());
        };
        named(&mut self.stamps);
        named(&mut self.version_2);
        // A FIFO, a socket or a device is in no archive.
        if is_archived {
            named(&mut self.headers);
        }
        self.version_2.update(stat.ino.to_le_bytes());
        if kind == FileType::Directory {
            return;
        }
        let times = |hasher: &mut Sha256| {
            for (seconds, nanoseconds) in [stat.mtime, stat.ctime] {
                hasher.update(seconds.to_le_bytes());
                hasher.update(nanoseconds.to_le_bytes());
            }
        };
        let says = |hasher: &mut Sha256| {
            hasher.update((said.len() as u64).to_le_bytes());
            hasher.update(said);
        };
        for hasher in [&mut self.stamps, &mut self.version_2] {
            hasher.update(stat.size_bytes.to_le_bytes());
            times(hasher);
            says(hasher);
        }
        if is_archived {
            let is_timed = kind == FileType::RegularFile && !marker::is_it(path);
            self.ctime_tells |= is_timed && stat.ctime != stat.mtime;
            self.headers.update(stat.size_bytes.to_le_bytes());
            self.headers
                .update(if is_timed { stat.mtime.0 } else { 0 }.to_le_bytes());
            says(&mut self.headers);
        }
    }

    /// Whether some file's ctime says what its mtime does not.
    pub(super) fn ctime_tells(&self) -> bool {
        self.ctime_tells
    }

    pub(super) fn finish(self) -> (Fingerprint, Fingerprint) {
        let version_2 = Fingerprint(Digest::from(self.version_2));
        (
            Fingerprint::of(self.headers.into(), self.stamps.into()),
            version_2,
        )
    }
}
