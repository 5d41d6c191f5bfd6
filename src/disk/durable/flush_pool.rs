//! Many files are flushed beside the work that writes them. A journal commits what several threads
//! ask for at once in one transaction: of 3,000 small files on ext4, sixteen at a time took a tenth
//! of the time of one after the other. Each file has its own fsync(2) all the same: syncfs(2) waits
//! for what others write to the disk as well, tells of no error before Linux 5.8, and asks nothing
//! of a FUSE file system's server.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use parking_lot::Mutex;

use super::sync_file;

/// So many are flushed at once, and so many wait: each is an open descriptor.
const FLUSHES: usize = 16;

/// A file that could not be flushed.
#[derive(Debug)]
pub(crate) struct FlushFailed {
    /// As the caller names it.
    pub(crate) path: PathBuf,
    /// What fsync(2) said.
    pub(crate) cause: io::Error,
}

/// Where files are handed in to be flushed.
pub(crate) struct FlushPool<'a> {
    queue: SyncSender<(PathBuf, File)>,
    failed: &'a Mutex<Option<FlushFailed>>,
}

impl FlushPool<'_> {
    /// Has a file or folder flushed before [`with_flush_pool`] returns. The path is for an error
    /// alone.
    ///
    /// # Errors
    /// An earlier file could not be flushed: the rest is in vain.
    pub(crate) fn flush(&self, path: PathBuf, file: File) -> Result<(), FlushFailed> {
        if let Some(failed) = self.failed.lock().take() {
            return Err(failed);
        }
        // Each end is there as long as this is.
        self.queue.send((path, file)).map_err(|unsent| FlushFailed {
            path: unsent.0.0,
            cause: io::ErrorKind::BrokenPipe.into(),
        })
    }
}

/// Does some work, and returns when all files that it has handed in are flushed.
///
/// # Errors
/// Those of the work, and [`FlushFailed`] of the first file that could not be.
pub(crate) fn with_flush_pool<T, E: From<FlushFailed>>(
    work: impl FnOnce(&FlushPool<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let failed = Mutex::new(None);
    let (queue, waiting) = sync_channel(FLUSHES);
    let waiting = Mutex::new(waiting);
    let worked = thread::scope(|threads| {
        for _ in 0..FLUSHES {
            threads.spawn(|| flush_each(&waiting, &failed));
        }
        let failed = &failed;
        work(&FlushPool { queue, failed })
    })?;
    match failed.into_inner() {
        Some(failed) => Err(failed.into()),
        None => Ok(worked),
    }
}

fn flush_each(waiting: &Mutex<Receiver<(PathBuf, File)>>, failed: &Mutex<Option<FlushFailed>>) {
    loop {
        // Held for the time in which nothing waits: the next thread waits here then.
        let next = waiting.lock().recv();
        let Ok((path, file)) = next else { return };
        if let Err(cause) = sync_file(&file) {
            failed.lock().get_or_insert(FlushFailed { path, cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn is_failed(result: Result<(), FlushFailed>) -> bool {
        result.is_err_and(|failed| failed.path.as_os_str() == "pipe")
    }

    #[test]
    fn what_cannot_be_flushed_ends_the_work_and_is_named_also_where_it_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let file = || File::create(folder.path().join("a")).unwrap();
        assert!(with_flush_pool(|pool| pool.flush("a".into(), file())).is_ok());
        // A pipe has nothing to flush: EINVAL.
        let pipe = || File::from(OwnedFd::from(io::pipe().unwrap().0));
        let last = with_flush_pool(|pool| {
            pool.flush("a".into(), file())?;
            pool.flush("pipe".into(), pipe())
        });
        assert!(is_failed(last));
        let mut handed_in = 0;
        let first = with_flush_pool(|pool| {
            pool.flush("pipe".into(), pipe())?;
            loop {
                pool.flush("a".into(), file())?;
                handed_in += 1;
            }
        });
        assert!(is_failed(first), "after {handed_in}");
    }
}
