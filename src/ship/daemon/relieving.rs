//! Room on a disk that is full: what disk pressure may take from `shipped/`, and the spares for the records of those who go there.

use std::ffi::OsStr;

use super::workers::{Workers, lock};
use crate::{
    durable, episode::EpisodeId, layout::is_numbered, progress::Progress, ship::machine::state::Packed,
    ship::outbox,
};

impl Workers {
    /// Makes room on the disk of `shipped/`, as far as that was asked for, or somebody needs it. False where there is too little, and nothing to remove.
    pub(super) fn relieve(&self, need_bytes: u64, progress: &Progress) -> bool {
        let Some(wanted_bytes) = self.free_bytes.shipped.map(|wanted| wanted.max(need_bytes)) else {
            return true;
        };
        // It is another disk then, whose room says nothing.
        if self.have(&self.layout.shipped).is_err() {
            return false;
        }
        let retiring = |directory: &OsStr| {
            lock(&self.known.retiring).iter().any(|id| is_numbered(directory, id.as_str()))
        };
        // The machine asks for one at a time, so nobody misses it meanwhile.
        let mut pressure = std::mem::take(&mut *lock(&self.known.pressure));
        let relieved =
            pressure.relieve(&self.layout, wanted_bytes, &retiring, &self.as_delivered(progress), progress);
        *lock(&self.known.pressure) = pressure;
        if relieved.removed > 0 {
            self.keep_spares();
        }
        relieved.enough
    }

    /// On a full disk there may be no room for them now: then later.
    pub(super) fn keep_spares(&self) {
        if let Err(error) = durable::keep_spares(&self.layout.private) {
            tracing::debug!("no spare files for a full disk: {error}");
        }
    }

    /// What was sent without a copy in the outbox leaves a note there for the time of its move: killed in the middle, the next
    /// start finds out by it whether what stands in `shipped/` is what was delivered.
    pub(super) fn note_what_lies_nowhere(&self, id: &EpisodeId, packed: &Packed) -> Result<(), String> {
        let lies_nowhere =
            lock(&self.known.scratch).get(id).is_some_and(|scratch| scratch.measured.is_some());
        if !lies_nowhere {
            return Ok(());
        }
        self.have(&self.layout.outbox)?;
        outbox::note(&self.layout, id, packed)
            .map_err(|error| format!("delivered, but its move cannot be noted in the outbox: {error}"))
    }
}
