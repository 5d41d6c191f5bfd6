//! Going on with an upload that broke off.
//!
//! ```text
//!  HEAD /v1/uploads/{id}/{sha256}
//!    ├▶ Upload-Offset: N ──▶ PATCH from byte N on ──▶ the answer that PUT would have had
//!    └▶ anything else ─────▶ nothing is kept, or this cannot be done there: the whole, by PUT
//! ```
//!
//! The address follows from the archive's digest, so that a shipper that lost its memory finds it
//! again, and bytes of another archive are never joined. The headers are those of
//! draft-ietf-httpbis-resumable-upload-15.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Delivery, Transport, answer, fault, uri};
use crate::{
    http::client::{Answered, Request, RequestBody},
    model::{
        progress::Progress,
        structured_field,
        wire::{self, ProblemType},
    },
    ship::outcome::{Fault, Outcome, Phase},
};

/// What came of going on.
pub(super) enum ResumeEnd {
    /// It went on, and this was the answer.
    To(Outcome),
    /// The receiver cannot say what it has kept; this is what it said instead.
    NotNow(Outcome),
    /// Nothing is kept, or the other end does not know how to go on: the whole is to be sent.
    Not,
    /// It says again and again that it stands elsewhere.
    Elsewhere,
}

impl Transport {
    /// Sends what the receiver lacks. `resumed_at_bytes` is what the receiver had;
    /// `asked_for_receipt`: that was every byte, so that nothing but its receipt was asked for.
    pub(super) async fn resume(
        &self,
        delivery: &Delivery,
        resumed_at_bytes: &mut u64,
        asked_for_receipt: &mut bool,
    ) -> Result<ResumeEnd, Fault> {
        let Delivery { id, facts, .. } = delivery;
        let address = self.endpoint.address();
        if let Some(planned) = delivery.sent_growing.planned()
            && let Some(url) = address.of_planned_upload(id, &planned.plan)
        {
            let kept_bytes = planned.kept_bytes;
            let end = self
                .go_on(
                    &url,
                    kept_bytes,
                    delivery,
                    resumed_at_bytes,
                    asked_for_receipt,
                )
                .await?;
            match end {
                // Not what its plan had packed before: it is sent once from its beginning.
                ResumeEnd::To(Outcome::Answered(answer))
                    if answer.problem_type() == Some(ProblemType::DigestMismatch) =>
                {
                    *resumed_at_bytes = 0;
                    return Ok(ResumeEnd::Not);
                }
                // Whatever answers there, the PUT of the whole is judged.
                ResumeEnd::Not | ResumeEnd::NotNow(_) | ResumeEnd::Elsewhere => {
                    *resumed_at_bytes = 0;
                }
                end => {
                    // What went beside the packing is of this attempt, and broke off nowhere.
                    if kept_bytes.is_some() {
                        *resumed_at_bytes = 0;
                    }
                    return Ok(end);
                }
            }
        }
        if !delivery.resume || facts.size_bytes <= wire::RESUMABLE_OVER_BYTES {
            return Ok(ResumeEnd::Not);
        }
        let Some(url) = address.of_upload(id, &facts.sha256) else {
            return Ok(ResumeEnd::Not);
        };
        self.go_on(&url, None, delivery, resumed_at_bytes, asked_for_receipt)
            .await
    }

    /// Goes on with the upload of this address behind so many bytes, or where the receiver says
    /// that it stands.
    async fn go_on(
        &self,
        url: &str,
        kept_bytes: Option<u64>,
        delivery: &Delivery,
        resumed_at_bytes: &mut u64,
        asked_for_receipt: &mut bool,
    ) -> Result<ResumeEnd, Fault> {
        let facts = &delivery.facts;
        let kept = match kept_bytes {
            Some(kept_bytes) if kept_bytes > facts.size_bytes => ResumePoint::Nothing,
            Some(kept_bytes) => ResumePoint::UpTo(kept_bytes),
            None => self.kept(url, delivery).await?,
        };
        let mut offset_bytes = match kept {
            ResumePoint::UpTo(offset_bytes) => offset_bytes,
            ResumePoint::Nothing => return Ok(ResumeEnd::Not),
            ResumePoint::NotNow(outcome) => return Ok(ResumeEnd::NotNow(outcome)),
        };
        // Between its word and the bytes, another connection of ours may have died and been put
        // away: it may say once more where it stands. Or it takes a part, and says so.
        for _ in 0..2 {
            *resumed_at_bytes = offset_bytes;
            *asked_for_receipt = offset_bytes == facts.size_bytes;
            delivery.progress.goes_on_behind(offset_bytes);
            let own_headers = own_headers(offset_bytes);
            let answered = self
                .upload(Method::PATCH, url, &own_headers, offset_bytes, delivery)
                .await?;
            match (answered.status, offset_of(&answered, facts.size_bytes)) {
                (StatusCode::CONFLICT, Some(other)) => offset_bytes = other,
                (StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                    *resumed_at_bytes = 0;
                    return Ok(ResumeEnd::Not);
                }
                (_, offset) => {
                    if let Some(taken) = taken_in_part(&answered, facts.size_bytes) {
                        offset_bytes = taken;
                        continue;
                    }
                    let completes =
                        offset == Some(facts.size_bytes) || says_complete(&answered) == Some(true);
                    let outcome = answer::read(answered).await?;
                    if is_answer_to_patch(&outcome, completes) {
                        return Ok(ResumeEnd::To(outcome));
                    }
                    *resumed_at_bytes = 0;
                    return Ok(ResumeEnd::Not);
                }
            }
        }
        Ok(ResumeEnd::Elsewhere)
    }

