//! The outbox: an archive and its sidecar, complete and durable, or nothing.
//!
//! ```text
//!  keep    unlink an old <id>.json ▸ fsync the partial ▸ rename to <id>.tar.zst
//!            ▸ fsync the folder ▸ write <id>.json
//!  check   <id>.json ▸ length of <id>.tar.zst ▸ fingerprint of the episode [▸ digest of the bytes]
//!  clear   <id>.tar.zst, <id>.json, <id>.tar.zst.plan, <id>.tar.zst.partial are unlinked:
//!            the episode has left episodes/
//! ```
//!
//! Before anything is written or cleared under a name, it is asked whose archive lies there
//! (`outbox/whose.rs`): what is another episode's may be the last copy of it, and is put aside
//! first (`orphan.rs`).
//!
//! The sidecar comes last. An archive without one is left over from a crash in between, or from
//! another program, and is not trusted. But it stays until a new one takes its place: as long as
//! the episode cannot be packed, it may be the best there is.

mod in_the_way;
mod note;
pub(crate) mod plan;
mod whose;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

pub(crate) use self::{
    in_the_way::in_the_way,
    note::{is_empty_note, note},
    whose::{AtHand, is_of},
};

use crate::{
    disk::{
        durable,
        lookup::{self, if_there},
        record_files,
        tree::{self, TreeError},
    },
    model::{
        episode::{Commit, Digest, EpisodeId},
        layout::{Layout, OutboxName, outbox_name},
        progress::{self, Progress},
        records::{ArchiveFacts, CONFLICT, RecordedReceiver, RecordedVerdict, Sidecar, WallTime},
    },
    ship::{
        archive::Archive,
        machine::{
            destination::verdict::Refusal,
            step_result::{Check, Packed},
        },
        shipped_lookup::StepContext,
    },
};

/// Unlinks what there is of an episode's archive. It is known to be that one's (see [`is_of`]), or
/// to lie elsewhere by now.
///
/// # Errors
/// Those of unlink(2).
pub(crate) fn clear(layout: &Layout, id: &EpisodeId) -> io::Result<()> {
    clear_archive(layout, id)?;
    durable::remove_file(&layout.partial(id))
}

/// As [`clear`], and leaves scratch: the next archive of that name may be in it.
///
/// # Errors
/// Those of unlink(2).
pub(crate) fn clear_archive(layout: &Layout, id: &EpisodeId) -> io::Result<()> {
    // The sidecar after its archive: as long as there is an archive, it says what it was packed
    // from. Orphans go by it.
    durable::remove_file(&layout.archive(id))?;
    durable::remove_file(&layout.sidecar(id))?;
    durable::remove_file(&layout.plan(id))
}

/// Opens an archive as it lies there. `None` where it is not there. A symlink or a FIFO under its
/// name is not followed or waited for, and is an error.
///
/// # Errors
/// Those of open(2).
pub(crate) fn open_archive(path: &Path) -> io::Result<Option<File>> {
    if_there(lookup::regular(path))
}

/// Whether a file begins with a frame, or one to be skipped (RFC 8878, sections 3.1.1 and 3.1.2).
///
/// # Errors
/// Those of read(2).
pub(crate) fn begins_like_an_archive(file: &File) -> io::Result<bool> {
    let mut start = [0; 4];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) => Ok(matches!(
            start,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]
        )),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts away what a packing that failed has left. An older archive stays, unless the outbox is full
/// and it is in the way of its own episode.
pub(crate) fn give_up(layout: &Layout, id: &EpisodeId, in_the_way: bool) {
    let cleared = if in_the_way {
        clear(layout, id)
    } else {
        durable::remove_file(&layout.partial(id))
    };
    if let Err(error) = cleared {
        tracing::debug!(EPISODE = %id, "scratch stays in the outbox until the next try: {error}");
    }
}

/// What was said of an archive, to be remembered beside it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    /// That it is in conflict, and which receiver said so.
    pub conflict: Option<(&'a Refusal, &'a RecordedReceiver)>,
    /// Nothing that delivered it.
    pub tried: bool,
}

