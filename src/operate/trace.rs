//! One episode's timeline: out of the journal, and out of what lies beside it.
//!
//! ```text
//!  episodes/ outbox/ shipped/ quarantine/ ─▶ found.rs ───┐
//!  journalctl EPISODE=<id>                ─▶ journal.rs ─┼─▶ timeline.rs (pure) ─▶ steps, with the
//!  the daemon, where one runs             ─▶ ask.rs ─────┘                         time between
//! ```
//!
//! Each of the three may be missing. What could not be read is said, and the rest is told.

mod found;
mod timeline;

use std::time::Duration;

use tokio::time::timeout;

pub(crate) use self::{found::TraceFinding, timeline::TimelineStep};
use super::{
    ask::{self, NoAnswer},
    journal::{self, JournalQuery, Unread},
};
use crate::model::{
    episode::EpisodeId,
    layout::Layout,
    snapshot::{EpisodeStatus, journal::EPISODE},
};

/// How far back the journal is asked for.
const SINCE: Duration = Duration::from_secs(366 * 24 * 3600);
/// How long it may take: a journal of years, on a slow disk.
const JOURNAL_WITHIN: Duration = Duration::from_secs(20);
/// And the four folders. A content of many files is added up in seconds.
const FOLDERS_WITHIN: Duration = Duration::from_secs(20);
const DAEMON_WITHIN: Duration = Duration::from_secs(2);

/// Everything that is known of an episode. Texts are as they came: not printable yet.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// Where there is anything of it.
    pub found: Vec<TraceFinding>,
    /// Where there is nothing: a name in the folders that may have been meant.
    pub nearest: Option<EpisodeId>,
    /// All four folders could be looked at.
    pub is_all: bool,
    /// What happened, the oldest first.
    pub steps: Vec<TimelineStep>,
    /// As the running daemon has it.
    pub now: Option<EpisodeStatus>,
    /// What could not be read, and what to type.
    pub unread: Vec<String>,
}

impl Trace {
    /// Whether nothing is known of it anywhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.steps.is_empty() && self.now.is_none()
    }
}

/// Gathers it. Changes nothing.
pub(crate) async fn trace(layout: &Layout, unit: &str, id: &EpisodeId) -> Trace {
    let looking = {
        let (layout, id) = (layout.clone(), id.clone());
        tokio::task::spawn_blocking(move || found::look(&layout, &id))
    };
    let failed = |why: String| found::TraceSearch {
        unread: vec![why],
        ..Default::default()
    };
    let looked = match timeout(FOLDERS_WITHIN, looking).await {
        Ok(looked) => looked.unwrap_or_else(|error| failed(error.to_string())),
        Err(_) => failed(format!(
            "the folders do not answer within {} s: a hung disk or mount?",
            FOLDERS_WITHIN.as_secs()
        )),
    };
    let is_all = looked.unread.is_empty();
    let found::TraceSearch {
        found,
        nearest,
        mut unread,
    } = looked;
    let question = JournalQuery {
        unit: unit.to_owned(),
        since: SINCE,
        // As the shipper writes it.
        with: Some((EPISODE, id.to_string())),
        within: JOURNAL_WITHIN,
    };
    let (read, asked) = tokio::join!(
        journal::read(&question),
        ask::snapshot(layout, DAEMON_WITHIN)
    );
    let entries = match read {
        Ok(reading) => {
            if reading.truncated || reading.unreadable > 0 {
                unread.push("not all of its entries in the journal could be read".to_owned());
            }
            reading.entries
        }
        Err(Unread::NotPermitted) => {
            unread.push(
                "the journal: this user may not read it (and has to log in again once that is mended). Type: sudo usermod -aG systemd-journal \"$USER\""
                    .to_owned(),
            );
            Vec::new()
        }
        Err(Unread::Unavailable(why)) => {
            unread.push(format!("the journal: {why}"));
            Vec::new()
        }
    };
    let now = match asked {
        Ok(snapshot) => snapshot
            .episodes
            .into_iter()
            .find(|episode| episode.id == id.as_str()),
        Err(NoAnswer::NotRunning { .. }) => None,
        Err(error) => {
            unread.push(error.to_string());
            None
        }
    };
    let steps = timeline::of(id, &entries, &found);
    Trace {
        found,
        nearest,
        is_all,
        steps,
        now,
        unread,
    }
}
