//! The commit window and the other terms of an upload: what is decided before its body.

use sealift::{disk::durable, model::wire::CODE_COMMIT};

use super::*;

fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// A receiver that takes commits `a...` (the head) and `b...`, and archives of up to ten bytes.
async fn guarded() -> Rig {
    Rig::with(|config, rig| {
        config.commits_file =
            Some(rig.file("commits", &format!("{}\n{}\n", commit('a'), commit('b'))));
        config.remediation = "run the update".to_owned();
        config.limits.max_episode_bytes = Some(10);
    })
    .await
}

fn put_of(id: &str, archive: &[u8], said: Option<&str>) -> String {
    let mut more = vec![("Expect", "100-continue")];
    more.extend(said.map(|said| (CODE_COMMIT, said)));
    put_with(id, archive, &more)
}

fn admission(said: Option<&str>) -> String {
    head(
        "GET",
        "/v1/admission",
        said.map(|said| (CODE_COMMIT, said)).as_slice(),
    )
}

#[tokio::test]
async fn what_is_not_taken_is_refused_before_any_byte_of_its_body_is_asked_for() {
    let rig = guarded().await;
    let (inside, outside) = (commit('B'), commit('c'));
    for (archive, said, status, kind) in [
        (&b"archive"[..], None, 400, "commit-missing"),
        (b"archive", Some("main"), 400, "commit-missing"),
        (
            b"archive",
            Some(outside.as_str()),
            412,
            "commit-out-of-window",
        ),
        (b"eleven byte", Some(inside.as_str()), 413, "too-large"),
        (
            b"eleven byte",
            Some(outside.as_str()),
            412,
            "commit-out-of-window",
        ),
    ] {
        let mut client = rig.connect().await;
        client.send(put_of("a", archive, said).as_bytes()).await;
        // The first that comes is the answer, and no 100.
        let answer = client.answer(false).await;
        assert_eq!(
            (answer.status, &*answer.problem().0),
            (status, kind),
            "{said:?}"
        );
        assert_eq!(answer.headers["connection"], "close");
        if status == 412 {
            let problem = answer.problem().1;
            assert_eq!(problem["your_commit"], commit('c'));
            assert_eq!(problem["head_commit"], commit('a'));
            assert_eq!(problem["remediation"], "run the update");
        }
    }
    assert_eq!(rig.files_in("episodes") + rig.files_in("incoming"), 0);
    let mut client = rig.connect().await;
    client
        .send(put_of("a", b"archive", Some(&inside)).as_bytes())
        .await;
    assert_eq!(client.answer(false).await.status, 100);
    client.send(b"archive").await;
    assert_eq!(client.answer(false).await.status, 201);
    let rejections = rig.behind.as_ref().unwrap().1.window_rejections();
    assert_eq!(rejections.into_iter().collect::<Vec<_>>(), [(None, 4)]);
}

#[tokio::test]
async fn what_is_held_is_acknowledged_whatever_has_become_of_its_commit() {
    let rig = guarded().await;
    let b = commit('b');
    let said = [(CODE_COMMIT, b.as_str())];
    let first = rig
        .request(&put_with("a", b"archive", &said), b"archive")
        .await
        .receipt();
    rig.file("commits", &commit('a'));
    rig.reload().await;
    let again = rig
        .request(&put_with("a", b"archive", &said), b"archive")
        .await;
    assert_eq!((again.status, again.receipt()), (200, first));
    assert_eq!(
        rig.request(&put_with("a", b"other", &said), b"other")
            .await
            .status,
        409
    );
    assert_eq!(
        rig.request(&put_with("b", b"archive", &said), b"archive")
            .await
            .status,
        412
    );
}

