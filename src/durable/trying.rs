//! Whether a move between two folders is a rename. Only a rename shows it: two `ReadWritePaths=` of one unit are two mounts
//! with one device number, and rename(2) between them is EXDEV.

use std::{fs, io, path::Path};

use super::{Published, moving::rename_noreplace};
use crate::layout::TRASH_PREFIX;

/// What a trial move came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It is a rename.
    Renames,
    /// It would be a copy.
    Copies,
}

/// Moves an empty folder of our own from one to the other, and removes it. `whose` sets those of two processes apart. Killed
/// half-way, what is left has a trash name, and goes with the daemon's next start.
///
/// # Errors
/// Those of mkdir(2) and renameat2(2): nothing can be moved there.
pub fn try_move(from: &Path, to: &Path, whose: &str) -> io::Result<Tried> {
    let scratch = from.join(format!("{TRASH_PREFIX}trial-{whose}from"));
    let target = to.join(format!("{TRASH_PREFIX}trial-{whose}to"));
    fs::create_dir(&scratch)?;
    let renamed = rename_noreplace(&scratch, &target);
    // Either of them is there. That it cannot be removed is the next start's business.
    let _ = fs::remove_dir(&scratch);
    let _ = fs::remove_dir(&target);
    match renamed {
        Ok(Published::Done) => Ok(Tried::Renames),
        Ok(Published::NameTaken) => Err(io::ErrorKind::AlreadyExists.into()),
        // rename(2) says so before it looks whether anything may be written there; a copy begins with a folder.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            fs::create_dir(&target)?;
            let _ = fs::remove_dir(&target);
            Ok(Tried::Copies)
        }
        Err(error) => Err(error),
    }
}
