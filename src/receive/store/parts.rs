//! The disk side of uploads on their way. Everything here blocks.
//!
//! ```text
//!  incoming/<unique>.part         the store's own scratch
//!  incoming/<key>.<unique>.part   an upload's bytes; each upload has a file of its own,
//!                                 so two of one key are no harm to each other
//!  incoming/<key>.json            the note: which of those is kept, and how far it is durable
//! ```
//!
//! The order in which an upload becomes a part: the file is flushed, then the note that says so is,
//! under its name. So a note never promises more than would survive a power cut, and what the file
//! has beyond the note is cut off when it goes on. A file without a note, and a note without a
//! file, are nothing, and swept.
//!
//! The process that writes a file holds a lock on it (flock(2)); the kernel takes the lock of a
//! killed process away. A sweep takes only what it can lock, and so does a newcomer.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    Part, PartKey, Publication,
    index::{NameLookup, Places},
    part::{Growing, PartFile, Reached, is_still, open_for_lock},
    part_manifest::{self, PartManifest},
    record::{self, ReceiptRecord},
};
use crate::{
    disk::{
        durable::{self, Published},
        lookup::if_there,
    },
    receive::stored_episode::{Content, Offer},
};

pub(super) const PART_SUFFIX: &str = ".part";
const NOTE_SUFFIX: &str = ".json";

/// What became of the wish to go on.
#[derive(Debug)]
pub(super) enum OpenedPart {
    Growing(Growing),
    Elsewhere { offset: u64 },
    Nothing,
    Busy,
}

/// A kept file that no other upload writes, as its note says.
enum TakenPart {
    Part(Box<PartManifest>, File, PathBuf),
    Nothing,
    Busy,
}

impl Places {
    fn note_path(&self, part: &PartKey) -> PathBuf {
        self.incoming
            .join(format!("{}{NOTE_SUFFIX}", part_manifest::name_of(part)))
    }

    /// Takes the next bytes; with the first ones, what was kept under the key before is gone.
    pub(super) fn append(
        &self,
        growing: Option<Growing>,
        part: &PartKey,
        batch: &[u8],
    ) -> io::Result<Growing> {
        let mut growing = match growing {
            Some(growing) => growing,
            None => {
                self.discard(part)?;
                let name = format!("{}.{}", part_manifest::name_of(part), self.unique());
                Growing::create(self.incoming.join(name), self.note_path(part))?
            }
        };
        growing.append(batch)?;
        Ok(growing)
    }

    /// Flushes what has arrived, beside the writer, and notes it; an error condemns the file.
    pub(super) fn slice(
        &self,
        file: &PartFile,
        part: &PartKey,
        offer: &Offer,
        reached: &Reached,
        is_current: impl Fn() -> bool,
    ) -> io::Result<()> {
        file.sync_slice().inspect_err(|_| file.condemn())?;
        if !is_current() {
            return Ok(());
        }
        let note = PartManifest::new(part, offer, file.name(), reached);
        file.note(&note, &self.scratch_path())
            .inspect_err(|error| file.refused(error))
    }

    /// Makes durable all that has arrived, and lets it stand, unless the whole is held by now: then
    /// no client goes on with it.
    pub(super) fn keep(&self, growing: &Growing, part: &PartKey, offer: &Offer) -> io::Result<u64> {
        let Growing { file, reached } = growing;
        let note = PartManifest::new(part, offer, file.name(), reached);
        // A disk that failed once is not asked again about the same file.
        file.sync().inspect_err(|_| file.condemn())?;
        file.note(&note, &self.scratch_path())
            .inspect_err(|error| file.refused(error))?;
        if self.is_held(part) {
            file.condemn();
            return Ok(reached.offset);
        }
        file.let_stand();
        self.vouched.remember(part, &file.metadata()?, reached);
        Ok(reached.offset)
    }

