//! Connections: made within the connect time-out, kept warm for a while, aborted when they are of no more use.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::{net::TcpStream, task::JoinHandle, time::Instant};
use tower_service::Service as _;

use super::{
    ClientError, Wait,
    body::Outgoing,
    error,
    flight::{Line, Wire},
    tls::Credentials,
};

/// How many idle connections are kept: one for each upload that runs beside others, and a few to spare.
const MAX_IDLE: usize = 8;

/// How long an idle connection is good for. Most servers and balancers close theirs after 60 s; using one in the moment
/// in which it is closed costs an attempt.
const MAX_IDLE_AGE: Duration = Duration::from_secs(50);

/// How long an idle connection may take to say that it is ready: it is, or it never will be.
const READY_WAIT: Duration = Duration::from_millis(100);

/// How much hyper buffers of what is sent, beside the chunk that it took last, and how long an answer's head may be, bytes.
const MAX_BUFFER_BYTES: usize = 256 * 1024;

/// How much the kernel takes before it has sent it, bytes. Without a bound that is megabytes, and on a slow line a
/// minute may pass until it takes more: an upload that moves would look like one that does not.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// TCP asks an idle peer whether it is still there (seconds until the first question, between them, and how many).
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// `TCP_USER_TIMEOUT` (RFC 5482) ends a connection whose bytes are not acknowledged. Our own clock shall be first, since it
/// knows what we are waiting for; this is for when nobody waits.
const USER_TIMEOUT_AFTER: Duration = Duration::from_secs(5);

/// Where a connection leads.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Destination {
    scheme: Scheme,
    authority: Authority,
}

impl Destination {
    pub(super) fn of(uri: &Uri) -> Result<Self, ClientError> {
        let refuse = |why: &str| Err(ClientError::Request(format!("{uri}: {why}")));
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return refuse("not an absolute address");
        };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return refuse("only http and https are spoken here");
        }
        if authority.as_str().contains('@') {
            // Not shown: what stands before the @ is a secret.
            return Err(ClientError::Request("the address holds a user name; use token_file".into()));
        }
        if authority.host().is_empty() {
            return refuse("the address names no host");
        }
        Ok(Self { scheme: scheme.clone(), authority: authority.clone() })
    }

    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    fn uri(&self) -> Result<Uri, ClientError> {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()
            .map_err(|error| ClientError::Request(error.to_string()))
    }
}

/// One connection. Dropping it ends it: a peer that no longer reads would hold it open for ever otherwise, whatever
/// becomes of the body.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Outgoing>,
    pub(super) line: Line,
    /// What the other end showed; empty without TLS.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
    destination: Destination,
    task: JoinHandle<()>,
    idle_since: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Name, TCP, TLS: all within the time-out.
    pub(super) async fn open(
        destination: &Destination,
        credentials: &Arc<Credentials>,
        connect_timeout: Duration,
        idle_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let opened = tokio::time::timeout(connect_timeout, async {
            let stream = connect(destination, credentials, connect_timeout, idle_timeout).await?;
            let certificates = shown(&stream);
            let line = Line::default();
            let wire = TokioIo::new(Wire::new(TokioIo::new(stream), line.clone()));
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_BUFFER_BYTES)
                .handshake(wire)
                .await
                .map_err(|error| ClientError::Lost(error::chain(&error)))?;
            let task = tokio::spawn(async move {
                // Whoever waits for an answer is told by hyper, and by the line; an idle one may end as it likes.
                if let Err(error) = connection.await {
                    tracing::debug!("a connection ended: {}", error::chain(&error));
                }
            });
            let destination = destination.clone();
            Ok(Self { sender, line, certificates, destination, task, idle_since: Instant::now() })
        });
        opened.await.unwrap_or(Err(ClientError::TimedOut(Wait::Connect)))
    }
}

fn shown(stream: &MaybeHttpsStream<TokioIo<TcpStream>>) -> Arc<[CertificateDer<'static>]> {
    match stream {
        MaybeHttpsStream::Http(_) => Arc::default(),
        MaybeHttpsStream::Https(tls) => {
            tls.inner().get_ref().1.peer_certificates().unwrap_or_default().into()
        }
    }
}

async fn connect(
    destination: &Destination,
    credentials: &Arc<Credentials>,
    connect_timeout: Duration,
    idle_timeout: Duration,
) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, ClientError> {
    let uri = destination.uri()?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Divided among the addresses of a name, so that one dead address leaves time for the next.
    tcp.set_connect_timeout(Some(connect_timeout));
    let (first, between, probes) = KEEPALIVE;
    tcp.set_keepalive(Some(first));
    tcp.set_keepalive_interval(Some(between));
    tcp.set_keepalive_retries(Some(probes));
    tcp.set_tcp_user_timeout(Some(idle_timeout + USER_TIMEOUT_AFTER));
    let stream = if destination.scheme == Scheme::HTTPS {
        let credentials = Arc::clone(credentials);
        // The first time, this reads the system's authorities from the disk.
        let config = tokio::task::spawn_blocking(move || credentials.config())
            .await
            .map_err(|error| ClientError::Tls(error.to_string()))??;
        HttpsConnector::from((tcp, config))
            .call(uri)
            .await
            .map_err(|error| error::of_connecting(error.as_ref()))?
    } else {
        tcp.call(uri).await.map(MaybeHttpsStream::Http).map_err(|error| error::of_connecting(&error))?
    };
    let socket = match &stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    };
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(MAX_UNSENT_BYTES) {
        tracing::debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
    }
    Ok(stream)
}

/// The idle connections, the one used last on top.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that leads there, alive as far as can be seen.
    pub(super) async fn take(&self, destination: &Destination) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.lock();
                idle.retain(|one| one.idle_since.elapsed() < MAX_IDLE_AGE && !one.sender.is_closed());
                let newest = idle.iter().rposition(|one| one.destination == *destination)?;
                idle.remove(newest)
            };
            if let Ok(Ok(())) = tokio::time::timeout(READY_WAIT, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    /// Keeps one whose exchange ended well.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.lock();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(connection);
    }
}
