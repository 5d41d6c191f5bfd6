//! When uploads may run, and how fast.

use std::num::NonZeroU64;

use super::*;
use crate::ship::machine::destination::upload_window::{LocalTime, Pace, RateLimit, Window};

fn at(text: &str) -> LocalTime {
    let parts: Vec<u32> = text.split(':').map(|part| part.parse().unwrap()).collect();
    LocalTime::from_seconds(parts[0] * 3600 + parts[1] * 60 + parts.get(2).unwrap_or(&0))
}

fn rate(bytes: u64) -> NonZeroU64 {
    NonZeroU64::new(bytes).unwrap()
}

fn window(from: &str, to: &str, limit: Option<RateLimit>) -> Window {
    Window {
        from: at(from),
        to: at(to),
        limit,
    }
}

/// At night as fast as it goes, before noon at what is set for all times, after that at 2 MB/s; not
/// in the evening.
fn uploads() -> Uploads {
    let slow = Some(RateLimit::BytesPerS(rate(2_000_000)));
    let windows = vec![
        window("22:00", "06:00", Some(RateLimit::None)),
        window("06:00", "12:00", None),
        window("12:00", "18:30", slow),
    ];
    Uploads {
        limit: Some(rate(5_000_000)),
        windows,
    }
}

fn with(uploads: &Uploads) -> Bench {
    let mut bench = Bench::with(|settings| settings.uploads = uploads.clone());
    bench.hear(Event::Deadline);
    bench
}

impl Bench {
    fn it_is(&mut self, time: &str) {
        self.take("clock");
        self.hear(Event::ClockRead(at(time)));
    }

    fn paces(&mut self) -> Vec<Pace> {
        let wanted = std::mem::take(&mut self.wanted);
        let (paces, left) = wanted
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Pace(_)));
        self.wanted = left;
        let pace = |effect| match effect {
            Effect::Pace(pace) => Some(pace),
            _ => None,
        };
        paces.into_iter().filter_map(pace).collect()
    }
}

#[test]
fn every_time_of_day_has_its_pace_over_midnight_too() {
    let two = Pace::AtMost(rate(2_000_000));
    let five = Pace::AtMost(rate(5_000_000));
    for (time, pace) in [
        ("22:00", Pace::Free),
        ("23:59:59", Pace::Free),
        ("00:00", Pace::Free),
        ("05:59:59", Pace::Free),
        ("06:00", five),
        ("11:59:59", five),
        ("12:00", two),
        ("18:29:59", two),
        ("18:30", Pace::Closed(at("22:00"))),
        ("21:59:59", Pace::Closed(at("22:00"))),
    ] {
        assert_eq!(uploads().pace(at(time)), pace, "{time}");
    }
    let always = Uploads {
        limit: None,
        windows: vec![],
    };
    assert_eq!(always.pace(at("03:00")), Pace::Free);
    let whole_day = Uploads {
        limit: None,
        windows: vec![window("00:00", "00:00", None)],
    };
    assert_eq!(whole_day.pace(at("00:00")), Pace::Free);
    let overlapping = vec![
        window("08:00", "12:00", Some(RateLimit::None)),
        window("06:00", "20:00", None),
    ];
    let overlapping = Uploads {
        limit: Some(rate(5_000_000)),
        windows: overlapping,
    };
    assert_eq!(
        (overlapping.pace(at("09:00")), overlapping.pace(at("13:00"))),
        (Pace::Free, five)
    );
}

#[test]
fn outside_every_window_nothing_new_is_sent_and_within_one_everything_is() {
    let mut bench = with(&uploads());
    bench.seal_and_pack("a", 1);
    assert_eq!(
        bench.take("send"),
        [""; 0],
        "not before it is known how late it is"
    );
    bench.it_is("20:00");
    assert_eq!(bench.take("send"), [""; 0]);
    assert_eq!(bench.paces(), [Pace::Closed(at("22:00"))]);
    assert_eq!(
        bench
            .machine
            .census()
            .outside_window_until
            .unwrap()
            .to_string(),
        "22:00"
    );
    assert!(bench.told(|notice| matches!(notice, Notice::Pace(Pace::Closed(_)))));
    bench.wait_s(60);
    bench.it_is("22:00");
    assert_eq!(bench.take("send"), ["a"]);
    assert_eq!(bench.paces(), [Pace::Free]);
    assert_eq!(bench.machine.census().outside_window_until, None);
}

#[test]
fn the_clock_is_looked_at_at_each_boundary_and_once_a_minute_and_never_where_nobody_set_a_window() {
    let mut bench = with(&uploads());
    bench.it_is("21:58:30");
    for (until, then) in [(60, "21:59:30"), (30, "22:00:00"), (60, "22:01:00")] {
        bench.wait_s(until - 1);
        assert_eq!(bench.take("clock"), [""; 0], "{then}");
        bench.wait_s(1);
        assert_eq!(bench.take("clock"), [""], "{then}");
        bench.hear(Event::ClockRead(at(then)));
    }
    let mut bench = Bench::new();
    bench.wait_s(3_000);
    assert_eq!(bench.take("clock"), [""; 0]);
}

