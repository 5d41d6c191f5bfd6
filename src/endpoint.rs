//! The receiver as every request reaches it: its address, what is said beside the contract's headers, and the client.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::{
    address::{self, Address, AddressError, ExtraHeaders, Filling},
    client::{Answered, Client, ClientError, ClientOptions, Request},
    config::ReceiverConfig,
    episode::{Commit, EpisodeId},
    progress::Progress,
    records::ArchiveFacts,
    wire,
};

/// Where the receiver is, and what to say to it: `[receiver]` of the configuration.
#[derive(Clone)]
pub struct EndpointOptions {
    /// The receiver's address. Where it holds `{id}` it is the whole address; otherwise `/v1/episodes/{id}` is added.
    pub url: String,
    /// Further headers by name. `{id}`, `{sha256}`, `{content_sha256}`, `{commit}` and `{host}` are filled in. They take the
    /// place of a standard one of the same name. They may hold secrets.
    pub headers: BTreeMap<String, String>,
    /// Who asks: `Sealift-Host`.
    pub host_id: String,
}

impl EndpointOptions {
    /// What the configuration says of the receiver; `host_id` says who asks.
    #[must_use]
    pub fn of(config: &ReceiverConfig, host_id: &str) -> Self {
        Self {
            url: config.url.clone(),
            headers: config.headers.iter().cloned().collect(),
            host_id: host_id.to_owned(),
        }
    }
}

impl From<&ReceiverConfig> for ClientOptions {
    fn from(config: &ReceiverConfig) -> Self {
        let (client_cert_file, client_key_file) = config.client_cert.clone().unzip();
        Self {
            ca_file: config.ca_file.clone(),
            client_cert_file,
            client_key_file,
            token_file: config.token_file.clone(),
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            answer_timeout: config.answer_timeout,
        }
    }
}

/// One receiver. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Client,
    address: Address,
    headers: ExtraHeaders,
    host: HeaderValue,
}

impl Endpoint {
    /// Checks the address and the headers. Opens no connection.
    ///
    /// # Errors
    /// [`AddressError`]: the configuration is at fault.
    pub fn new(options: &EndpointOptions, client: Client) -> Result<Self, AddressError> {
        let address = Address::parse(&options.url)?;
        let headers = ExtraHeaders::parse(&options.headers)?;
        let host = address::header_text(&options.host_id).ok_or(AddressError::HostId)?;
        if client.has_token() && !address.is_private() {
            tracing::warn!("the token travels in clear text to {}: use https", address::shown(&options.url));
        }
        Ok(Self { client, address, headers, host })
    }

    /// Where episodes and uploads are.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Adds who asks, and the configured headers: those about an archive or a commit only where there is one.
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
        self.headers.fill(&Filling { id, facts, commit, host: &self.host }, headers)
    }

    /// Makes one request, once: [`Client::send`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, request: Request, progress: &Progress) -> Result<Answered, ClientError> {
        self.client.send(request, progress).await
    }
}
