//! What is in `episodes/` and the outbox.

use std::{ffi::CString, path::Path};

use super::{DISK, folders::last_written, within};
use crate::{
    episode::{EpisodeId, Look},
    layout::Layout,
    manifest,
    operate::doctor::facts::{Episode, Episodes, Stranger},
    progress::Progress,
    records::{Sidecar, WallTime},
    scan, tree,
};

/// So many files are looked at for when something was last written, all in all.
const MAX_LOOKS: usize = 20_000;
/// So many markers that hold something are read.
const MAX_MARKERS: usize = 200;
/// A longer one is not read here; packing will.
const MAX_MARKER_BYTES: u64 = 1 << 20;
/// A sidecar is some hundred bytes.
const MAX_SIDECAR_BYTES: u64 = 64 << 10;

pub(super) async fn look(layout: Option<&Layout>) -> Option<Episodes> {
    let layout = layout?.clone();
    within(DISK, move || look_now(&layout)).await?
}

fn look_now(layout: &Layout) -> Option<Episodes> {
    let scan = scan::scan(layout, &Progress::default()).ok()?;
    let (mut looks, mut markers) = (MAX_LOOKS, MAX_MARKERS);
    let mut found = Episodes { folder: layout.episodes.clone(), ..Episodes::default() };
    for (id, look) in scan.episodes {
        let folder = layout.episode(&id);
        let since = match &look {
            Look::Sealed(stamp) => Some(WallTime::from_unix_seconds(stamp.made_ns / 1_000_000_000)),
            Look::Open => last_written(&folder, &mut looks),
            Look::Gone | Look::OddMarker(_) | Look::Unreadable(_) => None,
        };
        let holds_something = matches!(&look, Look::Sealed(stamp) if stamp.written_ns != 0);
        let bad_marker = if holds_something && markers > 0 {
            markers -= 1;
            bad_marker(&folder)
        } else {
            None
        };
        if matches!(look, Look::Sealed(_))
            && let Some(why) = conflict(layout, &id)
        {
            found.conflicts.push((id.clone(), why));
        }
        found.episodes.push(Episode { id, look, since, bad_marker });
    }
    let strangers = scan.strangers.into_iter();
    found.strangers =
        strangers.map(|it| Stranger { name: it.name, why: it.why, sealed: it.sealed }).collect();
    Some(found)
}

fn bad_marker(folder: &Path) -> Option<String> {
    match tree::read_top(folder, c"done.marker", MAX_MARKER_BYTES) {
        Ok(Some(bytes)) if bytes.len() as u64 <= MAX_MARKER_BYTES => {
            manifest::parse(&bytes).err().map(|error| error.to_string())
        }
        Ok(_) => None,
        Err(error) => Some(format!("{:#}", anyhow::Error::new(error))),
    }
}

/// What the receiver said, where the sidecar remembers that it holds other content.
fn conflict(layout: &Layout, id: &EpisodeId) -> Option<String> {
    let path = layout.sidecar(id);
    let name = CString::new(path.file_name()?.as_encoded_bytes()).ok()?;
    let bytes = tree::read_top(&layout.outbox, &name, MAX_SIDECAR_BYTES).ok()??;
    let sidecar: Sidecar = serde_json::from_slice(&bytes).ok()?;
    let verdict = sidecar.verdict.filter(|verdict| verdict.verdict == "conflict")?;
    (sidecar.episode_id == *id).then_some(verdict.detail)
}
