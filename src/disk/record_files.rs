//! Our records at the top of an episode: written durably, found again, and told from a recorder's
//! own.
//!
//! ```text
//!  shipping_receipt.json      a recorder's own, kept          quarantine_reason.json   ours
//!  shipping_receipt.json~1    ours
//! ```
//!
//! The sidecar of an archive, in the outbox, is read here as well.
//!
//! A record of ours that is there already (we were killed between writing it and moving the
//! episode) is replaced.

pub(crate) mod ages;
mod places;

use std::{
    ffi::{CString, OsStr},
    fs,
    io::{
        self,
        ErrorKind::{InvalidInput, NotFound},
    },
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};
use serde::Serialize;

pub(crate) use self::places::filed_as;

use crate::{
    disk::{
        durable::{self, Published},
        filesystem::is_frozen,
        lookup,
        tree::{self, TreeError, own_files, shown},
    },
    model::{
        episode::EpisodeId,
        layout::{Layout, REASON, RECEIPT, numbered},
        records::{Aging, QuarantineReason, ShippingReceipt, Sidecar},
        text::{foreign_command, typed_path},
    },
};

/// How many files of a recorder's may have our name before something is plainly wrong.
const MAX_NUMBER: u32 = 100;

/// Writes our receipt into an episode, durably; on a full disk in the place of a spare.
///
/// # Errors
/// Those of reading what is there and of [`durable::write_record`].
pub(crate) fn write_receipt(
    episode: &Path,
    receipt: &ShippingReceipt,
    spares: &[PathBuf],
) -> io::Result<()> {
    write(episode, RECEIPT, receipt, spares, own_files::receipt)
}

/// Writes our reason into an episode, durably.
///
/// # Errors
/// As [`write_receipt`].
pub(crate) fn write_reason(
    episode: &Path,
    reason: &QuarantineReason,
    spares: &[PathBuf],
) -> io::Result<()> {
    write(episode, REASON, reason, spares, own_files::reason)
}

/// Our receipt in an episode.
///
/// # Errors
/// Those of reading the episode's folder and the files of that name.
pub(crate) fn receipt(episode: &Path) -> Result<Option<ShippingReceipt>, TreeError> {
    Ok(find(episode, RECEIPT, own_files::receipt)?.map(|(_, receipt)| receipt))
}

/// Our reason, or an older shipper's, in an episode.
///
/// # Errors
/// As [`receipt`].
pub(crate) fn reason(episode: &Path) -> Result<Option<QuarantineReason>, TreeError> {
    Ok(find(episode, REASON, own_files::reason)?.map(|(_, reason)| reason))
}

/// Removes our receipt from an episode, where there is one.
///
/// # Errors
/// As [`receipt`], and those of unlink(2).
pub(crate) fn remove_receipt(episode: &Path) -> io::Result<()> {
    remove(episode, RECEIPT, own_files::receipt, |_| true)
}

/// As [`remove_receipt`], where it is this one: another was written since.
///
/// # Errors
/// As [`remove_receipt`].
pub(crate) fn remove_this_receipt(episode: &Path, this: &ShippingReceipt) -> io::Result<()> {
    remove(episode, RECEIPT, own_files::receipt, |found| found == this)
}

/// Changes what the age of a directory in `shipped/` is counted by, durably. Nothing is done where
/// there is no receipt, and where it is being removed by its age.
///
/// # Errors
/// As [`receipt`], and those of [`durable::write_record`].
pub(crate) fn note_aging_in_receipt(episode: &Path, note: &dyn Fn(&mut Aging)) -> io::Result<()> {
    note_in_receipt(episode, &|receipt| {
        note(receipt.aging.get_or_insert_default());
    })
}

/// Changes what the receipt of a directory in `shipped/` says, durably. Nothing is done where there
/// is none.
///
/// # Errors
/// As [`note_aging_in_receipt`].
pub(crate) fn note_in_receipt(
    episode: &Path,
    note: &dyn Fn(&mut ShippingReceipt),
) -> io::Result<()> {
    // Read and written in one: nothing that is filed anew meanwhile is taken back.
    let noted = ages::file_anew(episode, || {
        let Some((path, mut receipt)) =
            find(episode, RECEIPT, own_files::receipt).map_err(io::Error::other)?
        else {
            return Ok(());
        };
        note(&mut receipt);
        write_over(&path, &receipt)
    });
    noted.map(drop)
}

