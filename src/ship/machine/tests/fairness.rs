//! Who goes beside whom.

use super::*;
use crate::ship::{machine::SMALL_BYTES, outcome::Phase};

const LARGE: u64 = SMALL_BYTES + 1;

fn with(pack_workers: usize, concurrency: usize, order: Order) -> Bench {
    Bench::with(|settings| {
        settings.pack_workers = pack_workers;
        settings.concurrency = concurrency;
        settings.order = order;
    })
}

impl Bench {
    fn packed(&mut self, id: &str, size_bytes: u64) {
        let facts = ArchiveFacts {
            size_bytes,
            ..packed(id).facts
        };
        self.hear(Event::Packed(
            of(id),
            Ok(Packed {
                facts,
                ..packed(id)
            }),
        ));
    }

    /// What is on its way for longer is made durable.
    fn keep_all(&mut self) {
        self.wait_s(1);
        for id in self.take("keep") {
            self.hear(Event::Persisted(of(&id), Ok(())));
        }
    }

    /// Everything that waits, packed one after another: in which order.
    fn pack_all(&mut self) -> Vec<String> {
        let mut order = Vec::new();
        while let Some(id) = self.take("pack").pop() {
            self.packed(&id, 10);
            for id in self.take("send") {
                self.deliver(&id);
            }
            order.push(id);
        }
        order
    }
}

/// With one worker, the first of twenty is under way.
fn backlog(order: Order) -> Bench {
    let mut bench = with(1, 1, order);
    for n in 0..20 {
        bench.seal(&format!("e{n:02}"), n);
    }
    bench
}

#[test]
fn a_fresh_one_is_not_stuck_behind_a_backlog_nor_what_is_old_behind_fresh_ones() {
    let order = backlog(Order::OldestFirst).pack_all();
    assert_eq!(
        order[..7],
        ["e00", "e19", "e01", "e02", "e03", "e18", "e04"]
    );
    assert!(
        order[12..].is_sorted(),
        "what is no backlog is served in its order: {order:?}"
    );
}

#[test]
fn with_the_newest_first_the_oldest_has_its_turn_too() {
    let order = backlog(Order::NewestFirst).pack_all();
    // The first was alone when its turn came.
    assert_eq!(order[..6], ["e00", "e01", "e19", "e18", "e17", "e02"]);
    assert_eq!(
        order[12..],
        ["e12", "e11", "e10", "e09", "e08", "e07", "e06", "e05"],
        "no backlog any more"
    );
}

#[test]
fn another_order_counts_at_once_after_a_reload() {
    let mut bench = backlog(Order::OldestFirst);
    let newest = settings(|settings| {
        settings.pack_workers = 1;
        settings.order = Order::NewestFirst;
    });
    bench.hear(Event::Configured {
        settings: newest,
        elsewhere: false,
    });
    bench.packed("e00", 10);
    bench.take("pack");
    bench.packed("e01", 10);
    assert_eq!(bench.take("pack"), ["e19"]);
}

#[test]
fn a_giant_that_is_packed_holds_up_no_small_one_even_with_one_worker() {
    let mut bench = with(1, 4, Order::OldestFirst);
    bench.seal("giant", 1);
    bench.seal("small", 2);
    assert_eq!(bench.take("pack"), ["giant"]);
    bench.wait(Duration::from_millis(999));
    assert_eq!(bench.take("pack"), [""; 0], "it may be small as well");
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.take("pack"), ["small"]);
    bench.seal("third", 3);
    bench.wait_s(60);
    assert_eq!(bench.take("pack"), [""; 0], "two at once, and no more");
    bench.packed("small", 10);
    assert_eq!(bench.take("pack"), ["third"]);
}

#[test]
fn what_is_not_small_leaves_the_kept_slot_and_waits_for_another() {
    let mut bench = with(2, 4, Order::OldestFirst);
    for (at, id) in ["giant-1", "giant-2", "giant-3"].into_iter().enumerate() {
        bench.seal(id, i64::try_from(at).unwrap());
    }
    assert_eq!(bench.take("pack"), ["giant-1", "giant-2"]);
    bench.hear(Event::Packed(of("giant-2"), Err(PackFailure::Large)));
    bench.fail_pack("giant-3", PackFailure::Large);
    assert_eq!(bench.take("pack"), [""; 0], "each is tried once");
    bench.wait_s(3_000);
    assert_eq!(bench.take("pack"), [""; 0]);
    bench.seal("small", 9);
    assert_eq!(bench.take("pack"), ["small"], "the slot was kept for it");
    bench.packed("giant-1", LARGE);
    assert_eq!(bench.take("pack"), ["giant-2"]);
}

