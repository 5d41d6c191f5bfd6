//! An upload that breaks off goes on where it was: draft-ietf-httpbis-resumable-upload, as
//! docs/transport.md has it.

use rustix::fs::{FlockOperation, flock};

use super::*;

const SIZE: usize = 3 << 20;

fn upload_path(id: &str, archive: &[u8]) -> String {
    format!("/v1/uploads/{id}/{}", Digest::of(archive))
}

fn patch(id: &str, archive: &[u8], at: usize, end: usize, complete: &str) -> String {
    let (offset, length) = (at.to_string(), (end - at).to_string());
    let headers = [
        ("Content-Type", "application/partial-upload"),
        ("Upload-Offset", offset.as_str()),
        ("Upload-Complete", complete),
        ("Content-Length", length.as_str()),
    ];
    head("PATCH", &upload_path(id, archive), &headers)
}

impl Rig {
    /// So much of a PUT, and then the connection is gone.
    async fn break_off(&self, id: &str, archive: &[u8], at: usize) {
        let mut client = self.connect().await;
        client.send(put_head(id, archive).as_bytes()).await;
        client.send(&archive[..at]).await;
    }

    async fn offset(&self, id: &str, archive: &[u8]) -> Option<usize> {
        let answer = self
            .request(&head("HEAD", &upload_path(id, archive), &[]), b"")
            .await;
        match answer.status {
            204 => {
                assert_eq!(answer.headers["upload-length"], archive.len().to_string());
                assert_eq!(answer.headers["cache-control"], "no-store");
                Some(answer.headers["upload-offset"].parse().unwrap())
            }
            404 => None,
            other => panic!("{other}"),
        }
    }

    /// A request about what is kept, once more while that is busy: a child that another test has
    /// started meanwhile shares the lock of a file that was open, until its execve(2).
    async fn go_on(&self, head: &str, body: &[u8]) -> Answer {
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let free = async {
            loop {
                let answer = self.request(head, body).await;
                if !answer.body.windows(11).any(|it| it == b"upload-busy") {
                    break answer;
                }
                look.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, free)
            .await
            .expect("the upload stays busy")
    }

    /// Waits until what was sent has arrived, and sees that it is kept.
    async fn kept(&self, id: &str, archive: &[u8], at: usize) {
        arrived(&self.folder.path().join("store"), at).await;
        assert_eq!(self.offset(id, archive).await, Some(at));
    }
}

/// Waits until a part of this length lies in a store, and is locked by no writer. The receiver is
/// not asked: on a busy machine it may hear the question, and take it that the client has given up
/// the upload, before it reads what is in its socket.
pub(super) async fn arrived(store: &Path, bytes: usize) {
    let is_left = |part: &std::fs::File| {
        let is_free = flock(part, FlockOperation::NonBlockingLockShared).is_ok();
        // Not left to the last descriptor: a child of another test may share that.
        let _ = flock(part, FlockOperation::Unlock);
        is_free && part.metadata().is_ok_and(|it| it.len() == bytes as u64)
    };
    let is_there = || {
        std::fs::read_dir(store.join("incoming"))
            .unwrap()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "part"))
            .any(|part| std::fs::File::open(part.path()).is_ok_and(|part| is_left(&part)))
    };
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let there = async {
        while !is_there() {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, there)
        .await
        .expect("not everything has arrived");
}

