//! Hosts on which something is wrong, each in one way.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::Path, time::Duration};

use crate::{
    config::WatchMode,
    disk::scan::NoEpisode,
    http::client::{ClientError, Wait},
    model::{
        episode::{EpisodeId, FolderLook, Stamp},
        layout::Layout,
        records::{NOTHING_ELSE, ORPHAN, WallTime},
        retention::Due,
        snapshot::{
            HoldStatus, Log, NoticedBy, OpenFile, Pause, ShippedChange, Snapshot, StalledPart,
            TrialFinding, TrialKind,
        },
        text::typed_path,
    },
    operate::{
        doctor::{
            facts::{
                DaemonState, EpisodeFacts, Facts, FolderFacts, FolderState, Moves, NamedFile,
                Owned, Person, Quarantined, ReceiverAnswer, SettingsProblem, StrangerFacts,
            },
            judge::healthy_host::{quarantined, sound},
        },
        journal::{Journal, JournalEntry, JournalReading, Unread},
    },
};

/// A name that is no id.
pub(super) const STRANGER: &[u8] = b"-it's\n$(touch pwned) \xff";

/// Who asks, and on what host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypedBy {
    Root,
    Operator,
    /// Without a unit and without a file.
    ByHand,
}

pub(super) const CALLERS: [TypedBy; 3] = [TypedBy::Root, TypedBy::Operator, TypedBy::ByHand];

/// A sound host whose data is there.
pub(super) fn host(data: &Path, caller: TypedBy) -> Facts {
    let mut facts = sound();
    for folder in &mut facts.folders {
        folder.path = data.join(folder.name);
        folder.mount = Some(data.to_owned());
        folder.real = Some((folder.path.clone(), 1));
    }
    facts.layout = Some(Layout::below(data));
    facts.episodes.as_mut().unwrap().folder = data.join("episodes");
    facts.unit.as_mut().unwrap().read_write_paths = Some(vec![data.display().to_string()]);
    facts.hands.options = format!("--data {}", typed_path(data));
    facts.hands.file = Some(data.join("sealift.toml"));
    facts.settings.file.clone_from(&facts.hands.file);
    if caller != TypedBy::Root {
        facts.hands.root = false;
        facts.people.us = Person {
            name: "op er".to_owned(),
            uid: 7,
            gid: 7,
            groups: Vec::new(),
        };
    }
    if caller == TypedBy::ByHand {
        facts.hands.has_unit = false;
        facts.unit.as_mut().unwrap().load_state = "not-found".to_owned();
        facts.hands.receiver = "--receiver http://receiver.example".to_owned();
        (facts.hands.file, facts.settings.file) = (None, None);
        facts.people.us = facts.people.shipper.clone().unwrap();
    }
    facts
}

fn owned(uid: u32, gid: u32, mode: u32) -> Owned {
    Owned {
        uid,
        gid,
        mode,
        listed: false,
    }
}

fn folder<'a>(facts: &'a mut Facts, name: &str) -> &'a mut FolderFacts {
    let mut folders = facts.folders.iter_mut();
    folders.find(|folder| folder.name == name).unwrap()
}

fn there(owned: Owned, read_only: bool) -> FolderState {
    FolderState::There {
        owned,
        shared: None,
        read_only,
    }
}

