//! The HTTP client: a few warm HTTP/1.1 connections, TLS, and time-outs that know what they wait
//! for.
//!
//! ```text
//!  Client::send ─▶ idle.rs     a connection that was kept, or
//!       │          connect.rs  a new one: DNS, TCP, TLS                           connect time-out
//!       │              │
//!       │          body.rs     100-continue, then the chunks ─▶ flight.rs counts  idle time-out
//!       │              │
//!       └────────▶ the head of the answer, counted from the last byte sent        answer time-out
//!                      │
//!                  Answered: its body, in pieces or bounded                       idle time-out
//! ```
//!
//! There is no total time-out: what moves may take days. No redirect is followed. What was sent is
//! sent again only where a connection was kept and had died meanwhile: the other end may close it
//! in the moment in which it is used. An answer that comes before the body is through is read and
//! believed (RFC 9112, section 9.5); that connection is then closed. Pooling clients leaked a
//! socket for every such answer, which is why this one holds its connections itself.
//!
//! HTTP/2 is left out: it shows no 1xx answers through hyper, and one upload is one connection here
//! anyway.

mod body;
mod connect;
mod error;
mod flight;
mod idle;
mod question;
mod stale;
mod tls;

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

pub use self::error::Wait;
use self::{
    body::OutgoingBody,
    connect::{ConnectTarget, Connection, FIRST_WRITE_WAIT, Patience},
    flight::Flight,
    idle::Idle,
    tls::Credentials,
};
pub(crate) use self::{
    body::RequestBody,
    error::{CERTIFICATE_OF_AN_AUTHORITY, ClientError, OUR_CERTIFICATE},
};
use crate::{
    config::{ReceiverConfig, key_files::FileError},
    http::url_template::Blot,
    model::{progress::Progress, text::printable},
};

/// What we call ourselves (RFC 9110, section 10.1.5).
const USER_AGENT: &str = concat!("sealift/", env!("CARGO_PKG_VERSION"));

/// A request to make. `Host`, `User-Agent`, `Content-Length` and `Authorization` are added where
/// they are not set.
#[derive(Debug)]
pub struct Request {
    /// GET, HEAD, PUT ...
    pub method: Method,
    /// The absolute address.
    pub uri: Uri,
    /// Further headers. `Expect: 100-continue` among them holds the body back until the server asks
    /// for it, or says nothing for a second.
    pub headers: HeaderMap,
    /// What is sent after the head.
    pub body: RequestBody,
}

impl Request {
    /// The same once more, where its body is in memory.
    fn again(&self) -> Option<Self> {
        let Self {
            method,
            uri,
            headers,
            body,
        } = self;
        let (method, uri, headers) = (method.clone(), uri.clone(), headers.clone());
        Some(Self {
            method,
            uri,
            headers,
            body: body.again()?,
        })
    }
}

