//! What is wrong by what a running daemon answers. Judged here once: `doctor` shows each check as a
//! row, and `status` those that are not green.

mod episodes;
mod hold;
mod moves;
mod open_files;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(in crate::operate) use self::episodes::{conflicts, markers, names};
pub(super) use self::{
    episodes::{no_episodes, refused, waits_for},
    moves::worst,
};
use super::space;
use crate::{
    model::{
        layout::Layout,
        snapshot::{NoticedBy, Snapshot},
        text::printable,
    },
    operate::doctor::{
        facts::{DaemonState, Facts},
        row::{DoctorRow, Id, RowStatus},
        words::{CommandContext, span},
    },
};

/// A daemon's answer, and what the commands are about that mend what it tells of.
#[derive(Debug, Clone, Copy)]
pub(in crate::operate) struct DaemonChecks<'a> {
    pub(in crate::operate) snapshot: &'a Snapshot,
    pub(in crate::operate) hands: &'a CommandContext,
    pub(in crate::operate) layout: &'a Layout,
    /// The command of ours that shows more than this one does.
    pub(in crate::operate) more: &'static str,
}

impl<'a> DaemonChecks<'a> {
    /// The answer among the doctor's facts, where a daemon gave one.
    pub(super) fn among(facts: &'a Facts) -> Option<Self> {
        match (&facts.daemon, &facts.layout) {
            (DaemonState::Answers(snapshot), Some(layout)) => Some(Self {
                snapshot,
                hands: &facts.hands,
                layout,
                more: "status",
            }),
            _ => None,
        }
    }

    /// What the daemon says of itself: rows that go by nothing else.
    pub(super) fn of_itself(self) -> Vec<DoctorRow> {
        vec![
            self.running(),
            self.version(),
            self.stalled(),
            self.watching(),
            self.reload(),
            self.metrics(),
            self.hold(),
        ]
    }

    /// All that is not as it should be, the worst first; what passes by itself comes last, until it
    /// has lasted.
    pub(in crate::operate) fn problems(self) -> Vec<DoctorRow> {
        let mut rows = self.of_itself();
        rows.extend([
            self.open_files(),
            self.changed(),
            self.conflicts(),
            self.names(),
            self.markers(),
            self.refused(),
            self.waiting(),
        ]);
        rows.extend(self.stamps_move());
        rows.extend(self.moves());
        rows.extend(space::row(&self.snapshot.room, self.hands, self.layout));
        // What is not sealed has time: its recorder is at work on it.
        rows.retain(|row| {
            row.status == RowStatus::Red || (row.status == RowStatus::Yellow && row.id != Id::Names)
        });
        // What passes by itself is mended where the receiver is: nothing is typed here.
        for row in rows.iter_mut().filter(|row| super::is_transient(row)) {
            row.fix = None;
        }
        super::step_back_for_what_can_be_mended(&mut rows);
        rows.sort_by_key(|row| {
            let passes = row.status != RowStatus::Red && super::is_transient(row);
            (passes, std::cmp::Reverse(row.status), row.id)
        });
        rows
    }

    fn running(self) -> DoctorRow {
        let log = &self.snapshot.log;
        let since = span(Duration::from_secs(self.snapshot.uptime_s));
        let runs = format!("It runs since {since} (process {})", self.snapshot.pid);
        let row = match log
            .stuck_for_s
            .map(|stuck_s| span(Duration::from_secs(stuck_s)))
        {
            None => DoctorRow::green(Id::Daemon, format!("{runs}.")),
            Some(stuck) if log.to_journal => DoctorRow::yellow(
                Id::Daemon,
                format!("{runs} and ships; journald has taken no line of its log for {stuck}."),
                self.hands.as_root("systemctl restart systemd-journald"),
            ),
            Some(stuck) => DoctorRow::yellow(
                Id::Daemon,
                format!(
                    "{runs} and ships; the reader of its stderr has taken no line of its log for {stuck}."
                ),
                self.hands.unit_to("restart"),
            ),
        };
        row.with("pid", self.snapshot.pid)
            .with("log_stuck_for_s", log.stuck_for_s)
            .with("log_lines_dropped", log.lines_dropped)
            .with("uptime_s", self.snapshot.uptime_s)
            .with("stopping", self.snapshot.stopping)
    }

    fn version(self) -> DoctorRow {
        let (id, ours) = (Id::DaemonVersion, env!("CARGO_PKG_VERSION"));
        let row = if self.snapshot.version == ours {
            DoctorRow::green(id, format!("It is version {ours}, as this program is."))
        } else {
            let summary = format!(
                "The daemon is version {}, and this program {ours}: it was not started again after an update.",
                self.snapshot.version
            );
            DoctorRow::yellow(id, summary, self.hands.unit_to("restart"))
        };
        row.with("daemon", printable(&self.snapshot.version))
            .with("program", ours)
    }

    fn stalled(self) -> DoctorRow {
        let id = Id::DaemonStalled;
        let Some(first) = self.snapshot.heart.stalled.first() else {
            return DoctorRow::green(id, "Every part of it moves.");
        };
        let parts: Vec<_> = self
            .snapshot
            .heart
            .stalled
            .iter()
            .map(|stalled| stalled.part.as_str())
            .collect();
        let after = span(Duration::from_secs(first.for_s));
        let next = if self.snapshot.heart.watchdog_ms.is_some() {
            "systemd is about to start it again"
        } else {
            "and there is no watchdog that would start it again"
        };
        let summary = format!(
            "{} has not moved for {after}: a disk or a mount does not answer; {next}.",
            first.part
        );
        DoctorRow::red(id, summary, self.hands.unit_to("restart")).with("parts", parts)
    }

    fn watching(self) -> DoctorRow {
        let (id, watch) = (Id::DaemonWatching, &self.snapshot.watch);
        let why = watch.why.as_deref().unwrap_or("it does not say why");
        let row = if let Some(failed) = &watch.last_look_failed {
            DoctorRow::red(
                id,
                format!("It cannot look for episodes: {failed}."),
                self.hands.unit_to("restart"),
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
                    let fix = watch.fix.clone().map(|fix| printable(&fix));
                    DoctorRow::yellow(
                        id,
                        summary,
                        fix.map_or_else(
                            || self.hands.unit_to("restart"),
                            |fix| self.hands.as_root(&fix).into(),
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

    fn reload(self) -> DoctorRow {
        let (id, reload) = (Id::Reload, &self.snapshot.reload);
        if let Some(failed) = &reload.failed {
            let summary =
                format!("The last reload failed, and what was read before is in force: {failed}.");
            return DoctorRow::red(id, summary, self.hands.configure("reload"));
        }
        if !reload.restart_for.is_empty() {
            let keys = reload.restart_for.join(", ");
            let summary = format!("These were changed, and only a restart applies them: {keys}.");
            return DoctorRow::yellow(id, summary, self.hands.unit_to("restart"))
                .with("keys", reload.restart_for.clone());
        }
        DoctorRow::green(id, "What is in the configuration is in force.")
    }

    fn metrics(self) -> DoctorRow {
        let id = Id::Metrics;
        let Some(why) = &self.snapshot.metrics_failed else {
            return DoctorRow::green(id, "Metrics are given out where that is set.");
        };
        let summary = format!(
            "No metrics are given out at {why}. Give shipper.metrics_listen another address, or stop what listens there, and start the daemon again."
        );
        DoctorRow::yellow(id, summary, self.hands.configure("restart"))
    }
}
