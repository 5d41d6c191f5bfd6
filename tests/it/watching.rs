//! How a sealed episode is noticed: at once by inotify, and by the reconcile pass where inotify has
//! nothing to say.

#![expect(
    clippy::disallowed_methods,
    reason = "recorders rename and remove as they like"
)]
#![expect(clippy::print_stdout, reason = "a test that was skipped says so")]

use std::{
    collections::BTreeMap, ffi::OsString, fs, os::unix::fs::symlink, path::Path, process::Command,
    time::SystemTime,
};

use crate::support::{Mounted, Process, Reply, Sandbox, Scripted, eventually, names};

/// Nothing but a hint finds an episode within a test.
const ONLY_HINTS: &str = "[shipper]\nreconcile_interval_s = 3600\nwatch = \"inotify\"";
/// The reconcile pass finds what hints do not.
const EVERY_SECOND: &str = "[shipper]\nreconcile_interval_s = 1";

struct Watched {
    // Dropped first: a daemon without its folders would complain.
    daemon: Process,
    sandbox: Sandbox,
    server: Scripted,
}

/// A daemon that has looked everywhere once, over a receiver that takes everything.
fn watched(config: &str) -> Watched {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("first", &[]);
    let daemon = sandbox.start(sandbox.command_with_config("ship", config));
    sandbox.wait_shipped("first");
    // The watch on the root stands when this is noticed.
    if config != EVERY_SECOND {
        sandbox.seal("second", &[]);
        sandbox.wait_shipped("second");
    }
    Watched {
        daemon,
        sandbox,
        server,
    }
}

