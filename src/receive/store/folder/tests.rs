use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
};

use rustix::fs::{FileType, Mode};
use tempfile::TempDir;

use super::*;
use crate::{
    disk::durable,
    model::episode::Digest,
    receive::store::{
        Upload as _,
        contract::{
            LONG_AGO, NextChunk as _, eventually, far_ahead, held, host, id, key, noise, offer,
            part_key, promises, put, stored, write,
        },
        part_manifest,
    },
};

mod by_id_alone {
    use super::*;

    promises! { |path| FolderStore::open(path, Namespace::None).unwrap() }
}

mod by_host {
    use super::*;

    promises! { |path| FolderStore::open(path, Namespace::Host).unwrap() }
}

/// What a killed process, a failed disk or a person leaves in a folder.
mod leftovers;

fn open() -> (TempDir, FolderStore) {
    let place = tempfile::tempdir().unwrap();
    let store = FolderStore::open(&place.path().join("new/store"), Namespace::None).unwrap();
    (place, store)
}

/// A store that flushes its uploads in slices this small, bytes.
fn sliced(slice_bytes: u64) -> (TempDir, FolderStore) {
    let place = tempfile::tempdir().unwrap();
    let mut places = Places::open(&place.path().join("store"), Namespace::None).unwrap();
    places.slice_bytes = slice_bytes;
    (place, FolderStore::of(places))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn archive_of(store: &FolderStore, name: &str) -> PathBuf {
    store.places.archive(&key(store, name)).unwrap()
}

async fn nothing_temporary_stays(store: &FolderStore) {
    eventually("nothing is in incoming/", async || {
        names(&store.places.incoming).is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_archive_lies_under_its_encoded_name_byte_for_byte() {
    let (place, store) = open();
    let archive = noise(1_200_000);
    stored(&store, &key(&store, "Lauf 7"), &archive).await;
    assert_eq!(names(&store.places.episodes), ["Lauf%207.tar.zst"]);
    assert_eq!(fs::read(archive_of(&store, "Lauf 7")).unwrap(), archive);

    let by_host = FolderStore::open(&place.path().join("by-host"), Namespace::Host).unwrap();
    let key = Namespace::Host
        .key(Some(&host("lab 7")), &id("Lauf 7"))
        .unwrap();
    stored(&by_host, &key, &archive).await;
    assert_eq!(names(&by_host.places.episodes), ["lab%207"]);
    assert_eq!(
        names(&by_host.places.episodes.join("lab%207")),
        ["Lauf%207.tar.zst"]
    );
    assert_eq!(
        names(&place.path().join("by-host/receipts/lab%207")),
        ["Lauf%207.json"]
    );
}

/// Episodes that were put into a store by hand, or by a receiver of before the store had a note of
/// how it files.
fn without_note(store: &Path, episodes: &[&str]) {
    let _ = durable::remove_file(&store.join("namespace"));
    for episode in episodes {
        let path = store.join("episodes").join(episode);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "an archive").unwrap();
    }
}

#[track_caller]
fn refused(store: &Path, ours: Namespace) {
    let error = FolderStore::open(store, ours).unwrap_err();
    assert!(matches!(error, OpenError::FiledOtherwise(_)), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&format!("set namespace = \"{}\"", ours.other())),
        "{said}"
    );
}

#[tokio::test]
async fn a_store_that_was_filled_the_other_way_is_refused_in_plain_words() {
    for (ours, episode) in [
        (Namespace::None, "host/a.tar.zst"),
        (Namespace::Host, "a.tar.zst"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store");
        // What is no archive says nothing.
        for folder in ["host", "lost+found", ".snapshot"] {
            fs::create_dir_all(path.join("episodes").join(folder)).unwrap();
        }
        fs::write(path.join("episodes/README"), "not an archive").unwrap();
        FolderStore::open(&path, ours).unwrap();
        without_note(&path, &[episode]);
        refused(&path, ours);
        assert!(!path.join("namespace").exists());
        FolderStore::open(&path, ours.other()).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("namespace")).unwrap(),
            format!("{}\n", ours.other())
        );
    }
}

#[tokio::test]
async fn an_empty_store_is_filed_as_whoever_comes_first_asks() {
    for ours in [Namespace::None, Namespace::Host] {
        let place = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            FolderStore::open(place.path(), ours).unwrap();
        }
        refused(place.path(), ours.other());
        // As a person that had it set wrong is told to do.
        without_note(place.path(), &[]);
        FolderStore::open(place.path(), ours.other()).unwrap();
        refused(place.path(), ours);
        assert_eq!(names(&place.path().join("incoming")), [""; 0]);
    }
}

