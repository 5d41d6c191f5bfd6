//! What each step's result makes of its episode.

use std::{sync::Arc, time::Duration};

use super::{
    Effect, Notice,
    backoff::{LOCAL, SETTLING, Schedule, UNHELD},
    queue::Machine,
    state::{
        AfterRest, Check, Delivered, Episode, Looking, Moved, OrphanEnd, PackFailure, Packed, Rest,
        State, TriedNote,
    },
};
use crate::model::episode::EpisodeId;

/// How long a marker may hold the beginning of a manifest before that counts as the episode's
/// fault.
const UNFINISHED_MANIFEST: Duration = Duration::from_secs(60);

/// How often an episode in conflict is compared with what was packed.
const CONFLICT_RECHECK: Duration = Duration::from_secs(600);

/// Which of an episode's failures count.
pub(super) type Count = fn(&mut Episode) -> &mut u32;

impl Machine {
    pub(super) fn checked(&mut self, id: &EpisodeId, check: Check, now: Duration) {
        match check {
            Check::Fits(packed, conflict) => {
                let packed = Arc::new(packed);
                let Some(episode) = self.episodes.get_mut(id) else {
                    return;
                };
                episode.durable = !episode.without_copy;
                episode.may_be_kept = true;
                // One that was heard of last may not be written beside it yet.
                match conflict.or_else(|| episode.conflict.as_deref().cloned()) {
                    Some(refusal) => {
                        if !std::mem::replace(&mut episode.conflict_told, true) {
                            self.tell(Notice::Conflict(id.clone(), refusal));
                        }
                        self.park(id, packed, now);
                        self.keep(id);
                    }
                    None => self.enter(id, State::Ready(packed)),
                }
            }
            Check::Noted(packed, refusal) => {
                let Some(episode) = self.episodes.get_mut(id) else {
                    return;
                };
                episode.durable = false;
                episode.without_copy = true;
                episode.may_be_kept = true;
                if !std::mem::replace(&mut episode.conflict_told, true) {
                    self.tell(Notice::Conflict(id.clone(), refusal));
                }
                self.park(id, Arc::new(packed), now);
            }
            Check::Unusable(why) => {
                self.tell(Notice::PackedAgain(id.clone(), why));
                self.enter(id, State::Sealed);
            }
            Check::Displaced => {
                self.settle_archive(id.clone(), true);
                self.enter(id, State::Sealed);
            }
            Check::Unknown(why) => {
                let Some(episode) = self.episodes.get_mut(id) else {
                    return;
                };
                episode.archived = true;
                self.stuck(id, AfterRest::Pack, why, now);
            }
        }
    }

