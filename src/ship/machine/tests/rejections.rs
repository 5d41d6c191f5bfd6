//! What is rejected in JSON: whose fault that is, and what becomes of it.

use super::*;
use crate::ship::machine::destination::circuit_breaker::CircuitBreaker;

/// As many are on their way.
fn sending(count: u8, set: impl Fn(&mut Settings)) -> Bench {
    let mut bench = Bench::fresh(|settings| {
        settings.concurrency = 40;
        settings.pack_workers = 40;
        set(settings);
    });
    bench.hear(Event::Deadline);
    let ids: Vec<_> = (0..count).map(|n| format!("e{n}")).collect();
    let found: Vec<_> = (1..)
        .zip(&ids)
        .map(|(at, id)| (id.as_str(), FolderLook::Sealed(stamp(at))))
        .collect();
    bench.hear(scanned(&found, &[]));
    bench.hear(Event::Swept(true));
    for id in bench.take("pack") {
        bench.hear(Event::Packed(of(&id), Ok(packed(&id))));
    }
    assert_eq!(bench.take("send").len(), ids.len());
    bench.wanted.clear();
    bench
}

fn quarantined(bench: &mut Bench) -> Vec<String> {
    while let [id, ..] = bench.take("keep").as_slice() {
        bench.hear(Event::Persisted(of(id), Ok(())));
    }
    let ids = bench.take("quarantine");
    for id in &ids {
        bench.hear(Event::Quarantined(of(id), Moved::To(id.into())));
    }
    ids
}

pub(super) fn receipt(id: &str) -> AnswerBody {
    let digest = Digest::of(id.as_bytes());
    AnswerBody::Json(json!({"episode_id": id, "sha256": digest, "size_bytes": 10,
        "stored_at": "2026-01-01T00:00:00Z"}))
}

#[test]
fn another_receivers_first_rejection_waits_for_a_delivery_and_counts_then() {
    for once in [false, true] {
        let mut bench = sending(2, |settings| settings.once = once);
        bench.answer("e0", 422, by_another());
        assert!(quarantined(&mut bench).is_empty() && !bench.held());
        assert_eq!(bench.take("send"), [""; 0]);
        bench.deliver("e1");
        // It is asked again, and not condemned by what was said before.
        assert_eq!(bench.take("send"), ["e0"], "once: {once}");
        bench.answer("e0", 422, by_another());
        assert_eq!(quarantined(&mut bench), ["e0"]);
    }
}

#[test]
fn a_lone_episode_that_another_rejects_stays_and_one_pass_counts_it_as_held() {
    let mut bench = sending(1, |settings| settings.once = true);
    bench.answer("e0", 422, by_another());
    assert_eq!(quarantined(&mut bench), [""; 0]);
    assert!(bench.machine.idle());
    assert_eq!(
        (bench.machine.tally().held, bench.machine.tally().fatal),
        (1, 0)
    );
}

#[test]
fn three_different_episodes_rejected_alike_with_no_delivery_between_hold_the_destination() {
    // A receiver of ours that takes nothing at all: two are its word on them, the third is a
    // setting.
    let mut bench = sending(30, |_| {});
    for (id, expected) in [("e0", 1), ("e1", 1), ("e2", 0), ("e3", 0)] {
        bench.answer(id, 413, by_receiver());
        assert_eq!(quarantined(&mut bench).len(), expected, "{id}");
    }
    assert!(bench.held());
    // One that is taken speaks for it, and those that follow are judged anew.
    bench.deliver("e4");
    assert!(!bench.held());
    bench.answer("e5", 413, by_receiver());
    assert_eq!(quarantined(&mut bench), ["e5"]);
}

#[test]
fn a_gateway_that_rejects_everything_in_json_quarantines_nothing() {
    for (status, body) in [
        (400, by_another()),
        (413, by_another()),
        (422, AnswerBody::Json(json!({}))),
    ] {
        for (require_receipt, ours) in [(false, false), (true, false), (false, true)] {
            let mut bench = sending(30, |settings| settings.require_receipt = require_receipt);
            let mut sent: Vec<_> = (0..30).map(|n| format!("e{n}")).collect();
            if ours {
                bench.answer("e0", 201, receipt("e0"));
                sent.remove(0);
            }
            for _ in 0..100 {
                for id in sent {
                    bench.answer(&id, status, body.clone());
                    assert_eq!(
                        quarantined(&mut bench),
                        [""; 0],
                        "{status} {require_receipt} {ours}"
                    );
                }
                bench.wait_for_deadline();
                sent = bench.take("send");
            }
            assert!(bench.held(), "{status} {require_receipt} {ours}");
        }
    }
}

#[test]
fn where_the_receiver_is_ours_only_its_own_words_speak_against_an_episode() {
    let mut bench = sending(3, |_| {});
    bench.answer("e0", 201, receipt("e0"));
    bench.answer("e1", 413, by_another());
    assert_eq!(quarantined(&mut bench), [""; 0]);
    bench.answer("e2", 413, by_receiver());
    assert_eq!(quarantined(&mut bench), ["e2"]);
}

