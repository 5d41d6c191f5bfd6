//! What comes in: PUT of an episode, and going on with an upload that broke off.
//!
//! ```text
//!  PUT  /v1/episodes/{id}          admit ──▶ room ──▶ 100 Continue ──▶ store, as it arrives
//!                                                          │ broke off    └─▶ publish ──▶ 201
//!                                                          ▼
//!  HEAD /v1/uploads/{id}/{sha256}  ◀── where is it? ──── kept, durable up to Upload-Offset
//!  PATCH      ... Upload-Offset: N  ── admit, room ──▶ the rest ──▶ publish ──▶ 201
//!  DELETE     ...                   ── thrown away
//! ```
//!
//! The headers are those of draft-ietf-httpbis-resumable-upload-15. An upload is found again by who
//! sends it, the episode and the archive's digest, so that nothing needs to be remembered from one
//! connection to the next, on either side.

mod late_digest;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    admit::{self, Decision, GoingOn},
    body::UploadBody,
    get::precondition_failed,
    identity::{self, Caller},
    precondition::{self, Precondition},
    reply::Reply,
    request_context::{Exchange, RequestRefusal},
    room::{PartRoom, Promise, RoomFor},
    store::{Part, PartKey, PartResumed, Publication, Store},
    stored_episode::{Offer, StoredEpisode},
    upload_session::{Taking, no_room_to_keep},
    window::SaidCommit,
};
use crate::{
    clock,
    model::{
        episode::{Digest, EpisodeId},
        structured_field,
        wire::{
            self, PARTIAL_UPLOAD_TYPE, Problem, ProblemType, Receipt, UPLOAD_COMPLETE,
            UPLOAD_LENGTH, UPLOAD_OFFSET,
        },
    },
};

/// What an upload's address takes; that of a plan takes PUT as well.
const UPLOAD_METHODS: &str = "DELETE, GET, HEAD, PATCH";
const PLANNED_METHODS: &str = "DELETE, GET, HEAD, PATCH, PUT";

/// An upload that may go on: the episode and the archive that its address names.
pub(super) struct Named {
    pub(super) id: EpisodeId,
    sha256: Digest,
    is_planned: bool,
}

/// The upload that a path names, where it is below `/v1/uploads/`; `None` for any other path.
///
/// # Errors
/// `id-invalid` where what follows is not an episode id and a digest.
pub(super) fn upload_of(path: &str) -> Option<Result<Named, Problem>> {
    let rest = path.strip_prefix(wire::UPLOADS_PATH)?;
    let parse = || {
        let (id, name) = rest.split_once('/').ok_or("expected ID/SHA256")?;
        let id = EpisodeId::from_percent_encoded(id).map_err(|error| error.to_string())?;
        let plan = name.strip_prefix(wire::PLAN_PREFIX);
        Ok::<_, String>(Named {
            id,
            is_planned: plan.is_some(),
            sha256: plan
                .unwrap_or(name)
                .parse()
                .map_err(|_| "not a SHA-256, 64 hex digits")?,
        })
    };
    Some(parse().map_err(|why| {
        Problem::new(
            ProblemType::IdInvalid,
            format!("The path names no upload: {why}."),
        )
    }))
}

/// How long the archive is that a request asks about or begins, where it says so; bytes.
///
/// # Errors
/// `upload-invalid`.
pub(super) fn upload_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    number(headers, UPLOAD_LENGTH)
}

