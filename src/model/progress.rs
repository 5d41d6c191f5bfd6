//! What a piece of long work shows of itself, and how it is told to stop.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use sha2::{Digest as _, Sha256};

const READ_BYTES: usize = 128 * 1024;

/// Shared between one piece of work and those who watch it. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    shared: Arc<ProgressInner>,
    beside: bool,
    to_its_end: bool,
}

#[derive(Debug, Default)]
struct ProgressInner {
    bytes: AtomicU64,
    went_before: AtomicU64,
    steps: AtomicU64,
    cancelled: AtomicBool,
    /// Beyond so many bytes the work stops; 0: never.
    most_bytes: AtomicU64,
    cancelling: tokio::sync::Notify,
    /// Who waits for so many bytes to have gone is told; 0: no task waits.
    awaited_bytes: AtomicU64,
    gone: tokio::sync::Notify,
}

/// The work was told to stop; what it had begun is scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

impl Progress {
    /// For what has to be done on the way and is not the payload: its steps are seen, its bytes do
    /// not count, and it is told to stop together with the rest.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            beside: true,
            to_its_end: self.to_its_end,
        }
    }

    /// For what is worse half done than not begun, and takes seconds: its steps are seen, and it is
    /// not told to stop.
    #[must_use]
    pub fn to_its_end(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            beside: self.beside,
            to_its_end: true,
        }
    }

    /// So many more bytes of payload were read, sent or synced.
    pub fn advance(&self, bytes: u64) {
        if !self.beside {
            self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            let awaited_bytes = self.shared.awaited_bytes.load(Ordering::Relaxed);
            if awaited_bytes > 0 && self.has_gone(awaited_bytes) {
                self.shared.gone.notify_waiters();
            }
        }
        self.step();
    }

    /// Something moved that has no bytes of its own: a directory entry, a rename, a flushed slice.
    pub fn step(&self) {
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Payload bytes so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// It goes on behind so many bytes, which the receiver has from an earlier attempt.
    pub fn goes_on_behind(&self, bytes: u64) {
        self.shared.went_before.store(bytes, Ordering::Relaxed);
    }

    /// What it goes on behind.
    pub fn went_before(&self) -> u64 {
        self.shared.went_before.load(Ordering::Relaxed)
    }

    /// Done once so many bytes of payload have gone, what it goes on behind among them.
    pub async fn gone(&self, bytes: u64) {
        self.shared.awaited_bytes.store(bytes, Ordering::Relaxed);
        loop {
            let mut told = std::pin::pin!(self.shared.gone.notified());
            told.as_mut().enable();
            if self.has_gone(bytes) {
                return;
            }
            told.await;
        }
    }

    fn has_gone(&self, bytes: u64) -> bool {
        self.went_before() + self.bytes() >= bytes
    }

    /// A number that grows while the work is alive.
    pub fn steps(&self) -> u64 {
        self.shared.steps.load(Ordering::Relaxed)
    }

    /// The work is to stop by itself where it turns out to be longer than this, bytes of payload.
    pub fn stop_beyond(&self, most_bytes: Option<u64>) {
        self.shared
            .most_bytes
            .store(most_bytes.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether it is longer than it may be.
    pub fn is_beyond(&self) -> bool {
        let most_bytes = self.shared.most_bytes.load(Ordering::Relaxed);
        most_bytes > 0 && self.bytes() > most_bytes
    }

    /// Asks the work to stop at its next step.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        self.shared.cancelling.notify_waiters();
    }

    /// For the work to call between steps.
    ///
    /// # Errors
    /// [`Cancelled`] once [`Progress::cancel`] was called, or where the work is longer than it may
    /// be.
    pub fn check(&self) -> Result<(), Cancelled> {
        let stop = self.shared.cancelled.load(Ordering::Relaxed) || self.is_beyond();
        if stop && !self.to_its_end {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }

    /// For work that waits: done once [`Progress::cancel`] was called, before or after.
    pub async fn cancelled(&self) {
        let mut called = std::pin::pin!(self.shared.cancelling.notified());
        // Listening first and looking second: a call in between is not missed.
        called.as_mut().enable();
        if self.check().is_ok() {
            called.await;
        }
    }
}

/// Hashes everything that can be read. Memory is bounded.
///
/// # Errors
/// Those of reading, and [`Cancelled`] inside of one.
pub(crate) fn hash(mut from: impl Read, progress: &Progress) -> io::Result<Sha256> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        progress.check().map_err(io::Error::other)?;
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                progress.advance(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
