//! `folders`, `folder-access` and `moves`.

use std::path::Path;

use serde_json::json;

use super::{
    daemon_checks::{DaemonChecks, worst},
    permission_fixes,
    permissions::{ALL, SEARCH, WRITE, as_shipper},
    unit_paths,
};
use crate::{
    disk::{ownership::Link, tree},
    model::{
        snapshot::{TrialFinding, TrialKind},
        text::printable,
    },
    operate::doctor::{
        facts::{Facts, FolderFacts, FolderState, Moves, Owned, PassedFolder, People},
        row::{DoctorRow, Id},
        words::{Fix, foreign, path, span},
    },
};

const STICKY: u32 = 0o1000;
const WORLD_WRITABLE: u32 = 0o002;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = Vec::new();
    if !facts.folders.is_empty() {
        rows.extend([folders(facts), access(facts)].into_iter().flatten());
        rows.extend(moves(facts));
    }
    rows
}

fn folders(facts: &Facts) -> Option<DoctorRow> {
    let (id, hands) = (Id::Folders, &facts.hands);
    let of = |is: fn(&FolderState) -> bool| -> Vec<&FolderFacts> {
        facts
            .folders
            .iter()
            .filter(|folder| is(&folder.state))
            .collect()
    };
    let names = |folders: &[&FolderFacts]| {
        folders
            .iter()
            .map(|folder| folder.path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
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
                let fix = format!(
                    "findmnt --target {}",
                    path(folder.path.parent().unwrap_or(&folder.path))
                );
                return Some(DoctorRow::red(id, summary, fix).with("folder", folder.name));
            }
            FolderState::Failed(why) if !facts.people.we_see_as_the_shipper() => {
                let summary = format!("{} may not look at {shown}: {why}.", facts.people.us.name);
                return Some(DoctorRow::yellow(
                    id,
                    summary,
                    as_shipper(hands, &facts.people),
                ));
            }
            FolderState::Failed(why) => {
                let look = foreign(&folder.path, |path| format!("namei -lx {path}"));
                let fix = hands.as_root(&look);
                return Some(
                    DoctorRow::red(id, format!("{shown} cannot be looked at: {why}."), fix)
                        .with("folder", folder.name),
                );
            }
            FolderState::NoFolder => {
                let fix = facts.setup();
                return Some(
                    DoctorRow::red(id, format!("{shown} is no folder."), fix)
                        .with("folder", folder.name),
                );
            }
            FolderState::Missing | FolderState::There { .. } => {}
        }
    }
    for folder in &facts.folders {
        if let Some(link @ Link::Dangling(..)) = &folder.link {
            let look = foreign(&folder.path, |path| format!("namei -lx {path}"));
            let row = DoctorRow::red(id, sentence_of(link), hands.as_root(&look));
            return Some(row.with("folder", folder.name));
        }
    }
    let missing = of(|state| matches!(state, FolderState::Missing));
    if !missing.is_empty() {
        let summary = format!(
            "Not there: {}. Is a disk not mounted, or the path wrong?",
            names(&missing)
        );
        let names: Vec<_> = missing.iter().map(|folder| folder.name).collect();
        return Some(DoctorRow::red(id, summary, facts.setup()).with("missing", names));
    }
    if let Some([one, other]) = &facts.overlap {
        let summary = format!(
            "{} and {} are one folder, or one lies in the other, whatever their names say.",
            one.display(),
            other.display()
        );
        return Some(DoctorRow::red(id, summary, hands.configure("restart")));
    }
    if let Some((first, what)) = facts.in_the_way.first() {
        let summary = format!(
            "{} is {what}, where an archive has to lie: the episode of that name cannot leave until it is out of the way. All others do.",
            tree::shown(first)
        );
        let row = DoctorRow::red(id, summary, facts.setup());
        return Some(row.with("in_the_way", facts.in_the_way.len()));
    }
    Some(DoctorRow::green(id, "The four folders are there."))
}

