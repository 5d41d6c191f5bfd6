//! What speaks for a 200 without a receipt: a HEAD of the same address shows what is held there.
//!
//! ```text
//!  200, no receipt ─▶ HEAD of the same address ──▶ the archive's digest, or its length: it is held
//!                                                ├▶ 5xx, or no answer: asked another time
//!                                                └▶ anything else: nothing speaks for it
//! ```
//!
//! A length may be that of another recording which was delivered under this id before: that is
//! looked for here (`daemon/lengths.rs`), also where it is not the archive's.
//!
//! A proxy without a route for the host or the path answers an empty 200 to any PUT, and to any
//! HEAD: with another length. Where the body looks like an error, the digest alone speaks for it.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{Delivery, Transport, answer::names_a_digest, fault, uri};
use crate::{
    http::client::{Answered, Request, RequestBody},
    model::{
        episode::{Digest, EpisodeId},
        progress::Progress,
        wire,
    },
    ship::outcome::{Answer, AnswerBody, Fault, Outcome, Voucher},
};

impl Transport {
    /// Asks where nothing but its status speaks for an acknowledgement, and notes what was found.
    ///
    /// # Errors
    /// [`Fault`] where the attempt was stopped, or the question cannot be put.
    pub(super) async fn vouched(
        &self,
        outcome: Outcome,
        delivery: &Delivery,
    ) -> Result<Outcome, Fault> {
        let Outcome::Answered(mut answer) = outcome else {
            return Ok(outcome);
        };
        // What looks like an error is believed at no operator's word, so it is asked after all the
        // same.
        let asks = self.asks_of_bare_200 || answer.voucher == Voucher::Problem;
        if asks && is_bare_200(&answer) {
            let by_status = answer.voucher == Voucher::Status;
            answer.voucher = match self.shown(delivery).await {
                Ok(HeadAnswer::Digest) => Voucher::Head,
                Ok(HeadAnswer::Another { .. }) if by_status => {
                    Voucher::HeadDenies("showed another digest".to_owned())
                }
                Ok(HeadAnswer::Other(shown)) if by_status => Voucher::HeadDenies(shown),
                Ok(HeadAnswer::Length(shown))
                    if by_status && shown == delivery.facts.size_bytes =>
                {
                    Voucher::Length
                }
                Ok(HeadAnswer::Length(shown)) if by_status => Voucher::OtherLength(shown),
                Ok(HeadAnswer::NotNow(status)) if by_status => {
                    Voucher::HeadFailed(format!("was answered {}", status.as_u16()))
                }
                Err(fault @ (Fault::Cancelled | Fault::Request(_))) => return Err(fault),
                Err(fault) if by_status => Voucher::HeadFailed(format!("came to nothing: {fault}")),
                // What has that length may have lain there before.
                Ok(
                    HeadAnswer::Another { .. }
                    | HeadAnswer::Other(_)
                    | HeadAnswer::Length(_)
                    | HeadAnswer::NotNow(_),
                )
                | Err(_) => answer.voucher,
            };
        }
        Ok(Outcome::Answered(answer))
    }

    /// Asks the episode's address by HEAD.
    pub(super) async fn head_of(
        &self,
        id: &EpisodeId,
        progress: &Progress,
    ) -> Result<Answered, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        self.endpoint
            .complete(&mut headers, id, None, None)
            .map_err(|error| Fault::Request(error.to_string()))?;
        let uri = uri(&self.endpoint.address().of(id))?;
        let request = Request {
            method: Method::HEAD,
            uri,
            headers,
            body: RequestBody::empty(),
        };
        self.endpoint.ask(request, progress).await.map_err(fault)
    }

    /// What a HEAD of the episode's address shows.
    pub(super) async fn shown(&self, delivery: &Delivery) -> Result<HeadAnswer, Fault> {
        let answered = self.head_of(&delivery.id, &delivery.progress).await?;
        let status = answered.status;
        let is_weather = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        ) || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
        if is_weather {
            return Ok(HeadAnswer::NotNow(status));
        }
        Ok(shows(&answered, delivery))
    }
}

/// A 200 that brings neither a receipt nor a page.
fn is_bare_200(answer: &Answer) -> bool {
    let asked = matches!(
        answer.voucher,
        Voucher::Status | Voucher::Early | Voucher::Problem
    );
    let bare = match &answer.body {
        AnswerBody::Empty | AnswerBody::Foreign { html: false, .. } => true,
        AnswerBody::Json(_) => !names_a_digest(&answer.body),
        AnswerBody::Garbled { .. } | AnswerBody::Foreign { html: true, .. } => false,
    };
    answer.status == 200 && asked && bare
}

/// What a HEAD of the episode's address shows.
pub(super) enum HeadAnswer {
    /// The archive's digest.
    Digest,
    /// The digests of another archive, both of them where a receiver of ours has verified what it
    /// holds.
    Another {
        sha256: Option<Digest>,
        content_sha256: Option<Digest>,
    },
    /// A length, and no digest; bytes.
    Length(u64),
    /// Nothing: the weather answered.
    NotNow(StatusCode),
    /// In words.
    Other(String),
}

fn shows(answered: &Answered, delivery: &Delivery) -> HeadAnswer {
    if !answered.status.is_success() {
        return HeadAnswer::Other(format!("was answered {}", answered.status.as_u16()));
    }
    let digest = |name| {
        let value = answered.headers.get(name)?.to_str().ok()?;
        Digest::from_header(value).ok()
    };
    let (sha256, content_sha256) = (digest(wire::REPR_DIGEST), digest(wire::CONTENT_DIGEST));
    let facts = &delivery.facts;
    if sha256 == Some(facts.sha256) || content_sha256 == Some(facts.content_sha256) {
        return HeadAnswer::Digest;
    }
    if sha256.is_some() || content_sha256.is_some() {
        return HeadAnswer::Another {
            sha256,
            content_sha256,
        };
    }
    let length = answered
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.trim().parse::<u64>().ok()) {
        Some(length) => HeadAnswer::Length(length),
        None => HeadAnswer::Other("showed neither its length nor its digest".to_owned()),
    }
}
