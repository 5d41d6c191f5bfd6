//! The file of an upload on its way: hashed while it grows, locked by its writer.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::part_manifest::PartManifest;
use crate::{
    disk::{
        durable::{self, Published},
        lookup::{self, if_there},
    },
    model::episode::Digest,
};

/// The file, open and locked. The lock (flock(2)) goes with the last of those who have it open, so
/// that a killed process leaves none. Shared by the thread that writes and the one that flushes;
/// with the last of them the file goes, unless it is to stay.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    path: PathBuf,
    note: PathBuf,
    /// Our note, as far as it was, or may have been, written.
    noted: Mutex<PartNote>,
    stays: AtomicBool,
    /// For good, whatever else is said.
    condemned: AtomicBool,
}

/// What is noted of a file. To change that, or the file's length, takes the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartNote {
    Nothing,
    /// So many bytes, durably.
    Durable(u64),
    /// A note could not be written; which one stands there is not known.
    Unsure,
    /// The disk is full and the file is cut back to its note, which stays as it is.
    CutBack,
}

/// The file and how far it came. One thread has it at a time.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) file: Arc<PartFile>,
    pub(super) reached: Reached,
}

/// So many bytes, and the hash over them.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) offset: u64,
    pub(super) hasher: Sha256,
}

impl PartFile {
    fn new(file: File, path: PathBuf, note: PathBuf, noted: PartNote) -> Self {
        let (stays, condemned) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            file,
            path,
            note,
            noted: Mutex::new(noted),
            stays,
            condemned,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
    }

    /// Writes down, durably, that it is durable so far. The caller has flushed it.
    pub(super) fn note(&self, note: &PartManifest, scratch: &Path) -> io::Result<()> {
        let mut noted = self.noted.lock();
        if *noted == PartNote::CutBack {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *noted = PartNote::Unsure;
        // Flushes the folder as well, in which our own name stands too.
        durable::write_file_by_way_of(scratch, &self.note, &note.to_json())?;
        *noted = PartNote::Durable(note.part().offset);
        Ok(())
    }

    /// A write, or a note, was refused. Where the disk is full that says nothing of what was
    /// flushed and noted before: it stays, and what lies behind it goes, to leave the room to
    /// others. A flush that fails beside this, or has failed, condemns the file all the same.
    pub(super) fn refused(&self, error: &io::Error) {
        let mut noted = self.noted.lock();
        if !durable::is_full(error) {
            return self.condemn();
        }
        if let PartNote::Durable(offset) = *noted {
            *noted = PartNote::CutBack;
            // Where it cannot be cut now, that is done when it goes on.
            let _ = self.file.set_len(offset);
        }
        // Of a note that was refused the old or the new one stands there, and the file was flushed
        // for both.
        if *noted != PartNote::Nothing && self.is_noted() {
            self.let_stand();
        }
    }

    /// Whether the note that stands there is ours: a successor that began anew has one of its own.
    fn is_noted(&self) -> bool {
        PartManifest::read(&self.note).is_some_and(|note| note.file() == self.name())
    }

    /// Flushes what was written so far, beside the writer.
    pub(super) fn sync_slice(&self) -> io::Result<()> {
        durable::sync_slice(&self.file)
    }

    /// Flushes all of it, when nothing writes to it any more.
    pub(super) fn sync(&self) -> io::Result<()> {
        durable::sync_file(&self.file)
    }

    /// What stands there stays when nothing has it open any more.
    pub(super) fn let_stand(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// It goes when nothing has it open any more: it was published, or is wrong, or its disk has
    /// failed.
    pub(super) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, to: &Path) -> io::Result<Published> {
        durable::publish(&self.file, &self.path, to)
    }

    pub(super) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if *self.stays.get_mut() && !*self.condemned.get_mut() {
            return;
        }
        // What cannot be removed now is swept later.
        if *self.noted.lock() != PartNote::Nothing && self.is_noted() {
            let _ = durable::remove_file(&self.note);
        }
        let _ = durable::remove_file(&self.path);
    }
}

impl Growing {
    /// A new file. It goes with its last holder until it is let stand.
    pub(super) fn create(path: PathBuf, note: PathBuf) -> io::Result<Self> {
        let file = durable::create_scratch(&path)?;
        let file = Arc::new(PartFile::new(file, path, note, PartNote::Nothing));
        // Where there are no locks (ENOLCK) it goes with this.
        file.file.lock()?;
        Ok(Self {
            file,
            reached: Reached {
                offset: 0,
                hasher: Sha256::new(),
            },
        })
    }

    /// A kept file, locked by the caller, goes on where its note says. What lies behind that
    /// arrived and was never flushed, and a power cut may have made anything of it: it is cut off.
    pub(super) fn go_on(
        mut file: File,
        path: PathBuf,
        note: PathBuf,
        reached: Reached,
    ) -> io::Result<Self> {
        file.set_len(reached.offset)?;
        file.seek(SeekFrom::Start(reached.offset))?;
        let file = PartFile::new(file, path, note, PartNote::Durable(reached.offset));
        file.let_stand();
        Ok(Self {
            file: Arc::new(file),
            reached,
        })
    }

    /// An error condemns the file, unless it is that the disk is full: then what was noted of it
    /// stays.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reached.hasher.update(bytes);
        self.reached.offset += bytes.len() as u64;
        (&self.file.file)
            .write_all(bytes)
            .inspect_err(|error| self.file.refused(error))
    }

    /// The digest of what was appended so far.
    pub(super) fn digest(&self) -> Digest {
        self.reached.hasher.clone().into()
    }
}

/// Opens a file for its lock. NFS asks for write permission (flock(2)), and a file that was put
/// into the store by hand may not give it, or the file system may be read-only: then reading must
/// do.
pub(super) fn open_for_lock(path: &Path) -> io::Result<File> {
    let open = |write| lookup::options().write(write).open(path);
    open(true).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::IsADirectory => open(false),
        _ => Err(error),
    })
}

/// Whether a name still stands for the file that was opened by it.
pub(super) fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    let named = if_there(path.symlink_metadata())?;
    Ok(named.is_some_and(|it| (it.dev(), it.ino()) == (opened.dev(), opened.ino())))
}

#[cfg(test)]
mod tests;
