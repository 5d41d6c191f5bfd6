//! Connections: made within the connect time-out, aborted when they are of no more use.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::{GaiAddrs, GaiFuture, GaiResolver, Name},
    },
    rt::TokioIo,
};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use socket2::SockRef;
use tokio::{net::TcpStream, task::JoinHandle, time::Instant};
use tower_service::Service;

use super::{
    ClientError, Wait,
    body::OutgoingBody,
    error,
    flight::{ConnectionShare, Wire},
    tls::Credentials,
};
use crate::model::text::without_query;

/// How much hyper buffers of what is sent, beside the chunk that it took last, and how long an
/// answer's head may be, bytes.
const MAX_BUFFER_BYTES: usize = 256 * 1024;

/// How much the kernel takes before it has sent it, bytes. Without a bound that is megabytes, and
/// on a slow line a minute may pass until it takes more: an upload that moves would look like one
/// that does not.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// `TCP_USER_TIMEOUT` (RFC 5482) ends a connection whose bytes are not acknowledged. Our own clock
/// shall be first, since it knows what we are waiting for; this is for when no request waits.
const USER_TIMEOUT_AFTER: Duration = Duration::from_secs(5);

/// So many times TCP asks a silent peer whether it is still there, before it is given up.
const KEEPALIVE_PROBES: u32 = 3;

/// What is written first on a connection that was kept is acknowledged within this time, or the
/// peer is gone: a firewall on the way forgets connections and tells neither end.
pub(super) const FIRST_WRITE_WAIT: Duration = Duration::from_secs(5);

/// When TCP first asks a silent peer, and how long between two questions. Linux counts no probes
/// once `TCP_USER_TIMEOUT` is set: it ends the connection at the first probe that finds the peer
/// silent for that long. So they are spread such that one falls due just then, and a peer that is
/// gone is found out after the idle time-out and [`USER_TIMEOUT_AFTER`], as one that acknowledges
/// nothing is.
fn keepalive(user_timeout: Duration) -> (Duration, Duration) {
    let between_s = (user_timeout.as_secs() / 2 / u64::from(KEEPALIVE_PROBES)).max(1);
    let first_s = user_timeout
        .as_secs()
        .saturating_sub(between_s * u64::from(KEEPALIVE_PROBES))
        .max(1);
    (Duration::from_secs(first_s), Duration::from_secs(between_s))
}

/// What stands before an address's zone (RFC 6874).
const ZONE: &str = "%25";

/// The system's resolver, which reads a zone behind a bare `%`.
#[derive(Clone)]
struct ZoneResolver(GaiResolver);

impl Service<Name> for ZoneResolver {
    type Response = GaiAddrs;
    type Error = io::Error;
    type Future = GaiFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> GaiFuture {
        let unescaped = name.as_str().replacen(ZONE, "%", 1).parse();
        self.0.call(unescaped.unwrap_or(name))
    }
}

/// Where a connection leads.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ConnectTarget {
    scheme: Scheme,
    authority: Authority,
}

