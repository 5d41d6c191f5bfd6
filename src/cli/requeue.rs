//! `sealift requeue`

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

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
    model::text::printable,
    operate::{
        receiver::ReceiverClient,
        requeue::{self, Origin, RequeueEnd, RequeueOptions, RequeueRow},
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
The daemon notices by itself, and need not run. Nothing is overwritten: where episodes/ has one of that name, it is left.
What is in conflict is packed and sent again where it stands. From shipped/ comes only what the receiver does not hold any more, and of what is named also what was written to since: where the receiver shows no digest, what sealift has told of.
With --all, what was refused for its commit comes back only once the receiver admits that commit.
An archive without its episode is named by its folder, with --unpack: it is gone once the episode is whole in episodes/.

Exit codes: 0 all of it is back in the queue; 1 something was left, and why is said; 2 wrong arguments or configuration.")]
pub(crate) struct RequeueArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// The episodes
    #[arg(
        value_name = "ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    ids: Vec<String>,
    /// Everything that is there
    #[arg(long)]
    all: bool,
    /// Only what was answered with this HTTP status
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(100..=599))]
    status: Option<u16>,
    /// From where [default: quarantine and conflict]
    #[arg(long, value_name = "WHERE")]
    from: Option<Where>,
    /// The IDs are names of folders: where several hold one episode (ID, ID~1), this says which
    #[arg(long, conflicts_with = "all")]
    folder: bool,
    /// With --all: do not ask the receiver whether it admits the commits that it refused; with
    /// --from shipped and IDs: send them again whatever it holds
    #[arg(long)]
    unasked: bool,
    /// The IDs are names of folders in quarantine/ that hold an archive alone: it is unpacked into
    /// episodes/, and then goes
    #[arg(long, conflicts_with_all = ["all", "status", "from", "folder", "unasked"])]
    unpack: bool,
    /// With --unpack: the name that it gets [default: its own, or that numbered where it is in use]
    #[arg(long = "as", value_name = "NEW", requires = "unpack")]
    new_name: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Say what was done as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// What was rejected
    Quarantine,
    /// What the receiver holds otherwise under that name
    Conflict,
    /// What the receiver has lost, or was written to since
    Shipped,
}

pub(crate) fn run(args: RequeueArgs) -> Result<Exit, Failure> {
    let ids = args.ids.iter().map(|id| episode_id(id));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    if args.from == Some(Where::Shipped) && args.status.is_some() {
        let why = "--status is about what was refused, and nothing in shipped/ was: leave it out";
        return Err(Failure::Usage(anyhow::anyhow!(why)));
    }
    let of_shipped = args.from == Some(Where::Shipped);
    if args.unasked && !args.all && !of_shipped {
        let why = "--unasked is for --all, or for what is named with --from shipped";
        return Err(Failure::Usage(anyhow::anyhow!(why)));
    }
    if args.unasked && args.all && of_shipped {
        let why = "--unasked with --from shipped is for what is named, and not for all";
        return Err(Failure::Usage(anyhow::anyhow!(why)));
    }
    let new_name = args.new_name.as_deref().map(episode_id).transpose()?;
    if new_name.is_some() && ids.len() > 1 {
        let why = "--as is for one at a time";
        return Err(Failure::Usage(anyhow::anyhow!(why)));
    }
    // Only these two ask the receiver.
    let must_ask = of_shipped && !args.unasked;
    let may_ask = must_ask || args.all && !args.unasked;
    let enough = args.source.data.is_some() && (!may_ask || args.destination.receiver.is_some());
    let mut raw = args.source.read(enough)?;
    args.destination.lay_over(&mut raw);
    let layout = raw.layout()?;
    logging::start("warn");
    let (receiver, concurrency) = if must_ask || may_ask && raw.receiver.url.is_some() {
        let (receiver, concurrency) = receiver(&raw)?;
        (Some(receiver), concurrency)
    } else {
        (None, 1)
    };
    let options = RequeueOptions {
        layout,
        ids,
        by_folder: args.folder,
        status: args.status,
        from: args.from.map(Where::place),
        unasked: args.unasked,
        unpack: args.unpack.then_some(new_name),
        dry_run: args.dry_run,
        concurrency,
        typed: args.source.as_typed() + &args.destination.as_typed(),
    };
    let mut rows = Vec::new();
    let finished = block_on(async {
        let progress = until_stopped()?;
        let mut tell = |row: RequeueRow| {
            if !args.json {
                outln!("{}", sentence(&row));
            }
            rows.push(row);
        };
        let finished = requeue::requeue(&options, receiver.as_ref(), &progress, &mut tell).await;
        finished.map_err(anyhow::Error::new)
    })??;
    if args.json {
        outln!("{}", document(&rows, finished));
    } else if !finished {
        outln!("stopped before the end");
    } else if rows.is_empty() {
        outln!("there is nothing to put back");
    }
    let all_back = finished
        && rows
            .iter()
            .all(|row| !matches!(row.end, RequeueEnd::Left(_)));
    Ok(if all_back { Exit::Done } else { Exit::Wrong })
}

impl Where {
    fn place(self) -> Origin {
        match self {
            Self::Quarantine => Origin::Quarantine,
            Self::Conflict => Origin::Conflict,
            Self::Shipped => Origin::Shipped,
        }
    }
}

fn receiver(raw: &RawConfig) -> Result<(ReceiverClient, usize), Failure> {
    let config = raw.receiver()?;
    let endpoint = destination::endpoint(&config, &raw.host_id()?)?;
    Ok((ReceiverClient::new(endpoint), config.concurrency.get()))
}

fn sentence(row: &RequeueRow) -> String {
    let from = row.from.map_or_else(String::new, |from| match row.status {
        Some(status) => format!("from {from} ({status})"),
        None => format!("from {from}"),
    });
    match (&row.end, row.from) {
        (RequeueEnd::Back(path), Some(Origin::Conflict)) => {
            format!(
                "requeued  {}  {from}: it is packed and sent again, in {}",
                row.episode_id,
                shown(path)
            )
        }
        (RequeueEnd::Back(path), _) => format!(
            "requeued  {}  {from}, now in {}",
            row.episode_id,
            shown(path)
        ),
        (RequeueEnd::Would(path), _) => {
            format!("would     {}  {from}, to {}", row.episode_id, shown(path))
        }
        (RequeueEnd::Left(why), _) => {
            let folder = row
                .folder
                .as_deref()
                .map_or_else(String::new, |path| format!("{}: ", shown(path)));
            format!("left      {}  {folder}{}", row.episode_id, printable(why))
        }
    }
}

fn document(rows: &[RequeueRow], finished: bool) -> Value {
    let of = |wanted: fn(&RequeueEnd) -> Option<Value>| {
        let rows = rows.iter().filter_map(|row| {
            let mut members = wanted(&row.end)?;
            members["episode_id"] = json!(row.episode_id);
            members["from"] = json!(row.from.map(|from| from.to_string()));
            members["status_code"] = json!(row.status);
            members["folder"] = json!(row.folder.as_ref().map(|folder| folder.to_string_lossy()));
            Some(members)
        });
        rows.collect::<Vec<_>>()
    };
    json!({
        "requeued": of(|end| {
            if let RequeueEnd::Back(path) = end { Some(json!({"path": path.to_string_lossy()})) } else { None }
        }),
        "would_requeue": of(|end| {
            if let RequeueEnd::Would(path) = end { Some(json!({"path": path.to_string_lossy()})) } else { None }
        }),
        "left": of(|end| if let RequeueEnd::Left(why) = end { Some(json!({"why": why})) } else { None }),
        "stopped": !finished,
    })
}
