//! The hands: what each effect does to the world, when, and what comes back. Between the doing and
//! the hearing anything may happen.

use std::{collections::BTreeMap, time::Duration};

use super::{
    disk::{Archive, Dir},
    plan::Poison,
    world::{Act, World},
};
use crate::{
    model::episode::{EpisodeId, FolderLook},
    ship::{
        machine::{
            Effect, Event, LookedBack, Scanned,
            destination::{upload_window::LocalTime, verdict::Refusal},
            step_result::{Check, Moved, PackFailure, Packed},
        },
        outcome::{Attempt, Fault, Outcome},
    },
};

/// An effect that is under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) effect: Effect,
    pub(super) cancelled: bool,
    pub(super) began: Duration,
    /// What was there when it began.
    dir: Option<Dir>,
    early: BTreeMap<EpisodeId, FolderLook>,
    result: Option<Event>,
}

impl World {
    pub(super) fn begin(&mut self, effect: Effect) {
        self.effect_is_allowed(&effect);
        let mut job = Job {
            effect,
            cancelled: false,
            began: self.now,
            dir: None,
            early: BTreeMap::new(),
            result: None,
        };
        let mut at = self.now + self.span(&job.effect);
        match &job.effect {
            Effect::Log(_) | Effect::Pace(_) => return,
            Effect::Discard(id) => {
                self.scratch.remove(id);
                return;
            }
            Effect::Unwatch(id) => {
                at = self.watch_thread.0.max(self.now);
                self.after(at, Act::Unwatch(self.process, id.clone()));
                return;
            }
            Effect::Cancel(id) => {
                for job in self.jobs.values_mut() {
                    job.cancelled |= matches!(
                        &job.effect,
                        Effect::Send { id: of, .. } | Effect::SendGrowing(of) if of == id
                    );
                }
                return;
            }
            Effect::Look(_) => {
                at = at.max(self.watch_thread.0);
                self.watch_thread.0 = at;
            }
            Effect::Scan => {
                job.early = self
                    .disk
                    .episodes
                    .iter()
                    .map(|(id, dir)| (id.clone(), dir.look()))
                    .collect();
            }
            Effect::Pack { id, .. } | Effect::ComputeDigest { id, .. } => {
                self.scratch.remove(id);
                job.dir = self.disk.episodes.get(id).copied();
                if let (Effect::Pack { .. }, true) = (&job.effect, self.is_large(id)) {
                    let soon = self.now + (at - self.now) / 4;
                    let grows = Box::new(Event::Growing(id.clone()));
                    self.after(soon, Act::Say(self.process, grows));
                }
            }
            Effect::Check { .. }
            | Effect::Persist { .. }
            | Effect::Send { .. }
            | Effect::SendGrowing(_)
            | Effect::Retire { .. }
            | Effect::Quarantine { .. }
            | Effect::Finish(_)
            | Effect::Orphan { .. }
            | Effect::ReadClock
            | Effect::Sweep
            | Effect::LookBack(_)
            | Effect::FreeSpace { .. } => {}
        }
        let serial = self.fresh();
        self.jobs.insert(serial, job);
        self.after(at, Act::Apply(serial));
    }

    /// How long a step takes.
    fn span(&mut self, effect: &Effect) -> Duration {
        let slow = !self.calm() && self.dice.chance(self.plan.slow);
        let longest_ms = match effect {
            Effect::Look(_) => return self.dice.millis(0, 3),
            Effect::Send { .. } | Effect::SendGrowing(_) if slow => 300_000,
            Effect::Scan | Effect::Pack { .. } | Effect::ComputeDigest { .. } if slow => 100_000,
            Effect::Persist { .. } if slow => 30_000,
            Effect::Send { .. } | Effect::SendGrowing(_) => *self.dice.pick(&[&20, &20, &600]),
            Effect::Pack { .. } | Effect::ComputeDigest { .. } | Effect::Check { .. } => 50,
            Effect::Scan => 100,
            Effect::Persist { .. }
            | Effect::Retire { .. }
            | Effect::Quarantine { .. }
            | Effect::Finish(_)
            | Effect::Orphan { .. }
            | Effect::Sweep
            | Effect::LookBack(_)
            | Effect::FreeSpace { .. } => 30,
            Effect::Unwatch(_)
            | Effect::Cancel(_)
            | Effect::Discard(_)
            | Effect::ReadClock
            | Effect::Pace(_)
            | Effect::Log(_) => 1,
        };
        self.dice.millis(0, longest_ms)
    }