fn access(facts: &Facts) -> Option<DoctorRow> {
    let (id, hands) = (Id::FolderAccess, &facts.hands);
    // The row of the unit says it.
    if facts.people.unknown_user.is_some() {
        return None;
    }
    let shipper = facts.people.shipper();
    let mut found = Vec::new();
    let (mut barrier, mut read_only, mut open_to_all) = (None, None, Vec::new());
    for folder in &facts.folders {
        barrier = barrier.or_else(|| permission_fixes::barrier(facts, &folder.way));
        let FolderState::There {
            owned,
            read_only: is_read_only,
            ..
        } = &folder.state
        else {
            continue;
        };
        let mode = owned.mode & 0o7777;
        found.push(json!({
            "folder": folder.name, "path": folder.path.to_string_lossy(), "uid": owned.uid, "gid": owned.gid,
            "mode": format!("{mode:04o}"),
        }));
        if *is_read_only {
            read_only.get_or_insert(folder);
        }
        // Where there are no modes, its mount says who may what, and that is its owner's.
        if mode & WORLD_WRITABLE != 0 && mode & STICKY == 0 && !folder.modeless {
            open_to_all.push((folder, *owned));
        }
    }
    let all = found.len() == facts.folders.len();
    let row = if let Some(step) = barrier {
        let summary = format!(
            "{}: it reaches nothing below.",
            permission_fixes::closed(facts, step)
        );
        DoctorRow::red(id, summary, facts.setup())
    } else if let Some(folder) = read_only {
        let shown = folder.path.display();
        let summary =
            format!("{shown} is mounted read-only: nothing can be moved out of it or into it.");
        let fix = match &folder.mount {
            Some(mount) => foreign(mount, |mount| format!("mount -o remount,rw {mount}")),
            None => format!("findmnt --target {}", path(&folder.path)),
        };
        DoctorRow::red(id, summary, hands.as_root(&fix))
    } else if let [(first, owned), ..] = &closed(facts)[..] {
        let (shown, mode) = (first.path.display(), owned.mode & 0o7777);
        let summary = format!(
            "{}, who ships, may not read and write {shown} (owner {}, group {}, mode {mode:04o}).",
            shipper.name, owned.uid, owned.gid
        );
        DoctorRow::red(id, summary, facts.setup())
    } else if let Some((above, owned)) = closed_above(facts) {
        let (shown, mode) = (above.display(), owned.mode & 0o7777);
        let summary = format!(
            "{}, who ships, cannot make its own folder .sealift in {shown} (owner {}, group {}, mode {mode:04o}).",
            shipper.name, owned.uid, owned.gid
        );
        DoctorRow::red(id, summary, facts.setup())
    } else if let [(folder, owned), ..] = &open_to_all[..] {
        let summary = format!(
            "Everybody on this host may write to {} (mode {:04o}), and so move or replace what is on its way.",
            folder.path.display(),
            owned.mode & 0o7777
        );
        DoctorRow::yellow(id, summary, facts.setup())
    } else if all {
        DoctorRow::green(
            id,
            format!(
                "{}, who ships, may read and write the folders.",
                shipper.name
            ),
        )
    } else {
        return None;
    };
    Some(row.with("folders", found))
}

/// Where `.sealift` is missing, and who ships may not make it.
fn closed_above(facts: &Facts) -> Option<&PassedFolder> {
    let may_make = |owned: Owned| facts.people.shipper().may(WRITE | SEARCH, owned);
    let above = facts.private_in.as_ref();
    above.filter(|(_, owned)| !may_make(*owned))
}

/// A cause as a sentence.
fn sentence_of(cause: &Link) -> String {
    let said = cause.to_string();
    if said.ends_with('?') {
        said
    } else {
        said + "."
    }
}

/// Those that who ships may not read and write.
fn closed(facts: &Facts) -> Vec<(&FolderFacts, Owned)> {
    let there = facts
        .folders
        .iter()
        .filter_map(|folder| match &folder.state {
            FolderState::There { owned, .. } => Some((folder, *owned)),
            _ => None,
        });
    there
        .filter(|(_, owned)| !facts.people.shipper().may(ALL, *owned))
        .collect()
}

