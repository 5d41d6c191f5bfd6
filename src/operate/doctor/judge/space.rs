//! `space`: is there room, and for how long?

use std::time::Duration;

use serde_json::json;

use crate::{
    model::{layout::Layout, snapshot::RoomStatus, text::bytes},
    operate::doctor::{
        facts::Facts,
        row::{DoctorRow, Id, RowStatus},
        words::{CommandContext, Fix, path, span},
    },
};

/// Less is none: one small episode and its archive.
const LEAST_BYTES: u64 = 64 << 20;
/// Of a smaller file system less may be free: [`LEAST_BYTES`] would be most of it, or all.
const SMALL_BYTES: u64 = 100 << 20;
/// Of none so small that it holds nothing.
const NOTHING_BYTES: u64 = 2 << 20;
/// With so much free, a share of the whole says nothing.
const PLENTY_BYTES: u64 = 20 << 30;
/// Of a file system that is smaller, this share should be free, per cent.
const LEAST_PERCENT: u64 = 5;
/// Files that may still be made: an episode has some.
const LEAST_FILES: u64 = 1000;
/// It will be full before the operator has looked.
const SOON: Duration = Duration::from_secs(3600);
/// The operator should look today.
const TODAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let layout = facts.layout.as_ref();
    layout
        .and_then(|layout| row(&facts.rooms, &facts.hands, layout))
        .into_iter()
        .collect()
}

/// The worst of the file systems; `None` where none is known.
pub(in crate::operate) fn row(
    rooms: &[RoomStatus],
    hands: &CommandContext,
    layout: &Layout,
) -> Option<DoctorRow> {
    let worst = rooms.iter().max_by_key(|room| judged(room).0)?;
    let (status, why) = judged(worst);
    let summary = format!("{}: {why}.", worst.path);
    let row = match status {
        RowStatus::Green => DoctorRow::green(Id::Space, summary),
        RowStatus::Yellow | RowStatus::Red => {
            let (advice, fix) = fix(hands, layout, worst);
            DoctorRow::of(Id::Space, status, &(summary + &advice), fix)
        }
    };
    let rooms = rooms.iter().map(|room| {
        json!({
            "folders": room.folders, "free_bytes": room.free_bytes, "total_bytes": room.total_bytes,
            "free_files": room.free_files, "filling_bytes_per_s": room.filling_bytes_per_s.map(|rate| rate.max(0)),
            "lasts_s": room.lasts_s,
        })
    });
    Some(row.with("rooms", rooms.collect::<Vec<_>>()))
}

fn judged(room: &RoomStatus) -> (RowStatus, String) {
    let free = bytes(room.free_bytes);
    let mut said = format!("{free} of {} are free", bytes(room.total_bytes));
    let lasts = room.lasts_s.map(Duration::from_secs);
    if let Some(lasts) = lasts {
        said += &format!(", enough for {} at the present rate", span(lasts));
    }
    let soon = |limit| lasts.is_some_and(|lasts| lasts < limit);
    if room.free_files.is_some_and(|files| files < LEAST_FILES) {
        let files = room.free_files.unwrap_or_default();
        return (
            RowStatus::Red,
            format!("only {files} more files can be made there, whatever room there is"),
        );
    }
    let few_percent = room.free_bytes < PLENTY_BYTES
        && u128::from(room.free_bytes) * 100
            < u128::from(room.total_bytes) * u128::from(LEAST_PERCENT);
    let status = if room.free_bytes < least_bytes(room.total_bytes) || soon(SOON) {
        RowStatus::Red
    } else if few_percent || soon(TODAY) {
        RowStatus::Yellow
    } else {
        RowStatus::Green
    };
    (status, said)
}

/// With less free there is no room: a tenth of a small file system.
fn least_bytes(total_bytes: u64) -> u64 {
    match total_bytes < SMALL_BYTES {
        true => (total_bytes / 10).max(NOTHING_BYTES),
        false => LEAST_BYTES,
    }
}