#[test]
fn a_giant_that_is_sent_holds_up_no_small_one_even_with_one_upload_at_a_time() {
    for concurrency in [1, 2] {
        let mut bench = with(2, concurrency, Order::OldestFirst);
        for (at, id) in ["giant-1", "giant-2"].into_iter().enumerate() {
            bench.seal(id, i64::try_from(at).unwrap());
            bench.take("pack");
            bench.packed(id, LARGE);
        }
        assert_eq!(bench.take("send"), ["giant-1"], "one is kept for the small");
        // What is packed ahead is large; a small one would pass it by.
        bench.seal("small", 9);
        assert_eq!(bench.take("pack"), ["small"], "{concurrency}");
        bench.packed("small", 10);
        assert_eq!(bench.take("send"), ["small"], "{concurrency}");
        bench.deliver("small");
        bench.deliver("giant-1");
        assert_eq!(bench.take("send"), ["giant-2"]);
    }
}

#[test]
fn a_poison_episode_costs_one_slot_at_most() {
    // It is small, and its answer takes an hour.
    let mut bench = with(2, 1, Order::OldestFirst);
    bench.seal_and_pack("poison", 1);
    assert_eq!(bench.take("send"), ["poison"]);
    for n in 0..50 {
        let id = format!("good{n:02}");
        bench.seal_and_pack(&id, 10 + n);
        if n == 0 {
            bench.wait_s(1);
        }
        assert_eq!(bench.take("send"), std::slice::from_ref(&id), "beside it");
        bench.deliver(&id);
    }
    bench.fail("poison", lost());
    bench.seal_and_pack("last", 99);
    assert_eq!(bench.take("send"), ["last"]);
}

#[test]
fn as_many_that_hang_as_there_are_slots_leave_one_for_those_that_do_not() {
    for concurrency in [2, 4] {
        let mut bench = with(4, concurrency, Order::OldestFirst);
        let hanging: Vec<_> = (0..concurrency).map(|n| format!("hang{n}")).collect();
        for (n, id) in hanging.iter().enumerate() {
            bench.seal_and_pack(id, i64::try_from(n).unwrap());
        }
        assert_eq!(bench.take("send"), hanging);
        bench.keep_all();
        bench.seal_and_pack("good0", 100);
        bench.wait(Duration::from_millis(28_999));
        assert_eq!(
            bench.take("send"),
            [""; 0],
            "they may be slow, {concurrency}"
        );
        bench.wait(Duration::from_millis(1));
        for n in 1..20 {
            let id = format!("good{}", n - 1);
            assert_eq!(
                bench.take("send"),
                std::slice::from_ref(&id),
                "{concurrency}"
            );
            bench.deliver(&id);
            bench.seal_and_pack(&format!("good{n}"), 100 + n);
        }
        bench.take("send");
        bench.deliver("good19");
        // Further ones that hang take a further slot each, and there is an end to that.
        for n in 0..concurrency {
            let id = format!("late{n}");
            bench.seal_and_pack(&id, 200);
            assert_eq!(bench.take("send"), [id], "{concurrency}");
            bench.keep_all();
            bench.wait_s(29);
        }
        bench.seal_and_pack("last", 300);
        bench.wait_s(300);
        assert_eq!(bench.take("send"), [""; 0], "{concurrency}");
    }
}

#[test]
fn the_slot_that_is_kept_for_small_ones_is_not_for_one_that_hung_before() {
    let mut bench = with(4, 2, Order::OldestFirst);
    bench.seal_and_pack("hangs", 1);
    bench.take("send");
    bench.fail("hangs", Fault::TimedOut(Phase::Answer));
    // It has the main slot when its time comes, and the other stays free whatever waits.
    bench.seal_and_pack("first", 2);
    assert_eq!(bench.take("send"), ["first"]);
    bench.keep_all();
    bench.wait_s(600);
    assert_eq!(bench.take("send"), [""; 0]);
    bench.seal_and_pack("good", 3);
    assert_eq!(bench.take("send"), ["good"]);
    bench.deliver("first");
    assert_eq!(bench.take("send"), ["hangs"]);
}

