//! What the operator should look at, and what to type. Pure. `doctor` asks further, and has the
//! causes.

use serde::Serialize;

use super::{CommandContext, DaemonAnswer, Status};
use crate::model::{
    snapshot::{HoldStatus, NoticedBy, Snapshot, Strangers, TrialKind},
    text::shell_word,
};
use crate::operate::words;

/// A file that is open for less is about to be closed.
const LONG_OPEN_S: u64 = 60;
/// Less than a day until a disk is full.
const SHORT_S: u64 = 24 * 3600;

/// Something that the operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatusProblem {
    /// What is wrong, in a sentence.
    pub what: String,
    /// What to type, where one command does.
    pub fix: Option<String>,
}

/// The worst first.
pub(super) fn of(status: &Status, hands: &CommandContext) -> Vec<StatusProblem> {
    let mut found = Vec::new();
    let mut say = |what: String, fix: Option<&str>| {
        found.push(StatusProblem {
            what,
            fix: fix.map(str::to_owned),
        });
    };
    if let Some(why) = &status.no_answer {
        let (held, fix) = match (status.daemon, hands.daemon_pid) {
            // It lives, and may well work: what cannot be asked is not for that to be ended.
            (DaemonAnswer::NotRunning, Some(pid)) => (
                format!("; process {pid} holds the folder"),
                Some(hands.sealift("doctor")),
            ),
            (DaemonAnswer::NotRunning, None) => (String::new(), Some(hands.unit_to("start"))),
            (DaemonAnswer::Hangs, _) => (String::new(), Some(hands.unit_to("restart"))),
            (DaemonAnswer::NotPermitted | DaemonAnswer::Strange | DaemonAnswer::Running, _) => {
                (String::new(), None)
            }
        };
        say(
            format!("{why}{held}. What follows is what the folders tell"),
            fix.as_deref(),
        );
    }
    for failed in &status.folders.failed {
        say(format!("cannot be looked at: {failed}"), None);
    }
    if let Some(snapshot) = &status.snapshot {
        by_daemon(snapshot, hands, &mut say);
    } else if let Some(found) = &status.folders.found {
        if found.conflict > 0 {
            say(conflict(found.conflict), None);
        }
        if found.archives_without_episode > 0 {
            say(words::without_episode(found.archives_without_episode), None);
        }
        for unclear in &found.unclear {
            say(unclear.clone(), None);
        }
        strangers(&found.strangers, &mut say);
    }
    for name in &status.folders.reused_names {
        let what = format!(
            "{name} in episodes/ has the name of an episode that was shipped within the day: does its recorder write on, into a new \
             folder of the old name?"
        );
        say(what, Some(&hands.sealift("doctor")));
    }
    if status.folders.quarantined > 0 {
        let waits = words::episodes(status.folders.quarantined);
        say(
            format!("{waits} in quarantine, to be looked at"),
            Some(&hands.sealift("doctor")),
        );
    }
    found
}

