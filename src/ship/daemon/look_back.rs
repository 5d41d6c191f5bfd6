//! What was moved to `shipped/` is looked at once more, a minute later (`machine/look_back.rs` says
//! when).
//!
//! ```text
//!  its stamps are those that it had when it arrived ──yes──▶ nothing; no byte is read
//!        │ no: it was written to, or touched, linked, given other bits
//!        └──▶ packs to the content that its receipt names ──yes──▶ nothing
//!                   └─ no ──▶ told, and shown by status and doctor for as long as it lies there
//! ```
//!
//! Of what a process before this one has moved there, the receipt says what it was; a copy on
//! another file system has stamps of its own, and the sizes and mtimes of what was packed. What had
//! to be read is noted in the receipt, so that it is read once.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;

use super::workers::Workers;
use crate::{
    clock,
    disk::{open_files::OpenFileProbe, record_files, tree},
    model::{
        episode::{EpisodeId, Fingerprint},
        progress::Progress,
        records::{ShippingReceipt, WallTime},
        snapshot,
        text::shell_word,
    },
    ship::machine::{
        LookedBack, Shipped,
        look_back::{AFTER, since},
        step_result::Packed,
    },
};

/// Of so many the stamps are remembered; of more than that, in a minute, the receipt says what
/// arrived.
const MOST: usize = 8192;

/// The coarsest mtimes are those of vfat, every two seconds.
const MTIME_GRAIN_S: i64 = 3;

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
        self.found
            .lock()
            .iter()
            .take(snapshot::MAX_STRANGERS)
            .map(shown)
            .collect()
    }

    /// Forgets what was put back into the queue, or removed.
    pub(super) fn forget_what_is_gone(&self) {
        let known: Vec<_> = self.found.lock().keys().cloned().collect();
        for path in known {
            if !path.is_dir() {
                self.found.lock().remove(&path);
            }
        }
    }
}

impl Changed {
    /// It is about to be packed: where it was put back into the queue from `shipped/`, what stood
    /// there is gone.
    pub(super) fn forget_where_gone(&self, id: &EpisodeId) {
        let of_it = |(path, found): (&PathBuf, &EpisodeId)| (found == id).then(|| path.clone());
        let known: Vec<_> = self.found.lock().iter().filter_map(of_it).collect();
        for path in known.into_iter().filter(|path| !path.is_dir()) {
            self.found.lock().remove(&path);
        }
    }
}

impl Workers {
    /// One has just arrived in `shipped/`.
    pub(super) fn remember_shipped(&self, path: &Path, packed: &Packed, progress: &Progress) {
        // What was told of the one that stood there before was about another delivery.
        self.known.changed.found.lock().remove(path);
        // A rename changes no stamp of what is inside; of a copy they are its own.
        let renamed = packed
            .folder
            .is_some_and(|folder| tree::folder_id(path) == Some(folder));
        let arrived = if renamed {
            Ok(packed.fingerprint)
        } else {
            tree::to_remember(path, progress)
        };
        if let Ok(fingerprint) = arrived {
            let mut known = self.known.changed.arrived.lock();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(path.to_owned(), fingerprint);
        }
    }

    /// Looks at each once more, and tells what was written to.
    pub(super) fn look_back(&self, shipped: &Shipped, progress: &Progress) -> LookedBack {
        let mut looked = LookedBack::default();
        match shipped {
            Shipped::These(shipped) => {
                for (id, path) in shipped {
                    progress.step();
                    let arrived = self.known.changed.arrived.lock().remove(path);
                    if let Ok(Some(receipt)) = record_files::receipt(path) {
                        looked.changed +=
                            u64::from(self.look_at(id, path, arrived, &receipt, progress));
                    }
                }
            }
            Shipped::BeforeTheStart => {
                for (path, receipt) in self.shipped_last(progress).unwrap_or_default() {
                    let id = &receipt.episode_id;
                    if receipt.written_to_since == Some(true) {
                        self.known.changed.found.lock().insert(path, id.clone());
                        continue;
                    }
                    looked.changed += u64::from(self.look_at(id, &path, None, &receipt, progress));
                    let age = age(receipt.delivered_at_wall);
                    if let Some(rest) = AFTER.checked_sub(age).filter(|_| !self.is_changed(&path)) {
                        looked.young.push((id.clone(), path, rest));
                    }
                }
            }
        }
        looked
    }

