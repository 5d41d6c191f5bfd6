//! The note inside a directory that is removed where it stands (`remove_in_place.rs`), and for
//! which directory it counts.
//!
//! - It says where the copy is, and counts for the very directory that it was written for: what the
//!   copy has is removed, by the start and by the daemon.
//! - It says that there is none, and counts for the same: nothing goes by the note; the clean-up
//!   judges the age anew.
//! - It says that the rest stays, and counts for whatever directory it lies in: nothing is removed;
//!   it is no episode of its copy's name.
//!
//! A note goes wherever its directory goes: who takes that back (`mv`, `cp -a`, `requeue`), takes
//! the note along. So it names the directory that it was written for, and in every other one it is
//! a file that says nothing. Older notes do not name it: they count where they name a copy, since
//! nothing goes then that is not in that.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, AsRawFd as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, stat, statat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{create_scratch, named, remove_file, sync_folder};
use crate::{
    disk::tree::open::made_ns,
    model::layout::{MARKER, REMOVING, without_number},
};

/// What stands in it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemovalNote {
    /// The version of this form; no other program's file has it.
    sealift_removing: u32,
    /// What it was written for; older notes do not say.
    of: Option<Of>,
    /// Where the directory was copied to; none where it was to go without that.
    pub(super) copied_to: Option<PathBuf>,
    /// It is removed no further: what is left is not all in the copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stays: bool,
}

/// One directory.
#[derive(Debug, Serialize, Deserialize)]
struct Of {
    /// As the kernel tells it; only compared.
    path: String,
    dev: u64,
    ino: u64,
    /// When it was made, nanoseconds after the epoch, where the file system knows.
    born_ns: Option<i64>,
}

const NOTE_VERSION: u32 = 1;
/// Two paths and a few words.
const MAX_NOTE_BYTES: u64 = 32 * 1024;

impl Of {
    fn open(folder: impl AsFd) -> io::Result<Self> {
        let found = fstat(&folder)?;
        let path = fs::read_link(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()))?;
        let born_ns = Some(made_ns(&folder)).filter(|born_ns| *born_ns > 0);
        Ok(Self {
            path: path.to_string_lossy().into_owned(),
            dev: found.st_dev,
            ino: found.st_ino,
            born_ns,
        })
    }

    /// An overlay numbers its directories anew at each mount, and no other one is made at the same
    /// nanosecond under the same path.
    fn is(&self, other: &Self) -> bool {
        let same = match (self.born_ns, other.born_ns) {
            (Some(one), Some(other)) => one == other,
            _ => (self.dev, self.ino) == (other.dev, other.ino),
        };
        same && self.path == other.path
    }
}

