//! What the operator set: `RawConfig` is the file as it is written, `Config` is what it means.
//! Validated once, here; no code behind this file meets a zero that cannot be, or a name that is
//! not there.

mod absolute;
mod defaults;
mod doctor;
mod folders;
pub(crate) mod key_files;
mod loopback;
mod raw;
mod receive;
mod restart;
mod uploads;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use self::doctor::DoctorConfig;
pub(crate) use self::raw::{RawConfig, RawDoctor, RawPack, RawReceive, RawReceiver, RawShipper};
pub use self::receive::{Namespace, ReceiveConfig, ReceiveLimits};
pub(crate) use self::uploads::{QueueOrder, UploadWindow};

use crate::model::{layout::Layout, wire::SendWhilePacking};

/// Where the configuration is looked for when neither an option nor the variable names it.
pub(crate) const DEFAULT_FILE: &str = "/etc/sealift/sealift.toml";
/// The variable that names it.
pub(crate) const FILE_VARIABLE: &str = "SEALIFT_CONFIG";
/// A commented file in which everything stands at its default.
pub(crate) const SAMPLE: &str = include_str!("../contrib/sealift.toml");

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("Failed to read the configuration {path}: {why}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why. Part of the sentence, and so no cause behind it.
        why: std::io::Error,
    },
    /// The file is not TOML, or has a key or a type that does not belong there. Shows the line.
    #[error("The configuration {path} is wrong:\n{message}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// The line, a caret under what is wrong, and what would be right.
        message: String,
    },
    /// A value that cannot be.
    #[error("{key}: {message}")]
    Value {
        /// `table.key`
        key: &'static str,
        /// What is wrong with it, and what would be right.
        message: String,
    },
}

/// How new episodes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchMode {
    /// By inotify, unless the file system says that events cannot be trusted.
    Auto,
    /// By inotify.
    Inotify,
    /// By the reconcile pass alone; nothing of inotify is touched.
    ReconcileOnly,
}

/// The shipper's half.
#[derive(Debug, Clone)]
pub(crate) struct ShipConfig {
    /// The folders.
    pub layout: Layout,
    /// How episodes are noticed.
    pub watch: WatchMode,
    /// How long between two reconcile passes; `None`: the default of the watch mode.
    pub reconcile_interval: Option<Duration>,
    /// How long one call to a disk may take: a read, a rename, the flush of one slice.
    pub disk_timeout: Duration,
    /// How long a quarantined episode is kept; `None`: for ever.
    pub quarantine_keep_days: Option<u32>,
    /// How long between two clean-ups.
    pub cleanup_interval: Duration,
    /// How long a shipped episode is kept; `None`: for ever.
    pub shipped_keep_days: Option<u32>,
    /// What packing leaves free in the outbox's file system; `None`: by its size.
    pub min_free_bytes: Option<u64>,
    /// Below how much free room `shipped/` is cleared of what the receiver holds, bytes; `None`:
    /// never.
    pub shipped_free_bytes: Option<u64>,
    /// Who sends.
    pub host_id: String,
    /// A port of this machine at which metrics are given out.
    pub metrics_listen: Option<SocketAddr>,
    /// A file that metrics are written to.
    pub metrics_textfile: Option<PathBuf>,
    /// Which of those that wait go first.
    pub order: QueueOrder,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Episodes packed at once.
    pub pack_workers: NonZeroUsize,
    /// How long an episode waits for a file that is open for writing, before it is shipped all the
    /// same.
    pub open_files_wait: Duration,
    /// Where to.
    pub receiver: ReceiverConfig,
}

/// The destination, and how to speak to it.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// The address, or a template of it.
    pub url: String,
    /// Extra headers by name. `{id}`, `{sha256}`, `{content_sha256}`, `{commit}` and `{host}` are
    /// filled in. They take the place of a standard one of the same name. They may hold secrets.
    pub headers: BTreeMap<String, String>,
    /// The only certificate authorities to trust, PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain and its key, PEM.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Holds a bearer token on one line.
    pub token_file: Option<PathBuf>,
    /// Name, connection and TLS together.
    pub connect_timeout: Duration,
    /// No byte either way while sending.
    pub idle_timeout: Duration,
    /// From the last byte sent to the head of the answer.
    pub answer_timeout: Duration,
    /// Uploads at once.
    pub concurrency: NonZeroUsize,
    /// Whether a bare 2xx is not believed.
    pub require_receipt: bool,
    /// Whether a 200 without a receipt is believed though nothing vouches for it.
    pub believe_bare_200: bool,
    /// Whether archives are sent while they are packed.
    pub send_while_packing: SendWhilePacking,
    /// Bytes a second for all uploads together; `None`: as fast as it goes.
    pub bandwidth_limit: Option<NonZeroU64>,
    /// When uploads run; empty: at any time.
    pub upload_window: Vec<UploadWindow>,
}

