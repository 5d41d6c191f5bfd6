//! Is a folder of ours still what it was? A disk that is unmounted leaves an empty folder under the
//! same name, and what is moved there is hidden as soon as the disk is back.
//!
//! What stands there now:
//!
//! - the same folder: it goes on
//! - another one, on the same mount: it was removed and made anew; it goes on, with that one
//! - the top of a mount, as before, of the same kind, where such devices are numbered anew each
//!   time (NFS, FUSE, btrfs): the same, mounted again
//! - anything else: nothing is moved there, nothing removed, until it is back

use crate::disk::filesystem::Ground;

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
    } else if now.has_the_mount_of(then) {
        Compared::Anew
    } else if then.is_mount && now.is_mount && then.inode == now.inode && numbered_anew {
        Compared::Same
    } else if then.is_mount && !now.is_mount {
        Compared::Unmounted
    } else {
        Compared::Another
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: Ground = Ground {
        device: (8, 1),
        inode: 70,
        mount: 30,
        is_mount: false,
        kind: 0xef53,
        project_bytes: None,
    };
    const DISK: Ground = Ground {
        device: (8, 17),
        inode: 2,
        mount: 40,
        is_mount: true,
        kind: 0xef53,
        project_bytes: None,
    };
    const NFS: Ground = Ground {
        device: (0, 50),
        inode: 9,
        mount: 60,
        is_mount: true,
        kind: 0x6969,
        project_bytes: None,
    };

    #[test]
    fn every_change_has_its_name() {
        for (then, now, expected) in [
            (FOLDER, FOLDER, Compared::Same),
            // Unmounted and mounted again.
            (DISK, Ground { mount: 41, ..DISK }, Compared::Same),
            (
                NFS,
                Ground {
                    device: (0, 51),
                    mount: 61,
                    ..NFS
                },
                Compared::Same,
            ),
            (
                FOLDER,
                Ground {
                    inode: 71,
                    ..FOLDER
                },
                Compared::Anew,
            ),
            (DISK, FOLDER, Compared::Unmounted),
            (NFS, FOLDER, Compared::Unmounted),
            // What was bound there is of the same file system as what is below it.
            (
                Ground {
                    mount: 31,
                    is_mount: true,
                    ..FOLDER
                },
                Ground {
                    inode: 71,
                    ..FOLDER
                },
                Compared::Unmounted,
            ),
            (FOLDER, DISK, Compared::Another),
            (
                FOLDER,
                Ground {
                    inode: 71,
                    mount: 31,
                    is_mount: true,
                    ..FOLDER
                },
                Compared::Another,
            ),
            (
                DISK,
                Ground {
                    device: (8, 33),
                    mount: 42,
                    ..DISK
                },
                Compared::Another,
            ),
            (
                NFS,
                Ground {
                    device: (0, 51),
                    mount: 61,
                    kind: 0x6573_5546,
                    ..NFS
                },
                Compared::Another,
            ),
            (
                NFS,
                Ground {
                    device: (0, 51),
                    mount: 61,
                    inode: 10,
                    ..NFS
                },
                Compared::Another,
            ),
        ] {
            assert_eq!(compare(then, now), expected, "{then:?} {now:?}");
        }
    }
}
