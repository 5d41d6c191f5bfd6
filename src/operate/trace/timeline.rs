//! What is known of an episode, put in the order of time. Pure.
//!
//! An entry of the journal has its own time to the microsecond, and how long after the marker each
//! step was: so the one line of an episode that went well is its whole way. The records beside an
//! episode know a second. They stand for what no entry tells: where both tell the same, the entry
//! is taken.

use super::TraceFinding;
use crate::{
    model::{
        episode::{EpisodeId, FolderLook, Stamp},
        records::WallTime,
        text::without_query,
    },
    operate::journal::JournalEntry,
};

/// A record and an entry that are no further apart speak of one thing, microseconds.
const SAME_US: i64 = 3_000_000;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// The marker was made.
    Sealed,
    /// The shipper saw it.
    Seen,
    /// Its archive was made.
    Packed,
    /// It was sent, and not taken.
    Attempt,
    /// A receiver has it.
    Delivered,
    /// It moved to `shipped/`.
    Shipped,
    /// It moved to `quarantine/`.
    Quarantined,
    /// Something else was said of it.
    Said,
}

impl StepKind {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Seen => "seen",
            Self::Packed => "packed",
            Self::Attempt => "attempt",
            Self::Delivered => "delivered",
            Self::Shipped => "shipped",
            Self::Quarantined => "quarantined",
            Self::Said => "said",
        }
    }
}

/// One step of its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimelineStep {
    /// When, microseconds after 1970; `None` where that is not known.
    pub at_us: Option<i64>,
    /// Known to the millisecond, and not only to the second.
    pub exact: bool,
    /// How long after the step before it, milliseconds, where both are exact.
    pub after_ms: Option<i64>,
    /// What.
    pub kind: StepKind,
    /// More of it, as it came: not printable yet.
    pub detail: String,
}

impl TimelineStep {
    fn new(at_us: Option<i64>, exact: bool, kind: StepKind, detail: impl Into<String>) -> Self {
        Self {
            at_us,
            exact,
            after_ms: None,
            kind,
            detail: detail.into(),
        }
    }

    fn exact(at_us: i64, kind: StepKind, detail: impl Into<String>) -> Self {
        Self::new(Some(at_us), true, kind, detail)
    }

    fn at_second(at: WallTime, kind: StepKind, detail: impl Into<String>) -> Self {
        let at_us = at.unix_seconds().saturating_mul(1_000_000);
        Self::new(Some(at_us), false, kind, detail)
    }

    /// A second's end, for what is known to the second only: what caused it came before.
    fn order(&self) -> i64 {
        match (self.at_us, self.exact) {
            (Some(at), true) => at,
            (Some(at), false) => at.saturating_add(999_999),
            (None, _) => i64::MAX,
        }
    }
}

pub(super) fn of(
    id: &EpisodeId,
    entries: &[JournalEntry],
    found: &[TraceFinding],
) -> Vec<TimelineStep> {
    let mut steps: Vec<TimelineStep> = Vec::new();
    for entry in entries.iter().filter(|entry| {
        entry
            .episode
            .as_deref()
            .is_none_or(|of| of == id.to_string())
    }) {
        for step in of_entry(entry) {
            push(&mut steps, step);
        }
    }
    for step in found.iter().flat_map(of_found) {
        push(&mut steps, step);
    }
    steps.sort_by_key(TimelineStep::order);
    for n in 1..steps.len() {
        let (before, this) = (&steps[n - 1], &steps[n]);
        if let (true, Some(then), true, Some(now)) =
            (before.exact, before.at_us, this.exact, this.at_us)
        {
            steps[n].after_ms = Some((now - then) / 1000);
        }
    }
    steps
}

/// What is there already, told by something better, is not told again.
fn push(steps: &mut Vec<TimelineStep>, step: TimelineStep) {
    let near = |other: &TimelineStep| {
        other
            .at_us
            .zip(step.at_us)
            .is_none_or(|(a, b)| a.abs_diff(b) <= SAME_US.unsigned_abs())
    };
    let told = match step.kind {
        StepKind::Sealed
        | StepKind::Packed
        | StepKind::Delivered
        | StepKind::Shipped
        | StepKind::Quarantined => steps
            .iter()
            .any(|other| other.kind == step.kind && near(other)),
        StepKind::Seen | StepKind::Attempt | StepKind::Said => false,
    };
    if !told {
        steps.push(step);
    }
}

