use serde_json::json;

use super::*;
use crate::{model::episode::Digest, ship::outcome::Phase};

fn id() -> EpisodeId {
    EpisodeId::parse("run-1").unwrap()
}

fn sent() -> ArchiveFacts {
    ArchiveFacts {
        sha256: Digest([1; 32]),
        content_sha256: Digest([2; 32]),
        size_bytes: 10,
    }
}

fn receipt(sha256: Digest, content: Option<Digest>) -> Value {
    let mut receipt = json!({"episode_id": "run-1", "sha256": sha256, "size_bytes": 10,
        "stored_at": "2026-01-01T00:00:00Z"});
    if let Some(content) = content {
        receipt["content_sha256"] = json!(content);
    }
    receipt
}

fn verdict(status: u16, body: AnswerBody, require_receipt: bool) -> &'static str {
    vouched(
        status,
        body,
        Voucher::Status,
        Trust {
            require_receipt,
            ..Trust::default()
        },
    )
}

fn vouched(status: u16, body: AnswerBody, voucher: Voucher, trust: Trust) -> &'static str {
    let answer = Answer {
        head_says: String::new(),
        status,
        body,
        retry_after_s: None,
        server_date: None,
        of_this_host: false,
        voucher,
    };
    match judge(&Outcome::Answered(answer), &id(), &sent(), trust) {
        Verdict::Delivered(_) => "delivered",
        Verdict::Conflict(_) => "conflict",
        Verdict::Corrupted(_) => "corrupted",
        Verdict::Fatal(_) => "fatal",
        Verdict::Rejected(_, Speaker::Ours) => "rejected",
        Verdict::Rejected(_, Speaker::Another) => "rejected by another",
        Verdict::Refused(_) => "refused",
        Verdict::Hold(_) => "hold",
        Verdict::Transient { .. } => "transient",
        Verdict::Unsent(_) => "unsent",
    }
}

fn html() -> AnswerBody {
    AnswerBody::Foreign {
        html: true,
        excerpt: "<html>".into(),
    }
}

fn text() -> AnswerBody {
    AnswerBody::Foreign {
        html: false,
        excerpt: "no".into(),
    }
}

fn problem(kind: ProblemType) -> AnswerBody {
    AnswerBody::Json(crate::model::wire::Problem::new(kind, "why").to_json())
}

/// (status, written by a receiver, written by something else or empty). Everything from 100 to 599
/// that is not listed follows the rule of its hundred, spelled out below.
const TABLE: [(u16, &str, &str); 27] = [
    (200, "hold", "hold"),
    (201, "delivered", "delivered"),
    (204, "delivered", "delivered"),
    (202, "hold", "hold"),
    (206, "hold", "hold"),
    (401, "hold", "hold"),
    (402, "refused", "refused"),
    (403, "hold", "hold"),
    (404, "hold", "hold"),
    (405, "hold", "hold"),
    (407, "hold", "hold"),
    (408, "transient", "transient"),
    (409, "rejected by another", "refused"),
    (411, "hold", "hold"),
    (414, "refused", "refused"),
    (416, "refused", "refused"),
    (417, "refused", "refused"),
    (421, "hold", "hold"),
    (423, "refused", "refused"),
    (425, "transient", "transient"),
    (426, "hold", "hold"),
    (429, "transient", "transient"),
    (431, "refused", "refused"),
    (451, "refused", "refused"),
    (501, "hold", "hold"),
    (505, "hold", "hold"),
    (507, "transient", "transient"),
];

#[test]
fn every_status_from_100_to_599_has_its_verdict_whoever_wrote_it() {
    for status in 100..=599 {
        let (_, by_receiver, otherwise) =
            TABLE
                .into_iter()
                .find(|row| row.0 == status)
                .unwrap_or(match status {
                    100..=399 => (status, "hold", "hold"),
                    400..=499 => (status, "rejected by another", "refused"),
                    _ => (status, "transient", "transient"),
                });
        assert_eq!(
            verdict(status, AnswerBody::Json(json!({"ok": 1})), false),
            by_receiver,
            "{status}"
        );
        assert_eq!(
            verdict(status, AnswerBody::Empty, false),
            otherwise,
            "{status} empty"
        );
        assert_eq!(verdict(status, text(), false), otherwise, "{status} text");
        assert_eq!(verdict(status, html(), false), otherwise, "{status} html");
    }
}

#[test]
fn too_large_for_now_is_weather() {
    let answer = Answer {
        head_says: String::new(),
        status: 413,
        body: AnswerBody::Json(json!({})),
        retry_after_s: Some(60),
        server_date: None,
        of_this_host: false,
        voucher: Voucher::Status,
    };
    let verdict = judge(&Outcome::Answered(answer), &id(), &sent(), Trust::default());
    assert!(
        matches!(
            verdict,
            Verdict::Transient {
                retry_after_s: Some(60),
                ..
            }
        ),
        "{verdict:?}"
    );
}

