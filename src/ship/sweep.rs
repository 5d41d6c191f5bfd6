//! Removes from `quarantine/` and `shipped/` what has aged out. `retention.rs` decides, `durable.rs` removes.
//!
//! The caller has seen that the clock can be believed, and holds the lock.

pub mod edited;
pub mod pressure;

use std::{
    ffi::OsStr,
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    durable,
    episode::printable,
    filed::ages,
    layout::{Layout, is_scratch},
    progress::Progress,
    records::WallTime,
    retention::{Due, Entry, days_between, due},
};

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories that were removed.
    pub removed: u64,
    /// Directories whose age began anew.
    pub renewed: u64,
    /// Shipped ones that are kept since no receipt of the receiver's own vouches for them.
    pub unvouched: u64,
    /// Shipped ones that have aged out and are kept since they are not what was delivered.
    pub edited: u64,
    /// Directories that could not be looked at or removed; each was told.
    pub failed: u64,
    /// Quarantined ones that will be removed within a week.
    pub quarantine_ahead: u64,
}

/// How many unvouched ones were last told: told again only when there are more.
static UNVOUCHED_TOLD: AtomicU64 = AtomicU64::new(0);

/// Whether a directory in `shipped/` is still what the receiver holds.
pub type AsDelivered<'a> = &'a dyn Fn(&Path) -> io::Result<bool>;

/// Looks through both folders once. One directory that cannot be looked at or removed does not keep the others.
pub fn sweep(
    layout: &Layout,
    quarantine_keep_days: Option<u32>,
    shipped_keep_days: Option<u32>,
    now: WallTime,
    as_delivered: AsDelivered<'_>,
    progress: &Progress,
) -> Swept {
    let mut swept = Swept::default();
    let quarantined =
        Rule { keep_days: quarantine_keep_days, look: ages::quarantined, may_go: &|_| Ok(true) };
    let shipped = Rule { keep_days: shipped_keep_days, look: ages::shipped, may_go: as_delivered };
    for (folder, rule) in [(&layout.quarantine, quarantined), (&layout.shipped, shipped)] {
        if rule.keep_days.is_some_and(|days| days > 0) {
            match sweep_folder(folder, &rule, now, progress, &mut swept) {
                Ok(ahead) if *folder == layout.quarantine => swept.quarantine_ahead = ahead,
                Ok(_) => {}
                Err(error) => {
                    swept.failed += 1;
                    let folder = folder.display();
                    tracing::warn!("{folder} cannot be looked through: {error}. It is tried again.");
                }
            }
        }
    }
    if swept.unvouched > UNVOUCHED_TOLD.swap(swept.unvouched, Ordering::Relaxed) {
        tracing::warn!(
            "{} of the episodes in {} are kept whatever shipped_keep_days says: no receipt of the receiver's own \
             vouches for them. Remove them by hand when you know that they are safe elsewhere.",
            swept.unvouched,
            layout.shipped.display()
        );
    }
    swept
}

/// What will be removed so soon is announced.
const AHEAD: Duration = Duration::from_secs(7 * 24 * 3600);

/// What becomes of one folder's directories.
struct Rule<'a> {
    keep_days: Option<u32>,
    look: fn(&Path) -> io::Result<Entry>,
    /// Asked of what has aged out.
    may_go: AsDelivered<'a>,
}

/// How many will be removed within a week.
fn sweep_folder(
    folder: &Path,
    rule: &Rule<'_>,
    now: WallTime,
    progress: &Progress,
    swept: &mut Swept,
) -> io::Result<u64> {
    let mut ahead = 0;
    for entry in fs::read_dir(folder)? {
        progress.check().map_err(io::Error::other)?;
        progress.step();
        let entry = entry?;
        let name = entry.file_name();
        // Scratch is the start's business; what is hidden, a file and a symlink were put there by somebody else.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || is_scratch(&name.to_string_lossy()) || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        match sweep_one(&path, &name, rule, now, progress, swept) {
            Ok(soon) => ahead += u64::from(soon),
            Err(error) => {
                swept.failed += 1;
                tracing::warn!(
                    EPISODE = %printable(&name.to_string_lossy()),
                    "{} has aged out, or its age cannot be told: {error}. It is tried again.", path.display()
                );
            }
        }
    }
    Ok(ahead)
}

/// Whether it will be removed within a week.
fn sweep_one(
    path: &Path,
    name: &OsStr,
    rule: &Rule<'_>,
    now: WallTime,
    progress: &Progress,
    swept: &mut Swept,
) -> io::Result<bool> {
    match due(&(rule.look)(path)?, rule.keep_days, now) {
        Due::At { due, .. } if due <= now && !(rule.may_go)(path)? => swept.edited += 1,
        Due::At { since, due } if due <= now => {
            durable::remove_tree(path, progress)?;
            swept.removed += 1;
            tracing::info!(
                EPISODE = %printable(&name.to_string_lossy()),
                "removed {}: {} old (since {since}), kept for {}", path.display(),
                days(days_between(since, now)), days(rule.keep_days.unwrap_or_default().into())
            );
        }
        Due::Anew => {
            durable::touch_folder(path)?;
            swept.renewed += 1;
            tracing::info!(
                EPISODE = %printable(&name.to_string_lossy()),
                "the age of {} begins anew: neither a stamp in it nor its mtime lies between this program's release and now. Its \
                 mtime is set to now.",
                path.display()
            );
        }
        Due::Unvouched => swept.unvouched += 1,
        Due::At { due, .. } => return Ok(due <= now.after(AHEAD)),
        Due::Never => {}
    }
    Ok(false)
}

fn days(n: i64) -> String {
    if n == 1 { "1 day".to_owned() } else { format!("{n} days") }
}

#[cfg(test)]
mod tests;
