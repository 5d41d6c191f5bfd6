//! Why is data missing, and what to type? One question over everything that can be wrong, in the
//! order of causes.
//!
//! ```text
//!  gather/  looks: configuration, folders, unit, daemon,     I/O, each with a deadline
//!     │     receiver, journal, episodes
//!     │ facts.rs
//!  judge/   says what it means: rows                         pure
//!     │ row.rs
//!  Report   the first red row is the cause
//! ```
//!
//! It changes nothing that stays: while no daemon runs it moves an empty folder of its own between
//! the folders, and removes it again.

mod facts;
mod gather;
mod judge;
#[cfg(test)]
mod pasted;
mod row;
mod setup;
mod words;

use std::{path::PathBuf, time::Duration};

pub(super) use self::judge::{
    daemon_checks::{DaemonChecks, conflicts, markers, names},
    space::row as space,
};
pub(super) use self::row::DoctorRow;
pub use self::row::Id;
pub(crate) use self::row::{DoctorReport, RowStatus};
pub(crate) use self::setup::{SetupLine, give, setup};
pub(crate) use self::words::COMMIT_IN_META;
pub(super) use self::words::{CommandContext, Fix};
use crate::config::{ConfigError, RawConfig};

/// What is to be looked at.
#[derive(Debug)]
pub(crate) struct DoctorQuery {
    /// The configuration with the command line laid over it, or why there is none.
    pub raw: Result<RawConfig, ConfigError>,
    /// What the command line says by itself: where the folders are, though the file is wrong.
    pub given: RawConfig,
    /// The file that it was, or was to be, read from.
    pub file: Option<PathBuf>,
    /// How far back the journal is read.
    pub since: Duration,
    /// What the command line said, as words of a shell: other commands are shown with the same.
    pub options: String,
    /// The same of the receiver, which not each command asks.
    pub receiver: String,
}

/// Looks at everything, and says what is wrong. Takes under five seconds, whatever hangs.
pub(crate) async fn examine(question: &DoctorQuery) -> DoctorReport {
    DoctorReport::of(judge::judge(&gather::gather(question).await))
}

/// Whether systemd knows a unit of this name.
pub(super) async fn knows_unit(name: &str) -> bool {
    gather::service::unit(name)
        .await
        .is_some_and(|unit| unit.load_state != "not-found")
}
