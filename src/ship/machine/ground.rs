//! Is a folder of ours still what it was? A disk that is unmounted leaves an empty folder under the same name, and what is moved there
//! is hidden as soon as the disk is back.
//!
//! | what stands there now | |
//! |---|---|
//! | the same folder | it goes on |
//! | another one, on the same mount: somebody removed it and made it anew | it goes on, with that one |
//! | the top of a mount, as before, of the same kind, where such devices are numbered anew each time (NFS, FUSE, btrfs) | the same, mounted again |
//! | anything else | nothing is moved there, nothing removed, until it is back |

use crate::filesystem::Ground;

/// What a folder is, compared with what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The same.
    Same,
    /// Made anew in the same place.
    Anew,
    /// It was the top of a mount, which is gone.
    Unmounted,
    /// Another file system stands there.
    Another,
}

/// Compares the two.
#[must_use]
pub fn compare(then: Ground, now: Ground) -> Compared {
    let numbered_anew = then.device.0 == 0 && now.device.0 == 0 && then.kind == now.kind;
    if (then.device, then.inode) == (now.device, now.inode) {
        Compared::Same
    } else if is_on_the_mount_of(then, now) {
        Compared::Anew
    } else if then.is_mount && now.is_mount && then.inode == now.inode && numbered_anew {
        Compared::Same
    } else if then.is_mount && !now.is_mount {
        Compared::Unmounted
    } else {
        Compared::Another
    }
}

/// Whether a folder that was removed may be made anew in `parent`: that is where it was, and no empty place for a disk.
#[must_use]
pub fn is_on_the_mount_of(then: Ground, parent: Ground) -> bool {
    (then.device, then.mount) == (parent.device, parent.mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: Ground = Ground { device: (8, 1), inode: 70, mount: 30, is_mount: false, kind: 0xef53 };
    const DISK: Ground = Ground { device: (8, 17), inode: 2, mount: 40, is_mount: true, kind: 0xef53 };
    const NFS: Ground = Ground { device: (0, 50), inode: 9, mount: 60, is_mount: true, kind: 0x6969 };

    #[test]
    fn every_change_has_its_name() {
        for (then, now, expected) in [
            (FOLDER, FOLDER, Compared::Same),
            // Unmounted and mounted again.
            (DISK, Ground { mount: 41, ..DISK }, Compared::Same),
            (NFS, Ground { device: (0, 51), mount: 61, ..NFS }, Compared::Same),
            (FOLDER, Ground { inode: 71, ..FOLDER }, Compared::Anew),
            (DISK, FOLDER, Compared::Unmounted),
            (NFS, FOLDER, Compared::Unmounted),
            // What was bound there is of the same file system as what is below it.
            (
                Ground { mount: 31, is_mount: true, ..FOLDER },
                Ground { inode: 71, ..FOLDER },
                Compared::Unmounted,
            ),
            (FOLDER, DISK, Compared::Another),
            (FOLDER, Ground { inode: 71, mount: 31, is_mount: true, ..FOLDER }, Compared::Another),
            (DISK, Ground { device: (8, 33), mount: 42, ..DISK }, Compared::Another),
            (NFS, Ground { device: (0, 51), mount: 61, kind: 0x6573_5546, ..NFS }, Compared::Another),
            (NFS, Ground { device: (0, 51), mount: 61, inode: 10, ..NFS }, Compared::Another),
        ] {
            assert_eq!(compare(then, now), expected, "{then:?} {now:?}");
        }
    }

    #[test]
    fn a_folder_is_made_anew_only_on_the_mount_where_it_was() {
        let parent = Ground { inode: 5, ..FOLDER };
        assert!(is_on_the_mount_of(FOLDER, parent));
        assert!(!is_on_the_mount_of(DISK, parent), "the disk that it was the top of is gone");
        let on_the_disk = Ground { inode: 12, is_mount: false, ..DISK };
        assert!(is_on_the_mount_of(on_the_disk, DISK));
        assert!(!is_on_the_mount_of(on_the_disk, parent), "the disk that it was on is gone");
    }
}
