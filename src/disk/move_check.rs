//! Whether episodes can be moved as things stand: tried at the start by the daemon itself, since a
//! unit sees other mounts and has other rights than an operator's shell; and by `doctor`, while no
//! daemon runs.
//!
//! ```text
//!  episodes/ ──an empty folder of ours──▶ shipped/, quarantine/, outbox/
//!                                           renames, copies instead, or is not permitted
//!  episodes/<id>/ of each recorder        may it be moved? (write permission on the folder
//!                                           itself, rename(2); sticky bit)
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

pub(crate) use crate::disk::durable::Trier;
use crate::{
    disk::{
        durable::{self, Tried},
        filesystem::is_frozen,
        scan,
    },
    model::{
        layout::{Layout, MARKER},
        progress::Progress,
        snapshot::{TrialFinding, TrialKind},
        text::{as_text, printable, word},
    },
};

/// How many episode folders are looked at: enough to find a recorder that creates them wrongly.
const MAX_FOLDERS: usize = 1000;
/// How many of those that a flag keeps in place are named in one command.
const MAX_FROZEN: usize = 16;
/// rename(2): in such a folder only the owner of an entry, or of the folder, may move it.
const STICKY: u32 = 0o1000;

/// What the trial found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MoveCheck {
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
    /// Folders that their recorder made so that no other user can move them.
    Unmovable {
        /// One of them.
        first: String,
        /// How many.
        count: usize,
        /// Why.
        why: Unmovable,
    },
    /// Sealed folders that a flag keeps in place (chattr(1)), whatever their permissions are.
    Frozen {
        /// The first of them, by their paths.
        some: Vec<PathBuf>,
        /// How many.
        count: usize,
        /// The flag.
        flag: char,
    },
}

/// Why folders cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmovable {
    /// Because of the sticky bit of `episodes/`.
    Sticky,
    /// For want of write permission on them, and they are sealed: their recorder is done with them.
    Sealed,
    /// The same, and they are being recorded: nothing of them may be touched but by their recorder.
    Open,
}

/// Tries. Nothing stays behind, and if this is killed, not for long: the daemon's start and
/// [`clear`] remove it.
pub(crate) fn run(layout: &Layout, who: Trier, progress: &Progress) -> MoveCheck {
    let mut findings = Vec::new();
    let moves = [
        (&layout.episodes, &layout.shipped),
        (&layout.episodes, &layout.quarantine),
        (&layout.outbox, &layout.outbox),
    ];
    for (from, to) in moves {
        progress.step();
        match durable::try_move(from, to, who) {
            Ok(Tried::Renames) => {}
            Ok(Tried::Copies) => {
                let same_device = device(from).is_some_and(|from| device(to) == Some(from));
                findings.push(Finding::Copies {
                    to: to.clone(),
                    same_device,
                });
            }
            Err(error) => {
                let (from, to) = (from.clone(), to.clone());
                findings.push(Finding::NotPermitted {
                    from,
                    to,
                    why: error.to_string(),
                });
            }
        }
    }
    findings.extend(unmovable(&layout.episodes, progress));
    MoveCheck { findings }
}

/// Removes what trials without the lock left that were killed half-way.
pub(crate) fn clear(layout: &Layout) {
    for folder in layout.folders() {
        durable::clear_trials(folder);
    }
}

fn device(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder)
        .ok()
        .map(|metadata| metadata.dev())
}