#[tokio::test]
async fn a_window_that_is_broken_or_emptied_changes_nothing_and_a_good_one_counts_from_the_next_request()
 {
    let rig = guarded().await;
    let mut client = rig.connect().await;
    for broken in [
        "",
        "# nothing\n",
        &format!("{}\nmain\n", commit('c')),
        &commit('c')[..39],
    ] {
        rig.file("commits", broken);
        rig.reload().await;
        for (digit, status) in [('a', 204), ('b', 204), ('c', 412)] {
            let answer = client.request(&admission(Some(&commit(digit))), b"").await;
            assert_eq!(answer.status, status, "{broken:?} {digit}");
        }
        let reports = rig.behind.as_ref().unwrap().0.reports();
        assert!(reports[0].error.is_some(), "{broken:?} is reported");
    }
    rig.file(
        "commits",
        &format!("{} # new\n\n# old\n{}\n", commit('c'), commit('a')),
    );
    rig.reload().await;
    for (digit, status) in [('c', 204), ('a', 204), ('b', 412)] {
        assert_eq!(
            client
                .request(&admission(Some(&commit(digit))), b"")
                .await
                .status,
            status
        );
    }
}

#[tokio::test]
async fn a_window_that_changes_is_noticed_without_anybody_saying_so() {
    let rig = guarded().await;
    rig.file("commits", &commit('c'));
    let mut client = rig.connect().await;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let noticed = async {
        while client
            .request(&admission(Some(&commit('c'))), b"")
            .await
            .status
            != 204
        {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, noticed)
        .await
        .expect("it is not noticed");
}

#[tokio::test]
async fn a_fifo_in_a_files_place_is_reported_and_keeps_nobody_waiting() {
    let rig = guarded().await;
    let path = rig.file("commits", &commit('a'));
    durable::remove_file(&path).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let reload = tokio::time::timeout(DEADLINE, rig.reload()).await;
    reload.expect("it waits for somebody to write");
    let error = rig.behind.as_ref().unwrap().0.reports()[0]
        .error
        .clone()
        .unwrap();
    assert!(error.contains("is not a regular file"), "{error}");
    let metrics = rig.request(&head("GET", "/metrics", &[]), b"").await;
    assert!(
        String::from_utf8(metrics.body)
            .unwrap()
            .contains("sealift_receiver_files_refused 1\n")
    );
    assert_eq!(
        rig.request(&head("GET", "/healthz", &[]), b"").await.status,
        200
    );
    let mut client = rig.connect().await;
    assert_eq!(
        client
            .request(&admission(Some(&commit('a'))), b"")
            .await
            .status,
        204
    );
    durable::remove_file(&path).unwrap();
    rig.file("commits", &commit('c'));
    rig.reload().await;
    assert_eq!(
        client
            .request(&admission(Some(&commit('c'))), b"")
            .await
            .status,
        204
    );
    assert_eq!(rig.behind.as_ref().unwrap().0.reports()[0].error, None);
}

#[tokio::test]
async fn admission_says_what_an_upload_would_meet() {
    let rig = guarded().await;
    let mut client = rig.connect().await;
    let (inside, outside) = (commit('a'), commit('c'));
    for (said, status) in [
        (Some(inside.as_str()), 204),
        (Some(outside.as_str()), 412),
        (None, 400),
    ] {
        let answer = client.request(&admission(said), b"").await;
        assert_eq!(answer.status, status);
        let same = client
            .request(&admission(said).replace("GET", "HEAD"), b"")
            .await;
        assert_eq!((same.status, same.body.len()), (status, 0));
    }
    let answer = client
        .request(&head("PUT", "/v1/admission", &[]), b"")
        .await;
    assert_eq!(
        (answer.status, &*answer.headers["allow"]),
        (405, "GET, HEAD")
    );
    // Asking is no rejection, and leaves nothing.
    assert_eq!(rig.behind.as_ref().unwrap().1.window_rejections().len(), 0);
    rig.nothing_temporary_stays().await;
    let open = Rig::new().await;
    assert_eq!(open.request(&admission(None), b"").await.status, 204);
}