#[test]
fn a_marker_that_is_created_is_noticed() {
    let Watched { sandbox, .. } = &watched(ONLY_HINTS);
    let episode = sandbox.record("run-1", &[("data.bin", b"recorded")]);
    // Another goes by meanwhile: the folder has been looked at, and is watched.
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
    fs::write(episode.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("run-1");
}

#[test]
fn a_touch_whose_second_step_comes_while_it_is_packed_is_no_change() {
    let Watched {
        sandbox,
        daemon,
        server,
    } = &watched(ONLY_HINTS);
    let ids: Vec<_> = (0..100).map(|n| format!("run-{n:03}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let episode = sandbox.record(id, &[("data.bin", b"recorded")]);
        // touch(1): made, and then given its times.
        let marker = fs::File::create(episode.join("done.marker")).unwrap();
        for _ in 0..(n % 50) * 400 {
            std::hint::spin_loop();
        }
        marker.set_modified(SystemTime::now()).unwrap();
    }
    eventually("all are shipped", || {
        names(&sandbox.layout.episodes).is_empty()
    });
    assert!(!daemon.log().contains("not at rest"), "{}", daemon.log());
    assert_eq!(server.seen().len(), 102, "each is sent once");
}

#[test]
fn a_marker_that_is_renamed_or_linked_into_place_is_noticed() {
    let Watched { sandbox, .. } = &watched(ONLY_HINTS);
    let renamed = sandbox.record("renamed", &[(".done.tmp", b"")]);
    let linked = sandbox.record("linked", &[(".done.tmp", b"")]);
    let moved_in = sandbox.record("moved-in", &[]);
    fs::write(sandbox.path("marker"), b"").unwrap();
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
    fs::rename(renamed.join(".done.tmp"), renamed.join("done.marker")).unwrap();
    fs::hard_link(linked.join(".done.tmp"), linked.join("done.marker")).unwrap();
    fs::rename(sandbox.path("marker"), moved_in.join("done.marker")).unwrap();
    for id in ["renamed", "linked", "moved-in"] {
        sandbox.wait_shipped(id);
    }
}

#[test]
fn an_episode_that_is_renamed_in_already_sealed_is_noticed() {
    let Watched { sandbox, .. } = &watched(ONLY_HINTS);
    let elsewhere = sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("done.marker"), b"").unwrap();
    fs::rename(&elsewhere, sandbox.layout.episodes.join("run-1")).unwrap();
    sandbox.wait_shipped("run-1");
}

#[test]
fn folders_whose_names_begin_with_a_dot_are_left_alone_until_they_are_renamed() {
    let Watched {
        sandbox, server, ..
    } = &watched(ONLY_HINTS);
    let building = sandbox.seal(".building", &[("data.bin", b"recorded")]);
    sandbox.seal("run-2", &[]);
    sandbox.wait_shipped("run-2");
    assert!(building.exists());
    assert_eq!(server.count(".building"), 0);
    fs::rename(building, sandbox.layout.episodes.join("run-1")).unwrap();
    sandbox.wait_shipped("run-1");
}

#[test]
fn no_marker_falls_between_the_folders_creation_and_our_watch() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(ONLY_HINTS);
    let ids: Vec<_> = (0..400).map(|n| format!("run-{n:03}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let episode = sandbox.layout.episodes.join(id);
        fs::create_dir(&episode).unwrap();
        // Different times between the two, so that every order of the daemon's steps has its
        // chance.
        for _ in 0..(n % 40) * 200 {
            std::hint::spin_loop();
        }
        fs::write(episode.join("done.marker"), b"").unwrap();
    }
    eventually("all are shipped", || {
        names(&sandbox.layout.episodes).is_empty()
    });
    assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
}

#[test]
fn a_run_that_is_thrown_away_and_begun_again_under_its_name_is_noticed() {
    let Watched { sandbox, .. } = &watched(ONLY_HINTS);
    let ids: Vec<_> = (0..100).map(|n| format!("run-{n:03}")).collect();
    for id in &ids {
        sandbox.record(id, &[("data.bin", b"a false start")]);
    }
    sandbox.seal("between", &[]);
    sandbox.wait_shipped("between");
    for id in &ids {
        fs::remove_dir_all(sandbox.layout.episodes.join(id)).unwrap();
        sandbox.record(id, &[("data.bin", b"the run")]);
    }
    sandbox.seal("after", &[]);
    sandbox.wait_shipped("after");
    for id in &ids {
        fs::write(sandbox.layout.episodes.join(id).join("done.marker"), b"").unwrap();
    }
    eventually("all are shipped", || {
        names(&sandbox.layout.episodes).is_empty()
    });
}

#[test]
fn a_marker_that_is_taken_back_before_its_turn_opens_the_episode_again() {
    let server = Scripted::new(|seen, count| match count {
        0 => Reply::empty(503).header("Retry-After: 3600"),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.seal("run-1", &[("data.bin", b"too early")]);
    let daemon = sandbox.start(sandbox.command_with_config("ship", EVERY_SECOND));
    daemon.wait_log("is sent again in 60 min");
    fs::remove_file(episode.join("done.marker")).unwrap();
    fs::write(episode.join("data.bin"), b"now it is whole").unwrap();
    // Sealed anew, it does not wait for the hour that the old one was given.
    fs::write(episode.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("run-1");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].body, seen[1].body);
}

#[test]
fn a_name_that_is_used_again_ships_beside_the_first() {
    let Watched {
        sandbox, server, ..
    } = &watched(ONLY_HINTS);
    for (content, shipped) in [(b"one", "run-1"), (b"two", "run-1~1"), (b"six", "run-1~2")] {
        sandbox.seal("run-1", &[("data.bin", content)]);
        sandbox.wait_shipped(shipped);
        assert_eq!(
            fs::read(sandbox.shipped(shipped).join("data.bin")).unwrap(),
            content
        );
    }
    assert_eq!(server.count("run-1"), 3);
}

#[test]
fn a_symbolic_link_is_no_episode() {
    let Watched {
        sandbox, server, ..
    } = &watched(EVERY_SECOND);
    let elsewhere = sandbox.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("done.marker"), b"").unwrap();
    symlink(&elsewhere, sandbox.layout.episodes.join("link")).unwrap();
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    assert_eq!(server.count("link"), 0);
    assert!(elsewhere.join("done.marker").exists());
}

#[test]
fn when_the_kernels_queue_overflows_everything_is_looked_at() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(ONLY_HINTS);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if limit > 200_000 {
        println!("skipped: {limit} events are too many to make here");
        return;
    }
    let open = sandbox.record("open", &[]);
    sandbox.seal("between", &[]);
    sandbox.wait_shipped("between");
    daemon.signal("STOP");
    // Each is a creation and a removal in the watched root. Equal events that follow each other
    // would be merged.
    for n in 0..limit.div_ceil(2) + 100 {
        let noise = sandbox.layout.episodes.join(format!(".noise-{}", n % 2));
        fs::create_dir(&noise).unwrap();
        fs::remove_dir(&noise).unwrap();
    }
    // Nobody hears of these.
    fs::write(open.join("done.marker"), b"").unwrap();
    sandbox.seal("unheard", &[]);
    daemon.signal("CONT");
    sandbox.wait_shipped("unheard");
    sandbox.wait_shipped("open");
}

