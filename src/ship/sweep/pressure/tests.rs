use serde_json::json;

use super::*;
use crate::{
    model::{
        episode::{Digest, EpisodeId},
        layout::RECEIPT,
        records::RELEASED,
    },
    testing::sandbox,
};

fn day(n: i64) -> WallTime {
    WallTime::from_unix_seconds(RELEASED.unix_seconds() + n * 86_400)
}

/// Shipped on that day; with the receiver's own receipt, or after a bare 2xx.
fn shipped_on(layout: &Layout, id: &str, n: i64, theirs: bool) {
    let digest = Digest([7; 32]);
    let theirs = theirs
        .then(|| json!({"episode_id": id, "sha256": digest, "size_bytes": 1, "stored_at": day(n)}));
    let ours = json!({"episode_id": id, "sha256": digest, "content_sha256": digest, "size_bytes": 1,
        "status_code": 201, "receiver": "http://r", "delivered_at_wall": day(n), "manifest": "none",
        "receipt": theirs});
    let path = layout.shipped.join(id);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("data.bin"), [7; 5000]).unwrap();
    fs::write(path.join(RECEIPT), ours.to_string()).unwrap();
}

fn left(layout: &Layout) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&layout.shipped)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// With more than any disk has, everything goes that may go.
fn relieve(layout: &Layout, busy: &dyn Fn(&OsStr) -> bool) -> Relieved {
    Pressure::default().relieve(layout, u64::MAX, busy, &|_| Ok(true), &Progress::default())
}

#[test]
fn what_the_receiver_holds_by_its_own_receipt_goes_and_nothing_else() {
    let (_root, layout) = sandbox();
    for (id, theirs) in [("held", true), ("held-too", true), ("bare", false)] {
        shipped_on(&layout, id, 1, theirs);
    }
    fs::create_dir(layout.shipped.join("no-receipt")).unwrap();
    fs::write(layout.shipped.join("a-file"), "").unwrap();
    fs::create_dir(layout.shipped.join(".hidden")).unwrap();
    std::os::unix::fs::symlink(layout.shipped.join("bare"), layout.shipped.join("link")).unwrap();
    shipped_on(&layout, "renamed", 1, true);
    fs::create_dir(layout.shipped.join("other")).unwrap();
    fs::copy(
        layout.shipped.join("renamed").join(RECEIPT),
        layout.shipped.join("other").join(RECEIPT),
    )
    .unwrap();
    assert_eq!(
        relieve(&layout, &|_| false),
        Relieved {
            removed: 3,
            enough: false
        }
    );
    assert_eq!(
        left(&layout),
        [".hidden", "a-file", "bare", "link", "no-receipt", "other"]
    );
}

#[test]
fn what_is_not_what_was_delivered_stays_however_little_room_there_is() {
    let (_root, layout) = sandbox();
    for id in ["edited", "held"] {
        shipped_on(&layout, id, 1, true);
    }
    let as_delivered = |path: &Path| Ok(!path.ends_with("edited"));
    let relieved = Pressure::default().relieve(
        &layout,
        u64::MAX,
        &|_| false,
        &as_delivered,
        &Progress::default(),
    );
    assert_eq!(
        relieved,
        Relieved {
            removed: 1,
            enough: false
        }
    );
    assert_eq!(left(&layout), ["edited"]);
}

#[test]
fn the_oldest_goes_first_and_no_more_than_it_takes() {
    let (_root, layout) = sandbox();
    for (id, n) in [("c", 3), ("a", 1), ("b", 2)] {
        shipped_on(&layout, id, n, true);
    }
    let oldest = oldest(&layout.shipped, &Progress::default()).unwrap();
    assert_eq!(oldest, ["a", "b", "c"]);
    let mut pressure = Pressure::default();
    let mut relieve = |wanted| {
        pressure.relieve(
            &layout,
            wanted,
            &|_| false,
            &|_| Ok(true),
            &Progress::default(),
        )
    };
    assert_eq!(
        relieve(1),
        Relieved {
            removed: 0,
            enough: true
        }
    );
    assert_eq!(left(&layout), ["a", "b", "c"]);
}

#[test]
fn what_was_removed_counts_as_free_though_the_file_system_takes_its_time() {
    let mut pressure = Pressure {
        pending: Some((u64::MAX, Instant::now())),
        ..Pressure::default()
    };
    let (_root, layout) = sandbox();
    shipped_on(&layout, "a", 1, true);
    let mut relieve = || {
        pressure.relieve(
            &layout,
            u64::MAX,
            &|_| false,
            &|_| Ok(true),
            &Progress::default(),
        )
    };
    assert_eq!(
        relieve(),
        Relieved {
            removed: 0,
            enough: true
        }
    );
    assert_eq!(left(&layout), ["a"]);
    pressure.pending = Some((u64::MAX, Instant::now() - FREED_WITHIN));
    assert_eq!(pressure.pending_bytes(), 0);
}

#[test]
fn what_is_on_its_way_or_not_settled_yet_stays() {
    let (_root, layout) = sandbox();
    for id in ["moving", "noted", "kept", "scratch", "held"] {
        shipped_on(&layout, id, 1, true);
    }
    let id = |name| EpisodeId::parse(name).unwrap();
    fs::write(layout.sidecar(&id("noted")), "").unwrap();
    fs::write(layout.archive(&id("kept")), "").unwrap();
    fs::write(layout.partial(&id("scratch")), "").unwrap();
    let relieved = relieve(&layout, &|name| name == "moving");
    assert_eq!(
        relieved,
        Relieved {
            removed: 1,
            enough: false
        }
    );
    assert_eq!(left(&layout), ["kept", "moving", "noted", "scratch"]);
}
