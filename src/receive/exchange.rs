//! One request, from its head to its answer and its line in the log.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    access::{Access, Snapshot},
    admit::{self, Decision, Terms},
    body::{Afterwards, BodyError, BodyIdle, UploadBody},
    held::{Held, Offer},
    identity::{self, Caller, NameError},
    reply::Reply,
    store::{Publication, Store, StoreError, Upload as _},
    tally::Tally,
    window::SaidCommit,
};
use crate::{
    episode::{EpisodeId, HostName, printable},
    wire::{ADMISSION_PATH, Problem, ProblemType, Receipt},
};

/// What every request is answered from.
#[derive(Debug)]
pub(super) struct Receiver<S> {
    /// What is held.
    pub(super) store: S,
    /// Who may come in.
    pub(super) access: Arc<Access>,
    /// Who may read every host's episodes.
    pub(super) readers: BTreeSet<HostName>,
    /// What a host out of the window is told to do.
    pub(super) remediation: String,
    /// The largest archive, bytes; `None`: no limit.
    pub(super) max_episode_bytes: Option<u64>,
    /// What is counted.
    pub(super) tally: Arc<Tally>,
}

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// Whose certificate it showed; `None`: none.
    pub(super) certificate: Option<Result<HostName, NameError>>,
}

/// Answers one request.
///
/// # Errors
/// [`BodyIdle`]: the connection is to be dropped.
pub(super) async fn answer<S: Store>(
    receiver: Arc<Receiver<S>>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, BodyIdle> {
    let started = monotonic_clock();
    let (head, body) = request.into_parts();
    let mut upload = UploadBody::new(&head, body);
    let access = receiver.access.current();
    let caller = identity::identify(access.ways(), peer.certificate.as_ref(), &head.headers);
    let episode = admit::episode_of(head.uri.path());
    let exchange = Exchange { receiver: &*receiver, access: &access, head: &head };
    let replied = exchange.route(&caller, episode.as_ref(), &mut upload).await;

    let (status_code, problem) = match &replied {
        Ok(reply) => (reply.response.status().as_u16(), reply.problem.map(ProblemType::urn)),
        Err(idle) => (0, Some(idle.to_string())),
    };
    tracing::info!(
        method = %printable(head.method.as_str()),
        episode = episode.and_then(Result::ok).map(tracing::field::display),
        path = %printable(head.uri.path()),
        host = caller.as_ref().ok().and_then(Caller::name).map(tracing::field::display),
        peer = %peer.address,
        status_code,
        bytes = upload.received,
        elapsed_ms = milliseconds(started.elapsed()),
        problem = problem.as_deref(),
        "request"
    );

    let mut reply = replied?;
    if upload.let_go() == Afterwards::Close {
        reply.response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply.response)
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

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Truncated(problem) => Self::Problem(problem),
            BodyError::Idle(idle) => Self::Idle(idle),
        }
    }
}

/// A request's head, and what it is answered from.
struct Exchange<'a, S> {
    receiver: &'a Receiver<S>,
    access: &'a Snapshot,
    head: &'a Parts,
}

