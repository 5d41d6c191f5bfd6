//! One daemon for one data folder.
//!
//! ```text
//!  flock(2)              the process that holds it is there; the kernel lets go of it
//!                        however the process ends                             ──▶ refused
//!  the word in the file  its holder's lock may be unseen here, and the word is
//!                        young, or its process runs                           ──▶ refused
//! ```
//!
//! flock(2) on `.sealift/lock`, held as long as the process lives. The file says who holds it, for
//! the one who comes second. It is never removed by us: a third could lock the new one while the
//! second still holds the removed one. A holder that ends in an orderly way empties it.
//!
//! Not every lock is seen: on NFS one taken on a client and one taken on the server do not see each
//! other, nor do two clients' that were mounted with `local_lock`, nor two ways to one folder on
//! one machine (directly, and through FUSE). So the holder refreshes the file's mtime while it
//! lives, on every file system, by the clock of the machine that stores the file; what it says is
//! believed for as long as that is young by the same clock. Each time it looks whether the file is
//! still its own; where it is not, it takes the one that is there now, or ends. Only where this
//! kernel has seen the very same file locked by the very same boot is a free lock all there is to
//! know: what crashed there may begin again at once.

mod holder;
#[cfg(test)]
mod tests;

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::fs::{Nsecs, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};

use self::holder::LockHolder;
use crate::{
    disk::{
        durable, filesystem,
        lookup::{self, if_there},
    },
    model::{
        layout::{COPY_PREFIX, Layout},
        text::foreign_command,
    },
};

/// What a holder writes is far shorter.
const MAX_HOLDER_BYTES: usize = 4096;
/// How often a holder says that it is still there.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// How long it is believed after it last did. A holder whose file server hangs for minutes is not
/// there any more for any other process either.
const BELIEVED_FOR: Duration = Duration::from_secs(5 * 60);

/// Held until it is dropped, which empties the file: that may wait for a disk, and [`Lock::close`]
/// does not.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock {
    claim: Arc<Claim>,
    /// What flock(2) was called on. It has no duplicate: closing it releases the lock.
    _file: File,
    word_stays: bool,
}

/// Says in the lock file that its holder is still there. Cheap to clone, for a worker's thread.
#[derive(Debug, Clone)]
pub(crate) struct Keeper(Arc<Claim>);

#[derive(Debug)]
struct Claim {
    path: PathBuf,
    id: FileId,
    /// What we wrote.
    word: Vec<u8>,
    /// Where we answer, where that is not in the data folder.
    socket: Option<PathBuf>,
}

/// A file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct FileId {
    device: u64,
    inode: u64,
}

/// Whose the lock file is.
enum Whose {
    Ours(File),
    /// Nothing stands in it: there was no room for it, or another that took it has ended.
    Nobodys(File),
    /// Removed, or another's.
    Lost,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another daemon ships from this folder.
    #[error(
        "Another sealift ships this folder already ({folder}): {holder}. Two of them would send everything twice. Give this one \
         another --data, or stop that one: {stop}"
    )]
    Held {
        /// The data folder.
        folder: String,
        /// Who, in words.
        holder: String,
        /// What to type.
        stop: String,
    },
    /// Another says that it ships from this folder, and its lock may be one that is not seen from
    /// here.
    #[error(
        "Another sealift seems to ship this folder ({folder}): {holder}, last heard of {age_s} s ago. Its lock may be one that is not \
         seen from here, so its word in the file counts for {believed_s} s. To stop it: {stop}. If nothing runs there, wait, \
         or type: {remove}"
    )]
    Elsewhere {
        /// The data folder, and its file system where hosts share it.
        folder: String,
        /// Who, in words.
        holder: String,
        /// Since when it was not refreshed, seconds.
        age_s: u64,
        /// How long that is believed, seconds.
        believed_s: u64,
        /// What to type.
        stop: String,
        /// What takes the lock file away.
        remove: String,
    },
    /// The lock file cannot be had.
    #[error("Failed to lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the file system said; `ELOOP` where it is a symlink.
        source: io::Error,
    },
}

