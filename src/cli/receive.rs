//! `sealift receive`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use sealift::receive::serve::{BindError, Options, Server};

use super::{
    exit::{Exit, Failure},
    logging,
    ship::stop_signal,
};

#[derive(Debug, Args)]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    source: super::Source,
    /// Where to listen; port 0 takes a free one (receive.listen)
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The folder to store into (receive.store)
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

pub(crate) fn run(args: ReceiveArgs) -> Result<Exit, Failure> {
    let mut raw = args.source.read(args.listen.is_some() && args.store.is_some())?;
    raw.receive.listen = args.listen.or(raw.receive.listen);
    raw.receive.store = args.store.or(raw.receive.store);
    let config = raw.receive()?;
    logging::start("info");
    let runtime = tokio::runtime::Runtime::new().context("Failed to start the async runtime")?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let options = Options { listen: config.listen, store: config.store };
        let server = Server::bind(options).await.map_err(|error| match error {
            BindError::NotLoopback(_) => Failure::Usage(error.into()),
            BindError::Store { .. } | BindError::Listen { .. } => Failure::Wrong(error.into()),
        })?;
        server.run(stop).await;
        Ok(Exit::Done)
    })
}
