//! Paths in a configuration file are absolute. The operator who types one on a command line knows
//! the current folder; a file does not.

use std::path::Path;

use super::{ConfigError, RawConfig, unless_empty, value};

impl RawConfig {
    /// A relative path would mean another place in each folder that a command is started in.
    /// The operator who types one knows the current folder; a file does not.
    pub(super) fn paths_are_absolute(&self, file: &Path) -> Result<(), ConfigError> {
        let Self {
            shipper,
            receiver,
            receive,
            ..
        } = self;
        for (key, path) in [
            ("shipper.data_dir", &shipper.data_dir),
            ("shipper.episodes_dir", &shipper.episodes_dir),
            ("shipper.outbox_dir", &shipper.outbox_dir),
            ("shipper.shipped_dir", &shipper.shipped_dir),
            ("shipper.quarantine_dir", &shipper.quarantine_dir),
            (
                "shipper.metrics_textfile",
                &unless_empty(&shipper.metrics_textfile),
            ),
            ("receiver.ca_file", &receiver.ca_file),
            ("receiver.client_cert_file", &receiver.client_cert_file),
            ("receiver.client_key_file", &receiver.client_key_file),
            ("receiver.token_file", &receiver.token_file),
            ("receive.store", &Some(receive.store.clone())),
            ("receive.tls_cert_file", &receive.tls_cert_file),
            ("receive.tls_key_file", &receive.tls_key_file),
            ("receive.client_ca_file", &receive.client_ca_file),
            ("receive.tokens_file", &receive.tokens_file),
            ("receive.commits_file", &unless_empty(&receive.commits_file)),
        ] {
            let Some(path) = path.as_deref().filter(|path| path.is_relative()) else {
                continue;
            };
            // "" is how these say "none".
            let tilde = if path.starts_with("~") {
                ", and ~ means nothing here"
            } else {
                ""
            };
            // A token itself, perhaps, where a file's path belongs.
            let is_no_path = key == "receiver.token_file" && path.components().count() == 1;
            let shown = if is_no_path {
                "what is written".to_owned()
            } else {
                format!("{path:?}")
            };
            let message = format!(
                "{shown} in {} is relative{tilde}: give an absolute path",
                file.display()
            );
            return Err(value(key, message));
        }
        Ok(())
    }
}
