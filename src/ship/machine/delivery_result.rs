//! What the end of a delivery attempt makes of its episode, and of the destination.

use std::{sync::Arc, time::Duration};

use super::{
    Notice,
    backoff::{MOVING, REFUSED, TRANSIENT},
    circuit_breaker::Silence,
    queue::Machine,
    state::{AfterRest, Packed, Reason, Rest, State, TriedNote},
    verdict::{Refusal, Trust, Verdict, is_ours, judge, receivers_clock},
};
use crate::{
    model::episode::{EpisodeId, FolderLook},
    ship::outcome::{Attempt, Fault, Outcome, Phase, Stale, Voucher},
};

impl Machine {
    /// The receiver answered, or something in between, or nothing did.
    pub(super) fn attempted(&mut self, id: &EpisodeId, attempt: &Attempt, now: Duration) {
        if matches!(&attempt.outcome, Outcome::Answered(answer) if receivers_clock(answer).is_some())
        {
            self.sweeps.hear_date(now);
        }
        self.sleep_until(id, None);
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        let State::Sending(packed) = std::mem::replace(&mut episode.state, State::Sealed) else {
            return;
        };
        if let Outcome::Failed(Fault::Stale(stale)) = &attempt.outcome {
            return self.not_as_packed(id, packed, stale.clone(), now);
        }
        let head_failed = matches!(
            &attempt.outcome,
            Outcome::Answered(answer) if matches!(answer.voucher, Voucher::HeadFailed(_))
        );
        let again = std::mem::replace(&mut episode.head_failed, head_failed);
        let head_failed_before = self.destination.head_failed_before(head_failed) || again;
        // How far a receiver is believed was set for that one.
        let sent_elsewhere = episode.sent_elsewhere.take();
        let trust = sent_elsewhere.unwrap_or_else(|| self.settings.trust());
        let trust = Trust {
            head_failed_before,
            ..trust
        };
        let verdict = judge(&attempt.outcome, id, &packed.facts, trust);
        let deliveries = self.destination.deliveries();
        let failed_before = episode.deliveries_at_failure.replace(deliveries);
        // Where others got through since it last failed, its failure is its own, and says nothing
        // of the destination.
        let alone = failed_before.is_some_and(|before| deliveries > before);
        let cancelled = matches!(attempt.outcome, Outcome::Failed(Fault::Cancelled));
        self.destination
            .heard(&attempt.outcome, matches!(verdict, Verdict::Delivered(_)));
        // What fails while it is held fails as everything does, unless that was known before.
        let held = self.destination.hold().is_some();
        episode.fails_alone |= alone && !held;
        let own = episode.fails_alone;
        // Behind an outage there is not enough for all at once, and one may be turned away while
        // others get through: in bad weather it is that one's own affair where it failed before
        // while nothing was held, or where such failures are known to be.
        let failed_in_hold = std::mem::replace(&mut episode.failed_in_hold, held);
        episode.fails_alone_in_weather |=
            alone && !held && (!failed_in_hold || self.destination.signs.of_the_episodes());
        let own_weather = episode.fails_alone_in_weather;
        episode.failed_at = Some(now);
        let timed_out =
            |fault: &Fault| matches!(fault, Fault::TimedOut(Phase::Idle | Phase::Answer));
        episode.hung = matches!(&attempt.outcome, Outcome::Failed(fault) if timed_out(fault));
        let moved = episode.went_on(attempt);
        let paused = std::mem::take(&mut episode.paused);
        // The window closed over it: that is no failure, once. What needs more than a window each
        // time gives way as well.
        let gives_way = !paused || std::mem::replace(&mut episode.cut_by_window, true);
        // A pass from cron remembers nothing else; a daemon writes it down once.
        if gives_way && (self.settings.once || episode.noted == TriedNote::No) {
            episode.noted = TriedNote::Due;
        }
        if gives_way {
            self.gives_up_its_turn(id);
        }
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        // Bytes that were read after a failed fsync may not be those that were packed: only a
        // digest proves them.
        let proven = matches!(&verdict, Verdict::Delivered(proof) if !proof.receipt().is_null());
        if episode.spoiled && !proven {
            self.ledger.attempted(&verdict);
            return self.stuck(
                id,
                AfterRest::Pack,
                "its archive could not be made durable".to_owned(),
                now,
            );
        }
        // What another receiver says that this one is no more sent to.
        let from_elsewhere = sent_elsewhere.is_some();
        if from_elsewhere
            && !matches!(
                verdict,
                Verdict::Delivered(_) | Verdict::Unsent(_) | Verdict::Corrupted(_)
            )
        {
            self.enter(id, State::Ready(packed));
            return self.keep(id);
        }
        let by_ours = is_ours(&attempt.outcome);
        if by_ours {
            self.destination.is_ours();
        }
        let verdict =
            self.destination
                .weigh(id, verdict, trust.require_receipt, now, &mut self.jitter);
        self.ledger.attempted(&verdict);
        if failed_before.is_none() && !matches!(verdict, Verdict::Delivered(_)) {
            self.destination.signs.failed_at_first();
        }
        match verdict {
            Verdict::Delivered(proof) => {
                let status = proof.status();
                episode.failures = Default::default();
                if failed_before.is_some() {
                    self.destination.signs.came_through();
                }
                self.answered(true, now);
                self.sending.taken(now);
                if from_elsewhere {
                    self.destination.is_elsewhere();
                } else if !proof.receipt().is_null() {
                    self.destination.is_ours();
                }
                self.tell(Notice::Delivered(id.clone(), packed.facts, status));
                self.retire(id, packed, proof);
            }
            Verdict::Conflict(refusal) => {
                self.answered(false, now);
                self.tell(Notice::Conflict(id.clone(), refusal.clone()));
                if let Some(episode) = self.episodes.get_mut(id) {
                    episode.conflict_told = true;
                    episode.conflict = Some(Box::new(refusal));
                }
                self.park(id, packed, now);
                self.keep(id);
            }
            Verdict::Fatal(refusal) => {
                self.answered(false, now);
                let Refusal {
                    status,
                    detail,
                    body,
                } = refusal;
                let error = format!("the receiver rejects it: {detail}");
                let (fingerprint, content_sha256) =
                    (packed.fingerprint, Some(packed.facts.content_sha256));
                self.quarantine(
                    id,
                    Box::new(Reason {
                        status,
                        error,
                        body,
                        verdict: "fatal",
                        fingerprint,
                        content_sha256,
                    }),
                );
            }
            Verdict::Rejected(refusal, _) => {
                if self.destination.hold().is_some() {
                    self.wait_for_destination(id, packed, &refusal, None, now);
                } else {
                    self.wait_alone(id, packed, refusal, now);
                }
            }
            // The receiver works, and what alters the bytes of two episodes in a row is no fault of
            // either. The archive may be bad all the same: it rests, and is read before it is sent
            // again.
            Verdict::Corrupted(refusal) => {
                episode.suspect = true;
                if !own
                    && self
                        .destination
                        .altered(id, &refusal, now, &mut self.jitter)
                {
                    let wait = self.failed(id, |episode| &mut episode.failures.weather, TRANSIENT);
                    self.wait_for_destination(id, packed, &refusal, Some(wait), now);
                } else {
                    self.wait_for_weather(id, packed, refusal, None, now);
                }
            }
            Verdict::Unsent(refusal) => self.stuck(id, AfterRest::Pack, refusal.detail, now),
            Verdict::Hold(refusal) if own => self.wait_alone(id, packed, refusal, now),
            Verdict::Hold(refusal) => {
                self.destination_at_fault(id, packed, refusal, failed_before, now);
            }
            Verdict::Refused(refusal) => {
                if !own
                    && self
                        .destination
                        .refused(id, &refusal, now, &mut self.jitter)
                {
                    self.wait_for_destination(id, packed, &refusal, None, now);
                } else {
                    self.wait_alone(id, packed, refusal, now);
                }
            }
            // The other end did not wait for the next window. That says nothing of it, nor of the
            // episode.
            Verdict::Transient { .. } if paused => {
                self.enter(id, State::Ready(packed));
                self.keep(id);
            }
            // A stop of ours says nothing of the destination.
            Verdict::Transient { refusal, .. } if cancelled => {
                self.wait_for_weather(id, packed, refusal, None, now);
            }
            // The line drops and yet it works: on with it, before the next drop. No sign of a
            // destination that is down.
            Verdict::Transient {
                refusal,
                retry_after_s: None,
            } if moved => {
                let wait = self.jitter.wait(MOVING, 1);
                self.tell(Notice::Retrying(id.clone(), refusal, wait));
                self.send_later(id, packed, Rest::Weather, now + wait);
            }
            Verdict::Transient {
                refusal,
                retry_after_s,
            } => {
                let asked = retry_after_s.map(Duration::from_secs);
                if alone && !held {
                    self.destination.signs.failed_again();
                }
                if own_weather {
                    return self.wait_for_weather(id, packed, refusal, asked, now);
                }
                if self.destination.hold().is_none() {
                    self.ramp
                        .refused(own, &self.destination.signs, self.settings.concurrency);
                }
                let silence = asked.map(|lasts| Silence { lasts, by_ours });
                if self
                    .destination
                    .weather(id, &refusal, silence, now, &mut self.jitter)
                {
                    // A pass from cron waits for nothing.
                    let rest = asked.filter(|_| !self.settings.once);
                    self.wait_for_destination(id, packed, &refusal, rest, now);
                } else {
                    self.wait_for_weather(id, packed, refusal, asked, now);
                }
            }
        }
    }

