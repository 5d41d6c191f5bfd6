//! What a person's reload changes for those who wait, and what is counted for those who ask.

use super::{rejections::receipt, *};
use crate::model::snapshot::Counts;

fn reload(bench: &mut Bench, elsewhere: bool) {
    bench.hear(Event::Configured {
        settings: settings(|_| {}),
        elsewhere,
    });
}

/// Refused alone, since others are delivered meanwhile.
fn refused(bench: &mut Bench) {
    bench.seal_and_pack("refused", 1);
    bench.seal_and_pack("other", 2);
    bench.take("send");
    bench.deliver("other");
    bench.answer("refused", 403, html());
    assert!(!bench.held());
    bench.keep("refused");
}

#[test]
fn a_held_destination_is_probed_at_once_after_a_reload() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    for _ in 0..9 {
        bench.answer("a", 401, AnswerBody::Empty);
        bench.wait_for_deadline();
        bench.take("send");
    }
    bench.answer("a", 401, AnswerBody::Empty);
    assert_eq!(bench.take("send"), [""; 0]);
    reload(&mut bench, false);
    assert_eq!(bench.take("send"), ["a"]);
    // And the pauses begin anew.
    bench.answer("a", 401, AnswerBody::Empty);
    bench.take("keep");
    bench.hear(Event::Persisted(of("a"), Ok(())));
    assert!(bench.wait_for_deadline() <= Duration::from_secs(2));
    assert_eq!(bench.take("send"), ["a"]);
}

#[test]
fn one_that_was_refused_is_sent_again_at_once_after_a_reload() {
    let mut bench = Bench::new();
    refused(&mut bench);
    assert_eq!(bench.take("send"), [""; 0]);
    reload(&mut bench, false);
    assert_eq!(bench.take("send"), ["refused"]);
}

#[test]
fn what_could_not_be_read_or_moved_is_tried_at_once_after_a_reload() {
    let mut bench = Bench::new();
    bench.seal("secret", 1);
    for _ in 0..9 {
        bench.fail_pack(
            "secret",
            PackFailure::Unreadable("data.bin: Permission denied".to_owned()),
        );
        bench.wait_for_deadline();
    }
    bench.fail_pack(
        "secret",
        PackFailure::Unreadable("data.bin: Permission denied".to_owned()),
    );
    assert_eq!(bench.take("pack"), [""; 0]);
    reload(&mut bench, false);
    assert_eq!(bench.take("pack"), ["secret"]);
    bench.hear(Event::Packed(of("secret"), Ok(packed("secret"))));
    assert_eq!(bench.take("send"), ["secret"]);
    bench.answer("secret", 201, AnswerBody::Empty);
    assert_eq!(bench.take("retire"), ["secret"]);
    let denied = Moved::Failed("Permission denied".to_owned());
    bench.hear(Event::Retired(of("secret"), denied));
    assert_eq!(bench.take("retire"), [""; 0]);
    reload(&mut bench, false);
    assert_eq!(bench.take("retire"), ["secret"]);
}

#[test]
fn everything_is_looked_at_by_a_reload_and_not_by_the_next_pass() {
    let mut bench = Bench::new();
    bench.wait_s(1);
    assert_eq!(bench.take("scan"), [""; 0]);
    reload(&mut bench, false);
    assert_eq!(bench.take("scan").len(), 1);
}

#[test]
fn a_reload_takes_no_patience_from_the_weather_unless_it_leads_elsewhere() {
    for (elsewhere, sent) in [(false, &[][..]), (true, &["a"])] {
        let mut bench = Bench::new();
        bench.seal_and_pack("a", 1);
        bench.take("send");
        bench.answer_after("a", 503, by_receiver(), Some(600));
        reload(&mut bench, elsewhere);
        assert_eq!(bench.take("send"), sent);
    }
}

#[test]
fn more_uploads_and_shorter_intervals_count_at_once() {
    let mut bench = Bench::new();
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        bench.seal_and_pack(id, i64::try_from(at).unwrap());
    }
    assert_eq!(bench.take("send"), ["a", "b"]);
    let more = settings(|settings| {
        settings.concurrency = 3;
        settings.reconcile_interval = Duration::from_secs(10);
    });
    bench.hear(Event::Configured {
        settings: more,
        elsewhere: false,
    });
    assert_eq!(bench.take("send"), ["c"]);
    bench.wait_s(11);
    assert_eq!(bench.take("scan").len(), 1);
}

