//! An upload into a folder, and what becomes of it when a newcomer goes on with it.
//!
//! ```text
//!  write ▸ fills one batch while a disk thread hashes and writes the one before it;
//!          every so often another flushes what is there
//!
//!            ┌─ keep, publish, drop ─▶ Over
//!  Open ─────┤
//!            └─ a newcomer settles ──▶ Fenced    its next call fails; what it had received is kept
//! ```
//!
//! All that an upload is stands in its [`Slot`], under a lock. What ends it, the upload itself or a
//! newcomer, takes it out of there. So no two can write: a predecessor that comes back finds
//! nothing to write with, and one that is in the middle of it is waited for.

use std::{
    collections::HashMap,
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::Mutex as AsyncMutex,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    PartKey, Publication, StoreError, Upload,
    index::Places,
    part::{Growing, PartFile},
};
use crate::receive::stored_episode::Offer;

/// Uploads hand their bytes to a disk thread in pieces of this size, bytes. Two of them are in
/// memory for each upload: one that fills and one that is being written. With 256 uploads they come
/// to 16 MiB; smaller ones cost more for the hand-over than for the hashing.
const BATCH_BYTES: usize = 32 * 1024;

/// The uploads of this process that may be kept, by what they are: of each key the one that came
/// last.
#[derive(Debug, Default)]
pub(super) struct Live(parking_lot::Mutex<HashMap<PartKey, Arc<Session>>>);

impl Live {
    fn enter(&self, session: &Arc<Session>) {
        if let Some(older) = self
            .0
            .lock()
            .insert(session.part.clone(), Arc::clone(session))
        {
            older.superseded.store(true, Ordering::Relaxed);
        }
    }

    fn leave(&self, session: &Arc<Session>) {
        let mut sessions = self.0.lock();
        if sessions
            .get(&session.part)
            .is_some_and(|live| Arc::ptr_eq(live, session))
        {
            sessions.remove(&session.part);
        }
    }

    pub(super) fn find(&self, part: &PartKey) -> Option<Arc<Session>> {
        self.0.lock().get(part).cloned()
    }
}

/// An upload as others see it.
#[derive(Debug)]
pub(super) struct Session {
    places: Arc<Places>,
    part: PartKey,
    offer: Offer,
    /// Another upload of this key was begun since, or there is no room for a part. This one may go
    /// on and be published; it is not kept.
    superseded: AtomicBool,
    slot: AsyncMutex<Slot>,
}

#[derive(Debug)]
enum Slot {
    Open(Open),
    Fenced,
    /// Ended, or failed.
    Over,
}

/// What is between two calls. Whole whenever no call is being polled: a call that is dropped in the
/// middle loses nothing here.
#[derive(Debug)]
struct Open {
    filling: Vec<u8>,
    /// The file, and the buffer of the batch before, while no batch is being written.
    growing: Option<Growing>,
    spare: Vec<u8>,
    /// The batch before this one. Dropped unawaited it still ends by itself, and takes its file
    /// with it.
    writing: Option<Writing>,
    /// The flush of what came before `sliced`. At most one; what it fails with ends the upload.
    slice: Option<JoinHandle<io::Result<()>>>,
    sliced: u64,
    /// The file it goes on with, which stays when it is dropped.
    resumed: Option<Arc<PartFile>>,
}

/// A batch on a disk thread, which gives back the file and the emptied buffer.
type Writing = JoinHandle<io::Result<(Growing, Vec<u8>)>>;

/// An upload into a [`FolderStore`](super::FolderStore). Its temporary file is created when the
/// first batch is full, or at the end: a small episode is created, written, hashed and published in
/// one visit to a disk thread.
#[derive(Debug)]
pub(crate) struct FolderUpload {
    live: Arc<Live>,
    session: Arc<Session>,
    /// What it is published as.
    offer: Offer,
}

