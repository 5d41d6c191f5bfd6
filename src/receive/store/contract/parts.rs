//! The promises about uploads that break off.

use super::{
    super::{Part, PartResumed},
    *,
};
use crate::testing::children_have_begun;

/// An upload that has come so far and whose connection is still open.
async fn begun<S: Store>(store: &S, part: &PartKey, offer: &Offer, bytes: &[u8]) -> S::Upload {
    let mut upload = store.begin(part, offer);
    write(&mut upload, bytes).await;
    upload
}

/// Resumes. Where it is busy, once more when the children that other tests are starting run their
/// programs: until its execve(2) each shares the lock of a file that was open.
async fn resume<S: Store>(
    store: &S,
    part: &PartKey,
    offer: &Offer,
    at: u64,
) -> PartResumed<S::Upload> {
    match store.resume(part, offer, at).await.unwrap() {
        PartResumed::Busy => {
            children_have_begun();
            store.resume(part, offer, at).await.unwrap()
        }
        resumed => resumed,
    }
}

async fn resumed<S: Store>(store: &S, part: &PartKey, offer: &Offer, at: u64) -> S::Upload {
    match resume(store, part, offer, at).await {
        PartResumed::Upload(upload) => upload,
        PartResumed::Elsewhere { offset } => panic!("it stands at {offset}"),
        PartResumed::Nothing => panic!("nothing is kept"),
        PartResumed::Busy => panic!("it is busy"),
    }
}

async fn discard<S: Store>(store: &S, part: &PartKey) {
    if !store.discard(part).await.unwrap() {
        children_have_begun();
        assert!(store.discard(part).await.unwrap());
    }
}

/// Where it is said to stand; `None` where nothing is kept.
async fn not_resumed<S: Store>(store: &S, part: &PartKey, offer: &Offer, at: u64) -> Option<u64> {
    match resume(store, part, offer, at).await {
        PartResumed::Upload(_) => panic!("it was resumed"),
        PartResumed::Elsewhere { offset } => Some(offset),
        PartResumed::Nothing => None,
        PartResumed::Busy => panic!("it is busy"),
    }
}

/// An archive of noise, and the upload of it as episode `a`.
fn upload_of<S: Store>(store: &S, size: usize) -> (Vec<u8>, Offer, PartKey) {
    let archive = noise(size);
    let offer = offer(&archive);
    (archive, offer, part_key(&key(store, "a"), &offer))
}

pub(in super::super) async fn what_broke_off_goes_on_where_it_was<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let (archive, offer, part) = upload_of(&open(place), 500_000);
    assert_eq!(open(place).part(&part).await.unwrap(), None);
    let mut at = 0;
    // Within a batch, at its edge, by no byte at all, by many batches.
    for to in [10, 32_768, 32_768, 32_770, 400_000, 499_999] {
        let store = open(place);
        let mut upload = match at {
            0 => store.begin(&part, &offer),
            at => resumed(&store, &part, &offer, at as u64).await,
        };
        write(&mut upload, &archive[at..to]).await;
        assert_eq!(upload.keep().await.unwrap(), to as u64);
        assert_eq!(
            open(place).part(&part).await.unwrap(),
            Some(Part {
                offer,
                offset: to as u64
            })
        );
        assert_eq!(store.find(&part.key).await.unwrap(), None);
        at = to;
    }
    let store = open(place);
    let mut upload = resumed(&store, &part, &offer, at as u64).await;
    write(&mut upload, &archive[at..]).await;
    let held = held(upload.publish().await.unwrap());
    assert_eq!(
        (held.sha256, held.size_bytes),
        (offer.sha256, offer.size_bytes)
    );
    assert_eq!(store.reread(&part.key).await.unwrap(), Some(held));
}

pub(in super::super) async fn what_is_kept_before_the_first_byte_goes_on_too<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100);
    assert_eq!(store.begin(&part, &offer).keep().await.unwrap(), 0);
    assert_eq!(
        store.part(&part).await.unwrap(),
        Some(Part { offer, offset: 0 })
    );
    let mut upload = resumed(&open(place), &part, &offer, 0).await;
    write(&mut upload, &archive).await;
    held(upload.publish().await.unwrap());
}

