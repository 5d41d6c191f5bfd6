#![expect(
    clippy::disallowed_methods,
    reason = "a test plays the process that removes and replaces the lock file"
)]

use std::{fs, process::Command};

use super::*;
use crate::testing::children_have_begun;

fn sandbox() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::below(folder.path());
    fs::create_dir(&layout.private).unwrap();
    (folder, layout)
}

fn us(layout: &Layout) -> LockHolder {
    LockHolder::us(FileId::of(&open(&layout.private.join("lock"), true).unwrap()).unwrap())
}

/// Another file than ours: the same, on another way to it.
fn on_another_way() -> Option<FileId> {
    Some(FileId {
        device: 1,
        inode: 1,
    })
}

#[test]
fn the_second_is_told_who_holds_it_and_may_have_it_afterwards() {
    let (folder, layout) = sandbox();
    let lock = acquire(&layout, None).unwrap();
    let refusal = acquire(&layout, None).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(refusal.contains(&format!("process {pid} on ")), "{refusal}");
    assert!(refusal.contains(" (this host), since 20"), "{refusal}");
    assert!(
        refusal.contains(&folder.path().display().to_string()),
        "{refusal}"
    );
    assert!(refusal.ends_with(&format!("kill {pid}")), "{refusal}");
    drop(lock);
    children_have_begun();
    let _lock = acquire(&layout, None).unwrap();
}

#[test]
fn the_file_says_who_holds_it_on_which_boot_and_what_was_longer_is_gone() {
    let (_folder, layout) = sandbox();
    fs::write(layout.private.join("lock"), "x".repeat(10_000)).unwrap();
    let _lock = acquire(&layout, None).unwrap();
    let text = fs::read_to_string(layout.private.join("lock")).unwrap();
    let holder: LockHolder = serde_json::from_str(&text).unwrap();
    assert_eq!(
        holder,
        LockHolder {
            since: holder.since,
            ..us(&layout)
        }
    );
    assert_eq!(holder.pid, std::process::id());
    assert!(!holder.host.is_empty());
    assert_eq!(holder.boot_id.len(), 36);
    assert!(
        holder
            .pid_namespace
            .is_some_and(|name| name.starts_with("pid:["))
    );
}

/// As another has left the file, whose lock we cannot see.
fn left_by(layout: &Layout, holder: &LockHolder, age: Duration) {
    let path = layout.private.join("lock");
    fs::write(&path, holder.word()).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let now = file.metadata().unwrap().modified().unwrap();
    file.set_modified(now - age).unwrap();
}

const YOUNG: Duration = Duration::from_secs(120);
const OLD: Duration = Duration::from_secs(301);

#[test]
fn whose_lock_may_be_unseen_is_believed_while_it_refreshes_its_word_on_any_file_system() {
    let (_folder, layout) = sandbox();
    let us = us(&layout);
    let elsewhere = LockHolder {
        host: "lab-08".to_owned(),
        boot_id: "another".to_owned(),
        pid: 42,
        ..us.clone()
    };
    let before = LockHolder {
        boot_id: "another".to_owned(),
        ..us.clone()
    };
    // One machine, and two ways to the folder: directly, and through FUSE.
    let beside = LockHolder {
        file: on_another_way(),
        ..us.clone()
    };
    let in_container = LockHolder {
        pid_namespace: Some("pid:[1]".to_owned()),
        pid: 42,
        ..beside.clone()
    };
    let ended = LockHolder {
        started: us.started.map(|at| at + 1),
        ..beside.clone()
    };
    let crashed_container = LockHolder {
        file: us.file,
        ..in_container.clone()
    };
    let older = LockHolder {
        pid_namespace: None,
        started: None,
        file: None,
        ..us.clone()
    };
    for (what, holder, age, refused) in [
        ("another host", &elsewhere, YOUNG, true),
        ("another host that is gone", &elsewhere, OLD, false),
        ("this host before it started anew", &before, YOUNG, false),
        ("a process that runs, on another way", &beside, YOUNG, true),
        ("another process by now", &ended, YOUNG, false),
        ("a container, on another way", &in_container, YOUNG, true),
        (
            "a container, on another way, that is gone",
            &in_container,
            OLD,
            false,
        ),
        (
            "a container that crashed: this kernel would see its lock",
            &crashed_container,
            YOUNG,
            false,
        ),
        (
            "a sealift that wrote less, on this machine",
            &older,
            YOUNG,
            false,
        ),
    ] {
        left_by(&layout, holder, age);
        children_have_begun();
        match acquire(&layout, None) {
            Ok(_lock) => assert!(!refused, "{what}"),
            Err(error) => {
                let words = error.to_string();
                assert!(refused, "{what}: {words}");
                assert!(words.contains("last heard of 12"), "{words}");
                let path = layout.private.join("lock");
                assert!(
                    words.ends_with(&format!("rm {}", path.display())),
                    "{words}"
                );
                // Asking again and again does not make it younger.
                assert!(acquire(&layout, None).is_err());
                let age = age_there(&File::open(&path).unwrap(), &layout.private).unwrap();
                assert!(age >= YOUNG, "{age:?}");
            }
        }
        assert_eq!(fs::read_dir(&layout.private).unwrap().count(), 1);
    }
}

