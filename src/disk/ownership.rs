//! Owner, group and mode of what is there, changed through a descriptor. What leads there is gone
//! name by name ([`TrustedWay`]): no symlink of another user is followed, and no mount entered in
//! an episode. What is the system's own is not changed, whatever the path says.

mod way;

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod,
        fchown, fstat, openat, openat2, stat, statat,
    },
    io::Errno,
};

pub(crate) use self::way::{Link, TrustedWay};
use super::{
    durable,
    tree::{MAX_DEPTH, shown},
};
use crate::model::layout::MARKER;

const OPENED: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A name, whatever it is of: nothing is read, and no symlink followed.
const HELD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Folders of the system, and those that hold them: whose they are is the distribution's to say.
const OF_THE_SYSTEM: [&str; 36] = [
    "/",
    "/bin",
    "/boot",
    "/boot/efi",
    "/dev",
    "/dev/shm",
    "/etc",
    "/etc/systemd",
    "/etc/systemd/system",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/run/user",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// Whose something was when the change was thought out, and its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// Gives a file or a folder to another owner or group, and changes bits of its mode; where it is
/// not as it was `before`, nothing.
///
/// # Errors
/// Those of openat(2), fchown(2) and fchmod(2); as a sentence, why it is not to be changed.
pub(crate) fn give(
    path: &Path,
    before: Option<Before>,
    owner: Option<u32>,
    group: Option<u32>,
    set: u32,
    clear: u32,
) -> io::Result<()> {
    let way = changeable(path)?;
    let file = way.open(OPENED)?;
    let found = fstat(&file)?;
    let mode = found.st_mode & 0o7777;
    let is_as_before = |before: Before| {
        (before.uid, before.gid, before.mode & 0o7777) == (found.st_uid, found.st_gid, mode)
    };
    if !before.is_none_or(is_as_before) {
        return Err(way::replaced());
    }
    change(&file, owner, group, mode & !clear | set)
}

/// Whether a folder is the system's by its path.
pub(crate) fn is_of_the_system_by_name(path: &Path) -> bool {
    OF_THE_SYSTEM.iter().any(|known| path == Path::new(known))
}

/// Why owner and mode of what stands there are not to be changed, where that is so.
pub(crate) fn blocker(path: &Path) -> Option<String> {
    changeable(path).err().map(|error| error.to_string())
}

/// Fails where what stands there does not belong to this group, or is not to be changed: another
/// user may have put it there for the sake of its group.
///
/// # Errors
/// As [`give`].
pub(crate) fn belongs_to_group(path: &Path, gid: u32) -> io::Result<()> {
    let found = fstat(&changeable(path)?.at)?;
    (found.st_gid == gid)
        .then_some(())
        .ok_or_else(way::replaced)
}

fn changeable(path: &Path) -> io::Result<TrustedWay> {
    let way = TrustedWay::to(path)?.whole()?;
    let found = fstat(&way.at)?;
    let said = |why: &str| Err(io::Error::other(format!("{} {why}", shown(&way.real))));
    if is_of_the_system(&found) {
        return said(
            "is a folder of the system, whose owner and mode stay as they are: put the data elsewhere",
        );
    }
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => Ok(way),
        // Another name of a file of another user's, which they could not read.
        FileType::RegularFile if found.st_nlink > 1 => {
            said("has other names as well (hard links): change it by hand, or copy it")
        }
        FileType::RegularFile => Ok(way),
        _ => said("is neither a file nor a folder"),
    }
}

fn is_of_the_system(found: &Stat) -> bool {
    OF_THE_SYSTEM
        .iter()
        .filter_map(|path| stat(*path).ok())
        .any(|known| (known.st_dev, known.st_ino) == (found.st_dev, found.st_ino))
}

fn change(file: impl AsFd, owner: Option<u32>, group: Option<u32>, mode: u32) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        fchown(&file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    // A chown of a file may take its set-ID bits.
    if fstat(&file)?.st_mode & 0o7777 != mode {
        fchmod(&file, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// Whose a folder becomes that is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MadeFor {
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) mode: u32,
    /// Of the folder above, where that is made too.
    pub(crate) parent_mode: u32,
}

/// Those above the two, where they are made.
pub(crate) const WAY_MODE: u32 = 0o755;

/// Makes a folder, and those above it that are missing, each durably. Owner and mode of each are
/// changed by the descriptor that it was made with. One that is there is no error, and stays as it
/// is.
///
/// # Errors
/// Those of mkdirat(2), fchown(2) and fchmod(2); the symlink that is in the way.
pub(crate) fn make_folder(path: &Path, whose: MadeFor) -> io::Result<()> {
    let way = TrustedWay::to(path)?;
    if let Some(link) = way.link {
        return Err(io::Error::other(link.to_string()));
    }
    let mut at = way.at;
    for (n, name) in way.missing.iter().enumerate() {
        let (made, is_new) = durable::create_folder_in(&at, name)?;
        if is_new {
            match way.missing.len() - n {
                1 => change(&made, whose.owner, whose.group, whose.mode)?,
                2 => change(&made, whose.owner, whose.group, whose.parent_mode)?,
                _ => change(&made, None, None, WAY_MODE)?,
            }
        }
        at = made;
    }
    Ok(())
}

/// Gives another name to what stands at a path, in its folder.
///
/// # Errors
/// As [`durable::put_aside`]; the symlink that is in the way.
pub(crate) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let (folder, name) = folder_and_name(path)?;
    let folder = folder.open(OPENED | OFlags::DIRECTORY)?;
    // The folder that was opened, whatever gets its name meanwhile.
    let held = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    durable::put_aside(&held.join(name))
}

