//! One temporary file: hashed while it is written, gone unless it is published.

use std::{
    fs::{File, Metadata},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    durable::{self, Published},
    episode::Digest,
};

/// A temporary file that nobody else knows the name of. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    file: File,
    hasher: Sha256,
}

impl Scratch {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = durable::create_scratch(&path)?;
        Ok(Self { path, file, hasher: Sha256::new() })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// The digest of what was appended so far.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().into()
    }

    /// Makes it durable under its final name, unless that is taken.
    pub(super) fn publish(&self, to: &Path) -> io::Result<Published> {
        durable::publish(&self.file, &self.path, to)
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl Drop for Scratch {
    /// Published or not, nothing may stay under the temporary name; one that cannot be removed now is swept later.
    fn drop(&mut self) {
        let _ = durable::remove_file(&self.path);
    }
}
