//! What the end of a command means to the shell.

use std::process::ExitCode;

use super::logging;
use crate::{config::ConfigError, model::text::printable};

/// The exit codes. Of `doctor`: all green, yellow at worst, red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// It ran, and something is wrong.
    Wrong,
    /// Wrong arguments or configuration; nothing was touched.
    Usage,
    /// `doctor`: something is red.
    Red,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Wrong => Self::from(1),
            Exit::Usage | Exit::Red => Self::from(2),
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments or the configuration are at fault; nothing was touched.
    Usage(anyhow::Error),
    /// Something went wrong on the way.
    Wrong(anyhow::Error),
}

impl Failure {
    /// Says it on stderr, for a person.
    #[expect(
        clippy::print_stderr,
        reason = "the last word of a command goes to the terminal, also where nothing is logged"
    )]
    pub(crate) fn report(self) -> Exit {
        let (exit, error) = match self {
            Self::Usage(error) => (Exit::Usage, error),
            Self::Wrong(error) => (Exit::Wrong, error),
        };
        logging::last_words(move || {
            for line in format!("{error:#}").lines() {
                eprintln!("sealift: {}", printable(line));
            }
        });
        exit
    }
}

impl Failure {
    /// What went wrong, for a caller that has no exit code to give.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Usage(error) | Self::Wrong(error) => error,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Wrong(error)
    }
}
