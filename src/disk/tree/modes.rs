//! The permission bits of everything that is in an archive, in its order, as runs: `2770*1 644*5`
//! is a folder and five files.
//!
//! They are in the tar stream, and so in its digest. With them an episode can be packed to the
//! bytes that were delivered though its bits were changed since, by a person or by a file system
//! that holds none.

use std::{fmt, path::Path, str::FromStr};

use super::{Kind, TreeError, walk};
use crate::model::progress::Progress;

/// So many runs are kept: most episodes have three or four, and a receipt has to fit into a block.
const MOST_RUNS: usize = 64;

/// The runs, each with its length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Modes(Vec<(u32, u32)>);

impl Modes {
    /// Those of an episode as it is; `None` where it cannot be walked, or has too many runs.
    #[must_use]
    pub(crate) fn of(episode: &Path, progress: &Progress) -> Option<Self> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let walked = walk(episode, progress, |entry| {
            if let Kind::Directory | Kind::File(_) | Kind::Symlink(_) = entry.kind {
                let mode = entry.stat.mode & 0o7777;
                let is_full = runs.len() > MOST_RUNS;
                match runs.last_mut() {
                    Some((last, count)) if *last == mode => *count = count.saturating_add(1),
                    Some(_) | None if is_full => {}
                    Some(_) | None => runs.push((mode, 1)),
                }
            }
            Ok::<(), TreeError>(())
        });
        (walked.is_ok() && runs.len() <= MOST_RUNS).then_some(Self(runs))
    }

    /// One after another.
    pub(crate) fn each(&self) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .flat_map(|(mode, count)| std::iter::repeat_n(*mode, *count as usize))
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (mode, count)) in self.0.iter().enumerate() {
            write!(f, "{}{mode:o}*{count}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// Text that is no list of runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoModes;

impl FromStr for Modes {
    type Err = NoModes;

    fn from_str(text: &str) -> Result<Self, NoModes> {
        let run = |run: &str| {
            let (mode, count) = run.split_once('*')?;
            let mode = u32::from_str_radix(mode, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)?;
            Some((mode, count.parse().ok()?))
        };
        text.split(' ')
            .map(|part| run(part).ok_or(NoModes))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_runs_are_written_and_read_in_the_archives_order() {
        let root = tempfile::tempdir().unwrap();
        let episode = root.path().join("a");
        fs::create_dir(&episode).unwrap();
        for (name, mode) in [("1", 0o644), ("2", 0o644), ("3", 0o600)] {
            fs::write(episode.join(name), "").unwrap();
            fs::set_permissions(episode.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&episode, fs::Permissions::from_mode(0o2770)).unwrap();
        let modes = Modes::of(&episode, &Progress::default()).unwrap();
        assert_eq!(modes.to_string(), "2770*1 644*2 600*1");
        assert_eq!(modes.to_string().parse(), Ok(modes.clone()));
        assert_eq!(
            modes.each().collect::<Vec<_>>(),
            [0o2770, 0o644, 0o644, 0o600]
        );
        for odd in ["", "9*1", "644", "644*-1", "77777*1"] {
            assert_eq!(odd.parse::<Modes>(), Err(NoModes), "{odd}");
        }
    }
}
