//! An archive that lies nowhere. The same episode packs to the same bytes, so it is packed twice or
//! oftener: once into [`Nowhere`], to learn its length and digests, which a request says first;
//! then again for each reader.
//!
//! ```text
//!  pour (packing) ──write──▶ Pipe ──256 KiB──▶ channel (1) ──▶ Reading
//!                             ├─ hashes, counts, passes over what was not asked for
//!                             └─ keeps the last piece back until all of it has turned out
//!                                  to be what it was at first
//! ```
//!
//! What a reader gets to the end is therefore what was measured. Where the episode has been changed
//! meanwhile, the stream ends in an error before its last piece, and no reader can take it for the
//! whole.

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Sink, reader::CHUNK_BYTES};
use crate::model::{episode::Digest, progress::Progress, records::ArchiveFacts};

/// Packs an archive anew.
#[derive(Clone)]
pub struct Pour(Arc<PourFn>);

type PourFn = dyn Fn(&mut Pipe, &Progress) -> io::Result<ArchiveFacts> + Send + Sync;

impl fmt::Debug for Pour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pour")
    }
}

impl Pour {
    /// By this function, which writes the whole archive and says what it was.
    pub fn new(
        pour: impl Fn(&mut Pipe, &Progress) -> io::Result<ArchiveFacts> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(pour))
    }

    /// Begins to pack, on a blocking thread that ends when the reader has gone.
    pub(super) fn begin(
        &self,
        offset_bytes: u64,
        facts: ArchiveFacts,
        progress: &Progress,
    ) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, pieces) = mpsc::channel(1);
        let (pour, progress) = (self.clone(), progress.beside());
        tokio::task::spawn_blocking(move || {
            let mut pipe = Pipe {
                sender,
                skip_bytes: offset_bytes,
                held: BytesMut::new(),
                measured: Nowhere::default(),
                size_bytes: facts.size_bytes,
            };
            let last = match (pour.0)(&mut pipe, &progress) {
                Ok(poured) if poured == facts => Ok(pipe.held.freeze()),
                Ok(_) => Err(other_bytes()),
                Err(error) => Err(error),
            };
            // It fails where the reader has gone: then the result is not needed.
            let _ = pipe.sender.blocking_send(last);
        });
        pieces
    }
}

/// Takes an archive in, and keeps nothing of it but its length and digest.
#[derive(Debug, Default)]
pub(crate) struct Nowhere {
    hasher: Sha256,
    len_bytes: u64,
}

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.len_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Nowhere {
    fn finish(self, content_sha256: Digest) -> ArchiveFacts {
        ArchiveFacts {
            sha256: self.hasher.into(),
            content_sha256,
            size_bytes: self.len_bytes,
        }
    }
}

