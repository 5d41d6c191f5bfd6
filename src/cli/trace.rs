//! `sealift trace`

use std::{fmt::Write as _, path::Path};

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    ConfigSource, block_on, episode_id,
    exit::{Exit, Failure},
    logging,
    output::{out, outln},
};
use crate::{
    disk::tree::shown,
    model::{
        episode::{EpisodeId, FolderLook},
        layout::Layout,
        records::holds_other_content,
        snapshot::EpisodeStatus,
        text::{as_text, printable, shell_word, word},
    },
    operate::trace::{self, TimelineStep, Trace, TraceFinding},
};

/// Of one entry a person sees so much; `--json` has all.
const MAX_SHOWN: usize = 300;

#[derive(Debug, Args)]
#[command(after_help = "\
Out of the journal (the fields of the unit's entries about it, for a year) and the files beside it, in any state; without a \
journal out of the files alone. Times are UTC; those to the second are the records'.

Exit codes: 0 something is known of it; 1 nothing is; 2 wrong arguments or configuration.")]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// The episode
    #[arg(value_name = "ID")]
    id: String,
    /// Say it as one JSON document
    #[arg(long)]
    json: bool,
}

#[expect(
    clippy::print_stderr,
    reason = "a command's result, and why there is none"
)]
pub(crate) fn run(args: &TraceArgs) -> Result<Exit, Failure> {
    let id = episode_id(&args.id)?;
    let raw = args.source.read(args.source.data.is_some())?;
    let (layout, unit) = (raw.layout()?, raw.doctor()?.unit);
    logging::start("warn");
    let traced = block_on(trace::trace(&layout, &unit, &id))?;
    if args.json {
        outln!("{}", document(&id, &traced));
    } else if !traced.is_empty() {
        out!("{}", told(&id, &traced));
    }
    if !traced.is_empty() {
        return Ok(Exit::Done);
    }
    if !args.json {
        eprintln!(
            "{}",
            unknown(&layout, &id, &traced, &args.source.as_typed())
        );
    }
    Ok(Exit::Wrong)
}

fn unknown(layout: &Layout, id: &EpisodeId, traced: &Trace, typed: &str) -> String {
    let what_to_type = match &traced.nearest {
        Some(near) => {
            format!(
                "Was it this one? sealift trace {}{typed}",
                shell_word(Path::new(near.as_str()))
            )
        }
        None => format!(
            "To see what is there: ls {} {} {}",
            word(as_text(&layout.episodes)),
            word(as_text(&layout.shipped)),
            word(as_text(&layout.quarantine))
        ),
    };
    let unread: String = traced
        .unread
        .iter()
        .map(|what| format!("\nnot read: {}", printable(what)))
        .collect();
    let looked = if traced.is_all {
        "none of the four folders has anything of it"
    } else {
        "not all of the four folders could be looked at, and what could has nothing of it"
    };
    format!("sealift: nothing is known of {id}: {looked}. {what_to_type}{unread}")
}

