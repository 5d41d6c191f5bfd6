//! Every decision of the shipper. Pure: no I/O, no clock, no randomness of its own.
//!
//! [`queue::Machine`] is a value. Events and the time go in through `handle`, effects come out of
//! `next_effect`, and `next_deadline` says when to call again though nothing happened. Time is a
//! `Duration` since any fixed moment on the monotonic clock.
//!
//! ```text
//!            Looked: no marker        Looked: marker
//!   (new) ─────────▶ Open ───────────────▶ Sealed ──Check──▶ Checking ──fits──┐
//!                     ▲                      │  ▲  └─Pack──▶ Packing ───────▼
//!                     │ marker taken away    │  └───────────── changed ──── Ready ──Send─▶ Sending
//!                     └──────────────────────┘                              ▲                  │
//!                                              until a time, or a change    │          verdict │
//!                                          Resting ◀───── weather, refused ─┼──────────────────┤
//!                                          Parked  ◀───── conflict ─────────┘                  │
//!                                          Retiring ◀──── delivered (a proof) ─────────────────┤
//!                                          Quarantining ◀─ fatal, or its own bytes are at fault┘
//! ```

pub mod backoff;
pub mod census;
pub mod circuit_breaker;
mod delivery_result;
mod dispatch;
pub mod fairness;
pub mod folder_check;
pub mod look_back;
mod move_result;
mod observe;
mod order;
pub mod overview;
mod probe_pace;
mod quarantine;
pub mod queue;
mod ramp;
mod relief;
mod reload;
pub mod room;
mod signs;
#[cfg(test)]
mod simulation;
pub mod stall_detector;
pub mod state;
mod sweeps;
#[cfg(test)]
mod tests;
mod transitions;
pub mod verdict;
pub mod window;
mod writers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use self::state::{
    Check, FolderLook, Moved, OpenFilePolicy, OrphanEnd, PackFailure, Packed, Reason,
};
use self::verdict::{Proof, Refusal};

use crate::{
    model::{
        episode::{EpisodeId, Stamp},
        records::ArchiveFacts,
    },
    ship::outcome::Attempt,
};

/// What the operator set, and what decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many episodes are packed at once.
    pub pack_workers: usize,
    /// How many are sent at once.
    pub concurrency: usize,
    /// Which of those that wait go first.
    pub order: fairness::Order,
    /// When uploads may run, and how fast.
    pub uploads: window::Uploads,
    /// How long between two reconcile passes.
    pub reconcile_interval: Duration,
    /// How long between two clean-ups of `quarantine/` and `shipped/`.
    pub sweep_interval: Duration,
    /// Whether a 2xx without a matching receipt is not believed.
    pub require_receipt: bool,
    /// Whether a 200 without a receipt is believed though nothing vouches for it.
    pub believe_bare_200: bool,
    /// One pass: everything is tried once, and what does not succeed is left for another time.
    pub once: bool,
    /// Whether disk pressure may take something from `shipped/`.
    pub relieve: bool,
    /// How long an episode waits for a file of it that is open for writing, before it is shipped
    /// all the same.
    pub open_files_wait: Duration,
    /// The seed of the jitter.
    pub seed: u64,
}

