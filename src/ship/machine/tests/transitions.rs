//! One episode's way, and what can come in between.

use super::*;
use crate::ship::machine::episode::Episode;

const BEFORE_KEEPING: Duration = Duration::from_millis(249);
const KEEPING: Duration = Duration::from_millis(2);

/// `a` is packed and on its way.
pub(super) fn sending() -> Bench {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    assert_eq!(bench.take("send"), ["a"]);
    bench
}

#[test]
fn the_way_of_an_episode_that_nothing_happens_to() {
    let mut bench = Bench::new();
    bench.hear(Event::Hinted(of("a")));
    assert_eq!(bench.take("look"), ["a"]);
    bench.hear(Event::Looked(of("a"), FolderLook::Open));
    bench.hear(Event::Hinted(of("a")));
    assert_eq!(bench.take("look"), ["a"], "it is watched already");
    bench.hear(Event::Looked(of("a"), FolderLook::Sealed(stamp(1))));
    assert_eq!(bench.take("unwatch"), ["a"]);
    bench.pack("a");
    assert_eq!(bench.take("send"), ["a"]);
    bench.answer("a", 201, AnswerBody::Empty);
    assert_eq!(bench.wanted(), ["retire a"]);
    bench.hear(Event::Retired(of("a"), Moved::To("a".into())));
    assert_eq!(bench.machine.load(), (0, 0));
    assert!(bench.machine.idle());
}

#[test]
fn an_archive_is_made_durable_after_a_quarter_of_a_second_beside_its_upload() {
    let mut bench = sending();
    bench.wait(BEFORE_KEEPING);
    assert_eq!(bench.wanted(), [""; 0]);
    bench.wait(KEEPING);
    assert_eq!(bench.wanted(), ["keep a"]);
}

#[test]
fn an_archive_is_not_made_durable_when_the_acknowledgement_comes_first() {
    let mut bench = sending();
    bench.wait(BEFORE_KEEPING);
    bench.answer("a", 201, AnswerBody::Empty);
    bench.wait_s(1);
    assert_eq!(bench.wanted(), ["retire a"]);
}

#[test]
fn an_archive_that_was_not_delivered_is_made_durable_at_once() {
    for answer in [503, 404, 413] {
        let mut bench = sending();
        bench.answer("a", answer, html());
        assert_eq!(bench.wanted(), ["keep a"], "{answer}");
    }
    let mut bench = sending();
    bench.fail("a", lost());
    assert_eq!(bench.wanted(), ["keep a"]);
}

#[test]
fn the_move_waits_until_nobody_is_making_the_archive_durable() {
    for kept in [Ok(()), Err("EIO".to_owned())] {
        let mut bench = sending();
        bench.wait_s(1);
        assert_eq!(bench.take("keep"), ["a"]);
        bench.answer("a", 201, AnswerBody::Empty);
        assert_eq!(bench.wanted(), [""; 0]);
        bench.hear(Event::Persisted(of("a"), kept));
        assert_eq!(bench.wanted(), ["retire a"]);
    }
    let mut bench = sending();
    bench.wait_s(1);
    bench.take("keep");
    bench.answer("a", 422, by_receiver());
    assert_eq!(bench.wanted(), [""; 0]);
    bench.hear(Event::Persisted(of("a"), Ok(())));
    assert_eq!(bench.wanted(), ["quarantine a"]);
}

#[test]
fn an_archive_that_cannot_be_made_durable_is_packed_again_and_not_sent_on() {
    let mut bench = sending();
    bench.wait_s(1);
    bench.take("keep");
    bench.hear(Event::Persisted(of("a"), Err("EIO".to_owned())));
    assert_eq!(bench.wanted(), ["cancel a"]);
    bench.take("cancel");
    bench.fail("a", Fault::Cancelled);
    bench.wait_s(6);
    assert_eq!(bench.wanted(), ["pack a"]);
}

#[test]
fn of_an_archive_that_could_not_be_made_durable_only_a_receipt_proves_the_delivery() {
    let receipt = json!({"episode_id": "a", "sha256": packed("a").facts.sha256, "size_bytes": 10,
        "stored_at": "2026-01-01T00:00:00Z"});
    for (body, next) in [
        (AnswerBody::Json(receipt), "retire a"),
        (AnswerBody::Empty, "pack a"),
    ] {
        let mut bench = sending();
        bench.wait_s(1);
        bench.take("keep");
        bench.hear(Event::Persisted(of("a"), Err("EIO".to_owned())));
        bench.take("cancel");
        bench.answer("a", 201, body);
        bench.wait_s(5);
        assert_eq!(bench.wanted(), [next]);
    }
}

