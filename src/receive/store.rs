//! The store: what the receiver promises, apart from where the bytes lie.
//!
//! ```text
//!            begin                          write ...            publish
//!  nothing ────────▶ an upload, seen by none ───────▶ whole ────────────────▶ held under its Key
//!            ▲                │ keep, or a newcomer's settle      find verify reread
//!     resume │                ▼                                   claim read
//!            └───── a part, found by its PartKey          part discard
//! ```
//!
//! A folder is the one implementation ([`FolderStore`]). A bucket can stand behind the same
//! promises, which is why an upload is a thing of its own that never appends to what is published,
//! and a part is found by its key and not by its place. Each promise is a test of the suite in
//! `contract.rs`, which any implementation must pass.

#[cfg(test)]
mod contract;
mod digest_cache;
mod folder;
mod index;
mod namespace_file;
mod part;
mod part_manifest;
mod parts;
pub(super) mod reader;
mod record;
mod scratch;
mod upload;
mod usage;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io,
    ops::Range,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;

pub(crate) use self::folder::{FolderStore, OpenError};

use super::stored_episode::{Key, Namespace, Offer, StoredEpisode};
use crate::{
    disk::durable,
    model::episode::{Digest, HostName},
};

/// Where episodes are kept. Many receivers may use one store at the same time: nothing about an
/// episode is in a receiver's memory alone, but for the bytes of uploads that are under way.
///
/// Every call fails with a [`StoreError`] where the disk, or what stands for it, fails; and where a
/// key has a host in a store that files without, or none in one that files by host.
pub(crate) trait Store: Send + Sync + 'static {
    /// An upload in progress.
    type Upload: Upload;
    /// An archive on its way out.
    type Reading: ArchiveRange;

    /// How episodes are filed here.
    fn namespace(&self) -> Namespace;

    /// What is held under a key.
    ///
    /// Promise: what is returned is complete, its archive digest was computed by a receiver from
    /// the bytes, and it would survive a power cut at this moment. May read and write anew the
    /// whole archive where what stands beside it was lost.
    fn find(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<StoredEpisode>, StoreError>> + Send;

    /// What is held under a key, with its content verified: decompressed (within bounds) and
    /// hashed, unless that was done before. Afterwards the content is `Verified` or `Unreadable`.
    /// Where the caller waits no more, the work ends too.
    ///
    /// # Errors
    /// [`StoreError::Unfinished`] where it takes too long.
    fn verify(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<StoredEpisode>, StoreError>> + Send;

    /// What is held under a key, by its bytes as they are now.
    ///
    /// Promise: the digest is that of every byte, read again from where it lies. Where it is not
    /// what it was, the store has rotted: that is logged as an error, and from now on the store
    /// says what it holds and not what it held. Where the caller waits no more, the work ends too.
    fn reread(
        &self,
        key: &Key,
    ) -> impl Future<Output = Result<Option<StoredEpisode>, StoreError>> + Send;

    /// Gives what is held without an owner to `owner`, durably. What has an owner keeps it.
    fn claim(
        &self,
        key: &Key,
        owner: &HostName,
    ) -> impl Future<Output = Result<Option<StoredEpisode>, StoreError>> + Send;

    /// A range of a held archive's bytes. What lies behind its end is left out.
    ///
    /// Promise: the bytes are those of the archive that the returned `Held` describes, whatever is
    /// published, or taken away, while they are read.
    fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<(StoredEpisode, Self::Reading)>, StoreError>> + Send;

    /// Begins an upload from nothing. Costs nothing until bytes arrive; what was kept under the
    /// same key before is gone then.
    ///
    /// Promise: an upload of the same key that this process began before goes on and may still be
    /// published, but is fenced off from being kept. (Many that send the same archive at once are
    /// no harm to each other: one is stored, the rest are told so.)
    fn begin(&self, part: &PartKey, offer: &Offer) -> Self::Upload;

    /// How much of an upload is durable now. Does not disturb the upload.
    fn part(&self, part: &PartKey)
    -> impl Future<Output = Result<Option<Part>, StoreError>> + Send;

    /// As [`Store::part`], once a predecessor in this process was fenced off, and what it had
    /// received was made durable. This is for a client that asks where to go on: it has given up
    /// any connection that we may still believe in.
    ///
    /// The predecessor's disk work in flight is waited for, within bounds; whatever does not end by
    /// then is not counted.
    fn settle(
        &self,
        part: &PartKey,
    ) -> impl Future<Output = Result<Option<Part>, StoreError>> + Send;

    /// Goes on with an upload at the byte `at`, if that is where it stands.
    ///
    /// Promise: nothing is ever written by two. A predecessor in this process is settled first; its
    /// next call is [`StoreError::Fenced`]. One in another process makes the newcomer `Busy`. Only
    /// what was durable is gone on with, and only with an upload of the same key and the same
    /// claims.
    fn resume(
        &self,
        part: &PartKey,
        offer: &Offer,
        at: u64,
    ) -> impl Future<Output = Result<PartResumed<Self::Upload>, StoreError>> + Send;

    /// Throws away what is kept of an upload; a predecessor in this process is fenced off. False
    /// where another process writes it.
    fn discard(&self, part: &PartKey) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes temporaries last written to before `before_temporaries` and parts before
    /// `before_parts`; says how many. Never touches an upload that is alive, be it a sibling's.
    fn sweep(
        &self,
        before_temporaries: SystemTime,
        before_parts: SystemTime,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// How much is stored, and by whom, but for archives of which the caller says that it counts
    /// them itself. Walks the whole store: for the caller to remember. Where the caller waits no
    /// more, the walk ends too.
    fn usage(
        &self,
        is_counted: impl Fn(&Key) -> bool + Send + 'static,
    ) -> impl Future<Output = Result<Usage, StoreError>> + Send;

    /// How much room there is. Cheap.
    fn space(&self) -> impl Future<Output = Result<StoreSpace, StoreError>> + Send;

    /// Whether an upload could be begun now.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// One archive on its way in. It cannot be found before it is published. Dropped without an end,
/// one that was begun leaves nothing, and one that was resumed what it was resumed from or had made
/// durable since.
///
/// From time to time a large one is made durable as far as it came, beside the writing, so that
/// [`Store::part`] finds that much after a kill. Once an error was returned the upload is over, and
/// nothing of it is kept: what a disk has refused to flush once is not to be trusted again. But
/// where the disk is full ([`StoreError::Full`]) what was durable before stays.
pub(crate) trait Upload: Send + 'static {
    /// Takes the next bytes. Memory does not grow with their number. May be dropped while it waits;
    /// the upload is whole then, but how many of these bytes it took is not known.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where a newcomer goes on with this upload.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What its archive is that was begun by its plan. Said before the end: [`Upload::publish`]
    /// compares it.
    fn now_offers(&mut self, offer: &Offer);

    /// It is not to be kept: it is published, or nothing is left of what it brings, also after a
    /// kill, or where a client asks where it goes on.
    fn forgo(&self);

    /// The connection broke off: makes durable all that has arrived and says how many bytes of the
    /// archive that is. Once begun this runs to its end, also when nothing waits for it.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where a newcomer goes on with this upload, or began it anew, or it
    /// was not to be kept.
    fn keep(self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Makes the archive durable and gives it its name, if it is what was offered and the name is
    /// free. No part is left.
    ///
    /// Promise: nothing is ever overwritten. Of any number of uploads to one key, in any number of
    /// processes, exactly one is `Stored`; by then it, and its owner, would survive a power cut.
    /// The digest was taken over all of it, however often it broke off. Once begun this runs to its
    /// end, also when nothing waits for it.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where a newcomer goes on with this upload.
    fn publish(self) -> impl Future<Output = Result<Publication, StoreError>> + Send;
}

/// A range of an archive's bytes on its way out. Dropped, it reads no further.
pub(crate) trait ArchiveRange: Send + Unpin + 'static {
    /// The next bytes, at most 128 KiB; `None` behind the last, and behind an error.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StoreError>>>;
}

/// Under what an upload is found again. The digest is in it, so that bytes of another archive are
/// never gone on with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartKey {
    /// Where it will be filed.
    pub key: Key,
    /// The authenticated name of the host that sends it.
    pub owner: Option<HostName>,
    /// Digest of the whole archive; or of the plan that it is packed by.
    pub sha256: Digest,
    /// It is the plan's: the archive's own digest comes with its last bytes.
    pub is_planned: bool,
}

/// What is kept of an upload that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it was begun with; by a plan: the plan's digest, and how long it may become.
    pub offer: Offer,
    /// How many bytes of it are durable: it goes on here.
    pub offset: u64,
}

