//! The name under which an episode comes back into `episodes/`: its own only while nothing has it
//! and nothing that left had it; else a receiver holds another recording under it by then, or is
//! about to.

use std::{fs, path::Path};

use crate::{
    disk::record_files,
    model::{
        episode::{EpisodeId, IdError},
        layout::Layout,
        progress::Progress,
    },
};

/// Where so many names are in use, a person has to find a free one alone.
const MAX_NUMBER: usize = 10_000;

/// The name under which what is in this place of `quarantine/` can come back. `None` where too many
/// are in use.
#[must_use]
pub(crate) fn name_for(
    layout: &Layout,
    id: &EpisodeId,
    place: &Path,
    may_be_its_own: bool,
) -> Option<EpisodeId> {
    if may_be_its_own && !is_used(layout, id, place) {
        return Some(id.clone());
    }
    let mut names = (1..MAX_NUMBER).map(|n| second_name(id.as_str(), n));
    names
        .find(|name| !is_taken(layout, name))
        .and_then(|name| EpisodeId::parse(&name).ok())
}

/// This name, numbered; shortened where it would be too long for an id.
#[must_use]
pub fn second_name(name: &str, n: usize) -> String {
    let mut kept = name;
    loop {
        let second = format!("{kept}-{n}");
        let Some((last, _)) = kept.char_indices().next_back() else {
            return second;
        };
        if EpisodeId::parse(&second) != Err(IdError::TooLong) {
            return second;
        }
        kept = &kept[..last];
    }
}

/// Whether something has this name, or had it and was shipped or put aside.
#[must_use]
pub(crate) fn is_taken(layout: &Layout, name: &str) -> bool {
    let folders = [&layout.episodes, &layout.shipped, &layout.quarantine];
    let archive = EpisodeId::parse(name).ok().map(|id| layout.archive(&id));
    let paths = folders
        .into_iter()
        .map(|folder| folder.join(name))
        .chain(archive);
    paths
        .into_iter()
        .any(|path| fs::symlink_metadata(path).is_ok())
}

/// Whether anything but what is in this place is an episode of that id. Where that cannot be seen,
/// it is.
#[must_use]
pub(crate) fn is_used(layout: &Layout, id: &EpisodeId, place: &Path) -> bool {
    let filed = |folder: &Path| record_files::filed_as(folder, id, &Progress::default());
    fs::symlink_metadata(layout.episode(id)).is_ok()
        || filed(&layout.shipped).map_or(true, |found| !found.is_empty())
        || filed(&layout.quarantine)
            .map_or(true, |found| found.iter().any(|folder| folder != place))
}

/// Whether a hidden name in `episodes/` is one of those that the commands that earlier versions
/// named made there for a while.
#[must_use]
pub(crate) fn is_made_for_a_while(name: &str) -> bool {
    let unpacked = name.strip_prefix(".unpacked-");
    let copied = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".copy"));
    unpacked.is_some_and(|rest| {
        rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }) || copied.is_some_and(|stem| !stem.is_empty() && !stem.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::episode::MAX_ID_BYTES;

    fn id(name: &str) -> EpisodeId {
        EpisodeId::parse(name).unwrap()
    }

    #[test]
    fn a_second_name_is_an_id_however_long_the_first_is() {
        assert_eq!(second_name("run-7", 2), "run-7-2");
        for name in [
            "x".repeat(MAX_ID_BYTES),
            "ä".repeat(MAX_ID_BYTES / 6),
            "a b".repeat(MAX_ID_BYTES / 5),
        ] {
            for n in [1, 9_999] {
                let second = second_name(&name, n);
                assert!(id(&second).as_str().ends_with(&format!("-{n}")), "{second}");
                assert_ne!(second, name);
            }
        }
    }

    #[test]
    fn what_stood_under_a_name_keeps_it_and_what_comes_back_gets_another() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        for folder in [
            &layout.episodes,
            &layout.shipped,
            &layout.quarantine,
            &layout.outbox,
        ] {
            fs::create_dir(folder).unwrap();
        }
        let place = layout.quarantine.join("a");
        fs::create_dir(&place).unwrap();
        let name = |may| name_for(&layout, &id("a"), &place, may).unwrap();
        assert_eq!((name(true), name(false)), (id("a"), id("a-1")));
        fs::create_dir(layout.episodes.join("a")).unwrap();
        assert_eq!(name(true), id("a-1"));
        for taken in [
            layout.shipped.join("a-1"),
            layout.quarantine.join("a-2"),
            layout.episodes.join("a-3"),
        ] {
            fs::create_dir(taken).unwrap();
        }
        fs::write(layout.archive(&id("a-4")), "").unwrap();
        assert_eq!(name(true), id("a-5"));
    }

    #[test]
    fn what_is_made_for_a_while_is_known_by_its_name() {
        for (name, is) in [
            (".unpacked-aB3dE6", true),
            (".run-7-1.copy", true),
            (".unpacked-", false),
            (".unpacked-aB3dE6-more", false),
            (".copy", false),
            ("run-7.copy", false),
            (".recording", false),
        ] {
            assert_eq!(is_made_for_a_while(name), is, "{name}");
        }
    }
}
