//! One episode: what it is, and what the steps can say about it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

pub use super::move_result::Moved;
use super::verdict::{Proof, Refusal, Trust};
pub use crate::model::episode::FolderLook;
use crate::{
    model::{
        episode::{Commit, Digest, Fingerprint, FolderId, Stamp},
        records::{ArchiveFacts, ManifestCheck},
    },
    ship::outcome::{Attempt, Outcome},
};

/// What packing, or a check of the outbox, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Digests and length.
    pub facts: ArchiveFacts,
    /// The episode as it was packed.
    pub fingerprint: Fingerprint,
    /// Which directory that was; `None` where an older shipper packed it.
    pub folder: Option<FolderId>,
    /// What became of the marker's manifest.
    pub manifest: ManifestCheck,
    /// The recorder's commit.
    pub commit: Option<Commit>,
    /// Files that were open for writing while it was packed, and waited for in vain; printable.
    pub open_files: Vec<String>,
}

/// What becomes of an episode of which a file is open for writing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OpenFilePolicy {
    /// It is packed when the file is closed.
    #[default]
    WaitedFor,
    /// It is packed as it is, and the file is named.
    Accepted,
}

/// Why packing gave no archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackFailure {
    /// It was written to while it was packed; what.
    Changed(String),
    /// The marker's manifest cannot be read (yet), in the episode as it is now; why.
    UnfinishedManifest(String, Fingerprint),
    /// The episode, as it is now, is not what its own manifest says. The episode's fault.
    Fault(String, Fingerprint),
    /// A file of it is open for writing.
    OpenForWriting {
        /// Which file, and by which process, in words.
        what: String,
        /// How long the marker has stood, by the wall clock; nothing where that was plainly wrong.
        sealed_for: Duration,
    },
    /// It is not there any more.
    Gone,
    /// It cannot be read; why.
    Unreadable(String),
    /// There is no room in the outbox to reserve; why. Nothing was begun.
    Short(String),
    /// The outbox was full, or our share of it, though room was reserved; why.
    Full(String),
    /// The outbox cannot be written; why.
    Outbox(String),
    /// More was read of it than it was to be packed for.
    Large,
    /// Stopped on request.
    Cancelled,
}

/// Whether an archive in the outbox can be sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// It fits the episode as it is now. With the conflict that was remembered beside it.
    Fits(Packed, Option<Refusal>),
    /// There is no archive, and what stands there is what was in conflict when it was sent without
    /// one.
    Noted(Packed, Refusal),
    /// It does not, or has no sidecar, or is damaged; in words.
    Unusable(String),
    /// It was packed from another directory than the one that has the name now: it may be the last
    /// copy of that.
    Displaced,
    /// The two could not be compared: that says nothing about either; in words.
    Unknown(String),
}

/// What became of an archive without an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrphanEnd {
    /// It was no orphan, or was held elsewhere, or is nothing to worry about.
    Settled,
    /// It may be the last copy of its episode, and lies in `quarantine/` now.
    LastCopy,
    /// It could not be settled, and is looked at again; why.
    Unsettled(String),
}

/// Why an episode goes to quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// The HTTP status; `None` where there was no response.
    pub status: Option<u16>,
    /// What is wrong, in a sentence.
    pub error: String,
    /// What the receiver said.
    pub body: Value,
    /// The verdict's name.
    pub verdict: &'static str,
    /// Which state of the episode all this is true of. What stands under its name by now may be
    /// another.
    pub fingerprint: Fingerprint,
    /// What that packs to, where it was packed.
    pub content_sha256: Option<Digest>,
}

/// Where an episode is on its way. See the picture in the module above.
#[derive(Debug)]
pub(super) enum State {
    /// Watched, not sealed.
    Open,
    /// Waits for its turn to be checked or packed.
    Sealed,
    Checking,
    Packing,
    /// Packed; waits for its turn to be sent.
    Ready(Arc<Packed>),
    Sending(Arc<Packed>),
    /// Waits for a time; then goes on with `Next`.
    Resting(AfterRest, Rest),
    /// Waits for a change, or for a person.
    Parked(Arc<Packed>),
    /// The receiver has it; the move to `shipped/` waits for the disk, or is under way.
    Retiring(Arc<Packed>, Proof),
    Quarantining(Box<Reason>),
    /// What is left of it where it stood is being removed.
    Finishing,
}

/// What follows a rest.
#[derive(Debug)]
pub(super) enum AfterRest {
    Pack,
    Send(Arc<Packed>),
    Retire(Arc<Packed>, Proof),
    Quarantine(Box<Reason>),
    Finish,
}

/// Why an episode rests; what `ship --once` counts it as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Weather,
    Refused,
    Local,
}

/// Failures in a row, by who was at fault; each kind has its own schedule.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) weather: u32,
    pub(super) refused: u32,
    pub(super) settling: u32,
    pub(super) open_file: u32,
    pub(super) local: u32,
}

