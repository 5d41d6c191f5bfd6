//! The receiver as every request reaches it: its address, what is said beside the contract's
//! headers, and the client.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use crate::{
    config::ReceiverConfig,
    http::{
        client::{Answered, Client, ClientError, Request},
        url_template::{self, AddressError, Blot, ExtraHeaders, Filling, UrlTemplate},
    },
    model::{
        episode::{Commit, Digest, EpisodeId},
        progress::Progress,
        records::ArchiveFacts,
        wire,
    },
};

/// Of a digest, so many are kept in a [mark](Endpoint::mark).
const MARK_BYTES: usize = 4;
/// A question beside an upload holds the upload's slot: for no longer than this, unless something
/// moves. A receiver of ours takes five seconds at most, for an upload whose bytes are still
/// coming.
const QUESTION_WAIT: Duration = Duration::from_secs(10);

/// One receiver. Clones share its connections.
#[derive(Clone)]
pub struct Endpoint {
    client: Client,
    address: UrlTemplate,
    headers: ExtraHeaders,
    host: HeaderValue,
    blot: Blot,
}

impl Endpoint {
    /// Checks the address and the headers; `host_id` says who asks. Opens no connection.
    ///
    /// # Errors
    /// [`AddressError`]: the configuration is at fault.
    pub fn new(
        config: &ReceiverConfig,
        host_id: &str,
        client: Client,
    ) -> Result<Self, AddressError> {
        let address = UrlTemplate::parse(&config.url)?;
        let headers = ExtraHeaders::parse(&config.headers)?;
        let host = url_template::header_text(host_id).ok_or(AddressError::HostId)?;
        if client.has_token() && !address.is_private() {
            tracing::warn!(
                "the token travels in clear text to {}: use https",
                url_template::shown(&config.url)
            );
        }
        let blot = address.blot(&headers, client.token());
        Ok(Self {
            client,
            address,
            headers,
            host,
            blot,
        })
    }

    /// Where episodes and uploads are.
    pub fn address(&self) -> &UrlTemplate {
        &self.address
    }

    /// Whether both lead to the same place: one host may keep several stores apart by a query or a
    /// header.
    pub fn leads_where(&self, other: &Self) -> bool {
        self.address.leads_where(&other.address) && self.headers == other.headers
    }

    /// A mark of where it leads, by which another is told from it. Of its digest so little that no
    /// secret can be found by guessing: many fit. A token is no part of it, since it is renewed now
    /// and then.
    pub fn mark(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.address.template());
        hasher.update(self.headers.template());
        let Digest(bytes) = Digest::from(hasher);
        bytes
            .iter()
            .take(MARK_BYTES)
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// Adds who asks, and the configured headers: those about an archive or a commit only where
    /// there is one.
    ///
    /// # Errors
    /// [`AddressError::Header`] where what is filled in cannot travel in a header.
    pub fn complete(
        &self,
        headers: &mut HeaderMap,
        id: &EpisodeId,
        facts: Option<&ArchiveFacts>,
        commit: Option<&Commit>,
    ) -> Result<(), AddressError> {
        headers.insert(wire::HOST, self.host.clone());
        self.headers.fill(
            &Filling {
                id,
                facts,
                commit,
                host: &self.host,
            },
            headers,
        )
    }

    /// Makes one request, once: [`Client::send`]. What is answered does not repeat our secrets: not
    /// its body where that is [short](Answered::short_body), nor where it points to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &self,
        request: Request,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        self.blotted(self.client.send(request, progress).await?)
    }

    /// The same for a question beside an upload: what is answered without a look at any archive's
    /// bytes is answered soon, or the upload goes on without it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(
        &self,
        request: Request,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        self.blotted(
            self.client
                .waiting_at_most(QUESTION_WAIT)
                .send(request, progress)
                .await?,
        )
    }

    /// The other end is a receiver of ours: [`Client::serves_many`].
    pub fn is_of_ours(&self) {
        self.client.serves_many();
    }

    fn blotted(&self, mut answered: Answered) -> Result<Answered, ClientError> {
        if let Some(location) = answered.headers.get_mut(header::LOCATION) {
            let shown = self
                .blot
                .text(&String::from_utf8_lossy(location.as_bytes()));
            if let Ok(blotted) =
                HeaderValue::from_bytes(shown.replace('\u{2026}', "...").as_bytes())
            {
                *location = blotted;
            }
        }
        Ok(answered.blotted_by(self.blot.clone()))
    }
}
