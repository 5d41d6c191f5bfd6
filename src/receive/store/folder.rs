//! The store that is a folder.
//!
//! ```text
//! <store>/
//!   episodes/<id>.tar.zst          the commit point: whole and durable, or not there;
//!                                  ids percent-encoded
//!   receipts/<id>.json             what was learnt of that archive;
//!                                  rebuilt from it where missing or not fitting
//!   incoming/<unique>.part ...     uploads on their way, and those that broke off (see `parts.rs`)
//!
//!   episodes/<host>/<id>.tar.zst   instead, where the store files by host; receipts likewise
//!   namespace                      which of the two: `none` or `host`, written once
//!                                  by the process that opens the store first
//! ```
//!
//! A record in `receipts/` is written only after the archive and its name were flushed. So an
//! archive with a fitting record is known to be durable without another flush, and one without
//! (published by a process that was killed at that moment, or failed by its disk, or put there by
//! hand) is written anew, flushed and hashed before a client is told that it is held. A record that
//! names an owner is flushed, since nothing else knows the owner; any other is not.

use std::{
    fs::File,
    future::pending,
    io,
    ops::Range,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    Part, PartKey, PartResumed, Store, StoreError, StoreSpace, Usage,
    index::{NameLookup, Places},
    namespace_file,
    parts::OpenedPart,
    reader::FolderReading,
    upload::{FolderUpload, Live, ended},
    usage,
};
use crate::{
    model::{episode::HostName, progress::Progress},
    receive::stored_episode::{Key, Namespace, Offer, StoredEpisode},
};

/// Archives that are re-read (hashed or decompressed) at the same time. Rare work that must not
/// take the disk from uploads.
const MAX_REREADS: usize = 2;
/// So many look at once at what is free.
const MAX_LOOKS: usize = 4;
/// So long a probe of the disk is waited for; without an answer by then the one before counts, for
/// so long.
const PROBE_TIME: Duration = Duration::from_millis(800);
const PROBE_HOLDS: Duration = Duration::from_secs(60);
/// So long an archive may take to be decompressed and hashed, and a second more for each of so many
/// bytes.
const VERIFY_TIME: Duration = Duration::from_secs(120);
const VERIFY_BYTES_PER_S: u64 = 8 << 20;
/// So long the disk work of a predecessor is waited for. A client that has lost its connection
/// waits meanwhile, and is told then to come back.
const SETTLE_PATIENCE: Duration = Duration::from_secs(20);

/// A store in a folder. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct FolderStore {
    places: Arc<Places>,
    live: Arc<Live>,
    rereads: Arc<Semaphore>,
    probes: Arc<Semaphore>,
    /// Looks at what is free: those at a disk that hangs do not pile up.
    looks: Arc<Semaphore>,
    /// When the disk last took what a probe wrote.
    probed: Arc<Mutex<Option<Instant>>>,
}

/// Stops work on a disk thread when nothing waits for it any more.
#[derive(Debug, Default)]
struct StopWithCaller(Progress);

impl Drop for StopWithCaller {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is filed the other way. A wrong setting: no episode was touched.
    #[error("{}", filed_otherwise(*.0))]
    FiledOtherwise(Namespace),
    /// Those of mkdir(2), fsync(2), and of writing a first temporary file: a store that cannot be
    /// written to is found now.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

fn filed_otherwise(asked: Namespace) -> String {
    let (is, other) = match asked {
        Namespace::None => ("by host (episodes/<host>/<id>.tar.zst)", asked.other()),
        Namespace::Host => ("by id alone (episodes/<id>.tar.zst)", asked.other()),
    };
    format!(
        "the store's episodes are filed {is}, and namespace = \"{asked}\" would not find them: \
         set namespace = \"{other}\", or take an empty folder for the store \
         (one that holds no episode yet can be changed over: remove its file `namespace`)"
    )
}

impl FolderStore {
    /// Opens a store, creating what is missing of it. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(store: &Path, namespace: Namespace) -> Result<Self, OpenError> {
        let filed = match namespace_file::read(store)? {
            Some(filed) => filed,
            // Of before there were such notes, or its note is lost: what lies there tells.
            None if usage::is_filed_otherwise(&store.join("episodes"), namespace)? => {
                namespace.other()
            }
            None => namespace,
        };
        if filed != namespace {
            return Err(OpenError::FiledOtherwise(namespace));
        }
        let places = Places::open(store, namespace)?;
        // Of two that open an empty store at once, one writes the note, and the other may have
        // asked for something else.
        if namespace_file::settle(store, namespace, &places.scratch_path())? != namespace {
            return Err(OpenError::FiledOtherwise(namespace));
        }
        Ok(Self::of(places))
    }

