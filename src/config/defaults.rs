//! What is in force where the file says nothing.

use std::path::Path;

use super::{
    RawConfig, RawDoctor, RawPack, RawReceive, RawReceiver, RawShipper,
    receive::{DEFAULT_LISTEN, DEFAULT_STORE, ReceiveLimits},
};
use crate::model::layout::Layout;

pub(super) const WATCH: &str = "auto";
pub(super) const ORDER: &str = "oldest-first";
pub(super) const RECONCILE_S: u64 = 60;
/// Without events the reconcile pass is all there is.
pub(super) const RECONCILE_ONLY_S: u64 = 5;
pub(super) const QUARANTINE_KEEP_DAYS: u32 = 30;
pub(super) const CLEANUP_INTERVAL_S: u64 = 3600;
pub(super) const SHIPPED_KEEP_DAYS: u32 = 0;
pub(super) const SHIPPED_FREE_BYTES: u64 = 0;
pub(super) const LEVEL: i32 = 3;
pub(super) const OPEN_FILES_WAIT_S: u64 = 600;
pub(super) const CONNECT_TIMEOUT_S: u64 = 10;
pub(super) const IDLE_TIMEOUT_S: u64 = 60;
pub(super) const ANSWER_TIMEOUT_S: u64 = 300;
pub(super) const BANDWIDTH_LIMIT: &str = "0";
/// Half of the uploads' default: a laptop's share of sockets, and enough to hide the round trips.
pub(super) const CONCURRENCY: usize = 4;

pub(super) const UNIT: &str = "sealift.service";

pub(super) fn host_id() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

pub(super) fn pack_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