#[tokio::test]
async fn every_byte_that_arrived_is_kept_and_the_rest_completes_it() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    let mut at = 1_234_567;
    rig.break_off("a", &archive, at).await;
    rig.kept("a", &archive, at).await;
    // Once more in the middle of the rest.
    let mut client = rig.connect().await;
    client
        .send(patch("a", &archive, at, SIZE, "?1").as_bytes())
        .await;
    client.send(&archive[at..at + 1_000_001]).await;
    drop(client);
    at += 1_000_001;
    rig.kept("a", &archive, at).await;
    let answer = rig
        .go_on(&patch("a", &archive, at, SIZE, "?1"), &archive[at..])
        .await;
    assert_eq!(answer.status, 201);
    let is_whole = |answer: &Answer| {
        assert_eq!(answer.headers["upload-complete"], "?1");
        assert_eq!(answer.headers["upload-offset"], SIZE.to_string());
    };
    is_whole(&answer);
    assert_eq!(answer.receipt().sha256, Digest::of(&archive));
    assert_eq!(std::fs::read(rig.archive("a")).unwrap(), archive);
    rig.nothing_temporary_stays().await;
    // Whoever lost that answer is told that nothing is left to send, and may ask for the receipt
    // so.
    let done = rig
        .request(&head("HEAD", &upload_path("a", &archive), &[]), b"")
        .await;
    assert_eq!(
        (done.status, done.headers["upload-complete"].as_str()),
        (204, "?1")
    );
    assert_eq!(done.headers["upload-offset"], SIZE.to_string());
    let again = rig
        .go_on(&patch("a", &archive, SIZE, SIZE, "?1"), b"")
        .await;
    assert_eq!(again.status, 200);
    is_whole(&again);
}

#[tokio::test]
async fn a_client_may_announce_an_upload_and_send_it_piece_by_piece() {
    let rig = Rig::new().await;
    // POST is how the draft creates (section 4.2); structured fields and the media type may have
    // parameters (RFC 9651, section 3.1.2; RFC 9110, section 8.3.1).
    for (method, more, media_type) in [
        ("PUT", "", "application/partial-upload"),
        ("POST", "", "application/partial-upload"),
        (
            "POST",
            ";of=\"3;\";last=?0",
            "Application/Partial-Upload ;v=1",
        ),
    ] {
        let archive = noise(SIZE);
        let with = |value: &str| format!("{value}{more}");
        let digest = with(&Digest::of(&archive).to_header());
        let (complete, length) = (with("?0"), with(&SIZE.to_string()));
        let announce = [
            ("Content-Length", "0"),
            ("Repr-Digest", digest.as_str()),
            ("Upload-Complete", &complete),
            ("Upload-Length", &length),
        ];
        let id = format!("{method}{}", more.len());
        let answer = rig
            .request(&head(method, &format!("/v1/episodes/{id}"), &announce), b"")
            .await;
        assert_eq!(
            (answer.status, answer.headers["upload-offset"].as_str()),
            (201, "0")
        );
        assert_eq!(answer.headers["location"], upload_path(&id, &archive));
        for (n, piece) in archive.chunks(1_000_000).enumerate() {
            let (at, last) = (n * 1_000_000, (n + 1) * 1_000_000 >= SIZE);
            let (offset, length) = (with(&at.to_string()), piece.len().to_string());
            let complete = with(if last { "?1" } else { "?0" });
            let headers = [
                ("Content-Type", media_type),
                ("Upload-Offset", offset.as_str()),
                ("Upload-Complete", &complete),
                ("Content-Length", &length),
            ];
            let request = head("PATCH", &upload_path(&id, &archive), &headers);
            let answer = rig.go_on(&request, piece).await;
            if last {
                assert_eq!(answer.receipt().sha256, Digest::of(&archive));
            } else {
                assert_eq!(answer.status, 204);
                assert_eq!(
                    answer.headers["upload-offset"],
                    (at + piece.len()).to_string()
                );
            }
        }
        assert_eq!(std::fs::read(rig.archive(&id)).unwrap(), archive);
    }
}

#[tokio::test]
async fn a_post_of_the_whole_is_taken_as_a_put_is() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    let request = put_head("a", &archive).replacen("PUT", "POST", 1);
    for status in [201, 200] {
        let answer = rig.request(&request, &archive).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.receipt().sha256, Digest::of(&archive));
    }
    // What broke off is kept as well.
    let mut client = rig.connect().await;
    let request = put_head("b", &archive).replacen("PUT", "POST", 1);
    client.send(request.as_bytes()).await;
    client.send(&archive[..2_000_000]).await;
    drop(client);
    rig.kept("b", &archive, 2_000_000).await;
}

