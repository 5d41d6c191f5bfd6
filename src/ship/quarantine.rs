//! Rejected: the episode is moved aside, with the reason written into it first.
//!
//! ```text
//!  fingerprint ▸ reason into episodes/<id>/ ▸ move to quarantine/<id>[~n]
//!      └ not what was judged: it stays
//!    ▸ fingerprint again ▸ archive, sidecar, partial unlinked
//!          └ not what was judged: put back
//! ```
//!
//! A reason is about one state of an episode. While it was sent and judged, its recorder may have
//! opened it again, or begun another under its name: that one is not at fault, and is not moved.
//!
//! Where a copy of it stands in `quarantine/` already, of a move that was killed, the reason is
//! written into that, over the one of that time, before the episode goes: an age is counted from
//! when it was quarantined last.
//!
//! Killed between the first two, the reason lies in `episodes/` and says nothing there: the next
//! start decides afresh. The reason is left out of archive and fingerprint, so an episode that
//! comes back packs to the same bytes.

use std::{io, path::Path};

use super::{
    machine::step_result::{Moved, Reason},
    outbox,
    room::moves_later,
    shipped_lookup::{self, StepContext},
};
use crate::{
    disk::{
        durable::{self, MoveChecked},
        lookup::is_gone,
        meta,
        open_files::OpenFileProbe,
        record_files::{self, ages},
    },
    model::{
        episode::EpisodeId,
        layout::{Layout, META},
        records::{Aging, QuarantineReason, WallTime},
    },
};

/// Moves an episode to `quarantine/` with its reason, and clears its archive away. Whether `now` is
/// of a clock that can be believed stands in the reason.
pub(crate) fn quarantine(
    step: &StepContext<'_>,
    reason: &Reason,
    now: WallTime,
    clock_believed: bool,
) -> Moved {
    let (layout, id) = (step.layout, step.id);
    let episode = layout.episode(id);
    let record = QuarantineReason {
        episode_id: Some(id.as_str().to_owned()),
        status_code: reason.status,
        error: Some(with_meta_fault(reason, &episode)),
        body: reason.body.clone(),
        verdict: Some(reason.verdict.to_owned()),
        quarantined_at_wall: Some(now),
        aging: Some(Aging {
            clock_believed,
            ..Aging::default()
        }),
    };
    let is_what_was_judged = |episode: &Path| {
        let (judged, content) = (reason.fingerprint, reason.content_sha256);
        shipped_lookup::is_what_was_packed(step, episode, judged, content)
    };
    match try_quarantine(step, &is_what_was_judged, &record) {
        Ok(Moved::To(path)) => {
            if let Err(error) = outbox::clear(layout, id) {
                tracing::warn!(
                    EPISODE = %id,
                    "{id} is quarantined, but its archive in the outbox cannot be removed: {error}. It is looked at again."
                );
            }
            Moved::To(path)
        }
        Ok(moved) => moved,
        Err(_) if is_gone(&episode) => Moved::Gone,
        Err(error) => {
            let why = explain(layout, id, reason, &error);
            if durable::cannot_hold(&error) {
                Moved::CannotHold(why)
            } else {
                Moved::Failed(why)
            }
        }
    }
}

/// Where it is rejected for want of a commit, what keeps its commit from being read is what there
/// is to mend.
fn with_meta_fault(reason: &Reason, episode: &Path) -> String {
    let error = reason.error.clone();
    if !matches!(reason.status, Some(400 | 412)) {
        return error;
    }
    match meta::look(episode) {
        Ok(Err(fault)) => format!("{error}. No commit was sent: {fault}"),
        Ok(Ok(None)) if reason.status == Some(400) => {
            format!("{error}. No commit was sent: there is no code_version.commit in its {META}")
        }
        Ok(Ok(_)) | Err(_) => error,
    }
}

fn try_quarantine(
    step: &StepContext<'_>,
    is_what_was_judged: &dyn Fn(&Path) -> io::Result<bool>,
    record: &QuarantineReason,
) -> io::Result<Moved> {
    let (layout, id) = (step.layout, step.id);
    let episode = layout.episode(id);
    if !is_what_was_judged(&episode)? {
        return Ok(Moved::Changed);
    }
    // A receipt of a retirement that was not carried out would say that it is held somewhere.
    record_files::remove_receipt(&episode)?;
    record_files::write_reason(&episode, record, &layout.spares(&layout.episodes))?;
    // A copy that was made before has the reason of that time, and by that it may be due to be
    // removed.
    let has_this_reason = |copy: &Path| {
        if !copy.is_dir() || durable::has_removal_note(copy) {
            return Ok(false);
        }
        ages::file_anew(copy, || {
            record_files::write_reason(copy, record, &layout.spares(&layout.quarantine))
        })
    };
    match durable::move_unchanged(
        &episode,
        &layout.quarantine,
        id.as_str(),
        is_what_was_judged,
        &has_this_reason,
        OpenFileProbe::below(&episode),
        step.progress,
    )? {
        MoveChecked::To(path) => {
            // `sealift requeue` removes the old reason of what it has put back, and may have met
            // this one.
            if matches!(record_files::reason(&path), Ok(None)) {
                record_files::write_reason(&path, record, &layout.spares(&layout.episodes))?;
            }
            Ok(Moved::To(path))
        }
        MoveChecked::Changed(path) => {
            // It says nothing in episodes/; but it would puzzle an operator who finds it there.
            record_files::remove_reason(&path)?;
            Ok(Moved::Changed)
        }
        MoveChecked::Open { at, file } => {
            record_files::remove_reason(&at)?;
            // Where its name was used again meanwhile, it is an episode of its own.
            Ok(if at == episode {
                Moved::open(file)
            } else {
                Moved::Changed
            })
        }
    }
}

fn explain(layout: &Layout, id: &EpisodeId, reason: &Reason, error: &io::Error) -> String {
    let folder = &layout.quarantine;
    let advice = if durable::is_full(error) {
        moves_later(error, &layout.episodes, folder)
    } else {
        record_files::advice(error, &layout.episode(id), folder, layout)
    };
    format!(
        "rejected ({}), but it cannot be moved to {}: {error}{advice}",
        reason.error,
        folder.display()
    )
}

#[cfg(test)]
mod tests;
