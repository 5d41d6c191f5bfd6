//! The store's promises as tests. [`promises!`] makes them a store's own.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{ArchiveRange, PartKey, Publication, Store, StoreError, Upload as _};
use crate::{
    model::episode::{Digest, EpisodeId, HostName},
    receive::stored_episode::{Content, Key, Namespace, Offer, StoredEpisode},
};

mod parts;
mod questions;

pub(super) use self::parts::*;
pub(super) use self::questions::*;

/// What is read of a range, a chunk at a time.
pub(super) trait NextChunk: ArchiveRange {
    /// The next bytes; `None` behind the last.
    async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        poll_fn(|context| self.poll_chunk(context)).await
    }
}

impl<R: ArchiveRange> NextChunk for R {}

/// Writes a test for each promise, given a function that opens the store at a path; the same path
/// is the same store, as another process would see it.
macro_rules! promises {
    ($open:expr) => {
        $crate::receive::store::contract::promises! { $open;
            what_was_stored_is_found_by_every_receiver,
            ids_that_look_alike_stay_apart,
            two_hosts_with_the_same_id_stay_apart,
            a_key_that_does_not_fit_the_store_is_refused,
            nothing_is_overwritten,
            of_many_uploads_at_once_one_is_stored,
            of_many_that_send_the_same_one_is_stored_and_none_is_fenced_off,
            bytes_that_were_not_offered_are_not_published,
            content_is_believed_only_after_looking,
            a_dropped_upload_cannot_be_found,
            what_was_begun_runs_to_its_end_when_nobody_waits,

            whose_it_is_is_known_to_every_receiver,
            what_has_no_owner_can_be_claimed_once,
            what_is_read_is_what_was_asked_for,
            what_is_read_again_is_what_was_stored,
            bytes_count_for_whoever_sent_them,
            there_is_room_and_it_is_told,

            what_broke_off_goes_on_where_it_was,
            what_is_kept_before_the_first_byte_goes_on_too,
            an_upload_goes_on_nowhere_but_where_it_stands,
            bytes_of_another_archive_are_never_resumed,
            a_resumed_upload_is_checked_over_all_of_it,
            a_half_open_predecessor_is_fenced_off,
            a_predecessor_that_is_fenced_off_does_no_harm,
            what_a_dropped_write_has_taken_is_kept_and_no_more,
            what_another_receiver_writes_is_left_to_it,
            what_is_begun_anew_takes_the_place_of_what_was_kept,
            a_published_upload_leaves_no_part,
            an_upload_whose_archive_is_held_by_now_leaves_no_part,
            what_is_dropped_is_as_it_was_before,
            a_part_can_be_thrown_away,
            abandoned_parts_expire,
            a_sweep_touches_nothing_that_is_alive,
        }
    };
    ($open:expr; $($promise:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $promise() {
            let place = tempfile::tempdir().unwrap();
            $crate::receive::store::contract::$promise($open, place.path()).await;
        })+
    };
}
pub(super) use promises;

/// Nothing was last written to before this, and everything before that.
pub(super) const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;
pub(super) fn far_ahead() -> SystemTime {
    LONG_AGO + Duration::from_secs(200 * 365 * 86_400)
}

pub(super) fn id(name: &str) -> EpisodeId {
    EpisodeId::parse(name).unwrap()
}

pub(super) fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

/// The key of an episode of `lab-1`, whichever way the store files.
pub(super) fn key<S: Store>(store: &S, name: &str) -> Key {
    store
        .namespace()
        .key(Some(&host("lab-1")), &id(name))
        .unwrap()
}

pub(super) fn offer(archive: &[u8]) -> Offer {
    Offer {
        sha256: Digest::of(archive),
        content_sha256: None,
        size_bytes: archive.len() as u64,
    }
}

/// An upload of no known sender, where that can be.
pub(super) fn part_key(key: &Key, offer: &Offer) -> PartKey {
    PartKey::new(key.clone(), key.host.clone(), offer)
}

fn with_content(offer: Offer, content: &[u8]) -> Offer {
    Offer {
        content_sha256: Some(Digest::of(content)),
        ..offer
    }
}

