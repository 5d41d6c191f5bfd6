//! The room for uploads that broke off. What is kept of one has its room, and what may come to be
//! kept of one under way has it reserved: before its first byte as much as it announces, and when
//! it breaks off what has come.
//!
//! What is kept and what is reserved never come to more than there may be. An announcement alone
//! keeps no room from others: where they need it, it is cut to what comes of it (see [`Coming`]),
//! and all that one host has announced to half of what there is. What such an upload then brings
//! beyond that is kept where there is room at its end, and else it is sent from its start again.

use std::{collections::BTreeMap, sync::Arc};

use super::{Coming, Promise, RoomFor, Shared, StoreRoom, StoreSums};
use crate::{model::episode::HostName, receive::store::PartKey};

/// What a part takes at least: two files, whatever is in them.
const LEAST_PART_BYTES: u64 = 8192;
/// So many uploads that broke off, or may yet, are kept of one host, or of those without a name,
/// and of all together: each takes two files.
pub(super) const MOST_PARTS_OF_HOST: usize = 1000;
const MOST_PARTS: usize = 10_000;

/// What is kept of an upload, or may yet be.
#[derive(Debug, Default)]
pub(super) struct PartSum {
    pub(super) kept_bytes: u64,
    reserved_bytes: u64,
    /// What is reserved has come, and is being kept.
    is_here: bool,
    /// What it is reserved for.
    coming: Option<Arc<Coming>>,
    /// Connections that it is reserved for.
    pub(super) writers: usize,
    /// The byte at which the last of them began: what comes behind it is promised.
    begun_at: u64,
    /// How many walks had begun when it last changed here.
    changed: u64,
}

impl PartSum {
    /// What is kept beside what is promised to its upload. A walk finds what has come of that, too.
    pub(super) fn beside_promise(&self) -> u64 {
        if self.writers > 0 {
            self.begun_at
        } else {
            self.kept_bytes
        }
    }

    /// What it has for itself.
    fn bytes(&self) -> u64 {
        self.firm().max(self.reserved_bytes)
    }

    /// Room that nothing takes from it.
    fn firm(&self) -> u64 {
        let here = if self.is_here { self.reserved_bytes } else { 0 };
        LEAST_PART_BYTES.max(self.kept_bytes).max(here)
    }

    /// What of that is announced, and does not come.
    fn idle(&self) -> u64 {
        let follows = self.coming.as_ref().and_then(|coming| {
            let came = self.kept_bytes.saturating_add(coming.came());
            Some(came.saturating_add(coming.ahead()?))
        });
        let needs = follows.map_or(u64::MAX, |follows| follows.max(self.firm()));
        self.bytes().saturating_sub(needs)
    }

    fn cut(&mut self, bytes: u64) {
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }
}

/// Room for what may be kept of one upload, until its connection has ended.
#[derive(Debug)]
pub(in crate::receive) struct PartRoom {
    sums: Shared,
    part: PartKey,
    max_bytes: Option<u64>,
    coming: Arc<Coming>,
    /// It goes on at this byte.
    at: u64,
    /// There is room for the whole of it.
    pub(in crate::receive) is_for_whole: bool,
}

impl PartRoom {
    /// Takes the room for what has come, which is to be kept; false where there is none. What was
    /// kept before has its room.
    pub(in crate::receive) fn take(&self) -> bool {
        let mut sums = self.sums.lock();
        let bytes = self.at.saturating_add(self.coming.came());
        let reserved = sums
            .parts
            .get(&self.part)
            .map_or(0, |sum| sum.reserved_bytes);
        let fits = bytes <= reserved.max(self.at)
            || sums.lacks_for_part(&self.part, bytes, self.max_bytes) == 0;
        if !fits {
            return false;
        }
        sums.changed(&self.part, |sum| {
            let is_last = sum
                .coming
                .as_ref()
                .is_some_and(|it| Arc::ptr_eq(it, &self.coming));
            // What the last of its connections may bring is still to come.
            sum.reserved_bytes = if is_last { bytes } else { reserved.max(bytes) };
            sum.is_here |= is_last;
        });
        true
    }

