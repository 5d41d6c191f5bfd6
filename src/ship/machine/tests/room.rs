//! What follows where the outbox has no room.

use super::*;

fn short() -> PackFailure {
    PackFailure::Short("64 KiB".into())
}

fn full() -> PackFailure {
    PackFailure::Full("ENOSPC".into())
}

impl Bench {
    fn measured(&mut self, id: &str) {
        assert!(
            self.take("measure").contains(&id.to_owned()),
            "{id} is not to be measured"
        );
        self.hear(Event::Packed(of(id), Ok(packed(id))));
    }

    /// Sealed, and on its way without a copy.
    fn seal_without_room(&mut self, id: &str, at: i64) {
        self.seal(id, at);
        self.fail_pack(id, short());
        self.measured(id);
    }
}

#[test]
fn where_there_is_no_room_it_is_sent_without_a_copy_at_once() {
    let mut bench = Bench::new();
    bench.seal("a", 1);
    bench.fail_pack("a", short());
    assert!(bench.told(|notice| matches!(notice, Notice::NoRoom(id, _) if *id == of("a"))));
    assert!(!bench.told(|notice| matches!(notice, Notice::Stuck(..) | Notice::PackingPaused(..))));
    bench.measured("a");
    // A process before this one may have sent a part.
    assert_eq!(bench.asks_first(), [true]);
    assert_eq!(bench.take("send"), ["a"]);
    bench.wait_s(10);
    assert_eq!(bench.take("keep"), [""; 0], "there is nothing to keep");
    bench.deliver("a");
}

#[test]
fn what_has_no_copy_is_neither_kept_nor_packed_again_for_the_weather() {
    let mut bench = Bench::new();
    bench.seal_without_room("a", 1);
    bench.take("send");
    for _ in 0..3 {
        bench.fail("a", lost());
        while bench.take("send").is_empty() {
            bench.wait_for_deadline();
        }
    }
    assert_eq!(bench.wanted(), [""; 0]);
}

#[test]
fn one_without_room_says_nothing_of_the_next() {
    let mut bench = Bench::with(|settings| settings.pack_workers = 1);
    bench.seal("giant", 1);
    bench.seal("small", 2);
    bench.fail_pack("giant", short());
    bench.measured("giant");
    bench.pack("small");
    assert_eq!(bench.take("send"), ["giant", "small"]);
}

#[test]
fn a_full_outbox_holds_what_would_be_written_there_and_no_episode_and_no_upload() {
    let mut bench = Bench::with(|settings| settings.pack_workers = 1);
    bench.seal_and_pack("before", 1);
    bench.seal("a", 2);
    bench.seal("b", 3);
    bench.fail_pack("a", full());
    let told = |notice: &Notice| matches!(notice, Notice::OutboxFull(why, _) if why == "ENOSPC");
    assert!(bench.told(told));
    assert_eq!(bench.take("send"), ["before"]);
    bench.measured("a");
    assert_eq!(bench.take("send"), ["a"]);
    // The second is not tried in the outbox: it would end there as well.
    bench.measured("b");
    bench.deliver("before");
    assert_eq!(bench.take("send"), ["b"]);
    // Later it is tried again.
    bench.wait_s(6);
    bench.seal("c", 4);
    bench.pack("c");
    bench.seal("d", 5);
    assert_eq!(bench.take("pack"), ["d"]);
}

#[test]
fn a_full_outbox_is_told_once_for_as_long_as_it_lasts() {
    let mut bench = Bench::with(|settings| settings.concurrency = 8);
    for (id, at) in [("a", 1), ("b", 2), ("c", 3)] {
        bench.seal(id, at);
    }
    for id in bench.take("pack") {
        bench.hear(Event::Packed(of(&id), Err(full())));
    }
    let told = bench
        .told
        .iter()
        .filter(|notice| matches!(notice, Notice::OutboxFull(..)));
    assert_eq!(told.count(), 1);
}

#[test]
fn a_conflict_without_a_copy_is_not_sent_again_until_it_changes() {
    let mut bench = Bench::new();
    bench.seal_without_room("a", 1);
    bench.take("send");
    bench.answer("a", 409, problem(ProblemType::Conflict));
    // It could not be noted: it is known all the same, and tried again with the next look at it.
    for noted in [Err("full".to_owned()), Ok(())] {
        assert_eq!(bench.take("remember"), ["a"]);
        bench.hear(Event::Persisted(of("a"), noted.clone()));
        bench.wait_s(601);
        assert_eq!(bench.take("check"), ["a"]);
        let refusal = super::super::destination::verdict::Refusal {
            status: Some(409),
            detail: "held".to_owned(),
            body: json!(null),
        };
        bench.hear(Event::Checked(
            of("a"),
            Check::Fits(packed("a"), noted.ok().map(|()| refusal)),
        ));
    }
    assert_eq!(bench.wanted(), [""; 0]);
    bench.wait_s(601);
    bench.take("check");
    bench.hear(Event::Checked(of("a"), Check::Unusable("changed".into())));
    bench.pack("a");
    assert_eq!(bench.take("send"), ["a"]);
}

#[test]
fn one_that_changed_while_it_was_sent_is_packed_anew_with_room_asked_for_anew() {
    let mut bench = Bench::new();
    bench.seal_without_room("a", 1);
    bench.take("send");
    bench.fail("a", Fault::Archive("the episode is not what it was".into()));
    while bench.wanted().is_empty() {
        bench.wait_for_deadline();
    }
    bench.pack("a");
    assert_eq!(bench.take("send"), ["a"]);
    bench.wait_s(1);
    bench.keep("a");
}

#[test]
fn one_pass_sends_without_a_copy_too() {
    let mut bench = Bench::fresh(|settings| settings.once = true);
    bench.hear(Event::Deadline);
    bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &[]));
    bench.hear(Event::Swept(true));
    bench.fail_pack("a", short());
    bench.measured("a");
    assert_eq!(bench.take("send"), ["a"]);
    bench.deliver("a");
    assert!(bench.machine.idle());
    assert_eq!(bench.machine.tally().shipped, 1);
}
