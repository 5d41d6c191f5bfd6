//! SIGHUP: what is set is read again, and applied as far as it can be while running.
//!
//! ```text
//!  SIGHUP ──▶ RELOADING ──▶ read (a blocking thread)
//!                             ├─right──▶ new attempts and packings go by it ───▶ READY
//!                             └─wrong──▶ told; what was read before stays in use ▶ READY
//! ```
//!
//! What is in flight ends as it began: an upload has its transport, and a packing its level, in its
//! own hands.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    model::snapshot::ReloadStatus,
    ship::{
        daemon::{FreeBytes, KeepDays},
        machine::{Settings, liveness::Allowances},
        pack,
        transport::Transport,
    },
};

/// Reads everything again. On a blocking thread: the files may lie anywhere.
#[derive(Clone)]
pub struct Reload(Arc<dyn Fn() -> anyhow::Result<Reloaded> + Send + Sync>);

/// What was read.
pub struct Reloaded {
    /// How to pack from now on.
    pub pack: pack::PackOptions,
    /// What is to stay free from now on.
    pub free_bytes: FreeBytes,
    /// What decides from now on; `once` and `seed` stay.
    pub settings: Settings,
    /// The reconcile interval where only reconcile passes find anything.
    pub reconcile_only_interval: Duration,
    /// How long things are kept from now on.
    pub keep_days: KeepDays,
    /// How long each part may show nothing from now on.
    pub allowances: Allowances,
    /// For new attempts. Its certificates and token are those that its files hold now.
    pub transport: Transport,
    /// Keys that differ from what is in force, and that only a restart applies.
    pub restart_for: Vec<&'static str>,
}

impl Reload {
    /// By this function.
    pub fn new(read: impl Fn() -> anyhow::Result<Reloaded> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads. Blocks.
    ///
    /// # Errors
    /// What is wrong, for the person who has just changed it.
    pub(super) fn read(&self) -> anyhow::Result<Reloaded> {
        (self.0)()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Notes what a reload came to, and says it in the log. What is left to apply.
pub(super) fn note(
    status: &mut ReloadStatus,
    read: anyhow::Result<Box<Reloaded>>,
) -> Option<Box<Reloaded>> {
    match read {
        Ok(reloaded) => {
            status.failed = None;
            status.restart_for = reloaded
                .restart_for
                .iter()
                .map(ToString::to_string)
                .collect();
            tracing::info!("reloaded: configuration, certificates and token are read again");
            if !status.restart_for.is_empty() {
                tracing::warn!(
                    "What cannot change while running stays as it was. Restart to apply: {}",
                    status.restart_for.join(", ")
                );
            }
            Some(reloaded)
        }
        Err(error) => {
            tracing::error!("reload failed, what was read before stays in use: {error:#}");
            status.failed = Some(format!("{error:#}"));
            None
        }
    }
}
