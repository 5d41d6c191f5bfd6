//! The snapshot as Prometheus' text (exposition format 0.0.4). Pure. docs/metrics.md lists every
//! name; a test holds the two together.
//!
//! Not by prometheus-client, which writes OpenMetrics alone: there a counter's TYPE line leaves out
//! `_total`, which node_exporter's textfile collector and `promtool check metrics` do not read.
//! Prometheus itself reads either.

use std::fmt::{Display, Write as _};

use crate::model::snapshot::{NoticedBy, Snapshot};

/// What it is.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is known just now.
#[must_use]
pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text(String::with_capacity(8 * 1024));
    process(&mut text, snapshot);
    episodes(&mut text, snapshot);
    deliveries(&mut text, snapshot);
    around(&mut text, snapshot);
    text.0
}

fn process(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot {
        started_at_wall,
        taken_at_wall,
        heart,
        log,
        reload,
        trial,
        ..
    } = snapshot;
    let taken = taken_at_wall.unix_seconds();
    text.family(
        "build_info",
        "gauge",
        "The program that runs, by its version; always 1.",
    );
    text.labelled("build_info", &[("version", &snapshot.version)], 1);
    text.gauge(
        "start_time_seconds",
        "When the process started, Unix time.",
        started_at_wall.unix_seconds(),
    );
    let beat = heart
        .last_beat_ago_s
        .map(|ago| taken.saturating_sub_unsigned(ago));
    text.known(
        "last_heartbeat_timestamp_seconds",
        "When every part of it was last seen to move, Unix time.",
        beat,
    );
    text.gauge(
        "stalled_parts",
        "Parts that have shown nothing for longer than they may.",
        heart.stalled.len(),
    );
    text.counter(
        "log_lines_dropped_total",
        "Lines of the log that were not taken, and that could be kept no longer.",
        log.lines_dropped,
    );
    text.gauge(
        "log_stuck_seconds",
        "For how long the line that is being written has not been taken; 0 where they are taken as they come.",
        log.stuck_for_s.unwrap_or(0),
    );
    text.gauge(
        "start_trial_findings",
        "Moves that did not work when they were tried at the start.",
        trial.len(),
    );
    let failed = u8::from(reload.failed.is_some());
    text.gauge(
        "reload_failed",
        "Whether the last reload failed, and the old configuration is kept.",
        failed,
    );
}

fn episodes(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot { counts, totals, .. } = snapshot;
    text.family("episodes", "gauge", "Episodes in episodes/, by state.");
    for (state, count) in [
        ("open", counts.open),
        ("sealed", counts.sealed),
        ("packing", counts.packing),
        ("ready", counts.ready),
        ("uploading", counts.uploading),
        ("waiting", counts.waiting),
        ("refused", counts.refused),
        ("conflict", counts.conflict),
        ("moving", counts.moving),
    ] {
        text.labelled("episodes", &[("state", state)], count);
    }
    text.gauge(
        "oldest_waiting_seconds",
        "How long the oldest sealed episode waits for its delivery; 0 where none does.",
        snapshot.oldest_waiting_s.unwrap_or(0),
    );
    text.gauge(
        "strangers",
        "Names in episodes/ that can be no episodes, and are left alone.",
        snapshot.strangers.count,
    );
    text.counter("episodes_sealed_total", "Markers seen.", totals.sealed);
    text.counter(
        "episodes_shipped_total",
        "Episodes moved to shipped/.",
        totals.shipped,
    );
    text.counter(
        "episodes_quarantined_total",
        "Episodes moved to quarantine/.",
        totals.quarantined,
    );
    text.known(
        "quarantine_deletions_ahead",
        "Episodes in quarantine/ that the clean-up will delete within a week.",
        totals.quarantine_deletions_ahead,
    );
}

