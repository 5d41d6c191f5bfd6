//! What each step takes along, and what it gives back as an event. A worker that panics gives its
//! own episode's failure, and that of no other.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    FreeBytes, KeepDays, asides,
    folder_identity::Grounds,
    growth::{GrowingArchive, SentGrowing},
    idle_priority::at_idle_priority,
    look_back::Changed,
    open_files::OpenFileMemory,
    worker_stats::WorkerStats,
};

use crate::{
    clock,
    disk::{
        durable,
        filesystem::{self, used_up},
        open_files::OpenFileProbe,
        record_files,
        scan::{self, RootId, Stranger},
        tree::modes::Modes,
    },
    model::{
        episode::{Digest, EpisodeId},
        layout::Layout,
        progress::Progress,
        records::{ShippingReceipt, WallTime},
        text::{as_text, printable, word},
    },
    ship::{
        archive::Archive,
        machine::{
            Event, Scanned,
            destination::verdict::{Proof, Refusal, receivers_clock},
            step_result::{Moved, OrphanEnd, Packed, Reason},
        },
        orphan::{self, Settled, Why},
        outbox,
        outcome::{Attempt, Fault, Outcome},
        pack::{self, PackError},
        quarantine, retire,
        room::Room,
        shipped_lookup::StepContext,
        sweep::{edit_check::Edited, pressure::Pressure},
        transport::{Delivery, Transport},
    },
};

/// What a blocking worker takes along.
#[derive(Clone)]
pub(super) struct Workers {
    pub(super) layout: Arc<Layout>,
    pub(super) transport: Transport,
    pub(super) pack: pack::PackOptions,
    pub(super) free_bytes: FreeBytes,
    pub(super) keep_days: KeepDays,
    pub(super) events: UnboundedSender<Event>,
    /// What was found at the start, and what was heard since.
    pub(super) known: Arc<WorkerShared>,
}

/// Shared by the workers; never held across a disk operation.
#[derive(Debug, Default)]
pub(super) struct WorkerShared {
    /// Archives that have no final name yet, by their open files: no more than are packed ahead of
    /// the uploads. And those that lie nowhere.
    pub(super) scratch: Mutex<HashMap<EpisodeId, ScratchArchive>>,
    /// Archives that are packed, and may be sent meanwhile.
    pub(super) growing: Mutex<HashMap<EpisodeId, GrowingArchive>>,
    /// Those that are sent meanwhile.
    pub(super) sent_growing: Mutex<HashMap<EpisodeId, SentGrowing>>,
    /// What packings have reserved in the outbox.
    pub(super) room: Room,
    /// On their way to `shipped/`, or just arrived there: no worker may remove them.
    pub(super) retiring: Mutex<HashSet<EpisodeId>>,
    /// When an episode was last read whole, where its stamps say nothing.
    pub(super) read_again: Mutex<HashMap<EpisodeId, Instant>>,
    /// What is in `shipped/`, and is not what was delivered.
    pub(super) edited: Edited,
    /// Sealed episodes of which a file is open for writing.
    pub(super) open_files: OpenFileMemory,
    /// What was written to after it had arrived in `shipped/`.
    pub(super) changed: Changed,
    /// What disk pressure would take next from `shipped/`.
    pub(super) pressure: Mutex<Pressure>,
    /// Whether what was announced in `quarantine/`, in `shipped/`, was taken back since they are
    /// kept for ever.
    pub(super) taken_back: [AtomicBool; 2],
    /// The last answer's own clock.
    server_clock: Mutex<Option<ServerClock>>,
    /// When this process began.
    pub(super) began: Option<WallTime>,
    /// Which folder `episodes/` was at the start. While it is another, no archive is taken for an
    /// orphan.
    root: Option<RootId>,
    /// Which folders the others were.
    pub(super) grounds: Grounds,
    /// Where leftovers of a killed process are still to be looked at.
    leftovers: Mutex<Vec<PathBuf>>,
    /// A look around has come to its end.
    has_looked: AtomicBool,
    /// Why the last look around failed.
    pub(super) scan_trouble: Mutex<Option<String>>,
    /// Where the receivers that took an episode were: after a reload, the next attempt may go
    /// elsewhere.
    delivered_to: Mutex<HashMap<EpisodeId, String>>,
    /// Names that are no ids, told once each.
    strangers: Mutex<HashSet<OsString>>,
    /// What the daemon's report tells of all this.
    pub(super) stats: Mutex<WorkerStats>,
}

