//! `sealift doctor`

use std::{
    fmt::Write as _,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    ConfigSource, block_on,
    destination::{self, DestinationClient},
    exit::{Exit, Failure},
    logging,
    output::{out, outln},
};
use crate::{
    config::{DEFAULT_FILE, RawConfig},
    model::text::typed_path,
    operate::doctor::{self, DoctorQuery, DoctorReport, RowStatus},
};

#[derive(Debug, Args)]
#[command(after_help = "\
The first red row is the cause, or the nearest to it (where none is red, the first yellow one); the
command below it mends it.
Nothing is changed that stays, and root is needed for nothing; what you may not see is said.

Exit codes: 0 all green; 1 yellow at worst; 2 red. docs/doctor.md lists every check.")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    source: ConfigSource,
    #[command(flatten)]
    destination: DestinationClient,
    /// Say it as one JSON document (docs/doctor.schema.json)
    #[arg(long)]
    json: bool,
    /// How far back the journal is read, such as 90s, 10m, 2h or 3d
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span)]
    since: Duration,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    // What is wrong with certificates and tokens has a row; it is not told twice.
    logging::start("off");
    let typed = as_given(&args.source, &args.destination);
    let mut given = RawConfig::default();
    given.shipper.data_dir.clone_from(&args.source.data);
    let question = DoctorQuery {
        given: absolute(given),
        raw: destination::configuration(&args.source, &args.destination).map(absolute),
        options: typed.options,
        receiver: typed.receiver,
        file: typed.file,
        since: args.since,
    };
    let report = block_on(doctor::examine(&question))?;
    if args.json {
        outln!("{}", report.to_json());
    } else {
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        out!("{}", told(&report, colour));
    }
    Ok(match report.status() {
        RowStatus::Green => Exit::Done,
        RowStatus::Yellow => Exit::Wrong,
        RowStatus::Red => Exit::Red,
    })
}

/// What other commands are shown with, so that they mean the same.
pub(super) struct GivenOptions {
    /// The file in force, where there is one.
    pub(super) file: Option<PathBuf>,
    /// Of the folders.
    pub(super) options: String,
    /// Of the receiver.
    pub(super) receiver: String,
}

/// The same for each command that shows others: a shipper with this command line reads that file.
pub(super) fn as_given(source: &ConfigSource, destination: &DestinationClient) -> GivenOptions {
    let file = source.file(destination::is_enough(source, destination));
    GivenOptions {
        options: options(source, file.as_deref()),
        receiver: destination.as_typed().trim_start().to_owned(),
        file,
    }
}

/// The commands that are shown may be typed from anywhere.
pub(super) fn absolute(mut raw: RawConfig) -> RawConfig {
    raw.shipper.data_dir = raw
        .shipper
        .data_dir
        .map(|path| std::path::absolute(&path).unwrap_or(path));
    raw
}

/// What was given on this command line of the folders, so that another command means the same. sudo
/// keeps no variable that names the file.
pub(super) fn options(source: &ConfigSource, file: Option<&Path>) -> String {
    let file = source
        .config
        .as_deref()
        .or(file.filter(|file| *file != Path::new(DEFAULT_FILE)));
    let given = [("--config", file), ("--data", source.data.as_deref())];
    let given = given
        .into_iter()
        .filter_map(|(option, path)| Some(format!("{option} {}", typed_path(path?))));
    given.collect::<Vec<_>>().join(" ")
}

/// A number and a unit.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "give a number and s, m, h or d, such as 10m".to_owned();
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number
        .checked_mul(seconds)
        .filter(|seconds| (1..=366 * 86_400).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| "give between one second and a year".to_owned())
}

/// A line a check, and below what is not green the command that mends it.
fn told(report: &DoctorReport, colour: bool) -> String {
    let paint = |status: RowStatus, text: &str| match (colour, status) {
        (false, _) => text.to_owned(),
        (true, RowStatus::Green) => format!("\u{1b}[32m{text}\u{1b}[0m"),
        (true, RowStatus::Yellow) => format!("\u{1b}[33m{text}\u{1b}[0m"),
        (true, RowStatus::Red) => format!("\u{1b}[31m{text}\u{1b}[0m"),
    };
    let mut text = String::new();
    for row in &report.rows {
        let status = paint(row.status, &format!("{:<6}", row.status.as_str()));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{status} {:<20} {}", row.id.as_str(), row.summary);
        if let Some(fix) = &row.fix {
            let _ = writeln!(text, "{:<27} $ {fix}", "");
        }
    }
    let of = |status: RowStatus| {
        report
            .rows
            .iter()
            .filter(|row| row.status == status)
            .count()
    };
    let _ = writeln!(
        text,
        "{}: {} green, {} yellow, {} red",
        paint(report.status(), report.status().as_str()),
        of(RowStatus::Green),
        of(RowStatus::Yellow),
        of(RowStatus::Red)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("3d", Some(259_200)),
            ("0s", None),
            ("10", None),
            ("m", None),
            ("", None),
            ("-1m", None),
            ("1.5h", None),
            ("10 m", None),
            ("99999999999999999999d", None),
            ("9é", None),
        ] {
            assert_eq!(
                span(text).ok().map(|span| span.as_secs()),
                seconds,
                "{text}"
            );
        }
    }
}
