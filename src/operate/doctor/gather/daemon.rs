//! Whether a daemon runs on this folder, and how it says it stands.

use std::{
    fs,
    io::{self, ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::fs::OFlags;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{DISK, within};
use crate::{layout::Layout, operate::doctor::facts::Daemon, snapshot::Snapshot};

/// It turns within milliseconds, or something is very wrong.
const ANSWER: Duration = Duration::from_millis(2500);
/// A snapshot is some ten kilobytes.
const MAX_SNAPSHOT_BYTES: usize = 4 << 20;
/// What a holder writes is far shorter.
const MAX_LOCK_BYTES: u64 = 4096;

/// What stands in the lock file of a daemon that runs, or was killed.
#[derive(Debug, Deserialize)]
struct Holder {
    pid: u32,
    #[serde(default)]
    boot_id: String,
}

pub(super) async fn ask(layout: Option<&Layout>) -> Daemon {
    let Some(layout) = layout else { return Daemon::Unknown };
    let why = match tokio::time::timeout(ANSWER, snapshot(&layout.private.join("control.sock"))).await {
        Ok(Ok(snapshot)) => return Daemon::Answers(Box::new(snapshot)),
        Ok(Err(error)) => error,
        Err(_) => io::Error::other(format!("no answer within {} ms", ANSWER.as_millis())),
    };
    let lock = layout.private.join("lock");
    let holder = within(DISK, move || holder(&lock)).await;
    match (holder, why.kind()) {
        // A socket that is left behind by a daemon that was killed, or none at all.
        (Some(None), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Daemon::None,
        (Some(pid), ErrorKind::PermissionDenied) => Daemon::NotPermitted { pid },
        (Some(pid), ErrorKind::NotFound) => {
            Daemon::Silent { pid, why: "it has no control socket".to_owned() }
        }
        (Some(pid), _) => Daemon::Silent { pid, why: why.to_string() },
        (None, _) => Daemon::Unknown,
    }
}

async fn snapshot(socket: &Path) -> io::Result<Snapshot> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = http::Request::get("/snapshot").header(http::header::HOST, "sealift").body(Empty::new());
    let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    if answer.status() != http::StatusCode::OK {
        return Err(io::Error::other(format!("it answers {}", answer.status())));
    }
    let body =
        Limited::new(answer.into_body(), MAX_SNAPSHOT_BYTES).collect().await.map_err(io::Error::other)?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| io::Error::other(format!("not understood: {error}")))
}

/// The process that holds the lock. The lock itself is not tried: a daemon that starts in that moment would find it taken.
fn holder(lock: &Path) -> Option<u32> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(lock).ok()?;
    let mut text = Vec::new();
    file.take(MAX_LOCK_BYTES).read_to_end(&mut text).ok()?;
    let holder: Holder = serde_json::from_slice(&text).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{}/comm", holder.pid)).unwrap_or_default();
    (holder.boot_id == boot.trim() && name.trim() == "sealift").then_some(holder.pid)
}
