//! When a choice may fall out otherwise though nothing happens.

use std::time::Duration;

use super::{Circumstances, Schedule};
use crate::ship::machine::{
    destination::circuit_breaker::{Hold, Probe},
    episodes::Queue,
};

impl Schedule {
    /// When the next one may be packed or sent, where only the time keeps it waiting.
    pub(crate) fn next_deadline(&self, by: Circumstances<'_>) -> Option<Duration> {
        let queues = by.episodes.queues();
        let probe = by
            .hold
            .filter(|_| !queues.to_send.is_empty() && !by.is_closed)
            .and_then(|hold| self.probe_deadline(hold, by));
        let waits_for_packing = !(queues.to_pack.is_empty() && queues.to_pack_large.is_empty());
        let packing = by.packing_paused_until.filter(|_| waits_for_packing);
        [
            probe,
            packing,
            self.ramp_deadline(by),
            self.lanes_deadline(by),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When the next one may be sent, where only what is left of an outage keeps it waiting.
    fn ramp_deadline(&self, by: Circumstances<'_>) -> Option<Duration> {
        let waits = self.free_to_send(by).any()
            && !by.is_closed
            && !by.episodes.queues().to_send.is_empty()
            && by.hold.is_none()
            && !by.moves_are_behind;
        // Where its time has come, something else keeps it waiting: a giant, say, for a slot of its
        // own.
        by.next_upload.filter(|at| waits && *at > by.now)
    }

    /// When the next probe may go, beside one that takes long too.
    fn probe_deadline(&self, hold: &Hold, by: Circumstances<'_>) -> Option<Duration> {
        let ahead = |at: &Duration| *at > by.now;
        let untried = || {
            let mut to_send = by.episodes.queues().to_send.iter();
            to_send.any(|id| self.probe(id, hold.since, by) != Probe::Tried)
        };
        let place = hold.place_for_untried().filter(ahead).filter(|_| untried());
        if self.sending.len() == 0 {
            let new = Some(hold.place_for_new())
                .filter(ahead)
                .filter(|_| by.episodes.last_seal() > hold.since);
            return [new, place, Some(hold.next_probe)]
                .into_iter()
                .flatten()
                .min();
        }
        let due = Some(hold.next_probe).filter(ahead);
        [self.sending.slow_at(by.now), due, place]
            .into_iter()
            .flatten()
            .min()
    }

    /// When a second slot opens beside one that takes long, and an episode waits for it.
    pub(crate) fn lanes_deadline(&self, by: Circumstances<'_>) -> Option<Duration> {
        let (queues, now) = (by.episodes.queues(), by.now);
        let waits = |queue: &Queue| !queue.is_empty();
        let to_pack = waits(&queues.to_pack) || waits(&queues.to_check);
        let packing = self.packing.opens_at(by.settings.pack_workers, now);
        let slots = by.uploads_at_once;
        let hang_from = self.sending.hang_from(slots, by.most_beside_hanging());
        let sending = [
            self.sending.opens_at(slots, now),
            hang_from.filter(|at| *at > now),
            self.sending.next_hangs_at(now),
        ];
        let sending = sending.into_iter().flatten().min();
        [
            packing.filter(|_| to_pack),
            sending.filter(|_| waits(&queues.to_send)),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
