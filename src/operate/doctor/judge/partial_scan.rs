//! What is said of episodes that could not all be looked at in the time: what was found stands;
//! where nothing was, the daemon knows more, or the row says that it is not known.

use super::daemon_checks::DaemonChecks;
use crate::operate::doctor::{
    facts::{CutOff, EpisodesFacts, Facts, FolderFacts, FolderState},
    row::{DoctorRow, Id, RowStatus},
    words::count,
};

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
    let daemon = DaemonChecks::among(facts);
    let complete = |row: DoctorRow| {
        let is_known = !cut_off.in_listing && matches!(row.id, Id::Names | Id::Waiting);
        let is_bad = row.status != RowStatus::Green && row.id != Id::Waiting;
        if is_known || is_bad {
            return row;
        }
        daemon
            .and_then(|daemon| by_daemon(daemon, row.id))
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
fn by_daemon(daemon: DaemonChecks<'_>, id: Id) -> Option<DoctorRow> {
    match id {
        Id::Conflicts => Some(daemon.conflicts()),
        Id::Names => Some(daemon.names()),
        // What is in a marker it reads when it packs.
        Id::Markers => Some(daemon.markers()).filter(|row| row.status != RowStatus::Green),
        Id::Waiting => Some(daemon.waiting()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::snapshot::{Snapshot, StrangerStatus},
        operate::doctor::{
            facts::DaemonState,
            judge::{healthy_host::sound, queue},
        },
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
