use serde_json::Value;

use super::*;
use crate::receive::{store::record::ReceiptRecord, stored_episode::Content};

/// A store that a killed receiver has left: the files of one that is alive, copied under it. Its
/// locks are not.
fn as_after_a_kill(store: &FolderStore) -> (TempDir, FolderStore) {
    let place = tempfile::tempdir().unwrap();
    let left = FolderStore::open(place.path(), Namespace::None).unwrap();
    for name in names(&store.places.incoming) {
        fs::copy(
            store.places.incoming.join(&name),
            left.places.incoming.join(&name),
        )
        .unwrap();
    }
    (place, left)
}

/// An upload that broke off after 70,000 of 100,000 bytes: its archive, and where its files are.
struct BrokenOff {
    archive: Vec<u8>,
    offer: Offer,
    part: PartKey,
    bytes: PathBuf,
    note: PathBuf,
}

impl BrokenOff {
    const AT: u64 = 70_000;

    async fn of(store: &FolderStore) -> Self {
        let archive = noise(100_000);
        let offer = offer(&archive);
        let part = part_key(&key(store, "a"), &offer);
        let mut upload = store.begin(&part, &offer);
        write(&mut upload, &archive[..70_000]).await;
        assert_eq!(upload.keep().await.unwrap(), Self::AT);
        let files = names(&store.places.incoming);
        assert_eq!(files.len(), 2, "{files:?}");
        let file = |suffix: &str| {
            let name = files.iter().find(|name| name.ends_with(suffix)).unwrap();
            store.places.incoming.join(name)
        };
        Self {
            archive,
            offer,
            part,
            bytes: file(".part"),
            note: file(".json"),
        }
    }

    fn change_note(&self, change: impl FnOnce(&mut Value)) {
        let mut note = serde_json::from_slice(&fs::read(&self.note).unwrap()).unwrap();
        change(&mut note);
        fs::write(&self.note, note.to_string()).unwrap();
    }

    async fn resume(&self, store: &FolderStore) -> PartResumed<FolderUpload> {
        store
            .resume(&self.part, &self.offer, Self::AT)
            .await
            .unwrap()
    }

    async fn goes_on(&self, store: &FolderStore) {
        let PartResumed::Upload(mut upload) = self.resume(store).await else {
            panic!("not resumed")
        };
        write(&mut upload, &self.archive[70_000..]).await;
        held(upload.publish().await.unwrap());
        assert_eq!(fs::read(archive_of(store, "a")).unwrap(), self.archive);
        assert_eq!(names(&store.places.incoming), [""; 0]);
    }
}

#[tokio::test]
async fn what_was_durable_is_found_again_after_a_kill_and_the_rest_is_cut_off() {
    let (_place, store) = sliced(100_000);
    let archive = noise(1_000_000);
    let (offer, part) = (
        offer(&archive),
        part_key(&key(&store, "a"), &offer(&archive)),
    );
    let mut upload = store.begin(&part, &offer);
    write(&mut upload, &archive[..170_000]).await;
    eventually("a part", async || {
        store.part(&part).await.unwrap().is_some()
    })
    .await;
    // Less than a second slice: bytes in the file that no flush is under way for.
    write(&mut upload, &archive[170_000..230_000]).await;

    let (_left_place, left) = as_after_a_kill(&store);
    let Part { offset, .. } = left.part(&part).await.unwrap().unwrap();
    let bytes = names(&left.places.incoming)
        .into_iter()
        .find(|name| name.ends_with(".part"))
        .unwrap();
    let bytes = File::options()
        .write(true)
        .open(left.places.incoming.join(bytes))
        .unwrap();
    // What a power cut makes of bytes that were not flushed.
    let there = bytes.metadata().unwrap().len();
    assert!(there > offset, "{there} {offset}");
    bytes.write_all_at(&vec![0; 500_000], offset).unwrap();

    let at = usize::try_from(offset).unwrap();
    let PartResumed::Upload(mut upload) = left.resume(&part, &offer, offset).await.unwrap() else {
        panic!()
    };
    write(&mut upload, &archive[at..]).await;
    held(upload.publish().await.unwrap());
    assert_eq!(fs::read(archive_of(&left, "a")).unwrap(), archive);
}

