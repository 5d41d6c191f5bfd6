//! `sealift fetch`

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    ConfigSource, block_on,
    destination::{self, DestinationClient},
    episode_id,
    exit::{Exit, Failure},
    logging,
    output::outln,
    until_stopped,
};
use crate::{
    config::RawConfig,
    disk::tree::shown,
    model::{episode::EpisodeId, records::ShippingReceipt, text::printable},
    operate::{
        fetch::{self, DEFAULT_MAX_BYTES, FetchEvent, FetchOptions, Fetched, Tell, Verified},
        receiver::ReceiverClient,
        shipped_receipts,
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
What has arrived is kept: the same command goes on from there. A host reads its own episodes, the receiver's \
readers everybody's.
Where they are filed by host: --receiver 'https://receiver.example:8490/v1/episodes/{id}?host=NAME'

Exit codes: 0 it stands there, verified (or --unverified was given); 1 it does not; 2 wrong arguments or configuration.")]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// The episode
    #[arg(value_name = "ID")]
    id: String,
    /// The folder to put it into, as DIR/ID; it must exist
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
    /// Take it also where neither the receiver nor a receipt in shipped/ gives a digest to compare
    /// with
    #[arg(long)]
    unverified: bool,
    /// The most that it may unpack to, bytes
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_BYTES)]
    max_bytes: u64,
    /// Say what was fetched as one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: FetchArgs) -> Result<Exit, Failure> {
    let usage = |error: anyhow::Error| Failure::Usage(error);
    let id = episode_id(&args.id)?;
    let mut raw = args.source.read(args.destination.receiver.is_some())?;
    args.destination.lay_over(&mut raw);
    let config = raw.receiver()?;
    logging::start("warn");
    let receiver = ReceiverClient::new(destination::endpoint(&config, &raw.host_id()?)?);
    let folder = fs::canonicalize(&args.to)
        .and_then(|folder| {
            if folder.is_dir() {
                Ok(folder)
            } else {
                Err(rustix::io::Errno::NOTDIR.into())
            }
        })
        .with_context(|| format!("--to {}: must be a folder that exists", shown(&args.to)))
        .map_err(usage)?;
    let receipts = receipts(&raw, &id)?;
    let options = FetchOptions {
        folder,
        max_bytes: args.max_bytes,
        unverified: args.unverified,
        receipts,
    };

    let screen = FetchScreen::new(&id);
    let tell: Tell = {
        let screen = screen.clone();
        Arc::new(move |told| screen.tell(told))
    };
    let fetched = block_on(async {
        let progress = until_stopped()?;
        anyhow::Ok(fetch::fetch(&receiver, &id, &options, &progress, &tell).await)
    });
    screen.bar.finish_and_clear();
    let fetched = fetched??.map_err(|error| Failure::Wrong(error.into()))?;
    if args.json {
        outln!("{}", document(&id, &fetched));
    } else {
        outln!("{}", sentence(&id, &fetched));
    }
    Ok(Exit::Done)
}

/// What was shipped from here under this id, where we know of a data folder.
fn receipts(raw: &RawConfig, id: &EpisodeId) -> Result<Vec<ShippingReceipt>, Failure> {
    if raw.shipper.data_dir.is_none() {
        return Ok(Vec::new());
    }
    let layout = raw.layout()?;
    let found = shipped_receipts::of(&layout.shipped, id).unwrap_or_else(|error| {
        tracing::warn!(
            "{} cannot be searched for a receipt: {error}",
            layout.shipped.display()
        );
        Vec::new()
    });
    let receipt = |shipped: shipped_receipts::ShippedFolder| match shipped.receipt() {
        Ok(receipt) => receipt,
        Err(error) => {
            tracing::warn!(
                "{} cannot be searched for a receipt: {error}",
                shipped.path.display()
            );
            None
        }
    };
    Ok(found.into_iter().filter_map(receipt).collect())
}

