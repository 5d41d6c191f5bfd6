//! Healthy episodes beside sick ones, in worlds drawn from one number each: no healthy one waits
//! longer than for its own work and one turn of each that is in front of it.
//!
//! The only thing that fails here is a sick episode: it is still written to, cut late, or refused
//! by something in between. Unlike `world.rs` this knows how long things take, and so what a wait
//! is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;

use super::{
    dice::Dice,
    hosts::{Hosts, Outside},
};
use crate::{
    model::episode::EpisodeId,
    ship::{
        machine::{
            Order, SMALL_BYTES, Settings, destination::upload_window::Uploads,
            step_result::PackFailure,
        },
        outcome::{Answer, AnswerBody, Attempt, Fault, Outcome, Phase, Voucher},
    },
};

const S: Duration = Duration::from_secs(1);
const WORLDS: u64 = 40;
/// A hold, and the way up after it, cost some seconds, and each sick one that is tried while it is
/// held a moment.
const AROUND: Duration = Duration::from_secs(10);
const PLACE: Duration = Duration::from_millis(200);

/// What is wrong with the sick ones of a world.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sickness {
    /// Sealed, and still appended to: it is read to its end each time, and has changed by then.
    StillWritten,
    /// Each upload is cut at its end; the receiver keeps a little more each time, or nothing.
    CutLate { kept: bool },
    /// Each upload is taken to its last byte, and never answered.
    Hangs,
    /// Something in between answers so, with a page, for these alone.
    Answered(u16),
    /// The same with no body, as Caddy and many gateways do.
    AnsweredWithNothing(u16),
    /// The same in JSON.
    AnsweredInJson(u16),
}

impl Sickness {
    /// What the sick ones are answered, where they are.
    fn answer(self) -> Option<(u16, AnswerBody)> {
        match self {
            Self::StillWritten | Self::CutLate { .. } | Self::Hangs => None,
            Self::Answered(status) => Some((
                status,
                AnswerBody::Foreign {
                    html: true,
                    excerpt: "<html>".to_owned(),
                },
            )),
            Self::AnsweredWithNothing(status) => Some((status, AnswerBody::Empty)),
            Self::AnsweredInJson(status) => {
                Some((status, AnswerBody::Json(json!({"message": "no"}))))
            }
        }
    }
}

/// A line on which nothing is wrong, and the sick.
struct Ward {
    sickness: Sickness,
    sizes: BTreeMap<EpisodeId, u64>,
    sick: BTreeSet<EpisodeId>,
    kept_bytes: u64,
    /// Who was sent, in that order.
    turns: Vec<EpisodeId>,
    at_once: usize,
    most_at_once: usize,
}

impl Outside for Ward {
    fn size_bytes(&self, id: &EpisodeId) -> u64 {
        self.sizes[id]
    }

    /// Twenty megabytes a second.
    fn packs_for(&self, size_bytes: u64) -> Duration {
        Duration::from_millis(20 + size_bytes / 20_000)
    }

    fn attempt(&mut self, id: &EpisodeId, size_bytes: u64, now: Duration) -> (Duration, Attempt) {
        let whole = now + sends_for(size_bytes);
        self.turns.push(id.clone());
        self.at_once += 1;
        self.most_at_once = self.most_at_once.max(self.at_once);
        let answer = |status, body| {
            Outcome::Answered(Answer {
                head_says: String::new(),
                status,
                body,
                retry_after_s: None,
                server_date: None,
                of_this_host: false,
                voucher: Voucher::Status,
            })
            .into()
        };
        if !self.sick.contains(id) {
            return (whole, answer(201, AnswerBody::Empty));
        }
        if let Some((status, body)) = self.sickness.answer() {
            return (now + Duration::from_millis(30), answer(status, body));
        }
        if self.sickness == Sickness::Hangs {
            return (
                whole + 300 * S,
                Outcome::Failed(Fault::TimedOut(Phase::Answer)).into(),
            );
        }
        self.kept_bytes += u64::from(self.sickness == Sickness::CutLate { kept: true }) << 20;
        let lost = Outcome::Failed(Fault::Lost("reset".to_owned())).into();
        (
            whole,
            Attempt {
                resumed_at_bytes: self.kept_bytes,
                ..lost
            },
        )
    }

    fn attempted(&mut self, _: &EpisodeId, _: &Attempt, _: Duration) {
        self.at_once -= 1;
    }

    fn sent_after(&self, size_bytes: u64) -> Option<Duration> {
        Some(sends_for(size_bytes).saturating_sub(Duration::from_millis(20)))
    }

