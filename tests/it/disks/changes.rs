//! What somebody else does to episodes and folders meanwhile. Each test is a row of the table in
//! docs/operations.md.

#![expect(
    clippy::disallowed_methods,
    reason = "an operator removes and renames as they like"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use super::{content_of, direct};
use crate::{
    crash_sweep::strace_is_there,
    resume::{MIB, noise},
    service::{HELD, is_held_in, traced, untrace},
    support::{Process, Reply, Sandbox, Scripted, eventually, json_file, names},
};

const EACH_SECOND: &str = "[shipper]\nreconcile_interval_s = 1\n";
const TAKEN_OUT: &str = "run-1 was taken out of episodes/ by another process. It is not shipped.";

/// A path that is known only when the server runs already.
type Later = Arc<Mutex<Option<PathBuf>>>;

/// A receiver that is locked until it is opened: 401, and then it stores.
struct Door {
    open: Arc<AtomicBool>,
    server: Scripted,
}

impl Door {
    fn closed() -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        let server = Scripted::new(move |seen, _| {
            if is_open.load(Ordering::SeqCst) {
                direct::answer(seen)
            } else {
                Reply::empty(401)
            }
        });
        Self { open, server }
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn daemon(sandbox: &Sandbox, config: &str) -> Process {
    sandbox.start(sandbox.command_with_config("ship", &format!("{EACH_SECOND}{config}")))
}

/// A daemon with one archive kept in its outbox, which the receiver does not take yet.
fn with_one_that_waits() -> (Sandbox, Door, Process) {
    let door = Door::closed();
    let sandbox = Sandbox::new(door.server.url());
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    eventually("the archive is kept", || {
        sandbox.outbox() == ["run-1.json", "run-1.tar.zst"]
    });
    daemon.wait_log("The receiver cannot be used");
    (sandbox, door, daemon)
}

/// What was perhaps the last copy lies there with a reason.
#[track_caller]
fn archive_is_in_quarantine(sandbox: &Sandbox) {
    let visible = || {
        names(&sandbox.layout.quarantine)
            .into_iter()
            .find(|name| !name.starts_with('.'))
    };
    eventually("its archive is in quarantine/", || visible().is_some());
    let aside = sandbox.layout.quarantine.join(visible().unwrap());
    eventually("with the reason", || {
        names(&aside).iter().any(|name| name.ends_with(".tar.zst"))
            && names(&aside).contains(&"quarantine_reason.json".to_owned())
    });
    eventually("and not in the outbox", || sandbox.outbox().is_empty());
}

fn remove(episode: &Path) {
    // A writer may be putting its record there.
    eventually("it is removed", || {
        fs::remove_dir_all(episode).is_ok() || !episode.exists()
    });
}

#[test]
fn removed_while_open_it_is_forgotten_and_its_name_is_free() {
    let sandbox = Sandbox::with_receiver();
    let daemon = daemon(&sandbox, "");
    daemon.wait_log("ships");
    let episode = sandbox.record("run-1", &[("data.bin", b"begun")]);
    remove(&episode);
    sandbox.seal("run-1", &[("data.bin", b"begun again")]);
    sandbox.wait_shipped("run-1");
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"begun again"
    );
    assert!(!daemon.log().contains("taken out"), "{}", daemon.log());
}

