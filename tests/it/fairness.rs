//! A fresh small episode beside a backlog and beside giants, with one worker and one upload at a
//! time: how long it takes from the marker to `shipped/`, against the same on an idle machine.
//!
//! ```text
//! cargo test --test it fairness -- --nocapture      prints the figures
//! ```

use std::{
    fs::{self, File},
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    control::{asked, snapshot},
    support::{Process, Reply, Sandbox, Scripted, eventually, eventually_within, json_file, names},
};

const FRESH: usize = 5;
const ONE_SLOT: &str = "[pack]\nworkers = 1\n[receiver]\nconcurrency = 1";

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn now() -> Instant {
    Instant::now()
}

/// Seals small ones, one after another: how long the middle one took, and how many others were
/// shipped during the slowest.
fn fresh(sandbox: &Sandbox, what: &str) -> (Duration, usize) {
    let mut took = Vec::new();
    let mut passed_by = 0;
    for n in 0..FRESH {
        let id = format!("zfresh-{n}");
        let before = names(&sandbox.layout.shipped).len();
        let sealed = now();
        sandbox.seal(&id, &[("data.bin", b"small")]);
        sandbox.wait_shipped(&id);
        took.push(sealed.elapsed());
        passed_by = passed_by.max(names(&sandbox.layout.shipped).len() - before - 1);
    }
    took.sort();
    println!(
        "{what}: {:?}, the slowest {:?}",
        took[FRESH / 2],
        took[FRESH - 1]
    );
    (took[FRESH / 2], passed_by)
}

fn idle() -> Duration {
    let sandbox = Sandbox::with_receiver();
    let daemon = sandbox.start(sandbox.command_with_config("ship", ONE_SLOT));
    sandbox.seal("first", &[]);
    sandbox.wait_shipped("first");
    let (median, _) = fresh(&sandbox, "idle");
    drop::<Process>(daemon);
    median
}

#[track_caller]
fn compare(what: &str, median: Duration, at_most: f64) {
    let ratio = median.as_secs_f64() / idle().as_secs_f64();
    println!("{what}: {ratio:.1} times as long as on an idle machine");
    assert!(
        ratio < at_most,
        "{what}: {ratio:.1} times as long as on an idle machine"
    );
}

#[test]
fn a_fresh_small_episode_is_not_stuck_behind_a_backlog_of_2000() {
    const BACKLOG: usize = 2_000;
    let sandbox = Sandbox::with_receiver();
    for n in 0..BACKLOG {
        sandbox.seal(&format!("old-{n:04}"), &[("data.bin", b"small")]);
    }
    let daemon = sandbox.start(sandbox.command_with_config("ship", ONE_SLOT));
    eventually("the backlog is being shipped", || {
        names(&sandbox.layout.shipped).len() >= 10
    });
    let (median, passed_by) = fresh(&sandbox, "behind a backlog");
    assert!(passed_by < 40, "{passed_by} of the backlog went before it");
    let left = names(&sandbox.layout.episodes).len();
    assert!(left > BACKLOG / 2, "there was no backlog any more: {left}");
    daemon.kill();
    compare("behind a backlog", median, 30.0);
}

#[test]
fn a_fresh_small_episode_is_not_stuck_beside_a_giant_that_is_packed() {
    let sandbox = Sandbox::with_receiver();
    // Minutes of reading, and no room on the disk: a hole.
    let giant = sandbox.record("giant", &[]);
    File::create(giant.join("hole.bin"))
        .unwrap()
        .set_len(400 << 30)
        .unwrap();
    fs::write(giant.join("done.marker"), b"").unwrap();
    let daemon = asked(&sandbox, sandbox.command_with_config("ship", ONE_SLOT));
    // Where the disk has no room for it, it is packed into nothing first.
    let is_packed = || snapshot(&sandbox).counts.packing >= 1;
    eventually("the giant is being packed", is_packed);
    // The first may come before it is known for a giant.
    sandbox.seal("first", &[]);
    sandbox.wait_shipped("first");
    let (median, _) = fresh(&sandbox, "beside a giant that is packed");
    assert_eq!(names(&sandbox.layout.episodes), ["giant"]);
    assert!(is_packed(), "it is packed all the while");
    daemon.kill();
    compare("beside a giant that is packed", median, 20.0);
}