    fn packs_in_vain(&mut self, id: &EpisodeId) -> Option<PackFailure> {
        let changes = self.sickness == Sickness::StillWritten && self.sick.contains(id);
        changes.then(|| PackFailure::Changed("it is longer than it was".to_owned()))
    }
}

/// Ten megabytes a second.
fn sends_for(size_bytes: u64) -> Duration {
    Duration::from_millis(30 + size_bytes / 10_000)
}

fn id(name: &str, n: usize) -> EpisodeId {
    EpisodeId::parse(&format!("{name}-{n:04}")).unwrap()
}

fn settings(pack_workers: usize, concurrency: usize, order: Order, once: bool) -> Settings {
    Settings {
        pack_workers,
        concurrency,
        order,
        uploads: Uploads::default(),
        reconcile_interval: 60 * S,
        sweep_interval: 3600 * S,
        require_receipt: false,
        believe_bare_200: false,
        open_files_wait: Duration::from_secs(600),
        relieve: false,
        once,
        seed: 7,
    }
}

/// A host with so many sick ones, and so many healthy ones behind them, or among them: whichever
/// end of a queue is served, those that are refused stand there.
fn ward(settings: Settings, sickness: Sickness, sick: &[u64], healthy: &[u64]) -> Hosts<Ward> {
    let named = |names: [&str; 2], sizes: &[u64]| -> Vec<_> {
        sizes
            .iter()
            .enumerate()
            .map(|(n, size)| (id(names[n % 2], n), *size))
            .collect()
    };
    let around = if sickness.answer().is_some() {
        ["bad", "zbad"]
    } else {
        ["bad"; 2]
    };
    let (sick, healthy) = (named(around, sick), named(["good"; 2], healthy));
    let ids: Vec<_> = sick
        .iter()
        .chain(&healthy)
        .map(|(id, _)| id.clone())
        .collect();
    let outside = Ward {
        sickness,
        sick: sick.iter().map(|(id, _)| id.clone()).collect(),
        sizes: sick.into_iter().chain(healthy).collect(),
        kept_bytes: 0,
        turns: Vec::new(),
        at_once: 0,
        most_at_once: 0,
    };
    let mut hosts = Hosts::new(outside);
    hosts.add(settings, ids);
    hosts
}

impl Hosts<Ward> {
    /// One turn of each of these, one after another.
    fn turns<'a>(&self, ids: impl IntoIterator<Item = &'a EpisodeId>) -> Duration {
        let turn = |id: &EpisodeId| {
            let size_bytes = self.outside.sizes[id];
            self.outside.packs_for(size_bytes) + sends_for(size_bytes)
        };
        ids.into_iter().map(turn).sum()
    }

    /// By when one that is sealed now is to be shipped: all that are here have one turn before it.
    fn due(&self) -> Duration {
        let places = PLACE * u32::try_from(self.outside.sick.len()).unwrap();
        self.now + AROUND + places + self.turns(self.hosts[0].episodes.keys())
    }
}

fn live(seed: u64) {
    let mut dice = Dice::new(seed);
    let sickness = dice.pick(&[
        Sickness::StillWritten,
        Sickness::CutLate { kept: true },
        Sickness::CutLate { kept: false },
        Sickness::Answered(413),
        Sickness::Answered(503),
        Sickness::Answered(403),
        Sickness::AnsweredWithNothing(502),
        Sickness::AnsweredInJson(503),
    ]);
    let settings = settings(
        dice.pick(&[1, 2, 4]),
        dice.pick(&[1, 2, 4]),
        dice.pick(&[Order::OldestFirst, Order::OldestFirst, Order::NewestFirst]),
        false,
    );
    let large = 4 * SMALL_BYTES;
    let sizes = |dice: &mut Dice, count: u64, among: &[u64]| -> Vec<u64> {
        (0..count).map(|_| dice.pick(among)).collect()
    };
    let sick = match sickness {
        Sickness::Answered(_) | Sickness::AnsweredWithNothing(_) | Sickness::AnsweredInJson(_) => {
            let count = dice.pick(&[1, 3, 10, 30]);
            sizes(&mut dice, count, &[100_000, 100_000, large])
        }
        Sickness::StillWritten | Sickness::CutLate { .. } | Sickness::Hangs => {
            let count = dice.pick(&[1, 2, 3, 9]);
            sizes(&mut dice, count, &[large, 4 * large, 100_000])
        }
    };
    let count = 1 + dice.below(6);
    let healthy = sizes(&mut dice, count, &[100_000, large]);
    let world =
        format!("world {seed}: {sickness:?}, {settings:?}, sick {sick:?}, healthy {healthy:?}");
    let mut hosts = ward(settings, sickness, &sick, &healthy);
    let due = hosts.due();
    let mut dues: BTreeMap<_, _> = (0..healthy.len()).map(|n| (id("good", n), due)).collect();
    let mut sealed = healthy.len();
    for minute in 1..=30 {
        hosts.run_until(60 * S * minute);
        if dice.chance(40) {
            let fresh = id("good", sealed);
            sealed += 1;
            hosts
                .outside
                .sizes
                .insert(fresh.clone(), dice.pick(&[100_000, 100_000, large]));
            hosts.seal(0, fresh.clone());
            dues.insert(fresh, hosts.due());
        }
    }
    hosts.run_until(*dues.values().max().unwrap());
    for (id, due) in dues {
        let at = hosts.hosts[0].shipped.get(&id);
        assert!(
            at.is_some_and(|at| *at <= due),
            "{world}: {id} was due at {due:?}, and shipped at {at:?}"
        );
    }
}