    /// Reserves so much more behind what has come; false where there is no room for it.
    pub(in crate::receive) fn grow(&self, bytes: u64) -> bool {
        let mut sums = self.sums.lock();
        let all = self
            .at
            .saturating_add(self.coming.came())
            .saturating_add(bytes);
        let has_room = sums.make_room_for_part(&self.part, all, self.max_bytes);
        if has_room {
            sums.changed(&self.part, |sum| {
                sum.reserved_bytes = sum.reserved_bytes.max(all);
            });
        }
        has_room
    }

    /// Whether no other connection brings the same.
    pub(in crate::receive) fn is_alone(&self) -> bool {
        let sums = self.sums.lock();
        sums.parts
            .get(&self.part)
            .is_none_or(|sum| sum.writers == 1)
    }

    /// It broke off, and so much is kept.
    pub(in crate::receive) fn kept(self, bytes: u64) {
        if let Some(sum) = self.sums.lock().parts.get_mut(&self.part) {
            sum.kept_bytes = bytes;
        }
    }
}

impl Drop for PartRoom {
    fn drop(&mut self) {
        self.sums.lock().changed(&self.part, |sum| {
            sum.writers -= 1;
            if sum.writers == 0 {
                (sum.reserved_bytes, sum.is_here, sum.coming) = (0, false, None);
            }
        });
    }
}

impl StoreSums {
    pub(super) fn changed(&mut self, part: &PartKey, change: impl FnOnce(&mut PartSum)) {
        let sum = self.parts.entry(part.clone()).or_default();
        change(sum);
        sum.changed = self.walks;
        if sum.writers == 0 && sum.kept_bytes == 0 {
            self.parts.remove(part);
        }
    }

    /// What a walk has found, but for what has changed here since it began.
    pub(super) fn parts_found(&mut self, found: BTreeMap<PartKey, u64>) {
        let walks = self.walks;
        for (part, kept_bytes) in found {
            let sum = self.parts.entry(part).or_default();
            if sum.changed < walks {
                sum.kept_bytes = kept_bytes;
                // Marks what is there, for the next lines.
                sum.changed = walks;
            }
        }
        self.parts
            .retain(|_, sum| sum.changed == walks || sum.writers > 0);
    }

    /// What goes with the first bytes of this upload.
    pub(super) fn replaced_by(&self, room_for: RoomFor<'_>) -> u64 {
        let replaced = room_for.part().filter(|part| room_for.is_replaced(part));
        let sum = replaced.and_then(|part| self.parts.get(part));
        sum.filter(|sum| sum.writers == 0)
            .map_or(0, |sum| sum.kept_bytes)
    }

    /// How much too little there is for keeping so much of an upload, beside others.
    fn lacks_for_part(&self, part: &PartKey, bytes: u64, max_bytes: Option<u64>) -> u64 {
        let others = self.parts.iter().filter(|(other, _)| *other != part);
        let others = others.map(|(_, sum)| sum.bytes());
        let all = others.fold(bytes.max(LEAST_PART_BYTES), u64::saturating_add);
        max_bytes.map_or(0, |max_bytes| all.saturating_sub(max_bytes))
    }

    /// Makes room for a part by what others have announced; false where that is not enough, and
    /// nothing is changed then.
    fn make_room_for_part(&mut self, part: &PartKey, bytes: u64, max_bytes: Option<u64>) -> bool {
        let mut lacks = self.lacks_for_part(part, bytes, max_bytes);
        let mut cuts: Vec<(PartKey, u64)> = Vec::new();
        let others = || self.parts.iter().filter(|(other, _)| *other != part);
        for (other, sum) in others() {
            let cut = sum.idle().min(lacks);
            lacks -= cut;
            cuts.push((other.clone(), cut));
        }
        // What one host has beside what is firm, and may have.
        let firm = others().map(|(_, sum)| sum.firm());
        let firm = firm.fold(0, u64::saturating_add);
        let most = max_bytes.unwrap_or(u64::MAX).saturating_sub(firm) / 2;
        let mut of_host: BTreeMap<Option<&HostName>, u64> = BTreeMap::new();
        for ((other, sum), (_, cut)) in others().zip(&mut cuts) {
            let owner = other.owner.as_ref();
            if owner.is_some() && owner == part.owner.as_ref() {
                continue;
            }
            let announced = sum.bytes() - sum.firm() - *cut;
            let has = of_host.entry(owner).or_default();
            let may_have = announced.min(most - *has);
            let more = (announced - may_have).min(lacks);
            *has += may_have;
            *cut += more;
            lacks -= more;
        }
        if lacks > 0 {
            return false;
        }
        for (other, cut) in cuts {
            if let Some(sum) = self.parts.get_mut(&other) {
                sum.cut(cut);
            }
        }
        true
    }
}

