//! Before anything is shipped: folders, the lock, what a killed predecessor left, and whether
//! episodes can be moved.

use std::{
    fmt, iter,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    DaemonOptions, Stop, asides, folder_identity::Grounds, source_removal::open_again,
    workers::content_of,
};

use crate::{
    disk::{
        durable::{self, Leftovers},
        filesystem::shared_between_hosts,
        move_check::{self, MoveCheck, Trier},
        scan::{self, RootId},
        socket, tree,
    },
    model::{episode::EpisodeId, layout::Layout, progress::Progress, text::typed_path},
    ship::{
        lock::{self, Lock},
        orphan, outbox,
        report::{
            control::{self, Bound},
            systemd::Notifier,
        },
    },
};

/// One pass has no later look: for so long it waits where a move is at work in `episodes/`, and
/// something sealed is out of sight there.
const WAIT_FOR_MOVES: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const LOOK_FOR_MOVES: Duration = Duration::from_millis(250);
/// How often the service manager hears of a long clean-up that moves.
const EXTEND_EVERY: Duration = Duration::from_secs(1);
/// And for how long from then it is to wait: as long as one call to a slow disk may take.
const EXTEND_BY: Duration = Duration::from_secs(120);
/// What shows nothing for so long is told by its name.
const QUIET_FOR: Duration = Duration::from_secs(5);

/// What the start has found.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) lock: Lock,
    /// Which folder `episodes/` was before we made any: one that we made is not the folder that the
    /// archives in the outbox were packed from (a disk that is not mounted?).
    pub(super) root: Option<RootId>,
    /// Where a move of another process was at work, so that what a killed one may have left there
    /// is still to be looked at.
    pub(super) leftovers: Vec<PathBuf>,
    /// Which folders the others were.
    pub(super) grounds: Grounds,
    pub(super) trial: MoveCheck,
    /// Where it is asked how it stands; `None` for one pass, and where there can be no socket.
    pub(super) control: Option<Bound>,
    /// The file system of `episodes/`, where its events cannot be trusted.
    pub(super) untrusted: Option<&'static str>,
}

/// What the start is at just now, by name: shared by the thread that prepares and the loop that
/// tells.
#[derive(Debug, Clone, Default)]
struct Doing {
    progress: Progress,
    what: Arc<Mutex<String>>,
}

/// What was told of it.
#[derive(Debug)]
struct Told {
    steps: u64,
    moved: Instant,
    quiet: bool,
}

/// Prepares everything; `None` where it was told to stop first.
///
/// A clean-up may have terabytes to remove. For as long as it moves, the service manager is asked
/// for more time.
pub(super) async fn prepare(
    layout: &Arc<Layout>,
    once: bool,
    notifier: &mut Notifier,
    stop: &mut Stop,
) -> anyhow::Result<Option<Prepared>> {
    let (doing, of_daemon) = (Doing::default(), Arc::clone(layout));
    let mut told = Told {
        steps: 0,
        moved: Instant::now(),
        quiet: false,
    };
    let done = doing.clone();
    let mut preparing = tokio::task::spawn_blocking(move || prepare_now(&of_daemon, once, &done));
    loop {
        let look = Instant::now() + EXTEND_EVERY;
        tokio::select! {
            biased;
            prepared = &mut preparing => {
                let prepared = prepared.context("Failed to prepare")??;
                return if once { wait_for_moves(prepared, layout, stop).await } else { Ok(Some(prepared)) };
            }
            () = stop.called() => return Ok(None),
            () = tokio::time::sleep_until(look) => told.look(&doing, Instant::now(), notifier),
        }
    }
}

async fn wait_for_moves(
    mut prepared: Prepared,
    layout: &Arc<Layout>,
    stop: &mut Stop,
) -> anyhow::Result<Option<Prepared>> {
    let until = Instant::now() + WAIT_FOR_MOVES;
    while !prepared.leftovers.is_empty() {
        let (layout, mut folders) = (Arc::clone(layout), std::mem::take(&mut prepared.leftovers));
        let settled = tokio::task::spawn_blocking(move || {
            let left = asides::settle(&layout, &mut folders, &Progress::default());
            (left, folders)
        });
        let (left, folders) = settled.await.context("Failed to wait for moves")?;
        prepared.leftovers = folders;
        let look = Instant::now() + LOOK_FOR_MOVES;
        if left.is_none() || look > until {
            break;
        }
        tokio::select! {
            () = stop.called() => return Ok(None),
            () = tokio::time::sleep_until(look) => {}
        }
    }
    Ok(Some(prepared))
}