/// Starts the daemon where the kernel gives this user so few; `None` where that cannot be had here.
pub(crate) fn limited(sandbox: &Sandbox, config: &str, limit: &str) -> Option<Process> {
    let set = format!("echo {limit}");
    let possible = Command::new("unshare")
        .args(["-Ur", "/bin/sh", "-c", &set])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "no user namespaces here, and CI must have them"
        );
        println!("skipped: no user namespaces here");
        return None;
    }
    let ship = sandbox.command_with_config("ship", config);
    let mut command = Command::new("unshare");
    command.args([
        "-Ur",
        "/bin/sh",
        "-c",
        &format!("{set} && exec \"$@\""),
        "sh",
    ]);
    command
        .arg(ship.get_program())
        .args(ship.get_args())
        .env_remove("RUST_LOG");
    Some(sandbox.start(command))
}

#[test]
fn where_watches_run_out_episodes_are_found_by_looking_and_the_remedy_is_named() {
    for (limit, remedy) in [
        (
            "2 > /proc/sys/user/max_inotify_watches",
            "sysctl user.max_inotify_watches=",
        ),
        (
            "1 > /proc/sys/user/max_inotify_watches",
            "sysctl user.max_inotify_watches=",
        ),
        (
            "0 > /proc/sys/user/max_inotify_watches",
            "sysctl user.max_inotify_watches=",
        ),
        (
            "0 > /proc/sys/user/max_inotify_instances",
            "sysctl user.max_inotify_instances=",
        ),
    ] {
        let server = Scripted::new(|seen, _| Reply::stored(seen));
        let sandbox = Sandbox::new(server.url());
        let episodes: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|id| sandbox.record(id, &[]))
            .collect();
        // The default interval is a minute; without watches nobody waits so long.
        let Some(daemon) = limited(&sandbox, EVERY_SECOND, limit) else {
            return;
        };
        daemon.wait_log(remedy);
        for episode in episodes {
            fs::write(episode.join("done.marker"), b"").unwrap();
        }
        for id in ["a", "b", "c"] {
            sandbox.wait_shipped(id);
        }
        assert_eq!(daemon.log().matches(remedy).count(), 1, "{}", daemon.log());
    }
}

