//! Whom a silence binds that `Retry-After` asks for.

use super::{circuit_breaker::waiting, *};

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
fn a_silence_that_something_in_between_asks_for_lets_one_that_was_not_tried_through_each_minute() {
    let mut bench = waiting(6);
    assert_eq!(bench.take("send"), ["a", "b"]);
    for id in ["a", "b", "c"] {
        bench.answer_after(id, 503, html(), Some(3600));
    }
    // It went beside b, before the hold.
    assert_eq!(bench.take("send"), ["c"]);
    assert!(bench.held());
    for id in ["d", "e"] {
        bench.wait_s(59);
        assert_eq!(bench.take("send"), [""; 0], "before {id}");
        bench.wait_s(2);
        assert_eq!(bench.take("send"), [id]);
        bench.answer_after(id, 503, html(), Some(3600));
    }
    bench.wait_s(61);
    assert_eq!(bench.take("send"), ["f"]);
    bench.answer("f", 201, AnswerBody::Empty);
    assert!(!bench.held());
}

#[test]
fn where_something_was_delivered_a_page_that_asks_for_silence_binds_only_what_it_answered() {
    let mut bench = waiting(6);
    assert_eq!(bench.take("send"), ["a", "b"]);
    bench.deliver("a");
    assert_eq!(bench.take("send"), ["c"]);
    for id in ["b", "c"] {
        bench.answer_after(id, 503, html(), Some(3600));
    }
    assert!(bench.held());
    bench.wait_s(1);
    assert_eq!(bench.take("send"), ["d"], "the next that was not tried");
    for id in bench.take("keep") {
        bench.hear(Event::Persisted(of(&id), Ok(())));
    }
    bench.deliver("d");
    assert!(!bench.held());
    bench.wait_s(60);
    let sent = bench.take("send");
    assert!(sent.contains(&"e".to_owned()), "{sent:?}");
    assert!(
        !sent.iter().any(|id| ["b", "c"].contains(&id.as_str())),
        "their hour is not over: {sent:?}"
    );
}

#[test]
fn what_is_sealed_in_a_silence_that_a_page_asks_for_is_tried_at_once_though_nothing_was_delivered_yet()
 {
    let mut bench = waiting(2);
    bench.take("send");
    for id in ["a", "b"] {
        bench.answer_after(id, 503, html(), Some(3600));
    }
    assert!(bench.held());
    bench.wait_s(1);
    bench.seal_and_pack("fresh", 99);
    assert_eq!(bench.take("send"), ["fresh"]);
}

#[test]
fn a_silence_that_a_receiver_asks_for_is_kept_with_every_episode() {
    for body in [by_receiver(), problem(ProblemType::TooMany)] {
        let mut bench = waiting(4);
        bench.take("send");
        bench.answer_after("a", 503, body.clone(), Some(3600));
        bench.take("send");
        bench.answer_after("b", 503, body, Some(3600));
        bench.wait_s(3590);
        assert_eq!(bench.take("send"), [""; 0]);
        bench.wait_s(100);
        assert_eq!(bench.take("send").len(), 1);
    }
}

#[test]
fn whoever_was_asked_to_wait_waits_though_the_hold_is_over() {
    let mut bench = Bench::with(|settings| settings.concurrency = 3);
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        bench.seal_and_pack(id, i64::try_from(at).unwrap());
    }
    assert_eq!(bench.take("send"), ["a", "b", "c"]);
    bench.answer_after("a", 503, by_receiver(), Some(40));
    bench.answer_after("b", 503, by_receiver(), Some(40));
    assert!(bench.held());
    bench.deliver("c");
    assert!(!bench.held());
    bench.wait_s(39);
    assert_eq!(bench.take("send"), [""; 0]);
    bench.wait_s(3);
    assert!(!bench.take("send").is_empty());
}
