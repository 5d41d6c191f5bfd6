//! A client for questions beside an upload: the same connections, and less patience.

use std::{sync::Arc, time::Duration};

use super::{Client, ClientInner, ClientOptions};

impl Client {
    /// The same client over the same connections, which waits no longer than this for an answer, or
    /// for something to move.
    #[must_use]
    pub fn waiting_at_most(&self, wait: Duration) -> Self {
        let ClientInner {
            options,
            credentials,
            idle,
        } = &*self.0;
        let options = ClientOptions {
            idle_timeout: options.idle_timeout.min(wait),
            answer_timeout: options.answer_timeout.min(wait),
            ..options.clone()
        };
        Self(Arc::new(ClientInner {
            options,
            credentials: Arc::clone(credentials),
            idle: Arc::clone(idle),
        }))
    }
}
