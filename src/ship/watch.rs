//! inotify to hints. An event says only "look there"; what is true is what the look finds.
//!
//! ```text
//!  episodes/        one watch: a folder created, renamed in, removed            ──▶ hint
//!  episodes/        .sealift-look-<id>: `sealift requeue` asks for a look       ──▶ hint
//!  episodes/<id>/   one watch each while it is open: done.marker, nothing else  ──▶ hint
//!  queue overflow, hints faster than they are taken                              ──▶ unsure: look
//!                                                                                    everywhere
//!  episodes/ is removed, or another folder than it was, seen on the tick         ──▶ watches lost
//! ```
//!
//! The mask leaves MODIFY, ACCESS and CLOSE events out, so that a recorder's writes never wake us
//! (inotify(7)). A new episode is watched first and looked at then: a marker that falls between the
//! two is seen by the look.
//!
//! The watches belong to one thread of their own. Setting one from inside the event handler would
//! deadlock.

#[cfg(test)]
mod tests;
mod trouble;

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use notify::{
    Config, ErrorKind, EventKindMask, RecommendedWatcher, RecursiveMode, WatchPathConfig,
    Watcher as _,
};
use parking_lot::Mutex;

use rustix::io::Errno;
use tokio::sync::mpsc::{Sender, UnboundedSender, error::TrySendError};

pub(crate) use self::trouble::Trouble;

use crate::{
    disk::{
        filesystem::shared_between_hosts,
        scan::{self, RootId},
    },
    model::{
        episode::{EpisodeId, FolderLook},
        layout::{self, MARKER},
    },
    ship::machine::Event,
};

/// Everything that can make an episode appear, be sealed or go. Nothing that a recorder's writing
/// does.
const MASK: EventKindMask = EventKindMask::CREATE
    .union(EventKindMask::MODIFY_NAME)
    .union(EventKindMask::REMOVE);

/// Whether watches are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InotifyUse {
    /// It only looks.
    Never,
    /// As long as `episodes/` is on a file system whose events can be trusted: a mount that comes
    /// over it later may be another.
    WhereTrusted,
    /// The operator has configured it.
    Always,
}

/// What the watching thread can be asked for.
#[derive(Debug)]
enum WatchCommand {
    Look(EpisodeId),
    Unwatch(EpisodeId),
    Refresh,
    Ping,
}

/// The handle of the watching thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    commands: mpsc::Sender<WatchCommand>,
    overflowed: Arc<AtomicBool>,
    life: Arc<Life>,
}

/// What the thread shows of itself.
#[derive(Debug, Default)]
struct Life {
    obeyed: AtomicU64,
    /// Asked for a sign, and not given one yet.
    pinged: AtomicBool,
    /// The watched root was removed. One that is made anew may have its inode number.
    root_removed: AtomicBool,
    /// Why watches cannot be had, as long as they cannot.
    trouble: Mutex<Option<Trouble>>,
}

impl Watch {
    /// Starts watching `episodes`. Hints go to `hints`, everything else to `events`.
    ///
    /// # Errors
    /// Where no thread can be had. That watches cannot be had is no error: it is told as an event.
    pub(crate) fn start(
        episodes: PathBuf,
        inotify: InotifyUse,
        hints: Sender<EpisodeId>,
        events: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let mut watching = Watching::new(episodes, inotify, hints, events);
        let (overflowed, life) = (Arc::clone(&watching.overflowed), Arc::clone(&watching.life));
        // Before this returns, and so before the first scan: what comes between a scan and the
        // watch would be missed by both.
        watching.refresh();
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                for command in received {
                    watching.obey(command);
                }
            })?;
        Ok(Self {
            commands,
            overflowed,
            life,
        })
    }

    /// Looks at an episode. Where it is open it is watched, and looked at once more, so that no
    /// marker falls between the two. The answer is [`Event::Looked`].
    pub(crate) fn look(&self, id: EpisodeId) {
        // The thread lives as long as this handle: a send cannot fail.
        let _ = self.commands.send(WatchCommand::Look(id));
    }

    /// Stops watching an episode.
    pub(crate) fn unwatch(&self, id: EpisodeId) {
        let _ = self.commands.send(WatchCommand::Unwatch(id));
    }

    /// The tick: is `episodes/` still the folder that is watched, and can watches be had again?
    pub(crate) fn refresh(&self) {
        let _ = self.commands.send(WatchCommand::Refresh);
    }

    /// Asks the thread for a sign of life: it shows in [`Watch::obeyed`]. One question is enough
    /// until it is answered.
    pub(crate) fn ping(&self) {
        if !self.life.pinged.swap(true, Ordering::Relaxed) {
            let _ = self.commands.send(WatchCommand::Ping);
        }
    }

    /// A number that grows while the thread does what it is asked for.
    pub(crate) fn obeyed(&self) -> u64 {
        self.life.obeyed.load(Ordering::Relaxed)
    }

    /// Why watches cannot be had; `None` where they can.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.life.trouble.lock().clone()
    }

    /// Whether hints were lost since this was last asked.
    pub(crate) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::Relaxed)
    }
}

