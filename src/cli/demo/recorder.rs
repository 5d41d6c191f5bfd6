//! A recorder, as a lab would have one: writes episodes of every kind, and seals each in one of the
//! ways that docs/recorders.md allows. It knows nothing of Sealift but the folder and the marker.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    disk::manifest,
    model::{
        episode::EpisodeId,
        layout::{Layout, MARKER},
        progress::Progress,
    },
};

/// The episode before has arrived: on with the next.
pub(super) struct Go;

/// What the recorder says, each time before it does it.
pub(super) enum Recorded {
    /// A folder stands in `episodes/`, without a marker.
    Opened { id: EpisodeId, what: String },
    /// The marker is about to appear.
    Sealing {
        id: EpisodeId,
        at: Instant,
        what: String,
        bytes: u64,
    },
    /// The disk did not take it.
    Failed(anyhow::Error),
}

/// The order in which they are recorded. The late one is opened first of all and sealed last.
#[derive(Clone, Copy, PartialEq)]
enum RecorderKind {
    Tiny,
    Many,
    Nested,
    Manifest,
    Large,
    RenamedIn,
    Noise,
}

const KINDS: [RecorderKind; 7] = [
    RecorderKind::Tiny,
    RecorderKind::Many,
    RecorderKind::Nested,
    RecorderKind::Manifest,
    RecorderKind::Large,
    RecorderKind::RenamedIn,
    RecorderKind::Noise,
];

const MANY: usize = 300;
const LARGE_BYTES: usize = 6 << 20;
const NOISE_BYTES: usize = 2 << 20;
/// Longer than any line takes: the side that should say `Go` is stuck, and says so by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// Records so many episodes, one after the other.
pub(super) fn record(
    layout: &Layout,
    episodes: usize,
    tell: &UnboundedSender<Recorded>,
    go: &Receiver<Go>,
) {
    if let Err(error) = try_record(layout, episodes, tell, go) {
        // Where the other end listens no more, the error is of no use to it.
        let _ = tell.send(Recorded::Failed(error));
    }
}

fn try_record(
    layout: &Layout,
    episodes: usize,
    tell: &UnboundedSender<Recorded>,
    go: &Receiver<Go>,
) -> anyhow::Result<()> {
    fs::create_dir_all(&layout.episodes)
        .with_context(|| format!("Failed to create {}", layout.episodes.display()))?;
    let first = first_free(layout);
    // One of them stays open for as long as the others travel: what has no marker is left alone.
    let late = (episodes > 1)
        .then(|| DemoEpisode::new(layout, first + episodes - 1, "late-marker"))
        .transpose()?;
    if let Some(late) = &late {
        late.write("log.txt", b"recording since the beginning\n")?;
        let what = "open: what has no marker stays".to_owned();
        let _ = tell.send(Recorded::Opened {
            id: late.id.clone(),
            what,
        });
    }
    let before_late = episodes - usize::from(late.is_some());
    for n in 0..before_late {
        one(layout, first + n, KINDS[n % KINDS.len()], tell)?;
        if go.recv_timeout(PATIENCE).is_err() {
            return Ok(());
        }
    }
    if let Some(late) = late {
        late.write("samples.f32", &telemetry(256 << 10))?;
        late.seal("done.marker dropped at last", tell)?;
    }
    Ok(())
}

fn one(
    layout: &Layout,
    n: usize,
    kind: RecorderKind,
    tell: &UnboundedSender<Recorded>,
) -> anyhow::Result<()> {
    match kind {
        RecorderKind::Tiny => {
            let episode = DemoEpisode::new(layout, n, "tiny")?;
            episode.write("note.txt", b"One line is an episode, too.\n")?;
            episode.seal("empty done.marker", tell)
        }
        RecorderKind::Many => {
            let episode = DemoEpisode::new(layout, n, "many-files")?;
            for frame in 0..MANY {
                let text = format!(
                    "{{\"frame\":{frame},\"exposure_us\":{}}}\n",
                    900 + frame % 7
                );
                episode.write(&format!("frames/{frame:05}.json"), text.as_bytes())?;
            }
            episode.seal("empty done.marker", tell)
        }
        RecorderKind::Nested => {
            let episode = DemoEpisode::new(layout, n, "nested")?;
            episode.write("deep/er/and deeper/ünïcode 走.txt", "grüße\n".as_bytes())?;
            episode.write("raw.bin", &telemetry(64 << 10))?;
            fs::create_dir_all(episode.building.join("empty"))?;
            symlink("raw.bin", episode.building.join("latest"))?;
            // Not every file system takes a name that is not UTF-8; the episode is good without it.
            let _ = fs::write(
                episode
                    .building
                    .join(OsStr::from_bytes(b"not-utf8-\xff.txt")),
                b"odd\n",
            );
            episode.seal("a symlink, odd names", tell)
        }
        RecorderKind::Manifest => {
            let episode = DemoEpisode::hidden(layout, n, "manifest")?;
            episode.write(
                "meta.json",
                br#"{"code_version":{"commit":"0123456789abcdef0123456789abcdef01234567"}}"#,
            )?;
            episode.write("samples.f32", &telemetry(512 << 10))?;
            episode.seal_by_manifest(tell)
        }
        RecorderKind::Large => {
            let episode = DemoEpisode::new(layout, n, "large")?;
            episode.write("telemetry.f32", &telemetry(LARGE_BYTES))?;
            episode.seal("empty done.marker", tell)
        }
        RecorderKind::RenamedIn => {
            let episode = DemoEpisode::hidden(layout, n, "renamed-in")?;
            episode.write("log.txt", b"built elsewhere, sealed there, renamed in\n")?;
            episode.rename_in("built elsewhere, renamed in sealed", tell)
        }
        RecorderKind::Noise => {
            let episode = DemoEpisode::new(layout, n, "noise")?;
            episode.write("noise.bin", &noise(NOISE_BYTES))?;
            episode.seal("empty done.marker", tell)
        }
    }
}

