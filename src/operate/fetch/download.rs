//! The archive arrives: one GET after another, until all of it is here.
//!
//! ```text
//!  GET ──▶ answer.rs ──▶ body ──▶ channel ──▶ scratch (writes, hashes; a blocking thread)
//!   ▲                     │
//!   └── pause ◀── broke ──┘  none after an attempt that brought something; then 1, 2, 4, 8 seconds
//! ```

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::mpsc;

use super::{
    FetchError, FetchEvent, FetchOptions, KeptDownload, Tell,
    answer::{self, Described, Meaning},
    blocking, not_as_shipped, room_bytes,
    scratch::DownloadScratch,
};
use crate::{
    http::client::{Answered, ClientError},
    model::{episode::EpisodeId, progress::Progress},
    operate::receiver::ReceiverClient,
};

/// After so many attempts in a row that bring nothing, it is given up for now.
const MAX_FRUITLESS: u32 = 5;
/// What an attempt must bring to count as one that brought something, bytes: enough that a terabyte
/// ends within [`MAX_ATTEMPTS`], where each breaks off as soon as it may.
const FRUIT_BYTES: u64 = 64 * 1024;
/// No fetch makes more attempts. A line that drops every minute needs a thousand for a night.
const MAX_ATTEMPTS: u32 = 10_000;
/// The longest pause that a receiver may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Pieces between the network and the disk. hyper's are at most 256 KiB or so: a mebibyte.
const CHUNKS_AHEAD: usize = 4;

pub(super) struct Download<'a> {
    pub(super) receiver: &'a ReceiverClient,
    pub(super) id: &'a EpisodeId,
    pub(super) options: &'a FetchOptions,
    pub(super) progress: &'a Progress,
    pub(super) tell: &'a Tell,
}

/// How one attempt ended.
enum DownloadEnd {
    /// All of it is here.
    Whole,
    Broke {
        why: String,
        retry_after_s: Option<u64>,
    },
    /// At once, for the whole.
    Anew(String),
}

impl DownloadEnd {
    fn broke(why: &dyn std::fmt::Display) -> Self {
        Self::Broke {
            why: why.to_string(),
            retry_after_s: None,
        }
    }
}

