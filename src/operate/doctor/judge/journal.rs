//! `journal` and `refused`: what the unit has said in the last minutes.

use serde_json::json;

use super::{
    daemon_checks::{self, DaemonChecks},
    quarantine::{TAKEN, are_taken, before_it_returns, remedy},
};
use crate::{
    model::text::printable,
    operate::{
        doctor::{
            facts::{Facts, ReceiverAnswer},
            row::{DoctorRow, Id, RowStatus},
            words::{Fix, count, word},
        },
        journal::{Class, Journal, JournalEntry},
    },
};

/// Of what an entry says, so much is shown, characters.
const MAX_SHOWN_CHARS: usize = 300;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = Vec::new();
    rows.extend(
        facts
            .journal
            .as_ref()
            .and_then(|journal| classified(facts, journal)),
    );
    rows.extend(refused(facts));
    rows
}

fn classified(facts: &Facts, journal: &Journal) -> Option<DoctorRow> {
    let (id, hands) = (Id::Journal, &facts.hands);
    let unit = word(&hands.unit);
    let show =
        |filter: &str| hands.as_root(&format!("journalctl -u {unit} -n 20 --no-pager{filter}"));
    let rejected = |n: usize| format!("{} rejected", count(n, "ship"));
    let said = journal.newest.as_ref().map(shown).unwrap_or_default();
    let row = match journal.class {
        Class::OutOfWindow => {
            let what = format!("{} as out-of-window (412)", rejected(journal.out_of_window));
            let requeue = || hands.sealift("requeue --all --status 412");
            over(facts, journal, &what, requeue).unwrap_or_else(|| {
                let summary = format!("{what}: this host's code is not of a commit that is taken.");
                match remedy(facts) {
                    Some(remedy) => DoctorRow::red(id, summary, Fix::theirs(remedy)),
                    None => DoctorRow::red(
                        id,
                        format!(
                            "{summary} What updates it is not configured: ask the receiver's operator, and set doctor.update_command."
                        ),
                        show(" VERDICT=fatal"),
                    ),
                }
            })
        }
        Class::Malformed => {
            let what = format!("{} as malformed (400)", rejected(journal.malformed));
            let requeue = || hands.sealift("requeue --all --status 400");
            over(facts, journal, &what, requeue).unwrap_or_else(|| {
                DoctorRow::red(
                    id,
                    format!("{what}. The last: {said}"),
                    show(" VERDICT=fatal"),
                )
            })
        }
        Class::Fatal => {
            let what = format!("{} and quarantined", rejected(journal.fatal));
            let summary = format!("{what}. The last: {said}");
            let over = over(facts, journal, &what, || show(" VERDICT=fatal"));
            let over = over.filter(|row| row.status == RowStatus::Green);
            over.unwrap_or_else(|| DoctorRow::yellow(id, summary, show(" VERDICT=fatal")))
        }
        Class::Transient if journal.works_again => {
            let summary = format!(
                "{} failed and is over: a later one was delivered.",
                count(journal.transient, "attempt")
            );
            DoctorRow::green(id, summary)
        }
        Class::Transient => {
            let summary = format!(
                "{} failed, and what failed is tried again. The last: {said}",
                count(journal.transient, "attempt")
            );
            DoctorRow::yellow(id, summary, show(" -p warning"))
        }
        Class::Clean => DoctorRow::green(
            id,
            format!(
                "{} delivered, and nothing was rejected.",
                count(journal.delivered, "ship")
            ),
        ),
        Class::Empty => DoctorRow::green(id, format!("{} has said nothing.", hands.unit)),
        Class::NotPermitted => {
            let summary = format!(
                "{} may not read the journal of {}.",
                facts.people.us.name, hands.unit
            );
            DoctorRow::yellow(
                id,
                summary,
                hands.as_root(&format!(
                    "usermod -aG systemd-journal {}",
                    word(&facts.people.us.name)
                )),
            )
        }
        Class::Unavailable => {
            // Where no unit is known, no journal of it is expected.
            let why = journal.unavailable.as_deref().filter(|_| hands.has_unit)?;
            DoctorRow::yellow(
                id,
                format!("The journal cannot be read: {why}."),
                "systemctl status systemd-journald",
            )
        }
    };
    Some(
        row.with("class", journal.class.as_str())
            .with("entries", journal.entries)
            .with("counts", json!({
                "412": journal.out_of_window, "400": journal.malformed, "fatal": journal.fatal,
                "transient": journal.transient, "refused": journal.refused, "delivered": journal.delivered,
            }))
            .with("newest", journal.newest.as_ref().map(shown))
            .with("unreadable", journal.unreadable)
            .with("truncated", journal.truncated),
    )
}