#[tokio::test]
async fn of_many_that_open_an_empty_store_at_once_all_ask_for_the_same() {
    let place = tempfile::tempdir().unwrap();
    let opening: Vec<_> = (0..16)
        .map(|n| {
            let path = place.path().to_owned();
            let ours = if n % 2 == 0 {
                Namespace::None
            } else {
                Namespace::Host
            };
            std::thread::spawn(move || {
                FolderStore::open(&path, ours).map(|store| store.places.namespace)
            })
        })
        .collect();
    let opened: Vec<_> = opening
        .into_iter()
        .filter_map(|opening| opening.join().unwrap().ok())
        .collect();
    assert_eq!(opened.len(), 8);
    assert!(opened.iter().all(|namespace| *namespace == opened[0]));
}

#[tokio::test]
async fn a_store_whose_note_says_neither_is_not_opened() {
    let place = tempfile::tempdir().unwrap();
    for noted in ["", "both\n"] {
        fs::write(place.path().join("namespace"), noted).unwrap();
        assert!(matches!(
            FolderStore::open(place.path(), Namespace::None),
            Err(OpenError::Disk(_))
        ));
    }
}

#[tokio::test]
async fn a_store_of_both_kinds_without_a_note_is_opened_as_it_is_asked_for_once() {
    for ours in [Namespace::None, Namespace::Host] {
        let place = tempfile::tempdir().unwrap();
        without_note(place.path(), &["a.tar.zst", "backup/a.tar.zst"]);
        FolderStore::open(place.path(), ours).unwrap();
        refused(place.path(), ours.other());
    }
}

#[tokio::test]
async fn nothing_temporary_stays_whatever_becomes_of_an_upload() {
    let (_place, store) = open();
    let large = vec![1; 200_000];
    let (a, b) = (key(&store, "a"), key(&store, "b"));
    stored(&store, &a, &large).await;
    put(&store, &a, &large, &offer(&large)).await;
    put(&store, &b, &large, &offer(b"something else")).await;
    store.probe().await.unwrap();
    let mut dropped = store.begin(&part_key(&b, &offer(&large)), &offer(&large));
    dropped.write(&large).await.unwrap();
    drop(dropped);
    nothing_temporary_stays(&store).await;
}

#[tokio::test]
async fn a_receipt_that_was_lost_or_damaged_is_rebuilt_the_same() {
    let (_place, store) = open();
    let key = key(&store, "a");
    let held = stored(&store, &key, b"archive").await;
    let record = store.places.record(&key).unwrap();
    let kept = fs::read(&record).unwrap();
    for damage in [&b""[..], &[0; 300], &kept[..kept.len() / 2]] {
        fs::write(&record, damage).unwrap();
        assert_eq!(store.find(&key).await.unwrap().unwrap(), held);
        assert_eq!(fs::read(&record).unwrap(), kept);
    }
    durable::remove_file(&record).unwrap();
    assert_eq!(store.find(&key).await.unwrap().unwrap(), held);
}

#[tokio::test]
async fn a_receipt_of_another_archive_is_not_believed() {
    let (_place, store) = open();
    let key = key(&store, "a");
    stored(&store, &key, b"archive").await;
    let archive = archive_of(&store, "a");
    let before = archive.metadata().unwrap().modified().unwrap();
    fs::write(&archive, b"ARCHIVE").unwrap();
    let file = File::options().write(true).open(&archive).unwrap();
    file.set_modified(before + Duration::from_nanos(1)).unwrap();
    let held = store.find(&key).await.unwrap().unwrap();
    assert_eq!(held.sha256, offer(b"ARCHIVE").sha256);
}

