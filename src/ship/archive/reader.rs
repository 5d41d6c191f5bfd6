//! Reading an archive from a byte on, piece by piece, on blocking threads.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::{Archive, ArchiveEnd, ArchiveSource};
use crate::model::progress::Progress;

/// How much is read at once, bytes.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;
/// So much is never read in more than one piece.
pub(crate) const IN_ONE_PIECE_BYTES: u64 = CHUNK_BYTES;

/// Reads to the end that was stated when it began.
#[derive(Debug)]
pub struct ArchiveReader {
    from: From,
    at_bytes: u64,
    len_bytes: u64,
}

#[derive(Debug)]
enum From {
    File(Archive),
    /// The first piece, once it was waited for, and the rest.
    Poured(Option<io::Result<Bytes>>, Receiver<io::Result<Bytes>>),
}

impl Archive {
    /// Reads it from a byte on. One that lies nowhere is packed from the start, with `progress`
    /// told that something moves, and what stands before that byte is passed over. Within the async
    /// runtime.
    pub fn read_from(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        progress: &Progress,
    ) -> ArchiveReader {
        let from = match (&self.source, self.facts()) {
            (ArchiveSource::Poured(pour), Some(facts)) if offset_bytes < len_bytes => {
                From::Poured(None, pour.begin(offset_bytes, facts, progress))
            }
            _ => From::File(self.clone()),
        };
        ArchiveReader {
            from,
            at_bytes: offset_bytes,
            len_bytes,
        }
    }

    /// So much of what has been written already.
    ///
    /// # Errors
    /// Reading failed, or there is less.
    pub(crate) async fn piece(&self, offset_bytes: u64, len_bytes: u64) -> io::Result<Bytes> {
        let source = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(len_bytes).map_err(io::Error::other)?];
            let mut filled = 0;
            while filled < bytes.len() {
                let at_bytes = offset_bytes + filled as u64;
                match source.read_at(at_bytes, &mut bytes[filled..])? {
                    0 => return Err(short(at_bytes, offset_bytes + len_bytes)),
                    read => filled += read,
                }
            }
            Ok(Bytes::from(bytes))
        });
        read.await.map_err(io::Error::other)?
    }
}

impl ArchiveReader {
    /// Waits until what comes first is there, where that may take long: what is passed over is
    /// better passed over before the receiver waits for it.
    pub async fn begin(&mut self) {
        if let From::Poured(first @ None, rest) = &mut self.from {
            *first = rest.recv().await;
        }
    }

    /// The next piece: 256 KiB of it, or the rest. `None` at the end.
    ///
    /// # Errors
    /// Reading failed; the archive was abandoned; or it is not the one that it was when it was
    /// packed, which shows before its last piece is given out.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.at_bytes >= self.len_bytes {
            return None;
        }
        let read = match &mut self.from {
            From::File(archive) => chunk(archive, self.at_bytes, self.len_bytes).await,
            From::Poured(first, rest) => match first.take() {
                Some(first) => first,
                None => rest
                    .recv()
                    .await
                    .unwrap_or_else(|| Err(short(self.at_bytes, self.len_bytes))),
            },
        };
        if let Ok(bytes) = &read {
            self.at_bytes += bytes.len() as u64;
        }
        Some(read)
    }
}

/// Waits for and reads what stands at `offset`.
async fn chunk(archive: &mut Archive, offset: u64, len_bytes: u64) -> io::Result<Bytes> {
    // A whole chunk is worth waiting for: the pieces in which an archive grows may be small.
    let wanted = CHUNK_BYTES.min(len_bytes - offset);
    let growth = archive.grown_beyond(offset + wanted - 1).await;
    if growth.end == Some(ArchiveEnd::Abandoned) {
        return Err(io::Error::other("its packing was abandoned"));
    }
    if growth.len_bytes < offset + wanted {
        return Err(short(growth.len_bytes, len_bytes));
    }
    archive.piece(offset, wanted).await
}

fn short(found: u64, stated: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("it ends after {found} of {stated} bytes"),
    )
}
