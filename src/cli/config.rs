//! `sealift config`

use std::path::Path;

use clap::Subcommand;

use super::{
    ConfigSource,
    destination::{self, DestinationClient},
    exit::{Exit, Failure},
    logging,
    output::{out, outln},
};
use crate::{
    clock,
    config::{RawConfig, RawReceive, SAMPLE},
    disk::filesystem::shared_between_hosts,
    http::url_template,
    model::text::printable,
    receive::access::Access,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it
    Check {
        #[command(flatten)]
        source: ConfigSource,
        #[command(flatten)]
        destination: DestinationClient,
    },
    /// Print what is in force, as TOML: what is set, and the default of each other key
    Show {
        #[command(flatten)]
        source: ConfigSource,
        #[command(flatten)]
        destination: DestinationClient,
    },
    /// Print a commented configuration in which everything stands at its default
    Default,
}

pub(crate) fn run(command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Default => out!("{SAMPLE}"),
        ConfigCommand::Check {
            source,
            destination,
        } => {
            // Secrets that others can read, a token in clear text: told while the files are read.
            logging::start("warn");
            let raw = destination::configuration(&source, &destination)?;
            let receiver_alone = raw.receive != RawReceive::default()
                && raw.shipper.data_dir.is_none()
                && raw.receiver.url.is_none();
            let receive = raw.receive()?;
            let access = Access::read(&receive).map_err(|error| Failure::Usage(error.into()))?;
            // That is in the log already, as is the shipper's below.
            let mut is_right = access
                .certificate_not_after()
                .is_none_or(|end| end >= clock::wall_now());
            if receiver_alone {
                if is_right {
                    outln!("the configuration is right, for a receiver alone");
                }
            } else {
                let config = raw.ship()?;
                super::ship::transport(&config.receiver, &config.host_id)?;
                is_right &= super::ship::unfit_certificate(&config.receiver).is_none();
                if is_right {
                    outln!("the configuration is right");
                }
            }
            if !is_right {
                outln!(
                    "the configuration can be read, and a certificate that it names is not good"
                );
                return Ok(Exit::Wrong);
            }
        }
        ConfigCommand::Show {
            source,
            destination,
        } => {
            let raw = destination::configuration(&source, &destination)?;
            out!(
                "{}",
                shown(
                    &raw,
                    source
                        .file(destination::is_enough(&source, &destination))
                        .as_deref()
                )?
            );
        }
    }
    Ok(Exit::Done)
}

fn shown(raw: &RawConfig, file: Option<&Path>) -> Result<String, Failure> {
    let mut raw = raw.clone();
    // As a command would take it that is started here.
    raw.shipper.data_dir = raw
        .shipper
        .data_dir
        .map(|path| std::path::absolute(&path).unwrap_or(path));
    let in_force = raw.in_force(false);
    let episodes = in_force.shipper.episodes_dir.as_deref();
    let mut in_force = raw.in_force(episodes.and_then(shared_between_hosts).is_some());
    for value in in_force.receiver.headers.values_mut() {
        "…".clone_into(value);
    }
    in_force.receiver.url = in_force.receiver.url.map(|url| url_template::shown(&url));
    let file = match file {
        Some(file) => format!("read from {}", printable(&file.to_string_lossy())),
        None => "no file was read".to_owned(),
    };
    let toml = toml::to_string(&in_force).map_err(anyhow::Error::new)?;
    Ok(format!(
        "# {file}; with the command line laid over it, and defaults for what neither sets\n{toml}"
    ))
}
