//! The machine's hands: each effect, given to the worker or the thread that does it. A worker's
//! result comes back as an event.

use std::{collections::HashMap, pin::pin};

use tokio::time::Instant;

use super::workers::{PANICKED, Workers};
use crate::{
    clock,
    model::{episode::EpisodeId, progress::Progress},
    ship::{
        machine::{
            Effect, Event, LookedBack, Notice,
            destination::upload_window::LocalTime,
            liveness::{Task, Work},
            step_result::{Check, Moved, OrphanEnd, PackFailure, Packed},
        },
        outcome::{Attempt, Outcome},
        transport::throttle::Throttle,
        watch::{Trouble, Watch},
    },
};

/// Carries out what the machine decides.
pub(super) struct EffectRunner {
    pub(super) workers: Workers,
    watch: Watch,
    pub(super) throttle: Throttle,
    under_way: HashMap<Task, RunningTask>,
    /// Packings that wait until the scratch of their name is gone: the removal would meet theirs.
    waiting: HashMap<EpisodeId, Effect>,
    cancelled: bool,
    /// What left for the receiver in attempts that are over, bytes.
    sent_bytes: u64,
}

/// A piece of work, as it can be watched and told to stop.
struct RunningTask {
    progress: Progress,
    /// How long the archive is that is sent; 0 for anything else.
    size_bytes: u64,
    /// How much had moved at the last tick and at the one before, bytes.
    marks: [(Instant, u64); 2],
}

/// An upload as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunningUpload {
    /// What the receiver has of it, bytes.
    pub(super) sent_bytes: u64,
    /// Over the last tick or two.
    pub(super) bytes_per_s: u64,
}

impl EffectRunner {
    pub(super) fn new(workers: Workers, watch: Watch, throttle: Throttle) -> Self {
        Self {
            workers,
            watch,
            throttle,
            under_way: HashMap::new(),
            waiting: HashMap::new(),
            cancelled: false,
            sent_bytes: 0,
        }
    }

    /// Whether hints came faster than they were taken since this was last asked.
    pub(super) fn hints_were_lost(&self) -> bool {
        self.watch.take_overflow()
    }

