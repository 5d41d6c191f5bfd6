//! What was found, before it is judged. `gather/` finds it, `judge/` says what it means.

mod receiver;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) use self::receiver::{AskedCommit, PlainRequest, ReceiverAnswer, ReceiverFacts, Remedy};
use super::{
    setup,
    words::{CommandContext, Fix, foreign, typed_path, word},
};
use crate::{
    disk::{move_check::MoveCheck, ownership::Link, scan::NoEpisode},
    model::{
        episode::{Commit, EpisodeId, FolderLook},
        layout::Layout,
        records::WallTime,
        retention::Due,
        snapshot::RoomStatus,
    },
    operate::journal::Journal,
};

/// Everything. What could not be asked, since something before it is wrong, is `None`.
#[derive(Debug)]
pub(super) struct Facts {
    /// When it was asked, by this host's clock.
    pub(super) now: WallTime,
    /// Who types.
    pub(super) hands: CommandContext,
    /// The configuration.
    pub(super) settings: SettingsFacts,
    /// Who asks, and who ships.
    pub(super) people: People,
    /// Where the folders are set to be.
    pub(super) layout: Option<Layout>,
    /// The folders, in the order of an episode's way.
    pub(super) folders: Vec<FolderFacts>,
    /// The folder that `.sealift` is to be made in, while it is not there.
    pub(super) private_in: Option<PassedFolder>,
    /// What stands in `outbox/` where an archive has to lie, and is no file; what it is.
    pub(super) in_the_way: Vec<(PathBuf, &'static str)>,
    /// Two folders of which one lies in the other.
    pub(super) overlap: Option<[PathBuf; 2]>,
    /// Each file system that they are on.
    pub(super) rooms: Vec<RoomStatus>,
    /// Whether episodes can be moved.
    pub(super) moves: Moves,
    /// inotify's limits, where it is used.
    pub(super) inotify: Option<InotifyLimits>,
    /// The unit.
    pub(super) unit: Option<Unit>,
    /// The daemon.
    pub(super) daemon: DaemonState,
    /// The word of one that was killed stands in the lock file.
    pub(super) was_killed: bool,
    /// The receiver.
    pub(super) receiver: Option<ReceiverFacts>,
    /// The journal, where there is a unit.
    pub(super) journal: Option<Journal>,
    /// What is in `episodes/` and `outbox/`.
    pub(super) episodes: Option<EpisodesFacts>,
    /// What is in `quarantine/` and `shipped/`.
    pub(super) aside: Option<FiledEpisodes>,
}

impl Facts {
    /// No daemon runs, and none was to run: what is sealed is shipped by hand.
    pub(super) fn is_shipped_by_hand(&self) -> bool {
        matches!(self.daemon, DaemonState::None) && !self.hands.has_unit && !self.was_killed
    }

    /// What mends folders, permissions and the unit. Where all that is left is what it refuses, a
    /// look at that, and why.
    pub(super) fn setup(&self) -> Fix {
        match setup::refused(self) {
            Some((path, why)) => {
                let look = foreign(&path, |path| format!("namei -lx {path}"));
                Fix::from(self.hands.as_root(&look))
                    .then(format!("`sealift setup` leaves it: {why}."))
            }
            None => self.setup_command().into(),
        }
    }

    /// The same, whatever it refuses.
    pub(super) fn setup_command(&self) -> String {
        let (us, is_root) = (&self.people.us, self.hands.root);
        if is_root || self.hands.has_unit || us.uid != self.people.shipper().uid {
            return self.hands.as_root(&self.hands.sealift("setup"));
        }
        if setup::takes_root(self) {
            return self.setup_for(us);
        }
        self.hands.sealift("setup")
    }

    /// What root types for a user that no unit names.
    pub(super) fn setup_for(&self, user: &Person) -> String {
        let setup = format!("setup --user {} --group {}", word(&user.name), user.gid);
        self.hands.as_root(&self.hands.sealift(&setup))
    }

