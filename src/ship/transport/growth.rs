//! Sending an archive while it is packed: what there is of it goes out as it grows, and what it
//! comes to is said with its last bytes.
//!
//! ```text
//!  GET /v1/admission ──▶ Sealift-Accepts: late-digest      once a receiver
//!  PUT /v1/uploads/{id}/plan-{sha256}                      no digest, no length: a bound of it
//!    ══ as it grows ══▶ 201, Upload-Offset: N              the end of packing, or a stall of it
//!  PATCH ... Upload-Offset: N, Upload-Complete: ?0 ══▶ 204, and again
//!  ── packed: both digests are known ──▶ resume.rs: PATCH with the last bytes, ?1, the digests
//! ```
//!
//! Nothing here is judged. A receiver that refuses, or a line that breaks, ends this and no more:
//! the attempt that follows the packing sends what is missing, or the whole, and hears why. The
//! last bytes are never sent here, so that no archive is whole anywhere before it is known that
//! its episode did not change while it was read, and is what its manifest says.
//!
//! To another server than ours it goes by one PUT in chunks, where that is set: the body ends once
//! the archive has, and breaks off otherwise. A HEAD then shows whether it is there: servers that
//! do not know chunks store nothing, and say 201.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Delivery, Transport, answer, fault,
    resume::{ResumePoint, offset_of},
    upload::{self, Paced},
    uri,
    vouch::HeadAnswer,
};
use crate::{
    http::client::{ClientError, Request, RequestBody},
    model::{
        episode::{Commit, Digest, EpisodeId},
        progress::Progress,
        wire::{self, SendWhilePacking},
    },
    ship::{
        archive::{Archive, ArchiveEnd},
        outcome::{Answer, AnswerBody, Fault, Outcome, Voucher},
    },
};

/// A receiver that cannot do it is asked again after this: it may be a newer one by then.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(600);
/// A line that breaks is tried again so often, after a pause each time.
const MOST_BREAKS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// What is abandoned is taken back at the receiver within this; it ages there otherwise.
const TAKE_BACK: Duration = Duration::from_secs(5);
/// Who waits for packing to go on shows it so often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// An archive to send while it is packed.
#[derive(Clone)]
pub struct GrowingDelivery {
    /// The episode.
    pub id: EpisodeId,
    /// Its archive.
    pub archive: Archive,
    /// A digest of what it is packed from and how.
    pub plan: Digest,
    /// It becomes no longer than this, bytes.
    pub bound_bytes: u64,
    /// The commit of the code that recorded it.
    pub commit: Option<Commit>,
    /// Whether a process before this one may have sent a part of it by the same plan.
    pub may_be_kept: bool,
    /// The plan that this one takes the place of: what was sent by it is taken back.
    pub replaces: Option<Digest>,
}

/// An upload that was begun while its archive was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// A digest of what the archive is packed from and how: the upload is found again by it.
    pub plan: Digest,
    /// What the receiver has said that it keeps of it, bytes; `None` where it is to be asked.
    pub kept_bytes: Option<u64>,
}

/// What came of it, once the archive is packed or there is nothing more to send.
#[derive(Debug, Clone, PartialEq)]
pub enum GrowingEnd {
    /// The receiver keeps so much of it.
    Kept(Planned),
    /// The line broke, or a process before this one began it: the receiver may keep some of it.
    Broken(Planned),
    /// The receiver keeps nothing of it.
    Nothing,
    /// All of it went, to another receiver than ours, and this was answered; by which destination,
    /// by its mark: after a reload, the attempt that follows may ask another.
    Answered(Box<Outcome>, String),
}

impl GrowingEnd {
    /// Under which plan the receiver keeps some of it, or may.
    pub fn planned(&self) -> Option<Planned> {
        match self {
            Self::Kept(planned) | Self::Broken(planned) => Some(*planned),
            Self::Nothing | Self::Answered(..) => None,
        }
    }

    /// Whether the attempt that follows goes on with it.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Kept(_) | Self::Answered(..))
    }
}

/// What one request came to.
enum PieceEnd {
    /// The receiver has so much by now.
    Kept(u64),
    /// It will have none of it.
    Refused(StatusCode),
}

