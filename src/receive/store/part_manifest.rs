//! `incoming/<key>.json`: how much of an upload is durable, and of what.
//!
//! The digest of the kept bytes stands beside their number. An upload that goes on reads them again
//! and must find that digest, unless they are still in this process's memory (see
//! `digest_cache.rs`): that they were flushed before the note was does not say that they are there
//! still, days or a reboot later.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Part, PartKey, part::Reached};
use crate::{
    model::episode::{Digest, EpisodeId, HostName},
    receive::stored_episode::{Key, Offer},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartManifest {
    episode_id: EpisodeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<HostName>,
    sha256: Digest,
    /// That is the digest of the plan that the archive is packed by, and `size_bytes` the most that
    /// it becomes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    planned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_sha256: Option<Digest>,
    size_bytes: u64,
    /// The file beside this one that the bytes are in.
    file: String,
    offset: u64,
    /// Digest of the bytes below the offset.
    kept_sha256: Digest,
}

impl PartManifest {
    pub(super) fn new(part: &PartKey, offer: &Offer, file: &str, reached: &Reached) -> Self {
        Self {
            episode_id: part.key.id.clone(),
            host: part.key.host.clone(),
            owner: part.owner.clone(),
            sha256: part.sha256,
            planned: part.is_planned,
            content_sha256: offer.content_sha256,
            size_bytes: offer.size_bytes,
            file: file.to_owned(),
            offset: reached.offset,
            kept_sha256: reached.hasher.clone().into(),
        }
    }

    /// `None` where it is missing, damaged, or names a file anywhere but beside itself.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let note: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let is_ours = note.file.starts_with(&name_of(&note.part_key())) && !note.file.contains('/');
        is_ours.then_some(note)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::json!(self).to_string().into_bytes()
    }

    pub(super) fn part_key(&self) -> PartKey {
        let key = Key {
            host: self.host.clone(),
            id: self.episode_id.clone(),
        };
        PartKey {
            key,
            owner: self.owner.clone(),
            sha256: self.sha256,
            is_planned: self.planned,
        }
    }

    pub(super) fn part(&self) -> Part {
        let (sha256, content_sha256, size_bytes) =
            (self.sha256, self.content_sha256, self.size_bytes);
        Part {
            offer: Offer {
                sha256,
                content_sha256,
                size_bytes,
            },
            offset: self.offset,
        }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Whether these are the bytes that were kept.
    pub(super) fn is_of(&self, hasher: &Sha256) -> bool {
        Digest::from(hasher.clone()) == self.kept_sha256
    }
}

/// What the files of an upload are called: a digest of its key, since host, id and owner together
/// may be too long for a name.
pub(super) fn name_of(part: &PartKey) -> String {
    let PartKey {
        key: Key { host, id },
        owner,
        sha256,
        is_planned,
    } = part;
    let key = if *is_planned {
        serde_json::json!([host, id, owner, sha256, "plan"])
    } else {
        serde_json::json!([host, id, owner, sha256])
    };
    Digest::of(key.to_string().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    fn note() -> PartManifest {
        let offer = Offer {
            sha256: Digest::of(b"the whole"),
            content_sha256: None,
            size_bytes: 9,
        };
        let key = Key {
            host: None,
            id: EpisodeId::parse("a").unwrap(),
        };
        let part = PartKey::new(key, None, &offer);
        let reached = Reached {
            offset: 4,
            hasher: Sha256::new_with_prefix(b"the "),
        };
        PartManifest::new(
            &part,
            &offer,
            &format!("{}.0-1.part", name_of(&part)),
            &reached,
        )
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("note.json");
        std::fs::write(&path, note().to_json()).unwrap();
        let read = PartManifest::read(&path).unwrap();
        assert_eq!(read, note());
        assert!(read.is_of(&Sha256::new_with_prefix(b"the ")));
        assert!(!read.is_of(&Sha256::new_with_prefix(b"THE ")));
    }

    #[test]
    fn a_note_that_names_a_file_elsewhere_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("note.json");
        let good = note();
        for file in [
            "../episodes/a.tar.zst",
            "/etc/passwd",
            &format!("{}/../../x", good.file),
        ] {
            std::fs::write(
                &path,
                PartManifest {
                    file: file.to_owned(),
                    ..good.clone()
                }
                .to_json(),
            )
            .unwrap();
            assert_eq!(PartManifest::read(&path), None, "{file}");
        }
    }

    #[test]
    fn keys_that_differ_in_anything_have_other_names() {
        let part = note().part_key();
        let host = HostName::parse("h").ok();
        let by_host = PartKey {
            key: Key {
                host: host.clone(),
                ..part.key.clone()
            },
            ..part.clone()
        };
        let by_owner = PartKey {
            owner: host,
            ..part.clone()
        };
        let by_digest = PartKey {
            sha256: Digest::of(b""),
            ..part.clone()
        };
        let by_plan = PartKey {
            is_planned: true,
            ..part.clone()
        };
        let names = [&part, &by_host, &by_owner, &by_digest, &by_plan].map(name_of);
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
