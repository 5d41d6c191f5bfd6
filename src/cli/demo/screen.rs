//! What a person sees: aligned lines of at most a hundred columns.

use std::{
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use crate::model::{
    episode::EpisodeId,
    layout::Layout,
    text::{bytes, printable, word},
};

/// One line, at once: also where standard output is a pipe.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

pub(super) fn heading(layout: &Layout, store: &Path, url: &str) -> io::Result<()> {
    line("A recorder, a shipper and a receiver, on this machine.")?;
    line(&format!(
        "
  recorded in    {}
  delivered to   {url}
  stored in      {}
",
        layout.episodes.display(),
        store.join("episodes").display()
    ))?;
    line(&format!("{:>9}  {:<19}step", "ms", "episode"))
}

/// One step of one episode, so long after its marker.
pub(super) fn step(
    after: Option<Duration>,
    id: &EpisodeId,
    step: &str,
    what: &str,
) -> io::Result<()> {
    let after = after.map_or_else(|| "-".to_owned(), millis);
    line(&format!(
        "{after:>9}  {:<19}{step:<11}{}",
        id.to_string(),
        printable(what)
    ))
}

/// What to type next: the same pieces by hand.
pub(super) fn onward(root: &Path, temporary: bool) -> io::Result<()> {
    let program = std::env::args_os().next();
    let program = word(Path::new(&program.unwrap_or_else(|| "sealift".into())));
    let trial = std::env::temp_dir().join("sealift-trial");
    let dir = word(if temporary { &trial } else { root });
    if temporary {
        line(
            "\nEverything was in a temporary folder, which is gone. The same by hand, in three terminals:",
        )?;
    } else {
        line(&format!(
            "\nEverything is still there:

  episodes that were shipped  {}
  archives at the receiver    {}

To go on by hand, in three terminals:",
            root.join("shipped").display(),
            root.join("store/episodes").display()
        ))?;
    }
    line(&format!(
        "
  {program} receive --listen 127.0.0.1:8490 --store {dir}/store
  {program} ship --data {dir} --receiver http://127.0.0.1:8490

  mkdir -p {dir}/episodes/mine && date > {dir}/episodes/mine/note.txt
  {program} seal {dir}/episodes/mine

  tar --zstd -tvf {dir}/store/episodes/mine.tar.zst"
    ))
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

pub(super) fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_short_and_a_ratio_only_where_something_shrank() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(6_291_456), "6.3 MB");
        assert_eq!(packed(4_000_000, 1_000_000), "4.0 MB to 1.0 MB, 4.0 : 1");
        assert_eq!(packed(29, 260), "29 B to 260 B");
    }
}
