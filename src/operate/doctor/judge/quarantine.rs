//! `quarantine`, `clean-up`, and what a host out of the commit window is told to do.

use std::collections::BTreeMap;

use serde_json::json;

use super::permissions::as_shipper;
use crate::{
    model::{
        records::{LAST_COPY, NOTHING_ELSE, ORPHAN},
        retention::{Due, days_between},
        text::printable,
    },
    operate::doctor::{
        facts::{Facts, FiledEpisodes, Quarantined, ReceiverAnswer, Remedy},
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
        // It asks for each commit, and says which of them are taken by now.
        if is_of_commit(status) && commits_are_refused(facts) {
            let dry = hands.sealift(&format!("{requeue} --dry-run"));
            let says = format!(
                "{} What is shown below says which it takes by now, and the same without --dry-run puts them back.",
                comes_first(Some(status))
            );
            return (dry, says);
        }
        return (hands.sealift(&requeue), before_it_returns(Some(status)));
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

fn is_of_commit(status: u16) -> bool {
    matches!(status, 400 | 412)
}

/// Whether the receiver has just refused a commit of this host's.
fn commits_are_refused(facts: &Facts) -> bool {
    facts.receiver.as_ref().is_some_and(|receiver| {
        receiver.at_admission
            && matches!(
                receiver.said,
                ReceiverAnswer::Answered {
                    status: 400 | 412,
                    ..
                }
            )
    })
}

/// What has to change before what was answered so is taken.
fn comes_first(status: Option<u16>) -> &'static str {
    match status {
        Some(412) => {
            " First the receiver has to take their commit, which its operator adds to commits_file there: an update of this host \
             mends only what is recorded after it."
        }
        Some(413) => {
            " First the receiver's operator has to raise its limit (receive.max_episode_bytes there)."
        }
        Some(401 | 403) => " First the receiver has to let this host in.",
        Some(_) => {
            " First what it says has to be mended: at the receiver, by its operator, or in the episode, which is then sealed anew \
             (`sealift seal --again`)."
        }
        None => " First what is said of it has to be mended.",
    }
}

/// The same, and that the command that puts it back comes after.
pub(super) fn before_it_returns(status: Option<u16>) -> String {
    format!(
        "{} Until then it would be rejected again. Once that is done:",
        comes_first(status)
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{episode::EpisodeId, records::WallTime},
        operate::doctor::{
            judge::healthy_host::{quarantined, sound},
            row::RowStatus,
        },
    };

    fn one(name: &str, status: Option<u16>, due_in_days: i64, now: WallTime) -> Quarantined {
        let due = WallTime::from_unix_seconds(now.unix_seconds() + due_in_days * 86_400);
        Quarantined {
            remedy: status.map(|status| Remedy::Command(format!("run-update-{status}"))),
            at: Some(now),
            due: Due::At { since: now, due },
            ..quarantined(name, status)
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
        assert_eq!(row.status, RowStatus::Green);
        let facts = facts(|now| {
            vec![
                one("a", Some(412), 20, now),
                one("b", Some(412), 20, now),
                one("it's", None, 20, now),
            ]
        });
        let row = &rows(&facts)[0];
        assert_eq!(row.status, RowStatus::Yellow);
        assert!(
            row.summary.contains("3 episodes wait")
                && row.summary.contains("2 answered 412, 1 fatal"),
            "{row:?}"
        );
        assert_eq!(
            row.fix.as_deref(),
            Some("sealift requeue --all --status 412 --data /d")
        );
        let facts = self::facts(|now| vec![one("it's", Some(422), 20, now)]);
        assert_eq!(
            rows(&facts)[0].fix.as_deref(),
            Some(r"sealift requeue 'it'\''s' --data /d")
        );
    }

    #[test]
    fn whatever_was_answered_what_has_to_change_is_said_before_what_puts_it_back() {
        for (status, first) in [
            (412, "First the receiver has to take their commit"),
            (400, "First what it says has to be mended"),
            (413, "First the receiver's operator has to raise its limit"),
            (403, "First the receiver has to let this host in"),
            (422, "First what it says has to be mended"),
        ] {
            for names in [&["a"][..], &["a", "b"]] {
                let all = |now| {
                    let of = |name: &&str| one(name, Some(status), 20, now);
                    names.iter().map(of).collect()
                };
                let row = &rows(&facts(all))[0];
                let summary = &row.summary;
                assert!(
                    summary.contains(first) && summary.ends_with("Once that is done:"),
                    "{row:?}"
                );
                assert!(
                    row.fix.as_deref().unwrap().starts_with("sealift requeue "),
                    "{row:?}"
                );
            }
        }
    }

    #[test]
    fn while_commits_are_refused_requeue_is_shown_as_a_question_first() {
        for status in [412, 400] {
            let mut facts = facts(|now| {
                ["a", "b"]
                    .map(|name| one(name, Some(status), 20, now))
                    .into()
            });
            let ReceiverAnswer::Answered {
                status: answered, ..
            } = &mut facts.receiver.as_mut().unwrap().said
            else {
                panic!()
            };
            *answered = status;
            let row = &rows(&facts)[0];
            let dry = format!("sealift requeue --all --status {status} --dry-run --data /d");
            assert_eq!(row.fix, Some(dry));
            assert!(row.summary.contains(comes_first(Some(status))), "{row:?}");
        }
    }

    #[test]
    fn one_that_can_only_be_looked_at_hides_none_that_something_mends() {
        let unreadable = Quarantined {
            unreadable: Some(("EIO".to_owned(), false)),
            ..quarantined("a", None)
        };
        let again = "sealift seal --again /d/quarantine/b";
        assert_eq!(with(vec![unreadable, quarantined("b", None)]), again);
    }

    #[test]
    fn what_was_never_delivered_is_announced_a_week_before_it_is_deleted() {
        for (days, status) in [
            (8, RowStatus::Green),
            (7, RowStatus::Red),
            (0, RowStatus::Red),
            (-3, RowStatus::Red),
        ] {
            let facts = facts(|now| vec![one("a", None, days, now)]);
            let row = &rows(&facts)[1];
            assert_eq!(row.status, status, "{days}: {row:?}");
        }
        let mut facts = sound();
        facts.aside.as_mut().unwrap().shipped_due = 3;
        let row = &rows(&facts)[1];
        assert_eq!(row.status, RowStatus::Green);
        assert!(
            row.summary.contains("From shipped/ 3 episodes will go"),
            "{row:?}"
        );
    }

    #[test]
    fn the_operators_command_comes_before_the_receivers_words_and_those_are_one_harmless_line() {
        let mut facts =
            facts(|now| vec![one("a", Some(412), 20, now), one("b", Some(422), 20, now)]);
        assert_eq!(remedy(&facts).as_deref(), Some("run-update-412"));
        let receiver = facts.receiver.as_mut().unwrap();
        receiver.remedy = Some(Remedy::Words("Ask Bob (or $(reboot)).".to_owned()));
        assert_eq!(
            remedy(&facts).as_deref(),
            Some("# The receiver says: Ask Bob (or $(reboot)).")
        );
        facts.settings.update_command = Some("git pull".to_owned());
        assert_eq!(remedy(&facts).as_deref(), Some("git pull"));
    }

    fn fix(change: impl FnOnce(&mut Facts, WallTime)) -> String {
        let mut facts = sound();
        let now = facts.now;
        change(&mut facts, now);
        rows(&facts)[0].fix.clone().unwrap()
    }

    fn with(quarantined: Vec<Quarantined>) -> String {
        fix(|facts, _| facts.aside.as_mut().unwrap().quarantined = quarantined)
    }

    #[test]
    fn what_requeue_would_leave_has_another_fix() {
        let twice = || {
            let second = Quarantined {
                folder: "/d/quarantine/a~1".into(),
                ..quarantined("a", Some(422))
            };
            vec![quarantined("a", Some(422)), second]
        };
        let now = WallTime::from_unix_seconds(1_800_000_000);
        let newest = |mut all: Vec<Quarantined>, n: usize| {
            all[n].at = Some(now);
            with(all)
        };
        assert_eq!(
            newest(twice(), 1),
            "sealift requeue --folder --from quarantine 'a~1' --data /d"
        );
        assert_eq!(
            newest(twice(), 0),
            "sealift requeue --folder --from quarantine a --data /d"
        );
        let alike = vec![quarantined("a", Some(422)), quarantined("b", Some(422))];
        assert_eq!(with(alike), "sealift requeue --all --status 422 --data /d");
        let open = Quarantined {
            sealed: false,
            ..quarantined("a", None)
        };
        assert_eq!(with(vec![open]), "sealift seal /d/quarantine/a");
        let denied = Quarantined {
            unreadable: Some(("no".to_owned(), true)),
            ..quarantined("a", None)
        };
        assert_eq!(
            with(vec![denied]),
            "sealift setup --give /d/quarantine/a --data /d"
        );
        let broken = Quarantined {
            unreadable: Some(("EIO".to_owned(), false)),
            ..quarantined("a", None)
        };
        assert_eq!(with(vec![broken.clone()]), "ls -la /d/quarantine/a");
        // It would be rejected again.
        let again = "sealift seal --again /d/quarantine/a";
        assert_eq!(with(vec![quarantined("a", None)]), again);
        let resealed = Quarantined {
            resealed: true,
            ..quarantined("a", None)
        };
        assert_eq!(with(vec![resealed]), "sealift requeue a --data /d");
        let without_a_commit = Quarantined {
            lacks_commit: true,
            ..quarantined("a", Some(400))
        };
        assert_eq!(with(vec![without_a_commit]), again);
        // What can come back comes first.
        assert_eq!(
            newest(vec![broken, quarantined("b", Some(422))], 0),
            "sealift requeue b --data /d"
        );
    }

    #[test]
    fn an_archive_without_its_episode_is_unpacked_out_of_sight_and_one_that_was_removed_by_hand_is_only_shown()
     {
        let orphan = |why: &str, name: &str| {
            with(vec![Quarantined {
                verdict: ORPHAN.to_owned(),
                why: why.to_owned(),
                comes_back_as: EpisodeId::parse(name).ok(),
                ..quarantined("a", None)
            }])
        };
        let unpack = "sealift requeue --unpack a --data /d";
        assert_eq!(orphan("it may be the last copy", "a"), unpack);
        assert_eq!(orphan("nothing else has these bytes", "a-1"), unpack);
        assert_eq!(
            orphan("its folder was removed by hand", "a-1"),
            "ls -la /d/quarantine/a"
        );
    }

    #[test]
    fn of_an_archive_without_its_episode_it_is_said_what_becomes_of_it_and_how_it_is_thrown_away() {
        let summary = |why: &str| {
            let mut facts = sound();
            facts.aside.as_mut().unwrap().quarantined = vec![Quarantined {
                verdict: ORPHAN.to_owned(),
                why: why.to_owned(),
                comes_back_as: EpisodeId::parse("a-1").ok(),
                ..quarantined("a", None)
            }];
            rows(&facts)[0].summary.clone()
        };
        let said = summary("nothing else has these bytes");
        assert!(
            said.contains("comes back as a-1") && said.ends_with(": rm -r /d/quarantine/a"),
            "{said}"
        );
        assert!(!summary("it may be the last copy").contains("rm -r"));
    }
}
