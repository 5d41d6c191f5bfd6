//! An episode comes back: its archive is brought here, however often the line breaks, compared, and
//! unpacked.
//!
//! ```text
//!  <folder>/<id> is free? ─▶ scratch: what an earlier run has left, hashed
//!      │            GET, or the rest of it (Range)           answer.rs: what does it mean
//!      ▼                                                     for what is here already?
//!  download ──────▶ ... breaks ... again ... ──────────────▶ whole
//!      │                                                      │ sha256 ═ Repr-Digest
//!      ▼                                                      ▼
//!  restore          .sealift-copy-<n>-<id>/ ◀ unpack ──────── archive
//!                     │ sha256 of the tar stream ═ Sealift-Content-Digest,
//!                     │                          ═ our own receipt in shipped/
//!                     ▼
//!                   <folder>/<id>/, flushed, and never over what stands there
//! ```
//!
//! Killed at any moment, the next run goes on with what has arrived, or begins to unpack again;
//! under the final name there is a whole episode or nothing.

mod answer;
mod download;
mod restore;
mod scratch;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::{
    download::Download,
    scratch::{DownloadScratch, OpenedScratch},
};
use super::{receiver::ReceiverClient, unpack::UnpackError};
use crate::{
    disk::tree::shown,
    http::client::ClientError,
    model::{
        episode::{Digest, EpisodeId},
        progress::Progress,
        records::ShippingReceipt,
    },
};

/// What the disk keeps free, bytes: filling it to the last byte harms everybody else on it.
const RESERVE_BYTES: u64 = 64 << 20;

/// What an episode may unpack to where the caller sets no limit, bytes: 1 TiB.
pub(crate) const DEFAULT_MAX_BYTES: u64 = 1 << 40;

/// How to fetch.
#[derive(Debug, Clone)]
pub(crate) struct FetchOptions {
    /// The folder that the episode's folder is made in. It exists.
    pub folder: PathBuf,
    /// What the episode may unpack to, bytes of its tar stream.
    pub max_bytes: u64,
    /// Whether an episode is taken that nothing can be compared with.
    pub unverified: bool,
    /// Our own receipts for this episode, where it was shipped from here. One of them must fit.
    pub receipts: Vec<ShippingReceipt>,
}

/// An episode that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Where it stands.
    pub path: PathBuf,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
    /// Digest of the archive.
    pub sha256: Digest,
    /// Digest of the tar stream inside.
    pub content_sha256: Digest,
    /// Regular files.
    pub files: u64,
    /// What it was compared with, and is equal to. Nothing where nothing was there to compare it
    /// with.
    pub verified: Verified,
}

/// What a fetched episode agrees with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verified {
    /// The archive: the receiver's `Repr-Digest`.
    pub archive: bool,
    /// The tar stream: the receiver's `Sealift-Content-Digest`.
    pub content: bool,
    /// The tar stream: the digest in our own receipt.
    pub receipt: bool,
}

impl Verified {
    /// Whether it agrees with anything.
    pub(crate) fn is_verified(self) -> bool {
        self.archive || self.content || self.receipt
    }
}

/// What a fetch tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetchEvent {
    /// An earlier run has left so much.
    GoesOn {
        /// Bytes that are here.
        have_bytes: u64,
        /// Bytes of the whole, where the receiver said it.
        size_bytes: Option<u64>,
    },
    /// The archive begins to arrive.
    Begins {
        /// Bytes of the whole, where the receiver says it.
        size_bytes: Option<u64>,
    },
    /// What is here is thrown away, and it begins again.
    Anew {
        /// Why.
        why: String,
    },
    /// It broke off and is tried again.
    Broke {
        /// Why.
        why: String,
        /// After so long.
        pause: Duration,
    },
    /// So many bytes are here.
    Arrived {
        /// Bytes.
        have_bytes: u64,
    },
    /// It is all here and is unpacked now.
    Unpacks {
        /// Length of the archive, bytes.
        size_bytes: u64,
    },
    /// So much of the archive is unpacked.
    Unpacked {
        /// Bytes of the archive.
        bytes: u64,
    },
}

/// Who listens. Called often, from several threads.
pub(crate) type Tell = Arc<dyn Fn(FetchEvent) + Send + Sync>;