#[test]
fn a_verdict_on_the_commit_quarantines_each() {
    let older =
        || AnswerBody::Json(json!({"title": "old", "your_commit": "a", "head_commit": "b"}));
    for body in [older(), problem(ProblemType::CommitOutOfWindow)] {
        let mut bench = sending(8, |settings| settings.require_receipt = true);
        for n in 0..8 {
            let id = format!("e{n}");
            bench.answer(&id, 412, body.clone());
            assert_eq!(quarantined(&mut bench), [id]);
        }
        assert!(!bench.held());
    }
}

#[test]
fn what_no_receiver_means_an_episode_by_never_quarantines() {
    for status in [402, 414, 416, 417, 423, 431, 451] {
        for body in [by_another(), by_receiver()] {
            let mut bench = sending(3, |_| {});
            bench.deliver("e0");
            bench.answer("e1", status, body.clone());
            assert_eq!(quarantined(&mut bench), [""; 0], "{status}");
            assert!(!bench.held(), "{status}: one alone");
        }
    }
}

#[test]
fn what_was_delivered_elsewhere_says_nothing_of_another_receiver() {
    let mut bench = sending(3, |_| {});
    bench.deliver("e0");
    bench.hear(Event::Configured {
        settings: settings(|_| {}),
        elsewhere: true,
    });
    // Sent before that: what the other one says of it counts no more.
    bench.answer("e1", 422, by_another());
    assert_eq!(quarantined(&mut bench), [""; 0]);
    assert_eq!(bench.take("send"), ["e1"]);
    // Nor what that one takes.
    bench.deliver("e2");
    bench.answer("e1", 422, by_another());
    assert_eq!(quarantined(&mut bench), [""; 0]);
}

#[test]
fn a_bare_200_that_nothing_vouches_for_moves_nothing_and_holds_the_destination() {
    let mut bench = sending(2, |_| {});
    bench.answer("e0", 200, AnswerBody::Empty);
    assert!(bench.held() && bench.take("retire").is_empty());
    let mut bench = sending(1, |settings| settings.believe_bare_200 = true);
    bench.answer("e0", 200, AnswerBody::Empty);
    assert_eq!(bench.take("retire"), ["e0"]);
}

#[test]
fn a_409_in_other_json_is_no_conflict_where_the_receiver_is_ours_or_nothing_was_delivered_yet() {
    for (require_receipt, ours) in [(false, false), (true, false), (false, true)] {
        let mut bench = sending(30, |settings| settings.require_receipt = require_receipt);
        if ours {
            bench.answer("e0", 201, receipt("e0"));
        }
        for n in 1..30 {
            bench.answer(&format!("e{n}"), 409, by_another());
        }
        assert_eq!(
            bench.machine.overview(0, bench.now).counts.conflict,
            0,
            "{require_receipt} {ours}"
        );
        assert!(bench.held(), "{require_receipt} {ours}");
    }
    // Another receiver's word, where it takes others.
    let mut bench = sending(2, |_| {});
    bench.deliver("e0");
    bench.answer("e1", 409, by_another());
    assert_eq!(bench.machine.overview(0, bench.now).counts.conflict, 1);
    let mut bench = sending(9, |_| {});
    bench.deliver("e0");
    for n in 1..9 {
        bench.answer(&format!("e{n}"), 409, by_another());
    }
    assert_eq!(bench.machine.overview(0, bench.now).counts.conflict, 2);
    assert!(bench.held());
    // And that of one of ours, whatever came before.
    let mut bench = sending(1, |settings| settings.require_receipt = true);
    bench.answer("e0", 409, problem(ProblemType::Conflict));
    assert_eq!(bench.machine.overview(0, bench.now).counts.conflict, 1);
}

#[test]
fn a_gateway_that_rejects_in_changing_words_quarantines_no_more_than_one_that_repeats_itself() {
    let mut bench = sending(30, |_| {});
    bench.deliver("e0");
    let mut gone = 0;
    for n in 1..30 {
        let status = if n % 2 == 0 { 400 } else { 413 };
        let body = AnswerBody::Json(json!({"type": format!("about:{n}"), "message": "no"}));
        bench.answer(&format!("e{n}"), status, body);
        gone += quarantined(&mut bench).len();
    }
    assert_eq!(gone, 2);
    assert!(bench.held());
}

#[test]
fn a_head_that_comes_to_nothing_is_waited_for_once_whichever_episode_asks_until_one_is_delivered() {
    let mut destination = CircuitBreaker::unknown(false);
    for delivered in [true, false] {
        assert!(!destination.head_failed_before(true), "the first one");
        assert!(destination.head_failed_before(true) && destination.head_failed_before(false));
        destination.answered(false);
        assert!(
            destination.head_failed_before(true),
            "a verdict is no delivery"
        );
        if delivered {
            destination.answered(true);
        }
    }
}
