//! An archive in the outbox whose episode is gone: is it the last copy?
//!
//! ```text
//!  shipped/<id>[~n] has its receipt, and is what it was packed from
//!      ──▶ unlinked: we were killed after the move
//!  shipped/<id>[~n] has its receipt, and was written to since
//!      ──▶ the episode is put back, the archive kept
//!  quarantine/<id>[~n] is what it was packed from
//!      ──▶ unlinked: we were killed after the move
//!  in conflict, and under another name stands what it was packed from
//!      ──▶ unlinked: a person renamed it
//!  otherwise
//!      ──▶ moved to quarantine/<id>[~n]/, with a reason
//! ```
//!
//! Receipts are compared with the archive's own bytes, read now, and directories with what was
//! packed (`shipped_lookup.rs`). The sidecar is believed for nothing but the fingerprint and the
//! content of that, and only where its digest is that of the bytes. "Gone" means: not in the very
//! folder that `episodes/` was at the start, or seen to have gone from there, and another has the
//! name. While that is missing, or another is mounted over it, every archive looks like an orphan,
//! and none is.

mod aside;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, statat},
    io::Errno,
};

pub(crate) use self::aside::Why;
use self::aside::{put_aside, why};
use super::{
    outbox,
    shipped_lookup::{self, ContentOf, ShippedMatch, StepContext, Wanted},
};
use crate::{
    disk::{lookup::if_there, record_files, scan::RootId, tree},
    model::{
        episode::{Digest, EpisodeId, Fingerprint},
        layout::{Layout, MARKER, OutboxName, outbox_name},
        progress::{self, Progress},
        records::{RecordedVerdict, ShippingReceipt, Sidecar, WallTime},
    },
};

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The episode is there (again), or the archive is not, or `episodes/` is another folder.
    NoOrphan,
    /// This directory holds what was in it.
    Unlinked(PathBuf),
    /// What it was packed from was written to on its way to `shipped/`, and stands here again. The
    /// archive is where it was, and is looked at as that of any episode.
    PutBack(PathBuf),
    /// Nothing is known that holds what was in it. It lies here now.
    PutAside(PathBuf, Why),
}

/// Settles one archive. `root` is what `episodes/` was at the start. `displaced` where it is known
/// that what it was packed from is gone: what stands under the name by now is another episode,
/// unless it packs to the very same.
///
/// # Errors
/// Those of reading the folders and the archive, and of putting it aside. The archive is where it
/// was.
pub(crate) fn settle(
    step: &StepContext<'_>,
    root: RootId,
    displaced: bool,
    now: WallTime,
) -> io::Result<Settled> {
    let (layout, id) = (step.layout, step.id);
    let stands = standing(layout, id, root)?;
    if stands == NameStanding::Elsewhere || (stands == NameStanding::Here && !displaced) {
        return Ok(Settled::NoOrphan);
    }
    let Some(archive) = outbox::open_archive(&layout.archive(id))? else {
        // A conflict that was noted without one, of an episode that is gone: nothing is in conflict
        // any more.
        if stands == NameStanding::Nowhere {
            outbox::forget_note(layout, id);
        }
        return Ok(Settled::NoOrphan);
    };
    let lying = Lying::read(step, archive)?;
    let wanted = lying.wanted();
    if stands == NameStanding::Here && is_the_same_again(step, &wanted)? {
        return Ok(Settled::NoOrphan);
    }
    let found = lying.found(step)?;
    // Reading all this took its time. Once more, before anything is unlinked or moved.
    match standing(layout, id, root)? {
        NameStanding::Nowhere => {}
        NameStanding::Here
            if displaced
                && (stands == NameStanding::Here || !is_the_same_again(step, &wanted)?) => {}
        NameStanding::Here | NameStanding::Elsewhere => return Ok(Settled::NoOrphan),
    }
    match found {
        ShippedMatch::Same(holder) => {
            outbox::clear(layout, id)?;
            tracing::info!(
                EPISODE = %id, "removed the archive of {id} from the outbox: its episode is in {}", holder.display()
            );
            Ok(Settled::Unlinked(holder))
        }
        ShippedMatch::Changed(shipped) => {
            shipped_lookup::put_back(step, &shipped).map(Settled::PutBack)
        }
        ShippedMatch::Nothing => lying.put_aside(step, now),
    }
}

