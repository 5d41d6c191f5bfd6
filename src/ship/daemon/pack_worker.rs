//! Packing: into the outbox, where there is room; else into nothing, to be packed again into each
//! upload.

use std::{io, path::Path, time::Duration};

use tokio::time::Instant;

use super::workers::{ScratchArchive, Workers, content_of};
use crate::{
    clock,
    disk::{
        durable,
        filesystem::used_up,
        meta,
        open_files::{OpenFileProbe, Writers},
        scan,
        tree::{self, Entry, Kind},
    },
    model::{
        episode::{EpisodeId, Fingerprint, FolderLook},
        progress::Progress,
        records::ManifestCheck,
    },
    ship::{
        archive::{
            Archive,
            on_demand::{Nowhere, Pour},
        },
        machine::{
            step_result::{Check, OpenFilePolicy, PackFailure, Packed},
            storage::outbox_space::{Need, Short},
        },
        outbox,
        pack::{self, PackError},
        room::{Reservation, Reserved},
        shipped_lookup::StepContext,
    },
};

impl Workers {
    /// Packs it into the outbox.
    pub(super) fn pack(
        &self,
        id: &EpisodeId,
        open_files: OpenFilePolicy,
        progress: &Progress,
    ) -> Result<Packed, PackFailure> {
        self.known.scratch.lock().remove(id);
        self.known.changed.forget_where_gone(id);
        let options = pack::PackOptions {
            open_files,
            ..self.pack
        };
        self.have(&self.layout.outbox)
            .map_err(PackFailure::Outbox)?;
        outbox::forget_note(&self.layout, id);
        let outbox = &self.layout.outbox;
        let (room, need_bytes, fingerprint) = match self.reserve(id, open_files, progress) {
            Ok(Ok(reserved)) => reserved,
            Ok(Err(short)) => return Err(PackFailure::Short(short.to_string())),
            Err(error) => return Err(self.failure(id, error)),
        };
        let partial = self.layout.partial(id);
        let (writer, archive) = Archive::create(&partial).map_err(|error| {
            outbox::in_the_way(&partial)
                .map_or_else(|| unwritable(outbox, &error), PackFailure::Outbox)
        })?;
        self.may_be_sent(id, &archive, need_bytes, fingerprint);
        let packed = pack::pack(
            id,
            &self.layout.episode(id),
            Reserved::new(writer, room),
            &options,
            progress,
        );
        self.known.growing.lock().remove(id);
        match packed {
            Ok(packed) => {
                self.known.stats.lock().packed_content_bytes += packed.uncompressed_bytes;
                let packed = self.told(id, packed);
                self.known.scratch.lock().insert(
                    id.clone(),
                    ScratchArchive {
                        archive,
                        measured: None,
                    },
                );
                Ok(packed)
            }
            Err(error) => {
                let full = matches!(&error, PackError::Outbox(error) if durable::is_full(error));
                // What is another's stays: where there is no room, there is none to put it aside
                // either.
                let in_the_way = full && self.make_way_for(id, None, None, progress).is_ok();
                outbox::give_up(&self.layout, id, in_the_way);
                Err(self.failure(id, error))
            }
        }
    }

    /// Packs it into nothing, so that it can be packed again into each upload.
    pub(super) fn measure(
        &self,
        id: &EpisodeId,
        open_files: OpenFilePolicy,
        progress: &Progress,
    ) -> Result<Packed, PackFailure> {
        self.known.scratch.lock().remove(id);
        let (directory, options) = (
            self.layout.episode(id),
            pack::PackOptions {
                open_files,
                ..self.pack
            },
        );
        // Before any of it is read: it may be large.
        self.walk_before_packing(id, open_files, progress, |_| ())
            .map_err(|error| self.failure(id, error))?;
        let packed = pack::pack(id, &directory, Nowhere::default(), &options, progress)
            .map_err(|error| self.failure(id, error))?;
        self.known.stats.lock().packed_content_bytes += packed.uncompressed_bytes;
        let packed = self.told(id, packed);
        self.make_way(id, &packed, progress)
            .map_err(PackFailure::Outbox)?;
        // An older archive has no successor that would take its place, and the episode has just
        // been read whole.
        if let Err(error) = outbox::clear(&self.layout, id) {
            tracing::debug!(EPISODE = %id, "an older archive stays in the outbox: {error}");
        }
        let pour = {
            let id = id.clone();
            // With the options that it was measured with, whatever a reload says meanwhile: they
            // are a part of its bytes.
            Pour::new(move |pipe, progress| {
                match pack::pack(&id, &directory, pipe, &options, progress) {
                    Ok(packed) => Ok(packed.facts),
                    Err(PackError::Outbox(error)) => Err(error),
                    Err(error) => Err(io::Error::other(format!("{:#}", anyhow::Error::new(error)))),
                }
            })
        };
        let archive = Archive::poured(pour, packed.facts);
        self.known.scratch.lock().insert(
            id.clone(),
            ScratchArchive {
                archive,
                measured: Some(packed.clone()),
            },
        );
        Ok(packed)
    }

    /// Whether what there is of its archive still fits the episode.
    pub(super) fn check(&self, id: &EpisodeId, rehash: bool, progress: &Progress) -> Check {
        let receiver = self.transport.destination();
        let Some(measured) = self.measured(id) else {
            let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
            let step = StepContext::new(&self.layout, id, &content_of, progress);
            return outbox::check(&step, rehash, &receiver);
        };
        // Its bytes need no second look: they are compared each time that they are packed.
        match tree::is_still(&self.layout.episode(id), measured.fingerprint, progress) {
            Ok(true) => {
                let conflict = outbox::noted_conflict(&self.layout, id, &measured.facts, &receiver);
                Check::Fits(measured, conflict)
            }
            Ok(false) => Check::Unusable("the episode was changed after it was packed".to_owned()),
            Err(error) => Check::Unknown(format!(
                "it could not be compared with what was packed: {error}"
            )),
        }
    }

