//! An upload while its body comes, and what becomes of it when that breaks off.

use std::sync::Arc;

use super::{
    active_uploads::Flow,
    body::UploadBody,
    request_context::{Exchange, RequestContext, RequestRefusal},
    room::Promise,
    store::{PartKey, Publication, Store, StoreError, Upload as _},
    stored_episode::Offer,
};
use crate::model::{
    episode::{EpisodeId, HostName},
    wire,
};

/// An upload while its body comes. However that ends, what has arrived of a large one is kept.
pub(super) struct Taking<S: Store> {
    receiver: Arc<RequestContext<S>>,
    id: EpisodeId,
    /// Whether it is worth keeping, and the parts of others leave room for it.
    keeps: bool,
    upload: Option<S::Upload>,
    promise: Promise,
    flow: Flow,
    host: Option<HostName>,
    /// Bytes that came on this connection.
    pub(super) received: u64,
}

impl<S: Store> Taking<S> {
    pub(super) async fn new(
        exchange: &Exchange<'_, S>,
        upload: S::Upload,
        promise: Promise,
        part: &PartKey,
        offer: &Offer,
    ) -> Self {
        let receiver = Arc::clone(exchange.receiver);
        let keeps = offer.size_bytes > wire::RESUMABLE_OVER_BYTES
            && receiver
                .room
                .keeps_parts(&receiver.store, offer.size_bytes)
                .await;
        Self {
            receiver,
            id: part.key.id.clone(),
            keeps,
            upload: Some(upload),
            promise,
            flow: exchange.receiver.underway.begin(part),
            host: part.owner.clone(),
            received: 0,
        }
    }

    /// The body, to its end.
    pub(super) async fn take(mut self, body: &mut UploadBody) -> Result<Self, RequestRefusal> {
        loop {
            // Where that fails this is dropped, and what has arrived kept.
            let Some(bytes) = body.next().await? else {
                return Ok(self);
            };
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
            Some(upload) => Ok(upload.publish().await?),
            None => Err(fenced()),
        }
    }

    pub(super) async fn keep(mut self) -> Result<u64, RequestRefusal> {
        let Some(upload) = self.upload.take() else {
            return Err(fenced());
        };
        let offset = upload.keep().await?;
        self.receiver
            .room
            .stored(self.host.as_ref(), self.received, true);
        Ok(offset)
    }
}

impl<S: Store> Drop for Taking<S> {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take().filter(|_| self.keeps) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (id, host, received) = (self.id.clone(), self.host.clone(), self.received);
        // A receiver that ends waits until this is dropped.
        let receiver = Arc::clone(&self.receiver);
        runtime.spawn(async move {
            match upload.keep().await {
                Ok(offset) => {
                    receiver.room.stored(host.as_ref(), received, true);
                    tracing::info!(episode = %id, offset, "the upload of {id} broke off, and its {offset} bytes are kept");
                }
                Err(error) => {
                    tracing::info!(episode = %id, %error, "the upload of {id} broke off and is not kept: {error}");
                }
            }
        });
    }
}

fn fenced() -> RequestRefusal {
    StoreError::Fenced.into()
}
