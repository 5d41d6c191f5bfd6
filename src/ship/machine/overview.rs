//! What the machine knows, for the daemon's report: how many of each kind, and the episodes that
//! are worth a look.

use std::time::Duration;

use super::{
    Notice,
    context::Context,
    destination::{
        Destination,
        upload_window::{LocalTime, Pace},
    },
    episode::{AfterRest, Episode, Rest, Stage},
    episodes::Episodes,
    reconcile::Reconcile,
    schedule::Schedule,
    storage::Storage,
};
use crate::model::{
    episode::EpisodeId,
    snapshot::{Attempts, Counts, EpisodeState},
};

/// What `ship --once` reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Sealed episodes found.
    pub scanned: u64,
    /// Retired to `shipped/`.
    pub shipped: u64,
    /// Left for another time: weather, our own disk, still changing; and what could not be looked
    /// at.
    pub transient_failures: u64,
    /// Of these, what could not be looked at, or is no episode though it was sealed, and so is not
    /// among those found sealed.
    #[serde(skip)]
    pub unseen: u64,
    /// For a person.
    pub conflicts: u64,
    /// Quarantined.
    pub fatal: u64,
    /// Of these, archives without an episode, of which each may be the last copy.
    #[serde(skip)]
    pub last_copies: u64,
    /// Waiting for a destination that is at fault, or refused.
    pub held: u64,
}

impl Tally {
    /// What the operator is told counts.
    pub(super) fn count(&mut self, notice: &Notice) {
        match notice {
            Notice::Sealed(..) => self.scanned += 1,
            Notice::Retired(..) | Notice::DeliveredAndGone(_) => self.shipped += 1,
            Notice::Quarantined(..) => self.fatal += 1,
            Notice::Vanished(_) => self.scanned = self.scanned.saturating_sub(1),
            _ => {}
        }
    }

    /// And what each episode that is left waits for.
    pub(super) fn with_what_is_left(mut self, episodes: &Episodes, is_held: bool) -> Self {
        for (_, episode) in episodes.iter() {
            match episode.stage() {
                // One that could not be looked at may be sealed; one with an odd marker is meant to
                // be.
                Stage::Open => {
                    let is_odd = episode.odd_marker().is_some();
                    self.unseen += u64::from(episode.local_failures() > 0 || is_odd);
                }
                Stage::Parked(_) => self.conflicts += 1,
                Stage::Resting(_, Rest::Refused) => self.held += 1,
                // What is not packed yet waits for what is.
                Stage::Sealed | Stage::Ready(_) if is_held => self.held += 1,
                Stage::Sealed
                | Stage::Checking
                | Stage::Packing
                | Stage::Ready(_)
                | Stage::Sending(_)
                | Stage::Resting(_, Rest::Transient | Rest::Local | Rest::NameTaken)
                | Stage::Retiring(..)
                | Stage::Quarantining(_)
                | Stage::Finishing
                | Stage::Left => self.transient_failures += 1,
            }
        }
        self.transient_failures += self.unseen;
        self
    }
}

/// A count of all episodes, and what holds them up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// How many of each kind.
    pub counts: Counts,
    /// Why the receiver is held, where it is.
    pub held: Option<String>,
    /// Until when nothing is sent, where the upload window is closed.
    pub outside_window_until: Option<LocalTime>,
    /// Watches cannot be had.
    pub blind: bool,
}

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
    /// Those that cannot be looked at, or are sealed and are not made ready to be sent, for a fault
    /// of this host: a folder or a file that cannot be read, or an outbox that cannot be written.
    pub kept_back: Option<Stuck>,
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

/// An episode, and what it is ordered by.
type Ranked<'a> = (EpisodeState, i64, &'a EpisodeId, &'a Episode);

/// What an overview is read off.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) cx: &'a Context,
    pub(super) episodes: &'a Episodes,
    pub(super) destination: &'a Destination,
    pub(super) schedule: &'a Schedule,
    pub(super) storage: &'a Storage,
    pub(super) reconcile: &'a Reconcile,
}

