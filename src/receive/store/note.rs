//! `incoming/<key>.json`: how much of an upload is durable, and of what.
//!
//! The hash goes on where it stood: its state is written down with the offset. Hashing the kept bytes again instead would read 20 GB
//! again each minute for an upload that breaks off each minute, and would prove no more than an upload in one go does, whose bytes
//! are not read back either: what lies below the offset was flushed before the offset was written down, so no power cut eats of it.
//!
//! The form of that state is the hashing crate's own and may change with it (crypto-common's `SerializableState` promises it for one minor
//! version). So the digest of the kept bytes stands beside it: a state that does not finish to that digest is not used, and the kept
//! bytes are hashed again, and must give it.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{
    Sha256,
    digest::common::hazmat::{SerializableState as _, SerializedState},
};

use super::{Part, PartKey, part::Reached};
use crate::{
    episode::{Digest, EpisodeId, HostName},
    receive::held::{Key, Offer},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    episode_id: EpisodeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<HostName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<HostName>,
    sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_sha256: Option<Digest>,
    size_bytes: u64,
    /// The file beside this one that the bytes are in.
    file: String,
    offset: u64,
    /// Digest of the bytes below the offset.
    kept_sha256: Digest,
    /// The hash over them, to go on with, in Base64.
    sha256_state: String,
}

impl Note {
    pub(super) fn new(part: &PartKey, offer: &Offer, file: &str, reached: &Reached) -> Self {
        Self {
            episode_id: part.key.id.clone(),
            host: part.key.host.clone(),
            owner: part.owner.clone(),
            sha256: part.sha256,
            content_sha256: offer.content_sha256,
            size_bytes: offer.size_bytes,
            file: file.to_owned(),
            offset: reached.offset,
            kept_sha256: reached.hasher.clone().into(),
            sha256_state: BASE64.encode(reached.hasher.serialize()),
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
        let key = Key { host: self.host.clone(), id: self.episode_id.clone() };
        PartKey { key, owner: self.owner.clone(), sha256: self.sha256 }
    }

    pub(super) fn part(&self) -> Part {
        let (sha256, content_sha256, size_bytes) = (self.sha256, self.content_sha256, self.size_bytes);
        Part { offer: Offer { sha256, content_sha256, size_bytes }, offset: self.offset }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Whether these are the bytes that were kept.
    pub(super) fn is_of(&self, hasher: &Sha256) -> bool {
        Digest::from(hasher.clone()) == self.kept_sha256
    }

    /// The hash, where its state can be used.
    pub(super) fn hasher(&self) -> Option<Sha256> {
        let state = BASE64.decode(&self.sha256_state).ok()?;
        let state = SerializedState::<Sha256>::try_from(&*state).ok()?;
        Sha256::deserialize(&state).ok().filter(|hasher| self.is_of(hasher))
    }
}

/// What the files of an upload are called: a digest of its key, since host, id and owner together may be too long for a name.
pub(super) fn name_of(part: &PartKey) -> String {
    let PartKey { key: Key { host, id }, owner, sha256 } = part;
    Digest::of(serde_json::json!([host, id, owner, sha256]).to_string().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    fn note() -> Note {
        let offer = Offer { sha256: Digest::of(b"the whole"), content_sha256: None, size_bytes: 9 };
        let key = Key { host: None, id: EpisodeId::parse("a").unwrap() };
        let part = PartKey::new(key, None, &offer);
        let reached = Reached { offset: 4, hasher: Sha256::new_with_prefix(b"the ") };
        Note::new(&part, &offer, &format!("{}.0-1.part", name_of(&part)), &reached)
    }

    #[test]
    fn a_hash_goes_on_from_its_note() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("note.json");
        std::fs::write(&path, note().to_json()).unwrap();
        let read = Note::read(&path).unwrap();
        assert_eq!(read, note());
        let hasher = read.hasher().unwrap().chain_update(b"whole");
        assert_eq!(Digest::from(hasher), Digest::of(b"the whole"));
    }

    #[test]
    fn a_state_that_does_not_finish_to_its_digest_is_not_used() {
        let good = note();
        let of_others = BASE64.encode(Sha256::new_with_prefix(b"THE ").serialize());
        for state in ["", "!", "AAAA", &of_others] {
            let bad = Note { sha256_state: state.to_owned(), ..good.clone() };
            assert!(bad.hasher().is_none(), "{state}");
        }
    }

    #[test]
    fn a_note_that_names_a_file_elsewhere_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("note.json");
        let good = note();
        for file in ["../episodes/a.tar.zst", "/etc/passwd", &format!("{}/../../x", good.file)] {
            std::fs::write(&path, Note { file: file.to_owned(), ..good.clone() }.to_json()).unwrap();
            assert_eq!(Note::read(&path), None, "{file}");
        }
    }

    #[test]
    fn keys_that_differ_in_anything_have_other_names() {
        let part = note().part_key();
        let host = HostName::parse("h").ok();
        let by_host = PartKey { key: Key { host: host.clone(), ..part.key.clone() }, ..part.clone() };
        let by_owner = PartKey { owner: host, ..part.clone() };
        let by_digest = PartKey { sha256: Digest::of(b""), ..part.clone() };
        let names = [&part, &by_host, &by_owner, &by_digest].map(name_of);
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
