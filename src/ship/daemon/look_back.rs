//! What was moved to `shipped/` is looked at once more, a minute later (`machine/look_back.rs` says
//! when).
//!
//! ```text
//!  its stamps are those that it had when it arrived ──yes──▶ nothing; no byte is read
//!        │ no: it was written to, or touched, linked, given other bits
//!        └──▶ packs to the content that its receipt names ──yes──▶ nothing
//!                   └─ no ──▶ told, and shown by status and doctor for as long as it lies there
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::workers::{Workers, lock};
use crate::{
    episode::{EpisodeId, Fingerprint, shell_word},
    filed,
    open_files::Probe,
    progress::Progress,
    ship::machine::state::Packed,
    snapshot, tree,
};

/// So many are remembered: twice what waits for its look.
const MOST: usize = 8192;

/// Shared by the workers and the loop; never held across a disk operation.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// What was moved to `shipped/`, as it was when it arrived there.
    arrived: Mutex<HashMap<PathBuf, Fingerprint>>,
    /// What was written to since.
    found: Mutex<BTreeMap<PathBuf, EpisodeId>>,
}

impl Changed {
    /// For the snapshot.
    pub(super) fn shown(&self) -> Vec<snapshot::ShippedChange> {
        let shown = |(path, id): (&PathBuf, &EpisodeId)| snapshot::ShippedChange {
            episode_id: id.as_str().to_owned(),
            folder: tree::shown(Path::new(path.file_name().unwrap_or_default())),
        };
        lock(&self.found).iter().take(snapshot::MAX_STRANGERS).map(shown).collect()
    }

    /// Forgets what was put back into the queue, or removed.
    pub(super) fn forget_what_is_gone(&self) {
        let known: Vec<_> = lock(&self.found).keys().cloned().collect();
        for path in known {
            if !path.is_dir() {
                lock(&self.found).remove(&path);
            }
        }
    }
}

impl Changed {
    /// It is about to be packed: where it was put back into the queue from `shipped/`, what stood there is gone.
    pub(super) fn forget_where_gone(&self, id: &EpisodeId) {
        let of_it = |(path, found): (&PathBuf, &EpisodeId)| (found == id).then(|| path.clone());
        let known: Vec<_> = lock(&self.found).iter().filter_map(of_it).collect();
        for path in known.into_iter().filter(|path| !path.is_dir()) {
            lock(&self.found).remove(&path);
        }
    }
}

impl Workers {
    /// One has just arrived in `shipped/`.
    pub(super) fn remember_shipped(&self, path: &Path, packed: &Packed, progress: &Progress) {
        // What was told of the one that stood there before was about another delivery.
        lock(&self.known.changed.found).remove(path);
        // A rename changes no stamp of what is inside; of a copy they are its own.
        let renamed = packed.folder.is_some_and(|folder| tree::folder_id(path) == Some(folder));
        let arrived = if renamed { Ok(packed.fingerprint) } else { tree::fingerprint(path, progress) };
        if let Ok(fingerprint) = arrived {
            let mut known = lock(&self.known.changed.arrived);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(path.to_owned(), fingerprint);
        }
    }

    /// Looks at each once more, and tells what was written to.
    pub(super) fn look_back(&self, shipped: &[(EpisodeId, PathBuf)], progress: &Progress) {
        for (id, path) in shipped {
            progress.step();
            let arrived = lock(&self.known.changed.arrived).remove(path);
            let Some(arrived) = arrived else { continue };
            // Gone by now: put back into the queue, or removed.
            if !matches!(tree::is_still(path, arrived, progress), Ok(false))
                || !self.was_written_to(path, progress)
            {
                continue;
            }
            lock(&self.known.changed.found).insert(path.clone(), id.clone());
            tracing::warn!(
                EPISODE = %id,
                "{id} was written to after it was delivered: what stands in {} is not what the receiver holds. A recorder kept a \
                 file open beyond done.marker. To send it as it is now, once its recorder is done: {}",
                tree::shown(path), requeue(id, path.file_name().unwrap_or_default())
            );
        }
    }

    fn was_written_to(&self, path: &Path, progress: &Progress) -> bool {
        let Ok(Some(receipt)) = filed::receipt(path) else { return false };
        let content = self.content_as_delivered(&receipt, path, Probe::never(), progress);
        content.is_ok_and(|content| content != Some(receipt.content_sha256))
    }
}

fn requeue(id: &EpisodeId, folder: &OsStr) -> String {
    if folder == OsStr::new(id.as_str()) {
        format!("sealift requeue {} --from shipped", shell_word(Path::new(id.as_str())))
    } else {
        format!("sealift requeue --folder {} --from shipped", shell_word(Path::new(folder)))
    }
}
