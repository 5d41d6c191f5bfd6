//! The receiver's half of the configuration: where it listens, who may come in, what it takes.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use super::{ConfigError, RawConfig, RawReceive, days, unless_empty, unless_zero, value};
use crate::model::episode::HostName;

pub(super) const DEFAULT_STORE: &str = "/var/lib/sealift-receiver";
pub(super) const DEFAULT_LISTEN: &str = "127.0.0.1:8490";
/// What a file system needs to go on working: a full one refuses the receipts too, and whatever
/// else lives on it.
const DEFAULT_MIN_FREE_BYTES: u64 = 1 << 30;
/// A week covers a long weekend without a network.
const DEFAULT_PARTS_KEEP_DAYS: u32 = 7;
const DEFAULT_MAX_CONNECTIONS: usize = 512;
/// An eighth of all: a host has a few uploads at once, and one that runs wild leaves room for the
/// others.
const DEFAULT_MAX_CONNECTIONS_PER_HOST: usize = 64;
/// The slowest modem is faster; a client that sends less holds a connection for nothing.
const DEFAULT_MIN_BODY_RATE_BYTES_PER_S: u64 = 1024;
/// Above this the kernel's descriptors are the limit, and a number is a slip of the finger.
const MOST_CONNECTIONS: usize = 65_536;

/// The receiver's half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to store; created where it is missing.
    pub store: PathBuf,
    /// Whether each host's episodes have a folder of their own.
    pub namespace: Namespace,
    /// Our certificate chain and its key, PEM; `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The authorities that sign the hosts' certificates, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Names, and the digests of their tokens.
    pub tokens_file: Option<PathBuf>,
    /// The commit window; `None`: not enforced.
    pub commits_file: Option<PathBuf>,
    /// What a host out of the window is told to do.
    pub remediation: String,
    /// Who may read every host's episodes.
    pub readers: BTreeSet<HostName>,
    /// Whether to listen beyond loopback though clients are not asked who they are, or the wire can
    /// be read.
    pub anyone_may_store: bool,
    /// What is taken.
    pub limits: ReceiveLimits,
}

/// How much a receiver takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveLimits {
    /// The largest archive, bytes; `None`: no limit.
    pub max_episode_bytes: Option<u64>,
    /// Nothing is taken that would leave less room than this in the store's file system, bytes.
    pub min_free_bytes: u64,
    /// What one host may have in the store, bytes; `None`: no limit.
    pub host_quota_bytes: Option<u64>,
    /// How long an upload that broke off is kept; `None`: for ever.
    pub parts_keep_days: Option<u32>,
    /// What all uploads that broke off may take, bytes; `None`: no limit.
    pub parts_max_bytes: Option<u64>,
    /// Connections at the same time; further ones are answered 503.
    pub max_connections: NonZeroUsize,
    /// Requests under way of one host.
    pub max_connections_per_host: NonZeroUsize,
    /// A body that comes, or an answer that is read, more slowly than this is given up, bytes a
    /// second; 0: never.
    pub min_body_rate_bytes_per_s: u64,
}

/// How a store files its episodes. Fixed once it holds any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// By id alone: two hosts that use the same id mean the same episode.
    None,
    /// By authenticated name and id: what two hosts store under the same id are two episodes.
    Host,
}

impl ReceiveConfig {
    /// Listens here, stores there; everything else at its default.
    #[must_use]
    pub fn at(listen: SocketAddr, store: &Path) -> Self {
        Self {
            listen,
            store: store.to_owned(),
            namespace: Namespace::None,
            tls: None,
            client_ca_file: None,
            tokens_file: None,
            commits_file: None,
            remediation: String::new(),
            readers: BTreeSet::new(),
            anyone_may_store: false,
            limits: ReceiveLimits::default(),
        }
    }

    /// Whether those who come in are asked who they are.
    pub fn asks_who(&self) -> bool {
        self.client_ca_file.is_some() || self.tokens_file.is_some()
    }

    /// What is missing for listening where others come in; `None` where nothing is, or only this
    /// machine can.
    pub fn exposed(&self) -> Option<String> {
        let unasked = "callers are not asked who they are, so all could store and read (set receive.client_ca_file, \
                            or receive.tokens_file)";
        let readable = "the wire can be read and changed on the way (set receive.tls_cert_file and \
                        receive.tls_key_file)";
        if self.listen.ip().is_loopback() {
            return None;
        }
        match (self.asks_who(), self.tls.is_some()) {
            (true, true) => None,
            (true, false) => Some(readable.to_owned()),
            (false, true) => Some(unasked.to_owned()),
            (false, false) => Some(format!("{unasked}, and {readable}")),
        }
    }

