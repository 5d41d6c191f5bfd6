//! Is one directory the copy that [`super::copy_tree`] made of another?
//!
//! ```text
//!  source ──walk──▶ digest over paths, kinds, sizes, targets, attributes ──┐
//!  copy   ──walk──▶ the same ──────────────────────────────────────────────┴─▶ equal? then again,
//!                                                                              with contents
//! ```
//!
//! Attributes are permission bits and mtimes, and count only where the file system of the copy
//! keeps them.
//!
//! Our own records are not compared, since they may have been written anew: the copy only has to
//! have those that the source has. What is there and cannot be read just now may be a copy or not:
//! some file systems give back only after a while what was written (rclone's mounts end the first
//! reads with EIO), and taken for none it would be copied anew at each attempt.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CString, OsStr, OsString},
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, Timespec, Timestamps, fchmod, futimens},
    io::Errno,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{remove_file, scratch::scratch_file};

use crate::{
    disk::tree::{self, Entry, Kind, TreeError, own_files::MAX_RECORD_BYTES, shown, to_path},
    model::{
        episode::Digest,
        layout::{REASON, RECEIPT, without_number},
        progress::Progress,
    },
};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Which file system does not keep these is known by the mtime that it gives back.
const ODD_MTIME: Timespec = Timespec {
    tv_sec: 1_000_000_001,
    tv_nsec: 0,
};

/// Whether this was copied before, from this source. Memory: a buffer, and what a walk takes.
///
/// # Errors
/// It was told to stop, or the disk of one of them failed. What cannot be read for another reason
/// is no copy.
pub(super) fn is_copy(source: &Path, copy: &Path, progress: &Progress) -> io::Result<bool> {
    let compare = || -> Result<bool, TreeError> {
        if !has_records_of(source, copy, progress)?
            || !are_alike(source, copy, TreeComparison::default(), progress)?
        {
            return Ok(false);
        }
        let keeps_attributes = || copy.parent().is_none_or(keeps_attributes);
        let with_attributes = TreeComparison {
            attributes: true,
            ..TreeComparison::default()
        };
        // Reading everything is the last, which a directory that merely has the name is seldom
        // worth.
        Ok(
            (are_alike(source, copy, with_attributes, progress)? || !keeps_attributes())
                && are_alike(
                    source,
                    copy,
                    TreeComparison {
                        contents: true,
                        ..TreeComparison::default()
                    },
                    progress,
                )?,
        )
    };
    match compare() {
        Err(TreeError::Cancelled(cancelled)) => Err(io::Error::other(cancelled)),
        Err(TreeError::Io {
            path,
            source: failed,
        }) if is_of_a_disk(&failed) && !is_of_other_content(source, copy) => {
            let (source, copy, path) = (shown(source), shown(copy), shown(&path));
            Err(io::Error::other(format!(
                "{source} may have been copied to {copy} before, and they cannot be compared: {path}: {failed}"
            )))
        }
        compared => Ok(compared.unwrap_or(false)),
    }
}

/// Whether each has a receipt, and they are of two recordings: then the rest need not be readable.
fn is_of_other_content(source: &Path, copy: &Path) -> bool {
    let content = |directory: &Path| -> Option<Value> {
        let name = CString::new(RECEIPT).ok()?;
        let bytes = tree::read_top(directory, &name, MAX_RECORD_BYTES).ok()??;
        let receipt: Value = serde_json::from_slice(&bytes).ok()?;
        receipt.get("content_sha256").cloned()
    };
    matches!((content(source), content(copy)), (Some(source), Some(copy)) if source != copy)
}

/// Whether another attempt may read what this one could not.
fn is_of_a_disk(error: &io::Error) -> bool {
    const OF_A_DISK: [Errno; 4] = [Errno::IO, Errno::STALE, Errno::TIMEDOUT, Errno::REMOTEIO];
    error
        .raw_os_error()
        .is_some_and(|errno| OF_A_DISK.contains(&Errno::from_raw_os_error(errno)))
}

/// Whether what was just copied reads back as its source does. Whatever of its attributes could not
/// be kept was left off.
///
/// # Errors
/// One of them cannot be read.
pub(crate) fn holds_the_same(
    source: &Path,
    copy: &Path,
    progress: &Progress,
) -> Result<bool, TreeError> {
    Ok(has_records_of(source, copy, progress)?
        && are_alike(
            source,
            copy,
            TreeComparison {
                contents: true,
                ..TreeComparison::default()
            },
            progress,
        )?)
}

/// Whether each has what the other has, by paths, kinds, sizes and targets alone.
///
/// # Errors
/// One of them cannot be read.
pub(super) fn has_the_same_entries(
    source: &Path,
    copy: &Path,
    progress: &Progress,
) -> Result<bool, TreeError> {
    are_alike(source, copy, TreeComparison::default(), progress)
}

/// Whether every path of a copy is one of its source as well, whatever stands there.
///
/// # Errors
/// One of them cannot be read.
pub(super) fn is_whole(source: &Path, copy: &Path, progress: &Progress) -> Result<bool, TreeError> {
    let of_source: HashSet<Vec<u8>> = paths(source, progress)?;
    Ok(paths(copy, progress)?.is_subset(&of_source))
}

fn paths(directory: &Path, progress: &Progress) -> Result<HashSet<Vec<u8>>, TreeError> {
    let mut paths = HashSet::new();
    tree::walk(directory, progress, |entry| -> Result<(), TreeError> {
        let name = std::str::from_utf8(entry.path).unwrap_or_default();
        if ![RECEIPT, REASON].contains(&without_number(name)) {
            paths.insert(entry.path.to_owned());
        }
        Ok(())
    })?;
    Ok(paths)
}