#[tokio::test]
async fn a_client_that_speaks_the_draft_is_told_that_its_upload_is_complete() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    let (length, digest) = (SIZE.to_string(), Digest::of(&archive).to_header());
    let whole = put_with("a", &archive, &[("Upload-Complete", "?1")]);
    let whole = whole.replacen("PUT", "POST", 1);
    let announce = [
        ("Content-Length", "0"),
        ("Repr-Digest", digest.as_str()),
        ("Upload-Complete", "?0"),
        ("Upload-Length", &length),
    ];
    let announce = head("POST", "/v1/episodes/a", &announce);
    for (request, body, status) in [
        (&whole, &*archive, 201),
        (&whole, &archive, 200),
        // It is held already, and nothing is left to send.
        (&announce, b"", 200),
    ] {
        let answer = rig.request(request, body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.receipt().sha256, Digest::of(&archive));
        assert_eq!(answer.headers["upload-complete"], "?1");
        assert_eq!(answer.headers["upload-offset"], length);
        if body.is_empty() {
            assert_eq!(answer.headers["location"], upload_path("a", &archive));
            assert_eq!(answer.headers["upload-length"], length);
        }
    }
    let plain = rig.put("a", &archive).await;
    assert!(!plain.headers.contains_key("upload-complete"));
}

#[tokio::test]
async fn an_upload_is_changed_only_where_its_preconditions_hold() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.break_off("a", &archive, 2_000_000).await;
    rig.kept("a", &archive, 2_000_000).await;
    let ours = format!("\"{}\"", Digest::of(&archive));
    let with = |head: &str, line: &str| head.replacen("\r\n\r\n", line, 1) + "\r\n\r\n";
    let rest = patch("a", &archive, 2_000_000, SIZE, "?1");
    let discard = head("DELETE", &upload_path("a", &archive), &[]);
    for line in [
        // An upload has no entity tag; that of the archive is none of its.
        format!("\r\nIf-Match: {ours}"),
        "\r\nIf-Match: \"*\"".to_owned(),
        "\r\nIf-None-Match: *".to_owned(),
    ] {
        for (request, body) in [(&rest, &archive[2_000_000..]), (&discard, b"")] {
            let answer = rig.go_on(&with(request, &line), body).await;
            assert_eq!(answer.problem().0, "precondition-failed", "{line}");
        }
    }
    assert_eq!(rig.offset("a", &archive).await, Some(2_000_000));
    let rest = with(&rest, "\r\nIf-Match: *");
    let answer = rig.go_on(&rest, &archive[2_000_000..]).await;
    assert_eq!(answer.status, 201);
    let again = patch("a", &archive, SIZE, SIZE, "?1");
    for (line, status) in [("\r\nIf-Match: *", 200), ("\r\nIf-Match: \"x\"", 412)] {
        assert_eq!(rig.go_on(&with(&again, line), b"").await.status, status);
    }
}

#[tokio::test]
async fn whoever_goes_on_at_another_byte_is_told_the_right_one() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.break_off("a", &archive, 2_000_000).await;
    rig.kept("a", &archive, 2_000_000).await;
    for at in [0, 1_999_999, 2_000_001] {
        let answer = rig
            .go_on(&patch("a", &archive, at, SIZE, "?1"), &archive[at..])
            .await;
        assert_eq!(answer.status, 409);
        assert_eq!(answer.headers["upload-offset"], "2000000");
        let (kind, problem) = answer.problem();
        assert_eq!(
            (kind.as_str(), &problem["expected-offset"]),
            ("offset-mismatch", &2_000_000.into())
        );
    }
    assert_eq!(
        rig.offset("a", &archive).await,
        Some(2_000_000),
        "nothing was lost over it"
    );
}