    pub(super) fn apply(&mut self, serial: u64) {
        let Some(mut job) = self.jobs.remove(&serial) else {
            return;
        };
        job.result = Some(self.work(&job));
        let mut at = self.now + self.dice.millis(0, 2);
        if let Effect::Look(_) = job.effect {
            at = at.max(self.watch_thread.1);
            self.watch_thread.1 = at;
        } else if !self.calm() && self.dice.chance(self.plan.slow) {
            at += self.dice.millis(0, 2_000);
        }
        self.jobs.insert(serial, job);
        self.after(at, Act::Report(serial));
    }

    pub(super) fn report(&mut self, serial: u64) {
        if let Some(event) = self.jobs.remove(&serial).and_then(|job| job.result) {
            self.tell(event);
        }
    }

    /// The process is killed. Each step was done, or was not, or in part; no result is reported.
    pub(super) fn break_off_jobs(&mut self) {
        for job in std::mem::take(&mut self.jobs)
            .into_values()
            .filter(|job| job.result.is_none())
        {
            match &job.effect {
                Effect::Send { id, .. } => {
                    let content = self.source(id).map(|archive| archive.content);
                    if let (Some(content), true) = (content, self.dice.chance(50)) {
                        let wait = self.dice.millis(0, 30_000);
                        self.after(self.now + wait, Act::Straggler(id.clone(), content));
                    }
                }
                Effect::Persist { id, .. }
                    if !self.scratch.get(id).is_some_and(|archive| archive.measured)
                        && self.dice.chance(30) =>
                {
                    // Renamed, and the sidecar was still to come.
                    if let Some(archive) = self.scratch.remove(id) {
                        self.disk.outbox.insert(
                            id.clone(),
                            Archive {
                                sidecar: None,
                                ..archive
                            },
                        );
                    }
                }
                Effect::Persist { .. }
                | Effect::Retire { .. }
                | Effect::Quarantine { .. }
                | Effect::Finish(_)
                | Effect::Orphan { .. }
                    if self.dice.chance(50) =>
                {
                    self.work(&job);
                }
                Effect::Look(_)
                | Effect::Unwatch(_)
                | Effect::Discard(_)
                | Effect::Scan
                | Effect::Check { .. }
                | Effect::Pack { .. }
                | Effect::ComputeDigest { .. }
                | Effect::Persist { .. }
                | Effect::SendGrowing(_)
                | Effect::Cancel(_)
                | Effect::Retire { .. }
                | Effect::Quarantine { .. }
                | Effect::Finish(_)
                | Effect::Orphan { .. }
                | Effect::Sweep
                | Effect::ReadClock
                | Effect::Pace(_)
                | Effect::LookBack(_)
                | Effect::FreeSpace { .. }
                | Effect::Log(_) => {}
            }
        }
    }

