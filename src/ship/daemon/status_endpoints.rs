//! Who asks how it stands, and who is told without asking.

use std::time::Duration;

use tokio::{net::TcpListener, sync::mpsc, time::Instant};

use super::{Daemon, Metrics};
use crate::ship::report::{
    control::{Ask, Bound, Desk},
    metrics,
    textfile::Textfile,
};

/// The textfile is no oftener written.
const TEXTFILE_EVERY: Duration = Duration::from_secs(15);

/// The doors, and the questions that came in.
#[derive(Debug)]
pub(super) struct Asking {
    asks: mpsc::Receiver<Ask>,
    /// As long as it is there, the socket has its name.
    bound: Option<Bound>,
    metrics_failed: Option<String>,
    textfile: Option<Textfile>,
    textfile_due: Option<Instant>,
}

impl Asking {
    /// Opens the doors. One that cannot be opened is told, and shipping goes on without it.
    pub(super) async fn begin(
        mut bound: Option<Bound>,
        metrics: &Metrics,
        desk: Option<(Desk, mpsc::Receiver<Ask>)>,
    ) -> Self {
        let (desk, asks) = desk.unwrap_or_else(Desk::new);
        if let Some(bound) = &mut bound
            && let Err(error) = desk.serve_socket(bound)
        {
            tracing::warn!(
                "Control socket unavailable: {error}. `sealift status` reads the folders instead; shipping is not affected."
            );
        }
        let mut metrics_failed = None;
        if let Some(listen) = metrics.listen {
            match TcpListener::bind(listen).await {
                Ok(listener) => {
                    let at = listener.local_addr().unwrap_or(listen);
                    tracing::info!("metrics are given out at http://{at}/metrics");
                    desk.serve_port(listener);
                }
                Err(error) => {
                    tracing::warn!(
                        "No metrics are given out at {listen} (shipper.metrics_listen): {error}. Everything else goes on; the next start \
                         tries again."
                    );
                    metrics_failed = Some(format!("{listen}: {error}"));
                }
            }
        }
        let textfile = metrics.textfile.clone().map(Textfile::at);
        Self {
            asks,
            bound,
            metrics_failed,
            textfile,
            textfile_due: None,
        }
    }

    /// Why no client can ask at the port that was set.
    pub(super) fn metrics_failed(&self) -> Option<&String> {
        self.metrics_failed.as_ref()
    }

    /// The socket's name: it goes with what is returned.
    pub(super) fn into_socket(self) -> Option<Bound> {
        self.bound
    }

    /// The next question; `None` where no client can ask.
    pub(super) async fn recv(&mut self) -> Option<Ask> {
        self.asks.recv().await
    }

    /// The textfile, where it is due and the last writing is over.
    fn textfile_due(&mut self, now: Instant) -> Option<Textfile> {
        let due = self.textfile_due.is_none_or(|due| now >= due);
        let textfile = self
            .textfile
            .clone()
            .filter(|textfile| due && textfile.begin())?;
        self.textfile_due = Some(now + TEXTFILE_EVERY);
        Some(textfile)
    }
}

impl Daemon {
    /// The tick: metrics go into a file, for a collector to read. A disk that hangs there holds up
    /// nothing but the next writing.
    pub(super) fn write_textfile(&mut self) {
        if let Some(textfile) = self.asking.textfile_due(Instant::now()) {
            let (mut snapshot, folder_totals) = (self.snapshot(), self.folder_totals.clone());
            tokio::task::spawn_blocking(move || {
                snapshot.filed = folder_totals.filed();
                textfile.write(&metrics::text(&snapshot));
            });
        }
    }
}
