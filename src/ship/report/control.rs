//! Answers those who ask for the daemon's status: `status`, `doctor`, Prometheus.
//!
//! ```text
//!  .sealift/control.sock  GET /snapshot, /metrics ─▶ ┌────────────┐ ──Ask──▶ the loop,
//!  metrics_listen         GET /metrics ────────────▶ │ one answer │ ◀─Snapshot─┘ between events
//!                                                    └────────────┘ kept a fiftieth of a second
//! ```
//!
//! HTTP/1.1, one request a connection: a form that can grow, and that curl speaks. The loop waits
//! for no client: it makes a snapshot when it is asked for one, and all who ask at the same time
//! have the same. A client that is slow or silent is cut off after a few seconds, or by those who
//! come after. While no client asks, nothing happens here.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::metrics;
use crate::{
    disk::{durable, socket::Address},
    model::snapshot::Snapshot,
};

/// How many clients are answered at once. The next one takes the place of the one who came first:
/// an answer takes milliseconds, so that one is slow.
const MAX_CLIENTS: usize = 32;
/// The whole of an exchange: a snapshot is some ten kilobytes, and goes to a process of this
/// machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the loop is waited for. It turns within milliseconds, or something is very wrong.
const LOOP_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// An answer serves all clients that ask within this time: asking in a circle costs the loop a few
/// percent at most, and a client that has just changed something and asks is told of it.
const FRESH_FOR: Duration = Duration::from_millis(20);
/// After accept(2) failed (out of descriptors), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// What is read of a request. hyper takes no less.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// Who waits in the kernel's queue.
const BACKLOG: i32 = 64;
/// For the owner and the group that it shares with operators and recorders.
const MODE: u32 = 0o660;

/// A question to the loop.
pub(crate) type Ask = oneshot::Sender<Snapshot>;

/// The socket, listening. Its name goes when this does.
#[derive(Debug)]
pub struct Bound {
    listener: Option<OwnedFd>,
    path: PathBuf,
}

/// Binds the socket at this path. The caller holds the lock on the folder, so what is left there is
/// a dead daemon's, and is replaced.
///
/// # Errors
/// Another process answers there all the same, it is no socket, or the file system has no sockets
/// (some NFS).
pub(crate) fn bind(path: PathBuf) -> io::Result<Bound> {
    let address = Address::of(&path)?;
    match fs::symlink_metadata(address.path()) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is there",
            ));
        }
        Ok(_) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // EAGAIN: alive, and its queue is full.
            match socket.connect(&SockAddr::unix(address.path())?) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    durable::remove_file(address.path())?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(()) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another process answers there",
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(address.path())?)?;
    let mut bound = Bound {
        listener: None,
        path,
    };
    // Before it listens: no client comes in by the mode that the umask gave it.
    fs::set_permissions(address.path(), fs::Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    bound.listener = Some(socket.into());
    Ok(bound)
}

impl Drop for Bound {
    fn drop(&mut self) {
        // One that stays is replaced at the next start.
        if let Ok(address) = Address::of(&self.path) {
            let _ = durable::remove_file(address.path());
        }
    }
}

/// Answers requests for the daemon's status. Clones share one state.
#[derive(Debug, Clone)]
pub struct Desk(Arc<ControlInner>);

#[derive(Debug)]
struct ControlInner {
    asks: mpsc::Sender<Ask>,
    last: Mutex<Option<(Instant, Texts)>>,
}

/// One snapshot, as it is given out.
#[derive(Debug, Clone)]
struct Texts {
    json: Bytes,
    metrics: Bytes,
}

