//! What the operator set, as far as it decides.

use std::time::Duration;

use super::{
    destination::{upload_window::Uploads, verdict::Trust},
    episodes::Order,
};

/// What the operator set, and what decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many episodes are packed at once.
    pub pack_workers: usize,
    /// How many are sent at once.
    pub concurrency: usize,
    /// Which of those that wait go first.
    pub order: Order,
    /// When uploads may run, and how fast.
    pub uploads: Uploads,
    /// How long between two reconcile passes.
    pub reconcile_interval: Duration,
    /// How long between two clean-ups of `quarantine/` and `shipped/`.
    pub sweep_interval: Duration,
    /// Whether a 2xx without a matching receipt is not believed.
    pub require_receipt: bool,
    /// Whether a 200 without a receipt is believed though nothing vouches for it.
    pub believe_bare_200: bool,
    /// One pass: everything is tried once, and what does not succeed is left for another time.
    pub once: bool,
    /// Whether disk pressure may take something from `shipped/`.
    pub relieve: bool,
    /// How long an episode waits for a file of it that is open for writing, before it is shipped
    /// all the same.
    pub open_files_wait: Duration,
    /// The seed of the jitter.
    pub seed: u64,
}

impl Settings {
    /// How far an acknowledgement without a receipt is believed.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let Self {
            require_receipt,
            believe_bare_200,
            ..
        } = *self;
        Trust {
            require_receipt,
            believe_bare_200,
            head_failed_before: false,
        }
    }
}