/// Takes an archive to its reader, as fast as it is read.
#[derive(Debug)]
pub struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    skip_bytes: u64,
    held: BytesMut,
    measured: Nowhere,
    size_bytes: u64,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // While bytes are passed over nothing is sent, and nothing else would tell.
        if self.sender.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len_bytes = self.measured.len_bytes + bytes.len() as u64;
        if len_bytes > self.size_bytes {
            return Err(other_bytes());
        }
        self.measured.write_all(bytes)?;
        let wanted = bytes
            .len()
            .min(usize::try_from(len_bytes.saturating_sub(self.skip_bytes)).unwrap_or(usize::MAX));
        self.held.extend_from_slice(&bytes[bytes.len() - wanted..]);
        // Never all of it: the last piece stays here.
        while self.held.len() as u64 > CHUNK_BYTES {
            let piece = self
                .held
                .split_to(usize::try_from(CHUNK_BYTES).map_err(io::Error::other)?)
                .freeze();
            self.sender
                .blocking_send(Ok(piece))
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for &mut Pipe {
    fn finish(self, content_sha256: Digest) -> ArchiveFacts {
        std::mem::take(&mut self.measured).finish(content_sha256)
    }
}

fn other_bytes() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the episode is not what it was when it was packed first",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{super::Archive, *};

    const LEN: usize = 1_000_000;

    fn content(last: u8) -> Vec<u8> {
        let mut content: Vec<u8> = (0..LEN as u32).map(|n| (n % 251) as u8).collect();
        content[LEN - 1] = last;
        content
    }

    fn facts(content: &[u8]) -> ArchiveFacts {
        ArchiveFacts {
            sha256: Digest::of(content),
            content_sha256: Digest::of(b"tar"),
            size_bytes: content.len() as u64,
        }
    }

    /// One that was measured as the first, and is poured as the second.
    fn archive(measured: &[u8], poured: Vec<u8>) -> Archive {
        let pour = Pour::new(move |pipe, progress| {
            for piece in poured.chunks(70_001) {
                progress.advance(piece.len() as u64);
                pipe.write_all(piece)?;
            }
            Ok(Sink::finish(pipe, Digest::of(b"tar")))
        });
        Archive::poured(pour, facts(measured))
    }

    /// What can be read from a byte on, and how that ends.
    fn read(archive: &Archive, offset: u64, progress: &Progress) -> (Vec<u8>, io::Result<()>) {
        let read = async {
            let mut reading = archive.read_from(offset, LEN as u64, progress);
            reading.begin().await;
            let mut bytes = Vec::new();
            loop {
                match reading.next().await {
                    Some(Ok(piece)) => bytes.extend_from_slice(&piece),
                    Some(Err(error)) => return (bytes, Err(error)),
                    None => return (bytes, Ok(())),
                }
            }
        };
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(read)
    }

    #[test]
    fn it_is_read_from_any_byte_on_though_it_lies_nowhere() {
        let whole = content(7);
        let archive = archive(&whole, whole.clone());
        let progress = Progress::default();
        for offset in [0, 1, 262_143, 262_144, 262_145, 999_999, 1_000_000] {
            let (bytes, end) = read(&archive, offset, &progress);
            assert!(end.is_ok(), "{offset}: {end:?}");
            assert!(
                bytes == whole[usize::try_from(offset).unwrap()..],
                "{offset}"
            );
        }
        assert_eq!(archive.facts(), Some(facts(&whole)));
        // It moves, and what moves is not what was sent.
        assert!(progress.steps() > 0);
        assert_eq!(progress.bytes(), 0);
    }

    #[test]
    fn other_bytes_than_the_first_time_never_come_to_an_end() {
        let whole = content(7);
        for other in [
            content(8),
            [&content(7)[..], b"more"].concat(),
            content(7)[..LEN - 1].to_vec(),
        ] {
            let archive = archive(&whole, other);
            for offset in [0, 999_998] {
                let (bytes, end) = read(&archive, offset, &Progress::default());
                assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
                assert!((bytes.len() as u64 + offset) < LEN as u64);
            }
        }
    }

    #[test]
    fn a_reader_that_goes_ends_the_packing() {
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let (ended, end) = std::sync::mpsc::channel();
        let pour = Pour::new(move |pipe, _| {
            loop {
                let written = pipe.write(&[7; 1000]);
                WRITTEN.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = written {
                    let _ = ended.send(error.kind());
                    return Err(error);
                }
            }
        });
        let endless = ArchiveFacts {
            size_bytes: u64::MAX,
            ..facts(b"")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        // One reads a piece, the other is still passed over when it goes.
        for offset in [0, u64::MAX - 1] {
            let _guard = runtime.enter();
            let mut reading = Archive::poured(pour.clone(), endless).read_from(
                offset,
                u64::MAX,
                &Progress::default(),
            );
            if offset == 0 {
                assert!(runtime.block_on(reading.next()).unwrap().is_ok());
            }
            drop(reading);
            let kind = end
                .recv_timeout(std::time::Duration::from_secs(30))
                .unwrap();
            assert_eq!(kind, io::ErrorKind::BrokenPipe);
        }
    }
}
