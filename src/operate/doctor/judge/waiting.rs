//! `conflicts`, `markers`, `open-long`, `names` and `waiting`: what is in `episodes/`, and why it is still there.

use std::{collections::HashSet, time::Duration};

use super::{cut_off, people::as_shipper};
use crate::{
    episode::{EpisodeId, Look, printable},
    operate::doctor::{
        facts::{Daemon, Episode, Episodes, Facts, Stranger},
        row::{Id, Row},
        words::{count, path, span},
    },
    records::WallTime,
    scan::NoEpisode,
};

/// Recordings take hours; one in which nothing was written for so long was forgotten, or its recorder has died.
const OPEN_LONG: Duration = Duration::from_secs(24 * 3600);
/// What waits for longer than this has met something.
const LONG: Duration = Duration::from_secs(3600);
/// And for longer than this nobody has looked.
const VERY_LONG: Duration = Duration::from_secs(24 * 3600);
/// So many are named, each by itself.
const MAX_NAMED: usize = 20;

pub(super) fn rows(facts: &Facts) -> Vec<Row> {
    let Some(found) = &facts.episodes else { return Vec::new() };
    let rows = vec![
        conflicts(facts, found),
        markers(facts, found),
        open_long(facts, found),
        names(found),
        waiting(facts, found),
    ];
    cut_off::completed(facts, found, rows)
}

fn conflicts(facts: &Facts, found: &Episodes) -> Row {
    let id = Id::Conflicts;
    let Some((episode, why)) = found.conflicts.first() else {
        return Row::green(id, "Nothing is in conflict with what the receiver holds.");
    };
    let n = found.conflicts.len();
    let summary = format!(
        "{}: the receiver holds other content under the same id. {episode}: {why}. Compare the two, then ship ours under another name.",
        are(n, "in conflict")
    );
    let from = found.folder.join(episode.as_str());
    let fix = format!("mv -nT {} {}", path(&from), path(&free_name(found, episode.as_str())));
    let fix = if facts.people.we_see_as_the_shipper() { fix } else { facts.hands.as_root(&fix) };
    Row::red(id, summary, fix)
        .with("count", n)
        .with("episodes", ids(found.conflicts.iter().map(|(id, _)| id)))
}

fn are(n: usize, how: &str) -> String {
    if n == 1 { format!("1 episode is {how}") } else { format!("{n} episodes are {how}") }
}

fn ids<'a>(ids: impl Iterator<Item = &'a EpisodeId>) -> Vec<&'a str> {
    ids.take(MAX_NAMED).map(EpisodeId::as_str).collect()
}

/// A name in `episodes/` that nothing has: this one, numbered.
fn free_name(found: &Episodes, name: &str) -> std::path::PathBuf {
    let taken: HashSet<_> = found.episodes.iter().map(|episode| episode.id.as_str()).collect();
    let free =
        (1..=taken.len() + 1).map(|n| format!("{name}-{n}")).find(|name| !taken.contains(name.as_str()));
    found.folder.join(free.unwrap_or_else(|| format!("{name}-again")))
}

