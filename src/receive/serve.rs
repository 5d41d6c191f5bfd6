//! The listener: connections, their limits, and the way to stop.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http_body_util::BodyExt as _;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    access::Access,
    active_uploads::Underway,
    client_stream::{self, ClientSocket, ClientStream, UNSENT_BYTES},
    connections::{ConnectionSlot, Connections},
    known_hosts::KnownHosts,
    request_context::{Peer, RequestContext},
    room::StoreRoom,
    route,
    store::{FolderStore, OpenError, Store, StoreError, Usage},
    tally::ReceiveCounts,
    tls,
    turns::Turns,
};
use crate::{
    clock,
    config::{ConfigError, Namespace, ReceiveConfig, key_files::FileError},
    model::{episode::HostName, records::dated, text::printable},
};

/// From the moment a connection is idle to the end of the next request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for a connection that came when most places were taken.
const CROWDED_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a connection reads at once, bytes; the longest head is a few times as much (431). With the
/// two batches of an upload (see `store/upload.rs`) it keeps 256 of them, over TLS, in 64 MiB.
const MAX_READ_BYTES: usize = 32 * 1024;
/// What is in flight when the receiver is told to stop has this long to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// After accept(2) failed (out of descriptors), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is told that it fails.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Temporaries last written to longer ago than this belong to no living upload: those end after a
/// minute of silence.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// The first connection waits so long for the first walk through the store. One that is large is
/// walked beside the work.
const FIRST_SUMS_WAIT: Duration = Duration::from_millis(500);
/// How often uploads that no client goes on with are looked for. They expire by the day.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// So long what broke off at the end is waited for, to be kept.
const KEEP_GRACE: Duration = Duration::from_secs(10);

/// Why a receiver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can be reached from outside, where any client could store and read. A wrong
    /// setting: nothing was touched.
    #[error(transparent)]
    Exposed(#[from] ConfigError),
    /// A certificate, token or commit file cannot be used. A wrong setting: nothing was touched.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store's episodes are filed another way than `namespace` says. A wrong setting: nothing
    /// was touched.
    #[error("receive.namespace: {0}")]
    FiledOtherwise(OpenError),
    /// The store cannot be created, written to or swept.
    #[error("Failed to open the store: {}: {why}", path.display())]
    Store {
        /// The store's folder.
        path: PathBuf,
        /// What the disk said. Part of the sentence, and so no cause behind it.
        why: io::Error,
    },
    /// The address is taken, or is not this machine's.
    #[error("Failed to listen on {address}: {why}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        why: io::Error,
    },
}

/// A receiver that listens and has not begun to answer.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    receiver: Arc<RequestContext<FolderStore>>,
    places: Arc<Connections>,
    /// Ends when no task keeps an upload any more, and none could.
    kept: mpsc::Receiver<()>,
}

impl Server {
    /// Reads the files that say who may come in, opens the store, sweeps what killed uploads left
    /// there, and listens.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: ReceiveConfig) -> Result<Self, BindError> {
        config.may_listen()?;
        let access = Arc::new(Access::read(&config)?);
        let (store, hosts) = match open(config.store.clone(), config.namespace).await {
            Ok(opened) => opened,
            Err(OpenError::Disk(why)) => {
                return Err(BindError::Store {
                    path: config.store,
                    why,
                });
            }
            Err(error @ OpenError::FiledOtherwise(_)) => {
                return Err(BindError::FiledOtherwise(error));
            }
        };
        let refused = |why| BindError::Listen {
            address: config.listen,
            why,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        tracing::info!(
            %local_addr,
            store = %config.store.display(),
            tls = config.tls.is_some(),
            certificates = config.client_ca_file.is_some(),
            tokens = config.tokens_file.is_some(),
            commits = access.current().window.as_ref().map(|window| window.len()),
            "receiving at {local_addr} into {}", config.store.display()
        );
        if let Some(missing) = config.exposed() {
            tracing::warn!("listening where others come in, as anyone_may_store says: {missing}");
        }
        let room = StoreRoom::new(&config.limits);
        room.look_at(&store).await;
        let (in_use, kept) = mpsc::channel(1);
        let hosts = KnownHosts::new(&hosts, &config.readers);
        hosts.look_at(access.current().tokens.as_deref());
        let receiver = RequestContext {
            store,
            access,
            hosts,
            readers: config.readers,
            remediation: config.remediation,
            limits: config.limits,
            room,
            underway: Underway::default(),
            started_at: clock::wall_now(),
            tally: Arc::new(ReceiveCounts::default()),
            turns: Turns::default(),
            verifications: Arc::default(),
            _in_use: in_use,
        };
        let places = Connections::new(config.limits.max_connections.get());
        Ok(Self {
            listener,
            local_addr,
            receiver: Arc::new(receiver),
            places,
            kept,
        })
    }

