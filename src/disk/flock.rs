//! A lock by flock(2) that is let go at once when its holder drops it.

use std::{fs::File, ops::Deref};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// A file or folder that is locked. A child that was forked meanwhile has a copy of the descriptor
/// until its exec(2), and a lock is gone only with the last copy, unless it is undone: so that is
/// what dropping does. The kernel undoes it where the process is killed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Flock(File);

impl Flock {
    /// Does not wait.
    ///
    /// # Errors
    /// Those of flock(2): [`Errno::WOULDBLOCK`] where another holds it, and [`Errno::NOLCK`] or
    /// another where the file system has no locks.
    pub(crate) fn exclusive(file: File) -> Result<Self, Errno> {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }

    /// As [`Flock::exclusive`], together with other shared ones.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn shared(file: File) -> Result<Self, Errno> {
        flock(&file, FlockOperation::NonBlockingLockShared)?;
        Ok(Self(file))
    }
}

impl Deref for Flock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Flock {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_gone_with_its_holder_also_where_a_child_has_a_copy_of_the_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        let lock = Flock::exclusive(open()).unwrap();
        assert_eq!(Flock::shared(open()).unwrap_err(), Errno::WOULDBLOCK);
        let _copy = lock.try_clone().unwrap();
        drop(lock);
        let together = [Flock::shared(open()), Flock::shared(open())];
        assert!(together.iter().all(Result::is_ok));
        assert_eq!(Flock::exclusive(open()).unwrap_err(), Errno::WOULDBLOCK);
    }
}
