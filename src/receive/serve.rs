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
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{
    exchange,
    held::Namespace,
    store::{Folder, Store},
};

/// Connections served at the same time; more wait in the kernel's queue. With two batches and one read buffer each, all of
/// them together stay under 64 MiB.
const MAX_CONNECTIONS: usize = 256;
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

/// What a receiver needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; port 0 takes a free one. Loopback only, as long as there is no authentication.
    pub listen: SocketAddr,
    /// The store's folder; created where it is missing.
    pub store: PathBuf,
}

/// Why a receiver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can be reached from outside, where anybody could store and read. A wrong setting: nothing was touched.
    #[error(
        "Refusing to listen on {0}: this receiver has no authentication yet, so whoever reaches it can store episodes. \
         Listen on a loopback address (127.0.0.1:8490) and put a TLS front with authentication before it"
    )]
    NotLoopback(SocketAddr),
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
    store: Arc<Folder>,
}

impl Server {
    /// Opens the store, sweeps what killed uploads left there, and listens.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let Options { listen, store: path } = options;
        if !listen.ip().is_loopback() {
            return Err(BindError::NotLoopback(listen));
        }
        let store = match open(path.clone()).await {
            Ok(store) => Arc::new(store),
            Err(source) => return Err(BindError::Store { path, source }),
        };
        let refused = |source| BindError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        tracing::info!(%local_addr, store = %path.display(), "receiving");
        Ok(Self { listener, local_addr, store })
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
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, peer)) => {
                        // Receipts are small and waited for. A socket that refuses is dead, and its first read says so.
                        let _ = stream.set_nodelay(true);
                        connections.spawn(converse(stream, peer, Arc::clone(&self.store), stopping.clone()));
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
    let folder = tokio::task::spawn_blocking(move || Folder::open(&path, Namespace::None))
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)?;
    let before = wall_clock() - SWEEP_AFTER;
    let swept = folder.sweep(before, before).await.map_err(io::Error::other)?;
    if swept > 0 {
        tracing::info!(swept, "removed what killed uploads had left");
    }
    Ok(folder)
}

/// One connection, until either side ends it or `stopping`'s sender is gone.
async fn converse<S: Store>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    store: Arc<S>,
    mut stopping: watch::Receiver<()>,
) {
    let service = service_fn(move |request| exchange::answer(Arc::clone(&store), peer, request));
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
        tracing::debug!(%peer, %error, "connection ended");
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge: temporaries are dated by the file system's clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        episode::{Digest, EpisodeId, HostName},
        receive::{
            held::{Held, Key, Offer},
            store::{
                FolderReading, Listed, Part, PartKey, Publication, Resumed, Space, StoreError, Upload, Usage,
            },
        },
    };

    fn options(store: PathBuf, listen: &str) -> Options {
        Options { listen: listen.parse().unwrap(), store }
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = Server::bind(options(store.clone(), listen)).await.unwrap_err();
            assert!(matches!(error, BindError::NotLoopback(_)), "{error}");
            assert!(error.to_string().contains("no authentication"), "{error}");
        }
        assert!(!store.exists());
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Server::bind(options(file.join("store"), "127.0.0.1:0")).await.unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn the_listener_is_closed_when_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::bind(options(folder.path().join("store"), "127.0.0.1:0")).await.unwrap();
        let address = server.local_addr();
        let idle = TcpStream::connect(address).await.unwrap();
        server.run(async {}).await;
        assert!(TcpStream::connect(address).await.is_err());
        drop(idle);
    }

    /// A store on a disk that is full, or broken.
    struct Failing(io::ErrorKind);

    struct FailingUpload(io::ErrorKind);

    impl Failing {
        fn fail<T>(&self) -> Result<T, StoreError> {
            Err(io::Error::from(self.0).into())
        }
    }

    impl Store for Failing {
        type Upload = FailingUpload;
        type Reading = FolderReading;

        fn namespace(&self) -> Namespace {
            Namespace::None
        }

        async fn find(&self, _: &Key) -> Result<Option<Held>, StoreError> {
            Ok(None)
        }

        async fn verify(&self, _: &Key) -> Result<Option<Held>, StoreError> {
            Ok(None)
        }

        async fn reread(&self, _: &Key) -> Result<Option<Held>, StoreError> {
            self.fail()
        }

        async fn claim(&self, _: &Key, _: &HostName) -> Result<Option<Held>, StoreError> {
            self.fail()
        }

        async fn read(&self, _: &Key, _: Range<u64>) -> Result<Option<(Held, Self::Reading)>, StoreError> {
            self.fail()
        }

        async fn list(
            &self,
            _: Option<&HostName>,
            _: Option<&EpisodeId>,
            _: usize,
        ) -> Result<Vec<Listed>, StoreError> {
            self.fail()
        }

        fn begin(&self, _: &PartKey, _: &Offer) -> FailingUpload {
            FailingUpload(self.0)
        }

        async fn part(&self, _: &PartKey) -> Result<Option<Part>, StoreError> {
            Ok(None)
        }

        async fn settle(&self, _: &PartKey) -> Result<Option<Part>, StoreError> {
            Ok(None)
        }

        async fn resume(&self, _: &PartKey, _: &Offer, _: u64) -> Result<Resumed<FailingUpload>, StoreError> {
            self.fail()
        }

        async fn discard(&self, _: &PartKey) -> Result<bool, StoreError> {
            self.fail()
        }

        async fn sweep(&self, _: SystemTime, _: SystemTime) -> Result<usize, StoreError> {
            Ok(0)
        }

        async fn usage(&self) -> Result<Usage, StoreError> {
            self.fail()
        }

        async fn space(&self) -> Result<Space, StoreError> {
            self.fail()
        }

        async fn probe(&self) -> Result<(), StoreError> {
            self.fail()
        }
    }

    impl Upload for FailingUpload {
        async fn write(&mut self, _: &[u8]) -> Result<(), StoreError> {
            Err(io::Error::from(self.0).into())
        }

        async fn keep(self) -> Result<u64, StoreError> {
            Err(io::Error::from(self.0).into())
        }

        async fn publish(self) -> Result<Publication, StoreError> {
            Err(io::Error::from(self.0).into())
        }
    }

    /// The client's end of a connection to a receiver whose disk fails so.
    fn connect(disk: io::ErrorKind) -> (DuplexStream, watch::Sender<()>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (stop, stopping) = watch::channel(());
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        tokio::spawn(converse(theirs, peer, Arc::new(Failing(disk)), stopping));
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
            for request in [put_head(4) + "body", "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".into()]
            {
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
