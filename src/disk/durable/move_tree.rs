//! Moving a directory to another folder, under a name that is not taken.
//!
//! ```text
//!  rename    from ──renameat2(NOREPLACE)──▶ folder/name[~n] ▸ fsync both folders
//!              ▸ asked again: put back, or done
//!  EXDEV     from ──copy──▶ folder/.sealift-copy-n-name ▸ fsync all ▸ asked ▸ compared
//!              ▸ rename to name[~n] ▸ fsync
//!            from ──rename──▶ .sealift-aside-n-name ▸ asked
//!              ──rename──▶ .sealift-trash-n-name ▸ fsync ▸ asked ▸ removed
//!  EXDEV to any name (overlayfs: what the lower layer has)
//!            from/.sealift-removing ▸ fsync ▸ asked ▸ the marker removed ▸ fsync
//!              ▸ each other file asked after, and removed
//! ```
//!
//! EXDEV means another file system, two `ReadWritePaths` of one unit, which are mounts of their own
//! (rename(2)), folders of two project quotas, or a directory that has no other name at all. At
//! every moment there is either a source that the next start finds, or a copy with nothing to be
//! said against it:
//!
//! - Killed while copying: there are `.sealift-copy-n-name` and the source. The next start removes
//!   the copy; the move is made again.
//! - After the copy got its name: both, under their names. The move is made again, finds that copy,
//!   and only takes the source away.
//! - While the source was aside: the copy, and `.sealift-aside-n-name`. The next start removes that
//!   where the copy is whole and of this move (`resume.rs`); else it gives it its name back, then
//!   the same.
//! - While it was removed: the copy, and `.sealift-trash-n-name`. The next start finishes removing.
//! - While it was removed where it stands: the copy, and the rest of the source with
//!   `.sealift-removing` in it. The next start finishes removing what the copy has.
//!
//! A rename takes along what is still written to the directory; a copy does not. So a source of
//! which a process has a file open for writing is not copied, and not removed:
//! [`MoveChecked::Open`], and it stands where it was. What is asked is said in
//! [`super::take_away`].

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    Published,
    at_work::{at_work, at_work_where_known},
    compare,
    copy_space::RoomClaim,
    copy_tree, named, parent_of,
    remove_tree::{may_be_removed, remove_scratch, remove_tree},
    rename::{may_be_renamed, rename_claimed, rename_noreplace},
    scratch::scratch_directory,
    sync_folder,
    take_away::{Against, Looks, SourceEnd, take_away},
};
use crate::{
    disk::{
        lookup::is_gone,
        open_files::{OpenFileProbe, find_holder},
        tree::{self, shown},
    },
    model::{
        layout::{COPY_PREFIX, name_behind, numbered},
        progress::Progress,
    },
};

/// How many directories of one name may stand beside each other. A recorder that uses one name
/// again and again has years before it gets there; the look at each costs a microsecond.
const MAX_NUMBER: u32 = 100_000;

/// Of a directory that is built, less the umask.
const BUILT_MODE: u32 = 0o777;

/// Of a copy until it is whole.
const COPY_MODE: u32 = 0o700;

/// So many of the last that have the name are looked at for a copy that was made before. Where
/// letter case is ignored, another episode may have taken the one behind it since.
const LOOKED_AT_BEFORE: usize = 4;

/// What became of a move that holds only as long as the directory stays what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum MoveChecked {
    /// It stands there, durably.
    To(PathBuf),
    /// It was changed meanwhile. It stands here: under its old name, or numbered where that was
    /// taken again.
    Changed(PathBuf),
    /// It would have to be copied, and a file of it is open for writing: what is written to that
    /// would go with the source.
    Open {
        /// Where it stands, as above.
        at: PathBuf,
        /// The file, seen from there.
        file: PathBuf,
    },
}

/// Moves a directory to `folder`, as `name`, or as `name~1`, `name~2`, ... where that is taken.
/// Durable when it returns. Where it has to be copied and a copy of it stands there already, made
/// by a process that was killed then, that is where it is moved to.
///
/// # Errors
/// With the path in words where one file among many is concerned. The directory is where it was,
/// unless it was the last fsync that failed.
pub(crate) fn move_directory(
    from: &Path,
    folder: &Path,
    name: &str,
    progress: &Progress,
) -> io::Result<PathBuf> {
    move_at_rest(from, &TargetName::numbered(folder, name), progress)
}

