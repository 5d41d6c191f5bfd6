//! `sealift receive`

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use super::{
    exit::{Exit, Failure},
    logging,
    ship::stop_signal,
};
use crate::receive::serve::{BindError, Server};

/// Threads that wait for the disk. More of them make no disk faster, and each takes its stack; a
/// piece of an upload that has to wait for one holds back its sender, which is as it should be.
const DISK_THREADS: usize = 48;

/// What waits for the disk when everything else has ended has this long: what is being published
/// may still be.
const DISK_GRACE: Duration = Duration::from_secs(5);
/// Descriptors of a connection: its socket, and the file that is written or read.
const DESCRIPTORS_EACH: u64 = 2;
/// Descriptors beside those of connections: the listener, the runtime, folders, certificates that
/// are read.
const DESCRIPTORS_BESIDE: u64 = 64;

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
    source: super::ConfigSource,
    /// Where to listen, address and port; port 0 takes a free one (receive.listen) [default:
    /// 127.0.0.1:8490]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The folder to store into; created where it is missing (receive.store) [default:
    /// /var/lib/sealift-receiver]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Listen beyond loopback though callers are not asked who they are, or the wire can be read
    /// (receive.anyone_may_store)
    #[arg(long)]
    anyone_may_store: bool,
}

pub(crate) fn run(args: ReceiveArgs) -> Result<Exit, Failure> {
    let mut raw = args
        .source
        .read(args.listen.is_some() && args.store.is_some())?;
    raw.receive.listen = args.listen.unwrap_or(raw.receive.listen);
    raw.receive.store = args.store.unwrap_or(raw.receive.store);
    if args.anyone_may_store {
        raw.receive.anyone_may_store = true;
    }
    let config = raw.receive()?;
    let _log = logging::start_service("info");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .context("Failed to start the async runtime")?;
    raise_descriptors(config.limits.max_connections.get() as u64);
    let ended = runtime.block_on(async {
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
    });
    end(runtime, DISK_GRACE);
    ended
}

/// Dropped, a runtime waits for ever for threads that a disk holds up; a service that was told to
/// stop is to end.
fn end(runtime: Runtime, grace: Duration) {
    runtime.shutdown_timeout(grace);
}

/// As many descriptors as this process may have (getrlimit(2)): the usual soft limit, 1024, is
/// there for select(2), which this program does not call.
fn raise_descriptors(connections: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let have = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    if let Some((needed, have)) = lacking(connections, have) {
        tracing::warn!(
            "receive.max_connections = {connections} needs {needed} file descriptors, and this process may have {have}: raise the \
             limit (LimitNOFILE= of the systemd unit, or ulimit -Hn), or lower max_connections"
        );
    }
}

/// How many descriptors are needed and how many there are, where those are too few. `None` for
/// `have`: no limit.
fn lacking(connections: u64, have: Option<u64>) -> Option<(u64, u64)> {
    let needed = connections
        .saturating_mul(DESCRIPTORS_EACH)
        .saturating_add(DESCRIPTORS_BESIDE);
    have.filter(|have| *have < needed)
        .map(|have| (needed, have))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_a_disk_holds_up_does_not_keep_it_from_ending() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let (begun, begins) = mpsc::channel();
        let (_answers, answer) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            answer.recv()
        });
        begins.recv().unwrap();
        // Would wait for ever.
        end(runtime, Duration::from_millis(1));
    }

    #[test]
    fn a_limit_below_two_descriptors_a_connection_is_told() {
        assert_eq!(lacking(512, Some(1024)), Some((1088, 1024)));
        assert_eq!(lacking(512, Some(1088)), None);
        assert_eq!(lacking(usize::MAX as u64, None), None);
    }
}
