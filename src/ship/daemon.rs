//! The loop: events in, effects out to workers. It owns the machine, and decides nothing itself.
//!
//! ```text
//!  watch thread ──hints──▶ ┌──────┐ ──Look, Unwatch──▶ watch thread
//!  workers ─────results──▶ │ loop │ ──Pack, Check, Keep, Retire, ... ──▶ blocking workers
//!  signals, deadline ────▶ │      │ ──Send──▶ a task of the async runtime
//!  tick ─────────────────▶ └──────┘ ──WATCHDOG, STATUS──▶ the service manager
//! ```

mod perform;
pub mod reload;
pub mod standing;
mod start;
mod tending;
mod workers;

use std::{io, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::Instant,
};

use self::{
    perform::Hands,
    reload::{Reload, Reloaded, Reloads},
    workers::{Known, Workers},
};
use super::{
    lock::{Lock, REFRESH_EVERY},
    machine::{
        Event, Notice, Settings, Tally,
        pulse::{self, Allowances, Part, Pulse, Stalled},
        queue::Machine,
    },
    systemd::Notifier,
    tell::Teller,
    throttle::Throttle,
    transport::Transport,
    trial::Trial,
    watch::Watch,
};
use crate::{episode::EpisodeId, layout::Layout};

/// Hints that wait for the loop. More of them mean that everything is looked at anyway.
const MAX_HINTS: usize = 16 * 1024;
/// At a stop, what is in flight may take so long to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// And so long to be put away after it was told to stop.
const LAST_GRACE: Duration = Duration::from_secs(10);
/// Beyond that, what the service manager waits for a process to go.
const GOING: Duration = Duration::from_secs(5);

/// What the daemon needs to know.
#[derive(Debug)]
pub struct Options {
    /// The folders.
    pub layout: Layout,
    /// How to pack.
    pub pack: super::pack::Options,
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
    /// Receives every notice, for a program that shows the way of each episode.
    pub observer: Option<UnboundedSender<Notice>>,
}

/// How long what left `episodes/` is kept, days; `None`: for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepDays {
    /// In `quarantine/`.
    pub quarantine: Option<u32>,
    /// In `shipped/`.
    pub shipped: Option<u32>,
}

/// When to stop: called once, with a grace for what is in flight; called again, at once.
#[derive(Debug)]
pub struct Stop {
    calls: UnboundedReceiver<()>,
    closed: bool,
}

impl Stop {
    /// A call for each message; the end of the channel is one, too.
    #[must_use]
    pub fn new(calls: UnboundedReceiver<()>) -> Self {
        Self { calls, closed: false }
    }

    async fn called(&mut self) {
        if self.closed {
            std::future::pending::<()>().await;
        }
        self.closed = self.calls.recv().await.is_none();
    }
}

/// Ships until it is told to stop; with `settings.once`, until one pass is through.
///
/// # Errors
/// Where the folders, the lock or the watching thread cannot be had. What goes wrong later with an episode, or with the
/// destination, is told, and is no error.
pub async fn run(options: Options, transport: Transport, mut stop: Stop) -> anyhow::Result<Tally> {
    match Daemon::start(options, transport, &mut stop).await? {
        Some(daemon) => Ok(daemon.turn(&mut stop).await),
        None => Ok(Tally::default()),
    }
}

struct Daemon {
    options: Options,
    inotify: bool,
    machine: Machine,
    hands: Hands,
    teller: Teller,
    pulse: Pulse,
    started: Instant,
    stopping: Option<Instant>,
    next_beat: Instant,
    beat_every: Duration,
    last_status: Instant,
    /// Something has happened since that was told.
    stirred: bool,
    next_refresh: Instant,
    reading: bool,
    read_again: bool,
    reloads: Reloads,
    trial: Trial,
    stalled: Vec<Stalled>,
    events: UnboundedReceiver<Event>,
    hints: mpsc::Receiver<EpisodeId>,
    hangup: Signal,
    aside_sender: UnboundedSender<Aside>,
    aside: UnboundedReceiver<Aside>,
    lock: Lock,
}

/// What the loop waited for.
enum Turn {
    Stop,
    Beat,
    Status,
    Happened(Event),
    Hinted(EpisodeId),
    Hangup,
    Aside(Aside),
    Deadline,
}

/// Results that are none of the machine's.
enum Aside {
    Read(anyhow::Result<Box<Reloaded>>),
    Refreshed(io::Result<()>),
}

