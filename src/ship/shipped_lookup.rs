//! Is what stands in `shipped/` what was delivered?
//!
//! ```text
//!  shipped/<id>[~n] with a receipt that names the archive
//!    ├─ and the fingerprint of what was packed ────────────▶ Same
//!    ├─ which packs to the content that the receipt names ─▶ Same     it was copied, say
//!    └─ otherwise ─────────────────────────────────────────▶ Changed  put back, to be shipped
//!                                                                     as it is now
//! ```
//!
//! The receipt goes into the episode before it is moved, and the look whether it was written to
//! comes after. Killed in between, the receipt stands beside bytes that no receiver has: it proves
//! a delivery, and not of what. So nothing is thrown away for a receipt alone.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{durable, record_files, tree},
    model::{
        episode::{Digest, EpisodeId, Fingerprint},
        layout::Layout,
        progress::Progress,
    },
};

/// Digests the tar stream that a directory packs to, as this episode; `None` where it changes
/// meanwhile. The daemon gives it to the steps, which do not know each other.
pub(crate) type ContentOf<'a> = &'a dyn Fn(&EpisodeId, &Path) -> io::Result<Option<Digest>>;

/// What a step on an episode's way works with.
#[derive(Clone, Copy)]
pub(crate) struct StepContext<'a> {
    /// The folders.
    pub layout: &'a Layout,
    /// Which episode.
    pub id: &'a EpisodeId,
    /// Shows that it moves, and stops it.
    pub progress: &'a Progress,
    content_of: ContentOf<'a>,
}

impl<'a> StepContext<'a> {
    /// For one episode.
    pub(crate) fn new(
        layout: &'a Layout,
        id: &'a EpisodeId,
        content_of: ContentOf<'a>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            layout,
            id,
            progress,
            content_of,
        }
    }

    /// What a directory packs to, as this episode.
    pub(crate) fn content_of(&self, directory: &Path) -> io::Result<Option<Digest>> {
        (self.content_of)(self.id, directory)
    }
}

/// An archive that was packed, and perhaps delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Digest of the tar stream inside, where it is known.
    pub content_sha256: Option<Digest>,
    /// The episode as it was packed, where it is known.
    pub fingerprint: Option<Fingerprint>,
}

/// What `shipped/` has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShippedMatch {
    /// This is what was delivered.
    Same(PathBuf),
    /// This one has the archive's receipt, and is something else by now.
    Changed(PathBuf),
    /// Nothing with a receipt for it.
    Nothing,
}

/// Looks for the episode of an archive. Reads a directory in full only where its receipt names the
/// archive and its fingerprint is another.
///
/// # Errors
/// Those of listing `shipped/`, and of reading a directory that may be the one.
pub(crate) fn find(step: &StepContext<'_>, wanted: &Wanted) -> io::Result<ShippedMatch> {
    let mut changed = None;
    for directory in record_files::filed_as(&step.layout.shipped, step.id, step.progress)? {
        // One that cannot be read vouches for nothing.
        let Ok(Some(receipt)) = record_files::receipt(&directory) else {
            continue;
        };
        let names_the_archive = receipt.sha256 == wanted.sha256;
        let names_the_content = Some(receipt.content_sha256) == wanted.content_sha256;
        if receipt.episode_id != *step.id || !(names_the_archive || names_the_content) {
            continue;
        }
        let fits = |packed| {
            let now = tree::look(&directory, step.progress);
            now.is_ok_and(|now| now.is_some_and(|now| now.is_for_certain(packed)))
        };
        if wanted.fingerprint.is_some_and(fits)
            || step.content_of(&directory)? == Some(receipt.content_sha256)
        {
            return Ok(ShippedMatch::Same(directory));
        }
        if names_the_archive {
            changed.get_or_insert(directory);
        }
    }
    Ok(changed.map_or(ShippedMatch::Nothing, ShippedMatch::Changed))
}

/// Whether what stands in a directory is what was packed as this episode. Stamps may move though
/// nothing was written (a chown, a link made and removed, a backup that puts a time back; some file
/// systems give other inodes after each rename). So where they differ, and the archive's headers
/// would not, it is packed again, and what comes of that decides.
///
/// So it is on file systems where stamps stay what they were though all of it was replaced (sshfs).
/// That is a whole reading, and so it is done at the last look alone: when it has its new name, by
/// which no other program knows it, or before it is removed where it stands.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where it is gone, and those of reading it.
pub(crate) fn is_what_was_packed(
    step: &StepContext<'_>,
    directory: &Path,
    fingerprint: Fingerprint,
    content_sha256: Option<Digest>,
) -> io::Result<bool> {
    let Some(now) = tree::look(directory, step.progress)? else {
        return Ok(false);
    };
    let is_last =
        || directory != step.layout.episode(step.id) || durable::is_being_removed(directory);
    if now.is_for_certain(fingerprint)
        || (now.is(fingerprint) && (content_sha256.is_none() || !is_last()))
    {
        return Ok(true);
    }
    if content_sha256.is_none() || now.fingerprint.packs_to_another(fingerprint) {
        return Ok(false);
    }
    Ok(step.content_of(directory)? == content_sha256)
}

/// Puts back what [`find`] has found changed: under its name, or beside it where that was used
/// again. There it is packed and shipped like any other. Its archive is left as it is.
///
/// # Errors
/// Those of [`durable::move_directory`].
pub(crate) fn put_back(step: &StepContext<'_>, shipped: &Path) -> io::Result<PathBuf> {
    let (id, episodes) = (step.id, &step.layout.episodes);
    let back = durable::move_directory(shipped, episodes, id.as_str(), step.progress)?;
    // It proves nothing there, and is written anew; but it would puzzle an operator who finds it.
    record_files::remove_receipt(&back)?;
    tracing::warn!(
        EPISODE = %id,
        "{} is not what was delivered of {id}: it was written to while it was moved there. It is back in {}, and is \
         shipped as it is now. A recorder creates done.marker last (docs/recorders.md).",
        shipped.display(),
        back.display()
    );
    Ok(back)
}
