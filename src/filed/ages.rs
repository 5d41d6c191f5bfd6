//! What a directory in `quarantine/` or `shipped/` says of its age, for `retention.rs` to decide upon.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock, filed,
    records::{Aging, ShippingReceipt, WallTime},
    retention::{Entry, vouched_for},
    tree::TreeError,
    wire::Receipt,
};

/// See [`deciding`].
static DECIDING: Mutex<()> = Mutex::new(());

/// Held between the last look at an age and the removal that it decides, and while a record is written anew in what may be removed by
/// its age: so that nothing goes by an age that it has not any more.
pub fn deciding() -> MutexGuard<'static, ()> {
    DECIDING.lock().unwrap_or_else(PoisonError::into_inner)
}

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
    let aging = receipt.as_ref().map(aging_of_receipt).unwrap_or_default();
    let stamp = receipt.map(|receipt| receipt.delivered_at_wall);
    Ok(Entry { stamp, aging, folder_mtime: mtime(path)?, removable })
}

/// Older receipts do not say whether their clock could be believed; the receiver's own, which is in them, has its clock's word.
fn aging_of_receipt(ours: &ShippingReceipt) -> Aging {
    ours.aging.unwrap_or_else(|| {
        let theirs = serde_json::from_value::<Receipt>(ours.receipt.clone()).ok();
        let clock_believed = theirs.is_some_and(|it| clock::agree(ours.delivered_at_wall, it.stored_at));
        Aging { clock_believed, ..Aging::default() }
    })
}

fn mtime(path: &Path) -> io::Result<WallTime> {
    Ok(WallTime::from_unix_seconds(fs::symlink_metadata(path)?.mtime()))
}

fn into_io(error: TreeError) -> io::Error {
    io::Error::other(format!("{:#}", anyhow::Error::new(error)))
}
