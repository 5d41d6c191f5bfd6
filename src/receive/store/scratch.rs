//! One temporary file: hashed while it is written, gone unless it is given a name.

use std::{
    fs::{File, Metadata},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{disk::durable, model::episode::Digest};

/// A temporary file whose name nothing else knows. Dropping it removes it.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    path: PathBuf,
    file: File,
    hasher: Sha256,
}

impl TemporaryFile {
    /// Creates it, locked as what is alive (see [`super::parts`]).
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = durable::create_scratch(&path)?;
        // Made before it is locked: where there are no locks (ENOLCK) it goes with this.
        let scratch = Self {
            path,
            file,
            hasher: Sha256::new(),
        };
        scratch.file.lock()?;
        Ok(scratch)
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// Makes what was appended durable, as the disk says.
    pub(super) fn sync(&self) -> io::Result<()> {
        durable::sync_file(&self.file)
    }

    /// The digest of what was appended so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().into()
    }

    /// Gives it another file's permission bits and modification time, to the nanosecond.
    pub(super) fn pass_for(&self, other: &Metadata) -> io::Result<()> {
        self.file.set_permissions(other.permissions())?;
        self.file.set_modified(other.modified()?)
    }

    /// Makes it durable in the place of what stands there. What is returned is still locked.
    pub(super) fn replace(self, to: &Path) -> io::Result<File> {
        durable::replace(&self.file, &self.path, to)?;
        self.file.try_clone()
    }
}

impl Drop for TemporaryFile {
    /// Named or not, nothing may stay under the temporary name; one that cannot be removed now is
    /// swept later.
    fn drop(&mut self) {
        let _ = durable::remove_file(&self.path);
    }
}
