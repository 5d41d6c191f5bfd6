//! What the operator should look at, and what to type. Pure. What a daemon's answer says is judged
//! where the doctor's rows are (`doctor/judge/daemon_checks.rs`); the doctor asks further, and has
//! the causes.

use serde::Serialize;

use super::{CommandContext, DaemonAnswer, Status};
use crate::{
    model::layout::Layout,
    operate::{
        doctor::{self, DaemonChecks, DoctorRow, Fix, Id, RowStatus},
        words,
    },
};

/// Something that the operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatusProblem {
    /// What is wrong, in a sentence.
    pub what: String,
    /// What to type, where one command does.
    pub fix: Option<String>,
}

impl StatusProblem {
    fn new(what: impl Into<String>, fix: Option<String>) -> Self {
        Self {
            what: what.into(),
            fix,
        }
    }
}

/// The worst first.
pub(super) fn problems(
    status: &Status,
    hands: &CommandContext,
    layout: &Layout,
) -> Vec<StatusProblem> {
    let mut found = Vec::new();
    found.extend(no_answer(status, hands));
    for failed in &status.folders.failed {
        found.push(StatusProblem::new(
            format!("cannot be looked at: {failed}"),
            None,
        ));
    }
    if let Some(snapshot) = &status.snapshot {
        let checks = DaemonChecks {
            snapshot,
            hands,
            layout,
            more: "doctor",
        };
        let rows = checks.problems().into_iter();
        found.extend(rows.map(|row| StatusProblem::new(row.summary, row.fix)));
    } else {
        found.extend(by_folders(status, hands, layout));
    }
    let doctor = || Some(hands.sealift("doctor"));
    for name in &status.folders.reused_names {
        let what = format!(
            "{name} in episodes/ has the name of an episode that was shipped within the day: does its recorder write on, into a new \
             folder of the old name?"
        );
        found.push(StatusProblem::new(what, doctor()));
    }
    if let Some(count) = status.folders.quarantined.filter(|count| *count > 0) {
        let waits = words::episodes(count);
        found.push(StatusProblem::new(
            format!("{waits} in quarantine, to be looked at"),
            doctor(),
        ));
    }
    found
}

/// That no daemon answers, and what to do about that.
fn no_answer(status: &Status, hands: &CommandContext) -> Option<StatusProblem> {
    let why = status.no_answer.as_ref()?;
    let (held, fix) = match (status.daemon, hands.daemon_pid) {
        // It lives, and may well work: what cannot be asked is not for that to be ended.
        (DaemonAnswer::NotRunning, Some(pid)) => (
            format!("; process {pid} holds the folder"),
            Some(hands.sealift("doctor").into()),
        ),
        (DaemonAnswer::NotRunning, None) => (String::new(), Some(hands.unit_to("start"))),
        (DaemonAnswer::Hangs, _) => (String::new(), Some(hands.unit_to("restart"))),
        (DaemonAnswer::NotPermitted | DaemonAnswer::Strange | DaemonAnswer::Running, _) => {
            (String::new(), None)
        }
    };
    let then = fix.as_ref().and_then(|fix: &Fix| fix.then.as_ref());
    let then = then.map_or_else(String::new, |then| format!(" {then}"));
    let what = format!("{why}{held}. What follows is what the folders tell.{then}");
    Some(StatusProblem::new(what, fix.map(|fix| fix.command)))
}

