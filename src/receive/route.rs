//! One request, from its head to its answer and its line in the log.

use std::sync::Arc;

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts,
    uri::Authority,
};
use hyper::body::Incoming;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    admit,
    body::{Afterwards, BodyIdle, UploadBody},
    get::EPISODE_METHODS,
    identity::{self, Caller},
    metrics,
    put::{self, Named},
    reply::{Reply, ReplyBody},
    request_context::{Exchange, Peer, RequestContext, RequestRefusal},
    room::UsedUp,
    store::{Store, StoreError},
    tally::Guest,
    window::SaidCommit,
};
use crate::{
    clock,
    model::{
        episode::{EpisodeId, HostName},
        exposition::ExpositionFormat,
        text::printable,
        wire::{ACCEPTS, ADMISSION_PATH, LATE_DIGEST, Problem, ProblemType},
    },
};

/// What the server as a whole takes.
const SERVER_METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// Answers one request, each in a task of its own, so that a fault of ours ends that request alone.
/// One that brings an archive outlives its connection: hyper drops what it
/// waits for when that goes, and what has arrived is to be published, kept and told of all the
/// same. Any other ends with the connection.
///
/// # Errors
/// [`BodyIdle`]: the connection is to be dropped.
pub(super) async fn answer<S: Store>(
    receiver: Arc<RequestContext<S>>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, BodyIdle> {
    let brings_bytes = matches!(
        *request.method(),
        Method::PUT | Method::POST | Method::PATCH
    );
    let (started, tally) = (Instant::now(), Arc::clone(&receiver.tally));
    let (method, uri, address) = (
        request.method().clone(),
        request.uri().clone(),
        peer.address,
    );
    let task = tokio::spawn(exchange(receiver, peer, request));
    let _ends_with_this = (!brings_bytes).then(|| AbortOnDrop(task.abort_handle()));
    let ended = task.await;
    let answered = ended.unwrap_or_else(|error| {
        let elapsed = started.elapsed();
        tally.answered(&method, 500, 0, elapsed);
        tally.panicked();
        let (method, path) = (printable(method.as_str()), printable(uri.path()));
        tracing::error!(
            %method, %path, peer = %address, status_code = 500, %error,
            elapsed_ms = clock::milliseconds(elapsed),
            "{method} {path} from {address}: 500, a fault in the receiver itself: {error}"
        );
        Ok(panicked())
    });
    answered.map(|mut response| {
        // Every answer says how things are now, and some depend on who asks. A cache that kept one
        // would say that an episode is held that has gone, or admit a commit that is refused.
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    })
}

/// Ends a task that is not waited for any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange<S: Store>(
    receiver: Arc<RequestContext<S>>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, BodyIdle> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let mut upload = UploadBody::new(&head, body, receiver.limits.min_body_rate_bytes_per_s);
    let access = receiver.access.current();
    let caller = identity::identify(access.ways(), peer.certificate.as_ref(), &head.headers);
    let caller = caller.and_then(|caller| receiver.hosts.admit(caller, access.tokens.as_deref()));
    let place = Route::of(&head);
    let exchange = Exchange {
        receiver: &receiver,
        peer: &peer,
        access: &access,
        head: &head,
    };
    let replied = exchange.route(&peer, &caller, &place, &mut upload).await;

    let (status_code, problem) = match &replied {
        Ok(reply) => (
            reply.response.status().as_u16(),
            reply.problem.map(ProblemType::urn),
        ),
        Err(idle) => (0, Some(idle.to_string())),
    };
    let elapsed = started.elapsed();
    let (method, path) = (printable(head.method.as_str()), printable(head.uri.path()));
    let host = caller.as_ref().ok().and_then(Caller::name);
    receiver
        .tally
        .answered(&head.method, status_code, upload.received, elapsed);
    tracing::info!(
        %method,
        episode = place.episode().map(tracing::field::display),
        %path,
        host = host.map(tracing::field::display),
        peer = %peer.address,
        status_code,
        bytes = upload.received,
        elapsed_ms = clock::milliseconds(elapsed),
        problem = problem.as_deref(),
        "{method} {path} from {}: {}{}",
        host.map_or_else(|| peer.address.to_string(), |host| format!("{host} ({})", peer.address)),
        if status_code == 0 { "no answer".to_owned() } else { status_code.to_string() },
        problem.as_deref().map_or_else(String::new, |problem| format!(", {problem}")),
    );

    let mut reply = replied?;
    if upload.let_go() == Afterwards::Close || peer.is_spare {
        reply.set(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply.response)
}

/// What is answered when a fault of ours, which is in the log, has ended a request.
fn panicked() -> Response<ReplyBody> {
    let detail = "A fault in the receiver itself; its log says more.";
    Reply::problem(&Problem::new(ProblemType::StoreFailed, detail)).response
}

/// It is to come back when others have ended.
fn too_many(detail: &str) -> Reply {
    Reply::problem(&Problem::new(ProblemType::TooMany, detail)).with("retry-after", 5)
}

/// What a path is about.
enum Route {
    Episode(Result<EpisodeId, Problem>),
    Upload(Result<Named, Problem>),
    Admission,
    Health,
    Metrics,
    /// All of it: `OPTIONS *`, or as a proxy is asked for it, `OPTIONS http://host` (RFC 9112,
    /// section 3.2.4).
    Server,
    Nowhere,
}

impl Route {
    fn of(head: &Parts) -> Self {
        let path = head.uri.path();
        if let Some(episode) = admit::episode_of(path) {
            return Self::Episode(episode);
        }
        if let Some(upload) = put::upload_of(path) {
            return Self::Upload(upload);
        }
        match path {
            ADMISSION_PATH => Self::Admission,
            "/healthz" => Self::Health,
            "/metrics" => Self::Metrics,
            "*" => Self::Server,
            // An empty path is not told from this one.
            "/" if head.method == Method::OPTIONS && head.uri.authority().is_some() => Self::Server,
            _ => Self::Nowhere,
        }
    }

    fn episode(&self) -> Option<&EpisodeId> {
        match self {
            Self::Episode(Ok(id)) | Self::Upload(Ok(Named { id, .. })) => Some(id),
            _ => None,
        }
    }
}

/// Whether the request says once for which host it is, in HTTP/1.1 at least (RFC 9112, section
/// 3.2).
fn host_is_said(head: &Parts) -> Result<(), Problem> {
    let mut lines = head.headers.get_all(header::HOST).iter();
    let detail = match (lines.next(), lines.next()) {
        (None, _) if head.version < Version::HTTP_11 => return Ok(()),
        (Some(host), None) if is_host(host) => return Ok(()),
        (None, _) => "There is no Host header.",
        (Some(_), None) => "Host is not a host's name, with or without a port.",
        (Some(_), Some(_)) => "There is more than one Host header.",
    };
    Err(Problem::new(ProblemType::HostInvalid, detail))
}

/// `uri-host [ ":" port ]`, or nothing (RFC 9110, section 7.2).
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let Ok(authority) = text.parse::<Authority>() else {
        return text.is_empty();
    };
    let port = text
        .strip_prefix(authority.host())
        .map(|port| port.strip_prefix(':').unwrap_or(port));
    port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

impl<S: Store> Exchange<'_, S> {
    async fn route(
        &self,
        peer: &Peer,
        caller: &Result<Caller, Problem>,
        place: &Route,
        body: &mut UploadBody,
    ) -> Result<Reply, BodyIdle> {
        let method = &self.head.method;
        if let Err(problem) = host_is_said(self.head) {
            return Ok(Reply::problem(&problem));
        }
        // A monitor of this machine has no name here, and learns no more than whether it works.
        if let Route::Health = place {
            return Ok(self.health().await);
        }
        if let (Route::Metrics, true) = (place, peer.address.ip().to_canonical().is_loopback()) {
            return Ok(self.metrics().await);
        }
        if let (Route::Server, &Method::OPTIONS) = (place, method) {
            return Ok(Reply::options(SERVER_METHODS));
        }
        if peer.is_spare {
            let detail = "Each connection that this receiver takes has a request under way.";
            return Ok(too_many(detail));
        }
        let caller = match caller {
            Ok(caller) => caller,
            Err(problem) => {
                let (ways, headers) = (self.access.ways(), &self.head.headers);
                return Ok(Reply::unauthenticated(problem, ways, headers));
            }
        };
        // Its answer's body is of the request.
        let Some(guest) = self.guest(caller) else {
            let detail = "This host has as many requests under way as it may.";
            return Ok(too_many(detail));
        };
        let replied = match place {
            Route::Episode(Err(problem)) | Route::Upload(Err(problem)) => {
                Ok(Reply::problem(problem))
            }
            Route::Episode(Ok(id)) => match *method {
                Method::PUT | Method::POST => self.put(caller, id, body).await,
                Method::HEAD => self.describe(caller, id).await,
                Method::GET => self.send(caller, id).await,
                _ => Ok(Reply::method_not_allowed(EPISODE_METHODS)),
            },
            Route::Upload(Ok(named)) => self.upload(caller, named, body).await,
            Route::Admission => {
                let accepts = HeaderValue::from_static(LATE_DIGEST);
                Ok(self.admission(caller).await.with(ACCEPTS, accepts))
            }
            Route::Metrics
                if caller
                    .name()
                    .is_none_or(|name| self.receiver.readers.contains(name)) =>
            {
                Ok(self.metrics().await)
            }
            Route::Metrics => {
                let detail = "Readers read the metrics, and callers on this machine.";
                Ok(Reply::problem(&Problem::new(
                    ProblemType::Forbidden,
                    detail,
                )))
            }
            Route::Health | Route::Server | Route::Nowhere => {
                Ok(Reply::not_found("Episodes are at /v1/episodes/{id}."))
            }
        };
        let reply = match replied {
            Ok(reply) => reply,
            Err(RequestRefusal::Problem(problem)) => Reply::problem(&problem),
            Err(RequestRefusal::Store(error)) => self.store_error(&error, place.episode()).await,
            Err(RequestRefusal::Idle(idle)) => return Err(idle),
        };
        Ok(reply.holding(guest))
    }

    /// A place among the requests of this host; `None` where it has as many as it may. Who has no
    /// name is limited by the number of connections alone: behind one address there may be a whole
    /// laboratory.
    fn guest(&self, caller: &Caller) -> Option<Guest> {
        self.receiver.tally.enter(
            caller.name(),
            self.receiver.limits.max_connections_per_host.get(),
        )
    }

    /// Whether an upload could be taken: written at all, and with room to spare.
    async fn health(&self) -> Reply {
        if !matches!(self.head.method, Method::GET | Method::HEAD) {
            return Reply::method_not_allowed("GET, HEAD");
        }
        match self.can_store(None, 0).await {
            Ok(()) => Reply::new(StatusCode::OK, "text/plain", "ok\n"),
            Err(reply) => reply,
        }
    }

    async fn metrics(&self) -> Reply {
        if !matches!(self.head.method, Method::GET | Method::HEAD) {
            return Reply::method_not_allowed("GET, HEAD");
        }
        let can_store = self.can_store(None, 0).await.is_ok();
        let format = ExpositionFormat::accepted(&self.head.headers);
        let text = metrics::text(self.receiver, can_store, format).await;
        Reply::new(StatusCode::OK, format.media_type(), text)
            .with("vary", HeaderValue::from_static("accept"))
    }

    /// What a PUT with this commit, by this caller, would meet; of an archive of this length, where
    /// one is said.
    async fn admission(&self, caller: &Caller) -> Reply {
        if !matches!(self.head.method, Method::GET | Method::HEAD) {
            return Reply::method_not_allowed("GET, HEAD");
        }
        if let Err(problem) = self
            .terms()
            .take_commit(&SaidCommit::of(&self.head.headers))
        {
            return Reply::problem(&problem);
        }
        let size_bytes = match put::upload_length(&self.head.headers) {
            Ok(size_bytes) => size_bytes.unwrap_or(0),
            Err(problem) => return Reply::problem(&problem),
        };
        if let Err(problem) = self.terms().take_size(size_bytes) {
            return Reply::problem(&problem);
        }
        match self.can_store(caller.name(), size_bytes).await {
            Ok(()) => Reply::nothing(),
            Err(reply) => reply,
        }
    }

    async fn can_store(&self, host: Option<&HostName>, size_bytes: u64) -> Result<(), Reply> {
        let store = &self.receiver.store;
        let is_there = self.receiver.room.is_there(store, host, size_bytes);
        let (probed, there) = tokio::join!(store.probe(), is_there);
        match probed.and(there) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(problem)) => Err(Reply::problem(&problem)),
            Err(error) => Err(self.store_error(&error, None).await),
        }
    }

    /// What the disk said, and of what there is no more where it is full.
    async fn store_error(&self, error: &StoreError, id: Option<&EpisodeId>) -> Reply {
        let used_up = match error {
            StoreError::Full(error) => {
                Some(UsedUp::of(error, self.receiver.store.space().await.ok()))
            }
            StoreError::Failed(_) | StoreError::Fenced | StoreError::Unfinished => None,
        };
        // A question is no upload.
        if let (Some(used_up), Some(_)) = (used_up, id) {
            self.receiver.tally.store_was_full(used_up.name());
        }
        Reply::store_error(error, used_up, id)
    }
}