impl Desk {
    /// One that asks the loop, and where the loop is asked.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(1);
        (
            Self(Arc::new(ControlInner {
                asks,
                last: Mutex::new(None),
            })),
            asked,
        )
    }

    /// Asks the loop, for a task of this process. `None` where it does not answer, or has ended.
    pub async fn look(&self) -> Option<Snapshot> {
        let asking = async {
            let (ask, answered) = oneshot::channel();
            self.0.asks.send(ask).await.ok()?;
            answered.await.ok()
        };
        timeout(LOOP_ANSWERS_WITHIN, asking).await.ok()?
    }

    /// Answers at the socket until the runtime ends.
    ///
    /// # Errors
    /// Where the runtime cannot wait for the socket.
    pub fn serve_socket(&self, bound: &mut Bound) -> io::Result<()> {
        let Some(listener) = bound.listener.take() else {
            return Ok(());
        };
        let listener = tokio::net::UnixListener::from_std(UnixListener::from(listener))?;
        let desk = self.clone();
        tokio::spawn(async move {
            let mut clients = Clients::default();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => clients.admit(desk.clone().converse(stream, Door::Socket)),
                    Err(error) => pause(&error).await,
                }
            }
        });
        Ok(())
    }

    /// Gives out metrics, and nothing else, at a port of this machine.
    pub fn serve_port(&self, listener: tokio::net::TcpListener) {
        let desk = self.clone();
        tokio::spawn(async move {
            let mut clients = Clients::default();
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => clients.admit(desk.clone().converse(stream, Door::Port)),
                    Err(error) => pause(&error).await,
                }
            }
        });
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, door: Door) {
        let service = service_fn(|request| {
            let desk = self.clone();
            async move { Ok::<_, Infallible>(desk.answer(&request, door).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(false)
            .max_buf_size(MAX_REQUEST_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        // A client that has gone, or is too slow, has had its chance.
        let _ = timeout(PATIENCE, connection).await;
    }

    async fn answer(&self, request: &Request<Incoming>, door: Door) -> Response<Full<Bytes>> {
        let pick: fn(Texts) -> (Bytes, &'static str) = match (request.uri().path(), door) {
            ("/snapshot", Door::Socket) => |texts| (texts.json, "application/json"),
            ("/metrics", Door::Socket | Door::Port) => {
                |texts| (texts.metrics, metrics::FORMAT.media_type())
            }
            (_, Door::Socket) => {
                return said(StatusCode::NOT_FOUND, "There is /snapshot, and /metrics.\n");
            }
            (_, Door::Port) => return said(StatusCode::NOT_FOUND, "There is /metrics.\n"),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "Only to be read.\n");
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match self.ask().await {
            Some(texts) => {
                let (body, media_type) = pick(texts);
                let mut response = Response::new(Full::new(body));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
                response
            }
            None => said(
                StatusCode::SERVICE_UNAVAILABLE,
                "The daemon's loop does not answer.\n",
            ),
        }
    }

    /// `None` where the loop does not answer, or has ended.
    async fn ask(&self) -> Option<Texts> {
        // A client that comes while another asks waits here, and has the other's answer.
        let mut last = self.0.last.lock().await;
        if let Some((_, texts)) = last.as_ref().filter(|(made, _)| made.elapsed() < FRESH_FOR) {
            return Some(texts.clone());
        }
        let snapshot = self.look().await?;
        let texts = Texts {
            json: serde_json::to_vec(&snapshot).ok()?.into(),
            metrics: metrics::text(&snapshot).into(),
        };
        *last = Some((Instant::now(), texts.clone()));
        Some(texts)
    }
}

/// Those who are answered, in the order in which they came.
#[derive(Debug, Default)]
struct Clients(VecDeque<AbortHandle>);

impl Clients {
    fn admit(&mut self, exchange: impl Future<Output = ()> + Send + 'static) {
        self.0.retain(|client| !client.is_finished());
        if self.0.len() >= MAX_CLIENTS
            && let Some(first) = self.0.pop_front()
        {
            first.abort();
        }
        self.0.push_back(tokio::spawn(exchange).abort_handle());
    }
}

/// Where a question came in.
#[derive(Debug, Clone, Copy)]
enum Door {
    /// From the owner and the group.
    Socket,
    /// From any process on this machine.
    Port,
}

fn said(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

async fn pause(error: &io::Error) {
    tracing::debug!("no caller can be answered just now: {error}");
    // Nothing can come of it earlier: there is no event for a free descriptor.
    let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
}
