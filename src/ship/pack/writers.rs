//! Files of an episode that are open for writing: such an episode is not complete yet, whatever its
//! marker says.
//!
//! Each file is asked after twice: before the first byte of the episode is read
//! ([`refuse_open_file`], in a walk that reads nothing, so that an episode that has to wait costs
//! no packing) and behind the file's own last byte. What is granted the first time and refused the
//! second was opened in between. What was opened and closed again in between has moved the file's
//! time stamps, which are compared as well: the first store through a new mapping moves them too. A
//! mapping on tmpfs moves none, and is the one writer that can be missed.

use std::{fs::File, path::PathBuf};

use super::PackError;
use crate::{
    disk::{
        open_files::{OpenFileProbe, Writers},
        tree::{Entry, Kind, shown, to_path},
    },
    ship::machine::step_result::OpenFilePolicy,
};

/// So many are named in the receipt.
const MAX_NAMED: usize = 16;

/// Refuses an episode at the first of its files that is open for writing. Reads none.
///
/// # Errors
/// [`PackError::OpenForWriting`], and those of opening it.
pub(crate) fn refuse_open_file(entry: &Entry<'_>, probe: OpenFileProbe) -> Result<(), PackError> {
    let Kind::File(closed) = &entry.kind else {
        return Ok(());
    };
    if probe.asks() && !is_marker(entry.path) && probe.writers(&closed.open()?) == Writers::Open {
        return Err(PackError::OpenForWriting {
            path: to_path(entry.path),
        });
    }
    Ok(())
}

/// What was found of one episode while it was packed.
#[derive(Debug)]
pub(super) struct OpenFileCheck {
    probe: OpenFileProbe,
    open_files: OpenFilePolicy,
    /// Packed all the same: the first few, printable.
    pub(super) open: Vec<String>,
    /// Whether there was one of another user, of which that cannot be told.
    pub(super) untold: bool,
}

impl OpenFileCheck {
    pub(super) fn new(probe: OpenFileProbe, open_files: OpenFilePolicy) -> Self {
        Self {
            probe,
            open_files,
            open: Vec::new(),
            untold: false,
        }
    }

    /// Asks after an open file of the episode.
    pub(super) fn ask(&mut self, path: &[u8], file: &File) -> Result<(), PackError> {
        if is_marker(path) {
            return Ok(());
        }
        match (self.probe.writers(file), self.open_files) {
            (Writers::Open, OpenFilePolicy::WaitedFor) => {
                return Err(PackError::OpenForWriting {
                    path: to_path(path),
                });
            }
            (Writers::Open, OpenFilePolicy::Accepted) => self.note(to_path(path)),
            (Writers::NotPermitted, _) => self.untold = true,
            (Writers::Closed | Writers::Untold, _) => {}
        }
        Ok(())
    }

    fn note(&mut self, path: PathBuf) {
        let name = shown(&path);
        if self.open.len() < MAX_NAMED && self.open.last() != Some(&name) {
            self.open.push(name);
        }
    }
}

/// Its recorder may keep it open: what it holds is read twice and compared.
fn is_marker(path: &[u8]) -> bool {
    path == crate::model::layout::MARKER.as_bytes()
}
