//! Every way in which an attempt can end, against servers that are scripted byte by byte.

mod kept;
mod peer;
mod resume;
mod throttle;
mod tls;
mod vouch;

use std::{
    fs::File, future::pending, io::Write as _, path::PathBuf, sync::OnceLock, time::Duration,
};

use sealift::{
    config::ReceiverConfig,
    http::{client::Client, endpoint::Endpoint},
    model::{
        episode::{Commit, Digest, EpisodeId},
        progress::Progress,
        records::ArchiveFacts,
    },
    ship::{
        archive::{Archive, Sink as _},
        outcome::{Answer, AnswerBody, Attempt, Fault, Outcome, Phase, Voucher},
        transport::{Delivery, Transport, growth::GrowingEnd},
    },
};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use self::peer::{Peer, Server, header};

/// Larger than every buffer on the way, so that a server that does not read stops the client.
const LARGE: u64 = 64 << 20;

const SHORT: Duration = Duration::from_millis(200);

/// One shipper's end: a folder for archives, and options to change before the first delivery.
struct Sandbox {
    folder: tempfile::TempDir,
    config: ReceiverConfig,
}

impl Sandbox {
    fn to(url: impl AsRef<str>) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: ReceiverConfig::at(url.as_ref()).unwrap(),
        }
    }

    fn transport(&self) -> Transport {
        let client = Client::new(&self.config).unwrap();
        Transport::new(Endpoint::new(&self.config, "lab-07", client).unwrap())
    }

    fn file(&self, name: &str, content: &str) -> Option<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Some(path)
    }

    /// An archive of these bytes.
    fn holding(&self, id: &str, bytes: &[u8]) -> Delivery {
        let (mut writer, archive) = Archive::create(&self.folder.path().join(id)).unwrap();
        writer.write_all(bytes).unwrap();
        let facts = writer.finish(Digest::of(b"the tar stream"));
        delivery(id, archive, facts)
    }

    /// A sparse archive of this length.
    fn of_length(&self, id: &str, size_bytes: u64) -> Delivery {
        let path = self.folder.path().join(id);
        File::create(&path).unwrap().set_len(size_bytes).unwrap();
        let sha256 = digest_of_zeros(size_bytes);
        let facts = ArchiveFacts {
            sha256,
            content_sha256: Digest([2; 32]),
            size_bytes,
        };
        delivery(id, Archive::open(&path, facts).unwrap(), facts)
    }

    async fn deliver(&self, delivery: Delivery) -> Attempt {
        within(self.transport().deliver(delivery)).await
    }
}

fn delivery(id: &str, archive: Archive, facts: ArchiveFacts) -> Delivery {
    let id = EpisodeId::parse(id).unwrap();
    Delivery {
        id,
        archive,
        facts,
        commit: None,
        resume: false,
        sent_growing: GrowingEnd::Nothing,
        progress: Progress::default(),
    }
}

fn digest_of_zeros(size_bytes: u64) -> Digest {
    static LARGE_ONE: OnceLock<Digest> = OnceLock::new();
    let of = |len: u64| Digest::of(&vec![0; usize::try_from(len).unwrap()]);
    if size_bytes == LARGE {
        *LARGE_ONE.get_or_init(|| of(LARGE))
    } else {
        of(size_bytes)
    }
}

/// No test waits for ever.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("this should have ended by now")
}

/// Waits for something that other tasks bring about.
async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn answer(attempt: Attempt) -> Answer {
    match attempt.outcome {
        Outcome::Answered(answer) => answer,
        Outcome::Failed(fault) => panic!("no answer: {fault}"),
    }
}

fn fault(attempt: Attempt) -> Fault {
    match attempt.outcome {
        Outcome::Failed(fault) => fault,
        Outcome::Answered(answer) => panic!("answered: {answer:?}"),
    }
}

fn answered(attempt: Attempt) -> (u16, AnswerBody) {
    let answer = answer(attempt);
    (answer.status, answer.body)
}

