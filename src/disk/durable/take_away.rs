//! Taking the source of a copy away, as long as it is what was copied and no process can write to
//! it any more.
//!
//! ```text
//!  from ──rename──▶ .sealift-aside-n-name ▸ open? changed?
//!                                           └ yes: put back
//!       ──rename──▶ .sealift-trash-n-name ▸ fsync ▸ open? changed? ▸ removed
//!                                                   └ yes: put back
//!  EXDEV to any name
//!       from/.sealift-removing ▸ listed ▸ open? changed? ▸ the marker removed
//!         ▸ each entry: open? as listed? ▸ removed
//! ```
//!
//! What is written through a descriptor after its file was removed is nowhere. So before anything
//! is removed, each file is asked after (`open_files`), and only then compared: under a name that
//! no recorder knows a file that is closed stays closed, so what its stamps say then is final. The
//! other way round, a process could write behind the comparison and close before it is asked after.
//!
//! Where the source keeps its name while it is removed, a file can still be opened by its path, and
//! new ones can be put there; so there each is asked after once more, just before it goes, and has
//! to be what it was when the copy was compared. What leases cannot tell is in docs/recorders.md.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    at_work::at_work,
    compare, copy_tree,
    move_tree::put_back,
    parent_of,
    remove_in_place::{self, Finished, is_being_removed, note_removal, remove_copied},
    remove_tree::{hide, remove_scratch},
    sync_folder,
};
use crate::{
    disk::{
        lookup::is_gone,
        open_files::{self, OpenFileProbe},
    },
    model::{
        layout::{ASIDE_PREFIX, TRASH_PREFIX},
        progress::Progress,
    },
};

/// What is asked of the source of a copy.
pub(super) struct Looks<'a> {
    /// Whether it is what it was.
    pub(super) unchanged: &'a dyn Fn(&Path) -> io::Result<bool>,
    /// Whether a file of it is open for writing.
    pub(super) probe: OpenFileProbe,
}

/// What speaks against removing it.
pub(super) enum Against {
    Changed,
    /// This file of it is open for writing.
    Open(PathBuf),
    Failed(io::Error),
}

impl Looks<'_> {
    /// The first file that is open for writing.
    pub(super) fn open_file(
        &self,
        path: &Path,
        progress: &Progress,
    ) -> io::Result<Option<PathBuf>> {
        open_files::find_open(path, self.probe, progress).map_err(io::Error::other)
    }

    pub(super) fn against(&self, path: &Path, progress: &Progress) -> Option<Against> {
        match self.open_file(path, progress) {
            Ok(None) => {}
            Ok(Some(file)) => return Some(Against::Open(file)),
            Err(error) => return Some(Against::Failed(error)),
        }
        match (self.unchanged)(path) {
            Ok(true) => None,
            Ok(false) => Some(Against::Changed),
            Err(error) => Some(Against::Failed(error)),
        }
    }
}

/// What became of the source of a copy.
pub(super) enum SourceEnd {
    Removed,
    /// It stands here, durably, and why.
    Stays(PathBuf, Against),
}

/// Removes the source of a copy, as long as nothing speaks against it.
pub(super) fn take_away(
    from: &Path,
    copy: &Path,
    looks: &Looks<'_>,
    progress: &Progress,
) -> io::Result<SourceEnd> {
    let name = from.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = match hide(from, ASIDE_PREFIX, name) {
        Ok(Some(hidden)) => hidden,
        // Another program took it away, and has it.
        Ok(None) => return Ok(SourceEnd::Removed),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            return take_away_in_place(from, copy, looks, progress);
        }
        Err(error) => return Ok(SourceEnd::Stays(from.to_owned(), Against::Failed(error))),
    };
    // Twice: what has the trash name is removed by the next start without a look, and what is
    // written while the folder is flushed has to be seen as well.
    let mut against = looks.against(&hidden, progress);
    if against.is_none() {
        let renamed = hide(&hidden, TRASH_PREFIX, name).and_then(|trash| {
            hidden = trash.ok_or(io::ErrorKind::NotFound)?;
            sync_folder(parent_of(from)?)
        });
        against = match renamed {
            Ok(()) => looks.against(&hidden, progress),
            Err(error) => Some(Against::Failed(error)),
        };
    }
    // The last look at the copy: on another host a shipper may have taken it for a killed one's.
    let against =
        against.or_else(
            || match compare::has_the_same_entries(&hidden, copy, progress) {
                Ok(true) => None,
                // What is back in episodes/ is shipped at once: the whole of it has another name by
                // now.
                _ if is_gone(copy) => None,
                Ok(false) => Some(Against::Failed(copy_tree::meddled_with(from, copy))),
                Err(error) => Some(Against::Failed(io::Error::other(error))),
            },
        );
    if let Some(against) = against {
        return Ok(SourceEnd::Stays(put_back(&hidden, from)?, against));
    }
    if let Err(error) = remove_scratch(&hidden, progress) {
        tracing::warn!(
            "{} was copied, but what is left of it cannot be removed: {error}. It is tried again at the next start.",
            from.display()
        );
    }
    Ok(SourceEnd::Removed)
}

/// As `remove_in_place::finish_removal`, of one directory, by a daemon that runs.
///
/// # Errors
/// As there, and [`io::ErrorKind::ResourceBusy`] where a shipper that starts puts the folder in
/// order.
pub(crate) fn finish_removal(path: &Path, progress: &Progress) -> io::Result<Finished> {
    let _at_work = at_work(parent_of(path)?)?;
    remove_in_place::finish_removal(path, progress)
}

/// As [`take_away`], where the source can have no other name.
fn take_away_in_place(
    from: &Path,
    copy: &Path,
    looks: &Looks<'_>,
    progress: &Progress,
) -> io::Result<SourceEnd> {
    let stays = |against: Against| Ok(SourceEnd::Stays(from.to_owned(), against));
    if let Err(error) = note_removal(from, Some(copy)) {
        return stays(Against::Failed(error));
    }
    let against = || looks.against(from, progress);
    match remove_copied(
        from,
        copy,
        looks.probe,
        against,
        || Against::Changed,
        progress,
    ) {
        Ok(Ok(_)) => {}
        Ok(Err(against)) => return stays(against),
        Err(error) if is_being_removed(from) => {
            tracing::warn!(
                "{} was copied, but what is left of it cannot be removed: {error}. It is tried again.",
                from.display()
            );
        }
        // Another program went on with it, and has removed it.
        Err(_) if is_gone(from) => {}
        Err(error) => return stays(Against::Failed(error)),
    }
    Ok(SourceEnd::Removed)
}
