//! What a look at an episode's folder makes of it.
//!
//! A hint asks for a look; looks at one episode coalesce. What a scan says of an episode is older
//! than what its own look says, and than what was done to it meanwhile.

use super::{AfterRest, Episode, Looking, Preparation, Stage, archive::ArchiveState};
use crate::{
    model::episode::{EpisodeId, Stamp},
    ship::machine::{
        Effect, Notice,
        context::Context,
        step_result::{FolderLook, OpenFilePolicy},
    },
};

impl Episode {
    /// Something stirred at it.
    pub(crate) fn hint(&mut self, id: &EpisodeId, cx: &mut Context) {
        if cx.is_stopping() || cx.is_once() {
            return;
        }
        self.observation.has_stirred |= matches!(
            self.stage,
            Stage::Retiring(..) | Stage::Quarantining(_) | Stage::Finishing
        );
        match self.observation.looking {
            Looking::No => {
                self.observation.looking = Looking::Yes;
                cx.perform(Effect::Look(id.clone()));
            }
            Looking::Yes | Looking::YesAndAgain => self.observation.looking = Looking::YesAndAgain,
            Looking::Stale => {}
        }
    }

    pub(crate) fn distrust_watch(&mut self) {
        self.observation.distrust_watch();
    }

    /// A scan's word on it. Its own look, where one is under way, is newer and counts instead.
    pub(crate) fn looked_from_afar(
        &mut self,
        id: &EpisodeId,
        look: FolderLook,
        is_blind: bool,
        cx: &mut Context,
    ) {
        if self.observation.looking != Looking::No {
            return;
        }
        // The marker may have come between the scan and the watch: watch, and look once more behind
        // it.
        let open = matches!(look, FolderLook::Open | FolderLook::OddMarker(_));
        if open && (!self.observation.is_watched || is_blind) && !cx.is_once() {
            self.hint(id, cx);
        } else {
            self.found(id, look, cx);
        }
    }

    /// Its own look came back. Returns whether it is to be looked at again.
    pub(crate) fn looked(&mut self, id: &EpisodeId, look: FolderLook, cx: &mut Context) -> bool {
        let before = std::mem::replace(&mut self.observation.looking, Looking::No);
        if before != Looking::Stale {
            // Only an open episode is looked at with a watch.
            self.observation.is_watched |= matches!(self.stage, Stage::Open)
                && matches!(
                    look,
                    FolderLook::Open | FolderLook::OddMarker(_) | FolderLook::Sealed(_)
                );
            let sealed = matches!(look, FolderLook::Sealed(_));
            self.found(id, look, cx);
            if sealed {
                self.reconsider();
            }
        }
        before != Looking::Yes
    }

    /// What a look found, by hint, by scan, or right before an upload.
    pub(super) fn found(&mut self, id: &EpisodeId, look: FolderLook, cx: &mut Context) {
        match look {
            FolderLook::Gone => self.found_gone(id, cx),
            FolderLook::BeingRemoved => self.found_being_removed(id, cx),
            FolderLook::Open => {
                self.found_open(id, cx);
                self.found_odd_marker(id, None, cx);
            }
            FolderLook::OddMarker(what) => {
                self.found_open(id, cx);
                self.found_odd_marker(id, Some(what), cx);
            }
            FolderLook::Sealed(stamp) => self.found_sealed(id, stamp, cx),
            FolderLook::Unreadable(why) => {
                if matches!(self.stage, Stage::Open) && self.failures.local == 0 {
                    self.failures.local = 1;
                    let wait = cx.settings().reconcile_interval;
                    self.log(Notice::Stuck(id.clone(), why, wait), cx);
                }
            }
        }
    }

    fn found_sealed(&mut self, id: &EpisodeId, stamp: Stamp, cx: &mut Context) {
        let is_another =
            |before: Option<Stamp>| before.is_none_or(|before| !stamp.is_still(before));
        match &self.stage {
            Stage::Open => {
                self.note_stamp(stamp, cx);
                self.unwatch(id, cx);
                self.log(Notice::Sealed(id.clone(), stamp), cx);
                self.stage = Stage::Sealed;
            }
            // Sealed anew, or another directory of the same name: what was packed may not be it.
            Stage::Sealed | Stage::Ready(_) | Stage::Resting(..) | Stage::Parked(_)
                if is_another(self.stamp()) =>
            {
                self.note_stamp(stamp, cx);
                // Delivered, and not moved yet: the move finds out whether this is it.
                if self.is_delivered() {
                    return self.rested_now(id, cx);
                }
                self.wake = None;
                // Another marker has a minute of its own to become whole.
                self.unfinished_since = None;
                self.open_since = None;
                self.open_files = OpenFilePolicy::WaitedFor;
                self.is_large = false;
                self.check_again();
            }
            // What is under way compares fingerprints at its end.
            Stage::Sealed
            | Stage::Ready(_)
            | Stage::Resting(..)
            | Stage::Parked(_)
            | Stage::Checking
            | Stage::Packing
            | Stage::Sending(_)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left => {}
        }
    }

