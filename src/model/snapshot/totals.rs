//! What a shipper has done since its start.

use serde::{Deserialize, Serialize};

/// What has been done since the start. Counts only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Markers seen.
    pub sealed: u64,
    /// Moved to `shipped/`.
    pub shipped: u64,
    /// Moved to `quarantine/`.
    pub quarantined: u64,
    /// Read from episodes and packed: the tar streams' length, bytes.
    pub packed_content_bytes: u64,
    /// What that became: the archives' length, bytes.
    pub packed_archive_bytes: u64,
    /// Archives that a receiver holds, bytes.
    pub delivered_bytes: u64,
    /// Sent over the wire, attempts that failed among them, bytes.
    pub sent_bytes: u64,
    /// Delivery attempts, by verdict.
    pub attempts: Attempts,
    /// How long the destination was held, the present hold among it.
    pub held_s: u64,
    /// From the marker to the receiver's acknowledgement.
    pub marker_to_delivered: Histogram,
    /// How many in `quarantine/` the clean-up will delete within a week, as of its last pass;
    /// `None` before that.
    pub quarantine_deletions_ahead: Option<u64>,
}

/// Delivery attempts, by what they came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempts {
    pub delivered: u64,
    pub conflict: u64,
    pub corrupted: u64,
    pub fatal: u64,
    pub refused: u64,
    pub hold: u64,
    pub transient: u64,
    pub unsent: u64,
}

/// A histogram of spans.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// How many.
    pub count: u64,
    /// All of them together, seconds.
    pub sum_s: f64,
    /// For each bound: how many were no longer than that, those of the bounds before it among them.
    pub buckets: Vec<Bucket>,
}

/// One bound of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Seconds.
    pub up_to_s: f64,
    /// How many.
    pub count: u64,
}
