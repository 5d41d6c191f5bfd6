//! The folders, each on a thread of its own: one that hangs does not hold up the others.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::StatVfsMountFlags;
use tokio::time::Instant;

use super::{
    DISK,
    permissions::{owned, passed},
    within,
};
use crate::{
    clock,
    disk::{
        filesystem::{self, shared_between_hosts},
        ownership::TrustedWay,
        tree::what_it_is,
    },
    model::{
        layout::{Layout, OutboxName, outbox_name},
        records::WallTime,
        snapshot::{LEAST_WATCHED_S, RoomStatus},
    },
    operate::doctor::facts::{DaemonState, FolderFacts, FolderState, PassedFolder},
};

/// What was sealed within so long makes the present rate.
const RATE_OVER: Duration = Duration::from_secs(24 * 3600);
/// For that measure.
const RATE: Duration = Duration::from_millis(400);
/// So many of them are measured; they stand for the others.
const MAX_MEASURED: usize = 40;
/// And so many files of them, all in all.
const MAX_FILES: usize = 4000;

/// So many are moved by one fix.
const MAX_IN_THE_WAY: usize = 5;

#[derive(Debug, Default)]
pub(super) struct FolderScan {
    pub(super) folders: Vec<FolderFacts>,
    pub(super) overlap: Option<[PathBuf; 2]>,
    pub(super) in_the_way: Vec<(PathBuf, &'static str)>,
    pub(super) private_in: Option<PassedFolder>,
}

fn named(layout: &Layout) -> [(&'static str, &PathBuf); 5] {
    [
        ("episodes", &layout.episodes),
        ("outbox", &layout.outbox),
        ("shipped", &layout.shipped),
        ("quarantine", &layout.quarantine),
        (".sealift", &layout.private),
    ]
}

pub(super) async fn look(layout: Option<&Layout>) -> FolderScan {
    let Some(layout) = layout else {
        return FolderScan::default();
    };
    let looks = named(layout).map(|(name, path)| {
        let path = path.clone();
        let looked = path.clone();
        tokio::spawn(async move {
            let looked = within(DISK, move || {
                let way = TrustedWay::to(&looked).ok();
                (
                    state_of(&looked),
                    real(&looked, way.as_ref()),
                    filesystem::keeps_no_modes(&looked),
                    passed(&looked, way.as_ref()),
                    filesystem::mount_point(&looked),
                    way.and_then(|way| way.link),
                )
            });
            let hangs = || {
                (
                    FolderState::Hangs(DISK),
                    None,
                    false,
                    Vec::new(),
                    None,
                    None,
                )
            };
            let (state, real, modeless, way, mount, link) = looked.await.unwrap_or_else(hangs);
            FolderFacts {
                name,
                path,
                state,
                modeless,
                way,
                mount,
                real,
                link,
            }
        })
    });
    let mut folders = Vec::new();
    for look in looks {
        folders.extend(look.await);
    }
    // The daemon makes this one itself, where it may.
    let is_unmade = |folder: &FolderFacts| {
        folder.name == ".sealift" && folder.state == FolderState::Missing && folder.link.is_none()
    };
    let private = folders.iter().find(|folder| is_unmade(folder));
    let above = private.and_then(|folder| Some(folder.path.parent()?.to_owned()));
    let private_in = within(DISK, move || above.and_then(with_modes))
        .await
        .flatten();
    folders.retain(|folder| !is_unmade(folder));
    let there = folders
        .iter()
        .all(|folder| matches!(folder.state, FolderState::There { .. }));
    let overlap = if there {
        let layout = layout.clone();
        within(DISK, move || layout.overlap().ok().flatten())
            .await
            .flatten()
    } else {
        None
    };
    let outbox = layout.outbox.clone();
    let in_the_way = within(DISK, move || in_the_way(&outbox))
        .await
        .unwrap_or_default();
    FolderScan {
        folders,
        overlap,
        in_the_way,
        private_in,
    }
}

/// A folder that is there, and that keeps the permissions which it is given.
fn with_modes(folder: PathBuf) -> Option<PassedFolder> {
    let found = fs::metadata(&folder).ok()?;
    let owned = owned(&folder, &found);
    (!filesystem::keeps_no_modes(&folder)).then_some((folder, owned))
}

/// The first few of what has the name of an archive, or of its scratch, and is no file.
fn in_the_way(outbox: &Path) -> Vec<(PathBuf, &'static str)> {
    let entries = fs::read_dir(outbox).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        matches!(
            outbox_name(&entry.file_name()),
            OutboxName::Archive(_) | OutboxName::Partial(_)
        )
    });
    let others =
        named.filter_map(|entry| Some((entry.path(), what_it_is(entry.file_type().ok()?)?)));
    others.take(MAX_IN_THE_WAY).collect()
}

