//! What may come back, and what stands in its way.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Candidate, FiledRecord, Origin, RequeueEnd, RequeueOptions, RequeueRow, word};
use crate::{
    disk::{
        record_files::{self, TYPE},
        scan,
        tree::{self, TreeError, shown},
    },
    model::{
        episode::{EpisodeId, FolderLook},
        layout::{Layout, MARKER, OutboxName, is_same_in_any_case, is_scratch, outbox_name},
        progress::Progress,
        records::{ORPHAN, QuarantineReason, ShippingReceipt},
        text::{self, printable, typed_path},
    },
    operate::{
        receiver::ReceiverClient,
        shipped_receipts::{self, ShippedFolder},
        verify::{self, VerifyReport, VerifyVerdict},
    },
};

/// The longest that a reason's own words are shown, bytes: whole or not at all.
const MAX_SHOWN: usize = 10_000;

/// What was found, and what can be said to be left already.
#[derive(Debug, Default)]
pub(super) struct RequeueCandidates {
    pub(super) candidates: Vec<Candidate>,
    pub(super) left: Vec<RequeueRow>,
}

pub(super) async fn candidates(
    options: &RequeueOptions,
    receiver: Option<&ReceiverClient>,
    progress: &Progress,
) -> io::Result<RequeueCandidates> {
    let mut found = RequeueCandidates::default();
    if matches!(options.from, None | Some(Origin::Quarantine)) {
        quarantined(options, &mut found)?;
    }
    if matches!(options.from, None | Some(Origin::Conflict)) {
        in_conflict(options, &mut found)?;
    }
    match (options.from, receiver) {
        (Some(Origin::Shipped), _) if options.unasked => {
            written_to(options, &named_in_shipped(options), &mut found)?;
        }
        (Some(Origin::Shipped), Some(receiver)) => {
            lost(options, receiver, progress, &mut found).await?;
        }
        (Some(_) | None, _) => {}
    }
    Ok(found)
}

fn quarantined(options: &RequeueOptions, found: &mut RequeueCandidates) -> io::Result<()> {
    for folder in folders(&options.layout.quarantine, options)? {
        let name = folder.file_name().unwrap_or_default();
        // What cannot be an episode's was put there by hand, and is left to the operator.
        let Ok(filed_as) = EpisodeId::from_os(name) else {
            continue;
        };
        let reason = match record_files::reason(&folder) {
            Ok(reason) => reason,
            Err(error) => {
                let why = match error {
                    TreeError::Gone => WENT_AWAY.to_owned(),
                    error => format!("its reason cannot be read: {:#}", anyhow::Error::new(error)),
                };
                found.left.push(RequeueRow {
                    episode_id: filed_as,
                    from: Some(Origin::Quarantine),
                    status: None,
                    folder: Some(folder),
                    end: RequeueEnd::Left(why),
                });
                continue;
            }
        };
        let said = reason
            .as_ref()
            .and_then(|reason| EpisodeId::parse(reason.episode_id.as_deref()?).ok());
        let id = said.unwrap_or(filed_as);
        if is_wanted(options, &id, &folder) {
            let status = reason.as_ref().and_then(|reason| reason.status_code);
            found.candidates.push(Candidate {
                id,
                folder,
                status,
                record: FiledRecord::Rejected(reason),
            });
        }
    }
    Ok(())
}

fn in_conflict(options: &RequeueOptions, found: &mut RequeueCandidates) -> io::Result<()> {
    let layout = &options.layout;
    let ids = if options.ids.is_empty() {
        sidecars(&layout.outbox)?
    } else {
        options.ids.clone()
    };
    for id in ids {
        let sidecar = match record_files::sidecar(layout, &id) {
            Ok(sidecar) => sidecar,
            Err(error) => {
                let why = format!("{} cannot be read: {error}", shown(&layout.sidecar(&id)));
                let end = RequeueEnd::Left(why);
                found.left.push(RequeueRow {
                    episode_id: id,
                    from: None,
                    status: None,
                    folder: None,
                    end,
                });
                continue;
            }
        };
        if let Some(conflict) = sidecar.as_ref().and_then(|sidecar| sidecar.conflict()) {
            let (folder, status) = (layout.episode(&id), Some(conflict.status_code));
            found.candidates.push(Candidate {
                id,
                folder,
                status,
                record: FiledRecord::Conflict,
            });
        }
    }
    Ok(())
}

