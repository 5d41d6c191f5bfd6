//! The receiver as somebody asks it who sends no archive: GET and HEAD of one episode.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, Method, header};

use crate::{
    address::{self, Address, AddressError, ExtraHeaders, Filling},
    client::{Answered, Client, ClientError, Request, RequestBody},
    episode::EpisodeId,
    progress::Progress,
    wire,
};

/// Where to ask, and what to say beside it: `[receiver]` of the configuration.
#[derive(Debug, Clone)]
pub struct ReceiverOptions {
    /// The receiver's address. Where it holds `{id}` it is the whole address; otherwise `/v1/episodes/{id}` is added.
    pub url: String,
    /// Further headers by name, templates. Those about an archive are left out, since none is sent.
    pub headers: BTreeMap<String, String>,
    /// Who asks: `Sealift-Host`.
    pub host_id: String,
}

/// One receiver. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Receiver {
    client: Client,
    address: Address,
    headers: ExtraHeaders,
    host: HeaderValue,
}

impl Receiver {
    /// Checks the address and the headers. Opens no connection.
    ///
    /// # Errors
    /// [`AddressError`]: the configuration is at fault.
    pub fn new(options: &ReceiverOptions, client: Client) -> Result<Self, AddressError> {
        let address = Address::parse(&options.url)?;
        let headers = ExtraHeaders::parse(&options.headers)?;
        let host = address::header_text(&options.host_id).ok_or(AddressError::HostId)?;
        if client.has_token() && !address.is_private() {
            tracing::warn!("the token travels in clear text to {}: use https", options.url);
        }
        Ok(Self { client, address, headers, host })
    }

    /// The address of an episode.
    #[must_use]
    pub fn url_of(&self, id: &EpisodeId) -> String {
        self.address.of(id)
    }

    /// Asks for the archive, or for what `extra` says of it (a range).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(
        &self,
        id: &EpisodeId,
        extra: HeaderMap,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        self.ask(Method::GET, id, extra, progress).await
    }

    /// Asks what is held, without the archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn head(
        &self,
        id: &EpisodeId,
        extra: HeaderMap,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        self.ask(Method::HEAD, id, extra, progress).await
    }

    async fn ask(
        &self,
        method: Method,
        id: &EpisodeId,
        extra: HeaderMap,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        let bad = |error: &dyn std::fmt::Display| ClientError::Request(error.to_string());
        let url = self.url_of(id);
        let uri = url.parse().map_err(|error| bad(&format_args!("{url}: {error}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(wire::HOST, self.host.clone());
        let filling = Filling { id, facts: None, commit: None, host: &self.host };
        self.headers.fill(&filling, &mut headers).map_err(|error| bad(&error))?;
        // What the configuration says of a body is about uploads.
        for about_a_body in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE] {
            headers.remove(about_a_body);
        }
        // The archive as it is stored: its digest covers no other form of it (RFC 9530, section 3).
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(extra);
        self.client.send(Request { method, uri, headers, body: RequestBody::empty() }, progress).await
    }
}
