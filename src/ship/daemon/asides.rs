//! What was delivered and copied to `shipped/`, or rejected and copied to `quarantine/`, and was
//! being taken out of `episodes/` when the process was killed: it goes, as it would have gone.
//! Given its name back it would be sent once more, and where that was used again since it would be
//! another episode.
//!
//! ```text
//!  .sealift-aside-n-name ── its copy has our record and every byte ──▶ removed
//!          │      └───── no such copy, or a file of it is open ──▶ name[~n], the way begins again
//!          └ a move is at work in the folder (requeue, another shipper): it stays, and is told
//! ```

use std::path::{Path, PathBuf};

use super::start::finish_leftovers;
use crate::{
    disk::{
        durable,
        record_files::{self, filed_as},
        tree::shown,
    },
    model::{
        episode::EpisodeId,
        layout::{ASIDE_PREFIX, Layout, MARKER, name_behind},
        progress::Progress,
        records::ShippingReceipt,
        snapshot::LeftAside,
        text::foreign_command,
    },
};

/// Finishes what can be finished. What stays is put back like any other.
pub(super) fn finish(layout: &Layout, progress: &Progress) {
    for entry in std::fs::read_dir(&layout.episodes)
        .into_iter()
        .flatten()
        .flatten()
    {
        progress.step();
        let aside = entry.path();
        let Some(id) = put_aside(&aside) else {
            continue;
        };
        for (what, copy) in copies(layout, &id, &aside, progress) {
            match durable::finish_aside(&aside, &copy, progress) {
                Ok(true) => {
                    tracing::info!(
                        EPISODE = %id,
                        "{id} was {what} and copied to {} before: what was left of it in episodes/ is removed.",
                        shown(&copy)
                    );
                    break;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    EPISODE = %id,
                    "{} is what was left in episodes/ of {}, and could not be removed: {error}. It has its name back, or a \
                     number behind it.",
                    shown(&aside),
                    shown(&copy)
                ),
            }
        }
    }
}

/// Puts in order what killed processes have left in these folders, of which those remain where a
/// move is at work. Returns what is sealed and out of sight meanwhile.
pub(super) fn settle(
    layout: &Layout,
    folders: &mut Vec<PathBuf>,
    progress: &Progress,
) -> Option<LeftAside> {
    if folders.contains(&layout.episodes) {
        finish(layout, progress);
    }
    folders.retain(|folder| !finish_leftovers(folder, progress));
    if !folders.contains(&layout.episodes) {
        return None;
    }
    let entries = std::fs::read_dir(&layout.episodes)
        .into_iter()
        .flatten()
        .flatten();
    let mut sealed: Vec<_> = entries
        .filter(|entry| std::fs::symlink_metadata(entry.path().join(MARKER)).is_ok())
        .filter_map(|entry| put_aside(&entry.path()))
        .collect();
    sealed.sort();
    let (path, pid) = durable::who_is_at_work(&layout.episodes);
    Some(LeftAside {
        count: sealed.len() as u64,
        first: sealed.first()?.as_str().to_owned(),
        fix: match pid {
            Some(pid) => format!("ps -o pid,stat,etime,args -p {pid}"),
            None => foreign_command(&path, |path| format!("lsof {path}")),
        },
    })
}

/// The episode that was put aside.
fn put_aside(aside: &Path) -> Option<EpisodeId> {
    EpisodeId::parse(name_behind(ASIDE_PREFIX, aside.file_name()?)?.to_str()?).ok()
}

/// Those in `shipped/` with the receipt of this very delivery, and those in `quarantine/` with a
/// reason of this episode; and what became of it.
fn copies(
    layout: &Layout,
    id: &EpisodeId,
    aside: &Path,
    progress: &Progress,
) -> Vec<(&'static str, PathBuf)> {
    let mut copies = Vec::new();
    let filed_in = |folder: &Path| {
        let found = filed_as(folder, id, progress).unwrap_or_default();
        found
            .into_iter()
            .filter(|copy| !durable::has_removal_note(copy))
    };
    if let Ok(Some(ours)) = record_files::receipt(aside)
        && ours.episode_id == *id
    {
        let is_of_it = |receipt: ShippingReceipt| {
            receipt.episode_id == *id && receipt.content_sha256 == ours.content_sha256
        };
        let found = filed_in(&layout.shipped).filter(|copy| {
            record_files::receipt(copy).is_ok_and(|receipt| receipt.is_some_and(is_of_it))
        });
        copies.extend(found.map(|copy| ("delivered", copy)));
    }
    let has_its_reason = |directory: &Path| {
        let reason = record_files::reason(directory).ok().flatten();
        reason.is_some_and(|reason| reason.episode_id.as_deref() == Some(id.as_str()))
    };
    if has_its_reason(aside) {
        let found = filed_in(&layout.quarantine).filter(|copy| has_its_reason(copy));
        copies.extend(found.map(|copy| ("rejected", copy)));
    }
    copies
}
