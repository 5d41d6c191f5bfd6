//! One daemon for one data folder.
//!
//! ```text
//!  on a disk of this machine       flock(2) decides: a free lock is free, whatever the file says
//!  on one that hosts share (NFS)   and the file, too: held by another host that refreshed it lately ──▶ refused
//! ```
//!
//! flock(2) on `.sealift/lock`, held as long as the process lives: the kernel lets go of it however the process ends. The file
//! says who holds it, for the one who comes second. It is never removed by us: a third could lock the new one while
//! the second still holds the removed one. Whoever ends in an orderly way empties it.
//!
//! On NFS a lock taken on a client and one taken on the server do not see each other, nor do two clients' that were mounted with
//! `local_lock`. There the holder refreshes the file's mtime while it lives, by the file server's clock; what it says is
//! believed for as long as that is young by the same clock.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, futimens};
use serde::{Deserialize, Serialize};

use crate::{
    clock, durable,
    episode::{printable, shell_word},
    filesystem,
    layout::{COPY_PREFIX, Layout},
    records::WallTime,
};

/// What a holder writes is far shorter.
const MAX_HOLDER_BYTES: u64 = 4096;
/// How often a holder says that it is still there, where other hosts cannot see its lock.
pub const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// How long it is believed after it last did. A holder whose file server hangs for minutes is not there any more for
/// anybody else either.
const BELIEVED_FOR: Duration = Duration::from_secs(5 * 60);

/// Held until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    file: Arc<File>,
    is_shared: bool,
}

/// Says in the lock file that its holder is still there. Cheap to clone, for a worker's thread.
#[derive(Debug, Clone)]
pub struct Refresher(Arc<File>);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
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
    /// Another host says that it ships from this folder, on a file system that they share.
    #[error(
        "Another host seems to ship this folder ({folder}, on {kind}): {holder}, last heard of {age_s} s ago. Locks of other hosts \
         cannot be relied on there, so the word in the file counts for {believed_s} s. Look on that host (pgrep -a sealift). If \
         nothing runs there, wait, or type: rm {file}"
    )]
    Elsewhere {
        /// The data folder.
        folder: String,
        /// Its file system.
        kind: &'static str,
        /// Who, in words.
        holder: String,
        /// Since when it was not refreshed, seconds.
        age_s: u64,
        /// How long that is believed, seconds.
        believed_s: u64,
        /// The lock file, as a word of a shell.
        file: String,
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

/// What stands in the lock file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    boot_id: String,
    since: WallTime,
}

/// Takes the lock, or says who has it.
///
/// # Errors
/// [`LockError`].
pub fn acquire(layout: &Layout) -> Result<Lock, LockError> {
    acquire_on(layout, filesystem::shared_between_hosts(&layout.private))
}

/// `shared`: the name of a file system that other hosts write to as well.
fn acquire_on(layout: &Layout, shared: Option<&'static str>) -> Result<Lock, LockError> {
    let path = layout.private.join("lock");
    let at = |source| LockError::Io { path: path.clone(), source };
    // O_NONBLOCK: should somebody have put a FIFO there, the open must not wait for its reader.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .map_err(at)?;
    if !file.metadata().map_err(at)?.is_file() {
        return Err(at(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let us = Holder::us();
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = read_holder(&mut file);
            return Err(held(&layout.private, holder.as_ref(), &us));
        }
        Err(TryLockError::Error(error)) => return Err(at(error)),
    }
    if let Some(kind) = shared
        && let Some(last) = read_holder(&mut file)
        && last.is_elsewhere(&us)
    {
        let age = age_there(&file, &layout.private).map_err(at)?;
        if age < BELIEVED_FOR {
            return Err(elsewhere(&path, kind, &last, age));
        }
    }
    match write_holder(&mut file, &us) {
        // The words are for whoever comes second. Where the lock itself is what counts, a full disk is no reason not to make room on it.
        Err(error) if shared.is_none() && durable::is_full(&error) => {
            tracing::debug!("who holds the lock cannot be written: {error}");
        }
        written => written.map_err(at)?,
    }
    Ok(Lock { file: Arc::new(file), is_shared: shared.is_some() })
}

impl Lock {
    /// What keeps the file young, where anybody goes by that.
    #[must_use]
    pub fn refresher(&self) -> Option<Refresher> {
        self.is_shared.then(|| Refresher(Arc::clone(&self.file)))
    }
}

/// What a worker takes along to look after the lock.
#[derive(Debug, Clone)]
pub struct Claim(Arc<File>);

impl Lock {
    /// For a worker's thread.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim(Arc::clone(&self.file))
    }
}

