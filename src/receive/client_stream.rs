//! A connection and the client at its other end: whether it takes its answer fast enough, and
//! whether it is there at all. One that reads its answer too slowly is cut off.
//!
//! What is in buffers on the way (the kernel's, rustls's, the client's) goes out in steps, and how
//! much of it the client has read is not told. So a client has credit: time that passes while it
//! takes nothing uses it up, and each byte that it takes gives it as much as that may need.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, Interval, interval, interval_at, timeout},
};

/// So much of an answer waits in the kernel for the client to take it, bytes (tcp(7),
/// `TCP_NOTSENT_LOWAT`). As much as a reader of the store has in memory: the disk keeps up.
pub(super) const UNSENT_BYTES: u32 = 128 * 1024;
/// So long a client may take nothing, beside what the steps may take.
const GRACE: Duration = Duration::from_secs(30);

/// How often it is looked whether a client is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection of which it can be asked whether its client has gone.
#[derive(Debug)]
pub(super) struct ClientSocket(Arc<TcpStream>);

/// What tells whether an answer is still waited for. Keeps no connection open.
#[derive(Debug)]
pub(super) struct Waits {
    /// `None`: it cannot be told.
    pub(super) socket: Option<Weak<TcpStream>>,
    /// Changes when the receiver is told to stop.
    pub(super) stopping: watch::Receiver<()>,
}

impl Waits {
    /// Ends when the client has closed its end, or the receiver is told to stop. A client that
    /// sends its request and closes its side then counts as gone, as it does for hyper.
    pub(super) async fn no_more(&self) {
        let mut stopping = self.stopping.clone();
        let gone = async {
            let mut look = interval(LOOK_EVERY);
            while !self.has_gone().await {
                look.tick().await;
            }
        };
        tokio::select! {
            () = gone => {}
            _ = stopping.changed() => {}
        }
    }

    /// What it has sent may lie unread before its end, so that no read would tell.
    async fn has_gone(&self) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let Some(socket) = socket.upgrade() else {
            return true;
        };
        match timeout(Duration::ZERO, socket.ready(Interest::READABLE)).await {
            Ok(Ok(ready)) => ready.is_read_closed(),
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }
}

impl ClientSocket {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    pub(super) fn waits(&self, stopping: watch::Receiver<()>) -> Waits {
        Waits {
            socket: Some(Arc::downgrade(&self.0)),
            stopping,
        }
    }

    fn poll_try(
        &self,
        context: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(into.initialize_unfilled()) {
                Ok(read) => {
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, || self.0.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, || self.0.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// A stream whose other end is to take what is written.
#[derive(Debug)]
pub(super) struct ClientStream<S> {
    stream: S,
    /// Bytes a second; 0: it may take its time.
    least_rate: u64,
    credit: Duration,
    waiting: Option<Waiting>,
}

/// What was written is not taken.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    credit_is_used_up: Interval,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, least_rate_bytes_per_s: u64) -> Self {
        Self {
            stream,
            least_rate: least_rate_bytes_per_s,
            credit: most_credit(least_rate_bytes_per_s),
            waiting: None,
        }
    }

    /// What became of a write, unless the client has let it wait for too long.
    fn paced<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if self.least_rate == 0 {
            return written;
        }
        let Poll::Ready(written) = written else {
            let credit = self.credit;
            let waiting = self.waiting.get_or_insert_with(|| {
                let since = Instant::now();
                Waiting {
                    since,
                    credit_is_used_up: interval_at(since + credit, GRACE),
                }
            });
            ready!(waiting.credit_is_used_up.poll_tick(context));
            let rate = self.least_rate;
            let why = format!("the client takes less than {rate} bytes a second");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        };
        if let Some(waiting) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(waiting.since.elapsed());
        }
        if let Ok(written) = &written {
            let earned = time_for(bytes(written) as u64, self.least_rate);
            self.credit = (self.credit + earned).min(most_credit(self.least_rate));
        }
        Poll::Ready(written)
    }
}

/// How long a client may neither read nor acknowledge; `None`: for ever.
pub(super) fn patience(least_rate_bytes_per_s: u64) -> Option<Duration> {
    (least_rate_bytes_per_s > 0).then(|| most_credit(least_rate_bytes_per_s))
}

fn most_credit(rate: u64) -> Duration {
    GRACE + time_for(u64::from(UNSENT_BYTES), rate)
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    let ms = bytes.saturating_mul(1000).checked_div(rate);
    Duration::from_millis(ms.unwrap_or_default())
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(context, written, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.paced(context, written, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.paced(context, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.paced(context, shut, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// After how many seconds a client that takes so many bytes each `every` seconds is cut off;
    /// `None` where it is not, within a day.
    async fn cut_off(least_rate: u64, step: usize, every: u64) -> Option<u64> {
        let (ours, mut theirs) = duplex(UNSENT_BYTES as usize);
        let began = Instant::now();
        let answering = async {
            let mut stream = ClientStream::new(ours, least_rate);
            while stream.write_all(&[0; 8192]).await.is_ok() {}
            began.elapsed().as_secs()
        };
        let reading = async {
            let mut taken = vec![0; step];
            let mut often = tokio::time::interval(Duration::from_secs(every));
            while began.elapsed() < Duration::from_secs(86_400) {
                often.tick().await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
        };
        tokio::select! {
            after = answering => Some(after),
            () = reading => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_less_than_it_must_is_cut_off_and_no_other() {
        for (least_rate, step, every, expected) in [
            (1024, 1024, 1, None),
            // In steps of what lies in buffers.
            (1024, 65_536, 64, None),
            (100, 65_536, 655, None),
            (0, 1, 60, None),
            // Half of what it must: its credit lasts twice as long.
            (1024, 512, 1, Some(316)),
            (1024, 0, 60, Some(158)),
        ] {
            let after = cut_off(least_rate, step, every).await;
            let is_so = match (after, expected) {
                (Some(after), Some(expected)) => after.abs_diff(expected) <= 30,
                (after, expected) => after == expected,
            };
            assert!(is_so, "{least_rate} {step} {every}: {after:?}");
        }
    }
}
