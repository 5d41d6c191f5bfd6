//! Going on with an upload that broke off, against receivers by script: what is asked, and what is
//! sent then.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{
    JSON, PROBLEM, Sandbox, answered, fault, object,
    peer::{Peer, Server, header},
};
use sealift::{
    model::episode::Digest,
    ship::{outcome::Fault, transport::Delivery},
};

const LEN: usize = 3 << 20;

/// What the receiver is asked and sent, a line each: the request line's two words, the offset, and
/// how many bytes came.
type Heard = Arc<Mutex<Vec<String>>>;

/// A receiver that answers HEAD with these lines, and each PATCH with the next of `patches` (the
/// last one again).
async fn receiver(head: &'static str, patches: &'static [&'static str]) -> (Server, Heard) {
    let heard = Heard::default();
    let heard_there = Arc::clone(&heard);
    let server = Server::new(move |mut peer: Peer| {
        let heard = Arc::clone(&heard_there);
        async move {
            let mut patches = patches.iter();
            while let Some((request, body)) = peer.request().await {
                let method = request.split(' ').next().unwrap().to_owned();
                let offset = header(&request, "upload-offset").unwrap_or("-");
                heard
                    .lock()
                    .unwrap()
                    .push(format!("{method} {offset} {}", body.len()));
                match &*method {
                    "head" => peer.say(&format!("HTTP/1.1 {head}\r\n\r\n")).await,
                    "patch" => {
                        assert_eq!(
                            header(&request, "content-type"),
                            Some("application/partial-upload")
                        );
                        assert_eq!(header(&request, "upload-complete"), Some("?1"));
                        assert!(header(&request, "repr-digest").is_some());
                        assert!(header(&request, "sealift-content-digest").is_some());
                        peer.say(patches.next().unwrap_or(&"HTTP/1.1 500 Again\r\n\r\n"))
                            .await;
                    }
                    _ => {
                        peer.answer("201 Created", JSON, r#"{"sha256":"whole"}"#)
                            .await;
                    }
                }
            }
        }
    })
    .await;
    (server, heard)
}

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"sha256\":\"rest\"}";

fn asking(sandbox: &Sandbox, len: usize) -> Delivery {
    let bytes: Vec<u8> = (0..len).map(|at| (at / 7 % 251) as u8).collect();
    Delivery {
        resume: true,
        ..sandbox.holding("Lauf 7", &bytes)
    }
}

#[tokio::test]
async fn the_rest_goes_to_the_address_that_follows_from_the_digest() {
    let (server, heard) = receiver(
        "200 OK\r\nUpload-Offset: 1048577\r\nUpload-Length: 3145728",
        &[CREATED],
    )
    .await;
    let sandbox = Sandbox::to(server.url());
    let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
    assert_eq!(attempt.resumed_at_bytes, 1_048_577);
    assert_eq!(answered(attempt), (201, object(json!({"sha256": "rest"}))));
    assert_eq!(
        *heard.lock().unwrap(),
        ["head - 0", "patch 1048577 2097151"]
    );
}

#[tokio::test]
async fn the_bytes_that_are_sent_are_those_behind_the_offset() {
    let got = Arc::new(Mutex::new((String::new(), Vec::new())));
    let got_there = Arc::clone(&got);
    let server = Server::new(move |mut peer: Peer| {
        let got = Arc::clone(&got_there);
        async move {
            let head = peer.head().await.unwrap();
            peer.say("HTTP/1.1 204 No Content\r\nUpload-Offset: 2000000\r\n\r\n")
                .await;
            let (_, body) = peer.request().await.unwrap();
            *got.lock().unwrap() = (head, body);
            peer.say(CREATED).await;
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let delivery = asking(&sandbox, LEN);
    let sha256 = delivery.facts.sha256;
    let mut whole = vec![0; LEN];
    delivery.archive.read_at(0, &mut whole).unwrap();
    assert_eq!(answered(sandbox.deliver(delivery).await).0, 201);
    let got = got.lock().unwrap();
    assert!(
        got.0
            .starts_with(&format!("head /v1/uploads/lauf%207/{sha256} http/1.1")),
        "{}",
        got.0
    );
    assert!(
        header(&got.0, "sealift-host").is_some() && header(&got.0, "content-type").is_none(),
        "{}",
        got.0
    );
    assert_eq!(Digest::of(&got.1), Digest::of(&whole[2_000_000..]));
}

#[tokio::test]
async fn where_nothing_is_left_to_send_its_length_is_said_all_the_same() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await.unwrap();
        peer.say(
            "HTTP/1.1 204 No Content\r\nUpload-Offset: 3145728\r\nUpload-Complete: ?1\r\n\r\n",
        )
        .await;
        let head = peer.head().await.unwrap();
        // RFC 9110, section 8.6. Our receiver takes no upload without it.
        assert_eq!(header(&head, "content-length"), Some("0"), "{head}");
        peer.answer("200 OK", JSON, r#"{"sha256":"held"}"#).await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
    assert_eq!(answered(attempt), (200, object(json!({"sha256": "held"}))));
}

#[tokio::test]
async fn a_receiver_that_has_nothing_or_does_not_know_how_gets_the_whole() {
    for head in [
        "404 Not Found",
        "405 Method Not Allowed",
        "501 Not Implemented",
        "403 Forbidden",
        "200 OK",
        "200 OK\r\nUpload-Offset: many",
        "200 OK\r\nUpload-Offset: 99999999",
        "200 OK\r\nUpload-Offset: 5\r\nUpload-Length: 7",
    ] {
        let (server, heard) = receiver(head, &[]).await;
        let sandbox = Sandbox::to(server.url());
        let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
        assert_eq!(attempt.resumed_at_bytes, 0, "{head}");
        assert_eq!(
            answered(attempt),
            (201, object(json!({"sha256": "whole"}))),
            "{head}"
        );
        assert_eq!(
            *heard.lock().unwrap(),
            ["head - 0", "put - 3145728"],
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_receiver_that_cannot_say_just_now_is_asked_again_and_nothing_is_sent_from_the_start() {
    for (head, retry_after_s) in [
        ("503 Service Unavailable\r\nRetry-After: 2", Some(2)),
        ("429 Too Many", None),
        ("500 Oops", None),
    ] {
        let (server, heard) = receiver(head, &[]).await;
        let sandbox = Sandbox::to(server.url());
        let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
        assert!(attempt.asked_in_vain && !attempt.sent, "{head}");
        let answer = super::answer(attempt);
        assert_eq!(answer.retry_after_s, retry_after_s, "{head}");
        assert_eq!(*heard.lock().unwrap(), ["head - 0"], "{head}");
    }
}

#[tokio::test]
async fn a_question_that_is_cut_off_on_the_way_was_asked_in_vain() {
    // After some of these the whole is sent: something on the way may let no HEAD through.
    let server = Server::new(|mut peer: Peer| async move {
        drop(peer.head().await);
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
    assert!(attempt.asked_in_vain && !attempt.sent);
    assert!(matches!(fault(attempt), Fault::Lost(_)));
}

#[tokio::test]
async fn what_was_kept_and_is_gone_again_is_sent_whole_within_the_attempt() {
    const GONE: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let (server, heard) = receiver("204 No Content\r\nUpload-Offset: 3000000", &[GONE]).await;
    let sandbox = Sandbox::to(server.url());
    let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
    assert_eq!(attempt.resumed_at_bytes, 0);
    assert_eq!(answered(attempt).0, 201);
    assert_eq!(
        *heard.lock().unwrap(),
        ["head - 0", "patch 3000000 145728", "put - 3145728"]
    );
}

#[tokio::test]
async fn a_receiver_that_stands_elsewhere_is_believed_once() {
    const ELSEWHERE: &str =
        "HTTP/1.1 409 Conflict\r\nUpload-Offset: 3100000\r\nContent-Length: 0\r\n\r\n";
    let (server, heard) = receiver(
        "204 No Content\r\nUpload-Offset: 3000000",
        &[ELSEWHERE, CREATED],
    )
    .await;
    let sandbox = Sandbox::to(server.url());
    let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
    assert_eq!(attempt.resumed_at_bytes, 3_100_000);
    assert_eq!(answered(attempt).0, 201);
    assert_eq!(
        *heard.lock().unwrap(),
        ["head - 0", "patch 3000000 145728", "patch 3100000 45728"]
    );

    let (server, _) = receiver(
        "204 No Content\r\nUpload-Offset: 3000000",
        &[ELSEWHERE, ELSEWHERE],
    )
    .await;
    let sandbox = Sandbox::to(server.url());
    assert!(matches!(
        fault(sandbox.deliver(asking(&sandbox, LEN)).await),
        Fault::Lost(_)
    ));
}

#[tokio::test]
async fn where_no_patch_comes_through_the_whole_is_sent_within_the_attempt() {
    for refusal in [
        "405 Method Not Allowed\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        "405 Method Not Allowed\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        "501 Not Implemented\r\nContent-Length: 0\r\n\r\n",
        "403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        "413 Too Large\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        // Gateways speak JSON, too; and what knows only some methods answers the others itself.
        "400 Bad\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}",
        "409 No\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"message\":\"no\"}",
        "413 No\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}",
        "301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "200 OK\r\nContent-Length: 0\r\n\r\n",
        "200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}",
        "201 Created\r\nContent-Length: 0\r\n\r\n",
        "201 Created\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    ] {
        let says: &str = format!("HTTP/1.1 {refusal}").leak();
        let (server, heard) = receiver(
            "204 No Content\r\nUpload-Offset: 3000000",
            vec![says].leak(),
        )
        .await;
        let sandbox = Sandbox::to(server.url());
        let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
        assert_eq!(attempt.resumed_at_bytes, 0, "{refusal}");
        assert_eq!(answered(attempt).0, 201, "{refusal}");
        assert_eq!(
            *heard.lock().unwrap(),
            ["head - 0", "patch 3000000 145728", "put - 3145728"],
            "{refusal}"
        );
    }
    // A receiver's word on the episode, and whose who asks who we are, stand.
    for refusal in [
        "413 No\r\nContent-Type: application/problem+json\r\nContent-Length: 32\r\n\r\n{\"type\":\"urn:sealift:too-large\"}",
        "401 Who\r\nContent-Length: 0\r\n\r\n",
        "429 Later\r\nContent-Length: 0\r\n\r\n",
    ] {
        let says: &str = format!("HTTP/1.1 {refusal}").leak();
        let (server, heard) = receiver(
            "204 No Content\r\nUpload-Offset: 3000000",
            vec![says].leak(),
        )
        .await;
        let sandbox = Sandbox::to(server.url());
        let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
        assert!(refusal.starts_with(&answered(attempt).0.to_string()));
        assert_eq!(heard.lock().unwrap().len(), 2, "{refusal}");
    }
}

#[tokio::test]
async fn a_receiver_of_another_kind_that_completes_an_upload_is_believed_as_after_a_put() {
    for complete in ["Upload-Complete: ?1", "Upload-Offset: 3145728"] {
        let says: &str = format!("HTTP/1.1 204 No Content\r\n{complete}\r\n\r\n").leak();
        let (server, heard) = receiver(
            "204 No Content\r\nUpload-Offset: 3000000",
            vec![says].leak(),
        )
        .await;
        let sandbox = Sandbox::to(server.url());
        assert_eq!(
            answered(sandbox.deliver(asking(&sandbox, LEN)).await).0,
            204,
            "{complete}"
        );
        assert_eq!(heard.lock().unwrap().len(), 2, "{complete}");
    }
}

#[tokio::test]
async fn an_upload_that_was_taken_in_part_is_not_acknowledged_and_goes_on() {
    const PART: &str =
        "HTTP/1.1 204 No Content\r\nUpload-Offset: 3100000\r\nUpload-Complete: ?0\r\n\r\n";
    let (server, heard) =
        receiver("204 No Content\r\nUpload-Offset: 3000000", &[PART, CREATED]).await;
    let sandbox = Sandbox::to(server.url());
    assert_eq!(
        answered(sandbox.deliver(asking(&sandbox, LEN)).await).0,
        201
    );
    assert_eq!(
        *heard.lock().unwrap(),
        ["head - 0", "patch 3000000 145728", "patch 3100000 45728"]
    );

    for part in [
        "Upload-Offset: 1000",
        "Upload-Complete: ?0",
        "Upload-Offset: 1000\r\nUpload-Complete: ?0",
    ] {
        let server = Server::new(move |mut peer: Peer| async move {
            peer.head().await.unwrap();
            peer.body(LEN).await;
            peer.say(&format!(
                "HTTP/1.1 201 Created\r\n{part}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let attempt = sandbox
            .deliver(Delivery {
                resume: false,
                ..asking(&sandbox, LEN)
            })
            .await;
        assert!(
            matches!(fault(attempt), Fault::Lost(why) if why.contains("of 3145728 bytes")),
            "{part}"
        );
    }
}

#[tokio::test]
async fn a_conflict_about_the_episode_is_no_matter_of_offsets() {
    const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nContent-Length: 31\r\n\r\n\
                    {\"type\":\"urn:sealift:conflict\"}";
    let (server, _) = receiver("204 No Content\r\nUpload-Offset: 3000000", &[CONFLICT]).await;
    let sandbox = Sandbox::to(server.url());
    let (status, body) = answered(sandbox.deliver(asking(&sandbox, LEN)).await);
    assert_eq!(
        (status, body),
        (409, object(json!({"type": "urn:sealift:conflict"}))),
        "{PROBLEM}"
    );
}

#[tokio::test]
async fn nobody_is_asked_about_a_small_archive_a_first_attempt_or_where_the_whole_address_is_set() {
    let (server, heard) = receiver("204 No Content\r\nUpload-Offset: 5", &[]).await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.deliver(asking(&sandbox, 1 << 20)).await;
    sandbox
        .deliver(Delivery {
            resume: false,
            ..asking(&sandbox, LEN)
        })
        .await;
    sandbox.config.url += "/{id}.tar.zst";
    sandbox.deliver(asking(&sandbox, LEN)).await;
    assert_eq!(
        *heard.lock().unwrap(),
        ["put - 1048576", "put - 3145728", "put - 3145728"]
    );
}

#[tokio::test]
async fn an_attempt_that_breaks_off_says_where_it_went_on() {
    let server = Server::new(|mut peer: Peer| async move {
        while let Some(head) = peer.head().await {
            if head.starts_with("head") {
                peer.say("HTTP/1.1 204 No Content\r\nUpload-Offset: 2097152\r\n\r\n")
                    .await;
            } else {
                peer.body(1000).await;
                return;
            }
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let attempt = sandbox.deliver(asking(&sandbox, LEN)).await;
    assert_eq!(attempt.resumed_at_bytes, 2_097_152);
    assert!(matches!(fault(attempt), Fault::Lost(_)));
}