fn markers(facts: &Facts, found: &Episodes) -> Row {
    let (id, hands) = (Id::Markers, &facts.hands);
    let why = |episode: &Episode| match &episode.look {
        Look::OddMarker(what) => Some(format!("its done.marker is {what} and seals nothing")),
        Look::Unreadable(why) => Some(why.clone()),
        Look::Sealed(_) => episode.bad_marker.clone(),
        Look::Gone | Look::Open => None,
    };
    let bad: Vec<_> = found.episodes.iter().filter_map(|episode| Some((episode, why(episode)?))).collect();
    let Some((first, reason)) = bad.first() else {
        return Row::green(id, "Every marker can be read.");
    };
    let folder = found.folder.join(first.id.as_str());
    let (folder_word, marker) = (path(&folder), path(&folder.join(crate::layout::MARKER)));
    let summary =
        format!("{} with a marker that cannot be read. {}: {reason}.", count(bad.len(), "episode"), first.id);
    let details = |row: Row| {
        row.with("count", bad.len()).with("episodes", ids(bad.iter().map(|(episode, _)| &episode.id)))
    };
    if matches!(first.look, Look::Unreadable(_)) && !facts.people.we_see_as_the_shipper() {
        return details(Row::yellow(id, summary, as_shipper(hands, &facts.people)));
    }
    let fix = match &first.look {
        // Sealed again when it is known to be complete. What stands there is kept.
        Look::OddMarker(_) => format!("mv -nT {marker} {marker}.odd && sealift seal {folder_word}"),
        Look::Sealed(_) => format!(
            "mv -nT {marker} {} && sealift seal {folder_word}",
            path(&found.folder.join(format!(".{}.marker", first.id.as_str())))
        ),
        Look::Unreadable(_) => {
            hands.as_root(&format!("chown -R --reference={} {folder_word}", path(&found.folder)))
        }
        Look::Gone | Look::Open => String::new(),
    };
    details(Row::red(id, summary, fix))
}

