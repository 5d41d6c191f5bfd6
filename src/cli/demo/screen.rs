//! What a person sees: aligned lines of at most a hundred columns, in colour only on a terminal
//! that wants it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};

use super::summary::Summary;
use crate::model::{episode::EpisodeId, layout::Layout, text::printable};

/// A step on an episode's way.
#[derive(Clone, Copy)]
pub(super) enum DemoStep {
    Recording,
    Sealed,
    Packed,
    Delivered,
    Retired,
    Waits,
}

/// Standard output.
pub(super) struct DemoScreen {
    colour: bool,
}

const DIM: &str = "2";
const BOLD: &str = "1";
const GREEN: &str = "32";
const YELLOW: &str = "33";

impl DemoScreen {
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            colour: wanted && io::stdout().is_terminal(),
        }
    }

    /// One line, at once: also where standard output is a pipe.
    pub(super) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Between two episodes.
    pub(super) fn gap(&self) -> io::Result<()> {
        self.line("")
    }

    pub(super) fn heading(&self, layout: &Layout, store: &Path, url: &str) -> io::Result<()> {
        self.line(&self.paint(
            BOLD,
            "A recorder, a shipper and a receiver, on this machine.",
        ))?;
        self.gap()?;
        self.line(&format!("  recorded in    {}", layout.episodes.display()))?;
        self.line(&format!("  delivered to   {url}"))?;
        self.line(&format!(
            "  stored in      {}",
            store.join("episodes").display()
        ))?;
        self.gap()?;
        self.line(&self.paint(DIM, &format!("{:>9}  {:<19}step", "ms", "episode")))
    }

    /// One step of one episode, so long after its marker.
    pub(super) fn step(
        &self,
        after: Option<Duration>,
        id: &EpisodeId,
        step: DemoStep,
        what: &str,
    ) -> io::Result<()> {
        let after = after.map_or_else(|| "-".to_owned(), millis);
        let (name, colour) = match step {
            DemoStep::Recording => ("recording", DIM),
            DemoStep::Sealed => ("sealed", BOLD),
            DemoStep::Packed => ("packed", "0"),
            DemoStep::Delivered => ("delivered", GREEN),
            DemoStep::Retired => ("retired", GREEN),
            DemoStep::Waits => ("waits", YELLOW),
        };
        let (after, name) = (
            self.paint(DIM, &format!("{after:>9}")),
            self.paint(colour, &format!("{name:<11}")),
        );
        self.line(&format!(
            "{after}  {:<19}{name}{}",
            id.to_string(),
            printable(what)
        ))
    }

    pub(super) fn summary(&self, summary: &Summary) -> io::Result<()> {
        let Summary { episodes, held, .. } = summary;
        let noun = if *episodes == 1 {
            "episode"
        } else {
            "episodes"
        };
        let all = format!("{episodes} {noun} recorded, delivered and retired.");
        self.line(&self.paint(BOLD, &all))?;
        self.gap()?;
        let worst = format!("worst {} ms ({})", millis(summary.worst), summary.worst_id);
        self.line(&format!(
            "  marker to delivered   median {} ms, {worst}",
            millis(summary.median)
        ))?;
        self.line(&format!(
            "  packed                {}",
            packed(summary.recorded_bytes, summary.packed_bytes)
        ))?;
        let archives = if *held == 1 { "archive" } else { "archives" };
        self.line(&format!(
            "  the receiver holds    {held} {archives}, {}",
            bytes(summary.held_bytes)
        ))?;
        self.line(&format!(
            "  read back             {episodes} of {episodes}: bytes and content match the receipts"
        ))
    }

    /// What to type next: the same pieces by hand.
    pub(super) fn onward(&self, root: &Path, temporary: bool) -> io::Result<()> {
        let program = program();
        self.gap()?;
        let trial = std::env::temp_dir().join("sealift-trial");
        let dir = if temporary { &trial } else { root };
        if temporary {
            self.line(
                "Everything was in a temporary folder, which is gone. The same by hand, in three terminals:",
            )?;
        } else {
            self.line("Everything is still there:")?;
            self.gap()?;
            for (what, path) in [
                ("episodes that were shipped", root.join("shipped")),
                (
                    "archives at the receiver",
                    root.join("store").join("episodes"),
                ),
            ] {
                self.line(&format!("  {what:<28}{}", path.display()))?;
            }
            self.gap()?;
            self.line("To go on by hand, in three terminals:")?;
        }
        let dir = quoted(&dir.display().to_string());
        self.gap()?;
        self.line(&format!(
            "  {program} receive --listen 127.0.0.1:8490 --store {dir}/store"
        ))?;
        self.line(&format!(
            "  {program} ship --data {dir} --receiver http://127.0.0.1:8490"
        ))?;
        self.gap()?;
        self.line(&format!(
            "  mkdir -p {dir}/episodes/mine && date > {dir}/episodes/mine/note.txt"
        ))?;
        self.line(&format!("  {program} seal {dir}/episodes/mine"))?;
        self.gap()?;
        self.line(&format!(
            "  tar --zstd -tvf {dir}/store/episodes/mine.tar.zst"
        ))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A size as a person says it.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// What packing made of it. Next to nothing only gains headers: no ratio is said of that.
pub(super) fn packed(from: u64, to: u64) -> String {
    let sizes = format!("{} to {}", bytes(from), bytes(to));
    if to < from {
        format!("{sizes}, {:.1} : 1", from as f64 / to.max(1) as f64)
    } else {
        sizes
    }
}

/// A status with its name.
pub(super) fn status(status: u16) -> String {
    let name = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    name.map_or_else(|| status.to_string(), |name| format!("{status} {name}"))
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// How this program was called, so that what is printed can be typed.
fn program() -> String {
    let called = std::env::args_os()
        .next()
        .unwrap_or_else(|| "sealift".into());
    quoted(&called.to_string_lossy())
}

/// For a shell, quoted where it must be.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%~,=".contains(c);
    if !text.is_empty() && !text.starts_with('~') && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted_into_a_shell() {
        for (text, expected) in [
            ("/tmp/a", "/tmp/a"),
            ("/tmp/a b", "'/tmp/a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("~x", "'~x'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn sizes_are_said_short_and_a_ratio_only_where_something_shrank() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(6_291_456), "6.3 MB");
        assert_eq!(packed(4_000_000, 1_000_000), "4.0 MB to 1.0 MB, 4.0 : 1");
        assert_eq!(packed(29, 260), "29 B to 260 B");
    }
}
