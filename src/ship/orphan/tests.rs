mod conflicts;

use std::os::unix::fs::symlink;

use super::*;
use crate::{
    disk::{durable, scan},
    model::{
        layout::REASON,
        records::{ArchiveFacts, ManifestCheck, ORPHAN, RecordedVerdict, ShippingReceipt},
        text::word,
    },
    ship::pack,
    testing,
};

/// Begins like a zstd frame.
const ARCHIVE: &[u8] = b"\x28\xb5\x2f\xfdarchive";

const NOW: WallTime = WallTime::from_unix_seconds(1_800_000_000);

struct Sandbox {
    folder: tempfile::TempDir,
    layout: Layout,
    id: EpisodeId,
    root: RootId,
}

fn content_of(id: &EpisodeId, directory: &Path) -> io::Result<Option<Digest>> {
    Ok(pack::content_of(id, directory, &Progress::default()).ok())
}

fn content_in(directory: &Path) -> Digest {
    content_of(&EpisodeId::parse("a").unwrap(), directory)
        .unwrap()
        .unwrap()
}

/// An archive, and no episode.
fn sandbox() -> Sandbox {
    let ((folder, layout), id) = (testing::sandbox(), EpisodeId::parse("a").unwrap());
    fs::write(layout.archive(&id), ARCHIVE).unwrap();
    let root = scan::root_id(&layout.episodes).unwrap();
    Sandbox {
        folder,
        layout,
        id,
        root,
    }
}

impl Sandbox {
    fn try_settle(&self, content_of: ContentOf<'_>) -> io::Result<Settled> {
        let progress = Progress::default();
        let step = StepContext::new(&self.layout, &self.id, content_of, &progress);
        settle(&step, self.root, false, NOW)
    }

    fn settle(&self) -> Settled {
        self.try_settle(&content_of).unwrap()
    }

    fn put_back_unfinished(&self) {
        put_back_unfinished(&self.layout, self.root, &content_of, &Progress::default()).unwrap();
    }

    /// As a process leaves it that is killed when it has moved the episode, before it looked at it
    /// again.
    fn killed_after_the_move(&self) -> PathBuf {
        fs::create_dir(self.layout.episode(&self.id)).unwrap();
        fs::write(self.layout.episode(&self.id).join("data"), "data").unwrap();
        self.sidecar(
            ARCHIVE,
            content_in(&self.layout.episode(&self.id)),
            &self.layout.episode(&self.id),
        );
        durable::remove_tree(&self.layout.episode(&self.id), &Progress::default()).unwrap();
        self.shipped("a", "a", ARCHIVE)
    }

    fn shipped(&self, directory: &str, episode: &str, archive: &[u8]) -> PathBuf {
        let directory = self.layout.shipped.join(directory);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("data"), "data").unwrap();
        let receipt = ShippingReceipt {
            sha256: Digest::of(archive),
            content_sha256: content_in(&directory),
            delivered_at_wall: NOW,
            ..ShippingReceipt::example(episode)
        };
        record_files::write_receipt(&directory, &receipt, &[]).unwrap();
        directory
    }

    fn sidecar(&self, archive: &[u8], content_sha256: Digest, packed_from: &Path) {
        self.sidecar_with(archive, content_sha256, packed_from, None);
    }

    fn sidecar_with(
        &self,
        archive: &[u8],
        content_sha256: Digest,
        packed_from: &Path,
        verdict: Option<RecordedVerdict>,
    ) {
        let (sha256, size_bytes) = (Digest::of(archive), archive.len() as u64);
        let sidecar = Sidecar {
            episode_id: self.id.clone(),
            facts: ArchiveFacts {
                sha256,
                content_sha256,
                size_bytes,
            },
            fingerprint: tree::fingerprint(packed_from, &Progress::default()).unwrap(),
            folder: None,
            manifest: ManifestCheck::None,
            commit: None,
            open_files: Vec::new(),
            verdict,
            tried_at_wall: None,
        };
        fs::write(
            self.layout.sidecar(&self.id),
            serde_json::to_vec(&sidecar).unwrap(),
        )
        .unwrap();
    }

    fn outbox_is_empty(&self) -> bool {
        fs::read_dir(&self.layout.outbox).unwrap().next().is_none()
    }

    fn is_put_aside(&self, directory: &str) {
        let directory = self.layout.quarantine.join(directory);
        assert_eq!(
            self.settle(),
            Settled::PutAside(directory.clone(), Why::LastCopy)
        );
        assert_eq!(fs::read(directory.join("a.tar.zst")).unwrap(), ARCHIVE);
        let reason = record_files::reason(&directory).unwrap().unwrap();
        assert_eq!(
            (reason.episode_id.as_deref(), reason.verdict.as_deref()),
            (Some("a"), Some(ORPHAN))
        );
        let error = reason.error.unwrap();
        let folder = word(directory.file_name().unwrap());
        let data = self.layout.private.parent().unwrap();
        let command = format!(
            "type: sealift requeue --unpack {folder} --data {}",
            data.display()
        );
        assert!(
            error.contains("may be the last copy") && error.ends_with(&command),
            "{error}"
        );
        // What was shipped under that name is another recording.
        let is_another = self.layout.shipped.join("a").exists() || folder != "a";
        assert_eq!(error.contains("under the name a-1"), is_another, "{error}");
        assert!(self.outbox_is_empty());
    }
}

