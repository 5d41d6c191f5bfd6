//! What stood in a directory when it was compared with its copy, so that nothing else is removed
//! with it.
//!
//! It is taken before the comparison. What is the same still when its turn comes is then what was
//! compared; what differs, or is not listed, was written or put there since, and may be nowhere
//! else. Memory: a path and a stat for each entry.

use std::{collections::HashMap, ffi::CString, fs, io, os::unix::ffi::OsStrExt as _, path::Path};

use rustix::fs::FileType;

use crate::{
    disk::tree::{
        self, Kind, Stat, TreeError,
        open::{self, Error},
    },
    model::{
        layout::{MARKER, REMOVING},
        progress::Progress,
    },
};

/// Seconds and nanoseconds.
type Time = (i64, u32);

/// See the module's head.
#[derive(Debug)]
pub(super) struct RemovalList {
    entries: HashMap<Vec<u8>, Stat>,
    /// By device and inode, the ctime that a file has since another name of it was removed here:
    /// that moves it.
    relinked: HashMap<(u64, u64), Time>,
}

impl RemovalList {
    /// Lists a directory, with the records of ours in it and without the note.
    pub(super) fn of(directory: &Path, progress: &Progress) -> io::Result<Self> {
        let mut entries = HashMap::new();
        tree::walk(directory, progress, |entry| -> Result<(), TreeError> {
            if !matches!(entry.kind, Kind::Left(_)) {
                entries.insert(entry.path.to_owned(), entry.stat);
            }
            Ok(())
        })
        .map_err(io::Error::other)?;
        // What the walk leaves out is ours.
        let top = fs::File::open(directory)?;
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            if name == REMOVING || entries.contains_key(name.as_bytes()) {
                continue;
            }
            match open::stat(&top, &CString::new(name.as_bytes())?) {
                Ok(stat) => {
                    entries.insert(name.as_bytes().to_owned(), stat);
                }
                Err(Error::Io(errno)) => return Err(errno.into()),
                Err(Error::Changed | Error::Mount) => {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
            }
        }
        Ok(Self {
            entries,
            relinked: HashMap::new(),
        })
    }

    /// Whether this is what stood there. Of a folder it only counts that it is one: what is in it
    /// is asked after by itself. Of `done.marker` the times do not count, as when it is packed.
    pub(super) fn has(&self, path: &[u8], now: &Stat) -> bool {
        let Some(then) = self.entries.get(path) else {
            return false;
        };
        if then.file_type() == FileType::Directory {
            return now.file_type() == FileType::Directory;
        }
        if path == MARKER.as_bytes() {
            let untimed = |stat: &Stat| Stat {
                mtime: (0, 0),
                ctime: (0, 0),
                ..*stat
            };
            return untimed(then) == untimed(now);
        }
        let ctime = *self
            .relinked
            .get(&(then.dev, then.ino))
            .unwrap_or(&then.ctime);
        Stat { ctime, ..*then } == *now
    }

    /// One of a file's names was removed here, and the file is this now.
    pub(super) fn lost_a_name(&mut self, now: &Stat) {
        self.relinked.insert((now.dev, now.ino), now.ctime);
    }
}