/// Bytes that do not repeat from one batch to the next.
pub(super) fn noise(size: usize) -> Vec<u8> {
    (0..size as u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

pub(super) async fn write<U: super::Upload>(upload: &mut U, bytes: &[u8]) {
    for chunk in bytes.chunks(7_001) {
        upload.write(chunk).await.unwrap();
    }
}

pub(super) async fn put<S: Store>(
    store: &S,
    key: &Key,
    archive: &[u8],
    offer: &Offer,
) -> Publication {
    let mut upload = store.begin(&part_key(key, offer), offer);
    write(&mut upload, archive).await;
    upload.publish().await.unwrap()
}

pub(super) async fn stored<S: Store>(store: &S, key: &Key, archive: &[u8]) -> StoredEpisode {
    held(put(store, key, archive, &offer(archive)).await)
}

#[track_caller]
pub(super) fn held(publication: Publication) -> StoredEpisode {
    match publication {
        Publication::Stored(held) => held,
        other => panic!("not stored: {other:?}"),
    }
}

/// Waits until something is so.
pub(super) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    let waiting = async {
        while !is_so().await {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

pub(super) async fn what_was_stored_is_found_by_every_receiver<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    for (name, size) in [
        ("empty", 0),
        ("small", 1),
        ("one-batch", 32_768),
        ("many", 1_000_003),
    ] {
        let (key, archive) = (key(&store, name), noise(size));
        assert_eq!(store.find(&key).await.unwrap(), None);
        let held = stored(&store, &key, &archive).await;
        assert_eq!(
            (held.sha256, held.size_bytes),
            (Digest::of(&archive), size as u64)
        );
        assert_eq!(store.find(&key).await.unwrap().as_ref(), Some(&held));
        assert_eq!(open(place).find(&key).await.unwrap(), Some(held));
    }
}

pub(super) async fn ids_that_look_alike_stay_apart<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let names = [
        "a",
        "A",
        "a b",
        "a%20b",
        "a+b",
        "é",
        "e\u{301}",
        "a.tar.zst",
        "a~1",
    ];
    for name in names {
        stored(&store, &key(&store, name), name.as_bytes()).await;
    }
    for name in names {
        let held = store.find(&key(&store, name)).await.unwrap().unwrap();
        assert_eq!(
            (held.episode_id, held.sha256),
            (id(name), Digest::of(name.as_bytes()))
        );
    }
}

pub(super) async fn two_hosts_with_the_same_id_stay_apart<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let hosts = ["lab-1", "LAB-1", "lab 1", "lab%201", "a.tar.zst", "a"].map(host);
    let key_of = |owner: &HostName| store.namespace().key(Some(owner), &id("a")).unwrap();
    for owner in &hosts {
        let (key, archive) = (key_of(owner), owner.as_str().as_bytes());
        let upload = {
            let part = PartKey::new(key, Some(owner.clone()), &offer(archive));
            let mut upload = store.begin(&part, &offer(archive));
            upload.write(archive).await.unwrap();
            upload
        };
        let publication = upload.publish().await.unwrap();
        // Where the host is not in the key, they mean the same episode.
        let shares = store.namespace() == Namespace::None && *owner != hosts[0];
        assert_eq!(publication == Publication::NameTaken, shares, "{owner}");
    }
    for owner in &hosts {
        let held = store.find(&key_of(owner)).await.unwrap().unwrap();
        let by = match store.namespace() {
            Namespace::None => &hosts[0],
            Namespace::Host => owner,
        };
        assert_eq!(
            (held.sha256, held.owner.as_ref()),
            (Digest::of(by.as_str().as_bytes()), Some(by))
        );
        assert_eq!(held.receipt().host.as_deref(), Some(by.as_str()));
    }
}

pub(super) async fn a_key_that_does_not_fit_the_store_is_refused<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let misfit = Key {
        host: match store.namespace() {
            Namespace::None => Some(host("lab-1")),
            Namespace::Host => None,
        },
        id: id("a"),
    };
    let mut upload = store.begin(&part_key(&misfit, &offer(b"a")), &offer(b"a"));
    upload.write(b"a").await.unwrap();
    assert!(matches!(upload.publish().await, Err(StoreError::Failed(_))));
    assert!(matches!(
        store.find(&misfit).await,
        Err(StoreError::Failed(_))
    ));
    assert_eq!(store.usage(|_| false).await.unwrap().episodes, 0);
}

pub(super) async fn nothing_is_overwritten<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let key = key(&store, "a");
    let first = stored(&store, &key, b"first").await;
    for later in [b"other", b"first"] {
        assert_eq!(
            put(&store, &key, later, &offer(later)).await,
            Publication::NameTaken
        );
        assert_eq!(store.find(&key).await.unwrap().as_ref(), Some(&first));
    }
}

/// Puts each archive under one id at once, each through a receiver of its own choice; returns what
/// became of them.
async fn put_at_once<S: Store>(
    receivers: impl Iterator<Item = S>,
    archive: fn(u8) -> Vec<u8>,
) -> Vec<Publication> {
    let mut uploads = tokio::task::JoinSet::new();
    for (n, store) in receivers.enumerate() {
        uploads.spawn(async move {
            let archive = archive(n as u8);
            put(&store, &key(&store, "a"), &archive, &offer(&archive)).await
        });
    }
    uploads.join_all().await
}

fn winners(ended: &[Publication]) -> Vec<&StoredEpisode> {
    let mut winners = Vec::new();
    for publication in ended {
        match publication {
            Publication::Stored(held) => winners.push(held),
            Publication::NameTaken => {}
            Publication::DigestMismatch { received } => panic!("{received} was not offered"),
        }
    }
    winners
}

