//! One episode: where it is on its way, what there is of its archive, what was seen of it, and how
//! it has fared.
//!
//! Each event that concerns one episode is a function of it here. What it wants done goes into the
//! [`Context`]; nothing here knows another episode, the destination or a queue. In which queue it
//! waits, and when it is woken, follows from its fields (`episodes.rs`).

pub(super) mod archive;
mod delivery;
mod history;
mod look;
mod move_result;
mod observation;
mod open_files;
mod pack_result;
mod persist;
mod resume;
mod stage;

use std::{sync::Arc, time::Duration};

use self::{
    archive::{ArchiveState, Conflict, Delivered, Preparation, TriedNote},
    observation::Observation,
};
pub(super) use self::{
    delivery::{AwaitRest, Course},
    history::{Blame, History, Past},
    observation::Looking,
    stage::{AfterRest, Rest, Stage},
};
use super::{
    Effect, Notice,
    context::Context,
    destination::backoff::{Backoff, LOCAL, UNHELD},
    step_result::{OpenFilePolicy, Packed},
};
use crate::model::episode::{EpisodeId, Stamp};

/// One episode as the machine remembers it: a quarter of a kilobyte, since most of them wait.
#[derive(Debug)]
pub(super) struct Episode {
    stage: Stage,
    archive: ArchiveState,
    /// What its next turn with a packer is for.
    preparation: Preparation,
    /// Making the archive durable, or writing something beside it, is under way.
    is_persisting: bool,
    /// Found to be too large for the slot that is kept for small ones.
    is_large: bool,
    observation: Observation,
    history: History,
    failures: Failures,
    conflict: Conflict,
    /// Whether its sidecar says that it was tried.
    tried: TriedNote,
    /// A receiver has acknowledged it, and it could not be moved, since it was found changed.
    delivered: Option<Box<Delivered>>,
    /// Since when its manifest is waited for.
    unfinished_since: Option<Duration>,
    /// Since when a file of it has been open for writing, and whether that is waited for still.
    open_since: Option<Duration>,
    open_files: OpenFilePolicy,
    /// Since when it waits for another turn; zero where it had none yet.
    waits_again_since: Duration,
    /// When it was last packed.
    packed_at: Option<Duration>,
    /// When to wake it.
    wake: Option<Duration>,
    /// What the operator was last told of it.
    why: Option<Box<str>>,
}

/// Failures in a row, by what was at fault; each kind has its own schedule.
#[derive(Debug, Default)]
struct Failures {
    transient: u32,
    refused: u32,
    settling: u32,
    open_file: u32,
    local: u32,
}

/// Which of an episode's failures count.
type Count = fn(&mut Failures) -> &mut u32;

