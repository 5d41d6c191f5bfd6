//! Each thing that a daemon says breaks one check.

use super::*;
use crate::{
    model::snapshot::{
        HoldStatus, Log, Pause, RoomStatus, ShippedChange, StalledPart, StrangerStatus,
        TrialFinding, TrialKind,
    },
    operate::doctor::judge::healthy_host::sound,
};

/// Breaks one thing, and says what is wrong then.
fn with(breaks: impl FnOnce(&mut Snapshot)) -> Vec<DoctorRow> {
    let mut facts = sound();
    let DaemonState::Answers(snapshot) = &mut facts.daemon else {
        panic!()
    };
    breaks(snapshot);
    DaemonChecks::among(&facts).unwrap().problems()
}

fn finding(kind: TrialKind) -> TrialFinding {
    TrialFinding {
        kind,
        in_short: "short".to_owned(),
        what_to_do: format!("do about {kind:?}"),
        fix: None,
    }
}

fn hold() -> HoldStatus {
    HoldStatus {
        for_s: 300,
        why: "expired".to_owned(),
        status_code: None,
        next_probe_in_s: 20,
        weather: false,
        suspect: None,
        idle: false,
    }
}

#[test]
fn of_a_sound_daemon_nothing_is_wrong() {
    assert_eq!(with(|_| ()), []);
    assert_eq!(
        with(|told| told.trial = vec![finding(TrialKind::Copies)]),
        []
    );
    // It is taken again, and has said itself what is missing.
    assert_eq!(with(|told| told.log.lines_dropped = 9), []);
    // Its recorder is at work on it.
    let open = StrangerStatus {
        name: "-x".to_owned(),
        why: "why".to_owned(),
        sealed: false,
    };
    assert_eq!(
        with(|told| (told.strangers.count, told.strangers.some) = (1, vec![open])),
        []
    );
}

#[test]
fn each_thing_that_breaks_is_one_problem_with_a_fix() {
    let one = |breaks: fn(&mut Snapshot), id: Id, says: &str| {
        let said = with(breaks);
        let [row] = &said[..] else {
            panic!("{says}: {said:?}")
        };
        assert_eq!(row.id, id, "{row:?}");
        assert!(row.summary.contains(says), "{says}: {row:?}");
        assert!(
            row.fix.as_ref().is_some_and(|fix| !fix.is_empty()),
            "{row:?}"
        );
    };
    one(
        |told| told.stamps_move = Some("run-1".to_owned()),
        Id::Moves,
        "run-1 was delivered, and each time",
    );
    one(
        |told| told.trial = vec![finding(TrialKind::CopiesOnOneDevice)],
        Id::Moves,
        "do about CopiesOnOneDevice",
    );
    one(
        |told| told.archives_stranded = 2,
        Id::Waiting,
        "2 archives in outbox/ have no episode beside them",
    );
    one(
        |told| {
            told.counts.waiting = 1;
            told.oldest_waiting_s = Some(3600);
        },
        Id::Waiting,
        "says the daemon: 1, the oldest since 60 min",
    );
    one(
        |told| told.unclear = vec!["run-1: its done.marker is a directory".to_owned()],
        Id::Markers,
        "1 episode with a marker that cannot be read. run-1: its done.marker is a directory.",
    );
    one(
        |told| told.counts.conflict = 2,
        Id::Conflicts,
        "2 episodes are in conflict: the receiver holds other content",
    );
    one(
        |told| told.counts.refused = 1,
        Id::Refused,
        "1 episode is refused by something that is no receiver",
    );
    one(
        |told| told.metrics_failed = Some("127.0.0.1:1: in use".to_owned()),
        Id::Metrics,
        "at 127.0.0.1:1: in use",
    );
    one(
        |told| {
            told.strangers.count = 1;
            told.strangers.some = vec![StrangerStatus {
                name: "-x".to_owned(),
                why: "why".to_owned(),
                sealed: true,
            }];
        },
        Id::Names,
        "1 entry in episodes/ can be no episode. -x: why It was sealed, and is not shipped.",
    );
    one(
        |told| {
            told.room = vec![RoomStatus {
                folders: vec!["episodes".to_owned()],
                path: "/d/episodes".to_owned(),
                free_bytes: 100 << 30,
                free_files: Some(70_000),
                total_bytes: 200 << 30,
                filling_bytes_per_s: Some(10 << 20),
                lasts_s: Some(10_240),
            }];
        },
        Id::Space,
        "enough for 2 h at the present rate",
    );
}

#[test]
fn a_full_disk_is_a_problem_whatever_its_rate() {
    for (free_bytes, free_files) in [(0, None), (500 << 30, Some(0))] {
        let said = with(|told| {
            told.room = vec![RoomStatus {
                folders: vec!["outbox".to_owned()],
                path: "/d/outbox".to_owned(),
                free_bytes,
                free_files,
                total_bytes: 1 << 40,
                filling_bytes_per_s: None,
                lasts_s: None,
            }];
        });
        assert_eq!((said[0].id, said[0].status), (Id::Space, RowStatus::Red));
    }
}

