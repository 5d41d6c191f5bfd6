//! All episodes: order, how many at once, what a scan says, one pass, the end.

use super::*;

#[test]
fn sealed_first_is_served_first() {
    let mut bench = Bench::with(|settings| {
        settings.pack_workers = 1;
        settings.concurrency = 1;
    });
    for (id, at) in [("first", 1), ("c", 30), ("b", 20), ("a", 40)] {
        bench.seal(id, at);
    }
    let mut order = Vec::new();
    while let Some(id) = bench.take("pack").pop() {
        bench.hear(Event::Packed(of(&id), Ok(packed(&id))));
        if bench.take("send") == [id.clone()] {
            bench.deliver(&id);
        }
        order.push(id);
    }
    assert_eq!(order, ["first", "b", "c", "a"]);
}

#[test]
fn no_more_are_in_flight_than_the_settings_say() {
    let mut bench = Bench::with(|settings| {
        settings.pack_workers = 3;
        settings.concurrency = 2;
    });
    for n in 0..20 {
        bench.seal(&format!("e{n:02}"), n);
    }
    assert_eq!(bench.take("pack"), ["e00", "e01", "e02"]);
    for id in ["e00", "e01", "e02"] {
        bench.hear(Event::Packed(of(id), Ok(packed(id))));
    }
    assert_eq!(bench.take("send"), ["e00", "e01"]);
    // Six steps want the disk at once.
    let mut bench = Bench::with(|settings| settings.concurrency = 6);
    for id in ["a", "b", "c", "d", "e", "f"] {
        bench.seal_and_pack(id, 1);
    }
    for id in ["a", "b", "c", "d", "e", "f"] {
        bench.answer(id, 201, AnswerBody::Empty);
    }
    assert_eq!(bench.take("retire"), ["a", "b", "c", "d"]);
    bench.hear(Event::Retired(of("b"), Moved::To("b".into())));
    assert_eq!(bench.take("retire"), ["e"]);
}

#[test]
fn a_scan_finds_what_no_event_told_of() {
    let mut bench = Bench::new();
    bench.wait_s(3600);
    assert_eq!(bench.take("scan"), [""]);
    bench.hear(scanned(
        &[("a", FolderLook::Sealed(stamp(1))), ("b", FolderLook::Open)],
        &[],
    ));
    assert_eq!(
        bench.wanted(),
        ["look b", "pack a"],
        "the marker may come between the scan and the watch"
    );
}

#[test]
fn an_overflow_is_looked_into_at_once_and_once_more_where_a_scan_runs_already() {
    let mut bench = Bench::new();
    bench.hear(Event::HintsLost);
    assert_eq!(bench.take("scan"), [""]);
    bench.hear(Event::HintsLost);
    assert_eq!(bench.take("scan"), [""; 0]);
    bench.hear(scanned(&[], &[]));
    assert_eq!(bench.take("scan"), [""]);
}

#[test]
fn a_scan_that_is_older_than_a_retirement_raises_nothing_from_the_dead() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.hear(Event::HintsLost);
    bench.deliver("a");
    bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &["a"]));
    bench.take("scan");
    assert_eq!(bench.wanted(), [""; 0]);
    assert_eq!(bench.machine.load(), (0, 0));
}

#[test]
fn what_a_scan_does_not_find_is_looked_at_before_it_is_forgotten() {
    let mut bench = Bench::new();
    bench.hear(Event::HintsLost);
    bench.take("scan");
    bench.seal_and_pack("young", 1);
    bench.take("send");
    bench.hear(scanned(&[], &[]));
    assert_eq!(bench.take("look"), ["young"]);
    bench.hear(Event::Looked(of("young"), FolderLook::Sealed(stamp(1))));
    bench.deliver("young");
}

#[test]
fn nothing_is_concluded_from_a_scan_that_failed() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.fail("a", lost());
    bench.hear(Event::HintsLost);
    bench.take("send");
    bench.take("keep");
    bench.take("scan");
    bench.hear(Event::Scanned(None));
    assert_eq!(bench.wanted(), [""; 0]);
    assert_eq!(bench.machine.load().0, 1);
}