    /// Who may come in. [`Access::reload`] reads the files again; while the server runs it does so
    /// by itself when they change.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.receiver.access)
    }

    /// What is counted while it runs.
    pub fn tally(&self) -> Arc<ReceiveCounts> {
        Arc::clone(&self.receiver.tally)
    }

    /// The address it listens on, with the port it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `shutdown` ends; then takes no new connection and gives what is in flight ten
    /// seconds. What is cut off leaves nothing, and what is being published is published.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let (stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        // Dropped with everything else when this future is.
        let mut watching = JoinSet::new();
        watching.spawn(Arc::clone(&self.receiver.access).watch());
        watching.spawn(sweep(Arc::clone(&self.receiver)));
        let receiver = Arc::clone(&self.receiver);
        watching.spawn(async move {
            let found = |usage: &Usage| receiver.hosts.found(usage.by_owner.keys().flatten());
            receiver.room.keep_sums(&receiver.store, found).await;
        });
        let receiver = Arc::clone(&self.receiver);
        watching.spawn(async move {
            loop {
                let access = receiver.access.renewed().await;
                receiver.hosts.look_at(access.tokens.as_deref());
            }
        });
        // Of most stores all is known before the first question.
        let first_sums = timeout(FIRST_SUMS_WAIT, self.receiver.room.walked());
        tokio::select! {
            () = &mut shutdown => return,
            _ = first_sums => {}
        }
        let mut refusals = AcceptRefusals::default();
        let patience = client_stream::patience(self.receiver.limits.min_body_rate_bytes_per_s);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => told_of_panic(&ended, &self.receiver.tally),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        // Meanwhile further ones wait in the kernel's queue.
                        let place = tokio::select! {
                            () = &mut shutdown => break,
                            place = self.places.take(peer.ip()) => place,
                        };
                        // Receipts are small and waited for. A socket that refuses is dead, and its
                        // first read says so.
                        let _ = stream.set_nodelay(true);
                        let socket = SockRef::from(&stream);
                        // Ends also those that acknowledge and do not read (tcp(7),
                        // TCP_USER_TIMEOUT; RFC 5482): not before their time.
                        let _ = socket.set_tcp_user_timeout(patience);
                        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
                        connections.spawn(accept(stream, peer, place, Arc::clone(&self.receiver), stopping.clone()));
                    }
                    Err(error) => {
                        if refusals.told(Instant::now()) {
                            tracing::warn!(%error, "cannot accept a connection: {error}; this is said once a minute");
                        }
                        if timeout(ACCEPT_PAUSE, &mut shutdown).await.is_ok() {
                            break;
                        }
                    }
                },
            }
        }
        drop(self.listener);
        drop(stop);
        let ended = timeout(SHUTDOWN_GRACE, async {
            while let Some(ended) = connections.join_next().await {
                told_of_panic(&ended, &self.receiver.tally);
            }
        })
        .await;
        if ended.is_err() {
            let connections = connections.len();
            tracing::warn!(
                connections,
                "stopping while {connections} connections still have a request under way"
            );
        }
        connections.shutdown().await;
        watching.shutdown().await;
        // Every upload that was cut off just now is being kept by a task of its own.
        let Self {
            receiver, mut kept, ..
        } = self;
        drop(receiver);
        if timeout(KEEP_GRACE, async { while kept.recv().await.is_some() {} })
            .await
            .is_err()
        {
            tracing::warn!("stopping while what broke off is still being kept");
        }
    }
}

/// An archive on its way out is read by its connection.
fn told_of_panic(ended: &Result<(), JoinError>, tally: &ReceiveCounts) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tally.panicked();
        tracing::error!(%error, "a connection ended by a fault in the receiver itself: {error}");
    }
}

/// accept(2) that fails for want of descriptors fails ten times a second.
#[derive(Debug, Default)]
struct AcceptRefusals(Option<Instant>);

