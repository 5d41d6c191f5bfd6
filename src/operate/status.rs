//! How it stands, at a glance: what the daemon says, or where none answers what the folders say.
//!
//! ```text
//!  control.sock ──ask──▶ Snapshot ─┐
//!                   or             ├─▶ Status ──▶ problems (pure) ──▶ screen (pure), or JSON
//!  the folders ──scan──▶ Folders ──┘                                  (docs/status.schema.json)
//! ```
//!
//! Nothing is changed, and nothing needs a daemon.

mod folders;
mod problems;
pub(crate) mod screen;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use tokio::time::timeout;

use super::{
    ask::{self, NoAnswer},
    doctor::{self, CommandContext},
    holder,
};
use crate::{
    clock,
    disk::shipped_lately::ShippedLately,
    model::{layout::Layout, progress::Progress, snapshot::Snapshot},
};

pub(crate) use self::folders::Folders;
pub(crate) use self::problems::StatusProblem;

/// How long a daemon is waited for. It answers in milliseconds, or hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// And how long the folders: a million shipped episodes are listed in seconds.
const LOOKED_WITHIN: Duration = Duration::from_secs(15);

/// For the lock file.
const LOCK_WITHIN: Duration = Duration::from_millis(1500);

/// What a caller that asks again and again does not look at a second time.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    lately: ShippedLately,
    /// Whether systemd knows the unit.
    has_unit: Option<bool>,
}

/// What is asked about.
#[derive(Debug, Clone)]
pub(crate) struct StatusQuery {
    /// The folders.
    pub layout: Layout,
    /// The unit's name, checked.
    pub unit: String,
    /// What the command line said, as words of a shell: other commands are shown with the same.
    pub options: String,
    /// The same of the receiver, which not each command asks.
    pub receiver: String,
    /// The configuration file that is in force.
    pub file: Option<PathBuf>,
    /// The certificate, or the token, that the receiver knows us by, where one is configured.
    pub credential: Option<PathBuf>,
}

/// How it stands. As JSON this is `sealift status --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    /// The version of this form: 1.
    pub sealift_status: u32,
    /// Whether a daemon answers.
    pub daemon: DaemonAnswer,
    /// Why none does, in words.
    pub no_answer: Option<String>,
    /// What it says.
    pub snapshot: Option<Snapshot>,
    /// What the folders say.
    pub folders: Folders,
    /// What the operator should look at, the worst first. Where there is none, all is well.
    pub problems: Vec<StatusProblem>,
}

/// Whether a daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DaemonAnswer {
    /// It does.
    Running,
    /// No daemon is there.
    NotRunning,
    /// The calling user may not ask it.
    NotPermitted,
    /// One is there, and does not.
    Hangs,
    /// Something else answers, or another version.
    Strange,
}

/// Asks the daemon; where none answers, looks into the folders. A caller that asks again and again
/// keeps `memory`.
pub(crate) async fn status(question: &StatusQuery, memory: &mut Memory) -> Status {
    let layout = &question.layout;
    let answer = ask::snapshot(layout, ANSWERS_WITHIN).await;
    let folders = match &answer {
        Ok(snapshot) => Folders::of(snapshot),
        Err(_) => look(layout.clone(), memory).await,
    };
    let (daemon, no_answer) = match &answer {
        Ok(_) => (DaemonAnswer::Running, None),
        Err(error) => (state_of(error), Some(error.to_string())),
    };
    let hands = hands(
        question,
        answer.as_ref().ok().map(|snapshot| snapshot.pid),
        memory,
    )
    .await
    .with_receiver_of(answer.as_ref().ok());
    let mut status = Status {
        sealift_status: 1,
        daemon,
        no_answer,
        snapshot: answer.ok(),
        folders,
        problems: Vec::new(),
    };
    status.problems = problems::problems(&status, &hands, layout);
    status
}

async fn look(layout: Layout, memory: &mut Memory) -> Folders {
    let mut lately = std::mem::take(&mut memory.lately);
    let look = move || {
        let folders = folders::look(
            &layout,
            clock::wall_now(),
            &mut lately,
            &Progress::default(),
        );
        (folders, lately)
    };
    match timeout(LOOKED_WITHIN, tokio::task::spawn_blocking(look)).await {
        Ok(Ok((folders, lately))) => {
            memory.lately = lately;
            folders
        }
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed(format!(
            "the folders do not answer within {} s: a hung disk or mount?",
            LOOKED_WITHIN.as_secs()
        )),
    }
}

/// What has to be typed about this daemon: by its unit, or by its process.
async fn hands(question: &StatusQuery, pid: Option<u32>, memory: &mut Memory) -> CommandContext {
    let lock = question.layout.private.join("lock");
    let holder = async {
        match pid {
            Some(pid) => Some(pid),
            None => {
                let reading = tokio::task::spawn_blocking(move || holder::of(&lock));
                timeout(LOCK_WITHIN, reading).await.ok()?.ok()?
            }
        }
    };
    let unit = async {
        match memory.has_unit {
            Some(known) => known,
            None => doctor::knows_unit(&question.unit).await,
        }
    };
    let (daemon_pid, has_unit) = tokio::join!(holder, unit);
    memory.has_unit = Some(has_unit);
    CommandContext {
        root: rustix::process::geteuid().is_root(),
        unit: question.unit.clone(),
        has_unit,
        daemon_pid,
        options: question.options.clone(),
        receiver: question.receiver.clone(),
        file: question.file.clone(),
        credential: question.credential.clone(),
    }
}

fn failed(why: String) -> Folders {
    Folders {
        failed: vec![why],
        ..Folders::default()
    }
}

fn state_of(error: &NoAnswer) -> DaemonAnswer {
    match error {
        NoAnswer::NotRunning { .. } => DaemonAnswer::NotRunning,
        NoAnswer::NotPermitted { .. } => DaemonAnswer::NotPermitted,
        NoAnswer::Hangs { .. } => DaemonAnswer::Hangs,
        NoAnswer::Strange { .. } => DaemonAnswer::Strange,
    }
}
