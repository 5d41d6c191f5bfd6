//! What stands under a name of ours: by now another process may have put a symlink, a FIFO or a
//! terminal there, or taken it away.

use std::{
    fs::{File, OpenOptions, symlink_metadata},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// How a file is opened for reading. No symlink is followed, the open does not wait for the other
/// end of a FIFO, and a terminal does not become ours.
pub(crate) fn options() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    options
}

/// Opens a regular file for reading.
///
/// # Errors
/// Those of open(2), and [`io::ErrorKind::InvalidInput`] for anything else.
pub(crate) fn regular(path: &Path) -> io::Result<File> {
    regular_by(&options(), path)
}

/// As [`regular`], with more than its [`options`].
pub(crate) fn regular_by(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        let why = "not a regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

/// The beginning of a regular file, up to so many bytes.
///
/// # Errors
/// As [`regular`], and those of read(2).
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular(path)?.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `None` where there is nothing of that name.
pub(crate) fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Whether there is certainly nothing of that name.
pub(crate) fn is_gone(path: &Path) -> bool {
    matches!(if_there(symlink_metadata(path)), Ok(None))
}
