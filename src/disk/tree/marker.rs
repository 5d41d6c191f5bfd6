//! What counts of `done.marker`, whose times do not.
//!
//! touch(1) makes a file in two steps: open(2) with `O_CREAT`, and then utimensat(2), which sets
//! the times of what is there. The first is what wakes us; the second comes while we pack, and says
//! nothing of the episode: the archive has the marker with mtime 0. So what counts is which file it
//! is, its mode, and what it holds. That is read, since a manifest that is written anew in place,
//! with the same length, has another ctime and nothing else to tell it by.

use std::io::Read as _;

use super::{Closed, Stat, TreeError, to_path};
use crate::model::{
    episode::Digest,
    layout::MARKER,
    progress::{self, Progress},
};

/// No marker that means anything is longer (a manifest may have as much); a longer one counts like
/// any other file.
const MAX_READ_BYTES: u64 = 64 * 1024 * 1024;

/// Whether a path relative to the episode is the marker's.
pub(super) fn is_it(path: &[u8]) -> bool {
    path == MARKER.as_bytes()
}

/// All of a marker's stat but its times.
pub(super) fn untimed(stat: &Stat) -> Stat {
    Stat {
        mtime: (0, 0),
        ctime: (0, 0),
        ..*stat
    }
}

/// The digest of what the marker holds; `None` where this is another file, or one that is too long
/// to be read for this.
pub(super) fn content(file: &Closed<'_>, progress: &Progress) -> Result<Option<Digest>, TreeError> {
    if !is_it(file.path) || file.stat.size_bytes > MAX_READ_BYTES {
        return Ok(None);
    }
    // As most are: not even opened, so that it need not be readable.
    if file.stat.size_bytes == 0 {
        return Ok(Some(Digest::of(b"")));
    }
    let opened = file.open()?;
    let failed = |source| TreeError::Io {
        path: to_path(file.path),
        source,
    };
    let digest =
        progress::hash((&opened).take(MAX_READ_BYTES), &progress.beside()).map_err(failed)?;
    let digest = Digest::from(digest);
    progress.check()?;
    let now = Stat::of(&opened).map_err(failed)?;
    if file.is_still(&now) {
        Ok(Some(digest))
    } else {
        Err(TreeError::Changed {
            path: to_path(file.path),
        })
    }
}
