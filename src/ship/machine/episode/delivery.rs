//! An episode is sent, and what the end of the attempt makes of it.

use std::{sync::Arc, time::Duration};

use super::{
    AfterRest, Episode, Rest, Stage,
    archive::{ArchiveState, Conflict, Preparation, TriedNote},
};
use crate::{
    model::episode::{EpisodeId, FolderLook},
    ship::{
        machine::{
            Effect, Notice,
            context::Context,
            destination::{
                backoff::{MOVING, REFUSED, TRANSIENT},
                verdict::{Proof, Refusal},
            },
            step_result::{Packed, Reason},
        },
        outcome::Stale,
    },
};

/// What the destination makes of an attempt, for the episode.
#[derive(Debug)]
pub(crate) enum Course {
    /// The receiver holds it.
    Delivered(Proof),
    /// The receiver holds something else under its name.
    Conflict(Refusal),
    /// The receiver speaks against it: it leaves for `quarantine/`.
    Quarantine(Refusal),
    /// Nothing of it can be sent as it is.
    PackAgain(String),
    /// It is sent again as soon as there is a slot.
    SendAgain,
    /// The destination is held: it paces it, and the episode stays in the queue, so that it can be
    /// a probe again. One that is to rest is none until then, though the hold may end before.
    AwaitDestination { rest: AwaitRest, why: String },
    /// It is refused, and others are not, for all that is known.
    RetryAlone(Refusal),
    /// What is transient, or what the receiver found damaged; no sooner than was asked for.
    Retry {
        refusal: Refusal,
        asked: Option<Duration>,
        /// The archive's bytes are read before they are sent again.
        is_damaged: bool,
    },
    /// The line drops, and yet it works: on with it, before the next drop.
    GoOn(Refusal),
}

/// Whether an episode rests while it waits for a destination that is held.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AwaitRest {
    No,
    For(Duration),
    /// As long as after any failure that is transient; its archive's bytes are read after that.
    Damaged,
}

impl Episode {
    /// Its turn to be sent has come.
    pub(crate) fn send(&mut self, id: &EpisodeId, deliveries: u64, cx: &mut Context) {
        let Stage::Ready(packed) = &self.stage else {
            return;
        };
        let packed = Arc::clone(packed);
        let resume = self.history.begins(deliveries);
        let look = self.packed_at != Some(cx.now());
        self.stage = Stage::Sending(packed.clone());
        self.persist_soon(cx);
        cx.perform(Effect::Send {
            id: id.clone(),
            packed,
            resume,
            look,
        });
    }

    /// The upload window has closed over it.
    pub(crate) fn stand_still(&mut self) {
        if self.is_sending() {
            self.history.stand_still();
        }
    }

