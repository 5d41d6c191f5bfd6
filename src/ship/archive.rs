//! An archive: something that can be read while it grows.
//!
//! ```text
//!  pack ──write──▶ ArchiveWriter ──pwrite──▶ outbox/<id>.tar.zst.partial ◀──pread── Archive
//!                       └───────── Growth: length so far, then how it ended ───────────┘
//!                                                                   (any number of clones)
//! ```
//!
//! Both sides hold the same open file, so a rename into place, or an unlink, takes nothing from a
//! reader. What [`Growth`] announces has been written and may be read; nothing here says that it is
//! durable. A long one is flushed in slices meanwhile (`slices.rs`), so that making it durable in
//! the end does not take long.
//!
//! Where the outbox has no room for an archive, the archive lies nowhere: it is packed again for
//! each reader (`on_demand.rs`). Readers need not know.

pub(crate) mod on_demand;
mod reader;
mod slices;

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

pub(crate) use self::reader::IN_ONE_PIECE_BYTES;
use self::{on_demand::Pour, slices::Slices};
use crate::{
    disk::{durable, lookup},
    model::{episode::Digest, progress::Progress, records::ArchiveFacts},
};

/// How many bytes may be written before readers are told. Small enough that a sender is never far
/// behind, large enough that waking it costs nothing beside the compression.
const ANNOUNCED_EVERY_BYTES: u64 = 256 * 1024;

/// Where packing writes an archive.
pub trait Sink: Write {
    /// Everything was written: what it is, with the digest of the tar stream in it.
    fn finish(self, content_sha256: Digest) -> ArchiveFacts;
}

/// The reading end. Clones read independently.
#[derive(Clone, Debug)]
pub struct Archive {
    source: ArchiveSource,
    grown: watch::Receiver<Growth>,
}

#[derive(Clone, Debug)]
enum ArchiveSource {
    /// `from_disk`: it was not written here.
    File {
        file: Arc<File>,
        from_disk: bool,
        slices: Slices,
    },
    Poured(Pour),
}

/// How far an archive has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// So many bytes, from the beginning, can be read.
    pub len_bytes: u64,
    /// Set once, when no more will come.
    pub end: Option<ArchiveEnd>,
}

/// How an archive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveEnd {
    /// It is complete: `facts.size_bytes` is its length. Not said: that it is durable.
    Finished(ArchiveFacts),
    /// Its writer gave up; what there is of it is worthless.
    Abandoned,
}

impl Archive {
    /// Creates scratch at `partial` (an old one of that name is unlinked, never truncated) and
    /// gives out both ends.
    ///
    /// # Errors
    /// Those of [`durable::create_scratch`].
    pub fn create(partial: &Path) -> io::Result<(ArchiveWriter, Self)> {
        let file = Arc::new(durable::create_scratch(partial)?);
        let (announce, grown) = watch::channel(Growth {
            len_bytes: 0,
            end: None,
        });
        let slices = Slices::new(durable::sync_slice);
        let writer = ArchiveWriter {
            file: Arc::clone(&file),
            slices: slices.clone(),
            announce,
            hasher: Sha256::new(),
            len_bytes: 0,
            announced_bytes: 0,
        };
        Ok((
            writer,
            Self {
                source: ArchiveSource::File {
                    file,
                    from_disk: false,
                    slices,
                },
                grown,
            },
        ))
    }