/// What time it was where an answer came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock {
    pub(super) date: WallTime,
    /// When it came.
    pub(super) heard: Instant,
    /// It came from this very host, so both are wrong where one is.
    pub(super) is_ours: bool,
}

/// An archive without a final name.
#[derive(Debug, Clone)]
pub(super) struct ScratchArchive {
    pub(super) archive: Archive,
    /// It lies nowhere; what it was when it was measured.
    pub(super) measured: Option<Packed>,
}

impl WorkerShared {
    pub(super) fn new(root: Option<RootId>, grounds: Grounds, leftovers: Vec<PathBuf>) -> Self {
        let leftovers = Mutex::new(leftovers);
        Self {
            root,
            grounds,
            leftovers,
            began: Some(clock::wall_now()),
            ..Self::default()
        }
    }

    /// Whether this is the folder that `episodes/` was at the start.
    pub(super) fn is_root(&self, episodes: &Path) -> bool {
        self.root
            .is_some_and(|root| scan::root_id(episodes).is_ok_and(|now| now == root))
    }

    /// The last answer's own clock.
    pub(super) fn server_clock(&self) -> Option<ServerClock> {
        *self.server_clock.lock()
    }
}

/// What is said of an episode whose worker panicked; the panic itself is in the log before it.
pub(super) const PANICKED: &str = "a fault in Sealift itself, see the log above; please report it";

impl Workers {
    pub(super) fn report(&self, event: Event) {
        // The loop has ended: what was done is on disk, and the next start finds it.
        let _ = self.events.send(event);
    }

    /// Runs a step on a blocking thread and reports what it gives; `panicked` where it gives
    /// nothing.
    pub(super) fn step(
        self,
        step: impl FnOnce(&Self) -> Event + Send + 'static,
        panicked: impl FnOnce() -> Event + Send + 'static,
    ) {
        tokio::task::spawn_blocking(move || {
            let event =
                catch_unwind(AssertUnwindSafe(|| step(&self))).unwrap_or_else(|_| panicked());
            self.report(event);
        });
    }

    pub(super) fn scan(&self, progress: &Progress) -> Option<Scanned> {
        self.keep_spares();
        let has_outbox = self.have_all().is_ok();
        let mut leftovers = std::mem::take(&mut *self.known.leftovers.lock());
        self.tell_left_aside(asides::settle(&self.layout, &mut leftovers, progress));
        *self.known.leftovers.lock() = leftovers;
        self.known.changed.forget_what_is_gone();
        let rooms = filesystem::rooms(&self.layout.named());
        self.known.stats.lock().runway.note(rooms, Instant::now());
        let found = scan::scan(&self.layout, progress);
        self.tell_trouble(found.as_ref().err());
        self.known.stats.lock().note_look(found.as_ref());
        let mut found = found.ok()?;
        // What went away is told again should it come back; the list does not grow for years.
        let here: HashSet<_> = found
            .strangers
            .iter()
            .map(|stranger| stranger.name.clone())
            .collect();
        let told = std::mem::replace(&mut *self.known.strangers.lock(), here);
        for Stranger { name, why, .. } in &found.strangers {
            if !told.contains(name) {
                tracing::warn!(
                    "{} in episodes/ is left alone: {why}",
                    printable(&name.to_string_lossy())
                );
            }
        }
        let mistaken = found
            .strangers
            .iter()
            .filter(|stranger| stranger.sealed)
            .count() as u64;
        let same_root = self.known.root == Some(found.root);
        let stranded = if same_root || !has_outbox {
            0
        } else {
            found.without_episode().count() as u64
        };
        self.tell_stranded(stranded);
        if !(same_root && has_outbox) {
            found.archives.clear();
            found.unlabelled.clear();
            found.noted.clear();
        }
        Some(Scanned {
            episodes: found.episodes,
            tried: self.tried_before(&found.archives, progress),
            archives: found.archives,
            unlabelled: found.unlabelled,
            noted: found.noted,
            mistaken,
            stranded,
        })
    }

