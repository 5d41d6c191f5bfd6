//! The receiver holds other content under a name: what is remembered of that, and when it is sent
//! again.

use super::{transitions::sending, *};

/// `a` is in conflict, and that is written beside its archive.
fn parked() -> Bench {
    let mut bench = sending();
    bench.answer("a", 409, problem(ProblemType::Conflict));
    assert_eq!(bench.take("remember"), ["a"]);
    bench.hear(Event::Persisted(of("a"), Ok(())));
    bench
}

#[test]
fn a_conflict_is_remembered_and_looked_at_again_but_not_sent() {
    let mut bench = parked();
    bench.wait_s(599);
    assert_eq!(bench.wanted(), [""; 0]);
    for _ in 0..5 {
        bench.wait_s(600);
        assert_eq!(bench.take("check"), ["a"]);
        let conflict = bench.told.iter().find_map(|notice| match notice {
            Notice::Conflict(_, refusal) => Some(refusal.clone()),
            _ => None,
        });
        bench.hear(Event::Checked(of("a"), Check::Fits(packed("a"), conflict)));
        assert_eq!(bench.wanted(), [""; 0]);
    }
    let told = bench
        .told
        .iter()
        .filter(|notice| matches!(notice, Notice::Conflict(..)))
        .count();
    assert_eq!(told, 1, "a person is told once");
}

#[test]
fn a_conflict_is_sent_again_when_the_episode_was_changed() {
    let mut bench = parked();
    bench.seal("a", 2);
    assert_eq!(bench.take("check"), ["a"]);
    bench.hear(Event::Checked(of("a"), Check::Unusable("changed".into())));
    bench.pack("a");
    assert_eq!(bench.take("send"), ["a"]);
}

#[test]
fn a_conflict_is_sent_again_when_an_operator_took_the_verdict_out() {
    let mut bench = parked();
    bench.wait_s(601);
    bench.take("check");
    bench.hear(fits("a"));
    assert_eq!(bench.take("send"), ["a"]);
}

#[test]
fn a_verdict_that_was_taken_away_is_noticed_by_a_hint_or_by_the_next_scan() {
    let found = vec![(of("a"), FolderLook::Sealed(stamp(1)))];
    let scanned = |unlabelled: &[&str]| {
        let unlabelled = unlabelled.iter().map(|id| of(id)).collect();
        Event::Scanned(Some(Scanned {
            episodes: found.clone(),
            archives: vec![of("a")],
            unlabelled,
            ..Scanned::default()
        }))
    };
    for by_hint in [true, false] {
        let mut bench = parked();
        bench.hear(Event::HintsLost);
        bench.take("scan");
        bench.hear(scanned(&[]));
        assert_eq!(
            bench.wanted(),
            [""; 0],
            "what has its verdict beside it is left alone"
        );
        if by_hint {
            bench.seal("a", 1);
        } else {
            bench.hear(Event::HintsLost);
            bench.take("scan");
            bench.hear(scanned(&["a"]));
        }
        assert_eq!(bench.take("check"), ["a"], "by hint: {by_hint}");
        bench.hear(Event::Checked(
            of("a"),
            Check::Unusable("no sidecar".into()),
        ));
        bench.pack("a");
        assert_eq!(bench.take("send"), ["a"]);
    }
}

#[test]
fn a_verdict_that_is_being_written_is_not_taken_for_one_that_was_taken_away() {
    let mut bench = sending();
    bench.answer("a", 409, problem(ProblemType::Conflict));
    bench.seal("a", 1);
    assert_eq!(bench.wanted(), ["remember a"]);
    bench.take("remember");
    bench.hear(Event::Persisted(of("a"), Ok(())));
    assert_eq!(bench.wanted(), [""; 0]);
}

#[test]
fn a_conflict_of_the_old_archive_is_not_written_beside_the_new_one() {
    let mut bench = sending();
    bench.wait_s(1);
    bench.take("keep");
    bench.answer("a", 409, problem(ProblemType::Conflict));
    bench.seal("a", 2);
    bench.hear(Event::Persisted(of("a"), Err("EIO".to_owned())));
    bench.wait_s(6);
    bench.pack("a");
    assert_eq!(bench.take("send"), ["a"]);
    bench.fail("a", lost());
    assert_eq!(bench.wanted(), ["keep a"]);
}

#[test]
fn a_conflict_of_what_was_sent_without_a_copy_that_cannot_be_noted_is_noted_within_minutes_once_that_can_be()
 {
    let mut bench = Bench::new();
    bench.seal("a", 1);
    bench.fail_pack("a", PackFailure::Short("no room".to_owned()));
    assert_eq!(bench.take("measure"), ["a"]);
    bench.hear(Event::Packed(of("a"), Ok(packed("a"))));
    assert_eq!(bench.take("send"), ["a"]);
    bench.answer("a", 409, problem(ProblemType::Conflict));
    for _ in 0..6 {
        assert_eq!(bench.take("remember"), ["a"]);
        bench.hear(Event::Persisted(of("a"), Err("EROFS".to_owned())));
        assert_eq!(bench.wanted(), [""; 0]);
        bench.wait_s(301);
        assert_eq!(bench.take("check"), ["a"]);
        bench.hear(fits("a"));
    }
    assert_eq!(bench.take("remember"), ["a"]);
    bench.hear(Event::Persisted(of("a"), Ok(())));
    bench.wait_s(599);
    assert_eq!(bench.wanted(), [""; 0]);
}
