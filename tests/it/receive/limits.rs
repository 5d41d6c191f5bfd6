//! How much is taken, and from whom: room, shares, connections; and what is not HTTP.

use super::*;
use sealift::{config::ReceiveLimits, model::episode::HostName};

fn limited(limit: impl FnOnce(&mut ReceiveLimits)) -> impl FnOnce(&mut ReceiveConfig, &Rig) {
    move |config, _| limit(&mut config.limits)
}

fn asking(id: &str, size: usize) -> String {
    let digest = Digest::of(b"").to_header();
    head(
        "PUT",
        &format!("/v1/episodes/{id}"),
        &[
            ("Content-Length", &size.to_string()),
            ("Repr-Digest", &digest),
            ("Expect", "100-continue"),
        ],
    )
}

#[tokio::test]
async fn an_episode_that_is_too_large_or_has_no_room_is_refused_before_its_first_byte() {
    let rig = Rig::with(limited(|limits| limits.max_episode_bytes = Some(1000))).await;
    let answer = rig.request(&asking("a", 1001), b"").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (413, "too-large")
    );
    assert_eq!(rig.request(&asking("a", 1000), b"").await.status, 100);

    let rig = Rig::with(limited(|limits| limits.min_free_bytes = u64::MAX / 4)).await;
    let answer = rig.request(&asking("a", 10), b"").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (507, "no-space")
    );
    for path in ["/healthz", "/v1/admission"] {
        assert_eq!(
            rig.request(&head("GET", path, &[]), b"").await.status,
            507,
            "{path}"
        );
    }
}

#[tokio::test]
async fn admission_says_of_a_length_what_an_upload_of_it_would_meet() {
    let rig = Rig::with(|config, rig| {
        config.limits.max_episode_bytes = Some(1 << 50);
        config.limits.host_quota_bytes = Some(1000);
        let line = format!("alpha = \"{}\"\n", Digest::of(b"alpha"));
        config.tokens_file = Some(rig.file("tokens", &line));
    })
    .await;
    for (length, status, kind) in [
        (None, 204, ""),
        (Some("1000"), 204, ""),
        (Some("1001"), 507, "quota-exceeded"),
        (Some("1125899906842625"), 413, "too-large"),
        (Some("many"), 400, "upload-invalid"),
        // It was a question: nothing of it is promised.
        (Some("1000"), 204, ""),
    ] {
        let mut lines = vec![("Authorization", "Bearer alpha")];
        lines.extend(length.map(|length| ("Upload-Length", length)));
        let answer = rig
            .request(&head("GET", "/v1/admission", &lines), b"")
            .await;
        assert_eq!(answer.status, status, "{length:?}");
        if status > 204 {
            assert_eq!(answer.problem().0, kind, "{length:?}");
        }
    }
    let rig = Rig::new().await;
    let lines = [("Upload-Length", "9000000000000000000")];
    let answer = rig
        .request(&head("GET", "/v1/admission", &lines), b"")
        .await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (507, "no-space")
    );
}