    /// Which of these a process before this one has sent in vain. Asked once: from then on this one
    /// knows.
    fn tried_before(&self, archives: &[EpisodeId], progress: &Progress) -> Vec<(EpisodeId, u64)> {
        if self.known.has_looked.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let tried_at = |id: &EpisodeId| {
            progress.step();
            let sidecar = record_files::sidecar(&self.layout, id).ok().flatten();
            sidecar.and_then(|sidecar| sidecar.tried_at_wall)
        };
        let tried = archives
            .iter()
            .filter_map(|id| Some((id.clone(), tried_at(id)?)));
        tried
            .map(|(id, at)| (id, u64::try_from(at.unix_seconds()).unwrap_or(0)))
            .collect()
    }

    /// What was measured of an episode that is sent without a copy in the outbox.
    pub(super) fn measured(&self, id: &EpisodeId) -> Option<Packed> {
        self.known
            .scratch
            .lock()
            .get(id)
            .and_then(|scratch| scratch.measured.clone())
    }

    /// From now on nothing uses what was packed.
    pub(super) fn let_go(&self, id: &EpisodeId) {
        self.known.scratch.lock().remove(id);
        self.known.delivered_to.lock().remove(id);
        self.known.sent_growing.lock().remove(id);
        self.known.read_again.lock().remove(id);
        self.known.open_files.forget(id);
    }

    pub(super) fn discard(&self, id: &EpisodeId) {
        let [partial, plan] = [self.layout.partial(id), self.layout.plan(id)];
        let removed = durable::remove_file(&partial).and_then(|()| durable::remove_file(&plan));
        if let Err(error) = removed {
            tracing::debug!(EPISODE = %id, "scratch stays until the next start: {error}");
        }
    }

    pub(super) fn keep(
        &self,
        id: &EpisodeId,
        packed: &Packed,
        conflict: Option<&Refusal>,
        tried: bool,
        progress: &Progress,
    ) -> Result<(), String> {
        let archive = self
            .known
            .scratch
            .lock()
            .get(id)
            .map(|scratch| scratch.archive.clone());
        let now = clock::wall_now();
        let receiver = self.transport.destination();
        let conflict = conflict.map(|refusal| (refusal, &receiver));
        let said = outbox::Said { conflict, tried };
        let way = self
            .have(&self.layout.outbox)
            .and_then(|()| self.make_way(id, packed, progress));
        if let (Some(conflict), Some(_)) = (conflict, self.measured(id)) {
            let noted =
                way.and_then(|()| outbox::note_conflict(&self.layout, id, packed, conflict, now));
            return noted.inspect_err(|why| {
                tracing::warn!(EPISODE = %id, "{why}. It is tried again; until then a restart sends {id} once more.");
            });
        }
        let kept = way.and_then(|()| {
            outbox::keep(
                &self.layout,
                id,
                archive.as_ref(),
                packed,
                said,
                now,
                progress,
            )
        });
        // It has its final name, or cannot be trusted: either way the open file is not needed any
        // more.
        self.known.scratch.lock().remove(id);
        kept
    }

