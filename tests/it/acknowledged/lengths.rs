//! Whether a length vouches for what was sent, where an id is used again.

use std::{
    fs,
    path::Path,
    sync::mpsc,
    time::{Duration, UNIX_EPOCH},
};

use crate::support::{Reply, Sandbox, Scripted, Seen, each, eventually, json_of, names};

/// A server that answers 200 to what it has an object of already, and shows its length.
fn plain_server(overwrites: bool) -> Scripted {
    plain_server_where(overwrites, |_| false)
}

/// The same, where the answer to some uploads that it stores is lost on its way.
fn plain_server_where(
    overwrites: bool,
    is_lost: impl Fn(&Seen) -> bool + Send + Sync + 'static,
) -> Scripted {
    let held = std::sync::Mutex::new(std::collections::HashMap::<String, usize>::new());
    Scripted::new(move |seen, _| {
        let mut held = held.lock().unwrap();
        let there = held.get(&seen.id).copied();
        if seen.head.starts_with("HEAD") {
            return match there {
                Some(length) => Reply::text(200, "", &"x".repeat(length)).without_body(),
                None => Reply::empty(404),
            };
        }
        if there.is_none() || overwrites {
            held.insert(
                seen.id.clone(),
                seen.header("content-length").unwrap().parse().unwrap(),
            );
        }
        if there.is_none() && is_lost(seen) {
            return Reply::hang_up();
        }
        Reply::empty(if there.is_none() { 201 } else { 200 })
    })
}

#[test]
fn a_length_does_not_vouch_for_another_recording_of_an_id_whose_first_was_as_long() {
    let server = plain_server(false);
    let sandbox = Sandbox::new(server.url());
    let (first, mut second) = (
        crate::uploads::noise(200_000),
        crate::uploads::noise(200_000),
    );
    second.reverse();
    recorded_as_long(&sandbox, &first);
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    recorded_as_long(&sandbox, &second);
    eventually("it is told or shipped", || {
        daemon
            .log()
            .contains("so nothing tells whether this one is stored")
            || sandbox.shipped("run-1~1").exists()
    });
    let lengths: Vec<_> = server
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.header("content-length")?.to_owned()))
        .collect();
    assert!(
        lengths.windows(2).all(|pair| pair[0] == pair[1]),
        "equal archives are what this is about"
    );
    assert_eq!(names(&sandbox.layout.shipped), ["run-1"]);
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
    // Under a name of its own it is delivered.
    let [from, to] = ["run-1", "run-2"].map(|id| sandbox.layout.episodes.join(id));
    rename(&from, &to);
    sandbox.wait_shipped("run-2");
}

/// Seals `run-1` with the times of every other one that is made here: the digits of a time take
/// more or fewer bytes in the archive.
fn recorded_as_long(sandbox: &Sandbox, bytes: &[u8]) {
    let made = sandbox.path("made");
    fs::create_dir(&made).unwrap();
    fill(&made, bytes);
    rename(&made, &sandbox.layout.episodes.join("run-1"));
}

fn fill(made: &Path, bytes: &[u8]) {
    for (name, bytes) in [("data.bin", bytes), ("done.marker", b"")] {
        fs::write(made.join(name), bytes).unwrap();
    }
    let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in [
        made.join("data.bin"),
        made.join("done.marker"),
        made.to_owned(),
    ] {
        fs::File::open(path).unwrap().set_modified(at).unwrap();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an operator renames as they like"
)]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[test]
fn a_length_vouches_for_another_recording_of_an_id_where_the_first_was_not_as_long() {
    let server = plain_server(true);
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    let _daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    sandbox.seal("run-1", &[("data.bin", &crate::uploads::noise(10_000))]);
    sandbox.wait_shipped("run-1~1");
}

