//! A client for questions beside an upload: the same connections, and less patience.

use std::{sync::Arc, time::Duration};

use super::{Client, ClientInner, Timeouts};

impl Client {
    /// The same client over the same connections, which waits no longer than this for an answer, or
    /// for something to move.
    #[must_use]
    pub fn waiting_at_most(&self, wait: Duration) -> Self {
        let ClientInner {
            timeouts,
            credentials,
            idle,
        } = &*self.0;
        let timeouts = Timeouts {
            idle: timeouts.idle.min(wait),
            answer: timeouts.answer.min(wait),
            ..*timeouts
        };
        Self(Arc::new(ClientInner {
            timeouts,
            credentials: Arc::clone(credentials),
            idle: Arc::clone(idle),
        }))
    }
}