/// The episodes that were named, by their folders or themselves.
fn named_in_shipped(options: &RequeueOptions) -> Vec<EpisodeId> {
    let named = options.ids.iter();
    if options.by_folder {
        let shipped = &options.layout.shipped;
        named
            .filter_map(|name| whose(&shipped.join(name.as_str())))
            .collect()
    } else {
        named.cloned().collect()
    }
}

/// What the receiver is shown not to hold any more, and what is named and was written to since.
/// Whatever else the receiver says leaves the episode where it is.
async fn lost(
    options: &RequeueOptions,
    receiver: &ReceiverClient,
    progress: &Progress,
    found: &mut RequeueCandidates,
) -> io::Result<()> {
    let shipped = &options.layout.shipped;
    let ids = written_to(options, &named_in_shipped(options), found)?;
    if ids.is_empty() && !options.ids.is_empty() {
        return Ok(());
    }
    let asked = verify::VerifyOptions {
        shipped: shipped.clone(),
        deep: false,
        concurrency: options.concurrency.max(1),
    };
    let report = verify::verify(receiver, &ids, &asked, progress, |_| ()).await?;
    if let Some(why) = &report.unreachable {
        let why = format!(
            "no answer from the receiver: {}. Nothing was moved",
            printable(why)
        );
        return Err(io::Error::other(why));
    }
    if report.stopped {
        return Ok(());
    }
    let none_is_held = options.ids.is_empty() && report.held == 0;
    held(options, &ids, &report, progress, found)?;
    for row in report.rows {
        let Some(folder) = row.path else { continue };
        if !is_wanted(options, &row.episode_id, &folder) || is_taken(found, &folder) {
            continue;
        }
        let elsewhere = row.delivered_to.as_ref();
        let why = match (&row.verdict, elsewhere) {
            (VerifyVerdict::Missing, Some(elsewhere)) => format!(
                "it was delivered to {elsewhere}, and another receiver was asked. Ask that one, with --receiver; where it is no \
                 more, type: {}",
                unasked(options, &row.episode_id, &folder)
            ),
            (VerifyVerdict::Missing, None) if none_is_held => format!(
                "the receiver says that it holds nothing of all that was shipped: is this its address? Where it has really lost \
                 everything, name them: {}",
                options.command(&format!("requeue --from shipped {}", word(&row.episode_id)))
            ),
            (VerifyVerdict::Missing, None) => {
                match (ShippedFolder {
                    episode_id: row.episode_id.clone(),
                    path: folder.clone(),
                })
                .receipt()
                {
                    Ok(Some(receipt)) => {
                        let (id, status) = (row.episode_id, Some(receipt.status_code));
                        found.candidates.push(Candidate {
                            id,
                            folder,
                            status,
                            record: FiledRecord::Delivered(receipt),
                        });
                        continue;
                    }
                    Ok(None) | Err(_) => "its receipt cannot be read any more".to_owned(),
                }
            }
            (VerifyVerdict::Differs(why) | VerifyVerdict::CannotTell(why), _) => {
                let why = format!("it is not shown to be lost: {}", printable(why));
                let is_named = !options.ids.is_empty();
                if is_named && receipt_of_another_state(&folder, progress).is_some() {
                    let unasked = unasked(options, &row.episode_id, &folder);
                    format!("{why}. {MAY_BE_WRITTEN_TO}: {unasked}")
                } else {
                    why
                }
            }
            (
                VerifyVerdict::Held | VerifyVerdict::HeldRepacked | VerifyVerdict::Unreachable(_),
                _,
            ) => continue,
        };
        let (episode_id, from) = (row.episode_id, Some(Origin::Shipped));
        found.left.push(RequeueRow {
            episode_id,
            from,
            status: None,
            folder: Some(folder),
            end: RequeueEnd::Left(why),
        });
    }
    Ok(())
}

/// Where the receiver does not show that it keeps the first, half an episode would take the place
/// of the whole.
const MAY_BE_WRITTEN_TO: &str = "Its files' stamps are not those of what was delivered, and it was not seen to be written \
    to within the minute after its delivery. Where it was written to, and nothing is missing of it (a plain web server then holds it \
    in the place of what was delivered), type";

