//! An archive becomes a folder again, whatever packed it and whatever it says.
//!
//! ```text
//!  archive ──▶ stream (one zstd frame; bounded, hashed) ──▶ members (tar; bounded) ─▶ path, parsed
//!                                                                                       │
//!     stack of open folders      <id>/   data/   deep/                                  │
//!       names are made in the last one, by its descriptor  ◀────────────────────────────┘
//!       a folder that is left gets its permissions; all is flushed beside that
//! ```
//!
//! What cannot happen, however the archive is made:
//! - **Nothing outside the folder is touched.** Each part of a path is looked at: no `..`, no root,
//!   no empty part, all of it under the one top folder `<id>/`. Names are made relative to the
//!   descriptor of a folder that we have just made ourselves; a folder is never looked up by name
//!   again, so no symlink of the archive is ever followed.
//! - **Nothing is overwritten or links elsewhere.** Every name is made new (mkdirat(2), `O_EXCL`);
//!   a second one of the same name is an error. Hard links, devices, FIFOs and whatever is not
//!   known are refused. Symlinks are made as they are.
//! - **Nothing grows without bound**: bytes, entries, depth, the decompressor's window, extension
//!   headers.
//!
//! The price is an order: a member stands behind its folder's own entry, with nothing of another
//! folder between, as our packing and every tar that walks a directory write it. Any other order is
//! refused.
//!
//! Kept: contents, permission bits, times of files, symlinks. What is all zeros becomes a hole
//! again (`sparse.rs`). Not kept: owner and group,
//! set-user-ID, set-group-ID and sticky bits, which would be given to the user who fetches. A time
//! of 0 on a folder, a symlink or `done.marker` means that it was not kept when packing: those are
//! as new.

mod members;
mod sparse;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    ffi::CString,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, mkdirat, openat,
        symlinkat, utimensat,
    },
    io::Errno,
};

use self::{
    members::{UnpackKind, UnpackMember},
    sparse::SparseWriter,
    stream::TarReader,
};
use crate::{
    disk::{
        durable::{self, FlushFailed, FlushPool},
        tree::{
            MAX_DEPTH,
            open::{FOLDER, NEW_FILE},
            shown, to_path,
        },
    },
    model::{
        episode::{Digest, EpisodeId},
        layout::MARKER,
        progress::{Cancelled, Progress},
    },
};

/// How many members an archive may have. At half a kilobyte each these are 32 GiB of headers alone.
const MAX_ENTRIES: u64 = 64 << 20;

/// How much an archive may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of the tar stream: contents and headers.
    pub max_bytes: u64,
    /// Whether that is what the disk has room for, and not what the caller set.
    pub is_room: bool,
}

impl Limits {
    fn exceeded(&self) -> UnpackError {
        UnpackError::TooLarge(*self)
    }
}

/// What was unpacked: written and flushed, all but the name of the folder itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Digest of the tar stream.
    pub content_sha256: Digest,
    /// Length of the tar stream, bytes.
    pub content_bytes: u64,
    /// Regular files.
    pub files: u64,
}

/// Why an archive was not unpacked. The folder holds a part of it, which the caller throws away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The archive cannot be read or decompressed.
    #[error("the archive cannot be read: {0}")]
    Archive(io::Error),
    /// It is no tar stream, or not a whole one.
    #[error("the archive is broken: {0}")]
    Malformed(String),
    /// A member that an honest archive of an episode does not have.
    #[error("the archive is refused: {} is {why}", shown(path))]
    Refused {
        /// As the archive says it.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// More than it may become.
    #[error("{}", too_large(.0))]
    TooLarge(Limits),
    /// More members than 64 Mi.
    #[error("the archive has more than {MAX_ENTRIES} members")]
    TooMany,
    /// The disk refused.
    #[error("failed to write {}", shown(path))]
    Write {
        /// Relative to the folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn too_large(limits: &Limits) -> String {
    let bytes = limits.max_bytes;
    if limits.is_room {
        format!("it unpacks to more than the {bytes} bytes that the disk has room for")
    } else {
        format!("it unpacks to more than {bytes} bytes; allow more with --max-bytes")
    }
}

impl UnpackError {
    fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }

    fn refused(path: &[u8], why: &str) -> Self {
        Self::Refused {
            path: to_path(path),
            why: why.to_owned(),
        }
    }
}

impl From<FlushFailed> for UnpackError {
    fn from(FlushFailed { path, cause }: FlushFailed) -> Self {
        Self::Write {
            path,
            source: cause,
        }
    }
}

