//! Names in `episodes/` under which an episode was shipped within the day. A recorder that goes on
//! writing by path, and not through an open file (zarr does), makes a new folder of the old name
//! once the daemon has moved the first: what it writes there is a part of an episode that has left
//! without it.

use std::fs;

use crate::{
    episode::EpisodeId,
    filed,
    layout::Layout,
    records::{RELEASED, WallTime},
};

/// Within so long, seconds.
const DAY_S: u64 = 24 * 3600;
/// So many names are looked at. More of them are a backlog, and no mishap of a recorder.
const MOST_LOOKED_AT: usize = 2_000;
/// So many are named.
const MOST_NAMED: usize = 20;

/// Those among these names.
pub(super) fn among<'a>(
    ids: impl Iterator<Item = &'a EpisodeId>,
    layout: &Layout,
    now: WallTime,
) -> Vec<EpisodeId> {
    let ids = ids.take(MOST_LOOKED_AT);
    ids.filter(|id| was_shipped_today(layout, id, now)).take(MOST_NAMED).cloned().collect()
}

/// Those in `episodes/`.
pub(super) fn in_episodes(layout: &Layout, now: WallTime) -> Vec<EpisodeId> {
    let entries = fs::read_dir(&layout.episodes).into_iter().flatten().flatten();
    let ids: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| EpisodeId::parse(entry.file_name().to_str()?).ok())
        .take(MOST_LOOKED_AT)
        .collect();
    let mut found = among(ids.iter(), layout, now);
    // What was shipped while this looked has left.
    found.retain(|id| layout.episode(id).is_dir());
    found
}

fn was_shipped_today(layout: &Layout, id: &EpisodeId, now: WallTime) -> bool {
    let shipped = layout.shipped.join(id.as_str());
    if fs::symlink_metadata(&shipped).is_err() {
        return false;
    }
    let Ok(Some(receipt)) = filed::receipt(&shipped) else { return false };
    let at = receipt.delivered_at_wall;
    let within_a_day = at >= RELEASED && at.unix_seconds().abs_diff(now.unix_seconds()) < DAY_S;
    // On its way there by a copy it stands in both folders, with the same receipt.
    let is_on_its_way =
        || matches!(filed::receipt(&layout.episode(id)), Ok(Some(same)) if same.sha256 == receipt.sha256);
    within_a_day && !is_on_its_way()
}