impl ReceiverConfig {
    /// A receiver at this address, with defaults for everything else.
    ///
    /// # Errors
    /// None by now: the defaults can be.
    pub fn at(url: &str) -> Result<Self, ConfigError> {
        let mut raw = RawConfig::default();
        raw.receiver.url = Some(url.to_owned());
        raw.receiver()
    }

    /// What the receiver knows us by: the file of a certificate, or else of a token.
    pub(crate) fn credential(&self) -> Option<&PathBuf> {
        let cert = self.client_cert.as_ref().map(|(chain, _)| chain);
        cert.or(self.token_file.as_ref())
    }
}

/// Reads a configuration file.
///
/// # Errors
/// [`ConfigError::Read`] and [`ConfigError::Parse`]; [`ConfigError::Value`] where a path in it is
/// relative.
pub(crate) fn read(path: &Path) -> Result<RawConfig, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Read {
        path: path.to_owned(),
        why,
    })?;
    let raw = raw::parse(&text).map_err(|message| ConfigError::Parse {
        path: path.to_owned(),
        message,
    })?;
    raw.paths_are_absolute(path)?;
    Ok(raw)
}

impl RawConfig {
    /// What a shipper needs.
    ///
    /// # Errors
    /// [`ConfigError::Value`]: something is missing or cannot be.
    pub(crate) fn ship(&self) -> Result<ShipConfig, ConfigError> {
        let shipper = &self.shipper;
        let layout = self.layout()?;
        let watch = match shipper.watch.as_str() {
            "auto" => WatchMode::Auto,
            "inotify" => WatchMode::Inotify,
            "reconcile-only" => WatchMode::ReconcileOnly,
            other => {
                let message = format!("{other:?} is none of auto, inotify, reconcile-only");
                return Err(value("shipper.watch", message));
            }
        };
        Ok(ShipConfig {
            layout,
            watch,
            reconcile_interval: match shipper.reconcile_interval_s {
                Some(seconds) => Some(at_least_a_second("shipper.reconcile_interval_s", seconds)?),
                None => None,
            },
            quarantine_keep_days: days(shipper.quarantine_keep_days),
            cleanup_interval: at_least_a_second(
                "shipper.quarantine_cleanup_interval_s",
                shipper.quarantine_cleanup_interval_s,
            )?,
            disk_timeout: at_least_a_second("shipper.disk_timeout_s", shipper.disk_timeout_s)?,
            shipped_keep_days: days(shipper.shipped_keep_days),
            min_free_bytes: shipper.min_free_bytes,
            shipped_free_bytes: unless_zero(shipper.shipped_free_bytes),
            host_id: self.host_id()?,
            metrics_listen: loopback::parse(&shipper.metrics_listen)?,
            metrics_textfile: unless_empty(&shipper.metrics_textfile),
            order: uploads::order(shipper)?,
            level: match self.pack.level {
                level @ 1..=19 => level,
                other => {
                    return Err(value(
                        "pack.level",
                        format!("{other} is not between 1 and 19"),
                    ));
                }
            },
            pack_workers: match self.pack.workers {
                Some(workers) => at_least_one("pack.workers", workers)?,
                None => NonZeroUsize::new(defaults::pack_workers()).unwrap_or(NonZeroUsize::MIN),
            },
            open_files_wait: wait_for_open_files(self.pack.open_files_wait_s)?,
            receiver: self.receiver()?,
        })
    }