fn deliveries(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot {
        totals,
        destination,
        taken_at_wall,
        ..
    } = snapshot;
    let (content, archive) = (totals.packed_content_bytes, totals.packed_archive_bytes);
    text.counter(
        "packed_content_bytes_total",
        "Read from episodes and packed, before compression.",
        content,
    );
    text.counter(
        "packed_archive_bytes_total",
        "The same after compression.",
        archive,
    );
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = (archive > 0).then(|| content as f64 / archive as f64);
    text.known(
        "compression_ratio",
        "Bytes before compression for each byte after it, since the start.",
        ratio,
    );
    text.counter(
        "sent_bytes_total",
        "Sent to the receiver, failed attempts among it.",
        totals.sent_bytes,
    );
    text.counter(
        "delivered_bytes_total",
        "Archives that a receiver holds.",
        totals.delivered_bytes,
    );
    let attempts = &totals.attempts;
    text.family(
        "attempts_total",
        "counter",
        "Delivery attempts, by what they came to.",
    );
    for (verdict, count) in [
        ("delivered", attempts.delivered),
        ("conflict", attempts.conflict),
        ("corrupted", attempts.corrupted),
        ("fatal", attempts.fatal),
        ("refused", attempts.refused),
        ("hold", attempts.hold),
        ("transient", attempts.transient),
        ("unsent", attempts.unsent),
    ] {
        text.labelled("attempts_total", &[("verdict", verdict)], count);
    }
    histogram(text, snapshot);
    let held = u8::from(destination.held.is_some());
    text.gauge(
        "destination_held",
        "Whether the receiver is held: not sent to, but for probes.",
        held,
    );
    text.counter(
        "destination_held_seconds_total",
        "How long the receiver was held, all holds together.",
        totals.held_s,
    );
    let closed = u8::from(destination.closed_until.is_some());
    text.gauge(
        "upload_window_closed",
        "Whether it is outside every upload window: nothing is sent.",
        closed,
    );
    text.known(
        "bandwidth_limit_bytes_per_second",
        "What all uploads together are limited to just now.",
        destination.limit_bytes_per_s,
    );
    let delivered = destination.last_delivery_ago_s;
    let delivered = delivered.map(|ago| taken_at_wall.unix_seconds().saturating_sub_unsigned(ago));
    text.known(
        "last_delivery_timestamp_seconds",
        "When a receiver last took an episode, Unix time.",
        delivered,
    );
    text.known(
        "receiver_clock_ahead_seconds",
        "How far the receiver's clock is ahead of ours; negative: behind.",
        destination.clock_ahead_s,
    );
}

fn histogram(text: &mut Text, snapshot: &Snapshot) {
    let name = "marker_to_delivered_seconds";
    let histogram = &snapshot.totals.marker_to_delivered;
    text.family(
        name,
        "histogram",
        "From the marker to the receiver's acknowledgement.",
    );
    for bucket in &histogram.buckets {
        let up_to = bucket.up_to_s.to_string();
        text.labelled(&format!("{name}_bucket"), &[("le", &up_to)], bucket.count);
    }
    text.labelled(
        &format!("{name}_bucket"),
        &[("le", "+Inf")],
        histogram.count,
    );
    text.labelled(&format!("{name}_sum"), &[], histogram.sum_s);
    text.labelled(&format!("{name}_count"), &[], histogram.count);
}

fn around(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot {
        watch,
        room,
        packing_paused,
        ..
    } = snapshot;
    text.counter(
        "watch_overflows_total",
        "How often events were lost, or may have been.",
        watch.overflows,
    );
    let blind = u8::from(watch.mode == NoticedBy::Blind);
    text.gauge(
        "watch_blind",
        "Whether watches cannot be had, and episodes are looked for instead.",
        blind,
    );
    let paused = u8::from(packing_paused.is_some());
    text.gauge(
        "packing_paused",
        "Whether packing pauses, since the outbox cannot be written.",
        paused,
    );
    text.family(
        "filesystem_free_bytes",
        "gauge",
        "Room in the file system of each folder.",
    );
    let each = || {
        room.iter()
            .flat_map(|room| room.folders.iter().map(move |folder| (folder, room)))
    };
    for (folder, room) in each() {
        text.labelled(
            "filesystem_free_bytes",
            &[("folder", folder)],
            room.free_bytes,
        );
    }
    text.family(
        "filesystem_size_bytes",
        "gauge",
        "Size of the file system of each folder.",
    );
    for (folder, room) in each() {
        text.labelled(
            "filesystem_size_bytes",
            &[("folder", folder)],
            room.total_bytes,
        );
    }
    text.family(
        "filesystem_free_files",
        "gauge",
        "Files that can still be made in the file system of each folder.",
    );
    for (folder, room) in each() {
        if let Some(free_files) = room.free_files {
            text.labelled("filesystem_free_files", &[("folder", folder)], free_files);
        }
    }
}

