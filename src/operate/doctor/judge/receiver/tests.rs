use serde_json::json;

use super::*;
use crate::{
    model::{
        episode::{Commit, EpisodeId},
        wire::Problem,
    },
    operate::doctor::{
        facts::{AskedCommit, NamedFile, Remedy},
        judge::healthy_host::sound,
        row::RowStatus,
    },
};

fn with(said: ReceiverAnswer) -> Facts {
    let mut facts = sound();
    facts.receiver.as_mut().unwrap().said = said;
    facts
}

fn answer(status: u16, json: Option<Value>) -> ReceiverAnswer {
    ReceiverAnswer::Answered {
        status,
        json,
        html: false,
        location: None,
        date: Some(sound().now),
        certificate_ends: None,
    }
}

fn problem(kind: ProblemType) -> Option<Value> {
    Some(
        Problem::new(kind, "why")
            .with("remediation", "run-update --now")
            .to_json(),
    )
}

/// The first row that is not green, and how many are not.
fn first(facts: &Facts) -> Option<(Id, RowStatus, String)> {
    let rows = crate::operate::doctor::row::DoctorReport::of(rows(facts)).rows;
    let bad: Vec<_> = rows
        .into_iter()
        .filter(|row| row.status != RowStatus::Green)
        .collect();
    assert!(bad.len() <= 1, "{bad:?}");
    bad.into_iter()
        .next()
        .map(|row| (row.id, row.status, row.fix.unwrap()))
}

#[test]
fn each_way_in_which_a_receiver_cannot_be_reached_turns_exactly_its_row() {
    let expired = ClientError::Tls("invalid peer certificate: certificate expired".to_owned());
    let wants = ClientError::Tls(
        "certificate required (the receiver asks for a client certificate: set ..)".to_owned(),
    );
    for (error, id, fix) in [
        (
            ClientError::UnknownName("dns".to_owned()),
            Id::ReceiverName,
            "/etc/sealift/sealift.toml",
        ),
        (
            ClientError::Unreachable("refused".to_owned()),
            Id::ReceiverReachable,
            "curl -v --max-time 5 https://receiver.example:8490/healthz",
        ),
        (
            ClientError::TimedOut(Wait::Connect),
            Id::ReceiverReachable,
            "curl -v",
        ),
        (
            ClientError::TimedOut(Wait::Answer),
            Id::ReceiverAnswer,
            "curl -v",
        ),
        (
            ClientError::Lost("reset".to_owned()),
            Id::ReceiverAnswer,
            "curl -v",
        ),
        (
            ClientError::Tls("UnknownIssuer".to_owned()),
            Id::ReceiverTls,
            "/etc/sealift/sealift.toml",
        ),
        (
            expired,
            Id::ReceiverCertificate,
            "openssl s_client -connect receiver.example:8490",
        ),
        (wants, Id::ReceiverCredential, "/etc/sealift/sealift.toml"),
    ] {
        let shown = error.to_string();
        let is_weather = !matches!(error, ClientError::Tls(_));
        let mut facts = with(ReceiverAnswer::Failed(error));
        for lasts_s in [None, Some(WEATHER_LASTS_S - 1), Some(WEATHER_LASTS_S)] {
            destination(&mut facts).held = lasts_s.map(held);
            let (found, status, command) = first(&facts).unwrap();
            let red = !is_weather || lasts_s == Some(WEATHER_LASTS_S);
            let colour = if red {
                RowStatus::Red
            } else {
                RowStatus::Yellow
            };
            assert_eq!((found, status), (id, colour), "{shown} {lasts_s:?}");
            assert!(command.contains(fix), "{shown}: {command}");
        }
    }
}

fn destination(facts: &mut Facts) -> &mut crate::model::snapshot::DestinationStatus {
    let DaemonState::Answers(snapshot) = &mut facts.daemon else {
        panic!()
    };
    &mut snapshot.destination
}

fn held(for_s: u64) -> HoldStatus {
    HoldStatus {
        for_s,
        why: "cannot be reached".to_owned(),
        status_code: None,
        next_probe_in_s: 1,
        weather: true,
        suspect: None,
        idle: false,
    }
}