/// The client. Clones share its connections.
#[derive(Clone)]
pub struct Client(Arc<ClientInner>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// How long it waits, as `[receiver]` of the configuration says.
#[derive(Clone, Copy)]
struct Timeouts {
    connect: Duration,
    idle: Duration,
    answer: Duration,
}

struct ClientInner {
    timeouts: Timeouts,
    credentials: Arc<Credentials>,
    idle: Arc<Idle>,
}

impl Client {
    /// Reads and checks the files. Opens no connection.
    ///
    /// # Errors
    /// [`FileError`] names the file, what is wrong with it and what to do. That the system has no
    /// trusted certificates is an error of the first https exchange, and of no other.
    pub fn new(config: &ReceiverConfig) -> Result<Self, FileError> {
        let credentials = Arc::new(Credentials::read(config)?);
        Ok(Self(Arc::new(ClientInner {
            timeouts: Timeouts {
                connect: config.connect_timeout,
                idle: config.idle_timeout,
                answer: config.answer_timeout,
            },
            credentials,
            idle: Arc::default(),
        })))
    }

    /// Makes one request, once. `progress` is told of body bytes as they leave and of everything
    /// that comes, and stops the exchange when it is cancelled; so does dropping the future.
    ///
    /// # Errors
    /// [`ClientError`]. What was sent until then may have arrived.
    pub async fn send(
        &self,
        request: Request,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        tokio::select! {
            biased;
            () = progress.cancelled() => Err(ClientError::Cancelled),
            answered = self.exchange(request, progress) => {
                answered.map_err(|error| self.0.credentials.blamed(error))
            }
        }
    }

    /// The other end is known to serve more than one connection at a time: those that are idle are
    /// kept for longer.
    pub fn serves_many(&self) {
        self.0.idle.serves_many();
    }

    async fn exchange(
        &self,
        request: Request,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        let timeouts = self.0.timeouts;
        let credentials = &self.0.credentials;
        let destination = ConnectTarget::of(&request.uri)?;
        let is_upload = matches!(request.method, Method::PUT | Method::PATCH);
        let mut again = request.again();
        let mut flight = Flight::new(progress.clone());
        let mut request = prepare(request, &destination, credentials, &flight)?;
        loop {
            let idle = self.0.idle.take(&destination).await;
            let is_fresh = idle.is_none();
            let waiting = is_fresh.then(|| self.0.idle.waits(&destination, &flight));
            let mut connection = match idle {
                Some(connection) => connection,
                None => {
                    Connection::open(&destination, credentials, timeouts.connect, timeouts.idle)
                        .await?
                }
            };
            connection.line.carries(&flight);
            let patience = (!is_fresh).then(|| Patience::short(&connection));
            let sending = connection.sender.try_send_request(request);
            let head = self.await_head(sending, &flight, patience).await;
            drop(waiting);
            let (unsent, error) = match head? {
                Ok(response) if !is_fresh && stale::closes_an_idle_one(&response) => (
                    None,
                    ClientError::Lost("the other end closed it as idle".to_owned()),
                ),
                Ok(response) => {
                    return Ok(Answered::new(
                        self.clone(),
                        connection,
                        flight,
                        is_upload,
                        response,
                    ));
                }
                Err(mut failed) => {
                    let unsent = failed.take_message();
                    let error = reason(&connection, &flight, &failed.into_error());
                    if is_fresh || flight.has_heard() || !stale::ends_a_connection(&error) {
                        return Err(error);
                    }
                    (unsent, error)
                }
            };
            // It had died while it was kept. The others are as old, or older.
            self.0.idle.forget(&destination);
            request = match (unsent, again.take()) {
                // Not a byte of this was sent.
                (Some(unsent), same) => {
                    again = same;
                    unsent
                }
                // No answer came of it, and PUT is idempotent (RFC 9110, section 9.2.2).
                (None, Some(same)) => {
                    again = same.again();
                    flight = Flight::new(progress.clone());
                    prepare(same, &destination, credentials, &flight)?
                }
                (None, None) => return Err(ClientError::Stale(error.to_string())),
            };
        }
    }

    /// Waits as long as something moves. The inner result is hyper's.
    async fn await_head<T>(
        &self,
        head: impl Future<Output = T>,
        flight: &Flight,
        patience: Option<Patience>,
    ) -> Result<T, ClientError> {
        let Timeouts { idle, answer, .. } = self.0.timeouts;
        let mut head = pin!(head);
        if let Some(patience) = patience {
            // A peer that acknowledges the first bytes has all the time of the settings for the
            // rest.
            let first = Instant::now() + FIRST_WRITE_WAIT + FIRST_WRITE_WAIT / 2;
            let first = first.min(Instant::now() + idle.min(answer));
            tokio::select! {
                biased;
                result = &mut head => return Ok(result),
                () = flight.first_heard() => {}
                () = tokio::time::sleep_until(first) => {}
            }
            drop(patience);
        }
        loop {
            let (deadline, _) = flight.patience(idle, answer);
            // What we wait for may change meanwhile, to something shorter.
            let look_again = Instant::now() + idle.min(answer);
            if let Ok(result) = tokio::time::timeout_at(deadline.min(look_again), &mut head).await {
                return Ok(result);
            }
            let (deadline, wait) = flight.patience(idle, answer);
            if deadline <= Instant::now() {
                return Err(ClientError::TimedOut(wait));
            }
        }
    }
}

fn prepare(
    request: Request,
    destination: &ConnectTarget,
    credentials: &Credentials,
    flight: &Flight,
) -> Result<http::Request<OutgoingBody>, ClientError> {
    let bad = |error: &dyn std::fmt::Display| ClientError::Request(error.to_string());
    let Request {
        method,
        uri,
        mut headers,
        body,
    } = request;
    let host = HeaderValue::from_str(&destination.without_zone()).map_err(|error| bad(&error))?;
    headers.entry(header::HOST).or_insert(host);
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(USER_AGENT));
    if let Some(authorization) = &credentials.authorization {
        headers
            .entry(header::AUTHORIZATION)
            .or_insert_with(|| authorization.clone());
    }
    // What is asked is how things are now; a cache on the way that keeps answers asks on then.
    if matches!(method, Method::GET | Method::HEAD) {
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache"));
    }
    // A GET without a body has no length either. What is meant to have one says 0 (RFC 9110,
    // section 8.6): hyper leaves it out then, and a receiver would take it for an upload without a
    // length.
    if let Some(len_bytes) = body.len_bytes()
        && (len_bytes > 0 || matches!(method, Method::PUT | Method::PATCH | Method::POST))
    {
        headers.insert(header::CONTENT_LENGTH, len_bytes.into());
    }
    let expects = headers
        .get(header::EXPECT)
        .is_some_and(|value| value == "100-continue");
    let mut prepared = http::Request::new(OutgoingBody::new(body, flight));
    *prepared.method_mut() = method;
    // Origin form (RFC 9112, section 3.2.1): the host is in its header.
    *prepared.uri_mut() = uri
        .path_and_query()
        .map_or(Ok(Uri::from_static("/")), |path| {
            Uri::try_from(path.as_str())
        })
        .map_err(|error| bad(&error))?;
    *prepared.headers_mut() = headers;
    if expects {
        OutgoingBody::expect_continue(&mut prepared);
    }
    Ok(prepared)
}