    /// The destination.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(crate) fn receiver(&self) -> Result<ReceiverConfig, ConfigError> {
        let raw = &self.receiver;
        let url = raw.url.clone().ok_or_else(|| {
            value(
                "receiver.url",
                "is not set; set it in the configuration, or give --receiver URL",
            )
        })?;
        let client_cert = match (&raw.client_cert_file, &raw.client_key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => {
                let message = "goes together with receiver.client_key_file; set both or none";
                return Err(value("receiver.client_cert_file", message));
            }
        };
        Ok(ReceiverConfig {
            url,
            headers: raw.headers.clone(),
            ca_file: raw.ca_file.clone(),
            client_cert,
            token_file: raw.token_file.clone(),
            connect_timeout: at_least_a_second(
                "receiver.connect_timeout_s",
                raw.connect_timeout_s,
            )?,
            idle_timeout: at_least_a_second("receiver.idle_timeout_s", raw.idle_timeout_s)?,
            answer_timeout: at_least_a_second("receiver.answer_timeout_s", raw.answer_timeout_s)?,
            concurrency: at_least_one("receiver.concurrency", raw.concurrency)?,
            require_receipt: raw.require_receipt,
            believe_bare_200: raw.believe_bare_200,
            send_while_packing: match raw.send_while_packing.as_str() {
                "auto" => SendWhilePacking::Auto,
                "always" => SendWhilePacking::Always,
                "never" => SendWhilePacking::Never,
                _ => {
                    let message = "must be \"auto\", \"always\" or \"never\"";
                    return Err(value("receiver.send_while_packing", message));
                }
            },
            bandwidth_limit: uploads::limit(raw)?,
            upload_window: uploads::windows(raw)?,
        })
    }

    /// Who speaks to the receiver.
    ///
    /// # Errors
    /// [`ConfigError::Value`]: the name cannot travel in a header.
    pub(crate) fn host_id(&self) -> Result<String, ConfigError> {
        let host = self
            .shipper
            .host_id
            .clone()
            .unwrap_or_else(defaults::host_id);
        // It travels in a header (RFC 9110, section 5.5: visible ASCII).
        if host.is_empty() || host.len() > 200 || !host.bytes().all(|b| b.is_ascii_graphic()) {
            let message = "must be 1 to 200 visible ASCII characters without spaces; set it, for example \"lab-07\"";
            return Err(value("shipper.host_id", message));
        }
        Ok(host)
    }
}

impl ShipConfig {
    /// How long between two reconcile passes in this mode.
    pub(crate) fn reconcile_interval(&self, reconcile_only: bool) -> Duration {
        let default = if reconcile_only {
            defaults::RECONCILE_ONLY_S
        } else {
            defaults::RECONCILE_S
        };
        self.reconcile_interval
            .unwrap_or(Duration::from_secs(default))
    }
}

fn days(days: u32) -> Option<u32> {
    (days > 0).then_some(days)
}

fn unless_zero(bytes: u64) -> Option<u64> {
    (bytes > 0).then_some(bytes)
}

fn unless_empty(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

fn at_least_a_second(key: &'static str, seconds: u64) -> Result<Duration, ConfigError> {
    // A day above a year: longer waits are a slip of the finger, and overflow what clocks can add.
    if (1..=366 * 86_400).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(value(
            key,
            format!("{seconds} is not between 1 second and a year"),
        ))
    }
}

/// None at all is a choice as well: what is sealed is shipped as it is.
fn wait_for_open_files(seconds: u64) -> Result<Duration, ConfigError> {
    if seconds == 0 {
        Ok(Duration::ZERO)
    } else {
        at_least_a_second("pack.open_files_wait_s", seconds)
    }
}

fn at_least_one(key: &'static str, n: usize) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(n)
        .filter(|n| n.get() <= 256)
        .ok_or_else(|| value(key, format!("{n} is not between 1 and 256")))
}

