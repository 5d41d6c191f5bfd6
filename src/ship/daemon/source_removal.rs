//! What a move has left where the episode stood: where that can have no other name, it is removed
//! there, and a file of it may be open.

use std::path::Path;

use super::workers::Workers;
use crate::{
    disk::{
        durable::{self, Finished},
        record_files,
    },
    model::{episode::EpisodeId, progress::Progress},
    ship::machine::step_result::Moved,
};

impl Workers {
    /// Whether something is left behind a move, and that is to be gone on with.
    pub(super) fn or_leaving(&self, id: &EpisodeId, moved: Moved) -> Moved {
        let episode = self.layout.episode(id);
        match moved {
            Moved::To(path) if durable::is_being_removed(&episode) => Moved::Leaving(path),
            Moved::To(_) => {
                open_again(&episode);
                moved
            }
            other => other,
        }
    }

    /// Goes on with the removal of what is left.
    pub(super) fn finish(&self, id: &EpisodeId, progress: &Progress) -> Moved {
        let episode = self.layout.episode(id);
        let moved = match durable::finish_removal(&episode, progress) {
            Ok(Finished::NoSuch | Finished::Removed) => Moved::Gone,
            Ok(Finished::Open(file)) => Moved::open(file),
            Ok(Finished::Stays(_)) => {
                open_again(&episode);
                Moved::Changed
            }
            Err(error) => {
                let advice =
                    record_files::advice(&error, &episode, &self.layout.shipped, &self.layout);
                Moved::Failed(format!(
                    "it was copied away, but what is left of it cannot be removed: {error}{advice}"
                ))
            }
        };
        self.noted(id, moved)
    }
}

/// What stays is an open folder from here on: a record of ours in it would say that it is on its
/// way.
pub(super) fn open_again(episode: &Path) {
    if durable::stays_beside(episode).is_none() {
        return;
    }
    if let Err(error) =
        record_files::remove_receipt(episode).and_then(|()| record_files::remove_reason(episode))
    {
        tracing::warn!(
            "The record of ours in {} cannot be removed: {error}.",
            crate::disk::tree::shown(episode)
        );
    }
}
