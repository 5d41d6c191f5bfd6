//! What the machine hears of.

use std::{path::PathBuf, time::Duration};

#[cfg(doc)]
use super::Effect;
use super::{
    Settings,
    destination::upload_window::LocalTime,
    step_result::{Check, FolderLook, Moved, OrphanEnd, PackFailure, Packed},
};
use crate::{model::episode::EpisodeId, ship::outcome::Attempt};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Something stirred at this episode: look.
    Hinted(EpisodeId),
    /// Something stirred, and it is not known where (an overflow, a lost watch): look everywhere.
    HintsLost,
    /// [`Effect::Look`] came back.
    Looked(EpisodeId, FolderLook),
    /// [`Effect::Scan`] came back; `None` where `episodes/` could not be read.
    Scanned(Option<Scanned>),
    /// [`Effect::Check`] came back.
    Checked(EpisodeId, Check),
    /// [`Effect::Pack`] or [`Effect::ComputeDigest`] came back.
    Packed(EpisodeId, Result<Packed, PackFailure>),
    /// It is being packed, is not small, and its archive can be sent as it grows.
    Growing(EpisodeId),
    /// [`Effect::SendGrowing`] came back; false where the receiver takes none of it before it is
    /// packed.
    GrowingSent(EpisodeId, bool),
    /// [`Effect::Persist`] came back; the error in words.
    Persisted(EpisodeId, Result<(), String>),
    /// [`Effect::Discard`] came back. Who performs lets no packing of that name begin before.
    Discarded(EpisodeId),
    /// The last byte of an upload has left; what is waited for is the answer.
    WholeSent(EpisodeId),
    /// [`Effect::Send`] came back.
    Attempted(EpisodeId, Attempt),
    /// [`Effect::Retire`] came back.
    Retired(EpisodeId, Moved),
    /// [`Effect::Quarantine`] came back.
    Quarantined(EpisodeId, Moved),
    /// [`Effect::Finish`] came back.
    Finished(EpisodeId, Moved),
    /// [`Effect::Orphan`] came back.
    OrphanSettled(EpisodeId, OrphanEnd),
    /// What lay in the outbox under this name was of another episode, and may be the last copy of
    /// it: it was put aside before the name was used again.
    PutAside(EpisodeId),
    /// [`Effect::Sweep`] came back. False where the clock could not be believed yet.
    Swept(bool),
    /// [`Effect::FreeSpace`] came back. False where there is too little room, and nothing that
    /// may be removed.
    SpaceFreed(bool),
    /// [`Effect::LookBack`] came back.
    LookedBack(LookedBack),
    /// Watches can be had (true), or not (false).
    Watching(bool),
    /// Every watch is gone: `episodes/` is another folder than it was.
    WatchesLost,
    /// A person has changed the configuration. A held destination is probed at once, and what was
    /// refused is sent again.
    Configured {
        /// From now on. One pass stays one pass, and the stream of random waits goes on.
        settings: Settings,
        /// Whether the receiver is another one.
        elsewhere: bool,
    },
    /// [`Effect::ReadClock`] came back.
    ClockRead(LocalTime),
    /// Time passed.
    Deadline,
    /// Take nothing new.
    Stop,
}

/// What a reconcile pass found.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Every directory in `episodes/` whose name is an id.
    pub episodes: Vec<(EpisodeId, FolderLook)>,
    /// Ids with an archive in the outbox, with or without a sidecar.
    pub archives: Vec<EpisodeId>,
    /// Those that a process before this one has sent in vain, with the time of the last attempt,
    /// seconds by the clock of then. Told by the first pass alone.
    pub tried: Vec<(EpisodeId, u64)>,
    /// Archives without a sidecar. Where it was in conflict, a person has taken the verdict away:
    /// it is sent again.
    pub unlabelled: Vec<EpisodeId>,
    /// Ids of which a conflict is noted, and no archive lies there: they were sent without one.
    pub noted: Vec<EpisodeId>,
    /// How many others were sealed as if they were episodes, and are none.
    pub mistaken: u64,
    /// How many archives have no episode beside them, of which nothing is concluded: `episodes/` is
    /// not the folder that it was.
    pub stranded: u64,
}

/// What a second look found.
#[derive(Debug, Default)]
pub struct LookedBack {
    /// So many were written to, and that was not known before.
    pub changed: u64,
    /// These have not been there for a minute yet; how long that takes still.
    pub young: Vec<(EpisodeId, PathBuf, Duration)>,
}