impl Daemon {
    async fn start(
        mut options: Options,
        transport: Transport,
        stop: &mut Stop,
    ) -> anyhow::Result<Option<Self>> {
        let started = Instant::now();
        let hangup = signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?;
        let (layout, once) = (Arc::new(options.layout.clone()), options.settings.once);
        let Some(prepared) = start::prepare(&layout, once, &mut options.notifier, stop).await? else {
            return Ok(None);
        };
        let inotify = !once && start::use_inotify(&mut options);
        let (event_sender, events) = mpsc::unbounded_channel();
        let (hint_sender, hints) = mpsc::channel(MAX_HINTS);
        let watch = Watch::start(layout.episodes.clone(), inotify, hint_sender, event_sender.clone())
            .context("Failed to start the watching thread")?;
        let throttle = Throttle::default();
        let workers = Workers {
            layout,
            transport: transport.throttled_by(throttle.clone()),
            pack: options.pack,
            keep_days: options.keep_days,
            events: event_sender,
            known: Arc::new(Known::new(prepared.root)),
        };
        let (aside_sender, aside) = mpsc::unbounded_channel();
        let beat_every = pulse::tick(options.watchdog);
        let now = Instant::now();
        Ok(Some(Self {
            inotify,
            machine: Machine::new(options.settings.clone(), started.elapsed()),
            hands: Hands::new(workers, watch, throttle),
            teller: Teller::new(once),
            pulse: Pulse::new(options.allowances, beat_every),
            started,
            stopping: None,
            next_beat: now,
            beat_every,
            last_status: now,
            stirred: true,
            next_refresh: now + REFRESH_EVERY,
            reading: false,
            read_again: false,
            reloads: Reloads::default(),
            trial: prepared.trial,
            stalled: Vec::new(),
            events,
            hints,
            hangup,
            aside_sender,
            aside,
            lock: prepared.lock,
            options,
        }))
    }

    async fn turn(mut self, stop: &mut Stop) -> Tally {
        if !self.options.settings.once {
            self.options.notifier.ready();
        }
        self.hear(Event::Deadline);
        loop {
            self.perform();
            if (self.options.settings.once || self.stopping.is_some()) && self.machine.idle() {
                return self.machine.tally();
            }
            match self.next(stop).await {
                Turn::Stop if self.stopping.is_some() => {
                    tracing::warn!("stopped at once, with work under way; the next start finishes it");
                    return self.machine.tally();
                }
                Turn::Stop => self.begin_to_stop(),
                Turn::Beat => self.beat(),
                Turn::Status => self.tell_status(),
                Turn::Happened(event) => self.hear(event),
                Turn::Hinted(_) if self.hands.hints_were_lost() => self.hear(Event::Unsure),
                Turn::Hinted(id) => self.hear(Event::Hinted(id)),
                Turn::Hangup => self.begin_to_read(),
                Turn::Aside(Aside::Read(read)) => self.read(read),
                Turn::Aside(Aside::Refreshed(refreshed)) => self.refreshed(refreshed),
                Turn::Deadline if self.stopping.is_none() => self.hear(Event::Deadline),
                Turn::Deadline if self.hands.cancelled() => {
                    tracing::warn!("stopped with work under way; the next start finishes it");
                    return self.machine.tally();
                }
                Turn::Deadline => {
                    self.hands.cancel_everything();
                    self.options.notifier.extend(LAST_GRACE + GOING);
                    self.stopping = Some(Instant::now() + LAST_GRACE);
                }
            }
        }
    }

    /// The heart comes first: however much happens, it is not kept from beating.
    async fn next(&mut self, stop: &mut Stop) -> Turn {
        let status = self.status_due();
        let deadline = match self.stopping {
            None => self.machine.next_deadline().map(|at| self.started + at),
            Some(at) => Some(at),
        };
        tokio::select! {
            biased;
            () = stop.called() => Turn::Stop,
            () = tokio::time::sleep_until(self.next_beat) => Turn::Beat,
            () = until(status) => Turn::Status,
            Some(()) = self.hangup.recv() => Turn::Hangup,
            Some(aside) = self.aside.recv() => Turn::Aside(aside),
            Some(event) = self.events.recv() => Turn::Happened(event),
            Some(id) = self.hints.recv() => Turn::Hinted(id),
            () = until(deadline) => Turn::Deadline,
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.next_effect() {
            if let Some(notice) = self.hands.perform(effect) {
                self.teller.tell(&notice, self.started.elapsed());
                if let Some(observer) = &self.options.observer {
                    // Nobody looks any more: that is no reason to stop shipping.
                    let _ = observer.send(notice);
                }
            }
        }
    }

    fn hear(&mut self, event: Event) {
        if let Some(part) = Part::ended_by(&event) {
            self.hands.ended(&part);
        }
        self.machine.handle(event, self.started.elapsed());
        self.stirred = true;
    }

    fn begin_to_stop(&mut self) {
        tracing::info!(
            "stopping: nothing new is taken, what is in flight has {} s; a second signal ends it at once",
            GRACE.as_secs()
        );
        self.options.notifier.stopping(GRACE + GOING);
        self.stopping = Some(Instant::now() + GRACE);
        self.teller.stopping();
        self.hear(Event::Stop);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