/// Makes an archive durable under its final name (where it is not), and writes its sidecar.
/// `archive` is the open scratch; `None` where the archive has its final name already. A conflict
/// belongs to the receiver that said it.
///
/// # Errors
/// In a sentence. The archive must not be believed any more: a failed fsync has dropped bytes of
/// it.
pub(crate) fn keep(
    layout: &Layout,
    id: &EpisodeId,
    archive: Option<&Archive>,
    packed: &Packed,
    said: Said<'_>,
    now: WallTime,
    progress: &Progress,
) -> Result<(), String> {
    let Said { conflict, tried } = said;
    let mut sidecar = sidecar(id, packed);
    sidecar.tried_at_wall = tried.then_some(now);
    sidecar.verdict = conflict.map(|conflict| remembered(conflict, now));
    let write = || -> io::Result<()> {
        if let Some(archive) = archive {
            // Of an older archive: beside the new one it would be a lie.
            durable::remove_file(&layout.sidecar(id))?;
            progress.step();
            durable::replace(
                archive.file_to_keep(progress)?,
                &layout.partial(id),
                &layout.archive(id),
            )?;
            progress.step();
        }
        durable::write_record(
            &layout.sidecar(id),
            &serde_json::to_vec_pretty(&sidecar)?,
            &layout.spares(&layout.outbox),
        )
    };
    let written = write();
    if let (Err(error), None, None) = (&written, archive, conflict) {
        // It has its sidecar, and the order is all that this was for.
        tracing::debug!(EPISODE = %id, "that it was tried could not be written down: {error}");
        return Ok(());
    }
    written.map_err(|error| format!("Failed to make its archive durable in the outbox: {error}"))
}

/// Remembers a conflict of what was sent without an archive in the outbox: its sidecar stands
/// alone. On a full disk it takes the place of a spare, where there is one.
///
/// # Errors
/// In a sentence.
pub(crate) fn note_conflict(
    layout: &Layout,
    id: &EpisodeId,
    packed: &Packed,
    conflict: (&Refusal, &RecordedReceiver),
    now: WallTime,
) -> Result<(), String> {
    let note = Sidecar {
        verdict: Some(remembered(conflict, now)),
        ..sidecar(id, packed)
    };
    let write = || -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&note)?;
        durable::write_record(&layout.sidecar(id), &bytes, &layout.spares(&layout.outbox))
    };
    write().map_err(|error| format!("Failed to note its conflict in the outbox: {error}"))
}

/// The conflict that is noted of what was sent without an archive in the outbox, where it was this.
pub(crate) fn noted_conflict(
    layout: &Layout,
    id: &EpisodeId,
    facts: &ArchiveFacts,
    receiver: &RecordedReceiver,
) -> Option<Refusal> {
    let noted = record_files::sidecar(layout, id)
        .ok()
        .flatten()
        .filter(|noted| noted.facts == *facts);
    let conflict = noted.as_ref().and_then(Sidecar::conflict);
    conflict
        .filter(|recorded| is_said_by(recorded, receiver))
        .map(refusal)
}

/// Removes what was noted of an episode that has no archive in the outbox: it is packed again, and
/// what was said of it before is not true of that.
pub(crate) fn forget_note(layout: &Layout, id: &EpisodeId) {
    let is_alone = lookup::is_gone(&layout.archive(id));
    // What is not ours stays until a sidecar of ours takes its place.
    if is_alone
        && record_files::sidecar(layout, id).is_ok_and(|noted| noted.is_some())
        && let Err(error) = durable::remove_file(&layout.sidecar(id))
    {
        tracing::debug!(EPISODE = %id, "an old note stays in the outbox: {error}");
    }
}

fn remembered((refusal, said_by): (&Refusal, &RecordedReceiver), now: WallTime) -> RecordedVerdict {
    RecordedVerdict {
        verdict: CONFLICT.to_owned(),
        status_code: refusal.status.unwrap_or(409),
        detail: refusal.detail.clone(),
        at_wall: now,
        receiver: Some(said_by.receiver.clone()),
        destination: Some(said_by.mark.clone()),
    }
}

