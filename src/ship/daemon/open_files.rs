//! Sealed episodes of which a file is open for writing: which file, since when, and by which
//! process.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use tokio::time::Instant;

use super::workers::Workers;
use crate::{
    disk::{
        open_files::{FileHolder, OpenFileProbe, Writers, find_holder, find_open},
        tree,
    },
    model::{episode::EpisodeId, progress::Progress, snapshot},
    ship::machine::step_result::Moved,
};

/// A file that is open for less is about to be closed: the process is not looked for.
const SEARCH_AFTER: Duration = Duration::from_secs(1);
/// The process is looked for so often.
const SEARCH_EVERY: Duration = Duration::from_secs(30);

/// Shared by the workers and the loop; never held across a disk operation.
#[derive(Debug, Default)]
pub(super) struct OpenFileMemory {
    found: Mutex<HashMap<EpisodeId, FoundOpen>>,
    /// Episodes packed so far that no manifest vouches for, with a file of another user.
    untold: AtomicU64,
}

#[derive(Debug, Clone)]
struct FoundOpen {
    file: PathBuf,
    since: Instant,
    holder: Option<FileHolder>,
    searched: Option<Instant>,
    /// It is delivered, or rejected, and its move waits for this.
    before_move: bool,
}

impl OpenFileMemory {
    /// Notes that a file is open, and says so in words. Blocks now and then, while the process is
    /// looked for.
    pub(super) fn note(
        &self,
        id: &EpisodeId,
        directory: &Path,
        file: PathBuf,
        before_move: bool,
        now: Instant,
    ) -> String {
        let before = self.found.lock().get(id).cloned();
        let new = FoundOpen {
            file: file.clone(),
            since: now,
            holder: None,
            searched: None,
            before_move,
        };
        let mut found = before.unwrap_or(new);
        found.before_move = before_move;
        if found.file != file {
            found = FoundOpen {
                file,
                holder: None,
                searched: None,
                ..found
            };
        }
        let is_due = found
            .searched
            .is_none_or(|at| now.duration_since(at) >= SEARCH_EVERY);
        if is_due && now.duration_since(found.since) >= SEARCH_AFTER {
            found.holder = find_holder(&directory.join(&found.file));
            found.searched = Some(now);
        }
        let by = found
            .holder
            .as_ref()
            .map(|holder| format!(" by {holder}"))
            .unwrap_or_default();
        let words = format!("{} is open for writing{by}", tree::in_words(&found.file));
        self.found.lock().insert(id.clone(), found);
        words
    }

    /// Whether its move waits for a file.
    fn is_before_move(&self, id: &EpisodeId) -> bool {
        self.found
            .lock()
            .get(id)
            .is_some_and(|found| found.before_move)
    }

    /// It was packed, or moved, or is gone, or something else is the matter with it.
    pub(super) fn forget(&self, id: &EpisodeId) {
        self.found.lock().remove(id);
    }

    /// The file that was open when it was last looked at.
    pub(super) fn last(&self, id: &EpisodeId) -> Option<PathBuf> {
        self.found.lock().get(id).map(|found| found.file.clone())
    }

    pub(super) fn note_untold(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
    }

    /// For the snapshot: the longest first.
    pub(super) fn shown(&self, now: Instant) -> snapshot::OpenFileStatus {
        let mut found: Vec<_> = self
            .found
            .lock()
            .iter()
            .map(|(id, found)| (id.clone(), found.clone()))
            .collect();
        found.sort_by(|a, b| (a.1.since, &a.0).cmp(&(b.1.since, &b.0)));
        let shown = |(id, found): &(EpisodeId, FoundOpen)| snapshot::OpenFile {
            episode_id: id.as_str().to_owned(),
            file: tree::shown(&found.file),
            pid: found.holder.as_ref().map(|holder| holder.pid),
            process: found.holder.as_ref().map(|holder| holder.name.clone()),
            for_s: now.duration_since(found.since).as_secs(),
            before_move: found.before_move,
        };
        snapshot::OpenFileStatus {
            count: found.len() as u64,
            some: found
                .iter()
                .take(snapshot::MAX_STRANGERS)
                .map(shown)
                .collect(),
            untold: self.untold.load(Ordering::Relaxed),
        }
    }
}

impl Workers {
    /// Of an episode whose move waits for a file: that this, or another, is open still. Nothing is
    /// written into it, and no copy is begun. One whose move does not wait is not asked after: most
    /// are renamed, and what is written to them goes along.
    pub(super) fn still_open(&self, id: &EpisodeId, progress: &Progress) -> Option<Moved> {
        let known = &self.known.open_files;
        if !known.is_before_move(id) {
            return None;
        }
        let directory = self.layout.episode(id);
        let probe = OpenFileProbe::below(&directory);
        let is_open = |path: &PathBuf| {
            tree::open_known(&directory, path)
                .is_some_and(|file| probe.writers(&file) == Writers::Open)
        };
        // What cannot be read is what the move itself finds out.
        let file = known
            .last(id)
            .filter(is_open)
            .or_else(|| find_open(&directory, probe, progress).ok().flatten())?;
        Some(self.noted(id, Moved::open(file)))
    }

    /// Notes for which file a move waits, and who has that open; or that it waits for none.
    pub(super) fn noted(&self, id: &EpisodeId, moved: Moved) -> Moved {
        let known = &self.known.open_files;
        let Moved::Open { file, .. } = moved else {
            known.forget(id);
            return moved;
        };
        let what = known.note(
            id,
            &self.layout.episode(id),
            file.clone(),
            true,
            Instant::now(),
        );
        Moved::Open { file, what }
    }
}
