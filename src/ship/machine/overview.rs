//! What the machine knows, for the daemon's report: how many of each kind, and the episodes that
//! are worth a look.

use std::time::Duration;

use super::{
    Notice,
    queue::Machine,
    state::{AfterRest, Episode, Rest, State},
    verdict::Verdict,
    window::Pace,
};
use crate::model::{
    episode::EpisodeId,
    snapshot::{Attempts, Counts, EpisodeState},
};

/// Everything, at one moment.
#[derive(Debug)]
pub struct Overview {
    /// How many of each kind.
    pub counts: Counts,
    /// Those that are worth a look first.
    pub episodes: Vec<Glimpse>,
    /// How many more there are.
    pub left_out: u64,
    /// Those that a receiver holds, and that could not be moved to `shipped/`.
    pub stuck: Option<Stuck>,
    /// Those that are rejected, and could not be moved to `quarantine/`.
    pub rejected: Option<Stuck>,
    /// Those that were copied away, and of which something is left that could not be removed.
    pub left_behind: Option<Stuck>,
    /// Those that are not packed, since an archive that nothing else has the bytes of lies under
    /// their names in the outbox, and cannot be put aside.
    pub in_the_way: Option<Stuck>,
    /// When the oldest marker was made of an episode that no receiver holds, nanoseconds after
    /// 1970.
    pub oldest_made_ns: Option<i64>,
    /// How long packing pauses still, and why.
    pub packing_paused: Option<(Duration, String)>,
    /// Watches cannot be had.
    pub blind: bool,
    /// How long between two looks everywhere, as things stand.
    pub reconcile_interval: Duration,
    /// Whether any episode waits for the destination, or will once it is packed.
    pub has_to_send: bool,
    /// The first whose stamps moved again and again though what it packs to did not.
    pub stamps_move: Option<EpisodeId>,
    /// Delivery attempts so far.
    pub attempts: Attempts,
    /// How fast uploads go now; `None` until the clock was first read.
    pub pace: Option<Pace>,
    /// Behind an outage, or a destination with too much to do: how many go at once, and when the
    /// next one may; `None` at full speed.
    pub slowed: Option<(usize, Duration)>,
    /// Uploads that hang, for all that is known, where what is ready waits behind them.
    pub unanswered: usize,
    /// How long the destination was held, this hold among it.
    pub held: Duration,
}

/// Episodes that a receiver holds, or has judged, and that could not be moved when that was last
/// tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// How many.
    pub count: u64,
    /// One of them.
    pub first: EpisodeId,
    /// Why it could not.
    pub why: String,
}

impl Stuck {
    fn count(seen: &mut Option<Self>, id: &EpisodeId, why: &str) {
        let first = || Self {
            count: 0,
            first: id.clone(),
            why: why.to_owned(),
        };
        seen.get_or_insert_with(first).count += 1;
    }
}

/// One episode, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse {
    /// Which.
    pub id: EpisodeId,
    /// Where it is on its way.
    pub state: EpisodeState,
    /// When its marker was made, nanoseconds after 1970.
    pub made_ns: Option<i64>,
    /// Why it does not go on.
    pub why: Option<String>,
    /// When it is tried again, from now.
    pub again_in: Option<Duration>,
    /// The archive's length, bytes.
    pub size_bytes: Option<u64>,
}

/// What is counted beside the tally of one pass.
#[derive(Debug, Default)]
pub(super) struct OverviewCounts {
    pub(super) attempts: Attempts,
    /// All holds that have ended, together.
    pub(super) held: Duration,
    /// Why packing paused last.
    pub(super) paused: String,
}

impl OverviewCounts {
    pub(super) fn attempted(&mut self, verdict: &Verdict) {
        let Attempts {
            delivered,
            conflict,
            corrupted,
            fatal,
            refused,
            hold,
            transient,
            unsent,
        } = &mut self.attempts;
        let count = match verdict {
            Verdict::Delivered(_) => delivered,
            Verdict::Conflict(_) => conflict,
            Verdict::Corrupted(_) => corrupted,
            Verdict::Fatal(_) => fatal,
            // What is acted on is fatal by now.
            Verdict::Rejected(..) | Verdict::Refused(_) => refused,
            Verdict::Hold(_) => hold,
            Verdict::Transient { .. } => transient,
            Verdict::Unsent(_) => unsent,
        };
        *count += 1;
    }
}

/// An episode, and what it is ordered by.
type Ranked<'a> = (EpisodeState, i64, &'a EpisodeId, &'a Episode);

