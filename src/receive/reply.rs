//! Answers: a status, headers and a body, made in one place each.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};

use super::{
    identity::{self, Ways},
    precondition,
    room::UsedUp,
    store::{ArchiveRange, StoreError},
    stored_episode::StoredEpisode,
};
use crate::{
    clock,
    model::{
        episode::EpisodeId,
        records::WallTime,
        wire::{
            ARCHIVE_TYPE, CONTENT_DIGEST, PROBLEM_TYPE, Problem, ProblemType, REPR_DIGEST, Receipt,
        },
    },
};

/// An answer's body: a few bytes that are in memory, or an archive that is read as it leaves.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, StoreError>;

/// An answer, and what it objects to.
pub(super) struct Reply {
    pub(super) response: Response<ReplyBody>,
    pub(super) problem: Option<ProblemType>,
}

impl Reply {
    /// With a body.
    pub(super) fn new(
        status: StatusCode,
        media_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut reply = Self::bare(status, body);
        reply.set(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        reply
    }

    /// Nothing to say but that all is well.
    pub(super) fn nothing() -> Self {
        Self::bare(StatusCode::NO_CONTENT, Bytes::new())
    }

    fn bare(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(
            Full::new(body.into())
                .map_err(|never| match never {})
                .boxed_unsync(),
        );
        *response.status_mut() = status;
        Self {
            response,
            problem: None,
        }
    }

    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.response.headers_mut().insert(name, value);
    }

    /// With one more header, where its value can travel in one.
    pub(super) fn with_text(self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<HeaderValue>) -> Self {
        self.set(HeaderName::from_static(name), value.into());
        self
    }

    /// Keeps hold of something until its body has wholly been handed to the connection.
    pub(super) fn holding(self, held: impl Send + 'static) -> Self {
        let hold = move |error| {
            let _held = &held;
            error
        };
        Self {
            response: self.response.map(|body| body.map_err(hold).boxed_unsync()),
            ..self
        }
    }

    /// That it is held.
    pub(super) fn receipt(status: StatusCode, receipt: &Receipt) -> Self {
        Self::new(
            status,
            "application/json",
            serde_json::json!(receipt).to_string(),
        )
    }

    /// What is wrong.
    pub(super) fn problem(problem: &Problem) -> Self {
        let status = StatusCode::from_u16(problem.kind.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reply = Self::new(status, PROBLEM_TYPE, problem.to_json().to_string());
        Self {
            problem: Some(problem.kind),
            ..reply
        }
    }

    /// The client learns which kind; what the disk said is for the receiver's operator.
    pub(super) fn store_error(
        error: &StoreError,
        used_up: Option<UsedUp>,
        id: Option<&EpisodeId>,
    ) -> Self {
        if let StoreError::Fenced = error {
            return Self::busy("Another connection goes on with this upload.");
        }
        if let StoreError::Unfinished = error {
            return Self::busy("What is held could not be read again in time.");
        }
        let of_which = used_up.map(UsedUp::name);
        let what = id.map_or_else(|| "an episode".to_owned(), ToString::to_string);
        let used_up_too = of_which.map_or_else(String::new, |which| format!(" ({which} used up)"));
        tracing::error!(
            episode = id.map(tracing::field::display), %error, used_up = of_which,
            "cannot store {what}: {error}{used_up_too}"
        );
        Self::problem(&match used_up {
            Some(used_up) => used_up.said_in(Problem::new(
                ProblemType::NoSpace,
                match used_up {
                    UsedUp::Bytes => "The receiver's disk is full.",
                    UsedUp::Inodes => {
                        "The inodes of the store's file system are used up, however many bytes are free."
                    }
                    UsedUp::Quota => {
                        "The quota that the receiver's user, group or project has on its disk is used up."
                    }
                },
            )),
            None => Problem::new(ProblemType::StoreFailed, "The receiver's disk failed; its log says how."),
        })
    }

    /// Another connection writes this upload just now.
    pub(super) fn busy(detail: &str) -> Self {
        Self::problem(&Problem::new(ProblemType::UploadBusy, detail)).with("retry-after", 2)
    }

    /// Who asks has to say who they are, in one of these ways; `headers` are what they said.
    pub(super) fn unauthenticated(problem: &Problem, ways: Ways<'_>, headers: &HeaderMap) -> Self {
        Self::problem(problem).with_text("www-authenticate", identity::challenge(ways, headers))
    }

    /// RFC 9110, section 15.5.6: the answer lists what is allowed.
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let problem = Problem::new(
            ProblemType::MethodNotAllowed,
            format!("Allowed here: {allowed}."),
        );
        Self::problem(&problem).with("allow", HeaderValue::from_static(allowed))
    }

