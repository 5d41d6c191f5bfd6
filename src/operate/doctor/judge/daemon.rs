//! `daemon` where none answers; else what the daemon says of itself (`daemon_checks.rs`).

use super::{daemon_checks::DaemonChecks, permissions::as_shipper};
use crate::operate::doctor::{
    facts::{DaemonState, Facts},
    row::{DoctorRow, Id},
    setup,
    words::path,
};

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let (id, hands) = (Id::Daemon, &facts.hands);
    match &facts.daemon {
        DaemonState::Unknown => Vec::new(),
        DaemonState::None if facts.is_shipped_by_hand() => vec![DoctorRow::green(
            id,
            format!(
                "No daemon runs, and systemd knows no {}: what is sealed is shipped when `sealift ship` or `sealift ship --once` is typed.",
                hands.unit
            ),
        )],
        DaemonState::None => {
            let summary = "No daemon runs on this data folder: nothing is shipped.";
            let start = hands.unit_to("start");
            let fix = if hands.has_unit && setup::lets_it_start(facts) {
                facts.setup().then(format!("Then: {start}"))
            } else {
                start
            };
            vec![DoctorRow::red(id, summary, fix)]
        }
        DaemonState::NotPermitted { pid } => {
            let pid = pid
                .map(|pid| format!(" (process {pid})"))
                .unwrap_or_default();
            let summary = format!(
                "A daemon runs{pid}, and {} may not ask it how it stands.",
                facts.people.us.name
            );
            vec![DoctorRow::yellow(
                id,
                summary,
                as_shipper(hands, &facts.people),
            )]
        }
        DaemonState::Silent {
            pid,
            why,
            is_heard: true,
        } => {
            let pid = pid
                .map(|pid| format!(" (process {pid})"))
                .unwrap_or_default();
            let summary = format!(
                "A daemon runs{pid} and works, since it has just refreshed its lock, but it cannot be asked: {why}. The lock file says \
                 where its socket is, if not here."
            );
            let lock = facts
                .folders
                .first()
                .and_then(|folder| folder.path.parent())
                .map(|data| path(&data.join(".sealift/lock")));
            vec![DoctorRow::yellow(
                id,
                summary,
                format!("cat {}", lock.unwrap_or_default()),
            )]
        }
        DaemonState::Silent {
            pid,
            why,
            is_heard: false,
        } => {
            let pid = pid
                .map(|pid| format!(" (process {pid})"))
                .unwrap_or_default();
            let summary = format!("A daemon runs{pid} and does not say how it stands: {why}.");
            vec![DoctorRow::red(id, summary, hands.unit_to("restart"))]
        }
        DaemonState::Answers(_) => {
            DaemonChecks::among(facts).map_or_else(Vec::new, DaemonChecks::of_itself)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::{judge::healthy_host::sound, row::RowStatus};

    #[test]
    fn a_daemon_that_is_not_there_or_says_nothing_is_red_and_one_that_we_may_not_ask_yellow() {
        let silent = DaemonState::Silent {
            pid: Some(7),
            why: "no answer".to_owned(),
            is_heard: false,
        };
        for (daemon, status, fix) in [
            (
                DaemonState::None,
                RowStatus::Red,
                "systemctl start sealift.service",
            ),
            (silent, RowStatus::Red, "systemctl restart sealift.service"),
            (
                DaemonState::NotPermitted { pid: None },
                RowStatus::Yellow,
                "sealift doctor --data /d",
            ),
        ] {
            let facts = Facts { daemon, ..sound() };
            let [row] = &rows(&facts)[..] else { panic!() };
            assert_eq!(
                (row.id, row.status, row.fix.as_deref()),
                (Id::Daemon, status, Some(fix))
            );
        }
        // Who ships by hand has none; what was killed was to run.
        for (was_killed, status) in [(false, RowStatus::Green), (true, RowStatus::Red)] {
            let mut facts = Facts {
                daemon: DaemonState::None,
                was_killed,
                ..sound()
            };
            facts.hands.has_unit = false;
            assert_eq!(rows(&facts)[0].status, status, "{was_killed}");
        }
        assert!(
            rows(&Facts {
                daemon: DaemonState::Unknown,
                ..sound()
            })
            .is_empty()
        );
    }
}