    /// Each part that is at work, with a number that grows while it moves.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Task, u64)> {
        let at_work = self
            .under_way
            .iter()
            .map(|(part, work)| (part.clone(), work.progress.steps()));
        at_work.chain([(Task::of(Work::Watch), self.watch.obeyed())])
    }

    /// What the receiver has of the archives that are being sent, and how long they are; bytes.
    pub(super) fn uploaded(&self) -> (u64, u64) {
        let sends = self.under_way.keys().filter(|part| part.work == Work::Send);
        let uploads = sends.filter_map(|part| self.upload_of(part.id.as_ref()?));
        uploads.fold((0, 0), |(sent, all), (send, moves)| {
            (sent + moves.sent_of(send.size_bytes), all + send.size_bytes)
        })
    }

    /// An attempt, and what moves of it: it waits for what leaves beside its packing.
    fn upload_of(&self, id: &EpisodeId) -> Option<(&RunningTask, &RunningTask)> {
        let of = |work| {
            let id = Some(id.clone());
            self.under_way.get(&Task { work, id })
        };
        let send = of(Work::Send)?;
        Some((send, of(Work::SendGrowing).unwrap_or(send)))
    }

    /// How an upload stands.
    pub(super) fn upload(&self, id: &EpisodeId, now: Instant) -> Option<RunningUpload> {
        let (send, moves) = self.upload_of(id)?;
        let (at, then_bytes) = moves.marks[0];
        let moved_bytes = u128::from(moves.progress.bytes().saturating_sub(then_bytes));
        let per_s = (moved_bytes * 1000).checked_div(now.saturating_duration_since(at).as_millis());
        let bytes_per_s = per_s.and_then(|rate| u64::try_from(rate).ok()).unwrap_or(0);
        Some(RunningUpload {
            sent_bytes: moves.sent_of(send.size_bytes),
            bytes_per_s,
        })
    }

    /// Everything that ever left for the receiver, bytes.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
            + self
                .uploads()
                .map(|work| work.progress.bytes())
                .sum::<u64>()
    }

    fn uploads(&self) -> impl Iterator<Item = &RunningTask> {
        self.under_way
            .iter()
            .filter(|(part, _)| matches!(part.work, Work::Send | Work::SendGrowing))
            .map(|(_, work)| work)
    }

    /// The tick: rates are counted from the one before.
    pub(super) fn mark(&mut self, now: Instant) {
        for work in self.under_way.values_mut() {
            work.marks = [work.marks[1], (now, work.progress.bytes())];
        }
    }

    /// Why watches cannot be had.
    pub(super) fn watch_trouble(&self) -> Option<Trouble> {
        self.watch.trouble()
    }

    /// Whether such work is under way that is for no single episode.
    pub(super) fn is_at(&self, work: Work) -> bool {
        self.under_way.contains_key(&Task::of(work))
    }

    /// Asks the watching thread for a sign of life, to be seen at the next look.
    pub(super) fn ping(&self) {
        self.watch.ping();
    }

    /// Looks after the lock, unless the last look is still under way.
    pub(super) fn look_after_lock(&mut self, look: impl FnOnce() + Send + 'static) {
        let part = Task::of(Work::Lock);
        if !self.under_way.contains_key(&part) {
            self.begin(part, 0);
            tokio::task::spawn_blocking(look);
        }
    }

    pub(super) fn cancelled(&self) -> bool {
        self.cancelled
    }

    /// Tells what reads, packs and sends to stop. What moves and removes is finished, now or by the
    /// next start.
    pub(super) fn cancel_everything(&mut self) {
        self.cancelled = true;
        for (part, work) in &self.under_way {
            if can_be_cancelled(part.work) {
                work.progress.cancel();
            }
        }
    }

    /// What came back is not watched any more.
    pub(super) fn ended(&mut self, part: &Task) {
        let ended = self.under_way.remove(part);
        self.sent_bytes += ended
            .filter(|_| matches!(part.work, Work::Send | Work::SendGrowing))
            .map_or(0, |work| work.progress.bytes());
        if part.work == Work::Discard
            && let Some(packing) = part.id.as_ref().and_then(|id| self.waiting.remove(id))
        {
            self.perform(packing);
        }
    }

    /// Whether scratch is being removed: an end waits for that.
    pub(super) fn discards(&self) -> bool {
        self.under_way.keys().any(|part| part.work == Work::Discard)
    }

    /// Work begins that is none of the machine's. It is watched like any other.
    pub(super) fn begin(&mut self, part: Task, size_bytes: u64) -> Progress {
        let progress = Progress::default();
        if self.cancelled && can_be_cancelled(part.work) {
            progress.cancel();
        }
        let marks = [(Instant::now(), 0); 2];
        self.under_way.insert(
            part,
            RunningTask {
                progress: progress.clone(),
                size_bytes,
                marks,
            },
        );
        progress
    }

    /// Begins one effect. A notice is handed back, for the caller to tell.
    pub(super) fn perform(&mut self, effect: Effect) -> Option<Notice> {
        let workers = self.workers.clone();
        if let Effect::Discard(id) | Effect::Pack { id, .. } = &effect {
            let discarding = Task {
                work: Work::Discard,
                id: Some(id.clone()),
            };
            if self.under_way.contains_key(&discarding) {
                if let Effect::Pack { id, .. } = &effect {
                    self.waiting.insert(id.clone(), effect);
                } else {
                    // Nothing of that name was made since it began.
                    workers.let_go(id);
                }
                return None;
            }
        }
        let size_bytes = if let Effect::Send { packed, .. } = &effect {
            packed.facts.size_bytes
        } else {
            0
        };
        let begun = Task::begun_by(&effect).map(|part| self.begin(part, size_bytes));
        let progress = begun.unwrap_or_default();
        match effect {
            Effect::Log(notice) => return Some(notice),
            Effect::ReadClock => {
                let time = LocalTime::from_seconds(clock::local_seconds_of_day());
                workers.report(Event::ClockRead(time));
            }
            Effect::Pace(pace) => self.throttle.set(pace),
            Effect::Look(id) => self.watch.look(id),
            Effect::Unwatch(id) => self.watch.unwatch(id),
            Effect::Cancel(id) => self.cancel(&id),
            Effect::Discard(id) => {
                // Here and now: no worker that looks for it from here on may find it.
                workers.let_go(&id);
                let panicked = id.clone();
                workers.step(
                    move |workers| {
                        workers.discard(&id);
                        Event::Discarded(id)
                    },
                    || Event::Discarded(panicked),
                );
            }
            Effect::Send {
                id,
                packed,
                resume,
                look,
            } => {
                tokio::spawn(async move {
                    let stale = if look {
                        workers.look_again(&id, &packed, &progress).await
                    } else {
                        None
                    };
                    let attempt = match stale {
                        Some(fault) => Attempt {
                            sent: false,
                            ..Outcome::Failed(fault).into()
                        },
                        None => {
                            let sent = progress.clone();
                            let mut sending = pin!(workers.send(&id, &packed, resume, progress));
                            tokio::select! {
                                biased;
                                attempt = &mut sending => attempt,
                                () = sent.gone(packed.facts.size_bytes) => {
                                    workers.report(Event::WholeSent(id.clone()));
                                    sending.await
                                }
                            }
                        }
                    };
                    workers.report(Event::Attempted(id, attempt));
                });
            }
            Effect::SendGrowing(id) => {
                let ended = workers.growing_begins(&id, &progress);
                tokio::spawn(async move {
                    let goes_on = workers.send_growing(&id, ended, progress).await;
                    workers.report(Event::GrowingSent(id, goes_on));
                });
            }
            Effect::Scan => {
                self.watch.refresh();
                workers.step(
                    move |workers| Event::Scanned(workers.scan(&progress)),
                    || Event::Scanned(None),
                );
            }
            Effect::Check { id, rehash } => {
                workers.step_about(id, Event::Checked, Check::Unknown, move |workers, id| {
                    workers.check(id, rehash, &progress)
                });
            }
            Effect::Pack {
                id,
                most_bytes,
                open_files,
            } => {
                progress.stop_beyond(most_bytes);
                workers.step_about(id, Event::Packed, unreadable, move |workers, id| {
                    as_far_as_it_went(workers.pack(id, open_files, &progress), &progress)
                });
            }
            Effect::ComputeDigest {
                id,
                most_bytes,
                open_files,
            } => {
                progress.stop_beyond(most_bytes);
                workers.step_about(id, Event::Packed, unreadable, move |workers, id| {
                    as_far_as_it_went(workers.measure(id, open_files, &progress), &progress)
                });
            }
            Effect::Persist {
                id,
                packed,
                conflict,
                tried,
            } => workers.step_about(id, Event::Persisted, Err, move |workers, id| {
                workers.keep(id, &packed, conflict.as_ref(), tried, &progress)
            }),
            Effect::Retire { id, packed, proof } => {
                workers.step_about(id, Event::Retired, Moved::Failed, move |workers, id| {
                    workers.retire(id, &packed, &proof, &progress)
                });
            }
            Effect::Quarantine { id, reason } => {
                workers.step_about(id, Event::Quarantined, Moved::Failed, move |workers, id| {
                    workers.quarantine(id, &reason, &progress)
                });
            }
            Effect::Finish(id) => {
                workers.step_about(id, Event::Finished, Moved::Failed, move |workers, id| {
                    workers.finish(id, &progress)
                });
            }
            Effect::Orphan { id, displaced } => {
                let unsettled = OrphanEnd::Unsettled;
                workers.step_about(id, Event::OrphanSettled, unsettled, move |workers, id| {
                    workers.settle_orphan(id, displaced, &progress)
                });
            }
            Effect::FreeSpace { need_bytes } => {
                workers.step(
                    move |workers| Event::SpaceFreed(workers.relieve(need_bytes, &progress)),
                    || Event::SpaceFreed(false),
                );
            }
            Effect::LookBack(shipped) => {
                workers.step(
                    move |workers| Event::LookedBack(workers.look_back(&shipped, &progress)),
                    || Event::LookedBack(LookedBack::default()),
                );
            }
            Effect::Sweep => {
                workers.step(
                    move |workers| Event::Swept(workers.sweep(&progress)),
                    || Event::Swept(true),
                );
            }
        }
        None
    }

    fn cancel(&self, id: &EpisodeId) {
        for work in [Work::Send, Work::SendGrowing] {
            let id = Some(id.clone());
            if let Some(work) = self.under_way.get(&Task { work, id }) {
                work.progress.cancel();
            }
        }
    }
}