#[tokio::test]
async fn a_note_without_its_file_is_nothing_and_is_swept() {
    let (_place, store) = open();
    let broken_off = BrokenOff::of(&store).await;
    durable::remove_file(&broken_off.bytes).unwrap();
    assert_eq!(store.part(&broken_off.part).await.unwrap(), None);
    assert!(matches!(
        broken_off.resume(&store).await,
        PartResumed::Nothing
    ));
    assert!(store.usage(|_| false).await.unwrap().parts.is_empty());
    assert_eq!(store.sweep(LONG_AGO, far_ahead()).await.unwrap(), 0);
    assert_eq!(store.sweep(far_ahead(), LONG_AGO).await.unwrap(), 1);
    assert_eq!(names(&store.places.incoming), [""; 0]);
}

#[tokio::test]
async fn a_file_without_its_note_is_a_temporary() {
    let (_place, store) = open();
    for damage in [None, Some(&b"{"[..])] {
        let broken_off = BrokenOff::of(&store).await;
        match damage {
            None => durable::remove_file(&broken_off.note).unwrap(),
            Some(damage) => fs::write(&broken_off.note, damage).unwrap(),
        }
        assert_eq!(store.part(&broken_off.part).await.unwrap(), None);
        assert!(matches!(
            broken_off.resume(&store).await,
            PartResumed::Nothing
        ));
        store.sweep(far_ahead(), LONG_AGO).await.unwrap();
        assert_eq!(names(&store.places.incoming), [""; 0]);
    }
}

#[tokio::test]
async fn a_file_that_is_shorter_than_its_note_is_never_gone_on_with() {
    let (_place, store) = open();
    let broken_off = BrokenOff::of(&store).await;
    File::options()
        .write(true)
        .open(&broken_off.bytes)
        .unwrap()
        .set_len(69_999)
        .unwrap();
    assert_eq!(store.part(&broken_off.part).await.unwrap(), None);
    assert!(matches!(
        broken_off.resume(&store).await,
        PartResumed::Nothing
    ));
    assert_eq!(names(&store.places.incoming), [""; 0]);
}

/// Changes a byte of a file, far below where it goes on, and its times as little as it can be done.
fn rot(bytes: &Path) {
    let file = File::options().write(true).open(bytes).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"!", 10).unwrap();
    file.set_modified(mtime).unwrap();
}

#[tokio::test]
async fn kept_bytes_that_are_not_those_noted_are_thrown_away_by_every_receiver() {
    let (place, store) = open();
    let sibling = FolderStore::open(&place.path().join("new/store"), Namespace::None).unwrap();
    for receiver in [&store, &sibling] {
        let broken_off = BrokenOff::of(&store).await;
        rot(&broken_off.bytes);
        assert!(matches!(
            broken_off.resume(receiver).await,
            PartResumed::Nothing
        ));
        assert_eq!(names(&store.places.incoming), [""; 0]);
    }
}

#[tokio::test]
async fn only_who_kept_it_goes_on_without_reading_it_again() {
    let (place, store) = open();
    let sibling = FolderStore::open(&place.path().join("new/store"), Namespace::None).unwrap();
    let broken_off = BrokenOff::of(&store).await;
    let known = |receiver: &FolderStore| {
        let file = broken_off.bytes.metadata().unwrap();
        receiver
            .places
            .vouched
            .recall(&broken_off.part, &file, BrokenOff::AT)
            .is_some()
    };
    assert_eq!((known(&store), known(&sibling)), (true, false));
    // So does the store that has read it, whether or not the caller waited for that.
    drop(broken_off.resume(&sibling).await);
    assert_eq!((known(&store), known(&sibling)), (false, true));
    broken_off.goes_on(&store).await;
}

#[tokio::test]
async fn a_note_of_another_upload_under_its_name_is_not_believed() {
    let (_place, store) = open();
    let broken_off = BrokenOff::of(&store).await;
    // Whole and true in itself, as a careless copy makes it.
    let of_b = PartKey {
        key: key(&store, "b"),
        ..broken_off.part.clone()
    };
    let bytes = format!("{}.0-0.part", part_manifest::name_of(&of_b));
    fs::copy(&broken_off.bytes, store.places.incoming.join(&bytes)).unwrap();
    broken_off.change_note(|note| {
        note["episode_id"] = "b".into();
        note["file"] = bytes.into();
    });
    assert!(matches!(
        broken_off.resume(&store).await,
        PartResumed::Nothing
    ));
    assert_eq!(store.part(&broken_off.part).await.unwrap(), None);
}

