//! What is counted, for whoever watches the receiver. Counts begin at nothing when it starts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::episode::HostName;

/// So many hosts are counted each by itself; further ones are counted together, under no name. Whoever signs certificates could
/// sign any number of names.
const MAX_NAMES: usize = 10_000;

/// The counts.
#[derive(Debug, Default)]
pub struct Tally {
    window_rejections: Mutex<BTreeMap<Option<HostName>, u64>>,
}

impl Tally {
    /// An upload was turned away for its commit, or for saying none.
    pub(super) fn rejected_by_window(&self, host: Option<&HostName>) {
        let mut counts = self.window_rejections.lock().unwrap_or_else(PoisonError::into_inner);
        let name = host.cloned().filter(|_| counts.len() < MAX_NAMES || counts.contains_key(&host.cloned()));
        *counts.entry(name).or_default() += 1;
    }

    /// How many uploads were turned away for their commit, by authenticated name.
    #[must_use]
    pub fn window_rejections(&self) -> BTreeMap<Option<HostName>, u64> {
        self.window_rejections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_are_counted_without_end_of_memory() {
        let tally = Tally::default();
        let name = |n: usize| HostName::parse(&format!("host-{n}")).unwrap();
        for n in 0..MAX_NAMES + 5 {
            tally.rejected_by_window(Some(&name(n)));
        }
        tally.rejected_by_window(Some(&name(0)));
        let counts = tally.window_rejections();
        assert_eq!((counts.len(), counts[&None], counts[&Some(name(0))]), (MAX_NAMES + 1, 5, 2));
    }
}
