//! The store: what the receiver promises, apart from where the bytes lie.
//!
//! A folder is the one implementation ([`Folder`]). A bucket can stand behind the same promises, which is why an upload is
//! a thing of its own that never appends to what is published. Each promise is a test of the suite in `contract.rs`, which any
//! implementation must pass.

mod folder;
mod places;
mod record;
mod scratch;

#[cfg(test)]
mod contract;

use std::{future::Future, io, time::SystemTime};

pub use folder::{Folder, FolderUpload};

use super::held::{Held, Offer};
use crate::episode::{Digest, EpisodeId};

/// Where episodes are kept. Many receivers may use one store at the same time.
pub trait Store: Send + Sync + 'static {
    /// An upload in progress.
    type Upload: Upload;

    /// What is held under an id.
    ///
    /// Promise: what is returned is complete, its archive digest was computed by a receiver from the bytes, and it would
    /// survive a power cut at this moment. May read the whole archive where what stands beside it was lost.
    fn find(&self, id: &EpisodeId) -> impl Future<Output = Result<Option<Held>, StoreError>> + Send;

    /// What is held under an id, with its content verified: decompressed (within bounds) and hashed, unless that was
    /// done before. Afterwards the content is `Verified` or `Unreadable`.
    fn verify(&self, id: &EpisodeId) -> impl Future<Output = Result<Option<Held>, StoreError>> + Send;

    /// Begins an upload. Costs nothing until bytes arrive.
    fn begin(&self) -> Self::Upload;

    /// Removes what uploads left behind that were last written to before `before`; says how many. Never touches an upload
    /// that is alive, be it a sibling's, as long as `before` lies further back than an upload may be silent.
    fn sweep(&self, before: SystemTime) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Whether an upload could be begun now.
    fn probe(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// One archive on its way in. Nobody can find it before it is published; dropped before that, it leaves nothing.
pub trait Upload: Send + 'static {
    /// Takes the next bytes. Memory does not grow with their number.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes the archive durable and gives it its name, if it is what was offered and the name is free.
    ///
    /// Promise: nothing is ever overwritten. Of any number of uploads of one id, in any number of processes, exactly one
    /// is `Stored`; by then it would survive a power cut. Once begun this runs to its end, also when nobody waits for it.
    fn publish(
        self,
        id: &EpisodeId,
        offer: &Offer,
    ) -> impl Future<Output = Result<Publication, StoreError>> + Send;
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// It is held, durably.
    Stored(Held),
    /// Something was published under the id before; [`Store::find`] says what. Nothing is left of this upload.
    NameTaken,
    /// The bytes are not those offered. Nothing is left of this upload.
    DigestMismatch {
        /// What the bytes hash to.
        received: Digest,
    },
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space, or no quota, is left.
    #[error("the store is full: {0}")]
    Full(io::Error),
    /// Anything else that a disk can do.
    #[error("the store failed: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::Full(error)
        } else {
            Self::Failed(error)
        }
    }
}
