//! The four folders, and the receiver's store: what is true, whatever the machine believes.

use std::collections::BTreeMap;

use crate::{
    model::{
        episode::{Digest, EpisodeId, Fingerprint, FolderId, FolderLook, Stamp},
        records::{ArchiveFacts, ManifestCheck},
    },
    ship::machine::{
        destination::verdict::Refusal,
        step_result::{Packed, Reason},
    },
};

/// One directory of `episodes/`. `content` is a number that stands for all of its bytes: no two
/// contents share one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dir {
    pub(super) inode: u64,
    pub(super) content: u64,
    pub(super) marker: Option<Marker>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Marker {
    pub(super) inode: u64,
    pub(super) ns: i64,
}

impl Dir {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let marker = self
            .marker
            .map_or((0, 0), |marker| (marker.inode, marker.ns.unsigned_abs()));
        Fingerprint(digest([self.inode, self.content, marker.0, marker.1]))
    }

    pub(super) fn folder(&self) -> FolderId {
        FolderId {
            inode: self.inode,
            made_ns: 0,
        }
    }

    pub(super) fn look(&self) -> FolderLook {
        self.marker.map_or(FolderLook::Open, |marker| {
            FolderLook::Sealed(Stamp {
                sealed_ns: marker.ns,
                inodes: (marker.inode, self.inode),
                made_ns: marker.ns,
                written_ns: 0,
            })
        })
    }
}

/// What lies in the outbox, or is open as scratch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Archive {
    pub(super) content: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) folder: FolderId,
    pub(super) damaged: bool,
    /// It lies nowhere: only its digests are known, and it is packed again for each attempt.
    pub(super) measured: bool,
    /// `None`: no sidecar, so it is not trusted. Else the conflict that the sidecar remembers.
    pub(super) sidecar: Option<Option<Refusal>>,
}

impl Archive {
    pub(super) fn packed(&self) -> Packed {
        Packed {
            facts: facts(self.content),
            fingerprint: self.fingerprint,
            folder: Some(self.folder),
            manifest: ManifestCheck::None,
            commit: None,
            open_files: Vec::new(),
        }
    }
}

/// The same content packs to the same bytes.
pub(super) fn facts(content: u64) -> ArchiveFacts {
    ArchiveFacts {
        sha256: digest([content, 1, 0, 0]),
        content_sha256: digest([content, 2, 0, 0]),
        size_bytes: 1000 + content,
    }
}

fn digest(words: [u64; 4]) -> Digest {
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    Digest(bytes)
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) episodes: BTreeMap<EpisodeId, Dir>,
    pub(super) outbox: BTreeMap<EpisodeId, Archive>,
    /// Names may be taken: each newcomer stands beside what was there.
    pub(super) shipped: Vec<(EpisodeId, u64)>,
    pub(super) quarantine: Vec<(EpisodeId, u64, Reason)>,
    /// Archives that were the last copy of something.
    pub(super) saved: Vec<(EpisodeId, u64)>,
}

impl Disk {
    pub(super) fn look(&self, id: &EpisodeId) -> FolderLook {
        self.episodes.get(id).map_or(FolderLook::Gone, Dir::look)
    }
}

/// What the receiver would hold after a power cut. It overwrites nothing.
#[derive(Debug, Default)]
pub(super) struct Store(BTreeMap<EpisodeId, u64>);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stored {
    New,
    Already,
    Conflict,
}

impl Store {
    pub(super) fn take(&mut self, id: &EpisodeId, content: u64) -> Stored {
        match self.0.get(id) {
            None => {
                self.0.insert(id.clone(), content);
                Stored::New
            }
            Some(held) if *held == content => Stored::Already,
            Some(_) => Stored::Conflict,
        }
    }

    pub(super) fn held(&self, id: &EpisodeId) -> Option<u64> {
        self.0.get(id).copied()
    }
}
