//! Disk to facts: the one way in which anything about the folders is learned. Start-up, a hint, an overflow, a lost watch and the
//! periodic pass all come through here.
//!
//! A look is cheap: it opens the episode's folder and asks for the marker, and reads nothing else. Symbolic
//! links are not followed: an episode is a real folder, a marker is a real file.

use std::{ffi::OsString, fs::File, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use crate::{
    episode::{EpisodeId, IdError, Look, Stamp},
    layout::{Layout, MARKER, OutboxName, outbox_name},
    progress::Progress,
};

/// Which folder `episodes/` is: another device or inode under the same name means that it was replaced or mounted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootId {
    device: u64,
    inode: u64,
}

impl RootId {
    /// Of an open folder.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of(folder: &File) -> io::Result<Self> {
        let metadata = folder.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// What a pass over the folders found.
#[derive(Debug)]
pub struct Scan {
    /// Which `episodes/` this was.
    pub root: RootId,
    /// Every folder in it whose name is an id.
    pub episodes: Vec<(EpisodeId, Look)>,
    /// Every visible name in it that is no id, and why. Left alone.
    pub strangers: Vec<(OsString, IdError)>,
    /// Ids with an archive in the outbox.
    pub archives: Vec<EpisodeId>,
}

/// Which folder stands at this path now.
///
/// # Errors
/// Those of stat(2).
pub fn root_id(folder: &Path) -> io::Result<RootId> {
    let metadata = std::fs::metadata(folder)?;
    Ok(RootId { device: metadata.dev(), inode: metadata.ino() })
}

/// Looks at one episode.
#[must_use]
pub fn look(episodes: &Path, id: &EpisodeId) -> Look {
    match openat(rustix::fs::CWD, episodes, FOLDER, Mode::empty()) {
        Ok(folder) => look_in(&folder, id),
        Err(error) => Look::Unreadable(format!("Failed to open {}: {error}", episodes.display())),
    }
}

/// Looks everywhere.
///
/// # Errors
/// Where `episodes/` or the outbox cannot be listed. A single episode that cannot be looked at is a fact, not an error.
pub fn scan(layout: &Layout, progress: &Progress) -> io::Result<Scan> {
    let folder = File::from(openat(rustix::fs::CWD, &layout.episodes, FOLDER, Mode::empty())?);
    let root = RootId::of(&folder)?;
    let mut found = Scan { root, episodes: Vec::new(), strangers: Vec::new(), archives: Vec::new() };
    // By descriptor, so that what is listed and what is looked at are one folder.
    for entry in rustix::fs::Dir::read_from(&folder)? {
        progress.step();
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") {
            continue;
        }
        let name: OsString = std::os::unix::ffi::OsStringExt::from_vec(name.to_vec());
        match EpisodeId::from_os(&name) {
            Ok(id) => match look_in(&folder, &id) {
                Look::Gone => {}
                look => found.episodes.push((id, look)),
            },
            Err(why) => found.strangers.push((name, why)),
        }
    }
    for entry in std::fs::read_dir(&layout.outbox)? {
        progress.step();
        if let OutboxName::Archive(id) = outbox_name(&entry?.file_name()) {
            found.archives.push(id);
        }
    }
    Ok(found)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn look_in(episodes: impl std::os::fd::AsFd, id: &EpisodeId) -> Look {
    // O_PATH: needs no permission to read the folder, and waits for nothing.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(episodes, id.as_str(), flags, Mode::empty()) {
        Ok(folder) => folder,
        // ESTALE is how NFS says that it was removed on the server.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => return Look::Gone,
        Err(error) => return Look::Unreadable(format!("Failed to open the folder: {error}")),
    };
    match statat(&folder, MARKER, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(marker) if FileType::from_raw_mode(marker.st_mode) == FileType::RegularFile => {
            match fstat(&folder) {
                Ok(folder) => Look::Sealed(stamp(&folder, &marker)),
                Err(error) => Look::Unreadable(format!("Failed to look at the folder: {error}")),
            }
        }
        Ok(_) | Err(Errno::NOENT) => Look::Open,
        Err(Errno::STALE) => Look::Gone,
        Err(error) => Look::Unreadable(format!("Failed to look at {MARKER}: {error}")),
    }
}