/// What became of the wish to go on.
#[derive(Debug)]
pub(crate) enum PartResumed<U> {
    /// At the byte that was asked for.
    Upload(U),
    /// Not there, but here.
    Elsewhere {
        /// How many bytes are durable.
        offset: u64,
    },
    /// Nothing is kept under this key, or with other claims.
    Nothing,
    /// Another process writes it, or a predecessor's disk does not answer.
    Busy,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Publication {
    /// It is held, durably.
    Stored(StoredEpisode),
    /// Something was published under the key before; [`Store::find`] says what. Nothing is left of
    /// this upload.
    NameTaken,
    /// The bytes are not those offered. Nothing is left of this upload.
    DigestMismatch {
        /// What the bytes hash to.
        received: Digest,
    },
}

/// How much is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Archives held.
    pub episodes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their bytes, by whose they are; `None` stands for those without an owner.
    pub by_owner: BTreeMap<Option<HostName>, u64>,
    /// Uploads that broke off and are kept, or are under way and durable in part, and their bytes
    /// so far.
    pub parts: BTreeMap<PartKey, u64>,
}

impl Usage {
    /// One more archive.
    pub(crate) fn add_archive(&mut self, owner: Option<HostName>, bytes: u64) {
        self.episodes += 1;
        self.bytes += bytes;
        *self.by_owner.entry(owner).or_default() += bytes;
    }
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreSpace {
    /// What this process may still write, bytes.
    pub free_bytes: u64,
    /// How large it is, bytes.
    pub total_bytes: u64,
    /// How many files may still be made; `None` where the store does not count them.
    pub free_files: Option<u64>,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// No space, or no quota, is left.
    #[error("the store is full: {0}")]
    Full(io::Error),
    /// Anything else that a disk can do.
    #[error("the store failed: {0}")]
    Failed(io::Error),
    /// A newcomer goes on with the upload.
    #[error("another connection has taken the upload over")]
    Fenced,
    /// An archive could not be read again in the time that there is for it.
    #[error("an archive could not be read again in time")]
    Unfinished,
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if durable::is_full(&error) {
            Self::Full(error)
        } else {
            Self::Failed(error)
        }
    }
}

impl PartKey {
    /// The key of an upload that offers this.
    #[must_use]
    pub(crate) fn new(key: Key, owner: Option<HostName>, offer: &Offer) -> Self {
        Self {
            key,
            owner,
            sha256: offer.sha256,
            is_planned: false,
        }
    }
}

impl fmt::Display for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.sha256)
    }
}