#[test]
fn what_passes_by_itself_stands_behind_what_can_be_mended_until_it_has_lasted() {
    let said = |for_s, conflict| {
        let rows = with(|told| {
            let hold = HoldStatus {
                for_s,
                weather: true,
                ..hold()
            };
            told.destination.held = Some(hold);
            told.counts.conflict = conflict;
            told.shipped_changed = vec![ShippedChange {
                episode_id: "a".to_owned(),
                folder: "a".to_owned(),
            }];
        });
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(said(299, 1), [Id::Conflicts, Id::ShippedChanged, Id::Hold]);
    assert_eq!(said(300, 0), [Id::Hold, Id::ShippedChanged]);
}

#[test]
fn each_thing_that_keeps_episodes_from_moving_is_told_the_worst_first() {
    let kinds = [
        TrialKind::UnmovableOpen,
        TrialKind::Unmovable,
        TrialKind::Stuck,
        TrialKind::Copies,
    ];
    let said = with(|told| told.trial = kinds.map(finding).into());
    let said: Vec<_> = said.iter().map(|row| row.summary.as_str()).collect();
    assert_eq!(
        said,
        [
            "do about Stuck",
            "do about Unmovable",
            "do about UnmovableOpen"
        ]
    );
    let findings = kinds.map(finding);
    let (status, first, said) = worst(&findings).unwrap();
    assert_eq!((status, first.kind), (RowStatus::Red, TrialKind::Stuck));
    assert_eq!(said, "do about Stuck Besides: short.");
}

fn of(id: Id, change: impl FnOnce(&mut Snapshot)) -> DoctorRow {
    let mut facts = sound();
    let DaemonState::Answers(snapshot) = &mut facts.daemon else {
        panic!()
    };
    change(snapshot);
    let rows = DaemonChecks::among(&facts).unwrap().of_itself();
    rows.into_iter().find(|row| row.id == id).unwrap()
}

#[test]
fn each_thing_that_the_daemon_says_turns_its_own_row() {
    let restart = "systemctl restart sealift.service";
    let journald = "systemctl restart systemd-journald";
    for (to_journal, fix) in [(true, journald), (false, restart)] {
        let stuck = Log {
            to_journal,
            lines_dropped: 3,
            stuck_for_s: Some(130),
        };
        let row = of(Id::Daemon, |snapshot| snapshot.log = stuck);
        assert_eq!(
            (row.status, row.fix.as_deref()),
            (RowStatus::Yellow, Some(fix))
        );
        assert_eq!(row.details["log_lines_dropped"], 3);
    }
    // That some are missing is in the log.
    assert_eq!(
        of(Id::Daemon, |snapshot| snapshot.log.lines_dropped = 3).status,
        RowStatus::Green
    );
    let row = of(Id::DaemonVersion, |snapshot| {
        snapshot.version = "0.0.9".to_owned();
    });
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Yellow, Some(restart))
    );
    let stalled = StalledPart {
        part: "the packing of a".to_owned(),
        episode_id: None,
        for_s: 130,
    };
    let row = of(Id::DaemonStalled, |snapshot| {
        snapshot.heart.stalled = vec![stalled];
    });
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Red, Some(restart))
    );
    let row = of(Id::DaemonWatching, |snapshot| {
        (snapshot.watch.mode, snapshot.watch.fix) =
            (NoticedBy::Blind, Some("sysctl a=1".to_owned()));
    });
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Yellow, Some("sysctl a=1"))
    );
    let row = of(Id::DaemonWatching, |snapshot| {
        snapshot.watch.last_look_failed = Some("EIO".to_owned());
    });
    assert_eq!(row.status, RowStatus::Red);
    let row = of(Id::Reload, |snapshot| {
        snapshot.reload.failed = Some("line 3".to_owned());
    });
    assert_eq!(row.status, RowStatus::Red);
    assert!(
        row.summary
            .ends_with("Then: systemctl reload sealift.service")
    );
    let row = of(Id::Reload, |snapshot| {
        snapshot.reload.restart_for = vec!["shipper.watch".to_owned()];
    });
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Yellow, Some(restart))
    );
    let hold = hold();
    let row = of(Id::Hold, |snapshot| {
        snapshot.destination.held = Some(hold.clone());
    });
    assert_eq!(
        (row.status, row.fix.as_deref()),
        (RowStatus::Red, Some("systemctl reload sealift.service"))
    );
    assert_eq!(
        row.summary,
        "Nothing is sent since 5 min: expired. It is tried again in 20 s."
    );
    for why in [
        "TLS failed: invalid peer certificate: expired on 2026-01-01",
        "TLS failed: invalid peer certificate: not valid yet",
        "TLS failed: the certificate is one of an authority: make it anew",
    ] {
        let hold = HoldStatus {
            why: why.to_owned(),
            ..hold.clone()
        };
        let row = of(Id::Hold, |snapshot| {
            snapshot.destination.url = "https://receiver.example:8490".to_owned();
            snapshot.destination.held = Some(hold);
        });
        let fix = row.fix.as_deref().unwrap();
        assert!(
            fix.starts_with("openssl s_client -connect receiver.example:8490 "),
            "a reload mends nothing: {row:?}"
        );
        assert!(row.summary.contains("its operator"), "{row:?}");
    }
    let unresolved = HoldStatus {
        why: "the receiver's name cannot be resolved: no such host".to_owned(),
        ..hold.clone()
    };
    let row = of(Id::Hold, |snapshot| {
        snapshot.destination.held = Some(unresolved);
    });
    assert!(row.summary.contains("Is receiver.url right"), "{row:?}");
    for (status, why) in [
        (
            501,
            "answered 501 with Error response (not a receiver's words)",
        ),
        (
            413,
            "answered 413 with 413 Request Entity Too Large (not a receiver's words)",
        ),
        (301, "answered 301 with nothing"),
    ] {
        let hold = HoldStatus {
            status_code: Some(status),
            why: why.to_owned(),
            ..hold.clone()
        };
        let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
        assert!(row.fix.unwrap().ends_with("sealift.toml"), "{status}");
        assert!(row.summary.contains("Then: systemctl reload"), "{status}");
        assert!(
            row.summary.contains(why) && row.summary.contains("receiver.url"),
            "{}",
            row.summary
        );
    }
    for (status_code, why, key) in [
        (
            Some(401),
            "answered 401 with The token is not known here.",
            "receiver.token_file",
        ),
        (
            Some(403),
            "answered 403 with not you",
            "receiver.client_cert_file",
        ),
        (
            None,
            "the receiver refuses our client certificate: it has expired",
            "receiver.client_cert_file",
        ),
    ] {
        let hold = HoldStatus {
            status_code,
            why: why.to_owned(),
            ..hold.clone()
        };
        let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
        assert!(
            row.summary.contains(key) && !row.summary.contains("receiver.url"),
            "{row:?}"
        );
        assert!(row.fix.unwrap().ends_with("sealift.toml"), "{why}");
    }
    for (for_s, status) in [
        (0, RowStatus::Yellow),
        (299, RowStatus::Yellow),
        (300, RowStatus::Red),
    ] {
        let hold = HoldStatus {
            for_s,
            weather: true,
            ..hold.clone()
        };
        let told = with(|snapshot| snapshot.destination.held = Some(hold.clone()));
        assert!(
            told[0].fix.is_none() && told[0].summary.contains("by itself"),
            "{told:?}"
        );
        let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
        assert_eq!(row.status, status, "{for_s}");
    }
    let row = of(Id::Hold, |snapshot| {
        (snapshot.destination.unanswered, snapshot.counts.ready) = (4, 9);
    });
    assert_eq!(row.status, RowStatus::Yellow);
    assert!(
        row.summary
            .starts_with("4 uploads were sent to their last byte"),
        "{row:?}"
    );
    // It was removed, say, before better weather came: the daemon cannot know of that.
    for (weather, suspect, status) in [
        (true, None, RowStatus::Green),
        (false, Some("run-7"), RowStatus::Green),
        (false, None, RowStatus::Red),
    ] {
        let suspect = suspect.map(str::to_owned);
        let hold = HoldStatus {
            for_s: 4000,
            weather,
            suspect,
            idle: true,
            ..hold.clone()
        };
        let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
        assert_eq!(row.status, status, "{row:?}");
        assert_eq!(
            row.summary.contains("the next episode is tried at once"),
            status == RowStatus::Green
        );
    }
    for (for_s, status) in [
        (2, RowStatus::Yellow),
        (299, RowStatus::Yellow),
        (300, RowStatus::Red),
    ] {
        let hold = HoldStatus {
            for_s,
            suspect: Some("run-7".to_owned()),
            ..hold.clone()
        };
        let row = of(Id::Hold, |snapshot| snapshot.destination.held = Some(hold));
        assert_eq!(
            row.status, status,
            "{for_s}: what one alone has met may be its own"
        );
        assert!(
            row.summary.starts_with("run-7 was answered ")
                && !row.summary.contains("Nothing is sent")
        );
    }
    let pause = Pause {
        why: "no room".to_owned(),
        for_s: None,
    };
    assert_eq!(
        of(Id::Hold, |snapshot| snapshot.packing_paused = Some(pause)).status,
        RowStatus::Yellow
    );
}