    pub(super) async fn send(
        &self,
        id: &EpisodeId,
        packed: &Packed,
        resume: bool,
        progress: Progress,
    ) -> Attempt {
        let scratch = self.known.scratch.lock().get(id).cloned();
        let archive = match scratch {
            Some(scratch) => scratch.archive,
            None => match outbox::open(&self.layout, id, &packed.facts) {
                Ok(archive) => archive,
                Err(error) => return Outcome::Failed(Fault::Archive(error.to_string())).into(),
            },
        };
        let sent_growing = self.sent_growing(id, packed, resume, &progress).await;
        let (facts, commit) = (packed.facts, packed.commit.clone());
        let delivery = Delivery {
            id: id.clone(),
            archive,
            facts,
            commit,
            resume,
            sent_growing,
            progress,
        };
        let looking = delivery.progress.clone();
        let mut attempt = self.transport.deliver(delivery).await;
        self.compare_lengths(id, &packed.facts, &mut attempt, looking)
            .await;
        if let Outcome::Answered(answer) = &attempt.outcome {
            if let Some(date) = receivers_clock(answer) {
                let (heard, is_ours) = (Instant::now(), answer.of_this_host);
                *self.known.server_clock.lock() = Some(ServerClock {
                    date,
                    heard,
                    is_ours,
                });
            }
            if (200..300).contains(&answer.status) {
                self.known
                    .delivered_to
                    .lock()
                    .insert(id.clone(), self.transport.url_of(id));
            }
        }
        attempt
    }

    pub(super) fn retire(
        &self,
        id: &EpisodeId,
        packed: &Packed,
        proof: &Proof,
        progress: &Progress,
    ) -> Moved {
        if let Some(waits) = self.still_open(id, progress) {
            return waits;
        }
        let delivered_to = self.known.delivered_to.lock().get(id).cloned();
        let retirement = retire::Retirement {
            proof,
            facts: &packed.facts,
            fingerprint: packed.fingerprint,
            manifest: packed.manifest,
            open_files: &packed.open_files,
            receiver: &delivered_to.unwrap_or_else(|| self.transport.url_of(id)),
            delivered_at: clock::wall_now(),
            clock_believed: self.clock_is_believed(),
        };
        let way = self.have(&self.layout.shipped);
        if let Err(why) = way.and_then(|()| self.make_way(id, packed, progress)) {
            return Moved::Failed(format!("delivered, but it cannot be moved: {why}"));
        }
        if let Err(why) = self.note_what_lies_nowhere(id, packed) {
            return Moved::Failed(why);
        }
        let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
        // Until the look after the move is over, what was written to it on its way may be nowhere
        // else.
        self.known.retiring.lock().insert(id.clone());
        let step = StepContext::new(&self.layout, id, &content_of, progress);
        let retire = || retire::retire(&step, &retirement);
        let mut moved = retire();
        if matches!(moved, Moved::NoRoom { .. }) && self.gives_room(id, packed) {
            moved = retire();
        }
        let moved = self.or_leaving(id, moved);
        self.known.retiring.lock().remove(id);
        if let Moved::To(path) | Moved::Leaving(path) = &moved {
            self.remember_shipped(path, packed, progress);
        }
        if !matches!(
            moved,
            Moved::Failed(_) | Moved::CannotHold(_) | Moved::NoRoom { .. } | Moved::Open { .. }
        ) {
            self.known.scratch.lock().remove(id);
            self.known.read_again.lock().remove(id);
            // Packed again to the same bytes, it is moved without being sent again.
            if !matches!(moved, Moved::Changed) {
                self.known.delivered_to.lock().remove(id);
            }
        }
        self.noted(id, moved)
    }