#[test]
fn a_clock_is_believed_where_a_receiver_has_answered_and_its_own_word_before_a_proxys_date() {
    let at = WallTime::from_unix_seconds;
    let clock = |status, body| {
        let answer = Answer {
            head_says: String::new(),
            status,
            body,
            retry_after_s: None,
            server_date: Some(at(86_400)),
            of_this_host: false,
            voucher: Voucher::Status,
        };
        receivers_clock(&answer)
    };
    let stored = || AnswerBody::Json(receipt(Digest([1; 32]), None));
    assert_eq!(clock(201, stored()), Some(at(1_767_225_600)));
    // That is when it was stored, some day.
    assert_eq!(clock(200, stored()), Some(at(86_400)));
    assert_eq!(clock(503, AnswerBody::Json(json!({}))), Some(at(86_400)));
    assert_eq!(
        clock(201, AnswerBody::Empty),
        Some(at(86_400)),
        "a server that keeps files, and no more"
    );
    for (status, body) in [
        (502, html()),
        (503, AnswerBody::Empty),
        (200, html()),
        (413, text()),
        (
            201,
            AnswerBody::Garbled {
                excerpt: "{".into(),
            },
        ),
        (200, AnswerBody::Empty),
    ] {
        assert_eq!(clock(status, body.clone()), None, "{status} {body:?}");
    }
}

#[test]
fn only_a_receiver_can_quarantine_and_only_its_bytes_can_be_corrupted() {
    assert_eq!(
        verdict(400, problem(ProblemType::DigestMismatch), false),
        "corrupted"
    );
    assert_eq!(
        verdict(400, problem(ProblemType::Truncated), false),
        "corrupted"
    );
    // A precondition says nothing of a commit.
    use ProblemType as P;
    for kind in [P::DigestInvalid, P::HostInvalid, P::PreconditionFailed] {
        assert_eq!(verdict(kind.status(), problem(kind), false), "hold");
    }
    assert_eq!(
        verdict(409, problem(ProblemType::OffsetMismatch), false),
        "transient"
    );
    assert_eq!(
        verdict(412, problem(ProblemType::CommitOutOfWindow), false),
        "fatal"
    );
    for kind in [ProblemType::CommitMissing, ProblemType::TooLarge] {
        assert_eq!(verdict(kind.status(), problem(kind), false), "rejected");
    }
    for status in [400, 412, 413, 415, 422, 451] {
        assert_eq!(verdict(status, html(), false), "refused", "{status}");
    }
}

#[test]
fn only_a_matching_receipt_permits_retirement() {
    let other = Digest([9; 32]);
    let ours = sent();
    for (body, expected) in [
        (receipt(ours.sha256, None), "delivered"),
        (receipt(ours.sha256, Some(other)), "delivered"),
        (receipt(other, Some(ours.content_sha256)), "delivered"),
        (receipt(other, None), "hold"),
        (receipt(other, Some(other)), "hold"),
        (json!({"sha256": "short"}), "hold"),
        (
            json!({"episode_id": "run-2", "sha256": ours.sha256, "size_bytes": 1,
            "stored_at": "2026-01-01T00:00:00Z"}),
            "hold",
        ),
    ] {
        assert_eq!(
            verdict(201, AnswerBody::Json(body.clone()), true),
            expected,
            "{body}"
        );
        assert_eq!(
            verdict(200, AnswerBody::Json(body.clone()), false),
            expected,
            "{body}"
        );
    }
}

#[test]
fn what_is_no_receipt_of_ours_and_names_the_digest_of_what_was_sent_acknowledges_it() {
    let other = Digest([9; 32]);
    let ours = sent();
    let upper = ours.sha256.to_string().to_ascii_uppercase();
    for (body, expected) in [
        (
            json!({"ok": true, "id": "run-1", "sha256": ours.sha256, "bytes": 7}),
            "delivered",
        ),
        (json!({"sha256": upper}), "delivered"),
        (
            json!({"content_sha256": ours.content_sha256, "episode": "run-1"}),
            "delivered",
        ),
        (
            json!({"sha256": ours.sha256, "episode_id": "run-1", "size_bytes": "many"}),
            "hold",
        ),
        (json!({"sha256": other}), "hold"),
        (
            json!({"sha256": ours.sha256, "content_sha256": other}),
            "hold",
        ),
        (
            json!({"sha256": ours.sha256, "episode_id": "run-2"}),
            "hold",
        ),
        (json!({"sha256": ours.sha256, "episode_id": 7}), "hold"),
        (json!({"sha256": true}), "hold"),
    ] {
        let answered = AnswerBody::Json(body.clone());
        for status in [200, 201] {
            assert_eq!(
                verdict(status, answered.clone(), false),
                expected,
                "{status} {body}"
            );
            assert_eq!(
                verdict(status, answered.clone(), true),
                "hold",
                "a receipt is required: {body}"
            );
        }
        for voucher in [Voucher::Early, Voucher::Problem] {
            assert_eq!(
                vouched(200, answered.clone(), voucher, Trust::default()),
                "hold",
                "{body}"
            );
        }
    }
}

