//! One exchange in flight: what has moved, and how long it may go on not moving.
//!
//! ```text
//!   Outgoing (body) ──pulled──▶ hyper's buffer ──written──▶ Wire (below) ──▶ TLS, kernel ──▶
//!                                        counts what leaves and what comes ┘
//! ```
//!
//! hyper has no idle time-out, and takes a body in long before it leaves. So the bytes are counted
//! where they leave, in [`Wire`], and the times are measured from there.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use super::error::{self, ClientError, Wait};
use crate::model::progress::Progress;

/// Shared by the body, the connection under it and the one who waits for the answer.
#[derive(Clone, Debug)]
pub(super) struct Flight(Arc<Mutex<FlightState>>, Arc<Notify>);

#[derive(Debug)]
struct FlightState {
    progress: Progress,
    /// Body bytes that hyper has taken.
    pulled_bytes: u64,
    /// Bytes that have left since the exchange began, the head among them.
    written_bytes: u64,
    /// Body bytes that `progress` knows of.
    told_bytes: u64,
    /// hyper has taken the whole body.
    all_pulled: bool,
    /// All of it has left.
    all_sent: bool,
    /// hyper waits for the body's source: what does not move now is not the network.
    starved: bool,
    /// An answer is here: no more of the body is given out.
    answered: bool,
    last_moved: Instant,
    /// The source's own error, which hyper would only wrap.
    body_error: Option<io::Error>,
    /// Something has come since the exchange began.
    heard: bool,
}

impl Flight {
    pub(super) fn new(progress: Progress) -> Self {
        Self(
            Arc::new(Mutex::new(FlightState {
                progress,
                pulled_bytes: 0,
                written_bytes: 0,
                told_bytes: 0,
                all_pulled: false,
                all_sent: false,
                starved: false,
                answered: false,
                last_moved: Instant::now(),
                body_error: None,
                heard: false,
            })),
            Arc::default(),
        )
    }

    /// Returns once anything has come.
    pub(super) async fn first_heard(&self) {
        while !self.has_heard() {
            self.1.notified().await;
        }
    }

    /// Whether anything has come.
    pub(super) fn has_heard(&self) -> bool {
        self.0.lock().heard
    }

    pub(super) fn progress(&self) -> Progress {
        self.0.lock().progress.clone()
    }

    /// The clock starts: a connection stands.
    pub(super) fn begin(&self) {
        self.0.lock().last_moved = Instant::now();
    }

    pub(super) fn pulled(&self, bytes: u64) {
        let mut state = self.0.lock();
        state.pulled_bytes += bytes;
        state.fed();
    }

    /// The whole body is with hyper (a body without bytes: from the beginning).
    pub(super) fn pulled_all(&self) {
        let mut state = self.0.lock();
        state.all_pulled = true;
        state.fed();
    }

    pub(super) fn starved(&self) {
        self.0.lock().starved = true;
    }

    pub(super) fn body_failed(&self, error: io::Error) {
        self.0.lock().body_error = Some(error);
    }

    pub(super) fn take_body_error(&self) -> Option<io::Error> {
        self.0.lock().body_error.take()
    }

    /// Stops the body, and says whether all of it had left.
    pub(super) fn answered(&self) -> bool {
        let mut state = self.0.lock();
        state.answered = true;
        state.all_sent
    }

    pub(super) fn is_answered(&self) -> bool {
        self.0.lock().answered
    }

    /// Until when the next move may take, and what that wait is called. While the body's source is
    /// what we wait for, the clock does not run.
    pub(super) fn patience(&self, idle: Duration, answer: Duration) -> (Instant, Wait) {
        let state = self.0.lock();
        if state.all_sent {
            (state.last_moved + answer, Wait::Answer)
        } else if state.starved {
            (Instant::now() + idle, Wait::Idle)
        } else {
            (state.last_moved + idle, Wait::Idle)
        }
    }

    fn wrote(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.last_moved = Instant::now();
        state.written_bytes += bytes as u64;
        // The head is among what was written, so this may run ahead by its length, and never beyond
        // the body.
        let sent = state.pulled_bytes.min(state.written_bytes);
        state.progress.advance(sent - state.told_bytes);
        state.told_bytes = sent;
    }

    fn read(&self) {
        let mut state = self.0.lock();
        if !std::mem::replace(&mut state.heard, true) {
            self.1.notify_one();
        }
        state.progress.step();
        // What comes after the last byte was sent (1xx) does not put off the answer.
        if !state.all_sent {
            state.last_moved = Instant::now();
        }
    }

    fn flushed(&self) {
        let mut state = self.0.lock();
        // hyper flushes when its buffer is empty, so everything that it had pulled has left.
        state.all_sent = state.all_pulled;
    }
}

impl FlightState {
    fn fed(&mut self) {
        if std::mem::take(&mut self.starved) {
            self.last_moved = Instant::now();
        }
    }
}

/// What a connection and its owner share.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionShare(Arc<Mutex<LineState>>);

#[derive(Debug, Default)]
struct LineState {
    flight: Option<Flight>,
    broken: Option<ClientError>,
}

impl ConnectionShare {
    /// From now on, what moves belongs to this exchange.
    pub(super) fn carries(&self, flight: &Flight) {
        flight.begin();
        self.0.lock().flight = Some(flight.clone());
    }

    /// What the layers below said when it broke; hyper's own error wraps it, or has lost it.
    pub(super) fn take_broken(&self) -> Option<ClientError> {
        self.0.lock().broken.take()
    }

    fn tell(&self, what: impl FnOnce(&Flight)) {
        let flight = self.0.lock().flight.clone();
        if let Some(flight) = flight {
            what(&flight);
        }
    }

    fn broke(&self, error: &io::Error) {
        let error = error::of_io(error);
        let mut state = self.0.lock();
        // The first is the cause and later ones follow from it; but an alert of the other side says
        // why.
        if state.broken.is_none() || matches!(error, ClientError::Tls(_)) {
            state.broken = Some(error);
        }
    }
}

/// Sits between hyper and the stream: counts, and does not let a failed write hide an answer.
///
/// A server that refuses an upload early (413, a TLS alert) and closes resets the connection while
/// we still write. The answer is in our receive buffer by then, since TCP is in order; but hyper
/// gives up at the failed write and does not look. So a write that fails is reported as "not now",
/// and the reading side comes to an answer, an end or an error by itself: after a reset, every read
/// returns at once (tcp(7)).
#[derive(Debug)]
pub(super) struct Wire<T> {
    stream: T,
    line: ConnectionShare,
    writable: bool,
}

impl<T> Wire<T> {
    pub(super) fn new(stream: T, line: ConnectionShare) -> Self {
        Self {
            stream,
            line,
            writable: true,
        }
    }

    fn sent<R>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<R>>,
        count: impl FnOnce(&R, &Flight),
    ) -> Poll<io::Result<R>> {
        match ready!(result) {
            Ok(sent) => {
                self.line.tell(|flight| count(&sent, flight));
                Poll::Ready(Ok(sent))
            }
            Err(error) => {
                self.line.broke(&error);
                self.writable = false;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        match &result {
            Ok(()) if buffer.filled().len() > before => self.line.tell(Flight::read),
            Ok(()) => {}
            Err(error) => self.line.broke(error),
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.writable {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(context, result, |bytes, flight| flight.wrote(*bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.writable {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.sent(context, result, |bytes, flight| flight.wrote(*bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.writable {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.sent(context, result, |(), flight| flight.flushed())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
