//! At the start: what was delivered and copied to `shipped/`, and was being taken out of `episodes/` when the process was killed, where
//! its name was used again. Put back it would be another episode, and be sent a second time.

use std::path::{Path, PathBuf};

use crate::{
    durable,
    episode::EpisodeId,
    filed::{self, filed_as},
    layout::{ASIDE_PREFIX, Layout, name_behind},
    progress::Progress,
    tree::shown,
};

/// Finishes what can be finished. What stays is put back like any other.
pub(super) fn finish(layout: &Layout, progress: &Progress) {
    for entry in std::fs::read_dir(&layout.episodes).into_iter().flatten().flatten() {
        progress.step();
        let aside = entry.path();
        let Some(id) = used_again(layout, &aside) else { continue };
        for copy in copies(layout, &id, &aside, progress) {
            match durable::finish_aside(&aside, &copy, progress) {
                Ok(true) => {
                    tracing::info!(
                        EPISODE = %id,
                        "{id} was delivered and copied to {} before, and its name was used again since: what was left of it in \
                         episodes/ is removed.",
                        shown(&copy)
                    );
                    break;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    EPISODE = %id,
                    "{} is what was left in episodes/ of {}, and could not be removed: {error}. It is put back beside what has its \
                     name.",
                    shown(&aside),
                    shown(&copy)
                ),
            }
        }
    }
}

/// The episode that was put aside, where another has its name.
fn used_again(layout: &Layout, aside: &Path) -> Option<EpisodeId> {
    let id = EpisodeId::parse(name_behind(ASIDE_PREFIX, aside.file_name()?)?.to_str()?).ok()?;
    std::fs::symlink_metadata(layout.episode(&id)).is_ok().then_some(id)
}

/// Those in `shipped/` with the receipt of this very delivery.
fn copies(layout: &Layout, id: &EpisodeId, aside: &Path, progress: &Progress) -> Vec<PathBuf> {
    let Ok(Some(ours)) = filed::receipt(aside) else { return Vec::new() };
    let is_of_it = |copy: &PathBuf| {
        filed::receipt(copy).is_ok_and(|receipt| {
            receipt.is_some_and(|it| it.episode_id == *id && it.content_sha256 == ours.content_sha256)
        })
    };
    let found = filed_as(&layout.shipped, id, progress).unwrap_or_default();
    found.into_iter().filter(|copy| ours.episode_id == *id && is_of_it(copy)).collect()
}