impl Machine {
    /// How it stands, with up to `most` episodes. Costs a walk over all of them.
    #[must_use]
    pub fn overview(&self, most: usize, now: Duration) -> Overview {
        let mut counts = Counts::default();
        let mut oldest_made_ns = None;
        let (mut stuck, mut rejected, mut left_behind) = (None, None, None);
        let (mut in_the_way, mut has_to_send) = (None, false);
        let mut ranked: Vec<_> = self
            .episodes
            .iter()
            .map(|(id, episode)| {
                let state = shown_state(&episode.state);
                *count_of(&mut counts, state) += 1;
                let made_ns = episode.stamp.map(|stamp| stamp.made_ns);
                if let (Some(leaves), 1.., Some(why)) =
                    (leaves(&episode.state), episode.failures.local, &episode.why)
                {
                    let of_kind = match leaves {
                        Leaves::Delivered => &mut stuck,
                        Leaves::Rejected => &mut rejected,
                        Leaves::Copied => &mut left_behind,
                    };
                    Stuck::count(of_kind, id, why);
                }
                if let (true, State::Resting(AfterRest::Pack, Rest::Local), Some(why)) =
                    (episode.archived, &episode.state, &episode.why)
                {
                    Stuck::count(&mut in_the_way, id, why);
                }
                has_to_send |= waits_for_the_destination(&episode.state);
                if leaves(&episode.state).is_none() && state != EpisodeState::Open {
                    oldest_made_ns = [oldest_made_ns, made_ns].into_iter().flatten().min();
                }
                (state, episode.sealed_ns(), id, &**episode)
            })
            .collect();
        let left_out = ranked.len().saturating_sub(most);
        let by_rank = |a: &Ranked<'_>, b: &Ranked<'_>| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2));
        if left_out > 0 {
            ranked.select_nth_unstable_by(most, by_rank);
            ranked.truncate(most);
        }
        ranked.sort_unstable_by(by_rank);
        let glimpse = |(state, _, id, episode): Ranked<'_>| glimpse(id, state, episode, now);
        let held_now = self
            .destination
            .hold()
            .map_or(Duration::ZERO, |hold| now.saturating_sub(hold.since));
        let paused = self.packing_paused_until.filter(|until| *until > now);
        Overview {
            counts,
            episodes: ranked.into_iter().map(glimpse).collect(),
            left_out: left_out as u64,
            stamps_move: self.stamps_move.clone(),
            stuck,
            rejected,
            left_behind,
            in_the_way,
            has_to_send,
            oldest_made_ns,
            packing_paused: paused
                .map(|until| (until.saturating_sub(now), self.ledger.paused.clone())),
            blind: self.blind,
            reconcile_interval: self.reconcile_interval(),
            attempts: self.ledger.attempts,
            pace: self.gate.pace(),
            slowed: self.ramp.shown(self.settings.concurrency, now),
            unanswered: if self.to_send.is_empty() {
                0
            } else {
                self.sending.hanging(now).count()
            },
            held: self.ledger.held + held_now,
        }
    }

    /// What a person is told of an episode is what the next one who asks is told, too.
    pub(super) fn remember_why(&mut self, notice: &Notice) {
        let (id, why) = match notice {
            Notice::Retrying(id, refusal, _)
            | Notice::RefusedAlone(id, refusal, _)
            | Notice::Conflict(id, refusal) => (id, &refusal.detail),
            Notice::StillChanging(id, why, _)
            | Notice::OpenFile(id, why, _)
            | Notice::OpenFileAccepted(id, why, _)
            | Notice::OpenFileBeforeMove { id, what: why, .. }
            | Notice::LeftBehind { id, what: why, .. }
            | Notice::Stuck(id, why, _) => (id, why),
            Notice::PackingPaused(why, _) | Notice::OutboxFull(why, _) => {
                self.ledger.paused.clone_from(why);
                return;
            }
            Notice::Sealed(..)
            | Notice::OddMarker(..)
            | Notice::Packed(..)
            | Notice::Delivered(..)
            | Notice::Retired(..)
            | Notice::Quarantined(..)
            | Notice::Held(_)
            | Notice::StillHeld(..)
            | Notice::Cleared(_)
            | Notice::NoRoom(..)
            | Notice::PackedAgain(..)
            | Notice::DeliveredAndGone(_)
            | Notice::StampsMove(_)
            | Notice::Vanished(_)
            | Notice::Pace(_)
            | Notice::ClockDoubted(_) => return,
        };
        if let Some(episode) = self.episodes.get_mut(id) {
            episode.why = Some(why.as_str().into());
        }
    }
}

