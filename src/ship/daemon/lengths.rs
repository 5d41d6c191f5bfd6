//! Whether a length tells this recording from those that were delivered under its id before.
//!
//! A server that answers 200 for what it holds already, and overwrites nothing, shows the length of what it holds: of another
//! recording, where an id is used again for one of the same size. What was delivered before is in `shipped/`.

use std::io;

use super::workers::Workers;
use crate::{
    episode::{EpisodeId, printable},
    filed,
    layout::Layout,
    progress::Progress,
    records::ArchiveFacts,
    ship::outcome::{Attempt, Outcome, Voucher},
};

impl Workers {
    /// Notes where a length that speaks for an acknowledgement is that of another recording.
    pub(super) async fn compare_lengths(
        &self,
        id: &EpisodeId,
        facts: &ArchiveFacts,
        attempt: &mut Attempt,
        progress: Progress,
    ) {
        let Outcome::Answered(answer) = &mut attempt.outcome else { return };
        if answer.voucher != Voucher::Length {
            return;
        }
        let (layout, id, facts) = (self.layout.clone(), id.clone(), *facts);
        let look = move || another_of_this_length(&layout, &id, &facts, &progress);
        match tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Some(filed)) => answer.voucher = Voucher::LengthOfAnother(filed),
            Ok(None) => {}
            Err(error) => {
                let why =
                    format!("shows its length alone, and what was delivered before cannot be read: {error}");
                answer.voucher = Voucher::HeadFailed(why);
            }
        }
    }
}

/// Where in `shipped/` another recording lies that was delivered under this id, as an archive of this length.
fn another_of_this_length(
    layout: &Layout,
    id: &EpisodeId,
    facts: &ArchiveFacts,
    progress: &Progress,
) -> io::Result<Option<String>> {
    let filed = match filed::filed_as(&layout.shipped, id, progress) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        filed => filed?,
    };
    for directory in filed {
        let receipt = filed::receipt(&directory).map_err(io::Error::other)?;
        let is_another = receipt.is_some_and(|receipt| {
            receipt.episode_id == *id
                && receipt.size_bytes == facts.size_bytes
                && receipt.content_sha256 != facts.content_sha256
        });
        if is_another {
            return Ok(Some(printable(&directory.to_string_lossy())));
        }
    }
    Ok(None)
}
