//! The three JSON files that the shipper writes: the sidecar in the outbox, the receipt in
//! `shipped/`, the reason in `quarantine/`. These types are what is on disk; what is in memory has
//! its own.
//!
//! Readers are lenient: a member that is missing (written by an older shipper) or unknown (by a
//! newer one) is no error.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::model::episode::{Digest, EpisodeId, Fingerprint, FolderId};

/// What is known of a packed archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFacts {
    /// Digest of the archive's bytes: the integrity of a transfer.
    pub sha256: Digest,
    /// Digest of the tar stream inside: the identity of the episode.
    pub content_sha256: Digest,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
}

/// `outbox/<id>.json`. It spares work (packing) and repeats (a conflict is not sent again); it
/// never says that something was delivered, and losing it costs one packing and one PUT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sidecar {
    /// Whose archive it describes.
    pub episode_id: EpisodeId,
    /// The archive beside it.
    #[serde(flatten)]
    pub facts: ArchiveFacts,
    /// What the episode looked like when it was packed.
    pub fingerprint: Fingerprint,
    /// Which directory that was; older sidecars do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<FolderId>,
    /// Whether the marker's manifest was there and agreed with what was read.
    pub manifest: ManifestCheck,
    /// The commit in `meta.json`, sent along with every attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The last verdict that a restart must remember.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RecordedVerdict>,
    /// Files that were open for writing when it was packed, and had been for longer than
    /// `pack.open_files_wait_s`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_files: Vec<String>,
    /// When it was last sent in vain, UTC. What was not tried goes before what was; losing this
    /// costs nothing but that order.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "stamp_or_none"
    )]
    pub tried_at_wall: Option<WallTime>,
}

/// The name under which a conflict is remembered in a sidecar.
pub(crate) const CONFLICT: &str = "conflict";

/// The verdict in the reason of an archive that was put aside: there is no episode beside it.
pub(crate) const ORPHAN: &str = "orphan";

/// In the reason of one whose episode is nowhere.
pub(crate) const LAST_COPY: &str = "it may be the last copy";

/// In the reason of one whose episode was changed or replaced since.
pub(crate) const NOTHING_ELSE: &str = "nothing else has these bytes";

impl Sidecar {
    /// The conflict that it remembers, where it does.
    pub(crate) fn conflict(&self) -> Option<&RecordedVerdict> {
        self.verdict
            .as_ref()
            .filter(|recorded| recorded.verdict == CONFLICT)
    }
}

/// What a conflict says of the receiver. Only a 409 says it for certain.
pub(crate) fn holds_other_content(status: Option<u16>) -> &'static str {
    match status {
        Some(409) => "the receiver holds other content under this name",
        Some(_) | None => "the receiver may hold other content under this name",
    }
}

/// A verdict that outlives the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedVerdict {
    /// `conflict`: the receiver holds other content under this id, or may.
    pub verdict: String,
    /// The HTTP status.
    pub status_code: u16,
    /// What the receiver said, in a sentence.
    pub detail: String,
    /// When, UTC.
    pub at_wall: WallTime,
    /// Who said it: its address, without a query. Another receiver has not. `None` where an older
    /// shipper wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// A mark of all that leads there, its query and the configured headers among it: one host may
    /// keep several stores apart by those. `None` where an older shipper wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
}

/// Who has said something: a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedReceiver {
    /// Its address, without a query.
    pub receiver: String,
    /// A mark of all that leads there.
    pub mark: String,
}

/// Whether an episode came with a manifest, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestCheck {
    /// Every file read was in the manifest with its size and digest, and none was missing.
    Verified,
    /// The marker carried no manifest.
    None,
}

