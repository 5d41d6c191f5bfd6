//! What the folders say, whether or not a daemon runs.

use std::{collections::HashSet, io};

use serde::Serialize;

use crate::operate::words;
use crate::{
    disk::{filesystem, record_files, reused_names, scan, shipped_lately::ShippedLately},
    model::{
        episode::{EpisodeId, FolderLook},
        layout::Layout,
        progress::Progress,
        records::WallTime,
        snapshot::{MAX_STRANGERS, RoomStatus, Snapshot, Strangers},
        text::printable,
    },
};

/// What the folders say.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Folders {
    /// What is in `episodes/` and the outbox. A daemon knows better: looked for only where none
    /// answers.
    pub found: Option<FolderCounts>,
    /// How many are in `quarantine/`; `None` where that could not be looked at.
    pub quarantined: Option<u64>,
    /// How many were moved to `shipped/` since midnight, UTC; `None` where that could not be looked
    /// at.
    pub shipped_today: Option<u64>,
    /// Their archives' length, bytes.
    pub shipped_today_bytes: Option<u64>,
    /// The file systems that the folders are on. How fast they fill a daemon knows.
    pub room: Vec<RoomStatus>,
    /// Names in `episodes/` under which an episode was shipped within the day; a few of them.
    pub reused_names: Vec<String>,
    /// What could not be looked at, in words.
    pub failed: Vec<String>,
}

/// What is in `episodes/` and the outbox.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct FolderCounts {
    /// Episodes that are not sealed.
    pub open: u64,
    /// Sealed ones.
    pub sealed: u64,
    /// Of these, those that are packed already.
    pub packed: u64,
    /// Of these, those that are in conflict, as was last noted beside the archive.
    pub conflict: u64,
    /// Archives in the outbox that have no episode beside them.
    pub archives_without_episode: u64,
    /// Those that cannot be looked at, or whose marker is none; a few of them in words.
    pub unclear: Vec<String>,
    /// What can be no episode.
    pub strangers: Strangers,
}

impl Folders {
    /// What a daemon has looked at itself.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let filed = snapshot.filed.clone();
        Self {
            quarantined: filed.quarantined,
            shipped_today: filed.shipped_today,
            shipped_today_bytes: filed.shipped_today_bytes,
            reused_names: filed.reused_names,
            failed: filed.failed,
            ..Self::default()
        }
    }
}

/// Where no daemon answers. Blocks.
pub(super) fn look(
    layout: &Layout,
    now: WallTime,
    lately: &mut ShippedLately,
    progress: &Progress,
) -> Folders {
    let mut folders = Folders::default();
    match found(layout, progress) {
        Ok(found) => folders.found = Some(found),
        Err(error) => folders.failed.push(printable(&error.to_string())),
    }
    let rooms = filesystem::rooms(&layout.named());
    folders.room = rooms.into_iter().map(|(_, room)| room).collect();
    let reused = reused_names::in_episodes(layout, now, |_| true);
    folders.reused_names = reused.iter().map(|id| id.as_str().to_owned()).collect();
    match scan::count_episodes(&layout.quarantine) {
        Ok(count) => folders.quarantined = Some(count),
        Err(error) => folders.failed.push(error),
    }
    match lately.look(&layout.shipped, now) {
        Ok(()) => {
            let (count, bytes) = lately.today(now);
            folders.shipped_today = Some(count);
            folders.shipped_today_bytes = Some(bytes);
        }
        Err(error) => folders.failed.push(error),
    }
    folders
}

fn found(layout: &Layout, progress: &Progress) -> io::Result<FolderCounts> {
    let scan = scan::scan(layout, progress)?;
    let mut found = FolderCounts::default();
    for (_, look) in &scan.episodes {
        match look {
            FolderLook::Open => found.open += 1,
            FolderLook::Sealed(_) => found.sealed += 1,
            FolderLook::OddMarker(_) => found.open += 1,
            FolderLook::Unreadable(_) | FolderLook::BeingRemoved | FolderLook::Gone => {}
        }
    }
    let sealed = scan
        .episodes
        .iter()
        .filter(|(_, look)| matches!(look, FolderLook::Sealed(_)));
    let sealed: HashSet<_> = sealed.map(|(id, _)| id).collect();
    for id in &scan.archives {
        if sealed.contains(id) {
            found.packed += 1;
            found.conflict += u64::from(is_conflict(layout, id));
        }
    }
    for id in scan.noted.iter().filter(|id| sealed.contains(id)) {
        found.conflict += u64::from(is_conflict(layout, id));
    }
    found.archives_without_episode = scan.without_episode().count() as u64;
    found.strangers = scan.strangers_shown();
    found.unclear = scan.unclear();
    let is_rest = |look: &FolderLook| matches!(look, FolderLook::BeingRemoved);
    let rests = scan.episodes.iter().filter(|(_, look)| is_rest(look));
    let rests = rests.map(|(id, _)| words::being_removed(id));
    found.unclear.extend(rests.take(MAX_STRANGERS));
    Ok(found)
}

fn is_conflict(layout: &Layout, id: &EpisodeId) -> bool {
    let sidecar = record_files::sidecar(layout, id).ok().flatten();
    sidecar.is_some_and(|sidecar| sidecar.conflict().is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{model::layout::MARKER, testing::sandbox};

    #[test]
    fn each_folder_says_what_is_in_it() {
        let (_root, layout) = sandbox();
        for id in ["open", "sealed", "packed", "-odd", "rest"] {
            fs::create_dir(layout.episodes.join(id)).unwrap();
        }
        for id in ["sealed", "packed", "-odd"] {
            fs::write(layout.episodes.join(id).join(MARKER), "").unwrap();
        }
        for archive in ["packed", "of-no-episode"] {
            fs::write(layout.archive(&EpisodeId::parse(archive).unwrap()), "").unwrap();
        }
        fs::write(
            layout.episodes.join("rest/.sealift-removing"),
            r#"{"sealift_removing":1,"copied_to":"/a"}"#,
        )
        .unwrap();
        fs::create_dir(layout.quarantine.join("bad")).unwrap();
        fs::create_dir(layout.quarantine.join(".sealift-trash-x")).unwrap();
        let folders = look(
            &layout,
            clock_now(),
            &mut ShippedLately::default(),
            &Progress::default(),
        );
        let found = folders.found.unwrap();
        assert_eq!(
            (found.open, found.sealed, found.packed, found.conflict),
            (1, 2, 1, 0)
        );
        assert_eq!(found.archives_without_episode, 1);
        let rest = "rest: it was copied away, and what is left of it is removed by the next start";
        assert_eq!(found.unclear, [rest]);
        assert_eq!(
            (found.strangers.count, found.strangers.some[0].sealed),
            (1, true)
        );
        assert_eq!(folders.quarantined, Some(1));
        assert_eq!(
            folders
                .room
                .iter()
                .map(|room| room.folders.len())
                .sum::<usize>(),
            4
        );
        assert!(folders.failed.is_empty(), "{:?}", folders.failed);
    }

    fn clock_now() -> WallTime {
        crate::clock::wall_now()
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_and_keeps_the_others_from_nothing() {
        let (_root, layout) = sandbox();
        fs::create_dir(layout.quarantine.join("bad")).unwrap();
        fs::remove_dir(&layout.episodes).unwrap();
        let folders = look(
            &layout,
            clock_now(),
            &mut ShippedLately::default(),
            &Progress::default(),
        );
        assert_eq!(folders.quarantined, Some(1));
        assert!(
            folders.failed[0].contains("/episodes: is missing"),
            "{:?}",
            folders.failed
        );
    }
}