#[tokio::test]
async fn bytes_of_another_archive_are_never_joined_to_it() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    let mut other = archive.clone();
    other[0] ^= 1;
    rig.break_off("a", &archive, 2_000_000).await;
    rig.kept("a", &archive, 2_000_000).await;
    // Another archive has another address.
    assert_eq!(rig.offset("a", &other).await, None);
    assert_eq!(
        rig.offset("b", &archive).await,
        None,
        "another episode, too"
    );
    // And bytes that make something else of it are found out over the whole.
    let mut rest = archive[2_000_000..].to_vec();
    rest[7] ^= 1;
    let answer = rig
        .go_on(&patch("a", &archive, 2_000_000, SIZE, "?1"), &rest)
        .await;
    assert_eq!(answer.problem().0, "digest-mismatch");
    assert_eq!(
        rig.offset("a", &archive).await,
        None,
        "what is not right as a whole is not kept"
    );
    assert!(!rig.archive("a").exists());
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn a_half_open_predecessor_is_fenced_off_and_its_bytes_are_kept() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    // It stays open, as a connection does whose other end lost its power.
    let mut stale = rig.connect().await;
    stale.send(put_head("a", &archive).as_bytes()).await;
    stale.send(&archive[..1_500_000]).await;
    // A client that asks where to go on has given it up.
    let mut at = 0;
    while at < 1_500_000 {
        at = rig.offset("a", &archive).await.unwrap_or_default();
        if at > 0 {
            break;
        }
    }
    let answer = rig
        .go_on(&patch("a", &archive, at, SIZE, "?1"), &archive[at..])
        .await;
    assert_eq!(answer.receipt().sha256, Digest::of(&archive));
    // Whatever the stale one still sends does no harm, and it is told so or dropped.
    let _ = stale.0.write_all(&archive[1_500_000..]).await;
    assert_eq!(std::fs::read(rig.archive("a")).unwrap(), archive);
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn what_is_thrown_away_is_gone() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.break_off("a", &archive, 2_000_000).await;
    rig.kept("a", &archive, 2_000_000).await;
    assert_eq!(
        rig.go_on(&head("DELETE", &upload_path("a", &archive), &[]), b"")
            .await
            .status,
        204
    );
    assert_eq!(rig.offset("a", &archive).await, None);
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn a_request_that_does_not_make_sense_is_told_why() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.break_off("a", &archive, 2_000_000).await;
    rig.kept("a", &archive, 2_000_000).await;
    let path = upload_path("a", &archive);
    let patch_type = ("Content-Type", "application/partial-upload");
    let (complete, offset) = (("Upload-Complete", "?1"), ("Upload-Offset", "2000000"));
    let length = ("Content-Length", "5");
    type Case<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, u16, &'a str);
    let table: &[Case<'_>] = &[
        (
            "PATCH",
            &path,
            vec![complete, offset, length],
            415,
            "unsupported-type",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, offset, length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, complete, length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, ("Upload-Complete", "yes"), offset, length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, complete, offset, ("Upload-Offset", "1"), length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![
                patch_type,
                complete,
                offset,
                offset,
                ("Content-Length", "1145728"),
            ],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, complete, offset, ("Upload-Length", "5"), length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, complete, ("Upload-Offset", "-1"), length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, complete, offset, length],
            400,
            "upload-invalid",
        ),
        (
            "PATCH",
            &path,
            vec![patch_type, complete, ("Upload-Offset", "3145728"), length],
            409,
            "offset-mismatch",
        ),
        (
            "PATCH",
            &path,
            vec![
                patch_type,
                complete,
                ("Upload-Complete", "?0"),
                offset,
                length,
            ],
            400,
            "upload-invalid",
        ),
        ("POST", &path, vec![], 405, "method-not-allowed"),
        ("HEAD", "/v1/uploads/a", vec![], 400, ""),
        (
            "PATCH",
            "/v1/uploads/a/abc",
            vec![patch_type, complete, offset, length],
            400,
            "id-invalid",
        ),
        (
            "PATCH",
            "/v1/uploads/..%2fa/abc",
            vec![patch_type, complete, offset, length],
            400,
            "id-invalid",
        ),
    ];
    for (method, path, headers, status, problem) in table {
        let answer = rig.request(&head(method, path, headers), b"12345").await;
        assert_eq!(answer.status, *status, "{method} {headers:?}");
        let accepted = answer.headers.get("accept-patch").map(String::as_str);
        let expected = (*status == 415).then_some("application/partial-upload");
        assert_eq!(accepted, expected, "{headers:?}");
        if !problem.is_empty() {
            assert_eq!(answer.problem().0, *problem, "{headers:?}");
        }
    }
    assert_eq!(rig.offset("a", &archive).await, Some(2_000_000));
}