impl AcceptRefusals {
    /// Whether one more is told of.
    fn told(&mut self, now: Instant) -> bool {
        let tells = self.0.is_none_or(|last| now - last >= ACCEPT_TOLD_EVERY);
        if tells {
            self.0 = Some(now);
        }
        tells
    }
}

async fn open(
    path: PathBuf,
    namespace: Namespace,
) -> Result<(FolderStore, Vec<HostName>), OpenError> {
    let opening = tokio::task::spawn_blocking(move || {
        let store = FolderStore::open(&path, namespace)?;
        let hosts = store.hosts()?;
        Ok((store, hosts))
    });
    opening.await.map_err(io::Error::other)?
}

/// Removes, at the start and then every hour, what killed uploads have left and what broke off and
/// was not gone on with.
async fn sweep<S: Store>(receiver: Arc<RequestContext<S>>) {
    let mut hourly = interval(SWEEP_EVERY);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        hourly.tick().await;
        let now = wall_clock();
        let parts = receiver
            .limits
            .parts_keep_days
            .map(|days| Duration::from_secs(u64::from(days) * 86_400));
        let before_parts = parts
            .and_then(|age| now.checked_sub(age))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        match receiver.store.sweep(now - SWEEP_AFTER, before_parts).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(
                swept,
                "removed what abandoned uploads had left: {swept} files"
            ),
            Err(error) => {
                tracing::warn!(%error, "cannot remove what uploads have left: {error}; tried again in an hour");
            }
        }
    }
}

/// One connection, from its handshake on, where there is one. Only this connection waits for it.
async fn accept<S: Store>(
    stream: TcpStream,
    address: SocketAddr,
    place: ConnectionSlot,
    receiver: Arc<RequestContext<S>>,
    mut stopping: watch::Receiver<()>,
) {
    let _connected = receiver.tally.connected();
    let stream = ClientSocket::new(stream);
    let waits = stream.waits(stopping.clone());
    let Some(tls) = receiver.access.current().tls.clone() else {
        converse(
            stream,
            Peer {
                address,
                certificate: None,
                is_spare: place.is_spare,
                waits,
            },
            place,
            receiver,
            stopping,
        )
        .await;
        return;
    };
    let shaken = tokio::select! {
        shaken = tls::handshake(tls, stream) => shaken,
        () = place.needed() => return,
        _ = stopping.changed() => return,
    };
    match shaken {
        Ok((stream, certificate)) => {
            converse(
                stream,
                Peer {
                    address,
                    certificate,
                    is_spare: place.is_spare,
                    waits,
                },
                place,
                receiver,
                stopping,
            )
            .await;
        }
        Err(error) => {
            receiver.tally.handshake_failed();
            // The line of a request that never came: a host that cannot come in is looked for in
            // this log.
            let error = printable(&dated(&error.to_string()));
            tracing::info!(peer = %address, %error, "TLS handshake with {address} failed: {error}");
        }
    }
}

/// One connection, until either side ends it, its place is needed, or `stopping`'s sender is gone.
async fn converse<S: Store>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    place: ConnectionSlot,
    receiver: Arc<RequestContext<S>>,
    mut stopping: watch::Receiver<()>,
) {
    let address = peer.address;
    let peer = Arc::new(peer);
    let stream = ClientStream::new(stream, receiver.limits.min_body_rate_bytes_per_s);
    let tally = Arc::clone(&receiver.tally);
    let service = service_fn(|request| {
        let under_way = place.request();
        let answering = route::answer(Arc::clone(&receiver), Arc::clone(&peer), request);
        async move {
            // The request is under way for as long as its body is being sent.
            let hold = move |error: StoreError| {
                let _held = &under_way;
                error
            };
            answering
                .await
                .map(|answer| answer.map(|body| body.map_err(hold)))
        }
    });
    let header_timeout = if place.crowded {
        CROWDED_HEADER_TIMEOUT
    } else {
        HEADER_TIMEOUT
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_READ_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.needed() => {
            connection.as_mut().graceful_shutdown();
            // Once: what the kernel takes of an answer's end still goes.
            timeout(Duration::ZERO, connection.as_mut()).await.unwrap_or(Ok(()))
        }
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // hyper has answered these by itself.
        if error.is_parse() {
            tally.head_refused();
        }
        tracing::debug!(peer = %address, %error, "the connection of {address} ended: {error}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: temporaries are dated by the file system's clock"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
