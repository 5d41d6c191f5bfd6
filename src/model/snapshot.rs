//! How a running shipper stands, as data: the daemon makes it and serves it over its socket,
//! `status` and `doctor` read it.
//!
//! ```text
//!  ship/daemon ──Snapshot──▶ ship/control ──Prometheus text (docs/metrics.md)
//!                              └──JSON over <data_dir>/.sealift/control.sock
//!                                   ──▶ operate/ask ──▶ status, doctor
//! ```
//!
//! One version reads another's: a member that is not known is ignored, one that is missing is
//! empty, a word that is not known is `Other`. [`Snapshot::sealift_snapshot`] changes only where an
//! old member means something else than before.
//!
//! Spans are whole seconds (`_s`), amounts bytes (`_bytes`), moments UTC (`_wall`). Every text that
//! came from outside (a receiver's words, a folder's name) is printable here already, and no secret
//! is in any of it: an address comes without user, password and query.

mod episodes;
mod hold;
mod room;
mod totals;

use serde::{Deserialize, Serialize};

pub use self::episodes::EpisodeState;
pub(crate) use self::episodes::{
    Counts, EpisodeStatus, LeftAside, OpenFile, OpenFileStatus, ShippedChange, StrangerStatus,
    Strangers,
};
pub(crate) use self::hold::{HoldStatus, Slowed, WEATHER_LASTS_S};
pub(crate) use self::room::{LEAST_WATCHED_S, RoomStatus};
pub(crate) use self::totals::{Attempts, Bucket, Histogram, Totals};

use crate::model::records::WallTime;

/// The version of this form that this program writes.
pub(crate) const VERSION: u32 = 1;
/// So many episodes are listed each by itself. More are only counted.
pub(crate) const MAX_EPISODES: usize = 200;
/// So many names that are no ids are listed.
pub(crate) const MAX_STRANGERS: usize = 20;

/// The fields of an entry in the journal that are the contract's: what `doctor` and `trace` go by.
/// Only the log's own lines spell them out as well.
pub(crate) mod journal {
    /// Which episode.
    pub(crate) const EPISODE: &str = "EPISODE";
    /// What became of it: `delivered`, `transient`, `refused`, `conflict`, `fatal`, `hold`,
    /// `stuck`.
    pub(crate) const VERDICT: &str = "VERDICT";
    /// The HTTP status, where an answer came.
    pub(crate) const STATUS_CODE: &str = "STATUS_CODE";
    /// The archive's length, bytes.
    pub(crate) const BYTES: &str = "BYTES";
    /// From the marker until now, milliseconds.
    pub(crate) const ELAPSED_MS: &str = "ELAPSED_MS";
    /// From the marker until it was seen, milliseconds.
    pub(crate) const SEEN_MS: &str = "SEEN_MS";
    /// From the marker until it was packed, milliseconds.
    pub(crate) const PACKED_MS: &str = "PACKED_MS";
    /// From the marker until a receiver had acknowledged it, milliseconds.
    pub(crate) const DELIVERED_MS: &str = "DELIVERED_MS";
    /// The how manieth attempt this was, of this process.
    pub(crate) const ATTEMPT: &str = "ATTEMPT";
    /// From which byte on that one went, where it went on.
    pub(crate) const OFFSET_BYTES: &str = "OFFSET_BYTES";
    /// All of them.
    pub(crate) const ALL: [&str; 10] = [
        EPISODE,
        VERDICT,
        STATUS_CODE,
        BYTES,
        ELAPSED_MS,
        SEEN_MS,
        PACKED_MS,
        DELIVERED_MS,
        ATTEMPT,
        OFFSET_BYTES,
    ];
}

