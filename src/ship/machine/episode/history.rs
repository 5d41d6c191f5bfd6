//! How an episode has fared with the receiver.

use std::time::Duration;

use super::resume::Resume;
use crate::ship::{
    machine::destination::verdict::Trust,
    outcome::{Attempt, Fault, Outcome, Phase, Voucher},
};

/// How an episode has fared with the receiver.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Deliveries of the process when the attempt began.
    deliveries_at_start: u64,
    /// And when one last failed.
    deliveries_at_failure: Option<u64>,
    /// When it last came back undelivered.
    failed_at: Option<Duration>,
    last_end: AttemptEnd,
    blame: Blame,
    standstill: Standstill,
    /// The receiver has been changed since it was sent; how far the one before was to be believed.
    sent_elsewhere: Option<Trust>,
    resume: Resume,
}

/// How the last attempt ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct AttemptEnd {
    kind: EndKind,
    /// The destination was held.
    in_hold: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum EndKind {
    #[default]
    Other,
    /// By a time-out: it had its slot for as long as it could.
    Hung,
    /// A 200 without a receipt could not be asked after.
    HeadFailed,
}

/// What its failures are put down to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blame {
    /// To the destination, for all that is known.
    #[default]
    Destination,
    /// Refusals to the episode: one failed before others were delivered, and the next one failed as
    /// well.
    ItsRefusals,
    /// Also what is transient, which takes more to tell.
    AllItsFailures,
}

/// Whether the upload window has closed over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standstill {
    #[default]
    Never,
    /// During the attempt that is under way.
    Now,
    /// During an earlier one, which was excused for that.
    Before,
    /// Both.
    NowAndBefore,
}

/// What is known of an episode when its attempt has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    /// Deliveries when it last failed.
    pub(crate) failed_before: Option<u64>,
    /// Others got through since then: its failure is its own.
    pub(crate) is_alone: bool,
    pub(crate) blame: Blame,
    /// The attempt got further than the one before.
    pub(crate) moved: bool,
    /// The upload window had closed over it.
    pub(crate) stood_still: bool,
}

impl History {
    pub(crate) fn failed_at(&self) -> Option<Duration> {
        self.failed_at
    }

    /// Its last attempt ended by a time-out.
    pub(crate) fn has_hung(&self) -> bool {
        self.last_end.kind == EndKind::Hung
    }

    pub(crate) fn deliveries_at_start(&self) -> u64 {
        self.deliveries_at_start
    }

    pub(super) fn may_be_kept(&mut self) {
        self.resume.may_be_kept();
    }

    pub(super) fn packed_anew(&mut self, is_on_demand: bool) {
        self.resume.packed_anew();
        if is_on_demand {
            self.resume.may_be_kept();
        }
    }

    /// It is sent. Returns whether the receiver is to be asked first what it has kept.
    pub(super) fn begins(&mut self, deliveries: u64) -> bool {
        self.deliveries_at_start = deliveries;
        self.sent_elsewhere = None;
        self.resume.asks_first()
    }

    /// The receiver is another one from now on; how far the one before was to be believed.
    pub(super) fn receiver_changed(&mut self, is_sending: bool, trusted: Trust) {
        self.blame = Blame::Destination;
        self.deliveries_at_failure = None;
        let of_the_first = self.sent_elsewhere.unwrap_or(trusted);
        self.sent_elsewhere = is_sending.then_some(of_the_first);
    }

    /// What was answered came from a receiver that this one is no more sent to; how far that was to
    /// be believed.
    pub(crate) fn take_sent_elsewhere(&mut self) -> Option<Trust> {
        self.sent_elsewhere.take()
    }

    /// Whether a 200 without a receipt could not be asked after, this time and the time before.
    pub(crate) fn head_failed(&self, attempt: &Attempt) -> (bool, bool) {
        let now = EndKind::of(attempt) == EndKind::HeadFailed;
        (now, self.last_end.kind == EndKind::HeadFailed)
    }

    /// An attempt has ended. `in_hold`: the destination is held. `of_the_episodes`: such failures
    /// are known to be those episodes' own.
    pub(crate) fn attempted(
        &mut self,
        attempt: &Attempt,
        deliveries: u64,
        in_hold: bool,
        of_the_episodes: bool,
        now: Duration,
    ) -> Past {
        let failed_before = self.deliveries_at_failure.replace(deliveries);
        // Where others got through since it last failed, its failure is its own, and says nothing
        // of the destination. What fails while that is held fails as everything does, unless it was
        // known before.
        let is_alone = failed_before.is_some_and(|before| deliveries > before);
        if is_alone && !in_hold {
            // Behind an outage there is not enough for all at once, and one may be turned away
            // while others get through: what is transient is that one's own affair where it failed
            // before while nothing was held, or where such failures are known to be.
            let all = !self.last_end.in_hold || of_the_episodes;
            self.blame = self.blame.max(if all {
                Blame::AllItsFailures
            } else {
                Blame::ItsRefusals
            });
        }
        self.failed_at = Some(now);
        self.last_end = AttemptEnd {
            kind: EndKind::of(attempt),
            in_hold,
        };
        let moved = self.resume.went_on(attempt);
        Past {
            failed_before,
            is_alone,
            blame: self.blame,
            moved,
            stood_still: matches!(self.standstill, Standstill::Now | Standstill::NowAndBefore),
        }
    }

