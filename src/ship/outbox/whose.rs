//! Whose archive lies under a name? Asked before anything is written or cleared there: what is
//! another episode's may be the last copy of it.
//!
//! ```text
//!  outbox/<id>.tar.zst of the episode at hand?
//!    no such file, or one that does not begin like an archive ──▶ yes: there is nothing to lose
//!    its sidecar has the content of this episode, or, where the
//!    content is not known, the fingerprint ─────────────────────▶ yes
//!    each file in it is in the episode's folder, as it was packed ▶ yes: the sidecar was lost,
//!                                                                      the folder copied
//!    the same, but with bytes behind that, and it is the very
//!    folder that was packed, by inode and time of birth ────────▶ yes: the recording was
//!                                                                      written on
//!    otherwise ─────────────────────────────────────────────────▶ no
//! ```
//!
//! Bytes alone acquit. No folder does: it may have been emptied and recorded into anew, under the
//! same names, over the same files (`O_TRUNC`), or with files that were finished before the archive
//! was. So the archive of an episode that was corrected is put aside as well: what it was corrected
//! from is nowhere else.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use tar::EntryType;

use crate::{
    disk::record_files,
    model::{
        episode::{Digest, EpisodeId, Fingerprint, FolderId},
        layout::{Layout, MARKER},
        progress::Progress,
    },
};

/// Read at once from the archive and from the file that it is compared with.
const COMPARED_BYTES: usize = 64 * 1024;

/// The episode whose archive is about to be written or cleared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtHand<'a> {
    /// Which.
    pub id: &'a EpisodeId,
    /// The folder that it stands in now.
    pub directory: &'a Path,
    /// As it was packed, where it was.
    pub fingerprint: Option<Fingerprint>,
    /// What it packs to, where that is known.
    pub content_sha256: Option<Digest>,
    /// Which folder it is, where that is known.
    pub folder: Option<FolderId>,
}

/// Whether nothing is lost with what lies under the name of this episode.
///
/// # Errors
/// Those of reading the outbox and the episode: nothing is known then.
pub(crate) fn is_of(
    layout: &Layout,
    at_hand: &AtHand<'_>,
    progress: &Progress,
) -> io::Result<bool> {
    let path = layout.archive(at_hand.id);
    let Some(archive) = super::open_archive(&path)? else {
        return Ok(true);
    };
    if !super::begins_like_an_archive(&archive)? {
        return Ok(true);
    }
    let mut may_have_grown = false;
    // It is taken away before another archive gets its name: so it is this one's, damaged or not.
    if let Some(sidecar) = record_files::sidecar(layout, at_hand.id)? {
        let is_of_it = match at_hand.content_sha256 {
            Some(content_sha256) => content_sha256 == sidecar.facts.content_sha256,
            None => at_hand.fingerprint == Some(sidecar.fingerprint),
        };
        if is_of_it {
            return Ok(true);
        }
        may_have_grown = sidecar
            .folder
            .zip(at_hand.folder)
            .is_some_and(|(then, now)| then.is_the_same(now));
    }
    // What cannot be read says no: it may hold anything.
    Ok(has_all_of(at_hand.directory, archive, may_have_grown, progress).unwrap_or(false))
}

/// Whether a folder has the bytes of each member of an archive; with others behind them, where
/// files may have grown.
fn has_all_of(
    directory: &Path,
    archive: File,
    may_have_grown: bool,
    progress: &Progress,
) -> io::Result<bool> {
    let top = fs::canonicalize(directory)?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(BufReader::new(archive))?);
    for member in archive.entries()? {
        progress.check().map_err(io::Error::other)?;
        progress.step();
        let mut member = member?;
        let path = inside(&top, &member.path_bytes()).ok_or(io::ErrorKind::InvalidData)?;
        let is_there = match member.header().entry_type() {
            // There is nothing of it that could be lost; and every recording has a marker.
            EntryType::Directory => true,
            _ if path == top.join(MARKER) => true,
            EntryType::Symlink => {
                let target = member.link_name_bytes();
                target.is_some_and(|target| {
                    fs::read_link(&path).is_ok_and(|now| now.as_os_str().as_bytes() == &*target)
                })
            }
            EntryType::Regular | EntryType::Continuous => {
                let is_as_long =
                    fs::symlink_metadata(&path).is_ok_and(|now| now.len() == member.size());
                (may_have_grown || is_as_long)
                    && is_beginning_of(&mut member, &top, &path, progress)?
            }
            _ => false,
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a member would stand; `None` where that is no place in the folder. The first of its names
/// is the episode's.
fn inside(top: &Path, member: &[u8]) -> Option<PathBuf> {
    let path = Path::new(std::ffi::OsStr::from_bytes(member));
    let mut names = path.components().filter(|name| *name != Component::CurDir);
    let mut at = top.to_owned();
    matches!(names.next()?, Component::Normal(_)).then_some(())?;
    for name in names {
        let Component::Normal(name) = name else {
            return None;
        };
        at.push(name);
    }
    Some(at)
}

/// Whether the file begins with the bytes of the member.
fn is_beginning_of(
    member: &mut impl Read,
    top: &Path,
    path: &Path,
    progress: &Progress,
) -> io::Result<bool> {
    // Nothing outside the folder counts, wherever a symlink in it leads.
    let in_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
        && fs::canonicalize(path).is_ok_and(|path| path.starts_with(top));
    let Some(mut file) = (if in_folder {
        super::open_archive(path)?
    } else {
        None
    }) else {
        return Ok(false);
    };
    let (mut packed, mut now) = (vec![0; COMPARED_BYTES], vec![0; COMPARED_BYTES]);
    loop {
        progress.check().map_err(io::Error::other)?;
        let read = read_full(member, &mut packed)?;
        if read == 0 {
            return Ok(true);
        }
        if read_full(&mut file, &mut now[..read])? != read || packed[..read] != now[..read] {
            return Ok(false);
        }
        progress.advance(read as u64);
    }
}

fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
