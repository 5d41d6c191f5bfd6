//! The moves at the end of an episode's way, what became of each, and what is left where the
//! episode stood.
//!
//! An episode that can have no other name is copied, and its source removed where it stands. Where
//! a file of that is open when its turn comes, the rest stays until it is closed: it is no episode
//! any more, and is shown and gone on with like one that waits for its move.
//!
//! ```text
//!  Retiring, Quarantining ── Moved::Leaving ──┐
//!  (new) ── found being removed ──────────────┴─▶ Finishing ── open, fails ─▶ Resting ─▶ Finishing
//!                                                     ├─ gone ─────────────────────▶ forgotten
//!                                                     └─ it stays as an open folder ▶ forgotten
//! ```

use std::sync::Arc;

use serde_json::Value;

use super::{
    AfterRest, Episode, Rest, Stage,
    archive::{ArchiveState, Delivered},
};
use crate::{
    model::episode::{EpisodeId, Fingerprint},
    ship::machine::{
        Effect, Notice,
        context::Context,
        destination::verdict::Proof,
        step_result::{Moved, Packed, Reason},
    },
};

impl Episode {
    pub(super) fn retire(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        proof: Proof,
        cx: &mut Context,
    ) {
        if !self.is_persisting {
            cx.perform_on_disk(Effect::Retire {
                id: id.clone(),
                packed: packed.clone(),
                proof: proof.clone(),
            });
        }
        self.stage = Stage::Retiring(packed, proof);
    }

    pub(crate) fn retired(&mut self, id: &EpisodeId, moved: Moved, cx: &mut Context) {
        let Stage::Retiring(packed, proof) = std::mem::replace(&mut self.stage, Stage::Sealed)
        else {
            return;
        };
        match moved {
            Moved::To(ref path) | Moved::Leaving(ref path) => {
                let notice =
                    Notice::Retired(id.clone(), packed.facts, proof.status(), path.clone());
                self.log(notice, cx);
                self.left_its_place(id, &moved, cx);
            }
            Moved::Gone => {
                self.discard_scratch(id, cx);
                self.log(Notice::DeliveredAndGone(id.clone()), cx);
                self.leave();
            }
            Moved::Open { what, .. } => {
                self.found_open_file_before_move(id, AfterRest::Retire(packed, proof), what, cx);
            }
            Moved::Changed => {
                self.waits_anew_for_open_files();
                let content_sha256 = packed.facts.content_sha256;
                // Whatever stands there now: what was delivered needs no archive any more, and has
                // none.
                if self.archive == ArchiveState::Durable {
                    self.archive = ArchiveState::Scratch;
                }
                let before = self.delivered.take();
                let before = before.filter(|held| held.content_sha256 == content_sha256);
                let again = before.map_or(0, |held| held.again + 1);
                self.delivered = Some(Box::new(Delivered {
                    content_sha256,
                    proof,
                    again,
                }));
                // The same verdict on the same content: no recorder does that.
                if again > 0 {
                    cx.log_moving_stamps(id);
                }
                self.settle(id, "it was changed after it was packed".to_owned(), cx);
            }
            Moved::Failed(why) | Moved::NoRoom { why, .. } => {
                self.stuck(id, AfterRest::Retire(packed, proof), why, cx);
            }
            Moved::CannotHold(why) => {
                self.stuck_for_long(id, AfterRest::Retire(packed, proof), why, cx);
            }
        }
    }

    pub(super) fn own_fault(
        &mut self,
        id: &EpisodeId,
        error: String,
        fingerprint: Fingerprint,
        cx: &mut Context,
    ) {
        let reason = Reason {
            status: None,
            error,
            body: Value::Null,
            verdict: "fatal",
            fingerprint,
            content_sha256: None,
        };
        self.quarantine(id, Box::new(reason), cx);
    }

    pub(super) fn quarantine(&mut self, id: &EpisodeId, reason: Box<Reason>, cx: &mut Context) {
        if !self.is_persisting {
            cx.perform_on_disk(Effect::Quarantine {
                id: id.clone(),
                reason: (*reason).clone(),
            });
        }
        self.stage = Stage::Quarantining(reason);
    }

    pub(crate) fn quarantined(&mut self, id: &EpisodeId, moved: Moved, cx: &mut Context) {
        let Stage::Quarantining(reason) = std::mem::replace(&mut self.stage, Stage::Sealed) else {
            return;
        };
        match moved {
            Moved::To(ref path) | Moved::Leaving(ref path) => {
                let notice = Notice::Quarantined(id.clone(), *reason, path.clone());
                self.log(notice, cx);
                self.left_its_place(id, &moved, cx);
            }
            Moved::Gone => {
                self.discard_scratch(id, cx);
                self.vanished(id, cx);
                self.leave();
            }
            Moved::Open { what, .. } => {
                self.found_open_file_before_move(id, AfterRest::Quarantine(reason), what, cx);
            }
            Moved::Changed => {
                self.waits_anew_for_open_files();
                self.settle(id, "it is not what was judged any more".to_owned(), cx);
            }
            // What is removed for room makes none in quarantine/.
            Moved::Failed(why) | Moved::NoRoom { why, .. } => {
                self.stuck(id, AfterRest::Quarantine(reason), why, cx);
            }
            Moved::CannotHold(why) => {
                self.stuck_for_long(id, AfterRest::Quarantine(reason), why, cx);
            }
        }
    }

    fn left_its_place(&mut self, id: &EpisodeId, moved: &Moved, cx: &mut Context) {
        if matches!(moved, Moved::Leaving(_)) {
            self.finish(id, cx);
        } else {
            self.leave();
        }
    }

    /// What is left of it in `episodes/` goes next.
    pub(super) fn finish(&mut self, id: &EpisodeId, cx: &mut Context) {
        self.unwatch(id, cx);
        cx.perform_on_disk(Effect::Finish(id.clone()));
        self.stage = Stage::Finishing;
    }

    pub(crate) fn finished(&mut self, id: &EpisodeId, moved: Moved, cx: &mut Context) {
        if !matches!(self.stage, Stage::Finishing) {
            return;
        }
        match moved {
            // Where it stays, it is an open folder from here on.
            Moved::Gone | Moved::To(_) | Moved::Leaving(_) | Moved::Changed => self.leave(),
            Moved::Open { what, .. } => {
                let (pause, is_told) = self.found_open_again(cx);
                if is_told {
                    let id = id.clone();
                    self.log(Notice::LeftBehind { id, what, pause }, cx);
                }
                self.rest(AfterRest::Finish, Rest::Local, cx.now() + pause, cx);
            }
            Moved::Failed(why) | Moved::CannotHold(why) | Moved::NoRoom { why, .. } => {
                self.stuck(id, AfterRest::Finish, why, cx);
            }
        }
    }
}
