//! Everything that the daemon knows of itself, as a [`Snapshot`] for those who ask.

use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use crate::{
    clock,
    disk::record_files,
    model::{
        records::WallTime,
        snapshot::{
            self, DestinationStatus, EpisodeState, EpisodeStatus, Heart, HoldStatus, MAX_EPISODES,
            NoticedBy, Pause, Slowed, Snapshot, Totals, TrialFinding, TrialKind, WatchStatus,
        },
    },
    ship::machine::{
        destination::upload_window::Pace,
        overview::{Glimpse, Overview, Stuck},
    },
};

fn stuck_finding(stuck: &Stuck, how: &str, layout: &super::Layout) -> TrialFinding {
    let Stuck { count, first, why } = stuck;
    let are = if *count == 1 {
        "1 episode is".to_owned()
    } else {
        format!("{count} episodes are")
    };
    let such_as = if *count == 1 { "" } else { "such as " };
    TrialFinding {
        kind: TrialKind::Stuck,
        what_to_do: format!("{are} {how}. {first}: {why}."),
        in_short: format!("{are} {how} ({such_as}{first})"),
        fix: record_files::command_in(why, layout).map(str::to_owned),
    }
}

impl Daemon {
    /// How it stands now. A walk over all episodes, and nothing that waits.
    pub(super) fn snapshot(&self) -> Snapshot {
        let (now, wall) = (Instant::now(), clock::wall_now());
        let uptime = now.duration_since(self.started);
        let overview = self.machine.overview(MAX_EPISODES, self.started.elapsed());
        let mut snapshot = Snapshot::begin(
            std::process::id(),
            &self.options.host_id,
            self.started_at_wall,
        );
        snapshot.taken_at_wall = wall;
        snapshot.uptime_s = uptime.as_secs();
        snapshot.stopping = self.stopping.is_some();
        snapshot.watch = self.watch_now(&overview, now);
        snapshot.heart = self.heart_now(now);
        snapshot.log = (self.options.log)();
        snapshot.trial = self.trial.findings.iter().map(TrialFinding::from).collect();
        let left = "copied away, with something left behind that cannot be removed";
        let stuck = [
            (&overview.stuck, "delivered and cannot be moved"),
            (&overview.rejected, "rejected and cannot be moved"),
            (&overview.left_behind, left),
            (&overview.in_the_way, "sealed and cannot be packed"),
        ];
        let layout = &self.options.layout;
        let findings = stuck.map(|(stuck, how)| Some(stuck_finding(stuck.as_ref()?, how, layout)));
        snapshot.trial.extend(findings.into_iter().flatten());
        snapshot
            .trial
            .extend(overview.kept_back.as_ref().map(|kept| self.kept_back(kept)));
        snapshot.reload.clone_from(&self.reloads);
        snapshot.metrics_failed = self.asking.metrics_failed().cloned();
        snapshot.destination = self.destination_now(&overview, now, wall);
        snapshot.packing_paused = overview.packing_paused.clone().map(|(wait, why)| Pause {
            why,
            for_s: Some(wait.as_secs()),
        });
        let stats = self.hands.workers.known.stats.lock();
        snapshot.room = stats.runway.rooms();
        snapshot.strangers = stats.strangers.clone();
        snapshot.unclear = stats.unclear.clone();
        snapshot.archives_stranded = stats.stranded;
        snapshot.left_aside = stats.left_aside.clone();
        drop(stats);
        snapshot.counts = overview.counts;
        snapshot.oldest_waiting_s = overview
            .oldest_made_ns
            .map(|made_ns| clock::age_of(made_ns).unwrap_or_default().as_secs());
        snapshot.open_files = self.hands.workers.known.open_files.shown(now);
        snapshot.shipped_changed = self.hands.workers.known.changed.shown();
        snapshot.stamps_move = overview.stamps_move.as_ref().map(ToString::to_string);
        snapshot.totals = self.totals(&overview);
        snapshot.episodes_left_out = overview.left_out;
        snapshot.episodes = overview
            .episodes
            .into_iter()
            .map(|glimpse| self.episode(glimpse, now))
            .collect();
        snapshot
    }

    /// What may not be read is given to this process's user.
    fn kept_back(&self, kept: &Stuck) -> TrialFinding {
        let mut finding = stuck_finding(
            kept,
            "kept back by a fault of this host",
            &self.options.layout,
        );
        if finding.fix.is_none() && kept.why.contains("(os error 13)") {
            let us = rustix::process::geteuid().as_raw();
            let episode = self.options.layout.episode(&kept.first);
            finding.fix = Some(record_files::give(&episode, us));
        }
        finding
    }

    fn watch_now(&self, overview: &Overview, now: Instant) -> WatchStatus {
        let trouble = self.hands.watch_trouble();
        let looked = self.hands.workers.known.stats.lock().last_scan.clone();
        let mode = match (self.inotify, overview.blind) {
            (false, _) => NoticedBy::ReconcileOnly,
            (true, true) => NoticedBy::Blind,
            (true, false) => NoticedBy::Inotify,
        };
        let why = match mode {
            NoticedBy::Blind => trouble.as_ref().map(|trouble| trouble.why.clone()),
            NoticedBy::ReconcileOnly => self.watch_why.clone(),
            NoticedBy::Inotify | NoticedBy::Other => None,
        };
        WatchStatus {
            mode,
            why,
            fix: trouble.and_then(|trouble| trouble.fix),
            overflows: self.overflows,
            reconcile_interval_s: overview.reconcile_interval.as_secs(),
            last_look_ago_s: looked
                .at
                .map(|at| now.saturating_duration_since(at).as_secs()),
            last_look_failed: looked.failed,
        }
    }

