//! Whose turn it is to have a whole archive read again: one of each caller's at a time, so that
//! none has all the places of the store for itself.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connections::network_of;
use crate::model::episode::HostName;

/// By the authenticated name, or by the network where there is none.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<Result<HostName, IpAddr>, Arc<Semaphore>>>);

/// Until it is dropped; `None` where turns are no more.
pub(super) type RereadTurn = Option<OwnedSemaphorePermit>;

impl Turns {
    /// This caller's turn, once it comes; by its name, or its address. Hosts without names that
    /// come from one network have one turn between them.
    pub(super) fn take(
        &self,
        caller: Result<HostName, IpAddr>,
    ) -> impl Future<Output = RereadTurn> + Send + use<> {
        let caller = caller.map_err(network_of);
        let turn = {
            let mut turns = self.0.lock();
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            let turn = turns.entry(caller);
            Arc::clone(turn.or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        async move { turn.acquire_owned().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_one_turn_at_a_time_and_waits_for_no_other_caller() {
        let turns = Turns::default();
        let name = |name: &str| Ok(HostName::parse(name).unwrap());
        let address = Err(IpAddr::from([192, 0, 2, 1]));
        let first = turns.take(name("a")).await;
        let (_b, _address) = (turns.take(name("b")).await, turns.take(address).await);
        let second = turns.take(name("a"));
        let mut second = std::pin::pin!(second);
        assert!(timeout(Duration::from_secs(1), &mut second).await.is_err());
        drop(first);
        drop(second.await);
        let network = turns.take(Err("2001:db8::1".parse().unwrap())).await;
        let neighbour = turns.take(Err("2001:db8::2".parse().unwrap()));
        assert!(timeout(Duration::from_secs(1), neighbour).await.is_err());
        drop(network);
        let _c = turns.take(name("c")).await;
        assert_eq!(turns.0.lock().len(), 3, "who has had its turn is forgotten");
    }
}
