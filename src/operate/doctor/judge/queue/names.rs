//! `names` and `conflicts`: what ships under another name than it has.
//!
//! Whatever a fix does, no episode may be seen under its new name before it is whole: the daemon
//! ships what has a marker the moment it is there. So a folder gets its name by one rename, and
//! what has to be copied is copied to a name that begins with a dot, which is never taken for an
//! episode.

use std::{collections::HashSet, path::PathBuf};

use super::{super::partial_scan::by_daemon, are, ids, in_turn};
use crate::{
    disk::{
        by_hand::{copied, moved, second_name},
        scan::NoEpisode,
    },
    model::{records::WallTime, text::printable},
    operate::doctor::{
        facts::{DaemonState, EpisodesFacts, Facts, StrangerFacts},
        row::{DoctorRow, Id, RowStatus},
        words::{path, tame, word},
    },
};

/// For so long a typed command may be at work on what it made, without a word.
const MADE_FOR_A_WHILE_S: i64 = 3600;
/// So many are named, each by itself.
const MAX_NAMED: usize = 20;
/// A folder whose recorder may still be writing by its path keeps its name until it was left alone
/// for so long, minutes.
const LEFT_ALONE_MIN: u32 = 10;

pub(super) fn conflicts(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let id = Id::Conflicts;
    let Some((episode, why)) = found.conflicts.first() else {
        // One that could not be noted beside the outbox's archives is known to the daemon alone.
        if let DaemonState::Answers(snapshot) = &facts.daemon
            && let Some(row) =
                by_daemon(facts, snapshot, id).filter(|row| row.status != RowStatus::Green)
        {
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
        let from = found.folder.join(episode.as_str());
        let to = free(found, episode.as_str(), &mut given);
        typed(facts, &moved(&from, &to, !found.copied_by_mv, path))
    });
    let (fix, fixes) = in_turn(fixes.collect());
    DoctorRow::red(id, summary, fix)
        .with("count", n)
        .with("episodes", ids(found.conflicts.iter().map(|(id, _)| id)))
        .with("fixes", fixes)
}

/// One after the other, each only where the one before it went well; as a user who may.
fn typed(facts: &Facts, commands: &[String]) -> String {
    let all = commands.join(" && ");
    match commands {
        _ if facts.people.we_see_as_the_shipper() => all,
        [_] => facts.hands.as_root(&all),
        _ => facts.hands.as_root(&format!("bash -c {}", word(&all))),
    }
}

/// A path in `episodes/` that nothing has, and nothing that left it had: this name, numbered.
fn free(found: &EpisodesFacts, name: &str, given: &mut HashSet<String>) -> PathBuf {
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
    let to = found.folder.join(&free);
    given.insert(free);
    to
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
    let summary = match strangers.len() {
        1 => "1 entry in episodes/ can be no episode".to_owned(),
        n => format!("{n} entries in episodes/ can be no episodes"),
    };
    let summary = format!("{summary}. {}: {}", first.name.to_string_lossy(), first.why);
    let mut given = HashSet::new();
    let fixes = strangers
        .iter()
        .take(MAX_NAMED)
        .map(|it| typed(facts, &renamed(facts, found, it, &mut given)));
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
        DoctorRow::red(
            id,
            format!("{summary} It was sealed, and is not shipped."),
            fix,
        )
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
        "{are} like what a command of the doctor, of verify or of requeue makes there for a while ({first}), and {them} left where that \
         was broken off. What it was made of is where it was, so nothing is lost with it. Remove it, unless a recorder or such a command \
         is at work on it: the command lists the processes that have something in it open."
    );
    let looked_at = |name: &&String| {
        let folder = path(&found.folder.join(name.as_str()));
        format!(
            "lsof +D {folder}; ls -la {folder}  # where no process has it open, and no recorder made it: rm -r {folder}"
        )
    };
    let fixes: Vec<_> = left.iter().take(MAX_NAMED).map(looked_at).collect();
    let names: Vec<_> = left
        .iter()
        .take(MAX_NAMED)
        .map(|name| printable(name))
        .collect();
    let row = DoctorRow::yellow(
        Id::Names,
        summary,
        fixes.first().cloned().unwrap_or_default(),
    );
    Some(row.with("broken_off", names).with("fixes", fixes))
}

fn renamed(
    facts: &Facts,
    found: &EpisodesFacts,
    stranger: &StrangerFacts,
    given: &mut HashSet<String>,
) -> Vec<String> {
    let (from, name) = (found.folder.join(&stranger.name), tame(&stranger.name));
    let here = path(&from);
    // Nothing that begins with a dot is looked at; where such a name is taken, what has it is
    // numbered, and not replaced.
    let hide = |to: &str| {
        format!(
            "mv -T --backup=numbered {here} {}",
            path(&found.folder.join(to))
        )
    };
    match stranger.why {
        NoEpisode::Name(_) => {
            let left_alone =
                format!("test -z \"$(find {here} -mmin -{LEFT_ALONE_MIN} -print -quit)\"");
            let moved = moved(&from, &free(found, &name, given), !found.copied_by_mv, path);
            (!stranger.sealed)
                .then_some(left_alone)
                .into_iter()
                .chain(moved)
                .collect()
        }
        NoEpisode::Symlink => {
            // A copy that root makes belongs to the owner of the original, and the shipper could
            // not move it.
            let owned = |copy: &str| {
                let shipper = facts
                    .people
                    .shipper
                    .as_ref()
                    .filter(|shipper| shipper.uid != 0)?;
                let is_ours = facts.people.we_see_as_the_shipper() && facts.people.us.uid != 0;
                (!is_ours).then(|| format!("chown -R {}: {copy}", word(&shipper.name)))
            };
            let mut commands = copied(&from, &free(found, &name, given), &name, owned, path);
            commands.push(hide(&format!(".{name}.link")));
            commands
        }
        NoEpisode::LooseMarker => vec![hide(".done.marker")],
    }
}
