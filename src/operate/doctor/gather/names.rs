//! Which names are taken, of those that what has to be renamed may be given.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{DISK, within};
use crate::{
    disk::by_hand::{is_made_for_a_while, is_taken, second_name},
    model::{layout::Layout, records::WallTime},
    operate::doctor::{facts::EpisodesFacts, words::tame},
};

/// So many are renamed by the fixes that are shown.
const MAX_RENAMED: usize = 20;
/// Where a name is used more often, the operator has to find a free one alone.
const MAX_NUMBER: usize = 10_000;

/// A name that an episode had which was shipped is not free: the receiver holds that under it.
pub(super) async fn look(layout: Option<&Layout>, episodes: &mut Option<EpisodesFacts>) {
    let (Some(layout), Some(found)) = (layout.cloned(), episodes) else {
        return;
    };
    let folder = layout.episodes.clone();
    found.broken_off = within(DISK, move || made_for_a_while(&folder))
        .await
        .unwrap_or_default();
    let mut wanted = BTreeMap::<String, usize>::new();
    let strangers = found.strangers.iter().map(|stranger| tame(&stranger.name));
    let conflicts = found.conflicts.iter().map(|(id, _)| id.as_str().to_owned());
    for name in strangers.chain(conflicts.take(MAX_RENAMED)) {
        *wanted.entry(name).or_default() += 1;
    }
    if wanted.is_empty() {
        return;
    }
    found.taken = within(DISK, move || taken(&layout, &wanted))
        .await
        .unwrap_or_default();
}

fn made_for_a_while(episodes: &Path) -> Vec<(String, WallTime)> {
    let entries = fs::read_dir(episodes).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| is_made_for_a_while(name))?;
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_dir)?;
            Some((name, WallTime::from_unix_seconds(metadata.mtime())))
        })
        .collect();
    found.sort();
    found
}

/// Numbered, until as many are free as are wanted.
fn taken(layout: &Layout, wanted: &BTreeMap<String, usize>) -> std::collections::HashSet<String> {
    let mut taken = std::collections::HashSet::new();
    for (name, wanted) in wanted {
        let mut free = 0;
        for name in (1..MAX_NUMBER).map(|n| second_name(name, n)) {
            if free == *wanted {
                break;
            }
            if is_taken(layout, &name) {
                taken.insert(name);
            } else {
                free += 1;
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shipped_or_put_aside_has_its_name_still() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        for path in [
            layout.shipped.join("a-1"),
            layout.quarantine.join("a-2"),
            layout.episodes.join("a-4"),
            layout.shipped.join("b-2"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        fs::create_dir_all(&layout.outbox).unwrap();
        fs::write(layout.outbox.join("a-3.tar.zst"), "").unwrap();
        let taken = taken(
            &layout,
            &BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]),
        );
        let expected = ["a-1", "a-2", "a-3", "a-4"].map(str::to_owned);
        assert_eq!(taken, expected.into());
    }
}
