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
//! host, and no other upload of ours. So at strangers a connection lives for a few seconds, also
//! where it is in steady use; only a receiver of ours, which is known to serve many, is kept
//! waiting for long.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    connect::{ConnectTarget, Connection},
    flight::Flight,
};

/// How many are kept: one for each upload that runs beside others, and a few to spare.
const MAX_IDLE: usize = 8;

/// How long one is kept where the other end serves many. Most servers and balancers close theirs
/// after 60 s; using one in the moment in which it is closed costs an attempt.
const MAX_AGE: Duration = Duration::from_secs(50);

/// How long one lives where that is not known, from its handshake on: a host that has something to
/// send every few seconds would shut out every other otherwise.
const MAX_LIFE_AT_STRANGERS: Duration = Duration::from_secs(5);

/// One whose answer raises a question is kept for as long as it takes to ask it.
const QUESTION_FOLLOWS: Duration = Duration::from_secs(1);

/// An exchange that has heard nothing for so long on a new connection may be waiting for the one
/// that is kept.
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
    /// Exchanges on new connections that have no answer yet.
    waiting: Vec<Waiter>,
    last_number: u64,
    is_swept: bool,
}

struct Waiter {
    number: u64,
    destination: ConnectTarget,
    since: Instant,
    flight: Flight,
}

impl Idle {
    /// The other end is known to serve more than one connection at a time.
    pub(super) fn serves_many(&self) {
        self.serves_many.store(true, Ordering::Relaxed);
    }

    /// Until when one may be idle.
    fn end_of(&self, one: &Connection) -> Instant {
        if self.serves_many.load(Ordering::Relaxed) {
            return one.idle_since + MAX_AGE;
        }
        let of_its_life = one.opened_at + MAX_LIFE_AT_STRANGERS;
        if one.question_follows {
            of_its_life.max(one.idle_since + QUESTION_FOLLOWS)
        } else {
            of_its_life
        }
    }

    fn close_those_past_their_end(&self, state: &mut IdleState) {
        let now = Instant::now();
        state
            .connections
            .retain(|one| self.end_of(one) > now && !one.sender.is_closed());
    }

    /// One that leads there, alive as far as can be seen.
    pub(super) async fn take(&self, destination: &ConnectTarget) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut state = self.state.lock();
                self.close_those_past_their_end(&mut state);
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
        self.state
            .lock()
            .connections
            .retain(|one| one.destination != *destination);
    }

    /// Keeps one whose exchange ended well. `question_follows`: it is needed again at once.
    pub(super) fn put(self: &Arc<Self>, mut connection: Connection, question_follows: bool) {
        connection.idle_since = Instant::now();
        connection.question_follows = question_follows;
        let mut state = self.state.lock();
        if !question_follows && state.is_waited_for(&connection.destination) {
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

    /// An exchange goes out on a new connection; it waits for its turn until something is heard, or
    /// until this is dropped.
    pub(super) fn waits(
        self: &Arc<Self>,
        destination: &ConnectTarget,
        flight: &Flight,
    ) -> WaitingExchange {
        let mut state = self.state.lock();
        state.last_number += 1;
        let number = state.last_number;
        state.waiting.push(Waiter {
            number,
            destination: destination.clone(),
            since: Instant::now(),
            flight: flight.clone(),
        });
        WaitingExchange {
            idle: Arc::clone(self),
            number,
        }
    }
}

impl IdleState {
    fn is_waited_for(&self, destination: &ConnectTarget) -> bool {
        self.waiting.iter().any(|waiter| {
            waiter.destination == *destination
                && waiter.since.elapsed() >= TURN_WAIT
                && !waiter.flight.has_heard()
        })
    }
}

/// An exchange that has no answer yet. See [`Idle::waits`].
pub(super) struct WaitingExchange {
    idle: Arc<Idle>,
    number: u64,
}

impl Drop for WaitingExchange {
    fn drop(&mut self) {
        let mut state = self.idle.state.lock();
        state.waiting.retain(|waiter| waiter.number != self.number);
    }
}

/// Closes what has been idle for too long, until nothing is left.
async fn sweep(idle: Weak<Idle>) {
    loop {
        let next = {
            let Some(idle) = idle.upgrade() else { return };
            let mut state = idle.state.lock();
            idle.close_those_past_their_end(&mut state);
            let ends = state.connections.iter().map(|one| idle.end_of(one));
            let Some(next) = ends.min() else {
                state.is_swept = false;
                return;
            };
            next
        };
        tokio::time::sleep_until(next).await;
    }
}