    /// Opens a finished archive. Its length is compared with `facts`, its bytes are not: that is
    /// the receiver's and the re-hashing step's work.
    ///
    /// # Errors
    /// Those of open(2), `ELOOP` for a symlink among them, and [`io::ErrorKind::InvalidData`] where
    /// it is no regular file of the length that `facts` state.
    pub fn open(path: &Path, facts: ArchiveFacts) -> io::Result<Self> {
        let file = lookup::options().open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the archive is not a regular file",
            ));
        }
        if found.len() != facts.size_bytes {
            let (found, stated) = (found.len(), facts.size_bytes);
            let why = format!("the archive has {found} bytes, its record says {stated}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let slices = Slices::new(durable::sync_slice);
        Ok(Self::whole(
            ArchiveSource::File {
                file: Arc::new(file),
                from_disk: true,
                slices,
            },
            facts,
        ))
    }

    /// One that lies nowhere, and was these bytes when it was packed into nothing: it is packed
    /// again for each reader.
    #[must_use]
    pub fn poured(pour: Pour, facts: ArchiveFacts) -> Self {
        Self::whole(ArchiveSource::Poured(pour), facts)
    }

    fn whole(source: ArchiveSource, facts: ArchiveFacts) -> Self {
        let growth = Growth {
            len_bytes: facts.size_bytes,
            end: Some(ArchiveEnd::Finished(facts)),
        };
        // The sender is dropped here: a value that will not change needs none.
        let (_, grown) = watch::channel(growth);
        Self { source, grown }
    }

    /// Reads at an offset, without a shared position (pread(2)). 0 at or behind the present end,
    /// which for an archive that still grows is not the end of it: [`Archive::grown_beyond`] tells.
    ///
    /// # Errors
    /// Those of pread(2); [`io::ErrorKind::Unsupported`] where it lies nowhere.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file()?;
        loop {
            match file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// How far it has come.
    pub fn growth(&self) -> Growth {
        *self.grown.borrow()
    }

    /// Waits until there is something behind `offset`, or until nothing more will come.
    pub async fn grown_beyond(&mut self, offset: u64) -> Growth {
        let reached = |growth: &Growth| growth.len_bytes > offset || growth.end.is_some();
        let waited = self.grown.wait_for(reached).await.map(|growth| *growth);
        // Closed without an end cannot be: a writer states one before it goes. "Abandoned" is the
        // safe reading.
        waited.unwrap_or_else(|_| Growth {
            end: Some(ArchiveEnd::Abandoned),
            ..self.growth()
        })
    }

    /// Whether it was opened as it lay on the disk. One that was written here was hashed from the
    /// same bytes; this one may have rotted since, or be a file that another process put there.
    pub fn is_from_disk(&self) -> bool {
        matches!(
            self.source,
            ArchiveSource::File {
                from_disk: true,
                ..
            }
        )
    }

    /// Digests and length, once it is finished.
    pub fn facts(&self) -> Option<ArchiveFacts> {
        match self.growth().end {
            Some(ArchiveEnd::Finished(facts)) => Some(facts),
            Some(ArchiveEnd::Abandoned) | None => None,
        }
    }

    /// The open file, for the step that makes it durable. What is left to flush is short then; each
    /// flush on the way to that is a step of `progress`.
    ///
    /// # Errors
    /// That of a flush on the way: the bytes cannot be believed, whatever a later flush says.
    /// [`io::ErrorKind::Unsupported`] where it lies nowhere.
    pub fn file_to_keep(&self, progress: &Progress) -> io::Result<&File> {
        if let ArchiveSource::File { file, slices, .. } = &self.source {
            slices.catch_up(file, self.growth().len_bytes, progress)?;
        }
        self.file()
    }

    /// The open file, for a reader of all of it.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where it lies nowhere.
    pub(crate) fn file(&self) -> io::Result<&File> {
        match &self.source {
            ArchiveSource::File { file, .. } => Ok(file),
            ArchiveSource::Poured(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the archive lies nowhere",
            )),
        }
    }
}

/// The writing end: there is one. Dropped before [`ArchiveWriter::finish`], it tells the readers
/// that the archive is abandoned.
#[derive(Debug)]
pub struct ArchiveWriter {
    file: Arc<File>,
    slices: Slices,
    announce: watch::Sender<Growth>,
    hasher: Sha256,
    len_bytes: u64,
    announced_bytes: u64,
}

impl Sink for ArchiveWriter {
    /// Readers see the end with the facts.
    fn finish(mut self, content_sha256: Digest) -> ArchiveFacts {
        let sha256 = std::mem::take(&mut self.hasher).into();
        let facts = ArchiveFacts {
            sha256,
            content_sha256,
            size_bytes: self.len_bytes,
        };
        self.tell(Some(ArchiveEnd::Finished(facts)));
        facts
    }
}

