//! `quarantine`, `clean-up`, and what a host out of the commit window is told to do.

mod comes_first;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::json;

use self::comes_first::{CommitsNow, comes_first, commits_now};
pub(super) use self::comes_first::{TAKEN, are_taken, before_it_returns};
use super::permissions::as_shipper;
use crate::{
    model::{
        records::{LAST_COPY, NOTHING_ELSE, ORPHAN},
        retention::{Due, days_between},
        text::printable,
    },
    operate::doctor::{
        facts::{Facts, FiledEpisodes, Quarantined, Remedy},
        row::{DoctorRow, Id},
        words::{COMMIT_IN_META, count, foreign, only_looks, typed_path, word},
    },
};

/// The verdict of what the receiver has rejected, and of what is at fault itself.
const FATAL: &str = "fatal";
/// So many are named, each by itself.
const MAX_NAMED: usize = 20;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let Some(aside) = &facts.aside else {
        return Vec::new();
    };
    let mut rows = vec![quarantine(facts, aside)];
    // For how long it is kept the configuration says.
    if facts.settings.watch.is_some() {
        rows.push(clean_up(facts, aside));
    }
    rows
}

/// `doctor.update_command`; else what the receiver has just said; else what it said when it last
/// refused one for its commit. What is meant for a person is a comment, and no command.
pub(super) fn remedy(facts: &Facts) -> Option<String> {
    if let Some(command) = &facts.settings.update_command {
        return Some(command.clone());
    }
    let of_receiver = facts
        .receiver
        .as_ref()
        .and_then(|receiver| receiver.remedy.as_ref());
    let newest = || {
        let quarantined = facts.aside.iter().flat_map(|aside| &aside.quarantined);
        let of_412 = quarantined.filter(|one| one.status == Some(412) && one.remedy.is_some());
        of_412.max_by_key(|one| one.at)?.remedy.as_ref()
    };
    Some(match of_receiver.or_else(newest)? {
        Remedy::Command(command) => command.clone(),
        Remedy::Words(words) => format!("# The receiver says: {words}"),
    })
}

fn reason(one: &Quarantined) -> String {
    match one.status {
        Some(status) => format!("answered {status}"),
        None if one.unreadable.is_some() => "cannot be read".to_owned(),
        None if one.verdict.is_empty() => "no reason".to_owned(),
        None => printable(&one.verdict),
    }
}

fn quarantine(facts: &Facts, aside: &FiledEpisodes) -> DoctorRow {
    let id = Id::Quarantine;
    let all = &aside.quarantined;
    if all.is_empty() {
        return DoctorRow::green(id, "Nothing is in quarantine/.").with("count", 0);
    }
    let mut by_reason: BTreeMap<String, usize> = BTreeMap::new();
    for one in all {
        *by_reason.entry(reason(one)).or_default() += 1;
    }
    let mut reasons: Vec<_> = by_reason
        .iter()
        .map(|(reason, n)| (*n, reason.as_str()))
        .collect();
    reasons.sort_by(|a, b| b.cmp(a));
    let said: Vec<_> = reasons
        .iter()
        .take(5)
        .map(|(n, reason)| format!("{n} {reason}"))
        .collect();
    let more = if aside.incomplete {
        " (and more that were not looked at)"
    } else {
        ""
    };
    let groups = groups(facts, aside);
    let fixes = groups.iter().take(MAX_NAMED);
    let fixes: Vec<_> = fixes.map(|group| group.fix.clone()).collect();
    let summary = format!(
        "{} to look at in quarantine/{more}: {}.",
        waits(all.len()),
        said.join(", ")
    );
    // What is said, what has to change and the fix are of one group.
    let Some(group) = groups.into_iter().next() else {
        return DoctorRow::green(id, summary);
    };
    let of = match by_reason.len() {
        1 => String::new(),
        _ => format!(" {}", reason(group.newest)),
    };
    let said = said_of(group.newest);
    let end = match group.says.is_empty() || said.ends_with('.') {
        true => "",
        false => ".",
    };
    let summary = format!(
        "{summary} The last{of}, {}: {said}{end}{}",
        group.newest.name, group.says
    );
    let fix = group.fix;
    let named: Vec<_> = all.iter().take(MAX_NAMED).map(|one| {
        json!({"name": printable(&one.name), "folder": one.folder.to_string_lossy(), "verdict": printable(&one.verdict), "status_code": one.status, "why": printable(&one.why)})
    }).collect();
    DoctorRow::yellow(id, summary, fix)
        .with("count", all.len())
        .with("by_reason", json!(by_reason))
        .with("fixes", fixes)
        .with("some", named)
}

/// Why it is there. What is typed for an archive by now, the fix says.
fn said_of(one: &Quarantined) -> String {
    match &one.unreadable {
        Some((why, _)) => why.clone(),
        None if one.verdict == ORPHAN => one
            .why
            .split(" To ship ")
            .next()
            .unwrap_or_default()
            .to_owned(),
        None => one.why.clone(),
    }
}

