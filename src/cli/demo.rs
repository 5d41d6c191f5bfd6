//! `sealift demo`: a recorder, the real daemon and the real receiver on this machine.
//!
//! ```text
//!  recorder ──folders──▶ daemon ──PUT──▶ receiver (loopback, a free port)
//!    ▲                      │ Notice
//!    │                      ▼
//!    └────────────────── Demo: one line a step, as it happens; then a summary of what is on disk
//! ```
//!
//! Nothing waits for time to pass: the next episode is recorded when the one before has arrived.

mod recorder;
mod screen;

use std::{
    fs::{self, File},
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    recorder::DemoEpisode,
    screen::{line, packed},
};
use super::{
    exit::{Exit, Failure},
    logging,
    ship::stop_signal,
};
use crate::{
    config::{RawConfig, ReceiveConfig, ShipConfig},
    model::{
        episode::{Digest, EpisodeId},
        layout::RECEIPT,
        progress::{self, Progress},
        records::{ArchiveFacts, ShippingReceipt},
        text::bytes,
    },
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
    let (root, temporary) = match &args.data {
        Some(named) => (named_folder(named).map_err(Failure::Usage)?, None),
        None => {
            let folder = tempfile::Builder::new()
                .prefix("sealift-demo-")
                .tempdir()
                .context("Failed to create a temporary folder")?;
            (folder.path().to_owned(), Some(folder))
        }
    };
    logging::start("warn");
    let runtime = tokio::runtime::Runtime::new().context("Failed to start the async runtime")?;
    let ended = runtime.block_on(demonstrate(args.episodes.get(), &root, temporary.is_some()));
    // Whatever is still on a worker thread must not write into a folder that is being removed.
    drop(runtime);
    let removed = temporary.map_or(Ok(()), tempfile::TempDir::close);
    match ended {
        // The reader of the output has seen enough (`sealift demo | head`).
        Err(error) if is_broken_pipe(&error) => {}
        ended => {
            ended?;
            removed.with_context(|| format!("Failed to remove {}", root.display()))?;
        }
    }
    Ok(Exit::Done)
}

/// A folder for a demo. What is sealed in it is delivered to the demo's receiver: real episodes
/// must not be.
fn named_folder(named: &Path) -> anyhow::Result<PathBuf> {
    let root = std::path::absolute(named)
        .with_context(|| format!("Failed to find {}", named.display()))?;
    let is_empty = match root.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(anyhow!(error).context(format!("Failed to look into {}", root.display())));
        }
    };
    ensure!(
        is_empty || root.join("store/incoming").is_dir(),
        "{} is not empty, and not from an earlier demo. What is sealed in it would go to the \
         demo's receiver: name a new folder",
        root.display()
    );
    Ok(root)
}

async fn demonstrate(episodes: usize, root: &Path, temporary: bool) -> anyhow::Result<()> {
    let mut stop = Box::pin(stop_signal()?);
    let store = root.join("store");
    let server = Server::bind(ReceiveConfig::at("127.0.0.1:0".parse()?, &store)).await?;
    let url = format!("http://{}", server.local_addr());
    let (stop_server, server_stops) = oneshot::channel::<()>();
    let server = tokio::spawn(server.run(async move {
        // A dropped sender is as good a word.
        let _ = server_stops.await;
    }));

    let config = shipper(root, &url)?;
    let transport =
        super::ship::transport(&config.receiver, &config.host_id).map_err(Failure::into_error)?;
    let (observer, notices) = mpsc::unbounded_channel();
    let mut options = super::ship::options(&config, false);
    options.observer = Some(observer);
    let (stop_daemon, daemon_stops) = mpsc::unbounded_channel::<()>();
    let mut daemon = tokio::spawn(daemon::run(
        options,
        transport,
        daemon::Stop::new(daemon_stops),
    ));

    screen::heading(&config.layout, &store, &url)?;
    let mut demo = Demo {
        config,
        notices,
        current: None,
        shipped: Vec::new(),
    };
    let ended = tokio::select! {
        biased;
        () = &mut stop => Ok(false),
        died = &mut daemon => match died {
            Ok(Ok(_)) => Err(anyhow!("The shipper ended by itself")),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(anyhow!(panic).context("The shipper failed")),
        },
        ended = demo.follow(episodes) => ended.map(|()| true),
    };
    drop((stop_daemon, stop_server));
    if !daemon.is_finished() {
        daemon.await.context("The shipper failed")??;
    }
    server.await.context("The receiver failed")?;
    if ended? {
        demo.summarise(&store)?;
        screen::onward(root, temporary)?;
        return Ok(());
    }
    let shipped = demo.shipped.len();
    line(&format!(
        "Stopped: {shipped} of {episodes} episodes were shipped."
    ))?;
    if !temporary {
        line(&format!("Everything is in {}.", root.display()))?;
    }
    Ok(())
}

