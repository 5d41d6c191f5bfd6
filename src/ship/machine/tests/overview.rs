//! What the overview tells of the episodes.

use super::*;
use crate::model::snapshot::{Attempts, EpisodeState};

#[test]
fn each_episode_is_told_with_its_state_why_it_waits_and_until_when() {
    let mut bench = Bench::with(|settings| settings.concurrency = 9);
    bench.look("open", FolderLook::Open);
    bench.look("odd", FolderLook::OddMarker("a FIFO"));
    for (n, id) in ["conflict", "weather", "refused", "sending"]
        .into_iter()
        .enumerate()
    {
        bench.seal_and_pack(id, n as i64);
    }
    bench.seal("packing", 9);
    bench.answer("conflict", 409, problem(ProblemType::Conflict));
    bench.answer("weather", 503, AnswerBody::Empty);
    bench.answer("refused", 418, AnswerBody::Empty);
    let told = bench.machine.overview(99, bench.now);
    let of = |id: &str| {
        told.episodes
            .iter()
            .find(|glimpse| glimpse.id.as_str() == id)
            .unwrap()
    };
    for (id, state, has_why, has_time, has_size) in [
        ("open", EpisodeState::Open, false, false, false),
        ("odd", EpisodeState::Open, true, false, false),
        ("conflict", EpisodeState::Conflict, true, false, true),
        ("weather", EpisodeState::Waiting, true, true, true),
        ("refused", EpisodeState::Refused, true, true, true),
        ("sending", EpisodeState::Uploading, false, false, true),
        ("packing", EpisodeState::Packing, false, false, false),
    ] {
        let glimpse = of(id);
        let found = (
            glimpse.why.is_some(),
            glimpse.again_in.is_some(),
            glimpse.size_bytes.is_some(),
        );
        assert_eq!(
            (glimpse.state, found),
            (state, (has_why, has_time, has_size)),
            "{id}"
        );
    }
    assert!(
        of("weather").why.as_ref().unwrap().contains("503"),
        "{:?}",
        of("weather")
    );
    let counts = told.counts;
    assert_eq!(
        (counts.open, counts.conflict, counts.waiting, counts.refused),
        (2, 1, 1, 1)
    );
    assert_eq!((counts.uploading, counts.packing, told.left_out), (1, 1, 0));
    let attempts = Attempts {
        conflict: 1,
        transient: 1,
        refused: 1,
        ..Attempts::default()
    };
    assert_eq!(told.attempts, attempts);
}

#[test]
fn of_many_the_first_are_told_and_all_are_counted() {
    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    for n in 0..300 {
        bench.look(&format!("open-{n}"), FolderLook::Open);
    }
    for n in 0..50 {
        bench.seal(&format!("sealed-{n:02}"), 50 - n);
    }
    let told = bench.machine.overview(10, bench.now);
    assert_eq!((told.episodes.len(), told.left_out), (10, 340));
    assert_eq!(
        told.counts.open + told.counts.sealed + told.counts.packing,
        350
    );
    // What is at work comes first, and then what was sealed first.
    let packing =
        |glimpse: &&super::super::overview::Glimpse| glimpse.state == EpisodeState::Packing;
    let at_work = told.episodes.iter().take_while(packing).count() as u64;
    assert_eq!(at_work, told.counts.packing);
    let made: Vec<_> = told.episodes[at_work as usize..]
        .iter()
        .map(|glimpse| glimpse.made_ns)
        .collect();
    assert!(made.is_sorted() && !made.is_empty(), "{made:?}");
    assert!(
        told.episodes
            .iter()
            .all(|glimpse| glimpse.state != EpisodeState::Open)
    );
}

#[test]
fn all_holds_are_counted_together_and_the_oldest_waiting_is_one_that_nobody_holds() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.answer("a", 401, AnswerBody::Empty);
    bench.take("keep");
    bench.hear(Event::Persisted(of("a"), Ok(())));
    let begun = bench.now;
    assert!(
        bench
            .machine
            .overview(9, bench.now)
            .oldest_made_ns
            .is_some()
    );
    bench.wait_for_deadline();
    let held = bench.machine.overview(9, bench.now).held;
    assert_eq!(held, bench.now - begun);
    bench.answer("a", 201, AnswerBody::Empty);
    // The receiver has it; what is left to do is ours.
    assert_eq!(bench.machine.overview(9, bench.now).oldest_made_ns, None);
    bench.wait_s(3);
    assert_eq!(
        bench.machine.overview(9, bench.now).held,
        held,
        "it counts no further"
    );
}

