//! Which process has a file open for writing, as far as /proc shows it: a process sees its own
//! user's, and root all of them (unless mounted with `hidepid=`).

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::model::text::printable;

/// `O_ACCMODE`, in the octal `flags:` of /proc/PID/fdinfo/FD (proc_pid_fdinfo(5)).
const ACCESS_MODE: u32 = 0o3;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHolder {
    /// Its number.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`), printable.
    pub name: String,
}

impl fmt::Display for FileHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// The first process that has a file open for writing or mapped writable; `None` where /proc shows
/// none. Looks at every descriptor of every process that may be looked at: some milliseconds.
pub(crate) fn find_holder(file: &Path) -> Option<FileHolder> {
    let wanted = fs::metadata(file).ok()?;
    let wanted = (wanted.dev(), wanted.ino());
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    processes
        .filter(|(_, process)| holds(process, wanted))
        .map(named)
        .next()
}

fn named((pid, process): (u32, PathBuf)) -> FileHolder {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    FileHolder {
        pid,
        name: printable(name.trim_end()),
    }
}

fn holds(process: &Path, wanted: (u64, u64)) -> bool {
    has_open(process, wanted) || has_mapped(process, wanted)
}

fn has_open(process: &Path, wanted: (u64, u64)) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        let is_it =
            fs::metadata(descriptor.path()).is_ok_and(|found| (found.dev(), found.ino()) == wanted);
        is_it && is_for_writing(&process.join("fdinfo").join(descriptor.file_name()))
    })
}

fn is_for_writing(fdinfo: &Path) -> bool {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & ACCESS_MODE != 0)
}

/// A line is `address perms offset major:minor inode path`; `perms` is `rw-s` for a shared writable
/// one (proc_pid_maps(5)). The device there is the file system's own number, which btrfs and
/// overlay do not give to stat(2): the inode alone is compared.
fn has_mapped(process: &Path, (_, inode): (u64, u64)) -> bool {
    let text = fs::read_to_string(process.join("maps")).unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let permissions = fields.nth(1).unwrap_or_default().as_bytes();
        let is_it = fields.nth(2).and_then(|found| found.parse().ok()) == Some(inode);
        is_it && permissions.get(1) == Some(&b'w') && permissions.get(3) == Some(&b's')
    })
}