#[test]
fn without_watches_it_looks_more_often_than_it_was_told() {
    let server = Scripted::new(|seen, _| Reply::stored(seen));
    let sandbox = Sandbox::new(server.url());
    let episode = sandbox.record("run-1", &[]);
    let Some(daemon) = limited(
        &sandbox,
        ONLY_HINTS,
        "0 > /proc/sys/user/max_inotify_watches",
    ) else {
        return;
    };
    daemon.wait_log("sysctl");
    fs::write(episode.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("run-1");
}

#[test]
fn watches_that_can_be_had_again_are_had_and_it_says_so() {
    for (limit, raise) in [
        (
            "0 > /proc/sys/user/max_inotify_watches",
            "echo 1000 > /proc/sys/user/max_inotify_watches",
        ),
        (
            "0 > /proc/sys/user/max_inotify_instances",
            "echo 10 > /proc/sys/user/max_inotify_instances",
        ),
    ] {
        let server = Scripted::new(|seen, _| Reply::stored(seen));
        let sandbox = Sandbox::new(server.url());
        let Some(daemon) = limited(&sandbox, EVERY_SECOND, limit) else {
            return;
        };
        daemon.wait_log("sysctl");
        let pid = daemon.pid().to_string();
        let mut raised = Command::new("nsenter");
        raised.args([
            "-U",
            "--preserve-credentials",
            "-t",
            &pid,
            "/bin/sh",
            "-c",
            raise,
        ]);
        assert!(raised.status().unwrap().success());
        daemon.wait_log("New episodes are noticed by inotify again");
        sandbox.record("open", &[]);
        eventually("the root and the open episode are watched", || {
            watches(daemon.pid()) == 2
        });
        assert_eq!(
            daemon.log().matches("Watches cannot be had").count(),
            1,
            "{}",
            daemon.log()
        );
    }
}

#[test]
fn a_mount_that_is_gone_for_long_is_told_of_once_and_so_is_its_return() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(EVERY_SECOND);
    let root = &sandbox.layout.episodes;
    let away = sandbox.path("away");
    fs::rename(root, &away).unwrap();
    daemon.wait_log("Failed to look through");
    let before = switches(daemon.pid());
    eventually("it has looked again, more than once", || {
        woken_since(&before, daemon.pid()) > 20
    });
    fs::rename(&away, root).unwrap();
    daemon.wait_log("can be looked through again");
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    assert_eq!(
        daemon.log().matches("Failed to look through").count(),
        1,
        "{}",
        daemon.log()
    );
}

#[test]
fn a_root_that_is_removed_and_made_again_is_watched_again() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(EVERY_SECOND);
    fs::remove_dir_all(&sandbox.layout.episodes).unwrap();
    daemon.wait_log("Failed to look through");
    fs::create_dir(&sandbox.layout.episodes).unwrap();
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    daemon.wait_log("is not the folder that was watched");
}

#[test]
fn a_root_that_is_removed_and_made_again_is_not_left_to_the_next_pass() {
    let Watched {
        sandbox, daemon, ..
    } = &watched("[shipper]\nreconcile_interval_s = 3600");
    fs::remove_dir_all(&sandbox.layout.episodes).unwrap();
    daemon.wait_log("is not the folder that was watched");
    fs::create_dir(&sandbox.layout.episodes).unwrap();
    daemon.signal("HUP");
    eventually("it is watched", || watches(daemon.pid()) == 1);
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
}

#[test]
fn a_root_that_is_replaced_is_seen_on_the_tick_and_its_episodes_are_watched() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(EVERY_SECOND);
    sandbox.record("before", &[]);
    let root = &sandbox.layout.episodes;
    let next = sandbox.path("next");
    fs::create_dir_all(next.join("open")).unwrap();
    fs::create_dir_all(next.join("sealed")).unwrap();
    fs::write(next.join("sealed/done.marker"), b"").unwrap();
    fs::rename(root, sandbox.path("old")).unwrap();
    fs::rename(next, root).unwrap();
    sandbox.wait_shipped("sealed");
    daemon.wait_log("is not the folder that was watched");
    eventually("the open episode is watched", || watches(daemon.pid()) == 2);
    fs::write(root.join("open/done.marker"), b"").unwrap();
    sandbox.wait_shipped("open");
    assert_eq!(names(&sandbox.path("old")), ["before"]);
}