impl Settings {
    /// How far an acknowledgement without a receipt is believed.
    #[must_use]
    pub fn trust(&self) -> verdict::Trust {
        let Self {
            require_receipt,
            believe_bare_200,
            ..
        } = *self;
        verdict::Trust {
            require_receipt,
            believe_bare_200,
            head_failed_before: false,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Something stirred at this episode: look.
    Hinted(EpisodeId),
    /// Something stirred, and it is not known where (an overflow, a lost watch): look everywhere.
    Unsure,
    /// [`Effect::Look`] came back.
    Looked(EpisodeId, FolderLook),
    /// [`Effect::Scan`] came back; `None` where `episodes/` could not be read.
    Scanned(Option<Scanned>),
    /// [`Effect::Check`] came back.
    Checked(EpisodeId, Check),
    /// [`Effect::Pack`] or [`Effect::Measure`] came back.
    Packed(EpisodeId, Result<Packed, PackFailure>),
    /// [`Effect::Keep`] came back; the error in words.
    Kept(EpisodeId, Result<(), String>),
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
    /// [`Effect::Relieve`] came back. False where there is too little room, and nothing that may be
    /// removed.
    Relieved(bool),
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
    ClockRead(window::LocalTime),
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

/// What is to be done. Each but `Tell`, `Unwatch`, `Cancel` and `Pace` comes back as an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at one episode. What is found open is watched, and looked at again, so that no marker
    /// falls between the two.
    Look(EpisodeId),
    /// Stop watching: it is sealed, or gone.
    Unwatch(EpisodeId),
    /// Look everywhere.
    Scan,
    /// Does the archive in the outbox still fit the episode? With `rehash`, read its bytes too.
    Check {
        /// Which.
        id: EpisodeId,
        /// Whether to compare the archive's bytes with its digest.
        rehash: bool,
    },
    /// Pack it, from nothing.
    Pack {
        /// Which.
        id: EpisodeId,
        /// Where more than this is read of it, bytes, it is given up as [`PackFailure::Large`].
        most_bytes: Option<u64>,
        /// What becomes of it where a file of it is open for writing.
        open_files: OpenFilePolicy,
    },
    /// Pack it into nothing, to learn what its archive would be: the outbox has no room. It is
    /// packed again into each upload.
    Measure {
        /// Which.
        id: EpisodeId,
        /// As for packing.
        most_bytes: Option<u64>,
        /// As for packing.
        open_files: OpenFilePolicy,
    },
    /// Make the archive durable under its final name, with its sidecar.
    Keep {
        /// Which.
        id: EpisodeId,
        /// What was packed.
        packed: Arc<Packed>,
        /// A conflict to remember beside it.
        conflict: Option<Refusal>,
        /// It was sent in vain, which is remembered too.
        tried: bool,
    },
    /// One delivery attempt.
    Send {
        /// Which.
        id: EpisodeId,
        /// What is sent.
        packed: Arc<Packed>,
        /// Whether the receiver may have kept a part of it from an attempt before, and is to be
        /// asked.
        resume: bool,
        /// It was not packed just now: whether it is sealed, and what was packed, is looked at
        /// first. Where it is not, no byte is sent, and
        /// [`Fault::Stale`](crate::ship::outcome::Fault::Stale) comes back.
        look: bool,
    },
    /// Stop an attempt: its archive cannot be trusted any more.
    Cancel(EpisodeId),
    /// Its episode, or the marker in it, was taken away before it was shipped: what there is of an
    /// archive without a final name goes too.
    Discard(EpisodeId),
    /// Move it to `shipped/`.
    Retire {
        /// Which.
        id: EpisodeId,
        /// What was delivered.
        packed: Arc<Packed>,
        /// Why it may be moved.
        proof: Proof,
    },
    /// Move it to `quarantine/`.
    Quarantine {
        /// Which.
        id: EpisodeId,
        /// Why.
        reason: Reason,
    },
    /// It was copied away, and what is left of it where it stood is to be removed: go on with that.
    Finish(EpisodeId),
    /// An archive whose episode is gone: find out whether it is the last copy.
    Orphan {
        /// Whose name it has.
        id: EpisodeId,
        /// Its episode was seen to be gone: what stands under the name by now is another one.
        displaced: bool,
    },
    /// Remove from `quarantine/` and `shipped/` what has aged out.
    Sweep,
    /// Look whether these, which were moved to `shipped/`, are still what they were then.
    LookBack(Shipped),
    /// What time of day is it?
    ReadClock,
    /// All uploads go at this pace from now on, also those under way.
    Pace(window::Pace),
    /// Where room is short, remove from `shipped/` what the receiver holds.
    Relieve {
        /// An episode that is to be moved there needs so much, whatever is wanted to stay free.
        need_bytes: u64,
    },
    /// Say something to a person.
    Tell(Notice),
}

/// What is looked at once more in `shipped/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shipped {
    /// What the processes before this one have moved there last: they may have ended before they
    /// looked.
    BeforeTheStart,
    /// These, which this one has moved there a minute ago.
    These(Vec<(EpisodeId, PathBuf)>),
}

/// What a second look found.
#[derive(Debug, Default)]
pub struct LookedBack {
    /// So many were written to, and that was not known before.
    pub changed: u64,
    /// These have not been there for a minute yet; how long that takes still.
    pub young: Vec<(EpisodeId, PathBuf, Duration)>,
}

/// What a person is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The marker was seen; since when it stands there.
    Sealed(EpisodeId, Stamp),
    /// What stands under the marker's name is no regular file, and seals nothing; what it is.
    OddMarker(EpisodeId, &'static str),
    /// Packed.
    Packed(EpisodeId, ArchiveFacts),
    /// A receiver holds it.
    Delivered(EpisodeId, ArchiveFacts, u16),
    /// Moved to `shipped/`, after this status.
    Retired(EpisodeId, ArchiveFacts, u16, PathBuf),
    /// Moved to `quarantine/`.
    Quarantined(EpisodeId, Reason, PathBuf),
    /// The weather; tried again.
    Retrying(EpisodeId, Refusal, Duration),
    /// Refused alone; tried again.
    RefusedAlone(EpisodeId, Refusal, Duration),
    /// For a person.
    Conflict(EpisodeId, Refusal),
    /// The destination is held from now on.
    Held(Refusal),
    /// A probe failed: still held, next probe in.
    StillHeld(Refusal, Duration),
    /// The destination works again, after so long.
    Cleared(Duration),
    /// It was written to after sealing; looked at again.
    StillChanging(EpisodeId, String, Duration),
    /// A file of it is open for writing; which, in words. Looked at again.
    OpenFile(EpisodeId, String, Duration),
    /// A file of it has been open for writing for so long that it is shipped as it is.
    OpenFileAccepted(EpisodeId, String, Duration),
    /// A receiver has taken it, or judged it, and it would have to be copied away while a file of
    /// it is open for writing.
    OpenFileBeforeMove {
        /// Which.
        id: EpisodeId,
        /// It was taken.
        is_delivered: bool,
        /// Which file, in words.
        what: String,
        /// Looked at again in.
        pause: Duration,
    },
    /// It is copied away, and what is left of it where it stood is not removed yet: a file of that
    /// is open for writing.
    LeftBehind {
        /// Which.
        id: EpisodeId,
        /// Which file, in words.
        what: String,
        /// Looked at again in.
        pause: Duration,
    },
    /// It cannot be read, moved or checked here; tried again.
    Stuck(EpisodeId, String, Duration),
    /// The outbox cannot be written; packing goes on later.
    PackingPaused(String, Duration),
    /// The outbox is full, though room was reserved; for so long nothing is written there.
    OutboxFull(String, Duration),
    /// There is no room in the outbox for this one; why. It is sent without a copy there.
    NoRoom(EpisodeId, String),
    /// The archive was damaged or lost in the outbox, and is packed again.
    PackedAgain(EpisodeId, String),
    /// The receiver holds it, and it was taken out of `episodes/` before it could be moved.
    DeliveredAndGone(EpisodeId),
    /// What was delivered of it packs to the same again, and its stamps have moved a second time: a
    /// property of its file system, or the work of a program that touches recordings.
    StampsMove(EpisodeId),
    /// The episode disappeared while it was worked on.
    Vanished(EpisodeId),
    /// Uploads go at another pace from now on.
    Pace(window::Pace),
    /// Nothing is cleaned up, since the clock has not been trustworthy for so long.
    ClockDoubted(Duration),
}

/// What `ship --once` reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Sealed episodes found.
    pub scanned: u64,
    /// Retired to `shipped/`.
    pub shipped: u64,
    /// Left for another time: weather, our own disk, still changing; and what could not be looked
    /// at.
    pub transient_failures: u64,
    /// Of these, what could not be looked at, or is no episode though it was sealed, and so is not
    /// among those found sealed.
    #[serde(skip)]
    pub unseen: u64,
    /// For a person.
    pub conflicts: u64,
    /// Quarantined.
    pub fatal: u64,
    /// Of these, archives without an episode, of which each may be the last copy.
    #[serde(skip)]
    pub last_copies: u64,
    /// Waiting for a destination that is at fault, or refused.
    pub held: u64,
}
