//! Whose turn it is: what is woken, scanned, swept, packed and sent next.

use std::time::Duration;

use super::{
    Effect,
    circuit_breaker::{Hold, Trial},
    fairness::{Free, Lane, SMALL_BYTES},
    queue::{Machine, NEVER},
    state::State,
};
use crate::model::episode::EpisodeId;

/// How long an archive may be scratch while its upload runs. A small upload is acknowledged sooner,
/// and making its archive durable would only compete with the receiver for the disk.
const KEEP_AFTER: Duration = Duration::from_millis(250);

impl Machine {
    pub(super) fn wake_due(&mut self, now: Duration) {
        while let Some((at, id)) = self.wakes.first().cloned()
            && at <= now
        {
            self.sleep_until(&id, None);
            let Some(episode) = self.episodes.get(&id) else {
                continue;
            };
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
                | State::Quarantining(_)
                | State::Finishing => {}
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
            self.feel_pressure();
        }
        self.look_at_the_clock(now);
        if self.sweeps.begin_if_due(now) {
            self.now_do(Effect::Sweep);
            self.relief.hope();
        }
        self.look_back_if_due(now);
        self.take_turns_sending(now);
        self.take_turns_packing(now);
    }

    fn take_turns_packing(&mut self, now: Duration) {
        self.packing_paused_until = self.packing_paused_until.filter(|until| now < *until);
        let slots = self.settings.pack_workers;
        while let Some((lane, id)) = self.next_on_a_slot(slots, now) {
            let Some(episode) = self.episodes.get_mut(&id) else {
                continue;
            };
            let large = episode.large;
            if std::mem::take(&mut episode.archived) {
                // A pass from cron has no memory of a receiver that found the archive damaged.
                let rehash = std::mem::take(&mut episode.suspect) || self.settings.once;
                self.enter(&id, State::Checking);
                self.packing.begin(&id, lane, large, now);
                self.now_do(Effect::Check { id, rehash });
            } else {
                if lane == Lane::Kept && self.has_gathered_enough() {
                    self.goes_without_copy(&id);
                }
                self.packing.begin(&id, lane, large, now);
                let most_bytes = (lane == Lane::Kept).then_some(SMALL_BYTES);
                self.pack(id, most_bytes, now);
            }
        }
    }

    fn next_on_a_slot(&mut self, slots: usize, now: Duration) -> Option<(Lane, EpisodeId)> {
        if self.to_pack.is_empty() && self.to_pack_large.is_empty() && self.to_check.is_empty() {
            return None;
        }
        let free = self.packing.free(slots, 0, self.waiting(), now);
        let lanes = [(free.main, Lane::Main), (free.kept, Lane::Kept)];
        let [first, second] = if free.kept_first {
            [lanes[1], lanes[0]]
        } else {
            lanes
        };
        [first, second].into_iter().find_map(|(is_free, lane)| {
            let may_begin = is_free && self.room_ahead(lane);
            let id = if may_begin {
                self.next_to_pack(lane)
            } else {
                None
            };
            id.map(|id| (lane, id))
        })
    }

    fn take_turns_sending(&mut self, now: Duration) {
        while let Some((lane, id)) = self.next_to_send(now) {
            let large = self.is_large(&id);
            let Some(episode) = self.episodes.get_mut(&id) else {
                return;
            };
            let State::Ready(packed) = &episode.state else {
                return;
            };
            let packed = packed.clone();
            episode.deliveries_at_start = self.destination.deliveries();
            episode.sent_elsewhere = None;
            let resume = episode.asks_first();
            let look = episode.packed_at != Some(now);
            let scratch = !episode.has_archive() && !episode.keeping;
            let trial = self
                .destination
                .hold()
                .map_or(Trial::Over, |hold| self.trial(&id, hold.since));
            self.destination.probing(&id, trial, now);
            self.enter(&id, State::Sending(packed.clone()));
            self.sending.begin(&id, lane, large, now);
            self.ramp.sent(now, &mut self.jitter);
            if scratch {
                self.sleep_until(&id, Some(now + KEEP_AFTER));
            }
            self.now_do(Effect::Send {
                id,
                packed,
                resume,
                look,
            });
        }
    }

    /// When the next one may be sent, where only the ramp keeps it waiting.
    pub(super) fn ramp_deadline(&self) -> Option<Duration> {
        let free = self.free_to_send(self.now);
        let waits = free.any()
            && !self.gate.is_closed()
            && !self.to_send.is_empty()
            && self.destination.hold().is_none()
            && !self.moves_are_behind();
        // Where its time has come, something else keeps it waiting: a giant, say, for a slot of its
        // own.
        self.ramp.next().filter(|at| waits && *at > self.now)
    }

