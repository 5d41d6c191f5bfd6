use std::os::unix::ffi::OsStringExt as _;

use super::*;
use crate::{
    disk::scan::NoEpisode,
    model::{
        episode::Stamp,
        snapshot::{EpisodeState, Slowed},
    },
    operate::doctor::{
        facts::{Person, StrangerFacts},
        judge::healthy_host::sound,
        row::RowStatus,
    },
};

const SEALED: FolderLook = FolderLook::Sealed(Stamp {
    sealed_ns: 0,
    inodes: (0, 0),
    made_ns: 0,
    written_ns: 0,
});

fn episode(name: &str, look: FolderLook, hours_ago: i64, now: WallTime) -> EpisodeFacts {
    let since = WallTime::from_unix_seconds(now.unix_seconds() - hours_ago * 3600);
    EpisodeFacts {
        id: EpisodeId::parse(name).unwrap(),
        look,
        since: Some(since),
        bad_marker: None,
    }
}

fn row_with(id: Id, change: impl FnOnce(&mut EpisodesFacts, WallTime)) -> DoctorRow {
    let mut facts = sound();
    let now = facts.now;
    let episodes = facts.episodes.as_mut().unwrap();
    change(episodes, now);
    let rows = rows(&facts);
    let others = rows
        .iter()
        .filter(|row| row.id != id && row.status != RowStatus::Green);
    assert_eq!(others.count(), 0, "{rows:?}");
    rows.into_iter().find(|row| row.id == id).unwrap()
}

#[test]
fn a_conflict_is_red_and_its_fix_gives_ours_another_name() {
    let row = row_with(Id::Conflicts, |found, now| {
        found.episodes = vec![
            episode("a", SEALED, 0, now),
            episode("a-1", FolderLook::Open, 0, now),
        ];
        found.conflicts = vec![(EpisodeId::parse("a").unwrap(), "held since May".to_owned())];
        // Shipped once.
        found.taken = ["a-2".to_owned()].into();
    });
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (
            RowStatus::Red,
            Some("sealift rename --from episodes a a-3 --data /d")
        )
    );
}

#[test]
fn a_conflict_that_only_the_daemon_knows_of_is_red_too() {
    let mut facts = sound();
    let DaemonState::Answers(snapshot) = &mut facts.daemon else {
        panic!("{:?}", facts.daemon)
    };
    snapshot.counts.conflict = 1;
    let rows = rows(&facts);
    let row = rows.iter().find(|row| row.id == Id::Conflicts).unwrap();
    assert_eq!(
        (row.status, row.details["count"].as_u64()),
        (RowStatus::Red, Some(1))
    );
}

#[test]
fn a_marker_that_cannot_be_read_is_red_with_what_mends_it() {
    for (look, bad_marker, fix) in [
        (
            FolderLook::OddMarker("a directory"),
            None,
            "sealift seal --again /d/episodes/a",
        ),
        (
            FolderLook::Unreadable("open: Permission denied (os error 13)".to_owned()),
            None,
            "sealift setup --give /d/episodes/a --data /d",
        ),
        (
            FolderLook::Unreadable("EIO".to_owned()),
            None,
            "ls -la /d/episodes/a",
        ),
        (
            SEALED,
            Some("half a manifest".to_owned()),
            "sealift seal --again /d/episodes/a",
        ),
    ] {
        let row = row_with(Id::Markers, |found, now| {
            found.episodes = vec![EpisodeFacts {
                bad_marker,
                ..episode("a", look, 0, now)
            }];
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Red, Some(fix))
        );
    }
}

#[test]
fn a_recording_that_was_forgotten_is_sealed_by_the_fix() {
    for (hours, status) in [
        (1, RowStatus::Green),
        (23, RowStatus::Green),
        (24, RowStatus::Yellow),
        (-5, RowStatus::Green),
    ] {
        let row = row_with(Id::OpenLong, |found, now| {
            found.episodes = vec![episode("a b", FolderLook::Open, hours, now)];
        });
        assert_eq!(row.status, status, "{hours}: {row:?}");
        if status == RowStatus::Yellow {
            assert_eq!(
                row.fix.as_deref(),
                Some("sealift seal --idle 1h '/d/episodes/a b'")
            );
        }
    }
}

