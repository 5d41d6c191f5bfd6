//! One daemon on one data folder.
//!
//! flock(2) on `.sealift/lock`, held until the process ends, however it ends. The file says who holds it, for a person: on NFS
//! a lock of another host may not be seen by this one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{clock, episode::printable, layout::Layout, records::WallTime};

/// Where the kernel says which boot this is (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Held for as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    boot_id: String,
    since: WallTime,
}

/// Takes the lock.
///
/// # Errors
/// Where another daemon holds it (the message says who), or the file cannot be had.
pub fn acquire(layout: &Layout) -> anyhow::Result<Lock> {
    let path = layout.private.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .with_context(|| format!("Failed to open the lock: {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            match serde_json::from_str::<Holder>(&text) {
                Ok(holder) => bail!(
                    "Another sealift ships this folder already: process {} on {}, since {}. Two of them would send everything \
                     twice. Stop that one first, or give this one another --data",
                    holder.pid,
                    printable(&holder.host),
                    holder.since
                ),
                Err(_) => bail!("Another sealift ships this folder already: it holds {}", path.display()),
            }
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("Failed to lock {}", path.display()));
        }
    }
    let holder = Holder {
        pid: std::process::id(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot_id: std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned(),
        since: clock::wall_now(),
    };
    // What stands in it is for a person; the lock itself is the kernel's.
    let write = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        serde_json::to_writer(&*file, &holder)?;
        file.write_all(b"\n")
    };
    write(&mut file).with_context(|| format!("Failed to write {}", path.display()))?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        std::fs::create_dir(&layout.private).unwrap();
        let first = acquire(&layout).unwrap();
        let error = acquire(&layout).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        acquire(&layout).unwrap();
    }
}
