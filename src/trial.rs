//! Whether episodes can be moved as things stand: tried at the start by the daemon itself, since a unit sees other mounts and has other
//! rights than the shell of whoever asks; and by `doctor`, while no daemon runs.
//!
//! ```text
//!  episodes/ ──an empty folder of ours──▶ shipped/, quarantine/, outbox/     renames, copies instead, or is not permitted
//!  episodes/<id>/ of each recorder        may it be moved? (write permission on the folder itself, rename(2); sticky bit)
//! ```

use std::{
    fmt,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
};

use crate::{
    durable::{self, Tried},
    episode::printable,
    layout::Layout,
    progress::Progress,
    scan,
    snapshot::{TrialFinding, TrialKind},
};

/// How many episode folders are looked at: enough to find a recorder that creates them wrongly.
const MAX_FOLDERS: usize = 1000;
/// rename(2): in such a folder only the owner of an entry, or of the folder, may move it.
const STICKY: u32 = 0o1000;

/// What the trial found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trial {
    /// Each move that does not work as it should; empty where all is well.
    pub findings: Vec<Finding>,
}

/// One move that does not work as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Moves to this folder are copies.
    Copies {
        /// Where to.
        to: PathBuf,
        /// Both are one file system for stat(2): something is mounted between them.
        same_device: bool,
    },
    /// Nothing can be moved to this folder.
    NotPermitted {
        /// Where from, where to.
        from: PathBuf,
        /// Where to.
        to: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A folder is not what it was at the daemon's start: a mount is gone, or came over it.
    Elsewhere {
        /// Which.
        folder: PathBuf,
        /// In a sentence, and what follows.
        why: String,
    },
    /// Folders that their recorder made so that nobody else can move them.
    Unmovable {
        /// One of them.
        first: String,
        /// How many.
        count: usize,
        /// Because of the sticky bit of `episodes/`; else for want of write permission on them.
        sticky: bool,
    },
}

/// Tries. Nothing stays behind. `whose` is part of the scratch's names: empty for whoever holds the lock, and for anybody else a word
/// that is nobody else's.
#[must_use]
pub fn run(layout: &Layout, whose: &str, progress: &Progress) -> Trial {
    let mut findings = Vec::new();
    let moves = [
        (&layout.episodes, &layout.shipped),
        (&layout.episodes, &layout.quarantine),
        (&layout.outbox, &layout.outbox),
    ];
    for (from, to) in moves {
        progress.step();
        match durable::try_move(from, to, whose) {
            Ok(Tried::Renames) => {}
            Ok(Tried::Copies) => {
                let same_device = device(from).is_some_and(|from| device(to) == Some(from));
                findings.push(Finding::Copies { to: to.clone(), same_device });
            }
            Err(error) => {
                let (from, to) = (from.clone(), to.clone());
                findings.push(Finding::NotPermitted { from, to, why: error.to_string() });
            }
        }
    }
    findings.extend(unmovable(&layout.episodes, progress));
    Trial { findings }
}

fn device(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder).ok().map(|metadata| metadata.dev())
}

fn unmovable(episodes: &Path, progress: &Progress) -> Option<Finding> {
    let root = std::fs::metadata(episodes).ok()?;
    let us = rustix::process::geteuid();
    let folder = std::fs::File::open(episodes).ok()?;
    let is_sticky = root.mode() & STICKY != 0 && root.uid() != us.as_raw() && !us.is_root();
    let (mut count, mut first, mut sticky) = (0, None, false);
    for entry in std::fs::read_dir(episodes).ok()?.take(MAX_FOLDERS).flatten() {
        progress.step();
        let name = entry.file_name();
        let Ok(metadata) = entry.metadata() else { continue };
        let is_none = name.to_string_lossy().starts_with('.') || scan::is_lost_and_found(&folder, &name);
        if !metadata.is_dir() || is_none {
            continue;
        }
        let not_ours = is_sticky && metadata.uid() != us.as_raw();
        if not_ours || !may_write(&entry.path()) {
            count += 1;
            sticky |= not_ours;
            first.get_or_insert_with(|| printable(&name.to_string_lossy()));
        }
    }
    first.map(|first| Finding::Unmovable { first, count, sticky })
}

fn may_write(folder: &Path) -> bool {
    let as_we_run = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
    let answer = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, as_we_run);
    // Where the kernel cannot tell (before Linux 5.8), the move itself will.
    !matches!(answer, Err(Errno::ACCESS | Errno::ROFS | Errno::PERM))
}

impl Trial {
    /// The folders that are not what they were.
    #[must_use]
    pub fn elsewhere(&self) -> Vec<Finding> {
        let findings = self.findings.iter().filter(|finding| matches!(finding, Finding::Elsewhere { .. }));
        findings.cloned().collect()
    }

    /// Says in the log what is different from what the last trial found.
    pub fn tell_after(&self, before: &Self) {
        for finding in &self.findings {
            if !before.findings.iter().any(|said| said.is_about(finding)) {
                tracing::warn!("{finding}");
            }
        }
        for said in &before.findings {
            if !self.findings.iter().any(|finding| finding.is_about(said)) {
                tracing::info!("mended: {}", said.in_short());
            }
        }
    }

    /// Says it in the log.
    pub fn tell(&self) {
        for finding in &self.findings {
            tracing::warn!("{finding}");
        }
        if self.findings.is_empty() {
            tracing::debug!("moves between the folders are renames");
        }
    }
}

