//! The snapshot as Prometheus' text (exposition format 0.0.4). Pure. docs/metrics.md lists every
//! name; a test holds the two together.

use crate::model::{
    exposition::{Exposition, ExpositionFormat},
    snapshot::{NoticedBy, Snapshot},
};

/// In which it is told: node_exporter's textfile collector reads no other.
pub(crate) const FORMAT: ExpositionFormat = ExpositionFormat::Text;

const FAMILIES: &str = "\
build_info gauge The program that runs, by its version; always 1.
start_time_seconds gauge When the process started, Unix time.
last_heartbeat_timestamp_seconds gauge When every part of it was last seen to move, Unix time.
stalled_parts gauge Parts that have shown nothing for longer than they may.
log_lines_dropped_total counter Lines of the log that were not taken, and that could be kept no longer.
log_stuck_seconds gauge For how long the line that is being written has not been taken; 0 where they are taken as they come.
start_trial_findings gauge Moves that did not work when they were tried at the start.
reload_failed gauge Whether the last reload failed, and the old configuration is kept.
episodes gauge Episodes in episodes/, by state.
oldest_waiting_seconds gauge How long the oldest sealed episode waits for its delivery; 0 where none does.
strangers gauge Names in episodes/ that can be no episodes, and are left alone.
episodes_sealed_total counter Markers seen.
episodes_shipped_total counter Episodes moved to shipped/.
episodes_quarantined_total counter Episodes moved to quarantine/.
quarantine_episodes gauge Episodes in quarantine/.
quarantine_deletions_ahead gauge Episodes in quarantine/ that the clean-up will delete within a week.
packed_content_bytes_total counter Read from episodes and packed, before compression.
packed_archive_bytes_total counter The same after compression.
compression_ratio gauge Bytes before compression for each byte after it, since the start.
sent_bytes_total counter Sent to the receiver, failed attempts among it.
delivered_bytes_total counter Archives that a receiver holds.
attempts_total counter Delivery attempts, by what they came to.
marker_to_delivered_seconds histogram From the marker to the receiver's acknowledgement.
destination_held gauge Whether the receiver is held: not sent to, but for probes.
destination_held_seconds_total counter How long the receiver was held, all holds together.
upload_window_closed gauge Whether it is outside every upload window: nothing is sent.
bandwidth_limit_bytes_per_second gauge What all uploads together are limited to just now.
last_delivery_timestamp_seconds gauge When a receiver last took an episode, Unix time.
receiver_clock_ahead_seconds gauge How far the receiver's clock is ahead of ours; negative: behind.
watch_overflows_total counter How often events were lost, or may have been.
watch_blind gauge Whether watches cannot be had, and episodes are looked for instead.
packing_paused gauge Whether packing pauses, since the outbox cannot be written.
filesystem_free_bytes gauge Room in the file system of each folder.
filesystem_size_bytes gauge Size of the file system of each folder.
filesystem_free_files gauge Files that can still be made in the file system of each folder.";

/// Everything that is known just now.
pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut text = Exposition::new("sealift", FAMILIES, FORMAT);
    process(&mut text, snapshot);
    episodes(&mut text, snapshot);
    deliveries(&mut text, snapshot);
    around(&mut text, snapshot);
    text.into_text()
}

fn process(text: &mut Exposition, snapshot: &Snapshot) {
    let Snapshot { heart, log, .. } = snapshot;
    let taken = snapshot.taken_at_wall.unix_seconds();
    text.labelled("build_info", [([("version", snapshot.version.clone())], 1)]);
    let started = snapshot.started_at_wall.unix_seconds();
    text.value("start_time_seconds", started);
    let beat = heart
        .last_beat_ago_s
        .map(|ago| taken.saturating_sub_unsigned(ago));
    text.known("last_heartbeat_timestamp_seconds", beat);
    text.value("stalled_parts", heart.stalled.len());
    text.value("log_lines_dropped_total", log.lines_dropped);
    text.value("log_stuck_seconds", log.stuck_for_s.unwrap_or(0));
    text.value("start_trial_findings", snapshot.trial.len());
    let failed = snapshot.reload.failed.is_some();
    text.value("reload_failed", u8::from(failed));
}

