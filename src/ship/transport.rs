//! One delivery attempt: an archive goes out by PUT, an outcome comes back. It never tries again
//! and decides nothing.
//!
//! ```text
//!  Delivery ──▶ address, headers ──▶ client::send ──▶ answer ──▶ Outcome
//!     │ │                                             └ status, body (bounded), Retry-After, Date
//!     │ └─ archive ──pread, 256 KiB──▶ channel ──▶ body
//!     │                                             └ who wrote it shows in the body (AnswerBody)
//!     ├─ where the answer did not come through: admission ──GET──▶
//!     │                                             what would the receiver have said?
//!     ├─ where a 200 brings no receipt: vouch ──HEAD──▶ is it held there?
//!     └─ where an attempt came before: resume ──HEAD──▶ what has the receiver kept?
//!                                                   ──▶ PATCH with the rest
//!  Growing ──▶ what there is of an archive, while it is packed: growth.rs ──▶ how much was kept
//! ```

mod admission;
mod answer;
pub mod growth;
mod resume;
pub mod throttle;
mod upload;
mod vouch;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::{growth::GrowingEnd, resume::ResumeEnd, upload::Paced};

use crate::{
    http::{
        client::{Answered, ClientError, Request},
        endpoint::Endpoint,
    },
    model::{
        episode::{Commit, EpisodeId},
        progress::Progress,
        records::{ArchiveFacts, RecordedReceiver},
        text::without_query,
        wire::{self, SendWhilePacking},
    },
    ship::{
        archive::Archive,
        outcome::{Attempt, Fault, Outcome},
        transport::throttle::Throttle,
    },
};

/// So often an upload takes a connection that was kept and had died. Uploads beside it put theirs
/// back meanwhile.
const MOST_STALE: u32 = 3;

/// Delivers archives to one receiver. Clones share its connections.
#[derive(Clone)]
pub struct Transport {
    endpoint: Endpoint,
    throttle: Throttle,
    /// Whether it is asked what speaks for a 200 without a receipt.
    asks_of_bare_200: bool,
    /// Whether it takes uploads whose digest comes at the end, and when it said so.
    late_digest: Arc<Mutex<Option<(bool, Instant)>>>,
    send_while_packing: SendWhilePacking,
}

/// What to deliver.
pub struct Delivery {
    /// The episode.
    pub id: EpisodeId,
    /// Its archive.
    pub archive: Archive,
    /// What the archive is, or will be once it has grown.
    pub facts: ArchiveFacts,
    /// The commit of the code that recorded it.
    pub commit: Option<Commit>,
    /// Whether an attempt came before, so that the receiver may have kept a part of it.
    pub resume: bool,
    /// What was sent of it while it was packed.
    pub sent_growing: GrowingEnd,
    /// Told of the archive's bytes as they leave; stops the attempt when it is cancelled.
    pub progress: Progress,
}

