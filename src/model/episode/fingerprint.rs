//! What tells one state of an episode from another, and one directory from another. Pure.

use serde::{Deserialize, Serialize};

use super::Digest;

/// What an episode's directory looked like, without its bytes: a digest over every entry's path,
/// kind, mode, size, mtime and ctime. Two equal fingerprints mean that nothing was written in
/// between (see `tree.rs` for what is left out and why).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub Digest);

impl Fingerprint {
    /// Tells it from those of older shippers, of which no part means anything.
    const VERSION: [u8; 4] = *b"fp3\0";
    /// Where the part ends that stands for what an archive's headers say.
    const HEADERS_END: usize = 16;

    /// Of the two digests that `tree/mark.rs` takes.
    #[must_use]
    pub fn of(headers: Digest, stamps: Digest) -> Self {
        let mut bytes = stamps.0;
        bytes[..Self::HEADERS_END].copy_from_slice(&headers.0[..Self::HEADERS_END]);
        bytes[..Self::VERSION.len()].copy_from_slice(&Self::VERSION);
        Self(Digest(bytes))
    }

    /// Whether the two pack to other bytes for certain, since other headers belong to them. Where
    /// not, only packing can tell.
    pub fn packs_to_another(self, then: Self) -> bool {
        self.both_say(then) && self.0.0[..Self::HEADERS_END] != then.0.0[..Self::HEADERS_END]
    }

    /// Whether an archive's headers would say the same of the two: each path has the size, the
    /// mtime and the permissions that it had.
    pub fn has_the_headers_of(self, then: Self) -> bool {
        self.both_say(then) && !self.packs_to_another(then)
    }

    fn both_say(self, then: Self) -> bool {
        [self, then]
            .iter()
            .all(|one| one.0.0.starts_with(&Self::VERSION))
    }
}

/// Which directory an episode is, whatever its name: to be told from another that was made under
/// the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderId {
    /// Its inode; the next directory may be given the same number.
    pub inode: u64,
    /// When it was made, nanoseconds after the epoch; 0 where the file system does not remember
    /// that.
    pub made_ns: i64,
}

impl FolderId {
    /// Whether this is one directory for certain. An inode alone says nothing: some file systems
    /// make it of the name (mergerfs), and some number anew what the kernel has forgotten (vfat,
    /// exfat, sshfs).
    pub fn is_the_same(self, then: Self) -> bool {
        self == then && self.made_ns != 0
    }
}
