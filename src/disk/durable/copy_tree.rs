//! Copying a directory to another file system, durably.
//!
//! Kept: contents, symlinks as symlinks; permission bits, mtimes in nanoseconds, FIFOs and `user.*`
//! attributes where the other file system takes them (where not, that is logged), owner and group
//! where we may give them. What it cannot hold at all is [`CannotHold`]. Hard links become files of
//! their own, what is all zeros is left a hole where the file has any. Left out: the note by which
//! the source was to go. Left out and logged: sockets and devices. Not kept: other extended
//! attributes (labels, capabilities, ACLs), which are rules of their place. Read by descriptors,
//! without following a symlink or entering a mount.

use std::{
    borrow::Cow,
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    buffer::spare_capacity,
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat,
        fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, mknodat,
        openat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    copy_space::{RoomClaim, too_long},
    holes::{is_sparse, written},
    named,
    removal_note::has_removal_note_in,
};
use crate::{
    disk::{
        filesystem::follows_links,
        tree::{
            MAX_DEPTH,
            open::{self, Error, FOLDER, NEW_FILE, Stat},
            shown,
        },
    },
    model::{
        layout::{COPY_PREFIX, REASON, RECEIPT, REMOVING, name_behind, without_number},
        progress::Progress,
    },
};

const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of xattr(7).
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;

/// A long file is flushed in slices, so that the watchdog sees it move.
const SYNC_EVERY_BYTES: u64 = 64 << 20;

/// Copies `from` into the new, empty directory `to`, for which there is `room`, and flushes all of
/// it but the name of `to`.
pub(super) fn copy_into(
    from: &Path,
    to: &Path,
    room: &RoomClaim,
    progress: &Progress,
) -> io::Result<()> {
    let source = File::from(
        openat(CWD, from, FOLDER, Mode::empty()).map_err(|errno| named(from, &errno.into()))?,
    );
    let target = File::from(openat(CWD, to, FOLDER, Mode::empty())?);
    let mut copier = Copier::new(progress, to.parent().unwrap_or(to), room);
    copier.links_keep_nothing = follows_links(&target);
    copier.folder(&source, &target, from, 0)
}

/// Copies an open file to a new name and flushes it, but not the name.
pub(super) fn copy_file_to(source: &File, to: &Path, progress: &Progress) -> io::Result<()> {
    // What it is built in has no name that a recorder knows.
    let is_scratch = |folder: &Path| {
        folder
            .file_name()
            .is_some_and(|name| name_behind(COPY_PREFIX, name).is_some())
    };
    let folder = to
        .ancestors()
        .skip(1)
        .find(|folder| !is_scratch(folder))
        .unwrap_or(to);
    let size_bytes = source.metadata()?.len();
    let room = RoomClaim::for_file(to, size_bytes, folder)?;
    let target = File::from(openat(CWD, to, NEW_FILE, Mode::RUSR | Mode::WUSR)?);
    Copier::new(progress, folder, &room)
        .file(source, &target, to)
        .map_err(|error| {
            if is_too_long(&error) {
                too_long(to, size_bytes, folder)
            } else {
                error
            }
        })
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::FBIG.raw_os_error())
}

/// What an episode has, and the file system that it is to be copied to cannot hold: FAT and exFAT
/// have no symlinks and no names with `:` in them, take `a` and `A` for one name, and FAT has no
/// file of 4 GiB. No permission mends that.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: {what} cannot be held by the file system of {} ({errno})",
    shown(path),
    shown(folder)
)]
pub(crate) struct CannotHold {
    /// What it is of.
    path: PathBuf,
    what: Cow<'static, str>,
    /// Where it was to go.
    folder: PathBuf,
    errno: io::Error,
}

/// Whether this is why something could not be copied.
pub(crate) fn cannot_hold(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner
        .and_then(|inner| inner.downcast_ref::<CannotHold>())
        .is_some()
}

/// What is said of a name that could not be made, in a folder that is otherwise ours to write in:
/// file systems say in many ways that they have no such name, and never that they do not permit it.
const NO_SUCH_NAMES: [Errno; 4] = [Errno::NOENT, Errno::INVAL, Errno::NAMETOOLONG, Errno::ILSEQ];
/// And no such thing.
const NO_SUCH_THINGS: [Errno; 4] = [Errno::PERM, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL];

