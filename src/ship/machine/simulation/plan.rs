//! What a world is like: drawn once, from its seed.

use std::{collections::BTreeMap, time::Duration};

use super::dice::Dice;
use crate::{
    model::episode::EpisodeId,
    ship::{
        machine::{
            Order, Settings,
            destination::upload_window::{LocalTime, Uploads, Window},
        },
        outcome::{Answer, AnswerBody, Fault, Outcome, Voucher},
    },
};

/// What is tried out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Profile {
    /// Everything fails now and then, until it stops to. Then everything finishes.
    Storm,
    /// Nothing fails but one poisoned episode. The others do not notice it.
    Calm,
    /// As the storm, in passes from cron.
    Once,
}

/// An episode that never goes through, whatever is tried.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Poison {
    /// The receiver rejects it, in JSON, with this status. To quarantine.
    Rejected(u16),
    /// Its own manifest belies it. To quarantine.
    WrongManifest,
    /// Its manifest never becomes whole. To quarantine, in a while.
    UnfinishedManifest,
    /// The receiver holds other content under its name. For a person.
    Taken,
    /// Whatever is in between answers so, for this episode alone.
    Met(Outcome),
    /// Altered on the way, each time.
    Corrupted,
    Unreadable,
    /// There is never room for it in the outbox. It is shipped all the same.
    TooLarge,
    /// It cannot be moved.
    Immovable,
    /// It is written to without an end.
    NeverStill,
}

/// The destination, as a whole, for a while.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) profile: Profile,
    pub(super) settings: Settings,
    pub(super) names: Vec<EpisodeId>,
    pub(super) poison: BTreeMap<EpisodeId, Poison>,
    pub(super) outages: Vec<Outage>,
    /// From then on nothing fails but what is poisoned, and the recorder is still.
    pub(super) calm_at: Duration,
    /// In a hundred: attempts, steps on our disk, hints lost, things that take long, looks at a
    /// time without watches.
    pub(super) bad_answers: u64,
    pub(super) bad_disk: u64,
    pub(super) lost_hints: u64,
    pub(super) slow: u64,
    pub(super) crashes: u64,
    pub(super) watch_troubles: u64,
    pub(super) reloads: u64,
    pub(super) small_outbox: u64,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> (Self, Dice) {
        let mut dice = Dice::new(seed);
        let profile = match dice.below(10) {
            0..=5 => Profile::Storm,
            6..=7 => Profile::Calm,
            _ => Profile::Once,
        };
        let calm = profile == Profile::Calm;
        let settings = Settings {
            pack_workers: dice.pick(&[1, 1, 2, 4]),
            concurrency: dice.pick(&[1, 2, 2, 4]),
            order: Order::OldestFirst,
            uploads: Uploads::default(),
            // In calm weather the hints alone must do.
            reconcile_interval: Duration::from_secs(if calm { 4 * 3600 } else { 60 }),
            sweep_interval: Duration::from_secs(3600),
            require_receipt: dice.chance(30),
            open_files_wait: Duration::from_secs(600),
            believe_bare_200: false,
            once: profile == Profile::Once,
            relieve: seed.is_multiple_of(3),
            seed: dice.draw(),
        };
        let settings = if dice.chance(30) {
            Settings {
                order: Order::NewestFirst,
                ..settings
            }
        } else {
            settings
        };
        // Forty minutes of each hour.
        let hours = (0..24).map(|hour| Window {
            from: LocalTime::from_seconds(hour * 3600),
            to: LocalTime::from_seconds(hour * 3600 + 2400),
            limit: None,
        });
        let some_hours = profile == Profile::Storm && dice.chance(20);
        let windows = if some_hours {
            hours.collect()
        } else {
            Vec::new()
        };
        let settings = Settings {
            uploads: Uploads {
                limit: None,
                windows,
            },
            ..settings
        };
        let count = dice.pick(&[2, 3, 5, 8]);
        let names: Vec<_> = (0..count)
            .map(|n| EpisodeId::parse(&format!("e{n}")).unwrap())
            .collect();
        let mut poison = BTreeMap::new();
        let poisoned = if calm {
            dice.below(2)
        } else {
            dice.pick(&[0, 0, 1, 1, 2, 3])
        };
        for _ in 0..poisoned {
            let name = dice.below(names.len() as u64);
            poison.insert(
                names[usize::try_from(name).unwrap()].clone(),
                draw_poison(&mut dice),
            );
        }
        let calm_at = match profile {
            Profile::Storm => dice.millis(10_000, 1_200_000),
            Profile::Calm => dice.millis(10_000, 4_000_000),
            Profile::Once => dice.millis(1_000, 30_000),
        };
        // Each world has its own mixture: what never fails in one fails often in another.
        let mut percent = |often: &[u64]| if calm { 0 } else { dice.pick(often) };
        let (bad_answers, bad_disk) = (percent(&[0, 5, 20, 50]), percent(&[0, 0, 5, 20]));
        let (lost_hints, slow) = (percent(&[0, 0, 10, 100]), percent(&[0, 2, 10]));
        let (crashes, watch_troubles) = (percent(&[0, 0, 2, 6]), percent(&[0, 0, 2, 4]));
        let reloads = percent(&[0, 0, 1, 3]);
        let small_outbox = percent(&[0, 0, 30, 100]);
        let outages = (0..percent(&[0, 0, 1, 2]))
            .map(|_| draw_outage(&mut dice, calm_at))
            .collect();
        let plan = Self {
            profile,
            settings,
            names,
            poison,
            outages,
            calm_at,
            bad_answers,
            bad_disk,
            lost_hints,
            slow,
            crashes,
            watch_troubles,
            reloads,
            small_outbox,
        };
        (plan, dice)
    }
}

