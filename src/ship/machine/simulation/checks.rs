//! What must hold: after every step, and when the story is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    disk::{Dir, facts},
    plan::{Poison, Profile},
    steps::Job,
    world::World,
};
use crate::{
    model::episode::{EpisodeId, Fingerprint},
    ship::{
        machine::{
            Effect, Event, Tally,
            destination::upload_window::Pace,
            limits::DISK_STEPS,
            step_result::{Check, PackFailure, Packed, Reason},
        },
        outcome::{Answer, AnswerBody, Attempt, Outcome},
    },
};

/// In calm weather, from the seal to `shipped/`, whatever one poisoned episode does meanwhile.
const CALM_LIMIT: Duration = Duration::from_secs(15);
/// No episode is packed, or sent, more often within [`WINDOW`].
const MAX_REPEATS: u32 = 80;
const WINDOW: Duration = Duration::from_secs(300);

/// What was seen of the machine so far.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Everything that was done, in one number.
    pub(super) history: u64,
    pub(super) began_in_calm: bool,
    pub(super) unfinished_since: BTreeMap<EpisodeId, Duration>,
    /// The archive could not be made durable, and was not packed anew since.
    spoiled: BTreeSet<EpisodeId>,
    /// Given up on the slot that is kept for the small.
    large: BTreeSet<EpisodeId>,
    /// Sent while they are packed, or were until now.
    growing: BTreeSet<EpisodeId>,
    /// What this process heard to be in conflict.
    conflicts: BTreeMap<EpisodeId, Fingerprint>,
    sent: BTreeMap<EpisodeId, Fingerprint>,
    /// Packed or checked by this process.
    begun: BTreeSet<EpisodeId>,
    repeats: BTreeMap<(EpisodeId, &'static str), u32>,
    window: u64,
}

impl Watched {
    pub(super) fn new_process(&mut self, began_in_calm: bool) {
        *self = Self {
            history: self.history,
            began_in_calm,
            ..Self::default()
        };
    }

    /// What was said to be in conflict was so at the one before.
    pub(super) fn another_receiver(&mut self) {
        self.conflicts.clear();
        // Nor is what it still says of what is on its way.
        self.sent.clear();
    }

