//! `folders`, `folder-access` and `moves`.

use serde_json::json;

use super::people::{ALL, as_shipper};
use crate::{
    operate::doctor::{
        facts::{Facts, Folder, FolderState, Moves},
        row::{Id, Row},
        words::{path, span, word},
    },
    snapshot::{TrialFinding, TrialKind},
};

const STICKY: u32 = 0o1000;
const WORLD_WRITABLE: u32 = 0o002;

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let mut rows = Vec::new();
    if !facts.folders.is_empty() {
        rows.extend([folders(facts), access(facts)].into_iter().flatten());
        rows.extend(moves(facts));
    }
    rows
}

fn folders(facts: &Facts) -> Option<Row> {
    let (id, hands) = (Id::Folders, &facts.hands);
    let of = |is: fn(&FolderState) -> bool| -> Vec<&Folder> {
        facts.folders.iter().filter(|folder| is(&folder.state)).collect()
    };
    let names = |folders: &[&Folder]| {
        folders.iter().map(|folder| folder.path.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    for folder in &facts.folders {
        let shown = folder.path.display();
        match &folder.state {
            FolderState::Hangs(after) => {
                let summary = format!(
                    "{shown} has not answered for {}: its disk or its file server hangs. Nothing is lost; it goes on when that is back.",
                    span(*after)
                );
                // Even to ask for its type would hang.
                let fix = format!("findmnt --target {}", path(folder.path.parent().unwrap_or(&folder.path)));
                return Some(Row::red(id, summary, fix).with("folder", folder.name));
            }
            FolderState::Failed(why) if !facts.people.we_see_as_the_shipper() => {
                let summary = format!("{} may not look at {shown}: {why}.", facts.people.us.name);
                return Some(Row::yellow(id, summary, as_shipper(hands, &facts.people)));
            }
            FolderState::Failed(why) => {
                let fix = hands.as_root(&format!("namei -lx {}", path(&folder.path)));
                return Some(
                    Row::red(id, format!("{shown} cannot be looked at: {why}."), fix)
                        .with("folder", folder.name),
                );
            }
            FolderState::NoFolder => {
                let here = path(&folder.path);
                let aside = hands.as_root(&format!("mv -nT {here} {here}.aside"));
                let fix = format!("{aside} && {}", make(facts, &[folder]));
                return Some(Row::red(id, format!("{shown} is no folder."), fix).with("folder", folder.name));
            }
            FolderState::Missing | FolderState::There { .. } => {}
        }
    }
    let missing = of(|state| matches!(state, FolderState::Missing));
    if !missing.is_empty() {
        let summary = format!("Not there: {}. Is a disk not mounted, or the path wrong?", names(&missing));
        let names: Vec<_> = missing.iter().map(|folder| folder.name).collect();
        return Some(Row::red(id, summary, make(facts, &missing)).with("missing", names));
    }
    if let Some([one, other]) = &facts.overlap {
        let summary = format!(
            "{} and {} are one folder, or one lies in the other, whatever their names say.",
            one.display(),
            other.display()
        );
        return Some(Row::red(id, summary, hands.configure("restart")));
    }
    Some(Row::green(id, "The four folders are there."))
}

fn make(facts: &Facts, folders: &[&Folder]) -> String {
    let shipper = facts.people.shipper();
    let paths: Vec<_> = folders.iter().map(|folder| path(&folder.path)).collect();
    let whose = if facts.people.us.uid == shipper.uid {
        String::new()
    } else {
        format!(" -o {} -g {}", word(&shipper.name), shipper.gid)
    };
    let command = format!("install -d -m 2770{whose} {}", paths.join(" "));
    if whose.is_empty() { command } else { facts.hands.as_root(&command) }
}

fn access(facts: &Facts) -> Option<Row> {
    let (id, hands) = (Id::FolderAccess, &facts.hands);
    let shipper = facts.people.shipper();
    let mut found = Vec::new();
    let (mut closed, mut open_to_all) = (Vec::new(), None);
    for folder in &facts.folders {
        let FolderState::There { owned, read_only, .. } = &folder.state else { continue };
        let mode = owned.mode & 0o7777;
        found.push(json!({
            "folder": folder.name, "path": folder.path.to_string_lossy(), "uid": owned.uid, "gid": owned.gid,
            "mode": format!("{mode:04o}"),
        }));
        let (shown, named) = (folder.path.display(), path(&folder.path));
        if *read_only {
            let mount = format!("mount -o remount,rw \"$(findmnt -no TARGET --target {named})\"");
            let summary = format!("{shown} is mounted read-only: nothing can be moved out of it or into it.");
            return Some(Row::red(id, summary, hands.as_root(&mount)).with("folders", found));
        }
        if !shipper.may(ALL, *owned) {
            closed.push((folder, owned));
        }
        if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 {
            open_to_all.get_or_insert((folder, mode));
        }
    }
    if let Some((first, owned)) = closed.first() {
        let (shown, mode) = (first.path.display(), owned.mode & 0o7777);
        let summary = format!(
            "{}, who ships, may not read and write {shown} (owner {}, group {}, mode {mode:04o}).",
            shipper.name, owned.uid, owned.gid
        );
        let all = closed.iter().map(|(folder, _)| path(&folder.path)).collect::<Vec<_>>().join(" ");
        let chown = hands.as_root(&format!("chown {}:{} {all}", word(&shipper.name), shipper.gid));
        let fix = format!("{chown} && {}", hands.as_root(&format!("chmod u+rwx {all}")));
        return Some(Row::red(id, summary, fix).with("folders", found));
    }
    if let Some((folder, mode)) = open_to_all {
        let summary = format!(
            "Everybody on this host may write to {} (mode {mode:04o}), and so move or replace what is on its way.",
            folder.path.display()
        );
        let fix = hands.as_root(&format!("chmod o-w {}", path(&folder.path)));
        return Some(Row::yellow(id, summary, fix).with("folders", found));
    }
    let all = found.len() == facts.folders.len();
    all.then(|| {
        Row::green(id, format!("{}, who ships, may read and write the folders.", shipper.name))
            .with("folders", found)
    })
}

fn moves(facts: &Facts) -> Option<Row> {
    match &facts.moves {
        Moves::NotTried => None,
        Moves::ByDaemon(findings) => Some(tried(facts, findings, "the daemon")),
        Moves::ByUs(trial) => {
            let findings: Vec<_> = trial.findings.iter().map(TrialFinding::from).collect();
            let denied = findings.iter().any(|finding| finding.kind == TrialKind::NotPermitted);
            if denied && !facts.people.we_see_as_the_shipper() {
                let summary = format!(
                    "{} may not try whether episodes can be moved, and no daemon runs that has.",
                    facts.people.us.name
                );
                return Some(Row::yellow(Id::Moves, summary, as_shipper(&facts.hands, &facts.people)));
            }
            Some(tried(facts, &findings, "the doctor"))
        }
    }
}

fn tried(facts: &Facts, findings: &[TrialFinding], who: &str) -> Row {
    let (id, hands) = (Id::Moves, &facts.hands);
    let of = |kind: TrialKind| findings.iter().find(|finding| finding.kind == kind);
    let folder =
        |name: &str| facts.folders.iter().find(|folder| folder.name == name).map(|folder| &folder.path);
    let episodes = folder("episodes").map(|episodes| path(episodes)).unwrap_or_default();
    let data = facts.folders.iter().find(|folder| folder.name == ".sealift");
    let above = data.and_then(|folder| folder.path.parent()).map(path).unwrap_or_default();
    let details = |row: Row| {
        let all: Vec<_> = findings.iter().map(|finding| finding.what_to_do.as_str()).collect();
        row.with("tried_by", who).with("findings", all)
    };
    let one_parent = || {
        let lines = format!("[Service]\\nReadWritePaths=\\nReadWritePaths={above}\\n");
        drop_in(facts, "zz-sealift-paths", &lines)
    };
    let row = if let Some(finding) = of(TrialKind::Elsewhere) {
        Row::red(id, &finding.what_to_do, hands.as_root("mount -a"))
    } else if let Some(finding) = of(TrialKind::NotPermitted) {
        let whose = facts.people.shipper();
        let all: Vec<_> = facts.folders.iter().map(|folder| path(&folder.path)).collect();
        let fix = if hands.has_unit && who == "the daemon" {
            one_parent()
        } else {
            hands.as_root(&format!("chown {}:{} {}", word(&whose.name), whose.gid, all.join(" ")))
        };
        Row::red(id, &finding.what_to_do, fix)
    } else if let Some(finding) = of(TrialKind::Sticky) {
        Row::red(id, &finding.what_to_do, hands.as_root(&format!("chmod -t {episodes}")))
    } else if let Some(finding) = of(TrialKind::Unmovable) {
        // The owner and not the mode: modes are content, and with others a receiver would find another episode.
        let chown = format!(
            "find {episodes} -mindepth 1 -maxdepth 1 -type d ! -perm -g=wx -exec chown -R --reference={episodes} {{}} +"
        );
        Row::red(id, &finding.what_to_do, hands.as_root(&chown))
    } else if let Some(finding) = of(TrialKind::CopiesOnOneDevice) {
        Row::yellow(
            id,
            &finding.what_to_do,
            if hands.has_unit { one_parent() } else { format!("findmnt --target {episodes}") },
        )
    } else if let Some(finding) = findings.first() {
        Row::green(id, &finding.in_short)
    } else {
        Row::green(id, "Moves between the folders are renames.")
    };
    details(row)
}

/// Lines for a drop-in of the unit, written, and in force. `name` should sort behind those of others: the last one counts.
pub(super) fn drop_in(facts: &Facts, name: &str, lines: &str) -> String {
    let hands = &facts.hands;
    let folder = format!("/etc/systemd/system/{}.d", hands.unit);
    let file = word(format!("{folder}/{name}.conf"));
    [
        hands.as_root(&format!("mkdir -p {}", word(&folder))),
        format!("printf {} | {} >/dev/null", word(lines), hands.as_root(&format!("tee {file}"))),
        hands.as_root("systemctl daemon-reload"),
        hands.unit_to("restart"),
    ]
    .join(" && ")
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::{
        operate::doctor::{
            facts::{Owned, Person},
            judge::sound::sound,
            row::Status,
        },
        trial::Finding,
    };

    fn of(facts: &Facts, id: Id) -> Row {
        rows(facts).into_iter().find(|row| row.id == id).unwrap_or_else(|| panic!("no row {id:?}"))
    }

    fn there(uid: u32, mode: u32, read_only: bool) -> FolderState {
        FolderState::There { owned: Owned { uid, gid: 99, mode }, shared: None, read_only }
    }

    #[test]
    fn each_state_of_a_folder_has_its_row_and_its_fix() {
        for (state, id, status, fix) in [
            (there(10, 0o2770, false), Id::Folders, Status::Green, ""),
            (there(10, 0o2770, false), Id::FolderAccess, Status::Green, ""),
            (
                FolderState::Missing,
                Id::Folders,
                Status::Red,
                "install -d -m 2770 -o sealift -g 20 /d/shipped",
            ),
            (
                FolderState::NoFolder,
                Id::Folders,
                Status::Red,
                "mv -nT /d/shipped /d/shipped.aside && install",
            ),
            (FolderState::Hangs(Duration::from_secs(3)), Id::Folders, Status::Red, "findmnt --target /d"),
            (FolderState::Failed("EIO".to_owned()), Id::Folders, Status::Red, "namei -lx /d/shipped"),
            (
                there(1, 0o755, false),
                Id::FolderAccess,
                Status::Red,
                "chown sealift:20 /d/shipped && chmod u+rwx",
            ),
            (there(10, 0o500, false), Id::FolderAccess, Status::Red, "chmod u+rwx /d/shipped"),
            (there(10, 0o777, false), Id::FolderAccess, Status::Yellow, "chmod o-w /d/shipped"),
            (there(10, 0o1777, false), Id::FolderAccess, Status::Green, ""),
            (there(10, 0o770, true), Id::FolderAccess, Status::Red, "mount -o remount,rw"),
        ] {
            let mut facts = sound();
            let shipped = facts.folders.iter_mut().find(|folder| folder.name == "shipped").unwrap();
            shipped.state = state.clone();
            let row = of(&facts, id);
            assert_eq!(row.status, status, "{state:?}: {row:?}");
            assert!(row.fix.clone().unwrap_or_default().contains(fix), "{state:?}: {row:?}");
        }
    }

    #[test]
    fn folders_in_one_another_are_red() {
        let mut facts = sound();
        facts.overlap = Some([PathBuf::from("/d/episodes"), PathBuf::from("/d/shipped")]);
        assert_eq!(of(&facts, Id::Folders).status, Status::Red);
    }

    #[test]
    fn each_finding_of_the_trial_has_its_colour_and_its_fix() {
        let paths = || (PathBuf::from("/d/episodes"), PathBuf::from("/d/shipped"));
        let (from, to) = paths();
        for (finding, status, fix) in [
            (Finding::Copies { to: to.clone(), same_device: false }, Status::Green, ""),
            (
                Finding::Copies { to: to.clone(), same_device: true },
                Status::Yellow,
                r"printf '[Service]\nReadWritePaths=\nReadWritePaths=/d\n' | tee /etc/systemd/system/sealift.service.d/zz-sealift-paths.conf",
            ),
            (
                Finding::NotPermitted { from, to, why: "EPERM".to_owned() },
                Status::Red,
                "chown sealift:20 /d/episodes",
            ),
            (
                Finding::Elsewhere { folder: "/d/shipped".into(), why: "it is gone".to_owned() },
                Status::Red,
                "mount -a",
            ),
            (
                Finding::Unmovable { first: "a".to_owned(), count: 2, sticky: false },
                Status::Red,
                "-exec chown -R --reference=/d/episodes {} +",
            ),
            (
                Finding::Unmovable { first: "a".to_owned(), count: 2, sticky: true },
                Status::Red,
                "chmod -t /d/episodes",
            ),
        ] {
            let mut facts = sound();
            facts.moves = Moves::ByUs(crate::trial::Trial { findings: vec![finding.clone()] });
            let row = of(&facts, Id::Moves);
            assert_eq!(row.status, status, "{row:?}");
            assert!(row.fix.clone().unwrap_or_default().contains(fix), "{row:?}");
            facts.moves = Moves::ByDaemon(vec![TrialFinding::from(&finding)]);
            assert_eq!(of(&facts, Id::Moves).status, status);
        }
    }

    #[test]
    fn what_we_may_not_do_says_nothing_of_who_ships() {
        let mut facts = sound();
        facts.hands.root = false;
        facts.people.us = Person { name: "op".to_owned(), uid: 7, gid: 7, groups: Vec::new() };
        let (from, to) = (PathBuf::from("/d/episodes"), PathBuf::from("/d/shipped"));
        let finding = Finding::NotPermitted { from, to, why: "EACCES".to_owned() };
        facts.moves = Moves::ByUs(crate::trial::Trial { findings: vec![finding] });
        assert_eq!(of(&facts, Id::Moves).status, Status::Yellow);
        facts.folders[0].state = FolderState::Failed("EACCES".to_owned());
        assert_eq!(of(&facts, Id::Folders).status, Status::Yellow);
    }
}
