//! Is an episode in `shipped/` still what the receiver holds? A receipt says what was delivered,
//! and the operator, or a program, may have written to it since, or put notes beside it: then it is
//! the only copy of that, and stays.
//!
//! ```text
//!  packs, with the permission bits that the receipt names, to the content that it names ──▶ yes
//!        └─ else it is kept: told once, read again when its stamps change
//! ```
//!
//! It is read each time: a store through a shared mapping can change a file whose stamps stay as
//! they were (`open_files.rs`). Permission bits do not count: changing them changes nothing that
//! was recorded.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use crate::{
    disk::{durable, record_files, tree},
    model::{
        episode::{Digest, Fingerprint},
        progress::Progress,
        records::ShippingReceipt,
        text::printable,
    },
};

/// More of them are not remembered: they are read again, and told again.
const REMEMBERED: usize = 1024;

/// Digests the tar stream that a directory packs to, with the episode's name and the permission
/// bits of its receipt; `None` where it changes meanwhile. The daemon gives it, for the steps do
/// not know each other.
pub(crate) type DeliveredContent<'a> =
    &'a dyn Fn(&ShippingReceipt, &Path) -> io::Result<Option<Digest>>;

/// Those that are not what was delivered, as they were when that was found. Never held across a
/// disk operation.
#[derive(Debug, Default)]
pub(crate) struct Edited(Mutex<HashMap<PathBuf, Fingerprint>>);

impl Edited {
    /// Whether a directory is what its receipt says was delivered. What changes under our eyes is
    /// not.
    ///
    /// # Errors
    /// Where it cannot be read: nothing is known of it.
    pub(crate) fn is_as_delivered(
        &self,
        directory: &Path,
        content_of: DeliveredContent<'_>,
        progress: &Progress,
    ) -> io::Result<bool> {
        let Some(receipt) = record_files::receipt(directory).map_err(io::Error::other)? else {
            return Ok(false);
        };
        let Some(walked) = tree::look(directory, progress)? else {
            return Ok(false);
        };
        let now = walked.fingerprint;
        if self.0.lock().get(directory) == Some(&now) {
            return Ok(false);
        }
        if content_of(&receipt, directory)? == Some(receipt.content_sha256) {
            return Ok(true);
        }
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(directory.to_owned(), now);
        drop(known);
        tell(directory, &receipt);
        Ok(false)
    }
}

fn tell(directory: &Path, receipt: &ShippingReceipt) {
    let (shown, id) = (tree::shown(directory), &receipt.episode_id);
    if durable::is_broken_off(directory) {
        tracing::warn!(
            EPISODE = %id,
            "{shown} was being removed when that was broken off. What is left of it cannot be told from what was put there since, \
             so it is kept; {} holds what was delivered of {id} (sha256 {}). Remove it by hand.",
            printable(&receipt.receiver), receipt.sha256
        );
        return;
    }
    tracing::warn!(
        EPISODE = %id,
        "{shown} is not what was delivered of {id}: it was written to since. No receiver holds it as it is, so it is \
         kept, whatever shipped_keep_days and shipped_free_bytes say; {} holds what was delivered (sha256 {}). Copy elsewhere \
         what is wanted of it, and remove it by hand.",
        printable(&receipt.receiver), receipt.sha256
    );
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::{
        disk::{open_files::OpenFileProbe, tree::modes::Modes},
        model::{episode::EpisodeId, layout::RECEIPT},
        ship::pack,
    };

    /// Shipped, with its receipt; with the fingerprint in it, or as older shippers wrote it.
    fn shipped(with_fingerprint: bool) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("data"), "recorded").unwrap();
        fs::write(directory.join("done.marker"), "").unwrap();
        let id = EpisodeId::parse("a").unwrap();
        let fingerprint = tree::fingerprint(&directory, &Progress::default()).unwrap();
        let receipt = ShippingReceipt {
            content_sha256: pack::content_of(&id, &directory, &Progress::default()).unwrap(),
            fingerprint: with_fingerprint.then_some(fingerprint),
            modes: Modes::of(&directory, &Progress::default()).map(|modes| modes.to_string()),
            ..ShippingReceipt::example("a")
        };
        fs::write(
            directory.join(RECEIPT),
            serde_json::to_vec(&receipt).unwrap(),
        )
        .unwrap();
        (root, directory)
    }

    #[test]
    fn what_was_written_to_is_not_what_was_delivered_and_what_was_touched_is() {
        for with_fingerprint in [true, false] {
            let (_root, directory) = shipped(with_fingerprint);
            let read = Cell::new(0);
            let content_of = |receipt: &ShippingReceipt, directory: &Path| {
                read.set(read.get() + 1);
                let modes = receipt.modes.as_ref().map(|modes| modes.parse().unwrap());
                let id = &receipt.episode_id;
                Ok(pack::content_with_modes(
                    id,
                    directory,
                    modes.as_ref(),
                    OpenFileProbe::never(),
                    &Progress::default(),
                )
                .ok())
            };
            let edited = Edited::default();
            let is = || {
                edited
                    .is_as_delivered(&directory, &content_of, &Progress::default())
                    .unwrap()
            };
            assert!(is());
            assert_eq!(read.get(), 1, "no stamp spares reading it");

            // Another inode, and the same content.
            let mtime = fs::metadata(directory.join("data"))
                .unwrap()
                .modified()
                .unwrap();
            fs::copy(directory.join("data"), directory.join("copy")).unwrap();
            durable::remove_file(&directory.join("data")).unwrap();
            fs::copy(directory.join("copy"), directory.join("data")).unwrap();
            durable::remove_file(&directory.join("copy")).unwrap();
            fs::File::open(directory.join("data"))
                .unwrap()
                .set_modified(mtime)
                .unwrap();
            assert!(is());

            fs::set_permissions(directory.join("data"), fs::Permissions::from_mode(0o600)).unwrap();
            assert!(is(), "its bits are no part of what was recorded");

            fs::write(directory.join("notes.txt"), "look at second 12").unwrap();
            read.set(0);
            assert!(!is() && !is() && !is());
            assert_eq!(read.get(), 1, "it is read once, and not at each look");
            durable::remove_file(&directory.join("notes.txt")).unwrap();
            assert!(is(), "taken back");
            fs::write(directory.join("data"), "EDITED!!").unwrap();
            assert!(!is());
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_not_known_to_be_what_was_delivered() {
        let (_root, directory) = shipped(false);
        let edited = Edited::default();
        let content_of = |_: &ShippingReceipt, _: &Path| Err(io::Error::other("EIO"));
        edited
            .is_as_delivered(&directory, &content_of, &Progress::default())
            .unwrap_err();
        durable::remove_file(&directory.join(RECEIPT)).unwrap();
        assert!(
            !edited
                .is_as_delivered(&directory, &content_of, &Progress::default())
                .unwrap()
        );
    }
}
