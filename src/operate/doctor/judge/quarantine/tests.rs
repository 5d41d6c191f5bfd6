//! Tests of `quarantine` and `clean-up`.

use super::*;
use crate::{
    model::{episode::EpisodeId, records::WallTime},
    operate::doctor::facts::ReceiverAnswer,
    operate::doctor::{
        judge::healthy_host::{quarantined, sound},
        row::RowStatus,
    },
};

fn one(name: &str, status: Option<u16>, due_in_days: i64, now: WallTime) -> Quarantined {
    let due = WallTime::from_unix_seconds(now.unix_seconds() + due_in_days * 86_400);
    Quarantined {
        remedy: status.map(|status| Remedy::Command(format!("run-update-{status}"))),
        at: Some(now),
        due: Due::At { since: now, due },
        ..quarantined(name, status)
    }
}

fn facts(quarantined: impl FnOnce(WallTime) -> Vec<Quarantined>) -> Facts {
    let mut facts = sound();
    let now = facts.now;
    facts.aside.as_mut().unwrap().quarantined = quarantined(now);
    facts
}

#[test]
fn what_is_quarantined_is_told_by_reason_and_sent_again_by_the_fix() {
    let row = &rows(&sound())[0];
    assert_eq!(row.status, RowStatus::Green);
    let facts = facts(|now| {
        vec![
            one("a", Some(412), 20, now),
            one("b", Some(412), 20, now),
            one("it's", None, 20, now),
        ]
    });
    let row = &rows(&facts)[0];
    assert_eq!(row.status, RowStatus::Yellow);
    assert!(
        row.summary.contains("3 episodes wait") && row.summary.contains("2 answered 412, 1 fatal"),
        "{row:?}"
    );
    assert_eq!(
        row.fix.as_deref(),
        Some("sealift requeue --all --status 412 --data /d")
    );
    let facts = self::facts(|now| vec![one("it's", Some(422), 20, now)]);
    assert_eq!(
        rows(&facts)[0].fix.as_deref(),
        Some(r"sealift requeue 'it'\''s' --data /d")
    );
}

#[test]
fn whatever_was_answered_what_has_to_change_is_said_before_what_puts_it_back() {
    for (status, first) in [
        (412, "First the receiver has to take their commit"),
        (400, "First what it says has to be mended"),
        (413, "First the receiver's operator has to raise its limit"),
        (403, "First the receiver has to let this host in"),
        (422, "First what it says has to be mended"),
    ] {
        for names in [&["a"][..], &["a", "b"]] {
            let all = |now| {
                let of = |name: &&str| one(name, Some(status), 20, now);
                names.iter().map(of).collect()
            };
            let row = &rows(&facts(all))[0];
            let summary = &row.summary;
            assert!(
                summary.contains(first) && summary.ends_with("Once that is done:"),
                "{row:?}"
            );
            assert!(
                row.fix.as_deref().unwrap().starts_with("sealift requeue "),
                "{row:?}"
            );
        }
    }
}

#[test]
fn while_commits_are_refused_requeue_is_shown_as_a_question_first() {
    for status in [412, 400] {
        let mut facts = facts(|now| {
            ["a", "b"]
                .map(|name| one(name, Some(status), 20, now))
                .into()
        });
        let ReceiverAnswer::Answered {
            status: answered, ..
        } = &mut facts.receiver.as_mut().unwrap().said
        else {
            panic!()
        };
        *answered = status;
        let row = &rows(&facts)[0];
        let dry = format!("sealift requeue --all --status {status} --dry-run --data /d");
        assert_eq!(row.fix, Some(dry));
        assert!(row.summary.contains(comes_first(Some(status))), "{row:?}");
    }
}

#[test]
fn once_the_receiver_takes_the_commit_that_it_rejected_nothing_has_to_change_first() {
    let mut facts = facts(|now| vec![one("a", Some(412), 20, now)]);
    facts.aside.as_mut().unwrap().quarantined[0].is_admitted = Some(true);
    let row = &rows(&facts)[0];
    assert!(
        row.summary
            .ends_with("The receiver takes their commit by now."),
        "{row:?}"
    );
    let requeue = "sealift requeue --all --status 412 --data /d";
    assert_eq!(row.fix.as_deref(), Some(requeue));
}

