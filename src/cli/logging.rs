//! Logs go to stderr, or to the journal with fields where stderr is the journal's already; results go to stdout.

use std::{ffi::OsStr, io::IsTerminal as _};

use sealift::episode::printable;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    EnvFilter, field::MakeExt as _, fmt::format::debug_fn, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Sets up logging. `RUST_LOG` chooses what is shown; `NO_COLOR` and non-terminals are honoured. Whatever a path, a name
/// or an answer brings into a message, it can neither begin a line nor command the terminal.
///
/// Under systemd each line is an entry of the journal whose fields are named as they stand in the code (`EPISODE`, `VERDICT`, ...).
pub(crate) fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    if stderr_is_the_journal(std::env::var_os("JOURNAL_STREAM").as_deref())
        && let Some(journal) = journal()
    {
        // A second logger in one process would be a slip of ours, and no reason not to ship.
        let _ = tracing_subscriber::registry().with(filter).with(journal).try_init();
        return;
    }
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .fmt_fields(
            debug_fn(|out, field, value| {
                let value = format!("{value:?}");
                match field.name() {
                    "message" => out.write_str(&printable(&value)),
                    name => write!(out, "{name}={}", printable(&value)),
                }
            })
            .delimited(" "),
        )
        .with_target(false);
    let _ = logging.try_init();
}

/// `None` where the journal's socket cannot be reached: then stderr, which is its stream, will do.
fn journal() -> Option<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    };
    let journal = tracing_journald::layer().ok()?;
    // The crate's own prefix would make F_EPISODE of EPISODE.
    Some(journal.with_field_prefix(None).with_priority_mappings(priorities))
}

/// `JOURNAL_STREAM` names the device and inode of what systemd connected (systemd.exec(5)); it is inherited by whoever is started
/// from there, with a stderr of its own perhaps.
fn stderr_is_the_journal(stream: Option<&OsStr>) -> bool {
    let Some((device, inode)) = stream.and_then(OsStr::to_str).and_then(|text| text.split_once(':')) else {
        return false;
    };
    let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else { return false };
    device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
}
