//! An upload whose digest comes at its end: docs/transport.md, "Sending while packing".

use super::*;

const SIZE: usize = 3 << 20;

fn path(id: &str) -> String {
    format!("/v1/uploads/{id}/plan-{}", Digest::of(b"the plan"))
}

fn begin(id: &str, bound: usize) -> String {
    let bound = bound.to_string();
    let headers = [
        ("Upload-Complete", "?0"),
        ("Sealift-Length-Bound", bound.as_str()),
        ("Transfer-Encoding", "chunked"),
    ];
    head("PUT", &path(id), &headers)
}

fn more(id: &str, at: usize) -> String {
    let at = at.to_string();
    let headers = [
        ("Content-Type", "application/partial-upload"),
        ("Upload-Offset", at.as_str()),
        ("Upload-Complete", "?0"),
        ("Transfer-Encoding", "chunked"),
    ];
    head("PATCH", &path(id), &headers)
}

/// The last bytes, from `at` on, of what is said to be `archive`.
fn last(id: &str, archive: &[u8], at: usize) -> String {
    let (offset, length) = (at.to_string(), (archive.len() - at).to_string());
    let digest = Digest::of(archive).to_header();
    let headers = [
        ("Content-Type", "application/partial-upload"),
        ("Upload-Offset", offset.as_str()),
        ("Upload-Complete", "?1"),
        ("Content-Length", length.as_str()),
        (REPR_DIGEST, digest.as_str()),
    ];
    head("PATCH", &path(id), &headers)
}

fn in_chunks(bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in bytes.chunks(100_000) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

impl Rig {
    async fn begun(&self, id: &str, archive: &[u8], at: usize) {
        let answer = self
            .request(&begin(id, archive.len() + 100), &in_chunks(&archive[..at]))
            .await;
        assert_eq!(answer.status, 201, "{}", answer.body.escape_ascii());
        assert_eq!(answer.headers["upload-offset"], at.to_string());
        assert_eq!(answer.headers["upload-complete"], "?0");
        assert_eq!(answer.headers["location"], path(id));
    }
}

#[tokio::test]
async fn what_is_sent_while_it_is_packed_is_stored_once_its_digest_is_known_and_not_before() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.begun("a", &archive, 1_000_000).await;
    assert!(!rig.archive("a").exists());
    let answer = rig
        .request(
            &more("a", 1_000_000),
            &in_chunks(&archive[1_000_000..2_000_000]),
        )
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["upload-offset"], "2000000");
    // How long it will be is not known.
    let asked = rig.request(&head("HEAD", &path("a"), &[]), b"").await;
    assert_eq!(asked.headers["upload-offset"], "2000000");
    assert!(!asked.headers.contains_key("upload-length"));
    assert!(!rig.archive("a").exists());
    let answer = rig
        .request(&last("a", &archive, 2_000_000), &archive[2_000_000..])
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["upload-complete"], "?1");
    assert_eq!(answer.receipt().sha256, Digest::of(&archive));
    assert_eq!(std::fs::read(rig.archive("a")).unwrap(), archive);
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn bytes_that_are_not_what_is_said_at_the_end_are_stored_nowhere_and_not_kept() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    let mut torn = archive.clone();
    torn[5] ^= 1;
    rig.begun("a", &torn, 1_000_000).await;
    let answer = rig
        .request(&last("a", &archive, 1_000_000), &archive[1_000_000..])
        .await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (400, "digest-mismatch")
    );
    assert!(!rig.archive("a").exists());
    rig.nothing_temporary_stays().await;
}

#[tokio::test]
async fn no_upload_ends_without_a_digest_or_beyond_its_bound() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.begun("a", &archive, 1_000_000).await;
    let without = last("a", &archive, 1_000_000).replace(REPR_DIGEST, "x-digest");
    let answer = rig.request(&without, &archive[1_000_000..]).await;
    assert_eq!(answer.problem().0, "digest-invalid");
    let longer = noise(SIZE + 101);
    let answer = rig
        .request(&last("a", &longer, 1_000_000), &longer[1_000_000..])
        .await;
    assert_eq!(answer.problem().0, "upload-invalid");
    // The last one says its length, so that a connection that breaks is not taken for its end.
    let in_pieces = last("a", &archive, 1_000_000).replace(
        &format!("Content-Length: {}", SIZE - 1_000_000),
        "Transfer-Encoding: chunked",
    );
    let answer = rig
        .request(&in_pieces, &in_chunks(&archive[1_000_000..]))
        .await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (411, "length-required")
    );
    assert!(!rig.archive("a").exists());
    // All that cost nothing of what was kept.
    let answer = rig
        .request(&last("a", &archive, 1_000_000), &archive[1_000_000..])
        .await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn what_broke_off_is_kept_as_far_as_it_came_and_another_plan_or_archive_begins_anew() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    let mut client = rig.connect().await;
    client.send(begin("a", SIZE).as_bytes()).await;
    let kept = 1_500_000;
    let body = in_chunks(&archive[..kept]);
    client.send(&body[..body.len() - "0\r\n\r\n".len()]).await;
    drop(client);
    super::resume::arrived(&rig.folder.path().join("store"), kept).await;
    let asked = rig.request(&head("HEAD", &path("a"), &[]), b"").await;
    assert_eq!(asked.headers["upload-offset"], kept.to_string());
    let elsewhere = rig.request(&more("a", kept + 1), &in_chunks(b"x")).await;
    assert_eq!(
        (elsewhere.status, elsewhere.problem().0.as_str()),
        (409, "offset-mismatch")
    );
    assert_eq!(elsewhere.headers["upload-offset"], kept.to_string());
    // By its digest nothing is known of it, and under another plan neither.
    let by_digest = format!("/v1/uploads/a/{}", Digest::of(b"the plan"));
    for other in [
        by_digest,
        format!("/v1/uploads/a/plan-{}", Digest::of(b"other")),
    ] {
        assert_eq!(
            rig.request(&head("HEAD", &other, &[]), b"").await.status,
            404
        );
    }
    let answer = rig
        .request(&last("a", &archive, kept), &archive[kept..])
        .await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn what_is_held_already_is_compared_by_its_digest_alone() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.begun("a", &archive, 1_000_000).await;
    assert_eq!(rig.put("a", &archive).await.status, 201);
    // Sent while it was packed, and held by now: nothing is kept of that, and the whole is told.
    let answer = rig.request(&last("a", &archive, 1_000_000), b"").await;
    assert_eq!(answer.status, 404);
    assert_eq!(rig.put("a", &archive).await.status, 200);
    rig.nothing_temporary_stays().await;
    // Nothing is begun of what cannot be compared.
    let answer = rig.request(&begin("a", SIZE), b"").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (400, "upload-invalid")
    );
    // Another archive under the same id is in conflict with the whole.
    let rig = Rig::new().await;
    rig.begun("a", &archive, 1_000_000).await;
    assert_eq!(rig.put("a", b"another").await.status, 201);
    let answer = rig.request(&last("a", &archive, 1_000_000), b"").await;
    assert_eq!(answer.status, 404);
    let answer = rig.put("a", &archive).await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (409, "conflict")
    );
    assert_eq!(std::fs::read(rig.archive("a")).unwrap(), b"another");
}

