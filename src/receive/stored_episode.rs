//! What a client offers, what the receiver holds, and under what it is filed.
//!
//! Pure: no I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use crate::config::Namespace;
use crate::model::{
    episode::{Digest, EpisodeId, HostName},
    records::WallTime,
    wire::Receipt,
};

/// Under what an episode is filed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose it is; `Some` in a store that files by host, and only there.
    pub host: Option<HostName>,
    /// The episode's own name.
    pub id: EpisodeId,
}

impl Namespace {
    /// The way it is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::None => Self::Host,
            Self::Host => Self::None,
        }
    }

    /// The key of a host's episode; `None` where a name is needed and none was authenticated.
    pub fn key(self, authenticated: Option<&HostName>, id: &EpisodeId) -> Option<Key> {
        match self {
            Self::None => Some(Key {
                host: None,
                id: id.clone(),
            }),
            Self::Host => Some(Key {
                host: Some(authenticated?.clone()),
                id: id.clone(),
            }),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Host => "host",
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}/{}", self.id),
            None => self.id.fmt(f),
        }
    }
}

/// What a client says of the archive it wants to store. A claim, until the bytes have arrived and
/// were hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Digest of the archive's bytes.
    pub sha256: Digest,
    /// Digest of the tar stream inside, where the client gave one.
    pub content_sha256: Option<Digest>,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
}

/// An episode that is in the store, complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredEpisode {
    /// The episode.
    pub episode_id: EpisodeId,
    /// Digest of the archive, computed here from its bytes.
    pub sha256: Digest,
    /// The authenticated name it was stored under; `None` where there was none.
    pub owner: Option<HostName>,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
    /// When its last byte was written, UTC. Taken from the archive itself, so that a rebuilt
    /// receipt says the same.
    pub stored_at: WallTime,
    /// What is known of the tar stream inside.
    pub content: Content,
}

/// How much is known of the tar stream inside a held archive. Only what this receiver decompressed
/// counts as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// The client said nothing, or what it said is lost.
    Unknown,
    /// The client that stored it said so; the receiver has not looked.
    Claimed(Digest),
    /// Decompressed and hashed here.
    Verified(Digest),
    /// It cannot be decompressed within the bounds. Remembered, so that it is tried once only.
    Unreadable,
}

impl StoredEpisode {
    /// The receipt for it. A content digest that was not verified is left out: a receipt promises
    /// nothing unseen.
    pub(crate) fn receipt(&self) -> Receipt {
        Receipt {
            episode_id: self.episode_id.clone(),
            sha256: self.sha256,
            content_sha256: self.content.verified(),
            size_bytes: self.size_bytes,
            stored_at: self.stored_at,
            host: self.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        }
    }
}

impl Content {
    /// The digest, where it was verified.
    pub(crate) fn verified(self) -> Option<Digest> {
        match self {
            Self::Verified(digest) => Some(digest),
            Self::Unknown | Self::Claimed(_) | Self::Unreadable => None,
        }
    }

    /// Whether it was looked at, and need not be again.
    pub(crate) fn is_settled(self) -> bool {
        match self {
            Self::Verified(_) | Self::Unreadable => true,
            Self::Unknown | Self::Claimed(_) => false,
        }
    }
}
