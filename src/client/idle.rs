//! Connections that wait for the next exchange, and how long they may.
//!
//! ```text
//!  exchange ──ends well──▶ put ──▶ idle ──take──▶ the next exchange
//!                           │        └── too long: closed, by a timer
//!                           └── closed at once, where another exchange waits for its turn there
//! ```
//!
//! One that is kept saves the next exchange its handshakes, and takes a place at the other end.
//! Servers of a dozen lines serve one connection at a time: while ours is open they answer no other
//! host, and no other upload of ours. So only a receiver of ours, which is known to serve many, is
//! kept waiting for long.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::connect::{ConnectTarget, Connection};

/// How many are kept: one for each upload that runs beside others, and a few to spare.
const MAX_IDLE: usize = 8;

/// How long one is kept where the other end serves many. Most servers and balancers close theirs
/// after 60 s; using one in the moment in which it is closed costs an attempt.
const MAX_AGE: Duration = Duration::from_secs(50);

/// How long where that is not known.
const MAX_AGE_AT_STRANGERS: Duration = Duration::from_secs(5);

/// An exchange that has waited so long on a new connection without an answer may be waiting for the
/// one that is kept.
const TURN_WAIT: Duration = Duration::from_secs(1);

/// How long an idle connection may take to say that it is ready: it is, or it never will be.
const READY_WAIT: Duration = Duration::from_millis(100);

/// The idle connections to one receiver.
#[derive(Default)]
pub(super) struct Idle {
    state: Mutex<IdleState>,
    serves_many: AtomicBool,
}

#[derive(Default)]
struct IdleState {
    /// The one used last on top.
    connections: Vec<Connection>,
    /// Exchanges on new connections that have no answer yet, and since when.
    waiting: Vec<(ConnectTarget, Instant)>,
    is_swept: bool,
}

impl Idle {
    fn lock(&self) -> MutexGuard<'_, IdleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other end is known to serve more than one connection at a time.
    pub(super) fn serves_many(&self) {
        self.serves_many.store(true, Ordering::Relaxed);
    }

    fn max_age(&self) -> Duration {
        if self.serves_many.load(Ordering::Relaxed) {
            MAX_AGE
        } else {
            MAX_AGE_AT_STRANGERS
        }
    }

    /// One that leads there, alive as far as can be seen.
    pub(super) async fn take(&self, destination: &ConnectTarget) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut state = self.lock();
                state.close_those_older_than(self.max_age());
                let newest = state
                    .connections
                    .iter()
                    .rposition(|one| one.destination == *destination)?;
                state.connections.remove(newest)
            };
            if let Ok(Ok(())) = tokio::time::timeout(READY_WAIT, connection.sender.ready()).await {
                return Some(connection);
            }
        }
    }

    /// One of them had ended without a sign of it: so may have the others.
    pub(super) fn forget(&self, destination: &ConnectTarget) {
        self.lock()
            .connections
            .retain(|one| one.destination != *destination);
    }

    /// Keeps one whose exchange ended well.
    pub(super) fn put(self: &Arc<Self>, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut state = self.lock();
        if !self.serves_many.load(Ordering::Relaxed) && state.is_waited_for(&connection.destination)
        {
            return;
        }
        if state.connections.len() >= MAX_IDLE {
            state.connections.remove(0);
        }
        state.connections.push(connection);
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// An exchange goes out on a new connection; it waits for its answer as long as this is held.
    pub(super) fn waits(self: &Arc<Self>, destination: &ConnectTarget) -> WaitingExchange {
        let since = (destination.clone(), Instant::now());
        self.lock().waiting.push(since.clone());
        WaitingExchange {
            idle: Arc::clone(self),
            since,
        }
    }
}

impl IdleState {
    fn close_those_older_than(&mut self, max_age: Duration) {
        self.connections
            .retain(|one| one.idle_since.elapsed() < max_age && !one.sender.is_closed());
    }

    fn is_waited_for(&self, destination: &ConnectTarget) -> bool {
        self.waiting
            .iter()
            .any(|(to, since)| to == destination && since.elapsed() >= TURN_WAIT)
    }
}

/// An exchange that has no answer yet. See [`Idle::waits`].
pub(super) struct WaitingExchange {
    idle: Arc<Idle>,
    since: (ConnectTarget, Instant),
}

impl Drop for WaitingExchange {
    fn drop(&mut self) {
        let mut state = self.idle.lock();
        if let Some(at) = state.waiting.iter().position(|one| *one == self.since) {
            state.waiting.swap_remove(at);
        }
    }
}

/// Closes what has been idle for too long, until nothing is left.
async fn sweep(idle: Weak<Idle>) {
    loop {
        let next = {
            let Some(idle) = idle.upgrade() else { return };
            let max_age = idle.max_age();
            let mut state = idle.lock();
            state.close_those_older_than(max_age);
            let Some(oldest) = state.connections.iter().map(|one| one.idle_since).min() else {
                state.is_swept = false;
                return;
            };
            oldest + max_age
        };
        tokio::time::sleep_until(next).await;
    }
}
