//! Looking at and opening one name inside an open folder, and nothing else than that name.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::AsFd,
    path::Path,
};

use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat, openat2,
        readlinkat, statat, statx,
    },
    io::Errno,
};

use super::{Closed, TreeError, to_path};

/// What fstatat(2) says of an entry, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// File type and permission bits (inode(7)).
    pub mode: u32,
    /// Length, bytes.
    pub size_bytes: u64,
    /// Last change of the content: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the content or of the inode: seconds since 1970 and nanoseconds.
    pub ctime: (i64, u32),
}

impl Stat {
    /// The type out of [`Stat::mode`].
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Looks at an open file.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub(crate) fn of(file: &File) -> std::io::Result<Self> {
        Ok(fstat(file)?.into())
    }
}

impl From<rustix::fs::Stat> for Stat {
    // The widths of these fields differ between architectures; each fits where it is put.
    #[expect(clippy::unnecessary_cast, reason = "necessary on the others")]
    fn from(stat: rustix::fs::Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            mode: stat.st_mode as u32,
            size_bytes: stat.st_size as u64,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

/// What stat(2) counts blocks in, bytes.
const STAT_BLOCK_BYTES: u64 = 512;

impl Closed<'_> {
    /// What it takes on its disk; `None` where it cannot be looked at any more.
    pub(crate) fn allocated_bytes(&self) -> Option<u64> {
        let found = statat(
            self.folder,
            self.name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        )
        .ok()?;
        Some((found.st_blocks as u64).saturating_mul(STAT_BLOCK_BYTES))
    }
}

/// A [`TreeError`] that has not been told its path yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Error {
    Changed,
    Mount,
    Io(Errno),
}

impl Error {
    pub(crate) fn at(self, path: &[u8]) -> TreeError {
        let path = to_path(path);
        match self {
            // It was there a moment ago, or was no symlink, or was a folder; ESTALE is how NFS says
            // "removed".
            Self::Changed | Self::Io(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::STALE) => {
                TreeError::Changed { path }
            }
            Self::Mount => TreeError::Mount { path },
            Self::Io(errno) => TreeError::Io {
                path,
                source: errno.into(),
            },
        }
    }
}

/// Opens the episode's own directory. The way to it is the operator's and may lead over symlinks;
/// the last component may not be one.
pub(super) fn top(episode: &Path) -> Result<(File, Stat), Errno> {
    let folder = openat(CWD, episode, FOLDER, Mode::empty())?;
    let stat = fstat(&folder)?.into();
    Ok((folder.into(), stat))
}

/// When an open folder was made, nanoseconds after the epoch; 0 where the kernel or the file system
/// does not know.
pub(crate) fn made_ns(folder: impl AsFd) -> i64 {
    match statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
        Ok(found) if found.stx_mask & StatxFlags::BTIME.bits() != 0 => {
            let (seconds, rest) = (found.stx_btime.tv_sec, i64::from(found.stx_btime.tv_nsec));
            seconds.saturating_mul(1_000_000_000).saturating_add(rest)
        }
        Ok(_) | Err(_) => 0,
    }
}

pub(crate) fn stat(folder: &File, name: &CStr) -> Result<Stat, Error> {
    // NO_AUTOMOUNT: looking must not mount anything.
    match statat(
        folder,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
    ) {
        Ok(stat) => Ok(stat.into()),
        Err(errno) => Err(Error::Io(errno)),
    }
}

/// Whether a regular file of that name stands in an open folder, wherever the folder is by now.
pub(crate) fn has_file(folder: &File, name: &CStr) -> bool {
    stat(folder, name).is_ok_and(|stat| stat.file_type() == FileType::RegularFile)
}

pub(crate) fn symlink_target(folder: &File, name: &CStr) -> Result<CString, Error> {
    readlinkat(folder, name, Vec::new()).map_err(|errno| match errno {
        // No symlink any more.
        Errno::INVAL => Error::Changed,
        errno => Error::Io(errno),
    })
}

/// Opens a folder that was seen as `seen`.
pub(crate) fn folder(parent: &File, name: &CStr, seen: &Stat) -> Result<File, Error> {
    let folder = open_inside(parent, name, FOLDER, seen)?;
    let found = Stat::from(fstat(&folder).map_err(Error::Io)?);
    let same = (found.dev, found.ino, found.mode) == (seen.dev, seen.ino, seen.mode);
    if same {
        Ok(folder.into())
    } else {
        Err(Error::Changed)
    }
}

/// Opens a regular file that was seen as `seen`, where `is_still` says that it is the same.
/// `O_NONBLOCK`: should it have become a FIFO, the open returns at once and the comparison finds
/// out; `O_NOCTTY`: should it have become a terminal, it does not become ours.
pub(crate) fn file(
    parent: &File,
    name: &CStr,
    seen: &Stat,
    is_still: impl FnOnce(&Stat) -> bool,
) -> Result<File, Error> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open_inside(parent, name, flags, seen).map_err(|error| match error {
        // Became a socket or a device without a driver (open(2)).
        Error::Io(Errno::NXIO | Errno::NODEV) => Error::Changed,
        other => other,
    })?;
    let found = Stat::from(fstat(&file).map_err(Error::Io)?);
    if is_still(&found) {
        Ok(file.into())
    } else {
        Err(Error::Changed)
    }
}

/// A file that is made where nothing stands.
pub(crate) const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(crate) const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a path of several components for reading; `None` also where the kernel has no openat2(2).
pub(super) fn beneath(top: &File, path: &Path) -> Option<File> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(top, path, flags, Mode::empty(), resolve)
        .ok()
        .map(File::from)
}

/// openat2(2) where the kernel has it and lets us (some seccomp filters answer `EPERM`). Elsewhere
/// a mount is told by its device number, which misses a folder of the same file system bound to a
/// second place.
fn open_inside(parent: &File, name: &CStr, flags: OFlags, seen: &Stat) -> Result<OwnedFd, Error> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(parent, name, flags, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Err(Error::Mount),
        // A rename or mount went on beside the look-up (openat2(2)).
        Err(Errno::AGAIN) => Err(Error::Changed),
        Err(Errno::NOSYS | Errno::PERM) => open_inside_by_device(parent, name, flags, seen),
        opened => opened.map_err(Error::Io),
    }
}

fn open_inside_by_device(
    parent: &File,
    name: &CStr,
    flags: OFlags,
    seen: &Stat,
) -> Result<OwnedFd, Error> {
    if seen.dev != Stat::from(fstat(parent).map_err(Error::Io)?).dev {
        return Err(Error::Mount);
    }
    openat(parent, name, flags, Mode::empty()).map_err(Error::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way for kernels without openat2(2), which the machine that runs this is likely to have.
    #[test]
    fn without_openat2_a_mount_is_told_by_its_device() {
        let root = File::open("/").unwrap();
        let seen = stat(&root, c"proc").unwrap();
        assert_eq!(
            open_inside_by_device(&root, c"proc", FOLDER, &seen).unwrap_err(),
            Error::Mount
        );
        assert_eq!(
            open_inside(&root, c"proc", FOLDER, &seen).unwrap_err(),
            Error::Mount
        );
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        let parent = File::open(folder.path()).unwrap();
        let seen = stat(&parent, c"inner").unwrap();
        assert!(open_inside_by_device(&parent, c"inner", FOLDER, &seen).is_ok());
        let link = open_inside_by_device(&parent, c"link", FOLDER, &seen).unwrap_err();
        assert!(matches!(link.at(b"link"), TreeError::Changed { .. }));
    }
}
