use std::{cell::Cell, fs, os::unix::fs::MetadataExt as _};

use serde_json::json;

use super::*;
use crate::{
    disk::tree,
    model::{episode::Digest, layout::RECEIPT},
    ship::pack,
    testing,
};

struct Sandbox {
    _root: tempfile::TempDir,
    layout: Layout,
    id: EpisodeId,
    facts: ArchiveFacts,
    proof: Proof,
    packed: Fingerprint,
}

/// A packed and delivered episode `a`.
fn sandbox() -> Sandbox {
    let (root, layout) = testing::sandbox();
    let id = EpisodeId::parse("a").unwrap();
    fs::create_dir(layout.episode(&id)).unwrap();
    fs::write(layout.episode(&id).join("data"), "data").unwrap();
    for path in [
        layout.archive(&id),
        layout.sidecar(&id),
        layout.partial(&id),
    ] {
        fs::write(path, "").unwrap();
    }
    let packed = tree::fingerprint(&layout.episode(&id), &Progress::default()).unwrap();
    let content_sha256 = content_of(&id, &layout.episode(&id)).unwrap().unwrap();
    let facts = ArchiveFacts {
        sha256: Digest([1; 32]),
        content_sha256,
        size_bytes: 3,
    };
    let proof = Proof::for_test(201, json!({"episode_id": "a"}));
    Sandbox {
        _root: root,
        layout,
        id,
        facts,
        proof,
        packed,
    }
}

fn content_of(id: &EpisodeId, directory: &Path) -> io::Result<Option<Digest>> {
    Ok(pack::content_of(id, directory, &Progress::default()).ok())
}

impl Sandbox {
    fn retirement(&self) -> Retirement<'_> {
        Retirement {
            proof: &self.proof,
            facts: &self.facts,
            fingerprint: self.packed,
            manifest: ManifestCheck::None,
            open_files: &[],
            receiver: "http://r/v1/episodes/a",
            delivered_at: WallTime::from_unix_seconds(1_800_000_000),
            clock_believed: true,
        }
    }

    fn retire(&self) -> Moved {
        self.retire_as(&self.retirement())
    }

    fn retire_as(&self, retirement: &Retirement<'_>) -> Moved {
        let progress = Progress::default();
        let step = StepContext::new(&self.layout, &self.id, &content_of, &progress);
        retire(&step, retirement)
    }

    fn retire_asking(&self, check: &dyn Fn(&Path) -> io::Result<bool>) -> io::Result<Moved> {
        let progress = Progress::default();
        let step = StepContext::new(&self.layout, &self.id, &content_of, &progress);
        try_retire(&step, &self.retirement(), check)
    }

    fn outbox_is_empty(&self) -> bool {
        fs::read_dir(&self.layout.outbox).unwrap().next().is_none()
    }
}

/// How many episodes are in a folder.
fn visible(folder: &Path) -> usize {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .count()
}

#[test]
fn a_delivered_episode_stands_in_shipped_with_its_receipt_and_its_archive_is_gone() {
    let a = sandbox();
    let to = a.layout.shipped.join("a");
    assert_eq!(a.retire(), Moved::To(to.clone()));
    let receipt = record_files::receipt(&to).unwrap().unwrap();
    assert_eq!((receipt.sha256, receipt.status_code), (a.facts.sha256, 201));
    assert_eq!(receipt.receipt, json!({"episode_id": "a"}));
    assert_eq!(
        receipt.delivered_at_wall.to_string(),
        "2027-01-15T08:00:00Z"
    );
    assert!(a.outbox_is_empty());
    assert!(!a.layout.episode(&a.id).exists());
}

#[test]
fn what_changed_since_it_was_packed_is_not_moved_and_gets_no_receipt() {
    let a = sandbox();
    fs::write(a.layout.episode(&a.id).join("more"), "").unwrap();
    assert_eq!(a.retire(), Moved::Changed);
    assert!(!a.layout.episode(&a.id).join(RECEIPT).exists());
    assert!(!a.outbox_is_empty());
}

#[test]
fn what_changes_during_the_move_is_put_back_without_the_receipt() {
    let a = sandbox();
    let asked = Cell::new(0);
    let check = |episode: &Path| {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            assert_eq!(episode, a.layout.shipped.join("a"));
            assert!(episode.join(RECEIPT).exists());
            fs::write(
                episode.join("data"),
                "written by a descriptor that was still open",
            )?;
        }
        tree::is_still(episode, a.packed, &Progress::default())
    };
    assert_eq!(a.retire_asking(&check).unwrap(), Moved::Changed);
    assert!(
        fs::read_to_string(a.layout.episode(&a.id).join("data"))
            .unwrap()
            .starts_with("written")
    );
    assert!(!a.layout.episode(&a.id).join(RECEIPT).exists());
    assert!(!a.layout.shipped.join("a").exists());
    assert!(!a.outbox_is_empty());
}

