//! Disks that are full, small, failing or taken away, and what is done about it.

mod changes;
pub(crate) mod clock;
mod copies;
pub(crate) mod direct;
pub(crate) mod failing;
pub(crate) mod foreign;
mod full;
mod leaving;
mod mounts;
mod noted;
mod spares;
mod tiny;

use std::io::Read as _;

/// What is in an archive, by path.
pub(crate) fn content_of(archive: &[u8], path: &str) -> Vec<u8> {
    let tar = zstd::decode_all(archive).unwrap();
    let mut tar = tar::Archive::new(tar.as_slice());
    let mut entry = tar
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().ends_with(path))
        .unwrap();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    content
}
