use super::*;

struct Folders {
    _root: tempfile::TempDir,
    options: RequeueOptions,
}

fn id(name: &str) -> EpisodeId {
    EpisodeId::parse(name).unwrap()
}

fn folders_of(ids: &[&str]) -> Folders {
    let (root, layout) = crate::testing::sandbox();
    let options = RequeueOptions {
        layout,
        ids: ids.iter().map(|name| id(name)).collect(),
        by_folder: false,
        status: None,
        from: None,
        unasked: false,
        unpack: None,
        dry_run: false,
        concurrency: 1,
        typed: String::new(),
    };
    Folders {
        _root: root,
        options,
    }
}

impl Folders {
    /// Puts a sealed episode into `quarantine/`, with its reason.
    fn quarantine(&self, folder: &str, episode: &str, verdict: &str) {
        let path = self.options.layout.quarantine.join(folder);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(MARKER), "").unwrap();
        let reason = serde_json::json!({"episode_id": episode, "status_code": 422, "error": "it says why. To ship it, type: a && b",
            "body": null, "verdict": verdict, "quarantined_at_wall": "2026-01-01T00:00:00Z"});
        fs::write(path.join("quarantine_reason.json"), reason.to_string()).unwrap();
    }

    async fn found(&self) -> RequeueCandidates {
        candidates(&self.options, None, &Progress::default())
            .await
            .unwrap()
    }

    async fn hindrance_of_the_first(&self) -> Option<String> {
        let found = self.found().await;
        hindrance(&self.options.layout, &found.candidates[0])
    }
}

#[tokio::test]
async fn what_is_quarantined_is_whose_its_reason_says_and_what_is_no_episode_is_passed_over() {
    let all = folders_of(&[]);
    all.quarantine("a", "a", "fatal");
    all.quarantine("a~1", "a", "fatal");
    let quarantine = &all.options.layout.quarantine;
    for name in [".hidden", ".sealift-copy-0-a", "-x"] {
        fs::create_dir(quarantine.join(name)).unwrap();
    }
    fs::write(quarantine.join("file"), "").unwrap();
    // Without a reason it is what its folder is called.
    fs::create_dir(quarantine.join("b")).unwrap();
    let found = all.found().await;
    let found: Vec<_> = found
        .candidates
        .iter()
        .map(|it| (it.id.as_str(), it.status))
        .collect();
    let expected = [("a", Some(422)), ("a", Some(422)), ("b", None)];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_named_is_found_by_its_id_or_by_its_folder() {
    let folders = |found: RequeueCandidates| -> Vec<_> {
        let found = found.candidates.into_iter();
        found
            .map(|it| it.folder.file_name().unwrap().to_owned())
            .collect()
    };
    for (name, by_id, by_folder) in [
        ("a", &["a", "a~1"][..], &["a"][..]),
        ("a~1", &[], &["a~1"]),
        ("c", &[], &[]),
    ] {
        let mut named = folders_of(&[name]);
        for (folder, episode) in [("a", "a"), ("a~1", "a"), ("b", "b")] {
            named.quarantine(folder, episode, "fatal");
        }
        assert_eq!(folders(named.found().await), by_id, "{name}");
        named.options.by_folder = true;
        assert_eq!(folders(named.found().await), by_folder, "{name}");
        named.options.from = Some(Origin::Conflict);
        assert_eq!(folders(named.found().await), [""; 0]);
    }
}

#[tokio::test]
async fn nothing_hinders_what_is_sealed_and_whose_name_is_free() {
    let one = folders_of(&[]);
    one.quarantine("a", "a", "fatal");
    assert_eq!(one.hindrance_of_the_first().await, None);
    fs::create_dir(one.options.layout.episode(&id("a"))).unwrap();
    let why = one.hindrance_of_the_first().await.unwrap();
    assert!(why.contains("is there already"), "{why}");
}

#[tokio::test]
async fn what_lost_its_marker_is_left_with_the_command_that_seals_it() {
    let one = folders_of(&[]);
    one.quarantine("it's", "it's", "fatal");
    let place = one.options.layout.quarantine.join("it's");
    crate::disk::durable::remove_file(&place.join(MARKER)).unwrap();
    let why = one.hindrance_of_the_first().await.unwrap();
    let command = record_files::command_in(&why, &one.options.layout).unwrap();
    let expected = format!("sealift seal --again {}", typed_path(&place));
    assert_eq!(command, expected);
}

#[tokio::test]
async fn an_archive_alone_is_left_with_the_command_that_unpacks_it_and_not_with_an_older_one() {
    let one = folders_of(&[]);
    one.quarantine("a", "a", ORPHAN);
    let why = one.hindrance_of_the_first().await.unwrap();
    assert_eq!(
        record_files::command_in(&why, &one.options.layout),
        Some("sealift requeue --unpack a")
    );
    assert!(
        why.contains("it says why.") && !why.contains("a && b"),
        "{why}"
    );
}