/// Everything that a person may want to know of a running shipper.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`VERSION`].
    pub sealift_snapshot: u32,
    /// The program's.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Who ships (`shipper.host_id`).
    #[serde(default)]
    pub host_id: String,
    /// When the process started, by this host's clock.
    pub started_at_wall: WallTime,
    /// When this was made, by this host's clock.
    pub taken_at_wall: WallTime,
    /// How long it runs.
    pub uptime_s: u64,
    /// It was told to stop, and finishes what is in flight.
    #[serde(default)]
    pub stopping: bool,
    /// How new episodes are noticed.
    #[serde(default)]
    pub watch: WatchStatus,
    /// Whether it lives.
    #[serde(default)]
    pub heart: Heart,
    /// Whether its log is taken.
    #[serde(default)]
    pub log: Log,
    /// Moves that did not work as they should when they were tried at the start.
    #[serde(default)]
    pub trial: Vec<TrialFinding>,
    /// What the last reload came to.
    #[serde(default)]
    pub reload: ReloadStatus,
    /// Why no metrics are given out at `shipper.metrics_listen`, where that is set.
    pub metrics_failed: Option<String>,
    /// The receiver.
    #[serde(default)]
    pub destination: DestinationStatus,
    /// Nothing is packed for now.
    pub packing_paused: Option<Pause>,
    /// The file systems that the folders are on, each once.
    #[serde(default)]
    pub room: Vec<RoomStatus>,
    /// How many episodes are in each state.
    #[serde(default)]
    pub counts: Counts,
    /// Those that are worth a look first: at work, in trouble, then the ones sealed longest; up to
    /// [`MAX_EPISODES`].
    #[serde(default)]
    pub episodes: Vec<EpisodeStatus>,
    /// How many more there are.
    #[serde(default)]
    pub episodes_left_out: u64,
    /// Since when the oldest sealed one waits that no receiver holds yet: since its marker was
    /// made.
    pub oldest_waiting_s: Option<u64>,
    /// Sealed episodes that wait for a file of theirs that is open for writing.
    #[serde(default)]
    pub open_files: OpenFileStatus,
    /// What was written to after it had been delivered and moved to `shipped/`; up to
    /// [`MAX_STRANGERS`].
    #[serde(default)]
    pub shipped_changed: Vec<ShippedChange>,
    /// What is in `episodes/` and can be no episode.
    #[serde(default)]
    pub strangers: Strangers,
    /// Episodes that cannot be looked at, or whose marker seals nothing, in words; up to
    /// [`MAX_STRANGERS`].
    #[serde(default)]
    pub unclear: Vec<String>,
    /// How many archives in the outbox have no episode beside them and are left alone, since
    /// `episodes/` is not the folder that it was.
    #[serde(default)]
    pub archives_stranded: u64,
    /// What is sealed and out of sight, since a move is at work in `episodes/`.
    pub left_aside: Option<LeftAside>,
    /// What is in `shipped/` and `quarantine/`.
    #[serde(default)]
    pub filed: FiledStatus,
    /// The first episode, printable, that was delivered and cannot be moved, since its stamps move
    /// again and again though what it packs to does not.
    pub stamps_move: Option<String>,
    /// What has been done since the start.
    #[serde(default)]
    pub totals: Totals,
}

/// What is said where stamps move though nothing is written: of this episode first.
pub(crate) fn stamps_move(id: &str) -> String {
    format!(
        "{id} was delivered, and each time that it is to be moved to shipped/ the stamps of its files (size, mtime or ctime) have \
         moved, though it packs to the same bytes: its file system changes them by itself, or a program touches recordings (a \
         backup, a virus scanner, a chown in a loop). It is not sent again; it is compared, with longer and longer pauses, until \
         its stamps rest. Keep that program out of episodes/, or use another file system for it"
    )
}

/// What is said of archives in the outbox that have no episode beside them, while `episodes/` is
/// not the folder that it was.
pub(crate) fn stranded(count: u64) -> String {
    let (archives, have, they_are) = match count {
        1 => (
            "1 archive".to_owned(),
            "has",
            "it may be the last copy of its episode",
        ),
        many => (
            format!("{many} archives"),
            "have",
            "each may be the last copy of its episode",
        ),
    };
    format!(
        "{archives} in outbox/ {have} no episode beside them: {they_are}. Nothing is done with them while episodes/ is not the \
         folder that it was when Sealift started (a disk that is not mounted, or a new folder). Bring that back; or, where \
         episodes/ is right as it is, restart Sealift: what nothing accounts for is then moved to quarantine/, with the command \
         that restores it"
    )
}

