//! Small files that are kept for a full disk: a record that is written over one takes no room.
//!
//! ```text
//!  keep_spares        <spares>0 ... <spares>7: 4 KiB each, written with zeros,
//!                       so that their blocks are theirs
//!  a record, ENOSPC   spare n ▸ renamed to the record's scratch ▸ written over
//!                       ▸ cut to its length ▸ on as any other
//!  make_spare         what is not wanted any more ▸ renamed to a spare that is missing
//!                       ▸ zeros, cut to 4 KiB
//!  over_a_record      an earlier record of the same name ▸ renamed to the new one's scratch
//!                       ▸ written over ▸ on as any other
//! ```
//!
//! A recorder that waits for room takes whatever comes free at once. So nothing is removed to make
//! room for a record, which is what has to be written before anything can be removed; and what is
//! removed anyway becomes a spare first, where one is missing.
//!
//! Spares are told by the beginnings of their paths. Only one on the record's own mount is of use:
//! rename(2) goes no further.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Published, create_scratch, remove_file, rename_file_noreplace};
use crate::disk::lookup::{self, if_there};

/// Two for each move that may be under way at once.
const SPARES: usize = 8;
/// A block of most file systems, and more than most records have.
const SPARE_BYTES: usize = 4096;
/// What stat(2) counts blocks in, bytes.
const STAT_BLOCK_BYTES: u64 = 512;

/// Makes the spares that are missing.
///
/// # Errors
/// Those of writing: the disk is full already, perhaps.
pub(crate) fn keep_spares(spares: &Path) -> io::Result<()> {
    for n in 0..SPARES {
        let path = numbered(spares, n);
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

/// Makes a file that is not wanted any more the first spare that is missing on its mount. False
/// where none is, or where it is none that can be one: not a file of ours, with no block of its
/// own, or with another name somewhere. Then it is where it was.
///
/// # Errors
/// Those of looking at it. What it held may be gone.
pub(crate) fn make_spare(path: &Path, spares: &[PathBuf]) -> io::Result<bool> {
    let Some(mut file) = if_there(lookup::options().write(true).open(path))? else {
        return Ok(false);
    };
    let found = file.metadata()?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    let has_a_block = found.blocks() * STAT_BLOCK_BYTES >= SPARE_BYTES as u64;
    if !(found.is_file() && ours && has_a_block && found.nlink() == 1) {
        return Ok(false);
    }
    let Some(spare) = spares
        .iter()
        .find_map(|spares| take_a_missing_name(path, spares).transpose())
    else {
        return Ok(false);
    };
    let spare = spare?;
    let Some(spare) = spare else { return Ok(false) };
    // In place, over the blocks that it has; then what it does not need is free.
    let written = file
        .write_all(&[0; SPARE_BYTES])
        .and_then(|()| file.set_len(SPARE_BYTES as u64));
    if written.is_err() {
        remove_file(&spare)?;
    }
    Ok(written.is_ok())
}

/// `None` where these are on another mount; `Some(None)` where each is there.
fn take_a_missing_name(path: &Path, spares: &Path) -> io::Result<Option<Option<PathBuf>>> {
    for n in 0..SPARES {
        let spare = numbered(spares, n);
        if std::fs::symlink_metadata(&spare).is_ok() {
            continue;
        }
        match rename_file_noreplace(path, &spare) {
            Ok(Published::Done) => return Ok(Some(Some(spare))),
            Ok(Published::NameTaken) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(None))
}

/// Scratch with these bytes in it; on a full disk, in the place of a spare, where there is one on
/// the same mount.
pub(super) fn write_scratch(path: &Path, bytes: &[u8], spares: &[PathBuf]) -> io::Result<File> {
    let written = create_scratch(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
    match written {
        Err(error) if is_full(&error) && !spares.is_empty() => {
            remove_file(path)?;
            over_a_spare(path, bytes, spares)?.ok_or(error)
        }
        written => written,
    }
}

/// Puts away scratch whose record came to nothing: where it was a spare, it is one again.
pub(super) fn give_up(scratch: &Path, spares: &[PathBuf]) {
    if !matches!(make_spare(scratch, spares), Ok(true)) {
        // The first error is the one to report; scratch that stays is swept at the next start.
        let _ = remove_file(scratch);
    }
}

fn over_a_spare(path: &Path, bytes: &[u8], spares: &[PathBuf]) -> io::Result<Option<File>> {
    for spare in spares
        .iter()
        .flat_map(|spares| (0..SPARES).map(|n| numbered(spares, n)))
    {
        // Several may want one at once: it is whose the rename is.
        if std::fs::rename(spare, path).is_err() {
            continue;
        }
        let mut file = lookup::options().write(true).open(path)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.rewind()?;
        return Ok(Some(file));
    }
    Ok(None)
}

/// Scratch with these bytes in it, in the place of a record that need not be there meanwhile.
/// `None` where that one is not ours alone, or has too little room.
pub(super) fn over_a_record(
    record: &Path,
    scratch: &Path,
    bytes: &[u8],
    spares: &[PathBuf],
) -> io::Result<Option<File>> {
    let Ok(mut file) = lookup::options().write(true).open(record) else {
        return Ok(None);
    };
    let found = file.metadata()?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if !(found.is_file() && ours && found.nlink() == 1) {
        return Ok(None);
    }
    std::fs::rename(record, scratch)?;
    match file
        .write_all(bytes)
        .and_then(|()| file.set_len(bytes.len() as u64))
    {
        Ok(()) => Ok(Some(file)),
        Err(_) => {
            give_up(scratch, spares);
            Ok(None)
        }
    }
}

/// Whether this is for want of room: of the disk, or of our share of it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn numbered(spares: &Path, n: usize) -> PathBuf {
    let mut path = OsString::from(spares);
    path.push(n.to_string());
    path.into()
}
