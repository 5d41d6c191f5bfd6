//! Why watches cannot be had, and what to type.

use std::fs;

use notify::{Error, ErrorKind};
use rustix::io::Errno;

use crate::episode::printable;

/// Why watches cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What the kernel said, and what that means.
    pub why: String,
    /// The command that mends it, where one does.
    pub fix: Option<String>,
}

impl Trouble {
    pub(super) fn of(error: &Error) -> Self {
        let mut why = printable(&error.to_string());
        let fix = match limit(error) {
            Some((limit, least)) => {
                let now = fs::read_to_string(format!("/proc/sys/fs/inotify/{limit}")).unwrap_or_default();
                let enough = enough(now.trim().parse().unwrap_or(0), least);
                Some(format!("sysctl fs.inotify.{limit}={enough}"))
            }
            None => None,
        };
        if is_not_permitted(error) {
            why.push_str(
                ". The recorder should create its folders readable for our group (docs/recorders.md, \"Permissions\")",
            );
        }
        Self { why, fix }
    }
}

/// Which limit is used up, and what it should be at least.
fn limit(error: &Error) -> Option<(&'static str, u64)> {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Some(("max_user_watches", 524_288)),
        ErrorKind::Io(error) => (error.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::MFILE))
            .then_some(("max_user_instances", 1024)),
        ErrorKind::Generic(_)
        | ErrorKind::PathNotFound
        | ErrorKind::WatchNotFound
        | ErrorKind::InvalidConfig(_) => None,
    }
}

fn is_not_permitted(error: &Error) -> bool {
    matches!(&error.kind, ErrorKind::Io(error)
        if error.raw_os_error().map(Errno::from_raw_os_error) == Some(Errno::ACCESS))
}

/// A limit that would do where `now` did not.
fn enough(now: u64, least: u64) -> u64 {
    now.saturating_mul(2).max(least)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_limit_that_is_named_is_more_than_there_is() {
        assert_eq!(enough(8192, 524_288), 524_288);
        assert_eq!(enough(1_048_576, 524_288), 2_097_152);
        let fix = |kind| Trouble::of(&Error::new(kind)).fix;
        assert!(fix(ErrorKind::MaxFilesWatch).unwrap().starts_with("sysctl fs.inotify.max_user_watches="));
        let instances = fix(ErrorKind::Io(io::Error::from_raw_os_error(24))).unwrap();
        assert!(instances.starts_with("sysctl fs.inotify.max_user_instances="), "{instances}");
        assert_eq!(fix(ErrorKind::Io(io::Error::from_raw_os_error(13))), None);
    }
}
