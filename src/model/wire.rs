//! What both ends of the wire agree on: paths, header names, the receipt, the closed set of problem
//! types.
//!
//! Pure. The exchange itself is drawn in docs/transport.md.

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::model::{
    episode::{Digest, EpisodeId},
    records::WallTime,
};

/// Where episodes live; the percent-encoded id follows.
pub(crate) const EPISODES_PATH: &str = "/v1/episodes/";
/// Where an upload that broke off is found again: the percent-encoded id follows, then `/` and the
/// archive's digest in hex.
pub(crate) const UPLOADS_PATH: &str = "/v1/uploads/";
/// In the place of the digest there: an upload whose digest comes at its end, found again by the
/// plan that its archive is packed by. A SHA-256 in hex follows.
pub(crate) const PLAN_PREFIX: &str = "plan-";
/// What a PUT with these headers would meet.
pub(crate) const ADMISSION_PATH: &str = "/v1/admission";
/// From which byte on an upload goes on (draft-ietf-httpbis-resumable-upload-15, section 4.1).
pub(crate) const UPLOAD_OFFSET: &str = "upload-offset";
/// Whether this request holds the last byte: `?1` or `?0` (the same draft, section 4.2).
pub(crate) const UPLOAD_COMPLETE: &str = "upload-complete";
/// How long the whole is, bytes (the same draft, section 4.3).
pub(crate) const UPLOAD_LENGTH: &str = "upload-length";
/// How long an archive may become that is still being packed, bytes; where its length is not known
/// yet.
pub(crate) const LENGTH_BOUND: &str = "sealift-length-bound";
/// What a receiver of ours can do beyond the first version of the wire: a list of tokens.
pub(crate) const ACCEPTS: &str = "sealift-accepts";
/// Among them: an upload may be created without its digest, which comes with its last piece.
pub(crate) const LATE_DIGEST: &str = "late-digest";
/// A receiver keeps what broke off of archives larger than this, bytes. A smaller one is sent again
/// before it was asked for.
pub(crate) const RESUMABLE_OVER_BYTES: u64 = 1 << 20;
/// The media type of a PATCH that goes on with an upload (the same draft, section 4.7).
pub(crate) const PARTIAL_UPLOAD_TYPE: &str = "application/partial-upload";
/// Digest of the representation, here the archive's bytes (RFC 9530, section 3).
pub const REPR_DIGEST: &str = "repr-digest";
/// Digest of the tar stream inside the archive, in the same form.
pub const CONTENT_DIGEST: &str = "sealift-content-digest";
/// The commit of the code that recorded the episode: 40 hexadecimal digits.
pub const CODE_COMMIT: &str = "x-cis490-code-commit";
/// Which host sends.
pub(crate) const HOST: &str = "sealift-host";
/// The media type of an archive (RFC 8878).
pub(crate) const ARCHIVE_TYPE: &str = "application/zstd";
/// The media type of a problem (RFC 9457).
pub(crate) const PROBLEM_TYPE: &str = "application/problem+json";
/// Asks, with HEAD, that the archive's bytes be read and hashed again before the answer, and says
/// in the answer that they were: `?1` (RFC 9651, section 3.3.6).
pub(crate) const REREAD: &str = "sealift-reread";
/// The largest window that an archive may ask of its reader, as a power of two: 32 MiB. `sealift`
/// itself needs 8 MiB at its highest level.
pub(crate) const MAX_WINDOW_LOG: u32 = 25;
/// Uploads larger than this ask for the verdict first (`Expect: 100-continue`, RFC 9110, section
/// 10.1.1), bytes.
pub(crate) const EXPECT_CONTINUE_OVER_BYTES: u64 = 1 << 20;

/// Whether archives are sent while they are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SendWhilePacking {
    /// To a receiver of ours that says that it takes them.
    #[default]
    Auto,
    /// To any: without a digest, and to another than ours in chunks.
    Always,
    /// To none.
    Never,
}

