//! A long archive is flushed in slices while it is written, beside the writer, so that the flush
//! that counts (the one before its final name) is short whatever its length: a flush shows no
//! progress, and what shows none for too long is taken for hung.
//!
//! ```text
//!  written   ───────────────────▶  the writer waits only where it is far ahead of the disk
//!  flushed   ────────▶             one slice at a time, on a thread of its own
//! ```
//!
//! An error is remembered, and is final. The kernel reports a failed write-back once for an open
//! file (fsync(2)), so a later flush would say that all is well.

use std::{fs::File, io, sync::Arc};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::model::progress::Progress;

/// Shorter archives are not touched at all.
const SLICE_BYTES: u64 = 32 << 20;
/// How many of them may be written since a flush began before the writer waits: so much is the most
/// that one flush has to do. At 5 MB/s, which is a poor card's pace, that takes a quarter of a
/// minute.
const MAX_SLICES_AHEAD: u64 = 2;

/// Makes an open file's bytes durable.
type Flush = fn(&File) -> io::Result<()>;

/// Shared by the writer and by the worker that makes the archive durable.
#[derive(Clone, Debug)]
pub(super) struct Slices(Arc<SlicesInner>);

#[derive(Debug)]
struct SlicesInner {
    slice_bytes: u64,
    flush: Flush,
    state: Mutex<FlushState>,
    at_rest: Condvar,
}

#[derive(Debug, Default)]
struct FlushState {
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
        Self(Arc::new(SlicesInner {
            slice_bytes,
            flush,
            state: Mutex::default(),
            at_rest: Condvar::new(),
        }))
    }

    /// So many bytes stand in the file now.
    ///
    /// # Errors
    /// That of a flush which has failed meanwhile.
    pub(super) fn wrote(&self, file: &Arc<File>, len_bytes: u64) -> io::Result<()> {
        let slice_bytes = self.0.slice_bytes;
        let mut state = self.0.state.lock();
        let ahead_bytes = len_bytes - state.begun_at_bytes;
        if ahead_bytes < slice_bytes {
            return state.outcome();
        }
        if state.flushing {
            if ahead_bytes < MAX_SLICES_AHEAD * slice_bytes {
                return state.outcome();
            }
            self.wait(&mut state);
        }
        state.outcome()?;
        (state.flushing, state.begun_at_bytes) = (true, len_bytes);
        drop(state);
        let (slices, beside) = (self.clone(), Arc::clone(file));
        let begun = std::thread::Builder::new()
            .name("flush".into())
            .spawn(move || slices.flush(&beside));
        if let Err(error) = begun {
            tracing::debug!("no thread to flush with, the writer does it: {error}");
            self.flush(file);
            return self.0.state.lock().outcome();
        }
        Ok(())
    }

    /// Waits for the flush that is under way, and flushes what was written since it began where
    /// that is a slice or more. Each is a step of `progress`. What is left for the last flush is
    /// less than a slice.
    ///
    /// # Errors
    /// Those of [`Slices::settle`].
    pub(super) fn catch_up(
        &self,
        file: &File,
        len_bytes: u64,
        progress: &Progress,
    ) -> io::Result<()> {
        self.settle()?;
        progress.step();
        let behind_bytes = {
            let mut state = self.0.state.lock();
            let behind_bytes = len_bytes - state.begun_at_bytes;
            if behind_bytes >= self.0.slice_bytes {
                (state.flushing, state.begun_at_bytes) = (true, len_bytes);
            }
            behind_bytes
        };
        if behind_bytes >= self.0.slice_bytes {
            self.flush(file);
            progress.step();
        }
        self.0.state.lock().outcome()
    }

    /// Waits for the flush that is under way.
    ///
    /// # Errors
    /// That of any flush so far: the file is not to be believed, whatever a flush says now.
    pub(super) fn settle(&self) -> io::Result<()> {
        let mut state = self.0.state.lock();
        self.wait(&mut state);
        state.outcome()
    }

    fn flush(&self, file: &File) {
        let flushed = (self.0.flush)(file);
        let mut state = self.0.state.lock();
        state.flushing = false;
        if let Err(error) = flushed {
            state
                .failed
                .get_or_insert((error.kind(), error.to_string()));
        }
        self.0.at_rest.notify_all();
    }

    fn wait(&self, state: &mut MutexGuard<'_, FlushState>) {
        self.0.at_rest.wait_while(state, |state| state.flushing);
    }
}

impl FlushState {
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
            drop(GATE.lock());
            ENDED.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let file = file();
        let (opened, open) = std::sync::mpsc::channel();
        let closed = GATE.lock();
        for len_bytes in (100..100 + MAX_SLICES_AHEAD * 100).step_by(50) {
            slices.wrote(&file, len_bytes).unwrap();
        }
        assert_eq!(ENDED.load(Ordering::SeqCst), 0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                slices.wrote(&file, 100 + MAX_SLICES_AHEAD * 100).unwrap();
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
    fn no_flush_has_more_to_do_than_a_card_of_5_mb_a_second_does_in_a_quarter_of_a_minute() {
        const { assert!(MAX_SLICES_AHEAD * SLICE_BYTES <= 15 * 5_000_000) };
    }

    #[test]
    fn what_is_behind_in_the_end_is_caught_up_with_and_each_flush_is_a_step() {
        static FLUSHES: AtomicUsize = AtomicUsize::new(0);
        let slices = Slices::of(100, |_| {
            FLUSHES.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let (file, progress) = (file(), Progress::default());
        slices.catch_up(&file, 99, &progress).unwrap();
        assert_eq!(
            (FLUSHES.load(Ordering::SeqCst), progress.steps()),
            (0, 1),
            "a short one"
        );
        slices.wrote(&file, 100).unwrap();
        slices.catch_up(&file, 250, &progress).unwrap();
        assert_eq!(
            (FLUSHES.load(Ordering::SeqCst), progress.steps()),
            (2, 3),
            "a long tail"
        );
        slices.catch_up(&file, 250, &progress).unwrap();
        assert_eq!(
            (FLUSHES.load(Ordering::SeqCst), progress.steps()),
            (2, 4),
            "nothing is behind"
        );
    }

    #[test]
    fn a_failed_flush_of_the_tail_is_final() {
        static FLUSHES: AtomicUsize = AtomicUsize::new(0);
        let slices = Slices::of(100, |_| match FLUSHES.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
        let (file, progress) = (file(), Progress::default());
        for _ in 0..2 {
            let failed = slices.catch_up(&file, 150, &progress).unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        }
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
        assert_eq!(
            slices.settle().unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            slices.wrote(&file, 150).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            slices.wrote(&file, 250).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            slices.settle().unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
    }
}