#[tokio::test]
async fn room_that_is_promised_to_an_upload_under_way_is_not_promised_again() {
    let folder = tempfile::tempdir().unwrap();
    let free = {
        let space = rustix::fs::statvfs(folder.path()).unwrap();
        space.f_bavail * space.f_frsize
    };
    let rig = Rig::with(limited(|limits| limits.min_free_bytes = free / 2)).await;
    // A third of the disk fits beside the half that is kept free, and a second third does not.
    let third = usize::try_from(free / 3).unwrap();
    let mut first = rig.connect().await;
    first.send(asking("a", third).as_bytes()).await;
    assert_eq!(first.answer(false).await.status, 100);
    assert_eq!(rig.request(&asking("b", third), b"").await.status, 507);
    drop(first);
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let given_back = async {
        while rig.request(&asking("b", third), b"").await.status != 100 {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, given_back)
        .await
        .expect("the room is not given back");
}

#[tokio::test]
async fn a_host_that_has_used_its_share_up_is_told_so_and_others_are_not() {
    let rig = Rig::with(|config, rig| {
        let line = |name: &str| format!("{name} = \"{}\"\n", Digest::of(name.as_bytes()));
        config.tokens_file = Some(rig.file("tokens", &["alpha", "beta"].map(line).concat()));
        config.limits.host_quota_bytes = Some(1000);
    })
    .await;
    let put = |host: &'static str, id: &'static str, size: usize| {
        let archive = noise(size);
        let request = put_with(
            id,
            &archive,
            &[("Authorization", &format!("Bearer {host}"))],
        );
        let rig = &rig;
        async move { rig.request(&request, &archive).await }
    };
    assert_eq!(put("alpha", "a", 600).await.status, 201);
    let refused = put("alpha", "b", 401).await;
    let (kind, problem) = refused.problem();
    assert_eq!((refused.status, kind.as_str()), (507, "quota-exceeded"));
    assert_eq!(
        (&problem["used_bytes"], &problem["quota_bytes"]),
        (&600.into(), &1000.into())
    );
    assert_eq!(put("alpha", "b", 400).await.status, 201);
    assert_eq!(
        put("alpha", "a", 600).await.status,
        200,
        "what is held already costs nothing"
    );
    assert_eq!(put("beta", "c", 900).await.status, 201);
}

#[tokio::test]
async fn what_is_kept_of_an_upload_takes_no_share_from_the_whole_of_it() {
    let rig = Rig::with(|config, rig| {
        let line = format!("alpha = \"{}\"\n", Digest::of(b"alpha"));
        config.tokens_file = Some(rig.file("tokens", &line));
        config.limits.host_quota_bytes = Some(3_500_000);
    })
    .await;
    let (archive, bearer) = (noise(3_000_000), ("Authorization", "Bearer alpha"));
    let put = put_with("a", &archive, &[bearer]);
    let mut breaks_off = rig.connect().await;
    breaks_off.send(put.as_bytes()).await;
    breaks_off.send(&archive[..2_000_000]).await;
    drop(breaks_off);
    let upload = format!("/v1/uploads/a/{}", Digest::of(&archive));
    let asked = head("HEAD", &upload, &[bearer]);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let kept = async {
        while rig.request(&asked, b"").await.status != 204 {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, kept)
        .await
        .expect("it is not kept");
    let other = put_with("b", &archive, &[bearer]);
    let refused = rig.request(&other, &archive).await;
    assert_eq!(refused.problem().0, "quota-exceeded");
    assert_eq!(rig.request(&put, &archive).await.status, 201);
}

#[tokio::test]
async fn a_host_has_no_more_requests_under_way_than_it_may() {
    let rig = Rig::with(|config, rig| {
        let line = format!("alpha = \"{}\"\n", Digest::of(b"alpha"));
        config.tokens_file = Some(rig.file("tokens", &line));
        config.limits.max_connections_per_host = 2.try_into().unwrap();
        config.readers.insert(HostName::parse("alpha").unwrap());
    })
    .await;
    let archive = noise(1000);
    let request = |id: &str| {
        put_with(
            id,
            &archive,
            &[
                ("Authorization", "Bearer alpha"),
                ("Expect", "100-continue"),
            ],
        )
    };
    let mut under_way = Vec::new();
    for id in ["a", "b"] {
        let mut client = rig.connect().await;
        client.send(request(id).as_bytes()).await;
        assert_eq!(client.answer(false).await.status, 100);
        under_way.push(client);
    }
    let refused = rig.request(&request("c"), b"").await;
    assert_eq!(
        (refused.status, refused.problem().0.as_str()),
        (503, "too-many")
    );
    assert!(refused.headers.contains_key("retry-after"));
    let mut first = under_way.remove(0);
    first.send(&archive).await;
    assert_eq!(first.answer(false).await.status, 201);
    assert_eq!(rig.request(&request("c"), b"").await.status, 100);
}

/// A receiver that holds an archive larger than all buffers on the way.
async fn with_a_large_archive(configure: impl FnOnce(&mut ReceiveConfig, &Rig)) -> (Rig, String) {
    let rig = Rig::with(|config, rig| {
        let line = format!("alpha = \"{}\"\n", Digest::of(b"alpha"));
        config.tokens_file = Some(rig.file("tokens", &line));
        configure(config, rig);
    })
    .await;
    let (archive, bearer) = (noise(24 << 20), ("Authorization", "Bearer alpha"));
    let put = put_with("a", &archive, &[bearer]);
    assert_eq!(rig.request(&put, &archive).await.status, 201);
    (rig, head("GET", "/v1/episodes/a", &[bearer]))
}

/// Connections whose answer has begun and is not read.
async fn downloads(rig: &Rig, get: &str, number: usize) -> Vec<Client> {
    let mut downloads = Vec::new();
    for _ in 0..number {
        let mut client = rig.connect().await;
        client.send(get.as_bytes()).await;
        let mut line = String::new();
        client.0.read_line(&mut line).await.unwrap();
        assert!(line.contains(" 200 "), "{line}");
        downloads.push(client);
    }
    downloads
}

#[tokio::test]
async fn a_download_is_a_request_of_its_host_until_its_last_byte_is_out() {
    let (rig, get) = with_a_large_archive(|config, _| {
        config.limits.max_connections_per_host = 4.try_into().unwrap();
    })
    .await;
    let mut under_way = downloads(&rig, &get, 4).await;
    for _ in 0..8 {
        let refused = rig.request(&get, b"").await;
        assert_eq!(
            (refused.status, refused.problem().0.as_str()),
            (503, "too-many")
        );
    }
    let mut last = under_way.pop().unwrap();
    tokio::time::timeout(DEADLINE, async {
        let mut taken = 0;
        let mut chunk = vec![0; 1 << 16];
        while taken < 24 << 20 {
            taken += last.0.read(&mut chunk).await.unwrap();
        }
    })
    .await
    .expect("the download does not end");
    downloads(&rig, &get, 1).await;
}

#[tokio::test]
async fn healthz_is_answered_though_a_download_is_under_way_on_each_connection() {
    let (rig, get) = with_a_large_archive(|config, _| {
        config.limits.max_connections = 4.try_into().unwrap();
    })
    .await;
    let health = head("GET", "/healthz", &[]);
    let under_way = downloads(&rig, &get, 4).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        assert_eq!(rig.request(&health, b"").await.status, 200);
        // What asks nothing makes room here too.
        silent.push(rig.connect().await);
    }
    let refused = rig.request(&get, b"").await;
    assert_eq!(
        (refused.status, refused.problem().0.as_str()),
        (503, "too-many")
    );
    assert_eq!(refused.headers["connection"], "close");
    drop(under_way);
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let taken_again = async {
        while rig.request(&get, b"").await.status != 200 {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, taken_again)
        .await
        .expect("the places are not given back");
}

#[tokio::test]
async fn healthz_is_answered_behind_an_address_from_which_many_others_connect() {
    let (rig, get) = with_a_large_archive(|config, _| {
        config.limits.max_connections = 2.try_into().unwrap();
    })
    .await;
    let _under_way = downloads(&rig, &get, 2).await;
    let health = head("GET", "/healthz", &[]);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = tokio::time::Instant::now();
        let mut monitor = rig.connect().await;
        // They come before its head does.
        let mut others = Vec::new();
        for _ in 0..40 {
            others.push(rig.connect().await);
        }
        assert_eq!(monitor.request(&health, b"").await.status, 200);
        fastest = fastest.min(begun.elapsed());
    }
    // On a busy machine one of them may wait for the processor.
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
}

#[tokio::test]
async fn three_hundred_that_trickle_do_not_keep_the_healthy_ones_from_being_served() {
    let rig = Rig::new().await;
    let trickling: Vec<_> = (0..300)
        .map(|n| {
            let address = rig.receivers[0];
            tokio::spawn(async move {
                let mut client = Client::to(address).await;
                // Half of them never finish their head, the other half their body.
                let request = if n % 2 == 0 {
                    head("GET", "/healthz", &[])
                } else {
                    put_head("slow", &[0; 9000])
                };
                let mut second = tokio::time::interval(Duration::from_secs(1));
                let slow = if n % 2 == 0 {
                    request.as_bytes()
                } else {
                    &[0; 9000][..]
                };
                if n % 2 == 1 {
                    client.send(request.as_bytes()).await;
                }
                for byte in slow.chunks(1).take(60) {
                    second.tick().await;
                    if client.0.write_all(byte).await.is_err() || client.0.flush().await.is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    let archive = noise(100_000);
    for n in 0..20 {
        assert_eq!(rig.put(&format!("healthy-{n}"), &archive).await.status, 201);
    }
    trickling.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn connections_that_ask_nothing_do_not_keep_a_newcomer_out() {
    let rig = Rig::with(limited(|limits| {
        limits.max_connections = 8.try_into().unwrap();
    }))
    .await;
    let health = head("GET", "/healthz", &[]);
    // Well before any time-out of an idle connection.
    let at_once = Duration::from_secs(4);
    for idle in [true, false] {
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut client = rig.connect().await;
            if idle {
                assert_eq!(client.request(&health, b"").await.status, 200);
            } else {
                client.send(b"GET /healthz HTTP/1.1\r\nHo").await;
            }
            held.push(client);
        }
        for _ in 0..9 {
            let answer = tokio::time::timeout(at_once, rig.request(&health, b"")).await;
            assert_eq!(answer.expect("the newcomer is kept out").status, 200);
        }
    }
}

#[tokio::test]
async fn a_request_under_way_is_not_closed_for_a_newcomer() {
    let rig = Rig::with(limited(|limits| {
        limits.max_connections = 2.try_into().unwrap();
    }))
    .await;
    let archive = noise(1000);
    let mut uploading = rig.connect().await;
    uploading
        .send(put_with("a", &archive, &[("Expect", "100-continue")]).as_bytes())
        .await;
    assert_eq!(uploading.answer(false).await.status, 100);
    for _ in 0..5 {
        assert_eq!(
            rig.request(&head("GET", "/healthz", &[]), b"").await.status,
            200
        );
        let mut idle = rig.connect().await;
        assert_eq!(
            idle.request(&head("GET", "/healthz", &[]), b"")
                .await
                .status,
            200
        );
    }
    uploading.send(&archive).await;
    assert_eq!(uploading.answer(false).await.status, 201);
}

#[tokio::test]
async fn what_is_smuggled_or_malformed_gets_a_clear_answer_or_a_closed_connection() {
    let rig = Rig::new().await;
    let digest = Digest::of(b"12345").to_header();
    let put = |framing: &str| {
        format!(
            "PUT /v1/episodes/a HTTP/1.1\r\nHost: r\r\nRepr-Digest: {digest}\r\n{framing}\r\n\r\n12345"
        )
    };
    for request in [
        put("Content-Length: 5\r\nContent-Length: 6"),
        put("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        put("Transfer-Encoding: chunked, identity"),
        put("Transfer-Encoding: xchunked"),
        put("Content-Length: +5"),
        put("Content-Length: 5, 6"),
        put("Content-Length : 5"),
        "PUT /v1/episodes/a\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        format!(
            "GET /healthz HTTP/1.1\r\nHost: r\r\nX: {}\r\n\r\n",
            "x".repeat(200_000)
        ),
        format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500)),
    ] {
        let mut client = rig.connect().await;
        let _ = client.0.write_all(request.as_bytes()).await;
        let _ = client.0.flush().await;
        let _ = client.0.get_mut().shutdown().await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, client.0.read_to_end(&mut answer)).await;
        let _ = ended.expect("it stays open");
        let answer = String::from_utf8_lossy(&answer);
        let first = answer.lines().next().unwrap_or_default();
        assert!(
            first.is_empty() || first.contains(" 4"),
            "{first}: {}",
            request.escape_debug()
        );
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            usize::from(!first.is_empty()),
            "{answer}"
        );
    }
    assert!(!rig.archive("a").exists());
    rig.nothing_temporary_stays().await;
    assert_eq!(rig.put("a", b"12345").await.status, 201);
}

#[tokio::test]
async fn the_metrics_say_what_happened_and_how_the_store_is() {
    let rig = Rig::new().await;
    rig.put("a", &noise(1000)).await;
    rig.put("a", &noise(1000)).await;
    rig.put("a", &noise(1001)).await;
    let answer = rig.request(&head("GET", "/metrics", &[]), b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text"));
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        "sealift_receiver_requests_total{method=\"PUT\",status=\"201\"} 1",
        "sealift_receiver_requests_total{method=\"PUT\",status=\"200\"} 1",
        "sealift_receiver_requests_total{method=\"PUT\",status=\"409\"} 1",
        "sealift_receiver_store_episodes 1",
        "sealift_receiver_store_bytes 1000",
        "sealift_receiver_can_store 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    for name in [
        "free_bytes",
        "request_seconds_bucket",
        "connections",
        "parts_bytes",
    ] {
        assert!(
            text.contains(&format!("sealift_receiver_{name}")),
            "{name}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uploads_at_once_and_of_what_breaks_off_no_more_than_its_share_is_a_hosts() {
    const MIB: usize = 1 << 20;
    let rig = Rig::with(|config, rig| {
        config.tokens_file =
            Some(rig.file("tokens", &format!("alpha = \"{}\"\n", Digest::of(b"alpha"))));
        config.limits.host_quota_bytes = Some(10 * MIB as u64);
    })
    .await;
    let bearer = ("Authorization", "Bearer alpha");
    let mut uploads = JoinSet::new();
    for n in 0..12 {
        let (address, archive) = (rig.receivers[0], noise(3 * MIB + n));
        let request = put_with(
            &format!("a{n}"),
            &archive,
            &[bearer, ("Expect", "100-continue")],
        );
        uploads.spawn(async move {
            let mut client = Client::to(address).await;
            client.send(request.as_bytes()).await;
            let status = client.answer(false).await.status;
            (client, archive, status)
        });
    }
    let mut under_way = Vec::new();
    for (client, archive, status) in uploads.join_all().await {
        match status {
            100 => under_way.push((client, archive)),
            other => assert_eq!(other, 507),
        }
    }
    assert_eq!(
        under_way.len(),
        3,
        "three times three mebibytes fit into ten"
    );
    let admission = rig
        .request(&head("GET", "/v1/admission", &[bearer]), b"")
        .await;
    assert_eq!(admission.status, 204, "a little more fits");
    // They break off: what is kept of them is of the share as well.
    for (mut client, archive) in under_way {
        client.send(&archive[..3 * MIB - 1]).await;
    }
    let archive = noise(2 * MIB + 1);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let kept = async {
        loop {
            let parts = std::fs::read_dir(rig.folder.path().join("store/incoming")).unwrap();
            let notes = parts.filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "json")
            });
            if notes.count() == 3 {
                break;
            }
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, kept)
        .await
        .expect("not all are kept");
    let refused = rig
        .request(&put_with("b", &archive, &[bearer]), &archive)
        .await;
    assert_eq!(refused.problem().0, "quota-exceeded");
}

#[tokio::test]
async fn a_request_says_once_for_which_host_it_is() {
    let rig = Rig::new().await;
    for (version, lines, status) in [
        ("1.1", "", 400),
        ("1.1", "Host: r\r\nHost: r\r\n", 400),
        ("1.1", "Host: a b\r\n", 400),
        ("1.1", "Host: user@r\r\n", 400),
        ("1.1", "Host: r:port\r\n", 400),
        ("1.1", "Host: r/path\r\n", 400),
        ("1.1", "Host: r, s\r\n", 400),
        ("1.1", "Host: r\r\n", 200),
        ("1.1", "Host: r.example.:8490\r\n", 200),
        ("1.1", "Host: 192.0.2.7:\r\n", 200),
        ("1.1", "Host: [2001:db8::7]:8490\r\n", 200),
        ("1.1", "Host:\r\n", 200),
        ("1.0", "", 200),
        ("1.0", "Host: r\r\nHost: s\r\n", 400),
    ] {
        let request = format!("GET /healthz HTTP/{version}\r\n{lines}Connection: close\r\n\r\n");
        let answer = rig.request(&request, b"").await;
        assert_eq!(answer.status, status, "{request}");
        if status == 400 {
            assert_eq!(answer.problem().0, "host-invalid", "{request}");
        }
    }
}

#[tokio::test]
async fn the_server_as_a_whole_says_what_it_takes() {
    let rig = Rig::new().await;
    let allowed = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";
    // The second and third are how a proxy is asked for the same.
    for target in ["*", "http://receiver", "http://receiver:8490/"] {
        let answer = rig.request(&head("OPTIONS", target, &[]), b"").await;
        assert_eq!(
            (answer.status, answer.headers["allow"].as_str()),
            (204, allowed),
            "{target}"
        );
    }
    for (method, target) in [
        ("GET", "*"),
        ("OPTIONS", "/"),
        ("GET", "http://receiver"),
        ("OPTIONS", "http://receiver/other"),
    ] {
        let answer = rig.request(&head(method, target, &[]), b"").await;
        assert_eq!(answer.status, 404, "{method} {target}");
    }
}

#[tokio::test]
async fn the_machines_own_clients_read_the_metrics_over_ipv4_on_an_ipv6_address() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        println!("skipped: there is no IPv6 here");
        return;
    }
    let rig = Rig::with(|config, rig| {
        config.listen = "[::]:0".parse().unwrap();
        config.anyone_may_store = true;
        let line = format!("alpha = \"{}\"\n", Digest::of(b"alpha"));
        config.tokens_file = Some(rig.file("tokens", &line));
    })
    .await;
    let port = rig.receivers[0].port();
    for address in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        let mut client = Client::to(to).await;
        let answer = client.request(&head("GET", "/metrics", &[]), b"").await;
        assert_eq!(answer.status, 200, "{address}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for_and_agree_with_healthz() {
    let rig = Rig::new().await;
    rig.put("a", b"archive").await;
    for refused in ["PUT /v1/episodes/a\r\n\r\n", "\u{0}\r\n\r\n"] {
        let mut client = rig.connect().await;
        client.send(refused.as_bytes()).await;
        assert_eq!(client.answer(false).await.status, 400);
        // It is counted by when the connection has ended.
        let mut rest = Vec::new();
        client.0.read_to_end(&mut rest).await.unwrap();
    }
    let metrics = async |rig: &Rig, accept: &str| {
        let head = head("GET", "/metrics", &[("Accept", accept)]);
        let answer = rig.request(&head, b"").await;
        let text = String::from_utf8(answer.body).unwrap();
        (answer.headers["content-type"].clone(), text)
    };
    let (media_type, text) = metrics(&rig, "text/plain;version=0.0.4").await;
    assert!(
        media_type.starts_with("text/plain; version=0.0.4"),
        "{media_type}"
    );
    crate::control::check(&text);
    for line in [
        "# TYPE sealift_receiver_requests_total counter",
        "sealift_receiver_requests_total{method=\"PUT\",status=\"201\"} 1",
        "sealift_receiver_requests_total{method=\"PUT\",status=\"507\"} 0",
        "sealift_receiver_heads_refused_total 2",
        "sealift_receiver_can_store 1",
    ] {
        assert!(text.lines().any(|has| has == line), "{line}: {text}");
    }
    let version = format!(
        "sealift_receiver_build_info{{version=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.contains(&version), "{text}");
    let (media_type, text) = metrics(&rig, "application/openmetrics-text;q=0.5,*/*;q=0.2").await;
    assert!(
        media_type.starts_with("application/openmetrics-text"),
        "{media_type}"
    );
    assert!(
        text.contains("# TYPE sealift_receiver_requests counter\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");

    let full = Rig::with(limited(|limits| limits.min_free_bytes = u64::MAX)).await;
    let health = full.request(&head("GET", "/healthz", &[]), b"").await;
    let (_, text) = metrics(&full, "*/*").await;
    assert_eq!(health.status, 507);
    assert!(text.contains("\nsealift_receiver_can_store 0\n"), "{text}");
}
