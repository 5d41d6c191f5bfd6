//! Caches between the ends: no answer may be kept.

use super::*;

#[tokio::test]
async fn no_answer_may_be_kept_by_a_cache_whatever_it_says() {
    let rig = Rig::with(|config, rig| {
        config.commits_file = Some(rig.file("commits", &format!("{}\n", "a".repeat(40))));
        config.limits.max_episode_bytes = Some(4_000_000);
    })
    .await;
    let archive = noise(100);
    let digest = Digest::of(&archive);
    let commit = ("X-Cis490-Code-Commit", &*"a".repeat(40));
    let other = ("X-Cis490-Code-Commit", &*"b".repeat(40));
    let length = ("Content-Length", "100");
    let repr = digest.to_header();
    let repr = ("Repr-Digest", repr.as_str());
    let upload = format!("/v1/uploads/a/{digest}");
    let huge = ("Content-Length", "5000000");
    let expect = ("Expect", "100-continue");
    let asked = [
        ("PUT", "/v1/episodes/a", vec![commit, length, repr], 201),
        ("PUT", "/v1/episodes/a", vec![commit, length, repr], 200),
        ("PUT", "/v1/episodes/b", vec![other, length, repr], 412),
        ("PUT", "/v1/episodes/b", vec![length, repr], 400),
        (
            "PUT",
            "/v1/episodes/b",
            vec![commit, huge, repr, expect],
            413,
        ),
        (
            "PUT",
            "/v1/episodes/b",
            vec![commit, repr, ("Transfer-Encoding", "chunked")],
            411,
        ),
        ("GET", "/v1/episodes/a", vec![], 200),
        ("GET", "/v1/episodes/a", vec![("Range", "bytes=1-")], 206),
        ("GET", "/v1/episodes/a", vec![("Range", "bytes=100-")], 416),
        ("HEAD", "/v1/episodes/a", vec![], 200),
        ("GET", "/v1/episodes/none", vec![], 404),
        ("HEAD", "/v1/episodes/none", vec![], 404),
        ("POST", "/v1/episodes/a", vec![], 411),
        ("DELETE", "/v1/episodes/a", vec![], 405),
        ("GET", "/v1/episodes/.hidden", vec![], 400),
        ("HEAD", &upload, vec![], 204),
        ("GET", &upload, vec![], 204),
        ("PATCH", &upload, vec![], 415),
        ("DELETE", "/v1/uploads/a/abc", vec![], 400),
        ("GET", "/v1/admission", vec![commit], 204),
        ("GET", "/v1/admission", vec![other], 412),
        ("GET", "/v1/admission", vec![], 400),
        ("GET", "/v1/nothing", vec![], 404),
        ("GET", "/healthz", vec![], 200),
        ("GET", "/metrics", vec![], 200),
    ];
    for (method, path, headers, status) in asked {
        let head = head(method, path, &headers);
        let body: &[u8] = if headers.contains(&length) {
            &archive
        } else {
            b""
        };
        let answer = rig.request(&head, body).await;
        let what = format!(
            "{method} {path} {headers:?}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(
            answer.headers.get("cache-control").map(String::as_str),
            Some("no-store"),
            "{what}"
        );
    }
}
