//! The configuration file as it is written.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::uploads::RawUploadWindow;
use crate::model::text::without_queries;

/// How unlike a known key may be and still be offered, 0 to 1 (Jaro-Winkler).
const NEAR: f64 = 0.75;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub shipper: RawShipper,
    pub pack: RawPack,
    pub receiver: RawReceiver,
    pub doctor: RawDoctor,
    pub receive: RawReceive,
}

/// `[shipper]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawShipper {
    pub data_dir: Option<PathBuf>,
    pub episodes_dir: Option<PathBuf>,
    pub outbox_dir: Option<PathBuf>,
    pub shipped_dir: Option<PathBuf>,
    pub quarantine_dir: Option<PathBuf>,
    pub watch: String,
    pub reconcile_interval_s: Option<u64>,
    pub disk_timeout_s: u64,
    pub quarantine_keep_days: u32,
    pub quarantine_cleanup_interval_s: u64,
    pub shipped_keep_days: u32,
    pub min_free_bytes: Option<u64>,
    pub shipped_free_bytes: u64,
    pub host_id: Option<String>,
    pub metrics_listen: String,
    pub metrics_textfile: PathBuf,
    pub order: String,
}

/// `[pack]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawPack {
    pub level: i32,
    pub workers: Option<usize>,
    pub open_files_wait_s: u64,
}

/// `[receiver]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawReceiver {
    pub url: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub connect_timeout_s: u64,
    pub idle_timeout_s: u64,
    pub answer_timeout_s: u64,
    pub concurrency: usize,
    pub require_receipt: bool,
    pub believe_bare_200: bool,
    pub send_while_packing: String,
    pub bandwidth_limit: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upload_window: Vec<RawUploadWindow>,
}

/// `[doctor]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDoctor {
    pub unit: String,
    pub update_command: String,
}

/// `[receive]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawReceive {
    pub listen: String,
    pub store: PathBuf,
    pub namespace: String,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
    pub tokens_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<String>,
    pub anyone_may_store: bool,
    pub commits_file: PathBuf,
    pub remediation: String,
    pub max_episode_bytes: u64,
    pub min_free_bytes: u64,
    pub host_quota_bytes: u64,
    pub parts_keep_days: u32,
    pub parts_max_bytes: u64,
    pub max_connections: usize,
    pub max_connections_per_host: usize,
    pub min_body_rate_bytes_per_s: u64,
}

/// Parses TOML; the error shows the line, a caret, and in words which key it is and what it must
/// be.
pub(super) fn parse(text: &str) -> Result<RawConfig, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let key = error.span().and_then(|span| key_at(text, span.start));
        let shown = error.to_string();
        let shown = if may_be_shown(error.message(), key.as_deref()) {
            // A text among others may be an address.
            without_queries(&shown)
        } else {
            without_values(&shown)
        };
        let shown = shown.trim_end();
        let Some(key) = key else {
            return shown.to_owned();
        };
        match (nearest(error.message()), must_be(error.message(), &key)) {
            (Some(nearest), _) => format!("{shown}\n{key}: did you mean `{nearest}`?"),
            (None, Some(must_be)) => format!("{shown}\n{key} must be {must_be}"),
            (None, None) => format!("{shown}\nat {key}"),
        }
    })
}

/// The key whose line, or whose table's line, this place is in, as `table.key`.
fn key_at(text: &str, at: usize) -> Option<String> {
    let line_end = text
        .get(at..)?
        .find('\n')
        .map_or(text.len(), |length| at + length);
    let lines = || text[..line_end].lines().rev();
    let header = |line: &str| {
        let name = line.trim().strip_prefix('[')?.split(']').next()?;
        (!name.is_empty() && !name.contains(['"', ',', '\''])).then(|| name.trim().to_owned())
    };
    let table = lines().find_map(header);
    // A list may go on over several lines.
    let key = lines()
        .take_while(|line| header(line).is_none())
        .find_map(|line| line.split_once('='));
    let key = key.map(|(key, _)| key.trim().trim_matches('"').to_owned());
    match (table, key) {
        (Some(table), Some(key)) => Some(format!("{table}.{key}")),
        (table, key) => table.or(key),
    }
}

/// Whether the line in error may be shown with its value: it is one of a key that holds no secret,
/// and of the wrong type. What has another name, or none, may be the secret that belongs elsewhere.
fn may_be_shown(message: &str, key: Option<&str>) -> bool {
    let has_secrets = |key: &str| {
        let name = key.strip_prefix("receiver.").unwrap_or_default();
        !key.contains('.')
            || ["url", "headers", "token"]
                .iter()
                .any(|secret| name.starts_with(secret))
    };
    message.starts_with("invalid ")
        && message.contains(", expected ")
        && key.is_some_and(|key| !has_secrets(key))
}

/// The same, with the lines of the file as far as their keys, and no text that was read in them.
fn without_values(error: &str) -> String {
    let line_of_the_file = |line: &str| {
        let (number, line) = line.split_once(" | ")?;
        // Below it, carets stand behind no number.
        number
            .trim()
            .parse::<u64>()
            .is_ok()
            .then_some((number.to_owned(), line.to_owned()))
    };
    let without = |line: &str| match line_of_the_file(line) {
        Some((number, written)) => {
            let is_header = written.starts_with('[') && !written.contains(['"', '\'', '=']);
            match written.split_once('=') {
                _ if is_header => line.to_owned(),
                Some((key, _)) if !key.contains(['"', '\'', '#']) => {
                    format!("{number} | {key}= \u{2026}")
                }
                _ => format!("{number} | \u{2026}"),
            }
        }
        None => match (line.find('"'), line.rfind('"')) {
            (Some(from), Some(to)) if from < to => {
                format!("{}\u{2026}{}", &line[..=from], &line[to..])
            }
            _ => line.to_owned(),
        },
    };
    error.lines().map(without).collect::<Vec<_>>().join("\n")
}