fn by_daemon(
    snapshot: &Snapshot,
    hands: &CommandContext,
    say: &mut impl FnMut(String, Option<&str>),
) {
    let Snapshot {
        heart,
        log,
        watch,
        destination,
        counts,
        trial,
        reload,
        ..
    } = snapshot;
    for stalled in &heart.stalled {
        let what = format!(
            "{} has not moved for {}: a hung disk or mount?",
            stalled.part,
            words::span(stalled.for_s)
        );
        let then = if heart.watchdog_ms.is_some() {
            " The service manager starts the daemon anew unless it moves"
        } else {
            " Nothing restarts it: no watchdog is set"
        };
        say(format!("{what}{then}"), None);
    }
    if let Some(why) = &watch.last_look_failed {
        say(
            format!("the last look through the folders failed: {why}"),
            None,
        );
    }
    let hold = destination.held.as_ref();
    let held = |held: &HoldStatus| {
        format!(
            "the receiver is held for {}: {}",
            words::span(held.for_s),
            held.why
        )
    };
    if let Some(hold) = hold.filter(|hold| hold.is_for_a_person()) {
        say(held(hold), None);
    }
    if let Some(pause) = &snapshot.packing_paused {
        say(format!("packing pauses: {}", pause.why), None);
    }
    for finding in trial {
        // A copy works, and takes longer.
        if !matches!(finding.kind, TrialKind::Copies) {
            let fix = finding.fix.as_ref().map(|fix| hands.typed(fix));
            say(finding.what_to_do.clone(), fix.as_deref());
        }
    }
    if watch.mode == NoticedBy::Blind {
        let why = watch
            .why
            .as_deref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        let what = format!(
            "no watches can be had{why}. New episodes are found by looking every {} s",
            watch.reconcile_interval_s
        );
        let fix = watch.fix.as_ref().map(|fix| hands.as_root(fix));
        say(what, fix.as_deref());
    }
    if let Some(id) = &snapshot.stamps_move {
        say(crate::model::snapshot::stamps_move(id), None);
    }
    if let Some(left) = &snapshot.left_aside {
        say(left.to_string(), Some(&left.fix));
    }
    if snapshot.archives_stranded > 0 {
        let restart = hands.unit_to("restart");
        say(
            crate::model::snapshot::stranded(snapshot.archives_stranded),
            Some(&restart),
        );
    }
    if counts.conflict > 0 {
        say(conflict(counts.conflict), None);
    }
    if counts.refused > 0 {
        let refused = words::episodes(counts.refused);
        say(
            format!("{refused} refused, and not by a receiver, or alone among others"),
            None,
        );
    }
    if let Some(why) = &reload.failed {
        say(
            format!("the last reload failed, and the old configuration is kept: {why}"),
            None,
        );
    }
    if let Some(stuck_s) = log.stuck_for_s {
        let restart = hands.as_root("systemctl restart systemd-journald");
        let (who, fix) = match log.to_journal {
            true => ("journald", Some(restart.as_str())),
            false => ("the reader of its stderr", None),
        };
        let what = format!(
            "{who} has not taken a line of the log for {}. Shipping goes on; lines dropped so far: {}",
            words::span(stuck_s),
            log.lines_dropped
        );
        say(what, fix);
    }
    if !reload.restart_for.is_empty() {
        let keys = reload.restart_for.join(", ");
        say(
            format!("only a restart applies: {keys}"),
            Some(&hands.unit_to("restart")),
        );
    }
    if let Some(why) = &snapshot.metrics_failed {
        say(
            format!("no metrics are given out at {why} (shipper.metrics_listen)"),
            None,
        );
    }
    writers(snapshot, hands, say);
    for room in &snapshot.room {
        if let Some(lasts_s) = room.lasts_s.filter(|lasts_s| *lasts_s < SHORT_S) {
            let lasts = words::span(lasts_s);
            say(
                format!(
                    "{} is full in {lasts}, at the rate of the last hours",
                    room.path
                ),
                None,
            );
        }
    }
    strangers(&snapshot.strangers, say);
    if destination.unanswered > 0 {
        let hang = destination.unanswered;
        say(
            format!(
                "{hang} uploads were sent to their last byte and are not answered; others wait"
            ),
            None,
        );
    }
    // Behind everything that a person can mend.
    if let Some(hold) = hold.filter(|hold| !hold.is_for_a_person() && !hold.idle) {
        let what = match &hold.suspect {
            Some(id) => format!(
                "{}. Only {id} has met that; other episodes are tried at once",
                held(hold)
            ),
            None => format!("{}. That passes by itself, so far", held(hold)),
        };
        say(what, None);
    }
}