    /// Whose episodes are here; of none where episodes are filed by id alone. Blocks on the disk.
    ///
    /// # Errors
    /// Those of readdir(3).
    pub(crate) fn hosts(&self) -> io::Result<Vec<HostName>> {
        match self.places.namespace {
            Namespace::None => Ok(Vec::new()),
            Namespace::Host => usage::hosts_with_archives(&self.places.episodes),
        }
    }

    fn of(places: Places) -> Self {
        Self {
            places: Arc::new(places),
            live: Arc::default(),
            rereads: Arc::new(Semaphore::new(MAX_REREADS)),
            probes: Arc::new(Semaphore::new(1)),
            looks: Arc::new(Semaphore::new(MAX_LOOKS)),
            probed: Arc::default(),
        }
    }

    /// Runs disk work on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Places) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let places = Arc::clone(&self.places);
        ended(spawn_blocking(move || work(&places)).await)
    }

    /// The same for work that reads whole archives. The permit goes along: what is written anew is
    /// written to its end also when the client has left, and not begun twice.
    async fn rereading<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Places) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit: OwnedSemaphorePermit = Arc::clone(&self.rereads)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        self.on_disk(move |places| {
            let _permit = permit;
            work(places)
        })
        .await
    }

    /// What is held, and the archive that this is said of.
    async fn held(&self, key: &Key) -> Result<Option<(StoredEpisode, File)>, StoreError> {
        let wanted = key.clone();
        match self.on_disk(move |places| places.look(&wanted)).await? {
            NameLookup::Nothing => Ok(None),
            NameLookup::Known(held, file) => Ok(Some((held, file))),
            NameLookup::Unknown => {
                let wanted = key.clone();
                self.rereading(move |places| places.rebuild(&wanted)).await
            }
        }
    }

    /// Fences off the predecessor in this process. False where its disk work does not end; it goes
    /// on ending by itself.
    async fn fence(&self, part: &PartKey) -> bool {
        let Some(session) = self.live.find(part) else {
            return true;
        };
        let fencing = tokio::spawn(async move { session.fence().await });
        timeout(SETTLE_PATIENCE, fencing).await.is_ok()
    }
}

impl Store for FolderStore {
    type Upload = FolderUpload;
    type Reading = FolderReading;

    fn namespace(&self) -> Namespace {
        self.places.namespace
    }

    async fn find(&self, key: &Key) -> Result<Option<StoredEpisode>, StoreError> {
        Ok(self.held(key).await?.map(|(held, _)| held))
    }

    async fn verify(&self, key: &Key) -> Result<Option<StoredEpisode>, StoreError> {
        let Some((held, _)) = self.held(key).await? else {
            return Ok(None);
        };
        if held.content.is_settled() {
            return Ok(Some(held));
        }
        let (stop, wanted) = (StopWithCaller::default(), key.clone());
        let (work, begun) = (stop.0.clone(), Arc::new(Notify::new()));
        let begins = Arc::clone(&begun);
        let verifying = self.rereading(move |places| {
            begins.notify_one();
            places.verify(&wanted, &work)
        });
        let time = VERIFY_TIME + Duration::from_secs(held.size_bytes / VERIFY_BYTES_PER_S);
        // Waiting for a place takes none of it.
        let too_long = async {
            begun.notified().await;
            timeout(time, pending::<()>()).await
        };
        tokio::select! {
            verified = verifying => verified,
            _ = too_long => Err(StoreError::Unfinished),
        }
    }

    async fn reread(&self, key: &Key) -> Result<Option<StoredEpisode>, StoreError> {
        let (stop, wanted) = (StopWithCaller::default(), key.clone());
        let work = stop.0.clone();
        self.rereading(move |places| places.reread(&wanted, &work))
            .await
    }

