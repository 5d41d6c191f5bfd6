//! When disk pressure is felt: by the periodic look, and wherever something ended for want of room.
//! What is removed for it, if the operator wants that at all, is in `ship/sweep/pressure.rs`.
//!
//! ```text
//!  look, no room, full, shipped ──▶ FreeSpace ──enough──▶ until it is felt again
//!                                       └──nothing to remove──▶ until something is shipped,
//!                                                               or the next clean-up is due
//! ```

use std::collections::BTreeSet;

use crate::{
    model::episode::EpisodeId,
    ship::machine::{Effect, context::Context},
};

#[derive(Debug, Default)]
pub(crate) struct DiskPressure {
    is_under_way: bool,
    /// Felt again since it began.
    again: bool,
    /// There was nothing to remove: to look through all of `shipped/` for it every minute would be
    /// a load of its own.
    exhausted: bool,
    /// The room that a delivered episode lacked to be moved, bytes.
    need_bytes: u64,
    /// Those who wait for it, and have waited for nothing yet.
    waiting: BTreeSet<EpisodeId>,
}

impl DiskPressure {
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// There may be something to remove after all.
    pub(crate) fn hope(&mut self) {
        self.exhausted = false;
    }

    pub(crate) fn felt(&mut self, cx: &mut Context) {
        if !cx.settings().relieve || self.exhausted || cx.is_stopping() {
            return;
        }
        if self.is_under_way {
            self.again = true;
        } else {
            self.is_under_way = true;
            let need_bytes = std::mem::take(&mut self.need_bytes);
            cx.perform(Effect::FreeSpace { need_bytes });
        }
    }

    pub(crate) fn needs(
        &mut self,
        id: &EpisodeId,
        need_bytes: u64,
        is_first: bool,
        cx: &mut Context,
    ) {
        if !cx.settings().relieve {
            return;
        }
        self.need_bytes = self.need_bytes.max(need_bytes);
        // One that had room made for it, and was not moved all the same, waits as long as any
        // other.
        if is_first {
            self.waiting.insert(id.clone());
        }
        self.felt(cx);
    }

    pub(crate) fn relieved(&mut self, enough: bool, cx: &mut Context) -> BTreeSet<EpisodeId> {
        self.is_under_way = false;
        let again = std::mem::take(&mut self.again);
        // What was felt meanwhile may have come with something to remove.
        self.exhausted = !enough && !again;
        if again {
            self.felt(cx);
            return BTreeSet::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        if enough && !cx.is_stopping() {
            waiting
        } else {
            BTreeSet::new()
        }
    }
}
