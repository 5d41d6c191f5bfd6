//! `fcntl(F_SETLEASE)`, which no crate of ours wraps: the only unsafe code in the tree.

use std::{fs::File, io, os::fd::AsRawFd as _};

/// Takes a read lease on a file (fcntl(2), "Leases"), or gives it back. The file must be open for
/// reading only.
///
/// # Errors
/// Those of fcntl(2): `EAGAIN` where the file is open for writing, or mapped writable, by any
/// process; `EACCES` or `EPERM` where it belongs to another user and the caller lacks `CAP_LEASE`;
/// `EINVAL` where the file system knows no leases.
pub(super) fn set(file: &File, to: Lease) -> io::Result<()> {
    let kind = match to {
        Lease::Read => libc::F_RDLCK,
        Lease::None => libc::F_UNLCK,
    };
    #[expect(
        unsafe_code,
        reason = "no crate wraps F_SETLEASE; its argument is a number, and the descriptor is open"
    )]
    let answer =
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::c_int::from(kind)) };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lease {
    /// `F_RDLCK`
    Read,
    /// `F_UNLCK`
    None,
}
