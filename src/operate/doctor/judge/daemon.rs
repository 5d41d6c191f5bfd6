//! `daemon`, `daemon-version`, `daemon-stalled`, `daemon-watching`, `reload` and `hold`: what the
//! daemon says of itself.

use std::time::Duration;

use super::permissions::as_shipper;
use crate::{
    model::snapshot::{NoticedBy, Snapshot, WEATHER_LASTS_S},
    operate::doctor::{
        facts::{DaemonState, Facts},
        row::{DoctorRow, Id},
        words::{path, span},
    },
};

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let (id, hands) = (Id::Daemon, &facts.hands);
    match &facts.daemon {
        DaemonState::Unknown => Vec::new(),
        DaemonState::None => {
            vec![DoctorRow::red(
                id,
                "No daemon runs on this data folder: nothing is shipped.",
                hands.unit_to("start"),
            )]
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
        DaemonState::Answers(snapshot) => vec![
            running(facts, snapshot),
            version(facts, snapshot),
            stalled(facts, snapshot),
            watching(facts, snapshot),
            reload(facts, snapshot),
            metrics(facts, snapshot),
            hold(facts, snapshot),
        ],
    }
}

fn running(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let (hands, log) = (&facts.hands, &snapshot.log);
    let since = span(Duration::from_secs(snapshot.uptime_s));
    let runs = format!("It runs since {since} (process {})", snapshot.pid);
    let row = match log
        .stuck_for_s
        .map(|stuck_s| span(Duration::from_secs(stuck_s)))
    {
        None => DoctorRow::green(Id::Daemon, format!("{runs}.")),
        Some(stuck) if log.to_journal => DoctorRow::yellow(
            Id::Daemon,
            format!("{runs} and ships; journald has taken no line of its log for {stuck}."),
            hands.as_root("systemctl restart systemd-journald"),
        ),
        Some(stuck) => DoctorRow::yellow(
            Id::Daemon,
            format!(
                "{runs} and ships; the reader of its stderr has taken no line of its log for {stuck}."
            ),
            hands.unit_to("restart"),
        ),
    };
    row.with("pid", snapshot.pid)
        .with("log_stuck_for_s", log.stuck_for_s)
        .with("log_lines_dropped", log.lines_dropped)
        .with("uptime_s", snapshot.uptime_s)
        .with("stopping", snapshot.stopping)
}

fn version(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let (id, ours) = (Id::DaemonVersion, env!("CARGO_PKG_VERSION"));
    let row = if snapshot.version == ours {
        DoctorRow::green(id, format!("It is version {ours}, as this program is."))
    } else {
        let summary = format!(
            "The daemon is version {}, and this program {ours}: it was not started again after an update.",
            snapshot.version
        );
        DoctorRow::yellow(id, summary, facts.hands.unit_to("restart"))
    };
    row.with("daemon", crate::model::text::printable(&snapshot.version))
        .with("program", ours)
}

fn stalled(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let id = Id::DaemonStalled;
    let Some(first) = snapshot.heart.stalled.first() else {
        return DoctorRow::green(id, "Every part of it moves.");
    };
    let parts: Vec<_> = snapshot
        .heart
        .stalled
        .iter()
        .map(|stalled| stalled.part.as_str())
        .collect();
    let after = span(Duration::from_secs(first.for_s));
    let next = if snapshot.heart.watchdog_ms.is_some() {
        "systemd is about to start it again"
    } else {
        "and there is no watchdog that would start it again"
    };
    let summary = format!(
        "{} has not moved for {after}: a disk or a mount does not answer; {next}.",
        first.part
    );
    DoctorRow::red(id, summary, facts.hands.unit_to("restart")).with("parts", parts)
}

