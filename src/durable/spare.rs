//! Small files that are kept for a full disk: a record that is written over one takes no room.
//!
//! ```text
//!  keep_spares        <folder>/spare-0 ... spare-7      4 KiB each, written with zeros, so that their blocks are theirs
//!  a record, ENOSPC   spare-n ▸ renamed to the record's scratch ▸ written over ▸ cut to its length ▸ on as any other
//! ```
//!
//! A recorder that waits for room takes whatever comes free at once. So nothing is removed to make room for a record, which is
//! what has to be written before anything can be removed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

use super::{create_scratch, remove_file};

/// Two for each move that may be under way at once.
const SPARES: usize = 8;
/// A block of most file systems, and more than most records have.
const SPARE_BYTES: usize = 4096;

/// Makes the spares that are missing.
///
/// # Errors
/// Those of writing: the disk is full already, perhaps.
pub fn keep_spares(folder: &Path) -> io::Result<()> {
    for n in 0..SPARES {
        let path = folder.join(name(n));
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.len() == SPARE_BYTES as u64) {
            continue;
        }
        let written = create_scratch(&path).and_then(|mut file| {
            file.write_all(&[0; SPARE_BYTES])?;
            file.sync_all()
        });
        if written.is_err() {
            let _ = remove_file(&path);
            return written;
        }
    }
    Ok(())
}

/// Scratch with these bytes in it; on a full disk, in the place of a spare, where there is one on the same file system.
pub(super) fn write_scratch(path: &Path, bytes: &[u8], spares: Option<&Path>) -> io::Result<File> {
    let written = create_scratch(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
    match (written, spares) {
        (Err(error), Some(spares)) if is_full(&error) => {
            remove_file(path)?;
            over_a_spare(path, bytes, spares)?.ok_or(error)
        }
        (written, _) => written,
    }
}

fn over_a_spare(path: &Path, bytes: &[u8], spares: &Path) -> io::Result<Option<File>> {
    for n in 0..SPARES {
        // Several may want one at once: it is whose the rename is.
        if std::fs::rename(spares.join(name(n)), path).is_err() {
            continue;
        }
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.rewind()?;
        return Ok(Some(file));
    }
    Ok(None)
}

/// Whether this is for want of room: of the disk, or of our share of it.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn name(n: usize) -> String {
    format!("spare-{n}")
}
