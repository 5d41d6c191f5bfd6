//! Answers: a status, headers and a small body, made in one place each.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::{held::Held, identity, store::StoreError};
use crate::{
    episode::EpisodeId,
    wire::{ARCHIVE_TYPE, CONTENT_DIGEST, PROBLEM_TYPE, Problem, ProblemType, REPR_DIGEST, Receipt},
};

/// An answer, and what it objects to.
pub(super) struct Reply {
    pub(super) response: Response<Full<Bytes>>,
    pub(super) problem: Option<ProblemType>,
}

impl Reply {
    /// With a body.
    pub(super) fn new(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { response, problem: None }
    }

    /// That it is held.
    pub(super) fn receipt(status: StatusCode, receipt: &Receipt) -> Self {
        Self::new(status, "application/json", serde_json::json!(receipt).to_string())
    }

    /// What is wrong.
    pub(super) fn problem(problem: &Problem) -> Self {
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reply = Self::new(status, PROBLEM_TYPE, problem.to_json().to_string());
        Self { problem: Some(problem.kind), ..reply }
    }

    /// The client learns which kind; what the disk said is for the receiver's operator.
    pub(super) fn store_error(error: &StoreError, id: Option<&EpisodeId>) -> Self {
        tracing::error!(id = id.map(tracing::field::display), %error, "cannot store");
        Self::problem(&match error {
            StoreError::Full(_) => Problem::new(ProblemType::NoSpace, "The receiver's disk is full."),
            StoreError::Failed(_) => {
                Problem::new(ProblemType::StoreFailed, "The receiver's disk failed; its log says how.")
            }
        })
    }

    /// Who asks has to say who they are; `headers` are what they said.
    pub(super) fn unauthenticated(problem: &Problem, headers: &HeaderMap) -> Self {
        let mut reply = Self::problem(problem);
        let challenge = HeaderValue::from_static(identity::challenge(headers));
        reply.response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        reply
    }

    /// Nothing to say but that all is well.
    pub(super) fn nothing() -> Self {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Self { response, problem: None }
    }

    /// RFC 9110, section 15.5.6: the answer lists what is allowed.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let problem = Problem::new(ProblemType::MethodNotAllowed, format!("Allowed here: {allowed}."));
        let mut reply = Self::problem(&problem);
        reply.response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        reply
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: &str) -> Self {
        Self::problem(&Problem::new(ProblemType::NotFound, detail))
    }

    /// The answer to HEAD: the archive's length and digests, without the archive.
    pub(super) fn described(held: &Held) -> Self {
        let mut reply = Self::new(StatusCode::OK, ARCHIVE_TYPE, Bytes::new());
        let headers = reply.response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, held.size_bytes.into());
        for (name, digest) in [(REPR_DIGEST, Some(held.sha256)), (CONTENT_DIGEST, held.content.verified())] {
            if let Some(value) = digest.and_then(|digest| HeaderValue::from_str(&digest.to_header()).ok()) {
                headers.insert(name, value);
            }
        }
        reply
    }
}
