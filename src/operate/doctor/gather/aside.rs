//! What is in `quarantine/`, and what the clean-up is about to remove.

use std::{fs, path::Path};

use super::{DISK, within};
use crate::{
    filed::{self, ages},
    layout::Layout,
    operate::doctor::facts::{Aside, Quarantined},
    records::WallTime,
    retention::{Due, due},
};

/// So many are looked at; there, a person has long been asked.
const MAX_LOOKED_AT: usize = 2000;
const WEEK_S: i64 = 7 * 24 * 3600;

/// `keep`: for how many days, in `quarantine/` and in `shipped/`.
pub(super) async fn look(
    layout: Option<&Layout>,
    keep: Option<(Option<u32>, Option<u32>)>,
    now: WallTime,
) -> Option<Aside> {
    let layout = layout?.clone();
    let (quarantine_days, shipped_days) = keep?;
    within(DISK, move || look_now(&layout, quarantine_days, shipped_days, now)).await?
}

fn look_now(
    layout: &Layout,
    quarantine_days: Option<u32>,
    shipped_days: Option<u32>,
    now: WallTime,
) -> Option<Aside> {
    let mut aside = Aside::default();
    for path in directories(&layout.quarantine, &mut aside.incomplete)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reason = filed::reason(&path).ok().flatten();
        let due = ages::quarantined(&path).map_or(Due::Never, |entry| due(&entry, quarantine_days, now));
        let reason = reason.as_ref();
        let remediation = reason.and_then(|reason| reason.body.get("remediation")?.as_str());
        aside.quarantined.push(Quarantined {
            name: reason.and_then(|reason| reason.episode_id.clone()).unwrap_or(name),
            verdict: reason.and_then(|reason| reason.verdict.clone()).unwrap_or_default(),
            status: reason.and_then(|reason| reason.status_code),
            why: reason
                .and_then(|reason| reason.error.clone())
                .unwrap_or_else(|| "it does not say why.".to_owned()),
            remediation: remediation.map(str::to_owned),
            at: reason.and_then(|reason| reason.quarantined_at_wall),
            due,
        });
    }
    if shipped_days.is_some() {
        let mut more = false;
        for path in directories(&layout.shipped, &mut more).unwrap_or_default() {
            let Ok(entry) = ages::shipped(&path) else { continue };
            if let Due::At { due, .. } = due(&entry, shipped_days, now)
                && due.unix_seconds() - now.unix_seconds() <= WEEK_S
            {
                aside.shipped_due += 1;
            }
        }
    }
    Some(aside)
}

/// Real folders that are not hidden. `more`: there were more than are looked at.
fn directories(folder: &Path, more: &mut bool) -> Option<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".")
            || !entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            continue;
        }
        if found.len() == MAX_LOOKED_AT {
            *more = true;
            break;
        }
        found.push(entry.path());
    }
    Some(found)
}
