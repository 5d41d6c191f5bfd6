//! One delivery attempt: an archive goes out by PUT, an outcome comes back. It never tries again and decides nothing.
//!
//! ```text
//!  Delivery ──▶ address, headers ──▶ client::send ──▶ answer: status, body (bounded), Retry-After, Date ──▶ Outcome
//!     └─ archive ──pread, 256 KiB──▶ channel ──▶ body          who wrote it shows in the body (AnswerBody)
//! ```

mod answer;
mod upload;

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, Method, header};

use crate::{
    address::{self, Address, AddressError, ExtraHeaders, Filling},
    client::{Client, ClientError, Request, SetupError, Wait},
    episode::{Commit, EpisodeId},
    progress::Progress,
    records::ArchiveFacts,
    ship::{
        archive::Archive,
        outcome::{Fault, Outcome, Phase},
    },
    wire,
};

/// Where to deliver, and what to say beside the contract's headers.
#[derive(Clone)]
pub struct TransportOptions {
    /// The receiver's address. Where it holds `{id}` it is the whole address; otherwise `/v1/episodes/{id}` is added.
    pub url: String,
    /// Further headers by name. `{id}`, `{sha256}`, `{content_sha256}`, `{commit}` and `{host}` are filled in. They take the
    /// place of a standard one of the same name. They may hold secrets.
    pub headers: BTreeMap<String, String>,
    /// Who sends: `Sealift-Host`.
    pub host_id: String,
}

/// Delivers archives to one receiver. Clones share its connections.
#[derive(Clone)]
pub struct Transport {
    client: Client,
    address: Address,
    headers: ExtraHeaders,
    host: HeaderValue,
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
    /// Told of the archive's bytes as they leave; stops the attempt when it is cancelled.
    pub progress: Progress,
}

impl Transport {
    /// Checks the address and the headers. Opens no connection.
    ///
    /// # Errors
    /// [`AddressError`]: the configuration is at fault.
    pub fn new(options: &TransportOptions, client: Client) -> Result<Self, AddressError> {
        let address = Address::parse(&options.url)?;
        let headers = ExtraHeaders::parse(&options.headers)?;
        let host = address::header_text(&options.host_id).ok_or(AddressError::HostId)?;
        if client.has_token() && !address.is_private() {
            tracing::warn!("the token travels in clear text to {}: use https", options.url);
        }
        Ok(Self { client, address, headers, host })
    }

    /// Reads certificates and token again. What is in flight ends as it began.
    ///
    /// # Errors
    /// [`SetupError`]; what was read before stays in use.
    pub fn reload(&self) -> Result<(), SetupError> {
        self.client.reload()
    }

    /// The address that an episode is delivered to, as it stands in a shipping receipt.
    #[must_use]
    pub fn url_of(&self, id: &EpisodeId) -> String {
        self.address.of(id)
    }

    /// One attempt, to its end.
    pub async fn deliver(&self, delivery: Delivery) -> Outcome {
        match self.attempt(&delivery, true).await {
            // The expectation cannot be met by something on the way, and nothing was sent yet: a client SHOULD repeat the
            // request without it (RFC 9110, section 15.5.18). It is the same attempt.
            Ok((417, _)) if expects(&delivery.facts) => self.attempt(&delivery, false).await,
            ended => ended,
        }
        .map_or_else(Outcome::Failed, |(_, outcome)| outcome)
    }

    /// The status beside the outcome it belongs to.
    async fn attempt(&self, delivery: &Delivery, may_expect: bool) -> Result<(u16, Outcome), Fault> {
        let request = self.request(delivery, may_expect).await?;
        let answered = self.client.send(request, &delivery.progress).await.map_err(fault)?;
        let status = answered.status.as_u16();
        answer::read(answered).await.map(|outcome| (status, outcome))
    }

    async fn request(&self, delivery: &Delivery, may_expect: bool) -> Result<Request, Fault> {
        let Delivery { id, archive, facts, commit, progress: _ } = delivery;
        let url = self.address.of(id);
        let uri = url.parse().map_err(|error| Fault::Request(format!("{url}: {error}")))?;
        let text = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| Fault::Request("a header's value cannot be sent".into()))
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::ARCHIVE_TYPE));
        headers.insert(wire::REPR_DIGEST, text(&facts.sha256.to_header())?);
        headers.insert(wire::CONTENT_DIGEST, text(&facts.content_sha256.to_header())?);
        headers.insert(wire::HOST, self.host.clone());
        if let Some(commit) = commit {
            headers.insert(wire::CODE_COMMIT, text(commit.as_str())?);
        }
        let filling = Filling { id, facts: Some(facts), commit: commit.as_ref(), host: &self.host };
        self.headers.fill(&filling, &mut headers).map_err(|error| Fault::Request(error.to_string()))?;
        if may_expect && expects(facts) {
            headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        let body = upload::body(archive.clone(), facts).await.map_err(archive_fault)?;
        Ok(Request { method: Method::PUT, uri, headers, body })
    }
}

/// Whether an upload is large enough to ask first.
fn expects(facts: &ArchiveFacts) -> bool {
    facts.size_bytes > wire::EXPECT_CONTINUE_OVER_BYTES
}

fn fault(error: ClientError) -> Fault {
    match error {
        ClientError::Unreachable(why) => Fault::Unreachable(why),
        ClientError::Tls(why) => Fault::Tls(why),
        ClientError::TimedOut(Wait::Connect) => Fault::TimedOut(Phase::Connect),
        ClientError::TimedOut(Wait::Idle) => Fault::TimedOut(Phase::Idle),
        ClientError::TimedOut(Wait::Answer) => Fault::TimedOut(Phase::Answer),
        ClientError::Lost(why) => Fault::Lost(why),
        ClientError::Request(why) => Fault::Request(why),
        ClientError::Body(error) => archive_fault(error),
        ClientError::Cancelled => Fault::Cancelled,
    }
}

fn archive_fault(error: std::io::Error) -> Fault {
    Fault::Archive(error.to_string())
}