struct Watching {
    episodes: PathBuf,
    inotify: InotifyUse,
    hints: Sender<EpisodeId>,
    events: UnboundedSender<Event>,
    overflowed: Arc<AtomicBool>,
    life: Arc<Life>,
    watcher: Option<RecommendedWatcher>,
    root: Option<RootId>,
    watched: HashSet<EpisodeId>,
    /// Told that they cannot be watched, and still open.
    unwatchable: HashSet<EpisodeId>,
    /// Tells on which file system events cannot be trusted.
    untrusted_on: fn(&Path) -> Option<&'static str>,
    /// That file system, where the root is on one.
    untrusted: Option<&'static str>,
    /// A watch could not be had since the last refresh.
    failed: bool,
    /// It was said that watches cannot be had.
    blind: bool,
}

impl Watching {
    fn new(
        episodes: PathBuf,
        inotify: InotifyUse,
        hints: Sender<EpisodeId>,
        events: UnboundedSender<Event>,
    ) -> Self {
        Self {
            episodes,
            inotify,
            hints,
            events,
            overflowed: Arc::default(),
            life: Arc::default(),
            watcher: None,
            root: None,
            watched: HashSet::new(),
            unwatchable: HashSet::new(),
            untrusted_on: shared_between_hosts,
            untrusted: None,
            failed: false,
            blind: false,
        }
    }

    fn obey(&mut self, command: WatchCommand) {
        match command {
            WatchCommand::Look(id) => {
                let mut look = scan::look(&self.episodes, &id);
                // It is watched whether it was watched already or not: under this name there may be
                // another folder now, and a watch goes with its folder. Watching the same folder
                // twice does no harm. What is sealed is never watched: taking a watch away costs
                // notify a walk over all watches, which a burst of sealed episodes would pay by the
                // square.
                if matches!(look, FolderLook::Open | FolderLook::OddMarker(_)) {
                    self.watched.remove(&id);
                    self.watch(&id);
                    look = scan::look(&self.episodes, &id);
                }
                if look == FolderLook::Gone {
                    self.unwatch(&id);
                }
                self.send(Event::Looked(id, look));
            }
            WatchCommand::Unwatch(id) => self.unwatch(&id),
            WatchCommand::Refresh => self.refresh(),
            WatchCommand::Ping => self.life.pinged.store(false, Ordering::Relaxed),
        }
        self.life.obeyed.fetch_add(1, Ordering::Relaxed);
    }

    fn refresh(&mut self) {
        if self.inotify == InotifyUse::Never {
            return;
        }
        let now = scan::root_id(&self.episodes).ok();
        let removed = self.life.root_removed.swap(false, Ordering::Relaxed);
        let replaced = self.root.is_some() && (removed || now != self.root);
        if replaced {
            tracing::warn!(
                "{} is not the folder that was watched: it was removed, replaced or mounted over. Watching \
                 what is there now.",
                self.episodes.display()
            );
            // All watches hang on the old folder's inodes: away with them in one go.
            self.watcher = None;
            self.watched.clear();
            self.root = None;
        }
        if now.is_none() && self.untrusted.is_none() {
            // What is made anew under that name is found by looking until it is watched.
            let episodes = self.episodes.clone();
            self.become_blind(|| Trouble::missing(&episodes));
        }
        let mut begun_late = replaced;
        let failed_before = std::mem::take(&mut self.failed);
        if self.root.is_none() && now.is_some() {
            self.untrusted = match self.inotify {
                InotifyUse::WhereTrusted => (self.untrusted_on)(&self.episodes),
                InotifyUse::Never | InotifyUse::Always => None,
            };
            match self.untrusted {
                Some(_) => self.root = now,
                None => match self.watch_root() {
                    Ok(()) => {
                        self.root = now;
                        // A scan may be under way that passed before the watch was there.
                        begun_late |= self.blind;
                    }
                    Err(error) => self.fail(|| Trouble::of(&error)),
                },
            }
        }
        if let Some(name) = self.untrusted {
            self.fail(|| Trouble::untrusted(name));
        }
        if self.blind && self.root.is_some() && !self.failed && !failed_before {
            self.blind = false;
            self.note_trouble(None);
            tracing::info!("New episodes are noticed by inotify again.");
            self.send(Event::Watching(true));
        }
        if begun_late {
            self.send(Event::WatchesLost);
        }
    }

