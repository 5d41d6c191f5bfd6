//! `quarantine`, `clean-up`, and what a host out of the commit window is told to do.

mod comes_first;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::json;

pub(super) use self::comes_first::before_it_returns;
use self::comes_first::{CommitsNow, comes_first, commits_now};
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
    let newest = all.iter().max_by_key(|one| one.at);
    let why = |one: &Quarantined| match &one.unreadable {
        Some((why, _)) => why.clone(),
        // What is typed by now, the fix says.
        None if one.verdict == ORPHAN => one
            .why
            .split(" To ship ")
            .next()
            .unwrap_or_default()
            .to_owned(),
        None => one.why.clone(),
    };
    let why = newest
        .map(|one| format!(" The last, {}: {}", one.name, why(one)))
        .unwrap_or_default();
    let summary = format!(
        "{} to look at in quarantine/{more}: {}.{why}",
        waits(all.len()),
        said.join(", ")
    );
    let (fix, more) = back(facts, aside);
    let end = if more.is_empty() || summary.ends_with('.') {
        ""
    } else {
        "."
    };
    let summary = summary + end + &more;
    let named: Vec<_> = all.iter().take(MAX_NAMED).map(|one| {
        json!({"name": printable(&one.name), "folder": one.folder.to_string_lossy(), "verdict": printable(&one.verdict), "status_code": one.status, "why": printable(&one.why)})
    }).collect();
    DoctorRow::yellow(id, summary, fix)
        .with("count", all.len())
        .with("by_reason", json!(by_reason))
        .with("some", named)
}

/// Back into the queue: all that were answered alike, once the receiver takes them; else the newest
/// that can come back. And what a person should know of that, what has to change before it first.
fn back(facts: &Facts, aside: &FiledEpisodes) -> (String, String) {
    let hands = &facts.hands;
    let mut all: Vec<_> = aside.quarantined.iter().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.at));
    let out_of_window = all.iter().filter(|one| one.status == Some(412)).count();
    let status = match all.first() {
        _ if out_of_window * 2 >= all.len() => Some(412),
        newest => newest.and_then(|one| one.status),
    };
    let alike: Vec<_> = all
        .iter()
        .filter(|one| status.is_some() && one.status == status)
        .collect();
    // Of an episode that is there twice a person says which, and requeue takes neither until then.
    let can_all = alike
        .iter()
        .all(|one| hindrance(facts, one).is_none() && alone(aside, one));
    if let Some(status) = status.filter(|_| can_all && (alike.len() > 1 || out_of_window > 0)) {
        let requeue = format!("requeue --all --status {status}");
        return match commits_now(facts, aside, status) {
            // It asks for each commit, and says which of them are taken by now.
            CommitsNow::Refused => (
                hands.sealift(&format!("{requeue} --dry-run")),
                format!(
                    "{} What is shown below says which it takes by now, and the same without --dry-run puts them back.",
                    comes_first(Some(status))
                ),
            ),
            CommitsNow::Taken => (
                hands.sealift(&requeue),
                " The receiver takes their commit by now.".to_owned(),
            ),
            CommitsNow::Unknown => (hands.sealift(&requeue), before_it_returns(Some(status))),
        };
    }
    let mut ways = all.iter().map(|one| {
        hindrance(facts, one).unwrap_or_else(|| {
            let says = match one.resealed || !one.sealed {
                true => String::new(),
                false => before_it_returns(one.status),
            };
            (requeue(facts, aside, one), says)
        })
    });
    // One of which a person can only look what it is hides none that comes back.
    let free = all.iter().position(|one| hindrance(facts, one).is_none());
    match free {
        Some(n) => ways.nth(n),
        None => {
            let ways: Vec<_> = ways.collect();
            let mends = ways.iter().position(|(fix, _)| !only_looks(fix));
            ways.into_iter().nth(mends.unwrap_or(0))
        }
    }
    .unwrap_or_default()
}

fn alone(aside: &FiledEpisodes, one: &Quarantined) -> bool {
    aside
        .quarantined
        .iter()
        .filter(|other| other.name == one.name)
        .count()
        == 1
}

fn requeue(facts: &Facts, aside: &FiledEpisodes, one: &Quarantined) -> String {
    // It was sealed once, or it would not be here; and then it is not what it was.
    if !one.sealed {
        return format!("sealift seal {}", typed_path(&one.folder));
    }
    let folder = one.folder.file_name().unwrap_or_default();
    let which = match alone(aside, one) {
        true => word(&one.name),
        false => format!("--folder --from quarantine {}", word(folder)),
    };
    facts.hands.sealift(&format!("requeue {which}"))
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
