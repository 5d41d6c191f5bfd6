//! The store's promises as tests. [`promises!`] makes them a store's own.

use std::path::Path;

use super::{Publication, Store, Upload as _};
use crate::{
    episode::{Digest, EpisodeId},
    receive::held::{Content, Held, Offer},
};

/// Writes a test for each promise, given a function that opens the store at a path; the same path is the same store, as
/// another process would see it.
macro_rules! promises {
    ($open:expr; $($promise:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $promise() {
            let place = tempfile::tempdir().unwrap();
            $crate::receive::store::contract::$promise($open, place.path()).await;
        })+
    };
}
pub(super) use promises;

pub(super) fn id(name: &str) -> EpisodeId {
    EpisodeId::parse(name).unwrap()
}

pub(super) fn offer(archive: &[u8]) -> Offer {
    Offer { sha256: Digest::of(archive), content_sha256: None, size_bytes: archive.len() as u64 }
}

fn with_content(offer: Offer, content: &[u8]) -> Offer {
    Offer { content_sha256: Some(Digest::of(content)), ..offer }
}

pub(super) async fn put<S: Store>(store: &S, id: &EpisodeId, archive: &[u8], offer: &Offer) -> Publication {
    let mut upload = store.begin();
    for chunk in archive.chunks(7_001) {
        upload.write(chunk).await.unwrap();
    }
    upload.publish(id, offer).await.unwrap()
}

pub(super) async fn stored<S: Store>(store: &S, id: &EpisodeId, archive: &[u8]) -> Held {
    match put(store, id, archive, &offer(archive)).await {
        Publication::Stored(held) => held,
        other => panic!("{id} was not stored: {other:?}"),
    }
}

pub(super) async fn what_was_stored_is_found_by_every_receiver<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    for (name, size) in [("empty", 0), ("small", 1), ("one-batch", 65_536), ("many", 1_000_003)] {
        let archive: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        assert_eq!(store.find(&id(name)).await.unwrap(), None);
        let held = stored(&store, &id(name), &archive).await;
        assert_eq!((held.sha256, held.size_bytes), (Digest::of(&archive), u64::from(size)));
        assert_eq!(store.find(&id(name)).await.unwrap().as_ref(), Some(&held));
        assert_eq!(open(place).find(&id(name)).await.unwrap(), Some(held));
    }
}

pub(super) async fn ids_that_look_alike_stay_apart<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let names = ["a", "A", "a b", "a%20b", "a+b", "é", "e\u{301}", "a.tar.zst", "a~1"];
    for name in names {
        stored(&store, &id(name), name.as_bytes()).await;
    }
    for name in names {
        let held = store.find(&id(name)).await.unwrap().unwrap();
        assert_eq!((held.episode_id, held.sha256), (id(name), Digest::of(name.as_bytes())));
    }
}

pub(super) async fn nothing_is_overwritten<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let first = stored(&store, &id("a"), b"first").await;
    for later in [b"other", b"first"] {
        assert_eq!(put(&store, &id("a"), later, &offer(later)).await, Publication::NameTaken);
        assert_eq!(store.find(&id("a")).await.unwrap().as_ref(), Some(&first));
    }
}

pub(super) async fn of_many_uploads_at_once_one_is_stored<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let mut uploads = tokio::task::JoinSet::new();
    for n in 0..24_u8 {
        let store = open(place);
        uploads.spawn(async move {
            let archive = vec![n; 100_000];
            put(&store, &id("a"), &archive, &offer(&archive)).await
        });
    }
    let ended = uploads.join_all().await;
    let winners: Vec<&Held> = ended
        .iter()
        .filter_map(|publication| match publication {
            Publication::Stored(held) => Some(held),
            Publication::NameTaken | Publication::DigestMismatch { .. } => None,
        })
        .collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(open(place).find(&id("a")).await.unwrap().as_ref(), Some(winners[0]));
}

pub(super) async fn bytes_that_were_not_offered_are_not_published<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let received = Digest::of(b"what came");
    let publication = put(&store, &id("a"), b"what came", &offer(b"what was meant")).await;
    assert_eq!(publication, Publication::DigestMismatch { received });
    assert_eq!(store.find(&id("a")).await.unwrap(), None);
}

pub(super) async fn content_is_believed_only_after_looking<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let archive = zstd::encode_all(&b"a tar stream"[..], 3).unwrap();
    let cut = &archive[..archive.len() - 2];
    let (truth, lie) = (Digest::of(b"a tar stream"), Digest::of(b"a lie"));
    for (name, archive, claim, before, after) in [
        ("true", &*archive, Some("a tar stream"), Content::Claimed(truth), Content::Verified(truth)),
        ("lie", &archive, Some("a lie"), Content::Claimed(lie), Content::Verified(truth)),
        ("silent", &archive, None, Content::Unknown, Content::Verified(truth)),
        ("cut", cut, Some("a tar stream"), Content::Claimed(truth), Content::Unreadable),
        ("no-zstd", b"plain", None, Content::Unknown, Content::Unreadable),
    ] {
        let silent = offer(archive);
        let offer = claim.map_or(silent, |claim| with_content(silent, claim.as_bytes()));
        put(&store, &id(name), archive, &offer).await;
        let content = |held: Option<Held>| held.unwrap().content;
        assert_eq!(content(store.find(&id(name)).await.unwrap()), before, "{name}");
        assert_eq!(content(store.verify(&id(name)).await.unwrap()), after, "{name}");
        assert_eq!(content(open(place).find(&id(name)).await.unwrap()), after, "{name}");
    }
    assert_eq!(store.verify(&id("nothing")).await.unwrap(), None);
}

pub(super) async fn a_dropped_upload_cannot_be_found<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let mut upload = store.begin();
    upload.write(&[7; 200_000]).await.unwrap();
    drop(upload);
    assert_eq!(store.find(&id("a")).await.unwrap(), None);
    store.probe().await.unwrap();
}
