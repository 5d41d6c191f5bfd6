//! What a rejection comes to, by what is known of the address.

use std::{collections::BTreeSet, time::Duration};

use super::{CircuitBreaker, FAULT_PROBE, Jitter};
use crate::{
    model::episode::EpisodeId,
    ship::machine::destination::verdict::{Speaker, Verdict},
};

/// So many different episodes that are rejected alike, and none delivered between, are no fault of
/// theirs. Promised in docs/architecture.md: "held where three different episodes are rejected".
const REJECTED_ALIKE: usize = 3;

/// What is known of the address that is sent to now, as far as a rejection is judged by it.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    /// It has taken an episode.
    pub(crate) delivered: bool,
    /// A receiver of ours answers there.
    pub(crate) ours: bool,
    /// How the last ones were rejected, and which, since the last delivery.
    pub(crate) alike: Option<(Option<u16>, String)>,
    pub(crate) by: Vec<EpisodeId>,
    /// Rejected before it has taken any: they wait until it has.
    waiting: BTreeSet<EpisodeId>,
}

impl CircuitBreaker {
    /// A receiver of ours answers here.
    pub fn is_ours(&mut self) {
        self.rejections.ours = true;
    }

    /// The receiver is another one: nothing of this is known of that.
    pub fn is_elsewhere(&mut self) {
        self.rejections = Rejections::default();
        self.signs = super::Signs::default();
    }

    /// What was rejected before anything was delivered here, now that something was.
    pub fn take_waiting(&mut self) -> BTreeSet<EpisodeId> {
        std::mem::take(&mut self.rejections.waiting)
    }

    /// What a rejection comes to. Gateways reject in JSON too, and whatever is sent: so where a
    /// receiver of ours answers, only its own words count; elsewhere one is the episode's own only
    /// where others were taken; and three alike with none taken between are no episode's own. What
    /// stays a rejection is not acted on: the destination is held, or the episode waits for a
    /// delivery.
    pub fn weigh(
        &mut self,
        id: &EpisodeId,
        verdict: Verdict,
        require_receipt: bool,
        now: Duration,
        jitter: &mut Jitter,
    ) -> Verdict {
        let Verdict::Rejected(mut why, speaker) = verdict else {
            return verdict;
        };
        let known = &mut self.rejections;
        let acts = match speaker {
            Speaker::Ours => true,
            Speaker::Another if require_receipt || known.ours => {
                why.detail += ", which is not how a receiver of ours rejects an episode";
                return Verdict::Refused(why);
            }
            Speaker::Another => known.delivered,
        };
        if !acts {
            why.detail += "; nothing was delivered there since the start, so it is not held against the episode yet";
        }
        // A receiver of ours means what it says; whatever words another has for each, all are
        // rejected.
        let words = match speaker {
            Speaker::Ours => {
                let kind = why
                    .body
                    .get("type")
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or_default();
                (why.status, kind.to_owned())
            }
            Speaker::Another => (None, String::new()),
        };
        if known.alike.as_ref() != Some(&words) {
            known.alike = Some(words);
            known.by.clear();
        }
        if known.by.len() < REJECTED_ALIKE && !known.by.contains(id) {
            known.by.push(id.clone());
        }
        if !acts {
            known.waiting.insert(id.clone());
        }
        let many = known.by.len() >= REJECTED_ALIKE;
        if many || (self.hold.is_some() && !acts) {
            if many {
                why.detail = format!(
                    "three different episodes in a row are rejected, and none is taken: {}",
                    why.detail
                );
            }
            self.hold_for(id, &why, FAULT_PROBE, None, now)
                .failed(id, &why, now, jitter);
        } else if acts && why.status == Some(409) {
            return Verdict::Conflict(why);
        } else if acts {
            return Verdict::Fatal(why);
        }
        Verdict::Rejected(why, speaker)
    }
}
