//! Changes, done. Renames and flushes are durable.rs's, owners and modes ownership.rs's.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::Change;
use crate::{
    disk::{
        durable,
        ownership::{self, Before, Given, MadeFor, TrustedWay},
        record_files,
    },
    model::text::printable,
    operate::doctor::facts::Facts,
};

/// Of a folder that is made: for a shared group, which each episode in it inherits.
const FOLDER_MODE: u32 = 0o2770;
/// Of the folder above, where that is made, and of the daemon's own: the shipper's alone to write
/// to, so that no other user can put another folder there.
pub(super) const PARENT_MODE: u32 = 0o2750;

pub(super) fn folder_mode(path: &Path) -> u32 {
    if path.ends_with(".sealift") {
        PARENT_MODE
    } else {
        FOLDER_MODE
    }
}

/// Whether the calling user may not do it.
pub(super) fn needs_root(change: &Change, facts: &Facts) -> bool {
    let us = facts.people.us.uid;
    let is_ours = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.uid() == us);
    us != 0
        && match change {
            Change::MakeFolder(path, uid, _) => {
                let above = path.ancestors().skip(1).find(|above| above.exists());
                *uid != us || !above.is_some_and(record_files::may_write)
            }
            Change::PutAside(path) => !path.parent().is_some_and(record_files::may_write),
            Change::Access {
                path, owner, group, ..
            } => owner.is_some() || group.is_some() || !is_ours(path),
            Change::GiveEpisode(..)
            | Change::JoinGroup(..)
            | Change::DropIn(..)
            | Change::Unit(_) => true,
        }
}

/// Why it can be done by no user, as far as a look tells.
pub(super) fn blocker(change: &Change) -> Option<String> {
    match change {
        Change::MakeFolder(path, ..) => match TrustedWay::to(path) {
            Ok(way) => way.link.map(|link| link.to_string()),
            Err(error) => Some(error.to_string()),
        },
        Change::Access { path, .. } => ownership::blocker(path),
        Change::JoinGroup(gid, of) => ownership::belongs_to_group(of, *gid)
            .err()
            .map(|error| error.to_string()),
        Change::GiveEpisode(path, uid) => match ownership::give_episode(path, *uid, false, true) {
            Ok(Given::Done { .. }) => None,
            Ok(given) => Some(super::not_given(path, given)),
            Err(error) => Some(error.to_string()),
        },
        Change::PutAside(_) | Change::DropIn(..) | Change::Unit(_) => None,
    }
}

pub(super) fn apply(change: &Change, facts: &Facts) -> io::Result<()> {
    let hands = &facts.hands;
    let us = facts.people.us.uid;
    match change {
        Change::MakeFolder(path, uid, gid) => {
            let whose = MadeFor {
                owner: (us != *uid).then_some(*uid),
                group: (us == 0).then_some(*gid),
                mode: folder_mode(path),
                parent_mode: PARENT_MODE,
            };
            ownership::make_folder(path, whose)
        }
        Change::PutAside(path) => ownership::put_aside(path).map(drop),
        Change::Access {
            path,
            before,
            owner,
            group,
            set,
            clear,
        } => {
            let before = Before {
                uid: before.uid,
                gid: before.gid,
                mode: before.mode,
            };
            ownership::give(path, Some(before), *owner, *group, *set, *clear)
        }
        Change::GiveEpisode(path, uid) => {
            match ownership::give_episode(path, *uid, false, false)? {
                Given::Done { left: 0 } => Ok(()),
                given => Err(io::Error::other(super::not_given(path, given))),
            }
        }
        Change::JoinGroup(gid, of) => {
            ownership::belongs_to_group(of, *gid)?;
            let group = said_by("getent", &["group", &gid.to_string()])?;
            let group = group.split(':').next().unwrap_or_default();
            said_by(
                "usermod",
                &["-aG", group, "--", &facts.people.shipper().name],
            )
            .map(drop)
        }
        Change::DropIn(name, lines) => {
            let folder = Path::new("/etc/systemd/system").join(format!("{}.d", hands.unit));
            durable::create_folder(&folder)?;
            let file = folder.join(format!("{name}.conf"));
            let there = match fs::read_to_string(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                read => read?,
            };
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            if there.ends_with(&lines) {
                return Ok(());
            }
            durable::write_file(&file, (there + &lines).as_bytes())
        }
        Change::Unit("daemon-reload") => said_by("systemctl", &["daemon-reload"]).map(drop),
        Change::Unit(deed) => said_by("systemctl", &[deed, &hands.unit]).map(drop),
    }
}

/// What a program says on stdout. Its own words where it fails.
fn said_by(program: &str, args: &[&str]) -> io::Result<String> {
    let ended = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    if ended.status.success() {
        Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
    } else {
        let said = printable(String::from_utf8_lossy(&ended.stderr).trim());
        Err(io::Error::other(format!("{program} failed: {said}")))
    }
}
