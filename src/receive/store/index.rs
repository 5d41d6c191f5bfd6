//! The disk side of a folder store: where things lie, and what is held. Everything here blocks.
//!
//! What changes the record of an archive holds a lock on the archive (flock(2)), in this process
//! and in all others: the upload that published it, until its record is written; a rebuild, a
//! verification, a claim. Reading needs no lock.

use std::{
    collections::HashSet,
    fs::{File, Metadata},
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};

use super::{
    digest_cache::Vouched,
    part::{is_still, open_for_lock},
    record::{self, ReceiptRecord},
    scratch::TemporaryFile,
};

use crate::{
    disk::{durable, lookup::if_there},
    model::{
        episode::{Digest, EpisodeId, HostName},
        progress::{self, Progress},
    },
    receive::stored_episode::{Content, Key, Namespace, StoredEpisode},
};

pub(super) const ARCHIVE_SUFFIX: &str = ".tar.zst";
/// A large upload is flushed, and noted, each time that so many more of its bytes have arrived: so
/// much, and what comes while it is flushed, is sent again after a kill, and left for the last
/// flush.
const SLICE_BYTES: u64 = 32 << 20;
const COPY_BYTES: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Places {
    pub(super) root: PathBuf,
    pub(super) episodes: PathBuf,
    receipts: PathBuf,
    pub(super) incoming: PathBuf,
    pub(super) namespace: Namespace,
    pub(super) slice_bytes: u64,
    pub(super) vouched: Vouched,
    /// Tells this process's temporaries from those of its siblings, on other machines too.
    nonce: u64,
    pub(super) next: AtomicU64,
    /// Hosts whose folders this process has flushed.
    hosts: Mutex<HashSet<HostName>>,
}

/// What a first look at a name finds.
pub(super) enum NameLookup {
    Nothing,
    /// The archive, open, and what is known of it.
    Known(StoredEpisode, File),
    /// An archive that no record fits.
    Unknown,
}

impl Places {
    /// Creates what is missing, durably, and tries whether it can be written to.
    pub(super) fn open(store: &Path, namespace: Namespace) -> io::Result<Self> {
        let places = Places {
            root: store.to_owned(),
            episodes: store.join("episodes"),
            receipts: store.join("receipts"),
            incoming: store.join("incoming"),
            namespace,
            slice_bytes: SLICE_BYTES,
            vouched: Vouched::default(),
            nonce: RandomState::new().hash_one(store),
            next: AtomicU64::new(0),
            hosts: Mutex::default(),
        };
        for folder in [&places.episodes, &places.receipts, &places.incoming] {
            durable::create_folder(folder)?;
        }
        // A sibling that was killed may have created them without getting so far.
        durable::sync_folder(store)?;
        places.probe()?;
        Ok(places)
    }

    /// The folder of a host's archives; it may not be there.
    pub(super) fn folder_of(&self, host: Option<&HostName>) -> io::Result<PathBuf> {
        self.below(&self.episodes, host)
    }

    pub(super) fn archive(&self, key: &Key) -> io::Result<PathBuf> {
        Ok(self
            .folder_of(key.host.as_ref())?
            .join(format!("{}{ARCHIVE_SUFFIX}", key.id.percent_encoded())))
    }

    pub(super) fn record(&self, key: &Key) -> io::Result<PathBuf> {
        let folder = self.below(&self.receipts, key.host.as_ref())?;
        Ok(folder.join(format!("{}.json", key.id.percent_encoded())))
    }

    fn below(&self, folder: &Path, host: Option<&HostName>) -> io::Result<PathBuf> {
        match (self.namespace, host) {
            (Namespace::None, None) => Ok(folder.to_owned()),
            (Namespace::Host, Some(host)) => Ok(folder.join(host.percent_encoded())),
            (Namespace::None, Some(_)) => {
                Err(misfit("a key with a host, in a store that files without"))
            }
            (Namespace::Host, None) => Err(misfit(
                "a key without a host, in a store that files by host",
            )),
        }
    }

    /// The folders that a host's episodes will stand in, durably. Flushed once by each process: a
    /// sibling that was killed may have created them and not got so far.
    pub(super) fn make_room_for(&self, host: Option<&HostName>) -> io::Result<()> {
        let hosts = || self.hosts.lock();
        let Some(host) = host else { return Ok(()) };
        let flushed = hosts().contains(host);
        for folder in [&self.episodes, &self.receipts] {
            durable::create_folder(&folder.join(host.percent_encoded()))?;
            if !flushed {
                durable::sync_folder(folder)?;
            }
        }
        hosts().insert(host.clone());
        Ok(())
    }