/// Whether a look is under way, and whether another was asked for meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looking {
    No,
    Yes,
    YesAndAgain,
    /// What it will say is older than what is known already: it is not believed, and asked again.
    Stale,
}

/// Whether a sidecar says that its archive was sent in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TriedNote {
    No,
    /// It is to.
    Due,
    Yes,
}

/// What a receiver holds of an episode that was found changed when it was to be moved.
#[derive(Debug)]
pub(super) struct Delivered {
    /// What it holds. Where the episode packs to the same again, nothing is sent.
    pub(super) content_sha256: Digest,
    pub(super) proof: Proof,
    /// How often the same was packed again and found changed again.
    pub(super) again: u32,
}

/// One episode as the machine remembers it: a quarter of a kilobyte, since most of them wait.
#[derive(Debug)]
pub(super) struct Episode {
    pub(super) state: State,
    pub(super) looking: Looking,
    pub(super) watched: bool,
    /// What stands under the marker's name and is none.
    pub(super) odd_marker: Option<&'static str>,
    /// Something stirred while it was moved away: the name may be in use again.
    pub(super) stirred: bool,
    /// As last seen sealed.
    pub(super) stamp: Option<Stamp>,
    /// Found to be too large for the slot that is kept for small ones.
    pub(super) large: bool,
    /// An archive of it lies in the outbox, left by an earlier process.
    pub(super) archived: bool,
    /// There was no room in the outbox: it is to be packed without a copy there.
    pub(super) short: bool,
    /// What is sent of it lies nowhere: it is packed anew for each attempt.
    pub(super) without_copy: bool,
    /// Making the archive durable is under way.
    pub(super) keeping: bool,
    /// The archive is durable under its final name.
    pub(super) durable: bool,
    /// Making it durable failed: the bytes cannot be trusted any more.
    pub(super) spoiled: bool,
    /// The receiver found the archive's bytes damaged: they are read again before they are sent
    /// again.
    pub(super) suspect: bool,
    /// A conflict that is not written beside the archive yet.
    pub(super) conflict: Option<Box<Refusal>>,
    pub(super) conflict_told: bool,
    pub(super) failures: Failures,
    /// Since when its manifest is waited for.
    pub(super) unfinished_since: Option<Duration>,
    /// Since when a file of it has been open for writing, and whether that is waited for still.
    pub(super) open_since: Option<Duration>,
    pub(super) open_files: OpenFilePolicy,
    /// Deliveries of the process when the attempt began, and when one last failed.
    pub(super) deliveries_at_start: u64,
    pub(super) deliveries_at_failure: Option<u64>,
    /// One failed before others were delivered, and the next one failed as well: that is its own
    /// affair.
    pub(super) fails_alone: bool,
    /// The same in bad weather, which takes more to tell.
    pub(super) fails_alone_in_weather: bool,
    /// A 200 without a receipt could not be asked after when it was last sent.
    pub(super) head_failed: bool,
    /// It failed last while the destination was held.
    pub(super) failed_in_hold: bool,
    /// Its last attempt ended by a time-out: it had its slot for as long as it could.
    pub(super) hung: bool,
    /// Whether its sidecar says that it was tried.
    pub(super) noted: TriedNote,
    /// Since when it waits for another turn; zero where it had none yet.
    pub(super) waits_again_since: Duration,
    /// A receiver has acknowledged it, and it could not be moved, since it was found changed.
    pub(super) delivered: Option<Box<Delivered>>,
    /// The receiver has been changed since it was sent; how far the one before was to be believed.
    pub(super) sent_elsewhere: Option<Trust>,
    /// It stands still, or did, since the upload window closed over it.
    pub(super) paused: bool,
    /// A window closed over it, and it was cut then.
    pub(super) cut_by_window: bool,
    /// When it last came back undelivered.
    pub(super) failed_at: Option<Duration>,
    /// When it was seen to be sealed.
    pub(super) sealed_at: Duration,
    /// When it was last packed.
    pub(super) packed_at: Option<Duration>,
    /// Something of it was sent before, by this process or by one before it: the receiver may have
    /// kept what arrived.
    pub(super) may_be_kept: bool,
    /// The most that it had kept when it was asked, bytes.
    pub(super) kept_bytes: u64,
    /// Attempts in a row that got no further, or hardly.
    pub(super) vain: Vain,
    /// When to wake it.
    pub(super) wake: Option<Duration>,
    /// What a person was last told of it.
    pub(super) why: Option<Box<str>>,
}

/// An attempt that gets this much further moves, bytes. What adds less each time could go on all
/// but for ever.
const LEAST_MOVED: u64 = 64 * 1024;
/// So many may add less, one after another.
const MOST_CREPT: u8 = 16;
/// So often in a row it is tried to go on where that leads nowhere, before the whole is sent
/// instead.
const MOST_IN_VAIN: u8 = 3;
/// And so often where so much is kept: that is worth waiting for.
const MOST_IN_VAIN_FOR_MUCH: u8 = 20;
const MUCH_BYTES: u64 = 64 * 1024 * 1024;