fn state_of(path: &Path) -> FolderState {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return FolderState::Missing,
        Err(error) => return FolderState::Failed(error.to_string()),
    };
    if !metadata.is_dir() {
        return FolderState::NoFolder;
    }
    let owned = owned(path, &metadata);
    let read_only = rustix::fs::statvfs(path)
        .is_ok_and(|space| space.f_flag.contains(StatVfsMountFlags::RDONLY));
    FolderState::There {
        owned,
        shared: shared_between_hosts(path),
        read_only,
    }
}

/// As the way led, so that what was judged on it is what is meant; `None` of what is not there.
fn real(path: &Path, way: Option<&TrustedWay>) -> Option<(PathBuf, u64)> {
    let real = match way.filter(|way| way.link.is_none()) {
        Some(way) if !way.is_whole() => return None,
        Some(way) => way.real.clone(),
        None => path.canonicalize().ok()?,
    };
    let device = fs::metadata(&real).ok()?.dev();
    Some((real, device))
}

/// The file systems that the folders are on. How fast each fills the daemon has seen over hours;
/// without one, what was sealed of late says it.
pub(super) async fn rooms(
    layout: Option<&Layout>,
    daemon: &DaemonState,
    folders: &[FolderFacts],
) -> Vec<RoomStatus> {
    let usable = |folder: &&FolderFacts| {
        folder.name != ".sealift" && matches!(folder.state, FolderState::There { .. })
    };
    let found: Vec<_> = folders
        .iter()
        .filter(usable)
        .map(|folder| (folder.name, folder.path.clone()))
        .collect();
    if layout.is_none() || found.is_empty() {
        return Vec::new();
    }
    let looked_at = found.clone();
    let mut rooms = within(DISK, move || {
        let rooms = filesystem::rooms(&looked_at);
        rooms.into_iter().map(|(_, room)| room).collect::<Vec<_>>()
    })
    .await
    .unwrap_or_default();
    if let DaemonState::Answers(snapshot) = daemon {
        for room in &mut rooms {
            let same = snapshot
                .room
                .iter()
                .find(|seen| seen.folders.iter().any(|name| room.folders.contains(name)));
            room.fills_by(same.and_then(|seen| seen.filling_bytes_per_s));
        }
    }
    if rooms.iter().all(|room| room.filling_bytes_per_s.is_none()) {
        // It may have much to walk over; without it, the room is known all the same.
        let until = Instant::now() + RATE;
        let rates = within(RATE, move || rates(&found, || Instant::now() < until));
        for (name, rate) in rates.await.unwrap_or_default() {
            let on = rooms
                .iter_mut()
                .find(|room| room.folders.iter().any(|folder| folder == name));
            if let Some(room) = on {
                let before = room.filling_bytes_per_s.unwrap_or(0);
                room.fills_by(Some(before.saturating_add_unsigned(rate)));
            }
        }
    }
    rooms
}

