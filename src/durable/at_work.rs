//! Which folders a move is at work in. Its scratch looks like what a killed process left, and a
//! start would put it in order: of `sealift requeue`, which has no lock, or of another shipper with
//! which a folder is shared.
//!
//! ```text
//!  a move by copying   flock(2), shared, on the folder that it copies to and on the one that it takes from
//!  a start             flock(2), exclusive: where it is not granted, what lies there is looked at later
//! ```
//!
//! flock(2) ends with its process, however that ends, and a rename does not change what it holds. A
//! directory's is known to this host alone, also on NFS and SMB: two hosts must not share a folder
//! (docs/configuration.md).

use std::{fs::File, io, path::Path};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::tree::shown;

/// Held while scratch of ours lies in a folder that is not to be touched.
#[must_use]
pub(super) struct AtWork {
    _folder: Option<File>,
}

/// For a move.
///
/// # Errors
/// Those of open(2), and [`io::ErrorKind::ResourceBusy`] where a shipper that starts puts the folder
/// in order, or another program holds such a lock on it.
pub(super) fn at_work(folder: &Path) -> io::Result<AtWork> {
    locked(folder, FlockOperation::NonBlockingLockShared)?.ok_or_else(|| {
        let why =
            format!(
                "{0} is locked (flock) by another process: a shipper that has just started and puts it in order, or a program that \
                 takes such a lock on it (lsof {0}). It goes on once that has ended",
                shown(folder)
            );
        io::Error::new(io::ErrorKind::ResourceBusy, why)
    })
}

/// For a start. `None` where a move is at work.
///
/// # Errors
/// Those of open(2).
pub(super) fn alone(folder: &Path) -> io::Result<Option<AtWork>> {
    locked(folder, FlockOperation::NonBlockingLockExclusive)
}

fn locked(folder: &Path, how: FlockOperation) -> io::Result<Option<AtWork>> {
    let folder = File::open(folder)?;
    match flock(&folder, how) {
        Ok(()) => Ok(Some(AtWork { _folder: Some(folder) })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        // A file system without locks has no others either.
        Err(_) => Ok(Some(AtWork { _folder: None })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_at_work_together_and_a_start_alone() {
        let folder = tempfile::tempdir().unwrap();
        let moves = [at_work(folder.path()).unwrap(), at_work(folder.path()).unwrap()];
        assert!(alone(folder.path()).unwrap().is_none());
        drop(moves);
        let start = alone(folder.path()).unwrap().unwrap();
        let error = at_work(folder.path()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(start);
        let _move = at_work(folder.path()).unwrap();
    }
}
