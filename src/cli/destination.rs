//! The receiver, for the commands that talk to one: from the command line and the configuration to
//! a client.

use std::path::Path;

use clap::Args;

use super::{ConfigSource, exit::Failure};
use crate::{
    config::{ConfigError, RawConfig, ReceiverConfig},
    http::{client::Client, endpoint::Endpoint, url_template},
    model::text::shell_word,
};

/// The destination, for the commands that talk to one.
#[derive(Debug, Args)]
pub(super) struct DestinationClient {
    /// Where the receiver is, such as https://receiver.example:8490; the whole address where it
    /// holds {id} (receiver.url). One with a secret in its query belongs in the file: others see
    /// this in ps
    #[arg(long, value_name = "URL")]
    pub(super) receiver: Option<String>,
}

/// What is written, with the arguments laid over it.
pub(super) fn configuration(
    source: &ConfigSource,
    destination: &DestinationClient,
) -> Result<RawConfig, ConfigError> {
    let mut raw = source.read(is_enough(source, destination))?;
    destination.lay_over(&mut raw);
    Ok(raw)
}

/// Whether the arguments alone say all that a shipper must be told.
pub(super) fn is_enough(source: &ConfigSource, destination: &DestinationClient) -> bool {
    source.data.is_some() && destination.receiver.is_some()
}

impl DestinationClient {
    /// What was given, to be typed behind another command: with a blank before it, or empty.
    pub(super) fn as_typed(&self) -> String {
        let given = self.receiver.as_ref();
        given.map_or_else(String::new, |url| {
            format!(
                " --receiver {}",
                shell_word(Path::new(&url_template::shown(url)))
            )
        })
    }

    pub(super) fn lay_over(&self, raw: &mut RawConfig) {
        if let Some(receiver) = &self.receiver {
            raw.receiver.url = Some(receiver.clone());
        }
    }
}

/// The receiver that is configured. Reads certificates and token; opens no connection.
pub(super) fn endpoint(config: &ReceiverConfig, host_id: &str) -> Result<Endpoint, Failure> {
    let client = Client::new(config).map_err(|error| Failure::Usage(error.into()))?;
    Endpoint::new(config, host_id, client).map_err(|error| Failure::Usage(error.into()))
}
