//! Who asks, who ships, and whose something is.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::run::stdout_of;
use crate::{
    model::text::printable,
    operate::doctor::facts::{Owned, PassedFolder, People, Person, Unit},
};

/// For id(1), which may ask a directory service.
const ID: Duration = Duration::from_millis(500);

/// `pid`: the daemon that runs.
pub(super) async fn who(unit: Option<&Unit>, pid: Option<u32>) -> People {
    let us = async {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let groups = rustix::process::getgroups().unwrap_or_default();
        let groups = groups
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        Person {
            name: name_of(uid).await,
            uid,
            gid,
            groups,
        }
    };
    let shipper = async {
        if let Some(running) = pid.and_then(of_process) {
            return Some(Person {
                name: name_of(running.uid).await,
                ..running
            });
        }
        let unit = unit.filter(|unit| unit.load_state == "loaded")?;
        let name = if unit.user.is_empty() {
            "root"
        } else {
            &unit.user
        };
        of_name(name).await
    };
    let (us, shipper) = tokio::join!(us, shipper);
    People { us, shipper }
}

async fn name_of(uid: u32) -> String {
    let number = uid.to_string();
    match stdout_of("id", &["-un", "--", &number], ID).await {
        Some(name) => name.trim().to_owned(),
        None => number,
    }
}

/// The user of this name, or number, as if this were its first group; what is not known, in words.
pub(in crate::operate::doctor) async fn given(
    user: &str,
    group: Option<&str>,
) -> Result<Person, String> {
    let unknown = |kind: &str, name: &str| {
        format!(
            "there is no {kind} {} on this host: is it spelt right, or is it to be made first?",
            printable(name)
        )
    };
    let mut person = of_name(user).await.ok_or_else(|| unknown("user", user))?;
    if let Some(group) = group {
        let line = stdout_of("getent", &["--", "group", group], ID).await;
        let gid = line.and_then(|line| line.split(':').nth(2)?.trim().parse().ok());
        person.gid = gid.ok_or_else(|| unknown("group", group))?;
        if !person.groups.contains(&person.gid) {
            person.groups.push(person.gid);
        }
    }
    Ok(person)
}

async fn of_name(name: &str) -> Option<Person> {
    let ask = async |what: &str| stdout_of("id", &[what, "--", name], ID).await;
    let (uid, gid, groups) = tokio::join!(ask("-u"), ask("-g"), ask("-G"));
    Some(Person {
        name: name.to_owned(),
        uid: uid?.trim().parse().ok()?,
        gid: gid?.trim().parse().ok()?,
        groups: groups?
            .split_whitespace()
            .filter_map(|gid| gid.parse().ok())
            .collect(),
    })
}

/// proc_pid_status(5): `Uid:` and `Gid:` name the real and then the effective one.
fn of_process(pid: u32) -> Option<Person> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = |name| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let groups = line("Groups:")
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|gid| gid.parse().ok());
    Some(Person {
        name: String::new(),
        uid: effective("Uid:")?,
        gid: effective("Gid:")?,
        groups: groups.collect(),
    })
}

/// Whose it is.
pub(super) fn owned(path: &Path, metadata: &Metadata) -> Owned {
    // Asked for its length alone: no list, no attribute (xattr(7)).
    let list = rustix::fs::getxattr(path, c"system.posix_acl_access", &mut [0_u8; 0]);
    Owned {
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode(),
        listed: list.is_ok_and(|bytes| bytes > 0),
    }
}

/// The folders that lead to it, the outermost first: by its name, and by where symlinks in that
/// lead.
pub(super) fn way_to(path: &Path) -> Vec<PassedFolder> {
    let Ok(named) = std::path::absolute(path) else {
        return Vec::new();
    };
    let real = named.canonicalize().ok();
    let names = named
        .ancestors()
        .skip(1)
        .chain(real.iter().flat_map(|real| real.ancestors().skip(1)));
    let mut folders: Vec<PathBuf> = names.map(Path::to_owned).collect();
    folders.sort_by_key(|folder| (folder.components().count(), folder.clone()));
    folders.dedup();
    let looked = folders.into_iter().filter_map(|folder| {
        let owned = owned(&folder, &fs::metadata(&folder).ok()?);
        Some((folder, owned))
    });
    looked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_through_every_folder_whatever_symlinks_it_goes_over() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("a/b"), folder.path().join("l"));
        fs::create_dir_all(real.join("c")).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let way: Vec<_> = way_to(&link.join("c"))
            .into_iter()
            .map(|(folder, _)| folder)
            .collect();
        assert_eq!(way[0], Path::new("/"));
        for passed in [folder.path(), &real, &link, &folder.path().join("a")] {
            assert_eq!(
                way.iter().filter(|folder| *folder == passed).count(),
                1,
                "{way:?}"
            );
        }
        assert!(!way.contains(&link.join("c")), "{way:?}");
    }

    #[tokio::test]
    async fn a_process_a_name_and_we_ourselves_are_the_same_person() {
        let people = who(None, Some(std::process::id())).await;
        let running = people.shipper.unwrap();
        assert_eq!(
            (running.uid, running.gid, &running.name),
            (people.us.uid, people.us.gid, &people.us.name)
        );
        assert_eq!(of_name("root").await.unwrap().uid, 0);
        assert_eq!(of_name("no-such-user-here").await, None);
    }
}
