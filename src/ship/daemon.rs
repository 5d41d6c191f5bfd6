//! The loop: events in, effects out to workers. It owns the machine, and decides nothing itself.
//!
//! ```text
//!  watch thread ──hints──▶ ┌──────┐ ──Look, Unwatch──▶ watch thread
//!  workers ─────results──▶ │ loop │ ──Pack, Check, Persist, Retire ──▶ blocking workers
//!  signals, deadline ────▶ │      │ ──Send──▶ a task of the async runtime
//!  tick ─────────────────▶ └──────┘ ──WATCHDOG, STATUS──▶ the service manager
//! ```

mod asides;
mod cleanup;
mod disk_pressure;
mod disk_usage;
mod effect_runner;
mod folder_identity;
mod folder_totals;
mod growth;
mod housekeeping;
mod idle_priority;
mod lengths;
mod look_back;
mod name_check;
mod open_files;
mod pack_worker;
pub(crate) mod reload;
mod scan_report;
mod shutdown;
mod snapshot;
mod source_removal;
mod start;
mod status_endpoints;
mod worker_stats;
mod workers;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::Instant,
};

pub use self::shutdown::Stop;
use self::{
    effect_runner::EffectRunner,
    folder_totals::FolderTotals,
    reload::{Reload, Reloaded},
    shutdown::{GOING, LAST_GRACE},
    status_endpoints::Asking,
    workers::{WorkerShared, Workers},
};
use super::{
    lock::{Lock, LockError, refresh_every},
    machine::{
        Event, Machine, Notice, Settings, Tally,
        liveness::{self, Allowances, Pulse, Stalled, Task},
    },
    report::{
        control::{Ask, Desk},
        event_log::Teller,
        ledger::Ledger,
        systemd::Notifier,
    },
    transport::{Transport, throttle::Throttle},
    watch::{InotifyUse, Watch},
};
use crate::{
    clock,
    disk::move_check::MoveCheck,
    model::{
        episode::EpisodeId,
        layout::Layout,
        records::WallTime,
        snapshot::{Log, ReloadStatus},
    },
};

/// Hints that wait for the loop. More of them mean that everything is looked at anyway.
const MAX_HINTS: usize = 16 * 1024;
/// What one pass says that was stopped before it had found anything.
const STOPPED_EARLY: &str = "Stopped before it had looked at what there is: whether anything waits is not known. Type it again";

/// What the daemon needs to know.
#[derive(Debug)]
pub struct DaemonOptions {
    /// The folders.
    pub layout: Layout,
    /// How to pack.
    pub pack: super::pack::PackOptions,
    /// What is to stay free.
    pub free_bytes: FreeBytes,
    /// What decides.
    pub settings: Settings,
    /// Whether inotify is used where the file system's events can be trusted; `Some` forces it.
    pub inotify: Option<bool>,
    /// How long quarantined and shipped episodes are kept, days; `None`: for ever.
    pub keep_days: KeepDays,
    /// The reconcile interval where only reconcile passes find anything.
    pub reconcile_only_interval: Duration,
    /// How long each part of it may show nothing.
    pub allowances: Allowances,
    /// Who is told that it is ready and alive.
    pub notifier: Notifier,
    /// How long that one waits for a sign of life, where it does.
    pub watchdog: Option<Duration>,
    /// Reads everything again at SIGHUP; `None`: SIGHUP changes nothing.
    pub reload: Option<Reload>,
    /// SIGHUP, where the caller listens for it already; else it is listened for from the start of
    /// [`run`] on.
    pub hangup: Option<Signal>,
    /// Who ships.
    pub host_id: String,
    /// Where metrics go beside the socket.
    pub metrics: Metrics,
    /// Where the caller asks for the daemon's status, and where the daemon hears that.
    pub desk: Option<(Desk, mpsc::Receiver<Ask>)>,
    /// How the log stands, as its writer knows it.
    pub log: fn() -> Log,
    /// Receives every notice, for a program that shows the way of each episode.
    pub observer: Option<UnboundedSender<Notice>>,
}

/// Where metrics go beside the socket.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// A port of this machine at which they are given out.
    pub listen: Option<SocketAddr>,
    /// A file that they are written to.
    pub textfile: Option<PathBuf>,
}

/// How long what left `episodes/` is kept, days; `None`: for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepDays {
    /// In `quarantine/`.
    pub quarantine: Option<u32>,
    /// In `shipped/`.
    pub shipped: Option<u32>,
}

/// What is to stay free in a folder's file system, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct FreeBytes {
    /// Packing leaves so much in the outbox's; `None`: by its size.
    pub outbox: Option<u64>,
    /// Below that, episodes that the receiver holds are removed from `shipped/`; `None`: never.
    pub shipped: Option<u64>,
}