impl Doing {
    fn begin(&self, what: fmt::Arguments<'_>) {
        *self.what.lock() = what.to_string();
        self.progress.step();
    }

    fn what(&self) -> String {
        self.what.lock().clone()
    }
}

impl Told {
    /// The service manager ends a start that hangs, and shows the last status: so that has what
    /// hung.
    fn look(&mut self, doing: &Doing, now: Instant, notifier: &mut Notifier) {
        let (steps, what) = (doing.progress.steps(), doing.what());
        if steps != self.steps {
            if self.quiet {
                tracing::info!("The start goes on: {what}.");
            }
            *self = Self {
                steps,
                moved: now,
                quiet: false,
            };
            notifier.status(&format!("starting: {what}"));
            notifier.extend(EXTEND_BY);
        } else if !self.quiet && now.duration_since(self.moved) >= QUIET_FOR {
            self.quiet = true;
            let quiet_s = QUIET_FOR.as_secs();
            tracing::warn!(
                "The start has not moved for {quiet_s} s: {what}. A hung disk or mount? It goes on by itself when that answers."
            );
            notifier.status(&format!(
                "starting: {what}; HUNG: nothing has moved for {quiet_s} s"
            ));
        }
    }
}

/// What makes a folder that this user may not make.
fn made_by_setup(layout: &Layout) -> String {
    let us = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let data = layout.private.parent().unwrap_or(&layout.private);
    format!(
        "`sudo sealift setup --user {us} --group {group} --data {}`, or with the same --config, makes it, and lets this user and its \
         unit write there; or set another folder",
        typed_path(data)
    )
}

fn prepare_now(layout: &Layout, once: bool, doing: &Doing) -> anyhow::Result<Prepared> {
    let progress = &doing.progress;
    let folders = || iter::once(&layout.private).chain(layout.folders());
    let [private, episodes, outbox] =
        [&layout.private, &layout.episodes, &layout.outbox].map(|folder| tree::shown(folder));
    doing.begin(format_args!("looking at {episodes}"));
    let root = scan::root_id(&layout.episodes).ok();
    for folder in folders() {
        doing.begin(format_args!("looking at {}", tree::shown(folder)));
        let was_there = folder.is_dir();
        durable::create_folder(folder).with_context(|| {
            format!(
                "Failed to create {} ({})",
                folder.display(),
                made_by_setup(layout)
            )
        })?;
        if !was_there && *folder == layout.episodes {
            tracing::info!(
                "{} was not there, and was created: is the path right?",
                folder.display()
            );
        }
    }
    doing.begin(format_args!("comparing the four folders"));
    if let Some([one, other]) = layout.overlap()? {
        anyhow::bail!(
            "{} and {} are the same folder, or one lies in the other, whatever their names say (a symlink?): what was moved \
             would be found again. Give each of the four folders a place of its own",
            tree::shown(&one),
            tree::shown(&other)
        );
    }
    doing.begin(format_args!("taking the lock in {private}"));
    let socket = if once {
        None
    } else {
        socket::elsewhere(layout)
    };
    let lock = lock::acquire(layout, socket.as_deref())?;
    doing.begin(format_args!("looking in {episodes} for what was delivered"));
    asides::finish(layout, progress);
    let mut leftovers = Vec::new();
    for folder in folders() {
        let shown = tree::shown(folder);
        doing.begin(format_args!(
            "clearing away what the last run left in {shown}"
        ));
        if !finish_leftovers(folder, progress) {
            leftovers.push(folder.clone());
        }
    }
    for entry in std::fs::read_dir(&layout.episodes)
        .into_iter()
        .flatten()
        .flatten()
    {
        open_again(&entry.path());
    }
    if let Some(root) = root {
        doing.begin(format_args!(
            "looking through {outbox} for what was to be put back"
        ));
        let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
        orphan::put_back_unfinished(layout, root, &content_of, progress)
            .with_context(|| format!("Failed to look through {}", layout.outbox.display()))?;
    }
    doing.begin(format_args!("clearing scratch from {outbox}"));
    outbox::clear_partials(layout, progress)
        .with_context(|| format!("Failed to clear scratch from {}", layout.outbox.display()))?;
    doing.begin(format_args!("trying whether episodes can be moved"));
    // The operator who runs one pass looks at its result, and at no status.
    let trial = if once {
        MoveCheck::default()
    } else {
        move_check::run(layout, Trier::Holder, progress)
    };
    trial.tell();
    doing.begin(format_args!("making the socket in {private}"));
    let socket = socket.unwrap_or_else(|| layout.control_socket());
    let control = if once { None } else { listen(socket) };
    doing.begin(format_args!("looking at the file system of {episodes}"));
    let untrusted = shared_between_hosts(&layout.episodes);
    if let Some(folder) = leftovers.first() {
        tracing::info!(
            "A move is at work in {} (sealift requeue, or another shipper): what a killed process may have left there is \
             looked at once it has ended.",
            tree::shown(folder)
        );
    }
    Ok(Prepared {
        lock,
        root,
        leftovers,
        grounds: Grounds::of(layout),
        trial,
        control,
        untrusted,
    })
}