fn stamp(folder: &Stat, marker: &Stat) -> Stamp {
    let nanoseconds = |seconds: i64, rest: u64| {
        seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(rest).unwrap_or(0))
    };
    Stamp {
        sealed_ns: nanoseconds(marker.st_mtime, marker.st_mtime_nsec),
        inodes: (folder.st_ino, marker.st_ino),
        marker_ctime_ns: nanoseconds(marker.st_ctime, marker.st_ctime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn sandbox() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        for path in [&layout.episodes, &layout.outbox] {
            fs::create_dir(path).unwrap();
        }
        (folder, layout)
    }

    fn id(name: &str) -> EpisodeId {
        EpisodeId::parse(name).unwrap()
    }

    #[test]
    fn a_scan_and_a_look_agree_on_what_is_sealed() {
        let (_folder, layout) = sandbox();
        for name in ["open", "sealed", ".building", "odd-marker", "bad\u{1}name"] {
            fs::create_dir(layout.episodes.join(name)).unwrap();
        }
        fs::write(layout.episodes.join("sealed").join(MARKER), "").unwrap();
        fs::create_dir(layout.episodes.join("odd-marker").join(MARKER)).unwrap();
        fs::write(layout.episodes.join("a-file"), "").unwrap();
        fs::write(layout.archive(&id("left")), "").unwrap();
        fs::write(layout.outbox.join("notes.txt"), "").unwrap();

        let mut scan = scan(&layout, &Progress::default()).unwrap();
        scan.episodes.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<_> = scan.episodes.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(names, ["odd-marker", "open", "sealed"]);
        assert_eq!(scan.episodes[0].1, Look::Open);
        assert_eq!(scan.episodes[1].1, Look::Open);
        assert!(matches!(scan.episodes[2].1, Look::Sealed(_)));
        for (id, seen) in &scan.episodes {
            assert_eq!(look(&layout.episodes, id), *seen);
        }
        assert_eq!(scan.strangers.len(), 1);
        assert_eq!(scan.archives, [id("left")]);
        assert_eq!(scan.root, root_id(&layout.episodes).unwrap());
    }

    #[test]
    fn symbolic_links_are_neither_episodes_nor_markers() {
        let (folder, layout) = sandbox();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        fs::write(folder.path().join("elsewhere").join(MARKER), "").unwrap();
        symlink(folder.path().join("elsewhere"), layout.episodes.join("link")).unwrap();
        fs::create_dir(layout.episodes.join("real")).unwrap();
        symlink(folder.path().join("elsewhere").join(MARKER), layout.episodes.join("real").join(MARKER))
            .unwrap();
        assert_eq!(look(&layout.episodes, &id("link")), Look::Gone);
        assert_eq!(look(&layout.episodes, &id("real")), Look::Open);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a recorder renames as it likes")]
    fn a_marker_made_anew_is_another_stamp() {
        let (_folder, layout) = sandbox();
        let marker = layout.episode(&id("a")).join(MARKER);
        fs::create_dir(layout.episode(&id("a"))).unwrap();
        fs::write(&marker, "").unwrap();
        let first = look(&layout.episodes, &id("a"));
        assert_eq!(look(&layout.episodes, &id("a")), first);
        fs::rename(&marker, marker.with_extension("old")).unwrap();
        fs::write(&marker, "").unwrap();
        assert_ne!(look(&layout.episodes, &id("a")), first);
    }

    #[test]
    fn a_missing_root_is_an_error_and_not_an_empty_folder() {
        let (_folder, layout) = sandbox();
        fs::remove_dir(&layout.episodes).unwrap();
        assert!(scan(&layout, &Progress::default()).is_err());
        assert!(matches!(look(&layout.episodes, &id("a")), Look::Unreadable(_)));
    }
}
