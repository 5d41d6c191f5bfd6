//! Room in a file system: what it says is free, and what of it is promised already.
//! `machine/storage/outbox_space.rs` decides.
//!
//! ```text
//!  reserve ──▶ [ reserved, not written yet ........ ]     others count it
//!  write   ──▶ [ on the disk | reserved ........... ]     the file system counts the one,
//!                                                         others the rest
//!  end     ──▶ [ on the disk ]
//! ```

use std::{
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    archive::Sink,
    machine::storage::outbox_space::{OutboxSpace, Short, fits},
};
use crate::{
    disk::{durable, filesystem::used_up, record_files::TYPE, tree::shown},
    model::{
        episode::Digest,
        records::ArchiveFacts,
        text::{as_text, word},
    },
};

/// What is reserved in one folder's file system. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room(Arc<AtomicU64>);

/// Room for one packing, until it is written or given up.
#[derive(Debug)]
pub(crate) struct Reservation {
    reserved: Arc<AtomicU64>,
    left_bytes: u64,
}

impl Room {
    /// Reserves so much.
    ///
    /// # Errors
    /// In the outer result those of statvfs(3); in the inner one, that there is too little.
    pub(crate) fn reserve(
        &self,
        folder: &Path,
        bytes: u64,
        min_free_bytes: Option<u64>,
    ) -> io::Result<Result<Reservation, Short>> {
        // First taken and then compared, so that of two who ask at once not both get the last of
        // it.
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Reservation {
            reserved: Arc::clone(&self.0),
            left_bytes: bytes,
        };
        Ok(fits(bytes, before, space(folder)?, min_free_bytes).map(|()| reservation))
    }
}

impl Reservation {
    /// So much of it is on the disk now.
    fn took(&mut self, bytes: u64) {
        let taken = bytes.min(self.left_bytes);
        self.left_bytes -= taken;
        self.reserved.fetch_sub(taken, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.took(u64::MAX);
    }
}

/// Writes into what was reserved.
#[derive(Debug)]
pub(crate) struct Reserved<S> {
    sink: S,
    room: Reservation,
}

impl<S> Reserved<S> {
    /// From its first byte on.
    #[must_use]
    pub(crate) fn new(sink: S, room: Reservation) -> Self {
        Self { sink, room }
    }
}

impl<S: Write> Write for Reserved<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.room.took(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl<S: Sink> Sink for Reserved<S> {
    fn finish(self, content_sha256: Digest) -> ArchiveFacts {
        self.sink.finish(content_sha256)
    }
}

/// What follows where an episode cannot be moved to a folder for want of room, and what to type.
pub(crate) fn moves_later(error: &io::Error, episodes: &Path, folder: &Path) -> String {
    let there = word(as_text(folder));
    if durable::room_needed(error).is_some() {
        let df = if durable::lacks_inodes(error) {
            "df -i"
        } else {
            "df -H"
        };
        let never = if durable::exceeds_the_disk(error) {
            " That is more than the whole disk holds: give it a larger one, or set another folder."
        } else {
            ""
        };
        return format!(".{never} It moves by itself when there is room. {TYPE}{df} {there}");
    }
    let (of_folder, of_episodes) = (used_up(folder, error), used_up(episodes, error));
    let what = if of_folder.is_empty() {
        of_episodes
    } else {
        of_folder
    };
    format!(
        "{what}. Its record takes a few KiB on the disk of episodes/, and a copy of it as much as it has on the disk of {}. It moves by \
         itself when there is room. {TYPE}df -H {} {there}",
        shown(folder),
        word(as_text(episodes))
    )
}

/// What a folder's file system says.
///
/// # Errors
/// Those of statvfs(3).
pub(crate) fn space(folder: &Path) -> io::Result<OutboxSpace> {
    let stat = rustix::fs::statvfs(folder)?;
    // f_bavail and not f_bfree: what root has in reserve is not for us.
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(OutboxSpace {
        free_bytes: bytes(stat.f_bavail),
        total_bytes: bytes(stat.f_blocks),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::archive::on_demand::Nowhere;

    #[test]
    fn packings_that_run_at_once_count_each_others_reservations_less_what_is_written() {
        let folder = std::env::temp_dir();
        let most = space(&folder).unwrap().free_bytes / 4 * 3;
        let room = Room::default();
        let reserve = |bytes| room.reserve(&folder, bytes, Some(0)).unwrap();
        let first = reserve(most).unwrap();
        let short = reserve(most).unwrap_err();
        assert!(short.left_bytes < most, "{short:?}");
        // What was refused is not counted.
        assert!(reserve(1000).is_ok());

        let mut writer = Reserved::new(Nowhere::default(), first);
        writer.write_all(b"written").unwrap();
        assert_eq!(room.0.load(Ordering::Relaxed), most - 7);
        let facts = writer.finish(Digest::of(b"tar"));
        assert_eq!(
            (facts.size_bytes, facts.sha256),
            (7, Digest::of(b"written"))
        );
        assert_eq!(room.0.load(Ordering::Relaxed), 0);
        assert!(reserve(most).is_ok());
    }
}