/// What one command mends, and what has to be known before it is typed.
struct Group<'a> {
    rank: Urgency,
    count: usize,
    newest: &'a Quarantined,
    fix: String,
    says: String,
}

/// Which group is shown first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// An archive that may be the last copy of an episode, and comes back.
    LastCopy,
    /// Nothing has to change first.
    ComesBack,
    /// It comes back once the receiver, or what is said of it, has changed.
    ComesBackLater,
    /// A command of ours mends it, which is not requeue.
    Mended,
    /// The receiver refuses it still, or it was replaced by another.
    Waits,
    /// The command shows it, and mends nothing.
    OnlyLooks,
}

/// Those that were answered alike and come back by one command; each other by itself. What is to be
/// acted on first comes first.
fn groups<'a>(facts: &Facts, aside: &'a FiledEpisodes) -> Vec<Group<'a>> {
    let mut all: Vec<_> = aside.quarantined.iter().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.at));
    let mut groups = Vec::new();
    let mut statuses: Vec<_> = all.iter().filter_map(|one| one.status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for status in statuses {
        let alike = |one: &Quarantined| one.status == Some(status);
        let such: Vec<_> = all.iter().copied().filter(|one| alike(one)).collect();
        // Of an episode that is there twice a person says which, and requeue takes neither until
        // then.
        let can_all = such
            .iter()
            .all(|one| hindrance(facts, one).is_none() && alone(aside, one));
        if can_all && (such.len() > 1 || status == 412) {
            let command = format!("requeue --all --status {status}");
            groups.push(returning(facts, &such, &command));
            all.retain(|one| !alike(one));
        }
    }
    for one in all {
        let group = match hindrance(facts, one) {
            Some((fix, says)) => {
                let may_be_last = one.why.contains(LAST_COPY);
                let rank = match one.verdict == ORPHAN {
                    _ if only_looks(&fix) => Urgency::OnlyLooks,
                    true if may_be_last => Urgency::LastCopy,
                    true => Urgency::Waits,
                    false => Urgency::Mended,
                };
                let (count, newest) = (1, one);
                Group {
                    rank,
                    count,
                    newest,
                    fix,
                    says,
                }
            }
            None => match requeue(aside, one) {
                Ok(command) => returning(facts, &[one], &command),
                Err(seal) => Group {
                    rank: Urgency::Mended,
                    count: 1,
                    newest: one,
                    fix: seal,
                    says: String::new(),
                },
            },
        };
        groups.push(group);
    }
    // The newest of several that are alike, since the order is kept.
    groups.sort_by_key(|group| (group.rank, std::cmp::Reverse(group.count)));
    groups
}

/// One or several that come back by one command: now, or once something has changed.
fn returning<'a>(facts: &Facts, such: &[&'a Quarantined], command: &str) -> Group<'a> {
    let (hands, newest) = (&facts.hands, such[0]);
    let is_changed = newest.resealed && such.len() == 1 && !newest.is_for_its_commit;
    let (rank, fix, says) = match commits_now(facts, such) {
        // It asks for each commit, and says which of them are taken by now.
        CommitsNow::Refused => (
            Urgency::Waits,
            hands.sealift(&format!("{command} --dry-run")),
            format!(
                "{} What is shown below says which it takes by now, and the same without --dry-run puts them back.",
                comes_first(newest.status)
            ),
        ),
        CommitsNow::Taken => (Urgency::ComesBack, hands.sealift(command), TAKEN.to_owned()),
        CommitsNow::Unknown if is_changed => {
            (Urgency::ComesBack, hands.sealift(command), String::new())
        }
        CommitsNow::Unknown => (
            Urgency::ComesBackLater,
            hands.sealift(command),
            before_it_returns(newest.status),
        ),
    };
    Group {
        rank,
        count: such.len(),
        newest,
        fix,
        says,
    }
}

fn alone(aside: &FiledEpisodes, one: &Quarantined) -> bool {
    aside
        .quarantined
        .iter()
        .filter(|other| other.name == one.name)
        .count()
        == 1
}

/// What puts it back; what seals it, where that comes first.
fn requeue(aside: &FiledEpisodes, one: &Quarantined) -> Result<String, String> {
    // It was sealed once, or it would not be here; and then it is not what it was.
    if !one.sealed {
        return Err(format!("sealift seal {}", typed_path(&one.folder)));
    }
    let folder = one.folder.file_name().unwrap_or_default();
    let which = match alone(aside, one) {
        true => word(&one.name),
        false => format!("--folder --from quarantine {}", word(folder)),
    };
    Ok(format!("requeue {which}"))
}

