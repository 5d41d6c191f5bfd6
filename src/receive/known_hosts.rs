//! The names under which hosts are known. A host that comes under another spelling of its name
//! (`LAB-07`, `lab-07.`) would be a second one, with episodes, a share and a place of its own.
//!
//! ```text
//!  a spelling is the right one by the first of these that knows the name:
//!    the folders of a store that files by host; `readers`
//!    the tokens in force                                     changes when their file does
//!    whose episodes the last walk through the store found
//!    under what it came first
//! ```

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::identity::{Caller, Tokens};
use crate::model::{
    episode::HostName,
    wire::{Problem, ProblemType},
};

/// So many names are remembered of hosts that came. The authority that signs certificates could
/// sign any number.
const MAX_NAMES: usize = 10_000;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct KnownHosts(Mutex<KnownNames>);

/// By what their spellings have in common.
#[derive(Debug, Default)]
struct KnownNames {
    /// Folders of the store, and readers. More than one spelling only where the store holds
    /// episodes of several already.
    fixed: BTreeMap<String, Vec<HostName>>,
    /// Owners of episodes.
    stored: BTreeMap<String, Vec<HostName>>,
    came: BTreeMap<String, HostName>,
    /// Of which another spelling was refused: that is told once.
    told: BTreeSet<String>,
}

impl KnownNames {
    /// The spellings of a name that are right, but for that under which it came.
    fn right<'a>(&'a self, folded: &str, tokens: Option<&'a Tokens>) -> Option<&'a [HostName]> {
        let of = |names: &'a BTreeMap<String, Vec<HostName>>| names.get(folded).map(Vec::as_slice);
        let by_token = || tokens?.spelling_of(folded).map(std::slice::from_ref);
        of(&self.fixed)
            .or_else(by_token)
            .or_else(|| of(&self.stored))
    }

    /// Tells once that a spelling is refused, and says so.
    fn refuse(&mut self, name: &HostName, right: &HostName) -> Problem {
        if self.told.insert(name.folded()) {
            tracing::error!(
                "{name} is not let in: {right} is known here, and a host has one spelling of its name. Give it a certificate or \
                 a token of that"
            );
        }
        let detail = format!(
            "You come as {name}, and {right} is known here: a host has one spelling of its name."
        );
        Problem::new(ProblemType::Unauthenticated, detail)
    }
}

fn by_folded<'a>(hosts: impl IntoIterator<Item = &'a HostName>) -> BTreeMap<String, Vec<HostName>> {
    let mut names: BTreeMap<String, Vec<HostName>> = BTreeMap::new();
    for host in hosts {
        names.entry(host.folded()).or_default().push(host.clone());
    }
    names
}

