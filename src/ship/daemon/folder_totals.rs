//! What is in `shipped/` and `quarantine/`, for those who ask how it stands: so `status` need not
//! look, and `shipped/`, which may hold a million, is listed once a life.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::{
    clock,
    disk::{filesystem, reused_names, scan, shipped_lately::ShippedLately},
    model::{
        layout::Layout,
        snapshot::{FiledStatus, RoomStatus, Snapshot},
        text::printable,
    },
    ship::{machine::Notice, report::control::Ask},
};

/// A folder that does not answer within this time is not known to the one who asks.
const LOOKED_WITHIN: Duration = Duration::from_secs(1);

/// Clones share one state.
#[derive(Debug, Clone)]
pub(super) struct FolderTotals(Arc<FolderTotalsInner>);

#[derive(Debug)]
struct FolderTotalsInner {
    layout: Arc<Layout>,
    lately: Mutex<ShippedLately>,
    /// What came of listing `shipped/`; `None` while that is under way.
    listed: Mutex<Option<Result<(), String>>>,
    /// One look at a time: those at a disk that hangs do not pile up.
    looking: Arc<tokio::sync::Mutex<()>>,
}

/// What is free now: a disk may have filled since the last reconcile pass.
fn renew(known: &mut [RoomStatus], now: Vec<RoomStatus>) {
    for room in now {
        if let Some(known) = known.iter_mut().find(|it| it.folders == room.folders) {
            let rate = known.filling_bytes_per_s;
            *known = room;
            known.fills_by(rate);
        }
    }
}

impl FolderTotals {
    /// Lists `shipped/`, beside everything else; of a single pass no one asks.
    pub(super) fn begin(layout: Arc<Layout>, once: bool) -> Self {
        let folder_totals = Self(Arc::new(FolderTotalsInner {
            layout,
            lately: Mutex::default(),
            listed: Mutex::default(),
            looking: Arc::default(),
        }));
        if !once {
            let listing = folder_totals.clone();
            tokio::task::spawn_blocking(move || listing.list());
        }
        folder_totals
    }

    fn list(&self) {
        let now = clock::wall_now();
        let mut seen = ShippedLately::default();
        let listed = seen.look(&self.0.layout.shipped, now);
        {
            let mut lately = self.0.lately.lock();
            lately.join(seen, now);
            if listed.is_ok() {
                lately.settle();
            }
        }
        *self.0.listed.lock() = Some(listed);
    }

    /// Lists it once more where that failed: descriptors were used up, or its disk was away.
    pub(super) fn list_again(&self) {
        let mut listed = self.0.listed.lock();
        if matches!(*listed, Some(Err(_))) {
            *listed = None;
            let listing = self.clone();
            tokio::task::spawn_blocking(move || listing.list());
        }
    }

    /// Takes note of what was moved.
    pub(super) fn note(&self, notice: &Notice) {
        if let Notice::Retired(_, facts, _, path) = notice
            && let Some(folder) = path.file_name()
        {
            let now = clock::wall_now();
            self.0.lately.lock().note(folder, facts.size_bytes, now);
        }
    }

    /// Forgets what is of no day any more.
    pub(super) fn forget(&self) {
        self.0.lately.lock().forget(clock::wall_now());
    }

    /// Answers with this and what the folders say now. Nothing waits for that but who asks.
    pub(super) fn answer(&self, mut snapshot: Snapshot, ask: Ask) {
        let (folder_totals, looking) = (self.clone(), Arc::clone(&self.0.looking));
        tokio::spawn(async move {
            let look = async {
                let turn = looking.lock_owned().await;
                let look = move || {
                    let _turn = turn;
                    folder_totals.look()
                };
                tokio::task::spawn_blocking(look).await.ok()
            };
            if let Some((filed, rooms)) = timeout(LOOKED_WITHIN, look).await.ok().flatten() {
                snapshot.filed = filed;
                renew(&mut snapshot.room, rooms);
            }
            // Who asked may have gone.
            let _ = ask.send(snapshot);
        });
    }

    /// Looks into the folders, and at what is free where they are. Blocks.
    fn look(&self) -> (FiledStatus, Vec<RoomStatus>) {
        let rooms = filesystem::rooms(&self.0.layout.named());
        let rooms = rooms.into_iter().map(|(_, room)| room).collect();
        (self.filed(), rooms)
    }

    /// Blocks.
    pub(super) fn filed(&self) -> FiledStatus {
        let (layout, now) = (&self.0.layout, clock::wall_now());
        let mut status = FiledStatus::default();
        let mut failed = |why: String| status.failed.push(printable(&why));
        status.quarantined = scan::count_episodes(&layout.quarantine)
            .map_err(&mut failed)
            .ok();
        match self.0.listed.lock().clone() {
            Some(Ok(())) => {
                let (count, bytes) = self.0.lately.lock().today(now);
                (status.shipped_today, status.shipped_today_bytes) = (Some(count), Some(bytes));
            }
            Some(Err(why)) => failed(why),
            None => {}
        }
        let may_be_used = |id: &str| self.0.lately.lock().may_have(id);
        let reused = reused_names::in_episodes(layout, now, may_be_used);
        status.reused_names = reused.iter().map(ToString::to_string).collect();
        status
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is known once a listing has ended.
    fn known(totals: &FolderTotals) -> FiledStatus {
        for _ in 0..2000 {
            if totals.0.listed.lock().is_some() {
                return totals.filed();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it is not listed")
    }

    #[tokio::test]
    async fn a_listing_that_failed_is_tried_again() {
        let (_root, layout) = crate::testing::sandbox();
        fs::remove_dir(&layout.shipped).unwrap();
        let totals = FolderTotals::begin(Arc::new(layout.clone()), false);
        let failed = known(&totals);
        assert_eq!((failed.shipped_today, failed.failed.len()), (None, 1));
        fs::create_dir(&layout.shipped).unwrap();
        totals.list_again();
        let again = known(&totals);
        assert_eq!((again.shipped_today, again.failed.len()), (Some(0), 0));
    }
}
