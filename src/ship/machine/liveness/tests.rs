use super::*;

const S: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(20);

fn part(work: Work, id: &str) -> Task {
    Task {
        work,
        id: (!id.is_empty()).then(|| EpisodeId::parse(id).unwrap()),
    }
}

fn pulse() -> Pulse {
    Pulse::new(
        Allowances {
            disk: 60 * S,
            send: 300 * S,
        },
        TICK,
    )
}

/// Looks every tick at one part, whose counts these are; on which looks the heart beat.
fn beats(work: Work, counts: impl IntoIterator<Item = Option<u64>>) -> Vec<bool> {
    let mut pulse = pulse();
    let at = |n: usize| TICK * u32::try_from(n).unwrap();
    let looks = counts.into_iter().enumerate();
    looks
        .map(|(n, count)| {
            pulse
                .look(count.map(|count| (part(work, "a"), count)), at(n))
                .beats()
        })
        .collect()
}

#[test]
fn the_tick_is_a_third_of_the_watchdogs_patience_and_never_more_than_a_minute() {
    for (watchdog, expected) in [
        (None, 60 * S),
        (Some(Duration::ZERO), 60 * S),
        (Some(3 * S), S),
        (Some(180 * S), 60 * S),
        (Some(3600 * S), 60 * S),
        (
            Some(Duration::from_micros(300_000)),
            Duration::from_millis(100),
        ),
        (Some(Duration::from_micros(1)), Duration::from_millis(1)),
    ] {
        assert_eq!(tick(watchdog), expected, "{watchdog:?}");
    }
}

#[test]
fn the_heart_beats_as_long_as_each_part_moves_within_its_allowance() {
    let (yes, no) = (true, false);
    for (what, work, counts, expected) in [
        (
            "nothing is under way",
            Work::Pack,
            vec![None; 6],
            vec![yes; 6],
        ),
        (
            "it moves at every look",
            Work::Pack,
            (0..6).map(Some).collect(),
            vec![yes; 6],
        ),
        (
            "it moves at every third look",
            Work::Pack,
            (0..12).map(|n| Some(n / 3)).collect(),
            vec![yes; 12],
        ),
        (
            "it never moves",
            Work::Pack,
            vec![Some(7); 6],
            vec![yes, yes, yes, yes, no, no],
        ),
        (
            "it stands for too long, and moves again",
            Work::Keep,
            [1, 1, 1, 1, 1, 2, 2].map(Some).to_vec(),
            vec![yes, yes, yes, yes, no, yes, yes],
        ),
        (
            "it stands for too long, and ends",
            Work::Retire,
            vec![Some(1), Some(1), Some(1), Some(1), Some(1), None],
            vec![yes, yes, yes, yes, no, yes],
        ),
        (
            "a wait for an answer has its own time-out",
            Work::Send,
            vec![Some(1); 16],
            vec![yes; 16],
        ),
        (
            "and no more than that",
            Work::Send,
            vec![Some(1); 17],
            [vec![yes; 16], vec![no]].concat(),
        ),
        (
            "a count that starts anew is another piece of work",
            Work::Scan,
            [9, 9, 9, 1, 1, 1, 1].map(Some).to_vec(),
            vec![yes; 7],
        ),
    ] {
        assert_eq!(beats(work, counts), expected, "{what}");
    }
}

#[test]
fn every_kind_of_work_can_stop_the_heart() {
    for work in [
        Work::Watch,
        Work::Scan,
        Work::Check,
        Work::Pack,
        Work::Keep,
        Work::Discard,
        Work::Send,
        Work::Retire,
        Work::Quarantine,
        Work::Finish,
        Work::Orphan,
        Work::Sweep,
        Work::Relieve,
        Work::Lock,
        Work::Trial,
        Work::Reload,
    ] {
        assert!(beats(work, vec![Some(0); 20]).contains(&false), "{work:?}");
    }
}

#[test]
fn one_that_stands_is_not_hidden_by_others_that_move() {
    let mut pulse = pulse();
    for n in 0..4 {
        let look = pulse.look(
            [(part(Work::Pack, "a"), 1), (part(Work::Pack, "b"), n)],
            TICK * n as u32,
        );
        assert!(look.beats());
    }
    let look = pulse.look(
        [(part(Work::Pack, "a"), 1), (part(Work::Pack, "b"), 9)],
        80 * S,
    );
    assert_eq!(
        look.stalled,
        [Stalled {
            part: part(Work::Pack, "a"),
            since: 80 * S
        }]
    );
    assert_eq!(
        look.stalled[0].to_string(),
        "the packing of a has not moved for 80 s"
    );
}

#[test]
fn a_stall_is_news_once_and_so_is_its_end() {
    let mut pulse = pulse();
    let stuck = || [(part(Work::Sweep, ""), 1)];
    let looks: Vec<_> = (0..7).map(|n| pulse.look(stuck(), TICK * n)).collect();
    let news: Vec<_> = looks.iter().map(|look| look.newly.len()).collect();
    assert_eq!(news, [0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(looks[6].stalled.len(), 1);
    let look = pulse.look([(part(Work::Sweep, ""), 2)], TICK * 7);
    assert_eq!(
        (look.beats(), look.recovered),
        (true, vec![part(Work::Sweep, "")])
    );
    assert_eq!(pulse.look([], TICK * 8), PulseReading::default());
}

#[test]
fn the_time_that_the_whole_process_stood_still_is_nobodys() {
    let mut pulse = pulse();
    assert!(pulse.look([(part(Work::Pack, "a"), 1)], S).beats());
    // An hour of suspension: three ticks of it count.
    assert!(pulse.look([(part(Work::Pack, "a"), 1)], 3600 * S).beats());
    assert!(!pulse.look([(part(Work::Pack, "a"), 1)], 3620 * S).beats());
}

#[test]
fn a_longer_time_out_is_a_longer_allowance_from_then_on() {
    let mut pulse = pulse();
    pulse.allow(Allowances::new(S, 1000 * S));
    for n in 0..50 {
        assert!(pulse.look([(part(Work::Send, "a"), 1)], TICK * n).beats());
    }
    assert!(!pulse.look([(part(Work::Send, "a"), 1)], TICK * 51).beats());
}
