//! Names in `episodes/` under which an episode was shipped within the day. A recorder that goes on
//! writing by path, and not through an open file (zarr does), makes a new folder of the old name
//! once the daemon has moved the first: what it writes there is a part of an episode that has left
//! without it.

use std::{collections::HashSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::record_files;
use crate::model::{
    episode::EpisodeId,
    layout::{Layout, without_number},
    records::{RELEASED, ShippingReceipt, WallTime},
    text::folded,
};

/// Within so long, seconds.
const DAY_S: u64 = 24 * 3600;
/// So many names are looked at. More of them are a backlog, and no mishap of a recorder.
const MOST_LOOKED_AT: usize = 2_000;
/// So many are named.
const MOST_NAMED: usize = 20;

/// Those among these names. `shipped/` is listed once, whatever their number: where a name was used
/// before, the last of it is filed under a numbered one.
pub(crate) fn among<'a>(
    ids: impl Iterator<Item = &'a EpisodeId>,
    layout: &Layout,
    now: WallTime,
) -> Vec<EpisodeId> {
    let ids: Vec<_> = ids.take(MOST_LOOKED_AT).collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let wanted: HashSet<_> = ids.iter().map(|id| folded(id.as_str())).collect();
    let mut shipped = HashSet::new();
    for entry in fs::read_dir(&layout.shipped)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let Some(name) = name.to_str().map(folded) else {
            continue;
        };
        if (wanted.contains(&name) || wanted.contains(without_number(&name)))
            && let Some(receipt) = shipped_today(&entry.path(), now)
            && !is_on_its_way(layout, &receipt)
        {
            shipped.insert(receipt.episode_id);
        }
    }
    ids.into_iter()
        .filter(|id| shipped.contains(*id))
        .take(MOST_NAMED)
        .cloned()
        .collect()
}

/// Those in `episodes/`, of the names that may have been used.
pub(crate) fn in_episodes(
    layout: &Layout,
    now: WallTime,
    may_be_used: impl Fn(&str) -> bool,
) -> Vec<EpisodeId> {
    let entries = fs::read_dir(&layout.episodes)
        .into_iter()
        .flatten()
        .flatten();
    let ids: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| EpisodeId::parse(entry.file_name().to_str()?).ok())
        .take(MOST_LOOKED_AT)
        .filter(|id| may_be_used(id.as_str()))
        .collect();
    let mut found = among(ids.iter(), layout, now);
    // What was shipped while this looked has left.
    found.retain(|id| layout.episode(id).is_dir());
    found
}

/// The receipt in a folder, where that was delivered within the day.
fn shipped_today(folder: &Path, now: WallTime) -> Option<ShippingReceipt> {
    // A receipt that is written changes its folder's mtime: those of long ago are not read.
    let written_s = fs::symlink_metadata(folder).ok()?.mtime();
    if written_s < now.unix_seconds() - 2 * DAY_S.cast_signed() {
        return None;
    }
    let receipt = record_files::receipt(folder).ok()??;
    let at = receipt.delivered_at_wall;
    (at >= RELEASED && at.unix_seconds().abs_diff(now.unix_seconds()) < DAY_S).then_some(receipt)
}

/// On its way to `shipped/` by a copy an episode stands in both folders, with the same receipt.
fn is_on_its_way(layout: &Layout, receipt: &ShippingReceipt) -> bool {
    let here = record_files::receipt(&layout.episode(&receipt.episode_id));
    matches!(here, Ok(Some(same)) if same.sha256 == receipt.sha256)
}
