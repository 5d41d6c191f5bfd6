//! `sealift verify`

use std::{ffi::OsStr, fmt::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{
    ConfigSource, block_on,
    destination::{self, DestinationClient},
    episode_id,
    exit::{Exit, Failure},
    logging,
    output::{out, outln},
    until_stopped,
};
use crate::{
    disk::tree::shown,
    http::url_template,
    model::{
        progress::Progress,
        text::{printable, shell_word, word},
    },
    operate::{
        receiver::ReceiverClient,
        verify::{self, VerifyOptions, VerifyReport, VerifyRow, VerifyVerdict},
    },
};

/// With `--deep` the receiver reads the whole archive before it answers: a terabyte takes hours on
/// a slow disk.
const DEEP_ANSWER_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// So many rows of a kind are shown to a person; `--json` has all.
const MAX_ROWS: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Compares what the receiver says with the receipts in shipped/. With --deep it may take as long as the receiver needs to \
read each archive, up to four hours.

Exit codes: 0 everything is stored there; 1 something is missing, differs, or cannot be told; 2 wrong arguments or \
configuration.")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// The episodes to ask about
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<String>,
    /// Ask about everything in shipped/, as without an ID
    #[arg(long)]
    all: bool,
    /// Have the receiver read and hash the bytes again, and not only say what it noted when they
    /// came
    #[arg(long)]
    deep: bool,
    /// Say what was found as one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: VerifyArgs) -> Result<Exit, Failure> {
    let ids = args.ids.iter().map(|id| episode_id(id));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    let raw = destination::configuration(&args.source, &args.destination)?;
    let (layout, mut config) = (raw.layout()?, raw.receiver()?);
    if args.deep {
        config.answer_timeout = config.answer_timeout.max(DEEP_ANSWER_TIMEOUT);
    }
    logging::start("warn");
    let receiver = ReceiverClient::new(destination::endpoint(&config, &raw.host_id()?)?);
    let options = VerifyOptions {
        shipped: layout.shipped.clone(),
        deep: args.deep,
        concurrency: config.concurrency.get(),
    };
    let report = block_on(async {
        let progress = until_stopped()?;
        let bar = bar();
        let shown = tokio::spawn(show(bar.clone(), progress.clone()));
        let report = verify::verify(&receiver, &ids, &options, &progress, |of| {
            bar.set_length(of as u64);
        })
        .await;
        shown.abort();
        bar.finish_and_clear();
        report.with_context(|| format!("Failed to list {}", layout.shipped.display()))
    })??;
    if args.json {
        outln!("{}", document(&report));
    } else {
        let typed = args.source.as_typed() + &args.destination.as_typed();
        out!(
            "{}",
            told(&report, &url_template::shown(&config.url), &typed)
        );
    }
    Ok(if report.all_held() {
        Exit::Done
    } else {
        Exit::Wrong
    })
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is ours and fits; a bar without it would be a bar all the same.
    if let Ok(style) = ProgressStyle::with_template("asking [{bar:30}] {pos} of {len}, {eta} left")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

async fn show(bar: ProgressBar, progress: Progress) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        bar.set_position(progress.bytes());
    }
}

fn document(report: &VerifyReport) -> Value {
    let rows = |kind: fn(&VerifyVerdict) -> Option<Option<&str>>| {
        let rows = report.rows.iter().filter_map(|row| {
            let why = kind(&row.verdict)?;
            let path = row.path.as_deref().map(Path::to_string_lossy);
            let mut members = json!({"episode_id": row.episode_id, "path": path});
            if let Some(why) = why {
                members["why"] = json!(why);
            }
            if let Some(elsewhere) = &row.delivered_to {
                members["delivered_to"] = json!(elsewhere);
            }
            Some(members)
        });
        rows.collect::<Vec<_>>()
    };
    json!({
        "checked": report.checked,
        "held": report.held,
        "held_repacked": report.held_repacked,
        "missing": rows(missing),
        "differs": rows(differs),
        "cannot_tell": rows(cannot_tell),
        "not_checked": report.not_checked,
        "unreachable": report.unreachable,
        "stopped": report.stopped,
    })
}

