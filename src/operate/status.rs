//! How it stands, at a glance: what the daemon says, where one answers, and what the folders say.
//!
//! ```text
//!  control.sock ──ask──▶ Snapshot ─┐
//!                                  ├─▶ Status ──▶ problems (pure) ──▶ screen (pure), or JSON (docs/status.schema.json)
//!  the folders ──scan──▶ Folders ──┘
//! ```
//!
//! Nothing is changed, and nothing needs a daemon.

mod folders;
mod problems;
pub mod screen;
mod words;

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::ask::{self, NoAnswer};
use crate::{clock, layout::Layout, progress::Progress, snapshot::Snapshot};

pub use folders::{Folders, Found};
pub use problems::Problem;

/// How long a daemon is waited for. It answers in milliseconds, or hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// And how long the folders: a million shipped episodes are listed in seconds.
const LOOKED_WITHIN: Duration = Duration::from_secs(15);

/// How it stands. As JSON this is `sealift status --json`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The version of this form: 1.
    pub sealift_status: u32,
    /// Whether a daemon answers.
    pub daemon: Daemon,
    /// Why none does, in words.
    pub no_answer: Option<String>,
    /// What it says.
    pub snapshot: Option<Snapshot>,
    /// What the folders say.
    pub folders: Folders,
    /// What somebody should look at, the worst first. Where there is none, all is well.
    pub problems: Vec<Problem>,
}

/// Whether a daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// It does.
    Running,
    /// Nobody is there.
    NotRunning,
    /// Whoever asks may not.
    NotPermitted,
    /// One is there, and does not.
    Hangs,
    /// Something else answers, or another version.
    Strange,
}

/// Asks the daemon, and looks into the folders.
pub async fn status(layout: &Layout) -> Status {
    let answer = ask::snapshot(layout, ANSWERS_WITHIN).await;
    let (asked, looked) = (answer.is_ok(), layout.clone());
    let look = move || folders::look(&looked, asked, clock::wall_now(), &Progress::default());
    let folders = match timeout(LOOKED_WITHIN, tokio::task::spawn_blocking(look)).await {
        Ok(Ok(folders)) => folders,
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed(format!(
            "the folders do not answer within {} s: a hung disk or mount?",
            LOOKED_WITHIN.as_secs()
        )),
    };
    let (daemon, no_answer) = match &answer {
        Ok(_) => (Daemon::Running, None),
        Err(error) => (state_of(error), Some(error.to_string())),
    };
    let mut status =
        Status { sealift_status: 1, daemon, no_answer, snapshot: answer.ok(), folders, problems: Vec::new() };
    status.problems = problems::of(&status);
    status
}

fn failed(why: String) -> Folders {
    Folders { failed: vec![why], ..Folders::default() }
}

fn state_of(error: &NoAnswer) -> Daemon {
    match error {
        NoAnswer::NotRunning { .. } => Daemon::NotRunning,
        NoAnswer::NotPermitted { .. } => Daemon::NotPermitted,
        NoAnswer::Hangs { .. } => Daemon::Hangs,
        NoAnswer::Strange { .. } => Daemon::Strange,
    }
}