#[test]
fn an_archive_of_an_earlier_process_is_checked_and_not_packed_again() {
    let mut bench = Bench::fresh(|_| {});
    bench.hear(Event::Deadline);
    bench.hear(scanned(
        &[
            ("a", FolderLook::Sealed(stamp(1))),
            ("b", FolderLook::Sealed(stamp(2))),
        ],
        &["b", "gone"],
    ));
    for effect in ["pack a", "check b", "orphan gone"] {
        assert!(bench.wanted().contains(&effect.to_owned()), "{effect}");
    }
    bench.hear(fits("b"));
    assert_eq!(bench.take("send"), ["b"]);
}

#[test]
fn a_name_that_is_being_cleared_of_an_orphan_is_not_packed_beside_it() {
    let mut bench = Bench::new();
    bench.hear(Event::HintsLost);
    bench.hear(scanned(&[], &["a"]));
    assert_eq!(bench.take("orphan"), ["a"]);
    bench.take("scan");
    bench.seal("a", 1);
    assert_eq!(bench.wanted(), [""; 0]);
    bench.hear(Event::OrphanSettled(of("a"), OrphanEnd::Settled));
    assert_eq!(bench.wanted(), ["pack a"]);
}

#[test]
fn an_archive_that_may_be_the_last_copy_is_counted_and_one_that_could_not_be_settled_too() {
    let mut bench = Bench::fresh(|settings| settings.once = true);
    bench.hear(Event::Deadline);
    bench.hear(scanned(&[], &["a", "b", "c"]));
    for (id, end) in [
        ("a", OrphanEnd::Settled),
        ("b", OrphanEnd::LastCopy),
        ("c", OrphanEnd::Unsettled("EIO".to_owned())),
    ] {
        bench.hear(Event::OrphanSettled(of(id), end));
    }
    let tally = bench.machine.tally();
    assert_eq!(
        (tally.fatal, tally.last_copies, tally.transient_failures),
        (1, 1, 1)
    );
}

#[test]
fn without_watches_it_looks_every_few_seconds() {
    let mut bench = Bench::with(|settings| settings.reconcile_interval = Duration::from_secs(60));
    bench.hear(Event::Watching(false));
    for _ in 0..3 {
        bench.wait_s(5);
        assert_eq!(bench.take("scan"), [""]);
        bench.hear(scanned(&[("a", FolderLook::Open)], &[]));
        assert_eq!(bench.take("look"), ["a"], "a watch is tried for each time");
        bench.hear(Event::Looked(of("a"), FolderLook::Open));
    }
    bench.hear(Event::Watching(true));
    bench.wait_s(5);
    assert_eq!(bench.take("scan"), [""]);
    bench.hear(scanned(&[("a", FolderLook::Open)], &[]));
    assert_eq!(
        bench.take("look"),
        ["a"],
        "that it could be watched was never said"
    );
    bench.hear(Event::Looked(of("a"), FolderLook::Open));
    bench.wait_s(59);
    assert_eq!(bench.take("scan"), [""; 0]);
    bench.wait_s(1);
    assert_eq!(bench.take("scan"), [""]);
}

#[test]
fn after_the_watches_are_lost_every_open_episode_is_watched_again() {
    let mut bench = Bench::new();
    bench.look("a", FolderLook::Open);
    // A watch that is being set just then may be one on the old folder.
    bench.hear(Event::Hinted(of("b")));
    assert_eq!(bench.take("look"), ["b"]);
    bench.hear(Event::WatchesLost);
    bench.hear(Event::Looked(of("b"), FolderLook::Open));
    assert_eq!(bench.take("look"), ["b"]);
    bench.hear(Event::Looked(of("b"), FolderLook::Open));
    bench.hear(scanned(
        &[("a", FolderLook::Open), ("b", FolderLook::Open)],
        &[],
    ));
    assert_eq!(bench.take("look"), ["a"]);
}