    /// What gives one sealed episode to who ships.
    pub(super) fn give(&self, episode: &Path) -> String {
        let give = format!("setup --give {}", typed_path(episode));
        self.hands.as_root(&self.hands.sealift(&give))
    }
}

/// The configuration.
#[derive(Debug, Default)]
pub(super) struct SettingsFacts {
    /// Which file was read.
    pub(super) file: Option<PathBuf>,
    /// What is wrong with it.
    pub(super) problem: Option<SettingsProblem>,
    /// Keys of the configuration that name files, and the files.
    pub(super) files: Vec<NamedFile>,
    /// Why they cannot be used together, where that is more than one of them alone being
    /// unreadable.
    pub(super) credential_problem: Option<String>,
    /// A token would be sent to another machine without TLS.
    pub(super) token_in_clear: bool,
    /// `doctor.update_command`
    pub(super) update_command: Option<String>,
    /// `shipper.watch`, as it was set.
    pub(super) watch: Option<crate::config::WatchMode>,
    /// `receiver.url`
    pub(super) url: Option<String>,
    /// When our own certificate ends, where there is one.
    pub(super) client_certificate_ends: Option<(PathBuf, WallTime)>,
    /// Why receivers refuse it, its end apart.
    pub(super) client_certificate_fault: Option<String>,
    /// Whose the configuration file is.
    pub(super) owned: Option<Owned>,
    /// The folders that lead to it.
    pub(super) way: Vec<PassedFolder>,
    /// `shipper.metrics_textfile`
    pub(super) metrics_textfile: Option<PathBuf>,
    /// `shipper.quarantine_keep_days`
    pub(super) quarantine_keep_days: Option<u32>,
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SettingsProblem {
    /// The calling user may not read the file.
    NotPermitted(String),
    /// There is none, and the command line does not say enough either.
    Missing,
    /// It is wrong.
    Wrong(String),
}

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedFile {
    /// `receiver.token_file`
    pub(super) key: &'static str,
    /// Where.
    pub(super) path: PathBuf,
    /// Whether others must not read it.
    pub(super) secret: bool,
    /// What stands there; or why that cannot be told.
    pub(super) owned: Result<Owned, String>,
    /// The folders that lead there.
    pub(super) way: Vec<PassedFolder>,
    /// Why the calling user cannot read it, and whether that is for want of permission.
    pub(super) unreadable: Option<(String, bool)>,
}

/// Whose something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Owned {
    /// The owner.
    pub(super) uid: u32,
    /// Its group.
    pub(super) gid: u32,
    /// The permission bits.
    pub(super) mode: u32,
    /// It has an access control list (acl(5)): what that grants is not known here.
    pub(super) listed: bool,
}

/// A folder that has to be passed on the way to something.
pub(super) type PassedFolder = (PathBuf, Owned);

/// Who asks, and who ships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct People {
    /// Who asks.
    pub(super) us: Person,
    /// Who ships: the daemon's user, else the unit's; `None` where that is not known.
    pub(super) shipper: Option<Person>,
    /// The unit's user, where this host knows none of that name.
    pub(super) unknown_user: Option<String>,
}

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Person {
    /// The name; the number where it has none.
    pub(super) name: String,
    /// The number.
    pub(super) uid: u32,
    /// The first group.
    pub(super) gid: u32,
    /// All groups.
    pub(super) groups: Vec<u32>,
}

/// One of the folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderFacts {
    /// `episodes`, `outbox`, `shipped`, `quarantine`, `.sealift`
    pub(super) name: &'static str,
    /// Where.
    pub(super) path: PathBuf,
    /// What stands there.
    pub(super) state: FolderState,
    /// Its file system keeps no permission bits: chmod(1) does nothing there.
    pub(super) modeless: bool,
    /// The folders that lead there, the outermost first.
    pub(super) way: Vec<PassedFolder>,
    /// Where its file system is mounted; `None` where that cannot be told.
    pub(super) mount: Option<PathBuf>,
    /// Where it is once symlinks are followed, and on which device; `None` where that cannot be
    /// told.
    pub(super) real: Option<(PathBuf, u64)>,
    /// The symlink on the way there that leads nowhere, or that `sealift setup` does not follow.
    pub(super) link: Option<Link>,
}