/// What the receiver promises when it answers 201 or 200: it holds these bytes, and would after a
/// power cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The episode.
    pub episode_id: EpisodeId,
    /// Digest of the archive that is held.
    pub sha256: Digest,
    /// Digest of the tar stream inside, left out while the receiver has not verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_sha256: Option<Digest>,
    /// Length of the archive, bytes.
    pub size_bytes: u64,
    /// When it was stored, UTC.
    pub stored_at: WallTime,
    /// The authenticated name it was stored under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Everything a receiver of ours can object to. The verdict is keyed on the status and this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemType {
    /// No `X-Cis490-Code-Commit`, or not 40 hexadecimal digits, where a commit window is enforced.
    CommitMissing,
    /// The commit is not in the window.
    CommitOutOfWindow,
    /// The bytes that arrived are not those of `Repr-Digest`.
    DigestMismatch,
    /// No usable `Repr-Digest`, or a malformed content digest.
    DigestInvalid,
    /// The path does not end in an episode id.
    IdInvalid,
    /// Held already, with other content.
    Conflict,
    /// Larger than the receiver takes.
    TooLarge,
    /// The store is full.
    NoSpace,
    /// The store could not be written or read.
    StoreFailed,
    /// The request has no `Content-Length`.
    LengthRequired,
    /// The body ended before its `Content-Length`.
    Truncated,
    /// No certificate and no token that is known.
    Unauthenticated,
    /// Another host's episode, or metrics that the client may not read.
    Forbidden,
    /// The upload goes on at another byte; `Upload-Offset` says which.
    OffsetMismatch,
    /// A request about an upload that goes on is malformed.
    UploadInvalid,
    /// The same upload is being written by another connection.
    UploadBusy,
    /// The host's share of the store is full.
    QuotaExceeded,
    /// The body came more slowly than the receiver waits for.
    TooSlow,
    /// As many connections or uploads as the receiver takes.
    TooMany,
    /// The part that was asked for is not there.
    RangeNotSatisfiable,
    /// The body is not of the media type that belongs there.
    UnsupportedType,
    /// What is held is not what the request takes it to be (`If-Match`).
    PreconditionFailed,
    /// `Host` is missing, there twice, or no host's name.
    HostInvalid,
    /// There is no such path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
}

/// (type, its name in the URN, status, title); a row a line.
#[rustfmt::skip]
const PROBLEMS: [(ProblemType, &str, u16, &str); 25] = {
    use ProblemType as P;
    [
        (P::CommitMissing, "commit-missing", 400, "The code commit is missing or malformed"),
        (P::CommitOutOfWindow, "commit-out-of-window", 412, "The code commit is not in the window"),
        (P::DigestMismatch, "digest-mismatch", 400, "The bytes are not those of the digest"),
        (P::DigestInvalid, "digest-invalid", 400, "The digest is missing or malformed"),
        (P::IdInvalid, "id-invalid", 400, "The episode id is not valid"),
        (P::Conflict, "conflict", 409, "The episode is stored with other content"),
        (P::TooLarge, "too-large", 413, "The episode is too large"),
        (P::NoSpace, "no-space", 507, "The store is full"),
        (P::StoreFailed, "store-failed", 500, "The store failed"),
        (P::LengthRequired, "length-required", 411, "The length is missing"),
        (P::Truncated, "truncated", 400, "The body ended early"),
        (P::Unauthenticated, "unauthenticated", 401, "No certificate and no token that is known"),
        (P::Forbidden, "forbidden", 403, "The caller may not read this"),
        (P::OffsetMismatch, "offset-mismatch", 409, "The upload goes on at another byte"),
        (P::UploadInvalid, "upload-invalid", 400, "The request to go on with an upload is malformed"),
        (P::UploadBusy, "upload-busy", 503, "The upload is being written by another connection"),
        (P::QuotaExceeded, "quota-exceeded", 507, "The host's share of the store is full"),
        (P::TooSlow, "too-slow", 408, "The body came too slowly"),
        (P::TooMany, "too-many", 503, "The receiver is busy"),
        (P::RangeNotSatisfiable, "range-not-satisfiable", 416, "The range is not there"),
        (P::UnsupportedType, "unsupported-type", 415, "The media type does not belong here"),
        (P::PreconditionFailed, "precondition-failed", 412, "What is stored is not what the request asks for"),
        (P::HostInvalid, "host-invalid", 400, "The Host header is missing or malformed"),
        (P::NotFound, "not-found", 404, "There is nothing here"),
        (P::MethodNotAllowed, "method-not-allowed", 405, "The method is not allowed here"),
    ]
};

