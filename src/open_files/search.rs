//! The first file of an episode that is open for writing.

use std::path::{Path, PathBuf};

use super::{Probe, Writers};
use crate::{
    layout::MARKER,
    progress::Progress,
    tree::{self, Entry, Kind, TreeError, to_path},
};

/// The first file below a directory that is open for writing, as a path from there; `None` where
/// there is none, or where that cannot be told. `done.marker` does not count, as when it is packed.
/// Reads no byte of any.
///
/// # Errors
/// Those of the walk, and of opening a file.
pub fn find_open(
    directory: &Path,
    probe: Probe,
    progress: &Progress,
) -> Result<Option<PathBuf>, TreeError> {
    if !probe.asks() {
        return Ok(None);
    }
    match tree::walk(directory, progress, |entry| ask(&entry, probe)) {
        Ok(_) => Ok(None),
        Err(Stop::Open(file)) => Ok(Some(file)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why a walk does not go on.
enum Stop {
    Open(PathBuf),
    Failed(TreeError),
}

impl From<TreeError> for Stop {
    fn from(error: TreeError) -> Self {
        Self::Failed(error)
    }
}

fn ask(entry: &Entry<'_>, probe: Probe) -> Result<(), Stop> {
    let Kind::File(closed) = &entry.kind else {
        return Ok(());
    };
    if entry.path != MARKER.as_bytes() && probe.writers(&closed.open_as_it_is()?) == Writers::Open {
        return Err(Stop::Open(to_path(entry.path)));
    }
    Ok(())
}
