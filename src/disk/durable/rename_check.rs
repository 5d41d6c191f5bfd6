//! Whether a move between two folders is a rename. Only a rename shows it: two `ReadWritePaths=` of
//! one unit are two mounts with one device number, and rename(2) between them is EXDEV.

use std::{fs, io, path::Path};

use super::{Published, rename::rename_noreplace};
use crate::model::layout::TRASH_PREFIX;

/// What a trial move came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It is a rename.
    Renames,
    /// It would be a copy.
    Copies,
}

/// Who tries: it sets what two of them make apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trier {
    /// The process that holds the lock.
    Holder,
    /// This process, without the lock.
    Visitor,
}

impl Trier {
    fn scratch(self, end: &str) -> String {
        match self {
            Self::Holder => format!("{TRASH_PREFIX}trial-{end}"),
            Self::Visitor => format!("{TRASH_PREFIX}{VISITOR}{}-{end}", std::process::id()),
        }
    }
}

const VISITOR: &str = "trial-doctor-";

/// Removes what visitors left that were killed half-way: empty folders, in the name of a process
/// that is no more, or of an earlier one that had the number of this. What cannot be removed stays
/// for the daemon's next start.
pub(crate) fn clear_trials(folder: &Path) {
    // Another program may have the number by now.
    let comm = |process: &str| fs::read(format!("/proc/{process}/comm")).ok();
    let ours = comm("self");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(visitor) else {
            continue;
        };
        if process == std::process::id()
            || comm(&process.to_string()).is_none_or(|comm| Some(comm) != ours)
        {
            // Not what is in it: it is empty, or it is not ours.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The process in a scratch name.
fn visitor(name: &str) -> Option<u32> {
    let (process, end) = name
        .strip_prefix(TRASH_PREFIX)?
        .strip_prefix(VISITOR)?
        .split_once('-')?;
    matches!(end, "from" | "to").then_some(())?;
    process.parse().ok()
}

/// Moves an empty folder of our own from one to the other, and removes it. Killed half-way, what is
/// left has a trash name, and goes with the daemon's next start, or the next visitor.
///
/// # Errors
/// Those of mkdir(2), there too where it would be a copy, and of renameat2(2): nothing can be moved
/// there.
pub(crate) fn try_move(from: &Path, to: &Path, who: Trier) -> io::Result<Tried> {
    // Where another shipper that starts puts them in order just now, this may fail: it is tried
    // again.
    let (scratch, target) = (from.join(who.scratch("from")), to.join(who.scratch("to")));
    fs::create_dir(&scratch)?;
    let tried = match rename_noreplace(&scratch, &target) {
        Ok(Published::Done) => Ok(Tried::Renames),
        Ok(Published::NameTaken) => Err(io::ErrorKind::AlreadyExists.into()),
        // rename(2) says so before it looks whether anything may be written there (a mount that is
        // read-only for us); a copy begins with a folder.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            fs::create_dir(&target).map(|()| Tried::Copies)
        }
        Err(error) => Err(error),
    };
    // One of them is there, or both. That it cannot be removed is the next start's business.
    let _ = fs::remove_dir(&scratch);
    let _ = fs::remove_dir(&target);
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_visitor_left_that_is_no_more_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir(folder.path().join(name)).unwrap();
        // No process has that number (proc_sys_kernel(5), pid_max).
        let dead = "4194305";
        // One that is at it: another process of this program's name.
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let program = folder.path().join(comm.trim());
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut alive = std::process::Command::new(&program)
            .arg("1000")
            .spawn()
            .unwrap();
        // execve(2) lets the parent go on before it gives the process its name.
        let named = format!("/proc/{}/comm", alive.id());
        for _ in 0..10_000 {
            if fs::read_to_string(&named).unwrap() == comm {
                break;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
        let gone = [
            ".sealift-trash-trial-doctor-1-from".to_owned(),
            format!(".sealift-trash-trial-doctor-{dead}-from"),
            format!(".sealift-trash-trial-doctor-{dead}-to"),
            Trier::Visitor.scratch("from"),
        ];
        let stay = [
            format!(".sealift-trash-trial-doctor-{}-from", alive.id()),
            ".sealift-trash-trial-from".to_owned(),
            format!(".sealift-trash-trial-doctor-{dead}-else"),
            format!(".sealift-trash-0-trial-doctor-{dead}-from"),
            "run-1".to_owned(),
        ];
        gone.iter().chain(&stay).for_each(|name| make(name));
        let full = folder
            .path()
            .join(format!(".sealift-trash-trial-doctor-{dead}0-from"));
        fs::create_dir_all(full.join("something")).unwrap();
        clear_trials(folder.path());
        alive.kill().unwrap();
        alive.wait().unwrap();
        for name in &gone {
            assert!(!folder.path().join(name).exists(), "{name}");
        }
        for name in &stay {
            assert!(folder.path().join(name).exists(), "{name}");
        }
        assert!(full.join("something").exists());
    }
}
