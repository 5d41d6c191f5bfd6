//! What stands beside an archive in a folder, and how it is learnt again.

use std::{
    fs::{File, Metadata},
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

/// The most that a verification decompresses, bytes. Beyond it the content counts as unreadable: a
/// few kilobytes can claim to hold petabytes.
const MAX_CONTENT_BYTES: u64 = 256 << 30;

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

/// The digest of everything that can be read.
pub(super) fn hash(from: impl Read) -> io::Result<Digest> {
    hash_to_go_on(from).map(Digest::from)
}

/// The hash over everything that can be read.
pub(super) fn hash_to_go_on(from: impl Read) -> io::Result<Sha256> {
    progress::hash(from, &Progress::default())
}

/// What the tar stream inside an archive hashes to. Time, memory and output are bounded.
///
/// # Errors
/// Those of reading the disk; an archive that does not decompress is no error but
/// [`Content::Unreadable`].
pub(super) fn decompress_and_hash(archive: &File) -> io::Result<Content> {
    let mut decoder = zstd::stream::read::Decoder::new(archive)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    // One byte more than allowed tells a full stream from one that goes on.
    let mut bounded = decoder.take(MAX_CONTENT_BYTES + 1);
    match hash(&mut bounded) {
        Ok(_) if bounded.limit() == 0 => Ok(Content::Unreadable),
        Ok(digest) => Ok(Content::Verified(digest)),
        // The disk's errors carry the kernel's number; the decoder's do not.
        Err(error) if error.raw_os_error().is_none() => Ok(Content::Unreadable),
        Err(error) => Err(error),
    }
}
