//! Whether a daemon runs on this folder, and how it says it stands.

use std::time::Duration;

use super::{DISK, within};
use crate::{
    layout::Layout,
    operate::{
        ask::{self, NoAnswer},
        doctor::facts::Daemon,
        holder,
    },
};

/// The daemon waits for its own loop for less; it turns within milliseconds, or something is very wrong.
const ANSWER: Duration = Duration::from_millis(2500);
pub(super) async fn ask(layout: Option<&Layout>) -> Daemon {
    let Some(layout) = layout else { return Daemon::Unknown };
    let lock = layout.private.join("lock");
    let (answer, holder) =
        tokio::join!(ask::snapshot(layout, ANSWER), within(DISK, move || holder::of(&lock)));
    let why = match answer {
        Ok(snapshot) => return Daemon::Answers(Box::new(snapshot)),
        Err(why) => why,
    };
    let Some(pid) = holder else { return Daemon::Unknown };
    match (&why, pid) {
        // A socket that is left behind by a daemon that was killed, or none at all.
        (NoAnswer::NotRunning { .. }, None) => Daemon::None,
        (NoAnswer::NotRunning { .. }, Some(_)) => {
            Daemon::Silent { pid, why: "it holds the lock, and nobody answers at its socket".to_owned() }
        }
        (NoAnswer::NotPermitted { .. }, _) => Daemon::NotPermitted { pid },
        (NoAnswer::Hangs { .. } | NoAnswer::Strange { .. }, _) => {
            Daemon::Silent { pid, why: why.to_string() }
        }
    }
}