/// `shipped/<id>/shipping_receipt.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShippingReceipt {
    /// The episode.
    pub episode_id: EpisodeId,
    /// Digest of the archive that was delivered.
    pub sha256: Digest,
    /// Digest of the tar stream inside it.
    pub content_sha256: Digest,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
    /// 200, 201 or 204.
    pub status_code: u16,
    /// The address it was delivered to.
    pub receiver: String,
    /// When the answer came, UTC.
    pub delivered_at_wall: WallTime,
    /// Whether what was delivered agreed with the recorder's manifest.
    pub manifest: ManifestCheck,
    /// The receiver's own receipt, verbatim; null for a receiver that gives none.
    pub receipt: Value,
    /// What the episode looked like when it was packed; older receipts do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// Files that were open for writing when it was packed, and had been for longer than
    /// `pack.open_files_wait_s`: what was delivered of them may not be all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_files: Vec<String>,
    /// The permission bits of everything that was packed, in the archive's order (`tree/modes.rs`).
    /// Left out where they change too often, and by older shippers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<String>,
    /// What its age is counted by; older receipts do not say.
    #[serde(
        default,
        deserialize_with = "or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub aging: Option<Aging>,
    /// Whether it was written to after it was moved here, where its contents had to be read to
    /// tell: that is done once.
    #[serde(
        default,
        deserialize_with = "or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub written_to_since: Option<bool>,
}

#[cfg(test)]
impl ShippingReceipt {
    /// That of an episode of 10 bytes which a receiver without receipts took.
    pub(crate) fn example(id: &str) -> Self {
        Self {
            episode_id: EpisodeId::parse(id).unwrap(),
            sha256: Digest([1; 32]),
            content_sha256: Digest([2; 32]),
            size_bytes: 10,
            status_code: 201,
            receiver: "http://r/v1/episodes/a".to_owned(),
            delivered_at_wall: WallTime::from_unix_seconds(1_800_000_000),
            manifest: ManifestCheck::None,
            receipt: Value::Null,
            fingerprint: None,
            open_files: Vec::new(),
            modes: None,
            aging: None,
            written_to_since: None,
        }
    }
}

/// What the age of a directory in `shipped/` or `quarantine/` is counted by, beside the stamp in
/// its record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Aging {
    /// The clock that wrote the stamp could be believed then.
    pub clock_believed: bool,
    /// Where it could not: the first moment at which a clock could be believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_from_wall: Option<WallTime>,
    /// Since when its removal is announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announced_at_wall: Option<WallTime>,
}

/// `quarantine/<id>/quarantine_reason.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QuarantineReason {
    /// The episode's own name, which its directory's may differ from (`<id>~1`).
    #[serde(default, deserialize_with = "or_none")]
    pub episode_id: Option<String>,
    /// The HTTP status; null where there was no response.
    #[serde(default, deserialize_with = "or_none")]
    pub status_code: Option<u16>,
    /// What is wrong, in a sentence.
    #[serde(default, deserialize_with = "or_none")]
    pub error: Option<String>,
    /// What the receiver said: JSON where it was.
    #[serde(default)]
    pub body: Value,
    /// The verdict's name.
    #[serde(default, deserialize_with = "or_none")]
    pub verdict: Option<String>,
    /// When, UTC.
    #[serde(default, deserialize_with = "stamp_or_none")]
    pub quarantined_at_wall: Option<WallTime>,
    /// What its age is counted by; older reasons do not say.
    #[serde(
        default,
        deserialize_with = "or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub aging: Option<Aging>,
}

/// A member in a form that is not known is taken for missing: it must not make the rest unreadable.
fn or_none<'de, T: DeserializeOwned, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// The forms of a stamp that shippers in Python have written: RFC 3339 with `Z` or an offset, the
/// same without either (UTC was meant), with a space for the `T`, and seconds after 1970, with a
/// fraction.
fn stamp_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<WallTime>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => {
            let zoned = text.parse::<Timestamp>().ok();
            let civil = || {
                TimeZone::UTC
                    .to_timestamp(text.parse::<DateTime>().ok()?)
                    .ok()
            };
            zoned
                .or_else(civil)
                .map(|stamp| WallTime(stamp.as_second()))
        }
        Value::Number(seconds) => {
            let within_range = |seconds: &f64| (0.0..1e11).contains(seconds);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within range, and the fraction is not wanted"
            )]
            seconds
                .as_f64()
                .filter(within_range)
                .map(|seconds| WallTime(seconds as i64))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// A moment of the wall clock, to the second, as `YYYY-MM-DDTHH:MM:SSZ` (RFC 3339, UTC).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(i64);