    fn free_to_send(&self, now: Duration) -> Free {
        let slots = self.uploads_at_once();
        let mut free = self
            .sending
            .free(slots, self.most_beside_hanging(), self.waiting(), now);
        free.kept |= self
            .sending
            .all_hang(slots, self.most_beside_hanging(), now);
        free
    }

    fn next_to_send(&self, now: Duration) -> Option<(Lane, EpisodeId)> {
        if self.gate.is_closed() {
            return None;
        }
        let free = self.free_to_send(now);
        let Some(hold) = self.destination.hold() else {
            let may_go = self.ramp.next().is_none_or(|next| next <= now);
            return self
                .next_in_turn(free)
                .filter(|_| may_go && !self.moves_are_behind());
        };
        // An episode that stands alone in its failures holds no other up, not even by being on its
        // way; nor does a probe that takes long: beside that one goes what is small, and was not
        // tried yet.
        let suspect = hold.suspect.as_ref();
        let mut beside = false;
        for (_, is_brief) in self
            .sending
            .probes(now)
            .filter(|(id, _)| suspect != Some(*id))
        {
            if is_brief {
                return None;
            }
            beside = true;
        }
        if !free.any() {
            return None;
        }
        // Beside those that hang too goes what is small, and was not tried yet.
        beside |= !(free.main || free.kept);
        let due = now >= hold.next_probe;
        if !(due || hold.lets_any_through(self.last_seal > hold.since, now)) {
            return None;
        }
        let may_go = |id: &&EpisodeId| {
            if due && !beside {
                return true;
            }
            let trial = self.trial(id, hold.since);
            (due || hold.lets_through(id, trial, now))
                && !(beside && (self.is_large(id) || trial == Trial::Over))
        };
        // Each in turn, so that no single episode decides for all: first those that were never
        // tried, then those that were not since it is held. And the smallest first, since everybody
        // waits for the end of a probe.
        let turn = |id: &&EpisodeId| {
            let episode = self.episodes.get(*id);
            let failed_at = episode
                .and_then(|episode| episode.failed_at)
                .filter(|at| *at >= hold.since);
            let tried_at = episode.map(|episode| episode.waits_again_since);
            let is_last = **id == hold.last_probe;
            (
                is_last,
                failed_at,
                tried_at,
                episode.map_or(0, |episode| episode.archive_bytes()),
            )
        };
        let lane = if free.main && !beside {
            Lane::Main
        } else {
            Lane::Kept
        };
        let next = self.to_send.iter().filter(may_go).min_by_key(turn);
        next.map(|id| (lane, id.clone()))
    }

    /// When the next probe may go, beside one that takes long too.
    pub(super) fn probe_deadline(&self, hold: &Hold) -> Option<Duration> {
        let ahead = |at: &Duration| *at > self.now;
        let untried = || {
            self.to_send
                .iter()
                .any(|id| self.trial(id, hold.since) != Trial::Over)
        };
        let place = hold.place_for_untried().filter(ahead).filter(|_| untried());
        if self.sending.len() == 0 {
            let new = Some(hold.place_for_new())
                .filter(ahead)
                .filter(|_| self.last_seal > hold.since);
            return [new, place, Some(hold.next_probe)]
                .into_iter()
                .flatten()
                .min();
        }
        let due = Some(hold.next_probe).filter(ahead);
        [self.sending.slow_at(self.now), due, place]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether one is left that was never tried. One that is packed for long keeps none waiting.
    fn an_untried_one_waits(&self) -> bool {
        let queues = [
            &self.to_check,
            &self.to_pack,
            &self.to_pack_large,
            &self.to_send,
        ];
        queues.iter().any(|queue| queue.untried() > 0) || self.packing.has_a_brief_one(self.now)
    }

    /// What is known of it since then.
    pub(super) fn trial(&self, id: &EpisodeId, since: Duration) -> Trial {
        match self.episodes.get(id) {
            Some(episode) if episode.failed_at.is_some_and(|at| at >= since) => Trial::Over,
            Some(episode) if episode.sealed_at > since => Trial::New,
            // It waits for those that were not tried at all.
            Some(episode)
                if !episode.waits_again_since.is_zero() && self.an_untried_one_waits() =>
            {
                Trial::Over
            }
            _ => Trial::Ahead,
        }
    }
}
