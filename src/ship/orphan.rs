//! An archive in the outbox whose episode is gone: is it the last copy?
//!
//! ```text
//!  shipped/<id>[~n] with a receipt that names its digest        unlinked: we were killed after the move
//!  quarantine/<id>[~n] is what it was packed from               unlinked: the same
//!  otherwise                                                    moved to quarantine/<id>[~n]/, with a reason
//! ```
//!
//! Receipts are compared with the archive's own bytes, read now. The sidecar alone is believed for nothing but the fingerprint
//! of what was packed, and only where its digest is that of the bytes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::outbox;
use crate::{
    durable,
    episode::{Digest, EpisodeId, shell_word},
    filed,
    layout::Layout,
    progress::Progress,
    records::{QuarantineReason, Sidecar, WallTime},
    tree,
};

const HASH_BUFFER_BYTES: usize = 1 << 20;

/// The verdict in the reason of an archive that was put aside.
pub const ORPHAN: &str = "orphan";

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The episode is there (again), or the archive is not.
    NoOrphan,
    /// This directory holds what was in it.
    Unlinked(PathBuf),
    /// It may be the last copy, and lies here now.
    PutAside(PathBuf),
}

/// Settles one archive.
///
/// The caller has seen that `episodes/` is the folder that it was at the start: while that is missing, or another one is
/// mounted over it, every archive looks like an orphan, and none is.
///
/// # Errors
/// Those of reading the folders and the archive, and of putting it aside. The archive is where it was.
pub fn settle(layout: &Layout, id: &EpisodeId, now: WallTime, progress: &Progress) -> io::Result<Settled> {
    if is_there(&layout.episode(id))? {
        return Ok(Settled::NoOrphan);
    }
    let Some(archive) = open(&layout.archive(id))? else {
        return Ok(Settled::NoOrphan);
    };
    let digest = digest_of(archive, progress)?;
    let sidecar = fs::read(layout.sidecar(id)).ok().and_then(|bytes| serde_json::from_slice::<Sidecar>(&bytes).ok());
    let sidecar = sidecar.filter(|sidecar| sidecar.episode_id == *id && sidecar.facts.sha256 == digest);

    let holder = match shipped(layout, id, digest, sidecar.as_ref())? {
        Some(shipped) => Some(shipped),
        None => quarantined(layout, id, sidecar.as_ref(), progress)?,
    };
    if let Some(holder) = holder {
        outbox::clear(layout, id)?;
        tracing::info!(
            EPISODE = %id, "removed the archive of {id} from the outbox: its episode is in {}", holder.display()
        );
        return Ok(Settled::Unlinked(holder));
    }
    let to = put_aside(layout, id, now, progress)?;
    outbox::clear(layout, id)?;
    tracing::warn!(
        EPISODE = %id,
        "The archive of {id} was in the outbox and its episode is nowhere: it may be the last copy, and was moved to {}. To \
         look into it, type: tar --zstd -tvf {}",
        to.display(),
        shell_word(&to.join(archive_name(layout, id)))
    );
    Ok(Settled::PutAside(to))
}

fn shipped(
    layout: &Layout,
    id: &EpisodeId,
    digest: Digest,
    sidecar: Option<&Sidecar>,
) -> io::Result<Option<PathBuf>> {
    let content = sidecar.map(|sidecar| sidecar.facts.content_sha256);
    for directory in filed::filed_as(&layout.shipped, id)? {
        // One that cannot be read vouches for nothing.
        let Ok(Some(receipt)) = filed::receipt(&directory) else { continue };
        let names_it = receipt.sha256 == digest || Some(receipt.content_sha256) == content;
        if receipt.episode_id == *id && names_it {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

/// By the fingerprint and not by the name: the recorder may have used the name again after the first of it was rejected, and this
/// archive be what is left of the second. A move across file systems makes other inodes; then the archive is kept, too.
fn quarantined(
    layout: &Layout,
    id: &EpisodeId,
    sidecar: Option<&Sidecar>,
    progress: &Progress,
) -> io::Result<Option<PathBuf>> {
    let Some(sidecar) = sidecar else { return Ok(None) };
    for directory in filed::filed_as(&layout.quarantine, id)? {
        if tree::fingerprint(&directory, progress).is_ok_and(|found| found == sidecar.fingerprint) {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

fn put_aside(layout: &Layout, id: &EpisodeId, now: WallTime, progress: &Progress) -> io::Result<PathBuf> {
    let name = archive_name(layout, id);
    let reason = QuarantineReason {
        episode_id: Some(id.as_str().to_owned()),
        status_code: None,
        error: Some(format!(
            "The archive {name} was found in outbox/ without its episode, and neither shipped/ nor quarantine/ accounts for \
             it: it may be the last copy. Nothing was delivered or deleted. To restore the episode, type in this folder: \
             tar --zstd -xf {}",
            shell_word(Path::new(&name))
        )),
        body: serde_json::Value::Null,
        verdict: Some(ORPHAN.to_owned()),
        quarantined_at_wall: Some(now),
    };
    let fill = |scratch: &Path| {
        durable::place_file(&layout.archive(id), &scratch.join(&name), progress)?;
        let sidecar = layout.sidecar(id);
        if is_there(&sidecar)? {
            let name = sidecar.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            durable::place_file(&sidecar, &scratch.join(name), progress)?;
        }
        filed::write_reason(scratch, &reason)
    };
    durable::build_directory(&layout.quarantine, id.as_str(), fill, progress)
}

fn archive_name(layout: &Layout, id: &EpisodeId) -> String {
    layout.archive(id).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `None` where it is not there. A symlink or a FIFO under its name is not followed or waited for, and is an error.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn digest_of(mut file: File, progress: &Progress) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        progress.check().map_err(io::Error::other)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.into()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                progress.advance(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
