//! What an outcome means. Who is at fault decides, not the hundreds digit of the status.
//!
//! The verdict, whose fault it is, and the outcome:
//!
//! - **delivered**: 200, 201, 204 with a matching receipt; 201 and 204 without one
//! - **delivered**: a bare 200 that a strong `ETag` or a HEAD of the address vouches for
//! - **conflict**, the id: a bare 200 where a HEAD of the address shows no digest, and the length
//!   of another recording that had this id before
//! - **transient**, the way: held by the digest that a HEAD shows, no answer came through, and a
//!   receipt is required
//! - **hold**, destination: a bare 200 that nothing vouches for, or with markup or a problem as its
//!   body; a bare 2xx before the archive was through; a receipt that does not match; no receipt
//!   where one is required; any other 2xx
//! - **conflict**, episode: 409
//! - **corrupted**, the way: 400 digest mismatch, 400 truncated
//! - **hold**, something in between, or `receiver.headers`: 400 digest or `Host` missing or
//!   malformed, 412 for a precondition, which we never send so
//! - **hold**, the address: `id-invalid`, `upload-invalid`, `unsupported-type`: our receiver met a
//!   request that is not ours
//! - **fatal**, episode: 412 with a verdict on the commit
//! - **rejected**, episode, where more speaks for it: 400, 413, 415, 422 and any other 4xx not
//!   named here, in the words of our receiver or in another's JSON
//! - **refused**, unknown: the same, not written by a receiver; 402, 414, 416, 417, 423, 431, 451
//!   in any words
//! - **hold**, destination: 401, 403, 404, 405, 407, 411, 421, 426, 1xx, 3xx, 501, 505, TLS failure
//!   (another name in the certificate, too)
//! - **transient**, weather: 413 with `Retry-After`, 408, 425, 429, other 5xx, 507, connection
//!   lost, time-out, a name that is not found
//!
//! What answers with a JSON object under a JSON media type counts as a receiver. An empty or HTML
//! refusal was written by something in between, and never counts against an episode. But gateways
//! speak JSON too: what "rejected" comes to is decided by what else is known of the destination
//! (`circuit_breaker/rejections.rs`).

use serde_json::Value;

use crate::{
    model::{
        episode::{Digest, EpisodeId},
        records::{ArchiveFacts, WallTime},
        text::{self, printable},
        wire::{ProblemType, Receipt},
    },
    ship::outcome::{Answer, AnswerBody, Fault, Outcome, Voucher},
};

/// The longest `Retry-After` that is honoured, seconds: a receiver that asks for more is asked
/// again after an hour. Promised in docs/architecture.md: "or as `Retry-After` asks, up to an
/// hour".
pub const MAX_RETRY_AFTER_S: u64 = 3600;

/// What is said of an answer that acknowledges what is not held.
const NO_RECEIVER: &str = "this is no receiver: is the host name or path right?";

/// What is said where a receipt is required, and only a HEAD comes through.
const NO_RECEIPT_COMES_THROUGH: &str = "the receiver holds it, by the digest that a HEAD shows, and its receipt \
    has not come through. Where it never does, something on the way lets no PATCH through and puts an error in the place of an early \
    answer. Let PATCH through there, or set receiver.require_receipt = false";

/// What is to become of the episode and of the destination.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The receiver holds it. Only this carries a [`Proof`], and only a proof permits retirement.
    Delivered(Proof),
    /// The receiver holds other content under this id: for a person.
    Conflict(Refusal),
    /// The bytes were altered on the way, or in our outbox.
    Corrupted(Refusal),
    /// The receiver rejects this episode for its commit: quarantine, however many others meet the
    /// same.
    Fatal(Refusal),
    /// It is rejected in JSON. Whether that is the episode's fault, more than this one answer has
    /// to say.
    Rejected(Refusal, Speaker),
    /// Refused by something that is no receiver.
    Refused(Refusal),
    /// The destination is at fault: hold it, move nothing.
    Hold(Refusal),
    /// Weather: try again.
    Transient {
        /// What happened.
        refusal: Refusal,
        /// What `Retry-After` asked for, capped, seconds.
        retry_after_s: Option<u64>,
    },
    /// Our own archive could not be read or was thrown away while it was sent: pack again.
    Unsent(Refusal),
}

