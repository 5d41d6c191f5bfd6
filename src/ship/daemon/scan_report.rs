//! What a look around has found is told when it changes, and not every few seconds.

use std::io;

use super::workers::Workers;
use crate::model::snapshot::LeftAside;

impl Workers {
    /// Archives that each may be a last copy, and are left alone: told when their number changes.
    pub(super) fn tell_stranded(&self, stranded: u64) {
        let before = std::mem::replace(&mut self.known.stats.lock().stranded, stranded);
        if before != stranded && stranded > 0 {
            tracing::warn!("{}", crate::model::snapshot::stranded(stranded));
        }
    }

    /// What is sealed and out of sight while a move is at work in `episodes/`: told when it comes
    /// to that.
    pub(super) fn tell_left_aside(&self, left: Option<LeftAside>) {
        let mut stats = self.known.stats.lock();
        if let (Some(left), None) = (&left, &stats.left_aside) {
            tracing::warn!("{left}. To see what that is, type: {}", left.fix);
        }
        stats.left_aside = left;
    }

    /// A mount that is gone for a weekend is told of once, and not every five seconds.
    pub(super) fn tell_trouble(&self, error: Option<&io::Error>) {
        let episodes = self.layout.episodes.display();
        let now = error.map(ToString::to_string);
        let mut before = self.known.scan_trouble.lock();
        match &now {
            Some(why) if *before != now => tracing::error!(
                "Failed to look through {episodes} and the outbox: {why}. Nothing is moved; it is tried again."
            ),
            None if before.is_some() => {
                tracing::info!("{episodes} and the outbox can be looked through again.");
            }
            Some(_) | None => {}
        }
        *before = now;
    }
}
