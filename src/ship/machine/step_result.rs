//! What the steps of an episode come back with.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use super::destination::verdict::Refusal;
pub use crate::model::episode::FolderLook;
use crate::model::{
    episode::{Commit, Digest, Fingerprint, FolderId},
    records::{ArchiveFacts, ManifestCheck},
    text::printable,
};

/// What packing, or a check of the outbox, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Digests and length.
    pub facts: ArchiveFacts,
    /// The episode as it was packed.
    pub fingerprint: Fingerprint,
    /// Which directory that was; `None` where an older shipper packed it.
    pub folder: Option<FolderId>,
    /// What became of the marker's manifest.
    pub manifest: ManifestCheck,
    /// The recorder's commit.
    pub commit: Option<Commit>,
    /// Files that were open for writing while it was packed, and waited for in vain; printable.
    pub open_files: Vec<String>,
}

/// What becomes of an episode of which a file is open for writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpenFilePolicy {
    /// It is packed when the file is closed.
    #[default]
    WaitedFor,
    /// It is packed as it is, and the file is named.
    Accepted,
}

/// Why packing gave no archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackFailure {
    /// It was written to while it was packed; what.
    Changed(String),
    /// The marker's manifest cannot be read (yet), in the episode as it is now; why.
    UnfinishedManifest(String, Fingerprint),
    /// The episode, as it is now, is not what its own manifest says. The episode's fault.
    Fault(String, Fingerprint),
    /// A file of it is open for writing.
    OpenForWriting {
        /// Which file, and by which process, in words.
        what: String,
        /// How long the marker has stood, by the wall clock; nothing where that was plainly wrong.
        sealed_for: Duration,
    },
    /// It is not there any more.
    Gone,
    /// It cannot be read; why.
    Unreadable(String),
    /// There is no room in the outbox to reserve; why. Nothing was begun.
    Short(String),
    /// The outbox was full, or our share of it, though room was reserved; why.
    Full(String),
    /// The outbox cannot be written; why.
    Outbox(String),
    /// More was read of it than it was to be packed for.
    Large,
    /// Stopped on request.
    Cancelled,
}

/// Whether an archive in the outbox can be sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// It fits the episode as it is now. With the conflict that was remembered beside it.
    Fits(Packed, Option<Refusal>),
    /// There is no archive, and what stands there is what was in conflict when it was sent without
    /// one.
    Noted(Packed, Refusal),
    /// It does not, or has no sidecar, or is damaged; in words.
    Unusable(String),
    /// It was packed from another directory than the one that has the name now: it may be the last
    /// copy of that.
    Displaced,
    /// The two could not be compared: that says nothing about either; in words.
    Unknown(String),
}

/// What became of an archive without an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrphanEnd {
    /// It was no orphan, or was held elsewhere, or is nothing to worry about.
    Settled,
    /// It may be the last copy of its episode, and lies in `quarantine/` now.
    LastCopy,
    /// It could not be settled, and is looked at again; why.
    Unsettled(String),
}

/// Why an episode goes to quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// The HTTP status; `None` where there was no response.
    pub status: Option<u16>,
    /// What is wrong, in a sentence.
    pub error: String,
    /// What the receiver said.
    pub body: Value,
    /// The verdict's name.
    pub verdict: &'static str,
    /// Which state of the episode all this is true of. What stands under its name by now may be
    /// another.
    pub fingerprint: Fingerprint,
    /// What that packs to, where it was packed.
    pub content_sha256: Option<Digest>,
}

/// What became of a move.
#[derive(Debug, Clone, PartialEq)]
pub enum Moved {
    /// It stands there now.
    To(PathBuf),
    /// As [`Moved::To`], and what is left of it where it stood is being removed.
    Leaving(PathBuf),
    /// It is not what was packed; it was put back.
    Changed,
    /// It would have to be copied, and a file of it is open for writing: it stays where it is until
    /// that is closed.
    Open {
        /// The file, seen from the episode.
        file: PathBuf,
        /// The same in words, with the process where that is known.
        what: String,
    },
    /// It is not there.
    Gone,
    /// It could not be moved; why, and what to type.
    Failed(String),
    /// As [`Moved::Failed`], since the file system there cannot hold what is in it.
    CannotHold(String),
    /// There was no room for it where it was to go.
    NoRoom {
        /// Why, in words.
        why: String,
        /// What that would take on the disk of `shipped/`, bytes.
        need_bytes: u64,
    },
}

impl Moved {
    /// As [`Moved::Open`], by a process that is not known.
    #[must_use]
    pub fn open(file: PathBuf) -> Self {
        Self::Open {
            what: format!("{} is open for writing", printable(&file.to_string_lossy())),
            file,
        }
    }
}