/// Recorders that go on writing.
fn writers(
    snapshot: &Snapshot,
    hands: &CommandContext,
    say: &mut impl FnMut(String, Option<&str>),
) {
    for open in snapshot
        .open_files
        .some
        .iter()
        .filter(|open| open.for_s >= LONG_OPEN_S)
    {
        let by = open
            .pid
            .map(|pid| format!(" by process {pid}"))
            .unwrap_or_default();
        let (id, file, span) = (&open.episode_id, &open.file, words::span(open.for_s));
        let (is, waits) = match open.before_move {
            false => ("sealed", "it waits until that is closed"),
            true => ("delivered or rejected", "it is moved when that is closed"),
        };
        say(
            format!("{id} is {is}, and {file} in it is open for writing{by}, for {span}: {waits}"),
            None,
        );
    }
    for changed in &snapshot.shipped_changed {
        let id = &changed.episode_id;
        let name = |text: &str| shell_word(std::path::Path::new(text));
        let fix = if changed.folder == *id {
            format!("requeue {} --from shipped", name(id))
        } else {
            format!("requeue --folder {} --from shipped", name(&changed.folder))
        };
        say(
            format!("{id} was written to after it was shipped: the receiver does not hold that"),
            Some(&hands.sealift(&fix)),
        );
    }
}

fn conflict(count: u64) -> String {
    format!(
        "{} in conflict: the receiver holds other content under that name, or may",
        words::episodes(count)
    )
}