const URN_PREFIX: &str = "urn:sealift:";

impl ProblemType {
    fn row(self) -> &'static (Self, &'static str, u16, &'static str) {
        PROBLEMS
            .iter()
            .find(|row| row.0 == self)
            .unwrap_or(&PROBLEMS[0])
    }

    /// `urn:sealift:...`
    pub fn urn(self) -> String {
        format!("{URN_PREFIX}{}", self.row().1)
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        self.row().2
    }

    /// Reads a URN; `None` for a type that is not ours.
    #[must_use]
    pub fn from_urn(urn: &str) -> Option<Self> {
        let name = urn.strip_prefix(URN_PREFIX)?;
        PROBLEMS.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// A problem body (RFC 9457). Extra members stand at the top level.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemType,
    /// What is wrong this time, in a sentence.
    pub detail: String,
    /// Members of the type's own, such as `your_commit`.
    pub extra: Map<String, Value>,
}

impl Problem {
    /// A problem without extra members.
    #[must_use]
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            extra: Map::new(),
        }
    }

    /// With one more member at the top level.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The JSON document to send.
    pub fn to_json(&self) -> Value {
        let mut members = self.extra.clone();
        for (name, value) in [
            ("type", json!(self.kind.urn())),
            ("title", json!(self.kind.row().3)),
            ("status", json!(self.kind.status())),
            ("detail", json!(self.detail)),
        ] {
            members.insert(name.to_owned(), value);
        }
        Value::Object(members)
    }
}

/// The essence of `Content-Type` (RFC 9110, section 8.3.1), lower-cased, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// How long `Retry-After` asks to wait, in seconds (RFC 9110, section 10.2.3). A date is measured
/// against the answer's own `Date`, so that neither clock needs to be right; without a `Date` a
/// date says nothing.
pub(crate) fn retry_after_s(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a number here can hold is longer than a shipper waits.
        return Some(value.parse().unwrap_or(u64::MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let sent = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    Some(until.duration_since(sent).map_or(0, |wait| wait.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_type_reads_back_from_its_urn() {
        for row in &PROBLEMS {
            assert_eq!(ProblemType::from_urn(&row.0.urn()), Some(row.0));
            assert_eq!(row.0.status(), row.2);
        }
        assert_eq!(ProblemType::from_urn("about:blank"), None);
    }

    #[test]
    fn extra_members_stand_at_the_top_level_and_cannot_mask_the_type() {
        let body = Problem::new(ProblemType::CommitOutOfWindow, "too old")
            .with("your_commit", "abc")
            .with("type", "masked")
            .to_json();
        assert_eq!(body["your_commit"], "abc");
        assert_eq!(body["type"], "urn:sealift:commit-out-of-window");
        assert_eq!(body["status"], 412);
    }

    #[test]
    fn retry_after_is_read_in_both_forms_against_the_answers_own_clock() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| {
                    (
                        header::HeaderName::from_static(name),
                        header::HeaderValue::from_static(value),
                    )
                })
                .collect()
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let later = ("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT");
        assert_eq!(
            retry_after_s(&headers(&[("retry-after", " 17 ")])),
            Some(17)
        );
        assert_eq!(
            retry_after_s(&headers(&[("retry-after", "99999999999999999999999")])),
            Some(u64::MAX)
        );
        assert_eq!(retry_after_s(&headers(&[("retry-after", "-5")])), None);
        assert_eq!(retry_after_s(&headers(&[later, date])), Some(120));
        assert_eq!(retry_after_s(&headers(&[later])), None);
        assert_eq!(
            retry_after_s(&headers(&[("retry-after", "soon"), date])),
            None
        );
        assert_eq!(retry_after_s(&headers(&[])), None);
    }
}