fn value(key: &'static str, message: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ship(text: &str) -> Result<ShipConfig, String> {
        let raw = raw::parse(text)?;
        raw.ship().map_err(|error| error.to_string())
    }

    const LEAST: &str = "[shipper]\ndata_dir = '/d'\n[receiver]\nurl = 'http://r'\n";

    #[test]
    fn the_sample_is_valid_and_says_the_defaults() {
        let sample = raw::parse(SAMPLE).unwrap().ship().unwrap();
        assert_eq!(sample.layout, Layout::below(Path::new("/var/lib/sealift")));
        let uncommented: String = SAMPLE
            .lines()
            .map(|line| {
                format!(
                    "{}\n",
                    line.strip_prefix("# ")
                        .filter(|rest| rest.contains(" = "))
                        .unwrap_or(line)
                )
            })
            .collect();
        let all = raw::parse(&uncommented).unwrap();
        let (all, least) = (all.ship().unwrap(), ship(LEAST).unwrap());
        assert_eq!(all.watch, least.watch);
        assert_eq!(
            all.reconcile_interval(false),
            least.reconcile_interval(false)
        );
        assert_eq!(all.disk_timeout, least.disk_timeout);
        assert_eq!(all.quarantine_keep_days, least.quarantine_keep_days);
        assert_eq!(all.cleanup_interval, least.cleanup_interval);
        assert_eq!(all.shipped_keep_days, least.shipped_keep_days);
        assert_eq!(all.shipped_free_bytes, least.shipped_free_bytes);
        assert_eq!(all.level, least.level);
        assert_eq!(all.open_files_wait, least.open_files_wait);
        assert_eq!(all.order, least.order);
        let (all, least) = (all.receiver, least.receiver);
        assert_eq!(all.connect_timeout, least.connect_timeout);
        assert_eq!(all.idle_timeout, least.idle_timeout);
        assert_eq!(all.answer_timeout, least.answer_timeout);
        assert_eq!(all.concurrency, least.concurrency);
        assert_eq!(all.require_receipt, least.require_receipt);
        assert_eq!(all.believe_bare_200, least.believe_bare_200);
        assert_eq!(all.send_while_packing, least.send_while_packing);
        assert_eq!(
            (all.bandwidth_limit, all.upload_window),
            (least.bandwidth_limit, least.upload_window)
        );
        let receive = |text: &str| raw::parse(text).unwrap().receive().unwrap();
        assert_eq!(receive(SAMPLE), receive(""));
        // The sample shows certificates and tokens, which have no default.
        let all = receive(&uncommented);
        assert_eq!((all.limits, &all.commits_file), (receive("").limits, &None));
        assert!(all.asks_who() && all.tls.is_some());
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line_and_the_nearest_known_one() {
        let error = ship("[shipper]\ndata_dir = '/d'\nreconcile_intervals = 3\n").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
        assert!(
            error.contains("did you mean `reconcile_interval_s`?"),
            "{error}"
        );
        let error = ship("[shiper]\n").unwrap_err();
        assert!(error.contains("did you mean `shipper`?"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_are_refused_by_name() {
        for (text, key) in [
            ("[pack]\nlevel = 20", "pack.level"),
            ("[pack]\nworkers = 0", "pack.workers"),
            (
                "[pack]\nopen_files_wait_s = 99999999",
                "pack.open_files_wait_s",
            ),
            ("[shipper]\ndisk_timeout_s = 0", "shipper.disk_timeout_s"),
            ("[receiver]\nconcurrency = 0", "receiver.concurrency"),
            ("[receiver]\nidle_timeout_s = 0", "receiver.idle_timeout_s"),
            (
                "[receiver]\nclient_cert_file = 'a'",
                "receiver.client_cert_file",
            ),
            ("[shipper]\nwatch = 'poll'", "shipper.watch"),
            ("[shipper]\nhost_id = 'a b'", "shipper.host_id"),
            ("[shipper]\norder = 'random'", "shipper.order"),
            (
                "[shipper]\noutbox_dir = '/d/episodes/out'",
                "shipper.outbox_dir",
            ),
            (
                "[shipper]\nreconcile_interval_s = 0",
                "shipper.reconcile_interval_s",
            ),
            (
                "[shipper]\nmetrics_listen = '0.0.0.0:9491'",
                "shipper.metrics_listen",
            ),
        ] {
            let mut raw = raw::parse(text).unwrap();
            raw.shipper.data_dir.get_or_insert("/d".into());
            raw.receiver.url.get_or_insert("http://r".into());
            let error = raw.ship().unwrap_err().to_string();
            assert!(error.starts_with(key), "{text}: {error}");
        }
        assert!(
            ship("[receiver]\nurl = 'http://r'")
                .unwrap_err()
                .contains("--data DIR")
        );
        assert!(
            ship("[shipper]\ndata_dir = '/d'")
                .unwrap_err()
                .contains("--receiver URL")
        );
    }

    #[test]
    fn zero_days_mean_for_ever() {
        let config =
            ship(&format!("{LEAST}[pack]\n").replace("'/d'", "'/d'\nquarantine_keep_days = 0"))
                .unwrap();
        assert_eq!(config.quarantine_keep_days, None);
        assert_eq!(config.shipped_keep_days, None);
    }
}