#[test]
fn removed_while_it_waits_for_its_turn_it_is_not_shipped() {
    // The first upload is answered when the door opens.
    let door = Arc::new((Mutex::new(false), Condvar::new()));
    let behind = Arc::clone(&door);
    let server = Scripted::new(move |seen, _| {
        let (open, opened) = &*behind;
        drop(
            opened
                .wait_while(open.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
        direct::answer(seen)
    });
    let sandbox = Sandbox::new(server.url());
    let ids: Vec<_> = (0..8).map(|n| format!("run-{n}")).collect();
    for id in &ids {
        sandbox.seal(id, &[("data.bin", id.as_bytes())]);
    }
    // Two are packed ahead of the one upload; the rest waits.
    let daemon = daemon(&sandbox, "[receiver]\nconcurrency = 1\n[pack]\nworkers = 1");
    eventually("some are kept", || sandbox.outbox().len() >= 4);
    // The oldest and the newest go before it.
    let waiting = &ids[4];
    assert!(
        !sandbox
            .outbox()
            .iter()
            .any(|name| name.starts_with(waiting)),
        "{:?}",
        sandbox.outbox()
    );
    remove(&sandbox.layout.episodes.join(waiting));
    daemon.wait_log(&format!(
        "{waiting} was taken out of episodes/ by another process. It is not shipped."
    ));
    *door.0.lock().unwrap() = true;
    door.1.notify_all();
    eventually("the others are shipped", || {
        names(&sandbox.layout.shipped).len() == ids.len() - 1
    });
    assert_eq!(server.count(waiting), 0);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn removed_while_it_is_packed_it_is_not_shipped_and_leaves_no_scratch() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = sandbox.command_with_config("ship", EACH_SECOND);
    let how = format!("inject=read:delay_enter={HELD}");
    let daemon = sandbox.start(traced(
        &sandbox,
        &ship,
        &episode.join("data.bin"),
        "read",
        &how,
    ));
    is_held_in(&sandbox, "read");
    remove(&episode);
    untrace(&daemon);
    daemon.wait_log(TAKEN_OUT);
    eventually("nothing is left of it", || sandbox.outbox().is_empty());
    assert!(!sandbox.stored("run-1").exists());
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn removed_while_it_waits_to_be_sent_its_archive_may_be_the_last_copy() {
    let (sandbox, door, daemon) = with_one_that_waits();
    remove(&sandbox.layout.episodes.join("run-1"));
    daemon.wait_log(TAKEN_OUT);
    archive_is_in_quarantine(&sandbox);
    door.open();
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
    assert_eq!(names(&sandbox.layout.shipped), ["run-2"]);
}

/// The archive in `quarantine/` is that of what was recorded first.
#[track_caller]
fn first_is_in_quarantine(sandbox: &Sandbox) {
    let aside = sandbox.layout.quarantine.join("run-1/run-1.tar.zst");
    eventually("the first is in quarantine/", || aside.exists());
    assert_eq!(
        content_of(&fs::read(aside).unwrap(), "data.bin"),
        b"recorded"
    );
}

#[test]
fn removed_and_its_name_used_again_at_once_its_archive_may_be_the_last_copy() {
    let door = Door::closed();
    let sandbox = Sandbox::new(door.server.url());
    let daemon = sandbox.daemon();
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    eventually("the archive is kept", || {
        sandbox.outbox() == ["run-1.json", "run-1.tar.zst"]
    });
    daemon.wait_log("The receiver cannot be used");
    // Within one look at it.
    let again = sandbox.record(".again", &[("data.bin", b"recorded again")]);
    fs::write(again.join("done.marker"), b"").unwrap();
    remove(&episode);
    fs::rename(again, &episode).unwrap();
    first_is_in_quarantine(&sandbox);
    door.open();
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-1");
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded again"
    );
}

#[test]
fn removed_and_its_name_used_again_while_no_daemon_ran_its_archive_may_be_the_last_copy() {
    let (sandbox, door, mut daemon) = with_one_that_waits();
    assert!(daemon.terminate().success());
    remove(&sandbox.layout.episodes.join("run-1"));
    sandbox.seal("run-1", &[("data.bin", b"recorded again")]);
    let _daemon = sandbox.daemon();
    first_is_in_quarantine(&sandbox);
    door.open();
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-1");
    assert_eq!(
        fs::read(sandbox.shipped("run-1").join("data.bin")).unwrap(),
        b"recorded again"
    );
}

#[test]
fn removed_while_it_rests_its_archive_may_be_the_last_copy() {
    let server = Scripted::new(|_, _| Reply::empty(503).header("Retry-After: 3000"));
    let sandbox = Sandbox::new(server.url());
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    eventually("the archive is kept", || {
        sandbox.outbox() == ["run-1.json", "run-1.tar.zst"]
    });
    remove(&sandbox.layout.episodes.join("run-1"));
    daemon.wait_log(TAKEN_OUT);
    archive_is_in_quarantine(&sandbox);
}

#[test]
fn removed_while_it_is_sent_the_upload_goes_on_and_the_receiver_has_it() {
    let path = Later::default();
    let episode = Arc::clone(&path);
    let server = Scripted::new(move |seen, _| {
        remove(episode.lock().unwrap().as_ref().unwrap());
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    *path.lock().unwrap() = Some(sandbox.layout.episodes.join("run-1"));
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    daemon
        .wait_log("run-1 is stored by the receiver, but another process took it out of episodes/");
    assert_eq!(content_of(&server.seen()[0].body, "data.bin"), b"recorded");
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
    assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn removed_while_it_is_sent_without_a_copy_the_upload_breaks_off() {
    let path = Later::default();
    let episode = Arc::clone(&path);
    let server = Scripted::new(move |seen, _| {
        remove(episode.lock().unwrap().as_ref().unwrap());
        direct::answer(seen)
    });
    let sandbox = Sandbox::new(server.url());
    *path.lock().unwrap() = Some(sandbox.layout.episodes.join("run-1"));
    let config = format!("{}reconcile_interval_s = 1", direct::NO_ROOM);
    let daemon = sandbox.start(sandbox.command_with_config("ship", &config));
    sandbox.seal("run-1", &[("data.bin", &noise(3 * MIB))]);
    daemon.wait_log(TAKEN_OUT);
    assert!(
        !server
            .seen()
            .iter()
            .any(|seen| seen.head.starts_with("PUT")),
        "nobody can have acknowledged it"
    );
}

#[test]
fn removed_in_conflict_its_archive_is_put_aside_without_an_alarm() {
    let server = Scripted::new(|_, _| {
        Reply::json(
            409,
            &json!({"type": "urn:sealift:conflict", "title": "held with other content"}),
        )
    });
    let sandbox = Sandbox::new(server.url());
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    daemon.wait_log("the receiver holds other content under this name");
    eventually("the conflict is remembered", || {
        fs::read_to_string(sandbox.layout.outbox.join("run-1.json"))
            .is_ok_and(|it| it.contains("conflict"))
    });
    remove(&sandbox.layout.episodes.join("run-1"));
    archive_is_in_quarantine(&sandbox);
    assert!(!daemon.log().contains("last copy"), "{}", daemon.log());
}

#[test]
fn removed_while_it_is_moved_to_shipped_the_receiver_has_it() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = sandbox.command_with_config("ship", EACH_SECOND);
    let how = format!("inject=renameat2:delay_enter={HELD}");
    let daemon = sandbox.start(traced(&sandbox, &ship, &episode, "renameat2", &how));
    is_held_in(&sandbox, "renameat2");
    assert!(episode.join("shipping_receipt.json").exists());
    remove(&episode);
    untrace(&daemon);
    daemon
        .wait_log("run-1 is stored by the receiver, but another process took it out of episodes/");
    assert!(sandbox.stored("run-1").exists());
    eventually("the outbox is empty", || sandbox.outbox().is_empty());
}

#[test]
fn removed_while_it_is_moved_to_quarantine_it_is_gone() {
    if !strace_is_there() {
        return;
    }
    let server = Scripted::new(|_, _| {
        Reply::json(
            422,
            &json!({"type": "urn:sealift:too-large", "title": "not an episode of ours"}),
        )
    });
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    let ship = sandbox.command_with_config("ship", EACH_SECOND);
    let how = format!("inject=renameat2:delay_enter={HELD}");
    let daemon = sandbox.start(traced(&sandbox, &ship, &episode, "renameat2", &how));
    is_held_in(&sandbox, "renameat2");
    assert!(episode.join("quarantine_reason.json").exists());
    remove(&episode);
    untrace(&daemon);
    daemon.wait_log(TAKEN_OUT);
    assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
}

#[test]
fn written_to_while_it_is_packed_it_is_packed_again_as_it_is() {
    if !strace_is_there() {
        return;
    }
    let sandbox = Sandbox::with_receiver();
    let data = sandbox
        .seal("run-1", &[("data.bin", b"recorded")])
        .join("data.bin");
    let ship = sandbox.command_with_config("ship", EACH_SECOND);
    let how = format!("inject=read:delay_enter={HELD}");
    let daemon = sandbox.start(traced(&sandbox, &ship, &data, "read", &how));
    let more = sandbox.path("more");
    fs::write(&more, b"recorded, and more").unwrap();
    is_held_in(&sandbox, "read");
    // As editors save. A file that is open for writing just then would be waited for instead.
    fs::rename(&more, &data).unwrap();
    untrace(&daemon);
    sandbox.wait_shipped("run-1");
    daemon.wait_log("run-1 is sealed but not at rest");
    assert_eq!(
        content_of(&fs::read(sandbox.stored("run-1")).unwrap(), "data.bin"),
        b"recorded, and more"
    );
}

#[test]
fn written_to_after_it_was_packed_it_is_packed_again_before_a_byte_is_sent() {
    let mut sandbox = Sandbox::with_receiver();
    let address = sandbox.kill_receiver();
    let daemon = daemon(&sandbox, "");
    let data = sandbox
        .seal("run-1", &[("data.bin", b"recorded")])
        .join("data.bin");
    eventually("the archive is kept", || {
        sandbox.outbox() == ["run-1.json", "run-1.tar.zst"]
    });
    fs::write(&data, b"recorded, and more").unwrap();
    sandbox.start_receiver(&address);
    sandbox.wait_shipped("run-1");
    daemon.wait_log("run-1 is sealed but not at rest: it was changed after it was packed");
    assert_eq!(
        content_of(&fs::read(sandbox.stored("run-1")).unwrap(), "data.bin"),
        b"recorded, and more"
    );
}

#[test]
fn written_to_in_shipped_it_is_kept_whatever_room_is_wanted() {
    let sandbox = Sandbox::with_receiver();
    let mut daemon = daemon(&sandbox, "");
    for id in ["edited", "noted", "held"] {
        sandbox.seal(id, &[("data.bin", b"recorded")]);
        daemon.wait_log(&format!("shipped {id}"));
    }
    fs::write(sandbox.shipped("edited").join("data.bin"), b"EDITED!!").unwrap();
    fs::write(
        sandbox.shipped("noted").join("notes.txt"),
        b"look at second 12",
    )
    .unwrap();
    assert!(daemon.terminate().success());

    let greedy = self::daemon(&sandbox, &format!("shipped_free_bytes = {}\n", 1_u64 << 60));
    greedy.wait_log("removed ");
    for id in ["edited", "noted"] {
        greedy.wait_log(&format!(
            "/{id} is not what was delivered of {id}: it was written to since."
        ));
    }
    sandbox.seal("next", &[]);
    // What is shipped next is reason to look through all of it once more.
    eventually("the next is removed, too", || {
        names(&sandbox.layout.shipped) == ["edited", "noted"]
    });
    let log = greedy.log();
    assert_eq!(
        log.matches("is not what was delivered of").count(),
        2,
        "told once each: {log}"
    );
    assert_eq!(
        fs::read(sandbox.shipped("edited").join("data.bin")).unwrap(),
        b"EDITED!!"
    );
}

#[test]
fn a_marker_that_is_removed_while_it_waits_opens_it_again() {
    let (sandbox, door, daemon) = with_one_that_waits();
    let marker = sandbox.layout.episodes.join("run-1/done.marker");
    fs::remove_file(&marker).unwrap();
    // The next look sees it; from then on it is a recording like any other.
    eventually("it is watched again", || inotify_watches(daemon.pid()) == 2);
    let before = door.server.count("run-1");
    door.open();
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
    assert_eq!(door.server.count("run-1"), before);
    fs::write(&marker, b"").unwrap();
    sandbox.wait_shipped("run-1");
}

#[test]
fn a_marker_that_is_removed_while_it_is_sent_keeps_it_in_episodes() {
    let path = Later::default();
    let marker = Arc::clone(&path);
    let server = Scripted::new(move |seen, _| {
        if let Some(marker) = marker.lock().unwrap().take() {
            fs::remove_file(marker).unwrap();
        }
        Reply::stored(seen)
    });
    let sandbox = Sandbox::new(server.url());
    *path.lock().unwrap() = Some(sandbox.layout.episodes.join("run-1/done.marker"));
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[("data.bin", b"recorded")]);
    daemon.wait_log("run-1 is sealed but not at rest: it was changed after it was packed");
    assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
    assert_eq!(names(&sandbox.layout.episodes.join("run-1")), ["data.bin"]);
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
}

#[test]
fn an_outbox_that_is_no_folder_holds_packing_until_it_is_one_again() {
    let sandbox = Sandbox::with_receiver();
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-0", &[]);
    sandbox.wait_shipped("run-0");
    daemon.wait_log("shipped run-0");
    // A removed one is made anew: so it has to be in the way at once.
    eventually("a file stands there", || {
        let _ = fs::remove_dir(&sandbox.layout.outbox);
        fs::File::create_new(&sandbox.layout.outbox).is_ok()
    });
    for id in ["run-1", "run-2"] {
        sandbox.seal(id, &[]);
    }
    daemon.wait_log("Packing pauses, and is tried again");
    assert_eq!(names(&sandbox.layout.episodes), ["run-1", "run-2"]);
    fs::remove_file(&sandbox.layout.outbox).unwrap();
    for id in ["run-1", "run-2"] {
        sandbox.wait_shipped(id);
    }
}

#[test]
fn a_data_folder_that_goes_is_waited_for_and_nothing_is_made_in_its_place() {
    let sandbox = Sandbox::with_receiver();
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    daemon.wait_log("shipped run-1");
    let unplugged = sandbox.path("unplugged");
    fs::rename(sandbox.data(), &unplugged).unwrap();
    daemon.wait_log("is missing. Nothing is moved; it is tried again.");
    assert!(!sandbox.data().exists());
    fs::rename(&unplugged, sandbox.data()).unwrap();
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
}

#[test]
fn another_data_folder_in_its_place_is_shipped_from_and_no_archive_in_it_is_an_orphan() {
    let sandbox = Sandbox::with_receiver();
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    daemon.wait_log("shipped run-1");
    let other = sandbox.path("other");
    for folder in ["episodes", "outbox", "shipped", "quarantine"] {
        fs::create_dir_all(other.join(folder)).unwrap();
    }
    fs::write(other.join("outbox/run-9.tar.zst"), b"an archive of nobody").unwrap();
    fs::rename(sandbox.data(), sandbox.path("unplugged")).unwrap();
    fs::rename(&other, sandbox.data()).unwrap();
    sandbox.seal("run-2", &[("data.bin", b"recorded")]);
    daemon.wait_log("shipped run-2");
    let receipt = json_file(&sandbox.shipped("run-2").join("shipping_receipt.json"));
    assert_eq!(receipt["status_code"], 201);
    assert_eq!(sandbox.outbox(), ["run-9.tar.zst"]);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn a_private_folder_that_is_removed_is_made_anew_and_the_folder_stays_locked() {
    let sandbox = Sandbox::with_receiver();
    let daemon = daemon(&sandbox, "");
    sandbox.seal("run-1", &[]);
    daemon.wait_log("shipped run-1");
    fs::remove_dir_all(&sandbox.layout.private).unwrap();
    daemon.wait_log(".sealift/lock was gone while we ran, and was taken anew.");
    let second = sandbox.command("ship").output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr)
            .contains("Another sealift ships this folder already")
    );
}

#[test]
fn where_another_has_taken_the_lock_meanwhile_the_first_ends() {
    let sandbox = Sandbox::with_receiver();
    let mut first = daemon(&sandbox, "");
    sandbox.seal("run-1", &[]);
    first.wait_log("shipped run-1");
    first.signal("STOP");
    fs::remove_file(sandbox.layout.private.join("lock")).unwrap();
    let second = sandbox.daemon();
    sandbox.seal("run-2", &[]);
    second.wait_log("shipped run-2");
    first.signal("CONT");
    assert_eq!(first.wait().code(), Some(1));
    first.wait_log("Another sealift ships this folder already");
    sandbox.seal("run-3", &[]);
    second.wait_log("shipped run-3");
}

/// How many folders a process watches.
fn inotify_watches(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fdinfo");
    let infos = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    infos.map(|info| info.matches("inotify wd:").count()).sum()
}
