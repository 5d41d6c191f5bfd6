//! Amounts and spans as a person reads them.

use crate::model::{episode::EpisodeId, snapshot::Slowed};

pub(super) use crate::model::text::{bytes, span};

/// "1 episode", "2 episodes".
/// At which pace uploads go, and why.
pub(in crate::operate) fn slowed(slowed: &Slowed) -> String {
    let next = match slowed.next_in_s {
        0 => "the next at once".to_owned(),
        next_in_s => format!("the next in {}", span(next_in_s)),
    };
    format!(
        "uploads go slowly after failures: {} at once, {next}",
        slowed.at_once
    )
}

pub(super) fn episodes(count: u64) -> String {
    if count == 1 {
        "1 episode".to_owned()
    } else {
        format!("{count} episodes")
    }
}

/// What a move has left where an episode stood, while no daemon runs that goes on with it.
pub(in crate::operate) fn being_removed(id: &EpisodeId) -> String {
    format!("{id}: it was copied away, and what is left of it is removed by the next start")
}

/// Archives that have no episode beside them, where no daemon runs that would look what they are.
pub(in crate::operate) fn without_episode(count: u64) -> String {
    let (archives, have, they) = match count {
        1 => (
            "1 archive".to_owned(),
            "has",
            "It may be the last copy of its episode",
        ),
        many => (
            format!("{many} archives"),
            "have",
            "Each may be the last copy of its episode",
        ),
    };
    format!(
        "{archives} in outbox/ {have} no episode beside them. {they}: the next start looks, and moves what nothing else accounts \
         for to quarantine/, with the command that restores it. Is episodes/ the right folder, and its disk mounted?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_spans_are_short() {
        for (amount, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9940, "9.9 kB"),
            (9960, "10 kB"),
            (999_600, "1.0 MB"),
            (1_340_000_000, "1.3 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(amount), shown);
        }
        for (seconds, shown) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!(
            (episodes(1), episodes(0)),
            ("1 episode".to_owned(), "0 episodes".to_owned())
        );
    }
}
