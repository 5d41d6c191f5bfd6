//! The machine's notices, as lines for a person: what happened, to which episode, what will happen
//! next, what to type.
//!
//! The fields in capitals are what a program that reads the journal goes by: `EPISODE`, `VERDICT`,
//! `STATUS_CODE`, `BYTES`, `ELAPSED_MS`; for its timeline also `SEEN_MS`, `PACKED_MS`,
//! `DELIVERED_MS`, `ATTEMPT`, `OFFSET_BYTES` (snapshot.rs). An episode that is delivered at the
//! first try is one line, so what its steps took stands on that one.

use std::{collections::HashMap, path::Path, time::Duration};

use tracing::{debug, error, info, warn};

use crate::{
    clock::{self, milliseconds},
    model::{
        episode::EpisodeId,
        records::holds_other_content,
        text::{self, shell_word},
    },
    ship::machine::{Notice, destination::upload_window::Pace},
};

/// A probe that fails so soon after the first refusal says nothing new: uploads were under way
/// beside each other.
const HELD_JUST_NOW: Duration = Duration::from_secs(1);

/// Tells, and remembers since when each episode is sealed, for the time it took.
#[derive(Debug)]
pub(crate) struct Teller {
    ways: HashMap<EpisodeId, Way>,
    held_at: Option<Duration>,
    /// What is left undone now is not tried again by this process.
    last_try: bool,
}

/// What was seen of an episode on its way. `at` is by the machine's time; the marker had stood for
/// `age` by then: from before we began, perhaps.
#[derive(Debug, Clone, Copy)]
struct Way {
    at: Duration,
    age: Duration,
    packed: Option<Duration>,
    delivered: Option<Duration>,
    attempts: u32,
    /// From where the last one went on.
    offset_bytes: u64,
}

impl Way {
    fn begun(at: Duration, age: Duration) -> Self {
        Self {
            at,
            age,
            packed: None,
            delivered: None,
            attempts: 0,
            offset_bytes: 0,
        }
    }

    fn age(&self, now: Duration) -> Duration {
        self.age + now.saturating_sub(self.at)
    }
}

/// The same as fields. What is not known is left out.
#[derive(Debug, Clone, Copy, Default)]
struct LogFields {
    seen_ms: Option<u64>,
    packed_ms: Option<u64>,
    delivered_ms: Option<u64>,
    elapsed_ms: u64,
    attempt: Option<u32>,
    offset_bytes: Option<u64>,
}

impl LogFields {
    fn of(way: &Way, now: Duration) -> Self {
        Self {
            seen_ms: Some(milliseconds(way.age)),
            packed_ms: way.packed.map(milliseconds),
            delivered_ms: way.delivered.map(milliseconds),
            elapsed_ms: milliseconds(way.age(now)),
            attempt: Some(way.attempts).filter(|attempts| *attempts > 0),
            offset_bytes: Some(way.offset_bytes).filter(|bytes| *bytes > 0),
        }
    }
}

impl Teller {
    /// One for a daemon; or for one pass, which tries everything once.
    #[must_use]
    pub(crate) fn new(once: bool) -> Self {
        Self {
            ways: HashMap::new(),
            held_at: None,
            last_try: once,
        }
    }

    /// From now on what is left undone is left to the next start.
    pub(crate) fn stopping(&mut self) {
        self.last_try = true;
    }

    /// An attempt came back that had gone on from this byte. To be heard before the notices about
    /// it are told.
    pub(crate) fn attempted(&mut self, id: &EpisodeId, resumed_at_bytes: u64) {
        if let Some(way) = self.ways.get_mut(id) {
            way.attempts = way.attempts.saturating_add(1);
            way.offset_bytes = resumed_at_bytes;
        }
    }