#[tokio::test]
async fn a_part_that_is_swept_takes_its_note_along() {
    let (_place, store) = open();
    BrokenOff::of(&store).await;
    assert_eq!(store.sweep(LONG_AGO, far_ahead()).await.unwrap(), 1);
    assert_eq!(names(&store.places.incoming), [""; 0]);
}

#[tokio::test]
async fn what_another_process_has_locked_is_busy_until_it_ends() {
    let (_place, store) = open();
    let broken_off = BrokenOff::of(&store).await;
    let mut other = std::process::Command::new("flock")
        .arg(&broken_off.bytes)
        .args(["sh", "-c", "echo locked; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("flock(1) of util-linux, which every distribution has");
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    assert!(matches!(broken_off.resume(&store).await, PartResumed::Busy));
    assert!(!store.discard(&broken_off.part).await.unwrap());
    assert_eq!(store.sweep(far_ahead(), far_ahead()).await.unwrap(), 0);
    drop(other.stdin.take());
    other.wait().unwrap();
    broken_off.goes_on(&store).await;
}

#[tokio::test]
async fn a_sweep_takes_only_what_is_old_and_ours() {
    let (_place, store) = open();
    let incoming = &store.places.incoming;
    for (name, age) in [
        ("dead.part", 0),
        ("young.part", 2),
        ("notes.txt", 0),
        ("x.json.bak", 0),
    ] {
        let file = File::create(incoming.join(name)).unwrap();
        file.set_modified(LONG_AGO + Duration::from_secs(age))
            .unwrap();
    }
    fs::create_dir(incoming.join("folder.part")).unwrap();
    assert_eq!(
        store
            .sweep(LONG_AGO + Duration::from_secs(1), far_ahead())
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        names(incoming),
        ["folder.part", "notes.txt", "x.json.bak", "young.part"]
    );
}

/// Puts a file where an archive would be, as a process that was killed before it wrote the receipt
/// has left it.
fn without_receipt(store: &FolderStore, name: &str, archive: &[u8]) -> File {
    let path = archive_of(store, name);
    fs::write(&path, archive).unwrap();
    let file = File::open(&path).unwrap();
    file.set_modified(LONG_AGO + Duration::new(1_700_000_000, 123_456_789))
        .unwrap();
    file
}

#[tokio::test]
async fn an_archive_without_a_fitting_receipt_is_written_anew() {
    let (_place, store) = open();
    let (a, archive) = (key(&store, "a"), noise(300_000));
    let left = without_receipt(&store, "a", &archive).metadata().unwrap();
    let found = store.find(&a).await.unwrap().unwrap();
    assert_eq!(
        (found.sha256, found.stored_at.unix_seconds()),
        (Digest::of(&archive), 1_700_000_000)
    );
    let now = archive_of(&store, "a").metadata().unwrap();
    assert_ne!(
        now.ino(),
        left.ino(),
        "the file whose flush may have failed is still the one that is held"
    );
    assert_eq!(now.modified().unwrap(), left.modified().unwrap());
    assert_eq!(now.permissions(), left.permissions());
    assert_eq!(fs::read(archive_of(&store, "a")).unwrap(), archive);
    // Once: from then on the receipt fits.
    assert_eq!(store.find(&a).await.unwrap(), Some(found));
    assert_eq!(archive_of(&store, "a").metadata().unwrap().ino(), now.ino());
    assert_eq!(names(&store.places.incoming), [""; 0]);
}

/// Gives an archive another time, as a copy of the store does that keeps whole seconds.
fn with_whole_seconds(store: &FolderStore, name: &str) {
    let file = File::options()
        .write(true)
        .open(archive_of(store, name))
        .unwrap();
    file.set_modified(LONG_AGO + Duration::from_secs(1_700_000_000))
        .unwrap();
}

#[tokio::test]
async fn whose_it_is_outlives_a_copy_that_loses_its_time() {
    let (_place, store) = open();
    let a = key(&store, "a");
    stored(&store, &a, b"archive").await;
    let claimed = store.claim(&a, &host("lab-1")).await.unwrap().unwrap();
    with_whole_seconds(&store, "a");
    let now = store.find(&a).await.unwrap().unwrap();
    assert_eq!(now.stored_at.unix_seconds(), 1_700_000_000);
    assert_eq!(
        StoredEpisode {
            stored_at: claimed.stored_at,
            ..now
        },
        claimed
    );
}

#[tokio::test]
async fn other_bytes_are_not_whose_those_were_that_they_replaced() {
    let (_place, store) = open();
    let a = key(&store, "a");
    for bytes in [&b"ARCHIVE"[..], b"arch"] {
        let _ = durable::remove_file(&archive_of(&store, "a"));
        stored(&store, &a, b"archive").await;
        store.claim(&a, &host("lab-1")).await.unwrap();
        fs::write(archive_of(&store, "a"), bytes).unwrap();
        with_whole_seconds(&store, "a");
        let now = store.find(&a).await.unwrap().unwrap();
        assert_eq!(
            (now.sha256, now.owner, now.content),
            (Digest::of(bytes), None, Content::Unknown)
        );
    }
}

#[tokio::test]
async fn writing_anew_replaces_nothing_but_what_was_read() {
    let (_place, store) = open();
    let read = without_receipt(&store, "a", b"left behind");
    let path = archive_of(&store, "a");
    // A person took it away, and another upload was published, while it was read.
    durable::remove_file(&path).unwrap();
    stored(&store, &key(&store, "a"), b"published since").await;
    assert!(store.places.write_anew(&key(&store, "a"), &read).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"published since");
    assert_eq!(names(&store.places.incoming), [""; 0]);
}

/// Looks for `a`, and comes back when that waits for the lock of the archive.
async fn finding(store: &FolderStore, archive: &File) -> tokio::task::JoinHandle<StoredEpisode> {
    let (store, a) = (store.clone(), key(store, "a"));
    let finding = tokio::spawn(async move { store.find(&a).await.unwrap().unwrap() });
    let inode = archive.metadata().unwrap().ino();
    eventually("a waiter is at the lock", async || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("-> FLOCK") && line.contains(&format!(":{inode} ")))
    })
    .await;
    finding
}