impl Sources<'_> {
    /// Counts them.
    pub(super) fn census(self) -> Census {
        let mut counts = Counts::default();
        for (_, episode) in self.episodes.iter() {
            *count_of(&mut counts, shown_state(episode.stage())) += 1;
        }
        let hold = self.destination.hold();
        Census {
            counts,
            held: hold.map(|hold| hold.why.detail.clone()),
            outside_window_until: self.destination.gate().closed_until(),
            blind: self.reconcile.is_blind(),
        }
    }

    /// How it stands, with up to `most` episodes. Costs a walk over all of them.
    pub(super) fn overview(self, most: usize, now: Duration) -> Overview {
        let mut counts = Counts::default();
        let mut oldest_made_ns = None;
        let (mut stuck, mut rejected, mut left_behind) = (None, None, None);
        let (mut in_the_way, mut kept_back, mut has_to_send) = (None, None, false);
        let mut ranked: Vec<_> = self
            .episodes
            .iter()
            .map(|(id, episode)| {
                let state = shown_state(episode.stage());
                *count_of(&mut counts, state) += 1;
                let made_ns = episode.stamp().map(|stamp| stamp.made_ns);
                let leaves = leaves(episode.stage());
                if let (Some(leaves), 1.., Some(why)) =
                    (&leaves, episode.local_failures(), episode.why())
                {
                    let of_kind = match leaves {
                        Leaves::Delivered => &mut stuck,
                        Leaves::Rejected => &mut rejected,
                        Leaves::Copied => &mut left_behind,
                    };
                    Stuck::count(of_kind, id, why);
                }
                match (episode.stage(), episode.why()) {
                    (Stage::Resting(_, Rest::NameTaken), Some(why)) => {
                        Stuck::count(&mut in_the_way, id, why);
                    }
                    (stage, Some(why)) if episode.local_failures() > 0 && is_made_ready(stage) => {
                        Stuck::count(&mut kept_back, id, why);
                    }
                    (_, _) => {}
                }
                has_to_send |= waits_for_the_destination(episode.stage());
                if leaves.is_none() && state != EpisodeState::Open {
                    oldest_made_ns = [oldest_made_ns, made_ns].into_iter().flatten().min();
                }
                (state, episode.sealed_ns(), id, episode)
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
        let Self {
            cx,
            destination,
            storage,
            ..
        } = self;
        let paused_until = storage.paused_until(now);
        let is_ready = !self.episodes.queues().to_send.is_empty();
        Overview {
            counts,
            episodes: ranked.into_iter().map(glimpse).collect(),
            left_out: left_out as u64,
            stamps_move: cx.stamps_move().cloned(),
            stuck,
            rejected,
            left_behind,
            in_the_way,
            kept_back,
            has_to_send,
            oldest_made_ns,
            packing_paused: paused_until
                .map(|until| (until.saturating_sub(now), storage.why().to_owned())),
            blind: self.reconcile.is_blind(),
            reconcile_interval: self.reconcile.interval(cx),
            attempts: destination.attempts(),
            pace: destination.gate().pace(),
            slowed: destination.slowed(cx.settings().concurrency, now),
            unanswered: if is_ready {
                self.schedule.hanging(now).count()
            } else {
                0
            },
            held: destination.held(now),
        }
    }
}

impl Notice {
    /// Why an episode does not go on, where that is what it says.
    pub(super) fn why_it_waits(&self) -> Option<&str> {
        match self {
            Self::Retrying(_, refusal, _)
            | Self::RefusedAlone(_, refusal, _)
            | Self::Conflict(_, refusal) => Some(&refusal.detail),
            Self::StillChanging(_, why, _)
            | Self::OpenFile(_, why, _)
            | Self::OpenFileAccepted(_, why, _)
            | Self::OpenFileBeforeMove { what: why, .. }
            | Self::LeftBehind { what: why, .. }
            | Self::Stuck(_, why, _) => Some(why),
            Self::PackingPaused(..)
            | Self::OutboxFull(..)
            | Self::Sealed(..)
            | Self::OddMarker(..)
            | Self::Packed(..)
            | Self::Delivered(..)
            | Self::Retired(..)
            | Self::Quarantined(..)
            | Self::Held(_)
            | Self::StillHeld(..)
            | Self::Cleared(_)
            | Self::NoRoom(..)
            | Self::PackedAgain(..)
            | Self::DeliveredAndGone(_)
            | Self::StampsMove(_)
            | Self::Vanished(_)
            | Self::Pace(_)
            | Self::ClockDoubted(_) => None,
        }
    }
}

/// What is done with it before it is sent, or would be were it not for a fault of our own.
fn is_made_ready(stage: &Stage) -> bool {
    match stage {
        Stage::Open
        | Stage::Sealed
        | Stage::Checking
        | Stage::Packing
        | Stage::Resting(AfterRest::Pack | AfterRest::Send(_), Rest::Local) => true,
        Stage::Ready(_)
        | Stage::Sending(_)
        | Stage::Resting(..)
        | Stage::Parked(_)
        | Stage::Retiring(..)
        | Stage::Quarantining(_)
        | Stage::Finishing
        | Stage::Left => false,
    }
}

/// What a fault of our own keeps here waits for that first.
fn waits_for_the_destination(stage: &Stage) -> bool {
    match stage {
        Stage::Sealed
        | Stage::Checking
        | Stage::Packing
        | Stage::Ready(_)
        | Stage::Sending(_)
        | Stage::Resting(AfterRest::Send(_), _)
        | Stage::Resting(AfterRest::Pack, Rest::Transient | Rest::Refused) => true,
        Stage::Open
        | Stage::Resting(AfterRest::Pack, Rest::Local | Rest::NameTaken)
        | Stage::Resting(AfterRest::Retire(..) | AfterRest::Quarantine(_) | AfterRest::Finish, _)
        | Stage::Parked(_)
        | Stage::Retiring(..)
        | Stage::Quarantining(_)
        | Stage::Finishing
        | Stage::Left => false,
    }
}

fn shown_state(stage: &Stage) -> EpisodeState {
    match stage {
        Stage::Open => EpisodeState::Open,
        Stage::Sealed => EpisodeState::Sealed,
        Stage::Checking | Stage::Packing => EpisodeState::Packing,
        Stage::Ready(_) => EpisodeState::Ready,
        Stage::Sending(_) => EpisodeState::Uploading,
        Stage::Resting(_, Rest::Transient | Rest::Local | Rest::NameTaken) => EpisodeState::Waiting,
        Stage::Resting(_, Rest::Refused) => EpisodeState::Refused,
        Stage::Parked(_) => EpisodeState::Conflict,
        Stage::Retiring(..) | Stage::Quarantining(_) | Stage::Finishing | Stage::Left => {
            EpisodeState::Moving
        }
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

fn leaves(stage: &Stage) -> Option<Leaves> {
    match stage {
        Stage::Retiring(..) | Stage::Resting(AfterRest::Retire(..), _) => Some(Leaves::Delivered),
        Stage::Quarantining(_) | Stage::Resting(AfterRest::Quarantine(_), _) => {
            Some(Leaves::Rejected)
        }
        Stage::Finishing | Stage::Resting(AfterRest::Finish, _) => Some(Leaves::Copied),
        Stage::Open
        | Stage::Sealed
        | Stage::Checking
        | Stage::Packing
        | Stage::Ready(_)
        | Stage::Sending(_)
        | Stage::Resting(AfterRest::Pack | AfterRest::Send(_), _)
        | Stage::Parked(_)
        | Stage::Left => None,
    }
}

fn glimpse(id: &EpisodeId, state: EpisodeState, episode: &Episode, now: Duration) -> Glimpse {
    let said = || episode.why().map(str::to_owned);
    let again_in = || episode.wake().map(|at| at.saturating_sub(now));
    let (why, again_in) = match episode.stage() {
        Stage::Open if episode.odd_marker().is_some() => (
            episode
                .odd_marker()
                .map(|what| format!("its done.marker is {what}, and seals nothing")),
            None,
        ),
        Stage::Open if episode.local_failures() > 0 => (said(), None),
        Stage::Resting(..) => (said(), again_in()),
        // It is compared with what was packed now and then; it is sent again when it has changed.
        Stage::Parked(_) => (said(), None),
        Stage::Open
        | Stage::Sealed
        | Stage::Checking
        | Stage::Packing
        | Stage::Ready(_)
        | Stage::Sending(_)
        | Stage::Retiring(..)
        | Stage::Quarantining(_)
        | Stage::Finishing
        | Stage::Left => (None, None),
    };
    let size_bytes = match episode.stage() {
        Stage::Ready(packed)
        | Stage::Sending(packed)
        | Stage::Parked(packed)
        | Stage::Retiring(packed, _)
        | Stage::Resting(AfterRest::Send(packed) | AfterRest::Retire(packed, _), _) => {
            Some(packed.facts.size_bytes)
        }
        Stage::Open
        | Stage::Sealed
        | Stage::Checking
        | Stage::Packing
        | Stage::Resting(AfterRest::Pack | AfterRest::Quarantine(_) | AfterRest::Finish, _)
        | Stage::Quarantining(_)
        | Stage::Finishing
        | Stage::Left => None,
    };
    let made_ns = episode
        .stamp()
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
