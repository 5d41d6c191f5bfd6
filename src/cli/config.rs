//! `sealift config`

use clap::Subcommand;
use sealift::{
    config::{RawReceive, SAMPLE},
    receive::access::Access,
};

use super::{
    Source,
    destination::{self, Destination},
    exit::{Exit, Failure},
};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it
    Check {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        destination: Destination,
    },
    /// Print what is set, as TOML
    Show {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        destination: Destination,
    },
    /// Print a commented configuration in which everything stands at its default
    Default,
}

#[expect(clippy::print_stdout, reason = "a command's result")]
pub(crate) fn run(command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Default => print!("{SAMPLE}"),
        ConfigCommand::Check { source, destination } => {
            let raw = destination::configuration(&source, &destination)?;
            let receiver_alone = raw.receive != RawReceive::default()
                && raw.shipper.data_dir.is_none()
                && raw.receiver.url.is_none();
            let receive = raw.receive()?;
            Access::read(&receive).map_err(|error| Failure::Usage(error.into()))?;
            if receiver_alone {
                println!("the configuration is right, for a receiver alone");
            } else {
                let config = raw.ship()?;
                super::ship::transport(&config.receiver, &config.host_id)?;
                println!("the configuration is right");
            }
        }
        ConfigCommand::Show { source, destination } => {
            let raw = destination::configuration(&source, &destination)?;
            print!("{}", toml::to_string(&raw).map_err(anyhow::Error::new)?);
        }
    }
    Ok(Exit::Done)
}
