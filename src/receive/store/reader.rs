//! A held archive on its way out of a folder.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{ArchiveRange, StoreError, upload::ended};

/// What is read at once, bytes; all that a reader has in memory.
const CHUNK_BYTES: u64 = 128 * 1024;

/// A range of an archive. The file is open: what is published or taken away meanwhile is another.
#[derive(Debug)]
pub(crate) struct FolderReading {
    file: Arc<File>,
    range: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FolderReading {
    pub(super) fn new(file: File, range: Range<u64>) -> Self {
        Self {
            file: Arc::new(file),
            range,
            reading: None,
        }
    }
}

impl ArchiveRange for FolderReading {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StoreError>>> {
        if self.range.is_empty() {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (file, at) = (Arc::clone(&self.file), self.range.start);
            let length = (self.range.end - at).min(CHUNK_BYTES);
            spawn_blocking(move || {
                let mut chunk = vec![0; usize::try_from(length).map_err(io::Error::other)?];
                file.read_exact_at(&mut chunk, at)?;
                Ok(chunk.into())
            })
        });
        let read = ended(ready!(Pin::new(reading).poll(context)));
        self.reading = None;
        match &read {
            Ok(chunk) => self.range.start += chunk.len() as u64,
            Err(_) => self.range.end = self.range.start,
        }
        Poll::Ready(Some(read))
    }
}
