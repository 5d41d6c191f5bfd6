//! Who is sent next: in turn to a destination that works, and as a probe to one that is held.

use super::{
    Circumstances, Lane, Schedule,
    lanes::{Beside, Free},
};
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        destination::circuit_breaker::{Hold, Probe},
        episode::Episode,
    },
};

impl Schedule {
    /// Who is sent next, and on which slot.
    pub(crate) fn next_to_send(&self, by: Circumstances<'_>) -> Option<(Lane, EpisodeId)> {
        if by.is_closed {
            return None;
        }
        let free = self.free_to_send(by);
        match by.hold {
            Some(hold) => self.next_probe(hold, free, by),
            None if by.next_upload.is_none_or(|next| next <= by.now) && !by.moves_are_behind => {
                self.next_in_turn(free, by)
            }
            None => None,
        }
    }

    pub(super) fn free_to_send(&self, by: Circumstances<'_>) -> Free {
        let (slots, most) = (by.uploads_at_once, by.most_beside_hanging());
        let mut free = self.sending.free(slots, most, by.waiting(), by.now);
        free.kept |= self.sending.all_hang(slots, most, by.now);
        free
    }

    fn next_in_turn(&self, free: Free, by: Circumstances<'_>) -> Option<(Lane, EpisodeId)> {
        let (queues, order) = (by.episodes.queues(), by.settings.order);
        let has_hung = |id: &EpisodeId| {
            let episode = by.episodes.get(id);
            episode.is_some_and(|episode| episode.history().has_hung())
        };
        let next = |lane: Lane, is_free: bool, beside: bool| {
            if !is_free {
                return None;
            }
            let far = self.sending.takes_the_far_end(lane, order, by.waiting());
            let may = |id: &EpisodeId| match lane {
                Lane::Any => !(beside && has_hung(id)),
                Lane::SmallOnly => !(by.is_large(id) || has_hung(id)),
            };
            let next = by.episodes.next_of(&[&queues.to_send], order, far, may);
            next.map(|id| (lane, id.clone()))
        };
        let main = || next(Lane::Any, free.main, false);
        let kept = || next(Lane::SmallOnly, free.kept, false);
        let next_one = if free.kept_first {
            kept().or_else(main)
        } else {
            main().or_else(kept)
        };
        next_one.or_else(|| match free.beside {
            Beside {
                is_last: true,
                kept,
                ..
            } => {
                let fresh = queues.to_send.newest(order, |id| !by.is_large(id));
                let fresh = fresh.filter(|_| kept)?;
                Some((Lane::SmallOnly, fresh.clone()))
            }
            beside => next(Lane::Any, beside.main, true)
                .or_else(|| next(Lane::SmallOnly, beside.kept, true)),
        })
    }

    fn next_probe(
        &self,
        hold: &Hold,
        free: Free,
        by: Circumstances<'_>,
    ) -> Option<(Lane, EpisodeId)> {
        // An episode that stands alone in its failures holds no other up, not even by being on its
        // way; nor does a probe that takes long: beside that one goes what is small, and was not
        // tried yet.
        let suspect = hold.suspect.as_ref();
        let mut others = self.sending.probes(by.now);
        let mut beside = false;
        if others.any(|(id, is_brief)| {
            let is_other = suspect != Some(id);
            beside |= is_other;
            is_other && is_brief
        }) {
            return None;
        }
        if !free.any() {
            return None;
        }
        // Beside those that hang too goes what is small, and was not tried yet.
        beside |= !(free.main || free.kept);
        let due = by.now >= hold.next_probe;
        if !(due || hold.lets_any_through(by.episodes.last_seal() > hold.since, by.now)) {
            return None;
        }
        let may_go = |id: &&EpisodeId| {
            if due && !beside {
                return true;
            }
            let probe = self.probe(id, hold.since, by);
            (due || hold.lets_through(id, probe, by.now))
                && !(beside && (by.is_large(id) || probe == Probe::Tried))
        };
        // Each in turn, so that no single episode decides for all: first those that were never
        // tried, then those that were not since it is held. And the smallest first, since all
        // wait for the end of a probe.
        let turn = |id: &&EpisodeId| {
            let episode = by.episodes.get(id);
            let failed_at = episode.and_then(|episode| episode.history().failed_at());
            (
                **id == hold.last_probe,
                failed_at.filter(|at| *at >= hold.since),
                episode.map(Episode::waits_again_since),
                episode.map_or(0, Episode::archive_bytes),
            )
        };
        let lane = if free.main && !beside {
            Lane::Any
        } else {
            Lane::SmallOnly
        };
        let to_send = by.episodes.queues().to_send.iter();
        let next = to_send.filter(may_go).min_by_key(turn);
        next.map(|id| (lane, id.clone()))
    }
}
