//! Archives that are sent while they are packed: whose slot they have, and for how long.

use super::*;

fn with(concurrency: usize) -> Bench {
    Bench::with(|settings| {
        settings.pack_workers = 3;
        settings.concurrency = concurrency;
    })
}

impl Bench {
    /// Sealed, and its archive grows; it is still being packed.
    fn grow(&mut self, id: &str, at: i64) {
        self.seal(id, at);
        assert_eq!(self.take("pack"), [id]);
        self.hear(Event::Growing(of(id)));
    }

    fn is_packed(&mut self, id: &str) {
        self.hear(Event::Packed(of(id), Ok(packed(id))));
    }
}

#[test]
fn one_that_is_sent_while_it_is_packed_goes_on_in_its_slot() {
    let mut bench = with(2);
    bench.grow("large", 1);
    assert_eq!(bench.take("grow"), ["large"]);
    // The other slot is for small ones.
    bench.seal_and_pack("a", 2);
    assert_eq!(bench.take("send"), ["a"]);
    bench.is_packed("large");
    assert_eq!(bench.take("send"), ["large"]);
    bench.hear(Event::GrowingSent(of("large"), true));
    bench.seal_and_pack("b", 3);
    assert_eq!(bench.take("send"), Vec::<String>::new());
    bench.deliver("large");
    assert_eq!(bench.take("send"), ["b"]);
}

#[test]
fn one_that_is_packed_does_not_wait_for_the_packing_of_another() {
    let mut bench = with(2);
    bench.grow("large", 1);
    assert_eq!(bench.take("grow"), ["large"]);
    bench.seal_and_pack("a", 2);
    assert_eq!(bench.take("send"), ["a"]);
    bench.seal_and_pack("b", 3);
    assert_eq!(bench.take("cancel"), ["large"]);
    assert_eq!(bench.take("send"), ["b"]);
    // It is not begun again, and what was sent of it is gone on with in its turn.
    bench.hear(Event::GrowingSent(of("large"), false));
    bench.deliver("a");
    bench.deliver("b");
    assert_eq!(bench.take("grow"), Vec::<String>::new());
    bench.is_packed("large");
    assert_eq!(bench.take("send"), ["large"]);
}

#[test]
fn one_that_is_packed_anew_does_not_grow_before_the_one_before_has_come_back() {
    let mut bench = with(2);
    bench.grow("large", 1);
    assert_eq!(bench.take("grow"), ["large"]);
    let changed = PackFailure::Changed("it was written to".into());
    bench.hear(Event::Packed(of("large"), Err(changed)));
    bench.wait_s(2);
    assert_eq!(bench.take("pack"), ["large"]);
    bench.hear(Event::Growing(of("large")));
    assert_eq!(bench.take("grow"), Vec::<String>::new());
}

#[test]
fn what_is_packed_already_has_the_slot_first() {
    let mut bench = with(2);
    bench.seal_and_pack("a", 1);
    assert_eq!(bench.take("send"), ["a"]);
    bench.grow("large", 2);
    assert_eq!(
        bench.take("grow"),
        Vec::<String>::new(),
        "no slot is free for it"
    );
    bench.deliver("a");
    assert_eq!(bench.take("grow"), ["large"]);
}

#[test]
fn a_receiver_that_takes_none_of_it_gets_its_slot_back() {
    let mut bench = with(2);
    bench.grow("large", 1);
    assert_eq!(bench.take("grow"), ["large"]);
    bench.hear(Event::GrowingSent(of("large"), false));
    bench.seal_and_pack("a", 2);
    bench.seal_and_pack("b", 3);
    assert_eq!(bench.take("send"), ["a", "b"]);
    // It waits for its turn as any other.
    bench.is_packed("large");
    assert_eq!(bench.take("send"), Vec::<String>::new());
    bench.deliver("a");
    assert_eq!(bench.take("send"), ["large"]);
}

#[test]
fn a_packing_that_comes_to_nothing_gives_its_slot_back() {
    let mut bench = with(2);
    bench.grow("large", 1);
    bench.take("grow");
    bench.seal_and_pack("a", 2);
    assert_eq!(bench.take("send"), ["a"]);
    let changed = PackFailure::Changed("it was written to".into());
    bench.hear(Event::Packed(of("large"), Err(changed)));
    bench.seal_and_pack("b", 3);
    assert_eq!(bench.take("send"), ["b"]);
}

#[test]
fn nothing_grows_towards_a_receiver_that_is_held_and_what_grew_waits_its_turn() {
    let mut bench = with(2);
    bench.grow("large", 1);
    assert_eq!(bench.take("grow"), ["large"]);
    bench.seal_and_pack("a", 2);
    bench.answer("a", 401, AnswerBody::Empty);
    bench.take("send");
    bench.take("keep");
    assert!(bench.held());
    bench.grow("other", 3);
    assert_eq!(bench.take("grow"), Vec::<String>::new());
    // What has grown is a probe like any other.
    bench.is_packed("large");
    assert_eq!(bench.machine.schedule.uploads(), bench.take("send").len());
}

#[test]
fn a_stop_ends_what_grows_and_does_not_wait_for_it() {
    let mut bench = with(2);
    bench.grow("large", 1);
    assert_eq!(bench.take("grow"), ["large"]);
    bench.hear(Event::Stop);
    assert_eq!(bench.take("cancel"), ["large"]);
    bench.is_packed("large");
    assert_eq!(bench.take("send"), Vec::<String>::new());
    assert!(bench.machine.idle());
}

#[test]
fn what_is_packed_on_the_slot_for_small_ones_does_not_grow_towards_the_receiver() {
    let mut bench = Bench::with(|settings| {
        settings.pack_workers = 2;
        settings.concurrency = 4;
    });
    bench.seal("a", 1);
    bench.seal("b", 2);
    assert_eq!(bench.take("pack"), ["a", "b"]);
    bench.hear(Event::Growing(of("b")));
    assert_eq!(bench.take("grow"), Vec::<String>::new());
    bench.hear(Event::Growing(of("a")));
    assert_eq!(bench.take("grow"), ["a"]);
}