/// What a fault of our own keeps here waits for that first.
fn waits_for_the_destination(state: &State) -> bool {
    match state {
        State::Sealed
        | State::Checking
        | State::Packing
        | State::Ready(_)
        | State::Sending(_)
        | State::Resting(AfterRest::Send(_), _)
        | State::Resting(AfterRest::Pack, Rest::Weather | Rest::Refused) => true,
        State::Open
        | State::Resting(AfterRest::Pack, Rest::Local)
        | State::Resting(AfterRest::Retire(..) | AfterRest::Quarantine(_) | AfterRest::Finish, _)
        | State::Parked(_)
        | State::Retiring(..)
        | State::Quarantining(_)
        | State::Finishing => false,
    }
}

fn shown_state(state: &State) -> EpisodeState {
    match state {
        State::Open => EpisodeState::Open,
        State::Sealed => EpisodeState::Sealed,
        State::Checking | State::Packing => EpisodeState::Packing,
        State::Ready(_) => EpisodeState::Ready,
        State::Sending(_) => EpisodeState::Uploading,
        State::Resting(_, Rest::Weather | Rest::Local) => EpisodeState::Waiting,
        State::Resting(_, Rest::Refused) => EpisodeState::Refused,
        State::Parked(_) => EpisodeState::Conflict,
        State::Retiring(..) | State::Quarantining(_) | State::Finishing => EpisodeState::Moving,
    }
}

fn count_of(counts: &mut Counts, state: EpisodeState) -> &mut u64 {
    match state {
        EpisodeState::Open | EpisodeState::Other => &mut counts.open,
        EpisodeState::Sealed => &mut counts.sealed,
        EpisodeState::Packing => &mut counts.packing,
        EpisodeState::Ready => &mut counts.ready,
        EpisodeState::Uploading => &mut counts.uploading,
        EpisodeState::Waiting => &mut counts.waiting,
        EpisodeState::Refused => &mut counts.refused,
        EpisodeState::Conflict => &mut counts.conflict,
        EpisodeState::Moving => &mut counts.moving,
    }
}

/// A receiver holds it, or has judged it: what is left to do is ours.
enum Leaves {
    Delivered,
    Rejected,
    /// Or either of them, and it is copied away.
    Copied,
}

fn leaves(state: &State) -> Option<Leaves> {
    match state {
        State::Retiring(..) | State::Resting(AfterRest::Retire(..), _) => Some(Leaves::Delivered),
        State::Quarantining(_) | State::Resting(AfterRest::Quarantine(_), _) => {
            Some(Leaves::Rejected)
        }
        State::Finishing | State::Resting(AfterRest::Finish, _) => Some(Leaves::Copied),
        State::Open
        | State::Sealed
        | State::Checking
        | State::Packing
        | State::Ready(_)
        | State::Sending(_)
        | State::Resting(AfterRest::Pack | AfterRest::Send(_), _)
        | State::Parked(_) => None,
    }
}

fn glimpse(id: &EpisodeId, state: EpisodeState, episode: &Episode, now: Duration) -> Glimpse {
    let said = || episode.why.as_deref().map(str::to_owned);
    let again_in = || episode.wake.map(|at| at.saturating_sub(now));
    let (why, again_in) = match &episode.state {
        State::Open if episode.odd_marker.is_some() => (
            episode
                .odd_marker
                .map(|what| format!("its done.marker is {what}, and seals nothing")),
            None,
        ),
        State::Open if episode.failures.local > 0 => (said(), None),
        State::Resting(..) => (said(), again_in()),
        // It is compared with what was packed now and then; it is sent again when it has changed.
        State::Parked(_) => (said(), None),
        State::Open
        | State::Sealed
        | State::Checking
        | State::Packing
        | State::Ready(_)
        | State::Sending(_)
        | State::Retiring(..)
        | State::Quarantining(_)
        | State::Finishing => (None, None),
    };
    let size_bytes = match &episode.state {
        State::Ready(packed)
        | State::Sending(packed)
        | State::Parked(packed)
        | State::Retiring(packed, _)
        | State::Resting(AfterRest::Send(packed) | AfterRest::Retire(packed, _), _) => {
            Some(packed.facts.size_bytes)
        }
        State::Open
        | State::Sealed
        | State::Checking
        | State::Packing
        | State::Resting(AfterRest::Pack | AfterRest::Quarantine(_) | AfterRest::Finish, _)
        | State::Quarantining(_)
        | State::Finishing => None,
    };
    let made_ns = episode
        .stamp
        .filter(|_| state != EpisodeState::Open)
        .map(|stamp| stamp.made_ns);
    Glimpse {
        id: id.clone(),
        state,
        made_ns,
        why,
        again_in,
        size_bytes,
    }
}