#[test]
fn a_receiver_that_takes_one_after_the_other_is_given_no_more_at_once_than_it_is_to_have() {
    let mut bench = with(9, 3, Order::OldestFirst);
    for n in 0..9 {
        bench.seal_and_pack(&format!("e{n}"), n);
    }
    let mut under_way = Vec::new();
    for _ in 0..2 {
        for id in bench.take("send") {
            bench.hear(Event::WholeSent(of(&id)));
            under_way.push(id);
        }
        assert_eq!(under_way.len(), 3);
        // Eight seconds each: the third waits for twenty-four, and does not hang.
        bench.keep_all();
        bench.wait_s(7);
        assert_eq!(bench.take("send"), [""; 0]);
        bench.deliver(&under_way.remove(0));
    }
    under_way.extend(bench.take("send"));
    assert_eq!(under_way.len(), 3);
    // Nothing is taken any more: now they do.
    for id in &under_way {
        bench.hear(Event::WholeSent(of(id)));
    }
    assert_eq!(bench.machine.overview(9, bench.now).unanswered, 0);
    bench.wait_s(11);
    assert_eq!(bench.machine.overview(9, bench.now).unanswered, 3);
    assert!(
        !bench.take("send").is_empty(),
        "another has a slot beside those that hang"
    );
}

#[test]
fn what_hangs_is_noted_as_tried_once_while_it_hangs() {
    let mut bench = with(2, 2, Order::OldestFirst);
    for n in 0..5 {
        bench.seal_and_pack(&format!("e{n}"), n);
    }
    assert_eq!(bench.take("send"), ["e0", "e1"]);
    for id in ["e0", "e1"] {
        bench.hear(Event::WholeSent(of(id)));
    }
    bench.keep_all();
    // Others have slots beside them by then, and are kept as well.
    let noted = |seconds: u64, bench: &mut Bench| -> Vec<String> {
        bench.wait_s(seconds);
        bench
            .take("keep")
            .into_iter()
            .filter(|id| id == "e0" || id == "e1")
            .collect()
    };
    assert_eq!(noted(8, &mut bench), [""; 0]);
    assert_eq!(noted(2, &mut bench), ["e0", "e1"]);
    for id in ["e0", "e1"] {
        bench.hear(Event::Persisted(of(id), Ok(())));
    }
    assert_eq!(noted(5, &mut bench), [""; 0]);
}

/// Packs and delivers all that it can, and moves nothing; how many were delivered.
fn delivered_and_not_moved(bench: &mut Bench, size_bytes: u64) -> usize {
    let mut count = 0;
    loop {
        for id in bench.take("pack") {
            let mut packed = packed(&id);
            packed.facts.size_bytes = size_bytes;
            bench.hear(Event::Packed(of(&id), Ok(packed)));
        }
        let sent = bench.take("send");
        if sent.is_empty() {
            return count;
        }
        count += sent.len();
        for id in &sent {
            bench.answer(id, 201, AnswerBody::Empty);
        }
    }
}

#[test]
fn deliveries_do_not_run_ahead_of_a_slow_disk_without_bound() {
    for (size_bytes, bound) in [(10, 64..=80), (100 << 20, 16..=32)] {
        let mut bench = with(2, 2, Order::OldestFirst);
        for n in 0..200 {
            bench.seal(&format!("e{n:03}"), n);
        }
        let ahead = delivered_and_not_moved(&mut bench, size_bytes);
        assert!(bound.contains(&ahead), "{size_bytes}: {ahead}");
        // As the disk goes on, so does the receiver.
        let mut moved = 0;
        while moved < 200 {
            let to_move = bench.take("retire");
            assert!(!to_move.is_empty(), "{size_bytes}: {moved}");
            for id in to_move {
                moved += 1;
                bench.hear(Event::Retired(of(&id), Moved::To("any".into())));
            }
            delivered_and_not_moved(&mut bench, size_bytes);
        }
    }
}
