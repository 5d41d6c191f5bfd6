//! Whose turn it is: what is woken, scanned, swept, packed and sent next.

use std::time::Duration;

use super::{
    Effect,
    queue::{Machine, NEVER},
    state::State,
};
use crate::episode::EpisodeId;

/// How long an archive may be scratch while its upload runs. A small upload is acknowledged sooner, and making its
/// archive durable would only compete with the receiver for the disk.
const KEEP_AFTER: Duration = Duration::from_millis(250);

impl Machine {
    pub(super) fn wake_due(&mut self, now: Duration) {
        while let Some((at, id)) = self.wakes.first().cloned()
            && at <= now
        {
            self.sleep_until(&id, None);
            let Some(episode) = self.episodes.get(&id) else { continue };
            match &episode.state {
                State::Sending(_) => self.keep(&id),
                State::Resting(..) | State::Parked(_) if !self.settings.once && !self.stopping => {
                    self.rested(&id);
                }
                State::Open
                | State::Sealed
                | State::Checking
                | State::Packing
                | State::Ready(_)
                | State::Resting(..)
                | State::Parked(_)
                | State::Retiring(..)
                | State::Quarantining(_) => {}
            }
        }
    }

    pub(super) fn take_turns(&mut self, now: Duration) {
        if self.stopping {
            return;
        }
        if !self.scanning && self.next_scan <= now {
            self.scanning = true;
            self.next_scan = NEVER;
            self.now_do(Effect::Scan);
        }
        if self.sweeps.begin_if_due(now) {
            self.now_do(Effect::Sweep);
        }
        self.take_turns_sending(now);
        self.take_turns_packing(now);
    }

    fn take_turns_packing(&mut self, now: Duration) {
        self.packing_paused_until = self.packing_paused_until.filter(|until| now < *until);
        // What is packed and not sent yet fills the outbox: no more of it than keeps the uploads busy.
        let ahead = 2 * self.settings.concurrency;
        while self.packing < self.settings.pack_workers
            && self.packing + self.to_send.len() < ahead
            && let Some(id) = self.next_to_pack()
        {
            let Some(episode) = self.episodes.get_mut(&id) else { continue };
            self.packing += 1;
            if std::mem::take(&mut episode.archived) {
                // A pass from cron has no memory of a receiver that found the archive damaged.
                let rehash = std::mem::take(&mut episode.suspect) || self.settings.once;
                self.enter(&id, State::Checking);
                self.now_do(Effect::Check { id, rehash });
            } else {
                // What was known of the old archive is not true of the new one.
                episode.durable = false;
                episode.spoiled = false;
                episode.suspect = false;
                episode.conflict = None;
                episode.kept_bytes = 0;
                self.enter(&id, State::Packing);
                self.now_do(Effect::Pack(id));
            }
        }
    }

    /// A full outbox keeps nothing waiting that is packed already: what is sent is what makes room in it.
    fn next_to_pack(&mut self) -> Option<EpisodeId> {
        let to_pack = if self.packing_paused_until.is_some() { None } else { self.to_pack.first() };
        let checks_first = match (self.to_check.first(), to_pack) {
            (Some(check), Some(pack)) => check < pack,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return None,
        };
        let queue = if checks_first { &mut self.to_check } else { &mut self.to_pack };
        queue.pop_first().map(|(_, id)| id)
    }

    fn take_turns_sending(&mut self, now: Duration) {
        while let Some(id) = self.next_to_send(now) {
            let Some(episode) = self.episodes.get_mut(&id) else { return };
            let State::Ready(packed) = &episode.state else { return };
            let packed = packed.clone();
            episode.deliveries_at_start = self.destination.deliveries();
            let resume = episode.may_be_kept;
            let scratch = !episode.durable && !episode.keeping;
            self.destination.probing(&id);
            self.enter(&id, State::Sending(packed.clone()));
            self.sending += 1;
            if scratch {
                self.sleep_until(&id, Some(now + KEEP_AFTER));
            }
            self.now_do(Effect::Send { id, packed, resume });
        }
    }

    fn next_to_send(&self, now: Duration) -> Option<EpisodeId> {
        let Some(hold) = self.destination.hold() else {
            let free = self.sending < self.settings.concurrency;
            return self.to_send.first().filter(|_| free).map(|(_, id)| id.clone());
        };
        // One that stands alone in its failures holds nobody up, not even by being on its way.
        let suspect = hold.suspect.as_ref();
        let suspect_sending =
            suspect.and_then(|id| self.episodes.get(id)).is_some_and(|episode| episode.sending());
        let free = self.sending < self.settings.concurrency;
        if self.sending > usize::from(suspect_sending) || !free {
            return None;
        }
        let due = now >= hold.next_probe;
        let may_go = |id: &&EpisodeId| due || suspect.is_some_and(|suspect| suspect != *id);
        // Each in turn, so that no single episode decides for all; and the smallest first, since everybody waits for the end
        // of a probe.
        let turn = |id: &&EpisodeId| {
            let episode = self.episodes.get(*id);
            let failed_at = episode.and_then(|episode| episode.failed_at).filter(|at| *at >= hold.since);
            let is_last = **id == hold.last_probe;
            (is_last, failed_at, episode.map_or(0, |episode| episode.archive_bytes()))
        };
        self.to_send.iter().map(|(_, id)| id).filter(may_go).min_by_key(turn).cloned()
    }
}
