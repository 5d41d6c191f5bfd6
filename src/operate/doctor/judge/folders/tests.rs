use std::{path::PathBuf, time::Duration};

use super::*;
use crate::{
    disk::move_check::{Finding, Unmovable},
    operate::doctor::{facts::Person, judge::healthy_host::sound, row::RowStatus},
};

fn of(facts: &Facts, id: Id) -> DoctorRow {
    rows(facts)
        .into_iter()
        .find(|row| row.id == id)
        .unwrap_or_else(|| panic!("no row {id:?}"))
}

fn there(uid: u32, mode: u32, read_only: bool) -> FolderState {
    FolderState::There {
        owned: Owned {
            uid,
            gid: 99,
            mode,
            listed: false,
        },
        shared: None,
        read_only,
    }
}

#[test]
fn each_state_of_a_folder_has_its_row_and_its_fix() {
    for (state, id, status, fix) in [
        (there(10, 0o2770, false), Id::Folders, RowStatus::Green, ""),
        (
            there(10, 0o2770, false),
            Id::FolderAccess,
            RowStatus::Green,
            "",
        ),
        (
            FolderState::Missing,
            Id::Folders,
            RowStatus::Red,
            "sealift setup --data /d",
        ),
        (
            FolderState::NoFolder,
            Id::Folders,
            RowStatus::Red,
            "sealift setup --data /d",
        ),
        (
            FolderState::Hangs(Duration::from_secs(3)),
            Id::Folders,
            RowStatus::Red,
            "findmnt --target /d",
        ),
        (
            FolderState::Failed("EIO".to_owned()),
            Id::Folders,
            RowStatus::Red,
            "namei -lx /d/shipped",
        ),
        (
            there(1, 0o755, false),
            Id::FolderAccess,
            RowStatus::Red,
            "sealift setup --data /d",
        ),
        (
            there(10, 0o500, false),
            Id::FolderAccess,
            RowStatus::Red,
            "sealift setup --data /d",
        ),
        (
            there(10, 0o777, false),
            Id::FolderAccess,
            RowStatus::Yellow,
            "sealift setup --data /d",
        ),
        (
            there(10, 0o1777, false),
            Id::FolderAccess,
            RowStatus::Green,
            "",
        ),
        (
            there(10, 0o770, true),
            Id::FolderAccess,
            RowStatus::Red,
            "mount -o remount,rw '/mnt/a b'",
        ),
    ] {
        let mut facts = sound();
        let shipped = facts
            .folders
            .iter_mut()
            .find(|folder| folder.name == "shipped")
            .unwrap();
        (shipped.state, shipped.mount) = (state.clone(), Some("/mnt/a b".into()));
        let row = of(&facts, id);
        assert_eq!(row.status, status, "{state:?}: {row:?}");
        assert!(
            row.fix.clone().unwrap_or_default().contains(fix),
            "{state:?}: {row:?}"
        );
    }
}

#[test]
fn where_the_file_system_keeps_no_modes_nobody_is_told_to_change_them() {
    let mut facts = sound();
    let shipped = facts
        .folders
        .iter_mut()
        .find(|folder| folder.name == "shipped")
        .unwrap();
    (shipped.state, shipped.modeless) = (there(10, 0o777, false), true);
    assert_eq!(of(&facts, Id::FolderAccess).status, RowStatus::Green);
}

#[test]
fn folders_in_one_another_are_red() {
    let mut facts = sound();
    facts.overlap = Some([PathBuf::from("/d/episodes"), PathBuf::from("/d/shipped")]);
    assert_eq!(of(&facts, Id::Folders).status, RowStatus::Red);
}

#[test]
fn each_finding_of_the_trial_has_its_colour_and_its_fix() {
    let paths = || (PathBuf::from("/d/episodes"), PathBuf::from("/d/shipped"));
    let (from, to) = paths();
    for (finding, status, fix) in [
        (
            Finding::Copies {
                to: to.clone(),
                same_device: false,
            },
            RowStatus::Green,
            "",
        ),
        (
            Finding::Copies {
                to: to.clone(),
                same_device: true,
            },
            RowStatus::Yellow,
            "sealift setup --data /d",
        ),
        (
            Finding::NotPermitted {
                from,
                to,
                why: "EPERM".to_owned(),
            },
            RowStatus::Red,
            "findmnt --target /d",
        ),
        (
            Finding::Unmovable {
                first: "a".to_owned(),
                count: 2,
                why: Unmovable::Sealed,
            },
            RowStatus::Red,
            "sealift setup --data /d",
        ),
        (
            Finding::Elsewhere {
                folder: "/d/shipped".into(),
                why: "it is gone".to_owned(),
            },
            RowStatus::Red,
            "mount -a",
        ),
        (
            Finding::Unmovable {
                first: "a".to_owned(),
                count: 2,
                why: Unmovable::Open,
            },
            RowStatus::Yellow,
            "! -exec test -e {}/done.marker ';' -ls",
        ),
        (
            Finding::Unmovable {
                first: "a".to_owned(),
                count: 2,
                why: Unmovable::Sticky,
            },
            RowStatus::Red,
            "sealift setup --data /d",
        ),
        (
            Finding::Frozen {
                some: vec!["/d/episodes/a".into()],
                count: 1,
                flag: 'i',
            },
            RowStatus::Red,
            "chattr -i /d/episodes/a",
        ),
    ] {
        let mut facts = sound();
        let siblings = ["/d/episodes", "/d/shipped"].map(str::to_owned).to_vec();
        if matches!(finding, Finding::Copies { .. }) {
            facts.unit.as_mut().unwrap().read_write_paths = Some(siblings);
        }
        facts.moves = Moves::ByUs(crate::disk::move_check::MoveCheck {
            findings: vec![finding.clone()],
        });
        let row = of(&facts, Id::Moves);
        assert_eq!(row.status, status, "{row:?}");
        assert!(row.fix.clone().unwrap_or_default().contains(fix), "{row:?}");
        facts.moves = Moves::ByDaemon(vec![TrialFinding::from(&finding)]);
        assert_eq!(of(&facts, Id::Moves).status, status);
    }
}