/// What was rejected is over where the receiver takes by now what it did not, and green where none
/// of it is left in `quarantine/`.
fn over(
    facts: &Facts,
    journal: &Journal,
    what: &str,
    requeue: impl Fn() -> String,
) -> Option<DoctorRow> {
    let is_taken = facts.receiver.as_ref().is_some_and(|receiver| {
        receiver.at_admission
            && matches!(receiver.said, ReceiverAnswer::Answered { status: 204, .. })
    });
    if !(journal.works_again || is_taken && journal.class != Class::Fatal) {
        return None;
    }
    let aside = facts.aside.as_ref()?;
    let is_such = |status: Option<u16>| match journal.class {
        Class::OutOfWindow => status == Some(412),
        Class::Malformed => status == Some(400),
        Class::Fatal => !matches!(status, Some(400 | 412)),
        Class::Transient
        | Class::Clean
        | Class::Empty
        | Class::NotPermitted
        | Class::Unavailable => false,
    };
    Some(
        match aside
            .quarantined
            .iter()
            .filter(|one| is_such(one.status))
            .count()
        {
            0 if !aside.incomplete => DoctorRow::green(
                Id::Journal,
                format!("{what}; that is over, and nothing of it is left in quarantine/."),
            ),
            _ => {
                let such = aside.quarantined.iter().filter(|one| is_such(one.status));
                let such: Vec<_> = such.collect();
                let first = match journal.class {
                    Class::OutOfWindow | Class::Malformed if are_taken(facts, &such) => {
                        TAKEN.to_owned()
                    }
                    Class::OutOfWindow => before_it_returns(Some(412)),
                    Class::Malformed => before_it_returns(Some(400)),
                    _ => String::new(),
                };
                let summary = format!(
                    "{what}. The receiver takes what comes now; what it rejected is in quarantine/.{first}"
                );
                DoctorRow::yellow(Id::Journal, summary, requeue())
            }
        },
    )
}

/// The beginning of what an entry says, harmless.
fn shown(entry: &JournalEntry) -> String {
    let message: String = entry.message.chars().take(MAX_SHOWN_CHARS).collect();
    let more = if message.len() < entry.message.len() {
        "…"
    } else {
        ""
    };
    format!("{}{more}", printable(message.trim()))
}

