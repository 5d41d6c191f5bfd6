//! The folders that are ours: whether each is there, and still the one that it was at the start
//! (`machine/storage/folder_check.rs` compares).

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::workers::Workers;
use crate::{
    disk::{
        durable,
        filesystem::{Ground, ground},
        move_check::Finding,
        tree::shown,
    },
    model::layout::Layout,
    ship::machine::storage::folder_check::{Compared, compare},
};

/// What the folders were at the start, or were made anew as.
#[derive(Debug, Default)]
pub(super) struct Grounds {
    were: Mutex<HashMap<PathBuf, Ground>>,
    /// Those that are another by now, and why nothing is done there.
    wrong: Mutex<HashMap<PathBuf, String>>,
}

impl Grounds {
    /// Looks at all of them.
    pub(super) fn of(layout: &Layout) -> Self {
        let grounds = Self::default();
        for folder in folders(layout) {
            grounds.remember(folder);
        }
        grounds
    }

    fn remember(&self, folder: &Path) {
        // One that cannot be looked at gives its own error to the step that needs it.
        if let Ok(found) = ground(folder) {
            self.were.lock().insert(folder.to_owned(), found);
        }
    }

    /// What is wrong with them, as of the last look at each.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let wrong = self.wrong.lock();
        let mut findings: Vec<_> = wrong
            .iter()
            .map(|(folder, why)| Finding::Elsewhere {
                folder: folder.clone(),
                why: why.clone(),
            })
            .collect();
        findings.sort_by_key(ToString::to_string);
        findings
    }

    /// Notes what came of a look at one. The move check tells it.
    fn note(&self, folder: &Path, found: &Result<(), String>) {
        match found {
            Ok(()) => self.wrong.lock().remove(folder),
            Err(why) => self.wrong.lock().insert(folder.to_owned(), why.clone()),
        };
    }
}

fn folders(layout: &Layout) -> [&PathBuf; 3] {
    [&layout.outbox, &layout.shipped, &layout.quarantine]
}

impl Workers {
    /// Whether a folder of ours is there, and is what it was; where it was removed, it is made
    /// anew. Else what is wrong, in words.
    pub(super) fn have(&self, folder: &Path) -> Result<(), String> {
        let then = self.known.grounds.were.lock().get(folder).copied();
        let is_it = match ground(folder) {
            Ok(now) => self.is_still(folder, then, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match (then, folder.parent().map(ground)) {
                    (Some(then), Some(Ok(parent))) if !parent.has_the_mount_of(then) => {
                        Err(elsewhere(folder, "the disk that it was on is not mounted"))
                    }
                    _ => Ok(()),
                }
            }
            // Whatever else stands there is for its user to find.
            Err(_) => Ok(()),
        };
        self.known.grounds.note(folder, &is_it);
        is_it?;
        match durable::recreate_folder(folder) {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.known.grounds.remember(folder);
                tracing::warn!(
                    "{} was gone while we ran, and was made anew.",
                    folder.display()
                );
                Ok(())
            }
            Err(error) => Err(format!(
                "{} is gone, and cannot be made anew: {error}",
                shown(folder)
            )),
        }
    }

    /// The same of all of them; the first thing that is wrong.
    pub(super) fn have_all(&self) -> Result<(), String> {
        // Each is looked at, and told of.
        folders(&self.layout)
            .map(|folder| self.have(folder))
            .into_iter()
            .collect()
    }

    fn is_still(&self, folder: &Path, then: Option<Ground>, now: Ground) -> Result<(), String> {
        match then.map(|then| compare(then, now)) {
            Some(Compared::Same) => Ok(()),
            // Another process, or another worker, has made it already.
            None | Some(Compared::Anew) => {
                self.known.grounds.remember(folder);
                Ok(())
            }
            Some(Compared::Unmounted) => Err(elsewhere(folder, "what was mounted there is gone")),
            Some(Compared::Another) => {
                Err(elsewhere(folder, "another file system is mounted there"))
            }
        }
    }
}

fn elsewhere(folder: &Path, what: &str) -> String {
    format!(
        "{} is not the folder that it was at the start: {what}. Nothing is moved there or removed, and it goes on by itself when \
         that is back. If it is to be as it is now, restart Sealift",
        shown(folder)
    )
}
