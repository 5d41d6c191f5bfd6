//! What stands in the lock file, how far it is believed, and what a person is told of it.

use std::{fs, path::PathBuf};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use serde::{Deserialize, Serialize};

use super::FileId;
use crate::{
    clock,
    model::{records::WallTime, text::printable},
};

/// What to type where no process can be named.
pub(super) const LOOK: &str = "pgrep -a sealift, then kill and its number";

/// Who holds the lock. What an older sealift did not write is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LockHolder {
    pub(super) pid: u32,
    pub(super) host: String,
    pub(super) boot_id: String,
    pub(super) since: WallTime,
    /// In which namespace `pid` means anything (pid_namespaces(7)).
    pub(super) pid_namespace: Option<String>,
    /// When the process began, ticks since the boot: its number may be another's by now.
    pub(super) started: Option<u64>,
    /// The lock file, as its holder sees it.
    pub(super) file: Option<FileId>,
    /// Where it answers, where that is not in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<PathBuf>,
}

/// What proc_pid_stat(5) has of a process.
struct Process {
    ended: bool,
    parent: u32,
    started: u64,
}

impl LockHolder {
    pub(super) fn us(file: FileId) -> Self {
        // Where /proc does not say, the lock holds all the same.
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        let pid = std::process::id();
        Self {
            pid,
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            boot_id: boot_id.trim().to_owned(),
            since: clock::wall_now(),
            pid_namespace: namespace.map(|name| name.to_string_lossy().into_owned()),
            started: process(pid).map(|process| process.started),
            file: Some(file),
            socket: None,
        }
    }

    /// As it is written.
    pub(super) fn word(&self) -> Vec<u8> {
        // A number, words and a time: there is nothing in it that JSON could not hold.
        let mut word = serde_json::to_vec(self).unwrap_or_default();
        word.push(b'\n');
        word
    }

    /// Whether it may be there although its lock is free for us.
    pub(super) fn may_be_unseen(&self, us: &Self) -> bool {
        if !self.is_of_this_boot(us) {
            // A host that started anew has nothing running from before.
            return self.host != us.host;
        }
        if self.file.is_some() && self.file == us.file {
            // The same file in the same kernel: what held it would hold it still.
            return false;
        }
        match self.pid_namespace.is_some() && us.pid_namespace.is_some() {
            true if self.pid_namespace == us.pid_namespace => self.runs(),
            whether_known => whether_known,
        }
    }

    fn is_of_this_boot(&self, us: &Self) -> bool {
        let unknown = self.boot_id.is_empty() || us.boot_id.is_empty();
        if unknown {
            self.host == us.host
        } else {
            self.boot_id == us.boot_id
        }
    }

    /// For one of our own namespace.
    fn runs(&self) -> bool {
        if let Some(process) = process(self.pid) {
            return !process.ended
                && self
                    .started
                    .is_none_or(|started| started == process.started);
        }
        // proc(5), hidepid: it may be there and not be shown.
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }

    pub(super) fn in_words(&self, us: &Self) -> String {
        let (pid, host, since) = (self.pid, printable(&self.host), self.since);
        match self.is_of_this_boot(us) {
            true if self.is_in_another_namespace(us) => {
                format!(
                    "process {pid} in another container of this machine ({host}), since {since}"
                )
            }
            true => format!("process {pid} on {host} (this host), since {since}"),
            false => format!("process {pid} on {host}, since {since}"),
        }
    }

    /// A number is shown to be typed only where it is certain whose it is.
    pub(super) fn how_to_stop(&self, us: &Self) -> String {
        if !self.is_of_this_boot(us) {
            return format!(
                "on {}, systemctl stop sealift, or {LOOK}",
                printable(&self.host)
            );
        }
        if self.is_in_another_namespace(us) {
            return format!(
                "stop the container that it runs in; or, on the machine itself, {LOOK} there (its number here is another)"
            );
        }
        let seen = process(self.pid).filter(|process| self.started == Some(process.started));
        match seen {
            Some(process) if self.pid_namespace.is_some() => {
                let cgroup =
                    fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
                match unit(&cgroup).filter(|_| process.parent == 1) {
                    Some(unit) => format!("systemctl stop {unit}"),
                    None => format!("kill {}", self.pid),
                }
            }
            _ => LOOK.to_owned(),
        }
    }

    fn is_in_another_namespace(&self, us: &Self) -> bool {
        self.pid_namespace.is_some() && self.pid_namespace != us.pid_namespace
    }
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses, and may hold anything, further ones too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Process {
        ended: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The service that a process belongs to, by its control group (cgroups(7)).
pub(super) fn unit(cgroup: &str) -> Option<&str> {
    let line = cgroup
        .lines()
        .find(|line| line.starts_with("0::/") || line.contains(":name=systemd:/"))?;
    let unit = line.rsplit('/').next()?.strip_suffix(".service")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
    (!unit.is_empty() && unit.chars().all(plain)).then_some(unit)
}
