//! Which folders a move is at work in. Its scratch looks like what a killed process left, and a
//! start would put it in order: of `sealift requeue`, which has no lock, or of another shipper with
//! which a folder is shared.
//!
//! ```text
//!  a move by copying   flock(2), shared, for the folder it copies to and for the one it takes from
//!  a start             flock(2), exclusive: where not granted, what lies there is looked at later
//! ```
//!
//! What is locked is `.sealift-at-work` in the folder, which is made when it is first needed, and
//! stays. The folder itself is not: a backup, say, is told to lock that (flock(1)). Where there
//! can be no such file (a folder that may not be written to, a full disk, another thing of its
//! name), and on what other hosts write to as well, where a file's lock asks the server, the
//! folder itself is locked.
//!
//! flock(2) ends with its process, however that ends, and a rename does not change what it holds.
//! It is known to this host alone: two hosts must not share a folder (docs/configuration.md).

use std::{
    fs::{File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Uid, fchown},
    io::Errno,
};

use crate::{
    disk::{filesystem::shared_between_hosts, flock::Flock, lookup, tree::shown},
    model::layout::AT_WORK,
};

/// Held while scratch of ours lies in a folder that is not to be touched.
#[must_use]
pub(super) struct AtWork {
    _locked: Option<Flock>,
}

/// For a move.
///
/// # Errors
/// Those of open(2), and [`io::ErrorKind::ResourceBusy`] where a shipper that starts puts the
/// folder in order, or another program holds such a lock on it.
pub(super) fn at_work(folder: &Path) -> io::Result<AtWork> {
    let (path, file) = lockable(folder)?;
    shared(&path, file)
}

/// For what is built in a folder that may be no shipper's: what is locked is not made for that.
/// Where it was never needed before, a start may take the scratch away: building ends with an
/// error then.
///
/// # Errors
/// As [`at_work`].
pub(super) fn at_work_where_known(folder: &Path) -> io::Result<Option<AtWork>> {
    if shared_between_hosts(folder).is_some() {
        return at_work(folder).map(Some);
    }
    let path = folder.join(AT_WORK);
    let file = opened(&path, true).or_else(|_| opened(&path, false));
    file.ok().map(|file| shared(&path, file)).transpose()
}

fn shared(path: &Path, file: File) -> io::Result<AtWork> {
    granted(Flock::shared(file)).ok_or_else(|| {
        let why =
            format!(
                "{0} is locked (flock) by another process: a shipper that has just started and puts the folder in order, or a program \
                 that takes such a lock (lsof {0}). It goes on once that has ended",
                shown(path)
            );
        io::Error::new(io::ErrorKind::ResourceBusy, why)
    })
}

/// For a start. `None` where a move is at work.
///
/// # Errors
/// Those of open(2).
pub(super) fn alone(folder: &Path) -> io::Result<Option<AtWork>> {
    let (_, file) = lockable(folder)?;
    Ok(granted(Flock::exclusive(file)))
}

/// What is to be looked at where a move is at work in a folder, and the first process that has it
/// locked, where /proc/locks says so.
pub(crate) fn who_is_at_work(folder: &Path) -> (PathBuf, Option<u32>) {
    let Ok((path, file)) = lockable(folder) else {
        return (folder.to_owned(), None);
    };
    let pid = || {
        let found = file.metadata().ok()?;
        let (dev, ino) = (found.dev(), found.ino());
        let place = format!(
            "{:02x}:{:02x}:{ino}",
            rustix::fs::major(dev),
            rustix::fs::minor(dev)
        );
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let us = std::process::id();
        locks
            .lines()
            .filter_map(|line| locker(line, &place))
            .find(|pid| *pid != us)
    };
    let pid = pid();
    (path, pid)
}

/// Of a line in /proc/locks (proc(5)): `1: FLOCK  ADVISORY  READ 4242 00:1f:77 0 EOF`.
fn locker(line: &str, place: &str) -> Option<u32> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        [_, "FLOCK", _, _, pid, at, ..] if at == place => pid.parse().ok().filter(|pid| *pid > 0),
        _ => None,
    }
}