#[test]
fn a_fresh_small_episode_is_not_stuck_beside_a_giant_that_is_sent() {
    let sandbox = Sandbox::with_receiver();
    sandbox.seal("giant", &[("data.bin", &crate::uploads::noise(40 << 20))]);
    let config = format!("{ONE_SLOT}\nbandwidth_limit = '1 MB/s'");
    let mut command = sandbox.command_with_config("ship", &config);
    command.env("RUST_LOG", "debug");
    let daemon = sandbox.start(command);
    daemon.wait_log("packed");
    let (median, _) = fresh(&sandbox, "beside a giant that is sent");
    assert_eq!(names(&sandbox.layout.episodes), ["giant"]);
    daemon.kill();
    compare("beside a giant that is sent", median, 20.0);
}

/// As a proxy whose limit is a megabyte: every large one is refused, and not by a receiver.
fn refuses_large_ones() -> Scripted {
    Scripted::new(|seen, _| {
        // Asked what it has kept: nothing.
        let Some(bytes) = seen
            .header("content-length")
            .and_then(|bytes| bytes.parse::<u64>().ok())
        else {
            return Reply::empty(404);
        };
        if bytes > 1_000_000 {
            Reply::html(413).early()
        } else {
            Reply::stored(seen)
        }
    })
}

#[test]
fn twelve_that_something_in_between_refuses_hold_up_no_good_one_older_or_fresh() {
    let server = refuses_large_ones();
    let sandbox = Sandbox::new(server.url());
    let bad: Vec<_> = (0..12).map(|n| format!("bad-{n:02}")).collect();
    for id in &bad {
        sandbox.seal(id, &[("data.bin", &crate::uploads::noise(2_000_000))]);
    }
    for n in 0..3 {
        sandbox.seal(&format!("good-{n}"), &[("data.bin", b"small")]);
    }
    let daemon = sandbox.daemon();
    let began = now();
    for n in 0..3 {
        sandbox.wait_shipped(&format!("good-{n}"));
    }
    println!("beside twelve that are refused: {:?}", began.elapsed());
    for n in 0..3 {
        sandbox.seal(&format!("fresh-{n}"), &[("data.bin", b"small")]);
        sandbox.wait_shipped(&format!("fresh-{n}"));
    }
    assert_eq!(names(&sandbox.layout.episodes), bad);
    assert_eq!(names(&sandbox.layout.quarantine), [""; 0]);
    daemon.kill();
}

#[test]
fn passes_one_after_another_ship_the_good_ones_behind_twelve_that_are_refused() {
    let server = refuses_large_ones();
    let sandbox = Sandbox::new(server.url());
    for n in 0..12 {
        sandbox.seal(
            &format!("bad-{n:02}"),
            &[("data.bin", &crate::uploads::noise(2_000_000))],
        );
    }
    for n in 0..3 {
        sandbox.seal(&format!("good-{n}"), &[("data.bin", b"small")]);
    }
    // A pass has no memory, and does not wait: where it is held, it ends.
    for _ in 0..4 {
        let before = names(&sandbox.layout.shipped).len();
        let output = sandbox.command("ship").arg("--once").output().unwrap();
        assert!(!output.status.success());
        let after = names(&sandbox.layout.shipped).len();
        assert!(
            after > before || after == 3,
            "a pass has shipped none of {}",
            3 - before
        );
    }
    assert_eq!(
        names(&sandbox.layout.shipped),
        ["good-0", "good-1", "good-2"]
    );
}

/// What is larger than the slot for small ones takes.
const LARGE_BYTES: usize = 18 << 20;

#[test]
fn two_large_episodes_that_are_still_appended_to_do_not_take_the_only_large_slot_in_turns() {
    let sandbox = Sandbox::with_receiver();
    let over = Arc::new(AtomicBool::new(false));
    let recorders: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|id| {
            let path = sandbox.record(id, &[]).join("data.bin");
            let mut data = File::create(&path).unwrap();
            data.set_len(256 << 20).unwrap();
            fs::write(path.with_file_name("done.marker"), b"").unwrap();
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    data.write_all(b"x").unwrap();
                    thread::park_timeout(Duration::from_millis(1));
                }
            })
        })
        .collect();
    // Where open files can be asked after they hold no slot: here it is the stamps that tell.
    let config = "[pack]\nworkers = 2\nopen_files_wait_s = 0";
    let daemon = sandbox.start(sandbox.command_with_config("ship", config));
    daemon.wait_log("is sealed but not at rest");
    sandbox.seal(
        "healthy",
        &[("data.bin", &crate::uploads::noise(LARGE_BYTES))],
    );
    sandbox.wait_shipped("healthy");
    assert_eq!(names(&sandbox.layout.episodes), ["a", "b"]);
    over.store(true, Ordering::SeqCst);
    recorders
        .into_iter()
        .for_each(|recorder| recorder.join().unwrap());
}