impl Transport {
    /// Delivers there.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            throttle: Throttle::default(),
            asks_of_bare_200: true,
            late_digest: Arc::default(),
            send_while_packing: SendWhilePacking::default(),
        }
    }

    /// The same, with archives sent while they are packed, or not.
    #[must_use]
    pub fn sending_while_packing(self, send_while_packing: SendWhilePacking) -> Self {
        Self {
            send_while_packing,
            ..self
        }
    }

    /// The same, no faster than this and everybody else who has it.
    #[must_use]
    pub fn throttled_by(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    /// The same, without asking what speaks for a 200 without a receipt.
    #[must_use]
    pub fn not_asking_of_bare_200(self) -> Self {
        Self {
            asks_of_bare_200: false,
            ..self
        }
    }

    /// The address that an episode is delivered to, as it stands in a shipping receipt: without its
    /// query, which may hold a secret.
    pub fn url_of(&self, id: &EpisodeId) -> String {
        self.endpoint.address().shown_of(id)
    }

    /// Whether episodes go to the same addresses by both, with the same headers.
    pub fn leads_where(&self, other: &Self) -> bool {
        self.endpoint.leads_where(&other.endpoint)
    }

    /// Whose word it is that an attempt by this brings.
    pub fn destination(&self) -> RecordedReceiver {
        RecordedReceiver {
            receiver: self.shown_url(),
            mark: self.endpoint.mark(),
        }
    }

    /// Where the receiver is, for a person; without secrets.
    pub fn shown_url(&self) -> String {
        self.endpoint.address().shown()
    }

    /// One attempt, to its end.
    pub async fn deliver(&self, delivery: Delivery) -> Attempt {
        if let Some(outcome) = self.stored_while_packed(&delivery).await {
            return outcome.into();
        }
        let (mut resumed_at_bytes, mut asked_for_receipt, mut asked_in_vain) = (0, false, false);
        let outcome = match self
            .resume(&delivery, &mut resumed_at_bytes, &mut asked_for_receipt)
            .await
        {
            Ok(ResumeEnd::To(outcome)) => Ok(outcome),
            Ok(ResumeEnd::NotNow(outcome)) => {
                asked_in_vain = true;
                Ok(outcome)
            }
            Ok(ResumeEnd::Elsewhere) => Err(Fault::Lost(
                "the receiver does not say from which byte on it wants the rest".to_owned(),
            )),
            Ok(ResumeEnd::Not) => {
                delivery.progress.goes_on_behind(0);
                self.put(&delivery).await
            }
            Err(fault) => Err(fault),
        };
        let outcome = match outcome {
            Ok(outcome) => self.vouched(outcome, &delivery).await,
            Err(fault) => Err(fault),
        };
        let outcome = if asked_in_vain {
            outcome
        } else {
            self.heard(outcome, &delivery, asked_for_receipt).await
        };
        let (outcome, sent) = (
            outcome.unwrap_or_else(Outcome::Failed),
            delivery.progress.bytes() > 0 || delivery.sent_growing != GrowingEnd::Nothing,
        );
        Attempt {
            outcome,
            resumed_at_bytes,
            sent,
            asked_in_vain,
        }
    }

    async fn put(&self, delivery: &Delivery) -> Result<Outcome, Fault> {
        let url = self.endpoint.address().of(&delivery.id);
        let answered = self
            .upload(Method::PUT, &url, &HeaderMap::new(), 0, delivery)
            .await?;
        let (status, size_bytes) = (answered.status, delivery.facts.size_bytes);
        match resume::taken_in_part(&answered, size_bytes) {
            Some(taken) => Err(Fault::Lost(format!(
                "answered {status} to {taken} of {size_bytes} bytes"
            ))),
            None => self.heard_of(answered).await,
        }
    }

    /// Reads the answer to an upload, and learns from it who is there.
    async fn heard_of(&self, answered: Answered) -> Result<Outcome, Fault> {
        let is_not_to_be_stored = answered
            .headers
            .get(header::CACHE_CONTROL)
            .is_some_and(|value| value == "no-store");
        let outcome = answer::read(answered).await?;
        // A receipt alone is soon written by others, which serve one connection at a time. That no
        // cache may keep it is said by a receiver of ours, of each answer.
        if is_not_to_be_stored && answer::is_of_a_receiver(&outcome) {
            self.endpoint.is_of_ours();
        }
        Ok(outcome)
    }

    /// Sends the archive from a byte on. The headers that are given take the place of what every
    /// upload has.
    async fn upload(
        &self,
        method: Method,
        url: &str,
        own_headers: &HeaderMap,
        offset_bytes: u64,
        delivery: &Delivery,
    ) -> Result<Answered, Fault> {
        // Large enough to ask first.
        let rest_bytes = delivery.facts.size_bytes - offset_bytes;
        let mut may_expect = rest_bytes > wire::EXPECT_CONTINUE_OVER_BYTES;
        let mut stale = 0;
        loop {
            let mut headers = self.headers_of(delivery)?;
            headers.extend(own_headers.clone());
            if may_expect {
                headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
            }
            let Delivery {
                archive,
                facts,
                progress,
                ..
            } = delivery;
            let pace = Paced {
                throttle: self.throttle.clone(),
                progress: progress.clone(),
            };
            let body = upload::body(archive, facts, offset_bytes, pace)
                .await
                .map_err(archive_fault)?;
            let request = Request {
                method: method.clone(),
                uri: uri(url)?,
                headers,
                body,
            };
            let answered = match self.endpoint.send(request, &delivery.progress).await {
                // The next one is made for it: those that were kept are given up.
                Err(ClientError::Stale(_)) if stale < MOST_STALE => {
                    stale += 1;
                    continue;
                }
                answered => answered.map_err(fault)?,
            };
            // The expectation cannot be met by something on the way, and nothing was sent yet: a
            // client SHOULD repeat the request without it (RFC 9110, section 15.5.18). It is the
            // same attempt.
            if !(may_expect && answered.status == StatusCode::EXPECTATION_FAILED) {
                return Ok(answered);
            }
            may_expect = false;
        }
    }

    /// What is sent, and who sends it.
    fn headers_of(&self, delivery: &Delivery) -> Result<HeaderMap, Fault> {
        let Delivery {
            id,
            facts,
            commit,
            archive: _,
            resume: _,
            sent_growing: _,
            progress: _,
        } = delivery;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(wire::ARCHIVE_TYPE),
        );
        let text = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Fault::Request("a header's value cannot be sent".into()))
        };
        headers.insert(wire::REPR_DIGEST, text(&facts.sha256.to_header())?);
        headers.insert(
            wire::CONTENT_DIGEST,
            text(&facts.content_sha256.to_header())?,
        );
        if let Some(commit) = commit {
            headers.insert(wire::CODE_COMMIT, text(commit.as_str())?);
        }
        self.endpoint
            .complete(&mut headers, id, Some(facts), commit.as_ref())
            .map_err(|error| Fault::Request(error.to_string()))?;
        Ok(headers)
    }
}

fn uri(url: &str) -> Result<Uri, Fault> {
    url.parse()
        .map_err(|error| Fault::Request(format!("{}: {error}", without_query(url))))
}

fn fault(error: ClientError) -> Fault {
    match error {
        ClientError::UnknownName(why) => Fault::UnknownName(why),
        ClientError::Unreachable(why) => Fault::Unreachable(why),
        ClientError::Tls(why) => Fault::Tls(why),
        ClientError::TimedOut(wait) => Fault::TimedOut(wait),
        ClientError::Lost(why) | ClientError::Stale(why) => Fault::Lost(why),
        ClientError::Request(why) => Fault::Request(why),
        ClientError::Body(error) => archive_fault(error),
        ClientError::Cancelled => Fault::Cancelled,
    }
}

fn archive_fault(error: std::io::Error) -> Fault {
    Fault::Archive(error.to_string())
}