impl RunningTask {
    /// What the receiver has of an archive of this length, bytes.
    fn sent_of(&self, size_bytes: u64) -> u64 {
        (self.progress.went_before() + self.progress.bytes()).min(size_bytes)
    }
}

impl Workers {
    /// A step about one episode: `event` reports what the step came to, or that it `failed`.
    fn step_about<T>(
        self,
        id: EpisodeId,
        event: fn(EpisodeId, T) -> Event,
        failed: fn(String) -> T,
        step: impl FnOnce(&Self, &EpisodeId) -> T + Send + 'static,
    ) where
        T: 'static,
    {
        let panicked = id.clone();
        self.step(
            move |workers| {
                let came_to = step(workers, &id);
                event(id, came_to)
            },
            move || event(panicked, failed(PANICKED.to_owned())),
        );
    }
}

fn unreadable(why: String) -> Result<Packed, PackFailure> {
    Err(PackFailure::Unreadable(why))
}

/// It was told to go no further than so far: then what stopped it is its length.
fn as_far_as_it_went(
    packed: Result<Packed, PackFailure>,
    progress: &Progress,
) -> Result<Packed, PackFailure> {
    let large = matches!(packed, Err(PackFailure::Cancelled)) && progress.is_beyond();
    if large {
        Err(PackFailure::Large)
    } else {
        packed
    }
}

