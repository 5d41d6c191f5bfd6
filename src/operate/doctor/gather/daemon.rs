//! Whether a daemon runs on this folder, and how it says it stands.

use std::{fs, io::Read as _, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::{DISK, within};
use crate::{
    layout::Layout,
    operate::{
        ask::{self, NoAnswer},
        doctor::facts::Daemon,
    },
};

/// The daemon waits for its own loop for less; it turns within milliseconds, or something is very wrong.
const ANSWER: Duration = Duration::from_millis(2500);
/// What a holder writes is far shorter.
const MAX_LOCK_BYTES: u64 = 4096;

/// What stands in the lock file of a daemon that runs, or was killed.
#[derive(Debug, Deserialize)]
struct Holder {
    pid: u32,
    #[serde(default)]
    boot_id: String,
}

pub(super) async fn ask(layout: Option<&Layout>) -> Daemon {
    let Some(layout) = layout else { return Daemon::Unknown };
    let lock = layout.private.join("lock");
    let (answer, holder) = tokio::join!(ask::snapshot(layout, ANSWER), within(DISK, move || holder(&lock)));
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

/// The process that holds the lock. The lock itself is not tried: a daemon that starts in that moment would find it taken.
fn holder(lock: &Path) -> Option<u32> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(lock).ok()?;
    let mut text = Vec::new();
    file.take(MAX_LOCK_BYTES).read_to_end(&mut text).ok()?;
    let holder: Holder = serde_json::from_slice(&text).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{}/comm", holder.pid)).unwrap_or_default();
    (holder.boot_id == boot.trim() && name.trim() == "sealift").then_some(holder.pid)
}