/// As [`move_directory`], under this very name. For moves without the daemon's lock.
///
/// # Errors
/// As [`move_directory`], and [`io::ErrorKind::AlreadyExists`] where the name is taken: nothing was
/// moved.
pub(crate) fn move_to_name(
    from: &Path,
    folder: &Path,
    name: &str,
    progress: &Progress,
) -> io::Result<PathBuf> {
    move_at_rest(
        from,
        &TargetName {
            folder,
            name,
            last: 0,
        },
        progress,
    )
}

fn move_at_rest(from: &Path, name: &TargetName<'_>, progress: &Progress) -> io::Result<PathBuf> {
    if let Some(to) = name.take(from)? {
        return Ok(to);
    }
    // Renamed, a directory takes along what is still written to it. A copy does not: it must be at
    // rest.
    let seen = tree::fingerprint(from, progress).map_err(io::Error::other)?;
    // Behind the name of its copy this is not broken off: both would be there, each a whole
    // episode.
    let to_its_end = progress.to_its_end();
    let unchanged =
        |path: &Path| Ok(tree::fingerprint(path, &to_its_end).map_err(io::Error::other)? == seen);
    let looks = Looks {
        unchanged: &unchanged,
        probe: OpenFileProbe::below(from),
    };
    match move_by_copy(from, name, &looks, &|_| Ok(true), progress)? {
        MoveChecked::To(to) => Ok(to),
        MoveChecked::Open { at, file } => {
            let by = find_holder(&at.join(&file))
                .map(|holder| format!(" by {holder}"))
                .unwrap_or_default();
            let why = format!(
                "{} is open for writing{by}. It would have to be copied, and what is written there would be lost: close it first",
                shown(&at.join(&file))
            );
            Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
        }
        MoveChecked::Changed(_) => {
            let why = format!(
                "{}: changed while it was copied: it is still being written",
                from.display()
            );
            Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
        }
    }
}

/// As [`move_directory`], and then asks `unchanged` of the directory where it stands now. Where
/// that says no, or fails, the directory is put back. Where its old name was used again meanwhile,
/// it is put beside it, numbered: it is then shipped as an episode of that name, and nothing is
/// lost.
///
/// `of_this` is asked of a copy that a killed process may have made, before it is taken for one.
/// `probe` is asked after the files of the source where it has to be copied.
///
/// # Errors
/// As [`move_directory`], and those of `unchanged` and `of_this`.
pub(crate) fn move_unchanged(
    from: &Path,
    folder: &Path,
    name: &str,
    unchanged: &dyn Fn(&Path) -> io::Result<bool>,
    of_this: &dyn Fn(&Path) -> io::Result<bool>,
    probe: OpenFileProbe,
    progress: &Progress,
) -> io::Result<MoveChecked> {
    let name = TargetName::numbered(folder, name);
    let Some(to) = name.take(from)? else {
        return move_by_copy(from, &name, &Looks { unchanged, probe }, of_this, progress);
    };
    match unchanged(&to) {
        Ok(true) => Ok(MoveChecked::To(to)),
        other => {
            let back = put_back(&to, from)?;
            other.map(|_| MoveChecked::Changed(back))
        }
    }
}

/// Builds a directory out of sight and then gives it its name, numbered where that is taken. `fill`
/// writes into the path it is given, each file durably.
///
/// # Errors
/// Those of `fill`, mkdir(2), fsync(2) and renameat2(2); nothing is left behind but scratch.
pub(crate) fn build_directory(
    folder: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
    progress: &Progress,
) -> io::Result<PathBuf> {
    build(&TargetName::numbered(folder, name), fill, progress)
}

/// As [`build_directory`], under this very name. For a caller without the daemon's lock.
///
/// # Errors
/// As [`build_directory`], and [`io::ErrorKind::AlreadyExists`] where the name is taken.
pub(crate) fn build_as(
    folder: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
    progress: &Progress,
) -> io::Result<PathBuf> {
    let last = 0;
    build(&TargetName { folder, name, last }, fill, progress)
}

fn build(
    name: &TargetName<'_>,
    fill: impl FnOnce(&Path) -> io::Result<()>,
    progress: &Progress,
) -> io::Result<PathBuf> {
    let folder = name.folder;
    let _at_work = at_work_where_known(folder)?;
    let scratch = scratch_directory(folder, OsStr::new(name.name), BUILT_MODE)
        .map_err(|error| named(folder, &error))?;
    let built = fill(&scratch)
        .and_then(|()| sync_folder(&scratch))
        .and_then(|()| name.take(&scratch));
    match built {
        Ok(Some(to)) => Ok(to),
        Ok(None) => Err(Errno::XDEV.into()),
        Err(error) => {
            // The first error is the one to report; scratch that stays is removed at the next
            // start.
            let _ = remove_scratch(&scratch, &progress.to_its_end());
            Err(error)
        }
    }
}