impl Claim {
    /// Looks whether what stands under the lock's name is still what we hold. Where somebody removed it, or put another data folder
    /// in its place, takes the lock that is there now; `None` where there is nothing to do, or no data folder to lock.
    ///
    /// # Errors
    /// [`LockError`]: another daemon was quicker, or the file cannot be had.
    pub fn renew(&self, layout: &Layout) -> Result<Option<Lock>, LockError> {
        let path = layout.private.join("lock");
        let at = |source| LockError::Io { path: path.clone(), source };
        let ours = self.0.metadata().map_err(at)?;
        match fs::symlink_metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(error)),
        }
        match durable::recreate_folder(&layout.private) {
            Ok(_) => acquire(layout).map(Some),
            // The data folder is gone as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next host need not wait. Where this fails it does.
        let _ = self.file.set_len(0);
    }
}

impl Refresher {
    /// Once more, by the file server's clock.
    ///
    /// # Errors
    /// Those of utimensat(2).
    pub fn refresh(&self) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        Ok(futimens(&self.0, &Timestamps { last_access: now, last_modification: now })?)
    }
}

impl Holder {
    fn us() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // Where /proc does not say, the lock holds all the same.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot_id = boot_id.trim().to_owned();
        Self { pid: std::process::id(), host, boot_id, since: clock::wall_now() }
    }

    /// Whether it is on another machine. One kernel's locks see each other, whatever its containers are called; and a host
    /// that started anew has nothing running from before.
    fn is_elsewhere(&self, us: &Self) -> bool {
        self.host != us.host && self.boot_id != us.boot_id
    }

    fn in_words(&self) -> String {
        format!("process {} on {}, since {}", self.pid, printable(&self.host), self.since)
    }
}

/// How long ago the file was last refreshed. Both ends of that by the clock of whoever keeps the file: ours may be another.
fn age_there(file: &File, private: &Path) -> io::Result<Duration> {
    let refreshed = file.metadata()?.modified()?;
    let scratch = private.join(format!("{COPY_PREFIX}clock"));
    let now = durable::create_scratch(&scratch).and_then(|scratch| scratch.metadata()?.modified());
    let _ = durable::remove_file(&scratch);
    let now: SystemTime = now?;
    // From the future: as good as now.
    Ok(now.duration_since(refreshed).unwrap_or_default())
}

fn elsewhere(path: &Path, kind: &'static str, holder: &Holder, age: Duration) -> LockError {
    let folder = path.parent().and_then(Path::parent).unwrap_or(path);
    LockError::Elsewhere {
        folder: folder.display().to_string(),
        kind,
        holder: holder.in_words(),
        age_s: age.as_secs(),
        believed_s: BELIEVED_FOR.as_secs(),
        file: shell_word(path),
    }
}

fn held(private: &Path, holder: Option<&Holder>, us: &Holder) -> LockError {
    let folder = private.parent().unwrap_or(private);
    let (holder, stop) = match holder {
        Some(holder) if holder.host == us.host => (
            format!(
                "process {} on {} (this host), since {}",
                holder.pid,
                printable(&holder.host),
                holder.since
            ),
            format!("kill {}", holder.pid),
        ),
        Some(holder) => {
            (holder.in_words(), format!("kill {}   (on {})", holder.pid, printable(&holder.host)))
        }
        // It has the lock and is about to write who it is.
        None => {
            ("it has only just begun".to_owned(), "pgrep -a sealift, then kill and its number".to_owned())
        }
    };
    LockError::Held { folder: folder.display().to_string(), holder, stop }
}

