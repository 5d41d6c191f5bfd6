//! Whether a copy fits where it is to go, asked before its first byte.
//!
//! ```text
//!  claim   ──▶ what it takes ≤ what is free − what other copies have claimed and not written yet
//!               │        └ no: NoRoom, and nothing is made there
//!               └ its longest file ≤ what a file may be there; no: CannotHold
//!  written ──▶ [ on the disk | claimed ........... ]     the file system counts the one,
//!                                                        other copies the rest
//! ```
//!
//! Else the copy of a large episode fills the disk each time that it is tried, and every small one
//! that comes meanwhile meets the end of it. What is counted is the least that it can take, so that
//! nothing is kept from a disk that would hold it. On a disk that compresses it may take less all
//! the same: there it waits for the room that it has where it stands. Where a quota ends before the
//! disk does, or a file system does not say what is free, the copy itself finds out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{copy_tree::held_by_none, remove_file, scratch::scratch_file};
use crate::{
    disk::{
        filesystem,
        tree::{self, Kind, TreeError, shown, to_path},
    },
    model::progress::Progress,
};

/// What a file or a folder takes is counted in these, on most file systems.
const BLOCK_BYTES: u64 = 4096;

/// Rounded up to what a file system counts in.
fn in_blocks(bytes: u64, block_bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(block_bytes).unwrap_or(bytes)
}

/// The record that comes with it, and the folder's own entry.
const AROUND_BYTES: u64 = 2 * BLOCK_BYTES;
/// What a file system keeps of where the blocks are is less than this part of them.
const MAPPING_SHIFT: u32 = 8;
/// No file system has a lower limit of a file's length.
const HELD_BY_ALL_BYTES: u64 = i32::MAX as u64;

/// What a copy takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    /// What the file system that it is copied to counts in.
    block_bytes: u64,
    blocks_bytes: u64,
    /// Each takes an inode.
    entries: u64,
    /// The longest file, and its length.
    longest: Option<(PathBuf, u64)>,
}

/// What a copy takes, and there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct NoRoom {
    folder: PathBuf,
    short: Shortage,
    need_bytes: u64,
    /// The file system is smaller than that.
    never: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortage {
    Bytes { free: u64, claimed: u64 },
    Inodes { need: u64, free: u64 },
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            folder,
            short,
            need_bytes,
            never: _,
        } = self;
        let folder = shown(folder);
        match *short {
            Shortage::Bytes { free, claimed: 0 } => {
                write!(
                    f,
                    "a copy of it takes {need_bytes} bytes on the disk of {folder}, where {free} are free"
                )?;
            }
            Shortage::Bytes { free, claimed } => write!(
                f,
                "a copy of it takes {need_bytes} bytes on the disk of {folder}, where {free} are free and {claimed} of those are for \
                 copies under way"
            )?,
            Shortage::Inodes { need, free } => {
                write!(
                    f,
                    "a copy of it takes {need} inodes on the disk of {folder}, where {free} are free"
                )?;
            }
        }
        write!(f, ", so none is begun")
    }
}

/// What would have to be free for a copy that was not begun for want of room, bytes.
pub(crate) fn room_needed(error: &io::Error) -> Option<u64> {
    error
        .get_ref()?
        .downcast_ref::<NoRoom>()
        .map(|short| short.need_bytes)
}

/// Whether the whole file system is too small for a copy: no room that is made there helps.
pub(crate) fn exceeds_the_disk(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<NoRoom>())
        .is_some_and(|short| short.never)
}

/// Whether it was inodes that there were too few of for a copy.
pub(crate) fn lacks_inodes(error: &io::Error) -> bool {
    let short = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<NoRoom>());
    short.is_some_and(|short| matches!(short.short, Shortage::Inodes { .. }))
}

/// What a copy of a directory takes, as far as it can be read, bytes.
pub(crate) fn bytes_of_copy(directory: &Path, progress: &Progress) -> u64 {
    let mut size = Size::default();
    let _ = size.count(directory, progress);
    size.bytes()
}

