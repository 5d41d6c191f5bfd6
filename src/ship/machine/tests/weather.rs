//! Who is at fault, and what it costs whom: the lines of the design, each as a test of its name.

use http::{HeaderMap, HeaderValue, header};

use super::*;
use crate::{
    model::wire,
    ship::machine::destination::{
        backoff::{FAULT_PROBE, TRANSIENT},
        verdict::MAX_RETRY_AFTER_S,
    },
};

/// So many are packed, by name in order; the first are on their way.
fn waiting(count: u8) -> Bench {
    let mut bench = Bench::new();
    for n in 0..count {
        bench.seal_and_pack(&String::from(char::from(b'a' + n)), i64::from(n));
    }
    bench
}

/// The next probes, each answered with this status, and the pauses before them.
fn probes(bench: &mut Bench, count: usize, status: u16) -> Vec<(String, Duration)> {
    let mut probes = Vec::new();
    while probes.len() < count {
        let asked_at = bench.now;
        let probe = loop {
            bench.wait_for_deadline();
            if !bench.take("scan").is_empty() {
                bench.hear(Event::Scanned(None));
            }
            let mut sent = bench.take("send");
            assert!(sent.len() <= 1, "one at a time: {sent:?}");
            if let Some(probe) = sent.pop() {
                break probe;
            }
        };
        probes.push((probe.clone(), bench.now - asked_at));
        bench.answer(&probe, status, html());
    }
    probes
}

#[test]
fn a_destination_fault_holds_the_queue_with_one_probe_at_a_time_backing_off_to_five_minutes_then_ramping_up()
 {
    let mut bench = Bench::with(|settings| settings.concurrency = 4);
    for n in 0..8 {
        bench.seal_and_pack(&format!("e{n}"), n);
    }
    for id in bench.take("send") {
        bench.answer(&id, 404, html());
    }
    assert!(bench.held());
    let probes = probes(&mut bench, 60, 404);
    for _ in 0..4 {
        // No more of them at once than the disk is given; and for one that was kept before it
        // failed, once more that it was tried.
        for id in bench.take("keep") {
            bench.hear(Event::Persisted(of(&id), Ok(())));
        }
    }
    assert!(
        probes.windows(2).all(|pair| pair[0].0 != pair[1].0),
        "another episode each time"
    );
    let longest = probes.iter().map(|(_, pause)| *pause).max().unwrap();
    assert!(
        longest <= FAULT_PROBE.cap && longest > FAULT_PROBE.cap.mul_f64(0.8),
        "{longest:?}"
    );
    assert!(
        bench.take("quarantine").is_empty() && bench.take("retire").is_empty(),
        "nothing moves"
    );

    // It works again: one, and again one, and more at once only after that.
    let mut probe = Vec::new();
    while probe.is_empty() {
        bench.wait_for_deadline();
        probe = bench.take("send");
    }
    bench.deliver(&probe[0]);
    assert!(!bench.held());
    let (mut most_at_once, mut pauses, mut under_way) = (vec![], vec![], vec![]);
    for n in 0..40 {
        bench.seal(&format!("late{n:02}"), 100 + n);
    }
    while most_at_once.last() != Some(&4) {
        let began = bench.now;
        loop {
            for id in bench.take("pack") {
                bench.hear(Event::Packed(of(&id), Ok(packed(&id))));
            }
            under_way.extend(bench.take("send"));
            if !under_way.is_empty() {
                break;
            }
            bench.wait_for_deadline();
        }
        pauses.push(bench.now - began);
        most_at_once.push(under_way.len());
        bench.deliver(&under_way.remove(0));
        under_way.extend(bench.take("send"));
    }
    assert!(most_at_once.is_sorted(), "{most_at_once:?}");
    assert_eq!(most_at_once[..5], [1; 5], "one at a time at first");
    assert!(
        pauses[0] > Duration::ZERO && pauses[..6].iter().sum::<Duration>() < Duration::from_secs(2)
    );
}

#[test]
fn nobody_is_slowed_down_by_one_that_was_refused_alone() {
    let mut bench = waiting(4);
    assert_eq!(bench.take("send"), ["a", "b"]);
    bench.answer("a", 403, html());
    bench.deliver("b");
    assert_eq!(bench.take("send").len(), 2, "no pause, and as many as ever");
}

#[test]
fn a_refusal_without_a_json_body_never_quarantines() {
    for status in 200..600 {
        for body in [
            html(),
            AnswerBody::Empty,
            AnswerBody::Garbled {
                excerpt: "{".to_owned(),
            },
        ] {
            let mut bench = waiting(1);
            for _ in 0..5 {
                bench.take("send");
                bench.answer("a", status, body.clone());
                assert_eq!(bench.take("quarantine"), [""; 0], "{status} {body:?}");
                if !bench.take("retire").is_empty() {
                    break;
                }
                bench.wait_s(3600);
            }
        }
    }
}

#[test]
fn an_episode_refused_alone_waits_alone() {
    for (status, body) in [
        (403, html()),
        (404, by_receiver()),
        (413, html()),
        (301, AnswerBody::Empty),
    ] {
        let mut bench = waiting(3);
        bench.deliver("b");
        bench.answer("a", status, body);
        assert!(!bench.held(), "{status}");
        bench.deliver("c");
        for n in 10..20 {
            let id = format!("n{n}");
            bench.seal_and_pack(&id, n);
            assert!(bench.take("send").contains(&id), "{status}");
            bench.deliver(&id);
        }
    }
}