    pub(super) fn packed(
        &mut self,
        id: &EpisodeId,
        result: Result<Packed, PackFailure>,
        now: Duration,
    ) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        // Where there was no room, packing has not looked.
        if !matches!(
            result,
            Err(PackFailure::UnfinishedManifest(..) | PackFailure::Short(_) | PackFailure::Full(_))
        ) {
            episode.unfinished_since = None;
        }
        if !matches!(
            result,
            Err(PackFailure::OpenForWriting { .. }
                | PackFailure::Short(_)
                | PackFailure::Full(_)
                | PackFailure::Large)
        ) {
            episode.open_since = None;
            episode.failures.open_file = 0;
        }
        match result {
            Ok(packed) => {
                let packed = Arc::new(packed);
                episode.failures.local = 0;
                episode.packed_at = Some(now);
                let held = episode.delivered.as_ref();
                let held = held.filter(|held| held.content_sha256 == packed.facts.content_sha256);
                // Only its stamps have moved: the receiver holds this, and nothing is sent.
                if let Some(proof) = held.map(|held| held.proof.clone()) {
                    self.tell(Notice::Packed(id.clone(), packed.facts));
                    return self.retire(id, packed, proof);
                }
                episode.failures.settling = 0;
                if !episode.without_copy {
                    self.outbox_works();
                }
                self.tell(Notice::Packed(id.clone(), packed.facts));
                self.enter(id, State::Ready(packed));
            }
            Err(PackFailure::Changed(what)) => self.settle(id, what, now),
            Err(PackFailure::OpenForWriting { what, sealed_for }) => {
                self.found_open_file(id, what, sealed_for, now);
            }
            Err(PackFailure::UnfinishedManifest(why, fingerprint)) => {
                let since = *episode.unfinished_since.get_or_insert(now);
                // It is looked at often, since it may be whole in a moment; said now and then is
                // enough.
                let tell = (episode.failures.settling + 1).is_power_of_two();
                if now.saturating_sub(since) < UNFINISHED_MANIFEST {
                    self.settle_quietly(id, tell.then_some(why), now);
                } else {
                    self.own_fault(id, why, fingerprint);
                }
            }
            Err(PackFailure::Fault(error, fingerprint)) => self.own_fault(id, error, fingerprint),
            Err(PackFailure::Gone) => {
                self.vanished(id);
                self.forget_unless_back(id);
            }
            Err(PackFailure::Unreadable(why)) => self.stuck(id, AfterRest::Pack, why, now),
            Err(PackFailure::Large) => {
                episode.large = true;
                // It is put back, and has as little room then as it had now.
                episode.short = episode.without_copy;
                self.enter(id, State::Sealed);
            }
            Err(PackFailure::Short(why)) => self.no_room(id, why),
            Err(PackFailure::Full(why)) => self.outbox_full(id, why, now),
            Err(PackFailure::Outbox(why)) => self.outbox_at_fault(id, why, now),
            Err(PackFailure::Cancelled) => self.enter(id, State::Sealed),
        }
    }

    /// Makes the archive durable, and remembers a conflict beside it.
    pub(super) fn keep(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        let packed = match &episode.state {
            State::Ready(packed)
            | State::Sending(packed)
            | State::Parked(packed)
            | State::Resting(AfterRest::Send(packed), _) => packed.clone(),
            State::Open
            | State::Sealed
            | State::Checking
            | State::Packing
            | State::Resting(..)
            | State::Retiring(..)
            | State::Quarantining(_)
            | State::Finishing => return,
        };
        // What lies nowhere has no sidecar that could say that it was tried.
        let to_note = episode.noted == TriedNote::Due && !episode.without_copy;
        let nothing_new = episode.durable || episode.without_copy;
        if episode.keeping || (nothing_new && episode.conflict.is_none() && !to_note) {
            return;
        }
        episode.keeping = true;
        // Beside an archive it is written once, or the archive is not believed any more. Where
        // there is none, it is tried again.
        let conflict = match episode.without_copy {
            true => episode.conflict.as_deref().cloned(),
            false => episode.conflict.take().map(|refusal| *refusal),
        };
        let tried = episode.noted != TriedNote::No;
        if tried {
            episode.noted = TriedNote::Yes;
        }
        self.on_disk(Effect::Keep {
            id: id.clone(),
            packed,
            conflict,
            tried,
        });
    }

    pub(super) fn kept(&mut self, id: &EpisodeId, result: Result<(), String>, now: Duration) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        episode.keeping = false;
        let without_copy = episode.without_copy;
        episode.durable = result.is_ok() && !without_copy;
        if without_copy && result.is_ok() {
            episode.conflict = None;
            episode.failures.local = 0;
        }
        let state = std::mem::replace(&mut episode.state, State::Sealed);
        match (state, result) {
            // It stays in conflict, and the look at it that comes soon notes that again.
            (
                state @ (State::Ready(_)
                | State::Parked(_)
                | State::Resting(..)
                | State::Sending(_)),
                Err(_),
            ) if without_copy => {
                let is_parked = matches!(state, State::Parked(_));
                episode.state = state;
                if is_parked {
                    let wait = self.failed(id, |episode| &mut episode.failures.local, LOCAL);
                    self.sleep_until(id, Some(now + wait));
                }
            }
            // It waited for this before it could be moved, or packed again.
            (State::Retiring(packed, proof), _) => self.retire(id, packed, proof),
            (State::Quarantining(reason), _) => self.quarantine(id, reason),
            (state @ State::Sealed, result) => {
                episode.archived = result.is_ok();
                self.enter(id, state);
            }
            (state @ State::Sending(_), Err(why)) => {
                // A failed fsync is not tried again on the same file, and nothing read from it is
                // believed.
                episode.spoiled = true;
                episode.state = state;
                self.tell(Notice::PackedAgain(id.clone(), why));
                self.now_do(Effect::Cancel(id.clone()));
            }
            (
                State::Ready(_) | State::Parked(_) | State::Resting(AfterRest::Send(_), _),
                Err(why),
            ) => {
                self.stuck(id, AfterRest::Pack, why, now);
            }
            (state, _) => {
                self.enter(id, state);
                // A conflict that was heard meanwhile is remembered too.
                self.keep(id);
            }
        }
    }

    pub(super) fn send_later(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        why: Rest,
        until: Duration,
    ) {
        self.rest(id, AfterRest::Send(packed), why, until);
        self.keep(id);
    }

    /// For a person, or for a change, which is looked for now and then.
    pub(super) fn park(&mut self, id: &EpisodeId, packed: Arc<Packed>, now: Duration) {
        self.enter(id, State::Parked(packed));
        self.sleep_until(id, Some(now + CONFLICT_RECHECK));
    }

    pub(super) fn retire(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        proof: super::verdict::Proof,
    ) {
        let keeping = self.episodes.get(id).is_some_and(|episode| episode.keeping);
        if !keeping {
            let step = Effect::Retire {
                id: id.clone(),
                packed: packed.clone(),
                proof: proof.clone(),
            };
            self.on_disk(step);
        }
        self.enter(id, State::Retiring(packed, proof));
    }

    pub(super) fn retired(&mut self, id: &EpisodeId, moved: Moved, now: Duration) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        let State::Retiring(packed, proof) = std::mem::replace(&mut episode.state, State::Sealed)
        else {
            return;
        };
        match moved {
            Moved::To(ref path) | Moved::Leaving(ref path) => {
                self.tally.shipped += 1;
                self.something_to_remove();
                self.look_back_later(id, path.clone(), now);
                self.tell(Notice::Retired(
                    id.clone(),
                    packed.facts,
                    proof.status(),
                    path.clone(),
                ));
                if matches!(moved, Moved::Leaving(_)) {
                    self.finish(id);
                } else {
                    self.forget_unless_back(id);
                }
            }
            Moved::Gone => {
                self.discard_scratch(id);
                self.tally.shipped += 1;
                self.tell(Notice::DeliveredAndGone(id.clone()));
                self.forget_unless_back(id);
            }
            Moved::Open { what, .. } => {
                self.found_open_file_before_move(id, AfterRest::Retire(packed, proof), what, now);
            }
            Moved::Changed => {
                episode.waits_anew_for_open_files();
                let content_sha256 = packed.facts.content_sha256;
                // Whatever stands there now: what was delivered needs no archive any more, and has
                // none.
                episode.durable = false;
                let before = episode
                    .delivered
                    .take()
                    .filter(|held| held.content_sha256 == content_sha256);
                let again = before.map_or(0, |held| held.again + 1);
                episode.delivered = Some(Box::new(Delivered {
                    content_sha256,
                    proof,
                    again,
                }));
                // The same verdict on the same content: no recorder does that. Once is enough to
                // say so.
                if again > 0 && self.stamps_move.is_none() {
                    self.stamps_move = Some(id.clone());
                    self.tell(Notice::StampsMove(id.clone()));
                }
                self.settle(id, "it was changed after it was packed".to_owned(), now);
            }
            Moved::Failed(why) => self.stuck(id, AfterRest::Retire(packed, proof), why, now),
            Moved::CannotHold(why) => {
                self.stuck_for_long(id, AfterRest::Retire(packed, proof), why, now);
            }
            Moved::NoRoom { why, need_bytes } => {
                self.stuck(id, AfterRest::Retire(packed, proof), why, now);
                self.feel_need(id, need_bytes);
            }
        }
    }

    /// What has no final name yet is nothing that the next start would look at. What waited for a
    /// file to be closed waits no more.
    pub(super) fn discard_scratch(&mut self, id: &EpisodeId) {
        let episode = self.episodes.get(id);
        if episode.is_some_and(|episode| !episode.durable || episode.failures.open_file > 0) {
            self.now_do(Effect::Discard(id.clone()));
        }
    }

    /// It was taken away before it was shipped: that counts as no failure.
    pub(super) fn vanished(&mut self, id: &EpisodeId) {
        self.tally.scanned = self.tally.scanned.saturating_sub(1);
        self.tell(Notice::Vanished(id.clone()));
    }

    pub(super) fn orphan_settled(&mut self, id: &EpisodeId, end: OrphanEnd, now: Duration) {
        self.orphans.remove(id);
        let episode = self.episodes.get_mut(id);
        let waits = episode.filter(|episode| matches!(episode.state, State::Sealed));
        match (end, waits) {
            (OrphanEnd::Settled, _) => {}
            (OrphanEnd::Unsettled(_), None) => self.tally.unseen += 1,
            // Packed now, the new one would take the place of the old.
            (OrphanEnd::Unsettled(cause), Some(episode)) => {
                episode.archived = true;
                let why = format!(
                    "what was packed before under its name lies in outbox/, is nowhere else, and cannot be put aside in quarantine/: {cause}"
                );
                return self.stuck(id, AfterRest::Pack, why, now);
            }
            (OrphanEnd::LastCopy, _) => {
                self.tally.fatal += 1;
                self.tally.last_copies += 1;
            }
        }
        if self
            .episodes
            .get(id)
            .is_some_and(|episode| matches!(episode.state, State::Sealed))
        {
            self.enter(id, State::Sealed);
        }
    }

    /// A recorder may use the name again at once. A look that is under way may have seen either of
    /// the two, and one that came back before we knew of the move was not heard: it is asked again.
    pub(super) fn forget_unless_back(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        let (looking, stirred) = (episode.looking != Looking::No, episode.stirred);
        self.forget(id);
        if looking {
            let mut fresh = Episode::new();
            fresh.looking = Looking::Stale;
            self.episodes.insert(id.clone(), fresh);
        } else if stirred {
            self.hinted(id.clone());
        }
    }

    /// A rest is over.
    pub(super) fn rested(&mut self, id: &EpisodeId) {
        self.gives_up_its_turn(id);
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        match std::mem::replace(&mut episode.state, State::Sealed) {
            // Has it changed? The check compares fingerprints, and remembers the conflict where it
            // has not.
            State::Parked(_) => self.check_again(id),
            State::Resting(AfterRest::Send(_), _) if episode.suspect => self.check_again(id),
            State::Resting(AfterRest::Send(packed), _) => self.enter(id, State::Ready(packed)),
            State::Resting(AfterRest::Retire(packed, proof), _) => self.retire(id, packed, proof),
            State::Resting(AfterRest::Quarantine(reason), _) => self.quarantine(id, reason),
            State::Resting(AfterRest::Finish, _) => self.finish(id),
            State::Resting(AfterRest::Pack, _) => self.enter(id, State::Sealed),
            state @ (State::Open
            | State::Sealed
            | State::Checking
            | State::Packing
            | State::Ready(_)
            | State::Sending(_)
            | State::Retiring(..)
            | State::Quarantining(_)
            | State::Finishing) => self.enter(id, state),
        }
    }

    /// Its archive is looked at before it goes on; where it has none under its final name, it is
    /// packed again.
    pub(super) fn check_again(&mut self, id: &EpisodeId) {
        if let Some(episode) = self.episodes.get_mut(id) {
            episode.archived |= episode.has_archive();
        }
        self.enter(id, State::Sealed);
    }

    pub(super) fn settle(&mut self, id: &EpisodeId, what: String, now: Duration) {
        self.settle_quietly(id, Some(what), now);
    }

    fn settle_quietly(&mut self, id: &EpisodeId, what: Option<String>, now: Duration) {
        let wait = self.failed(id, |episode| &mut episode.failures.settling, SETTLING);
        if let Some(what) = what {
            self.tell(Notice::StillChanging(id.clone(), what, wait));
        }
        self.rest(id, AfterRest::Pack, Rest::Local, now + wait);
        // The marker may have been taken away, and no watch is on a sealed episode.
        self.hinted(id.clone());
    }

    pub(super) fn stuck(&mut self, id: &EpisodeId, next: AfterRest, why: String, now: Duration) {
        self.stuck_by(LOCAL, id, next, why, now);
    }

    /// Each try reads and writes the episode up to what cannot be held, and only a person changes
    /// that.
    pub(super) fn stuck_for_long(
        &mut self,
        id: &EpisodeId,
        next: AfterRest,
        why: String,
        now: Duration,
    ) {
        self.stuck_by(UNHELD, id, next, why, now);
    }

    fn stuck_by(
        &mut self,
        schedule: Schedule,
        id: &EpisodeId,
        next: AfterRest,
        why: String,
        now: Duration,
    ) {
        let wait = self.failed(id, |episode| &mut episode.failures.local, schedule);
        self.tell(Notice::Stuck(id.clone(), why, wait));
        self.rest(id, next, Rest::Local, now + wait);
    }

    /// Counts one more failure of a kind; how long to wait for it.
    pub(super) fn failed(&mut self, id: &EpisodeId, count: Count, schedule: Schedule) -> Duration {
        let failures = self.episodes.get_mut(id).map_or(1, |episode| {
            let count = count(episode);
            *count = count.saturating_add(1);
            *count
        });
        self.jitter.wait(schedule, failures)
    }
}
