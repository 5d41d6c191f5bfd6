//! What a directory in `quarantine/` or `shipped/` says of its age, for `retention.rs` to decide upon.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use crate::{
    filed,
    records::WallTime,
    retention::{Entry, vouched_for},
    tree::TreeError,
};

/// A directory in `quarantine/`.
///
/// # Errors
/// Those of reading its reason and its mtime.
pub fn quarantined(path: &Path) -> io::Result<Entry> {
    let reason = filed::reason(path).map_err(into_io)?;
    let aging = reason.as_ref().and_then(|reason| reason.aging).unwrap_or_default();
    let stamp = reason.and_then(|reason| reason.quarantined_at_wall);
    Ok(Entry { stamp, aging, folder_mtime: mtime(path)?, removable: true })
}

/// A directory in `shipped/`.
///
/// # Errors
/// Those of reading its receipt and its mtime.
pub fn shipped(path: &Path) -> io::Result<Entry> {
    let receipt = filed::receipt(path).map_err(into_io)?;
    let directory = path.file_name().unwrap_or_default();
    let removable = receipt.as_ref().is_some_and(|receipt| vouched_for(directory, receipt));
    let aging = receipt.as_ref().and_then(|receipt| receipt.aging).unwrap_or_default();
    let stamp = receipt.map(|receipt| receipt.delivered_at_wall);
    Ok(Entry { stamp, aging, folder_mtime: mtime(path)?, removable })
}

fn mtime(path: &Path) -> io::Result<WallTime> {
    Ok(WallTime::from_unix_seconds(fs::symlink_metadata(path)?.mtime()))
}

fn into_io(error: TreeError) -> io::Error {
    io::Error::other(format!("{:#}", anyhow::Error::new(error)))
}