/// Whether a look at a name ended with this because no file of that name can be there.
pub(super) fn is_no_name_there(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|errno| NO_SUCH_NAMES.contains(&Errno::from_raw_os_error(errno)))
}

/// What the copy of a directory to a folder came to that cannot have its name.
pub(super) fn told_of_name(error: io::Error, from: &Path, folder: &Path) -> io::Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        // The folder itself may be missing.
        Some(errno) if NO_SUCH_NAMES.contains(&errno) && folder.is_dir() => {
            held_by_none(from, "its name", folder, errno)
        }
        _ => named(folder, &error),
    }
}

/// What was written does not read back as it was.
pub(super) fn differs(from: &Path, folder: &Path) -> io::Error {
    let why = format!(
        "{}: its copy in {} does not read back as what was written; that disk cannot be trusted",
        shown(from),
        shown(folder)
    );
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// It is not what was made, and no disk is at fault.
pub(super) fn meddled_with(from: &Path, at: &Path) -> io::Error {
    let why = format!(
        "{}: its copy at {} was taken away, or changed, by another program. Does a shipper on another host use that folder? Each \
         shipper needs folders of its own",
        shown(from),
        shown(at)
    );
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

pub(super) fn held_by_none(
    path: &Path,
    what: impl Into<Cow<'static, str>>,
    folder: &Path,
    errno: Errno,
) -> io::Error {
    let (path, what, folder) = (path.to_owned(), what.into(), folder.to_owned());
    io::Error::new(
        io::ErrorKind::Unsupported,
        CannotHold {
            path,
            what,
            folder,
            errno: errno.into(),
        },
    )
}

struct Copier<'a> {
    buffer: Vec<u8>,
    progress: &'a Progress,
    /// Where the copy will stand; for what is said.
    folder: &'a Path,
    room: &'a RoomClaim,
    /// Permission bits or mtimes were left off, and that was told.
    left_off: bool,
    /// A symlink's times would be given to what it leads to.
    links_keep_nothing: bool,
}

impl<'a> Copier<'a> {
    fn new(progress: &'a Progress, folder: &'a Path, room: &'a RoomClaim) -> Self {
        Self {
            buffer: vec![0; COPY_BUFFER_BYTES],
            progress,
            folder,
            room,
            left_off: false,
            links_keep_nothing: false,
        }
    }

    /// What a new name in the copy came to that could not be made.
    fn no_name(&self, path: &Path, errno: Errno) -> io::Error {
        match errno {
            // The copy is new, and no other process's.
            Errno::EXIST => {
                let what = "its name, which differs from another's beside it in letter case only,";
                held_by_none(path, what, self.folder, errno)
            }
            errno if NO_SUCH_NAMES.contains(&errno) => {
                held_by_none(path, "its name", self.folder, errno)
            }
            errno => named(path, &errno.into()),
        }
    }

    fn folder(
        &mut self,
        source: &File,
        target: &File,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            let why = format!("{}: nested deeper than {MAX_DEPTH} folders", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        for entry in Dir::read_from(source)? {
            let entry = entry.map_err(|errno| named(path, &errno.into()))?;
            let name = entry.file_name();
            // The copy is another directory.
            let is_note = || {
                depth == 0 && name.to_bytes() == REMOVING.as_bytes() && has_removal_note_in(source)
            };
            if !matches!(name.to_bytes(), b"." | b"..") && !is_note() {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                self.entry(source, target, name, &path, depth)?;
            }
        }
        keep_attributes(source, target, path);
        // Last, since every name that was added has changed its mtime.
        self.keep_metadata(source, target, path)
            .and_then(|()| target.sync_all())
            .map_err(|error| named(path, &error))
    }

    fn entry(
        &mut self,
        from: &File,
        to: &File,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        self.progress.check().map_err(io::Error::other)?;
        self.progress.step();
        let stat = open::stat(from, name).map_err(|error| told(error, path))?;
        let here = |errno: Errno| named(path, &errno.into());
        match stat.file_type() {
            FileType::Directory => {
                let source = open::folder(from, name, &stat).map_err(|error| told(error, path))?;
                mkdirat(to, name, Mode::RWXU).map_err(|errno| self.no_name(path, errno))?;
                self.room.written(1); // Its own block.
                let target = openat(to, name, FOLDER, Mode::empty()).map_err(here)?;
                self.folder(&source, &target.into(), path, depth + 1)
            }
            FileType::RegularFile => {
                let tries = if depth == 0 && is_record(name) {
                    RECORD_TRIES
                } else {
                    1
                };
                tried(tries, || self.file_at_rest(from, to, name, path), path)
            }
            FileType::Symlink => {
                let link = open::symlink_target(from, name).map_err(|error| told(error, path))?;
                symlinkat(&link, to, name).map_err(|errno| match errno {
                    errno if NO_SUCH_THINGS.contains(&errno) => {
                        held_by_none(path, "a symlink", self.folder, errno)
                    }
                    errno => self.no_name(path, errno),
                })?;
                match self.links_keep_nothing {
                    true => Ok(()),
                    false => keep_metadata_of_name(from, to, name).map_err(here),
                }
            }
            FileType::Fifo => {
                match mknodat(to, name, FileType::Fifo, Mode::from_raw_mode(stat.mode), 0) {
                    Ok(()) => keep_metadata_of_name(from, to, name).map_err(here),
                    // It has no content; FUSE says so in more ways than one can list. exfat-fuse
                    // leaves a regular file.
                    Err(errno) => {
                        match unlinkat(to, name, AtFlags::empty()) {
                            Ok(()) | Err(Errno::NOENT) => {}
                            Err(errno) => return Err(here(errno)),
                        }
                        let error = io::Error::from(errno);
                        tracing::warn!(
                            "{} is a FIFO; it is left out of the copy: {error}",
                            path.display()
                        );
                        Ok(())
                    }
                }
            }
            _ => {
                tracing::warn!(
                    "{} is a socket or a device; it is left out of the copy",
                    path.display()
                );
                Ok(())
            }
        }
    }

    /// Copies a file that stays what it is meanwhile. False where it did not: then there is no
    /// copy.
    fn file_at_rest(
        &mut self,
        from: &File,
        to: &File,
        name: &CStr,
        path: &Path,
    ) -> io::Result<bool> {
        let here = |errno: Errno| named(path, &errno.into());
        let stat = open::stat(from, name).map_err(|error| told(error, path))?;
        let source = match open::file(from, name, &stat, |now| *now == stat) {
            Err(Error::Changed) => return Ok(false),
            opened => opened.map_err(|error| told(error, path))?,
        };
        let opened = openat(to, name, NEW_FILE, Mode::RUSR | Mode::WUSR);
        let target = File::from(opened.map_err(|errno| self.no_name(path, errno))?);
        self.file(&source, &target, path)
            .map_err(|error| match is_too_long(&error) {
                true => too_long(path, stat.size_bytes, self.folder),
                false => named(path, &error),
            })?;
        if Stat::of(&source)? == stat {
            return Ok(true);
        }
        unlinkat(to, name, AtFlags::empty()).map_err(here)?;
        Ok(false)
    }

    fn file(&mut self, source: &File, target: &File, path: &Path) -> io::Result<()> {
        let is_sparse = is_sparse(source)?;
        let (mut offset, mut flushed) = (0, 0);
        loop {
            self.progress.check().map_err(io::Error::other)?;
            let read = match source.read_at(&mut self.buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            for bytes in written(&self.buffer[..read], is_sparse) {
                target.write_all_at(&self.buffer[bytes.clone()], offset + bytes.start as u64)?;
                self.room.written(bytes.len() as u64);
            }
            offset += read as u64;
            self.progress.advance(read as u64);
            if offset - flushed >= SYNC_EVERY_BYTES {
                target.sync_data()?;
                flushed = offset;
            }
        }
        if is_sparse {
            target.set_len(offset)?;
        }
        keep_attributes(source, target, path);
        self.keep_metadata(source, target, path)?;
        target.sync_all()
    }

    /// Owner first: changing it takes set-user-ID bits away (chown(2)). What the file system does
    /// not hold, or a unit may not set (`RestrictSUIDSGID=`), is left off: what was delivered has
    /// it.
    fn keep_metadata(&mut self, source: &File, target: &File, path: &Path) -> io::Result<()> {
        let stat = fstat(source)?;
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        // Only root may give files away; others may give a group that they are in. What may not be
        // given is ours then.
        if fchown(target, Some(owner), Some(group)).is_err() {
            let _ = fchown(target, None, Some(group));
        }
        let mode = |bits: u32| fchmod(target, Mode::from_raw_mode(stat.st_mode & bits));
        let mode_kept = mode(0o7777).or_else(|errno| {
            if is_left_off(errno) {
                mode(0o777)
            } else {
                Err(errno)
            }
        });
        for kept in [mode_kept, futimens(target, &times(&stat))] {
            match kept {
                Err(errno) if is_left_off(errno) => self.tell_left_off(path, errno),
                kept => kept?,
            }
        }
        Ok(())
    }

    /// Once for an episode, since it is so of all of it.
    fn tell_left_off(&mut self, path: &Path, errno: Errno) {
        if !std::mem::replace(&mut self.left_off, true) {
            tracing::warn!(
                "{}: its permissions or times cannot be kept by the file system of {}, and are left off: {}",
                shown(path),
                shown(self.folder),
                io::Error::from(errno)
            );
        }
    }
}

fn is_left_off(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP
    )
}

/// Our own records have just been written into the source. Network file systems and FUSE remember
/// for a while what they were told of a file before that, so the first look may differ from the
/// next, and only the one after it is true.
const RECORD_TRIES: usize = 3;

fn is_record(name: &CStr) -> bool {
    name.to_str()
        .is_ok_and(|name| [RECEIPT, REASON].contains(&without_number(name)))
}

/// Until it did not change while it was copied. A recorder's file has one try: if it changed, a
/// process is writing there.
fn tried(tries: usize, mut copy: impl FnMut() -> io::Result<bool>, path: &Path) -> io::Result<()> {
    for _ in 0..tries {
        if copy()? {
            return Ok(());
        }
    }
    Err(told(Error::Changed, path))
}

/// Before the permission bits, which may take the right to set them away. They are no part of an
/// episode's content: that one cannot be kept is told, and holds nothing up.
fn keep_attributes(source: &File, target: &File, path: &Path) {
    if let Err(errno) = try_keep_attributes(source, target) {
        tracing::warn!(
            "{}: its user attributes are not all kept: {}",
            shown(path),
            io::Error::from(errno)
        );
    }
}

fn try_keep_attributes(source: &File, target: &File) -> Result<(), Errno> {
    let mut names = Vec::with_capacity(MAX_ATTRIBUTE_BYTES);
    match flistxattr(source, spare_capacity(&mut names)) {
        // This file system has none.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        listed => listed?,
    };
    let mut first_error = Ok(());
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| name.starts_with(b"user."))
    {
        let mut value = Vec::with_capacity(MAX_ATTRIBUTE_BYTES);
        let kept = fgetxattr(source, name, spare_capacity(&mut value))
            .and_then(|_| fsetxattr(target, name, &value, XattrFlags::empty()));
        first_error = first_error.and(kept);
    }
    first_error
}

/// For what cannot be opened: symlinks and FIFOs. Both stand in a folder that no other process
/// writes to yet.
fn keep_metadata_of_name(source: &File, target: &File, name: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let _ = chownat(
        target,
        name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    );
    if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
        let _ = rustix::fs::chmodat(
            target,
            name,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        );
    }
    match utimensat(target, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW) {
        Err(errno) if is_left_off(errno) => Ok(()),
        kept => kept,
    }
}

fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let at = |tv_sec, nanoseconds| Timespec {
        tv_sec,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn told(error: Error, path: &Path) -> io::Error {
    match error {
        Error::Mount => {
            let why = format!(
                "{}: a mount point; unmount it, or keep it out of the episode",
                path.display()
            );
            io::Error::new(io::ErrorKind::ResourceBusy, why)
        }
        Error::Changed => {
            let why = format!("{}: changed while it was copied", path.display());
            io::Error::new(io::ErrorKind::ResourceBusy, why)
        }
        Error::Io(errno) => named(path, &errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_of_ours_is_tried_again_where_it_looks_changed() {
        for (name, ours) in [
            (c"shipping_receipt.json", true),
            (c"shipping_receipt.json~1", true),
            (c"quarantine_reason.json", true),
            (c"samples.bin", false),
            (c"done.marker", false),
        ] {
            assert_eq!(is_record(name), ours, "{name:?}");
        }
        let copies = |tries, looks: &[bool]| {
            let mut looks = looks.iter();
            tried(tries, || Ok(*looks.next().unwrap()), Path::new("x"))
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            copies(RECORD_TRIES, &[false, false, true]),
            Ok(()),
            "a cache that was behind"
        );
        assert!(
            copies(RECORD_TRIES, &[false; RECORD_TRIES]).is_err(),
            "it never rests"
        );
        assert!(copies(1, &[false, true]).is_err(), "a recorder's");
    }
}
