//! What kind of file system a folder is on, as far as it changes what can be relied on there.
//!
//! On a file system that several hosts write to, inotify(7) is silent about what the others do, and
//! a flock(2) of one of them may be unseen by the next (on NFS: one taken on the server itself, or
//! under `local_lock`).
//!
//! Overlay is not among them. All who go through one overlay mount share its inodes, so their
//! events come and their locks are seen. What is silent is a change made behind its back, in the
//! layers below, and overlayfs gives no meaning to such a change anyhow (the kernel's
//! overlayfs.rst, "Changes to underlying filesystems"). A recorder in a container that writes to a
//! layer of its own, and not to a volume that it shares with the shipper, is the one case where it
//! matters: the reconcile pass finds that, a minute late.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, StatxAttributes, StatxFlags, fstatfs, ioctl_getflags, statfs,
    statvfs, statx,
};

use crate::model::{snapshot::RoomStatus, text::printable};

/// File systems that other hosts may write to, by their number in statfs(2).
const SHARED: [(u32, &str); 16] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x786f_4256, "a VirtualBox share"),
];

/// How much room a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// What a user without privileges may still write.
    pub free_bytes: u64,
    /// How large it is.
    pub total_bytes: u64,
    /// How many files may still be made; `None` where the file system does not count them.
    pub free_files: Option<u64>,
}

/// Which folder stands under a path, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// Major and minor number. A major number of 0 is no device of its own: NFS, FUSE, btrfs, tmpfs
    /// number theirs with each mount.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Number of the mount (Linux 5.8; 0 before).
    pub mount: u64,
    /// Whether it is the top of a mount (Linux 5.8; false before).
    pub is_mount: bool,
    /// Number of the file system's kind in statfs(2); 0 where that cannot be told.
    pub kind: u32,
    /// How large its project quota says that it is, bytes; `None` where it has none.
    pub project_bytes: Option<u64>,
}

impl Ground {
    /// Whether both are on one mount.
    pub fn has_the_mount_of(self, other: Self) -> bool {
        (self.device, self.mount) == (other.device, other.mount)
    }

    /// Whether a move from here to there is a rename: on one mount it is (rename(2)), unless there
    /// is another project, whose quota takes nothing in but what is its own.
    pub fn is_renamed_to(self, other: Self) -> bool {
        let has_the_quota =
            other.project_bytes.is_none() || self.project_bytes == other.project_bytes;
        self.has_the_mount_of(other) && has_the_quota
    }
}

