//! `outbox/<id>.tar.zst.plan`: what an archive is packed from, and how, while it is sent.
//!
//! The same episode packed by the same plan gives the same bytes. So the plan's digest names an
//! upload whose archive is not known to its end yet, and a process that begins anew finds it again.
//! It is never proof of anything: the archive's own digest is compared before a receiver takes it.

use std::io;

use serde::{Deserialize, Serialize};

use crate::{
    disk::{durable, lookup},
    model::{
        episode::{Digest, EpisodeId, Fingerprint},
        layout::Layout,
    },
};

/// What an archive is packed from, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackingPlan {
    episode_id: EpisodeId,
    /// The episode as it was before it was packed.
    fingerprint: Fingerprint,
    /// zstd's.
    level: i32,
    /// The library's, as it numbers itself: another one may give other bytes.
    zstd_version: u32,
}

impl PackingPlan {
    pub(crate) fn new(id: &EpisodeId, fingerprint: Fingerprint, level: i32) -> Self {
        Self {
            episode_id: id.clone(),
            fingerprint,
            level,
            zstd_version: zstd::zstd_safe::version_number(),
        }
    }

    /// Under which an upload by it is found again.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(serde_json::json!(self).to_string().as_bytes())
    }

    /// Writes it down, durably. Gives back what stood there: something may have been sent by it.
    ///
    /// # Errors
    /// Those of writing it.
    pub(crate) fn write(&self, layout: &Layout) -> io::Result<Option<Self>> {
        let before = Self::read(layout, &self.episode_id);
        if before.as_ref() != Some(self) {
            let json = serde_json::to_vec_pretty(self)?;
            durable::write_file(&layout.plan(&self.episode_id), &json)?;
        }
        Ok(before)
    }

    /// What stands there; `None` where that is none of ours.
    fn read(layout: &Layout, id: &EpisodeId) -> Option<Self> {
        let mut bytes = Vec::new();
        let file = lookup::regular(&layout.plan(id)).ok()?;
        io::Read::read_to_end(&mut io::Read::take(file, MAX_PLAN_BYTES), &mut bytes).ok()?;
        let plan: Self = serde_json::from_slice(&bytes).ok()?;
        (plan.episode_id == *id).then_some(plan)
    }
}

/// Far more than any plan has.
const MAX_PLAN_BYTES: u64 = 64 * 1024;

/// By which plan a part of this episode, as it is now, may have been sent.
pub(crate) fn of(layout: &Layout, id: &EpisodeId, fingerprint: Fingerprint) -> Option<Digest> {
    let plan = PackingPlan::read(layout, id)?;
    (plan.fingerprint == fingerprint).then(|| plan.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_found_by_the_next_process_and_only_for_the_episode_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(folder.path());
        std::fs::create_dir(&layout.outbox).unwrap();
        let id = EpisodeId::parse("a").unwrap();
        let [then, now] = [b"then", b"now!"].map(|bytes| Fingerprint(Digest::of(bytes)));
        let plan = PackingPlan::new(&id, then, 3);
        assert_eq!(plan.write(&layout).unwrap(), None, "it is new");
        let again = plan.write(&layout).unwrap();
        assert_eq!(again.as_ref(), Some(&plan), "it stood there");
        assert_eq!(of(&layout, &id, then), Some(plan.digest()));
        assert_eq!(of(&layout, &id, now), None);
        // Another level gives other bytes, and so another upload.
        let other = PackingPlan::new(&id, then, 4);
        assert_ne!(other.digest(), plan.digest());
        assert_eq!(other.write(&layout).unwrap(), Some(plan));
        for broken in ["", "{}", "[1]"] {
            std::fs::write(layout.plan(&id), broken).unwrap();
            assert_eq!(of(&layout, &id, then), None, "{broken:?}");
        }
    }
}
