//! Is a file open for writing, by any process? And by which?
//!
//! ```text
//!  open file ──F_SETLEASE, F_RDLCK──▶ granted ──given back at once──▶ Closed
//!                 ├─ EAGAIN ────────▶ Open: a descriptor for writing, or a shared writable mapping
//!                 └─ anything else ─▶ Unknown: another user's file, NFS, SMB
//! ```
//!
//! Time stamps do not tell. A store through a shared mapping into a page that is dirty already
//! moves none until the page is written back (half a minute), on tmpfs it never does; and a program
//! that keeps a file open may write a minute later what it holds in its own buffer now.
//!
//! A lease that is held makes the next open(2) for writing wait for its end, and the kernel tells
//! the holder by SIGIO, whose default ends the process. So it is given back at once, and SIGIO is
//! handled before the first one is taken. (A program that opens with `O_NONBLOCK` in the
//! microsecond between is told `EWOULDBLOCK`, and tries again: open(2).)
//!
//! A lease that is granted on FUSE, 9p or a cluster's file system says that no process has the file
//! open through this mount. Those who write past it (to a branch of a pool, on another host) are
//! not seen; the doctor and `seal` say so.
//!
//! On NFS and SMB `EAGAIN` means that the server has granted no delegation (nfs4_setlease,
//! cifs_setlease in the kernel), and says nothing about writers: leases are not asked for there.

mod holder;
mod lease;
mod search;
#[cfg(test)]
mod tests;

use std::{fs::File, io, path::Path, sync::OnceLock};

use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};

pub use self::holder::FileHolder;
use self::lease::Lease;
pub(crate) use self::{holder::find_holder, search::find_open};
use crate::disk::filesystem;

/// What is known of those who may write to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// No process has it open for writing, or mapped writable.
    Closed,
    /// One has.
    Open,
    /// The file belongs to another user, and this process lacks `CAP_LEASE`.
    NotPermitted,
    /// The file system does not tell.
    Untold,
}

/// Asks after the files of one folder.
#[derive(Debug, Clone, Copy)]
pub struct OpenFileProbe {
    is_usable: bool,
}

impl OpenFileProbe {
    /// One for the files below a folder. It asks nothing where the file system's leases say nothing
    /// about writers.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self {
            is_usable: filesystem::tells_writers(folder) && sigio_is_handled(),
        }
    }

    /// One that asks nothing.
    #[must_use]
    pub const fn never() -> Self {
        Self { is_usable: false }
    }

    /// Whether it asks at all.
    pub const fn asks(self) -> bool {
        self.is_usable
    }

    /// Whether a file is open for writing just now. `file` must be open for reading only. Two
    /// system calls.
    pub fn writers(self, file: &File) -> Writers {
        if !self.is_usable {
            return Writers::Untold;
        }
        let taken = lease::set(file, Lease::Read);
        if taken.is_ok() {
            // It ends with the descriptor where it cannot be given back.
            let _ = lease::set(file, Lease::None);
        }
        match taken.as_ref().map_err(io::Error::raw_os_error) {
            Ok(()) => Writers::Closed,
            Err(Some(errno)) if errno == Errno::AGAIN.raw_os_error() => Writers::Open,
            Err(Some(errno))
                if [Errno::PERM, Errno::ACCESS]
                    .map(Errno::raw_os_error)
                    .contains(&errno) =>
            {
                Writers::NotPermitted
            }
            Err(_) => Writers::Untold,
        }
    }
}

/// Installs a handler for SIGIO, once for the process: it stays when the runtime that asked for it
/// is gone (tokio::signal::unix, "Caveats"). False where it cannot be had: then no lease is taken.
fn sigio_is_handled() -> bool {
    static HANDLED: OnceLock<bool> = OnceLock::new();
    *HANDLED.get_or_init(|| {
        // One of its own: the caller may be a command without a runtime, or a thread of one.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
        else {
            return false;
        };
        let handled = {
            let _inside = runtime.enter();
            signal(SignalKind::io()).is_ok()
        };
        runtime.shutdown_background();
        handled
    })
}
