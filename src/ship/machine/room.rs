//! Room: what a packing needs in the outbox, what the recorder keeps, and what follows where there
//! is too little.
//!
//! ```text
//!  Pack ──▶ room for the most that it can become? ──yes──▶ packed into the outbox;
//!              │                                           what is not written yet stays reserved
//!              │                                             └──ENOSPC, EDQUOT──▶ for a while
//!              │                                                  nothing more is written there
//!              no: free − reserved by others − min_free_bytes is less
//!              └──▶ Measure: packed into nothing, and packed again into each upload
//! ```
//!
//! The episodes and the uploads are not held up by that: what is sent is what makes room.

use std::{fmt, time::Duration};

use super::{
    Effect, Notice,
    backoff::LOCAL,
    queue::Machine,
    state::{AfterRest, Episode, State, TriedNote},
};
use crate::model::episode::EpisodeId;

/// A tar header, and the extended header that long names, sizes and times may take (PAX: header,
/// records, padding).
const MEMBER_BYTES: u64 = 3 * 512;
/// Both ends of the streams, the sidecar, and what a file system takes for names.
const AROUND_BYTES: u64 = 64 * 1024;
/// What is kept for recorders where the configuration does not say how much: time to send something
/// and remove it. Of a small disk, a tenth.
const MIN_FREE_BYTES: u64 = 1 << 30;
/// zstd stores what it cannot compress, with some bytes a block; so much is its own bound
/// (`ZSTD_COMPRESSBOUND`).
const COMPRESSION_GAIN_SHIFT: u32 = 8;

/// What a file system says of itself, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxSpace {
    /// For us: what root has in reserve does not count.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// The most that an archive can become, summed up entry by entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need(u64);

/// Why a packing has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// What it might need.
    pub need_bytes: u64,
    /// What is free, and not reserved by others.
    pub left_bytes: u64,
    /// What of that is the recorder's.
    pub kept_bytes: u64,
}

/// Whether the outbox has turned out to be full.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    until: Option<Duration>,
    failures: u32,
}

impl Need {
    /// One more entry, with the length of its path and, for a file, its size.
    pub fn entry(&mut self, path_bytes: usize, size_bytes: u64) {
        let path_bytes = 2 * path_bytes as u64;
        self.0 = self
            .0
            .saturating_add(size_bytes.saturating_add(MEMBER_BYTES + 512 + path_bytes));
    }

    /// Compressed, and with what is around it.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
            .saturating_add(self.0 >> COMPRESSION_GAIN_SHIFT)
            .saturating_add(AROUND_BYTES)
    }
}

/// Whether there is room for so much more, beside what others have reserved and not written yet,
/// and what is kept for the recorder.
///
/// # Errors
/// [`Short`], with the figures.
pub fn fits(
    need_bytes: u64,
    reserved_bytes: u64,
    space: OutboxSpace,
    min_free_bytes: Option<u64>,
) -> Result<(), Short> {
    let kept_bytes = min_free_bytes.unwrap_or(MIN_FREE_BYTES.min(space.total_bytes / 10));
    let left_bytes = space.free_bytes.saturating_sub(reserved_bytes);
    if need_bytes
        .checked_add(kept_bytes)
        .is_some_and(|wanted| wanted <= left_bytes)
    {
        Ok(())
    } else {
        Err(Short {
            need_bytes,
            left_bytes,
            kept_bytes,
        })
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            need_bytes,
            left_bytes,
            kept_bytes,
        } = self;
        write!(
            f,
            "it may need {need_bytes} bytes in the outbox, where {left_bytes} are free and {kept_bytes} are to stay free for \
             recorders"
        )
    }
}

impl Machine {
    /// No surprise: there was no room to reserve. It goes on at once, without a copy.
    pub(super) fn no_room(&mut self, id: &EpisodeId, why: String) {
        self.feel_pressure();
        self.tell(Notice::NoRoom(id.clone(), why));
        self.measure(id);
    }

    /// Room was reserved, and was not there: another process took it, or there is a quota. No other
    /// episode needs to run into that.
    pub(super) fn outbox_full(&mut self, id: &EpisodeId, why: String, now: Duration) {
        self.feel_pressure();
        self.full.failures = self.full.failures.saturating_add(1);
        let wait = self.jitter.wait(LOCAL, self.full.failures);
        if self.full.until.is_none_or(|until| until <= now) {
            self.tell(Notice::OutboxFull(why, wait));
        }
        self.full.until = self.full.until.max(Some(now + wait));
        self.measure(id);
    }

    /// An archive was written: there is room.
    pub(super) fn outbox_works(&mut self) {
        self.full = Fullness::default();
        self.outbox_failed = None;
        self.outbox_failures = 0;
    }

