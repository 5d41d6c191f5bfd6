//! How much of an archive a receiver may have kept, and whether going on from there leads anywhere.

use crate::ship::{
    machine::limits::{ENOUGH, LEAST_BYTES, SMALL_BYTES, SOME},
    outcome::{Attempt, Outcome},
};

/// So often in a row it is tried to go on where that leads nowhere, before the whole is sent
/// instead.
const MOST_IN_VAIN: u8 = ENOUGH;
/// And so often where what is kept is not small: that is worth waiting for. Promised in
/// docs/transport.md: "twenty times where more than 16 MiB are kept".
const MOST_IN_VAIN_FOR_MUCH: u8 = 20;

/// What a receiver may have kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Resume {
    /// The most that it had kept when it was asked, bytes; `None` where nothing was sent yet, by
    /// this process or by one before it.
    kept_bytes: Option<u64>,
    vain: Vain,
}

/// Attempts in a row that led nowhere.
#[derive(Debug, Clone, Copy, Default)]
struct Vain {
    /// The receiver could not say what it has kept.
    asked: u8,
    /// It went on from where the one before did, and no receiver said what is wrong.
    stood_still: u8,
    /// It went on hardly behind that.
    crept: u8,
}

impl Resume {
    /// Something of it may have been sent before.
    pub(super) fn may_be_kept(&mut self) {
        self.kept_bytes.get_or_insert(0);
    }

    /// What was kept is not of this archive.
    pub(super) fn packed_anew(&mut self) {
        self.kept_bytes = self.kept_bytes.map(|_| 0);
    }

    /// Whether the receiver is to be asked first what it has kept. Not where that has led nowhere,
    /// again and again: something on the way may let no HEAD or no PATCH through, and a PUT from
    /// the first byte may arrive.
    pub(super) fn asks_first(&mut self) -> bool {
        let most = if self.kept_bytes.unwrap_or(0) <= SMALL_BYTES {
            MOST_IN_VAIN
        } else {
            MOST_IN_VAIN_FOR_MUCH
        };
        if self.vain.asked.max(self.vain.stood_still) >= most {
            self.vain = Vain::default();
            return false;
        }
        self.kept_bytes.is_some()
    }

    /// Notes how far an attempt got. True where the one before it had moved something: then the
    /// line works, however often it drops.
    pub(super) fn went_on(&mut self, attempt: &Attempt) -> bool {
        if attempt.sent {
            self.may_be_kept();
        }
        self.vain.asked = if attempt.asked_in_vain {
            self.vain.asked.saturating_add(1)
        } else {
            0
        };
        let at_bytes = attempt.resumed_at_bytes;
        if at_bytes == 0 {
            // It was not asked, could not be asked, or has thrown it away.
            if attempt.sent {
                self.packed_anew();
            }
            return false;
        }
        let before = self.kept_bytes.unwrap_or(0);
        let after = before.max(at_bytes);
        self.kept_bytes = Some(after);
        match after - before {
            // A receiver says what is wrong there: its disk is full, say.
            0 => {
                let is_told = match &attempt.outcome {
                    Outcome::Answered(answer) => {
                        answer.status == 507 || answer.problem_type().is_some()
                    }
                    Outcome::Failed(_) => false,
                };
                let unanswered = u8::from(!is_told);
                self.vain.stood_still = self.vain.stood_still.saturating_add(unanswered);
            }
            // What adds less each time could go on all but for ever.
            LEAST_BYTES.. => self.vain = Vain::default(),
            1.. => {
                self.vain.stood_still = 0;
                self.vain.crept = self.vain.crept.saturating_add(1);
            }
        }
        after > before && u32::from(self.vain.crept) <= SOME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::machine::tests::lost;

    fn attempt(resumed_at_bytes: u64, asked_in_vain: bool) -> Attempt {
        Attempt {
            resumed_at_bytes,
            asked_in_vain,
            ..Outcome::Failed(lost()).into()
        }
    }

    #[test]
    fn a_receiver_is_asked_once_something_was_sent_and_not_where_that_led_nowhere_three_times() {
        let mut resume = Resume::default();
        assert!(!resume.asks_first());
        resume.went_on(&attempt(0, false));
        for _ in 0..MOST_IN_VAIN {
            assert!(resume.asks_first());
            resume.went_on(&attempt(0, true));
        }
        assert!(!resume.asks_first(), "the whole is sent for once");
        assert!(resume.asks_first());
    }

    #[test]
    fn an_attempt_that_gets_further_has_moved_and_one_that_creeps_does_so_only_for_a_while() {
        let mut resume = Resume::default();
        assert!(resume.went_on(&attempt(LEAST_BYTES, false)));
        assert!(!resume.went_on(&attempt(LEAST_BYTES, false)));
        let creeps = |n: u32| LEAST_BYTES + u64::from(n);
        for n in 1..=SOME {
            assert!(resume.went_on(&attempt(creeps(n), false)), "{n}");
        }
        assert!(!resume.went_on(&attempt(creeps(SOME + 1), false)));
    }

    #[test]
    fn what_is_packed_anew_begins_at_the_first_byte_and_is_asked_after_all_the_same() {
        let mut resume = Resume::default();
        resume.went_on(&attempt(1 << 40, false));
        resume.packed_anew();
        assert_eq!(resume.kept_bytes, Some(0));
        assert!(resume.asks_first());
    }
}