    pub(super) fn quarantine(&self, id: &EpisodeId, reason: &Reason, progress: &Progress) -> Moved {
        if let Some(waits) = self.still_open(id, progress) {
            return waits;
        }
        self.known.scratch.lock().remove(id);
        self.known.delivered_to.lock().remove(id);
        let way = self.have(&self.layout.quarantine);
        let judged = Some(reason.fingerprint);
        if let Err(why) = way.and_then(|()| self.make_way_for(id, judged, None, progress)) {
            return Moved::Failed(format!(
                "rejected ({}), but it cannot be moved: {why}",
                reason.error
            ));
        }
        let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
        let (now, believed) = (clock::wall_now(), self.clock_is_believed());
        let step = StepContext::new(&self.layout, id, &content_of, progress);
        let moved = quarantine::quarantine(&step, reason, now, believed);
        self.noted(id, self.or_leaving(id, moved))
    }

    pub(super) fn settle_orphan(
        &self,
        id: &EpisodeId,
        displaced: bool,
        progress: &Progress,
    ) -> OrphanEnd {
        let Some(root) = self.known.root else {
            return OrphanEnd::Settled;
        };
        // What is not seen in another folder says nothing.
        if let Err(why) = self.have_all() {
            tracing::warn!(EPISODE = %id, "The archive of {id} in the outbox stays as it is for now: {why}");
            return OrphanEnd::Unsettled(why);
        }
        let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
        let step = StepContext::new(&self.layout, id, &content_of, progress);
        match orphan::settle(&step, root, displaced, clock::wall_now()) {
            Ok(Settled::PutAside(_, Why::LastCopy | Why::Changed)) => OrphanEnd::LastCopy,
            Ok(_) => OrphanEnd::Settled,
            Err(error) => {
                let quarantine = &self.layout.quarantine;
                let why = match (
                    outbox::in_the_way(&self.layout.archive(id)),
                    durable::is_full(&error),
                ) {
                    (Some(what), _) => what,
                    (None, false) => error.to_string(),
                    (None, true) => {
                        let what = used_up(quarantine, &error);
                        format!(
                            "{error}{what}. Make room there. Type: df -H {}",
                            word(as_text(quarantine))
                        )
                    }
                };
                tracing::error!(
                    EPISODE = %id, "The archive of {id} in the outbox has no episode beside it, and could not be put away: {why}. It stays."
                );
                OrphanEnd::Unsettled(why)
            }
        }
    }

    /// Whether a directory in `shipped/` is what the receiver holds.
    pub(super) fn as_delivered(&self, progress: &Progress) -> impl Fn(&Path) -> io::Result<bool> {
        let content_of = |receipt: &ShippingReceipt, directory: &Path| {
            self.content_as_delivered(
                receipt,
                directory,
                OpenFileProbe::below(directory),
                progress,
            )
        };
        move |directory| {
            self.known
                .edited
                .is_as_delivered(directory, &content_of, progress)
        }
    }

    /// What a directory in `shipped/` packs to, with the name and the permission bits of its
    /// receipt; at idle priority.
    pub(super) fn content_as_delivered(
        &self,
        receipt: &ShippingReceipt,
        directory: &Path,
        probe: OpenFileProbe,
        progress: &Progress,
    ) -> io::Result<Option<Digest>> {
        let modes: Option<Modes> = receipt.modes.as_ref().and_then(|modes| modes.parse().ok());
        let read = || {
            pack::content_with_modes(
                &receipt.episode_id,
                directory,
                modes.as_ref(),
                probe,
                progress,
            )
        };
        known_content(directory, at_idle_priority(read))
    }
}

/// For the steps that have to know what a directory packs to.
pub(super) fn content_of(
    id: &EpisodeId,
    directory: &Path,
    progress: &Progress,
) -> io::Result<Option<Digest>> {
    known_content(directory, pack::content_of(id, directory, progress))
}

fn known_content(
    directory: &Path,
    content: Result<Digest, PackError>,
) -> io::Result<Option<Digest>> {
    match content {
        Ok(content) => Ok(Some(content)),
        Err(PackError::Changed { .. } | PackError::Gone) => Ok(None),
        Err(error) => {
            let why = format!("{}: {:#}", directory.display(), anyhow::Error::new(error));
            Err(io::Error::other(why))
        }
    }
}
