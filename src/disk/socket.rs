//! Where a daemon's socket is, and the address of one that has a name in a folder of ours
//! (unix(7)).
//!
//! ```text
//!  .sealift/control.sock   where a socket can be made there
//!  <runtime>/sealift-<uid>-<n>-<digest>/control.sock
//!                          where not: vfat, exFAT, some FUSE. The lock file says so.
//!     <runtime>: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR, /run for root, $TMPDIR or /tmp
//! ```
//!
//! An address holds 107 bytes and a path may be longer. Then it is reached through its folder,
//! which is held open: `/proc/self/fd/N/control.sock` names the same socket, to bind and to
//! connect.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, MetadataExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    disk::{durable, lookup},
    model::{
        episode::Digest,
        layout::{COPY_PREFIX, Layout},
    },
};

/// What a holder of the lock writes is far shorter.
const MAX_LOCK_BYTES: u64 = 4096;
/// Folders of the name that belong to other users are passed over, up to so many.
const MAX_TAKEN: u32 = 100;
/// For us, and for those of our group, who may ask.
const FOLDER_MODE: u32 = 0o750;
/// The digits of the digest that tell data folders apart.
const DIGEST_CHARS: usize = 16;

/// Where the daemon of a data folder makes its socket, if not there; in a folder that no other user
/// can write to. `None` where a socket can be made in the data folder, or nowhere.
pub(crate) fn elsewhere(layout: &Layout) -> Option<PathBuf> {
    let why = try_there(&layout.private).err()?;
    let folder = runtime_folders()
        .into_iter()
        .find_map(|folder| private_folder(&folder, layout).ok())?;
    tracing::info!(
        "no socket can be made in {} ({why}): it is in {}, and the lock file says so",
        layout.private.display(),
        folder.display()
    );
    Some(folder.join(SOCKET_NAME))
}

const SOCKET_NAME: &str = "control.sock";

/// Where a running daemon of this folder answers: as the lock file says, else
/// `.sealift/control.sock`. Blocks.
pub(crate) fn of(layout: &Layout) -> PathBuf {
    #[derive(Deserialize)]
    struct Holder {
        socket: Option<PathBuf>,
    }
    lookup::read(&layout.private.join("lock"), MAX_LOCK_BYTES)
        .ok()
        .and_then(|text| serde_json::from_slice::<Holder>(&text).ok())
        .and_then(|holder| holder.socket)
        .unwrap_or_else(|| layout.control_socket())
}

/// Makes a socket and removes it.
fn try_there(folder: &Path) -> io::Result<()> {
    let scratch = folder.join(format!("{COPY_PREFIX}socket-{}", std::process::id()));
    durable::remove_file(&scratch)?;
    let made = UnixListener::bind(Address::of(&scratch)?.path());
    // Some FUSE make the file and refuse the socket.
    let removed = durable::remove_file(&scratch);
    made.map(drop).and(removed)
}

fn runtime_folders() -> Vec<PathBuf> {
    let of = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
    };
    let root = rustix::process::geteuid()
        .is_root()
        .then(|| PathBuf::from("/run"));
    // systemd lists several with colons between; the first is ours.
    let unit = std::env::var("RUNTIME_DIRECTORY")
        .ok()
        .and_then(|all| all.split(':').next().map(PathBuf::from));
    let found = [
        unit.filter(|folder| folder.is_absolute()),
        of("XDG_RUNTIME_DIR"),
        root,
    ];
    found
        .into_iter()
        .flatten()
        .chain([std::env::temp_dir()])
        .filter(|folder| folder.is_dir())
        .collect()
}

/// A folder of ours that only we write to, the same for each start.
fn private_folder(runtime: &Path, layout: &Layout) -> io::Result<PathBuf> {
    let of = layout.private.canonicalize()?;
    let digest: Digest = Sha256::new_with_prefix(of.as_os_str().as_bytes()).into();
    let digest = &digest.to_string()[..DIGEST_CHARS];
    let us = rustix::process::geteuid().as_raw();
    for n in 0..MAX_TAKEN {
        let folder = runtime.join(format!("sealift-{us}-{n}-{digest}"));
        match DirBuilder::new().mode(FOLDER_MODE).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let found = fs::symlink_metadata(&folder)?;
        if found.is_dir() && found.uid() == us && found.mode() & 0o022 == 0 {
            return Ok(folder);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What `sun_path` holds beside the zero at its end.
const MAX_ADDRESS_BYTES: usize = 107;

/// A path that fits into an address, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Address {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

impl Address {
    /// Of the socket that is, or will be, at this path.
    ///
    /// # Errors
    /// Those of open(2) for the folder, where it has to be opened.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_ADDRESS_BYTES {
            return Ok(Self {
                path: path.to_owned(),
                _folder: None,
            });
        }
        let (folder, name) = path
            .parent()
            .zip(path.file_name())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let folder = openat(
            CWD,
            folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let path = Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name);
        Ok(Self {
            path,
            _folder: Some(folder),
        })
    }

    /// The path that fits.
    pub(crate) fn path(&self) -> &Path {
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
            let folder =
                (0..deep).fold(root.path().to_owned(), |path, _| path.join("f".repeat(60)));
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join("control.sock");
            let bound = UnixListener::bind(Address::of(&path).unwrap().path()).unwrap();
            assert!(path.exists(), "{}", path.display());
            UnixStream::connect(Address::of(&path).unwrap().path()).unwrap();
            drop(bound);
        }
    }
}