#[test]
fn while_the_episode_is_there_nothing_is_an_orphan() {
    let a = sandbox();
    fs::create_dir(a.layout.episode(&a.id)).unwrap();
    assert_eq!(a.settle(), Settled::NoOrphan);
    assert!(a.layout.archive(&a.id).exists());
    durable::remove_file(&a.layout.archive(&a.id)).unwrap();
    fs::remove_dir(a.layout.episode(&a.id)).unwrap();
    assert_eq!(a.settle(), Settled::NoOrphan);
}

#[test]
fn where_another_has_the_name_by_now_the_archive_of_the_one_that_is_gone_is_put_aside_all_the_same()
{
    let a = sandbox();
    let episode = a.layout.episode(&a.id);
    let record = |data: &str| {
        fs::create_dir(&episode).unwrap();
        fs::write(episode.join("data"), data).unwrap();
        fs::write(episode.join("done.marker"), "").unwrap();
    };
    let progress = Progress::default();
    let step = StepContext::new(&a.layout, &a.id, &content_of, &progress);
    let settle = || settle(&step, a.root, true, NOW).unwrap();
    record("first");
    a.sidecar(ARCHIVE, content_in(&episode), &episode);

    // Moved away and back: it is what was packed.
    assert_eq!(settle(), Settled::NoOrphan);
    durable::remove_tree(&episode, &Progress::default()).unwrap();

    record("second");
    assert_eq!(
        a.settle(),
        Settled::NoOrphan,
        "it was not seen that the first one had gone"
    );
    let place = a.layout.quarantine.join("a");
    assert_eq!(settle(), Settled::PutAside(place.clone(), Why::Changed));
    assert_eq!(fs::read(place.join("a.tar.zst")).unwrap(), ARCHIVE);
    let error = record_files::reason(&place)
        .unwrap()
        .unwrap()
        .error
        .unwrap();
    assert!(
        error.contains("what a was before it was changed or replaced"),
        "{error}"
    );
    assert!(
        error.contains("under the name a-1") && error.contains("sealift requeue --unpack a "),
        "{error}"
    );
    assert_eq!(fs::read_to_string(episode.join("data")).unwrap(), "second");
    assert!(a.outbox_is_empty());
}

#[test]
fn an_archive_that_a_receipt_in_shipped_names_is_unlinked() {
    for directory in ["a", "a~7"] {
        let a = sandbox();
        let shipped = a.shipped(directory, "a", ARCHIVE);
        assert_eq!(a.settle(), Settled::Unlinked(shipped));
        assert!(a.outbox_is_empty());
    }
}

#[test]
fn a_receipt_for_other_bytes_or_of_another_episode_accounts_for_nothing() {
    let a = sandbox();
    a.shipped("a", "a", b"another archive");
    a.shipped("a~1", "a~1", ARCHIVE);
    fs::create_dir(a.layout.shipped.join("a~2")).unwrap();
    fs::write(a.layout.shipped.join("a~2/shipping_receipt.json"), "{half").unwrap();
    a.is_put_aside("a");
}

#[test]
fn a_content_digest_counts_only_beside_the_archives_own() {
    let a = sandbox();
    let shipped = a.shipped("a", "a", b"the same, packed at another level");
    a.sidecar(ARCHIVE, content_in(&shipped), &shipped);
    assert_eq!(a.settle(), Settled::Unlinked(shipped));

    let a = sandbox();
    let shipped = a.shipped("a", "a", b"the same, packed at another level");
    a.sidecar(b"not what lies there", content_in(&shipped), &shipped);
    a.is_put_aside("a");
}

