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
fn a_disk_that_is_smaller_than_what_is_to_stay_free_is_named_as_such() {
    let space = |total_bytes| StoreSpace {
        free_bytes: 100,
        total_bytes,
        free_files: None,
    };
    let problem = |total_bytes| fits(1, space(total_bytes), 0, 1000).unwrap_err();
    assert!(
        problem(1000)
            .detail
            .contains("receive.min_free_bytes = 1000 leaves nothing")
    );
    assert!(problem(1001).detail.contains("100 bytes are free"));
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
        is_planned: false,
        sha256: Digest::of(b"archive"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_promise_is_given_back_as_it_is_written_and_the_rest_at_its_end() {
    let room = room(None);
    let promised = || room.sums.lock().promised_beside(None, u64::MAX);
    let mut promise = room.enter(&mut room.sums.lock(), RoomFor::Host(None), 100);
    promise.took(30);
    assert_eq!(promised(), 70);
    promise.took(1000);
    assert_eq!(promised(), 0);
    let _beside = room.enter(&mut room.sums.lock(), RoomFor::Host(None), 5);
    drop(promise);
    assert_eq!(promised(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_trickles_keeps_as_much_room_as_it_would_fill_and_not_what_it_announced() {
    const TERABYTE: u64 = 1 << 40;
    let room = room(None);
    let promised = || room.sums.lock().promised_beside(None, u64::MAX);
    let mut trickle = room.enter(&mut room.sums.lock(), RoomFor::Host(None), TERABYTE);
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
    let _all = room.enter(&mut room.sums.lock(), RoomFor::Host(Some(&greedy)), 900);
    let beside = |host: Option<&HostName>| room.sums.lock().promised_beside(host, 1000);
    assert_eq!(
        [beside(Some(&greedy)), beside(Some(&other)), beside(None)],
        [900, 500, 500]
    );
    let _some = room.enter(&mut room.sums.lock(), RoomFor::Host(Some(&other)), 300);
    assert_eq!([beside(Some(&other)), beside(None)], [800, 800]);
}

/// Room for a part from its first byte on, and the promise of its bytes.
fn reserve(room: &StoreRoom, part: &PartKey, bytes: u64) -> Option<(PartRoom, Promise)> {
    let promise = room.enter(&mut room.sums.lock(), RoomFor::Whole(part), bytes);
    Some((room.reserve_part(part, bytes, 0, &promise)?, promise))
}

#[test]
fn what_may_be_kept_is_reserved_before_the_first_byte_and_given_back_at_the_end() {
    let room = room(Some(20_000));
    let reserve = |n, bytes| reserve(&room, &part(None, n), bytes).map(|(kept, _)| kept);
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
        let kept = reserve(&room, &part(host, n), 1);
        kept.map(|(kept, _)| kept.kept(1)).is_some()
    };
    assert!((0..part_room::MOST_PARTS_OF_HOST).all(|n| keep(Some("a"), n)));
    assert!(!keep(Some("a"), part_room::MOST_PARTS_OF_HOST));
    assert!(keep(Some("a"), 0), "it goes on with what it has");
    assert!(keep(Some("b"), 0) && keep(None, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_announced_and_does_not_come_shuts_no_other_host_out_and_what_is_kept_is_bounded()
{
    let room = room(Some(100_000_000));
    let announce = |host, n, bytes| reserve(&room, &part(Some(host), n), bytes);
    let (greedy, mut trickle) = announce("greedy", 1, 100_000_000).unwrap();
    assert!(announce("greedy", 2, 1).is_none(), "it has all for itself");
    // However often it comes anew, others have half of it at once.
    assert!(announce("other", 1, 51_000_000).is_none());
    let (other, mut flows) = announce("other", 1, 49_000_000).unwrap();
    assert!(announce("third", 1, 2_000_000).is_none());
    // And soon all but what it would bring in an hour.
    trickle.took(30_000);
    advance(PROMISE_GRACE).await;
    flows.took(49_000_000);
    let (third, _) = announce("third", 1, 46_000_000).unwrap();
    // It brings all the same what it announced, and that has no room beside what others do.
    trickle.took(100_000_000);
    assert!(!greedy.take());
    assert!(other.take() && third.take());
    other.kept(49_000_000);
    drop((greedy, third, flows, trickle));
    assert_eq!(room.sums.lock().parts.len(), 1);
}

#[test]
fn what_is_kept_has_its_room_where_the_rest_of_it_has_none() {
    let room = room(Some(100_000));
    let (one, another) = (part(Some("a"), 1), part(Some("a"), 2));
    room.part_is(&one, 60_000);
    room.part_is(&another, 20_000);
    let goes_on = |bytes| {
        let promise = room.enter(&mut room.sums.lock(), RoomFor::Rest(&another), bytes);
        let kept = room.reserve_part(&another, 90_000, 20_000, &promise);
        (kept.unwrap(), promise)
    };
    let (kept, mut promise) = goes_on(70_000);
    assert!(!kept.is_for_whole);
    assert!(kept.take(), "it breaks off at once");
    promise.took(20_000);
    assert!(kept.take(), "it fits");
    promise.took(1);
    assert!(!kept.take());
    // Nor where a successor has fenced it off, and finds it kept.
    assert!(!room.may_stay(&another, 40_001) && room.may_stay(&another, 40_000));
}

#[test]
fn an_upload_that_begins_anew_takes_the_place_of_what_is_kept_of_it_and_of_its_predecessor() {
    let host = HostName::parse("a").unwrap();
    let limits = ReceiveLimits {
        min_free_bytes: 0,
        host_quota_bytes: Some(100),
        ..ReceiveLimits::default()
    };
    let room = StoreRoom::new(&limits);
    let space = StoreSpace {
        free_bytes: 50,
        total_bytes: 1000,
        free_files: None,
    };
    let (own, other) = (part(Some("a"), 1), part(Some("a"), 2));
    room.part_is(&own, 40);
    let fits = |room_for, bytes| room.fits(&room.sums.lock(), space, room_for, bytes).is_ok();
    assert!(fits(RoomFor::Whole(&own), 90) && !fits(RoomFor::Whole(&own), 91));
    assert!(fits(RoomFor::Rest(&own), 50) && !fits(RoomFor::Rest(&own), 51));
    assert!(!fits(RoomFor::Whole(&other), 51));
    let used = |room_for| room.sums.lock().used_by(&host, room_for);
    assert_eq!(used(RoomFor::Whole(&own)), 0);
    // Its connection is half open, and the client comes again.
    let _half_open = room.enter(&mut room.sums.lock(), RoomFor::Whole(&own), 90);
    assert_eq!(
        [
            RoomFor::Whole(&own),
            RoomFor::Rest(&own),
            RoomFor::Whole(&other)
        ]
        .map(used),
        [0, 40, 130]
    );
    let _again = room.enter(&mut room.sums.lock(), RoomFor::Whole(&own), 90);
    assert_eq!(used(RoomFor::Whole(&own)), 90);
}

#[test]
fn what_a_walk_finds_of_an_upload_under_way_is_not_counted_beside_its_promise() {
    let room = room(None);
    let host = HostName::parse("a").unwrap();
    let used = || {
        let room_for = RoomFor::Host(Some(&host));
        room.sums.lock().used_by(&host, room_for)
    };
    let own = part(Some("a"), 1);
    let (kept, promise) = reserve(&room, &own, 100).unwrap();
    room.sums.lock().walk_begins();
    let found = Usage {
        parts: [(own.clone(), 60)].into(),
        ..Usage::default()
    };
    room.sums.lock().found(found, Instant::now());
    assert_eq!(used(), 100);
    kept.kept(60);
    drop(promise);
    assert_eq!(used(), 60);
    // The rest of it.
    let promise = room.enter(&mut room.sums.lock(), RoomFor::Rest(&own), 40);
    let _kept = room.reserve_part(&own, 100, 60, &promise).unwrap();
    assert_eq!(used(), 100);
}

#[test]
fn what_is_stored_while_a_walk_runs_is_counted_once_whatever_the_stores_clock_says() {
    let room = room(None);
    let host = HostName::parse("a").unwrap();
    let key = |n| part(None, n).key;
    // Named before the walk began, and told of since.
    let early = room.names(&key(1));
    room.sums.lock().walk_begins();
    let is_counted = room.counted_here();
    assert!(is_counted(&key(1)) && !is_counted(&key(2)));
    early.stored(Some(&host), 5);
    drop(room.names(&key(2)));
    assert!(is_counted(&key(1)));
    assert!(!is_counted(&key(2)), "its name was taken by another");
    let mut found = Usage::default();
    found.add_archive(Some(host.clone()), 100);
    let mut sums = room.sums.lock();
    sums.found(found, Instant::now());
    assert_eq!((sums.held.episodes, sums.held.bytes), (2, 105));
    assert_eq!(sums.held.by_owner[&Some(host)], 105);
    drop(sums);
    assert!(!is_counted(&key(1)), "the next walk finds it");
}

#[test]
fn a_walk_takes_nothing_away_that_came_while_it_ran() {
    let room = room(None);
    let host = HostName::parse("a").unwrap();
    let mut sums = room.sums.lock();
    let at = Instant::now();
    sums.changed(&part(None, 1), |sum| sum.kept_bytes = 1);
    sums.walk_begins();
    drop(sums);
    room.names(&part(None, 9).key).stored(Some(&host), 5);
    let _under_way = reserve(&room, &part(None, 3), 1);
    let mut found = Usage::default();
    found.add_archive(Some(host.clone()), 100);
    found.parts = [(part(None, 2), 7)].into();
    let mut sums = room.sums.lock();
    sums.found(found, at);
    let used = sums.used_by(&host, RoomFor::Host(Some(&host)));
    assert_eq!((sums.held.episodes, used), (2, 105));
    let kept = sums
        .parts
        .iter()
        .map(|(part, sum)| (part.key.id.as_str(), sum.kept_bytes));
    assert_eq!(kept.collect::<Vec<_>>(), [("run-2", 7), ("run-3", 0)]);
}
