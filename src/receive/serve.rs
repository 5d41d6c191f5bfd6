//! The listener: connections, their limits, and the way to stop.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{
    access::Access,
    exchange::{self, Peer, Receiver},
    store::{Folder, Store},
    tally::Tally,
    tls,
};
use crate::{
    config::{ConfigError, ReceiveConfig},
    credential::FileError,
    episode::printable,
};

/// From the moment a connection is idle to the end of the next request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// What a connection reads at once, and so also the longest head, bytes.
const MAX_READ_BYTES: usize = 64 * 1024;
/// What is in flight when the receiver is told to stop has this long to end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// After accept(2) failed (out of descriptors), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Temporaries last written to longer ago than this belong to no living upload: those end after a minute of silence.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a receiver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can be reached from outside, where anybody could store and read. A wrong setting: nothing was touched.
    #[error(transparent)]
    Exposed(#[from] ConfigError),
    /// A certificate, token or commit file cannot be used. A wrong setting: nothing was touched.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store cannot be created, written to or swept.
    #[error("Failed to open the store: {}: {source}", path.display())]
    Store {
        /// The store's folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The address is taken, or is not this machine's.
    #[error("Failed to listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A receiver that listens and has not begun to answer.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    receiver: Arc<Receiver<Folder>>,
    max_connections: usize,
}

impl Server {
    /// Reads the files that say who may come in, opens the store, sweeps what killed uploads left there, and listens.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: ReceiveConfig) -> Result<Self, BindError> {
        config.may_listen()?;
        let access = Arc::new(Access::read(&config)?);
        let store = match open(config.store.clone()).await {
            Ok(store) => store,
            Err(source) => return Err(BindError::Store { path: config.store, source }),
        };
        let refused = |source| BindError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        tracing::info!(
            %local_addr,
            store = %config.store.display(),
            tls = config.tls.is_some(),
            certificates = config.client_ca_file.is_some(),
            tokens = config.tokens_file.is_some(),
            commits = access.current().window.as_ref().map(|window| window.len()),
            "receiving"
        );
        if let Some(missing) = config.exposed() {
            tracing::warn!("listening where others come in, as anyone_may_store says: {missing}");
        }
        let receiver = Receiver {
            store,
            access,
            readers: config.readers,
            remediation: config.remediation,
            max_episode_bytes: config.limits.max_episode_bytes,
            tally: Arc::new(Tally::default()),
        };
        let max_connections = config.limits.max_connections.get();
        Ok(Self { listener, local_addr, receiver: Arc::new(receiver), max_connections })
    }

    /// Who may come in. [`Access::reload`] reads the files again; while the server runs it does so by itself when they change.
    #[must_use]
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.receiver.access)
    }

    /// What is counted while it runs.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.receiver.tally)
    }

    /// The address it listens on, with the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers until `shutdown` ends; then takes no new connection and gives what is in flight ten seconds. What is cut off
    /// leaves nothing, and what is being published is published.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let (stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        // Dropped with everything else when this future is.
        let mut watching = JoinSet::new();
        watching.spawn(Arc::clone(&self.receiver.access).watch());
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < self.max_connections => match accepted {
                    Ok((stream, peer)) => {
                        // Receipts are small and waited for. A socket that refuses is dead, and its first read says so.
                        let _ = stream.set_nodelay(true);
                        connections.spawn(accept(stream, peer, Arc::clone(&self.receiver), stopping.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        if timeout(ACCEPT_PAUSE, &mut shutdown).await.is_ok() {
                            break;
                        }
                    }
                },
            }
        }
        drop(self.listener);
        drop(stop);
        let ended = timeout(SHUTDOWN_GRACE, async { while connections.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(connections = connections.len(), "stopping with requests in flight");
        }
        connections.shutdown().await;
    }
}

async fn open(path: PathBuf) -> io::Result<Folder> {
    let folder =
        tokio::task::spawn_blocking(move || Folder::open(&path)).await.map_err(io::Error::other)??;
    let swept = folder.sweep(wall_clock() - SWEEP_AFTER).await.map_err(io::Error::other)?;
    if swept > 0 {
        tracing::info!(swept, "removed what killed uploads had left");
    }
    Ok(folder)
}

/// One connection, from its handshake on, where there is one. Only this connection waits for it.
async fn accept<S: Store>(
    stream: TcpStream,
    address: SocketAddr,
    receiver: Arc<Receiver<S>>,
    mut stopping: watch::Receiver<()>,
) {
    let Some(tls) = receiver.access.current().tls.clone() else {
        converse(stream, Peer { address, certificate: None }, receiver, stopping).await;
        return;
    };
    let shaken = tokio::select! {
        shaken = tls::handshake(tls, stream) => shaken,
        _ = stopping.changed() => return,
    };
    match shaken {
        Ok((stream, certificate)) => {
            converse(stream, Peer { address, certificate }, receiver, stopping).await;
        }
        Err(error) => {
            // The line of a request that never came: a host that cannot come in is looked for in this log.
            let error = printable(&error.to_string());
            tracing::info!(peer = %address, %error, "TLS handshake failed");
        }
    }
}