pub(in super::super) async fn an_upload_goes_on_nowhere_but_where_it_stands<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    assert_eq!(not_resumed(&store, &part, &offer, 0).await, None);
    begun(&store, &part, &offer, &archive[..70_000])
        .await
        .keep()
        .await
        .unwrap();
    for at in [0, 1, 69_999, 70_001, 100_000, u64::MAX] {
        assert_eq!(not_resumed(&store, &part, &offer, at).await, Some(70_000));
    }
    resumed(&store, &part, &offer, 70_000).await;
}

pub(in super::super) async fn bytes_of_another_archive_are_never_resumed<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    begun(&store, &part, &offer, &archive[..70_000])
        .await
        .keep()
        .await
        .unwrap();
    let other = Offer {
        sha256: Digest::of(b"other"),
        ..offer
    };
    for (of, offer) in [
        (
            PartKey {
                sha256: other.sha256,
                ..part.clone()
            },
            other,
        ),
        (
            PartKey {
                owner: Some(host("lab-2")),
                ..part.clone()
            },
            offer,
        ),
        (
            PartKey {
                key: key(&store, "b"),
                ..part.clone()
            },
            offer,
        ),
        // The same archive cannot be of another size, nor hold other content: one of the two claims
        // is a lie.
        (
            part.clone(),
            Offer {
                size_bytes: 100_001,
                ..offer
            },
        ),
        (part.clone(), with_content(offer, b"content")),
    ] {
        assert_eq!(
            not_resumed(&store, &of, &offer, 70_000).await,
            None,
            "{of} {offer:?}"
        );
    }
    resumed(&store, &part, &offer, 70_000).await;
}

pub(in super::super) async fn a_resumed_upload_is_checked_over_all_of_it<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    for wrong_at in [0, 69_999, 70_000, 99_999] {
        let mut sent = archive.clone();
        sent[wrong_at] ^= 1;
        begun(&store, &part, &offer, &sent[..70_000])
            .await
            .keep()
            .await
            .unwrap();
        let mut upload = resumed(&open(place), &part, &offer, 70_000).await;
        write(&mut upload, &sent[70_000..]).await;
        let received = Digest::of(&sent);
        assert_eq!(
            upload.publish().await.unwrap(),
            Publication::DigestMismatch { received }
        );
        // Which of the bytes were wrong is not known, so none are kept.
        assert_eq!(store.part(&part).await.unwrap(), None);
        assert_eq!(store.find(&part.key).await.unwrap(), None);
    }
}

pub(in super::super) async fn a_half_open_predecessor_is_fenced_off<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 300_000);
    let mut first = begun(&store, &part, &offer, &archive[..100_003]).await;
    // All that it had received is kept, to the byte.
    assert_eq!(
        store.settle(&part).await.unwrap(),
        Some(Part {
            offer,
            offset: 100_003
        })
    );
    assert!(matches!(
        first.write(b"late").await,
        Err(StoreError::Fenced)
    ));
    let mut second = resumed(&store, &part, &offer, 100_003).await;
    write(&mut second, &archive[100_003..200_001]).await;
    assert!(matches!(first.keep().await, Err(StoreError::Fenced)));
    // Nor does a successor that does not ask first make two writers.
    assert_eq!(
        not_resumed(&store, &part, &offer, 100_003).await,
        Some(200_001)
    );
    assert!(matches!(second.publish().await, Err(StoreError::Fenced)));
    let mut third = resumed(&store, &part, &offer, 200_001).await;
    write(&mut third, &archive[200_001..]).await;
    held(third.publish().await.unwrap());
}