    /// Whether it may listen there at all. Asked once more before the socket is made, since a
    /// caller may have built the configuration itself.
    ///
    /// # Errors
    /// [`ConfigError::Value`]: it is exposed, and `anyone_may_store` is not set.
    pub fn may_listen(&self) -> Result<(), ConfigError> {
        match self.exposed() {
            Some(missing) if !self.anyone_may_store => {
                let message = format!(
                    "refusing to listen on {}, where others come in: {missing}. Or listen on a loopback address \
                     ({DEFAULT_LISTEN}); or say that you want it so: --anyone-may-store, or \
                     receive.anyone_may_store = true",
                    self.listen
                );
                Err(value("receive.listen", message))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Default for ReceiveLimits {
    fn default() -> Self {
        let at_least_one = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            max_episode_bytes: None,
            min_free_bytes: DEFAULT_MIN_FREE_BYTES,
            host_quota_bytes: None,
            parts_keep_days: Some(DEFAULT_PARTS_KEEP_DAYS),
            parts_max_bytes: None,
            max_connections: at_least_one(DEFAULT_MAX_CONNECTIONS),
            max_connections_per_host: at_least_one(DEFAULT_MAX_CONNECTIONS_PER_HOST),
            min_body_rate_bytes_per_s: DEFAULT_MIN_BODY_RATE_BYTES_PER_S,
        }
    }
}

impl RawConfig {
    /// What a receiver needs.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub(crate) fn receive(&self) -> Result<ReceiveConfig, ConfigError> {
        let raw = &self.receive;
        let listen = &raw.listen;
        let listen = listen.parse().map_err(|_| {
            let message = format!("{listen:?} is not an address and port such as {DEFAULT_LISTEN}");
            value("receive.listen", message)
        })?;
        let config = ReceiveConfig {
            namespace: match raw.namespace.as_str() {
                "none" => Namespace::None,
                "host" => Namespace::Host,
                other => {
                    return Err(value(
                        "receive.namespace",
                        format!("{other:?} is none of none, host"),
                    ));
                }
            },
            tls: match (&raw.tls_cert_file, &raw.tls_key_file) {
                (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
                (None, None) => None,
                _ => {
                    let message = "goes together with receive.tls_key_file; set both or none";
                    return Err(value("receive.tls_cert_file", message));
                }
            },
            client_ca_file: raw.client_ca_file.clone(),
            tokens_file: raw.tokens_file.clone(),
            commits_file: unless_empty(&raw.commits_file),
            remediation: raw.remediation.clone(),
            readers: readers(raw)?,
            anyone_may_store: raw.anyone_may_store,
            limits: limits(raw)?,
            ..ReceiveConfig::at(listen, &raw.store)
        };
        if config.client_ca_file.is_some() && config.tls.is_none() {
            let message = "certificates are shown over TLS only: set receive.tls_cert_file and receive.tls_key_file too";
            return Err(value("receive.client_ca_file", message));
        }
        if !config.asks_who() {
            // An operator who sets one of these believes that hosts are told apart.
            for (key, is_set) in [
                ("receive.namespace", config.namespace == Namespace::Host),
                ("receive.readers", !config.readers.is_empty()),
                (
                    "receive.host_quota_bytes",
                    config.limits.host_quota_bytes.is_some(),
                ),
            ] {
                if is_set {
                    let message = "needs names, and callers are not asked for one: set receive.client_ca_file or receive.tokens_file";
                    return Err(value(key, message));
                }
            }
        }
        config.may_listen()?;
        Ok(config)
    }
}

fn readers(raw: &RawReceive) -> Result<BTreeSet<HostName>, ConfigError> {
    let names = raw.readers.iter();
    names
        .map(|name| {
            HostName::parse(name).map_err(|why| {
                value(
                    "receive.readers",
                    format!("{name:?} cannot be a certificate's or token's name: {why}"),
                )
            })
        })
        .collect()
}

fn limits(raw: &RawReceive) -> Result<ReceiveLimits, ConfigError> {
    Ok(ReceiveLimits {
        max_episode_bytes: unless_zero(raw.max_episode_bytes),
        min_free_bytes: raw.min_free_bytes,
        host_quota_bytes: unless_zero(raw.host_quota_bytes),
        parts_keep_days: days(raw.parts_keep_days),
        parts_max_bytes: unless_zero(raw.parts_max_bytes),
        max_connections: connections("receive.max_connections", raw.max_connections)?,
        max_connections_per_host: connections(
            "receive.max_connections_per_host",
            raw.max_connections_per_host,
        )?,
        min_body_rate_bytes_per_s: raw.min_body_rate_bytes_per_s,
    })
}

fn connections(key: &'static str, n: usize) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(n)
        .filter(|n| n.get() <= MOST_CONNECTIONS)
        .ok_or_else(|| value(key, format!("{n} is not between 1 and {MOST_CONNECTIONS}")))
}

#[cfg(test)]
mod tests {
    use super::{super::raw, *};

    fn receive(text: &str) -> Result<ReceiveConfig, String> {
        raw::parse(&format!("[receive]\n{text}"))?
            .receive()
            .map_err(|error| error.to_string())
    }

    const TLS: &str = "tls_cert_file = 'c'\ntls_key_file = 'k'\n";

    #[test]
    fn what_is_not_set_is_at_its_default() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8490));
        let default = ReceiveConfig::at(loopback, Path::new("/var/lib/sealift-receiver"));
        assert_eq!(receive("").unwrap(), default);
        let zeros =
            "max_episode_bytes = 0\nhost_quota_bytes = 0\nparts_max_bytes = 0\ncommits_file = ''\n";
        assert_eq!(receive(zeros).unwrap(), default);
        assert_eq!(
            receive("parts_keep_days = 0")
                .unwrap()
                .limits
                .parts_keep_days,
            None
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, key) in [
            ("listen = 'here'", "listen"),
            ("tls_cert_file = 'c'", "tls_cert_file"),
            ("tls_key_file = 'k'", "tls_cert_file"),
            ("client_ca_file = 'a'", "client_ca_file"),
            ("namespace = 'id'", "namespace"),
            ("namespace = 'host'", "namespace"),
            ("readers = ['lab']", "readers"),
            ("host_quota_bytes = 1", "host_quota_bytes"),
            ("tokens_file = 't'\nreaders = ['../lab']", "readers"),
            ("max_connections = 0", "max_connections"),
            (
                "max_connections_per_host = 65537",
                "max_connections_per_host",
            ),
        ] {
            let error = receive(text).unwrap_err();
            assert!(
                error.starts_with(&format!("receive.{key}: ")),
                "{text}: {error}"
            );
        }
        let named =
            "tokens_file = 't'\nnamespace = 'host'\nreaders = ['lab']\nhost_quota_bytes = 1";
        let named = receive(named).unwrap();
        assert_eq!((named.namespace, named.readers.len()), (Namespace::Host, 1));
    }

