//! The disk side of a folder store. Everything here blocks.

use std::{
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use super::{
    Publication,
    record::{self, Record},
    scratch::Scratch,
};
use crate::{
    durable::{self, Published},
    episode::EpisodeId,
    receive::held::{Content, Held, Offer},
};

const PART_SUFFIX: &str = ".part";

#[derive(Debug)]
pub(super) struct Places {
    pub(super) episodes: PathBuf,
    receipts: PathBuf,
    pub(super) incoming: PathBuf,
    /// Tells this process's temporaries from those of its siblings, on other machines too.
    nonce: u64,
    next: AtomicU64,
}

/// What a first look at a name finds.
pub(super) enum Look {
    Nothing,
    Known(Held),
    /// An archive that no record fits.
    Unknown,
}

impl Places {
    /// Creates what is missing, durably, and tries whether it can be written to.
    pub(super) fn open(store: &Path) -> io::Result<Self> {
        let places = Places {
            episodes: store.join("episodes"),
            receipts: store.join("receipts"),
            incoming: store.join("incoming"),
            nonce: RandomState::new().hash_one(store),
            next: AtomicU64::new(0),
        };
        for folder in [&places.episodes, &places.receipts, &places.incoming] {
            durable::create_folder(folder)?;
        }
        // A sibling that was killed may have created them without getting so far.
        durable::sync_folder(store)?;
        places.probe()?;
        Ok(places)
    }

    pub(super) fn archive(&self, id: &EpisodeId) -> PathBuf {
        self.episodes.join(format!("{}.tar.zst", id.percent_encoded()))
    }

    pub(super) fn record(&self, id: &EpisodeId) -> PathBuf {
        self.receipts.join(format!("{}.json", id.percent_encoded()))
    }

    pub(super) fn scratch_path(&self) -> PathBuf {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.incoming.join(format!("{:016x}-{n}{PART_SUFFIX}", self.nonce))
    }

    pub(super) fn append(&self, scratch: Option<Scratch>, batch: &[u8]) -> io::Result<Scratch> {
        let mut scratch = match scratch {
            Some(scratch) => scratch,
            None => Scratch::create(self.scratch_path())?,
        };
        scratch.append(batch)?;
        Ok(scratch)
    }

    pub(super) fn publish(&self, scratch: &Scratch, id: EpisodeId, offer: &Offer) -> io::Result<Publication> {
        let received = scratch.digest();
        if received != offer.sha256 {
            return Ok(Publication::DigestMismatch { received });
        }
        if scratch.publish(&self.archive(&id))? == Published::NameTaken {
            return Ok(Publication::NameTaken);
        }
        let content = offer.content_sha256.map_or(Content::Unknown, Content::Claimed);
        let record = Record::new(id, received, content, &scratch.metadata()?);
        self.remember(&record);
        Ok(Publication::Stored(record.into_held()))
    }

    pub(super) fn look(&self, id: &EpisodeId) -> io::Result<Look> {
        let metadata = match self.archive(id).symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Nothing),
            Err(error) => return Err(error),
        };
        if !metadata.is_file() {
            return Err(io::Error::other("what stands under the episode's name is not a file"));
        }
        let record =
            std::fs::read(self.record(id)).ok().and_then(|bytes| Record::read(&bytes, id, &metadata));
        Ok(record.map_or(Look::Unknown, |record| Look::Known(record.into_held())))
    }

    /// Learns again what the record said: flushes, hashes, remembers.
    pub(super) fn rebuild(&self, id: &EpisodeId) -> io::Result<Option<Held>> {
        match self.look(id)? {
            Look::Nothing => return Ok(None),
            // Whoever published it, or rebuilt it before us, has written the record in the meantime.
            Look::Known(held) => return Ok(Some(held)),
            Look::Unknown => {}
        }
        let archive = File::open(self.archive(id))?;
        durable::sync_file(&archive)?;
        durable::sync_folder(&self.episodes)?;
        let sha256 = record::hash(&archive)?;
        let record = Record::new(id.clone(), sha256, Content::Unknown, &archive.metadata()?);
        tracing::info!(%id, size_bytes = record.size_bytes(), "hashed an archive that had no fitting receipt");
        self.remember(&record);
        Ok(Some(record.into_held()))
    }

    pub(super) fn verify(&self, id: &EpisodeId) -> io::Result<Option<Held>> {
        let Some(held) = self.rebuild(id)? else { return Ok(None) };
        if matches!(held.content, Content::Verified(_) | Content::Unreadable) {
            return Ok(Some(held));
        }
        let archive = File::open(self.archive(id))?;
        let content = record::decompress_and_hash(&archive)?;
        if let Content::Claimed(claimed) = held.content
            && content != Content::Verified(claimed)
        {
            tracing::warn!(%id, %claimed, ?content, "a held archive's content is not what was claimed");
        }
        let record = Record::new(id.clone(), held.sha256, content, &archive.metadata()?);
        self.remember(&record);
        Ok(Some(record.into_held()))
    }

    /// The archive is held whether or not this succeeds; without the record it is hashed when next asked for.
    pub(super) fn remember(&self, record: &Record) {
        let path = self.record(record.id());
        if let Err(error) = durable::write_rebuildable_file(&path, &self.scratch_path(), &record.to_json()) {
            tracing::warn!(id = %record.id(), %error, "cannot write the receipt beside an archive; it will be hashed again");
        }
    }

    pub(super) fn sweep(&self, before: SystemTime) -> io::Result<usize> {
        let mut swept = 0;
        for entry in std::fs::read_dir(&self.incoming)? {
            let entry = entry?;
            let ours = entry.file_name().to_str().is_some_and(|name| name.ends_with(PART_SUFFIX));
            // Gone since it was listed: a sibling has published or swept it.
            let Some(metadata) = entry.metadata().ok().filter(|metadata| ours && metadata.is_file()) else {
                continue;
            };
            if metadata.modified()? < before {
                durable::remove_file(&entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    pub(super) fn probe(&self) -> io::Result<()> {
        Scratch::create(self.scratch_path())?.append(b"probe")
    }
}