/// Refused by something that is no receiver. The daemon knows how it is now; the journal how it
/// was.
fn refused(facts: &Facts) -> Option<DoctorRow> {
    if let Some(daemon) = DaemonChecks::among(facts) {
        return Some(daemon.refused());
    }
    let journal = facts
        .journal
        .as_ref()
        .filter(|journal| !matches!(journal.class, Class::NotPermitted | Class::Unavailable))?;
    let why = journal.newest_refused.as_ref().map(shown);
    Some(daemon_checks::refused(
        u64::try_from(journal.refused).unwrap_or(u64::MAX),
        why,
        &facts.hands,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::{
        doctor::{
            facts::{DaemonState, Person},
            judge::healthy_host::{quarantined, sound},
        },
        journal::{JournalReading, Unread},
    };

    fn entry(verdict: &str, status: u16) -> JournalEntry {
        JournalEntry {
            verdict: Some(verdict.to_owned()),
            status: Some(status),
            message: "bad \u{1b}[2J\u{7} news".to_owned(),
            ..JournalEntry::default()
        }
    }

    fn row_of(facts: &mut Facts, read: Result<Vec<JournalEntry>, Unread>) -> DoctorRow {
        let journal = Journal::of(read.map(|entries| JournalReading {
            entries,
            ..JournalReading::default()
        }));
        let row = classified(facts, &journal).unwrap();
        facts.journal = Some(journal);
        row
    }

    fn refuses(facts: &mut Facts) {
        let ReceiverAnswer::Answered { status, .. } = &mut facts.receiver.as_mut().unwrap().said
        else {
            panic!()
        };
        *status = 412;
    }

    #[test]
    fn what_was_rejected_is_over_once_it_is_taken_and_none_of_it_is_left() {
        let row = |status: u16, delivered: bool, is_taken: bool, left: Option<u16>| {
            let mut facts = sound();
            if !is_taken {
                refuses(&mut facts);
            }
            if let Some(status) = left {
                facts.aside.as_mut().unwrap().quarantined =
                    vec![quarantined("run-1", Some(status))];
            }
            let mut entries = vec![entry("fatal", status)];
            entries.extend(delivered.then(|| entry("delivered", 201)));
            row_of(&mut facts, Ok(entries))
        };
        for status in [412, 400] {
            assert_eq!(row(status, false, false, None).status, RowStatus::Red);
            assert_eq!(row(status, false, true, None).status, RowStatus::Green);
            assert_eq!(row(status, true, false, None).status, RowStatus::Green);
            assert_eq!(row(status, true, true, Some(422)).status, RowStatus::Green);
            let left = row(status, true, true, Some(status));
            assert_eq!(left.status, RowStatus::Yellow);
            let fix = format!("sealift requeue --all --status {status} --data /d");
            assert_eq!(left.fix, Some(fix));
        }
        assert_eq!(row(422, false, true, None).status, RowStatus::Yellow);
        assert_eq!(row(422, true, true, Some(422)).status, RowStatus::Yellow);
        assert_eq!(row(422, true, true, Some(412)).status, RowStatus::Green);
    }

    #[test]
    fn each_class_has_its_colour_and_its_fix() {
        for (entries, status, summary, fix) in [
            (vec![], RowStatus::Green, "has said nothing", ""),
            (
                vec![entry("delivered", 201)],
                RowStatus::Green,
                "1 ship delivered",
                "",
            ),
            (
                vec![entry("transient", 503), entry("delivered", 201)],
                RowStatus::Green,
                "is over",
                "",
            ),
            (
                vec![entry("transient", 503)],
                RowStatus::Yellow,
                "1 attempt failed",
                "-p warning",
            ),
            (
                vec![entry("fatal", 422)],
                RowStatus::Yellow,
                "1 ship rejected and quarantined",
                "VERDICT=fatal",
            ),
            (
                vec![entry("fatal", 400)],
                RowStatus::Red,
                "1 ship rejected as malformed",
                "VERDICT=fatal",
            ),
            (
                vec![entry("fatal", 412); 12],
                RowStatus::Red,
                "12 ships rejected as out-of-window",
                "cd /opt/lab && git pull",
            ),
        ] {
            let mut facts = sound();
            facts.settings.update_command = Some("cd /opt/lab && git pull".to_owned());
            refuses(&mut facts);
            let row = row_of(&mut facts, Ok(entries));
            assert_eq!(row.status, status, "{row:?}");
            assert!(row.summary.contains(summary), "{row:?}");
            assert!(row.fix.clone().unwrap_or_default().contains(fix), "{row:?}");
            assert!(!row.to_string_for_test().contains('\u{1b}'), "{row:?}");
        }
    }

    #[test]
    fn not_being_permitted_is_yellow_with_the_command_that_grants_it() {
        let mut facts = sound();
        facts.hands.root = false;
        facts.people.us = Person {
            name: "op".to_owned(),
            uid: 7,
            gid: 7,
            groups: Vec::new(),
        };
        let row = row_of(&mut facts, Err(Unread::NotPermitted));
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (
                RowStatus::Yellow,
                Some("sudo usermod -aG systemd-journal op")
            )
        );
        let row = row_of(
            &mut facts,
            Err(Unread::Unavailable("no journalctl".to_owned())),
        );
        assert_eq!(row.status, RowStatus::Yellow);
        facts.hands.has_unit = false;
        let none = Journal::of(Err(Unread::Unavailable("no journalctl".to_owned())));
        assert_eq!(classified(&facts, &none), None);
    }

    #[test]
    fn what_something_else_refuses_is_red_by_the_daemons_word_else_by_the_journals() {
        let mut facts = sound();
        assert_eq!(refused(&facts).unwrap().status, RowStatus::Green);
        let DaemonState::Answers(snapshot) = &mut facts.daemon else {
            panic!()
        };
        snapshot.counts.refused = 2;
        assert_eq!(refused(&facts).unwrap().status, RowStatus::Red);
        facts.daemon = DaemonState::None;
        assert_eq!(refused(&facts).unwrap().status, RowStatus::Green);
        row_of(&mut facts, Ok(vec![entry("refused", 413)]));
        assert!(refused(&facts).unwrap().summary.contains("bad \\u{1b}[2J"));
        facts.journal = None;
        assert_eq!(refused(&facts), None);
    }

    impl DoctorRow {
        fn to_string_for_test(&self) -> String {
            format!(
                "{}{:?}{}",
                self.summary,
                self.fix,
                serde_json::Value::Object(self.details.clone())
            )
        }
    }
}
