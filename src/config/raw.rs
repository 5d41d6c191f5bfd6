//! The configuration file as it is written.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How unlike a known key may be and still be offered, 0 to 1 (Jaro-Winkler).
const NEAR: f64 = 0.75;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are explained in docs/configuration.md and contrib/sealift.toml")]
pub struct RawConfig {
    pub shipper: RawShipper,
    pub pack: RawPack,
    pub receiver: RawReceiver,
    pub receive: RawReceive,
}

/// `[shipper]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are explained in docs/configuration.md and contrib/sealift.toml")]
pub struct RawShipper {
    pub data_dir: Option<PathBuf>,
    pub episodes_dir: Option<PathBuf>,
    pub outbox_dir: Option<PathBuf>,
    pub shipped_dir: Option<PathBuf>,
    pub quarantine_dir: Option<PathBuf>,
    pub watch: Option<String>,
    pub reconcile_interval_s: Option<u64>,
    pub quarantine_keep_days: Option<u32>,
    pub quarantine_cleanup_interval_s: Option<u64>,
    pub shipped_keep_days: Option<u32>,
    pub host_id: Option<String>,
}

/// `[pack]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are explained in docs/configuration.md and contrib/sealift.toml")]
pub struct RawPack {
    pub level: Option<i32>,
    pub workers: Option<usize>,
}

/// `[receiver]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are explained in docs/configuration.md and contrib/sealift.toml")]
pub struct RawReceiver {
    pub url: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub connect_timeout_s: Option<u64>,
    pub idle_timeout_s: Option<u64>,
    pub answer_timeout_s: Option<u64>,
    pub concurrency: Option<usize>,
    pub require_receipt: Option<bool>,
}

/// `[receive]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are explained in docs/configuration.md and contrib/sealift.toml")]
pub struct RawReceive {
    pub listen: Option<String>,
    pub store: Option<PathBuf>,
    pub namespace: Option<String>,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
    pub tokens_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<String>,
    pub anyone_may_store: Option<bool>,
    pub commits_file: Option<PathBuf>,
    pub remediation: Option<String>,
    pub max_episode_bytes: Option<u64>,
    pub min_free_bytes: Option<u64>,
    pub host_quota_bytes: Option<u64>,
    pub parts_keep_days: Option<u32>,
    pub parts_max_bytes: Option<u64>,
    pub max_connections: Option<usize>,
    pub max_connections_per_host: Option<usize>,
    pub min_body_rate_bytes_per_s: Option<u64>,
}

/// Parses TOML; the error shows the line, a caret, and the nearest known key.
pub(super) fn parse(text: &str) -> Result<RawConfig, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let shown = error.to_string();
        match nearest(error.message()) {
            Some(nearest) => format!("{}\ndid you mean `{nearest}`?", shown.trim_end()),
            None => shown,
        }
    })
}

/// Out of "unknown field `x`, expected one of `a`, `b`": the one most like `x`.
fn nearest(message: &str) -> Option<&str> {
    let mut names = message.strip_prefix("unknown field")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    let likeness = |name: &&str| strsim::jaro_winkler(unknown, name);
    names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|best| likeness(best) >= NEAR)
}