impl RawConfig {
    /// The same with every key that has a default set to what is in force; what has none, and is
    /// not set, stays away. Nothing is checked. `reconcile_only` says whether the file system of
    /// `episodes/` makes no events that could be trusted.
    #[must_use]
    pub(crate) fn in_force(&self, reconcile_only: bool) -> Self {
        let Self {
            shipper,
            pack,
            receiver,
            doctor,
            receive,
        } = self.clone();
        let layout = shipper.data_dir.as_deref().map(Layout::below);
        let below =
            |folder: fn(&Layout) -> &Path| layout.as_ref().map(|layout| folder(layout).to_owned());
        let watch = shipper.watch.unwrap_or_else(|| WATCH.to_owned());
        let only_looks = watch == "reconcile-only" || (watch == WATCH && reconcile_only);
        let reconcile_s = if only_looks {
            RECONCILE_ONLY_S
        } else {
            RECONCILE_S
        };
        let limits = ReceiveLimits::default();
        Self {
            shipper: RawShipper {
                episodes_dir: shipper
                    .episodes_dir
                    .or_else(|| below(|layout| &layout.episodes)),
                outbox_dir: shipper
                    .outbox_dir
                    .or_else(|| below(|layout| &layout.outbox)),
                shipped_dir: shipper
                    .shipped_dir
                    .or_else(|| below(|layout| &layout.shipped)),
                quarantine_dir: shipper
                    .quarantine_dir
                    .or_else(|| below(|layout| &layout.quarantine)),
                data_dir: shipper.data_dir,
                watch: Some(watch),
                reconcile_interval_s: shipper.reconcile_interval_s.or(Some(reconcile_s)),
                quarantine_keep_days: shipper.quarantine_keep_days.or(Some(QUARANTINE_KEEP_DAYS)),
                quarantine_cleanup_interval_s: shipper
                    .quarantine_cleanup_interval_s
                    .or(Some(CLEANUP_INTERVAL_S)),
                shipped_keep_days: shipper.shipped_keep_days.or(Some(SHIPPED_KEEP_DAYS)),
                // Its default follows from the file system's size.
                min_free_bytes: shipper.min_free_bytes,
                shipped_free_bytes: shipper.shipped_free_bytes.or(Some(SHIPPED_FREE_BYTES)),
                host_id: shipper.host_id.or_else(|| Some(host_id())),
                metrics_listen: shipper.metrics_listen.or_else(|| Some(String::new())),
                metrics_textfile: shipper.metrics_textfile.or_else(|| Some("".into())),
                order: shipper.order.or_else(|| Some(ORDER.to_owned())),
            },
            pack: RawPack {
                level: pack.level.or(Some(LEVEL)),
                workers: pack.workers.or_else(|| Some(pack_workers())),
                open_files_wait_s: pack.open_files_wait_s.or(Some(OPEN_FILES_WAIT_S)),
            },
            receiver: RawReceiver {
                connect_timeout_s: receiver.connect_timeout_s.or(Some(CONNECT_TIMEOUT_S)),
                idle_timeout_s: receiver.idle_timeout_s.or(Some(IDLE_TIMEOUT_S)),
                answer_timeout_s: receiver.answer_timeout_s.or(Some(ANSWER_TIMEOUT_S)),
                concurrency: receiver.concurrency.or(Some(CONCURRENCY)),
                require_receipt: receiver.require_receipt.or(Some(false)),
                believe_bare_200: receiver.believe_bare_200.or(Some(false)),
                bandwidth_limit: receiver
                    .bandwidth_limit
                    .or_else(|| Some(BANDWIDTH_LIMIT.to_owned())),
                ..receiver
            },
            doctor: RawDoctor {
                unit: doctor.unit.or_else(|| Some(UNIT.to_owned())),
                update_command: doctor.update_command.or_else(|| Some(String::new())),
            },
            receive: RawReceive {
                listen: receive.listen.or_else(|| Some(DEFAULT_LISTEN.to_owned())),
                store: receive.store.or_else(|| Some(DEFAULT_STORE.into())),
                namespace: receive.namespace.or_else(|| Some("none".to_owned())),
                anyone_may_store: receive.anyone_may_store.or(Some(false)),
                commits_file: receive.commits_file.or_else(|| Some("".into())),
                remediation: receive.remediation.or_else(|| Some(String::new())),
                max_episode_bytes: receive.max_episode_bytes.or(Some(0)),
                min_free_bytes: receive.min_free_bytes.or(Some(limits.min_free_bytes)),
                host_quota_bytes: receive.host_quota_bytes.or(Some(0)),
                parts_keep_days: receive.parts_keep_days.or(limits.parts_keep_days),
                parts_max_bytes: receive.parts_max_bytes.or(Some(0)),
                max_connections: receive
                    .max_connections
                    .or(Some(limits.max_connections.get())),
                max_connections_per_host: receive
                    .max_connections_per_host
                    .or(Some(limits.max_connections_per_host.get())),
                min_body_rate_bytes_per_s: receive
                    .min_body_rate_bytes_per_s
                    .or(Some(limits.min_body_rate_bytes_per_s)),
                ..receive
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SAMPLE, raw};

    const LEAST: &str = "[shipper]\ndata_dir = '/d'\n[receiver]\nurl = 'http://r'\n";

    #[test]
    fn what_is_in_force_is_what_runs() {
        for text in [
            LEAST,
            SAMPLE,
            &format!("{LEAST}concurrency = 9\n[receive]\nparts_keep_days = 0"),
        ] {
            let set = raw::parse(text).unwrap();
            let in_force = set.in_force(false);
            let (set_ship, ship) = (set.ship().unwrap(), in_force.ship().unwrap());
            assert_eq!(
                set_ship.reconcile_interval(false),
                ship.reconcile_interval(false)
            );
            let ship = super::super::ShipConfig {
                reconcile_interval: set_ship.reconcile_interval,
                ..ship
            };
            assert_eq!(format!("{ship:?}"), format!("{set_ship:?}"));
            assert_eq!(set.receive().unwrap(), in_force.receive().unwrap());
            let shown = toml::to_string(&in_force).unwrap();
            assert_eq!(
                toml::to_string(&raw::parse(&shown).unwrap().in_force(true)).unwrap(),
                shown
            );
        }
    }

    #[test]
    fn every_key_that_has_a_default_is_shown() {
        let shown = toml::to_string(&raw::parse(LEAST).unwrap().in_force(false)).unwrap();
        let keys = SAMPLE
            .lines()
            .filter_map(|line| line.trim_start_matches("# ").split_once(" = "));
        let keys: Vec<_> = keys
            .map(|(key, _)| key)
            .filter(|key| !key.contains(' '))
            .collect();
        assert!(keys.len() > 30, "{keys:?}");
        let none = ["headers", "readers", "upload_window"];
        for key in keys.iter().filter(|key| **key != "commits_file") {
            let has_none = none.contains(key) || key.ends_with("_file");
            let is_shown = shown
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")));
            assert_eq!(is_shown, !has_none, "{key}: {shown}");
        }
    }

    #[test]
    fn the_reconcile_interval_in_force_is_that_of_the_watch_mode() {
        for (watch, network, seconds) in [
            ("auto", false, 60),
            ("auto", true, 5),
            ("inotify", true, 60),
            ("reconcile-only", false, 5),
        ] {
            let raw = raw::parse(&format!("[shipper]\nwatch = '{watch}'")).unwrap();
            assert_eq!(
                raw.in_force(network).shipper.reconcile_interval_s,
                Some(seconds),
                "{watch} {network}"
            );
        }
    }
}
