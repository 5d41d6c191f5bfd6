//! Disk pressure: where less is free than the operator wants, episodes in `shipped/` go that the
//! receiver holds by its own receipt, the oldest first, one after the other, until there is enough.
//! Nothing else, ever.

use std::{
    collections::{BinaryHeap, VecDeque},
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    disk::{
        durable,
        filesystem::frees_at_once,
        record_files::{self, ages},
        tree::{self, Kind, TreeError},
    },
    model::{
        layout::{Layout, is_scratch},
        progress::Progress,
        records::WallTime,
        retention::{pressing, taken_since},
        text::printable,
    },
    ship::{room::space, sweep::AsDelivered},
};

/// So many are remembered from one look through `shipped/` to the next.
const REMEMBERED: usize = 1024;
/// How long a file system may take until it says that what was removed is free.
const FREED_WITHIN: Duration = Duration::from_secs(60);

/// What is remembered between two reliefs.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// The oldest, in their order. Whatever is shipped since is younger.
    oldest: VecDeque<OsString>,
    /// So many bytes were removed at that time, and not free yet.
    pending: Option<(u64, Instant)>,
}

/// What came of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Relieved {
    /// Directories that were removed.
    pub removed: u64,
    /// There is as much room as was asked for.
    pub enough: bool,
}

impl Pressure {
    /// Removes what it takes. `busy` says of a directory's name that it is on its way there just
    /// now.
    pub(crate) fn relieve(
        &mut self,
        layout: &Layout,
        wanted_bytes: u64,
        busy: &dyn Fn(&OsStr) -> bool,
        as_delivered: AsDelivered<'_>,
        progress: &Progress,
    ) -> Relieved {
        let (mut relieved, mut looked) = (Relieved::default(), false);
        let mut make_room = || loop {
            progress.step();
            let free_bytes = space(&layout.shipped)?
                .free_bytes
                .saturating_add(self.pending_bytes());
            if !pressing(free_bytes, Some(wanted_bytes)) {
                relieved.enough = true;
                return Ok(());
            }
            let Some(name) = self.oldest.pop_front() else {
                if std::mem::replace(&mut looked, true) {
                    return Ok(());
                }
                self.oldest = oldest(&layout.shipped, progress)?;
                continue;
            };
            // One that cannot be removed does not keep the others.
            match remove(
                layout,
                &name,
                free_bytes,
                wanted_bytes,
                busy,
                as_delivered,
                progress,
            ) {
                Ok(Some(removed_bytes)) => {
                    relieved.removed += 1;
                    let now_free = space(&layout.shipped)?.free_bytes;
                    if !frees_at_once(&layout.shipped) {
                        let pending = free_bytes
                            .saturating_add(removed_bytes)
                            .saturating_sub(now_free);
                        self.pending = Some((pending, Instant::now()));
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    EPISODE = %printable(&name.to_string_lossy()),
                    "{} could not be removed to make room: {error}", tree::shown(&layout.shipped.join(&name))
                ),
            }
        };
        let made: io::Result<()> = make_room();
        if let Err(error) = made {
            tracing::warn!(
                "Room on the disk of {} could not be made: {error}",
                tree::shown(&layout.shipped)
            );
        }
        relieved
    }

    fn pending_bytes(&mut self) -> u64 {
        self.pending = self.pending.filter(|(_, at)| at.elapsed() < FREED_WITHIN);
        self.pending.map_or(0, |(bytes, _)| bytes)
    }
}

/// The oldest of those that may be removed.
fn oldest(shipped_folder: &Path, progress: &Progress) -> io::Result<VecDeque<OsString>> {
    let mut oldest: BinaryHeap<(WallTime, OsString)> = BinaryHeap::new();
    for entry in fs::read_dir(shipped_folder)? {
        progress.check().map_err(io::Error::other)?;
        progress.step();
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || is_scratch(&name.to_string_lossy()) || !entry.file_type()?.is_dir() {
            continue;
        }
        // What cannot be read is not vouched for.
        let Some(since) = ages::shipped(&entry.path())
            .ok()
            .as_ref()
            .and_then(taken_since)
        else {
            continue;
        };
        oldest.push((since, name));
        if oldest.len() > REMEMBERED {
            oldest.pop();
        }
    }
    Ok(oldest
        .into_sorted_vec()
        .into_iter()
        .map(|(_, name)| name)
        .collect())
}

/// Removes one, if it still may be; how much that was, bytes.
fn remove(
    layout: &Layout,
    name: &OsStr,
    free_bytes: u64,
    wanted_bytes: u64,
    busy: &dyn Fn(&OsStr) -> bool,
    as_delivered: AsDelivered<'_>,
    progress: &Progress,
) -> io::Result<Option<u64>> {
    let path = layout.shipped.join(name);
    if busy(name) || !fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
        return Ok(None);
    }
    let Some(since) = taken_since(&ages::shipped(&path)?) else {
        return Ok(None);
    };
    let Some(receipt) = record_files::receipt(&path).map_err(io::Error::other)? else {
        return Ok(None);
    };
    // What its delivery has left in the outbox says that something about it is not settled yet.
    let id = &receipt.episode_id;
    let left = [layout.archive(id), layout.sidecar(id), layout.partial(id)];
    if left.iter().any(|left| fs::symlink_metadata(left).is_ok()) {
        return Ok(None);
    }
    if !as_delivered(&path)? {
        return Ok(None);
    }
    let size_bytes = size_of(&path, progress);
    durable::remove_tree_into_spares(&path, &layout.spares(&layout.episodes), progress)?;
    tracing::info!(
        EPISODE = %printable(&name.to_string_lossy()),
        "removed {} ({size_bytes} bytes, shipped {since}): {free_bytes} bytes were free on its disk, shipped_free_bytes wants \
         {wanted_bytes}, and {} holds it (sha256 {})",
        tree::shown(&path), printable(&receipt.receiver), receipt.sha256
    );
    Ok(Some(size_bytes))
}

/// For the log, and for a file system that frees later; one that cannot be read through counts as
/// far as it could.
fn size_of(directory: &Path, progress: &Progress) -> u64 {
    let mut size_bytes = 0_u64;
    let _ = tree::walk(directory, progress, |entry| {
        if let Kind::File(_) = entry.kind {
            size_bytes = size_bytes.saturating_add(entry.stat.size_bytes);
        }
        Ok::<(), TreeError>(())
    });
    size_bytes
}

#[cfg(test)]
mod tests;