/// Unpacks an archive, from its first byte on, into a new and empty folder that is ours alone; the
/// archive's top folder becomes that folder. `observe` is told how many bytes of the archive have
/// been read; `progress` stops it.
///
/// # Errors
/// [`UnpackError`].
pub(crate) fn unpack(
    archive: File,
    id: &EpisodeId,
    into: &Path,
    limits: Limits,
    progress: &Progress,
    observe: &dyn Fn(u64),
) -> Result<Unpacked, UnpackError> {
    let mut stream = TarReader::new(archive, limits, progress, observe)?;
    durable::with_flush_pool(|flushes| {
        let mut unpacking = Unpacking {
            id,
            into,
            levels: Vec::new(),
            files: 0,
            flushes,
        };
        let mut entries = 0;
        while let Some(member) = members::next(&mut stream)? {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(UnpackError::TooMany);
            }
            unpacking.member(&member, &mut stream)?;
        }
        unpacking.leave_until(0)?;
        if entries == 0 {
            return Err(UnpackError::malformed("it is empty"));
        }
        let (content_sha256, content_bytes) = stream.finish()?;
        Ok(Unpacked {
            content_sha256,
            content_bytes,
            files: unpacking.files,
        })
    })
}

struct Unpacking<'a> {
    id: &'a EpisodeId,
    into: &'a Path,
    /// From the top folder to the one that is being filled.
    levels: Vec<UnpackLevel>,
    files: u64,
    flushes: &'a FlushPool<'a>,
}

struct UnpackLevel {
    name: Vec<u8>,
    folder: File,
    /// Given to it when it is left, since it may not allow us to write into it.
    permissions: u32,
    mtime: (i64, u32),
}