#[test]
fn an_outbox_that_cannot_be_written_pauses_packing_and_nothing_else() {
    let mut bench = Bench::fresh(|settings| settings.pack_workers = 1);
    bench.hear(Event::Deadline);
    let sealed = |at| FolderLook::Sealed(stamp(at));
    bench.hear(scanned(
        &[
            ("a", sealed(1)),
            ("b", sealed(2)),
            ("c", sealed(3)),
            ("packed", sealed(4)),
        ],
        &["packed"],
    ));
    bench.hear(Event::Swept(true));
    bench.fail_pack("a", PackFailure::Outbox("EROFS".into()));
    bench.fail_pack("b", PackFailure::Outbox("EROFS".into()));
    assert!(bench.told(|notice| matches!(notice, Notice::PackingPaused(..))));
    assert_eq!(
        bench.take("check"),
        ["packed"],
        "what is packed makes room by being sent"
    );
    assert_eq!(bench.take("pack"), [""; 0]);
    bench.hear(fits("packed"));
    bench.deliver("packed");
    while bench.take("pack").is_empty() {
        bench.wait_for_deadline();
    }
}

#[test]
fn one_that_cannot_be_written_there_does_not_keep_the_others_from_being_packed() {
    let mut bench = Bench::with(|settings| settings.pack_workers = 1);
    for (id, at) in [("giant", 1), ("b", 2), ("c", 3)] {
        bench.seal(id, at);
    }
    let mut shipped = 0;
    for _ in 0..200 {
        for id in bench.take("pack") {
            let giant = id == "giant";
            let result = if giant {
                Err(PackFailure::Outbox("EROFS".into()))
            } else {
                Ok(packed(&id))
            };
            bench.hear(Event::Packed(of(&id), result));
        }
        for id in bench.take("send") {
            bench.deliver(&id);
            shipped += 1;
        }
    }
    assert_eq!(shipped, 2);
}

#[test]
fn one_pass_begins_with_a_scan_and_is_over_after_it() {
    let mut bench = Bench::fresh(|settings| settings.once = true);
    assert!(!bench.machine.idle(), "it has not looked yet");
    bench.wait(Duration::ZERO);
    assert_eq!(bench.wanted(), ["scan ", "sweep "]);
    bench.hear(scanned(&[], &[]));
    bench.hear(Event::Swept(false));
    assert!(bench.machine.idle());
    assert_eq!(bench.machine.next_deadline(), None);
}

#[test]
fn one_pass_waits_for_nothing_and_tells_what_is_left() {
    let mut bench = Bench::with(|settings| settings.once = true);
    let mut bench_at_scan = Bench::fresh(|settings| {
        settings.once = true;
        settings.concurrency = 1;
        settings.pack_workers = 1;
    });
    bench.wait_s(100_000);
    assert_eq!(bench.wanted(), [""; 0], "one pass is one scan");

    let bench = &mut bench_at_scan;
    bench.hear(Event::Deadline);
    let ids = [
        "ok",
        "weather",
        "conflict",
        "fatal",
        "refused",
        "unreadable",
        "gone",
    ];
    let found: Vec<_> = (1..)
        .zip(ids)
        .map(|(at, id)| (id, FolderLook::Sealed(stamp(at))))
        .collect();
    bench.hear(scanned(&found, &[]));
    bench.hear(Event::Swept(true));
    for _ in 0..30 {
        for id in bench.take("pack") {
            let result = match id.as_str() {
                "unreadable" => Err(PackFailure::Unreadable("EACCES".into())),
                "gone" => Err(PackFailure::Gone),
                _ => Ok(packed(&id)),
            };
            bench.hear(Event::Packed(of(&id), result));
        }
        for id in bench.take("send") {
            match id.as_str() {
                "weather" => bench.fail("weather", lost()),
                "conflict" => bench.answer("conflict", 409, problem(ProblemType::Conflict)),
                "fatal" => bench.answer("fatal", 422, by_receiver()),
                "refused" => bench.answer("refused", 413, html()),
                _ => bench.deliver(&id),
            }
        }
        for id in bench.take("keep").into_iter().chain(bench.take("remember")) {
            bench.hear(Event::Persisted(of(&id), Ok(())));
        }
        for id in bench.take("quarantine") {
            bench.hear(Event::Quarantined(of(&id), Moved::To("fatal".into())));
        }
    }
    assert!(bench.machine.idle());
    let tally = bench.machine.tally();
    let counted = [
        tally.shipped,
        tally.transient_failures,
        tally.conflicts,
        tally.fatal,
        tally.held,
    ];
    assert_eq!(counted, [1, 2, 1, 1, 1]);
    assert_eq!(tally.scanned, 6, "what was taken away is no failure");
}