#[tokio::test]
async fn an_archive_that_has_rotted_is_told_by_what_it_is_now() {
    let (_place, store) = open();
    let key = key(&store, "a");
    let before = stored(&store, &key, b"archive").await;
    store.claim(&key, &host("lab-1")).await.unwrap();
    let file = File::options()
        .write(true)
        .open(archive_of(&store, "a"))
        .unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"A", 0).unwrap();
    file.set_modified(mtime).unwrap();
    // Nothing that can be seen from outside has changed.
    assert_eq!(
        store.find(&key).await.unwrap().unwrap().sha256,
        before.sha256
    );
    let now = store.reread(&key).await.unwrap().unwrap();
    assert_eq!(
        (now.sha256, now.owner.clone()),
        (Digest::of(b"Archive"), Some(host("lab-1")))
    );
    assert_eq!(store.find(&key).await.unwrap(), Some(now));
}

#[tokio::test]
async fn an_owner_that_cannot_be_written_down_is_no_success() {
    let (_place, store) = open();
    for (name, owner) in [("a", None), ("b", Some(host("lab-1")))] {
        let key = key(&store, name);
        fs::create_dir(store.places.record(&key).unwrap()).unwrap();
        let part = PartKey::new(key.clone(), owner.clone(), &offer(b"archive"));
        let mut upload = store.begin(&part, &offer(b"archive"));
        upload.write(b"archive").await.unwrap();
        assert_eq!(upload.publish().await.is_err(), owner.is_some());
    }
    assert!(
        store
            .claim(&key(&store, "a"), &host("lab-1"))
            .await
            .is_err()
    );
    nothing_temporary_stays(&store).await;
}