    fn heart_now(&self, now: Instant) -> Heart {
        Heart {
            beats: self.stalled.is_empty(),
            last_beat_ago_s: self
                .last_beat
                .map(|at| now.saturating_duration_since(at).as_secs()),
            interval_ms: clock::milliseconds(self.beat_every),
            watchdog_ms: self.options.watchdog.map(clock::milliseconds),
            notified: self.options.notifier.is_heard(),
            stalled: self
                .stalled
                .iter()
                .map(|stalled| snapshot::StalledPart {
                    part: stalled.part.to_string(),
                    episode_id: stalled.part.id.as_ref().map(|id| id.as_str().to_owned()),
                    for_s: stalled.since.as_secs(),
                })
                .collect(),
        }
    }

    fn destination_now(
        &self,
        overview: &Overview,
        now: Instant,
        wall: WallTime,
    ) -> DestinationStatus {
        let pace = overview.pace;
        let machine_now = self.started.elapsed();
        let known = &self.hands.workers.known;
        let heard = known.server_clock();
        let since = |at: Duration| machine_now.saturating_sub(at).as_secs();
        DestinationStatus {
            url: self.hands.workers.transport.shown_url(),
            held: self.machine.destination().hold().map(|hold| HoldStatus {
                for_s: since(hold.since),
                why: hold.why.detail.clone(),
                status_code: hold.why.status,
                weather: hold.weather,
                idle: !overview.has_to_send,
                suspect: (self.machine.destination().deliveries() > 0)
                    .then(|| hold.suspect.as_ref().map(|id| id.as_str().to_owned()))
                    .flatten(),
                next_probe_in_s: hold.next_probe.saturating_sub(machine_now).as_secs(),
            }),
            closed_until: match pace {
                Some(Pace::Closed(until)) => Some(until.to_string()),
                Some(Pace::Free | Pace::AtMost(_)) | None => None,
            },
            limit_bytes_per_s: match pace {
                Some(Pace::AtMost(limit)) => Some(limit.get()),
                Some(Pace::Free | Pace::Closed(_)) | None => None,
            },
            unanswered: overview.unanswered as u64,
            slowed: overview.slowed.map(|(at_once, next)| Slowed {
                at_once: at_once as u64,
                next_in_s: next
                    .as_millis()
                    .div_ceil(1000)
                    .try_into()
                    .unwrap_or(u64::MAX),
            }),
            last_delivery_ago_s: self.ledger.last_delivery.map(since),
            clock_ahead_s: heard.map(|clock| {
                let theirs = clock.date.after(now.saturating_duration_since(clock.heard));
                theirs.unix_seconds().saturating_sub(wall.unix_seconds())
            }),
            clock_heard_ago_s: heard
                .map(|clock| now.saturating_duration_since(clock.heard).as_secs()),
        }
    }

    fn episode(&self, glimpse: Glimpse, now: Instant) -> EpisodeStatus {
        let Glimpse {
            id,
            state,
            made_ns,
            why,
            again_in,
            size_bytes,
        } = glimpse;
        let upload = (state == EpisodeState::Uploading)
            .then(|| self.hands.upload(&id, now))
            .flatten();
        let left_bytes = upload
            .zip(size_bytes)
            .map(|(upload, size)| size.saturating_sub(upload.sent_bytes));
        let bytes_per_s = upload.map(|upload| upload.bytes_per_s);
        EpisodeStatus {
            id: id.as_str().to_owned(),
            state,
            sealed_at_wall: made_ns
                .map(|ns| WallTime::from_unix_seconds(ns.div_euclid(1_000_000_000))),
            why,
            again_in_s: again_in.map(|wait| wait.as_secs()),
            size_bytes,
            sent_bytes: upload.map(|upload| upload.sent_bytes),
            bytes_per_s,
            left_s: left_bytes
                .zip(bytes_per_s)
                .and_then(|(left, rate)| left.checked_div(rate)),
        }
    }

    fn totals(&self, overview: &Overview) -> Totals {
        let stats = self.hands.workers.known.stats.lock();
        Totals {
            sealed: self.ledger.sealed,
            shipped: self.ledger.shipped,
            quarantined: self.ledger.quarantined,
            packed_content_bytes: stats.packed_content_bytes,
            packed_archive_bytes: self.ledger.packed_archive_bytes,
            delivered_bytes: self.ledger.delivered_bytes,
            sent_bytes: self.hands.sent_bytes(),
            attempts: overview.attempts,
            held_s: overview.held.as_secs(),
            marker_to_delivered: self.ledger.marker_to_delivered(),
            quarantine_deletions_ahead: stats.deletions_ahead,
        }
    }
}