#[test]
fn what_is_said_and_the_fix_are_of_one_group_and_a_possible_last_copy_is_the_first() {
    let mut n4 = quarantined("n4", None);
    n4.at = Some(WallTime::from_unix_seconds(1_900_000_000));
    n4.why = "meta.json is not in the manifest".to_owned();
    let orphan = |name: &str, why: &str| Quarantined {
        verdict: ORPHAN.to_owned(),
        why: why.to_owned(),
        comes_back_as: EpisodeId::parse(name).ok(),
        ..quarantined(name, None)
    };
    let empty = orphan(
        "empty",
        "is an empty file. Remove it: rm -r /d/quarantine/empty",
    );
    let mut all = vec![
        quarantined("q1", Some(412)),
        quarantined("q2", Some(412)),
        n4,
        empty,
    ];
    let row = |all: &[Quarantined]| {
        let mut facts = sound();
        facts.aside.as_mut().unwrap().quarantined = all.to_vec();
        let row = rows(&facts).remove(0);
        let fixes = row.details["fixes"].clone();
        (row.summary, row.fix.unwrap(), fixes)
    };
    let (of_412, seal) = (
        "sealift requeue --all --status 412 --data /d",
        "sealift seal --again /d/quarantine/n4",
    );
    let look = "ls -la /d/quarantine/empty";
    let (said, fix, fixes) = row(&all);
    assert_eq!(fixes, json!([of_412, seal, look]));
    assert!(
        said.contains("The last answered 412, q1: ")
            && !said.contains("Remove it")
            && fix == of_412,
        "{said}"
    );
    // While the receiver refuses them, what can be mended here comes first.
    for one in &mut all[..2] {
        one.is_admitted = Some(false);
    }
    let (said, fix, fixes) = row(&all);
    assert_eq!(
        fixes[1],
        format!(
            "{} --dry-run --data /d",
            of_412.trim_end_matches(" --data /d")
        )
    );
    assert!(
        said.contains("The last fatal, n4: meta.json is not in the manifest. Its own seal")
            && !said.contains("the receiver has to take")
            && fix == seal,
        "{said}"
    );
    all.push(orphan("kept", LAST_COPY));
    let (said, fix, _) = row(&all);
    assert!(said.contains("2 orphan, 2 answered 412, 1 fatal"), "{said}");
    assert_eq!(fix, "sealift requeue --unpack kept --data /d");
}

#[test]
fn what_the_receiver_says_of_their_own_commits_counts_and_not_that_of_the_newest_episode() {
    for (admitted, is_dry) in [
        (&[Some(true), Some(true)][..], false),
        (&[Some(true), Some(false)], true),
        (&[Some(true), None], true),
        (&[Some(false), Some(false)], true),
        (&[None, None], false),
    ] {
        let of = |(n, is_admitted): (usize, &Option<bool>)| Quarantined {
            is_admitted: *is_admitted,
            ..quarantined(&format!("q{n}"), Some(412))
        };
        let fix = with(admitted.iter().enumerate().map(of).collect());
        assert_eq!(fix.contains("--dry-run"), is_dry, "{admitted:?}: {fix}");
    }
}

#[test]
fn one_that_can_only_be_looked_at_hides_none_that_something_mends() {
    let unreadable = Quarantined {
        unreadable: Some(("EIO".to_owned(), false)),
        ..quarantined("a", None)
    };
    let again = "sealift seal --again /d/quarantine/b";
    assert_eq!(with(vec![unreadable, quarantined("b", None)]), again);
}

#[test]
fn what_was_never_delivered_is_announced_a_week_before_it_is_deleted() {
    for (days, status) in [
        (8, RowStatus::Green),
        (7, RowStatus::Red),
        (0, RowStatus::Red),
        (-3, RowStatus::Red),
    ] {
        let facts = facts(|now| vec![one("a", None, days, now)]);
        let row = &rows(&facts)[1];
        assert_eq!(row.status, status, "{days}: {row:?}");
    }
    let mut facts = sound();
    facts.aside.as_mut().unwrap().shipped_due = 3;
    let row = &rows(&facts)[1];
    assert_eq!(row.status, RowStatus::Green);
    assert!(
        row.summary.contains("From shipped/ 3 episodes will go"),
        "{row:?}"
    );
}

#[test]
fn the_operators_command_comes_before_the_receivers_words_and_those_are_one_harmless_line() {
    let mut facts = facts(|now| vec![one("a", Some(412), 20, now), one("b", Some(422), 20, now)]);
    assert_eq!(remedy(&facts).as_deref(), Some("run-update-412"));
    let receiver = facts.receiver.as_mut().unwrap();
    receiver.remedy = Some(Remedy::Words("Ask Bob (or $(reboot)).".to_owned()));
    assert_eq!(
        remedy(&facts).as_deref(),
        Some("# The receiver says: Ask Bob (or $(reboot)).")
    );
    facts.settings.update_command = Some("git pull".to_owned());
    assert_eq!(remedy(&facts).as_deref(), Some("git pull"));
}