/// Who rejects, by the words that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// A receiver of ours: the problem is one of the closed set.
    Ours,
    /// Other JSON: of another receiver, or of a gateway before any.
    Another,
}

/// How far an acknowledgement without a receipt is believed: the operator's word.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trust {
    /// Not at all.
    pub require_receipt: bool,
    /// Also a 200 that nothing vouches for.
    pub believe_bare_200: bool,
    /// A HEAD that was to vouch for one came to nothing before: it is not waited for another time.
    pub head_failed_before: bool,
}

/// Why an attempt did not deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status; `None` where no answer came.
    pub status: Option<u16>,
    /// What happened, in a printable sentence.
    pub detail: String,
    /// What the receiver said: JSON where it was, else the beginning of the text, else null.
    pub body: Value,
}

/// Proof that a receiver holds an archive. Made here alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    status: u16,
    receipt: Value,
}

impl Proof {
    /// 200, 201 or 204.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The receiver's receipt, verbatim; null for a bare acknowledgement.
    #[must_use]
    pub fn receipt(&self) -> &Value {
        &self.receipt
    }

    /// A proof for tests of what takes one.
    #[cfg(test)]
    #[must_use]
    pub fn for_test(status: u16, receipt: Value) -> Self {
        Self { status, receipt }
    }
}

/// Judges one attempt. `sent` is what was sent.
#[must_use]
pub fn judge(outcome: &Outcome, id: &EpisodeId, sent: &ArchiveFacts, trust: Trust) -> Verdict {
    match outcome {
        Outcome::Failed(fault) => judge_fault(fault),
        Outcome::Answered(answer) => judge_answer(answer, id, sent, trust),
    }
}

/// Whether a receiver of ours wrote this, by its own words.
#[must_use]
pub fn is_ours(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered(answer) if answer.problem_type().is_some())
}

/// What time it is by the receiver's clock, where a receiver is who answered. A page of something
/// in between says what time it is there: on this very host, maybe, whose clock is to be judged by
/// it.
#[must_use]
pub fn receivers_clock(answer: &Answer) -> Option<WallTime> {
    let acknowledges = match answer.status {
        201 | 204 => answer.voucher != Voucher::Early,
        200 => matches!(
            answer.voucher,
            Voucher::StrongEtag | Voucher::Head | Voucher::Length
        ),
        _ => false,
    };
    match &answer.body {
        AnswerBody::Json(body) => {
            // Stored just now, by the receiver's own word. A proxy puts its own Date in the place
            // of the receiver's.
            let stored_now = body.get("stored_at").filter(|_| answer.status == 201);
            let stored_at = stored_now.and_then(|at| serde_json::from_value(at.clone()).ok());
            stored_at.or(answer.server_date)
        }
        AnswerBody::Empty | AnswerBody::Foreign { html: false, .. } if acknowledges => {
            answer.server_date
        }
        AnswerBody::Empty | AnswerBody::Foreign { .. } | AnswerBody::Garbled { .. } => None,
    }
}

fn judge_fault(fault: &Fault) -> Verdict {
    let refusal = Refusal {
        status: None,
        detail: fault.to_string(),
        body: Value::Null,
    };
    match fault {
        Fault::Tls(_) | Fault::UnknownName(_) | Fault::Request(_) => Verdict::Hold(refusal),
        Fault::Unreachable(_) | Fault::TimedOut(_) | Fault::Lost(_) | Fault::Cancelled => {
            Verdict::Transient {
                refusal,
                retry_after_s: None,
            }
        }
        Fault::Archive(_) | Fault::Stale(_) => Verdict::Unsent(refusal),
    }
}