fn episodes(text: &mut Exposition, snapshot: &Snapshot) {
    let Snapshot { counts, totals, .. } = snapshot;
    let states = [
        ("open", counts.open),
        ("sealed", counts.sealed),
        ("packing", counts.packing),
        ("ready", counts.ready),
        ("uploading", counts.uploading),
        ("waiting", counts.waiting),
        ("refused", counts.refused),
        ("conflict", counts.conflict),
        ("moving", counts.moving),
    ];
    text.labelled("episodes", by("state", states));
    let oldest = snapshot.oldest_waiting_s.unwrap_or(0);
    text.value("oldest_waiting_seconds", oldest);
    text.value("strangers", snapshot.strangers.count);
    text.value("episodes_sealed_total", totals.sealed);
    text.value("episodes_shipped_total", totals.shipped);
    text.value("episodes_quarantined_total", totals.quarantined);
    text.known("quarantine_episodes", snapshot.filed.quarantined);
    let ahead = totals.quarantine_deletions_ahead;
    text.known("quarantine_deletions_ahead", ahead);
}

fn deliveries(text: &mut Exposition, snapshot: &Snapshot) {
    let Snapshot {
        totals,
        destination,
        ..
    } = snapshot;
    let (content, archive) = (totals.packed_content_bytes, totals.packed_archive_bytes);
    text.value("packed_content_bytes_total", content);
    text.value("packed_archive_bytes_total", archive);
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = (archive > 0).then(|| content as f64 / archive as f64);
    text.known("compression_ratio", ratio);
    text.value("sent_bytes_total", totals.sent_bytes);
    text.value("delivered_bytes_total", totals.delivered_bytes);
    let attempts = &totals.attempts;
    let verdicts = [
        ("delivered", attempts.delivered),
        ("conflict", attempts.conflict),
        ("corrupted", attempts.corrupted),
        ("fatal", attempts.fatal),
        ("refused", attempts.refused),
        ("hold", attempts.hold),
        ("transient", attempts.transient),
        ("unsent", attempts.unsent),
    ];
    text.labelled("attempts_total", by("verdict", verdicts));
    let histogram = &totals.marker_to_delivered;
    let buckets = histogram.buckets.iter();
    let buckets = buckets.map(|bucket| (bucket.up_to_s, bucket.count));
    text.family("marker_to_delivered_seconds");
    let sums = (histogram.sum_s, histogram.count);
    text.histogram("marker_to_delivered_seconds", None, buckets, sums);
    let held = destination.held.is_some();
    text.value("destination_held", u8::from(held));
    text.value("destination_held_seconds_total", totals.held_s);
    let closed = destination.closed_until.is_some();
    text.value("upload_window_closed", u8::from(closed));
    let limit = destination.limit_bytes_per_s;
    text.known("bandwidth_limit_bytes_per_second", limit);
    let taken = snapshot.taken_at_wall.unix_seconds();
    let delivered = destination.last_delivery_ago_s;
    let delivered = delivered.map(|ago| taken.saturating_sub_unsigned(ago));
    text.known("last_delivery_timestamp_seconds", delivered);
    text.known("receiver_clock_ahead_seconds", destination.clock_ahead_s);
}

fn around(text: &mut Exposition, snapshot: &Snapshot) {
    text.value("watch_overflows_total", snapshot.watch.overflows);
    let blind = snapshot.watch.mode == NoticedBy::Blind;
    text.value("watch_blind", u8::from(blind));
    let paused = snapshot.packing_paused.is_some();
    text.value("packing_paused", u8::from(paused));
    let each = || {
        let rooms = snapshot.room.iter();
        rooms.flat_map(|room| room.folders.iter().map(move |folder| (&**folder, room)))
    };
    let free = each().map(|(folder, room)| (folder, room.free_bytes));
    text.labelled("filesystem_free_bytes", by("folder", free));
    let size = each().map(|(folder, room)| (folder, room.total_bytes));
    text.labelled("filesystem_size_bytes", by("folder", size));
    let files = each().filter_map(|(folder, room)| Some((folder, room.free_files?)));
    text.labelled("filesystem_free_files", by("folder", files));
}

fn by<'a>(
    label: &'static str,
    samples: impl IntoIterator<Item = (&'a str, u64)>,
) -> impl Iterator<Item = ([(&'static str, String); 1], u64)> {
    let samples = samples.into_iter();
    samples.map(move |(text, value)| ([(label, text.to_owned())], value))
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
        snapshot.filed.quarantined = Some(4);
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
            "sealift_quarantine_episodes 4",
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
            "quarantine_episodes",
            "deletions_ahead",
        ] {
            assert!(!nothing_yet.contains(name), "{name}: {nothing_yet}");
        }
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
