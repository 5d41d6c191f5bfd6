//! Rejected: the episode is moved aside, with the reason written into it first.
//!
//! ```text
//!  reason into episodes/<id>/ ▸ move to quarantine/<id>[~n] ▸ archive, sidecar, partial unlinked
//! ```
//!
//! Killed between the first two, the reason lies in `episodes/` and says nothing there: the next start decides afresh.
//! The reason is left out of archive and fingerprint, so an episode that comes back packs to the same bytes.

use std::io;

use super::{
    machine::state::{Moved, Reason},
    outbox,
};
use crate::{
    durable,
    episode::EpisodeId,
    filed,
    layout::Layout,
    progress::Progress,
    records::{QuarantineReason, WallTime},
};

/// Moves an episode to `quarantine/` with its reason, and clears its archive away.
#[must_use]
pub fn quarantine(
    layout: &Layout,
    id: &EpisodeId,
    reason: &Reason,
    now: WallTime,
    progress: &Progress,
) -> Moved {
    let episode = layout.episode(id);
    let record = QuarantineReason {
        episode_id: Some(id.as_str().to_owned()),
        status_code: reason.status,
        error: Some(reason.error.clone()),
        body: reason.body.clone(),
        verdict: Some(reason.verdict.to_owned()),
        quarantined_at_wall: Some(now),
    };
    // A receipt of a retirement that was not carried out would say that it is held somewhere.
    let moved = filed::remove_receipt(&episode)
        .and_then(|()| filed::write_reason(&episode, &record))
        .and_then(|()| durable::move_directory(&episode, &layout.quarantine, id.as_str(), progress));
    match moved {
        Ok(path) => {
            if let Err(error) = outbox::clear(layout, id) {
                tracing::warn!(
                    EPISODE = %id,
                    "{id} is quarantined, but its archive in the outbox cannot be removed: {error}. It is looked at again."
                );
            }
            Moved::To(path)
        }
        Err(_) if is_gone(&episode) => Moved::Gone,
        Err(error) => Moved::Failed(explain(layout, id, reason, &error)),
    }
}

fn is_gone(episode: &std::path::Path) -> bool {
    std::fs::symlink_metadata(episode).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn explain(layout: &Layout, id: &EpisodeId, reason: &Reason, error: &io::Error) -> String {
    let folder = &layout.quarantine;
    let advice = filed::advice(error, &layout.episode(id), folder);
    format!("rejected ({}), but it cannot be moved to {}: {error}{advice}", reason.error, folder.display())
}

#[cfg(test)]
mod tests;
