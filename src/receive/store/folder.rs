//! The store that is a folder.
//!
//! ```text
//! <store>/
//!   episodes/<id>.tar.zst   the commit point: whole and durable, or not there; ids percent-encoded
//!   receipts/<id>.json      what was learnt of that archive; rebuilt from it where missing or not fitting
//!   incoming/<unique>.part  uploads on their way
//! ```
//!
//! A record in `receipts/` is written only after the archive and its name were flushed. So an archive with a fitting record is
//! known to be durable without another flush, and one without (published by a process that was killed at that moment, or put
//! there by hand) is flushed and hashed before anybody is told that it is held. The record itself is never flushed.

use std::{io, path::Path, sync::Arc, time::SystemTime};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};

use super::{
    Publication, Store, StoreError, Upload,
    places::{Look, Places},
    scratch::Scratch,
};
use crate::{
    episode::EpisodeId,
    receive::held::{Held, Offer},
};

/// Uploads hand their bytes to a disk thread in pieces of this size, bytes. Two of them are in memory for each upload: one that
/// fills and one that is being written. Large enough that the hand-over costs nothing beside the hashing.
const BATCH_BYTES: usize = 64 * 1024;
/// Archives that are re-read (hashed or decompressed) at the same time. Rare work that must not take the disk from uploads.
const MAX_REREADS: usize = 2;

/// A store in a folder. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Folder {
    places: Arc<Places>,
    rereads: Arc<Semaphore>,
}

impl Folder {
    /// Opens a store, creating what is missing of it. Blocks on the disk.
    ///
    /// # Errors
    /// Those of mkdir(2), fsync(2), and of writing a first temporary file: a store that cannot be written to is found now.
    pub fn open(store: &Path) -> io::Result<Self> {
        let places = Places::open(store)?;
        Ok(Self { places: Arc::new(places), rereads: Arc::new(Semaphore::new(MAX_REREADS)) })
    }

    /// Runs disk work on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Places) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let places = Arc::clone(&self.places);
        join(tokio::task::spawn_blocking(move || work(&places))).await
    }

    async fn reread_permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        Arc::clone(&self.rereads).acquire_owned().await.map_err(|error| io::Error::other(error).into())
    }
}

impl Store for Folder {
    type Upload = FolderUpload;

    async fn find(&self, id: &EpisodeId) -> Result<Option<Held>, StoreError> {
        let wanted = id.clone();
        match self.on_disk(move |places| places.look(&wanted)).await? {
            Look::Nothing => Ok(None),
            Look::Known(held) => Ok(Some(held)),
            Look::Unknown => {
                let permit = self.reread_permit().await?;
                let wanted = id.clone();
                // The permit goes along: the work outlives a client that leaves, and is not begun twice.
                self.on_disk(move |places| {
                    let _permit = permit;
                    places.rebuild(&wanted)
                })
                .await
            }
        }
    }

    async fn verify(&self, id: &EpisodeId) -> Result<Option<Held>, StoreError> {
        let permit = self.reread_permit().await?;
        let wanted = id.clone();
        self.on_disk(move |places| {
            let _permit = permit;
            places.verify(&wanted)
        })
        .await
    }

    fn begin(&self) -> FolderUpload {
        FolderUpload { places: Arc::clone(&self.places), filling: Vec::new(), writing: None }
    }

    async fn sweep(&self, before: SystemTime) -> Result<usize, StoreError> {
        self.on_disk(move |places| places.sweep(before)).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.on_disk(Places::probe).await
    }
}

/// An upload into a [`Folder`]. Its temporary file is created when the first batch is full, or at the end: a small
/// episode is created, written, hashed and published in one visit to a disk thread.
#[derive(Debug)]
pub struct FolderUpload {
    places: Arc<Places>,
    filling: Vec<u8>,
    /// The batch before this one. Dropped unawaited it still ends by itself, and takes its temporary file with it.
    writing: Option<JoinHandle<io::Result<Scratch>>>,
}

impl FolderUpload {
    async fn written(&mut self) -> Result<Option<Scratch>, StoreError> {
        match self.writing.take() {
            Some(writing) => join(writing).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Upload for FolderUpload {
    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BATCH_BYTES - self.filling.len()));
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() == BATCH_BYTES {
                let scratch = self.written().await?;
                let batch = std::mem::replace(&mut self.filling, Vec::with_capacity(BATCH_BYTES));
                let places = Arc::clone(&self.places);
                self.writing = Some(tokio::task::spawn_blocking(move || places.append(scratch, &batch)));
            }
        }
        Ok(())
    }

    async fn publish(mut self, id: &EpisodeId, offer: &Offer) -> Result<Publication, StoreError> {
        let scratch = self.written().await?;
        let (id, offer) = (id.clone(), *offer);
        let publishing = tokio::task::spawn_blocking(move || {
            let scratch = self.places.append(scratch, &self.filling)?;
            self.places.publish(&scratch, id, &offer)
        });
        join(publishing).await
    }
}