    /// Gives it its name. Whatever comes of it, no part is left.
    pub(super) fn publish(
        &self,
        growing: &Growing,
        part: &PartKey,
        offer: &Offer,
    ) -> io::Result<Publication> {
        let Growing { file, .. } = growing;
        // Its own name goes, and with it the note.
        file.condemn();
        self.vouched.forget(part);
        let received = growing.digest();
        if received != offer.sha256 {
            return Ok(Publication::DigestMismatch { received });
        }
        self.make_room_for(part.key.host.as_ref())?;
        if file.publish(&self.archive(&part.key)?)? == Published::NameTaken {
            if self.is_held(part) {
                self.discard_needless(part);
            }
            return Ok(Publication::NameTaken);
        }
        let content = offer
            .content_sha256
            .map_or(Content::Unknown, Content::Claimed);
        let owner = part.owner.clone().filter(|_| part.key.host.is_none());
        let record = ReceiptRecord::new(
            part.key.id.clone(),
            received,
            content,
            owner,
            &file.metadata()?,
        );
        self.remember(&part.key, &record)?;
        self.discard_needless(part);
        Ok(Publication::Stored(record.into_held(&part.key)))
    }

    /// Whether the whole of an upload is known to be held, be it by way of another.
    pub(super) fn is_held(&self, part: &PartKey) -> bool {
        !part.is_planned
            && matches!(self.look(&part.key), Ok(NameLookup::Known(held, _)) if held.sha256 == part.sha256)
    }

    /// What another upload of the same key has kept, once it is held. One that is still written
    /// sees to it itself when it ends.
    fn discard_needless(&self, part: &PartKey) {
        if let Err(error) = self.discard(part) {
            tracing::warn!(%part, %error, "cannot remove what was kept of an upload that is complete by now ({part}): {error}; it is swept later");
        }
    }

    /// What is kept, without a lock: it may be gone, or more, the moment after.
    pub(super) fn part(&self, part: &PartKey) -> io::Result<Option<Part>> {
        let Some(note) = self.note_of(part) else {
            return Ok(None);
        };
        let file = if_there(self.incoming.join(note.file()).symlink_metadata())?;
        Ok(file
            .filter(|file| file.len() >= note.part().offset)
            .map(|_| note.part()))
    }

    /// Goes on at `at`, if that is where it stands.
    pub(super) fn go_on(&self, part: &PartKey, offer: &Offer, at: u64) -> io::Result<OpenedPart> {
        let (note, file, path) = match self.take(part)? {
            TakenPart::Part(note, file, path) => (note, file, path),
            TakenPart::Nothing => return Ok(OpenedPart::Nothing),
            TakenPart::Busy => return Ok(OpenedPart::Busy),
        };
        let Part {
            offer: begun_with,
            offset,
        } = note.part();
        if begun_with != *offer {
            return Ok(OpenedPart::Nothing);
        }
        if offset != at {
            return Ok(OpenedPart::Elsewhere { offset });
        }
        let Some(reached) = self.reached(&note, &file)? else {
            tracing::error!(%part, offset, "what was kept of an upload ({part}, {offset} bytes) is not what was noted of it; it begins anew");
            self.throw_away(part, &path)?;
            return Ok(OpenedPart::Nothing);
        };
        let growing = Growing::go_on(file, path, self.note_path(part), reached)?;
        // A client that has not waited so long finds it read when it comes back.
        self.vouched
            .remember(part, &growing.file.metadata()?, &growing.reached);
        Ok(OpenedPart::Growing(growing))
    }

    /// The hash over what is kept, which is read again unless this process knows it; `None` where
    /// that is not what was noted.
    fn reached(&self, note: &PartManifest, file: &File) -> io::Result<Option<Reached>> {
        let (metadata, offset) = (file.metadata()?, note.part().offset);
        let known = self.vouched.recall(&note.part_key(), &metadata, offset);
        let reached = match known {
            Some(reached) => reached,
            None if metadata.len() < offset => return Ok(None),
            None => Reached {
                offset,
                hasher: record::hash_to_go_on(file.take(offset))?,
            },
        };
        Ok(note.is_of(&reached.hasher).then_some(reached))
    }

