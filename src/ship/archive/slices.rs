//! A long archive is flushed in slices while it is written, beside the writer, so that the flush that counts (the one before
//! its final name) is short whatever its length: a flush shows no progress, and what shows none for too long is
//! taken for hung.
//!
//! ```text
//!  written   ───────────────────▶                    the writer waits only where it is far ahead of the disk
//!  flushed   ────────▶            one slice at a time, on a thread of its own
//! ```
//!
//! An error is remembered, and is final. The kernel reports a failed write-back once for an open file (fsync(2)), so a later
//! flush would say that all is well.

use std::{
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// At 5 MB/s, which is a poor card's pace, one takes a quarter of a minute. Shorter archives are not touched at all.
const SLICE_BYTES: u64 = 64 << 20;
/// How many of them may be written and not flushed before the writer waits. With these, the last flush stays well under
/// what a disk may take on that card, too.
const MAX_SLICES_AHEAD: u64 = 4;

/// Makes an open file's bytes durable.
type Flush = fn(&File) -> io::Result<()>;

/// Shared by the writer and whoever makes the archive durable.
#[derive(Clone, Debug)]
pub(super) struct Slices(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slice_bytes: u64,
    flush: Flush,
    state: Mutex<State>,
    at_rest: Condvar,
}

#[derive(Debug, Default)]
struct State {
    flushing: bool,
    /// So many bytes were written when the last flush began.
    begun_at_bytes: u64,
    failed: Option<(io::ErrorKind, String)>,
}

impl Slices {
    pub(super) fn new(flush: Flush) -> Self {
        Self::of(SLICE_BYTES, flush)
    }

    fn of(slice_bytes: u64, flush: Flush) -> Self {
        Self(Arc::new(Inner { slice_bytes, flush, state: Mutex::default(), at_rest: Condvar::new() }))
    }

    /// So many bytes stand in the file now.
    ///
    /// # Errors
    /// That of a flush which has failed meanwhile.
    pub(super) fn wrote(&self, file: &Arc<File>, len_bytes: u64) -> io::Result<()> {
        let slice_bytes = self.0.slice_bytes;
        let mut state = self.lock();
        let ahead_bytes = len_bytes - state.begun_at_bytes;
        if ahead_bytes < slice_bytes {
            return state.outcome();
        }
        if state.flushing {
            if ahead_bytes < MAX_SLICES_AHEAD * slice_bytes {
                return state.outcome();
            }
            state = self.wait(state);
        }
        state.outcome()?;
        (state.flushing, state.begun_at_bytes) = (true, len_bytes);
        drop(state);
        let (slices, file) = (self.clone(), Arc::clone(file));
        let begun = std::thread::Builder::new().name("flush".into()).spawn(move || slices.flush(&file));
        if let Err(error) = begun {
            // No thread to be had: the next slice may find one, or the last flush does it all.
            tracing::debug!("no thread to flush with: {error}");
            self.lock().flushing = false;
        }
        Ok(())
    }

    /// Waits for the flush that is under way.
    ///
    /// # Errors
    /// That of any flush so far: the file is not to be believed, whatever a flush says now.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.wait(self.lock()).outcome()
    }

    fn flush(&self, file: &File) {
        let flushed = (self.0.flush)(file);
        let mut state = self.lock();
        state.flushing = false;
        if let Err(error) = flushed {
            state.failed.get_or_insert((error.kind(), error.to_string()));
        }
        self.0.at_rest.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.0.at_rest.wait_while(state, |state| state.flushing).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outcome(&self) -> io::Result<()> {
        match &self.failed {
            Some((kind, why)) => Err(io::Error::new(*kind, why.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn file() -> Arc<File> {
        Arc::new(tempfile::tempfile().unwrap())
    }

    #[test]
    fn a_long_archive_is_flushed_on_the_way_and_a_short_one_is_not() {
        static FLUSHES: AtomicUsize = AtomicUsize::new(0);
        let slices = Slices::of(100, |_| {
            FLUSHES.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let file = file();
        slices.wrote(&file, 99).unwrap();
        slices.settle().unwrap();
        assert_eq!(FLUSHES.load(Ordering::SeqCst), 0);
        for len_bytes in [100, 150, 200, 299, 300] {
            slices.wrote(&file, len_bytes).unwrap();
            slices.settle().unwrap();
        }
        assert_eq!(FLUSHES.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn the_writer_waits_only_where_it_is_far_ahead() {
        static ENDED: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<()> = Mutex::new(());
        let slices = Slices::of(100, |_| {
            drop(GATE.lock().unwrap());
            ENDED.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let file = file();
        let (opened, open) = std::sync::mpsc::channel();
        let closed = GATE.lock().unwrap();
        for len_bytes in (100..500).step_by(50) {
            slices.wrote(&file, len_bytes).unwrap();
        }
        assert_eq!(ENDED.load(Ordering::SeqCst), 0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                slices.wrote(&file, 500).unwrap();
                let _ = opened.send(ENDED.load(Ordering::SeqCst));
            });
            // One that does not wait is through by then.
            let early = open.recv_timeout(std::time::Duration::from_millis(50));
            assert!(early.is_err(), "it did not wait");
            drop(closed);
            writer.join().unwrap();
        });
        slices.settle().unwrap();
        assert_eq!(ENDED.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_failed_flush_is_final_whatever_comes_after_it() {
        static FLUSHES: AtomicUsize = AtomicUsize::new(0);
        // As the kernel does it: the first one says so, and the next ones say that all is well.
        let slices = Slices::of(100, |_| match FLUSHES.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        let file = file();
        slices.wrote(&file, 100).unwrap();
        assert_eq!(slices.settle().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(slices.wrote(&file, 150).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(slices.wrote(&file, 250).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(slices.settle().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
