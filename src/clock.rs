//! The wall clock: the one place that reads it, and whether it can be believed.

use std::{
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::records::{RELEASED, WallTime};

/// How far a receiver's `Date` may be from ours for the two to agree, seconds.
const AGREEMENT_S: u64 = 24 * 3600;

/// A program is run to ask the kernel: not more often than this.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long the answer about the kernel's clock is waited for. `timedatectl` waits far longer for a
/// bus that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the wall clock says now, right or wrong.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall_now() -> WallTime {
    let now = SystemTime::now();
    // Before 1970 it is wrong anyhow.
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    WallTime::from_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// What the clock on the wall says, seconds since midnight: by `TZ`, else /etc/localtime
/// (tzset(3)), else UTC.
pub(crate) fn local_seconds_of_day() -> u32 {
    let now = jiff::ZonedDateTime::now();
    let part = |number: i8| u32::try_from(number).unwrap_or(0);
    part(now.hour()) * 3600 + part(now.minute()) * 60 + part(now.second())
}

/// Has the local time zone read anew by all who ask from now on. The error says why there is none,
/// and UTC stands in for it.
pub(crate) fn read_time_zone() -> Result<(), String> {
    jiff::tz::reset_system_time_zone_cache();
    jiff::tz::db().reset();
    match jiff::tz::TimeZone::try_system() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// In whole milliseconds, for logs and reports.
pub(crate) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago something happened that a file system has stamped, in nanoseconds since 1970.
/// `None` where the clock was plainly wrong, then or now: before this program was released, or in
/// the future.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub(crate) fn age_of(stamp_ns: i64) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let then = Duration::from_nanos(u64::try_from(stamp_ns).ok()?);
    let released = Duration::from_secs(u64::try_from(RELEASED.unix_seconds()).ok()?);
    now.checked_sub(then).filter(|_| then >= released)
}

/// Whether ages may be counted by this clock: it is not before this program was released, and a
/// receiver's `Date` (of the same moment, and of another host: on one host both are wrong where one
/// is) agrees within a day, or the kernel says that it is synchronised.
pub(crate) fn believed(now: WallTime, server: Option<WallTime>) -> bool {
    believed_or(now, server, kernel_says_synchronised)
}

/// As [`believed`], for the stamps of many records: the kernel is asked once a minute at the most.
pub(crate) fn believed_lately(now: WallTime, server: Option<WallTime>) -> bool {
    static LAST: Mutex<Option<(Instant, bool)>> = Mutex::new(None);
    believed_or(now, server, || {
        let mut last = LAST.lock();
        match *last {
            Some((asked, answer)) if asked.elapsed() < ASKED_AGAIN_AFTER => answer,
            _ => last.insert((Instant::now(), kernel_says_synchronised())).1,
        }
    })
}

/// `synchronised` is asked only where the answer depends on it.
fn believed_or(
    now: WallTime,
    server: Option<WallTime>,
    synchronised: impl FnOnce() -> bool,
) -> bool {
    now >= RELEASED && (server.is_some_and(|server| agree(now, server)) || synchronised())
}

/// Whether two clocks agree within a day.
pub(crate) fn agree(ours: WallTime, theirs: WallTime) -> bool {
    ours.unix_seconds().abs_diff(theirs.unix_seconds()) <= AGREEMENT_S
}

/// Asks systemd-timedated, which asks the kernel (adjtimex(2)): true whichever program keeps the
/// clock (timesyncd, chrony, ntpd, PTP).
///
/// Rejected: adjtimex(2) ourselves, since no kept crate wraps it, and a unit hardened with
/// `SystemCallFilter=@system-service` or `ProtectClock=` is killed or refused for it; the file
/// /run/systemd/timesync/synchronized, which only timesyncd makes, and which stays when an operator
/// sets the clock by hand. Where there is no systemd, the answer is no, and the receiver's `Date`
/// decides.
fn kernel_says_synchronised() -> bool {
    let (answer, answered) = mpsc::channel();
    // On a thread of its own: should the bus hang, the thread ends with timedatectl's own time-out,
    // and we go on.
    thread::spawn(move || {
        let output = Command::new("timedatectl")
            .args(["show", "--property=NTPSynchronized", "--value"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        // Where this fails, the answer came too late and the caller waits no longer.
        let _ = answer.send(output.is_ok_and(|output| output.stdout.trim_ascii() == b"yes"));
    });
    answered.recv_timeout(ANSWER_WITHIN).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds_after_release: i64) -> WallTime {
        WallTime::from_unix_seconds(RELEASED.unix_seconds() + seconds_after_release)
    }

    #[test]
    fn a_receiver_that_agrees_within_a_day_is_enough() {
        assert!(believed(at(1000), Some(at(1000 + 86_400))));
        assert!(believed(at(90_000), Some(at(3600))));
        assert!(agree(at(0), at(86_400)) && !agree(at(0), at(86_401)));
        assert!(agree(at(86_400), at(0)) && !agree(at(86_401), at(0)));
    }

    #[test]
    fn a_clock_that_jumped_or_a_machine_that_slept_is_not_believed_until_somebody_agrees() {
        const DAY: i64 = 86_400;
        let believed = |now, server: Option<i64>| believed_or(at(now), server.map(at), || false);
        for (what, now, server, is_believed) in [
            ("it goes right", 100 * DAY, Some(100 * DAY), true),
            ("it jumped forward", 140 * DAY, Some(100 * DAY), false),
            ("it jumped back", 60 * DAY, Some(100 * DAY), false),
            (
                "it jumped back to before the release",
                -DAY,
                Some(100 * DAY),
                false,
            ),
            // The answer's Date goes on by the time that the process has seen, and that stood still
            // meanwhile.
            (
                "the machine slept for three days",
                103 * DAY,
                Some(100 * DAY),
                false,
            ),
            ("and the next answer came", 103 * DAY, Some(103 * DAY), true),
            ("no receiver has answered yet", 100 * DAY, None, false),
        ] {
            assert_eq!(believed(now, server), is_believed, "{what}");
        }
        assert!(believed_or(at(0), None, || true));
    }

    #[test]
    fn a_clock_from_before_the_release_is_not_believed_whoever_agrees() {
        assert!(!believed(at(-1), Some(at(-1))));
    }
}