/// The same of one in `quarantine/`. Where there is no reason, or none that can be read, one is
/// written, so that there is a place for it; a file of that name that is not ours stays.
///
/// # Errors
/// As [`write_reason`].
pub(crate) fn note_aging_in_reason(episode: &Path, note: &dyn Fn(&mut Aging)) -> io::Result<()> {
    ages::file_anew(episode, || try_note_aging_in_reason(episode, note)).map(drop)
}

fn try_note_aging_in_reason(episode: &Path, note: &dyn Fn(&mut Aging)) -> io::Result<()> {
    if let Some((path, mut reason)) =
        find(episode, REASON, own_files::reason).map_err(io::Error::other)?
    {
        note(reason.aging.get_or_insert_default());
        return write_over(&path, &reason);
    }
    let mut aging = Aging::default();
    note(&mut aging);
    let reason = QuarantineReason {
        episode_id: None,
        status_code: None,
        error: Some("no reason was found beside it".to_owned()),
        body: serde_json::Value::Null,
        verdict: None,
        quarantined_at_wall: aging.counted_from_wall,
        aging: Some(aging),
    };
    write_reason(episode, &reason, &[])
}

fn write_over<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    durable::write_record(path, &bytes, &[])
}

/// Our receipt in an episode that was not moved becomes a spare, where one is missing: it proves
/// nothing there.
///
/// # Errors
/// As [`receipt`], and those of [`durable::make_spare`].
pub(crate) fn give_back_receipt(episode: &Path, spares: &[PathBuf]) -> io::Result<()> {
    match find(episode, RECEIPT, own_files::receipt).map_err(io::Error::other)? {
        Some((path, _)) => durable::make_spare(&path, spares).map(drop),
        None => Ok(()),
    }
}

/// Removes our reason: one that did not hold, or that a killed process wrote and did not act on.
///
/// # Errors
/// As [`remove_receipt`].
pub(crate) fn remove_reason(episode: &Path) -> io::Result<()> {
    remove(episode, REASON, own_files::reason, |_| true)
}

/// As [`remove_reason`], where it is this one: another was written since.
///
/// # Errors
/// As [`remove_receipt`].
pub(crate) fn remove_this_reason(episode: &Path, this: &QuarantineReason) -> io::Result<()> {
    remove(episode, REASON, own_files::reason, |found| found == this)
}

/// Takes the name out of our reason, so that it goes on being ours when the folder gets another.
///
/// # Errors
/// As [`reason`], and those of writing.
pub(crate) fn forget_name_in_reason(episode: &Path) -> io::Result<()> {
    match find(episode, REASON, own_files::reason).map_err(io::Error::other)? {
        Some((path, reason)) if reason.episode_id.is_some() => write_over(
            &path,
            &QuarantineReason {
                episode_id: None,
                ..reason
            },
        ),
        Some(_) | None => Ok(()),
    }
}

/// The sidecar of an episode's archive in the outbox; `None` where there is none, or one that is
/// not ours.
///
/// # Errors
/// Those of open(2) and read(2).
pub(crate) fn sidecar(layout: &Layout, id: &EpisodeId) -> io::Result<Option<Sidecar>> {
    sidecar_at(&layout.sidecar(id), id)
}

/// The same at another place: beside an archive that was put aside.
///
/// # Errors
/// Those of open(2) and read(2).
pub(crate) fn sidecar_at(path: &Path, id: &EpisodeId) -> io::Result<Option<Sidecar>> {
    let bytes = match lookup::read(path, own_files::MAX_RECORD_BYTES) {
        Ok(bytes) => bytes,
        // Nothing, or what is no regular file.
        Err(error) if matches!(error.kind(), NotFound | InvalidInput) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_slice::<Sidecar>(&bytes)
        .ok()
        .filter(|sidecar| sidecar.episode_id == *id))
}

/// Behind this stands what to type, to the end of what is said.
pub(crate) const TYPE: &str = "Type: ";

/// The command in what [`advice`] has said, where there is one, without what names the folders.
pub(crate) fn command_in<'a>(said: &'a str, layout: &Layout) -> Option<&'a str> {
    let (_, command) = said.rsplit_once(TYPE)?;
    Some(command.strip_suffix(&*about(layout)).unwrap_or(command))
}

/// What a command of ours is typed with to be about these folders: with a blank before it. Folders
/// that stand apart only a configuration names.
pub(crate) fn about(layout: &Layout) -> String {
    match layout.private.parent() {
        Some(data) if *layout == Layout::below(data) => format!(" --data {}", typed_path(data)),
        Some(_) | None => String::new(),
    }
}

