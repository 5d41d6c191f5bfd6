//! Owner, group and mode of what is there, changed through a descriptor: no symlink is followed, on
//! the way to it neither.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::fd::AsFd,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, fchown,
        fstat, openat, openat2, statat,
    },
    io::Errno,
};

use super::tree::MAX_DEPTH;
use crate::model::layout::MARKER;

const OPENED: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A name, whatever it is of: nothing is read, and no symlink followed.
const HELD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives a file or a folder to another owner or group, and changes bits of its mode. `path` has no
/// symlink in it.
///
/// # Errors
/// Those of openat2(2), fchown(2) and fchmod(2).
pub(crate) fn give(
    path: &Path,
    owner: Option<u32>,
    group: Option<u32>,
    set: u32,
    clear: u32,
) -> io::Result<()> {
    let file = match openat2(CWD, path, OPENED, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // No such call in this kernel, or a filter that knows it not.
        Err(Errno::NOSYS | Errno::PERM) => openat(CWD, path, OPENED, Mode::empty()),
        opened => opened,
    };
    let file = File::from(file?);
    if owner.is_some() || group.is_some() {
        fchown(&file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    let mode = file.metadata()?.mode() & 0o7777;
    let wanted = mode & !clear | set;
    if wanted != mode {
        fchmod(&file, Mode::from_raw_mode(wanted))?;
    }
    Ok(())
}

/// What became of an episode that was to be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Given {
    /// It belongs to its new owner; so many files in it do not, since they have other names (hard
    /// links) and another owner than the episode had.
    Done {
        /// How many.
        left: u64,
    },
    /// It is open, and its recorder's: nothing was done.
    Open,
}

/// Gives an episode, and all in it, to another owner; a symlink in it itself, and not what it leads
/// to. One that is open is its recorder's: nothing is done then, unless `may_be_open`.
///
/// # Errors
/// Those of openat(2), getdents(2) and fchownat(2).
pub(crate) fn give_episode(episode: &Path, owner: u32, may_be_open: bool) -> io::Result<Given> {
    let folder = openat(CWD, episode, OPENED | OFlags::DIRECTORY, Mode::empty())?;
    let marker = CString::new(MARKER)?;
    match statat(&folder, &*marker, AtFlags::SYMLINK_NOFOLLOW) {
        _ if may_be_open => {}
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_file() => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(Given::Open),
        Err(error) => return Err(error.into()),
    }
    let mut giving = Giving {
        owner: Uid::from_raw(owner),
        group: None,
        before: fstat(&folder)?.st_uid,
        left: 0,
    };
    giving.all_in(&folder, MAX_DEPTH)?;
    fchown(&folder, Some(giving.owner), None)?;
    Ok(Given::Done { left: giving.left })
}

/// Gives what this process has just made itself, out of sight, to an owner and a group.
///
/// # Errors
/// As [`give_episode`].
pub(crate) fn give_made(folder: &Path, owner: u32, group: u32) -> io::Result<()> {
    let folder = openat(CWD, folder, OPENED | OFlags::DIRECTORY, Mode::empty())?;
    let mut giving = Giving {
        owner: Uid::from_raw(owner),
        group: Some(Gid::from_raw(group)),
        before: fstat(&folder)?.st_uid,
        left: 0,
    };
    giving.all_in(&folder, MAX_DEPTH)?;
    Ok(fchown(&folder, Some(giving.owner), giving.group)?)
}

struct Giving {
    owner: Uid,
    group: Option<Gid>,
    /// Whose the episode was.
    before: u32,
    left: u64,
}

impl Giving {
    fn all_in(&mut self, folder: &impl AsFd, depth: usize) -> io::Result<()> {
        if depth == 0 {
            return Err(Errno::LOOP.into());
        }
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // What was looked at is what is given, whatever gets its name meanwhile.
            let held = openat(folder, name, HELD, Mode::empty())?;
            let found = fstat(&held)?;
            if FileType::from_raw_mode(found.st_mode).is_dir() {
                let below = openat(folder, name, OPENED | OFlags::DIRECTORY, Mode::empty())?;
                self.all_in(&below, depth - 1)?;
            } else if found.st_nlink > 1
                && ![self.before, self.owner.as_raw()].contains(&found.st_uid)
            {
                // Another user's file that was given a name in here stays that user's.
                self.left += 1;
                continue;
            }
            chownat(
                &held,
                c"",
                Some(self.owner),
                self.group,
                AtFlags::EMPTY_PATH,
            )?;
        }
        Ok(())
    }
}

/// The sealed episodes in `episodes` that this user cannot move: other owners' folders, which none
/// of their groups may write to.
///
/// # Errors
/// Those of listing the folder.
pub(crate) fn sealed_of_others(
    episodes: &Path,
    uid: u32,
    is_in: impl Fn(u32) -> bool,
) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(episodes)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let is_open_to = is_in(metadata.gid()) && metadata.mode() & 0o030 == 0o030;
        if metadata.is_dir()
            && !entry.file_name().as_bytes().starts_with(b".")
            && metadata.uid() != uid
            && !is_open_to
            && std::fs::symlink_metadata(entry.path().join(MARKER)).is_ok_and(|it| it.is_file())
        {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const THEIRS: u32 = 4321;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn an_open_episode_is_its_recorders_and_a_filed_one_may_have_lost_its_marker() {
        let us = rustix::process::geteuid().as_raw();
        let folder = tempfile::tempdir().unwrap();
        let episode = folder.path().join("a");
        fs::create_dir(&episode).unwrap();
        assert_eq!(give_episode(&episode, us, false).unwrap(), Given::Open);
        let done = Given::Done { left: 0 };
        assert_eq!(give_episode(&episode, us, true).unwrap(), done);
        fs::write(episode.join(MARKER), "").unwrap();
        assert_eq!(give_episode(&episode, us, false).unwrap(), done);
        // Another name for it is none.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&episode, &link).unwrap();
        assert!(give_episode(&link, us, false).is_err());
    }

    #[test]
    fn no_file_of_another_user_that_was_given_a_name_in_an_episode_changes_hands() {
        if !rustix::process::geteuid().is_root() {
            // Only root gives files away.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (episode, secret) = (folder.path().join("a"), folder.path().join("secret"));
        fs::create_dir_all(episode.join("deep")).unwrap();
        fs::write(&secret, "").unwrap();
        let (linked, data) = (episode.join("deep/linked"), episode.join("deep/data"));
        let twice = episode.join("twice");
        for path in [&data, &episode.join(MARKER), &twice] {
            fs::write(path, "").unwrap();
        }
        for (from, to) in [(&secret, &linked), (&twice, &episode.join("again"))] {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).unwrap();
        }
        for path in [&episode, &data, &twice] {
            std::os::unix::fs::chown(path, Some(1235), None).unwrap();
        }
        std::os::unix::fs::symlink(&secret, episode.join("link")).unwrap();
        let given = give_episode(&episode, THEIRS, false).unwrap();
        assert_eq!(given, Given::Done { left: 1 });
        assert_eq!((owner(&secret), owner(&linked)), (0, 0));
        // What its recorder has under two names is the episode's.
        for path in [&episode, &data, &twice, &episode.join("link")] {
            assert_eq!(owner(path), THEIRS, "{}", path.display());
        }
    }
}