#[test]
fn what_was_written_to_after_its_delivery_and_is_put_back_is_in_conflict_where_the_first_is_what_stays_held()
 {
    each(&["as long", "with a tail"], |&how| {
        let server = plain_server(false);
        let sandbox = Sandbox::new(server.url());
        let (first, mut second) = (
            crate::uploads::noise(200_000),
            crate::uploads::noise(200_000),
        );
        second.reverse();
        if how == "with a tail" {
            second.extend(crate::uploads::noise(5_000));
        }
        recorded_as_long(&sandbox, &first);
        assert_eq!(sandbox.ship_once().0, 0);
        let shipped = sandbox.shipped("run-1");
        fill(&shipped, &second);
        let later = UNIX_EPOCH + Duration::from_secs(1_700_000_001);
        fs::File::open(shipped.join("data.bin"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert_eq!(sandbox.ship_once().0, 1, "{how}: it is told");
        let requeue = |from: &str| {
            let mut requeue = sandbox.command("requeue");
            assert!(
                requeue
                    .args(["run-1", "--from", from])
                    .output()
                    .unwrap()
                    .status
                    .success(),
                "{how}"
            );
        };
        // Nor after a second thought.
        for from in ["shipped", "conflict"] {
            requeue(from);
            let out = sandbox
                .command("ship")
                .args(["--once", "--json"])
                .output()
                .unwrap();
            let (log, (_, tally)) = (String::from_utf8(out.stderr.clone()).unwrap(), json_of(out));
            assert_eq!(
                (&tally["conflicts"], &tally["held"]),
                (&1.into(), &0.into()),
                "{how}: {log}"
            );
            assert!(
                log.contains("so nothing tells whether this one is stored"),
                "{how}: {log}"
            );
            // As the log says it is shipped under another name, and by that alone.
            assert!(
                log.contains("then rename the episode's folder"),
                "{how}: {log}"
            );
            assert!(!log.contains("has put theirs aside"), "{how}: {log}");
            assert_eq!(names(&sandbox.layout.shipped), [""; 0], "{how}");
        }
        let [from, to] = ["run-1", "run-2"].map(|id| sandbox.layout.episodes.join(id));
        rename(&from, &to);
        assert_eq!(sandbox.ship_once().1["shipped"], 1, "{how}");
        assert_eq!(
            fs::read(sandbox.shipped("run-2").join("data.bin")).unwrap(),
            second,
            "{how}"
        );
    });
}

#[test]
fn the_length_of_a_recording_that_had_the_id_before_is_a_conflict_and_holds_nothing_else_up() {
    let server = plain_server(false);
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("run-1", &[("data.bin", b"first")]);
    let daemon = sandbox.daemon();
    sandbox.wait_shipped("run-1");
    sandbox.seal("run-1", &[("data.bin", &crate::uploads::noise(10_000))]);
    daemon.wait_log("run-1: the receiver may hold other content under this name");
    sandbox.seal("run-2", &[("data.bin", b"another")]);
    sandbox.wait_shipped("run-2");
    assert!(
        !daemon.log().contains("The receiver cannot be used"),
        "{}",
        daemon.log()
    );
    assert_eq!(names(&sandbox.layout.episodes), ["run-1"]);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a recorder corrects, and an operator removes"
)]
fn a_length_does_not_vouch_for_what_was_corrected_or_recorded_anew_before_its_answer_came() {
    each(&["corrected", "recorded anew"], |&how| {
        // The answer is lost behind the correction.
        let (corrected, correction) = mpsc::channel();
        let correction = std::sync::Mutex::new(correction);
        let (arrived, arrival) = mpsc::channel();
        let server = plain_server_where(false, move |_| {
            arrived.send(()).unwrap();
            correction
                .lock()
                .unwrap()
                .recv_timeout(Duration::from_secs(60))
                .is_ok()
        });
        let sandbox = Sandbox::new(server.url());
        let (first, mut second) = (
            crate::uploads::noise(200_000),
            crate::uploads::noise(200_000),
        );
        second.reverse();
        recorded_as_long(&sandbox, &first);
        let daemon = sandbox.daemon();
        arrival.recv_timeout(Duration::from_secs(60)).unwrap();
        let episode = sandbox.layout.episodes.join("run-1");
        if how == "corrected" {
            fs::remove_file(episode.join("done.marker")).unwrap();
            fill(&episode, &second);
        } else {
            fs::remove_dir_all(&episode).unwrap();
            recorded_as_long(&sandbox, &second);
        }
        corrected.send(()).unwrap();
        eventually("it is told or shipped", || {
            daemon
                .log()
                .contains("so nothing tells whether this one is stored")
                || sandbox.shipped("run-1").exists()
        });
        assert_eq!(
            names(&sandbox.layout.shipped),
            [""; 0],
            "{how}: {}",
            daemon.log()
        );
        assert_eq!(names(&sandbox.layout.episodes), ["run-1"], "{how}");
    });
}

#[test]
fn what_had_an_id_before_and_cannot_be_read_is_waited_for_and_is_no_sign_of_a_wrong_address() {
    let server = plain_server(false);
    let sandbox = Sandbox::new(server.url());
    // It is held there by now, so that a length alone is to speak for it.
    let other = Sandbox::new(server.url());
    recorded_as_long(&other, b"recorded");
    assert_eq!(other.ship_once().0, 0);
    let daemon = sandbox.daemon();
    sandbox.seal("first", &[("data.bin", b"recorded")]);
    daemon.wait_log("shipped first");
    let (shipped, aside) = (sandbox.layout.shipped.clone(), sandbox.path("aside"));
    rename(&shipped, &aside);
    fs::write(&shipped, "").unwrap();
    recorded_as_long(&sandbox, b"recorded");
    // Asked a second time it was taken for a fault of the address.
    let unread = format!("had this id before is not known: {}", shipped.display());
    eventually("it is said twice", || {
        daemon.log().matches(&unread).count() > 1
    });
    rename(&shipped, &sandbox.path("file"));
    rename(&aside, &shipped);
    sandbox.wait_shipped("run-1");
    assert!(
        !daemon.log().contains("this is no receiver"),
        "{}",
        daemon.log()
    );
}