fn judge_answer(answer: &Answer, id: &EpisodeId, sent: &ArchiveFacts, trust: Trust) -> Verdict {
    let refusal = || refusal(answer);
    let by_receiver = matches!(answer.body, AnswerBody::Json(_));
    match answer.status {
        200 | 201 | 204 => judge_acknowledgement(answer, id, sent, trust),
        // About this upload's bytes on the receiver, and not about the episode.
        409 if answer.problem_type() == Some(ProblemType::OffsetMismatch) => transient(answer),
        409 if answer.problem_type().is_some() => Verdict::Conflict(refusal()),
        400 if answer.problem_type().is_some_and(altered_on_the_way) => {
            Verdict::Corrupted(refusal())
        }
        400..=499 if answer.problem_type().is_some_and(faults_of_the_headers) => {
            Verdict::Hold(refusal())
        }
        400..=499 if answer.problem_type().is_some_and(faults_of_the_address) => {
            let mut refusal = refusal();
            refusal.detail = format!("{}: is the path in receiver.url right?", refusal.detail);
            Verdict::Hold(refusal)
        }
        408 | 425 | 429 => transient(answer),
        // "If the condition is temporary, the server SHOULD generate a Retry-After" (RFC 9110,
        // section 15.5.14).
        413 if answer.retry_after_s.is_some() => transient(answer),
        401 | 403 | 404 | 405 | 407 | 411 | 421 | 426 => Verdict::Hold(refusal()),
        // No receiver means an episode by these: a bill, an address, a range, an expectation, a
        // lock, the headers, the law.
        402 | 414 | 416 | 417 | 423 | 431 | 451 => Verdict::Refused(refusal()),
        412 if judges_the_commit(answer) => Verdict::Fatal(refusal()),
        400..=499 if answer.problem_type().is_some_and(speaks_against_an_episode) => {
            Verdict::Rejected(refusal(), Speaker::Ours)
        }
        400..=499 if by_receiver => Verdict::Rejected(refusal(), Speaker::Another),
        // WebDAV's word for a folder that is not there (RFC 4918, section 9.7.1).
        409 => {
            let mut refusal = refusal();
            refusal.detail +=
                ": is the folder there that the address names, and is nothing in its place?";
            Verdict::Refused(refusal)
        }
        400..=499 => Verdict::Refused(refusal()),
        501 | 505 => Verdict::Hold(refusal()),
        500..=599 => transient(answer),
        // 1xx as a final answer, other 2xx (accepted is not stored), every redirect, and numbers
        // that HTTP does not have.
        _ => Verdict::Hold(refusal()),
    }
}