impl<S: Store> Exchange<'_, S> {
    /// PUT, or POST as the draft has it: the whole archive, or with `Upload-Complete: ?0` the
    /// beginning of it.
    pub(super) async fn put(
        &self,
        caller: &Caller,
        id: &EpisodeId,
        body: &mut UploadBody,
    ) -> Result<Reply, RequestRefusal> {
        let headers = &self.head.headers;
        let said_complete = is_complete(headers)?;
        let is_complete = said_complete.unwrap_or(true);
        if headers.contains_key(header::CONTENT_RANGE) {
            return Err(invalid(
                "A part is sent by PATCH; this is the whole (RFC 9110, section 14.5).",
            )
            .into());
        }
        let mut offer = admit::read_offer(headers)?;
        match (is_complete, upload_length(headers)?) {
            (true, Some(whole)) if whole != offer.size_bytes => {
                return Err(
                    invalid("Upload-Length and Content-Length of the whole differ.").into(),
                );
            }
            (true, Some(_) | None) => {}
            (false, Some(whole)) if whole >= offer.size_bytes => offer.size_bytes = whole,
            (false, Some(_) | None) => {
                return Err(invalid("Upload-Length says how long the whole will be.").into());
            }
        }
        let part = PartKey::new(self.key(caller, id)?, caller.name().cloned(), &offer);
        let room_for = RoomFor::Whole(&part);
        let admitted = self
            .admit(caller, &part, &offer, room_for, offer.size_bytes)
            .await?;
        // Behind every other refusal (RFC 9110, section 13.2.1).
        if precondition::is_asked_of_write(headers) {
            let held = self.receiver.store.find(&part.key).await?;
            let held = held.as_ref().map(|held| {
                let modified = precondition::last_modified(held.stored_at, clock::wall_now());
                (&held.sha256, modified)
            });
            if precondition::of_write(headers, held) == Precondition::Fails {
                return Err(precondition_failed());
            }
        }
        let address = format!(
            "{}{}/{}",
            wire::UPLOADS_PATH,
            id.percent_encoded(),
            offer.sha256
        );
        let promise = match admitted {
            Admitted::Held(receipt) => {
                let reply = Reply::receipt(StatusCode::OK, &receipt);
                return Ok(match said_complete {
                    None => reply,
                    Some(true) => completed(reply, offer.size_bytes),
                    // What was announced is there already, at this address where it is the very
                    // archive.
                    Some(false) => {
                        let reply = completed(reply, offer.size_bytes)
                            .with(UPLOAD_LENGTH, offer.size_bytes);
                        if receipt.sha256 == offer.sha256 {
                            reply.with_text("location", &address)
                        } else {
                            reply
                        }
                    }
                });
            }
            Admitted::Wanted(promise) => promise,
        };
        let part_room = self.part_room(&part, &offer, 0, is_complete, &promise)?;
        let upload = self.receiver.store.begin(&part, &offer);
        let taking = Taking::new(self, upload, promise, part_room, &part);
        if is_complete {
            let reply = self.take(taking, caller, &part, &offer, body).await?;
            return Ok(match said_complete {
                Some(_) => completed(reply, offer.size_bytes),
                None => reply,
            });
        }
        let offset = taking.take(body).await?.keep().await?;
        Ok(state(StatusCode::CREATED, offset, None).with_text("location", &address))
    }

    /// HEAD, GET, PATCH and DELETE of an upload.
    pub(super) async fn upload(
        &self,
        caller: &Caller,
        named: &Named,
        body: &mut UploadBody,
    ) -> Result<Reply, RequestRefusal> {
        let key = self.key(caller, &named.id)?;
        let part = PartKey {
            key,
            owner: caller.name().cloned(),
            sha256: named.sha256,
            is_planned: named.is_planned,
        };
        match self.head.method {
            // Some proxies ask by GET what they were asked by HEAD, and drop what they get for a
            // body.
            Method::HEAD | Method::GET => self.offset(caller, &part).await,
            Method::PATCH => self.go_on(caller, &part, body).await,
            Method::PUT if part.is_planned => self.begin_planned(caller, &part, body).await,
            Method::DELETE => {
                self.is_as_it_is_to_be()?;
                match self.receiver.store.discard(&part).await? {
                    true => {
                        self.receiver.room.part_gone(&part);
                        Ok(Reply::nothing())
                    }
                    false => Ok(Reply::busy(
                        "Another receiver on this store is writing this upload.",
                    )),
                }
            }
            _ if part.is_planned => Ok(Reply::method_not_allowed(PLANNED_METHODS)),
            _ => Ok(Reply::method_not_allowed(UPLOAD_METHODS)),
        }
    }

    /// Whether what was kept of a connection that was fenced off has its room; it goes where it has
    /// none.
    async fn stays(&self, part: &PartKey, offset: u64) -> Result<bool, RequestRefusal> {
        let room = &self.receiver.room;
        if room.may_stay(part, offset) {
            return Ok(true);
        }
        if self.receiver.store.discard(part).await? {
            room.part_gone(part);
        }
        Ok(false)
    }

    /// Whether an upload is as the preconditions have it, once nothing else speaks against what is
    /// to be done with it.
    fn is_as_it_is_to_be(&self) -> Result<(), RequestRefusal> {
        match precondition::of_upload(&self.head.headers) {
            Precondition::Fails => Err(precondition_failed()),
            Precondition::Holds | Precondition::NotModified => Ok(()),
        }
    }

    /// Where an upload goes on. The client that asks has given up every connection that we may
    /// still believe in.
    async fn offset(&self, caller: &Caller, part: &PartKey) -> Result<Reply, RequestRefusal> {
        self.receiver.underway.ebb(part).await;
        if let Some(kept) = self.receiver.store.settle(part).await?
            && self.stays(part, kept.offset).await?
        {
            // How long it will be is not known of one that is packed meanwhile.
            let whole = (!part.is_planned).then_some((kept.offer.size_bytes, false));
            return Ok(state(StatusCode::NO_CONTENT, kept.offset, whole));
        }
        // It got through after all, and the answer was lost: there is nothing left to send.
        match self.receiver.store.find(&part.key).await? {
            Some(held)
                if !part.is_planned
                    && held.sha256 == part.sha256
                    && identity::may_read(caller, held.owner.as_ref(), &self.receiver.readers) =>
            {
                Ok(state(
                    StatusCode::NO_CONTENT,
                    held.size_bytes,
                    Some((held.size_bytes, true)),
                ))
            }
            Some(_) | None => Ok(Reply::not_found("Nothing is kept of this upload.")),
        }
    }

    /// PATCH: the rest, or with `Upload-Complete: ?0` some more of it.
    async fn go_on(
        &self,
        caller: &Caller,
        part: &PartKey,
        body: &mut UploadBody,
    ) -> Result<Reply, RequestRefusal> {
        let headers = &self.head.headers;
        if wire::media_type(headers) != PARTIAL_UPLOAD_TYPE {
            let detail = format!("A PATCH that goes on with an upload is {PARTIAL_UPLOAD_TYPE}.");
            // RFC 5789, section 2.2.
            let problem = Problem::new(ProblemType::UnsupportedType, detail);
            return Ok(Reply::problem(&problem).with_text("accept-patch", PARTIAL_UPLOAD_TYPE));
        }
        let is_complete =
            is_complete(headers)?.ok_or_else(|| invalid("Upload-Complete is ?1 or ?0."))?;
        let at = number(headers, UPLOAD_OFFSET)?
            .ok_or_else(|| invalid("Upload-Offset says from which byte on this goes on."))?;
        if part.is_planned {
            return self
                .go_on_planned(caller, part, at, is_complete, body)
                .await;
        }
        // Neither a length nor a coding: there is no body (RFC 9112, section 6.3).
        let bare = !headers.contains_key(header::CONTENT_LENGTH)
            && !headers.contains_key(header::TRANSFER_ENCODING);
        let coming = if bare {
            0
        } else {
            admit::content_length(headers)?
        };
        let said = upload_length(headers)?;
        let store = &self.receiver.store;
        let kept = store.part(part).await?;
        if let (Some(said), Some(kept)) = (said, &kept)
            && said != kept.offer.size_bytes
        {
            return Err(invalid("Upload-Length is not what was said when it began.").into());
        }
        match admit::go_on(kept.as_ref(), at, coming, is_complete) {
            GoingOn::Resume => {}
            GoingOn::Elsewhere { offset } => return Ok(elsewhere(at, offset)),
            GoingOn::Nothing => return self.nothing_kept(part).await,
            GoingOn::Refused(problem) => return Err(problem.into()),
        }
        let Some(Part { offer, .. }) = kept else {
            return self.nothing_kept(part).await;
        };
        let room_for = RoomFor::Rest(part);
        let admitted = self.admit(caller, part, &offer, room_for, coming).await?;
        let promise = match admitted {
            Admitted::Held(receipt) => {
                self.is_as_it_is_to_be()?;
                let reply = Reply::receipt(StatusCode::OK, &receipt);
                return Ok(completed(reply, offer.size_bytes));
            }
            Admitted::Wanted(promise) => promise,
        };
        let part_room = self.part_room(part, &offer, at, is_complete, &promise)?;
        self.is_as_it_is_to_be()?;
        let upload = match self.resumed(part, &offer, at).await? {
            Ok(upload) => upload,
            Err(reply) => return Ok(reply),
        };
        let taking = Taking::new(self, upload, promise, part_room, part);
        if is_complete {
            let reply = self.take(taking, caller, part, &offer, body).await?;
            return Ok(completed(reply, offer.size_bytes));
        }
        let offset = taking.take(body).await?.keep().await?;
        Ok(state(
            StatusCode::NO_CONTENT,
            offset,
            Some((offer.size_bytes, false)),
        ))
    }

    /// An upload that goes on at a byte; or what is answered where it does not.
    async fn resumed(
        &self,
        part: &PartKey,
        offer: &Offer,
        at: u64,
    ) -> Result<Result<S::Upload, Reply>, RequestRefusal> {
        Ok(Err(
            match self.receiver.store.resume(part, offer, at).await? {
                PartResumed::Upload(upload) => return Ok(Ok(upload)),
                PartResumed::Elsewhere { offset } if self.stays(part, offset).await? => {
                    elsewhere(at, offset)
                }
                PartResumed::Elsewhere { .. } | PartResumed::Nothing => {
                    self.nothing_kept(part).await?
                }
                PartResumed::Busy => Reply::busy("Another connection is writing this upload."),
            },
        ))
    }

    /// Room for what may come to be kept of an upload, where it is worth that and there is any.
    ///
    /// # Errors
    /// `no-space` where it is announced in pieces, and so has to be kept.
    fn part_room(
        &self,
        part: &PartKey,
        offer: &Offer,
        at: u64,
        is_complete: bool,
        promise: &Promise,
    ) -> Result<Option<PartRoom>, Problem> {
        if is_complete && at == 0 && offer.size_bytes <= wire::RESUMABLE_OVER_BYTES {
            return Ok(None);
        }
        let room = &self.receiver.room;
        let reserved = room.reserve_part(part, offer.size_bytes, at, promise);
        if is_complete || reserved.as_ref().is_some_and(|room| room.is_for_whole) {
            return Ok(reserved);
        }
        Err(no_room_to_keep())
    }

    async fn nothing_kept(&self, part: &PartKey) -> Result<Reply, RequestRefusal> {
        match self.receiver.store.find(&part.key).await? {
            Some(held) if !part.is_planned && held.sha256 == part.sha256 => {
                self.is_as_it_is_to_be()?;
                let reply = Reply::receipt(StatusCode::OK, &held.receipt());
                Ok(completed(reply, held.size_bytes))
            }
            Some(_) | None => Ok(Reply::not_found(
                "Nothing is kept of this upload: send the whole.",
            )),
        }
    }

    /// Takes the body to its end and publishes.
    async fn take(
        &self,
        taking: Taking<S>,
        caller: &Caller,
        part: &PartKey,
        offer: &Offer,
        body: &mut UploadBody,
    ) -> Result<Reply, RequestRefusal> {
        let mut taken = taking.take(body).await?;
        match taken.publish().await? {
            Publication::Stored(held) => {
                if let Some(host) = &part.key.host {
                    self.receiver.hosts.filed(host);
                }
                Ok(Reply::receipt(StatusCode::CREATED, &held.receipt()))
            }
            Publication::NameTaken => match self.held(caller, part, offer).await? {
                Some(OfferReply::Receipt(receipt)) => Ok(Reply::receipt(StatusCode::OK, &receipt)),
                // Every byte of it was here just now: it belongs to the host that sent them.
                Some(OfferReply::Unowned(receipt)) => {
                    let claimed = match &part.owner {
                        Some(owner) => self.receiver.store.claim(&part.key, owner).await?,
                        None => None,
                    };
                    Ok(Reply::receipt(
                        StatusCode::OK,
                        &claimed.map_or(receipt, |held| held.receipt()),
                    ))
                }
                None => Err(Problem::new(
                    ProblemType::StoreFailed,
                    "Another upload of this id was published first, and is gone again.",
                )
                .into()),
            },
            Publication::DigestMismatch { received } => Err(Problem::new(
                ProblemType::DigestMismatch,
                format!(
                    "The bytes that arrived hash to {received}, not to {}.",
                    offer.sha256
                ),
            )
            .with("received_sha256", received.to_string())
            .into()),
        }
    }

    /// Whether the body is wanted, before any byte of it is asked for; `coming` bytes are still to
    /// come.
    async fn admit(
        &self,
        caller: &Caller,
        part: &PartKey,
        offer: &Offer,
        room_for: RoomFor<'_>,
        coming: u64,
    ) -> Result<Admitted, RequestRefusal> {
        match self.held(caller, part, offer).await? {
            Some(OfferReply::Receipt(receipt)) => {
                return Ok(Admitted::Held(receipt));
            }
            // Its digest is no secret: only the bytes prove that it is this caller's.
            Some(OfferReply::Unowned(_)) => {}
            None => self.is_taken(caller, offer)?,
        }
        let store = &self.receiver.store;
        let promise = self.receiver.room.promise(store, room_for, coming).await?;
        Ok(Admitted::Wanted(promise?))
    }

    /// Whether this receiver takes it, as far as commit and size go.
    fn is_taken(&self, caller: &Caller, offer: &Offer) -> Result<(), RequestRefusal> {
        if let Decision::Refused(problem) = self.decide(offer, None) {
            if matches!(
                problem.kind,
                ProblemType::CommitMissing | ProblemType::CommitOutOfWindow
            ) {
                self.receiver.tally.rejected_by_window(caller.name());
            }
            return Err(problem.into());
        }
        Ok(())
    }

    /// What is held, where that answers the offer; `None` where nothing is held.
    ///
    /// # Errors
    /// `conflict` where something else is held. What that is, only a caller that may read it is
    /// told.
    async fn held(
        &self,
        caller: &Caller,
        part: &PartKey,
        offer: &Offer,
    ) -> Result<Option<OfferReply>, RequestRefusal> {
        let store = &self.receiver.store;
        let mut held = store.find(&part.key).await?;
        if held.is_some() && self.decide(offer, held.as_ref()) == Decision::Unproven {
            held = self.verified(caller, &part.key).await?;
        }
        let Some(held) = held else { return Ok(None) };
        match self.decide(offer, Some(&held)) {
            Decision::AlreadyHeld(receipt) => {
                let unowned =
                    held.owner.is_none() && part.owner.is_some() && held.sha256 == offer.sha256;
                Ok(Some(if unowned {
                    OfferReply::Unowned(receipt)
                } else {
                    OfferReply::Receipt(receipt)
                }))
            }
            Decision::Refused(problem) => Err(problem.into()),
            // What cannot be proven after looking is not the same.
            Decision::Conflict(_) | Decision::Unproven | Decision::Store => {
                if identity::may_read(caller, held.owner.as_ref(), &self.receiver.readers) {
                    return Err(admit::conflict(&held).into());
                }
                let detail = "Another archive is held under this id, and is another host's.";
                Err(Problem::new(ProblemType::Conflict, detail).into())
            }
        }
    }

    fn decide(&self, offer: &Offer, held: Option<&StoredEpisode>) -> Decision {
        admit::admit(
            offer,
            &SaidCommit::of(&self.head.headers),
            held,
            &self.terms(),
        )
    }
}