impl Snapshot {
    /// Of a process that begins at this moment, and knows nothing yet.
    #[must_use]
    pub fn begin(pid: u32, host_id: &str, now: WallTime) -> Self {
        Self {
            sealift_snapshot: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid,
            host_id: host_id.to_owned(),
            started_at_wall: now,
            taken_at_wall: now,
            ..Self::default()
        }
    }
}

/// How new episodes are noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchStatus {
    /// In which way just now.
    pub mode: NoticedBy,
    /// Why so: what was set, which file system it is, or why watches cannot be had.
    pub why: Option<String>,
    /// The command that gives the watches back, where there is one.
    pub fix: Option<String>,
    /// How often events were lost, or may have been, and everything was looked at instead; since
    /// the start.
    pub overflows: u64,
    /// How long between two looks everywhere, as things stand.
    pub reconcile_interval_s: u64,
    /// How long ago the last look everywhere ended; `None` where none has yet.
    pub last_look_ago_s: Option<u64>,
    /// Why the last look everywhere failed.
    pub last_look_failed: Option<String>,
}

/// In which way new episodes are noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticedBy {
    /// By events.
    Inotify,
    /// By looking every few seconds, as it should be here.
    ReconcileOnly,
    /// By looking every few seconds, since watches cannot be had or were lost.
    Blind,
    /// In one that this program does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// Whether it lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heart {
    /// Whether every part moves.
    pub beats: bool,
    /// How long ago it last beat; `None` where it has not yet. Older than two intervals: it does
    /// not.
    pub last_beat_ago_s: Option<u64>,
    /// How long between two beats, milliseconds.
    pub interval_ms: u64,
    /// How long the service manager waits for a beat before it starts the daemon again,
    /// milliseconds; `None`: it does not.
    pub watchdog_ms: Option<u64>,
    /// Whether there is a service manager that is told anything.
    pub notified: bool,
    /// Who has shown nothing for too long.
    pub stalled: Vec<StalledPart>,
}

/// The log. A reader that does not take its lines holds up nothing but them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// It goes to the journal; else to stderr.
    pub to_journal: bool,
    /// Lines that were dropped since the start: neither journald nor the reader of stderr took
    /// them, and no more could be kept.
    pub lines_dropped: u64,
    /// For how long the line that is being written has not been taken; `None` where lines are taken
    /// as they come.
    pub stuck_for_s: Option<u64>,
}

/// A part of the daemon that has shown nothing for longer than it may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StalledPart {
    /// Which, in words: "the packing of run-1".
    pub part: String,
    /// For which episode, where it is for one.
    pub episode_id: Option<String>,
    /// For how long.
    pub for_s: u64,
}

/// One move between the folders that does not work as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialFinding {
    /// What is wrong with it.
    pub kind: TrialKind,
    /// The same in a few words.
    pub in_short: String,
    /// What it means, and what to do about it.
    pub what_to_do: String,
    /// What to type, where one command mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What is wrong with a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialKind {
    /// It is a copy: another file system.
    Copies,
    /// It is a copy though both are one file system: something is mounted between (a unit's
    /// `ReadWritePaths=`).
    CopiesOnOneDevice,
    /// Nothing can be moved there.
    NotPermitted,
    /// A folder is not what it was at the start: a mount is gone, or came over it.
    Elsewhere,
    /// Some sealed episodes' folders cannot be moved, for want of permission on them.
    Unmovable,
    /// The same of some that are being recorded: they could not be moved if they were sealed now.
    UnmovableOpen,
    /// The same for the sticky bit of `episodes/`.
    Sticky,
    /// No trial: a receiver holds some episodes, or has rejected them, and they could not be moved
    /// when that was tried.
    Stuck,
    /// One that this program does not know.
    #[serde(other)]
    Other,
}

