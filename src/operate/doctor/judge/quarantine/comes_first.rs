//! What has to change, at the receiver or in the episode, before what was rejected is put back:
//! until then it is rejected again.

use crate::operate::doctor::facts::{AskedCommit, Facts, FiledEpisodes, ReceiverAnswer};

/// What the receiver has just said of the commits of what was rejected for its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitsNow {
    /// It refuses the commit that it was asked with.
    Refused,
    /// It takes the commit of one that it has rejected for that.
    Taken,
    /// It was asked of something else, or not at all; or that is not what they were rejected for.
    Unknown,
}

pub(super) fn commits_now(facts: &Facts, aside: &FiledEpisodes, status: u16) -> CommitsNow {
    let asked = facts.receiver.as_ref();
    let asked = asked.filter(|it| it.at_admission && matches!(status, 400 | 412));
    let Some(receiver) = asked else {
        return CommitsNow::Unknown;
    };
    let ReceiverAnswer::Answered {
        status: answered, ..
    } = receiver.said
    else {
        return CommitsNow::Unknown;
    };
    let is_of_one = match &receiver.commit {
        AskedCommit::Last(id, _) => aside
            .quarantined
            .iter()
            .any(|one| one.status == Some(status) && one.name == id.as_str()),
        _ => false,
    };
    match answered {
        400 | 412 => CommitsNow::Refused,
        204 if is_of_one && status == 412 => CommitsNow::Taken,
        _ => CommitsNow::Unknown,
    }
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