impl RemovalNote {
    /// Whether it lies in what has no marker any more: the marker goes first. Where an overlay
    /// without birth times is mounted anew, or under another path, nothing else shows whose note it
    /// is. What goes by it is in the copy, byte for byte.
    fn is_of_a_half(&self, folder: impl AsFd) -> bool {
        let is_there = statat(folder, MARKER, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        self.copied_to.is_some() && !is_there
    }

    fn counts_for(&self, folder: impl AsFd) -> bool {
        let is_it = match &self.of {
            Some(of) => {
                Of::open(&folder).is_ok_and(|now| of.is(&now)) || self.is_of_a_half(&folder)
            }
            None => self.copied_to.is_some(),
        };
        // Put where its copy was, it would have all of that.
        is_it
            && !self
                .copied_to
                .as_ref()
                .is_some_and(|copy| is_one(folder, copy))
    }
}

fn is_one(folder: impl AsFd, path: &Path) -> bool {
    let here = fstat(folder).map(|found| (found.st_dev, found.st_ino));
    let there = stat(path).map(|found| (found.st_dev, found.st_ino));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

/// Writes it, durably. From here on, what is left of the directory without its marker is no
/// episode.
pub(super) fn note_removal(directory: &Path, copied_to: Option<&Path>) -> io::Result<()> {
    write(directory, copied_to, false)
}

/// Writes that the rest stays.
pub(super) fn note_that_it_stays(directory: &Path, copy: &Path) -> io::Result<()> {
    write(directory, Some(copy), true)
}

fn write(directory: &Path, copied_to: Option<&Path>, stays: bool) -> io::Result<()> {
    let path = directory.join(REMOVING);
    // One that is there is of a try that did not get further, or a half.
    remove_file(&path)?;
    let written = create_scratch(&path).and_then(|mut file| {
        // Not before there is a file in it: then an overlay makes it anew in its upper layer.
        let of = Some(Of::open(opened(directory).ok_or(io::ErrorKind::NotFound)?)?);
        let copied_to = copied_to.map(Path::to_owned);
        file.write_all(&serde_json::to_vec(&RemovalNote {
            sealift_removing: NOTE_VERSION,
            of,
            copied_to,
            stays,
        })?)?;
        file.sync_all()
    });
    let written = written.and_then(|()| sync_folder(directory));
    if written.is_err() {
        let _ = remove_file(&path);
    }
    written.map_err(|error| named(directory, &error))
}

/// Takes the note back: nothing was removed.
pub(super) fn withdraw_note(directory: &Path) -> io::Result<()> {
    remove_file(&directory.join(REMOVING))?;
    sync_folder(directory)
}

/// Takes away the note that has come along with a directory and counts for another.
///
/// # Errors
/// Those of unlink(2) and fsync(2).
pub(crate) fn forget_note(directory: &Path) -> io::Result<()> {
    let Some(folder) = opened(directory) else {
        return Ok(());
    };
    match in_folder(&folder) {
        Some(note) if !note.stays && !note.counts_for(&folder) => withdraw_note(directory),
        Some(_) | None => Ok(()),
    }
}

/// The note in a directory; `None` where there is none, or one that no holder of the lock has
/// written whole.
fn in_folder(folder: impl AsFd) -> Option<RemovalNote> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(folder, REMOVING, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_NOTE_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice::<RemovalNote>(&text)
        .ok()
        .filter(|note| note.sealift_removing == NOTE_VERSION)
}

fn opened(directory: &Path) -> Option<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened: Result<_, Errno> = openat(CWD, directory, flags, Mode::empty());
    opened.ok().map(File::from)
}

/// The note by which a directory was to go, where it counts for that.
pub(super) fn counting(directory: &Path) -> Option<RemovalNote> {
    let folder = opened(directory)?;
    in_folder(&folder).filter(|note| !note.stays && note.counts_for(&folder))
}

/// Whether a directory is one that was copied, and is removed where it stands.
pub(crate) fn is_being_removed(directory: &Path) -> bool {
    counting(directory).is_some_and(|note| note.copied_to.is_some())
}

/// Whether an open folder is one that is removed where it stands, or was to go before that was
/// broken off.
pub(crate) fn is_being_removed_in(folder: impl AsFd) -> bool {
    in_folder(&folder).is_some_and(|note| !note.stays && note.counts_for(&folder))
}

/// Whether a directory is one that was to go without a copy, before that was broken off.
pub(crate) fn is_broken_off(directory: &Path) -> bool {
    counting(directory).is_some_and(|note| note.copied_to.is_none())
}

/// Whether there is a note by which this directory, or another, was to go.
pub(crate) fn has_removal_note(directory: &Path) -> bool {
    opened(directory).is_some_and(has_removal_note_in)
}

/// As [`has_removal_note`], of an open folder.
pub(super) fn has_removal_note_in(folder: impl AsFd) -> bool {
    in_folder(folder).is_some_and(|note| !note.stays)
}

/// The copy of a directory that was being removed where it stands and is not any more: it was
/// written to meanwhile, and what is left of it stays.
pub(crate) fn stays_beside(directory: &Path) -> Option<PathBuf> {
    in_folder(opened(directory)?)
        .filter(|note| note.stays)?
        .copied_to
}

/// Whether an open folder is what stayed of the episode of this name, which was delivered whole.
pub(crate) fn is_rest_of(folder: impl AsFd, id: &str) -> bool {
    let Some(copy) = in_folder(folder)
        .filter(|note| note.stays)
        .and_then(|note| note.copied_to)
    else {
        return false;
    };
    let name = copy.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name == id || without_number(name) == id)
}
