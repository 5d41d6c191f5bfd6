//! Who is packed, or compared with its archive, next.

use super::{Circumstances, Lane, Schedule};
use crate::{
    model::episode::EpisodeId,
    ship::machine::{
        destination::circuit_breaker::Probe, episodes::Queue, limits::MOST_FRESH_AHEAD,
    },
};

impl Schedule {
    /// Who is packed next, and on which slot.
    pub(crate) fn next_to_pack(&self, by: Circumstances<'_>) -> Option<(Lane, EpisodeId)> {
        let queues = by.episodes.queues();
        if queues.to_pack.is_empty()
            && queues.to_pack_large.is_empty()
            && queues.to_check.is_empty()
        {
            return None;
        }
        let slots = by.settings.pack_workers;
        let free = self.packing.free(slots, 0, by.waiting(), by.now);
        let lanes = [(free.main, Lane::Any), (free.kept, Lane::SmallOnly)];
        let [first, second] = if free.kept_first {
            [lanes[1], lanes[0]]
        } else {
            lanes
        };
        [first, second].into_iter().find_map(|(is_free, lane)| {
            let may_begin = is_free && self.has_room_ahead(lane, by);
            let id = may_begin.then(|| self.next_on(lane, by)).flatten()?;
            Some((lane, id.clone()))
        })
    }

    /// How many more may be packed ahead of the uploads, for one of them that is small: where what
    /// waits is large, it waits for long, and a small one would pass it by.
    fn has_room_ahead(&self, lane: Lane, by: Circumstances<'_>) -> bool {
        let (ahead, most) = (self.ahead(by), most_ahead(by));
        let mut to_send = by.episodes.queues().to_send.iter();
        ahead < most
            || match lane {
                Lane::SmallOnly => {
                    (ahead == most && to_send.any(|id| by.is_large(id)))
                        || self.needs_a_fresh_one(by)
                }
                Lane::Any => self.needs_a_fresh_giant(by),
            }
    }

    /// How many are packed, or nearly so, and not sent. What was tried and goes behind the others
    /// keeps no upload busy that is theirs, and none of them from being packed.
    pub(crate) fn ahead(&self, by: Circumstances<'_>) -> usize {
        let to_send = &by.episodes.queues().to_send;
        self.packing.len()
            + if by.hold.is_some() {
                to_send.len()
            } else {
                to_send.untried()
            }
    }

    #[cfg(test)]
    pub(crate) fn ready(&self, by: Circumstances<'_>) -> usize {
        self.ahead(by) - self.packing.len()
    }

    /// Where all that is packed was tried in vain since the destination is held, a small one that
    /// was not may end that; and so may one that was sealed since, and need not wait for the next
    /// probe. So episodes that something in between refuses, however many, block no other.
    fn needs_a_fresh_one(&self, by: Circumstances<'_>) -> bool {
        let queues = by.episodes.queues();
        let Some(hold) = by.hold.filter(|_| !queues.to_pack.is_empty()) else {
            return false;
        };
        let is_fresh =
            |id: &EpisodeId| !by.is_large(id) && self.probe(id, hold.since, by) != Probe::Tried;
        self.packing.len() == 0
            && (self.a_new_one_waits(by) || !queues.to_send.iter().any(is_fresh))
    }

    /// The same where no small one is left that was not tried.
    fn needs_a_fresh_giant(&self, by: Circumstances<'_>) -> bool {
        let (Some(hold), queues) = (by.hold, by.episodes.queues()) else {
            return false;
        };
        let waits = |queue: &Queue| {
            queue
                .iter()
                .any(|id| self.probe(id, hold.since, by) != Probe::Tried)
        };
        self.packing.len() == 0
            && !waits(&queues.to_send)
            && !waits(&queues.to_pack)
            && (waits(&queues.to_pack_large) || waits(&queues.to_check))
    }

    /// Whether one that was sealed since the destination is held is not packed, and none is that
    /// could be tried at once.
    fn a_new_one_waits(&self, by: Circumstances<'_>) -> bool {
        let Some(hold) = by.hold else {
            return false;
        };
        let queues = by.episodes.queues();
        let is_new = |id: &EpisodeId| self.probe(id, hold.since, by) == Probe::SealedSince;
        by.episodes.last_seal() > hold.since
            && queues
                .to_pack
                .newest(by.settings.order, |_| true)
                .is_some_and(is_new)
            && !queues.to_send.iter().any(is_new)
    }

    /// Who is packed, or checked, next on this slot. A full outbox keeps nothing waiting that is
    /// packed already: what is sent is what makes room in it.
    fn next_on<'a>(&self, lane: Lane, by: Circumstances<'a>) -> Option<&'a EpisodeId> {
        let (queues, order) = (by.episodes.queues(), by.settings.order);
        let large = match lane {
            Lane::Any => queues.to_pack_large.len(),
            Lane::SmallOnly => 0,
        };
        let waiting = queues.to_pack.len() + large;
        let far = self.packing.takes_the_far_end(lane, order, waiting);
        let next_of = |queues: &[&'a Queue], far| by.episodes.next_of(queues, order, far, |_| true);
        let is_paused = by.packing_paused_until.is_some();
        match lane {
            Lane::SmallOnly if is_paused => next_of(&[&queues.to_check], false),
            Lane::SmallOnly if self.a_new_one_waits(by) => queues.to_pack.newest(order, |_| true),
            // The archive that is checked may be large, and be read.
            Lane::SmallOnly => {
                next_of(&[&queues.to_pack], far).or_else(|| next_of(&[&queues.to_check], false))
            }
            Lane::Any if is_paused => next_of(&[&queues.to_check], far),
            Lane::Any => next_of(
                &[&queues.to_pack, &queues.to_check, &queues.to_pack_large],
                far,
            ),
        }
    }
}

/// What is packed and not sent yet fills the outbox: no more of it than keeps the uploads busy.
fn most_ahead(by: Circumstances<'_>) -> usize {
    2 * by.settings.concurrency
}

/// Whether no more archives are to gather in the outbox: what is packed for a probe has none there,
/// and is packed again when it is sent.
pub(crate) fn has_gathered_enough(by: Circumstances<'_>) -> bool {
    by.hold.is_some() && by.episodes.queues().to_send.len() >= most_ahead(by) + MOST_FRESH_AHEAD
}