    fn work(&mut self, job: &Job) -> Event {
        match &job.effect {
            Effect::Look(id) => Event::Looked(id.clone(), self.look(id)),
            Effect::Scan => Event::Scanned(self.scan(&job.early)),
            Effect::Check { id, rehash } => Event::Checked(id.clone(), self.check(id, *rehash)),
            Effect::Pack { id, most_bytes, .. } | Effect::ComputeDigest { id, most_bytes, .. } => {
                let large = self.is_large(id);
                let measured = matches!(job.effect, Effect::ComputeDigest { .. });
                let result = match most_bytes {
                    Some(_) if large => Err(PackFailure::Large),
                    Some(_) | None => self.pack(id, job.dir, measured),
                };
                Event::Packed(id.clone(), result)
            }
            Effect::Persist {
                id,
                packed,
                conflict,
                ..
            } => Event::Persisted(id.clone(), self.keep(id, packed, conflict.clone())),
            Effect::Send {
                id,
                packed,
                resume,
                look,
            } => {
                if *look && let Some(stale) = self.stale(id, packed) {
                    let attempt = Attempt {
                        sent: false,
                        ..Outcome::Failed(Fault::Stale(stale)).into()
                    };
                    return Event::Attempted(id.clone(), attempt);
                }
                // Receivers keep what they like of what broke off, and some keep nothing.
                let resumed_at_bytes = if *resume {
                    self.dice.below(4) * packed.facts.size_bytes / 4
                } else {
                    0
                };
                let outcome = self.send(id, packed, job.cancelled);
                Event::Attempted(
                    id.clone(),
                    Attempt {
                        resumed_at_bytes,
                        ..outcome.into()
                    },
                )
            }
            // What the receiver takes of it while it is packed is not judged; whether it takes any
            // shows in nothing but its slot.
            Effect::SendGrowing(id) => {
                let packs =
                    |job: &Job| matches!(&job.effect, Effect::Pack { id: of, .. } if of == id);
                let is_packed = !self.jobs.values().any(packs);
                Event::GrowingSent(id.clone(), is_packed && !job.cancelled)
            }
            Effect::Retire { id, packed, .. } => {
                Event::Retired(id.clone(), self.retire(id, packed))
            }
            Effect::Quarantine { id, reason } => {
                let moved = self.move_away(id, |_, dir| dir.fingerprint() == reason.fingerprint);
                if let Moved::To(_) = moved
                    && let Some(dir) = self.disk.episodes.remove(id)
                {
                    self.quarantine_is_just(id, reason);
                    self.disk
                        .quarantine
                        .push((id.clone(), dir.content, reason.clone()));
                    self.left(id);
                }
                Event::Quarantined(id.clone(), moved)
            }
            Effect::Finish(id) => Event::Finished(id.clone(), Moved::Gone),
            Effect::Orphan { id, displaced } => {
                let end = self.settle_orphan(id, *displaced);
                Event::OrphanSettled(id.clone(), end)
            }
            Effect::FreeSpace { .. } => Event::SpaceFreed(self.dice.chance(50)),
            Effect::LookBack(_) => Event::LookedBack(LookedBack::default()),
            Effect::Sweep => Event::Swept(self.calm() || self.dice.chance(70)),
            Effect::ReadClock => Event::ClockRead(self.local_time()),
            Effect::Unwatch(_)
            | Effect::Cancel(_)
            | Effect::Discard(_)
            | Effect::Pace(_)
            | Effect::Log(_) => {
                unreachable!("nothing comes back from these")
            }
        }
    }

    /// One in five is not small.
    fn is_large(&self, id: &EpisodeId) -> bool {
        let dir = self.disk.episodes.get(id);
        dir.is_some_and(|dir| dir.content % 5 == 0)
    }

    /// The world begins at midnight.
    pub(super) fn local_time(&self) -> LocalTime {
        LocalTime::from_seconds(u32::try_from(self.now.as_secs() % 86_400).unwrap())
    }

    pub(super) fn disk_fails(&mut self) -> bool {
        !self.calm() && self.dice.chance(self.plan.bad_disk)
    }

    /// What is found open is watched, watched already or not: it may be another directory than the
    /// watched one.
    fn look(&mut self, id: &EpisodeId) -> FolderLook {
        let watch = self.disk.look(id) == FolderLook::Open;
        if let (true, true, Some(dir)) = (watch, self.can_watch, self.disk.episodes.get(id)) {
            self.watched.insert(id.clone(), dir.inode);
        }
        if self.disk_fails() {
            FolderLook::Unreadable("EIO".into())
        } else {
            self.disk.look(id)
        }
    }

