//! Archives that are sent while they are packed: what the packing worker leaves for the one that
//! sends, and what that leaves for the attempt after the packing.

use std::time::Duration;

use tokio::{sync::oneshot, time::timeout};

use super::workers::Workers;
use crate::{
    disk::meta,
    model::{
        episode::{Commit, EpisodeId, Fingerprint},
        progress::Progress,
    },
    ship::{
        archive::Archive,
        machine::{Event, SMALL_BYTES, step_result::Packed},
        outbox::plan::{self, PackingPlan},
        transport::growth::{GrowingDelivery, GrowingEnd, Planned},
    },
};

/// An attempt that waits for the end of an upload beside a packing looks so often whether that
/// moves.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// An archive that is being packed.
#[derive(Debug)]
pub(super) struct GrowingArchive {
    archive: Archive,
    plan: PackingPlan,
    bound_bytes: u64,
}

/// An upload beside a packing. The attempt that goes on with it waits for its end.
#[derive(Debug)]
pub(super) struct SentGrowing {
    end: oneshot::Receiver<GrowingEnd>,
    progress: Progress,
}

impl Workers {
    /// Says that this archive may be sent from now on. `bound_bytes`: it becomes no longer;
    /// `fingerprint`: the episode just before it is packed.
    pub(super) fn may_be_sent(
        &self,
        id: &EpisodeId,
        archive: &Archive,
        bound_bytes: u64,
        fingerprint: Fingerprint,
    ) {
        if bound_bytes <= SMALL_BYTES || !self.transport.may_take_growing() {
            return;
        }
        let growing = GrowingArchive {
            archive: archive.clone(),
            plan: PackingPlan::new(id, fingerprint, self.pack.level),
            bound_bytes,
        };
        self.known.growing.lock().insert(id.clone(), growing);
        self.report(Event::Growing(id.clone()));
    }

    /// Here and now: an attempt that begins from here on waits for its end.
    pub(super) fn growing_begins(
        &self,
        id: &EpisodeId,
        progress: &Progress,
    ) -> oneshot::Sender<GrowingEnd> {
        let (ended, end) = oneshot::channel();
        let progress = progress.clone();
        let sent = SentGrowing { end, progress };
        self.known.sent_growing.lock().insert(id.clone(), sent);
        ended
    }

    /// Sends what there is of an archive while it is packed. Whether the attempt after that goes on
    /// with it.
    pub(super) async fn send_growing(
        &self,
        id: &EpisodeId,
        ended: oneshot::Sender<GrowingEnd>,
        progress: Progress,
    ) -> bool {
        let growing = self.known.growing.lock().remove(id);
        let delivery = match growing {
            Some(growing) => self.growing_delivery(id, growing).await,
            // It was packed before this began.
            None => None,
        };
        let end = match delivery {
            Some(delivery) => self.transport.send_growing(&delivery, &progress).await,
            None => GrowingEnd::Nothing,
        };
        // Nothing waits for it where its packing has failed.
        let goes_on = end.goes_on();
        let _ = ended.send(end);
        goes_on
    }

    /// The plan is durable before anything leaves by it. `None` where it cannot be written: nothing
    /// is sent before the whole is packed then.
    async fn growing_delivery(
        &self,
        id: &EpisodeId,
        growing: GrowingArchive,
    ) -> Option<GrowingDelivery> {
        let GrowingArchive {
            archive,
            plan,
            bound_bytes,
        } = growing;
        let (workers, of) = (self.clone(), id.clone());
        let noted = tokio::task::spawn_blocking(move || {
            let before = plan.write(&workers.layout);
            let before = before.map(|before| before.map(|before| before.digest()));
            (plan.digest(), before, workers.commit_before_packing(&of))
        });
        let (plan, before, commit) = noted.await.ok()?;
        let before = before
            .inspect_err(|error| {
                tracing::debug!(EPISODE = %id, "{id} is sent when it is packed, since its plan cannot be written: {error}");
            })
            .ok()?;
        Some(GrowingDelivery {
            id: id.clone(),
            archive,
            plan,
            bound_bytes,
            commit,
            may_be_kept: before == Some(plan),
            replaces: before.filter(|before| *before != plan),
        })
    }

    /// What the receiver is asked for beforehand. What is packed says it again, and decides.
    fn commit_before_packing(&self, id: &EpisodeId) -> Option<Commit> {
        meta::look(&self.layout.episode(id)).ok()?.ok()?
    }

    /// What was sent of this while it was packed. Waits for the end of that.
    pub(super) async fn sent_growing(
        &self,
        id: &EpisodeId,
        packed: &Packed,
        resume: bool,
        progress: &Progress,
    ) -> GrowingEnd {
        let sent = self.known.sent_growing.lock().remove(id);
        let Some(mut sent) = sent else {
            if !resume || packed.facts.size_bytes <= SMALL_BYTES {
                return GrowingEnd::Nothing;
            }
            let plan = plan::of(&self.layout, id, packed.fingerprint);
            let kept_bytes = None;
            return plan.map_or(GrowingEnd::Nothing, |plan| {
                GrowingEnd::Broken(Planned { plan, kept_bytes })
            });
        };
        let mut steps = sent.progress.steps();
        loop {
            tokio::select! {
                end = timeout(SIGN_OF_LIFE, &mut sent.end) => match end {
                    Ok(end) => return end.unwrap_or(GrowingEnd::Nothing),
                    // It has time-outs of its own.
                    Err(_) if std::mem::replace(&mut steps, sent.progress.steps()) != steps => {
                        progress.step();
                    }
                    Err(_) => {}
                },
                () = progress.cancelled() => {
                    sent.progress.cancel();
                    return GrowingEnd::Nothing;
                }
            }
        }
    }
}
