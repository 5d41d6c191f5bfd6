//! thin
use crate::{
    durable,
    episode::{EpisodeId, Fingerprint},
    layout::{Layout, RECEIPT},
    progress::Progress,
    records::{ArchiveFacts, ManifestCheck, ShippingReceipt, WallTime},
    ship::machine::{state::Moved, verdict::Proof},
    tree,
};
/// thin
#[derive(Debug)]
pub struct Retirement<'a> {
    /// thin
    pub id: &'a EpisodeId,
    /// thin
    pub proof: &'a Proof,
    /// thin
    pub facts: &'a ArchiveFacts,
    /// thin
    pub fingerprint: Fingerprint,
    /// thin
    pub manifest: ManifestCheck,
    /// thin
    pub receiver: &'a str,
    /// thin
    pub delivered_at: WallTime,
}
/// thin
pub fn retire(layout: &Layout, r: &Retirement<'_>, progress: &Progress) -> Moved {
    let dir = layout.episode(r.id);
    if tree::fingerprint(&dir, progress).ok() != Some(r.fingerprint) {
        return Moved::Changed;
    }
    let receipt = ShippingReceipt {
        episode_id: r.id.clone(),
        sha256: r.facts.sha256,
        content_sha256: r.facts.content_sha256,
        size_bytes: r.facts.size_bytes,
        status_code: r.proof.status(),
        receiver: r.receiver.to_owned(),
        delivered_at_wall: r.delivered_at,
        manifest: r.manifest,
        receipt: r.proof.receipt().clone(),
    };
    let go = || -> std::io::Result<_> {
        durable::write_file(&dir.join(RECEIPT), &serde_json::to_vec_pretty(&receipt)?)?;
        let to = durable::move_directory(&dir, &layout.shipped, r.id.as_str())?;
        super::outbox::clear(layout, r.id)?;
        Ok(to)
    };
    match go() {
        Ok(to) => Moved::To(to),
        Err(e) => Moved::Failed(e.to_string()),
    }
}
