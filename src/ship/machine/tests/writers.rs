//! Episodes of which a file is open for writing.

use super::{super::step_result::OpenFilePolicy, *};

fn open(id: &str, sealed_for: Duration) -> Event {
    let what = "data.mcap is open for writing".to_owned();
    Event::Packed(
        of(id),
        Err(PackFailure::OpenForWriting { what, sealed_for }),
    )
}

const NOT_LONG: Duration = Duration::from_secs(1);
const S: Duration = Duration::from_secs(1);

fn accepted(bench: &Bench) -> bool {
    bench
        .told
        .iter()
        .any(|notice| matches!(notice, Notice::OpenFileAccepted(..)))
}

/// How it is to be packed, where it is to be.
fn packs(bench: &Bench, id: &str) -> Option<OpenFilePolicy> {
    bench.wanted.iter().rev().find_map(|effect| match effect {
        Effect::Pack {
            id: of, open_files, ..
        } if of.as_str() == id => Some(*open_files),
        _ => None,
    })
}

#[test]
fn one_with_an_open_file_holds_no_slot_and_is_looked_at_again_from_milliseconds_to_seconds() {
    let mut bench = Bench::with(|settings| settings.pack_workers = 1);
    bench.seal("a", 1);
    assert_eq!(packs(&bench, "a"), Some(OpenFilePolicy::WaitedFor));
    bench.wanted.clear();
    bench.hear(open("a", NOT_LONG));
    // The slot is free at once.
    bench.seal("b", 2);
    assert_eq!(packs(&bench, "b"), Some(OpenFilePolicy::WaitedFor));
    bench.hear(Event::Packed(of("b"), Ok(packed("b"))));
    let mut waits = Vec::new();
    for _ in 0..20 {
        bench.wanted.clear();
        let began = bench.now;
        while packs(&bench, "a").is_none() {
            bench.now = bench.machine.next_deadline().unwrap().max(bench.now);
            bench.hear(Event::Deadline);
        }
        waits.push(bench.now - began);
        bench.hear(open("a", NOT_LONG));
    }
    assert!(waits[0] <= Duration::from_millis(40), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 5 * S), "{waits:?}");
    assert!(!accepted(&bench));
}

#[test]
fn when_its_wait_is_over_it_is_shipped_as_it_is_and_that_is_told() {
    let mut bench = Bench::with(|settings| settings.open_files_wait = 600 * S);
    bench.seal("a", 1);
    // A wall clock that has jumped ages no marker for a daemon.
    bench.hear(open("a", 1_000_000 * S));
    assert!(!accepted(&bench));
    bench.now += 599 * S;
    bench.hear(Event::Deadline);
    bench.hear(open("a", NOT_LONG));
    assert!(!accepted(&bench));
    bench.now += S;
    bench.hear(Event::Deadline);
    bench.wanted.clear();
    bench.hear(open("a", NOT_LONG));
    assert!(accepted(&bench));
    assert_eq!(packs(&bench, "a"), Some(OpenFilePolicy::Accepted));
}

#[test]
fn one_that_was_sealed_anew_waits_anew() {
    let mut bench = Bench::with(|settings| settings.open_files_wait = 600 * S);
    bench.seal("a", 1);
    bench.hear(open("a", NOT_LONG));
    bench.now += 700 * S;
    bench.hear(Event::Looked(of("a"), FolderLook::Sealed(stamp(2))));
    bench.wanted.clear();
    bench.hear(Event::Deadline);
    bench.hear(open("a", NOT_LONG));
    assert!(!accepted(&bench));
}

#[test]
fn one_pass_leaves_it_undone_unless_its_marker_is_older_than_the_wait() {
    for (sealed_for, undone) in [(599 * S, 1), (600 * S, 0)] {
        let mut bench = Bench::fresh(|settings| settings.once = true);
        bench.hear(Event::Deadline);
        bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &[]));
        bench.hear(Event::Swept(true));
        bench.hear(open("a", sealed_for));
        assert_eq!(accepted(&bench), undone == 0);
        assert_eq!(bench.machine.idle(), undone == 1);
        assert_eq!(bench.machine.tally().transient_failures, 1);
    }
}

#[test]
fn what_was_shipped_is_looked_at_once_more_a_minute_later_and_one_pass_that_is_over_does_not_wait_for_that()
 {
    for once in [false, true] {
        let mut bench = Bench::fresh(|settings| settings.once = once);
        bench.hear(Event::Deadline);
        bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &[]));
        bench.hear(Event::Swept(true));
        bench.hear(Event::Packed(of("a"), Ok(packed("a"))));
        bench.deliver("a");
        assert!(bench.machine.idle());
        assert_eq!(bench.machine.next_deadline().is_none(), once);
        let looks = |bench: &Bench| {
            bench
                .wanted
                .iter()
                .any(|effect| matches!(effect, Effect::LookBack(_)))
        };
        bench.now += 59 * S;
        bench.hear(Event::Deadline);
        assert!(!looks(&bench));
        // One pass that has more to do than that does look.
        bench.now += S;
        bench.hear(Event::Deadline);
        assert!(looks(&bench) && !bench.machine.idle());
        bench.hear(Event::LookedBack(LookedBack::default()));
        assert!(bench.machine.idle());
    }
}