#[test]
fn what_was_killed_on_this_host_may_begin_again_at_once_whichever_way_it_came() {
    let (_folder, layout) = sandbox();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = child.id();
    let holder = LockHolder {
        pid,
        started: None,
        file: on_another_way(),
        ..us(&layout)
    };
    left_by(&layout, &holder, Duration::ZERO);
    assert!(matches!(
        acquire(&layout, None),
        Err(LockError::Elsewhere { .. })
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    children_have_begun();
    let _lock = acquire(&layout, None).unwrap();
}

#[test]
fn a_holder_that_refreshes_stays_young_and_one_that_ends_leaves_no_claim() {
    let (_folder, layout) = sandbox();
    let path = layout.private.join("lock");
    let lock = acquire(&layout, None).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(lock.keeper().keep(&layout).unwrap().is_none());
    assert!(age_there(&file, &layout.private).unwrap() < Duration::from_secs(60));
    drop(lock);
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn a_lock_that_another_has_taken_is_lost_and_its_word_stays() {
    let (_folder, layout) = sandbox();
    let path = layout.private.join("lock");
    let other = LockHolder {
        host: "lab-08".to_owned(),
        boot_id: "another".to_owned(),
        pid: 42,
        ..us(&layout)
    };
    let lock = acquire(&layout, None).unwrap();
    fs::write(&path, other.word()).unwrap();
    let lost = lock.keeper().keep(&layout).unwrap_err().to_string();
    assert!(
        lost.contains("ships this folder already")
            && lost.contains("process 42 on lab-08, since 20"),
        "{lost}"
    );
    drop(lock);
    assert_eq!(fs::read(&path).unwrap(), other.word());
}

#[test]
fn a_lock_whose_file_was_removed_or_replaced_is_taken_anew_and_the_old_one_takes_nothing_from_it() {
    let (_folder, layout) = sandbox();
    let path = layout.private.join("lock");
    let removed = acquire(&layout, None).unwrap();
    fs::remove_file(&path).unwrap();
    let anew = removed.keeper().keep(&layout).unwrap().unwrap();
    drop(removed);
    assert!(
        !fs::read(&path).unwrap().is_empty(),
        "emptied by one that is not its holder"
    );
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let third = anew.keeper().keep(&layout).unwrap().unwrap();
    fs::remove_dir_all(&layout.private).unwrap();
    let fourth = third.keeper().keep(&layout).unwrap().unwrap();
    assert!(fourth.keeper().keep(&layout).unwrap().is_none());
    fs::remove_dir_all(layout.private.parent().unwrap()).unwrap();
    assert!(fourth.keeper().keep(&layout).unwrap().is_none());
}

#[test]
fn a_lock_that_is_only_closed_is_free_here_and_its_word_stays_for_others() {
    let (_folder, layout) = sandbox();
    let lock = acquire(&layout, None).unwrap();
    let word = fs::read(layout.private.join("lock")).unwrap();
    lock.close();
    children_have_begun();
    assert_eq!(fs::read(layout.private.join("lock")).unwrap(), word);
    let _lock = acquire(&layout, None).unwrap();
}

#[test]
fn a_word_that_there_was_no_room_for_is_written_later() {
    let (_folder, layout) = sandbox();
    let path = layout.private.join("lock");
    let lock = acquire(&layout, None).unwrap();
    let ours = fs::read(&path).unwrap();
    fs::write(&path, b"").unwrap();
    assert!(lock.keeper().keep(&layout).unwrap().is_none());
    assert_eq!(fs::read(&path).unwrap(), ours);
}

#[test]
fn a_number_is_shown_to_be_typed_only_where_it_is_certain_whose_it_is() {
    let (_folder, layout) = sandbox();
    let us = us(&layout);
    let stop = |holder: &LockHolder| held(&layout, Some(holder), &us).to_string();
    let init = LockHolder {
        pid: 1,
        pid_namespace: Some("pid:[1]".to_owned()),
        ..us.clone()
    };
    let words = stop(&init);
    assert!(
        words.contains("process 1 in another container of this machine"),
        "{words}"
    );
    assert!(
        words.contains("stop the container") && !words.contains("kill 1"),
        "{words}"
    );
    let reused = LockHolder {
        pid: 1,
        ..us.clone()
    };
    assert!(stop(&reused).ends_with(holder::LOOK), "{}", stop(&reused));
    let elsewhere = LockHolder {
        pid: 42,
        host: "lab\u{1b}8".to_owned(),
        boot_id: "another".to_owned(),
        ..us.clone()
    };
    let words = stop(&elsewhere);
    assert!(
        words.contains("process 42 on lab\\u{1b}8, since"),
        "{words}"
    );
    assert!(
        words.contains("on lab\\u{1b}8, systemctl stop sealift") && !words.contains("kill 42"),
        "{words}"
    );
    assert!(held(&layout, None, &us).to_string().ends_with(holder::LOOK));
}

#[test]
fn a_service_is_known_by_its_control_group() {
    for (cgroup, unit) in [
        ("0::/system.slice/sealift.service\n", Some("sealift")),
        (
            "12:cpu:/x\n1:name=systemd:/system.slice/system-sealift.slice/sealift@a.service\n",
            Some("sealift@a"),
        ),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/\n", None),
        ("0::/system.slice/a;b.service\n", None),
        ("", None),
    ] {
        assert_eq!(holder::unit(cgroup), unit, "{cgroup}");
    }
}

#[test]
fn a_symlink_in_its_place_is_refused_and_not_written_through() {
    let (folder, layout) = sandbox();
    let precious = folder.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, layout.private.join("lock")).unwrap();
    assert!(matches!(acquire(&layout, None), Err(LockError::Io { .. })));
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
}
