//! A request's body: how long it is waited for, and what becomes of one that is not wanted.

use std::time::Duration;

use bytes::Bytes;
use http::{header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::model::wire::{Problem, ProblemType};

/// No byte of a body for this long: the client is gone, or holds the connection for nothing.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// So long a body may take to get going, whatever rate is asked for: a connection begins slowly
/// (RFC 5681).
const RATE_GRACE: Duration = Duration::from_secs(30);
/// After a refusal the rest of the body is read and thrown away, up to this many bytes, for this
/// long, and while enough comes each second (RFC 9112, section 9.6). A socket that is closed with
/// bytes unread is reset, and the reset overtakes the answer: a client that sends all before it
/// reads would see a broken pipe, and send the same again.
const LINGER_BYTES: u64 = 1 << 30;
const LINGER_TIME: Duration = Duration::from_secs(10);
const LINGER_LEAST_BYTES_PER_S: u64 = 16 << 10;
/// So many bodies are read so far at once. Others get as much as a proxy's buffers hold.
const LINGERERS: usize = 32;
const SHORT_LINGER_BYTES: u64 = 1 << 20;
/// What remains of a body that is no longer than this is waited for, and the connection is used
/// again.
const REUSE_BYTES: u64 = 1 << 20;

static LINGERING: Semaphore = Semaphore::const_new(LINGERERS);

/// The connection is dropped without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body for {} s", BODY_IDLE_TIMEOUT.as_secs())]
pub(super) struct BodyIdle;

/// Why a body is not there in full.
pub(super) enum BodyError {
    /// It ended early.
    Truncated(Problem),
    /// Nothing came any more.
    Idle(BodyIdle),
    /// It comes, and more slowly than it may.
    TooSlow(Problem),
}

/// What becomes of the connection once the answer is out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    Reuse,
    Close,
}

/// A request's body, and what the client expects of us before it sends it.
pub(super) struct UploadBody {
    incoming: Incoming,
    /// So many bytes have come.
    pub(super) received: u64,
    /// Less than so many bytes a second, on the average, is given up; 0: nothing is.
    min_rate_bytes_per_s: u64,
    /// When its first byte was asked for.
    began: Option<Instant>,
    /// The client waits for `100 Continue` (RFC 9110, section 10.1.1), which goes out when the body
    /// is first asked for.
    awaits_continue: bool,
}

impl UploadBody {
    pub(super) fn new(head: &Parts, incoming: Incoming, min_rate_bytes_per_s: u64) -> Self {
        let expects = head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self {
            incoming,
            received: 0,
            min_rate_bytes_per_s,
            began: None,
            awaits_continue: expects,
        }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.awaits_continue = false;
        let began = *self.began.get_or_insert_with(Instant::now);
        loop {
            let idle = Instant::now() + BODY_IDLE_TIMEOUT;
            let patience = began + patience(self.received, self.min_rate_bytes_per_s);
            let Ok(frame) = timeout_at(idle.min(patience), self.incoming.frame()).await else {
                if idle <= patience {
                    return Err(BodyError::Idle(BodyIdle));
                }
                let (received, rate) = (self.received, self.min_rate_bytes_per_s);
                let detail = format!("{received} bytes have come; {rate} a second are the least.");
                return Err(BodyError::TooSlow(Problem::new(
                    ProblemType::TooSlow,
                    detail,
                )));
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    let detail = format!("The body ended after {} bytes: {error}.", self.received);
                    return Err(BodyError::Truncated(Problem::new(
                        ProblemType::Truncated,
                        detail,
                    )));
                }
                Some(Ok(frame)) => {
                    // Trailers are no bytes of the archive.
                    if let Ok(bytes) = frame.into_data() {
                        self.received += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Gives the connection back after the answer was decided. What the client is still sending is
    /// read and thrown away beside the answer, within bounds.
    pub(super) fn let_go(self) -> Afterwards {
        if self.incoming.is_end_stream() {
            return Afterwards::Reuse;
        }
        // It has sent nothing yet. Asking for the body now would tell it to.
        if self.awaits_continue {
            return Afterwards::Close;
        }
        let rest = self.incoming.size_hint().exact();
        tokio::spawn(throw_away(self.incoming));
        if rest.is_some_and(|rest| rest <= REUSE_BYTES) {
            Afterwards::Reuse
        } else {
            Afterwards::Close
        }
    }
}

/// Reads what a client still sends, within bounds.
async fn throw_away(mut incoming: Incoming) {
    let place = LINGERING.try_acquire();
    let most = if place.is_ok() {
        LINGER_BYTES
    } else {
        SHORT_LINGER_BYTES
    };
    const SECOND: Duration = Duration::from_secs(1);
    let until = Instant::now() + LINGER_TIME;
    let mut second = Instant::now() + SECOND;
    let (mut read, mut in_this_second) = (0, 0);
    while read <= most {
        match timeout_at(until.min(second), incoming.frame()).await {
            Ok(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                read += bytes;
                in_this_second += bytes;
            }
            Ok(_) => return,
            Err(_) => {}
        }
        let now = Instant::now();
        if now >= second {
            if in_this_second < LINGER_LEAST_BYTES_PER_S {
                return;
            }
            (second, in_this_second) = (now + SECOND, 0);
        }
        if now >= until {
            return;
        }
    }
}

/// How long after its beginning a body must have brought more than this.
fn patience(received: u64, min_rate_bytes_per_s: u64) -> Duration {
    let seconds = received.checked_div(min_rate_bytes_per_s);
    // Without a rate, longer than anything: a year.
    seconds.map_or(Duration::from_secs(366 * 86_400), |seconds| {
        RATE_GRACE.max(Duration::from_secs(seconds.min(366 * 86_400)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_keeps_its_rate_has_time_and_one_that_does_not_has_half_a_minute() {
        for (received, rate, seconds) in [
            (0, 1024, 30),
            (1024, 1024, 30),
            (1 << 20, 1024, 1024),
            (1 << 40, 1 << 10, 31_622_400),
            (5, 0, 31_622_400),
        ] {
            assert_eq!(
                patience(received, rate).as_secs(),
                seconds,
                "{received} at {rate}"
            );
        }
    }
}
