//! Looks, and judges nothing. Everything at once, each look with a deadline of its own: whatever
//! hangs is left behind, and said.
//!
//! ```text
//!  systemctl show ─┐
//!  lock, socket ───┼──▶ people ──▶ trial of moves (without a daemon)
//!  folders ────────┘
//!  meta.json of the newest episode ──▶ GET /v1/admission
//!  journalctl        episodes/, outbox/        quarantine/, shipped/
//! ```

mod daemon;
mod episodes;
mod folders;
mod names;
pub(super) mod permissions;
mod quarantine;
mod receiver;
mod remedy;
mod run;
pub(super) mod service;
mod settings;

use std::{path::Path, time::Duration};

use super::{
    DoctorQuery,
    facts::{DaemonState, Facts, FolderState, InotifyLimits, Moves, People},
    words::CommandContext,
};
use crate::{
    clock,
    config::WatchMode,
    disk::{
        move_check::{self, Trier},
        ownership,
    },
    model::{layout::Layout, progress::Progress, snapshot::Snapshot},
    operate::journal,
};

/// For a look at one folder, or at what is in it. A disk that takes longer counts as hanging: the
/// operator is waiting.
const DISK: Duration = Duration::from_millis(1500);
/// For the newest episode's commit, before the receiver is asked.
const COMMIT: Duration = Duration::from_millis(700);
/// For systemctl, journalctl and their like.
const PROGRAM: Duration = Duration::from_millis(2000);

/// Everything there is to know.
pub(super) async fn gather(question: &DoctorQuery) -> Facts {
    let now = clock::wall_now();
    let settings = settings::read(question);
    let known = settings.known;
    let layout = known.layout.clone();
    let hands = CommandContext {
        root: rustix::process::geteuid().is_root(),
        unit: known.doctor.unit.clone(),
        has_unit: false,
        daemon_pid: None,
        options: question.options.clone(),
        receiver: question.receiver.clone(),
        file: question.file.clone(),
        credential: known.credential().cloned(),
    };
    let ask_journal = journal::JournalQuery {
        unit: hands.unit.clone(),
        since: question.since,
        with: None,
        within: PROGRAM,
    };
    let host = async {
        let (unit, daemon, folders) = tokio::join!(
            service::unit(&hands.unit),
            daemon::ask(layout.as_ref()),
            folders::look(layout.as_ref())
        );
        let people = permissions::who(unit.as_ref(), daemon_pid(&daemon)).await;
        let (moves, rooms) = tokio::join!(
            moves(layout.as_ref(), &daemon, &folders.folders),
            folders::rooms(layout.as_ref(), &daemon, &folders.folders)
        );
        (unit, daemon, folders, people, moves, rooms)
    };
    let keep = known
        .ship
        .as_ref()
        .map(|ship| (ship.quarantine_keep_days, ship.shipped_keep_days));
    let (host, receiver, journal, episodes, aside) = tokio::join!(
        host,
        receiver::ask(&known, layout.as_ref()),
        async { journal::Journal::of(journal::read(&ask_journal).await) },
        async {
            let mut found = episodes::look(layout.as_ref()).await;
            names::look(layout.as_ref(), &mut found).await;
            found
        },
        quarantine::look(layout.as_ref(), keep, now),
    );
    let aside = receiver::ask_of_quarantined(&known, receiver.as_ref(), aside).await;
    let (unit, daemon, folders, people, moves, rooms) = host;
    let moves = for_shipper(moves, &people, layout.as_ref()).await;
    let has_unit = unit
        .as_ref()
        .is_some_and(|unit| unit.load_state != "not-found");
    let watches = known
        .ship
        .as_ref()
        .is_some_and(|ship| uses_inotify(ship.watch, &folders.folders));
    let open = episodes.as_ref().map_or(0, |found| {
        found
            .episodes
            .iter()
            .filter(|episode| matches!(episode.look, crate::model::episode::FolderLook::Open))
            .count()
    });
    Facts {
        now,
        hands: CommandContext {
            has_unit,
            daemon_pid: daemon_pid(&daemon),
            ..hands.with_receiver_of(snapshot(&daemon))
        },
        settings: settings.facts,
        people,
        folders: folders.folders,
        private_in: folders.private_in,
        overlap: folders.overlap,
        in_the_way: folders.in_the_way,
        rooms,
        moves,
        inotify: if watches { inotify(open).await } else { None },
        journal: unit.is_some().then_some(journal),
        unit,
        was_killed: daemon::was_killed(&daemon, layout.as_ref()).await,
        daemon,
        layout,
        receiver,
        episodes,
        aside,
    }
}

