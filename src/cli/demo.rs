//! `sealift demo`: a recorder, the real daemon and the real receiver on this machine.
//!
//! ```text
//!  recorder (a thread) ──folders──▶ daemon ──PUT──▶ receiver (loopback, a free port)
//!    ▲          │ Recorded            │ Notice
//!    │ Go       ▼                     ▼
//!    └────── Demo: one line a step, as it happens; then a summary out of what lies on the disk
//! ```
//!
//! Nothing waits for time to pass: the recorder goes on when it is told that the episode before has
//! arrived.

mod recorder;
mod screen;
mod summary;

use std::{
    collections::HashMap,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::mpsc as std_mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::sync::{mpsc, oneshot};

use self::{
    recorder::{Go, Recorded},
    screen::{DemoScreen, DemoStep},
    summary::DemoShipped,
};
use super::{
    exit::{Exit, Failure},
    logging,
    ship::stop_signal,
};
use crate::{
    config::{RawConfig, ReceiveConfig, ShipConfig},
    model::{episode::EpisodeId, records::ArchiveFacts},
    receive::serve::Server,
    ship::{daemon, machine::Notice},
};

/// So long without a single step, and something is broken.
const NO_PROGRESS: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many episodes to record
    #[arg(long, value_name = "N", default_value = "8")]
    episodes: NonZeroUsize,
    /// Work in this folder (a new one, or an earlier demo's) and keep everything
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let place = DemoFolder::choose(args.data.as_deref())?;
    logging::start("warn");
    let runtime = tokio::runtime::Runtime::new().context("Failed to start the async runtime")?;
    let ended = runtime.block_on(demonstrate(args.episodes.get(), &place));
    // Whatever is still on a worker thread must not write into a folder that is being removed.
    drop(runtime);
    let removed = place.clean_up();
    match ended {
        // The reader of our output has seen enough (`sealift demo | head`).
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        Err(error) => Err(Failure::Wrong(error)),
        Ok(()) => {
            removed?;
            Ok(Exit::Done)
        }
    }
}

/// Where the demo lives: a folder that was named, or one that is removed at the end.
struct DemoFolder {
    root: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl DemoFolder {
    fn choose(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(named) = named else {
            let temporary = tempfile::Builder::new()
                .prefix("sealift-demo-")
                .tempdir()
                .context("Failed to create a temporary folder")?;
            return Ok(Self {
                root: temporary.path().to_owned(),
                temporary: Some(temporary),
            });
        };
        let root = std::path::absolute(named)
            .with_context(|| format!("Failed to find {}", named.display()))
            .map_err(Failure::Usage)?;
        // What is sealed in there would be delivered to the demo's receiver: real episodes must not
        // be.
        let is_empty = match root.read_dir() {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                let error =
                    anyhow!(error).context(format!("Failed to look into {}", root.display()));
                return Err(Failure::Usage(error));
            }
        };
        if !is_empty && !root.join("store").join("incoming").is_dir() {
            return Err(Failure::Usage(anyhow!(
                "{} is not empty, and not from an earlier demo. What is sealed in it would go to the demo's receiver: \
                 name a new folder",
                root.display()
            )));
        }
        Ok(Self {
            root,
            temporary: None,
        })
    }

    fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    fn clean_up(self) -> anyhow::Result<()> {
        let Some(temporary) = self.temporary else {
            return Ok(());
        };
        temporary
            .close()
            .with_context(|| format!("Failed to remove {}", self.root.display()))
    }
}

async fn demonstrate(episodes: usize, place: &DemoFolder) -> anyhow::Result<()> {
    let mut stop = Box::pin(stop_signal()?);
    let listen = "127.0.0.1:0".parse()?;
    let server = Server::bind(ReceiveConfig::at(listen, &place.store())).await?;
    let url = format!("http://{}", server.local_addr());
    let (stop_server, server_stops) = oneshot::channel::<()>();
    let server = tokio::spawn(server.run(async move {
        // A dropped sender is as good a word.
        let _ = server_stops.await;
    }));

    let config = shipper(&place.root, &url)?;
    let transport = super::ship::transport(&config.receiver, &config.host_id).map_err(wrong)?;
    let (observer, notices) = mpsc::unbounded_channel();
    let mut options = super::ship::options(&config, false);
    options.observer = Some(observer);
    let (stop_daemon, daemon_stops) = mpsc::unbounded_channel::<()>();
    let mut daemon = tokio::spawn(daemon::run(
        options,
        transport,
        daemon::Stop::new(daemon_stops),
    ));

    let screen = DemoScreen::new();
    screen.heading(&config.layout, &place.store(), &url)?;
    let mut demo = Demo::start(screen, config, place.store(), episodes, notices)?;
    let ended = tokio::select! {
        biased;
        () = &mut stop => Ok(DemoEnd::Stopped),
        died = &mut daemon => Err(match died {
            Ok(Ok(_)) => anyhow!("The shipper ended by itself"),
            Ok(Err(error)) => error,
            Err(panic) => anyhow!(panic).context("The shipper failed"),
        }),
        ended = demo.follow() => ended,
    };
    demo.dismiss_recorder();
    drop((stop_daemon, stop_server));
    if !daemon.is_finished() {
        daemon.await.context("The shipper failed")??;
    }
    server.await.context("The receiver failed")?;
    match ended? {
        DemoEnd::Shipped => demo.summarise(place).await,
        DemoEnd::Stopped => Ok(demo.say_stopped(place)?),
    }
}

