//! A store whose file system holds no more files, though it has bytes.

use super::*;
use crate::support::Mounted;

#[tokio::test]
async fn a_store_without_inodes_says_so_and_takes_uploads_again_when_it_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::over(folder.path(), "64m,nr_inodes=60") else {
        return;
    };
    let store = folder.path().join("store");
    let rig = Rig::with(|config, _| {
        config.store.clone_from(&store);
        config.limits.min_free_bytes = 0;
    })
    .await;
    let mut stored = 0;
    let refused = loop {
        let answer = rig.put(&format!("run-{stored}"), &noise(100)).await;
        if answer.status != 201 {
            break answer;
        }
        stored += 1;
    };
    assert!(stored > 10, "{stored}");
    let is_about_inodes = |answer: &Answer| {
        let (kind, problem) = answer.problem();
        assert_eq!((answer.status, kind.as_str()), (507, "no-space"));
        assert_eq!(problem["used_up"], "inodes", "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains("inodes"),
            "{problem}"
        );
    };
    is_about_inodes(&refused);
    for path in ["/healthz", "/v1/admission"] {
        is_about_inodes(&rig.request(&head("GET", path, &[]), b"").await);
    }
    let metrics =
        String::from_utf8(rig.request(&head("GET", "/metrics", &[]), b"").await.body).unwrap();
    let free = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sealift_receiver_free_files "));
    assert!(free.unwrap().parse::<u64>().unwrap() < 8, "{metrics}");
    // What is held is acknowledged all the same.
    assert_eq!(rig.put("run-0", &noise(100)).await.status, 200);

    #[expect(clippy::disallowed_methods, reason = "an operator makes room")]
    for n in 1..10 {
        std::fs::remove_file(store.join(format!("episodes/run-{n}.tar.zst"))).unwrap();
        std::fs::remove_file(store.join(format!("receipts/run-{n}.json"))).unwrap();
    }
    assert_eq!(rig.put("again", &noise(100)).await.status, 201);
    assert_eq!(
        rig.request(&head("GET", "/healthz", &[]), b"").await.status,
        200
    );
}