    /// The outbox itself is at fault, it seems. It may be one file in it: only two different ones
    /// in a row speak for the folder.
    pub(super) fn outbox_at_fault(&mut self, id: &EpisodeId, why: String, now: Duration) {
        let before = self.outbox_failed.replace(id.clone());
        if before.is_some_and(|other| other != *id) {
            self.outbox_failures += 1;
            let wait = self.jitter.wait(LOCAL, self.outbox_failures);
            self.packing_paused_until = Some(now + wait);
            self.tell(Notice::PackingPaused(why.clone(), wait));
        }
        self.stuck(id, AfterRest::Pack, why, now);
    }

    fn measure(&mut self, id: &EpisodeId) {
        self.goes_without_copy(id);
        self.enter(id, State::Sealed);
    }

    /// It is packed next time into nothing.
    pub(super) fn goes_without_copy(&mut self, id: &EpisodeId) {
        if let Some(episode) = self.episodes.get_mut(id) {
            episode.short = true;
        }
    }

    /// One that is to be packed anew: into the outbox, or where that has no room, into nothing; no
    /// further than `most_bytes`.
    pub(super) fn pack(&mut self, id: EpisodeId, most_bytes: Option<u64>, now: Duration) {
        let full = self.full.until.is_some_and(|until| now < until);
        let Some(episode) = self.episodes.get_mut(&id) else {
            return;
        };
        // What was known of the old archive is not true of the new one.
        episode.durable = false;
        episode.spoiled = false;
        episode.suspect = false;
        episode.conflict = None;
        episode.kept_bytes = 0;
        episode.noted = TriedNote::No;
        episode.without_copy = std::mem::take(&mut episode.short) || full;
        // A process before this one may have sent a part of it, and nothing in the outbox tells.
        episode.may_be_kept |= episode.without_copy;
        let (without_copy, open_files) = (episode.without_copy, episode.open_files);
        self.enter(&id, State::Packing);
        let step = if without_copy {
            Effect::Measure {
                id,
                most_bytes,
                open_files,
            }
        } else {
            Effect::Pack {
                id,
                most_bytes,
                open_files,
            }
        };
        self.now_do(step);
    }
}

impl Episode {
    /// Whether there is something to look at before it is packed again: its archive in the outbox,
    /// or what was measured.
    pub(super) fn has_archive(&self) -> bool {
        self.durable || self.without_copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(free_bytes: u64, total_bytes: u64) -> OutboxSpace {
        OutboxSpace {
            free_bytes,
            total_bytes,
        }
    }

    #[test]
    fn room_is_what_is_free_less_what_others_have_reserved_and_the_recorders_share() {
        for (need, reserved, free, total, min_free, is_room) in [
            (10, 0, 10, 1000, 0, true),
            (11, 0, 10, 1000, 0, false),
            (10, 1, 10, 1000, 0, false),
            (10, 0, 20, 1000, 10, true),
            (10, 0, 20, 1000, 11, false),
            (10, 5, 25, 1000, 10, true),
            (10, 6, 25, 1000, 10, false),
            // Numbers from a file system that knows no bound do not wrap.
            (u64::MAX, 0, u64::MAX, u64::MAX, 1, false),
            (1, u64::MAX, u64::MAX, u64::MAX, 0, false),
        ] {
            let found = fits(need, reserved, space(free, total), Some(min_free));
            assert_eq!(
                found.is_ok(),
                is_room,
                "{need} {reserved} {free} {total} {min_free}: {found:?}"
            );
        }
    }

    #[test]
    fn where_nobody_said_how_much_a_gibibyte_is_kept_and_of_a_small_disk_a_tenth() {
        let kept = |total| {
            fits(u64::MAX, 0, space(total, total), None)
                .unwrap_err()
                .kept_bytes
        };
        assert_eq!(kept(1 << 40), 1 << 30);
        assert_eq!(kept(10 << 30), 1 << 30);
        assert_eq!(kept(640 * MIB), 64 * MIB);
        assert_eq!(kept(0), 0);
    }

    #[test]
    fn what_is_estimated_is_no_less_than_what_can_come_of_it() {
        let mut need = Need::default();
        assert_eq!(need.bytes(), AROUND_BYTES);
        need.entry(10, 0);
        need.entry(300, 1_000_000);
        // Two headers, an extended one, the padding, and the bytes as they are.
        assert!(need.bytes() > 1_000_000 + 3 * 512 + 512 + 300 + AROUND_BYTES);
        need.entry(10, u64::MAX);
        assert_eq!(need.bytes(), u64::MAX);
    }

    #[test]
    fn the_figures_are_said() {
        let short = fits(40, 10, space(50, 100), Some(7)).unwrap_err();
        let words = "it may need 40 bytes in the outbox, where 40 are free and 7 are to stay free for recorders";
        assert_eq!(short.to_string(), words);
    }
}