/// A disk thread that panicked is the failure of that one piece of work.
async fn join<T>(work: JoinHandle<io::Result<T>>) -> Result<T, StoreError> {
    Ok(work.await.map_err(io::Error::other)??)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use tempfile::TempDir;

    use super::*;
    use crate::durable;
    use crate::receive::store::contract::{id, offer, promises, put, stored};

    promises! {
        |path| Folder::open(path).unwrap();
        what_was_stored_is_found_by_every_receiver,
        ids_that_look_alike_stay_apart,
        nothing_is_overwritten,
        of_many_uploads_at_once_one_is_stored,
        bytes_that_were_not_offered_are_not_published,
        content_is_believed_only_after_looking,
        a_dropped_upload_cannot_be_found,
    }

    fn open() -> (TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let store = Folder::open(&place.path().join("new/store")).unwrap();
        (place, store)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn an_archive_lies_under_its_encoded_name_byte_for_byte() {
        let (_place, store) = open();
        let archive: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        stored(&store, &id("Lauf 7"), &archive).await;
        assert_eq!(names(&store.places.episodes), ["Lauf%207.tar.zst"]);
        assert_eq!(std::fs::read(store.places.episodes.join("Lauf%207.tar.zst")).unwrap(), archive);
    }

    #[tokio::test]
    async fn nothing_temporary_stays_whatever_becomes_of_an_upload() {
        let (_place, store) = open();
        let large = vec![1; 200_000];
        stored(&store, &id("a"), &large).await;
        put(&store, &id("a"), &large, &offer(&large)).await;
        put(&store, &id("b"), &large, &offer(b"something else")).await;
        store.probe().await.unwrap();
        let mut dropped = store.begin();
        dropped.write(&large).await.unwrap();
        drop(dropped);
        let deadline = Duration::from_secs(20);
        let mut look = tokio::time::interval(Duration::from_millis(2));
        let empty = async {
            while !names(&store.places.incoming).is_empty() {
                look.tick().await;
            }
        };
        tokio::time::timeout(deadline, empty).await.expect("a temporary file stays");
    }

    #[tokio::test]
    async fn a_receipt_that_was_lost_or_damaged_is_rebuilt_the_same() {
        let (_place, store) = open();
        let held = stored(&store, &id("a"), b"archive").await;
        let record = store.places.record(&id("a"));
        let kept = std::fs::read(&record).unwrap();
        for damage in [&b""[..], &[0; 300], &kept[..kept.len() / 2]] {
            std::fs::write(&record, damage).unwrap();
            assert_eq!(store.find(&id("a")).await.unwrap().unwrap(), held);
            assert_eq!(std::fs::read(&record).unwrap(), kept);
        }
        durable::remove_file(&record).unwrap();
        assert_eq!(store.find(&id("a")).await.unwrap().unwrap(), held);
    }

    #[tokio::test]
    async fn a_receipt_of_another_archive_is_not_believed() {
        let (_place, store) = open();
        stored(&store, &id("a"), b"archive").await;
        let archive = store.places.archive(&id("a"));
        let before = archive.metadata().unwrap().modified().unwrap();
        std::fs::write(&archive, b"ARCHIVE").unwrap();
        let file = File::options().write(true).open(&archive).unwrap();
        file.set_modified(before + Duration::from_nanos(1)).unwrap();
        let held = store.find(&id("a")).await.unwrap().unwrap();
        assert_eq!(held.sha256, offer(b"ARCHIVE").sha256);
    }

    #[tokio::test]
    async fn a_sweep_takes_only_old_temporaries() {
        let (_place, store) = open();
        let incoming = &store.places.incoming;
        let mut alive = store.begin();
        alive.write(&[1; BATCH_BYTES]).await.unwrap();
        let scratch = alive.written().await.unwrap();
        for name in ["dead.part", "notes.txt"] {
            let file = File::create(incoming.join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        let cut = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(store.sweep(cut).await.unwrap(), 1);
        let left = names(incoming);
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&"notes.txt".to_owned()), "{left:?}");
        drop(scratch);
    }

    #[tokio::test]
    async fn what_is_not_a_file_is_a_failure_and_no_episode() {
        let (_place, store) = open();
        std::fs::create_dir(store.places.archive(&id("a"))).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", store.places.archive(&id("b"))).unwrap();
        for name in ["a", "b"] {
            assert!(matches!(store.find(&id(name)).await, Err(StoreError::Failed(_))), "{name}");
        }
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
}
