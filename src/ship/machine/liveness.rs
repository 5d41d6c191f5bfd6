//! Who has shown progress, and whether the heart may beat.
//!
//! ```text
//!  each part at work ──a count that grows while it moves──▶ look
//!      ──▶ has each grown within its allowance?
//!            │ yes: one beat (WATCHDOG=1)
//!            └ no: none; the service manager starts us again
//! ```
//!
//! A part is there as long as its work is under way. What rests, is held or waits for its turn
//! waits for a reason that the machine can state, and is no part. That the loop turns shows in the
//! question being asked at all.
//!
//! What counts is movement, never a finished pass: a beat for each finished pass makes a pass that
//! is longer than the watchdog's patience a restart, and the next one too, for ever.
//!
//! Allowances are counted in time in which the loop looked. Where the whole process stood still (a
//! suspended virtual machine, SIGSTOP), no part could have moved, and none is blamed.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{Effect, Event, limits::LOOK_EVERY};
use crate::model::episode::EpisodeId;

/// So many looks within the watchdog's patience, so that two beats may be late and the third is in
/// time; and between two looks at most so many ticks count. Promised in docs/operations.md: "Three
/// times within `WatchdogSec=`".
const TICKS_IN_PATIENCE: u32 = 3;

/// The shortest time between two looks, whatever the watchdog asks for. Fixed by the timers of
/// tokio, which are no finer.
const SHORTEST_TICK: Duration = Duration::from_millis(1);

/// What a part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is the effect of that name, but for those that say what they are"
)]
pub enum Work {
    /// The watching thread, which answers when it is asked for a sign.
    Watch,
    Scan,
    Check,
    Pack,
    Keep,
    Discard,
    Send,
    SendGrowing,
    Retire,
    Quarantine,
    /// Removing what a move has left where the episode stood.
    Finish,
    Orphan,
    Sweep,
    Relieve,
    LookBack,
    /// Says in the lock file that we are still here.
    Lock,
    /// Tries whether episodes can be moved.
    Trial,
    /// Reads the configuration again.
    Reload,
}

/// A piece of work, and for which episode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    /// What.
    pub work: Work,
    /// For which; `None` where it is for no single one.
    pub id: Option<EpisodeId>,
}

/// How long a part may show nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowances {
    /// For what waits for a disk.
    pub disk: Duration,
    /// For what waits for the other end of the wire: the longest of the attempt's own time-outs,
    /// each of which ends the wait by itself, and on top of it what the disk may take.
    pub send: Duration,
}

/// A part that has shown nothing for longer than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// Which.
    pub part: Task,
    /// For how long.
    pub since: Duration,
}

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PulseReading {
    /// Every part that has stalled, the longest first. The heart beats where there is none.
    pub stalled: Vec<Stalled>,
    /// Who of them had not when this was last asked.
    pub newly: Vec<Stalled>,
    /// Who had, and has moved, or ended, since.
    pub recovered: Vec<Task>,
}

/// What was seen of each part so far.
#[derive(Debug)]
pub struct Pulse {
    allowances: Allowances,
    tick: Duration,
    parts: BTreeMap<Task, TaskProgress>,
    last_look: Option<Duration>,
    /// Time in which the loop looked.
    watched: Duration,
}

#[derive(Debug, Clone, Copy)]
struct TaskProgress {
    count: u64,
    /// In watched time.
    at: Duration,
    told: bool,
}

/// How long between two looks: a third of the watchdog's patience. A patience of nothing is no
/// watchdog. Without one, what `status` says is no older than the longest.
#[must_use]
pub fn tick(watchdog: Option<Duration>) -> Duration {
    match watchdog {
        Some(patience) if !patience.is_zero() => {
            (patience / TICKS_IN_PATIENCE).clamp(SHORTEST_TICK, LOOK_EVERY)
        }
        Some(_) | None => LOOK_EVERY,
    }
}

impl Allowances {
    /// With what one call to a disk may take, and the longest wait that a delivery attempt bounds
    /// by itself.
    #[must_use]
    pub fn new(disk: Duration, longest_wait: Duration) -> Self {
        Self {
            disk,
            send: longest_wait + disk,
        }
    }

    fn of(&self, work: Work) -> Duration {
        match work {
            Work::Send | Work::SendGrowing => self.send,
            Work::Watch
            | Work::Scan
            | Work::Check
            | Work::Pack
            | Work::Keep
            | Work::Discard
            | Work::Retire
            | Work::Quarantine
            | Work::Finish
            | Work::Orphan
            | Work::Sweep
            | Work::Relieve
            | Work::LookBack
            | Work::Lock
            | Work::Trial
            | Work::Reload => self.disk,
        }
    }
}

impl PulseReading {
    /// Whether the heart may beat.
    #[must_use]
    pub fn beats(&self) -> bool {
        self.stalled.is_empty()
    }
}

impl Pulse {
    /// A pulse that is felt every `tick`.
    #[must_use]
    pub fn new(allowances: Allowances, tick: Duration) -> Self {
        Self {
            allowances,
            tick,
            parts: BTreeMap::new(),
            last_look: None,
            watched: Duration::ZERO,
        }
    }

    /// What the time-outs are from now on.
    pub fn allow(&mut self, allowances: Allowances) {
        self.allowances = allowances;
    }

