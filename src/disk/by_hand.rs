//! What is typed to bring an episode by hand under a name in `episodes/`: an archive alone out of
//! `quarantine/`, or a folder that has another name or place.
//!
//! ```text
//!  quarantine/<id>[~n]/<id>.tar.zst ──tar──▶ episodes/.unpacked-XXXXXX/<id>
//!                                              ──rename──▶ episodes/<name>
//! ```
//!
//! It is unpacked in `episodes/`, out of sight: `quarantine/` may be on another file system, and a
//! move from there would be a copy, in which the marker may be there before the rest. The name is
//! the episode's own only while nothing has it and nothing that left had it; else a receiver holds
//! another recording under it by then, or is about to.

use std::{fs, path::Path};

use crate::{
    disk::{filesystem, record_files},
    model::{
        episode::{EpisodeId, IdError},
        layout::Layout,
        progress::Progress,
        text::shell_word,
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
fn is_used(layout: &Layout, id: &EpisodeId, place: &Path) -> bool {
    let filed = |folder: &Path| record_files::filed_as(folder, id, &Progress::default());
    fs::symlink_metadata(layout.episode(id)).is_ok()
        || filed(&layout.shipped).map_or(true, |found| !found.is_empty())
        || filed(&layout.quarantine)
            .map_or(true, |found| found.iter().any(|folder| folder != place))
}

/// What is typed to bring back what is in the archive of an episode, in this place. It overwrites
/// nothing, says why where it stops, and leaves the archive where it is then. What is unpacked
/// belongs to the owner of the archive.
#[must_use]
pub(crate) fn restore(
    layout: &Layout,
    id: &EpisodeId,
    place: &Path,
    name: &EpisodeId,
    quoted: impl Fn(&Path) -> String,
) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (episodes, place) = (absolute(&layout.episodes), absolute(place));
    let archive = quoted(&place.join(layout.archive(id).file_name().unwrap_or_default()));
    let (to, shipped) = (
        quoted(&episodes.join(name.as_str())),
        quoted(&absolute(&layout.shipped).join(name.as_str())),
    );
    let scratch = quoted(&episodes.join(".unpacked-XXXXXX"));
    let (unpacked, episodes) = (
        format!("\"$d\"/{}", quoted(Path::new(id.as_str()))),
        quoted(&episodes),
    );
    [
        format!("{{ test ! -e {to} && test ! -e {shipped} || ! echo {to} 'or that in shipped/ is there by now: ask sealift doctor again' >&2; }}"),
        format!("d=$(mktemp -d {scratch})"),
        format!("tar --zstd -xf {archive} -C \"$d\""),
        format!("chown -hR --reference={archive} {unpacked}"),
        "sync -f \"$d\"".to_owned(),
        format!("mv -nT {unpacked} {to}"),
        // mv -n is silent where it did nothing; what it left is in the way here.
        "rmdir \"$d\"".to_owned(),
        format!("sync -f {episodes}"),
        format!("rm -r {}", quoted(&place)),
    ]
    .join(" && ")
}

/// How a folder is brought under a name in `episodes/` without us: a command where mv(1) renames
/// it. Else mv(1) would copy it entry by entry, and the marker might come before the rest.
#[must_use]
pub(crate) fn moved(from: &Path, to: &Path) -> String {
    let (source, target) = (shell_word(from), shell_word(to));
    if let (Some(here), Some(there)) = (from.parent(), to.parent())
        && is_renamed(here, there)
    {
        return format!("mv -nT {source} {target}");
    }
    format!(
        "cp -aT {source} to a hidden name beside {target}, and go on as docs/operations.md#copies-by-hand says"
    )
}

/// Whether a folder in `from` gets its name in `to` by a rename. Where that cannot be told, it does
/// not.
#[must_use]
fn is_renamed(from: &Path, to: &Path) -> bool {
    let renames = |folder: &Path| filesystem::renames_folders(folder);
    match (filesystem::ground(from), filesystem::ground(to)) {
        (Ok(here), Ok(there)) => here.is_renamed_to(there) && renames(from) && renames(to),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// Whether a hidden name in `episodes/` is one of those that what is typed makes there for a while
/// ([`restore`]), or that an earlier version's commands made.
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
    fn only_what_a_rename_moves_is_moved_by_mv_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_renamed(folder.path(), folder.path()));
        assert!(!is_renamed(folder.path(), Path::new("/proc")));
        assert!(!is_renamed(
            folder.path(),
            &folder.path().join("is not there")
        ));
        let (from, to) = (folder.path().join("a b"), folder.path().join("c"));
        let (source, target) = (shell_word(&from), shell_word(&to));
        assert_eq!(moved(&from, &to), format!("mv -nT {source} {target}"));
        assert!(moved(&from, Path::new("/proc/a")).contains("docs/operations.md#copies-by-hand"));
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
