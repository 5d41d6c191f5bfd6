//! Logs go to stderr; results go to stdout.

use std::io::IsTerminal as _;

use sealift::episode::printable;
use tracing_subscriber::{EnvFilter, field::MakeExt as _, fmt::format::debug_fn};

/// Sets up logging. `RUST_LOG` chooses what is shown; `NO_COLOR` and non-terminals are honoured. Whatever a path, a name
/// or an answer brings into a message, it can neither begin a line nor command the terminal.
pub(crate) fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
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
    // A second logger in one process would be a slip of ours, and no reason not to ship.
    let _ = logging.try_init();
}
