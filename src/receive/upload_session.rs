//! An upload while its body comes, and what becomes of it when that breaks off.

use std::sync::Arc;

use super::{
    active_uploads::Flow,
    body::UploadBody,
    request_context::{Exchange, RequestContext, RequestRefusal},
    room::{PartRoom, Promise, RoomFor},
    store::{PartKey, Publication, Store, StoreError, Upload as _},
};
use crate::model::wire::{Problem, ProblemType};

/// An upload of unknown length takes room in steps of this, bytes.
const GROWS_BY_BYTES: u64 = 64 << 20;

/// An upload while its body comes. However that ends, what has arrived of a large one is kept.
pub(super) struct Taking<S: Store> {
    receiver: Arc<RequestContext<S>>,
    part: PartKey,
    /// What may be kept of it; `None`: it is not worth it, or the parts of others leave no room.
    part_room: Option<PartRoom>,
    upload: Option<S::Upload>,
    promise: Promise,
    flow: Flow,
    /// It is packed meanwhile, and nothing says how long it becomes: it takes room step by step.
    /// How much it has in all, bytes.
    grown_bytes: Option<u64>,
    /// It becomes no longer, by its own word, bytes.
    bound_bytes: u64,
    /// Bytes that came on this connection.
    pub(super) received: u64,
}

impl<S: Store> Taking<S> {
    pub(super) fn new(
        exchange: &Exchange<'_, S>,
        upload: S::Upload,
        promise: Promise,
        part_room: Option<PartRoom>,
        part: &PartKey,
    ) -> Self {
        if part_room.is_none() {
            upload.forgo();
        }
        Self {
            receiver: Arc::clone(exchange.receiver),
            part: part.clone(),
            part_room,
            upload: Some(upload),
            promise,
            flow: exchange.receiver.underway.begin(part),
            grown_bytes: None,
            bound_bytes: u64::MAX,
            received: 0,
        }
    }

    /// One that is packed meanwhile, of which so much is there already.
    ///
    /// # Errors
    /// That there is no room for more of it.
    pub(super) async fn growing(
        exchange: &Exchange<'_, S>,
        upload: S::Upload,
        part: &PartKey,
        kept_bytes: u64,
        bound_bytes: u64,
    ) -> Result<Self, RequestRefusal> {
        let room = &exchange.receiver.room;
        let room_for = match kept_bytes {
            0 => RoomFor::Whole(part),
            _ => RoomFor::Rest(part),
        };
        let promise = room
            .promise(&exchange.receiver.store, room_for, GROWS_BY_BYTES)
            .await??;
        let reserved = kept_bytes.saturating_add(GROWS_BY_BYTES);
        let part_room = room
            .reserve_part(part, reserved, kept_bytes, &promise)
            .filter(|room| room.is_for_whole)
            .ok_or_else(no_room_to_keep)?;
        let mut taking = Self::new(exchange, upload, promise, Some(part_room), part);
        taking.grown_bytes = Some(kept_bytes);
        taking.bound_bytes = bound_bytes;
        Ok(taking)
    }

    /// Takes room for what has come, where it is not there yet.
    async fn grow(&mut self, bytes: u64) -> Result<(), RequestRefusal> {
        let Some(grown_bytes) = &mut self.grown_bytes else {
            return Ok(());
        };
        *grown_bytes = grown_bytes.saturating_add(bytes);
        let terms = self.receiver.limits.max_episode_bytes;
        if let Some(max) = terms
            && *grown_bytes > max
        {
            self.upload = None;
            let detail =
                format!("It is longer than {max} bytes; archives of up to that are taken.");
            let problem = Problem::new(ProblemType::TooLarge, detail);
            return Err(problem.with("max_episode_bytes", max).into());
        }
        if *grown_bytes > self.bound_bytes {
            self.upload = None;
            let detail = format!("It was to become {} bytes at most.", self.bound_bytes);
            return Err(Problem::new(ProblemType::UploadInvalid, detail).into());
        }
        if self.promise.left_bytes() >= bytes {
            return Ok(());
        }
        let more = bytes.max(GROWS_BY_BYTES);
        let room = &self.receiver.room;
        room.extend(
            &self.receiver.store,
            RoomFor::Host(self.part.owner.as_ref()),
            &self.promise,
            more,
        )
        .await??;
        if self.part_room.as_ref().is_some_and(|room| !room.grow(more)) {
            return Err(no_room_to_keep().into());
        }
        Ok(())
    }

