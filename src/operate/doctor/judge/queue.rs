//! `conflicts`, `markers`, `open-long`, `names` and `waiting`: what is in `episodes/`, and why it
//! is still there.

mod names;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::names::{conflicts, names};
use super::{
    daemon_checks::{self, DaemonChecks},
    partial_scan,
    permissions::as_shipper,
};
use crate::{
    model::{
        episode::{EpisodeId, FolderLook, MARKED_REST},
        records::WallTime,
    },
    operate::{
        doctor::{
            facts::{DaemonState, EpisodeFacts, EpisodesFacts, Facts},
            row::{DoctorRow, Id, RowStatus},
            words::{count, foreign, only_looks, span, typed_path},
        },
        words::{self, without_episode},
    },
};

/// Recordings take hours; one in which nothing was written for so long was forgotten, or its
/// recorder has died.
const OPEN_LONG: Duration = Duration::from_secs(24 * 3600);
/// So many are named, each by itself.
const MAX_NAMED: usize = 20;
/// For so long a manifest may be half: its writer is at it. The daemon waits as long.
const UNFINISHED_S: i64 = 60;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let Some(found) = &facts.episodes else {
        return Vec::new();
    };
    let rows = vec![
        conflicts(facts, found),
        markers(facts, found),
        open_long(facts, found),
        names(facts, found),
        waiting(facts, found),
    ];
    partial_scan::completed(facts, found, rows)
}

fn are(n: usize, how: &str) -> String {
    if n == 1 {
        format!("1 episode is {how}")
    } else {
        format!("{n} episodes are {how}")
    }
}

fn ids<'a>(ids: impl Iterator<Item = &'a EpisodeId>) -> Vec<&'a str> {
    ids.take(MAX_NAMED).map(EpisodeId::as_str).collect()
}

/// The fix of the first that one mends, and one for each: asked again, the doctor names the next.
/// Where all that is shown of one is a look at it, it hides none that mends another.
fn in_turn(mut fixes: Vec<String>) -> (String, Vec<String>) {
    fixes.sort_by_key(|fix| only_looks(fix));
    (fixes.first().cloned().unwrap_or_default(), fixes)
}

fn markers(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let (id, hands) = (Id::Markers, &facts.hands);
    let why = |episode: &EpisodeFacts| match &episode.look {
        FolderLook::OddMarker(what) => Some(format!("its done.marker is {what} and seals nothing")),
        FolderLook::Unreadable(why) => Some(why.clone()),
        // A manifest is written bit by bit: it may be whole in a moment, and the daemon waits as
        // well.
        FolderLook::Sealed(stamp) if is_fresh(stamp.written_ns, facts.now) => None,
        FolderLook::Sealed(_) => episode.bad_marker.clone(),
        FolderLook::Gone | FolderLook::BeingRemoved | FolderLook::Open => None,
    };
    let bad: Vec<_> = found
        .episodes
        .iter()
        .filter_map(|episode| Some((episode, why(episode)?)))
        .collect();
    let Some((first, reason)) = bad.first() else {
        return DoctorRow::green(id, "Every marker can be read.");
    };
    let summary = format!(
        "{} with a marker that cannot be read. {}: {reason}.",
        count(bad.len(), "episode"),
        first.id
    );
    let details = |row: DoctorRow| {
        row.with("count", bad.len())
            .with("episodes", ids(bad.iter().map(|(episode, _)| &episode.id)))
    };
    if matches!(first.look, FolderLook::Unreadable(_)) && !facts.people.we_see_as_the_shipper() {
        return details(DoctorRow::yellow(
            id,
            summary,
            as_shipper(hands, &facts.people),
        ));
    }
    let remarked = |(episode, _): &(&EpisodeFacts, String)| remarked(facts, found, episode);
    let (fix, fixes) = in_turn(bad.iter().take(MAX_NAMED).map(remarked).collect());
    let summary = match first.look {
        // Under its own name it is never sealed, however often.
        FolderLook::OddMarker(MARKED_REST) => format!(
            "{summary} What is left of it is shipped only under a name of its own: where that is wanted, copy it (cp -a) to another \
             name that begins with a dot, rename that, and seal it there."
        ),
        FolderLook::Sealed(_) | FolderLook::OddMarker(_) => format!(
            "{summary} If it is complete, seal it again: its marker is put aside, hidden beside the episode."
        ),
        FolderLook::Gone
        | FolderLook::BeingRemoved
        | FolderLook::Open
        | FolderLook::Unreadable(_) => summary,
    };
    details(DoctorRow::red(id, summary, hands.tried_again(fix))).with("fixes", fixes)
}

fn is_fresh(written_ns: i64, now: WallTime) -> bool {
    (0..UNFINISHED_S).contains(&(now.unix_seconds() - written_ns.div_euclid(1_000_000_000)))
}

/// Each has to be looked at before it is sealed.
fn remarked(facts: &Facts, found: &EpisodesFacts, episode: &EpisodeFacts) -> String {
    let hands = &facts.hands;
    let folder = found.folder.join(episode.id.as_str());
    let look = || foreign(&folder, |folder| format!("ls -la {folder}"));
    match &episode.look {
        FolderLook::OddMarker(MARKED_REST) => look(),
        FolderLook::OddMarker(_) | FolderLook::Sealed(_) => {
            format!("sealift seal --again {}", typed_path(&folder))
        }
        FolderLook::Unreadable(why) if why.contains("Permission denied") => facts.give(&folder),
        FolderLook::Unreadable(_)
        | FolderLook::Gone
        | FolderLook::BeingRemoved
        | FolderLook::Open => hands.as_root(&look()),
    }
}