    /// Each directory is read at some moment of the scan.
    fn scan(&mut self, early: &BTreeMap<EpisodeId, FolderLook>) -> Option<Scanned> {
        if self.disk_fails() {
            return None;
        }
        let mut episodes = Vec::new();
        for id in self.plan.names.clone() {
            let look = if self.dice.chance(50) {
                early.get(&id).cloned()
            } else {
                None
            };
            let look = look.unwrap_or_else(|| self.disk.look(&id));
            if look != FolderLook::Gone || self.dice.chance(2) {
                episodes.push((id, look));
            }
        }
        let archives = self.disk.outbox.keys().cloned().collect();
        let unlabelled = self
            .disk
            .outbox
            .iter()
            .filter(|(_, archive)| archive.sidecar.is_none());
        let unlabelled = unlabelled.map(|(id, _)| id.clone()).collect();
        let noted = self
            .scratch
            .iter()
            .filter(|(_, archive)| archive.measured && matches!(archive.sidecar, Some(Some(_))));
        let noted = noted.map(|(id, _)| id.clone()).collect();
        Some(Scanned {
            episodes,
            archives,
            unlabelled,
            noted,
            ..Scanned::default()
        })
    }

    fn check(&mut self, id: &EpisodeId, rehash: bool) -> Check {
        let unusable = |why: &str| Check::Unusable(why.to_owned());
        if self.disk_fails() {
            return Check::Unknown("EIO".to_owned());
        }
        let measured = self.scratch.get(id).filter(|archive| archive.measured);
        let Some(archive) = measured.or(self.disk.outbox.get(id)) else {
            return unusable("none");
        };
        let Some(conflict) = &archive.sidecar else {
            return unusable("no sidecar");
        };
        match self.disk.episodes.get(id) {
            Some(dir) if dir.fingerprint() == archive.fingerprint => {}
            Some(dir) if !archive.measured && dir.folder() != archive.folder => {
                return Check::Displaced;
            }
            Some(_) | None => return unusable("changed"),
        }
        if rehash && archive.damaged {
            return unusable("damaged");
        }
        Check::Fits(archive.packed(), conflict.clone())
    }

    fn pack(
        &mut self,
        id: &EpisodeId,
        before: Option<Dir>,
        measured: bool,
    ) -> Result<Packed, PackFailure> {
        // The smaller the outbox, the oftener; one that never fits into it never does.
        let too_large = self.plan.poison.get(id) == Some(&Poison::TooLarge);
        if !measured && (too_large || self.dice.chance(self.plan.small_outbox)) {
            return Err(PackFailure::Short("64 KiB".into()));
        }
        let fails = self.disk_fails();
        let Some(dir) = self.disk.episodes.get(id).copied() else {
            return Err(PackFailure::Gone);
        };
        if before != Some(dir) || dir.marker.is_none() {
            return Err(PackFailure::Changed("written".into()));
        }
        match self.plan.poison.get(id) {
            Some(Poison::WrongManifest) => {
                return Err(PackFailure::Fault(
                    "not as its manifest says".into(),
                    dir.fingerprint(),
                ));
            }
            Some(Poison::UnfinishedManifest) => {
                self.seen
                    .unfinished_since
                    .entry(id.clone())
                    .or_insert(self.now);
                return Err(PackFailure::UnfinishedManifest(
                    "cut off".into(),
                    dir.fingerprint(),
                ));
            }
            Some(Poison::Unreadable) => return Err(PackFailure::Unreadable("EACCES".into())),
            Some(Poison::NeverStill) => return Err(PackFailure::Changed("writes".into())),
            Some(
                Poison::Rejected(_)
                | Poison::Taken
                | Poison::Met(_)
                | Poison::Corrupted
                | Poison::TooLarge
                | Poison::Immovable,
            )
            | None => {}
        }
        if fails {
            return Err(match self.dice.below(5) {
                4 => PackFailure::OpenForWriting {
                    what: "a file is open for writing".into(),
                    sealed_for: self.dice.millis(0, 900_000),
                },
                0 => PackFailure::Unreadable("EIO".into()),
                1 if !measured => PackFailure::Outbox("EROFS".into()),
                2 if !measured => PackFailure::Full("ENOSPC".into()),
                _ => PackFailure::Changed("written".into()),
            });
        }
        let archive = Archive {
            content: dir.content,
            fingerprint: dir.fingerprint(),
            folder: dir.folder(),
            damaged: false,
            measured,
            sidecar: Some(None),
        };
        let packed = archive.packed();
        if measured {
            self.disk.outbox.remove(id);
        }
        self.scratch.insert(id.clone(), archive);
        Ok(packed)
    }

