//! What the machine wants done.

use std::{path::PathBuf, sync::Arc};

#[cfg(doc)]
use super::step_result::PackFailure;
use super::{
    Notice,
    destination::{
        upload_window::Pace,
        verdict::{Proof, Refusal},
    },
    step_result::{OpenFilePolicy, Packed, Reason},
};
use crate::model::episode::EpisodeId;

/// What is to be done. Each but `Log`, `Unwatch`, `Cancel` and `Pace` comes back as an event.
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
    ComputeDigest {
        /// Which.
        id: EpisodeId,
        /// As for packing.
        most_bytes: Option<u64>,
        /// As for packing.
        open_files: OpenFilePolicy,
    },
    /// Make the archive durable under its final name, with its sidecar.
    Persist {
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
    /// It is being packed: send what there is of its archive, as it grows. Nothing is concluded
    /// from what becomes of that.
    SendGrowing(EpisodeId),
    /// Stop an attempt: its archive cannot be trusted any more, or the program ends while it stands
    /// still outside every upload window.
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
    Pace(Pace),
    /// Where room is short, remove from `shipped/` what the receiver holds.
    FreeSpace {
        /// An episode that is to be moved there needs so much, whatever is wanted to stay free.
        need_bytes: u64,
    },
    /// Say something to a person.
    Log(Notice),
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