    #[test]
    fn where_others_come_in_it_listens_only_with_tls_and_names_or_when_told_so_in_words() {
        let client_ca = format!("{TLS}client_ca_file = 'a'\n");
        let tokens = format!("{TLS}tokens_file = 't'\n");
        for listen in [
            "0.0.0.0:8490",
            "[::]:8490",
            "192.0.2.1:0",
            "[::ffff:127.0.0.1]:0",
        ] {
            for (files, missing) in [
                (client_ca.as_str(), &[][..]),
                (&tokens, &[]),
                ("tokens_file = 't'\n", &["tls_cert_file"]),
                (TLS, &["client_ca_file", "tokens_file"]),
                ("", &["client_ca_file", "tokens_file", "tls_cert_file"]),
            ] {
                let text = format!("listen = '{listen}'\n{files}");
                match receive(&text) {
                    Ok(config) => {
                        assert!(missing.is_empty() && config.exposed().is_none(), "{text}");
                    }
                    Err(error) => {
                        for word in missing
                            .iter()
                            .chain(&["--anyone-may-store", "127.0.0.1:8490"])
                        {
                            assert!(
                                !missing.is_empty() && error.contains(word),
                                "{text}: {error}"
                            );
                        }
                        assert!(
                            missing.len() != 1 || !error.contains("client_ca_file"),
                            "{error}"
                        );
                        let wanted = receive(&format!("{text}anyone_may_store = true")).unwrap();
                        assert!(wanted.exposed().is_some());
                    }
                }
            }
        }
        for listen in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0"] {
            assert!(
                receive(&format!("listen = '{listen}'"))
                    .unwrap()
                    .exposed()
                    .is_none()
            );
        }
    }
}
