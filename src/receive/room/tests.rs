use tokio::time::advance;

use super::*;
use crate::{
    model::episode::{Digest, EpisodeId},
    receive::stored_episode::Key,
};

#[test]
fn what_is_promised_and_what_is_kept_free_is_not_free() {
    let space = StoreSpace {
        free_bytes: 1000,
        total_bytes: 5000,
        free_files: Some(LEAST_FILES),
    };
    for (bytes, promised, min_free, fit) in [
        (1000, 0, 0, true),
        (1001, 0, 0, false),
        (400, 300, 300, true),
        (401, 300, 300, false),
        (0, 0, 1001, false),
        (u64::MAX, u64::MAX, u64::MAX, false),
    ] {
        assert_eq!(
            fits(bytes, space, promised, min_free).is_ok(),
            fit,
            "{bytes} {promised} {min_free}"
        );
    }
}

#[test]
fn inodes_that_are_used_up_are_named_as_such_whatever_room_there_is() {
    for (free_files, fit) in [
        (None, true),
        (Some(LEAST_FILES), true),
        (Some(LEAST_FILES - 1), false),
        (Some(0), false),
    ] {
        let found = fits(
            1,
            StoreSpace {
                free_bytes: 1000,
                total_bytes: 5000,
                free_files,
            },
            0,
            0,
        );
        assert_eq!(found.is_ok(), fit, "{free_files:?}");
        if let Err(problem) = found {
            assert_eq!(problem.kind.status(), 507);
            assert!(problem.detail.contains("inodes"), "{}", problem.detail);
        }
    }
}

#[test]
fn of_what_there_is_no_more_is_told_from_the_error_and_the_space() {
    let space = |files| {
        Some(StoreSpace {
            free_bytes: 1000,
            total_bytes: 5000,
            free_files: files,
        })
    };
    let (full, quota) = (
        io::ErrorKind::StorageFull.into(),
        io::ErrorKind::QuotaExceeded.into(),
    );
    for (error, space, expected) in [
        (&full, None, UsedUp::Bytes),
        (&full, space(None), UsedUp::Bytes),
        (&full, space(Some(LEAST_FILES)), UsedUp::Bytes),
        (&full, space(Some(0)), UsedUp::Inodes),
        (&quota, space(Some(0)), UsedUp::Quota),
    ] {
        assert_eq!(UsedUp::of(error, space), expected);
    }
}

#[test]
fn a_share_is_used_up_to_its_last_byte() {
    assert!(within_quota(10, 90, 100).is_ok());
    let problem = within_quota(11, 90, 100).unwrap_err();
    assert_eq!(problem.kind.status(), 507);
    assert_eq!(
        (&problem.extra["used_bytes"], &problem.extra["quota_bytes"]),
        (&90.into(), &100.into())
    );
}

fn room(parts_max_bytes: Option<u64>) -> StoreRoom {
    StoreRoom::new(&ReceiveLimits {
        parts_max_bytes,
        ..ReceiveLimits::default()
    })
}