/// The way to the folder that a path ends in, and the last name.
fn folder_and_name(path: &Path) -> io::Result<(TrustedWay, &OsStr)> {
    let refused = || io::Error::other("its last part is no name");
    let name = path.file_name().ok_or_else(refused)?;
    // `a/.` has the file name `a`, and `a/` has it too: they lead over a symlink.
    if path.as_os_str().as_bytes().ends_with(b"/.") {
        return Err(refused());
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let way = TrustedWay::to(folder.unwrap_or(Path::new(".")))?.whole()?;
    Ok((way, name))
}

/// Whether a path names something that is right in a folder, which is what `folder` leads to.
pub(crate) fn is_right_in(path: &Path, folder: &Path) -> bool {
    let same = || -> io::Result<bool> {
        let (above, _) = folder_and_name(path)?;
        let (above, folder) = (
            fstat(&above.at)?,
            fstat(&TrustedWay::to(folder)?.whole()?.at)?,
        );
        Ok((above.st_dev, above.st_ino) == (folder.st_dev, folder.st_ino))
    };
    same().unwrap_or(false)
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
/// to. One that is open is its recorder's: nothing is done then, unless `may_be_open`. Nothing is
/// done either where another file system is mounted in it. `dry_run`: it is only looked at.
///
/// # Errors
/// Those of openat(2), getdents(2) and fchownat(2).
pub(crate) fn give_episode(
    episode: &Path,
    owner: u32,
    may_be_open: bool,
    dry_run: bool,
) -> io::Result<Given> {
    let (above, name) = folder_and_name(episode)?;
    let name = CString::new(name.as_bytes())?;
    let folder = inside(&above.at, &name, OPENED | OFlags::DIRECTORY)?;
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
        is_look: true,
    };
    // All of it first, so that nothing is done by half.
    giving.all_in(&folder, MAX_DEPTH)?;
    if !dry_run {
        (giving.left, giving.is_look) = (0, false);
        giving.all_in(&folder, MAX_DEPTH)?;
        fchown(&folder, Some(giving.owner), None)?;
    }
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
        is_look: false,
    };
    giving.all_in(&folder, MAX_DEPTH)?;
    Ok(fchown(&folder, Some(giving.owner), giving.group)?)
}

/// Opens one name in an open folder, on the same mount.
fn inside(folder: impl AsFd, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    // A symlink itself is what O_PATH and O_NOFOLLOW are for; openat2(2) allows it then.
    match openat2(&folder, name, flags, Mode::empty(), resolve) {
        // No such call in this kernel, or a filter that knows it not.
        Err(Errno::NOSYS | Errno::PERM) => {
            let opened = openat(&folder, name, flags, Mode::empty())?;
            let is_mount = fstat(&opened)?.st_dev != fstat(&folder)?.st_dev;
            if is_mount { Err(mounted()) } else { Ok(opened) }
        }
        Err(Errno::XDEV) => Err(mounted()),
        opened => Ok(opened?),
    }
}

fn mounted() -> io::Error {
    io::Error::other("another file system is mounted in it, or is what it is")
}

