//! What is said of episodes that could not all be looked at in the time: what was found stands;
//! where nothing was, the daemon knows more, or the row says that it is not known.

use std::time::Duration;

use crate::{
    model::{
        snapshot::{EpisodeState, Snapshot},
        text::printable,
    },
    operate::doctor::{
        facts::{CutOff, DaemonState, EpisodesFacts, Facts, FolderFacts, FolderState},
        row::{DoctorRow, Id, RowStatus},
        words::{count, span},
    },
};

/// As in `waiting`.
const LONG_S: u64 = 3600;
const VERY_LONG_S: u64 = 24 * 3600;

/// Rows of a look that was cut off, and of one that was not.
pub(super) fn completed(
    facts: &Facts,
    found: &EpisodesFacts,
    rows: Vec<DoctorRow>,
) -> Vec<DoctorRow> {
    let Some(cut_off) = found.cut_off else {
        return rows;
    };
    let there = |folder: &FolderFacts| match &folder.state {
        FolderState::There { .. } => true,
        FolderState::Missing
        | FolderState::NoFolder
        | FolderState::Failed(_)
        | FolderState::Hangs(_) => false,
    };
    // The cause stands in a row of its own then.
    if facts
        .folders
        .iter()
        .any(|folder| folder.name == "episodes" && !there(folder))
    {
        return Vec::new();
    }
    let snapshot = match &facts.daemon {
        DaemonState::Answers(snapshot) => Some(&**snapshot),
        DaemonState::Silent { .. }
        | DaemonState::NotPermitted { .. }
        | DaemonState::None
        | DaemonState::Unknown => None,
    };
    let complete = |row: DoctorRow| {
        let is_known = !cut_off.in_listing && matches!(row.id, Id::Names | Id::Waiting);
        let is_bad = row.status != RowStatus::Green && row.id != Id::Waiting;
        if is_known || is_bad {
            return row;
        }
        snapshot
            .and_then(|snapshot| by_daemon(facts, snapshot, row.id))
            .unwrap_or_else(|| unknown(facts, cut_off, row))
    };
    rows.into_iter()
        .map(|row| complete(row).with("cut_off_after", cut_off.after))
        .collect()
}

fn unknown(facts: &Facts, cut_off: CutOff, row: DoctorRow) -> DoctorRow {
    if row.status != RowStatus::Green {
        return row;
    }
    let summary = format!(
        "episodes/ could not be looked through within {:.1} s: of {} that were looked into there is nothing to say, and of the others nothing is known.",
        cut_off.within.as_secs_f64(),
        count(cut_off.after, "episode")
    );
    DoctorRow::yellow(row.id, summary, facts.hands.sealift("status"))
}

/// What the daemon knows of it; `None` where it does not look after that.
pub(super) fn by_daemon(facts: &Facts, snapshot: &Snapshot, id: Id) -> Option<DoctorRow> {
    let of = |state: EpisodeState| {
        snapshot
            .episodes
            .iter()
            .find(|episode| episode.state == state)
    };
    match id {
        Id::Conflicts => {
            let n = snapshot.counts.conflict;
            if n == 0 {
                return Some(DoctorRow::green(
                    id,
                    "Nothing is in conflict with what the receiver holds, says the daemon.",
                ));
            }
            let first = of(EpisodeState::Conflict)
                .map_or_else(String::new, |first| format!(", such as {}", first.id));
            let summary = format!(
                "Episodes are in conflict with what the receiver holds, says the daemon: {n}{first}."
            );
            Some(DoctorRow::red(id, summary, facts.hands.sealift("status")).with("count", n))
        }
        Id::Names => {
            let strangers = &snapshot.strangers;
            let Some(first) = strangers.some.first() else {
                return (strangers.count == 0).then(|| {
                    DoctorRow::green(id, "Every name in episodes/ is an id, says the daemon.")
                });
            };
            let n = strangers.count;
            let summary = format!(
                "Entries in episodes/ that can be no episode, says the daemon: {n}, such as {}: {}",
                first.name, first.why
            );
            let fix = facts.hands.sealift("status");
            let row = if first.sealed {
                DoctorRow::red(id, summary, fix)
            } else {
                DoctorRow::yellow(id, summary, fix)
            };
            let names: Vec<_> = strangers
                .some
                .iter()
                .map(|stranger| printable(&stranger.name))
                .collect();
            Some(row.with("count", n).with("names", names))
        }
        Id::Waiting => Some(waiting(facts, snapshot)),
        _ => None,
    }
}

