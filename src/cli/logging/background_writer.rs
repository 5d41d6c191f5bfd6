//! The log of a service: the thread that logs hands a line over and goes on, and a thread of its
//! own writes it.
//!
//! journald may hang or be stopped, and the pipe at stderr may have no reader: then a write waits,
//! and with it the thread that logs. In a service that is the loop, whose heart stops, and the
//! service manager kills what could have gone on shipping. Here it is this thread that waits.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use super::{
    LogSink,
    line::{ABOUT_THE_LOG, LogLine},
    queue::{Gap, LogQueue, MAX_BYTES, NextLine},
};
use crate::model::snapshot;

/// At the end, what is not written yet has so long. A stop does not wait for a journald that hangs;
/// what the daemon tells the service manager of the time that it takes to go has room for this.
const LAST_GRACE: Duration = Duration::from_secs(2);
/// A thread that panics waits so long for its words to be written: it may be that nothing comes
/// after them.
const PANIC_GRACE: Duration = Duration::from_secs(1);
/// A line that waited for so long says when it was said.
const LATE: SignedDuration = SignedDuration::from_secs(5);
/// One write that takes longer is more than a slow disk under the journal.
const STUCK: Duration = Duration::from_secs(10);
const WRITER: &str = "log";

static WRITTEN_APART: OnceLock<Apart> = OnceLock::new();

#[derive(Debug)]
struct Apart {
    queue: Arc<LogQueue>,
    to_journal: bool,
}

/// Its holder waits at the end until everything is written, and no longer than [`LAST_GRACE`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Flushed(());

impl Drop for Flushed {
    fn drop(&mut self) {
        if let Some(apart) = WRITTEN_APART.get() {
            apart.queue.drained_within(LAST_GRACE);
        }
    }
}

/// Logs by a thread of its own, which makes the sink: that may wait for journald already.
pub(super) fn start(
    filter: EnvFilter,
    to_journal: bool,
    sink: impl FnOnce() -> LogSink + Send + 'static,
) -> io::Result<Flushed> {
    let queue = Arc::new(LogQueue::new(max_bytes()));
    let written = Arc::clone(&queue);
    thread::Builder::new()
        .name(WRITER.to_owned())
        .spawn(move || write(&written, &sink(), to_journal))?;
    let handed_over = HandedOver(Arc::clone(&queue));
    let _ = tracing_subscriber::registry()
        .with(handed_over)
        .with(filter)
        .try_init();
    // A process is one service, once.
    let _ = WRITTEN_APART.set(Apart { queue, to_journal });
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        // A line about the writer would be for it to write.
        let is_writer = thread::current().name() == Some(WRITER);
        if !is_writer && tracing::enabled!(Level::ERROR) {
            tell_panic(panicked);
        } else {
            otherwise(panicked);
        }
    }));
    Ok(Flushed(()))
}

/// How the log stands.
pub(crate) fn standing() -> snapshot::Log {
    let Some(apart) = WRITTEN_APART.get() else {
        return snapshot::Log::default();
    };
    let (lines_dropped, stuck) = apart.queue.standing();
    snapshot::Log {
        to_journal: apart.to_journal,
        lines_dropped,
        stuck_for_s: stuck
            .filter(|stuck| *stuck >= STUCK)
            .map(|stuck| stuck.as_secs()),
    }
}

/// Says the last words of a command, on stderr. A service waits no longer than [`LAST_GRACE`].
pub(crate) fn last_words(say: impl FnOnce() + Send + 'static) {
    if WRITTEN_APART.get().is_none() {
        return say();
    }
    let (said, hears) = mpsc::channel::<()>();
    thread::spawn(move || {
        say();
        drop(said);
    });
    // Nothing is ever sent: that it ends is all that is waited for.
    let _ = hears.recv_timeout(LAST_GRACE);
}

/// So that a test need not say thousands of lines. Not in a release build.
fn max_bytes() -> usize {
    let fewer = std::env::var("SEALIFT_DEBUG_LOG_BYTES")
        .ok()
        .filter(|_| cfg!(debug_assertions));
    fewer
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(MAX_BYTES)
}

/// What is logged goes into the queue.
struct HandedOver(Arc<LogQueue>);

impl<S: Subscriber> Layer<S> for HandedOver {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.push(LogLine::of(event));
    }
}

fn write(queue: &LogQueue, sink: &LogSink, to_journal: bool) {
    loop {
        match queue.next() {
            NextLine::Line(mut line) => {
                if to_journal && Timestamp::now().duration_since(line.at) >= LATE {
                    line.tell_when_it_was_said();
                }
                // A fault in the sink costs a line, and not the log for the years to come.
                if catch_unwind(AssertUnwindSafe(|| line.write(sink))).is_err() {
                    queue.lost();
                }
            }
            NextLine::Gap(gap) => tell_gap(gap, to_journal),
        }
    }
}

fn tell_gap(gap: Gap, to_journal: bool) {
    let Gap { lines, first, last } = gap;
    let who = if to_journal {
        "journald"
    } else {
        "the reader of our stderr"
    };
    tracing::warn!(
        target: ABOUT_THE_LOG,
        "{lines} lines of this log are missing, said from {first:.0} to {last:.0}: {who} did not take them. Warnings, and what became of \
         an episode, were kept longest. Shipping went on; sealift trace tells an episode's way by its files."
    );
}

/// In the log, and in its order.
fn tell_panic(panicked: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    let words = panicked.to_string();
    tracing::error!(
        "thread '{name}' {}",
        words.lines().collect::<Vec<_>>().join(" ")
    );
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        for line in trace.to_string().lines() {
            tracing::error!("{line}");
        }
    }
    if let Some(apart) = WRITTEN_APART.get() {
        apart.queue.drained_within(PANIC_GRACE);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, abort};

    #[test]
    fn a_panic_is_a_line_of_the_log_and_is_written_whatever_comes_after_it() {
        const ITSELF: &str = "SEALIFT_TEST_PANICS";
        if std::env::var_os(ITSELF).is_some() {
            let _log = crate::cli::logging::start_service("info");
            let _ = std::thread::Builder::new()
                .name("worker".to_owned())
                .spawn(|| panic!("one\ntwo"))
                .map(std::thread::JoinHandle::join);
            abort();
        }
        let name = "cli::logging::background_writer::tests::a_panic_is_a_line_of_the_log_and_is_written_whatever_comes_after_it";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", name, "--nocapture"])
            .env(ITSELF, "1");
        command
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .env_remove("JOURNAL_STREAM");
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        let [line] = said.lines().collect::<Vec<_>>()[..] else {
            panic!("{said}")
        };
        assert!(
            line.contains(
                " ERROR thread 'worker' panicked at src/cli/logging/background_writer.rs:"
            ),
            "{said}"
        );
        assert!(line.ends_with(": one two"), "{said}");
    }
}
