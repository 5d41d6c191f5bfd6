//! One bucket of bytes for all uploads: how fast they go together.
//!
//! ```text
//!   upload ──piece──▶ ┐ one after another  ┌──────────┐ fills at the pace that is set
//!   upload ──piece──▶ ├───────────────────▶│  bucket  │──▶ the connection whose turn it was
//!   upload ──piece──▶ ┘                    └──────────┘ holds a quarter of a second of it
//! ```
//!
//! Pieces are small, so that what leaves is smooth and everybody has a turn. Who waits here waits
//! for a stated reason, and shows it: the heart beats on. Where nothing is limited, nothing of this
//! is touched but one flag.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{model::progress::Progress, ship::machine::destination::upload_window::Pace};

/// How much the bucket holds, as a part of a second: what a timer or a busy processor may be late
/// by and is made good.
const HOLDS_S: f64 = 0.25;
/// A piece is what leaves in this part of a second.
const PIECES_PER_S: u64 = 50;
const SMALLEST_PIECE_BYTES: u64 = 1024;
const LARGEST_PIECE_BYTES: u64 = 64 * 1024;
/// Who waits shows it so often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// The uploads' common pace. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<ThrottleInner>);

#[derive(Debug, Default)]
struct ThrottleInner {
    limits: AtomicBool,
    bucket: Mutex<TokenBucket>,
    changed: Notify,
    /// Fair: the upload that came first is first.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct TokenBucket {
    pace: Option<Pace>,
    bytes: f64,
    filled_at: Option<Instant>,
}

/// Whether a piece may go.
enum May {
    Go,
    At(Instant),
    Not,
}

impl Throttle {
    /// From now on, also for what is under way.
    pub fn set(&self, pace: Pace) {
        *self.0.bucket.lock() = TokenBucket {
            pace: Some(pace),
            bytes: 0.0,
            filled_at: Some(Instant::now()),
        };
        self.0.limits.store(pace != Pace::Free, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    /// Whether anything is limited.
    pub fn limits(&self) -> bool {
        self.0.limits.load(Ordering::Relaxed)
    }

    /// How much of what is left goes as one piece, bytes.
    pub fn piece(&self, left_bytes: usize) -> usize {
        if !self.limits() {
            return left_bytes;
        }
        let piece = match self.0.bucket.lock().pace {
            Some(Pace::AtMost(limit)) => {
                (limit.get() / PIECES_PER_S).clamp(SMALLEST_PIECE_BYTES, LARGEST_PIECE_BYTES)
            }
            Some(Pace::Closed(_)) => SMALLEST_PIECE_BYTES,
            Some(Pace::Free) | None => return left_bytes,
        };
        usize::try_from(piece).map_or(left_bytes, |piece| left_bytes.min(piece))
    }

    /// Waits until a piece of this length may go.
    pub async fn pass(&self, len_bytes: usize, progress: &Progress) {
        if !self.limits() {
            return;
        }
        let _turn = loop {
            match tokio::time::timeout(SIGN_OF_LIFE, self.0.turn.lock()).await {
                Ok(turn) => break turn,
                Err(_) => progress.step(),
            }
        };
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // Listening first and looking second: a change in between is not missed.
            changed.as_mut().enable();
            let now = Instant::now();
            let sign = now + SIGN_OF_LIFE;
            let until = match self.0.bucket.lock().take(len_bytes, now) {
                May::Go => return,
                May::At(at) => at.min(sign),
                May::Not => sign,
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
            progress.step();
        }
    }
}

impl TokenBucket {
    #[expect(clippy::cast_precision_loss, reason = "no limit is that exact")]
    fn take(&mut self, len_bytes: usize, now: Instant) -> May {
        let limit = match self.pace {
            None | Some(Pace::Free) => return May::Go,
            Some(Pace::Closed(_)) => return May::Not,
            Some(Pace::AtMost(limit)) => limit.get() as f64,
        };
        let len_bytes = len_bytes as f64;
        let since = now.saturating_duration_since(self.filled_at.replace(now).unwrap_or(now));
        // A piece that was cut for a faster pace must fit, too.
        let holds = (limit * HOLDS_S).max(len_bytes);
        self.bytes = (self.bytes + limit * since.as_secs_f64()).min(holds);
        if self.bytes >= len_bytes {
            self.bytes -= len_bytes;
            return May::Go;
        }
        May::At(now + Duration::from_secs_f64((len_bytes - self.bytes) / limit))
    }
}
