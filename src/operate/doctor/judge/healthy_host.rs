//! A host on which nothing is wrong, for tests to break.

use std::path::PathBuf;

use crate::{
    config::WatchMode,
    model::{
        layout::Layout,
        records::{RELEASED, WallTime},
        retention::Due,
        snapshot,
    },
    operate::{
        doctor::{
            facts::{
                AskedCommit, DaemonState, EpisodesFacts, Facts, FiledEpisodes, FolderFacts,
                FolderState, InotifyLimits, Moves, Owned, People, Person, Quarantined,
                ReceiverAnswer, ReceiverFacts, SettingsFacts, Unit,
            },
            row::{DoctorReport, RowStatus},
            words::CommandContext,
        },
        journal::{Journal, JournalReading},
    },
};

/// Asked by root; shipped by `sealift` (user 10, group 20) in `/d`.
pub(in crate::operate::doctor) fn sound() -> Facts {
    let now = WallTime::from_unix_seconds(RELEASED.unix_seconds() + 100 * 86_400);
    let owned = Owned {
        uid: 10,
        gid: 20,
        mode: 0o2770,
        listed: false,
    };
    let folder = |name: &'static str| FolderFacts {
        name,
        path: PathBuf::from("/d").join(name),
        state: FolderState::There {
            owned,
            shared: None,
            read_only: false,
        },
        modeless: false,
        way: Vec::new(),
        mount: None,
        real: Some((PathBuf::from("/d").join(name), 1)),
        link: None,
    };
    let root = Person {
        name: "root".to_owned(),
        ..Person::default()
    };
    let shipper = Person {
        name: "sealift".to_owned(),
        uid: 10,
        gid: 20,
        groups: vec![20],
    };
    Facts {
        now,
        hands: CommandContext {
            root: true,
            unit: "sealift.service".to_owned(),
            has_unit: true,
            daemon_pid: Some(7),
            options: "--data /d".to_owned(),
            receiver: String::new(),
            file: Some(PathBuf::from("/etc/sealift/sealift.toml")),
            credential: None,
        },
        settings: SettingsFacts {
            file: Some(PathBuf::from("/etc/sealift/sealift.toml")),
            watch: Some(WatchMode::Auto),
            url: Some("https://receiver.example:8490".to_owned()),
            quarantine_keep_days: Some(30),
            ..SettingsFacts::default()
        },
        people: People {
            us: root,
            shipper: Some(shipper),
            unknown_user: None,
        },
        layout: Some(Layout::below(&PathBuf::from("/d"))),
        folders: ["episodes", "outbox", "shipped", "quarantine", ".sealift"]
            .map(folder)
            .into(),
        private_in: None,
        overlap: None,
        in_the_way: Vec::new(),
        rooms: vec![snapshot::RoomStatus {
            folders: vec!["episodes".to_owned(), "shipped".to_owned()],
            path: "/d/episodes".to_owned(),
            free_bytes: 500_000_000_000,
            total_bytes: 1_000_000_000_000,
            free_files: Some(1_000_000),
            filling_bytes_per_s: None,
            lasts_s: None,
        }],
        moves: Moves::ByDaemon(Vec::new()),
        inotify: Some(InotifyLimits {
            max_watches: 65_536,
            max_namespace_watches: Some(65_536),
            max_instances: 128,
            max_namespace_instances: Some(128),
            needed_watches: 2,
        }),
        unit: Some(Unit {
            load_state: "loaded".to_owned(),
            active_state: "active".to_owned(),
            sub_state: "running".to_owned(),
            file_state: "enabled".to_owned(),
            result: "success".to_owned(),
            exit_status: "0".to_owned(),
            watchdog: "3min".to_owned(),
            restarts: 0,
            main_pid: 7,
            user: "sealift".to_owned(),
            is_user_dynamic: false,
            read_write_paths: Some(vec!["/d".to_owned()]),
        }),
        was_killed: false,
        daemon: DaemonState::Answers(Box::new(snapshot_of(now))),
        receiver: Some(ReceiverFacts {
            origin: "https://receiver.example:8490".to_owned(),
            host: "receiver.example".to_owned(),
            unit_here: false,
            at_admission: true,
            has_credential: false,
            commit: AskedCommit::None,
            meta_fault: None,
            plain: None,
            remedy: None,
            said: ReceiverAnswer::Answered {
                status: 204,
                json: None,
                html: false,
                location: None,
                date: Some(now),
                certificate_ends: Some(WallTime::from_unix_seconds(
                    now.unix_seconds() + 90 * 86_400,
                )),
            },
        }),
        journal: Some(Journal::of(Ok(JournalReading::default()))),
        episodes: Some(EpisodesFacts {
            folder: PathBuf::from("/d/episodes"),
            ..EpisodesFacts::default()
        }),
        aside: Some(FiledEpisodes::default()),
    }
}

/// In `quarantine/`, under its own name, sealed, with its reason.
pub(in crate::operate::doctor) fn quarantined(name: &str, status: Option<u16>) -> Quarantined {
    Quarantined {
        name: name.to_owned(),
        folder: PathBuf::from("/d/quarantine").join(name),
        unreadable: None,
        sealed: true,
        resealed: false,
        lacks_commit: false,
        is_for_its_commit: matches!(status, Some(400 | 412)),
        commit: None,
        is_admitted: None,
        verdict: "fatal".to_owned(),
        status,
        why: "answered \u{1b}".to_owned(),
        comes_back_as: None,
        remedy: None,
        at: None,
        due: Due::Never,
    }
}

fn snapshot_of(now: WallTime) -> snapshot::Snapshot {
    let mut snapshot: snapshot::Snapshot = serde_json::from_value(serde_json::json!({
        "sealift_snapshot": snapshot::VERSION, "version": env!("CARGO_PKG_VERSION"), "pid": 7,
        "started_at_wall": now, "taken_at_wall": now, "uptime_s": 60,
    }))
    .unwrap();
    snapshot.watch.mode = snapshot::NoticedBy::Inotify;
    snapshot.heart.watchdog_ms = Some(180_000);
    snapshot
}

#[test]
fn on_a_sound_host_every_row_is_green() {
    let report = DoctorReport::of(super::judge(&sound()));
    assert_eq!(report.status(), RowStatus::Green, "{:#?}", report.rows);
    assert!(report.rows.len() > 25, "{}", report.rows.len());
    let mut ids: Vec<_> = report.rows.iter().map(|row| row.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), report.rows.len(), "no check twice");
}
