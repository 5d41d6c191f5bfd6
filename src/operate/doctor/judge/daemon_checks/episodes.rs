//! `conflicts`, `names`, `waiting` and `refused`: episodes that do not leave, as the daemon counts
//! them. What stands in the folders says more, and the doctor looks there first.

use std::time::Duration;

use super::DaemonChecks;
use crate::{
    model::{
        episode::EpisodeId,
        snapshot::{self, EpisodeState, EpisodeStatus},
        text::printable,
    },
    operate::{
        doctor::{
            row::{DoctorRow, Id},
            words::{CommandContext, Fix, span},
        },
        words,
    },
};

/// What waits for longer than this has met something.
const LONG: Duration = Duration::from_secs(3600);
/// And what waits for longer than this, the operator has not looked at.
const VERY_LONG: Duration = Duration::from_secs(24 * 3600);

impl DaemonChecks<'_> {
    fn first_in(&self, state: EpisodeState) -> Option<&EpisodeStatus> {
        self.snapshot
            .episodes
            .iter()
            .find(|episode| episode.state == state)
    }

    /// Episodes of which the receiver holds other content, or may.
    pub(in crate::operate::doctor::judge) fn conflicts(self) -> DoctorRow {
        let (id, n) = (Id::Conflicts, self.snapshot.counts.conflict);
        if n == 0 {
            return DoctorRow::green(
                id,
                "Nothing is in conflict with what the receiver holds, says the daemon.",
            );
        }
        let first = self
            .first_in(EpisodeState::Conflict)
            .map_or_else(String::new, |first| format!(", such as {}", first.id));
        let summary = format!(
            "{} in conflict{first}: the receiver holds other content under that name, or may.",
            episodes_are(n)
        );
        DoctorRow::red(id, summary, self.hands.sealift(self.more)).with("count", n)
    }

    /// Entries of `episodes/` that can be no episode.
    pub(in crate::operate::doctor::judge) fn names(self) -> DoctorRow {
        let (id, strangers) = (Id::Names, &self.snapshot.strangers);
        let n = strangers.count;
        if n == 0 {
            return DoctorRow::green(id, "Every name in episodes/ is an id, says the daemon.");
        }
        let first = strangers.some.first();
        let is_sealed = first.is_some_and(|first| first.sealed);
        let such_as = first.map_or_else(String::new, |first| {
            let sealed = if is_sealed {
                " is sealed, and is not shipped"
            } else {
                ""
            };
            format!(", such as {}, which{sealed}: {}", first.name, first.why)
        });
        let summary = format!("Entries in episodes/ that can be no episode: {n}{such_as}");
        let fix = self.hands.sealift(self.more);
        let row = if is_sealed {
            DoctorRow::red(id, summary, fix)
        } else {
            DoctorRow::yellow(id, summary, fix)
        };
        let names: Vec<_> = strangers
            .some
            .iter()
            .map(|stranger| printable(&stranger.name))
            .collect();
        row.with("count", n).with("names", names)
    }

    /// Episodes that wait for long, and archives that wait for their episodes.
    pub(in crate::operate::doctor::judge) fn waiting(self) -> DoctorRow {
        if let Some(row) = self.stranded().or_else(|| self.left_aside()) {
            return row;
        }
        let counts = &self.snapshot.counts;
        let n = counts.sealed
            + counts.packing
            + counts.ready
            + counts.uploading
            + counts.waiting
            + counts.refused
            + counts.conflict;
        let Some(oldest_s) = self.snapshot.oldest_waiting_s.filter(|_| n > 0) else {
            return DoctorRow::green(Id::Waiting, "Nothing waits, says the daemon.")
                .with("count", n);
        };
        let since = span(Duration::from_secs(oldest_s));
        let summary = format!(
            "Episodes that wait to be shipped, says the daemon: {n}, the oldest since {since}.{}",
            self.until_the_window_opens()
        );
        self.waits_for(Duration::from_secs(oldest_s), summary)
            .with("count", n)
    }

    /// The row of episodes of which the oldest has waited for so long.
    pub(in crate::operate::doctor::judge) fn waits_for(
        self,
        age: Duration,
        summary: String,
    ) -> DoctorRow {
        let is_closed = self.snapshot.destination.closed_until.is_some();
        waits_for(age, is_closed, summary, self.hands.unit_to("reload"))
    }

    /// What the daemon says of one that waits, a sentence each, with a blank before it.
    pub(in crate::operate::doctor::judge) fn of_waiting(self, id: &EpisodeId) -> String {
        let destination = &self.snapshot.destination;
        let told = self
            .snapshot
            .episodes
            .iter()
            .find(|told| told.id == id.as_str());
        let why = told
            .and_then(|told| told.why.as_deref())
            .map_or_else(String::new, |why| {
                format!(" The daemon says of it: {}.", why.trim_end_matches('.'))
            });
        let slowed = destination
            .slowed
            .as_ref()
            .filter(|_| destination.held.is_none())
            .map_or_else(String::new, |slowed| {
                format!(" The daemon's {}.", words::slowed(slowed))
            });
        format!("{why}{}{slowed}", self.until_the_window_opens())
    }

    /// That nothing is sent for now, and until when; empty where that is not so.
    fn until_the_window_opens(self) -> String {
        let closed = self.snapshot.destination.closed_until.as_deref();
        closed.map_or_else(String::new, |until| {
            format!(" It is outside upload_window: nothing is sent until {until}.")
        })
    }

    /// Archives of which nothing is sent any more, since their episodes are gone.
    pub(in crate::operate::doctor::judge) fn stranded(self) -> Option<DoctorRow> {
        let count = self.snapshot.archives_stranded;
        let said = format!("{}.", snapshot::stranded(count));
        let row = DoctorRow::red(Id::Waiting, said, self.hands.unit_to("restart"));
        (count > 0).then(|| row.with("archives_stranded", count))
    }

    /// What is sealed and has no name yet.
    pub(in crate::operate::doctor::judge) fn left_aside(self) -> Option<DoctorRow> {
        let left = self.snapshot.left_aside.as_ref()?;
        let row = DoctorRow::yellow(Id::Waiting, format!("{left}."), left.fix.as_str());
        Some(row.with("left_aside", left.count))
    }

    /// Episodes that something refuses which is no receiver.
    pub(in crate::operate::doctor::judge) fn refused(self) -> DoctorRow {
        let why = self.first_in(EpisodeState::Refused).map(|one| {
            let why = one.why.as_deref().unwrap_or("it is not said why");
            format!("{}: {why}", one.id)
        });
        refused(self.snapshot.counts.refused, why, self.hands)
    }
}

