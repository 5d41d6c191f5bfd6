//! What a request is answered from: the receiver behind it, and its head.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use http::request::Parts;
use tokio::sync::mpsc;

use super::{
    access::{Access, AccessRules},
    active_uploads::Underway,
    admit::Terms,
    body::{BodyError, BodyIdle},
    client_stream::Waits,
    identity::{Caller, NameError},
    known_hosts::KnownHosts,
    room::StoreRoom,
    store::{Store, StoreError},
    stored_episode::{Key, StoredEpisode},
    tally::ReceiveCounts,
    turns::{RereadTurn, Turns},
    verifications::{self, Verifications},
};
use crate::{
    config::ReceiveLimits,
    model::{
        episode::{EpisodeId, HostName},
        records::WallTime,
        wire::{Problem, ProblemType},
    },
};

/// What every request is answered from.
#[derive(Debug)]
pub(super) struct RequestContext<S> {
    /// What is held.
    pub(super) store: S,
    /// Who may come in.
    pub(super) access: Arc<Access>,
    /// Under what names hosts have come.
    pub(super) hosts: KnownHosts,
    /// Who may read every host's episodes.
    pub(super) readers: BTreeSet<HostName>,
    /// What a host out of the window is told to do.
    pub(super) remediation: String,
    /// How much is taken.
    pub(super) limits: ReceiveLimits,
    /// Whether there is room for it.
    pub(super) room: StoreRoom,
    /// Whose bytes are coming in just now.
    pub(super) underway: Underway,
    /// When it was made, UTC.
    pub(super) started_at: WallTime,
    /// What is counted.
    pub(super) tally: Arc<ReceiveCounts>,
    /// Whose archive is read again.
    pub(super) turns: Turns,
    /// Whose content is being proven.
    pub(super) verifications: Arc<Verifications>,
    /// Goes with the last of those who answer from this, or keep what broke off: a receiver that
    /// ends waits for that.
    pub(super) _in_use: mpsc::Sender<()>,
}

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where it comes from.
    pub(super) address: SocketAddr,
    /// Whose certificate it showed; `None`: none.
    pub(super) certificate: Option<Result<HostName, NameError>>,
    /// It came when all connections were taken: it may ask `/healthz`.
    pub(super) is_spare: bool,
    /// Whether it is still there.
    pub(super) waits: Waits,
}

/// A request's head, and what it is answered from.
pub(super) struct Exchange<'a, S> {
    pub(super) receiver: &'a Arc<RequestContext<S>>,
    pub(super) peer: &'a Peer,
    pub(super) access: &'a AccessRules,
    pub(super) head: &'a Parts,
}

impl<S: Store> Exchange<'_, S> {
    /// Under what this caller's episode is filed.
    pub(super) fn key(&self, caller: &Caller, id: &EpisodeId) -> Result<Key, RequestRefusal> {
        self.receiver
            .store
            .namespace()
            .key(caller.name(), id)
            .ok_or_else(|| {
                let detail = "This receiver files by host, and does not know yours.";
                Problem::new(ProblemType::Unauthenticated, detail).into()
            })
    }

    /// Has a whole archive read again, when it is this caller's turn and for as long as the answer
    /// is waited for: that may take minutes, and takes the disk from others.
    pub(super) async fn in_turn<T>(
        &self,
        caller: &Caller,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, RequestRefusal> {
        let _waits = self.receiver.verifications.waits(None);
        let work = async {
            let _turn = self.turn_of(caller).await;
            work.await
        };
        self.while_waited_for(work).await
    }

    /// Has an archive's content proven, when it is this caller's turn, and waits for that for as
    /// long as the answer is waited for.
    pub(super) async fn verified(
        &self,
        caller: &Caller,
        key: &Key,
    ) -> Result<Option<StoredEpisode>, RequestRefusal> {
        let (receiver, wanted) = (Arc::clone(self.receiver), key.clone());
        let turn = self.turn_of(caller);
        let work = async move {
            let _turn = turn.await;
            receiver.store.verify(&wanted).await.map(drop)
        };
        let RequestContext {
            store,
            verifications,
            ..
        } = &**self.receiver;
        let stopping = self.peer.waits.stopping.clone();
        let proven = async {
            verifications::verify(verifications, key, work, stopping).await;
            match store.find(key).await? {
                Some(held) if !held.content.is_settled() => Err(StoreError::Unfinished),
                held => Ok(held),
            }
        };
        self.while_waited_for(proven).await
    }

    fn turn_of(&self, caller: &Caller) -> impl Future<Output = RereadTurn> + Send + use<S> {
        let name = caller.name().cloned();
        let caller = name.ok_or_else(|| self.peer.address.ip());
        self.receiver.turns.take(caller)
    }

    async fn while_waited_for<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, RequestRefusal> {
        tokio::select! {
            done = work => Ok(done?),
            () = self.peer.waits.no_more() => Err(StoreError::Unfinished.into()),
        }
    }

    pub(super) fn terms(&self) -> Terms<'_> {
        Terms {
            window: self.access.window.as_deref(),
            remediation: &self.receiver.remediation,
            max_episode_bytes: self.receiver.limits.max_episode_bytes,
        }
    }
}

/// Why a request is not answered with what it asked for.
pub(super) enum RequestRefusal {
    Problem(Problem),
    Store(StoreError),
    Idle(BodyIdle),
}

impl From<Problem> for RequestRefusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for RequestRefusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<BodyError> for RequestRefusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Truncated(problem) | BodyError::TooSlow(problem) => Self::Problem(problem),
            BodyError::Idle(idle) => Self::Idle(idle),
        }
    }
}
