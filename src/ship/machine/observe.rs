//! What is seen: hints, looks and scans, and what they make of an episode.
//!
//! A hint asks for a look; looks at one episode coalesce. What a scan says of an episode is older
//! than what its own look says, and than what we did to it meanwhile.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::{
    Effect, Notice, Scanned,
    queue::{Machine, NEVER},
    state::{Episode, FolderLook, Looking, OpenFilePolicy, State},
};
use crate::model::episode::EpisodeId;

/// The reconcile interval where watches cannot be had.
const BLIND_INTERVAL: Duration = Duration::from_secs(5);

impl Machine {
    pub(super) fn hinted(&mut self, id: EpisodeId) {
        if self.stopping || self.settings.once {
            return;
        }
        let episode = self.episodes.entry(id.clone()).or_insert_with(Episode::new);
        episode.stirred |= matches!(
            episode.state,
            State::Retiring(..) | State::Quarantining(_) | State::Finishing
        );
        match episode.looking {
            Looking::No => {
                episode.looking = Looking::Yes;
                self.looks += 1;
                self.now_do(Effect::Look(id));
            }
            Looking::Yes | Looking::YesAndAgain => episode.looking = Looking::YesAndAgain,
            Looking::Stale => {}
        }
    }

    pub(super) fn look_everywhere(&mut self, now: Duration) {
        if self.settings.once {
            return;
        }
        self.next_scan = now;
        self.scan_again = self.scanning;
    }

    /// No watch stands any more, nor one that was asked for and not heard of yet.
    pub(super) fn distrust_watches(&mut self) {
        for episode in self.episodes.values_mut() {
            episode.watched = false;
            if episode.looking != Looking::No {
                episode.looking = Looking::Stale;
            }
        }
    }

    pub(super) fn reconcile_interval(&self) -> Duration {
        let set = self.settings.reconcile_interval;
        if self.blind {
            set.min(BLIND_INTERVAL)
        } else {
            set
        }
    }

    pub(super) fn scanned(&mut self, found: Option<Scanned>, now: Duration) {
        self.scanning = false;
        let again = std::mem::take(&mut self.scan_again);
        self.next_scan = match (self.settings.once, again) {
            // One pass is one scan.
            (true, _) => NEVER,
            (false, true) => now,
            (false, false) => now + self.reconcile_interval(),
        };
        let moved = std::mem::take(&mut self.moved_while_scanning);
        // While episodes/ cannot be read, nothing is concluded from what is not there.
        let Some(found) = found else {
            self.tally.unseen += u64::from(self.settings.once);
            return;
        };
        if self.settings.once {
            self.tally.unseen += found.mistaken + found.stranded;
        }
        let mut here: BTreeMap<_, _> = found.episodes.into_iter().collect();
        here.retain(|id, _| !moved.contains(id));
        // What is not there may be younger than the scan: only a look of its own says that it is
        // gone.
        let mut missing: Vec<_> = self
            .episodes
            .keys()
            .filter(|id| !here.contains_key(id))
            .cloned()
            .collect();
        missing.sort_unstable();
        for id in missing {
            self.hinted(id);
        }
        let noted: HashSet<_> = found.noted.iter().cloned().collect();
        for id in found.archives.into_iter().chain(found.noted) {
            if let Some(episode) = self.episodes.get_mut(&id) {
                // An archive that this process is at work on is known already.
                episode.archived |= matches!(episode.state, State::Open);
            } else if here.contains_key(&id) {
                self.episodes
                    .entry(id)
                    .or_insert_with(Episode::new)
                    .archived = true;
            } else if !moved.contains(&id) {
                self.settle_archive(id, false);
            }
        }
        self.were_tried(found.tried);
        for (id, look) in here {
            self.looked_from_afar(&id, look);
        }
        let taken_away = self.episodes.iter().filter(|(id, episode)| {
            episode.without_copy && episode.conflict.is_none() && !noted.contains(*id)
        });
        let mut taken_away: Vec<_> = taken_away.map(|(id, _)| id.clone()).collect();
        taken_away.sort_unstable();
        for id in found.unlabelled.into_iter().chain(taken_away) {
            self.reconsider(&id);
        }
    }

    /// A scan's word on one episode. Its own look, where one is under way, is newer and counts
    /// instead.
    fn looked_from_afar(&mut self, id: &EpisodeId, look: FolderLook) {
        let episode = self.episodes.entry(id.clone()).or_insert_with(Episode::new);
        if episode.looking != Looking::No {
            return;
        }
        // The marker may have come between the scan and the watch: watch, and look once more behind
        // it.
        let open = matches!(look, FolderLook::Open | FolderLook::OddMarker(_));
        if open && (!episode.watched || self.blind) && !self.settings.once {
            self.hinted(id.clone());
        } else {
            self.found(id, look);
        }
    }

