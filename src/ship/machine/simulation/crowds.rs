//! No starvation of either kind: fresh small ones behind a backlog and beside giants, and those in
//! their way.

use std::{collections::BTreeMap, time::Duration};

use super::hosts::{Hosts, Outside};
use crate::{
    model::episode::EpisodeId,
    ship::{
        machine::{Order, SMALL_BYTES, Settings, destination::upload_window::Uploads},
        outcome::{Answer, AnswerBody, Attempt, Outcome},
    },
};

const GIANT_BYTES: u64 = 200 * SMALL_BYTES;
const S: Duration = Duration::from_secs(1);

/// A disk and a line that are never refused anything, and that giants keep busy for an hour.
struct Line(BTreeMap<EpisodeId, u64>);

fn answer() -> Attempt {
    Outcome::Answered(Answer {
        head_says: String::new(),
        status: 201,
        body: AnswerBody::Empty,
        retry_after_s: None,
        server_date: None,
        of_this_host: false,
        voucher: crate::ship::outcome::Voucher::Status,
    })
    .into()
}

impl Outside for Line {
    fn size_bytes(&self, id: &EpisodeId) -> u64 {
        self.0.get(id).copied().unwrap_or(100_000)
    }

    /// As on a slow card: a megabyte a second, and something for each.
    fn packs_for(&self, size_bytes: u64) -> Duration {
        Duration::from_millis(20 + size_bytes / 1_000)
    }

    fn attempt(&mut self, _: &EpisodeId, size_bytes: u64, now: Duration) -> (Duration, Attempt) {
        (
            now + Duration::from_millis(50 + size_bytes / 1_000),
            answer(),
        )
    }
}

fn id(name: &str, n: usize) -> EpisodeId {
    EpisodeId::parse(&format!("{name}-{n:04}")).unwrap()
}

/// A host with this many giants and old small ones, and one fresh small one every ten seconds for
/// an hour.
struct Crowd {
    fresh_took: Vec<Duration>,
    old_small_by: Duration,
    giants_by: Duration,
}

fn live(pack_workers: usize, concurrency: usize, order: Order, giants: usize, old: usize) -> Crowd {
    let line = Line((0..giants).map(|n| (id("giant", n), GIANT_BYTES)).collect());
    let mut crowd = Hosts::new(line);
    let settings = Settings {
        pack_workers,
        concurrency,
        order,
        uploads: Uploads::default(),
        reconcile_interval: 60 * S,
        sweep_interval: 3600 * S,
        require_receipt: false,
        believe_bare_200: false,
        relieve: false,
        open_files_wait: Duration::from_secs(600),
        once: false,
        seed: 7,
    };
    crowd.add(
        settings,
        (0..giants)
            .map(|n| id("giant", n))
            .chain((0..old).map(|n| id("old", n))),
    );
    let fresh = 360;
    for n in 0..fresh {
        crowd.run_until(S * 10 * u32::try_from(n + 1).unwrap());
        crowd.seal(0, id("zfresh", n));
    }
    let sealed_at = |n: usize| S * 10 * u32::try_from(n + 1).unwrap();
    // A giant takes an hour to pack and one to send.
    let patience = 3 * 3600 * S * (u32::try_from(giants).unwrap() + 1);
    let mut until = crowd.now;
    while !crowd.all_shipped() {
        until += 60 * S;
        assert!(
            until < patience,
            "left behind: {:?}",
            crowd.hosts[0].episodes.keys().take(5)
        );
        crowd.run_until(until);
    }
    let shipped = &crowd.hosts[0].shipped;
    let last = |name: &str| {
        let of_it = shipped
            .iter()
            .filter(|(id, _)| id.as_str().starts_with(name));
        of_it.map(|(_, at)| *at).max().unwrap_or_default()
    };
    Crowd {
        fresh_took: (0..fresh)
            .map(|n| shipped[&id("zfresh", n)] - sealed_at(n))
            .collect(),
        old_small_by: last("old"),
        giants_by: last("giant"),
    }
}

const SLOTS: [(usize, usize); 4] = [(1, 1), (2, 1), (1, 4), (2, 4)];
const ORDERS: [Order; 2] = [Order::OldestFirst, Order::NewestFirst];

#[test]
fn fresh_small_episodes_are_not_stuck_behind_a_backlog_and_the_backlog_not_behind_them() {
    for (pack_workers, concurrency) in SLOTS {
        for order in ORDERS {
            let crowd = live(pack_workers, concurrency, order, 0, 2_000);
            let case = format!("{pack_workers} workers, {concurrency} uploads, {order:?}");
            let slowest = crowd.fresh_took.iter().max().unwrap();
            assert!(*slowest < 2 * S, "{case}: {slowest:?}");
            // One takes 270 ms with one slot: all of them, and the fresh ones between, nine minutes
            // and a half.
            assert!(
                crowd.old_small_by < 720 * S,
                "{case}: {:?}",
                crowd.old_small_by
            );
        }
    }
}

#[test]
fn fresh_small_episodes_are_not_stuck_beside_giants_and_the_giants_not_behind_them() {
    for (pack_workers, concurrency) in SLOTS {
        for order in ORDERS {
            let crowd = live(pack_workers, concurrency, order, 3, 0);
            let case = format!("{pack_workers} workers, {concurrency} uploads, {order:?}");
            // The slot that is kept may find out just then that a giant is none of its own.
            let slowest = crowd.fresh_took.iter().max().unwrap();
            assert!(*slowest < 40 * S, "{case}: {slowest:?}");
            let late = crowd
                .fresh_took
                .iter()
                .filter(|took| **took > 2 * S)
                .count();
            assert!(late <= 6, "{case}: {late} of them late");
            assert!(
                crowd.giants_by < 5 * 3600 * S,
                "{case}: {:?}",
                crowd.giants_by
            );
        }
    }
}

#[test]
fn old_small_episodes_are_not_starved_where_giants_have_all_the_other_slots() {
    for order in ORDERS {
        let crowd = live(1, 1, order, 2, 500);
        assert!(
            crowd.old_small_by < 1_800 * S,
            "{order:?}: {:?}",
            crowd.old_small_by
        );
        let mut took = crowd.fresh_took;
        took.sort();
        assert!(
            took[took.len() / 2] < 3 * S,
            "{order:?}: {:?}",
            took[took.len() / 2]
        );
    }
}
