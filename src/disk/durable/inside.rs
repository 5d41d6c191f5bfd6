//! A new file in a folder that is held open. Another process may move the folder away as soon as
//! the file has its name (the daemon does so once an episode is delivered): every step goes by the
//! folder's descriptor, and none by its path.

use std::{fs::File, io, io::Write as _};

use rustix::{
    fs::{
        AtFlags, Mode, OFlags, RenameFlags, fchmod, linkat, openat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::Published;
use crate::model::layout::COPY_PREFIX;

/// Why a new file is not durable.
#[derive(Debug)]
pub(crate) enum NotDurable {
    /// Nothing has the name that did not have it before.
    NotPlaced(io::Error),
    /// It has its name, and the folder could not be flushed: a power cut may take the name away.
    NotFlushed(io::Error),
}

/// Writes a small file durably into an open folder, unless its name is taken there.
///
/// # Errors
/// [`NotDurable`]. That the folder is gone by the time it is flushed is none: then it was moved to
/// another file system, or removed, and its names with it.
pub(crate) fn write_new_file_in(
    folder: &File,
    name: &str,
    bytes: &[u8],
) -> Result<Published, NotDurable> {
    write_new_file_then(folder, name, bytes, || ())
}

/// As above; `placed` is called between the two steps, where a test plays the daemon.
pub(super) fn write_new_file_then(
    folder: &File,
    name: &str,
    bytes: &[u8],
    placed: impl FnOnce(),
) -> Result<Published, NotDurable> {
    let scratch = format!("{COPY_PREFIX}{name}");
    let published =
        write_scratch(folder, &scratch, bytes).and_then(|()| name_it(folder, &scratch, name));
    if !matches!(published, Ok(Published::Done)) {
        // The first error is the one to report.
        let _ = unlinkat(folder, &scratch, AtFlags::empty());
    }
    let published = published.map_err(NotDurable::NotPlaced)?;
    if matches!(published, Published::Done) {
        placed();
    }
    match folder
        .sync_all()
        .map_err(|error| (error.raw_os_error().map(Errno::from_raw_os_error), error))
    {
        // EINVAL: a file system that does not know how to flush a folder, as in `sync_folder`.
        Ok(()) | Err((Some(Errno::INVAL | Errno::NOENT | Errno::STALE), _)) => Ok(published),
        Err((_, error)) => Err(NotDurable::NotFlushed(error)),
    }
}

fn write_scratch(folder: &File, scratch: &str, bytes: &[u8]) -> io::Result<()> {
    // A leftover is unlinked and never truncated: it may be read just now.
    match unlinkat(folder, scratch, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, scratch, flags, Mode::from_raw_mode(0o640))?);
    file.write_all(bytes)?;
    fchmod(&file, Mode::from_raw_mode(0o644))?;
    file.sync_all()
}

/// As `rename_file_noreplace`, inside one folder.
fn name_it(folder: &File, scratch: &str, name: &str) -> io::Result<Published> {
    match renameat_with(folder, scratch, folder, name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Published::Done),
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            name_it_without_the_flag(folder, scratch, name)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn name_it_without_the_flag(folder: &File, scratch: &str, name: &str) -> io::Result<Published> {
    match linkat(folder, scratch, folder, name, AtFlags::empty()) {
        Ok(()) => {
            // The name is there. The scratch is left out of every archive, and swept where it
            // stays.
            let _ = unlinkat(folder, scratch, AtFlags::empty());
            Ok(Published::Done)
        }
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK) => {
            match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(Published::NameTaken),
                Err(Errno::NOENT) => {
                    rustix::fs::renameat(folder, scratch, folder, name)?;
                    Ok(Published::Done)
                }
                Err(errno) => Err(errno.into()),
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_that_is_moved_away_as_soon_as_the_name_is_there_makes_no_error() {
        let root = tempfile::tempdir().unwrap();
        let (here, there) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir(&here).unwrap();
        let folder = File::open(&here).unwrap();
        let written = write_new_file_then(&folder, "done.marker", b"x", || {
            fs::rename(&here, &there).unwrap();
        });
        assert!(matches!(written, Ok(Published::Done)), "{written:?}");
        assert_eq!(fs::read(there.join("done.marker")).unwrap(), b"x");
        assert_eq!(fs::read_dir(&there).unwrap().count(), 1);

        // Copied to another file system, and removed here.
        let folder = File::open(&there).unwrap();
        let written = write_new_file_then(&folder, "second", b"x", || {
            fs::remove_dir_all(&there).unwrap();
        });
        assert!(matches!(written, Ok(Published::Done)), "{written:?}");
    }

    #[test]
    fn what_has_the_name_already_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let folder = File::open(root.path()).unwrap();
        fs::write(
            root.path().join(format!("{COPY_PREFIX}name")),
            "of one that was killed",
        )
        .unwrap();
        assert!(matches!(
            write_new_file_in(&folder, "name", b"first"),
            Ok(Published::Done)
        ));
        assert!(matches!(
            write_new_file_in(&folder, "name", b"second"),
            Ok(Published::NameTaken)
        ));
        for place in [name_it, name_it_without_the_flag] {
            fs::write(root.path().join("scratch"), "third").unwrap();
            assert_eq!(
                place(&folder, "scratch", "name").unwrap(),
                Published::NameTaken
            );
        }
        assert_eq!(
            name_it_without_the_flag(&folder, "scratch", "other").unwrap(),
            Published::Done
        );
        assert_eq!(fs::read(root.path().join("name")).unwrap(), b"first");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }
}