#[test]
fn an_archive_of_what_stands_in_quarantine_is_unlinked() {
    let a = sandbox();
    let quarantined = a.layout.quarantine.join("a~1");
    fs::create_dir(&quarantined).unwrap();
    fs::write(quarantined.join("data"), "data").unwrap();
    a.sidecar(ARCHIVE, Digest([9; 32]), &quarantined);
    let reason = r#"{"episode_id":"a","error":"x","quarantined_at_wall":"2027-01-01T00:00:00Z"}"#;
    fs::write(quarantined.join(REASON), reason).unwrap();
    assert_eq!(a.settle(), Settled::Unlinked(quarantined));
    assert!(a.outbox_is_empty());
}

#[test]
fn an_archive_of_a_later_episode_of_that_name_is_put_beside_the_quarantined_one() {
    let a = sandbox();
    let quarantined = a.layout.quarantine.join("a");
    fs::create_dir(&quarantined).unwrap();
    fs::write(quarantined.join("data"), "the first of the name").unwrap();
    fs::create_dir(a.layout.episode(&a.id)).unwrap();
    a.sidecar(
        ARCHIVE,
        content_in(&a.layout.episode(&a.id)),
        &a.layout.episode(&a.id),
    );
    fs::remove_dir(a.layout.episode(&a.id)).unwrap();
    a.is_put_aside("a~1");
    assert_eq!(
        fs::read(quarantined.join("data")).unwrap(),
        b"the first of the name"
    );
    assert!(a.layout.quarantine.join("a~1/a.json").exists());
}

#[test]
fn an_archive_of_what_was_copied_to_quarantine_is_unlinked() {
    let a = sandbox();
    let quarantined = a.layout.quarantine.join("a");
    fs::create_dir(&quarantined).unwrap();
    fs::write(quarantined.join("data"), "data").unwrap();
    // Packed from other inodes with the same content.
    a.sidecar(ARCHIVE, content_in(&quarantined), &a.layout.outbox);
    assert_eq!(a.settle(), Settled::Unlinked(quarantined));
}

#[test]
fn what_was_written_to_on_its_way_is_put_back_and_its_archive_stays() {
    let a = sandbox();
    let shipped = a.killed_after_the_move();
    fs::write(shipped.join("data"), "data, and late").unwrap();
    assert_eq!(a.settle(), Settled::PutBack(a.layout.episode(&a.id)));
    assert_eq!(
        fs::read(a.layout.episode(&a.id).join("data")).unwrap(),
        b"data, and late"
    );
    assert_eq!(
        record_files::receipt(&a.layout.episode(&a.id)).unwrap(),
        None
    );
    assert!(!shipped.exists());
    assert!(a.layout.archive(&a.id).exists() && a.layout.sidecar(&a.id).exists());
}

#[test]
fn an_episode_that_was_only_renamed_is_known_by_its_fingerprint_and_not_read() {
    let a = sandbox();
    let shipped = a.shipped("a", "a", ARCHIVE);
    a.sidecar(ARCHIVE, content_in(&shipped), &shipped);
    let read = |_: &EpisodeId, _: &Path| panic!("it was read");
    assert_eq!(a.try_settle(&read).unwrap(), Settled::Unlinked(shipped));
}

#[test]
fn a_copy_that_is_what_was_delivered_covers_one_that_was_written_to() {
    let a = sandbox();
    let changed = a.killed_after_the_move();
    fs::write(changed.join("data"), "an operator's doing").unwrap();
    let whole = a.shipped("a~1", "a", ARCHIVE);
    assert_eq!(a.settle(), Settled::Unlinked(whole));
    assert!(changed.exists());
}

#[test]
fn what_cannot_be_read_proves_nothing_and_the_archive_stays() {
    let a = sandbox();
    let shipped = a.shipped("a", "a", ARCHIVE);
    let fails = |_: &EpisodeId, _: &Path| Err(io::Error::other("bad sector"));
    assert_eq!(a.try_settle(&fails).unwrap_err().to_string(), "bad sector");
    assert!(shipped.exists() && a.layout.archive(&a.id).exists());
}

#[test]
fn looking_for_what_was_not_put_back_shows_progress_at_each_entry() {
    let sandbox = sandbox();
    for n in 0..4 {
        fs::write(sandbox.layout.outbox.join(format!("stranger-{n}")), b"").unwrap();
    }
    let progress = Progress::default();
    put_back_unfinished(&sandbox.layout, sandbox.root, &content_of, &progress).unwrap();
    assert_eq!(progress.steps(), 5);
}

