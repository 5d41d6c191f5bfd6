//! The way to the receiver and back: who answers an attempt, and with what.

use serde_json::Value;

use super::{
    disk::{Archive, Stored, facts},
    plan::{Poison, draw_bad_outcome},
    world::World,
};
use crate::{
    model::{
        episode::EpisodeId,
        records::WallTime,
        wire::{Problem, ProblemType, Receipt},
    },
    ship::outcome::{Answer, AnswerBody, Fault, Outcome, Phase, Voucher},
};

impl World {
    pub(super) fn attempt(&mut self, id: &EpisodeId, archive: &Archive) -> Outcome {
        let outage = self
            .plan
            .outages
            .iter()
            .find(|outage| outage.from <= self.now && self.now < outage.until);
        if let Some(outage) = outage.filter(|_| !self.calm()) {
            return outage.outcome.clone();
        }
        match self.plan.poison.get(id) {
            Some(Poison::Met(outcome)) => return outcome.clone(),
            Some(Poison::Corrupted) => return mismatch(),
            Some(Poison::Rejected(status)) => {
                self.rejected.insert((id.clone(), *status));
                return answer(
                    *status,
                    problem(match *status {
                        400 => ProblemType::CommitMissing,
                        412 => ProblemType::CommitOutOfWindow,
                        _ => ProblemType::TooLarge,
                    }),
                );
            }
            Some(
                Poison::WrongManifest
                | Poison::UnfinishedManifest
                | Poison::Taken
                | Poison::Unreadable
                | Poison::TooLarge
                | Poison::Immovable
                | Poison::NeverStill,
            )
            | None => {}
        }
        if !self.calm() && self.dice.chance(self.plan.bad_answers) {
            match self.dice.below(8) {
                // The receiver has it, and the shipper does not hear of it.
                0 | 1 if !archive.damaged => {
                    self.receiver.take(id, archive.content);
                    let lost = Fault::Lost("reset".into());
                    return Outcome::Failed(
                        self.dice
                            .pick(&[&lost, &Fault::TimedOut(Phase::Answer)])
                            .clone(),
                    );
                }
                2 => return mismatch(),
                3 => return Outcome::Failed(Fault::Archive("EIO".into())),
                _ => return draw_bad_outcome(&mut self.dice),
            }
        }
        self.receive(id, archive)
    }

    fn receive(&mut self, id: &EpisodeId, archive: &Archive) -> Outcome {
        if archive.damaged {
            return mismatch();
        }
        let status = match self.receiver.take(id, archive.content) {
            Stored::New => 201,
            Stored::Already => 200,
            Stored::Conflict => return answer(409, problem(ProblemType::Conflict)),
        };
        // A receiver that is not ours says less.
        if !self.plan.settings.require_receipt && self.dice.chance(20) {
            return answer(204, AnswerBody::Empty);
        }
        let facts = facts(archive.content);
        let receipt = Receipt {
            episode_id: id.clone(),
            sha256: facts.sha256,
            content_sha256: None,
            size_bytes: facts.size_bytes,
            stored_at: WallTime::from_unix_seconds(0),
            host: None,
        };
        answer(
            status,
            AnswerBody::Json(serde_json::to_value(receipt).unwrap_or(Value::Null)),
        )
    }
}

fn mismatch() -> Outcome {
    answer(400, problem(ProblemType::DigestMismatch))
}

fn problem(kind: ProblemType) -> AnswerBody {
    AnswerBody::Json(Problem::new(kind, "so it is").to_json())
}

fn answer(status: u16, body: AnswerBody) -> Outcome {
    Outcome::Answered(Answer {
        head_says: String::new(),
        status,
        body,
        retry_after_s: None,
        server_date: None,
        of_this_host: false,
        voucher: Voucher::Status,
    })
}
