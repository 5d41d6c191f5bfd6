//! The destination: whether it is believed to work, how fast it is sent to, and when it may be sent
//! to at all.

pub mod backoff;
pub mod circuit_breaker;
pub(crate) mod probe_pace;
pub(crate) mod ramp;
pub(crate) mod signs;
pub mod upload_window;
pub mod verdict;

use std::{collections::BTreeSet, time::Duration};

use super::{
    Notice,
    context::Context,
    destination::{
        circuit_breaker::{CircuitBreaker, Hold, Probe, Silence},
        ramp::Ramp,
        upload_window::UploadGate,
        verdict::{Refusal, Trust, Verdict, is_ours, judge},
    },
    episode::{AwaitRest, Blame, Course, History, Past},
};
use crate::{
    model::{episode::EpisodeId, records::ArchiveFacts, snapshot::Attempts},
    ship::outcome::{Attempt, Fault, Outcome},
};

/// The destination, as the attempts of this process have found it.
#[derive(Debug)]
pub struct Destination {
    breaker: CircuitBreaker,
    ramp: Ramp,
    gate: UploadGate,
    /// Attempts so far, by their verdicts.
    attempts: Attempts,
    /// All holds that have ended, together.
    held: Duration,
    /// Rejected before anything was delivered here, and to be sent again now that something was.
    released: BTreeSet<EpisodeId>,
}

impl Destination {
    pub(super) fn new(one_pass: bool, now: Duration) -> Self {
        Self {
            breaker: CircuitBreaker::unknown(one_pass),
            ramp: Ramp::default(),
            gate: UploadGate::new(now),
            attempts: Attempts::default(),
            held: Duration::ZERO,
            released: BTreeSet::new(),
        }
    }

