//! Connections that were kept and have died, which is no trouble of the receiver's.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;

/// Answers one request on its first connection, takes the next with so much of its body, and
/// closes; all others are served.
async fn closing_after(body_bytes: usize) -> (Server, Arc<AtomicUsize>) {
    let (first, requests) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let counted = Arc::clone(&requests);
    let server = Server::new(move |mut peer: Peer| {
        let (first, requests) = (first.swap(false, Ordering::SeqCst), Arc::clone(&counted));
        async move {
            if first {
                peer.request().await.unwrap();
                peer.answer("201 Created", JSON, "{}").await;
                peer.head().await.unwrap();
                requests.fetch_add(1, Ordering::SeqCst);
                peer.body(body_bytes).await;
                return;
            }
            while peer.request().await.is_some() {
                requests.fetch_add(1, Ordering::SeqCst);
                peer.answer("201 Created", JSON, "{}").await;
            }
        }
    })
    .await;
    (server, requests)
}

#[tokio::test]
async fn a_request_on_a_kept_connection_that_is_closed_before_any_answer_is_sent_again_at_once() {
    // In memory, and by pieces that have to be read anew; closed at once, and in the middle.
    for (size_bytes, body_bytes) in [(1_000, 0), (1_000, 1_000), (900_000, 300_000), (3 << 20, 0)] {
        let (server, requests) = closing_after(body_bytes).await;
        let sandbox = Sandbox::to(server.url());
        let transport = sandbox.transport();
        let first = within(transport.deliver(sandbox.holding("first", b"x"))).await;
        assert_eq!(answered(first).0, 201);
        let second = within(transport.deliver(sandbox.of_length("second", size_bytes))).await;
        assert_eq!(answered(second).0, 201, "{size_bytes} {body_bytes}");
        assert_eq!(
            (requests.load(Ordering::SeqCst), server.connections()),
            (2, 2)
        );
    }
}