fn moves(facts: &Facts) -> Option<DoctorRow> {
    if let Some(row) = DaemonChecks::among(facts).and_then(DaemonChecks::stamps_move) {
        return Some(row);
    }
    match &facts.moves {
        Moves::NotTried => None,
        Moves::ByDaemon(findings) => Some(tried(facts, findings, "the daemon")),
        Moves::ByUs(trial) => {
            let findings: Vec<_> = trial.findings.iter().map(TrialFinding::from).collect();
            let denied = findings
                .iter()
                .any(|finding| finding.kind == TrialKind::NotPermitted);
            if denied && !facts.people.we_see_as_the_shipper() {
                let summary = format!(
                    "{} may not try whether episodes can be moved, and no daemon runs that has.",
                    facts.people.us.name
                );
                return Some(DoctorRow::yellow(
                    Id::Moves,
                    summary,
                    as_shipper(&facts.hands, &facts.people),
                ));
            }
            Some(tried(facts, &findings, "the doctor"))
        }
    }
}

/// For which user it was tried whether episodes can be moved.
fn looked_at_for(people: &People) -> String {
    let us = &people.us;
    match &people.shipper {
        Some(shipper) if us.uid == 0 && shipper.uid != 0 => {
            format!(" Looked at for {}, who ships.", printable(&shipper.name))
        }
        None if us.uid == 0 => {
            " Looked at as root, since no unit says who ships: where another user does, that user's `sealift doctor` tells.".to_owned()
        }
        Some(_) | None => format!(" Looked at as {}.", printable(&us.name)),
    }
}

fn tried(facts: &Facts, findings: &[TrialFinding], who: &str) -> DoctorRow {
    let id = Id::Moves;
    let looked = match &facts.moves {
        Moves::ByUs(_) => looked_at_for(&facts.people),
        Moves::ByDaemon(_) | Moves::NotTried => String::new(),
    };
    let row = match (worst(findings), findings.first()) {
        (Some((status, finding, said)), _) => {
            let said = format!("{said}{looked}");
            DoctorRow::of(id, status, &said, mended(facts, finding, who))
        }
        (None, Some(finding)) => DoctorRow::green(id, format!("{}.{looked}", finding.in_short)),
        (None, None) => DoctorRow::green(
            id,
            format!("Moves between the folders are renames.{looked}"),
        ),
    };
    let all: Vec<_> = findings
        .iter()
        .map(|finding| finding.what_to_do.as_str())
        .collect();
    row.with("tried_by", who).with("findings", all)
}

/// What to type about a finding of the trial.
fn mended(facts: &Facts, finding: &TrialFinding, who: &str) -> Fix {
    let episodes = facts
        .folders
        .iter()
        .find(|folder| folder.name == "episodes")
        .map_or(Path::new("episodes"), |folder| folder.path.as_path());
    let look = || format!("findmnt --target {}", path(episodes));
    let command = match finding.kind {
        TrialKind::Elsewhere => facts.hands.as_root("mount -a"),
        TrialKind::NotPermitted => {
            return not_permitted(facts, who).unwrap_or_else(|| look().into());
        }
        TrialKind::Sticky | TrialKind::Unmovable => return facts.setup_command().into(),
        TrialKind::Stuck => match &finding.fix {
            Some(fix) => return facts.hands.tried_again(facts.hands.typed(fix)),
            // Another folder, where no command mends the one that is set.
            None => return facts.hands.configure("restart"),
        },
        TrialKind::CopiesOnOneDevice => {
            return unit_paths::drop_in_of_paths(facts)
                .map_or_else(|| look().into(), |_| facts.setup());
        }
        TrialKind::UnmovableOpen => match &finding.fix {
            Some(fix) => facts.hands.typed(fix),
            None => permission_fixes::open(facts, episodes),
        },
        TrialKind::Copies | TrialKind::Other => look(),
    };
    command.into()
}

/// The folders themselves, or what the unit may write to: whichever is in the way.
fn not_permitted(facts: &Facts, who: &str) -> Option<Fix> {
    let mends = !closed(facts).is_empty()
        || (who == "the daemon" && unit_paths::drop_in_of_paths(facts).is_some());
    mends.then(|| facts.setup())
}

#[cfg(test)]
mod tests;
