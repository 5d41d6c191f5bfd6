//! What a directory packs to, without an archive: how an episode that has left `episodes/` is
//! compared with what was delivered.

use std::{io, path::Path};

use super::{
    OpenFilePolicy, PackError, PackedMarker, Packing, stream::TarStream, writers::OpenFileCheck,
};
use crate::{
    disk::{
        open_files::OpenFileProbe,
        tree::{self, TreeError, modes::Modes, to_path},
    },
    model::{
        episode::{Digest, EpisodeId},
        progress::Progress,
    },
};

/// The digest of the tar stream that [`pack`](super::pack()) makes of what stands in a directory,
/// and nothing else of it: the identity of an episode that has left `episodes/`. Its manifest is
/// not looked at. Costs as much reading as packing.
///
/// # Errors
/// [`PackError`].
pub(crate) fn content_of(
    id: &EpisodeId,
    directory: &Path,
    progress: &Progress,
) -> Result<Digest, PackError> {
    content_with_modes(id, directory, None, OpenFileProbe::never(), progress)
}

/// As [`content_of`], with these permission bits in the place of those that it has; refused where
/// the probe finds a file that is open for writing.
///
/// # Errors
/// [`PackError`].
pub(crate) fn content_with_modes(
    id: &EpisodeId,
    directory: &Path,
    modes: Option<&Modes>,
    probe: OpenFileProbe,
    progress: &Progress,
) -> Result<Digest, PackError> {
    let marker = PackedMarker {
        sha256: None,
        check: None,
    };
    let asked = OpenFileCheck::new(probe, OpenFilePolicy::WaitedFor);
    let mut packing = Packing::new(id, TarStream::new_to(io::sink()), marker, asked, progress);
    packing.modes = modes.map(|modes| modes.each().collect::<Vec<_>>().into_iter());
    let read = tree::walk(directory, progress, |entry| packing.entry(entry))?;
    let (_, content_sha256, _) = packing.stream.end().map_err(PackError::Outbox)?;
    if tree::walk(directory, progress, |_| Ok::<(), TreeError>(()))? != read {
        return Err(PackError::Changed { path: to_path(b"") });
    }
    Ok(content_sha256)
}