    fn remember(&mut self, text: &str, now: Duration) {
        for byte in text.bytes().chain(now.as_millis().to_le_bytes()) {
            self.history = (self.history ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl World {
    /// What the machine hears, seen before it does.
    pub(super) fn hears(&mut self, event: &Event) {
        match event {
            Event::Attempted(
                id,
                Attempt {
                    outcome:
                        Outcome::Answered(Answer {
                            status: 409,
                            body: AnswerBody::Json(_),
                            ..
                        }),
                    ..
                },
            ) => {
                if let Some(sent) = self.seen.sent.get(id) {
                    // What an archive that could not be kept was told is not believed: it may be
                    // about broken bytes.
                    if !self.seen.spoiled.contains(id) {
                        self.seen.conflicts.insert(id.clone(), *sent);
                    }
                }
            }
            // Of what lies nowhere it was a note: no bytes are any worse for that.
            Event::Persisted(id, Err(_)) if self.scratch.get(id).is_some_and(|it| it.measured) => {}
            Event::Persisted(id, Err(_)) => {
                self.seen.spoiled.insert(id.clone());
                self.seen.conflicts.remove(id);
            }
            Event::Packed(id, Err(PackFailure::Large)) => {
                self.seen.large.insert(id.clone());
            }
            Event::Checked(id, Check::Unusable(_)) => {
                self.seen.conflicts.remove(id);
            }
            Event::Hinted(_)
            | Event::HintsLost
            | Event::Looked(..)
            | Event::Scanned(_)
            | Event::Checked(..)
            | Event::Packed(..)
            | Event::Persisted(..)
            | Event::Discarded(_)
            | Event::WholeSent(_)
            | Event::Growing(_)
            | Event::GrowingSent(..)
            | Event::Attempted(..)
            | Event::Retired(..)
            | Event::Quarantined(..)
            | Event::Finished(..)
            | Event::OrphanSettled(..)
            | Event::PutAside(_)
            | Event::Swept(_)
            | Event::SpaceFreed(_)
            | Event::LookedBack(_)
            | Event::Watching(_)
            | Event::WatchesLost
            | Event::Configured { .. }
            | Event::ClockRead(_)
            | Event::Deadline
            | Event::Stop => {}
        }
    }

    /// A deadline that has passed was seen to: else the loop would spin.
    pub(super) fn deadline_lies_ahead(&self) {
        let deadline = self
            .machine
            .as_ref()
            .and_then(crate::ship::machine::Machine::next_deadline);
        assert!(
            deadline.is_none_or(|at| at > self.now),
            "a deadline in the past: {deadline:?}"
        );
    }

    /// How many are in flight, and whether two would meet at the same files.
    pub(super) fn effect_is_allowed(&mut self, effect: &Effect) {
        let (name, id) = describe(effect);
        self.seen.remember(name, self.now);
        // It has given up its slot.
        if let Effect::Cancel(id) = effect {
            self.seen.growing.remove(id);
        }
        if let Some(id) = id {
            self.seen.remember(id.as_str(), self.now);
        }
        let running = |names: &[&str]| {
            self.jobs
                .values()
                .filter(|job| names.contains(&describe(&job.effect).0))
                .count()
        };
        let settings = &self.plan.settings;
        let most = match name {
            "pack" | "measure" | "check" => {
                let kinds = ["pack", "measure", "check"];
                let most =
                    settings.pack_workers + self.beside_a_long_one(&kinds, settings.pack_workers);
                most - running(&kinds).min(most)
            }
            "send" | "grow" => {
                let mut most = settings.concurrency
                    + self.beside_a_long_one(&["send", "grow"], settings.concurrency);
                // Beside as many as hang.
                if settings.concurrency > 1 && self.all_sends_are_slow() {
                    most = 2 * settings.concurrency;
                }
                // What was sent while it was packed goes on in its slot.
                let growing = self.jobs.values().filter(|job| self.grows(job, id)).count();
                let goes_on = name == "send" && id.is_some_and(|id| self.seen.growing.contains(id));
                most + usize::from(goes_on) - (running(&["send"]) + growing).min(most)
            }
            "keep" | "retire" | "quarantine" | "orphan" => {
                DISK_STEPS - running(&["keep", "retire", "quarantine", "orphan"]).min(DISK_STEPS)
            }
            "scan" | "sweep" | "relieve" => 1 - running(&[name]).min(1),
            _ => 1,
        };
        assert!(most > 0, "too many at once: {name}");
        let Some(machine) = &self.machine else { return };
        if name == "send"
            && let Some(hold) = machine.destination().hold()
        {
            // Beside the suspect, with which no other has failed yet, and beside one that takes
            // long.
            let probes = self.jobs.values().filter(|job| {
                let (name, id) = describe(&job.effect);
                name == "send"
                    && !self.is_slow(job)
                    && (hold.suspect.is_none() || id != hold.suspect.as_ref())
            });
            assert_eq!(probes.count(), 0, "more than one probe at a time");
        }
        if name == "grow" {
            let held = machine.destination().hold();
            assert!(
                held.is_none(),
                "sent while it is packed, to a receiver that is held"
            );
        }
        if ["send", "grow"].contains(&name) {
            let closed = matches!(settings.uploads.pace(self.local_time()), Pace::Closed(_));
            assert!(!closed, "sent outside every window");
        }
        if ["pack", "measure", "check"].contains(&name) {
            let ahead = machine.ready() + running(&["pack", "measure", "check"]);
            // While it is held, one that was not tried is there to be; and one that was sealed
            // since.
            let held = machine.destination().hold();
            let wanted = machine.fresh_ready_before(id) == 0
                || held.is_some_and(|hold| machine.is_new(id, hold.since));
            let beyond = held.is_some() && wanted && running(&["pack", "measure", "check"]) == 0;
            assert!(
                ahead < 2 * settings.concurrency || beyond,
                "packed too far ahead"
            );
        }
        if self.stopping {
            let new = [
                "look", "scan", "check", "pack", "measure", "send", "grow", "sweep", "relieve",
            ]
            .contains(&name);
            assert!(!new, "{name} is begun after the stop");
        }
        let Some(id) = id.cloned() else { return };
        for job in self.jobs.values() {
            let (other, of) = describe(&job.effect);
            assert!(
                of != Some(&id) || may_meet(name, other),
                "{id}: {name} beside {other}"
            );
        }
        self.step_makes_sense(effect, name, &id);
    }

    /// Whether it is sent while it is packed, and another than this.
    fn grows(&self, job: &Job, but: Option<&EpisodeId>) -> bool {
        let (name, id) = describe(&job.effect);
        let is_packed = |of: Option<&EpisodeId>| {
            let of_it = |job: &Job| describe(&job.effect) == ("pack", of);
            !self.jobs.values().any(of_it)
        };
        name == "grow" && id != but && !is_packed(id) && !job.cancelled
    }

    /// One more than the only one, where that has been at it for a while, or is known to be large.
    fn is_slow(&self, job: &Job) -> bool {
        let is_large = || {
            describe(&job.effect)
                .1
                .is_some_and(|id| self.seen.large.contains(id))
        };
        self.now >= job.began + Duration::from_secs(30)
            || (self.now >= job.began + Duration::from_secs(1)
                && (is_large() || describe(&job.effect).0 == "grow"))
    }

    fn all_sends_are_slow(&self) -> bool {
        self.jobs
            .values()
            .filter(|job| describe(&job.effect).0 == "send" || self.grows(job, None))
            .all(|job| self.is_slow(job))
    }

    fn beside_a_long_one(&self, names: &[&str], slots: usize) -> usize {
        let mut running = self.jobs.values().filter(|job| {
            let name = describe(&job.effect).0;
            names.contains(&name) && (name != "grow" || self.grows(job, None))
        });
        let takes_long = |job: &Job| {
            let (name, id) = describe(&job.effect);
            let known = name == "grow" || id.is_some_and(|id| self.seen.large.contains(id));
            known || self.now >= job.began + Duration::from_secs(1)
        };
        usize::from(slots == 1 && running.all(takes_long))
    }

    fn step_makes_sense(&mut self, effect: &Effect, name: &'static str, id: &EpisodeId) {
        let window = self.now.as_secs() / WINDOW.as_secs();
        if std::mem::replace(&mut self.seen.window, window) != window {
            self.seen.repeats.clear();
        }
        if ["pack", "measure", "send"].contains(&name) {
            let repeats = self.seen.repeats.entry((id.clone(), name)).or_default();
            *repeats += 1;
            assert!(*repeats < MAX_REPEATS, "{id}: {name} again and again");
        }
        if let Effect::Persist { conflict: None, .. } = effect {
            let measured = self.scratch.get(id).is_some_and(|archive| archive.measured);
            assert!(!measured, "{id}: kept, and there is nothing of it");
        }
        if name == "pack" || name == "measure" {
            self.seen.spoiled.remove(id);
            let fits = self.disk.outbox.get(id).is_some_and(|archive| {
                let as_now = self.disk.episodes.get(id).map(Dir::fingerprint);
                !archive.damaged && archive.sidecar.is_some() && as_now == Some(archive.fingerprint)
            });
            let first = self.seen.begun.insert(id.clone());
            assert!(!(first && fits), "{id}: packed though the outbox has it");
        } else if name == "check" {
            self.seen.begun.insert(id.clone());
        }
        if name == "grow" {
            self.seen.growing.insert(id.clone());
        } else {
            self.seen.growing.remove(id);
        }
        if let Effect::Send { packed, .. } = effect {
            assert!(
                !self.seen.spoiled.contains(id),
                "{id}: sent from an archive that could not be kept"
            );
            let conflict = self.seen.conflicts.get(id) == Some(&packed.fingerprint);
            assert!(
                !conflict,
                "{id}: sent again after a conflict, and nothing was changed"
            );
            self.seen.sent.insert(id.clone(), packed.fingerprint);
        }
    }

    /// Promise 1, for `shipped/`.
    pub(super) fn retirement_has_proof(&self, id: &EpisodeId, dir: &Dir, packed: &Packed) {
        assert_eq!(
            self.receiver.held(id),
            Some(dir.content),
            "{id} is retired, and the receiver has it not"
        );
        assert_eq!(
            facts(dir.content),
            packed.facts,
            "{id} is retired, and something else was packed"
        );
        let healthy = !self.plan.poison.contains_key(id);
        if let (Profile::Calm, true, Some(sealed_at)) =
            (self.plan.profile, healthy, self.sealed_at.get(id))
        {
            let took = self.now - *sealed_at;
            assert!(took < CALM_LIMIT, "{id} took {took:?}");
        }
    }

    /// Promises 1 and 5, for `quarantine/`.
    pub(super) fn quarantine_is_just(&self, id: &EpisodeId, reason: &Reason) {
        let just = match (reason.status, self.plan.poison.get(id)) {
            (Some(status), _) => self.rejected.contains(&(id.clone(), status)),
            (None, Some(Poison::WrongManifest)) => true,
            (None, Some(Poison::UnfinishedManifest)) => {
                let since = self.seen.unfinished_since.get(id);
                since.is_some_and(|since| self.now - *since >= Duration::from_secs(60))
            }
            (None, _) => false,
        };
        assert!(
            just,
            "{id} is quarantined for no fault of its own: {reason:?}"
        );
    }

    /// Sealed episodes that have nothing to wait for.
    pub(super) fn left_behind(&self) -> Vec<&EpisodeId> {
        let unfinished = self.disk.episodes.iter().filter(|(id, dir)| {
            let conflict = self
                .receiver
                .held(id)
                .is_some_and(|held| held != dir.content);
            dir.marker.is_some()
                && match self.plan.poison.get(id) {
                    Some(Poison::Rejected(_)) => !conflict,
                    Some(Poison::WrongManifest) => true,
                    // A single pass does not wait until it is sure.
                    Some(Poison::UnfinishedManifest) => self.plan.profile != Profile::Once,
                    Some(
                        Poison::Taken
                        | Poison::Met(_)
                        | Poison::Corrupted
                        | Poison::Unreadable
                        | Poison::Immovable
                        | Poison::NeverStill,
                    ) => false,
                    Some(Poison::TooLarge) | None => !conflict,
                }
        });
        unfinished.map(|(id, _)| id).collect()
    }

    /// No archive without its episode, and nothing in the machine's memory but what is there. The
    /// next scan sees to it.
    pub(super) fn nothing_is_left_over(&self) -> bool {
        let known = self.machine.as_ref().map(|machine| machine.load().0);
        let mut archives = self.disk.outbox.keys().chain(self.scratch.keys());
        known == Some(self.disk.episodes.len())
            && archives.all(|id| self.disk.episodes.contains_key(id))
    }

    /// The tally of one pass from cron.
    pub(super) fn one_pass_adds_up(&self, tally: &Tally) {
        let Tally {
            scanned,
            shipped,
            transient_failures,
            unseen,
            conflicts,
            fatal,
            held,
            last_copies,
        } = *tally;
        assert_eq!(
            scanned + unseen + last_copies,
            shipped + transient_failures + conflicts + fatal + held,
            "{tally:?}"
        );
    }

    /// At the end, with nothing under way.
    pub(super) fn everything_is_in_its_place(&self) {
        if self.plan.profile == Profile::Once {
            // A pass through a destination that works ships all it can, beside one that it cannot.
            if self.plan.poison.len() <= 1 {
                assert_eq!(
                    self.left_behind(),
                    Vec::<&EpisodeId>::new(),
                    "left behind by a pass"
                );
            }
            return;
        }
        assert!(self.nothing_is_left_over());
        // Where events are lost without a word, the machine cannot know that a watch went with its
        // directory.
        if self.plan.lost_hints > 0 {
            return;
        }
        for (id, dir) in self
            .disk
            .episodes
            .iter()
            .filter(|(_, dir)| dir.marker.is_none())
        {
            assert_eq!(
                self.watched.get(id),
                Some(&dir.inode),
                "{id} is open, and not watched"
            );
        }
    }
}

fn may_meet(one: &str, other: &str) -> bool {
    (one == "look") != (other == "look")
        || matches!((one, other), ("send", "keep") | ("keep", "send"))
        // It reads what the packing writes, or has written.
        || one == "grow" || other == "grow"
}

fn describe(effect: &Effect) -> (&'static str, Option<&EpisodeId>) {
    match effect {
        Effect::Look(id) => ("look", Some(id)),
        Effect::Unwatch(_) => ("unwatch", None),
        Effect::Discard(_) => ("discard", None),
        Effect::Scan => ("scan", None),
        Effect::Check { id, .. } => ("check", Some(id)),
        Effect::Pack { id, .. } => ("pack", Some(id)),
        Effect::ComputeDigest { id, .. } => ("measure", Some(id)),
        Effect::Persist { id, .. } => ("keep", Some(id)),
        Effect::Send { id, .. } => ("send", Some(id)),
        Effect::SendGrowing(id) => ("grow", Some(id)),
        Effect::Cancel(_) => ("cancel", None),
        Effect::Retire { id, .. } => ("retire", Some(id)),
        Effect::Quarantine { id, .. } => ("quarantine", Some(id)),
        Effect::Finish(id) => ("finish", Some(id)),
        Effect::Orphan { id, .. } => ("orphan", Some(id)),
        Effect::Sweep => ("sweep", None),
        Effect::ReadClock => ("clock", None),
        Effect::Pace(_) => ("pace", None),
        Effect::FreeSpace { .. } => ("relieve", None),
        Effect::LookBack(_) => ("look back", None),
        Effect::Log(_) => ("tell", None),
    }
}