/// What to type where an episode could not be moved to `folder` for want of permission; empty for
/// other errors. Who types it takes nothing from a recorder: one that was opened again meanwhile is
/// not touched.
pub(crate) fn advice(error: &io::Error, episode: &Path, folder: &Path, layout: &Layout) -> String {
    if durable::cannot_hold(error) {
        return format!(
            ". No permission mends that: set another folder in the configuration than {}, on a file system that can (ext4, XFS, btrfs), \
             or move the episode by hand",
            folder.display()
        );
    }
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let above = [episode.parent(), Some(episode), Some(folder)]
        .into_iter()
        .flatten();
    for path in above {
        if let Some(flag) = is_frozen(path) {
            let what = if flag == 'i' {
                "immutable"
            } else {
                "append-only"
            };
            let thaw = foreign_command(path, |path| format!("chattr -{flag} {path}"));
            return format!(
                ". {} is {what}, whatever its permissions are. {TYPE}sudo {thaw}",
                shown(path)
            );
        }
    }
    let us = rustix::process::geteuid().as_raw();
    // EPERM, which an error that names a path has only in its words. Root needs no permission: what
    // refuses root is mended by no chown(1).
    if us == 0 && error.to_string().contains("(os error 1)") {
        return String::new();
    }
    if !may_write(folder) {
        return format!(
            ". We may not write there. {TYPE}sudo {}",
            foreign_command(folder, |folder| format!("chown {us} {folder}"))
        );
    }
    // The owner of that folder is the user that ships; root only where this process is root.
    let owner = fs::metadata(folder).map_or(us, |metadata| metadata.uid());
    let owner = if owner == 0 { us } else { owner };
    // The owner and not the mode: modes are content, and with others a receiver would find another
    // episode.
    format!(
        ". Moving a directory takes write permission on it and on the folder that it is in (docs/recorders.md). {TYPE}{}{}",
        give(episode, owner),
        about(layout)
    )
}

/// What gives a sealed episode to the user that ships.
pub(crate) fn give(episode: &Path, owner: u32) -> String {
    let episode = typed_path(episode);
    format!("sudo sealift setup --user {owner} --give {episode}")
}

/// Whether we may make and take away names in a folder.
pub(crate) fn may_write(folder: &Path) -> bool {
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn remove<T>(
    episode: &Path,
    base: &str,
    ours: impl Fn(&[u8], &OsStr) -> Option<T>,
    is_it: impl Fn(&T) -> bool,
) -> io::Result<()> {
    match find(episode, base, ours).map_err(io::Error::other)? {
        Some((path, found)) if is_it(&found) => durable::remove_file(&path),
        Some(_) | None => Ok(()),
    }
}

/// Without a spare first. On a full disk one that is there is written over, so that an episode that
/// cannot be moved does not spend a spare at each try. Whatever that one says, it is of another
/// time, and by that time an age would be counted.
fn write<T: Serialize>(
    episode: &Path,
    base: &str,
    record: &T,
    spares: &[PathBuf],
    ours: impl Fn(&[u8], &OsStr) -> Option<T>,
) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    match write_bytes(episode, base, &bytes, &[], &ours) {
        Err(error) if durable::is_full(&error) => match find(episode, base, &ours) {
            Ok(Some((path, _))) if durable::write_over_record(&path, &bytes, spares)? => Ok(()),
            _ => write_bytes(episode, base, &bytes, spares, &ours),
        },
        written => written,
    }
}

fn write_bytes<T>(
    episode: &Path,
    base: &str,
    bytes: &[u8],
    spares: &[PathBuf],
    ours: impl Fn(&[u8], &OsStr) -> Option<T>,
) -> io::Result<()> {
    let directory = episode.file_name().unwrap_or_default();
    for n in 0..MAX_NUMBER {
        let path = episode.join(numbered(base, n));
        if let Published::Done = durable::write_new_record(&path, bytes, spares)? {
            return Ok(());
        }
        let found = read(episode, base, n).map_err(io::Error::other)?;
        if found.is_some_and(|found| ours(&found, directory).is_some()) {
            return durable::write_record(&path, bytes, spares);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{base} and its numbered names are all taken"),
    ))
}

fn find<T>(
    episode: &Path,
    base: &str,
    ours: impl Fn(&[u8], &OsStr) -> Option<T>,
) -> Result<Option<(PathBuf, T)>, TreeError> {
    let directory = episode.file_name().unwrap_or_default();
    for n in 0..MAX_NUMBER {
        let path = episode.join(numbered(base, n));
        if let Some(record) = read(episode, base, n)?.and_then(|bytes| ours(&bytes, directory)) {
            return Ok(Some((path, record)));
        }
        // Numbers are given without gaps.
        if fs::symlink_metadata(path).is_err() {
            break;
        }
    }
    Ok(None)
}

