//! The tar stream on its way: gathered in one buffer, hashed, compressed, written.
//!
//! ```text
//!  headers, file bytes ──▶ buffer (256 KiB) ──▶ sha256 ──▶ zstd workers ──▶ Sink (sha256, file)
//! ```
//!
//! zstd runs on threads of its own and gathers its input there, so reading and hashing go on beside
//! the compression. With at least one worker its output depends on level and library version only,
//! and not on how many workers there are or how the input was cut; without workers, or with the
//! size pledged, it is another one.
//!
//! A stream that is short enough to be gathered whole has none: threads, and the memory that each
//! takes for its piece, would cost more than the compression. That goes by the content alone, so
//! the same content gives the same bytes still.

use std::{
    io::{self, Write},
    num::NonZeroU32,
};

use sha2::{Digest as _, Sha256};
use zstd::{
    stream::{raw, write::Encoder, zio},
    zstd_safe::CParameter,
};

use super::header::{self, BLOCK_BYTES};
use crate::{
    model::{episode::Digest, progress::Progress},
    ship::archive::Sink,
};

/// What is read, hashed and compressed at a time.
const BUFFER_BYTES: usize = 256 * 1024;
/// A tar stream ends with two blocks of zeros.
const END_BYTES: usize = 2 * BLOCK_BYTES;
/// What zstd recommends for its output (`ZSTD_CStreamOutSize`).
const OUTPUT_BYTES: usize = 128 * 1024;
/// Each worker takes memory for its piece of the input, used or not.
const MAX_WORKERS: u32 = 64;

/// How long such a piece is, bytes: as zstd's window at the highest of these levels. zstd takes
/// four times as much by itself, and with two workers 57 MiB at level 3 in the place of 17; these
/// cost a tenth of a percent of the archive's length. A part of its bytes, as the level is. `None`:
/// zstd chooses. From level 13 on each piece begins with half a window or more of the one before,
/// and a short one would be compressed nearly twice.
fn piece_bytes(level: i32) -> Option<u32> {
    match level {
        ..9 => Some(2 << 20),
        9..13 => Some(4 << 20),
        13.. => None,
    }
}

/// `W`: where it goes when it is hashed.
pub(super) struct TarStream<W> {
    buffer: Box<[u8]>,
    filled: usize,
    passed_bytes: u64,
    hasher: Sha256,
    to: W,
}

/// Compresses.
pub(super) struct Compressed<S: Write> {
    encoder: Encoder<'static, Stepping<S>>,
    workers: u32,
    piece_bytes: Option<u32>,
    begun: bool,
}

impl<S: Write> Write for Compressed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.begun, true) {
            self.encoder.multithread(self.workers)?;
            if let (1.., Some(piece_bytes)) = (self.workers, self.piece_bytes) {
                self.encoder
                    .set_parameter(CParameter::JobSize(piece_bytes))?;
            }
        }
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

impl<S: Sink> TarStream<Compressed<S>> {
    pub(super) fn new(
        sink: S,
        level: i32,
        workers: NonZeroU32,
        progress: &Progress,
    ) -> io::Result<Self> {
        let output = Stepping {
            sink,
            progress: progress.clone(),
        };
        let compressor = raw::Encoder::new(level)?;
        let writer = zio::Writer::new_with_capacity(output, compressor, OUTPUT_BYTES);
        let mut encoder = Encoder::with_writer(writer);
        encoder.include_checksum(true)?;
        Ok(Self::new_to(Compressed {
            encoder,
            workers: workers.get().min(MAX_WORKERS),
            piece_bytes: piece_bytes(level),
            begun: false,
        }))
    }

    /// Writes the end of the tar stream and of the zstd frame. The sink is still to be finished;
    /// with it, the digest of the tar stream and its length, bytes.
    pub(super) fn finish(mut self) -> io::Result<(S, Digest, u64)> {
        if self.passed_bytes == 0 && self.filled + END_BYTES <= self.buffer.len() {
            self.to.workers = 0;
        }
        let (to, content_sha256, len_bytes) = self.end()?;
        Ok((to.encoder.finish()?.sink, content_sha256, len_bytes))
    }
}

impl<W: Write> TarStream<W> {
    pub(super) fn new_to(to: W) -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into(),
            filled: 0,
            passed_bytes: 0,
            hasher: Sha256::new(),
            to,
        }
    }

    /// Room to read into: never empty. [`TarStream::take`] says how much of it was filled.
    pub(super) fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.buffer.len() {
            self.pass_on()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    /// The first `len` bytes of the last [`TarStream::room`] belong to the stream now. Gives them
    /// back to look at.
    pub(super) fn take(&mut self, len: usize) -> &[u8] {
        let start = self.filled;
        self.filled += len;
        &self.buffer[start..self.filled]
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let len = bytes.len().min(room.len());
            room[..len].copy_from_slice(&bytes[..len]);
            self.take(len);
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Zeros up to the next block.
    pub(super) fn pad(&mut self) -> io::Result<()> {
        self.write(header::padding(self.len_bytes()))
    }

    /// Writes the end of the tar stream. Where it went to; its digest and its length, bytes.
    pub(super) fn end(mut self) -> io::Result<(W, Digest, u64)> {
        self.write(&[0; END_BYTES])?;
        self.pass_on()?;
        Ok((self.to, self.hasher.into(), self.passed_bytes))
    }

    fn len_bytes(&self) -> u64 {
        self.passed_bytes + self.filled as u64
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let bytes = &self.buffer[..self.filled];
        self.hasher.update(bytes);
        self.to.write_all(bytes)?;
        self.passed_bytes += bytes.len() as u64;
        self.filled = 0;
        Ok(())
    }
}

/// Shows a step for what is written: at the end of a stream nothing is read any more, and a high
/// level still takes long.
pub(super) struct Stepping<S> {
    sink: S,
    progress: Progress,
}

impl<S: Write> Write for Stepping<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.step();
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