impl StoreRoom {
    /// Room to keep what comes of an upload of this length that goes on at a byte, where there is
    /// any beside what is kept, and reserved, already. What was kept of it before has its room in
    /// any case.
    pub(in crate::receive) fn reserve_part(
        &self,
        part: &PartKey,
        bytes: u64,
        at: u64,
        promise: &Promise,
    ) -> Option<PartRoom> {
        self.wanted.notify_one();
        let mut sums = self.sums.lock();
        let others = || sums.parts.keys().filter(|other| *other != part);
        let of_host = others().filter(|other| other.owner == part.owner);
        let is_one_too_many =
            others().count() >= MOST_PARTS || of_host.count() >= MOST_PARTS_OF_HOST;
        let is_for_whole =
            !is_one_too_many && sums.make_room_for_part(part, bytes, self.parts_max_bytes);
        if !is_for_whole && at == 0 {
            return None;
        }
        let reserved_bytes = if is_for_whole { bytes } else { at };
        sums.changed(part, |sum| {
            sum.writers += 1;
            sum.begun_at = at;
            sum.kept_bytes = sum.kept_bytes.max(at);
            sum.reserved_bytes = sum.reserved_bytes.max(reserved_bytes);
            sum.coming = Some(Arc::clone(&promise.coming));
        });
        Some(PartRoom {
            sums: Arc::clone(&self.sums),
            part: part.clone(),
            max_bytes: self.parts_max_bytes,
            coming: Arc::clone(&promise.coming),
            at,
            is_for_whole,
        })
    }

    /// So much is kept of an upload, and of a connection of its that has been fenced off just now,
    /// where there is one; false where that has no room. What was kept otherwise stays.
    pub(in crate::receive) fn may_stay(&self, part: &PartKey, kept_bytes: u64) -> bool {
        let mut sums = self.sums.lock();
        let under_way = sums.parts.get(part).filter(|sum| sum.writers > 0);
        let came_beyond = under_way.is_some_and(|sum| kept_bytes > sum.bytes());
        if came_beyond && sums.lacks_for_part(part, kept_bytes, self.parts_max_bytes) > 0 {
            return false;
        }
        sums.changed(part, |sum| sum.kept_bytes = kept_bytes);
        true
    }

    /// So much is kept of an upload, as its store has it.
    pub(in crate::receive) fn part_is(&self, part: &PartKey, kept_bytes: u64) {
        self.sums
            .lock()
            .changed(part, |sum| sum.kept_bytes = kept_bytes);
    }

    /// What is kept, and not under way, of the same host's uploads of this id that are found by
    /// their plan.
    pub(in crate::receive) fn planned_beside(&self, part: &PartKey) -> Vec<PartKey> {
        let sums = self.sums.lock();
        let is_beside = |other: &PartKey, sum: &PartSum| {
            other.is_planned
                && (&other.key, &other.owner) == (&part.key, &part.owner)
                && other != part
                && sum.writers == 0
        };
        let parts = sums.parts.iter();
        let beside = parts.filter(|(other, sum)| is_beside(other, sum));
        beside.map(|(other, _)| other.clone()).collect()
    }

    /// Nothing is kept of an upload any more.
    pub(in crate::receive) fn part_gone(&self, part: &PartKey) {
        self.part_is(part, 0);
    }
}