#[test]
fn a_root_that_is_mounted_over_is_seen_on_the_tick_and_what_was_there_is_seen_again_afterwards() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(EVERY_SECOND);
    let below = sandbox.record("below", &[("data.bin", b"recorded")]);
    eventually("the open episode is watched", || watches(daemon.pid()) == 2);
    let Some(mounted) = Mounted::over(&sandbox.layout.episodes, "1m") else {
        return;
    };
    sandbox.seal("above", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("above");
    daemon.wait_log("is not the folder that was watched");
    let open = sandbox.record("open", &[]);
    eventually("the open episode is watched", || watches(daemon.pid()) == 2);
    fs::write(open.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("open");
    drop(mounted);
    fs::write(below.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("below");
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
}

#[test]
fn where_it_only_looks_nothing_of_inotify_is_opened() {
    let config = "[shipper]\nwatch = \"reconcile-only\"\nreconcile_interval_s = 1";
    let Watched {
        sandbox, daemon, ..
    } = &watched(config);
    sandbox.seal("run-1", &[]);
    sandbox.wait_shipped("run-1");
    assert_eq!(inotify_descriptors(daemon.pid()), 0);
    assert_eq!(inotify_descriptors(watched(ONLY_HINTS).daemon.pid()), 1);
}

#[test]
fn a_sealed_episode_is_not_watched_any_more() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(ONLY_HINTS);
    eventually("only the root is watched", || watches(daemon.pid()) == 1);
    let open = sandbox.record("open", &[]);
    eventually("the open episode is watched", || watches(daemon.pid()) == 2);
    fs::write(open.join("done.marker"), b"").unwrap();
    sandbox.wait_shipped("open");
    eventually("only the root is watched", || watches(daemon.pid()) == 1);
    sandbox.record("discarded", &[]);
    eventually("the open episode is watched", || watches(daemon.pid()) == 2);
    fs::remove_dir_all(sandbox.layout.episodes.join("discarded")).unwrap();
    eventually("only the root is watched", || watches(daemon.pid()) == 1);
}

#[test]
fn what_a_recorder_writes_does_not_wake_the_daemon() {
    let Watched {
        sandbox, daemon, ..
    } = &watched(ONLY_HINTS);
    let episode = sandbox.record("run-1", &[("data.bin", b"")]);
    eventually("the open episode is watched", || watches(daemon.pid()) == 2);
    // At first what the episodes before have set in motion wakes it.
    eventually("2,000 writes wake it less than twenty times", || {
        let before = switches(daemon.pid());
        for n in 0..2_000 {
            fs::write(episode.join("data.bin"), vec![b'x'; n]).unwrap();
            fs::read(episode.join("data.bin")).unwrap();
        }
        woken_since(&before, daemon.pid()) < 20
    });
}

#[test]
fn ten_thousand_open_episodes_cost_less_than_64_mebibytes() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap();
    if limit.trim().parse::<usize>().unwrap() < 40_000 {
        let why = format!(
            "{} watches are too few: sysctl fs.inotify.max_user_watches=524288",
            limit.trim()
        );
        assert!(std::env::var_os("CI").is_none(), "{why}");
        println!("skipped: {why}");
        return;
    }
    let Watched {
        sandbox, daemon, ..
    } = &watched(ONLY_HINTS);
    for n in 0..10_000 {
        fs::create_dir(sandbox.layout.episodes.join(format!("run-{n:05}"))).unwrap();
    }
    eventually("each is watched", || watches(daemon.pid()) == 10_001);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak_kib: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 64 * 1024, "{peak_kib} KiB");
    println!("10,000 open episodes: {peak_kib} KiB at the most");
}

/// How often each of the process's threads gave the processor up by itself: every wake-up ends with
/// that.
fn switches(pid: u32) -> BTreeMap<OsString, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let switches = tasks.map(|task| {
        let task = task.unwrap();
        // It may end meanwhile.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line.map_or(0, |count| count.trim().parse().unwrap());
        (task.file_name(), count)
    });
    switches.collect()
}

/// A thread of the blocking pool ends by itself, and what it counted is counted no more.
fn woken_since(before: &BTreeMap<OsString, u64>, pid: u32) -> u64 {
    let since = |(thread, count): (&OsString, &u64)| {
        count.saturating_sub(before.get(thread).copied().unwrap_or(0))
    };
    switches(pid).iter().map(since).sum()
}

fn inotify_descriptors(pid: u32) -> usize {
    descriptors(pid).len()
}

fn watches(pid: u32) -> usize {
    let infos = descriptors(pid)
        .into_iter()
        .map(|fd| fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")));
    infos
        .map(|info| info.unwrap_or_default().matches("inotify wd:").count())
        .sum()
}

fn descriptors(pid: u32) -> Vec<String> {
    let is_inotify =
        |link: &Path| fs::read_link(link).is_ok_and(|to| to.ends_with("anon_inode:inotify"));
    let links = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap());
    links
        .filter(|entry| is_inotify(&entry.path()))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}
