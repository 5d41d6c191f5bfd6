//! What was shipped of late: how much of it today, and under which names. `shipped/` is listed
//! once, and what was seen there is not looked at again.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::{record_files, scan, tree};
use crate::model::{layout::without_number, records::WallTime, text::folded};

const DAY_S: i64 = 24 * 3600;

const HOUR_S: i64 = 3600;

/// What was shipped of late. What no look sees a second time takes 8 bytes each.
#[derive(Debug, Default)]
pub(crate) struct ShippedLately {
    /// What was seen in `shipped/`, by a digest of each folder's name; and what is in its receipt,
    /// where that is of today.
    seen: HashMap<u64, Option<LateDelivery>>,
    /// `shipped/` was listed, and is not again: from then on each is noted once.
    is_settled: bool,
    /// By the hour in which it was delivered, UTC.
    hours: BTreeMap<i64, DeliveredInHour>,
}

#[derive(Debug, Default)]
struct DeliveredInHour {
    count: u64,
    bytes: u64,
    /// A digest of each name.
    names: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct LateDelivery {
    /// A digest of the name without the number that a second folder of that name has.
    name: u64,
    at_s: i64,
    bytes: u64,
}

impl LateDelivery {
    fn of(folder: &OsStr, at: WallTime, bytes: u64) -> Self {
        Self {
            name: digest(without_number(&folded(&folder.to_string_lossy()))),
            at_s: at.unix_seconds(),
            bytes,
        }
    }
}

impl ShippedLately {
    /// Looks into `shipped/` for what was delivered since midnight, UTC. Blocks.
    ///
    /// # Errors
    /// Those of listing the folder, in words.
    pub(crate) fn look(&mut self, shipped: &Path, now: WallTime) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", tree::shown(shipped));
        let before = std::mem::take(&mut self.seen);
        for entry in fs::read_dir(shipped).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !scan::is_episode(&entry) {
                continue;
            }
            let key = digest(entry.file_name());
            let delivered = match before.get(&key) {
                Some(seen) => *seen,
                None => match delivered(&entry, midnight(now)) {
                    // Its receipt may be on its way.
                    SeenLately::NotYet => continue,
                    SeenLately::Long => None,
                    SeenLately::Delivered(delivered) => Some(delivered),
                },
            };
            self.seen.insert(key, delivered);
        }
        Ok(())
    }

    /// One has just been moved there.
    pub(crate) fn note(&mut self, folder: &OsStr, bytes: u64, now: WallTime) {
        let delivered = LateDelivery::of(folder, now, bytes);
        if self.is_settled {
            self.file(delivered);
        } else {
            self.seen.insert(digest(folder), Some(delivered));
        }
    }

    /// `shipped/` is not looked into again: only counts and names are kept.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
        let seen = std::mem::take(&mut self.seen);
        for delivered in seen.into_values().flatten() {
            self.file(delivered);
        }
        for hour in self.hours.values_mut() {
            hour.names.shrink_to_fit();
        }
    }

    fn file(&mut self, delivered: LateDelivery) {
        let hour = delivered.at_s.div_euclid(HOUR_S);
        if !self.hours.contains_key(&hour)
            && let Some(mut last) = self.hours.last_entry()
        {
            last.get_mut().names.shrink_to_fit();
        }
        let hour = self.hours.entry(hour).or_default();
        hour.count += 1;
        hour.bytes += delivered.bytes;
        hour.names.push(delivered.name);
    }

    /// Takes what a look has seen, but where more is known already; and forgets what is long ago.
    pub(crate) fn join(&mut self, seen: Self, now: WallTime) {
        for (folder, delivered) in seen.seen {
            self.seen.entry(folder).or_insert(delivered);
        }
        self.forget(now);
    }

    /// Forgets what was delivered more than a day ago; of what is settled by the hour.
    pub(crate) fn forget(&mut self, now: WallTime) {
        let is_late = |seen: LateDelivery| now.unix_seconds() - seen.at_s <= DAY_S;
        self.seen.retain(|_, seen| seen.is_some_and(is_late));
        let ended = |hour: i64| now.unix_seconds() - (hour + 1) * HOUR_S > DAY_S;
        self.hours.retain(|hour, _| !ended(*hour));
    }

    /// How many were delivered since midnight, UTC, and their archives' length.
    pub(crate) fn today(&self, now: WallTime) -> (u64, u64) {
        let midnight = midnight(now);
        let seen = self.seen.values().flatten();
        let seen = seen
            .filter(|delivered| delivered.at_s >= midnight)
            .map(|delivered| (1, delivered.bytes));
        let hours = self.hours.range(midnight.div_euclid(HOUR_S)..);
        let hours = hours.map(|(_, hour)| (hour.count, hour.bytes));
        seen.chain(hours)
            .fold((0, 0), |(count, bytes), (n, length)| {
                (count + n, bytes + length)
            })
    }

    /// Whether one of this name may have been. Another name has the same digest once in an age.
    pub(crate) fn may_have(&self, id: &str) -> bool {
        let name = digest(without_number(&folded(id)));
        let mut seen = self.seen.values().flatten();
        seen.any(|delivered| delivered.name == name)
            || self.hours.values().any(|hour| hour.names.contains(&name))
    }
}

