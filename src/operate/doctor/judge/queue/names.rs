//! `names` and `conflicts`: what ships under another name than it has.
//!
//! Whatever a fix does, no episode may be seen under its new name before it is whole: the daemon
//! ships what has a marker the moment it is there. So `sealift rename` gives it its name.

use std::{collections::HashSet, ffi::OsStr};

use super::{
    super::daemon_checks::{DaemonChecks, no_episodes},
    are, ids, in_turn,
};
use crate::{
    disk::{by_hand::second_name, scan::NoEpisode},
    model::{records::WallTime, text::printable},
    operate::{
        doctor::{
            facts::{EpisodesFacts, Facts, StrangerFacts},
            row::{DoctorRow, Id, RowStatus},
            words::{foreign, tame, word},
        },
        rename::{LEFT_ALONE_MIN, typed_name},
    },
};

/// For so long a typed command may be at work on what it made, without a word.
const MADE_FOR_A_WHILE_S: i64 = 3600;
/// So many are named, each by itself.
const MAX_NAMED: usize = 20;

pub(super) fn conflicts(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let id = Id::Conflicts;
    let Some((episode, why)) = found.conflicts.first() else {
        // One that could not be noted beside the outbox's archives is known to the daemon alone.
        let told = DaemonChecks::among(facts).map(DaemonChecks::conflicts);
        if let Some(row) = told.filter(|row| row.status != RowStatus::Green) {
            return row;
        }
        return DoctorRow::green(id, "Nothing is in conflict with what the receiver holds.");
    };
    let n = found.conflicts.len();
    let summary = format!(
        "{}. {episode}: {why}. Compare the two, then ship ours under another name.",
        are(n, "in conflict")
    );
    let mut given = HashSet::new();
    let fixes = found.conflicts.iter().take(MAX_NAMED).map(|(episode, _)| {
        let to = free(found, episode.as_str(), &mut given);
        rename(facts, episode.as_str().as_ref(), &to)
    });
    let (fix, fixes) = in_turn(fixes.collect());
    DoctorRow::red(id, summary, fix)
        .with("count", n)
        .with("episodes", ids(found.conflicts.iter().map(|(id, _)| id)))
        .with("fixes", fixes)
}

/// `sealift rename`, as a user who may.
fn rename(facts: &Facts, name: &OsStr, to: &str) -> String {
    let rename = format!(
        "rename --from episodes {} {}",
        word(&*typed_name(name)),
        word(to)
    );
    let may = facts.people.we_see_as_the_shipper();
    facts
        .hands
        .as_root_unless(may, &facts.hands.sealift(&rename))
}

/// A name that nothing in `episodes/` has, and nothing that left it had: this one, numbered.
fn free(found: &EpisodesFacts, name: &str, given: &mut HashSet<String>) -> String {
    let is_taken = |name: &str| {
        found.taken.contains(name)
            || found
                .episodes
                .iter()
                .any(|episode| episode.id.as_str() == name)
            || found
                .strangers
                .iter()
                .any(|stranger| stranger.name == *name)
    };
    let free = (1..)
        .map(|n| second_name(name, n))
        .find(|name| !given.contains(name) && !is_taken(name));
    let free = free.unwrap_or_else(|| format!("{name}-again"));
    given.insert(free.clone());
    free
}

pub(super) fn names(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let id = Id::Names;
    // What is sealed comes first: its recorder takes it for shipped.
    let (sealed, open): (Vec<_>, Vec<_>) =
        found.strangers.iter().partition(|stranger| stranger.sealed);
    let strangers: Vec<_> = sealed.iter().chain(&open).copied().collect();
    let Some(first) = strangers.first() else {
        let green = || DoctorRow::green(id, "Every name in episodes/ is an id.");
        return broken_off(facts, found).unwrap_or_else(green);
    };
    let (name, why) = (first.name.to_string_lossy(), first.why.to_string());
    let summary = no_episodes(strangers.len() as u64, Some((&name, &why, first.sealed)));
    // Who may read what it leads to, and whether it is at rest, only a person knows.
    let summary = match first.why {
        NoEpisode::Symlink => format!(
            "{summary} Move the folder that it leads to into episodes/ under a name of its own (docs/doctor.md#symlinks)."
        ),
        NoEpisode::Name(_) | NoEpisode::LooseMarker => summary,
    };
    let mut given = HashSet::new();
    let fixes = strangers
        .iter()
        .take(MAX_NAMED)
        .map(|it| mended(facts, found, it, &mut given));
    let (fix, fixes) = in_turn(fixes.collect());
    let names = strangers
        .iter()
        .take(MAX_NAMED)
        .map(|it| printable(&it.name.to_string_lossy()));
    let names: Vec<_> = names.collect();
    let row = if sealed.is_empty() {
        let summary = format!(
            "{summary} It is not sealed: it gets its name once nothing has written to it for {LEFT_ALONE_MIN} minutes."
        );
        DoctorRow::yellow(id, summary, fix)
    } else {
        DoctorRow::red(id, summary, fix)
    };
    row.with("count", strangers.len())
        .with("names", names)
        .with("fixes", fixes)
}

/// What commands that were typed have left, where they were broken off. What each was made of is
/// where it was: that goes last.
fn broken_off(facts: &Facts, found: &EpisodesFacts) -> Option<DoctorRow> {
    let since = |written: &WallTime| facts.now.unix_seconds() - written.unix_seconds();
    let left = found
        .broken_off
        .iter()
        .filter(|(_, written)| since(written) >= MADE_FOR_A_WHILE_S);
    let left: Vec<_> = left.map(|(name, _)| name).collect();
    let first = printable(left.first()?);
    let (are, them) = match left.len() {
        1 => ("1 hidden folder in episodes/ looks".to_owned(), "it is"),
        n => (format!("{n} hidden folders in episodes/ look"), "each is"),
    };
    let summary = format!(
        "{are} like what a command that an earlier version named makes there for a while ({first}), and {them} left where that was \
         broken off. What it was made of is where it was, so nothing is lost with it. Remove it (rm -r), unless a recorder or such a command \
         is at work on it: what is shown lists the processes that have something in it open."
    );
    let looked_at = |name: &&String| {
        let folder = found.folder.join(name.as_str());
        foreign(&folder, |folder| format!("lsof +D {folder}"))
    };
    let (fix, fixes) = in_turn(left.iter().take(MAX_NAMED).map(looked_at).collect());
    let names: Vec<_> = left
        .iter()
        .take(MAX_NAMED)
        .map(|name| printable(name))
        .collect();
    let row = DoctorRow::yellow(Id::Names, summary, fix);
    Some(row.with("broken_off", names).with("fixes", fixes))
}

fn mended(
    facts: &Facts,
    found: &EpisodesFacts,
    stranger: &StrangerFacts,
    given: &mut HashSet<String>,
) -> String {
    match stranger.why {
        NoEpisode::Name(_) => {
            let to = free(found, &tame(&stranger.name), given);
            rename(facts, &stranger.name, &to)
        }
        NoEpisode::Symlink => foreign(&found.folder.join(&stranger.name), |link| {
            format!("readlink -f {link}")
        }),
        NoEpisode::LooseMarker => facts.setup_command(),
    }
}
