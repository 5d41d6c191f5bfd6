//! Logs go to stderr, or to the journal with fields where stderr is the journal's already; results
//! go to stdout.
//!
//! ```text
//!  a command   the caller ──▶ filter ──▶ sink: journal or stderr
//!  a service   the caller ──▶ filter ──▶ queue ──▶ background_writer.rs ──▶ the same sink
//! ```

mod background_writer;
mod line;
mod queue;

use std::{
    ffi::OsStr,
    fmt,
    io::{self, IsTerminal as _, Write},
    sync::OnceLock,
};

use indicatif::ProgressBar;
use tracing::Subscriber;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{
        format::{Writer, debug_fn},
        time::FormatTime,
    },
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::model::text::printable;

pub(crate) use self::background_writer::{Flushed, last_words, standing};

/// What writes a line, and may wait over it.
type LogSink = Box<dyn Subscriber + Send + Sync>;

/// Sets up logging. `RUST_LOG` chooses what is shown; `NO_COLOR` and non-terminals are honoured.
/// Whatever a path, a name or an answer brings into a message, it can neither begin a line nor
/// command the terminal; nor can a field's value pass for another field.
///
/// Under systemd each line is an entry of the journal whose fields are named as they stand in the
/// code (`EPISODE`, `VERDICT`, ...).
pub(crate) fn start(default: &str) {
    // A second logger in one process would be a slip of ours, and no reason not to ship.
    let _ = sink(stderr_is_the_journal())
        .with(filter(default))
        .try_init();
}

/// The same for a service, which never waits for a reader of its lines. To be held until its end.
pub(crate) fn start_service(default: &str) -> Option<Flushed> {
    let to_journal = stderr_is_the_journal();
    let started = background_writer::start(filter(default), to_journal, move || sink(to_journal));
    if let Err(error) = &started {
        start(default);
        tracing::warn!(
            "No thread for the log ({error}): should it not be taken, everything waits for it."
        );
    }
    started.ok()
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}

fn sink(to_journal: bool) -> LogSink {
    // Where the journal's socket cannot be reached, stderr, which is its stream, will do.
    match if to_journal { journal() } else { None } {
        Some(journal) => Box::new(tracing_subscriber::registry().with(journal)),
        None => lines(|| AboveTheBar),
    }
}

/// Lines of text, in colours where stderr is a terminal.
fn lines<W: Write + 'static>(writer: impl Fn() -> W + Send + Sync + 'static) -> LogSink {
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colour)
        .with_timer(WhenSaid)
        .fmt_fields(
            debug_fn(|out, field, value| {
                let value = format!("{value:?}");
                match field.name() {
                    "message" => out.write_str(&printable(&value)),
                    name => write!(out, "{name}={}", one_word(&value)),
                }
            })
            .delimited(" "),
        )
        .with_target(false);
    Box::new(tracing_subscriber::registry().with(layer))
}

/// A line's time is that at which it was said, whenever it is written.
struct WhenSaid;

impl FormatTime for WhenSaid {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{:.6}", line::said_at())
    }
}

/// The bar that is drawn on stderr, where one is.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// From now on each line stands above this bar, and none runs through it.
pub(super) fn write_above(bar: &ProgressBar) {
    // One command draws one bar.
    let _ = BAR.set(bar.clone());
}

/// It is over, and leaves nothing behind.
pub(super) fn clear_bar() {
    if let Some(bar) = BAR.get() {
        bar.finish_and_clear();
    }
}

/// stderr, with the bar out of the way.
struct AboveTheBar;

impl Write for AboveTheBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match BAR.get() {
            Some(bar) => bar.suspend(|| io::stderr().write(line)),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A field's value so that nothing in it can be taken for another field: in quotes, but where it is
/// plain. A text that is logged as such stands in quotes already.
fn one_word(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~:/%+@,-".contains(c);
    if !value.is_empty() && value.chars().all(plain) || is_quoted(value) {
        return printable(value);
    }
    format!("{value:?}")
}

/// Whether this is one text in quotes, with nothing behind it.
fn is_quoted(value: &str) -> bool {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return false;
    };
    let mut escaped = false;
    for c in inner.chars() {
        if c == '"' && !escaped {
            return false;
        }
        escaped = c == '\\' && !escaped;
    }
    !escaped
}

/// `None` where the journal's socket cannot be reached.
fn journal() -> Option<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    };
    let journal = tracing_journald::layer().ok()?;
    // The crate's own prefix would make F_EPISODE of EPISODE.
    Some(
        journal
            .with_field_prefix(None)
            .with_priority_mappings(priorities),
    )
}

/// `JOURNAL_STREAM` names the device and inode of what systemd connected (systemd.exec(5)); every
/// process started from there inherits it, with a stderr of its own perhaps.
fn stderr_is_the_journal() -> bool {
    let stream = std::env::var_os("JOURNAL_STREAM");
    let Some((device, inode)) = stream
        .as_deref()
        .and_then(OsStr::to_str)
        .and_then(|text| text.split_once(':'))
    else {
        return false;
    };
    let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_or_stands_in_quotes() {
        for plain in [
            "run-1",
            "127.0.0.1:1",
            "[::1]:80",
            "/v1/episodes/a%20host=lab",
            "",
            "a b",
            "a=b",
            "a\nb",
        ] {
            let plain_enough = matches!(plain, "run-1" | "127.0.0.1:1");
            let shown = one_word(plain);
            assert_eq!(shown == plain, plain_enough, "{shown}");
            assert_eq!(is_quoted(&shown), !plain_enough, "{shown}");
        }
        assert_eq!(one_word("\"logged as a text\""), "\"logged as a text\"");
        // Quotes that end too early, and one that is no end.
        assert_eq!(one_word(r#""a" host="b""#), r#""\"a\" host=\"b\"""#);
        assert_eq!(one_word(r#""a\""#), r#""\"a\\\"""#);
        assert_eq!(one_word("a\u{202e}b"), r#""a\u{202e}b""#);
    }
}
