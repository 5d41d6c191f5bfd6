//! What there is of an episode in the four folders.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    disk::{
        lookup::if_there,
        record_files, scan,
        tree::{self, Kind, TreeError, shown},
    },
    model::{
        episode::{EpisodeId, FolderLook, Stamp},
        layout::{Layout, without_number},
        progress::Progress,
        records::{QuarantineReason, ShippingReceipt, Sidecar},
    },
};

/// So many names are compared with one that is not known.
const MAX_NAMES: usize = 20_000;
/// Names that are less alike are no slip of the hand.
const ALIKE: f64 = 0.85;

/// Something of an episode.
#[derive(Debug, Clone)]
pub(crate) enum TraceFinding {
    /// Its folder in `episodes/`.
    Episode(PathBuf, FolderLook),
    /// Its archive in `outbox/`, and what is known of that.
    Archive {
        /// Where.
        path: PathBuf,
        /// Its length.
        size_bytes: u64,
        /// When it was last written to, microseconds after 1970.
        written_us: i64,
        /// It is being packed, or was when the process that packed it was killed.
        partial: bool,
        /// What lies beside it.
        sidecar: Option<Box<Sidecar>>,
    },
    /// A folder in `quarantine/`.
    Quarantined(PathBuf, Option<Stamp>, Option<Box<QuarantineReason>>),
    /// A folder in `shipped/`.
    Shipped {
        /// Where.
        path: PathBuf,
        /// Of its marker.
        stamp: Option<Stamp>,
        /// Ours.
        receipt: Option<Box<ShippingReceipt>>,
        /// All its files together; `None` where they cannot be added up.
        content_bytes: Option<u64>,
    },
}

impl TraceFinding {
    /// Where.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Episode(path, _)
            | Self::Archive { path, .. }
            | Self::Quarantined(path, ..)
            | Self::Shipped { path, .. } => path,
        }
    }
}

/// What came of looking.
#[derive(Debug, Default)]
pub(super) struct TraceSearch {
    pub(super) found: Vec<TraceFinding>,
    /// Where that is nothing, the name that is most like it.
    pub(super) nearest: Option<EpisodeId>,
    /// What could not be looked at, in words.
    pub(super) unread: Vec<String>,
}

/// What there is. Blocks.
pub(super) fn look(layout: &Layout, id: &EpisodeId) -> TraceSearch {
    let (found, unread) = look_everywhere(layout, id);
    let nearest = if found.is_empty() {
        nearest(layout, id)
    } else {
        None
    };
    TraceSearch {
        found,
        nearest,
        unread,
    }
}

fn look_everywhere(layout: &Layout, id: &EpisodeId) -> (Vec<TraceFinding>, Vec<String>) {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    match scan::look(&layout.episodes, id) {
        FolderLook::Gone => {}
        // Where not even its name can be looked up, nothing is known of it.
        FolderLook::Unreadable(why) if fs::symlink_metadata(layout.episode(id)).is_err() => {
            unread.push(why);
        }
        look => found.push(TraceFinding::Episode(layout.episode(id), look)),
    }
    for (path, partial) in [(layout.archive(id), false), (layout.partial(id), true)] {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                let sidecar = if partial {
                    Ok(None)
                } else {
                    record_files::sidecar(layout, id)
                };
                let sidecar = noted(sidecar, &layout.sidecar(id), &mut unread)
                    .flatten()
                    .map(Box::new);
                let (size_bytes, written_us) = (metadata.len(), written_us(&metadata));
                found.push(TraceFinding::Archive {
                    path,
                    size_bytes,
                    written_us,
                    partial,
                    sidecar,
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unread.push(format!("{}: {error}", shown(&path))),
        }
    }
    let folders = |folder: &Path| {
        if_there(record_files::filed_as(folder, id, &Progress::default()))
            .map(Option::unwrap_or_default)
    };
    for path in
        noted(folders(&layout.quarantine), &layout.quarantine, &mut unread).unwrap_or_default()
    {
        let reason = noted(
            record_files::reason(&path).map_err(io::Error::other),
            &path,
            &mut unread,
        )
        .flatten();
        let named = reason.as_ref().and_then(|reason| reason.episode_id.clone());
        if is_of(&path, named.as_deref(), id) {
            let stamp = stamp(&layout.quarantine, &path);
            found.push(TraceFinding::Quarantined(path, stamp, reason.map(Box::new)));
        }
    }
    for path in noted(folders(&layout.shipped), &layout.shipped, &mut unread).unwrap_or_default() {
        let receipt = noted(
            record_files::receipt(&path).map_err(io::Error::other),
            &path,
            &mut unread,
        )
        .flatten();
        if is_of(
            &path,
            receipt.as_ref().map(|receipt| receipt.episode_id.as_str()),
            id,
        ) {
            let (stamp, content_bytes) = (stamp(&layout.shipped, &path), content_bytes(&path).ok());
            found.push(TraceFinding::Shipped {
                path,
                stamp,
                receipt: receipt.map(Box::new),
                content_bytes,
            });
        }
    }
    (found, unread)
}

fn noted<T>(read: io::Result<T>, path: &Path, unread: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| unread.push(format!("{}: {error}", shown(path))))
        .ok()
}

/// A folder `<id>~1` is the episode's where its record says so; without a record it is called what
/// it is called.
fn is_of(path: &Path, named: Option<&str>, id: &EpisodeId) -> bool {
    let own_name = path.file_name().and_then(|name| name.to_str());
    named.or(own_name) == Some(id.as_str())
}

fn stamp(folder: &Path, path: &Path) -> Option<Stamp> {
    match scan::look(folder, &EpisodeId::from_os(path.file_name()?).ok()?) {
        FolderLook::Sealed(stamp) => Some(stamp),
        _ => None,
    }
}

fn content_bytes(episode: &Path) -> Result<u64, TreeError> {
    let mut bytes = 0_u64;
    tree::walk(episode, &Progress::default(), |entry| {
        if let Kind::File(_) = entry.kind {
            bytes = bytes.saturating_add(entry.stat.size_bytes);
        }
        Ok::<(), TreeError>(())
    })?;
    Ok(bytes)
}

fn written_us(metadata: &Metadata) -> i64 {
    metadata
        .mtime()
        .saturating_mul(1_000_000)
        .saturating_add(metadata.mtime_nsec() / 1000)
}

/// The name that is most like this one among those that are there.
fn nearest(layout: &Layout, id: &EpisodeId) -> Option<EpisodeId> {
    let folders = [&layout.episodes, &layout.shipped, &layout.quarantine];
    let names = folders
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let ids = names.take(MAX_NAMES).filter_map(|entry| {
        let name = entry.file_name();
        EpisodeId::parse(without_number(name.to_str()?)).ok()
    });
    let alike = |other: &EpisodeId| strsim::jaro_winkler(id.as_str(), other.as_str());
    let likeliest = ids.max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&likeliest) >= ALIKE).then_some(likeliest)
}