    async fn claim(
        &self,
        key: &Key,
        owner: &HostName,
    ) -> Result<Option<StoredEpisode>, StoreError> {
        // Cheap once its record fits; so it does not wait in line with those who read whole
        // archives.
        if self.held(key).await?.is_none() {
            return Ok(None);
        }
        let (wanted, owner) = (key.clone(), owner.clone());
        self.on_disk(move |places| places.claim(&wanted, &owner))
            .await
    }

    async fn read(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<Option<(StoredEpisode, FolderReading)>, StoreError> {
        let Some((held, file)) = self.held(key).await? else {
            return Ok(None);
        };
        let range = range.start..range.end.min(held.size_bytes);
        Ok(Some((held, FolderReading::new(file, range))))
    }

    fn begin(&self, part: &PartKey, offer: &Offer) -> FolderUpload {
        FolderUpload::new(&self.live, &self.places, part, offer, None)
    }

    async fn part(&self, part: &PartKey) -> Result<Option<Part>, StoreError> {
        let wanted = part.clone();
        self.on_disk(move |places| places.part(&wanted)).await
    }

    async fn settle(&self, part: &PartKey) -> Result<Option<Part>, StoreError> {
        self.fence(part).await;
        self.part(part).await
    }

    async fn resume(
        &self,
        part: &PartKey,
        offer: &Offer,
        at: u64,
    ) -> Result<PartResumed<FolderUpload>, StoreError> {
        if !self.fence(part).await {
            return Ok(PartResumed::Busy);
        }
        let (wanted, offer) = (part.clone(), *offer);
        Ok(
            match self
                .on_disk(move |places| places.go_on(&wanted, &offer, at))
                .await?
            {
                OpenedPart::Growing(growing) => {
                    let upload =
                        FolderUpload::new(&self.live, &self.places, part, &offer, Some(growing));
                    PartResumed::Upload(upload)
                }
                OpenedPart::Elsewhere { offset } => PartResumed::Elsewhere { offset },
                OpenedPart::Nothing => PartResumed::Nothing,
                OpenedPart::Busy => PartResumed::Busy,
            },
        )
    }

    async fn discard(&self, part: &PartKey) -> Result<bool, StoreError> {
        if !self.fence(part).await {
            return Ok(false);
        }
        let wanted = part.clone();
        self.on_disk(move |places| places.discard(&wanted)).await
    }

    async fn sweep(
        &self,
        before_temporaries: SystemTime,
        before_parts: SystemTime,
    ) -> Result<usize, StoreError> {
        self.on_disk(move |places| places.sweep(before_temporaries, before_parts))
            .await
    }

    async fn usage(
        &self,
        is_counted: impl Fn(&Key) -> bool + Send + 'static,
    ) -> Result<Usage, StoreError> {
        let stop = StopWithCaller::default();
        let work = stop.0.clone();
        self.on_disk(move |places| places.usage(&is_counted, &work))
            .await
    }

    async fn space(&self) -> Result<StoreSpace, StoreError> {
        let permit = Arc::clone(&self.looks).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        self.on_disk(move |places| {
            let _permit = permit;
            places.space()
        })
        .await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let probing = async {
            let permit = Arc::clone(&self.probes).acquire_owned().await;
            let (permit, probed) = (permit.map_err(io::Error::other)?, Arc::clone(&self.probed));
            // Many ask at once, and not each of them has the disk flush for it.
            if probed.lock().is_some_and(|at| at >= asked) {
                return Ok(());
            }
            self.on_disk(move |places| {
                let _permit = permit;
                let taken = places.probe();
                *probed.lock() = taken.is_ok().then(Instant::now);
                taken
            })
            .await
        };
        // A disk that is busy flushes late, and one that hangs never.
        timeout(PROBE_TIME, probing).await.unwrap_or_else(|_| {
            let taken = self.probed.lock().filter(|at| at.elapsed() < PROBE_HOLDS);
            let why = "the disk does not answer";
            taken
                .map(|_| ())
                .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, why).into())
        })
    }
}

#[cfg(test)]
mod tests;
