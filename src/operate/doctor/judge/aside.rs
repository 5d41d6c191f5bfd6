//! `quarantine`, `clean-up`, and what a host out of the commit window is told to do.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    episode::printable,
    operate::doctor::{
        facts::{Aside, Facts, Quarantined, Said},
        row::{Id, Row},
        words::{count, word},
    },
    retention::{Due, days_between},
};

/// What is deleted within so many days is announced.
const AHEAD_DAYS: i64 = 7;
/// A remediation is one line for a shell.
const MAX_REMEDIATION_CHARS: usize = 500;
/// So many are named, each by itself.
const MAX_NAMED: usize = 20;

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let Some(aside) = &facts.aside else { return Vec::new() };
    vec![quarantine(facts, aside), clean_up(facts, aside)]
}

/// `doctor.update_command`; else what the receiver has just said; else what it said when it last refused one for its commit.
pub(super) fn remedy(facts: &Facts) -> Option<String> {
    if let Some(command) = &facts.settings.update_command {
        return Some(command.clone());
    }
    let of_receiver = facts.receiver.as_ref().and_then(|receiver| match &receiver.said {
        Said::Answered { status: 412, json, .. } => {
            json.as_ref()?.get("remediation")?.as_str().and_then(usable)
        }
        Said::Answered { .. } | Said::Failed(_) | Said::NotAsked => None,
    });
    let quarantined = facts.aside.iter().flat_map(|aside| &aside.quarantined);
    let newest = || {
        let of_412 = quarantined.filter(|one| one.status == Some(412) && one.remediation.is_some());
        of_412.max_by_key(|one| one.at)?.remediation.as_deref().and_then(usable)
    };
    of_receiver.or_else(newest)
}

/// From outside: one line, harmless to a terminal, and not endless. Whether it is harmless to this host its operator decides.
fn usable(remediation: &str) -> Option<String> {
    let line =
        remediation.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let line: String = printable(&line).chars().take(MAX_REMEDIATION_CHARS).collect();
    Some(line).filter(|line| !line.is_empty())
}

fn reason(one: &Quarantined) -> String {
    match one.status {
        Some(status) => format!("answered {status}"),
        None if one.verdict.is_empty() => "no reason".to_owned(),
        None => printable(&one.verdict),
    }
}

fn quarantine(facts: &Facts, aside: &Aside) -> Row {
    let (id, hands) = (Id::Quarantine, &facts.hands);
    let all = &aside.quarantined;
    if all.is_empty() {
        return Row::green(id, "Nothing is in quarantine/.").with("count", 0);
    }
    let mut by_reason: BTreeMap<String, usize> = BTreeMap::new();
    for one in all {
        *by_reason.entry(reason(one)).or_default() += 1;
    }
    let mut reasons: Vec<_> = by_reason.iter().map(|(reason, n)| (*n, reason.as_str())).collect();
    reasons.sort_by(|a, b| b.cmp(a));
    let said: Vec<_> = reasons.iter().take(5).map(|(n, reason)| format!("{n} {reason}")).collect();
    let more = if aside.incomplete { " (and more that were not looked at)" } else { "" };
    let newest = all.iter().max_by_key(|one| one.at);
    let why = newest.map(|one| format!(" The last, {}: {}", one.name, one.why)).unwrap_or_default();
    let summary = format!(
        "{} for somebody to look at in quarantine/{more}: {}.{why}",
        waits(all.len()),
        said.join(", ")
    );
    let out_of_window = all.iter().filter(|one| one.status == Some(412)).count();
    let fix = if out_of_window * 2 >= all.len() {
        // Back into the queue, once the receiver takes that commit.
        hands.sealift("requeue --all --status 412")
    } else {
        let first = newest.map(|one| word(&one.name)).unwrap_or_default();
        hands.sealift(&format!("requeue {first}"))
    };
    let named: Vec<_> = all.iter().take(MAX_NAMED).map(|one| {
        json!({"name": printable(&one.name), "verdict": printable(&one.verdict), "status_code": one.status, "why": printable(&one.why)})
    }).collect();
    Row::yellow(id, summary, fix)
        .with("count", all.len())
        .with("by_reason", json!(by_reason))
        .with("some", named)
}

fn waits(n: usize) -> String {
    format!("{} {}", count(n, "episode"), if n == 1 { "waits" } else { "wait" })
}

/// Whole days until it is removed; `None` where that is more than a week off, or never.
fn due_in_days(facts: &Facts, due: Due) -> Option<i64> {
    match due {
        Due::At { due, .. } => {
            let days = days_between(facts.now, due).max(0);
            (due.unix_seconds() - facts.now.unix_seconds() <= AHEAD_DAYS * 86_400).then_some(days)
        }
        Due::Never | Due::Unvouched | Due::Anew => None,
    }
}

