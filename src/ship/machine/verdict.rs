//! What an outcome means. Who is at fault decides, not the hundreds digit of the status.
//!
//! | outcome | at fault | verdict |
//! |---|---|---|
//! | 200, 201, 204 (receipt, where given, matches) | | delivered |
//! | 2xx with a receipt that does not match, an HTML page, 202, 206, no receipt where one is required | destination | hold |
//! | 409 | episode | conflict |
//! | 400 digest mismatch, 400 truncated | the way | corrupted |
//! | 400 digest missing or malformed, which we never send so | something in between | hold |
//! | 400, 412, 413, 415, 422 and any other 4xx not named here, written by a receiver | episode | fatal |
//! | the same, not written by a receiver | unknown | refused |
//! | 401, 403, 404, 405, 407, 411, 421, 426, 1xx, 3xx, 501, 505, TLS failure (another name in the certificate, too) | destination | hold |
//! | 413 with `Retry-After`, 408, 425, 429, other 5xx, 507, connection lost, time-out, a name that is not found | weather | transient |
//!
//! A receiver is whoever answers with a JSON object under a JSON media type. An empty or HTML refusal was
//! written by something in between, and never counts against an episode.

use serde_json::Value;

use crate::{
    episode::{EpisodeId, printable},
    records::{ArchiveFacts, WallTime},
    ship::outcome::{Answer, AnswerBody, Fault, Outcome},
    wire::{ProblemType, Receipt},
};

/// The longest `Retry-After` that is honoured, seconds: a receiver that asks for more is asked again after an hour.
pub const MAX_RETRY_AFTER_S: u64 = 3600;

/// The longest piece of a receiver's words that is kept in a message, characters.
const MAX_DETAIL_CHARS: usize = 300;

/// What is to become of the episode and of the destination.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The receiver holds it. Only this carries a [`Proof`], and only a proof permits retirement.
    Delivered(Proof),
    /// The receiver holds other content under this id: for a person.
    Conflict(Refusal),
    /// The bytes were altered on the way, or in our outbox.
    Corrupted(Refusal),
    /// The receiver rejects this episode: quarantine.
    Fatal(Refusal),
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

/// Why an attempt did not deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status; `None` where nobody answered.
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

/// Judges one attempt. `sent` is what was sent; `require_receipt` is the operator's word that a bare 2xx proves nothing.
#[must_use]
pub fn judge(outcome: &Outcome, id: &EpisodeId, sent: &ArchiveFacts, require_receipt: bool) -> Verdict {
    match outcome {
        Outcome::Failed(fault) => judge_fault(fault),
        Outcome::Answered(answer) => judge_answer(answer, id, sent, require_receipt),
    }
}

/// What time it is by the receiver's clock, where a receiver is who answered. A page of something in between says what time it is there:
/// on this very host, maybe, whose clock is to be judged by it.
#[must_use]
pub fn receivers_clock(answer: &Answer) -> Option<WallTime> {
    let acknowledges = matches!(answer.status, 200 | 201 | 204);
    match &answer.body {
        AnswerBody::Json(body) => {
            // Stored just now, by the receiver's own word. A proxy puts its own Date in the place of the receiver's.
            let stored_now = body.get("stored_at").filter(|_| answer.status == 201);
            let stored_at = stored_now.and_then(|at| serde_json::from_value(at.clone()).ok());
            stored_at.or(answer.server_date)
        }
        AnswerBody::Empty | AnswerBody::Foreign { html: false, .. } if acknowledges => answer.server_date,
        AnswerBody::Empty | AnswerBody::Foreign { .. } | AnswerBody::Garbled { .. } => None,
    }
}

fn judge_fault(fault: &Fault) -> Verdict {
    let refusal = Refusal { status: None, detail: fault.to_string(), body: Value::Null };
    match fault {
        Fault::Tls(_) | Fault::UnknownName(_) | Fault::Request(_) => Verdict::Hold(refusal),
        Fault::Unreachable(_) | Fault::TimedOut(_) | Fault::Lost(_) | Fault::Cancelled => {
            Verdict::Transient { refusal, retry_after_s: None }
        }
        Fault::Archive(_) | Fault::Stale(_) => Verdict::Unsent(refusal),
    }
}

fn judge_answer(answer: &Answer, id: &EpisodeId, sent: &ArchiveFacts, require_receipt: bool) -> Verdict {
    let refusal = || refusal(answer);
    let by_receiver = matches!(answer.body, AnswerBody::Json(_));
    match answer.status {
        200 | 201 | 204 => judge_acknowledgement(answer, id, sent, require_receipt),
        // About this upload's bytes on the receiver, and not about the episode.
        409 if problem_type(answer) == Some(ProblemType::OffsetMismatch) => transient(answer),
        409 if by_receiver => Verdict::Conflict(refusal()),
        400 if problem_type(answer).is_some_and(altered_on_the_way) => Verdict::Corrupted(refusal()),
        400 if problem_type(answer) == Some(ProblemType::DigestInvalid) => Verdict::Hold(refusal()),
        408 | 425 | 429 => transient(answer),
        // "If the condition is temporary, the server SHOULD generate a Retry-After" (RFC 9110, section 15.5.14).
        413 if answer.retry_after_s.is_some() => transient(answer),
        401 | 403 | 404 | 405 | 407 | 411 | 421 | 426 => Verdict::Hold(refusal()),
        400..=499 if by_receiver => Verdict::Fatal(refusal()),
        400..=499 => Verdict::Refused(refusal()),
        501 | 505 => Verdict::Hold(refusal()),
        500..=599 => transient(answer),
        // 1xx as a final answer, other 2xx (accepted is not stored), every redirect, and numbers that HTTP does not have.
        _ => Verdict::Hold(refusal()),
    }
}