    /// Whether the receiver has every byte of this archive. An answer that was lost is given again
    /// to the attempt that goes on there.
    pub(super) async fn keeps_all(&self, delivery: &Delivery) -> bool {
        let Delivery { id, facts, .. } = delivery;
        let Some(url) = self.endpoint.address().of_upload(id, &facts.sha256) else {
            return false;
        };
        matches!(self.kept(&url, delivery).await, Ok(ResumePoint::UpTo(offset)) if offset == facts.size_bytes)
    }

    /// How many bytes, from the first on, the receiver has kept.
    async fn kept(&self, url: &str, delivery: &Delivery) -> Result<ResumePoint, Fault> {
        let mut headers = self.headers_of(delivery)?;
        headers.remove(header::CONTENT_TYPE);
        let (size_bytes, progress) = (delivery.facts.size_bytes, &delivery.progress);
        self.kept_of(url, headers, size_bytes, progress).await
    }

    /// The same of an archive of at most so many bytes.
    pub(super) async fn kept_of(
        &self,
        url: &str,
        headers: HeaderMap,
        size_bytes: u64,
        progress: &Progress,
    ) -> Result<ResumePoint, Fault> {
        let request = Request {
            method: Method::HEAD,
            uri: uri(url)?,
            headers,
            body: RequestBody::empty(),
        };
        let answered = match self.endpoint.ask(request, progress).await.map_err(fault) {
            Ok(answered) => answered,
            // Something on the way may let no HEAD through, and cut it off: told as any other
            // answer that says nothing.
            Err(cut @ (Fault::Lost(_) | Fault::TimedOut(Phase::Idle | Phase::Answer))) => {
                return Ok(ResumePoint::NotNow(Outcome::Failed(cut)));
            }
            Err(fault) => return Err(fault),
        };
        let offset = offset_of(&answered, size_bytes);
        match (answered.status, offset) {
            (StatusCode::OK | StatusCode::NO_CONTENT, Some(offset)) => {
                Ok(ResumePoint::UpTo(offset))
            }
            // The weather: what is kept is worth waiting for, and a PUT from the first byte would
            // throw it away.
            (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => {
                answer::read(answered).await.map(ResumePoint::NotNow)
            }
            (status, _) if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                answer::read(answered).await.map(ResumePoint::NotNow)
            }
            // Nothing is kept, or the other end does not know how to go on; or a refusal that the
            // PUT will meet as well, and be judged by.
            (_, _) => Ok(ResumePoint::Nothing),
        }
    }
}

/// What a receiver says when it is asked where to go on.
pub(super) enum ResumePoint {
    UpTo(u64),
    Nothing,
    NotNow(Outcome),
}

/// Whether this is a receiver's word on the upload. It has just said from which byte on it wants
/// the rest, so it knows PATCH; what is on the way may let GET, HEAD and PUT through and answer a
/// PATCH itself: with a bare 204, with JSON of a gateway. Then the whole is sent, and that is
/// judged. `completes`: by its headers the upload is complete.
fn is_answer_to_patch(outcome: &Outcome, completes: bool) -> bool {
    let Outcome::Answered(answer) = outcome else {
        return true;
    };
    match answer.status {
        _ if answer.problem_type().is_some() => true,
        200..=299 => completes || answer::names_a_digest(&answer.body),
        // The PUT would meet the same.
        401 | 407 | 408 | 421 | 425 | 429 => true,
        501 => false,
        500..=599 => true,
        _ => false,
    }
}

/// How much a receiver has taken that says 2xx and does not mean the whole: an upload that is not
/// complete is no acknowledgement.
pub(super) fn taken_in_part(answered: &Answered, size_bytes: u64) -> Option<u64> {
    if !answered.status.is_success() {
        return None;
    }
    let offset_bytes = offset_of(answered, size_bytes);
    match offset_bytes {
        Some(offset_bytes) if offset_bytes < size_bytes => Some(offset_bytes),
        _ if says_complete(answered) == Some(false) => Some(offset_bytes.unwrap_or(0)),
        _ => None,
    }
}

fn says_complete(answered: &Answered) -> Option<bool> {
    structured_field::boolean(&answered.headers, wire::UPLOAD_COMPLETE).ok()?
}

fn own_headers(offset_bytes: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(wire::PARTIAL_UPLOAD_TYPE),
    );
    headers.insert(wire::UPLOAD_OFFSET, offset_bytes.into());
    headers.insert(wire::UPLOAD_COMPLETE, HeaderValue::from_static("?1"));
    headers
}

/// `Upload-Offset`, where it can be one of an archive of this length.
pub(super) fn offset_of(answered: &Answered, size_bytes: u64) -> Option<u64> {
    let number = |name| structured_field::number(&answered.headers, name).ok()?;
    if number(wire::UPLOAD_LENGTH).is_some_and(|length| length != size_bytes) {
        return None;
    }
    number(wire::UPLOAD_OFFSET).filter(|offset| *offset <= size_bytes)
}