#[test]
fn where_no_daemon_has_tried_the_moves_it_is_said_for_which_user_they_were_looked_at() {
    let said = |change: fn(&mut Facts)| {
        let mut facts = sound();
        facts.moves = Moves::ByUs(crate::disk::move_check::MoveCheck::default());
        change(&mut facts);
        of(&facts, Id::Moves).summary
    };
    assert!(said(|_| ()).ends_with("Looked at for sealift, who ships."));
    let as_root = said(|facts| facts.people.shipper = None);
    assert!(as_root.contains("Looked at as root, since no unit says who ships"));
    let by_hand = said(|facts| {
        facts.people.us = facts.people.shipper.take().unwrap();
    });
    assert!(by_hand.ends_with("Looked at as sealift."), "{by_hand}");
}

#[test]
fn one_that_is_stuck_hides_no_other_that_is() {
    let frozen = Finding::Frozen {
        some: vec!["/d/episodes/imm".into()],
        count: 1,
        flag: 'i',
    };
    let unmovable = Finding::Unmovable {
        first: "a".to_owned(),
        count: 2,
        why: Unmovable::Sealed,
    };
    let stuck = TrialFinding {
        kind: TrialKind::Stuck,
        in_short: "7 episodes are delivered and cannot be moved".to_owned(),
        what_to_do: String::new(),
        fix: None,
    };
    let mut facts = sound();
    facts.moves = Moves::ByDaemon(vec![(&unmovable).into(), (&frozen).into(), stuck]);
    let row = of(&facts, Id::Moves);
    for words in [
        "such as imm: made immutable",
        "such as a.",
        "7 episodes are delivered",
    ] {
        assert!(row.summary.contains(words), "{words}: {row:?}");
    }
    assert_eq!(row.fix.as_deref(), Some("chattr -i /d/episodes/imm"));
}

#[test]
fn what_the_daemon_could_not_move_is_mended_without_sudo_by_root() {
    let fix = "sudo sealift setup --user 10 --give /d/a";
    let mut facts = sound();
    facts.moves = Moves::ByDaemon(vec![TrialFinding {
        kind: TrialKind::Stuck,
        in_short: "stuck".to_owned(),
        what_to_do: "stuck".to_owned(),
        fix: Some(fix.to_owned()),
    }]);
    // About the same folders.
    let fix = format!("{fix} --data /d");
    let by_root = fix.replace("sudo ", "");
    assert_eq!(of(&facts, Id::Moves).fix.unwrap(), by_root);
    facts.hands.root = false;
    assert_eq!(of(&facts, Id::Moves).fix.unwrap(), fix);
}

#[test]
fn what_we_may_not_do_says_nothing_of_who_ships() {
    let mut facts = sound();
    facts.hands.root = false;
    facts.people.us = Person {
        name: "op".to_owned(),
        uid: 7,
        gid: 7,
        groups: Vec::new(),
    };
    let (from, to) = (PathBuf::from("/d/episodes"), PathBuf::from("/d/shipped"));
    let finding = Finding::NotPermitted {
        from,
        to,
        why: "EACCES".to_owned(),
    };
    facts.moves = Moves::ByUs(crate::disk::move_check::MoveCheck {
        findings: vec![finding],
    });
    assert_eq!(of(&facts, Id::Moves).status, RowStatus::Yellow);
    facts.folders[0].state = FolderState::Failed("EACCES".to_owned());
    assert_eq!(of(&facts, Id::Folders).status, RowStatus::Yellow);
}

#[test]
fn where_nothing_can_be_moved_the_folder_that_is_closed_is_given_to_who_ships_else_the_unit_its_paths()
 {
    let (from, to) = (
        PathBuf::from("/d/episodes"),
        PathBuf::from("/mnt/b/shipped"),
    );
    let finding = TrialFinding::from(&Finding::NotPermitted {
        from,
        to: to.clone(),
        why: "EROFS".to_owned(),
    });
    let mut facts = sound();
    facts.moves = Moves::ByDaemon(vec![finding]);
    facts.folders[2].real = Some((to, 2));
    let fix = of(&facts, Id::Moves).fix.unwrap();
    assert_eq!(fix, "sealift setup --data /d");
    // With those already its own, and the folder open, something else is in the way.
    let paths = vec!["/d".to_owned(), "/mnt/b/shipped".to_owned()];
    facts.unit.as_mut().unwrap().read_write_paths = Some(paths);
    let fix = of(&facts, Id::Moves).fix.unwrap();
    assert!(fix.starts_with("findmnt "), "{fix}");
    facts.folders[2].state = there(0, 0o755, false);
    assert_eq!(
        of(&facts, Id::Moves).fix.unwrap(),
        "sealift setup --data /d"
    );
}

#[test]
fn a_folder_on_the_way_that_who_ships_may_not_pass_is_red_whatever_is_below() {
    let mut facts = sound();
    facts.folders[2].way = vec![
        (
            "/".into(),
            Owned {
                mode: 0o755,
                ..Owned::default()
            },
        ),
        (
            "/d".into(),
            Owned {
                mode: 0o700,
                ..Owned::default()
            },
        ),
    ];
    let row = of(&facts, Id::FolderAccess);
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Red, Some("sealift setup --data /d"))
    );
    assert!(
        row.summary
            .starts_with("sealift, who ships, may not pass /d (owner 0, group 0, mode 0700)"),
        "{row:?}"
    );
}
