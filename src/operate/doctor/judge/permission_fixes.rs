//! What gives the shipper what it lacks, and takes nothing from a user who may be at work.
//!
//! A recorder writes into `episodes/` as its owner, in its group, or as any other user, and there
//! is no telling which. So what is there is only added to: an owner is replaced where that is root,
//! who needs no permission; a group where it was granted nothing; else the shipper joins the group.
//! A recording that is open belongs to its recorder, whatever it looks like.

use std::path::Path;

use super::permissions::{ALL, READ, SEARCH};
use crate::operate::doctor::{
    facts::{Facts, FolderFacts, Owned, PassedFolder, Person},
    setup::Change,
    words::path,
};

const OTHERS: u32 = 0o007;
const GROUP: u32 = 0o070;

/// The first folder on the way that the shipper may not pass. `None` where the shipper's user is
/// not known: what the calling user may do says nothing of it.
pub(in crate::operate::doctor) fn barrier<'a>(
    facts: &Facts,
    way: &'a [PassedFolder],
) -> Option<&'a PassedFolder> {
    let shipper = facts.people.shipper.as_ref()?;
    way.iter().find(|(_, owned)| !shipper.may(SEARCH, *owned))
}

/// How a folder on the way is closed to who ships, as part of a sentence.
pub(super) fn closed(facts: &Facts, (folder, owned): &PassedFolder) -> String {
    format!(
        "{}, who ships, may not pass {} (owner {}, group {}, mode {:04o})",
        facts.people.shipper().name,
        folder.display(),
        owned.uid,
        owned.gid,
        owned.mode & 0o7777
    )
}

/// Lets who ships pass a folder.
pub(in crate::operate::doctor) fn to_pass(
    shipper: &Person,
    (folder, owned): &PassedFolder,
) -> Change {
    let (group, set) = if shipper.uid == owned.uid {
        (None, 0o100)
    } else if shipper.is_in(owned.gid) {
        (None, 0o010)
    } else if owned.mode & GROUP == 0 {
        (Some(shipper.gid), 0o010)
    } else {
        (None, 0o001)
    };
    Change::access(folder, *owned, None, group, set, 0)
}

/// Lets who ships read a file.
pub(in crate::operate::doctor) fn to_read(shipper: &Person, file: &Path, owned: Owned) -> Change {
    let (group, set) = if shipper.uid == owned.uid {
        (None, 0o400)
    } else if shipper.is_in(owned.gid) {
        (None, 0o040)
    } else if owned.gid != 0 && owned.mode >> 3 & READ != 0 {
        return Change::JoinGroup(owned.gid, file.to_owned());
    } else {
        (Some(shipper.gid), 0o040)
    };
    Change::access(file, owned, None, group, set, 0)
}

/// Takes a secret from everybody but its owner and its group. `None` where who ships is none of
/// these yet.
pub(in crate::operate::doctor) fn to_keep(
    shipper: &Person,
    file: &Path,
    owned: Owned,
) -> Option<Change> {
    may_without_others(shipper, READ, owned)
        .then(|| Change::access(file, owned, None, None, 0, 0o037))
}

/// Lets who ships read and write one of the folders.
pub(in crate::operate::doctor) fn to_write(
    shipper: &Person,
    folder: &FolderFacts,
    owned: Owned,
) -> Change {
    // Only the shipper works in the others.
    let is_recorders = folder.name == "episodes" && owned.uid != 0;
    // What an earlier run made for root: there is no recorder in root's group.
    let is_made_for_root = (owned.uid, owned.gid, owned.mode & 0o7777) == (0, 0, 0o2770);
    let (owner, group, set) = if shipper.uid == owned.uid {
        (None, None, 0o700)
    } else if is_made_for_root {
        (Some(shipper.uid), Some(shipper.gid), 0o700)
    } else if !is_recorders {
        (Some(shipper.uid), None, 0o700)
    } else if shipper.is_in(owned.gid) {
        (None, None, 0o070)
    } else if owned.mode & 0o020 != 0 {
        return Change::JoinGroup(owned.gid, place(folder).to_owned());
    } else {
        // Who came through by that group comes through still.
        let pass = owned.mode >> 3 & SEARCH;
        (None, Some(shipper.gid), 0o070 | pass)
    };
    Change::access(place(folder), owned, owner, group, set, 0)
}