#[test]
fn an_archive_that_arrived_damaged_is_read_again_before_it_is_sent_again() {
    let mut bench = sending();
    bench.answer("a", 400, problem(ProblemType::DigestMismatch));
    bench.keep("a");
    bench.wait_s(2);
    assert_eq!(bench.wanted(), ["rehash a"]);
    bench.take("rehash");
    bench.hear(Event::Checked(of("a"), Check::Unusable("damaged".into())));
    bench.pack("a");
    assert_eq!(bench.take("send"), ["a"]);
}

fn unfinished() -> PackFailure {
    PackFailure::UnfinishedManifest("it is cut off".into(), packed("a").fingerprint)
}

/// The manifest stays unfinished for at least so long.
fn unfinished_for(bench: &mut Bench, seconds: u64) {
    let until = bench.now + Duration::from_secs(seconds);
    while bench.now < until {
        bench.fail_pack("a", unfinished());
        bench.take("look");
        while bench.wanted().is_empty() {
            bench.wait_for_deadline();
        }
    }
}

#[test]
fn an_unfinished_manifest_is_waited_for_and_then_a_fault() {
    let mut bench = Bench::new();
    bench.seal("a", 1);
    unfinished_for(&mut bench, 60);
    assert_eq!(bench.wanted(), ["pack a"]);
    let told = bench
        .told
        .iter()
        .filter(|notice| matches!(notice, Notice::StillChanging(..)))
        .count();
    assert!((1..=4).contains(&told), "told {told} times");
    bench.fail_pack("a", unfinished());
    assert_eq!(bench.wanted(), ["quarantine a"]);
}

#[test]
fn a_marker_that_is_written_anew_has_its_own_minute() {
    let mut bench = Bench::new();
    bench.seal("a", 1);
    bench.fail_pack("a", unfinished());
    let since = |bench: &Bench| {
        let episode = bench.machine.episodes.get(&of("a"));
        episode.and_then(Episode::unfinished_since)
    };
    assert_eq!(since(&bench), Some(bench.now));
    bench.seal("a", 2);
    assert_eq!(since(&bench), None);
}

#[test]
fn a_marker_that_is_taken_away_makes_it_open_and_watched_again() {
    let mut bench = sending();
    bench.fail("a", lost());
    bench.keep("a");
    bench.hear(Event::Hinted(of("a")));
    bench.take("look");
    bench.hear(Event::Looked(of("a"), FolderLook::Open));
    assert_eq!(bench.wanted(), ["look a"]);
    bench.take("look");
    bench.hear(Event::Looked(of("a"), FolderLook::Open));
    bench.wait_s(1000);
    assert_eq!(bench.wanted(), [""; 0], "nothing is done with it");
    bench.seal("a", 2);
    assert_eq!(bench.wanted(), ["check a"], "its archive may fit still");
}

#[test]
fn an_open_episode_again_stands_in_nobodys_way() {
    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    bench.seal_and_pack("slow", 1);
    bench.take("send");
    bench.seal_and_pack("a", 2);
    bench.seal_and_pack("b", 3);
    bench.look("a", FolderLook::Open);
    assert_eq!(bench.take("discard"), ["a"], "what was packed of it goes");
    bench.deliver("slow");
    assert_eq!(bench.take("send"), ["b"]);
}

#[test]
fn an_episode_that_is_taken_away_is_forgotten() {
    let mut bench = sending();
    bench.fail("a", lost());
    bench.keep("a");
    bench.look("a", FolderLook::Gone);
    assert!(bench.told(|notice| matches!(notice, Notice::Vanished(_))));
    assert_eq!(bench.take("orphan"), ["a"]);
    bench.hear(Event::OrphanSettled(of("a"), OrphanEnd::LastCopy));
    assert_eq!(bench.machine.load(), (0, 0));
    bench.wait_s(1000);
    assert_eq!(bench.wanted(), [""; 0]);
}

#[test]
fn an_episode_that_is_gone_when_it_is_packed_takes_no_look_along() {
    let mut bench = Bench::new();
    bench.seal("a", 1);
    bench.hear(Event::Hinted(of("a")));
    bench.take("look");
    bench.fail_pack("a", PackFailure::Gone);
    bench.hear(Event::Looked(of("a"), FolderLook::Gone));
    assert_eq!(bench.take("look"), ["a"], "the name may be in use again");
    bench.hear(Event::Looked(of("a"), FolderLook::Gone));
    assert!(bench.machine.idle());
    assert_eq!(bench.machine.load(), (0, 0));
}

