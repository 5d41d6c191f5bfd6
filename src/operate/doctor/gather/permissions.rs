//! Who asks, who ships, and whose something is.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::run::{code_of, stdout_of};
use crate::{
    disk::ownership::TrustedWay,
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
            let name = name_of(running.uid).await;
            return (Some(Person { name, ..running }), None);
        }
        match unit.filter(|unit| unit.load_state == "loaded") {
            Some(unit) => of_unit(unit).await,
            None => (None, None),
        }
    };
    let (us, (shipper, unknown_user)) = tokio::join!(us, shipper);
    People {
        us,
        shipper,
        unknown_user,
    }
}

/// The unit's user; else its name, where this host knows none such.
async fn of_unit(unit: &Unit) -> (Option<Person>, Option<String>) {
    let name = match unit.user.as_str() {
        "" => "root",
        name => name,
    };
    if let Some(person) = of_name(name).await {
        return (Some(person), None);
    }
    // systemd takes a number without a name, and leaves it root's group.
    if let Some(uid) = number(name) {
        return (Some(without_a_name(uid, 0)), None);
    }
    // getent(1): 2 is what it does not know; a directory service may just be slow.
    let is_unknown =
        !unit.is_user_dynamic && code_of("getent", &["--", "passwd", name], ID).await == Some(2);
    (None, is_unknown.then(|| name.to_owned()))
}

/// A user or a group by number. All bits set is none: chown(2) leaves it as it is then.
pub(in crate::operate::doctor) fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| is_plain && *id != u32::MAX)
}

fn without_a_name(uid: u32, gid: u32) -> Person {
    Person {
        name: uid.to_string(),
        uid,
        gid,
        groups: vec![gid],
    }
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
    let gid = match group {
        Some(group) => {
            let line = stdout_of("getent", &["--", "group", group], ID).await;
            let gid = line.and_then(|line| line.split(':').nth(2)?.trim().parse().ok());
            // A number needs no name on this host: in a container there may be none.
            let gid = gid.or_else(|| number(group));
            Some(gid.ok_or_else(|| unknown("group", group))?)
        }
        None => None,
    };
    let mut person = match (of_name(user).await, number(user), gid) {
        (Some(person), ..) => person,
        (None, Some(uid), Some(gid)) => without_a_name(uid, gid),
        (None, Some(uid), None) => {
            return Err(format!(
                "user {uid} has no name on this host, and so no first group: name the group with --group"
            ));
        }
        (None, None, _) => return Err(unknown("user", user)),
    };
    if let Some(gid) = gid {
        person.gid = gid;
        if !person.groups.contains(&gid) {
            person.groups.push(gid);
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
/// lead, as far as they are followed.
pub(super) fn way_to(path: &Path) -> Vec<PassedFolder> {
    passed(path, TrustedWay::to(path).ok().as_ref())
}

/// The same for a way that was gone.
pub(super) fn passed(path: &Path, way: Option<&TrustedWay>) -> Vec<PassedFolder> {
    let Ok(named) = std::path::absolute(path) else {
        return Vec::new();
    };
    let names = named.ancestors().skip(1).map(Path::to_owned);
    let mut folders: Vec<PathBuf> = names
        .chain(way.into_iter().flat_map(|way| way.passed.iter().cloned()))
        .collect();
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
