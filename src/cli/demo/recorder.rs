//! A recorder, as a lab would have one: writes episodes of every kind, and seals each in one of the
//! ways that docs/recorders.md allows. It knows nothing of Sealift but the folder and the marker.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::PathBuf,
};

use anyhow::Context as _;

use crate::{
    disk::manifest,
    model::{
        episode::EpisodeId,
        layout::{Layout, MARKER},
        progress::Progress,
        text,
    },
};

const EMPTY: &str = "empty done.marker";
const MANIFEST: &str = "a manifest in its marker";

/// A name, how it is sealed, and what writes it.
type DemoKind = (
    &'static str,
    &'static str,
    fn(&mut DemoEpisode) -> anyhow::Result<()>,
);

/// The order in which they are recorded.
const KINDS: [DemoKind; 6] = [
    ("tiny", EMPTY, |it| {
        it.write("note.txt", b"One line is an episode, too.\n")
    }),
    ("many-files", EMPTY, |it| {
        (0..300).try_for_each(|frame| {
            let exposure_us = 900 + frame % 7;
            let text = format!("{{\"frame\":{frame},\"exposure_us\":{exposure_us}}}\n");
            it.write(format!("frames/{frame:05}.json"), text.as_bytes())
        })
    }),
    ("nested", "a symlink, odd names", |it| {
        it.write("deep/er/and deeper/ünïcode 走.txt", "grüße\n".as_bytes())?;
        it.write("raw.bin", &telemetry(64 << 10))?;
        fs::create_dir_all(it.folder.join("empty"))?;
        symlink("raw.bin", it.folder.join("latest"))?;
        // Not every file system takes a name that is not UTF-8; the episode is good without it.
        let _ = it.write(OsStr::from_bytes(b"not-utf8-\xff.txt"), b"odd\n");
        Ok(())
    }),
    ("manifest", MANIFEST, |it| {
        let commit = br#"{"code_version":{"commit":"0123456789abcdef0123456789abcdef01234567"}}"#;
        it.write("meta.json", commit)?;
        it.write("samples.f32", &telemetry(512 << 10))
    }),
    ("large", EMPTY, |it| {
        it.write("telemetry.f32", &telemetry(6 << 20))
    }),
    ("noise", EMPTY, |it| {
        let mut random = Random(1);
        let noise: Vec<_> = (0..2 << 17).flat_map(|_| random.next()).collect();
        it.write("noise.bin", &noise)
    }),
];

/// Opened first of all and sealed last.
const LATE: DemoKind = ("late-marker", "done.marker dropped at last", |it| {
    it.write("samples.f32", &telemetry(256 << 10))
});

/// An episode that is being written, in place.
pub(super) struct DemoEpisode {
    pub(super) id: EpisodeId,
    /// What was written.
    pub(super) bytes: u64,
    files: usize,
    folder: PathBuf,
    kind: DemoKind,
}

impl DemoEpisode {
    fn open(layout: &Layout, number: usize, kind: DemoKind) -> anyhow::Result<Self> {
        let id = EpisodeId::parse(&format!("run-{number:02}-{}", kind.0))?;
        let folder = layout.episode(&id);
        fs::create_dir_all(&folder)
            .with_context(|| format!("Failed to create {}", folder.display()))?;
        let (files, bytes) = (0, 0);
        Ok(Self {
            id,
            bytes,
            files,
            folder,
            kind,
        })
    }

    /// The `n`th of a demo.
    pub(super) fn record(layout: &Layout, number: usize, n: usize) -> anyhow::Result<Self> {
        Self::open(layout, number, KINDS[n % KINDS.len()])
    }

    pub(super) fn late(layout: &Layout, number: usize) -> anyhow::Result<Self> {
        let mut late = Self::open(layout, number, LATE)?;
        late.write("log.txt", b"recording since the beginning\n")?;
        Ok(late)
    }

    /// Writes what is still to be written before the marker.
    pub(super) fn complete(&mut self) -> anyhow::Result<()> {
        (self.kind.2)(self)
    }

    pub(super) fn seal(&self) -> anyhow::Result<()> {
        if self.kind.1 == MANIFEST {
            manifest::seal(&self.folder, &Progress::default())?;
            return Ok(());
        }
        fs::write(self.folder.join(MARKER), b"").context("Failed to create the marker")
    }

    /// `1 file, 29 B; empty done.marker`.
    pub(super) fn what(&self) -> String {
        let noun = if self.files == 1 { "file" } else { "files" };
        let size = text::bytes(self.bytes);
        format!("{} {noun}, {size}; {}", self.files, self.kind.1)
    }

    fn write(&mut self, name: impl AsRef<OsStr>, content: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("Failed to write {}", path.display()))?;
        self.files += 1;
        self.bytes += content.len() as u64;
        Ok(())
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

/// What a slow sensor gives: values that repeat, with the odd bit of jitter.
fn telemetry(bytes: usize) -> Vec<u8> {
    let mut random = Random(bytes as u64);
    let sample = |n: usize| ((n % 1000) as f32 / 40.0).sin() + f32::from(random.next()[0] & 3);
    (0..bytes / 4)
        .map(sample)
        .flat_map(f32::to_le_bytes)
        .collect()
}

/// Numbers that look random (splitmix64; S. Vigna, 2015).
struct Random(u64);

impl Random {
    fn next(&mut self) -> [u8; 8] {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}