    /// The hold, where there is one.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.breaker.hold()
    }

    /// How many episodes a receiver has answered for so far.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.breaker.deliveries()
    }

    pub(super) fn attempts(&self) -> Attempts {
        self.attempts
    }

    /// How long it was held, this hold among it.
    pub(super) fn held(&self, now: Duration) -> Duration {
        let this = self.hold().map(|hold| now.saturating_sub(hold.since));
        self.held + this.unwrap_or_default()
    }

    pub(super) fn gate(&self) -> &UploadGate {
        &self.gate
    }

    pub(super) fn gate_mut(&mut self) -> &mut UploadGate {
        &mut self.gate
    }

    /// How many uploads at once: behind an outage few, and each needs its share of a line that is
    /// limited.
    pub(super) fn uploads_at_once(&self, concurrency: usize) -> usize {
        self.gate.at_most(self.ramp.slots(concurrency))
    }

    /// Not before then is the next one sent, where an outage has just ended.
    pub(super) fn next_upload(&self) -> Option<Duration> {
        self.ramp.next()
    }

    /// What it is slowed down to; `None` at full speed.
    pub(super) fn slowed(&self, concurrency: usize, now: Duration) -> Option<(usize, Duration)> {
        self.ramp.shown(concurrency, now)
    }

    /// One is on its way.
    pub(super) fn sent(&mut self, id: &EpisodeId, probe: Probe, cx: &mut Context) {
        self.breaker.probing(id, probe, cx.now());
        let now = cx.now();
        self.ramp.sent(now, cx.jitter());
    }

    /// The operator has changed something here. `elsewhere`: the receiver is another one.
    pub(super) fn configured(&mut self, elsewhere: bool, now: Duration) {
        self.gate.configured(now);
        self.breaker.mended(now);
        if elsewhere {
            self.ramp = Ramp::default();
            self.breaker.is_elsewhere();
        }
    }

    /// Those that were rejected before anything was delivered here, now that something was.
    pub(super) fn take_released(&mut self) -> BTreeSet<EpisodeId> {
        std::mem::take(&mut self.released)
    }

    /// An attempt has ended: what that says of the destination, and what follows for the episode.
    /// `is_untrusted`: only a digest proves what was sent.
    pub(super) fn attempted(
        &mut self,
        id: &EpisodeId,
        sent: &ArchiveFacts,
        attempt: &Attempt,
        history: &mut History,
        is_untrusted: bool,
        cx: &mut Context,
    ) -> Course {
        let (head_failed, again) = history.head_failed(attempt);
        let head_failed_before = self.breaker.head_failed_before(head_failed) || again;
        // How far a receiver is believed was set for that one.
        let elsewhere = history.take_sent_elsewhere();
        let trust = Trust {
            head_failed_before,
            ..elsewhere.unwrap_or_else(|| cx.settings().trust())
        };
        let verdict = judge(&attempt.outcome, id, sent, trust);
        let is_delivered = matches!(verdict, Verdict::Delivered(_));
        self.breaker.heard(&attempt.outcome, is_delivered);
        let in_hold = self.hold().is_some();
        let of_the_episodes = self.breaker.signs().of_the_episodes();
        let past = history.attempted(
            attempt,
            self.deliveries(),
            in_hold,
            of_the_episodes,
            cx.now(),
        );
        let proven = matches!(&verdict, Verdict::Delivered(proof) if !proof.receipt().is_null());
        if is_untrusted && !proven {
            self.count(&verdict);
            return Course::PackAgain("its archive could not be made durable".to_owned());
        }
        // What another receiver says that this one is no more sent to.
        let is_of_this_one = matches!(
            verdict,
            Verdict::Delivered(_) | Verdict::Unsent(_) | Verdict::Corrupted(_)
        );
        if elsewhere.is_some() && !is_of_this_one {
            return Course::SendAgain;
        }
        let by_ours = is_ours(&attempt.outcome);
        if by_ours {
            self.breaker.is_ours();
        }
        let now = cx.now();
        let verdict = self
            .breaker
            .weigh(id, verdict, trust.require_receipt, now, cx.jitter());
        self.count(&verdict);
        if past.failed_before.is_none() && !matches!(verdict, Verdict::Delivered(_)) {
            self.breaker.signs_mut().failed_at_first();
        }
        match verdict {
            Verdict::Delivered(proof) => {
                if past.failed_before.is_some() {
                    self.breaker.signs_mut().came_through();
                }
                self.answered(true, cx);
                if elsewhere.is_some() {
                    self.breaker.is_elsewhere();
                } else if !proof.receipt().is_null() {
                    self.breaker.is_ours();
                }
                Course::Delivered(proof)
            }
            Verdict::Conflict(refusal) => {
                self.answered(false, cx);
                Course::Conflict(refusal)
            }
            Verdict::Fatal(refusal) => {
                self.answered(false, cx);
                Course::Quarantine(refusal)
            }
            Verdict::Unsent(refusal) => Course::PackAgain(refusal.detail),
            Verdict::Rejected(refusal, _) if self.hold().is_some() => {
                self.await_destination(&refusal, AwaitRest::No, cx)
            }
            Verdict::Rejected(refusal, _) => Course::RetryAlone(refusal),
            // The receiver works, and what alters the bytes of two episodes in a row is no fault of
            // either. The archive may be bad all the same: it rests, and is read before it is sent
            // again.
            Verdict::Corrupted(refusal) => {
                let is_held = past.blame == Blame::Destination
                    && self.breaker.altered(id, &refusal, now, cx.jitter());
                if is_held {
                    self.await_destination(&refusal, AwaitRest::Damaged, cx)
                } else {
                    Course::Retry {
                        refusal,
                        asked: None,
                        is_damaged: true,
                    }
                }
            }
            Verdict::Hold(refusal) => self.at_fault(id, refusal, history, past, cx),
            Verdict::Refused(refusal) => {
                let is_held = past.blame == Blame::Destination
                    && self.breaker.refused(id, &refusal, now, cx.jitter());
                if is_held {
                    self.await_destination(&refusal, AwaitRest::No, cx)
                } else {
                    Course::RetryAlone(refusal)
                }
            }
            // The other end did not wait for the next window. That says nothing of it, nor of the
            // episode.
            Verdict::Transient { .. } if past.stood_still => Course::SendAgain,
            // A stop of ours says nothing of the destination.
            Verdict::Transient { refusal, .. }
                if matches!(attempt.outcome, Outcome::Failed(Fault::Cancelled)) =>
            {
                Course::Retry {
                    refusal,
                    asked: None,
                    is_damaged: false,
                }
            }
            // No sign of a destination that is down.
            Verdict::Transient {
                refusal,
                retry_after_s: None,
            } if past.moved => Course::GoOn(refusal),
            Verdict::Transient {
                refusal,
                retry_after_s,
            } => {
                let asked = retry_after_s.map(Duration::from_secs);
                self.transient(id, refusal, asked, by_ours, past, cx)
            }
        }
    }

    fn count(&mut self, verdict: &Verdict) {
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
            // A rejection that is acted on was made fatal, or a conflict, by `weigh`.
            Verdict::Rejected(..) | Verdict::Refused(_) => refused,
            Verdict::Hold(_) => hold,
            Verdict::Transient { .. } => transient,
            Verdict::Unsent(_) => unsent,
        };
        *count += 1;
    }

    /// A receiver took an episode, or said what is wrong with it.
    fn answered(&mut self, delivered: bool, cx: &mut Context) {
        if let Some(ended) = self.breaker.answered(delivered) {
            let now = cx.now();
            let span = now.saturating_sub(ended.since);
            self.held += span;
            cx.log(Notice::Cleared(span));
            // A pass from cron waits for nothing.
            if !cx.is_once() {
                let slots = cx.settings().concurrency;
                self.ramp
                    .held_until(now, &ended, self.breaker.signs(), slots, cx.jitter());
            }
        }
        if delivered {
            self.ramp.delivered(cx.settings().concurrency);
            self.released = self.breaker.take_waiting();
        }
    }

    /// A refusal that names the destination. Where others were delivered meanwhile it is this
    /// episode's alone.
    fn at_fault(
        &mut self,
        id: &EpisodeId,
        refusal: Refusal,
        history: &History,
        past: Past,
        cx: &mut Context,
    ) -> Course {
        let before = past
            .failed_before
            .unwrap_or_else(|| history.deliveries_at_start());
        if past.blame > Blame::Destination || self.deliveries() > before {
            return Course::RetryAlone(refusal);
        }
        let now = cx.now();
        self.breaker.at_fault(id, &refusal, now, cx.jitter());
        self.await_destination(&refusal, AwaitRest::No, cx)
    }

    fn transient(
        &mut self,
        id: &EpisodeId,
        refusal: Refusal,
        asked: Option<Duration>,
        by_ours: bool,
        past: Past,
        cx: &mut Context,
    ) -> Course {
        if past.is_alone && self.hold().is_none() {
            self.breaker.signs_mut().failed_again();
        }
        let is_own = past.blame == Blame::AllItsFailures;
        if !is_own {
            if self.hold().is_none() {
                let slots = cx.settings().concurrency;
                self.ramp.refused(self.breaker.signs(), slots);
            }
            let silence = asked.map(|lasts| Silence { lasts, by_ours });
            let now = cx.now();
            if self
                .breaker
                .transient(id, &refusal, silence, now, cx.jitter())
            {
                // A pass from cron waits for nothing.
                let rest = asked.filter(|_| !cx.is_once());
                let rest = rest.map_or(AwaitRest::No, AwaitRest::For);
                return self.await_destination(&refusal, rest, cx);
            }
        }
        Course::Retry {
            refusal,
            asked,
            is_damaged: false,
        }
    }

    fn await_destination(&self, refusal: &Refusal, rest: AwaitRest, cx: &mut Context) -> Course {
        if let Some(hold) = self.hold() {
            let now = cx.now();
            cx.log(if hold.since == now {
                Notice::Held(refusal.clone())
            } else {
                Notice::StillHeld(refusal.clone(), hold.next_probe.saturating_sub(now))
            });
        }
        let why = refusal.detail.clone();
        Course::AwaitDestination { rest, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::machine::tests::{context, of, packed, silent};

    fn answered(status: u16) -> Attempt {
        Outcome::Answered(silent(status, None)).into()
    }

    #[test]
    fn a_refusal_that_names_the_destination_holds_it_and_a_delivery_ends_that() {
        let mut cx = context(|_| {});
        let mut destination = Destination::new(false, cx.now());
        let (facts, mut history) = (packed("a").facts, History::default());
        let course = destination.attempted(
            &of("a"),
            &facts,
            &answered(401),
            &mut history,
            false,
            &mut cx,
        );
        assert!(matches!(
            course,
            Course::AwaitDestination {
                rest: AwaitRest::No,
                ..
            }
        ));
        assert!(destination.hold().is_some());
        cx.advance(cx.now() + Duration::from_secs(60));
        let course = destination.attempted(
            &of("a"),
            &facts,
            &answered(201),
            &mut history,
            false,
            &mut cx,
        );
        assert!(matches!(course, Course::Delivered(_)));
        assert!(destination.hold().is_none());
        assert_eq!(destination.held(cx.now()), Duration::from_secs(60));
        let counted = destination.attempts();
        assert_eq!((counted.hold, counted.delivered), (1, 1));
        assert_eq!(destination.deliveries(), 1);
    }

    #[test]
    fn what_was_read_after_a_failed_flush_is_believed_only_with_a_digest() {
        let mut cx = context(|_| {});
        let mut destination = Destination::new(false, cx.now());
        let (facts, mut history) = (packed("a").facts, History::default());
        let course = destination.attempted(
            &of("a"),
            &facts,
            &answered(201),
            &mut history,
            true,
            &mut cx,
        );
        assert!(matches!(course, Course::PackAgain(_)));
    }
}