    /// A receiver holds it: where it has to be sent again, that is a beginning.
    pub(super) fn delivered(&mut self) {
        self.deliveries_at_failure = None;
        self.failed_at = None;
        self.last_end = AttemptEnd::default();
        self.blame = Blame::Destination;
    }

    /// The upload window has closed over it.
    pub(super) fn stand_still(&mut self) {
        self.standstill = match self.standstill {
            Standstill::Never | Standstill::Now => Standstill::Now,
            Standstill::Before | Standstill::NowAndBefore => Standstill::NowAndBefore,
        };
    }

    /// Its attempt has ended. Whether that was a turn of its own: where the window closed over it,
    /// that is no failure, once. What needs more than a window each time gives way as well.
    pub(super) fn had_its_turn(&mut self) -> bool {
        let before = self.standstill;
        if matches!(before, Standstill::Now | Standstill::NowAndBefore) {
            self.standstill = Standstill::Before;
        }
        before != Standstill::Now
    }
}

impl EndKind {
    fn of(attempt: &Attempt) -> Self {
        match &attempt.outcome {
            Outcome::Answered(answer) if matches!(answer.voucher, Voucher::HeadFailed(_)) => {
                Self::HeadFailed
            }
            Outcome::Failed(Fault::TimedOut(Phase::Idle | Phase::Answer)) => Self::Hung,
            Outcome::Answered(_) | Outcome::Failed(_) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::machine::tests::lost;

    const NOW: Duration = Duration::from_secs(9);

    fn failed(
        history: &mut History,
        deliveries: u64,
        in_hold: bool,
        of_the_episodes: bool,
    ) -> Past {
        let attempt = Outcome::Failed(lost()).into();
        history.attempted(&attempt, deliveries, in_hold, of_the_episodes, NOW)
    }

    #[test]
    fn what_fails_again_though_others_were_delivered_between_is_to_blame_itself() {
        let mut history = History::default();
        assert_eq!(
            failed(&mut history, 0, false, false).blame,
            Blame::Destination
        );
        assert_eq!(
            failed(&mut history, 0, false, false).blame,
            Blame::Destination
        );
        let past = failed(&mut history, 1, false, false);
        assert_eq!(
            (past.blame, past.failed_before),
            (Blame::AllItsFailures, Some(0))
        );
        // Once known, it stays known, until the receiver is another one.
        assert_eq!(
            failed(&mut history, 1, true, false).blame,
            Blame::AllItsFailures
        );
        let trust = crate::ship::machine::tests::settings(|_| {}).trust();
        history.receiver_changed(false, trust);
        let past = failed(&mut history, 9, false, false);
        assert_eq!((past.blame, past.failed_before), (Blame::Destination, None));
    }

    #[test]
    fn behind_an_outage_a_transient_failure_is_its_own_only_where_such_are_known_to_be() {
        let mut history = History::default();
        failed(&mut history, 0, true, false);
        assert_eq!(
            failed(&mut history, 1, false, false).blame,
            Blame::ItsRefusals
        );
        let mut history = History::default();
        failed(&mut history, 0, true, false);
        assert_eq!(
            failed(&mut history, 1, false, true).blame,
            Blame::AllItsFailures
        );
        // What fails while the destination is held says nothing.
        let mut history = History::default();
        failed(&mut history, 0, true, false);
        assert_eq!(
            failed(&mut history, 1, true, true).blame,
            Blame::Destination
        );
    }

    #[test]
    fn after_a_delivery_its_own_one_does_not_speak_against_it() {
        let mut history = History::default();
        failed(&mut history, 0, false, false);
        history.delivered();
        let past = failed(&mut history, 1, false, false);
        assert_eq!((past.blame, past.failed_before), (Blame::Destination, None));
    }

    #[test]
    fn the_first_window_that_closes_over_it_costs_no_turn_and_the_second_one_does() {
        let mut history = History::default();
        assert!(history.had_its_turn());
        history.stand_still();
        assert!(!history.had_its_turn());
        assert!(history.had_its_turn());
        history.stand_still();
        assert!(history.had_its_turn());
    }
}