#[test]
fn put_back_beside_a_name_that_was_used_again_it_waits_as_an_episode_of_its_own() {
    let a = sandbox();
    let asked = Cell::new(0);
    let check = |_: &Path| {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            fs::create_dir(a.layout.episode(&a.id))?;
        }
        Ok(asked.get() == 1)
    };
    assert_eq!(a.retire_asking(&check).unwrap(), Moved::Changed);
    let beside = a.layout.episodes.join("a~1");
    assert_eq!(fs::read(beside.join("data")).unwrap(), b"data");
    assert!(!beside.join(RECEIPT).exists());
}

#[test]
fn a_receipt_left_by_a_killed_try_is_rewritten_and_changes_nothing() {
    let a = sandbox();
    let stop = |_: &Path| Err(io::Error::other("killed"));
    let first_only = Cell::new(true);
    let killed = |episode: &Path| {
        if first_only.replace(false) {
            Ok(true)
        } else {
            stop(episode)
        }
    };
    a.retire_asking(&killed).unwrap_err();
    assert!(a.layout.episode(&a.id).join(RECEIPT).exists());
    assert_eq!(a.retire(), Moved::To(a.layout.shipped.join("a")));
    assert!(!a.layout.shipped.join("a/shipping_receipt.json~1").exists());
}

#[test]
fn a_name_that_is_taken_in_shipped_is_numbered() {
    let a = sandbox();
    fs::create_dir(a.layout.shipped.join("a")).unwrap();
    assert_eq!(a.retire(), Moved::To(a.layout.shipped.join("a~1")));
    assert!(
        record_files::receipt(&a.layout.shipped.join("a~1"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_move_that_was_made_but_not_reported_is_found_and_one_that_was_not_is_gone() {
    let a = sandbox();
    assert_eq!(a.retire(), Moved::To(a.layout.shipped.join("a")));
    fs::write(a.layout.archive(&a.id), "").unwrap();
    assert_eq!(a.retire(), Moved::To(a.layout.shipped.join("a")));
    assert!(a.outbox_is_empty());

    let b = sandbox();
    durable::remove_tree(&b.layout.episode(&b.id), &Progress::default()).unwrap();
    // Of another archive: it accounts for nothing.
    fs::create_dir(b.layout.shipped.join("a")).unwrap();
    let other = Sandbox {
        facts: ArchiveFacts {
            sha256: Digest([9; 32]),
            ..b.facts
        },
        ..sandbox()
    };
    assert_eq!(other.retire(), Moved::To(other.layout.shipped.join("a")));
    fs::copy(
        other.layout.shipped.join("a").join(RECEIPT),
        b.layout.shipped.join("a").join(RECEIPT),
    )
    .unwrap();
    assert_eq!(b.retire(), Moved::Gone);
    assert!(!b.outbox_is_empty());
}

#[test]
fn a_move_that_was_made_and_not_looked_at_is_put_back_where_it_was_written_to() {
    let a = sandbox();
    let to = a.layout.shipped.join("a");
    assert_eq!(a.retire(), Moved::To(to.clone()));
    fs::write(a.layout.archive(&a.id), "").unwrap();
    fs::write(
        to.join("data"),
        "written by a descriptor that was still open",
    )
    .unwrap();
    assert_eq!(a.retire(), Moved::Changed);
    assert!(
        fs::read_to_string(a.layout.episode(&a.id).join("data"))
            .unwrap()
            .starts_with("written")
    );
    assert!(!a.layout.episode(&a.id).join(RECEIPT).exists());
    assert!(!to.exists());
    assert!(!a.outbox_is_empty());
}

#[test]
fn a_copy_has_other_inodes_and_is_known_by_its_content() {
    let a = sandbox();
    let to = a.layout.shipped.join("a");
    assert_eq!(a.retire(), Moved::To(to.clone()));
    // As a copy has them: another inode, the same mtime.
    let mtime = fs::metadata(to.join("data")).unwrap().modified().unwrap();
    fs::copy(to.join("data"), to.join("copy")).unwrap();
    let copy = fs::File::options()
        .append(true)
        .open(to.join("copy"))
        .unwrap();
    copy.set_modified(mtime).unwrap();
    durable::replace(&copy, &to.join("copy"), &to.join("data")).unwrap();
    fs::write(a.layout.archive(&a.id), "").unwrap();
    assert_eq!(a.retire(), Moved::To(to));
    assert!(a.outbox_is_empty());
}

#[test]
fn across_file_systems_a_copy_with_a_receipt_of_this_delivery_is_the_one_and_another_is_not() {
    for of_this in [true, false] {
        let mut a = sandbox();
        let Ok(there) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        if fs::metadata(there.path()).unwrap().dev()
            == fs::metadata(&a.layout.episodes).unwrap().dev()
        {
            return;
        }
        a.layout.shipped = there.path().to_owned();
        // As if killed when the copy had its name: the source is still there.
        let receipt = ShippingReceipt {
            sha256: a.facts.sha256,
            content_sha256: if of_this {
                a.facts.content_sha256
            } else {
                Digest([9; 32])
            },
            size_bytes: 3,
            ..ShippingReceipt::example(a.id.as_str())
        };
        record_files::write_receipt(&a.layout.episode(&a.id), &receipt, &[]).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([a.layout.episode(&a.id), there.path().join("a")])
            .status()
            .unwrap();
        assert!(copied.success());
        let to = there.path().join(if of_this { "a" } else { "a~1" });
        assert_eq!(a.retire(), Moved::To(to));
        assert_eq!(visible(there.path()), if of_this { 1 } else { 2 });
        assert!(!a.layout.episode(&a.id).exists());
    }
}

#[test]
fn without_permission_it_stays_and_the_owner_is_what_to_change() {
    let a = sandbox();
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let told = explain(&a.layout, &a.id, &denied);
    assert!(
        told.starts_with("delivered, but it cannot be moved to "),
        "{told}"
    );
    assert!(told.contains("Type: sudo sealift setup --user "), "{told}");
    let names_both = told
        .split_once("/episodes/a --data ")
        .is_some_and(|(_, data)| std::path::Path::new(data) == a.layout.episodes.parent().unwrap());
    assert!(names_both, "it works from anywhere: {told}");
    let other = explain(&a.layout, &a.id, &io::ErrorKind::StorageFull.into());
    assert!(!other.contains("sudo"), "{other}");
}

#[test]
fn an_episode_that_is_not_ours_to_move_stays_whole_and_is_reported() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let a = sandbox();
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(a.layout.episode(&a.id), fs::Permissions::from_mode(0o555)).unwrap();
    }
    for path in [
        a._root.path(),
        &a.layout.episodes,
        &a.layout.shipped,
        &a.layout.outbox,
    ] {
        if rustix::process::geteuid().is_root() {
            chown(path, Some(65_534), None).unwrap();
        }
    }
    let moved = std::thread::scope(|threads| {
        threads
            .spawn(|| {
                // Root may do anything; this one thread becomes a user who may not.
                if rustix::process::geteuid().is_root() {
                    rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65_534)).unwrap();
                }
                a.retire()
            })
            .join()
            .unwrap()
    });
    assert!(
        matches!(&moved, Moved::Failed(why) if why.contains("sudo sealift setup --user 65534 --give ")),
        "{moved:?}"
    );
    assert_eq!(
        fs::read(a.layout.episode(&a.id).join("data")).unwrap(),
        b"data"
    );
    assert!(!a.outbox_is_empty());
}