/// The row of episodes of which the oldest has waited for so long. What waits for the upload window
/// has met nothing, for a day.
pub(in crate::operate::doctor::judge) fn waits_for(
    age: Duration,
    is_closed: bool,
    summary: String,
    fix: Fix,
) -> DoctorRow {
    let id = Id::Waiting;
    let row = if age >= VERY_LONG {
        DoctorRow::red(id, summary, fix)
    } else if age >= LONG && !is_closed {
        DoctorRow::yellow(id, summary, fix)
    } else {
        DoctorRow::green(id, summary)
    };
    row.with("oldest_s", age.as_secs())
}

/// The row of so many that were refused by a proxy's limit, a captive portal or a wrong address.
pub(in crate::operate::doctor::judge) fn refused(
    n: u64,
    why: Option<String>,
    hands: &CommandContext,
) -> DoctorRow {
    let id = Id::Refused;
    if n == 0 {
        return DoctorRow::green(id, "Nothing is refused by anything that is no receiver.");
    }
    let why = why.map(|why| format!(" {why}")).unwrap_or_default();
    let summary = format!(
        "{} refused by something that is no receiver, or alone among others. Look at what stands between here and the receiver.{why}",
        episodes_are(n)
    );
    DoctorRow::red(id, summary, hands.unit_to("reload")).with("count", n)
}

fn episodes_are(n: u64) -> String {
    if n == 1 {
        "1 episode is".to_owned()
    } else {
        format!("{n} episodes are")
    }
}
