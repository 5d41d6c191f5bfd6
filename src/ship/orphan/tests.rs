use std::os::unix::fs::symlink;

use super::*;
use crate::{
    layout::REASON,
    records::{ArchiveFacts, ManifestCheck, ShippingReceipt},
};

const NOW: WallTime = WallTime::from_unix_seconds(1_800_000_000);

struct Sandbox {
    _root: tempfile::TempDir,
    layout: Layout,
    id: EpisodeId,
}

/// An archive of `a`, and no episode.
fn sandbox() -> Sandbox {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::below(root.path());
    let id = EpisodeId::parse("a").unwrap();
    for folder in [&layout.episodes, &layout.outbox, &layout.shipped, &layout.quarantine] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(layout.archive(&id), "archive").unwrap();
    Sandbox { _root: root, layout, id }
}

impl Sandbox {
    fn settle(&self) -> Settled {
        settle(&self.layout, &self.id, NOW, &Progress::default()).unwrap()
    }

    fn shipped(&self, directory: &str, episode: &str, archive: &[u8]) -> PathBuf {
        let directory = self.layout.shipped.join(directory);
        fs::create_dir(&directory).unwrap();
        let receipt = ShippingReceipt {
            episode_id: EpisodeId::parse(episode).unwrap(),
            sha256: Digest::of(archive),
            content_sha256: Digest::of(b"content"),
            size_bytes: 1,
            status_code: 201,
            receiver: "http://r".to_owned(),
            delivered_at_wall: NOW,
            manifest: ManifestCheck::None,
            receipt: serde_json::Value::Null,
        };
        fs::write(directory.join("shipping_receipt.json"), serde_json::to_vec(&receipt).unwrap()).unwrap();
        directory
    }

    fn sidecar(&self, archive: &[u8], content: &[u8], packed_from: &Path) {
        let sidecar = Sidecar {
            episode_id: self.id.clone(),
            facts: ArchiveFacts {
                sha256: Digest::of(archive),
                content_sha256: Digest::of(content),
                size_bytes: archive.len() as u64,
            },
            fingerprint: tree::fingerprint(packed_from, &Progress::default()).unwrap(),
            manifest: ManifestCheck::None,
            commit: None,
            verdict: None,
        };
        fs::write(self.layout.sidecar(&self.id), serde_json::to_vec(&sidecar).unwrap()).unwrap();
    }

    fn outbox_is_empty(&self) -> bool {
        fs::read_dir(&self.layout.outbox).unwrap().next().is_none()
    }

    fn is_put_aside(&self, directory: &str) {
        let directory = self.layout.quarantine.join(directory);
        assert_eq!(self.settle(), Settled::PutAside(directory.clone()));
        assert_eq!(fs::read(directory.join("a.tar.zst")).unwrap(), b"archive");
        let reason = filed::reason(&directory).unwrap().unwrap();
        assert_eq!((reason.episode_id.as_deref(), reason.verdict.as_deref()), (Some("a"), Some(ORPHAN)));
        assert!(reason.error.unwrap().ends_with("tar --zstd -xf 'a.tar.zst'"));
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
fn an_archive_that_a_receipt_in_shipped_names_is_unlinked() {
    for directory in ["a", "a~7"] {
        let a = sandbox();
        let shipped = a.shipped(directory, "a", b"archive");
        assert_eq!(a.settle(), Settled::Unlinked(shipped));
        assert!(a.outbox_is_empty());
    }
}

#[test]
fn a_receipt_for_other_bytes_or_of_another_episode_accounts_for_nothing() {
    let a = sandbox();
    a.shipped("a", "a", b"another archive");
    a.shipped("a~1", "a~1", b"archive");
    fs::create_dir(a.layout.shipped.join("a~2")).unwrap();
    fs::write(a.layout.shipped.join("a~2/shipping_receipt.json"), "{half").unwrap();
    a.is_put_aside("a");
}

#[test]
fn a_content_digest_counts_only_beside_the_archives_own() {
    let a = sandbox();
    let shipped = a.shipped("a", "a", b"the same, packed at another level");
    a.sidecar(b"archive", b"content", &shipped);
    assert_eq!(a.settle(), Settled::Unlinked(shipped));

    let a = sandbox();
    let shipped = a.shipped("a", "a", b"the same, packed at another level");
    a.sidecar(b"not what lies there", b"content", &shipped);
    a.is_put_aside("a");
}

#[test]
fn an_archive_of_what_stands_in_quarantine_is_unlinked() {
    let a = sandbox();
    let quarantined = a.layout.quarantine.join("a~1");
    fs::create_dir(&quarantined).unwrap();
    fs::write(quarantined.join("data"), "data").unwrap();
    a.sidecar(b"archive", b"content", &quarantined);
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
    a.sidecar(b"archive", b"content", &a.layout.episode(&a.id));
    fs::remove_dir(a.layout.episode(&a.id)).unwrap();
    a.is_put_aside("a~1");
    assert_eq!(fs::read(quarantined.join("data")).unwrap(), b"the first of the name");
    assert!(a.layout.quarantine.join("a~1/a.json").exists());
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
    settle(&a.layout, &a.id, NOW, &Progress::default()).unwrap_err();
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(fs::read_dir(&a.layout.quarantine).unwrap().next().is_none());
}