    /// Throws away what is kept. False where another process, or an upload that was begun before
    /// ours, writes it.
    pub(super) fn discard(&self, part: &PartKey) -> io::Result<bool> {
        match self.take(part)? {
            TakenPart::Part(_, _locked, path) => self.throw_away(part, &path).map(|()| true),
            TakenPart::Nothing => Ok(true),
            TakenPart::Busy => Ok(false),
        }
    }

    /// The note first: without it the file is nothing.
    fn throw_away(&self, part: &PartKey, path: &Path) -> io::Result<()> {
        self.vouched.forget(part);
        durable::remove_file(&self.note_path(part))?;
        durable::remove_file(path)
    }

    fn note_of(&self, part: &PartKey) -> Option<PartManifest> {
        PartManifest::read(&self.note_path(part)).filter(|note| note.part_key() == *part)
    }

    fn take(&self, part: &PartKey) -> io::Result<TakenPart> {
        loop {
            let Some(note) = self.note_of(part) else {
                return Ok(TakenPart::Nothing);
            };
            let path = self.incoming.join(note.file());
            let Some(file) = if_there(open_for_lock(&path))? else {
                return Ok(TakenPart::Nothing);
            };
            if !lock(&file)? {
                return Ok(TakenPart::Busy);
            }
            // The upload that had the lock before us may have gone on, or thrown it away, since the
            // note was read.
            if self.note_of(part).as_ref() == Some(&note) && is_still(&file, &path)? {
                return Ok(TakenPart::Part(Box::new(note), file, path));
            }
        }
    }

    pub(super) fn sweep(
        &self,
        before_temporaries: SystemTime,
        before_parts: SystemTime,
    ) -> io::Result<usize> {
        let mut swept = 0;
        for entry in std::fs::read_dir(&self.incoming)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            // Gone since it was listed: a sibling has published or swept it. Names that are not
            // ours are left alone.
            let metadata = entry.metadata().ok().filter(Metadata::is_file);
            let (Some(name), Some(metadata)) = (name.to_str(), metadata) else {
                continue;
            };
            let written = metadata.modified()?;
            let gone = if name.ends_with(PART_SUFFIX) {
                let note_path = self.incoming.join(format!(
                    "{}{NOTE_SUFFIX}",
                    name.split('.').next().unwrap_or(name)
                ));
                let kept = PartManifest::read(&note_path).is_some_and(|note| note.file() == name);
                let before = if kept {
                    before_parts
                } else {
                    before_temporaries
                };
                written < before && self.sweep_file(&path, before, kept.then_some(&*note_path))?
            } else if name.ends_with(NOTE_SUFFIX) {
                let kept = PartManifest::read(&path)
                    .is_some_and(|note| self.incoming.join(note.file()).exists());
                let gone = !kept && written < before_temporaries;
                if gone {
                    durable::remove_file(&path)?;
                }
                gone
            } else {
                false
            };
            swept += usize::from(gone);
        }
        Ok(swept)
    }

    /// Removes an old file, and its note, unless an upload writes it.
    fn sweep_file(&self, path: &Path, before: SystemTime, note: Option<&Path>) -> io::Result<bool> {
        let Some(file) = if_there(open_for_lock(path))? else {
            return Ok(false);
        };
        // Looked at again under the lock: it may have been gone on with since.
        if !lock(&file)? || file.metadata()?.modified()? >= before {
            return Ok(false);
        }
        for path in note.into_iter().chain([path]) {
            durable::remove_file(path)?;
        }
        Ok(true)
    }

    /// Every note that has a file, and the file's length, bytes.
    pub(super) fn parts(&self) -> io::Result<BTreeMap<PartKey, u64>> {
        let mut parts = BTreeMap::new();
        for entry in std::fs::read_dir(&self.incoming)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
                && let Some(note) = PartManifest::read(&path)
                && let Ok(file) = self.incoming.join(note.file()).symlink_metadata()
            {
                parts.insert(note.part_key(), file.len());
            }
        }
        Ok(parts)
    }
}

/// Whether it could be locked; false where another holder has it.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
