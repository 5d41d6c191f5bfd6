//! Any number of machines, each with its own folder, and one outside that says how long things take
//! and what comes of them.
//!
//! Nothing fails here but what the outside lets fail: this is for questions of order and of
//! numbers, and `world.rs` for everything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::stream::Stream;
use crate::{
    model::{
        episode::{Digest, EpisodeId, Fingerprint, Stamp},
        records::{ArchiveFacts, ManifestCheck},
    },
    ship::{
        machine::{
            Effect, Event, LookedBack, Machine, Scanned, Settings,
            step_result::{Check, FolderLook, Moved, PackFailure, Packed},
        },
        outcome::Attempt,
    },
};

/// What the hosts cannot decide by themselves.
pub(super) trait Outside {
    /// How long an episode is, bytes.
    fn size_bytes(&self, id: &EpisodeId) -> u64;
    /// How long it is packed.
    fn packs_for(&self, size_bytes: u64) -> Duration;
    /// An attempt begins: when it ends, and how.
    fn attempt(&mut self, id: &EpisodeId, size_bytes: u64, now: Duration) -> (Duration, Attempt);
    /// How long after its beginning the last byte of an upload has left, where that is told.
    fn sent_after(&self, _: u64) -> Option<Duration> {
        None
    }
    /// It has ended.
    fn attempted(&mut self, _: &EpisodeId, _: &Attempt, _: Duration) {}
    /// A packing that went all the way came to nothing; why.
    fn packs_in_vain(&mut self, _: &EpisodeId) -> Option<PackFailure> {
        None
    }
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) machine: Machine,
    /// Sealed, and not shipped yet; with the time of the seal.
    pub(super) episodes: BTreeMap<EpisodeId, Duration>,
    /// When each was shipped.
    pub(super) shipped: BTreeMap<EpisodeId, Duration>,
    /// What lies in the outbox, and when it was last tried in vain.
    kept: BTreeMap<EpisodeId, (Packed, Option<Duration>)>,
    deadline: Option<Duration>,
}

pub(super) struct Hosts<O> {
    pub(super) outside: O,
    pub(super) hosts: Vec<Host>,
    pub(super) now: Duration,
    agenda: BTreeMap<(Duration, u64), (usize, Event)>,
    due: BTreeSet<(Duration, usize)>,
    serial: u64,
    /// What all of them have asked for.
    pub(super) stream: Stream,
}

impl<O: Outside> Hosts<O> {
    pub(super) fn new(outside: O) -> Self {
        let (agenda, due) = (BTreeMap::new(), BTreeSet::new());
        let stream = Stream::default();
        Self {
            outside,
            hosts: Vec::new(),
            now: Duration::ZERO,
            agenda,
            due,
            serial: 0,
            stream,
        }
    }

    /// One more, with these episodes in its folder.
    pub(super) fn add(
        &mut self,
        settings: Settings,
        episodes: impl IntoIterator<Item = EpisodeId>,
    ) {
        let episodes = episodes.into_iter().map(|id| (id, self.now)).collect();
        let machine = Machine::new(settings, self.now);
        let (shipped, kept) = Default::default();
        self.hosts.push(Host {
            machine,
            episodes,
            shipped,
            kept,
            deadline: None,
        });
        self.tell(self.hosts.len() - 1, Event::Deadline);
    }

    /// Another process, which knows what lies on the disk, takes over from one that has nothing
    /// under way. `--once`: lets it come to its end.
    pub(super) fn restart(&mut self, host: usize, settings: Settings) {
        assert!(self.agenda.is_empty(), "something is under way");
        let once = settings.once;
        self.hosts[host].machine = Machine::new(settings, self.now);
        self.tell(host, Event::Deadline);
        while once && !self.hosts[host].machine.idle() {
            let event = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let next = event.into_iter().chain(self.hosts[host].deadline).min();
            self.run_until(next.expect("a pass waits for nothing"));
        }
    }

    /// A recorder seals one.
    pub(super) fn seal(&mut self, host: usize, id: EpisodeId) {
        self.hosts[host].episodes.insert(id.clone(), self.now);
        self.tell(host, Event::Hinted(id));
    }

    /// Lets things happen up to this time.
    pub(super) fn run_until(&mut self, until: Duration) {
        loop {
            let event = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.due.first().map(|(at, _)| *at);
            let Some(at) = [event, deadline]
                .into_iter()
                .flatten()
                .min()
                .filter(|at| *at <= until)
            else {
                break;
            };
            self.now = self.now.max(at);
            if event == Some(at)
                && let Some((_, (host, event))) = self.agenda.pop_first()
            {
                self.tell(host, event);
            } else if let Some((_, host)) = self.due.first().copied() {
                self.tell(host, Event::Deadline);
                assert!(
                    self.hosts[host].deadline.is_none_or(|next| next > self.now),
                    "it would spin"
                );
            }
        }
        self.now = until;
    }

    pub(super) fn all_shipped(&self) -> bool {
        self.hosts.iter().all(|host| host.episodes.is_empty())
    }

