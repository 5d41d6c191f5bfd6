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
        Fault::Archive(_) => Verdict::Unsent(refusal),
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{episode::Digest, ship::outcome::Phase};

    fn id() -> EpisodeId {
        EpisodeId::parse("run-1").unwrap()
    }

    fn sent() -> ArchiveFacts {
        ArchiveFacts { sha256: Digest([1; 32]), content_sha256: Digest([2; 32]), size_bytes: 10 }
    }

    fn receipt(sha256: Digest, content: Option<Digest>) -> Value {
        let mut receipt = json!({"episode_id": "run-1", "sha256": sha256, "size_bytes": 10,
            "stored_at": "2026-01-01T00:00:00Z"});
        if let Some(content) = content {
            receipt["content_sha256"] = json!(content);
        }
        receipt
    }

    fn verdict(status: u16, body: AnswerBody, require_receipt: bool) -> &'static str {
        let answer = Answer { status, body, retry_after_s: None, server_date: None };
        match judge(&Outcome::Answered(answer), &id(), &sent(), require_receipt) {
            Verdict::Delivered(_) => "delivered",
            Verdict::Conflict(_) => "conflict",
            Verdict::Corrupted(_) => "corrupted",
            Verdict::Fatal(_) => "fatal",
            Verdict::Refused(_) => "refused",
            Verdict::Hold(_) => "hold",
            Verdict::Transient { .. } => "transient",
            Verdict::Unsent(_) => "unsent",
        }
    }

    fn html() -> AnswerBody {
        AnswerBody::Foreign { html: true, excerpt: "<html>".into() }
    }

    fn text() -> AnswerBody {
        AnswerBody::Foreign { html: false, excerpt: "no".into() }
    }

    fn problem(kind: ProblemType) -> AnswerBody {
        AnswerBody::Json(crate::wire::Problem::new(kind, "why").to_json())
    }

    /// (status, written by a receiver, written by something else or empty). Everything from 100 to 599 that is
    /// not listed follows the rule of its hundred, spelled out below.
    const TABLE: [(u16, &str, &str); 20] = [
        (200, "delivered", "delivered"),
        (201, "delivered", "delivered"),
        (204, "delivered", "delivered"),
        (202, "hold", "hold"),
        (206, "hold", "hold"),
        (401, "hold", "hold"),
        (403, "hold", "hold"),
        (404, "hold", "hold"),
        (405, "hold", "hold"),
        (407, "hold", "hold"),
        (408, "transient", "transient"),
        (409, "conflict", "refused"),
        (411, "hold", "hold"),
        (421, "hold", "hold"),
        (425, "transient", "transient"),
        (426, "hold", "hold"),
        (429, "transient", "transient"),
        (501, "hold", "hold"),
        (505, "hold", "hold"),
        (507, "transient", "transient"),
    ];

    #[test]
    fn every_status_from_100_to_599_has_its_verdict_whoever_wrote_it() {
        for status in 100..=599 {
            let (_, by_receiver, otherwise) =
                TABLE.into_iter().find(|row| row.0 == status).unwrap_or(match status {
                    100..=399 => (status, "hold", "hold"),
                    400..=499 => (status, "fatal", "refused"),
                    _ => (status, "transient", "transient"),
                });
            assert_eq!(verdict(status, AnswerBody::Json(json!({"ok": 1})), false), by_receiver, "{status}");
            assert_eq!(verdict(status, AnswerBody::Empty, false), otherwise, "{status} empty");
            assert_eq!(verdict(status, text(), false), otherwise, "{status} text");
            let page = if matches!(status, 200 | 201 | 204) { "hold" } else { otherwise };
            assert_eq!(verdict(status, html(), false), page, "{status} html");
        }
    }

    #[test]
    fn too_large_for_now_is_weather() {
        let answer = Answer {
            status: 413,
            body: AnswerBody::Json(json!({})),
            retry_after_s: Some(60),
            server_date: None,
        };
        let verdict = judge(&Outcome::Answered(answer), &id(), &sent(), false);
        assert!(matches!(verdict, Verdict::Transient { retry_after_s: Some(60), .. }), "{verdict:?}");
    }

    #[test]
    fn a_clock_is_believed_where_a_receiver_has_answered_and_its_own_word_before_a_proxys_date() {
        let at = WallTime::from_unix_seconds;
        let clock = |status, body| {
            let answer = Answer { status, body, retry_after_s: None, server_date: Some(at(86_400)) };
            receivers_clock(&answer)
        };
        let stored = || AnswerBody::Json(receipt(Digest([1; 32]), None));
        assert_eq!(clock(201, stored()), Some(at(1_767_225_600)));
        // That is when it was stored, some day.
        assert_eq!(clock(200, stored()), Some(at(86_400)));
        assert_eq!(clock(503, AnswerBody::Json(json!({}))), Some(at(86_400)));
        assert_eq!(clock(201, AnswerBody::Empty), Some(at(86_400)), "a server that keeps files, and no more");
        for (status, body) in [
            (502, html()),
            (503, AnswerBody::Empty),
            (200, html()),
            (413, text()),
            (201, AnswerBody::Garbled { excerpt: "{".into() }),
        ] {
            assert_eq!(clock(status, body.clone()), None, "{status} {body:?}");
        }
    }

    #[test]
    fn only_a_receiver_can_quarantine_and_only_its_bytes_can_be_corrupted() {
        assert_eq!(verdict(400, problem(ProblemType::DigestMismatch), false), "corrupted");
        assert_eq!(verdict(400, problem(ProblemType::Truncated), false), "corrupted");
        assert_eq!(verdict(400, problem(ProblemType::DigestInvalid), false), "hold");
        assert_eq!(verdict(409, problem(ProblemType::OffsetMismatch), false), "transient");
        for kind in [ProblemType::CommitMissing, ProblemType::CommitOutOfWindow, ProblemType::TooLarge] {
            assert_eq!(verdict(kind.status(), problem(kind), false), "fatal");
        }
        for status in [400, 412, 413, 415, 422, 451] {
            assert_eq!(verdict(status, html(), false), "refused", "{status}");
        }
    }

    #[test]
    fn only_a_matching_receipt_permits_retirement() {
        let other = Digest([9; 32]);
        let ours = sent();
        for (body, expected) in [
            (receipt(ours.sha256, None), "delivered"),
            (receipt(ours.sha256, Some(other)), "delivered"),
            (receipt(other, Some(ours.content_sha256)), "delivered"),
            (receipt(other, None), "hold"),
            (receipt(other, Some(other)), "hold"),
            (json!({"sha256": "short"}), "hold"),
            (
                json!({"episode_id": "run-2", "sha256": ours.sha256, "size_bytes": 1,
                "stored_at": "2026-01-01T00:00:00Z"}),
                "hold",
            ),
        ] {
            assert_eq!(verdict(201, AnswerBody::Json(body.clone()), true), expected, "{body}");
            assert_eq!(verdict(200, AnswerBody::Json(body.clone()), false), expected, "{body}");
        }
    }

    #[test]
    fn a_receipt_that_cannot_be_read_is_not_none() {
        let garbled = || AnswerBody::Garbled { excerpt: "{".to_owned() };
        for status in [200, 201, 204] {
            assert_eq!(verdict(status, garbled(), false), "hold", "{status}");
        }
        assert_eq!(verdict(422, garbled(), false), "refused");
        assert_eq!(verdict(503, garbled(), false), "transient");
    }

    #[test]
    fn where_a_receipt_is_required_a_bare_acknowledgement_proves_nothing() {
        for body in [AnswerBody::Empty, text(), AnswerBody::Json(json!({"ok": true}))] {
            assert_eq!(verdict(201, body.clone(), false), "delivered");
            assert_eq!(verdict(201, body, true), "hold");
        }
    }

    #[test]
    fn every_fault_of_the_way_is_judged() {
        for (fault, expected) in [
            (Fault::Unreachable("x".into()), "transient"),
            (Fault::UnknownName("x".into()), "hold"),
            (Fault::Tls("expired".into()), "hold"),
            (Fault::TimedOut(Phase::Connect), "transient"),
            (Fault::TimedOut(Phase::Idle), "transient"),
            (Fault::TimedOut(Phase::Answer), "transient"),
            (Fault::Lost("reset".into()), "transient"),
            (Fault::Cancelled, "transient"),
            (Fault::Request("no token".into()), "hold"),
            (Fault::Archive("EIO".into()), "unsent"),
        ] {
            let verdict = judge(&Outcome::Failed(fault.clone()), &id(), &sent(), false);
            let name = match verdict {
                Verdict::Transient { .. } => "transient",
                Verdict::Hold(_) => "hold",
                Verdict::Unsent(_) => "unsent",
                Verdict::Delivered(_)
                | Verdict::Conflict(_)
                | Verdict::Corrupted(_)
                | Verdict::Fatal(_)
                | Verdict::Refused(_) => "an answer's",
            };
            assert_eq!(name, expected, "{fault:?}");
        }
    }

    #[test]
    fn a_receipt_for_another_episode_says_for_which_and_what_may_be_wrong() {
        let said = |named: &str| {
            let mut body = receipt(sent().sha256, None);
            body["episode_id"] = json!(named);
            let body = AnswerBody::Json(body);
            let answer = Answer { status: 201, body, retry_after_s: None, server_date: None };
            match judge(&Outcome::Answered(answer), &id(), &sent(), false) {
                Verdict::Hold(refusal) => refusal.detail,
                other => panic!("{other:?}"),
            }
        };
        let named = "201 but the receipt names the episode run-1.tar.zst, not run-1";
        assert_eq!(said("run-1.tar.zst"), format!("{named}: does receiver.url end in .tar.zst?"));
        assert_eq!(said("run-2"), "201 but the receipt names the episode run-2, not run-1");
    }

    #[test]
    fn a_problem_is_told_by_its_detail_and_by_its_title_only_where_there_is_none() {
        for (body, shown) in [
            (json!({"title": "Conflict", "detail": "It holds another."}), "\"It holds another.\""),
            (json!({"title": "Conflict", "detail": " "}), "\"Conflict\""),
            (json!({"title": "Conflict", "remediation": "update"}), "\"Conflict; update\""),
            (json!({"status": 409}), "{\"status\":409}"),
        ] {
            assert_eq!(receiver_words(&body), shown);
        }
    }

    #[test]
    fn a_remediation_is_shown_without_its_escapes_and_bounded() {
        let body = json!({"detail": "old", "remediation": "run \u{1b}[2Jupdate"});
        let answer =
            Answer { status: 412, body: AnswerBody::Json(body), retry_after_s: None, server_date: None };
        let shown = refusal(&answer).detail;
        assert_eq!(shown, "answered 412 with \"old; run \\u{1b}[2Jupdate\"");
        assert!(shorten(&"x".repeat(9000)).chars().count() <= MAX_DETAIL_CHARS + 1);
    }
}