/// At most one finding for each reason.
fn unmovable(episodes: &Path, progress: &Progress) -> Vec<Finding> {
    let (Ok(root), Ok(folder), Ok(entries)) = (
        std::fs::metadata(episodes),
        std::fs::File::open(episodes),
        std::fs::read_dir(episodes),
    ) else {
        return Vec::new();
    };
    let us = rustix::process::geteuid();
    let is_sticky = root.mode() & STICKY != 0 && root.uid() != us.as_raw() && !us.is_root();
    let mut found: Vec<(Unmovable, String, usize)> = Vec::new();
    let mut frozen: Vec<(char, Vec<PathBuf>, usize)> = Vec::new();
    for entry in entries.take(MAX_FOLDERS).flatten() {
        progress.step();
        let name = entry.file_name();
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let is_none =
            name.to_string_lossy().starts_with('.') || scan::is_lost_and_found(&folder, &name);
        if !metadata.is_dir() || is_none {
            continue;
        }
        let path = entry.path();
        let is_sealed =
            std::fs::symlink_metadata(path.join(MARKER)).is_ok_and(|marker| marker.is_file());
        // No permission mends that.
        if let Some(flag) = is_frozen(&path).filter(|_| is_sealed) {
            match frozen.iter_mut().find(|(known, ..)| *known == flag) {
                Some((_, some, count)) => {
                    *count += 1;
                    some.extend((some.len() < MAX_FROZEN).then_some(path));
                }
                None => frozen.push((flag, vec![path], 1)),
            }
            continue;
        }
        let why = if is_sticky && metadata.uid() != us.as_raw() {
            Unmovable::Sticky
        } else if may_write(&path) {
            continue;
        } else if is_sealed {
            Unmovable::Sealed
        } else {
            // Or its marker cannot be looked for: then it is taken for one that is being recorded.
            Unmovable::Open
        };
        match found.iter_mut().find(|(known, ..)| *known == why) {
            Some((.., count)) => *count += 1,
            None => found.push((why, printable(&name.to_string_lossy()), 1)),
        }
    }
    let findings = found
        .into_iter()
        .map(|(why, first, count)| Finding::Unmovable { first, count, why });
    let frozen = frozen
        .into_iter()
        .map(|(flag, some, count)| Finding::Frozen { some, count, flag });
    frozen.chain(findings).collect()
}

fn may_write(folder: &Path) -> bool {
    let as_we_run = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
    let answer = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, as_we_run);
    // Where the kernel cannot tell (before Linux 5.8), the move itself will.
    !matches!(answer, Err(Errno::ACCESS | Errno::ROFS | Errno::PERM))
}

impl MoveCheck {
    /// As the user that ships would have found, where root has tried, whom no permission stops:
    /// these sealed folders that user cannot move.
    pub(crate) fn for_shipper(mut self, sealed: &[PathBuf]) -> Self {
        self.findings.extend(sealed.first().map(|first| {
            let name = first.file_name().unwrap_or_default().to_string_lossy();
            Finding::Unmovable {
                first: printable(&name),
                count: sealed.len(),
                why: Unmovable::Sealed,
            }
        }));
        self
    }

    /// The folders that are not what they were.
    pub(crate) fn elsewhere(&self) -> Vec<Finding> {
        let findings = self
            .findings
            .iter()
            .filter(|finding| matches!(finding, Finding::Elsewhere { .. }));
        findings.cloned().collect()
    }

    /// Says in the log what is different from what the last trial found.
    pub(crate) fn tell_after(&self, before: &Self) {
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
    pub(crate) fn tell(&self) {
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
            (Self::Elsewhere { folder, .. }, Self::Elsewhere { folder: other, .. }) => {
                folder == other
            }
            (Self::Unmovable { why, .. }, Self::Unmovable { why: other, .. }) => why == other,
            (Self::Frozen { flag, .. }, Self::Frozen { flag: other, .. }) => flag == other,
            _ => false,
        }
    }

    /// The same in a few words, for a status line.
    pub fn in_short(&self) -> String {
        match self {
            Self::Copies { to, .. } => format!("moves to {} are copies", to.display()),
            Self::NotPermitted { to, why, .. } => {
                format!("nothing can be moved to {}: {why}", to.display())
            }
            Self::Elsewhere { folder, .. } => {
                format!("{} is not the folder that it was", folder.display())
            }
            Self::Unmovable {
                first,
                count,
                why: Unmovable::Open,
            } => {
                format!("{count} open recordings could not be moved, such as {first}")
            }
            Self::Unmovable { first, count, .. } => {
                format!("{count} episode folders cannot be moved, such as {first}")
            }
            Self::Frozen { some, count, .. } => {
                let first = some
                    .first()
                    .and_then(|path| path.file_name())
                    .unwrap_or_default();
                let first = printable(&first.to_string_lossy());
                format!("{count} episode folders cannot be moved, such as {first}")
            }
        }
    }

    /// What mends it, where that is one command.
    fn fix(&self) -> Option<String> {
        let Self::Frozen { some, flag, .. } = self else {
            return None;
        };
        // Those whose paths cannot be given as text are left for the last.
        let paths: Vec<_> = some
            .iter()
            .filter(|path| as_text(path) == path.as_path())
            .map(word)
            .collect();
        Some(match paths.as_slice() {
            [] => format!("sudo ls -la {}", word(as_text(some.first()?))),
            paths => format!("sudo chattr -{flag} {}", paths.join(" ")),
        })
    }
}

