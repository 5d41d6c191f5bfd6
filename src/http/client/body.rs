//! The body of a request, as hyper draws it: known length, held back until the receiver says "go"
//! where that is asked for, ended without a word once an answer is here.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::flight::Flight;

/// How long a server may take over `100 Continue` before the body goes without it, as it must with
/// servers that do not know the expectation (RFC 9110, section 10.1.1: "SHOULD NOT wait for an
/// indefinite period").
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What is sent after the head.
#[derive(Debug)]
pub struct RequestBody {
    source: BodySource,
    /// `None` where that shows at its end.
    len_bytes: Option<u64>,
}

#[derive(Debug)]
enum BodySource {
    Whole(Bytes),
    Chunks(mpsc::Receiver<io::Result<Bytes>>),
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// A body that is in memory.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self {
            len_bytes: Some(bytes.len() as u64),
            source: BodySource::Whole(bytes),
        }
    }

    /// A body of known length that comes in pieces. An error among them, and an end before its
    /// length, end the exchange with [`ClientError::Body`](super::ClientError::Body).
    #[must_use]
    pub fn chunks(len_bytes: u64, chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            len_bytes: Some(len_bytes),
            source: BodySource::Chunks(chunks),
        }
    }

    /// A body that comes in pieces and ends where they do; it is sent in chunks (RFC 9112, section
    /// 7.1). An error among the pieces ends the exchange with
    /// [`ClientError::Body`](super::ClientError::Body), and the body without its last chunk.
    #[must_use]
    pub fn of_unknown_length(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self {
            len_bytes: None,
            source: BodySource::Chunks(chunks),
        }
    }

    /// The same once more, where it is in memory.
    pub(super) fn again(&self) -> Option<Self> {
        match &self.source {
            BodySource::Whole(bytes) => Some(Self::whole(bytes.clone())),
            BodySource::Chunks(_) => None,
        }
    }

    /// Its length, bytes; `None` where that is not known.
    pub fn len_bytes(&self) -> Option<u64> {
        self.len_bytes
    }
}

/// Holds a body back until the server wants it.
type BodyGate = Pin<Box<dyn Future<Output = Permission> + Send>>;

enum Permission {
    Go,
    Never,
}

/// A request's body on a connection.
pub(super) struct OutgoingBody {
    source: BodySource,
    /// `None` where that is not known.
    left_bytes: Option<u64>,
    gate: Option<BodyGate>,
    flight: Flight,
}

impl OutgoingBody {
    pub(super) fn new(body: RequestBody, flight: &Flight) -> Self {
        if body.len_bytes == Some(0) {
            flight.pulled_all();
        }
        Self {
            source: body.source,
            left_bytes: body.len_bytes,
            gate: None,
            flight: flight.clone(),
        }
    }

    /// Makes the body of a request wait for `100 Continue`.
    pub(super) fn expect_continue(request: &mut http::Request<Self>) {
        let (go, gone) = oneshot::channel();
        let go = Mutex::new(Some(go));
        // hyper drops the callback when the final answer comes; that closes the channel.
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE
                && let Some(go) = go.lock().take()
            {
                // A body that is gone needs no permission.
                let _ = go.send(());
            }
        });
        // The clock of the time-out starts when this is first polled, which is when hyper wants the
        // body.
        request.body_mut().gate = Some(Box::pin(async move {
            match tokio::time::timeout(CONTINUE_WAIT, gone).await {
                Ok(Ok(())) | Err(_) => Permission::Go,
                Ok(Err(_)) => Permission::Never,
            }
        }));
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.flight.is_answered() {
            return Poll::Pending;
        }
        if let Some(gate) = &mut self.gate {
            match ready!(gate.as_mut().poll(context)) {
                Permission::Go => self.gate = None,
                // An answer is being read from this very connection. An error here would end the
                // connection and lose the rest of the answer; its reader ends it.
                Permission::Never => {
                    self.gate = Some(Box::pin(std::future::pending()));
                    return Poll::Pending;
                }
            }
        }
        if self.left_bytes == Some(0) {
            return Poll::Ready(None);
        }
        let chunk = match &mut self.source {
            BodySource::Whole(bytes) => std::mem::take(bytes),
            BodySource::Chunks(chunks) => match ready!(chunks.poll_recv(context)) {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => Bytes::new(),
            },
        };
        let len_bytes = chunk.len() as u64;
        match &mut self.left_bytes {
            None if len_bytes == 0 => {
                self.left_bytes = Some(0);
                self.flight.pulled_all();
                return Poll::Ready(None);
            }
            None => {}
            Some(left_bytes) if len_bytes == 0 || len_bytes > *left_bytes => {
                let why = format!(
                    "the body does not have its length: {left_bytes} bytes were left to come"
                );
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))));
            }
            Some(left_bytes) => *left_bytes -= len_bytes,
        }
        self.flight.pulled(len_bytes);
        if self.left_bytes == Some(0) {
            self.flight.pulled_all();
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.poll_chunk(context) {
            Poll::Pending => {
                self.flight.starved();
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => {
                // hyper gets a stand-in: the error itself goes to the one who waits for the answer.
                let stand_in = io::Error::from(error.kind());
                self.flight.body_failed(error);
                Poll::Ready(Some(Err(stand_in)))
            }
            Poll::Ready(chunk) => Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left_bytes
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
