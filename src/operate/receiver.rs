//! The receiver as a client asks it that sends no archive: GET and HEAD of one episode, and what a
//! PUT of it would meet.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::{
    http::{
        client::{Answered, ClientError, Request, RequestBody},
        endpoint::Endpoint,
    },
    model::{
        episode::{Commit, EpisodeId},
        progress::Progress,
        text::without_query,
        wire,
    },
};

/// One receiver. Clones share its connections.
#[derive(Clone)]
pub(crate) struct ReceiverClient(Endpoint);

impl ReceiverClient {
    /// Asks there.
    #[must_use]
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self(endpoint)
    }

    /// The address of an episode, for a person: without its query.
    pub(crate) fn url_of(&self, id: &EpisodeId) -> String {
        self.0.address().shown_of(id)
    }

    /// Asks for the archive, or for what `extra` says of it (a range).
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn get(
        &self,
        id: &EpisodeId,
        extra: HeaderMap,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        let url = self.0.address().of(id);
        self.ask(Method::GET, url, (id, None), extra, progress)
            .await
    }

    /// Asks what is held, without the archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn head(
        &self,
        id: &EpisodeId,
        extra: HeaderMap,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        let url = self.0.address().of(id);
        self.ask(Method::HEAD, url, (id, None), extra, progress)
            .await
    }

    /// Asks what a PUT of this episode would meet. `None` where the whole address is set: that is
    /// no receiver of ours.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn admission(
        &self,
        id: &EpisodeId,
        commit: Option<&Commit>,
        progress: &Progress,
    ) -> Result<Option<Answered>, ClientError> {
        let Some(url) = self.0.address().of_admission() else {
            return Ok(None);
        };
        let about = (id, commit);
        let said = commit.and_then(|commit| HeaderValue::from_str(commit.as_str()).ok());
        let extra = said.map(|commit| (HeaderName::from_static(wire::CODE_COMMIT), commit));
        let extra = extra.into_iter().collect();
        let answered = self.ask(Method::GET, url, about, extra, progress).await;
        answered.map(Some)
    }

    async fn ask(
        &self,
        method: Method,
        url: String,
        (id, commit): (&EpisodeId, Option<&Commit>),
        extra: HeaderMap,
        progress: &Progress,
    ) -> Result<Answered, ClientError> {
        let bad = |error: &dyn std::fmt::Display| ClientError::Request(error.to_string());
        let uri = url
            .parse()
            .map_err(|error| bad(&format_args!("{}: {error}", without_query(&url))))?;
        let mut headers = HeaderMap::new();
        self.0
            .complete(&mut headers, id, None, commit)
            .map_err(|error| bad(&error))?;
        // What the configuration says of a body is about uploads.
        for about_a_body in [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LANGUAGE,
        ] {
            headers.remove(about_a_body);
        }
        // The archive as it is stored: its digest covers no other form of it (RFC 9530, section 3).
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        headers.extend(extra);
        self.0
            .send(
                Request {
                    method,
                    uri,
                    headers,
                    body: RequestBody::empty(),
                },
                progress,
            )
            .await
    }
}