    fn is_changed(&self, path: &Path) -> bool {
        self.known.changed.found.lock().contains_key(path)
    }

    /// What was shipped last when this process began, with its receipts; the newest first.
    fn shipped_last(&self, progress: &Progress) -> io::Result<Vec<(PathBuf, ShippingReceipt)>> {
        let began = self.known.began.unwrap_or_else(clock::wall_now);
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.layout.shipped)? {
            progress.check().map_err(io::Error::other)?;
            progress.step();
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".")
                && entry.file_type()?.is_dir()
                && let Ok(found) = entry.metadata()
            {
                folders.push((found.mtime(), entry.path()));
            }
        }
        folders.sort_unstable_by(|a, b| b.cmp(a));
        let (mut last, mut newest) = (Vec::new(), None);
        for (mtime, path) in folders.into_iter().take(MOST) {
            progress.check().map_err(io::Error::other)?;
            progress.step();
            // A receipt is put into its folder after the delivery: those behind this one are older
            // still.
            if newest.is_some_and(|newest| mtime + MTIME_GRAIN_S < since(newest).unix_seconds()) {
                break;
            }
            let Ok(Some(receipt)) = record_files::receipt(&path) else {
                continue;
            };
            // A stamp in the future is one of this process, or of a clock that was wrong.
            if receipt.delivered_at_wall <= began {
                newest = newest.max(Some(receipt.delivered_at_wall));
            }
            last.push((path, receipt));
        }
        last.retain(|(_, receipt)| {
            newest.is_none_or(|newest| receipt.delivered_at_wall >= since(newest))
        });
        Ok(last)
    }

    /// Tells whether it was written to. Nothing is told twice.
    fn look_at(
        &self,
        id: &EpisodeId,
        path: &Path,
        arrived: Option<Fingerprint>,
        receipt: &ShippingReceipt,
        progress: &Progress,
    ) -> bool {
        if receipt.written_to_since.is_some() || is_untouched(path, arrived, receipt, progress) {
            return false;
        }
        let content = self.content_as_delivered(receipt, path, OpenFileProbe::never(), progress);
        let Ok(content) = content else { return false };
        let written_to = content != Some(receipt.content_sha256);
        // Until its minute is over, a tail may still come.
        if written_to || age(receipt.delivered_at_wall) >= AFTER {
            let note = |receipt: &mut ShippingReceipt| receipt.written_to_since = Some(written_to);
            if let Err(error) = record_files::note_in_receipt(path, &note) {
                tracing::debug!(EPISODE = %id, "the second look at it cannot be noted: {error}");
            }
        }
        if written_to {
            self.known
                .changed
                .found
                .lock()
                .insert(path.to_owned(), id.clone());
            tracing::warn!(
                EPISODE = %id,
                "{id} was written to after it was delivered: what stands in {} is not what the receiver holds. A recorder kept a \
                 file open beyond done.marker. To send it as it is now, once its recorder is done: {}",
                tree::shown(path), requeue(id, path.file_name().unwrap_or_default())
            );
        }
        written_to
    }
}

/// Whether its stamps say that nothing was written to it since; also of what is gone by now: put
/// back into the queue, or removed.
fn is_untouched(
    path: &Path,
    arrived: Option<Fingerprint>,
    receipt: &ShippingReceipt,
    progress: &Progress,
) -> bool {
    let now = match tree::look(path, progress) {
        Ok(Some(now)) => now,
        Ok(None) => return false,
        Err(_) => return true,
    };
    match (arrived, receipt.fingerprint) {
        (Some(arrived), _) => now.is(arrived),
        (None, Some(packed)) => {
            let alike = now.fingerprint.has_the_headers_of(packed) && receipt.open_files.is_empty();
            now.is(packed) || alike
        }
        (None, None) => false,
    }
}

fn age(delivered_at: WallTime) -> Duration {
    let seconds = clock::wall_now()
        .unix_seconds()
        .saturating_sub(delivered_at.unix_seconds());
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn requeue(id: &EpisodeId, folder: &OsStr) -> String {
    let option = if folder == OsStr::new(id.as_str()) {
        ""
    } else {
        "--folder "
    };
    let folder = shell_word(Path::new(folder));
    format!("sealift requeue {option}{folder} --from shipped")
}