#[test]
fn all_that_waits_behind_a_held_destination_counts_as_held() {
    let mut bench = Bench::fresh(|settings| settings.once = true);
    bench.hear(Event::Deadline);
    let ids: Vec<_> = (0..20).map(|n| format!("e{n:02}")).collect();
    let found: Vec<_> = (0..)
        .zip(&ids)
        .map(|(at, id)| (id.as_str(), FolderLook::Sealed(stamp(at))))
        .collect();
    bench.hear(scanned(&found, &[]));
    bench.hear(Event::Swept(true));
    for _ in 0..30 {
        for id in bench.take("pack") {
            bench.hear(Event::Packed(of(&id), Ok(packed(&id))));
        }
        for id in bench.take("send") {
            bench.answer(&id, 404, html());
        }
        for id in bench.take("keep") {
            bench.hear(Event::Persisted(of(&id), Ok(())));
        }
    }
    assert!(bench.machine.idle());
    assert_eq!(bench.machine.tally().held, 20);
}

#[test]
fn after_a_stop_nothing_new_is_begun_and_what_is_in_flight_ends() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.seal_and_pack("b", 2);
    bench.seal_and_pack("c", 3);
    bench.seal("d", 4);
    bench.take("pack");
    bench.take("send");
    bench.hear(Event::Stop);
    assert_eq!(bench.machine.next_deadline(), None);
    bench.hear(Event::Hinted(of("new")));
    bench.hear(Event::HintsLost);
    bench.hear(Event::Packed(of("d"), Ok(packed("d"))));
    assert_eq!(bench.wanted(), [""; 0]);
    bench.deliver("a");
    bench.fail("b", Fault::Cancelled);
    assert_eq!(
        bench.wanted(),
        ["keep b"],
        "what is to be sent later is kept"
    );
    bench.keep("b");
    assert!(bench.machine.idle());
}

/// A tenth of a second where the work grows with the number, minutes where it grows with its
/// square.
#[test]
fn fifty_thousand_episodes_are_no_more_work_each_than_five() {
    let mut bench = Bench::fresh(|_| {});
    bench.hear(Event::Deadline);
    let ids: Vec<_> = (0..50_000).map(|n| of(&format!("run-{n:05}"))).collect();
    let episodes = (0..)
        .zip(&ids)
        .map(|(at, id)| (id.clone(), FolderLook::Sealed(stamp(at))))
        .collect();
    let machine = &mut bench.machine;
    machine.handle(
        Event::Scanned(Some(Scanned {
            episodes,
            ..Scanned::default()
        })),
        bench.now,
    );
    let mut shipped = 0;
    let mut effects = 0;
    while let Some(effect) = machine.next_effect() {
        effects += 1;
        let event = match effect {
            Effect::Pack { id, .. } => Event::Packed(id, Ok(packed("any"))),
            Effect::Send { id, .. } => {
                let body = AnswerBody::Empty;
                let answer = Answer {
                    head_says: String::new(),
                    status: 201,
                    body,
                    retry_after_s: None,
                    server_date: None,
                    of_this_host: false,
                    voucher: Voucher::Status,
                };
                Event::Attempted(id, Outcome::Answered(answer).into())
            }
            Effect::Retire { id, .. } => {
                shipped += 1;
                Event::Retired(id, Moved::To("any".into()))
            }
            _ => continue,
        };
        machine.handle(event, bench.now);
    }
    assert_eq!(shipped, ids.len());
    assert!(effects < ids.len() * 8, "{effects}");
    assert_eq!(machine.load(), (0, 0));
}