#[test]
fn in_summer_and_in_winter_the_clock_on_the_wall_counts() {
    let mut windows = uploads();
    windows.windows = vec![window("02:30", "03:30", None)];
    // An hour that is left out: there is no 02:30 in this night.
    let mut bench = with(&windows);
    bench.it_is("01:59:30");
    assert_eq!(bench.paces(), [Pace::Closed(at("02:30"))]);
    bench.wait_s(60);
    bench.it_is("03:00:30");
    assert_eq!(bench.paces(), [Pace::AtMost(rate(5_000_000))]);
    // An hour that comes twice, and the window with it.
    let mut bench = with(&windows);
    let mut paces = Vec::new();
    for time in ["02:15", "02:31", "02:59", "02:01", "02:31", "03:31"] {
        bench.it_is(time);
        paces.extend(
            bench
                .paces()
                .pop()
                .map(|pace| pace == Pace::AtMost(rate(5_000_000))),
        );
        bench.wait_s(60);
    }
    assert_eq!(paces, [false, true, false, true, false]);
}

#[test]
fn what_breaks_off_in_the_pause_is_nobodys_failure_and_goes_on_in_the_next_window() {
    let mut bench = with(&uploads());
    bench.it_is("18:29");
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        bench.seal_and_pack(id, i64::try_from(at).unwrap());
    }
    assert_eq!(bench.take("send"), ["a", "b"]);
    bench.wait_s(60);
    bench.it_is("18:30");
    bench.fail("a", lost());
    bench.answer("b", 408, html());
    assert!(!bench.held());
    assert_eq!(bench.take("send"), [""; 0]);
    bench.wait_s(60);
    bench.it_is("22:00");
    assert_eq!(bench.asks_first(), [true, true], "where did it break off?");
    assert_eq!(
        bench.take("send"),
        ["a", "b"],
        "at once, and in their order"
    );
    // What fails after that counts.
    bench.fail("a", lost());
    assert!(bench.told(|notice| matches!(notice, Notice::Retrying(..))));
}

#[test]
fn a_stop_in_the_pause_waits_for_nothing() {
    let mut bench = with(&uploads());
    bench.it_is("18:29");
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.wait_s(60);
    bench.it_is("18:30");
    bench.hear(Event::Stop);
    assert_eq!(bench.take("cancel"), ["a"]);
    let mut open = with(&uploads());
    open.it_is("12:00");
    open.seal_and_pack("a", 1);
    open.hear(Event::Stop);
    assert_eq!(open.take("cancel"), [""; 0], "what moves has its grace");
}

#[test]
fn a_reload_changes_limit_and_windows_at_once() {
    let mut bench = Bench::new();
    bench.seal_and_pack("a", 1);
    assert_eq!(
        (bench.take("send"), bench.paces()),
        (vec!["a".to_owned()], vec![]),
        "nothing is limited"
    );
    let mut reload = |uploads: Uploads| {
        let settings = settings(|settings| settings.uploads = uploads.clone());
        bench.hear(Event::Configured {
            settings,
            elsewhere: false,
        });
        if !bench.take("clock").is_empty() {
            bench.hear(Event::ClockRead(at("20:00")));
        }
        bench.paces()
    };
    let limit = |bytes| Uploads {
        limit: Some(rate(bytes)),
        windows: vec![],
    };
    assert_eq!(reload(limit(1_000_000)), [Pace::AtMost(rate(1_000_000))]);
    assert_eq!(reload(uploads()), [Pace::Closed(at("22:00"))]);
    assert_eq!(reload(limit(3_000_000)), [Pace::AtMost(rate(3_000_000))]);
    assert_eq!(reload(Uploads::default()), [Pace::Free]);
}

#[test]
fn a_held_destination_is_not_probed_outside_the_windows() {
    let mut bench = with(&uploads());
    bench.it_is("18:29:59");
    bench.seal_and_pack("a", 1);
    bench.take("send");
    bench.wait_s(1);
    bench.it_is("18:30");
    bench.answer("a", 404, html());
    assert!(bench.held());
    for _ in 0..200 {
        bench.wait_s(60);
        bench.it_is("20:00");
        assert_eq!(bench.take("send"), [""; 0]);
    }
    bench.wait_s(60);
    bench.it_is("22:00");
    assert_eq!(bench.take("send"), ["a"]);
}

#[test]
fn one_pass_outside_the_windows_sends_nothing_and_ends() {
    let mut bench = Bench::fresh(|settings| {
        settings.once = true;
        settings.uploads = uploads();
    });
    bench.hear(Event::Deadline);
    bench.hear(scanned(&[("a", FolderLook::Sealed(stamp(1)))], &[]));
    bench.hear(Event::Swept(true));
    bench.pack("a");
    assert!(!bench.machine.idle(), "it does not know yet how late it is");
    bench.it_is("20:00");
    assert!(bench.machine.idle());
    assert_eq!(bench.machine.tally().transient_failures, 1);
}

#[test]
fn a_limit_leaves_each_upload_its_share() {
    let mut bench = Bench::with(|settings| {
        settings.concurrency = 8;
        settings.uploads = Uploads {
            limit: Some(rate(40_000)),
            windows: vec![],
        };
    });
    bench.hear(Event::Deadline);
    for n in 0..6 {
        bench.seal_and_pack(&format!("e{n}"), n);
    }
    assert_eq!(
        bench.take("send").len(),
        2,
        "a receiver gives up what comes too slowly"
    );
}