fn object(value: Value) -> AnswerBody {
    AnswerBody::Json(value)
}

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

#[tokio::test]
async fn an_archive_arrives_with_the_headers_of_the_contract_and_the_receipt_comes_back() {
    let server = Server::new(|mut peer: Peer| async move {
        let (head, body) = peer.request().await.unwrap();
        assert_eq!(header(&head, "authorization"), Some("bearer s3cret"));
        peer.say(
            "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: 7\r\n",
        )
        .await;
        let said = json!({"head": head, "body": String::from_utf8(body).unwrap()}).to_string();
        peer.say(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{said}",
            said.len()
        ))
        .await;
    })
    .await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.config.token_file = sandbox.file("token", "s3cret\n");
    sandbox
        .config
        .headers
        .insert("X-Name".to_owned(), "{id}/{commit}".to_owned());
    let mut delivery = sandbox.holding("Lauf 7", b"archive");
    let (facts, progress) = (delivery.facts, delivery.progress.clone());
    delivery.commit = Commit::parse(&"a".repeat(40));
    let answer = answer(sandbox.deliver(delivery).await);
    assert_eq!((answer.status, answer.retry_after_s), (201, Some(7)));
    assert_eq!(
        answer.server_date.unwrap().to_string(),
        "1994-11-06T08:49:37Z"
    );
    let AnswerBody::Json(said) = answer.body else {
        panic!("{:?}", answer.body)
    };
    assert_eq!(said["body"], "archive");
    assert_eq!(progress.bytes(), 7);
    let head = said["head"].as_str().unwrap();
    assert!(
        head.starts_with("put /v1/episodes/lauf%207 http/1.1\r\n"),
        "{head}"
    );
    for (name, value) in [
        ("host", server.address.to_string()),
        ("content-type", "application/zstd".to_owned()),
        ("content-length", "7".to_owned()),
        ("repr-digest", facts.sha256.to_header()),
        ("sealift-content-digest", facts.content_sha256.to_header()),
        ("sealift-host", "lab-07".to_owned()),
        ("x-cis490-code-commit", "a".repeat(40)),
        // It was sent, and what repeats it is read without it.
        ("authorization", "bearer \u{2026}".to_owned()),
        (
            "user-agent",
            format!("sealift/{}", env!("CARGO_PKG_VERSION")),
        ),
        ("x-name", format!("lauf%207/{}", "a".repeat(40))),
    ] {
        assert_eq!(
            header(head, name),
            Some(value.to_ascii_lowercase().as_str()),
            "{name}"
        );
    }
    assert_eq!(header(head, "expect"), None);
    assert_eq!(header(head, "transfer-encoding"), None);
}