fn part(owner: Option<&str>, n: usize) -> PartKey {
    PartKey {
        key: Key {
            host: None,
            id: EpisodeId::parse(&format!("run-{n}")).unwrap(),
        },
        owner: owner.map(|name| HostName::parse(name).unwrap()),
        sha256: Digest::of(b"archive"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_promise_is_given_back_as_it_is_written_and_the_rest_at_its_end() {
    let room = room(None);
    let promised = || room.sums.lock().promised_beside(None, u64::MAX);
    let mut promise = room.enter(&mut room.sums.lock(), None, 100);
    promise.took(30);
    assert_eq!(promised(), 70);
    promise.took(1000);
    assert_eq!(promised(), 0);
    let _beside = room.enter(&mut room.sums.lock(), None, 5);
    drop(promise);
    assert_eq!(promised(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_trickles_keeps_as_much_room_as_it_would_fill_and_not_what_it_announced() {
    const TERABYTE: u64 = 1 << 40;
    let room = room(None);
    let promised = || room.sums.lock().promised_beside(None, u64::MAX);
    let mut trickle = room.enter(&mut room.sums.lock(), None, TERABYTE);
    trickle.took(30 << 10);
    advance(PROMISE_GRACE - Duration::from_millis(1)).await;
    assert_eq!(promised(), TERABYTE - (30 << 10));
    advance(Duration::from_millis(1)).await;
    assert_eq!(promised(), 3600 << 10, "a kibibyte a second, for an hour");
    trickle.took(TERABYTE / 2);
    assert_eq!(promised(), TERABYTE / 2 - (30 << 10), "it flows");
}

#[test]
fn a_host_that_announces_all_there_is_leaves_half_of_it_to_the_others_and_none_to_itself() {
    let room = room(None);
    let name = |name: &str| HostName::parse(name).unwrap();
    let (greedy, other) = (name("greedy"), name("other"));
    let _all = room.enter(&mut room.sums.lock(), Some(&greedy), 900);
    let beside = |host: Option<&HostName>| room.sums.lock().promised_beside(host, 1000);
    assert_eq!(
        [beside(Some(&greedy)), beside(Some(&other)), beside(None)],
        [900, 500, 500]
    );
    let _some = room.enter(&mut room.sums.lock(), Some(&other), 300);
    assert_eq!([beside(Some(&other)), beside(None)], [800, 800]);
}

#[test]
fn what_may_be_kept_is_reserved_before_the_first_byte_and_given_back_at_the_end() {
    let room = room(Some(20_000));
    let reserve = |n, bytes| room.reserve_part(&part(None, n), bytes);
    let first = reserve(1, 10_000).unwrap();
    assert!(reserve(2, 10_001).is_none());
    let again = reserve(1, 10_000).expect("it is reserved already");
    let second = reserve(2, 1).unwrap();
    assert!(
        reserve(3, 1).is_none(),
        "two files take room, however small"
    );
    drop(first);
    second.kept(1);
    assert!(reserve(3, 1).is_none());
    drop(again);
    drop(reserve(3, 1).unwrap());
    room.part_gone(&part(None, 2));
    assert!(reserve(3, 20_000).is_some());
    assert!(room.sums.lock().parts.is_empty());
}

#[test]
fn a_host_keeps_no_more_parts_than_it_may_and_leaves_room_for_others() {
    let room = room(None);
    let keep = |host, n| {
        let kept = room.reserve_part(&part(host, n), 1);
        kept.map(|kept| kept.kept(1)).is_some()
    };
    assert!((0..MOST_PARTS_OF_HOST).all(|n| keep(Some("a"), n)));
    assert!(!keep(Some("a"), MOST_PARTS_OF_HOST));
    assert!(keep(Some("a"), 0), "it goes on with what it has");
    assert!(keep(Some("b"), 0) && keep(None, 0));
}

#[test]
fn a_walk_takes_nothing_away_that_came_while_it_ran() {
    let room = room(None);
    let host = HostName::parse("a").unwrap();
    let mut sums = room.sums.lock();
    let at = Instant::now();
    sums.changed(&part(None, 1), |sum| sum.kept_bytes = 1);
    sums.walks += 1;
    drop(sums);
    room.stored(Some(&host), 5);
    let _under_way = room.reserve_part(&part(None, 3), 1);
    let mut found = Usage::default();
    found.add_archive(Some(host.clone()), 100);
    found.parts = [(part(None, 2), 7)].into();
    let mut sums = room.sums.lock();
    sums.found(found, at);
    assert_eq!((sums.held.episodes, sums.used_by(&host)), (2, 105));
    let kept = sums
        .parts
        .iter()
        .map(|(part, sum)| (part.key.id.as_str(), sum.kept_bytes));
    assert_eq!(kept.collect::<Vec<_>>(), [("run-2", 7), ("run-3", 0)]);
}
