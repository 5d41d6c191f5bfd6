//! `conflicts`, `names`, `waiting` and `refused`: episodes that do not leave, as the daemon counts
//! them. What stands in the folders says more, and the doctor looks there first.

use std::time::Duration;

use super::DaemonChecks;
use crate::{
    model::{
        episode::EpisodeId,
        snapshot::{self, EpisodeState, EpisodeStatus, Strangers},
        text::printable,
    },
    operate::{
        doctor::{
            row::{DoctorRow, Id},
            words::{CommandContext, Fix, count, span},
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
        let first = self.first_in(EpisodeState::Conflict);
        let first = first.map(|first| first.id.as_str());
        conflicts(self.snapshot.counts.conflict, first, &self.more())
    }

    /// Entries of `episodes/` that can be no episode.
    pub(in crate::operate::doctor::judge) fn names(self) -> DoctorRow {
        names(&self.snapshot.strangers, &self.more())
    }

    /// Episodes that cannot be looked at, or whose marker seals nothing.
    pub(in crate::operate::doctor::judge) fn markers(self) -> DoctorRow {
        markers(&self.snapshot.unclear, &self.more())
    }

    fn more(self) -> String {
        self.hands.sealift(self.more)
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

/// The row of so many episodes of which the receiver holds other content, or may.
pub(in crate::operate) fn conflicts(n: u64, first: Option<&str>, more: &str) -> DoctorRow {
    let id = Id::Conflicts;
    if n == 0 {
        return DoctorRow::green(id, "Nothing is in conflict with what the receiver holds.");
    }
    let first = first.map_or_else(String::new, |first| format!(", such as {first}"));
    let summary = format!(
        "{} in conflict{first}: the receiver holds other content under that name, or may.",
        episodes_are(n)
    );
    DoctorRow::red(id, summary, more.to_owned()).with("count", n)
}

/// The row of what is in `episodes/` and can be no episode.
pub(in crate::operate) fn names(strangers: &Strangers, more: &str) -> DoctorRow {
    let (id, n) = (Id::Names, strangers.count);
    if n == 0 {
        return DoctorRow::green(id, "Every name in episodes/ is an id.");
    }
    let first = strangers.some.first();
    let first = first.map(|first| (first.name.as_str(), first.why.as_str(), first.sealed));
    let summary = no_episodes(n, first);
    let row = if first.is_some_and(|(_, _, is_sealed)| is_sealed) {
        DoctorRow::red(id, summary, more.to_owned())
    } else {
        DoctorRow::yellow(id, summary, more.to_owned())
    };
    let names: Vec<_> = strangers
        .some
        .iter()
        .map(|stranger| printable(&stranger.name))
        .collect();
    row.with("count", n).with("names", names)
}

/// So many entries can be no episode; the name of the first, why, and whether it is sealed.
pub(in crate::operate::doctor::judge) fn no_episodes(
    n: u64,
    first: Option<(&str, &str, bool)>,
) -> String {
    let entries = match n {
        1 => "1 entry in episodes/ can be no episode.".to_owned(),
        n => format!("{n} entries in episodes/ can be no episodes."),
    };
    let Some((name, why, is_sealed)) = first else {
        return entries;
    };
    let sealed = if is_sealed {
        " It was sealed, and is not shipped."
    } else {
        ""
    };
    format!("{entries} {name}: {why}{sealed}")
}

/// The row of episodes that cannot be looked at, or whose marker seals nothing.
pub(in crate::operate) fn markers(unclear: &[String], more: &str) -> DoctorRow {
    let id = Id::Markers;
    let Some(first) = unclear.first() else {
        return DoctorRow::green(id, "Every marker can be read.");
    };
    let n = unclear.len();
    let summary = format!(
        "{} with a marker that cannot be read. {first}.",
        count(n, "episode")
    );
    DoctorRow::red(id, summary, more.to_owned()).with("count", n)
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