/// Ships until it is told to stop; with `settings.once`, until one pass is through.
///
/// # Errors
/// Where the folders, the lock or the watching thread cannot be had, or another daemon took the
/// lock after the lock file was removed. What goes wrong later with an episode, or with the
/// destination, is told, and is no error. One pass that is stopped before it has looked at anything
/// has no result.
pub async fn run(
    options: DaemonOptions,
    transport: Transport,
    mut stop: Stop,
) -> anyhow::Result<Tally> {
    let once = options.settings.once;
    let tally = match Daemon::start(options, transport, &mut stop).await? {
        Some(mut daemon) => {
            let all_done = daemon.turn(&mut stop).await;
            let (mut tally, robbed) = (daemon.machine.tally(), daemon.robbed.take());
            if let Some(left) = &daemon.hands.workers.known.stats.lock().left_aside {
                tally.transient_failures += left.count;
                tally.unseen += left.count;
            }
            daemon.end(all_done).await;
            robbed.map_or(Ok(tally), Err)?
        }
        None => Tally::default(),
    };
    let nothing_seen = tally == Tally::default();
    anyhow::ensure!(!(once && stop.was_called && nothing_seen), STOPPED_EARLY);
    Ok(tally)
}

struct Daemon {
    options: DaemonOptions,
    inotify: bool,
    /// Why episodes are not noticed by inotify, where they are not.
    watch_why: Option<String>,
    machine: Machine,
    hands: EffectRunner,
    teller: Teller,
    ledger: Ledger,
    folder_totals: FolderTotals,
    /// How often events were lost.
    overflows: u64,
    pulse: Pulse,
    last_beat: Option<Instant>,
    started: Instant,
    started_at_wall: WallTime,
    stopping: Option<Instant>,
    next_beat: Instant,
    beat_every: Duration,
    last_status: Instant,
    /// Something has happened since that was told.
    stirred: bool,
    next_refresh: Instant,
    reading: bool,
    read_again: bool,
    reloads: ReloadStatus,
    trial: MoveCheck,
    /// No oftener is it made again.
    next_trial: Instant,
    stalled: Vec<Stalled>,
    events: UnboundedReceiver<Event>,
    hints: mpsc::Receiver<EpisodeId>,
    hangup: Signal,
    aside_sender: UnboundedSender<SideResult>,
    aside: UnboundedReceiver<SideResult>,
    asking: Asking,
    lock: Lock,
    /// Why that could not be looked after the last time.
    lock_trouble: Option<String>,
    /// Another daemon has taken the lock, after ours was removed.
    robbed: Option<LockError>,
}

/// What the loop waited for.
enum Wakeup {
    Stop,
    Beat,
    Status,
    Happened(Event),
    Hinted(EpisodeId),
    Hangup,
    Aside(SideResult),
    Asked(Ask),
    Deadline,
}

/// Results that are none of the machine's.
enum SideResult {
    Read(anyhow::Result<Box<Reloaded>>),
    Locked(Result<Option<Lock>, LockError>),
    Tried(MoveCheck),
}

impl Daemon {
    async fn start(
        mut options: DaemonOptions,
        transport: Transport,
        stop: &mut Stop,
    ) -> anyhow::Result<Option<Self>> {
        let started = Instant::now();
        let hangup = match options.hangup.take() {
            Some(hangup) => hangup,
            None => signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?,
        };
        let (layout, once) = (Arc::new(options.layout.clone()), options.settings.once);
        let Some(prepared) = start::prepare(&layout, once, &mut options.notifier, stop).await?
        else {
            return Ok(None);
        };
        let asking = Asking::begin(prepared.control, &options.metrics, options.desk.take()).await;
        let (inotify, watch_why) = if once {
            (false, None)
        } else {
            start::use_inotify(&mut options, prepared.untrusted)
        };
        let (event_sender, events) = mpsc::unbounded_channel();
        let (hint_sender, hints) = mpsc::channel(MAX_HINTS);
        let used = match options.inotify {
            _ if !inotify => InotifyUse::Never,
            None => InotifyUse::WhereTrusted,
            Some(_) => InotifyUse::Always,
        };
        let watch = Watch::start(
            layout.episodes.clone(),
            used,
            hint_sender,
            event_sender.clone(),
        )
        .context("Failed to start the watching thread")?;
        let throttle = Throttle::default();
        let folder_totals = FolderTotals::begin(Arc::clone(&layout), once);
        let workers = Workers {
            layout,
            transport: transport.throttled_by(throttle.clone()),
            pack: options.pack,
            free_bytes: options.free_bytes,
            keep_days: options.keep_days,
            events: event_sender,
            known: Arc::new(WorkerShared::new(
                prepared.root,
                prepared.grounds,
                prepared.leftovers,
            )),
        };
        let (aside_sender, aside) = mpsc::unbounded_channel();
        let beat_every = liveness::tick(options.watchdog);
        let now = Instant::now();
        Ok(Some(Self {
            inotify,
            watch_why,
            machine: Machine::new(options.settings.clone(), started.elapsed()),
            hands: EffectRunner::new(workers, watch, throttle),
            teller: Teller::new(once),
            ledger: Ledger::default(),
            folder_totals,
            overflows: 0,
            pulse: Pulse::new(options.allowances, beat_every),
            last_beat: None,
            started,
            started_at_wall: clock::wall_now(),
            stopping: None,
            next_beat: now,
            beat_every,
            last_status: now,
            stirred: true,
            next_refresh: now + refresh_every(),
            reading: false,
            read_again: false,
            reloads: ReloadStatus::default(),
            trial: prepared.trial,
            next_trial: now,
            stalled: Vec::new(),
            events,
            hints,
            hangup,
            aside_sender,
            aside,
            asking,
            lock: prepared.lock,
            lock_trouble: None,
            robbed: None,
            options,
        }))
    }

