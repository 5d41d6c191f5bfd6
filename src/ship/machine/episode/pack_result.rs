//! What packing an episode, or a look at its archive in the outbox, makes of it.

use std::{sync::Arc, time::Duration};

use super::{
    AfterRest, Episode, Rest, Stage,
    archive::{ArchiveState, Preparation, TriedNote},
};
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        Effect, Notice,
        context::Context,
        destination::backoff::{LONGEST_PAUSE, SETTLING},
        limits::TWICE,
        step_result::{Check, PackFailure, Packed},
    },
};

/// How long a marker may hold the beginning of a manifest before that counts as the episode's
/// fault. Promised in docs/recorders.md: "is waited for, for a minute".
const UNFINISHED_MANIFEST: Duration = Duration::from_secs(60);

/// How often an episode in conflict is compared with what was packed.
const CONFLICT_RECHECK: Duration = LONGEST_PAUSE.saturating_mul(TWICE);

impl Episode {
    /// Its turn with a packer has come: looks whether its archive still fits.
    pub(crate) fn check(&mut self, id: &EpisodeId, cx: &mut Context) {
        let preparation = std::mem::replace(&mut self.preparation, Preparation::Pack);
        // A pass from cron has no memory of a receiver that found the archive damaged.
        let rehash = preparation == Preparation::CheckBytes || cx.is_once();
        self.stage = Stage::Checking;
        let id = id.clone();
        cx.perform(Effect::Check { id, rehash });
    }

    /// Its turn with a packer has come: it is packed into the outbox, or where that has no room
    /// for it (or for any), into nothing; no further than `most_bytes`.
    pub(crate) fn pack(
        &mut self,
        id: &EpisodeId,
        most_bytes: Option<u64>,
        has_room: bool,
        cx: &mut Context,
    ) {
        let preparation = std::mem::replace(&mut self.preparation, Preparation::Pack);
        let is_on_demand = preparation == Preparation::PackOnDemand || !has_room;
        // What was known of the old archive is not true of the new one.
        self.archive = if is_on_demand {
            ArchiveState::OnDemand
        } else {
            ArchiveState::Scratch
        };
        self.conflict.forget_unwritten();
        self.tried = TriedNote::No;
        // A process before this one may have sent a part of what is packed on demand, and nothing
        // in the outbox tells.
        self.history.packed_anew(is_on_demand);
        self.stage = Stage::Packing;
        let (id, open_files) = (id.clone(), self.open_files);
        cx.perform(if is_on_demand {
            Effect::ComputeDigest {
                id,
                most_bytes,
                open_files,
            }
        } else {
            Effect::Pack {
                id,
                most_bytes,
                open_files,
            }
        });
    }

    /// [`Effect::Check`] came back.
    pub(crate) fn checked(&mut self, id: &EpisodeId, check: Check, cx: &mut Context) {
        match check {
            Check::Fits(packed, conflict) => {
                let packed = Arc::new(packed);
                if self.archive != ArchiveState::OnDemand {
                    self.archive = ArchiveState::Durable;
                }
                self.history.may_be_kept();
                // One that was heard of last may not be written beside it yet.
                match conflict.or_else(|| self.conflict.unwritten().cloned()) {
                    Some(refusal) => {
                        if self.conflict.is_news() {
                            self.log(Notice::Conflict(id.clone(), refusal), cx);
                        }
                        self.park(packed, cx);
                        self.persist(id, cx);
                    }
                    None => self.stage = Stage::Ready(packed),
                }
            }
            Check::Noted(packed, refusal) => {
                self.archive = ArchiveState::OnDemand;
                self.history.may_be_kept();
                if self.conflict.is_news() {
                    self.log(Notice::Conflict(id.clone(), refusal), cx);
                }
                self.park(Arc::new(packed), cx);
            }
            Check::Unusable(why) => {
                self.log(Notice::PackedAgain(id.clone(), why), cx);
                self.stage = Stage::Sealed;
            }
            Check::Displaced => {
                cx.settle_orphan(id, true);
                self.stage = Stage::Sealed;
            }
            Check::Unknown(why) => {
                self.preparation = Preparation::Check;
                self.stuck(id, AfterRest::Pack, why, cx);
            }
        }
    }