#[test]
fn where_a_copy_of_it_is_in_shipped_already_that_has_the_new_receipt_before_the_source_goes() {
    let Ok(there) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let mut a = sandbox();
    if fs::metadata(there.path()).unwrap().dev() == fs::metadata(&a.layout.episodes).unwrap().dev()
    {
        assert!(
            std::env::var("CI").is_err(),
            "/dev/shm and the temporary folder are one file system"
        );
        return;
    }
    a.layout.shipped = there.path().to_owned();
    let to = there.path().join("a");
    assert_eq!(a.retire(), Moved::To(to.clone()));
    // As `requeue --from shipped` leaves it that is killed before it has taken the source of its
    // copy away, and as it was when it was delivered first, long ago.
    record_files::note_in_receipt(&to, &|receipt| {
        receipt.delivered_at_wall = WallTime::from_unix_seconds(1_700_000_000);
        receipt.receiver = "http://before/v1/episodes/a".to_owned();
    })
    .unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(&to)
        .arg(a.layout.episode(&a.id))
        .status();
    assert!(copied.unwrap().success());
    let fingerprint = tree::fingerprint(&a.layout.episode(&a.id), &Progress::default()).unwrap();
    let again = Retirement {
        fingerprint,
        ..a.retirement()
    };
    assert_eq!(a.retire_as(&again), Moved::To(to.clone()));
    let receipt = record_files::receipt(&to).unwrap().unwrap();
    assert_eq!(receipt.delivered_at_wall, again.delivered_at);
    assert_eq!(receipt.receiver, again.receiver);
    assert_eq!(visible(there.path()), 1);
    assert!(!a.layout.episode(&a.id).exists());
}
