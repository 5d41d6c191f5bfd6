//! Lines on their way to the thread that writes them: in order, within bounds, and never waited for
//! by a thread that logs.
//!
//! ```text
//!   nothing ──────────── a quarter ─────────────── half ──────────────── all of it
//!                        ◀ the gap is told          chatter is dropped ▶  everything is dropped ▶
//! ```
//!
//! What is dropped is what comes: so what is there is whole up to one moment, and from there on one
//! line says how much is missing.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::line::{LogLine, Worth};

/// So much of what is not written yet is kept: some 8,000 lines, an hour or a day of a daemon that
/// says what became of each episode, and little beside the daemon itself.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Lines that wait.
#[derive(Debug)]
pub(super) struct LogQueue {
    max_bytes: usize,
    state: Mutex<QueueState>,
    more: Condvar,
    drained: Condvar,
}

#[derive(Debug)]
struct QueueState {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// The writer is at one of them.
    writing: bool,
    /// When it came for the last one; or when something came again for it to write.
    moved: Instant,
    gap: Option<Gap>,
    dropped: u64,
}

/// Lines that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) lines: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// What is to be written next.
#[derive(Debug)]
pub(super) enum NextLine {
    Line(LogLine),
    Gap(Gap),
}

impl LogQueue {
    pub(super) fn new(max_bytes: usize) -> Self {
        let state = QueueState {
            lines: VecDeque::new(),
            bytes: 0,
            writing: false,
            moved: Instant::now(),
            gap: None,
            dropped: 0,
        };
        Self {
            max_bytes,
            state: Mutex::new(state),
            more: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    /// Takes it, or drops it; never waits.
    pub(super) fn push(&self, line: LogLine) {
        let mut state = self.state.lock();
        let room = match line.worth() {
            Worth::Chatter => self.max_bytes / 2,
            Worth::Matters => self.max_bytes,
            Worth::AboutTheLog => usize::MAX,
        };
        if state.bytes.saturating_add(line.bytes) > room {
            state.drop_one(line.at);
            return;
        }
        if state.lines.is_empty() && !state.writing {
            state.moved = Instant::now();
        }
        state.bytes += line.bytes;
        state.lines.push_back(line);
        self.more.notify_one();
    }

    /// Waits for something to write. What was given out before is written by now.
    pub(super) fn next(&self) -> NextLine {
        let mut state = self.state.lock();
        state.writing = false;
        state.moved = Instant::now();
        loop {
            if state.bytes <= self.max_bytes / 4
                && let Some(gap) = state.gap.take()
            {
                state.writing = true;
                return NextLine::Gap(gap);
            }
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.bytes;
                state.writing = true;
                return NextLine::Line(line);
            }
            self.drained.notify_all();
            self.more.wait(&mut state);
        }
    }

    /// A line could not be written after all. That is counted and not told: the line that tells it
    /// might fare the same.
    pub(super) fn lost(&self) {
        self.state.lock().dropped += 1;
    }

    /// Waits until everything is written; false where it is not within that time.
    pub(super) fn drained_within(&self, grace: Duration) -> bool {
        let waits = |state: &mut QueueState| {
            state.writing || !state.lines.is_empty() || state.gap.is_some()
        };
        let mut state = self.state.lock();
        !self
            .drained
            .wait_while_for(&mut state, waits, grace)
            .timed_out()
    }

    /// How many were dropped so far, and for how long the writer has got rid of nothing though
    /// there is something.
    pub(super) fn standing(&self) -> (u64, Option<Duration>) {
        let state = self.state.lock();
        let waits = state.writing || !state.lines.is_empty();
        (state.dropped, waits.then(|| state.moved.elapsed()))
    }
}

impl QueueState {
    fn drop_one(&mut self, at: Timestamp) {
        self.dropped += 1;
        let gap = self.gap.get_or_insert(Gap {
            lines: 0,
            first: at,
            last: at,
        });
        gap.lines += 1;
        gap.last = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::logging::line::tests::said;

    /// Room for so many of these lines.
    fn room_for(lines: usize) -> LogQueue {
        LogQueue::new(chatter(0).bytes * lines)
    }

    fn chatter(n: u64) -> LogLine {
        said(|| tracing::info!(VERDIKT = n, "a")).remove(0)
    }

    fn result(n: u64) -> LogLine {
        said(|| tracing::info!(VERDICT = n, "a")).remove(0)
    }

    fn gap_of(next: NextLine) -> u64 {
        match next {
            NextLine::Gap(gap) => gap.lines,
            NextLine::Line(line) => panic!("{line:?}"),
        }
    }

    #[test]
    fn chatter_makes_room_for_what_matters_and_what_is_missing_is_told_when_there_is_room_again() {
        let queue = room_for(8);
        for n in 0..6 {
            queue.push(chatter(n));
        }
        for n in 0..6 {
            queue.push(result(n));
        }
        assert_eq!(queue.standing().0, 4);
        let worth = |next| match next {
            NextLine::Line(line) => line.worth(),
            NextLine::Gap(gap) => panic!("{gap:?}"),
        };
        let worths: Vec<_> = (0..6).map(|_| worth(queue.next())).collect();
        assert_eq!(
            worths,
            [[Worth::Chatter; 4].as_slice(), &[Worth::Matters; 2]].concat()
        );
        assert_eq!(gap_of(queue.next()), 4);
        // Told once.
        for _ in 0..2 {
            assert_eq!(worth(queue.next()), Worth::Matters);
        }
        assert_eq!(queue.standing().0, 4);
    }

    #[test]
    fn the_line_that_tells_what_is_missing_finds_room_and_comes_in_its_order() {
        let queue = room_for(4);
        for n in 0..9 {
            queue.push(result(n));
        }
        queue.push(
            said(|| tracing::warn!(target: crate::cli::logging::line::ABOUT_THE_LOG, "a"))
                .remove(0),
        );
        assert_eq!(queue.standing().0, 5);
        for _ in 0..3 {
            assert!(matches!(queue.next(), NextLine::Line(line) if line.worth() == Worth::Matters));
        }
    }

    #[test]
    fn a_line_that_is_larger_than_all_of_it_is_dropped_and_told() {
        let queue = LogQueue::new(chatter(0).bytes * 2 - 1);
        queue.push(chatter(0));
        assert_eq!(gap_of(queue.next()), 1);
    }

    #[test]
    fn whoever_waits_for_everything_to_be_written_waits_for_the_line_in_hand_and_not_for_ever() {
        let queue = room_for(8);
        let no_time = Duration::ZERO;
        assert!(queue.drained_within(no_time));
        assert_eq!(queue.standing(), (0, None));
        queue.push(chatter(0));
        assert!(!queue.drained_within(no_time));
        assert!(matches!(queue.next(), NextLine::Line(_)));
        assert!(
            !queue.drained_within(no_time),
            "the writer has it, and has not come back"
        );
        assert!(queue.standing().1.is_some());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(queue.drained_within(Duration::from_secs(30)));
                queue.push(chatter(1));
            });
            assert!(matches!(queue.next(), NextLine::Line(_)));
        });
    }
}
