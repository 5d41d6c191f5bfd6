//! How it ends: when it is called to, and what it leaves.

use std::{mem, time::Duration};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout},
};

use super::Daemon;
use crate::ship::machine::Event;

/// At a stop, what is in flight may take so long to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// And so long to be put away after it was told to stop.
pub(super) const LAST_GRACE: Duration = Duration::from_secs(10);
/// Beyond that, what the service manager waits for a process to go.
pub(super) const GOING: Duration = Duration::from_secs(5);
/// Of which removing our names may take so much.
const TIDYING: Duration = Duration::from_secs(3);

/// When to stop: called once, with a grace for what is in flight; called again, at once.
#[derive(Debug)]
pub struct Stop {
    calls: UnboundedReceiver<()>,
    closed: bool,
    pub(super) was_called: bool,
}

impl Stop {
    /// A call for each message; the end of the channel is one, too.
    #[must_use]
    pub fn new(calls: UnboundedReceiver<()>) -> Self {
        Self {
            calls,
            closed: false,
            was_called: false,
        }
    }

    /// Ends with the next call.
    pub(super) async fn called(&mut self) {
        if self.closed {
            std::future::pending::<()>().await;
        }
        self.closed = self.calls.recv().await.is_none();
        self.was_called = true;
    }
}

impl Daemon {
    /// Takes our names off the disk. Where that hangs they stay, and the next start replaces them:
    /// this process goes.
    pub(super) async fn end(self, all_done: bool) {
        let (socket, keeper) = (self.asking.into_socket(), self.lock.keeper());
        if all_done {
            let tidying = tokio::task::spawn_blocking(move || {
                // Before the lock: who comes next makes a socket of their own.
                drop(socket);
                keeper.leave();
            });
            if timeout(TIDYING, tidying).await.is_err() {
                tracing::warn!(
                    "the lock and the socket are left as they are: their disk does not answer"
                );
            }
        } else {
            // What was given up may hang on that very disk.
            mem::forget(socket);
        }
        self.lock.close();
    }

    /// Takes up nothing new, and waits for what is in flight.
    pub(super) fn begin_to_stop(&mut self) {
        tracing::info!(
            "stopping: nothing new is taken, what is in flight has {} s; a second signal ends it at once",
            GRACE.as_secs()
        );
        self.options.notifier.stopping(GRACE + GOING);
        self.stopping = Some(Instant::now() + GRACE);
        self.teller.stopping();
        self.hear(Event::Stop);
    }
}
