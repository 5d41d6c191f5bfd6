//! Why watches cannot be had, and what to type.

use std::{fs, path::Path};

use notify::{Error, ErrorKind};
use rustix::io::Errno;

use crate::{disk::tree::shown, model::text::printable};

/// Why watches cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What the kernel said, and what that means.
    pub why: String,
    /// The command that mends it, where one does.
    pub fix: Option<String>,
}

impl Trouble {
    /// Watches could be had, and would be silent about what other hosts do.
    pub(super) fn untrusted(name: &str) -> Self {
        Self {
            why: format!("events cannot be trusted on {name}"),
            fix: None,
        }
    }

    /// There is nothing to watch.
    pub(super) fn missing(episodes: &Path) -> Self {
        Self {
            why: format!("{} is not there", shown(episodes)),
            fix: None,
        }
    }

    pub(super) fn of(error: &Error) -> Self {
        let mut why = printable(&error.to_string());
        let fix = limit(error).map(|limit| {
            let (key, now) =
                limit.in_force(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
            format!("sysctl {key}={}", enough(now, limit.least))
        });
        if is_not_permitted(error) {
            why.push_str(
                ". The recorder should create its folders readable for our group: mode 2770 (docs/recorders.md, \"Permissions\")",
            );
        }
        Self { why, fix }
    }
}

/// One of inotify(7)'s limits: the machine's, and that of the user namespace that we are in (a
/// container's), which is as high unless the administrator has set it.
struct InotifyLimit {
    machine: &'static str,
    namespace: &'static str,
    /// What it should be at least.
    least: u64,
}

const WATCHES: InotifyLimit = InotifyLimit {
    machine: "fs.inotify.max_user_watches",
    namespace: "user.max_inotify_watches",
    least: 524_288,
};
const INSTANCES: InotifyLimit = InotifyLimit {
    machine: "fs.inotify.max_user_instances",
    namespace: "user.max_inotify_instances",
    least: 1024,
};

impl InotifyLimit {
    /// The one that is reached first, and what it is.
    fn in_force(&self, read: impl Fn(String) -> Option<u64>) -> (&'static str, u64) {
        let now = |key: &str| read(format!("/proc/sys/{}", key.replace('.', "/")));
        match (now(self.machine), now(self.namespace)) {
            (Some(machine), Some(namespace)) if namespace < machine => (self.namespace, namespace),
            (machine, _) => (self.machine, machine.unwrap_or(0)),
        }
    }
}

/// Which limit is used up.
fn limit(error: &Error) -> Option<InotifyLimit> {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Some(WATCHES),
        ErrorKind::Io(error) => (error.raw_os_error().map(Errno::from_raw_os_error)
            == Some(Errno::MFILE))
        .then_some(INSTANCES),
        _ => None,
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
        let read = |machine, namespace| {
            WATCHES.in_force(move |path| {
                if path.ends_with("max_user_watches") {
                    machine
                } else {
                    namespace
                }
            })
        };
        assert_eq!(read(Some(9), Some(9)), ("fs.inotify.max_user_watches", 9));
        assert_eq!(read(Some(9), Some(8)), ("user.max_inotify_watches", 8));
        assert_eq!(read(Some(9), None), ("fs.inotify.max_user_watches", 9));
        let fix = |kind| Trouble::of(&Error::new(kind)).fix;
        assert!(
            fix(ErrorKind::MaxFilesWatch)
                .unwrap()
                .starts_with("sysctl fs.inotify.max_user_watches=")
        );
        let instances = fix(ErrorKind::Io(io::Error::from_raw_os_error(24))).unwrap();
        assert!(
            instances.starts_with("sysctl fs.inotify.max_user_instances="),
            "{instances}"
        );
        assert_eq!(fix(ErrorKind::Io(io::Error::from_raw_os_error(13))), None);
    }
}