#[tokio::test]
async fn a_large_archive_arrives_byte_for_byte_while_it_grows() {
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    let expected = Digest::of(&content).to_string();
    let server = Server::new(|mut peer: Peer| async move {
        let (_, body) = peer.request().await.unwrap();
        let said = json!({"sha256": Digest::of(&body)}).to_string();
        peer.answer("200 OK", JSON, &said).await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let (mut writer, archive) = Archive::create(&sandbox.folder.path().join("a.partial")).unwrap();
    let facts = ArchiveFacts {
        sha256: Digest::of(&content),
        content_sha256: Digest::of(b"tar"),
        size_bytes: content.len() as u64,
    };
    let delivery = delivery("a", archive, facts);
    let progress = delivery.progress.clone();
    let transport = sandbox.transport();
    let sending = tokio::spawn(async move { transport.deliver(delivery).await });
    let (first, rest) = content.split_at(1_500_000);
    writer.write_all(first).unwrap();
    writer.flush().unwrap();
    // What is there is sent, before there is more.
    until(|| progress.bytes() >= 1_000_000).await;
    writer.write_all(rest).unwrap();
    let _ = writer.finish(facts.content_sha256);
    let (status, body) = answered(within(sending).await.unwrap());
    assert_eq!((status, body), (200, object(json!({"sha256": expected}))));
    assert_eq!(progress.bytes(), content.len() as u64);
}

#[tokio::test]
async fn an_archive_that_grows_slowly_is_no_idle_connection() {
    let server = Server::new(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.answer("201 Created", JSON, "{}").await;
        }
    })
    .await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.config.idle_timeout = Duration::from_millis(20);
    let (mut writer, archive) = Archive::create(&sandbox.folder.path().join("a.partial")).unwrap();
    let content = vec![7; 600_000];
    let facts = ArchiveFacts {
        sha256: Digest::of(&content),
        content_sha256: Digest::of(b"tar"),
        size_bytes: content.len() as u64,
    };
    let slow = delivery("slow", archive, facts);
    let progress = slow.progress.clone();
    let transport = sandbox.transport();
    let sending = tokio::spawn(async move { transport.deliver(slow).await });
    writer.write_all(&content[..300_000]).unwrap();
    writer.flush().unwrap();
    until(|| progress.bytes() > 0).await;
    // Another attempt runs into its idle time-out several times over, meanwhile.
    let silent = Server::new(|mut peer: Peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        pending::<()>().await;
    })
    .await;
    let mut other = Sandbox::to(silent.url());
    other.config.idle_timeout = SHORT;
    assert_eq!(
        fault(other.deliver(other.of_length("other", LARGE)).await),
        Fault::TimedOut(Phase::Idle)
    );
    writer.write_all(&content[300_000..]).unwrap();
    let _ = writer.finish(facts.content_sha256);
    assert_eq!(
        answered(within(sending).await.unwrap()),
        (201, object(json!({})))
    );
}

#[tokio::test]
async fn an_archive_that_is_abandoned_cut_or_another_one_is_our_own_fault() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        pending::<()>().await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let facts = ArchiveFacts {
        sha256: Digest([1; 32]),
        content_sha256: Digest([2; 32]),
        size_bytes: 3 << 20,
    };

    let (mut writer, archive) = Archive::create(&sandbox.folder.path().join("given-up")).unwrap();
    writer.write_all(&[0; 1 << 20]).unwrap();
    drop(writer);
    let outcome = sandbox.deliver(delivery("given-up", archive, facts)).await;
    assert!(matches!(fault(outcome), Fault::Archive(why) if why.contains("abandoned")));

    for size_bytes in [3 << 20, 100] {
        let cut = sandbox.of_length("cut", size_bytes);
        File::options()
            .write(true)
            .open(sandbox.folder.path().join("cut"))
            .unwrap()
            .set_len(50)
            .unwrap();
        assert!(
            matches!(fault(sandbox.deliver(cut).await), Fault::Archive(why) if why.contains("50 of"))
        );
    }

    let mut other = sandbox.of_length("other", 10);
    other.facts.sha256 = Digest([9; 32]);
    assert!(matches!(
        fault(sandbox.deliver(other).await),
        Fault::Archive(_)
    ));
}

