//! Before anything is shipped: folders, the lock, what a killed predecessor left, and whether episodes can be moved.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use super::{Options, Stop, workers::content_of};
use crate::{
    durable,
    episode::EpisodeId,
    filesystem::shared_between_hosts,
    layout::Layout,
    progress::Progress,
    scan::{self, RootId},
    ship::{
        control::{self, Bound},
        lock::{self, Lock},
        orphan, outbox,
        systemd::Notifier,
    },
    tree,
    trial::{self, Trial},
};

/// How often the service manager hears of a long clean-up that moves.
const EXTEND_EVERY: Duration = Duration::from_secs(1);
/// And for how long from then it is to wait: as long as one call to a slow disk may take.
const EXTEND_BY: Duration = Duration::from_secs(120);

/// What the start has found.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) lock: Lock,
    /// Which folder `episodes/` was before we made any: one that we made is not the folder that the archives in the outbox
    /// were packed from (a disk that is not mounted?).
    pub(super) root: Option<RootId>,
    pub(super) trial: Trial,
    /// Where it is asked how it stands; `None` for one pass, and where there can be no socket.
    pub(super) control: Option<Bound>,
}

/// Prepares everything; `None` where it was told to stop first.
///
/// A clean-up may have terabytes to remove. For as long as it moves, the service manager is asked for more time.
pub(super) async fn prepare(
    layout: &Arc<Layout>,
    once: bool,
    notifier: &mut Notifier,
    stop: &mut Stop,
) -> anyhow::Result<Option<Prepared>> {
    let (progress, layout) = (Progress::default(), Arc::clone(layout));
    let shown = progress.clone();
    let mut preparing = tokio::task::spawn_blocking(move || prepare_now(&layout, once, &progress));
    let mut steps = 0;
    loop {
        let look = Instant::now() + EXTEND_EVERY;
        tokio::select! {
            biased;
            prepared = &mut preparing => return prepared.context("Failed to prepare")?.map(Some),
            () = stop.called() => return Ok(None),
            () = tokio::time::sleep_until(look), if notifier.is_heard() => {
                let now = shown.steps();
                if std::mem::replace(&mut steps, now) != now {
                    notifier.status("cleaning up after the last run");
                    notifier.extend(EXTEND_BY);
                }
            }
        }
    }
}

fn prepare_now(layout: &Layout, once: bool, progress: &Progress) -> anyhow::Result<Prepared> {
    let root = scan::root_id(&layout.episodes).ok();
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
    for folder in [&layout.private, &layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
        finish_leftovers(folder, progress);
    }
    if let Some(root) = root {
        let content_of = |id: &EpisodeId, directory: &Path| content_of(id, directory, progress);
        orphan::put_back_unfinished(layout, root, &content_of, progress)
            .with_context(|| format!("Failed to look through {}", layout.outbox.display()))?;
    }
    outbox::clear_partials(layout)
        .with_context(|| format!("Failed to clear scratch from {}", layout.outbox.display()))?;
    // Whoever runs one pass looks at its result, and at no status.
    let trial = if once { Trial::default() } else { trial::run(layout, "") };
    trial.tell();
    let control = if once { None } else { listen(layout) };
    Ok(Prepared { lock, root, trial, control })
}

/// Nobody can ask us then, and that is all.
fn listen(layout: &Layout) -> Option<Bound> {
    let bound = control::bind(layout);
    bound
        .inspect_err(|error| {
            tracing::warn!(
                "Nobody can ask at {} how it stands: {error}. `sealift status` tells what the folders tell, and everything else goes on.",
                tree::shown(&layout.control_socket())
            );
        })
        .ok()
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

/// Whether episodes are noticed by inotify; where not, why, and the reconcile interval is the shorter one.
pub(super) fn use_inotify(options: &mut Options) -> (bool, Option<String>) {
    let untrusted = shared_between_hosts(&options.layout.episodes);
    let inotify = options.inotify.unwrap_or(untrusted.is_none());
    if !inotify {
        options.settings.reconcile_interval = options.reconcile_only_interval;
        let why = untrusted.map(|name| format!("events cannot be trusted on {name}"));
        tracing::info!(
            "Looking every {} s for new episodes{}",
            options.reconcile_only_interval.as_secs(),
            why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
        );
        return (false, Some(why.unwrap_or_else(|| "set so (shipper.watch)".to_owned())));
    }
    (true, None)
}
