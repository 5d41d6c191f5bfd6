//! How long the disk lasts: what is free, and how fast it goes.

use std::{collections::VecDeque, path::Path, time::Duration};

use tokio::time::Instant;

use crate::{
    disk::filesystem,
    model::{layout::Layout, snapshot::RoomStatus},
};

/// One look at the room counts in so much time.
const EVERY: Duration = Duration::from_secs(60);
/// A rate is that of the last hours: long enough that one large episode is no trend, short enough
/// that a busy day is one.
const OVER: Duration = Duration::from_secs(6 * 3600);
/// Over less than this nothing is said of a rate.
const AT_LEAST: Duration = Duration::from_secs(600);
/// Beyond ten years it lasts for ever.
const FOR_EVER_S: u64 = 10 * 366 * 86_400;

/// What was seen of each file system that a folder is on.
#[derive(Debug, Default)]
pub(super) struct Runway(Vec<DiskSample>);

/// [`filesystem::room_of`].
type RoomOf = (u64, Option<u64>);

#[derive(Debug)]
struct DiskSample {
    device: RoomOf,
    room: RoomStatus,
    /// Free bytes over the last hours, the oldest first: some hundreds.
    free_bytes: VecDeque<(Instant, u64)>,
}

/// One look at a folder.
pub(super) struct Sight {
    device: RoomOf,
    folder: &'static str,
    path: String,
    free_bytes: u64,
    total_bytes: u64,
    free_files: Option<u64>,
}

/// Looks at the four folders. Blocks. One that is not there is left out.
pub(super) fn look(layout: &Layout) -> Vec<Sight> {
    let sight = |folder: &'static str, path: &Path| {
        let space = filesystem::space(path).ok()?;
        let device = filesystem::room_of(path).ok()?;
        let path = crate::disk::tree::shown(path).to_string();
        let filesystem::Space {
            free_bytes,
            total_bytes,
            free_files,
        } = space;
        Some(Sight {
            device,
            folder,
            path,
            free_bytes,
            total_bytes,
            free_files,
        })
    };
    [
        ("episodes", &layout.episodes),
        ("outbox", &layout.outbox),
        ("shipped", &layout.shipped),
        ("quarantine", &layout.quarantine),
    ]
    .into_iter()
    .filter_map(|(folder, path)| sight(folder, path))
    .collect()
}

impl Runway {
    /// Takes note of a look.
    pub(super) fn note(&mut self, sights: Vec<Sight>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for sight in sights {
            if let Some(seen) = self.0.iter_mut().find(|seen| seen.device == sight.device) {
                seen.room.folders.push(sight.folder.to_owned());
                continue;
            }
            let at = before.iter().position(|seen| seen.device == sight.device);
            let mut free_bytes =
                at.map_or_else(VecDeque::new, |at| before.swap_remove(at).free_bytes);
            if free_bytes
                .back()
                .is_none_or(|(at, _)| now.duration_since(*at) >= EVERY)
            {
                free_bytes.push_back((now, sight.free_bytes));
            }
            while free_bytes
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > OVER)
            {
                free_bytes.pop_front();
            }
            let filling = rate(&free_bytes, sight.free_bytes, now);
            let room = RoomStatus {
                folders: vec![sight.folder.to_owned()],
                path: sight.path,
                free_bytes: sight.free_bytes,
                total_bytes: sight.total_bytes,
                free_files: sight.free_files,
                filling_bytes_per_s: filling,
                lasts_s: filling.and_then(|filling| lasts(sight.free_bytes, filling)),
            };
            self.0.push(DiskSample {
                device: sight.device,
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

fn lasts(free_bytes: u64, filling_bytes_per_s: i64) -> Option<u64> {
    let filling = u64::try_from(filling_bytes_per_s)
        .ok()
        .filter(|filling| *filling > 0)?;
    Some(free_bytes / filling).filter(|seconds| *seconds < FOR_EVER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn sight(folder: &'static str, device: u64, free_bytes: u64) -> Sight {
        let (device, path) = ((device, None), format!("/d/{folder}"));
        Sight {
            device,
            folder,
            path,
            free_bytes,
            total_bytes: 100 * GIB,
            free_files: None,
        }
    }

    #[test]
    fn folders_on_one_file_system_are_one_room() {
        let mut runway = Runway::default();
        let sights = vec![
            sight("episodes", 1, GIB),
            sight("outbox", 1, GIB),
            sight("shipped", 2, 5 * GIB),
        ];
        runway.note(sights, Instant::now());
        let rooms = runway.rooms();
        assert_eq!(rooms.len(), 2);
        assert_eq!(rooms[0].folders, ["episodes", "outbox"]);
        assert_eq!(rooms[1].folders, ["shipped"]);
        assert_eq!(rooms[0].filling_bytes_per_s, None);
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
            runway.note(vec![sight("episodes", 1, free_bytes)], at(minute));
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

    #[test]
    fn what_empties_lasts() {
        assert_eq!(lasts(GIB, -5), None);
        assert_eq!(lasts(GIB, 0), None);
        assert_eq!(lasts(u64::MAX, 1), None);
        assert_eq!(lasts(1000, 10), Some(100));
    }
}
