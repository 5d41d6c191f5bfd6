//! An archive becomes durable under its final name while its upload runs, and what is to be
//! remembered of it is written beside it.

use super::{
    AfterRest, Episode, Stage,
    archive::{ArchiveState, Preparation, TriedNote},
};
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        Effect, Notice, context::Context, destination::backoff::LOCAL, limits::PERSIST_AFTER,
    },
};

impl Episode {
    /// Makes the archive durable, and remembers a conflict beside it.
    pub(super) fn persist(&mut self, id: &EpisodeId, cx: &mut Context) {
        let Some(packed) = self.packed_now().cloned() else {
            return;
        };
        if self.archive == ArchiveState::Untrusted {
            return;
        }
        let is_on_demand = self.archive == ArchiveState::OnDemand;
        // What is not staged has no sidecar that could say that it was tried.
        let to_note = self.tried == TriedNote::Due && !is_on_demand;
        let nothing_new = is_on_demand || self.archive == ArchiveState::Durable;
        let has_news = self.conflict.unwritten().is_some() || to_note;
        if self.is_persisting || (nothing_new && !has_news) {
            return;
        }
        self.is_persisting = true;
        let conflict = self.conflict.unwritten().cloned();
        // Beside an archive it is written once, or the archive is not believed any more. Where
        // there is none, it is tried again.
        if !is_on_demand {
            self.conflict.forget_unwritten();
        }
        let tried = self.tried != TriedNote::No;
        if tried {
            self.tried = TriedNote::Written;
        }
        cx.perform_on_disk(Effect::Persist {
            id: id.clone(),
            packed,
            conflict,
            tried,
        });
    }

    /// Makes it durable in a moment, unless it was sent by then.
    pub(super) fn persist_soon(&mut self, cx: &Context) {
        if !self.archive.can_be_checked() && !self.is_persisting {
            self.wake = Some(cx.now() + PERSIST_AFTER);
        }
    }

    /// It hangs, and has had its turn; its sidecar says so from now on: where this process is
    /// killed meanwhile, again and again, each next one begins with others.
    pub(crate) fn note_that_it_hangs(&mut self, id: &EpisodeId, cx: &mut Context) {
        if self.tried == TriedNote::No {
            self.tried = TriedNote::Due;
            self.persist(id, cx);
        }
    }

    /// [`Effect::Persist`] came back.
    pub(crate) fn persisted(
        &mut self,
        id: &EpisodeId,
        result: Result<(), String>,
        cx: &mut Context,
    ) {
        self.is_persisting = false;
        let is_on_demand = self.archive == ArchiveState::OnDemand;
        if is_on_demand && result.is_ok() {
            self.conflict.forget_unwritten();
            self.failures.local = 0;
        } else if !is_on_demand {
            self.archive = match &result {
                Ok(()) => ArchiveState::Durable,
                Err(_) => ArchiveState::Scratch,
            };
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Sealed);
        match (stage, result) {
            // It stays in conflict, and the check that its new wake brings notes that again.
            (
                stage @ (Stage::Ready(_)
                | Stage::Parked(_)
                | Stage::Resting(..)
                | Stage::Sending(_)),
                Err(_),
            ) if is_on_demand => {
                let is_parked = matches!(stage, Stage::Parked(_));
                self.stage = stage;
                if is_parked {
                    let wait = self.failed(|failures| &mut failures.local, LOCAL, cx);
                    self.wake = Some(cx.now() + wait);
                }
            }
            // It waited for this before it could be moved, or packed again.
            (Stage::Retiring(packed, proof), _) => self.retire(id, packed, proof, cx),
            (Stage::Quarantining(reason), _) => self.quarantine(id, reason, cx),
            (Stage::Sealed, result) => {
                self.preparation = match (result, self.preparation) {
                    (Err(_), _) => Preparation::Pack,
                    (Ok(()), Preparation::CheckBytes) => Preparation::CheckBytes,
                    (Ok(()), _) => Preparation::Check,
                };
            }
            (stage @ Stage::Sending(_), Err(why)) => {
                self.archive = ArchiveState::Untrusted;
                self.stage = stage;
                self.log(Notice::PackedAgain(id.clone(), why), cx);
                cx.perform(Effect::Cancel(id.clone()));
            }
            (
                Stage::Ready(_) | Stage::Parked(_) | Stage::Resting(AfterRest::Send(_), _),
                Err(why),
            ) => {
                self.preparation = Preparation::Pack;
                self.stuck(id, AfterRest::Pack, why, cx);
            }
            (stage, _) => {
                self.stage = stage;
                // A conflict that was heard meanwhile is remembered too.
                self.persist(id, cx);
            }
        }
    }
}