fn told(id: &EpisodeId, traced: &Trace) -> String {
    let mut text = String::new();
    for found in &traced.found {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{id}  {}", state(found));
    }
    if let Some(now) = &traced.now {
        let _ = writeln!(text, "{id}  now {}", standing(now));
    }
    for step in &traced.steps {
        let after = step
            .after_ms
            .map_or_else(String::new, |ms| format!("+{ms} ms"));
        let detail = printable(step.detail.trim_end());
        let cut: String = detail.chars().take(MAX_SHOWN).collect();
        let more = if cut.len() < detail.len() { " ..." } else { "" };
        let line = format!(
            "  {:<24} {after:>12}  {:<11}  {cut}{more}",
            time(step),
            step.kind.as_str()
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for what in &traced.unread {
        let _ = writeln!(text, "not read: {}", printable(what));
    }
    text
}

fn time(step: &TimelineStep) -> String {
    let at = step
        .at_us
        .and_then(|at| Timestamp::from_microsecond(at).ok());
    match (at, step.exact) {
        (Some(at), true) => format!("{at:.3}"),
        (Some(at), false) => format!("{at:.0}"),
        (None, _) => "at some time".to_owned(),
    }
}

fn state(found: &TraceFinding) -> String {
    let path = shown(found.path());
    match found {
        TraceFinding::Episode(_, FolderLook::Sealed(_)) => format!("sealed, in {path}"),
        TraceFinding::Episode(_, FolderLook::BeingRemoved) => {
            format!("moved by a copy; what is left of it in {path} is being removed")
        }
        TraceFinding::Episode(_, FolderLook::Open | FolderLook::Gone) => {
            format!("open: it has no done.marker yet, in {path}")
        }
        TraceFinding::Episode(_, FolderLook::OddMarker(what)) => {
            format!("open: its done.marker is {what}, in {path}")
        }
        TraceFinding::Episode(_, FolderLook::Unreadable(why)) => {
            format!("cannot be looked at: {}, in {path}", printable(why))
        }
        TraceFinding::Archive {
            size_bytes,
            partial: true,
            ..
        } => {
            format!("being packed, or left over from that: {size_bytes} bytes, {path}")
        }
        TraceFinding::Archive {
            size_bytes,
            sidecar,
            ..
        } => match sidecar.as_ref().map(|sidecar| sidecar.conflict()) {
            Some(Some(verdict)) => {
                let what = holds_other_content(Some(verdict.status_code));
                format!("in conflict: {what}; {size_bytes} bytes, {path}")
            }
            Some(None) => format!("packed: {size_bytes} bytes, {path}"),
            None => {
                format!(
                    "an archive without a sidecar, which is packed again: {size_bytes} bytes, {path}"
                )
            }
        },
        TraceFinding::Quarantined(_, _, reason) => {
            match reason.as_ref().and_then(|reason| reason.status_code) {
                Some(status) => format!("quarantined ({status}), in {path}"),
                None => format!("quarantined, in {path}"),
            }
        }
        TraceFinding::Shipped {
            receipt: Some(receipt),
            content_bytes,
            ..
        } => {
            let ratio = content_bytes
                .filter(|_| receipt.size_bytes > 0)
                .map_or_else(String::new, |content| {
                    #[expect(clippy::cast_precision_loss, reason = "two digits of a ratio")]
                    let ratio = content as f64 / receipt.size_bytes as f64;
                    format!(" out of {content} ({ratio:.2} : 1)")
                });
            let sha256 = receipt.sha256;
            format!(
                "shipped, in {path}; {} bytes{ratio}, sha256 {sha256}",
                receipt.size_bytes
            )
        }
        TraceFinding::Shipped { receipt: None, .. } => {
            format!("in {path}, without a receipt of ours")
        }
    }
}

fn standing(now: &EpisodeStatus) -> String {
    let name = serde_json::to_value(now.state)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned));
    let mut text = name.unwrap_or_default();
    if let (Some(sent), Some(size)) = (now.sent_bytes, now.size_bytes) {
        let _ = write!(text, ", {sent} of {size} bytes sent");
    }
    if let Some(why) = &now.why {
        let _ = write!(text, ": {}", printable(why));
    }
    if let Some(again) = now.again_in_s {
        let _ = write!(text, "; tried again in {again} s");
    }
    text
}

fn document(id: &EpisodeId, traced: &Trace) -> Value {
    let found = traced
        .found
        .iter()
        .map(|found| json!({"path": found.path().to_string_lossy(), "state": state(found)}));
    let steps = traced.steps.iter().map(|step| {
        json!({
            "at": step.at_us.and_then(|at| Timestamp::from_microsecond(at).ok()).map(|_| time(step)),
            "exact": step.exact,
            "after_ms": step.after_ms,
            "step": step.kind.as_str(),
            "detail": step.detail,
        })
    });
    json!({
        "episode_id": id,
        "found": found.collect::<Vec<_>>(),
        "now": traced.now,
        "steps": steps.collect::<Vec<_>>(),
        "unread": traced.unread,
    })
}