impl Unpacking<'_> {
    fn member(
        &mut self,
        member: &UnpackMember,
        stream: &mut TarReader<'_>,
    ) -> Result<(), UnpackError> {
        let path = &member.path;
        let parts = inside(path, self.id, member.kind == UnpackKind::Folder)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.top(member);
        };
        if self.levels.is_empty() {
            return Err(UnpackError::refused(
                path,
                "not behind the top folder's own entry",
            ));
        }
        let same = self.levels[1..]
            .iter()
            .zip(parents)
            .take_while(|(level, part)| level.name == **part);
        let depth = 1 + same.count();
        self.leave_until(depth)?;
        if depth != 1 + parents.len() {
            return Err(UnpackError::refused(
                path,
                "not behind its folder's own entry",
            ));
        }
        let Some(level) = self.levels.last() else {
            return Err(UnpackError::refused(path, "not in a folder"));
        };
        let c_name = CString::new(*name)
            .map_err(|_| UnpackError::refused(path, "a name with a NUL in it"))?;
        let made = |errno: Errno| match errno {
            Errno::EXIST => UnpackError::refused(path, "there already: it comes twice"),
            errno => write_failed(path, errno),
        };
        match &member.kind {
            UnpackKind::Folder => {
                if parts.len() > MAX_DEPTH {
                    let why = format!("nested deeper than {MAX_DEPTH} folders");
                    return Err(UnpackError::refused(path, &why));
                }
                mkdirat(&level.folder, &c_name, Mode::RWXU).map_err(made)?;
                let folder = openat(&level.folder, &c_name, FOLDER, Mode::empty());
                let folder = folder.map_err(|errno| write_failed(path, errno))?.into();
                self.levels.push(UnpackLevel::new(name, folder, member));
                Ok(())
            }
            UnpackKind::File { size_bytes } => {
                stream.allows(*size_bytes)?;
                let file = openat(&level.folder, &c_name, NEW_FILE, Mode::RUSR | Mode::WUSR)
                    .map_err(made)?;
                self.files += 1;
                let keeps_its_time = parts != [MARKER.as_bytes()] || member.mtime != (0, 0);
                self.file(member, file.into(), *size_bytes, keeps_its_time, stream)
            }
            UnpackKind::Symlink { target } => {
                let c_target = CString::new(target.as_slice())
                    .ok()
                    .filter(|target| !target.is_empty());
                let c_target = c_target
                    .ok_or_else(|| UnpackError::refused(path, "a symlink that leads nowhere"))?;
                symlinkat(&c_target, &level.folder, &c_name).map_err(made)?;
                if member.mtime == (0, 0) {
                    return Ok(());
                }
                let times = times(member.mtime);
                utimensat(&level.folder, &c_name, &times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| write_failed(path, errno))
            }
        }
    }

    /// The archive's first entry. The folder is there, and is opened without following.
    fn top(&mut self, member: &UnpackMember) -> Result<(), UnpackError> {
        if member.kind != UnpackKind::Folder || !self.levels.is_empty() {
            return Err(UnpackError::refused(
                &member.path,
                "the top folder, a second time or as something else",
            ));
        }
        let folder = openat(CWD, self.into, FOLDER, Mode::empty());
        let folder = folder.map_err(|errno| write_failed(&member.path, errno))?;
        // Until it is complete, other users may not look into it.
        fchmod(&folder, Mode::RWXU).map_err(|errno| write_failed(&member.path, errno))?;
        self.levels.push(UnpackLevel::new(
            self.id.as_str().as_bytes(),
            folder.into(),
            member,
        ));
        Ok(())
    }

    fn file(
        &self,
        member: &UnpackMember,
        file: File,
        size_bytes: u64,
        keeps_its_time: bool,
        stream: &mut TarReader<'_>,
    ) -> Result<(), UnpackError> {
        let failed = |source| UnpackError::Write {
            path: to_path(&member.path),
            source,
        };
        let mut sparse = SparseWriter::new(&file);
        while sparse.at() < size_bytes {
            let chunk = stream.peek()?;
            if chunk.is_empty() {
                return Err(UnpackError::malformed("it ends in the middle of a file"));
            }
            let left_bytes = size_bytes - sparse.at();
            let len = usize::try_from(left_bytes).map_or(chunk.len(), |left| left.min(chunk.len()));
            sparse.write(&chunk[..len]).map_err(failed)?;
            stream.consume(len);
        }
        sparse.finish().map_err(failed)?;
        members::skip_padding(stream, size_bytes)?;
        let mtime = keeps_its_time.then_some(member.mtime);
        settle(&file, member.permissions, mtime).map_err(failed)?;
        Ok(self.flushes.flush(to_path(&member.path), file)?)
    }

    /// Leaves folders until so many are open: each gets its permissions, which it may have needed
    /// otherwise until now.
    fn leave_until(&mut self, depth: usize) -> Result<(), UnpackError> {
        while self.levels.len() > depth {
            let Some(level) = self.levels.pop() else {
                break;
            };
            let mtime = (level.mtime != (0, 0)).then_some(level.mtime);
            let path = to_path(&level.name);
            if let Err(source) = settle(&level.folder, level.permissions, mtime) {
                return Err(UnpackError::Write { path, source });
            }
            self.flushes.flush(path, level.folder)?;
        }
        Ok(())
    }
}

impl UnpackLevel {
    fn new(name: &[u8], folder: File, member: &UnpackMember) -> Self {
        Self {
            name: name.to_owned(),
            folder,
            permissions: member.permissions,
            mtime: member.mtime,
        }
    }
}

/// The parts of a member's path below the top folder; none for the top folder itself.
fn inside<'a>(
    path: &'a [u8],
    id: &EpisodeId,
    is_folder: bool,
) -> Result<Vec<&'a [u8]>, UnpackError> {
    let refused = |why| Err(UnpackError::refused(path, why));
    // Only a folder's path may end in a slash.
    let trimmed = path
        .strip_suffix(b"/")
        .filter(|_| is_folder)
        .unwrap_or(path);
    let mut parts = trimmed.split(|byte| *byte == b'/');
    if trimmed.starts_with(b"/") {
        return refused("an absolute path");
    }
    if parts.next() != Some(id.as_str().as_bytes()) {
        return refused("not inside the one top folder, the episode's");
    }
    let parts: Vec<_> = parts.collect();
    if parts
        .iter()
        .any(|part| matches!(*part, b"" | b"." | b"..") || part.contains(&0))
    {
        return refused("a path with a part that is no name");
    }
    Ok(parts)
}

/// Permissions and time, as they will stay.
fn settle(file: &File, permissions: u32, mtime: Option<(i64, u32)>) -> io::Result<()> {
    fchmod(file, Mode::from_raw_mode(permissions & 0o777))?;
    if let Some(mtime) = mtime {
        futimens(file, &times(mtime))?;
    }
    Ok(())
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        },
    }
}

fn write_failed(path: &[u8], errno: Errno) -> UnpackError {
    UnpackError::Write {
        path: to_path(path),
        source: errno.into(),
    }
}
