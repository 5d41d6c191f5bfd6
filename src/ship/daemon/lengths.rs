//! Whether a length is that of another recording that was delivered under this id before.
//!
//! A server that answers 200 for what it holds already, and overwrites nothing, shows the length of
//! what it holds: of another recording, where an id is used again. What of another recording may
//! have gone to a receiver under this id lies in one of these:
//!
//! ```text
//!  outbox/<id>.json                  until the archive of this one takes that place
//!  quarantine/<id>[~n]/<id>.tar.zst  put aside: it was corrected, or taken away,
//!                                    before it was acknowledged
//!  shipped/<id>[~n]/                 delivered
//!  episodes/<id>/                    delivered, written to since, and put back with its receipt
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::workers::Workers;
use crate::{
    disk::{lookup::if_there, record_files},
    model::{
        episode::EpisodeId, layout::Layout, progress::Progress, records::ArchiveFacts,
        text::printable,
    },
    ship::outcome::{Attempt, Outcome, Voucher},
};

impl Workers {
    /// Notes where the length that a HEAD shows is that of another recording.
    pub(super) async fn compare_lengths(
        &self,
        id: &EpisodeId,
        facts: &ArchiveFacts,
        attempt: &mut Attempt,
        progress: Progress,
    ) {
        let Outcome::Answered(answer) = &mut attempt.outcome else {
            return;
        };
        let shown = match answer.voucher {
            Voucher::Length => facts.size_bytes,
            Voucher::OtherLength(shown) => shown,
            _ => return,
        };
        let (layout, id, facts) = (self.layout.clone(), id.clone(), *facts);
        let look = move || another_of_this_length(&layout, &id, shown, &facts, &progress);
        match tokio::task::spawn_blocking(look)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
        {
            Ok(Some(filed)) => answer.voucher = Voucher::LengthOfAnother(filed),
            Ok(None) => {}
            Err(_) if answer.voucher != Voucher::Length => {}
            Err(error) => answer.voucher = Voucher::LengthUnread(error.to_string()),
        }
    }
}

/// Where another recording lies that had this id, and whose archive is so long. An archive goes
/// from the outbox to `quarantine/`, and is in both meanwhile: so they are looked at in that order.
fn another_of_this_length(
    layout: &Layout,
    id: &EpisodeId,
    shown: u64,
    facts: &ArchiveFacts,
    progress: &Progress,
) -> io::Result<Option<String>> {
    let is_another = |other: &ArchiveFacts| {
        other.size_bytes == shown && other.content_sha256 != facts.content_sha256
    };
    let found = |place: &Path| Ok(Some(printable(&place.to_string_lossy())));
    if at(&layout.sidecar(id), record_files::sidecar(layout, id))?
        .is_some_and(|waiting| is_another(&waiting.facts))
    {
        return found(&layout.archive(id));
    }
    for aside in filed_as(&layout.quarantine, id, progress)? {
        let beside_it = |path: PathBuf| aside.join(path.file_name().unwrap_or_default());
        let Some(size_bytes) = at(&aside, length_of(&beside_it(layout.archive(id))))? else {
            continue;
        };
        // Without its sidecar it may be of any content.
        let is_another = match at(
            &aside,
            record_files::sidecar_at(&beside_it(layout.sidecar(id)), id),
        )? {
            Some(sidecar) => is_another(&sidecar.facts),
            None => size_bytes == shown,
        };
        if is_another {
            return found(&aside);
        }
    }
    let mut delivered = filed_as(&layout.shipped, id, progress)?;
    delivered.extend(Some(layout.episode(id)).filter(|episode| episode.is_dir()));
    for delivered in delivered {
        let receipt = at(&delivered, record_files::receipt(&delivered))?;
        let receipt = receipt.filter(|receipt| receipt.episode_id == *id);
        let facts = receipt.map(|receipt| ArchiveFacts {
            sha256: receipt.sha256,
            content_sha256: receipt.content_sha256,
            size_bytes: receipt.size_bytes,
        });
        if facts.is_some_and(|facts| is_another(&facts)) {
            return found(&delivered);
        }
    }
    Ok(None)
}

fn filed_as(folder: &Path, id: &EpisodeId, progress: &Progress) -> io::Result<Vec<PathBuf>> {
    let filed = if_there(record_files::filed_as(folder, id, progress));
    at(folder, filed).map(Option::unwrap_or_default)
}

/// An error with its place and its cause in it.
fn at<T, E: Into<anyhow::Error>>(place: &Path, result: Result<T, E>) -> io::Result<T> {
    let place = || printable(&place.to_string_lossy());
    result.map_err(|error| io::Error::other(format!("{}: {:#}", place(), error.into())))
}

/// The length of a regular file, bytes.
fn length_of(file: &Path) -> io::Result<Option<u64>> {
    let found = if_there(fs::symlink_metadata(file))?;
    Ok(found.filter(std::fs::Metadata::is_file).map(|it| it.len()))
}