/// What `sealift setup` goes by: the configuration, the folders and the unit. No receiver is asked.
pub(super) async fn host(question: &DoctorQuery) -> Facts {
    let settings = settings::read(question);
    let credential = settings.known.credential().cloned();
    let layout = settings.known.layout;
    let unit_name = settings.known.doctor.unit;
    let (unit, daemon, folders) = tokio::join!(
        service::unit(&unit_name),
        daemon::ask(layout.as_ref()),
        folders::look(layout.as_ref())
    );
    let pid = daemon_pid(&daemon);
    let people = permissions::who(unit.as_ref(), pid).await;
    Facts {
        now: clock::wall_now(),
        hands: CommandContext {
            root: rustix::process::geteuid().is_root(),
            unit: unit_name,
            has_unit: unit
                .as_ref()
                .is_some_and(|unit| unit.load_state != "not-found"),
            daemon_pid: pid,
            options: question.options.clone(),
            receiver: question.receiver.clone(),
            file: question.file.clone(),
            credential,
        },
        settings: settings.facts,
        people,
        layout,
        folders: folders.folders,
        private_in: folders.private_in,
        overlap: folders.overlap,
        in_the_way: folders.in_the_way,
        rooms: Vec::new(),
        moves: Moves::NotTried,
        inotify: None,
        journal: None,
        unit,
        was_killed: false,
        daemon,
        receiver: None,
        episodes: None,
        aside: None,
    }
}

/// Root has tried the moves, and another user ships.
async fn for_shipper(moves: Moves, people: &People, layout: Option<&Layout>) -> Moves {
    let (Moves::ByUs(check), Some(shipper), Some(layout)) = (&moves, &people.shipper, layout)
    else {
        return moves;
    };
    if people.us.uid != 0 || shipper.uid == 0 {
        return moves;
    }
    let (check, shipper, episodes) = (check.clone(), shipper.clone(), layout.episodes.clone());
    let look = move || {
        let is_in = |gid| shipper.is_in(gid);
        let sealed = ownership::sealed_of_others(&episodes, shipper.uid, is_in);
        check.for_shipper(&sealed.unwrap_or_default())
    };
    within(DISK, look).await.map_or(moves, Moves::ByUs)
}

fn snapshot(daemon: &DaemonState) -> Option<&Snapshot> {
    match daemon {
        DaemonState::Answers(snapshot) => Some(snapshot),
        DaemonState::Silent { .. }
        | DaemonState::NotPermitted { .. }
        | DaemonState::None
        | DaemonState::Unknown => None,
    }
}

fn daemon_pid(daemon: &DaemonState) -> Option<u32> {
    match daemon {
        DaemonState::Answers(snapshot) => Some(snapshot.pid),
        DaemonState::Silent { pid, .. } | DaemonState::NotPermitted { pid } => *pid,
        DaemonState::None | DaemonState::Unknown => None,
    }
}

/// On a thread that may hang; `None` where it is not done in time.
async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::time::timeout(limit, tokio::task::spawn_blocking(work))
        .await
        .ok()?
        .ok()
}

/// The daemon's own trial; ours where none runs and the folders are there. `.sealift-trash-` is how
/// what we make is called: a recorder and a daemon that starts meanwhile pass it over. What a
/// doctor left that was killed at it goes first.
async fn moves(
    layout: Option<&Layout>,
    daemon: &DaemonState,
    folders: &[super::facts::FolderFacts],
) -> Moves {
    let are = |is: fn(&FolderState) -> bool| {
        folders
            .iter()
            .all(|folder| folder.name == ".sealift" || is(&folder.state))
    };
    let there = |state: &FolderState| matches!(state, FolderState::There { .. });
    let Some(layout) = layout.cloned().filter(|_| are(there)) else {
        return match daemon {
            DaemonState::Answers(snapshot) => Moves::ByDaemon(snapshot.trial.clone()),
            DaemonState::Silent { .. }
            | DaemonState::NotPermitted { .. }
            | DaemonState::Unknown
            | DaemonState::None => Moves::NotTried,
        };
    };
    let left = layout.clone();
    // Where that hangs, what was left is the least trouble.
    let _ = within(DISK, move || move_check::clear(&left)).await;
    match daemon {
        DaemonState::Answers(snapshot) => return Moves::ByDaemon(snapshot.trial.clone()),
        DaemonState::Silent { .. } | DaemonState::NotPermitted { .. } | DaemonState::Unknown => {
            return Moves::NotTried;
        }
        DaemonState::None => {}
    }
    if !are(|state| {
        matches!(
            state,
            FolderState::There {
                read_only: false,
                ..
            }
        )
    }) {
        return Moves::NotTried;
    }
    within(DISK, move || {
        move_check::run(&layout, Trier::Visitor, &Progress::default())
    })
    .await
    .map_or(Moves::NotTried, Moves::ByUs)
}

fn uses_inotify(watch: WatchMode, folders: &[super::facts::FolderFacts]) -> bool {
    let shared = folders.iter().any(|folder| {
        folder.name == "episodes"
            && matches!(
                folder.state,
                FolderState::There {
                    shared: Some(_),
                    ..
                }
            )
    });
    match watch {
        WatchMode::Auto => !shared,
        WatchMode::Inotify => true,
        WatchMode::ReconcileOnly => false,
    }
}

async fn inotify(open: usize) -> Option<InotifyLimits> {
    let number = |path: &str| {
        std::fs::read_to_string(Path::new(path))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    within(DISK, move || {
        Some(InotifyLimits {
            max_watches: number("/proc/sys/fs/inotify/max_user_watches")?,
            max_namespace_watches: number("/proc/sys/user/max_inotify_watches"),
            max_instances: number("/proc/sys/fs/inotify/max_user_instances")?,
            max_namespace_instances: number("/proc/sys/user/max_inotify_instances"),
            needed_watches: u64::try_from(open).unwrap_or(u64::MAX).saturating_add(1),
        })
    })
    .await?
}