    /// Logs one notice. `now` is the machine's time.
    pub(crate) fn tell(&mut self, notice: &Notice, now: Duration) {
        match notice {
            Notice::Sealed(id, stamp) => {
                // Since it was made, or changed: its mtime may have come along with a copied file.
                let age = clock::age_of(stamp.made_ns).unwrap_or_default();
                self.ways.insert(id.clone(), Way::begun(now, age));
                debug!(EPISODE = %id, "sealed");
            }
            Notice::OddMarker(id, what) => warn!(
                EPISODE = %id,
                "{id} is not sealed: its done.marker is {what}. done.marker must be a regular file: remove it, and create it \
                 anew when the episode is complete (sealift seal does)."
            ),
            Notice::Packed(id, facts) => {
                if let Some(way) = self.ways.get_mut(id) {
                    way.packed = Some(way.age(now));
                }
                debug!(EPISODE = %id, BYTES = facts.size_bytes, "packed");
            }
            Notice::Delivered(id, facts, status) => {
                if let Some(way) = self.ways.get_mut(id) {
                    way.delivered = Some(way.age(now));
                }
                debug!(EPISODE = %id, STATUS_CODE = status, BYTES = facts.size_bytes, "delivered");
            }
            Notice::Retired(id, facts, status, path) => {
                let marks = self.end(id, now);
                info!(
                    EPISODE = %id, VERDICT = "delivered", STATUS_CODE = status, BYTES = facts.size_bytes,
                    SEEN_MS = marks.seen_ms, PACKED_MS = marks.packed_ms, DELIVERED_MS = marks.delivered_ms,
                    ELAPSED_MS = marks.elapsed_ms, ATTEMPT = marks.attempt, OFFSET_BYTES = marks.offset_bytes,
                    "shipped {id}, now in {}", path.display()
                );
            }
            Notice::Quarantined(id, reason, path) => {
                let marks = self.end(id, now);
                error!(
                    EPISODE = %id, VERDICT = reason.verdict, STATUS_CODE = reason.status,
                    SEEN_MS = marks.seen_ms, PACKED_MS = marks.packed_ms, ELAPSED_MS = marks.elapsed_ms,
                    ATTEMPT = marks.attempt, OFFSET_BYTES = marks.offset_bytes,
                    "quarantined {id}: {}. It is in {} with the reason beside it.", reason.error, path.display()
                );
            }
            Notice::Retrying(id, refusal, wait) => warn!(
                EPISODE = %id, VERDICT = "transient", STATUS_CODE = refusal.status, ATTEMPT = self.marks(id, now).attempt,
                OFFSET_BYTES = self.marks(id, now).offset_bytes, ELAPSED_MS = self.marks(id, now).elapsed_ms,
                "{id} was not delivered: {}. It stays and is sent again {}.", refusal.detail, self.when(*wait)
            ),
            Notice::RefusedAlone(id, refusal, wait) => warn!(
                EPISODE = %id, VERDICT = "refused", STATUS_CODE = refusal.status, ATTEMPT = self.marks(id, now).attempt,
                OFFSET_BYTES = self.marks(id, now).offset_bytes, ELAPSED_MS = self.marks(id, now).elapsed_ms,
                "{id} is refused while others are not, or not by a receiver: {}. It stays and is sent again {}. Look at \
                 what stands between here and the receiver.", refusal.detail, self.when(*wait)
            ),
            Notice::Conflict(id, refusal) => error!(
                EPISODE = %id, VERDICT = "conflict", STATUS_CODE = refusal.status, ATTEMPT = self.marks(id, now).attempt,
                OFFSET_BYTES = self.marks(id, now).offset_bytes, ELAPSED_MS = self.marks(id, now).elapsed_ms,
                "{id}: {}: {}. It stays in episodes/ and is not sent again \
                 until it changes. Compare the two, then rename the episode's folder (it is shipped under the new name) or \
                 remove it. Its archive in outbox/ is put away by itself then: removed after a renaming, moved to \
                 quarantine/ after a removal.{}",
                holds_other_content(refusal.status), refusal.detail, once_put_aside(id, refusal.status)
            ),
            Notice::Held(refusal) => {
                self.held_at = Some(now);
                error!(
                    VERDICT = "hold",
                    STATUS_CODE = refusal.status,
                    "The receiver cannot be used: {}. Nothing is moved and nothing is lost; one episode at a time is \
                     tried until it works.",
                    refusal.detail
                );
            }
            Notice::StillHeld(refusal, wait) if self.held_just_now(now) => {
                debug!(
                    STATUS_CODE = refusal.status,
                    "refused as well: {}; next try in {wait:?}", refusal.detail
                );
            }
            Notice::StillHeld(refusal, wait) => warn!(
                VERDICT = "hold",
                STATUS_CODE = refusal.status,
                "The receiver still cannot be used: {}. The next try is {}, or sooner with one that was not tried yet.",
                refusal.detail,
                self.when(*wait)
            ),
            Notice::Cleared(after) => info!("The receiver works again, after {}.", span(*after)),
            Notice::StillChanging(id, what, wait) => warn!(
                EPISODE = %id,
                "{id} is sealed but not at rest: {what}. It is looked at again {}. Its recorder should \
                 create done.marker last.", self.when(*wait)
            ),
            Notice::OpenFile(id, what, wait) => warn!(
                EPISODE = %id,
                "{id} is sealed, and not complete: {what}. It stays in episodes/, and is looked at again {}. It is packed when the \
                 file is closed (and unmapped). Its recorder should close every file before it creates done.marker.",
                self.when(*wait)
            ),
            Notice::OpenFileAccepted(id, what, waited) => error!(
                EPISODE = %id,
                "{id} is shipped as it is: {what}, after {} still. What is written to it from now on may be missing from what is \
                 delivered. The receipt names the file (open_files). Who writes there should close it before done.marker is made.",
                span(*waited)
            ),
            Notice::OpenFileBeforeMove {
                id,
                is_delivered,
                what,
                pause,
            } => warn!(
                EPISODE = %id,
                "{id} is {}, and is not moved yet: {what}. It would have to be copied, and what is written to that file afterwards \
                 would be lost. It stays in episodes/, and is looked at again {}. It is moved when the file is closed (and \
                 unmapped); where something was written, it is sent once more.",
                if *is_delivered { "delivered" } else { "rejected" },
                self.when(*pause)
            ),
            Notice::LeftBehind { id, what, pause } => warn!(
                EPISODE = %id,
                "{id} is moved by a copy, and what is left of it in episodes/ is not removed yet: {what}. It is looked at again {}, and \
                 removed when the file is closed (and unmapped); where something was written to it, it stays.",
                self.when(*pause)
            ),
            Notice::Stuck(id, why, wait) => error!(
                EPISODE = %id, VERDICT = "stuck",
                "{id} cannot go on: {why}. It stays where it is and is tried again {}.", self.when(*wait)
            ),
            Notice::PackingPaused(why, wait) => error!(
                "Packing pauses, and is tried again {}: {why}. Episodes stay where they are; uploads go on.",
                self.when(*wait)
            ),
            Notice::OutboxFull(why, wait) => error!(
                "The outbox is full: {why}. Nothing is written there for {}. Episodes stay where they are and are sent without a \
                 copy in the outbox, each read once more for every try; uploads go on.",
                span(*wait)
            ),
            Notice::NoRoom(id, why) => info!(
                EPISODE = %id, "{id} is sent without a copy in the outbox, and read once more for every try: {why}"
            ),
            Notice::PackedAgain(id, why) => info!(EPISODE = %id, "{id} is packed again: {why}."),
            Notice::DeliveredAndGone(id) => {
                self.ways.remove(id);
                warn!(
                    EPISODE = %id, VERDICT = "delivered",
                    "{id} is stored by the receiver, but another process took it out of episodes/ before it could be moved."
                );
            }
            Notice::StampsMove(id) => error!(
                EPISODE = %id, VERDICT = "stuck", "{}", crate::model::snapshot::stamps_move(&id.to_string())
            ),
            Notice::Pace(Pace::Free) => info!("Uploads go as fast as they can from now on."),
            Notice::Pace(Pace::AtMost(limit)) => {
                info!(
                    "Uploads go at {} at most from now on, all together.",
                    rate(limit.get())
                );
            }
            Notice::Pace(Pace::Closed(until)) => info!(
                "Outside the upload window until {until}: nothing new is sent, and what is under way stands still. Nothing is \
                 lost; to send now, change receiver.upload_window and reload."
            ),
            Notice::ClockDoubted(since) => warn!(
                "Nothing is removed from quarantine/ and shipped/: for {} this machine's clock has not been synchronised, nor has \
                 it agreed with the receiver's (one on this very host does not count). Type: sudo timedatectl set-ntp true",
                span(*since)
            ),
            Notice::Vanished(id) => {
                self.ways.remove(id);
                warn!(EPISODE = %id, "{id} was taken out of episodes/ by another process. It is not shipped.");
            }
        }
    }

