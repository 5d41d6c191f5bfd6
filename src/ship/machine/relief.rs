//! When disk pressure is felt: by the periodic look, and wherever something ended for want of room.
//! What is removed for it, if the operator wants that at all, is in `retention.rs`.
//!
//! ```text
//!  look, no room, full, shipped ──▶ Relieve ──enough──▶ until it is felt again
//!                                      └──nothing to remove──▶ until something is shipped,
//!                                                              or the next clean-up is due
//! ```

use std::collections::BTreeSet;

use super::{
    Effect,
    queue::Machine,
    state::{AfterRest, State},
};
use crate::model::episode::EpisodeId;

#[derive(Debug, Default)]
pub(super) struct Relief {
    under_way: bool,
    /// Felt again since it began.
    again: bool,
    /// There was nothing to remove: to look through all of `shipped/` for it every minute would be
    /// a load of its own.
    vain: bool,
    /// The room that a delivered episode lacked to be moved, bytes.
    need_bytes: u64,
    /// Those who wait for it, and have waited for nothing yet.
    waiting: BTreeSet<EpisodeId>,
}

impl Relief {
    pub(super) fn under_way(&self) -> bool {
        self.under_way
    }

    /// There may be something to remove after all.
    pub(super) fn hope(&mut self) {
        self.vain = false;
    }
}

impl Machine {
    pub(super) fn feel_pressure(&mut self) {
        if !self.settings.relieve || self.relief.vain || self.stopping {
            return;
        }
        if self.relief.under_way {
            self.relief.again = true;
        } else {
            self.relief.under_way = true;
            let need_bytes = std::mem::take(&mut self.relief.need_bytes);
            self.now_do(Effect::Relieve { need_bytes });
        }
    }

    /// One that is delivered has no room there. However much is wanted to stay free, it needs that.
    pub(super) fn feel_need(&mut self, id: &EpisodeId, need_bytes: u64) {
        if !self.settings.relieve {
            return;
        }
        self.relief.need_bytes = self.relief.need_bytes.max(need_bytes);
        // One that had room made for it, and was not moved all the same, waits as long as any
        // other.
        if self
            .episodes
            .get(id)
            .is_some_and(|episode| episode.failures.local == 1)
        {
            self.relief.waiting.insert(id.clone());
        }
        self.feel_pressure();
    }

    /// One more in `shipped/`.
    pub(super) fn something_to_remove(&mut self) {
        self.relief.hope();
        self.feel_pressure();
    }

    pub(super) fn relieved(&mut self, enough: bool) {
        self.relief.under_way = false;
        let again = std::mem::take(&mut self.relief.again);
        let waiting = if again {
            BTreeSet::new()
        } else {
            std::mem::take(&mut self.relief.waiting)
        };
        // What was felt meanwhile may have come with something to remove.
        self.relief.vain = !enough && !again;
        if again {
            self.feel_pressure();
        }
        if !enough || self.stopping {
            return;
        }
        for id in waiting {
            let state = self.episodes.get(&id).map(|episode| &episode.state);
            if matches!(state, Some(State::Resting(AfterRest::Retire(..), _))) {
                self.sleep_until(&id, None);
                self.rested(&id);
            }
        }
    }
}