fn judge_acknowledgement(
    answer: &Answer,
    id: &EpisodeId,
    sent: &ArchiveFacts,
    trust: Trust,
) -> Verdict {
    let refuse = |why: &str| {
        let mut refusal = refusal(answer);
        refusal.detail = format!("{} but {why}", answer.status);
        Verdict::Hold(refusal)
    };
    let bare = || {
        if trust.require_receipt && answer.voucher == Voucher::Asked {
            let mut refusal = refusal(answer);
            refusal.detail = NO_RECEIPT_COMES_THROUGH.to_owned();
            return Verdict::Transient {
                refusal,
                retry_after_s: None,
            };
        }
        if trust.require_receipt {
            return refuse("no receipt, and require_receipt is set");
        }
        match (answer.status, &answer.voucher) {
            (_, Voucher::Early) => refuse(&format!(
                "without a receipt before it had the whole archive: {NO_RECEIVER}"
            )),
            (200, Voucher::Problem) => refuse(&format!("with an error as its body: {NO_RECEIVER}")),
            (200, Voucher::HeadFailed(how))
                if !(trust.believe_bare_200 || trust.head_failed_before) =>
            {
                let mut refusal = refusal(answer);
                refusal.detail =
                    format!("answered 200 without a receipt, and a HEAD of the same address {how}");
                Verdict::Transient {
                    refusal,
                    retry_after_s: None,
                }
            }
            (200, Voucher::LengthOfAnother(filed)) if !trust.believe_bare_200 => {
                let mut refusal = refusal(answer);
                refusal.detail = format!(
                    "answered 200 without a receipt, and a HEAD of the same address shows a length alone. Another recording of \
                     that length had this id before ({filed}), so nothing tells whether this one is stored"
                );
                Verdict::Conflict(refusal)
            }
            // A fault of this host, and no sign of who answers.
            (200, Voucher::LengthUnread(why)) if !trust.believe_bare_200 => {
                let mut refusal = refusal(answer);
                refusal.detail = format!(
                    "answered 200 without a receipt, and a HEAD of the same address shows its length alone. Whether another \
                     recording of that length had this id before is not known: {why}"
                );
                Verdict::Transient {
                    refusal,
                    retry_after_s: None,
                }
            }
            (
                200,
                Voucher::Status
                | Voucher::HeadDenies(_)
                | Voucher::OtherLength(_)
                | Voucher::HeadFailed(_),
            ) if !trust.believe_bare_200 => {
                let head = match &answer.voucher {
                    Voucher::HeadDenies(how) | Voucher::HeadFailed(how) => {
                        format!(", and a HEAD of the same address {how}")
                    }
                    Voucher::OtherLength(shown) => {
                        let size_bytes = sent.size_bytes;
                        format!(
                            ", and a HEAD of the same address showed {shown} bytes, not {size_bytes}"
                        )
                    }
                    Voucher::Status
                    | Voucher::StrongEtag
                    | Voucher::Problem
                    | Voucher::Head
                    | Voucher::Length
                    | Voucher::LengthOfAnother(_)
                    | Voucher::LengthUnread(_)
                    | Voucher::Asked
                    | Voucher::Early => String::new(),
                };
                refuse(&format!(
                    "without a receipt{head}: {NO_RECEIVER} (Where it is, and cannot be asked: receiver.believe_bare_200)"
                ))
            }
            _ => Verdict::Delivered(Proof {
                status: answer.status,
                receipt: Value::Null,
            }),
        }
    };
    match &answer.body {
        // A page may say that something was created (mod_dav writes one); a portal's says 200.
        AnswerBody::Foreign { html: true, .. } if answer.status == 200 => refuse(&format!(
            "with a page: {NO_RECEIVER} Or does a captive portal or a proxy answer?"
        )),
        AnswerBody::Json(body) => match serde_json::from_value::<Receipt>(body.clone()) {
            Ok(receipt) if matches(&receipt, id, sent) => Verdict::Delivered(Proof {
                status: answer.status,
                receipt: body.clone(),
            }),
            Ok(receipt) if receipt.episode_id != *id => {
                let named = &receipt.episode_id;
                // What is under the address is another's id to a receiver of ours.
                let suffixed = named.as_str().strip_suffix(".tar.zst") == Some(id.as_str());
                let hint = if suffixed {
                    ": does receiver.url end in .tar.zst?"
                } else {
                    ""
                };
                refuse(&format!(
                    "the receipt names the episode {named}, not {id}{hint}"
                ))
            }
            Ok(_) => refuse("the receipt names other content than what was sent"),
            // Something that means to be a receipt and cannot be read must not pass for none.
            Err(error) => match named_digest(body, sent) {
                NamedDigest::Nothing => bare(),
                NamedDigest::Ours if trust.require_receipt => bare(),
                NamedDigest::Ours
                    if matches!(answer.voucher, Voucher::Early | Voucher::Problem) =>
                {
                    bare()
                }
                NamedDigest::Ours => Verdict::Delivered(Proof {
                    status: answer.status,
                    receipt: Value::Null,
                }),
                NamedDigest::Other => {
                    let why = printable(&error.to_string());
                    refuse(&format!("the receipt cannot be read ({why})"))
                }
            },
        },
        AnswerBody::Garbled { .. } => refuse("the receipt cannot be read"),
        AnswerBody::Empty | AnswerBody::Foreign { .. } => bare(),
    }
}

/// Only a matching receipt permits retirement where there is one: it names this episode, and one of
/// its digests is ours.
fn matches(receipt: &Receipt, id: &EpisodeId, sent: &ArchiveFacts) -> bool {
    receipt.episode_id == *id
        && (receipt.sha256 == sent.sha256 || receipt.content_sha256 == Some(sent.content_sha256))
}

/// What a JSON answer says that is no receipt of ours.
#[derive(Debug, PartialEq, Eq)]
enum NamedDigest {
    /// No digest.
    Nothing,
    /// The digest of what was sent, in hexadecimal, and no `episode_id`, as a receipt of ours has:
    /// whatever else such a receiver writes, it has those bytes.
    Ours,
    /// Another one, or one that cannot be read.
    Other,
}