    /// The body, to its end.
    pub(super) async fn take(mut self, body: &mut UploadBody) -> Result<Self, RequestRefusal> {
        loop {
            // Where that fails this is dropped, and what has arrived kept.
            let Some(bytes) = body.next().await? else {
                return Ok(self);
            };
            self.grow(bytes.len() as u64).await?;
            let Some(upload) = &mut self.upload else {
                return Ok(self);
            };
            if let Err(error) = upload.write(&bytes).await {
                self.upload = None;
                return Err(error.into());
            }
            self.promise.took(bytes.len() as u64);
            self.flow.came(bytes.len() as u64);
            self.received += bytes.len() as u64;
        }
    }

    pub(super) async fn publish(&mut self) -> Result<Publication, RequestRefusal> {
        match self.upload.take() {
            Some(upload) => {
                let named = self.receiver.room.names(&self.part.key);
                let published = upload.publish().await?;
                if let Publication::Stored(held) = &published {
                    named.stored(self.part.owner.as_ref(), held.size_bytes);
                }
                self.receiver.room.part_gone(&self.part);
                if let Publication::Stored(_) = &published {
                    discard_planned(Arc::clone(&self.receiver), self.part.clone()).await;
                }
                Ok(published)
            }
            None => Err(fenced()),
        }
    }

    pub(super) async fn keep(mut self) -> Result<u64, RequestRefusal> {
        if self.part_room.as_ref().is_some_and(|room| !room.take()) {
            return Err(no_room_to_keep().into());
        }
        let Some(upload) = self.upload.take() else {
            return Err(fenced());
        };
        let offset = upload.keep().await?;
        if let Some(room) = self.part_room.take() {
            room.kept(offset);
        }
        Ok(offset)
    }
}

impl<S: Store> Drop for Taking<S> {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else {
            return;
        };
        let (Some(room), part) = (self.part_room.take(), self.part.clone()) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        // A receiver that ends waits until this is dropped.
        let receiver = Arc::clone(&self.receiver);
        runtime.spawn(async move {
            let id = &part.key.id;
            let has_room = room.take();
            let kept = upload.keep().await;
            if !has_room && room.is_alone() {
                // What was flushed of it on the way would stay by itself.
                let discarded = receiver.store.discard(&part).await;
                receiver.room.part_gone(&part);
                let why = "what is kept of others leaves no room";
                tracing::info!(episode = %id, ?discarded, "the upload of {id} broke off and is not kept: {why}");
                return;
            }
            match kept {
                Ok(offset) => {
                    room.kept(offset);
                    tracing::info!(episode = %id, offset, "the upload of {id} broke off, and its {offset} bytes are kept");
                }
                Err(error) => {
                    // A walk, or a successor, may have found what was flushed of it on the way.
                    if let Ok(found) = receiver.store.part(&part).await {
                        let offset = found.map_or(0, |found| found.offset);
                        receiver.room.part_is(&part, offset);
                    }
                    tracing::info!(episode = %id, %error, "the upload of {id} broke off and is not kept: {error}");
                }
            }
        });
    }
}

/// What this host has sent of the same id by its plan is of no use any more.
async fn discard_planned<S: Store>(receiver: Arc<RequestContext<S>>, part: PartKey) {
    for planned in receiver.room.planned_beside(&part) {
        // What cannot be removed now is swept when it is old.
        if let Ok(true) = receiver.store.discard(&planned).await {
            receiver.room.part_gone(&planned);
        }
    }
}

/// An upload that is announced in pieces has to be kept.
pub(super) fn no_room_to_keep() -> Problem {
    let detail =
        "Uploads that are not complete have as much room as they may: send the whole at once.";
    Problem::new(ProblemType::NoSpace, detail)
}

fn fenced() -> RequestRefusal {
    StoreError::Fenced.into()
}