#[test]
fn one_question_that_meets_the_weather_is_red_only_once_the_daemon_has_been_held_by_it_for_five_minutes()
 {
    // Nothing else says how long it lasts: without a daemon that answers it is not known to have
    // lasted.
    for error in [
        ClientError::UnknownName("dns".to_owned()),
        ClientError::Unreachable("refused".to_owned()),
        ClientError::TimedOut(Wait::Idle),
        ClientError::Stale("reset".to_owned()),
    ] {
        let mut facts = with(ReceiverAnswer::Failed(error));
        destination(&mut facts).last_delivery_ago_s = Some(4);
        let row = rows(&facts)
            .into_iter()
            .find(|row| row.status != RowStatus::Green)
            .unwrap();
        assert!(
            row.status == RowStatus::Yellow && row.summary.contains("delivered 4 s ago"),
            "{row:?}"
        );
        facts.daemon = DaemonState::None;
        assert_eq!(first(&facts).unwrap().1, RowStatus::Yellow);
    }
}

#[test]
fn a_receiver_that_took_an_episode_just_now_and_does_not_answer_is_not_said_to_need_a_start() {
    let mut facts = with(ReceiverAnswer::Failed(ClientError::TimedOut(Wait::Answer)));
    for (ago_s, is_to_wait) in [(Some(3), true), (Some(60), false), (None, false)] {
        destination(&mut facts).last_delivery_ago_s = ago_s;
        let row = rows(&facts)
            .into_iter()
            .find(|row| row.status != RowStatus::Green)
            .unwrap();
        assert_eq!(
            row.summary.contains("one connection at a time"),
            is_to_wait,
            "{row:?}"
        );
        let fix = row.fix.as_deref().unwrap();
        assert_eq!(fix.contains("sealift doctor"), is_to_wait, "{fix}");
    }
}

#[test]
fn what_takes_episodes_may_answer_the_doctors_own_question_as_it_likes() {
    let page = ReceiverAnswer::Answered {
        status: 200,
        json: None,
        html: true,
        location: None,
        date: None,
        certificate_ends: None,
    };
    let gateway = || Some(json!({"message": "Unprocessable"}));
    for (said, colour) in [
        (answer(400, None), None),
        (answer(422, gateway()), None),
        (answer(415, None), None),
        (answer(302, None), Some(RowStatus::Yellow)),
        (answer(407, None), Some(RowStatus::Yellow)),
        (page, Some(RowStatus::Yellow)),
        (
            answer(400, problem(ProblemType::IdInvalid)),
            Some(RowStatus::Yellow),
        ),
        (
            answer(412, problem(ProblemType::CommitOutOfWindow)),
            Some(RowStatus::Red),
        ),
        (answer(401, None), Some(RowStatus::Red)),
    ] {
        let shown = format!("{said:?}");
        let mut facts = with(said);
        destination(&mut facts).last_delivery_ago_s = Some(4);
        assert_eq!(
            first(&facts).map(|(_, status, _)| status),
            colour,
            "{shown}"
        );
        // Held, whatever for, it is not known to take any.
        destination(&mut facts).held = Some(HoldStatus {
            weather: false,
            ..held(1)
        });
        assert_eq!(first(&facts).unwrap().1, RowStatus::Red, "{shown}");
    }
}

#[test]
fn each_answer_turns_exactly_its_row() {
    use ProblemType as P;
    let red = |id, fix: &'static str| Some((id, RowStatus::Red, fix));
    for (status, json, expected) in [
        (204, None, None),
        (200, Some(json!({})), None),
        (404, None, None),
        (405, None, None),
        (501, None, None),
        (403, None, None),
        (
            404,
            problem(P::NotFound),
            red(Id::ReceiverAnswer, "/etc/sealift/sealift.toml"),
        ),
        (
            301,
            None,
            red(Id::ReceiverAnswer, "/etc/sealift/sealift.toml"),
        ),
        (
            401,
            problem(P::Unauthenticated),
            red(Id::ReceiverCredential, "/etc/sealift/sealift.toml"),
        ),
        (
            401,
            None,
            red(Id::ReceiverCredential, "/etc/sealift/sealift.toml"),
        ),
        (
            403,
            problem(P::Forbidden),
            red(Id::ReceiverCredential, "/etc/sealift/sealift.toml"),
        ),
        (
            412,
            problem(P::CommitOutOfWindow),
            red(Id::ReceiverCommit, "/etc/sealift/sealift.toml"),
        ),
        (412, None, red(Id::ReceiverAnswer, "")),
        (
            400,
            problem(P::CommitMissing),
            red(
                Id::ReceiverCommit,
                "find /d/episodes -mindepth 1 -maxdepth 1 -type d ! -exec grep -qs code_version {}/meta.json ';' -printf '%p/meta.json\\n'",
            ),
        ),
        (400, None, red(Id::ReceiverAnswer, "")),
        (407, None, red(Id::ReceiverAnswer, "")),
        (
            429,
            None,
            Some((Id::ReceiverAnswer, RowStatus::Yellow, "curl")),
        ),
        (
            503,
            None,
            Some((Id::ReceiverAnswer, RowStatus::Yellow, "curl")),
        ),
        (507, problem(P::NoSpace), red(Id::ReceiverAnswer, "curl")),
    ] {
        let found = first(&with(answer(status, json.clone())));
        let shown = found.as_ref().map(|(id, status, _)| (*id, *status));
        assert_eq!(
            shown,
            expected.map(|(id, status, _)| (id, status)),
            "{status} {json:?}"
        );
        if let (Some((_, _, fix)), Some((_, _, part))) = (found, expected) {
            assert!(fix.contains(part), "{status}: {fix}");
        }
    }
    let page = ReceiverAnswer::Answered {
        status: 200,
        json: None,
        html: true,
        location: None,
        date: None,
        certificate_ends: None,
    };
    assert_eq!(first(&with(page)).unwrap().0, Id::ReceiverAnswer);
}

