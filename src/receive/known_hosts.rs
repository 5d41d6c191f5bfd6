//! The names under which hosts have come in. A host that comes under another spelling of its name
//! (`LAB-07`, `lab-07.`) would be a second one, with episodes, a share and a place of its own.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::identity::Caller;
use crate::model::{
    episode::HostName,
    wire::{Problem, ProblemType},
};

/// So many names are remembered. The authority that signs certificates could sign any number.
const MAX_NAMES: usize = 10_000;

/// By what their spellings have in common.
#[derive(Debug, Default)]
pub(super) struct KnownHosts(Mutex<BTreeMap<String, Spellings>>);

#[derive(Debug, Default)]
struct Spellings {
    /// More than one only where the store holds episodes of several already.
    known: Vec<HostName>,
    /// That another one was refused is told once.
    told: bool,
}

impl KnownHosts {
    /// What a store holds episodes of is known, whatever it is.
    pub(super) fn of_store(hosts: Vec<HostName>) -> Self {
        let known = Self::default();
        for host in hosts {
            let mut names = known.0.lock();
            names.entry(host.folded()).or_default().known.push(host);
        }
        known
    }

    /// The same caller, unless its name is another spelling of one that is known.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn admit(&self, caller: Caller) -> Result<Caller, Problem> {
        let Some(name) = caller.name() else {
            return Ok(caller);
        };
        let mut names = self.0.lock();
        let folded = name.folded();
        if names.len() >= MAX_NAMES && !names.contains_key(&folded) {
            return Ok(caller);
        }
        let Spellings { known, told } = names.entry(folded).or_default();
        let Some(first) = known.first() else {
            known.push(name.clone());
            return Ok(caller);
        };
        if known.contains(name) {
            return Ok(caller);
        }
        if !std::mem::replace(told, true) {
            tracing::error!(
                "{name} is not let in: {first} is known here, and a host has one spelling of its name. Give it a certificate or \
                 a token of that"
            );
        }
        let detail = format!(
            "You come as {name}, and {first} is known here: a host has one spelling of its name."
        );
        Err(Problem::new(ProblemType::Unauthenticated, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_spelling_of_a_name_is_known_and_any_other_is_refused() {
        let name = |name: &str| HostName::parse(name).unwrap();
        let hosts = KnownHosts::of_store(vec![name("Old"), name("old.")]);
        let comes = |as_: &str| hosts.admit(Caller::Known(name(as_))).is_ok();
        for (as_, expected) in [
            ("lab-07", true),
            ("LAB-07", false),
            ("lab-07.", false),
            ("lab-07", true),
            ("LAB-08", true),
            ("lab-08", false),
            // The store holds episodes of both, and none of the third.
            ("Old", true),
            ("old.", true),
            ("old", false),
        ] {
            assert_eq!(comes(as_), expected, "{as_}");
        }
        assert!(hosts.admit(Caller::Unnamed).is_ok());
    }
}
