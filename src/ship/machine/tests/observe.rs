//! What a look makes of a marker.

use super::*;

fn odd_markers_told(bench: &Bench) -> usize {
    bench
        .told
        .iter()
        .filter(|notice| matches!(notice, Notice::OddMarker(..)))
        .count()
}

#[test]
fn a_marker_whose_times_are_set_is_the_same_seal_and_is_not_packed_again() {
    let mut bench = Bench::with(|settings| settings.concurrency = 1);
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.seal_and_pack("b", 2);
    let touched = Stamp {
        sealed_ns: 9,
        ..stamp(2)
    };
    bench.look("b", FolderLook::Sealed(touched));
    bench.deliver("a");
    assert_eq!(bench.wanted(), ["send b"]);
}

#[test]
fn a_marker_that_was_made_or_written_anew_is_another_seal() {
    for anew in [
        Stamp {
            made_ns: 9,
            ..stamp(2)
        },
        Stamp {
            written_ns: 9,
            ..stamp(2)
        },
        Stamp {
            inodes: (1, 3),
            ..stamp(2)
        },
        Stamp {
            inodes: (3, 2),
            ..stamp(2)
        },
    ] {
        let mut bench = Bench::with(|settings| settings.concurrency = 1);
        bench.seal_and_pack("a", 1);
        bench.take("send");
        bench.seal_and_pack("b", 2);
        bench.look("b", FolderLook::Sealed(anew));
        assert_eq!(bench.wanted(), ["pack b"], "{anew:?}");
    }
}

#[test]
fn an_odd_marker_seals_nothing_and_is_told_once() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.look("a", FolderLook::OddMarker("a directory"));
    }
    bench.hear(Event::HintsLost);
    bench.take("scan");
    bench.hear(scanned(&[("a", FolderLook::OddMarker("a directory"))], &[]));
    assert_eq!(bench.take("look"), ["a"], "as any open episode");
    bench.hear(Event::Looked(of("a"), FolderLook::OddMarker("a directory")));
    assert_eq!((odd_markers_told(&bench), bench.wanted()), (1, vec![]));
    bench.look("a", FolderLook::Open);
    bench.look("a", FolderLook::OddMarker("a directory"));
    assert_eq!(odd_markers_told(&bench), 2, "another one is told of again");
    bench.seal("a", 1);
    assert_eq!(bench.wanted(), ["pack a"]);
}

#[test]
fn one_pass_counts_what_somebody_believes_to_have_sealed() {
    let mut bench = Bench::fresh(|settings| settings.once = true);
    bench.hear(Event::Deadline);
    let odd = FolderLook::OddMarker("a symlink");
    let episodes = vec![(of("a"), odd), (of("open"), FolderLook::Open)];
    bench.hear(Event::Scanned(Some(Scanned {
        episodes,
        mistaken: 2,
        ..Scanned::default()
    })));
    let tally = bench.machine.tally();
    assert_eq!((tally.transient_failures, tally.scanned), (3, 0));
}

/// Packed, not delivered, and its archive kept.
fn kept(bench: &mut Bench, id: &str) {
    bench.seal_and_pack(id, 1);
    bench.take("send");
    bench.answer(id, 503, AnswerBody::Empty);
    bench.keep(id);
    bench.take("send");
}

#[test]
fn the_archive_of_one_that_was_taken_away_is_put_away_at_once_and_before_its_name_is_packed_again()
{
    let mut bench = Bench::new();
    kept(&mut bench, "a");
    bench.look("a", FolderLook::Gone);
    assert_eq!(
        bench.wanted,
        [Effect::Orphan {
            id: of("a"),
            displaced: true
        }]
    );
    bench.wanted.clear();
    bench.seal("a", 2);
    assert_eq!(bench.wanted(), [""; 0]);
    bench.hear(Event::OrphanSettled(of("a"), OrphanEnd::LastCopy));
    assert_eq!(bench.wanted(), ["pack a"]);
}

#[test]
fn an_archive_of_another_directory_is_put_away_before_its_name_is_packed_again() {
    let mut bench = Bench::new();
    kept(&mut bench, "a");
    bench.look(
        "a",
        FolderLook::Sealed(Stamp {
            inodes: (7, 8),
            ..stamp(2)
        }),
    );
    assert_eq!(bench.take("check"), ["a"]);
    bench.hear(Event::Checked(of("a"), Check::Displaced));
    assert_eq!(
        bench.wanted,
        [Effect::Orphan {
            id: of("a"),
            displaced: true
        }]
    );
    bench.wanted.clear();
    bench.hear(Event::OrphanSettled(of("a"), OrphanEnd::LastCopy));
    assert_eq!(bench.wanted(), ["pack a"]);
}

#[test]
fn where_the_archive_of_another_directory_cannot_be_put_away_its_place_is_not_taken_and_the_cause_is_told()
 {
    let mut bench = Bench::new();
    kept(&mut bench, "a");
    bench.look(
        "a",
        FolderLook::Sealed(Stamp {
            inodes: (7, 8),
            ..stamp(2)
        }),
    );
    for _ in 0..3 {
        assert_eq!(bench.take("check"), ["a"]);
        bench.hear(Event::Checked(of("a"), Check::Displaced));
        assert_eq!(bench.take("orphan"), ["a"]);
        bench.hear(Event::OrphanSettled(
            of("a"),
            OrphanEnd::Unsettled("EIO".to_owned()),
        ));
        assert_eq!(bench.wanted(), [""; 0]);
        assert!(bench.told(|notice| matches!(notice, Notice::Stuck(..))));
        let told = bench.machine.overview(9, bench.now);
        let stuck = told.in_the_way.unwrap();
        assert_eq!((stuck.count, &stuck.first), (1, &of("a")));
        assert!(
            stuck
                .why
                .ends_with("cannot be put aside in quarantine/: EIO"),
            "{stuck:?}"
        );
        assert!(
            !told.has_to_send,
            "the destination is not what it waits for"
        );
        bench.wait_for_deadline();
    }
}

#[test]
fn what_was_delivered_and_cannot_be_moved_is_not_forgotten_to_be_delivered_when_another_stands_in_its_place()
 {
    for look in [FolderLook::Open, FolderLook::Sealed(stamp(2))] {
        let mut bench = Bench::new();
        bench.seal_and_pack("a", 1);
        bench.take("send");
        bench.answer("a", 201, AnswerBody::Empty);
        assert_eq!(bench.take("retire"), ["a"]);
        bench.hear(Event::Retired(of("a"), Moved::Failed("EACCES".to_owned())));
        bench.look("a", look.clone());
        assert_eq!(bench.take("retire"), ["a"], "{look:?}");
        bench.hear(Event::Retired(of("a"), Moved::Changed));
        bench.look("a", look.clone());
        bench.wait_s(2);
        let wanted = if look == FolderLook::Open {
            [].as_slice()
        } else {
            ["pack a"].as_slice()
        };
        assert_eq!(
            bench
                .wanted()
                .iter()
                .filter(|it| it.starts_with("pack"))
                .collect::<Vec<_>>(),
            wanted
        );
    }
}