/// Settles an archive that another episode of its name is about to take the place of, whatever
/// `episodes/` is and was: with what is written or cleared next, it would be gone.
///
/// # Errors
/// As [`settle`]. Nothing may be written or cleared under the name then.
pub(crate) fn make_way(step: &StepContext<'_>, now: WallTime) -> io::Result<Settled> {
    let (layout, id) = (step.layout, step.id);
    let Some(archive) = outbox::open_archive(&layout.archive(id))? else {
        return Ok(Settled::NoOrphan);
    };
    let lying = Lying::read(step, archive)?;
    match lying.found(step)? {
        ShippedMatch::Same(holder) => {
            outbox::clear_archive(layout, id)?;
            tracing::info!(
                EPISODE = %id, "removed the archive of the {id} before this one from the outbox: that episode is in {}", holder.display()
            );
            Ok(Settled::Unlinked(holder))
        }
        // What is in the archive was delivered, and stands nowhere any more.
        ShippedMatch::Changed(shipped) => {
            shipped_lookup::put_back(step, &shipped)?;
            lying.put_aside(step, now)
        }
        ShippedMatch::Nothing => lying.put_aside(step, now),
    }
}

/// What lies in the outbox under a name.
struct Lying {
    sha256: Digest,
    /// Where it is that of these very bytes.
    sidecar: Option<Sidecar>,
}

impl Lying {
    fn read(step: &StepContext<'_>, archive: File) -> io::Result<Self> {
        let sha256 = Digest::from(progress::hash(archive, step.progress)?);
        let sidecar = record_files::sidecar(step.layout, step.id)?
            .filter(|sidecar| sidecar.facts.sha256 == sha256);
        Ok(Self { sha256, sidecar })
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            sha256: self.sha256,
            content_sha256: self
                .sidecar
                .as_ref()
                .map(|sidecar| sidecar.facts.content_sha256),
            fingerprint: self.sidecar.as_ref().map(|sidecar| sidecar.fingerprint),
        }
    }

    fn conflict(&self) -> Option<&RecordedVerdict> {
        self.sidecar.as_ref().and_then(Sidecar::conflict)
    }

    /// What else has what is in it.
    fn found(&self, step: &StepContext<'_>) -> io::Result<ShippedMatch> {
        let wanted = self.wanted();
        let found = match shipped_lookup::find(step, &wanted)? {
            ShippedMatch::Nothing => quarantined(step, &wanted)?,
            found => found,
        };
        match (found, wanted.fingerprint) {
            (ShippedMatch::Nothing, Some(packed)) if self.conflict().is_some() => {
                renamed(step, packed, &wanted)
            }
            (found, _) => Ok(found),
        }
    }

    fn put_aside(&self, step: &StepContext<'_>, now: WallTime) -> io::Result<Settled> {
        let why = why(step.layout, step.id, self.conflict())?;
        let to = put_aside(step.layout, step.id, &why, now, step.progress)?;
        outbox::clear_archive(step.layout, step.id)?;
        Ok(Settled::PutAside(to, why))
    }
}

/// For the start, before scratch is cleared and anything is scanned: puts back what was written to
/// on its way to `shipped/` by a process that was killed there. Of an upload that was acknowledged
/// before its archive had its final name, scratch is all that tells; it says which receipt to look
/// at just as well. So does the note of one that had no archive.
///
/// # Errors
/// That of listing the outbox. What goes wrong with one episode is told.
pub(crate) fn put_back_unfinished(
    layout: &Layout,
    root: RootId,
    content_of: ContentOf<'_>,
    progress: &Progress,
) -> io::Result<()> {
    for entry in fs::read_dir(&layout.outbox)? {
        progress.step();
        let entry = entry?;
        let name = outbox_name(&entry.file_name());
        let id = match &name {
            OutboxName::Partial(id) | OutboxName::Archive(id) | OutboxName::Sidecar(id) => id,
            OutboxName::Plan(_) | OutboxName::Scratch | OutboxName::Stranger => continue,
        };
        // One broken episode never holds up the rest.
        let step = StepContext::new(layout, id, content_of, progress);
        if let Err(error) = put_back_one(&step, root, &entry.path(), &name) {
            tracing::warn!(
                EPISODE = %id, "Whether {id} in shipped/ is what was delivered could not be looked at: {error}"
            );
        }
    }
    Ok(())
}

fn put_back_one(
    step: &StepContext<'_>,
    root: RootId,
    path: &Path,
    name: &OutboxName,
) -> io::Result<()> {
    let (layout, id) = (step.layout, step.id);
    // Many archives may have been left by another program, and each is read in full soon enough:
    // here only that of an episode that was moved. It took the first free name, so this one is
    // taken.
    if !layout.shipped.join(id.as_str()).exists()
        || standing(layout, id, root)? != NameStanding::Nowhere
    {
        return Ok(());
    }
    let wanted = if let OutboxName::Sidecar(_) = name {
        // Beside an archive, that is what is looked at; alone, it is the note of what was sent
        // without one.
        let alone = fs::symlink_metadata(layout.archive(id)).is_err();
        if alone && outbox::is_empty_note(path) {
            return put_back_noted(step);
        }
        let Some(noted) = record_files::sidecar(layout, id)?.filter(|_| alone) else {
            return Ok(());
        };
        Wanted {
            sha256: noted.facts.sha256,
            content_sha256: Some(noted.facts.content_sha256),
            fingerprint: Some(noted.fingerprint),
        }
    } else {
        let Some(file) = outbox::open_archive(path)? else {
            return Ok(());
        };
        Wanted {
            sha256: progress::hash(file, step.progress)?.into(),
            content_sha256: None,
            fingerprint: None,
        }
    };
    put_back_where_changed(step, &wanted)
}