impl ArchiveWriter {
    fn tell(&mut self, end: Option<ArchiveEnd>) {
        self.announced_bytes = self.len_bytes;
        self.announce.send_replace(Growth {
            len_bytes: self.len_bytes,
            end,
        });
    }
}

impl Write for ArchiveWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = (&*self.file).write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.len_bytes += written as u64;
        if self.len_bytes - self.announced_bytes >= ANNOUNCED_EVERY_BYTES {
            self.tell(None);
            self.slices.wrote(&self.file, self.len_bytes)?;
        }
        Ok(written)
    }

    /// Announces what was written so far. Nothing is flushed to the disk.
    fn flush(&mut self) -> io::Result<()> {
        self.tell(None);
        Ok(())
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if self.announce.borrow().end.is_none() {
            self.tell(Some(ArchiveEnd::Abandoned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, ArchiveWriter, Archive) {
        let folder = tempfile::tempdir().unwrap();
        let (writer, archive) = Archive::create(&folder.path().join("a.partial")).unwrap();
        (folder, writer, archive)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_reader_follows_a_growing_archive_to_its_end() {
        let (_folder, mut writer, archive) = scratch();
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = content.clone();
        let packing = std::thread::spawn(move || {
            content
                .chunks(70_001)
                .for_each(|chunk| writer.write_all(chunk).unwrap());
            writer.finish(Digest::of(b"tar"))
        });
        let mut reader = archive.clone();
        let mut read = Vec::new();
        let facts = block_on(async {
            loop {
                let growth = reader.grown_beyond(read.len() as u64).await;
                let mut buffer = vec![0; usize::try_from(growth.len_bytes).unwrap() - read.len()];
                assert_eq!(
                    reader.read_at(read.len() as u64, &mut buffer).unwrap(),
                    buffer.len()
                );
                read.extend_from_slice(&buffer);
                if let Some(end) = growth.end {
                    break end;
                }
            }
        });
        assert_eq!(facts, ArchiveEnd::Finished(packing.join().unwrap()));
        assert_eq!(archive.facts().unwrap().sha256, Digest::of(&expected));
        assert_eq!(archive.facts().unwrap().content_sha256, Digest::of(b"tar"));
        assert!(read == expected);
    }

    #[test]
    fn a_writer_that_goes_without_finishing_abandons() {
        let (_folder, mut writer, mut archive) = scratch();
        writer.write_all(b"half").unwrap();
        drop(writer);
        let growth = block_on(archive.grown_beyond(1000));
        assert_eq!(
            growth,
            Growth {
                len_bytes: 4,
                end: Some(ArchiveEnd::Abandoned)
            }
        );
        assert_eq!(archive.facts(), None);
    }

    #[test]
    fn an_archive_outlives_its_name() {
        let (folder, mut writer, archive) = scratch();
        writer.write_all(b"whole").unwrap();
        let facts = writer.finish(Digest::of(b""));
        drop(folder);
        let mut buffer = [0; 16];
        assert_eq!(archive.read_at(1, &mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"hole");
        assert_eq!(facts.size_bytes, 5);
    }

    #[test]
    fn only_a_file_of_the_recorded_length_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.zst");
        let link = folder.path().join("link");
        std::fs::write(&path, b"12345").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let facts = ArchiveFacts {
            sha256: Digest::of(b"12345"),
            content_sha256: Digest::of(b""),
            size_bytes: 5,
        };
        let mut archive = Archive::open(&path, facts).unwrap();
        assert_eq!(archive.facts(), Some(facts));
        assert_eq!(block_on(archive.grown_beyond(0)).len_bytes, 5);
        assert_eq!(
            block_on(archive.grown_beyond(99)).end,
            Some(ArchiveEnd::Finished(facts))
        );
        let short = ArchiveFacts {
            size_bytes: 6,
            ..facts
        };
        assert_eq!(
            Archive::open(&path, short).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert!(Archive::open(&link, facts).is_err());
        assert_eq!(
            Archive::open(folder.path(), facts).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