fn strangers(strangers: &Strangers, say: &mut impl FnMut(String, Option<&str>)) {
    for stranger in strangers.some.iter().filter(|stranger| stranger.sealed) {
        say(
            format!(
                "{} in episodes/ is sealed, and is not shipped: {}",
                stranger.name, stranger.why
            ),
            None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        records::WallTime,
        snapshot::{Log, Pause, RoomStatus, StalledPart, StrangerStatus, TrialFinding},
    };

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

    fn hands() -> CommandContext {
        CommandContext {
            root: false,
            unit: "lab.service".to_owned(),
            has_unit: true,
            daemon_pid: None,
            options: "--data /d".to_owned(),
            receiver: String::new(),
            file: None,
        }
    }

    fn finding(kind: TrialKind) -> TrialFinding {
        TrialFinding {
            kind,
            in_short: "short".to_owned(),
            what_to_do: "Type: chmod".to_owned(),
            fix: None,
        }
    }

    /// Breaks one thing, and says all that is wrong then.
    fn with(breaks: impl FnOnce(&mut Snapshot)) -> Vec<String> {
        let mut status = well();
        breaks(status.snapshot.as_mut().unwrap());
        of(&status, &hands())
            .into_iter()
            .map(|problem| problem.what)
            .collect()
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_say() {
        assert_eq!(of(&well(), &hands()), []);
        assert_eq!(
            with(|told| told.trial = vec![finding(TrialKind::Copies)]),
            [""; 0]
        );
        // It is taken again, and has said itself what is missing.
        assert_eq!(with(|told| told.log.lines_dropped = 9), [""; 0]);
    }

    #[test]
    fn weather_stands_behind_what_can_be_mended_until_it_has_lasted() {
        let said = |for_s| {
            with(|told| {
                let hold = HoldStatus {
                    for_s,
                    why: "answered 503".to_owned(),
                    status_code: Some(503),
                    next_probe_in_s: 3,
                    weather: true,
                    suspect: None,
                    idle: false,
                };
                told.destination.held = Some(hold);
                told.counts.conflict = 1;
            })
        };
        assert!(
            said(299)[1].starts_with("the receiver is held for ")
                && said(299)[1].ends_with("so far"),
            "{:?}",
            said(299)
        );
        assert!(
            said(300)[0].starts_with("the receiver is held for "),
            "{:?}",
            said(300)
        );
    }

    #[test]
    fn each_thing_that_breaks_is_one_problem() {
        let one = |breaks: fn(&mut Snapshot), says: &str| {
            let said = with(breaks);
            assert!(
                said.len() == 1 && said[0].contains(says),
                "{says}: {said:?}"
            );
        };
        one(
            |told| {
                told.heart.stalled = vec![StalledPart {
                    part: "the packing of a".to_owned(),
                    episode_id: None,
                    for_s: 130,
                }];
            },
            "the packing of a has not moved for 2 min: a hung disk or mount? Nothing restarts it",
        );
        one(
            |told| told.watch.last_look_failed = Some("gone".to_owned()),
            "failed: gone",
        );
        one(
            |told| {
                told.destination.held = Some(HoldStatus {
                    for_s: 60,
                    why: "certificate expired".to_owned(),
                    status_code: None,
                    next_probe_in_s: 3,
                    weather: false,
                    suspect: None,
                    idle: false,
                });
            },
            "held for 60 s: certificate expired",
        );
        one(
            |told| {
                told.packing_paused = Some(Pause {
                    why: "full".to_owned(),
                    for_s: None,
                });
            },
            "pauses: full",
        );
        one(
            |told| told.trial = vec![finding(TrialKind::CopiesOnOneDevice)],
            "Type: chmod",
        );
        one(
            |told| told.stamps_move = Some("run-1".to_owned()),
            "run-1 was delivered, and each time",
        );
        one(
            |told| told.archives_stranded = 2,
            "2 archives in outbox/ have no episode beside them",
        );
        one(|told| told.counts.conflict = 2, "2 episodes in conflict");
        one(|told| told.counts.refused = 1, "1 episode refused");
        one(
            |told| told.metrics_failed = Some("127.0.0.1:1: in use".to_owned()),
            "at 127.0.0.1:1: in use",
        );
        one(
            |told| {
                told.log = Log {
                    to_journal: true,
                    lines_dropped: 3,
                    stuck_for_s: Some(130),
                }
            },
            "journald has not taken a line of the log for 2 min. Shipping goes on; lines dropped so far: 3",
        );
        one(
            |told| {
                told.log = Log {
                    to_journal: false,
                    lines_dropped: 1,
                    stuck_for_s: Some(10),
                }
            },
            "the reader of its stderr has not taken a line of the log for 10 s. Shipping goes on; lines dropped so far: 1",
        );
        one(
            |told| told.reload.failed = Some("line 3".to_owned()),
            "line 3",
        );
        one(
            |told| told.reload.restart_for = vec!["shipper.watch".to_owned()],
            "shipper.watch",
        );
        one(
            |told| {
                told.room = vec![RoomStatus {
                    folders: Vec::new(),
                    path: "/d".to_owned(),
                    free_bytes: 1,
                    free_files: Some(7),
                    total_bytes: 2,
                    filling_bytes_per_s: Some(1),
                    lasts_s: Some(7200),
                }];
            },
            "/d is full in 2 h",
        );
        one(
            |told| {
                let stranger = |sealed| StrangerStatus {
                    name: "-x".to_owned(),
                    why: "why".to_owned(),
                    sealed,
                };
                told.strangers.some = vec![stranger(true), stranger(false)];
            },
            "-x in episodes/ is sealed, and is not shipped: why",
        );
    }

    #[test]
    fn a_lost_watch_comes_with_the_command_that_gives_it_back() {
        let mut status = well();
        let watch = &mut status.snapshot.as_mut().unwrap().watch;
        watch.mode = NoticedBy::Blind;
        watch.fix = Some("sysctl fs.inotify.max_user_watches=524288".to_owned());
        let fix = of(&status, &hands()).remove(0).fix.unwrap();
        assert_eq!(fix, "sudo sysctl fs.inotify.max_user_watches=524288");
    }

    #[test]
    fn that_no_daemon_answers_is_said_first() {
        let mut status = well();
        status.snapshot = None;
        status.daemon = DaemonAnswer::NotRunning;
        status.no_answer = Some("no daemon answers at /d".to_owned());
        status.folders.failed = vec!["/d/shipped: gone".to_owned()];
        let said = of(&status, &hands());
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
        let said = of(
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
        let said = of(
            &status,
            &CommandContext {
                has_unit: false,
                ..hands()
            },
        );
        assert_eq!(said[0].fix.as_deref(), Some("sealift ship --data /d"));
    }

    #[test]
    fn what_is_in_quarantine_waits_for_somebody() {
        let mut status = well();
        status.folders.quarantined = 2;
        let said = of(&status, &hands());
        assert_eq!(said[0].what, "2 episodes in quarantine, to be looked at");
        assert_eq!(said[0].fix.as_deref(), Some("sealift doctor --data /d"));
    }
}