/// Out of "invalid type: string \"x\", expected u64": what a person would write there.
fn must_be(message: &str, key: &str) -> Option<&'static str> {
    let (_, expected) = message
        .strip_prefix("invalid ")?
        .rsplit_once(", expected ")?;
    Some(match expected {
        "a boolean" => "true or false, without quotes",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list, such as [\"one\", \"another\"]",
        "a map" => "a table, such as { \"X-Name\" = \"value\" }",
        table if table.starts_with("struct ") => "a table, with its keys under [its name]",
        "usize" | "u64" | "u32" | "i32" => match key {
            key if key.ends_with("_per_s") => "a whole number of bytes a second, without quotes",
            key if key.ends_with("_s") => "a whole number of seconds, without quotes",
            key if key.ends_with("_days") => "a whole number of days, without quotes",
            key if key.ends_with("_bytes") => "a whole number of bytes, without quotes",
            _ => "a whole number, without quotes",
        },
        _ => return None,
    })
}

/// Out of "unknown field `x`, expected one of `a`, `b`": the one most like `x`.
fn nearest(message: &str) -> Option<&str> {
    let mut names = message
        .strip_prefix("unknown field")?
        .split('`')
        .skip(1)
        .step_by(2);
    let unknown = names.next()?;
    let likeness = |name: &&str| strsim::jaro_winkler(unknown, name);
    names
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|best| likeness(best) >= NEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_error_is_shown_without_what_may_be_a_secret() {
        for (text, shows) in [
            ("[receiver]\ntoken = \"SECRET\"", "2 | token = \u{2026}"),
            ("[receiver]\ntoken = SECRET", "2 | token = \u{2026}"),
            ("[receiver]\nheaders = \"SECRET\"", "2 | headers = \u{2026}"),
            (
                "[receiver]\nheaders = { \"X-Key\" = [\"SECRET\"] }",
                "2 | headers = \u{2026}",
            ),
            (
                "[receiver]\nheaders = { \"X-Key\" = \"SECRET }",
                "2 | headers = \u{2026}",
            ),
            (
                "[receiver.headers]\n\"X-Key\" = [\n  \"SECRET\"\n]",
                "2 | \u{2026}",
            ),
            (
                "[receiver.headers]\nX-Key = { a = \"SECRET\" }",
                "2 | X-Key = \u{2026}",
            ),
            (
                "[receiver]\nurl = 'a'\nurl = 'http://h?SECRET'",
                "3 | url = \u{2026}",
            ),
            (
                "[receiver]\nurl = [\"http://h/SECRET\"]",
                "2 | url = \u{2026}",
            ),
            (
                "receiver = { url = \"http://h?sig=SECRET\", idle = 3 }",
                "1 | receiver = \u{2026}",
            ),
            (
                "[receiver]\ntoken_file = [\"SECRET\"]",
                "2 | token_file = \u{2026}",
            ),
            ("[receiver]\nSECRET\"", "2 | \u{2026}"),
            ("[receivr]\ntoken = \"SECRET\"", "1 | [receivr]"),
            // Where no secret belongs, what is wrong is seen.
            (
                "[shipper]\nquarantine_keep_days = \"ten\"",
                "2 | quarantine_keep_days = \"ten\"",
            ),
            ("[receiver]\nconcurrency = -1", "2 | concurrency = -1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(shows) && !error.contains("SECRET"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_wrong_type_is_told_in_words_by_the_name_of_its_key() {
        for (text, says) in [
            (
                "[receiver]\nconcurrency = \"four\"",
                "receiver.concurrency must be a whole number, without quotes",
            ),
            (
                "[receiver]\nidle_timeout_s = 1.5",
                "receiver.idle_timeout_s must be a whole number of seconds, without quotes",
            ),
            (
                "[shipper]\nquarantine_keep_days = -1",
                "shipper.quarantine_keep_days must be a whole number of days, without quotes",
            ),
            (
                "[receive]\nmin_free_bytes = 'x'",
                "receive.min_free_bytes must be a whole number of bytes, without quotes",
            ),
            (
                "[receive]\nmin_body_rate_bytes_per_s = 'x'",
                "receive.min_body_rate_bytes_per_s must be a whole number of bytes a second, without quotes",
            ),
            (
                "[receiver]\nrequire_receipt = 'yes'",
                "receiver.require_receipt must be true or false, without quotes",
            ),
            (
                "[pack]\nlevel = 1\n[receiver]\nurl = 3",
                "receiver.url must be a text in quotes",
            ),
            (
                "[receiver]\nca_file = 3",
                "receiver.ca_file must be a text in quotes",
            ),
            (
                "[receive]\nreaders = 'a'",
                "receive.readers must be a list, such as [\"one\", \"another\"]",
            ),
            (
                "[receive]\nreaders = [\n  'a',\n  3,\n]",
                "receive.readers must be a text in quotes",
            ),
            (
                "receiver = 3",
                "receiver must be a table, with its keys under [its name]",
            ),
            ("[receiver]\nurl = 'a'\nurl = 'b'", "at receiver.url"),
            (
                "[receiver]\nurls = 'a'",
                "receiver.urls: did you mean `url`?",
            ),
            ("[receivr]", "receivr: did you mean `receiver`?"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.lines().last() == Some(says) && error.contains('^'),
                "{text}: {error}"
            );
        }
    }
}