#[test]
fn a_name_that_is_used_again_at_once_is_not_missed() {
    let mut bench = sending();
    bench.answer("a", 201, AnswerBody::Empty);
    assert_eq!(bench.take("retire"), ["a"]);
    bench.hear(Event::Hinted(of("a")));
    assert_eq!(bench.take("look"), ["a"]);
    bench.hear(Event::Retired(of("a"), Moved::To("a".into())));
    // It may have seen the old one.
    bench.hear(Event::Looked(of("a"), FolderLook::Sealed(stamp(1))));
    assert_eq!(bench.wanted(), ["look a"]);
    bench.take("look");
    bench.hear(Event::Looked(of("a"), FolderLook::Sealed(stamp(2))));
    bench.pack("a");
}

#[test]
fn what_was_changed_after_it_was_packed_is_packed_again() {
    let mut bench = sending();
    bench.answer("a", 201, AnswerBody::Empty);
    bench.take("retire");
    bench.hear(Event::Retired(of("a"), Moved::Changed));
    assert_eq!(
        bench.take("look"),
        ["a"],
        "the marker may have been taken away"
    );
    bench.wait_s(1);
    assert_eq!(bench.wanted(), ["pack a"]);
}

#[test]
fn what_is_not_what_was_judged_is_looked_at_and_not_moved() {
    let mut bench = sending();
    bench.answer("a", 422, by_receiver());
    assert_eq!(bench.take("quarantine"), ["a"]);
    bench.hear(Event::Quarantined(of("a"), Moved::Changed));
    assert_eq!(bench.take("look"), ["a"]);
    bench.hear(Event::Looked(of("a"), FolderLook::Open));
    assert_eq!(bench.take("look"), ["a"], "its recorder goes on");
    bench.wait_s(60);
    assert_eq!(bench.take("pack"), [""; 0]);
}

#[test]
fn an_archive_that_cannot_be_compared_is_not_packed_over() {
    let mut bench = Bench::new();
    bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &["a"]));
    assert_eq!(bench.take("check"), ["a"]);
    bench.hear(Event::Checked(of("a"), Check::Unknown("EIO".into())));
    assert!(bench.told(|notice| matches!(notice, Notice::Stuck(..))));
    bench.wait_s(5);
    assert_eq!(bench.wanted(), ["check a"]);
}

#[test]
fn what_cannot_be_moved_is_not_sent_again() {
    let mut bench = sending();
    bench.answer("a", 201, AnswerBody::Empty);
    for _ in 0..20 {
        assert_eq!(bench.take("retire"), ["a"]);
        bench.hear(Event::Retired(of("a"), Moved::Failed("EACCES".into())));
        bench.wait_s(300);
        bench.take("scan");
    }
    assert_eq!(bench.wanted(), ["retire a"]);
}

#[test]
fn a_receivers_word_and_the_episodes_own_bytes_are_what_quarantines() {
    let mut bench = sending();
    bench.answer("a", 422, by_receiver());
    assert_eq!(bench.wanted(), ["quarantine a"]);
    let mut bench = Bench::new();
    bench.seal("a", 1);
    bench.fail_pack(
        "a",
        PackFailure::Fault("not as its manifest says".into(), packed("a").fingerprint),
    );
    assert_eq!(bench.wanted(), ["quarantine a"]);
}

#[test]
fn only_a_later_attempt_asks_what_the_receiver_has_kept() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    assert_eq!(
        bench.asks_first(),
        [false],
        "no receiver can have anything of it"
    );
    bench.take("send");
    bench.fail("a", lost());
    bench.wait_s(1);
    assert_eq!(bench.asks_first(), [true]);

    let mut bench = Bench::new();
    bench.hear(scanned(&[("b", FolderLook::Sealed(stamp(1)))], &["b"]));
    bench.take("check");
    bench.hear(fits("b"));
    assert_eq!(
        bench.asks_first(),
        [true],
        "an earlier process may have sent a part of it"
    );
}

#[test]
fn a_line_that_drops_and_yet_moves_is_gone_on_with_at_once_and_holds_nothing() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    for kept in [0, 10, 20, 30, 40, 50] {
        assert_eq!(bench.take("send"), ["a"]);
        bench.break_off("a", kept);
        assert!(!bench.held(), "after {kept}");
        let wait = if kept == 0 {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(100)
        };
        bench.wait(wait);
    }
    assert_eq!(bench.take("send"), ["a"]);
    // It does not get further: that is weather like any other.
    for _ in 0..4 {
        bench.break_off("a", 50);
        bench.wait_s(61);
        assert_eq!(bench.take("send"), ["a"]);
    }
    assert!(bench.held());
}