#[tokio::test]
async fn several_deliveries_share_one_connection() {
    let server = Server::new(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.answer("201 Created", JSON, "{}").await;
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    for id in ["a", "b", "c"] {
        let outcome = within(transport.deliver(sandbox.holding(id, b"x"))).await;
        assert_eq!(answered(outcome), (201, object(json!({}))));
    }
    let large = within(transport.deliver(sandbox.of_length("large", 2 << 20))).await;
    assert_eq!(answered(large).0, 201);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_idle_connection_that_died_is_replaced_without_an_error() {
    // Each connection is closed after its answer, which did not announce it.
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.answer("201 Created", JSON, "{}").await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    for (n, id) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let outcome = within(transport.deliver(sandbox.holding(id, b"x"))).await;
        assert_eq!(answered(outcome).0, 201, "{id}");
        assert_eq!(server.connections(), n + 1);
        until(|| server.open_sockets_of_the_client() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_is_heard_even_when_the_server_closes_over_what_it_did_not_read() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.body(100_000).await;
        peer.answer("413 Content Too Large", PROBLEM, r#"{"title":"too large"}"#)
            .await;
        // Dropped with bytes unread: the kernel sends a reset (RFC 1122, section 4.2.2.13).
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    for _ in 0..20 {
        let outcome = within(transport.deliver(sandbox.of_length("large", LARGE))).await;
        assert_eq!(
            answered(outcome),
            (413, object(json!({"title": "too large"})))
        );
    }
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn an_early_refusal_is_heard_from_a_server_that_stops_reading_and_leaves_no_socket() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.answer("413 Content Too Large", PROBLEM, r#"{"title":"too large"}"#)
            .await;
        pending::<()>().await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    for _ in 0..20 {
        let delivery = sandbox.of_length("large", LARGE);
        let progress = delivery.progress.clone();
        let outcome = within(transport.deliver(delivery)).await;
        assert_eq!(
            answered(outcome),
            (413, object(json!({"title": "too large"})))
        );
        assert!(progress.bytes() < LARGE);
    }
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn a_refusal_before_the_upload_costs_no_byte_of_it() {
    let server = Server::new(|mut peer: Peer| async move {
        let head = peer.head().await.unwrap();
        assert_eq!(header(&head, "expect"), Some("100-continue"));
        // In two parts: the rest of an answer is not lost when its first half ends the waiting.
        peer.say("HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/problem+json\r\n")
            .await;
        peer.say("Content-Length: 12\r\n\r\n{\"body\"").await;
        tokio::task::yield_now().await;
        peer.say(": 0 }").await;
        assert_eq!(peer.drain().await, 0);
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let delivery = sandbox.of_length("large", LARGE);
    let progress = delivery.progress.clone();
    assert_eq!(
        answered(sandbox.deliver(delivery).await),
        (412, object(json!({"body": 0})))
    );
    assert_eq!(progress.bytes(), 0);
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn an_upload_goes_when_it_is_asked_for() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await.unwrap();
        peer.say("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            .await;
        let len = peer.body(2 << 20).await.len();
        peer.answer("201 Created", JSON, &json!({ "len": len }).to_string())
            .await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let outcome = sandbox.deliver(sandbox.of_length("large", 2 << 20)).await;
    assert_eq!(answered(outcome), (201, object(json!({"len": 2 << 20}))));
}

#[tokio::test]
async fn an_upload_goes_to_a_server_that_knows_no_expectation() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await.unwrap();
        let len = peer.body(2 << 20).await.len();
        peer.answer("201 Created", JSON, &json!({ "len": len }).to_string())
            .await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let outcome = sandbox.deliver(sandbox.of_length("large", 2 << 20)).await;
    assert_eq!(answered(outcome), (201, object(json!({"len": 2 << 20}))));
}

#[tokio::test]
async fn a_refused_expectation_is_dropped_and_the_upload_goes() {
    let server = Server::new(|mut peer: Peer| async move {
        let head = peer.head().await.unwrap();
        if header(&head, "expect").is_some() {
            return peer
                .answer("417 Expectation Failed", "text/plain", "no")
                .await;
        }
        let len = peer.body(2 << 20).await.len();
        peer.answer("201 Created", JSON, &json!({ "len": len }).to_string())
            .await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let outcome = sandbox.deliver(sandbox.of_length("large", 2 << 20)).await;
    assert_eq!(answered(outcome), (201, object(json!({"len": 2 << 20}))));
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_not_sent_is_believed_only_with_a_receipt() {
    let already_held = json!({"episode_id": "large", "sha256": "ab"});
    for (status, body, believed) in [
        ("200 OK", already_held.to_string(), true),
        ("200 OK", "{}".to_owned(), false),
        ("201 Created", String::new(), false),
    ] {
        let said = body.clone();
        let server = Server::new(move |mut peer: Peer| {
            let said = said.clone();
            async move {
                peer.head().await;
                peer.answer(status, JSON, &said).await;
                peer.drain().await;
            }
        })
        .await;
        let sandbox = Sandbox::to(server.url());
        match sandbox
            .deliver(sandbox.of_length("large", LARGE))
            .await
            .outcome
        {
            Outcome::Answered(answer) => {
                let named =
                    matches!(&answer.body, AnswerBody::Json(body) if body.get("sha256").is_some());
                assert_eq!(
                    (named, &answer.voucher),
                    (believed, &Voucher::Early),
                    "{answer:?}"
                );
            }
            Outcome::Failed(fault) => panic!("{fault:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up_after_the_idle_time_out() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.body(1 << 20).await;
        pending::<()>().await;
    })
    .await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.config.idle_timeout = SHORT;
    let delivery = sandbox.of_length("large", LARGE);
    let progress = delivery.progress.clone();
    assert_eq!(
        fault(sandbox.deliver(delivery).await),
        Fault::TimedOut(Phase::Idle)
    );
    assert!(
        (1 << 20..LARGE).contains(&progress.bytes()),
        "{}",
        progress.bytes()
    );
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn a_server_that_reads_all_and_says_nothing_is_given_up_after_the_answer_time_out() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        pending::<()>().await;
    })
    .await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.config.answer_timeout = SHORT;
    for delivery in [
        sandbox.of_length("large", 2 << 20),
        sandbox.holding("small", b"x"),
    ] {
        assert_eq!(
            fault(sandbox.deliver(delivery).await),
            Fault::TimedOut(Phase::Answer)
        );
    }
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn the_answer_may_take_longer_than_the_idle_time_out() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        // The client looks at its clock several times until this has passed.
        let _ = tokio::time::timeout(SHORT, pending::<()>()).await;
        peer.answer("201 Created", JSON, "{}").await;
    })
    .await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.config.idle_timeout = SHORT / 10;
    assert_eq!(
        answered(sandbox.deliver(sandbox.holding("a", b"x")).await),
        (201, object(json!({})))
    );
}

#[tokio::test]
async fn an_acknowledgement_that_never_ends_is_none() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")
            .await;
        pending::<()>().await;
    })
    .await;
    let mut sandbox = Sandbox::to(server.url());
    sandbox.config.idle_timeout = SHORT;
    let outcome = sandbox.deliver(sandbox.holding("a", b"x")).await;
    assert_eq!(fault(outcome), Fault::TimedOut(Phase::Idle));
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn of_a_refusal_that_breaks_off_what_came_counts() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 100\r\n\r\nback so")
            .await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let answer = answer(sandbox.deliver(sandbox.holding("a", b"x")).await);
    assert_eq!((answer.status, answer.retry_after_s), (503, Some(9)));
    assert_eq!(
        answer.body,
        AnswerBody::Foreign {
            html: false,
            excerpt: "back so".to_owned()
        }
    );
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    // Bound and not listening: the port is nobody else's meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let sandbox = Sandbox::to(format!("http://{}", socket.local_addr().unwrap()));
    let fault = fault(sandbox.deliver(sandbox.holding("a", b"x")).await);
    assert!(
        matches!(&fault, Fault::Unreachable(why) if why.contains("refused")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_name_that_is_not_found_is_told_apart_from_a_receiver_that_is_not_there() {
    // A label has at most 63 bytes (RFC 1035, section 2.3.4): the resolver says so without asking
    // anybody.
    let sandbox = Sandbox::to(format!("http://{}.invalid", "a".repeat(64)));
    let fault = fault(sandbox.deliver(sandbox.holding("a", b"x")).await);
    assert!(
        matches!(&fault, Fault::UnknownName(why) if why.contains("dns")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_host_that_does_not_take_the_connection_is_given_up_after_the_connect_time_out() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts, so the queue fills, and Linux leaves further connections without an answer.
    let mut queued = Vec::new();
    while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(connected.unwrap());
    }
    for url in [format!("http://{address}"), format!("https://{address}")] {
        let mut sandbox = Sandbox::to(url);
        sandbox.config.ca_file = sandbox.file("ca.pem", &crate::authority::Authority::new().pem());
        sandbox.config.connect_timeout = SHORT;
        let outcome = sandbox.deliver(sandbox.holding("a", b"x")).await;
        assert_eq!(fault(outcome), Fault::TimedOut(Phase::Connect));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let server = Server::new(|mut peer: Peer| async move {
        while let Some((head, _)) = peer.request().await {
            assert!(head.starts_with("put /v1/"), "{head}");
            peer.say("HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let outcome = sandbox.deliver(sandbox.holding("a", b"x")).await;
    assert_eq!(answered(outcome), (307, AnswerBody::Empty));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_page_with_200_is_seen_to_be_a_page() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.answer(
            "200 OK",
            "text/html; charset=utf-8",
            "<!doctype html><p>Log in",
        )
        .await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let outcome = sandbox.deliver(sandbox.holding("a", b"x")).await;
    let page = AnswerBody::Foreign {
        html: true,
        excerpt: "Log in".to_owned(),
    };
    assert_eq!(answered(outcome), (200, page));
}

#[tokio::test]
async fn an_answer_without_an_end_is_read_to_the_bound() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n\r\n")
            .await;
        let piece = "x".repeat(64 * 1024);
        use tokio::io::AsyncWriteExt as _;
        while peer.stream.write_all(piece.as_bytes()).await.is_ok() {}
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let outcome = sandbox.deliver(sandbox.holding("a", b"x")).await;
    assert_eq!(
        answered(outcome),
        (
            500,
            AnswerBody::Foreign {
                html: false,
                excerpt: "x".repeat(200)
            }
        )
    );
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn a_connection_that_breaks_in_mid_body_is_lost() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.body(1 << 20).await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let fault = fault(sandbox.deliver(sandbox.of_length("large", LARGE)).await);
    assert!(matches!(fault, Fault::Lost(_)), "{fault:?}");
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_is_lost() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let fault = fault(sandbox.deliver(sandbox.holding("a", b"x")).await);
    assert!(
        matches!(&fault, Fault::Lost(why) if why.contains("closed")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.request().await;
        peer.say("220 mail.example ESMTP\r\n\r\n").await;
        peer.drain().await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let fault = fault(sandbox.deliver(sandbox.holding("a", b"x")).await);
    assert!(
        matches!(&fault, Fault::Lost(why) if why.contains("not HTTP")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn forty_uploads_one_after_another_leave_one_socket_and_a_dropped_client_none() {
    let server = Server::new(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.answer("201 Created", JSON, "{}").await;
        }
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    let transport = sandbox.transport();
    for n in 0..40 {
        let outcome = within(transport.deliver(sandbox.holding(&format!("run-{n}"), b"x"))).await;
        assert_eq!(answered(outcome).0, 201);
    }
    assert_eq!(
        (server.connections(), server.open_sockets_of_the_client()),
        (1, 1)
    );
    drop(transport);
    until(|| server.open_sockets_of_the_client() == 0).await;
}

#[tokio::test]
async fn a_cancelled_or_dropped_delivery_ends_at_once_and_leaves_no_socket() {
    let server = Server::new(|mut peer: Peer| async move {
        peer.head().await;
        peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        pending::<()>().await;
    })
    .await;
    let sandbox = Sandbox::to(server.url());
    for cancel in [true, false] {
        let transport = sandbox.transport();
        let delivery = sandbox.of_length("large", LARGE);
        let progress = delivery.progress.clone();
        let sending = tokio::spawn(async move { transport.deliver(delivery).await });
        until(|| progress.bytes() > 0).await;
        if cancel {
            progress.cancel();
            assert_eq!(fault(within(sending).await.unwrap()), Fault::Cancelled);
        } else {
            sending.abort();
        }
        until(|| server.open_sockets_of_the_client() == 0).await;
    }
    let transport = sandbox.transport();
    let delivery = sandbox.holding("a", b"x");
    delivery.progress.cancel();
    assert_eq!(
        fault(within(transport.deliver(delivery)).await),
        Fault::Cancelled
    );
}