fn document(id: &EpisodeId, fetched: &Fetched) -> serde_json::Value {
    serde_json::json!({
        "episode_id": id,
        "path": fetched.path.to_string_lossy(),
        "size_bytes": fetched.size_bytes,
        "sha256": fetched.sha256,
        "content_sha256": fetched.content_sha256,
        "verified": fetched.verified.is_verified(),
    })
}

fn sentence(id: &EpisodeId, fetched: &Fetched) -> String {
    let files = if fetched.files == 1 { "file" } else { "files" };
    format!(
        "fetched {id}: {} {files} out of an archive of {} bytes, now in {}; {}",
        fetched.files,
        fetched.size_bytes,
        shown(&fetched.path),
        agreement(fetched.verified)
    )
}

fn agreement(verified: Verified) -> String {
    let with = [
        (verified.archive, "the receiver's digest of the archive"),
        (verified.content, "its digest of the content"),
        (verified.receipt, "our own receipt"),
    ];
    let with: Vec<_> = with
        .iter()
        .filter(|(agrees, _)| *agrees)
        .map(|(_, what)| *what)
        .collect();
    if with.is_empty() {
        return "NOT VERIFIED: there was nothing to compare it with".to_owned();
    }
    format!("it agrees with {}", with.join(", "))
}

/// Progress on stderr: a bar where that is a terminal, lines where it is not. There are no colours
/// in it.
#[derive(Clone)]
struct FetchScreen {
    bar: ProgressBar,
    id: EpisodeId,
}

impl FetchScreen {
    fn new(id: &EpisodeId) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self {
            bar,
            id: id.clone(),
        }
    }

    fn tell(&self, told: FetchEvent) {
        match told {
            FetchEvent::Begins { size_bytes } => {
                let size = size_bytes.map_or_else(String::new, |bytes| format!(": {bytes} bytes"));
                self.begin("arriving", size_bytes, 0);
                self.say(&format!("fetching {}{size}", self.id));
            }
            FetchEvent::GoesOn {
                have_bytes,
                size_bytes,
            } => {
                let of = size_bytes.map_or_else(String::new, |bytes| format!(" of {bytes}"));
                self.begin("arriving", size_bytes, have_bytes);
                self.say(&format!(
                    "fetching {}: {have_bytes}{of} bytes are here already",
                    self.id
                ));
            }
            FetchEvent::Anew { why } => {
                self.say(&format!(
                    "{}: it begins again: {}",
                    self.id,
                    printable(&why)
                ));
                self.bar.set_position(0);
            }
            FetchEvent::Broke { why, pause } if pause.is_zero() => {
                self.say(&format!(
                    "{}: it broke off and goes on: {}",
                    self.id,
                    printable(&why)
                ));
            }
            FetchEvent::Broke { why, pause } => {
                let seconds = pause.as_secs();
                self.say(&format!(
                    "{}: {}; tried again in {seconds} s",
                    self.id,
                    printable(&why)
                ));
            }
            FetchEvent::Arrived { have_bytes } => self.bar.set_position(have_bytes),
            FetchEvent::Unpacks { size_bytes } => self.begin("unpacking", Some(size_bytes), 0),
            FetchEvent::Unpacked { bytes } => self.bar.set_position(bytes),
        }
    }

    fn begin(&self, what: &'static str, size_bytes: Option<u64>, have_bytes: u64) {
        let template = match size_bytes {
            Some(_) => {
                "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
            }
            None => "{msg} {binary_bytes}, {binary_bytes_per_sec}",
        };
        // The template is ours and fits; a bar without it would be a bar all the same.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message(what);
        match size_bytes {
            Some(bytes) => self.bar.set_length(bytes),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(have_bytes);
        // The rate is that of this run.
        self.bar.reset_eta();
    }

    #[expect(
        clippy::print_stderr,
        reason = "how a command goes is told beside its result"
    )]
    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}