/// Something on the way may let no HEAD and no PATCH through, and a PUT.
#[test]
fn where_going_on_leads_nowhere_the_whole_is_sent_and_then_it_is_asked_again() {
    type Attempts = fn(Outcome) -> Attempt;
    let in_vain: [(Attempts, u64, usize); 4] = [
        (
            |outcome| Attempt {
                asked_in_vain: true,
                sent: false,
                ..outcome.into()
            },
            0,
            3,
        ),
        (
            |outcome| Attempt {
                resumed_at_bytes: 1000,
                ..outcome.into()
            },
            1000,
            3,
        ),
        (
            |outcome| Attempt {
                asked_in_vain: true,
                sent: false,
                ..outcome.into()
            },
            1 << 40,
            20,
        ),
        (
            |outcome| Attempt {
                resumed_at_bytes: 1 << 40,
                ..outcome.into()
            },
            1 << 40,
            20,
        ),
    ];
    for (attempt, kept, most) in in_vain {
        let mut bench = Bench::new();
        bench.seal_and_pack("a", 1);
        bench.take("send");
        bench.break_off("a", kept);
        for n in 0..2 * (most + 1) {
            bench.wait_s(301);
            let whole = n % (most + 1) == most;
            assert_eq!(bench.asks_first(), [!whole], "attempt {n} of {most}");
            assert_eq!(bench.take("send"), ["a"]);
            let outcome = Outcome::Failed(lost());
            let attempt = if whole {
                outcome.into()
            } else {
                attempt(outcome)
            };
            bench.hear(Event::Attempted(of("a"), attempt));
            if whole && kept > 0 {
                // What was kept is gone, and something is kept anew.
                bench.wait_s(301);
                bench.take("send");
                bench.break_off("a", kept);
            }
        }
    }
}

#[test]
fn a_receiver_whose_disk_is_full_is_not_sent_the_whole_again() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.break_off("a", 1000);
    for _ in 0..30 {
        bench.wait_s(301);
        assert_eq!(bench.asks_first(), [true]);
        bench.take("send");
        let answer = silent(507, None);
        let attempt = Attempt {
            resumed_at_bytes: 1000,
            ..Outcome::Answered(answer).into()
        };
        bench.hear(Event::Attempted(of("a"), attempt));
    }
}

#[test]
fn where_nothing_left_there_is_nothing_to_ask_for() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    let outcome = Outcome::Failed(Fault::Unreachable("refused".into()));
    bench.hear(Event::Attempted(
        of("a"),
        Attempt {
            sent: false,
            ..outcome.into()
        },
    ));
    bench.wait_s(1);
    assert_eq!(bench.asks_first(), [false]);
}

#[test]
fn one_that_creeps_on_is_gone_on_with_at_once_for_a_while_and_then_it_is_weather() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    let mut at_once = 0;
    for kept in 1..40 {
        bench.take("send");
        bench.break_off("a", kept);
        bench.wait(Duration::from_millis(100));
        at_once += usize::from(!bench.asks_first().is_empty());
        bench.wait_s(301);
    }
    assert!((16..20).contains(&at_once), "{at_once}");
}

#[test]
fn a_receiver_that_asks_for_patience_gets_it_also_from_one_that_moves() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.break_off("a", 10);
    bench.wait_s(1);
    bench.take("send");
    let answer = silent(503, Some(30));
    let attempt = Attempt {
        resumed_at_bytes: 20,
        ..Outcome::Answered(answer).into()
    };
    bench.hear(Event::Attempted(of("a"), attempt));
    bench.wait_s(29);
    assert_eq!(bench.take("send"), [""; 0]);
    bench.wait_s(2);
    assert_eq!(bench.take("send"), ["a"]);
}

#[test]
fn what_was_delivered_and_is_taken_away_before_its_move_is_not_said_to_be_unshipped() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.answer("a", 201, AnswerBody::Empty);
    assert_eq!(bench.take("retire"), ["a"]);
    bench.hear(Event::Retired(of("a"), Moved::Failed("ENOENT".into())));
    bench.look("a", FolderLook::Gone);
    assert_eq!(bench.take("retire"), ["a"]);
    bench.hear(Event::Retired(of("a"), Moved::Gone));
    assert!(bench.told(|notice| matches!(notice, Notice::DeliveredAndGone(_))));
    assert!(!bench.told(|notice| matches!(notice, Notice::Vanished(_))));
}