#[tokio::test]
async fn a_commit_out_of_the_window_is_refused_before_the_first_byte() {
    let inside = "a".repeat(40);
    let rig = Rig::with(|config, rig| {
        config.commits_file = Some(rig.file("commits", &format!("{inside}\n")));
    })
    .await;
    let said = |head: String, commit: &str| {
        head.replace(
            "\r\n\r\n",
            &format!("\r\nX-Cis490-Code-Commit: {commit}\r\n\r\n"),
        )
    };
    let answer = rig.request(&begin("a", SIZE), b"").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (400, "commit-missing")
    );
    let answer = rig
        .request(&said(begin("a", SIZE), &"b".repeat(40)), b"")
        .await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (412, "commit-out-of-window")
    );
    let archive = noise(SIZE);
    let answer = rig
        .request(
            &said(begin("a", SIZE), &inside),
            &in_chunks(&archive[..1_000_000]),
        )
        .await;
    assert_eq!(answer.status, 201);
    // And with the last bytes, when it may have left the window.
    let answer = rig
        .request(&said(last("a", &archive, 1_000_000), &"b".repeat(40)), b"")
        .await;
    assert_eq!(answer.status, 412);
}

#[tokio::test]
async fn what_grows_too_large_or_beyond_the_room_for_parts_is_refused_when_it_does() {
    let rig = Rig::with(|config, _| config.limits.max_episode_bytes = Some(2_000_000)).await;
    let archive = noise(SIZE);
    let answer = rig.request(&begin("a", SIZE), &in_chunks(&archive)).await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (413, "too-large")
    );
    rig.nothing_temporary_stays().await;
    let rig = Rig::with(|config, _| config.limits.parts_max_bytes = Some(1_000_000)).await;
    let answer = rig.request(&begin("a", SIZE), b"").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (507, "no-space")
    );
}

#[tokio::test]
async fn what_grows_beyond_its_bound_or_its_hosts_share_is_refused_when_it_does() {
    let rig = Rig::new().await;
    let answer = rig
        .request(&begin("a", 1000), &in_chunks(&noise(1001)))
        .await;
    assert_eq!(answer.problem().0, "upload-invalid");
    rig.nothing_temporary_stays().await;
    let rig = Rig::with(|config, rig| {
        let line = format!("lab-07 = \"{}\"\n", Digest::of(b"lab-07"));
        config.tokens_file = Some(rig.file("tokens", &line));
        config.limits.host_quota_bytes = Some(70_000_000);
    })
    .await;
    let head =
        begin("a", 100 << 20).replace("\r\n\r\n", "\r\nAuthorization: Bearer lab-07\r\n\r\n");
    let answer = rig.request(&head, &in_chunks(&noise(80 << 20))).await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (507, "quota-exceeded")
    );
}

#[tokio::test]
async fn what_was_sent_by_a_plan_goes_once_the_whole_is_stored_by_another_way() {
    let rig = Rig::new().await;
    let archive = noise(SIZE);
    rig.begun("a", &archive, 1_000_000).await;
    rig.begun("b", &archive, 1_000_000).await;
    assert_eq!(rig.put("a", &archive).await.status, 201);
    assert_eq!(
        rig.request(&head("HEAD", &path("a"), &[]), b"")
            .await
            .status,
        404
    );
    assert_eq!(
        rig.request(&head("HEAD", &path("b"), &[]), b"")
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn it_is_said_that_a_digest_may_come_late() {
    let rig = Rig::new().await;
    let answer = rig.request(&head("GET", "/v1/admission", &[]), b"").await;
    assert_eq!(answer.headers["sealift-accepts"], "late-digest");
    // And what it takes is said where a request is not understood.
    let answer = rig.request(&head("PUT", &path("a"), &[]), b"").await;
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (400, "upload-invalid")
    );
    let answer = rig.request(&head("POST", &path("a"), &[]), b"").await;
    assert_eq!(answer.headers["allow"], "DELETE, GET, HEAD, PATCH, PUT");
}
