//! How long the disk lasts: what is free, and how fast it goes.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    disk::filesystem::RoomId,
    model::snapshot::{LEAST_WATCHED_S, RoomStatus},
};

/// One look at the room counts in so much time.
const EVERY: Duration = Duration::from_secs(60);
/// A rate is that of the last hours: long enough that one large episode is no trend, short enough
/// that a busy day is one.
const OVER: Duration = Duration::from_secs(6 * 3600);
/// Over less than this nothing is said of a rate.
const AT_LEAST: Duration = Duration::from_secs(LEAST_WATCHED_S);

/// What was seen of each file system that a folder is on.
#[derive(Debug, Default)]
pub(super) struct Runway(Vec<DiskSample>);

#[derive(Debug)]
struct DiskSample {
    id: RoomId,
    room: RoomStatus,
    /// Free bytes over the last hours, the oldest first: some hundreds.
    free_bytes: VecDeque<(Instant, u64)>,
}

impl Runway {
    /// Takes note of a look ([`filesystem::rooms`](crate::disk::filesystem::rooms)).
    pub(super) fn note(&mut self, rooms: Vec<(RoomId, RoomStatus)>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for (id, mut room) in rooms {
            let at = before.iter().position(|seen| seen.id == id);
            let mut free_bytes =
                at.map_or_else(VecDeque::new, |at| before.swap_remove(at).free_bytes);
            if free_bytes
                .back()
                .is_none_or(|(at, _)| now.duration_since(*at) >= EVERY)
            {
                free_bytes.push_back((now, room.free_bytes));
            }
            while free_bytes
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > OVER)
            {
                free_bytes.pop_front();
            }
            let filling = rate(&free_bytes, room.free_bytes, now);
            room.fills_by(filling);
            self.0.push(DiskSample {
                id,
                room,
                free_bytes,
            });
        }
    }

    pub(super) fn rooms(&self) -> Vec<RoomStatus> {
        self.0.iter().map(|seen| seen.room.clone()).collect()
    }
}

fn rate(seen: &VecDeque<(Instant, u64)>, free_bytes: u64, now: Instant) -> Option<i64> {
    let (at, then_bytes) = *seen.front()?;
    let span = now.duration_since(at);
    if span < AT_LEAST {
        return None;
    }
    let filled = i128::from(then_bytes) - i128::from(free_bytes);
    i64::try_from(filled / i128::from(span.as_secs())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn room(device: u64, free_bytes: u64) -> (RoomId, RoomStatus) {
        let room = RoomStatus {
            folders: vec!["episodes".to_owned()],
            path: "/d/episodes".to_owned(),
            free_bytes,
            total_bytes: 100 * GIB,
            free_files: None,
            filling_bytes_per_s: None,
            lasts_s: None,
        };
        ((device, None), room)
    }

    #[test]
    fn each_file_system_has_a_rate_of_its_own() {
        let mut runway = Runway::default();
        let start = Instant::now();
        for minute in 0..20 {
            let filling = 10 * GIB - minute * 60 * (1 << 20);
            let at = start + Duration::from_secs(60 * minute);
            // In which order they come says nothing.
            let mut rooms = vec![room(1, filling), room(2, GIB)];
            rooms.rotate_left(usize::from(minute % 2 == 1));
            runway.note(rooms, at);
        }
        let mut rates: Vec<_> = runway
            .rooms()
            .iter()
            .map(|room| room.filling_bytes_per_s)
            .collect();
        rates.sort_unstable();
        assert_eq!(rates, [Some(0), Some(1 << 20)]);
    }

    #[test]
    fn a_rate_takes_ten_minutes_and_looks_back_over_hours() {
        let mut runway = Runway::default();
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut told = Vec::new();
        // Sixty mebibytes a minute, then none.
        for minute in 0..900 {
            let free_bytes = 10 * GIB - minute.min(60) * 60 * (1 << 20);
            runway.note(vec![room(1, free_bytes)], at(minute));
            let room = runway.rooms().remove(0);
            told.push((room.filling_bytes_per_s, room.lasts_s));
            assert!(runway.0[0].free_bytes.len() <= 361);
        }
        assert_eq!(told[9].0, None);
        assert_eq!(told[10].0, Some(1 << 20));
        assert_eq!(told[10].1, Some((10 * GIB - 600 * (1 << 20)) / (1 << 20)));
        assert!(told[120].0.unwrap() < 1 << 20);
        assert_eq!(told[899], (Some(0), None));
    }
}