    fn note_stamp(&mut self, stamp: Stamp, cx: &Context) {
        self.observation.stamp = Some(stamp);
        self.observation.sealed_at = cx.now();
    }

    /// Something stirred at it, or the operator took its verdict away (`sealift requeue`). Where it
    /// is in conflict, what is known of its archive is read again; where that still says so, it
    /// stays what it was.
    pub(crate) fn reconsider(&mut self) {
        // What is being written just now says that it is in conflict: it was heard after whatever
        // the operator has seen.
        if matches!(self.stage, Stage::Parked(_)) && !self.is_persisting {
            self.wake = None;
            self.check_again();
        }
    }

    /// Told once, since no later look makes it another thing: the operator has to.
    fn found_odd_marker(&mut self, id: &EpisodeId, what: Option<&'static str>, cx: &mut Context) {
        if matches!(self.stage, Stage::Open)
            && std::mem::replace(&mut self.observation.odd_marker, what) != what
            && let Some(what) = what
        {
            self.log(Notice::OddMarker(id.clone(), what), cx);
        }
    }

    pub(super) fn found_gone(&mut self, id: &EpisodeId, cx: &mut Context) {
        if self.is_busy() {
            return;
        }
        // Delivered, and not moved yet: the move finds out where it is, and says that the receiver
        // has it.
        if self.is_delivered() && !cx.is_stopping() {
            return self.rested_now(id, cx);
        }
        let has_archive = self.archive == ArchiveState::Durable
            || (self.preparation.is_check()
                && !matches!(self.stage, Stage::Resting(AfterRest::Send(_), _)));
        match self.stage {
            // What was left of it is removed, and not by us: it was delivered or rejected before.
            Stage::Open | Stage::Resting(AfterRest::Finish, _) => {}
            _ => {
                self.discard_scratch(id, cx);
                self.vanished(id, cx);
            }
        }
        self.observation.has_stirred = false;
        self.leave();
        // Now, and not at the next scan: the name may be in use again by then, and its packing take
        // the archive's place.
        if has_archive && !cx.is_stopping() {
            cx.settle_orphan(id, true);
        }
    }

    /// The marker is not there. Where it was, the recorder took it back: the episode is open again.
    fn found_open(&mut self, id: &EpisodeId, cx: &mut Context) {
        if matches!(self.stage, Stage::Open) {
            // It can be looked at (again).
            self.failures.local = 0;
            return;
        }
        if self.is_busy() {
            return;
        }
        // What was delivered is not this any more, and its archive is no last copy: the move finds
        // that out, and says so. Where that waits for an open file, it would only find that again,
        // and be looked at again, without end.
        if self.is_delivered() && !cx.is_stopping() {
            if self.failures.open_file == 0 {
                self.rested_now(id, cx);
            }
            return;
        }
        self.open_since = None;
        self.open_files = OpenFilePolicy::WaitedFor;
        if cx.is_once() {
            // What one pass found sealed, and is not any more, is nothing that it leaves undone.
            cx.count_unsealed();
        }
        self.discard_scratch(id, cx);
        self.preparation = match self.archive {
            ArchiveState::Durable => self
                .preparation
                .of_what_there_is(self.archive, self.is_persisting),
            ArchiveState::Scratch | ArchiveState::OnDemand | ArchiveState::Untrusted => {
                self.archive = ArchiveState::Scratch;
                match self.preparation {
                    Preparation::PackOnDemand => Preparation::PackOnDemand,
                    Preparation::Pack | Preparation::Check | Preparation::CheckBytes => {
                        Preparation::Pack
                    }
                }
            }
        };
        self.wake = None;
        self.stage = Stage::Open;
        self.observation.stamp = None;
        // It was not watched while it was sealed.
        self.hint(id, cx);
    }

    /// What was left by a process before this one; of what this one has left, it knows.
    fn found_being_removed(&mut self, id: &EpisodeId, cx: &mut Context) {
        match &self.stage {
            Stage::Open if !cx.is_stopping() => self.finish(id, cx),
            Stage::Sealed | Stage::Ready(_) | Stage::Parked(_) => self.found_gone(id, cx),
            Stage::Open
            | Stage::Checking
            | Stage::Packing
            | Stage::Sending(_)
            | Stage::Resting(..)
            | Stage::Retiring(..)
            | Stage::Quarantining(_)
            | Stage::Finishing
            | Stage::Left => {}
        }
    }
}