#[tokio::test]
async fn a_reader_keeps_what_it_reads_when_that_is_taken_away() {
    let (_place, store) = open();
    let (key, archive) = (key(&store, "a"), noise(400_000));
    stored(&store, &key, &archive).await;
    let (_, mut reading) = store.read(&key, 0..400_000).await.unwrap().unwrap();
    durable::remove_file(&archive_of(&store, "a")).unwrap();
    stored(&store, &key, &noise(400_001)[1..]).await;
    let mut read = Vec::new();
    while let Some(chunk) = reading.next().await {
        read.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(read, archive);
}

#[tokio::test]
async fn a_reader_of_an_archive_that_shrinks_is_told() {
    let (_place, store) = open();
    let key = key(&store, "a");
    stored(&store, &key, &noise(400_000)).await;
    let (_, mut reading) = store.read(&key, 0..400_000).await.unwrap().unwrap();
    File::options()
        .write(true)
        .open(archive_of(&store, "a"))
        .unwrap()
        .set_len(200_000)
        .unwrap();
    reading.next().await.unwrap().unwrap();
    reading.next().await.unwrap().unwrap_err();
    assert!(reading.next().await.is_none());
}

#[tokio::test]
async fn a_large_upload_is_durable_in_part_while_it_runs() {
    let (_place, store) = sliced(100_000);
    let (key, archive) = (key(&store, "a"), noise(1_000_000));
    let (offer, part) = (offer(&archive), part_key(&key, &offer(&archive)));
    let mut upload = store.begin(&part, &offer);
    write(&mut upload, &archive[..500_000]).await;
    eventually("a part", async || {
        store.part(&part).await.unwrap().is_some()
    })
    .await;
    let Part { offset, .. } = store.part(&part).await.unwrap().unwrap();
    assert!((100_000..=500_000).contains(&offset), "{offset}");
    // A reader of the note does not disturb the upload, and the next slice moves it on.
    let mut sent = 500_000;
    eventually("more of it", async || {
        if sent < 900_000 {
            write(&mut upload, &archive[sent..sent + 1_000]).await;
            sent += 1_000;
        }
        store.part(&part).await.unwrap().unwrap().offset > offset
    })
    .await;
    write(&mut upload, &archive[sent..]).await;
    held(upload.publish().await.unwrap());
    assert_eq!(names(&store.places.incoming), [""; 0]);
}

#[tokio::test]
async fn an_upload_that_is_not_to_be_kept_leaves_no_part_on_its_way_and_is_published() {
    let (_place, store) = sliced(100_000);
    let (key, archive) = (key(&store, "a"), noise(1_000_000));
    let (offer, part) = (offer(&archive), part_key(&key, &offer(&archive)));
    for ending in ["dropped", "asked about", "kept", "published"] {
        let mut upload = store.begin(&part, &offer);
        upload.forgo();
        write(&mut upload, &archive[..900_000]).await;
        assert_eq!(store.part(&part).await.unwrap(), None);
        match ending {
            "dropped" => drop(upload),
            "asked about" => {
                assert_eq!(store.settle(&part).await.unwrap(), None);
                assert!(matches!(upload.keep().await, Err(StoreError::Fenced)));
            }
            "kept" => assert!(matches!(upload.keep().await, Err(StoreError::Fenced))),
            _ => {
                write(&mut upload, &archive[900_000..]).await;
                held(upload.publish().await.unwrap());
            }
        }
        eventually("nothing is left", async || {
            names(&store.places.incoming).is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_flush_that_fails_beside_the_writing_ends_the_upload_and_nothing_of_it_stays() {
    let (_place, store) = sliced(50_000);
    let (key, archive) = (key(&store, "a"), noise(1_000_000));
    let (offer, part) = (offer(&archive), part_key(&key, &offer(&archive)));
    for was_kept in [false, true] {
        let mut upload = store.begin(&part, &offer);
        if was_kept {
            upload.write(&archive[..10]).await.unwrap();
            upload.keep().await.unwrap();
            let PartResumed::Upload(again) = store.resume(&part, &offer, 10).await.unwrap() else {
                panic!()
            };
            upload = again;
        }
        // Where the note goes, so that it cannot be written.
        let note = store
            .places
            .incoming
            .join(format!("{}.json", part_manifest::name_of(&part)));
        durable::remove_file(&note).unwrap();
        fs::create_dir(&note).unwrap();
        let mut failed = false;
        eventually("the error", async || {
            failed = failed || upload.write(&archive[..50_000]).await.is_err();
            failed
        })
        .await;
        // It was told once, and every later call is told too.
        assert!(upload.write(b"more").await.is_err());
        assert!(upload.publish().await.is_err());
        fs::remove_dir(note).unwrap();
        nothing_temporary_stays(&store).await;
    }
}

#[tokio::test]
async fn many_that_ask_at_once_whether_the_disk_takes_anything_are_answered_by_one_look() {
    let (_place, store) = open();
    let scratch = || store.places.next.load(std::sync::atomic::Ordering::Relaxed);
    let before = scratch();
    let look_under_way = store.probes.clone().acquire_owned().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        asking.spawn(async move { store.probe().await });
    }
    tokio::task::yield_now().await;
    drop(look_under_way);
    while let Some(told) = asking.join_next().await {
        told.unwrap().unwrap();
    }
    assert_eq!(scratch() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_is_said_to_within_a_second_and_not_when_it_is_only_busy() {
    let (_place, store) = open();
    store.probe().await.unwrap();
    let probe_that_hangs = store.probes.clone().acquire_owned().await;
    let begun = Instant::now();
    store.probe().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
    tokio::time::advance(Duration::from_secs(60)).await;
    let begun = Instant::now();
    store.probe().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1));
    drop(probe_that_hangs);
    store.probe().await.unwrap();
}

/// The kernel tells an error of a flush once. A last flush that comes after it says that all is
/// well.
#[tokio::test]
async fn a_flush_that_failed_beside_the_writing_is_no_success_at_the_end() {
    let (_place, store) = sliced(50_000);
    let (key, archive) = (key(&store, "a"), noise(100_000));
    let (offer, part) = (offer(&archive), part_key(&key, &offer(&archive)));
    let note = store
        .places
        .incoming
        .join(format!("{}.json", part_manifest::name_of(&part)));
    fs::create_dir(&note).unwrap();
    for publishes in [true, false] {
        let mut upload = store.begin(&part, &offer);
        // The third batch finds a slice's worth before it, and there is no fourth that would find
        // the error.
        write(&mut upload, &archive).await;
        if publishes {
            upload.publish().await.unwrap_err();
        } else {
            upload.keep().await.unwrap_err();
        }
    }
    assert_eq!(store.find(&key).await.unwrap(), None);
    fs::remove_dir(note).unwrap();
    nothing_temporary_stays(&store).await;
}

#[tokio::test]
async fn an_upload_that_goes_takes_its_own_note_and_not_that_of_one_begun_since() {
    let (_place, store) = sliced(50_000);
    let (key, archive) = (key(&store, "a"), noise(1_000_000));
    let (offer, part) = (offer(&archive), part_key(&key, &offer(&archive)));
    for keeps_a_newer in [false, true] {
        let mut older = store.begin(&part, &offer);
        write(&mut older, &archive[..300_000]).await;
        eventually("its note", async || {
            store.part(&part).await.unwrap().is_some()
        })
        .await;
        if keeps_a_newer {
            let mut newer = store.begin(&part, &offer);
            write(&mut newer, b"!").await;
            newer.keep().await.unwrap();
        }
        drop(older);
        let files = if keeps_a_newer { 2 } else { 0 };
        eventually("the older is gone", async || {
            names(&store.places.incoming).len() == files
        })
        .await;
        assert_eq!(
            store.part(&part).await.unwrap().map(|part| part.offset),
            keeps_a_newer.then_some(1)
        );
    }
}

#[tokio::test]
async fn a_predecessor_whose_disk_does_not_answer_is_not_waited_for_for_ever() {
    let (_place, store) = open();
    let (key, archive) = (key(&store, "a"), noise(100_000));
    let (offer, part) = (offer(&archive), part_key(&key, &offer(&archive)));
    // Stands for a disk that hangs: an open of this FIFO waits for a process at its other end.
    let note = store
        .places
        .incoming
        .join(format!("{}.json", part_manifest::name_of(&part)));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &note,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut first = store.begin(&part, &offer);
    write(&mut first, &archive[..40_000]).await;
    tokio::time::pause();
    let resuming = tokio::spawn({
        let (store, part) = (store.clone(), part.clone());
        async move { store.resume(&part, &offer, 40_000).await.unwrap() }
    });
    while !resuming.is_finished() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(matches!(resuming.await.unwrap(), PartResumed::Busy));
    tokio::time::resume();
    // It answers after all: then nothing was lost.
    let _ = File::options().write(true).open(&note).unwrap();
    eventually("it is kept", async || {
        matches!(
            store.settle(&part).await.unwrap(),
            Some(Part { offset: 40_000, .. })
        )
    })
    .await;
    assert!(matches!(
        first.write(b"late").await,
        Err(StoreError::Fenced)
    ));
}

#[tokio::test]
async fn what_is_not_a_file_is_a_failure_and_no_episode() {
    let (_place, store) = open();
    fs::create_dir(archive_of(&store, "a")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", archive_of(&store, "b")).unwrap();
    for name in ["a", "b"] {
        assert!(
            matches!(
                store.find(&key(&store, name)).await,
                Err(StoreError::Failed(_))
            ),
            "{name}"
        );
    }
    assert_eq!(store.usage(|_| false).await.unwrap().episodes, 0);
}

#[test]
fn a_full_disk_is_told_apart_from_a_broken_one() {
    for (kind, full) in [
        (io::ErrorKind::StorageFull, true),
        (io::ErrorKind::QuotaExceeded, true),
        (io::ErrorKind::PermissionDenied, false),
        (io::ErrorKind::Other, false),
    ] {
        assert_eq!(
            matches!(StoreError::from(io::Error::from(kind)), StoreError::Full(_)),
            full,
            "{kind}"
        );
    }
}
