//! One daemon for one data folder.
//!
//! flock(2) on `.sealift/lock`, held as long as the process lives: the kernel lets go of it however the process ends. The file
//! says who holds it, for the one who comes second. It is never removed: a third could lock the new one while
//! the second still holds the removed one.
//!
//! On NFS a lock taken on a client and one taken on the server do not see each other. The file's host shows it, and
//! a warning says so; nothing on this side could tell whether the other still runs.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    episode::{printable, shell_word},
    layout::Layout,
    records::WallTime,
};

/// What a holder writes is far shorter.
const MAX_HOLDER_BYTES: u64 = 4096;

/// Held until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon ships from this folder.
    #[error(
        "Another sealift ships from {folder} already: {holder}. Nothing was touched. One daemon is enough; to stop the \
         other, type: {stop}"
    )]
    Held {
        /// The data folder.
        folder: String,
        /// Who, in words.
        holder: String,
        /// What to type.
        stop: String,
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
    if let Some(last) = read_holder(&mut file)
        && last.host != us.host
    {
        tracing::warn!(
            "{} was last locked by process {} on {}. If this folder is shared between the two hosts, make sure that \
             sealift runs on one of them only.",
            path.display(),
            last.pid,
            printable(&last.host)
        );
    }
    write_holder(&mut file, &us).map_err(at)?;
    Ok(Lock { _file: file })
}

impl Holder {
    fn us() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // Where /proc does not say, the lock holds all the same.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot_id = boot_id.trim().to_owned();
        Self { pid: std::process::id(), host, boot_id, since: clock::wall_now() }
    }
}

fn held(private: &Path, holder: Option<&Holder>, us: &Holder) -> LockError {
    let folder = private.parent().unwrap_or(private);
    let lock = shell_word(&private.join("lock"));
    let (holder, stop) = match holder {
        Some(holder) if holder.host == us.host => (
            format!("process {} on this host, since {}", holder.pid, holder.since),
            format!("kill {}", holder.pid),
        ),
        Some(holder) => {
            let host = printable(&holder.host);
            let who = format!("process {} on {host}, since {}", holder.pid, holder.since);
            (who, format!("kill {}   (on {host})", holder.pid))
        }
        // It has the lock and is about to write who it is.
        None => ("it has only just begun".to_owned(), format!("fuser -k {lock}")),
    };
    LockError::Held { folder: folder.display().to_string(), holder, stop }
}

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
        assert!(refusal.contains(&format!("process {pid} on this host, since 20")), "{refusal}");
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