/// One connection, until either side ends it or `stopping`'s sender is gone.
async fn converse<S: Store>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    receiver: Arc<Receiver<S>>,
    mut stopping: watch::Receiver<()>,
) {
    let address = peer.address;
    let peer = Arc::new(peer);
    let service =
        service_fn(move |request| exchange::answer(Arc::clone(&receiver), Arc::clone(&peer), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_READ_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, %error, "connection ended");
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge: temporaries are dated by the file system's clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::{
        episode::{Digest, EpisodeId},
        receive::{
            held::{Held, Offer},
            store::{Publication, StoreError, Upload},
        },
    };

    fn config(store: &Path, listen: &str) -> ReceiveConfig {
        ReceiveConfig::at(listen.parse().unwrap(), store)
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = Server::bind(config(&store, listen)).await.unwrap_err();
            assert!(matches!(error, BindError::Exposed(_)), "{error}");
        }
        assert!(!store.exists());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = (folder.path().join("store"), folder.path().join("file"));
        std::fs::write(&file, "").unwrap();
        let plain = config(&store, "127.0.0.1:0");
        for path in [file, folder.path().join("missing")] {
            for broken in [
                ReceiveConfig { tls: Some((path.clone(), path.clone())), ..plain.clone() },
                ReceiveConfig { client_ca_file: Some(path.clone()), ..plain.clone() },
                ReceiveConfig { tokens_file: Some(path.clone()), ..plain.clone() },
                ReceiveConfig { commits_file: Some(path.clone()), ..plain.clone() },
            ] {
                let error = Server::bind(broken.clone()).await.unwrap_err();
                assert!(matches!(error, BindError::File(_)), "{error}");
                assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            }
        }
        assert!(!store.exists());
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Server::bind(config(&file.join("store"), "127.0.0.1:0")).await.unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn the_listener_is_closed_when_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::bind(config(&folder.path().join("store"), "127.0.0.1:0")).await.unwrap();
        let address = server.local_addr();
        let idle = TcpStream::connect(address).await.unwrap();
        server.run(async {}).await;
        assert!(TcpStream::connect(address).await.is_err());
        drop(idle);
    }

    /// A store on a disk that is full, or broken.
    struct Failing(io::ErrorKind);

    struct FailingUpload(io::ErrorKind);

    impl Store for Failing {
        type Upload = FailingUpload;

        async fn find(&self, _: &EpisodeId) -> Result<Option<Held>, StoreError> {
            Ok(None)
        }

        async fn verify(&self, _: &EpisodeId) -> Result<Option<Held>, StoreError> {
            Ok(None)
        }

        fn begin(&self) -> FailingUpload {
            FailingUpload(self.0)
        }

        async fn sweep(&self, _: SystemTime) -> Result<usize, StoreError> {
            Ok(0)
        }

        async fn probe(&self) -> Result<(), StoreError> {
            Err(io::Error::from(self.0).into())
        }
    }

    impl Upload for FailingUpload {
        async fn write(&mut self, _: &[u8]) -> Result<(), StoreError> {
            Err(io::Error::from(self.0).into())
        }

        async fn publish(self, _: &EpisodeId, _: &Offer) -> Result<Publication, StoreError> {
            Err(io::Error::from(self.0).into())
        }
    }

    /// The client's end of a connection to a receiver whose disk fails so.
    fn connect(disk: io::ErrorKind) -> (DuplexStream, watch::Sender<()>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (stop, stopping) = watch::channel(());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let receiver = Receiver {
            store: Failing(disk),
            access: Arc::new(Access::read(&config(Path::new("store"), "127.0.0.1:0")).unwrap()),
            readers: BTreeSet::new(),
            remediation: String::new(),
            max_episode_bytes: None,
            tally: Arc::default(),
        };
        tokio::spawn(converse(theirs, Peer { address, certificate: None }, Arc::new(receiver), stopping));
        (ours, stop)
    }

    fn put_head(size: usize) -> String {
        let digest = Digest::of(b"").to_header();
        format!(
            "PUT /v1/episodes/a HTTP/1.1\r\nConnection: close\r\nContent-Length: {size}\r\nRepr-Digest: {digest}\r\n\r\n"
        )
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_answered_by_kind_without_the_disks_own_words() {
        for (disk, status, problem) in [
            (io::ErrorKind::StorageFull, " 507 ", "urn:sealift:no-space"),
            (io::ErrorKind::PermissionDenied, " 500 ", "urn:sealift:store-failed"),
        ] {
            let get = |path| format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
            for request in [put_head(4) + "body", get("/healthz"), get("/v1/admission")] {
                let (mut client, _stop) = connect(disk);
                client.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                assert!(answer.lines().next().unwrap().contains(status), "{answer}");
                assert!(answer.contains(problem), "{answer}");
                assert!(!answer.contains(&io::Error::from(disk).to_string()), "{answer}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_ends_the_connection_after_a_minute() {
        let (mut client, _stop) = connect(io::ErrorKind::Other);
        let started = tokio::time::Instant::now();
        client.write_all(put_head(4).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_does_not_keep_its_connection() {
        let (mut client, _stop) = connect(io::ErrorKind::Other);
        let started = tokio::time::Instant::now();
        client.write_all(b"PUT /v1/episodes/a HTTP/1.1\r\nHo").await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 30, "{}", answer.escape_ascii());
    }
}