fn of_entry(entry: &JournalEntry) -> Vec<TimelineStep> {
    let Some(at) = entry.at_us.and_then(|at| i64::try_from(at).ok()) else {
        let said = TimelineStep::new(None, false, StepKind::Said, &entry.message);
        return vec![said];
    };
    let end = match entry.verdict.as_deref() {
        Some("delivered") => StepKind::Shipped,
        Some("fatal") => StepKind::Quarantined,
        Some("transient" | "refused" | "conflict") => {
            let detail = format!("{}{}", number(entry), entry.message);
            return vec![TimelineStep::exact(at, StepKind::Attempt, detail)];
        }
        _ => {
            return vec![TimelineStep::exact(at, StepKind::Said, &entry.message)];
        }
    };
    let mut steps = Vec::new();
    if let Some(elapsed) = entry.elapsed_ms.and_then(microseconds) {
        let sealed = at.saturating_sub(elapsed);
        let after = |ms: Option<u64>| {
            ms.and_then(microseconds)
                .map(|after| sealed.saturating_add(after))
        };
        steps.push(TimelineStep::exact(sealed, StepKind::Sealed, ""));
        steps.extend(after(entry.seen_ms).map(|at| TimelineStep::exact(at, StepKind::Seen, "")));
        let bytes = entry
            .bytes
            .map_or_else(String::new, |bytes| format!("{bytes} bytes"));
        steps.extend(
            after(entry.packed_ms).map(|at| TimelineStep::exact(at, StepKind::Packed, bytes)),
        );
        let answer = entry
            .status
            .map_or_else(String::new, |status| format!("{status}  "));
        let delivered = after(entry.delivered_ms);
        let detail = format!("{answer}{}", number(entry));
        steps.extend(delivered.map(|at| TimelineStep::exact(at, StepKind::Delivered, detail)));
    }
    steps.push(TimelineStep::exact(at, end, entry.message.clone()));
    steps
}

fn microseconds(ms: u64) -> Option<i64> {
    i64::try_from(ms).ok()?.checked_mul(1000)
}

/// Which attempt, and from where.
fn number(entry: &JournalEntry) -> String {
    match (entry.attempt, entry.offset_bytes) {
        (Some(attempt), Some(bytes)) => format!("attempt {attempt}, from byte {bytes}  "),
        (Some(attempt), None) => format!("attempt {attempt}  "),
        (None, Some(bytes)) => format!("from byte {bytes}  "),
        (None, None) => String::new(),
    }
}

fn of_found(found: &TraceFinding) -> Vec<TimelineStep> {
    match found {
        TraceFinding::Episode(_, FolderLook::Sealed(stamp)) => vec![sealed(*stamp)],
        TraceFinding::Episode(..) | TraceFinding::Archive { partial: true, .. } => Vec::new(),
        TraceFinding::Archive {
            size_bytes,
            written_us,
            sidecar,
            ..
        } => {
            let mut steps = vec![TimelineStep::exact(
                *written_us,
                StepKind::Packed,
                format!("{size_bytes} bytes"),
            )];
            if let Some(conflict) = sidecar.as_ref().and_then(|sidecar| sidecar.conflict()) {
                let detail = format!("{}  {}", conflict.status_code, conflict.detail);
                steps.push(TimelineStep::at_second(
                    conflict.at_wall,
                    StepKind::Attempt,
                    detail,
                ));
            }
            steps
        }
        TraceFinding::Quarantined(_, stamp, reason) => {
            let mut steps: Vec<_> = stamp.map(sealed).into_iter().collect();
            if let Some(reason) = reason {
                let status = reason
                    .status_code
                    .map_or_else(String::new, |status| format!("{status}  "));
                let detail = format!("{status}{}", reason.error.as_deref().unwrap_or_default());
                steps.push(match reason.quarantined_at_wall {
                    Some(at) => TimelineStep::at_second(at, StepKind::Quarantined, detail),
                    None => TimelineStep {
                        at_us: None,
                        exact: false,
                        after_ms: None,
                        kind: StepKind::Quarantined,
                        detail,
                    },
                });
            }
            steps
        }
        TraceFinding::Shipped { stamp, receipt, .. } => {
            let mut steps: Vec<_> = stamp.map(sealed).into_iter().collect();
            steps.extend(receipt.as_ref().map(|receipt| {
                let detail = format!(
                    "{}  to {}",
                    receipt.status_code,
                    without_query(&receipt.receiver)
                );
                TimelineStep::at_second(receipt.delivered_at_wall, StepKind::Delivered, detail)
            }));
            steps
        }
    }
}