/// For as long as it may go on: after that nothing waits for it, and others need the processor.
fn rates(
    folders: &[(&'static str, PathBuf)],
    go_on: impl Fn() -> bool,
) -> Vec<(&'static str, u64)> {
    // What is packed there leaves again.
    let kept = folders.iter().filter(|(name, _)| *name != "outbox");
    kept.filter_map(|(name, path)| Some((*name, rate_of(path, &go_on)?)))
        .collect()
}

/// How many bytes a second the episodes of the last day came to here; `None` where there were none,
/// none that is old enough to show a rate, or too many to tell in the time.
fn rate_of(folder: &Path, go_on: impl Fn() -> bool) -> Option<u64> {
    let now = clock::wall_now();
    let begin = now.unix_seconds() - i64::try_from(RATE_OVER.as_secs()).unwrap_or(0);
    let mut recent: Vec<(i64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        if !go_on() {
            return None;
        }
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() && (begin..=now.unix_seconds()).contains(&metadata.mtime()) {
            recent.push((metadata.mtime(), entry.path()));
        }
    }
    recent.sort_by(|a, b| b.cmp(a));
    let (oldest, _) = recent.last()?;
    if now.unix_seconds().abs_diff(*oldest) < LEAST_WATCHED_S {
        return None;
    }
    let (mut bytes, mut count, mut files) = (0_u64, 0_u64, MAX_FILES);
    for (_, path) in recent.iter().take(MAX_MEASURED) {
        let Some(size) = size_of(path, &mut files) else {
            break;
        };
        bytes = bytes.saturating_add(size);
        count += 1;
    }
    let all = u64::try_from(recent.len()).unwrap_or(u64::MAX);
    Some((bytes / count.max(1)).saturating_mul(all) / RATE_OVER.as_secs()).filter(|_| count > 0)
}

/// What is allocated for a folder and all in it, bytes; `None` where it has more files than are
/// left to look at.
fn size_of(folder: &Path, files: &mut usize) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    let (mut bytes, mut waiting) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            *files = files.checked_sub(1)?;
            // Not followed: DirEntry::metadata is lstat(2).
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(SECTOR_BYTES));
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Some(bytes)
}

/// When something at the top of a folder was last written, the folder itself among it.
pub(super) fn last_written(folder: &Path, entries: &mut usize) -> Option<WallTime> {
    let mut newest = fs::symlink_metadata(folder).ok()?.mtime();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(left) = entries.checked_sub(1) else {
            break;
        };
        *entries = left;
        if let Ok(metadata) = entry.metadata() {
            newest = newest.max(metadata.mtime());
        }
    }
    Some(WallTime::from_unix_seconds(newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_none_of_those_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let above = folder.path().canonicalize().unwrap();
        for (name, is_there) in [("", true), ("a/b", false)] {
            let path = above.join(name);
            let way = TrustedWay::to(&path).unwrap();
            assert_eq!(real(&path, Some(&way)).is_some(), is_there, "{path:?}");
        }
    }

    #[test]
    fn what_was_sealed_of_late_makes_the_present_rate() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(rate_of(folder.path(), || true), None);
        for n in 0..3 {
            let episode = folder.path().join(format!("e{n}"));
            fs::create_dir(&episode).unwrap();
            fs::write(episode.join("data"), vec![1; 10 << 20]).unwrap();
        }
        assert_eq!(rate_of(folder.path(), || true), None, "a second is no rate");
        let now = u64::try_from(clock::wall_now().unix_seconds()).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(now - LEAST_WATCHED_S);
        let first = fs::File::open(folder.path().join("e0")).unwrap();
        first.set_modified(long_ago).unwrap();
        let rate = rate_of(folder.path(), || true).unwrap();
        let expected = (30 << 20) / RATE_OVER.as_secs();
        // A disk allocates when it likes.
        assert!(rate <= expected * 2, "{rate} for {expected}");
        assert_eq!(rate_of(folder.path(), || false), None);
        let mut few = 2;
        assert_eq!(size_of(folder.path(), &mut few), None);
    }
}