#[test]
fn a_bare_200_is_believed_only_where_something_vouches_for_it_and_a_201_by_itself() {
    let (cautious, believing) = (
        Trust::default(),
        Trust {
            believe_bare_200: true,
            ..Trust::default()
        },
    );
    let bodies = || {
        [
            AnswerBody::Empty,
            text(),
            AnswerBody::Json(json!({"ok": true})),
        ]
    };
    for body in bodies() {
        for (voucher, expected, believed) in [
            (Voucher::Status, "hold", "delivered"),
            (
                Voucher::HeadDenies("showed another digest".into()),
                "hold",
                "delivered",
            ),
            (Voucher::OtherLength(0), "hold", "delivered"),
            (Voucher::Problem, "hold", "hold"),
            (Voucher::Early, "hold", "hold"),
            (Voucher::StrongEtag, "delivered", "delivered"),
            (Voucher::Head, "delivered", "delivered"),
            (Voucher::Length, "delivered", "delivered"),
            (Voucher::Asked, "delivered", "delivered"),
            (
                Voucher::LengthOfAnother("/shipped/a".into()),
                "conflict",
                "delivered",
            ),
            (
                Voucher::LengthUnread("/shipped/a: EACCES".into()),
                "transient",
                "delivered",
            ),
        ] {
            assert_eq!(
                vouched(200, body.clone(), voucher.clone(), cautious),
                expected,
                "{voucher:?}"
            );
            assert_eq!(
                vouched(200, body.clone(), voucher.clone(), believing),
                believed,
                "{voucher:?}"
            );
            let created = if voucher == Voucher::Early {
                "hold"
            } else {
                "delivered"
            };
            for status in [201, 204] {
                assert_eq!(
                    vouched(status, body.clone(), voucher.clone(), cautious),
                    created,
                    "{voucher:?}"
                );
            }
        }
    }
    assert_eq!(
        vouched(200, html(), Voucher::StrongEtag, believing),
        "hold",
        "a portal"
    );
    assert_eq!(
        vouched(201, html(), Voucher::Status, cautious),
        "delivered",
        "mod_dav's page"
    );
    assert_eq!(verdict(201, html(), true), "hold", "no receipt");
}

#[test]
fn what_is_no_receiver_is_told_with_what_to_look_at() {
    let said = |voucher| {
        let answer = Answer {
            head_says: String::new(),
            status: 200,
            body: AnswerBody::Empty,
            retry_after_s: None,
            server_date: None,
            of_this_host: false,
            voucher,
        };
        match judge(&Outcome::Answered(answer), &id(), &sent(), Trust::default()) {
            Verdict::Hold(refusal) => refusal.detail,
            other => panic!("{other:?}"),
        }
    };
    for voucher in [
        Voucher::Early,
        Voucher::Problem,
        Voucher::HeadDenies("was answered 404".into()),
    ] {
        let said = said(voucher);
        assert!(
            said.contains("this is no receiver: is the host name or path right?"),
            "{said}"
        );
    }
    assert!(said(Voucher::HeadDenies("was answered 404".into())).contains("was answered 404"));
    let other = said(Voucher::OtherLength(7));
    assert!(
        other.contains(&format!(
            "showed 7 bytes, not {}: this is no",
            sent().size_bytes
        )),
        "{other}"
    );
}

#[test]
fn what_our_own_receiver_says_of_the_request_is_a_fault_of_the_address() {
    for kind in [
        ProblemType::IdInvalid,
        ProblemType::UploadInvalid,
        ProblemType::UnsupportedType,
    ] {
        assert_eq!(
            verdict(kind.status(), problem(kind), false),
            "hold",
            "{kind:?}"
        );
    }
}