#[test]
fn a_hold_that_nothing_waits_for_is_idle_until_something_does() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.answer("a", 401, AnswerBody::Empty);
    assert!(bench.machine.destination().hold().is_some());
    bench.take("keep");
    bench.hear(Event::Persisted(of("a"), Ok(())));
    assert!(bench.machine.overview(9, bench.now).has_to_send);
    bench.look("a", FolderLook::Gone);
    let told = bench.machine.overview(9, bench.now);
    assert!(
        bench.machine.destination().hold().is_some() && !told.has_to_send,
        "{told:?}"
    );
    bench.seal("b", 2);
    assert!(bench.machine.overview(9, bench.now).has_to_send);
}

#[test]
fn what_cannot_be_moved_is_counted_as_what_it_is_delivered_or_rejected() {
    let mut bench = Bench::new();
    for (id, at) in [("good", 1), ("bad", 2), ("worse", 3)] {
        bench.seal_and_pack(id, at);
    }
    bench.take("send");
    bench.answer("good", 201, AnswerBody::Empty);
    bench.hear(Event::Retired(of("good"), Moved::Failed("ENOSPC".into())));
    for id in ["bad", "worse"] {
        bench.answer(id, 422, by_receiver());
        bench.hear(Event::Quarantined(of(id), Moved::Failed("ENOSPC".into())));
    }
    let told = bench.machine.overview(9, bench.now);
    let of_kind =
        |stuck: Option<super::super::overview::Stuck>| stuck.map(|it| (it.count, it.first));
    assert_eq!(of_kind(told.stuck), Some((1, of("good"))));
    let rejected = of_kind(told.rejected).unwrap();
    assert!(
        rejected.0 == 2 && [of("bad"), of("worse")].contains(&rejected.1),
        "{rejected:?}"
    );
    assert_eq!(of_kind(told.left_behind), None);
}

#[test]
fn what_cannot_be_compared_with_its_archive_is_not_taken_for_a_last_copy_in_the_way() {
    let mut bench = Bench::new();
    bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &["a"]));
    assert_eq!(bench.take("check"), ["a"]);
    bench.hear(Event::Checked(of("a"), Check::Unknown("EIO".to_owned())));
    assert!(bench.machine.overview(9, bench.now).in_the_way.is_none());
    let mut bench = Bench::new();
    bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &["a"]));
    bench.hear(Event::Checked(of("a"), Check::Displaced));
    let end = OrphanEnd::Unsettled("read-only".to_owned());
    bench.hear(Event::OrphanSettled(of("a"), end));
    let told = bench.machine.overview(9, bench.now).in_the_way.unwrap();
    assert!(told.why.contains("read-only"), "{}", told.why);
}

#[test]
fn what_a_fault_of_this_host_keeps_back_is_told_until_it_can_be_packed() {
    let mut bench = Bench::new();
    bench.seal("a", 1);
    let kept_back = |bench: &Bench| bench.machine.overview(9, bench.now).kept_back;
    assert_eq!(kept_back(&bench), None);
    let failure = PackFailure::Unreadable("data.bin: Permission denied".to_owned());
    bench.fail_pack("a", failure);
    let told = kept_back(&bench).unwrap();
    assert_eq!((told.count, told.first), (1, of("a")));
    assert!(told.why.contains("Permission denied"), "{}", told.why);
    // While it is tried again, it is not known to be over.
    bench.wait_for_deadline();
    assert!(kept_back(&bench).is_some());
    bench.pack("a");
    assert_eq!(kept_back(&bench), None);
    // Nor is it known to be sealed, where it cannot be looked at.
    bench.look("b", FolderLook::Unreadable("Permission denied".to_owned()));
    assert_eq!(kept_back(&bench).unwrap().first, of("b"));
    bench.look("b", FolderLook::Open);
    assert_eq!(kept_back(&bench), None);
}

#[test]
fn what_rests_for_a_destination_that_is_held_is_shown_with_its_own_reason() {
    let mut bench = Bench::new();
    for id in ["a", "b"] {
        bench.seal_and_pack(id, 1);
        bench.answer_after(id, 503, AnswerBody::Empty, Some(600));
    }
    assert!(bench.held());
    for glimpse in bench.machine.overview(9, bench.now).episodes {
        let why = glimpse.why.unwrap_or_default();
        assert!(why.contains("503"), "{why}");
    }
}
