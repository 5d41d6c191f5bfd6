//! What a receiver would have said whose answer did not come through.
//!
//! ```text
//!  upload ──▶ 5xx that no receiver wrote, or the connection is lost ──▶ GET /v1/admission ──▶ its problem: that is the answer
//!                                                                                          └▶ anything else: as it was
//! ```
//!
//! A receiver refuses an episode outside of its commit window before the body. Fronts that are
//! still sending it then answer with a 503 or 502 of their own (Varnish always does), and however
//! often it is tried, the verdict is never heard.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};

use super::{Delivery, Transport, answer, uri};
use crate::{
    client::{Request, RequestBody},
    ship::outcome::{Answer, AnswerBody, Fault, Outcome},
    wire::{self, ProblemType},
};

/// A front that has just lost an answer is not waited for long.
const PATIENCE: Duration = Duration::from_secs(5);

impl Transport {
    /// The receiver's own verdict, where an attempt has ended without it and it can be asked for.
    pub(super) async fn heard(
        &self,
        outcome: Result<Outcome, Fault>,
        delivery: &Delivery,
    ) -> Result<Outcome, Fault> {
        // A smaller one is through before it can be refused.
        if delivery.facts.size_bytes <= wire::EXPECT_CONTINUE_OVER_BYTES || !is_unheard(&outcome) {
            return outcome;
        }
        match self.admission(delivery).await {
            Some(verdict) => Ok(verdict),
            None => outcome,
        }
    }

    async fn admission(&self, delivery: &Delivery) -> Option<Outcome> {
        let url = self.endpoint.address().of_admission()?;
        let Delivery { id, commit, .. } = delivery;
        let mut headers = HeaderMap::new();
        if let Some(commit) = commit {
            headers.insert(wire::CODE_COMMIT, HeaderValue::from_str(commit.as_str()).ok()?);
        }
        self.endpoint.complete(&mut headers, id, None, commit.as_ref()).ok()?;
        for about_a_body in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
            headers.remove(about_a_body);
        }
        let request =
            Request { method: Method::GET, uri: uri(&url).ok()?, headers, body: RequestBody::empty() };
        let asking = async {
            let answered = self.endpoint.send(request, &delivery.progress).await.ok()?;
            answer::read(answered).await.ok()
        };
        let outcome = tokio::time::timeout(PATIENCE, asking).await.ok()??;
        is_a_verdict(&outcome).then_some(outcome)
    }
}

fn is_unheard(outcome: &Result<Outcome, Fault>) -> bool {
    match outcome {
        Ok(Outcome::Answered(Answer { status, body, .. })) => {
            (500..=599).contains(status) && !matches!(body, AnswerBody::Json(_))
        }
        Ok(Outcome::Failed(fault)) | Err(fault) => {
            matches!(fault, Fault::Lost(_))
        }
    }
}

/// A refusal by a receiver of ours. That there is no such path there says nothing of the upload.
fn is_a_verdict(outcome: &Outcome) -> bool {
    let Outcome::Answered(Answer { status, body: AnswerBody::Json(body), .. }) = outcome else {
        return false;
    };
    let kind = body.get("type").and_then(|kind| kind.as_str()).and_then(ProblemType::from_urn);
    let knows_the_path = !matches!(kind, Some(ProblemType::NotFound | ProblemType::MethodNotAllowed));
    *status >= 400 && kind.is_some() && knows_the_path
}