/// The daemon as an operator would have it, in this folder and to this address.
fn shipper(root: &Path, url: &str) -> anyhow::Result<ShipConfig> {
    let mut raw = RawConfig::default();
    raw.shipper.data_dir = Some(root.to_owned());
    raw.shipper.host_id = Some("demo".to_owned());
    raw.receiver.url = Some(url.to_owned());
    Ok(raw.ship()?)
}

enum DemoEnd {
    Shipped,
    Stopped,
}

/// What is known of the episodes on their way, and who shows it.
struct Demo {
    screen: DemoScreen,
    config: ShipConfig,
    store: PathBuf,
    episodes: usize,
    notices: mpsc::UnboundedReceiver<Notice>,
    recorded: mpsc::UnboundedReceiver<Recorded>,
    recorder: Option<(std_mpsc::Sender<Go>, JoinHandle<()>)>,
    /// Sealed and on the way.
    sealed: HashMap<EpisodeId, DemoSealed>,
    shipped: Vec<DemoShipped>,
}

struct DemoSealed {
    at: Instant,
    what: String,
    bytes: u64,
    delivered_after: Duration,
}

impl Demo {
    fn start(
        screen: DemoScreen,
        config: ShipConfig,
        store: PathBuf,
        episodes: usize,
        notices: mpsc::UnboundedReceiver<Notice>,
    ) -> anyhow::Result<Self> {
        let (tell, recorded) = mpsc::unbounded_channel();
        let (go, went) = std_mpsc::channel();
        let layout = config.layout.clone();
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || recorder::record(&layout, episodes, &tell, &went))
            .context("Failed to start the recorder")?;
        let recorder = Some((go, thread));
        let (sealed, shipped) = (HashMap::new(), Vec::new());
        Ok(Self {
            screen,
            config,
            store,
            episodes,
            notices,
            recorded,
            recorder,
            sealed,
            shipped,
        })
    }

    /// Shows every step until the last episode is in `shipped/`.
    async fn follow(&mut self) -> anyhow::Result<DemoEnd> {
        while self.shipped.len() < self.episodes {
            // The recorder speaks before it acts: heard first, its word is always there before the
            // daemon's.
            let next = async {
                tokio::select! {
                    biased;
                    Some(recorded) = self.recorded.recv() => DemoNext::Recorded(recorded),
                    Some(notice) = self.notices.recv() => DemoNext::Noticed(notice),
                    else => std::future::pending().await,
                }
            };
            match tokio::time::timeout(NO_PROGRESS, next).await {
                Ok(DemoNext::Recorded(recorded)) => self.heard(recorded)?,
                Ok(DemoNext::Noticed(notice)) => self.noticed(notice)?,
                Err(_) => {
                    let waiting: Vec<_> = self.sealed.keys().map(ToString::to_string).collect();
                    return Err(anyhow!(
                        "Nothing has moved for {} s. {} of {} episodes were shipped; on the way: {}",
                        NO_PROGRESS.as_secs(),
                        self.shipped.len(),
                        self.episodes,
                        if waiting.is_empty() {
                            "none".to_owned()
                        } else {
                            waiting.join(", ")
                        }
                    ));
                }
            }
        }
        Ok(DemoEnd::Shipped)
    }

    fn heard(&mut self, recorded: Recorded) -> anyhow::Result<()> {
        match recorded {
            Recorded::Opened { id, what } => {
                Ok(self.screen.step(None, &id, DemoStep::Recording, &what)?)
            }
            Recorded::Sealing {
                id,
                at,
                what,
                bytes,
            } => {
                self.sealed.insert(
                    id,
                    DemoSealed {
                        at,
                        what,
                        bytes,
                        delivered_after: Duration::ZERO,
                    },
                );
                Ok(())
            }
            Recorded::Failed(error) => Err(error.context("The recorder failed")),
        }
    }

    fn noticed(&mut self, notice: Notice) -> anyhow::Result<()> {
        let now = monotonic_clock();
        match notice {
            Notice::Sealed(id, _) => {
                let what = self
                    .sealed
                    .get(&id)
                    .map_or("left by an earlier demo", |sealed| &sealed.what);
                self.screen
                    .step(self.after(&id, now), &id, DemoStep::Sealed, what)?;
            }
            Notice::Packed(id, facts) => {
                let what = match self.sealed.get(&id) {
                    Some(sealed) => screen::packed(sealed.bytes, facts.size_bytes),
                    None => screen::bytes(facts.size_bytes),
                };
                self.screen
                    .step(self.after(&id, now), &id, DemoStep::Packed, &what)?;
            }
            Notice::Delivered(id, facts, status) => {
                let after = self.after(&id, now);
                if let (Some(sealed), Some(after)) = (self.sealed.get_mut(&id), after) {
                    sealed.delivered_after = after;
                }
                let what = format!(
                    "{}, {}",
                    screen::status(status),
                    screen::bytes(facts.size_bytes)
                );
                self.screen.step(after, &id, DemoStep::Delivered, &what)?;
            }
            Notice::Retired(id, facts, _, path) => {
                let folder = self.config.layout.shipped.parent().unwrap_or(Path::new(""));
                let what = format!(
                    "now in {}",
                    path.strip_prefix(folder).unwrap_or(&path).display()
                );
                self.screen
                    .step(self.after(&id, now), &id, DemoStep::Retired, &what)?;
                self.retired(id, facts, path)?;
            }
            // A fault that will pass is the daemon's to mend, and its log has said so on stderr.
            Notice::Retrying(id, refusal, _) | Notice::RefusedAlone(id, refusal, _) => {
                self.screen
                    .step(self.after(&id, now), &id, DemoStep::Waits, &refusal.detail)?;
            }
            Notice::StillChanging(id, why, _)
            | Notice::OpenFile(id, why, _)
            | Notice::OpenFileAccepted(id, why, _)
            | Notice::OpenFileBeforeMove { id, what: why, .. }
            | Notice::LeftBehind { id, what: why, .. }
            | Notice::Stuck(id, why, _)
            | Notice::PackedAgain(id, why) => {
                self.screen
                    .step(self.after(&id, now), &id, DemoStep::Waits, &why)?;
            }
            Notice::Held(_)
            | Notice::StillHeld(..)
            | Notice::Cleared(_)
            | Notice::StampsMove(_)
            | Notice::PackingPaused(..)
            | Notice::OutboxFull(..)
            | Notice::NoRoom(..)
            | Notice::OddMarker(..)
            | Notice::Pace(_)
            | Notice::ClockDoubted(_) => {}
            Notice::Quarantined(id, reason, path) => {
                return Err(anyhow!(
                    "{id} was quarantined: {}. It is in {}",
                    reason.error,
                    path.display()
                ));
            }
            Notice::Conflict(id, refusal) => {
                return Err(anyhow!(
                    "{id} is in conflict with what is stored: {}",
                    refusal.detail
                ));
            }
            Notice::DeliveredAndGone(id) | Notice::Vanished(id) => {
                return Err(anyhow!("{id} was taken away by another process"));
            }
        }
        Ok(())
    }

    /// How long after its marker; unknown for what an earlier demo left.
    fn after(&self, id: &EpisodeId, now: Instant) -> Option<Duration> {
        self.sealed
            .get(id)
            .map(|sealed| now.saturating_duration_since(sealed.at))
    }

    fn retired(&mut self, id: EpisodeId, facts: ArchiveFacts, path: PathBuf) -> anyhow::Result<()> {
        let Some(sealed) = self.sealed.remove(&id) else {
            return Ok(());
        };
        let DemoSealed {
            bytes,
            delivered_after,
            ..
        } = sealed;
        self.shipped.push(DemoShipped {
            id,
            path,
            facts,
            bytes,
            delivered_after,
        });
        self.screen.gap()?;
        if let Some((go, _)) = &self.recorder {
            // It may have recorded its last: then it listens no more.
            let _ = go.send(Go);
        }
        Ok(())
    }

    fn dismiss_recorder(&mut self) {
        if let Some((go, thread)) = self.recorder.take() {
            drop(go);
            // A panic of its own has been printed, and was seen as a lack of progress.
            let _ = thread.join();
        }
    }

    async fn summarise(&mut self, place: &DemoFolder) -> anyhow::Result<()> {
        let (shipped, store) = (std::mem::take(&mut self.shipped), self.store.clone());
        let summary = tokio::task::spawn_blocking(move || summary::read_back(shipped, &store))
            .await
            .context("Reading back failed")??;
        self.screen.summary(&summary)?;
        self.screen.onward(&place.root, place.temporary.is_some())?;
        Ok(())
    }

    fn say_stopped(&self, place: &DemoFolder) -> io::Result<()> {
        let shipped = self.shipped.len();
        self.screen.line(&format!(
            "Stopped: {shipped} of {} episodes were shipped.",
            self.episodes
        ))?;
        if place.temporary.is_none() {
            self.screen
                .line(&format!("Everything is in {}.", place.root.display()))?;
        }
        Ok(())
    }
}

enum DemoNext {
    Recorded(Recorded),
    Noticed(Notice),
}

fn wrong(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Usage(error) | Failure::Wrong(error) => error,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error
        .chain()
        .any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: what a person sees is timed here"
)]
fn monotonic_clock() -> Instant {
    Instant::now()
}