impl ConnectTarget {
    pub(super) fn of(uri: &Uri) -> Result<Self, ClientError> {
        let refuse = |why: &str| {
            Err(ClientError::Request(format!(
                "{}: {why}",
                without_query(&uri.to_string())
            )))
        };
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return refuse("not an absolute address");
        };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return refuse("only http and https are spoken here");
        }
        if authority.as_str().contains('@') {
            // Not shown: what stands before the @ is a secret.
            return Err(ClientError::Request(
                "the address holds a user name; use token_file".into(),
            ));
        }
        if authority.host().is_empty() {
            return refuse("the address names no host");
        }
        Ok(Self {
            scheme: scheme.clone(),
            authority: authority.clone(),
        })
    }

    /// Host and port for the other end: the zone of an address, as in `[fe80::1%25eth0]`, means
    /// something on this host alone (RFC 6874, section 4).
    pub(super) fn without_zone(&self) -> String {
        let whole = self.authority.as_str();
        match (whole.find(ZONE), whole.find(']')) {
            (Some(zone), Some(end)) => format!("{}{}", &whole[..zone], &whole[end..]),
            (_, _) => whole.to_owned(),
        }
    }

    /// What the certificate has to be for.
    fn server_name(&self) -> Result<ServerName<'static>, InvalidDnsNameError> {
        let host = self.authority.host();
        let host = host.split(ZONE).next().unwrap_or(host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(bare.to_owned())
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

/// One connection. Dropping it ends it: a peer that no longer reads would hold it open for ever
/// otherwise, whatever becomes of the body.
pub(super) struct Connection {
    pub(super) sender: SendRequest<OutgoingBody>,
    pub(super) line: ConnectionShare,
    /// What the other end showed; empty without TLS.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
    pub(super) destination: ConnectTarget,
    /// Whether the other end is this host as well.
    pub(super) of_this_host: bool,
    /// A second handle: hyper holds the first, and its options change meanwhile.
    pub(super) socket: Arc<OwnedFd>,
    user_timeout: Duration,
    task: JoinHandle<()>,
    pub(super) opened_at: Instant,
    pub(super) idle_since: Instant,
    /// See [`super::idle`].
    pub(super) question_follows: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Name, TCP, TLS: all within the time-out.
    pub(super) async fn open(
        destination: &ConnectTarget,
        credentials: &Arc<Credentials>,
        connect_timeout: Duration,
        idle_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let opened = tokio::time::timeout(connect_timeout, async {
            let stream = connect(destination, credentials, connect_timeout, idle_timeout).await?;
            let certificates = shown(&stream);
            let of_this_host = is_of_this_host(tcp_of(&stream));
            let socket = tcp_of(&stream).as_fd().try_clone_to_owned();
            let socket =
                Arc::new(socket.map_err(|error| ClientError::Unreachable(error.to_string()))?);
            let line = ConnectionShare::default();
            let wire = TokioIo::new(Wire::new(TokioIo::new(stream), line.clone()));
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(MAX_BUFFER_BYTES)
                .handshake(wire)
                .await
                .map_err(|error| ClientError::Lost(error::chain(&error)))?;
            let task = tokio::spawn(async move {
                // A request that waits for an answer is told by hyper, and by the line; an idle
                // connection may end as it likes.
                if let Err(error) = connection.await {
                    tracing::debug!("a connection ended: {}", error::chain(&error));
                }
            });
            let destination = destination.clone();
            let user_timeout = idle_timeout + USER_TIMEOUT_AFTER;
            let opened_at = Instant::now();
            Ok(Self {
                sender,
                line,
                certificates,
                destination,
                of_this_host,
                socket,
                user_timeout,
                task,
                opened_at,
                idle_since: opened_at,
                question_follows: false,
            })
        });
        opened
            .await
            .unwrap_or(Err(ClientError::TimedOut(Wait::Connect)))
    }
}

/// To an address of its own a host speaks from that address, or on the loopback.
fn is_of_this_host(tcp: &TcpStream) -> bool {
    match (tcp.peer_addr(), tcp.local_addr()) {
        (Ok(peer), Ok(own)) => peer.ip().to_canonical().is_loopback() || peer.ip() == own.ip(),
        // It is gone already, and its answer with it.
        _ => true,
    }
}

/// The few seconds that a first write may take, and then what every write may.
pub(super) struct Patience {
    socket: Arc<OwnedFd>,
    then: Duration,
}

impl Patience {
    /// With a connection that was kept.
    pub(super) fn short(connection: &Connection) -> Self {
        let patience = Self {
            socket: Arc::clone(&connection.socket),
            then: connection.user_timeout,
        };
        patience.set(FIRST_WRITE_WAIT.min(patience.then));
        patience
    }

    fn set(&self, user_timeout: Duration) {
        if let Err(error) = SockRef::from(&*self.socket).set_tcp_user_timeout(Some(user_timeout)) {
            tracing::debug!("TCP_USER_TIMEOUT cannot be set: {error}");
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.set(self.then);
    }
}

fn shown(stream: &MaybeHttpsStream<TokioIo<TcpStream>>) -> Arc<[CertificateDer<'static>]> {
    match stream {
        MaybeHttpsStream::Http(_) => Arc::default(),
        MaybeHttpsStream::Https(tls) => tls
            .inner()
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default()
            .into(),
    }
}

fn tcp_of(stream: &MaybeHttpsStream<TokioIo<TcpStream>>) -> &TcpStream {
    match stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    }
}

async fn connect(
    destination: &ConnectTarget,
    credentials: &Arc<Credentials>,
    connect_timeout: Duration,
    idle_timeout: Duration,
) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, ClientError> {
    let uri = destination.uri()?;
    let mut tcp = HttpConnector::new_with_resolver(ZoneResolver(GaiResolver::new()));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Divided among the addresses of a name, so that one dead address leaves time for the next.
    tcp.set_connect_timeout(Some(connect_timeout));
    let user_timeout = idle_timeout + USER_TIMEOUT_AFTER;
    let (first, between) = keepalive(user_timeout);
    tcp.set_keepalive(Some(first));
    tcp.set_keepalive_interval(Some(between));
    tcp.set_tcp_user_timeout(Some(user_timeout));
    let stream = if destination.scheme == Scheme::HTTPS {
        let credentials = Arc::clone(credentials);
        // The first time, this reads the system's authorities from the disk.
        let config = tokio::task::spawn_blocking(move || credentials.config())
            .await
            .map_err(|error| ClientError::Tls(error.to_string()))??;
        let name = destination.server_name();
        let name = name.map_err(|error| ClientError::Request(error.to_string()))?;
        let names = Arc::new(FixedServerNameResolver::new(name));
        HttpsConnector::new(tcp, config, false, names)
            .call(uri)
            .await
            .map_err(|error| error::of_connecting(error.as_ref()))?
    } else {
        tcp.call(uri)
            .await
            .map(MaybeHttpsStream::Http)
            .map_err(|error| error::of_connecting(&error))?
    };
    if let Err(error) = SockRef::from(tcp_of(&stream)).set_tcp_notsent_lowat(MAX_UNSENT_BYTES) {
        tracing::debug!("TCP_NOTSENT_LOWAT cannot be set: {error}");
    }
    Ok(stream)
}