/// Attempts in a row that led nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vain {
    /// The receiver could not say what it has kept.
    asked: u8,
    /// It went on from where the one before did, and no receiver said what is wrong.
    stood_still: u8,
    /// It went on hardly behind that.
    crept: u8,
}

impl Episode {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            state: State::Open,
            looking: Looking::No,
            watched: false,
            odd_marker: None,
            stirred: false,
            stamp: None,
            large: false,
            archived: false,
            short: false,
            without_copy: false,
            keeping: false,
            durable: false,
            spoiled: false,
            suspect: false,
            conflict: None,
            conflict_told: false,
            failures: Failures::default(),
            unfinished_since: None,
            open_since: None,
            open_files: OpenFilePolicy::WaitedFor,
            deliveries_at_start: 0,
            deliveries_at_failure: None,
            fails_alone: false,
            fails_alone_in_weather: false,
            noted: TriedNote::No,
            failed_in_hold: false,
            head_failed: false,
            hung: false,
            waits_again_since: Duration::ZERO,
            delivered: None,
            sent_elsewhere: None,
            paused: false,
            cut_by_window: false,
            failed_at: None,
            sealed_at: Duration::ZERO,
            packed_at: None,
            may_be_kept: false,
            kept_bytes: 0,
            vain: Vain::default(),
            wake: None,
            why: None,
        })
    }

    pub(super) fn sealed_ns(&self) -> i64 {
        self.stamp.map_or(i64::MAX, |stamp| stamp.sealed_ns)
    }

    /// Whether the receiver is to be asked first what it has kept. Not where that has led nowhere,
    /// again and again: something on the way may let no HEAD or no PATCH through, and a PUT from
    /// the first byte may arrive.
    pub(super) fn asks_first(&mut self) -> bool {
        let most = if self.kept_bytes < MUCH_BYTES {
            MOST_IN_VAIN
        } else {
            MOST_IN_VAIN_FOR_MUCH
        };
        if self.vain.asked.max(self.vain.stood_still) >= most {
            self.vain = Vain::default();
            return false;
        }
        self.may_be_kept
    }

    /// Notes how far an attempt got. True where the one before it had moved something: then the
    /// line works, however often it drops.
    pub(super) fn went_on(&mut self, attempt: &Attempt) -> bool {
        self.may_be_kept |= attempt.sent;
        self.vain.asked = if attempt.asked_in_vain {
            self.vain.asked.saturating_add(1)
        } else {
            0
        };
        let at_bytes = attempt.resumed_at_bytes;
        if at_bytes == 0 {
            // It was not asked, could not be asked, or has thrown it away.
            if attempt.sent {
                self.kept_bytes = 0;
            }
            return false;
        }
        let before = self.kept_bytes;
        self.kept_bytes = before.max(at_bytes);
        match self.kept_bytes - before {
            // A receiver says what is wrong there: its disk is full, say.
            0 => {
                let is_told = match &attempt.outcome {
                    Outcome::Answered(answer) => {
                        answer.status == 507 || answer.problem_type().is_some()
                    }
                    Outcome::Failed(_) => false,
                };
                let unanswered = u8::from(!is_told);
                self.vain.stood_still = self.vain.stood_still.saturating_add(unanswered);
            }
            LEAST_MOVED.. => self.vain = Vain::default(),
            1.. => {
                self.vain.stood_still = 0;
                self.vain.crept = self.vain.crept.saturating_add(1);
            }
        }
        self.kept_bytes > before && self.vain.crept <= MOST_CREPT
    }

    /// The length of its archive, where it is packed and waits to be sent; else 0.
    pub(super) fn archive_bytes(&self) -> u64 {
        if let State::Ready(packed) = &self.state {
            packed.facts.size_bytes
        } else {
            0
        }
    }

    /// The receiver has it, and it could not be moved so far.
    pub(super) fn is_delivered(&self) -> bool {
        matches!(self.state, State::Resting(AfterRest::Retire(..), _))
    }

    pub(super) fn sending(&self) -> bool {
        matches!(self.state, State::Sending(_))
    }

    /// Whether a step is under way whose result will come back; such an episode is not forgotten.
    pub(super) fn busy(&self) -> bool {
        self.keeping
            || self.looking != Looking::No
            || match self.state {
                State::Checking
                | State::Packing
                | State::Sending(_)
                | State::Retiring(..)
                | State::Quarantining(_)
                | State::Finishing => true,
                State::Open
                | State::Sealed
                | State::Ready(_)
                | State::Resting(..)
                | State::Parked(_) => false,
            }
    }
}