    /// Looks at every part that is under way now, with its count. `now` is the machine's time.
    pub fn look(
        &mut self,
        under_way: impl IntoIterator<Item = (Task, u64)>,
        now: Duration,
    ) -> PulseReading {
        let since_last = now.saturating_sub(self.last_look.replace(now).unwrap_or(now));
        self.watched += since_last.min(self.tick * TICKS_IN_PATIENCE);
        let before = std::mem::take(&mut self.parts);
        let mut look = PulseReading::default();
        for (part, count) in under_way {
            let last = before.get(&part).filter(|last| last.count == count);
            let mut shown = *last.unwrap_or(&TaskProgress {
                count,
                at: self.watched,
                told: false,
            });
            let since = self.watched - shown.at;
            if since > self.allowances.of(part.work) {
                let stalled = Stalled {
                    part: part.clone(),
                    since,
                };
                if !std::mem::replace(&mut shown.told, true) {
                    look.newly.push(stalled.clone());
                }
                look.stalled.push(stalled);
            }
            self.parts.insert(part, shown);
        }
        let told_before = before.into_iter().filter(|(_, shown)| shown.told);
        look.recovered = told_before
            .map(|(part, _)| part)
            .filter(|part| !self.parts.get(part).is_some_and(|shown| shown.told))
            .collect();
        look.stalled
            .sort_by_key(|stalled| std::cmp::Reverse(stalled.since));
        look
    }
}

impl Task {
    /// What an effect sets going; `None` for what is done on the spot, or by the watching thread.
    #[must_use]
    pub fn begun_by(effect: &Effect) -> Option<Self> {
        let (work, id) = match effect {
            Effect::Scan => (Work::Scan, None),
            Effect::Check { id, .. } => (Work::Check, Some(id)),
            Effect::Pack { id, .. } | Effect::ComputeDigest { id, .. } => (Work::Pack, Some(id)),
            Effect::Persist { id, .. } => (Work::Keep, Some(id)),
            Effect::Discard(id) => (Work::Discard, Some(id)),
            Effect::Send { id, .. } => (Work::Send, Some(id)),
            Effect::SendGrowing(id) => (Work::SendGrowing, Some(id)),
            Effect::Retire { id, .. } => (Work::Retire, Some(id)),
            Effect::Quarantine { id, .. } => (Work::Quarantine, Some(id)),
            Effect::Finish(id) => (Work::Finish, Some(id)),
            Effect::Orphan { id, .. } => (Work::Orphan, Some(id)),
            Effect::Sweep => (Work::Sweep, None),
            Effect::FreeSpace { .. } => (Work::Relieve, None),
            Effect::LookBack(_) => (Work::LookBack, None),
            Effect::Look(_)
            | Effect::Unwatch(_)
            | Effect::Cancel(_)
            | Effect::ReadClock
            | Effect::Pace(_)
            | Effect::Log(_) => return None,
        };
        Some(Self {
            work,
            id: id.cloned(),
        })
    }

    /// What comes to its end with an event.
    #[must_use]
    pub fn ended_by(event: &Event) -> Option<Self> {
        let (work, id) = match event {
            Event::Scanned(_) => (Work::Scan, None),
            Event::Checked(id, _) => (Work::Check, Some(id)),
            Event::Packed(id, _) => (Work::Pack, Some(id)),
            Event::Persisted(id, _) => (Work::Keep, Some(id)),
            Event::Discarded(id) => (Work::Discard, Some(id)),
            Event::Attempted(id, _) => (Work::Send, Some(id)),
            Event::GrowingSent(id, _) => (Work::SendGrowing, Some(id)),
            Event::Retired(id, _) => (Work::Retire, Some(id)),
            Event::Quarantined(id, _) => (Work::Quarantine, Some(id)),
            Event::Finished(id, _) => (Work::Finish, Some(id)),
            Event::OrphanSettled(id, _) => (Work::Orphan, Some(id)),
            Event::Swept(_) => (Work::Sweep, None),
            Event::SpaceFreed(_) => (Work::Relieve, None),
            Event::LookedBack(_) => (Work::LookBack, None),
            Event::Hinted(_)
            | Event::HintsLost
            | Event::PutAside(_)
            | Event::Growing(_)
            | Event::WholeSent(_)
            | Event::Looked(..)
            | Event::Watching(_)
            | Event::WatchesLost
            | Event::Configured { .. }
            | Event::ClockRead(_)
            | Event::Deadline
            | Event::Stop => return None,
        };
        Some(Self {
            work,
            id: id.cloned(),
        })
    }

    /// Work that is for no single episode.
    #[must_use]
    pub fn of(work: Work) -> Self {
        Self { work, id: None }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.work {
            Work::Watch => "the watching thread",
            Work::Scan => "the look through episodes/ and outbox/",
            Work::Check => "the check of the archive of",
            Work::Pack => "the packing of",
            Work::Keep => "the flush of the archive of",
            Work::Discard => "the removal of what was packed of",
            Work::Send => "the upload of",
            Work::SendGrowing => "the upload, beside its packing, of",
            Work::Retire => "the move to shipped/ of",
            Work::Quarantine => "the move to quarantine/ of",
            Work::Finish => "the removal of what is left in episodes/ of",
            Work::Orphan => "the putting away of the archive of",
            Work::Sweep => "the clean-up of quarantine/ and shipped/",
            Work::Relieve => "the making of room in shipped/",
            Work::LookBack => "the second look at what was shipped",
            Work::Lock => "the lock file's refreshing",
            Work::Trial => "the trial of the moves between the folders",
            Work::Reload => "the reading of the configuration",
        };
        match &self.id {
            Some(id) => write!(f, "{what} {id}"),
            None => f.write_str(what),
        }
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has not moved for {} s",
            self.part,
            self.since.as_secs()
        )
    }
}

#[cfg(test)]
mod tests;
