//! When disk pressure is felt: by the periodic look, and wherever something ended for want of room. What is removed for it, if the
//! operator wants that at all, is in `retention.rs`.
//!
//! ```text
//!  look, no room, full, shipped ──▶ Relieve ──enough──▶ until it is felt again
//!                                      └──nothing to remove──▶ until something is shipped, or the next clean-up is due
//! ```

use super::{Effect, queue::Machine};

#[derive(Debug, Default)]
pub(super) struct Relief {
    under_way: bool,
    /// Felt again since it began.
    again: bool,
    /// There was nothing to remove: to look through all of `shipped/` for it every minute would be a load of its own.
    vain: bool,
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
            self.now_do(Effect::Relieve);
        }
    }

    /// One more in `shipped/`.
    pub(super) fn something_to_remove(&mut self) {
        self.relief.hope();
        self.feel_pressure();
    }

    pub(super) fn relieved(&mut self, enough: bool) {
        self.relief.under_way = false;
        let again = std::mem::take(&mut self.relief.again);
        // What was felt meanwhile may have come with something to remove.
        self.relief.vain = !enough && !again;
        if again {
            self.feel_pressure();
        }
    }
}
