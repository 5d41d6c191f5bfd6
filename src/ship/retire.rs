//! Delivered: the episode leaves for `shipped/`.
//!
//! ```text
//!  fingerprint ▸ receipt into episodes/<id>/ ▸ move to shipped/<id>[~n]
//!      └ differs: nothing was moved
//!    ▸ fingerprint again ▸ archive, sidecar, partial unlinked
//!          └ differs: put back, receipt removed
//! ```
//!
//! Where it differs, its archive goes all the same: the receiver holds what was in it, so it is no
//! last copy, whatever has the name by now.
//!
//! Where a copy of it stands in `shipped/` already, of a move that was killed, the receipt is
//! written into that, over the one of that time, before the episode goes: an age is counted from
//! the last delivery.
//!
//! Nothing gets here without a [`Proof`], and only `machine/destination/verdict.rs` makes one.
//! Killed anywhere on the way, the next start sends the archive again and comes back with another
//! proof; after the move, it finds the receipt in `shipped/`, and looks whether what stands beside
//! it is what was delivered (`shipped_lookup.rs`).

use std::{io, path::Path};

use super::{
    machine::{destination::verdict::Proof, step_result::Moved},
    outbox,
    room::moves_later,
    shipped_lookup::{self, ShippedMatch, StepContext, Wanted},
};
use crate::{
    disk::{
        durable::{self, MoveChecked},
        filesystem::ground,
        open_files::OpenFileProbe,
        record_files::{self, ages},
        tree::modes::Modes,
    },
    model::{
        episode::{EpisodeId, Fingerprint},
        layout::Layout,
        progress::Progress,
        records::{Aging, ArchiveFacts, ManifestCheck, ShippingReceipt, WallTime},
    },
};

/// The receipt, and what a file system takes for names.
const RECORDS_BYTES: u64 = 64 * 1024;

/// What was delivered, and the proof.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retirement<'a> {
    /// The receiver holds it.
    pub proof: &'a Proof,
    /// What it holds.
    pub facts: &'a ArchiveFacts,
    /// The episode as it was packed.
    pub fingerprint: Fingerprint,
    /// What became of the marker's manifest.
    pub manifest: ManifestCheck,
    /// Files that were open for writing while it was packed.
    pub open_files: &'a [String],
    /// The address it was delivered to.
    pub receiver: &'a str,
    /// When the answer came.
    pub delivered_at: WallTime,
    /// The clock that says so can be believed.
    pub clock_believed: bool,
}

/// Moves a delivered episode to `shipped/`, with its receipt, and clears its archive away.
///
/// The move holds only as long as the episode is what was packed. Where it was written to
/// meanwhile, it is [`Moved::Changed`] and stands in `episodes/` again, under its name, or beside
/// it as `<id>~1` where the recorder has used the name again; there it will be packed like any
/// other.
pub(crate) fn retire(step: &StepContext<'_>, retirement: &Retirement<'_>) -> Moved {
    let (layout, id) = (step.layout, step.id);
    let content = Some(retirement.facts.content_sha256);
    let is_what_was_packed = |episode: &Path| {
        shipped_lookup::is_what_was_packed(step, episode, retirement.fingerprint, content)
    };
    match try_retire(step, retirement, &is_what_was_packed) {
        Ok(moved) => moved,
        Err(error) => {
            let why = explain(layout, id, &error);
            if durable::is_full(&error) {
                Moved::NoRoom {
                    why,
                    need_bytes: need_bytes(layout, id, &error, step.progress),
                }
            } else {
                let spares = layout.spares(&layout.episodes);
                // On a full disk others need it more. Where it cannot be taken back, it is written
                // over at the next try.
                let _ = record_files::give_back_receipt(&layout.episode(id), &spares);
                if durable::cannot_hold(&error) {
                    Moved::CannotHold(why)
                } else {
                    Moved::Failed(why)
                }
            }
        }
    }
}