/// The release of this program. No true stamp is older: where a clock says so, it had lost the
/// time.
pub(crate) const RELEASED: WallTime = WallTime(1_793_491_200); // 2026-11-01T00:00:00Z

impl WallTime {
    /// So many whole seconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Whole seconds after 1970-01-01T00:00:00Z.
    pub const fn unix_seconds(self) -> i64 {
        self.0
    }

    /// So much later, to the second.
    #[must_use]
    pub fn after(self, span: std::time::Duration) -> Self {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        Self::from_unix_seconds(self.unix_seconds().saturating_add(seconds))
    }
}

impl std::fmt::Display for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stamp = Timestamp::from_second(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(f, "{stamp}")
    }
}

impl Serialize for WallTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let stamp: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(stamp.as_second()))
    }
}

/// What rustls says of a certificate's time ("verification time 1795953263 (UNIX), but certificate
/// is not valid after 1795953000"), with the moments as people read them.
pub(crate) fn dated(text: &str) -> String {
    let mut said = String::new();
    for word in text.split_inclusive(' ') {
        let is_moment = ["time ", "after ", "before "]
            .iter()
            .any(|it| said.ends_with(it));
        let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse() {
            Ok(seconds) if is_moment && digits.len() >= 9 => {
                said += &WallTime::from_unix_seconds(seconds).to_string();
                said += &word[digits.len()..];
            }
            _ => said += word,
        }
    }
    said.replace(" (UNIX)", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_what_tls_says_are_dates() {
        let said = "certificate expired: verification time 1795953263 (UNIX), but certificate is not valid after \
                    1795953000 (263 seconds ago)";
        assert_eq!(
            dated(said),
            "certificate expired: verification time 2026-11-29T11:54:23Z, but certificate is not valid after \
             2026-11-29T11:50:00Z (263 seconds ago)"
        );
        for plain in ["", "after 12", "a  b ", "1795953263 bytes"] {
            assert_eq!(dated(plain), plain);
        }
    }

    #[test]
    fn a_reason_written_by_an_older_shipper_is_read_all_the_same() {
        let older = r#"{"status_code":412,"body":"<html>","quarantined_at_wall":"2025-03-01T09:00:00+00:00","more":1}"#;
        let reason: QuarantineReason = serde_json::from_str(older).unwrap();
        assert_eq!(reason.status_code, Some(412));
        assert_eq!(reason.episode_id, None);
        assert_eq!(
            reason.quarantined_at_wall.unwrap().to_string(),
            "2025-03-01T09:00:00Z"
        );
    }

    #[test]
    fn a_stamp_in_an_odd_form_does_not_make_the_rest_unreadable() {
        let stamp = |text: &str| {
            let json =
                format!(r#"{{"error":"x","status_code":"odd","quarantined_at_wall":{text}}}"#);
            let reason: QuarantineReason = serde_json::from_str(&json).unwrap();
            assert_eq!(
                (reason.error.as_deref(), reason.status_code),
                (Some("x"), None)
            );
            reason.quarantined_at_wall.map(|stamp| stamp.to_string())
        };
        for form in [
            r#""2025-11-24T10:15:30Z""#,
            r#""2025-11-24T10:15:30.25+00:00""#,
            r#""2025-11-24T11:15:30+01:00""#,
            r#""2025-11-24 10:15:30""#,
            "1763979330",
            "1763979330.75",
        ] {
            assert_eq!(
                stamp(form).as_deref(),
                Some("2025-11-24T10:15:30Z"),
                "{form}"
            );
        }
        for form in ["null", "true", "{}", r#""yesterday""#, "-1", "1e300"] {
            assert_eq!(stamp(form), None, "{form}");
        }
    }

    #[test]
    fn the_release_is_the_day_that_it_says() {
        assert_eq!(RELEASED.to_string(), "2026-11-01T00:00:00Z");
    }

    #[test]
    fn wall_time_is_written_as_the_contract_says() {
        assert_eq!(
            WallTime::from_unix_seconds(1_763_979_330).to_string(),
            "2025-11-24T10:15:30Z"
        );
    }
}