impl Transport {
    /// Whether archives may be sent to it while they are packed, for all that is known.
    pub fn may_take_growing(&self) -> bool {
        let may_be_ours = self.endpoint.address().of_admission().is_some();
        match self.send_while_packing {
            SendWhilePacking::Never => false,
            SendWhilePacking::Always => true,
            SendWhilePacking::Auto => may_be_ours && self.said_of_late_digest() != Some(false),
        }
    }

    /// Sends what there is of an archive while it grows. Returns once it is packed and the receiver
    /// has said how much it keeps; before that where the receiver takes none of it.
    pub async fn send_growing(&self, growing: &GrowingDelivery, progress: &Progress) -> GrowingEnd {
        let id = &growing.id;
        let address = self.endpoint.address();
        let url = address.of_planned_upload(id, &growing.plan);
        let takes_it = self.takes_late_digests(growing, progress).await;
        let Some(url) = url.filter(|_| takes_it) else {
            return match self.send_while_packing {
                SendWhilePacking::Always => self.send_in_chunks(growing, progress).await,
                SendWhilePacking::Auto | SendWhilePacking::Never => GrowingEnd::Nothing,
            };
        };
        if let Some(old) = growing.replaces
            && let Some(url) = address.of_planned_upload(id, &old)
        {
            self.take_back(&url, growing, progress).await;
        }
        let planned = |kept_bytes| Planned {
            plan: growing.plan,
            kept_bytes,
        };
        let mut breaks = 0;
        let mut kept_bytes = None;
        let mut is_known = !growing.may_be_kept;
        loop {
            if !is_known {
                match self.kept_of_growing(&url, growing, progress).await {
                    Ok(ResumePoint::UpTo(kept)) => kept_bytes = Some(kept),
                    Ok(ResumePoint::Nothing) => kept_bytes = None,
                    Ok(ResumePoint::NotNow(_)) | Err(_) => {
                        return GrowingEnd::Broken(planned(None));
                    }
                }
                is_known = true;
            }
            if let Some(kept_bytes) = kept_bytes
                && !self.may_go_on(growing, kept_bytes, progress).await
            {
                if growing.archive.growth().end == Some(ArchiveEnd::Abandoned) {
                    self.take_back(&url, growing, progress).await;
                    return GrowingEnd::Nothing;
                }
                return GrowingEnd::Kept(planned(Some(kept_bytes)));
            }
            match self.send_piece(&url, growing, kept_bytes, progress).await {
                Ok(PieceEnd::Kept(kept)) if kept_bytes.is_none_or(|before| kept > before) => {
                    kept_bytes = Some(kept);
                }
                // It says that nothing came, or less than before.
                Ok(PieceEnd::Kept(kept)) => {
                    breaks += 1;
                    if breaks > MOST_BREAKS {
                        return GrowingEnd::Broken(planned(None));
                    }
                    sleep_until(Instant::now() + PAUSE).await;
                    kept_bytes = Some(kept);
                }
                Ok(PieceEnd::Refused(status)) => {
                    if kept_bytes.is_some() {
                        self.take_back(&url, growing, progress).await;
                    }
                    let status = status.as_u16();
                    tracing::debug!(EPISODE = %id, "{id}: the receiver answered {status} to an upload while it is packed; it is sent when it is packed");
                    return GrowingEnd::Nothing;
                }
                Err(Fault::Archive(_)) => {
                    self.take_back(&url, growing, progress).await;
                    return GrowingEnd::Nothing;
                }
                Err(fault) => {
                    breaks += 1;
                    tracing::debug!(EPISODE = %id, "{id}: sending it while it is packed broke off: {fault}");
                    let is_over = growing.archive.growth().end.is_some();
                    if breaks > MOST_BREAKS || is_over || fault == Fault::Cancelled {
                        return GrowingEnd::Broken(planned(None));
                    }
                    sleep_until(Instant::now() + PAUSE).await;
                    is_known = false;
                }
            }
        }
    }

    /// The whole of it, in chunks, to any server.
    async fn send_in_chunks(&self, growing: &GrowingDelivery, progress: &Progress) -> GrowingEnd {
        match self.put_in_chunks(growing, progress).await {
            Ok(outcome) => GrowingEnd::Answered(Box::new(outcome), self.endpoint.mark()),
            Err(fault) => {
                let id = &growing.id;
                tracing::debug!(EPISODE = %id, "{id}: sending it while it is packed broke off: {fault}");
                GrowingEnd::Nothing
            }
        }
    }