fn watching(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let (id, watch) = (Id::DaemonWatching, &snapshot.watch);
    let why = watch.why.as_deref().unwrap_or("it does not say why");
    let row = if let Some(failed) = &watch.last_look_failed {
        DoctorRow::red(
            id,
            format!("It cannot look for episodes: {failed}."),
            facts.hands.unit_to("restart"),
        )
    } else {
        match watch.mode {
            NoticedBy::Inotify => DoctorRow::green(id, "It is woken by the kernel."),
            NoticedBy::ReconcileOnly => DoctorRow::green(
                id,
                format!("It looks every {} s: {why}.", watch.reconcile_interval_s),
            ),
            NoticedBy::Blind => {
                let summary =
                    format!("It has no watches, and finds episodes some seconds late: {why}.");
                let fix = watch
                    .fix
                    .clone()
                    .map(|fix| crate::model::text::printable(&fix));
                DoctorRow::yellow(
                    id,
                    summary,
                    fix.map_or_else(
                        || facts.hands.unit_to("restart"),
                        |fix| facts.hands.as_root(&fix),
                    ),
                )
            }
            NoticedBy::Other => DoctorRow::green(
                id,
                "It notices episodes in a way that this program does not know.",
            ),
        }
    };
    row.with("overflows", watch.overflows)
        .with("last_look_ago_s", watch.last_look_ago_s)
}

fn reload(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let (id, reload) = (Id::Reload, &snapshot.reload);
    if let Some(failed) = &reload.failed {
        let summary =
            format!("The last reload failed, and what was read before is in force: {failed}.");
        return DoctorRow::red(id, summary, facts.hands.configure("reload"));
    }
    if !reload.restart_for.is_empty() {
        let keys = reload.restart_for.join(", ");
        let summary = format!("These were changed, and only a restart applies them: {keys}.");
        return DoctorRow::yellow(id, summary, facts.hands.unit_to("restart"))
            .with("keys", reload.restart_for.clone());
    }
    DoctorRow::green(id, "What is in the configuration is in force.")
}

fn metrics(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let id = Id::Metrics;
    let Some(why) = &snapshot.metrics_failed else {
        return DoctorRow::green(id, "Metrics are given out where that is set.");
    };
    let summary = format!(
        "No metrics are given out at {why}. Give shipper.metrics_listen another address, or stop what listens there, and start the daemon again."
    );
    DoctorRow::yellow(id, summary, facts.hands.configure("restart"))
}

fn hold(facts: &Facts, snapshot: &Snapshot) -> DoctorRow {
    let id = Id::Hold;
    let Some(hold) = &snapshot.destination.held else {
        if let Some(pause) = &snapshot.packing_paused {
            let summary = format!("Nothing is packed for now: {}.", pause.why);
            let room = facts
                .rooms
                .iter()
                .find(|room| room.folders.iter().any(|folder| folder == "outbox"));
            let fix = room.map_or_else(
                || "df -h".to_owned(),
                |room| format!("df -h {}", path(&room.path)),
            );
            return DoctorRow::yellow(id, summary, fix);
        }
        if snapshot.destination.unanswered > 0 {
            let (hang, wait) = (snapshot.destination.unanswered, snapshot.counts.ready);
            let summary = format!(
                "{hang} uploads were sent to their last byte and are not answered, and {wait} ready episodes wait. Each is given up after receiver.answer_timeout_s, and others go meanwhile as far as there are slots: see to the receiver."
            );
            return DoctorRow::yellow(id, summary, facts.hands.sealift("status"))
                .with("unanswered", hang);
        }
        return DoctorRow::green(id, "The receiver is sent to as episodes come.");
    };
    let no_receiver = hold.why.contains(NOT_A_RECEIVER);
    let (since, why) = (span(Duration::from_secs(hold.for_s)), in_short(&hold.why));
    if hold.idle && !hold.is_for_a_person() {
        let summary = format!(
            "The receiver could not be used {since} ago: {why}. Nothing has waited to be sent since, so it was not asked again; the next episode is tried at once."
        );
        return DoctorRow::green(id, summary)
            .with("held_s", hold.for_s)
            .with("weather", hold.weather);
    }
    let summary = match &hold.suspect {
        Some(suspect) => format!(
            "{suspect} was answered {since} ago as if nothing may be sent: {why}. Other episodes are tried at once, and decide."
        ),
        None => {
            let next = span(Duration::from_secs(hold.next_probe_in_s));
            format!("Nothing is sent since {since}: {why}. It is tried again in {next}.")
        }
    };
    // These get no better by themselves: something other than the receiver answers, or it does not
    // let us in.
    let is_ours_to_change = matches!(
        hold.status_code,
        Some(300..=399 | 401 | 403 | 404 | 405 | 407 | 501)
    );
    let (summary, fix) = if no_receiver || is_ours_to_change {
        let url = &snapshot.destination.url;
        (
            format!("{summary} Is receiver.url right ({url})?"),
            facts.hands.configure("reload"),
        )
    } else {
        // Whatever has been mended since is tried at once then.
        (summary, facts.hands.unit_to("reload"))
    };
    let row = if hold.is_for_a_person() {
        DoctorRow::red(id, summary, fix)
    } else {
        let lasts = span(Duration::from_secs(WEATHER_LASTS_S));
        let passes = if hold.suspect.is_some() {
            "It"
        } else {
            "That passes by itself; it"
        };
        DoctorRow::yellow(
            id,
            format!("{summary} {passes} is red once it has lasted for {lasts}."),
            fix,
        )
    };
    row.with("held_s", hold.for_s)
        .with("status_code", hold.status_code)
        .with("weather", hold.weather)
}