/// Why there is no answer, from the layer that knows best: the body's source, the layers below,
/// hyper.
fn reason(connection: &Connection, flight: &Flight, error: &hyper::Error) -> ClientError {
    if let Some(error) = flight.take_body_error() {
        return ClientError::Body(error);
    }
    if let Some(broken) = connection.line.take_broken() {
        return broken;
    }
    ClientError::Lost(if error.is_parse() {
        format!("the answer is not HTTP: {}", error::chain(error))
    } else if error.is_incomplete_message() {
        "the other end closed it without a whole answer".to_owned()
    } else {
        error::chain(error)
    })
}

fn reason_phrase(head: &http::response::Parts) -> String {
    let came = head.extensions.get::<hyper::ext::ReasonPhrase>();
    let came = came.map(|came| String::from_utf8_lossy(came.as_bytes()));
    let standard = || head.status.canonical_reason().unwrap_or_default().into();
    printable(&came.unwrap_or_else(standard))
}

/// An answer, its head read. Dropped before its body was read to the end, it closes the connection.
pub struct Answered {
    /// The status: whatever three digits came.
    pub status: StatusCode,
    /// The words behind it, printable: those that came, else those that HTTP has for it.
    pub reason: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The certificate that the other end showed, and what leads up from it; empty where TLS is not
    /// spoken.
    pub server_certificates: Arc<[CertificateDer<'static>]>,
    /// Whether the whole request had left by then. Otherwise the rest of it was not sent, and never
    /// will be.
    pub request_sent: bool,
    /// Whether both ends of the connection have an address of this host.
    pub of_this_host: bool,
    body: Incoming,
    client: Client,
    /// `None` once it is back with the others, or lost.
    connection: Option<Connection>,
    flight: Flight,
    progress: Progress,
    is_of_upload: bool,
    blot: Blot,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// An answer's body, read into memory.
#[derive(Debug)]
pub struct ShortBody {
    /// What came, at most the bound.
    pub bytes: Vec<u8>,
    /// Whether that is all of it.
    pub end: BodyEnd,
}

/// How the reading of a [`ShortBody`] ended.
#[derive(Debug)]
pub enum BodyEnd {
    /// It is complete.
    Whole,
    /// There was more than the bound.
    TooLong,
    /// It broke off.
    Broken(ClientError),
}

impl Answered {
    fn new(
        client: Client,
        connection: Connection,
        flight: Flight,
        is_of_upload: bool,
        response: http::Response<Incoming>,
    ) -> Self {
        let (head, body) = response.into_parts();
        let request_sent = flight.answered();
        let progress = flight.progress();
        let mut answered = Self {
            status: head.status,
            reason: reason_phrase(&head),
            headers: head.headers,
            server_certificates: Arc::clone(&connection.certificates),
            request_sent,
            of_this_host: connection.of_this_host,
            body,
            client,
            connection: Some(connection),
            flight,
            progress,
            is_of_upload,
            blot: Blot::default(),
        };
        if answered.body.is_end_stream() {
            answered.ended();
        }
        answered
    }

    /// The same; a short body is read without what this blots.
    #[must_use]
    pub fn blotted_by(self, blot: Blot) -> Self {
        Self { blot, ..self }
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`ClientError`]; none is tried again, and after one there is nothing more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let progress = self.progress.clone();
        loop {
            if self.connection.is_none() {
                return Ok(None);
            }
            let frame = tokio::select! {
                biased;
                () = progress.cancelled() => Err(ClientError::Cancelled),
                frame = tokio::time::timeout(self.client.0.timeouts.idle, self.body.frame()) =>
                    frame.map_err(|_| ClientError::TimedOut(Wait::Idle)),
            };
            match frame {
                Ok(None) => self.ended(),
                Ok(Some(Ok(frame))) => {
                    // Trailers are passed over.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => {
                    let connection = self.connection.take();
                    return Err(connection.map_or(ClientError::Cancelled, |connection| {
                        reason(&connection, &self.flight, &error)
                    }));
                }
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
            }
        }
    }

    /// The whole body where it is short, within one idle time-out: a few kilobytes that take longer
    /// are not coming.
    pub async fn short_body(mut self, max_bytes: usize) -> ShortBody {
        let deadline = Instant::now() + self.client.0.timeouts.idle;
        let mut bytes = Vec::new();
        let end = loop {
            match tokio::time::timeout_at(deadline, self.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    let room = max_bytes - bytes.len();
                    bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        break BodyEnd::TooLong;
                    }
                }
                Ok(Ok(None)) => break BodyEnd::Whole,
                Ok(Err(error)) => break BodyEnd::Broken(error),
                Err(_) => break BodyEnd::Broken(ClientError::TimedOut(Wait::Idle)),
            }
        };
        ShortBody {
            bytes: self.blot.body(bytes),
            end,
        }
    }

    /// The body was read to its end: the connection serves the next, unless our own body was cut
    /// short by this answer, or this is one after which more may come.
    fn ended(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.request_sent
            && stale::serves_the_next(self.status)
        {
            // A 200 without a receipt is asked after.
            let question_follows = self.is_of_upload && self.status == StatusCode::OK;
            self.client.0.idle.put(connection, question_follows);
        }
    }
}
