//! The tar stream inside an archive: one zstd frame, decompressed within bounds, hashed and counted
//! on the way.
//!
//! ```text
//!  File ──▶ BufReader ──▶ zstd (window ≤ 32 MiB, one frame) ──▶ buffer (128 KiB)
//!       ──▶ sha256, counted ──▶ members
//! ```

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
};

use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use super::{Limits, UnpackError};
use crate::model::{episode::Digest, progress::Progress, wire::MAX_WINDOW_LOG};

const BUFFER_BYTES: usize = 128 * 1024;

/// Reads a tar stream out of an archive.
pub(super) struct TarReader<'a> {
    decoder: Decoder<'static, BufReader<CountedArchive>>,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be read.
    unread: std::ops::Range<usize>,
    hasher: Sha256,
    passed_bytes: u64,
    limits: Limits,
    progress: &'a Progress,
    observe: &'a dyn Fn(u64),
}

impl<'a> TarReader<'a> {
    /// Reads the archive from where the file stands.
    pub(super) fn new(
        archive: File,
        limits: Limits,
        progress: &'a Progress,
        observe: &'a dyn Fn(u64),
    ) -> Result<Self, UnpackError> {
        let watched = BufReader::new(CountedArchive {
            archive,
            read_bytes: 0,
        });
        let mut decoder = Decoder::with_buffer(watched)
            .map_err(UnpackError::Archive)?
            .single_frame();
        // A few bytes may ask for gigabytes of memory (RFC 8878, section 3.1.1.1.2).
        decoder
            .window_log_max(MAX_WINDOW_LOG)
            .map_err(UnpackError::Archive)?;
        Ok(Self {
            decoder,
            buffer: vec![0; BUFFER_BYTES].into(),
            unread: 0..0,
            hasher: Sha256::new(),
            passed_bytes: 0,
            limits,
            progress,
            observe,
        })
    }

    /// What comes next, at least a byte; empty at the end of the stream. [`Self::consume`] says
    /// how much was taken.
    pub(super) fn peek(&mut self) -> Result<&[u8], UnpackError> {
        if self.unread.is_empty() {
            self.progress.check()?;
            self.progress.step();
            let read = loop {
                match self.decoder.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read.map_err(UnpackError::Archive)?,
                }
            };
            self.hasher.update(&self.buffer[..read]);
            self.passed_bytes += read as u64;
            if self.passed_bytes > self.limits.max_bytes {
                return Err(self.limits.exceeded());
            }
            self.unread = 0..read;
            (self.observe)(self.decoder.get_ref().get_ref().read_bytes);
        }
        Ok(&self.buffer[self.unread.clone()])
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.unread.start += bytes;
    }

    /// Whether so many more bytes are within the bound. Asked before they are written.
    pub(super) fn allows(&self, bytes: u64) -> Result<(), UnpackError> {
        let taken = self.passed_bytes - self.unread.len() as u64;
        if bytes > self.limits.max_bytes.saturating_sub(taken) {
            Err(self.limits.exceeded())
        } else {
            Ok(())
        }
    }

    /// Fills `block`, whole.
    pub(super) fn read_exact(&mut self, mut block: &mut [u8]) -> Result<(), UnpackError> {
        while !block.is_empty() {
            let chunk = self.peek()?;
            if chunk.is_empty() {
                return Err(UnpackError::malformed("it ends in the middle"));
            }
            let len = chunk.len().min(block.len());
            block[..len].copy_from_slice(&chunk[..len]);
            self.consume(len);
            block = &mut block[len..];
        }
        Ok(())
    }

    /// To be called at the end of the stream: nothing may follow it in the archive, neither another
    /// frame nor anything else. The digest of the tar stream, and its length, bytes.
    pub(super) fn finish(self) -> Result<(Digest, u64), UnpackError> {
        let mut rest = self.decoder.finish();
        if !rest.fill_buf().map_err(UnpackError::Archive)?.is_empty() {
            return Err(UnpackError::malformed(
                "something follows the end of its zstd frame",
            ));
        }
        Ok((self.hasher.into(), self.passed_bytes))
    }
}

/// Counts what is read of the archive.
struct CountedArchive {
    archive: File,
    read_bytes: u64,
}

impl Read for CountedArchive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read(buffer)?;
        self.read_bytes += read as u64;
        Ok(read)
    }
}
