//! A status as lines for a person. Pure.

use super::{Folders, Status};
use crate::model::{
    snapshot::{
        Counts, DestinationStatus, EpisodeState, EpisodeStatus, NoticedBy, RoomStatus, Snapshot,
        Strangers, TrialKind,
    },
    text::printable,
};
use crate::operate::words;

/// So many episodes are shown each by itself; `--json` has more.
const MAX_EPISODES: usize = 15;
/// So many names that are no ids.
const MAX_STRANGERS: usize = 5;

/// One line, and whether it says that something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScreenLine {
    /// Printable.
    pub text: String,
    /// It says that something is wrong.
    pub is_bad: bool,
}

/// All of it.
#[must_use]
pub(crate) fn lines(status: &Status) -> Vec<ScreenLine> {
    let mut screen = StatusScreen(Vec::new());
    for problem in &status.problems {
        screen.bad(&problem.what);
        if let Some(fix) = &problem.fix {
            screen.bad(&format!("    to mend it: {fix}"));
        }
    }
    if !status.problems.is_empty() {
        screen.line("");
    }
    match &status.snapshot {
        Some(snapshot) => running(&mut screen, snapshot, &status.folders),
        None => by_folders(&mut screen, &status.folders),
    }
    screen.0
}

fn running(screen: &mut StatusScreen, snapshot: &Snapshot, folders: &Folders) {
    let Snapshot {
        version,
        host_id,
        pid,
        uptime_s,
        stopping,
        ..
    } = snapshot;
    let up = words::span(*uptime_s);
    let stopping = if *stopping { ", stopping" } else { "" };
    screen.row(
        "daemon",
        &format!("sealift {version} on {host_id}, process {pid}, for {up}{stopping}"),
    );
    screen.row("heart", &heart(snapshot));
    screen.row("watch", &watch(snapshot));
    screen.row("receiver", &receiver(snapshot));
    screen.row(
        "episodes",
        &counts(&snapshot.counts, snapshot.archives_stranded),
    );
    if let Some(oldest) = snapshot.oldest_waiting_s {
        screen.row(
            "oldest",
            &format!("sealed {} ago, and not delivered yet", words::span(oldest)),
        );
    }
    since(screen, folders);
    for finding in &snapshot.trial {
        if finding.kind == TrialKind::Copies {
            screen.row("moves", &finding.in_short);
        }
    }
    rooms(screen, &snapshot.room);
    let worth_a_line = |episode: &&EpisodeStatus| {
        episode.why.is_some() || !matches!(episode.state, EpisodeState::Open | EpisodeState::Other)
    };
    let shown: Vec<_> = snapshot.episodes.iter().filter(worth_a_line).collect();
    if !shown.is_empty() {
        screen.line("");
    }
    for episode in shown.iter().take(MAX_EPISODES) {
        screen.line(&one(episode, &snapshot.destination));
    }
    let counts = &snapshot.counts;
    let all_shown = counts.sealed
        + counts.packing
        + counts.ready
        + counts.uploading
        + counts.waiting
        + counts.refused
        + counts.conflict
        + counts.moving;
    let more = all_shown
        .max(shown.len() as u64)
        .saturating_sub(shown.len().min(MAX_EPISODES) as u64);
    if more > 0 {
        screen.line(&format!("and {more} more"));
    }
    strangers(screen, &snapshot.strangers);
}

fn by_folders(screen: &mut StatusScreen, folders: &Folders) {
    if let Some(found) = &folders.found {
        let mut text = format!("{} open, {} sealed", found.open, found.sealed);
        if found.packed > 0 {
            text.push_str(&format!(" ({} of them packed)", found.packed));
        }
        if found.conflict > 0 {
            text.push_str(&format!(", {} in conflict", found.conflict));
        }
        screen.row("episodes", &text);
    }
    since(screen, folders);
    rooms(screen, &folders.room);
    if let Some(found) = &folders.found {
        strangers(screen, &found.strangers);
    }
}

fn heart(snapshot: &Snapshot) -> String {
    let heart = &snapshot.heart;
    let interval_s = heart.interval_ms.div_ceil(1000);
    let late = heart
        .last_beat_ago_s
        .is_none_or(|ago| ago > 2 * interval_s + 1);
    let beats = match heart.last_beat_ago_s {
        _ if !heart.beats => "has stopped: something hangs".to_owned(),
        Some(ago) if late => format!("last beat {} ago, which is late", words::span(ago)),
        Some(ago) => format!("beats, last {} ago", words::span(ago)),
        None => "has not beaten yet".to_owned(),
    };
    let watchdog = match heart.watchdog_ms {
        Some(patience) => format!(
            "the watchdog waits {}",
            words::span(patience.div_ceil(1000))
        ),
        None => "no watchdog: should it hang, nothing restarts it".to_owned(),
    };
    format!("{beats}; {watchdog}")
}

