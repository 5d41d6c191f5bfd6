//! An archive as a request's body: read on blocking threads, a bounded piece ahead of the network.

use std::{io, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    http::client::RequestBody,
    model::{episode::Digest, progress::Progress, records::ArchiveFacts},
    ship::{
        archive::{Archive, ArchiveEnd, IN_ONE_PIECE_BYTES},
        transport::throttle::Throttle,
    },
};

/// The archive from `offset_bytes` on. One piece is read before the connection is made where that
/// is all, or takes long; more while it is sent, and while the archive grows. One being read, one
/// in the channel and what hyper holds make a mebibyte an upload, whatever the archive's length.
///
/// # Errors
/// Reading failed, or the archive is not the one that `facts` state. For a longer archive, the
/// exchange ends so.
pub(super) async fn body(
    archive: &Archive,
    facts: &ArchiveFacts,
    offset_bytes: u64,
    pace: Paced,
) -> io::Result<RequestBody> {
    if let Some(found) = archive.facts()
        && found != *facts
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is another archive than the one to be sent",
        ));
    }
    let len_bytes = facts.size_bytes;
    let rest_bytes = len_bytes.saturating_sub(offset_bytes);
    let mut proof = LastChunkGuard::of(archive, facts, offset_bytes);
    let mut reading = archive.read_from(offset_bytes, len_bytes, &pace.progress);
    reading.begin().await;
    if rest_bytes <= IN_ONE_PIECE_BYTES && !pace.throttle.limits() {
        let whole = match reading.next().await {
            Some(whole) => whole?,
            None => Bytes::new(),
        };
        proof.admit(&whole, true)?;
        return Ok(RequestBody::whole(whole));
    }
    let (sender, chunks) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut sent_bytes = offset_bytes;
        loop {
            let chunk = tokio::select! {
                chunk = reading.next() => chunk,
                // The rest is not wanted: answered, lost or cancelled.
                () = sender.closed() => return,
            };
            let Some(chunk) = chunk else { return };
            let chunk = chunk.and_then(|chunk| {
                sent_bytes += chunk.len() as u64;
                proof.admit(&chunk, sent_bytes == len_bytes).map(|()| chunk)
            });
            match chunk {
                Ok(chunk) => {
                    if !pace.send(chunk, &sender, None).await {
                        return;
                    }
                }
                Err(error) => {
                    // The attempt that waits for the answer is told.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    Ok(RequestBody::chunks(rest_bytes, chunks))
}

/// A body ends where nothing more came to be sent for so long: packing stalls, or the upload window
/// has closed. That is well below what a receiver, or anything on the way, waits for.
const STALLED: Duration = Duration::from_secs(2);

/// What there is of an archive from `offset_bytes` on, and what comes while it grows: to the end of
/// its packing, or until that stalls. Its last bytes are left out, for the request that says what
/// they make. Where packing is abandoned the body fails, so that no receiver takes it for whole.
pub(super) fn growing(archive: &Archive, offset_bytes: u64, pace: Paced) -> RequestBody {
    growing_until(archive, offset_bytes, Some(STALLED), pace)
}

/// The same from its first byte to its last, however long that takes.
pub(super) fn growing_to_its_end(archive: &Archive, pace: Paced) -> RequestBody {
    growing_until(archive, 0, None, pace)
}

/// `patience`: it ends before the last bytes, and where packing stalls for so long.
fn growing_until(
    archive: &Archive,
    offset_bytes: u64,
    patience: Option<Duration>,
    pace: Paced,
) -> RequestBody {
    let (sender, chunks) = mpsc::channel(1);
    let mut archive = archive.clone();
    tokio::spawn(async move {
        let mut at_bytes = offset_bytes;
        loop {
            // A whole piece is worth waiting for.
            let stalled = patience.unwrap_or(Duration::MAX);
            let growth = tokio::select! {
                growth = timeout(stalled, archive.grown_beyond(at_bytes + IN_ONE_PIECE_BYTES - 1)) => growth,
                () = sender.closed() => return,
            };
            let (growth, has_stalled) = match growth {
                Ok(growth) => (growth, false),
                Err(_) => (archive.growth(), true),
            };
            match growth.end {
                Some(ArchiveEnd::Finished(facts))
                    if patience.is_some() || facts.size_bytes == at_bytes =>
                {
                    return;
                }
                Some(ArchiveEnd::Abandoned) => {
                    let abandoned = io::Error::other("its packing was abandoned");
                    // The attempt that waits for the answer is told.
                    let _ = sender.send(Err(abandoned)).await;
                    return;
                }
                Some(ArchiveEnd::Finished(_)) | None => {}
            }
            let wanted = IN_ONE_PIECE_BYTES.min(growth.len_bytes.saturating_sub(at_bytes));
            if wanted > 0 {
                let piece = match archive.piece(at_bytes, wanted).await {
                    Ok(piece) => piece,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                };
                if !pace.send(piece, &sender, patience).await {
                    return;
                }
                at_bytes += wanted;
            }
            if has_stalled {
                return;
            }
        }
    });
    RequestBody::of_unknown_length(chunks)
}

/// How fast it may go, and who is shown that it waits for that.
pub(super) struct Paced {
    pub(super) throttle: Throttle,
    pub(super) progress: Progress,
}

impl Paced {
    /// Gives a chunk out as fast as it may go. False where the rest is not wanted, or none of it
    /// may go for longer than `patience`.
    async fn send(
        &self,
        mut chunk: Bytes,
        sender: &mpsc::Sender<io::Result<Bytes>>,
        patience: Option<Duration>,
    ) -> bool {
        let patience = patience.unwrap_or(Duration::MAX);
        while !chunk.is_empty() {
            let len_bytes = self.throttle.piece(chunk.len());
            tokio::select! {
                biased;
                () = sender.closed() => return false,
                passed = timeout(patience, self.throttle.pass(len_bytes, &self.progress)) => {
                    if passed.is_err() {
                        return false;
                    }
                }
            }
            if sender.send(Ok(chunk.split_to(len_bytes))).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Keeps the last chunk back from an archive whose bytes are not those that were packed. A receiver
/// of ours would find that out, and others would store it and say nothing.
struct LastChunkGuard {
    hasher: Option<Sha256>,
    sha256: Digest,
}

impl LastChunkGuard {
    /// Of what goes on in the middle there is nothing to compare; a receiver that can resume
    /// compares the whole.
    fn of(archive: &Archive, facts: &ArchiveFacts, offset_bytes: u64) -> Self {
        let hasher = (archive.is_from_disk() && offset_bytes == 0).then(Sha256::new);
        Self {
            hasher,
            sha256: facts.sha256,
        }
    }

    fn admit(&mut self, chunk: &[u8], is_last: bool) -> io::Result<()> {
        let Some(hasher) = &mut self.hasher else {
            return Ok(());
        };
        hasher.update(chunk);
        if is_last && Digest::from(std::mem::take(hasher)) != self.sha256 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its bytes in the outbox are not those that were packed",
            ));
        }
        Ok(())
    }
}
