//! When the destination is held, who probes it, and what ends it.

use super::*;

/// `a`, `b`, `c` and so on are packed; the first two are on their way.
fn waiting(count: u8) -> Bench {
    let mut bench = Bench::new();
    for n in 0..count {
        bench.seal_and_pack(&String::from(char::from(b'a' + n)), i64::from(n));
    }
    bench
}

#[test]
fn a_fault_of_the_destination_holds_it_and_a_delivery_clears_it() {
    let mut bench = waiting(1);
    bench.answer("a", 401, AnswerBody::Empty);
    assert!(bench.held());
    assert!(bench.told(|notice| matches!(notice, Notice::Held(_))));
    bench.wait_for_deadline();
    assert_eq!(bench.take("send"), ["a", "a"]);
    bench.keep("a");
    bench.deliver("a");
    assert!(!bench.held());
    assert!(bench.told(|notice| matches!(notice, Notice::Cleared(_))));
}

#[test]
fn a_second_opinion_is_asked_for_at_once() {
    let mut bench = waiting(4);
    assert_eq!(bench.take("send"), ["a", "b"]);
    bench.answer("a", 403, html());
    assert_eq!(bench.take("send"), [""; 0], "b is on its way, and will tell");
    bench.fail("b", Fault::Tls("expired".into()));
    assert_eq!(bench.take("send"), [""; 0], "two agree");
    let wait = bench.wait_for_deadline();
    assert!(wait > Duration::ZERO);
    assert_eq!(bench.take("send"), ["c"], "one that nobody has heard of yet");

    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    bench.seal_and_pack("a", 1);
    bench.seal_and_pack("b", 2);
    bench.take("send");
    bench.answer("a", 403, html());
    assert_eq!(bench.take("send"), ["b"]);
}

#[test]
fn a_newcomer_is_tried_at_once_while_one_alone_has_failed() {
    let mut bench = waiting(1);
    for _ in 0..9 {
        bench.answer("a", 403, html());
        bench.wait_for_deadline();
    }
    bench.take("send");
    bench.take("keep");
    bench.hear(Event::Kept(of("a"), Ok(())));
    // The suspect is on its way just now, and may take long.
    bench.seal_and_pack("n", 9);
    assert_eq!(bench.take("send"), ["n"]);
    bench.seal_and_pack("o", 10);
    assert_eq!(bench.take("send"), [""; 0], "one at a time");
    bench.deliver("n");
    assert_eq!(bench.take("send"), ["o"]);
    bench.answer("a", 403, html());
    assert!(!bench.held(), "others are delivered");
}

#[test]
fn each_probe_is_another_episode() {
    let mut bench = waiting(4);
    bench.take("send");
    bench.answer("a", 404, html());
    bench.answer("b", 404, html());
    let mut probes = vec!["a".to_owned()];
    for _ in 0..7 {
        let before = probes.len();
        while probes.len() == before {
            bench.wait_for_deadline();
            probes.extend(bench.take("send"));
        }
        assert_eq!(probes.len(), before + 1, "one at a time");
        bench.answer(&probes[before].clone(), 503, html());
    }
    assert!(probes.windows(2).all(|pair| pair[0] != pair[1]), "{probes:?}");
    assert!(["a", "b", "c", "d"].iter().all(|id| probes.contains(&(*id).to_owned())), "{probes:?}");
}

#[test]
fn probes_back_off_to_five_minutes_at_a_fault_and_to_one_in_bad_weather() {
    for (status, longest_s) in [(404, 300), (503, 60)] {
        let mut bench = waiting(2);
        let mut waits = Vec::new();
        bench.answer("a", status, html());
        bench.answer("b", status, html());
        bench.take("send");
        for _ in 0..200 {
            let asked_at = bench.now;
            let probe = loop {
                bench.wait_for_deadline();
                bench.take("scan");
                if let Some(probe) = bench.take("send").pop() {
                    break probe;
                }
                bench.hear(Event::Scanned(None));
            };
            waits.push(bench.now - asked_at);
            bench.answer(&probe, status, html());
        }
        let longest = waits.iter().max().unwrap().as_secs();
        assert!((longest_s * 8 / 10..=longest_s).contains(&longest), "{status}: {longest} s");
    }
}

#[test]
fn an_episode_that_is_refused_while_others_are_delivered_waits_alone() {
    let mut bench = waiting(3);
    bench.deliver("b");
    bench.answer("a", 403, html());
    assert!(!bench.held());
    assert!(bench.told(|notice| matches!(notice, Notice::RefusedAlone(id, ..) if *id == of("a"))));
    bench.deliver("c");
    bench.seal_and_pack("d", 4);
    assert!(bench.take("send").contains(&"d".to_owned()));
}