fn daemon(facts: &mut Facts) -> &mut Snapshot {
    match &mut facts.daemon {
        DaemonState::Answers(snapshot) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn answers(facts: &mut Facts, status: u16, json: Option<serde_json::Value>) {
    facts.receiver.as_mut().unwrap().said = ReceiverAnswer::Answered {
        status,
        json,
        html: false,
        location: None,
        date: Some(facts.now),
        certificate_ends: None,
    };
}

fn fails(facts: &mut Facts, error: ClientError) {
    facts.receiver.as_mut().unwrap().said = ReceiverAnswer::Failed(error);
}

fn named_file(facts: &Facts, owned: Result<Owned, String>, why: Option<bool>) -> NamedFile {
    NamedFile {
        key: "receiver.client_key_file",
        path: facts.folders[0].path.join("key"),
        secret: true,
        owned,
        way: Vec::new(),
        unreadable: why.map(|is_denied| ("no".to_owned(), is_denied)),
    }
}

fn moves(facts: &mut Facts, kind: TrialKind, fix: Option<String>) {
    facts.moves = Moves::ByDaemon(vec![TrialFinding {
        kind,
        in_short: "it is so".to_owned(),
        what_to_do: "It is so.".to_owned(),
        fix,
    }]);
}

fn episode(facts: &mut Facts, id: &EpisodeId, look: FolderLook, bad_marker: Option<&str>) {
    let since = WallTime::from_unix_seconds(facts.now.unix_seconds() - 3 * 86_400);
    facts.episodes.as_mut().unwrap().episodes = vec![EpisodeFacts {
        id: id.clone(),
        look,
        since: Some(since),
        bad_marker: bad_marker.map(str::to_owned),
    }];
}

const SEALED: FolderLook = FolderLook::Sealed(Stamp {
    sealed_ns: 0,
    inodes: (0, 0),
    made_ns: 0,
    written_ns: 0,
});

fn stranger(facts: &mut Facts, name: &[u8], why: NoEpisode) {
    facts.episodes.as_mut().unwrap().strangers = vec![StrangerFacts {
        name: OsString::from_vec(name.to_vec()),
        why,
        sealed: true,
    }];
}

fn aside(facts: &mut Facts, id: &EpisodeId, change: impl Fn(&mut Quarantined)) {
    let mut one = quarantined(id.as_str(), None);
    one.folder = folder(facts, "quarantine").path.join(id.as_str());
    change(&mut one);
    facts.aside.as_mut().unwrap().quarantined = vec![one];
}

fn said(facts: &mut Facts, entries: &[(&str, u16)]) {
    let entries = entries.iter().map(|(verdict, status)| JournalEntry {
        verdict: Some((*verdict).to_owned()),
        status: Some(*status),
        message: "it said so".to_owned(),
        ..JournalEntry::default()
    });
    facts.journal = Some(Journal::of(Ok(JournalReading {
        entries: entries.collect(),
        ..JournalReading::default()
    })));
}

type Breaks = fn(&mut Facts, &EpisodeId);

/// Each breaks a sound host.
pub(super) const BROKEN: &[(&str, Breaks)] = &[
    ("no configuration", |facts, _| {
        facts.settings.problem = Some(SettingsProblem::Missing);
    }),
    ("a wrong one", |facts, _| {
        facts.settings.problem = Some(SettingsProblem::Wrong("at line 3".to_owned()));
    }),
    ("one that is closed", |facts, _| {
        facts.settings.problem = Some(SettingsProblem::NotPermitted("no".to_owned()));
    }),
    ("one that who ships cannot read", |facts, _| {
        facts.settings.owned = Some(owned(0, 0, 0o600));
    }),
    ("no receiver", |facts, _| {
        facts.settings.problem = Some(SettingsProblem::Wrong("no url".to_owned()));
        (facts.settings.file, facts.settings.url) = (None, None);
    }),
    ("a key that cannot be read", |facts, _| {
        facts.settings.files = vec![named_file(facts, Err("EIO".to_owned()), Some(false))];
    }),
    ("a key that is closed", |facts, _| {
        facts.settings.files = vec![named_file(facts, Err("EACCES".to_owned()), Some(true))];
    }),
    ("a key that is root's", |facts, _| {
        facts.settings.files = vec![named_file(facts, Ok(owned(0, 0, 0o600)), None)];
    }),
    ("a folder that is missing", |facts, _| {
        folder(facts, "shipped").state = FolderState::Missing;
    }),
    ("a folder that is none", |facts, _| {
        folder(facts, "shipped").state = FolderState::NoFolder;
    }),
    ("a folder that hangs", |facts, _| {
        folder(facts, "shipped").state = FolderState::Hangs(Duration::from_secs(2));
    }),
    ("a folder that fails", |facts, _| {
        folder(facts, "shipped").state = FolderState::Failed("EIO".to_owned());
    }),
    ("a folder that is mounted read-only", |facts, _| {
        folder(facts, "shipped").state = there(owned(10, 20, 0o2770), true);
    }),
    ("the same where the mount is not known", |facts, _| {
        let shipped = folder(facts, "shipped");
        (shipped.state, shipped.mount) = (there(owned(10, 20, 0o2770), true), None);
    }),
    ("a folder that is another's", |facts, _| {
        folder(facts, "shipped").state = there(owned(0, 0, 0o700), false);
    }),
    ("folders in one another", |facts, _| {
        let [one, other] = [0, 1].map(|n: usize| facts.folders[n].path.clone());
        facts.overlap = Some([one, other]);
    }),
    ("something in the way of an archive", |facts, id| {
        let path = facts.folders[1].path.join(id.as_str());
        facts.in_the_way = vec![(path, "a directory")];
    }),
    ("no room", |facts, _| facts.rooms[0].free_bytes = 0),
    ("no room, and nothing shipped there", |facts, _| {
        facts.rooms[0].free_bytes = 0;
        facts.rooms[0].folders = vec!["outbox".to_owned()];
    }),
    ("moves to elsewhere", |facts, _| {
        moves(facts, TrialKind::Elsewhere, None);
    }),
    ("moves that are not permitted", |facts, _| {
        moves(facts, TrialKind::NotPermitted, None);
    }),
    ("a move that is stuck", |facts, _| {
        moves(facts, TrialKind::Stuck, None);
    }),
    ("one that a command mends", |facts, id| {
        let path = facts.folders[0].path.join(id.as_str());
        let denied = std::io::ErrorKind::PermissionDenied.into();
        let shipped = Path::new("/");
        let layout = facts.layout.as_ref().unwrap();
        let said = crate::disk::record_files::advice(&denied, &path, shipped, layout);
        let typed = said.rsplit_once(crate::disk::record_files::TYPE).unwrap().1;
        assert!(
            super::words_of(typed)
                .unwrap()
                .contains(&"--data".to_owned())
        );
        let fix = crate::disk::record_files::command_in(&said, layout).map(str::to_owned);
        moves(facts, TrialKind::Stuck, fix);
    }),
    ("open ones that could not be moved", |facts, _| {
        facts.people.shipper.as_mut().unwrap().groups = vec![20, 30];
        moves(facts, TrialKind::UnmovableOpen, None);
    }),
    ("copies on one device", |facts, _| {
        moves(facts, TrialKind::CopiesOnOneDevice, None);
    }),
    ("stamps that move", |facts, id| {
        daemon(facts).stamps_move = Some(id.to_string());
    }),
    ("events on a file system of many hosts", |facts, _| {
        facts.settings.watch = Some(WatchMode::Inotify);
        folder(facts, "episodes").state = FolderState::There {
            owned: owned(10, 20, 0o2770),
            shared: Some("NFS"),
            read_only: false,
        };
    }),
    ("too few watches", |facts, _| {
        facts.inotify.as_mut().unwrap().needed_watches = 1 << 40;
    }),
    ("a unit that is not known", |facts, _| {
        facts.unit.as_mut().unwrap().load_state = "not-found".to_owned();
        facts.daemon = DaemonState::None;
    }),
    ("a unit that is masked", |facts, _| {
        facts.unit.as_mut().unwrap().load_state = "masked".to_owned();
    }),
    ("a unit that is disabled", |facts, _| {
        facts.unit.as_mut().unwrap().file_state = "disabled".to_owned();
    }),
    ("a unit that has failed", |facts, _| {
        facts.unit.as_mut().unwrap().active_state = "failed".to_owned();
        facts.daemon = DaemonState::None;
    }),
    ("a unit that is not started", |facts, _| {
        facts.unit.as_mut().unwrap().active_state = "inactive".to_owned();
        facts.daemon = DaemonState::None;
    }),
    ("a unit that cleans up", |facts, _| {
        facts.unit.as_mut().unwrap().active_state = "deactivating".to_owned();
    }),
    ("no watchdog", |facts, _| {
        facts.unit.as_mut().unwrap().watchdog = "0".to_owned();
    }),
    ("restarts", |facts, _| {
        facts.unit.as_mut().unwrap().restarts = 7;
    }),
    ("a daemon that is silent", |facts, _| {
        facts.daemon = DaemonState::Silent {
            pid: Some(7),
            why: "no socket".to_owned(),
            is_heard: true,
        };
    }),
    ("a daemon that hangs", |facts, _| {
        facts.daemon = DaemonState::Silent {
            pid: Some(7),
            why: "it hangs".to_owned(),
            is_heard: false,
        };
    }),
    ("a daemon that may not be asked", |facts, _| {
        facts.daemon = DaemonState::NotPermitted { pid: Some(7) };
    }),
    ("no daemon", |facts, _| facts.daemon = DaemonState::None),
    ("a log that is not taken", |facts, _| {
        daemon(facts).log = Log {
            stuck_for_s: Some(130),
            ..Log::default()
        };
    }),
    ("an old daemon", |facts, _| {
        daemon(facts).version = "0.0.1".to_owned();
    }),
    ("a part that stalls", |facts, id| {
        daemon(facts).heart.stalled = vec![StalledPart {
            part: format!("the packing of {id}"),
            episode_id: Some(id.to_string()),
            for_s: 300,
        }];
    }),
    ("no watches", |facts, _| {
        let watch = &mut daemon(facts).watch;
        (watch.mode, watch.fix) = (NoticedBy::Blind, Some("sysctl a=1".to_owned()));
    }),
    ("a reload that failed", |facts, _| {
        daemon(facts).reload.failed = Some("no".to_owned());
    }),
    ("a reload that is not all", |facts, _| {
        daemon(facts).reload.restart_for = vec!["a".to_owned()];
    }),
    ("no metrics", |facts, _| {
        daemon(facts).metrics_failed = Some("127.0.0.1:9".to_owned());
    }),
    ("a hold", |facts, _| {
        daemon(facts).destination.held = Some(HoldStatus {
            for_s: 900,
            why: "answered 403".to_owned(),
            status_code: Some(403),
            next_probe_in_s: 3,
            weather: false,
            suspect: None,
            idle: false,
        });
    }),
    ("a pause of the packing", |facts, _| {
        daemon(facts).packing_paused = Some(Pause {
            why: "no room".to_owned(),
            for_s: None,
        });
    }),
    ("a certificate that ends", |facts, _| {
        let path = facts.folders[0].path.join("client.pem");
        facts.settings.client_certificate_ends = Some((path, facts.now));
    }),
    ("a name that is not known", |facts, _| {
        fails(facts, ClientError::UnknownName("dns".to_owned()));
    }),
    ("a receiver that is away", |facts, _| {
        fails(facts, ClientError::TimedOut(Wait::Connect));
    }),
    ("a receiver here that is away", |facts, _| {
        let receiver = facts.receiver.as_mut().unwrap();
        receiver.host = "localhost".to_owned();
        receiver.origin = "http://localhost:8490".to_owned();
        fails(facts, ClientError::TimedOut(Wait::Connect));
    }),
    ("a receiver that is another", |facts, _| {
        fails(facts, ClientError::Tls("UnknownIssuer".to_owned()));
    }),
    ("a receiver whose certificate is over", |facts, _| {
        fails(facts, ClientError::Tls("certificate expired".to_owned()));
    }),
    ("a receiver that does not know us", |facts, _| {
        facts.hands.credential = Some(facts.folders[0].path.join("token"));
        answers(facts, 401, None);
    }),
    ("one that no credential is for", |facts, _| {
        answers(facts, 401, None);
    }),
    ("a receiver that is busy", |facts, _| {
        facts.settings.files = vec![named_file(facts, Ok(owned(10, 20, 0o640)), None)];
        answers(facts, 429, None);
    }),
    ("a commit that is not taken", |facts, _| {
        let problem = serde_json::json!({"type": "urn:sealift:commit-out-of-window"});
        answers(facts, 412, Some(problem));
    }),
    ("no commit", |facts, _| {
        let problem = serde_json::json!({"type": "urn:sealift:commit-missing"});
        answers(facts, 400, Some(problem));
    }),
    ("another answer", |facts, _| answers(facts, 418, None)),
    ("a clock that is off", |facts, _| {
        facts.now = WallTime::from_unix_seconds(facts.now.unix_seconds() + 30 * 86_400);
    }),
    ("what was rejected", |facts, _| {
        said(facts, &[("fatal", 422)]);
    }),
    ("what failed", |facts, _| said(facts, &[("transient", 503)])),
    ("a journal that is closed", |facts, _| {
        facts.journal = Some(Journal::of(Err(Unread::NotPermitted)));
    }),
    ("a journal that is none", |facts, _| {
        facts.journal = Some(Journal::of(Err(Unread::Unavailable("no".to_owned()))));
    }),
    ("what something else refuses", |facts, _| {
        daemon(facts).counts.refused = 1;
    }),
    ("a conflict", |facts, id| {
        episode(facts, id, SEALED, None);
        let found = facts.episodes.as_mut().unwrap();
        found.conflicts = vec![(id.clone(), "it holds another".to_owned())];
    }),
    ("a marker that is none", |facts, id| {
        episode(facts, id, FolderLook::OddMarker("a directory"), None);
    }),
    ("a marker of a rest", |facts, id| {
        let rest = crate::model::episode::MARKED_REST;
        episode(facts, id, FolderLook::OddMarker(rest), None);
    }),
    ("half a manifest", |facts, id| {
        episode(facts, id, SEALED, Some("half a manifest"));
    }),
    ("an episode that is closed", |facts, id| {
        let why = "open: Permission denied (os error 13)".to_owned();
        episode(facts, id, FolderLook::Unreadable(why), None);
    }),
    ("one that cannot be read", |facts, id| {
        let why = "EIO".to_owned();
        episode(facts, id, FolderLook::Unreadable(why), None);
    }),
    ("a recording that is open for long", |facts, id| {
        episode(facts, id, FolderLook::Open, None);
    }),
    ("a name that is no id", |facts, _| {
        let why = NoEpisode::Name(EpisodeId::parse("-x").unwrap_err());
        stranger(facts, STRANGER, why);
    }),
    ("a link", |facts, _| {
        stranger(facts, STRANGER, NoEpisode::Symlink);
    }),
    ("a link with a plain name", |facts, id| {
        stranger(facts, id.as_str().as_bytes(), NoEpisode::Symlink);
    }),
    ("a marker beside the episodes", |facts, _| {
        stranger(facts, b"done.marker", NoEpisode::LooseMarker);
    }),
    ("what an earlier command left", |facts, id| {
        let long_ago = WallTime::from_unix_seconds(0);
        let name = format!(".{id}.copy");
        facts.episodes.as_mut().unwrap().broken_off = vec![(name, long_ago)];
    }),
    ("what waits for long", |facts, id| {
        episode(facts, id, SEALED, None);
    }),
    ("archives alone", |facts, _| {
        daemon(facts).archives_stranded = 1;
    }),
    ("a rest of a move", |facts, id| {
        facts.daemon = DaemonState::None;
        episode(facts, id, FolderLook::BeingRemoved, None);
    }),
    ("a file that is open", |facts, id| {
        let open = OpenFile {
            episode_id: id.to_string(),
            file: "it's $(x)".to_owned(),
            pid: None,
            process: None,
            for_s: 900,
            before_move: false,
        };
        let files = &mut daemon(facts).open_files;
        (files.count, files.some) = (1, vec![open]);
    }),
    ("what was written to since", |facts, id| {
        let change = |folder: String| ShippedChange {
            episode_id: id.to_string(),
            folder,
        };
        daemon(facts).shipped_changed = vec![change(id.to_string())];
    }),
    ("a name that was shipped", |facts, id| {
        facts.episodes.as_mut().unwrap().reused = vec![id.clone()];
    }),
    ("a folder that is a rest", |facts, id| {
        let copy = facts.folders[2].path.join(id.as_str());
        facts.episodes.as_mut().unwrap().left = vec![(id.clone(), copy)];
    }),
    ("one in quarantine", |facts, id| {
        aside(facts, id, |one| one.status = Some(422));
    }),
    ("one whose seal speaks against it", |facts, id| {
        aside(facts, id, |_| ());
    }),
    ("one that is not sealed", |facts, id| {
        aside(facts, id, |one| one.sealed = false);
    }),
    ("one that is closed there", |facts, id| {
        aside(facts, id, |one| {
            one.unreadable = Some(("no".to_owned(), true));
        });
    }),
    ("one that cannot be read there", |facts, id| {
        aside(facts, id, |one| {
            one.unreadable = Some(("EIO".to_owned(), false));
        });
    }),
    ("an archive alone", |facts, id| {
        aside(facts, id, |one| {
            one.verdict = ORPHAN.to_owned();
            one.why = NOTHING_ELSE.to_owned();
            one.comes_back_as = EpisodeId::parse("a-1").ok();
        });
    }),
    ("one whose name is in use", |facts, id| {
        episode(facts, id, SEALED, None);
        aside(facts, id, |one| one.status = Some(422));
    }),
    ("one that is about to go", |facts, id| {
        let now = facts.now;
        aside(facts, id, |one| {
            one.due = Due::At {
                since: now,
                due: now,
            };
        });
    }),
];