    /// Until there is nothing more to do: `true`; or work under way was given up.
    async fn turn(&mut self, stop: &mut Stop) -> bool {
        if !self.options.settings.once {
            self.options.notifier.ready();
        }
        self.hear(Event::Deadline);
        loop {
            self.perform();
            if (self.options.settings.once || self.stopping.is_some())
                && self.machine.idle()
                && !self.hands.discards()
            {
                return true;
            }
            match self.next(stop).await {
                Wakeup::Stop if self.stopping.is_some() => {
                    tracing::warn!(
                        "stopped at once, with work under way; the next start finishes it"
                    );
                    return false;
                }
                Wakeup::Stop => self.begin_to_stop(),
                Wakeup::Beat => self.beat(),
                Wakeup::Status => self.tell_status(),
                Wakeup::Happened(event) => self.hear(event),
                Wakeup::Hinted(_) if self.hands.hints_were_lost() => self.hear(Event::HintsLost),
                Wakeup::Hinted(id) => self.hear(Event::Hinted(id)),
                Wakeup::Hangup => self.begin_to_read(),
                // A client that has gone needs no answer.
                Wakeup::Asked(ask) => self.folder_totals.answer(self.snapshot(), ask),
                Wakeup::Aside(SideResult::Read(read)) => self.read(read),
                Wakeup::Aside(SideResult::Locked(locked)) => self.locked(locked),
                Wakeup::Aside(SideResult::Tried(trial)) => self.tried(trial),
                Wakeup::Deadline if self.stopping.is_none() => self.hear(Event::Deadline),
                Wakeup::Deadline if self.hands.cancelled() => {
                    tracing::warn!("stopped with work under way; the next start finishes it");
                    return false;
                }
                Wakeup::Deadline => {
                    self.hands.cancel_everything();
                    self.options.notifier.extend(LAST_GRACE + GOING);
                    self.stopping = Some(Instant::now() + LAST_GRACE);
                }
            }
        }
    }

    /// The heart comes first: however much happens, it is not kept from beating.
    async fn next(&mut self, stop: &mut Stop) -> Wakeup {
        let status = self.status_due();
        let deadline = match self.stopping {
            None => self.machine.next_deadline().map(|at| self.started + at),
            Some(at) => Some(at),
        };
        tokio::select! {
            biased;
            () = stop.called() => Wakeup::Stop,
            () = tokio::time::sleep_until(self.next_beat) => Wakeup::Beat,
            () = until(status) => Wakeup::Status,
            Some(()) = self.hangup.recv() => Wakeup::Hangup,
            Some(aside) = self.aside.recv() => Wakeup::Aside(aside),
            Some(ask) = self.asking.recv() => Wakeup::Asked(ask),
            Some(event) = self.events.recv() => Wakeup::Happened(event),
            Some(id) = self.hints.recv() => Wakeup::Hinted(id),
            () = until(deadline) => Wakeup::Deadline,
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.next_effect() {
            if let Some(notice) = self.hands.perform(effect) {
                let now = self.started.elapsed();
                self.ledger
                    .note(&notice, self.teller.age_in(&notice, now), now);
                self.folder_totals.note(&notice);
                self.teller.tell(&notice, now);
                if let Some(observer) = &self.options.observer {
                    // The observer may have gone: that is no reason to stop shipping.
                    let _ = observer.send(notice);
                }
            }
        }
    }

    fn hear(&mut self, event: Event) {
        if let Some(part) = Task::ended_by(&event) {
            self.hands.ended(&part);
        }
        if let Event::Attempted(id, attempt) = &event {
            self.teller.attempted(id, attempt.resumed_at_bytes);
        }
        self.overflows += u64::from(matches!(event, Event::HintsLost));
        let looked = matches!(event, Event::Scanned(_));
        self.machine.handle(event, self.started.elapsed());
        if looked && !self.options.settings.once && self.stopping.is_none() {
            self.look_after_lock();
        }
        let retry = !self.trial.findings.is_empty() && self.next_trial <= Instant::now();
        if looked
            && (retry || self.hands.workers.known.grounds.findings() != self.trial.elsewhere())
        {
            self.try_moves();
        }
        if looked {
            self.folder_totals.forget();
            self.folder_totals.list_again();
        }
        self.stirred = true;
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