/// What stands where a folder should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FolderState {
    /// It.
    There {
        /// Whose it is.
        owned: Owned,
        /// The name of its file system, where other hosts may write to it.
        shared: Option<&'static str>,
        /// It is mounted read-only.
        read_only: bool,
    },
    /// Nothing.
    Missing,
    /// Something else.
    NoFolder,
    /// It cannot be looked at.
    Failed(String),
    /// The disk, or the file server, has not answered for so long.
    Hangs(Duration),
}

/// Whether episodes can be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moves {
    /// The daemon has tried at its start, as its own user and with its own mounts.
    ByDaemon(Vec<crate::model::snapshot::TrialFinding>),
    /// We have just tried, as the calling user.
    ByUs(MoveCheck),
    /// Not tried: the folders are not such that it would say anything.
    NotTried,
}

/// inotify(7)'s limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InotifyLimits {
    /// `fs.inotify.max_user_watches`
    pub(super) max_watches: u64,
    /// `user.max_inotify_watches`, the limit of the user namespace; `None` where the kernel has
    /// none.
    pub(super) max_namespace_watches: Option<u64>,
    /// `fs.inotify.max_user_instances`
    pub(super) max_instances: u64,
    /// `user.max_inotify_instances`
    pub(super) max_namespace_instances: Option<u64>,
    /// One for each open episode, and one for `episodes/`.
    pub(super) needed_watches: u64,
}

/// What the service manager says of the unit. Words are systemd's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// `loaded`, `not-found`, `masked`, ...
    pub(super) load_state: String,
    /// `active`, `inactive`, `failed`, `activating`, ...
    pub(super) active_state: String,
    /// `running`, `auto-restart`, ...
    pub(super) sub_state: String,
    /// `enabled`, `disabled`, ...
    pub(super) file_state: String,
    /// `success`, `exit-code`, `watchdog`, ...
    pub(super) result: String,
    /// The exit code of its last end.
    pub(super) exit_status: String,
    /// `0` where there is no watchdog.
    pub(super) watchdog: String,
    /// How often it was started again by itself.
    pub(super) restarts: u64,
    /// 0 where it does not run.
    pub(super) main_pid: u32,
    /// Who it runs as; empty: root.
    pub(super) user: String,
    /// That user is there only while it runs (`DynamicUser=`).
    pub(super) is_user_dynamic: bool,
    /// What it may write to (`ReadWritePaths=`), as systemd says it; `None` where it does not.
    pub(super) read_write_paths: Option<Vec<String>>,
}

/// Whether a daemon runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DaemonState {
    /// It has answered.
    Answers(Box<crate::model::snapshot::Snapshot>),
    /// It has not, though it is there.
    Silent {
        /// Its process.
        pid: Option<u32>,
        /// Why there is no answer.
        why: String,
        /// It has refreshed its lock within minutes: its loop turns.
        is_heard: bool,
    },
    /// It is there, and the calling user may not speak to it.
    NotPermitted {
        /// Its process.
        pid: Option<u32>,
    },
    /// There is none.
    None,
    /// There are no folders to look for one in.
    Unknown,
}