    /// Reserves the most that its archive can become; how much that is, bytes, and the episode as
    /// it was looked at for that.
    fn reserve(
        &self,
        id: &EpisodeId,
        open_files: OpenFilePolicy,
        progress: &Progress,
    ) -> Result<Result<(Reservation, u64, Fingerprint), Short>, PackError> {
        let mut need = Need::default();
        let fingerprint = self.walk_before_packing(id, open_files, progress, |entry| {
            let size_bytes = if let Kind::File(_) = entry.kind {
                entry.stat.size_bytes
            } else {
                0
            };
            need.entry(entry.path.len(), size_bytes);
        })?;
        let room =
            self.known
                .room
                .reserve(&self.layout.outbox, need.bytes(), self.free_bytes.outbox);
        let room = room.map_err(PackError::Outbox)?;
        Ok(room.map(|room| (room, need.bytes(), fingerprint)))
    }
}

impl Workers {
    /// Shows each entry, and refuses at the first file that is open for writing: an episode that
    /// waits for one costs this walk, or less, and no packing.
    fn walk_before_packing(
        &self,
        id: &EpisodeId,
        open_files: OpenFilePolicy,
        progress: &Progress,
        mut visit: impl FnMut(&Entry<'_>),
    ) -> Result<Fingerprint, PackError> {
        let directory = self.layout.episode(id);
        let probe = match open_files {
            OpenFilePolicy::WaitedFor => OpenFileProbe::below(&directory),
            OpenFilePolicy::Accepted => OpenFileProbe::never(),
        };
        // The one that was open before is most likely the one that is open still.
        if let Some(path) = self.known.open_files.last(id)
            && let Some(file) = tree::open_known(&directory, &path)
            && probe.writers(&file) == Writers::Open
        {
            return Err(PackError::OpenForWriting { path });
        }
        let walked = tree::walk(&directory, progress, |entry| {
            visit(&entry);
            pack::refuse_open_file(&entry, probe)
        })?;
        Ok(walked.to_remember())
    }

    /// How it failed, for the machine. What is known of open files is kept up to date.
    fn failure(&self, id: &EpisodeId, error: PackError) -> PackFailure {
        let PackError::OpenForWriting { path } = error else {
            self.known.open_files.forget(id);
            return failure(error, &self.layout.outbox);
        };
        let directory = self.layout.episode(id);
        let what = self
            .known
            .open_files
            .note(id, &directory, path, false, Instant::now());
        let sealed_for = match scan::look(&self.layout.episodes, id) {
            FolderLook::Sealed(stamp) => clock::age_of(stamp.made_ns).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        PackFailure::OpenForWriting { what, sealed_for }
    }

    /// What the machine needs to know of it. What was left out is told.
    fn told(&self, id: &EpisodeId, packed: pack::PackOutcome) -> Packed {
        self.known.open_files.forget(id);
        if packed.writers_untold && packed.manifest == ManifestCheck::None {
            self.known.open_files.note_untold();
        }
        self.note_read(id);
        told(id, packed)
    }
}

fn told(id: &EpisodeId, packed: pack::PackOutcome) -> Packed {
    if packed.left_out_count > 0 {
        let (count, what) = match packed.left_out_count {
            1 => (1, "FIFO, socket or device is"),
            more => (more, "FIFOs, sockets or devices are"),
        };
        tracing::warn!(
            EPISODE = %id, "{id}: {count} {what} left out of the archive, {} first", packed.left_out[0].display()
        );
    }
    if let Some(warning) = packed.links_out.warning() {
        tracing::warn!(EPISODE = %id, "{id}: {warning}");
    }
    match packed.meta_fault {
        // Not every lab names commits, and not every receiver asks for one.
        Some(fault @ meta::MetaFault::NoCommit(_)) => {
            tracing::info!(EPISODE = %id, "{id}: {fault}. It is sent without its commit");
        }
        Some(fault) => {
            tracing::warn!(EPISODE = %id, "{id}: {fault}. It is sent without its commit");
        }
        None => {}
    }
    let pack::PackOutcome {
        facts,
        fingerprint,
        folder,
        manifest,
        commit,
        open_files,
        ..
    } = packed;
    Packed {
        facts,
        fingerprint,
        folder: Some(folder),
        manifest,
        commit,
        open_files,
    }
}

fn failure(error: PackError, outbox: &Path) -> PackFailure {
    match error {
        PackError::Gone => PackFailure::Gone,
        PackError::Cancelled(_) => PackFailure::Cancelled,
        PackError::UnfinishedManifest { error, fingerprint } => {
            PackFailure::UnfinishedManifest(error, fingerprint)
        }
        PackError::Fault { error, fingerprint } => PackFailure::Fault(error, fingerprint),
        PackError::Outbox(error) => unwritable(outbox, &error),
        PackError::Changed { .. } | PackError::OpenForWriting { .. } => {
            PackFailure::Changed(error.to_string())
        }
        PackError::Episode { .. } | PackError::Mount { .. } | PackError::TooDeep { .. } => {
            PackFailure::Unreadable(format!("{:#}", anyhow::Error::new(error)))
        }
    }
}

fn unwritable(outbox: &Path, error: &io::Error) -> PackFailure {
    let what = used_up(outbox, error);
    let why = format!(
        "no archive can be written in {}: {error}{what}",
        tree::shown(outbox)
    );
    if durable::is_full(error) {
        PackFailure::Full(why)
    } else {
        PackFailure::Outbox(why)
    }
}