    fn watch_root(&mut self) -> notify::Result<()> {
        let (root, hints) = (self.episodes.clone(), self.hints.clone());
        let (events, overflowed) = (self.events.clone(), Arc::clone(&self.overflowed));
        let life = Arc::clone(&self.life);
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => {
                let _ = events.send(Event::HintsLost);
            }
            Ok(event) => {
                if event.kind.is_remove() && event.paths.contains(&root) {
                    life.root_removed.store(true, Ordering::Relaxed);
                    let _ = events.send(Event::WatchesLost);
                }
                for id in event
                    .paths
                    .iter()
                    .filter_map(|path| episode_of(&root, path))
                {
                    if let Err(TrySendError::Full(_)) = hints.try_send(id) {
                        overflowed.store(true, Ordering::Relaxed);
                    }
                }
            }
            Err(error) => {
                tracing::warn!("inotify reported an error: {error}. Looking everywhere.");
                let _ = events.send(Event::HintsLost);
            }
        };
        let config = Config::default()
            .with_event_kinds(MASK)
            .with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(handler, config)?;
        // The root may be a symlink that the operator chose; the episodes in it may not.
        watcher.watch_with(
            &self.episodes,
            WatchPathConfig::new(RecursiveMode::NonRecursive),
        )?;
        self.watcher = Some(watcher);
        Ok(())
    }

    fn watch(&mut self, id: &EpisodeId) {
        if self.watched.contains(id) {
            return;
        }
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let config =
            WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(false);
        match watcher.watch_with(&self.episodes.join(id.as_str()), config) {
            Ok(()) => {
                self.watched.insert(id.clone());
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => self.cannot_watch(id, &error),
        }
    }

    /// Only what is short for everybody makes the daemon blind. Everything else is this one
    /// episode's own.
    fn cannot_watch(&mut self, id: &EpisodeId, error: &notify::Error) {
        if is_short(error) {
            self.fail(|| Trouble::of(error));
        } else if self.unwatchable.insert(id.clone()) {
            tracing::warn!(
                EPISODE = %id,
                "{id} cannot be watched: {}. It is found by the next look through episodes/ once it is sealed, and all others are \
                 noticed at once as before.",
                Trouble::of(error).why
            );
        }
    }

    fn unwatch(&mut self, id: &EpisodeId) {
        self.unwatchable.remove(id);
        if self.watched.remove(id)
            && let Some(watcher) = &mut self.watcher
        {
            // The kernel has dropped the watch already where the folder is gone.
            let _ = watcher.unwatch(&self.episodes.join(id.as_str()));
        }
    }

    fn fail(&mut self, trouble: impl FnOnce() -> Trouble) {
        self.failed = true;
        self.become_blind(trouble);
    }

    fn become_blind(&mut self, trouble: impl FnOnce() -> Trouble) {
        if !std::mem::replace(&mut self.blind, true) {
            let trouble = trouble();
            let fix = trouble
                .fix
                .as_ref()
                .map(|fix| format!(" To mend it: {fix}"))
                .unwrap_or_default();
            tracing::warn!(
                "Watches cannot be had: {}. Episodes are found by looking every few seconds until they can.{fix}",
                trouble.why
            );
            self.note_trouble(Some(trouble));
            self.send(Event::Watching(false));
        }
    }

    fn note_trouble(&self, trouble: Option<Trouble>) {
        *self.life.trouble.lock() = trouble;
    }

    fn send(&self, event: Event) {
        // The loop has gone: so will this thread.
        let _ = self.events.send(event);
    }
}

/// Which episode a path speaks of: a folder in the root, or the marker in one, or the file by which
/// `sealift requeue` asks for a look at it. Everything else is a recorder's own affair.
fn episode_of(root: &Path, path: &Path) -> Option<EpisodeId> {
    let inside = path.strip_prefix(root).ok()?;
    let mut names = inside.iter();
    let name = names.next()?;
    let id = layout::hinted(name).or_else(|| EpisodeId::from_os(name).ok())?;
    match (names.next(), names.next()) {
        (None, _) => Some(id),
        (Some(name), None) if name == OsStr::new(MARKER) => Some(id),
        (Some(_), _) => None,
    }
}

/// A limit of this machine, or its memory: inotify_add_watch(2).
fn is_short(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::MaxFilesWatch => true,
        ErrorKind::Io(error) => {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            matches!(
                errno,
                Some(Errno::NOSPC | Errno::MFILE | Errno::NFILE | Errno::NOMEM)
            )
        }
        _ => false,
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