fn draw_outage(dice: &mut Dice, calm_at: Duration) -> Outage {
    let from = calm_at.mul_f64(dice.below(80) as f64 / 100.0);
    let until = from + (calm_at - from).mul_f64(dice.below(100) as f64 / 100.0);
    Outage {
        from,
        until,
        outcome: draw_bad_outcome(dice),
    }
}

fn draw_poison(dice: &mut Dice) -> Poison {
    match dice.below(14) {
        0 | 1 => Poison::Rejected(dice.pick(&[400, 412, 413])),
        2 => Poison::WrongManifest,
        3 => Poison::UnfinishedManifest,
        4 => Poison::Taken,
        5 => Poison::Corrupted,
        6 => Poison::Unreadable,
        7 => Poison::TooLarge,
        8 => Poison::Immovable,
        9 => Poison::NeverStill,
        _ => Poison::Met(draw_bad_outcome(dice)),
    }
}

/// Anything that anything but the receiver can make of an attempt, and that proves nothing.
pub(super) fn draw_bad_outcome(dice: &mut Dice) -> Outcome {
    if dice.chance(35) {
        return Outcome::Failed(match dice.below(6) {
            0 => Fault::Unreachable("refused".into()),
            1 => Fault::Tls("expired".into()),
            2 => Fault::TimedOut(crate::ship::outcome::Phase::Idle),
            3 => Fault::Lost("reset".into()),
            4 => Fault::Request("no token".into()),
            _ => Fault::TimedOut(crate::ship::outcome::Phase::Answer),
        });
    }
    let often = [
        401, 403, 404, 408, 413, 414, 429, 431, 500, 502, 503, 507, 200, 202, 302, 400,
    ];
    let status = if dice.chance(60) {
        dice.pick(&often)
    } else {
        200 + u16::try_from(dice.below(400)).unwrap()
    };
    let json = match status {
        // A receipt that names other content than ours.
        200 | 201 | 204 => Some(serde_json::json!({"sha256": "00"})),
        401 | 403..=405 | 407 | 408 | 411 | 421 | 425 | 426 | 429 => {
            Some(serde_json::json!({"title": "no"}))
        }
        // A gateway that speaks JSON: no receiver means an episode by these.
        402 | 414 | 416 | 417 | 423 | 431 | 451 => Some(serde_json::json!({"message": "no"})),
        // Of another receiver these would be its own word.
        400..=499 => None,
        _ => Some(serde_json::json!({"title": "no"})),
    };
    let html = match status {
        // A 201 may carry any page.
        201 | 204 => AnswerBody::Garbled {
            excerpt: "{".into(),
        },
        _ => AnswerBody::Foreign {
            html: true,
            excerpt: "<html>".into(),
        },
    };
    let acknowledges = matches!(status, 200 | 201 | 204);
    let body = match (dice.below(3), json) {
        (0, Some(json)) => AnswerBody::Json(json),
        (1, _) if !acknowledges => AnswerBody::Empty,
        _ => html,
    };
    let retry_after_s = dice
        .chance(20)
        .then(|| dice.pick(&[0, 1, 30, 600, 100_000]));
    Outcome::Answered(Answer {
        head_says: String::new(),
        status,
        body,
        retry_after_s,
        server_date: None,
        of_this_host: false,
        voucher: Voucher::Status,
    })
}
