//! What every decision works with: the settings, the time, the dice, and where its effects go.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    Effect, Notice, Settings, Tally,
    destination::backoff::{Backoff, Jitter},
    limits::{DISK_STEPS, FEW, MANY, SMALL_BYTES},
};
use crate::model::episode::EpisodeId;

/// A time that does not come.
pub(super) const NEVER: Duration = Duration::MAX;

/// None waits since zero: that means that it was not tried. Fixed by the type, as its next value.
pub(super) const AT_ONCE: Duration = Duration::from_nanos(1);
/// Fixed by the meaning of seconds after 1970: later than any clock says.
const BEHIND_EVERY_STAMP: Duration = Duration::from_secs(1 << 60);

/// So many moves may wait for a disk before no further upload is begun: what is acknowledged and
/// not moved yet is sent again after a kill, and with a disk that is slower than the receiver that
/// would be most of a backlog. Of large ones fewer, from [`MOST_BYTES_BEHIND`] on.
const MOST_MOVES_BEHIND: usize = MANY as usize;
const MOST_LARGE_BEHIND: usize = (MANY / FEW) as usize;
const MOST_BYTES_BEHIND: u64 = MANY as u64 * SMALL_BYTES;

/// The settings, the time, the dice, and where effects go.
#[derive(Debug)]
pub(crate) struct Context {
    settings: Settings,
    /// When the machine last heard of anything.
    now: Duration,
    jitter: Jitter,
    is_stopping: bool,
    steps: Steps,
    tally: Tally,
    /// The first whose stamps moved again and again though what it packs to did not.
    stamps_move: Option<EpisodeId>,
}

/// What is to be done, and what is under way.
#[derive(Debug, Default)]
struct Steps {
    /// Effects that nothing holds back.
    ready: VecDeque<Effect>,
    /// Steps that wait for a place on the disk.
    disk: VecDeque<Effect>,
    on_disk: usize,
    looks: usize,
    /// Names in the outbox of which it is found out what they are the last copy of.
    orphans: BTreeSet<EpisodeId>,
}

impl Context {
    pub(super) fn new(settings: Settings, now: Duration) -> Self {
        Self {
            jitter: Jitter::new(settings.seed),
            settings,
            now,
            is_stopping: false,
            steps: Steps::default(),
            tally: Tally::default(),
            stamps_move: None,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// One pass stays one pass, and the stream of random waits goes on.
    pub(super) fn configure(&mut self, settings: Settings) {
        let (once, seed) = (self.settings.once, self.settings.seed);
        self.settings = Settings {
            once,
            seed,
            ..settings
        };
    }

    pub(super) fn is_once(&self) -> bool {
        self.settings.once
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn advance(&mut self, now: Duration) {
        self.now = now;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn jitter(&mut self) -> &mut Jitter {
        &mut self.jitter
    }

    /// How long to wait after so many failures in a row.
    pub(super) fn wait(&mut self, schedule: Backoff, failures: u32) -> Duration {
        self.jitter.wait(schedule, failures)
    }

    /// Since when an episode waits that has just had its turn. In one pass those of the passes
    /// before come first.
    pub(super) fn end_of_turn(&self) -> Duration {
        let base = if self.settings.once {
            BEHIND_EVERY_STAMP
        } else {
            AT_ONCE
        };
        base + self.now
    }

    /// Wants this done, now.
    pub(super) fn perform(&mut self, effect: Effect) {
        self.steps.looks += usize::from(matches!(effect, Effect::Look(_)));
        self.steps.ready.push_back(effect);
    }

    /// Wants this done when the disk has a place for it.
    pub(super) fn perform_on_disk(&mut self, step: Effect) {
        self.steps.disk.push_back(step);
    }

    /// Tells the operator, and counts it.
    pub(super) fn log(&mut self, notice: Notice) {
        self.tally.count(&notice);
        self.steps.ready.push_back(Effect::Log(notice));
    }

    /// The stamps of this one move though what it packs to does not. Said of the first one alone.
    pub(super) fn log_moving_stamps(&mut self, id: &EpisodeId) {
        if self.stamps_move.is_none() {
            self.stamps_move = Some(id.clone());
            self.log(Notice::StampsMove(id.clone()));
        }
    }

    pub(super) fn stamps_move(&self) -> Option<&EpisodeId> {
        self.stamps_move.as_ref()
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// So many more could not be looked at, or are no episodes.
    pub(super) fn count_unseen(&mut self, count: u64) {
        self.tally.unseen += count;
    }

    /// One more that may be the last copy of its episode lies in `quarantine/`.
    pub(super) fn count_last_copy(&mut self) {
        self.tally.fatal += 1;
        self.tally.last_copies += 1;
    }

    /// One that was counted as sealed is not, any more.
    pub(super) fn count_unsealed(&mut self) {
        self.tally.scanned = self.tally.scanned.saturating_sub(1);
    }

    /// Finds out what the archive of an episode that is not there is the last copy of. Nothing of
    /// that name is packed meanwhile.
    pub(super) fn settle_orphan(&mut self, id: &EpisodeId, displaced: bool) {
        if self.steps.orphans.insert(id.clone()) {
            let id = id.clone();
            self.perform_on_disk(Effect::Orphan { id, displaced });
        }
    }

    pub(super) fn is_orphan(&self, id: &EpisodeId) -> bool {
        self.steps.orphans.contains(id)
    }

    pub(super) fn orphan_settled(&mut self, id: &EpisodeId) {
        self.steps.orphans.remove(id);
    }

    pub(super) fn disk_step_ended(&mut self) {
        self.steps.on_disk -= 1;
    }

    pub(super) fn look_ended(&mut self) {
        self.steps.looks -= 1;
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.steps.ready.pop_front() {
            return Some(effect);
        }
        if self.steps.on_disk < DISK_STEPS
            && let Some(step) = self.steps.disk.pop_front()
        {
            self.steps.on_disk += 1;
            return Some(step);
        }
        None
    }

    /// Whether acknowledged episodes wait for a disk that is slower than the receiver. Counted
    /// among the steps that were queued last, so that many orphans to look at hold up nothing.
    pub(super) fn moves_are_behind(&self) -> bool {
        if self.steps.disk.len() < MOST_LARGE_BEHIND {
            return false;
        }
        let (mut moves, mut bytes) = (0, 0);
        for step in self.steps.disk.iter().rev().take(2 * MOST_MOVES_BEHIND) {
            if let Effect::Retire { packed, .. } = step {
                moves += 1;
                bytes += packed.facts.size_bytes;
            }
        }
        moves >= MOST_MOVES_BEHIND || (moves >= MOST_LARGE_BEHIND && bytes >= MOST_BYTES_BEHIND)
    }

    /// Nothing is to be done, and neither a disk step nor a look is under way.
    pub(super) fn is_idle(&self) -> bool {
        let steps = &self.steps;
        steps.looks + steps.on_disk == 0 && steps.ready.is_empty() && steps.disk.is_empty()
    }

    #[cfg(test)]
    pub(super) fn looks_under_way(&self) -> usize {
        self.steps.looks
    }

    #[cfg(test)]
    pub(super) fn disk_steps_under_way(&self) -> usize {
        self.steps.on_disk
    }
}