impl FolderUpload {
    /// Registers an upload that is `growing` already, or begins from nothing.
    pub(super) fn new(
        live: &Arc<Live>,
        places: &Arc<Places>,
        part: &PartKey,
        offer: &Offer,
        growing: Option<Growing>,
    ) -> Self {
        let session = Arc::new(Session {
            places: Arc::clone(places),
            part: part.clone(),
            offer: *offer,
            superseded: AtomicBool::new(false),
            slot: AsyncMutex::new(Slot::Open(Open::new(growing))),
        });
        live.enter(&session);
        Self {
            live: Arc::clone(live),
            session,
            offer: *offer,
        }
    }
}

impl Upload for FolderUpload {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut slot = self.session.slot.lock().await;
        let written = slot.open()?.write(&self.session, bytes).await;
        if written.is_err() {
            *slot = Slot::Over;
        }
        written
    }

    fn now_offers(&mut self, offer: &Offer) {
        self.offer = *offer;
    }

    fn forgo(&self) {
        self.session.superseded.store(true, Ordering::Relaxed);
    }

    async fn keep(self) -> Result<u64, StoreError> {
        to_its_end(async move {
            // The slot stays locked to the end: a newcomer that settles waits, and finds what was
            // kept.
            let mut slot = self.session.slot.lock().await;
            let open = slot.take()?;
            if self.session.superseded.load(Ordering::Relaxed) {
                let session = Arc::clone(&self.session);
                spawn_blocking(move || open.leave(&session))
                    .await
                    .map_err(io::Error::other)?;
                return Err(StoreError::Fenced);
            }
            open.keep(&self.session).await
        })
        .await
    }

    async fn publish(self) -> Result<Publication, StoreError> {
        to_its_end(async move {
            let mut slot = self.session.slot.lock().await;
            let open = slot.take()?;
            open.publish(&self.session, self.offer).await
        })
        .await
    }
}

impl Drop for FolderUpload {
    fn drop(&mut self) {
        // A newcomer has the lock: it is being settled.
        if let Ok(mut slot) = self.session.slot.try_lock()
            && let Ok(open) = slot.take()
        {
            open.leave(&self.session);
        }
        self.live.leave(&self.session);
    }
}

impl Session {
    /// Takes the upload away from its connection and keeps what it has received. Returns once
    /// nothing of it is under way.
    pub(super) async fn fence(&self) {
        let mut slot = self.slot.lock().await;
        let Slot::Open(open) = mem::replace(&mut *slot, Slot::Fenced) else {
            return;
        };
        if self.superseded.load(Ordering::Relaxed) || !open.has_anything() {
            return open.leave(self);
        }
        if let Err(error) = open.keep(self).await {
            let part = &self.part;
            tracing::warn!(%part, %error, "cannot keep what a connection had received of {part} before another took its place: {error}");
        }
    }
}

impl Slot {
    fn open(&mut self) -> Result<&mut Open, StoreError> {
        match self {
            Self::Open(open) => Ok(open),
            Self::Fenced => Err(StoreError::Fenced),
            Self::Over => Err(io::Error::other("the upload has failed before").into()),
        }
    }

    fn take(&mut self) -> Result<Open, StoreError> {
        self.open()?;
        match mem::replace(self, Self::Over) {
            Self::Open(open) => Ok(open),
            Self::Fenced | Self::Over => Err(StoreError::Fenced),
        }
    }
}

impl Open {
    fn new(growing: Option<Growing>) -> Self {
        let sliced = growing.as_ref().map_or(0, |growing| growing.reached.offset);
        let resumed = growing.as_ref().map(|growing| Arc::clone(&growing.file));
        Self {
            filling: Vec::new(),
            growing,
            spare: Vec::new(),
            writing: None,
            slice: None,
            sliced,
            resumed,
        }
    }

    /// Leaves what it was resumed from to a successor; there is none once the whole is held, by way
    /// of another upload.
    fn leave(self, session: &Session) {
        if let Some(file) = &self.resumed
            && session.places.is_held(&session.part)
        {
            file.condemn();
        }
    }