#[test]
fn a_window_is_no_fault_where_there_is_no_episode_to_ask_with() {
    let mut facts = with(answer(400, problem(ProblemType::CommitMissing)));
    facts.receiver.as_mut().unwrap().commit = AskedCommit::NoEpisodes;
    assert_eq!(first(&facts), None);
    for commit in [AskedCommit::LastNone, AskedCommit::Unknown] {
        facts.receiver.as_mut().unwrap().commit = commit;
        assert_eq!(first(&facts).unwrap().1, RowStatus::Yellow);
    }
    facts.receiver.as_mut().unwrap().commit = AskedCommit::None;
    facts.settings.update_command = Some("git pull".to_owned());
    assert_eq!(first(&facts).unwrap().2, "git pull");
}

#[test]
fn the_commit_that_is_refused_is_named_with_the_episode_that_has_it() {
    let mut facts = with(answer(412, problem(ProblemType::CommitOutOfWindow)));
    let commit = Commit::parse(&"ab".repeat(20)).unwrap();
    facts.receiver.as_mut().unwrap().commit =
        AskedCommit::Of(EpisodeId::parse("run-7").unwrap(), commit);
    let row = rows(&facts)
        .into_iter()
        .find(|row| row.id == Id::ReceiverCommit)
        .unwrap();
    assert!(
        row.summary
            .starts_with("It does not take recordings of abababababab, as run-7 is"),
        "{row:?}"
    );
    // What left decides nothing any more.
    let receiver = facts.receiver.as_mut().unwrap();
    receiver.remedy = Some(Remedy::Command("run-update --now".to_owned()));
    let AskedCommit::Of(id, commit) = receiver.commit.clone() else {
        panic!()
    };
    receiver.commit = AskedCommit::Last(id, commit);
    assert_eq!(
        first(&facts),
        Some((
            Id::ReceiverCommit,
            RowStatus::Yellow,
            "run-update --now".to_owned()
        ))
    );
}

#[test]
fn certificates_are_announced_before_they_end() {
    for (days, status) in [
        (400, RowStatus::Green),
        (30, RowStatus::Green),
        (29, RowStatus::Yellow),
        (3, RowStatus::Yellow),
        (2, RowStatus::Red),
        (-1, RowStatus::Red),
    ] {
        let mut facts = sound();
        let ends = WallTime::from_unix_seconds(facts.now.unix_seconds() + days * DAY_S);
        facts.settings.client_certificate_ends = Some(("/etc/host.pem".into(), ends));
        let ReceiverAnswer::Answered {
            certificate_ends, ..
        } = &mut facts.receiver.as_mut().unwrap().said
        else {
            panic!()
        };
        *certificate_ends = Some(ends);
        for id in [Id::ClientCertificate, Id::ReceiverCertificate] {
            let row = rows(&facts).into_iter().find(|row| row.id == id).unwrap();
            assert_eq!(row.status, status, "{days}: {row:?}");
            assert_eq!(row.details["days_left"], days);
        }
    }
}

