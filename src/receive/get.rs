//! What is held, on its way out: HEAD and GET of an episode.

use http::StatusCode;

use super::{
    identity::{self, Caller},
    precondition::{self, Precondition},
    range::{self, RangeChoice},
    reply::Reply,
    request_context::{Exchange, RequestRefusal},
    store::Store,
    stored_episode::{Key, Namespace, StoredEpisode},
};
use crate::{
    clock,
    model::{
        episode::{EpisodeId, HostName},
        structured_field,
        wire::{Problem, ProblemType, REREAD},
    },
};

impl<S: Store> Exchange<'_, S> {
    /// HEAD: what is held. With `Sealift-Reread: ?1`, by its bytes as they are now.
    pub(super) async fn describe(
        &self,
        caller: &Caller,
        id: &EpisodeId,
    ) -> Result<Reply, RequestRefusal> {
        let (key, held) = self.readable(caller, id).await?;
        if structured_field::boolean(&self.head.headers, REREAD) != Ok(Some(true)) {
            let otherwise = self.condition(&held)?;
            return Ok(otherwise.unwrap_or_else(|| Reply::described(&held)));
        }
        let reread = self.receiver.store.reread(&key);
        let reread = self.in_turn(caller, reread).await?.ok_or_else(gone)?;
        let otherwise = self.condition(&reread)?;
        let reply = otherwise.unwrap_or_else(|| Reply::described(&reread));
        Ok(reply.with_text(REREAD, "?1"))
    }

    /// GET: the archive, or the range of it that is asked for.
    pub(super) async fn send(
        &self,
        caller: &Caller,
        id: &EpisodeId,
    ) -> Result<Reply, RequestRefusal> {
        let (key, held) = self.readable(caller, id).await?;
        if let Some(otherwise) = self.condition(&held)? {
            return Ok(otherwise);
        }
        let size_bytes = held.size_bytes;
        let (status, range) = match range::wanted(&self.head.headers, size_bytes, &held.sha256) {
            RangeChoice::Whole => (StatusCode::OK, 0..size_bytes),
            RangeChoice::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            RangeChoice::NotThere => {
                let detail = format!("The archive has {size_bytes} bytes.");
                let problem = Problem::new(ProblemType::RangeNotSatisfiable, detail);
                let there = format!("bytes */{size_bytes}");
                return Ok(Reply::problem(&problem).with_text("content-range", &there));
            }
        };
        let (found, reading) = self
            .receiver
            .store
            .read(&key, range.clone())
            .await?
            .ok_or_else(gone)?;
        if found.sha256 != held.sha256 || found.size_bytes != size_bytes {
            // Taken away and another put in its place between the two looks: the client asks again.
            return Err(Problem::new(
                ProblemType::StoreFailed,
                "The archive was replaced meanwhile.",
            )
            .into());
        }
        let reply = Reply::archive(status, &found, reading, range.end - range.start);
        if status != StatusCode::PARTIAL_CONTENT {
            return Ok(reply);
        }
        let part = format!("bytes {}-{}/{size_bytes}", range.start, range.end - 1);
        Ok(reply.with_text("content-range", &part))
    }

    /// What is answered instead, where the request's preconditions say so.
    fn condition(&self, held: &StoredEpisode) -> Result<Option<Reply>, RequestRefusal> {
        let modified = precondition::last_modified(held.stored_at, clock::wall_now());
        match precondition::of_read(&self.head.headers, &held.sha256, modified) {
            Precondition::Holds => Ok(None),
            Precondition::NotModified => Ok(Some(Reply::not_modified(held))),
            Precondition::Fails => Err(precondition_failed()),
        }
    }

    /// What is held under an id, where the caller may read it.
    async fn readable(
        &self,
        caller: &Caller,
        id: &EpisodeId,
    ) -> Result<(Key, StoredEpisode), RequestRefusal> {
        let key = self.key_to_read(caller, id)?;
        let held = self.receiver.store.find(&key).await?.ok_or_else(gone)?;
        let owner = held.owner.as_ref();
        if !identity::may_read(caller, owner, &self.receiver.readers) {
            return Err(forbidden());
        }
        Ok((key, held))
    }

    /// Where a store files by host, a reader names the host whose episode it wants: `?host=NAME`.
    fn key_to_read(&self, caller: &Caller, id: &EpisodeId) -> Result<Key, RequestRefusal> {
        let asked = self.head.uri.query().and_then(host_of);
        match asked {
            Some(_) if self.receiver.store.namespace() == Namespace::None => self.key(caller, id),
            Some(host) => {
                let host = host?;
                let own = caller.name() == Some(&host);
                let reader = caller
                    .name()
                    .is_some_and(|name| self.receiver.readers.contains(name));
                if own || reader {
                    Ok(Key {
                        host: Some(host),
                        id: id.clone(),
                    })
                } else {
                    Err(forbidden())
                }
            }
            None => self.key(caller, id),
        }
    }
}

/// The `host` of a query such as `host=lab-07`; `None` where it has none.
fn host_of(query: &str) -> Option<Result<HostName, Problem>> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("host="))?;
    let name = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
    Some(HostName::parse(&name).map_err(|error| {
        Problem::new(
            ProblemType::IdInvalid,
            format!("The host in the query is no name: {error}."),
        )
    }))
}

fn gone() -> RequestRefusal {
    Problem::new(ProblemType::NotFound, "No such episode is held.").into()
}

pub(super) fn precondition_failed() -> RequestRefusal {
    let detail = "What is here is not as the request's preconditions have it.";
    Problem::new(ProblemType::PreconditionFailed, detail).into()
}

fn forbidden() -> RequestRefusal {
    Problem::new(
        ProblemType::Forbidden,
        "A host reads its own episodes; readers read every host's.",
    )
    .into()
}

/// What an episode's address takes.
pub(super) const EPISODE_METHODS: &str = "GET, HEAD, POST, PUT";
