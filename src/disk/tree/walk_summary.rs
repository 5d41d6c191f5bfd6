//! What a walk has seen of an episode, and what is remembered of it.

use std::path::Path;

use super::{TreeError, walk};
use crate::model::{
    episode::{Fingerprint, FolderId},
    progress::Progress,
};

/// What a finished walk has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// See the module's head.
    pub fingerprint: Fingerprint,
    /// As shippers before this one took it, with the inodes.
    pub(crate) of_version_2: Fingerprint,
    /// No file's ctime says anything that its mtime does not, on a file system of which that can be
    /// a property.
    pub(crate) lacks_ctime: bool,
    /// Nor do its inodes say anything: it may be replaced by another of its sizes and mtimes, and
    /// these stamps stay what they are.
    pub(crate) may_be_swapped: bool,
    /// The device (`st_dev`) of the episode's directory: comparable until the next boot.
    pub device: u64,
    /// Which directory it is.
    pub folder: FolderId,
}

impl Walked {
    /// What is remembered of what was packed. Where ctime says nothing, that is the one with the
    /// inodes: an episode that was replaced by one of equal sizes and mtimes (`cp -a`, `rsync -a`,
    /// `tar x`) has others. They do not accuse it, but have it read and compared: some of these
    /// file systems number anew what the kernel has forgotten.
    pub(crate) fn to_remember(self) -> Fingerprint {
        if self.lacks_ctime {
            self.of_version_2
        } else {
            self.fingerprint
        }
    }

    /// Whether this has the stamps that it had when that fingerprint was taken, by this shipper or
    /// an older one.
    pub(crate) fn is(&self, then: Fingerprint) -> bool {
        then == self.to_remember() || then == self.of_version_2
    }

    /// As [`Walked::is`], where stamps are enough to say so.
    pub(crate) fn is_for_certain(&self, then: Fingerprint) -> bool {
        self.is(then) && !self.may_be_swapped
    }
}

/// What is to be remembered of an episode as it is now ([`Walked::to_remember`]).
///
/// # Errors
/// Those of [`walk`].
pub(crate) fn to_remember(episode: &Path, progress: &Progress) -> Result<Fingerprint, TreeError> {
    walk(episode, progress, |_| Ok::<(), TreeError>(())).map(Walked::to_remember)
}