/// Older shippers did not note who said it.
fn is_said_by(recorded: &RecordedVerdict, receiver: &RecordedReceiver) -> bool {
    recorded
        .receiver
        .as_ref()
        .is_none_or(|who| *who == receiver.receiver)
        && recorded
            .destination
            .as_ref()
            .is_none_or(|mark| *mark == receiver.mark)
}

fn refusal(recorded: &RecordedVerdict) -> Refusal {
    Refusal {
        status: Some(recorded.status_code),
        detail: recorded.detail.clone(),
        body: serde_json::Value::Null,
    }
}

/// Gives room to the receipt of a delivered episode, on a disk that has none and no spares: its
/// archive becomes one. What is left says as much as the archive did, should this be broken off.
/// False where it has none, or none that can be one.
///
/// # Errors
/// Those of writing the note, and of [`durable::make_spare`].
pub(crate) fn give_room(
    layout: &Layout,
    id: &EpisodeId,
    packed: &Packed,
    spares: &[PathBuf],
) -> io::Result<bool> {
    let archive = [layout.archive(id), layout.partial(id)]
        .into_iter()
        .find(|path| path.is_file());
    let Some(archive) = archive else {
        return Ok(false);
    };
    note(layout, id, packed)?;
    durable::make_spare(&archive, spares)
}

fn sidecar(id: &EpisodeId, packed: &Packed) -> Sidecar {
    Sidecar {
        episode_id: id.clone(),
        facts: packed.facts,
        fingerprint: packed.fingerprint,
        folder: packed.folder,
        manifest: packed.manifest,
        commit: packed
            .commit
            .as_ref()
            .map(|commit| commit.as_str().to_owned()),
        verdict: None,
        open_files: packed.open_files.clone(),
        tried_at_wall: None,
    }
}

/// Opens the archive of this episode that these facts describe; an older one that still lies there
/// is not it.
///
/// # Errors
/// Those of reading, and [`io::ErrorKind::InvalidData`] where it is another one.
pub(crate) fn open(layout: &Layout, id: &EpisodeId, facts: &ArchiveFacts) -> io::Result<Archive> {
    if record_files::sidecar(layout, id)?.is_none_or(|sidecar| sidecar.facts != *facts) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is an older archive of this episode",
        ));
    }
    Archive::open(&layout.archive(id), *facts)
}

/// Whether the archive in the outbox can be sent as it is. With `rehash` its bytes are read and
/// compared with their digest. A conflict that another than this `receiver` has said is none here.
pub(crate) fn check(step: &StepContext<'_>, rehash: bool, receiver: &RecordedReceiver) -> Check {
    match try_check(step, rehash, receiver) {
        Ok(check) => check,
        Err(error) => Check::Unknown(format!(
            "its archive in the outbox could not be compared with it: {error}. The archive is kept"
        )),
    }
}

/// Unlinks what is scratch by its name alone, and sidecars of ours without an archive. For the
/// start, before anything is packed. What cannot be removed is told, and stays.
///
/// # Errors
/// Those of listing the outbox.
pub(crate) fn clear_partials(layout: &Layout, progress: &Progress) -> io::Result<()> {
    for entry in fs::read_dir(&layout.outbox)? {
        progress.step();
        let path = entry?.path();
        let is_scratch = match outbox_name(path.file_name().unwrap_or_default()) {
            OutboxName::Partial(_) => true,
            OutboxName::Sidecar(id) => {
                let lonely = fs::symlink_metadata(layout.archive(&id)).is_err();
                // Another program's file may have such a name; and one that remembers a conflict is
                // no scratch.
                let is_ours = || {
                    let noted = record_files::sidecar(layout, &id).ok().flatten();
                    noted.is_some_and(|noted| noted.conflict().is_none())
                };
                lonely && (is_empty_note(&path) || is_ours())
            }
            // What it says of an episode that is gone helps no other.
            OutboxName::Plan(id) => fs::symlink_metadata(layout.episode(&id))
                .is_err_and(|error| error.kind() == io::ErrorKind::NotFound),
            OutboxName::Archive(_) | OutboxName::Scratch | OutboxName::Stranger => false,
        };
        if is_scratch && let Err(error) = durable::remove_file(&path) {
            tracing::warn!(
                "{} is scratch, and cannot be removed: {error}. Remove it by hand.",
                tree::shown(&path)
            );
        }
    }
    Ok(())
}