/// `None` for what no holder wrote, and for what one left empty.
fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(MAX_HOLDER_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Not flushed: after a power cut nobody holds it.
fn write_holder(file: &mut File, holder: &Holder) -> io::Result<()> {
    let mut text = serde_json::to_vec(holder)?;
    text.push(b'\n');
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        fs::create_dir(&layout.private).unwrap();
        (folder, layout)
    }

    #[test]
    fn the_second_is_told_who_holds_it_and_may_have_it_afterwards() {
        let (folder, layout) = sandbox();
        let lock = acquire(&layout).unwrap();
        let refusal = acquire(&layout).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(refusal.contains(&format!("process {pid} on ")), "{refusal}");
        assert!(refusal.contains(" (this host), since 20"), "{refusal}");
        assert!(refusal.contains(&folder.path().display().to_string()), "{refusal}");
        assert!(refusal.ends_with(&format!("kill {pid}")), "{refusal}");
        drop(lock);
        let _lock = acquire(&layout).unwrap();
    }

    #[test]
    fn the_file_says_pid_host_and_boot() {
        let (_folder, layout) = sandbox();
        fs::write(layout.private.join("lock"), "x".repeat(10_000)).unwrap();
        let _lock = acquire(&layout).unwrap();
        let text = fs::read_to_string(layout.private.join("lock")).unwrap();
        let holder: Holder = serde_json::from_str(&text).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.host.is_empty());
        assert_eq!(holder.boot_id.len(), 36);
    }

    /// As another host, or another life of this one, would have left the file.
    fn left_by(layout: &Layout, host: &str, boot_id: &str, age: Duration) {
        let holder = Holder { host: host.to_owned(), boot_id: boot_id.to_owned(), pid: 42, ..Holder::us() };
        let path = layout.private.join("lock");
        fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - age).unwrap();
    }

    #[test]
    fn on_a_shared_file_system_another_host_is_believed_while_it_refreshes_its_lock() {
        const YOUNG: Duration = Duration::from_secs(120);
        const OLD: Duration = Duration::from_secs(301);
        let us = Holder::us();
        for (shared, host, boot_id, age, refused) in [
            (Some("NFS"), "lab-08", "another", YOUNG, true),
            (Some("NFS"), "lab-08", "another", OLD, false),
            // This very machine: before it started anew, or in a container of another name.
            (Some("NFS"), us.host.as_str(), "another", YOUNG, false),
            (Some("NFS"), "lab-08", us.boot_id.as_str(), YOUNG, false),
            (None, "lab-08", "another", YOUNG, false),
        ] {
            let (folder, layout) = sandbox();
            left_by(&layout, host, boot_id, age);
            match acquire_on(&layout, shared) {
                Ok(lock) => assert!(!refused && lock.refresher().is_some() == shared.is_some()),
                Err(error) => {
                    let words = error.to_string();
                    assert!(refused, "{words}");
                    assert!(words.contains("process 42 on lab-08, since 20"), "{words}");
                    assert!(words.contains("last heard of 12"), "{words}");
                    let path = folder.path().join(".sealift/lock");
                    assert!(words.ends_with(&format!("rm '{}'", path.display())), "{words}");
                    // Asking again and again does not make it younger.
                    assert!(acquire_on(&layout, shared).is_err());
                    let age = age_there(&File::open(&path).unwrap(), &layout.private).unwrap();
                    assert!(age >= YOUNG, "{age:?}");
                }
            }
            assert_eq!(fs::read_dir(&layout.private).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_holder_that_refreshes_stays_young_and_one_that_ends_leaves_no_claim() {
        let (_folder, layout) = sandbox();
        let path = layout.private.join("lock");
        let lock = acquire_on(&layout, Some("NFS")).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        lock.refresher().unwrap().refresh().unwrap();
        assert!(age_there(&file, &layout.private).unwrap() < Duration::from_secs(60));
        drop(lock);
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn another_host_is_named() {
        let (_folder, layout) = sandbox();
        let us = Holder::us();
        let other = Holder { host: "lab\u{1b}8".to_owned(), pid: 42, ..Holder::us() };
        let refusal = held(&layout.private, Some(&other), &us).to_string();
        assert!(refusal.contains("process 42 on lab\\u{1b}8, since"), "{refusal}");
        assert!(held(&layout.private, None, &us).to_string().contains("only just begun"));
    }

    #[test]
    fn a_symlink_in_its_place_is_refused_and_not_written_through() {
        let (folder, layout) = sandbox();
        let precious = folder.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, layout.private.join("lock")).unwrap();
        assert!(matches!(acquire(&layout), Err(LockError::Io { .. })));
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
    }
}