struct Giving {
    owner: Uid,
    group: Option<Gid>,
    /// Whose the episode was.
    before: u32,
    left: u64,
    /// Nothing is given yet.
    is_look: bool,
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
            let held = inside(folder, name, HELD)?;
            let found = fstat(&held)?;
            if FileType::from_raw_mode(found.st_mode).is_dir() {
                let below = inside(folder, name, OPENED | OFlags::DIRECTORY)?;
                self.all_in(&below, depth - 1)?;
            } else if found.st_nlink > 1
                && ![self.before, self.owner.as_raw()].contains(&found.st_uid)
            {
                // Another user's file that was given a name in here stays that user's.
                self.left += 1;
                continue;
            }
            if self.is_look {
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
        let granted = metadata.mode() >> if is_in(metadata.gid()) { 3 } else { 0 };
        let is_open_to = granted & 0o3 == 0o3;
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
    use std::fs::{self, File};

    use rustix::process::geteuid;

    use super::*;

    const THEIRS: u32 = 4321;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn an_open_episode_is_its_recorders_and_a_filed_one_may_have_lost_its_marker() {
        let us = geteuid().as_raw();
        let folder = tempfile::tempdir().unwrap();
        let episode = folder.path().join("a");
        fs::create_dir(&episode).unwrap();
        assert_eq!(
            give_episode(&episode, us, false, false).unwrap(),
            Given::Open
        );
        let done = Given::Done { left: 0 };
        assert_eq!(give_episode(&episode, us, true, false).unwrap(), done);
        fs::write(episode.join(MARKER), "").unwrap();
        assert_eq!(give_episode(&episode, us, false, false).unwrap(), done);
        // Another name for it is none.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&episode, &link).unwrap();
        assert!(give_episode(&link, us, false, false).is_err());
    }

    #[test]
    fn no_file_of_another_user_that_was_given_a_name_in_an_episode_changes_hands() {
        if !geteuid().is_root() {
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
        let given = give_episode(&episode, THEIRS, false, false).unwrap();
        assert_eq!(given, Given::Done { left: 1 });
        assert_eq!((owner(&secret), owner(&linked)), (0, 0));
        // What its recorder has under two names is the episode's.
        for path in [&episode, &data, &twice, &episode.join("link")] {
            assert_eq!(owner(path), THEIRS, "{}", path.display());
        }
    }

    #[test]
    fn what_is_the_systems_own_is_not_changed_by_whatever_name() {
        // Looked at only: blocker() changes nothing.
        for path in OF_THE_SYSTEM.iter().filter(|path| Path::new(path).is_dir()) {
            assert!(blocker(Path::new(path)).is_some(), "{path}");
        }
        assert!(
            blocker(Path::new("/usr/../etc/."))
                .unwrap()
                .starts_with("/etc is ")
        );
        let folder = tempfile::tempdir().unwrap();
        let (file, again) = (folder.path().join("key"), folder.path().join("again"));
        fs::write(&file, "").unwrap();
        assert_eq!((blocker(folder.path()), blocker(&file)), (None, None));
        rustix::fs::linkat(CWD, &file, CWD, &again, AtFlags::empty()).unwrap();
        assert!(blocker(&file).unwrap().contains("hard links"));
        assert!(give(&file, None, None, None, 0o040, 0).is_err());
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(
            blocker(&fifo)
                .unwrap()
                .contains("neither a file nor a folder")
        );
    }

    #[test]
    fn what_is_not_as_it_was_when_the_change_was_thought_out_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "").unwrap();
        let found = fs::metadata(&file).unwrap();
        let before = Before {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode(),
        };
        let other = Before {
            mode: before.mode ^ 0o001,
            ..before
        };
        assert!(give(&file, Some(other), None, None, 0o040, 0o007).is_err());
        assert_eq!(fs::metadata(&file).unwrap().mode(), found.mode());
        give(&file, Some(before), None, None, 0o040, 0o007).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o047, 0o040);
    }

    #[test]
    fn a_folder_is_made_with_those_above_it_and_never_behind_a_link_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        let whose = MadeFor {
            owner: None,
            group: None,
            mode: 0o2770,
            parent_mode: 0o2750,
        };
        make_folder(&top.join("a/b/c"), whose).unwrap();
        let mode = |path: &str| fs::metadata(top.join(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode("a"), mode("a/b"), mode("a/b/c")),
            (0o755, 0o2750, 0o2770)
        );
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(top.join("a/b/c"), closed).unwrap();
        make_folder(&top.join("a/b/c"), whose).unwrap();
        assert_eq!(mode("a/b/c"), 0o700, "what is there stays as it is");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(top.join("a"), open).unwrap();
        std::os::unix::fs::symlink(top.join("a/b"), top.join("a/link")).unwrap();
        assert!(make_folder(&top.join("a/link/d"), whose).is_err());
        assert!(put_aside(&top.join("a/link/c")).is_err());
        assert!(!top.join("a/b/d").exists() && top.join("a/b/c").exists());
        let aside = put_aside(&top.join("a/b/c")).unwrap();
        assert!(top.join("a/b").join(aside.file_name().unwrap()).exists());
    }

    #[test]
    fn only_what_is_right_in_a_folder_is_right_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let filed = folder.path().join("quarantine");
        fs::create_dir_all(filed.join("a/b")).unwrap();
        assert!(is_right_in(&filed.join("a"), &filed));
        assert!(is_right_in(
            &folder.path().join("quarantine/../quarantine/a"),
            &filed
        ));
        for path in ["..", ".", "a/..", "a/.", "a/b", "", "../quarantine/.."] {
            assert!(!is_right_in(&filed.join(path), &filed), "{path}");
        }
        let _ = give_episode(&filed.join(".."), 4321, true, true).unwrap_err();
        let _ = give_episode(&filed.join("a/."), 4321, true, true).unwrap_err();
    }

    #[test]
    fn a_file_system_that_is_mounted_in_an_episode_stays_its_owners() {
        // The root folder has mounts; it is only looked at.
        let top = File::open("/").unwrap();
        let error = inside(&top, c"proc", OPENED | OFlags::DIRECTORY).unwrap_err();
        assert!(error.to_string().contains("is mounted"), "{error}");
    }
}