fn clean_up(facts: &Facts, aside: &Aside) -> Row {
    let (id, hands) = (Id::CleanUp, &facts.hands);
    let due: Vec<_> = aside
        .quarantined
        .iter()
        .filter_map(|one| due_in_days(facts, one.due).map(|days| (days, one)))
        .collect();
    let shipped = match aside.shipped_due {
        0 => String::new(),
        n => format!(" From shipped/ {} will go, which the receiver holds.", count(n, "episode")),
    };
    let Some((first, one)) = due.iter().min_by_key(|(days, _)| *days) else {
        let summary = format!("Nothing undelivered will be deleted within a week.{shipped}");
        return Row::green(id, summary).with("quarantined", 0).with("shipped", aside.shipped_due);
    };
    let keep = facts.settings.quarantine_keep_days.unwrap_or_default();
    let summary = format!(
        "{} never delivered will be deleted from quarantine/ within a week (kept for {keep} days); the first, {}, in {}.{shipped}",
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
    // Longer than the oldest is there: nothing goes until somebody has decided.
    let fix = format!("{}  # quarantine_keep_days = 0 keeps them for ever", hands.configure("reload"));
    let names: Vec<_> = due.iter().take(MAX_NAMED).map(|(_, one)| printable(&one.name)).collect();
    Row::red(id, summary, fix)
        .with("quarantined", due.len())
        .with("shipped", aside.shipped_due)
        .with("some", names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        operate::doctor::{judge::sound::sound, row::Status},
        records::WallTime,
    };

    fn one(name: &str, status: Option<u16>, due_in_days: i64, now: WallTime) -> Quarantined {
        let due = WallTime::from_unix_seconds(now.unix_seconds() + due_in_days * 86_400);
        Quarantined {
            name: name.to_owned(),
            verdict: "fatal".to_owned(),
            status,
            why: "answered \u{1b}".to_owned(),
            remediation: status.map(|status| format!("run update-{status}\n\u{7}now")),
            at: Some(now),
            due: Due::At { since: now, due },
        }
    }

    fn facts(quarantined: impl FnOnce(WallTime) -> Vec<Quarantined>) -> Facts {
        let mut facts = sound();
        let now = facts.now;
        facts.aside.as_mut().unwrap().quarantined = quarantined(now);
        facts
    }

    #[test]
    fn what_is_quarantined_is_told_by_reason_and_sent_again_by_the_fix() {
        let row = &rows(&sound())[0];
        assert_eq!(row.status, Status::Green);
        let facts = facts(|now| {
            vec![one("a", Some(412), 20, now), one("b", Some(412), 20, now), one("it's", None, 20, now)]
        });
        let row = &rows(&facts)[0];
        assert_eq!(row.status, Status::Yellow);
        assert!(
            row.summary.contains("3 episodes wait") && row.summary.contains("2 answered 412, 1 fatal"),
            "{row:?}"
        );
        assert_eq!(row.fix.as_deref(), Some("sealift requeue --all --status 412 --data /d"));
        let facts = self::facts(|now| vec![one("it's", None, 20, now)]);
        assert_eq!(rows(&facts)[0].fix.as_deref(), Some(r"sealift requeue 'it'\''s' --data /d"));
    }

    #[test]
    fn what_was_never_delivered_is_announced_a_week_before_it_is_deleted() {
        for (days, status) in [(8, Status::Green), (7, Status::Red), (0, Status::Red), (-3, Status::Red)] {
            let facts = facts(|now| vec![one("a", None, days, now)]);
            let row = &rows(&facts)[1];
            assert_eq!(row.status, status, "{days}: {row:?}");
        }
        let mut facts = sound();
        facts.aside.as_mut().unwrap().shipped_due = 3;
        let row = &rows(&facts)[1];
        assert_eq!(row.status, Status::Green);
        assert!(row.summary.contains("From shipped/ 3 episodes will go"), "{row:?}");
    }

    #[test]
    fn the_operators_command_comes_before_the_receivers_words_and_those_are_one_harmless_line() {
        let mut facts = facts(|now| vec![one("a", Some(412), 20, now), one("b", Some(422), 20, now)]);
        assert_eq!(remedy(&facts).as_deref(), Some("run update-412; \\u{7}now"));
        facts.settings.update_command = Some("git pull".to_owned());
        assert_eq!(remedy(&facts).as_deref(), Some("git pull"));
        assert!(usable(&"x".repeat(9000)).unwrap().len() <= MAX_REMEDIATION_CHARS);
        assert_eq!(usable(" \n "), None);
    }
}
