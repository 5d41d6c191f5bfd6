//! What a running shipper can take up when its configuration is read again, and what not.

use std::{path::Path, time::Duration};

use super::{ReceiverConfig, ShipConfig};

impl ShipConfig {
    /// The keys in which `other` differs from this, and that only a restart applies: where the
    /// folders are, which are locked, watched and compared with what is known of them, how they are
    /// watched, and where metrics go.
    pub(crate) fn restart_for(&self, other: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (&self.layout, &other.layout);
        // `.sealift` is always in data_dir.
        let (our_data, their_data) = (ours.private.parent(), theirs.private.parent());
        let mut keys = Vec::new();
        if our_data != their_data {
            keys.push("shipper.data_dir");
        }
        for (key, our_folder, their_folder) in [
            ("shipper.episodes_dir", &ours.episodes, &theirs.episodes),
            ("shipper.outbox_dir", &ours.outbox, &theirs.outbox),
            ("shipper.shipped_dir", &ours.shipped, &theirs.shipped),
            (
                "shipper.quarantine_dir",
                &ours.quarantine,
                &theirs.quarantine,
            ),
        ] {
            // One that has moved along with data_dir is no news of its own.
            let moved_along = inside(our_folder, our_data).is_some()
                && inside(our_folder, our_data) == inside(their_folder, their_data);
            if our_folder != their_folder && !moved_along {
                keys.push(key);
            }
        }
        if self.watch != other.watch {
            keys.push("shipper.watch");
        }
        if self.metrics_listen != other.metrics_listen {
            keys.push("shipper.metrics_listen");
        }
        if self.metrics_textfile != other.metrics_textfile {
            keys.push("shipper.metrics_textfile");
        }
        keys
    }
}

fn inside<'a>(folder: &'a Path, data_dir: Option<&Path>) -> Option<&'a Path> {
    folder.strip_prefix(data_dir?).ok()
}

impl ReceiverConfig {
    /// The longest that a delivery attempt waits for one thing.
    pub fn longest_wait(&self) -> Duration {
        self.connect_timeout
            .max(self.idle_timeout)
            .max(self.answer_timeout)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{ShipConfig, raw};

    fn ship(shipper: &str) -> ShipConfig {
        raw::parse(&format!(
            "[shipper]\n{shipper}\n[receiver]\nurl = 'http://r'"
        ))
        .unwrap()
        .ship()
        .unwrap()
    }

    #[test]
    fn only_folders_and_the_way_of_watching_need_a_restart() {
        let running = ship("data_dir = '/d'");
        for (shipper, keys) in [
            ("data_dir = '/d'", &[][..]),
            (
                "data_dir = '/d'\nreconcile_interval_s = 7\nquarantine_keep_days = 1\nhost_id = 'x'",
                &[],
            ),
            ("data_dir = '/e'", &["shipper.data_dir"]),
            (
                "data_dir = '/d'\nshipped_dir = '/s'",
                &["shipper.shipped_dir"],
            ),
            // It stays where it was, and the others go.
            (
                "data_dir = '/e'\nshipped_dir = '/d/shipped'",
                &["shipper.data_dir"],
            ),
            (
                "data_dir = '/e'\nshipped_dir = '/s'",
                &["shipper.data_dir", "shipper.shipped_dir"],
            ),
            ("data_dir = '/d'\nwatch = 'inotify'", &["shipper.watch"]),
            (
                "data_dir = '/d'\nmetrics_listen = '127.0.0.1:1'",
                &["shipper.metrics_listen"],
            ),
            (
                "data_dir = '/d'\nmetrics_textfile = '/m'",
                &["shipper.metrics_textfile"],
            ),
        ] {
            assert_eq!(running.restart_for(&ship(shipper)), keys, "{shipper}");
        }
    }

    #[test]
    fn the_longest_wait_is_the_longest_of_the_time_outs() {
        let config = ship("data_dir = '/d'").receiver;
        assert_eq!(config.longest_wait().as_secs(), 300);
    }
}