fn watch(snapshot: &Snapshot) -> String {
    let watch = &snapshot.watch;
    let every = watch.reconcile_interval_s;
    let mode = match watch.mode {
        NoticedBy::Inotify => format!("woken by the kernel, and a reconcile pass every {every} s"),
        NoticedBy::ReconcileOnly => format!("a reconcile pass every {every} s"),
        NoticedBy::Blind => format!("no watches can be had: a reconcile pass every {every} s"),
        NoticedBy::Other => "in a way that this program does not know".to_owned(),
    };
    let why = match (&watch.why, watch.mode) {
        (Some(why), NoticedBy::ReconcileOnly) => format!(": {why}"),
        _ => String::new(),
    };
    let overflows = match watch.overflows {
        0 => String::new(),
        1 => "; events were lost once, and made up for".to_owned(),
        more => format!("; events were lost {more} times, and made up for"),
    };
    format!("{mode}{why}{overflows}")
}

fn receiver(snapshot: &Snapshot) -> String {
    let destination = &snapshot.destination;
    let state = match (&destination.held, destination.last_delivery_ago_s) {
        (Some(held), _) if held.next_probe_in_s == 0 && snapshot.counts.uploading > 0 => {
            format!("HELD for {}, being tried just now", words::span(held.for_s))
        }
        (Some(held), _) if held.idle => {
            format!(
                "could not be used {} ago, and nothing waits for it",
                words::span(held.for_s)
            )
        }
        (Some(held), _) => {
            format!(
                "HELD for {}, next try in {}",
                words::span(held.for_s),
                words::span(held.next_probe_in_s)
            )
        }
        (None, Some(ago)) => format!("last took an episode {} ago", words::span(ago)),
        (None, None) => "nothing delivered since the start".to_owned(),
    };
    let pace = match (&destination.closed_until, destination.limit_bytes_per_s) {
        (Some(until), _) => format!("; outside its upload window until {until}"),
        (None, Some(limit)) => format!("; no faster than {}/s", words::bytes(limit)),
        (None, None) => String::new(),
    };
    let slowed = match &destination.slowed {
        Some(slowed) if destination.held.is_none() => format!("; {}", words::slowed(slowed)),
        _ => String::new(),
    };
    format!("{}  {state}{pace}{slowed}", destination.url)
}