fn put_back_where_changed(step: &StepContext<'_>, wanted: &Wanted) -> io::Result<()> {
    if let ShippedMatch::Changed(shipped) = shipped_lookup::find(step, wanted)? {
        shipped_lookup::put_back(step, &shipped)?;
    }
    Ok(())
}

/// A move that was noted on a full disk: the receipt that it took along says all the rest. It is
/// the one that was written last.
fn put_back_noted(step: &StepContext<'_>) -> io::Result<()> {
    let mut moved = None;
    for directory in record_files::filed_as(&step.layout.shipped, step.id, step.progress)? {
        if let Ok(Some(receipt)) = record_files::receipt(&directory)
            && receipt.episode_id == *step.id
        {
            let later = moved.as_ref().is_none_or(|last: &ShippingReceipt| {
                last.delivered_at_wall <= receipt.delivered_at_wall
            });
            moved = if later { Some(receipt) } else { moved };
        }
    }
    let Some(receipt) = moved else { return Ok(()) };
    let wanted = Wanted {
        sha256: receipt.sha256,
        content_sha256: Some(receipt.content_sha256),
        fingerprint: receipt.fingerprint,
    };
    put_back_where_changed(step, &wanted)
}

/// By what it was packed from and not by the name: the recorder may have used the name again after
/// the first of it was rejected, and this archive be what is left of the second.
fn quarantined(step: &StepContext<'_>, wanted: &Wanted) -> io::Result<ShippedMatch> {
    let (Some(packed), Some(content)) = (wanted.fingerprint, wanted.content_sha256) else {
        return Ok(ShippedMatch::Nothing);
    };
    for directory in record_files::filed_as(&step.layout.quarantine, step.id, step.progress)? {
        // A move across file systems makes other files, and so another fingerprint.
        if tree::is_still(&directory, packed, step.progress).unwrap_or(false)
            || step.content_of(&directory)? == Some(content)
        {
            return Ok(ShippedMatch::Same(directory));
        }
    }
    Ok(ShippedMatch::Nothing)
}

/// A conflict is mended by giving the episode another name, or by moving it to `shipped/` by hand.
/// Its files stay what they were, and so does its fingerprint. Of a copy on another file system
/// nothing is said here: it is put aside.
fn renamed(
    step: &StepContext<'_>,
    packed: Fingerprint,
    wanted: &Wanted,
) -> io::Result<ShippedMatch> {
    for folder in [&step.layout.episodes, &step.layout.shipped] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden
                && entry.file_type()?.is_dir()
                && tree::is_still(&entry.path(), packed, step.progress).unwrap_or(false)
                // Two recordings of one moment may have the same stamps.
                && step.content_of(&entry.path())? == wanted.content_sha256
            {
                return Ok(ShippedMatch::Same(entry.path()));
            }
        }
    }
    Ok(ShippedMatch::Nothing)
}

/// Where the name of an episode stands, in the folder that `episodes/` was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameStanding {
    /// The name is in use.
    Here,
    /// It is free.
    Nowhere,
    /// That folder is not there: whether the name is in use cannot be known.
    Elsewhere,
}

/// By descriptor, so that the folder that is compared and the one that is looked into are one.
fn standing(layout: &Layout, id: &EpisodeId, root: RootId) -> io::Result<NameStanding> {
    let episodes = match if_there(File::open(&layout.episodes))? {
        Some(folder) if RootId::of(&folder)? == root => folder,
        Some(_) | None => return Ok(NameStanding::Elsewhere),
    };
    match statat(&episodes, id.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(NameStanding::Here),
        Err(Errno::NOENT) => Ok(NameStanding::Nowhere),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether what stands under the name packs to what is in the archive: it was moved away and back,
/// say, or copied.
fn is_the_same_again(step: &StepContext<'_>, wanted: &Wanted) -> io::Result<bool> {
    let Some(packed) = wanted.content_sha256 else {
        return Ok(false);
    };
    let episode = step.layout.episode(step.id);
    // A recording under way is not it.
    Ok(fs::symlink_metadata(episode.join(MARKER)).is_ok()
        && step.content_of(&episode)? == Some(packed))
}