/// The daemon as an operator would have it, in this folder and to this address.
fn shipper(root: &Path, url: &str) -> anyhow::Result<ShipConfig> {
    let mut raw = RawConfig::default();
    raw.shipper.data_dir = Some(root.to_owned());
    raw.shipper.host_id = Some("demo".to_owned());
    raw.receiver.url = Some(url.to_owned());
    Ok(raw.ship()?)
}

struct Demo {
    config: ShipConfig,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// Sealed and on the way.
    current: Option<DemoShipped>,
    shipped: Vec<DemoShipped>,
}

struct DemoShipped {
    sealed: Instant,
    episode: DemoEpisode,
    /// From its marker to the receiver's answer.
    delivered_after: Duration,
    /// Where it stands in `shipped/`, and what was packed.
    retired: Option<(PathBuf, ArchiveFacts)>,
}

impl Demo {
    /// Shows every step until the last episode is in `shipped/`.
    async fn follow(&mut self, episodes: usize) -> anyhow::Result<()> {
        let layout = self.config.layout.clone();
        let first = recorder::first_free(&layout);
        // One of them stays open for as long as the others travel.
        let mut late = (episodes > 1)
            .then(|| DemoEpisode::late(&layout, first + episodes - 1))
            .transpose()?;
        if let Some(late) = &late {
            let what = "open: what has no marker stays";
            screen::step(None, &late.id, "recording", what)?;
        }
        for n in 0..episodes {
            let mut episode = match late.take_if(|_| n + 1 == episodes) {
                Some(late) => late,
                None => DemoEpisode::record(&layout, first + n, n)?,
            };
            episode.complete()?;
            self.current = Some(DemoShipped {
                sealed: Instant::now(),
                episode,
                delivered_after: Duration::ZERO,
                retired: None,
            });
            self.current
                .as_ref()
                .map_or(Ok(()), |current| current.episode.seal())?;
            while self.shipped.len() <= n {
                let next = tokio::time::timeout(NO_PROGRESS, self.notices.recv());
                match next.await {
                    Ok(Some(notice)) => self.noticed(notice)?,
                    Ok(None) => std::future::pending().await,
                    Err(_) => bail!(
                        "Nothing has moved for {} s. {n} of {episodes} episodes were shipped",
                        NO_PROGRESS.as_secs()
                    ),
                }
            }
        }
        Ok(())
    }

    fn noticed(&mut self, notice: Notice) -> anyhow::Result<()> {
        match notice {
            Notice::Sealed(id, _) => {
                let what = self.current(&id).map(|it| it.episode.what());
                let what = what.unwrap_or_else(|| "left by an earlier demo".to_owned());
                self.step(&id, "sealed", &what)
            }
            Notice::Packed(id, facts) => {
                let size = facts.size_bytes;
                let what = match self.current(&id) {
                    Some(it) => packed(it.episode.bytes, size),
                    None => bytes(size),
                };
                self.step(&id, "packed", &what)
            }
            Notice::Delivered(id, facts, status) => {
                let what = format!("{}, {}", screen::status(status), bytes(facts.size_bytes));
                if let Some(it) = self.current(&id) {
                    it.delivered_after = it.sealed.elapsed();
                }
                self.step(&id, "delivered", &what)
            }
            Notice::Retired(id, facts, _, path) => {
                let folder = self.config.layout.shipped.parent();
                let shown = folder.and_then(|folder| path.strip_prefix(folder).ok());
                let what = format!("now in {}", shown.unwrap_or(&path).display());
                self.step(&id, "retired", &what)?;
                if let Some(mut it) = self.current.take_if(|it| it.episode.id == id) {
                    it.retired = Some((path, facts));
                    self.shipped.push(it);
                    line("")?;
                }
                Ok(())
            }
            Notice::Quarantined(id, reason, path) => bail!(
                "{id} was quarantined: {}. It is in {}",
                reason.error,
                path.display()
            ),
            Notice::Conflict(id, refusal) => bail!(
                "{id} is in conflict with what is stored: {}",
                refusal.detail
            ),
            Notice::DeliveredAndGone(id) | Notice::Vanished(id) => {
                bail!("{id} was removed while it was on its way")
            }
            // A fault that will pass is the daemon's to mend, and its log says so on stderr.
            _ => Ok(()),
        }
    }