/// What is typed to send one again whatever the receiver says.
fn unasked(options: &RequeueOptions, id: &EpisodeId, folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    let which = if name == OsStr::new(id.as_str()) {
        word(id)
    } else {
        format!("--folder {}", text::word(name))
    };
    options.command(&format!("requeue --from shipped --unasked {which}"))
}

/// Takes what was named, and was read and told of as written to since: no answer of the receiver is
/// about that. Returns those of the named of which something is left to be asked about.
fn written_to(
    options: &RequeueOptions,
    ids: &[EpisodeId],
    found: &mut RequeueCandidates,
) -> io::Result<Vec<EpisodeId>> {
    let mut to_ask = Vec::new();
    for id in ids {
        for ShippedFolder { episode_id, path } in shipped_receipts::of(&options.layout.shipped, id)?
        {
            if !is_wanted(options, &episode_id, &path) {
                continue;
            }
            match record_files::receipt(&path) {
                Ok(Some(receipt)) if options.unasked || receipt.written_to_since == Some(true) => {
                    found.candidates.push(changed(episode_id, path, &receipt));
                }
                Ok(_) | Err(_) => to_ask.push(episode_id),
            }
        }
    }
    to_ask.dedup();
    Ok(to_ask)
}

fn changed(id: EpisodeId, folder: PathBuf, receipt: &ShippingReceipt) -> Candidate {
    Candidate {
        id,
        folder,
        status: Some(receipt.status_code),
        record: FiledRecord::WrittenTo,
    }
}

fn is_taken(found: &RequeueCandidates, folder: &Path) -> bool {
    found
        .candidates
        .iter()
        .any(|candidate| candidate.folder == folder)
}

/// Those that were named and are held: there is nothing to mend, unless they were written to since.
fn held(
    options: &RequeueOptions,
    ids: &[EpisodeId],
    report: &VerifyReport,
    progress: &Progress,
    found: &mut RequeueCandidates,
) -> io::Result<()> {
    for id in ids {
        for ShippedFolder { episode_id, path } in shipped_receipts::of(&options.layout.shipped, id)?
        {
            let is_in_the_report = report
                .rows
                .iter()
                .any(|row| row.path.as_ref() == Some(&path));
            if !is_in_the_report
                && is_wanted(options, &episode_id, &path)
                && !is_taken(found, &path)
            {
                if let Some(receipt) = receipt_of_another_state(&path, progress) {
                    found.candidates.push(changed(episode_id, path, &receipt));
                    continue;
                }
                let end = RequeueEnd::Left(
                    "the receiver holds it: there is nothing to send again".to_owned(),
                );
                let (from, folder) = (Some(Origin::Shipped), Some(path));
                found.left.push(RequeueRow {
                    episode_id,
                    from,
                    status: None,
                    folder,
                    end,
                });
            }
        }
    }
    Ok(())
}

/// Its receipt, where the stamps of what stands beside it are not those of what was delivered.
/// Where they were only touched, or it was copied here, sending it again costs one upload that is
/// answered 200.
fn receipt_of_another_state(folder: &Path, progress: &Progress) -> Option<ShippingReceipt> {
    let receipt = record_files::receipt(folder).ok().flatten()?;
    let then = receipt.fingerprint?;
    matches!(tree::is_still(folder, then, progress), Ok(false)).then_some(receipt)
}

/// Whose receipt lies in this folder.
fn whose(folder: &Path) -> Option<EpisodeId> {
    record_files::receipt(folder)
        .ok()
        .flatten()
        .map(|receipt| receipt.episode_id)
}

fn is_wanted(options: &RequeueOptions, id: &EpisodeId, folder: &Path) -> bool {
    let is_named = |wanted: &EpisodeId| {
        if options.by_folder {
            is_called(folder, wanted)
        } else {
            wanted == id
        }
    };
    options.ids.is_empty() || options.ids.iter().any(is_named)
}

/// Whether a folder is the one of this name, in another letter case than it is listed where its
/// file system ignores that.
fn is_called(folder: &Path, name: &EpisodeId) -> bool {
    let listed = folder.file_name().unwrap_or_default();
    let inode = |path: &Path| {
        fs::symlink_metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino()))
    };
    listed == OsStr::new(name.as_str())
        || (is_same_in_any_case(listed, name.as_str())
            && inode(folder)
                .is_some_and(|found| inode(&folder.with_file_name(name.as_str())) == Some(found)))
}