#[test]
fn a_reload_during_a_scan_begins_no_second_one() {
    let mut bench = Bench::new();
    bench.wait_s(3601);
    assert_eq!(bench.take("scan").len(), 1);
    reload(&mut bench, true);
    bench.wait_s(7200);
    assert_eq!(bench.take("scan").len(), 0);
}

#[test]
fn each_episode_is_counted_where_it_is() {
    let mut bench = Bench::new();
    refused(&mut bench);
    bench.look("open", FolderLook::Open);
    bench.seal_and_pack("first", 3);
    bench.seal_and_pack("second", 4);
    bench.seal_and_pack("third", 5);
    bench.seal("fourth", 6);
    let expected = Counts {
        open: 1,
        ready: 1,
        packing: 1,
        uploading: 2,
        refused: 1,
        ..Counts::default()
    };
    assert_eq!(bench.machine.census().counts, expected);
    bench.answer("first", 201, AnswerBody::Empty);
    assert_eq!(bench.machine.census().counts.moving, 1);
    bench.answer("third", 401, AnswerBody::Empty);
    let held = bench.machine.census().held.unwrap();
    assert!(held.contains("401"), "{held}");
    bench.hear(Event::Watching(false));
    assert!(bench.machine.census().blind);
}

#[test]
fn a_conflict_belongs_to_the_receiver_that_said_it_and_is_looked_at_again_where_another_is_set() {
    for (elsewhere, looked_at) in [(false, &[][..]), (true, &["a"])] {
        let mut bench = Bench::new();
        bench.seal_and_pack("a", 1);
        bench.take("send");
        bench.answer("a", 409, problem(ProblemType::Conflict));
        bench.take("remember");
        bench.hear(Event::Persisted(of("a"), Ok(())));
        reload(&mut bench, elsewhere);
        assert_eq!(bench.take("check"), looked_at);
        if elsewhere {
            // Who checks knows whose word it was.
            bench.hear(fits("a"));
            assert_eq!(bench.take("send"), ["a"]);
        }
    }
}

#[test]
fn a_conflict_that_is_not_written_down_belongs_to_its_receiver_too() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.wait(Duration::from_millis(300));
    // While the archive is made durable.
    assert_eq!(bench.take("keep"), ["a"]);
    bench.answer("a", 409, problem(ProblemType::Conflict));
    reload(&mut bench, true);
    bench.hear(Event::Persisted(of("a"), Ok(())));
    assert_eq!(bench.take("remember"), [""; 0]);
}

#[test]
fn what_is_in_flight_is_believed_as_was_set_for_the_receiver_that_it_was_sent_to() {
    let strict = || settings(|of| of.require_receipt = true);
    let (plain, believing) = (
        || settings(|_| {}),
        || settings(|of| of.believe_bare_200 = true),
    );
    // Set when it was sent, and since; what the one before answers; whether that delivers it.
    for (before, after, status, body, delivers) in [
        (strict(), believing(), 201, AnswerBody::Empty, false),
        (strict(), plain(), 201, AnswerBody::Empty, false),
        (plain(), believing(), 200, AnswerBody::Empty, false),
        (plain(), strict(), 201, AnswerBody::Empty, true),
        (believing(), plain(), 200, AnswerBody::Empty, true),
        (strict(), believing(), 201, receipt("a"), true),
    ] {
        let mut bench = Bench::new();
        bench.hear(Event::Configured {
            settings: before,
            elsewhere: false,
        });
        bench.seal_and_pack("a", 1);
        assert_eq!(bench.take("send"), ["a"]);
        // The second reload changes nothing of what was set for the first.
        for settings in [after.clone(), after] {
            bench.hear(Event::Configured {
                settings,
                elsewhere: true,
            });
        }
        bench.answer("a", status, body);
        for id in bench.take("keep") {
            bench.hear(Event::Persisted(of(&id), Ok(())));
        }
        let (retired, sent) = if delivers {
            (&["a"][..], &[][..])
        } else {
            (&[][..], &["a"][..])
        };
        assert_eq!(bench.take("retire"), retired, "{status}");
        assert_eq!(bench.take("send"), sent, "{status}");
    }
}
