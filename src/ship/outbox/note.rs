//! What is noted in the outbox of a move, where no archive lies there that would say it.

use std::{fs, io, path::Path};

use super::sidecar;
use crate::{
    disk::{durable, record_files},
    model::{episode::EpisodeId, layout::Layout},
    ship::machine::step_result::Packed,
};

/// Writes the sidecar of an archive that lies nowhere, for as long as its episode is moved. Where
/// the move is broken off, it says what was delivered.
///
/// On a full disk it is an empty file, which takes no room: its name says which episode it was, and
/// the receipt in `shipped/` the rest. No spare is spent on it, since those are for receipts,
/// unless not even an empty file can be made: its inodes are used up.
///
/// # Errors
/// Those of [`durable::write_record`].
pub(crate) fn note(layout: &Layout, id: &EpisodeId, packed: &Packed) -> io::Result<()> {
    let sidecar = sidecar(id, packed);
    // Of a try before this one.
    if record_files::sidecar(layout, id)
        .is_ok_and(|noted| noted.is_some_and(|noted| noted == sidecar))
    {
        return Ok(());
    }
    let (path, bytes) = (layout.sidecar(id), serde_json::to_vec_pretty(&sidecar)?);
    match durable::write_record(&path, &bytes, &[]) {
        Err(error) if durable::is_full(&error) => match durable::write_record(&path, b"", &[]) {
            Err(error) if durable::is_full(&error) => {
                durable::write_record(&path, &bytes, &layout.spares(&layout.outbox))
            }
            written => written,
        },
        written => written,
    }
}

/// Whether this is how a move is noted on a full disk.
pub(crate) fn is_empty_note(sidecar: &Path) -> bool {
    fs::symlink_metadata(sidecar).is_ok_and(|found| found.is_file() && found.len() == 0)
}
