//! Commands that give the shipper what it lacks, and take nothing from a user who may be at work.
//!
//! A recorder writes into `episodes/` as its owner, in its group, or as any other user, and there
//! is no telling which. So what is there is only added to: an owner is replaced where that is root,
//! who needs no permission; a group where it was granted nothing; else the shipper joins the group.
//! A recording that is open belongs to its recorder, whatever it looks like.

use std::path::Path;

use super::permissions::{ALL, READ, SEARCH};
use crate::operate::doctor::{
    facts::{Facts, FolderFacts, Owned, PassedFolder, Person},
    words::{path, word},
};

const OTHERS: u32 = 0o007;
const GROUP: u32 = 0o070;

/// The first folder on the way that the shipper may not pass. `None` where the shipper's user is
/// not known: what the calling user may do says nothing of it.
pub(super) fn barrier<'a>(facts: &Facts, way: &'a [PassedFolder]) -> Option<&'a PassedFolder> {
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
pub(super) fn to_pass(facts: &Facts, (folder, owned): &PassedFolder) -> String {
    let (shipper, named) = (facts.people.shipper(), path(folder));
    if shipper.uid == owned.uid {
        as_root(facts, [format!("chmod u+x {named}")])
    } else if shipper.is_in(owned.gid) {
        as_root(facts, [format!("chmod g+x {named}")])
    } else if owned.mode & GROUP == 0 {
        as_root(
            facts,
            [
                format!("chgrp {} {named}", shipper.gid),
                format!("chmod g+x {named}"),
            ],
        )
    } else {
        as_root(facts, [format!("chmod o+x {named}")])
    }
}

/// Lets who ships read a file; and what has to be done to the unit for that to count.
pub(super) fn to_read(facts: &Facts, file: &Path, owned: Owned) -> (String, &'static str) {
    let (shipper, named) = (facts.people.shipper(), path(file));
    if shipper.uid == owned.uid {
        (as_root(facts, [format!("chmod u+r {named}")]), "reload")
    } else if shipper.is_in(owned.gid) {
        (as_root(facts, [format!("chmod g+r {named}")]), "reload")
    } else if owned.gid != 0 && owned.mode >> 3 & READ != 0 {
        (join_group(facts, owned.gid), "restart")
    } else {
        let give = [
            format!("chgrp {} {named}", shipper.gid),
            format!("chmod g+r {named}"),
        ];
        (as_root(facts, give), "reload")
    }
}

/// Takes a secret from everybody but its owner and its group, one of which who ships must be first.
pub(super) fn to_keep(facts: &Facts, file: &Path, owned: Owned) -> String {
    let close = as_root(facts, [format!("chmod g-wx,o= {}", path(file))]);
    if may_without_others(facts.people.shipper(), READ, owned) {
        close
    } else {
        let (give, deed) = to_read(facts, file, owned);
        then(facts, &format!("{give} && {close}"), deed)
    }
}

/// Lets who ships read and write one of the folders.
pub(super) fn to_write(facts: &Facts, folder: &FolderFacts, owned: Owned) -> String {
    let (shipper, named) = (facts.people.shipper(), path(&folder.path));
    // Only the shipper works in the others.
    let is_recorders = folder.name == "episodes" && owned.uid != 0;
    if shipper.uid == owned.uid {
        as_root(facts, [format!("chmod u+rwx {named}")])
    } else if !is_recorders {
        as_root(
            facts,
            [
                format!("chown {} {named}", word(&shipper.name)),
                format!("chmod u+rwx {named}"),
            ],
        )
    } else if shipper.is_in(owned.gid) {
        as_root(facts, [format!("chmod g+rwx {named}")])
    } else if owned.mode & 0o020 != 0 {
        then(facts, &join_group(facts, owned.gid), "restart")
    } else {
        // Who came through by that group comes through still.
        let pass = if owned.mode & 0o010 != 0 { ",o+x" } else { "" };
        let give = [
            format!("chgrp {} {named}", shipper.gid),
            format!("chmod g+rwx{pass} {named}"),
        ];
        as_root(facts, give)
    }
}

/// Keeps everybody from moving and replacing what is in one of the folders.
pub(super) fn to_guard(facts: &Facts, folder: &FolderFacts, owned: Owned) -> String {
    let (shipper, named) = (facts.people.shipper(), path(&folder.path));
    let own = format!("chown {} {named}", word(&shipper.name));
    if folder.name == "episodes" {
        // A recorder that writes as any other user goes on, also where its user was the owner until
        // now. With the sticky bit, only owners move what is theirs, and the folder's owner.
        let guard = format!("chmod u+rwx,o+rx,+t {named}");
        return if shipper.uid == owned.uid {
            as_root(facts, [guard])
        } else {
            as_root(facts, [own, guard])
        };
    }
    if may_without_others(shipper, ALL, owned) {
        as_root(facts, [format!("chmod o-w {named}")])
    } else {
        as_root(facts, [own, format!("chmod u+rwx,o-w {named}")])
    }
}

/// Gives `episodes/` to who ships, who may then move what is in it though it has the sticky bit;
/// where its owner may be at work there as that, takes the bit.
pub(super) fn to_move_by_owner(facts: &Facts, folder: &FolderFacts, owned: Owned) -> String {
    let named = path(&folder.path);
    if owned.uid == 0 || owned.mode & OTHERS == OTHERS {
        let own = format!("chown {} {named}", word(&facts.people.shipper().name));
        as_root(facts, [own, format!("chmod u+rwx {named}")])
    } else {
        as_root(facts, [format!("chmod -t {named}")])
    }
}

