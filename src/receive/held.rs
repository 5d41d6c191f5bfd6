//! What a client offers and what the receiver holds: the two values that admission compares.
//!
//! Pure: no I/O.

use serde::{Deserialize, Serialize};

use crate::{
    episode::{Digest, EpisodeId},
    records::WallTime,
    wire::Receipt,
};

/// What a client says of the archive it wants to store. A claim, until the bytes have arrived and were hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Digest of the archive's bytes.
    pub sha256: Digest,
    /// Digest of the tar stream inside, where the client gave one.
    pub content_sha256: Option<Digest>,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
}

/// An episode that is in the store, complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The episode.
    pub episode_id: EpisodeId,
    /// Digest of the archive, computed here from its bytes.
    pub sha256: Digest,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
    /// When its last byte was written, UTC. Taken from the archive itself, so that a rebuilt receipt says the same.
    pub stored_at: WallTime,
    /// What is known of the tar stream inside.
    pub content: Content,
}

/// How much is known of the tar stream inside a held archive. Only what this receiver decompressed counts as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Nobody said anything, or what was said is lost.
    Unknown,
    /// The client that stored it said so; nobody has looked.
    Claimed(Digest),
    /// Decompressed and hashed here.
    Verified(Digest),
    /// It cannot be decompressed within the bounds. Remembered, so that it is tried once only.
    Unreadable,
}

impl Held {
    /// The receipt for it. A content digest that was not verified is left out: a receipt promises nothing unseen.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt {
            episode_id: self.episode_id.clone(),
            sha256: self.sha256,
            content_sha256: self.content.verified(),
            size_bytes: self.size_bytes,
            stored_at: self.stored_at,
            host: None,
        }
    }
}

impl Content {
    /// The digest, where it was verified.
    #[must_use]
    pub fn verified(self) -> Option<Digest> {
        match self {
            Self::Verified(digest) => Some(digest),
            Self::Unknown | Self::Claimed(_) | Self::Unreadable => None,
        }
    }
}
