//! What one pass shows of itself on a terminal: a bar on stderr, and the log above it.

use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::logging;
use crate::{
    model::{
        snapshot::{EpisodeState, EpisodeStatus, Snapshot},
        text::printable,
    },
    ship::report::control::Desk,
};

/// The operator sees changes no oftener.
const REDRAW_EVERY: Duration = Duration::from_millis(200);

/// Draws until it is aborted; not at all where stderr is no terminal.
pub(super) async fn show(desk: Desk) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if bar.is_hidden() {
        return;
    }
    // The template is ours and fits; a bar without it would be a bar all the same.
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos} of {len} episodes{wide_msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    logging::write_above(&bar);
    let mut ticks = tokio::time::interval(REDRAW_EVERY);
    loop {
        ticks.tick().await;
        let Some(snapshot) = desk.look().await else {
            continue;
        };
        let (done, all) = done(&snapshot);
        bar.set_length(all);
        bar.set_position(done);
        bar.set_message(at_work(&snapshot));
    }
}

/// How many of those that were found sealed are through with this pass, and how many were found.
fn done(snapshot: &Snapshot) -> (u64, u64) {
    let counts = &snapshot.counts;
    let on_their_way =
        counts.sealed + counts.packing + counts.ready + counts.uploading + counts.moving;
    let all = snapshot.totals.sealed.max(on_their_way);
    (all - on_their_way, all)
}

/// What goes on just now: the uploads first.
fn at_work(snapshot: &Snapshot) -> String {
    let upload = |episode: &&EpisodeStatus| episode.state == EpisodeState::Uploading;
    let uploads: Vec<_> = snapshot.episodes.iter().filter(upload).collect();
    let Some(first) = uploads.first() else {
        let packing = snapshot
            .episodes
            .iter()
            .find(|episode| episode.state == EpisodeState::Packing);
        return packing.map_or_else(String::new, |episode| {
            format!(", packing {}", printable(&episode.id))
        });
    };
    let rate: u64 = uploads
        .iter()
        .filter_map(|episode| episode.bytes_per_s)
        .sum();
    let sent = u128::from(first.sent_bytes.unwrap_or(0)) * 100;
    let percent = sent
        .checked_div(u128::from(first.size_bytes.unwrap_or(0)))
        .unwrap_or(0);
    let more = match uploads.len() {
        1 => String::new(),
        several => format!(" and {} more", several - 1),
    };
    format!(
        ", uploading {} {percent} %{more}, {}/s",
        printable(&first.id),
        DecimalBytes(rate)
    )
}

#[cfg(test)]
mod tests {
    use crate::model::{records::WallTime, snapshot::Counts};

    use super::*;

    #[test]
    fn what_is_through_and_what_is_at_work_is_counted() {
        let mut snapshot = Snapshot::begin(1, "lab-07", WallTime::from_unix_seconds(0));
        assert_eq!(
            (done(&snapshot), at_work(&snapshot)),
            ((0, 0), String::new())
        );
        snapshot.totals.sealed = 5;
        snapshot.counts = Counts {
            uploading: 1,
            ready: 1,
            waiting: 1,
            ..Counts::default()
        };
        let episode = |state| EpisodeStatus {
            id: "run-1".to_owned(),
            state,
            sealed_at_wall: None,
            why: None,
            again_in_s: None,
            size_bytes: Some(200),
            sent_bytes: Some(84),
            bytes_per_s: Some(1_500_000),
            left_s: None,
        };
        snapshot.episodes = vec![
            episode(EpisodeState::Uploading),
            episode(EpisodeState::Uploading),
        ];
        assert_eq!(done(&snapshot), (3, 5));
        assert_eq!(
            at_work(&snapshot),
            ", uploading run-1 42 % and 1 more, 3.00 MB/s"
        );
        snapshot.episodes = vec![episode(EpisodeState::Packing)];
        assert_eq!(at_work(&snapshot), ", packing run-1");
    }
}
