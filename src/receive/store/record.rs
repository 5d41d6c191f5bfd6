//! What stands beside an archive in a folder, and how it is learnt again.

use std::{
    fs::Metadata,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
};

use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    model::{
        episode::{Digest, EpisodeId, HostName},
        progress::{self, Progress},
        records::WallTime,
        wire::MAX_WINDOW_LOG,
    },
    receive::stored_episode::{Content, Key, StoredEpisode},
};

/// Content of so many times its archive's bytes is plausible. Beyond it, it counts as unreadable: a
/// few kilobytes can claim to hold petabytes.
const MAX_RATIO: u64 = 1000;
/// So much is read of any: zeros compress some 30,000 times, and a recording may be full of holes.
const PLAUSIBLE_BYTES: u64 = 256 << 30;

/// `receipts/<id>.json`. It fits its archive as long as that has the size and the modification time
/// noted here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReceiptRecord {
    episode_id: EpisodeId,
    sha256: Digest,
    size_bytes: u64,
    /// Nanoseconds after 1970-01-01T00:00:00Z.
    archive_mtime_ns: i64,
    content: Content,
    /// Whose it is, in a store that does not file by host: there the place says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<HostName>,
}

impl ReceiptRecord {
    pub(super) fn new(
        id: EpisodeId,
        sha256: Digest,
        content: Content,
        owner: Option<HostName>,
        archive: &Metadata,
    ) -> Self {
        Self {
            episode_id: id,
            sha256,
            size_bytes: archive.len(),
            archive_mtime_ns: mtime_ns(archive),
            content,
            owner,
        }
    }

    /// Reads a record back, whether or not it fits the archive that is there now; `None` where it
    /// is damaged.
    pub(super) fn read(json: &[u8], id: &EpisodeId) -> Option<Self> {
        serde_json::from_slice(json)
            .ok()
            .filter(|record: &Self| record.episode_id == *id)
    }

    pub(super) fn fits(&self, archive: &Metadata) -> bool {
        self.size_bytes == archive.len() && self.archive_mtime_ns == mtime_ns(archive)
    }

    /// What of it holds for these bytes, which have been read just now: all that was learnt of the
    /// same bytes.
    pub(super) fn of_the_same_bytes(self, sha256: Digest) -> Option<(Content, Option<HostName>)> {
        (self.sha256 == sha256).then_some((self.content, self.owner))
    }

    /// The digest and the size that are noted.
    pub(super) fn noted(&self) -> (Digest, u64) {
        (self.sha256, self.size_bytes)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::json!(self).to_string().into_bytes()
    }

    pub(super) fn with_content(self, content: Content) -> Self {
        Self { content, ..self }
    }

    pub(super) fn with_owner(self, owner: HostName) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }

    /// The bytes turned out to be others, so nothing is known of what is in them.
    pub(super) fn with_digest(self, sha256: Digest) -> Self {
        Self {
            sha256,
            content: Content::Unknown,
            ..self
        }
    }

    pub(super) fn has_owner(&self) -> bool {
        self.owner.is_some()
    }

    /// Whose it is, by where it stands and what is noted.
    pub(super) fn owner(&self, host: Option<&HostName>) -> Option<HostName> {
        host.or(self.owner.as_ref()).cloned()
    }

    pub(super) fn into_held(self, key: &Key) -> StoredEpisode {
        StoredEpisode {
            owner: self.owner(key.host.as_ref()),
            episode_id: self.episode_id,
            sha256: self.sha256,
            size_bytes: self.size_bytes,
            stored_at: WallTime::from_unix_seconds(self.archive_mtime_ns.div_euclid(1_000_000_000)),
            content: self.content,
        }
    }
}

fn mtime_ns(metadata: &Metadata) -> i64 {
    metadata
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(metadata.mtime_nsec())
}

/// The hash over everything that can be read.
pub(super) fn hash_to_go_on(from: impl Read) -> io::Result<Sha256> {
    progress::hash(from, &Progress::default())
}

/// How much content an archive of this size may have, bytes.
pub(super) fn most_content_bytes(archive_bytes: u64) -> u64 {
    archive_bytes.saturating_mul(MAX_RATIO).max(PLAUSIBLE_BYTES)
}

/// What the tar stream inside an archive hashes to. Memory and output are bounded.
///
/// # Errors
/// Those of reading the disk, and that it was told to stop; an archive that does not decompress, or
/// to more than `most_bytes`, is no error but [`Content::Unreadable`].
pub(super) fn decompress_and_hash(
    archive: impl Read,
    most_bytes: u64,
    work: &Progress,
) -> io::Result<Content> {
    work.stop_beyond(Some(most_bytes));
    // Of an archive without content the decoder gives nothing back before its end.
    let archive = Stoppable(archive, work);
    let mut decoder = zstd::stream::read::Decoder::new(archive)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    match progress::hash(decoder, work) {
        Ok(hasher) => Ok(Content::Verified(hasher.into())),
        Err(_) if work.is_beyond() => Ok(Content::Unreadable),
        Err(error) if work.check().is_err() => Err(error),
        // The disk's errors carry the kernel's number; the decoder's do not.
        Err(error) if error.raw_os_error().is_none() => Ok(Content::Unreadable),
        Err(error) => Err(error),
    }
}

struct Stoppable<'a, R>(R, &'a Progress);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.check().map_err(io::Error::other)?;
        self.0.read(into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_as_far_as_its_archive_makes_it_plausible() {
        for (archive_bytes, content_bytes) in [
            (0, 256 << 30),
            (10 << 20, 256 << 30),
            (1 << 30, 1000 << 30),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(most_content_bytes(archive_bytes), content_bytes);
        }
        let archive = zstd::encode_all(&*vec![0; 1 << 20], 3).unwrap();
        let read = |most| decompress_and_hash(&*archive, most, &Progress::default()).unwrap();
        let whole = Content::Verified(Digest::of(&vec![0; 1 << 20]));
        assert_eq!(read(1 << 20), whole);
        assert_eq!(read((1 << 20) - 1), Content::Unreadable);
    }

    #[test]
    fn what_is_told_to_stop_learns_nothing() {
        let archive = zstd::encode_all(&b"content"[..], 3).unwrap();
        let work = Progress::default();
        work.cancel();
        assert!(decompress_and_hash(&*archive, u64::MAX, &work).is_err());
    }
}