impl From<&Finding> for TrialFinding {
    fn from(finding: &Finding) -> Self {
        let kind = match finding {
            Finding::Copies { same_device, .. } => match same_device {
                false => TrialKind::Copies,
                true => TrialKind::CopiesOnOneDevice,
            },
            Finding::NotPermitted { .. } => TrialKind::NotPermitted,
            Finding::Elsewhere { .. } => TrialKind::Elsewhere,
            Finding::Unmovable { why, .. } => match why {
                Unmovable::Sealed => TrialKind::Unmovable,
                Unmovable::Open => TrialKind::UnmovableOpen,
                Unmovable::Sticky => TrialKind::Sticky,
            },
            Finding::Frozen { .. } => TrialKind::Stuck,
        };
        Self {
            kind,
            in_short: finding.in_short(),
            what_to_do: finding.to_string(),
            fix: finding.fix(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copies {
                to,
                same_device: true,
            } => write!(
                f,
                "Moves to {} are copies, though it is the same file system: something is mounted between. In a unit, \
                 ReadWritePaths= must name the folder above both, and not each of them.",
                to.display()
            ),
            Self::Copies {
                to,
                same_device: false,
            } => write!(
                f,
                "Moves to {} are copies: it is another file system than episodes/. That works, and takes longer and room \
                 for both. Where shipper.episodes_dir, shipper.shipped_dir and shipper.quarantine_dir lie on one file system, each \
                 move is a rename.",
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
            Self::Frozen { flag, .. } => write!(
                f,
                "{}: {} by chattr(1), whatever their permissions are. Type: {}",
                self.in_short(),
                if *flag == 'i' {
                    "made immutable"
                } else {
                    "made append-only"
                },
                self.fix().unwrap_or_default()
            ),
            Self::Unmovable {
                first,
                count,
                why: Unmovable::Sticky,
            } => write!(
                f,
                "{count} episode folders cannot be moved, such as {first}: episodes/ has the sticky bit, and neither it nor they are \
                 ours. To mend it: give episodes/ to the user that ships, or chmod -t on it."
            ),
            Self::Unmovable {
                first,
                count,
                why: Unmovable::Sealed,
            } => write!(
                f,
                "{count} episode folders cannot be moved, such as {first}: moving one takes write permission on it. The \
                 recorder should create them group-writable, in a group of ours (docs/recorders.md, \"Permissions\")."
            ),
            Self::Unmovable {
                first,
                count,
                why: Unmovable::Open,
            } => write!(
                f,
                "{count} open recordings could not be moved once they are sealed, such as {first}: that is their recorder's to mend, \
                 which should create them group-writable, in a group of ours (docs/recorders.md, \"Permissions\")."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::sandbox;

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn on_one_file_system_all_is_well_and_nothing_stays_behind() {
        let (_folder, layout) = sandbox();
        assert_eq!(
            run(&layout, Trier::Holder, &Progress::default()),
            MoveCheck::default()
        );
        for folder in [
            &layout.episodes,
            &layout.outbox,
            &layout.shipped,
            &layout.quarantine,
        ] {
            assert!(is_empty(folder), "{}", folder.display());
        }
    }

    #[test]
    fn another_file_system_that_takes_nothing_is_no_copy() {
        let (_folder, mut layout) = sandbox();
        // Another file system than any temporary folder, for code that compares devices first, and
        // no process can make a folder in it.
        layout.shipped = "/proc/self".into();
        let found = run(&layout, Trier::Holder, &Progress::default()).findings;
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
        assert_eq!(run(&layout, Trier::Holder, &progress), MoveCheck::default());
        assert_eq!(progress.steps(), 3 + 4);
    }

    #[test]
    fn another_file_system_is_a_copy() {
        let (_folder, mut layout) = sandbox();
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        layout.shipped = elsewhere.path().to_owned();
        if device(&layout.episodes) == device(&layout.shipped) {
            return;
        }
        let found = run(&layout, Trier::Holder, &Progress::default()).findings;
        assert_eq!(
            found,
            [Finding::Copies {
                to: layout.shipped.clone(),
                same_device: false
            }]
        );
        assert!(is_empty(&layout.episodes) && is_empty(&layout.shipped));
    }

    #[test]
    fn a_folder_that_takes_nothing_is_named_with_what_to_do() {
        let (_folder, mut layout) = sandbox();
        layout.quarantine = "/proc/self".into();
        let found = run(&layout, Trier::Holder, &Progress::default()).findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(is_empty(&layout.episodes));
        // Another file system, or no permission: whichever the kernel finds first.
        assert!(found[0].to_string().contains("/proc/self"), "{}", found[0]);
    }
}
