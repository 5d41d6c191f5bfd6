//! What failures in bad weather say: that the destination has too much to do, or that something is wrong with those episodes.
//!
//! One that was turned away for want of room is delivered when it comes again; one with which something is wrong is turned away
//! again, while others are delivered. That tells with what something in between answers, with a page, and with a connection that is
//! lost; as long as neither has been seen, it is taken for the episode's. What may be a receiver's word speaks for the destination.

use super::verdict::is_ours;
use crate::ship::outcome::{Answer, AnswerBody, Fault, Outcome, Phase};

/// So many failures later it is forgotten that one came through: those with which something is wrong never do, and where there is not
/// enough for all, many fail for each that does.
const MOST: i8 = 3;

/// Who has turned one away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Speaker {
    /// A receiver of ours, in its own words.
    Ours,
    /// What may be a receiver; or nothing has.
    #[default]
    Unclear,
    /// Something in between, for all that is known.
    Between,
}

/// What has been seen of late.
#[derive(Debug, Default)]
pub(super) struct Signs {
    last: Speaker,
    /// As many as can be when one was delivered that had failed; less by each failure since that says otherwise.
    balance: i8,
}

impl Signs {
    /// How an attempt ended.
    pub(super) fn heard(&mut self, outcome: &Outcome) {
        self.last = match outcome {
            Outcome::Answered(Answer { status: 200..300, .. }) => return,
            Outcome::Answered(_) if is_ours(outcome) => Speaker::Ours,
            Outcome::Answered(Answer { body: AnswerBody::Foreign { .. }, .. }) => Speaker::Between,
            Outcome::Answered(Answer { status, .. }) => match status {
                408 | 425 | 429 | 500.. => Speaker::Unclear,
                _ => Speaker::Between,
            },
            Outcome::Failed(fault) => match fault {
                Fault::Lost(_) | Fault::TimedOut(Phase::Idle) => Speaker::Between,
                Fault::UnknownName(_)
                | Fault::Unreachable(_)
                | Fault::Tls(_)
                | Fault::TimedOut(Phase::Connect | Phase::Answer)
                | Fault::Request(_)
                | Fault::Stale(_)
                | Fault::Archive(_)
                | Fault::Cancelled => Speaker::Unclear,
            },
        };
    }

    /// One that had failed was delivered.
    pub(super) fn came_through(&mut self) {
        self.balance = MOST;
    }

    /// One that had failed has failed again, and others were delivered between.
    pub(super) fn failed_again(&mut self) {
        self.balance = (self.balance - 1).max(-MOST);
    }

    /// One has failed that was not tried before.
    pub(super) fn failed_at_first(&mut self) {
        if self.last == Speaker::Between && self.balance > 0 {
            self.balance -= 1;
        }
    }

    /// Whether the last failure speaks for a destination that has too much to do.
    pub(super) fn of_too_much(&self) -> bool {
        match self.last {
            Speaker::Ours | Speaker::Unclear => true,
            Speaker::Between => self.balance > 0,
        }
    }

    /// Whether it is known that failures like the last one are those episodes' own.
    pub(super) fn of_the_episodes(&self) -> bool {
        self.last == Speaker::Between && self.balance < 0
    }
}
