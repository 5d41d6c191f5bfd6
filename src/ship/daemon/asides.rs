//! At the start: what was delivered and copied to `shipped/`, or rejected and copied to
//! `quarantine/`, and was being taken out of `episodes/` when the process was killed, where its name
//! was used again. Put back it would be another episode, and be sent a second time.

use std::path::{Path, PathBuf};

use crate::{
    durable,
    episode::EpisodeId,
    filed::{self, filed_as},
    layout::{ASIDE_PREFIX, Layout, name_behind},
    progress::Progress,
    records::ShippingReceipt,
    tree::shown,
};

/// Finishes what can be finished. What stays is put back like any other.
pub(super) fn finish(layout: &Layout, progress: &Progress) {
    for entry in std::fs::read_dir(&layout.episodes).into_iter().flatten().flatten() {
        progress.step();
        let aside = entry.path();
        let Some(id) = used_again(layout, &aside) else { continue };
        for (what, copy) in copies(layout, &id, &aside, progress) {
            match durable::finish_aside(&aside, &copy, progress) {
                Ok(true) => {
                    tracing::info!(
                        EPISODE = %id,
                        "{id} was {what} and copied to {} before, and its name was used again since: what was left of it in \
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
        found.into_iter().filter(|copy| !durable::has_removal_note(copy))
    };
    if let Ok(Some(ours)) = filed::receipt(aside)
        && ours.episode_id == *id
    {
        let is_of_it = |receipt: ShippingReceipt| {
            receipt.episode_id == *id && receipt.content_sha256 == ours.content_sha256
        };
        let found = filed_in(&layout.shipped)
            .filter(|copy| filed::receipt(copy).is_ok_and(|receipt| receipt.is_some_and(is_of_it)));
        copies.extend(found.map(|copy| ("delivered", copy)));
    }
    let has_its_reason = |directory: &Path| {
        let reason = filed::reason(directory).ok().flatten();
        reason.is_some_and(|reason| reason.episode_id.as_deref() == Some(id.as_str()))
    };
    if has_its_reason(aside) {
        let found = filed_in(&layout.quarantine).filter(|copy| has_its_reason(copy));
        copies.extend(found.map(|copy| ("rejected", copy)));
    }
    copies
}