/// When the marker was made; its mtime where that is older: a copy to another file system is made
/// anew, and keeps the mtime.
fn sealed(stamp: Stamp) -> TimelineStep {
    TimelineStep::exact(
        stamp.made_ns.min(stamp.sealed_ns) / 1000,
        StepKind::Sealed,
        "",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::records::QuarantineReason;

    const T: u64 = 1_793_500_000_000_000;

    fn id() -> EpisodeId {
        EpisodeId::parse("a").unwrap()
    }

    fn told(steps: &[TimelineStep]) -> Vec<(&'static str, Option<i64>, &str)> {
        steps
            .iter()
            .map(|step| (step.kind.as_str(), step.after_ms, step.detail.as_str()))
            .collect()
    }

    fn entry(after_ms: u64, verdict: &str) -> JournalEntry {
        JournalEntry {
            at_us: Some(T + after_ms * 1000),
            episode: Some("a".to_owned()),
            verdict: Some(verdict.to_owned()),
            elapsed_ms: Some(after_ms),
            message: format!("it is {verdict}"),
            ..JournalEntry::default()
        }
    }

    #[test]
    fn the_one_line_of_an_episode_that_went_well_is_its_whole_way() {
        let line = JournalEntry {
            seen_ms: Some(2),
            packed_ms: Some(30),
            delivered_ms: Some(95),
            bytes: Some(1000),
            status: Some(201),
            attempt: Some(1),
            ..entry(100, "delivered")
        };
        let steps = of(&id(), &[line], &[]);
        assert_eq!(
            told(&steps),
            [
                ("sealed", None, ""),
                ("seen", Some(2), ""),
                ("packed", Some(28), "1000 bytes"),
                ("delivered", Some(65), "201  attempt 1  "),
                ("shipped", Some(5), "it is delivered"),
            ]
        );
        assert_eq!(steps[0].at_us, Some(i64::try_from(T).unwrap()));
    }

    #[test]
    fn attempts_stand_between_and_what_a_record_says_again_is_not_told_twice() {
        let reason = |seconds: i64| QuarantineReason {
            episode_id: Some("a".to_owned()),
            status_code: Some(412),
            error: Some("too old".to_owned()),
            body: serde_json::Value::Null,
            verdict: None,
            quarantined_at_wall: Some(WallTime::from_unix_seconds(seconds)),
            aging: None,
        };
        let second = i64::try_from(T / 1_000_000).unwrap();
        let weather = JournalEntry {
            attempt: Some(1),
            offset_bytes: Some(512),
            ..entry(20, "transient")
        };
        let journal = [weather, entry(1500, "fatal")];
        let quarantined = |seconds| {
            [TraceFinding::Quarantined(
                "q/a".into(),
                None,
                Some(Box::new(reason(seconds))),
            )]
        };
        let same = of(&id(), &journal, &quarantined(second + 1));
        assert_eq!(
            told(&same),
            [
                ("sealed", None, ""),
                (
                    "attempt",
                    Some(20),
                    "attempt 1, from byte 512  it is transient"
                ),
                ("quarantined", Some(1480), "it is fatal"),
            ]
        );
        // A year ago it was another one, and of that there is only the record.
        let other = of(&id(), &journal, &quarantined(second - 31_536_000));
        assert_eq!(told(&other)[0], ("quarantined", None, "412  too old"));
        assert_eq!(told(&other).len(), 4);
        assert_eq!(
            told(&of(&id(), &[], &quarantined(second))),
            [("quarantined", None, "412  too old")]
        );
    }

    #[test]
    fn what_is_known_to_the_second_comes_behind_what_caused_it() {
        let stamp = Stamp {
            sealed_ns: 1_793_500_000_700_000_000,
            inodes: (1, 2),
            made_ns: i64::MAX,
            written_ns: 0,
        };
        let steps = of(
            &id(),
            &[],
            &[
                TraceFinding::Quarantined("q/a".into(), Some(stamp), None),
                TraceFinding::Archive {
                    path: "o/a".into(),
                    size_bytes: 10,
                    written_us: 1_793_500_000_900_000,
                    partial: false,
                    sidecar: None,
                },
            ],
        );
        assert_eq!(
            told(&steps),
            [("sealed", None, ""), ("packed", Some(200), "10 bytes")]
        );
        assert_eq!(
            TimelineStep::at_second(WallTime::from_unix_seconds(5), StepKind::Said, "").order(),
            5_999_999
        );
    }

    #[test]
    fn entries_of_another_episode_and_times_that_are_none_harm_nothing() {
        let other = JournalEntry {
            episode: Some("b".to_owned()),
            ..entry(1, "fatal")
        };
        let absurd = JournalEntry {
            at_us: Some(u64::MAX),
            elapsed_ms: Some(u64::MAX),
            ..entry(1, "delivered")
        };
        let huge = JournalEntry {
            elapsed_ms: Some(u64::MAX),
            seen_ms: Some(u64::MAX),
            ..entry(1, "delivered")
        };
        let steps = of(&id(), &[other, absurd, huge], &[]);
        assert_eq!(
            told(&steps),
            [
                ("shipped", None, "it is delivered"),
                ("said", None, "it is delivered")
            ]
        );
    }
}
