//! The episodes in a snapshot: how many of each kind, and the ones that are worth a look.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::records::WallTime;

/// How many episodes are in each state. One is in one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// [`EpisodeState::Open`]
    pub open: u64,
    /// [`EpisodeState::Sealed`]
    pub sealed: u64,
    /// [`EpisodeState::Packing`]
    pub packing: u64,
    /// [`EpisodeState::Ready`]
    pub ready: u64,
    /// [`EpisodeState::Uploading`]
    pub uploading: u64,
    /// [`EpisodeState::Waiting`]
    pub waiting: u64,
    /// [`EpisodeState::Refused`]
    pub refused: u64,
    /// [`EpisodeState::Conflict`]
    pub conflict: u64,
    /// [`EpisodeState::Moving`]
    pub moving: u64,
}

/// Where an episode is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpisodeState {
    /// Being sent.
    Uploading,
    /// Being packed, or compared with its archive.
    Packing,
    /// On its way to `shipped/` or `quarantine/`.
    Moving,
    /// The receiver holds other content under this id: waits for a person.
    Conflict,
    /// Refused, not by a receiver or alone among others; sent again later.
    Refused,
    /// Waits for a time: the weather, our own disk, a recorder that still writes.
    Waiting,
    /// Packed; waits for its turn to be sent, or for a held destination.
    Ready,
    /// Sealed; waits for its turn to be packed.
    Sealed,
    /// Not sealed yet.
    Open,
    /// In a state that this program does not know.
    #[serde(other)]
    Other,
}

/// One episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpisodeStatus {
    /// Its name.
    pub id: String,
    /// Where it is on its way.
    pub state: EpisodeState,
    /// When its marker was made, by the file system's clock; `None` where it is open.
    pub sealed_at_wall: Option<WallTime>,
    /// Why it does not go on.
    pub why: Option<String>,
    /// When it is tried again; `None` where no time is known: it waits for its turn, or for a
    /// person.
    pub again_in_s: Option<u64>,
    /// The archive's length, where it is packed.
    pub size_bytes: Option<u64>,
    /// How much of it the receiver was sent, of an upload that goes on where it broke off with what
    /// went before.
    pub sent_bytes: Option<u64>,
    /// How fast that goes just now.
    pub bytes_per_s: Option<u64>,
    /// How much longer at that rate.
    pub left_s: Option<u64>,
}

/// What is in `episodes/` and can be no episode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Strangers {
    /// How many.
    pub count: u64,
    /// Up to [`super::MAX_STRANGERS`] of them, the sealed ones first.
    pub some: Vec<StrangerStatus>,
}

/// One that can be no episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangerStatus {
    /// Its name, printable.
    pub name: String,
    /// Why it is none, and what to do.
    pub why: String,
    /// It was sealed, so its recorder believes that it is shipped.
    #[serde(default)]
    pub sealed: bool,
}

/// Sealed episodes of which a file is open for writing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenFileStatus {
    /// How many wait for that.
    pub count: u64,
    /// Those that have waited longest, up to [`super::MAX_STRANGERS`].
    pub some: Vec<OpenFile>,
    /// Episodes packed since the start that have no manifest and belong to another user: of those
    /// it cannot be told.
    pub untold: u64,
}

/// A file that is open for writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// Of which episode.
    pub episode_id: String,
    /// Its path in the episode.
    pub file: String,
    /// The process that has it open; `None` where /proc does not show it.
    pub pid: Option<u32>,
    /// That process' name.
    pub process: Option<String>,
    /// Since it was first found open.
    pub for_s: u64,
    /// The episode is delivered, or rejected, and its move waits for this.
    #[serde(default)]
    pub before_move: bool,
}

/// An episode in `shipped/` that is not what was delivered any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedChange {
    /// Which.
    pub episode_id: String,
    /// Its folder's name in `shipped/`.
    pub folder: String,
}

/// Sealed episodes in `episodes/` that a killed process had put aside while it moved them, and
/// that have no name again yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAside {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: String,
    /// The command that shows what is at work there.
    pub fix: String,
}

impl fmt::Display for LeftAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            first,
            fix: _,
        } = self;
        let (are, them) = match count {
            1 => (format!("{first} is sealed, and"), "it"),
            many => (
                format!("{many} episodes are sealed ({first} is one), and each is"),
                "them",
            ),
        };
        write!(
            f,
            "{are} out of sight in episodes/ as .sealift-aside-*: a process that was killed had put {them} aside while it moved {them}, \
             and another process is at work in that folder by now (sealift requeue, or another shipper), so that nothing is put in \
             order there. What was not moved has its name back, and is shipped, once that has ended (kill -CONT lets one go on that is \
             stopped, STAT T; kill ends one that hangs)"
        )
    }
}