/// What to type for one that requeue would leave where it is, and why.
fn hindrance(facts: &Facts, one: &Quarantined) -> Option<(String, String)> {
    let hands = &facts.hands;
    let may = facts.people.we_see_as_the_shipper();
    let look = || hands.as_root(&foreign(&one.folder, |place| format!("ls -la {place}")));
    let alone = |command: String| Some((command, String::new()));
    if let Some((_, is_denied)) = &one.unreadable {
        return alone(match (is_denied, may) {
            (true, true) => facts.give(&one.folder),
            (true, false) => as_shipper(hands, &facts.people),
            (false, _) => look(),
        });
    }
    if one.verdict == ORPHAN {
        // Where it may be wanted.
        let is_changed = one.why.contains(NOTHING_ELSE);
        let is_wanted = is_changed || one.why.contains(LAST_COPY);
        let (Some(folder), Some(name), true) =
            (one.folder.file_name(), &one.comes_back_as, is_wanted)
        else {
            return alone(look());
        };
        let unpack = hands.sealift(&format!("requeue --unpack {}", word(folder)));
        let remove = foreign(&one.folder, |place| format!("rm -r {place}"));
        let or = match is_changed {
            true => format!(
                " Where it is not wanted: {}",
                hands.as_root_unless(may, &remove)
            ),
            false => String::new(),
        };
        let says = format!(" It comes back as {name}.{or}");
        return Some((hands.as_root_unless(may, &unpack), says));
    }
    // Another episode uses its name: it comes back when that one has left.
    let is_taken = facts.episodes.as_ref().is_some_and(|found| {
        found
            .episodes
            .iter()
            .any(|episode| episode.id.as_str() == one.name)
    });
    if is_taken {
        return alone(hands.sealift(&format!("trace {}", word(&one.name))));
    }
    if one.lacks_commit {
        let seal = format!("sealift seal --again {}", typed_path(&one.folder));
        let says = format!(
            " It would be rejected again. Write {COMMIT_IN_META} into its meta.json, with the commit that recorded it, and seal it anew; \
             then it can be requeued."
        );
        return Some((seal, says));
    }
    // Its own seal speaks against it, and would again. Whether what is there is all that is wanted,
    // a person sees.
    let is_at_fault = one.status.is_none() && one.verdict == FATAL && one.sealed;
    (is_at_fault && !one.resealed).then(|| {
        let list = foreign(&one.folder, |place| format!("ls -laR {place}"));
        let seal = format!("sealift seal --again {}", typed_path(&one.folder));
        let says = format!(
            " Its own seal speaks against it. Look at what is there first ({}): where that is all that is wanted, seal it anew.",
            hands.as_root_unless(may, &list)
        );
        (seal, says)
    })
}

fn waits(n: usize) -> String {
    format!(
        "{} {}",
        count(n, "episode"),
        if n == 1 { "waits" } else { "wait" }
    )
}

/// Whole days until it is removed; `None` where that is more than a week off, or never.
fn due_in_days(facts: &Facts, due: Due) -> Option<i64> {
    due.at()
        .filter(|_| due.is_near(facts.now))
        .map(|at| days_between(facts.now, at).max(0))
}

fn clean_up(facts: &Facts, aside: &FiledEpisodes) -> DoctorRow {
    let (id, hands) = (Id::CleanUp, &facts.hands);
    let due: Vec<_> = aside
        .quarantined
        .iter()
        .filter_map(|one| due_in_days(facts, one.due).map(|days| (days, one)))
        .collect();
    let shipped = match aside.shipped_due {
        0 => String::new(),
        n => format!(
            " From shipped/ {} will go, which the receiver holds.",
            count(n, "episode")
        ),
    };
    let Some((first, one)) = due.iter().min_by_key(|(days, _)| *days) else {
        let summary = format!("Nothing undelivered will be deleted within a week.{shipped}");
        return DoctorRow::green(id, summary)
            .with("quarantined", 0)
            .with("shipped", aside.shipped_due);
    };
    let keep = facts.settings.quarantine_keep_days.unwrap_or_default();
    let summary = format!(
        "{} never delivered will be deleted from quarantine/ within a week (kept for {keep} days); the first, {}, in {}.{shipped} quarantine_keep_days = 0 keeps them for ever.",
        if due.len() == 1 {
            "1 episode that was".to_owned()
        } else {
            format!("{} episodes that were", due.len())
        },
        one.name,
        if *first == 0 {
            "less than a day".to_owned()
        } else {
            count(usize::try_from(*first).unwrap_or(0), "day")
        },
    );
    // Longer than the oldest is there: nothing goes until the operator has decided.
    let fix = hands.configure("reload");
    let names: Vec<_> = due
        .iter()
        .take(MAX_NAMED)
        .map(|(_, one)| printable(&one.name))
        .collect();
    DoctorRow::red(id, summary, fix)
        .with("quarantined", due.len())
        .with("shipped", aside.shipped_due)
        .with("some", names)
}