/// `is_what_was_packed` is asked before the move and after it.
fn try_retire(
    step: &StepContext<'_>,
    retirement: &Retirement<'_>,
    is_what_was_packed: &dyn Fn(&Path) -> io::Result<bool>,
) -> io::Result<Moved> {
    let (layout, id) = (step.layout, step.id);
    let Retirement { proof, facts, .. } = *retirement;
    let episode = layout.episode(id);
    match is_what_was_packed(&episode) {
        Ok(true) => {}
        Ok(false) => {
            clear_delivered(layout, id, facts)?;
            return Ok(Moved::Changed);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return moved_before(step, retirement);
        }
        Err(error) => return Err(error),
    }
    let receipt = ShippingReceipt {
        episode_id: id.clone(),
        sha256: facts.sha256,
        content_sha256: facts.content_sha256,
        size_bytes: facts.size_bytes,
        status_code: proof.status(),
        receiver: retirement.receiver.to_owned(),
        delivered_at_wall: retirement.delivered_at,
        manifest: retirement.manifest,
        receipt: proof.receipt().clone(),
        fingerprint: Some(retirement.fingerprint),
        open_files: retirement.open_files.to_vec(),
        modes: Modes::of(&episode, step.progress).map(|modes| modes.to_string()),
        aging: Some(Aging {
            clock_believed: retirement.clock_believed,
            ..Aging::default()
        }),
        written_to_since: None,
    };
    let spares = layout.spares(&layout.episodes);
    // Of a rejection that was not carried out: it was decided afresh since.
    record_files::remove_reason(&episode)?;
    record_files::write_receipt(&episode, &receipt, &spares)?;
    // One whose receipt is of another delivery stays what it is. A copy of this content that was
    // made before may have the receipt of an earlier delivery, and by that be due to be removed.
    let of_this = |copy: &Path| {
        let before = record_files::receipt(copy).unwrap_or_default();
        if durable::has_removal_note(copy)
            || !before
                .is_some_and(|it| it.episode_id == *id && it.content_sha256 == facts.content_sha256)
        {
            return Ok(false);
        }
        ages::file_anew(copy, || {
            record_files::write_receipt(copy, &receipt, &layout.spares(&layout.shipped))
        })
    };
    match durable::move_unchanged(
        &episode,
        &layout.shipped,
        id.as_str(),
        is_what_was_packed,
        &of_this,
        OpenFileProbe::below(&episode),
        step.progress,
    )? {
        MoveChecked::To(path) => {
            // `sealift requeue` removes the old receipt of what it has put back, and may have met
            // this one.
            if matches!(record_files::receipt(&path), Ok(None)) {
                record_files::write_receipt(&path, &receipt, &spares)?;
            }
            clear_outbox(layout, id);
            Ok(Moved::To(path))
        }
        MoveChecked::Changed(path) => {
            // It proves nothing in episodes/, and is written anew; but it would puzzle an operator
            // who finds it there.
            record_files::remove_receipt(&path)?;
            clear_delivered(layout, id, facts)?;
            Ok(Moved::Changed)
        }
        MoveChecked::Open { at, file } => {
            // Nor there. Where a spare is missing, it is one until the next try.
            record_files::give_back_receipt(&at, &spares)?;
            record_files::remove_receipt(&at)?;
            // Where its name was used again meanwhile, it is an episode of its own.
            Ok(if at == episode {
                Moved::open(file)
            } else {
                Moved::Changed
            })
        }
    }
}

/// The episode is not there. Where `shipped/` has it with the receipt of this very archive, an
/// earlier try got that far (its last flush failed, say) and what is left to do is done now: the
/// look after the move is a part of it.
fn moved_before(step: &StepContext<'_>, retirement: &Retirement<'_>) -> io::Result<Moved> {
    let (layout, id, facts) = (step.layout, step.id, retirement.facts);
    let wanted = Wanted {
        sha256: facts.sha256,
        content_sha256: Some(facts.content_sha256),
        fingerprint: Some(retirement.fingerprint),
    };
    match shipped_lookup::find(step, &wanted)? {
        ShippedMatch::Same(path) => {
            durable::sync_folder(&layout.shipped)?;
            durable::sync_folder(&layout.episodes)?;
            clear_outbox(layout, id);
            Ok(Moved::To(path))
        }
        ShippedMatch::Changed(path) => {
            shipped_lookup::put_back(step, &path).map(|_| Moved::Changed)
        }
        // The folder was taken away while the answer was waited for: the receiver holds what was in
        // it.
        ShippedMatch::Nothing => {
            clear_delivered(layout, id, facts)?;
            Ok(Moved::Gone)
        }
    }
}

/// Clears what lies in the outbox where it is what was delivered, though its episode cannot be
/// moved: that is gone, or another has its name.
fn clear_delivered(layout: &Layout, id: &EpisodeId, facts: &ArchiveFacts) -> io::Result<()> {
    let lying = record_files::sidecar(layout, id)?;
    if lying.is_some_and(|sidecar| sidecar.facts.content_sha256 == facts.content_sha256) {
        clear_outbox(layout, id);
    }
    Ok(())
}

/// What the move takes on the disk of `shipped/`: a record, or, where it is a copy, all of it.
fn need_bytes(layout: &Layout, id: &EpisodeId, error: &io::Error, progress: &Progress) -> u64 {
    // What is in shipped/ would go for nothing.
    if durable::exceeds_the_disk(error) {
        return 0;
    }
    if let Some(need_bytes) = durable::room_needed(error) {
        return need_bytes;
    }
    let (here, there) = (ground(&layout.episodes), ground(&layout.shipped));
    let is_copy = !matches!((here, there), (Ok(here), Ok(there)) if here.is_renamed_to(there));
    let copy_bytes = if is_copy {
        durable::bytes_of_copy(&layout.episode(id), progress)
    } else {
        0
    };
    copy_bytes.saturating_add(RECORDS_BYTES)
}

fn clear_outbox(layout: &Layout, id: &EpisodeId) {
    let spares = layout.spares(&layout.episodes);
    for archive in [layout.archive(id), layout.partial(id)] {
        // Where one is missing: what is merely removed, a recorder that waits for room has at once.
        let _ = durable::make_spare(&archive, &spares);
    }
    if let Err(error) = outbox::clear(layout, id) {
        // The receipt in shipped/ names its digest: the next pass over the outbox finds that it is
        // not needed.
        tracing::warn!(EPISODE = %id, "{id} is shipped, but its archive in the outbox cannot be removed: {error}");
    }
}

fn explain(layout: &Layout, id: &EpisodeId, error: &io::Error) -> String {
    let folder = &layout.shipped;
    let advice = if durable::is_full(error) {
        moves_later(error, &layout.episodes, folder)
    } else {
        record_files::advice(error, &layout.episode(id), folder, layout)
    };
    format!(
        "delivered, but it cannot be moved to {}: {error}{advice}",
        folder.display()
    )
}

#[cfg(test)]
mod tests;