    /// What tells one temporary name from all others.
    pub(super) fn unique(&self) -> String {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{n}{}", self.nonce, super::parts::PART_SUFFIX)
    }

    pub(super) fn scratch_path(&self) -> PathBuf {
        self.incoming.join(self.unique())
    }

    pub(super) fn look(&self, key: &Key) -> io::Result<NameLookup> {
        let Some(archive) = self.open_archive(key)? else {
            return Ok(NameLookup::Nothing);
        };
        Ok(match self.fitting(key, &archive.metadata()?)? {
            Some(record) => NameLookup::Known(record.into_held(key), archive),
            None => NameLookup::Unknown,
        })
    }

    fn open_archive(&self, key: &Key) -> io::Result<Option<File>> {
        let file = if_there(open_for_lock(&self.archive(key)?))?;
        if let Some(file) = &file
            && !file.metadata()?.is_file()
        {
            let why = "what stands under the episode's name is not a file";
            return Err(io::Error::other(why));
        }
        Ok(file)
    }

    pub(super) fn fitting(
        &self,
        key: &Key,
        archive: &Metadata,
    ) -> io::Result<Option<ReceiptRecord>> {
        Ok(self.noted(key)?.filter(|record| record.fits(archive)))
    }

    /// What is noted under a key, of whatever archive.
    fn noted(&self, key: &Key) -> io::Result<Option<ReceiptRecord>> {
        let path = self.record(key)?;
        Ok(std::fs::read(path)
            .ok()
            .and_then(|json| ReceiptRecord::read(&json, &key.id)))
    }

    /// Learns again what the record said, where it is lost. The archive comes along, open and free
    /// for others.
    pub(super) fn rebuild(&self, key: &Key) -> io::Result<Option<(StoredEpisode, File)>> {
        let Some((archive, record)) = self.locked(key)? else {
            return Ok(None);
        };
        archive.unlock()?;
        Ok(Some((record.into_held(key), archive)))
    }

    /// Opens and locks what is held, with its record, which nothing changes as long as the file is
    /// open.
    fn locked(&self, key: &Key) -> io::Result<Option<(File, ReceiptRecord)>> {
        loop {
            let Some(archive) = self.open_archive(key)? else {
                return Ok(None);
            };
            // The holder before us, which published or rebuilt it, has written the record once we
            // get the lock; and may have put another file in its place.
            archive.lock()?;
            if !is_still(&archive, &self.archive(key)?)? {
                continue;
            }
            return match self.fitting(key, &archive.metadata()?)? {
                Some(record) => Ok(Some((archive, record))),
                None => self.write_anew(key, &archive).map(Some),
            };
        }
    }

    /// Replaces an archive that no record fits by its copy, which is known to be durable.
    ///
    /// What left it there (a process that was killed just then or failed by the disk, or an
    /// operator by hand) may have seen a flush of it fail, and a second flush of the same file
    /// would not say so (fsync(2)): the kernel has forgotten what it could not write. So it is
    /// read, as it is now, and written to a file that no flush has failed for. Needs room for a
    /// second one while it lasts.
    pub(super) fn write_anew(
        &self,
        key: &Key,
        archive: &File,
    ) -> io::Result<(File, ReceiptRecord)> {
        let (path, before) = (self.archive(key)?, archive.metadata()?);
        let mut copy = TemporaryFile::create(self.scratch_path())?;
        let (mut from, mut buffer) = (archive, vec![0; COPY_BYTES]);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => copy.append(&buffer[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        copy.pass_for(&before)?;
        let sha256 = copy.digest();
        let after = archive.metadata()?;
        let unchanged = (after.len(), after.modified()?) == (before.len(), before.modified()?);
        // Nothing but what was read is replaced. Uploads never take a name that is taken, so only a
        // person can come between this look and the rename.
        if !unchanged || !is_still(archive, &path)? {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "an archive changed while it was read",
            ));
        }
        self.make_room_for(key.host.as_ref())?;
        let (content, owner) = self.learnt_of(key, sha256, after.len())?;
        let copy = copy.replace(&path)?;
        let record = ReceiptRecord::new(key.id.clone(), sha256, content, owner, &copy.metadata()?);
        tracing::info!(%key, size_bytes = after.len(), "wrote the archive of {key} anew, which had no fitting receipt");
        self.remember(key, &record)?;
        Ok((copy, record))
    }