fn fix(change: impl FnOnce(&mut Facts, WallTime)) -> String {
    let mut facts = sound();
    let now = facts.now;
    change(&mut facts, now);
    rows(&facts)[0].fix.clone().unwrap()
}

fn with(quarantined: Vec<Quarantined>) -> String {
    fix(|facts, _| facts.aside.as_mut().unwrap().quarantined = quarantined)
}

#[test]
fn what_requeue_would_leave_has_another_fix() {
    let twice = || {
        let second = Quarantined {
            folder: "/d/quarantine/a~1".into(),
            ..quarantined("a", Some(422))
        };
        vec![quarantined("a", Some(422)), second]
    };
    let now = WallTime::from_unix_seconds(1_800_000_000);
    let newest = |mut all: Vec<Quarantined>, n: usize| {
        all[n].at = Some(now);
        with(all)
    };
    assert_eq!(
        newest(twice(), 1),
        "sealift requeue --folder --from quarantine 'a~1' --data /d"
    );
    assert_eq!(
        newest(twice(), 0),
        "sealift requeue --folder --from quarantine a --data /d"
    );
    let alike = vec![quarantined("a", Some(422)), quarantined("b", Some(422))];
    assert_eq!(with(alike), "sealift requeue --all --status 422 --data /d");
    let open = Quarantined {
        sealed: false,
        ..quarantined("a", None)
    };
    assert_eq!(with(vec![open]), "sealift seal /d/quarantine/a");
    let denied = Quarantined {
        unreadable: Some(("no".to_owned(), true)),
        ..quarantined("a", None)
    };
    assert_eq!(
        with(vec![denied]),
        "sealift setup --give /d/quarantine/a --data /d"
    );
    let broken = Quarantined {
        unreadable: Some(("EIO".to_owned(), false)),
        ..quarantined("a", None)
    };
    assert_eq!(with(vec![broken.clone()]), "ls -la /d/quarantine/a");
    // It would be rejected again.
    let again = "sealift seal --again /d/quarantine/a";
    assert_eq!(with(vec![quarantined("a", None)]), again);
    let resealed = Quarantined {
        resealed: true,
        ..quarantined("a", None)
    };
    assert_eq!(with(vec![resealed]), "sealift requeue a --data /d");
    let without_a_commit = Quarantined {
        lacks_commit: true,
        ..quarantined("a", Some(400))
    };
    assert_eq!(with(vec![without_a_commit]), again);
    // What can come back comes first.
    assert_eq!(
        newest(vec![broken, quarantined("b", Some(422))], 0),
        "sealift requeue b --data /d"
    );
}

#[test]
fn an_archive_without_its_episode_is_unpacked_out_of_sight_and_one_that_was_removed_by_hand_is_only_shown()
 {
    let orphan = |why: &str, name: &str| {
        with(vec![Quarantined {
            verdict: ORPHAN.to_owned(),
            why: why.to_owned(),
            comes_back_as: EpisodeId::parse(name).ok(),
            ..quarantined("a", None)
        }])
    };
    let unpack = "sealift requeue --unpack a --data /d";
    assert_eq!(orphan("it may be the last copy", "a"), unpack);
    assert_eq!(orphan("nothing else has these bytes", "a-1"), unpack);
    assert_eq!(
        orphan("its folder was removed by hand", "a-1"),
        "ls -la /d/quarantine/a"
    );
}

#[test]
fn of_an_archive_without_its_episode_it_is_said_what_becomes_of_it_and_how_it_is_thrown_away() {
    let summary = |why: &str| {
        let mut facts = sound();
        facts.aside.as_mut().unwrap().quarantined = vec![Quarantined {
            verdict: ORPHAN.to_owned(),
            why: why.to_owned(),
            comes_back_as: EpisodeId::parse("a-1").ok(),
            ..quarantined("a", None)
        }];
        rows(&facts)[0].summary.clone()
    };
    let said = summary("nothing else has these bytes");
    assert!(
        said.contains("comes back as a-1") && said.ends_with(": rm -r /d/quarantine/a"),
        "{said}"
    );
    assert!(!summary("it may be the last copy").contains("rm -r"));
}
