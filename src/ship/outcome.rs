//! What one delivery attempt came to, as `transport` reports it and
//! `machine/destination/verdict.rs` judges it.
//!
//! Pure data. Nothing here says what it means for the episode.

use serde_json::Value;

pub use crate::http::client::Wait as Phase;
use crate::model::{episode::FolderLook, records::WallTime, wire::ProblemType};

/// The longest answer that is read, bytes. A receipt has a few hundred.
pub(crate) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// One attempt, ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// How much of the archive the receiver had kept from attempts before, bytes; where this one
    /// went on.
    pub resumed_at_bytes: u64,
    /// Whether anything of the archive left: only then a receiver can have kept any of it.
    pub sent: bool,
    /// The receiver was asked what it has kept and could not say, so nothing was sent.
    pub asked_in_vain: bool,
}

impl From<Outcome> for Attempt {
    /// An attempt from the first byte on.
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            resumed_at_bytes: 0,
            sent: true,
            asked_in_vain: false,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// An answer came: from a receiver, or from something in between.
    Answered(Answer),
    /// No answer came.
    Failed(Fault),
}

/// A final HTTP answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status, 200 to 599 (and whatever a broken server invents).
    pub status: u16,
    /// Its body, bounded.
    pub body: AnswerBody,
    /// What the head says of a failure, where there is no body: the reason phrase, and the code
    /// that a bucket gives it (`x-ms-error-code`, `x-amz-...`). Printable; else empty.
    pub head_says: String,
    /// What `Retry-After` asks for, seconds.
    pub retry_after_s: Option<u64>,
    /// The answer's own `Date`.
    pub server_date: Option<WallTime>,
    /// Whether it came from this very host, by the addresses of the connection. Its clock is ours
    /// then, and vouches for nothing.
    pub of_this_host: bool,
    /// What speaks for it where it acknowledges the archive and brings no receipt.
    pub voucher: Voucher,
}

impl Answer {
    /// The problem of the closed set that a receiver of ours names; `None` for the words of others.
    pub fn problem_type(&self) -> Option<ProblemType> {
        match &self.body {
            AnswerBody::Json(body) => ProblemType::from_urn(body.get("type")?.as_str()?),
            AnswerBody::Empty | AnswerBody::Garbled { .. } | AnswerBody::Foreign { .. } => None,
        }
    }
}

/// What speaks for an acknowledgement without a receipt: a proxy without a route for the host or
/// the path answers an empty 200 to any PUT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Voucher {
    /// Its status alone.
    #[default]
    Status,
    /// A strong `ETag` (RFC 9110, section 8.8.1): what was stored has a name there.
    StrongEtag,
    /// Its body says that something went wrong, as a problem (RFC 9457) or in an `error`, or looks
    /// so: that speaks against it, unless a HEAD showed the archive's digest.
    Problem,
    /// A HEAD of the same address then showed the archive's digest.
    Head,
    /// A HEAD of the same address then showed the archive's length, and no digest.
    Length,
    /// The same, and whether another recording of that length had this id before cannot be read;
    /// where, and why.
    LengthUnread(String),
    /// It showed no digest, and another length: how many bytes.
    OtherLength(u64),
    /// It showed no digest, and the length of another recording that had this id before: where that
    /// lies.
    LengthOfAnother(String),
    /// No answer came through, and a HEAD of the same address then showed the archive's digest.
    Asked,
    /// A HEAD of the same address did not; what it showed, in words.
    HeadDenies(String),
    /// A HEAD of the same address was answered by the weather, or not at all; how, in words.
    HeadFailed(String),
    /// It came before the archive was through, and no HEAD showed the archive's digest: what wrote
    /// it cannot hold it.
    Early,
}

/// Who wrote the answer shows in its body.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerBody {
    /// No body at all.
    Empty,
    /// A JSON object under a JSON media type: a receiver speaks.
    Json(Value),
    /// Something that means to be a receiver's word and cannot be read: JSON that is not whole or
    /// too long, or a digest under another media type.
    Garbled {
        /// The first characters, printable.
        excerpt: String,
    },
    /// Anything else (a proxy's or a captive portal's page), its beginning made printable.
    Foreign {
        /// Whether it is markup: HTML, XML.
        html: bool,
        /// The first characters, printable.
        excerpt: String,
    },
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The receiver's name means nothing to the resolver.
    #[error("the receiver's name cannot be resolved: {0}")]
    UnknownName(String),
    /// No process listens there, or there is no way.
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(String),
    /// The certificate, the name in it, or the handshake was refused by one of the two sides.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// A time-out of the attempt.
    #[error("{0}")]
    TimedOut(Phase),
    /// The connection broke after it stood.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The archive could not be read, or was abandoned while it was sent: our side's fault.
    #[error("the archive could not be read: {0}")]
    Archive(String),
    /// What was packed is not what stands in `episodes/` any more. No byte was sent.
    #[error("the episode is not what was packed")]
    Stale(Stale),
    /// The address, a header or a credential of ours cannot be used.
    #[error("the request could not be made: {0}")]
    Request(String),
    /// We stopped it.
    #[error("stopped on request")]
    Cancelled,
}

/// What a look before an attempt has found in the place of what was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// Its folder or its marker is not there, or cannot be looked at.
    Unsealed(FolderLook),
    /// It is sealed, and something in it was written since.
    Changed,
}