fn counts(counts: &Counts, stranded: u64) -> String {
    let named: Vec<_> = [
        (counts.open, "open"),
        (counts.sealed, "sealed"),
        (counts.packing, "packing"),
        (counts.ready, "packed"),
        (counts.uploading, "uploading"),
        (counts.waiting, "waiting"),
        (counts.refused, "refused"),
        (counts.conflict, "in conflict"),
        (counts.moving, "moving"),
        (stranded, "in outbox/ alone"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if named.is_empty() {
        "nothing to ship".to_owned()
    } else {
        named.join(", ")
    }
}

fn since(screen: &mut StatusScreen, folders: &Folders) {
    const UNKNOWN: &str = "not known";
    let shipped = folders.shipped_today.zip(folders.shipped_today_bytes);
    let shipped = shipped.map_or_else(
        || UNKNOWN.to_owned(),
        |(count, bytes)| format!("{count} today (UTC), {}", words::bytes(bytes)),
    );
    screen.row("shipped", &shipped);
    let quarantined = folders.quarantined.map(words::episodes);
    screen.row("quarantine", quarantined.as_deref().unwrap_or(UNKNOWN));
}

fn rooms(screen: &mut StatusScreen, rooms: &[RoomStatus]) {
    for room in rooms {
        let rate = match room.filling_bytes_per_s {
            Some(rate) if rate > 0 => {
                let rate = words::bytes(rate.unsigned_abs());
                let lasts = room
                    .lasts_s
                    .map_or_else(|| "for years".to_owned(), words::span);
                format!(", fills by {rate}/s: lasts {lasts}")
            }
            Some(_) => ", does not fill".to_owned(),
            None => String::new(),
        };
        let (free, total) = (
            words::bytes(room.free_bytes),
            words::bytes(room.total_bytes),
        );
        screen.row(
            "disk",
            &format!(
                "{free} of {total} free for {}{rate}",
                room.folders.join(", ")
            ),
        );
    }
}

fn one(episode: &EpisodeStatus, destination: &DestinationStatus) -> String {
    let word = match episode.state {
        EpisodeState::Uploading => "uploading",
        EpisodeState::Packing => "packing",
        EpisodeState::Moving => "moving",
        EpisodeState::Conflict => "in conflict",
        EpisodeState::Refused => "refused",
        EpisodeState::Waiting => "waiting",
        EpisodeState::Ready => "packed",
        EpisodeState::Sealed => "sealed",
        EpisodeState::Open => "open",
        EpisodeState::Other => "",
    };
    let mut said = Vec::new();
    if let (EpisodeState::Uploading, Some(size)) = (episode.state, episode.size_bytes) {
        let sent = episode.sent_bytes.unwrap_or(0);
        let percent = (u128::from(sent) * 100)
            .checked_div(u128::from(size))
            .unwrap_or(100)
            .min(100);
        said.push(format!("{percent} % of {}", words::bytes(size)));
        if let Some(rate) = episode.bytes_per_s.filter(|rate| *rate > 0) {
            said.push(format!("{}/s", words::bytes(rate)));
        }
        said.extend(
            episode
                .left_s
                .map(|left| format!("{} left", words::span(left))),
        );
    } else if let Some(size) = episode.size_bytes {
        said.push(words::bytes(size));
    }
    match (episode.state, &destination.held, &destination.closed_until) {
        (EpisodeState::Ready, Some(_), _) => said.push("waits for the receiver".to_owned()),
        (EpisodeState::Ready, None, Some(until)) => said.push(format!("waits until {until}")),
        (EpisodeState::Ready, None, None) if destination.slowed.is_some() => {
            said.push("waits for its turn: uploads go slowly for now".to_owned());
        }
        (EpisodeState::Uploading, _, Some(until)) => {
            said.push(format!("stands still until {until}"));
        }
        _ => {}
    }
    said.extend(episode.why.clone());
    said.extend(
        episode
            .again_in_s
            .map(|wait| format!("tried again in {}", words::span(wait))),
    );
    if episode.state == EpisodeState::Conflict {
        said.push("waits for a person".to_owned());
    }
    format!("{word:<12}{}  {}", episode.id, said.join(", "))
}

fn strangers(screen: &mut StatusScreen, strangers: &Strangers) {
    if strangers.count == 0 {
        return;
    }
    screen.line("");
    screen.line("in episodes/, and left alone:");
    for stranger in strangers.some.iter().take(MAX_STRANGERS) {
        screen.line(&format!("    {}: {}", stranger.name, stranger.why));
    }
    let more = strangers
        .count
        .saturating_sub(strangers.some.len().min(MAX_STRANGERS) as u64);
    if more > 0 {
        screen.line(&format!("    and {more} more"));
    }
}

struct StatusScreen(Vec<ScreenLine>);

impl StatusScreen {
    fn row(&mut self, name: &str, text: &str) {
        self.line(&format!("{name:<12}{text}"));
    }

    /// What answers may be another version, or not a daemon at all: none of its text is believed to
    /// be printable.
    fn line(&mut self, text: &str) {
        self.0.push(ScreenLine {
            text: printable(text).trim_end().to_owned(),
            is_bad: false,
        });
    }

    fn bad(&mut self, text: &str) {
        self.0.push(ScreenLine {
            text: printable(text),
            is_bad: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            records::WallTime,
            snapshot::{HoldStatus, Slowed},
        },
        operate::status::DaemonAnswer,
    };

    fn shown(snapshot: Snapshot) -> String {
        let status = Status {
            sealift_status: 1,
            daemon: DaemonAnswer::Running,
            no_answer: None,
            snapshot: Some(snapshot),
            folders: Folders::default(),
            problems: Vec::new(),
        };
        lines(&status)
            .into_iter()
            .map(|line| line.text + "\n")
            .collect()
    }

    fn snapshot() -> Snapshot {
        Snapshot::begin(7, "lab-07", WallTime::from_unix_seconds(1_800_000_000))
    }

    fn episode(id: &str, state: EpisodeState) -> EpisodeStatus {
        EpisodeStatus {
            id: id.to_owned(),
            state,
            sealed_at_wall: None,
            why: None,
            again_in_s: None,
            size_bytes: Some(2_000_000),
            sent_bytes: None,
            bytes_per_s: None,
            left_s: None,
        }
    }

    #[test]
    fn each_episode_says_where_it_is_and_what_it_waits_for() {
        let mut told = snapshot();
        told.counts = Counts {
            uploading: 1,
            waiting: 1,
            conflict: 1,
            ready: 3,
            ..Counts::default()
        };
        let mut uploading = episode("run-1", EpisodeState::Uploading);
        (
            uploading.sent_bytes,
            uploading.bytes_per_s,
            uploading.left_s,
        ) = (Some(840_000), Some(120_000), Some(9));
        let mut waiting = episode("run-2", EpisodeState::Waiting);
        (waiting.why, waiting.again_in_s) = (Some("answered 503".to_owned()), Some(130));
        let conflict = episode("run-3", EpisodeState::Conflict);
        told.episodes = vec![
            uploading,
            waiting,
            conflict,
            episode("run-4", EpisodeState::Ready),
        ];
        told.destination.held = Some(HoldStatus {
            for_s: 5,
            why: "x".to_owned(),
            status_code: None,
            next_probe_in_s: 7,
            weather: false,
            suspect: None,
            idle: false,
        });
        let shown = shown(told);
        for line in [
            "uploading   run-1  42 % of 2.0 MB, 120 kB/s, 9 s left",
            "waiting     run-2  2.0 MB, answered 503, tried again in 2 min",
            "in conflict run-3  2.0 MB, waits for a person",
            "packed      run-4  2.0 MB, waits for the receiver",
            "and 2 more",
            "episodes    3 packed, 1 uploading, 1 waiting, 1 in conflict",
        ] {
            assert!(
                shown.lines().any(|has| has == line),
                "{line} is not in\n{shown}"
            );
        }
    }

    #[test]
    fn what_was_not_looked_at_is_not_known_and_not_none() {
        let shown = shown(snapshot());
        for line in ["shipped     not known", "quarantine  not known"] {
            assert!(shown.lines().any(|has| has == line), "{shown}");
        }
    }

    #[test]
    fn a_closed_window_and_a_limit_are_named_where_somebody_wonders_why_nothing_moves() {
        let mut told = snapshot();
        told.episodes = vec![
            episode("run-1", EpisodeState::Uploading),
            episode("run-2", EpisodeState::Ready),
        ];
        told.destination.closed_until = Some("22:00".to_owned());
        let closed = shown(told.clone());
        for says in [
            "outside its upload window until 22:00",
            "run-1  0 % of 2.0 MB, stands still until 22:00",
            "run-2  2.0 MB, waits until 22:00",
        ] {
            assert!(closed.contains(says), "{says} is not in\n{closed}");
        }
        (
            told.destination.closed_until,
            told.destination.limit_bytes_per_s,
        ) = (None, Some(250_000));
        assert!(shown(told).contains("since the start; no faster than 250 kB/s\n"));
    }

    #[test]
    fn a_pace_that_failures_have_set_is_named_where_a_healthy_episode_waits_for_it() {
        let mut told = snapshot();
        told.episodes = vec![episode("run-1", EpisodeState::Ready)];
        told.destination.slowed = Some(Slowed {
            at_once: 1,
            next_in_s: 40,
        });
        let slowed = shown(told);
        for says in [
            "uploads go slowly after failures: 1 at once, the next in 40 s",
            "run-1  2.0 MB, waits for its turn: uploads go slowly for now",
        ] {
            assert!(slowed.contains(says), "{says} is not in\n{slowed}");
        }
    }

    #[test]
    fn liveness_is_shown_without_a_service_manager_too() {
        let mut told = snapshot();
        told.heart.beats = true;
        (told.heart.interval_ms, told.heart.last_beat_ago_s) = (60_000, Some(12));
        let text = shown(told.clone());
        assert!(
            text.contains("heart       beats, last 12 s ago; no watchdog: should it hang"),
            "{text}"
        );
        told.heart.last_beat_ago_s = Some(130);
        told.heart.watchdog_ms = Some(180_000);
        let text = shown(told.clone());
        assert!(
            text.contains("last beat 2 min ago, which is late; the watchdog waits 3 min"),
            "{text}"
        );
        told.heart.beats = false;
        assert!(shown(told).contains("has stopped: something hangs"));
    }

    #[test]
    fn nothing_that_answers_commands_the_terminal() {
        let mut told = snapshot();
        told.version = "\u{1b}[2J".to_owned();
        let mut hostile = episode("a\u{1b}]0;x\u{7}", EpisodeState::Waiting);
        hostile.why = Some("b\r\nfake line\u{202e}".to_owned());
        told.episodes = vec![hostile];
        let shown = shown(told);
        let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(shown.chars().all(is_plain), "{shown:?}");
        assert!(
            !shown.lines().any(|line| line.starts_with("fake line")),
            "{shown}"
        );
    }
}
