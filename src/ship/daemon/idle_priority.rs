//! Reading that nothing waits for: at idle I/O priority, so that recorders come first.

use std::{
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
};

/// Does it on a thread of its own, which ionice(1) of util-linux puts into the idle class
/// (ioprio_set(2)): the system call is in no crate of ours, and the class lasts as long as its
/// thread. Where that is refused (the unit's `SystemCallFilter=` does so) the class stays what the
/// unit sets, which is the lowest of best-effort.
pub(super) fn at_idle_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|threads| {
        let idle = || {
            let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
            let _ = Command::new("ionice")
                .args(["-c", "3", "-p", &thread])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            work()
        };
        threads.spawn(idle).join()
    });
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