fn age(since: Option<WallTime>, now: WallTime) -> Option<Duration> {
    let seconds = now.unix_seconds() - since?.unix_seconds();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Those that have been so for at least so long, the longest first.
fn for_long(
    found: &Episodes,
    now: WallTime,
    is: fn(&Look) -> bool,
    limit: Duration,
) -> Vec<(&Episode, Duration)> {
    let of_kind = found.episodes.iter().filter(|episode| is(&episode.look));
    let aged = of_kind.filter_map(|episode| Some((episode, age(episode.since, now)?)));
    let mut long: Vec<_> = aged.filter(|(_, age)| *age >= limit).collect();
    long.sort_by_key(|(_, age)| std::cmp::Reverse(*age));
    long
}

fn open_long(facts: &Facts, found: &Episodes) -> Row {
    let id = Id::OpenLong;
    let long = for_long(found, facts.now, |look| matches!(look, Look::Open), OPEN_LONG);
    let Some((first, age)) = long.first() else {
        return Row::green(id, "No recording is open for unusually long.");
    };
    let summary = format!(
        "{} not sealed, and nothing was written at the top of it for long; {} for {}. If it is complete, seal it.",
        are(long.len(), "").trim_end(),
        first.id,
        span(*age)
    );
    let fix = format!("sealift seal {}", path(&found.folder.join(first.id.as_str())));
    Row::yellow(id, summary, fix)
        .with("count", long.len())
        .with("episodes", ids(long.iter().map(|(episode, _)| &episode.id)))
}

fn names(found: &Episodes) -> Row {
    let id = Id::Names;
    // What somebody has sealed, and takes for shipped, comes first.
    let sealed = found.strangers.iter().find(|stranger| stranger.sealed);
    let Some(first) = sealed.or(found.strangers.first()) else {
        return Row::green(id, "Every name in episodes/ is an id.");
    };
    let summary = format!(
        "{} in episodes/ can be no {}. {}: {}",
        if found.strangers.len() == 1 {
            "1 entry".to_owned()
        } else {
            format!("{} entries", found.strangers.len())
        },
        if found.strangers.len() == 1 { "episode" } else { "episodes" },
        first.name.to_string_lossy(),
        first.why
    );
    let here = found.folder.join(&first.name);
    let fix = match first.why {
        NoEpisode::Name(_) => format!("mv -nT {} {}", path(&here), path(&free_name(found, &tame(first)))),
        NoEpisode::Symlink => format!(
            "cp -a --no-clobber \"$(readlink -f {0})\" {1} && mv -nT {0} {2}",
            path(&here),
            path(&free_name(found, &tame(first))),
            path(&found.folder.join(format!(".{}", tame(first))))
        ),
        NoEpisode::LooseMarker => {
            format!("mv -nT {} {}", path(&here), path(&found.folder.join(".done.marker")))
        }
    };
    let names: Vec<_> = found
        .strangers
        .iter()
        .take(MAX_NAMED)
        .map(|stranger| printable(&stranger.name.to_string_lossy()))
        .collect();
    let row = if sealed.is_some() {
        Row::red(id, format!("{summary} It was sealed, and is not shipped."), fix)
    } else {
        Row::yellow(id, summary, fix)
    };
    row.with("count", found.strangers.len()).with("names", names)
}

/// The beginning of a name that is an id, as like to the one that is none as can be.
fn tame(stranger: &Stranger) -> String {
    let name = stranger.name.to_string_lossy();
    let tamed: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._~-".contains(c) { c } else { '_' })
        .skip_while(|c| matches!(c, '.' | '-'))
        .take(crate::episode::MAX_ID_BYTES / 2)
        .collect();
    if tamed.is_empty() { "episode".to_owned() } else { tamed }
}

fn waiting(facts: &Facts, found: &Episodes) -> Row {
    let id = Id::Waiting;
    let sealed = for_long(found, facts.now, |look| matches!(look, Look::Sealed(_)), Duration::ZERO);
    let Some((oldest, age)) = sealed.first() else {
        return Row::green(id, "Nothing waits.").with("count", 0);
    };
    let n = sealed.len();
    let closed = match &facts.daemon {
        Daemon::Answers(snapshot) => snapshot.destination.closed_until.as_deref(),
        _ => None,
    };
    let summary = format!(
        "{} to be shipped, {} since {}.{}",
        if n == 1 { "1 episode waits".to_owned() } else { format!("{n} episodes wait") },
        oldest.id,
        span(*age),
        closed.map_or_else(String::new, |until| format!(
            " It is outside upload_window: nothing is sent until {until}."
        ))
    );
    // What waits for better weather, or was refused, is tried at once then.
    let fix = facts.hands.unit_to("reload");
    let row = if *age >= VERY_LONG {
        Row::red(id, summary, fix)
    } else if *age >= LONG && closed.is_none() {
        Row::yellow(id, summary, fix)
    } else {
        Row::green(id, summary)
    };
    row.with("count", n).with("oldest", oldest.id.as_str()).with("oldest_s", age.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStringExt as _, path::PathBuf};

    use super::*;
    use crate::{
        episode::Stamp,
        operate::doctor::{judge::sound::sound, row::Status},
    };

    const SEALED: Look = Look::Sealed(Stamp { sealed_ns: 0, inodes: (0, 0), made_ns: 0, written_ns: 0 });

    fn episode(name: &str, look: Look, hours_ago: i64, now: WallTime) -> Episode {
        let since = WallTime::from_unix_seconds(now.unix_seconds() - hours_ago * 3600);
        Episode { id: EpisodeId::parse(name).unwrap(), look, since: Some(since), bad_marker: None }
    }

    fn row_with(id: Id, change: impl FnOnce(&mut Episodes, WallTime)) -> Row {
        let mut facts = sound();
        let now = facts.now;
        let episodes = facts.episodes.as_mut().unwrap();
        change(episodes, now);
        let rows = rows(&facts);
        let others = rows.iter().filter(|row| row.id != id && row.status != Status::Green);
        assert_eq!(others.count(), 0, "{rows:?}");
        rows.into_iter().find(|row| row.id == id).unwrap()
    }

    #[test]
    fn a_conflict_is_red_and_its_fix_gives_ours_another_name() {
        let row = row_with(Id::Conflicts, |found, now| {
            found.episodes = vec![episode("a", SEALED, 0, now), episode("a-1", Look::Open, 0, now)];
            found.conflicts = vec![(EpisodeId::parse("a").unwrap(), "held since May".to_owned())];
        });
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (Status::Red, Some("mv -nT /d/episodes/a /d/episodes/a-2"))
        );
    }

    #[test]
    fn a_marker_that_cannot_be_read_is_red_with_what_mends_it() {
        for (look, bad_marker, fix) in [
            (
                Look::OddMarker("a directory"),
                None,
                "mv -nT /d/episodes/a/done.marker /d/episodes/a/done.marker.odd && sealift seal /d/episodes/a",
            ),
            (Look::Unreadable("EACCES".to_owned()), None, "chown -R --reference=/d/episodes /d/episodes/a"),
            (
                SEALED,
                Some("half a manifest".to_owned()),
                "mv -nT /d/episodes/a/done.marker /d/episodes/.a.marker && sealift seal /d/episodes/a",
            ),
        ] {
            let row = row_with(Id::Markers, |found, now| {
                found.episodes = vec![Episode { bad_marker, ..episode("a", look, 0, now) }];
            });
            assert_eq!((row.status, row.fix.as_deref()), (Status::Red, Some(fix)));
        }
    }

    #[test]
    fn a_recording_that_was_forgotten_is_sealed_by_the_fix() {
        for (hours, status) in
            [(1, Status::Green), (23, Status::Green), (24, Status::Yellow), (-5, Status::Green)]
        {
            let row = row_with(Id::OpenLong, |found, now| {
                found.episodes = vec![episode("a b", Look::Open, hours, now)];
            });
            assert_eq!(row.status, status, "{hours}: {row:?}");
            if status == Status::Yellow {
                assert_eq!(row.fix.as_deref(), Some("sealift seal '/d/episodes/a b'"));
            }
        }
    }

    #[test]
    fn what_waits_for_long_is_yellow_and_for_a_day_red() {
        for (hours, status) in [(0, Status::Green), (1, Status::Yellow), (24, Status::Red)] {
            let row = row_with(Id::Waiting, |found, now| {
                found.episodes = vec![episode("new", SEALED, 0, now), episode("old", SEALED, hours, now)];
            });
            assert_eq!(row.status, status, "{row:?}");
            assert_eq!(row.details["count"], 2);
        }
    }

    #[test]
    fn what_waits_for_its_upload_window_says_so_and_is_no_trouble_for_a_day() {
        for (hours, status) in [(2, Status::Green), (23, Status::Green), (24, Status::Red)] {
            let mut facts = sound();
            let Daemon::Answers(snapshot) = &mut facts.daemon else { panic!("{:?}", facts.daemon) };
            snapshot.destination.closed_until = Some("22:00".to_owned());
            let now = facts.now;
            facts.episodes.as_mut().unwrap().episodes = vec![episode("old", SEALED, hours, now)];
            let row = rows(&facts).into_iter().find(|row| row.id == Id::Waiting).unwrap();
            assert_eq!(row.status, status, "{row:?}");
            assert!(row.summary.ends_with("nothing is sent until 22:00."), "{row:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_id_is_red_where_somebody_sealed_it_and_renamed_by_the_fix() {
        for (name, sealed, status, fix) in [
            (b"-x".to_vec(), false, Status::Yellow, "mv -nT /d/episodes/-x /d/episodes/x-1"),
            (b"-x".to_vec(), true, Status::Red, "mv -nT /d/episodes/-x /d/episodes/x-1"),
            (b"a\x1b[2J".to_vec(), true, Status::Red, r"mv -nT $'/d/episodes/a\033[2J' /d/episodes/a__2J-1"),
        ] {
            let why = NoEpisode::Name(EpisodeId::parse("-x").unwrap_err());
            let stranger = Stranger { name: std::ffi::OsString::from_vec(name), why, sealed };
            let row = row_with(Id::Names, |found, _| found.strangers = vec![stranger]);
            assert_eq!((row.status, row.fix.as_deref()), (status, Some(fix)));
            assert!(!row.summary.contains('\u{1b}'), "{row:?}");
        }
        let stranger = Stranger { name: "done.marker".into(), why: NoEpisode::LooseMarker, sealed: true };
        let row = row_with(Id::Names, |found, _| found.strangers = vec![stranger]);
        assert_eq!(row.fix.as_deref(), Some("mv -nT /d/episodes/done.marker /d/episodes/.done.marker"));
        assert_eq!(
            free_name(&Episodes { folder: PathBuf::from("/d"), ..Episodes::default() }, "a"),
            PathBuf::from("/d/a-1")
        );
    }
}
