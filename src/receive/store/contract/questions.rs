//! The promises about what is held: whose it is, its bytes, and how much there is.

use super::*;

pub(in super::super) async fn whose_it_is_is_known_to_every_receiver<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (key, archive) = (
        key(&store, "a"),
        zstd::encode_all(&b"a tar stream"[..], 3).unwrap(),
    );
    let offer = offer(&archive);
    let mut upload = store.begin(
        &PartKey::new(key.clone(), Some(host("lab-1")), &offer),
        &offer,
    );
    upload.write(&archive).await.unwrap();
    assert_eq!(
        held(upload.publish().await.unwrap()).owner,
        Some(host("lab-1"))
    );
    let by = |held: Option<StoredEpisode>| held.unwrap().receipt().host;
    // Whatever is learnt of it later, it stays whose it is.
    assert_eq!(
        by(open(place).verify(&key).await.unwrap()).as_deref(),
        Some("lab-1")
    );
    assert_eq!(
        by(open(place).reread(&key).await.unwrap()).as_deref(),
        Some("lab-1")
    );
    assert_eq!(
        by(open(place).claim(&key, &host("lab-2")).await.unwrap()).as_deref(),
        Some("lab-1")
    );
    assert_eq!(
        by(open(place).find(&key).await.unwrap()).as_deref(),
        Some("lab-1")
    );
}

pub(in super::super) async fn what_has_no_owner_can_be_claimed_once<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let key = key(&store, "a");
    assert_eq!(store.claim(&key, &host("lab-1")).await.unwrap(), None);
    let unowned = stored(&store, &key, b"archive").await;
    assert_eq!(unowned.owner, key.host);
    for claimed_by in ["lab-1", "lab-2"] {
        let claimed = store.claim(&key, &host(claimed_by)).await.unwrap().unwrap();
        assert_eq!(claimed.owner, Some(host("lab-1")));
        assert_eq!(
            open(place).find(&key).await.unwrap().as_ref(),
            Some(&claimed)
        );
        assert_eq!(
            claimed,
            StoredEpisode {
                owner: Some(host("lab-1")),
                ..unowned.clone()
            }
        );
    }
}

async fn bytes_of<S: Store>(store: &S, key: &Key, range: std::ops::Range<u64>) -> Vec<u8> {
    let (_, mut reading) = store.read(key, range).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = reading.next().await {
        let chunk = chunk.unwrap();
        assert!((1..=128 * 1024).contains(&chunk.len()), "{}", chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    assert!(reading.next().await.is_none());
    bytes
}

pub(in super::super) async fn what_is_read_is_what_was_asked_for<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let (key, archive) = (key(&store, "a"), noise(500_000));
    assert!(store.read(&key, 0..1).await.unwrap().is_none());
    let held = stored(&store, &key, &archive).await;
    for (from, to) in [
        (0, 500_000),
        (0, 1),
        (131_071, 131_073),
        (250_000, 250_000),
        (499_999, 500_000),
    ] {
        assert_eq!(
            bytes_of(&store, &key, from..to).await,
            archive[from as usize..to as usize]
        );
    }
    assert_eq!(
        bytes_of(&store, &key, 400_000..u64::MAX).await,
        archive[400_000..]
    );
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "what a client asks for need not make sense"
    )]
    for nonsense in [500_000..500_001, u64::MAX - 1..u64::MAX, 9..3] {
        assert!(bytes_of(&store, &key, nonsense).await.is_empty());
    }
    let (described, mut half) = store.read(&key, 0..500_000).await.unwrap().unwrap();
    assert_eq!(described, held);
    half.next().await.unwrap().unwrap();
    drop(half);
}

pub(in super::super) async fn what_is_read_again_is_what_was_stored<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let key = key(&store, "a");
    assert_eq!(store.reread(&key).await.unwrap(), None);
    let held = stored(&store, &key, &noise(500_000)).await;
    assert_eq!(store.reread(&key).await.unwrap().as_ref(), Some(&held));
}

pub(in super::super) async fn bytes_count_for_whoever_sent_them<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let store = open(place);
    let namespace = store.namespace();
    let (mut by_owner, mut parts) = (BTreeMap::new(), BTreeMap::new());
    for (owner, name, size, whole) in [
        (Some("lab-1"), "a", 1_000, true),
        (Some("lab-1"), "b", 70_000, false),
        (Some("lab-2"), "c", 10, true),
        (None, "d", 100_000, true),
        (None, "e", 7, false),
    ] {
        let owner = owner.map(host);
        let Some(key) = namespace.key(owner.as_ref(), &id(name)) else {
            continue;
        };
        let archive = noise(size);
        let part = PartKey::new(key, owner.clone(), &offer(&archive));
        let mut upload = store.begin(&part, &offer(&archive));
        write(&mut upload, &archive).await;
        if whole {
            held(upload.publish().await.unwrap());
            *by_owner.entry(owner).or_default() += size as u64;
        } else {
            upload.keep().await.unwrap();
            parts.insert(part, size as u64);
        }
    }
    let usage = open(place).usage(|_| false).await.unwrap();
    let (episodes, bytes) = match namespace {
        Namespace::None => (3, 101_010),
        Namespace::Host => (2, 1_010),
    };
    assert_eq!(
        usage,
        super::super::Usage {
            episodes,
            bytes,
            by_owner,
            parts: parts.clone(),
        }
    );
    // What its caller counts by itself is left to it.
    let none_yet = open(place).usage(|_| true).await.unwrap();
    assert_eq!((none_yet.episodes, none_yet.parts), (0, parts));
}

pub(in super::super) async fn there_is_room_and_it_is_told<S: Store>(
    open: fn(&Path) -> S,
    place: &Path,
) {
    let space = open(place).space().await.unwrap();
    assert!(
        space.free_bytes > 0 && space.free_bytes <= space.total_bytes,
        "{space:?}"
    );
}