fn age(since: Option<WallTime>, now: WallTime) -> Option<Duration> {
    let seconds = now.unix_seconds() - since?.unix_seconds();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Those that have been so for at least so long, the longest first.
fn for_long(
    found: &EpisodesFacts,
    now: WallTime,
    is: fn(&FolderLook) -> bool,
    limit: Duration,
) -> Vec<(&EpisodeFacts, Duration)> {
    let of_kind = found.episodes.iter().filter(|episode| is(&episode.look));
    let aged = of_kind.filter_map(|episode| Some((episode, age(episode.since, now)?)));
    let mut long: Vec<_> = aged.filter(|(_, age)| *age >= limit).collect();
    long.sort_by_key(|(_, age)| std::cmp::Reverse(*age));
    long
}

fn open_long(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let id = Id::OpenLong;
    let long = for_long(
        found,
        facts.now,
        |look| matches!(look, FolderLook::Open),
        OPEN_LONG,
    );
    let Some((first, age)) = long.first() else {
        return DoctorRow::green(id, "No recording is open for unusually long.");
    };
    let summary = format!(
        "{} not sealed, and nothing was written at the top of it for long; {} for {}. If it is complete, seal it: the command refuses where something in it was written within the hour.",
        are(long.len(), "").trim_end(),
        first.id,
        span(*age)
    );
    let seal = |(episode, _): &(&EpisodeFacts, Duration)| {
        let folder = found.folder.join(episode.id.as_str());
        format!("sealift seal --idle 1h {}", typed_path(&folder))
    };
    // Which of them is complete its recorder knows.
    let (fix, fixes) = in_turn(long.iter().take(MAX_NAMED).map(seal).collect());
    DoctorRow::yellow(id, summary, fix)
        .with("count", long.len())
        .with("episodes", ids(long.iter().map(|(episode, _)| &episode.id)))
        .with("fixes", fixes)
}

fn waiting(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let row = seen_waiting(facts, found);
    let left_aside = DaemonChecks::among(facts).and_then(DaemonChecks::left_aside);
    left_aside
        .filter(|_| row.status == RowStatus::Green)
        .unwrap_or(row)
}

fn seen_waiting(facts: &Facts, found: &EpisodesFacts) -> DoctorRow {
    let id = Id::Waiting;
    if let Some(row) = stranded(facts, found).or_else(|| being_removed(facts, found)) {
        return row;
    }
    let sealed = for_long(
        found,
        facts.now,
        |look| matches!(look, FolderLook::Sealed(_)),
        Duration::ZERO,
    );
    let Some((oldest, age)) = sealed.first() else {
        return DoctorRow::green(id, "Nothing waits.").with("count", 0);
    };
    let n = sealed.len();
    let waits = if n == 1 {
        "1 episode waits".to_owned()
    } else {
        format!("{n} episodes wait")
    };
    let summary = format!("{waits} to be shipped, {} since {}.", oldest.id, span(*age));
    let row = match DaemonChecks::among(facts) {
        Some(daemon) => {
            let said = daemon.of_waiting(&oldest.id);
            daemon.waits_for(*age, summary + &said)
        }
        None => {
            // What was refused, or waits for a receiver, is tried at once then.
            let deed = if matches!(facts.daemon, DaemonState::None) {
                "start"
            } else {
                "reload"
            };
            let row = daemon_checks::waits_for(*age, false, summary, facts.hands.unit_to(deed));
            // By itself nothing of it goes.
            match row.status {
                RowStatus::Green if facts.is_shipped_by_hand() => {
                    DoctorRow::yellow(id, row.summary, facts.hands.ship_once())
                        .with("oldest_s", age.as_secs())
                }
                _ => row,
            }
        }
    };
    row.with("count", n).with("oldest", oldest.id.as_str())
}

/// Archives of which nothing is sent any more, since their episodes are gone. A running daemon
/// knows which of them it settles.
fn stranded(facts: &Facts, found: &EpisodesFacts) -> Option<DoctorRow> {
    if let Some(daemon) = DaemonChecks::among(facts) {
        return daemon.stranded();
    }
    // Nothing runs that has left them alone: the next start looks what they are.
    let count = found.archives_alone;
    let is_alone = matches!(facts.daemon, DaemonState::None) && count > 0;
    is_alone.then(|| {
        let start = facts.hands.unit_to("start");
        DoctorRow::yellow(Id::Waiting, without_episode(count), start)
            .with("archives_stranded", count)
    })
}

/// What a move has left where the episodes stood. A running daemon goes on with it, and tells of
/// it.
fn being_removed(facts: &Facts, found: &EpisodesFacts) -> Option<DoctorRow> {
    if !matches!(facts.daemon, DaemonState::None) {
        return None;
    }
    let left = found
        .episodes
        .iter()
        .filter(|episode| matches!(episode.look, FolderLook::BeingRemoved));
    let left: Vec<_> = left.map(|episode| &episode.id).collect();
    let said = format!("{}.", words::being_removed(left.first()?));
    let row = DoctorRow::yellow(Id::Waiting, said, facts.hands.unit_to("start"));
    Some(row.with("being_removed", ids(left.into_iter())))
}