/// What is in `shipped/` and `quarantine/`, looked at when the question came. What is not known is
/// `None`, and no zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FiledStatus {
    /// How many episodes are in `quarantine/`.
    pub quarantined: Option<u64>,
    /// How many were delivered since midnight, UTC. Not known until `shipped/` was listed, once.
    pub shipped_today: Option<u64>,
    /// Their archives' length.
    pub shipped_today_bytes: Option<u64>,
    /// Names in `episodes/` under which an episode was shipped within the day; a few of them.
    pub reused_names: Vec<String>,
    /// What could not be looked at, in words.
    pub failed: Vec<String>,
}

/// What the last reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadStatus {
    /// Why it failed, until one succeeds.
    pub failed: Option<String>,
    /// Keys that were changed, and that only a restart applies.
    pub restart_for: Vec<String>,
}

/// The receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationStatus {
    /// Its address, without user, password and query.
    pub url: String,
    /// It is not sent to, but for probes.
    pub held: Option<HoldStatus>,
    /// Outside every upload window: nothing is sent until this time of day, by the host's clock
    /// ("22:00").
    pub closed_until: Option<String>,
    /// What uploads are limited to together, bytes a second (`bandwidth_limit`, or the window's).
    pub limit_bytes_per_s: Option<u64>,
    /// Uploads go slowly for now: it was held, or had too much to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowed: Option<Slowed>,
    /// Uploads that were sent to their last byte and are not answered since ten seconds, where
    /// others wait behind them.
    #[serde(skip_serializing_if = "is_zero")]
    pub unanswered: u64,
    /// How long ago a receiver last took an episode; `None` where none has since the start.
    pub last_delivery_ago_s: Option<u64>,
    /// How far its clock was ahead of ours when it last answered (negative: behind), seconds.
    /// `None` where it has not said.
    pub clock_ahead_s: Option<i64>,
    /// How long ago that was.
    pub clock_heard_ago_s: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Why.
    pub why: String,
    /// How much longer; `None` where no time is known.
    pub for_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"{"sealift_snapshot":1,"version":"0.1.0","pid":7,"started_at_wall":"2026-11-24T10:00:00Z",
        "taken_at_wall":"2026-11-24T10:00:05Z","uptime_s":5}"#;

    #[test]
    fn one_version_reads_another() {
        let least: Snapshot = serde_json::from_str(LEAST).unwrap();
        assert_eq!(least.watch.mode, NoticedBy::Other);
        let newer = LEAST.replacen(
            '{',
            r#"{"moons":3,"watch":{"mode":"telepathy","range":9},"#,
            1,
        );
        let newer = newer.replacen(
            '{',
            r#"{"episodes":[{"id":"a","state":"dreaming","depth":1}],"#,
            1,
        );
        let newer: Snapshot = serde_json::from_str(&newer).unwrap();
        assert_eq!(newer.watch, WatchStatus::default());
        assert_eq!(newer.episodes[0].state, EpisodeState::Other);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut snapshot: Snapshot = serde_json::from_str(LEAST).unwrap();
        snapshot.watch.mode = NoticedBy::ReconcileOnly;
        snapshot.totals.marker_to_delivered = Histogram {
            count: 1,
            sum_s: 0.25,
            buckets: vec![Bucket {
                up_to_s: 0.5,
                count: 1,
            }],
        };
        let written = serde_json::to_string(&snapshot).unwrap();
        assert!(
            written.starts_with(r#"{"sealift_snapshot":1,"#),
            "{written}"
        );
        assert!(written.contains(r#""mode":"reconcile-only""#), "{written}");
        assert_eq!(
            serde_json::from_str::<Snapshot>(&written).unwrap(),
            snapshot
        );
    }
}
