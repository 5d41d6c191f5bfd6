//! Looks that come before a step: whose archive lies under a name that is to be used, and whether
//! what waits to be sent is still what was packed.

use std::{fs::File, io, path::Path, time::Duration};

use tokio::time::Instant;

use super::workers::{PANICKED, Workers, content_of};
use crate::{
    clock,
    disk::{filesystem::may_be_replaced_unseen, scan, tree},
    model::{
        episode::{EpisodeId, Fingerprint, FolderLook},
        progress::Progress,
    },
    ship::{
        machine::{Event, step_result::Packed},
        orphan::{self, Settled, Why},
        outbox::{self, AtHand},
        outcome::{Fault, Stale},
        shipped_lookup::StepContext,
    },
};

/// How often at most an episode is read for attempts that are made again and again. Before it is
/// moved it is read in any case.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(300);

impl Workers {
    /// Whether anything may be written or cleared under this name in the outbox. What another
    /// episode of that name has left there is put aside first.
    ///
    /// # Errors
    /// In a sentence: it could not be put aside, and nothing may be written or cleared.
    pub(super) fn make_way(
        &self,
        id: &EpisodeId,
        packed: &Packed,
        progress: &Progress,
    ) -> Result<(), String> {
        self.make_way_for(id, Some(packed.fingerprint), Some(packed), progress)
    }

    /// As [`Workers::make_way`], where it was not packed.
    pub(super) fn make_way_for(
        &self,
        id: &EpisodeId,
        fingerprint: Option<Fingerprint>,
        packed: Option<&Packed>,
        progress: &Progress,
    ) -> Result<(), String> {
        let directory = self.layout.episode(id);
        let at_hand = AtHand {
            id,
            directory: &directory,
            fingerprint,
            content_sha256: packed.map(|packed| packed.facts.content_sha256),
            folder: packed
                .and_then(|packed| packed.folder)
                .or_else(|| tree::folder_id(&directory)),
        };
        let make = || -> io::Result<()> {
            if outbox::is_of(&self.layout, &at_hand, progress)? {
                return Ok(());
            }
            self.have(&self.layout.quarantine)
                .map_err(io::Error::other)?;
            let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
            let step = StepContext::new(&self.layout, id, &content_of, progress);
            let settled = orphan::make_way(&step, clock::wall_now())?;
            if let Settled::PutAside(_, Why::LastCopy | Why::Changed) = settled {
                self.report(Event::PutAside(id.clone()));
            }
            Ok(())
        };
        make().map_err(|error| {
            let archive = self.layout.archive(id);
            if let Some(what) = outbox::in_the_way(&archive) {
                return what;
            }
            format!(
                "{} is of another episode of that name, may be the last copy of it, and cannot be put aside in quarantine/: {error}",
                tree::shown(&archive)
            )
        })
    }

    /// Why what was packed is not sent, where it is not what stands there now.
    pub(super) async fn look_again(
        &self,
        id: &EpisodeId,
        packed: &Packed,
        progress: &Progress,
    ) -> Option<Fault> {
        let (workers, id, packed, progress) =
            (self.clone(), id.clone(), packed.clone(), progress.clone());
        let look = move || match scan::look(&workers.layout.episodes, &id) {
            FolderLook::Sealed(_) => match workers.has_stayed(&id, &packed, &progress) {
                Ok(true) => None,
                Ok(false) => Some(Fault::Stale(Stale::Changed)),
                Err(_) if progress.check().is_err() => Some(Fault::Cancelled),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Some(Fault::Stale(Stale::Unsealed(FolderLook::Gone)))
                }
                Err(error) => Some(Fault::Stale(Stale::Unsealed(FolderLook::Unreadable(
                    error.to_string(),
                )))),
            },
            look => Some(Fault::Stale(Stale::Unsealed(look))),
        };
        let panicked = || {
            Some(Fault::Stale(Stale::Unsealed(FolderLook::Unreadable(
                PANICKED.to_owned(),
            ))))
        };
        tokio::task::spawn_blocking(look)
            .await
            .unwrap_or_else(|_| panicked())
    }

    /// It was read whole just now.
    pub(super) fn note_read(&self, id: &EpisodeId) {
        if File::open(self.layout.episode(id)).is_ok_and(|folder| may_be_replaced_unseen(&folder)) {
            self.known
                .read_again
                .lock()
                .insert(id.clone(), Instant::now());
        }
    }

    /// Whether an episode is what was packed, as far as stamps tell. Where they say nothing it is
    /// read and compared as well, unless that was done a short time ago.
    fn has_stayed(&self, id: &EpisodeId, packed: &Packed, progress: &Progress) -> io::Result<bool> {
        let directory = self.layout.episode(id);
        let Some(now) = tree::look(&directory, progress)? else {
            return Ok(false);
        };
        if !now.is(packed.fingerprint) || !now.may_be_swapped {
            return Ok(now.is(packed.fingerprint));
        }
        let read_at = self.known.read_again.lock().get(id).copied();
        if read_at.is_some_and(|at| at.elapsed() < READ_AGAIN_AFTER) {
            return Ok(true);
        }
        let is_it =
            content_of(id, &directory, &progress.beside())? == Some(packed.facts.content_sha256);
        if is_it {
            self.known
                .read_again
                .lock()
                .insert(id.clone(), Instant::now());
        }
        Ok(is_it)
    }
}
