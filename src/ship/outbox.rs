//! The outbox: an archive and its sidecar, complete and durable, or nothing.
//!
//! ```text
//!  clear   <id>.tar.zst, <id>.json, <id>.tar.zst.partial are unlinked: a packing begins from nothing
//!  keep    fsync the partial ▸ rename to <id>.tar.zst ▸ fsync the folder ▸ write <id>.json the same way
//!  check   <id>.json ▸ length of <id>.tar.zst ▸ fingerprint of the episode [▸ digest of the bytes]
//! ```
//!
//! The sidecar comes last. An archive without one is left over from a crash in between, or from another program, and
//! is not trusted.

use std::{fs, io};

use sha2::{Digest as _, Sha256};

use crate::{
    durable,
    episode::{Commit, Digest, EpisodeId},
    layout::{Layout, OutboxName, outbox_name},
    progress::Progress,
    records::{RecordedVerdict, Sidecar, WallTime},
    ship::{
        archive::Archive,
        machine::{
            state::{Check, Packed},
            verdict::Refusal,
        },
    },
    tree,
};

/// Read at once while an archive is hashed again.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// The name under which a conflict is remembered in a sidecar.
const CONFLICT: &str = "conflict";

/// Unlinks what there is of an episode's archive.
///
/// # Errors
/// Those of unlink(2).
pub fn clear(layout: &Layout, id: &EpisodeId) -> io::Result<()> {
    // The sidecar after its archive: as long as there is an archive, it says what it was packed from. Orphans go by it.
    durable::remove_file(&layout.archive(id))?;
    durable::remove_file(&layout.sidecar(id))?;
    durable::remove_file(&layout.partial(id))
}

/// Makes an archive durable under its final name (where it is not), and writes its sidecar. `archive` is the open
/// scratch; `None` where the archive has its final name already.
///
/// # Errors
/// In a sentence. The archive must not be believed any more: a failed fsync has dropped bytes of it.
pub fn keep(
    layout: &Layout,
    id: &EpisodeId,
    archive: Option<&Archive>,
    packed: &Packed,
    conflict: Option<&Refusal>,
    now: WallTime,
) -> Result<(), String> {
    let sidecar = Sidecar {
        episode_id: id.clone(),
        facts: packed.facts,
        fingerprint: packed.fingerprint,
        manifest: packed.manifest,
        commit: packed.commit.as_ref().map(|commit| commit.as_str().to_owned()),
        verdict: conflict.map(|refusal| RecordedVerdict {
            verdict: CONFLICT.to_owned(),
            status_code: refusal.status.unwrap_or(409),
            detail: refusal.detail.clone(),
            at_wall: now,
        }),
    };
    let write = || -> io::Result<()> {
        if let Some(archive) = archive {
            durable::replace(archive.file_to_keep()?, &layout.partial(id), &layout.archive(id))?;
        }
        durable::write_file(&layout.sidecar(id), &serde_json::to_vec_pretty(&sidecar)?)
    };
    write().map_err(|error| format!("Failed to make its archive durable in the outbox: {error}"))
}

/// Whether the archive in the outbox can be sent as it is. With `rehash` its bytes are read and compared with their
/// digest.
#[must_use]
pub fn check(layout: &Layout, id: &EpisodeId, rehash: bool, progress: &Progress) -> Check {
    match try_check(layout, id, rehash, progress) {
        Ok(check) => check,
        Err(error) => Check::Unusable(format!("its archive in the outbox cannot be used: {error}")),
    }
}

/// Unlinks what is scratch by its name alone, and sidecars without an archive. For the start, before anything is packed.
///
/// # Errors
/// Those of listing the outbox and of unlink(2).
pub fn clear_partials(layout: &Layout) -> io::Result<()> {
    for entry in fs::read_dir(&layout.outbox)? {
        let entry = entry?;
        match outbox_name(&entry.file_name()) {
            OutboxName::Partial(_) => durable::remove_file(&entry.path())?,
            OutboxName::Sidecar(id) if fs::symlink_metadata(layout.archive(&id)).is_err() => {
                durable::remove_file(&entry.path())?;
            }
            OutboxName::Sidecar(_) | OutboxName::Archive(_) | OutboxName::Scratch | OutboxName::Stranger => {}
        }
    }
    Ok(())
}

fn try_check(layout: &Layout, id: &EpisodeId, rehash: bool, progress: &Progress) -> io::Result<Check> {
    let unusable = |why: &str| Ok(Check::Unusable(why.to_owned()));
    let sidecar = match fs::read(layout.sidecar(id)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return unusable("an archive without a sidecar is not trusted");
        }
        Err(error) => return Err(error),
    };
    let Ok(sidecar) = serde_json::from_slice::<Sidecar>(&sidecar) else {
        return unusable("its sidecar cannot be read");
    };
    if sidecar.episode_id != *id {
        return unusable("its sidecar belongs to another episode");
    }
    let archive = Archive::open(&layout.archive(id), sidecar.facts)?;
    let Ok(fingerprint) = tree::fingerprint(&layout.episode(id), progress) else {
        return unusable("the episode could not be compared with what was packed");
    };
    if fingerprint != sidecar.fingerprint {
        return unusable("the episode was changed after it was packed");
    }
    if rehash && digest_of(&archive, progress)? != sidecar.facts.sha256 {
        return unusable("its archive was damaged in the outbox");
    }
    let packed = Packed {
        facts: sidecar.facts,
        fingerprint,
        manifest: sidecar.manifest,
        commit: sidecar.commit.as_deref().and_then(Commit::parse),
    };
    let conflict = sidecar.verdict.filter(|recorded| recorded.verdict == CONFLICT);
    Ok(Check::Fits(
        packed,
        conflict.map(|recorded| Refusal {
            status: Some(recorded.status_code),
            detail: recorded.detail,
            body: serde_json::Value::Null,
        }),
    ))
}

fn digest_of(archive: &Archive, progress: &Progress) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    let mut offset = 0;
    loop {
        progress.check().map_err(io::Error::other)?;
        let read = archive.read_at(offset, &mut buffer)?;
        if read == 0 {
            return Ok(hasher.into());
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
        progress.advance(read as u64);
    }
}