fn missing(verdict: &VerifyVerdict) -> Option<Option<&str>> {
    matches!(verdict, VerifyVerdict::Missing).then_some(None)
}

fn differs(verdict: &VerifyVerdict) -> Option<Option<&str>> {
    if let VerifyVerdict::Differs(why) = verdict {
        Some(Some(why))
    } else {
        None
    }
}

fn cannot_tell(verdict: &VerifyVerdict) -> Option<Option<&str>> {
    if let VerifyVerdict::CannotTell(why) = verdict {
        Some(Some(why))
    } else {
        None
    }
}

/// What a person reads: a line and what to do for what is wrong, and one line for all of it.
fn told(report: &VerifyReport, url: &str, typed: &str) -> String {
    let mut text = String::new();
    let mut counts = Vec::new();
    for (name, kind) in [
        (
            "missing",
            missing as fn(&VerifyVerdict) -> Option<Option<&str>>,
        ),
        ("differs", differs),
        ("cannot tell", cannot_tell),
    ] {
        let rows: Vec<_> = report
            .rows
            .iter()
            .filter(|row| kind(&row.verdict).is_some())
            .collect();
        counts.push(rows.len());
        for row in rows.iter().take(MAX_ROWS) {
            let why = kind(&row.verdict)
                .flatten()
                .map_or_else(String::new, |why| format!("  {}", printable(why)));
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<12} {}{why}", row.episode_id);
            if let Some(elsewhere) = &row.delivered_to {
                let _ = writeln!(
                    text,
                    "{:<12} was delivered to {elsewhere}, and not to {}",
                    "",
                    printable(url)
                );
            }
            if let Some(advice) = advice(row, typed) {
                let _ = writeln!(text, "{:<12} {advice}", "");
            }
        }
        if rows.len() > MAX_ROWS {
            let _ = writeln!(
                text,
                "{name:<12} and {} more; --json lists them all",
                rows.len() - MAX_ROWS
            );
        }
    }
    if let Some(why) = &report.unreachable {
        let _ = writeln!(
            text,
            "no answer from {}: {}",
            printable(url),
            printable(why)
        );
    }
    if report.stopped {
        text.push_str("stopped before the end\n");
    }
    let _ = write!(
        text,
        "{} checked: {} stored, {} missing, {} differ, {} cannot be told",
        report.checked, report.held, counts[0], counts[1], counts[2]
    );
    if report.not_checked > 0 {
        let _ = write!(text, "; {} not checked", report.not_checked);
    }
    text.push('\n');
    text
}

fn advice(row: &VerifyRow, typed: &str) -> Option<String> {
    let path = row.path.as_deref()?;
    let id = shell_word(Path::new(row.episode_id.as_str()));
    match &row.verdict {
        // Where it never was it cannot be lost, and `requeue` leaves it.
        VerifyVerdict::Missing if row.delivered_to.is_some() => {
            let name = path.file_name().unwrap_or_default();
            let which = match name == OsStr::new(row.episode_id.as_str()) {
                true => id,
                false => format!("--folder {}", word(name)),
            };
            Some(format!(
                "to ship it again: sealift requeue --from shipped --unasked {which}{typed}"
            ))
        }
        VerifyVerdict::Missing => Some(format!(
            "to ship it again: sealift requeue --from shipped {id}{typed}"
        )),
        VerifyVerdict::Differs(_) => Some(format!(
            "ours is in {}; once the receiver's operator has put theirs aside: sealift requeue --from shipped {id}{typed}",
            shown(path)
        )),
        VerifyVerdict::CannotTell(_)
        | VerifyVerdict::Held
        | VerifyVerdict::HeldRepacked
        | VerifyVerdict::Unreachable(_) => None,
    }
}