/// The first that is left of a source and is not in its copy; `None` where the copy has it all.
///
/// # Errors
/// One of them cannot be read.
pub(super) fn missing_in(
    source: &Path,
    copy: &Path,
    progress: &Progress,
) -> Result<Option<PathBuf>, TreeError> {
    let of_copy = entries(copy, progress)?;
    let of_source = entries(source, progress)?.into_iter();
    let missing = of_source.filter(|(path, digest)| of_copy.get(path) != Some(digest));
    Ok(missing.map(|(path, _)| to_path(&path)).min())
}

/// By path, what stands there.
fn entries(directory: &Path, progress: &Progress) -> Result<HashMap<Vec<u8>, Digest>, TreeError> {
    let mut entries = HashMap::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let what = TreeComparison {
        contents: true,
        ..TreeComparison::default()
    };
    tree::walk(directory, progress, |entry| -> Result<(), TreeError> {
        let mut hasher = Sha256::new();
        if digest_entry(&entry, what, &mut hasher, &mut buffer, progress)? {
            entries.insert(entry.path.to_owned(), hasher.into());
        }
        Ok(())
    })?;
    Ok(entries)
}

/// Beside paths, kinds, sizes and the targets of symlinks.
#[derive(Debug, Clone, Copy, Default)]
struct TreeComparison {
    attributes: bool,
    contents: bool,
}

fn has_records_of(source: &Path, copy: &Path, progress: &Progress) -> Result<bool, TreeError> {
    Ok(records_of(source, progress)?
        .iter()
        .all(|name| copy.join(name).is_file()))
}

fn are_alike(
    source: &Path,
    copy: &Path,
    what: TreeComparison,
    progress: &Progress,
) -> Result<bool, TreeError> {
    Ok(digest(source, what, progress)? == digest(copy, what, progress)?)
}

/// Tried on a file of our own: FAT has neither permission bits nor odd seconds. Where it cannot be
/// tried, it is taken for one that does: then a copy is made once more, and nothing is taken for
/// one that is none.
fn keeps_attributes(folder: &Path) -> bool {
    let tried = scratch_file(folder, OsStr::new("attributes")).and_then(|(path, file)| {
        let kept = |mode: u32| -> io::Result<bool> {
            fchmod(&file, Mode::from_raw_mode(mode))?;
            futimens(
                &file,
                &Timestamps {
                    last_access: ODD_MTIME,
                    last_modification: ODD_MTIME,
                },
            )?;
            let metadata = file.metadata()?;
            Ok(metadata.mode() & 0o777 == mode && metadata.mtime() == ODD_MTIME.tv_sec)
        };
        let all_kept = kept(0o600).and_then(|kept_one| Ok(kept_one && kept(0o754)?));
        remove_file(&path)?;
        Ok(all_kept.unwrap_or(false))
    });
    tried.unwrap_or(true)
}

fn records_of(directory: &Path, progress: &Progress) -> Result<Vec<OsString>, TreeError> {
    let unread = |source| TreeError::Io {
        path: to_path(b""),
        source,
    };
    let names = fs::read_dir(directory).and_then(|entries| {
        let entries = entries.inspect(|_| progress.step());
        entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
    });
    let is_record = |name: &OsString| {
        name.to_str()
            .is_some_and(|name| [RECEIPT, REASON].contains(&without_number(name)))
    };
    Ok(names
        .map_err(unread)?
        .into_iter()
        .filter(is_record)
        .collect())
}

/// No inodes, no ctimes, no owner, and mtimes in whole seconds, for the file systems that have no
/// finer ones.
fn digest(
    directory: &Path,
    what: TreeComparison,
    progress: &Progress,
) -> Result<Digest, TreeError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    tree::walk(directory, progress, |entry| -> Result<(), TreeError> {
        digest_entry(&entry, what, &mut hasher, &mut buffer, progress).map(|_| ())
    })?;
    Ok(hasher.into())
}

/// Sockets, devices and FIFOs are left out of a copy, or may be, and our own records may have been
/// written anew: false.
fn digest_entry(
    entry: &Entry<'_>,
    what: TreeComparison,
    hasher: &mut Sha256,
    buffer: &mut [u8],
    progress: &Progress,
) -> Result<bool, TreeError> {
    let (size_bytes, mtime, target) = match &entry.kind {
        Kind::Left(_) | Kind::Special(_) => return Ok(false),
        Kind::Directory => (0, 0, &b""[..]),
        Kind::Symlink(target) => (0, 0, *target),
        Kind::File(_) => (entry.stat.size_bytes, entry.stat.mtime.0, &b""[..]),
    };
    for text in [entry.path, target] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(entry.stat.file_type().as_raw_mode().to_le_bytes());
    hasher.update(size_bytes.to_le_bytes());
    if what.attributes {
        // set-group-ID and its like may be denied to us.
        hasher.update((entry.stat.mode & 0o777).to_le_bytes());
        hasher.update(mtime.to_le_bytes());
    }
    if let Kind::File(closed) = &entry.kind
        && what.contents
    {
        let unread = |source| TreeError::Io {
            path: to_path(entry.path),
            source,
        };
        let mut file = closed.open()?.take(size_bytes);
        loop {
            progress.check()?;
            match file.read(buffer) {
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
    Ok(true)
}