impl KnownHosts {
    /// What a store has folders for is known, whatever it is, and readers are.
    pub(super) fn new<'a>(
        hosts: &[HostName],
        readers: impl IntoIterator<Item = &'a HostName>,
    ) -> Self {
        let mut names = KnownNames {
            fixed: by_folded(hosts),
            ..KnownNames::default()
        };
        for reader in readers {
            let known = names.fixed.entry(reader.folded()).or_default();
            match known.first().cloned() {
                None => known.push(reader.clone()),
                Some(_) if known.contains(reader) => {}
                Some(right) => drop(names.refuse(reader, &right)),
            }
        }
        Self(Mutex::new(names))
    }

    /// Tells of tokens that let no host in, since it is spelt otherwise. Asked when they come into
    /// force; what was told before is told again.
    pub(super) fn look_at(&self, tokens: Option<&Tokens>) {
        let mut names = self.0.lock();
        names.told.clear();
        for name in tokens.into_iter().flat_map(Tokens::names) {
            if let Some(right) = names.fixed.get(&name.folded())
                && !right.contains(name)
            {
                let right = right[0].clone();
                drop(names.refuse(name, &right));
            }
        }
    }

    /// A walk through the store has found episodes of these.
    pub(super) fn found<'a>(&self, owners: impl IntoIterator<Item = &'a HostName>) {
        let stored = by_folded(owners);
        self.0.lock().stored = stored;
    }

    /// Episodes are filed under this name since.
    pub(super) fn filed(&self, host: &HostName) {
        let mut names = self.0.lock();
        let known = names.fixed.entry(host.folded()).or_default();
        if !known.contains(host) {
            known.push(host.clone());
        }
    }

    /// The same caller, unless its name is another spelling of one that is known.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn admit(&self, caller: Caller, tokens: Option<&Tokens>) -> Result<Caller, Problem> {
        let Some(name) = caller.name() else {
            return Ok(caller);
        };
        let mut names = self.0.lock();
        let folded = name.folded();
        let right = names
            .right(&folded, tokens)
            .or_else(|| names.came.get(&folded).map(std::slice::from_ref));
        let refused = right
            .filter(|right| !right.contains(name))
            .map(|right| right[0].clone());
        if let Some(right) = refused {
            return Err(names.refuse(name, &right));
        }
        if names.came.len() < MAX_NAMES || names.came.contains_key(&folded) {
            names.came.insert(folded, name.clone());
        }
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::episode::Digest;

    fn name(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    fn tokens(names: &[&str]) -> Tokens {
        let line = |name: &&str| format!("\"{name}\" = \"{}\"\n", Digest::of(name.as_bytes()));
        Tokens::parse(&names.iter().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn the_first_spelling_of_a_name_is_known_and_any_other_is_refused() {
        let hosts = KnownHosts::new(&[name("Old"), name("old.")], &[]);
        let comes = |as_: &str| hosts.admit(Caller::Known(name(as_)), None).is_ok();
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
        assert!(hosts.admit(Caller::Unnamed, None).is_ok());
    }

    #[test]
    fn a_token_that_is_spelt_anew_re_spells_its_host_at_once_where_nothing_is_filed_under_it() {
        let hosts = KnownHosts::new(&[name("filed")], &[name("reader")]);
        let comes = |as_: &str, tokens: &Tokens| {
            hosts.admit(Caller::Known(name(as_)), Some(tokens)).is_ok()
        };
        let old = tokens(&["LAB-07", "filed"]);
        assert!(comes("LAB-07", &old) && !comes("lab-07", &old));
        // By a certificate, and so in no file.
        assert!(comes("lab-08", &old));
        let new = tokens(&["lab-07", "FILED", "READER"]);
        hosts.look_at(Some(&new));
        let told: Vec<_> = hosts.0.lock().told.iter().cloned().collect();
        assert_eq!(told, ["filed", "reader"]);
        for (as_, expected) in [
            ("lab-07", true),
            ("LAB-07", false),
            ("FILED", false),
            ("filed", true),
            ("READER", false),
            ("LAB-08", false),
        ] {
            assert_eq!(comes(as_, &new), expected, "{as_}");
        }
        // Once something is filed under it, too.
        hosts.filed(&name("lab-07"));
        assert!(comes("lab-07", &old) && !comes("LAB-07", &old));
        // Once it has come as that it stays that, also where its token is withdrawn.
        let none = tokens(&[]);
        assert!(comes("lab-07", &none) && !comes("LAB-07", &none));
    }

    #[test]
    fn a_host_of_whom_the_store_holds_episodes_is_known_before_it_comes() {
        let hosts = KnownHosts::default();
        hosts.found(&[name("lab-07"), name("Both"), name("both")]);
        let comes = |as_: &str, tokens: Option<&Tokens>| {
            let caller = Caller::Known(name(as_));
            hosts.admit(caller, tokens).is_ok()
        };
        assert!(!comes("LAB-07", None) && comes("lab-07", None));
        assert!(comes("Both", None) && comes("both", None) && !comes("BOTH", None));
        // What the operator says now counts for more.
        let tokens = tokens(&["LAB-07"]);
        assert!(comes("LAB-07", Some(&tokens)) && !comes("lab-07", Some(&tokens)));
    }
}
