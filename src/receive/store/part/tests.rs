use std::fs::OpenOptions;

use super::*;
use crate::receive::{
    store::{
        PartKey,
        contract::{id, offer, part_key},
        part_manifest::name_of,
    },
    stored_episode::{Key, Offer},
};

/// A file of which the first 4 bytes are noted, and what its note is made of.
struct Kept {
    place: tempfile::TempDir,
    growing: Growing,
    part: PartKey,
    offer: Offer,
}

impl Kept {
    fn new() -> Self {
        let (place, offer) = (tempfile::tempdir().unwrap(), offer(b"the whole"));
        let part = part_key(
            &Key {
                host: None,
                id: id("a"),
            },
            &offer,
        );
        let path = place.path().join(format!("{}.0-0.part", name_of(&part)));
        let mut growing = Growing::create(path, place.path().join("note.json")).unwrap();
        growing.append(b"the ").unwrap();
        let kept = Self {
            place,
            growing,
            part,
            offer,
        };
        kept.note().unwrap();
        kept
    }

    fn note(&self) -> io::Result<()> {
        let note = PartManifest::new(
            &self.part,
            &self.offer,
            self.growing.file.name(),
            &self.growing.reached,
        );
        self.growing
            .file
            .note(&note, &self.place.path().join("scratch.part"))
    }

    /// The next bytes do not fit: `/dev/full` says so of every write (full(4)).
    fn fill_up(&mut self) {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(
            &mut Arc::get_mut(&mut self.growing.file).unwrap().file,
            full,
        );
        let error = self.growing.append(b"whole").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        // And once more, as the file that can be cut.
        Arc::get_mut(&mut self.growing.file).unwrap().file = file;
        *self.growing.file.noted.lock() = PartNote::Durable(4);
        self.growing.file.refused(&error);
    }

    /// What is left of the file and its note once nothing has them open.
    fn left(self) -> (Option<Vec<u8>>, Option<u64>) {
        let (path, note) = (
            self.growing.file.path.clone(),
            self.growing.file.note.clone(),
        );
        drop(self.growing);
        (
            std::fs::read(path).ok(),
            PartManifest::read(&note).map(|note| note.part().offset),
        )
    }
}

#[test]
fn what_was_durable_outlives_a_full_disk_and_the_rest_is_cut_off() {
    let mut kept = Kept::new();
    kept.growing.append(b"who").unwrap();
    kept.fill_up();
    // A slice that was being flushed meanwhile does not promise what was cut off, and ends nothing.
    let refused = kept.note().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    kept.growing.file.refused(&refused);
    assert_eq!(kept.left(), (Some(b"the ".to_vec()), Some(4)));
}

#[test]
fn what_a_flush_has_failed_for_does_not_outlive_a_full_disk() {
    for before in [true, false] {
        let mut kept = Kept::new();
        if before {
            kept.growing.file.condemn();
        }
        kept.fill_up();
        kept.growing.file.condemn();
        assert_eq!(kept.left(), (None, None));
    }
}

#[test]
fn a_disk_that_fails_otherwise_keeps_nothing() {
    let kept = Kept::new();
    kept.growing.file.let_stand();
    kept.growing.file.refused(&io::Error::from_raw_os_error(5));
    assert_eq!(kept.left(), (None, None));
}

#[test]
fn of_one_begun_that_has_no_note_of_its_own_nothing_outlives_a_full_disk() {
    let mut kept = Kept::new();
    // Its successor's.
    let name = format!("{}.0-1.part", name_of(&kept.part));
    let note = PartManifest::new(&kept.part, &kept.offer, &name, &kept.growing.reached);
    std::fs::write(&kept.growing.file.note, note.to_json()).unwrap();
    kept.fill_up();
    assert_eq!(kept.left(), (None, Some(4)));
}
