//! The wall clock, and whether it can be believed. The one place that reads it.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::records::WallTime;

/// No clock of a host that runs this program can rightly show an earlier time: the day this version was released.
pub const RELEASED: WallTime = WallTime::from_unix_seconds(1_793_491_200); // 2026-11-01T00:00:00Z

/// How far apart our clock and a receiver's may be for each to vouch for the other, seconds.
const AGREEMENT_S: i64 = 86_400;

/// Made by systemd-timesyncd once the clock was set from the network (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Now, to the second.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Whether anything may be deleted by this clock: the system says that it is synchronised, or a receiver's `Date`
/// agrees within a day. A clock that stands before this program was built is wrong whatever anybody says.
#[must_use]
pub fn believed(now: WallTime, receivers: Option<WallTime>) -> bool {
    let agrees = |theirs: WallTime| now.unix_seconds().abs_diff(theirs.unix_seconds()) <= AGREEMENT_S as u64;
    now >= RELEASED && (receivers.is_some_and(agrees) || kernel_says_synchronised())
}

/// adjtimex(2) is the kernel's word, and needs unsafe code or a crate for one flag; timedated(8)'s services leave the
/// same word as a file. chrony and ntpd keep their own.
fn kernel_says_synchronised() -> bool {
    [SYNCHRONISED, "/run/chrony/chronyd.pid", "/run/ntpd.pid"].iter().any(|path| Path::new(path).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_release_is_not_believed_whoever_agrees() {
        let past = WallTime::from_unix_seconds(0);
        assert!(!believed(past, Some(past)));
    }

    #[test]
    fn a_receiver_that_agrees_within_a_day_vouches_for_the_clock() {
        let now = WallTime::from_unix_seconds(RELEASED.unix_seconds() + 1_000_000);
        let at = |offset| Some(WallTime::from_unix_seconds(now.unix_seconds() + offset));
        assert!(believed(now, at(80_000)));
        assert!(believed(now, at(-80_000)));
    }
}