    fn keep(
        &mut self,
        id: &EpisodeId,
        packed: &Packed,
        conflict: Option<Refusal>,
    ) -> Result<(), String> {
        let there = self.source(id).map(|archive| archive.packed().facts);
        assert_eq!(
            there,
            Some(packed.facts),
            "{id}: another archive is kept than was packed"
        );
        if self.scratch.get(id).is_some_and(|archive| archive.measured) {
            if self.disk_fails() {
                return Err("EIO".into());
            }
            // A note, which stands alone; here it lasts as long as the process.
            if let Some(archive) = self.scratch.get_mut(id) {
                archive.sidecar = Some(conflict);
            }
            return Ok(());
        }
        let scratch = self.scratch.remove(id);
        if self.disk_fails() {
            // That it was tried is all that could not be written.
            if scratch.is_none() && conflict.is_none() {
                return Ok(());
            }
            let half = self.dice.chance(50);
            if let Some(archive) = scratch.filter(|_| half) {
                self.disk.outbox.insert(
                    id.clone(),
                    Archive {
                        sidecar: None,
                        damaged: true,
                        ..archive
                    },
                );
            }
            return Err("EIO".into());
        }
        if let Some(archive) = scratch.or_else(|| self.disk.outbox.remove(id)) {
            self.disk.outbox.insert(
                id.clone(),
                Archive {
                    sidecar: Some(conflict),
                    ..archive
                },
            );
        }
        Ok(())
    }

    /// Where an attempt reads from.
    pub(super) fn source(&self, id: &EpisodeId) -> Option<&Archive> {
        self.scratch.get(id).or_else(|| self.disk.outbox.get(id))
    }

    fn send(&mut self, id: &EpisodeId, packed: &Packed, cancelled: bool) -> Outcome {
        // An older archive, which stays until the new one takes its place, is told by its sidecar.
        let ours = |archive: &&Archive| archive.packed().facts == packed.facts;
        let kept = || self.disk.outbox.get(id).filter(ours);
        let Some(archive) = self.scratch.get(id).or_else(kept).cloned() else {
            // A failed fsync has thrown the scratch away, and the upload is being cancelled.
            return Outcome::Failed(if cancelled {
                Fault::Cancelled
            } else {
                Fault::Archive("gone".into())
            });
        };
        assert_eq!(
            archive.packed().facts,
            packed.facts,
            "{id}: another archive is sent than was packed"
        );
        let ours = self.dice.chance(50);
        if cancelled && ours {
            return Outcome::Failed(Fault::Cancelled);
        }
        // Packed again into the upload, and not what it was.
        let as_now = self.disk.episodes.get(id).map(|dir| dir.content);
        if archive.measured && as_now != Some(archive.content) {
            return Outcome::Failed(Fault::Archive("the episode is not what it was".into()));
        }
        self.attempt(id, &archive)
    }
}
