//! An upload that is packed while it is sent: it is found again by its plan, and what it is, is
//! said with its last bytes.
//!
//! ```text
//!  PUT   /v1/uploads/{id}/plan-{sha256}   Sealift-Length-Bound     as it grows ──▶ kept
//!  PATCH ... Upload-Complete: ?0                                    as it grows ──▶ kept
//!  PATCH ... Upload-Complete: ?1, Repr-Digest, Content-Length
//!        ──▶ held? admitted? ──▶ the last bytes ──▶ all of it has that digest? ──▶ publish
//! ```
//!
//! Room is taken step by step, since no length is known, so that 413 and 507 may come late. What is
//! held already is not compared here: there is no digest to compare.

use http::StatusCode;

use super::{Admitted, completed, elsewhere, invalid, number, state};
use crate::{
    model::wire::{LENGTH_BOUND, Problem},
    receive::{
        admit,
        body::UploadBody,
        identity::Caller,
        reply::Reply,
        request_context::{Exchange, RequestRefusal},
        room::RoomFor,
        store::{Part, PartKey, Store, Upload as _},
        stored_episode::Offer,
        upload_session::Taking,
        window::SaidCommit,
    },
};

impl<S: Store> Exchange<'_, S> {
    /// PUT: its first bytes.
    pub(super) async fn begin_planned(
        &self,
        caller: &Caller,
        part: &PartKey,
        body: &mut UploadBody,
    ) -> Result<Reply, RequestRefusal> {
        let headers = &self.head.headers;
        if super::is_complete(headers)? != Some(false) {
            let detail = "An upload that is found by its plan begins with Upload-Complete: ?0.";
            return Err(invalid(detail).into());
        }
        let bound_bytes = number(headers, LENGTH_BOUND)?.ok_or_else(|| {
            invalid("Sealift-Length-Bound says how long the archive may become, bytes.")
        })?;
        if self.receiver.store.find(&part.key).await?.is_some() {
            let detail = "An archive is held under this id: send the whole, with its digest.";
            return Err(invalid(detail).into());
        }
        self.takes_commit(caller)?;
        self.is_as_it_is_to_be()?;
        let offer = Offer {
            sha256: part.sha256,
            content_sha256: None,
            size_bytes: bound_bytes,
        };
        let upload = self.receiver.store.begin(part, &offer);
        let taking = Taking::growing(self, upload, part, 0, bound_bytes).await?;
        let offset = taking.take(body).await?.keep().await?;
        let address = self.head.uri.path();
        Ok(state(StatusCode::CREATED, offset, None).with_text("location", address))
    }

    /// PATCH: some more of it, or its last bytes and what it is.
    pub(super) async fn go_on_planned(
        &self,
        caller: &Caller,
        part: &PartKey,
        at: u64,
        is_complete: bool,
        body: &mut UploadBody,
    ) -> Result<Reply, RequestRefusal> {
        let store = &self.receiver.store;
        let Some(Part {
            offer: begun_with,
            offset,
        }) = store.part(part).await?
        else {
            return self.nothing_kept(part).await;
        };
        if at != offset {
            return Ok(elsewhere(at, offset));
        }
        let ending = if is_complete {
            Some(self.ending(caller, part, at, &begun_with).await?)
        } else {
            self.takes_commit(caller)?;
            None
        };
        let (offer, promise) = match ending {
            Some((offer, Admitted::Held(receipt))) => {
                self.is_as_it_is_to_be()?;
                let reply = Reply::receipt(StatusCode::OK, &receipt);
                self.receiver.store.discard(part).await?;
                self.receiver.room.part_gone(part);
                return Ok(completed(reply, offer.size_bytes));
            }
            Some((offer, Admitted::Wanted(promise))) => (Some(offer), Some(promise)),
            None => (None, None),
        };
        self.is_as_it_is_to_be()?;
        let mut upload = match self.resumed(part, &begun_with, at).await? {
            Ok(upload) => upload,
            Err(reply) => return Ok(reply),
        };
        if let (Some(offer), Some(promise)) = (offer, promise) {
            upload.now_offers(&offer);
            let room = self.part_room(part, &offer, at, is_complete, &promise)?;
            let taking = Taking::new(self, upload, promise, room, part);
            let reply = self.take(taking, caller, part, &offer, body).await?;
            return Ok(completed(reply, offer.size_bytes));
        }
        let taking = Taking::growing(self, upload, part, at, begun_with.size_bytes).await?;
        let offset = taking.take(body).await?.keep().await?;
        Ok(state(StatusCode::NO_CONTENT, offset, None))
    }

    /// What it comes to, by the head of its last request, and whether that is wanted.
    async fn ending(
        &self,
        caller: &Caller,
        part: &PartKey,
        at: u64,
        begun_with: &Offer,
    ) -> Result<(Offer, Admitted), RequestRefusal> {
        let mut offer = admit::read_offer(&self.head.headers)?;
        let coming = offer.size_bytes;
        offer.size_bytes = at.saturating_add(coming);
        if offer.size_bytes > begun_with.size_bytes {
            let (all, bound) = (offer.size_bytes, begun_with.size_bytes);
            let detail = format!("It was to become {bound} bytes at most, and has {all}.");
            return Err(invalid(&detail).into());
        }
        if super::upload_length(&self.head.headers)?.is_some_and(|said| said != offer.size_bytes) {
            return Err(invalid("Upload-Length is not where this ends.").into());
        }
        let admitted = self
            .admit(caller, part, &offer, RoomFor::Rest(part), coming)
            .await?;
        Ok((offer, admitted))
    }

    /// Whether recordings of this commit are taken.
    fn takes_commit(&self, caller: &Caller) -> Result<(), Problem> {
        let taken = self
            .terms()
            .take_commit(&SaidCommit::of(&self.head.headers));
        taken.inspect_err(|_| self.receiver.tally.rejected_by_window(caller.name()))
    }
}
