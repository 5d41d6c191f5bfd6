//! When the destination is held, who probes it, and what ends it.

use super::*;

/// `a`, `b`, `c` and so on are packed; the first two are on their way.
pub(super) fn waiting(count: u8) -> Bench {
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
    assert_eq!(
        bench.take("send"),
        [""; 0],
        "b is on its way, and will tell"
    );
    bench.fail("b", Fault::Tls("expired".into()));
    assert_eq!(
        bench.take("send"),
        ["c"],
        "two agree, and one that was not heard of yet is asked at once"
    );

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
    bench.hear(Event::Persisted(of("a"), Ok(())));
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
    assert!(
        probes.windows(2).all(|pair| pair[0] != pair[1]),
        "{probes:?}"
    );
    assert!(
        ["a", "b", "c", "d"]
            .iter()
            .all(|id| probes.contains(&(*id).to_owned())),
        "{probes:?}"
    );
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
        assert!(
            (longest_s * 8 / 10..=longest_s).contains(&longest),
            "{status}: {longest} s"
        );
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
fn any_answer_of_a_receiver_clears_the_hold() {
    for (status, body) in [(409, problem(ProblemType::Conflict)), (413, by_receiver())] {
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
    let (mut packed, mut tried) = (0, 0);
    while let Some(id) = bench.take("pack").pop() {
        packed += 1;
        bench.hear(Event::Packed(of(&id), Ok(super::packed(&id))));
        for id in bench.take("send") {
            tried += 1;
            bench.answer(&id, 404, html());
        }
    }
    assert!(
        tried >= 4,
        "what may be packed ahead, twice as many as are sent at once, was tried in vain"
    );
    assert_eq!(
        packed,
        tried + 1,
        "and one more is ready for the next probe"
    );
}

/// Two that are bad look like a destination that is bad.
#[test]
fn beyond_two_that_agree_some_that_were_not_tried_are_tried_at_once_and_then_each_waits_for_its_probe()
 {
    type Fails = fn(&mut Bench, &str);
    let refused: Fails = |bench, id| bench.answer(id, 413, html());
    let in_bad_weather: Fails = |bench, id| bench.answer(id, 502, html());
    for (fails, at_once) in [(refused, 16), (in_bad_weather, 4)] {
        let mut bench = Bench::with(|settings| settings.concurrency = 1);
        for n in 0..30 {
            bench.seal(&format!("e{n:02}"), n);
        }
        let sent = try_all(&mut bench, fails);
        assert_eq!(sent.len(), 2 + at_once, "{sent:?}");
        let next = bench.wait_for_send();
        assert!(!sent.contains(&next[0]), "{next:?} was tried before");
    }
}

/// Packs and sends what can be, and lets it fail, until time has to pass: who was sent.
fn try_all(bench: &mut Bench, fails: fn(&mut Bench, &str)) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        let packed = bench.take("pack");
        for id in &packed {
            bench.hear(Event::Packed(of(id), Ok(super::packed(id))));
        }
        let now = bench.take("send");
        for id in &now {
            fails(bench, id);
        }
        if packed.is_empty() && now.is_empty() {
            return sent;
        }
        sent.extend(now);
    }
}

#[test]
fn what_is_sealed_while_it_is_held_is_tried_at_once_two_and_then_one_a_minute() {
    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    let refused = |bench: &mut Bench, id: &str| bench.answer(id, 413, html());
    for n in 0..30 {
        bench.seal(&format!("old-{n:02}"), n);
    }
    try_all(&mut bench, refused);
    assert!(bench.held());
    bench.wait(Duration::from_millis(1));
    for (n, id) in ["new-a", "new-b", "new-c"].into_iter().enumerate() {
        bench.seal(id, 100 + i64::try_from(n).unwrap());
    }
    let mut at_once = try_all(&mut bench, refused);
    at_once.retain(|id| id.starts_with("new"));
    assert_eq!(at_once.len(), 2, "{at_once:?}");
    bench.wait_s(61);
    let again = try_all(&mut bench, refused);
    assert!(
        again.iter().any(|id| id.starts_with("new")),
        "{again:?}, {:?}",
        bench.machine.destination()
    );
    assert!(bench.held());
}

#[test]
fn episodes_that_fill_what_is_packed_ahead_and_are_all_refused_keep_no_good_one_from_its_way() {
    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    for n in 0..12 {
        bench.seal(&format!("bad-{n:02}"), n);
    }
    bench.seal("good", 99);
    let mut tries = 0;
    loop {
        for id in bench.take("pack") {
            bench.hear(Event::Packed(of(&id), Ok(super::packed(&id))));
        }
        let sent = bench.take("send");
        if sent.iter().any(|id| id == "good") {
            break;
        }
        for id in &sent {
            bench.answer(id, 413, html());
            tries += 1;
        }
        if sent.is_empty() {
            bench.wait_for_deadline();
        }
        assert!(tries <= 13, "the good one is not tried");
    }
    bench.deliver("good");
    assert!(!bench.held());
    // What failed before others got through is known to be its own fault from now on.
    for _ in 0..24 {
        for id in bench.take("send") {
            if !bench.has_failed(&id) {
                continue;
            }
            bench.answer(&id, 413, html());
            assert!(!bench.held(), "{id} is held against everybody");
        }
        bench.wait_for_deadline();
    }
}

#[test]
fn a_probe_that_takes_long_holds_up_no_small_one_that_was_not_tried() {
    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    for id in ["giant-1", "giant-2"] {
        bench.seal(id, 1);
        bench.take("pack");
        let facts = ArchiveFacts {
            size_bytes: 1 << 40,
            ..packed(id).facts
        };
        bench.hear(Event::Packed(
            of(id),
            Ok(Packed {
                facts,
                ..packed(id)
            }),
        ));
    }
    for id in ["giant-1", "giant-2"] {
        assert_eq!(bench.take("send"), [id]);
        bench.fail(id, Fault::Unreachable("no".into()));
    }
    assert!(bench.held());
    assert_eq!(bench.wait_for_send(), ["giant-1"]);
    bench.seal_and_pack("small", 9);
    assert_eq!(bench.take("send"), [""; 0], "the probe has only just begun");
    bench.wait_s(1);
    assert_eq!(bench.take("send"), ["small"]);
    bench.deliver("small");
    assert!(!bench.held());
}

#[test]
fn what_alters_the_bytes_of_two_in_a_row_holds_the_destination_and_ends_no_hold() {
    let altered = || problem(ProblemType::DigestMismatch);
    let mut bench = waiting(2);
    bench.answer("a", 400, altered());
    assert!(!bench.held());
    bench.answer("b", 400, altered());
    assert!(bench.held());

    let mut bench = waiting(2);
    bench.answer("a", 404, html());
    bench.answer("b", 400, altered());
    assert!(bench.held());

    let mut bench = waiting(1);
    for _ in 0..3 {
        bench.answer("a", 400, altered());
        assert!(!bench.held(), "one alone may be bad here");
        bench.wait_s(600);
    }
}

#[test]
fn a_giant_is_no_probe_while_a_small_one_can_be() {
    let mut bench = Bench::new();
    for (id, size_bytes) in [("giant", 1 << 40), ("a", 10), ("b", 20), ("c", 30)] {
        bench.seal(id, 1);
        bench.take("pack");
        let facts = ArchiveFacts {
            size_bytes,
            ..packed(id).facts
        };
        bench.hear(Event::Packed(
            of(id),
            Ok(Packed {
                facts,
                ..packed(id)
            }),
        ));
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
    assert_eq!(
        probes,
        ["c", "a", "b", "giant"],
        "each once, the smallest first, before one goes again"
    );
}
