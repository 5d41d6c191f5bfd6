//! Who asks, and who ships.

use std::time::Duration;

use super::run::stdout_of;
use crate::operate::doctor::facts::{People, Person, Unit};

/// For id(1), which may ask a directory service.
const ID: Duration = Duration::from_millis(500);

/// `pid`: the daemon that runs.
pub(super) async fn who(unit: Option<&Unit>, pid: Option<u32>) -> People {
    let us = async {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let groups = rustix::process::getgroups().unwrap_or_default();
        let groups = groups.into_iter().map(rustix::process::Gid::as_raw).collect();
        Person { name: name_of(uid).await, uid, gid, groups }
    };
    let shipper = async {
        if let Some(running) = pid.and_then(of_process) {
            return Some(Person { name: name_of(running.uid).await, ..running });
        }
        let unit = unit.filter(|unit| unit.load_state == "loaded")?;
        let name = if unit.user.is_empty() { "root" } else { &unit.user };
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

async fn of_name(name: &str) -> Option<Person> {
    let ask = async |what: &str| stdout_of("id", &[what, "--", name], ID).await;
    let (uid, gid, groups) = tokio::join!(ask("-u"), ask("-g"), ask("-G"));
    Some(Person {
        name: name.to_owned(),
        uid: uid?.trim().parse().ok()?,
        gid: gid?.trim().parse().ok()?,
        groups: groups?.split_whitespace().filter_map(|gid| gid.parse().ok()).collect(),
    })
}

/// proc_pid_status(5): `Uid:` and `Gid:` name the real and then the effective one.
fn of_process(pid: u32) -> Option<Person> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = |name| line(name)?.split_whitespace().nth(1)?.parse().ok();
    let groups = line("Groups:").unwrap_or_default().split_whitespace().filter_map(|gid| gid.parse().ok());
    Some(Person {
        name: String::new(),
        uid: effective("Uid:")?,
        gid: effective("Gid:")?,
        groups: groups.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
