//! thin
use crate::{
    durable,
    episode::EpisodeId,
    layout::{Layout, REASON},
    progress::Progress,
    records::{QuarantineReason, WallTime},
    ship::machine::state::{Moved, Reason},
};
/// thin
pub fn quarantine(layout: &Layout, id: &EpisodeId, r: &Reason, now: WallTime, _p: &Progress) -> Moved {
    let dir = layout.episode(id);
    let reason = QuarantineReason {
        episode_id: Some(id.as_str().into()),
        status_code: r.status,
        error: Some(r.error.clone()),
        body: r.body.clone(),
        verdict: Some(r.verdict.into()),
        quarantined_at_wall: Some(now),
    };
    let go = || -> std::io::Result<_> {
        durable::write_file(&dir.join(REASON), &serde_json::to_vec_pretty(&reason)?)?;
        let to = durable::move_directory(&dir, &layout.quarantine, id.as_str())?;
        super::outbox::clear(layout, id)?;
        Ok(to)
    };
    match go() {
        Ok(to) => Moved::To(to),
        Err(e) => Moved::Failed(e.to_string()),
    }
}