impl Default for Size {
    fn default() -> Self {
        Self {
            block_bytes: BLOCK_BYTES,
            blocks_bytes: 0,
            entries: 0,
            longest: None,
        }
    }
}

impl Size {
    /// Of nothing yet, that is to be copied there.
    fn on(folder: &Path) -> Self {
        Self {
            block_bytes: filesystem::block_bytes(folder),
            ..Self::default()
        }
    }

    fn count(&mut self, directory: &Path, progress: &Progress) -> Result<(), TreeError> {
        tree::walk(directory, progress, |entry| -> Result<(), TreeError> {
            match &entry.kind {
                Kind::Left(_) => return Ok(()),
                Kind::Directory => {
                    self.blocks_bytes = self.blocks_bytes.saturating_add(self.block_bytes);
                }
                Kind::Symlink(_) | Kind::Special(_) => {}
                Kind::File(file) => {
                    let size_bytes = entry.stat.size_bytes;
                    self.file(size_bytes, file.allocated_bytes().unwrap_or(size_bytes));
                    if self
                        .longest
                        .as_ref()
                        .is_none_or(|(_, longest)| *longest < size_bytes)
                    {
                        self.longest = Some((directory.join(to_path(entry.path)), size_bytes));
                    }
                }
            }
            self.entries += 1;
            Ok(())
        })
        .map(|_| ())
    }

    /// Holes stay holes, and what is kept behind its end is not copied.
    fn file(&mut self, size_bytes: u64, allocated_bytes: u64) {
        let least = in_blocks(size_bytes.min(allocated_bytes), self.block_bytes);
        self.blocks_bytes = self.blocks_bytes.saturating_add(least);
    }

    fn bytes(&self) -> u64 {
        self.blocks_bytes
            .saturating_add(self.blocks_bytes >> MAPPING_SHIFT)
            .saturating_add(AROUND_BYTES)
    }

    /// `None` where it fits.
    fn lacks(&self, space: filesystem::Space, claimed: u64) -> Option<Shortage> {
        // A file system that does not say how large it is.
        if space.total_bytes == 0 {
            return None;
        }
        let free = space.free_bytes;
        if self.bytes() > free.saturating_sub(claimed) {
            return Some(Shortage::Bytes { free, claimed });
        }
        let files = space.free_files.filter(|free| *free < self.entries)?;
        Some(Shortage::Inodes {
            need: self.entries,
            free: files,
        })
    }
}

/// What copies under way have yet to write, by the room that it goes into.
static CLAIMED: Mutex<Vec<Arc<Claimed>>> = Mutex::new(Vec::new());

type RoomOfDisk = (u64, Option<u64>);

#[derive(Debug)]
struct Claimed {
    room: RoomOfDisk,
    left_bytes: Mutex<u64>,
    block_bytes: u64,
}

/// Room for one copy, until it is written or given up.
#[derive(Debug)]
pub(super) struct RoomClaim(Option<Arc<Claimed>>);

impl RoomClaim {
    /// Claims the room for a copy of a directory.
    ///
    /// # Errors
    /// [`NoRoom`], and [`CannotHold`](super::copy_tree::CannotHold) for a file that is longer than
    /// one can be there; that it was told to stop. What cannot be looked at speaks against nothing.
    pub(super) fn for_copy(from: &Path, folder: &Path, progress: &Progress) -> io::Result<Self> {
        // Our record goes along, which a walk leaves out.
        let mut size = Size {
            entries: 1,
            ..Size::on(folder)
        };
        match size.count(from, progress) {
            Err(TreeError::Cancelled(cancelled)) => return Err(io::Error::other(cancelled)),
            // The copy meets it too, and says what it is.
            Err(_) => return Ok(Self(None)),
            Ok(()) => {}
        }
        Self::take(&size, folder)
    }