/// `None` where there is none, or something else than a regular file, or more than any record of
/// ours.
fn read(episode: &Path, base: &str, n: u32) -> Result<Option<Vec<u8>>, TreeError> {
    let Ok(name) = CString::new(OsStr::new(&numbered(base, n)).as_bytes()) else {
        return Ok(None);
    };
    let bytes = tree::read_top(episode, &name, own_files::MAX_RECORD_BYTES)?;
    Ok(bytes.filter(|bytes| bytes.len() as u64 <= own_files::MAX_RECORD_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{progress::Progress, records::WallTime};

    fn receipt_of(id: &str, size_bytes: u64) -> ShippingReceipt {
        ShippingReceipt {
            size_bytes,
            ..ShippingReceipt::example(id)
        }
    }

    fn reason_of(error: &str) -> QuarantineReason {
        QuarantineReason {
            episode_id: Some("a".to_owned()),
            status_code: Some(412),
            error: Some(error.to_owned()),
            body: serde_json::Value::Null,
            verdict: Some("fatal".to_owned()),
            quarantined_at_wall: Some(WallTime::from_unix_seconds(1_800_000_000)),
            aging: None,
        }
    }

    #[test]
    fn a_recorders_own_file_is_kept_and_ours_is_numbered_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let episode = folder.path().join("a");
        fs::create_dir(&episode).unwrap();
        fs::write(episode.join(RECEIPT), "{\"carrier\": \"DHL\"}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", episode.join("shipping_receipt.json~1")).unwrap();
        assert_eq!(receipt(&episode).unwrap(), None);

        let before = tree::fingerprint(&episode, &Progress::default()).unwrap();
        for size_bytes in [10, 20] {
            write_receipt(&episode, &receipt_of("a", size_bytes), &[]).unwrap();
            assert_eq!(receipt(&episode).unwrap().unwrap().size_bytes, size_bytes);
        }
        write_reason(&episode, &reason_of("too old"), &[]).unwrap();
        write_reason(&episode, &reason_of("still too old"), &[]).unwrap();
        assert_eq!(reason(&episode).unwrap(), Some(reason_of("still too old")));
        assert_eq!(
            tree::fingerprint(&episode, &Progress::default()).unwrap(),
            before
        );

        assert_eq!(
            fs::read_to_string(episode.join(RECEIPT)).unwrap(),
            "{\"carrier\": \"DHL\"}"
        );
        let mut names: Vec<_> = fs::read_dir(&episode)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        let ours = [
            "quarantine_reason.json",
            RECEIPT,
            "shipping_receipt.json~1",
            "shipping_receipt.json~2",
        ];
        assert_eq!(names, ours);
    }

    #[test]
    fn a_receipt_of_another_episode_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        for (directory, ours) in [("a", true), ("a~1", true), ("b", false), ("a~1~1", false)] {
            let episode = folder.path().join(directory);
            fs::create_dir(&episode).unwrap();
            fs::write(
                episode.join(RECEIPT),
                serde_json::to_vec(&receipt_of("a", 1)).unwrap(),
            )
            .unwrap();
            assert_eq!(receipt(&episode).unwrap().is_some(), ours, "{directory}");
        }
        fs::write(folder.path().join("a~2"), "").unwrap();
        let found = filed_as(
            folder.path(),
            &EpisodeId::parse("a").unwrap(),
            &Progress::default(),
        )
        .unwrap();
        assert_eq!(found, [folder.path().join("a"), folder.path().join("a~1")]);
    }

    #[test]
    fn a_receipt_that_did_not_hold_becomes_a_spare_where_one_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let episode = folder.path().join("a");
        fs::create_dir(&episode).unwrap();
        let spares = [folder.path().join("spare-")];
        for (spares_before, is_left) in [(7, false), (8, true)] {
            durable::keep_spares(&spares[0]).unwrap();
            for n in spares_before..8 {
                durable::remove_file(&folder.path().join(format!("spare-{n}"))).unwrap();
            }
            write_receipt(&episode, &receipt_of("a", 1), &spares).unwrap();
            give_back_receipt(&episode, &spares).unwrap();
            assert_eq!(receipt(&episode).unwrap().is_some(), is_left);
            assert_eq!(
                fs::metadata(folder.path().join("spare-7")).unwrap().len(),
                4096
            );
        }
    }
}
