//! Asks a running daemon over its socket how it stands.

use std::{io, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    time::{Instant, timeout_at},
};

use super::open_recordings;
use crate::{
    disk::socket::{self, Address},
    model::{
        layout::Layout,
        snapshot::{Snapshot, VERSION},
        text::printable,
    },
};

/// A snapshot is some ten kilobytes. What is longer is none.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Why no daemon has answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Nothing answers: no daemon runs on this folder, or one that could make no socket.
    #[error("no daemon answers at {path}")]
    NotRunning {
        /// The socket.
        path: String,
    },
    /// A daemon is there, and the calling user may not ask it.
    #[error("{path} may not be asked by this user: members of the daemon's group may{}, and root", joining(group.as_ref()))]
    NotPermitted {
        /// The socket.
        path: String,
        /// Its group, where that is not root's.
        group: Option<String>,
    },
    /// A daemon is there and says nothing.
    #[error("a daemon is there at {path}, and does not answer: it hangs")]
    Hangs {
        /// The socket.
        path: String,
    },
    /// Something answers that is not understood.
    #[error("what answers at {path} is not understood: {why}")]
    Strange {
        /// The socket.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// How the daemon of this folder stands.
///
/// # Errors
/// [`NoAnswer`], within the time.
pub(crate) async fn snapshot(layout: &Layout, within: Duration) -> Result<Snapshot, NoAnswer> {
    // One deadline for both: where the folder hangs, the look for its socket has used it up.
    let until = Instant::now() + within;
    let of = layout.clone();
    let socket = timeout_at(until, tokio::task::spawn_blocking(move || socket::of(&of)));
    let socket = socket
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| layout.control_socket());
    let path = printable(&socket.to_string_lossy());
    let body = match timeout_at(until, get(&socket, "/snapshot")).await {
        Err(_) => return Err(NoAnswer::Hangs { path }),
        Ok(Err(error)) => return Err(no_answer(&error, path, &socket)),
        Ok(Ok((StatusCode::OK, body))) => body,
        Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, _))) => return Err(NoAnswer::Hangs { path }),
        Ok(Ok((status, _))) => {
            return Err(NoAnswer::Strange {
                path,
                why: format!("status {status}"),
            });
        }
    };
    let strange = |why: String| NoAnswer::Strange {
        path: path.clone(),
        why: printable(&why),
    };
    let snapshot: Snapshot =
        serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
    if snapshot.sealift_snapshot != VERSION {
        return Err(strange(format!(
            "it speaks version {} of the snapshot, and this program version {VERSION}; use the daemon's own program, or restart it",
            snapshot.sealift_snapshot
        )));
    }
    if !open_recordings::may_be_among(&snapshot) {
        return Ok(snapshot);
    }
    let (of, mut apart) = (layout.clone(), snapshot.clone());
    let look = move || {
        open_recordings::tell_apart(&mut apart, &of);
        apart
    };
    let looked = timeout_at(until, tokio::task::spawn_blocking(look)).await;
    Ok(looked.ok().and_then(Result::ok).unwrap_or(snapshot))
}

fn joining(group: Option<&String>) -> String {
    group.map_or_else(String::new, |group| {
        format!(" (sudo usermod -aG {group} \"$USER\", and log in again)")
    })
}

/// The group of the socket, or of the nearest folder above it that may be looked at. `None` for
/// that of root, which no user is told to join.
fn group_of(socket: &Path) -> Option<String> {
    let gid = socket
        .ancestors()
        .find_map(|path| std::fs::symlink_metadata(path).ok())?
        .gid();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| printable(name))
    });
    (gid != 0).then(|| name.unwrap_or_else(|| gid.to_string()))
}

fn no_answer(error: &io::Error, path: String, socket: &Path) -> NoAnswer {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotADirectory => NoAnswer::NotRunning { path },
        io::ErrorKind::PermissionDenied => NoAnswer::NotPermitted {
            path,
            group: group_of(socket),
        },
        _ => NoAnswer::Strange {
            path,
            why: printable(&error.to_string()),
        },
    }
}

async fn get(socket: &Path, what: &str) -> io::Result<(StatusCode, Bytes)> {
    // On a thread: the way to the socket may lead over a mount that hangs, and then so does
    // connect(2).
    let socket = socket.to_owned();
    let connected = tokio::task::spawn_blocking(move || {
        let stream = std::os::unix::net::UnixStream::connect(Address::of(&socket)?.path())?;
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>(stream)
    });
    let stream = UnixStream::from_std(connected.await.map_err(io::Error::other)??)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let asking = async {
        let request = Request::get(what)
            .header(header::HOST, "sealift")
            .body(Empty::<Bytes>::new());
        let response = sender
            .send_request(request.map_err(io::Error::other)?)
            .await
            .map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        Ok((status, body.map_err(io::Error::other)?.to_bytes()))
    };
    tokio::pin!(asking);
    tokio::select! {
        answered = &mut asking => answered,
        // It ends when all has been said; what was said is there still.
        _ = connection => asking.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_ask_is_told_the_group_that_may_and_never_roots() {
        let error = |group: Option<&str>| {
            NoAnswer::NotPermitted {
                path: "/d".to_owned(),
                group: group.map(str::to_owned),
            }
            .to_string()
        };
        assert!(
            error(Some("robots"))
                .contains("(sudo usermod -aG robots \"$USER\", and log in again), and root")
        );
        assert!(!error(None).contains("usermod"));
        let folder = tempfile::tempdir().unwrap();
        let gid = folder.path().metadata().unwrap().gid();
        assert_eq!(
            group_of(&folder.path().join("no/such.sock")).is_none(),
            gid == 0
        );
        assert_eq!(group_of(Path::new("/proc/1/no")), None);
    }
}
