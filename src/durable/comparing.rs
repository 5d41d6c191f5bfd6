//! Is one directory the copy that [`super::copying`] made of another?
//!
//! ```text
//!  source ──walk──▶ digest over paths, kinds, modes, sizes, mtimes, targets ──┐
//!  copy   ──walk──▶ the same                                                  ├─ equal? then once more, with contents
//! ```
//!
//! Our own records are not compared, since they may have been written anew: the copy only has to have those that the source
//! has. Whatever cannot be read is no copy, and is copied once more: that costs a name, and no byte.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{
    episode::Digest,
    layout::{REASON, RECEIPT, without_number},
    progress::Progress,
    tree::{self, Kind, TreeError, to_path},
};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Memory: a buffer, and what a walk takes.
///
/// # Errors
/// Only that it was told to stop.
pub(super) fn is_copy(source: &Path, copy: &Path, progress: &Progress) -> io::Result<bool> {
    match compare(source, copy, progress) {
        Err(TreeError::Cancelled(cancelled)) => Err(io::Error::other(cancelled)),
        compared => Ok(compared.unwrap_or(false)),
    }
}

fn compare(source: &Path, copy: &Path, progress: &Progress) -> Result<bool, TreeError> {
    let records = records_of(source, progress)?;
    // The second reads everything, which a directory that merely has the name is seldom worth.
    Ok(records.iter().all(|name| copy.join(name).is_file())
        && digest(source, false, progress)? == digest(copy, false, progress)?
        && digest(source, true, progress)? == digest(copy, true, progress)?)
}

fn records_of(directory: &Path, progress: &Progress) -> Result<Vec<OsString>, TreeError> {
    let unread = |source| TreeError::Io { path: to_path(b""), source };
    let names = fs::read_dir(directory).and_then(|entries| {
        let entries = entries.inspect(|_| progress.step());
        entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
    });
    let is_record =
        |name: &OsString| name.to_str().is_some_and(|name| [RECEIPT, REASON].contains(&without_number(name)));
    Ok(names.map_err(unread)?.into_iter().filter(is_record).collect())
}

/// Over what a copy keeps: no inodes, no ctimes, no owner, and mtimes in whole seconds, for the file systems that have
/// no finer ones. Sockets and devices are left out of a copy.
fn digest(directory: &Path, with_contents: bool, progress: &Progress) -> Result<Digest, TreeError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    tree::walk(directory, progress, |entry| -> Result<(), TreeError> {
        let (size_bytes, mtime, target) = match &entry.kind {
            Kind::Left(_) | Kind::Special("socket" | "device") => return Ok(()),
            Kind::Directory | Kind::Special(_) => (0, 0, &b""[..]),
            Kind::Symlink(target) => (0, 0, *target),
            Kind::File(_) => (entry.stat.size_bytes, entry.stat.mtime.0, &b""[..]),
        };
        for text in [entry.path, target] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        hasher.update(entry.stat.mode.to_le_bytes());
        hasher.update(size_bytes.to_le_bytes());
        hasher.update(mtime.to_le_bytes());
        if let Kind::File(closed) = &entry.kind
            && with_contents
        {
            let unread = |source| TreeError::Io { path: to_path(entry.path), source };
            let mut file = closed.open()?.take(size_bytes);
            loop {
                progress.check()?;
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => {
                        hasher.update(&buffer[..read]);
                        progress.advance(read as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(unread(error)),
                }
            }
        }
        Ok(())
    })?;
    Ok(hasher.into())
}