fn judge_acknowledgement(
    answer: &Answer,
    id: &EpisodeId,
    sent: &ArchiveFacts,
    require_receipt: bool,
) -> Verdict {
    let refuse = |why: &str| {
        let mut refusal = refusal(answer);
        refusal.detail = format!("{} but {why}", answer.status);
        Verdict::Hold(refusal)
    };
    let bare = || Verdict::Delivered(Proof { status: answer.status, receipt: Value::Null });
    match &answer.body {
        AnswerBody::Foreign { html: true, .. } => {
            refuse("with an HTML page: this is no receiver (a captive portal or a proxy?)")
        }
        AnswerBody::Json(body) => match serde_json::from_value::<Receipt>(body.clone()) {
            Ok(receipt) if matches(&receipt, id, sent) => {
                Verdict::Delivered(Proof { status: answer.status, receipt: body.clone() })
            }
            Ok(receipt) if receipt.episode_id != *id => {
                let named = &receipt.episode_id;
                // What is under the address is another's id to a receiver of ours.
                let suffixed = named.as_str().strip_suffix(".tar.zst") == Some(id.as_str());
                let hint = if suffixed { ": does receiver.url end in .tar.zst?" } else { "" };
                refuse(&format!("the receipt names the episode {named}, not {id}{hint}"))
            }
            Ok(_) => refuse("the receipt names other content than what was sent"),
            // Something that means to be a receipt and cannot be read must not pass for none.
            Err(_) if body.get("sha256").is_some() || body.get("content_sha256").is_some() => {
                refuse("the receipt cannot be read")
            }
            Err(_) if require_receipt => refuse("no receipt, and require_receipt is set"),
            Err(_) => bare(),
        },
        AnswerBody::Garbled { .. } => refuse("the receipt cannot be read"),
        AnswerBody::Empty | AnswerBody::Foreign { html: false, .. } if require_receipt => {
            refuse("no receipt, and require_receipt is set")
        }
        AnswerBody::Empty | AnswerBody::Foreign { html: false, .. } => bare(),
    }
}

/// Only a matching receipt permits retirement where there is one: it names this episode, and one of its digests is ours.
fn matches(receipt: &Receipt, id: &EpisodeId, sent: &ArchiveFacts) -> bool {
    receipt.episode_id == *id
        && (receipt.sha256 == sent.sha256 || receipt.content_sha256 == Some(sent.content_sha256))
}

fn transient(answer: &Answer) -> Verdict {
    Verdict::Transient {
        refusal: refusal(answer),
        retry_after_s: answer.retry_after_s.map(|wait| wait.min(MAX_RETRY_AFTER_S)),
    }
}

/// What arrived is not what was sent: no fault of the episode.
fn altered_on_the_way(problem: ProblemType) -> bool {
    matches!(problem, ProblemType::DigestMismatch | ProblemType::Truncated)
}

fn problem_type(answer: &Answer) -> Option<ProblemType> {
    match &answer.body {
        AnswerBody::Json(body) => ProblemType::from_urn(body.get("type")?.as_str()?),
        AnswerBody::Empty | AnswerBody::Garbled { .. } | AnswerBody::Foreign { .. } => None,
    }
}

fn refusal(answer: &Answer) -> Refusal {
    let status = answer.status;
    let (said, body) = match &answer.body {
        AnswerBody::Empty => ("nothing".to_owned(), Value::Null),
        AnswerBody::Json(body) => (receiver_words(body), body.clone()),
        AnswerBody::Garbled { excerpt } | AnswerBody::Foreign { excerpt, .. } => {
            (format!("{} (not a receiver's words)", shorten(excerpt)), Value::String(excerpt.clone()))
        }
    };
    Refusal { status: Some(status), detail: format!("answered {status} with {said}"), body }
}

/// The problem's own words, printable and bounded: what it says of this occurrence, else of its kind (RFC 9457, section 3.1), and
/// the remediation where there is one.
fn receiver_words(body: &Value) -> String {
    let member = |name| body.get(name).and_then(Value::as_str).filter(|text: &&str| !text.trim().is_empty());
    let said = member("detail").or_else(|| member("title"));
    let words: Vec<_> = said.into_iter().chain(member("remediation")).map(shorten).collect();
    if words.is_empty() { shorten(&body.to_string()) } else { format!("\"{}\"", words.join("; ")) }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.trim().chars().take(MAX_DETAIL_CHARS).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    printable(&short)
}

#[cfg(test)]
mod tests;
