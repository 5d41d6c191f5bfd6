//! Whether a daemon runs on this folder, and how it says it stands.

use std::time::Duration;

use super::{DISK, within};
use crate::{
    model::layout::Layout,
    operate::{
        ask::{self, NoAnswer},
        doctor::facts::DaemonState,
        holder,
    },
};

/// The daemon waits for its own loop for less; it turns within milliseconds, or something is very
/// wrong.
const ANSWER: Duration = Duration::from_millis(2500);

pub(super) async fn ask(layout: Option<&Layout>) -> DaemonState {
    let Some(layout) = layout else {
        return DaemonState::Unknown;
    };
    let lock = layout.private.join("lock");
    let (answer, holder) = tokio::join!(
        ask::snapshot(layout, ANSWER),
        within(DISK, move || holder::of(&lock)
            .map(|pid| (pid, holder::is_heard(&lock))))
    );
    let why = match answer {
        Ok(snapshot) => return DaemonState::Answers(Box::new(snapshot)),
        Err(why) => why,
    };
    let Some(holder) = holder else {
        return DaemonState::Unknown;
    };
    let (pid, is_heard) = (
        holder.map(|(pid, _)| pid),
        holder.is_some_and(|(_, is_heard)| is_heard),
    );
    match (&why, pid) {
        // A socket that is left behind by a daemon that was killed, or none at all.
        (NoAnswer::NotRunning { .. }, None) => DaemonState::None,
        (NoAnswer::NotRunning { .. }, Some(_)) => {
            let why = "it holds the lock, and nothing answers at its socket".to_owned();
            DaemonState::Silent { pid, why, is_heard }
        }
        (NoAnswer::NotPermitted { .. }, _) => DaemonState::NotPermitted { pid },
        (NoAnswer::Hangs { .. } | NoAnswer::Strange { .. }, _) => DaemonState::Silent {
            pid,
            why: why.to_string(),
            is_heard: false,
        },
    }
}

/// Whether the last that ran, where none does, was killed.
pub(super) async fn was_killed(daemon: &DaemonState, layout: Option<&Layout>) -> bool {
    let Some(layout) = layout.filter(|_| matches!(daemon, DaemonState::None)) else {
        return false;
    };
    let lock = layout.private.join("lock");
    within(DISK, move || holder::was_killed(&lock)).await == Some(true)
}