#[tokio::test]
async fn what_broke_off_at_the_end_of_a_receiver_is_there_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let archive = noise(SIZE);
    let config = ReceiveConfig::at(([127, 0, 0, 1], 0).into(), &folder.path().join("store"));
    let server = Server::bind(config.clone()).await.unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let mut client = Client::to(address).await;
    client.send(put_head("a", &archive).as_bytes()).await;
    client.send(&archive[..2_500_000]).await;
    // Cut off with its client, not before the bytes are in: what is in the socket when it stops is
    // nobody's yet.
    drop(client);
    arrived(&folder.path().join("store"), 2_500_000).await;
    stop.send(()).unwrap();
    running.await.unwrap();
    let server = Server::bind(config).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    let mut client = Client::to(address).await;
    let answer = client
        .request(
            &patch("a", &archive, 2_500_000, SIZE, "?1"),
            &archive[2_500_000..],
        )
        .await;
    assert_eq!(answer.receipt().sha256, Digest::of(&archive));
}

#[tokio::test]
async fn parts_beyond_what_they_may_take_together_are_not_kept() {
    let rig = Rig::with(|config, _| config.limits.parts_max_bytes = Some(1)).await;
    let archive = noise(SIZE);
    rig.break_off("a", &archive, 2_000_000).await;
    assert_eq!(rig.offset("a", &archive).await, None);
    rig.nothing_temporary_stays().await;
    // Nor what is announced in pieces.
    let (digest, size) = (Digest::of(&archive).to_header(), SIZE.to_string());
    let announce = [
        ("Content-Length", "0"),
        ("Repr-Digest", digest.as_str()),
        ("Upload-Complete", "?0"),
        ("Upload-Length", &size),
    ];
    let answer = rig
        .request(&head("PUT", "/v1/episodes/a", &announce), b"")
        .await;
    assert_eq!(answer.problem().0, "no-space");
}

#[tokio::test]
async fn publishing_goes_on_when_the_connection_has_gone() {
    let rig = Rig::new().await;
    for n in 0..10 {
        let (id, archive) = (format!("a{n}"), noise(700_000 + n));
        let mut client = rig.connect().await;
        client.send(put_head(&id, &archive).as_bytes()).await;
        client.send(&archive).await;
        // All of it has left; nobody waits for the answer.
        drop(client);
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let stored = async {
            while std::fs::read(rig.archive(&id)).ok().as_ref() != Some(&archive) {
                look.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, stored)
            .await
            .expect("it is not stored");
    }
}

/// Varnish asks by GET what it was asked by HEAD.
#[tokio::test]
async fn a_get_of_an_upload_is_answered_as_head_is() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.break_off("a", &archive, 1_000_000).await;
    rig.kept("a", &archive, 1_000_000).await;
    let ask = async |method: &str, path: &str| {
        let mut answer = rig.request(&head(method, path, &[]), b"").await;
        answer.headers.remove("date");
        (answer.status, answer.headers)
    };
    let kept = upload_path("a", &archive);
    let got = ask("GET", &kept).await;
    assert_eq!((got.0, got.1["upload-offset"].as_str()), (204, "1000000"));
    assert_eq!(got, ask("HEAD", &kept).await);
    for path in [upload_path("b", &archive), "/v1/uploads/a/abc".to_owned()] {
        assert_eq!(ask("GET", &path).await, ask("HEAD", &path).await, "{path}");
    }
    // Of what got through, too.
    assert_eq!(rig.put("a", &archive).await.status, 201);
    let got = ask("GET", &kept).await;
    assert_eq!((got.0, got.1["upload-complete"].as_str()), (204, "?1"));
    assert_eq!(got, ask("HEAD", &kept).await);
}