    /// How long an episode that was just delivered had been sealed, where its marker was seen.
    pub(crate) fn age_in(&self, notice: &Notice, now: Duration) -> Option<Duration> {
        let Notice::Delivered(id, ..) = notice else {
            return None;
        };
        self.ways.get(id).map(|way| way.age(now))
    }

    /// When it is tried again.
    fn when(&self, wait: Duration) -> String {
        if self.last_try {
            "at the next start".to_owned()
        } else {
            format!("in {}", span(wait))
        }
    }

    fn held_just_now(&self, now: Duration) -> bool {
        self.held_at
            .is_some_and(|at| now.saturating_sub(at) < HELD_JUST_NOW)
    }

    fn marks(&self, id: &EpisodeId, now: Duration) -> LogFields {
        self.ways
            .get(id)
            .map(|way| LogFields::of(way, now))
            .unwrap_or_default()
    }

    /// It has left `episodes/`.
    fn end(&mut self, id: &EpisodeId, now: Duration) -> LogFields {
        self.ways
            .remove(id)
            .map(|way| LogFields::of(&way, now))
            .unwrap_or_default()
    }
}

/// What mends a conflict at the receiver. Where a length was all that spoke for one, that mends
/// nothing: what was delivered before is remembered here.
fn once_put_aside(id: &EpisodeId, status: Option<u16>) -> String {
    if status != Some(409) {
        return String::new();
    }
    let id = shell_word(Path::new(id.as_str()));
    format!(" Once the receiver's operator has put theirs aside: sealift requeue {id}")
}

