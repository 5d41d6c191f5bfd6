//! As a service: what the service manager is told, what SIGHUP and SIGTERM do, what the journal
//! gets.

mod journal;
mod log;
mod manager;
mod pace;
mod reload;
mod starting;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use self::manager::Manager;
use crate::support::{Process, Reply, Sandbox, Scripted, copy_program, eventually, names};

#[test]
fn ready_is_said_when_everything_stands_and_not_where_the_folder_is_held_by_another() {
    let manager = Manager::new();
    let sandbox = Sandbox::with_receiver();
    // As a predecessor leaves it that was killed in the middle of its trial move.
    for (folder, name) in [
        (&sandbox.layout.episodes, "from"),
        (&sandbox.layout.shipped, "to"),
    ] {
        fs::create_dir(folder.join(format!(".sealift-trash-trial-{name}"))).unwrap();
    }
    let mut daemon = sandbox.start(manager.over(sandbox.command("ship")));
    manager.wait_for("READY=1");
    assert_eq!(names(&sandbox.layout.episodes), [""; 0]);
    assert_eq!(names(&sandbox.layout.shipped), [""; 0]);
    sandbox.seal("a", &[]);
    sandbox.wait_shipped("a");
    // Only where there is a watchdog does the heart beat.
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    assert!(daemon.terminate().success());
    manager.wait_for("STOPPING=1\nEXTEND_TIMEOUT_USEC=");

    let held = Manager::new();
    let _first = sandbox.start(manager.over(sandbox.command("ship")));
    eventually("the first is ready, too", || manager.count("READY=1") == 2);
    let mut second = sandbox.start(held.over(sandbox.command("ship")));
    assert_eq!(second.wait().code(), Some(1));
    assert_eq!(held.count("READY=1"), 0);
}

#[test]
fn a_status_says_in_a_persons_words_what_is_going_on() {
    let manager = Manager::new();
    let refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&refusing);
    let server = Scripted::new(move |seen, _| match refuses.load(Ordering::SeqCst) {
        true => Reply::empty(401),
        false => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.record("open", &[]);
    sandbox.seal("a", &[]);
    let daemon = sandbox.start(manager.over(sandbox.command("ship")));
    manager.wait_for("STATUS=1 waiting, 1 recording; receiver held: ");
    refusing.store(false, Ordering::SeqCst);
    daemon.signal("HUP");
    sandbox.wait_shipped("a");
    manager.wait_for("STATUS=1 recording\n");
}

#[test]
fn a_broken_notify_socket_is_told_once_and_takes_nothing_down() {
    let manager = Manager::new();
    let sandbox = Sandbox::with_receiver();
    let mut command = manager.over(sandbox.command("ship"));
    command.env("WATCHDOG_USEC", "30000");
    drop(manager);
    let mut daemon = sandbox.start(command);
    for id in ["a", "b", "c"] {
        sandbox.seal(id, &[]);
        sandbox.wait_shipped(id);
    }
    daemon.wait_log("does not take our notifications");
    assert!(daemon.terminate().success());
    assert_eq!(daemon.log().matches("notif").count(), 1, "{}", daemon.log());
}

/// A receiver that takes an upload a little at a time, as long as it is told to; then it takes the
/// rest, and answers.
pub(crate) fn slow_receiver(hurry: &Arc<AtomicBool>, taken: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (hurry, taken) = (Arc::clone(hurry), Arc::clone(taken));
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
            // It knows nothing but uploads.
            if head.starts_with(b"GET") && head.ends_with(b"\r\n\r\n") {
                let unknown = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(unknown).unwrap();
                head.clear();
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        let length: usize = length.parse().unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut buffer = vec![0; 64 * 1024];
        while taken.load(Ordering::SeqCst) < length {
            if !hurry.load(Ordering::SeqCst) {
                thread::park_timeout(std::time::Duration::from_millis(10));
            }
            let read = stream.read(&mut buffer).unwrap();
            taken.fetch_add(read, Ordering::SeqCst);
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            .unwrap();
    });
    url
}

#[test]
fn the_heart_beats_through_an_upload_that_is_longer_than_the_watchdogs_patience() {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let manager = Manager::new();
    let sandbox = Sandbox::new(slow_receiver(&hurry, &taken));
    sandbox.seal("a", &[("data.bin", &crate::uploads::noise(64 << 20))]);
    // A disk that is given hardly more than the watchdog: only movement keeps the heart going.
    let mut command =
        manager.over(sandbox.command_with_config("ship", "[shipper]\ndisk_timeout_s = 2"));
    command.env("WATCHDOG_USEC", "300000");
    let daemon = sandbox.start(command);
    eventually("the upload has begun", || taken.load(Ordering::SeqCst) > 0);
    let before = manager.count("WATCHDOG=1");
    // Ten times its patience.
    eventually("thirty more beats", || {
        manager.count("WATCHDOG=1") >= before + 30
    });
    assert!(
        taken.load(Ordering::SeqCst) < 64 << 20,
        "it was not slow enough"
    );
    manager.wait_for("STATUS=1 uploading ");
    hurry.store(true, Ordering::SeqCst);
    sandbox.wait_shipped("a");
    assert!(!daemon.log().contains("has not moved"), "{}", daemon.log());
}

#[test]
fn a_worker_that_hangs_in_one_read_stops_the_heart_and_is_named_once() {
    if !crate::crash_sweep::strace_is_there() {
        return;
    }
    let manager = Manager::new();
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("first", &[]);
    let ship = manager.over(sandbox.command_with_config("ship", "[shipper]\ndisk_timeout_s = 1"));
    let stuck = sandbox
        .record("stuck", &[("data.bin", b"recorded")])
        .join("data.bin");
    let mut command = traced(
        &sandbox,
        &ship,
        &stuck,
        "read",
        "inject=read:delay_enter=8s",
    );
    command.env("WATCHDOG_USEC", "300000");
    let daemon = sandbox.start(command);
    sandbox.wait_shipped("first");
    eventually("the heart beats", || manager.count("WATCHDOG=1") > 3);
    fs::write(stuck.with_file_name("done.marker"), b"").unwrap();
    daemon.wait_log("the packing of stuck has not moved for 1 s");
    // Others go on.
    sandbox.seal("other", &[]);
    sandbox.wait_shipped("other");
    sandbox.wait_shipped("stuck");
    daemon.wait_log("the packing of stuck moves again, or is over");
    let moves_again = manager.count("WATCHDOG=1");
    eventually("the heart beats again", || {
        manager.count("WATCHDOG=1") > moves_again
    });
    assert_eq!(
        daemon.log().matches("stuck has not moved").count(),
        1,
        "{}",
        daemon.log()
    );
    // From the first word of it to the last, there was no beat.
    let heard = manager.heard();
    let hung = |message: &String| message.contains("HUNG: the packing of stuck has not moved for ");
    let (first, last) = (
        heard.iter().position(hung).unwrap(),
        heard.iter().rposition(hung).unwrap(),
    );
    assert!(last > first + 2, "{heard:?}");
    assert!(
        !heard[first..last]
            .iter()
            .any(|message| message.starts_with("WATCHDOG")),
        "{heard:?}"
    );
}

/// A command whose calls on one path strace meddles with, thread by thread: nothing else is
/// touched. With `-D` strace is not the parent, and signals go to the program itself; with `-I 1`
/// it lets go of it when it is told to end ([`untrace`]).
pub(crate) fn traced(
    sandbox: &Sandbox,
    command: &Command,
    path: &Path,
    calls: &str,
    how: &str,
) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-I", "1", "-f", "-qq", "-o"])
        .arg(sandbox.path("strace.log"))
        .arg("-P")
        .arg(path);
    strace.args(["-e", &format!("trace={calls}"), "-e", how]);
    strace.arg(command.get_program()).args(command.get_args());
    environment_of(command, &mut strace);
    strace
}

