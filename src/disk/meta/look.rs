//! The commit in the `meta.json` of an episode's folder, or what keeps it from being read.

use std::{fs, path::Path};

use super::{MAX_META_BYTES, MetaFault, commit};
use crate::{
    disk::tree::{self, TreeError},
    model::{episode::Commit, layout::META, text::printable},
};

/// What the episode in a folder says of the code that recorded it; `Ok(None)` where nothing in it
/// is called anything like it.
///
/// # Errors
/// Those of reading it.
pub(crate) fn look(episode: &Path) -> Result<Result<Option<Commit>, MetaFault>, TreeError> {
    match tree::read_top(episode, c"meta.json", MAX_META_BYTES)? {
        Some(meta) if meta.len() as u64 > MAX_META_BYTES => Ok(Err(MetaFault::TooLong)),
        Some(meta) => Ok(commit(&meta)),
        None if fs::symlink_metadata(episode.join(META)).is_ok() => Ok(Err(MetaFault::NoFile)),
        None => Ok(other_name(episode).map_or(Ok(None), |name| Err(MetaFault::OtherName(name)))),
    }
}

fn other_name(episode: &Path) -> Option<String> {
    let names = fs::read_dir(episode)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name());
    let mut names = names.filter_map(|name| name.into_string().ok());
    names
        .find(|name| name.eq_ignore_ascii_case(META))
        .map(|name| printable(&name))
}
