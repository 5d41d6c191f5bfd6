//! What the end of a delivery attempt makes of its episode, and of the destination.

use std::{sync::Arc, time::Duration};

use super::{
    Notice,
    backoff::{MOVING, REFUSED, TRANSIENT},
    queue::Machine,
    state::{Next, Packed, Reason, Rest, State},
    verdict::{Refusal, Verdict, judge},
};
use crate::{
    episode::EpisodeId,
    ship::outcome::{Attempt, Outcome},
};

impl Machine {
    /// The receiver, something in between, or nobody answered.
    pub(super) fn attempted(&mut self, id: &EpisodeId, attempt: &Attempt, now: Duration) {
        if matches!(&attempt.outcome, Outcome::Answered(answer) if answer.server_date.is_some()) {
            self.sweeps.hear_date(now);
        }
        self.sleep_until(id, None);
        let Some(episode) = self.episodes.get_mut(id) else { return };
        let State::Sending(packed) = std::mem::replace(&mut episode.state, State::Sealed) else { return };
        episode.failed_at = Some(now);
        let moved = episode.went_on_at(attempt.resumed_at_bytes);
        let paused = std::mem::take(&mut episode.paused);
        let verdict = judge(&attempt.outcome, id, &packed.facts, self.settings.require_receipt);
        self.ledger.attempted(&verdict);
        // Bytes that were read after a failed fsync may not be those that were packed: only a digest proves them.
        let proven = matches!(&verdict, Verdict::Delivered(proof) if !proof.receipt().is_null());
        if episode.spoiled && !proven {
            return self.stuck(id, Next::Pack, "its archive could not be made durable".to_owned(), now);
        }
        match verdict {
            Verdict::Delivered(proof) => {
                let status = proof.status();
                episode.failures = Default::default();
                self.answered(true, now);
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
                let Refusal { status, detail, body } = refusal;
                let error = format!("the receiver rejects it: {detail}");
                let fingerprint = packed.fingerprint;
                self.quarantine(id, Box::new(Reason { status, error, body, verdict: "fatal", fingerprint }));
            }
            Verdict::Corrupted(refusal) => {
                self.answered(false, now);
                let wait = self.failed(id, |episode| &mut episode.failures.weather, TRANSIENT);
                self.tell(Notice::Retrying(id.clone(), refusal, wait));
                if let Some(episode) = self.episodes.get_mut(id) {
                    episode.suspect = true;
                }
                self.send_later(id, packed, Rest::Weather, now + wait);
            }
            Verdict::Unsent(refusal) => self.stuck(id, Next::Pack, refusal.detail, now),
            Verdict::Hold(refusal) => self.destination_at_fault(id, packed, refusal, now),
            Verdict::Refused(refusal) => {
                if self.destination.refused(id, &refusal, now, &mut self.jitter) {
                    self.wait_for_destination(id, packed, &refusal, now);
                } else {
                    self.wait_alone(id, packed, refusal, now);
                }
            }
            // The other end did not wait for the next window. That says nothing of it, nor of the episode.
            Verdict::Transient { .. } if paused => {
                self.enter(id, State::Ready(packed));
                self.keep(id);
            }
            // The line drops and yet it works: on with it, before the next drop. No sign of a destination that is down.
            Verdict::Transient { refusal, retry_after_s: None } if moved => {
                let wait = self.jitter.wait(MOVING, 1);
                self.tell(Notice::Retrying(id.clone(), refusal, wait));
                self.send_later(id, packed, Rest::Weather, now + wait);
            }
            Verdict::Transient { refusal, retry_after_s } => {
                let asked = retry_after_s.map(Duration::from_secs);
                if self.destination.hold().is_none() {
                    self.ramp.refused(self.settings.concurrency);
                }
                if self.destination.weather(id, &refusal, asked, now, &mut self.jitter) {
                    self.wait_for_destination(id, packed, &refusal, now);
                } else {
                    let wait = self.failed(id, |episode| &mut episode.failures.weather, TRANSIENT);
                    let wait = wait.max(asked.unwrap_or_default());
                    self.tell(Notice::Retrying(id.clone(), refusal, wait));
                    self.send_later(id, packed, Rest::Weather, now + wait);
                }
            }
        }
    }

    /// A refusal that names the destination. Where others were delivered meanwhile it is this episode's alone.
    fn destination_at_fault(&mut self, id: &EpisodeId, packed: Arc<Packed>, refusal: Refusal, now: Duration) {
        let deliveries = self.destination.deliveries();
        let Some(episode) = self.episodes.get_mut(id) else { return };
        let refused_before = episode.deliveries_at_refusal.replace(deliveries);
        if deliveries > refused_before.unwrap_or(episode.deliveries_at_start) {
            return self.wait_alone(id, packed, refusal, now);
        }
        self.destination.at_fault(id, &refusal, now, &mut self.jitter);
        self.wait_for_destination(id, packed, &refusal, now);
    }

    /// The hold paces it; it stays in the queue, so that it can be a probe again.
    fn wait_for_destination(
        &mut self,
        id: &EpisodeId,
        packed: Arc<Packed>,
        refusal: &Refusal,
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
        self.enter(id, State::Ready(packed));
        self.keep(id);
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
                self.ramp.held_until(now, &ended, &mut self.jitter);
            }
        }
        if delivered {
            self.ramp.delivered(self.settings.concurrency);
        }
    }
}
