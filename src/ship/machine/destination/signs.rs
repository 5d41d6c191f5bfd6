//! What failures in bad weather say: that the destination has too much to do, or that something is
//! wrong with those episodes.
//!
//! One that was turned away for want of room is delivered when it comes again; one with which
//! something is wrong is turned away again, while others are delivered. That tells with what
//! something in between answers, with a page, and with a connection that is lost; as long as
//! neither has been seen, it is taken for the episode's. What may be a receiver's word (a 503 or
//! 429 without a page) speaks for the destination as long as nothing is delivered; once deliveries
//! come between such answers, it is weighed as a page is. Behind a receiver that is known to be
//! ours, only its own words are its word.

use super::verdict::is_ours;
use crate::ship::{
    machine::limits::{ENOUGH, MANY, TWICE},
    outcome::{Answer, AnswerBody, Fault, Outcome, Phase},
};

/// So many failures later it is forgotten that one came through: those with which something is
/// wrong never do, and where there is not enough for all, many fail for each that does.
const MOST: i8 = ENOUGH.cast_signed();

/// So many failures in a row without a page, and none delivered between, speak for the destination
/// once more.
const MOST_IN_A_ROW: u32 = MANY;
/// So often something is delivered between them, and nothing that had failed, before they are
/// weighed.
const MIXED: u32 = TWICE;

/// Who has turned one away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Refuser {
    /// A receiver of ours, in its own words.
    Ours,
    /// No server was reached.
    #[default]
    Unreached,
    /// What may be a receiver.
    Unclear,
    /// Something in between, for all that is known.
    Between,
}

/// What has been seen of late.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    last: Refuser,
    /// As many as can be when one was delivered that had failed; less by each failure since that
    /// says otherwise.
    balance: i8,
    /// Failures since the last delivery.
    in_a_row: u32,
    /// How often one was delivered between those that may be a receiver's word.
    mixed: u32,
}

impl Signs {
    /// How an attempt ended that did not deliver. `ours`: a receiver of ours is known to answer
    /// there.
    pub(crate) fn heard(&mut self, outcome: &Outcome, ours: bool) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= MOST_IN_A_ROW {
            self.mixed = 0;
        }
        self.last = match outcome {
            Outcome::Answered(_) if is_ours(outcome) => Refuser::Ours,
            Outcome::Answered(_) if ours => Refuser::Between,
            Outcome::Answered(Answer {
                body: AnswerBody::Foreign { .. },
                ..
            }) => Refuser::Between,
            Outcome::Answered(Answer { status, .. }) => match status {
                408 | 425 | 429 | 500.. => Refuser::Unclear,
                // A 200 without a receipt among them: there is no route, say.
                _ => Refuser::Between,
            },
            Outcome::Failed(fault) => match fault {
                Fault::Lost(_) | Fault::TimedOut(Phase::Idle) => Refuser::Between,
                Fault::TimedOut(Phase::Answer)
                | Fault::Stale(_)
                | Fault::Archive(_)
                | Fault::Cancelled => Refuser::Unclear,
                Fault::UnknownName(_)
                | Fault::Unreachable(_)
                | Fault::Tls(_)
                | Fault::TimedOut(Phase::Connect)
                | Fault::Request(_) => Refuser::Unreached,
            },
        };
    }

    /// One was delivered.
    pub(crate) fn delivered(&mut self) {
        if std::mem::take(&mut self.in_a_row) > 0 && self.last == Refuser::Unclear {
            self.mixed = (self.mixed + 1).min(MIXED);
        }
    }

    /// One that had failed was delivered.
    pub(crate) fn came_through(&mut self) {
        self.balance = MOST;
        self.mixed = 0;
    }

    /// One that had failed has failed again, and others were delivered between.
    pub(crate) fn failed_again(&mut self) {
        self.balance = (self.balance - 1).max(-MOST);
    }

    /// One has failed that was not tried before.
    pub(crate) fn failed_at_first(&mut self) {
        if self.last == Refuser::Between && self.balance > 0 {
            self.balance -= 1;
        }
    }

    /// Whether the last failure speaks for a destination that has too much to do.
    pub(crate) fn of_too_much(&self) -> bool {
        !self.may_be_the_episodes() || self.balance > 0
    }

    /// Whether it is known that failures like the last one are those episodes' own.
    pub(crate) fn of_the_episodes(&self) -> bool {
        self.may_be_the_episodes() && self.balance < 0
    }

    fn may_be_the_episodes(&self) -> bool {
        match self.last {
            Refuser::Ours | Refuser::Unreached => false,
            Refuser::Unclear => self.mixed == MIXED,
            Refuser::Between => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ship::outcome::Voucher;

    fn answer(status: u16, body: AnswerBody) -> Outcome {
        let (retry_after_s, server_date, voucher) = (None, None, Voucher::Status);
        Outcome::Answered(Answer {
            head_says: String::new(),
            status,
            body,
            retry_after_s,
            server_date,
            of_this_host: false,
            voucher,
        })
    }

    fn bare(status: u16) -> Outcome {
        answer(status, AnswerBody::Empty)
    }

    fn in_json(kind: &str) -> Outcome {
        answer(503, AnswerBody::Json(json!({ "type": kind })))
    }

    #[test]
    fn what_may_be_a_receivers_word_speaks_for_it_until_others_are_delivered_between_and_again_after_many()
     {
        for outcome in [bare(429), bare(502), in_json("about:blank")] {
            let mut signs = Signs::default();
            for too_much in [true, true, false] {
                signs.heard(&outcome, false);
                assert_eq!(signs.of_too_much(), too_much, "{outcome:?}");
                signs.delivered();
            }
            // One that had failed came through: there is not enough for all.
            signs.came_through();
            signs.heard(&outcome, false);
            assert!(signs.of_too_much(), "{outcome:?}");
            for _ in 0..2 {
                signs.delivered();
                signs.heard(&outcome, false);
                signs.failed_again();
            }
            signs.failed_again();
            assert!(!signs.of_too_much(), "{outcome:?}");
            (0..MOST_IN_A_ROW).for_each(|_| signs.heard(&outcome, false));
            assert!(
                signs.of_too_much(),
                "nothing is delivered any more: {outcome:?}"
            );
        }
    }

    #[test]
    fn behind_a_receiver_of_ours_only_its_own_words_are_its_word() {
        for (outcome, ours) in [
            (bare(429), false),
            (bare(502), false),
            (in_json("about:blank"), false),
            (in_json("urn:sealift:too-many"), true),
        ] {
            let mut signs = Signs::default();
            signs.heard(&outcome, true);
            assert_eq!(signs.of_too_much(), ours, "{outcome:?}");
        }
    }
}