impl Finding {
    /// Whether both say the same, of as many or other folders.
    fn is_about(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Copies { to, .. }, Self::Copies { to: other, .. })
            | (Self::NotPermitted { to, .. }, Self::NotPermitted { to: other, .. }) => to == other,
            (Self::Elsewhere { folder, .. }, Self::Elsewhere { folder: other, .. }) => folder == other,
            (Self::Unmovable { sticky, .. }, Self::Unmovable { sticky: other, .. }) => sticky == other,
            (
                Self::Copies { .. }
                | Self::NotPermitted { .. }
                | Self::Elsewhere { .. }
                | Self::Unmovable { .. },
                _,
            ) => false,
        }
    }

    /// The same in a few words, for a status line.
    #[must_use]
    pub fn in_short(&self) -> String {
        match self {
            Self::Copies { to, .. } => format!("moves to {} are copies", to.display()),
            Self::NotPermitted { to, why, .. } => format!("nothing can be moved to {}: {why}", to.display()),
            Self::Elsewhere { folder, .. } => format!("{} is not the folder that it was", folder.display()),
            Self::Unmovable { first, count, .. } => {
                format!("{count} episode folders cannot be moved, such as {first}")
            }
        }
    }
}

impl From<&Finding> for TrialFinding {
    fn from(finding: &Finding) -> Self {
        let kind = match finding {
            Finding::Copies { same_device: false, .. } => TrialKind::Copies,
            Finding::Copies { same_device: true, .. } => TrialKind::CopiesOnOneDevice,
            Finding::NotPermitted { .. } => TrialKind::NotPermitted,
            Finding::Elsewhere { .. } => TrialKind::Elsewhere,
            Finding::Unmovable { sticky: false, .. } => TrialKind::Unmovable,
            Finding::Unmovable { sticky: true, .. } => TrialKind::Sticky,
        };
        Self { kind, in_short: finding.in_short(), what_to_do: finding.to_string() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copies { to, same_device: true } => write!(
                f,
                "Moves to {} are copies, though it is the same file system: something is mounted between. In a unit, \
                 ReadWritePaths= must name the folder above both, and not each of them.",
                to.display()
            ),
            Self::Copies { to, same_device: false } => write!(
                f,
                "Moves to {} are copies: it is another file system than episodes/. That works, and takes longer and room \
                 for both; on one file system each move is a rename.",
                to.display()
            ),
            Self::NotPermitted { from, to, why } => write!(
                f,
                "Nothing can be moved from {} to {}: {why}. Episodes will be delivered and stay where they are. Give both \
                 folders to the user that ships; in a unit, ReadWritePaths= must name the folder above both, or, where they are \
                 on two file systems, one folder on each.",
                from.display(),
                to.display()
            ),
            Self::Elsewhere { why, .. } => write!(f, "{why}."),
            Self::Unmovable { first, count, sticky: true } => write!(
                f,
                "{count} episode folders cannot be moved, such as {first}: episodes/ has the sticky bit, and they are \
                 somebody else's. To mend it: chmod -t on episodes/."
            ),
            Self::Unmovable { first, count, sticky: false } => write!(
                f,
                "{count} episode folders cannot be moved, such as {first}: moving one takes write permission on it. The \
                 recorder should create them group-writable, in a group of ours (docs/recorders.md, \"Permissions\")."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sandbox() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        for folder in [&layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
            fs::create_dir(folder).unwrap();
        }
        (folder, layout)
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn on_one_file_system_all_is_well_and_nothing_stays_behind() {
        let (_folder, layout) = sandbox();
        assert_eq!(run(&layout, "", &Progress::default()), Trial::default());
        for folder in [&layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
            assert!(is_empty(folder), "{}", folder.display());
        }
    }

    #[test]
    fn another_file_system_that_takes_nothing_is_no_copy() {
        let (_folder, mut layout) = sandbox();
        // Another file system than any temporary folder, for whoever asks first, and nobody can make a folder in it.
        layout.shipped = "/proc/self".into();
        let found = run(&layout, "", &Progress::default()).findings;
        assert!(
            matches!(&found[..], [Finding::NotPermitted { to, .. }] if *to == layout.shipped),
            "{found:?}"
        );
        assert!(is_empty(&layout.episodes));
    }

    #[test]
    fn it_shows_progress_at_each_move_and_each_folder() {
        let (_folder, layout) = sandbox();
        for n in 0..4 {
            fs::create_dir(layout.episodes.join(format!("run-{n}"))).unwrap();
        }
        let progress = Progress::default();
        assert_eq!(run(&layout, "", &progress), Trial::default());
        assert_eq!(progress.steps(), 3 + 4);
    }

    #[test]
    fn another_file_system_is_a_copy() {
        let (_folder, mut layout) = sandbox();
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
        layout.shipped = elsewhere.path().to_owned();
        if device(&layout.episodes) == device(&layout.shipped) {
            return;
        }
        let found = run(&layout, "", &Progress::default()).findings;
        assert_eq!(found, [Finding::Copies { to: layout.shipped.clone(), same_device: false }]);
        assert!(is_empty(&layout.episodes) && is_empty(&layout.shipped));
    }

    #[test]
    fn a_folder_that_takes_nothing_is_named_with_what_to_do() {
        let (_folder, mut layout) = sandbox();
        layout.quarantine = "/proc/self".into();
        let found = run(&layout, "", &Progress::default()).findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(is_empty(&layout.episodes));
        // Another file system, or no permission: whichever the kernel finds first.
        assert!(found[0].to_string().contains("/proc/self"), "{}", found[0]);
    }
}