#[test]
fn what_waits_for_long_is_yellow_and_for_a_day_red() {
    for (hours, status) in [
        (0, RowStatus::Green),
        (1, RowStatus::Yellow),
        (24, RowStatus::Red),
    ] {
        let row = row_with(Id::Waiting, |found, now| {
            found.episodes = vec![
                episode("new", SEALED, 0, now),
                episode("old", SEALED, hours, now),
            ];
        });
        assert_eq!(row.status, status, "{row:?}");
        assert_eq!(row.details["count"], 2);
    }
}

#[test]
fn what_waits_for_its_upload_window_says_so_and_is_no_trouble_for_a_day() {
    for (hours, status) in [
        (2, RowStatus::Green),
        (23, RowStatus::Green),
        (24, RowStatus::Red),
    ] {
        let mut facts = sound();
        let DaemonState::Answers(snapshot) = &mut facts.daemon else {
            panic!("{:?}", facts.daemon)
        };
        snapshot.destination.closed_until = Some("22:00".to_owned());
        let now = facts.now;
        facts.episodes.as_mut().unwrap().episodes = vec![episode("old", SEALED, hours, now)];
        let row = rows(&facts)
            .into_iter()
            .find(|row| row.id == Id::Waiting)
            .unwrap();
        assert_eq!(row.status, status, "{row:?}");
        assert!(
            row.summary.ends_with("nothing is sent until 22:00."),
            "{row:?}"
        );
    }
}

#[test]
fn what_the_daemon_says_of_the_one_that_waits_longest_is_said() {
    for hours in [0, 2, 24] {
        let mut facts = sound();
        let DaemonState::Answers(snapshot) = &mut facts.daemon else {
            panic!("{:?}", facts.daemon)
        };
        snapshot.episodes = vec![crate::model::snapshot::EpisodeStatus {
            id: "old".to_owned(),
            state: EpisodeState::Waiting,
            why: Some(
                "Let PATCH through there, or set receiver.require_receipt = false".to_owned(),
            ),
            sealed_at_wall: None,
            again_in_s: None,
            size_bytes: None,
            sent_bytes: None,
            bytes_per_s: None,
            left_s: None,
        }];
        let now = facts.now;
        facts.episodes.as_mut().unwrap().episodes = vec![
            episode("new", SEALED, 0, now),
            episode("old", SEALED, hours, now),
        ];
        let row = rows(&facts)
            .into_iter()
            .find(|row| row.id == Id::Waiting)
            .unwrap();
        let says = "The daemon says of it: Let PATCH through there, or set receiver.require_receipt = false.";
        // Of two that were sealed together it may be either.
        assert!(hours == 0 || row.summary.ends_with(says), "{row:?}");
    }
}

#[test]
fn what_waits_since_uploads_go_slowly_says_so() {
    let mut facts = sound();
    let DaemonState::Answers(snapshot) = &mut facts.daemon else {
        panic!("{:?}", facts.daemon)
    };
    snapshot.destination.slowed = Some(Slowed {
        at_once: 2,
        next_in_s: 0,
    });
    let now = facts.now;
    facts.episodes.as_mut().unwrap().episodes = vec![episode("healthy", SEALED, 0, now)];
    let row = rows(&facts)
        .into_iter()
        .find(|row| row.id == Id::Waiting)
        .unwrap();
    let says = " The daemon's uploads go slowly after failures: 2 at once, the next at once.";
    assert!(row.summary.ends_with(says), "{row:?}");
}

