//! `<store>/namespace`: how the store files its episodes. Written once, by the process that opens
//! it first, and never changed. Blocks.
//!
//! An empty store looks the same both ways. Without this two receivers with two settings could both
//! take it, and neither would find what the other holds.

use std::{
    io::{self, Write as _},
    path::Path,
};

use crate::{
    disk::{
        durable::{self, Published},
        lookup::if_there,
    },
    receive::stored_episode::Namespace,
};

const FILE: &str = "namespace";

/// What is noted; `None` where nothing is.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidData` where the note says neither.
pub(super) fn read(store: &Path) -> io::Result<Option<Namespace>> {
    let path = store.join(FILE);
    let Some(noted) = if_there(std::fs::read(&path))? else {
        return Ok(None);
    };
    match noted.trim_ascii() {
        b"none" => Ok(Some(Namespace::None)),
        b"host" => Ok(Some(Namespace::Host)),
        _ => {
            let why = format!("{} says neither none nor host", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// What is noted from now on: ours, durably, unless something was noted before. The scratch belongs
/// to the caller alone.
///
/// # Errors
/// Those of [`read`], and of writing durably.
pub(super) fn settle(store: &Path, ours: Namespace, scratch: &Path) -> io::Result<Namespace> {
    // Until it is there: one that was there a moment ago may have been removed by a person.
    loop {
        if let Some(noted) = read(store)? {
            return Ok(noted);
        }
        let written = durable::create_scratch(scratch).and_then(|mut file| {
            writeln!(file, "{ours}")?;
            durable::publish(&file, scratch, &store.join(FILE))
        });
        if !matches!(written, Ok(Published::Done)) {
            let _ = durable::remove_file(scratch);
        }
        if written? == Published::Done {
            return Ok(ours);
        }
    }
}