    /// As [`Self::for_copy`], of one file.
    pub(super) fn for_file(path: &Path, size_bytes: u64, folder: &Path) -> io::Result<Self> {
        let mut size = Size {
            entries: 1,
            longest: Some((path.to_owned(), size_bytes)),
            ..Size::on(folder)
        };
        size.file(size_bytes, size_bytes);
        Self::take(&size, folder)
    }

    /// For a copy that is made all the same.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    fn take(size: &Size, folder: &Path) -> io::Result<Self> {
        if let Some((path, size_bytes)) = &size.longest {
            may_be_as_long(path, *size_bytes, folder)?;
        }
        let (Ok(room), Ok(space)) = (
            filesystem::room_of(folder),
            filesystem::space_for_us(folder),
        ) else {
            return Ok(Self(None));
        };
        // Looked at and claimed in one, so that of two who ask at once not both get the last of it.
        let mut all = CLAIMED.lock();
        let of_room = all.iter().filter(|other| other.room == room);
        let claimed = of_room.fold(0, |sum: u64, other| sum.saturating_add(other.left()));
        match size.lacks(space, claimed) {
            None => {
                let claimed = Arc::new(Claimed {
                    room,
                    left_bytes: Mutex::new(size.bytes()),
                    block_bytes: size.block_bytes,
                });
                all.push(Arc::clone(&claimed));
                Ok(Self(Some(claimed)))
            }
            Some(short) => {
                let (need_bytes, total) = (size.bytes(), space.total_bytes);
                let never = need_bytes > total;
                let no_room = NoRoom {
                    folder: folder.to_owned(),
                    short,
                    need_bytes,
                    never,
                };
                Err(io::Error::new(io::ErrorKind::StorageFull, no_room))
            }
        }
    }

    /// So much of it is on the disk now, at the beginning of a block.
    pub(super) fn written(&self, bytes: u64) {
        if let Some(claimed) = &self.0 {
            let mut left = claimed.left_bytes.lock();
            *left = left.saturating_sub(in_blocks(bytes, claimed.block_bytes));
        }
    }
}

impl Claimed {
    fn left(&self) -> u64 {
        *self.left_bytes.lock()
    }
}

impl Drop for RoomClaim {
    fn drop(&mut self) {
        if let Some(claimed) = &self.0 {
            let mut all = CLAIMED.lock();
            all.retain(|other| !Arc::ptr_eq(other, claimed));
        }
    }
}

