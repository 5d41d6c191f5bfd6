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
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{
    exchange,
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
                        connections.spawn(serve(stream, peer, Arc::clone(&self.store), stopping.clone()));
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

/// One connection, until either side ends it or `stopping`'s sender is gone.
async fn serve<S: Store>(
    stream: TcpStream,
    peer: SocketAddr,
    store: Arc<S>,
    mut stopping: watch::Receiver<()>,
) {
    // Receipts are small and waited for. A socket that refuses the option is dead, and the first read says so.
    let _ = stream.set_nodelay(true);
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
    use super::*;

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let options = Options { listen: listen.parse().unwrap(), store: store.clone() };
            let error = Server::bind(options).await.unwrap_err();
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
        let options = Options { listen: "127.0.0.1:0".parse().unwrap(), store: file.join("store") };
        let error = Server::bind(options).await.unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }

    #[tokio::test]
    async fn the_listener_is_closed_when_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { listen: "127.0.0.1:0".parse().unwrap(), store: folder.path().join("store") };
        let server = Server::bind(options).await.unwrap();
        let address = server.local_addr();
        let idle = TcpStream::connect(address).await.unwrap();
        server.run(async {}).await;
        assert!(TcpStream::connect(address).await.is_err());
        drop(idle);
    }
}
