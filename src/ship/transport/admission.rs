//! What a receiver would have said whose answer did not come through.
//!
//! ```text
//!  upload ──▶ 5xx that no receiver wrote, or the connection is lost
//!    └▶ HEAD of the upload ──▶ all of it is kept: as it was; the next attempt asks for the receipt
//!        │                      by a PATCH behind the last byte
//!        └▶ HEAD of the episode ──▶ the archive's digest: it is held
//!            │                   └▶ the digests of another: it is in conflict with that
//!            └▶ GET /v1/admission ──▶ its problem: that is the answer
//!                                  └▶ anything else: as it was
//!  that PATCH ──▶ whatever is no receiver's word, or nothing in time
//!    └▶ HEAD of the episode, and on as above
//! ```
//!
//! So a receipt is given up only by an attempt that has asked for it, and heard nothing. What
//! becomes of a PATCH on its way says nothing of the upload: fronts drop it, or answer it with a
//! 405 or a 401 of their own.
//!
//! A receiver refuses an episode outside of its commit window, or one that is too large for it,
//! before the body. Fronts that are still sending it then answer with a 503 or 502 of their own
//! (Varnish always does), and however often it is tried, the verdict is never heard. Nor is the 200
//! for what is held already, which comes as early: and what is held is acknowledged whatever has
//! become of its commit since. Nor is the 409 of an id under which a receiver of ours holds
//! something else.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::timeout;

use super::{Delivery, Transport, answer, uri, vouch::HeadAnswer};
use crate::{
    http::client::{Request, RequestBody},
    model::{
        episode::Digest,
        wire::{self, Problem, ProblemType},
    },
    ship::outcome::{Answer, AnswerBody, Fault, Outcome, Phase, Voucher},
};

/// A front that has just lost an answer is not waited for long, with each question.
const PATIENCE: Duration = Duration::from_secs(5);

impl Transport {
    /// The receiver's own verdict, where an attempt has ended without it and it can be asked for.
    /// `asked_for_receipt`: by a PATCH behind the last byte.
    pub(super) async fn heard(
        &self,
        outcome: Result<Outcome, Fault>,
        delivery: &Delivery,
        asked_for_receipt: bool,
    ) -> Result<Outcome, Fault> {
        // A smaller one is through before it can be refused.
        let may_be_hidden = delivery.facts.size_bytes > wire::EXPECT_CONTINUE_OVER_BYTES;
        if !may_be_hidden || !is_unheard(&outcome, asked_for_receipt) {
            return outcome;
        }
        match self.asked_elsewhere(delivery, asked_for_receipt).await {
            Some(verdict) => Ok(verdict),
            None => outcome,
        }
    }

    async fn asked_elsewhere(
        &self,
        delivery: &Delivery,
        asked_for_receipt: bool,
    ) -> Option<Outcome> {
        // By the whole address no receiver of ours is reached.
        self.endpoint.address().of_admission()?;
        // The next attempt asks for the receipt.
        if !asked_for_receipt
            && timeout(PATIENCE, self.keeps_all(delivery))
                .await
                .unwrap_or(false)
        {
            return None;
        }
        match timeout(PATIENCE, self.shown(delivery)).await {
            Ok(Ok(HeadAnswer::Digest)) => return Some(told(200, AnswerBody::Empty)),
            // Both, so that it is a receiver of ours that has verified what it holds.
            Ok(Ok(HeadAnswer::Another {
                sha256: Some(held),
                content_sha256: Some(content),
            })) => {
                return Some(in_conflict_with(held, content));
            }
            _ => {}
        }
        timeout(PATIENCE, self.admission(delivery)).await.ok()?
    }

    async fn admission(&self, delivery: &Delivery) -> Option<Outcome> {
        let url = self.endpoint.address().of_admission()?;
        let Delivery {
            id, commit, facts, ..
        } = delivery;
        let mut headers = HeaderMap::new();
        headers.insert(wire::UPLOAD_LENGTH, facts.size_bytes.into());
        if let Some(commit) = commit {
            headers.insert(
                wire::CODE_COMMIT,
                HeaderValue::from_str(commit.as_str()).ok()?,
            );
        }
        self.endpoint
            .complete(&mut headers, id, None, commit.as_ref())
            .ok()?;
        for about_a_body in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
        ] {
            headers.remove(about_a_body);
        }
        let request = Request {
            method: Method::GET,
            uri: uri(&url).ok()?,
            headers,
            body: RequestBody::empty(),
        };
        let answered = self.endpoint.ask(request, &delivery.progress).await.ok()?;
        let outcome = answer::read(answered).await.ok()?;
        is_a_verdict(&outcome).then_some(outcome)
    }
}

/// What a HEAD has told of an upload whose own answer did not come through.
fn told(status: u16, body: AnswerBody) -> Outcome {
    let (retry_after_s, server_date, of_this_host) = (None, None, false);
    let voucher = Voucher::Asked;
    Outcome::Answered(Answer {
        head_says: String::new(),
        status,
        body,
        retry_after_s,
        server_date,
        of_this_host,
        voucher,
    })
}

fn in_conflict_with(held: Digest, content: Digest) -> Outcome {
    let detail = "Another archive is stored under this id, as a HEAD of it shows; the receiver's own 409 was not let through.";
    let problem = Problem::new(ProblemType::Conflict, detail)
        .with("held_sha256", held.to_string())
        .with("held_content_sha256", content.to_string());
    told(
        ProblemType::Conflict.status(),
        AnswerBody::Json(problem.to_json()),
    )
}

/// Whether no receiver had a say. What a front says of its own accord is mostly about the front,
/// and is left as it is; what it says where the receiver has every byte is about nothing.
fn is_unheard(outcome: &Result<Outcome, Fault>, asked_for_receipt: bool) -> bool {
    match outcome {
        Ok(Outcome::Answered(answer)) => {
            let by_status = match answer.status {
                500..=599 => true,
                200..=299 => false,
                _ => asked_for_receipt,
            };
            by_status && answer.problem_type().is_none()
        }
        Ok(Outcome::Failed(fault)) | Err(fault) => match fault {
            Fault::Lost(_) => true,
            Fault::TimedOut(Phase::Idle | Phase::Answer) => asked_for_receipt,
            _ => false,
        },
    }
}

/// A refusal by a receiver of ours. That there is no such path there says nothing of the upload.
fn is_a_verdict(outcome: &Outcome) -> bool {
    let Outcome::Answered(answer) = outcome else {
        return false;
    };
    let kind = answer.problem_type();
    let knows_the_path = !matches!(
        kind,
        Some(ProblemType::NotFound | ProblemType::MethodNotAllowed)
    );
    answer.status >= 400 && kind.is_some() && knows_the_path
}