    pub(super) fn looked(&mut self, id: &EpisodeId, look: FolderLook) {
        self.looks -= 1;
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut episode.looking, Looking::No);
        if before != Looking::Stale {
            // Only an open episode is looked at with a watch.
            episode.watched |= matches!(episode.state, State::Open)
                && matches!(
                    look,
                    FolderLook::Open | FolderLook::OddMarker(_) | FolderLook::Sealed(_)
                );
            let sealed = matches!(look, FolderLook::Sealed(_));
            self.found(id, look);
            if sealed {
                self.reconsider(id);
            }
        }
        if before != Looking::Yes {
            self.hinted(id.clone());
        }
    }

    /// What a look found, by hint or by scan.
    pub(super) fn found(&mut self, id: &EpisodeId, look: FolderLook) {
        match look {
            FolderLook::Gone => self.found_gone(id),
            FolderLook::BeingRemoved => self.found_being_removed(id),
            FolderLook::Open => {
                self.found_open(id);
                self.odd_marker(id, None);
            }
            FolderLook::OddMarker(what) => {
                self.found_open(id);
                self.odd_marker(id, Some(what));
            }
            FolderLook::Sealed(stamp) => {
                let Some(episode) = self.episodes.get_mut(id) else {
                    return;
                };
                let (before, is_delivered) = (episode.stamp, episode.is_delivered());
                match &episode.state {
                    State::Open => {
                        self.tally.scanned += 1;
                        self.stamp(id, stamp);
                        self.unwatch(id);
                        self.tell(Notice::Sealed(id.clone(), stamp));
                        self.enter(id, State::Sealed);
                    }
                    // Sealed anew, or another directory of the same name: what was packed may not
                    // be it.
                    State::Sealed | State::Ready(_) | State::Resting(..) | State::Parked(_)
                        if before.is_none_or(|before| !stamp.is_still(before)) =>
                    {
                        self.stamp(id, stamp);
                        // Delivered, and not moved yet: the move finds out whether this is it.
                        if is_delivered {
                            return self.retire_now(id);
                        }
                        self.sleep_until(id, None);
                        // Another marker has a minute of its own to become whole.
                        if let Some(episode) = self.episodes.get_mut(id) {
                            episode.unfinished_since = None;
                            episode.open_since = None;
                            episode.open_files = OpenFilePolicy::WaitedFor;
                            episode.large = false;
                        }
                        self.check_again(id);
                    }
                    // What is under way compares fingerprints at its end.
                    State::Sealed
                    | State::Ready(_)
                    | State::Resting(..)
                    | State::Parked(_)
                    | State::Checking
                    | State::Packing
                    | State::Sending(_)
                    | State::Retiring(..)
                    | State::Quarantining(_)
                    | State::Finishing => {}
                }
            }
            FolderLook::Unreadable(why) => {
                let Some(episode) = self.episodes.get_mut(id) else {
                    return;
                };
                if matches!(episode.state, State::Open) && episode.failures.local == 0 {
                    episode.failures.local = 1;
                    let wait = self.settings.reconcile_interval;
                    self.tell(Notice::Stuck(id.clone(), why, wait));
                }
            }
        }
    }

    /// Something stirred at it, or the operator took its verdict away (`sealift requeue`). Where it
    /// is in conflict, what is known of its archive is read again; where that still says so, it
    /// stays what it was.
    fn reconsider(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        // What is being written just now says that it is in conflict: it was heard after whatever a
        // person has seen.
        if matches!(episode.state, State::Parked(_)) && !episode.keeping {
            self.sleep_until(id, None);
            self.check_again(id);
        }
    }

    /// Told once, since no later look makes it another thing: a person has to.
    fn odd_marker(&mut self, id: &EpisodeId, what: Option<&'static str>) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        if matches!(episode.state, State::Open)
            && std::mem::replace(&mut episode.odd_marker, what) != what
            && let Some(what) = what
        {
            self.tell(Notice::OddMarker(id.clone(), what));
        }
    }

    pub(super) fn found_gone(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        if episode.busy() {
            return;
        }
        // Delivered, and not moved yet: the move finds out where it is, and says that the receiver
        // has it.
        if episode.is_delivered() && !self.stopping {
            return self.retire_now(id);
        }
        let has_archive = episode.durable || episode.archived;
        if !matches!(episode.state, State::Open) {
            self.discard_scratch(id);
            self.vanished(id);
        }
        self.forget(id);
        // Now, and not at the next scan: the name may be in use again by then, and its packing take
        // the archive's place.
        if has_archive && !self.stopping {
            self.settle_archive(id.clone(), true);
        }
    }

    /// It could not be moved, and waited. What stands there has changed since.
    fn retire_now(&mut self, id: &EpisodeId) {
        self.sleep_until(id, None);
        self.rested(id);
    }

    /// Finds out what the archive of an episode that is not there is the last copy of. Nothing of
    /// that name is packed meanwhile.
    pub(super) fn settle_archive(&mut self, id: EpisodeId, displaced: bool) {
        if self.orphans.insert(id.clone()) {
            self.on_disk(Effect::Orphan { id, displaced });
        }
    }

    /// The marker is not there. Where it was, the recorder took it back: the episode is open again.
    fn found_open(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        if matches!(episode.state, State::Open) {
            // It can be looked at (again).
            episode.failures.local = 0;
            return;
        }
        if episode.busy() {
            return;
        }
        // What was delivered is not this any more, and its archive is no last copy: the move finds
        // that out, and says so.
        if episode.is_delivered() && !self.stopping {
            return self.retire_now(id);
        }
        episode.archived = episode.durable;
        episode.without_copy = false;
        episode.open_since = None;
        episode.open_files = OpenFilePolicy::WaitedFor;
        if self.settings.once {
            // What one pass found sealed, and is not any more, is nothing that it leaves undone.
            self.tally.scanned = self.tally.scanned.saturating_sub(1);
        }
        self.discard_scratch(id);
        self.sleep_until(id, None);
        self.enter(id, State::Open);
        // Only now: the queues that it has left are ordered by the stamp.
        if let Some(episode) = self.episodes.get_mut(id) {
            episode.stamp = None;
        }
        // It was not watched while it was sealed.
        self.hinted(id.clone());
    }
}