/// An episode that is being written: in place, or in a hidden folder beside it.
struct DemoEpisode {
    id: EpisodeId,
    building: PathBuf,
    place: PathBuf,
}

impl DemoEpisode {
    fn new(layout: &Layout, n: usize, name: &str) -> anyhow::Result<Self> {
        let id = EpisodeId::parse(&format!("run-{n:02}-{name}"))?;
        let place = layout.episode(&id);
        fs::create_dir(&place).with_context(|| format!("Failed to create {}", place.display()))?;
        Ok(Self {
            id,
            building: place.clone(),
            place,
        })
    }

    /// Folders that begin with a dot are not looked at.
    fn hidden(layout: &Layout, n: usize, name: &str) -> anyhow::Result<Self> {
        let id = EpisodeId::parse(&format!("run-{n:02}-{name}"))?;
        let (place, building) = (
            layout.episode(&id),
            layout.episodes.join(format!(".{}", id.as_str())),
        );
        fs::create_dir(&building)
            .with_context(|| format!("Failed to create {}", building.display()))?;
        Ok(Self {
            id,
            building,
            place,
        })
    }

    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.building.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::File::create(&path)?.write_all(content)
        };
        write().with_context(|| format!("Failed to write {}", path.display()))
    }

    fn seal(&self, how: &str, tell: &UnboundedSender<Recorded>) -> anyhow::Result<()> {
        self.announce(how, tell)?;
        fs::write(self.place.join(MARKER), b"").context("Failed to create the marker")
    }

    fn seal_by_manifest(&self, tell: &UnboundedSender<Recorded>) -> anyhow::Result<()> {
        manifest::seal(&self.building, &Progress::default())?;
        self.appear("a manifest in its marker", tell)
    }

    fn rename_in(&self, how: &str, tell: &UnboundedSender<Recorded>) -> anyhow::Result<()> {
        fs::write(self.building.join(MARKER), b"").context("Failed to create the marker")?;
        self.appear(how, tell)
    }

    #[expect(clippy::disallowed_methods, reason = "a recorder renames as it likes")]
    fn appear(&self, how: &str, tell: &UnboundedSender<Recorded>) -> anyhow::Result<()> {
        self.announce(how, tell)?;
        fs::rename(&self.building, &self.place).context("Failed to rename it into place")
    }

    /// Said before it is done: the clock starts no later than the marker.
    fn announce(&self, how: &str, tell: &UnboundedSender<Recorded>) -> anyhow::Result<()> {
        let (files, bytes) = content(&self.building)?;
        let noun = if files == 1 { "file" } else { "files" };
        let what = format!("{files} {noun}, {}; {how}", super::screen::bytes(bytes));
        let _ = tell.send(Recorded::Sealing {
            id: self.id.clone(),
            at: super::monotonic_clock(),
            what,
            bytes,
        });
        Ok(())
    }
}

/// Files and their bytes, the marker left out.
fn content(folder: &Path) -> anyhow::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let (inside, their) = content(&entry.path())?;
            (files, bytes) = (files + inside, bytes + their);
        } else if kind.is_file() && entry.file_name() != MARKER {
            (files, bytes) = (files + 1, bytes + entry.metadata()?.len());
        }
    }
    Ok((files, bytes))
}

/// The number behind the highest that an earlier demo has used in this folder.
fn first_free(layout: &Layout) -> usize {
    let used = |folder: &PathBuf| {
        let names = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name());
        let number = |name: &OsStr| {
            let name = name.to_str()?;
            name.trim_start_matches('.')
                .strip_prefix("run-")?
                .split('-')
                .next()?
                .parse::<usize>()
                .ok()
        };
        names.filter_map(|name| number(&name)).max().unwrap_or(0)
    };
    [&layout.episodes, &layout.shipped, &layout.quarantine]
        .map(used)
        .into_iter()
        .max()
        .unwrap_or(0)
        + 1
}

/// What a slow sensor gives: values that repeat, with the odd bit of jitter.
fn telemetry(bytes: usize) -> Vec<u8> {
    let mut random = Random(bytes as u64);
    let sample = |n: usize| ((n % 1000) as f32 / 40.0).sin() + f32::from((random.next() & 3) as u8);
    (0..bytes / 4)
        .map(sample)
        .flat_map(f32::to_le_bytes)
        .collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random(1);
    (0..bytes / 8)
        .flat_map(|_| random.next().to_le_bytes())
        .collect()
}

/// Numbers that look random (splitmix64; S. Vigna, 2015).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