impl<S: Store> Exchange<'_, S> {
    async fn route(
        &self,
        caller: &Result<Caller, Problem>,
        episode: Option<&Result<EpisodeId, Problem>>,
        body: &mut UploadBody,
    ) -> Result<Reply, BodyIdle> {
        // Whoever watches over this machine has no name here, and learns no more than whether it works.
        if self.head.uri.path() == "/healthz" {
            return Ok(self.health().await);
        }
        let caller = match caller {
            Ok(caller) => caller,
            Err(problem) => return Ok(Reply::unauthenticated(problem, &self.head.headers)),
        };
        Ok(match (episode, &self.head.method) {
            (Some(Err(problem)), _) => Reply::problem(problem),
            (Some(Ok(id)), &Method::PUT) => match self.put(caller, id, body).await {
                Ok(reply) => reply,
                Err(Refusal::Problem(problem)) => Reply::problem(&problem),
                Err(Refusal::Store(error)) => Reply::store_error(&error, Some(id)),
                Err(Refusal::Idle(idle)) => return Err(idle),
            },
            (Some(Ok(id)), &Method::HEAD) => self.describe(caller, id).await,
            (Some(Ok(_)), _) => Reply::method_not_allowed("HEAD, PUT"),
            (None, _) if self.head.uri.path() == ADMISSION_PATH => self.admission().await,
            (None, _) => Reply::not_found("Episodes are at /v1/episodes/{id}."),
        })
    }

    async fn health(&self) -> Reply {
        match self.head.method {
            Method::GET | Method::HEAD => match self.receiver.store.probe().await {
                Ok(()) => Reply::new(StatusCode::OK, "text/plain", "ok\n"),
                Err(error) => Reply::store_error(&error, None),
            },
            _ => Reply::method_not_allowed("GET, HEAD"),
        }
    }

    /// What a PUT with this commit, by this caller, would meet.
    async fn admission(&self) -> Reply {
        if !matches!(self.head.method, Method::GET | Method::HEAD) {
            return Reply::method_not_allowed("GET, HEAD");
        }
        if let Err(problem) = self.terms().take_commit(&SaidCommit::of(&self.head.headers)) {
            return Reply::problem(&problem);
        }
        match self.receiver.store.probe().await {
            Ok(()) => Reply::nothing(),
            Err(error) => Reply::store_error(&error, None),
        }
    }

    async fn describe(&self, caller: &Caller, id: &EpisodeId) -> Reply {
        match self.receiver.store.find(id).await {
            Ok(Some(held)) if identity::may_read(caller, owner(&held), &self.receiver.readers) => {
                Reply::described(&held)
            }
            Ok(Some(_)) => {
                let detail = "A host reads its own episodes; readers read every host's.";
                Reply::problem(&Problem::new(ProblemType::Forbidden, detail))
            }
            Ok(None) => Reply::not_found("No such episode is held."),
            Err(error) => Reply::store_error(&error, Some(id)),
        }
    }

    async fn put(&self, caller: &Caller, id: &EpisodeId, body: &mut UploadBody) -> Result<Reply, Refusal> {
        let offer = admit::read_offer(&self.head.headers)?;
        match self.admit(id, &offer).await? {
            Admitted::Held(receipt) => return Ok(Reply::receipt(StatusCode::OK, &receipt)),
            Admitted::Refused(problem) => {
                if matches!(problem.kind, ProblemType::CommitMissing | ProblemType::CommitOutOfWindow) {
                    self.receiver.tally.rejected_by_window(caller.name());
                }
                return Err(problem.into());
            }
            Admitted::Wanted => {}
        }
        let mut upload = self.receiver.store.begin();
        while let Some(bytes) = body.next().await? {
            upload.write(&bytes).await?;
        }
        match upload.publish(id, &offer).await? {
            Publication::Stored(held) => Ok(Reply::receipt(StatusCode::CREATED, &held.receipt())),
            Publication::NameTaken => match self.admit(id, &offer).await? {
                Admitted::Held(receipt) => Ok(Reply::receipt(StatusCode::OK, &receipt)),
                Admitted::Wanted | Admitted::Refused(_) => Err(Problem::new(
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

    /// Whether the body is wanted, before any byte of it is asked for.
    async fn admit(&self, id: &EpisodeId, offer: &Offer) -> Result<Admitted, Refusal> {
        let commit = SaidCommit::of(&self.head.headers);
        let terms = self.terms();
        let mut held = self.receiver.store.find(id).await?;
        let mut decision = admit::admit(offer, &commit, held.as_ref(), &terms);
        if decision == Decision::Unproven {
            held = self.receiver.store.verify(id).await?;
            decision = admit::admit(offer, &commit, held.as_ref(), &terms);
        }
        match (decision, held) {
            (Decision::Store, _) | (Decision::Unproven, None) => Ok(Admitted::Wanted),
            (Decision::AlreadyHeld(receipt), _) => Ok(Admitted::Held(receipt)),
            (Decision::Refused(problem), _) => Ok(Admitted::Refused(problem)),
            (Decision::Conflict(problem), _) => Err(problem.into()),
            // What cannot be proven after looking is not the same.
            (Decision::Unproven, Some(held)) => Err(admit::conflict(&held).into()),
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            window: self.access.window.as_deref(),
            remediation: &self.receiver.remediation,
            max_episode_bytes: self.receiver.max_episode_bytes,
        }
    }
}

/// What was decided of an offer that conflicts with nothing.
enum Admitted {
    Wanted,
    Held(Receipt),
    Refused(Problem),
}

/// The authenticated name that an episode was stored under. The store does not know it yet, and so only readers read where
/// callers are asked for their names.
fn owner(_: &Held) -> Option<&HostName> {
    None
}

fn milliseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the edge: how long a request took is measured for the log")]
fn monotonic_clock() -> Instant {
    Instant::now()
}
