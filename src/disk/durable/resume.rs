//! Going on with a move across file systems whose process was killed while its source was aside.
//!
//! Such a source goes, as it would have gone, where its copy has all of it. Given its name back it
//! would be sent once more, and where that was used again it would come back under a number, and
//! be another episode. Where there is no such copy it has its name back all the same, and the way
//! begins again.
//!
//! ```text
//!  .sealift-aside-n-name ▸ open? ▸ its copy, byte for byte? ▸ open? changed?
//!    │           └──────── yes, or no copy: it stays
//!    └──rename──▶ .sealift-trash-n-name ▸ fsync ▸ open? changed? ▸ removed
//!                                                 └ yes: name[~n]
//! ```

use std::{io, path::Path};

use super::{
    at_work::alone,
    compare,
    move_tree::put_back,
    parent_of,
    remove_tree::{hide, remove_scratch},
    sync_folder,
    take_away::Looks,
};
use crate::{
    disk::{open_files::OpenFileProbe, tree},
    model::{
        layout::{ASIDE_PREFIX, TRASH_PREFIX, name_behind},
        progress::Progress,
    },
};

/// Removes what a killed process put aside, where `copy` has all of it, no file of it is open for
/// writing, and no other process is at work in either folder. False where it stays, or came back.
///
/// # Errors
/// Those of reading, renaming and removing it.
pub(crate) fn finish_aside(aside: &Path, copy: &Path, progress: &Progress) -> io::Result<bool> {
    let (folder, copies) = (parent_of(aside)?, parent_of(copy)?);
    let Some(name) = aside
        .file_name()
        .and_then(|name| name_behind(ASIDE_PREFIX, name))
    else {
        return Ok(false);
    };
    let (Some(_here), Some(_there)) = (alone(folder)?, alone(copies)?) else {
        return Ok(false);
    };
    let seen = tree::fingerprint(aside, progress).map_err(io::Error::other)?;
    let unchanged =
        |path: &Path| Ok(tree::fingerprint(path, progress).map_err(io::Error::other)? == seen);
    let looks = Looks {
        unchanged: &unchanged,
        probe: OpenFileProbe::below(aside),
    };
    if looks.open_file(aside, progress)?.is_some() || !compare::is_copy(aside, copy, progress)? {
        return Ok(false);
    }
    sync_folder(copies)?;
    // Twice: what has the trash name is removed by the next start without a look.
    if looks.against(aside, progress).is_some() {
        return Ok(false);
    }
    let Some(trash) = hide(aside, TRASH_PREFIX, name)? else {
        return Ok(false);
    };
    if sync_folder(folder).is_err() || looks.against(&trash, progress).is_some() {
        put_back(&trash, &folder.join(name))?;
        return Ok(false);
    }
    remove_scratch(&trash, progress).map(|()| true)
}