fn named_digest(body: &Value, sent: &ArchiveFacts) -> NamedDigest {
    let named = [
        ("sha256", sent.sha256),
        ("content_sha256", sent.content_sha256),
    ];
    let is_ours = |(member, digest): &(&str, Digest)| {
        let text = body.get(*member)?.as_str();
        Some(text.is_some_and(|text| text.eq_ignore_ascii_case(&digest.to_string())))
    };
    let said: Vec<bool> = named.iter().filter_map(is_ours).collect();
    let means_to_be_ours = body.get("episode_id").is_some();
    match said.as_slice() {
        [] => NamedDigest::Nothing,
        all if !means_to_be_ours && all.iter().all(|is_ours| *is_ours) => NamedDigest::Ours,
        _ => NamedDigest::Other,
    }
}

fn transient(answer: &Answer) -> Verdict {
    Verdict::Transient {
        refusal: refusal(answer),
        retry_after_s: answer.retry_after_s.map(|wait| wait.min(MAX_RETRY_AFTER_S)),
    }
}

/// What arrived is not what was sent: no fault of the episode.
fn altered_on_the_way(problem: ProblemType) -> bool {
    matches!(
        problem,
        ProblemType::DigestMismatch | ProblemType::Truncated
    )
}

/// A receiver of ours was reached, at another place than where a shipper's request belongs. No id
/// of ours is malformed.
fn faults_of_the_address(problem: ProblemType) -> bool {
    use ProblemType as P;
    matches!(
        problem,
        P::IdInvalid | P::UploadInvalid | P::UnsupportedType
    )
}

/// What something in between did to our headers, or `receiver.headers` put there.
fn faults_of_the_headers(problem: ProblemType) -> bool {
    use ProblemType as P;
    matches!(
        problem,
        P::DigestInvalid | P::PreconditionFailed | P::HostInvalid
    )
}

/// What of the closed set is about the episode itself. A conflict is too, and has a verdict of its
/// own.
fn speaks_against_an_episode(problem: ProblemType) -> bool {
    use ProblemType as P;
    matches!(
        problem,
        P::CommitMissing | P::CommitOutOfWindow | P::TooLarge
    )
}

/// Our type, or the members that a receiver before it had a type wrote.
fn judges_the_commit(answer: &Answer) -> bool {
    let AnswerBody::Json(body) = &answer.body else {
        return false;
    };
    answer.problem_type() == Some(ProblemType::CommitOutOfWindow)
        || body.get("your_commit").is_some()
        || body.get("head_commit").is_some()
}

fn refusal(answer: &Answer) -> Refusal {
    let status = answer.status;
    let (said, body) = match &answer.body {
        AnswerBody::Empty if answer.head_says.is_empty() => ("nothing".to_owned(), Value::Null),
        AnswerBody::Empty => (format!("no body ({})", answer.head_says), Value::Null),
        AnswerBody::Json(body) => (receiver_words(body), body.clone()),
        AnswerBody::Garbled { excerpt } | AnswerBody::Foreign { excerpt, .. } => (
            format!("{} (not a receiver's words)", text::excerpt(excerpt)),
            Value::String(excerpt.clone()),
        ),
    };
    Refusal {
        status: Some(status),
        detail: format!("answered {status} with {said}"),
        body,
    }
}

/// The problem's own words, printable and bounded: what it says of this occurrence, else of its
/// kind (RFC 9457, section 3.1), and the remediation where there is one.
fn receiver_words(body: &Value) -> String {
    let member = |name| {
        body.get(name)
            .and_then(Value::as_str)
            .filter(|text: &&str| !text.trim().is_empty())
    };
    let said = member("detail").or_else(|| member("title"));
    let words: Vec<_> = said
        .into_iter()
        .chain(member("remediation"))
        .map(text::excerpt)
        .collect();
    if words.is_empty() {
        text::excerpt(&body.to_string())
    } else {
        format!("\"{}\"", words.join("; "))
    }
}

#[cfg(test)]
mod tests;
