//! Archives whose content is read to be proven, before an upload of the same content is
//! acknowledged.
//!
//! ```text
//!  an upload asks ──▶ under way for this archive? ──no──▶ begun, in its host's turn
//!                              │ yes                        │
//!                              └────────── waits ◀──────────┘ ends: proven, or told to stop
//! ```
//!
//! A client, or a proxy before it, may wait for a shorter time than the reading takes, and comes
//! again: so it goes on where no client waits for it any more, and the next try finds it proven.
//! But not where a client waits for another archive, since places are few.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{store::StoreError, stored_episode::Key};

/// What is under way, and who waits.
#[derive(Debug, Default)]
pub(super) struct Verifications {
    /// Until its other end is dropped.
    running: Mutex<BTreeMap<Key, watch::Receiver<()>>>,
    waiting: watch::Sender<WaitingClients>,
}

/// Clients that wait for an archive to be read.
#[derive(Debug, Default)]
struct WaitingClients {
    all: usize,
    for_key: BTreeMap<Key, usize>,
}

/// A client that waits, until it is dropped.
pub(super) struct WaitingClient<'a> {
    verifications: &'a Verifications,
    key: Option<Key>,
}

impl Verifications {
    /// A client waits, for this archive to be proven or for other reading.
    pub(super) fn waits(&self, key: Option<&Key>) -> WaitingClient<'_> {
        let key = key.cloned();
        self.waiting.send_modify(|waiting| {
            waiting.all += 1;
            if let Some(key) = &key {
                *waiting.for_key.entry(key.clone()).or_default() += 1;
            }
        });
        let verifications = self;
        WaitingClient { verifications, key }
    }

    /// Ends when clients wait, and none of them for this.
    async fn are_others_waiting(&self, key: &Key) {
        let mut waiting = self.waiting.subscribe();
        let only_others = |now: &WaitingClients| now.all > 0 && !now.for_key.contains_key(key);
        // Its other end is here.
        let _ = waiting.wait_for(only_others).await;
    }
}

impl Drop for WaitingClient<'_> {
    fn drop(&mut self) {
        self.verifications.waiting.send_modify(|waiting| {
            waiting.all -= 1;
            let Some(key) = &self.key else { return };
            if let Some(count) = waiting.for_key.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    waiting.for_key.remove(key);
                }
            }
        });
    }
}

/// Ends when an archive was read to its end by such work, or that has come to nothing.
pub(super) async fn verify(
    verifications: &Arc<Verifications>,
    key: &Key,
    work: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    stopping: watch::Receiver<()>,
) {
    let _waits = verifications.waits(Some(key));
    let mut ended = {
        let mut running = verifications.running.lock();
        running.retain(|_, ended| ended.has_changed().is_ok());
        let ended = running.entry(key.clone()).or_insert_with(|| {
            let (ends, ended) = watch::channel(());
            let (verifications, key) = (Arc::clone(verifications), key.clone());
            tokio::spawn(async move {
                let _ends = ends;
                run(&verifications, &key, work, stopping).await;
            });
            ended
        });
        ended.clone()
    };
    // Nothing is ever sent.
    let _ = ended.changed().await;
}

async fn run(
    verifications: &Verifications,
    key: &Key,
    work: impl Future<Output = Result<(), StoreError>>,
    mut stopping: watch::Receiver<()>,
) {
    tokio::select! {
        done = work => if let Err(error) = done {
            tracing::warn!(episode = %key.id, %error, "the archive of {} was not read to its end: {error}", key.id);
        },
        _ = stopping.changed() => {}
        () = verifications.are_others_waiting(key) => {}
    }
}
