//! What a command prints on stdout: its result. A reader that has gone (head(1), a pager that was
//! left) changes nothing of what the command does, nor its exit code. Where the result cannot be
//! written (a full disk), the command has failed.

use std::{
    fmt,
    io::{self, Write as _},
};

use parking_lot::Mutex;

use super::exit::{Exit, Failure};

/// The first thing that went wrong. Nothing is written after it.
static TROUBLE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints to stdout, as `print!` does, and never panics.
macro_rules! out {
    ($($text:tt)*) => {
        $crate::cli::output::write(format_args!($($text)*))
    };
}
/// The same with an end of line, as `println!`.
macro_rules! outln {
    ($($text:tt)*) => {
        $crate::cli::output::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(super) use {out, outln};

pub(super) fn write(text: fmt::Arguments<'_>) {
    let mut trouble = TROUBLE.lock();
    if trouble.is_none() {
        let mut stdout = io::stdout().lock();
        *trouble = stdout.write_fmt(text).and_then(|()| stdout.flush()).err();
    }
}

/// The end of a command that would have ended like this.
pub(super) fn finish(exit: Exit) -> Exit {
    match TROUBLE.lock().take() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let why = anyhow::Error::new(error).context("The result cannot be written to stdout");
            Failure::Wrong(why).report()
        }
        Some(_) | None => exit,
    }
}