/// Bytes a second, for a person.
fn rate(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB/s", bytes / 1_000),
        _ => format!("{}.{} MB/s", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// A wait as a person says it.
fn span(wait: Duration) -> String {
    match wait.as_secs() {
        0 => format!("{} ms", wait.as_millis()),
        seconds => text::span(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_and_a_daemon_that_stops_promise_nothing_that_only_the_next_start_can_keep() {
        let wait = Duration::from_millis(230);
        let mut daemon = Teller::new(false);
        assert_eq!(daemon.when(wait), "in 230 ms");
        daemon.stopping();
        assert_eq!(daemon.when(wait), "at the next start");
        assert_eq!(Teller::new(true).when(wait), "at the next start");
    }

    #[test]
    fn at_a_hold_the_uploads_beside_the_first_say_nothing_new() {
        let refusal = crate::ship::machine::destination::verdict::Refusal {
            status: Some(503),
            detail: "answered 503 with nothing".to_owned(),
            body: serde_json::Value::Null,
        };
        let mut teller = Teller::new(false);
        let at = Duration::from_secs(100);
        assert!(!teller.held_just_now(at));
        teller.tell(&Notice::Held(refusal), at);
        assert!(teller.held_just_now(at + Duration::from_millis(999)));
        assert!(!teller.held_just_now(at + HELD_JUST_NOW));
    }
}