#[test]
fn two_different_episodes_refused_alike_hold_the_destination_and_one_refused_twice_does_not() {
    let mut bench = waiting(2);
    bench.take("send");
    bench.answer("a", 413, html());
    bench.answer("b", 413, html());
    assert!(bench.held());

    let mut bench = waiting(2);
    bench.take("send");
    bench.answer("a", 413, html());
    bench.answer("b", 400, html());
    assert!(!bench.held(), "not alike");

    let mut bench = waiting(1);
    bench.take("send");
    for _ in 0..5 {
        bench.answer("a", 413, html());
        assert!(!bench.held());
        bench.wait_s(3599);
        assert_eq!(bench.take("send"), ["a"]);
    }
}

#[test]
fn two_refused_alike_with_a_delivery_between_them_do_not_hold_the_destination() {
    let mut bench = waiting(3);
    bench.answer("a", 413, html());
    bench.deliver("b");
    bench.answer("c", 413, html());
    assert!(!bench.held());
}

#[test]
fn retry_after_is_honoured_by_the_episode_and_by_the_hold() {
    let mut bench = waiting(2);
    bench.take("send");
    bench.answer_after("a", 429, AnswerBody::Empty, Some(100));
    bench.wait_s(99);
    assert_eq!(bench.take("send"), [""; 0]);
    bench.answer_after("b", 503, by_receiver(), Some(1000));
    assert!(bench.held());
    bench.wait_s(999);
    assert_eq!(bench.take("send"), [""; 0]);
    bench.wait_s(61);
    assert_eq!(bench.take("send").len(), 1);
}

#[test]
fn the_longest_pause_counts_whoever_in_flight_was_told_it() {
    let mut bench = Bench::with(|settings| settings.concurrency = 3);
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        bench.seal_and_pack(id, i64::try_from(at).unwrap());
    }
    bench.take("send");
    bench.answer_after("a", 503, by_receiver(), Some(10));
    bench.answer_after("b", 503, by_receiver(), Some(10));
    bench.answer_after("c", 503, by_receiver(), Some(500));
    bench.wait_s(499);
    assert_eq!(bench.take("send"), [""; 0]);
}

#[test]
fn any_answer_of_a_receiver_clears_the_hold() {
    for (status, body) in [
        (409, problem(ProblemType::Conflict)),
        (422, by_receiver()),
        (400, problem(ProblemType::DigestMismatch)),
    ] {
        let mut bench = waiting(2);
        bench.answer("a", 404, html());
        assert!(bench.held());
        bench.answer("b", status, body);
        assert!(!bench.held(), "{status}");
    }
}

#[test]
fn an_outage_packs_ahead_no_further_than_the_uploads_need() {
    let mut bench = Bench::with(|settings| settings.pack_workers = 1);
    for n in 0..20 {
        bench.seal(&format!("e{n:02}"), n);
    }
    let mut packed = 0;
    while let Some(id) = bench.take("pack").pop() {
        packed += 1;
        bench.hear(Event::Packed(of(&id), Ok(super::packed(&id))));
        for id in bench.take("send") {
            bench.answer(&id, 404, html());
        }
    }
    assert_eq!(packed, 4, "twice as many as are sent at once");
}

#[test]
fn a_giant_is_no_probe_while_a_small_one_can_be() {
    let mut bench = Bench::new();
    for (id, size_bytes) in [("giant", 1 << 40), ("a", 10), ("b", 20), ("c", 30)] {
        bench.seal(id, 1);
        bench.take("pack");
        let facts = ArchiveFacts { size_bytes, ..packed(id).facts };
        bench.hear(Event::Packed(of(id), Ok(Packed { facts, ..packed(id) })));
    }
    bench.take("send");
    bench.answer("giant", 503, html());
    bench.answer("a", 503, html());
    assert!(bench.held());
    // On its way before there was a hold.
    assert_eq!(bench.take("send"), ["b"]);
    bench.answer("b", 503, html());
    let mut probes = Vec::new();
    while probes.len() < 4 {
        bench.wait_for_deadline();
        if let Some(probe) = bench.take("send").pop() {
            bench.answer(&probe, 503, html());
            probes.push(probe);
        }
    }
    assert_eq!(probes, ["c", "a", "b", "giant"], "each once, the smallest first, before one goes again");
}
