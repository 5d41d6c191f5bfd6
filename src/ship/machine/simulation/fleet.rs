//! A fleet, and the one receiver that all of it waits for.

use std::{collections::BTreeMap, time::Duration};

use super::{
    hosts::{Hosts, Outside},
    stream::compare_fleet,
};
use crate::{
    model::episode::EpisodeId,
    ship::{
        machine::{Order, Settings, destination::upload_window::Uploads},
        outcome::{Answer, AnswerBody, Attempt, Fault, Outcome, Voucher},
    },
};

const HOSTS: usize = 100;
const WAITING: u64 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);
/// What the receiver does at once; one more is refused. A tenth of the hosts, with one request
/// each.
const AT_ONCE: usize = 10;
const TAKES: Duration = Duration::from_millis(100);
/// What it can do in a second, at its best.
const PER_SECOND: usize = 100;

/// A receiver that is away for a day, and then has room for [`AT_ONCE`].
#[derive(Default)]
struct Receiver {
    at_once: usize,
    /// By the second: how many came, and how many of them were refused.
    seconds: BTreeMap<u64, (usize, usize)>,
}

impl Outside for Receiver {
    fn size_bytes(&self, _: &EpisodeId) -> u64 {
        100_000
    }

    fn packs_for(&self, _: u64) -> Duration {
        Duration::from_millis(5)
    }

    fn attempt(&mut self, _: &EpisodeId, _: u64, now: Duration) -> (Duration, Attempt) {
        let soon = now + Duration::from_millis(2);
        let (came, refused) = self.seconds.entry(now.as_secs()).or_default();
        *came += 1;
        if now < DAY {
            return (
                soon,
                Outcome::Failed(Fault::Unreachable("nothing listens".to_owned())).into(),
            );
        }
        if self.at_once == AT_ONCE {
            *refused += 1;
            return (soon, answer(503).into());
        }
        self.at_once += 1;
        (now + TAKES, answer(201).into())
    }

    fn attempted(&mut self, _: &EpisodeId, attempt: &Attempt, _: Duration) {
        if attempt.outcome == answer(201) {
            self.at_once -= 1;
        }
    }
}

fn answer(status: u16) -> Outcome {
    Outcome::Answered(Answer {
        head_says: String::new(),
        status,
        body: AnswerBody::Empty,
        retry_after_s: None,
        server_date: None,
        of_this_host: false,
        voucher: Voucher::Status,
    })
}

/// What a fleet came to.
#[derive(Debug)]
struct Story {
    /// Requests in the busiest second of the outage's last hour, and of the time after it.
    peak_away: usize,
    peak_back: usize,
    /// Of all requests after the outage, percent.
    refused_percent: usize,
    /// From the end of the outage until the last episode was shipped.
    drained_after: Duration,
    /// Of all that the hosts asked for.
    digest: String,
}

/// `waiting` episodes, spread over the fleet.
fn live(waiting: usize) -> Story {
    let mut fleet = Hosts::new(Receiver::default());
    for host in 0..HOSTS {
        let settings = Settings {
            pack_workers: 2,
            concurrency: 4,
            order: Order::OldestFirst,
            uploads: Uploads::default(),
            // What there is, is found at the start.
            reconcile_interval: 3 * DAY,
            sweep_interval: 3 * DAY,
            require_receipt: false,
            believe_bare_200: false,
            relieve: false,
            open_files_wait: Duration::from_secs(600),
            once: false,
            seed: host as u64,
        };
        let ids = (0..waiting / HOSTS).map(|n| EpisodeId::parse(&format!("run-{n:05}")).unwrap());
        fleet.add(settings, ids);
    }
    fleet.run_until(DAY);
    let patience = Duration::from_secs(120 + 4 * (waiting / PER_SECOND) as u64);
    let mut now = DAY;
    while !fleet.all_shipped() {
        now += Duration::from_secs(1);
        assert!(now < DAY + patience, "not drained after {patience:?}");
        fleet.run_until(now);
    }
    let seconds = &fleet.outside.seconds;
    let day_s = DAY.as_secs();
    let peak = |range: std::ops::Range<u64>| seconds.range(range).map(|(_, (came, _))| *came).max();
    let back = seconds.range(day_s..);
    let (came, refused) = back.fold((0, 0), |sum, (_, one)| (sum.0 + one.0, sum.1 + one.1));
    Story {
        peak_away: peak(day_s - 3600..day_s).unwrap(),
        peak_back: peak(day_s..u64::MAX).unwrap(),
        refused_percent: 100 * refused / came,
        drained_after: now - DAY,
        digest: fleet.stream.digest(),
    }
}

/// What is at stake: without the ramp a fifth is refused, and the busiest second has twice what the
/// receiver can do.
#[test]
fn after_an_outage_of_a_day_with_10_000_episodes_waiting_a_fleet_of_100_hosts_does_not_stampede() {
    let waiting = super::number("SEALIFT_SIM_EPISODES").unwrap_or(WAITING);
    let story = live(usize::try_from(waiting).unwrap());
    if waiting == WAITING {
        compare_fleet(&story.digest);
    }
    let at_best = u32::try_from(waiting).unwrap() / u32::try_from(AT_ONCE).unwrap();
    assert!(story.peak_away < 20, "in the outage: {story:?}");
    assert!(story.peak_back < PER_SECOND * 8 / 5, "{story:?}");
    assert!(story.refused_percent < 15, "{story:?}");
    assert!(
        story.drained_after < Duration::from_secs(60) + 2 * TAKES * at_best,
        "{story:?}"
    );
}