    fn has_anything(&self) -> bool {
        !self.filling.is_empty() || self.growing.is_some() || self.writing.is_some()
    }

    async fn write(&mut self, session: &Arc<Session>, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BATCH_BYTES - self.filling.len()));
            if self.filling.capacity() - self.filling.len() < now.len() {
                // A small episode gets what it needs, and no buffer is ever larger than a batch.
                let more = if self.filling.is_empty() {
                    now.len()
                } else {
                    BATCH_BYTES - self.filling.len()
                };
                self.filling.reserve_exact(more);
            }
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() == BATCH_BYTES {
                self.hand_over(session).await?;
            }
        }
        Ok(())
    }

    /// Gives the full batch to a disk thread, once it is through with the one before.
    async fn hand_over(&mut self, session: &Arc<Session>) -> Result<(), StoreError> {
        self.written().await?;
        if self.slice.as_ref().is_some_and(JoinHandle::is_finished) {
            self.flushed().await?;
        }
        self.flush_beside(session);
        let growing = self.growing.take();
        let mut batch = mem::replace(&mut self.filling, mem::take(&mut self.spare));
        let session = Arc::clone(session);
        self.writing = Some(spawn_blocking(move || {
            let growing = session.places.append(growing, &session.part, &batch)?;
            batch.clear();
            Ok((growing, batch))
        }));
        Ok(())
    }

    /// Begins to flush what has arrived, where that is a slice's worth, and the flush before it is
    /// through.
    fn flush_beside(&mut self, session: &Arc<Session>) {
        let Some(Growing { file, reached }) = &self.growing else {
            return;
        };
        if self.slice.is_some() || reached.offset - self.sliced < session.places.slice_bytes {
            return;
        }
        self.sliced = reached.offset;
        let (file, reached, session) = (Arc::clone(file), reached.clone(), Arc::clone(session));
        self.slice = Some(spawn_blocking(move || {
            let is_current = || !session.superseded.load(Ordering::Relaxed);
            session
                .places
                .slice(&file, &session.part, &session.offer, &reached, is_current)
        }));
    }

    /// Waits for the batch that is being written.
    async fn written(&mut self) -> Result<(), StoreError> {
        if let Some(writing) = &mut self.writing {
            let written = ended(writing.await);
            self.writing = None;
            let (growing, spare) = written?;
            (self.growing, self.spare) = (Some(growing), spare);
        }
        Ok(())
    }

    /// Waits for the flush that is under way.
    async fn flushed(&mut self) -> Result<(), StoreError> {
        if let Some(slice) = &mut self.slice {
            let flushed = ended(slice.await);
            self.slice = None;
            flushed?;
        }
        Ok(())
    }

    async fn keep(self, session: &Session) -> Result<u64, StoreError> {
        let begun_with = session.offer;
        self.finish(session, begun_with, Places::keep).await
    }

    async fn publish(self, session: &Session, offer: Offer) -> Result<Publication, StoreError> {
        self.finish(session, offer, Places::publish).await
    }

    /// Writes what has not been, and does the last thing with the file; all that the disk had under
    /// way has ended by then.
    async fn finish<T: Send + 'static>(
        mut self,
        session: &Session,
        offer: Offer,
        last: fn(&Places, &Growing, &PartKey, &Offer) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        self.written().await?;
        self.flushed().await?;
        let (places, part) = (Arc::clone(&session.places), session.part.clone());
        ended(
            spawn_blocking(move || {
                let growing = match self.growing {
                    Some(growing) if self.filling.is_empty() => growing,
                    growing => places.append(growing, &part, &self.filling)?,
                };
                last(&places, &growing, &part, &offer)
            })
            .await,
        )
    }
}

/// Runs to the end also when nothing waits for it any more.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work).await.map_err(io::Error::other)?
}

/// A disk thread that panicked is the failure of that one piece of work.
pub(super) fn ended<T>(
    work: Result<io::Result<T>, tokio::task::JoinError>,
) -> Result<T, StoreError> {
    Ok(work.map_err(io::Error::other)??)
}