    /// Its attempt has ended; what was sent.
    pub(crate) fn sending_ended(&mut self) -> Option<Arc<Packed>> {
        self.wake = None;
        match std::mem::replace(&mut self.stage, Stage::Sealed) {
            Stage::Sending(packed) => Some(packed),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// It waited for this attempt, and meanwhile its marker was taken away, or something in it was
    /// written. That says nothing of the destination: nothing was sent.
    pub(crate) fn not_as_packed(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        stale: Stale,
        cx: &mut Context,
    ) {
        match stale {
            Stale::Unsealed(FolderLook::Unreadable(why))
                if self.archive != ArchiveState::Untrusted =>
            {
                self.stuck(id, AfterRest::Send(packed), why, cx);
                self.persist(id, cx);
            }
            Stale::Unsealed(look) => {
                self.check_again();
                self.found(id, look, cx);
            }
            Stale::Changed => {
                self.preparation = self
                    .preparation
                    .of_what_there_is(self.archive, self.is_persisting);
                self.settle(id, "it was changed after it was packed".to_owned(), cx);
            }
        }
    }

    /// Whether the attempt that has ended was a turn of its own; then it gives up its place to
    /// those that had none.
    pub(crate) fn had_its_turn(&mut self, cx: &Context) {
        if !self.history.had_its_turn() {
            return;
        }
        // A pass from cron remembers nothing else; a daemon writes it down once.
        if cx.is_once() || self.tried == TriedNote::No {
            self.tried = TriedNote::Due;
        }
        self.give_up_turn(cx);
    }

    /// Bytes that were read after a failed fsync may not be those that were packed: only a digest
    /// proves them.
    pub(crate) fn is_untrusted(&self) -> bool {
        self.archive == ArchiveState::Untrusted
    }

    /// Does what the end of its attempt comes to.
    pub(crate) fn follow(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        course: Course,
        cx: &mut Context,
    ) {
        match course {
            Course::Delivered(proof) => {
                self.failures = Default::default();
                self.history.delivered();
                let notice = Notice::Delivered(id.clone(), packed.facts, proof.status());
                self.log(notice, cx);
                self.retire(id, packed, proof, cx);
            }
            Course::Conflict(refusal) => {
                self.log(Notice::Conflict(id.clone(), refusal.clone()), cx);
                self.conflict = Conflict::Unwritten(Box::new(refusal));
                self.park(packed, cx);
                self.persist(id, cx);
            }
            Course::Quarantine(Refusal {
                status,
                detail,
                body,
            }) => {
                let reason = Reason {
                    status,
                    error: format!("the receiver rejects it: {detail}"),
                    body,
                    verdict: "fatal",
                    fingerprint: packed.fingerprint,
                    content_sha256: Some(packed.facts.content_sha256),
                };
                self.quarantine(id, Box::new(reason), cx);
            }
            Course::PackAgain(why) => self.stuck(id, AfterRest::Pack, why, cx),
            Course::SendAgain => self.send_in_turn(id, packed, cx),
            Course::AwaitDestination { rest, why } => {
                self.why = Some(why.into());
                match rest {
                    AwaitRest::No => self.send_in_turn(id, packed, cx),
                    AwaitRest::For(rest) => {
                        self.send_later(id, packed, Rest::Transient, rest, cx);
                    }
                    AwaitRest::Damaged => {
                        self.preparation = Preparation::CheckBytes;
                        let wait = self.failed(|failures| &mut failures.transient, TRANSIENT, cx);
                        self.send_later(id, packed, Rest::Transient, wait, cx);
                    }
                }
            }
            Course::RetryAlone(refusal) => {
                let wait = self.failed(|failures| &mut failures.refused, REFUSED, cx);
                self.log(Notice::RefusedAlone(id.clone(), refusal, wait), cx);
                self.send_later(id, packed, Rest::Refused, wait, cx);
            }
            Course::Retry {
                refusal,
                asked,
                is_damaged,
            } => {
                if is_damaged {
                    self.preparation = Preparation::CheckBytes;
                }
                let wait = self.failed(|failures| &mut failures.transient, TRANSIENT, cx);
                let wait = wait.max(asked.unwrap_or_default());
                self.log(Notice::Retrying(id.clone(), refusal, wait), cx);
                self.send_later(id, packed, Rest::Transient, wait, cx);
            }
            Course::GoOn(refusal) => {
                let wait = cx.wait(MOVING, 1);
                self.log(Notice::Retrying(id.clone(), refusal, wait), cx);
                self.send_later(id, packed, Rest::Transient, wait, cx);
            }
        }
    }

    fn send_in_turn(&mut self, id: &EpisodeId, packed: Arc<Packed>, cx: &mut Context) {
        self.stage = Stage::Ready(packed);
        self.persist(id, cx);
    }

    fn send_later(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        why: Rest,
        wait: Duration,
        cx: &mut Context,
    ) {
        self.rest(AfterRest::Send(packed), why, cx.now() + wait, cx);
        self.persist(id, cx);
    }

    /// What it was rejected for counts by now, if it is rejected again.
    pub(crate) fn send_again(&mut self) {
        if let Stage::Resting(AfterRest::Send(packed), Rest::Refused) = &self.stage {
            let packed = Arc::clone(packed);
            self.wake = None;
            self.stage = Stage::Ready(packed);
        }
    }
}
