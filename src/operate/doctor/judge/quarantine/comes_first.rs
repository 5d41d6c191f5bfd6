//! What has to change, at the receiver or in the episode, before what was rejected is put back:
//! until then it is rejected again.

use crate::operate::doctor::facts::{Facts, Quarantined, ReceiverAnswer, ReceiverFacts};

/// What the receiver has just said of the commits of what was rejected for its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitsNow {
    /// It refuses one of them, or was not asked with each.
    Refused,
    /// It takes them.
    Taken,
    /// It was asked with none of them; or that is not what they were rejected for.
    Unknown,
}

/// Of those that were answered alike. Where it was asked with none of their commits, what it
/// refuses at present speaks against them.
pub(super) fn commits_now(facts: &Facts, such: &[&Quarantined]) -> CommitsNow {
    let asked = facts.receiver.as_ref().filter(|it| it.at_admission);
    let ReceiverAnswer::Answered { status, .. } = asked.map_or(&ReceiverAnswer::NotAsked, said)
    else {
        return CommitsNow::Unknown;
    };
    let mut of_commits = such.iter().filter(|one| one.is_for_its_commit).peekable();
    if of_commits.peek().is_none() {
        return CommitsNow::Unknown;
    }
    let answers: Vec<_> = of_commits.map(|one| one.is_admitted).collect();
    if answers.iter().all(Option::is_none) {
        return match status {
            400 | 412 => CommitsNow::Refused,
            _ => CommitsNow::Unknown,
        };
    }
    match answers.iter().all(|answer| *answer == Some(true)) {
        true if answers.len() == such.len() => CommitsNow::Taken,
        _ => CommitsNow::Refused,
    }
}

/// What is said where nothing has to change first.
pub(in crate::operate::doctor::judge) const TAKEN: &str =
    " The receiver takes their commit by now.";

/// Whether the receiver takes the commit of each of these now.
pub(in crate::operate::doctor::judge) fn are_taken(facts: &Facts, such: &[&Quarantined]) -> bool {
    commits_now(facts, such) == CommitsNow::Taken
}

fn said(receiver: &ReceiverFacts) -> &ReceiverAnswer {
    &receiver.said
}

/// What has to change before what was answered so is taken.
pub(super) fn comes_first(status: Option<u16>) -> &'static str {
    match status {
        Some(412) => {
            " First the receiver has to take their commit, which its operator adds to commits_file there: an update of this host \
             mends only what is recorded after it."
        }
        Some(413) => {
            " First the receiver's operator has to raise its limit (receive.max_episode_bytes there)."
        }
        Some(401 | 403) => " First the receiver has to let this host in.",
        Some(_) => {
            " First what it says has to be mended: at the receiver, by its operator, or in the episode, which is then sealed anew \
             (`sealift seal --again`)."
        }
        None => " First what is said of it has to be mended.",
    }
}

/// The same, and that the command that puts it back comes after.
pub(in crate::operate::doctor::judge) fn before_it_returns(status: Option<u16>) -> String {
    format!(
        "{} Until then it would be rejected again. Once that is done:",
        comes_first(status)
    )
}