/// Looks which folder stands under a path.
///
/// # Errors
/// Those of statx(2), and [`io::ErrorKind::NotADirectory`].
pub(crate) fn ground(folder: &Path) -> io::Result<Ground> {
    let found = statx(
        CWD,
        folder,
        AtFlags::empty(),
        StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
    )?;
    if FileType::from_raw_mode(found.stx_mode.into()) != FileType::Directory {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let knows_the_mount = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok(Ground {
        device: (found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        mount: if knows_the_mount { found.stx_mnt_id } else { 0 },
        is_mount: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        kind: kind_of(folder).unwrap_or(0),
        project_bytes: project_bytes(folder),
    })
}

/// What tells the rooms of folders apart: [`room_of`].
pub(crate) type RoomId = (u64, Option<u64>);

/// What tells the room of two folders apart: the device, and under a project quota what that
/// allows, since statvfs(3) answers for the project there.
///
/// # Errors
/// Those of stat(2).
pub(crate) fn room_of(folder: &Path) -> io::Result<RoomId> {
    Ok((std::fs::metadata(folder)?.dev(), project_bytes(folder)))
}

/// The size that a folder's file system has for its project; `None` where what is made in the
/// folder belongs to no project of its own. The number of the project itself takes an ioctl(2) that
/// no kept crate wraps.
fn project_bytes(folder: &Path) -> Option<u64> {
    let inherits = flags(folder)?.contains(IFlags::PROJECT_INHERIT);
    inherits
        .then(|| space(folder).ok())
        .flatten()
        .map(|space| space.total_bytes)
}

/// What chattr(1) has set on a file or folder, that nothing may be changed about it (`i`) or only
/// added to it (`a`).
pub(crate) fn is_frozen(path: &Path) -> Option<char> {
    frozen_by(flags(path)?)
}

/// As [`is_frozen`], of what is open.
pub(crate) fn frozen_flag(file: &File) -> Option<char> {
    frozen_by(ioctl_getflags(file).ok()?)
}

/// Whether the file system of a folder has such flags.
pub(crate) fn has_flags(folder: &Path) -> bool {
    flags(folder).is_some()
}

fn frozen_by(flags: IFlags) -> Option<char> {
    let frozen = [(IFlags::IMMUTABLE, 'i'), (IFlags::APPEND, 'a')];
    frozen
        .into_iter()
        .find(|(flag, _)| flags.contains(*flag))
        .map(|(_, letter)| letter)
}

fn flags(path: &Path) -> Option<IFlags> {
    let is_plain =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() || found.is_file());
    ioctl_getflags(File::open(path).ok().filter(|_| is_plain)?).ok()
}

/// What of a folder's file system is used up, where an error says that it is full; empty where that
/// is plainly its bytes.
pub(crate) fn used_up(folder: &Path, error: &io::Error) -> String {
    let inherits = project_bytes(folder).is_some();
    match error.kind() {
        io::ErrorKind::QuotaExceeded if inherits => {
            " (the project quota of this folder is used up)".to_owned()
        }
        io::ErrorKind::QuotaExceeded => {
            " (a quota is used up: of the user that ships, its group, or a project)".to_owned()
        }
        io::ErrorKind::StorageFull => match space(folder) {
            Ok(Space {
                free_files: Some(0),
                ..
            }) => {
                " (its inodes are used up: no file can be made there, however many bytes are free)"
                    .to_owned()
            }
            Ok(Space { free_bytes: 0, .. }) if inherits => {
                " (the project quota of this folder is used up)".to_owned()
            }
            Ok(_) | Err(_) => String::new(),
        },
        _ => String::new(),
    }
}

/// The room in the file system that a folder is on.
///
/// # Errors
/// Those of statvfs(3).
pub(crate) fn space(folder: &Path) -> io::Result<Space> {
    let found = statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    // btrfs and others count no files, and say 0 of 0. What FUSE says may be made up: rclone 1.60
    // says that none is free of a milliard, and makes each that is asked for.
    let is_made_up = found.f_favail == 0 && kind_of(folder) == Some(FUSE);
    let free_files = (found.f_files > 0 && !is_made_up).then_some(found.f_favail);
    Ok(Space {
        free_bytes: bytes(found.f_bavail),
        total_bytes: bytes(found.f_blocks),
        free_files,
    })
}

/// The file systems that folders are on, each once: in the order of the folders, and without those
/// that cannot be looked at.
pub(crate) fn rooms(folders: &[(&'static str, PathBuf)]) -> Vec<(RoomId, RoomStatus)> {
    let mut rooms: Vec<(RoomId, RoomStatus)> = Vec::new();
    for (name, path) in folders {
        let Ok(id) = room_of(path) else {
            continue;
        };
        if let Some((_, room)) = rooms.iter_mut().find(|(other, _)| *other == id) {
            room.folders.push((*name).to_owned());
        } else if let Ok(space) = space(path) {
            let room = RoomStatus {
                folders: vec![(*name).to_owned()],
                path: printable(&path.to_string_lossy()),
                free_bytes: space.free_bytes,
                total_bytes: space.total_bytes,
                free_files: space.free_files,
                filling_bytes_per_s: None,
                lasts_s: None,
            };
            rooms.push((id, room));
        }
    }
    rooms
}

/// What a file takes is counted in these on a file system, bytes: no more than 4096, whatever a
/// file server says of its transfers.
pub(crate) fn block_bytes(folder: &Path) -> u64 {
    statvfs(folder).map_or(MOST_BLOCK_BYTES, |found| {
        found.f_frsize.clamp(512, MOST_BLOCK_BYTES)
    })
}

const MOST_BLOCK_BYTES: u64 = 4096;

/// As [`space`]; where we are root, with what only root may write to.
///
/// # Errors
/// Those of statvfs(3).
pub(crate) fn space_for_us(folder: &Path) -> io::Result<Space> {
    let space = space(folder)?;
    if !rustix::process::geteuid().is_root() {
        return Ok(space);
    }
    let found = statvfs(folder)?;
    let free_files = space.free_files.map(|_| found.f_ffree);
    Ok(Space {
        free_bytes: found.f_bfree.saturating_mul(found.f_frsize),
        free_files,
        ..space
    })
}

/// The name of a file system that other hosts may write to unseen; `None` where everything that
/// happens, happens through this kernel, and where it cannot be told.
pub(crate) fn shared_between_hosts(folder: &Path) -> Option<&'static str> {
    named(kind_of(folder)?)
}

/// Whether a refused lease (fcntl(2), "Leases") means that a file is open for writing. On NFS and
/// SMB it means that the server has granted no delegation.
pub(crate) fn tells_writers(folder: &Path) -> bool {
    kind_of(folder).is_some_and(|kind| !matches!(named(kind), Some("NFS" | "SMB")))
}

/// What is not known of writers on a file system that is [shared](shared_between_hosts), in words
/// behind a folder's name. A lease is granted by this kernel for this mount: that it is refused
/// says that a file is open, and that it is granted says nothing of those who opened the file past
/// it (on a branch of a pool, at the server, on another host).
pub(crate) fn unseen_writers(kind: &str) -> String {
    match kind {
        "NFS" | "SMB" => {
            format!("is on {kind}, where which files are open for writing cannot be told")
        }
        _ => format!(
            "is on {kind}, where a file that is open for writing through another mount or on another host cannot be told"
        ),
    }
}

/// Whether what is removed is free at once. Others (btrfs, ZFS, XFS) do that in their own time, and
/// say until then that there is no room.
pub(crate) fn frees_at_once(folder: &Path) -> bool {
    // ext2 to ext4, tmpfs, F2FS.
    kind_of(folder).is_some_and(|kind| [0xef53, 0x0102_1994, 0xf2f5_2010].contains(&kind))
}

/// Whether a file system may say of a file's ctime what it says of its mtime (vfat, exfat, sshfs,
/// rclone): then a file with another's size and mtime cannot be told from it by its stamps. Of what
/// comes through FUSE that is so unless it hands on what the file system below it says, as mergerfs
/// does.
pub(crate) fn may_lack_ctime(folder: &File) -> bool {
    match kind_of_open(folder) {
        Some(MSDOS | EXFAT) => true,
        Some(FUSE) => mount_kind(folder).is_none_or(|kind| kind != "fuse.mergerfs"),
        Some(_) | None => false,
    }
}

fn kind_of_open(folder: &File) -> Option<u32> {
    // As wide as the architecture's words, and signed.
    let kind = fstatfs(folder).ok()?.f_type as i64;
    u32::try_from(kind & 0xffff_ffff).ok()
}

/// Whether what is on a file system may be replaced by one that has no part in this kernel (at an
/// sshfs's server, below a bindfs). FUSE file systems mostly number files by their paths: there the
/// new one has the number of the old.
pub(crate) fn may_be_replaced_unseen(folder: &File) -> bool {
    // On a device of its own (fuseblk: ntfs-3g, exfat-fuse) each change comes through this mount;
    // mergerfs hands ctimes on.
    let is_passed_on = |kind: &str| kind.starts_with("fuse.") && kind != "fuse.mergerfs";
    kind_of_open(folder) == Some(FUSE) && mount_kind(folder).is_none_or(|kind| is_passed_on(&kind))
}

/// Whether what is said of a symlink itself (its times, its owner) goes to what the link leads to:
/// SFTP has no such request, and sshfs sends another.
pub(crate) fn follows_links(folder: &File) -> bool {
    kind_of_open(folder) == Some(FUSE) && mount_kind(folder).is_none_or(|kind| kind == "fuse.sshfs")
}

/// Whether chmod(1) does nothing on a folder's file system: vfat and exfat have no permission bits,
/// and what is mounted through FUSE from a device (exFAT, NTFS) mostly shows made-up ones.
pub(crate) fn keeps_no_modes(folder: &Path) -> bool {
    let Ok(folder) = File::open(folder) else {
        return false;
    };
    match kind_of_open(&folder) {
        Some(MSDOS | EXFAT) => true,
        Some(FUSE) => mount_kind(&folder).is_some_and(|kind| kind == "fuseblk"),
        Some(_) | None => false,
    }
}

const MSDOS: u32 = 0x4d44;
const EXFAT: u32 = 0x2011_bab0;
const FUSE: u32 = 0x6573_5546;

/// Where the file system of a folder is mounted; `None` where that cannot be told.
#[must_use]
pub(crate) fn mount_point(folder: &Path) -> Option<PathBuf> {
    let mount = mount_of(&File::open(folder).ok()?)?;
    let escaped = mount.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::new();
    let mut left = escaped;
    while let Some((byte, rest)) = left.split_first() {
        left = rest;
        // Blanks, line breaks and backslashes have three octal digits.
        let digits = rest.get(..3).filter(|_| *byte == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(escaped) => {
                path.push(escaped);
                left = &rest[3..];
            }
            None => path.push(*byte),
        }
    }
    Some(OsString::from_vec(path).into())
}

/// What the mount of an open folder calls its file system.
fn mount_kind(folder: &File) -> Option<String> {
    let mount = String::from_utf8_lossy(&mount_of(folder)?).into_owned();
    Some(mount.split_once(" - ")?.1.split(' ').next()?.to_owned())
}

/// The mount of an open folder (proc_pid_mountinfo(5)).
fn mount_of(folder: &File) -> Option<Vec<u8>> {
    let found = statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    let number = format!("{} ", found.stx_mnt_id);
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let mut lines = mounts.split(|byte| *byte == b'\n');
    let mount = lines.find(|line| line.starts_with(number.as_bytes()))?;
    Some(mount.to_vec())
}

fn kind_of(folder: &Path) -> Option<u32> {
    // As wide as the architecture's words, and signed.
    let kind = statfs(folder).ok()?.f_type as i64;
    u32::try_from(kind & 0xffff_ffff).ok()
}

fn named(kind: u32) -> Option<&'static str> {
    SHARED
        .into_iter()
        .find(|(magic, _)| *magic == kind)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_hosts_write_to_is_told_from_what_is_ours() {
        for (kind, name) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("SMB")),
            (0x0102_1997, Some("9p")),
            (0x6573_5546, Some("FUSE")),
            (0x4750_4653, Some("GPFS")),
            (0x1983_0326, Some("BeeGFS")),
            // ext4, XFS, btrfs, tmpfs, overlay.
            (0xef53, None),
            (0x5846_5342, None),
            (0x9123_683e, None),
            (0x0102_1994, None),
            (0x794c_7630, None),
        ] {
            assert_eq!(named(kind), name, "{kind:#x}");
        }
    }

    #[test]
    fn a_folder_is_found_where_its_file_system_is_mounted() {
        assert_eq!(mount_point(Path::new("/proc/1")), Some("/proc".into()));
        let folder = tempfile::tempdir().unwrap();
        let mount = mount_point(folder.path()).unwrap();
        assert!(folder.path().starts_with(&mount), "{mount:?}");
        assert_eq!(mount_point(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn a_folder_of_this_machine_is_not_shared_and_one_that_is_not_there_is_not_told() {
        assert_eq!(shared_between_hosts(Path::new("/proc")), None);
        assert_eq!(shared_between_hosts(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn a_folder_is_told_from_the_one_that_it_is_mounted_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let (above, below) = (
            ground(folder.path()).unwrap(),
            ground(&folder.path().join("in")).unwrap(),
        );
        assert_eq!(
            (above.device, above.mount, above.kind),
            (below.device, below.mount, below.kind)
        );
        assert!(
            above.has_the_mount_of(below)
                && !above.has_the_mount_of(ground(Path::new("/proc")).unwrap())
        );
        assert_ne!(above.inode, below.inode);
        assert!(ground(Path::new("/proc")).unwrap().is_mount && !below.is_mount);
        let error = ground(&folder.path().join("file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