#[test]
fn a_certificate_is_renewed_together_with_its_key() {
    let mut facts = sound();
    facts.settings.client_certificate_ends = Some(("/etc/sealift/host.pem".into(), facts.now));
    facts.settings.files.push(NamedFile {
        key: "receiver.client_key_file",
        path: "/etc/sealift/host.key".into(),
        secret: true,
        owned: Err(String::new()),
        way: Vec::new(),
        unreadable: None,
    });
    let row = rows(&facts);
    let row = row.iter().find(|row| row.id == Id::ClientCertificate);
    let row = row.unwrap();
    assert_eq!(
        row.fix.as_deref(),
        Some(
            "openssl x509 -noout -subject -issuer -ext subjectAltName -enddate -in /etc/sealift/host.pem"
        )
    );
    assert!(
        row.summary.contains(
            "copy it over /etc/sealift/host.pem and its key over /etc/sealift/host.key (group 20, mode 640). Then: systemctl reload "
        ),
        "{row:?}"
    );
}

#[test]
fn a_certificate_that_no_receiver_takes_is_red_however_long_it_is_good() {
    let mut facts = sound();
    let ends = WallTime::from_unix_seconds(facts.now.unix_seconds() + 400 * DAY_S);
    facts.settings.client_certificate_ends = Some(("/etc/host.pem".into(), ends));
    facts.settings.client_certificate_fault = Some("it is not valid before then".to_owned());
    let mut rows = rows(&facts).into_iter();
    let row = rows.find(|row| row.id == Id::ClientCertificate).unwrap();
    assert_eq!(row.status, RowStatus::Red);
    assert!(row.summary.contains("not valid before then"), "{row:?}");
}

#[test]
fn clocks_may_be_two_minutes_apart() {
    for (ahead, status) in [
        (0, RowStatus::Green),
        (120, RowStatus::Green),
        (-121, RowStatus::Yellow),
        (86_401, RowStatus::Red),
        (-90_000, RowStatus::Red),
    ] {
        let facts = sound();
        let theirs = WallTime::from_unix_seconds(facts.now.unix_seconds() - ahead);
        let row = clock(&facts, Some(theirs));
        assert_eq!(row.status, status, "{row:?}");
    }
    let facts = Facts {
        now: WallTime::from_unix_seconds(1000),
        ..sound()
    };
    assert_eq!(clock(&facts, None).status, RowStatus::Red);
}

#[test]
fn the_receiver_is_asked_by_hand_as_we_ask_it() {
    let mut facts = with(answer(503, None));
    let file = |key, path: &str| NamedFile {
        key,
        path: path.into(),
        secret: false,
        way: Vec::new(),
        owned: Err(String::new()),
        unreadable: None,
    };
    facts.settings.files = vec![
        file("receiver.ca_file", "/etc/ca.pem"),
        file("receiver.client_cert_file", "/etc/host pem"),
        file("receiver.client_key_file", "/etc/key"),
        file("receiver.token_file", "/etc/token"),
    ];
    assert_eq!(
        first(&facts).unwrap().2,
        "curl -sv -o /dev/null --max-time 5 --cacert /etc/ca.pem --cert '/etc/host pem' --key /etc/key \
         https://receiver.example:8490/v1/admission"
    );
}

#[test]
fn a_receiver_that_is_away_is_started_by_its_unit_or_tried_and_it_is_said_where_it_is_started() {
    let mut facts = with(ReceiverAnswer::Failed(ClientError::Unreachable(
        "refused".to_owned(),
    )));
    let receiver = facts.receiver.as_mut().unwrap();
    (receiver.origin, receiver.host) = ("http://localhost:8490".to_owned(), "localhost".to_owned());
    let said = |facts: &Facts| {
        let rows = rows(facts);
        let row = rows.into_iter().find(|row| row.id == Id::ReceiverReachable);
        row.unwrap().summary
    };
    let by_hand = "curl -v --max-time 5 http://localhost:8490/healthz";
    assert_eq!(first(&facts).unwrap().2, by_hand);
    assert!(
        said(&facts).contains("start it here as it was started before"),
        "{}",
        said(&facts)
    );
    let receiver = facts.receiver.as_mut().unwrap();
    receiver.host = "receiver.example".to_owned();
    assert!(
        said(&facts).contains("on receiver.example: `systemctl status sealift-receiver`"),
        "{}",
        said(&facts)
    );
    facts.receiver.as_mut().unwrap().host = "localhost".to_owned();
    facts.receiver.as_mut().unwrap().unit_here = true;
    assert_eq!(
        first(&facts).unwrap().2,
        "systemctl start sealift-receiver.service"
    );
}