/// Why an episode was not fetched. Nothing of it stands under its name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Something stands where it would go.
    #[error("{} is there already and nothing was touched: move it away, or fetch into another folder with --to DIR", shown(.0))]
    NameTaken(PathBuf),
    /// Another fetch of it is under way.
    #[error("another fetch of this episode into {} is under way", shown(.0))]
    Busy(PathBuf),
    /// The receiver does not hold it.
    #[error("the receiver holds no such episode ({url})")]
    Missing {
        /// What was asked.
        url: String,
    },
    /// The receiver does not give it to us.
    #[error(
        "the receiver answers {status_code}: it wants a credential that may read this episode. Look at receiver.token_file, \
         receiver.client_cert_file and receiver.headers"
    )]
    Credential {
        /// 401, 403 or 407.
        status_code: u16,
    },
    /// An answer that another try would not mend.
    #[error("{url}: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What it answered.
        why: String,
    },
    /// No connection, or none that is trusted.
    #[error("{url}: {cause}")]
    Connection {
        /// What was asked.
        url: String,
        /// Why. Part of the sentence, and so no cause behind it.
        cause: ClientError,
    },
    /// It broke off too often.
    #[error("{why}; given up for now. {kept}")]
    GivenUp {
        /// The last reason.
        why: String,
        /// What stays.
        kept: KeptDownload,
    },
    /// Told to stop.
    #[error("stopped. {kept}")]
    Stopped {
        /// What stays.
        kept: KeptDownload,
    },
    /// Nothing to compare it with.
    #[error(
        "the receiver gives no digest, and there is no receipt of ours in shipped/: what it sends could not be verified. \
         --unverified takes it all the same"
    )]
    Unverifiable,
    /// What arrived is not what the receiver says it holds.
    #[error(
        "what arrived hashes to {found}, and the receiver says {stated}: it was damaged on the way, or the receiver's copy is. It \
         is thrown away. Fetch it again; where that ends the same, ask `sealift verify --deep`"
    )]
    Damaged {
        /// Digest of what arrived.
        found: Digest,
        /// `Repr-Digest`.
        stated: Digest,
    },
    /// The content is not what the receiver says it is, or not what was shipped from here.
    #[error("{0}. What arrived is thrown away")]
    OtherContent(String),
    /// More arrived, or would arrive, than there may be.
    #[error("{0}")]
    NoRoom(String),
    /// The archive could not be unpacked.
    #[error("{cause}. {archive}")]
    Unpack {
        /// Why.
        cause: UnpackError,
        /// What became of the archive.
        archive: String,
    },
    /// The disk failed.
    #[error("failed to write {}: {cause}", shown(.path))]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

/// What an ended fetch leaves for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptDownload {
    /// Bytes.
    pub bytes: u64,
    /// In which file.
    pub path: PathBuf,
}

impl std::fmt::Display for KeptDownload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.bytes == 0 {
            return f.write_str("Nothing has arrived yet");
        }
        write!(
            f,
            "The same command goes on behind the {} bytes that {} holds",
            self.bytes,
            shown(&self.path)
        )
    }
}

/// Fetches one episode. `progress` stops it when it is cancelled.
///
/// # Errors
/// [`FetchError`].
pub(crate) async fn fetch(
    receiver: &ReceiverClient,
    id: &EpisodeId,
    options: &FetchOptions,
    progress: &Progress,
    tell: &Tell,
) -> Result<Fetched, FetchError> {
    let target = options.folder.join(id.as_str());
    if fs::symlink_metadata(&target).is_ok() {
        return Err(FetchError::NameTaken(target));
    }
    let scratch = open_scratch(receiver, id, options, progress).await?;
    if let Some(described) = scratch.described().filter(|_| scratch.len_bytes() > 0) {
        let (have_bytes, size_bytes) = (scratch.len_bytes(), described.size_bytes);
        tell(FetchEvent::GoesOn {
            have_bytes,
            size_bytes,
        });
    }
    let scratch = Download {
        receiver,
        id,
        options,
        progress,
        tell,
    }
    .run(scratch)
    .await?;
    tell(FetchEvent::Unpacks {
        size_bytes: scratch.len_bytes(),
    });
    let (id, options, progress, tell) = (
        id.clone(),
        options.clone(),
        progress.clone(),
        Arc::clone(tell),
    );
    blocking(&target, move || {
        restore::restore(scratch, &id, &options, &progress, &tell)
    })
    .await?
}

async fn open_scratch(
    receiver: &ReceiverClient,
    id: &EpisodeId,
    options: &FetchOptions,
    progress: &Progress,
) -> Result<DownloadScratch, FetchError> {
    let (folder, url) = (options.folder.clone(), receiver.url_of(id));
    let (id, progress) = (id.clone(), progress.clone());
    let at = options.folder.clone();
    let opened = blocking(&at, move || {
        DownloadScratch::open(&folder, &id, &url, &progress)
    })
    .await?;
    match opened.map_err(|cause| FetchError::Disk {
        path: at.clone(),
        cause,
    })? {
        OpenedScratch::Scratch(scratch) => Ok(*scratch),
        OpenedScratch::Busy => Err(FetchError::Busy(at)),
        OpenedScratch::Stopped(kept) => Err(FetchError::Stopped { kept }),
    }
}

/// Disk work, on a thread of its own.
async fn blocking<T: Send + 'static>(
    at: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| FetchError::Disk {
        path: at.to_owned(),
        cause: io::Error::other(error),
    })
}

/// What the disk has room for, bytes, beside the reserve.
fn room_bytes(folder: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space
        .f_bavail
        .saturating_mul(space.f_frsize)
        .saturating_sub(RESERVE_BYTES))
}

/// Why what the receiver says of an episode, or what arrived of it, is not what was shipped from
/// here; `None` where it is, or where nothing was.
fn not_as_shipped(receipts: &[ShippingReceipt], content_sha256: Digest) -> Option<String> {
    let first = receipts.first()?;
    if receipts
        .iter()
        .any(|receipt| receipt.content_sha256 == content_sha256)
    {
        return None;
    }
    Some(format!(
        "the receiver holds other content under this id than was shipped from here ({} at {}; now {content_sha256})",
        first.content_sha256, first.delivered_at_wall
    ))
}