impl Episode {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            stage: Stage::Open,
            archive: ArchiveState::Scratch,
            preparation: Preparation::Pack,
            is_persisting: false,
            is_large: false,
            observation: Observation::default(),
            history: History::default(),
            failures: Failures::default(),
            conflict: Conflict::None,
            tried: TriedNote::No,
            delivered: None,
            unfinished_since: None,
            open_since: None,
            open_files: OpenFilePolicy::WaitedFor,
            waits_again_since: Duration::ZERO,
            packed_at: None,
            wake: None,
            why: None,
        })
    }

    /// One of the same name that left while it was looked at: what the look says may be of either.
    pub(super) fn after_one_that_left() -> Box<Self> {
        let mut fresh = Self::new();
        fresh.observation.looking = Looking::Stale;
        fresh
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn preparation(&self) -> Preparation {
        self.preparation
    }

    pub(super) fn is_persisting(&self) -> bool {
        self.is_persisting
    }

    pub(super) fn looking(&self) -> Looking {
        self.observation.looking
    }

    /// Something stirred while it was moved away: the name may be in use again.
    pub(super) fn has_stirred(&self) -> bool {
        self.observation.has_stirred
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.observation.stamp
    }

    pub(super) fn sealed_ns(&self) -> i64 {
        self.stamp().map_or(i64::MAX, |stamp| stamp.sealed_ns)
    }

    /// When it was seen to be sealed.
    pub(super) fn sealed_at(&self) -> Duration {
        self.observation.sealed_at
    }

    pub(super) fn odd_marker(&self) -> Option<&'static str> {
        self.observation.odd_marker
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    pub(super) fn waits_again_since(&self) -> Duration {
        self.waits_again_since
    }

    pub(super) fn wake(&self) -> Option<Duration> {
        self.wake
    }

    /// What the operator was last told of it.
    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// How often in a row our own disk or permissions kept it from moving on.
    pub(super) fn local_failures(&self) -> u32 {
        self.failures.local
    }

    /// It is known not to be small, before it is packed.
    pub(super) fn is_large_to_pack(&self) -> bool {
        self.is_large
    }

    /// It was packed into nothing, and no conflict waits to be written down.
    pub(super) fn is_on_demand_without_unwritten_conflict(&self) -> bool {
        self.archive == ArchiveState::OnDemand && !matches!(self.conflict, Conflict::Unwritten(_))
    }

    /// The length of its archive, where it is packed and waits to be sent; else 0.
    pub(super) fn archive_bytes(&self) -> u64 {
        if let Stage::Ready(packed) = &self.stage {
            packed.facts.size_bytes
        } else {
            0
        }
    }

    /// The receiver has it, and it could not be moved so far.
    pub(super) fn is_delivered(&self) -> bool {
        matches!(self.stage, Stage::Resting(AfterRest::Retire(..), _))
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Sending(_))
    }

    /// It has left: `episodes.rs` forgets it.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.stage, Stage::Left)
    }

    /// Whether a step is under way whose result will come back; such an episode is not forgotten.
    fn is_busy(&self) -> bool {
        self.is_persisting
            || self.observation.looking != Looking::No
            || match self.stage {
                Stage::Checking
                | Stage::Packing
                | Stage::Sending(_)
                | Stage::Retiring(..)
                | Stage::Quarantining(_)
                | Stage::Finishing => true,
                Stage::Open
                | Stage::Sealed
                | Stage::Ready(_)
                | Stage::Resting(..)
                | Stage::Parked(_)
                | Stage::Left => false,
            }
    }

    /// What the operator is told of an episode is what the next one who asks is told, too.
    fn log(&mut self, notice: Notice, cx: &mut Context) {
        if let Some(why) = notice.why_it_waits() {
            self.why = Some(why.into());
        }
        cx.log(notice);
    }

    /// It has had its turn.
    fn give_up_turn(&mut self, cx: &Context) {
        self.waits_again_since = cx.end_of_turn();
    }

    fn rest(&mut self, next: AfterRest, why: Rest, until: Duration, cx: &Context) {
        self.stage = Stage::Resting(next, why);
        self.give_up_turn(cx);
        self.wake = Some(until);
    }

    /// A time has come, or something that it rests for.
    pub(super) fn rested(&mut self, id: &EpisodeId, cx: &mut Context) {
        self.give_up_turn(cx);
        match std::mem::replace(&mut self.stage, Stage::Sealed) {
            // Has it changed? The check compares fingerprints, and remembers the conflict where it
            // has not.
            Stage::Parked(_) => self.check_again(),
            Stage::Resting(AfterRest::Send(_), _)
                if self.preparation == Preparation::CheckBytes =>
            {
                self.check_again();
            }
            Stage::Resting(AfterRest::Send(packed), _) => self.stage = Stage::Ready(packed),
            Stage::Resting(AfterRest::Retire(packed, proof), _) => {
                self.retire(id, packed, proof, cx);
            }
            Stage::Resting(AfterRest::Quarantine(reason), _) => self.quarantine(id, reason, cx),
            Stage::Resting(AfterRest::Finish, _) => self.finish(id, cx),
            Stage::Resting(AfterRest::Pack, _) => self.stage = Stage::Sealed,
            stage @ (Stage::Open
            | Stage::Sealed
            | Stage::Checking
            | Stage::Packing
            | Stage::Ready(_)
            | Stage::Sending(_)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left) => self.stage = stage,
        }
    }

    /// Its time has come.
    pub(super) fn woken(&mut self, id: &EpisodeId, cx: &mut Context) {
        self.wake = None;
        match &self.stage {
            Stage::Sending(_) => self.persist(id, cx),
            Stage::Resting(..) | Stage::Parked(_) if !cx.is_once() && !cx.is_stopping() => {
                self.rested(id, cx);
            }
            Stage::Open
            | Stage::Sealed
            | Stage::Checking
            | Stage::Packing
            | Stage::Ready(_)
            | Stage::Resting(..)
            | Stage::Parked(_)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left => {}
        }
    }

    /// What it waited for is there: it goes on now.
    fn rested_now(&mut self, id: &EpisodeId, cx: &mut Context) {
        self.wake = None;
        self.rested(id, cx);
    }

    /// There is room where it could not be moved to for want of it.
    pub(super) fn room_made(&mut self, id: &EpisodeId, cx: &mut Context) {
        if self.is_delivered() {
            self.rested_now(id, cx);
        }
    }

    /// Its archive is looked at before it goes on; where it has none under its final name, it is
    /// packed again.
    fn check_again(&mut self) {
        self.preparation = self
            .preparation
            .of_what_there_is(self.archive, self.is_persisting);
        self.stage = Stage::Sealed;
    }

    /// Something in the outbox bears its name.
    pub(super) fn note_archive_in_outbox(&mut self) {
        if matches!(self.stage, Stage::Open) && !self.preparation.is_check() {
            self.preparation = Preparation::Check;
        }
    }

    /// A process before this one has sent it in vain, when its clock said so.
    pub(super) fn note_tried(&mut self, at: Duration) {
        if matches!(self.stage, Stage::Open) {
            self.waits_again_since = at;
            self.tried = TriedNote::Written;
        }
    }

    fn stuck(&mut self, id: &EpisodeId, next: AfterRest, why: String, cx: &mut Context) {
        self.stuck_by(LOCAL, Rest::Local, id, next, why, cx);
    }

    /// It is not packed, since it would take the place of a last copy.
    fn stuck_behind_last_copy(&mut self, id: &EpisodeId, why: String, cx: &mut Context) {
        self.stuck_by(LOCAL, Rest::NameTaken, id, AfterRest::Pack, why, cx);
    }

    /// Each try reads and writes the episode up to what cannot be held, and only the operator
    /// changes that.
    fn stuck_for_long(&mut self, id: &EpisodeId, next: AfterRest, why: String, cx: &mut Context) {
        self.stuck_by(UNHELD, Rest::Local, id, next, why, cx);
    }

    fn stuck_by(
        &mut self,
        schedule: Backoff,
        rest: Rest,
        id: &EpisodeId,
        next: AfterRest,
        why: String,
        cx: &mut Context,
    ) {
        let wait = self.failed(|failures| &mut failures.local, schedule, cx);
        self.log(Notice::Stuck(id.clone(), why, wait), cx);
        self.rest(next, rest, cx.now() + wait, cx);
    }

    /// Counts one more failure of a kind; how long to wait for it.
    fn failed(&mut self, count: Count, schedule: Backoff, cx: &mut Context) -> Duration {
        let failures = count(&mut self.failures);
        *failures = failures.saturating_add(1);
        cx.wait(schedule, *failures)
    }

    /// It leaves what the machine knows; whether the name is in use again is asked.
    fn leave(&mut self) {
        self.stage = Stage::Left;
    }

    /// It was taken away before it was shipped: that counts as no failure.
    fn vanished(&mut self, id: &EpisodeId, cx: &mut Context) {
        self.log(Notice::Vanished(id.clone()), cx);
    }

    /// What has no final name yet is nothing that the next start would look at. What waited for a
    /// file to be closed waits no more.
    fn discard_scratch(&self, id: &EpisodeId, cx: &mut Context) {
        if self.archive != ArchiveState::Durable || self.failures.open_file > 0 {
            cx.perform(Effect::Discard(id.clone()));
        }
    }

    pub(super) fn unwatch(&mut self, id: &EpisodeId, cx: &mut Context) {
        if std::mem::take(&mut self.observation.is_watched) {
            cx.perform(Effect::Unwatch(id.clone()));
        }
    }

    /// The operator has changed something: what it waited for may be different now. `elsewhere`:
    /// the receiver is another one.
    pub(super) fn configured(
        &mut self,
        elsewhere: bool,
        trusted: super::destination::verdict::Trust,
        now: Duration,
    ) {
        if elsewhere {
            self.history.receiver_changed(self.is_sending(), trusted);
            // What the other one holds says nothing of this one.
            self.conflict = Conflict::None;
        }
        // What is transient at a receiver that stays the same, and what it asked for
        // (Retry-After), are as they were.
        let waits_for_the_operator = match &self.stage {
            Stage::Resting(AfterRest::Send(_), Rest::Refused)
            | Stage::Resting(_, Rest::NameTaken) => true,
            // What could not be read, written or moved; not what waits for its recorder.
            Stage::Resting(_, Rest::Local) => self.failures.local > 0,
            Stage::Resting(AfterRest::Send(_), Rest::Transient) | Stage::Parked(_) => elsewhere,
            Stage::Resting(..)
            | Stage::Open
            | Stage::Sealed
            | Stage::Checking
            | Stage::Packing
            | Stage::Ready(_)
            | Stage::Sending(_)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left => false,
        };
        if waits_for_the_operator {
            self.failures.refused = 0;
            self.failures.transient = 0;
            // What is told of it stays until it is over.
            self.failures.local = self.failures.local.min(1);
            self.wake = Some(now);
        }
    }

    /// What is packed and may be written beside its archive.
    fn packed_now(&self) -> Option<&Arc<Packed>> {
        match &self.stage {
            Stage::Ready(packed)
            | Stage::Sending(packed)
            | Stage::Parked(packed)
            | Stage::Resting(AfterRest::Send(packed), _) => Some(packed),
            Stage::Open
            | Stage::Sealed
            | Stage::Checking
            | Stage::Packing
            | Stage::Resting(..)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left => None,
        }
    }

    #[cfg(test)]
    pub(super) fn unfinished_since(&self) -> Option<Duration> {
        self.unfinished_since
    }
}