/// Removes what processes that were killed left of a directory of this very name that they built;
/// for a caller that is the only one to build it.
///
/// # Errors
/// Those of listing the folder and of removing, with the path in words.
pub(crate) fn clear_unbuilt(folder: &Path, name: &str, progress: &Progress) -> io::Result<()> {
    // As it was called before these names were numbered.
    let unnumbered = format!("{COPY_PREFIX}{name}");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.file_name();
        let is_of_it = match name_behind(COPY_PREFIX, &found) {
            Some(behind) => behind == name,
            None => *found == *unnumbered,
        };
        if is_of_it {
            remove_scratch(&entry.path(), progress)?;
        }
    }
    Ok(())
}

/// A name that a directory is to have.
struct TargetName<'a> {
    folder: &'a Path,
    name: &'a str,
    /// The last number that may stand behind the name where it is taken.
    last: u32,
}

impl<'a> TargetName<'a> {
    fn numbered(folder: &'a Path, name: &'a str) -> Self {
        Self {
            folder,
            name,
            last: MAX_NUMBER,
        }
    }

    /// The names that it may come to have, in order.
    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        (0..=self.last).map(|n| self.folder.join(numbered(self.name, n)))
    }

    /// Renames a directory to the first that is free, durably. `None` where it would have to be
    /// copied.
    fn take(&self, from: &Path) -> io::Result<Option<PathBuf>> {
        let Some(to) = self.take_unsynced(from)? else {
            return Ok(None);
        };
        sync_folder(self.folder)?;
        sync_folder(parent_of(from)?)?;
        Ok(Some(to))
    }

    fn take_unsynced(&self, from: &Path) -> io::Result<Option<PathBuf>> {
        // Only a caller without the lock asks for one very name.
        let rename = if self.last == 0 {
            rename_claimed
        } else {
            rename_noreplace
        };
        for to in self.paths() {
            match rename(from, &to) {
                Ok(Published::Done) => return Ok(Some(to)),
                Ok(Published::NameTaken) => {}
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(None),
                Err(error) => return Err(named(from, &error)),
            }
        }
        Err(self.taken())
    }

    /// Whether it has to be this very name, and the name is taken.
    fn is_taken(&self) -> bool {
        self.last == 0 && fs::symlink_metadata(self.folder.join(self.name)).is_ok()
    }

    fn taken(&self) -> io::Error {
        let (name, folder) = (shown(Path::new(self.name)), self.folder.display());
        let why = match self.last {
            0 => format!("{name} is there already, in {folder}"),
            last => format!("{name} and {name}~1 to {name}~{last} are all taken in {folder}"),
        };
        io::Error::new(io::ErrorKind::AlreadyExists, why)
    }
}

/// Gives a directory its old name back, or a number behind it where that was used again. Durable
/// when it returns.
pub(super) fn put_back(from: &Path, old: &Path) -> io::Result<PathBuf> {
    let name = old
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or(io::ErrorKind::InvalidInput)?;
    TargetName::numbered(parent_of(old)?, name)
        .take(from)?
        .ok_or_else(|| Errno::XDEV.into())
}

fn move_by_copy(
    from: &Path,
    name: &TargetName<'_>,
    looks: &Looks<'_>,
    of_this: &dyn Fn(&Path) -> io::Result<bool>,
    progress: &Progress,
) -> io::Result<MoveChecked> {
    let _at_work = (at_work(name.folder)?, at_work(parent_of(from)?)?);
    // Before everything is copied for nothing.
    if let Some(file) = looks.open_file(from, progress)? {
        return Ok(MoveChecked::Open {
            at: from.to_owned(),
            file,
        });
    }
    let mut is_ours = false;
    let to = match copied_before(from, name, of_this, progress)? {
        Some(to) => to,
        None if name.is_taken() => return Err(name.taken()),
        None => match may_be_renamed(from)
            .and_then(|()| may_be_removed(from, progress))
            .and_then(|()| copy(from, name, looks, progress))?
        {
            Ok(to) => {
                is_ours = true;
                to
            }
            Err(against) => return stays(from.to_owned(), against),
        },
    };
    // Where it could not even be put back, the copy stays: it may be all that there is.
    let to_its_end = progress.to_its_end();
    let (at, against) = match take_away(from, &to, looks, &to_its_end)? {
        SourceEnd::Removed => return Ok(MoveChecked::To(to)),
        SourceEnd::Stays(at, against) => (at, against),
    };
    // It stood there before: an operator may have made the source out of it, and be at work on
    // that. Where this was told to stop, the next start finds the copy, and goes on.
    if is_ours && progress.check().is_ok() {
        remove_needless_copy(&at, &to, &to_its_end);
    }
    stays(at, against)
}