pub(in super::super) async fn a_predecessor_that_is_fenced_off_does_no_harm<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 300_000);
    for round in 0..3 {
        let mut first = begun(&store, &part, &offer, &archive[..100_003]).await;
        store.settle(&part).await.unwrap();
        let mut second = resumed(&store, &part, &offer, 100_003).await;
        write(&mut second, &archive[100_003..200_000]).await;
        match round {
            0 => drop(first),
            1 => assert!(first.write(&[0; 100_000]).await.is_err()),
            _ => assert!(first.publish().await.is_err()),
        }
        // A newcomer finds the second one, and what it had received.
        assert_eq!(
            store.settle(&part).await.unwrap(),
            Some(Part {
                offer,
                offset: 200_000
            })
        );
        discard(&store, &part).await;
    }
    // One that had received nothing leaves what was kept before it.
    begun(&store, &part, &offer, &archive[..10])
        .await
        .keep()
        .await
        .unwrap();
    let _silent = store.begin(&part, &offer);
    assert_eq!(
        store.settle(&part).await.unwrap(),
        Some(Part { offer, offset: 10 })
    );
}

pub(in super::super) async fn what_a_dropped_write_has_taken_is_kept_and_no_more<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 1_000_000);
    let mut upload = store.begin(&part, &offer);
    // As a connection that is cut in the middle of it, and one that a newcomer takes the upload
    // from just then.
    polled_once(upload.write(&archive[..400_000])).await;
    let Part { offset, .. } = store.settle(&part).await.unwrap().unwrap();
    assert!((1..=400_000).contains(&offset), "{offset}");
    drop(upload);
    let mut upload = resumed(&store, &part, &offer, offset).await;
    polled_once(upload.write(&archive[offset as usize..])).await;
    let offset = upload.keep().await.unwrap();
    let mut upload = resumed(&store, &part, &offer, offset).await;
    write(&mut upload, &archive[offset as usize..]).await;
    held(upload.publish().await.unwrap());
}

pub(in super::super) async fn what_another_receiver_writes_is_left_to_it<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let (ours, theirs) = (open(place), open(place));
    let (archive, offer, part) = upload_of(&ours, 100_000);
    begun(&ours, &part, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    let mut upload = resumed(&ours, &part, &offer, 50_000).await;
    assert!(matches!(
        theirs.resume(&part, &offer, 50_000).await.unwrap(),
        PartResumed::Busy
    ));
    assert!(!theirs.discard(&part).await.unwrap());
    assert_eq!(
        theirs.settle(&part).await.unwrap(),
        Some(Part {
            offer,
            offset: 50_000
        })
    );
    write(&mut upload, &archive[50_000..60_000]).await;
    upload.keep().await.unwrap();
    let mut upload = resumed(&theirs, &part, &offer, 60_000).await;
    write(&mut upload, &archive[60_000..]).await;
    held(upload.publish().await.unwrap());
}

pub(in super::super) async fn what_is_begun_anew_takes_the_place_of_what_was_kept<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    begun(&store, &part, &offer, &archive[..80_000])
        .await
        .keep()
        .await
        .unwrap();
    let older = begun(&store, &part, &offer, &archive[..60_000]).await;
    let mut newer = begun(&store, &part, &offer, &archive[..40_000]).await;
    assert!(matches!(older.keep().await, Err(StoreError::Fenced)));
    newer.write(&archive[40_000..40_001]).await.unwrap();
    assert_eq!(newer.keep().await.unwrap(), 40_001);
    assert_eq!(
        store.part(&part).await.unwrap(),
        Some(Part {
            offer,
            offset: 40_001
        })
    );
    let usage = store.usage(|_| false).await.unwrap();
    assert_eq!(usage.parts, [(part, 40_001)].into());
}