/// What the shipper says behind the words of a server that is no receiver.
const NOT_A_RECEIVER: &str = "(not a receiver's words)";

/// Without the page that a web server answers.
fn in_short(why: &str) -> String {
    match why.split_once(" with ") {
        Some((answered, said)) if said.contains(NOT_A_RECEIVER) => {
            format!("{answered}, and not with the words of a receiver")
        }
        _ => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::snapshot::{HoldStatus, Log, Pause, StalledPart},
        operate::doctor::{judge::healthy_host::sound, row::RowStatus},
    };

    fn of(id: Id, change: impl FnOnce(&mut Snapshot)) -> DoctorRow {
        let mut facts = sound();
        let DaemonState::Answers(snapshot) = &mut facts.daemon else {
            panic!()
        };
        change(snapshot);
        rows(&facts).into_iter().find(|row| row.id == id).unwrap()
    }

    #[test]
    fn each_thing_that_the_daemon_says_turns_its_own_row() {
        let facts = sound();
        assert!(
            rows(&facts)
                .iter()
                .all(|row| row.status == RowStatus::Green),
            "{:?}",
            rows(&facts)
        );
        let restart = "systemctl restart sealift.service";
        let journald = "systemctl restart systemd-journald";
        for (to_journal, fix) in [(true, journald), (false, restart)] {
            let stuck = Log {
                to_journal,
                lines_dropped: 3,
                stuck_for_s: Some(130),
            };
            let row = of(Id::Daemon, |snapshot| snapshot.log = stuck);
            assert_eq!(
                (row.status, row.fix.as_deref()),
                (RowStatus::Yellow, Some(fix))
            );
            assert_eq!(row.details["log_lines_dropped"], 3);
        }
        // That some are missing is in the log.
        assert_eq!(
            of(Id::Daemon, |snapshot| snapshot.log.lines_dropped = 3).status,
            RowStatus::Green
        );
        let row = of(Id::DaemonVersion, |snapshot| {
            snapshot.version = "0.0.9".to_owned();
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Yellow, Some(restart))
        );
        let stalled = StalledPart {
            part: "the packing of a".to_owned(),
            episode_id: None,
            for_s: 130,
        };
        let row = of(Id::DaemonStalled, |snapshot| {
            snapshot.heart.stalled = vec![stalled];
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Red, Some(restart))
        );
        let row = of(Id::DaemonWatching, |snapshot| {
            (snapshot.watch.mode, snapshot.watch.fix) =
                (NoticedBy::Blind, Some("sysctl a=1".to_owned()));
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Yellow, Some("sysctl a=1"))
        );
        let row = of(Id::DaemonWatching, |snapshot| {
            snapshot.watch.last_look_failed = Some("EIO".to_owned());
        });
        assert_eq!(row.status, RowStatus::Red);
        let row = of(Id::Reload, |snapshot| {
            snapshot.reload.failed = Some("line 3".to_owned());
        });
        assert_eq!(row.status, RowStatus::Red);
        assert!(
            row.fix
                .unwrap()
                .ends_with("systemctl reload sealift.service")
        );
        let row = of(Id::Reload, |snapshot| {
            snapshot.reload.restart_for = vec!["shipper.watch".to_owned()];
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Yellow, Some(restart))
        );
        let hold = HoldStatus {
            for_s: 300,
            why: "expired".to_owned(),
            status_code: None,
            next_probe_in_s: 20,
            weather: false,
            suspect: None,
            idle: false,
        };
        let row = of(Id::Hold, |snapshot| {
            snapshot.destination.held = Some(hold.clone());
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Red, Some("systemctl reload sealift.service"))
        );
        assert_eq!(
            row.summary,
            "Nothing is sent since 5 min: expired. It is tried again in 20 s."
        );
        for (status, why) in [
            (
                501,
                "answered 501 with <!DOCTYPE HTML> <html (not a receiver's words)",
            ),
            (413, "answered 413 with <html> (not a receiver's words)"),
            (401, "answered 401 with \"who are you\""),
            (301, "answered 301 with nothing"),
        ] {
            let hold = HoldStatus {
                status_code: Some(status),
                why: why.to_owned(),
                ..hold.clone()
            };
            let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
            assert!(
                row.fix
                    .unwrap()
                    .contains("sealift.toml && systemctl reload"),
                "{status}"
            );
            assert!(
                !row.summary.contains('<') && row.summary.contains("receiver.url"),
                "{}",
                row.summary
            );
        }
        for (for_s, status) in [
            (0, RowStatus::Yellow),
            (299, RowStatus::Yellow),
            (300, RowStatus::Red),
        ] {
            let hold = HoldStatus {
                for_s,
                weather: true,
                ..hold.clone()
            };
            let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
            assert_eq!(row.status, status, "{for_s}");
        }
        let row = of(Id::Hold, |snapshot| {
            (snapshot.destination.unanswered, snapshot.counts.ready) = (4, 9);
        });
        assert_eq!(row.status, RowStatus::Yellow);
        assert!(
            row.summary
                .starts_with("4 uploads were sent to their last byte"),
            "{row:?}"
        );
        // It was removed, say, before better weather came: the daemon cannot know of that.
        for (weather, suspect, status) in [
            (true, None, RowStatus::Green),
            (false, Some("run-7"), RowStatus::Green),
            (false, None, RowStatus::Red),
        ] {
            let suspect = suspect.map(str::to_owned);
            let hold = HoldStatus {
                for_s: 4000,
                weather,
                suspect,
                idle: true,
                ..hold.clone()
            };
            let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
            assert_eq!(row.status, status, "{row:?}");
            assert_eq!(
                row.summary.contains("the next episode is tried at once"),
                status == RowStatus::Green
            );
        }
        for (for_s, status) in [
            (2, RowStatus::Yellow),
            (299, RowStatus::Yellow),
            (300, RowStatus::Red),
        ] {
            let hold = HoldStatus {
                for_s,
                suspect: Some("run-7".to_owned()),
                ..hold.clone()
            };
            let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
            assert_eq!(
                row.status, status,
                "{for_s}: what one alone has met may be its own"
            );
            assert!(
                row.summary.starts_with("run-7 was answered ")
                    && !row.summary.contains("Nothing is sent")
            );
        }
        let pause = Pause {
            why: "no room".to_owned(),
            for_s: None,
        };
        assert_eq!(
            of(Id::Hold, |snapshot| snapshot.packing_paused = Some(pause)).status,
            RowStatus::Yellow
        );
    }

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
        assert!(
            rows(&Facts {
                daemon: DaemonState::Unknown,
                ..sound()
            })
            .is_empty()
        );
    }
}
