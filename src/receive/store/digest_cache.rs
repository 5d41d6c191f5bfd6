//! What this process knows of the files it has kept itself.
//!
//! What is kept is read again before it is gone on with: it may have lain there for days, over a
//! reboot, on a disk that rots. A link that drops each megabyte would then read the square of its
//! archive. So what this very process kept a moment ago, in a file that has not been written to
//! since, is believed, and its hash goes on where it stood. Nothing of this is on the disk: a
//! successor of this process reads everything again.

use std::{collections::HashMap, fs::Metadata, os::unix::fs::MetadataExt as _, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{PartKey, part::Reached};

/// So long a file is believed to be what was written. A link that breaks off comes back sooner; a
/// disk that rots takes its time.
const BELIEVED: Duration = Duration::from_secs(600);
/// Of no more uploads is this remembered, some 300 bytes each. More come back after a break only by
/// reading again.
const MAX_VOUCHED: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Vouched(Mutex<HashMap<PartKey, Vouch>>);

#[derive(Debug)]
struct Vouch {
    file: FileVersion,
    reached: Reached,
    at: Instant,
}

/// Which file, and that it has not been written to: the time of its last change (ctime, inode(7))
/// cannot be set back.
#[derive(Debug, PartialEq, Eq)]
struct FileVersion {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed: (i64, i64),
}

impl FileVersion {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size_bytes: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl Vouched {
    /// All of the file was written, or read, by this process just now.
    pub(super) fn remember(&self, part: &PartKey, file: &Metadata, reached: &Reached) {
        let mut vouches = self.0.lock();
        if vouches.len() >= MAX_VOUCHED && !vouches.contains_key(part) {
            let oldest = vouches
                .iter()
                .min_by_key(|(_, vouch)| vouch.at)
                .map(|(part, _)| part.clone());
            oldest.and_then(|oldest| vouches.remove(&oldest));
        }
        let vouch = Vouch {
            file: FileVersion::of(file),
            reached: reached.clone(),
            at: Instant::now(),
        };
        vouches.insert(part.clone(), vouch);
    }

    /// The hash over the file, where it is known to be still what it was.
    pub(super) fn recall(&self, part: &PartKey, file: &Metadata, offset: u64) -> Option<Reached> {
        let vouches = self.0.lock();
        let vouch = vouches.get(part)?;
        let holds = vouch.file == FileVersion::of(file)
            && vouch.reached.offset == offset
            && vouch.at.elapsed() < BELIEVED;
        holds.then(|| vouch.reached.clone())
    }

    pub(super) fn forget(&self, part: &PartKey) {
        self.0.lock().remove(part);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::receive::{
        store::contract::{id, offer, part_key},
        stored_episode::Key,
    };

    fn part(name: &str) -> PartKey {
        part_key(
            &Key {
                host: None,
                id: id(name),
            },
            &offer(b"whole"),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_believed_for_ten_minutes_and_never_once_it_was_changed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kept").unwrap();
        let reached = Reached {
            offset: 4,
            hasher: Sha256::new_with_prefix(b"kept"),
        };
        let (vouched, a) = (Vouched::default(), part("a"));
        let known = |file: &File, offset| {
            vouched
                .recall(&a, &file.metadata().unwrap(), offset)
                .is_some()
        };
        vouched.remember(&a, &file.metadata().unwrap(), &reached);
        assert!(known(&file, 4));
        assert!(!known(&file, 3));
        assert!(
            vouched
                .recall(&part("b"), &file.metadata().unwrap(), 4)
                .is_none()
        );
        tokio::time::advance(BELIEVED - Duration::from_secs(1)).await;
        assert!(known(&file, 4));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!known(&file, 4));
        vouched.remember(&a, &file.metadata().unwrap(), &reached);
        file.set_len(3).unwrap();
        assert!(!known(&file, 4));
        assert!(!known(&tempfile::tempfile().unwrap(), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_the_oldest_is_forgotten() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        let reached = Reached {
            offset: 0,
            hasher: Sha256::new(),
        };
        let vouched = Vouched::default();
        for n in 0..=MAX_VOUCHED {
            vouched.remember(&part(&n.to_string()), &file, &reached);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let known = |n: usize| vouched.recall(&part(&n.to_string()), &file, 0).is_some();
        assert_eq!([0, 1, MAX_VOUCHED].map(known), [false, true, true]);
        assert_eq!(vouched.0.lock().len(), MAX_VOUCHED);
    }
}
