//! What the entries of a unit come to. Pure.
//!
//! | class | there is |
//! |---|---|
//! | out of window | a ship that a receiver refused with 412: this host's code is too old or new |
//! | malformed | one that it refused with 400 |
//! | fatal | one that it refused otherwise, or that its own bytes speak against |
//! | transient | an attempt that failed for the weather, a hold, a refusal by what is no receiver |
//! | clean | entries, and none of the above |
//! | empty | no entry |
//!
//! The first that applies, from the top: it is the one to act on.

use super::{JournalEntry, JournalReading, Unread};

/// What the entries come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// 412.
    OutOfWindow,
    /// 400.
    Malformed,
    /// Another reason to be quarantined.
    Fatal,
    /// Tried again.
    Transient,
    /// Nothing is wrong.
    Clean,
    /// Nothing is said.
    Empty,
    /// The calling user may not read it.
    NotPermitted,
    /// It cannot be read for another reason.
    Unavailable,
}

impl Class {
    /// The word in the JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OutOfWindow => "412",
            Self::Malformed => "400",
            Self::Fatal => "fatal",
            Self::Transient => "transient",
            Self::Clean => "clean",
            Self::Empty => "empty",
            Self::NotPermitted => "not-permitted",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The journal, read and counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Journal {
    /// What it comes to.
    pub class: Class,
    /// How many entries there were.
    pub entries: usize,
    /// Ships that were refused with 412, with 400, and otherwise.
    pub out_of_window: usize,
    /// With 400.
    pub malformed: usize,
    /// Otherwise.
    pub fatal: usize,
    /// Attempts that are tried again.
    pub transient: usize,
    /// Of these: refused, and not by a receiver that takes others.
    pub refused: usize,
    /// Delivered.
    pub delivered: usize,
    /// The newest verdict is a delivery: whatever it was, it is over.
    pub works_again: bool,
    /// The newest entry of the class, as it came.
    pub newest: Option<JournalEntry>,
    /// The newest refusal by something that is no receiver, as it came.
    pub newest_refused: Option<JournalEntry>,
    /// Lines that could not be read.
    pub unreadable: usize,
    /// There was more than is read.
    pub truncated: bool,
    /// Why it cannot be read.
    pub unavailable: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventKind {
    OutOfWindow,
    Malformed,
    Fatal,
    Transient,
    Refused,
    Delivered,
    Neutral,
}

impl Journal {
    /// Counts.
    #[must_use]
    pub(crate) fn of(read: Result<JournalReading, Unread>) -> Self {
        let (reading, class, unavailable) = match read {
            Ok(reading) => (reading, None, None),
            Err(Unread::NotPermitted) => {
                (JournalReading::default(), Some(Class::NotPermitted), None)
            }
            Err(Unread::Unavailable(why)) => (
                JournalReading::default(),
                Some(Class::Unavailable),
                Some(why),
            ),
        };
        let kinds: Vec<_> = reading.entries.iter().map(kind_of).collect();
        let count = |kind: EventKind| kinds.iter().filter(|one| **one == kind).count();
        let refused = count(EventKind::Refused);
        let (out_of_window, malformed, fatal) = (
            count(EventKind::OutOfWindow),
            count(EventKind::Malformed),
            count(EventKind::Fatal),
        );
        let transient = count(EventKind::Transient) + refused;
        let class = class.unwrap_or(match (out_of_window, malformed, fatal, transient) {
            (1.., _, _, _) => Class::OutOfWindow,
            (0, 1.., _, _) => Class::Malformed,
            (0, 0, 1.., _) => Class::Fatal,
            (0, 0, 0, 1..) => Class::Transient,
            (0, 0, 0, 0) if reading.entries.is_empty() => Class::Empty,
            (0, 0, 0, 0) => Class::Clean,
        });
        let newest = |is: fn(Class, EventKind) -> bool| {
            let mut from_the_end = reading.entries.iter().zip(&kinds).rev();
            from_the_end
                .find(|(_, kind)| is(class, **kind))
                .map(|(entry, _)| entry.clone())
        };
        let last = kinds.iter().rev().find(|kind| **kind != EventKind::Neutral);
        Self {
            class,
            entries: reading.entries.len(),
            out_of_window,
            malformed,
            fatal,
            transient,
            refused,
            delivered: count(EventKind::Delivered),
            works_again: last == Some(&EventKind::Delivered),
            newest: newest(belongs),
            newest_refused: newest(|_, kind| kind == EventKind::Refused),
            unreadable: reading.unreadable,
            truncated: reading.truncated,
            unavailable,
        }
    }
}

fn belongs(class: Class, kind: EventKind) -> bool {
    match class {
        Class::OutOfWindow => kind == EventKind::OutOfWindow,
        Class::Malformed => kind == EventKind::Malformed,
        Class::Fatal => kind == EventKind::Fatal,
        Class::Transient => matches!(kind, EventKind::Transient | EventKind::Refused),
        Class::Clean => kind == EventKind::Delivered,
        Class::Empty | Class::NotPermitted | Class::Unavailable => false,
    }
}

/// By the fields; by the text where the verdict is missing.
fn kind_of(entry: &JournalEntry) -> EventKind {
    // What the service manager says of the unit is no ship.
    if entry.by_manager {
        return EventKind::Neutral;
    }
    let fatal = || match entry.status {
        Some(412) => EventKind::OutOfWindow,
        Some(400) => EventKind::Malformed,
        _ => EventKind::Fatal,
    };
    match entry.verdict.as_deref() {
        Some("fatal") => fatal(),
        Some("delivered") => EventKind::Delivered,
        Some("refused") => EventKind::Refused,
        Some("transient" | "hold" | "stuck") => EventKind::Transient,
        // A conflict has a row of its own, and a word that is not known says nothing.
        Some(_) => EventKind::Neutral,
        None if matches!(entry.status, Some(400 | 412)) => fatal(),
        // It says nothing of a verdict, and the name of its episode may say anything.
        None if entry.has_fields => EventKind::Neutral,
        None => kind_in_words(&entry.message),
    }
}

/// What an older shipper, or one that logs to stderr without fields, has said.
fn kind_in_words(message: &str) -> EventKind {
    let message = message.to_ascii_lowercase();
    if message.starts_with("shipped ") {
        return EventKind::Delivered;
    }
    if ["out-of-window", "out of window"]
        .iter()
        .any(|words| has_word(&message, words))
    {
        return EventKind::OutOfWindow;
    }
    match status_in_words(&message) {
        Some(412) => return EventKind::OutOfWindow,
        Some(400) => return EventKind::Malformed,
        Some(408 | 425 | 429 | 500..=599) => return EventKind::Transient,
        Some(_) | None => {}
    }
    if message.contains("quarantined ") {
        return EventKind::Fatal;
    }
    let weather = [
        "timed out",
        "time-out",
        "timeout",
        "connection refused",
        "connection reset",
        "unreachable",
    ];
    if weather.iter().any(|words| has_word(&message, words)) {
        EventKind::Transient
    } else {
        EventKind::Neutral
    }
}

/// By itself: the key `idle_timeout_s` is no weather, and `out-of-window-camera` an episode.
fn has_word(message: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    message.match_indices(word).any(|(at, _)| {
        !message[..at].ends_with(part) && !message[at + word.len()..].starts_with(part)
    })
}

/// An HTTP status, where the text calls it one: an episode may be called run-412.
fn status_in_words(message: &str) -> Option<u16> {
    const BEFORE: [&str; 9] = [
        "answered ",
        "answer ",
        "status ",
        "status: ",
        "status=",
        "status_code=",
        "http ",
        "http/1.1 ",
        "returned ",
    ];
    const BEHIND: [&str; 2] = [" precondition failed", " bad request"];
    (0..message.len()).find_map(|at| {
        let digits = message.get(at..at + 3)?;
        let status = digits
            .parse::<u16>()
            .ok()
            .filter(|status| (100..600).contains(status))?;
        let (before, behind) = (&message[..at], &message[at + 3..]);
        let is_one = !behind.starts_with(|c: char| c.is_ascii_alphanumeric())
            && (BEFORE.iter().any(|words| before.ends_with(words))
                || (BEHIND.iter().any(|words| behind.starts_with(words))
                    && !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-')));
        is_one.then_some(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(verdict: &str, status: Option<u16>) -> JournalEntry {
        JournalEntry {
            verdict: Some(verdict.to_owned()),
            status,
            ..JournalEntry::default()
        }
    }

    fn said(message: &str) -> JournalEntry {
        JournalEntry {
            message: message.to_owned(),
            ..JournalEntry::default()
        }
    }

    fn journal(entries: &[JournalEntry]) -> Journal {
        Journal::of(Ok(JournalReading {
            entries: entries.to_vec(),
            ..JournalReading::default()
        }))
    }

    #[test]
    fn the_class_is_that_of_the_worst_entry_and_412_comes_before_400() {
        let (window, malformed) = (entry("fatal", Some(412)), entry("fatal", Some(400)));
        let (other, weather) = (entry("fatal", None), entry("transient", Some(503)));
        let (good, refused) = (entry("delivered", Some(201)), entry("refused", Some(413)));
        for (entries, class) in [
            (vec![], Class::Empty),
            (vec![said("Listening")], Class::Clean),
            (vec![good.clone()], Class::Clean),
            (vec![weather.clone(), good.clone()], Class::Transient),
            (vec![refused.clone()], Class::Transient),
            (vec![entry("hold", Some(401))], Class::Transient),
            (vec![entry("conflict", Some(409))], Class::Clean),
            (vec![entry("dreaming", Some(412))], Class::Clean),
            (vec![weather.clone(), other.clone()], Class::Fatal),
            (vec![other.clone(), malformed.clone()], Class::Malformed),
            (
                vec![
                    malformed.clone(),
                    window.clone(),
                    malformed.clone(),
                    weather.clone(),
                ],
                Class::OutOfWindow,
            ),
            // Not by a receiver: no episode was turned away for its commit.
            (vec![entry("refused", Some(412))], Class::Transient),
        ] {
            assert_eq!(journal(&entries).class, class, "{entries:?}");
        }
        let all = journal(&[
            window.clone(),
            malformed,
            window,
            other,
            weather,
            refused,
            good,
        ]);
        assert_eq!((all.out_of_window, all.malformed, all.fatal), (2, 1, 1));
        assert_eq!((all.transient, all.refused, all.delivered), (2, 1, 1));
        assert!(all.works_again);
    }

    #[test]
    fn where_fields_are_missing_the_text_says_it() {
        for (message, class) in [
            (
                "quarantined run-1: answered 412 with \"old; run update\".",
                Class::OutOfWindow,
            ),
            ("POST failed: HTTP 412", Class::OutOfWindow),
            (
                "upload rejected: 412 Precondition Failed",
                Class::OutOfWindow,
            ),
            ("commit out-of-window", Class::OutOfWindow),
            ("status_code=400 commit missing", Class::Malformed),
            (
                "quarantined run-1: answered 400 with nothing",
                Class::Malformed,
            ),
            (
                "quarantined run-1: its manifest names a file that is not there",
                Class::Fatal,
            ),
            ("will retry: answered 503", Class::Transient),
            ("connect: connection refused", Class::Transient),
            (
                "unknown field `idle_timeout`, expected one of `idle_timeout_s`, `answer_timeout_s`",
                Class::Clean,
            ),
            ("read timeout; will retry", Class::Transient),
            ("shipped run-412, now in /d/shipped/run-412", Class::Clean),
            (
                "out-of-window-camera is sealed but not at rest",
                Class::Clean,
            ),
            ("run-412 is packed again: it has changed", Class::Clean),
            ("packed 412 files", Class::Clean),
            ("answered 4120 questions", Class::Clean),
            ("Läufe 412 Precondition Failed", Class::OutOfWindow),
        ] {
            assert_eq!(journal(&[said(message)]).class, class, "{message}");
        }
        let named = JournalEntry {
            has_fields: true,
            ..said("out-of-window is packed: answered 412, timed out")
        };
        assert_eq!(journal(&[named]).class, Class::Clean);
        let manager = JournalEntry {
            by_manager: true,
            ..said("Start operation timed out. Terminating.")
        };
        assert_eq!(journal(&[manager]).class, Class::Clean);
        let status_alone = JournalEntry {
            status: Some(412),
            ..JournalEntry::default()
        };
        assert_eq!(journal(&[status_alone]).class, Class::OutOfWindow);
    }

    #[test]
    fn what_cannot_be_read_is_no_clean_journal() {
        assert_eq!(
            Journal::of(Err(Unread::NotPermitted)).class,
            Class::NotPermitted
        );
        let none = Journal::of(Err(Unread::Unavailable("no journalctl".to_owned())));
        assert_eq!(
            (none.class, none.unavailable.as_deref()),
            (Class::Unavailable, Some("no journalctl"))
        );
    }

    #[test]
    fn the_newest_entry_of_the_class_is_the_one_that_is_shown() {
        let named = |name: &str| JournalEntry {
            episode: Some(name.to_owned()),
            ..entry("fatal", Some(412))
        };
        let found = journal(&[named("old"), named("new"), entry("fatal", Some(400))]);
        assert_eq!(found.newest.unwrap().episode.as_deref(), Some("new"));
    }
}
