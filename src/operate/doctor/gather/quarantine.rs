//! What is in `quarantine/`, and what the clean-up is about to remove.

use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt as _, path::Path};

use super::{DISK, remedy, within};
use crate::{
    disk::{
        by_hand, meta,
        record_files::{self, ages},
        scan,
    },
    model::{
        episode::{EpisodeId, FolderLook},
        layout::{Layout, MARKER},
        records::{LAST_COPY, ORPHAN, QuarantineReason, WallTime},
        retention::{Due, due},
        wire::ProblemType,
    },
    operate::{
        doctor::facts::{FiledEpisodes, Quarantined},
        requeue::is_about_the_commit,
    },
};

/// So many are looked at; there, a person has long been asked.
const MAX_LOOKED_AT: usize = 2000;
/// For so many archives a name is looked for: the newest, since the fix is of one of those.
const MAX_NAMED: usize = 20;

/// `keep`: for how many days, in `quarantine/` and in `shipped/`; `None` where no configuration
/// says.
pub(super) async fn look(
    layout: Option<&Layout>,
    keep: Option<(Option<u32>, Option<u32>)>,
    now: WallTime,
) -> Option<FiledEpisodes> {
    let layout = layout?.clone();
    let (quarantine_days, shipped_days) = keep.unwrap_or_default();
    within(DISK, move || {
        look_now(&layout, quarantine_days, shipped_days, now)
    })
    .await?
}

fn look_now(
    layout: &Layout,
    quarantine_days: Option<u32>,
    shipped_days: Option<u32>,
    now: WallTime,
) -> Option<FiledEpisodes> {
    let mut aside = FiledEpisodes::default();
    for path in directories(&layout.quarantine, &mut aside.incomplete)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (reason, unreadable) = match record_files::reason(&path) {
            Ok(reason) => (reason, None),
            Err(error) => {
                let error = anyhow::Error::new(error);
                let errors = error
                    .chain()
                    .filter_map(|error| error.downcast_ref::<std::io::Error>());
                let is_denied = errors
                    .map(std::io::Error::kind)
                    .any(|kind| kind == ErrorKind::PermissionDenied);
                (None, Some((format!("{error:#}"), is_denied)))
            }
        };
        let due =
            ages::quarantined(&path).map_or(Due::Never, |entry| due(&entry, quarantine_days, now));
        let reason = reason.as_ref();
        let remediation = reason.and_then(|reason| reason.body.get("remediation")?.as_str());
        let id = path
            .file_name()
            .and_then(|name| EpisodeId::from_os(name).ok());
        let is_for_its_commit = reason.is_some_and(is_about_the_commit);
        let commit = match is_for_its_commit {
            true => meta::look(&path).ok().and_then(|said| said.ok().flatten()),
            false => None,
        };
        aside.quarantined.push(Quarantined {
            comes_back_as: None,
            name: reason
                .and_then(|reason| reason.episode_id.clone())
                .unwrap_or(name),
            sealed: id.is_some_and(|id| {
                matches!(scan::look(&layout.quarantine, &id), FolderLook::Sealed(_))
            }),
            resealed: is_resealed(&path),
            lacks_commit: reason.is_some_and(is_for_want_of_a_commit) && commit.is_none(),
            is_for_its_commit,
            commit,
            is_admitted: None,
            unreadable,
            verdict: reason
                .and_then(|reason| reason.verdict.clone())
                .unwrap_or_default(),
            status: reason.and_then(|reason| reason.status_code),
            why: reason
                .and_then(|reason| reason.error.clone())
                .unwrap_or_else(|| "it does not say why.".to_owned()),
            remedy: remediation.and_then(remedy::of),
            at: reason.and_then(|reason| reason.quarantined_at_wall),
            due,
            folder: path,
        });
    }
    name_archives(layout, &mut aside.quarantined);
    if shipped_days.is_some() {
        let mut more = false;
        for path in directories(&layout.shipped, &mut more).unwrap_or_default() {
            let Ok(entry) = ages::shipped(&path) else {
                continue;
            };
            if due(&entry, shipped_days, now).is_near(now) {
                aside.shipped_due += 1;
            }
        }
    }
    Some(aside)
}

fn is_for_want_of_a_commit(reason: &QuarantineReason) -> bool {
    let kind = reason.body.get("type").and_then(|kind| kind.as_str());
    kind.and_then(ProblemType::from_urn) == Some(ProblemType::CommitMissing)
}

/// Whether its marker was written after its reason was.
fn is_resealed(folder: &Path) -> bool {
    let written = |name: &str| {
        let found = fs::symlink_metadata(folder.join(name)).ok()?;
        Some((found.mtime(), found.mtime_nsec()))
    };
    let (marker, reason) = (written(MARKER), written("quarantine_reason.json"));
    marker.is_some() && reason.is_some() && marker > reason
}

/// Under which names those that are archives alone can come back, as things are now. Each takes a
/// look through the folders.
fn name_archives(layout: &Layout, quarantined: &mut [Quarantined]) {
    let mut archives: Vec<_> = quarantined
        .iter_mut()
        .filter(|one| one.verdict == ORPHAN)
        .collect();
    archives.sort_by_key(|one| std::cmp::Reverse(one.at));
    for one in archives.into_iter().take(MAX_NAMED) {
        let Ok(id) = EpisodeId::parse(&one.name) else {
            continue;
        };
        one.comes_back_as =
            by_hand::name_for(layout, &id, &one.folder, one.why.contains(LAST_COPY));
    }
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
