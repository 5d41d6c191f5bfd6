//! A recorder, as a lab would have one: writes episodes, and seals each with an empty marker. It
//! knows nothing of Sealift but the folder and the marker (docs/recorders.md).

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::Context as _;

use crate::model::{
    episode::EpisodeId,
    layout::{Layout, MARKER},
    text,
};

/// What is recorded in turn: a name, how many files, and how many samples in each.
const KINDS: [(&str, usize, usize); 3] = [
    ("tiny", 1, 1),
    ("many-files", 300, 2),
    ("large", 2, 200_000),
];

/// Opened first of all and sealed last.
const LATE: (&str, usize, usize) = ("late-marker", 1, 10_000);

/// An episode that is being written, in place.
pub(super) struct DemoEpisode {
    pub(super) id: EpisodeId,
    /// What was written.
    pub(super) bytes: u64,
    folder: PathBuf,
    files: usize,
    samples: usize,
}

impl DemoEpisode {
    fn open(
        layout: &Layout,
        number: usize,
        (name, files, samples): (&str, usize, usize),
    ) -> anyhow::Result<Self> {
        let id = EpisodeId::parse(&format!("run-{number:02}-{name}"))?;
        let folder = layout.episode(&id);
        fs::create_dir_all(&folder)
            .with_context(|| format!("Failed to create {}", folder.display()))?;
        Ok(Self {
            id,
            bytes: 0,
            folder,
            files,
            samples,
        })
    }

    /// The `n`th of a demo.
    pub(super) fn record(layout: &Layout, number: usize, n: usize) -> anyhow::Result<Self> {
        Self::open(layout, number, KINDS[n % KINDS.len()])
    }

    pub(super) fn late(layout: &Layout, number: usize) -> anyhow::Result<Self> {
        Self::open(layout, number, LATE)
    }

    /// Writes all of it but the marker.
    pub(super) fn complete(&mut self) -> anyhow::Result<()> {
        for file in 0..self.files {
            let mut text = String::new();
            for sample in 0..self.samples {
                // What a slow sensor gives: values that repeat.
                let value = (sample % 1000) as f32 / 40.0;
                writeln!(text, "{sample} {:.4}", value.sin())?;
            }
            let path = self.folder.join(format!("samples-{file:03}.txt"));
            fs::write(&path, &text)
                .with_context(|| format!("Failed to write {}", path.display()))?;
            self.bytes += text.len() as u64;
        }
        Ok(())
    }

    pub(super) fn seal(&self) -> anyhow::Result<()> {
        fs::write(self.folder.join(MARKER), b"").context("Failed to create the marker")
    }

    /// `1 file, 29 B; empty done.marker`.
    pub(super) fn what(&self) -> String {
        let noun = if self.files == 1 { "file" } else { "files" };
        let size = text::bytes(self.bytes);
        format!("{} {noun}, {size}; empty done.marker", self.files)
    }
}

/// The number behind the highest that an earlier demo has used in this folder.
pub(super) fn first_free(layout: &Layout) -> usize {
    let folders = [&layout.episodes, &layout.shipped, &layout.quarantine];
    let entries = folders
        .into_iter()
        .flat_map(fs::read_dir)
        .flatten()
        .flatten();
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let number = name.trim_start_matches('.').strip_prefix("run-")?;
        number.split('-').next()?.parse::<usize>().ok()
    };
    entries.filter_map(number).max().unwrap_or(0) + 1
}