/// What the folders tell, in the words of the checks that go by a daemon's answer.
fn by_folders(status: &Status, hands: &CommandContext, layout: &Layout) -> Vec<StatusProblem> {
    let (folders, more) = (&status.folders, hands.sealift("doctor"));
    let mut rows = Vec::new();
    let mut found = Vec::new();
    if let Some(there) = &folders.found {
        rows.extend([
            doctor::conflicts(there.conflict, None, &more),
            doctor::names(&there.strangers, &more),
            doctor::markers(&there.unclear, &more),
        ]);
        if there.archives_without_episode > 0 {
            let what = words::without_episode(there.archives_without_episode);
            found.push(StatusProblem::new(what, None));
        }
    }
    rows.extend(doctor::space(&folders.room, hands, layout));
    // What is not sealed has time: its recorder is at work on it.
    let is_wrong = |row: &DoctorRow| {
        row.status == RowStatus::Red || (row.status == RowStatus::Yellow && row.id != Id::Names)
    };
    // What keeps everything from being shipped comes before what keeps one.
    rows.retain(is_wrong);
    rows.sort_by_key(|row| (std::cmp::Reverse(row.status), row.id));
    let rows = rows.into_iter();
    found.splice(
        0..0,
        rows.map(|row| StatusProblem::new(row.summary, row.fix)),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        records::WallTime,
        snapshot::{NoticedBy, RoomStatus, Snapshot, StrangerStatus, Strangers},
    };
    use crate::operate::status::folders::FolderCounts;

    fn well() -> Status {
        let mut snapshot = Snapshot::begin(7, "lab-07", WallTime::from_unix_seconds(1_800_000_000));
        snapshot.watch.mode = NoticedBy::Inotify;
        Status {
            sealift_status: 1,
            daemon: DaemonAnswer::Running,
            no_answer: None,
            snapshot: Some(snapshot),
            folders: Default::default(),
            problems: Vec::new(),
        }
    }

    fn full() -> RoomStatus {
        RoomStatus {
            folders: vec!["outbox".to_owned()],
            path: "/d/outbox".to_owned(),
            free_bytes: 0,
            free_files: None,
            total_bytes: 1 << 40,
            filling_bytes_per_s: None,
            lasts_s: None,
        }
    }

    fn hands() -> CommandContext {
        CommandContext {
            root: false,
            unit: "lab.service".to_owned(),
            has_unit: true,
            daemon_pid: None,
            options: "--data /d".to_owned(),
            receiver: String::new(),
            file: None,
            credential: None,
        }
    }

    fn said(status: &Status, hands: &CommandContext) -> Vec<StatusProblem> {
        problems(status, hands, &Layout::below("/d".as_ref()))
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_say() {
        assert_eq!(said(&well(), &hands()), []);
    }

    #[test]
    fn what_the_daemon_tells_is_what_the_doctor_says_of_it() {
        let mut status = well();
        let watch = &mut status.snapshot.as_mut().unwrap().watch;
        watch.mode = NoticedBy::Blind;
        watch.fix = Some("sysctl fs.inotify.max_user_watches=524288".to_owned());
        let [problem] = &said(&status, &hands())[..] else {
            panic!()
        };
        assert!(problem.what.starts_with("It has no watches"), "{problem:?}");
        assert_eq!(
            problem.fix.as_deref(),
            Some("sudo sysctl fs.inotify.max_user_watches=524288")
        );
    }

    #[test]
    fn without_a_daemon_a_full_disk_is_told_by_the_folders() {
        let mut status = well();
        status.snapshot = None;
        status.folders.room = vec![full()];
        let said = said(&status, &hands());
        assert!(said[0].what.starts_with("/d/outbox: 0 B of"), "{said:?}");
    }

    #[test]
    fn a_full_disk_comes_before_a_name_that_is_only_to_be_looked_at() {
        let mut status = well();
        status.snapshot = None;
        let stranger = StrangerStatus {
            name: "-x".to_owned(),
            why: "no id.".to_owned(),
            sealed: true,
        };
        status.folders.found = Some(FolderCounts {
            strangers: Strangers {
                count: 1,
                some: vec![stranger],
            },
            archives_without_episode: 1,
            ..FolderCounts::default()
        });
        status.folders.room = vec![full()];
        let said = said(&status, &hands());
        assert!(said[0].what.starts_with("/d/outbox: 0 B"), "{said:?}");
        assert!(said[1].what.contains("-x"), "{said:?}");
        assert_eq!(said.len(), 3, "{said:?}");
    }

    #[test]
    fn that_no_daemon_answers_is_said_first() {
        let mut status = well();
        status.snapshot = None;
        status.daemon = DaemonAnswer::NotRunning;
        status.no_answer = Some("no daemon answers at /d".to_owned());
        status.folders.failed = vec!["/d/shipped: gone".to_owned()];
        let said = said(&status, &hands());
        assert!(
            said[0]
                .what
                .starts_with("no daemon answers at /d. What follows"),
            "{said:?}"
        );
        assert_eq!(
            said[0].fix.as_deref(),
            Some("sudo systemctl start lab.service")
        );
        assert_eq!(said.len(), 2);
        // Only its socket is gone.
        let said = self::tests::said(
            &status,
            &CommandContext {
                daemon_pid: Some(7),
                ..hands()
            },
        );
        assert!(
            said[0]
                .what
                .contains("/d; process 7 holds the folder. What"),
            "{said:?}"
        );
        assert_eq!(
            said[0].fix.as_deref(),
            Some("sealift doctor --data /d"),
            "nothing that ends it"
        );
        let said = self::tests::said(
            &status,
            &CommandContext {
                has_unit: false,
                ..hands()
            },
        );
        let setup = said[0].fix.as_deref().unwrap();
        assert!(
            setup.starts_with("sealift setup --config sealift.toml --data /d --receiver "),
            "no receiver is named: {said:?}"
        );
    }

    #[test]
    fn what_is_in_quarantine_waits_for_somebody() {
        let mut status = well();
        status.folders.quarantined = Some(2);
        let said = said(&status, &hands());
        assert_eq!(said[0].what, "2 episodes in quarantine, to be looked at");
        assert_eq!(said[0].fix.as_deref(), Some("sealift doctor --data /d"));
    }
}
