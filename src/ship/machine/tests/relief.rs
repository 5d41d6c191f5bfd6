//! When room is made in `shipped/`.

use super::*;

fn bench() -> Bench {
    let mut bench = Bench::with(|settings| {
        settings.relieve = true;
        settings.reconcile_interval = Duration::from_secs(60);
    });
    bench.hear(Event::SpaceFreed(true));
    bench
}

fn reliefs(bench: &mut Bench) -> usize {
    bench.take("relieve").len()
}

#[test]
fn nothing_is_removed_for_pressure_unless_the_operator_set_it() {
    let mut bench = Bench::with(|settings| settings.reconcile_interval = Duration::from_secs(60));
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.deliver("a");
    bench.seal("b", 2);
    bench.fail_pack("b", PackFailure::Full("ENOSPC".into()));
    bench.wait_s(300);
    assert_eq!(reliefs(&mut bench), 0);
}

#[test]
fn pressure_is_felt_at_each_look_for_want_of_room_and_after_each_shipment() {
    let mut bench = bench();
    bench.wait_s(60);
    assert_eq!(reliefs(&mut bench), 1);
    bench.hear(Event::SpaceFreed(true));
    bench.hear(scanned(&[], &[]));
    bench.seal("a", 1);
    bench.fail_pack("a", PackFailure::Short("64 KiB".into()));
    assert_eq!(reliefs(&mut bench), 1);
    bench.hear(Event::SpaceFreed(true));
    assert_eq!(bench.take("measure"), ["a"]);
    bench.hear(Event::Packed(of("a"), Ok(packed("a"))));
    bench.take("send");
    bench.deliver("a");
    assert_eq!(reliefs(&mut bench), 1);
}

#[test]
fn where_there_is_nothing_to_remove_it_waits_for_a_shipment() {
    let mut bench = bench();
    bench.wait_s(60);
    assert_eq!(reliefs(&mut bench), 1);
    bench.hear(Event::SpaceFreed(false));
    bench.hear(scanned(&[], &[]));
    bench.wait_s(60);
    assert_eq!(reliefs(&mut bench), 0);
    bench.hear(scanned(&[], &[]));
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.deliver("a");
    assert_eq!(reliefs(&mut bench), 1);
}

#[test]
fn what_is_felt_meanwhile_is_seen_to_afterwards() {
    let mut bench = bench();
    bench.wait_s(60);
    assert_eq!(reliefs(&mut bench), 1);
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.deliver("a");
    assert_eq!(reliefs(&mut bench), 0, "one at a time");
    bench.hear(Event::SpaceFreed(false));
    assert_eq!(reliefs(&mut bench), 1);
}

/// Delivered, and there was no room to move it.
fn no_room_for(bench: &mut Bench, id: &str, need_bytes: u64) {
    bench.answer(id, 201, AnswerBody::Empty);
    assert_eq!(bench.take("retire"), [id]);
    bench.hear(Event::Retired(
        of(id),
        Moved::NoRoom {
            why: "ENOSPC".into(),
            need_bytes,
        },
    ));
}

#[test]
fn what_has_no_room_in_shipped_asks_for_as_much_as_it_needs_and_moves_when_it_is_there() {
    let mut bench = bench();
    bench.seal_and_pack("a", 1);
    bench.take("send");
    no_room_for(&mut bench, "a", 25_000_000);
    assert_eq!(
        bench.wanted,
        [Effect::FreeSpace {
            need_bytes: 25_000_000
        }]
    );
    bench.wanted.clear();
    bench.hear(Event::SpaceFreed(true));
    assert_eq!(
        bench.wanted(),
        ["retire a"],
        "at once, and not when its wait is over"
    );

    // There was room, it was said, and it was not enough.
    bench.wanted.clear();
    bench.hear(Event::Retired(
        of("a"),
        Moved::NoRoom {
            why: "ENOSPC".into(),
            need_bytes: 25_000_000,
        },
    ));
    assert_eq!(reliefs(&mut bench), 1);
    bench.hear(Event::SpaceFreed(true));
    assert_eq!(bench.wanted(), [""; 0], "it waits like any other");
    bench.wait_s(60);
    assert_eq!(bench.take("retire"), ["a"]);
}

#[test]
fn a_need_that_is_felt_while_room_is_made_is_seen_to_afterwards() {
    let mut bench = bench();
    for (id, at) in [("a", 1), ("b", 2)] {
        bench.seal_and_pack(id, at);
        bench.take("send");
    }
    no_room_for(&mut bench, "a", 5);
    bench.wanted.clear();
    no_room_for(&mut bench, "b", 7);
    assert_eq!(reliefs(&mut bench), 0);
    bench.hear(Event::SpaceFreed(true));
    assert_eq!(bench.wanted, [Effect::FreeSpace { need_bytes: 7 }]);
    bench.wanted.clear();
    bench.hear(Event::SpaceFreed(true));
    assert_eq!(bench.wanted(), ["retire a", "retire b"]);
}

#[test]
fn what_a_disk_cannot_hold_is_copied_again_minutes_later_whether_delivered_or_rejected() {
    for (status, body, step) in [
        (201, AnswerBody::Empty, "retire"),
        (422, by_receiver(), "quarantine"),
    ] {
        let mut bench = bench();
        bench.seal_and_pack("a", 1);
        bench.take("send");
        bench.answer("a", status, body);
        let (began, mut tries) = (bench.now, 0);
        while bench.now - began < Duration::from_secs(3 * 3600) {
            assert_eq!(bench.take(step), ["a"]);
            tries += 1;
            let moved = Moved::CannotHold("4 GiB".into());
            bench.hear(match step {
                "retire" => Event::Retired(of("a"), moved),
                _ => Event::Quarantined(of("a"), moved),
            });
            while !bench.wanted().iter().any(|wanted| wanted.starts_with(step)) {
                bench.now = bench.machine.next_deadline().unwrap().max(bench.now);
                bench.hear(Event::Deadline);
            }
        }
        // 300 s at most, and half of that on the average.
        assert!(
            (36..140).contains(&tries),
            "{step}: {tries} tries in three hours"
        );
        assert!(
            bench.told(|notice| matches!(notice, Notice::Stuck(..))),
            "and it is said at once"
        );
    }
}