/// Writing to a string does not fail, and so nothing here can.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP sealift_{name} {help}\n# TYPE sealift_{name} {kind}"
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.labelled(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.labelled(name, &[], value);
    }

    /// Nothing is written of what is not known.
    fn known(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.gauge(name, help, value);
        }
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "sealift_{name}");
        let mut before = '{';
        for (label, text) in labels {
            let text = text
                .replace('\\', r"\\")
                .replace('"', r#"\""#)
                .replace('\n', r"\n");
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
            before = ',';
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{
        records::WallTime,
        snapshot::{Bucket, Histogram, RoomStatus},
    };

    /// One in which everything is known.
    fn full() -> Snapshot {
        let mut snapshot = Snapshot::begin(7, "lab-07", WallTime::from_unix_seconds(1_800_000_000));
        snapshot.taken_at_wall = WallTime::from_unix_seconds(1_800_000_100);
        snapshot.heart.last_beat_ago_s = Some(40);
        snapshot.oldest_waiting_s = Some(61);
        snapshot.destination.last_delivery_ago_s = Some(30);
        snapshot.destination.clock_ahead_s = Some(-2);
        snapshot.destination.limit_bytes_per_s = Some(250_000);
        snapshot.totals.packed_content_bytes = 300;
        snapshot.totals.packed_archive_bytes = 200;
        snapshot.totals.quarantine_deletions_ahead = Some(3);
        snapshot.totals.marker_to_delivered = Histogram {
            count: 2,
            sum_s: 0.75,
            buckets: vec![Bucket {
                up_to_s: 0.5,
                count: 1,
            }],
        };
        snapshot.room = vec![RoomStatus {
            folders: vec!["episodes".to_owned(), "outbox".to_owned()],
            path: "/d/episodes".to_owned(),
            free_bytes: 5,
            free_files: Some(7),
            total_bytes: 9,
            filling_bytes_per_s: None,
            lasts_s: None,
        }];
        snapshot
    }

    #[test]
    fn what_is_known_is_written_and_what_is_not_is_left_out() {
        let text = text(&full());
        for line in [
            "# TYPE sealift_attempts_total counter",
            "sealift_attempts_total{verdict=\"hold\"} 0",
            "sealift_last_heartbeat_timestamp_seconds 1800000060",
            "sealift_last_delivery_timestamp_seconds 1800000070",
            "sealift_receiver_clock_ahead_seconds -2",
            "sealift_upload_window_closed 0",
            "sealift_bandwidth_limit_bytes_per_second 250000",
            "sealift_compression_ratio 1.5",
            "sealift_marker_to_delivered_seconds_bucket{le=\"0.5\"} 1",
            "sealift_marker_to_delivered_seconds_bucket{le=\"+Inf\"} 2",
            "sealift_marker_to_delivered_seconds_sum 0.75",
            "sealift_filesystem_free_bytes{folder=\"outbox\"} 5",
        ] {
            assert!(
                text.lines().any(|has| has == line),
                "{line} is not in\n{text}"
            );
        }
        let nothing_yet = super::text(&Snapshot::begin(
            7,
            "lab-07",
            WallTime::from_unix_seconds(0),
        ));
        for name in [
            "last_heartbeat",
            "last_delivery",
            "clock_ahead",
            "compression_ratio",
            "deletions_ahead",
        ] {
            assert!(!nothing_yet.contains(name), "{name}: {nothing_yet}");
        }
    }

    #[test]
    fn a_label_cannot_end_its_line() {
        let mut text = Text(String::new());
        text.labelled("a", &[("b", "c\"d\\e\nf")], 1);
        assert_eq!(text.0, "sealift_a{b=\"c\\\"d\\\\e\\nf\"} 1\n");
    }

    #[test]
    fn every_metric_is_in_the_documents_with_its_type_and_no_other_is() {
        let text = text(&full());
        let families = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let written: BTreeMap<_, _> = families.collect();
        let documents = include_str!("../../../docs/metrics.md");
        let rows = documents.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `sealift_")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`').split('{').next()?;
            Some((
                format!("sealift_{}", name.trim_end_matches('`')),
                cells.next()?.to_owned(),
            ))
        });
        let documented: BTreeMap<_, _> = rows.collect();
        let documented: BTreeMap<_, _> = documented
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(documented, written);
    }
}
