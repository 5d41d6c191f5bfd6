//! One request, from its head to its answer and its line in the log.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::{
    admit::{self, Decision},
    held::{Held, Key, Offer},
    store::{PartKey, Publication, Store, StoreError, Upload as _},
};
use crate::{
    episode::{EpisodeId, printable},
    wire::{ARCHIVE_TYPE, CONTENT_DIGEST, PROBLEM_TYPE, Problem, ProblemType, REPR_DIGEST, Receipt},
};

/// No byte of a body for this long: the client is gone, or holds the connection for nothing.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// After a refusal the rest of the body is read and thrown away up to this many bytes and for this long. A socket that is
/// closed with bytes unread is reset, and the reset overtakes the answer.
const LINGER_BYTES: u64 = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// The connection is dropped without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body for {} s", BODY_IDLE_TIMEOUT.as_secs())]
pub(super) struct BodyIdle;

/// Answers one request.
///
/// # Errors
/// [`BodyIdle`]: the connection is to be dropped.
pub(super) async fn answer<S: Store>(
    store: Arc<S>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, BodyIdle> {
    let started = monotonic_clock();
    let (head, body) = request.into_parts();
    let mut upload = UploadBody::new(&head, body);
    let episode = admit::episode_of(head.uri.path());
    let replied = route(&*store, &head, episode.as_ref(), &mut upload).await;

    let (status_code, problem) = match &replied {
        Ok(reply) => (reply.response.status().as_u16(), reply.problem.map(ProblemType::urn)),
        Err(idle) => (0, Some(idle.to_string())),
    };
    tracing::info!(
        method = %printable(head.method.as_str()),
        episode = episode.and_then(Result::ok).map(tracing::field::display),
        path = %printable(head.uri.path()),
        %peer,
        status_code,
        bytes = upload.received,
        elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        problem = problem.as_deref(),
        "request"
    );

    let mut reply = replied?;
    if upload.let_go() == Afterwards::Close {
        reply.response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply.response)
}

async fn route<S: Store>(
    store: &S,
    head: &Parts,
    episode: Option<&Result<EpisodeId, Problem>>,
    body: &mut UploadBody,
) -> Result<Reply, BodyIdle> {
    Ok(match episode {
        Some(Err(problem)) => Reply::problem(problem),
        Some(Ok(id)) => match head.method {
            Method::PUT => match put(store, id, &head.headers, body).await {
                Ok(reply) => reply,
                Err(Refusal::Problem(problem)) => Reply::problem(&problem),
                Err(Refusal::Store(error)) => Reply::store_error(&error, Some(id)),
                Err(Refusal::Idle(idle)) => return Err(idle),
            },
            Method::HEAD => match store.find(&key_of(id)).await {
                Ok(Some(held)) => Reply::described(&held),
                Ok(None) => Reply::problem(&not_found("No such episode is held.")),
                Err(error) => Reply::store_error(&error, Some(id)),
            },
            _ => Reply::method_not_allowed("HEAD, PUT"),
        },
        None if head.uri.path() == "/healthz" => match head.method {
            Method::GET | Method::HEAD => match store.probe().await {
                Ok(()) => Reply::new(StatusCode::OK, "text/plain", "ok\n"),
                Err(error) => Reply::store_error(&error, None),
            },
            _ => Reply::method_not_allowed("GET, HEAD"),
        },
        None => Reply::problem(&not_found("Episodes are at /v1/episodes/{id}.")),
    })
}

/// Why an upload ends without a receipt.
enum Refusal {
    Problem(Problem),
    Store(StoreError),
    Idle(BodyIdle),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn put<S: Store>(
    store: &S,
    id: &EpisodeId,
    headers: &HeaderMap,
    body: &mut UploadBody,
) -> Result<Reply, Refusal> {
    let offer = admit::read_offer(headers)?;
    if let Some(receipt) = already_held(store, id, &offer).await? {
        return Ok(Reply::receipt(StatusCode::OK, &receipt));
    }
    let mut upload = store.begin(&PartKey::new(key_of(id), None, &offer), &offer);
    while let Some(bytes) = body.next().await? {
        upload.write(&bytes).await?;
    }
    match upload.publish().await? {
        Publication::Stored(held) => Ok(Reply::receipt(StatusCode::CREATED, &held.receipt())),
        Publication::NameTaken => match already_held(store, id, &offer).await? {
            Some(receipt) => Ok(Reply::receipt(StatusCode::OK, &receipt)),
            None => Err(Problem::new(
                ProblemType::StoreFailed,
                "Another upload of this id was published first, and is gone again.",
            )
            .into()),
        },
        Publication::DigestMismatch { received } => Err(Problem::new(
            ProblemType::DigestMismatch,
            format!("The bytes that arrived hash to {received}, not to {}.", offer.sha256),
        )
        .with("received_sha256", received.to_string())
        .into()),
    }
}

/// The receipt of what is held, where it answers the offer; `None` where the body is wanted.
async fn already_held<S: Store>(
    store: &S,
    id: &EpisodeId,
    offer: &Offer,
) -> Result<Option<Receipt>, Refusal> {
    let mut held = store.find(&key_of(id)).await?;
    let mut decision = admit::admit(offer, held.as_ref());
    if decision == Decision::Unproven {
        held = store.verify(&key_of(id)).await?;
        decision = admit::admit(offer, held.as_ref());
    }
    match (decision, held) {
        (Decision::Store, _) | (Decision::Unproven, None) => Ok(None),
        (Decision::AlreadyHeld(receipt), _) => Ok(Some(receipt)),
        (Decision::Conflict(problem), _) => Err(problem.into()),
        // What cannot be proven after looking is not the same.
        (Decision::Unproven, Some(held)) => Err(admit::conflict(&held).into()),
    }
}

/// Nobody is authenticated yet, so nothing is filed by host.
fn key_of(id: &EpisodeId) -> Key {
    Key { host: None, id: id.clone() }
}

/// What becomes of the connection once the answer is out.
#[derive(Debug, PartialEq, Eq)]
enum Afterwards {
    Reuse,
    Close,
}

/// A request's body, and what the client expects of us before it sends it.
struct UploadBody {
    incoming: Incoming,
    received: u64,
    /// The client waits for `100 Continue` (RFC 9110, section 10.1.1), which goes out when the body is first asked for.
    awaits_continue: bool,
}

impl UploadBody {
    fn new(head: &Parts, incoming: Incoming) -> Self {
        let expects = head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self { incoming, received: 0, awaits_continue: expects }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.awaits_continue = false;
        loop {
            let frame = timeout(BODY_IDLE_TIMEOUT, self.incoming.frame())
                .await
                .map_err(|_| Refusal::Idle(BodyIdle))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    let detail = format!("The body ended after {} bytes: {error}.", self.received);
                    return Err(Problem::new(ProblemType::Truncated, detail).into());
                }
                Some(Ok(frame)) => {
                    // Trailers are no bytes of the archive.
                    if let Ok(bytes) = frame.into_data() {
                        self.received += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Gives the connection back after the answer was decided. What the client is still sending is read and thrown away
    /// beside the answer, within bounds.
    fn let_go(self) -> Afterwards {
        if self.incoming.is_end_stream() {
            return Afterwards::Reuse;
        }
        // It has sent nothing yet. Asking for the body now would tell it to.
        if self.awaits_continue {
            return Afterwards::Close;
        }
        let all = self.incoming.size_hint().exact().is_some_and(|rest| rest <= LINGER_BYTES);
        let mut incoming = self.incoming;
        tokio::spawn(timeout(LINGER_TIME, async move {
            let mut drained = 0;
            while let Some(Ok(frame)) = incoming.frame().await {
                drained += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                if drained > LINGER_BYTES {
                    break;
                }
            }
        }));
        if all { Afterwards::Reuse } else { Afterwards::Close }
    }
}

/// An answer, and what it objects to.
struct Reply {
    response: Response<Full<Bytes>>,
    problem: Option<ProblemType>,
}

impl Reply {
    fn new(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { response, problem: None }
    }

    fn receipt(status: StatusCode, receipt: &Receipt) -> Self {
        Self::new(status, "application/json", serde_json::json!(receipt).to_string())
    }

    fn problem(problem: &Problem) -> Self {
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reply = Self::new(status, PROBLEM_TYPE, problem.to_json().to_string());
        Self { problem: Some(problem.kind), ..reply }
    }

    /// The client learns which kind; what the disk said is for the receiver's operator.
    fn store_error(error: &StoreError, id: Option<&EpisodeId>) -> Self {
        tracing::error!(id = id.map(tracing::field::display), %error, "cannot store");
        Self::problem(&match error {
            StoreError::Full(_) => Problem::new(ProblemType::NoSpace, "The receiver's disk is full."),
            StoreError::Failed(_) => {
                Problem::new(ProblemType::StoreFailed, "The receiver's disk failed; its log says how.")
            }
            StoreError::Fenced => {
                Problem::new(ProblemType::UploadBusy, "Another connection goes on with this upload.")
            }
        })
    }

    /// RFC 9110, section 15.5.6: the answer lists what is allowed.
    fn method_not_allowed(allowed: &'static str) -> Self {
        let problem = Problem::new(ProblemType::MethodNotAllowed, format!("Allowed here: {allowed}."));
        let mut reply = Self::problem(&problem);
        reply.response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        reply
    }

    /// The answer to HEAD: the archive's length and digests, without the archive.
    fn described(held: &Held) -> Self {
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

fn not_found(detail: &str) -> Problem {
    Problem::new(ProblemType::NotFound, detail)
}

#[expect(clippy::disallowed_methods, reason = "the edge: how long a request took is measured for the log")]
fn monotonic_clock() -> Instant {
    Instant::now()
}
