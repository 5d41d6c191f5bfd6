//! Room on a disk that is full: what disk pressure may take from `shipped/`, and the spares for the
//! records of those who go there.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::workers::Workers;
use crate::{
    disk::{
        durable,
        filesystem::{self, ground},
        tree,
    },
    model::{
        episode::EpisodeId,
        layout::{Layout, is_numbered_in_any_case},
        progress::Progress,
    },
    ship::{machine::step_result::Packed, outbox},
};

/// On a smaller file system than this, spares of its own would be too large a part of it.
const SPARES_FROM_BYTES: u64 = 16 << 20;

impl Workers {
    /// Makes room on the disk of `shipped/`, as far as that is configured, or an episode that is to
    /// be moved there needs it. False where there is too little, and nothing to remove.
    pub(super) fn relieve(&self, need_bytes: u64, progress: &Progress) -> bool {
        let Some(wanted_bytes) = self.free_bytes.shipped.map(|wanted| wanted.max(need_bytes))
        else {
            return true;
        };
        // It is another disk then, whose room says nothing.
        if self.have(&self.layout.shipped).is_err() {
            return false;
        }
        let retiring = |directory: &OsStr| {
            self.known
                .retiring
                .lock()
                .iter()
                .any(|id| is_numbered_in_any_case(directory, id.as_str()))
        };
        // The machine asks for one at a time, so no other worker misses it meanwhile.
        let mut pressure = std::mem::take(&mut *self.known.pressure.lock());
        let relieved = pressure.relieve(
            &self.layout,
            wanted_bytes,
            &retiring,
            &self.as_delivered(progress),
            progress,
        );
        *self.known.pressure.lock() = pressure;
        if relieved.removed > 0 {
            self.keep_spares();
        }
        relieved.enough
    }

    /// On a full disk there may be no room for them now: then later.
    pub(super) fn keep_spares(&self) {
        for spares in self.spares_to_keep() {
            if let Err(error) = durable::keep_spares(&spares) {
                tracing::debug!(
                    "no spare files for a full disk at {}: {error}",
                    tree::shown(&spares)
                );
            }
        }
    }

    /// A record is only written over a spare on its own mount: so each that records go to has some,
    /// unless it is tiny.
    fn spares_to_keep(&self) -> Vec<PathBuf> {
        let Layout {
            episodes, outbox, ..
        } = &*self.layout;
        let [ours, in_episodes] = self.layout.spares(episodes);
        let [_, in_outbox] = self.layout.spares(outbox);
        let at_home = ground(&self.layout.private);
        let is_away = |folder: &Path| {
            let away = matches!((&at_home, ground(folder)), (Ok(home), Ok(there)) if !home.is_renamed_to(there));
            away && filesystem::space(folder)
                .is_ok_and(|space| space.total_bytes >= SPARES_FROM_BYTES)
        };
        let mut spares = vec![ours];
        // Not in the place of a folder that is gone for a while.
        if is_away(episodes) && self.known.is_root(episodes) {
            spares.push(in_episodes);
        }
        if is_away(outbox) && self.have(outbox).is_ok() {
            spares.push(in_outbox);
        }
        spares
    }

    /// What was sent without a copy in the outbox leaves a note there for the time of its move:
    /// killed in the middle, the next start finds out by it whether what stands in `shipped/` is
    /// what was delivered.
    pub(super) fn note_what_lies_nowhere(
        &self,
        id: &EpisodeId,
        packed: &Packed,
    ) -> Result<(), String> {
        let lies_nowhere = self
            .known
            .scratch
            .lock()
            .get(id)
            .is_some_and(|scratch| scratch.measured.is_some());
        if !lies_nowhere {
            return Ok(());
        }
        self.have(&self.layout.outbox)?;
        outbox::note(&self.layout, id, packed).map_err(|error| {
            let what = filesystem::used_up(&self.layout.outbox, &error);
            format!("delivered, but its move cannot be noted in the outbox: {error}{what}")
        })
    }

    /// Whether there is a spare for the receipt of a delivered episode now, which there was none
    /// for: its archive is not needed any more.
    pub(super) fn gives_room(&self, id: &EpisodeId, packed: &Packed) -> bool {
        let spares = self.layout.spares(&self.layout.episodes);
        outbox::give_room(&self.layout, id, packed, &spares).unwrap_or_else(|error| {
            tracing::debug!(EPISODE = %id, "its archive gives no room to its receipt: {error}");
            false
        })
    }
}
