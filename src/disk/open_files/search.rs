//! The first file of an episode that is open for writing.

use std::path::{Path, PathBuf};

use super::{OpenFileProbe, Writers};
use crate::{
    disk::tree::{self, Entry, Kind, TreeError, to_path},
    model::{layout::MARKER, progress::Progress},
};

/// The first file below a directory that is open for writing, as a path from there; `None` where
/// there is none, or where that cannot be told. `done.marker` does not count, as when it is packed.
/// Reads no byte of any.
///
/// # Errors
/// Those of the walk, and of opening a file.
pub(crate) fn find_open(
    directory: &Path,
    probe: OpenFileProbe,
    progress: &Progress,
) -> Result<Option<PathBuf>, TreeError> {
    if !probe.asks() {
        return Ok(None);
    }
    match tree::walk(directory, progress, |entry| ask(&entry, probe)) {
        Ok(_) => Ok(None),
        Err(SearchStop::Open(file)) => Ok(Some(file)),
        Err(SearchStop::Failed(error)) => Err(error),
    }
}

/// Why a walk does not go on.
enum SearchStop {
    Open(PathBuf),
    Failed(TreeError),
}

impl From<TreeError> for SearchStop {
    fn from(error: TreeError) -> Self {
        Self::Failed(error)
    }
}

fn ask(entry: &Entry<'_>, probe: OpenFileProbe) -> Result<(), SearchStop> {
    let Kind::File(closed) = &entry.kind else {
        return Ok(());
    };
    if entry.path != MARKER.as_bytes() && probe.writers(&closed.open_as_it_is()?) == Writers::Open {
        return Err(SearchStop::Open(to_path(entry.path)));
    }
    Ok(())
}