#[test]
fn what_processes_before_this_one_have_shipped_is_looked_at_at_once_and_again_when_it_is_a_minute_old()
 {
    for once in [false, true] {
        let mut machine = Machine::new(settings(|settings| settings.once = once), S);
        machine.handle(Event::Deadline, S);
        let looks = |machine: &mut Machine| {
            let effects = std::iter::from_fn(|| machine.next_effect());
            effects
                .filter(|effect| matches!(effect, Effect::LookBack(_)))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            looks(&mut machine),
            [Effect::LookBack(Shipped::BeforeTheStart)]
        );
        machine.handle(Event::Scanned(Some(Scanned::default())), S);
        machine.handle(Event::Swept(true), S);
        assert!(!machine.idle(), "one pass waits for it");
        let young = vec![(of("a"), "a".into(), 50 * S), (of("b"), "b".into(), 40 * S)];
        machine.handle(Event::LookedBack(LookedBack { changed: 1, young }), S);
        assert!(machine.idle());
        assert_eq!(
            machine.tally().transient_failures,
            u64::from(once),
            "a tail that was not sent is left undone"
        );
        machine.handle(Event::Deadline, 42 * S);
        assert_eq!(
            looks(&mut machine),
            [Effect::LookBack(Shipped::These(vec![(
                of("b"),
                "b".into()
            )]))]
        );
    }
}

#[test]
fn what_would_be_copied_away_while_a_file_is_open_waits_with_pauses_and_is_told_now_and_then() {
    let mut bench = Bench::with(|_| ());
    bench.seal("a", 1);
    bench.hear(Event::Packed(of("a"), Ok(packed("a"))));
    bench.answer("a", 201, AnswerBody::Empty);
    let retires = |bench: &Bench| {
        bench
            .wanted
            .iter()
            .any(|effect| matches!(effect, Effect::Retire { id, .. } if id.as_str() == "a"))
    };
    assert!(retires(&bench));
    let mut tries = 0;
    let began = bench.now;
    while bench.now - began < 3600 * S {
        bench.wanted.clear();
        bench.hear(Event::Retired(of("a"), Moved::open("data.mcap".into())));
        tries += 1;
        while !retires(&bench) {
            bench.now = bench.machine.next_deadline().unwrap().max(bench.now);
            bench.hear(Event::Deadline);
        }
    }
    assert!((700..2200).contains(&tries), "{tries} looks in an hour");
    let is_it = |notice: &&Notice| {
        matches!(
            notice,
            Notice::OpenFileBeforeMove {
                is_delivered: true,
                ..
            }
        )
    };
    let told = bench.told.iter().filter(is_it).count();
    assert!((8..=10).contains(&told), "told {told} times in an hour");
    assert!(
        bench.machine.overview(9, bench.now).stuck.is_none(),
        "nothing is wrong with the folders"
    );
    // Written to meanwhile: it is packed again, and its files are waited for as if it were new.
    bench.wanted.clear();
    bench.hear(Event::Retired(of("a"), Moved::Changed));
    while packs(&bench, "a").is_none() {
        bench.now = bench.machine.next_deadline().unwrap().max(bench.now);
        bench.hear(Event::Deadline);
    }
    assert_eq!(packs(&bench, "a"), Some(OpenFilePolicy::WaitedFor));
}

#[test]
fn what_a_move_has_left_where_it_stood_is_gone_on_with_until_it_is_gone_and_is_shown_meanwhile() {
    for is_this_processes in [true, false] {
        let mut bench = Bench::new();
        let found = || scanned(&[("a", FolderLook::BeingRemoved)], &[]);
        if is_this_processes {
            bench.seal_and_pack("a", 1);
            bench.answer("a", 201, AnswerBody::Empty);
            bench.hear(Event::Retired(of("a"), Moved::Leaving("a".into())));
        } else {
            bench.hear(found());
        }
        for n in 0..20 {
            assert_eq!(bench.take("finish"), ["a"], "{n}");
            bench.hear(Event::Finished(of("a"), Moved::open("x".into())));
            // A command that looks meanwhile finds what is known.
            bench.hear(found());
            assert_eq!(bench.take("finish"), [""; 0], "not before its time");
            while !bench
                .wanted
                .iter()
                .any(|effect| matches!(effect, Effect::Finish(_)))
            {
                bench.wait_for_deadline();
            }
        }
        let told = bench
            .told
            .iter()
            .filter(|notice| matches!(notice, Notice::LeftBehind { .. }))
            .count();
        assert_eq!(told, 3, "at 4, 8 and 16 looks");
        bench.hear(Event::Finished(of("a"), Moved::Failed("EPERM".to_owned())));
        assert!(bench.told(|notice| matches!(notice, Notice::Stuck(..))));
        bench.wait_for_deadline();
        bench.hear(Event::Finished(of("a"), Moved::Gone));
        assert!(bench.machine.episodes.get(&of("a")).is_none());
    }
}

#[test]
fn one_that_waits_for_an_open_file_before_its_move_keeps_its_pause_though_its_marker_is_taken_away()
{
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.answer("a", 201, AnswerBody::Empty);
    assert_eq!(bench.take("retire"), ["a"]);
    bench.hear(Event::Retired(of("a"), Moved::open("data.mcap".into())));
    // Its marker is gone: the move would only find the file open again, and look, without end.
    bench.hear(Event::Looked(of("a"), FolderLook::Open));
    assert_eq!(bench.take("retire"), [""; 0], "not before its time");
    bench.wait_for_deadline();
    assert_eq!(bench.take("retire"), ["a"]);
}

#[test]
fn what_is_left_of_a_delivered_one_may_be_removed_by_others_and_that_is_no_loss() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    bench.answer("a", 201, AnswerBody::Empty);
    bench.hear(Event::Retired(of("a"), Moved::Leaving("a".into())));
    bench.hear(Event::Finished(of("a"), Moved::open("x".into())));
    bench.look("a", FolderLook::Gone);
    assert!(!bench.told(|notice| matches!(notice, Notice::Vanished(_))));
    assert_eq!(bench.machine.tally().scanned, 1);
    assert!(bench.machine.episodes.get(&of("a")).is_none());
}