#[tokio::test]
async fn whoever_publishes_is_waited_for_and_its_archive_not_written_anew() {
    let (_place, store) = open();
    let a = key(&store, "a");
    // As an upload does: the archive has its name, and is locked until its receipt is written.
    let publisher = without_receipt(&store, "a", b"archive");
    publisher.lock().unwrap();
    let finding = finding(&store, &publisher).await;
    let (sha256, owner) = (Digest::of(b"archive"), Some(host("lab-1")));
    let published = publisher.metadata().unwrap();
    let record = ReceiptRecord::new(
        a.id.clone(),
        sha256,
        Content::Unknown,
        owner.clone(),
        &published,
    );
    store.places.remember(&a, &record).unwrap();
    drop(publisher);
    assert_eq!(finding.await.unwrap().owner, owner);
    assert_eq!(
        archive_of(&store, "a").metadata().unwrap().ino(),
        published.ino()
    );
}

#[tokio::test]
async fn what_stands_there_once_the_lock_is_free_is_what_is_found() {
    let (_place, store) = open();
    let before = without_receipt(&store, "a", b"archive");
    before.lock().unwrap();
    let finding = finding(&store, &before).await;
    durable::remove_file(&archive_of(&store, "a")).unwrap();
    let since = stored(&store, &key(&store, "a"), b"published since").await;
    drop(before);
    assert_eq!(finding.await.unwrap(), since);
}

#[tokio::test]
async fn of_many_that_find_it_at_once_one_writes_it_anew() {
    let (_place, store) = open();
    let a = key(&store, "a");
    without_receipt(&store, "a", &noise(300_000));
    let mut finding = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (store, a) = (
            FolderStore::open(&store.places.root, Namespace::None).unwrap(),
            a.clone(),
        );
        finding.spawn(async move { store.find(&a).await.unwrap().unwrap() });
    }
    let found = finding.join_all().await;
    assert!(found.iter().all(|held| *held == found[0]));
    assert_eq!(found[0].sha256, Digest::of(&noise(300_000)));
}