fn waiting(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let (id, counts) = (Id::Waiting, &snapshot.counts);
    let n = counts.sealed
        + counts.packing
        + counts.ready
        + counts.uploading
        + counts.waiting
        + counts.refused
        + counts.conflict;
    let Some(oldest_s) = snapshot.oldest_waiting_s.filter(|_| n > 0) else {
        return DoctorRow::green(id, "Nothing waits, says the daemon.").with("count", n);
    };
    let closed = snapshot.destination.closed_until.as_deref();
    let until = closed.map_or_else(String::new, |until| {
        format!(" It is outside upload_window: nothing is sent until {until}.")
    });
    let since = span(Duration::from_secs(oldest_s));
    let summary = format!(
        "Episodes that wait to be shipped, says the daemon: {n}, the oldest since {since}.{until}"
    );
    let fix = facts.hands.unit_to("reload");
    let row = if oldest_s >= VERY_LONG_S {
        DoctorRow::red(id, summary, fix)
    } else if oldest_s >= LONG_S && closed.is_none() {
        DoctorRow::yellow(id, summary, fix)
    } else {
        DoctorRow::green(id, summary)
    };
    row.with("count", n).with("oldest_s", oldest_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::snapshot::StrangerStatus,
        operate::doctor::judge::{healthy_host::sound, queue},
    };

    fn cut(in_listing: bool) -> Facts {
        let mut facts = sound();
        let found = facts.episodes.as_mut().unwrap();
        found.cut_off = Some(CutOff {
            in_listing,
            after: 7,
            within: Duration::from_millis(1500),
        });
        facts
    }

    fn snapshot(facts: &mut Facts) -> &mut Snapshot {
        let DaemonState::Answers(snapshot) = &mut facts.daemon else {
            panic!()
        };
        snapshot
    }

    fn colours(facts: &Facts) -> Vec<(&'static str, RowStatus)> {
        queue::rows(facts)
            .into_iter()
            .map(|row| (row.id.as_str(), row.status))
            .collect()
    }

    #[test]
    fn no_row_goes_missing_and_the_daemon_says_what_it_knows() {
        use RowStatus::{Green, Red, Yellow};
        let mut facts = cut(true);
        let known = [
            ("conflicts", Green),
            ("markers", Yellow),
            ("open-long", Yellow),
            ("names", Green),
            ("waiting", Green),
        ];
        assert_eq!(colours(&facts), known);
        let told = snapshot(&mut facts);
        (
            told.counts.conflict,
            told.counts.waiting,
            told.oldest_waiting_s,
        ) = (1, 80_000, Some(90_000));
        let stranger = StrangerStatus {
            name: "-x".to_owned(),
            why: "no id.".to_owned(),
            sealed: true,
        };
        (told.strangers.count, told.strangers.some) = (1, vec![stranger]);
        let known = [
            ("conflicts", Red),
            ("markers", Yellow),
            ("open-long", Yellow),
            ("names", Red),
            ("waiting", Red),
        ];
        assert_eq!(colours(&facts), known);
        let rows = queue::rows(&facts);
        assert_eq!(
            rows[4].summary,
            "Episodes that wait to be shipped, says the daemon: 80001, the oldest since 25 h."
        );
        assert!(
            rows[1]
                .summary
                .starts_with("episodes/ could not be looked through within 1.5 s: of 7 episodes"),
            "{rows:?}"
        );
    }

    #[test]
    fn without_a_daemon_nobody_knows_and_what_was_listed_whole_is_known() {
        let mut facts = cut(true);
        facts.daemon = DaemonState::None;
        assert!(
            colours(&facts)
                .iter()
                .all(|(_, status)| *status == RowStatus::Yellow),
            "{:?}",
            colours(&facts)
        );
        let mut facts = cut(false);
        facts.daemon = DaemonState::None;
        let known: Vec<_> = colours(&facts)
            .into_iter()
            .filter(|(_, status)| *status == RowStatus::Green)
            .collect();
        assert_eq!(
            known,
            [("names", RowStatus::Green), ("waiting", RowStatus::Green)]
        );
        // A folder that hangs has a row, and it is the cause.
        facts.folders[0].state = FolderState::Hangs(Duration::from_secs(2));
        assert_eq!(colours(&facts), []);
    }
}