    /// It waited for this attempt, and meanwhile its marker was taken away, or something in it was
    /// written. That says nothing of the destination: nothing was sent.
    fn not_as_packed(&mut self, id: &EpisodeId, packed: Arc<Packed>, stale: Stale, now: Duration) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        match stale {
            Stale::Unsealed(FolderLook::Unreadable(why)) if !episode.spoiled => {
                self.stuck(id, AfterRest::Send(packed), why, now);
                self.keep(id);
            }
            Stale::Unsealed(look) => {
                self.check_again(id);
                self.found(id, look);
            }
            Stale::Changed => {
                episode.archived |= episode.has_archive();
                self.settle(id, "it was changed after it was packed".to_owned(), now);
            }
        }
    }

    /// A refusal that names the destination. Where others were delivered meanwhile it is this
    /// episode's alone.
    fn destination_at_fault(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        refusal: Refusal,
        failed_before: Option<u64>,
        now: Duration,
    ) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        if self.destination.deliveries() > failed_before.unwrap_or(episode.deliveries_at_start) {
            return self.wait_alone(id, packed, refusal, now);
        }
        self.destination
            .at_fault(id, &refusal, now, &mut self.jitter);
        self.wait_for_destination(id, packed, &refusal, None, now);
    }

    /// The hold paces it; it stays in the queue, so that it can be a probe again. One that is to
    /// `rest` for so long is none until then, though the hold may end before.
    fn wait_for_destination(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        refusal: &Refusal,
        rest: Option<Duration>,
        now: Duration,
    ) {
        if let Some(hold) = self.destination.hold() {
            let notice = if hold.since == now {
                Notice::Held(refusal.clone())
            } else {
                Notice::StillHeld(refusal.clone(), hold.next_probe.saturating_sub(now))
            };
            self.tell(notice);
        }
        match rest {
            Some(rest) => self.send_later(id, packed, Rest::Weather, now + rest),
            None => {
                self.enter(id, State::Ready(packed));
                self.keep(id);
            }
        }
    }

    fn wait_for_weather(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        refusal: Refusal,
        asked: Option<Duration>,
        now: Duration,
    ) {
        let wait = self.failed(id, |episode| &mut episode.failures.weather, TRANSIENT);
        let wait = wait.max(asked.unwrap_or_default());
        self.tell(Notice::Retrying(id.clone(), refusal, wait));
        self.send_later(id, packed, Rest::Weather, now + wait);
    }

    fn wait_alone(&mut self, id: &EpisodeId, packed: Arc<Packed>, refusal: Refusal, now: Duration) {
        let wait = self.failed(id, |episode| &mut episode.failures.refused, REFUSED);
        self.tell(Notice::RefusedAlone(id.clone(), refusal, wait));
        self.send_later(id, packed, Rest::Refused, now + wait);
    }

    fn answered(&mut self, delivered: bool, now: Duration) {
        if let Some(ended) = self.destination.answered(delivered) {
            let span = now.saturating_sub(ended.since);
            self.ledger.held += span;
            self.tell(Notice::Cleared(span));
            // A pass from cron waits for nothing.
            if !self.settings.once {
                self.ramp
                    .held_until(now, &ended, &self.destination.signs, &mut self.jitter);
            }
        }
        if delivered {
            self.ramp.delivered(self.settings.concurrency);
            for id in self.destination.take_waiting() {
                self.send_again(&id);
            }
        }
    }

    /// What it was rejected for counts by now, if it is rejected again.
    fn send_again(&mut self, id: &EpisodeId) {
        let Some(episode) = self.episodes.get(id) else {
            return;
        };
        if let State::Resting(AfterRest::Send(packed), Rest::Refused) = &episode.state {
            let packed = Arc::clone(packed);
            self.sleep_until(id, None);
            self.enter(id, State::Ready(packed));
        }
    }
}
