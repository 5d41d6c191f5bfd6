//! When `quarantine/` and `shipped/` are looked through.

use super::*;

/// A machine that has looked, and is waiting for a sweep's end.
fn sweeping() -> Bench {
    let mut bench = Bench::fresh(|settings| settings.sweep_interval = Duration::from_secs(7200));
    bench.hear(Event::Deadline);
    bench.hear(Event::Scanned(Some(Scanned::default())));
    assert_eq!(bench.take("sweep").len(), 1);
    bench
}

/// `a` is delivered, by an answer with or without a Date.
fn answered(bench: &mut Bench, date: bool) {
    bench.seal_and_pack("a", 1);
    bench.take("send");
    let server_date = date.then(|| crate::model::records::WallTime::from_unix_seconds(0));
    let answer = Answer {
        head_says: String::new(),
        status: 201,
        body: AnswerBody::Empty,
        retry_after_s: None,
        server_date,
        of_this_host: false,
        voucher: Voucher::Status,
    };
    bench.hear(Event::Attempted(of("a"), Outcome::Answered(answer).into()));
    bench.hear(Event::Retired(of("a"), Moved::To("a".into())));
    bench.take("retire");
}

fn doubts_told(bench: &Bench) -> usize {
    bench
        .told
        .iter()
        .filter(|notice| matches!(notice, Notice::ClockDoubted(_)))
        .count()
}

#[test]
fn a_clock_that_is_not_believed_is_asked_again_each_minute() {
    let mut bench = sweeping();
    bench.hear(Event::Swept(false));
    bench.wait_s(59);
    assert_eq!(bench.take("sweep").len(), 0);
    bench.wait_s(1);
    assert_eq!(bench.take("sweep").len(), 1);
    bench.hear(Event::Swept(true));
    bench.wait_s(7199);
    assert_eq!(bench.take("sweep").len(), 0);
}

#[test]
fn the_first_answers_date_is_tried_at_once_and_later_ones_are_not() {
    let mut bench = sweeping();
    bench.hear(Event::Swept(false));
    answered(&mut bench, false);
    assert_eq!(bench.take("sweep").len(), 0, "it said nothing of the time");
    answered(&mut bench, true);
    assert_eq!(bench.take("sweep").len(), 1);
    bench.hear(Event::Swept(false));
    answered(&mut bench, true);
    assert_eq!(
        bench.take("sweep").len(),
        0,
        "it does not agree, and will not do so a moment later"
    );
}

#[test]
fn a_date_that_is_heard_while_a_sweep_doubts_the_clock_is_tried_at_its_end() {
    let mut bench = sweeping();
    answered(&mut bench, true);
    assert_eq!(bench.take("sweep").len(), 0);
    bench.hear(Event::Swept(false));
    assert_eq!(bench.take("sweep").len(), 1);
    bench.hear(Event::Swept(true));
    assert_eq!(bench.take("sweep").len(), 0);
}

#[test]
fn a_clock_that_is_not_believed_for_an_hour_is_told_once() {
    let mut bench = sweeping();
    for minute in 0..200 {
        bench.hear(Event::Swept(false));
        assert_eq!(doubts_told(&bench), usize::from(minute >= 60), "{minute}");
        bench.wait_s(60);
    }
    bench.hear(Event::Swept(true));
    bench.wait_s(7200);
    bench.hear(Event::Swept(false));
    assert_eq!(
        doubts_told(&bench),
        1,
        "another doubt has an hour of its own"
    );
}

#[test]
fn after_a_suspension_each_wait_is_over_once_and_nothing_is_made_up_for() {
    let mut bench = Bench::with(|settings| settings.reconcile_interval = Duration::from_secs(60));
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.fail("a", lost());
    bench.take("keep");
    bench.hear(Event::Persisted(of("a"), Ok(())));
    // By a clock that went on: three days at once. By one that stood still there is nothing to see.
    bench.now += Duration::from_secs(3 * 86_400);
    bench.hear(Event::Deadline);
    assert_eq!(bench.wanted(), ["scan ", "send a"]);
    bench.wanted.clear();
    bench.hear(Event::Deadline);
    assert_eq!(bench.wanted(), [""; 0]);
}