/// `None` where the socket cannot be had: then no client can ask, and nothing else changes.
fn listen(path: PathBuf) -> Option<Bound> {
    let bound = control::bind(path.clone());
    bound
        .inspect_err(|error| {
            tracing::warn!(
                "Control socket {} unavailable: {error}. `sealift status` reads the folders instead; shipping is not affected.",
                tree::shown(&path)
            );
        })
        .ok()
}

/// What cannot be finished now is no reason not to ship. False where it is to be tried again.
pub(super) fn finish_leftovers(folder: &Path, progress: &Progress) -> bool {
    match durable::finish_leftovers(folder, progress) {
        Ok(Leftovers::Finished) => {}
        Ok(Leftovers::InUse) => return false,
        Err(error) => tracing::warn!(
            "A removal or copy that was begun in {} could not be finished: {error}. It is tried again at the next \
             start.",
            folder.display()
        ),
    }
    true
}

/// Whether episodes are noticed by inotify; where not, why, and the reconcile interval is the
/// shorter one.
pub(super) fn use_inotify(
    options: &mut DaemonOptions,
    untrusted: Option<&str>,
) -> (bool, Option<String>) {
    let inotify = options.inotify.unwrap_or(untrusted.is_none());
    if !inotify {
        options.settings.reconcile_interval = options.reconcile_only_interval;
        let why = untrusted.map(|name| format!("events cannot be trusted on {name}"));
        tracing::info!(
            "Looking every {} s for new episodes{}",
            options.reconcile_only_interval.as_secs(),
            why.as_ref()
                .map(|why| format!(": {why}"))
                .unwrap_or_default()
        );
        return (
            false,
            Some(why.unwrap_or_else(|| "set so (shipper.watch)".to_owned())),
        );
    }
    (true, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_start_that_moves_asks_for_more_time_and_one_that_does_not_says_where_it_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let heard = || -> Vec<String> {
            let mut buffer = [0; 4096];
            let next = || {
                manager
                    .recv(&mut buffer)
                    .ok()
                    .map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
            };
            std::iter::from_fn(next).collect()
        };
        let mut notifier = Notifier::to(folder.path().join("notify").as_os_str()).unwrap();
        let (doing, start) = (Doing::default(), Instant::now());
        let mut told = Told {
            steps: 0,
            moved: start,
            quiet: false,
        };
        let mut look = |after: Duration| {
            told.look(&doing, start + after, &mut notifier);
            heard()
        };
        doing.begin(format_args!("looking at /mnt/archive/shipped"));
        let more = "EXTEND_TIMEOUT_USEC=120000000\n";
        assert_eq!(
            look(Duration::ZERO),
            ["STATUS=starting: looking at /mnt/archive/shipped\n", more]
        );
        assert_eq!(look(QUIET_FOR / 2), [""; 0]);
        let hung =
            "STATUS=starting: looking at /mnt/archive/shipped; HUNG: nothing has moved for 5 s\n";
        assert_eq!(look(QUIET_FOR), [hung]);
        assert_eq!(look(QUIET_FOR * 2), [""; 0]);
        doing.progress.step();
        assert_eq!(
            look(QUIET_FOR * 3),
            ["STATUS=starting: looking at /mnt/archive/shipped\n", more]
        );
    }
}