/// Longer than any test waits: what strace holds back for so long is let go by [`untrace`].
pub(crate) const HELD: &str = "600s";

/// Waits until a traced program is in this call.
#[track_caller]
pub(crate) fn is_held_in(sandbox: &Sandbox, call: &str) {
    let begun = format!("{call}(");
    eventually(&format!("it is in {call}"), || {
        fs::read_to_string(sandbox.path("strace.log")).is_ok_and(|log| log.contains(&begun))
    });
}

/// Ends the strace of a traced program, which runs on unhindered.
#[track_caller]
pub(crate) fn untrace(program: &Process) {
    let tracer = || {
        let status = fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))
            .unwrap();
        tracer.trim().to_owned()
    };
    let strace = tracer();
    // kill(1) takes that for all of its process group.
    assert_ne!(strace, "0", "it is not traced");
    assert!(
        Command::new("kill")
            .args(["-TERM", &strace])
            .status()
            .unwrap()
            .success()
    );
    eventually("strace has let go", || tracer() == "0");
}

/// For a program that starts another.
fn environment_of(command: &Command, starter: &mut Command) {
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => starter.env(key, value),
            None => starter.env_remove(key),
        };
    }
}

#[test]
fn one_listing_that_is_longer_than_a_disk_may_take_is_no_stall_while_it_moves() {
    if !crate::crash_sweep::strace_is_there() {
        return;
    }
    let manager = Manager::new();
    let sandbox = Sandbox::with_receiver();
    let huge = sandbox.record("huge", &[]);
    // Some 450 of these names to a call of getdents64.
    for n in 0..4_500 {
        fs::write(huge.join(format!("{n:050}")), b"").unwrap();
    }
    let ship = manager.over(sandbox.command_with_config("ship", "[shipper]\ndisk_timeout_s = 6"));
    let mut command = traced(
        &sandbox,
        &ship,
        &huge,
        "getdents64",
        "inject=getdents64:delay_enter=700000",
    );
    command.env("WATCHDOG_USEC", "300000");
    let daemon = sandbox.start(command);
    fs::write(huge.join("done.marker"), b"").unwrap();
    // It is listed several times on its way.
    let minutes = std::time::Duration::from_secs(400);
    crate::support::eventually_within(minutes, "huge is shipped", || {
        sandbox.shipped("huge").exists()
    });
    assert_eq!(
        daemon.log().matches("has not moved").count(),
        0,
        "{}",
        daemon.log()
    );
}

