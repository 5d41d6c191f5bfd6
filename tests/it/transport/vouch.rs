//! What speaks for a 200 without a receipt.

use sealift::model::wire::ProblemType;

use super::*;

/// Answers PUT so, and HEAD so.
async fn server(put: &'static str, head: &'static str) -> Server {
    Server::new(move |mut peer: Peer| async move {
        while let Some((asked, _)) = peer.request().await {
            peer.say(&if asked.starts_with("head") {
                format!("HTTP/1.1 {head}\r\n\r\n")
            } else {
                format!("HTTP/1.1 {put}\r\n\r\n")
            })
            .await;
        }
    })
    .await
}

#[tokio::test]
async fn a_200_without_a_receipt_is_asked_after_at_the_same_address() {
    // Of the archive "archive".
    let digest: &'static str = Box::leak(Digest::of(b"archive").to_header().into_boxed_str());
    let shows =
        |line: &str| -> &'static str { Box::leak(format!("200 OK\r\n{line}").into_boxed_str()) };
    let right = shows(&format!("Content-Length: 7\r\nRepr-Digest: {digest}"));
    let digest_alone = shows(&format!("Content-Length: 9\r\nRepr-Digest: {digest}"));
    let other: &'static str = Box::leak(Digest::of(b"another").to_header().into_boxed_str());
    let another = shows(&format!("Content-Length: 7\r\nRepr-Digest: {other}"));
    const BARE: &str = "200 OK\r\nContent-Length: 0";
    for (put, head, expected) in [
        (BARE, "200 OK\r\nContent-Length: 7", Some(Voucher::Length)),
        (BARE, right, Some(Voucher::Head)),
        (BARE, digest_alone, Some(Voucher::Head)),
        // An unrouted address answers so, whatever is asked.
        (
            BARE,
            "200 OK\r\nContent-Length: 0",
            Some(Voucher::OtherLength(0)),
        ),
        (BARE, "404 Not Found\r\nContent-Length: 7", None),
        (BARE, "405 Method Not Allowed\r\nContent-Length: 0", None),
        (BARE, "204 No Content", None),
        (BARE, another, None),
        (
            "200 OK\r\nETag: \"abc\"\r\nContent-Length: 0",
            "404 No\r\nContent-Length: 0",
            Some(Voucher::StrongEtag),
        ),
        (
            "200 OK\r\nETag: W/\"abc\"\r\nContent-Length: 0",
            "404 No\r\nContent-Length: 0",
            None,
        ),
        (
            "200 OK\r\nETag: abc\r\nContent-Length: 0",
            "404 No\r\nContent-Length: 0",
            None,
        ),
        // What was created is believed by that.
        (
            "201 Created\r\nContent-Length: 0",
            "404 No\r\nContent-Length: 0",
            Some(Voucher::Status),
        ),
    ] {
        let server = server(put, head).await;
        let sandbox = Sandbox::to(server.url());
        let answer = answer(sandbox.deliver(sandbox.holding("a", b"archive")).await);
        match expected {
            Some(voucher) => assert_eq!(answer.voucher, voucher, "{put} {head}"),
            None => assert!(
                matches!(answer.voucher, Voucher::HeadDenies(_)),
                "{put} {head}: {answer:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_just_now_is_asked_another_time() {
    let server = server(
        "200 OK\r\nContent-Length: 0",
        "503 Busy\r\nContent-Length: 0",
    )
    .await;
    let sandbox = Sandbox::to(server.url());
    let answer = answer(sandbox.deliver(sandbox.holding("a", b"archive")).await);
    assert!(
        matches!(&answer.voucher, Voucher::HeadFailed(how) if how.contains("503")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn what_looks_like_an_error_is_believed_where_a_head_shows_the_digest_and_not_by_its_length()
{
    let digest = Digest::of(b"archive").to_header();
    for (body, is_asked_about) in [
        (r#"{"code":500,"message":"parts kept"}"#, true),
        (r#"{"error":"none"}"#, true),
        (r#"{"type":"urn:example:stored","title":"Stored"}"#, true),
        // No URI: a word for a kind.
        (r#"{"type":"episode","title":"run-7"}"#, false),
    ] {
        for (head, by_digest) in [
            (
                format!("200 OK\r\nContent-Length: 7\r\nRepr-Digest: {digest}"),
                true,
            ),
            ("200 OK\r\nContent-Length: 7".to_owned(), false),
            ("503 Busy\r\nContent-Length: 0".to_owned(), false),
        ] {
            let said = head.clone();
            let server = Server::new(move |mut peer: Peer| {
                let said = said.clone();
                async move {
                    while let Some((asked, _)) = peer.request().await {
                        match asked.starts_with("head") {
                            true => peer.say(&format!("HTTP/1.1 {said}\r\n\r\n")).await,
                            false => peer.answer("200 OK", JSON, body).await,
                        }
                    }
                }
            })
            .await;
            let sandbox = Sandbox::to(server.url());
            for transport in [
                sandbox.transport(),
                sandbox.transport().not_asking_of_bare_200(),
            ] {
                let believes = !is_asked_about || by_digest;
                let attempt = within(transport.deliver(sandbox.holding("a", b"archive"))).await;
                let voucher = answer(attempt).voucher;
                assert_eq!(
                    voucher != Voucher::Problem,
                    believes,
                    "{body} {head}: {voucher:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_question_that_is_never_answered_costs_an_upload_seconds_and_not_the_answer_time_out() {
    let server = || {
        Server::new(|mut peer: Peer| async move {
            while let Some((asked, _)) = peer.request().await {
                if asked.starts_with("head") {
                    peer.drain().await;
                } else {
                    peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await;
                }
            }
        })
    };
    let (vouches, resumes) = (server().await, server().await);
    let (bare, broken) = (Sandbox::to(vouches.url()), Sandbox::to(resumes.url()));
    let resumed = Delivery {
        resume: true,
        ..broken.of_length("a", 2 << 20)
    };
    let bare = bare.deliver(bare.holding("a", b"archive"));
    let (bare, resumed) = tokio::join!(bare, broken.deliver(resumed));
    assert!(matches!(answer(bare).voucher, Voucher::HeadFailed(_)));
    assert!(resumed.asked_in_vain && !resumed.sent, "{resumed:?}");
}

#[tokio::test]
async fn what_is_too_large_for_a_receiver_is_heard_behind_a_front_that_hides_early_answers() {
    for (max_bytes, status) in [(LARGE - 1, 413), (LARGE, 503)] {
        let server = Server::new(move |mut peer: Peer| async move {
            let Some(head) = peer.head().await else {
                return;
            };
            if head.starts_with("get /v1/admission") {
                let asked =
                    header(&head, "upload-length").map(|length| length.parse::<u64>().unwrap());
                let problem =
                    json!({"type": "urn:sealift:too-large", "title": "Too large"}).to_string();
                return match asked {
                    Some(length) if length > max_bytes => {
                        peer.answer("413 Content Too Large", PROBLEM, &problem)
                            .await;
                    }
                    _ => peer.say("HTTP/1.1 204 No Content\r\n\r\n").await,
                };
            }
            if head.starts_with("head") {
                return peer.answer("404 Not Found", PROBLEM, "").await;
            }
            peer.answer("503 Backend fetch failed", "text/html", "<html>no")
                .await;
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let answered = answer(sandbox.deliver(sandbox.of_length("a", LARGE)).await);
        assert_eq!(answered.status, status, "up to {max_bytes}: {answered:?}");
    }
}

#[tokio::test]
async fn no_head_is_sent_where_the_operators_word_is_enough() {
    let server = server("200 OK\r\nContent-Length: 0", "200 OK\r\nContent-Length: 7").await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport().not_asking_of_bare_200();
    let attempt = within(transport.deliver(sandbox.holding("a", b"archive"))).await;
    assert_eq!(answer(attempt).voucher, Voucher::Status);
}

#[tokio::test]
async fn what_a_receiver_refuses_early_is_heard_though_a_front_answers_with_an_error_of_its_own() {
    let problem =
        json!({"type": "urn:sealift:commit-out-of-window", "title": "Too old", "head_commit": "b"});
    for (front, size_bytes, heard) in [
        (Some("503 Backend fetch failed"), LARGE, true),
        (Some("502 Bad Gateway"), LARGE, true),
        (None, LARGE, true),
        (Some("502 Gateway in JSON"), LARGE, true),
        // A small one is through before it can be refused.
        (Some("503 Backend fetch failed"), 1000, false),
    ] {
        let said = problem.to_string();
        let server = Server::new(move |mut peer: Peer| {
            let said = said.clone();
            async move {
                let Some(head) = peer.head().await else {
                    return;
                };
                if head.starts_with("get /v1/admission") {
                    assert_eq!(
                        header(&head, "x-cis490-code-commit"),
                        Some(&*"a".repeat(40))
                    );
                    return peer.answer("412 Precondition Failed", PROBLEM, &said).await;
                }
                if head.starts_with("head") {
                    return peer.answer("404 Not Found", PROBLEM, "").await;
                }
                match front {
                    Some(front) if front.ends_with("JSON") => {
                        peer.answer(front, JSON, r#"{"message":"invalid response"}"#)
                            .await;
                    }
                    Some(front) => peer.answer(front, "text/html", "<html>no").await,
                    None => drop(peer.body(1 << 20).await),
                }
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let mut delivery = sandbox.of_length("a", size_bytes);
        delivery.commit = Commit::parse(&"a".repeat(40));
        let answered = answer(sandbox.deliver(delivery).await);
        assert_eq!(
            answered.status == 412,
            heard,
            "{front:?} {size_bytes}: {answered:?}"
        );
    }
}

#[tokio::test]
async fn a_conflict_is_heard_though_a_front_answers_with_an_error_of_its_own() {
    let other = |byte: u8| Digest([byte; 32]).to_header();
    // Only where both digests are shown it is a receiver of ours, which has verified what it holds.
    for (shows_content, status) in [(true, 409), (false, 503)] {
        let (held, content) = (other(8), other(9));
        let server = Server::new(move |mut peer: Peer| {
            let mut shown = format!("Repr-Digest: {held}\r\n");
            if shows_content {
                shown += &format!("Sealift-Content-Digest: {content}\r\n");
            }
            async move {
                let Some(head) = peer.head().await else {
                    return;
                };
                if head.starts_with("head /v1/episodes/") {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\n{shown}Content-Length: 9\r\nConnection: close\r\n\r\n"
                    );
                    peer.say(&head).await;
                } else if head.starts_with("head") || head.starts_with("get") {
                    peer.answer("404 Not Found", PROBLEM, "").await;
                } else {
                    peer.answer("503 Backend fetch failed", "text/html", "<html>no")
                        .await;
                }
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let answered = answer(sandbox.deliver(sandbox.of_length("a", LARGE)).await);
        assert_eq!(answered.status, status, "{answered:?}");
        let is_conflict = answered.problem_type() == Some(ProblemType::Conflict);
        assert_eq!(is_conflict, shows_content, "{answered:?}");
    }
}

#[tokio::test]
async fn an_admission_that_says_nothing_leaves_it_as_it_was() {
    for admission in ["204 No Content", "404 Not Found", "503 Busy"] {
        let server = Server::new(move |mut peer: Peer| async move {
            while let Some(head) = peer.head().await {
                if head.starts_with("get") {
                    let not_found = r#"{"type":"urn:sealift:not-found"}"#;
                    let body = if admission.starts_with("404") {
                        not_found
                    } else {
                        ""
                    };
                    peer.answer(admission, PROBLEM, body).await;
                } else {
                    peer.answer("502 Bad Gateway", "text/html", "<html>no")
                        .await;
                    peer.drain().await;
                }
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let answered = answer(sandbox.deliver(sandbox.of_length("a", LARGE)).await);
        assert_eq!(answered.status, 502, "{admission}");
    }
}

#[tokio::test]
async fn what_is_held_already_is_not_refused_for_its_commit_behind_a_front_that_hides_early_answers()
 {
    for upload in [
        "204 No Content\r\nUpload-Offset: {size}\r\nUpload-Complete: ?1",
        "404 Not Found",
    ] {
        let facts = Sandbox::to("http://127.0.0.1:9")
            .of_length("a", LARGE)
            .facts;
        let upload = upload.replace("{size}", &LARGE.to_string());
        let kept = upload.starts_with("204");
        let digest = facts.sha256.to_header();
        let server = Server::new(move |mut peer: Peer| {
            let (upload, digest) = (upload.clone(), digest.clone());
            async move {
                while let Some(head) = peer.head().await {
                    if head.starts_with("get /v1/admission") {
                        let problem = r#"{"type":"urn:sealift:commit-out-of-window"}"#;
                        peer.answer("412 Precondition Failed", PROBLEM, problem)
                            .await;
                    } else if head.starts_with("head /v1/uploads") {
                        peer.say(&format!("HTTP/1.1 {upload}\r\nContent-Length: 0\r\n\r\n"))
                            .await;
                    } else if head.starts_with("head") {
                        let shown = format!("HTTP/1.1 200 OK\r\nRepr-Digest: {digest}\r\n");
                        peer.say(&format!("{shown}Content-Length: {LARGE}\r\n\r\n"))
                            .await;
                    } else {
                        peer.answer("503 Backend fetch failed", "text/html", "<html>no")
                            .await;
                        peer.drain().await;
                    }
                }
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let answered = answer(sandbox.deliver(sandbox.of_length("a", LARGE)).await);
        // Where the upload is known there, the attempt that goes on hears the receipt.
        let expected = if kept {
            (503, Voucher::Status)
        } else {
            (200, Voucher::Asked)
        };
        assert_eq!((answered.status, answered.voucher), expected, "{kept}");
    }
}
