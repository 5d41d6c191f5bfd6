//! Disk to facts: the one way in which anything about the folders is learned. Start-up, a hint, an
//! overflow, a lost watch and the periodic pass all come through here.
//!
//! A look is cheap: it opens the episode's folder and asks for the marker, and reads nothing else.
//! Symbolic links are not followed: an episode is a real folder, a marker is a real file.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, StatxFlags, StatxTimestamp, fstat, openat, statat, statx,
    },
    io::Errno,
};

use crate::{
    disk::{durable, record_files, tree::shown},
    model::{
        episode::{EpisodeId, FolderLook, IdError, MARKED_REST, Stamp},
        layout::{Layout, MARKER, OutboxName, is_scratch, outbox_name},
        progress::Progress,
        snapshot::{MAX_STRANGERS, StrangerStatus, Strangers},
        text::printable,
    },
};

/// Made with each ext2, ext3 and ext4, mode 0700.
const LOST_AND_FOUND: &str = "lost+found";

/// Which folder `episodes/` is: another device or inode under the same name means that it was
/// replaced or mounted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootId {
    device: u64,
    inode: u64,
}

impl RootId {
    /// Of an open folder.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub(crate) fn of(folder: &File) -> io::Result<Self> {
        let metadata = folder.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// How many episodes are in `quarantine/` or `shipped/`. The error in words.
pub(crate) fn count_episodes(folder: &Path) -> Result<u64, String> {
    let failed = |error: io::Error| format!("{}: {error}", shown(folder));
    let mut count = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        count += u64::from(is_episode(&entry.map_err(failed)?));
    }
    Ok(count)
}

/// A folder, and neither hidden nor scratch of ours.
pub(crate) fn is_episode(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let hidden = name.as_encoded_bytes().starts_with(b".") || is_scratch(&name.to_string_lossy());
    !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// What a pass over the folders found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Which `episodes/` this was.
    pub root: RootId,
    /// Every folder in it whose name is an id.
    pub episodes: Vec<(EpisodeId, FolderLook)>,
    /// What is in it and can be no episode. Left alone.
    pub strangers: Vec<Stranger>,
    /// Ids with an archive in the outbox.
    pub archives: Vec<EpisodeId>,
    /// Those of them whose archive has no sidecar beside it: nothing is known of it, a verdict
    /// least of all.
    pub unlabelled: Vec<EpisodeId>,
    /// Ids without an archive, of which a conflict is noted: they were sent without one.
    pub noted: Vec<EpisodeId>,
}

impl Scan {
    /// Archives whose episode is not in `episodes/`.
    pub(crate) fn without_episode(&self) -> impl Iterator<Item = &EpisodeId> {
        let here: HashSet<_> = self.episodes.iter().map(|(id, _)| id).collect();
        self.archives.iter().filter(move |id| !here.contains(id))
    }

    /// Episodes that cannot be looked at, or whose marker seals nothing, in words; a few of them.
    pub(crate) fn unclear(&self) -> Vec<String> {
        let in_words = |(id, look): &(EpisodeId, FolderLook)| match look {
            FolderLook::OddMarker(what) => {
                Some(format!("{id}: its done.marker is {what} and seals nothing"))
            }
            FolderLook::Unreadable(why) => Some(format!("{id}: {}", printable(why))),
            FolderLook::Open
            | FolderLook::Sealed(_)
            | FolderLook::BeingRemoved
            | FolderLook::Gone => None,
        };
        let unclear = self.episodes.iter().filter_map(in_words);
        unclear.take(MAX_STRANGERS).collect()
    }

    /// What can be no episode, as it is shown: what is sealed comes first.
    pub(crate) fn strangers_shown(&self) -> Strangers {
        let mut some: Vec<_> = self.strangers.iter().collect();
        some.sort_by(|a, b| (!a.sealed, &a.name).cmp(&(!b.sealed, &b.name)));
        let shown = |stranger: &&Stranger| StrangerStatus {
            name: printable(&stranger.name.to_string_lossy()),
            why: stranger.why.to_string(),
            sealed: stranger.sealed,
        };
        Strangers {
            count: some.len() as u64,
            some: some.iter().take(MAX_STRANGERS).map(shown).collect(),
        }
    }
}

/// Something visible in `episodes/` that can be no episode, and that a recorder or an operator may
/// take for one.
#[derive(Debug)]
pub(crate) struct Stranger {
    /// Its name.
    pub name: OsString,
    /// Why it is none.
    pub why: NoEpisode,
    /// It was sealed, so its recorder believes that it is shipped.
    pub sealed: bool,
}

