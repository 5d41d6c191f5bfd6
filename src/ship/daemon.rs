//! The loop: events in, effects out to workers. It owns the machine, and decides nothing itself.
//!
//! ```text
//!  watch thread ──hints──▶ ┌──────┐ ──Look, Unwatch──▶ watch thread
//!  workers ─────results──▶ │ loop │ ──Pack, Check, Keep, Retire, ... ──▶ blocking workers
//!  signals, deadline ────▶ └──────┘ ──Send──▶ a task of the async runtime
//! ```

mod perform;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::Instant,
};

use self::perform::{Hands, Known, Workers};
use super::{
    lock,
    machine::{Event, Notice, Settings, Tally, queue::Machine},
    orphan, outbox,
    tell::Teller,
    transport::Transport,
    watch::{Watch, untrusted_events},
};
use crate::{
    durable,
    layout::Layout,
    progress::Progress,
    scan::{self, RootId},
    tree,
};

/// Hints that wait for the loop. More of them mean that everything is looked at anyway.
const MAX_HINTS: usize = 16 * 1024;
/// At a stop, what is in flight may take so long to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// And so long to be put away after it was told to stop.
const LAST_GRACE: Duration = Duration::from_secs(10);

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
    /// Receives every notice, for a program that shows the way of each episode.
    pub observer: Option<mpsc::UnboundedSender<Notice>>,
}

/// How long what left `episodes/` is kept, days; `None`: for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepDays {
    /// In `quarantine/`.
    pub quarantine: Option<u32>,
    /// In `shipped/`.
    pub shipped: Option<u32>,
}

/// Ships until it is told to stop; with `settings.once`, until one pass is through.
///
/// # Errors
/// Where the folders, the lock or the watching thread cannot be had. What goes wrong later with an episode, or with the
/// destination, is told, and is no error.
pub async fn run(
    mut options: Options,
    transport: Transport,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Tally> {
    let started = Instant::now();
    let layout = Arc::new(options.layout.clone());
    // Made anew by us, it is not the folder that the archives in the outbox were packed from (a disk that is not mounted?).
    let root = scan::root_id(&layout.episodes).ok();
    let _lock = prepare(&layout, root)?;
    let inotify = !options.settings.once && use_inotify(&mut options);
    let (event_sender, mut events) = mpsc::unbounded_channel();
    let (hint_sender, mut hints) = mpsc::channel(MAX_HINTS);
    let watch = Watch::start(layout.episodes.clone(), inotify, hint_sender, event_sender.clone())
        .context("Failed to start the watching thread")?;
    let mut machine = Machine::new(options.settings.clone(), started.elapsed());
    let mut teller = Teller::new(options.settings.once);
    let workers = Workers {
        layout: Arc::clone(&layout),
        transport,
        pack: options.pack,
        keep_days: options.keep_days,
        events: event_sender,
        known: Arc::new(Known::new(root)),
    };
    let mut hands = Hands::new(workers, watch);
    let mut stop = std::pin::pin!(stop);
    let mut stopping: Option<Instant> = None;
    let mut hangup = signal(SignalKind::hangup()).context("Failed to listen for SIGHUP")?;
    machine.handle(Event::Deadline, started.elapsed());
    loop {
        while let Some(effect) = machine.next_effect() {
            if let Some(notice) = hands.perform(effect) {
                teller.tell(&notice, started.elapsed());
                if let Some(observer) = &options.observer {
                    // Nobody looks any more: that is no reason to stop shipping.
                    let _ = observer.send(notice);
                }
            }
        }
        if (options.settings.once || stopping.is_some()) && machine.idle() {
            return Ok(machine.tally());
        }
        let deadline = match stopping {
            None => machine.next_deadline().map(|at| started + at),
            Some(at) => Some(at),
        };
        let event = tokio::select! {
            biased;
            () = &mut stop, if stopping.is_none() => {
                tracing::info!("stopping: nothing new is taken, what is in flight has {} s", GRACE.as_secs());
                stopping = Some(Instant::now() + GRACE);
                teller.stopping();
                Event::Stop
            }
            Some(event) = events.recv() => event,
            Some(id) = hints.recv() => {
                if hands.hints_were_lost() { Event::Unsure } else { Event::Hinted(id) }
            }
            Some(()) = hangup.recv() => {
                hands.reload();
                continue;
            }
            () = until(deadline) => match stopping {
                None => Event::Deadline,
                Some(_) if hands.cancelled() => {
                    tracing::warn!("stopped with work under way; the next start finishes it");
                    return Ok(machine.tally());
                }
                Some(_) => {
                    hands.cancel_everything();
                    stopping = Some(Instant::now() + LAST_GRACE);
                    continue;
                }
            },
        };
        hands.ended(&event);
        machine.handle(event, started.elapsed());
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Folders, lock, and what a killed predecessor left.
fn prepare(layout: &Layout, root: Option<RootId>) -> anyhow::Result<lock::Lock> {
    for folder in [&layout.private, &layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
        let was_there = folder.is_dir();
        durable::create_folder(folder).with_context(|| {
            let what_to_do = "create it and give it to the user that ships, or set another folder";
            format!("Failed to create {} ({what_to_do})", folder.display())
        })?;
        if !was_there && *folder == layout.episodes {
            tracing::info!("{} was not there, and was created: is the path right?", folder.display());
        }
    }
    if let Some([one, other]) = layout.overlap()? {
        anyhow::bail!(
            "{} and {} are the same folder, or one lies in the other, whatever their names say (a symlink?): what was moved \
             would be found again. Give each of the four folders a place of its own",
            tree::shown(&one),
            tree::shown(&other)
        );
    }
    let lock = lock::acquire(layout)?;
    let progress = Progress::default();
    for folder in [&layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
        finish_leftovers(folder, &progress);
    }
    if let Some(root) = root {
        orphan::put_back_unfinished(layout, root, &perform::content_of, &progress)
            .with_context(|| format!("Failed to look through {}", layout.outbox.display()))?;
    }
    outbox::clear_partials(layout)
        .with_context(|| format!("Failed to clear scratch from {}", layout.outbox.display()))?;
    Ok(lock)
}

/// What cannot be finished now is no reason not to ship.
fn finish_leftovers(folder: &Path, progress: &Progress) {
    if let Err(error) = durable::finish_leftovers(folder, progress) {
        tracing::warn!(
            "A removal or copy that was begun in {} could not be finished: {error}. It is tried again at the next \
             start.",
            folder.display()
        );
    }
}

fn use_inotify(options: &mut Options) -> bool {
    let untrusted = untrusted_events(&options.layout.episodes);
    let inotify = options.inotify.unwrap_or(untrusted.is_none());
    if !inotify {
        options.settings.reconcile_interval = options.reconcile_only_interval;
        tracing::info!(
            "Looking every {} s for new episodes{}",
            options.reconcile_only_interval.as_secs(),
            untrusted.map(|name| format!(": events cannot be trusted on {name}")).unwrap_or_default()
        );
    }
    inotify
}