/// What is held, as it answers an offer.
enum OfferReply {
    /// It is the same.
    Receipt(Receipt),
    /// It is the very archive, and has no owner: its record was lost, or no name was asked for
    /// then.
    Unowned(Receipt),
}

enum Admitted {
    Held(Receipt),
    Wanted(Promise),
}

/// Where an upload stands (the draft, sections 4.1 to 4.3 and 4.5).
fn state(status: StatusCode, offset: u64, whole: Option<(u64, bool)>) -> Reply {
    let flag = |complete| HeaderValue::from_static(if complete { "?1" } else { "?0" });
    let mut reply = Reply::nothing().with(UPLOAD_OFFSET, offset).with(
        UPLOAD_COMPLETE,
        flag(whole.is_some_and(|(_, complete)| complete)),
    );
    *reply.response.status_mut() = status;
    match whole {
        Some((size_bytes, _)) => reply.with(UPLOAD_LENGTH, size_bytes),
        None => reply,
    }
}

/// The answer to the last piece says that it was the last (the draft, section 4.4).
fn completed(reply: Reply, size_bytes: u64) -> Reply {
    if !reply.response.status().is_success() {
        return reply;
    }
    reply
        .with(UPLOAD_OFFSET, size_bytes)
        .with(UPLOAD_COMPLETE, HeaderValue::from_static("?1"))
}

fn elsewhere(provided: u64, expected: u64) -> Reply {
    let detail = format!("It goes on at byte {expected}, not at {provided}.");
    let problem = Problem::new(ProblemType::OffsetMismatch, detail)
        .with("expected-offset", expected)
        .with("provided-offset", provided);
    Reply::problem(&problem).with(UPLOAD_OFFSET, expected)
}

fn invalid(detail: &str) -> Problem {
    Problem::new(ProblemType::UploadInvalid, detail)
}

/// `Upload-Complete`; `None` where it is not there.
fn is_complete(headers: &HeaderMap) -> Result<Option<bool>, Problem> {
    structured_field::boolean(headers, UPLOAD_COMPLETE)
        .map_err(|_| invalid("Upload-Complete is ?1 or ?0, once."))
}

/// A header that holds a number of bytes; `None` where it is not there.
fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Problem> {
    structured_field::number(headers, name)
        .map_err(|_| invalid(&format!("{name} is a number of bytes, once.")))
}
