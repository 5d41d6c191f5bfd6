//! Scratch under a name that is not in use: made by a mkdir(2), or an open(2) with `O_EXCL`, that
//! must succeed. A name that follows from what is written alone is not enough: where letter case is
//! ignored (FAT, exFAT, NTFS), `run0` and `Run0` have the same one.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, mkdirat};

use crate::model::layout::{COPY_PREFIX, hidden};

/// So much scratch of one name may lie in a folder before something is plainly wrong.
const MAX_SCRATCH: u32 = 10_000;

/// A new, empty directory to build in; `name` stands in its own, for people who look there.
pub(super) fn scratch_directory(folder: &Path, name: &OsStr, mode: u32) -> io::Result<PathBuf> {
    let make = |path: &Path| Ok(mkdirat(CWD, path, Mode::from_raw_mode(mode))?);
    first_free(folder, name, make).map(|(path, ())| path)
}

/// A new, empty file.
pub(super) fn scratch_file(folder: &Path, name: &OsStr) -> io::Result<(PathBuf, File)> {
    first_free(folder, name, create_new)
}

/// A new file under this name, where that is free.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o640)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

fn first_free<T>(
    folder: &Path,
    name: &OsStr,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    for n in 0..MAX_SCRATCH {
        let path = folder.join(hidden(COPY_PREFIX, n, name));
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let why = format!(
        "{}: {MAX_SCRATCH} unfinished ones of its name lie there",
        folder.join(name).display()
    );
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// Whether the name of some scratch still leads to it: other scratch of the same name may stand in
/// its place. An inode that differs alone says nothing, since some file systems number them anew.
pub(super) fn still_leads_to(scratch: &File, name: &Path) -> io::Result<bool> {
    let (ours, there) = (scratch.metadata()?, std::fs::symlink_metadata(name)?);
    let times = |of: &std::fs::Metadata| {
        (
            of.len(),
            of.mtime(),
            of.mtime_nsec(),
            of.ctime(),
            of.ctime_nsec(),
        )
    };
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()) || times(&ours) == times(&there))
}

/// What is said where it does not.
pub(super) fn taken_over(name: &Path) -> io::Error {
    let why = format!(
        "{}: another file was made under this name meanwhile",
        name.display()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}