/// What is in `episodes/`, and of the outbox what a person should know.
#[derive(Debug, Default)]
pub(super) struct EpisodesFacts {
    /// How many archives in the outbox have no episode beside them.
    pub(super) archives_alone: u64,
    /// Where.
    pub(super) folder: PathBuf,
    /// Each folder whose name is an id.
    pub(super) episodes: Vec<EpisodeFacts>,
    /// What can be no episode.
    pub(super) strangers: Vec<StrangerFacts>,
    /// The receiver holds other content under these, or may; what it said.
    pub(super) conflicts: Vec<(EpisodeId, String)>,
    /// Hidden folders that look like what a typed command makes for a while, and when each was last
    /// written to at its top.
    pub(super) broken_off: Vec<(String, WallTime)>,
    /// Names that something has, or had that was shipped or put aside: of those that a stranger or
    /// a conflict might be given.
    pub(super) taken: std::collections::HashSet<String>,
    /// Names in `episodes/` under which an episode was shipped within the day.
    pub(super) reused: Vec<EpisodeId>,
    /// What is left in `episodes/` of a source that was copied, and was written to while it was
    /// removed; with the copy.
    pub(super) left: Vec<(EpisodeId, PathBuf)>,
    /// Time was up before everything was looked at.
    pub(super) cut_off: Option<CutOff>,
}

/// Where a look through the episodes was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CutOff {
    /// There are names that were not even read.
    pub(super) in_listing: bool,
    /// So many episodes were looked into.
    pub(super) after: usize,
    /// After so long.
    pub(super) within: Duration,
}

/// One episode.
#[derive(Debug, Clone)]
pub(super) struct EpisodeFacts {
    /// Its id.
    pub(super) id: EpisodeId,
    /// What a look found.
    pub(super) look: FolderLook,
    /// When it was sealed; of an open one, when something at its top was last written.
    pub(super) since: Option<WallTime>,
    /// What is wrong with its marker, though it is a regular file.
    pub(super) bad_marker: Option<String>,
}

/// Something in `episodes/` that can be no episode.
#[derive(Debug, Clone)]
pub(super) struct StrangerFacts {
    /// Its name.
    pub(super) name: std::ffi::OsString,
    /// Why it is none.
    pub(super) why: NoEpisode,
    /// It has been sealed.
    pub(super) sealed: bool,
}

/// What is in `quarantine/` and `shipped/`.
#[derive(Debug, Default)]
pub(super) struct FiledEpisodes {
    /// What waits for a person.
    pub(super) quarantined: Vec<Quarantined>,
    /// How many in `shipped/` the clean-up will remove within a week: the receiver holds them.
    pub(super) shipped_due: usize,
    /// There was more than could be looked at in the time.
    pub(super) incomplete: bool,
}

/// One in `quarantine/`.
#[derive(Debug, Clone)]
pub(super) struct Quarantined {
    /// The episode; the name of its folder where nothing says which it is.
    pub(super) name: String,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Why its reason cannot be read, and whether that is for want of permission.
    pub(super) unreadable: Option<(String, bool)>,
    /// It has its marker still, without which it would wait in `episodes/` for ever.
    pub(super) sealed: bool,
    /// That marker was written after it came here: it was sealed again.
    pub(super) resealed: bool,
    /// It was rejected for want of a commit, and has none still.
    pub(super) lacks_commit: bool,
    /// It was rejected for its commit, or for want of one: requeue asks whether that is taken now.
    pub(super) is_for_its_commit: bool,
    /// Its commit, where it was rejected for that.
    pub(super) commit: Option<Commit>,
    /// Whether the receiver takes that commit now; `None` where it was not asked, or said nothing.
    pub(super) is_admitted: Option<bool>,
    /// The verdict's name.
    pub(super) verdict: String,
    /// The HTTP status, where there was an answer.
    pub(super) status: Option<u16>,
    /// Why, in a sentence.
    pub(super) why: String,
    /// Under which name what is in an archive alone can come back now.
    pub(super) comes_back_as: Option<EpisodeId>,
    /// What the receiver told this host to do.
    pub(super) remedy: Option<Remedy>,
    /// When it came here.
    pub(super) at: Option<WallTime>,
    /// When the clean-up removes it.
    pub(super) due: Due,
}
