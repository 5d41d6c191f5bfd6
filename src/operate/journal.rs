//! The journal of a unit: read with journalctl(1), within bounds, and classified.
//!
//! ```text
//!  journalctl -o json -u UNIT --since ... ──lines──▶ entry.rs: fields, whatever form they come in
//!        │                                             └──▶ class.rs: what they come to (pure)
//!        └ bounded: its time, its output, each line; no shell, no pager
//! ```
//!
//! Whatever stands in an entry came from outside: it is text as it was read, and what shows it
//! makes it printable.

mod class;
mod entry;

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::{Instant, timeout_at},
};

pub(crate) use self::{
    class::{Class, Journal},
    entry::JournalEntry,
};
use crate::model::snapshot;

/// How much of journalctl's output is read, bytes. An entry of ours is a few hundred.
const MAX_BYTES: usize = 16 << 20;
/// A longer line is passed over: journalctl leaves out what is longer than a few kilobytes by
/// itself.
const MAX_LINE_BYTES: usize = 128 << 10;
/// The newest entries; older ones within the time are left out.
const MAX_ENTRIES: usize = 10_000;
/// Of what journalctl complains about, the beginning says it all.
const MAX_COMPLAINT_BYTES: u64 = 16 << 10;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct JournalQuery {
    /// The unit's name, checked.
    pub unit: String,
    /// How far back.
    pub since: Duration,
    /// Entries with this field only (`EPISODE`, `run-7`).
    pub with: Option<(&'static str, String)>,
    /// How long journalctl may take.
    pub within: Duration,
}

/// What came of reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct JournalReading {
    /// The oldest first.
    pub entries: Vec<JournalEntry>,
    /// Lines that are no entries, or are too long.
    pub unreadable: usize,
    /// There was more than is read; the oldest are left out.
    pub truncated: bool,
}

/// Why there is no reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    /// The calling user may not read the system's journal, or not all of it.
    #[error("not permitted")]
    NotPermitted,
    /// There is no journal, no journalctl, or it did not end.
    #[error("{0}")]
    Unavailable(String),
}

/// Reads the newest entries of a unit.
///
/// # Errors
/// [`Unread`].
pub(crate) async fn read(question: &JournalQuery) -> Result<JournalReading, Unread> {
    let deadline = Instant::now() + question.within;
    let mut command = Command::new("journalctl");
    let fields: Vec<_> = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"]
        .into_iter()
        .chain(snapshot::journal::ALL)
        .collect();
    command
        .args(["--output=json", "--no-pager", "--reverse"])
        .arg(format!("--output-fields={}", fields.join(",")))
        .arg(format!("--unit={}", question.unit))
        .arg(format!("--since=-{}s", question.since.as_secs()))
        .arg(format!("--lines={MAX_ENTRIES}"));
    if let Some((field, value)) = &question.with {
        command.arg(format!("{field}={value}"));
    }
    // Its hints are looked for below.
    command
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .env_remove("SYSTEMD_LOG_LEVEL");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Unread::Unavailable("there is no journalctl here".to_owned())
        }
        _ => Unread::Unavailable(format!("journalctl cannot be run: {error}")),
    })?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Unread::Unavailable("journalctl cannot be heard".to_owned()));
    };
    let mut complaint = Vec::new();
    let mut complaints = stderr.take(MAX_COMPLAINT_BYTES);
    let both = async { tokio::join!(lines(stdout), complaints.read_to_end(&mut complaint)) };
    // What does not end is killed as it is dropped.
    let Ok((read, _)) = timeout_at(deadline, both).await else {
        let after = question.within.as_secs();
        return Err(Unread::Unavailable(format!(
            "journalctl did not end within {after} s"
        )));
    };
    let mut reading =
        read.map_err(|error| Unread::Unavailable(format!("journalctl cannot be read: {error}")))?;
    let succeeded = reading.truncated
        || matches!(timeout_at(deadline, child.wait()).await, Ok(Ok(status)) if status.success());
    let complaint = String::from_utf8_lossy(&complaint);
    if is_not_permitted(&complaint) {
        return Err(Unread::NotPermitted);
    }
    if !succeeded {
        let first = complaint
            .lines()
            .next()
            .unwrap_or("it says nothing")
            .to_owned();
        return Err(Unread::Unavailable(format!("journalctl failed: {first}")));
    }
    if complaint.contains("No journal files were found") {
        return Err(Unread::Unavailable(
            "this system keeps no journal".to_owned(),
        ));
    }
    reading.entries.reverse();
    Ok(reading)
}

/// journalctl's words, which are not translated: it opened no file, or hints that it left out the
/// system's.
fn is_not_permitted(complaint: &str) -> bool {
    [
        "insufficient permissions",
        "not seeing messages from other users",
        "Permission denied",
    ]
    .iter()
    .any(|words| complaint.contains(words))
}

/// Entries, a line each, as they come: the newest first.
async fn lines(mut from: impl AsyncRead + Unpin) -> std::io::Result<JournalReading> {
    let mut reading = JournalReading::default();
    let (mut line, mut too_long, mut total) = (Vec::new(), false, 0);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut chunk).await?;
        let mut rest = &chunk[..read];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            reading.take(&line, too_long);
            (rest, too_long) = (&rest[end + 1..], false);
            line.clear();
        }
        line.extend_from_slice(rest);
        if line.len() > MAX_LINE_BYTES {
            too_long = true;
            line.clear();
        }
        if read == 0 {
            reading.take(&line, too_long);
            return Ok(reading);
        }
        total += read;
        if total > MAX_BYTES || reading.entries.len() > MAX_ENTRIES {
            reading.truncated = true;
            return Ok(reading);
        }
    }
}

impl JournalReading {
    fn take(&mut self, line: &[u8], too_long: bool) {
        if line.trim_ascii().is_empty() && !too_long {
            return;
        }
        match JournalEntry::parse(line).filter(|_| !too_long && line.len() <= MAX_LINE_BYTES) {
            Some(entry) => self.entries.push(entry),
            None => self.unreadable += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> JournalReading {
        lines(text).await.unwrap()
    }

    #[tokio::test]
    async fn broken_lines_and_endless_ones_are_counted_and_passed_over() {
        let good = br#"{"MESSAGE":"shipped a","VERDICT":"delivered"}"#;
        let huge = [
            br#"{"MESSAGE":""#.as_slice(),
            &vec![b'x'; 3 * MAX_LINE_BYTES],
            br#""}"#,
        ]
        .concat();
        let text = [
            good.as_slice(),
            b"{\"MESSAGE\":",
            b"",
            &huge,
            b"[1,2]",
            b"\xff\xfe",
            good,
        ]
        .join(&b'\n');
        let reading = read(&text).await;
        assert_eq!(
            (reading.entries.len(), reading.unreadable, reading.truncated),
            (2, 4, false)
        );
        assert_eq!(read(b"").await, JournalReading::default());
    }

    #[tokio::test]
    async fn more_than_is_read_is_left_out_and_said() {
        let line = format!("{{\"MESSAGE\":\"{}\"}}\n", "x".repeat(1000));
        let reading = read(line.repeat(MAX_BYTES / line.len() + 200).as_bytes()).await;
        assert!(reading.truncated && !reading.entries.is_empty());
    }

    #[test]
    fn journalctls_words_for_not_permitted_are_known() {
        for words in [
            "No journal files were opened due to insufficient permissions.",
            "Hint: You are currently not seeing messages from other users and the system.\n      Users in groups 'adm'",
        ] {
            assert!(is_not_permitted(words), "{words}");
        }
        assert!(!is_not_permitted("No journal files were found."));
    }
}