#[test]
fn a_name_that_is_no_id_is_red_where_somebody_sealed_it_and_renamed_by_the_fix() {
    for (name, sealed, status, fix) in [
        (
            b"-x".to_vec(),
            false,
            RowStatus::Yellow,
            "sealift rename --from episodes %2Dx x-1 --data /d",
        ),
        (
            b"-x".to_vec(),
            true,
            RowStatus::Red,
            "sealift rename --from episodes %2Dx x-1 --data /d",
        ),
        (
            b"a\x1b[2J".to_vec(),
            true,
            RowStatus::Red,
            "sealift rename --from episodes 'a%1B[2J' a__2J-1 --data /d",
        ),
    ] {
        let why = NoEpisode::Name(EpisodeId::parse("-x").unwrap_err());
        let stranger = StrangerFacts {
            name: std::ffi::OsString::from_vec(name),
            why,
            sealed,
        };
        let row = row_with(Id::Names, |found, _| found.strangers = vec![stranger]);
        assert_eq!((row.status, row.fix.as_deref()), (status, Some(fix)));
        assert!(!row.summary.contains('\u{1b}'), "{row:?}");
    }
    let stranger = StrangerFacts {
        name: "done.marker".into(),
        why: NoEpisode::LooseMarker,
        sealed: true,
    };
    let row = row_with(Id::Names, |found, _| found.strangers = vec![stranger]);
    assert_eq!(row.fix.as_deref(), Some("sealift setup --data /d"));
}

#[test]
fn two_names_that_are_tamed_alike_are_given_different_ones() {
    let stranger = |name: &str| StrangerFacts {
        name: name.into(),
        why: NoEpisode::Name(EpisodeId::parse("-x").unwrap_err()),
        sealed: true,
    };
    let row = row_with(Id::Names, |found, _| {
        found.strangers = vec![stranger("-x"), stranger(".-x")];
    });
    let fixes = [
        "sealift rename --from episodes %2Dx x-1 --data /d",
        "sealift rename --from episodes .-x x-2 --data /d",
    ];
    assert_eq!(row.fix.as_deref(), Some(fixes[0]));
    assert_eq!(row.details["fixes"], serde_json::json!(fixes));
}

#[test]
fn a_link_is_left_to_a_person_and_what_needs_no_root_is_typed_without() {
    let stranger = |name: &str, why| StrangerFacts {
        name: name.into(),
        why,
        sealed: true,
    };
    for (name, fix) in [
        ("it's", r"readlink -f '/d/episodes/it'\''s'"),
        ("li\nnk", "ls -la /d/episodes"),
    ] {
        let link = stranger(name, NoEpisode::Symlink);
        let row = row_with(Id::Names, |found, _| found.strangers = vec![link]);
        assert_eq!(row.fix.as_deref(), Some(fix));
        assert!(row.summary.contains("docs/doctor.md#symlinks"), "{row:?}");
    }
    // And hides none that a command mends.
    let row = row_with(Id::Names, |found, _| {
        let why = NoEpisode::Name(EpisodeId::parse("-x").unwrap_err());
        found.strangers = vec![stranger("link", NoEpisode::Symlink), stranger("-x", why)];
    });
    assert_eq!(
        row.fix.as_deref(),
        Some("sealift rename --from episodes %2Dx x-1 --data /d")
    );
    // For a user who may not, it is run as root.
    let mut facts = sound();
    facts.hands.root = false;
    facts.people.us = Person {
        name: "op".to_owned(),
        uid: 7,
        gid: 7,
        groups: Vec::new(),
    };
    let why = NoEpisode::Name(EpisodeId::parse("-x").unwrap_err());
    facts.episodes.as_mut().unwrap().strangers = vec![stranger("-x", why)];
    let row = rows(&facts)
        .into_iter()
        .find(|row| row.id == Id::Names)
        .unwrap();
    let typed = "sudo sealift rename --from episodes %2Dx x-1 --data /d";
    assert_eq!(row.fix.as_deref(), Some(typed));
}