    /// The one on its way, if it is this one.
    fn current(&mut self, id: &EpisodeId) -> Option<&mut DemoShipped> {
        self.current.as_mut().filter(|it| it.episode.id == *id)
    }

    /// The time since its marker is unknown for what an earlier demo left.
    fn step(&mut self, id: &EpisodeId, step: &str, what: &str) -> anyhow::Result<()> {
        let after = self.current(id).map(|it| it.sealed.elapsed());
        Ok(screen::step(after, id, step, what)?)
    }

    /// Reads every archive back out of the store and compares its bytes, and the tar stream inside,
    /// with the receipt beside the episode in `shipped/`; then says what the demo came to.
    fn summarise(&mut self, store: &Path) -> anyhow::Result<()> {
        let archives = store.join("episodes");
        let (mut recorded_bytes, mut packed_bytes) = (0, 0);
        for it in &self.shipped {
            let (path, facts) = it.retired.as_ref().context("It was not retired")?;
            compare(&it.episode.id, path, &archives)
                .with_context(|| format!("{} was not stored as it was sent", it.episode.id))?;
            recorded_bytes += it.episode.bytes;
            packed_bytes += facts.size_bytes;
        }
        let (mut held, mut held_bytes) = (0, 0);
        for entry in fs::read_dir(&archives)? {
            held += 1;
            held_bytes += entry?.metadata()?.len();
        }
        self.shipped.sort_by_key(|it| it.delivered_after);
        let count = self.shipped.len();
        let worst = self.shipped.last().context("Nothing was shipped")?;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let ms = screen::millis;
        line(&format!(
            "{count} episode{} recorded, delivered and retired.",
            plural(count)
        ))?;
        line(&format!(
            "
  marker to delivered   median {} ms, worst {} ms ({})
  packed                {}
  the receiver holds    {held} archive{}, {}
  read back             {count} of {count}: bytes and content match the receipts",
            ms(self.shipped[count / 2].delivered_after),
            ms(worst.delivered_after),
            worst.episode.id,
            packed(recorded_bytes, packed_bytes),
            plural(held),
            bytes(held_bytes),
        ))?;
        Ok(())
    }
}

fn compare(id: &EpisodeId, shipped: &Path, archives: &Path) -> anyhow::Result<()> {
    let receipt = fs::read(shipped.join(RECEIPT)).context("Failed to read its receipt")?;
    let receipt: ShippingReceipt =
        serde_json::from_slice(&receipt).context("Failed to read its receipt")?;
    let archive = archives.join(format!("{}.tar.zst", id.percent_encoded()));
    let shown = archive.display();
    let open = || File::open(&archive).with_context(|| format!("Failed to open {shown}"));
    let hash = |from: &mut dyn io::Read| progress::hash(from, &Progress::default());
    let sha256 = Digest::from(hash(&mut open()?)?);
    ensure!(sha256 == receipt.sha256, "{shown} has another digest");
    let content = Digest::from(hash(&mut zstd::Decoder::new(open()?)?)?);
    ensure!(
        content == receipt.content_sha256,
        "{shown} holds other content"
    );
    ensure!(
        receipt.receipt["sha256"] == receipt.sha256.to_string(),
        "the receiver's own receipt names another digest"
    );
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let error = cause.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