    /// [`Effect::Pack`] or [`Effect::ComputeDigest`] came back. Returns whether an archive
    /// was written.
    pub(crate) fn packed(
        &mut self,
        id: &EpisodeId,
        result: Result<Packed, PackFailure>,
        cx: &mut Context,
    ) -> bool {
        // Where there was no room, packing has not looked.
        if !matches!(
            result,
            Err(PackFailure::UnfinishedManifest(..) | PackFailure::Short(_) | PackFailure::Full(_))
        ) {
            self.unfinished_since = None;
        }
        if !matches!(
            result,
            Err(PackFailure::OpenForWriting { .. }
                | PackFailure::Short(_)
                | PackFailure::Full(_)
                | PackFailure::Large)
        ) {
            self.open_since = None;
            self.failures.open_file = 0;
        }
        match result {
            Ok(packed) => return self.packed_to(id, Arc::new(packed), cx),
            Err(PackFailure::Changed(what)) => self.settle(id, what, cx),
            Err(PackFailure::OpenForWriting { what, sealed_for }) => {
                self.found_open_file(id, what, sealed_for, cx);
            }
            Err(PackFailure::UnfinishedManifest(why, fingerprint)) => {
                let since = *self.unfinished_since.get_or_insert(cx.now());
                // It is looked at often, since it may be whole in a moment; said now and then is
                // enough.
                let tell = (self.failures.settling + 1).is_power_of_two();
                if cx.now().saturating_sub(since) < UNFINISHED_MANIFEST {
                    self.settle_quietly(id, tell.then_some(why), cx);
                } else {
                    self.own_fault(id, why, fingerprint, cx);
                }
            }
            Err(PackFailure::Fault(error, fingerprint)) => {
                self.own_fault(id, error, fingerprint, cx);
            }
            Err(PackFailure::Gone) => {
                self.vanished(id, cx);
                self.leave();
            }
            Err(PackFailure::Unreadable(why) | PackFailure::Outbox(why)) => {
                self.stuck(id, AfterRest::Pack, why, cx);
            }
            Err(PackFailure::Large) => {
                self.is_large = true;
                // It is put back, and has as little room then as it had now.
                if self.archive == ArchiveState::OnDemand {
                    self.preparation = Preparation::PackOnDemand;
                }
                self.stage = Stage::Sealed;
            }
            // No surprise: there was no room to reserve. It goes on at once, without a copy.
            Err(PackFailure::Short(why)) => {
                self.log(Notice::NoRoom(id.clone(), why), cx);
                self.pack_on_demand();
            }
            // `storage.rs` has noted that the outbox is full: no other episode runs into that.
            Err(PackFailure::Full(_)) => self.pack_on_demand(),
            Err(PackFailure::Cancelled) => self.stage = Stage::Sealed,
        }
        false
    }

    fn packed_to(&mut self, id: &EpisodeId, packed: Arc<Packed>, cx: &mut Context) -> bool {
        self.failures.local = 0;
        self.packed_at = Some(cx.now());
        self.log(Notice::Packed(id.clone(), packed.facts), cx);
        let held = self.delivered.as_ref();
        let held = held.filter(|held| held.content_sha256 == packed.facts.content_sha256);
        // Only its stamps have moved: the receiver holds this, and nothing is sent.
        if let Some(proof) = held.map(|held| held.proof.clone()) {
            self.retire(id, packed, proof, cx);
            return false;
        }
        self.failures.settling = 0;
        self.stage = Stage::Ready(packed);
        self.archive != ArchiveState::OnDemand
    }

    fn pack_on_demand(&mut self) {
        self.preparation = Preparation::PackOnDemand;
        self.stage = Stage::Sealed;
    }

    /// In conflict: waits for the operator, or for a change, which is looked for now and then.
    pub(super) fn park(&mut self, packed: Arc<Packed>, cx: &Context) {
        self.stage = Stage::Parked(packed);
        self.wake = Some(cx.now() + CONFLICT_RECHECK);
    }

    pub(super) fn settle(&mut self, id: &EpisodeId, what: String, cx: &mut Context) {
        self.settle_quietly(id, Some(what), cx);
    }

    fn settle_quietly(&mut self, id: &EpisodeId, what: Option<String>, cx: &mut Context) {
        let wait = self.failed(|failures| &mut failures.settling, SETTLING, cx);
        if let Some(what) = what {
            self.log(Notice::StillChanging(id.clone(), what, wait), cx);
        }
        self.rest(AfterRest::Pack, Rest::Local, cx.now() + wait, cx);
        // The marker may have been taken away, and no watch is on a sealed episode.
        self.hint(id, cx);
    }

    /// It was found out what an archive of its name is the last copy of, or it was tried in vain;
    /// why. Packed now, the new one would take the place of the old.
    pub(crate) fn orphan_settled(
        &mut self,
        id: &EpisodeId,
        unsettled: Option<String>,
        cx: &mut Context,
    ) {
        if let (Stage::Sealed, Some(cause)) = (&self.stage, unsettled) {
            self.preparation = Preparation::Check;
            let why = format!(
                "what was packed before under its name lies in outbox/, is nowhere else, and cannot be put aside in quarantine/: {cause}"
            );
            self.stuck_behind_last_copy(id, why, cx);
        }
    }
}