    async fn put_in_chunks(
        &self,
        growing: &GrowingDelivery,
        progress: &Progress,
    ) -> Result<Outcome, Fault> {
        let url = self.endpoint.address().of(&growing.id);
        // What lies there already may have its length: then nothing would tell whether it is
        // stored.
        let before = self.head_of(&growing.id, progress).await?;
        if !matches!(before.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            let status = before.status.as_u16();
            return Err(Fault::Lost(format!(
                "a HEAD before it was answered {status}"
            )));
        }
        let mut headers = self.headers_of_growing(growing)?;
        headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(wire::ARCHIVE_TYPE),
        );
        let request = Request {
            method: Method::PUT,
            uri: uri(&url)?,
            headers,
            body: upload::growing_to_its_end(&growing.archive, self.pace(progress)),
        };
        let answered = self.endpoint.send(request, progress).await.map_err(fault)?;
        if !answered.request_sent {
            let status = answered.status.as_u16();
            return Err(Fault::Lost(format!("answered {status} before its end")));
        }
        answer::read(answered).await
    }

    /// What an upload in chunks was answered, where it is stored now: the whole has its length
    /// there, or its digest. Nothing else is concluded from it.
    pub(super) async fn stored_while_packed(&self, delivery: &Delivery) -> Option<Outcome> {
        let GrowingEnd::Answered(outcome, mark) = &delivery.sent_growing else {
            return None;
        };
        if *mark != self.endpoint.mark() {
            return None;
        }
        let Outcome::Answered(answer) = &**outcome else {
            return None;
        };
        let says_no_more = matches!(answer.voucher, Voucher::Status | Voucher::StrongEtag)
            && !matches!(
                answer.body,
                AnswerBody::Json(_) | AnswerBody::Garbled { .. }
            );
        if !matches!(answer.status, 200 | 201 | 204) || !says_no_more {
            return None;
        }
        let voucher = match self.shown(delivery).await.ok()? {
            HeadAnswer::Digest => Voucher::Head,
            HeadAnswer::Length(shown) if shown == delivery.facts.size_bytes => Voucher::Length,
            HeadAnswer::Length(_)
            | HeadAnswer::Another { .. }
            | HeadAnswer::NotNow(_)
            | HeadAnswer::Other(_) => return None,
        };
        Some(Outcome::Answered(Answer {
            voucher,
            ..answer.clone()
        }))
    }

    fn pace(&self, progress: &Progress) -> Paced {
        Paced {
            throttle: self.throttle.clone(),
            progress: progress.clone(),
        }
    }

    /// Waits until there is more of it than the receiver has. False at its end.
    async fn may_go_on(
        &self,
        growing: &GrowingDelivery,
        kept_bytes: u64,
        progress: &Progress,
    ) -> bool {
        let mut archive = growing.archive.clone();
        loop {
            match timeout(SIGN_OF_LIFE, archive.grown_beyond(kept_bytes)).await {
                Ok(growth) if growth.end.is_some() => return false,
                Ok(_) => break,
                Err(_) => progress.step(),
            }
            if progress.check().is_err() {
                return false;
            }
        }
        // Outside of the upload window nothing is begun.
        tokio::select! {
            () = self.throttle.pass(0, progress) => {}
            _ = archive.grown_beyond(u64::MAX) => return false,
            () = progress.cancelled() => return false,
        }
        growing.archive.growth().end.is_none()
    }

    async fn send_piece(
        &self,
        url: &str,
        growing: &GrowingDelivery,
        kept_bytes: Option<u64>,
        progress: &Progress,
    ) -> Result<PieceEnd, Fault> {
        let mut stale = 0;
        loop {
            let mut headers = self.headers_of_growing(growing)?;
            headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
            headers.insert(wire::UPLOAD_COMPLETE, HeaderValue::from_static("?0"));
            let (method, media_type) = match kept_bytes {
                Some(kept_bytes) => {
                    headers.insert(wire::UPLOAD_OFFSET, kept_bytes.into());
                    (Method::PATCH, wire::PARTIAL_UPLOAD_TYPE)
                }
                None => {
                    headers.insert(wire::LENGTH_BOUND, growing.bound_bytes.into());
                    (Method::PUT, wire::ARCHIVE_TYPE)
                }
            };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            let offset_bytes = kept_bytes.unwrap_or(0);
            let body = upload::growing(&growing.archive, offset_bytes, self.pace(progress));
            let request = Request {
                method,
                uri: uri(url)?,
                headers,
                body,
            };
            let answered = match self.endpoint.send(request, progress).await {
                Err(ClientError::Stale(_)) if stale < super::MOST_STALE => {
                    stale += 1;
                    continue;
                }
                answered => answered.map_err(fault)?,
            };
            let status = answered.status;
            // No more of it can be there than what was packed so far.
            let most_bytes = growing.archive.growth().len_bytes;
            let offset = offset_of(&answered, most_bytes);
            let request_sent = answered.request_sent;
            // Read to its end, so that the connection is there for what comes next.
            let _ = answer::read(answered).await?;
            return match offset {
                Some(kept) if status.is_success() && request_sent => Ok(PieceEnd::Kept(kept)),
                // It stands elsewhere, and says where.
                Some(kept) if status == StatusCode::CONFLICT => Ok(PieceEnd::Kept(kept)),
                _ if status.is_success() => {
                    Err(Fault::Lost("answered without saying what is there".into()))
                }
                _ if (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
                    || status == StatusCode::REQUEST_TIMEOUT =>
                {
                    Err(Fault::Lost(format!("answered {}", status.as_u16())))
                }
                _ => Ok(PieceEnd::Refused(status)),
            };
        }
    }

    async fn kept_of_growing(
        &self,
        url: &str,
        growing: &GrowingDelivery,
        progress: &Progress,
    ) -> Result<ResumePoint, Fault> {
        let headers = self.headers_of_growing(growing)?;
        self.kept_of(url, headers, growing.bound_bytes, progress)
            .await
    }

    /// What is sent of an archive that comes to nothing is not to lie at the receiver for days.
    async fn take_back(&self, url: &str, growing: &GrowingDelivery, progress: &Progress) {
        let Ok(headers) = self.headers_of_growing(growing) else {
            return;
        };
        let Ok(uri) = uri(url) else { return };
        let request = Request {
            method: Method::DELETE,
            uri,
            headers,
            body: RequestBody::empty(),
        };
        // What is not taken back now ages there.
        let _ = timeout(TAKE_BACK, self.endpoint.ask(request, progress)).await;
    }

    async fn takes_late_digests(&self, growing: &GrowingDelivery, progress: &Progress) -> bool {
        if let Some(said) = self.said_of_late_digest() {
            return said;
        }
        let Some(url) = self.endpoint.address().of_admission() else {
            return false;
        };
        let (Ok(headers), Ok(uri)) = (self.headers_of_growing(growing), uri(&url)) else {
            return false;
        };
        let request = Request {
            method: Method::GET,
            uri,
            headers,
            body: RequestBody::empty(),
        };
        let Ok(answered) = self.endpoint.ask(request, progress).await else {
            return false;
        };
        let accepts = answered.headers.get_all(wire::ACCEPTS).iter();
        let said = accepts
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim() == wire::LATE_DIGEST);
        // A refusal says it too, and is heard by the attempt that follows.
        let is_settled = said || answered.status.is_success() || answered.status.is_client_error();
        if said {
            self.endpoint.is_of_ours();
        }
        if is_settled {
            *self.late_digest.lock() = Some((said, Instant::now()));
        }
        let _ = answer::read(answered).await;
        said
    }

    fn said_of_late_digest(&self) -> Option<bool> {
        let (said, at) = (*self.late_digest.lock())?;
        (said || at.elapsed() < ASKED_AGAIN_AFTER).then_some(said)
    }

    fn headers_of_growing(&self, growing: &GrowingDelivery) -> Result<HeaderMap, Fault> {
        let mut headers = HeaderMap::new();
        let commit = growing.commit.as_ref();
        if let Some(commit) = commit {
            let value = HeaderValue::from_str(commit.as_str())
                .map_err(|_| Fault::Request("a header's value cannot be sent".into()))?;
            headers.insert(wire::CODE_COMMIT, value);
        }
        self.endpoint
            .complete(&mut headers, &growing.id, None, commit)
            .map_err(|error| Fault::Request(error.to_string()))?;
        Ok(headers)
    }
}
