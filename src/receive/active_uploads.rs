//! Uploads whose bytes are coming in just now, so that a client that asks where to go on does not
//! cut off what is still in the socket.
//!
//! A shipper that lost its connection asks within milliseconds, when the end of the old one, and
//! the bytes before it, may still wait to be read. Fenced off at once, they would be sent again. An
//! old connection that is half open brings nothing more: that shows in a moment of silence.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::store::PartKey;

/// Nothing came for so long: the rest will not come on this connection.
const SILENCE: Duration = Duration::from_millis(200);
/// And what still comes after so long is cut off all the same.
const PATIENCE: Duration = Duration::from_secs(5);

type Flows = Arc<Mutex<HashMap<PartKey, watch::Receiver<u64>>>>;

/// The uploads that are under way in this process.
#[derive(Debug, Default)]
pub(super) struct Underway(Flows);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Flow {
    flows: Flows,
    part: PartKey,
    came: watch::Sender<u64>,
}

impl Underway {
    /// An upload begins, or goes on.
    pub(super) fn begin(&self, part: &PartKey) -> Flow {
        let (came, flowing) = watch::channel(0);
        self.0.lock().insert(part.clone(), flowing);
        Flow {
            flows: Arc::clone(&self.0),
            part: part.clone(),
            came,
        }
    }

    /// Waits until an upload has ended, or has fallen silent.
    pub(super) async fn ebb(&self, part: &PartKey) {
        let Some(mut flowing) = self.0.lock().get(part).cloned() else {
            return;
        };
        let patience = Instant::now() + PATIENCE;
        flowing.mark_unchanged();
        while let Ok(Ok(())) =
            timeout_at(patience.min(Instant::now() + SILENCE), flowing.changed()).await
        {}
    }
}

impl Flow {
    /// So much came.
    pub(super) fn came(&self, bytes: u64) {
        self.came.send_modify(|sum| *sum += bytes);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let mut flows = self.flows.lock();
        // A newcomer may have taken the place.
        if flows
            .get(&self.part)
            .is_some_and(|flowing| flowing.same_channel(&self.came.subscribe()))
        {
            flows.remove(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::episode::{Digest, EpisodeId},
        receive::stored_episode::Key,
    };

    fn part() -> PartKey {
        let key = Key {
            host: None,
            id: EpisodeId::parse("a").unwrap(),
        };
        PartKey {
            key,
            owner: None,
            sha256: Digest::of(b"a"),
            is_planned: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_waited_for_and_silence_is_not() {
        let underway = Arc::new(Underway::default());
        let waited = async |underway: &Underway| {
            let began = Instant::now();
            underway.ebb(&part()).await;
            began.elapsed()
        };
        assert_eq!(waited(&underway).await, Duration::ZERO, "none is there");
        let flow = underway.begin(&part());
        assert_eq!(waited(&underway).await, SILENCE, "half open");
        let flowing = tokio::spawn(async move {
            let mut often = tokio::time::interval(Duration::from_millis(100));
            for _ in 0..10 {
                often.tick().await;
                flow.came(1);
            }
        });
        let long = waited(&underway).await;
        assert!((800..=1000).contains(&long.as_millis()), "{long:?}");
        flowing.await.unwrap();
        assert!(underway.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_ends_is_not_waited_for_for_ever() {
        let underway = Underway::default();
        let flow = underway.begin(&part());
        let endless = async {
            let mut often = tokio::time::interval(Duration::from_millis(50));
            loop {
                often.tick().await;
                flow.came(1);
            }
        };
        let (began, part) = (Instant::now(), part());
        tokio::select! {
            () = endless => {}
            () = underway.ebb(&part) => {}
        }
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[test]
    fn a_newcomer_takes_the_place_and_keeps_it() {
        let underway = Underway::default();
        let old = underway.begin(&part());
        let new = underway.begin(&part());
        drop(old);
        assert_eq!(underway.0.lock().len(), 1);
        drop(new);
        assert_eq!(underway.0.lock().len(), 0);
    }
}