    /// What can be asked (RFC 9110, section 9.3.7).
    pub(super) fn options(methods: &'static str) -> Self {
        Self::nothing().with("allow", HeaderValue::from_static(methods))
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: &str) -> Self {
        Self::problem(&Problem::new(ProblemType::NotFound, detail))
    }

    /// The answer to HEAD: the archive's length and digests, without the archive.
    pub(super) fn described(held: &StoredEpisode) -> Self {
        let mut reply = Self::new(StatusCode::OK, ARCHIVE_TYPE, Bytes::new()).about(held);
        reply.set(header::CONTENT_LENGTH, held.size_bytes.into());
        reply
    }

    /// The client has it (RFC 9110, section 15.4.5).
    pub(super) fn not_modified(held: &StoredEpisode) -> Self {
        Self::bare(StatusCode::NOT_MODIFIED, Bytes::new()).about(held)
    }

    /// The answer to GET: `len_bytes` of an archive, as they are read.
    pub(super) fn archive(
        status: StatusCode,
        held: &StoredEpisode,
        reading: impl ArchiveRange,
        len_bytes: u64,
    ) -> Self {
        let body = ArchiveBody {
            reading,
            left_bytes: len_bytes,
        }
        .boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let mut reply = Self {
            response,
            problem: None,
        }
        .about(held);
        reply.set(header::CONTENT_TYPE, HeaderValue::from_static(ARCHIVE_TYPE));
        reply.set(header::CONTENT_LENGTH, len_bytes.into());
        reply
    }

    /// What the whole archive is, also where a part of it is sent (RFC 9530, section 3.1).
    fn about(self, held: &StoredEpisode) -> Self {
        let now = clock::wall_now();
        let mut reply = self
            .with_text(REPR_DIGEST, &held.sha256.to_header())
            .with_text("etag", &precondition::etag(&held.sha256))
            .with_text("accept-ranges", "bytes");
        if let Some(modified) = precondition::last_modified(held.stored_at, now) {
            // Never later than the answer's date (RFC 9110, section 8.8.2.1), which hyper renews
            // once a second.
            reply = reply
                .with_text("last-modified", &http_date(modified))
                .with_text("date", &http_date(now));
        }
        match held.content.verified() {
            Some(digest) => reply.with_text(CONTENT_DIGEST, &digest.to_header()),
            None => reply,
        }
    }
}

fn http_date(at: WallTime) -> String {
    let since = Duration::from_secs(u64::try_from(at.unix_seconds()).unwrap_or(0));
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

/// An archive's bytes as hyper draws them. One that ends early ends the connection: the client sees
/// that it is not all.
struct ArchiveBody<R> {
    reading: R,
    left_bytes: u64,
}

impl<R: ArchiveRange> Body for ArchiveBody<R> {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        if self.left_bytes == 0 {
            return Poll::Ready(None);
        }
        self.reading.poll_chunk(context).map(|chunk| match chunk {
            Some(Ok(chunk)) => {
                self.left_bytes = self.left_bytes.saturating_sub(chunk.len() as u64);
                Some(Ok(Frame::data(chunk)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(
                std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
            )),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}