fn can_be_cancelled(work: Work) -> bool {
    matches!(
        work,
        Work::Check | Work::Pack | Work::Send | Work::SendGrowing | Work::LookBack
    )
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc, time::Duration};

    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        config::ReceiverConfig,
        http::{client::Client, endpoint::Endpoint},
        model::layout::Layout,
        ship::{daemon::KeepDays, pack, transport::Transport, watch::InotifyUse},
    };

    fn parts(hands: &EffectRunner) -> Vec<String> {
        let parts = hands.counts().map(|(part, _)| part);
        parts
            .filter(|part| part.work != Work::Watch)
            .map(|part| part.to_string())
            .collect()
    }

    #[tokio::test]
    async fn scratch_is_removed_beside_the_loop_and_a_packing_of_its_name_waits_for_that() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        for folder in [&layout.episodes, &layout.outbox] {
            std::fs::create_dir(folder).unwrap();
        }
        let id = EpisodeId::parse("a").unwrap();
        std::fs::write(layout.partial(&id), b"scratch").unwrap();
        let receiver = ReceiverConfig::at("http://127.0.0.1:9").unwrap();
        let (sender, mut events) = mpsc::unbounded_channel();
        let (hints, _hints) = mpsc::channel(1);
        let watch = Watch::start(
            layout.episodes.clone(),
            InotifyUse::Never,
            hints,
            sender.clone(),
        )
        .unwrap();
        let client = Client::new(&receiver).unwrap();
        let workers = Workers {
            transport: Transport::new(Endpoint::new(&receiver, "lab-07", client).unwrap()),
            pack: pack::PackOptions {
                level: 1,
                workers: NonZeroU32::MIN,
                open_files: pack::OpenFilePolicy::default(),
            },
            free_bytes: crate::ship::daemon::FreeBytes::default(),
            keep_days: KeepDays::default(),
            events: sender,
            known: Arc::default(),
            layout: Arc::new(layout.clone()),
        };
        let mut hands = EffectRunner::new(workers, watch, Throttle::default());

        hands.perform(Effect::Discard(id.clone()));
        hands.perform(Effect::Discard(id.clone()));
        hands.perform(Effect::Pack {
            id,
            most_bytes: None,
            open_files: pack::OpenFilePolicy::default(),
        });
        assert_eq!(parts(&hands), ["the removal of what was packed of a"]);
        assert!(hands.discards());
        for expected in ["the packing of a", ""] {
            let heard = tokio::time::timeout(Duration::from_secs(20), events.recv());
            let part = Task::ended_by(&heard.await.unwrap().unwrap()).unwrap();
            hands.ended(&part);
            assert_eq!(parts(&hands).concat(), expected);
        }
        assert!(!layout.partial(&EpisodeId::parse("a").unwrap()).exists());
        assert!(events.try_recv().is_err(), "one removal, one packing");
    }
}