/// What is locked for a folder.
fn lockable(folder: &Path) -> io::Result<(PathBuf, File)> {
    if shared_between_hosts(folder).is_none() {
        let path = folder.join(AT_WORK);
        let file = opened(&path, true)
            .or_else(|_| opened(&path, false))
            .or_else(|_| made(folder, &path));
        if let Ok(file) = file {
            return Ok((path, file));
        }
    }
    Ok((folder.to_owned(), File::open(folder)?))
}

fn opened(path: &Path, write: bool) -> io::Result<File> {
    lookup::regular_by(lookup::options().write(write), path)
}

/// It belongs to the owner of the folder, and who may read or write that may do so here: `sudo
/// sealift requeue` may be the first that needs it.
fn made(folder: &Path, path: &Path) -> io::Result<File> {
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = match made {
        // Another process was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return opened(path, false),
        made => made?,
    };
    let of: Metadata = std::fs::metadata(folder)?;
    let (owner, group) = (Uid::from_raw(of.uid()), Gid::from_raw(of.gid()));
    if fchown(&file, Some(owner), Some(group)).is_err() {
        let _ = fchown(&file, None, Some(group));
    }
    // A file system without modes lets all of them in, or none.
    let _ = file.set_permissions(Permissions::from_mode(of.mode() & 0o666));
    Ok(file)
}

fn granted(lock: Result<Flock, Errno>) -> Option<AtWork> {
    match lock {
        Err(Errno::WOULDBLOCK) => None,
        // A file system without locks has no others either.
        lock => Some(AtWork { _locked: lock.ok() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn moves_are_at_work_together_and_a_start_alone() {
        let folder = tempfile::tempdir().unwrap();
        let moves = [
            at_work(folder.path()).unwrap(),
            at_work(folder.path()).unwrap(),
        ];
        assert!(alone(folder.path()).unwrap().is_none());
        drop(moves);
        let start = alone(folder.path()).unwrap().unwrap();
        let error = at_work(folder.path()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        let path = folder.path().join(AT_WORK);
        assert!(
            error
                .to_string()
                .starts_with(&format!("{} is locked (flock) by", path.display())),
            "{error}"
        );
        // It is no other process.
        assert_eq!(who_is_at_work(folder.path()), (path, None));
        let line = "2: FLOCK  ADVISORY  WRITE 4242 00:1f:77 0 EOF";
        assert_eq!(
            (locker(line, "00:1f:77"), locker(line, "00:1f:7")),
            (Some(4242), None)
        );
        drop(start);
        let _move = at_work(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_of_another_program_on_the_folder_keeps_neither_a_move_nor_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let _theirs = Flock::exclusive(File::open(folder.path()).unwrap()).unwrap();
        drop(at_work(folder.path()).unwrap());
        assert!(alone(folder.path()).unwrap().is_some());
    }

    #[test]
    fn what_is_locked_for_a_folder_has_its_owner_and_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
        drop(at_work(folder.path()).unwrap());
        let (of, file) = (
            std::fs::metadata(folder.path()),
            std::fs::metadata(folder.path().join(AT_WORK)),
        );
        let (of, file) = (of.unwrap(), file.unwrap());
        assert_eq!(
            (file.uid(), file.gid(), file.mode() & 0o777),
            (of.uid(), of.gid(), 0o660)
        );
    }

    #[test]
    fn where_another_thing_has_its_name_that_is_not_touched_and_the_folder_is_locked() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path().join("made"), folder.path().join(AT_WORK)).unwrap();
        let held = at_work(folder.path()).unwrap();
        assert!(alone(folder.path()).unwrap().is_none());
        drop(held);
        assert!(alone(folder.path()).unwrap().is_some());
        assert!(
            std::fs::read_dir(elsewhere.path())
                .unwrap()
                .next()
                .is_none()
        );
    }
}