/// Keeps everybody from moving and replacing what is in one of the folders.
pub(in crate::operate::doctor) fn to_guard(
    shipper: &Person,
    folder: &FolderFacts,
    owned: Owned,
) -> Change {
    let own = (shipper.uid != owned.uid).then_some(shipper.uid);
    let (owner, set, clear) = if folder.name == "episodes" {
        // A recorder that writes as any other user goes on, also where its user was the owner until
        // now. With the sticky bit, only owners move what is theirs, and the folder's owner.
        (own, 0o1705, 0)
    } else if may_without_others(shipper, ALL, owned) {
        (None, 0, 0o002)
    } else {
        (own, 0o700, 0o002)
    };
    Change::access(place(folder), owned, owner, None, set, clear)
}

/// Gives `episodes/` to who ships, who may then move what is in it though it has the sticky bit;
/// where its owner may be at work there as that, takes the bit.
pub(in crate::operate::doctor) fn to_move_by_owner(
    shipper: &Person,
    folder: &FolderFacts,
    owned: Owned,
) -> Change {
    if owned.uid == 0 || owned.mode & OTHERS == OTHERS {
        Change::access(place(folder), owned, Some(shipper.uid), None, 0o700, 0)
    } else {
        Change::access(place(folder), owned, None, None, 0, 0o1000)
    }
}

/// Shows the open ones, and whose they are.
pub(super) fn open(facts: &Facts, episodes: &Path) -> String {
    facts.hands.as_root(&format!(
        "{} ! -exec test -e {{}}/done.marker ';' -ls",
        theirs(facts, episodes)
    ))
}

fn theirs(facts: &Facts, episodes: &Path) -> String {
    let shipper = facts.people.shipper();
    let mut groups = vec![format!("-gid {}", shipper.gid)];
    groups.extend(
        shipper
            .groups
            .iter()
            .filter(|gid| **gid != shipper.gid)
            .map(|gid| format!("-gid {gid}")),
    );
    let groups = groups.join(" -o ");
    let groups = if shipper.groups.iter().any(|gid| *gid != shipper.gid) {
        format!(r"\( {groups} \)")
    } else {
        groups
    };
    format!(
        r"find {} -mindepth 1 -maxdepth 1 -type d ! -name '.*' ! -uid {} ! \( {groups} -perm -g=wx \)",
        path(episodes),
        shipper.uid
    )
}

/// Where a folder is once symlinks are followed.
fn place(folder: &FolderFacts) -> &Path {
    folder
        .real
        .as_ref()
        .map_or(folder.path.as_path(), |(real, _)| real)
}