/// How often [`Keeper::keep`] is due, where nothing else calls for it.
pub(crate) fn refresh_every() -> Duration {
    // So that a test need not wait for a minute. Not in a release build.
    let shorter = std::env::var("SEALIFT_DEBUG_LOCK_REFRESH_MS")
        .ok()
        .filter(|_| cfg!(debug_assertions));
    shorter
        .and_then(|ms| ms.parse().ok())
        .map_or(REFRESH_EVERY, Duration::from_millis)
}

/// Takes the lock, or says who has it. `socket`: where the holder answers, where that is not in the
/// data folder.
///
/// # Errors
/// [`LockError`].
pub(crate) fn acquire(layout: &Layout, socket: Option<&Path>) -> Result<Lock, LockError> {
    let path = layout.private.join("lock");
    let at = |source| LockError::Io {
        path: path.clone(),
        source,
    };
    let file = open(&path, true).map_err(at)?;
    let id = FileId::of(&file).map_err(at)?;
    let us = LockHolder {
        socket: socket.map(Path::to_owned),
        ..LockHolder::us(id)
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(held(layout, read_holder(&file).as_ref(), &us));
        }
        Err(TryLockError::Error(error)) => return Err(at(error)),
    }
    if let Some(last) = read_holder(&file)
        && last.may_be_unseen(&us)
    {
        let age = age_there(&file, &layout.private).map_err(at)?;
        if age < BELIEVED_FOR {
            return Err(elsewhere(layout, &path, &last, &us, age));
        }
    }
    let claim = Claim {
        path: path.clone(),
        id,
        word: us.word(),
        socket: us.socket,
    };
    if !claim.write(&file).map_err(at)? {
        tracing::warn!(
            "There is no room to write to {} who holds the lock. It is held all the same; other hosts cannot see by whom. This is tried \
             again every minute.",
            claim.path.display()
        );
    }
    Ok(Lock {
        claim: Arc::new(claim),
        _file: file,
        word_stays: false,
    })
}

impl Lock {
    /// What keeps the file young.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper(Arc::clone(&self.claim))
    }

    /// Lets go of it without a look at the disk, which may hang. Where the word is still there, the
    /// next on this host begins at once all the same, and one on another host when the word is old.
    pub(crate) fn close(mut self) {
        self.word_stays = true;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.word_stays {
            self.keeper().leave();
        }
    }
}

impl Keeper {
    /// Refreshes the file once more, by the clock of the machine that stores it, where it is still
    /// ours. Where the file that we hold is gone, or another stands in its place (it was removed,
    /// or the whole data folder was), takes the lock that is there now, and returns it.
    ///
    /// # Errors
    /// [`LockError`]: another daemon has taken it, or the file cannot be had.
    pub(crate) fn keep(&self, layout: &Layout) -> Result<Option<Lock>, LockError> {
        let at = |source| LockError::Io {
            path: self.0.path.clone(),
            source,
        };
        match self.0.whose().map_err(at)? {
            Whose::Ours(file) => touch(&file).map_err(at)?,
            Whose::Nobodys(file) => self.0.write(&file).and_then(|_| touch(&file)).map_err(at)?,
            Whose::Lost => {
                return match durable::recreate_folder(&layout.private) {
                    Ok(_) => acquire(layout, self.0.socket.as_deref()).map(Some),
                    // The data folder is gone as well: there is nothing to lock.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(at(error)),
                };
            }
        }
        Ok(None)
    }

    /// Empties the file where it is still ours: the next host need not wait. Where this fails it
    /// does. What another wrote stays.
    pub(crate) fn leave(&self) {
        if let Ok(Whose::Ours(file)) = self.0.whose() {
            let _ = file.set_len(0);
        }
    }
}

/// As long as the word is as it was, only the time changes.
fn touch(file: &File) -> io::Result<()> {
    set_times(file, UTIME_NOW, UTIME_NOW)
}