#[test]
fn a_manifest_that_is_being_written_is_no_fault_for_a_minute() {
    for (seconds_ago, status) in [
        (0, RowStatus::Green),
        (59, RowStatus::Green),
        (60, RowStatus::Red),
    ] {
        let row = row_with(Id::Markers, |found, now| {
            let written_ns = (now.unix_seconds() - seconds_ago) * 1_000_000_000;
            let look = FolderLook::Sealed(Stamp {
                sealed_ns: 0,
                inodes: (0, 0),
                made_ns: 0,
                written_ns,
            });
            let bad_marker = Some("half a manifest".to_owned());
            found.episodes = vec![EpisodeFacts {
                bad_marker,
                ..episode("a", look, 0, now)
            }];
        });
        assert_eq!(row.status, status, "{seconds_ago}");
    }
}

#[test]
fn what_waits_where_no_daemon_is_to_run_is_told_at_once_and_shipped_by_hand() {
    let of = |has_unit: bool, was_killed: bool| {
        let mut facts = Facts {
            daemon: DaemonState::None,
            was_killed,
            ..sound()
        };
        facts.hands.has_unit = has_unit;
        let stamp = Stamp {
            sealed_ns: 0,
            inodes: (0, 0),
            made_ns: 0,
            written_ns: 0,
        };
        let now = facts.now;
        facts.episodes.as_mut().unwrap().episodes =
            vec![episode("run-1", FolderLook::Sealed(stamp), 0, now)];
        let rows = rows(&facts).into_iter();
        rows.filter(|row| row.id == Id::Waiting)
            .map(|row| (row.status, row.fix))
            .next()
            .unwrap()
    };
    let once = "sealift ship --once --data /d".to_owned();
    assert_eq!(of(false, false), (RowStatus::Yellow, Some(once)));
    assert_eq!(of(true, false), (RowStatus::Green, None));
    assert_eq!(of(false, true), (RowStatus::Green, None));
}

#[test]
fn archives_alone_are_for_the_next_start_where_no_daemon_runs_and_left_alone_only_where_one_does() {
    let of = |daemon: DaemonState| {
        let mut facts = Facts { daemon, ..sound() };
        facts.episodes.as_mut().unwrap().archives_alone = 2;
        rows(&facts)
            .into_iter()
            .find(|row| row.id == Id::Waiting)
            .unwrap()
    };
    let row = of(DaemonState::None);
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Yellow, Some("systemctl start sealift.service"))
    );
    assert!(row.summary.contains("the next start looks"), "{row:?}");
    assert!(
        !row.summary.contains("Nothing is done with them"),
        "{row:?}"
    );
    let DaemonState::Answers(mut snapshot) = sound().daemon else {
        panic!()
    };
    // It settles them, unless it says otherwise.
    assert_eq!(
        of(DaemonState::Answers(snapshot.clone())).status,
        RowStatus::Green
    );
    snapshot.archives_stranded = 2;
    let row = of(DaemonState::Answers(snapshot));
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Red, Some("systemctl restart sealift.service"))
    );
    assert!(row.summary.contains("Nothing is done with them"), "{row:?}");
}

#[test]
fn what_is_left_of_a_move_is_for_the_next_start_where_no_daemon_runs() {
    let of = |daemon: DaemonState| {
        let mut facts = Facts { daemon, ..sound() };
        let now = facts.now;
        facts.episodes.as_mut().unwrap().episodes =
            vec![episode("run-1", FolderLook::BeingRemoved, 0, now)];
        rows(&facts)
            .into_iter()
            .find(|row| row.id == Id::Waiting)
            .unwrap()
    };
    let row = of(DaemonState::None);
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Yellow, Some("systemctl start sealift.service"))
    );
    assert!(
        row.summary.starts_with("run-1: it was copied away"),
        "{row:?}"
    );
    assert_eq!(of(sound().daemon).status, RowStatus::Green);
}