#[tokio::test]
async fn what_is_lost_on_a_new_connection_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let server = Server::new(move |mut peer: Peer| {
        let requests = Arc::clone(&counted);
        async move {
            peer.request().await;
            requests.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let lost = sandbox.deliver(sandbox.holding("a", b"x")).await;
    assert!(matches!(fault(lost), Fault::Lost(_)));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_was_heard_of_on_a_kept_connection_is_not_sent_again_by_itself() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.answer("201 Created", JSON, "{}").await;
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.body(1 << 20).await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    within(transport.deliver(sandbox.holding("first", b"x"))).await;
    let mut large = sandbox.of_length("large", LARGE);
    // No verdict is asked for here.
    large.resume = false;
    assert!(matches!(
        fault(within(transport.deliver(large)).await),
        Fault::Lost(_)
    ));
}

#[tokio::test]
async fn a_408_with_which_an_idle_connection_is_closed_is_no_answer_to_the_next_request() {
    const CLOSES: &str =
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    // That closes by itself (RFC 9112, section 9.3).
    const OF_BEFORE: &str =
        "HTTP/1.0 408 Request Time-out\r\nContent-Type: text/html\r\n\r\n<html>";
    for (size_bytes, says) in [
        (1_000, CLOSES),
        (900_000, CLOSES),
        (3 << 20, CLOSES),
        (1_000, OF_BEFORE),
        (3 << 20, OF_BEFORE),
    ] {
        let first = Arc::new(AtomicBool::new(true));
        let server = Server::new(move |mut peer: Peer| {
            let first = first.swap(false, Ordering::SeqCst);
            async move {
                while peer.request().await.is_some() {
                    peer.answer("201 Created", JSON, "{}").await;
                    if first {
                        // What it says as idle crosses the next request.
                        peer.head().await;
                        return peer.say(says).await;
                    }
                }
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let transport = sandbox.transport();
        within(transport.deliver(sandbox.holding("first", b"x"))).await;
        let second = within(transport.deliver(sandbox.of_length("second", size_bytes))).await;
        assert_eq!(answer(second).status, 201, "{size_bytes} {says}");
    }
}

#[tokio::test]
async fn a_408_about_an_upload_is_its_answer() {
    for (media_type, closes) in [(PROBLEM, "Connection: close\r\n"), ("text/plain", "")] {
        let server = Server::new(move |mut peer: Peer| async move {
            peer.request().await;
            peer.answer("201 Created", JSON, "{}").await;
            peer.request().await;
            peer.say(&format!(
                "HTTP/1.1 408 Request Timeout\r\nContent-Type: {media_type}\r\n{closes}Content-Length: 2\r\n\r\n{{}}"
            ))
            .await;
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let transport = sandbox.transport();
        within(transport.deliver(sandbox.holding("first", b"x"))).await;
        let second = within(transport.deliver(sandbox.holding("second", b"y"))).await;
        assert_eq!(answer(second).status, 408, "{media_type}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_behind_a_fronts_own_error_is_not_that_to_the_next_request() {
    for status in ["503 Busy", "500 No", "408 Request Timeout"] {
        let server = Server::new(move |mut peer: Peer| async move {
            let Some((head, _)) = peer.request().await else {
                return;
            };
            let is_first = head.contains("/first");
            peer.answer(
                if is_first { status } else { "503 Busy" },
                "text/html",
                "<html>",
            )
            .await;
            // The next one, where this connection is used again.
            if is_first && peer.head().await.is_some() {
                peer.answer("201 Created", JSON, "").await;
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        let transport = sandbox.transport();
        assert_ne!(
            answer(within(transport.deliver(sandbox.holding("first", b"x"))).await).status,
            201
        );
        let second = within(transport.deliver(sandbox.holding("second", b"y"))).await;
        assert_eq!(answer(second).status, 503, "{status}");
    }
}

/// As the receiver of a few lines that people write first: while one connection is open, no other
/// is answered.
async fn serving_one_connection_at_a_time() -> Server {
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    Server::new(move |mut peer: Peer| {
        let turn = Arc::clone(&turn);
        async move {
            let _turn = turn.lock().await;
            while peer.request().await.is_some() {
                peer.answer("201 Created", "text/plain", "").await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_receiver_that_serves_one_connection_at_a_time_is_left_to_other_hosts_when_all_is_sent() {
    let server = serving_one_connection_at_a_time().await;
    let sandbox = Sandbox::to(server.url());
    let (one_host, another) = (sandbox.transport(), sandbox.transport());
    let first = within(one_host.deliver(sandbox.holding("first", b"x"))).await;
    assert_eq!(answered(first).0, 201);
    let second = within(another.deliver(sandbox.holding("second", b"y"))).await;
    assert_eq!(answered(second).0, 201);
}

#[tokio::test]
async fn a_connection_in_steady_use_is_given_up_where_another_upload_waits_for_its_turn() {
    let (turn, came) = (
        Arc::new(tokio::sync::Mutex::new(())),
        Arc::new(AtomicUsize::new(0)),
    );
    let requests = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&requests);
    // One connection at a time, as above. The second request is answered once another connection is
    // there.
    let server = Server::new(move |mut peer: Peer| {
        let (turn, came, heard) = (Arc::clone(&turn), Arc::clone(&came), Arc::clone(&heard));
        came.fetch_add(1, Ordering::SeqCst);
        async move {
            let _turn = turn.lock().await;
            while peer.request().await.is_some() {
                if heard.fetch_add(1, Ordering::SeqCst) == 1 {
                    until(|| came.load(Ordering::SeqCst) > 1).await;
                }
                peer.answer("201 Created", "text/plain", "").await;
            }
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    let first = within(transport.deliver(sandbox.holding("first", b"x"))).await;
    assert_eq!(answered(first).0, 201);
    // It takes the one that is kept; so the next opens another, and waits.
    let steady = async {
        for number in 0.. {
            let upload = transport.deliver(sandbox.holding(&format!("steady-{number}"), b"y"));
            assert_eq!(answered(upload.await).0, 201);
        }
    };
    let waiting = async {
        until(|| requests.load(Ordering::SeqCst) > 1).await;
        transport.deliver(sandbox.holding("waiting", b"z")).await
    };
    let waited = within(async {
        tokio::select! {
            biased;
            () = steady => unreachable!("it does not end by itself"),
            waited = waiting => waited,
        }
    })
    .await;
    assert_eq!(answered(waited).0, 201);
    assert!(server.connections() > 1);
}

/// 201 with a receipt, and these headers.
async fn receiver_saying(headers: &'static str) -> Server {
    Server::new(move |mut peer: Peer| async move {
        while peer.request().await.is_some() {
            let receipt = json!({
                "episode_id": "first",
                "sha256": "0".repeat(64),
                "size_bytes": 1,
                "stored_at": "2026-11-30T00:00:00Z",
            })
            .to_string();
            let len = receipt.len();
            peer.say(&format!(
                "HTTP/1.1 201 Created\r\n{headers}Content-Type: {JSON}\r\nContent-Length: {len}\r\n\r\n{receipt}"
            ))
            .await;
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_to_a_receiver_of_ours_is_kept_for_the_next_episode() {
    // A receipt alone is what others write as well.
    for (headers, connections) in [("Cache-Control: no-store\r\n", 1), ("", 2)] {
        let server = receiver_saying(headers).await;
        let sandbox = Sandbox::to(server.url());
        let transport = sandbox.transport();
        within(transport.deliver(sandbox.holding("first", b"x"))).await;
        // Longer than one to anything else is kept.
        let _ = tokio::time::timeout(Duration::from_secs(7), pending::<()>()).await;
        within(transport.deliver(sandbox.holding("second", b"y"))).await;
        assert_eq!(server.connections(), connections, "{headers}");
    }
}

#[tokio::test]
async fn a_host_that_sends_all_the_time_shuts_no_other_out() {
    let server = serving_one_connection_at_a_time().await;
    let sandbox = Sandbox::to(server.url());
    let (one_host, another) = (sandbox.transport(), sandbox.transport());
    let steady = async {
        for number in 0.. {
            let upload = one_host.deliver(sandbox.holding(&format!("steady-{number}"), b"y"));
            assert_eq!(answered(upload.await).0, 201);
            let _ = tokio::time::timeout(Duration::from_millis(100), pending::<()>()).await;
        }
    };
    let waiting = async {
        until(|| server.connections() > 0).await;
        another.deliver(sandbox.holding("waiting", b"z")).await
    };
    let waited = within(async {
        tokio::select! {
            () = steady => unreachable!("it does not end by itself"),
            waited = waiting => waited,
        }
    })
    .await;
    assert_eq!(answered(waited).0, 201);
}

#[tokio::test]
async fn a_200_is_asked_after_on_its_own_connection_though_another_upload_waits_for_it() {
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    let server = Server::new(move |mut peer: Peer| {
        let turn = Arc::clone(&turn);
        async move {
            let _turn = turn.lock().await;
            // The other is to have waited for its turn.
            let _ = tokio::time::timeout(Duration::from_millis(1500), pending::<()>()).await;
            while let Some((head, body)) = peer.request().await {
                let len = if head.starts_with("head") {
                    157
                } else {
                    body.len()
                };
                peer.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n"))
                    .await;
                if !head.starts_with("head") {
                    peer.say(&"x".repeat(len)).await;
                }
            }
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    let (one, other) = within(async {
        tokio::join!(
            transport.deliver(sandbox.holding("one", &[b'y'; 157])),
            transport.deliver(sandbox.holding("other", &[b'y'; 157]))
        )
    })
    .await;
    for attempt in [one, other] {
        assert_eq!(answer(attempt).voucher, Voucher::Length);
    }
    assert_eq!(server.connections(), 2);
}
