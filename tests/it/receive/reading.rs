//! What is held can be read again: HEAD, GET, ranges, and by whom.

use super::*;
use sealift::{config::Namespace, model::episode::HostName};

/// Two hosts and a reader, each by its token.
fn by_token(config: &mut ReceiveConfig, rig: &Rig) {
    let line = |name: &str| {
        format!(
            "{name} = \"{}\"\n",
            Digest::of(format!("token-{name}").as_bytes())
        )
    };
    config.tokens_file = Some(rig.file("tokens", &["alpha", "beta", "reader"].map(line).concat()));
    config.readers.insert(HostName::parse("reader").unwrap());
}

fn bearer(name: &str) -> String {
    format!("Bearer token-{name}")
}

impl Rig {
    async fn put_as(&self, host: &str, id: &str, archive: &[u8]) -> Answer {
        self.request(
            &put_with(id, archive, &[("Authorization", &bearer(host))]),
            archive,
        )
        .await
    }

    async fn ask_as(&self, host: &str, method: &str, path: &str) -> Answer {
        self.request(
            &head(method, path, &[("Authorization", &bearer(host))]),
            b"",
        )
        .await
    }
}

#[tokio::test]
async fn the_archive_comes_back_whole_or_in_part() {
    let rig = Rig::new().await;
    let archive = noise(300_000);
    rig.put("a", &archive).await;
    let digest = Digest::of(&archive);
    let etag = format!("\"{digest}\"");
    let get = async |headers: &[(&str, &str)]| {
        rig.request(&head("GET", "/v1/episodes/a", headers), b"")
            .await
    };
    for (headers, status, bytes, range) in [
        (vec![], 200, 0..300_000, None),
        (
            vec![("Range", "bytes=0-0")],
            206,
            0..1,
            Some("bytes 0-0/300000"),
        ),
        (
            vec![("Range", "bytes=131071-262144")],
            206,
            131_071..262_145,
            Some("bytes 131071-262144/300000"),
        ),
        (
            vec![("Range", "bytes=299999-")],
            206,
            299_999..300_000,
            Some("bytes 299999-299999/300000"),
        ),
        (
            vec![("Range", "bytes=-5")],
            206,
            299_995..300_000,
            Some("bytes 299995-299999/300000"),
        ),
        (
            vec![("Range", "bytes=5-"), ("If-Range", &etag)],
            206,
            5..300_000,
            Some("bytes 5-299999/300000"),
        ),
        (
            vec![("Range", "bytes=5-"), ("If-Range", "\"other\"")],
            200,
            0..300_000,
            None,
        ),
        (vec![("Range", "bytes=1-2,4-5")], 200, 0..300_000, None),
    ] {
        let answer = get(&headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        assert!(answer.body == archive[bytes], "{headers:?}");
        assert_eq!(
            answer.headers.get("content-range").map(String::as_str),
            range,
            "{headers:?}"
        );
        assert_eq!(answer.headers["repr-digest"], digest.to_header());
        assert_eq!(
            (
                answer.headers["etag"].as_str(),
                answer.headers["accept-ranges"].as_str()
            ),
            (&*etag, "bytes")
        );
    }
    let answer = get(&[("Range", "bytes=300000-")]).await;
    assert_eq!(
        (answer.status, answer.headers["content-range"].as_str()),
        (416, "bytes */300000")
    );
    assert_eq!(
        rig.request(&head("GET", "/v1/episodes/b", &[]), b"")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn preconditions_decide_whether_what_is_held_is_sent() {
    let rig = Rig::new().await;
    let archive = noise(1000);
    rig.put("a", &archive).await;
    let held = rig.request(&head("HEAD", "/v1/episodes/a", &[]), b"").await;
    let (etag, modified) = (&held.headers["etag"], &held.headers["last-modified"]);
    let weak = format!("W/{etag}");
    let (long_ago, part) = ("Sun, 06 Nov 1994 08:49:37 GMT", ("Range", "bytes=10-"));
    for (headers, get, to_head) in [
        (vec![("If-None-Match", etag.as_str())], 304, 304),
        (vec![("If-None-Match", &weak), part], 304, 304),
        (vec![("If-None-Match", "*")], 304, 304),
        (vec![("If-None-Match", "\"other\"")], 200, 200),
        (vec![("If-Modified-Since", modified)], 304, 304),
        (vec![("If-Modified-Since", long_ago), part], 206, 200),
        (vec![("If-Match", etag), part], 206, 200),
        (vec![("If-Match", "\"x\", *"), part], 206, 200),
        (vec![("If-Match", "\"other\""), part], 412, 412),
        (vec![("If-Match", &weak)], 412, 412),
        (vec![("If-Unmodified-Since", modified)], 200, 200),
        (vec![("If-Unmodified-Since", long_ago), part], 412, 412),
        // Then the range, if it is one of this archive.
        (vec![("If-Match", etag), part, ("If-Range", etag)], 206, 200),
        (
            vec![("If-Match", etag), part, ("If-Range", &weak)],
            200,
            200,
        ),
        (vec![("If-Match", etag), ("Range", "bytes=1000-")], 416, 200),
    ] {
        for (method, status) in [("GET", get), ("HEAD", to_head)] {
            let answer = rig
                .request(&head(method, "/v1/episodes/a", &headers), b"")
                .await;
            assert_eq!(answer.status, status, "{method} {headers:?}");
            if status == 304 {
                assert_eq!(answer.body, b"");
                assert_eq!(&answer.headers["etag"], etag);
                assert_eq!(&answer.headers["last-modified"], modified);
            }
            if (method, status) == ("GET", 412) {
                assert_eq!(answer.problem().0, "precondition-failed");
            }
        }
    }
}

#[tokio::test]
async fn a_stamp_that_is_ahead_of_the_clock_is_not_told_and_no_date_is_compared_with_it() {
    let rig = Rig::new().await;
    rig.put("a", &noise(1000)).await;
    let get = async |headers: &[(&str, &str)]| {
        rig.request(&head("GET", "/v1/episodes/a", headers), b"")
            .await
    };
    let read = |date: &str| httpdate::parse_http_date(date).unwrap();
    let dated = get(&[]).await;
    let then = dated.headers["last-modified"].clone();
    assert!(read(&then) <= read(&dated.headers["date"]), "{then}");
    // The store's clock is ahead, as that of a file server may be.
    let archive = std::fs::File::options().write(true).open(rig.archive("a"));
    let ahead = read(&then) + Duration::from_secs(86_400);
    archive.unwrap().set_modified(ahead).unwrap();
    for headers in [
        vec![],
        vec![("If-Unmodified-Since", then.as_str())],
        vec![("If-Modified-Since", &then)],
    ] {
        let answer = get(&headers).await;
        assert_eq!(answer.status, 200, "{headers:?}");
        assert!(!answer.headers.contains_key("last-modified"));
    }
}

#[tokio::test]
async fn an_upload_for_what_is_not_held_so_is_no_verdict_on_its_commit() {
    let rig = Rig::new().await;
    let archive = noise(1000);
    let put = async |archive: &[u8], headers: &[(&str, &str)]| {
        let mut headers = headers.to_vec();
        headers.push(("Expect", "100-continue"));
        let mut client = rig.connect().await;
        client
            .send(put_with("a", archive, &headers).as_bytes())
            .await;
        match client.answer(false).await {
            answer if answer.status == 100 => {
                client.send(archive).await;
                client.answer(false).await
            }
            answer => answer,
        }
    };
    for name in ["*", "\"other\""] {
        let answer = put(&archive, &[("If-Match", name)]).await;
        let (kind, problem) = answer.problem();
        assert_eq!((answer.status, &*kind), (412, "precondition-failed"));
        assert!(problem.get("your_commit").is_none() && problem.get("head_commit").is_none());
    }
    assert!(!rig.archive("a").exists());
    assert_eq!(put(&archive, &[("If-None-Match", "*")]).await.status, 201);
    let ours = format!("\"{}\"", Digest::of(&archive));
    assert_eq!(put(&archive, &[("If-Match", &ours)]).await.status, 200);
    assert_eq!(
        put(&archive, &[("If-Match", "\"other\"")]).await.status,
        412
    );
    // What would have been refused anyhow is refused for that (RFC 9110, section 13.2.1).
    let answer = put(b"another", &[("If-Match", "\"other\"")]).await;
    assert_eq!(answer.problem().0, "conflict");
    // Nothing is overwritten, whatever is asked: a host whose receipt was lost hears it.
    assert_eq!(put(&archive, &[("If-None-Match", "*")]).await.status, 200);
}

#[tokio::test]
async fn a_reader_that_leaves_in_the_middle_holds_nothing_open() {
    let rig = Rig::new().await;
    let archive = noise(40 << 20);
    rig.put("a", &archive).await;
    let open = |path: &std::path::Path| {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter(|target| target == path)
            .count()
    };
    for _ in 0..5 {
        let mut client = rig.connect().await;
        client
            .send(head("GET", "/v1/episodes/a", &[]).as_bytes())
            .await;
        client.0.read_exact(&mut [0; 100_000]).await.unwrap();
    }
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let closed = async {
        while open(&rig.archive("a")) > 0 {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, closed)
        .await
        .expect("the archive stays open");
}

#[tokio::test]
async fn on_request_the_bytes_are_read_again_and_what_has_rotted_shows() {
    let rig = Rig::new().await;
    let archive = noise(100_000);
    rig.put("a", &archive).await;
    let reread = head("HEAD", "/v1/episodes/a", &[("Sealift-Reread", "?1")]);
    let answer = rig.request(&reread, b"").await;
    assert_eq!(
        (answer.status, answer.headers["sealift-reread"].as_str()),
        (200, "?1")
    );
    assert_eq!(
        answer.headers["repr-digest"],
        Digest::of(&archive).to_header()
    );
    // A bit turns, and neither size nor time tells.
    let path = rig.archive("a");
    let before = path.metadata().unwrap().modified().unwrap();
    let mut rotten = archive.clone();
    rotten[77_777] ^= 4;
    std::fs::write(&path, &rotten).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(before)
        .unwrap();
    let plain = rig.request(&head("HEAD", "/v1/episodes/a", &[]), b"").await;
    assert_eq!(
        plain.headers["repr-digest"],
        Digest::of(&archive).to_header()
    );
    assert!(!plain.headers.contains_key("sealift-reread"));
    let answer = rig.request(&reread, b"").await;
    assert_eq!(
        answer.headers["repr-digest"],
        Digest::of(&rotten).to_header()
    );
}

#[tokio::test]
async fn a_host_reads_its_own_and_a_reader_everybodys() {
    let rig = Rig::with(by_token).await;
    let receipt = rig.put_as("alpha", "a", b"of alpha").await.receipt();
    assert_eq!(receipt.host.as_deref(), Some("alpha"));
    for method in ["GET", "HEAD"] {
        assert_eq!(
            rig.ask_as("alpha", method, "/v1/episodes/a").await.status,
            200
        );
        assert_eq!(
            rig.ask_as("reader", method, "/v1/episodes/a").await.status,
            200
        );
        assert_eq!(
            rig.ask_as("beta", method, "/v1/episodes/a").await.status,
            403
        );
        assert_eq!(
            rig.ask_as("stranger", method, "/v1/episodes/a")
                .await
                .status,
            401
        );
    }
    // Without namespaces an id is one episode: the second host is told whose it is, or that it
    // conflicts.
    assert_eq!(
        rig.put_as("beta", "a", b"of alpha")
            .await
            .receipt()
            .host
            .as_deref(),
        Some("alpha")
    );
    assert_eq!(rig.put_as("beta", "a", b"of beta").await.status, 409);
}

#[tokio::test]
async fn whose_an_episode_is_outlives_the_receiver_and_a_lost_record_is_claimed_by_who_has_the_archive()
 {
    let mut rig = Rig::with(by_token).await;
    rig.put_as("alpha", "a", b"of alpha").await;
    rig = rig.and_receiver().await;
    rig.receivers.remove(0);
    assert_eq!(
        rig.ask_as("alpha", "HEAD", "/v1/episodes/a").await.status,
        200
    );
    let record = rig.folder.path().join("store/receipts/a.json");
    #[expect(clippy::disallowed_methods, reason = "the disk loses what it likes")]
    std::fs::remove_file(record).unwrap();
    assert_eq!(
        rig.ask_as("alpha", "HEAD", "/v1/episodes/a").await.status,
        403,
        "nobody knows whose it is"
    );
    // Who only knows the digest is asked for the bytes, and has gained nothing.
    let head_only = put_with(
        "a",
        b"of alpha",
        &[
            ("Authorization", &bearer("beta")),
            ("Expect", "100-continue"),
        ],
    );
    assert_eq!(rig.request(&head_only, b"").await.status, 100);
    assert_eq!(
        rig.ask_as("beta", "HEAD", "/v1/episodes/a").await.status,
        403
    );
    // Nor is anybody told the digest who may not read.
    let refused = rig.put_as("beta", "a", b"junk!").await;
    let (kind, problem) = refused.problem();
    assert_eq!(
        (kind.as_str(), problem.get("held_sha256")),
        ("conflict", None)
    );
    assert_eq!(rig.put_as("alpha", "a", b"of alpha").await.status, 200);
    assert_eq!(
        rig.ask_as("alpha", "HEAD", "/v1/episodes/a").await.status,
        200
    );
}

#[tokio::test]
async fn with_namespaces_two_hosts_have_an_episode_of_the_same_id_each() {
    let rig = Rig::with(|config, rig| {
        by_token(config, rig);
        config.namespace = Namespace::Host;
    })
    .await;
    for host in ["alpha", "beta"] {
        let archive = format!("of {host}");
        assert_eq!(rig.put_as(host, "a", archive.as_bytes()).await.status, 201);
        assert_eq!(
            rig.ask_as(host, "GET", "/v1/episodes/a").await.body,
            archive.as_bytes()
        );
        let path = rig
            .folder
            .path()
            .join(format!("store/episodes/{host}/a.tar.zst"));
        assert_eq!(std::fs::read(path).unwrap(), archive.as_bytes());
        let of_host = format!("/v1/episodes/a?host={host}");
        assert_eq!(
            rig.ask_as("reader", "GET", &of_host).await.body,
            archive.as_bytes()
        );
    }
    assert_eq!(
        rig.ask_as("alpha", "GET", "/v1/episodes/a?host=beta")
            .await
            .status,
        403
    );
    assert_eq!(
        rig.ask_as("reader", "GET", "/v1/episodes/a?host=..%2f..")
            .await
            .status,
        400
    );
    assert_eq!(
        rig.ask_as("reader", "GET", "/v1/episodes/a").await.status,
        404,
        "it has none of its own"
    );
}

#[tokio::test]
async fn a_store_that_was_filled_the_other_way_is_refused_in_plain_words() {
    let rig = Rig::with(by_token).await;
    rig.put_as("alpha", "a", b"x").await;
    let other = ReceiveConfig {
        namespace: Namespace::Host,
        ..rig.config.clone()
    };
    let error = Server::bind(other).await.unwrap_err().to_string();
    assert!(error.contains("namespace = \"none\""), "{error}");
}

#[tokio::test]
async fn what_a_store_holds_of_a_host_makes_its_name_known() {
    let configure = |config: &mut ReceiveConfig, rig: &Rig| {
        by_token(config, rig);
        config.namespace = Namespace::Host;
    };
    let mut rig = Rig::with(configure).await;
    rig.put_as("alpha", "a", b"of alpha").await;
    // The same host, by another hand.
    let line = format!("ALPHA = \"{}\"\n", Digest::of(b"token-ALPHA"));
    rig.config.tokens_file = Some(rig.file("other-tokens", &line));
    rig = rig.and_receiver().await;
    rig.receivers.remove(0);
    let refused = rig.put_as("ALPHA", "a", b"of alpha").await;
    assert_eq!(refused.problem().0, "unauthenticated");
    assert!(!rig.folder.path().join("store/episodes/ALPHA").exists());
}

#[tokio::test]
async fn a_host_is_spelt_anew_by_its_token_at_a_reload_where_nothing_is_filed_under_the_old_name() {
    for (namespace, status) in [(Namespace::None, 201), (Namespace::Host, 401)] {
        let rig = Rig::with(|config, rig| {
            by_token(config, rig);
            config.namespace = namespace;
        })
        .await;
        rig.put_as("alpha", "a", b"of alpha").await.receipt();
        let line = format!("ALPHA = \"{}\"\n", Digest::of(b"token-alpha"));
        rig.file("tokens", &line);
        rig.reload().await;
        let answer = rig.put_as("alpha", "b", b"of ALPHA").await;
        assert_eq!(answer.status, status);
    }
}
