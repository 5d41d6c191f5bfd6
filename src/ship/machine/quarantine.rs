//! What is rejected, or is at fault itself, leaves for `quarantine/`.

use std::time::Duration;

use serde_json::Value;

use super::{
    Effect, Notice,
    queue::Machine,
    state::{AfterRest, Moved, Reason, State},
};
use crate::model::episode::{EpisodeId, Fingerprint};

impl Machine {
    pub(super) fn own_fault(&mut self, id: &EpisodeId, error: String, fingerprint: Fingerprint) {
        let reason = Reason {
            status: None,
            error,
            body: Value::Null,
            verdict: "fatal",
            fingerprint,
            content_sha256: None,
        };
        self.quarantine(id, Box::new(reason));
    }

    pub(super) fn quarantine(&mut self, id: &EpisodeId, reason: Box<Reason>) {
        let keeping = self.episodes.get(id).is_some_and(|episode| episode.keeping);
        if !keeping {
            self.on_disk(Effect::Quarantine {
                id: id.clone(),
                reason: (*reason).clone(),
            });
        }
        self.enter(id, State::Quarantining(reason));
    }

    pub(super) fn quarantined(&mut self, id: &EpisodeId, moved: Moved, now: Duration) {
        let Some(episode) = self.episodes.get_mut(id) else {
            return;
        };
        let State::Quarantining(reason) = std::mem::replace(&mut episode.state, State::Sealed)
        else {
            return;
        };
        match moved {
            Moved::To(ref path) | Moved::Leaving(ref path) => {
                self.tally.fatal += 1;
                self.tell(Notice::Quarantined(id.clone(), *reason, path.clone()));
                if matches!(moved, Moved::Leaving(_)) {
                    self.finish(id);
                } else {
                    self.forget_unless_back(id);
                }
            }
            Moved::Gone => {
                self.discard_scratch(id);
                self.vanished(id);
                self.forget_unless_back(id);
            }
            Moved::Open { what, .. } => {
                self.found_open_file_before_move(id, AfterRest::Quarantine(reason), what, now);
            }
            Moved::Changed => {
                episode.waits_anew_for_open_files();
                self.settle(id, "it is not what was judged any more".to_owned(), now);
            }
            // What is removed for room makes none in quarantine/.
            Moved::Failed(why) | Moved::NoRoom { why, .. } => {
                self.stuck(id, AfterRest::Quarantine(reason), why, now);
            }
            Moved::CannotHold(why) => {
                self.stuck_for_long(id, AfterRest::Quarantine(reason), why, now);
            }
        }
    }
}