fn may_without_others(shipper: &Person, bits: u32, owned: Owned) -> bool {
    shipper.may(
        bits,
        Owned {
            mode: owned.mode & !OTHERS,
            ..owned
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::judge::healthy_host::sound;

    /// Who ships is user 10 in group 20.
    fn owned(uid: u32, gid: u32, mode: u32) -> Owned {
        Owned {
            uid,
            gid,
            mode,
            listed: false,
        }
    }

    fn shipper() -> Person {
        sound().people.shipper.unwrap()
    }

    fn folder(name: &'static str) -> FolderFacts {
        let folders = sound().folders;
        folders
            .into_iter()
            .find(|folder| folder.name == name)
            .unwrap()
    }

    /// What is there afterwards; `Err` of a group that is joined.
    fn becomes(change: &Change, before: Owned) -> Result<(u32, u32, u32), u32> {
        match change {
            Change::JoinGroup(gid, _) => Err(*gid),
            change => {
                let after = change.after(before);
                Ok((after.uid, after.gid, after.mode))
            }
        }
    }

    #[test]
    fn who_ships_may_write_to_episodes_and_whoever_recorded_there_may_still() {
        for (name, owned, after) in [
            ("episodes", owned(0, 0, 0o755), Ok((10, 0, 0o755))),
            ("episodes", owned(0, 0, 0o2770), Ok((10, 20, 0o2770))),
            ("episodes", owned(0, 77, 0o2770), Ok((10, 77, 0o2770))),
            ("episodes", owned(10, 77, 0o570), Ok((10, 77, 0o770))),
            ("episodes", owned(77, 20, 0o750), Ok((77, 20, 0o770))),
            ("episodes", owned(77, 77, 0o2770), Err(77)),
            ("episodes", owned(77, 77, 0o700), Ok((77, 20, 0o770))),
            ("episodes", owned(77, 77, 0o750), Ok((77, 20, 0o771))),
            ("shipped", owned(77, 77, 0o750), Ok((10, 77, 0o750))),
        ] {
            let change = to_write(&shipper(), &folder(name), owned);
            assert_eq!(becomes(&change, owned), after, "{name} {owned:?}");
        }
    }

    #[test]
    fn what_everybody_may_write_to_is_guarded_and_nobody_is_locked_out() {
        for (name, owned, after) in [
            ("shipped", owned(10, 0, 0o777), (10, 0, 0o775)),
            ("shipped", owned(0, 20, 0o777), (0, 20, 0o775)),
            ("shipped", owned(0, 0, 0o777), (10, 0, 0o775)),
            ("episodes", owned(10, 0, 0o777), (10, 0, 0o1777)),
            ("episodes", owned(77, 0, 0o777), (10, 0, 0o1777)),
        ] {
            let change = to_guard(&shipper(), &folder(name), owned);
            assert_eq!(becomes(&change, owned), Ok(after), "{name} {owned:?}");
        }
        for (owned, after) in [
            (owned(0, 0, 0o1770), (10, 0, 0o1770)),
            (owned(77, 0, 0o1770), (77, 0, 0o770)),
        ] {
            let change = to_move_by_owner(&shipper(), &folder("episodes"), owned);
            assert_eq!(becomes(&change, owned), Ok(after));
        }
    }

    #[test]
    fn a_secret_is_taken_from_others_once_who_ships_reads_it_without_them() {
        let key = Path::new("/k");
        for (owned, kept, read) in [
            (owned(0, 20, 0o644), Some((0, 20, 0o640)), None),
            (owned(10, 0, 0o644), Some((10, 0, 0o640)), None),
            (owned(0, 0, 0o644), None, Some(Ok((0, 20, 0o644)))),
            (owned(0, 77, 0o644), None, Some(Err(77))),
        ] {
            let keep = to_keep(&shipper(), key, owned);
            assert_eq!(
                keep.map(|change| becomes(&change, owned)),
                kept.map(Ok),
                "{owned:?}"
            );
            if let Some(read) = read {
                assert_eq!(becomes(&to_read(&shipper(), key, owned), owned), read);
            }
        }
    }

    #[test]
    fn a_way_is_opened_as_little_as_can_be() {
        for (owned, after) in [
            (owned(10, 0, 0o600), (10, 0, 0o700)),
            (owned(0, 20, 0o700), (0, 20, 0o710)),
            (owned(0, 0, 0o700), (0, 20, 0o710)),
            (owned(0, 77, 0o750), (0, 77, 0o751)),
        ] {
            let step = ("/d".into(), owned);
            assert!(
                barrier(&sound(), std::slice::from_ref(&step)).is_some(),
                "{owned:?}"
            );
            assert_eq!(becomes(&to_pass(&shipper(), &step), owned), Ok(after));
        }
    }
}