fn set_times(file: &File, access: Nsecs, modification: Nsecs) -> io::Result<()> {
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: at(access),
        last_modification: at(modification),
    };
    Ok(futimens(file, &times)?)
}

impl Claim {
    /// By its path and opened anew: on NFS only that asks the server.
    fn whose(&self) -> io::Result<Whose> {
        let Some(there) = if_there(open(&self.path, false))? else {
            return Ok(Whose::Lost);
        };
        let word = match FileId::of(&there)? == self.id {
            true => read(&there)?,
            false => return Ok(Whose::Lost),
        };
        Ok(match word {
            word if word == self.word => Whose::Ours(there),
            word if word.is_empty() => Whose::Nobodys(there),
            _ => Whose::Lost,
        })
    }

    /// Written first and cut to its length second: so it needs no room where there was a word
    /// before. Where there is none, the lock itself is held all the same, and only its holder's
    /// name is missing: `false`. Not flushed: after a power cut no process holds it.
    fn write(&self, file: &File) -> io::Result<bool> {
        match file
            .write_all_at(&self.word, 0)
            .and_then(|()| file.set_len(self.word.len() as u64))
        {
            Ok(()) => Ok(true),
            Err(error) if durable::is_full(&error) => {
                // Half of ours, or all of another's, would be a lie.
                file.set_len(0)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl FileId {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = lookup::options();
    options
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o644);
    lookup::regular_by(&options, path)
}

/// How long ago the file was last refreshed. Both ends of that by the clock of the machine that
/// stores the file: ours may be another.
fn age_there(file: &File, private: &Path) -> io::Result<Duration> {
    let refreshed = file.metadata()?.modified()?;
    let scratch = private.join(format!("{COPY_PREFIX}clock"));
    let now = durable::create_scratch(&scratch).and_then(|scratch| scratch.metadata()?.modified());
    let _ = durable::remove_file(&scratch);
    // Where there is no room for scratch, by the file's own access time, which nothing here relies
    // on.
    let now: SystemTime = now.or_else(|_| {
        set_times(file, UTIME_NOW, UTIME_OMIT)?;
        file.metadata()?.accessed()
    })?;
    // From the future: as good as now.
    Ok(now.duration_since(refreshed).unwrap_or_default())
}

fn elsewhere(
    layout: &Layout,
    path: &Path,
    holder: &LockHolder,
    us: &LockHolder,
    age: Duration,
) -> LockError {
    let kind = filesystem::shared_between_hosts(&layout.private);
    LockError::Elsewhere {
        folder: kind.map_or_else(
            || folder_of(layout),
            |kind| format!("{}, on {kind}", folder_of(layout)),
        ),
        holder: holder.in_words(us),
        age_s: age.as_secs(),
        believed_s: BELIEVED_FOR.as_secs(),
        stop: holder.how_to_stop(us),
        remove: foreign_command(path, |path| format!("rm {path}")),
    }
}

fn held(layout: &Layout, holder: Option<&LockHolder>, us: &LockHolder) -> LockError {
    let (holder, stop) = match holder {
        Some(holder) => (holder.in_words(us), holder.how_to_stop(us)),
        // It is about to write who it is, or had no room to.
        None => (
            "its name is not in the lock file (yet)".to_owned(),
            holder::LOOK.to_owned(),
        ),
    };
    LockError::Held {
        folder: folder_of(layout),
        holder,
        stop,
    }
}

fn folder_of(layout: &Layout) -> String {
    layout
        .private
        .parent()
        .unwrap_or(&layout.private)
        .display()
        .to_string()
}

/// `None` for what no holder wrote, and for what one left empty.
fn read_holder(file: &File) -> Option<LockHolder> {
    serde_json::from_slice(&read(file).ok()?).ok()
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; MAX_HOLDER_BYTES];
    let read = file.read_at(&mut text, 0)?;
    text.truncate(read);
    Ok(text)
}