    fn tell(&mut self, index: usize, event: Event) {
        if let Event::Attempted(id, attempt) = &event {
            self.outside.attempted(id, attempt, self.now);
        }
        self.hosts[index].machine.handle(event, self.now);
        while let Some(effect) = self.hosts[index].machine.next_effect() {
            self.stream.add(self.now, index, &effect);
            if let Some((at, event)) = self.perform(index, effect) {
                self.serial += 1;
                self.agenda.insert((at, self.serial), (index, event));
            }
        }
        let host = &mut self.hosts[index];
        if let Some(at) = host.deadline {
            self.due.remove(&(at, index));
        }
        host.deadline = host.machine.next_deadline();
        if let Some(at) = host.deadline {
            self.due.insert((at, index));
        }
    }

    fn perform(&mut self, index: usize, effect: Effect) -> Option<(Duration, Event)> {
        let (now, host) = (self.now, &mut self.hosts[index]);
        let soon = now + Duration::from_millis(1);
        let look = |sealed: Duration| {
            let ns = i64::try_from(sealed.as_nanos()).unwrap_or(i64::MAX);
            FolderLook::Sealed(Stamp {
                sealed_ns: ns,
                inodes: (1, 2),
                made_ns: ns,
                written_ns: 0,
            })
        };
        Some(match effect {
            Effect::Look(id) => {
                let found = host
                    .episodes
                    .get(&id)
                    .map_or(FolderLook::Gone, |sealed| look(*sealed));
                (soon, Event::Looked(id, found))
            }
            Effect::Scan => {
                let episodes = host
                    .episodes
                    .iter()
                    .map(|(id, sealed)| (id.clone(), look(*sealed)))
                    .collect();
                let archives = host.kept.keys().cloned().collect();
                let tried = host
                    .kept
                    .iter()
                    .filter_map(|(id, (_, at))| Some((id.clone(), (*at)?.as_secs())));
                let tried = tried.collect();
                (
                    soon,
                    Event::Scanned(Some(Scanned {
                        episodes,
                        archives,
                        tried,
                        ..Scanned::default()
                    })),
                )
            }
            Effect::Pack { id, most_bytes, .. } => {
                let size_bytes = self.outside.size_bytes(&id);
                if let Some(most_bytes) = most_bytes.filter(|most| *most < size_bytes) {
                    let given_up = Err(PackFailure::Large);
                    return Some((
                        now + self.outside.packs_for(most_bytes),
                        Event::Packed(id, given_up),
                    ));
                }
                let packed = match self.outside.packs_in_vain(&id) {
                    Some(failure) => Err(failure),
                    None => Ok(packed(&id, size_bytes)),
                };
                (
                    now + self.outside.packs_for(size_bytes),
                    Event::Packed(id, packed),
                )
            }
            Effect::Check { id, .. } => {
                let check = Check::Fits(host.kept[&id].0.clone(), None);
                (soon, Event::Checked(id, check))
            }
            Effect::Persist {
                id, packed, tried, ..
            } => {
                host.kept
                    .insert(id.clone(), ((*packed).clone(), tried.then_some(now)));
                (soon, Event::Persisted(id, Ok(())))
            }
            Effect::Send { id, packed, .. } => {
                let size_bytes = packed.facts.size_bytes;
                let (at, attempt) = self.outside.attempt(&id, size_bytes, now);
                if let Some(sent) = self
                    .outside
                    .sent_after(size_bytes)
                    .filter(|sent| now + *sent < at)
                {
                    self.serial += 1;
                    let event = Event::WholeSent(id.clone());
                    self.agenda
                        .insert((now + sent, self.serial), (index, event));
                }
                (at, Event::Attempted(id, attempt))
            }
            Effect::Retire { id, .. } => {
                host.episodes.remove(&id);
                host.kept.remove(&id);
                host.shipped.insert(id.clone(), now);
                (
                    soon,
                    Event::Retired(id.clone(), Moved::To(id.as_str().into())),
                )
            }
            Effect::Sweep => (soon, Event::Swept(true)),
            Effect::LookBack(_) => (soon, Event::LookedBack(LookedBack::default())),
            Effect::Pace(_)
            | Effect::Unwatch(_)
            | Effect::Cancel(_)
            | Effect::Discard(_)
            | Effect::Log(_) => return None,
            Effect::ReadClock
            | Effect::SendGrowing(_)
            | Effect::ComputeDigest { .. }
            | Effect::FreeSpace { .. }
            | Effect::Quarantine { .. }
            | Effect::Finish(_)
            | Effect::Orphan { .. } => {
                unreachable!("there is room, and nothing is at fault: {effect:?}")
            }
        })
    }
}

fn packed(id: &EpisodeId, size_bytes: u64) -> Packed {
    let digest = Digest::of(id.as_str().as_bytes());
    Packed {
        facts: ArchiveFacts {
            sha256: digest,
            content_sha256: digest,
            size_bytes,
        },
        fingerprint: Fingerprint(digest),
        folder: None,
        manifest: ManifestCheck::None,
        commit: None,
        open_files: Vec::new(),
    }
}