/// Whether there can be a file of this length. lseek(2) goes as far as a file may be long, and
/// writes nothing; what comes over a network or through FUSE may say that only when it is written.
fn may_be_as_long(path: &Path, size_bytes: u64, folder: &Path) -> io::Result<()> {
    if let Some(most) = getrlimit(Resource::Fsize)
        .current
        .filter(|most| *most < size_bytes)
    {
        let why = format!(
            "{}: its length ({size_bytes} bytes) is over what this process may write to one file ({most} bytes: LimitFSIZE= of the \
             unit, or ulimit -f)",
            shown(path)
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    if size_bytes <= HELD_BY_ALL_BYTES {
        return Ok(());
    }
    // Where it cannot be tried, the copy finds out.
    let Ok((scratch, file)) = scratch_file(folder, std::ffi::OsStr::new("length")) else {
        return Ok(());
    };
    let sought = seek(&file, SeekFrom::Start(size_bytes));
    remove_file(&scratch)?;
    match sought {
        Err(Errno::INVAL | Errno::FBIG | Errno::OVERFLOW) => {
            Err(too_long(path, size_bytes, folder))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What is said of a file that is longer than one can be in a folder.
pub(super) fn too_long(path: &Path, size_bytes: u64, folder: &Path) -> io::Error {
    held_by_none(
        path,
        format!("its length ({size_bytes} bytes)"),
        folder,
        Errno::FBIG,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(free_bytes: u64, free_files: Option<u64>) -> filesystem::Space {
        filesystem::Space {
            free_bytes,
            total_bytes: 1 << 40,
            free_files,
        }
    }

    fn size(files: u64, bytes_each: u64) -> Size {
        let mut size = Size {
            entries: files,
            ..Size::default()
        };
        (0..files).for_each(|_| size.file(bytes_each, u64::MAX));
        size
    }

    #[test]
    fn a_copy_fits_where_its_blocks_do_beside_what_others_have_claimed_and_its_inodes() {
        let copy = size(100, 10_000);
        let need = copy.bytes();
        assert!(
            (100 * 12_288..100 * 12_288 + 100_000).contains(&need),
            "{need}"
        );
        assert_eq!(copy.lacks(space(need, Some(100)), 0), None);
        assert_eq!(
            copy.lacks(space(need - 1, None), 0),
            Some(Shortage::Bytes {
                free: need - 1,
                claimed: 0
            })
        );
        assert_eq!(
            copy.lacks(space(need, None), 1),
            Some(Shortage::Bytes {
                free: need,
                claimed: 1
            })
        );
        assert_eq!(
            copy.lacks(space(need, Some(99)), 0),
            Some(Shortage::Inodes {
                need: 100,
                free: 99
            })
        );
        let untold = filesystem::Space {
            free_bytes: 0,
            total_bytes: 0,
            free_files: None,
        };
        assert_eq!(
            copy.lacks(untold, 0),
            None,
            "a file system that does not say"
        );
    }

    #[test]
    fn holes_and_what_is_kept_behind_the_end_of_a_file_take_no_room_in_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("sparse")).unwrap();
        file.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 1 << 39).unwrap();
        let need = bytes_of_copy(folder.path(), &Progress::default());
        assert!((8192..100_000).contains(&need), "{need}");
        let mut kept = Size::default();
        kept.file(5000, 1 << 30);
        assert_eq!(kept.blocks_bytes, 8192);
    }

    #[test]
    fn copies_that_run_at_once_count_each_others_room_less_what_is_written() {
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let most = filesystem::space_for_us(folder.path()).unwrap().free_bytes / 4 * 3;
        let claim = |bytes| RoomClaim::for_file(Path::new("x"), bytes, folder.path());
        let first = claim(most).unwrap();
        let error = claim(most).unwrap_err();
        assert!(
            room_needed(&error).is_some_and(|need| need >= most),
            "{error}"
        );
        // Room that is made helps here, and not where the whole disk is smaller.
        assert!(!exceeds_the_disk(&error));
        let total = filesystem::space_for_us(folder.path()).unwrap().total_bytes;
        assert!(exceeds_the_disk(&claim(total).unwrap_err()));
        assert!(
            error
                .to_string()
                .contains(" of those are for copies under way, so none is begun"),
            "{error}"
        );
        // What was refused is not counted.
        assert!(claim(1000).is_ok());
        first.written(u64::MAX);
        assert!(claim(most).is_ok());
        drop(first);
        assert!(claim(most).is_ok());
    }

    #[test]
    fn what_many_small_files_take_is_no_more_claimed_once_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let block = filesystem::block_bytes(folder.path());
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir(from.path().join("in")).unwrap();
        (0..200).for_each(|n| std::fs::write(from.path().join(format!("in/{n}")), b"x").unwrap());
        let claim = RoomClaim::for_copy(from.path(), folder.path(), &Progress::default()).unwrap();
        (0..201).for_each(|_| claim.written(1));
        let left = claim.0.as_ref().unwrap().left();
        assert!(left < 10 * block, "{left} of {}", 200 * block);
    }

    #[test]
    fn a_file_system_of_small_blocks_is_asked_for_no_more_than_it_takes() {
        let size = Size {
            block_bytes: 1024,
            ..Size::default()
        };
        let mut small = size.clone();
        (0..1000).for_each(|_| small.file(100, 4096));
        assert_eq!(small.blocks_bytes, 1000 * 1024);
    }
}
