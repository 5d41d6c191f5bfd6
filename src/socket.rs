//! The address of a socket that has a name in a folder of ours (unix(7)).
//!
//! An address holds 107 bytes and a path may be longer. Then it is reached through its folder, which is held open:
//! `/proc/self/fd/N/control.sock` names the same socket, to bind and to connect.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// What `sun_path` holds beside the zero at its end.
const MAX_ADDRESS_BYTES: usize = 107;

/// A path that fits into an address, for as long as this lives.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl Address {
    /// Of the socket that is, or will be, at this path.
    ///
    /// # Errors
    /// Those of open(2) for the folder, where it has to be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_ADDRESS_BYTES {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let (folder, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    /// The path that fits.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_path_is_bound_and_reached_however_long_it_is() {
        let root = tempfile::tempdir().unwrap();
        for deep in [0, 3] {
            let folder = (0..deep).fold(root.path().to_owned(), |path, _| path.join("f".repeat(60)));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("control.sock");
            let bound = UnixListener::bind(Address::of(&path).unwrap().path()).unwrap();
            assert!(path.exists(), "{}", path.display());
            UnixStream::connect(Address::of(&path).unwrap().path()).unwrap();
            drop(bound);
        }
    }
}