#[test]
fn a_long_clean_up_at_the_start_asks_for_more_time_while_it_moves() {
    if !crate::crash_sweep::strace_is_there() {
        return;
    }
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    let trash = sandbox.layout.shipped.join(".sealift-trash-0-old");
    fs::create_dir(&trash).unwrap();
    for n in 0..14 {
        fs::write(trash.join(n.to_string()), b"").unwrap();
    }
    let ship = manager.over(sandbox.command("ship"));
    let delay = "inject=unlinkat:delay_enter=300000";
    let daemon = sandbox.start(traced(&sandbox, &ship, &trash, "unlinkat", delay));
    manager.wait_for("READY=1");
    assert!(!trash.exists());
    let heard = manager.heard();
    let ready = heard
        .iter()
        .position(|message| message == "READY=1\n")
        .unwrap();
    let extended = heard
        .iter()
        .filter(|message| *message == "EXTEND_TIMEOUT_USEC=120000000\n")
        .count();
    assert!(extended >= 2 && ready >= extended, "{heard:?}");
    drop(daemon);
}

#[test]
fn two_mounts_of_one_file_system_are_told_by_a_real_rename_and_everything_ships_by_copy() {
    let possible = Command::new("unshare").args(["-Urm", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "no user namespaces here, and CI must have them"
        );
        println!("skipped: no user namespaces here");
        return;
    }
    let (manager, sandbox) = (Manager::new(), Sandbox::with_receiver());
    let shipped = &sandbox.layout.shipped;
    // As ReadWritePaths= does it that names the two folders one by one.
    let script = format!("mount --bind {shipped:?} {shipped:?} && exec \"$@\"");
    let ship = manager.over(sandbox.command("ship"));
    let mut command = Command::new("unshare");
    command
        .args(["-Urm", "/bin/sh", "-c", &script, "sh"])
        .arg(ship.get_program())
        .args(ship.get_args());
    environment_of(&ship, &mut command);
    let daemon = sandbox.start(command);
    daemon.wait_log("are copies, though it is the same file system");
    manager.wait_for("STATUS=nothing to ship; moves to ");
    sandbox.seal("a", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("a");
    assert_eq!(names(shipped), ["a"]);
    eventually("what was copied is removed", || {
        names(&sandbox.layout.episodes).is_empty()
    });
}

#[test]
fn a_second_signal_during_the_grace_ends_it_at_once() {
    let (hurry, taken) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let sandbox = Sandbox::new(slow_receiver(&hurry, &taken));
    sandbox.seal("a", &[("data.bin", &crate::uploads::noise(32 << 20))]);
    let mut daemon = sandbox.daemon();
    eventually("the upload has begun", || taken.load(Ordering::SeqCst) > 0);
    daemon.signal("TERM");
    daemon.wait_log("a second signal ends it at once");
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(daemon.log().contains("stopped at once"), "{}", daemon.log());
    assert_eq!(names(&sandbox.layout.episodes), ["a"]);
}

#[test]
fn what_cannot_be_moved_is_said_before_anything_was_sent() {
    if !rustix::process::geteuid().is_root() {
        // Only root can record as somebody else.
        assert!(std::env::var_os("CI").is_none(), "not root, and CI must be");
        println!("skipped: not root");
        return;
    }
    let manager = Manager::new();
    let sandbox = Sandbox::new("http://127.0.0.1:9");
    sandbox.record("theirs", &[]);
    sandbox.record("ours", &[]);
    manager.open_to_everybody();
    let nobody = "65534:65534";
    let theirs = sandbox.layout.episodes.join("theirs");
    for (owner, path) in [(nobody, sandbox.data()), ("root:root", theirs)] {
        assert!(
            Command::new("chown")
                .args(["-R", owner])
                .arg(path)
                .status()
                .unwrap()
                .success()
        );
    }
    fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let ship = manager.over(sandbox.command("ship"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    // The build's own folder may be closed to others.
    let copy = sandbox.path("sealift");
    copy_program(ship.get_program(), &copy);
    command.arg(copy).args(ship.get_args());
    environment_of(&ship, &mut command);
    let daemon = sandbox.start(command);
    daemon.wait_log("1 open recordings could not be moved once they are sealed, such as theirs");
    manager.wait_for("STATUS=2 recording; 1 open recordings could not be moved, such as theirs");
    assert_eq!(names(&sandbox.layout.episodes), ["ours", "theirs"]);
}