#[test]
fn no_healthy_episode_waits_longer_than_for_its_own_work_and_one_turn_of_each_in_front() {
    if let Some(seed) = super::number("SEALIFT_SIM_SEED") {
        return live(seed);
    }
    (0..super::number("SEALIFT_SIM_WORLDS").unwrap_or(WORLDS)).for_each(live);
}

#[test]
fn two_large_ones_that_are_still_appended_to_keep_a_healthy_one_waiting_for_one_turn_each() {
    let gigabyte = 64 * SMALL_BYTES;
    let settings = settings(2, 4, Order::OldestFirst, false);
    let mut hosts = ward(
        settings,
        Sickness::StillWritten,
        &[gigabyte; 2],
        &[4 * SMALL_BYTES],
    );
    let due = hosts.due();
    hosts.run_until(due);
    assert!(
        hosts.hosts[0].shipped.contains_key(&id("good", 0)),
        "it was due at {due:?}"
    );
}

#[test]
fn two_large_uploads_that_are_cut_late_keep_the_five_behind_them_waiting_for_one_turn_each() {
    for kept in [true, false] {
        let settings = settings(2, 2, Order::OldestFirst, false);
        let sick = [16 * SMALL_BYTES; 2];
        let mut hosts = ward(
            settings,
            Sickness::CutLate { kept },
            &sick,
            &[4 * SMALL_BYTES; 5],
        );
        let due = hosts.due();
        hosts.run_until(due);
        assert_eq!(
            hosts.hosts[0].shipped.len(),
            5,
            "of five, when they were due at {due:?}"
        );
    }
}

#[test]
fn three_or_ten_that_something_in_between_answers_with_503_throttle_no_good_one() {
    for sick in [3, 10] {
        let settings = settings(2, 4, Order::OldestFirst, false);
        let mut hosts = ward(
            settings,
            Sickness::Answered(503),
            &vec![1_000; sick],
            &[1_000; 20],
        );
        hosts.run_until(15 * S);
        assert_eq!(
            hosts.hosts[0].shipped.len(),
            20,
            "beside {sick}, after 15 s"
        );
        let mut slowest = Duration::ZERO;
        for n in 20..320 {
            let (fresh, sealed) = (id("good", n), hosts.now);
            hosts.outside.sizes.insert(fresh.clone(), 1_000);
            hosts.seal(0, fresh.clone());
            hosts.run_until(sealed + 5 * S);
            let at = hosts.hosts[0].shipped.get(&fresh);
            slowest = slowest.max(at.map_or(5 * S, |at| *at - sealed));
        }
        assert!(slowest < S, "beside {sick}: {slowest:?}");
    }
}

/// A healthy one each two seconds for `lasts`, and beside them a sick one each so many of these;
/// who took how long, the quickest first.
fn stream(hosts: &mut Hosts<Ward>, lasts: Duration, sick_every: Option<usize>) -> Vec<Duration> {
    let mut sealed = BTreeMap::new();
    let until = hosts.now + lasts;
    while hosts.now < until {
        let n = 1_000 + usize::try_from(hosts.now.as_secs()).unwrap() / 2;
        let fresh = id("good", n);
        sealed.insert(fresh.clone(), hosts.now);
        let mut add = vec![fresh];
        if sick_every.is_some_and(|every| n.is_multiple_of(every)) {
            let sick = id("late-bad", n);
            hosts.outside.sick.insert(sick.clone());
            add.push(sick);
        }
        for id in add {
            hosts.outside.sizes.insert(id.clone(), 1_000);
            hosts.seal(0, id);
        }
        hosts.run_until(hosts.now + 2 * S);
    }
    let (now, shipped) = (hosts.now, &hosts.hosts[0].shipped);
    let took = |(id, at): (&EpisodeId, &Duration)| *shipped.get(id).unwrap_or(&now) - *at;
    let mut took: Vec<_> = sealed.iter().map(took).collect();
    took.sort();
    took
}

