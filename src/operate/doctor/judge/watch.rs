//! `watch-mode` and `inotify`.

use crate::{
    config::WatchMode,
    operate::doctor::{
        facts::{Facts, FolderState, InotifyLimits},
        row::{DoctorRow, Id},
    },
};

/// A limit that would do where the present one does not.
const ENOUGH_WATCHES: u64 = 524_288;
/// As many instances as a kernel allows by default these days, times some.
const ENOUGH_INSTANCES: u64 = 1024;
/// Other programs of the same user want some as well.
const LEAST_INSTANCES: u64 = 8;

pub(super) fn rows(facts: &Facts) -> Vec<DoctorRow> {
    let mut rows = Vec::new();
    rows.extend(mode(facts));
    rows.extend(facts.inotify.map(|inotify| limits(facts, inotify)));
    rows
}

pub(in crate::operate::doctor) fn mode(facts: &Facts) -> Option<DoctorRow> {
    let id = Id::WatchMode;
    let episodes = facts
        .folders
        .iter()
        .find(|folder| folder.name == "episodes")?;
    let FolderState::There { shared, .. } = &episodes.state else {
        return None;
    };
    Some(match (facts.settings.watch?, *shared) {
        (WatchMode::Inotify, Some(kind)) => {
            let summary = format!(
                "{} is on {kind}, where the kernel says nothing of what other hosts write, and watch is set to \"inotify\": what they \
                 record is found by the slow pass alone. Set watch = \"auto\".",
                episodes.path.display()
            );
            DoctorRow::yellow(id, summary, facts.hands.configure("restart"))
                .with("file_system", kind)
        }
        (WatchMode::Auto, Some(kind)) => DoctorRow::green(
            id,
            format!("Looks every few seconds, as it must on {kind}."),
        )
        .with("file_system", kind),
        (WatchMode::ReconcileOnly, _) => {
            DoctorRow::green(id, "Looks every few seconds: that is the setting.")
        }
        (WatchMode::Auto | WatchMode::Inotify, None) => {
            DoctorRow::green(id, "Is woken by the kernel.")
        }
    })
}

fn limits(facts: &Facts, inotify: InotifyLimits) -> DoctorRow {
    let (id, hands) = (Id::Inotify, &facts.hands);
    let InotifyLimits {
        max_watches,
        max_namespace_watches,
        max_instances,
        max_namespace_instances,
        needed_watches,
    } = inotify;
    // That of the user namespace (a container's) is as high as the machine's unless it has been
    // set.
    let lower = |machine: u64, namespace: Option<u64>, keys: [&'static str; 2]| match namespace {
        Some(namespace) if namespace < machine => (namespace, keys[1]),
        _ => (machine, keys[0]),
    };
    let watches = ["fs.inotify.max_user_watches", "user.max_inotify_watches"];
    let (max, key) = lower(max_watches, max_namespace_watches, watches);
    let instances = [
        "fs.inotify.max_user_instances",
        "user.max_inotify_instances",
    ];
    let (max_instances, instances_key) = lower(max_instances, max_namespace_instances, instances);
    let row = if needed_watches > max {
        let enough = needed_watches.saturating_mul(2).max(ENOUGH_WATCHES);
        let summary = format!(
            "{needed_watches} watches are needed for the open episodes, and a user may have {max} ({key}): new episodes are \
             found some seconds late."
        );
        DoctorRow::yellow(
            id,
            summary,
            hands.as_root(&format!("sysctl {key}={enough}")),
        )
    } else if max_instances < LEAST_INSTANCES {
        let summary =
            format!("A user may watch with {max_instances} programs only ({instances_key}).");
        DoctorRow::yellow(
            id,
            summary,
            hands.as_root(&format!("sysctl {instances_key}={ENOUGH_INSTANCES}")),
        )
    } else {
        DoctorRow::green(
            id,
            format!("{needed_watches} watches are needed, and a user may have {max}."),
        )
    };
    row.with("needed_watches", needed_watches)
        .with("max_watches", max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::{facts::Owned, judge::healthy_host::sound, row::RowStatus};

    #[test]
    fn events_are_not_relied_on_where_other_hosts_write() {
        for (watch, shared, status) in [
            (WatchMode::Auto, None, RowStatus::Green),
            (WatchMode::Auto, Some("NFS"), RowStatus::Green),
            (WatchMode::ReconcileOnly, Some("NFS"), RowStatus::Green),
            (WatchMode::Inotify, None, RowStatus::Green),
            (WatchMode::Inotify, Some("NFS"), RowStatus::Yellow),
        ] {
            let mut facts = sound();
            facts.settings.watch = Some(watch);
            let owned = Owned {
                uid: 10,
                gid: 20,
                mode: 0o2770,
                listed: false,
            };
            facts.folders[0].state = FolderState::There {
                owned,
                shared,
                read_only: false,
            };
            let row = mode(&facts).unwrap();
            assert_eq!(row.status, status, "{row:?}");
        }
    }

    #[test]
    fn the_limit_that_is_too_low_is_named_with_a_number_that_will_do() {
        let enough = InotifyLimits {
            max_watches: 9000,
            max_namespace_watches: Some(9000),
            max_instances: 128,
            max_namespace_instances: Some(128),
            needed_watches: 9000,
        };
        for (inotify, fix) in [
            (enough, None),
            (
                InotifyLimits {
                    needed_watches: 9001,
                    ..enough
                },
                Some("sysctl fs.inotify.max_user_watches=524288"),
            ),
            (
                InotifyLimits {
                    max_namespace_watches: Some(1),
                    ..enough
                },
                Some("sysctl user.max_inotify_watches=524288"),
            ),
            (
                InotifyLimits {
                    needed_watches: 400_000,
                    ..enough
                },
                Some("sysctl fs.inotify.max_user_watches=800000"),
            ),
            (
                InotifyLimits {
                    max_instances: 1,
                    ..enough
                },
                Some("sysctl fs.inotify.max_user_instances=1024"),
            ),
            (
                InotifyLimits {
                    max_namespace_instances: Some(1),
                    ..enough
                },
                Some("sysctl user.max_inotify_instances=1024"),
            ),
        ] {
            let row = limits(&sound(), inotify);
            assert_eq!(row.fix.as_deref(), fix, "{row:?}");
        }
    }
}