/// What is shipped may go, the oldest first, where the receiver vouches for it; what is largest is
/// named otherwise.
fn fix(hands: &CommandContext, layout: &Layout, room: &RoomStatus) -> (String, Fix) {
    if room.folders.iter().any(|folder| folder == "shipped") {
        let advice = format!(
            " What was shipped may go: see that the receiver holds all of it ({}), then set shipped_free_bytes = {}: the oldest goes until so \
             much is free.",
            hands.sealift("verify --all"),
            (room.total_bytes / 10).max(2 * least_bytes(room.total_bytes))
        );
        return (advice, hands.configure("reload"));
    }
    let folder = match room.folders.first().map(String::as_str) {
        Some("outbox") => &layout.outbox,
        Some("shipped") => &layout.shipped,
        Some("quarantine") => &layout.quarantine,
        _ => &layout.episodes,
    };
    let largest = format!("du -x --si --max-depth=1 {}", path(folder));
    let advice = " See what is largest there.".to_owned();
    (advice, hands.as_root(&largest).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::judge::healthy_host::sound;

    #[test]
    fn room_is_judged_by_what_is_free_and_by_how_long_that_lasts() {
        const GB: u64 = 1_000_000_000;
        const GB_A_SECOND: Option<i64> = Some(1_000_000_000);
        for (free_bytes, total_bytes, free_files, rate, status) in [
            (500 * GB, 1000 * GB, Some(1_000_000), None, RowStatus::Green),
            (30 * GB, 10_000 * GB, None, Some(0), RowStatus::Green),
            (1 << 20, 1000 * GB, None, None, RowStatus::Red),
            (500 * GB, 1000 * GB, Some(12), None, RowStatus::Red),
            (4 * GB, 1000 * GB, None, None, RowStatus::Yellow),
            (4 * GB, 10 * GB, None, None, RowStatus::Green),
            (
                500 * GB,
                1000 * GB,
                None,
                Some(10_000_000),
                RowStatus::Yellow,
            ),
            (500 * GB, 1000 * GB, None, GB_A_SECOND, RowStatus::Red),
            (500 * GB, 1000 * GB, None, Some(1_000_000), RowStatus::Green),
        ] {
            let mut facts = sound();
            let room = &mut facts.rooms[0];
            (room.free_bytes, room.total_bytes) = (free_bytes, total_bytes);
            room.free_files = free_files;
            room.fills_by(rate);
            let [row] = &rows(&facts)[..] else { panic!() };
            assert_eq!(row.status, status, "{row:?}");
            assert_eq!(row.fix.is_none(), status == RowStatus::Green);
        }
    }

    #[test]
    fn a_small_disk_has_room_when_most_of_it_is_free_and_is_advised_what_it_can_give() {
        const MIB: u64 = 1 << 20;
        let row = |free_bytes, total_bytes| {
            let mut facts = sound();
            facts.rooms[0].free_bytes = free_bytes;
            facts.rooms[0].total_bytes = total_bytes;
            rows(&facts).remove(0)
        };
        let total = 40 * MIB;
        assert_eq!(row(total, total).status, RowStatus::Green);
        let full = row(3 * MIB, total);
        assert_eq!(full.status, RowStatus::Red);
        let advised = full.summary.split("shipped_free_bytes = ").nth(1).unwrap();
        let advised: u64 = advised.split(':').next().unwrap().parse().unwrap();
        assert!(advised < total / 4, "{full:?}");
        assert_eq!(row(advised, total).status, RowStatus::Green);
        // One that holds nothing has no room even when it is empty.
        assert_eq!(row(MIB, MIB).status, RowStatus::Red);
        // An ordinary disk is judged as it was.
        assert_eq!(row(50 * MIB, 120 * MIB).status, RowStatus::Red);
    }

    #[test]
    fn what_lasts_for_years_is_not_said_to_last_for_so_many_days() {
        let mut facts = sound();
        facts.rooms[0].free_bytes = 500_000_000_000;
        facts.rooms[0].fills_by(Some(100));
        let [row] = &rows(&facts)[..] else { panic!() };
        assert!(!row.summary.contains("at the present rate"), "{row:?}");
    }

    #[test]
    fn the_worst_of_several_file_systems_is_the_one_that_is_told() {
        let mut facts = sound();
        let full = RoomStatus {
            free_bytes: 0,
            path: "/full".to_owned(),
            ..facts.rooms[0].clone()
        };
        facts.rooms.insert(0, full);
        assert!(
            rows(&facts)[0].summary.starts_with("/full: 0 B of"),
            "{:?}",
            rows(&facts)
        );
    }
}