pub(super) async fn of_many_uploads_at_once_one_is_stored<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let ended = put_at_once((0..24).map(|_| open(place)), |n| vec![n; 100_000]).await;
    let winners = winners(&ended);
    assert_eq!(winners.len(), 1);
    let store = open(place);
    assert_eq!(
        store.find(&key(&store, "a")).await.unwrap().as_ref(),
        Some(winners[0])
    );
}

pub(super) async fn of_many_that_send_the_same_one_is_stored_and_none_is_fenced_off<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = std::sync::Arc::new(open(place));
    let mut uploads = Vec::new();
    let (key, archive) = (key(&*store, "a"), noise(100_000));
    for _ in 0..24 {
        let mut upload = store.begin(&part_key(&key, &offer(&archive)), &offer(&archive));
        write(&mut upload, &archive[..70_000]).await;
        uploads.push(upload);
    }
    let mut ended = Vec::new();
    for mut upload in uploads {
        write(&mut upload, &archive[70_000..]).await;
        ended.push(upload.publish().await.unwrap());
    }
    assert_eq!(winners(&ended).len(), 1);
    assert!(store.usage(|_| false).await.unwrap().parts.is_empty());
}

pub(super) async fn bytes_that_were_not_offered_are_not_published<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (key, received) = (key(&store, "a"), Digest::of(b"what came"));
    let publication = put(&store, &key, b"what came", &offer(b"what was meant")).await;
    assert_eq!(publication, Publication::DigestMismatch { received });
    assert_eq!(store.find(&key).await.unwrap(), None);
}

pub(super) async fn content_is_believed_only_after_looking<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let archive = zstd::encode_all(&b"a tar stream"[..], 3).unwrap();
    let cut = &archive[..archive.len() - 2];
    let (truth, lie) = (Digest::of(b"a tar stream"), Digest::of(b"a lie"));
    for (name, archive, claim, before, after) in [
        (
            "true",
            &*archive,
            Some("a tar stream"),
            Content::Claimed(truth),
            Content::Verified(truth),
        ),
        (
            "lie",
            &archive,
            Some("a lie"),
            Content::Claimed(lie),
            Content::Verified(truth),
        ),
        (
            "silent",
            &archive,
            None,
            Content::Unknown,
            Content::Verified(truth),
        ),
        (
            "cut",
            cut,
            Some("a tar stream"),
            Content::Claimed(truth),
            Content::Unreadable,
        ),
        (
            "no-zstd",
            b"plain",
            None,
            Content::Unknown,
            Content::Unreadable,
        ),
    ] {
        let silent = offer(archive);
        let offer = claim.map_or(silent, |claim| with_content(silent, claim.as_bytes()));
        let key = key(&store, name);
        put(&store, &key, archive, &offer).await;
        let content = |held: Option<StoredEpisode>| held.unwrap().content;
        assert_eq!(content(store.find(&key).await.unwrap()), before, "{name}");
        assert_eq!(content(store.verify(&key).await.unwrap()), after, "{name}");
        assert_eq!(
            content(open(place).find(&key).await.unwrap()),
            after,
            "{name}"
        );
    }
    assert_eq!(store.verify(&key(&store, "nothing")).await.unwrap(), None);
}

pub(super) async fn a_dropped_upload_cannot_be_found<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let key = key(&store, "a");
    let mut upload = store.begin(&part_key(&key, &offer(b"a")), &offer(b"a"));
    upload.write(&[7; 200_000]).await.unwrap();
    drop(upload);
    assert_eq!(store.find(&key).await.unwrap(), None);
    store.probe().await.unwrap();
}

pub(super) async fn what_was_begun_runs_to_its_end_when_nobody_waits<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (published, kept, archive) = (
        key(&store, "published"),
        key(&store, "kept"),
        noise(100_000),
    );
    let offer = offer(&archive);
    let begin = async |key: &Key| {
        let mut upload = store.begin(&part_key(key, &offer), &offer);
        write(&mut upload, &archive).await;
        upload
    };
    let publishing = begin(&published).await;
    polled_once(publishing.publish()).await;
    let keeping = begin(&kept).await;
    polled_once(keeping.keep()).await;
    eventually("published", async || {
        store.find(&published).await.unwrap().is_some()
    })
    .await;
    let kept = part_key(&kept, &offer);
    eventually("kept", async || {
        store
            .part(&kept)
            .await
            .unwrap()
            .is_some_and(|part| part.offset == 100_000)
    })
    .await;
}

/// As a client that leaves.
pub(super) async fn polled_once(work: impl Future) {
    tokio::select! {
        biased;
        _ = work => {}
        () = std::future::ready(()) => {}
    }
}
