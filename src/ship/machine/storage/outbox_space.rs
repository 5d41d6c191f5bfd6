//! Room: what a packing needs in the outbox, what the recorder keeps, and what follows where there
//! is too little.
//!
//! ```text
//!  Pack ──▶ room for the most that it can become? ──yes──▶ packed into the outbox;
//!              │                                           what is not written yet stays reserved
//!              │                                             └──ENOSPC, EDQUOT──▶ for a while
//!              │                                                  nothing more is written there
//!              no: free − reserved by others − min_free_bytes is less
//!              └──▶ ComputeDigest: packed into nothing, and packed again into each upload
//! ```
//!
//! The episodes and the uploads are not held up by that: what is sent is what makes room.

use std::fmt;

use crate::ship::outcome::MAX_ANSWER_BYTES;

/// A tar header, and the extended header that long names, sizes and times may take (PAX: header,
/// records, padding). Fixed by the format.
const MEMBER_BYTES: u64 = 3 * 512;
/// What is around it: most of all the sidecar, which may keep an answer of the receiver.
const AROUND_BYTES: u64 = MAX_ANSWER_BYTES as u64;
/// What is kept for recorders where the configuration does not say how much: time to send something
/// and remove it. Of a small disk, a tenth. Promised in docs/configuration.md: "1 GiB; of a file
/// system under 10 GiB, a tenth".
const MIN_FREE_BYTES: u64 = 1 << 30;
/// zstd stores what it cannot compress, with some bytes a block. Fixed by zstd's own bound
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
