//! What a directory in `quarantine/` or `shipped/` says of its age, for `retention.rs` to decide
//! upon.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use crate::{
    clock,
    disk::{record_files, tree::TreeError},
    model::{
        records::{Aging, ShippingReceipt, WallTime},
        retention::{RetentionEntry, vouched_for},
        wire::Receipt,
    },
};

/// What is being removed by its age. Locked for the last look at an age, and while a record is
/// written anew in what may be removed by its age: so nothing goes by an age that it has not any
/// more. Not locked during a removal, which may take minutes.
static GOING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A directory that is being removed by its age, until this is dropped.
#[must_use]
pub(crate) struct Going(PathBuf);

impl Drop for Going {
    fn drop(&mut self) {
        GOING.lock().remove(&self.0);
    }
}

/// Decides that a directory goes, where `is_due` still says so.
///
/// # Errors
/// Those of `is_due`.
pub(crate) fn goes(
    directory: &Path,
    is_due: impl FnOnce() -> io::Result<bool>,
) -> io::Result<Option<Going>> {
    let mut going = GOING.lock();
    Ok(is_due()?.then(|| {
        going.insert(directory.to_owned());
        Going(directory.to_owned())
    }))
}

/// Writes a record anew, or what is noted in it, in a directory that may be removed by its age.
/// False where it is being removed, and nothing was written.
///
/// # Errors
/// Those of `write`.
pub(crate) fn file_anew(
    directory: &Path,
    write: impl FnOnce() -> io::Result<()>,
) -> io::Result<bool> {
    let going = GOING.lock();
    if going.contains(directory) {
        return Ok(false);
    }
    write().map(|()| true)
}

/// A directory in `quarantine/`.
///
/// # Errors
/// Those of reading its reason and its mtime.
pub(crate) fn quarantined(path: &Path) -> io::Result<RetentionEntry> {
    let reason = record_files::reason(path).map_err(into_io)?;
    let aging = reason
        .as_ref()
        .and_then(|reason| reason.aging)
        .unwrap_or_default();
    let stamp = reason.and_then(|reason| reason.quarantined_at_wall);
    Ok(RetentionEntry {
        stamp,
        aging,
        folder_mtime: mtime(path)?,
        removable: true,
    })
}

/// A directory in `shipped/`.
///
/// # Errors
/// Those of reading its receipt and its mtime.
pub(crate) fn shipped(path: &Path) -> io::Result<RetentionEntry> {
    let receipt = record_files::receipt(path).map_err(into_io)?;
    let directory = path.file_name().unwrap_or_default();
    let removable = receipt
        .as_ref()
        .is_some_and(|receipt| vouched_for(directory, receipt));
    let aging = receipt.as_ref().map(aging_of_receipt).unwrap_or_default();
    let stamp = receipt.map(|receipt| receipt.delivered_at_wall);
    Ok(RetentionEntry {
        stamp,
        aging,
        folder_mtime: mtime(path)?,
        removable,
    })
}

/// Older receipts do not say whether their clock could be believed; the receiver's own, which is in
/// them, has its clock's word.
fn aging_of_receipt(ours: &ShippingReceipt) -> Aging {
    ours.aging.unwrap_or_else(|| {
        let theirs = serde_json::from_value::<Receipt>(ours.receipt.clone()).ok();
        let clock_believed =
            theirs.is_some_and(|it| clock::agree(ours.delivered_at_wall, it.stored_at));
        Aging {
            clock_believed,
            ..Aging::default()
        }
    })
}

fn mtime(path: &Path) -> io::Result<WallTime> {
    Ok(WallTime::from_unix_seconds(
        fs::symlink_metadata(path)?.mtime(),
    ))
}

fn into_io(error: TreeError) -> io::Error {
    io::Error::other(format!("{:#}", anyhow::Error::new(error)))
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;
    use crate::model::records::{QuarantineReason, RELEASED};

    #[test]
    fn what_goes_by_its_age_is_not_filed_anew_and_what_was_filed_anew_does_not_go() {
        let (one, other) = (Path::new("/q/one"), Path::new("/q/other"));
        assert!(goes(one, || Ok(false)).unwrap().is_none());
        let gone = goes(one, || Ok(true)).unwrap().unwrap();
        assert!(!file_anew(one, || panic!("it is being removed")).unwrap());
        assert!(file_anew(other, || Ok(())).unwrap());
        drop(gone);
        assert!(file_anew(one, || Ok(())).unwrap());
    }

    #[test]
    fn what_is_filed_anew_while_an_age_is_noted_is_not_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let reason = |status_code| QuarantineReason {
            episode_id: None,
            status_code: Some(status_code),
            error: Some("too old".to_owned()),
            body: serde_json::Value::Null,
            verdict: None,
            quarantined_at_wall: Some(RELEASED),
            aging: None,
        };
        record_files::write_reason(folder.path(), &reason(400), &[]).unwrap();
        let (filed, is_filed) = mpsc::channel();
        let anew = || {
            file_anew(folder.path(), || {
                record_files::write_reason(folder.path(), &reason(412), &[])
            })
            .unwrap();
            let _ = filed.send(());
        };
        std::thread::scope(|threads| {
            record_files::note_aging_in_reason(folder.path(), &|_| {
                threads.spawn(anew);
                // Either it is filed before this comes to an end, or it waits for that.
                let _ = is_filed.recv_timeout(Duration::from_millis(500));
            })
            .unwrap();
        });
        assert_eq!(
            record_files::reason(folder.path())
                .unwrap()
                .unwrap()
                .status_code,
            Some(412)
        );
    }
}