/// Gives the episodes that are sealed, and cannot be moved by who ships, to them. Not by their
/// modes: those are content, and with others a receiver would find another episode.
pub(super) fn sealed(facts: &Facts, episodes: &Path) -> String {
    let whose = word(&facts.people.shipper().name);
    facts.hands.as_root(&format!(
        "{} -exec test -f {{}}/done.marker ';' -exec chown -R {whose} {{}} +",
        theirs(facts, episodes)
    ))
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

fn may_without_others(shipper: &Person, bits: u32, owned: Owned) -> bool {
    shipper.may(
        bits,
        Owned {
            mode: owned.mode & !OTHERS,
            ..owned
        },
    )
}

fn join_group(facts: &Facts, gid: u32) -> String {
    let group = format!("\"$(getent group {gid} | cut -d: -f1)\"");
    facts.hands.as_root(&format!(
        "usermod -aG {group} {}",
        word(&facts.people.shipper().name)
    ))
}

fn then(facts: &Facts, command: &str, deed: &str) -> String {
    format!("{command} && {}", facts.hands.unit_to(deed))
}

fn as_root<const N: usize>(facts: &Facts, commands: [String; N]) -> String {
    commands
        .map(|command| facts.hands.as_root(&command))
        .join(" && ")
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

    fn folder(name: &'static str) -> (Facts, FolderFacts) {
        let facts = sound();
        let folder = facts
            .folders
            .iter()
            .find(|folder| folder.name == name)
            .unwrap()
            .clone();
        (facts, folder)
    }

    #[test]
    fn who_ships_may_write_to_episodes_and_whoever_recorded_there_may_still() {
        for (name, owned, fix) in [
            (
                "episodes",
                owned(0, 0, 0o755),
                "chown sealift /d/episodes && chmod u+rwx /d/episodes",
            ),
            (
                "episodes",
                owned(0, 77, 0o2770),
                "chown sealift /d/episodes && chmod u+rwx /d/episodes",
            ),
            ("episodes", owned(10, 77, 0o570), "chmod u+rwx /d/episodes"),
            ("episodes", owned(77, 20, 0o750), "chmod g+rwx /d/episodes"),
            (
                "episodes",
                owned(77, 77, 0o2770),
                "usermod -aG \"$(getent group 77 | cut -d: -f1)\" sealift && systemctl restart sealift.service",
            ),
            (
                "episodes",
                owned(77, 77, 0o700),
                "chgrp 20 /d/episodes && chmod g+rwx /d/episodes",
            ),
            (
                "episodes",
                owned(77, 77, 0o750),
                "chgrp 20 /d/episodes && chmod g+rwx,o+x /d/episodes",
            ),
            (
                "shipped",
                owned(77, 77, 0o750),
                "chown sealift /d/shipped && chmod u+rwx /d/shipped",
            ),
        ] {
            let (facts, folder) = folder(name);
            assert_eq!(to_write(&facts, &folder, owned), fix, "{name} {owned:?}");
        }
    }

    #[test]
    fn what_everybody_may_write_to_is_guarded_and_nobody_is_locked_out() {
        for (name, owned, fix) in [
            ("shipped", owned(10, 0, 0o777), "chmod o-w /d/shipped"),
            ("shipped", owned(0, 20, 0o777), "chmod o-w /d/shipped"),
            (
                "shipped",
                owned(0, 0, 0o777),
                "chown sealift /d/shipped && chmod u+rwx,o-w /d/shipped",
            ),
            (
                "episodes",
                owned(10, 0, 0o777),
                "chmod u+rwx,o+rx,+t /d/episodes",
            ),
            (
                "episodes",
                owned(77, 0, 0o777),
                "chown sealift /d/episodes && chmod u+rwx,o+rx,+t /d/episodes",
            ),
        ] {
            let (facts, folder) = folder(name);
            assert_eq!(to_guard(&facts, &folder, owned), fix, "{name} {owned:?}");
        }
        let (facts, folder) = folder("episodes");
        assert_eq!(
            to_move_by_owner(&facts, &folder, owned(0, 0, 0o1770)),
            "chown sealift /d/episodes && chmod u+rwx /d/episodes"
        );
        assert_eq!(
            to_move_by_owner(&facts, &folder, owned(77, 0, 0o1770)),
            "chmod -t /d/episodes"
        );
    }

    #[test]
    fn a_secret_is_taken_from_others_once_who_ships_reads_it_without_them() {
        for (owned, fix) in [
            (owned(0, 20, 0o644), "chmod g-wx,o= /k"),
            (owned(10, 0, 0o644), "chmod g-wx,o= /k"),
            (
                owned(0, 0, 0o644),
                "chgrp 20 /k && chmod g+r /k && chmod g-wx,o= /k && systemctl reload sealift.service",
            ),
            (
                owned(0, 77, 0o644),
                "usermod -aG \"$(getent group 77 | cut -d: -f1)\" sealift && chmod g-wx,o= /k && systemctl restart sealift.service",
            ),
        ] {
            assert_eq!(to_keep(&sound(), Path::new("/k"), owned), fix, "{owned:?}");
        }
    }

    #[test]
    fn a_way_is_opened_as_little_as_can_be() {
        for (owned, fix) in [
            (owned(10, 0, 0o600), "chmod u+x /d"),
            (owned(0, 20, 0o700), "chmod g+x /d"),
            (owned(0, 0, 0o700), "chgrp 20 /d && chmod g+x /d"),
            (owned(0, 77, 0o750), "chmod o+x /d"),
        ] {
            let step = ("/d".into(), owned);
            assert!(
                barrier(&sound(), std::slice::from_ref(&step)).is_some(),
                "{owned:?}"
            );
            assert_eq!(to_pass(&sound(), &step), fix);
        }
    }
}