    /// What a record that does not fit still says of an archive with this digest. A store that was
    /// copied may have lost the times of its archives, by which their records fit; whose they are
    /// stands nowhere else. Of other bytes it says nothing, but that these are not what was stored.
    fn learnt_of(
        &self,
        key: &Key,
        sha256: Digest,
        size_bytes: u64,
    ) -> io::Result<(Content, Option<HostName>)> {
        let Some(record) = self.noted(key)? else {
            return Ok((Content::Unknown, None));
        };
        let (stored, stored_bytes) = record.noted();
        Ok(record.of_the_same_bytes(sha256).unwrap_or_else(|| {
            tracing::error!(
                %key, %stored, stored_bytes, now = %sha256, size_bytes,
                "the archive of {key} in the store has rotted, was cut off or replaced: {stored_bytes} bytes of SHA-256 {stored} \
                 were stored, and {size_bytes} of {sha256} are there"
            );
            (Content::Unknown, None)
        }))
    }

    pub(super) fn verify(&self, key: &Key, work: &Progress) -> io::Result<Option<StoredEpisode>> {
        let Some((archive, record)) = self.locked(key)? else {
            return Ok(None);
        };
        let held = record.into_held(key);
        if held.content.is_settled() {
            return Ok(Some(held));
        }
        archive.unlock()?;
        (&archive).rewind()?;
        let most_bytes = record::most_content_bytes(held.size_bytes);
        let content = record::decompress_and_hash(&archive, most_bytes, work)?;
        if let Content::Claimed(claimed) = held.content
            && content != Content::Verified(claimed)
        {
            tracing::warn!(%key, %claimed, ?content, "the archive of {key} has not the content that was claimed ({claimed})");
        }
        self.amend(key, &archive, |record| record.with_content(content))
    }

    pub(super) fn reread(&self, key: &Key, work: &Progress) -> io::Result<Option<StoredEpisode>> {
        let Some((archive, record)) = self.locked(key)? else {
            return Ok(None);
        };
        archive.unlock()?;
        // What is in memory is not what the disk has. Where the kernel does not take the advice, it
        // is all there is.
        let _ = fadvise(&archive, 0, None, Advice::DontNeed);
        (&archive).rewind()?;
        let sha256 = progress::hash(&archive, work)?.into();
        let held = record.into_held(key);
        if held.sha256 == sha256 {
            return Ok(Some(held));
        }
        tracing::error!(
            %key, stored = %held.sha256, now = %sha256,
            "the archive of {key} in the store has rotted: its SHA-256 was {} when it was stored, and is {sha256}",
            held.sha256
        );
        self.amend(key, &archive, |record| record.with_digest(sha256))
    }

    pub(super) fn claim(&self, key: &Key, owner: &HostName) -> io::Result<Option<StoredEpisode>> {
        let Some((archive, record)) = self.locked(key)? else {
            return Ok(None);
        };
        if record.owner(key.host.as_ref()).is_some() {
            return Ok(Some(record.into_held(key)));
        }
        let record = record.with_owner(owner.clone());
        self.remember(key, &record)?;
        drop(archive);
        Ok(Some(record.into_held(key)))
    }

    /// Changes what is noted of an archive that was looked at without the lock, if that still
    /// stands there; says what is held now.
    fn amend(
        &self,
        key: &Key,
        looked_at: &File,
        change: impl FnOnce(ReceiptRecord) -> ReceiptRecord,
    ) -> io::Result<Option<StoredEpisode>> {
        let Some((archive, mut record)) = self.locked(key)? else {
            return Ok(None);
        };
        if is_still(looked_at, &self.archive(key)?)? {
            record = change(record);
            self.remember(key, &record)?;
        }
        drop(archive);
        Ok(Some(record.into_held(key)))
    }

    /// Writes what is noted of an archive. An owner is written durably, since nothing else knows
    /// it; all else can be read off the archive again, and the archive is held whether or not that
    /// is written.
    pub(super) fn remember(&self, key: &Key, record: &ReceiptRecord) -> io::Result<()> {
        let (path, json) = (self.record(key)?, record.to_json());
        if record.has_owner() {
            return durable::write_file_by_way_of(&self.scratch_path(), &path, &json);
        }
        if let Err(error) = durable::write_rebuildable_file(&path, &self.scratch_path(), &json) {
            tracing::warn!(%key, %error, "cannot write the receipt beside the archive of {key}: {error}; it will be hashed again");
        }
        Ok(())
    }

    pub(super) fn probe(&self) -> io::Result<()> {
        let mut probe = TemporaryFile::create(self.scratch_path())?;
        probe.append(b"probe")?;
        probe.sync()
    }
}

/// The episode that an archive's file name stands for; `None` for any other name.
pub(super) fn episode_of(name: &std::ffi::OsStr) -> Option<EpisodeId> {
    let stem = name.to_str()?.strip_suffix(ARCHIVE_SUFFIX)?;
    let id = EpisodeId::from_percent_encoded(stem).ok()?;
    // Another spelling of the same id is not where we would look for it.
    (id.percent_encoded() == stem).then_some(id)
}

fn misfit(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