pub(in super::super) async fn a_published_upload_leaves_no_part<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    begun(&store, &part, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    // By a client that sends the whole.
    held(
        begun(&store, &part, &offer, &archive)
            .await
            .publish()
            .await
            .unwrap(),
    );
    assert_eq!(store.part(&part).await.unwrap(), None);
    // Nor does one that breaks off too late.
    begun(&store, &part, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    assert_eq!(store.part(&part).await.unwrap(), None);
    let usage = store.usage(|_| false).await.unwrap();
    assert_eq!((usage.episodes, usage.parts), (1, [].into()));
}

pub(in super::super) async fn an_upload_whose_archive_is_held_by_now_leaves_no_part<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    for ending in 0..5 {
        let place = place.join(ending.to_string());
        let (store, sibling) = (open(&place), open(&place));
        let (archive, offer, part) = upload_of(&store, 300_000);
        begun(&store, &part, &offer, &archive[..100_000])
            .await
            .keep()
            .await
            .unwrap();
        let mut late = resumed(&store, &part, &offer, 100_000).await;
        write(&mut late, &archive[100_000..200_000]).await;
        // Its connection hangs, and the whole is sent by another: here, or, in the later rounds,
        // elsewhere.
        let through = if ending < 2 { &store } else { &sibling };
        held(
            begun(through, &part, &offer, &archive)
                .await
                .publish()
                .await
                .unwrap(),
        );
        match ending {
            0 | 2 => drop(late),
            1 => assert!(matches!(late.keep().await, Err(StoreError::Fenced))),
            3 => assert_eq!(late.keep().await.unwrap(), 200_000),
            _ => {
                write(&mut late, &archive[200_000..]).await;
                assert_eq!(late.publish().await.unwrap(), Publication::NameTaken);
            }
        }
        eventually("no part", async || {
            store.usage(|_| false).await.unwrap().parts.is_empty()
        })
        .await;
        assert_eq!(store.part(&part).await.unwrap(), None);
    }
}

pub(in super::super) async fn what_is_dropped_is_as_it_was_before<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 300_000);
    drop(begun(&store, &part, &offer, &archive[..200_000]).await);
    assert_eq!(store.part(&part).await.unwrap(), None);
    begun(&store, &part, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    let mut upload = resumed(&store, &part, &offer, 50_000).await;
    write(&mut upload, &vec![0; 200_000]).await;
    drop(upload);
    assert_eq!(
        store.part(&part).await.unwrap(),
        Some(Part {
            offer,
            offset: 50_000
        })
    );
    // Its disk work may still be ending; what it wrote is gone with it.
    let mut again = None;
    eventually("free again", async || {
        match store.resume(&part, &offer, 50_000).await.unwrap() {
            PartResumed::Upload(upload) => again = Some(upload),
            other => assert!(matches!(other, PartResumed::Busy)),
        }
        again.is_some()
    })
    .await;
    let mut upload = again.unwrap();
    write(&mut upload, &archive[50_000..]).await;
    held(upload.publish().await.unwrap());
}

pub(in super::super) async fn a_part_can_be_thrown_away<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    discard(&store, &part).await;
    begun(&store, &part, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    discard(&open(place), &part).await;
    assert_eq!(store.part(&part).await.unwrap(), None);
    let alive = begun(&store, &part, &offer, &archive[..50_000]).await;
    discard(&store, &part).await;
    assert!(matches!(alive.keep().await, Err(StoreError::Fenced)));
    assert!(store.usage(|_| false).await.unwrap().parts.is_empty());
}

pub(in super::super) async fn abandoned_parts_expire<S: Store>(open: fn(&Path) -> S, place: &Path) {
    let store = open(place);
    let (archive, offer, part) = upload_of(&store, 100_000);
    begun(&store, &part, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    stored(&store, &key(&store, "b"), b"held").await;
    // A part is no temporary.
    assert_eq!(store.sweep(far_ahead(), LONG_AGO).await.unwrap(), 0);
    assert!(store.part(&part).await.unwrap().is_some());
    assert_eq!(store.sweep(LONG_AGO, far_ahead()).await.unwrap(), 1);
    assert_eq!(store.part(&part).await.unwrap(), None);
    assert!(store.find(&key(&store, "b")).await.unwrap().is_some());
}

pub(in super::super) async fn a_sweep_touches_nothing_that_is_alive<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let (store, sibling) = (open(place), open(place));
    let (archive, offer, part) = upload_of(&store, 100_000);
    let mut begun_now = begun(&store, &part, &offer, &archive[..50_000]).await;
    let other = part_key(&key(&store, "b"), &offer);
    begun(&store, &other, &offer, &archive[..50_000])
        .await
        .keep()
        .await
        .unwrap();
    let mut gone_on = resumed(&store, &other, &offer, 50_000).await;
    assert_eq!(sibling.sweep(far_ahead(), far_ahead()).await.unwrap(), 0);
    for upload in [&mut begun_now, &mut gone_on] {
        write(upload, &archive[50_000..]).await;
    }
    held(begun_now.publish().await.unwrap());
    held(gone_on.publish().await.unwrap());
}