#[test]
fn a_verdict_on_the_commit_quarantines_whoever_wrote_it() {
    for body in [
        json!({"your_commit": "a"}),
        json!({"head_commit": "b", "title": "old"}),
    ] {
        assert_eq!(
            verdict(412, AnswerBody::Json(body.clone()), false),
            "fatal",
            "{body}"
        );
        assert_eq!(
            verdict(422, AnswerBody::Json(body), false),
            "rejected by another"
        );
    }
    assert_eq!(
        verdict(412, AnswerBody::Json(json!({"message": "exists"})), false),
        "rejected by another"
    );
}

#[test]
fn a_receipt_that_cannot_be_read_is_not_none() {
    let garbled = || AnswerBody::Garbled {
        excerpt: "{".to_owned(),
    };
    for status in [200, 201, 204] {
        assert_eq!(verdict(status, garbled(), false), "hold", "{status}");
    }
    assert_eq!(verdict(422, garbled(), false), "refused");
    assert_eq!(verdict(503, garbled(), false), "transient");
}

#[test]
fn where_a_receipt_is_required_a_bare_acknowledgement_proves_nothing() {
    for body in [
        AnswerBody::Empty,
        text(),
        AnswerBody::Json(json!({"ok": true})),
    ] {
        assert_eq!(verdict(201, body.clone(), false), "delivered");
        assert_eq!(verdict(201, body, true), "hold");
    }
}

#[test]
fn every_fault_of_the_way_is_judged() {
    for (fault, expected) in [
        (Fault::Unreachable("x".into()), "transient"),
        (Fault::UnknownName("x".into()), "hold"),
        (Fault::Tls("expired".into()), "hold"),
        (Fault::TimedOut(Phase::Connect), "transient"),
        (Fault::TimedOut(Phase::Idle), "transient"),
        (Fault::TimedOut(Phase::Answer), "transient"),
        (Fault::Lost("reset".into()), "transient"),
        (Fault::Cancelled, "transient"),
        (Fault::Request("no token".into()), "hold"),
        (Fault::Archive("EIO".into()), "unsent"),
    ] {
        let verdict = judge(
            &Outcome::Failed(fault.clone()),
            &id(),
            &sent(),
            Trust::default(),
        );
        let name = match verdict {
            Verdict::Transient { .. } => "transient",
            Verdict::Hold(_) => "hold",
            Verdict::Unsent(_) => "unsent",
            Verdict::Delivered(_)
            | Verdict::Conflict(_)
            | Verdict::Corrupted(_)
            | Verdict::Fatal(_)
            | Verdict::Rejected(..)
            | Verdict::Refused(_) => "an answer's",
        };
        assert_eq!(name, expected, "{fault:?}");
    }
}

#[test]
fn a_receipt_for_another_episode_says_for_which_and_what_may_be_wrong() {
    let said = |named: &str| {
        let mut body = receipt(sent().sha256, None);
        body["episode_id"] = json!(named);
        let body = AnswerBody::Json(body);
        let answer = Answer {
            head_says: String::new(),
            status: 201,
            body,
            retry_after_s: None,
            server_date: None,
            of_this_host: false,
            voucher: Voucher::Status,
        };
        match judge(&Outcome::Answered(answer), &id(), &sent(), Trust::default()) {
            Verdict::Hold(refusal) => refusal.detail,
            other => panic!("{other:?}"),
        }
    };
    let named = "201 but the receipt names the episode run-1.tar.zst, not run-1";
    assert_eq!(
        said("run-1.tar.zst"),
        format!("{named}: does receiver.url end in .tar.zst?")
    );
    assert_eq!(
        said("run-2"),
        "201 but the receipt names the episode run-2, not run-1"
    );
}

#[test]
fn a_problem_is_told_by_its_detail_and_by_its_title_only_where_there_is_none() {
    for (body, shown) in [
        (
            json!({"title": "Conflict", "detail": "It holds another."}),
            "\"It holds another.\"",
        ),
        (json!({"title": "Conflict", "detail": " "}), "\"Conflict\""),
        (
            json!({"title": "Conflict", "remediation": "update"}),
            "\"Conflict; update\"",
        ),
        (json!({"status": 409}), "{\"status\":409}"),
    ] {
        assert_eq!(receiver_words(&body), shown);
    }
}

#[test]
fn a_remediation_is_shown_without_its_escapes_and_bounded() {
    let body = json!({"detail": "old", "remediation": "run \u{1b}[2Jupdate"});
    let answer = Answer {
        head_says: String::new(),
        status: 412,
        body: AnswerBody::Json(body),
        retry_after_s: None,
        server_date: None,
        of_this_host: false,
        voucher: Voucher::Status,
    };
    let shown = refusal(&answer).detail;
    assert_eq!(shown, "answered 412 with \"old; run \\u{1b}[2Jupdate\"");
    assert!(text::excerpt(&"x".repeat(9000)).chars().count() <= 301);
}
