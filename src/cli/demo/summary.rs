//! What the demo came to: times, bytes, and what the receiver holds, read back from its disk.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::model::{
    episode::{Digest, EpisodeId},
    layout::RECEIPT,
    records::{ArchiveFacts, ShippingReceipt},
};

/// An episode that has gone all its way.
pub(super) struct DemoShipped {
    pub(super) id: EpisodeId,
    /// Where it stands in `shipped/`.
    pub(super) path: PathBuf,
    pub(super) facts: ArchiveFacts,
    /// What was recorded.
    pub(super) bytes: u64,
    /// From its marker to the receiver's answer.
    pub(super) delivered_after: Duration,
}

/// Everything that the last lines say.
pub(super) struct Summary {
    pub(super) episodes: usize,
    pub(super) median: Duration,
    pub(super) worst: Duration,
    pub(super) worst_id: EpisodeId,
    pub(super) recorded_bytes: u64,
    pub(super) packed_bytes: u64,
    /// Archives in the store, and their bytes; those of earlier demos among them.
    pub(super) held: u64,
    pub(super) held_bytes: u64,
}

/// Reads every archive back out of the store and compares its bytes, and the tar stream inside,
/// with the receipt that lies beside the episode in `shipped/`.
///
/// # Errors
/// Where anything differs, or is not there.
pub(super) fn read_back(mut shipped: Vec<DemoShipped>, store: &Path) -> anyhow::Result<Summary> {
    let archives = store.join("episodes");
    for episode in &shipped {
        compare(episode, &archives)
            .with_context(|| format!("{} was not stored as it was sent", episode.id))?;
    }
    let (mut held, mut held_bytes) = (0, 0);
    for entry in fs::read_dir(&archives)? {
        held += 1;
        held_bytes += entry?.metadata()?.len();
    }
    shipped.sort_by_key(|episode| episode.delivered_after);
    let worst = shipped.last().context("Nothing was shipped")?;
    Ok(Summary {
        episodes: shipped.len(),
        median: shipped[shipped.len() / 2].delivered_after,
        worst: worst.delivered_after,
        worst_id: worst.id.clone(),
        recorded_bytes: shipped.iter().map(|episode| episode.bytes).sum(),
        packed_bytes: shipped.iter().map(|episode| episode.facts.size_bytes).sum(),
        held,
        held_bytes,
    })
}

fn compare(episode: &DemoShipped, archives: &Path) -> anyhow::Result<()> {
    let receipt = fs::read(episode.path.join(RECEIPT)).context("Failed to read its receipt")?;
    let receipt: ShippingReceipt =
        serde_json::from_slice(&receipt).context("Failed to read its receipt")?;
    let archive = archives.join(format!("{}.tar.zst", episode.id.percent_encoded()));
    let open =
        || File::open(&archive).with_context(|| format!("Failed to open {}", archive.display()));
    ensure!(
        hash(open()?)? == receipt.sha256,
        "{} has another digest",
        archive.display()
    );
    let content = hash(zstd::Decoder::new(open()?)?)?;
    ensure!(
        content == receipt.content_sha256,
        "{} holds other content",
        archive.display()
    );
    ensure!(
        receipt.receipt["sha256"] == receipt.sha256.to_string(),
        "the receiver's own receipt names another digest"
    );
    Ok(())
}

fn hash(mut from: impl Read) -> anyhow::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hasher.into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
