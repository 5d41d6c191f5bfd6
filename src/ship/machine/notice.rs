//! What the machine says to the operator.

use std::{path::PathBuf, time::Duration};

use super::{
    destination::{upload_window::Pace, verdict::Refusal},
    step_result::Reason,
};
use crate::model::{
    episode::{EpisodeId, Stamp},
    records::ArchiveFacts,
};

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
    Pace(Pace),
    /// Nothing is cleaned up, since the clock has not been trustworthy for so long.
    ClockDoubted(Duration),
}
