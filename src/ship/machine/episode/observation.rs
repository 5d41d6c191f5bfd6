//! What was seen of an episode's folder.

use std::time::Duration;

use crate::model::episode::Stamp;

/// What was seen of an episode's folder, and is looked at now.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) looking: Looking,
    pub(super) is_watched: bool,
    /// Something stirred while it was moved away: the name may be in use again.
    pub(super) has_stirred: bool,
    /// What stands under the marker's name and is none.
    pub(super) odd_marker: Option<&'static str>,
    /// As last seen sealed.
    pub(super) stamp: Option<Stamp>,
    /// When it was seen to be sealed.
    pub(super) sealed_at: Duration,
}

/// Whether a look is under way, and whether another was asked for meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looking {
    No,
    Yes,
    YesAndAgain,
    /// What it will say is older than what is known already: it is not believed, and asked again.
    Stale,
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            looking: Looking::No,
            is_watched: false,
            has_stirred: false,
            odd_marker: None,
            stamp: None,
            sealed_at: Duration::ZERO,
        }
    }
}

impl Observation {
    /// No watch stands any more, nor one that was asked for and not heard of yet.
    pub(super) fn distrust_watch(&mut self) {
        self.is_watched = false;
        if self.looking != Looking::No {
            self.looking = Looking::Stale;
        }
    }
}