#[test]
fn scratch_that_was_acknowledged_tells_of_an_episode_that_was_written_to_on_its_way() {
    let a = sandbox();
    let shipped = a.killed_after_the_move();
    durable::remove_file(&a.layout.archive(&a.id)).unwrap();
    durable::remove_file(&a.layout.sidecar(&a.id)).unwrap();
    fs::write(a.layout.partial(&a.id), ARCHIVE).unwrap();
    a.put_back_unfinished();
    assert!(shipped.exists(), "put back though it is what was delivered");
    fs::write(shipped.join("data"), "data, and late").unwrap();
    fs::write(a.layout.partial(&a.id), "another archive").unwrap();
    a.put_back_unfinished();
    assert!(
        shipped.exists(),
        "put back for scratch that was never acknowledged"
    );
    fs::write(a.layout.partial(&a.id), ARCHIVE).unwrap();
    a.put_back_unfinished();
    assert_eq!(
        fs::read(a.layout.episode(&a.id).join("data")).unwrap(),
        b"data, and late"
    );
    assert!(!shipped.exists());
}

#[test]
fn while_episodes_is_another_folder_nothing_is_gone() {
    let a = sandbox();
    let shipped = a.killed_after_the_move();
    let (episodes, away) = (&a.layout.episodes, a.folder.path().join("away"));
    let another = || {
        durable::move_directory(episodes, a.folder.path(), "away", &Progress::default()).unwrap();
        fs::create_dir(episodes).unwrap();
    };
    another();
    assert_eq!(a.settle(), Settled::NoOrphan);
    fs::remove_dir(episodes).unwrap();
    assert_eq!(a.settle(), Settled::NoOrphan);
    durable::move_directory(&away, a.folder.path(), "episodes", &Progress::default()).unwrap();
    // Replaced while the archive is compared.
    let late = |id: &EpisodeId, directory: &Path| {
        another();
        content_of(id, directory)
    };
    fs::write(shipped.join("data"), "data, and late").unwrap();
    assert_eq!(a.try_settle(&late).unwrap(), Settled::NoOrphan);
    assert!(shipped.exists() && a.layout.archive(&a.id).exists());
}

#[test]
fn a_last_copy_without_a_sidecar_is_put_aside_too() {
    sandbox().is_put_aside("a");
}

#[test]
fn what_is_no_regular_file_is_left_alone() {
    let a = sandbox();
    let precious = a.layout.outbox.join("precious");
    fs::write(&precious, "precious").unwrap();
    durable::remove_file(&a.layout.archive(&a.id)).unwrap();
    symlink(&precious, a.layout.archive(&a.id)).unwrap();
    a.try_settle(&content_of).unwrap_err();
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(fs::read_dir(&a.layout.quarantine).unwrap().next().is_none());
}

#[test]
fn what_is_no_archive_is_not_called_a_last_copy() {
    for (content, expected, says) in [
        ("", Why::Empty, "an empty file"),
        ("notes", Why::NoArchive, "no archive that can be read"),
    ] {
        let a = sandbox();
        fs::write(a.layout.archive(&a.id), content).unwrap();
        let place = a.layout.quarantine.join("a");
        assert_eq!(a.settle(), Settled::PutAside(place.clone(), expected));
        let error = record_files::reason(&place)
            .unwrap()
            .unwrap()
            .error
            .unwrap();
        assert!(
            error.contains(says) && !error.contains("last copy"),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(place.join("a.tar.zst")).unwrap(),
            content
        );
    }
}

#[test]
fn a_move_that_was_noted_on_a_full_disk_is_looked_at_by_its_receipt() {
    let a = sandbox();
    durable::remove_file(&a.layout.archive(&a.id)).unwrap();
    a.shipped("a", "a", b"an older one");
    let shipped = a.shipped("a~1", "a", ARCHIVE);
    let later = WallTime::from_unix_seconds(NOW.unix_seconds() + 1);
    let receipt = record_files::receipt(&shipped).unwrap().unwrap();
    record_files::write_receipt(
        &shipped,
        &ShippingReceipt {
            delivered_at_wall: later,
            ..receipt
        },
        &[],
    )
    .unwrap();
    fs::write(a.layout.sidecar(&a.id), b"").unwrap();
    a.put_back_unfinished();
    assert!(shipped.exists(), "it is what was delivered");

    // The older one may have been written to since: it was looked at in its own time.
    fs::write(a.layout.shipped.join("a/data"), "edited").unwrap();
    fs::write(shipped.join("data"), "data, and late").unwrap();
    a.put_back_unfinished();
    let back = a.layout.episode(&a.id);
    assert_eq!(
        fs::read_to_string(back.join("data")).unwrap(),
        "data, and late"
    );
    assert!(!shipped.exists() && a.layout.shipped.join("a").exists());
    assert_eq!(record_files::receipt(&back).unwrap(), None);

    outbox::clear_partials(&a.layout, &Progress::default()).unwrap();
    assert!(a.outbox_is_empty());
}