/// Why something in `episodes/` is no episode, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoEpisode {
    /// Its name is no id.
    #[error("{0}. Rename it to ship it.")]
    Name(IdError),
    /// A symlink to a folder with a marker in it.
    #[error(
        "it is a symlink, and what it points to is not shipped. Move the folder itself into episodes/."
    )]
    Symlink,
    /// `done.marker` beside the episodes.
    #[error(
        "it seals nothing here. It belongs directly into the folder of the episode that is complete."
    )]
    LooseMarker,
}

/// Which folder stands at this path now.
///
/// # Errors
/// Those of stat(2).
pub(crate) fn root_id(folder: &Path) -> io::Result<RootId> {
    let metadata = std::fs::metadata(folder)?;
    Ok(RootId {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// Looks at one episode.
pub(crate) fn look(episodes: &Path, id: &EpisodeId) -> FolderLook {
    match openat(rustix::fs::CWD, episodes, FOLDER, Mode::empty()) {
        Ok(folder) => look_in(&folder, id),
        Err(error) => {
            FolderLook::Unreadable(format!("Failed to open {}: {error}", episodes.display()))
        }
    }
}

/// Looks everywhere.
///
/// # Errors
/// Where `episodes/` or the outbox cannot be listed, with the folder in words. A single episode
/// that cannot be looked at is a fact, not an error.
pub(crate) fn scan(layout: &Layout, progress: &Progress) -> io::Result<Scan> {
    scan_while(layout, progress, || true).map(|(found, _)| found)
}

/// As [`scan`], for a caller that does not wait for all: for as long as this holds. Whether nothing
/// was left out stands beside it.
///
/// # Errors
/// As [`scan`].
pub(crate) fn scan_while(
    layout: &Layout,
    progress: &Progress,
    go_on: impl Fn() -> bool,
) -> io::Result<(Scan, bool)> {
    let of = |folder: &Path, error: io::Error| {
        let why = if error.kind() == io::ErrorKind::NotFound {
            "is missing".to_owned()
        } else {
            error.to_string()
        };
        io::Error::new(error.kind(), format!("{}: {why}", shown(folder)))
    };
    let folder = openat(rustix::fs::CWD, &layout.episodes, FOLDER, Mode::empty());
    let folder = File::from(folder.map_err(|errno| of(&layout.episodes, errno.into()))?);
    let root = RootId::of(&folder)?;
    let mut found = Scan {
        root,
        episodes: Vec::new(),
        strangers: Vec::new(),
        archives: Vec::new(),
        unlabelled: Vec::new(),
        noted: Vec::new(),
    };
    // By descriptor, so that what is listed and what is looked at are one folder.
    let mut whole = true;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        progress.step();
        if !go_on() {
            whole = false;
            break;
        }
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") {
            continue;
        }
        let name: OsString = std::os::unix::ffi::OsStringExt::from_vec(name.to_vec());
        match EpisodeId::from_os(&name) {
            Ok(id) => match look_in(&folder, &id) {
                FolderLook::Gone if id.as_str() == MARKER => {
                    found.strangers.push(Stranger {
                        name,
                        why: NoEpisode::LooseMarker,
                        sealed: true,
                    });
                }
                FolderLook::Gone if has_marker(&folder, &name) => {
                    found.strangers.push(Stranger {
                        name,
                        why: NoEpisode::Symlink,
                        sealed: true,
                    });
                }
                FolderLook::Gone => {}
                FolderLook::Unreadable(_) if is_lost_and_found(&folder, &name) => {}
                look => found.episodes.push((id, look)),
            },
            Err(why) => {
                let sealed = has_marker(&folder, &name);
                found.strangers.push(Stranger {
                    name,
                    why: NoEpisode::Name(why),
                    sealed,
                });
            }
        }
    }
    let mut labelled = HashSet::new();
    for entry in std::fs::read_dir(&layout.outbox).map_err(|error| of(&layout.outbox, error))? {
        progress.step();
        if !go_on() {
            whole = false;
            break;
        }
        match outbox_name(&entry?.file_name()) {
            OutboxName::Archive(id) => found.archives.push(id),
            OutboxName::Sidecar(id) => {
                labelled.insert(id);
            }
            OutboxName::Partial(_)
            | OutboxName::Plan(_)
            | OutboxName::Scratch
            | OutboxName::Stranger => {}
        }
    }
    let archives: HashSet<_> = found.archives.iter().collect();
    let alone = labelled.iter().filter(|id| !archives.contains(id));
    // Few stand alone, and for a moment: only those are read.
    let noted = alone.filter(|id| {
        let sidecar = record_files::sidecar(layout, id).ok().flatten();
        sidecar.is_some_and(|sidecar| sidecar.conflict().is_some())
    });
    found.noted = noted.cloned().collect();
    found.unlabelled = found
        .archives
        .iter()
        .filter(|id| !labelled.contains(id))
        .cloned()
        .collect();
    Ok((found, whole))
}

/// Whether this is where a file system's repair puts what it finds: root's, and at the very top of
/// the file system. Any other folder of that name is an episode.
pub(crate) fn is_lost_and_found(folder: &impl AsFd, name: &OsStr) -> bool {
    name == LOST_AND_FOUND && is_roots_at_the_top(folder, name)
}

fn is_roots_at_the_top(folder: &impl AsFd, name: &OsStr) -> bool {
    let of = |path: &Path| statat(folder, path, AtFlags::SYMLINK_NOFOLLOW);
    of(Path::new(name)).is_ok_and(|found| found.st_uid == 0)
        && matches!((of(Path::new(".")), of(Path::new(".."))), (Ok(here), Ok(above)) if here.st_dev != above.st_dev)
}

/// Whether this is, or points to, a folder with something of the marker's name in it.
fn has_marker(episodes: &File, name: &OsStr) -> bool {
    statat(
        episodes,
        Path::new(name).join(MARKER),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .is_ok()
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

fn look_in(episodes: impl AsFd, id: &EpisodeId) -> FolderLook {
    // O_PATH: needs no permission to read the folder, and waits for nothing.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(episodes, id.as_str(), flags, Mode::empty()) {
        Ok(folder) => folder,
        // ESTALE is how NFS says that it was removed on the server.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => return FolderLook::Gone,
        Err(error) => return FolderLook::Unreadable(format!("Failed to open the folder: {error}")),
    };
    let marker = match MarkerStat::of(&folder) {
        Ok(marker) => marker,
        // Its marker is the first that goes when it is removed where it stands.
        Err(Errno::NOENT) if durable::is_being_removed_in(&folder) => {
            return FolderLook::BeingRemoved;
        }
        Err(Errno::NOENT) => return FolderLook::Open,
        Err(Errno::STALE) => return FolderLook::Gone,
        Err(error) => {
            return FolderLook::Unreadable(format!("Failed to look at {MARKER}: {error}"));
        }
    };
    match marker.kind {
        FileType::RegularFile if durable::is_rest_of(&folder, id.as_str()) => {
            FolderLook::OddMarker(MARKED_REST)
        }
        FileType::RegularFile => match fstat(&folder) {
            Ok(folder) => FolderLook::Sealed(marker.stamp(folder.st_ino)),
            Err(error) => FolderLook::Unreadable(format!("Failed to look at the folder: {error}")),
        },
        FileType::Directory => FolderLook::OddMarker("a directory"),
        FileType::Symlink => FolderLook::OddMarker("a symlink"),
        FileType::Fifo => FolderLook::OddMarker("a FIFO"),
        _ => FolderLook::OddMarker("a socket or a device"),
    }
}

/// What a look needs to know of a marker.
struct MarkerStat {
    kind: FileType,
    inode: u64,
    size_bytes: u64,
    /// Nanoseconds after the epoch, all three.
    mtime_ns: i64,
    ctime_ns: i64,
    born_ns: Option<i64>,
}

impl MarkerStat {
    /// By statx(2), which knows when a file was made. Kernels before 4.11, and some seccomp
    /// filters, do not have it.
    fn of(folder: &impl AsFd) -> Result<Self, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match statx(folder, MARKER, AtFlags::SYMLINK_NOFOLLOW, mask) {
            Ok(found) => {
                let time = |time: StatxTimestamp| nanoseconds(time.tv_sec, time.tv_nsec.into());
                let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
                Ok(Self {
                    kind: FileType::from_raw_mode(found.stx_mode.into()),
                    inode: found.stx_ino,
                    size_bytes: found.stx_size,
                    mtime_ns: time(found.stx_mtime),
                    ctime_ns: time(found.stx_ctime),
                    born_ns: has_birth.then(|| time(found.stx_btime)),
                })
            }
            Err(Errno::NOSYS | Errno::PERM) => {
                let found = statat(folder, MARKER, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(Self {
                    kind: FileType::from_raw_mode(found.st_mode),
                    inode: found.st_ino,
                    size_bytes: u64::try_from(found.st_size).unwrap_or(0),
                    mtime_ns: nanoseconds(found.st_mtime, found.st_mtime_nsec),
                    ctime_ns: nanoseconds(found.st_ctime, found.st_ctime_nsec),
                    born_ns: None,
                })
            }
            Err(error) => Err(error),
        }
    }

    fn stamp(&self, folder_inode: u64) -> Stamp {
        Stamp {
            sealed_ns: self.mtime_ns,
            inodes: (folder_inode, self.inode),
            made_ns: self.born_ns.unwrap_or(self.ctime_ns),
            written_ns: if self.size_bytes == 0 {
                0
            } else {
                self.ctime_ns
            },
        }
    }
}

fn nanoseconds(seconds: i64, rest: u64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::try_from(rest).unwrap_or(0))
}

#[cfg(test)]
mod tests;
