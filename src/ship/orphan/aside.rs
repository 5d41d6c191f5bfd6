//! An archive that nothing accounts for is put aside, in a folder of its own, with a reason that
//! says what it is and what to type.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    disk::{by_hand, durable, lookup::if_there, record_files, tree::shown},
    model::{
        episode::EpisodeId,
        layout::{Layout, numbered},
        progress::Progress,
        records::{LAST_COPY, NOTHING_ELSE, ORPHAN, QuarantineReason, RecordedVerdict, WallTime},
        text::{foreign_command, typed_path, word},
    },
    ship::outbox,
};

/// Why it was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is not known where its episode is.
    LastCopy,
    /// Its episode was changed or replaced since, and that stands under its name.
    Changed,
    /// It was in conflict (what the receiver said), and the operator took the episode away, as they
    /// were told to.
    RemovedByHand(String),
    /// It has no bytes.
    Empty,
    /// It does not begin like an archive.
    NoArchive,
}

/// Looks at what an archive begins with, at what stands under its name, and at what was known of
/// it.
pub(super) fn why(
    layout: &Layout,
    id: &EpisodeId,
    conflict: Option<&RecordedVerdict>,
) -> io::Result<Why> {
    let archive = outbox::open_archive(&layout.archive(id))?.ok_or(io::ErrorKind::NotFound)?;
    Ok(match (archive.metadata()?.len(), conflict) {
        (0, _) => Why::Empty,
        _ if !outbox::begins_like_an_archive(&archive)? => Why::NoArchive,
        // What is there was not taken away.
        _ if is_there(&layout.episode(id))? => Why::Changed,
        (_, Some(conflict)) => Why::RemovedByHand(conflict.detail.clone()),
        (_, None) => Why::LastCopy,
    })
}

/// Moves an archive, and the sidecar where there is one, into a folder of their own in
/// `quarantine/`, and says so. Returns where that is. What was in the outbox is still there.
pub(super) fn put_aside(
    layout: &Layout,
    id: &EpisodeId,
    why: &Why,
    now: WallTime,
    progress: &Progress,
) -> io::Result<PathBuf> {
    let name = layout
        .archive(id)
        .file_name()
        .unwrap_or_default()
        .to_os_string();
    // The reason names the place, and is written before the place has its name. No other process
    // gives names there.
    let place = first_free(&layout.quarantine, id.as_str());
    let reason = QuarantineReason {
        episode_id: Some(id.as_str().to_owned()),
        status_code: None,
        error: Some(explain(layout, id, &place, why)),
        body: serde_json::Value::Null,
        verdict: Some(ORPHAN.to_owned()),
        quarantined_at_wall: Some(now),
        aging: None,
    };
    let fill = |scratch: &Path| {
        durable::place_file(&layout.archive(id), &scratch.join(&name), progress)?;
        let sidecar = layout.sidecar(id);
        if is_there(&sidecar)? {
            let name = sidecar.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            durable::place_file(&sidecar, &scratch.join(name), progress)?;
        }
        record_files::write_reason(scratch, &reason, &layout.spares(&layout.quarantine))
    };
    let place = durable::build_directory(&layout.quarantine, id.as_str(), fill, progress)?;
    match why {
        Why::RemovedByHand(_) => tracing::info!(
            EPISODE = %id,
            "The archive of {id}, which was in conflict and whose folder was removed by hand, was moved to {}. Remove it where \
             it is not wanted.",
            place.display()
        ),
        Why::LastCopy | Why::Changed | Why::Empty | Why::NoArchive => {
            let why = explain(layout, id, &place, why);
            tracing::warn!(EPISODE = %id, "The archive of {id} was moved to {}: {why}", place.display());
        }
    }
    Ok(place)
}

/// What it is, and what to type.
fn explain(layout: &Layout, id: &EpisodeId, place: &Path, why: &Why) -> String {
    let shown_name = shown(Path::new(
        layout.archive(id).file_name().unwrap_or_default(),
    ));
    let remove = || {
        let place = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
        foreign_command(&place, |place| format!("rm -r {place}"))
    };
    let restore = |what: &str, may_be_its_own: bool| match by_hand::name_for(
        layout,
        id,
        place,
        may_be_its_own,
    ) {
        Some(name) => {
            let under = if name == *id {
                String::new()
            } else {
                format!(" under the name {name}")
            };
            format!(
                "To ship {what}{under}, type: sealift requeue --unpack {}{}",
                word(place.file_name().unwrap_or_default()),
                data_option(layout)
            )
        }
        None => {
            format!("To ship {what}, unpack it under a name that is free (requeue --unpack, --as)")
        }
    };
    match why {
        Why::LastCopy => format!(
            "The archive {shown_name} was found in outbox/ without its episode as it was packed (that was taken away), and neither \
             shipped/ nor quarantine/ accounts for it: {LAST_COPY}. Nothing was delivered or deleted. {}",
            restore("the episode again", true)
        ),
        Why::Changed => format!(
            "The archive {shown_name} in outbox/ is what {id} was before it was changed or replaced. What stands there now is \
             shipped by itself; {NOTHING_ELSE}. Nothing of it was deleted. {}   Where it is not wanted, type: {}",
            restore("it as well", false),
            remove(),
        ),
        Why::RemovedByHand(said) => format!(
            "{shown_name} was in conflict ({said}), and its folder was removed by hand. This is its archive, kept in case that \
             it is wanted. {}   Where it is not wanted, type: {}",
            restore("it", false),
            remove(),
        ),
        Why::Empty => format!(
            "{shown_name} was found in outbox/ without its episode, and is an empty file: there is nothing to restore from it. \
             Remove it: {}",
            remove()
        ),
        Why::NoArchive => format!(
            "{shown_name} was found in outbox/ without an episode, and is no archive that can be read (it does not begin like \
             one). Look at it, and remove it: {}",
            remove()
        ),
    }
}

/// What a command of ours needs so that it means these folders, where an option says it.
fn data_option(layout: &Layout) -> String {
    let data = layout.private.parent();
    data.filter(|data| Layout::below(data) == *layout)
        .map(|data| format!(" --data {}", typed_path(data)))
        .unwrap_or_default()
}

fn first_free(folder: &Path, name: &str) -> PathBuf {
    let mut n = 0;
    loop {
        let path = folder.join(numbered(name, n));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
        n += 1;
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    Ok(if_there(fs::symlink_metadata(path))?.is_some())
}