#[test]
fn sick_ones_that_are_here_and_sick_ones_that_come_slow_no_healthy_one_down_that_is_sealed_meanwhile()
 {
    for sickness in [
        Sickness::Answered(503),
        Sickness::Answered(403),
        Sickness::CutLate { kept: false },
        Sickness::AnsweredWithNothing(200),
        Sickness::AnsweredWithNothing(429),
        Sickness::AnsweredWithNothing(502),
        Sickness::AnsweredInJson(503),
    ] {
        for (sick, every) in [
            (100, None),
            (50, None),
            (50, Some(3)),
            (3, Some(1)),
            (100, Some(1)),
        ] {
            let settings = settings(2, 4, Order::OldestFirst, false);
            let mut hosts = ward(settings, sickness, &vec![1_000; sick], &[]);
            let took = stream(&mut hosts, 200 * S, every);
            let case = format!("{sickness:?}, {sick} at first, {every:?}: {took:?}");
            assert!(took[took.len() / 2] < S, "{case}");
            // What may be a receiver's word is taken for one until something is delivered between.
            let most = if matches!(sickness, Sickness::Answered(_)) {
                10 * S
            } else {
                20 * S
            };
            assert!(*took.last().unwrap() < most, "{case}");
        }
    }
}

#[test]
fn uploads_that_are_never_answered_keep_no_small_one_waiting_longer_than_their_silence_shows() {
    for (concurrency, sick) in [(2, 2), (2, 3), (3, 5), (4, 4), (4, 6), (4, 7)] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let settings = settings(2, concurrency, order, false);
            let mut hosts = ward(settings, Sickness::Hangs, &vec![1_000; sick], &[]);
            let took = stream(&mut hosts, 280 * S, None);
            let case = format!("{sick} that hang, {concurrency} at once, {order:?}: {took:?}");
            assert!(took[took.len() / 2] < S, "{case}");
            assert!(*took.last().unwrap() < 25 * S, "{case}");
            // When those are given up, and tried again.
            let later = stream(&mut hosts, 600 * S, None);
            assert!(
                later[later.len() / 2] < S && *later.last().unwrap() < 25 * S,
                "{case}; {later:?}"
            );
            let most = hosts.outside.most_at_once;
            assert!(most <= 2 * concurrency, "{most} at once: {case}");
        }
    }
}

#[test]
fn what_was_not_tried_goes_before_what_was_across_holds() {
    for status in [413, 503] {
        for concurrency in [1, 2, 4] {
            let settings = settings(2, concurrency, Order::OldestFirst, false);
            let mut hosts = ward(
                settings,
                Sickness::Answered(status),
                &[1_000; 100],
                &[1_000; 20],
            );
            hosts.run_until(60 * S);
            let mut tried = BTreeSet::new();
            let first_turns = hosts
                .outside
                .turns
                .iter()
                .take_while(|id| tried.insert(*id))
                .count();
            assert_eq!(
                first_turns, 120,
                "{status}, {concurrency} at once: {:?}",
                hosts.outside.turns
            );
        }
    }
}

#[test]
fn the_healthy_ones_behind_80_that_are_refused_are_shipped_though_nothing_new_comes() {
    for status in [413, 403, 503] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let settings = settings(2, 4, order, false);
            let mut hosts = ward(
                settings,
                Sickness::Answered(status),
                &[1_000; 80],
                &[2_000; 5],
            );
            let due = AROUND + PLACE * 85;
            hosts.run_until(due);
            assert_eq!(
                hosts.hosts[0].shipped.len(),
                5,
                "{status}, {order:?}, after {due:?}"
            );
        }
    }
}

#[test]
fn one_pass_after_another_tries_those_that_were_not_tried_before_those_that_were() {
    for status in [413, 503] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let pass = || settings(2, 4, order, true);
            let mut hosts = ward(
                pass(),
                Sickness::Answered(status),
                &[1_000; 60],
                &[2_000; 5],
            );
            hosts.run_until(S * 60);
            for _ in 0..5 {
                hosts.run_until(hosts.now + 60 * S);
                hosts.restart(0, pass());
            }
            assert_eq!(
                hosts.hosts[0].shipped.len(),
                5,
                "{status}, {order:?}, after six passes"
            );
        }
    }
}