/// Removes the copy of what stays.
fn remove_needless_copy(source: &Path, copy: &Path, progress: &Progress) {
    let (source_shown, copy_shown) = (shown(source), shown(copy));
    match compare::is_whole(source, copy, progress) {
        Ok(true) => {
            if let Err(error) = remove_tree(copy, progress) {
                tracing::warn!(
                    "{source_shown} stays, and its copy {copy_shown} cannot be removed: {error}. Remove it by hand."
                );
            }
        }
        // Some of it is in the copy alone: another program has removed it.
        Ok(false) => tracing::warn!(
            "{source_shown} stays, but not all of what its copy {copy_shown} has is in it any more: both are left. Compare the \
             two, and remove one by hand."
        ),
        Err(error) => tracing::warn!(
            "{source_shown} stays, and could not be compared with its copy {copy_shown}: {error}. Both are left; the next \
             attempt compares them again."
        ),
    }
}

fn stays(at: PathBuf, against: Against) -> io::Result<MoveChecked> {
    match against {
        Against::Changed => Ok(MoveChecked::Changed(at)),
        Against::Open(file) => Ok(MoveChecked::Open { at, file }),
        Against::Failed(error) => Err(error),
    }
}

/// The copy that a killed process gave its name and did not get to take the source away from. It
/// took the first name that was free, and while the source stood there no other name was taken: it
/// is one of the last that are taken.
fn copied_before(
    from: &Path,
    name: &TargetName<'_>,
    of_this: &dyn Fn(&Path) -> io::Result<bool>,
    progress: &Progress,
) -> io::Result<Option<PathBuf>> {
    let mut taken = Vec::new();
    for path in name.paths() {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => taken.push(path),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            // No such name can be there.
            Err(error) if copy_tree::is_no_name_there(&error) => break,
            Err(error) => return Err(named(&path, &error)),
        }
    }
    let mut before = None;
    for path in taken.into_iter().rev().take(LOOKED_AT_BEFORE) {
        if compare::is_copy(from, &path, progress)? && of_this(&path)? {
            before = Some(path);
            break;
        }
    }
    let Some(path) = before else { return Ok(None) };
    // It may have been killed before this.
    sync_folder(name.folder)?;
    tracing::info!(
        "{} was copied to {} before; the source is removed",
        from.display(),
        path.display()
    );
    Ok(Some(path))
}

/// Copies the source and gives the copy its name, durably; or says what speaks against that.
fn copy(
    from: &Path,
    name: &TargetName<'_>,
    looks: &Looks<'_>,
    progress: &Progress,
) -> io::Result<Result<PathBuf, Against>> {
    let room = RoomClaim::for_copy(from, name.folder, progress)?;
    let scratch = scratch_directory(name.folder, OsStr::new(name.name), COPY_MODE)
        .map_err(|error| copy_tree::told_of_name(error, from, name.folder))?;
    let copied = copy_tree::copy_into(from, &scratch, &room, progress).and_then(|()| {
        if let Some(against) = looks.against(from, progress) {
            return Ok(Err(against));
        }
        if !compare::holds_the_same(from, &scratch, progress).map_err(io::Error::other)? {
            return Err(copy_tree::differs(from, name.folder));
        }
        name.take_unsynced(&scratch).map(Ok)
    });
    let copied = match copied {
        Err(_) if is_gone(&scratch) => Err(copy_tree::meddled_with(from, name.folder)),
        copied => copied,
    };
    match copied {
        Ok(Ok(Some(to))) => match sync_folder(name.folder) {
            Ok(()) => Ok(Ok(to)),
            Err(error) => {
                // Its name is not durable, and never will be for certain: it must not be found when
                // this is tried again.
                remove_tree(&to, &progress.to_its_end())?;
                Err(error)
            }
        },
        Ok(Ok(None)) => {
            remove_scratch(&scratch, &progress.to_its_end()).and(Err(Errno::XDEV.into()))
        }
        Ok(Err(against)) => remove_scratch(&scratch, &progress.to_its_end()).map(|()| Err(against)),
        // What is told to stop leaves no half copy: only the next start would remove it.
        Err(error) => {
            let _ = remove_scratch(&scratch, &progress.to_its_end());
            Err(error)
        }
    }
}