fn midnight(now: WallTime) -> i64 {
    now.unix_seconds() - now.unix_seconds().rem_euclid(DAY_S)
}

fn digest(name: impl AsRef<OsStr>) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.as_ref().hash(&mut hasher);
    hasher.finish()
}

enum SeenLately {
    NotYet,
    Long,
    Delivered(LateDelivery),
}

/// The receipt is written into the folder, which changes that: what is older holds none of today's,
/// and none is read.
fn delivered(entry: &fs::DirEntry, midnight: i64) -> SeenLately {
    let Ok(metadata) = entry.metadata() else {
        return SeenLately::NotYet;
    };
    if metadata.mtime() < midnight {
        return SeenLately::Long;
    }
    match record_files::receipt(&entry.path()) {
        Ok(Some(receipt)) => SeenLately::Delivered(LateDelivery::of(
            &entry.file_name(),
            receipt.delivered_at_wall,
            receipt.size_bytes,
        )),
        Ok(None) | Err(_) => SeenLately::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::records::ShippingReceipt;

    fn ship(shipped: &Path, id: &str, at: i64) {
        let path = shipped.join(id);
        fs::create_dir(&path).unwrap();
        let receipt = ShippingReceipt {
            delivered_at_wall: WallTime::from_unix_seconds(at),
            ..ShippingReceipt::example(id)
        };
        record_files::write_receipt(&path, &receipt, &[]).unwrap();
    }

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_seconds(seconds)
    }

    fn look(lately: &mut ShippedLately, shipped: &Path, now: i64) -> Result<(u64, u64), String> {
        lately.look(shipped, at(now))?;
        Ok(lately.today(at(now)))
    }

    #[test]
    fn today_begins_at_midnight() {
        let shipped = tempfile::tempdir().unwrap();
        let now = crate::clock::wall_now().unix_seconds();
        let midnight = now - now.rem_euclid(DAY_S);
        ship(shipped.path(), "just-now", now);
        ship(shipped.path(), "at-midnight", midnight);
        ship(shipped.path(), "before", midnight - 1);
        fs::create_dir(shipped.path().join("without-a-receipt")).unwrap();
        let mut lately = ShippedLately::default();
        assert_eq!(look(&mut lately, shipped.path(), now), Ok((2, 20)));
        assert_eq!(
            look(&mut lately, shipped.path(), midnight + DAY_S),
            Ok((0, 0))
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test removes what it made")]
    fn what_was_seen_is_not_read_again_and_what_went_is_not_counted() {
        let shipped = tempfile::tempdir().unwrap();
        let now = crate::clock::wall_now().unix_seconds();
        ship(shipped.path(), "a", now);
        ship(shipped.path(), "b", now);
        let late = shipped.path().join("late");
        fs::create_dir(&late).unwrap();
        let mut lately = ShippedLately::default();
        assert_eq!(look(&mut lately, shipped.path(), now), Ok((2, 20)));
        fs::remove_file(shipped.path().join("a/shipping_receipt.json")).unwrap();
        assert_eq!(
            look(&mut lately, shipped.path(), now),
            Ok((2, 20)),
            "it was read again"
        );
        fs::remove_dir_all(shipped.path().join("b")).unwrap();
        assert_eq!(look(&mut lately, shipped.path(), now), Ok((1, 10)));
        fs::remove_dir(late).unwrap();
        ship(shipped.path(), "late", now);
        assert_eq!(look(&mut lately, shipped.path(), now), Ok((2, 20)));
        fs::remove_dir_all(shipped.path()).unwrap();
        assert!(look(&mut lately, shipped.path(), now).is_err());
    }

    #[test]
    fn what_was_noted_is_counted_once_whatever_a_look_sees_of_it() {
        let shipped = tempfile::tempdir().unwrap();
        let now = crate::clock::wall_now().unix_seconds();
        ship(shipped.path(), "a", now);
        ship(shipped.path(), "b", now);
        let (mut lately, mut seen) = (ShippedLately::default(), ShippedLately::default());
        lately.note("b".as_ref(), 10, at(now));
        lately.note("run-1~1".as_ref(), 10, at(now));
        seen.look(shipped.path(), at(now)).unwrap();
        lately.join(seen, at(now));
        assert_eq!(lately.today(at(now)), (3, 30));
        // Settled, it says the same, and takes what is noted from then on.
        lately.settle();
        assert_eq!(lately.today(at(now)), (3, 30));
        lately.note("later".as_ref(), 5, at(now));
        assert_eq!(lately.today(at(now)), (4, 35));
        assert!(lately.seen.is_empty() && lately.may_have("later"));
        for (id, may_have) in [
            ("a", true),
            ("run-1", true),
            ("run-1~1", true),
            ("run", false),
        ] {
            assert_eq!(lately.may_have(id), may_have, "{id}");
        }
        lately.forget(at(now + DAY_S - HOUR_S));
        assert!(lately.may_have("a"));
        lately.forget(at(now + DAY_S + HOUR_S + 1));
        assert!(!lately.may_have("a"));
        assert_eq!(lately.today(at(now + DAY_S)), (0, 0));
    }
}
