//! `journal` and `refused`: what the unit has said in the last minutes.

use serde_json::json;

use super::aside::remedy;
use crate::{
    episode::printable,
    operate::{
        doctor::{
            facts::{Daemon, Facts},
            row::{Id, Row},
            words::{count, word},
        },
        journal::{Class, Entry, Journal},
    },
    snapshot::EpisodeState,
};

/// Of what an entry says, so much is shown, characters.
const MAX_SHOWN_CHARS: usize = 300;

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(facts.journal.as_ref().and_then(|journal| classified(facts, journal)));
    rows.extend(refused(facts));
    rows
}

fn classified(facts: &Facts, journal: &Journal) -> Option<Row> {
    let (id, hands) = (Id::Journal, &facts.hands);
    let unit = word(&hands.unit);
    let show = |filter: &str| hands.as_root(&format!("journalctl -u {unit} -n 20 --no-pager{filter}"));
    let rejected = |n: usize| format!("{} rejected", count(n, "ship"));
    let said = journal.newest.as_ref().map(shown).unwrap_or_default();
    let row = match journal.class {
        Class::OutOfWindow => {
            let summary = format!(
                "{} as out-of-window (412): this host's code is not of a commit that is taken.",
                rejected(journal.out_of_window)
            );
            Row::red(id, summary, remedy(facts).unwrap_or_else(|| show(" VERDICT=fatal")))
        }
        Class::Malformed => {
            let summary = format!("{} as malformed (400). The last: {said}", rejected(journal.malformed));
            Row::red(id, summary, show(" VERDICT=fatal"))
        }
        Class::Fatal => {
            let summary = format!("{} and quarantined. The last: {said}", rejected(journal.fatal));
            Row::yellow(id, summary, show(" VERDICT=fatal"))
        }
        Class::Transient if journal.works_again => {
            let summary = format!(
                "{} failed and is over: a later one was delivered.",
                count(journal.transient, "attempt")
            );
            Row::green(id, summary)
        }
        Class::Transient => {
            let summary = format!(
                "{} failed, and what failed is tried again. The last: {said}",
                count(journal.transient, "attempt")
            );
            Row::yellow(id, summary, show(" -p warning"))
        }
        Class::Clean => Row::green(
            id,
            format!("{} delivered, and nothing was rejected.", count(journal.delivered, "ship")),
        ),
        Class::Empty => Row::green(id, format!("{} has said nothing.", hands.unit)),
        Class::NotPermitted => {
            let summary = format!("{} may not read the journal of {}.", facts.people.us.name, hands.unit);
            Row::yellow(
                id,
                summary,
                hands.as_root(&format!("usermod -aG systemd-journal {}", word(&facts.people.us.name))),
            )
        }
        Class::Unavailable => {
            // Where no unit is known, nobody expects a journal of it.
            let why = journal.unavailable.as_deref().filter(|_| hands.has_unit)?;
            Row::yellow(
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

/// The beginning of what an entry says, harmless.
fn shown(entry: &Entry) -> String {
    let message: String = entry.message.chars().take(MAX_SHOWN_CHARS).collect();
    let more = if message.len() < entry.message.len() { "…" } else { "" };
    format!("{}{more}", printable(message.trim()))
}

/// Refused by something that is no receiver: a proxy's limit, a captive portal, a wrong address.
fn refused(facts: &Facts) -> Option<Row> {
    let (id, hands) = (Id::Refused, &facts.hands);
    let by_daemon = match &facts.daemon {
        Daemon::Answers(snapshot) => {
            let one = snapshot.episodes.iter().find(|episode| episode.state == EpisodeState::Refused);
            let why =
                one.map(|one| format!("{}: {}", one.id, one.why.as_deref().unwrap_or("it is not said why")));
            Some((usize::try_from(snapshot.counts.refused).unwrap_or(usize::MAX), why))
        }
        Daemon::Silent { .. } | Daemon::NotPermitted { .. } | Daemon::None | Daemon::Unknown => None,
    };
    let by_journal = facts
        .journal
        .as_ref()
        .filter(|journal| !matches!(journal.class, Class::NotPermitted | Class::Unavailable));
    let by_journal = by_journal.map(|journal| (journal.refused, journal.newest_refused.as_ref().map(shown)));
    // The daemon knows how it is now; the journal how it was.
    let (n, why) = by_daemon.or(by_journal)?;
    if n == 0 {
        return Some(Row::green(id, "Nothing is refused by anything that is no receiver."));
    }
    let why = why.map(|why| format!(" {why}")).unwrap_or_default();
    let summary = format!(
        "{} refused by something that is no receiver, or alone among others. Look at what stands between here and the receiver.{why}",
        if n == 1 { "1 episode is".to_owned() } else { format!("{n} episodes are") }
    );
    Some(Row::red(id, summary, hands.unit_to("reload")).with("count", n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::{
        doctor::{facts::Person, judge::sound::sound, row::Status},
        journal::{Reading, Unread},
    };

    fn entry(verdict: &str, status: u16) -> Entry {
        Entry {
            verdict: Some(verdict.to_owned()),
            status: Some(status),
            message: "bad \u{1b}[2J\u{7} news".to_owned(),
            ..Entry::default()
        }
    }

    fn row_of(facts: &mut Facts, read: Result<Vec<Entry>, Unread>) -> Row {
        let journal = Journal::of(read.map(|entries| Reading { entries, ..Reading::default() }));
        let row = classified(facts, &journal).unwrap();
        facts.journal = Some(journal);
        row
    }

    #[test]
    fn each_class_has_its_colour_and_its_fix() {
        for (entries, status, summary, fix) in [
            (vec![], Status::Green, "has said nothing", ""),
            (vec![entry("delivered", 201)], Status::Green, "1 ship delivered", ""),
            (vec![entry("transient", 503), entry("delivered", 201)], Status::Green, "is over", ""),
            (vec![entry("transient", 503)], Status::Yellow, "1 attempt failed", "-p warning"),
            (vec![entry("fatal", 422)], Status::Yellow, "1 ship rejected and quarantined", "VERDICT=fatal"),
            (vec![entry("fatal", 400)], Status::Red, "1 ship rejected as malformed", "VERDICT=fatal"),
            (
                vec![entry("fatal", 412); 12],
                Status::Red,
                "12 ships rejected as out-of-window",
                "cd /opt/lab && git pull",
            ),
        ] {
            let mut facts = sound();
            facts.settings.update_command = Some("cd /opt/lab && git pull".to_owned());
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
        facts.people.us = Person { name: "op".to_owned(), uid: 7, gid: 7, groups: Vec::new() };
        let row = row_of(&mut facts, Err(Unread::NotPermitted));
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (Status::Yellow, Some("sudo usermod -aG systemd-journal op"))
        );
        let row = row_of(&mut facts, Err(Unread::Unavailable("no journalctl".to_owned())));
        assert_eq!(row.status, Status::Yellow);
        facts.hands.has_unit = false;
        let none = Journal::of(Err(Unread::Unavailable("no journalctl".to_owned())));
        assert_eq!(classified(&facts, &none), None);
    }

    #[test]
    fn what_something_else_refuses_is_red_by_the_daemons_word_else_by_the_journals() {
        let mut facts = sound();
        assert_eq!(refused(&facts).unwrap().status, Status::Green);
        let Daemon::Answers(snapshot) = &mut facts.daemon else { panic!() };
        snapshot.counts.refused = 2;
        assert_eq!(refused(&facts).unwrap().status, Status::Red);
        facts.daemon = Daemon::None;
        assert_eq!(refused(&facts).unwrap().status, Status::Green);
        row_of(&mut facts, Ok(vec![entry("refused", 413)]));
        assert!(refused(&facts).unwrap().summary.contains("bad \\u{1b}[2J"));
        facts.journal = None;
        assert_eq!(refused(&facts), None);
    }

    impl Row {
        fn to_string_for_test(&self) -> String {
            format!("{}{:?}{}", self.summary, self.fix, serde_json::Value::Object(self.details.clone()))
        }
    }
}
