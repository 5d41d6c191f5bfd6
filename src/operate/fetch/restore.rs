//! A whole archive is compared with what was said of it, unpacked out of sight, compared again, and
//! given its name.

use super::{
    FetchError, FetchEvent, FetchOptions, Fetched, KeptDownload, Tell, Verified, answer::Described,
    not_as_shipped, room_bytes, scratch::DownloadScratch,
};
use crate::{
    disk::{durable, tree::shown},
    model::{episode::EpisodeId, progress::Progress, text::foreign_command},
    operate::unpack::{self, Limits, UnpackError, Unpacked},
};

/// From the scratch file to `<folder>/<id>`.
///
/// # Errors
/// [`FetchError`]. The archive stays for the next run where that could end better.
pub(super) fn restore(
    scratch: DownloadScratch,
    id: &EpisodeId,
    options: &FetchOptions,
    progress: &Progress,
    tell: &Tell,
) -> Result<Fetched, FetchError> {
    let in_folder = |cause| FetchError::Disk {
        path: options.folder.clone(),
        cause,
    };
    let sha256 = scratch.sha256();
    let described = scratch.described().cloned();
    let said = described.as_ref();
    // An earlier run may have been allowed to, and left it whole: this one is asked anew.
    let digests = said.and_then(|said| said.sha256.or(said.content_sha256));
    if digests.is_none() && options.receipts.is_empty() && !options.unverified {
        return Err(FetchError::Unverifiable);
    }
    if let Some(stated) = said
        .and_then(|said| said.sha256)
        .filter(|stated| *stated != sha256)
    {
        scratch.discard().map_err(in_folder)?;
        return Err(FetchError::Damaged {
            found: sha256,
            stated,
        });
    }
    let mut verified = Verified {
        archive: said.is_some_and(|said| said.sha256.is_some()),
        ..Verified::default()
    };

    let room = room_bytes(&options.folder).map_err(in_folder)?;
    let limits = Limits {
        max_bytes: options.max_bytes.min(room),
        is_room: room < options.max_bytes,
    };
    let archive = scratch.reader().map_err(in_folder)?;
    let mut unpacked = None;
    let mut failed = None;
    // What is removed after a failure is removed to the end, also where it was a request to stop.
    let removal = Progress::default();
    // Nothing else unpacks it here: the scratch of the download is locked.
    durable::clear_unbuilt(&options.folder, id.as_str(), &removal).map_err(in_folder)?;
    let built = durable::build_directory(
        &options.folder,
        id.as_str(),
        |into| {
            let observe = |bytes| tell(FetchEvent::Unpacked { bytes });
            let result = unpack::unpack(archive, id, into, limits, progress, &observe)
                .map_err(Failed::Unpack)
                .and_then(|found| compare(&found, said, options, &mut verified).map(|()| found));
            match result {
                Ok(found) => unpacked = Some(found),
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                Err(std::io::ErrorKind::Other.into())
            } else {
                Ok(())
            }
        },
        &removal,
    );
    match (built, unpacked, failed) {
        (Ok(path), Some(unpacked), _) => {
            let fetched = Fetched {
                path,
                size_bytes: scratch.len_bytes(),
                sha256,
                content_sha256: unpacked.content_sha256,
                files: unpacked.files,
                verified,
            };
            // It is restored and stands there: what cannot be removed now is no reason to say
            // otherwise.
            if let Err(error) = scratch.discard() {
                tracing::warn!("what was fetched cannot be removed: {error}");
            }
            Ok(fetched)
        }
        (_, _, Some(Failed::Content(why))) => {
            scratch.discard().map_err(in_folder)?;
            Err(FetchError::OtherContent(why))
        }
        (_, _, Some(Failed::Unpack(UnpackError::Cancelled(_)))) => Err(FetchError::Stopped {
            kept: KeptDownload {
                bytes: scratch.len_bytes(),
                path: scratch.path().to_owned(),
            },
        }),
        (_, _, Some(Failed::Unpack(source))) => {
            Err(not_unpacked(source, scratch, verified.archive))
        }
        (Err(source), _, None) => Err(in_folder(source)),
        (Ok(_), None, None) => Err(in_folder(std::io::ErrorKind::Other.into())),
    }
}

enum Failed {
    Unpack(UnpackError),
    Content(String),
}

fn compare(
    found: &Unpacked,
    said: Option<&Described>,
    options: &FetchOptions,
    verified: &mut Verified,
) -> Result<(), Failed> {
    let content = found.content_sha256;
    if let Some(stated) = said.and_then(|said| said.content_sha256) {
        if stated != content {
            let why = format!("what is inside hashes to {content}, and the receiver says {stated}");
            return Err(Failed::Content(why));
        }
        verified.content = true;
    }
    if let Some(why) = not_as_shipped(&options.receipts, content) {
        return Err(Failed::Content(why));
    }
    verified.receipt = !options.receipts.is_empty();
    Ok(())
}

/// An archive that is what the receiver holds stays: with more room, or by hand, it may be of use.
/// Another may be damaged, and the next run shall begin anew.
fn not_unpacked(source: UnpackError, scratch: DownloadScratch, is_as_stated: bool) -> FetchError {
    let path = shown(scratch.path());
    let remove = foreign_command(scratch.path(), |path| format!("rm {path}"));
    let archive = match &source {
        UnpackError::TooLarge(_) | UnpackError::Write { .. } | UnpackError::Cancelled(_) => {
            format!("The archive stays as {path}, and the same command goes on with it")
        }
        _ if is_as_stated => {
            format!(
                "That is how the receiver holds it, so to fetch it again changes nothing. The archive stays as {path}, to be \
                 looked at by hand; when you are done, type: {remove}"
            )
        }
        _ => match scratch.discard() {
            Ok(()) => "What arrived is thrown away".to_owned(),
            Err(error) => format!("What arrived cannot be removed: {error}. Type: {remove}"),
        },
    };
    FetchError::Unpack {
        cause: source,
        archive,
    }
}