#[test]
fn a_2xx_whose_receipt_names_another_digest_is_a_hold() {
    let of_another = |bench: &mut Bench, id: &str| {
        let digest = Digest::of(b"another");
        let receipt = json!({"episode_id": id, "sha256": digest, "size_bytes": 10,
            "stored_at": "2026-01-01T00:00:00Z"});
        bench.answer(id, 201, AnswerBody::Json(receipt));
    };
    let mut bench = waiting(2);
    bench.take("send");
    of_another(&mut bench, "a");
    of_another(&mut bench, "b");
    assert!(bench.held());
    assert!(bench.take("retire").is_empty() && bench.take("quarantine").is_empty());
    assert!(bench.told(|notice| matches!(notice, Notice::Held(_))));
}

#[test]
fn a_200_whose_head_comes_to_nothing_is_waited_for_once_and_then_is_no_receivers() {
    let bare = |bench: &mut Bench| {
        let voucher = Voucher::HeadFailed("was answered 500".to_owned());
        let answer = Answer {
            head_says: String::new(),
            status: 200,
            body: AnswerBody::Empty,
            retry_after_s: None,
            server_date: None,
            of_this_host: false,
            voucher,
        };
        bench.hear(Event::Attempted(of("a"), Outcome::Answered(answer).into()));
    };
    let mut bench = waiting(1);
    assert_eq!(bench.take("send"), ["a"]);
    bare(&mut bench);
    assert!(!bench.held() && bench.told(|notice| matches!(notice, Notice::Retrying(..))));
    assert_eq!(bench.wait_for_send(), ["a"]);
    bare(&mut bench);
    assert!(bench.held());
    assert!(bench.told(|notice| {
        matches!(notice, Notice::Held(why) if why.detail.contains("HEAD of the same address was answered 500")
            && why.detail.contains("believe_bare_200"))
    }));
    assert!(bench.take("retire").is_empty());
}

#[test]
fn retry_has_full_jitter_for_each_episode_and_for_the_destination() {
    let waits_of = |seed| {
        let mut bench = Bench::with(|settings| settings.seed = seed);
        bench.seal_and_pack("a", 1);
        bench.seal_and_pack("b", 2);
        // Each met alone: a delivery lies between.
        let mut waits = Vec::new();
        for n in 0..8 {
            bench.take("send");
            bench.answer("a", 500, html());
            bench.told.iter().for_each(|notice| {
                if let Notice::Retrying(_, _, wait) = notice {
                    waits.push(*wait);
                }
            });
            bench.told.clear();
            let other = if n == 0 {
                "b".to_owned()
            } else {
                format!("n{n}")
            };
            if n > 0 {
                bench.seal_and_pack(&other, 10 + n);
            }
            bench.deliver(&other);
            while !bench.take("send").contains(&"a".to_owned()) {
                bench.wait_for_deadline();
                if !bench.take("scan").is_empty() {
                    bench.hear(Event::Scanned(None));
                }
            }
        }
        waits
    };
    let (one, other) = (waits_of(1), waits_of(2));
    assert_eq!(one.len(), 8);
    assert_ne!(one, other, "two hosts do not wait alike");
    for waits in [one, other] {
        for (failures, wait) in (1..).zip(&waits) {
            assert!(*wait <= TRANSIENT.ceiling(failures), "{waits:?}");
        }
        assert!(
            waits.iter().max().unwrap() > &Duration::from_secs(8),
            "and they grow: {waits:?}"
        );
    }
    let pauses_of = |seed| {
        let mut bench = Bench::with(|settings| settings.seed = seed);
        bench.seal_and_pack("a", 1);
        bench.seal_and_pack("b", 2);
        bench.take("send");
        bench.answer("a", 503, html());
        bench.answer("b", 503, html());
        probes(&mut bench, 10, 503)
            .into_iter()
            .map(|(_, pause)| pause)
            .collect::<Vec<_>>()
    };
    assert_ne!(pauses_of(1), pauses_of(2), "nor do they probe alike");
}

#[test]
fn retry_after_is_honoured_in_both_forms_and_capped() {
    let waits = |retry_after: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from_str(retry_after).unwrap(),
        );
        headers.insert(
            header::DATE,
            HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"),
        );
        let mut bench = waiting(1);
        bench.take("send");
        bench.answer_after("a", 503, by_receiver(), wire::retry_after_s(&headers));
        let asked_at = bench.now;
        while bench.take("send").is_empty() {
            bench.wait_for_deadline();
            if !bench.take("scan").is_empty() {
                bench.hear(Event::Scanned(None));
            }
        }
        (bench.now - asked_at).as_secs()
    };
    assert_eq!(waits("120"), 120);
    assert_eq!(waits("Sun, 06 Nov 1994 08:51:37 GMT"), 120);
    assert_eq!(waits("1000000"), MAX_RETRY_AFTER_S);
    assert_eq!(waits("Mon, 06 Nov 2034 08:51:37 GMT"), MAX_RETRY_AFTER_S);
    assert_eq!(waits("Sun, 06 Nov 1994 08:00:00 GMT"), 0, "long past");
}

#[test]
fn what_a_stop_of_ours_breaks_off_says_nothing_of_the_destination() {
    let mut bench = Bench::with(|settings| settings.concurrency = 4);
    for (at, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        bench.seal_and_pack(id, i64::try_from(at).unwrap());
    }
    bench.take("send");
    for id in ["a", "b", "c", "d"] {
        bench.fail(id, Fault::Cancelled);
    }
    assert!(!bench.held());
}