fn try_check(
    step: &StepContext<'_>,
    rehash: bool,
    receiver: &RecordedReceiver,
) -> io::Result<Check> {
    let (layout, id, progress) = (step.layout, step.id, step.progress);
    let unusable = |why: &str| Ok(Check::Unusable(why.to_owned()));
    let Some(sidecar) = record_files::sidecar(layout, id)? else {
        return match fs::symlink_metadata(layout.archive(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                unusable("nothing is known of it any more")
            }
            _ => unusable("an archive without a sidecar of its own is not trusted"),
        };
    };
    let conflict = sidecar.conflict().map(refusal);
    let archive = match Archive::open(&layout.archive(id), sidecar.facts) {
        Ok(archive) => Some(archive),
        // It was sent without one, and the verdict is all that there is to know.
        Err(error) if error.kind() == io::ErrorKind::NotFound && conflict.is_some() => None,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData
            ) =>
        {
            return Ok(Check::Unusable(format!(
                "its archive in the outbox cannot be used: {error}"
            )));
        }
        Err(error) => return Err(error),
    };
    // An episode that cannot be looked at, or is being written to just now, is not proven to have
    // changed.
    let directory = layout.episode(id);
    let walked = tree::walk(&directory, progress, |_| Ok::<(), TreeError>(()));
    let walked = walked.map_err(io::Error::other)?;
    let (fingerprint, folder) = (walked.to_remember(), walked.folder);
    // Stamps and inodes may move though nothing was written: what it packs to decides.
    if fingerprint != sidecar.fingerprint
        && step.content_of(&directory)? != Some(sidecar.facts.content_sha256)
    {
        let (fingerprint, folder) = (Some(fingerprint), Some(folder));
        let at_hand = AtHand {
            id,
            directory: &directory,
            fingerprint,
            content_sha256: None,
            folder,
        };
        return match is_of(layout, &at_hand, progress)? {
            true => unusable("the episode was changed after it was packed"),
            false => Ok(Check::Displaced),
        };
    }
    if let Some(archive) = archive.as_ref().filter(|_| rehash) {
        match digest_of(archive, progress) {
            Ok(digest) if digest == sidecar.facts.sha256 => {}
            Ok(_) => return unusable("its archive was damaged in the outbox"),
            Err(error) if progress.check().is_err() => return Err(error),
            Err(error) => {
                return Ok(Check::Unusable(format!(
                    "its archive in the outbox cannot be read: {error}"
                )));
            }
        }
    }
    let packed = Packed {
        facts: sidecar.facts,
        fingerprint,
        folder: Some(folder),
        manifest: sidecar.manifest,
        commit: sidecar.commit.as_deref().and_then(Commit::parse),
        open_files: sidecar.open_files.clone(),
    };
    Ok(
        match (
            archive,
            conflict.filter(|_| {
                sidecar
                    .conflict()
                    .is_some_and(|it| is_said_by(it, receiver))
            }),
        ) {
            (None, Some(conflict)) => Check::Noted(packed, conflict),
            (None, None) => {
                Check::Unusable("another receiver said that it is in conflict".to_owned())
            }
            (Some(_), conflict) => Check::Fits(packed, conflict),
        },
    )
}

fn digest_of(archive: &Archive, progress: &Progress) -> io::Result<Digest> {
    Ok(progress::hash(archive.file()?, progress)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_shows_progress_at_each_entry_scratch_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        fs::create_dir_all(&layout.outbox).unwrap();
        for n in 0..5 {
            let id = EpisodeId::parse(&format!("run-{n}")).unwrap();
            fs::write(layout.partial(&id), b"").unwrap();
            fs::write(layout.archive(&id), b"").unwrap();
        }
        let progress = Progress::default();
        clear_partials(&layout, &progress).unwrap();
        assert_eq!(progress.steps(), 10);
        assert_eq!(fs::read_dir(&layout.outbox).unwrap().count(), 5);
    }
}
