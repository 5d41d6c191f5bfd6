//! Removes from `quarantine/` and `shipped/` what has aged out. `retention.rs` decides,
//! `durable.rs` removes.
//!
//! The caller has seen that the clock can be believed, and holds the lock.

pub(crate) mod edit_check;
pub(crate) mod pressure;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    disk::{
        durable,
        record_files::{self, ages},
    },
    model::{
        layout::{Layout, is_scratch},
        progress::Progress,
        records::{Aging, WallTime},
        retention::{Due, RetentionEntry, days_between, due, is_announced_in_vain},
        text::printable,
    },
};

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
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
pub(crate) type AsDelivered<'a> = &'a dyn Fn(&Path) -> io::Result<bool>;

/// Looks through both folders once. One directory that cannot be looked at or removed does not keep
/// the others.
pub(crate) fn sweep(
    layout: &Layout,
    quarantine_keep_days: Option<u32>,
    shipped_keep_days: Option<u32>,
    now: WallTime,
    as_delivered: AsDelivered<'_>,
    progress: &Progress,
) -> Swept {
    let mut swept = Swept::default();
    let [quarantined, shipped] = rules(quarantine_keep_days, shipped_keep_days, as_delivered);
    for (folder, rule) in [
        (&layout.quarantine, quarantined),
        (&layout.shipped, shipped),
    ] {
        if rule.keep_days.is_some_and(|days| days > 0) {
            match sweep_folder(folder, &rule, now, progress, &mut swept) {
                Ok(ahead) if *folder == layout.quarantine => swept.quarantine_ahead = ahead,
                Ok(_) => {}
                Err(error) => {
                    swept.failed += 1;
                    let folder = folder.display();
                    tracing::warn!(
                        "{folder} cannot be looked through: {error}. It is tried again."
                    );
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

/// Changes what a record says of an age.
type NoteAge = fn(&Path, &dyn Fn(&mut Aging)) -> io::Result<()>;

/// What becomes of one folder's directories.
struct Rule<'a> {
    keep_days: Option<u32>,
    look: fn(&Path) -> io::Result<RetentionEntry>,
    /// Writes down what its age is counted by.
    note: NoteAge,
    /// Asked of what has aged out.
    may_go: AsDelivered<'a>,
}

fn rules(
    quarantine: Option<u32>,
    shipped: Option<u32>,
    as_delivered: AsDelivered<'_>,
) -> [Rule<'_>; 2] {
    [
        Rule {
            keep_days: quarantine,
            look: ages::quarantined,
            note: record_files::note_aging_in_reason,
            may_go: &|_| Ok(true),
        },
        Rule {
            keep_days: shipped,
            look: ages::shipped,
            note: record_files::note_aging_in_receipt,
            may_go: as_delivered,
        },
    ]
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
        // Scratch is the start's business; what is hidden, a file and a symlink were put there by
        // another program, or by the operator.
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || is_scratch(&name.to_string_lossy()) || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        // Copied away: what is left of it goes as its copy has it, and not by an age.
        if durable::is_being_removed(&path) {
            continue;
        }
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
    let entry = (rule.look)(path)?;
    let due = due(&entry, rule.keep_days, now);
    if is_announced_in_vain(&entry, due, now) {
        (rule.note)(path, &|aging| aging.announced_at_wall = None)?;
    }
    match due {
        Due::At { due, .. } if due <= now && !(rule.may_go)(path)? => swept.edited += 1,
        Due::At { since, due } if due <= now => {
            // It may have been filed anew meanwhile, and has an age of its own then.
            let going = ages::goes(path, || Ok((rule.look)(path)? == entry))?;
            let Some(_going) = going else {
                return Ok(false);
            };
            durable::remove_tree(path, progress)?;
            swept.removed += 1;
            tracing::info!(
                EPISODE = %printable(&name.to_string_lossy()),
                "removed {}: {} old (since {since}), kept for {}", path.display(),
                days(days_between(since, now)), days(rule.keep_days.unwrap_or_default().into())
            );
        }
        Due::Anew => {
            (rule.note)(path, &|aging| {
                *aging = Aging {
                    counted_from_wall: Some(now),
                    ..Aging::default()
                };
            })?;
            swept.renewed += 1;
            tracing::info!(
                EPISODE = %printable(&name.to_string_lossy()),
                "the age of {} begins now: its record has no stamp of a clock that could be believed. That is written into it.",
                path.display()
            );
        }
        Due::Unannounced { due, .. } => {
            (rule.note)(path, &|aging| aging.announced_at_wall = Some(now))?;
            tracing::warn!(
                EPISODE = %printable(&name.to_string_lossy()),
                "{} will be removed in {} (on {due}); `sealift doctor` says what to type to keep it.",
                path.display(),
                days(days_between(now, due))
            );
        }
        Due::Unvouched => swept.unvouched += 1,
        Due::At { .. } | Due::Never => {}
    }
    Ok(due.is_near(now) && due.at().is_some_and(|due| due > now))
}

/// Takes back what was announced in a folder that is kept for ever by now: should it get a time
/// again, it is announced again.
pub(crate) fn take_back(folder: &Path, layout: &Layout, now: WallTime, progress: &Progress) {
    let [quarantined, shipped] = rules(None, None, &|_| Ok(false));
    let rule = if *folder == layout.quarantine {
        quarantined
    } else {
        shipped
    };
    if let Err(error) = sweep_folder(folder, &rule, now, progress, &mut Swept::default()) {
        tracing::warn!("{} cannot be looked through: {error}.", folder.display());
    }
}

fn days(n: i64) -> String {
    if n == 1 {
        "1 day".to_owned()
    } else {
        format!("{n} days")
    }
}
