//! What is in force where the file says nothing.

use std::path::PathBuf;

use super::{
    RawConfig, RawDoctor, RawPack, RawReceive, RawReceiver, RawShipper,
    receive::{DEFAULT_LISTEN, DEFAULT_STORE, ReceiveLimits},
};
use crate::model::layout::Layout;

pub(super) const RECONCILE_S: u64 = 60;
/// Without events the reconcile pass is all there is.
pub(super) const RECONCILE_ONLY_S: u64 = 5;

pub(super) fn host_id() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

pub(super) fn pack_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

impl Default for RawShipper {
    fn default() -> Self {
        Self {
            data_dir: None,
            episodes_dir: None,
            outbox_dir: None,
            shipped_dir: None,
            quarantine_dir: None,
            watch: "auto".to_owned(),
            reconcile_interval_s: None,
            // A disk that spins up, a card that sorts its cells or an array that repairs itself may
            // take most of a minute; after two the kernel itself speaks of a hung task
            // (kernel.hung_task_timeout_secs).
            disk_timeout_s: 120,
            quarantine_keep_days: 30,
            quarantine_cleanup_interval_s: 3600,
            shipped_keep_days: 0,
            min_free_bytes: None,
            shipped_free_bytes: 0,
            host_id: None,
            metrics_listen: String::new(),
            metrics_textfile: PathBuf::new(),
            order: "oldest-first".to_owned(),
        }
    }
}

impl Default for RawPack {
    fn default() -> Self {
        Self {
            level: 3,
            workers: None,
            open_files_wait_s: 600,
        }
    }
}

impl Default for RawReceiver {
    fn default() -> Self {
        Self {
            url: None,
            headers: [].into(),
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            token_file: None,
            connect_timeout_s: 10,
            idle_timeout_s: 60,
            answer_timeout_s: 300,
            // Half of the uploads' default: a laptop's share of sockets, and enough to hide the
            // round trips.
            concurrency: 4,
            require_receipt: false,
            believe_bare_200: false,
            send_while_packing: "auto".to_owned(),
            bandwidth_limit: "0".to_owned(),
            upload_window: Vec::new(),
        }
    }
}

impl Default for RawDoctor {
    fn default() -> Self {
        Self {
            unit: "sealift.service".to_owned(),
            update_command: String::new(),
        }
    }
}

impl Default for RawReceive {
    fn default() -> Self {
        let limits = ReceiveLimits::default();
        Self {
            listen: DEFAULT_LISTEN.to_owned(),
            store: DEFAULT_STORE.into(),
            namespace: "none".to_owned(),
            tls_cert_file: None,
            tls_key_file: None,
            client_ca_file: None,
            tokens_file: None,
            readers: Vec::new(),
            anyone_may_store: false,
            commits_file: PathBuf::new(),
            remediation: String::new(),
            max_episode_bytes: 0,
            min_free_bytes: limits.min_free_bytes,
            host_quota_bytes: 0,
            parts_keep_days: limits.parts_keep_days.unwrap_or(0),
            parts_max_bytes: 0,
            max_connections: limits.max_connections.get(),
            max_connections_per_host: limits.max_connections_per_host.get(),
            min_body_rate_bytes_per_s: limits.min_body_rate_bytes_per_s,
        }
    }
}

impl RawConfig {
    /// The same with every key that has a default set to what is in force; what has none, and is
    /// not set, stays away. Nothing is checked. `reconcile_only` says whether the file system of
    /// `episodes/` makes no events that could be trusted.
    #[must_use]
    pub(crate) fn in_force(&self, reconcile_only: bool) -> Self {
        let mut all = self.clone();
        let shipper = &mut all.shipper;
        if let Some(layout) = shipper.data_dir.as_deref().map(Layout::below) {
            shipper.episodes_dir.get_or_insert(layout.episodes);
            shipper.outbox_dir.get_or_insert(layout.outbox);
            shipper.shipped_dir.get_or_insert(layout.shipped);
            shipper.quarantine_dir.get_or_insert(layout.quarantine);
        }
        let reconcile_s = match shipper.watch.as_str() {
            "reconcile-only" => RECONCILE_ONLY_S,
            "auto" if reconcile_only => RECONCILE_ONLY_S,
            _ => RECONCILE_S,
        };
        shipper.reconcile_interval_s.get_or_insert(reconcile_s);
        shipper.host_id.get_or_insert_with(host_id);
        all.pack.workers.get_or_insert_with(pack_workers);
        all
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