#[test]
fn two_large_uploads_that_are_cut_late_do_not_keep_those_behind_them_from_being_tried() {
    let server = Scripted::new(|seen, _| match seen.id.starts_with("bad") {
        true => Reply::hang_up(),
        false => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    let noise = crate::uploads::noise(LARGE_BYTES);
    for id in ["bad-1", "bad-2", "good-1", "good-2", "good-3"] {
        sandbox.seal(id, &[("data.bin", &noise)]);
    }
    let _daemon = sandbox.start(sandbox.command_with_config("ship", "[receiver]\nconcurrency = 2"));
    for id in ["good-1", "good-2", "good-3"] {
        sandbox.wait_shipped(id);
    }
    assert_eq!(names(&sandbox.layout.episodes), ["bad-1", "bad-2"]);
}

/// Something in between answers so for every path with `bad` in it.
fn refuses_bad_ones(status: u16) -> Scripted {
    Scripted::new(move |seen, _| match seen.id.contains("bad") {
        true => Reply::html(status),
        false => Reply::stored(seen),
    })
}

#[test]
fn ten_that_something_in_between_answers_with_503_do_not_throttle_the_good_ones() {
    ten_do_not_throttle_the_good_ones(&refuses_bad_ones(503));
}

#[test]
fn ten_that_something_in_between_answers_with_502_and_nothing_do_not_throttle_the_good_ones() {
    ten_do_not_throttle_the_good_ones(&Scripted::new(|seen, _| match seen.id.contains("bad") {
        true => Reply::empty(502),
        false => Reply::empty(201),
    }));
}

#[test]
fn six_uploads_that_are_never_answered_keep_no_small_one_waiting_for_their_time_outs() {
    let server = Scripted::new(|seen, _| match seen.id.contains("hang") {
        true => loop {
            thread::park();
        },
        false => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    for n in 0..6 {
        sandbox.seal(&format!("hang-{n}"), &[("data.bin", b"small")]);
    }
    let _daemon = sandbox.daemon();
    for n in 0..30 {
        sandbox.seal(&format!("zgood-{n:02}"), &[("data.bin", b"small")]);
    }
    // By the time-outs it would be five minutes.
    eventually_within(
        Duration::from_secs(120),
        "the good ones are shipped",
        || names(&sandbox.layout.shipped).len() == 30,
    );
    assert_eq!(names(&sandbox.layout.episodes).len(), 6);
}

fn ten_do_not_throttle_the_good_ones(server: &Scripted) {
    let sandbox = Sandbox::new(server.url());
    for n in 0..10 {
        sandbox.seal(&format!("bad-{n}"), &[("data.bin", b"small")]);
    }
    let _daemon = sandbox.daemon();
    let mut took = Vec::new();
    for n in 0..40 {
        let (id, sealed) = (format!("good-{n:02}"), now());
        sandbox.seal(&id, &[("data.bin", b"small")]);
        sandbox.wait_shipped(&id);
        took.push(sealed.elapsed());
    }
    took.sort();
    println!(
        "beside ten that are refused: {:?}, the slowest {:?}",
        took[20], took[39]
    );
    assert!(
        took[20] < Duration::from_secs(2) && took[39] < Duration::from_secs(20),
        "{took:?}"
    );
    assert_eq!(names(&sandbox.layout.episodes).len(), 10);
}

#[test]
fn one_pass_after_another_comes_to_the_good_ones_among_fifty_that_are_refused() {
    let server = refuses_bad_ones(413);
    let sandbox = Sandbox::new(server.url());
    // Whichever end of the queue is served, bad ones stand there.
    for n in 0..25 {
        sandbox.seal(&format!("bad-{n:02}"), &[("data.bin", b"small")]);
    }
    for n in 0..5 {
        sandbox.seal(
            &format!("good-{n}"),
            &[("data.bin", &crate::uploads::noise(50_000))],
        );
    }
    for n in 0..25 {
        sandbox.seal(&format!("zbad-{n:02}"), &[("data.bin", b"small")]);
    }
    let pass = || {
        assert!(
            !sandbox
                .command("ship")
                .arg("--once")
                .output()
                .unwrap()
                .status
                .success()
        );
    };
    pass();
    let remembered = names(&sandbox.layout.outbox)
        .into_iter()
        .filter(|name| name.ends_with(".json"));
    for name in remembered {
        let sidecar = json_file(&sandbox.layout.outbox.join(&name));
        assert!(sidecar["tried_at_wall"].is_string(), "{name}: {sidecar}");
    }
    // Sixteen and those that were on their way in each.
    (0..4).for_each(|_| pass());
    assert_eq!(
        names(&sandbox.layout.shipped).len(),
        5,
        "{:?}",
        server.order()
    );
}
