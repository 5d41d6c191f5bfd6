//! What has been done since the start, out of the notices: for `status` and the metrics.

use std::time::Duration;

use crate::{
    model::snapshot::{Bucket, Histogram},
    ship::machine::Notice,
};

/// From a small episode on a fast disk to one that has waited for a day.
const UP_TO_S: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0,
    28_800.0, 86_400.0,
];

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Markers seen.
    pub sealed: u64,
    /// Moved to `shipped/`.
    pub shipped: u64,
    /// Moved to `quarantine/`.
    pub quarantined: u64,
    /// Archives packed, bytes.
    pub packed_archive_bytes: u64,
    /// Archives that a receiver holds, bytes.
    pub delivered_bytes: u64,
    /// When a receiver last took one, by the machine's time.
    pub last_delivery: Option<Duration>,
    spans: Spans,
}

/// Not cumulative yet.
#[derive(Debug, Default)]
struct Spans {
    counts: [u64; UP_TO_S.len()],
    count: u64,
    sum: Duration,
}

impl Ledger {
    /// Takes note. `age` is how long the episode that it speaks of has been sealed, where that is
    /// known; `now` is the machine's time.
    pub(crate) fn note(&mut self, notice: &Notice, age: Option<Duration>, now: Duration) {
        match notice {
            Notice::Sealed(..) => self.sealed += 1,
            Notice::Packed(_, facts) => self.packed_archive_bytes += facts.size_bytes,
            Notice::Delivered(_, facts, _) => {
                self.delivered_bytes += facts.size_bytes;
                self.last_delivery = Some(now);
                if let Some(age) = age {
                    self.spans.note(age);
                }
            }
            Notice::Retired(..) => self.shipped += 1,
            Notice::Quarantined(..) => self.quarantined += 1,
            _ => {}
        }
    }

    /// From the marker to the receiver's acknowledgement.
    pub(crate) fn marker_to_delivered(&self) -> Histogram {
        let mut below = 0;
        let buckets = UP_TO_S
            .iter()
            .zip(self.spans.counts)
            .map(|(up_to_s, count)| {
                below += count;
                Bucket {
                    up_to_s: *up_to_s,
                    count: below,
                }
            });
        let buckets = buckets.collect();
        Histogram {
            count: self.spans.count,
            sum_s: self.spans.sum.as_secs_f64(),
            buckets,
        }
    }
}

impl Spans {
    fn note(&mut self, span: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(span);
        if let Some(at) = UP_TO_S
            .iter()
            .position(|up_to_s| span.as_secs_f64() <= *up_to_s)
        {
            self.counts[at] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_span_is_in_its_bucket_and_in_all_that_are_larger() {
        let mut ledger = Ledger::default();
        for ms in [3, 5, 6, 99, 3_600_000, 999_999_999] {
            ledger.spans.note(Duration::from_millis(ms));
        }
        let told = ledger.marker_to_delivered();
        let up_to = |s: f64| {
            told.buckets
                .iter()
                .find(|bucket| bucket.up_to_s == s)
                .unwrap()
                .count
        };
        assert_eq!(
            (up_to(0.005), up_to(0.01), up_to(0.1), up_to(1800.0)),
            (2, 3, 4, 4)
        );
        assert_eq!((up_to(7200.0), up_to(86_400.0), told.count), (5, 5, 6));
        assert!(
            told.buckets
                .is_sorted_by(|a, b| a.up_to_s < b.up_to_s && a.count <= b.count)
        );
    }
}
