//! `sealift receive`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use sealift::receive::serve::{BindError, Server};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    exit::{Exit, Failure},
    logging,
    ship::stop_signal,
};

/// Threads that wait for the disk. More of them make no disk faster, and each takes its stack; a piece of an upload that has
/// to wait for one holds back its sender, which is as it should be.
const DISK_THREADS: usize = 48;

#[derive(Debug, Args)]
#[command(after_help = "\
Beyond loopback it starts only with TLS and with certificates or tokens: tls_cert_file, tls_key_file, and client_ca_file \
or tokens_file, in [receive] of the configuration. `sealift config check` says what is wrong with them.

SIGHUP: certificates, tokens and commits are read again, as they are by themselves when they change.
SIGTERM: what is in flight has ten seconds; an upload that is cut off then goes on at the next start.
Watching it: GET /healthz, GET /metrics.

Exit codes: 0 told to stop; 1 it cannot listen or store there; 2 wrong arguments or configuration, or a certificate, \
token or commit file that cannot be used.")]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    source: super::Source,
    /// Where to listen, address and port; port 0 takes a free one (receive.listen) [default: 127.0.0.1:8490]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The folder to store into; created where it is missing (receive.store) [default: /var/lib/sealift-receiver]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Listen beyond loopback though nobody is asked who they are, or the wire can be read (receive.anyone_may_store)
    #[arg(long)]
    anyone_may_store: bool,
}

pub(crate) fn run(args: ReceiveArgs) -> Result<Exit, Failure> {
    let mut raw = args.source.read(args.listen.is_some() && args.store.is_some())?;
    raw.receive.listen = args.listen.or(raw.receive.listen);
    raw.receive.store = args.store.or(raw.receive.store);
    if args.anyone_may_store {
        raw.receive.anyone_may_store = Some(true);
    }
    let config = raw.receive()?;
    logging::start("info");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .context("Failed to start the async runtime")?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let mut hangup = signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?;
        let server = Server::bind(config).await.map_err(|error| match error {
            BindError::Exposed(_) | BindError::File(_) | BindError::FiledOtherwise(_) => {
                Failure::Usage(error.into())
            }
            BindError::Store { .. } | BindError::Listen { .. } => Failure::Wrong(error.into()),
        })?;
        let access = server.access();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                access.reload().await;
            }
        });
        server.run(stop).await;
        Ok(Exit::Done)
    })
}
