//! Sealed episodes of which a file is open for writing: which file, since when, and by which
//! process.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::workers::lock;
use crate::{
    episode::EpisodeId,
    open_files::{Holder, find_holder},
    snapshot, tree,
};

/// A file that is open for less is about to be closed: the process is not looked for.
const SEARCH_AFTER: Duration = Duration::from_secs(1);
/// The process is looked for so often.
const SEARCH_EVERY: Duration = Duration::from_secs(30);

/// Shared by the workers and the loop; never held across a disk operation.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    found: Mutex<HashMap<EpisodeId, Found>>,
    /// Episodes packed so far that no manifest vouches for, with a file of another user.
    untold: AtomicU64,
}

#[derive(Debug, Clone)]
struct Found {
    file: PathBuf,
    since: Instant,
    holder: Option<Holder>,
    searched: Option<Instant>,
}

impl OpenFiles {
    /// Notes that a file is open, and says so in words. Blocks now and then, while the process is
    /// looked for.
    pub(super) fn note(&self, id: &EpisodeId, directory: &Path, file: PathBuf, now: Instant) -> String {
        let before = lock(&self.found).get(id).cloned();
        let mut found =
            before.unwrap_or(Found { file: file.clone(), since: now, holder: None, searched: None });
        if found.file != file {
            found = Found { file, holder: None, searched: None, ..found };
        }
        let is_due = found.searched.is_none_or(|at| now.duration_since(at) >= SEARCH_EVERY);
        if is_due && now.duration_since(found.since) >= SEARCH_AFTER {
            found.holder = find_holder(&directory.join(&found.file));
            found.searched = Some(now);
        }
        let by = found.holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default();
        let words = format!("{} is open for writing{by}", tree::in_words(&found.file));
        lock(&self.found).insert(id.clone(), found);
        words
    }

    /// It was packed, or is gone, or something else is the matter with it.
    pub(super) fn forget(&self, id: &EpisodeId) {
        lock(&self.found).remove(id);
    }

    /// The file that was open when it was last looked at.
    pub(super) fn last(&self, id: &EpisodeId) -> Option<PathBuf> {
        lock(&self.found).get(id).map(|found| found.file.clone())
    }

    pub(super) fn note_untold(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
    }

    /// For the snapshot: the longest first.
    pub(super) fn shown(&self, now: Instant) -> snapshot::OpenFiles {
        let mut found: Vec<_> =
            lock(&self.found).iter().map(|(id, found)| (id.clone(), found.clone())).collect();
        found.sort_by(|a, b| (a.1.since, &a.0).cmp(&(b.1.since, &b.0)));
        let shown = |(id, found): &(EpisodeId, Found)| snapshot::OpenFile {
            episode_id: id.as_str().to_owned(),
            file: tree::shown(&found.file),
            pid: found.holder.as_ref().map(|holder| holder.pid),
            process: found.holder.as_ref().map(|holder| holder.name.clone()),
            for_s: now.duration_since(found.since).as_secs(),
        };
        snapshot::OpenFiles {
            count: found.len() as u64,
            some: found.iter().take(snapshot::MAX_STRANGERS).map(shown).collect(),
            untold: self.untold.load(Ordering::Relaxed),
        }
    }
}