/// The directories that may be wanted, sorted.
fn folders(folder: &Path, options: &RequeueOptions) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if options.ids.is_empty() {
        for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
            let entry = entry.map_err(|error| at(folder, &error))?;
            if !is_scratch(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
    }
    for id in &options.ids {
        let named = folder.join(id.as_str());
        if options.by_folder && fs::symlink_metadata(&named).is_ok_and(|found| found.is_dir()) {
            found.push(named);
            continue;
        }
        found.extend(
            record_files::filed_as(folder, id, &Progress::default())
                .map_err(|error| at(folder, &error))?,
        );
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn sidecars(outbox: &Path) -> io::Result<Vec<EpisodeId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(outbox).map_err(|error| at(outbox, &error))? {
        let entry = entry.map_err(|error| at(outbox, &error))?;
        if let OutboxName::Sidecar(id) = outbox_name(&entry.file_name()) {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}

fn at(folder: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("Failed to look through {}: {error}", shown(folder)),
    )
}

/// Why this one cannot come back as it is, and what to type; `None` where nothing is in the way.
pub(super) fn hindrance(layout: &Layout, candidate: &Candidate) -> Option<String> {
    match &candidate.record {
        FiledRecord::Rejected(Some(reason)) if reason.verdict.as_deref() == Some(ORPHAN) => {
            return Some(only_an_archive(reason, layout, &candidate.folder));
        }
        FiledRecord::Conflict => {
            let look = scan::look(&layout.episodes, &candidate.id);
            return (!matches!(look, FolderLook::Sealed(_))).then(|| {
                "it was in conflict, and is not sealed in episodes/ any more: what is sealed under its name is sent by itself"
                    .to_owned()
            });
        }
        FiledRecord::Rejected(_) | FiledRecord::Delivered(_) | FiledRecord::WrittenTo => {}
    }
    if is_gone(&candidate.folder) {
        return Some(WENT_AWAY.to_owned());
    }
    if fs::symlink_metadata(layout.episode(&candidate.id)).is_ok() {
        // Put back by another in this very moment, perhaps.
        return Some(if is_gone(&candidate.folder) {
            WENT_AWAY.to_owned()
        } else {
            name_is_taken(layout, candidate)
        });
    }
    let (parent, name) = (candidate.folder.parent()?, candidate.folder.file_name()?);
    match scan::look(parent, &EpisodeId::from_os(name).ok()?) {
        FolderLook::Sealed(_) => None,
        FolderLook::Gone => Some(WENT_AWAY.to_owned()),
        FolderLook::BeingRemoved => Some(IS_A_HALF.to_owned()),
        FolderLook::Unreadable(why) => Some(format!("it cannot be looked at: {}", printable(&why))),
        FolderLook::Open | FolderLook::OddMarker(_) => Some(format!(
            "it is not sealed ({MARKER} is missing, or no regular file), and would wait in episodes/ for ever. Seal it, and then type \
             this again. {TYPE}sealift seal --again {}",
            typed_path(&candidate.folder)
        )),
    }
}

/// Another process that puts back at the same time has moved it.
pub(super) const WENT_AWAY: &str = "it went away meanwhile: another process moved it";

/// Neither moved nor sealed: a half must not look like a whole.
const IS_A_HALF: &str = "it is being removed, or was when that was broken off: what is left of it is not the whole episode";

fn is_gone(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

pub(super) fn name_is_taken(layout: &Layout, candidate: &Candidate) -> String {
    format!(
        "{} is there already, and nothing is overwritten. Once that one has left, type this again",
        shown(&layout.episode(&candidate.id))
    )
}

/// The reason says what it is. What an earlier version named there to be typed is not shown.
fn only_an_archive(reason: &QuarantineReason, layout: &Layout, folder: &Path) -> String {
    let said = reason.error.as_deref().unwrap_or_default();
    let said = said.split(" To ship ").next().unwrap_or_default();
    let said = Some(said).filter(|said| said.len() <= MAX_SHOWN);
    format!(
        "it is an archive without its episode, which cannot be put back as it is. {} Where it is wanted, unpack it. {TYPE}sealift requeue \
         --unpack {}{}",
        printable(said.unwrap_or("Its quarantine_reason.json says more.")),
        text::word(folder.file_name().unwrap_or_default()),
        record_files::about(layout)
    )
}

#[cfg(test)]
mod tests;
