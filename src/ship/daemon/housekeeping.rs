//! What the loop does beside the machine: the heartbeat, the status, the lock's refreshing, the
//! reload.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Daemon, SideResult,
    reload::{self, Reloaded},
};
use crate::{
    disk::{
        move_check::{self, MoveCheck, Trier},
        tree,
    },
    ship::{
        lock::{Lock, LockError, refresh_every},
        machine::{
            Event,
            liveness::{Task, Work},
        },
        report::status_line::StatusLine,
    },
};

/// No oftener is the service manager told how it stands.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// No oftener are moves tried again behind a look around.
const TRY_EVERY: Duration = Duration::from_secs(30);

impl Daemon {
    /// The tick: who has shown progress since the last one?
    pub(super) fn beat(&mut self) {
        let now = Instant::now();
        self.next_beat = now + self.beat_every;
        self.hands.mark(now);
        let look = self.pulse.look(self.hands.counts(), self.started.elapsed());
        for stalled in &look.newly {
            tracing::error!(
                EPISODE = stalled.part.id.as_ref().map(tracing::field::display),
                "{stalled}. A hung disk or mount? No sign of life is given until it moves; where the unit has a watchdog, it \
                 starts this again."
            );
        }
        for part in &look.recovered {
            tracing::info!(
                EPISODE = part.id.as_ref().map(tracing::field::display),
                "{part} moves again, or is over"
            );
        }
        if look.beats() {
            self.last_beat = Some(now);
            if self.options.watchdog.is_some() {
                self.options.notifier.beat();
            }
        }
        self.stirred |= look.stalled != self.stalled;
        self.stalled = look.stalled;
        self.hands.ping();
        if now >= self.next_refresh {
            self.look_after_lock();
        }
        self.write_textfile();
    }

    /// Says that we hold the lock still. The lock file, or the whole data folder, may have been
    /// removed, or another host has taken the lock.
    pub(super) fn look_after_lock(&mut self) {
        self.next_refresh = Instant::now() + refresh_every();
        let (keeper, layout) = (self.lock.keeper(), self.options.layout.clone());
        let aside = self.aside_sender.clone();
        self.hands.look_after_lock(move || {
            let _ = aside.send(SideResult::Locked(keeper.keep(&layout)));
        });
    }

    pub(super) fn locked(&mut self, locked: Result<Option<Lock>, LockError>) {
        self.hands.ended(&Task::of(Work::Lock));
        let trouble = match locked {
            Ok(None) => None,
            Ok(Some(lock)) => {
                let folder = tree::shown(&self.options.layout.private);
                tracing::warn!("{folder}/lock was gone while we ran, and was taken anew.");
                // Closed, and no more: its file is gone.
                std::mem::replace(&mut self.lock, lock).close();
                None
            }
            Err(error @ LockError::Io { .. }) => Some(format!("{:#}", anyhow::Error::new(error))),
            Err(error) => {
                tracing::error!(
                    "The lock was removed or replaced while we ran, and another daemon has taken it: this one stops."
                );
                self.robbed = Some(error);
                if self.stopping.is_none() {
                    self.begin_to_stop();
                }
                None
            }
        };
        if let Some(trouble) = trouble.as_ref().filter(|_| trouble != self.lock_trouble) {
            tracing::warn!(
                "The lock cannot be looked after: {trouble}. Should this last, a second daemon could start on this folder. It is tried \
                 again with every look through episodes/."
            );
        }
        self.lock_trouble = trouble;
    }

    /// Whether episodes can be moved: what was wrong may have been mended since.
    pub(super) fn try_moves(&mut self) {
        if self.options.settings.once || self.stopping.is_some() || self.hands.is_at(Work::Trial) {
            return;
        }
        self.next_trial = Instant::now() + TRY_EVERY;
        let progress = self.hands.begin(Task::of(Work::Trial), 0);
        let (workers, aside) = (self.hands.workers.clone(), self.aside_sender.clone());
        tokio::task::spawn_blocking(move || {
            let mut trial = move_check::run(&workers.layout, Trier::Holder, &progress);
            // First, since the rest may follow from it.
            trial
                .findings
                .splice(0..0, workers.known.grounds.findings());
            let _ = aside.send(SideResult::Tried(trial));
        });
    }

    pub(super) fn tried(&mut self, trial: MoveCheck) {
        self.hands.ended(&Task::of(Work::Trial));
        trial.tell_after(&self.trial);
        self.stirred |= trial != self.trial;
        self.trial = trial;
    }

    /// Reading may wait for a disk; what is under way goes on meanwhile.
    pub(super) fn begin_to_read(&mut self) {
        // A daemon that stops takes up nothing new.
        let Some(reload) = self
            .options
            .reload
            .clone()
            .filter(|_| self.stopping.is_none())
        else {
            return;
        };
        self.read_again = self.reading;
        if self.reading {
            return;
        }
        self.reading = true;
        self.options.notifier.reloading();
        self.hands.begin(Task::of(Work::Reload), 0);
        let aside = self.aside_sender.clone();
        tokio::task::spawn_blocking(move || {
            let _ = aside.send(SideResult::Read(reload.read().map(Box::new)));
        });
    }

    pub(super) fn read(&mut self, read: anyhow::Result<Box<Reloaded>>) {
        self.reading = false;
        self.hands.ended(&Task::of(Work::Reload));
        if let Some(reloaded) = reload::note(&mut self.reloads, read) {
            self.apply(*reloaded);
            self.try_moves();
        }
        if self.stopping.is_none() {
            self.options.notifier.ready();
        }
        self.tell_status();
        if self.read_again {
            self.begin_to_read();
        }
    }

    fn apply(&mut self, reloaded: Reloaded) {
        let Reloaded {
            pack,
            free_bytes,
            mut settings,
            reconcile_only_interval,
            keep_days,
            ..
        } = reloaded;
        if !self.inotify {
            settings.reconcile_interval = reconcile_only_interval;
        }
        self.pulse.allow(reloaded.allowances);
        let workers = &mut self.hands.workers;
        let elsewhere = !workers.transport.leads_where(&reloaded.transport);
        // What is under way has its own transport, and the throttle of all.
        workers.transport = reloaded.transport.throttled_by(self.hands.throttle.clone());
        workers.pack = pack;
        workers.free_bytes = free_bytes;
        workers.keep_days = keep_days;
        self.hear(Event::Configured {
            settings,
            elsewhere,
        });
    }

    /// When the service manager is to hear how it stands; `None` where nothing has changed, or no
    /// service manager listens.
    pub(super) fn status_due(&self) -> Option<Instant> {
        let changes = self.stirred || self.hands.uploaded().1 > 0;
        (self.options.notifier.is_heard() && changes).then(|| self.last_status + STATUS_EVERY)
    }

    pub(super) fn tell_status(&mut self) {
        self.last_status = Instant::now();
        self.stirred = false;
        if self.options.notifier.is_heard() {
            let standing = self.standing();
            self.options.notifier.status(&standing.to_string());
        }
    }

    /// How it stands now.
    fn standing(&self) -> StatusLine {
        let (sent_bytes, to_send_bytes) = self.hands.uploaded();
        StatusLine {
            census: self.machine.census(),
            sent_bytes,
            to_send_bytes,
            reloads: self.reloads.clone(),
            trial: self.trial.clone(),
            stranded: self.hands.workers.known.stats.lock().stranded,
            stalled: self.stalled.clone(),
        }
    }
}