impl Download<'_> {
    /// Goes on until the archive is whole.
    pub(super) async fn run(
        &self,
        mut scratch: DownloadScratch,
    ) -> Result<DownloadScratch, FetchError> {
        let (mut fruitless, mut attempts) = (0, 0);
        while !scratch.is_whole() {
            let had_bytes = scratch.len_bytes();
            attempts += 1;
            let (back, attempt) = self.attempt(scratch, attempts == 1).await?;
            scratch = back;
            let (why, asked_s) = match attempt {
                DownloadEnd::Whole => break,
                // The next one asks for the whole, and so cannot end like this.
                DownloadEnd::Anew(why) if attempts < MAX_ATTEMPTS => {
                    scratch = self.anew(scratch, why).await?;
                    continue;
                }
                DownloadEnd::Anew(why) => (why, None),
                DownloadEnd::Broke { why, retry_after_s } => (why, retry_after_s),
            };
            let brought = scratch.len_bytes().saturating_sub(had_bytes) >= FRUIT_BYTES;
            fruitless = if brought { 0 } else { fruitless + 1 };
            if fruitless >= MAX_FRUITLESS || attempts >= MAX_ATTEMPTS {
                return Err(FetchError::GivenUp {
                    why,
                    kept: kept(&scratch),
                });
            }
            let ours = if fruitless == 0 {
                0
            } else {
                1 << (fruitless - 1)
            };
            let pause = Duration::from_secs(asked_s.unwrap_or(ours).max(ours)).min(MAX_PAUSE);
            (self.tell)(FetchEvent::Broke { why, pause });
            // Cancelled, it is not waited to the end.
            if tokio::time::timeout(pause, self.progress.cancelled())
                .await
                .is_ok()
            {
                return Err(stopped(&scratch));
            }
        }
        Ok(scratch)
    }

    async fn attempt(
        &self,
        scratch: DownloadScratch,
        is_first: bool,
    ) -> Result<(DownloadScratch, DownloadEnd), FetchError> {
        let rest = scratch
            .described()
            .filter(|described| scratch.len_bytes() > 0 && described.has_a_name())
            .map(|described| (described.clone(), scratch.len_bytes()));
        let url = self.receiver.url_of(self.id);
        let headers = rest
            .as_ref()
            .map(|(described, offset)| range(described, *offset))
            .unwrap_or_default();
        let answered = match self.receiver.get(self.id, headers, self.progress).await {
            Ok(answered) => answered,
            Err(source) => return self.no_answer(scratch, is_first, source),
        };
        let rest = rest
            .as_ref()
            .map(|(described, offset)| (described, *offset));
        match answer::read(answered.status, &answered.headers, &url, rest) {
            Meaning::Whole(described) => {
                self.look_before(&described)?;
                let scratch = self.begin(scratch, described).await?;
                self.take(scratch, answered).await
            }
            Meaning::Rest => self.take(scratch, answered).await,
            Meaning::Anew(why) => Ok((scratch, DownloadEnd::Anew(why))),
            Meaning::Again { why, retry_after_s } => {
                Ok((scratch, DownloadEnd::Broke { why, retry_after_s }))
            }
            Meaning::Missing => Err(FetchError::Missing { url }),
            Meaning::Refused(status_code) => Err(FetchError::Credential { status_code }),
            Meaning::Never(why) => Err(FetchError::Answer { url, why }),
        }
    }

    fn no_answer(
        &self,
        scratch: DownloadScratch,
        is_first: bool,
        source: ClientError,
    ) -> Result<(DownloadScratch, DownloadEnd), FetchError> {
        let ends = match &source {
            ClientError::Cancelled => {
                return Err(stopped(&scratch));
            }
            // No server there at all: more likely a slip in the address than a line that dropped.
            ClientError::UnknownName(_) | ClientError::Unreachable(_) => is_first,
            ClientError::Tls(_) | ClientError::Request(_) | ClientError::Body(_) => true,
            ClientError::TimedOut(_) | ClientError::Lost(_) | ClientError::Stale(_) => false,
        };
        if ends {
            return Err(FetchError::Connection {
                url: self.receiver.url_of(self.id),
                cause: source,
            });
        }
        Ok((scratch, DownloadEnd::broke(&source)))
    }

    /// Whether the archive is worth its way, asked before a byte of it comes.
    fn look_before(&self, described: &Described) -> Result<(), FetchError> {
        let receipts = &self.options.receipts;
        let has_a_digest = described.sha256.or(described.content_sha256).is_some();
        if !has_a_digest && receipts.is_empty() && !self.options.unverified {
            return Err(FetchError::Unverifiable);
        }
        if let Some(why) = described
            .content_sha256
            .and_then(|content| not_as_shipped(receipts, content))
        {
            return Err(FetchError::OtherContent(why));
        }
        let room = room_bytes(&self.options.folder).map_err(|cause| self.failed(cause))?;
        match described.size_bytes {
            Some(size_bytes) if size_bytes > room => Err(FetchError::NoRoom(format!(
                "the archive has {size_bytes} bytes, and the disk has room for {room}"
            ))),
            _ => Ok(()),
        }
    }

    async fn begin(
        &self,
        mut scratch: DownloadScratch,
        described: Described,
    ) -> Result<DownloadScratch, FetchError> {
        if scratch.len_bytes() > 0 {
            let why = "the receiver sends it from the beginning".to_owned();
            (self.tell)(FetchEvent::Anew { why });
        }
        (self.tell)(FetchEvent::Begins {
            size_bytes: described.size_bytes,
        });
        self.on_disk(move || {
            scratch.begin(described)?;
            Ok(scratch)
        })
        .await
    }

    async fn anew(
        &self,
        mut scratch: DownloadScratch,
        why: String,
    ) -> Result<DownloadScratch, FetchError> {
        (self.tell)(FetchEvent::Anew { why });
        self.on_disk(move || {
            scratch.empty()?;
            Ok(scratch)
        })
        .await
    }

    /// Takes in a body: what is here in the end is a beginning of the archive, whatever happened.
    async fn take(
        &self,
        scratch: DownloadScratch,
        mut answered: Answered,
    ) -> Result<(DownloadScratch, DownloadEnd), FetchError> {
        let size_bytes = scratch
            .described()
            .and_then(|described| described.size_bytes);
        let limit_bytes = size_bytes.unwrap_or(self.options.max_bytes);
        let mut have_bytes = scratch.len_bytes();
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let writing = tokio::task::spawn_blocking(move || write(scratch, chunks));
        let ended = loop {
            let chunk = match answered.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            have_bytes += chunk.len() as u64;
            // The writer has gone: it says why.
            if have_bytes > limit_bytes || sender.send(chunk).await.is_err() {
                break Ok(());
            }
            (self.tell)(FetchEvent::Arrived { have_bytes });
        };
        drop(sender);
        let failed = |cause| self.failed(cause);
        let (mut scratch, written) = writing
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        written.map_err(failed)?;
        if have_bytes > limit_bytes {
            self.on_disk(move || scratch.discard()).await?;
            let why = format!("more than {limit_bytes} bytes came; what arrived is thrown away");
            return Err(FetchError::NoRoom(why));
        }
        match ended {
            Err(ClientError::Cancelled) => Err(stopped(&scratch)),
            Err(error) => Ok((scratch, DownloadEnd::broke(&error))),
            Ok(()) if scratch.is_whole() => Ok((scratch, DownloadEnd::Whole)),
            // Where the receiver stated no length, it is what came.
            Ok(()) if size_bytes.is_none() => {
                let scratch = self
                    .on_disk(move || {
                        if let Some(described) = scratch.described().cloned() {
                            let size_bytes = Some(scratch.len_bytes());
                            scratch.describe(Described {
                                size_bytes,
                                ..described
                            })?;
                        }
                        Ok(scratch)
                    })
                    .await?;
                Ok((scratch, DownloadEnd::Whole))
            }
            Ok(()) => {
                let why = "the answer ended before the archive did";
                Ok((scratch, DownloadEnd::broke(&why)))
            }
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, FetchError> {
        let done = blocking(&self.options.folder, work).await?;
        done.map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: io::Error) -> FetchError {
        let path = self.options.folder.clone();
        FetchError::Disk { path, cause }
    }
}

fn write(
    mut scratch: DownloadScratch,
    mut chunks: mpsc::Receiver<Bytes>,
) -> (DownloadScratch, io::Result<()>) {
    while let Some(chunk) = chunks.blocking_recv() {
        if let Err(error) = scratch.append(&chunk) {
            return (scratch, Err(error));
        }
    }
    (scratch, Ok(()))
}

/// The rest, from a byte on, if it is still the same (RFC 9110, sections 14.2 and 13.1.5).
fn range(described: &Described, offset: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = |text: &str| HeaderValue::from_str(text).ok();
    headers.extend(text(&format!("bytes={offset}-")).map(|range| (header::RANGE, range)));
    let etag = described.etag.as_deref().and_then(text);
    headers.extend(etag.map(|etag| (header::IF_RANGE, etag)));
    headers
}

fn stopped(scratch: &DownloadScratch) -> FetchError {
    FetchError::Stopped {
        kept: kept(scratch),
    }
}

fn kept(scratch: &DownloadScratch) -> KeptDownload {
    KeptDownload {
        bytes: scratch.len_bytes(),
        path: scratch.path().to_owned(),
    }
}
